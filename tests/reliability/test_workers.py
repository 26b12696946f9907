"""Processes that make batches: their number may change at a resume, and one that dies or fails ends the run, never hangs it (F12)."""

import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability.conftest import AT_STEP, STEPS, Runs, mistakes, saved_steps, trace, until_step

# Every process that is forked says who it is.
TELLS = 'import os\nos.register_at_fork(after_in_child=lambda: print(f"worker {os.getpid()}", flush=True))\n'
# A worker process finds something wrong with the corpus; the training process makes no batch here.
FAILS = """
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.errors import {error}
true = PretrainingBatches.micro

def micro(self, number):
    if number == {step}:
        raise {error}({arguments})
    return true(self, number)

PretrainingBatches.micro = micro
"""


def test_the_number_of_workers_may_change_at_every_resume(
    runs: Runs, reference: tuple[dict[str, Any], float], tmp_path: Path, tally: Callable[[str, str, int, int], None]
) -> None:
    orders = [(0, 1, 3), (3, 0, 1), (1, 3, 0)]
    wrong = []
    for order in orders:
        out = tmp_path / "-".join(map(str, order))
        codes = [
            runs.finish(out, workers=workers, before=AT_STEP.format(step=step, number=int(signal.SIGTERM)) if step < STEPS else "")
            for workers, step in zip(order, (13, 34, STEPS), strict=True)
        ]
        if codes != [75, 75, 0] or trace(out) != reference[0]:
            wrong.append((order, codes, runs.said(out)))
    tally("F12", "workers 0, 1 and 3, changed at two resumes: the same end", len(orders) - len(wrong), len(orders))
    assert not wrong, wrong


def test_a_worker_that_is_killed_ends_the_run_in_one_line(
    runs: Runs,
    reference: tuple[dict[str, Any], float],
    tmp_path: Path,
    trials: Callable[[int, int], int],
    tally: Callable[[str, str, int, int], None],
) -> None:
    draw = random.Random(13)
    wanted, wrong = trials(3, 20), []
    for trial in range(wanted):
        out = tmp_path / f"run-{trial}"
        pid = runs.start(out, workers=2, before=TELLS)
        until_step(runs, out, pid, draw.randrange(1, 40))
        victim = draw.choice(re.findall(r"^worker (\d+)$", runs.said(out), re.MULTILINE))
        os.kill(int(victim), signal.SIGKILL)
        code, said = runs.server.wait(pid, 60), runs.said(out)
        saved_steps(out)  # raises CorruptError for one that is not whole
        named = len(mistakes(said)) == 1 and victim in mistakes(said)[0] and "Traceback" not in said
        if code <= 0 or not named or runs.finish(out, workers=2) != 0 or trace(out) != reference[0]:
            wrong.append((code, said))
    tally("F12", "kill -9 of a worker: an exit code and one line within 60 s, and the same end", wanted - len(wrong), wanted)
    assert not wrong, wrong


def test_a_worker_that_fails_ends_the_run_with_its_own_words_and_exit_code(
    runs: Runs, reference: tuple[dict[str, Any], float], tmp_path: Path, tally: Callable[[str, str, int, int], None]
) -> None:
    failures = [("CorruptError", '"shard 7 is not the file that was written"', 4), ("DataError", '"no text is left"', 3)]
    wrong = []
    for number, (error, words, wanted) in enumerate(failures):
        out = tmp_path / f"run-{number}"
        pid = runs.start(out, workers=2, before=FAILS.format(error=error, step=23, arguments=words))
        code, said = runs.server.wait(pid, 60), runs.said(out)
        (line,) = mistakes(said) or [""]
        right = code == wanted and line == f"bertlab: {words[1:-1]}" and "Traceback" not in said
        if not right or runs.finish(out, workers=2) != 0 or trace(out) != reference[0]:
            wrong.append((code, said))
    tally("F12", "a worker that raises: its words and exit code, and the same end", len(failures) - len(wrong), len(failures))
    assert not wrong, wrong
