"""SIGTERM, SIGUSR1 and SIGINT end a run politely (F10, one process): a checkpoint of the last finished step, an exit code of its own,
nobody left behind, and the same command ends as if nothing had been.

SIGTERM and SIGUSR1 are what schedulers send before they take a machine away (exit code 75), SIGINT is Ctrl-C (130).
"""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.disk import sha256_file
from bertlab.signals import SAME_WISH_SECONDS
from tests.reliability.conftest import SAVE_EVERY, STEPS, Runs, Server, last_step, mistakes, saved_steps, trace

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGUSR1: 75}
SIGNALS = list(CODES)
# Seconds from the signal to the end; beside other work there are as many more as a whole run takes, 2 on an idle machine.
PATIENCE = 30.0

# Sends its own process a signal when the named function is called for the n-th time.
AT_CALL = """
import os
import {module} as module
true, calls = module.{name}, []

def called(*arguments, **named):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), {number})
    return true(*arguments, **named)

module.{name} = called
"""

# A step that does not end.
ASLEEP = """
import time
from bertlab.training import loop
true = loop.linear_schedule

def rate(step, *more):
    if step == {step}:
        print("asleep", flush=True)
        time.sleep(120)
    return true(step, *more)

loop.linear_schedule = rate
"""


def left_behind(pid: int) -> bool:
    """Whether anything of a process's group still runs; workers may take a moment to go."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    return True


def outside(code: int, number: signal.Signals, said: str, out: Path) -> bool:
    """Whether a signal came before bertlab ran or after it: Python itself, starting and ending, then does with it what it likes."""
    return code in (0, -number) and ((out / "model").is_dir() or not (said or out.exists()))


def ended_politely(runs: Runs, out: Path, pid: int, number: signal.Signals, seconds: float) -> str:
    """What is wrong with the end of a run that was sent a signal, or nothing. `seconds`: of a whole run."""
    code, said = runs.server.wait(pid, PATIENCE + seconds), runs.said(out)
    if outside(code, number, said, out):
        return ""
    if code != CODES[number]:
        return f"{number.name}: exit code {code}: {said}"
    if "Traceback" in said or len(mistakes(said)) != 1:
        return f"{number.name}: not one line: {said}"
    if left_behind(pid):
        return f"{number.name}: processes left behind"
    if list(out.rglob(".tmp-*")):
        return f"{number.name}: half a save left behind"
    done, saved = last_step(out), saved_steps(out)
    return "" if (saved[-1] if saved else 0) == done else f"{number.name}: step {done} was done, the checkpoints are of {saved}"


def goes_on(runs: Runs, out: Path, expected: dict[str, Any], **settings: Any) -> str:
    code = runs.finish(out, **settings)
    if code != 0:
        return f"then exit code {code}: {runs.said(out)}"
    return "" if trace(out) == expected else "another end"


def test_a_signal_at_any_moment_ends_the_run_after_its_step_and_it_goes_on_the_same(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    trials: Callable[[int, int], int],
    tally: Callable[[str, str, int, int], None],
) -> None:
    """To the process alone or to its group, as a terminal does; every fourth run has two workers, which the group's signal reaches too."""
    expected, seconds = reference
    draw = random.Random(7)
    wanted, wrong = trials(10, 50), list[str]()
    for trial in range(wanted):
        out, number = tmp_path / f"run-{trial}", SIGNALS[trial % 3]
        settings: dict[str, Any] = {"workers": 2 if trial % 4 == 1 else 0}
        pid = runs.start(out, **settings)
        time.sleep(draw.uniform(0, seconds))
        send = os.killpg if trial % 2 else os.kill
        send(pid, number)
        if fault := ended_politely(runs, out, pid, number, seconds) or goes_on(runs, out, expected, **settings):
            wrong.append(f"{trial}: {fault}")
        shutil.rmtree(out, ignore_errors=True)
    tally("F10", "SIGTERM, SIGUSR1 or SIGINT at a random moment", wanted - len(wrong), wanted)
    assert not wrong, wrong


