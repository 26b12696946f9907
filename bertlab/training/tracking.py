"""The numbers of a run in a tracker of the user's beside its own files: tensorboard, wandb, mlflow, trackio, by Accelerate's classes.

Off unless asked for. Files of one run stand in its folder: tensorboard's in RUN/track, wandb's in RUN/wandb unless WANDB_DIR says where.
mlflow and trackio keep many runs in a store of the user's, which stays where their settings put it (MLFLOW_TRACKING_URI, TRACKIO_DIR).
Whether a tracker reaches a network is its own and its settings' (WANDB_MODE=offline). RUN/track.json knows the tracker's name of the run,
under which a run that goes on goes on, too. It sends some of its steps again: of a pretraining tensorboard has them once, the others twice.
"""

import math
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, Protocol

from bertlab.disk import read_object, write_json
from bertlab.errors import ConfigError, install

Kind = Literal["tensorboard", "wandb", "mlflow", "trackio"]

FOLDER, MEMORY, PROJECT = "track", "track.json", "bertlab"
LONGEST_REASON = 300  # characters
LONGEST = 500  # characters of a setting: MLflow takes no more than 6,000, and took 500; config.yaml has it whole
# Of a server that does not answer MLflow would ask eight times, for minutes in which no step is made.
MLFLOW_WAITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
NOT_IN_MLFLOW = re.compile(r"[^/\w.\- ]")  # recall@1 is no name of a metric there


class Tracker(Protocol):
    """What Accelerate's trackers do."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


class Told:
    """A tracker of `kind` that ends no run by failing: this is said in one line, once, and it is told no more."""

    def __init__(self, kind: Kind, tracker: Tracker) -> None:
        self._kind, self._tracker, self._failed = kind, tracker, False

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        if self._kind == "wandb":  # its own steps never fall, and those of the next seed, or of a run that goes on, do
            self._try(lambda: self._tracker.log(values | {"step": step}))
        elif self._kind == "mlflow":
            self._try(lambda: self._tracker.log({NOT_IN_MLFLOW.sub("_", name): value for name, value in values.items()}, step=step))
        else:
            self._try(lambda: self._tracker.log(values, step=step))

    def finish(self) -> None:
        self._try(self._tracker.finish)

    def _try(self, act: Any) -> None:
        if self._failed:
            return
        try:
            act()
        except Exception as error:
            self._failed = True
            print(f"note: {self._kind} failed and is told no more ({_reason(error)}); metrics and report miss nothing", flush=True)


def refuse_uninstalled(kind: str | None) -> None:
    """Raise ConfigError for a tracker that is not installed."""
    spec = find_spec(kind) if kind is not None else None
    if kind is not None and (spec is None or spec.origin is None):  # a folder of that name, as wandb leaves one, is no package
        raise ConfigError(f"track={kind} needs {kind}: {install('track') if kind == 'tensorboard' else f'pip install {kind}'}")


def start(kind: Kind | None, out: Path, settings: Mapping[str, Any], *, after: int | None = None) -> Tracker | None:
    """The tracker of a run, told of its settings; None for none. Of the main process; Accelerate must have been started. `after`: the step
    from which a run goes on, where it has one: of its later steps tensorboard forgets what it was told before.

    Raises ConfigError where it is not installed, or does not start.
    """
    if kind is None:
        return None
    refuse_uninstalled(kind)
    memory = read_object(out / MEMORY) if (out / MEMORY).is_file() else {}
    before = memory.get(kind)
    name = before or (token_hex(4) if kind == "wandb" else None)
    if name != before:  # before it starts, which takes seconds: a run that is killed meanwhile goes on under it
        write_json(out / MEMORY, memory | {kind: name})
    try:
        tracker = _open(kind, out, name, after)
        if before is None or kind in ("wandb", "trackio"):  # trackio forgets them; mlflow takes no other value, as of `processes`
            tracker.store_init_configuration(
                {name: value if isinstance(value, int | float) else str(value)[:LONGEST] for name, value in settings.items()}
            )
        known = _known(kind, tracker)
    except Exception as error:
        anew = f", delete {out / MEMORY} to begin another run there" * (before is not None)
        raise ConfigError(f"track={kind} did not start ({_reason(error)}): see to its settings{anew}, or leave --track out") from error
    write_json(out / MEMORY, memory | {kind: known})
    return Told(kind, tracker)


def _open(kind: Kind, out: Path, before: str | None, after: int | None) -> Any:
    """Accelerate's tracker, started: a run of its own, or the one that it knows as `before`."""
    from accelerate import tracking

    name = out.resolve().name
    if kind == "tensorboard":
        tracker = tracking.TensorBoardTracker(FOLDER, logging_dir=out, **({} if after is None else {"purge_step": after + 1}))
    elif kind == "mlflow":
        for setting, value in MLFLOW_WAITS.items():
            os.environ.setdefault(setting, value)
        tracker = tracking.MLflowTracker(experiment_name=PROJECT, run_name=name, run_id=before)
    elif kind == "wandb":
        folder = {} if "WANDB_DIR" in os.environ else {"dir": str(out)}
        tracker = tracking.WandBTracker(os.environ.get("WANDB_PROJECT", PROJECT), name=name, id=before, resume="allow", **folder)
    else:
        own = before or f"{name}-{token_hex(3)}"  # it finds a run by its name, and another's may be the same
        tracker = tracking.TrackioTracker(PROJECT, name=own, resume="must" if before else "never")
    tracker.start()
    if kind == "wandb":
        tracker.run.define_metric("*", step_metric="step")
    return tracker


def _known(kind: Kind, tracker: Any) -> str:
    """What the tracker calls the run."""
    if kind == "mlflow":
        return tracker.active_run.info.run_id
    return {"tensorboard": lambda: FOLDER, "wandb": lambda: tracker.run.id, "trackio": lambda: tracker.run.name}[kind]()


def _reason(error: Exception) -> str:
    said = " ".join(" ".join(str(error).strip().splitlines()[:3]).split())
    return f"{type(error).__name__}: {said[:LONGEST_REASON]}" if said else type(error).__name__


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a log's record under flat names: heldout/mlm_loss, losses/mlm_loss, grad_norm; its step is not among them."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step" and math.isfinite(value):
            flat[name] = float(value)
    return flat
