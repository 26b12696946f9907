"""Sentence vectors on disk, and the nearest among them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.disk import whole_file


def write_vectors(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write (n, d) float32 vectors as Parquet: id, and vector as a fixed-size list, in order."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    table = pa.table({"id": pa.array(list(ids), pa.string()), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)


def read_vectors(path: Path) -> tuple[list[str], np.ndarray]:
    """The ids and the (n, d) vectors that `write_vectors` wrote."""
    table = pq.read_table(path)
    column = table["vector"].combine_chunks()
    return table["id"].to_pylist(), np.asarray(column.values).reshape(len(table), -1)


def nearest(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` vectors of highest cosine for each query (q, d), best first: rows (q, count) and cosines (q, count)."""
    cosines = _unit(queries) @ _unit(vectors).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