def test_a_signal_in_the_middle_of_a_save_lets_it_end(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    trials: Callable[[int, int], int],
    tally: Callable[[str, str, int, int], None],
) -> None:
    draw = random.Random(11)
    wanted, wrong = trials(3, 15), list[str]()
    for trial in range(wanted):
        out, number = tmp_path / f"run-{trial}", SIGNALS[trial % 3]
        step = draw.randrange(SAVE_EVERY, STEPS, SAVE_EVERY)
        pid = runs.start(out)
        while not any((out / "checkpoints").glob(f".tmp-*-step-{step:08d}")):
            assert runs.server.poll(pid) is None, runs.said(out)
        os.kill(pid, number)
        fault = ended_politely(runs, out, pid, number, reference[1])
        if not fault and saved_steps(out)[-1] < step:
            fault = f"sent while step {step} was saved, ended after {saved_steps(out)}"
        if fault := fault or goes_on(runs, out, reference[0]):
            wrong.append(f"{trial}: {fault}")
    tally("F10", "a signal while a checkpoint is being written", wanted - len(wrong), wanted)
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("module", "name", "call", "steps"),
    [
        ("bertlab.tokens.corpus", "open_corpus", 1, [0]),  # at the start
        ("bertlab.training.heldout", "measure_heldout", 1, [0]),  # before the first step
        ("bertlab.training.heldout", "measure_heldout", 2, [20, 21]),
        ("bertlab.training.checkpoint", "save_checkpoint", 2, [20, 21]),  # of the best so far; the first is of step 0
        ("bertlab.verbs.pretrain", "_finish", 1, [STEPS]),  # all is trained, the model is to be written
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_at_the_start_while_measuring_and_at_the_end(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
    module: str,
    name: str,
    call: int,
    steps: list[int],
    number: signal.Signals,
) -> None:
    out = tmp_path / "run"
    pid = runs.start(out, before=AT_CALL.format(module=module, name=name, call=call, number=int(number)))
    fault = ended_politely(runs, out, pid, number, reference[1])
    if not fault and (done := max([0, *saved_steps(out)])) not in steps:
        fault = f"sent at step {steps[0]}, ended after {done}"
    fault = fault or goes_on(runs, out, reference[0])
    tally("F10", "a signal at the start, while measuring, while the model is written", int(not fault), 1)
    assert not fault


@pytest.mark.parametrize("number", SIGNALS, ids=[each.name for each in SIGNALS])
def test_a_second_signal_ends_it_at_once_and_it_goes_on_the_same(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    tally: Callable[[str, str, int, int], None],
    number: signal.Signals,
) -> None:
    """The step that is not waited for lasts two minutes here."""
    out = tmp_path / "run"
    pid = runs.start(out, before=ASLEEP.format(step=SAVE_EVERY + 2))
    while "asleep" not in runs.said(out):
        assert runs.server.poll(pid) is None, runs.said(out)
        time.sleep(0.01)
    os.kill(pid, number)
    time.sleep(1.3 * SAME_WISH_SECONDS)
    assert runs.server.poll(pid) is None  # the first is a wish
    sent = time.monotonic()
    while not mistakes(runs.said(out)) and time.monotonic() - sent < PATIENCE + reference[1]:
        os.kill(pid, number)  # again and again, as one does who sees nothing happen: the first may have been noticed late
        time.sleep(1.3 * SAME_WISH_SECONDS)
    code = runs.server.wait(pid, PATIENCE)
    assert code == CODES[number] and "Traceback" not in runs.said(out) and not left_behind(pid)
    assert saved_steps(out) == [SAVE_EVERY] and last_step(out) == SAVE_EVERY + 2
    fault = goes_on(runs, out, reference[0])
    tally("F10", "a second signal ends the run at once", int(not fault), 1)
    assert not fault


# --- fine-tuning: whole seeds are kept --------------------------------------------------------------------------------------------------


def test_fine_tuning_ends_politely_and_goes_on_with_whole_seeds(
    server: Server,
    inputs: dict[str, str],
    tmp_path: Path,
    trials: Callable[[int, int], int],
    tally: Callable[[str, str, int, int], None],
) -> None:
    rows = [{"text": f"the old {'mill' if number % 2 else 'tower'} {number}", "label": "ab"[number % 2]} for number in range(64)]
    for name, some in (("train", rows[:48]), ("test", rows[48:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))

    def start(out: Path) -> int:
        given = {"model": inputs["model"], "train": tmp_path / "train.jsonl", "test": tmp_path / "test.jsonl", "out": out}
        given |= {"seeds": 3, "epochs": 3, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu", "baselines": False}
        return server.start(["finetune", *(f"{name}={value}" for name, value in given.items())], tmp_path / "log")

    def left(out: Path) -> dict[str, str]:
        names = ("model/model.safetensors", "predictions.parquet", "metrics.json")
        return {name: sha256_file(out / name) for name in names}

    began = time.monotonic()
    assert server.wait(start(tmp_path / "whole")) == 0, (tmp_path / "log").read_text()
    seconds = time.monotonic() - began
    expected = left(tmp_path / "whole")
    draw, wanted, wrong = random.Random(3), trials(3, 12), list[str]()
    for trial in range(wanted):
        out, number = tmp_path / f"run-{trial}", SIGNALS[trial % 3]
        (tmp_path / "log").write_bytes(b"")
        pid = start(out)
        time.sleep(draw.uniform(0.2, 1) * seconds)
        os.kill(pid, number)
        code, said = server.wait(pid, PATIENCE + seconds), (tmp_path / "log").read_text()
        polite = code == CODES[number] and "Traceback" not in said and len(mistakes(said)) == 1 and not left_behind(pid)
        fault = "" if polite or outside(code, number, said, out) else f"{number.name}: exit code {code}: {said}"
        again = server.wait(start(out))
        if fault or again != 0 or left(out) != expected:
            wrong.append(fault or f"{number.name}: exit code {code}, then {again}: {(tmp_path / 'log').read_text()}")
    tally("F10", "a signal at a random moment of fine-tuning", wanted - len(wrong), wanted)
    assert not wrong, wrong
