"""Sentences of words with a tag on each: rows {tokens, tags} of JSONL and Parquet, and column files as of the CoNLL tasks.

Held in memory whole. Tags come out as IOB2 whatever they went in as (schemes.py). Which sentences go to the development split, and which of
two files overlap, follows from a hash of the words alone. Knows nothing of pieces.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of, lines
from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import id_of, refuse_answers
from bertlab.corpus.schemes import OUTSIDE, Scheme, normalised
from bertlab.corpus.tables import asked_id, kind_name, rows
from bertlab.errors import ConfigError, DataError

_DOCUMENT = "-DOCSTART-"
_WANTED = (
    "give a tag in the last column of each line, or JSONL with lists 'tokens' and 'tags'; what is labelled as a whole stands in a table "
    "(CSV, JSONL) with columns 'text' and 'label'"
)
COLUMN_FILES = {".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".tags"}  # endings of their names


@dataclass(frozen=True)
class LabelledTokens:
    """N sentences in the order of their file: `ids`, `tokens`, and where there are any `tags` in IOB2, each a list of N.

    scheme: what the tags were written in; misfits: in how many places they did not keep to it. `origin` is the file, for messages.
    """

    ids: list[str]
    tokens: list[list[str]]
    tags: list[list[str]] | None
    scheme: Scheme | None
    misfits: int
    origin: str

    def __len__(self) -> int:
        return len(self.tokens)

    def subset(self, indices: Sequence[int]) -> "LabelledTokens":
        """The sentences at `indices`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in indices],
            tokens=[self.tokens[i] for i in indices],
            tags=None if self.tags is None else [self.tags[i] for i in indices],
        )

    def text_hashes(self) -> list[str]:
        """What makes two sentences the same: the normalised sha256 of the words with a space between. Tags have no part in it."""
        return [normalised_sha256(" ".join(words)) for words in self.tokens]


# ---- reading


