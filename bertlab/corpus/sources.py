"""Documents from anything that holds text: text files, JSONL, CSV, TSV, Parquet, folders of them, and what `datasets` can read.

Streams: one document (one row group of a Parquet file) is in memory at a time. Only a source that begins with "hf:" may use a network.
Knows nothing of cleaning, duplicates or sentences: documents without text are handed on, and the caller counts and drops them.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.files import InvalidUtf8, find_files, kind_of, lines
from bertlab.corpus.tables import first_line, kind_name, missing_column, rows, text_of, without_surrogates
from bertlab.errors import ConfigError, DataError

DocumentEnd = Literal["blank_line", "file"]

REMOTE = "hf:"
SAVED_DATASET = ("state.json", "dataset_dict.json")  # what save_to_disk leaves in the folder of one split, of a dict of splits


@dataclass(frozen=True)
class Document:
    """A text with its name; paragraphs are separated by "\\n".

    `id` is "<file name>:<line number>", "<file name>" where a file is one document, or what the id column holds (not checked to be
    unique); `source` is the file name, or the name of a `datasets` source. A file in a folder is named by its path from that folder,
    the folder's own name first. `title` and `licence` are empty where the source names none.
    """

    id: str
    source: str
    text: str
    title: str = ""
    licence: str = ""


@dataclass(frozen=True)
class _How:
    """The options of `documents`, handed down."""

    text_column: str
    id_column: str
    document_end: DocumentEnd
    invalid_utf8: InvalidUtf8
    tally: Counter[str]


def documents(
    source: str,
    *,
    text_column: str = "text",
    id_column: str = "id",
    document_end: DocumentEnd = "blank_line",
    invalid_utf8: InvalidUtf8 = "replace",
    tally: Counter[str],
) -> Iterator[Document]:
    """The documents of a source: a file, a folder of files, a folder of `datasets.save_to_disk`, or "hf:NAME[:CONFIG][#SPLIT]".

    In a text file a blank line ends a document and each line is a paragraph ("blank_line"), or the file is a document, blank lines
    separate paragraphs and the lines of one are joined by a space ("file"). In a table a row is a document.
    tally["invalid_utf8"] counts replaced characters (or dropped lines and cells), tally["dropped_invalid_utf8"] documents dropped for them.
    Raises ConfigError for a source or split that is not there, DataError (file:line) for content that cannot be used.
    """
    how = _How(text_column, id_column, document_end, invalid_utf8, tally)
    path = Path(source)
    if not path.exists():
        yield from _dataset_documents(source, how)
    elif any((path / name).is_file() for name in SAVED_DATASET):
        yield from _saved_documents(source, "", how)
    elif path.is_dir():
        for file in find_files([source]):
            name = str(Path(path.resolve().name) / file.relative_to(path))
            yield from _file_documents(file, name, how)
    else:
        yield from _file_documents(path, path.name, how)


# ---- files


def _file_documents(path: Path, name: str, how: _How) -> Iterator[Document]:
    if kind_of(path) == "text":
        if how.document_end not in ("blank_line", "file"):
            raise ConfigError(f"unknown document end '{how.document_end}': choose blank_line or file")
        read = _blank_line_documents if how.document_end == "blank_line" else _whole_file_document
        yield from read(path, name, how)
        return
    table = rows(path, columns=(how.text_column, how.id_column), required=how.text_column, invalid_utf8=how.invalid_utf8, tally=how.tally)
    yield from _row_documents(table, str(path), name, how)


def _blank_line_documents(path: Path, name: str, how: _How) -> Iterator[Document]:
    """The format of BERT's own create_pretraining_data. Several blank lines end one document."""
    paragraphs: list[str] = []
    first, damaged = 0, False
    for number, line in itertools.chain(lines(path, how.invalid_utf8, how.tally), [(0, "")]):
        if line is None or line.strip():
            first = first or number
            damaged = damaged or line is None
            paragraphs.append(line or "")
        elif first:
            if damaged:
                how.tally["dropped_invalid_utf8"] += 1
            else:
                yield Document(f"{name}:{first}", name, "\n".join(paragraphs))
            paragraphs, first, damaged = [], 0, False


