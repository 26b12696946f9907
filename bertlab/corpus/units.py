"""What there is to read: the files of every source, with their hashes, gathered to units in an order that depends on names alone.

A unit is what is read in one go, and what a run that was cut off has finished or not: a few small files of a source, a large file, or a
whole dataset. Reads every byte once, to hash it (about 1 GB/s).
"""

import difflib
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bertlab.corpus.epub import is_epub
from bertlab.corpus.files import ARCHIVES, COMPRESSIONS, NOT_TEXT, ending_of, find_files
from bertlab.corpus.sources import DATASET, File, dataset_name, files_of
from bertlab.disk import sha256_file, whole_file
from bertlab.errors import ConfigError, DataError
from bertlab.hub import REMOTE

UNIT_BYTES = 2**24  # small files are gathered to units of 16 MB: a cut-off costs seconds, and a million files are not a million writes
NAMED = 3  # files and endings in an error's one line


@dataclass(frozen=True)
class SourceFile:
    """A file of a source with what its manifest entry says of it; `file` is None for a dataset, which is read as a whole."""

    source: str
    number: int  # of the source
    file: File | None = None
    bytes: int = 0
    sha256: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """What orders documents: the name they go by, then the content."""
        return self.file.name if self.file else self.source, self.sha256


def source_files(source: str, number: int, work: Path, *, leave_out: Path | None = None) -> list[SourceFile]:
    """The files of source `number`, with their sizes and hashes, but for those in the folder `leave_out`: an output may lie in its source.
    Standard input is first written to a file in `work`.

    Raises ConfigError when it is neither on this disk nor hf:NAME, DataError when it is a folder with no file.
    """
    if source == "-" or (source.startswith("-.") and not Path(source).exists()):
        stdin = work / f"stdin{source[1:]}"
        with whole_file(stdin) as temporary, temporary.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        found = [File(stdin, stdin.name)]
    elif (files := files_of(source)) is not None:
        found = files
        if leave_out is not None and leave_out.resolve().is_relative_to(Path(source).resolve()):
            found = [each for each in files if not each.path.resolve().is_relative_to(leave_out.resolve())]
    else:
        base = source if Path(source).exists() else source.partition("#")[0]
        if not Path(base).exists():
            if not source.startswith(REMOTE):
                raise ConfigError(f"{source} does not exist: give a file, a folder, or a dataset's name as {DATASET}")
            dataset_name(base)
            return [SourceFile(source, number)]
        digests = "".join(sha256_file(file) for file in find_files([base]))
        return [SourceFile(source, number, sha256=digests)]
    return [SourceFile(source, number, file, file.path.stat().st_size, sha256_file(file.path)) for file in found]


def without(files: Iterable[SourceFile], patterns: Sequence[str]) -> tuple[list[SourceFile], dict[str, int]]:
    """The files that match no pattern, and how many each pattern takes out (the first one that matches). Datasets always stay.

    A pattern is held against the last parts of a name, that of the file or of a folder on the way to it: "*.pdf" takes files of every
    folder, "drafts" or "drafts/*" all below each "drafts". A source's own folder is not taken: its name was given to be read.
    """
    left: list[SourceFile] = []
    taken = dict.fromkeys(patterns, 0)
    for each in files:
        matching = [pattern for pattern in patterns if each.file and _takes(pattern, each.file)]
        if matching:
            taken[matching[0]] += 1
        else:
            left.append(each)
    return left, taken


def _takes(pattern: str, file: File) -> bool:
    name = PurePosixPath(file.name)
    return any(each.match(pattern) for each in (name, *name.parents[:-2]))  # the last two are the source's own folder and "."


def took_nothing(files: Iterable[SourceFile], patterns: Sequence[str]) -> list[str]:
    """Of each pattern that matches no file a line: what it is, and what to write instead."""
    names = [each.file for each in files if each.file]
    lines = []
    for pattern in patterns:
        if any(_takes(pattern, file) for file in names):
            continue
        last = PurePosixPath(pattern).name or pattern
        parts = sorted({part for file in names for part in PurePosixPath(file.name).parts[1:] or (file.name,)})
        near = [last] if any(_takes(last, file) for file in names) else difflib.get_close_matches(last, parts, n=1)
        told = f"write {near[0]}" if near else f"write a name as in {names[0].name}" if names else "leave it out"
        if any(file.name.startswith(f"{last}/") for file in names):
            told = "it is a source's own folder, so leave that out of --source"
        lines.append(f"skip {pattern} took nothing out, no file or folder in a source is named so: {told}")
    return lines


def refuse_not_text(files: Iterable[SourceFile]) -> None:
    """Raise DataError that names all files whose endings are known not to be text, the first few by name; reading would stop at one."""
    wrong = [each.file for each in files if each.file and ending_of(each.file.path) in NOT_TEXT and not is_epub(each.file.path)]
    if not wrong:
        return
    endings = {ending_of(file.path) for file in wrong}
    spelt = Counter("".join(file.path.suffixes[-2 if file.path.suffix.lower() in COMPRESSIONS else -1 :]) for file in wrong)
    are = "1 file is" if len(wrong) == 1 else f"{len(wrong):,} files are"
    names = ", ".join(file.name for file in wrong[:NAMED]) + f" and {len(wrong) - NAMED:,} more" * (len(wrong) > NAMED)
    mend = ["unpack archives"] * bool(endings & ARCHIVES) + ["convert documents to text"] * bool(endings - ARCHIVES)
    skip = " ".join(f"'*{ending}'" for ending, _ in spelt.most_common())
    raise DataError(f"{are} not text ({names}): {', '.join(mend)}, or leave them out by --skip {skip}")


@dataclass(frozen=True)
class Unit:
    """`files` of the source with this number, or with no files the source itself, a dataset. `key` names it by its content and name."""

    number: int
    source: str
    files: tuple[File, ...]
    key: str


def units_of(files: Iterable[SourceFile]) -> list[Unit]:
    """All files as units, in one order whatever the order they are given in: which of two copies comes first follows from names alone."""
    units: list[Unit] = []
    run: list[SourceFile] = []
    for each in sorted(files, key=lambda file: file.place):
        full = sum(file.bytes for file in run) >= UNIT_BYTES
        if run and (full or each.number != run[0].number or each.file is None):
            units.append(_unit(run))
            run = []
        run.append(each)
    return [*units, _unit(run)] if run else units


def _unit(run: list[SourceFile]) -> Unit:
    key = hashlib.sha256(json.dumps([file.place for file in run]).encode()).hexdigest()[:32]
    return Unit(run[0].number, run[0].source, tuple(each.file for each in run if each.file), key)
