"""How far long work has come: a bar on a terminal, elsewhere a plain line every 5 seconds, later every minute. Both go to standard error.

Knows nothing of the work. Costs a clock reading a call.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Of a long work a log need not have a line every 5 seconds: a twelfth of the time so far, so that a line a minute comes after 12 minutes.
FIRST_WAIT, LONGEST_WAIT, SHARE_WAITED = 5.0, 60.0, 1 / 12  # seconds, seconds
TIMED = 3  # calls after the first, which has the start's costs in it, before the time left is guessed

# called with the amount done in all, and words to show beside it
Report = Callable[[float, str], None]


@contextmanager
def progress(what: str, unit: str, total: float | None = None, start: float = 0, later: float = 0) -> Iterator[Report]:
    """Yield a function to call as work goes on; amounts and `total` are in `unit`, `start` was done before.

    With a total, the time left is shown, once TIMED calls have been timed; `later` is what of the same work comes after the total, and is
    counted in.
    """
    work = _Work(unit, total, start, later)
    with _bar(what, work) if sys.stderr.isatty() else _lines(what, work) as report:
        yield report


@contextmanager
def silent() -> Iterator[Report]:
    """The same, showing nothing: for all processes but the first."""
    yield lambda done, more: None


def averaged(unit: str) -> Callable[[float], str]:
    """A function that is told what more was done, and says how much a second that is from now on: over the time that a progress begun with
    it has for its own rate."""
    done, began = 0.0, time.monotonic()

    def words(more: float) -> str:
        nonlocal done
        done += more
        return f"{done / max(time.monotonic() - began, 1e-9):,.0f} {unit}/s"

    return words


class _Work:
    """What is known of the work: the clock when it began, and at its first call, with what was done by then."""

    def __init__(self, unit: str, total: float | None, before: float, later: float) -> None:
        self.unit, self.total, self.before, self.later = unit, total, before, later
        self.start = time.monotonic()
        self.calls = 0
        self.first = (self.start, before)

    def called(self, done: float) -> float:
        """Count a call; returns the clock."""
        now = time.monotonic()
        self.first = self.first if self.calls else (now, done)
        self.calls += 1
        return now

    def words(self, now: float, done: float, more: str) -> str:
        digits = 0 if float(done).is_integer() else 1
        amount = f"{done:,.{digits}f}" + (f"/{self.total:,.{digits}f}" if self.total else "")
        rate = (done - self.before) / max(now - self.start, 1e-9)
        return f"{amount} {self.unit}, {rate:,.1f} {self.unit}/s" + (f", {more}" if more else "") + self._left(now, done)

    def _left(self, now: float, done: float) -> str:
        began, by_then = self.first
        if not self.total or self.calls <= TIMED or done <= by_then:
            return ""
        seconds = (max(0.0, self.total - done) + self.later) * (now - began) / (done - by_then)
        return f", {_duration(seconds)} left" + (" in all" if self.later else "")


def _duration(seconds: float) -> str:
    """Seconds as a person says them: "50 s", "12 min", "3 h 20 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bar(what: str, work: _Work) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(what, total=work.total, completed=int(work.before), words="")

        def report(done: float, more: str) -> None:
            display.update(task, completed=done, words=work.words(work.called(done), done, more))

        yield report


@contextmanager
def _lines(what: str, work: _Work) -> Iterator[Report]:
    last = work.start

    def report(done: float, more: str) -> None:
        nonlocal last
        now = work.called(done)
        if now - last < min(LONGEST_WAIT, max(FIRST_WAIT, (now - work.start) * SHARE_WAITED)):
            return
        last = now
        print(f"{what}: {work.words(now, done, more)}", file=sys.stderr, flush=True)

    yield report
