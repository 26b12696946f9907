"""A job of embedding: which runs of texts there are, which are done, the rest computed, and one file made of all.

The texts are read twice: once to count and hash them, which finds what cannot be used before any of it has cost time, and once to compute
those runs for which there is no part yet. A part is named by what it is made from (its ids and texts, the model, the settings), so it does
not matter who made it, when, or how often it was tried. Reading and tokenising happen beside the computing, a run ahead.
Memory: three runs of texts and vectors; what a run has freed is given back.
"""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

import bertlab
from bertlab.batches.labelled import Examples
from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.sources import File
from bertlab.corpus.texts import Run, runs, texts
from bertlab.embedding.engine import Embedder, Pending, What, finished
from bertlab.embedding.parts import read_part, vector_file, write_part
from bertlab.errors import DataError
from bertlab.evaluation.vectors import Numbers, Packed, measured_loss, packed, stated_loss, vector_table
from bertlab.training.processes import give_back_freed_memory

Item = TypeVar("Item")

TOKEN_FIELDS = (pa.field("place", pa.int32()), pa.field("token", pa.string()))  # of token vectors, beside id and vector
PARTS_WITH_PAIRS = 1000  # the rank correlation of similarities is taken over the first of them: 64,000 pairs say enough
RUN_OF_TOKENS = 16  # a run whose tokens are kept has this part of the texts that others have: vectors are what fills memory


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is read: files in order, the columns of tables, and how many texts make a run."""

    files: tuple[File, ...]
    text: str = "text"
    id: str = "id"
    part: int = 4096
    dialect: Dialect = AS_NAMED

    def runs(self) -> Iterator[Run]:
        return runs(texts(self.files, text=self.text, id=self.id, dialect=self.dialect), self.part)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of each vector."""

    normalize: bool = False
    dims: int | None = None
    numbers: Numbers = "float32"


@dataclass(frozen=True)
class Planned:
    """A run of texts that is to become a part: its name, and how many texts it has."""

    key: str
    rows: int


