"""Tracking: a tracker is told what the log is told, under flat names; what is not installed is said before anything is trained; what fails
ends no run. wandb, mlflow and trackio are played by classes that remember what Accelerate's are asked (docs/report.md: what truly ran)."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.tracking
import pytest
from accelerate import PartialState

from bertlab.disk import read_json
from bertlab.errors import ConfigError
from bertlab.training import tracking
from bertlab.training.runlog import RunLog
from bertlab.training.tracking import Kind, numbers_of, start
from bertlab.verbs import finetune

CLASSES: dict[Kind, str] = {"wandb": "WandBTracker", "mlflow": "MLflowTracker", "trackio": "TrackioTracker"}


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
    with pytest.raises(
        ConfigError, match=r"track=tensorboard needs tensorboard: pip install -c constraints.txt -e '.\[track\]' in bertlab's"
    ):
        start("tensorboard", tmp_path, {})
    with pytest.raises(ConfigError, match="track=wandb needs wandb: pip install wandb$"):
        start("wandb", tmp_path, {})
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="track=wandb needs wandb"):
        finetune.look(finetune.Config(model="absent", train="absent.csv", out=str(out), track="wandb"))
    assert not out.exists(), "a run that could not begin has no folder"


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


def test_tensorboard_has_a_step_once_where_a_run_was_killed_and_went_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    PartialState(cpu=True)
    for after, last, value in ((0, 17, 1.0), (10, 20, 2.0)):  # killed after step 17, and gone on with from the checkpoint of step 10
        log = RunLog(tmp_path / f"{after}.jsonl", -1, start("tensorboard", tmp_path, {}, after=after))
        for step in range(after + 1, last + 1):
            log.write({"step": step, "loss": value})
        log.close()
    read = EventAccumulator(str(tmp_path / "track"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == list(range(1, 21))
    assert [event.value for event in read.Scalars("loss")] == [1.0] * 10 + [2.0] * 10


def test_a_folder_of_a_trackers_name_is_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    with pytest.raises(ConfigError, match="track=trackio needs trackio: pip install trackio$"):
        tracking.refuse_uninstalled("trackio")


class Played:
    """One of Accelerate's trackers: what it was asked, in order. fails: the names of what raises."""

    asked: list[tuple[str, Any]] = []
    fails: set[str] = set()

    def __init__(self, project: str = "", **settings: Any) -> None:
        self.asked.append(("init", settings | {"project": settings.pop("experiment_name", project)}))
        self.run = SimpleNamespace(
            id=settings.get("id"), name=settings.get("name"), define_metric=lambda *a, **b: self._ask("define", (a, b))
        )
        self.active_run = SimpleNamespace(info=SimpleNamespace(run_id="id-1"))

    def _ask(self, name: str, what: Any) -> None:
        self.asked.append((name, what))
        if name in self.fails:
            raise OSError(f"no {name}\nof any kind")

    def _define(self, *names: Any, **how: Any) -> None:
        self._ask("define", (names, how))

    def start(self) -> None:
        self._ask("start", None)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._ask("settings", values)

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._ask("log", (step, values))

    def finish(self) -> None:
        self._ask("finish", None)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    monkeypatch.setattr(tracking, "find_spec", lambda name: SimpleNamespace(origin=name))
    for name in CLASSES.values():
        monkeypatch.setattr(accelerate.tracking, name, Played)
    monkeypatch.setattr(Played, "asked", [])
    monkeypatch.setattr(Played, "fails", set())
    for name in ("WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return Played


@pytest.mark.parametrize("kind", list(CLASSES))
def test_a_run_that_goes_on_goes_on_in_its_tracker_and_is_told_its_settings(tmp_path: Path, played: type[Played], kind: Kind) -> None:
    settings = {"steps": 9, "dims": (64, 32), "of": {"a": [1]}, "model": None, "clip": 1.5, "symmetric": True, "train": "x" * 7000}
    for _ in range(2):
        tracker = start(kind, tmp_path, settings)
        assert tracker is not None
        tracker.finish()
    first, second = (asked for name, asked in played.asked if name == "init")
    told = [asked for name, asked in played.asked if name == "settings"]
    in_short = {"steps": 9, "dims": "(64, 32)", "of": "{'a': [1]}", "model": "None", "clip": 1.5, "symmetric": True, "train": "x" * 500}
    assert told == [in_short] * (1 if kind == "mlflow" else 2), "mlflow takes no other value for what it knows"
    assert first["project"] == second["project"] == "bertlab"
    known = read_json(tmp_path / "track.json")[kind]
    if kind == "mlflow":
        assert (first["run_id"], second["run_id"], known) == (None, "id-1", "id-1") and first["run_name"] == tmp_path.name
    elif kind == "wandb":
        assert first["id"] == second["id"] == known and len(known) == 8 and second["resume"] == "allow" and first["name"] == tmp_path.name
    else:  # by name, and there may be another run in a folder of that name
        assert first["name"] == second["name"] == known != tmp_path.name and known.startswith(tmp_path.name)
        assert (first["resume"], second["resume"]) == ("never", "must")
    assert start("mlflow" if kind == "wandb" else "wandb", tmp_path, {}) is not None
    assert read_json(tmp_path / "track.json")[kind] == known, "another tracker's name for the run is kept"


def test_wandb_writes_into_the_run_and_loses_no_step_that_comes_after_a_higher_one(
    tmp_path: Path, played: type[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = start("wandb", tmp_path, {})
    assert tracker is not None
    for step, name in ((8, "seed-0/loss"), (1, "seed-1/loss")):
        tracker.log({name: 0.5}, step=step)
    assert played.asked[0][1]["dir"] == str(tmp_path) and ("define", (("*",), {"step_metric": "step"})) in played.asked
    told = [asked for name, asked in played.asked if name == "log"]
    assert told == [(None, {"seed-0/loss": 0.5, "step": 8}), (None, {"seed-1/loss": 0.5, "step": 1})]
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    start("wandb", tmp_path, {})
    last = [asked for name, asked in played.asked if name == "init"][-1]
    assert "dir" not in last and last["project"] == "mine"


def test_wandbs_run_is_known_before_it_starts(tmp_path: Path, played: type[Played]) -> None:
    played.fails = {"start"}
    with pytest.raises(ConfigError, match="track=wandb did not start"):
        start("wandb", tmp_path, {})
    known = read_json(tmp_path / "track.json")["wandb"]
    played.fails = set()
    start("wandb", tmp_path, {})
    assert [asked["id"] for name, asked in played.asked if name == "init"] == [known, known]


def test_names_that_mlflow_refuses_are_written_in_its_letters(tmp_path: Path, played: type[Played]) -> None:
    tracker = start("mlflow", tmp_path, {})
    assert tracker is not None
    tracker.log({"dev/recall@1": 0.5, "seed-0/née/dev_macro_f1": 2.0}, step=3)
    assert played.asked[-1] == ("log", (3, {"dev/recall_1": 0.5, "seed-0/née/dev_macro_f1": 2.0}))


@pytest.mark.parametrize("kind", list(CLASSES))
def test_a_tracker_that_fails_in_the_middle_is_said_once_and_ends_nothing(
    tmp_path: Path, played: type[Played], capsys: pytest.CaptureFixture[str], kind: Kind
) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", -1, start(kind, tmp_path, {}))
    log.write({"step": 1, "loss": 3.0})
    played.fails = {"log", "finish"}
    for step in (2, 3):
        log.write({"step": step, "loss": 2.0})
    log.close()
    assert sum(name == "log" for name, _ in played.asked) == 2 and ("finish", None) not in played.asked
    said = capsys.readouterr().out
    assert said == f"note: {kind} failed and is told no more (OSError: no log of any kind); metrics and report miss nothing\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("what", ["start", "settings"])
def test_a_tracker_that_does_not_start_is_one_line_and_no_run_of_it_is_remembered(tmp_path: Path, played: type[Played], what: str) -> None:
    played.fails = {what}
    with pytest.raises(
        ConfigError, match=rf"track=mlflow did not start \(OSError: no {what} of any kind\): .* leave --track out$"
    ) as caught:
        start("mlflow", tmp_path, {})
    assert not (tmp_path / "track.json").exists() and "delete" not in str(caught.value)
    played.fails = set()
    start("mlflow", tmp_path, {})
    played.fails = {"start"}
    with pytest.raises(ConfigError, match=r"delete \S*track.json to begin another run there"):
        start("mlflow", tmp_path, {})
