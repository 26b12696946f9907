"""Rows of JSONL, CSV, TSV and Parquet files, streamed; every irregularity is told by file and line.

CSV values are text as it stands; the others keep their types. Knows nothing of documents, labels or what a column means.
"""

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import COMPRESSIONS, InvalidUtf8, decode, decoded_lines, kind_of, lines, open_bytes, refuse_bomb, refused
from bertlab.corpus.given import SURROGATE
from bertlab.errors import ColumnError, DataError, first_line

LARGEST_CELL = 1 << 28  # characters; the csv module's own limit is 131,072, and a quote that never closes must still end somewhere
MOST_COLUMNS = 4096  # of a table with a header: each row costs a cell of each
PARQUET_ROWS = 256
SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}  # that a header is looked at for, where it does not fit


def rows(
    path: Path,
    *,
    columns: Sequence[str],
    required: Mapping[str, str],
    invalid_utf8: InvalidUtf8,
    tally: Counter[str],
    dialect: Dialect = AS_NAMED,
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(number, row) of a JSONL, CSV, TSV or Parquet file; None for a row that the policy "drop" takes away for its invalid text.

    The number is the line on which the row begins, counted from 1; in Parquet the row's own. CSV values are text as it stands ("NA" and
    "null" too); the others keep their types. Only `columns` are checked for invalid text, and read from a Parquet file.
    Raises DataError (file:line) for a file that is damaged or irregular, ColumnError for one without a column that is `required` (column ->
    its role): at the header's line where there is a header, else at the first row; DataError at a later one that lacks it.
    """
    kind = kind_of(path)
    if kind == "jsonl":
        yield from _jsonl_rows(path, columns, required, invalid_utf8, tally, dialect)
    elif kind == "parquet":
        yield from _parquet_rows(path, columns, required, invalid_utf8, tally)
    else:
        assert kind in ("csv", "tsv"), f"{path} is {kind}, not a table"
        yield from _csv_rows(path, required, invalid_utf8, tally, dialect)


def _jsonl_rows(
    path: Path,
    columns: Sequence[str],
    required: Mapping[str, str],
    invalid_utf8: InvalidUtf8,
    tally: Counter[str],
    dialect: Dialect = AS_NAMED,
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    before = False
    for number, line in lines(path, invalid_utf8, tally, dialect):
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
            raise DataError(f"{path}:{number}: a line must be one JSON object, this one is {kind_name(row)}")
        refuse_missing(required, row, f"{path}:{number}", before=before)
        before = True
        yield number, without_surrogates(row, columns, f"{path}:{number}", invalid_utf8, tally)


def without_surrogates(
    row: dict[str, Any], columns: Sequence[str], place: str, invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> dict[str, Any] | None:
    """JSON can spell half a character ("\\ud800") and NUL, which no UTF-8 text holds: the same policy as for invalid bytes.

    Also inside lists and objects: the words of a sentence, the answers to a question.
    """
    for column in columns:
        if column in row:
            row[column], replaced = _clean(row[column])
            if replaced and invalid_utf8 == "stop":
                raise DataError(
                    f"{place}: column '{column}' holds half a character (\\ud800 to \\udfff), which no text does: leave the row out"
                )
            if replaced and refused(place, replaced, invalid_utf8, tally):
                return None
    return row


def _clean(value: Any) -> tuple[Any, int]:
    if isinstance(value, str):
        return SURROGATE.subn("\ufffd", value.replace("\0", ""))
    if isinstance(value, list):
        cleaned = [_clean(each) for each in value]
        return [each for each, _ in cleaned], sum(replaced for _, replaced in cleaned)
    if isinstance(value, dict):
        entries = {key: _clean(each) for key, each in value.items()}
        return {key: each for key, (each, _) in entries.items()}, sum(replaced for _, replaced in entries.values())
    return value, 0


def _csv_rows(
    path: Path, required: Mapping[str, str], invalid_utf8: InvalidUtf8, tally: Counter[str], dialect: Dialect
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    csv.field_size_limit(LARGEST_CELL)
    delimiter, replaced_so_far, last = dialect.between_cells(kind_of(path)), 0, ""

    def counted_lines() -> Iterator[str]:
        nonlocal replaced_so_far, last
        for _, line, replaced in decoded_lines(path, keep_ends=True, tally=tally, dialect=dialect):
            replaced_so_far += replaced
            last = line
            yield line

    reader = csv.reader(counted_lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number, replaced_before = reader.line_num + 1, replaced_so_far
        try:
            cells = next(reader, None)
        except csv.Error as error:
            between = next((mark for mark in SEPARATORS if f'"{mark}"' in last), delimiter)
            if header is None and between != delimiter:  # each name in quotation marks
                raise DataError(f"{path}:{number}: {_separated_by(between)}") from None
            raise DataError(
                f"{path}:{number}: not valid {kind_of(path).upper()} ({error}): is a quotation mark left open or not doubled?"
            ) from None
        if cells is None:
            break
        if not cells:  # a blank line
            continue
        replaced = replaced_so_far - replaced_before
        damaged = replaced > 0 and refused(f"{path}:{number}", replaced, invalid_utf8, tally, dialect)
        if header is None:
            header = _checked_header(cells, required, f"{path}:{number}")
        elif len(cells) != len(header):
            raise DataError(
                f"{path}:{number}: {len(cells)} cells where the header has {len(header)}: is a cell with a '{delimiter}' not quoted?"
            )
        else:
            yield number, None if damaged else dict(zip(header, cells, strict=True))
    if header is None:
        raise DataError(f"{path}: no header row: the first line must name the columns, {_quoted(required)} among them")


def _checked_header(header: list[str], required: Mapping[str, str], place: str) -> list[str]:
    if len(header) > MOST_COLUMNS:
        raise DataError(f"{place}: {len(header):,} columns, and at most {MOST_COLUMNS:,} are read: leave out those that are not needed")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{place}: column '{twice[0]}' is in the header more than once: rename one")
    refuse_missing(required, header, place)
    return header


def _parquet_rows(
    path: Path, columns: Sequence[str], required: Mapping[str, str], invalid_utf8: InvalidUtf8, tally: Counter[str]
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    import pyarrow
    import pyarrow.parquet

    with _seekable(path) as opened:
        number = given = 0
        size = path.stat().st_size
        try:
            table = pyarrow.parquet.ParquetFile(opened)
            there = table.schema_arrow.names
            refuse_missing(required, there, str(path))
            wanted = [name for name in there if name in columns]
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                cells = [_parquet_cells(column) for column in batch.columns]
                # a table repeats a value at no cost: a small one may hold billions
                given += sum(len(cell) if isinstance(cell, bytes) else 1 for column in cells for cell in column)
                refuse_bomb(path, size, given)
                for values in zip(*cells, strict=True):
                    number += 1
                    yield number, _decoded_row(dict(zip(batch.schema.names, values, strict=True)), f"{path}:{number}", invalid_utf8, tally)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: in lists, whose text is not counted
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"{path}: the Parquet file is damaged after row {number} ({first_line(error)}): write or copy it again"
            ) from None


@contextmanager
def _seekable(path: Path) -> Iterator[Any]:
    """The file, which Parquet reads from its end: a packed one is unpacked to a file first."""
    if path.suffix.lower() not in COMPRESSIONS:
        yield path
        return
    with tempfile.TemporaryFile() as unpacked:
        with open_bytes(path) as packed:
            shutil.copyfileobj(packed, unpacked)
        yield unpacked


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


def columns_of(path: Path, dialect: Dialect = AS_NAMED) -> list[str]:
    """The columns of a table, of JSONL those of its first row; none of a file that is no table, that has no row, or is damaged there."""
    kind = kind_of(path)
    try:
        if kind == "parquet":
            return _parquet_columns(path)
        if kind in ("jsonl", "csv", "tsv"):
            table = rows(path, columns=(), required={}, invalid_utf8="replace", tally=Counter(), dialect=dialect)
            return list(next((row for _, row in table if row), ()))
    except DataError:  # which whoever reads the file will say
        pass
    return []


def values_of(path: Path, columns: Mapping[str, str], dialect: Dialect = AS_NAMED, *, most: int | None = None) -> dict[str, list[Any]]:
    """What stands in these columns (column -> its role) of a table, as it is, a value a row; NaN is None. `most`: of so many rows.

    Raises DataError for a file that is no table, ColumnError for a column that is not there.
    """
    if not columns:
        return {}
    if kind_of(path) not in ("jsonl", "csv", "tsv", "parquet"):
        raise DataError(f"{path}: has no columns, and {_quoted(columns)} was asked for: give CSV, TSV, JSONL or Parquet")
    found: dict[str, list[Any]] = {name: [] for name in columns}
    table = rows(path, columns=tuple(columns), required=columns, invalid_utf8="stop", tally=Counter(), dialect=dialect)
    for _, row in islice(table, most):
        assert row is not None, "invalid text stops"
        for name, values in found.items():
            values.append(None if row[name] != row[name] else row[name])
    return found


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    with _seekable(path) as opened:
        try:
            return list(pyarrow.parquet.read_schema(opened).names)
        except pyarrow.ArrowException:
            return []


def text_of(row: dict[str, Any], column: str, place: str) -> str:
    """The text in a row, which has the column. Raises DataError when it holds anything but text."""
    text = row[column]
    if not isinstance(text, str):
        raise DataError(f"{place}: column '{column}' holds {kind_name(text)}, not text")
    return text


def asked_id(id: str) -> dict[str, str]:
    """What is required of a table whose ids stand in a column that somebody named: that it has it."""
    return {} if id == "id" else {id: "id"}


def refuse_missing(required: Mapping[str, str], there: Collection[str], place: str, *, before: bool = False) -> None:
    """Raise ColumnError for the first column (column -> its role) that is not there, naming those that are. `before`: rows before had it,
    so that it is the row that is wrong, and no other name is asked for: DataError."""
    for column, role in required.items():
        if column not in there:
            if before:
                raise DataError(f"{place}: this row has no '{column}': put {column} in, or take the row out")
            if len(there) == 1 and (mark := next((mark for mark in SEPARATORS if mark in "".join(there)), None)):
                raise DataError(f"{place}: one column, {_quoted(there)}: {_separated_by(mark)}")
            by_case = {str(each).strip().casefold(): each for each in there}  # Excel's headers have stray blanks
            alike = get_close_matches(column.strip().casefold(), by_case, 1, cutoff=0.85)  # a letter of six: labl, Label, topics
            meant = f" (did you mean {by_case[alike[0]]!r:.100}?)" if alike else ""
            nameless = sum(not str(each).strip() or str(each).startswith("Unnamed: ") for each in there)  # pandas' index is one
            if not meant and nameless and 2 * nameless >= len(there):
                meant = " (is the header further down? Take out the rows above it)"
            error = ColumnError(f"{place}: no column '{column}'{meant}: the columns are {_quoted(islice(there, 20)) or 'none'}")
            error.column, error.role = column, role
            raise error


def _separated_by(mark: str) -> str:
    given = "tab" if mark == "\t" else mark if mark == "," else f'"{mark}"'
    return f"separated by {SEPARATORS[mark]}? Say so: --separator {given}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def kind_name(value: Any) -> str:
    return "null" if value is None else f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
