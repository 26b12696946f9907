"""Several processes of one run: asked to end, killed, left without their launcher (F10, F13), and of another number at every start (F11).

One run lives through all of it, one start after the other. Its processes are forked (each would import torch for some 4 seconds); those
of the run that it is compared with are programs of their own, as `bertlab pretrain --processes 2` starts them.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.disk import TEMPORARY
from tests.reliability.conftest import STEPS, Runs, last_step, mistakes, records, resumed_at, saved_steps, trace, until_step

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")

Tally = Callable[[str, str, int, int], None]
SHARED: dict[str, Any] = {"micro_batches": 4, "micro_tokens": 64}  # 1, 2 and 4 processes can share a step
PATIENCE = 60.0  # seconds in which all processes of a run must have ended; gloo sees a closed connection at once


def ranks_of(runs: Runs, out: Path) -> dict[int, int]:
    """The processes of the run's last start that train into a folder: process id by rank."""
    found = {}
    for path in out.parent.glob(f"{runs.log(out).name}.rank-*"):
        number = int(path.read_text())
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended
            continue
        if state != "Z":  # and nobody has asked how
            found[int(path.name.rpartition("-")[2])] = number
    return found


def begun_at(runs: Runs, out: Path, pid: int) -> int:
    """Wait until a run says at which step it starts: from then on the log holds nothing of a later one."""
    while " on cpu" not in runs.said(out):
        assert runs.server.poll(pid) is None, runs.said(out)
        time.sleep(0.01)
    return resumed_at(runs.said(out))


def all_have_ended(runs: Runs, out: Path) -> bool:
    end = time.monotonic() + PATIENCE
    while ranks_of(runs, out):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run of two processes that nobody disturbs."""
    out = tmp_path_factory.mktemp("two") / "run"
    assert runs.finish(out, processes=2, anew=True, **SHARED) == 0, runs.said(out)
    return trace(out)


def test_two_processes_that_were_asked_to_end_and_killed_end_as_if_nothing_had_been(
    runs: Runs, undisturbed: dict[str, Any], tmp_path: Path, trials: Callable[[int, int], int], tally: Tally
) -> None:
    out = tmp_path / "run"

    def its(rank: int) -> Callable[[int], int]:
        return lambda _: ranks_of(runs, out)[rank]

    def disturbed(number: signal.Signals, whom: Callable[[int], int]) -> int:
        """Start it, send a signal when it has taken five steps; returns the exit code."""
        pid = runs.start(out, processes=2, **SHARED)
        until_step(runs, out, pid, begun_at(runs, out, pid) + 5)
        os.kill(whom(pid), number)
        code = runs.server.wait(pid, PATIENCE)
        assert all_have_ended(runs, out), f"{number.name}: processes left behind"
        assert "Traceback" not in runs.said(out)
        return code

    polite: list[tuple[signal.Signals, Callable[[int], int], int]] = [
        (signal.SIGTERM, lambda pid: pid, 75),  # to the launcher
        (signal.SIGUSR1, its(1), 75),  # to one process alone
        (signal.SIGINT, lambda pid: pid, 130),
    ][: trials(2, 3)]
    for number, whom, code in polite:
        assert disturbed(number, whom) == code, runs.said(out)
        done = last_step(out)
        assert saved_steps(out)[-1] == done
        (line,) = mistakes(runs.said(out))
        assert f"stopped after step {done:,}: the same command goes on from its checkpoint" in line
        assert not list(out.rglob(f"{TEMPORARY}*"))
    tally("F10", "two processes: SIGTERM, SIGUSR1 to one; of the full tier, SIGINT", len(polite), len(polite))

    began = time.monotonic()
    for rank in (1, 0)[: trials(1, 2)]:
        assert disturbed(signal.SIGKILL, its(rank)) == 128 + signal.SIGKILL, runs.said(out)
        told = "another process of this run has died: the same command goes on from the last checkpoint" in runs.said(out)
        assert told or rank == 0, runs.said(out)  # whose line it is; the others wait to be ended
    assert time.monotonic() - began < 4 * PATIENCE
    pid = runs.start(out, processes=2, **SHARED)
    begun_at(runs, out, pid)
    while not list((out / "checkpoints").glob(f"{TEMPORARY}*")) and runs.server.poll(pid) is None:
        time.sleep(0.0005)
    os.kill(ranks_of(runs, out)[0], signal.SIGKILL)  # in the middle of a save
    assert runs.server.wait(pid, PATIENCE) == 128 + signal.SIGKILL
    assert saved_steps(out)  # whole, all of them
    # the launcher: its processes are asked to end by the kernel, and save
    assert disturbed(signal.SIGKILL, lambda pid: pid) == -signal.SIGKILL
    assert saved_steps(out)[-1] == last_step(out) < STEPS, runs.said(out)  # and do not go on by themselves
    tally("F13", "one of two processes or their launcher killed", trials(3, 4), trials(3, 4))

    assert runs.finish(out, processes=2, **SHARED) == 0, runs.said(out)
    assert trace(out) == undisturbed


def test_the_batches_are_the_same_for_another_number_of_processes_at_every_start(runs: Runs, tmp_path: Path, tally: Tally) -> None:
    whole, out = tmp_path / "one", tmp_path / "run"
    assert runs.finish(whole, processes=1, **SHARED) == 0, runs.said(whole)
    worlds, reached = (1, 2, 4, 1), 0
    for number, processes in enumerate(worlds):
        pid = runs.start(out, processes=processes, workers=number % 2, **SHARED)
        if number < len(worlds) - 1:
            until_step(runs, out, pid, begun_at(runs, out, pid) + 4)
            os.kill(pid, signal.SIGTERM)
        assert runs.server.wait(pid) == (75 if number < len(worlds) - 1 else 0), runs.said(out)
        assert resumed_at(runs.said(out)) == reached
        if number:
            assert "the same batches, but other last bits of the weights" in runs.said(out)
        reached = last_step(out)

    def batches(folder: Path) -> list[tuple[int, str]]:
        return [(record["step"], record["batch"]) for record in records(folder) if "batch" in record]

    assert [step for step, _ in batches(out)] == list(range(1, STEPS + 1))
    assert batches(out) == batches(whole)
    assert len({batch for _, batch in batches(whole)}) == STEPS
    losses = [[record["losses"]["mlm_loss"] for record in records(folder) if "losses" in record] for folder in (whole, out)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    tally("F11", "steps whose batch is that of one process, over 1, 2, 4, 1", STEPS, STEPS)
    assert runs.finish(tmp_path / "odd", processes=3, **SHARED) == 2
    assert "micro_batches=4 cannot be shared by 3 processes: 3 or 6 would do" in runs.said(tmp_path / "odd")
