"""The nearest vectors and the near-duplicates among any number of them, exactly, a block at a time.

The nearest are found in fp64, with cosines to 12 digits: neither the size of the blocks nor the other queries can be seen in them.
For pairs a product in fp32 finds the candidates, with a margin as wide as its rounding can be, and their cosines are computed in fp64.
Costs n products a query, n^2 / 2 for the pairs of n vectors. Memory: two blocks and their cosines.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bertlab.evaluation.vectors import cosines, nearest_in_blocks, unit

CANDIDATES = 2**14  # pairs whose exact cosine is computed at once: of 384 numbers, 100 MB
EQUAL = 1e-9  # two vectors of the same numbers have a cosine of 1 to about 1e-15: a threshold of 1 finds them
DIGITS = 12  # of a cosine; fp64 has 15, and the last of them depend on how a product was cut

Block = tuple[int, np.ndarray]  # the number of its first row, and (b, D) float32 vectors


def exact_nearest(queries: np.ndarray, blocks: Iterable[Block], top: int) -> tuple[np.ndarray, np.ndarray]:
    """For each query (q, D) the `top` rows of highest cosine, best first, of equal ones the first: rows and cosines, (q, top) or fewer."""
    found = nearest_in_blocks(queries.astype(np.float64), (vectors.astype(np.float64) for _, vectors in blocks), top)
    return in_order(*found)


def in_order(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cosines, (n,) or (q, n), best first and then by row, with cosines to so many digits as are the same everywhere."""
    rounded = scores.round(DIGITS)
    order = np.lexsort((rows, -rounded))
    return np.take_along_axis(rows, order, axis=-1), np.take_along_axis(rounded, order, axis=-1)


def pairs_in_order(rows: np.ndarray, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows (p, 2) and their cosines (p,), the nearest first and then by row, with as many digits as are the same everywhere."""
    rounded = cosines.round(DIGITS)
    order = np.lexsort((rows[:, 1], rows[:, 0], -rounded))
    return rows[order], rounded[order]


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


def _margin(dims: int) -> float:
    """How far the fp32 cosine of two vectors of so many numbers can be from the exact one: a rounding for each product, sum and scaling."""
    return float(np.finfo(np.float32).eps) * (dims + 8)
