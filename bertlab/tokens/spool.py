"""The spool: sentences between reading and tokenising, in one Arrow file, so that a corpus is read once and never held.

A run (a record batch) is about a million characters of sentences; a document longer than that fills several rows,
numbered by `part`. So memory is bounded by a run whatever the length of a document, and a run is the unit of work that
any process can take by its number. Costs the size of the text on disk while it lives.
Knows nothing of token ids, vocabularies or splits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from bertlab.corpus.reading import Read

# A run in all its forms (Arrow, Python strings, token ids) is about 10 MB, and takes a third of a second to tokenise.
RUN_CHARACTERS = 2**20

SCHEMA = pa.schema(
    [("id", pa.string()), ("source", pa.string()), ("sha256", pa.string()), ("part", pa.int32()), ("sentences", pa.list_(pa.string()))]
)


class SpoolWriter:
    """Writes documents in order. Attributes: documents, sentences, characters, counted as they come. Use as a context."""

    def __init__(self, path: Path, run_characters: int = RUN_CHARACTERS) -> None:
        self._run_characters = run_characters
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)
        self.documents = self.sentences = self.characters = 0
        self._start_run()

    def add(self, id: str, source: str, sha256: str, sentences: Iterable[str]) -> int:
        """One document; `sentences` may be a generator and is held a run at a time. Returns how many there were: 0 writes nothing."""
        part = count = 0
        row: list[str] = []
        for sentence in sentences:
            row.append(sentence)
            count += 1
            self._pending += len(sentence)
            if self._pending >= self._run_characters:
                self._add_row(id, source, sha256, part, row)
                self._write_run()
                part, row = part + 1, []
        if row:
            self._add_row(id, source, sha256, part, row)
        self.documents += count > 0
        self.sentences += count
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._names:
            self._write_run()
        self._writer.close()
        self._sink.close()

    def _start_run(self) -> None:
        self._names: list[tuple[str, str, str]] = []
        self._parts: list[int] = []
        self._sentences: list[str] = []
        self._offsets = [0]
        self._pending = 0

    def _add_row(self, id: str, source: str, sha256: str, part: int, row: list[str]) -> None:
        self._names.append((id, source, sha256))
        self._parts.append(part)
        self._sentences += row
        self._offsets.append(len(self._sentences))

    def _write_run(self) -> None:
        self.characters += self._pending
        names = [pa.array([name[field] for name in self._names], pa.string()) for field in range(3)]
        sentences = pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), pa.array(self._sentences, pa.string()))
        self._writer.write_batch(pa.record_batch([*names, pa.array(self._parts, pa.int32()), sentences], schema=SCHEMA))
        self._start_run()


class Spool:
    """A written spool. Attribute: runs, how many there are."""

    def __init__(self, path: Path) -> None:
        # read, not mapped: a map would count the whole file as this process's memory
        self._reader = pa.ipc.open_file(pa.OSFile(str(path), "rb"))
        self.runs: int = self._reader.num_record_batches

    def run(self, number: int) -> pa.RecordBatch:
        """Run `number` of 0..runs-1: a record batch of SCHEMA."""
        return self._reader.get_batch(number)


@dataclass(frozen=True)
class Sentences:
    """Every sentence of a spool in order, but for those of documents whose sha256 is in `without`; can be iterated again and again.

    `passing` is told the number of sentences of each run that is handed out.
    """

    spool: Spool
    without: frozenset[str]
    passing: Callable[[int], None]

    def __iter__(self) -> Iterator[str]:
        for number in range(self.spool.runs):
            run = self.spool.run(number)
            flat, offsets = run_sentences(run)
            self.passing(len(flat))
            for row, sha256 in enumerate(run.column("sha256").to_pylist()):
                if sha256 not in self.without:
                    yield from flat[offsets[row] : offsets[row + 1]]


def run_sentences(run: pa.RecordBatch) -> tuple[list[str], list[int]]:
    """All sentences of a run end to end and the rows' offsets: row r is flat[offsets[r]:offsets[r+1]]."""
    column = run.column("sentences")
    return column.values.to_pylist(), column.offsets.to_pylist()


def spool_chosen(reads: Sequence[Read], times: Sequence[np.ndarray], path: Path) -> int:
    """Write what was read to the spool at `path`, in order: document d of unit u times[u][d] times. Returns the number of characters.

    Every document gets a name of its own (see `unused`).
    """
    names: set[str] = set()
    columns = ("id", "source", "sha256", "sentences")
    with SpoolWriter(path) as spool:
        for read, often_of in zip(reads, times, strict=True):
            first = 0
            for batch in read.batches():
                for row, often in enumerate(often_of[first : first + len(batch)].tolist()):
                    if not often:
                        continue
                    id, source, sha256, sentences = (batch.column(name)[row].as_py() for name in columns)
                    for _ in range(often):
                        name = unused(id, names)
                        names.add(name)
                        spool.add(name, source, sha256, sentences)
                first += len(batch)
    return spool.characters


def unused(name: str, names: set[str]) -> str:
    """`name`, or, where another document has it, the first of name#2, name#3, ... that none has."""
    candidate, number = name, 1
    while candidate in names:
        number += 1
        candidate = f"{name}#{number}"
    return candidate
