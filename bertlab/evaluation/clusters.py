"""Vectors in groups, held against labels: k-means, and how far groups and labels tell each other.

    homogeneity   1 - H(label | group) / H(label): 1 where no group mixes labels
    completeness  1 - H(group | label) / H(group): 1 where no label is spread over groups
    v_measure     their harmonic mean (Rosenberg & Hirschberg 2007)

As scikit-learn has them; what is 0/0 is 1. Few texts in many cells of (label, group) look better than many do, since entropies of few
counts are too small: a value is one of sets of so many texts, and so is its interval. A bootstrap adds that error once more (of 20 labels
and 500 texts its interval lay above the true value in all of 150 simulations), so interval and the test of a difference are the
jackknife's (docs/embeddings.md has the coverage). `by_chance` says what groups of these sizes would reach if texts were put into them
by lot.

An interval takes the groups as they are, as a rule that would put other texts where these lie; it does not know that k-means on other texts
makes other groups. Vectors and centres of k-means are held in memory; it costs texts x groups x numbers x rounds.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertlab.evaluation.intervals import LEVEL, Interval
from bertlab.evaluation.predictions import write_rows
from bertlab.evaluation.resampling import generator
from bertlab.evaluation.vectors import unit as of_length_one

NAMES = ("v_measure", "homogeneity", "completeness")
STARTS = 10  # of k-means; the best by its own measure is kept
LOTS = 200  # random groupings, for what chance reaches
BY_LOT = 9  # the purpose of the random stream


def k_means(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n, d) vectors, taken to length 1, in `count` groups: their numbers (n,). The same for any number of threads."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():  # its threads add in any order
        warnings.simplefilter("ignore")  # fewer different vectors than groups: some stay empty
        return np.asarray(KMeans(count, n_init=STARTS, random_state=seed).fit_predict(of_length_one(vectors)), dtype=np.int64)


def cluster_scores(gold: Any, groups: Any) -> dict[str, float]:
    """NAMES of n > 0 texts by their labels and groups (n,), numbers or texts."""
    return dict(zip(NAMES, _scores(*_entropies(_numbered(gold), _numbered(groups))).tolist(), strict=True))


def cluster_metrics(gold: Any, groups: Any, *, seed: int = 0) -> dict[str, Any]:
    """`cluster_scores`, n, how many labels and groups there are, and by_chance."""
    gold, groups = _numbered(gold), _numbered(groups)
    draw = generator(seed, BY_LOT)
    lots = [cluster_scores(gold, draw.permutation(groups))["v_measure"] for _ in range(LOTS)]
    return {
        "n": len(gold),
        "labels": int(gold.max()) + 1,
        "groups": int(groups.max()) + 1,
        **cluster_scores(gold, groups),
        "by_chance": {"mean": float(np.mean(lots)), "high": float(np.quantile(lots, 0.95)), "lots": LOTS, "seed": seed},
    }


def cluster_intervals(gold: Any, groups: Any, *, level: float = LEVEL, clusters: np.ndarray | None = None) -> dict[str, Any]:
    """An interval for each of NAMES; with (n,) cluster numbers (documents, users) whole ones are left out."""
    values, left_out, times = _leave_one_out(_numbered(gold), _numbered(groups), clusters)
    n = int(times.sum())
    found = [_interval(float(value), _error(out, times), n, level) for value, out in zip(values, left_out, strict=True)]
    return {"level": level, "n": len(gold)} | dict(zip(NAMES, map(_within, found), strict=True))


def cluster_differences(
    gold: Any, a: Any, b: Any, *, level: float = LEVEL, clusters: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Of each of NAMES: a, b, difference, interval, standard_error and two-sided p of two groupings (n,) of the same texts."""
    from scipy.stats import t

    gold, a, b = _numbered(gold), _numbered(a), _numbered(b)
    unit = _numbered(np.stack([gold, a, b], axis=1)) if clusters is None else clusters
    (of_a, out_a, times), (of_b, out_b, _) = (_leave_one_out(gold, groups, unit, once=clusters is not None) for groups in (a, b))
    found = {}
    for number, name in enumerate(NAMES):
        difference, error, n = float(of_a[number] - of_b[number]), _error(out_a[number] - out_b[number], times), int(times.sum())
        p = float(2 * t.sf(abs(difference) / error, n - 1)) if error > 1e-12 else float(abs(difference) < 1e-12)
        found[name] = {
            "a": float(of_a[number]),
            "b": float(of_b[number]),
            "difference": difference,
            "interval": _interval(difference, error, n, level),
            "standard_error": error,
            "p": p,
        }
    return found


