"""Sentence vectors as numbers of 32, 16, 8 or 1 bit, what each of these loses, on disk, and the nearest among them.

    float32   the numbers themselves
    float16   half the size; 11 bits of each number
    int8      a quarter: round(127 v / m), where m = max |v| of the vector; m / 127 is kept as its scale
    binary    1 bit a number: whether it is above 0; 8 to a byte, the first in the highest bit (as numpy.packbits has them)

Parquet holds id, vector (a list of fixed size) and for int8 scale; .npy a row a vector, NAME.ids.txt an id a line and for int8
NAME.scales.npy. Both can be read a part at a time, and numpy.load(mmap_mode="r") gives faiss its matrix without a copy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertlab.disk import whole_file
from bertlab.errors import ConfigError, CorruptError, DataError, first_line

Numbers = Literal["float32", "float16", "int8", "binary"]
STORED = {"float32": np.float32, "float16": np.float16, "int8": np.int8, "binary": np.uint8}
COSINES_AT_ONCE = 2**22  # 16 MB of them
PAIRS_A_PART = 64  # neighbouring vectors whose similarity is compared before and after
NUMBERS_KEY = b"bertlab.numbers"  # in a Parquet file's schema


# ---- numbers


@dataclass(frozen=True)
class Packed:
    """n vectors as they are stored: values (n, width), and for int8 scales (n,) float32."""

    values: np.ndarray
    scales: np.ndarray | None = None


def packed(vectors: np.ndarray, numbers: Numbers) -> Packed:
    """(n, D) float32 vectors in these numbers. Raises ConfigError for what they cannot hold."""
    if numbers == "float16":
        with np.errstate(over="ignore"):
            halves = vectors.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ConfigError("a number is too large for float16: take float32, or vectors of length 1 (--normalize)")
        return Packed(halves)
    if numbers == "int8":
        scales = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float32) / np.float32(127)
        return Packed(np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8), scales)
    if numbers == "binary":
        if vectors.shape[1] % 8:
            raise ConfigError(f"binary vectors are whole bytes: {vectors.shape[1]} numbers are not, give --dims a multiple of 8")
        return Packed(np.packbits(vectors > 0, axis=1))
    return Packed(np.ascontiguousarray(vectors, dtype=np.float32))


def unpacked(stored: Packed, numbers: Numbers) -> np.ndarray:
    """The (n, D) float32 vectors that stored ones stand for; of binary ones each number is 1 or -1."""
    if numbers == "binary":
        return np.unpackbits(stored.values, axis=1).astype(np.float32) * 2 - 1
    values = stored.values.astype(np.float32)
    return values if stored.scales is None else values * stored.scales[:, None]


# ---- what is lost


def measured_loss(stored: Packed, numbers: Numbers, exact: np.ndarray) -> dict[str, Any]:
    """How stored vectors (n, width) differ from the exact ones (n, d >= D), to be summed up by `stated_loss`.

    The cosine of each with the exact one's first D numbers, and for some neighbours the exact similarity, of all d, beside the stored one.
    """
    back = unpacked(stored, numbers)
    kept = cosines(back, exact[:, : back.shape[1]])
    pairs = [cosines(few[:-1], few[1:]).round(9).tolist() for few in (exact[: PAIRS_A_PART + 1], back[: PAIRS_A_PART + 1])]
    return {"rows": len(back), "cosines": float(kept.sum()), "lowest": float(kept.min(initial=1.0)), "pairs": pairs}


def stated_loss(measured: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of all parts together: mean and lowest cosine of a stored vector with the exact one, and the rank correlation (Spearman) of the
    similarities of neighbours before and after, None where fewer than 3 were there or all were equal."""
    from scipy.stats import spearmanr

    rows, total, lowest = 0, 0.0, 1.0
    exact: list[float] = []
    after: list[float] = []
    for part in measured:
        rows, total, lowest = rows + part["rows"], total + part["cosines"], min(lowest, part["lowest"])
        exact += part["pairs"][0]
        after += part["pairs"][1]
    known = len(set(exact)) > 1 and len(set(after)) > 1 and len(exact) > 2
    spearman = float(spearmanr(exact, after).statistic) if known else None
    return {"mean_cosine": total / rows, "lowest_cosine": lowest, "spearman": spearman, "pairs": len(exact)}


