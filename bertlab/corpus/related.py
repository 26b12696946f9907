"""Texts to learn likeness from: single texts, pairs that mean the same, triplets with hard negatives, or texts with classes.

    sentences   text                          a text file, or a table with a column of texts
    pairs       text, text_b                  the two mean the same: a label or score would contradict that, and is refused
    triplets    text, text_b, negative        and the third does not
    classes     text, label                   texts of one label mean the same

Held in memory whole: such a file has up to a few million rows. Knows nothing of tokens.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of, lines
from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import BETWEEN_TEXTS, id_of, label_of
from bertlab.corpus.tables import refuse_missing, rows, text_of
from bertlab.errors import ConfigError, DataError

Kind = Literal["sentences", "pairs", "triplets", "classes"]
SCORE = "score"  # the column of pairs that a person scored


@dataclass(frozen=True)
class Names:
    """The columns of a table, and how it is written."""

    text: str = "text"
    text_b: str = "text_b"
    negatives: tuple[str, ...] = ("negative",)
    label: str = "label"
    id: str = "id"
    dialect: Dialect = AS_NAMED


@dataclass(frozen=True)
class Related:
    """n rows: `columns` of n texts each (anchors, positives, negatives, ...), of classes their labels, and ids."""

    kind: Kind
    columns: list[list[str]]
    labels: list[str] | None
    ids: list[str]
    origin: str

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int]) -> "Related":
        """The rows at `indices`, in that order."""
        return replace(
            self,
            columns=[[column[i] for i in indices] for column in self.columns],
            labels=None if self.labels is None else [self.labels[i] for i in indices],
            ids=[self.ids[i] for i in indices],
        )

    def text_hashes(self) -> list[str]:
        """The normalised sha256 of each row's text, or of its pair."""
        return [normalised_sha256(BETWEEN_TEXTS.join(texts)) for texts in zip(*self.columns[:2], strict=True)]

    def anchor_hashes(self) -> list[str]:
        """The normalised sha256 of each row's first text: rows of one anchor belong together."""
        return [normalised_sha256(text) for text in self.columns[0]]


def read_related(path: Path | str, kind: Kind | None, names: Names, *, most: int | None = None) -> Related:
    """Read a file; of what kind it is follows, with None, from the columns of its first row. `most`: so many rows are read, and no further.

    Raises ConfigError for a file that is not there, DataError (file:line) for a missing column, a value that is no text, an empty label, or
    pairs with labels.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a text, CSV, TSV, JSONL or Parquet file")
    if kind_of(path) == "text":
        if kind not in (None, "sentences"):
            raise DataError(f"{path}: a text file has sentences alone: give a table for {kind}, with its columns")
        there = ((number, line) for number, line in lines(path, "stop", Counter(), names.dialect) if line and line.strip())
        numbered = list(islice(there, most))
        read = Related("sentences", [[line for _, line in numbered]], None, [f"{path.name}:{number}" for number, _ in numbered], str(path))
    else:
        read = _read_table(path, kind, names, most)
    if len(read) < 2:
        raise DataError(f"{path}: {len(read)} texts: likeness is learnt from two or more")
    return read


def _read_table(path: Path, kind: Kind | None, names: Names, most: int | None) -> Related:
    wanted = (names.text, names.text_b, *names.negatives, names.label, names.id)
    columns: list[list[str]] = []
    labels: list[str] = []
    ids: list[str] = []
    used = _roles(kind or "sentences", names)
    table = rows(path, columns=wanted, required=dict(used), invalid_utf8="stop", tally=Counter(), dialect=names.dialect)
    for number, row in islice(table, most):
        assert row is not None, "invalid text stops"
        place = f"{path}:{number}"
        if not ids:
            kind = kind or _kind_of(row, names, place)
            used = _roles(kind, names)
            columns = [[] for _, role in used if role != "label"]
        refuse_missing(dict(used), row, place, before=bool(ids))
        for column, (name, _) in zip(columns, used, strict=False):  # a label comes last
            column.append(text_of(row, name, place))
        if kind == "classes":
            label = label_of(row.get(names.label), place)
            if label is None:
                raise DataError(f"{place}: no label in column '{names.label}': give every row its class")
            labels.append(label)
        ids.append(id_of(row.get(names.id), f"{path.name}:{number}", place))
    return Related(kind or "sentences", columns or [[]], labels if kind == "classes" else None, ids, str(path))


def _roles(kind: Kind, names: Names) -> list[tuple[str, str]]:
    """The columns that a kind has, each with what it is: its texts in order, then a label."""
    pair = [(names.text, "text"), (names.text_b, "text_b")]
    return {
        "sentences": pair[:1],
        "pairs": pair,
        "triplets": [*pair, *((name, "negatives") for name in names.negatives)],
        "classes": [*pair[:1], (names.label, "label")],
    }[kind]


def _kind_of(row: dict[str, Any], names: Names, place: str) -> Kind:
    """By the columns of a row. Raises DataError for pairs with a label or a score: some of them may mean other things."""
    if names.text_b in row:
        if all(name in row for name in names.negatives):
            return "triplets"
        if said := next((name for name in (names.label, SCORE) if name in row), None):
            raise DataError(
                f"{place}: pairs with a column '{said}': keep the pairs that mean the same, and say so by --kind pairs "
                "(scored pairs to choose by are --dev-pairs)"
            )
        return "pairs"
    return "classes" if names.label in row else "sentences"