def write_cluster_predictions(
    path: Path, *, ids: Sequence[str], text_hashes: Sequence[str], gold: Sequence[str], groups: Sequence[int] | np.ndarray
) -> None:
    """Write n texts: the label as gold, the number of the group as predicted."""
    columns = {"gold": pa.array(list(gold), pa.string()), "predicted": pa.array([str(number) for number in groups], pa.string())}
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task="clustering", names=[])


# --- the measures -----------------------------------------------------------------------------------------------------------------------


def _numbered(values: Any) -> np.ndarray:
    """Numbers from 0 for what is there, rows of a matrix or single values."""
    return np.asarray(np.unique(np.asarray(values), axis=0, return_inverse=True)[1]).reshape(-1)


def _scores(of_labels: Any, of_groups: Any, of_both: Any) -> np.ndarray:
    """NAMES, (3, ...), from the entropies of labels, of groups and of (label, group)."""
    shared = np.maximum(of_labels + of_groups - of_both, 0.0)

    def share(below: Any) -> np.ndarray:
        varies = below > 1e-12
        return np.where(varies, shared / np.where(varies, below, 1), 1.0)

    return np.stack([share((of_labels + of_groups) / 2), share(of_labels), share(of_groups)])


def _n_log_n(counts: np.ndarray) -> np.ndarray:
    return counts * np.log(np.maximum(counts, 1))


def _entropies(gold: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """In nats, of labels, groups and both."""
    counted = [np.bincount(gold), np.bincount(groups), np.unique(gold * (groups.max() + 1) + groups, return_counts=True)[1]]
    first, second, both = (math.log(len(gold)) - float(_n_log_n(counts).sum()) / len(gold) for counts in counted)
    return first, second, both


def _leave_one_out(
    gold: np.ndarray, groups: np.ndarray, unit: np.ndarray | None = None, once: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NAMES of all texts (3,), with one unit left out (3, U), and how many such units there are (U,).

    unit: (n,) numbers from 0 of what is left out together (`once`), or of equal texts of which one is left out. None: equal texts.
    """
    both = _numbered(gold * (groups.max() + 1) + groups)
    if unit is None:
        unit, once = both, False
    sizes = np.bincount(unit)
    entropies, left_out = [], []
    rest = len(gold) - (sizes if once else np.ones(len(sizes)))
    for cells in (gold, groups, both):
        counts = np.bincount(cells)
        pairs, taken = np.unique(unit * len(counts) + cells, return_counts=True)  # (unit, cell), and how many of the unit are there
        of_unit, of_cell = pairs // len(counts), counts[pairs % len(counts)]
        fewer = of_cell - (taken if once else 1)
        total = _n_log_n(counts).sum()
        sums = total - np.bincount(of_unit, _n_log_n(of_cell) - _n_log_n(fewer), len(sizes))
        entropies.append(math.log(len(gold)) - total / len(gold))
        left_out.append(np.log(np.maximum(rest, 1)) - sums / np.maximum(rest, 1))
    return _scores(*entropies), _scores(*left_out), np.ones(len(sizes), dtype=np.int64) if once else sizes


def _error(left_out: np.ndarray, times: np.ndarray) -> float:
    """The jackknife's standard error from (U,) values with one of a unit left out, each `times` as many."""
    n = int(times.sum())
    mean = float((left_out * times).sum() / n)
    return math.sqrt((n - 1) / n * float((times * (left_out - mean) ** 2).sum()))


def _interval(value: float, error: float, n: int, level: float) -> Interval:
    from scipy.stats import t

    if n < 2 or not error > 1e-12:
        return {"low": None, "high": None, "method": "none: leaving out any text changes nothing"}
    half = float(t.isf((1 - level) / 2, n - 1)) * error
    return {"low": value - half, "high": value + half, "method": "jackknife, Student's t"}


def _within(interval: Interval) -> Interval:
    """The part of it from 0 to 1."""
    if interval["low"] is None:
        return interval
    return interval | {"low": min(1.0, max(0.0, interval["low"])), "high": min(1.0, max(0.0, interval["high"]))}
