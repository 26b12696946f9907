"""How far long work has come: a bar on a terminal, elsewhere a plain line every 5 seconds, later every minute. Both go to standard error.

Knows nothing of the work. Costs a clock reading a call.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Of a long work a log need not have a line every 5 seconds: a twelfth of the time so far, so that a line a minute comes after 12 minutes.
FIRST_WAIT, LONGEST_WAIT, SHARE_WAITED = 5.0, 60.0, 1 / 12  # seconds, seconds

# called with the amount done in all, and words to show beside it
Report = Callable[[float, str], None]


@contextmanager
def progress(what: str, unit: str, total: float | None = None, start: float = 0) -> Iterator[Report]:
    """Yield a function to call as work goes on; amounts and `total` are in `unit`, `start` was done before.

    With a total, the time left is shown.
    """
    with _bar(what, unit, total, start) if sys.stderr.isatty() else _lines(what, unit, total, start) as report:
        yield report


@contextmanager
def silent() -> Iterator[Report]:
    """The same, showing nothing: for all processes but the first."""
    yield lambda done, more: None


def _words(done: float, unit: str, total: float | None, rate: float, more: str) -> str:
    digits = 0 if float(done).is_integer() else 1
    amount = f"{done:,.{digits}f}" + (f"/{total:,.{digits}f}" if total else "")
    return f"{amount} {unit}, {rate:,.1f} {unit}/s" + (f", {more}" if more else "")


def _left(seconds: float) -> str:
    """Seconds as a person says them: "50 s", "12 min", "3 h 20 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bar(what: str, unit: str, total: float | None, before: float) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn()]
    start = time.monotonic()
    with Progress(*columns, *([TimeRemainingColumn()] if total else []), console=Console(stderr=True)) as display:
        task = display.add_task(what, total=total, completed=int(before), words="")

        def report(done: float, more: str) -> None:
            rate = (done - before) / max(time.monotonic() - start, 1e-9)
            display.update(task, completed=done, words=_words(done, unit, total, rate, more))

        yield report


@contextmanager
def _lines(what: str, unit: str, total: float | None, before: float) -> Iterator[Report]:
    start = last = time.monotonic()

    def report(done: float, more: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < min(LONGEST_WAIT, max(FIRST_WAIT, (now - start) * SHARE_WAITED)):
            return
        last = now
        rate = (done - before) / max(now - start, 1e-9)
        left = f", {_left(max(0.0, total - done) / rate)} left" if total and rate else ""
        print(f"{what}: {_words(done, unit, total, rate, more)}{left}", file=sys.stderr, flush=True)

    yield report
