"""Files that are whole or absent, and locks that the kernel keeps."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import bertlab
from bertlab.disk import (
    hash_files,
    locked,
    read_json,
    read_sealed,
    refuse_full,
    refuse_others,
    refuse_unwritable,
    sweep,
    verify_files,
    whole_file,
    whole_folder,
    write_json,
    write_sealed,
)
from bertlab.errors import ConfigError, CorruptError, LockedError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_or_not_at_all_and_replaces_nothing(tmp_path):
    path = tmp_path / "made"
    with pytest.raises(RuntimeError), whole_folder(path) as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("whole")
    assert (path / "a").read_text() == "whole"
    with pytest.raises(ConfigError, match="already exists"), whole_folder(path):
        pass


def test_nan_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_every_changed_file_is_found(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"")
    entries = hash_files(tmp_path)
    assert list(entries) == ["a", "b/c"]
    verify_files(tmp_path, entries)
    (tmp_path / "a").write_bytes(b"12346")
    with pytest.raises(CorruptError, match="a is not the file"):
        verify_files(tmp_path, entries)
    (tmp_path / "a").unlink()
    with pytest.raises(CorruptError, match="a is missing"):
        verify_files(tmp_path, entries)


def test_a_locked_folder_is_refused_and_an_empty_one_taken_away(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        with pytest.raises(LockedError, match="in use by process"), locked(folder):
            pass
        (folder / "config.yaml").write_text("")
    assert folder.is_dir()
    with pytest.raises(ConfigError), locked(tmp_path / "other"):
        raise ConfigError("a mistake found before anything was written")
    assert not (tmp_path / "other").exists()


KILLED_WITH_A_CHILD = """
import os, signal, sys, time
from pathlib import Path
from bertlab.disk import locked

with locked(Path(sys.argv[1])):
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b".")
        time.sleep(60)
    os.read(heard, 1)  # it runs, so what is done at a fork is done
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_where_a_folder_is_to_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(ConfigError, match="notes.txt is a file, and --out is a folder: choose another --out"),
        locked(tmp_path / "notes.txt"),
    ):
        raise AssertionError("it was held")
    assert (tmp_path / "notes.txt").read_text() == "mine" and [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_lock_ends_with_its_holder_even_if_a_child_lives_on(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WITH_A_CHILD, str(tmp_path / "run")], env=environment, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        child = int(holder.stdout.readline())
        assert holder.wait() == -signal.SIGKILL
        try:
            with locked(tmp_path / "run"):
                os.kill(child, 0)  # it is there
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_lock_of_a_folder_that_was_taken_away_meanwhile_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tries = tmp_path / "run", list[int]()
    flock = fcntl.flock

    def late(stream: Any, how: int) -> None:
        tries.append(how)
        if len(tries) == 1:
            shutil.rmtree(folder)  # its last holder ends between our opening the file and our locking it
        flock(stream, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(folder):
        assert len(tries) == 2
        with pytest.raises(LockedError, match=f"in use by process {os.getpid()}"), locked(folder):
            pass


def test_a_lock_takes_left_overs_away_and_a_refused_one_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / ".tmp-0123-model").mkdir(parents=True)
    (folder / ".tmp-0123-model" / "half").write_text("half")
    (folder / ".tmp-4567-config.yaml").write_text("half")
    (folder / "mine.tmp-1").write_text("mine")
    with locked(folder):
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "mine.tmp-1"]
        (folder / ".tmp-89-b").write_text("being written")
        with pytest.raises(LockedError), locked(folder):
            pass
        assert (folder / ".tmp-89-b").exists()


def test_left_overs_of_one_name_are_told_from_those_of_another(tmp_path: Path) -> None:
    for name in (".tmp-01-a[1]", ".tmp-02-b", "-a[1]"):
        (tmp_path / name).write_text("")
    sweep(tmp_path, "a[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-a[1]", ".tmp-02-b"]
    sweep(tmp_path / "absent")


def test_a_folder_removed_while_it_is_written_to_is_said_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="run was removed while it was written to") as caught, locked(folder):
        shutil.rmtree(folder)
        (folder / "inputs.json").read_text()
    assert "\n" not in str(caught.value) and not folder.exists()
    with pytest.raises(FileNotFoundError, match="other"), locked(folder):
        (tmp_path / "other").read_text()
    with pytest.raises(ConfigError, match="run was removed while it was written to"), locked(folder):
        shutil.rmtree(folder)
        read_json(folder / "manifest.json")  # whose own words would blame the name of the folder
    with pytest.raises(ConfigError, match="is .* the right folder"), locked(folder):
        read_json(tmp_path / "other.json")


def test_a_folder_made_again_by_a_thread_of_the_run_was_removed_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="run was removed while it was written to"), locked(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "inputs.json").read_text()


