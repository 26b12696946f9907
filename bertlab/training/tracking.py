"""The numbers of a run in a tracker of the user's beside its own files: tensorboard, wandb, mlflow, trackio, by Accelerate's classes.

Off unless asked for. tensorboard writes into the run folder (RUN/track); what the others write, and whether they reach a network, is theirs
and their settings' (WANDB_MODE=offline, MLFLOW_TRACKING_URI, ...). A run that goes on sends some of its steps again.
"""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from bertlab.errors import ConfigError

Kind = Literal["tensorboard", "wandb", "mlflow", "trackio"]

FOLDER = "track"


class Tracker(Protocol):
    """What Accelerate's trackers do."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


def start(kind: Kind | None, out: Path, settings: Mapping[str, Any]) -> Tracker | None:
    """The tracker of a run, told of its settings; None for none. Of the main process; Accelerate must have been started.

    Raises ConfigError where it is not installed.
    """
    if kind is None:
        return None
    if find_spec(kind) is None:
        raise ConfigError(f"track={kind} needs {kind}: pip install {kind}" + (" (or 'bertlab[track]')" if kind == "tensorboard" else ""))
    from accelerate import tracking

    name = out.resolve().name
    if kind == "tensorboard":
        tracker = tracking.TensorBoardTracker(FOLDER, logging_dir=out)
    elif kind == "mlflow":
        tracker = tracking.MLflowTracker(experiment_name="bertlab", run_name=name)
    elif kind == "wandb":
        tracker = tracking.WandBTracker("bertlab", name=name)
    else:
        tracker = tracking.TrackioTracker("bertlab", name=name)
    tracker.start()
    tracker.store_init_configuration(
        {name: value if isinstance(value, int | float | str) else str(value) for name, value in settings.items()}
    )
    return tracker


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a log's record under flat names: heldout/mlm_loss, losses/mlm_loss, grad_norm; its step is not among them."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step" and math.isfinite(value):
            flat[name] = float(value)
    return flat
