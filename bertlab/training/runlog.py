"""metrics.jsonl: one JSON object a line, appended as a run goes on and never rewritten but for what a resumed run will write again."""

import json
from pathlib import Path
from typing import Any

from bertlab.disk import write_text


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
