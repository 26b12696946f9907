"""An approximate index of a file of vectors: fast for many, and measured against the exact search before it is used.

A navigable graph (HNSW, Malkov and Yashunin 2018) by usearch, which was chosen because its file is memory-mapped where the other library of
this kind, faiss, reads it whole, because it holds fp16 and int8 as they are, and because it brings no second OpenMP beside torch's.
The graph is kept in FILE.usearch beside the vectors, bound by hash to them, and made again when they are others. It is built by one thread,
so that it is the same bytes each time. The best of what it proposes are ranked by their exact cosines: a score is the exact search's own.
What it misses is measured on vectors of the file itself; queries that are unlike the texts may miss more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.disk import MANIFEST, hash_some, read_sealed, verify_files, whole_file, write_sealed
from bertlab.embedding.index import Index, blocks, stored_blocks
from bertlab.embedding.nearest import exact_nearest, in_order
from bertlab.errors import BertlabError, ConfigError, install
from bertlab.evaluation.rows import row_intervals
from bertlab.evaluation.vectors import Packed, cosines, unpacked

PROPOSED = 64  # at least, for each query; the graph is searched as widely anyhow (usearch's expansion)
SAMPLE, NEIGHBOURS = 100, 10  # recall@10, over so many vectors of the file
AS_NEAR = 1e-6  # the scale of an int8 vector rounds: of rows that are equally near, any will do
DTYPES = {"float32": "f32", "float16": "f16", "int8": "i8", "binary": "i8"}


@dataclass(frozen=True)
class Graph:
    """A graph over the rows of a file; `facts` are those of its manifest, with recall@10 among them."""

    usearch: Any
    facts: dict[str, Any]


def open_graph(index: Index, passing: Callable[[int], None] = lambda rows: None) -> Graph:
    """The graph beside the vectors, built where there is none of these; `passing` is told how many rows are in it meanwhile.

    Raises ConfigError where usearch is not installed.
    """
    try:
        from usearch.index import Index as Usearch
    except ImportError:
        raise ConfigError(f"an approximate index needs usearch: {install('search')}, or search exactly") from None
    path = index.path.with_name(f"{index.path.name}.usearch")
    facts = _still_true(path, index)
    if facts is None:
        built = Usearch(ndim=index.facts["dims"], metric="cos", dtype=DTYPES[index.numbers])
        for first, stored in stored_blocks(index):
            held = _held(stored, index)
            built.add(np.arange(first, first + len(held)), held, threads=1)
            passing(first + len(held))
        facts = {"vectors": index.facts["files"], "recall": measured_recall(index, Graph(built, {}))}
        with whole_file(path) as temporary:
            built.save(str(temporary))
        facts |= {"files": hash_some(path.parent, [path.name])}
        write_sealed(_manifest(path), facts)
    return Graph(Usearch.restore(str(path), view=True), facts)


def propose(graph: Graph, queries: np.ndarray, top: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query (q, D) up to `top` rows that are probably the nearest, best first: rows (top,) and their exact cosines (top,)."""
    found = []
    for query in queries.astype(np.float32):
        rows = np.asarray(graph.usearch.search(query, max(PROPOSED, 2 * top), threads=1).keys).astype(np.int64)
        held = np.asarray(graph.usearch.get(rows)).astype(np.float32)
        ranked, scores = in_order(rows, cosines(np.repeat(query[None], len(held), axis=0), held))
        found.append((ranked[:top], scores[:top]))
    return found


def measured_recall(index: Index, graph: Graph) -> dict[str, Any]:
    """recall@10 over up to 100 vectors of the file, evenly spaced, with its 95 % interval over them: how many of the ten nearest others are
    proposed."""
    sample = np.unique(np.linspace(0, index.rows - 1, min(SAMPLE, index.rows)).astype(np.int64))
    queries = np.concatenate(
        [vectors[sample[(sample >= first) & (sample < first + len(vectors))] - first] for first, vectors in blocks(index)]
    )
    exact, ours = zip(*exact_nearest(queries, blocks(index), NEIGHBOURS + 1), strict=True), propose(graph, queries, NEIGHBOURS + 1)
    recalls = np.array([_recall(row, *pair) for row, *pair in zip(sample, exact, ours, strict=True)])
    interval = row_intervals(lambda times: (recalls @ times / times.sum(axis=0))[None], len(recalls))[0]
    return {"at": NEIGHBOURS, "queries": len(sample), "value": float(recalls.mean()), **interval}


def _recall(row: int, exact: tuple[np.ndarray, np.ndarray], ours: tuple[np.ndarray, np.ndarray]) -> float:
    of_others = [scores[rows != row][:NEIGHBOURS] for rows, scores in (exact, ours)]
    if not len(of_others[0]):
        return 1.0
    return float((of_others[1] >= of_others[0][-1] - AS_NEAR).sum() / len(of_others[0]))


def _held(stored: Packed, index: Index) -> np.ndarray:
    """What the graph holds of stored vectors: the same numbers, of binary ones 1 and -1 (cosines need no scales)."""
    return unpacked(stored, "binary").astype(np.int8) if index.numbers == "binary" else stored.values


def _still_true(path: Path, index: Index) -> dict[str, Any] | None:
    """What the manifest of a graph says, if it is of these vectors and the graph is what was written."""
    try:
        facts = read_sealed(_manifest(path))
        verify_files(path.parent, facts["files"])
    except (BertlabError, KeyError):
        return None
    return facts if facts.get("vectors") == index.facts["files"] else None


def _manifest(path: Path) -> Path:
    return path.with_name(f"{path.name}.{MANIFEST}")
