"""What a link of the chain is, and the two ways to check one: the files that a manifest binds, and what a hash leads to elsewhere.

Knows no kind of folder (bertlab/training/chain.py does) and reads every byte that it vouches for.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.disk import MANIFEST, bound_entries, inside, read_sealed, sha256_file, verify_files
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.tokens import tokenizer as tokenizers

Status = Literal["ok", "differs", "absent"]


@dataclass(frozen=True)
class Link:
    """One link of the chain: `name` (corpus, tokenizer, run, ...), whether it holds, and in `message` what, where and what to do."""

    status: Status
    name: str
    message: str


Links = Iterator[Link]
# a part of the chain that also tells what the next part needs: a manifest, or None where it cannot be trusted
Facts = Generator[Link, None, dict[str, Any] | None]


@dataclass(frozen=True)
class Search:
    """Where else to look for what a link names, and the folders that were followed already."""

    places: Sequence[Path]
    seen: set[Path]

    def is_new(self, root: Path) -> bool:
        """Whether `root` is met for the first time."""
        known = root.resolve() in self.seen
        self.seen.add(root.resolve())
        return not known


# ---- the files of one folder


def bound_files(root: Path, what: str, remedy: str, *, manifest: Path | None = None, closed: bool = True) -> Facts:
    """Each file that the manifest binds; where it is `closed`, a file beyond them is damage too. Returns the manifest."""
    place = manifest or root / MANIFEST
    try:
        facts = read_sealed(place)
        entries = bound_entries(facts, place)
    except ConfigError:
        yield Link("differs", what, f"{place} is missing: {remedy}")
        return None
    except CorruptError as error:
        yield Link("differs", what, str(error))
        return None
    damage = 0
    for name, entry in entries.items():
        try:
            verify_files(root, {name: entry})
        except (CorruptError, OSError) as error:
            damage += 1
            yield Link("differs", what, str(error) if isinstance(error, CorruptError) else f"{root / name} cannot be read: {remedy}")
    for path in sorted(root.rglob("*")) if closed else ():
        name = path.relative_to(root).as_posix()
        if path.is_file() and path != place and name not in entries and not name.startswith("."):
            damage += 1
            yield Link("differs", what, f"{path} is none of the files that were written: move it away")
    if damage:
        return None
    size = sum(int(entry["bytes"]) for entry in entries.values())
    yield Link("ok", what, f"{root}: {len(entries)} files, {size / 1e6:,.1f} MB" if manifest is None else f"{', '.join(entries)} in {root}")
    return facts


def tokenizer_of(folder: Path, expected: str | None, said_by: str, remedy: str) -> Links:
    """The vocabulary and rules that a folder holds, against the sha256 that something else remembers."""
    try:
        found = tokenizers.load(str(folder)).sha256
    except BertlabError as error:
        yield Link("differs", "tokenizer", f"{error}")
        return
    if expected is None:
        yield Link("absent", "tokenizer", f"{folder}: {said_by} does not say which tokenizer it was made with")
    elif found != expected:
        yield Link("differs", "tokenizer", f"{folder} holds another tokenizer than {said_by} says: {remedy}")
    else:
        yield Link("ok", "tokenizer", f"{folder}: the one that {said_by} names")


# ---- what leads to another folder or file


def reached(
    what: str, recorded: str, matches: Callable[[Path], bool], named_by: Path, search: Search
) -> Generator[Link, None, Path | None]:
    """What `named_by` was made from, found by its hash: where it was, beside `named_by`, or among the folders given. Returns its place."""
    parts = Path(recorded).parts
    beside = [named_by.parent.joinpath(*parts[-count:]) for count in (1, 2, 3) if len(parts) >= count]
    given = [place for folder in search.places for place in (folder, folder / "model")]
    for place in (Path(recorded), *beside, *given):
        if matches(place):
            yield Link("ok", what, f"{place}: what {named_by} was made from")
            return place
    if Path(recorded).exists():
        remedy = "put the right one back, or name its folder too (--folder ONE OTHER)"
        yield Link("differs", what, f"{recorded} is not what {named_by} was made from (its sha256 differs): {remedy}")
        return Path(recorded)
    where = "on the hub, which is not asked" if recorded.startswith("hf:") else "not there"
    yield Link("absent", what, f"{recorded} is {where}, so that {named_by} is followed no further: name its new place too (--folder)")
    return None


def is_file(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def is_bound(folder: Path, name: str, sha256: str) -> bool:
    """Whether the file that a manifest calls `name` is in `folder` as it says; a name that leads out of it is nobody's."""
    try:
        return is_file(inside(folder, name), sha256)
    except CorruptError:
        return False


def from_file(what: str, recorded: str, sha256: str | None, named_by: Path, search: Search) -> Links:
    yield from reached(what, recorded, lambda path: is_file(path, sha256), named_by, search)


def from_files(what: str, recorded: str, files: dict[str, str], named_by: Path, search: Search) -> Links:
    """From an output to the folder whose `files` it was made from."""
    yield from reached(
        what, recorded, lambda folder: all(is_file(folder / name, sha256) for name, sha256 in files.items()), named_by, search
    )
