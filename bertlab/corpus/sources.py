"""Documents from anything that holds text: text and book files, Wikipedia dumps, JSONL, CSV, TSV, Parquet, and what `datasets` can read.

Streams: one document (one row group of a Parquet file) is in memory at a time. Only a source that begins with "hf:" may use a network.
Knows nothing of cleaning, duplicates or sentences: documents without text are handed on, and the caller counts and drops them.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bertlab.corpus.books import is_gutenberg, lines_without_licence, unwrapped
from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.document import Document
from bertlab.corpus.epub import epub_documents, is_epub
from bertlab.corpus.files import InvalidUtf8, decode, find_files, kind_of, lines, open_bytes
from bertlab.corpus.tables import asked_id, kind_name, refuse_missing, rows, text_of, without_surrogates
from bertlab.corpus.wikipedia import is_dump, pages
from bertlab.errors import ConfigError, DataError, first_line
from bertlab.hub import REMOTE, name_on_hub, way_out

DocumentEnd = Literal["blank_line", "line", "file"]

DATASET = f"{REMOTE}NAME[:CONFIG][#SPLIT]"
SAVED_DATASET = ("state.json", "dataset_dict.json")  # what save_to_disk leaves in the folder of one split, of a dict of splits
LARGEST_DOCUMENT = 1 << 28  # characters: a text that never ends must not fill the memory
MANY_LINES = 100  # a document: an article that has a sentence a line has fewer, a file of tickets has thousands
START_BYTES = 1 << 16  # of a text file are looked at to tell whether it is a Gutenberg book


@dataclass(frozen=True)
class File:
    """A file of a source, and the name that its documents go by: "book.txt", or "folder/deep/book.txt" in a source that is a folder."""

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class How:
    """How sources are read; `warnings` gets a line for each that is used all the same, though not all of it was read. `joins_lines`:
    where a file is a document, the lines of a paragraph are one."""

    text_column: str = "text"
    id_column: str = "id"
    document_end: DocumentEnd = "blank_line"
    joins_lines: bool = True
    invalid_utf8: InvalidUtf8 = "replace"
    dialect: Dialect = AS_NAMED
    warnings: list[str] = field(default_factory=list)

    @property
    def required(self) -> dict[str, str]:
        """The columns that a table must have, and their roles."""
        return {self.text_column: "text"} | asked_id(self.id_column)

    def __post_init__(self) -> None:
        if self.document_end not in get_args(DocumentEnd):
            raise ConfigError(f"unknown document end '{self.document_end}': choose {', '.join(get_args(DocumentEnd))}")


def files_of(source: str) -> list[File] | None:
    """The files of a source, in the order of their names; None for one that is read as a whole (a saved or a remote dataset).

    Raises ConfigError for a source that is not there, DataError for a folder without a file.
    """
    path = Path(source)
    if not path.exists() or _is_saved_dataset(path):
        return None
    if path.is_dir():
        return [File(file, (path.resolve().name / file.relative_to(path)).as_posix()) for file in find_files([source])]
    return [File(path, path.name)]


def documents(source: str, how: How, tally: Counter[str]) -> Iterator[Document]:
    """The documents of a source: a file, a folder of files, a folder of `datasets.save_to_disk`, or "hf:NAME[:CONFIG][#SPLIT]".

    See `file_documents`. Raises ConfigError for a source or split that is not there, DataError (file:line) for content that cannot be used.
    """
    files = files_of(source)
    if files is None:
        yield from dataset_documents(source, how, tally)
    for file in files or []:
        yield from file_documents(file, how, tally)


# ---- files


def file_documents(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    """The documents of a file, by what it is.

    In a text file a blank line ends a document and each line is a paragraph ("blank_line"), or each line is a document ("line"), or the
    file is one, blank lines separate paragraphs and the lines of one are joined ("file"); a Project Gutenberg book always is one, without
    the licence around it.
    In a table a row is a document, in a Wikipedia dump an article (as wikitext), in an EPUB a chapter.
    tally["bytes"] counts what was read of the file, tally["invalid_utf8"] replaced characters (or dropped lines and cells),
    tally["dropped_invalid_utf8"] documents dropped for them, tally["wikipedia_..."] the pages of a dump that are no articles,
    tally["text_files"] and tally["text_documents"] what text files (but Gutenberg's) gave, tally["text_long"] how many of these documents
    end at a blank line and have more than MANY_LINES lines.
    """
    if is_epub(file.path):
        yield from epub_documents(file.path, file.name, invalid_utf8=how.invalid_utf8, tally=tally)
        tally["bytes"] += file.path.stat().st_size
    elif is_dump(file.path):
        yield from _articles(file, how, tally)
    elif kind_of(file.path) == "text":
        start = _start_of(file.path, how.dialect.encoding)
        if start.lstrip("\ufeff \t\r\n").startswith('{"'):
            how.warnings.append(f"{file.name} begins as JSONL, and is read as text: give it the ending .jsonl (standard input: -.jsonl)")
        if is_gutenberg(start):
            yield from _gutenberg_document(file, how, tally)
        elif how.document_end == "file":
            yield from _whole_file_document(file, how, tally)
        elif how.document_end == "line":
            yield from _line_documents(file, how, tally)
        else:
            yield from _blank_line_documents(file, how, tally)
    else:
        columns = (how.text_column, how.id_column)
        policy = how.invalid_utf8
        table = rows(file.path, columns=columns, required=how.required, invalid_utf8=policy, tally=tally, dialect=how.dialect)
        yield from _row_documents(table, str(file.path), file.name, how, tally)


def _articles(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    passed: Counter[str] = Counter()
    try:
        for page in pages(file.path, passed, how.warnings):
            tally["bytes"] += passed.pop("bytes", 0)
            yield Document(f"{file.name}:{page.id}", file.name, page.wikitext, page.title, page.site.licence, page.site)
    finally:
        tally["bytes"] += passed.pop("bytes", 0)
        tally.update({f"wikipedia_{reason}": count for reason, count in passed.items()})


def _start_of(path: Path, encoding: str) -> str:
    with open_bytes(path) as stream:
        return decode(stream.read(START_BYTES), encoding)[0].replace("\r\n", "\n")


def _blank_line_documents(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    """The format of BERT's own create_pretraining_data. Several blank lines end one document."""
    paragraphs: list[str] = []
    tally["text_files"] += 1
    first, damaged, room = 0, False, LARGEST_DOCUMENT
    for number, line in itertools.chain(lines(file.path, how.invalid_utf8, tally, how.dialect), [(0, "")]):
        if line is None or line.strip():
            first = first or number
            damaged = damaged or line is None
            paragraphs.append(line or "")
            room = _room_after(line, room, file, number)
        elif first:
            tally["text_documents"] += 1
            tally["text_long"] += len(paragraphs) > MANY_LINES
            if damaged:
                tally["dropped_invalid_utf8"] += 1
            else:
                yield Document(f"{file.name}:{first}", file.name, "\n".join(paragraphs))
            paragraphs, first, damaged, room = [], 0, False, LARGEST_DOCUMENT


def _line_documents(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    """A text a line, as `bertlab predict` and `embed` read them; a blank line is none."""
    tally["text_files"] += 1
    for number, line in lines(file.path, how.invalid_utf8, tally, how.dialect):
        tally["text_documents"] += line is None or bool(line.strip())
        if line is None:
            tally["dropped_invalid_utf8"] += 1
        elif line.strip():
            yield Document(f"{file.name}:{number}", file.name, line)


def _whole_file_document(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    tally.update(text_files=1, text_documents=1)
    found = _undamaged_lines(file, how, tally)
    if found is not None:
        paragraphs = itertools.groupby((line.strip() for line in found), key=bool)
        between = " " if how.joins_lines else "\n"
        yield Document(file.name, file.name, "\n".join(between.join(paragraph) for has_text, paragraph in paragraphs if has_text))


def _gutenberg_document(file: File, how: How, tally: Counter[str]) -> Iterator[Document]:
    found = _undamaged_lines(file, how, tally)
    if found is not None:
        yield Document(file.name, file.name, unwrapped("\n".join(lines_without_licence(found))))


def _undamaged_lines(file: File, how: How, tally: Counter[str]) -> list[str] | None:
    """All lines of a file that is one document; None, and counted, where the policy drops it for invalid text."""
    found = []
    damaged, room = False, LARGEST_DOCUMENT
    for number, line in lines(file.path, how.invalid_utf8, tally, how.dialect):
        damaged = damaged or line is None
        found.append(line or "")
        room = _room_after(line, room, file, number)
    tally["dropped_invalid_utf8"] += damaged
    return None if damaged else found


def _room_after(line: str | None, room: int, file: File, number: int) -> int:
    """What is left of a document's room after one more line. Raises DataError when there is none."""
    room -= len(line or "") + 1
    if room < 0:
        most = f"{LARGEST_DOCUMENT >> 20} million characters"
        raise DataError(f"{file.path}:{number}: a document of over {most}: a blank line ends one, unless document_end is file")
    return room


def _row_documents(
    table: Iterable[tuple[int, dict[str, Any] | None]], where: str, name: str, how: How, tally: Counter[str]
) -> Iterator[Document]:
    for number, row in table:
        if row is None:
            tally["dropped_invalid_utf8"] += 1
            continue
        text = text_of(row, how.text_column, f"{where}:{number}")
        given = row.get(how.id_column)
        if given is not None and not isinstance(given, str | int | float):
            raise DataError(f"{where}:{number}: the id is {kind_name(given)}: give text or a number in column '{how.id_column}'")
        numbered = given is None or given == "" or given != given  # null, empty, or not a number, as pandas writes a missing one
        yield Document(f"{name}:{number}" if numbered else str(given), name, text.replace("\r\n", "\n"))


# ---- the `datasets` library


def dataset_documents(source: str, how: How, tally: Counter[str]) -> Iterator[Document]:
    """The documents of a source that is no file: "FOLDER[#SPLIT]" that `datasets` saved, or "hf:NAME[:CONFIG][#SPLIT]"."""
    if _is_saved_dataset(Path(source)):
        yield from _saved_documents(source, "", how, tally)
        return
    base, _, split = source.partition("#")
    if source.startswith(REMOTE):
        yield from _remote_documents(source, base, split, how, tally)
    elif split and _is_saved_dataset(Path(base)):
        yield from _saved_documents(base, split, how, tally)
    else:
        raise ConfigError(f"{source} does not exist: give a file, a folder, or a dataset's name as {DATASET}")


def _is_saved_dataset(path: Path) -> bool:
    return any((path / name).is_file() for name in SAVED_DATASET)


def _saved_documents(folder: str, split: str, how: How, tally: Counter[str]) -> Iterator[Document]:
    import datasets

    try:
        saved = datasets.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:  # ValueError: JSON or Arrow that is damaged
        raise DataError(f"{folder}: the saved dataset cannot be opened ({first_line(error)}): save or copy it again") from None
    name = Path(folder).resolve().name
    if isinstance(saved, datasets.DatasetDict):
        chosen = split or "train"
        if not split and len(saved) > 1 and chosen in saved:
            others = ", ".join(f"{folder}#{other}" for other in saved if other != chosen)
            how.warnings.append(f"of {folder} the split '{chosen}' is read alone: {others} would be sources of their own")
        if chosen not in saved:
            splits = ", ".join(saved)
            raise ConfigError(f"{folder} has no split '{chosen}': choose one of {splits}, as {folder}#{next(iter(saved), 'SPLIT')}")
        saved, name = saved[chosen], f"{name}#{chosen}"
    elif split:
        raise ConfigError(f"{folder} has no splits: leave #{split} out")
    yield from _row_documents(_dataset_rows(saved, folder, how, tally), folder, name, how, tally)


def dataset_name(source: str) -> tuple[str, str]:
    """The name and the configuration ("" where none is said) of hf:NAME[:CONFIG][#SPLIT]. Raises ConfigError for what has no such form."""
    name, _, config = source.partition("#")[0].removeprefix(REMOTE).partition(":")
    return name_on_hub(source if config.startswith("//") else f"{REMOTE}{name}", DATASET), config


def _remote_documents(source: str, base: str, split: str, how: How, tally: Counter[str]) -> Iterator[Document]:
    import datasets

    name, config = dataset_name(base)
    if Path(name).is_dir():  # which `datasets` would read in place of the hub's
        raise ConfigError(f"{source}: {name} is here, on this disk: leave {REMOTE} out, or give the command elsewhere")
    try:
        found = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        yield from _row_documents(_dataset_rows(found, source, how, tally), source, source, how, tally)
    except (OSError, datasets.exceptions.DatasetsError) as error:  # "not found" and "no network" are OSErrors there
        raise ConfigError(f"{source} cannot be read ({first_line(error)}): {way_out()}, or download it first") from None
    except ValueError as error:
        if isinstance(error, ConfigError | DataError):
            raise
        raise ConfigError(f"{source} cannot be read ({first_line(error)}): write it as {DATASET}") from None


def _dataset_rows(dataset: Any, place: str, how: How, tally: Counter[str]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    there = dataset.column_names  # None for a stream whose columns are not known before its first row
    if there is not None:
        refuse_missing(how.required, there, place)
        dataset = dataset.select_columns([column for column in there if column in (how.text_column, how.id_column)])
    for number, row in enumerate(dataset, start=1):
        refuse_missing(how.required, row, f"{place}:{number}", before=number > 1)
        yield number, without_surrogates(row, (how.text_column, how.id_column), f"{place}:{number}", how.invalid_utf8, tally)
