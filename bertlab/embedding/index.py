"""A file of vectors that `bertlab embed` wrote, opened to be searched: a block at a time, with the model and the texts that made it.

Its manifest says which model that was, and by which settings: a query must be a vector of the same, or its cosines mean nothing. Both the
vectors and the model are compared with their recorded hashes (about 1 GB/s) before anything is believed.
Memory: one block (of Parquet: one row group, the texts of one --part), whatever the number of vectors.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.sources import File, files_of
from bertlab.corpus.texts import labelled_texts
from bertlab.disk import MANIFEST, bound_entries, read_sealed, sha256_file, verify_files
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.vectors import STORED, Numbers, Packed, stored_in, unpacked
from bertlab.model.facts import fetch, model_origin, no_model, other_files

if TYPE_CHECKING:
    from bertlab.embedding.engine import Embedder

BLOCK_ROWS = 4096  # of 384 numbers: 6 MB, and 64 MB of cosines with another block

Block = tuple[int, np.ndarray]  # the number of its first row, and (b, D) float32 vectors


@dataclass(frozen=True)
class Index:
    """A file of vectors with what its manifest says of it. `numbers`: how they are stored."""

    path: Path
    facts: dict[str, Any]
    rows: int
    numbers: Numbers

    @property
    def origin(self) -> dict[str, Any]:
        """The input that the texts were in: path, the column of the text, and sha256 or the files of a folder with theirs."""
        found: dict[str, Any] = self.facts["from"]["input"]
        return found


def described(path: Path) -> dict[str, Any]:
    """What the manifest beside a file of vectors says, before a byte of these is read. Raises ConfigError for what is no such file."""
    manifest = path.with_name(f"{path.name}.{MANIFEST}")
    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a file that bertlab embed wrote")
    if not manifest.is_file():
        raise ConfigError(f"{path}: no {manifest.name} beside it says what it was made from: write it with bertlab embed")
    facts = read_sealed(manifest)
    if "task" in facts:
        raise ConfigError(f"{path} holds answers of bertlab predict, no vectors: give a file that bertlab embed wrote")
    return facts


def open_index(path: Path) -> Index:
    """Raises ConfigError for what is no file of one vector a text by `embed`, CorruptError where a byte of it is not what was written."""
    facts, manifest = described(path), path.with_name(f"{path.name}.{MANIFEST}")
    bound = bound_entries(facts, manifest)
    verify_files(path.parent, bound)
    try:
        rows, numbers, pooling = facts["rows"], facts["numbers"], facts["pooling"]
        said = [facts["from"]["model"]["files"], facts["from"]["input"]["path"], facts["dims"], facts["layers"], facts["normalize"]]
    except (KeyError, TypeError):
        said = []
    if not said or numbers not in STORED or path.name not in bound:
        raise CorruptError(f"{manifest} does not say how the vectors were made: embed again")
    if pooling is None:
        raise ConfigError(f"{path} holds vectors of tokens: one vector a text is wanted here, embed without --tokens")
    index = Index(path, facts, _rows_stored(path), numbers)
    if rows != index.rows:
        raise CorruptError(f"{path} has {index.rows:,} vectors where its manifest says {rows!r:.40}: embed again")
    return index


# ---- vectors


def _rows_stored(path: Path) -> int:
    """How many there are by the file's own header: a manifest can say anything."""
    if path.suffix == ".npy":
        return len(_mapped(path))
    return sum(file.metadata.row_group(group).num_rows for _, group, file in _row_groups(path))


def stored_blocks(index: Index, start: int = 0) -> Iterator[tuple[int, Packed]]:
    """The vectors as they are stored, from the block that begins with row `start` on: (number of the first row, at most 4,096 of them)."""
    if index.path.suffix == ".npy":
        values = _mapped(index.path)
        scales = _mapped(index.path.with_suffix(".scales.npy")) if index.numbers == "int8" else None
        for first in range(start, len(values), BLOCK_ROWS):
            end = first + BLOCK_ROWS
            yield first, Packed(np.asarray(values[first:end]), None if scales is None else np.asarray(scales[first:end]))
        return
    for first, group, file in _row_groups(index.path):
        if first + file.metadata.row_group(group).num_rows <= start:
            continue
        stored = stored_in(file.read_row_group(group, columns=["vector", *["scale"] * (index.numbers == "int8")]))
        for begin in range(0, len(stored.values), BLOCK_ROWS):
            if first + begin >= start:
                scales = None if stored.scales is None else stored.scales[begin : begin + BLOCK_ROWS]
                yield first + begin, Packed(stored.values[begin : begin + BLOCK_ROWS], scales)


def blocks(index: Index, start: int = 0) -> Iterator[Block]:
    """The same as the (b, D) float32 vectors that they stand for."""
    for first, stored in stored_blocks(index, start):
        yield first, unpacked(stored, index.numbers)


def _mapped(path: Path) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        len(values)  # a single number has no rows
        return values
    except (ValueError, EOFError, TypeError) as error:
        raise CorruptError(f"{path}: not the array that embed writes ({type(error).__name__}): embed again") from None


