"""Labelled examples in: a table with a text (or a pair of texts) and a label, a list of labels or a number in each row.

Held in memory whole: a labelled file has up to a few million rows. Labels are text from here on: "1", "1.0" and "true" are three labels;
what they are together labels.py says. Which rows go to the development split, and which of two files overlap, follows from a hash of the
texts alone. Knows nothing of tokens.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of, lines
from bertlab.corpus.identity import normalised_sha256, ranked, share_of
from bertlab.corpus.tables import asked_id, columns_of, refuse_missing, rows, text_of
from bertlab.disk import MANIFEST, list_at, read_sealed
from bertlab.errors import BertlabError, ConfigError, DataError

_MARKS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}  # of a label that is given or not
BETWEEN_TEXTS = " \x00 "  # what no text holds, and white space normalisation leaves: ("a b", "c") is not ("a", "b c")


@dataclass(frozen=True)
class Labelled:
    """N examples in the order of their file: `ids`, `texts`, and where there are any `texts_b` and `labels`, each a list of N.

    `origin` is the file that they came from, for messages. A file whose rows have lists of labels has `label_sets` instead of `labels`.
    Where some rows have a label and others none, none is kept, and `partly_labelled` says of how many, and the first.
    """

    ids: list[str]
    texts: list[str]
    texts_b: list[str] | None
    labels: list[str] | None
    origin: str
    label_sets: list[tuple[str, ...]] | None = None
    partly_labelled: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> "Labelled":
        """The examples at `indices`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in indices],
            texts=[self.texts[i] for i in indices],
            texts_b=None if self.texts_b is None else [self.texts_b[i] for i in indices],
            labels=None if self.labels is None else [self.labels[i] for i in indices],
            label_sets=None if self.label_sets is None else [self.label_sets[i] for i in indices],
        )

    def text_hashes(self) -> list[str]:
        """What makes two examples the same text: the normalised sha256 of the text, or of the pair. The label has no part in it."""
        if self.texts_b is None:
            return [normalised_sha256(text) for text in self.texts]
        return [normalised_sha256(a + BETWEEN_TEXTS + b) for a, b in zip(self.texts, self.texts_b, strict=True)]


class Rows(Protocol):
    """What examples of every kind of task have: ids, their file, hashes of their texts, and parts that are of the same kind."""

    @property
    def ids(self) -> list[str]: ...

    @property
    def origin(self) -> str: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Sequence[int]) -> Self: ...

    def text_hashes(self) -> list[str]: ...


Cut = TypeVar("Cut", bound=Rows)


# ---- reading


def read_labelled(
    path: Path | str,
    *,
    text: str = "text",
    text_b: str | None = None,
    label: str | None = "label",
    id: str = "id",
    needs_label: bool = True,
    sets: bool = False,
    label_separator: str | None = None,
    label_columns: Sequence[str] = (),
    dialect: Dialect = AS_NAMED,
    most: int | None = None,
) -> Labelled:
    """Read a CSV, TSV, JSONL or Parquet file (compressed or not); with needs_label=False also a text file, where each line is a text.

    A column "text_b" is the second text where there is one, or the column that `text_b` names. Without an id column an id is
    "<file name>:<line number>". With needs_label=False labels are read only if every row has one, with label=None never. With sets=True a
    label may be a list (of no label, too), or a text of labels with `label_separator` between: one such row makes those of all rows
    `label_sets`. `label_columns` instead of `label`: columns of 0 and 1, each named by its label. `most`: so many rows are read, and no
    further.
    Raises ConfigError for a file that is not there, DataError (file:line) for a missing column, a missing label, a value that is no text,
    and as `refuse_answers`.
    """
    path, needs_label = Path(path), needs_label and (label is not None or bool(label_columns))
    assert needs_label or not label_columns, "what marks labels is read for them alone"
    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a CSV, TSV, JSONL or Parquet file")
    if needs_label:
        for name in label_columns or (label,):
            refuse_answers(path, name)
    if kind_of(path) == "text":
        if needs_label:
            raise DataError(
                f"{path}: a text file has no labels: give a CSV, TSV, JSONL or Parquet file with columns "
                + ", ".join(f"'{name}'" for name in (text, *(label_columns or (label,))))
            )
        texts = [line or "" for _, line in islice(lines(path, "stop", Counter(), dialect), most)]
        read = Labelled([f"{path.name}:{number}" for number in range(1, len(texts) + 1)], texts, None, None, str(path))
    else:
        read = _read_table(path, text, text_b, label, id, needs_label, sets, label_separator, label_columns, dialect, most)
    if not len(read):
        raise DataError(f"{path}: no rows: the file holds no example")
    return read