def job_sha256(embedder: Embedder, files: dict[str, str], what: What, kept: Kept) -> str:
    """Of everything beside the texts that the vectors depend on: `files` are the sha256 of the model's. No number of threads is in it."""
    facts = {"files": files, "tokenizer": embedder.tokenizer.sha256, "max_length": embedder.max_length, "prompt": embedder.recorded.prompt}
    facts |= {"what": asdict(what), "kept": asdict(kept), "products": str(embedder.frozen.dtype), "device": embedder.device.type}
    facts |= {"bertlab": bertlab.__version__, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def plan(source: Texts, job: str, passing: Callable[[int], None] = lambda rows: None) -> list[Planned]:
    """Every run of the texts, in order; `passing` is told how many texts were read.

    Raises DataError (file:line) for the first thing that cannot be used, or when there is no text.
    """
    found: list[Planned] = []
    rows = 0
    for run in source.runs():
        found.append(Planned(_key(job, run), len(run.texts)))
        rows += len(run.texts)
        passing(rows)
    if not found:
        raise DataError(f"{', '.join(str(file.path) for file in source.files[:3])}: no rows: there is no text to embed")
    return found


def plan_sha256(planned: Sequence[Planned]) -> str:
    """What the finished file is made from: the names of all its parts."""
    return hashlib.sha256(" ".join(each.key for each in planned).encode()).hexdigest()


def stored_width(embedder: Embedder, kept: Kept) -> int:
    """How many stored numbers (bytes, of binary ones) a vector has. Raises ConfigError for settings that do not fit this model."""
    one = np.zeros((1, embedder.frozen.config.hidden_size), dtype=np.float32)
    return packed(finished(one, kept.normalize, kept.dims), kept.numbers).values.shape[1]


def _key(job: str, run: Run) -> str:
    return hashlib.sha256(f"{job} {run.number} {run.sha256}".encode()).hexdigest()[:32]


def part_path(folder: Path, planned: Planned) -> Path:
    return folder / f"{planned.key}.part"


def missing(planned: Sequence[Planned], folder: Path) -> list[Planned]:
    """The runs that have no part yet."""
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return [each for each in planned if part_path(folder, each).name not in there]


# ---- computing


def compute(
    source: Texts,
    job: str,
    wanted: Iterable[Planned],
    folder: Path,
    embedder: Embedder,
    what: What,
    kept: Kept,
    passing: Callable[[int, int], None],
) -> None:
    """Make the `wanted` parts in `folder`; `passing` is told the texts and tokens of each. What is done when this is cut off stays done.

    Raises DataError when the texts are not those that the plan was made from.
    """
    keys = {each.key for each in wanted}
    in_order = (run for run in source.runs() if _key(job, run) in keys)
    encoded = ((run, embedder.encode(run.texts)) for run in in_order)
    at_work: deque[tuple[Run, Examples, Pending]] = deque()

    def finish() -> None:
        run, examples, pending = at_work.popleft()
        table, facts = _rows(run, examples, pending.result(), embedder, what, kept)
        key = _key(job, run)
        write_part(folder / f"{key}.part", table, facts)
        keys.remove(key)
        give_back_freed_memory()
        passing(len(run.texts), facts["tokens"])

    with embedder.at_work() as begin:
        for run, examples in _ahead(encoded):
            at_work.append((run, examples, begin(examples, what)))
            if len(at_work) > 1:  # the next run's batches are under way: no thread waits for this one's last
                finish()
        while at_work:
            finish()
    if keys:
        raise DataError(f"{source.files[0].path}: the texts changed while they were read: give the same command again when they rest")


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made by another thread while the one before is used."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = beside.submit(next, items, None)
            yield item


def _rows(run: Run, examples: Examples, vectors: np.ndarray, embedder: Embedder, what: What, kept: Kept) -> tuple[pa.Table, dict[str, Any]]:
    """A run's vectors as they are kept, and what is counted over them."""
    stored = packed(finished(vectors, kept.normalize, kept.dims), kept.numbers)
    facts = {
        "rows": len(vectors),
        "tokens": len(examples.ids),
        "truncated": examples.num_truncated,
        "empty": int((examples.lengths == 2).sum()),
        "loss": None if kept.numbers == "float32" and not kept.dims else measured_loss(stored, kept.numbers, vectors),
    }
    if what.pooling is not None:
        return vector_table(run.ids, stored, kept.numbers), facts
    return _token_table(run, examples, stored, embedder, kept.numbers), facts


def _token_table(run: Run, examples: Examples, stored: Packed, embedder: Embedder, numbers: Numbers) -> pa.Table:
    """A row a token: the text's id, the token's place in it ([CLS] is 0), the token, its vector."""
    ids = [id for id, length in zip(run.ids, examples.lengths.tolist(), strict=True) for _ in range(length)]
    places = np.arange(len(ids)) - np.repeat(examples.offsets[:-1], examples.lengths)
    names = [embedder.tokenizer.token(id) for id in examples.ids.tolist()]
    return vector_table(ids, stored, numbers, dict(zip(TOKEN_FIELDS, (places, names), strict=True)))


# ---- the file


def assemble(planned: Sequence[Planned], folder: Path, output: Path, width: int, what: What, kept: Kept) -> dict[str, Any]:
    """Make `output` of all parts, and count: rows, tokens, texts truncated and empty, and what the numbers lose."""
    total: Counter[str] = Counter()
    losses: list[dict[str, Any]] = []
    rows = sum(each.rows for each in planned)
    between = TOKEN_FIELDS if what.pooling is None else ()
    with vector_file(output, rows, width, kept.numbers, between) as append:
        for each in planned:
            table, facts = read_part(part_path(folder, each))
            append(table)
            losses.append(facts.pop("loss"))
            if losses[-1] and len(losses) > PARTS_WITH_PAIRS:
                losses[-1]["pairs"] = [[], []]
            total.update(facts)
    counted: dict[str, Any] = {name: total[name] for name in ("rows", "tokens", "truncated", "empty")}
    return counted | {"loss": None if losses[0] is None else stated_loss(losses)}
