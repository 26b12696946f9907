"""A disk that is full, cannot be written or goes away under a run (F4, F16): one line, one exit code, nothing half, and the run goes on.

Disks are small tmpfs and read-only bind mounts, which need Linux and root.
"""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.conftest import DEADLINE, Runs, Server, last_step, mistakes, saved_steps, trace

Tally = Callable[[str, str, int, int], None]
Trials = Callable[[int, int], int]
SENTENCE = "the old mill of a small town stands by the river and birds sing in the tree at night"
PAGE = 4096  # bytes, by which tmpfs counts
FULL = 28


class Disk:
    """A file system of its own at `folder`, of as many bytes as it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def mount(self, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def tmpfs(self, size: int) -> None:
        self.mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def resize(self, size: int) -> None:
        self.mount("-o", f"remount,size={size}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if shutil.which("mount") is None:
        pytest.skip("mount is not installed")
    made = Disk(tmp_path / "disk")
    yield made
    while subprocess.run(["umount", "-l", str(made.folder)], capture_output=True).returncode == 0:  # is_mount knows no bind mounts
        pass


def complaint(code: int, said: str, place: Path, words: str, wanted: int) -> str:
    """What is wrong with the end of a command, or nothing: it must give one line with the place, and the exit code."""
    lines = mistakes(said)
    right = code == wanted and len(lines) == 1 and str(place) in lines[0] and words in lines[0] and "Traceback" not in said
    return "" if right else f"exit code {code}, {said}"


def left_overs(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


def used(folder: Path) -> int:
    """The bytes that a folder takes on a tmpfs."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


# --- F4: a run ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """R, undisturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert runs.finish(out) == 0, runs.said(out)
    return out


