"""The nearest vectors and the near-duplicates among any number of them, exactly, a block at a time.

A product of matrices in fp32 finds the candidates, with a margin as wide as its rounding can be; their cosines are then computed one by one
in fp64. So what is found, its order and its scores depend neither on the size of the blocks nor on what else was asked for. Ties go by row.
Costs n products a query, n^2 / 2 for the pairs of n vectors. Memory: two blocks and their cosines.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bertlab.evaluation.vectors import cosines, unit

CANDIDATES = 2**14  # pairs whose exact cosine is computed at once: of 384 numbers, 100 MB
EQUAL = 1e-9  # two vectors of the same numbers have a cosine of 1 to about 1e-15: a threshold of 1 finds them

Block = tuple[int, np.ndarray]  # the number of its first row, and (b, D) float32 vectors


def nearest_in_blocks(queries: np.ndarray, blocks: Iterable[Block], top: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query (q, D) the `top` rows of highest cosine, best first: rows (top,) and cosines (top,), fewer where there are fewer."""
    best = [(np.empty(0, dtype=np.int64), np.empty(0)) for _ in queries]
    wanted, margin = unit(queries.astype(np.float32)), _margin(queries.shape[1])
    for first, vectors in blocks:
        rough = wanted @ unit(vectors).T  # (q, b)
        for number, query in enumerate(queries):
            rows, scores = best[number]
            known = np.concatenate([scores, rough[number]])
            floor = np.partition(known, -top)[-top] - 2 * margin if len(known) > top else -np.inf
            found = np.flatnonzero(rough[number] >= floor)
            best[number] = _best(np.concatenate([rows, first + found]), np.concatenate([scores, cosines_with(query, vectors[found])]), top)
    return best


def near_pairs(blocks_from: Callable[[int], Iterable[Block]], threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of rows whose cosine is at least `threshold`, once: rows (p, 2), the earlier first, and cosines (p,), as they are found.

    blocks_from: the blocks from the one that begins with that row on; they are read again for each of them.
    """
    for first, vectors in blocks_from(0):
        ours, margin = unit(vectors), _margin(vectors.shape[1])
        for other_first, others in blocks_from(first):
            near = ours @ unit(others).T >= threshold - margin
            rows = np.argwhere(np.triu(near, 1) if other_first == first else near)
            for start in range(0, len(rows), CANDIDATES):
                some = rows[start : start + CANDIDATES]
                exact = cosines(vectors[some[:, 0]], others[some[:, 1]])
                close = exact >= threshold - EQUAL
                if close.any():
                    yield some[close] + [first, other_first], exact[close]


def cosines_with(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The cosine of one vector (D,) with each of (n, D), in fp64: a row's is the same bits whatever the others."""
    return cosines(np.repeat(query[None], len(vectors), axis=0), vectors)


def _best(rows: np.ndarray, scores: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((rows, -scores))[:top]
    return rows[order], scores[order]


def _margin(dims: int) -> float:
    """How far the fp32 cosine of two vectors of so many numbers can be from the exact one: a rounding for each product, sum and scaling."""
    return float(np.finfo(np.float32).eps) * (dims + 8)
