"""Files that are whole or absent: every write goes to a temporary name, is flushed to the disk, then renamed.

Knows nothing of what is written. A crash at any moment leaves the old file, the new one, or a name that starts
with `.tmp-`, never half of anything under its own name. A disk that is full says for which file or folder, whoever met it.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bertlab.errors import ConfigError, CorruptError, LockedError

TEMPORARY = ".tmp-"
MANIFEST = "manifest.json"
SEAL = "seal"  # a manifest's last key: the sha256 of the manifest itself
LARGEST_JSON = 2**28  # bytes; the manifest of a corpus of a million files has about as many
_NAME = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+")  # of a file: no control character, nothing that means a folder


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends well and vanishes when it does not."""
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
    try:
        with _naming_what_is_full(path):
            make_folder(path.parent)
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, parents: bool = True) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path` when the block ends well. Raises ConfigError if `path` has content.

    The folder that it is to be in is made, and with `parents` those above it."""
    refuse_used(path)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
    try:
        with _naming_what_is_full(path):
            make_folder(path.parent, parents)
            temporary.mkdir()
            yield temporary
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    file.chmod(temporary.stat().st_mode & 0o666)  # as the umask says: safetensors writes for its owner alone
                _flush(file)
            _flush(temporary)
            temporary.replace(path)  # an empty folder, as checked above, gives way
            _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder so that a crash leaves all of it or none under its name."""
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
    path.replace(temporary)
    shutil.rmtree(temporary)


def sweep(folder: Path, name: str = "", *, deep: bool = False) -> None:
    """Take away what writing to `name` (default: to anything) in `folder`, or `deep`, in those within it, left behind when it was killed.
    Nobody may be writing there, but to a folder within that has a lock of its own: that is left alone."""
    for root, folders, files in os.walk(folder):
        if Path(root) != folder and ".lock" in files:
            folders.clear()
            continue
        for entry in (Path(root, each) for each in [*folders, *files] if each.startswith(TEMPORARY)):
            if not entry.name.endswith(f"-{name}" if name else ""):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        folders[:] = [each for each in folders if not each.startswith(TEMPORARY)] if deep else []


def refuse_used(path: Path) -> None:
    """Raise ConfigError when `path` is a file or a folder with anything in it (nothing is overwritten), or cannot be written."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(f"{path} already exists: choose another --out, or remove it first")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raise ConfigError when a file or folder cannot be made at `path`: before the work, not after it."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if there != path and not there.is_dir():
        raise ConfigError(f"{path} cannot be made: {there} is a file: choose another --out")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{path} cannot be written: {there} is read-only: choose another --out, or change its permissions")


def refuse_others(path: Path, ending: str, *marks: str) -> None:
    """Raise ConfigError when a file at `path` would not end so, cannot be made, or would take the place of something that does not hold all
    `marks`, texts that stand in every file which the caller writes: that is somebody's, and nobody can make it anew."""
    if path.suffix != ending:
        raise ConfigError(f"{path}: name it NAME{ending}")
    if path.is_dir() or (path.is_file() and not _holds(path, marks)):
        raise ConfigError(f"{path} is there, and is nothing that this command writes: choose another name, or remove it first")
    refuse_unwritable(path)


def refuse_mixed(out: Path, marks: Mapping[str, str]) -> None:
    """Raise ConfigError for a folder of results that holds anything of somebody's which writing there would take away: a file that its
    manifest binds and that was changed since, a file of a name in `marks` (names as `Path.match` has them) that it does not bind, and,
    where there is no manifest, whatever is not of such a name with its mark in it, as a call leaves it that was cut off."""
    manifest = out / MANIFEST
    try:
        bound = bound_entries(read_sealed(manifest), manifest)
    except (ConfigError, CorruptError):
        bound = {}
    for path in out.rglob("*"):  # one after another: of a large folder that is none of ours the first is enough
        if not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(out).as_posix()
        mark = next((mark for pattern, mark in marks.items() if Path(name).match(pattern)), None)
        if name in bound:
            if sha256_file(path) != bound[name]["sha256"]:
                raise ConfigError(f"{path} was changed since bertlab wrote it: choose another --out, or remove it first")
        elif bound and name != MANIFEST and mark is not None:
            raise ConfigError(f"{path} is there, and was not written by bertlab: choose another --out, or move it away")
        elif not bound and (mark is None or not _holds(path, [mark])):
            raise ConfigError(f"{out} has content that is no evaluation of ours ({name}): choose another --out, or remove it first")


def _holds(path: Path, marks: Iterable[str]) -> bool:
    data = path.read_bytes() if path.stat().st_size <= LARGEST_JSON else b""
    return all(mark.encode() in data for mark in marks)


def refuse_file(folder: Path) -> None:
    """Raise ConfigError when there is a file where a folder is to be made."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, and --out is a folder: choose another --out")


def refuse_full(path: Path, needed: int) -> None:
    """Raise OSError (ENOSPC) with both numbers when the disk that `path` will be on has fewer than `needed` bytes left."""
    free = shutil.disk_usage(next(each for each in path.absolute().parents if each.is_dir())).free
    if free < needed:
        numbers = f"{needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({numbers})", str(path))


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or the user's share of it."""
    # safetensors and others pass the system's words on in exceptions of their own; numpy says how much of an array it could write
    words = (os.strerror(errno.ENOSPC), "requested and")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in str(error) for word in words)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused: JSON has neither."""
    write_text(path, _as_json(value))


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of ours. Raises CorruptError with the place when it cannot be parsed, ConfigError when it is not there."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CorruptError(f"{path}: over {LARGEST_JSON >> 20} MB of JSON, which bertlab never writes")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: is {path.parent} the right folder?") from None
    except RecursionError:
        raise CorruptError(f"{path}: not valid JSON (nested too deep)") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptError(f"{path}: not valid JSON ({error})") from None
    except ValueError as error:
        if isinstance(error, CorruptError):
            raise
        raise CorruptError(f"{path}: not valid JSON (a number of thousands of digits)") from None


def read_object(path: Path) -> dict[str, Any]:
    """`read_json` of a file that must hold an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise CorruptError(f"{path}: not a JSON object")
    return value


def write_sealed(path: Path, facts: dict[str, Any]) -> None:
    """Write a JSON object that binds itself too: its last key is the sha256 of the file's own bytes, made while that key is empty."""
    assert SEAL not in facts
    blank = _as_json(facts | {SEAL: ""})
    write_json(path, facts | {SEAL: hashlib.sha256(blank.encode()).hexdigest()})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote. Raises CorruptError when any byte of it is another, ConfigError when it is not there."""
    value = read_json(path)
    seal = value.get(SEAL) if isinstance(value, dict) else None
    if not isinstance(seal, str) or len(seal) != 64:
        raise CorruptError(
            f"{path} has no seal: it is damaged, or of an earlier version of bertlab: copy the folder again or make it again"
        )
    before, _, behind = path.read_bytes().rpartition(seal.encode())
    if hashlib.sha256(before + behind).hexdigest() != seal:
        raise CorruptError(f"{path} is not the file that was written (its own sha256 differs): copy the folder again or make it again")
    return value


def text_at(facts: Any, *keys: str) -> str | None:
    """The text at facts[key][key]..., or None where there is none."""
    for key in keys:
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts if isinstance(facts, str) else None


def list_at(facts: Any, *keys: str) -> list[Any]:
    """The list at facts[key][key]..., or an empty one."""
    for key in keys:
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts if isinstance(facts, list) else []


def texts_at(facts: Any, *keys: str) -> dict[str, str] | None:
    """The dictionary of texts at facts[key][key]..., or None where there is none."""
    for key in keys:
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts if isinstance(facts, dict) and all(isinstance(value, str) for value in facts.values()) else None


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(root: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file under `root`, by its name from there: what a manifest binds. In the order of the names."""
    return hash_some(root, [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()])


def hash_some(root: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The same of the named files alone: of a folder that may hold others."""
    return {name: {"bytes": (root / name).stat().st_size, "sha256": sha256_file(root / name)} for name in names}


def inside(root: Path, name: object) -> Path:
    """The path of what a manifest under `root` calls `name`. Raises CorruptError for what could lead out of `root` or is no file's name."""
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(_NAME.fullmatch(part) and len(part.encode()) <= 255 for part in parts):
        raise CorruptError(
            f"{root}: the manifest names {name!r:.300}, which is outside the folder, or no name of a file: make the folder again"
        )
    return root.joinpath(*parts)


def bound_entries(facts: dict[str, Any], place: Path) -> dict[str, dict[str, Any]]:
    """What a manifest (read from `place`) binds: size and sha256 by name. Raises CorruptError when it is no manifest of ours."""
    try:
        return {name: {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])} for name, entry in facts["files"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CorruptError(f"{place} is no manifest of ours: copy the folder again or make it again") from None


def verify_files(root: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Raise CorruptError for the first file under `root` that is not, byte for byte, the one in `entries` (as `hash_files` made them)."""
    for name, entry in entries.items():
        path = inside(root, name)
        if not path.is_file():
            raise CorruptError(f"{path} is missing: copy the folder again or make it again")
        if path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
            raise CorruptError(f"{path} is not the file that was written (size or sha256 differs): copy the folder again or make it again")


def verify_file(path: Path, sha256: str) -> None:
    """Raise CorruptError when the bytes of `path` have another sha256: its manifest then says what it was."""
    if sha256_file(path) != sha256:
        raise CorruptError(f"{path} is not the file that was written (its sha256 differs): copy the folder again or make it again")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` (flock: the kernel frees it when the process dies). Raises LockedError at once if held.

    What a killed holder left half-written in it is taken away, and in the end a folder in which nothing but the lock is left. Raises
    ConfigError for a file, for a folder that cannot be written, and where it is found to have been removed meanwhile.
    """
    refuse_file(folder)
    refuse_unwritable(folder)
    with _lock(folder) as stream:
        # A forked child has the descriptor too, and the lock lasts until the last copy is closed: workers may outlive a killed parent.
        os.register_at_fork(after_in_child=stream.close)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        sweep(folder)
        try:
            yield
        except Exception as error:  # each library has its own for a path that is gone, and so have we: of a file that does not exist
            if _is_held(folder, stream):
                raise
            raise ConfigError(f"{folder} was removed while it was written to: nothing is left to go on from, start again") from error
        finally:
            if folder.is_dir() and [entry.name for entry in folder.iterdir()] == [".lock"]:
                shutil.rmtree(folder)


def append_text(path: Path) -> Any:
    """Open a file of ours to append lines to: never through a link, which would write to somebody else's file."""
    return open(path, "a", encoding="utf-8", opener=_opener)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _lock(folder: Path) -> IO[str]:
    """The lock of `folder`, open and held. One that its last holder has meanwhile taken away with the folder would lock nobody out."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stream = os.fdopen(_opener(str(folder / ".lock"), os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_held(folder, stream):
                return stream
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "?"
            stream.close()
            raise LockedError(f"{folder} is in use by process {holder}: wait for it or choose another --out") from None
        stream.close()


def _is_held(folder: Path, stream: IO[str]) -> bool:
    """Whether the lock that is open is still that of `folder`: not so once it was removed, even if one of that name has been made again."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), (folder / ".lock").stat())
    except FileNotFoundError:
        return False


@contextmanager
def _naming_what_is_full(path: Path) -> Iterator[None]:
    """Let the error of a full disk name `path`: some name a temporary one, and most none."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def make_folder(folder: Path, parents: bool = True) -> None:
    """Make `folder` and those above it that are not there, to last: a new name is on the disk when the folder that holds it is flushed.

    Without `parents` FileNotFoundError is raised where the folder above is not there; always where a temporary folder of ours has gone: it
    went with the folder that it was in, which is not to come back."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    if any(each.name.startswith(TEMPORARY) for each in new):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    folder.mkdir(parents=parents, exist_ok=True)
    for each in reversed(new):
        _flush(each.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