def read_labelled_tokens(
    path: Path | str,
    *,
    tokens: str = "tokens",
    tags: str | None = "tags",
    id: str = "id",
    dialect: Dialect = AS_NAMED,
    most: int | None = None,
) -> LabelledTokens:
    """Read JSONL or Parquet rows, or a column file: a word and its tag a line, a blank line after each sentence (compressed or not).

    In a column file columns are divided by tabs, or without any by spaces; the first is the word, the last the tag; lines that begin with
    -DOCSTART- are passed over, and so are comments ("# ..." before a sentence). Without an id column an id is "<file name>:<line>".
    With tags=None they are not looked at: words may be one text, divided at white space, in a CSV or TSV file too, and a text file is no
    column file, unless its name ends as those do (.conll, .bio, ...), but a sentence a line. `most`: so many rows are read, and no further.
    Raises ConfigError for a file that is not there, DataError (file:line) for what is missing, no list of words, or of unequal lengths.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a JSONL, Parquet or column (CoNLL) file")
    if tags is not None:
        refuse_answers(path)
    kind = kind_of(path)
    if kind == "csv" and tags is not None:
        raise DataError(f"{path}: a CSV cell holds no list of words: give JSONL, Parquet, or a file with a word and its tag a line")
    if kind in ("jsonl", "parquet") or (kind != "text" and tags is None):
        read = _table(path, tokens, tags, id, dialect)
    elif tags is None and not COLUMN_FILES & set(path.suffixes):
        read = ((f"{path.name}:{number}", (line or "").split(), None) for number, line in lines(path, "stop", Counter(), dialect))
    else:
        read = _columns(path, tags is not None, dialect)
    ids: list[str] = []
    sentences: list[list[str]] = []
    tagged: list[list[str]] = []
    for name, words, its_tags in islice(read, most):
        ids.append(name)
        sentences.append(words)
        if its_tags is not None:
            tagged.append(its_tags)
    if not sentences:
        raise DataError(f"{path}: no rows: the file holds no sentence")
    if len(tagged) < len(sentences):
        return LabelledTokens(ids, sentences, None, None, 0, str(path))
    return LabelledTokens(ids, sentences, *normalised(tagged, str(path)), str(path))


Row = tuple[str, list[str], list[str] | None]  # id, words, tags


def _table(path: Path, tokens: str, tags: str | None, id: str, dialect: Dialect) -> Iterator[Row]:
    required = {tokens: "text"} | ({} if tags is None else {tags: "label"}) | asked_id(id)
    for number, row in rows(path, columns=(*required, id), required=required, invalid_utf8="stop", tally=Counter(), dialect=dialect):
        assert row is not None, "invalid text stops"
        place = f"{path}:{number}"
        if tags is None and isinstance(row[tokens], str):
            row[tokens] = row[tokens].split()
        words = _list_of_text(row, tokens, place)
        its_tags = None if tags is None else _list_of_text(row, tags, place)
        if its_tags is not None and len(its_tags) != len(words):
            raise DataError(f"{place}: {len(words)} tokens and {len(its_tags)} tags: give every token one tag")
        yield id_of(row.get(id), f"{path.name}:{number}", place), words, its_tags


def _list_of_text(row: dict[str, Any], column: str, place: str) -> list[str]:
    values = row[column]
    if not isinstance(values, list):
        raise DataError(f"{place}: column '{column}' holds {kind_name(values)}, not a list of words")
    odd = next((value for value in values if not isinstance(value, str)), None)
    if odd is not None or None in values:
        raise DataError(f"{place}: column '{column}' has {kind_name(odd)} in its list: give text, a tag by its name")
    return values


def _columns(path: Path, needs_tags: bool, dialect: Dialect) -> Iterator[Row]:
    """The sentences of a column file. Every line has as many columns as the first, so that a comment can be told from a word."""
    table = [_cells(line or "") for _, line in lines(path, "stop", Counter(), dialect)]
    of_words = [cells for cells in table if cells and cells[0] != _DOCUMENT]
    width = len(next((cells for cells in of_words if not cells[0].startswith("#")), of_words[0] if of_words else []))
    if width == 1 and needs_tags:
        raise DataError(f"{path}: one column: {_WANTED}")
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for number, cells in enumerate([*table, []], 1):
        if not cells or cells[0] == _DOCUMENT:
            if words:
                yield f"{path.name}:{start}", words, tags if width > 1 else None
            words, tags = [], []
        elif len(cells) == width:
            start = start if words else number
            words.append(cells[0])
            tags.append(cells[-1])
        elif words or not cells[0].startswith("#"):
            uneven = f"{len(cells)} columns where the first line has {width}: is a blank line or a tag missing?"
            raise DataError(f"{path}:{number}: {uneven} (A text file holds words and tags: {_WANTED})")


def _cells(line: str) -> list[str]:
    """The columns of a line. Tabs divide where there is one, else spaces and no other white space: a word may be a no-break space."""
    if not line.strip():
        return []
    return line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]


# ---- types


def entity_types(train: LabelledTokens) -> list[str]:
    """The types of the entities, sorted. Raises DataError where there is none."""
    types = _types(train.tags or ())
    if not types:
        raise DataError(f"{train.origin}: no entity in {len(train):,} sentences: every tag is 'O'")
    return sorted(types)


def tag_names(types: Sequence[str]) -> list[str]:
    """What a model chooses from: "O", then B- and I- of every type, whether or not train has an entity of several words of it."""
    return [OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in ("B", "I"))]


def tag_ids(labelled: LabelledTokens, names: Sequence[str]) -> list[list[int]]:
    """The place in `names` of each word's tag. Raises DataError for a type that is not among them."""
    if labelled.tags is None:
        raise DataError(f"{labelled.origin}: no tags: give a file with a tag for every word")
    unknown = _types(labelled.tags) - {name[2:] for name in names if name != OUTSIDE}
    if unknown:
        known = ", ".join(f"'{name[2:]}'" for name in names if name.startswith("B-"))
        raise DataError(f"{labelled.origin}: entities of type '{min(unknown)}', which train does not have: {known}")
    place = {name: number for number, name in enumerate(names)}
    return [[place[tag] for tag in tags] for tags in labelled.tags]


def _types(sentences: Iterable[Sequence[str]]) -> set[str]:
    return {tag[2:] for tags in sentences for tag in tags if tag != OUTSIDE}