# ---- on disk


def vector_schema(width: int, numbers: Numbers, before: Sequence[pa.Field] = ()) -> pa.Schema:
    """The columns of a file of vectors: id, those of `before`, vector, and for int8 scale."""
    fields = [pa.field("id", pa.string()), *before, pa.field("vector", pa.list_(pa.from_numpy_dtype(STORED[numbers]), width))]
    return pa.schema(fields + [pa.field("scale", pa.float32())] * (numbers == "int8"), metadata={NUMBERS_KEY: numbers.encode()})


def vector_table(ids: Sequence[str], stored: Packed, numbers: Numbers, before: dict[pa.Field, Sequence[Any]] | None = None) -> pa.Table:
    """Vectors with their ids, and columns between them, in the columns of `vector_schema`."""
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(stored.values).ravel()), stored.values.shape[1])
    between = [pa.array(values, field.type) for field, values in (before or {}).items()]
    scales = [] if stored.scales is None else [pa.array(stored.scales)]
    schema = vector_schema(stored.values.shape[1], numbers, list(before or {}))
    return pa.Table.from_arrays([pa.array(list(ids), pa.string()), *between, vector, *scales], schema=schema)


def stored_in(table: pa.Table) -> Packed:
    """The vectors of a table of `vector_schema`."""
    column = table["vector"].combine_chunks()
    values = np.asarray(column.values).reshape(len(table), column.type.list_size)
    return Packed(values, table["scale"].to_numpy() if "scale" in table.column_names else None)