def _row_groups(path: Path) -> Iterator[tuple[int, int, pq.ParquetFile]]:
    """(the number of its first row, its own number, the file) of every row group."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            first = 0
            for group in range(file.metadata.num_row_groups):
                yield first, group, file
                first += file.metadata.row_group(group).num_rows
    except pa.ArrowException as error:
        raise CorruptError(f"{path}: not the Parquet that embed writes ({type(error).__name__}): embed again") from None


def ids_of(index: Index, rows: Sequence[int]) -> dict[int, str]:
    """The ids of some rows, in one pass over the file."""
    wanted = set(rows)
    if index.path.suffix == ".npy":
        with index.path.with_suffix(".ids.txt").open(encoding="utf-8", newline="\n") as lines:
            return {row: line.removesuffix("\n") for row, line in enumerate(lines) if row in wanted}
    found: dict[int, str] = {}
    for first, group, file in _row_groups(index.path):
        here = [row for row in wanted if first <= row < first + file.metadata.row_group(group).num_rows]
        if here:
            ids = file.read_row_group(group, columns=["id"])["id"]
            found |= {row: ids[row - first].as_py() for row in here}
    return found


# ---- the model


def embedder_of(index: Index, folder: str | None = None, device: Any = None) -> "Embedder":
    """The model that the vectors were made with: where its manifest says, from here or from beside the file, or at `folder`.

    Raises ConfigError for what is no model folder, and for another model than that, by the sha256 of its files.
    """
    recorded = index.facts["from"]["model"]
    place = str(recorded["path"])
    beside = index.path.parent / place
    if folder is None and not place.startswith("hf:") and not Path(place).exists() and not beside.exists():
        raise ConfigError(f"{index.path} was made by the model in {place}, which is not there: give --model FOLDER")
    place = folder or (place if place.startswith("hf:") or Path(place).exists() else str(beside))
    if not (Path(fetch(place)) / "config.json").is_file():  # a run folder, say, of which every file would differ
        raise ConfigError(no_model(place))
    other = other_files(model_origin(place)["files"], recorded["files"])
    if other:
        remedy = "give the one that did, or embed with this one"
        raise ConfigError(f"{place} is not the model that made {index.path} ({other[0]} differs): {remedy}")
    from bertlab.embedding.engine import open_embedder  # from here on with torch

    return open_embedder(place, device, index.facts["precision"])


def query_vectors(index: Index, embedder: "Embedder", queries: Sequence[str], tally: Counter[str] | None = None) -> np.ndarray:
    """(q, D) float32 vectors of texts, made as those of the index were before they were stored. `tally` counts texts that were cut."""
    from bertlab.embedding.engine import What, finished

    what = What(pooling=index.facts["pooling"], layers=tuple(index.facts["layers"]))
    examples = embedder.encode(queries)
    if tally is not None:
        tally["truncated"] += examples.num_truncated
    return finished(embedder.vectors(examples, what), index.facts["normalize"], index.facts["dims"])


# ---- the texts


def texts_source(index: Index, given: str | None = None) -> list[File] | None:
    """The files of the texts: those that were embedded, where they are still there and the same, or what is `given`.

    Raises ConfigError for a path that is not there, DataError when what is given is not what was embedded, by its sha256.
    """
    place = given or index.origin["path"]
    if given is not None and not Path(given).exists():
        raise ConfigError(f"{given} does not exist: give the texts that were embedded")
    files = files_of(place) if Path(place).exists() else None
    if files and _hashes(place, files) == _recorded_hashes(index):
        return files
    if given is not None:
        raise DataError(f"{given} is not what {index.path} was made from (its sha256 differs): give the texts that were embedded")
    return None


def _hashes(place: str, files: Sequence[File]) -> dict[str, str]:
    if not Path(place).is_dir():
        return {"": sha256_file(files[0].path)}
    return {file.path.relative_to(place).as_posix(): sha256_file(file.path) for file in files}


def _recorded_hashes(index: Index) -> dict[str, str]:
    return dict(index.origin.get("files") or {"": index.origin.get("sha256", "")})


def texts_of(index: Index, files: Sequence[File], rows: Sequence[int], column: str) -> dict[int, str]:
    """The texts of some rows, in one pass over the files."""
    return {row: text for row, (text, _) in labelled_texts_of(index, files, rows, column, None).items()}


def labelled_texts_of(
    index: Index, files: Sequence[File], rows: Sequence[int], column: str, label: str | None
) -> dict[int, tuple[str, str | None]]:
    """The texts of some rows with their labels, in one pass over the files; `label` is a column, and None where a row has none."""
    wanted = set(rows)
    found: dict[int, tuple[str, str | None]] = {}
    separator, encoding = index.origin.get("separator"), index.origin.get("encoding", AS_NAMED.encoding)
    dialect = Dialect(separator=None if separator is None else str(separator), encoding=str(encoding))
    for row, (_, text, its) in enumerate(labelled_texts(files, text=column, label=label, dialect=dialect)):
        if row in wanted:
            found[row] = text, its
            if len(found) == len(wanted):
                break
    return found