def _whole_file_document(path: Path, name: str, how: _How) -> Iterator[Document]:
    paragraphs: list[str] = []
    paragraph: list[str] = []
    damaged = False
    for _, line in itertools.chain(lines(path, how.invalid_utf8, how.tally), [(0, "")]):
        if line is None:
            damaged = True
        elif line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            paragraphs.append(" ".join(paragraph))
            paragraph = []
    if damaged:
        how.tally["dropped_invalid_utf8"] += 1
    else:
        yield Document(name, name, "\n".join(paragraphs))


def _row_documents(table: Iterable[tuple[int, dict[str, Any] | None]], where: str, name: str, how: _How) -> Iterator[Document]:
    for number, row in table:
        if row is None:
            how.tally["dropped_invalid_utf8"] += 1
            continue
        text = text_of(row, how.text_column, f"{where}:{number}")
        given = row.get(how.id_column)
        if given is not None and not isinstance(given, str | int | float):
            raise DataError(f"{where}:{number}: the id is {kind_name(given)}: give text or a number in column '{how.id_column}'")
        numbered = given is None or given == "" or given != given  # null, empty, or not a number, as pandas writes a missing one
        yield Document(f"{name}:{number}" if numbered else str(given), name, text.replace("\r\n", "\n"))


# ---- the `datasets` library


def _dataset_documents(source: str, how: _How) -> Iterator[Document]:
    """A source that is no path: "FOLDER#SPLIT" or "hf:NAME[:CONFIG][#SPLIT]"."""
    base, _, split = source.partition("#")
    if source.startswith(REMOTE):
        yield from _remote_documents(source, base.removeprefix(REMOTE), split, how)
    elif split and any((Path(base) / name).is_file() for name in SAVED_DATASET):
        yield from _saved_documents(base, split, how)
    else:
        raise ConfigError(f"{source} does not exist: give a file, a folder, or a dataset's name as hf:NAME[:CONFIG][#SPLIT]")


def _saved_documents(folder: str, split: str, how: _How) -> Iterator[Document]:
    import datasets

    try:
        saved = datasets.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:  # ValueError: JSON or Arrow that is damaged
        raise DataError(f"{folder}: the saved dataset cannot be opened ({first_line(error)}): save or copy it again") from None
    name = Path(folder).resolve().name
    if isinstance(saved, datasets.DatasetDict):
        chosen = split or "train"
        if chosen not in saved:
            splits = ", ".join(saved)
            raise ConfigError(f"{folder} has no split '{chosen}': choose one of {splits}, as {folder}#{next(iter(saved), 'SPLIT')}")
        saved, name = saved[chosen], f"{name}#{chosen}"
    elif split:
        raise ConfigError(f"{folder} has no splits: leave #{split} out")
    yield from _row_documents(_dataset_rows(saved, folder, how), folder, name, how)


def _remote_documents(source: str, name: str, split: str, how: _How) -> Iterator[Document]:
    import datasets

    name, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        yield from _row_documents(_dataset_rows(found, source, how), source, source, how)
    except (OSError, datasets.exceptions.DatasetsError) as error:  # "not found" and "no network" are OSErrors there
        raise ConfigError(f"{source} cannot be read ({first_line(error)}): check the name and the network, or download it first") from None
    except ValueError as error:
        if isinstance(error, ConfigError | DataError):
            raise
        raise ConfigError(f"{source} cannot be read ({first_line(error)}): write it as hf:NAME[:CONFIG][#SPLIT]") from None


def _dataset_rows(dataset: Any, place: str, how: _How) -> Iterator[tuple[int, dict[str, Any] | None]]:
    there = dataset.column_names  # None for a stream whose columns are not known before its first row
    if there is not None:
        if how.text_column not in there:
            raise missing_column(how.text_column, there, place)
        dataset = dataset.select_columns([column for column in there if column in (how.text_column, how.id_column)])
    for number, row in enumerate(dataset, start=1):
        yield number, without_surrogates(row, (how.text_column, how.id_column), f"{place}:{number}", how.invalid_utf8, how.tally)
