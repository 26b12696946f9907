"""Losses that are not finite or out of line, in a whole run: skipped by all, logged, stopped after too many, shown by replay (F7, F8).

What a skipped step leaves unchanged is shown of the loop itself, on one process and two: tests/training/test_loop.py, test_processes.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertlab.disk import sha256_file
from tests.reliability.conftest import STEPS, Runs, mistakes, records, saved_steps

Tally = Callable[[str, str, int, int], None]

# From step {first} to step {last} (counted from 1) the losses are {factor} times what they are.
POISON = """
import bertlab.training.loop as loop
from bertlab.training.objectives import Pretraining
schedule, losses, now = loop.linear_schedule, Pretraining.losses, [0]
loop.MOST_SKIPPED = 7

def rate(step, *more):
    now[0] = step + 1
    return schedule(step, *more)

loop.linear_schedule = rate
Pretraining.losses = lambda self, model, batch: losses(self, model, batch) * (
    float("{factor}") if {first} <= now[0] <= {last} else 1.0
)
"""


def steps_of(out: Path, what: str) -> list[int]:
    return [record["step"] for record in records(out) if record.get(what)]


def test_steps_whose_loss_is_not_finite_are_skipped_and_told_of(runs: Runs, tmp_path: Path, tally: Tally) -> None:
    for factor in ("nan", "inf"):
        out = tmp_path / factor
        assert runs.finish(out, before=POISON.format(factor=factor, first=11, last=14), log_every=30) == 0, runs.said(out)
        assert steps_of(out, "skipped") == [11, 12, 13, 14]  # logged in full, though only every thirtieth is
        (bad,) = [record for record in records(out) if record["step"] == 12]
        assert bad["losses"] == {"mlm_loss": None, "nsp_loss": None}  # JSON has no NaN
        assert bad["skipped_in_a_row"] == 2
        for step in (11, 12, 13, 14):
            line = f"step {step} skipped: its loss or gradient was not finite; bertlab replay --run {out} --step {step} shows its batch"
            assert line in runs.said(out)
        assert json.loads((out / "model" / "bertlab.json").read_text())["skipped_steps"] == 4
    tally("F7", "steps with a loss of NaN or infinity skipped, logged, told", 8, 8)


def test_too_many_in_a_row_stop_the_run_with_the_weights_from_before_them(runs: Runs, tmp_path: Path, tally: Tally) -> None:
    out = tmp_path / "run"
    poison = POISON.format(factor="nan", first=11, last=10**9)
    assert runs.finish(out, before=poison, save_every=10) == 2
    (line,) = mistakes(runs.said(out))
    assert line.endswith("7 steps in a row without a finite loss and gradient, the last is step 17: lower the learning rate")
    assert saved_steps(out) == [10, 17]  # 17 says where to go on, with nothing learnt since 10
    before, after = (out / "checkpoints" / f"step-{step:08d}" for step in (10, 17))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert sha256_file(before / name) == sha256_file(after / name)
    assert runs.finish(out, save_every=10) == 0, runs.said(out)
    assert "from step 17" in runs.said(out)
    tally("F7", "stopped after too many in a row, with a good checkpoint", 1, 1)


def test_a_loss_out_of_line_is_flagged_and_its_batch_can_be_seen(runs: Runs, tmp_path: Path, tally: Tally) -> None:
    out = tmp_path / "run"
    assert runs.finish(out, before=POISON.format(factor="50", first=41, last=41), log_every=30) == 0, runs.said(out)
    assert steps_of(out, "spike") == [41]
    assert f"is out of line with those before; bertlab replay --run {out} --step 41 shows its batch" in runs.said(out)
    replayed = runs.server.start(
        ["replay", "--run", str(out), "--step", "41", "--json", str(tmp_path / "41.json")], tmp_path / "replay.log"
    )
    assert runs.server.wait(replayed) == 0, (tmp_path / "replay.log").read_text()
    shown: dict[str, Any] = json.loads((tmp_path / "41.json").read_text())
    (logged,) = [record["batch"] for record in records(out) if record["step"] == 41]
    assert shown["batch"] == logged
    tally("F8", "a loss 50 times too large flagged, its batch made again to the byte", 1, 1)


def test_a_run_that_goes_on_flags_what_one_that_was_not_cut_off_does(runs: Runs, tmp_path: Path) -> None:
    """The losses before a checkpoint are part of it."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    poison = POISON.format(factor="50", first=47, last=47)
    assert runs.finish(whole, before=poison) == 0
    killed = POISON.format(factor="1", first=0, last=0) + (
        "import os\nwrite = loop.fingerprint\nloop.fingerprint = lambda lanes: os._exit(9) if now[0] == 44 else write(lanes)\n"
    )
    assert runs.finish(cut, before=killed) == 9
    assert runs.finish(cut, before=poison) == 0, runs.said(cut)
    assert steps_of(cut, "spike") == steps_of(whole, "spike") == [47]
    assert records(cut) == records(whole) and len(records(cut)) >= STEPS