def test_a_run_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(
    runs: Runs, whole: Path, disk: Disk, tmp_path: Path, trials: Trials, tally: Tally
) -> None:
    expected, out = trace(whole), disk.folder  # what the run says is written beside it, on another disk
    best, most = used(whole / "best"), used(whole)
    of = trials(4, 24)
    # from a disk that holds hardly a file to one on which the last thing that is written finds no room
    rooms = [4 * PAGE + (most - 5 * PAGE) * number // (of - 1) // PAGE * PAGE for number in range(of)]
    wrong: list[str] = []
    for room in rooms:
        disk.tmpfs(room)
        code = runs.finish(out)
        if problem := complaint(code, runs.said(out), out, "the disk is full", FULL):
            wrong.append(f"{room} bytes: {problem}")
        elif left := left_overs(disk.folder):
            wrong.append(f"{room} bytes: left behind {left}")
        else:
            saved_steps(out)  # each must be whole
            disk.resize(4 * most)
            code = runs.finish(out)
            if code != 0 or trace(out) != expected:
                wrong.append(f"{room} bytes: went on to another end, exit code {code}: {runs.said(out)}")
        disk.unmount()
    tally("F4", "pretrain on a full disk: one line, then on to the same end", of - len(wrong), of)
    assert not wrong
    # and the log alone: no checkpoint is due, and the first weights that are kept are on the disk
    disk.tmpfs(best + 7 * PAGE)
    code = runs.finish(out, save_every=1000, heldout_every=1000)
    assert not complaint(code, runs.said(out), out, "the disk is full", FULL)
    assert 0 < last_step(out) < 60 and not (out / "checkpoints").exists()


# --- F4: a corpus, vectors ---------------------------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_corpus_that_finds_no_room_says_so_and_is_the_same_when_there_is(
    server: Server, inputs: dict[str, str], disk: Disk, tmp_path: Path, trials: Trials, tally: Tally
) -> None:
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(f"{SENTENCE}, number {number}. {' '.join(reversed(SENTENCE.split()))}." for number in range(4000)))

    def prepare(out: Path) -> int:
        log.write_bytes(b"")
        arguments = ["prepare", f"source={source}", f"out={out}", f"tokenizer={inputs['corpus']}/tokenizer", "heldout=0.1"]
        return server.wait(server.start(arguments, log))

    log = tmp_path / "log"
    assert prepare(tmp_path / "whole") == 0, log.read_text()
    expected, size = tree(tmp_path / "whole"), source.stat().st_size
    # too little for what is read; for that and the spool; for these and the shards
    rooms = [size // 4, size // 2, *(size + size * number // 10 for number in range(1, trials(7, 9), trials(5, 1)))]
    wrong: list[str] = []
    for room in rooms:
        disk.tmpfs(room // PAGE * PAGE)
        out = disk.folder / "corpus"
        if problem := complaint(prepare(out), log.read_text(), disk.folder, "the disk is full", FULL):
            wrong.append(f"{room} bytes: {problem}")
        elif out.exists() or left_overs(disk.folder):
            wrong.append(f"{room} bytes: left behind {sorted(path.name for path in disk.folder.iterdir())}")
        else:
            disk.resize(20 * size)
            if prepare(out) != 0 or tree(out) != expected or [path.name for path in disk.folder.iterdir()] != ["corpus"]:
                wrong.append(f"{room} bytes: another corpus: {log.read_text()}")
        disk.unmount()
    tally("F4", "prepare on a full disk: one line, then the same corpus", len(rooms) - len(wrong), len(rooms))
    assert not wrong


def write_texts(path: Path, number: int) -> Path:
    path.write_text("".join(json.dumps({"text": f"the old mill number {row}", "label": "ab"[row % 2]}) + "\n" for row in range(number)))
    return path


@pytest.mark.parametrize("name", ["vectors.parquet", "vectors.npy"])
def test_vectors_that_find_no_room_say_so_and_leave_nothing(
    server: Server, inputs: dict[str, str], disk: Disk, tmp_path: Path, name: str, tally: Tally
) -> None:
    texts, log = write_texts(tmp_path / "texts.jsonl", 1500), tmp_path / "log"
    arguments = ["embed", f"model={inputs['model']}", f"input={texts}", f"output={disk.folder / name}", "device=cpu"]
    disk.tmpfs(16 * PAGE)
    code = server.wait(server.start(arguments, log))
    problem = complaint(code, log.read_text(), disk.folder, "the disk is full", FULL) or ", ".join(left_overs(disk.folder))
    tally("F4", "embed on a full disk: one line, nothing half", not problem, 1)
    assert not problem and not (disk.folder / name).exists()
    disk.resize(400 * PAGE)
    assert server.wait(server.start(arguments, log)) == 0 and (disk.folder / name).is_file()


# --- F16 ---------------------------------------------------------------------------------------------------------------------------------


def options(settings: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    runs: Runs, server: Server, inputs: dict[str, str], disk: Disk, tmp_path: Path, tally: Tally
) -> None:
    (tmp_path / "data").mkdir()
    begun = tmp_path / "data" / "begun"
    assert runs.finish(begun, steps=5) == 0, runs.said(begun)
    shutil.rmtree(begun / "model")  # as if it had been cut off at its end
    texts, log = write_texts(tmp_path / "texts.jsonl", 8), tmp_path / "log"
    disk.mount("--bind", str(tmp_path / "data"))
    disk.mount("-o", "remount,bind,ro")
    model, new = f"model={inputs['model']}", disk.folder / "new"
    commands: dict[str, tuple[list[str], Path]] = {
        "prepare": (["prepare", f"source={texts}", f"out={new}"], new),
        "finetune": (["finetune", model, f"train={texts}", f"test={texts}", f"out={new}"], new),
        "pretrain": (["pretrain", *options(runs.settings | {"out": new})], new),
        "go on": (["pretrain", *options(runs.settings | {"out": disk.folder / "begun", "steps": 5})], disk.folder / "begun"),
    }
    wrong: list[str] = []
    for name, (arguments, place) in commands.items():
        log.write_bytes(b"")
        code = server.wait(server.start(arguments, log))
        said = log.read_text()
        if problem := complaint(code, said, place, "read-only", 2):
            wrong.append(f"{name}: {problem}")
        elif said.count("\n") != 1:
            wrong.append(f"{name}: worked before it was refused: {said}")
    tally("F16", "read-only: refused before any work", len(commands) - len(wrong), len(commands))
    assert not wrong


def test_a_run_whose_folder_is_removed_ends_with_one_line_and_leaves_none(runs: Runs, tmp_path: Path, trials: Trials, tally: Tally) -> None:
    wrong: list[str] = []
    of = trials(2, 10)
    for number in range(of):
        out = tmp_path / f"run-{number}"
        pid = runs.start(out)
        end = time.monotonic() + DEADLINE
        while last_step(out) < 2 + 4 * number:
            assert time.monotonic() < end, runs.said(out)
            time.sleep(0.002)
        with contextlib.suppress(FileNotFoundError):
            out.rename(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone")
        code = runs.server.wait(pid)
        if problem := complaint(code, runs.said(out), out, "was removed while it was written to", 2):
            wrong.append(problem)
        elif out.exists():
            wrong.append(f"a half folder is left: {sorted(path.name for path in out.rglob('*'))}")
    tally("F16", "folder removed during a run: one line, no half folder", of - len(wrong), of)
    assert not wrong


def test_a_disk_is_what_it_says(disk: Disk) -> None:
    """The tests above mean something: a small disk is full when it should be, and a read-only one refuses."""
    disk.tmpfs(2 * PAGE)
    (disk.folder / "a").write_bytes(b"x" * PAGE)
    with pytest.raises(OSError, match="No space"):
        (disk.folder / "b").write_bytes(b"x" * 2 * PAGE)
    facts: Any = shutil.disk_usage(disk.folder)
    assert facts.total == 2 * PAGE
