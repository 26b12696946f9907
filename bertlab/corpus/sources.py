"""Documents from anything that holds text: text files, JSONL, CSV, TSV, Parquet, folders of them, and what `datasets` can read.

Streams: one document (one row group of a Parquet file) is in memory at a time. Only a source that begins with "hf:" may use a network.
Knows nothing of cleaning, duplicates or sentences: documents without text are handed on, and the caller counts and drops them.
`rows` reads a table of any kind, for whoever wants its rows (bertlab.corpus.labelled).
"""

import csv
import itertools
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.files import COMPRESSIONS, InvalidUtf8, decode, decoded_lines, find_files, kind_of, lines, open_bytes, refused
from bertlab.errors import ConfigError, DataError

DocumentEnd = Literal["blank_line", "file"]

REMOTE = "hf:"
SAVED_DATASET = ("state.json", "dataset_dict.json")  # what save_to_disk leaves in the folder of one split, of a dict of splits
LARGEST_CELL = 1 << 28  # characters; the csv module's own limit is 131,072, and a quote that never closes must still end somewhere
PARQUET_ROWS = 256
_SURROGATE = re.compile("[\ud800-\udfff]")


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
            raise DataError(f"{where}:{number}: the id is {_kind_name(given)}: give text or a number in column '{how.id_column}'")
        numbered = given is None or given == "" or given != given  # null, empty, or not a number, as pandas writes a missing one
        yield Document(f"{name}:{number}" if numbered else str(given), name, text.replace("\r\n", "\n"))


def text_of(row: dict[str, Any], column: str, place: str) -> str:
    """The text in a row. Raises DataError when the column is missing (naming those there are) or holds anything but text."""
    if column not in row:
        raise missing_column(column, row, place)
    text = row[column]
    if not isinstance(text, str):
        raise DataError(f"{place}: column '{column}' holds {_kind_name(text)}, not text")
    return text


def missing_column(column: str, there: Iterable[str], place: str) -> DataError:
    """The error for a column that is not there."""
    names = ", ".join(f"'{name}'" for name in itertools.islice(there, 20)) or "none"
    return DataError(f"{place}: no column '{column}': the columns are {names}")


def _kind_name(value: Any) -> str:
    return "null" if value is None else f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"


# ---- tables


