"""A run killed by SIGKILL at any moment, and started again by the same command, ends as if nothing had been (F1).

The moments are uniform over the run; a quarter of the kills wait for a save and fall into it, which its temporary folder proves. Every
fourth run makes its batches in two workers, every fifth is killed twice. A save is written beside the training, so that the steps to be
taken again are those since the last save and those of the time that it took: of two intervals at most, since a save waits for the last.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability.conftest import SAVE_EVERY, STEPS, Runs, last_step, resumed_at, saved_steps, trace


def kill_after(runs: Runs, out: Path, seconds: float, **settings: Any) -> bool:
    """Start a run and kill it `seconds` later; False when it had come to its end before."""
    pid = runs.start(out, **settings)
    time.sleep(seconds)
    return kill(runs, pid)


def kill_in_save(runs: Runs, out: Path, step: int, seconds: float, **settings: Any) -> bool:
    """Start a run and kill it `seconds` after it began to save `step`; False when the save was over by then."""
    pid = runs.start(out, **settings)
    while not any((out / "checkpoints").glob(f".tmp-*-step-{step:08d}")):
        if runs.server.poll(pid) is not None:
            return False
    time.sleep(seconds)
    return kill(runs, pid) and any((out / "checkpoints").glob(".tmp-*"))


def kill(runs: Runs, pid: int) -> bool:
    """Kill the process alone: its workers must find out for themselves. A child that nobody has waited for keeps its number."""
    os.kill(pid, signal.SIGKILL)
    return runs.server.wait(pid) == -signal.SIGKILL


def go_on(runs: Runs, out: Path, expected: dict[str, Any], **settings: Any) -> str:
    """Give the same command again; what is wrong with what it leaves, or nothing."""
    done = last_step(out)
    saved_steps(out)  # raises CorruptError for one that is not whole
    code, said = runs.finish(out, **settings), runs.said(out)
    if code != 0:
        return f"exit code {code}: {said}"
    begun = STEPS if "nothing to do" in said else resumed_at(said)
    if not 0 <= done - begun <= 2 * SAVE_EVERY:
        return f"step {done} was done, and it went on from {begun}"
    if left := [path.name for path in out.rglob(".tmp-*")]:
        return f"left behind: {left}"
    return "" if trace(out) == expected else "another end"


def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    trials: Callable[[int, int], int],
    tally: Callable[[str, str, int, int], None],
) -> None:
    expected, seconds = reference
    draw = random.Random(5)
    wanted, wrong, saving, drawn = trials(20, 200), dict[int, str](), set[int](), 0
    for number in range(wanted):
        out = tmp_path / f"run-{number}"
        settings = {"workers": 2 if number % 4 == 1 else 0}
        killed, kills = 0, 2 if number % 5 == 4 else 1
        while killed < kills:
            drawn += 1
            assert drawn < 10 * wanted, "most kills came too late"
            in_save = number % 4 == 0 and killed == 0
            if in_save and kill_in_save(runs, out, draw.randrange(SAVE_EVERY, STEPS + 1, SAVE_EVERY), draw.uniform(0, 0.01), **settings):
                saving.add(number)
                killed += 1
            elif not in_save and kill_after(runs, out, draw.uniform(0, seconds), **settings):
                killed += 1
            elif killed == 0:
                shutil.rmtree(out, ignore_errors=True)  # it had come to its end, or the save had: no trial
            else:
                break  # the rest was shorter than the delay
        if fault := go_on(runs, out, expected, **settings):
            wrong[number] = fault
        else:
            shutil.rmtree(out)
    tally("F1", "SIGKILL at a random moment, the same command again: the same end", wanted - len(wrong), wanted)
    tally("F1", "  of these inside a save", len(saving - wrong.keys()), len(saving))
    assert not wrong, wrong
    assert len(saving) >= wanted // 5
