"""Going on with a run: at the end of an epoch (F14), beside another process (F15), with other inputs (F17), elsewhere (F26)."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.conftest import (
    AT_STEP,
    SAVE_EVERY,
    SETTINGS,
    STEPS,
    Runs,
    last_step,
    mistakes,
    records,
    resumed_at,
    saved_steps,
    trace,
    until_step,
)

# A run that is there until it is killed.
ENDLESS = """
import time
from bertlab.training.runlog import RunLog
write = RunLog.write

def written(self, record):
    write(self, record)
    time.sleep(60 if record["step"] == 7 else 0)

RunLog.write = written
"""
# The seconds that a process itself took, whatever else the machine had to do.
TIMED = "import atexit, time\natexit.register(lambda began: print('cpu', time.process_time() - began), time.process_time())\n"
ELSEWHEN = "import time\ntrue = time.time\ntime.time = lambda: true() + 400 * 86400\n"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, which holds the process id of whoever was last."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# --- the end of an epoch ----------------------------------------------------------------------------------------------------------------


def steps_of_an_epoch(inputs: dict[str, str]) -> int:
    from bertlab.tokens.corpus import open_corpus
    from bertlab.verbs.pretrain import Config, phases

    batches = phases(Config(**(SETTINGS | inputs | {"out": ""})), open_corpus(inputs["corpus"])).short
    number = 0
    while batches.epoch(number) < 1:
        number += 1
    return number


def test_no_batch_is_left_out_or_repeated_where_an_epoch_ends(
    runs: Runs,
    inputs: dict[str, str],
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
) -> None:
    epoch = steps_of_an_epoch(inputs)
    assert 15 <= epoch < STEPS // 2  # two ends of an epoch and more in the run
    expected, wrong = reference[0], list[str]()
    assert len({record["batch"] for record in expected["records"] if "batch" in record}) == STEPS
    stops = [(step, signal.SIGKILL) for step in (epoch - 1, epoch, epoch + 1, STEPS)]
    stops += [(step, signal.SIGTERM) for step in (epoch - 2, epoch - 1, epoch, STEPS)]  # granted after the step that follows
    for step, number in stops:
        out = tmp_path / f"{step}-{number.name}"
        code = runs.finish(out, before=AT_STEP.format(step=step, number=int(number)))
        done = max([0, *saved_steps(out)])
        if number == signal.SIGKILL:
            # a save waits for the last
            stopped = code == -signal.SIGKILL and last_step(out) == step and step - 2 * SAVE_EVERY <= done < step
        else:
            stopped = (code, done) == ((75, step + 1) if step < STEPS else (0, STEPS))
        begun = runs.finish(out), runs.said(out)
        if not stopped or begun[0] != 0 or ("nothing to do" not in begun[1] and resumed_at(begun[1]) != done) or trace(out) != expected:
            wrong.append(f"{number.name} at {step} of {epoch}: exit code {code}, checkpoint {done}, then {begun}")
    before = tree(out)
    assert runs.finish(out) == 0 and "nothing to do" in runs.said(out) and tree(out) == before
    tally("F14", "stopped at an epoch's end E - 1, E, E + 1 and after the last step", len(stops) - len(wrong), len(stops))
    assert not wrong, wrong


# --- two in one folder ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
    workers: int,
) -> None:
    out, log = tmp_path / "run", tmp_path / "second.log"
    first = runs.start(out, before=ENDLESS, workers=workers)
    until_step(runs, out, first, 7)
    code, said = runs.server.wait(runs.server.start(["pretrain", *runs.options(out)], log, before=TIMED)), log.read_text()
    seconds = float(said.rpartition("cpu ")[2])
    refused = code == 5 and seconds < 2 and len(mistakes(said)) == 1 and f"in use by process {first}" in said
    os.kill(first, signal.SIGKILL)
    assert runs.server.wait(first) == -signal.SIGKILL
    assert runs.finish(out) == 0, runs.said(out)  # at once, while the first one's workers may still be finding out
    same = trace(out) == reference[0]
    tally("F15", "a second run in the folder is refused; after kill -9 of the first it starts", int(refused and same), 1)
    assert refused, (code, seconds, said)
    assert same


# --- other inputs -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """R, stopped after 12 steps: to be copied."""
    out = tmp_path_factory.mktemp("half") / "run"
    assert runs.finish(out, before=AT_STEP.format(step=12, number=int(signal.SIGTERM))) == 75, runs.said(out)
    return out


def test_a_run_does_not_go_on_with_other_settings_or_inputs(
    runs: Runs,
    half: Path,
    inputs: dict[str, str],
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(half, out)
    before = tree(out)
    copies = {name: Path(shutil.copytree(inputs[name], tmp_path / name)) for name in ("corpus", "model")}
    shard = max((copies["corpus"] / "train").rglob("*.arrow"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    vocabulary = tmp_path / "smaller"
    text = Path(inputs["corpus"]).with_name("text.txt")
    prepared = ["prepare", f"source={text}", f"out={vocabulary}", "vocab_size=120", "heldout=0.1", "workers=1"]
    assert runs.server.wait(runs.server.start(prepared, tmp_path / "log")) == 0
    weights = copies["model"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({"learning_rate": 1e-3}, 2, "learning_rate was 0.002, is 0.001"),
        ({"steps": 90}, 2, "steps was 60, is 90"),
        ({"max_length": 20}, 2, "max_length was 24, is 20"),
        ({"micro_batches": 2}, 2, "micro_batches was 1, is 2"),
        ({"micro_tokens": 160}, 2, "micro_tokens was 144, is 160"),
        ({"mask_rate": 0.2, "seed": 1}, 2, "mask_rate was 0.15, is 0.2; seed was 0, is 1"),
        ({"precision": "bf16"}, 2, "precision was 'fp32', is 'bf16'"),
        ({"corpus": copies["corpus"]}, 4, str(shard)),
        ({"corpus": vocabulary}, 2, "was started with another corpus"),
        ({"model": copies["model"]}, -1, ""),
    ]
    wrong = []
    for changed, wanted, words in refused:
        code = runs.finish(out, **changed)
        said = runs.said(out)
        one_line = len(mistakes(said)) == 1 and words in mistakes(said)[0] and "Traceback" not in said
        right = one_line and (code == wanted if wanted > 0 else code in (2, 4))
        if not right or tree(out) != before:
            wrong.append((changed, code, said))
    assert runs.finish(out) == 0, runs.said(out)
    same = trace(out) == reference[0]
    tally("F17", "settings or inputs changed at a resume: refused in one line, nothing touched", len(refused) - len(wrong), len(refused))
    assert not wrong, wrong
    assert same


def test_another_number_of_threads_goes_on_and_says_what_that_costs(
    runs: Runs, half: Path, reference: tuple[dict[str, Any], float], tmp_path: Path, tally: Callable[[str, str, int, int], None]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(half, out)
    assert runs.finish(out, threads=2, before=AT_STEP.format(step=24, number=int(signal.SIGTERM))) == 75, runs.said(out)
    warned = [line for line in runs.said(out).splitlines() if line.startswith(("note: ", "warning: ")) and "threads" in line]
    batches = [record["batch"] for record in records(out) if "batch" in record]
    same = batches == [record["batch"] for record in reference[0]["records"] if "batch" in record][:25]
    tally("F17", "another number of threads at a resume: a warning, and the same batches", int(len(warned) == 1 and same), 1)
    assert len(warned) == 1 and same, runs.said(out)


# --- another place and time -------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_the_same_at_another_place_and_date(
    runs: Runs,
    half: Path,
    inputs: dict[str, str],
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
) -> None:
    away = tmp_path / "another disk" / "ünder a näme with spaces"
    away.mkdir(parents=True)
    moved = {name: shutil.copytree(place, away / f"my {name}") for name, place in inputs.items()}
    shutil.copytree(half, away / "my run")
    code = runs.finish(away / "my run", before=ELSEWHEN, **moved)
    same = code == 0 and trace(away / "my run") == reference[0]
    tally("F26", "run, corpus and model copied to another place, 400 days later", int(same), 1)
    assert same, runs.said(away / "my run")