def rows(
    path: Path, *, columns: Sequence[str], required: str, invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(number, row) of a JSONL, CSV, TSV or Parquet file; None for a row that the policy "drop" takes away for its invalid text.

    The number is the line on which the row begins, counted from 1; in Parquet the row's own. CSV values are text as it stands ("NA" and
    "null" too); the others keep their types. Only `columns` are checked for invalid text, and read from a Parquet file.
    Raises DataError (file:line) for a file that is damaged or irregular, and where there is a header, for a missing column `required`.
    """
    kind = kind_of(path)
    if kind == "jsonl":
        yield from _jsonl_rows(path, columns, invalid_utf8, tally)
    elif kind == "parquet":
        yield from _parquet_rows(path, columns, required, invalid_utf8, tally)
    else:
        assert kind in ("csv", "tsv"), f"{path} is {kind}, not a table"
        yield from _csv_rows(path, "," if kind == "csv" else "\t", required, invalid_utf8, tally)


def _jsonl_rows(
    path: Path, columns: Sequence[str], invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    for number, line in lines(path, invalid_utf8, tally):
        if line is None:
            yield number, None
            continue
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{number}: not valid JSON ({error.msg} at character {error.pos + 1}): a line must be one object"
            ) from None
        except (RecursionError, ValueError):  # nested thousands deep; a number of thousands of digits
            raise DataError(f"{path}:{number}: JSON that is nested too deep or holds too long a number") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: a line must be one JSON object, this one is {_kind_name(row)}")
        yield number, _without_surrogates(row, columns, f"{path}:{number}", invalid_utf8, tally)


def _without_surrogates(
    row: dict[str, Any], columns: Sequence[str], place: str, invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> dict[str, Any] | None:
    """JSON can spell half a character ("\\ud800") and NUL, which no UTF-8 text holds: the same policy as for invalid bytes."""
    for column in columns:
        value = row.get(column)
        if isinstance(value, str):
            row[column], replaced = _SURROGATE.subn("\ufffd", value.replace("\0", ""))
            if replaced and refused(place, replaced, invalid_utf8, tally):
                return None
    return row


def _csv_rows(
    path: Path, delimiter: str, required: str, invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    csv.field_size_limit(LARGEST_CELL)
    replaced_so_far = 0

    def counted_lines() -> Iterator[str]:
        nonlocal replaced_so_far
        for _, line, replaced in decoded_lines(path, keep_ends=True):
            replaced_so_far += replaced
            yield line

    reader = csv.reader(counted_lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number, replaced_before = reader.line_num + 1, replaced_so_far
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}:{number}: not valid {kind_of(path).upper()} ({error}): is a quotation mark left open or not doubled?"
            ) from None
        if cells is None:
            break
        if not cells:  # a blank line
            continue
        damaged = replaced_so_far > replaced_before and refused(f"{path}:{number}", replaced_so_far - replaced_before, invalid_utf8, tally)
        if header is None:
            header = _checked_header(cells, required, f"{path}:{number}")
        elif len(cells) != len(header):
            raise DataError(
                f"{path}:{number}: {len(cells)} cells where the header has {len(header)}: is a cell with a '{delimiter}' not quoted?"
            )
        else:
            yield number, None if damaged else dict(zip(header, cells, strict=True))
    if header is None:
        raise DataError(f"{path}: no header row: the first line must name the columns, '{required}' among them")


def _checked_header(header: list[str], required: str, place: str) -> list[str]:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{place}: column '{twice[0]}' is in the header more than once: rename one")
    if required not in header:
        raise missing_column(required, header, place)
    return header


def _parquet_rows(
    path: Path, columns: Sequence[str], required: str, invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    import pyarrow
    import pyarrow.parquet

    with tempfile.TemporaryFile() as unpacked:
        opened: Any = path
        if path.suffix.lower() in COMPRESSIONS:  # Parquet is read from its end: a packed one is unpacked to a file first
            with open_bytes(path) as packed:
                shutil.copyfileobj(packed, unpacked)
            opened = unpacked
        number = 0
        try:
            table = pyarrow.parquet.ParquetFile(opened)
            there = table.schema_arrow.names
            if required not in there:
                raise missing_column(required, there, str(path))
            wanted = [name for name in there if name in columns]
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                cells = [_parquet_cells(column) for column in batch.columns]
                for values in zip(*cells, strict=True):
                    number += 1
                    yield number, _decoded_row(dict(zip(batch.schema.names, values, strict=True)), f"{path}:{number}", invalid_utf8, tally)
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"{path}: the Parquet file is damaged after row {number} ({_first_line(error)}): write or copy it again"
            ) from None


def _parquet_cells(column: Any) -> list[Any]:
    """A column's values as Python objects, text as bytes: pyarrow does not check that a file's text is UTF-8, and we count what is not."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind):
        column = column.cast(pyarrow.large_binary())
    return column.to_pylist()


def _decoded_row(row: dict[str, Any], place: str, invalid_utf8: InvalidUtf8, tally: Counter[str]) -> dict[str, Any] | None:
    for key, value in row.items():
        if isinstance(value, bytes):
            row[key], replaced = decode(value)
            if replaced and refused(place, replaced, invalid_utf8, tally):
                return None
    return row


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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
        raise DataError(f"{folder}: the saved dataset cannot be opened ({_first_line(error)}): save or copy it again") from None
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
        raise ConfigError(f"{source} cannot be read ({_first_line(error)}): check the name and the network, or download it first") from None
    except ValueError as error:
        if isinstance(error, ConfigError | DataError):
            raise
        raise ConfigError(f"{source} cannot be read ({_first_line(error)}): write it as hf:NAME[:CONFIG][#SPLIT]") from None


def _dataset_rows(dataset: Any, place: str, how: _How) -> Iterator[tuple[int, dict[str, Any] | None]]:
    there = dataset.column_names  # None for a stream whose columns are not known before its first row
    if there is not None:
        if how.text_column not in there:
            raise missing_column(how.text_column, there, place)
        dataset = dataset.select_columns([column for column in there if column in (how.text_column, how.id_column)])
    for number, row in enumerate(dataset, start=1):
        yield number, _without_surrogates(row, (how.text_column, how.id_column), f"{place}:{number}", how.invalid_utf8, how.tally)
