"""A run folder's memory: config.yaml, which a resumed run must agree with, and metrics.jsonl, one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from bertlab.config import load, save, to_dict
from bertlab.disk import write_text
from bertlab.errors import ConfigError

CONFIG = "config.yaml"


class RunLog:
    """Appends records to `path`. A resumed run first drops the records of steps that it will take again, and a half line at the end."""

    def __init__(self, path: Path, resume_at: int) -> None:
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) < resume_at))
        self._stream = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, which has a `step`; NaN and infinity become null, since JSON has neither."""
        self._stream.write(json.dumps({name: _plain(value) for name, value in record.items()}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # cut short by a crash


def agree_with_config(config: Any, out: Path, free: set[str]) -> None:
    """Check that a run folder is empty, or was started with the settings of `config` (but for the `free` ones).

    Raises ConfigError naming what changed, or that the folder is somebody else's.
    """
    path = out / CONFIG
    if not path.is_file():
        foreign = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
        if foreign:
            raise ConfigError(f"{out} has content that is no run of ours ({', '.join(foreign[:3])}): choose another --out")
        return
    before, now = to_dict(load(type(config), [str(path)])), to_dict(config)
    changed = [f"{name} was {before[name]!r}, is {now[name]!r}" for name in now if name not in free and before[name] != now[name]]
    if changed:
        raise ConfigError(
            f"{out} was started with other settings ({'; '.join(changed[:3])}): choose another --out, or give the same settings"
        )


def remember_config(config: Any, out: Path) -> None:
    """Write config.yaml if there is none: when every input has been checked, so that a mistake leaves a folder that can be used again."""
    if not (out / CONFIG).is_file():
        save(config, out / CONFIG)
