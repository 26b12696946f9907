"""How far long work has come: a bar on a terminal, a plain line every few seconds elsewhere. Both go to standard error.

Knows nothing of the work. Costs a clock reading a call.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 5.0

# called with the amount done in all, and words to show beside it
Report = Callable[[float, str], None]


@contextmanager
def progress(what: str, unit: str, total: float | None = None) -> Iterator[Report]:
    """Yield a function to call as work goes on; amounts and `total` are in `unit`. With a total, the time left is shown."""
    with _bar(what, unit, total) if sys.stderr.isatty() else _lines(what, unit, total) as report:
        yield report


@contextmanager
def silent() -> Iterator[Report]:
    """The same, showing nothing: for all processes but the first."""
    yield lambda done, more: None


def _words(done: float, unit: str, seconds: float, more: str) -> str:
    digits = 0 if done >= 1000 else 1
    amount = f"{done:,.{digits}f} {unit}, {done / max(seconds, 1e-9):,.{digits}f} {unit}/s"
    return f"{amount}, {more}" if more else amount


@contextmanager
def _bar(what: str, unit: str, total: float | None) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn()]
    start = time.monotonic()
    with Progress(*columns, *([TimeRemainingColumn()] if total else []), console=Console(stderr=True)) as display:
        task = display.add_task(what, total=total, words="")
        yield lambda done, more: display.update(task, completed=done, words=_words(done, unit, time.monotonic() - start, more))


@contextmanager
def _lines(what: str, unit: str, total: float | None) -> Iterator[Report]:
    start = last = time.monotonic()

    def report(done: float, more: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = f", {(now - start) * max(0.0, total - done) / done:.0f} s left" if total and done else ""
        print(f"{what}: {_words(done, unit, now - start, more)}{left}", file=sys.stderr, flush=True)

    yield report