def write_vectors(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write (n, d) vectors as Parquet: id, and vector as a fixed-size list of float32, in order."""
    with whole_file(path) as temporary:
        pq.write_table(vector_table(ids, packed(vectors, "float32"), "float32"), temporary)


def read_vectors(path: Path) -> tuple[list[str], np.ndarray]:
    """The ids and the (n, D) float32 vectors of a Parquet file, or of an .npy file with its .ids.txt: what the stored numbers stand for.
    Another program's files will do: ids may be numbers, and vectors of any floating-point type, in Parquet in lists of any kind.

    Raises DataError for a file that holds no such vectors, CorruptError for a damaged one.
    """
    if path.suffix == ".npy":
        return _of_npy(path)
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                raise CorruptError(f"{path}: a damaged Parquet file ({first_line(error)[:200]}): copy it or embed again") from None
        way_out = "vectors are in .parquet with columns id and vector, or in .npy with ids beside it"
        raise DataError(f"{path}: no Parquet file: {way_out}") from None
    if not {"id", "vector"} <= set(table.column_names):
        raise DataError(f"{path}: no columns id and vector: its columns are {', '.join(table.column_names[:20])}")
    said = (table.schema.metadata or {}).get(NUMBERS_KEY)
    table = table if said else table.select(["id", "vector"])
    lists, numbers = table["vector"].type, (said or b"float32").decode(errors="replace")
    if said is None:  # another program's
        are_lists = pa.types.is_list(lists) or pa.types.is_large_list(lists) or pa.types.is_fixed_size_list(lists)
        widths = pc.unique(pc.list_value_length(table["vector"])).to_pylist() if are_lists else []
        if len(widths) != 1 or not widths[0] or not pa.types.is_floating(lists.value_type):
            raise DataError(f"{path}: column vector is {lists}: give lists of numbers with a point, as many in each row")
        table = table.set_column(1, "vector", table["vector"].cast(pa.list_(lists.value_type, widths[0])))
    if numbers not in STORED or not pa.types.is_fixed_size_list(table["vector"].type) or table["id"].null_count:
        raise DataError(f"{path}: its columns id and vector are not such as bertlab embed writes ({numbers}, {lists}): embed again")
    return list(map(str, table["id"].to_pylist())), unpacked(stored_in(table), _numbers(numbers))


def _of_npy(path: Path) -> tuple[list[str], np.ndarray]:
    beside, scaled = path.with_suffix(".ids.txt"), path.with_suffix(".scales.npy")
    if not beside.is_file():
        raise DataError(f"{path}: no {beside.name} beside it: write the ids of its rows there, one a line")
    try:
        values = np.load(path, allow_pickle=False)
        ids = beside.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        scales = np.load(scaled, allow_pickle=False) if scaled.is_file() else None
    except (ValueError, EOFError):  # not numpy's format, or objects
        raise DataError(f"{path}: no array of numbers, or {beside.name} beside it is not UTF-8: write it again") from None
    kind = next((name for name, type in STORED.items() if values.dtype == type), "float32" if values.dtype.kind == "f" else None)
    if kind is None or values.ndim != 2 or (kind == "int8" and scales is None):
        lacks = f", and no {scaled.name}" if kind == "int8" else ""
        raise DataError(
            f"{path}: an array of {values.dtype} and shape {values.shape}{lacks}: give vectors (n, d) of floating-point numbers"
        )
    if len(ids) != len(values):
        raise DataError(f"{path}: {len(values):,} vectors, and {len(ids):,} ids in {beside.name}: give one a line, in their order")
    return ids, unpacked(Packed(values, scales if kind == "int8" else None), _numbers(kind))


def _numbers(name: str) -> Numbers:
    found: dict[str, Numbers] = {each: each for each in get_args(Numbers)}
    return found[name]


# ---- the nearest


def nearest(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` vectors of highest cosine for each query (q, d), best first: rows (q, count) and cosines (q, count)."""
    return nearest_in_blocks(queries, [vectors], count)


def nearest_in_blocks(queries: np.ndarray, blocks: Iterable[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for vectors that come in blocks (m, d), of which one is held at a time; of equal cosines the first is nearer.

    Exact: every cosine is computed.
    """
    wanted = unit(queries)
    rows, best, first = np.empty((len(wanted), 0), dtype=np.int64), np.empty((len(wanted), 0), dtype=wanted.dtype), 0
    for block in blocks:
        found = [_highest(values, count) for _, values in every_cosine(wanted, unit(block))]
        if found:
            rows = np.concatenate([rows, np.concatenate([each for each, _ in found]) + first], axis=1)
            best = np.concatenate([best, np.concatenate([each for _, each in found])], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :count]  # what came first stands first
            rows, best = np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)
        first += len(block)
    return rows, best


def _highest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the `count` highest of (q, m) values, in the order of the columns, of equal ones the first; and these values."""
    q, m = values.shape
    if m <= count:
        return np.tile(np.arange(m), (q, 1)), values
    least = np.partition(values, m - count, axis=1)[:, m - count, None]
    above, equal = values > least, values == least
    taken = above | (equal & (np.cumsum(equal, axis=1) <= count - above.sum(axis=1, keepdims=True)))
    columns = np.nonzero(taken)[1].reshape(q, count)
    return columns, np.take_along_axis(values, columns, axis=1)


def every_cosine(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Of (n, d) and (m, d) vectors of length 1 all cosines, COSINES_AT_ONCE of them at a time: which of the first, and these (r, m)."""
    block = max(1, COSINES_AT_ONCE // max(1, len(second)))
    for start in range(0, len(first), block):
        rows = slice(start, min(start + block, len(first)))
        yield rows, first[rows] @ second.T


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of each row of (n, d) with the same row of the other: (n,), float64."""
    return (unit(first.astype(np.float64)) * unit(second.astype(np.float64))).sum(axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(n, d) vectors scaled to length 1; one of length 0 stays as it is."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
