"""Signals as exceptions while a verb runs, as wishes while a model trains."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import torch

from bertlab import signals
from bertlab.signals import PREEMPTION, Preempted, held_back, raise_when_asked, saying_what_is_kept, stop_politely


@pytest.fixture(autouse=True)
def as_a_terminal_has_them() -> Iterator[None]:
    """Tests that run in the background, or under nohup, have inherited that some are ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in PREEMPTION}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", PREEMPTION)
def test_a_signal_of_preemption_is_an_exception_while_a_verb_runs_and_what_it_was_before_and_after(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Preempted), raise_when_asked():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_torch_makes_an_error_of_is_a_signal(number: signal.Signals, wanted: type[BaseException]) -> None:
    class Sequence:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, place: int) -> float:  # as that of torch.UntypedStorage, which is Python
            signal.raise_signal(number)
            return 0.0

    with pytest.raises(wanted) as ended, raise_when_asked():
        torch.tensor(Sequence())
    assert type(ended.value) is wanted and isinstance(ended.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="nobody asked"), raise_when_asked():
        raise ValueError("nobody asked")


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), *((number, Preempted) for number in PREEMPTION)])
def test_the_first_signal_is_a_wish_and_one_that_comes_later_an_order(
    number: signal.Signals, kind: type[KeyboardInterrupt], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    with raise_when_asked(), stop_politely() as stop:
        asked = [stop.asked]
        signal.raise_signal(number)
        signal.raise_signal(number)  # passed on by a launcher
        asked.append(stop.asked)
        monkeypatch.setattr(signals, "SAME_WISH_SECONDS", -1.0)  # a second later
        with pytest.raises(KeyboardInterrupt) as ordered:
            signal.raise_signal(number)
    assert asked == [None, number]
    assert type(ordered.value) is kind is type(stop.exception("ended"))
    assert signal.getsignal(number) is before


def test_the_wish_of_another_process_is_granted_as_pre_emption() -> None:
    with stop_politely() as stop:
        assert type(stop.exception("ended")) is Preempted


@pytest.mark.parametrize("number", [signal.SIGINT, *PREEMPTION])
def test_signals_wait_for_the_end_of_the_block_and_never_reach_a_process_forked_in_it(number: signal.Signals) -> None:
    with stop_politely() as stop:
        with held_back():
            child = os.fork()
            if not child:
                signal.raise_signal(number)  # as to the whole group, before the child has done anything
                os._exit(7)
            _, status = os.waitpid(child, 0)
            signal.raise_signal(number)  # to this thread: others do not hold it back
            asked = [stop.asked]
        asked.append(stop.asked)
    assert asked == [None, number] and os.waitstatus_to_exitcode(status) == 7


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_when_asked(), stop_politely() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.asked is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_forked_meanwhile_dies_of_the_signal() -> None:
    with raise_when_asked(), stop_politely() as stop:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert stop.asked is None


def test_outside_the_main_thread_nothing_is_handled() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with raise_when_asked(), stop_politely():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Preempted])
@pytest.mark.parametrize(
    ("outer", "inner", "said"),
    [
        ((0, 4), (0, 1), "stopped: the training is not finished, so nothing is kept, and the same command begins anew"),
        ((0, 4), (0, 3), "stopped: none of 3 seeds is finished, so nothing is kept, and the same command begins anew"),
        ((0, 4), (2, 3), "stopped: 2 of 3 seeds are finished and kept, and the same command goes on with the next"),
        ((1, 4), (0, 3), "stopped: 1 of 4 trials is finished and kept, and the same command goes on with the next"),
    ],
)
def test_an_interruption_says_what_is_kept(
    kind: type[KeyboardInterrupt], outer: tuple[int, int], inner: tuple[int, int], said: str
) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped, saying_what_is_kept(*outer, "trials"), saying_what_is_kept(*inner, "seeds"):
        raise kind("")
    assert type(stopped.value) is kind and str(stopped.value) == said
