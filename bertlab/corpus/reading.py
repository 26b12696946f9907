"""From a source's files to documents cut into sentences: read here, treated by as many processes as wanted, written file by file.

The documents of a unit (bertlab.corpus.units) pass in runs through `treat` (mark-up out, cleaned, hashed, cut into sentences), in this
process or several, and end in order in one Arrow file, whole or absent. So reading that was cut off goes on with the units that are not
finished, and the file is the same whatever the number of processes.
Memory: a few runs of about a megabyte of text for each process. Knows nothing of tokens, or of which of two like documents is kept.
"""

import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

import bertlab
from bertlab.corpus.cleaning import Cleaning, cleaned
from bertlab.corpus.document import Document
from bertlab.corpus.duplicates import PERMUTATIONS, signatures
from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.keep_out import Fingerprints, touched
from bertlab.corpus.sentences import Splitter, iter_sentences
from bertlab.corpus.sources import How, dataset_documents, file_documents
from bertlab.corpus.units import UNIT_BYTES, SourceFile, Unit, units_of
from bertlab.corpus.wikitext import plain_text
from bertlab.disk import read_json, sweep, whole_file, write_json
from bertlab.errors import DataError
from bertlab.progress import progress

RUN_CHARACTERS = 2**20  # of documents treated at a time: a third of a second's work
RUNS_AHEAD = 2  # for each process, waiting for it or for us

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),  # of the normalised text
        ("reason", pa.string()),  # why it is dropped, or ""
        ("characters", pa.int64()),
        ("signature", pa.binary(2 * PERMUTATIONS)),  # null where none was asked for
        ("sentences", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to a document: everything that its sentences depend on beside its text."""

    cleaning: Cleaning = field(default_factory=Cleaning)
    splitter: Splitter = "sentencex"
    language: str = "en"
    signatures: bool = False
    keep_out: Fingerprints | None = None


# ---- a run of documents


def treat(documents: Sequence[Document], recipe: Recipe) -> tuple[pa.RecordBatch, Counter[str]]:
    """Documents as rows of SCHEMA, and what cleaning and mark-up changed, by name. A document that is dropped keeps no sentences."""
    changed: Counter[str] = Counter()
    texts: list[str] = []
    reasons: list[str] = []
    for document in documents:
        text = plain_text(document.text, document.site, changed) if document.site is not None else document.text
        text, reason, changes = cleaned(text, recipe.cleaning)
        changed.update(changes)
        texts.append(text)
        reasons.append(reason or "")
    if recipe.keep_out is not None:
        shared = touched(texts, recipe.keep_out).tolist()
        reasons = [reason or "kept_out" * bool(runs) for reason, runs in zip(reasons, shared, strict=True)]
    sentences = [
        [] if reason else list(iter_sentences(text, splitter=recipe.splitter, language=recipe.language))
        for text, reason in zip(texts, reasons, strict=True)
    ]
    rows: dict[str, list[Any]] = {
        "id": [document.id for document in documents],
        "source": [document.source for document in documents],
        "sha256": list(map(normalised_sha256, texts)),
        "reason": [reason or "empty" * (not found) for reason, found in zip(reasons, sentences, strict=True)],
        "characters": [sum(map(len, found)) for found in sentences],
        "signature": [None] * len(texts),
        "sentences": sentences,
    }
    if recipe.signatures:
        kept = [text if found else "" for text, found in zip(texts, sentences, strict=True)]
        rows["signature"] = [row.tobytes() for row in signatures(kept)]
    return pa.record_batch(rows, schema=SCHEMA), changed


class Treat(Protocol):
    """`treat` for many runs, in their order."""

    def __call__(self, runs: Iterator[list[Document]]) -> Iterator[tuple[pa.RecordBatch, Counter[str]]]: ...


@contextmanager
def crew(recipe: Recipe, workers: int) -> Iterator[Treat]:
    """Treat runs in this process, or with more than one worker in that many others (then it costs them a second to start).

    Raises DataError when one of them dies, which the system does to a process that takes too much memory.
    """
    if workers == 1:
        yield partial(map, partial(treat, recipe=recipe))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_remember, initargs=(recipe,)) as pool:

        def treated(runs: Iterator[list[Document]]) -> Iterator[tuple[pa.RecordBatch, Counter[str]]]:
            coming: deque[Future[tuple[pa.RecordBatch, Counter[str]]]] = deque()
            try:
                for run in runs:
                    coming.append(pool.submit(_treat, run))
                    if len(coming) > RUNS_AHEAD * workers:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            except BrokenProcessPool:
                raise DataError("a process that reads documents was killed, perhaps for its memory: give fewer workers") from None

        try:
            yield treated
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_recipe = Recipe()  # of a worker process, set once: fingerprints may be large


def _remember(recipe: Recipe) -> None:
    global _recipe
    _recipe = recipe


def _treat(documents: list[Document]) -> tuple[pa.RecordBatch, Counter[str]]:
    return treat(documents, _recipe)


# ---- a unit


@dataclass(frozen=True)
class Read:
    """A finished unit: its Arrow file, and what was counted on the way. `bytes` were read of its files."""

    unit: Unit
    path: Path
    tally: dict[str, int]
    licences: list[str]
    warnings: list[str]

    def batches(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """Its rows (SCHEMA, or the named columns of it), a run at a time, read from the disk when asked for."""
        wanted = [SCHEMA.get_field_index(name) for name in columns] or None
        with pa.OSFile(str(self.path), "rb") as source:
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def read_unit(unit: Unit, folder: Path, how: How, treated: Treat, passing: Callable[[int], None]) -> Read:
    """Read a unit into `folder` (KEY.arrow, and KEY.json, written last), or find that it has been; `passing` is told the bytes read."""
    path, facts = folder / f"{unit.key}.arrow", folder / f"{unit.key}.json"
    if not _is_read(unit, folder):
        tally: Counter[str] = Counter()
        licences: dict[str, None] = {}
        own = replace(how, warnings=[])

        def runs() -> Iterator[list[Document]]:
            run: list[Document] = []
            characters = 0
            for document in _documents(unit, own, tally):
                licences[document.licence] = None
                run.append(document)
                characters += len(document.text)
                if characters >= RUN_CHARACTERS:
                    passing(tally["bytes"])
                    yield run
                    run, characters = [], 0
            yield run

        with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for batch, changed in treated(runs()):
                writer.write_batch(batch)
                tally.update(changed)
        write_json(facts, {"tally": dict(sorted(tally.items())), "licences": sorted(licences), "warnings": own.warnings})
    found = read_json(facts)
    return Read(unit, path, found["tally"], found["licences"], found["warnings"])


def _documents(unit: Unit, how: How, tally: Counter[str]) -> Iterator[Document]:
    if not unit.files:
        yield from dataset_documents(unit.source, how, tally)
    for file in unit.files:
        yield from file_documents(file, how, tally)


def recipe_sha256(how: How, recipe: Recipe) -> str:
    """Of everything that a unit's file depends on beside its text: a unit that was read by another recipe is not used."""
    plain: dict[str, Any] = {name: value for name, value in vars(how).items() if name not in ("warnings", "dialect")}
    plain |= {name: value for name, value in vars(recipe).items() if name not in ("cleaning", "keep_out")}
    plain |= {"dialect": asdict(how.dialect), "cleaning": asdict(recipe.cleaning), "schema": str(SCHEMA), "bertlab": bertlab.__version__}
    kept_out = b"" if recipe.keep_out is None else recipe.keep_out.hashes.tobytes() + recipe.keep_out.whole.tobytes()
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode() + kept_out).hexdigest()


