"""Tracking: a tracker is told what the log is told, under flat names; what is not installed is said before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState

from bertlab.errors import ConfigError
from bertlab.training import tracking
from bertlab.training.runlog import RunLog
from bertlab.training.tracking import numbers_of, start


def test_numbers_are_the_finite_ones_under_flat_names() -> None:
    record = {"step": 3, "losses": {"mlm_loss": 7.5, "nsp_loss": float("nan")}, "skipped": True, "grad_norm": 2, "batch": "ab", "x": None}
    assert numbers_of(record) == {"losses/mlm_loss": 7.5, "grad_norm": 2.0}
    assert numbers_of({"step": 4, "batch": "ab"}) == {}


def test_a_log_tells_its_tracker_of_every_record_with_numbers(tmp_path: Path) -> None:
    told: list[Any] = []

    class Tracker:
        def log(self, values: dict[str, Any], step: int | None = None) -> None:
            told.append((step, values))

        def finish(self) -> None:
            told.append("finished")

    log = RunLog(tmp_path / "metrics.jsonl", -1, Tracker())
    log.write({"step": 1, "batch": "ab"})
    log.write({"step": 2, "heldout": {"mlm_loss": 6.5}})
    log.close()
    assert told == [(2, {"heldout/mlm_loss": 6.5}), "finished"]


def test_nothing_is_tracked_unless_asked_for(tmp_path: Path) -> None:
    assert start(None, tmp_path, {}) is None and list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_not_installed_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"track=tensorboard needs tensorboard: pip install tensorboard \(or 'bertlab\[track\]'\)"):
        start("tensorboard", tmp_path, {})
    with pytest.raises(ConfigError, match="track=wandb needs wandb: pip install wandb$"):
        start("wandb", tmp_path, {})


def test_tensorboard_holds_the_numbers_at_their_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    PartialState(cpu=True)
    log = RunLog(tmp_path / "metrics.jsonl", -1, start("tensorboard", tmp_path, {"steps": 9, "model": None, "name": "x"}))
    for step in (1, 2, 5):
        log.write({"step": step, "losses": {"mlm_loss": 8.0 - step}, "batch": "ab"})
    log.close()
    read = EventAccumulator(str(tmp_path / "track"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("losses/mlm_loss")] == [(1, 7.0), (2, 6.0), (5, 3.0)]
