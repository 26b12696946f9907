"""A run that is killed while it writes what it came to, after all training (F1): the same command ends with the same results and a page.

The moments are chosen: between the model of one task and the next of several, between a run's result and its page, while predictions are
half written. At random moments of seconds of training they would hardly ever be hit.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bertlab.disk import TEMPORARY, sha256_file
from tests.reliability.conftest import Server

Tally = Callable[[str, str, int, int], None]

# Kills its own process when the named function is called for the n-th time.
KILLED = """
import os
import {module} as module
true, calls = module.{name}, []

def called(*arguments, **named):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), 9)
    return true(*arguments, **named)

module.{name} = called
"""
# Kills its own process when a file of seed 0's predictions is half written.
HALF = """
import os
import pyarrow.parquet as parquet
true = parquet.write_table

def called(table, where, *arguments, **named):
    if "seed-0" in str(where):
        open(where, "wb").write(b"PAR1")
        os.kill(os.getpid(), 9)
    return true(table, where, *arguments, **named)

parquet.write_table = called
"""
AT_PAGE = KILLED.format(module="bertlab.pages.report", name="report_on", call=1)
# What says how long something took, is of the process, or binds the place that the run is at.
OF_THIS_RUN = ("metrics.jsonl", "report.html", ".lock", "config.yaml", "inputs.json", "manifest.json")


@pytest.fixture(scope="module")
def commands(inputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A command of each verb that ends with results, without its --out."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"text": f"the old {'mill' if number % 2 else 'tower'} {number}", "label": "ab"[number % 2]} for number in range(64)]
    for name, some in (("train", rows[:48]), ("test", rows[48:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(f"train: {folder / 'train.jsonl'}\ntest: {folder / 'test.jsonl'}\n")
    model = ["--model", inputs["model"], "--device", "cpu", "--precision", "fp32", "--no-baselines"]
    files, short = (
        ["--train", str(folder / "train.jsonl"), "--test", str(folder / "test.jsonl")],
        ["--learning-rate", "1e-3", "--epochs", "1"],
    )
    return {
        "finetune": ["finetune", *model, *files, *short, "--seeds", "2"],
        "crossval": ["crossval", *model, *files[:2], *short, "--folds", "2"],
        "multitask": [
            "multitask",
            *model,
            *short,
            "--seeds",
            "1",
            "--tasks",
            *(str(folder / f"{name}.yaml") for name in ("one", "two")),
        ],
    }


@pytest.fixture(scope="module")
def whole(server: Server, commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """What a command leaves that nobody disturbs, file by file."""
    known: dict[str, dict[str, str]] = {}

    def left(verb: str) -> dict[str, str]:
        if verb not in known:
            out = tmp_path_factory.mktemp("whole") / "run"
            assert ended(server, commands[verb], out) == 0, said(out)
            known[verb] = tree(out)
        return known[verb]

    return left


def ended(server: Server, command: list[str], out: Path, before: str = "") -> int:
    return server.wait(server.start([*command, "--out", str(out)], out.with_name("log"), before=before))


def said(out: Path) -> str:
    return out.with_name("log").read_text()


def tree(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in OF_THIS_RUN
    }


@pytest.mark.parametrize("verb", ["finetune", "crossval", "multitask"])
def test_a_run_killed_between_its_result_and_its_page_gets_the_page(
    verb: str, server: Server, commands: dict[str, list[str]], whole: Callable[[str], dict[str, str]], tmp_path: Path, tally: Tally
) -> None:
    out = tmp_path / "run"
    assert ended(server, commands[verb], out, AT_PAGE) == -signal.SIGKILL and not (out / "report.html").exists()
    code, text = ended(server, commands[verb], out), said(out)
    fine = code == 0 and "is finished: nothing to do" in text and (out / "report.html").is_file() and tree(out) == whole(verb)
    tally("F1", "killed between a run's result and its page", int(fine), 1)
    assert fine, text


def test_several_tasks_killed_between_their_models_end_the_same(
    server: Server, commands: dict[str, list[str]], whole: Callable[[str], dict[str, str]], tmp_path: Path, tally: Tally
) -> None:
    out = tmp_path / "run"
    before = KILLED.format(module="bertlab.pages.results", name="save_best", call=2)
    assert ended(server, commands["multitask"], out, before) == -signal.SIGKILL
    assert sorted(path.parent.name for path in out.glob("*/model")) == ["one"]
    fine = ended(server, commands["multitask"], out) == 0 and tree(out) == whole("multitask") and (out / "report.html").is_file()
    tally("F1", "multitask killed between the models of its tasks", int(fine), 1)
    assert fine, said(out)


def test_nothing_half_written_stays_in_a_run_that_goes_on(
    server: Server, commands: dict[str, list[str]], whole: Callable[[str], dict[str, str]], tmp_path: Path, tally: Tally
) -> None:
    out = tmp_path / "run"
    assert ended(server, commands["finetune"], out, HALF) == -signal.SIGKILL
    assert [path.parent.name for path in out.rglob(f"{TEMPORARY}*")] == ["predictions"]
    fine = ended(server, commands["finetune"], out) == 0 and tree(out) == whole("finetune") and not list(out.rglob(f"{TEMPORARY}*"))
    tally("F1", "killed while predictions are half written", int(fine), 1)
    assert fine, said(out)