# ---- everything


def read_all(files: Sequence[SourceFile], folder: Path, how: How, recipe: Recipe, workers: int | None) -> list[Read]:
    """Every unit, in order, read into `folder` now or by an earlier call that was cut off; `folder` goes where none is finished.

    `workers`: processes that treat documents; None: one a core where there is more than one unit's worth to read, else this one alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    units = units_of(files)
    bytes_of = {each.file: each.bytes for each in files if each.file}
    total = sum(bytes_of.values())
    before = total - sum(bytes_of[file] for unit in units if not _is_read(unit, folder) for file in unit.files)
    workers = workers or (_cores() if total - before > UNIT_BYTES else 1)
    reads: list[Read] = []
    done = before

    def passing(bytes_read: int) -> None:
        report((done + bytes_read) / 1e6, "")

    try:
        with progress("reading", "MB", total / 1e6 or None, before / 1e6) as report, crew(recipe, workers) as treated:
            for unit in units:
                is_new = not _is_read(unit, folder)
                reads.append(read_unit(unit, folder, how, treated, passing))
                done += is_new * sum(bytes_of[file] for file in unit.files)
    finally:
        if not any(folder.glob("*.json")):  # nothing to go on with
            shutil.rmtree(folder)
    return reads


def _cores() -> int:
    """Those that this process may use; macOS only knows how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_read(unit: Unit, folder: Path) -> bool:
    return (folder / f"{unit.key}.json").is_file()
