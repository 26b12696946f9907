"""What a signal asks of bertlab, and how it is granted.

| signal                     | comes from                                              | exit code |
| -------------------------- | ------------------------------------------------------- | --------- |
| SIGINT                     | Ctrl-C                                                  | 130       |
| SIGTERM, SIGUSR1, SIGHUP   | a batch system that takes the machine back, a lost line | 75        |

While a verb runs, a signal is an exception: temporary files go, what was finished stays. While a model trains it is a wish, granted
after the step with a checkpoint (`stop_politely`); a second signal, a second later, ends that wait too. Knows nothing of torch or of
processes.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, PREEMPTED = 130, 75  # 128 + SIGINT, as shells have it; EX_TEMPFAIL of sysexits.h: try again later
# Launchers pass a signal on to processes that have it from the batch system already, and Linux tells of a parent's death once a thread.
SAME_WISH_SECONDS = 1.0
PREEMPTION = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Preempted(KeyboardInterrupt):
    """A run that was asked to end by something else than Ctrl-C."""


class Stop:
    """The wish for the end of a run: the signal that asked for it, None before."""

    asked: signal.Signals | None = None

    def exception(self, message: str) -> KeyboardInterrupt:
        """What to raise when the wish has been granted; a process that was not asked itself ends with one that was, by pre-emption."""
        return KeyboardInterrupt(message) if self.asked == signal.SIGINT else Preempted(message)


@contextmanager
def raise_when_asked() -> Iterator[None]:
    """Turn SIGINT into KeyboardInterrupt and the signals of pre-emption into `Preempted`.

    Compiled code that was calling Python when it came may make an error of its own of it (torch.tensor: a ValueError); whatever ends the
    block after a signal is the signal's. One that was ignored when Python started (nohup) stays ignored.
    """
    asked: type[KeyboardInterrupt] | None = None

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = KeyboardInterrupt if number == signal.SIGINT else Preempted
        raise asked

    with _handled((signal.SIGINT, *PREEMPTION), end):
        try:
            yield
        except Exception as error:
            if asked is None:
                raise
            raise asked from error


@contextmanager
def stop_politely() -> Iterator[Stop]:
    """Make the first signal a wish; one that comes SAME_WISH_SECONDS later does what the first would have done outside, at once."""
    stop = Stop()
    asked_at = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if stop.asked is None:
            stop.asked, asked_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - asked_at > SAME_WISH_SECONDS:
            restore()
            signal.raise_signal(number)

    with _handled((signal.SIGINT, *PREEMPTION), ask) as restore:
        yield stop


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the block has ended; to a process that is forked in it they stay away for good. A worker would die of one that
    comes between its birth and `ignore_all`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *PREEMPTION))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def saying_what_is_kept(done: int, of: int, what: str) -> Iterator[None]:
    """Within, where the one after the first `done` of so many trainings runs, an interruption says what is kept of them. Of two of these
    the outer one speaks, if anything of its own is done."""
    try:
        yield
    except KeyboardInterrupt as error:
        if str(error) and not done:
            raise
        kept = f"{done:,} of {of:,} {what} {'is' if done == 1 else 'are'} finished and kept, and the same command goes on with the next"
        nothing = f"none of {of:,} {what} is finished" if of > 1 else "the training is not finished"
        raise type(error)(f"stopped: {kept if done else f'{nothing}, so nothing is kept, and the same command begins anew'}") from error


def ignore_all() -> None:
    """For a worker process that makes batches: a signal to the whole group is its parent's to grant, and the parent ends it."""
    for number in (signal.SIGINT, *PREEMPTION):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[Callable[[], None]]:
    """Handle signals in this process and thread; yields what restores the handlers before. Nothing outside the main thread, where no
    handler can be set. A process forked meanwhile does what it would have done without."""
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}

    def restore() -> None:
        for number, earlier in before.items():
            signal.signal(number, earlier)

    try:
        yield restore
    finally:
        restore()
