"""Progress where there is no terminal: plain lines on standard error, not too many of them."""

import pytest

from bertlab import progress as module
from bertlab.progress import averaged, progress


def test_lines_tell_amount_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 2.0, 4.0, 6.0, 8.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("reading", "MB", total=30.0) as report:
        for done in (2.0, 4.0, 8.0, 12.0, 16.0):
            report(done, f"{done:.0f} documents")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "reading: 12/30 MB, 2.0 MB/s, 12 documents, 9 s left\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_no_time_is_guessed_from_the_first_step_and_what_comes_later_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """A first step of 30 s, then 10 s each: of 100 steps 96 are left when four are done, and two more seeds of 100."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    told = []
    with progress("seed 0 (1 of 3)", "steps", total=100, later=200) as report:
        for done, now in ((1, 30.0), (2, 40.0), (3, 50.0), (4, 60.0)):  # noqa: B007
            report(done, "loss 1.000")
            told.append(capsys.readouterr().err)
    if not terminal:
        assert [" left" in line for line in told] == [False, False, False, True]
        assert told[-1] == "seed 0 (1 of 3): 4/100 steps, 0.1 steps/s, loss 1.000, 49 min left in all\n"
    else:
        assert "49 min left in all" in capsys.readouterr().err + "".join(told)


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", "MB") as report:
        report(1.0, "")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    for total in (None, 2.0):
        with progress("reading", "MB", total) as report:
            report(1.0, "3 documents")
        printed = capsys.readouterr().err
        assert "reading" in printed
        assert "3 documents" in printed


def test_an_hour_leaves_lines_by_the_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    told = []
    with progress("reading", "MB", total=3600.0) as report:
        for second in range(1, 3601):
            now = float(second)
            report(now, "")
            told += [second] * bool(capsys.readouterr().err)
    assert told[:12] == list(range(5, 61, 5)) and told[-1] - told[-2] == 60 and len(told) < 100


def test_a_speed_is_that_of_all_that_was_done_since_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 10.0
    monkeypatch.setattr("bertlab.progress.time.monotonic", lambda: clock)
    speed = averaged("tokens")
    clock = 12.0
    assert speed(3000) == "1,500 tokens/s"
    clock = 14.0
    assert speed(9000) == "3,000 tokens/s", "12,000 in 4 seconds, not 9,000 in 2"
