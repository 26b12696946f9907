"""Texts with their ids from any file, streamed: a line of a text file is a text, a row of a table is one.

An empty line is a text too, so that rows and lines agree. In runs of a bounded number of texts and characters, each known by its hash: what
is done a run at a time in bounded memory, and goes on where it was cut off. Knows nothing of what is done with them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of, lines
from bertlab.corpus.labelled import id_of, label_of
from bertlab.corpus.sources import File
from bertlab.corpus.tables import asked_id, rows, text_of
from bertlab.corpus.wikipedia import is_dump
from bertlab.errors import DataError

RUN_CHARACTERS = 2**22  # a run of long texts ends here: 4 to 16 MB


@dataclass(frozen=True)
class Run:
    """Neighbouring texts: `number` is the run's place among all, `sha256` of ids and texts."""

    number: int
    ids: list[str]
    texts: list[str]
    sha256: str


def texts(files: Iterable[File], *, text: str = "text", id: str = "id", dialect: Dialect = AS_NAMED) -> Iterator[tuple[str, str]]:
    """(id, text) of every line or row, in order. Without an id column an id is "<file name>:<line number>".

    Raises DataError (file:line) for what is not UTF-8, not a table of its kind, or no text in column `text`, ColumnError for a table
    without a column that was named.
    """
    return ((found, said) for found, said, _ in labelled_texts(files, text=text, id=id, dialect=dialect))


def labelled_texts(
    files: Iterable[File], *, text: str = "text", id: str = "id", label: str | None = None, dialect: Dialect = AS_NAMED
) -> Iterator[tuple[str, str, str | None]]:
    """The same with the label in column `label`, of several their list; None in a text file, and for what is no label."""
    for file in files:
        if is_dump(file.path):
            raise DataError(f"{file.path}: a Wikipedia dump is mark-up: make a corpus of it (bertlab prepare), or give plain texts")
        if kind_of(file.path) == "text":
            for number, line in lines(file.path, "stop", Counter(), dialect):
                yield f"{file.name}:{number}", line or "", None
            continue
        columns = (text, id) if label is None else (text, id, label)
        required = {text: "text"} | asked_id(id)
        table = rows(file.path, columns=columns, required=required, invalid_utf8="stop", tally=Counter(), dialect=dialect)
        for number, row in table:
            assert row is not None, "invalid text stops"
            place = f"{file.path}:{number}"
            labelled = None if label is None else _label_in(row.get(label))
            yield id_of(row.get(id), f"{file.name}:{number}", place), text_of(row, text, place), labelled


def _label_in(value: Any) -> str | None:
    several = value if isinstance(value, list) else [value]
    known = [label_of(each, "") for each in several if isinstance(each, str | int | float)]
    return "; ".join(each for each in known if each is not None) or None


def runs(pairs: Iterable[tuple[str, str]], most: int) -> Iterator[Run]:
    """(id, text) pairs in runs of `most` texts, or fewer where they are long."""
    ids: list[str] = []
    found: list[str] = []
    number, characters, digest = 0, 0, hashlib.sha256()
    for id, text in pairs:
        ids.append(id)
        found.append(text)
        characters += len(text)
        digest.update(f"{id}\0{text}\0".encode())  # NUL is in no text that was read
        if len(found) == most or characters >= RUN_CHARACTERS:
            yield Run(number, ids, found, digest.hexdigest())
            ids, found, number, characters, digest = [], [], number + 1, 0, hashlib.sha256()
    if found:
        yield Run(number, ids, found, digest.hexdigest())
