"""strace at a process of the fork server: what it asks of the disk, and what happens when it is killed or refused at one of these calls.

A process stops itself before the part that is looked at; strace is attached, and the process goes on. A call counts from then on, by its
name: `when=3` is the third of its kind. A signal that is injected comes before the call is carried out, so that a kill at each call in
turn leaves every state that the disk goes through. Needs Linux and strace, and the right to attach it.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.reliability.conftest import DEADLINE, Server

STOP = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\n"
# Every call by which bertlab and what it uses change a disk; "?" passes over those that a processor does not have.
CHANGES = ["openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"]
CHANGES += ["write", "pwrite64", "ftruncate", "fsync", "fdatasync"]
OF_OPEN_FILES = ("write", "pwrite64", "ftruncate", "fsync", "fdatasync")
FILTER = "trace=" + ",".join(f"?{name}" for name in CHANGES)
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TOKEN = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>|"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """One call that succeeded: its name, which of its kind it was (failed ones count), the files that it names in their order, and all its
    arguments as strace writes them."""

    name: str
    number: int
    paths: list[Path]
    arguments: str


def needs_strace() -> None:
    """Skip the test where strace is not installed or may not be attached."""
    if reason := _no_strace():
        pytest.skip(reason)


@cache
def _no_strace() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        tracer = subprocess.Popen(["strace", "-p", str(sleeper.pid)], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr
        said = tracer.stderr.readline()
        sleeper.kill()
        tracer.wait()
    return "" if "attached" in said else f"strace cannot be attached: {said.strip()}"


def traced(server: Server, start: Callable[[], int], *options: str) -> int:
    """Start a process that stops itself (STOP), attach strace with `options`, let it go on; returns the exit code of the process."""
    pid = start()
    end = time.monotonic() + DEADLINE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end, f"process {pid} did not stop"
        time.sleep(0.001)
    with subprocess.Popen(["strace", "-f", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        said = tracer.stderr.readline()
        assert "attached" in said, said
        os.kill(pid, signal.SIGCONT)
        code = server.wait(pid)
        tracer.communicate()
    return code


def calls(server: Server, start: Callable[[], int], log: Path) -> list[Call]:
    """Every call of CHANGES that the process makes and that succeeds, in order."""
    assert traced(server, start, "-y", "-s", "0", "-e", FILTER, "-o", str(log)) == 0
    found: list[Call] = []
    counts: Counter[str] = Counter()
    for line in _whole_lines(log.read_text()):
        if match := _CALL.match(line):
            name, arguments, result = match.groups()
            counts[name] += 1
            if int(result) >= 0:
                found.append(Call(name, counts[name], _paths(name, arguments), arguments))
    return found


def _whole_lines(text: str) -> list[str]:
    """The lines of a log; a call that another thread's call interrupted is put together where it ends."""
    lines: list[str] = []
    begun: dict[str, str] = {}
    for line in text.splitlines():
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif "resumed>" in line and thread in begun:
            lines.append(begun.pop(thread) + line.partition("resumed>")[2])
        else:
            lines.append(line)
    return lines


def _paths(name: str, arguments: str) -> list[Path]:
    """The files that a call names; a relative name is of the open folder before it."""
    found: list[Path] = []
    folder = Path("/")
    for match in _TOKEN.finditer(arguments):
        opened, named = match.groups()
        if name in OF_OPEN_FILES:
            return [Path(opened)]
        if opened is not None:
            folder = Path(opened)
        else:
            found.append(folder / named)
    return found