def refuse_answers(path: Path, label: str | None = None) -> None:
    """Raise DataError for a file of which the manifest beside it says that `bertlab predict` wrote it: its labels are what a model said,
    and a model scored on its own answers is always right. A file that was corrected since is refused too: in most rows it is the same.
    Not where `label` is a column of the input that was kept."""
    manifest = path.with_name(f"{path.name}.{MANIFEST}")
    try:
        said = read_sealed(manifest) if manifest.is_file() else {}
    except BertlabError:  # what nobody can read says nothing
        return
    if "task" in said and "given" in said and label not in list_at(said, "kept"):  # of vectors neither
        raise DataError(
            f"{path}: bertlab predict wrote it ({manifest.name}), its labels are a model's answers: give labels that a person gave, "
            "or to have these as labels all the same (corrected by hand, pseudo-labels) copy the file to another name"
        )


def read_scored_pairs(path: Path | str, dialect: Dialect = AS_NAMED, *, most: int | None = None) -> Labelled:
    """Pairs that a person scored: columns text, text_b, and score or label. Raises as `read_labelled`, DataError where it may be either."""
    label = label_column(path, None, scored=True, dialect=dialect)
    return read_labelled(path, text_b="text_b", label=label, dialect=dialect, most=most)


def label_column(path: Path | str, asked: str | None, *, scored: bool = False, dialect: Dialect = AS_NAMED) -> str:
    """The column of the labels: `asked`, or where nobody said "label", or of a table without it "score".

    With `scored` it is a number that is wanted, and a table that has both is refused (DataError): either may be it.
    """
    path, names = Path(path), ("score", "label") if scored else ("label", "score")
    if asked is not None or not path.is_file():
        return asked or names[0]
    columns = columns_of(path, dialect)
    there = [name for name in names if name in columns]
    if scored and len(there) == 2:
        raise DataError(
            f"{path}: columns 'score' and 'label' are both here: name the one with the numbers (--label), "
            "or in a file for --dev-pairs leave the other out"
        )
    return there[0] if there else names[0]


def _read_table(
    path: Path,
    text: str,
    text_b: str | None,
    label: str | None,
    id: str,
    needs_label: bool,
    sets: bool,
    label_separator: str | None,
    label_columns: Sequence[str],
    dialect: Dialect,
    most: int | None,
) -> Labelled:
    second = "text_b" if text_b is None else text_b
    paired = text_b is not None
    golden = dict.fromkeys(label_columns, "label_columns") or ({label: "label"} if label else {})
    required = {text: "text"} | ({second: "text_b"} if paired else {}) | (golden if needs_label else {}) | asked_id(id)
    columns = [text, second, *golden, id]
    ids: list[str] = []
    texts: list[str] = []
    texts_b: list[str] = []
    labels: list[str | tuple[str, ...] | None] = []
    table = rows(path, columns=columns, required=required, invalid_utf8="stop", tally=Counter(), dialect=dialect)
    for number, row in islice(table, most):
        assert row is not None, "invalid text stops"
        place = f"{path}:{number}"
        if not texts and text_b is None:
            paired = second in row and second != text
        if second in row and not paired and second not in (text, label, id):
            raise DataError(f"{place}: column '{second}' is here and not in the rows before: give it in every row")
        texts.append(text_of(row, text, place))
        if paired:
            refuse_missing({second: "text_b"}, row, place, before=bool(ids))  # the first row had it
            texts_b.append(text_of(row, second, place))
        if label_columns:
            labels.append(_marked(row, label_columns, place))
        else:
            value = None if label is None else row.get(label)
            labels.append(_labels_of(value, label_separator, place) if sets else label_of(value, place))
        if needs_label and labels[-1] is None:
            none = ", or an empty list where it has none" if sets and label_separator is None else ""
            raise DataError(f"{place}: the label in column '{label}' is empty or NaN: give every row a label{none}")
        ids.append(id_of(row.get(id), f"{path.name}:{number}", place))
    read = Labelled(ids, texts, texts_b if paired else None, None, str(path))
    without = [number for number, each in enumerate(labels) if each is None]
    if without:
        first = f"{len(without):,} of {len(labels):,} rows have no label (the first: {ids[without[0]]})"
        return replace(read, partly_labelled=first if len(without) < len(labels) else "")
    if any(isinstance(each, tuple) for each in labels):
        return replace(read, label_sets=[each if isinstance(each, tuple) else (str(each),) for each in labels])
    return replace(read, labels=[str(each) for each in labels])