def test_a_deep_sweep_leaves_alone_what_has_a_lock_of_its_own(tmp_path: Path) -> None:
    for place in ("predictions", "other/seeds", ".tmp-1-model/inner"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / ".tmp-2-a").write_text("half")
    (tmp_path / "other" / ".lock").write_text("1")  # a run within the run's folder, that may be at work
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "predictions"]
    sweep(tmp_path, deep=True)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(".tmp-*")] == ["other/seeds/.tmp-2-a"]


def test_a_folder_is_made_in_one_that_has_gone_only_where_it_may(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "run" / "checkpoints" / "a", parents=False):
        pass
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with whole_folder(tmp_path / "run" / "checkpoints" / "a", parents=False):
        pass
    assert (tmp_path / "run" / "checkpoints" / "a").is_dir()


# --- disks that are full or cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/x/.tmp-1-a"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        OSError("48000 requested and 16352 written"),
    ],
)
def test_whoever_finds_the_disk_full_the_file_or_folder_is_named(tmp_path: Path, error: Exception) -> None:
    for writing in (whole_file, whole_folder):
        with pytest.raises(OSError) as caught, writing(tmp_path / "deep" / "a"):
            raise error
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "deep" / "a"))
        assert list((tmp_path / "deep").iterdir()) == []
    with pytest.raises(OSError, match="refused") as caught, whole_file(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "refused")
    assert caught.value.filename is None


def test_too_little_room_is_said_with_both_numbers_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 5_000_000) if path == tmp_path else pytest.fail(path))
    refuse_full(tmp_path / "not" / "yet", 5_000_000)
    with pytest.raises(OSError, match=r"5\.1 MB are needed, 5\.0 MB are free") as caught:
        refuse_full(tmp_path / "not" / "yet", 5_100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "not" / "yet"))


def test_what_cannot_be_written_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere but on a read-only disk
    for refused in (refuse_unwritable, lambda path: whole_folder(path).__enter__(), lambda path: locked(path).__enter__()):
        with pytest.raises(ConfigError, match=f"{tmp_path} is read-only") as caught:
            refused(tmp_path / "deep" / "run")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file"):
        refuse_unwritable(tmp_path / "file" / "run")
    monkeypatch.chdir(tmp_path)
    refuse_unwritable(Path("new") / "run")


# --- sealed manifests -------------------------------------------------------------------------------------------------------------------


def test_only_what_holds_the_marks_of_its_kind_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    refuse_others(path, ".json", '"findings"')
    path.write_text('{"findings": []}')
    refuse_others(path, ".json", '"findings"')
    path.write_text('{"labels": []}')
    (tmp_path / "folder.json").mkdir()
    for place, words in (
        (path, "is nothing that this command writes"),
        (tmp_path / "folder.json", "is there"),
        (tmp_path / "f.txt", "NAME.json"),
    ):
        with pytest.raises(ConfigError, match=words):
            refuse_others(place, ".json", '"findings"')


def test_a_sealed_file_comes_back_and_is_plain_json_with_its_own_hash(tmp_path: Path) -> None:
    facts = {"schema": 1, "files": {"a": {"bytes": 1, "sha256": "0" * 64}}, "name": "café"}
    write_sealed(tmp_path / "manifest.json", facts)
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    found = read_sealed(tmp_path / "manifest.json")
    assert found == json.loads(text) and list(found)[-1] == "seal" and {**facts, "seal": found["seal"]} == found
    assert hashlib.sha256(text.replace(found["seal"], "").encode()).hexdigest() == found["seal"]


def test_any_byte_of_a_sealed_file_that_is_another_or_gone_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_sealed(path, {"files": {"a": 1}, "name": "b"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(CorruptError, match="manifest.json") as caught:
                read_sealed(path)
            assert "\n" not in str(caught.value)
        for damaged in (whole[:place], whole[:place] + whole[place + 1 :], whole[:place] + b" " + whole[place:]):
            path.write_bytes(damaged)
            with pytest.raises(CorruptError):
                read_sealed(path)


@pytest.mark.parametrize("text", ["[]", "7", "{}", '{"seal": null}', '{"seal": "00"}', '{"files": {}}'])
def test_what_was_never_sealed_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptError, match="has no seal"):
        read_sealed(tmp_path / "manifest.json")


def test_all_is_flushed_before_it_has_its_name_and_its_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the machine, too, leaves the old or the new: the order is contents, folder, name, the folder that holds the name."""
    done: list[str] = []
    true_flush, true_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        opened = os.fstat(descriptor)
        path = next(path for path in [tmp_path, *tmp_path.rglob("*")] if os.path.samestat(path.stat(), opened))
        done.append(f"flush {path.name.partition('-')[0] if path.name.startswith('.tmp-') else path.name}")
        true_flush(descriptor)

    def replace(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return true_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    with whole_file(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert done == ["flush .tmp", "name file", f"flush {tmp_path.name}"]
    done.clear()
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a").write_text("x")
    assert done[-2:] == ["name folder", f"flush {tmp_path.name}"] and set(done[:-2]) == {"flush a", "flush inner", "flush .tmp"}
