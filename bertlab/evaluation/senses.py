"""Vectors of a word put into groups, and the groups held against known senses. Numbers in, numbers out.

Ward's method (1963) on vectors of length 1; where the number of groups is not given, the one from 2 to 8 with the largest mean silhouette
(Rousseeuw 1987), the smallest of these where several are equal. A silhouette compares ways to divide and cannot say "one sense": below 0.25
its author calls what was found no substantial structure (Kaufman and Rousseeuw 1990), and `Groups.weak` says so.
Costs n^2 distances in memory: 32 MB for 2,000 vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertlab.evaluation.vectors import unit

MOST_GROUPS = 8
SUBSTANTIAL = 0.25


@dataclass(frozen=True)
class Groups:
    """`of` (n,): the group of each vector, the largest group is 0. `silhouette`: the mean one, None where all are in one group."""

    of: np.ndarray
    silhouette: float | None

    @property
    def count(self) -> int:
        return int(self.of.max()) + 1

    @property
    def weak(self) -> bool:
        """Whether the groups are no substantial structure, by the silhouette."""
        return self.silhouette is None or self.silhouette < SUBSTANTIAL


def grouped(vectors: np.ndarray, senses: int | None = None) -> Groups:
    """(n, d) vectors in `senses` groups, or as many as the silhouette prefers; vectors of which fewer differ are in as many groups."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    scaled = unit(vectors.astype(np.float64)).round(6)  # so that vectors that are equal but for rounding are equal
    different = len(np.unique(scaled, axis=0))
    if different < 2 or senses == 1:
        return Groups(np.zeros(len(vectors), np.int64), None)
    best: Groups | None = None
    for count in [min(senses, different)] if senses else range(2, min(MOST_GROUPS, different) + 1):
        of = AgglomerativeClustering(n_clusters=count, linkage="ward").fit_predict(scaled)
        score = float(silhouette_score(scaled, of)) if count < len(vectors) else 0.0
        if best is None or best.silhouette is None or score > best.silhouette + 1e-9:
            best = Groups(_largest_first(of), score)
    assert best is not None
    return best


def agreement(groups: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Of groups (n,) with labels: purity (the share of vectors whose label is the commonest of their group), V-measure (Rosenberg and
    Hirschberg 2007), and what purity one group of all would have."""
    from sklearn.metrics import v_measure_score
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(list(labels), groups)  # (labels, groups)
    total = counts.sum()
    return {
        "purity": float(counts.max(axis=0).sum() / total),
        "v_measure": float(v_measure_score(list(labels), groups)),
        "one_group_purity": float(counts.sum(axis=1).max() / total),
    }


def typical(vectors: np.ndarray, groups: Groups, count: int) -> list[list[int]]:
    """For each group the rows of its `count` vectors that are nearest to its mean, nearest first."""
    scaled = unit(vectors.astype(np.float64))
    found = []
    for group in range(groups.count):
        rows = np.flatnonzero(groups.of == group)
        near = scaled[rows] @ scaled[rows].mean(axis=0)
        found.append(rows[np.argsort(-near, kind="stable")[:count]].tolist())
    return found


def _largest_first(of: np.ndarray) -> np.ndarray:
    """Groups numbered by size, those of one size by their first member."""
    names, first, sizes = np.unique(of, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    numbers = np.empty(len(names), np.int64)
    numbers[order] = np.arange(len(names))
    return numbers[np.searchsorted(names, of)]