def label_of(value: Any, place: str) -> str | None:
    """A label as text: a truth value and a number as JSON writes them. None for no label: null, not a number, or white space alone."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise DataError(f"{place}: the label is a {type(value).__name__}: give one label, text or a number, in a row")
    return str(value) if str(value).strip() else None


def _labels_of(value: Any, label_separator: str | None, place: str) -> str | tuple[str, ...] | None:
    """A list of labels as texts, each once, and so a text that is split at `label_separator`; anything else is one label, or None."""
    if isinstance(value, str) and label_separator is not None:
        value = [part.strip() for part in value.split(label_separator)] if value.strip() else []
    if not isinstance(value, list):
        return label_of(value, place)
    labels = [label_of(each, place) for each in value]
    if any(each is None for each in labels):
        raise DataError(f"{place}: a label of the list is empty: leave it out")
    found = tuple(dict.fromkeys(str(each) for each in labels))
    if len(found) < len(labels) and all(each.lower() in _MARKS for each in found):
        raise DataError(f"{place}: {str(value):.60} says of each label whether it is given: give the names of those that are")
    return found


def _marked(row: dict[str, Any], label_columns: Sequence[str], place: str) -> tuple[str, ...]:
    """The columns that hold a 1. Raises DataError for anything but 0 and 1, or true and false."""
    found = []
    for name in label_columns:
        mark = _MARKS.get(str(label_of(row[name], place)).strip().lower())
        if mark is None:
            raise DataError(f"{place}: {row[name]!r:.40} in column '{name}': a column of --label-columns holds 0 or 1")
        if mark:
            found.append(name)
    return tuple(found)


def id_of(value: Any, otherwise: str, place: str) -> str:
    """An id as text, or `otherwise` for none: null, not a number, or empty. Raises DataError for anything but text and numbers."""
    if value is None or value == "" or value != value:
        return otherwise
    if not isinstance(value, str | int | float):
        raise DataError(f"{place}: the id is a {type(value).__name__}: give text or a number")
    return str(value)


# ---- splits


def cut_dev(train: Cut, share: float, strata: Sequence[int], together: Sequence[str] | None = None) -> tuple[Cut, Cut]:
    """(train, dev): for each stratum floor(share * n) of its n distinct texts, at least one, go to dev, as long as one stays.

    strata: a number for each row, of its label for example. Rows with equal texts (or where `together` says what must not be divided,
    with an equal one of these) stay together, under the lowest number where they disagree. Which texts go follows from their hashes
    alone, not from the order of the rows.
    Raises ConfigError for a share outside (0, 1), DataError when no stratum has two texts.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the dev share is {share}: give a number between 0 and 1")
    hashes = train.text_hashes() if together is None else together
    texts_of = _texts_of(hashes, strata)
    dev: set[str] = set()
    for group in texts_of.values():
        count = min(max(1, share_of(share, len(group))), len(group) - 1)
        dev.update(ranked(group, "dev")[:count])
    if not dev:
        raise DataError(f"{train.origin}: no label has two different texts: too little to cut a dev split from, give a dev file")
    kept = [index for index, text_hash in enumerate(hashes) if text_hash not in dev]
    cut = [index for index, text_hash in enumerate(hashes) if text_hash in dev]
    return train.subset(kept), train.subset(cut)


def folds_of(rows: Rows, folds: int, strata: Sequence[int], together: Sequence[str] | None = None, *, seed: int = 0) -> list[int]:
    """The fold of each row, 0 to folds - 1: equal texts in one fold, and each stratum's texts dealt out so that no fold has two more than
    another, nor two more of all texts.

    Rows, strata and what stays together as in `cut_dev`; another seed divides otherwise. Raises DataError for fewer texts than folds.
    """
    hashes = rows.text_hashes() if together is None else together
    texts_of = _texts_of(hashes, strata)
    dealt = [text_hash for stratum in sorted(texts_of) for text_hash in ranked(texts_of[stratum], f"folds {seed}")]
    if len(dealt) < folds:
        remedy = "fewer folds" if len(dealt) > 1 else "more texts"
        raise DataError(f"{rows.origin}: {len(dealt)} different texts cannot be divided into {folds} folds: give {remedy}")
    fold_of = {text_hash: place % folds for place, text_hash in enumerate(dealt)}
    return [fold_of[text_hash] for text_hash in hashes]


def _texts_of(hashes: Sequence[str], strata: Sequence[int]) -> dict[int, list[str]]:
    """The distinct texts of each stratum, each under the lowest number where its rows disagree."""
    label_of: dict[str, int] = {}
    for text_hash, label in zip(hashes, strata, strict=True):
        label_of[text_hash] = min(label, label_of.get(text_hash, label))
    texts_of: dict[int, list[str]] = defaultdict(list)
    for text_hash, label in label_of.items():
        texts_of[label].append(text_hash)
    return texts_of


def overlap(a: Rows, b: Rows) -> int:
    """How many rows of `b` have a text that is also in `a`."""
    known = set(a.text_hashes())
    return sum(text_hash in known for text_hash in b.text_hashes())
