"""How well predicted numbers follow the gold ones: Pearson's and Spearman's correlation, with bootstrap intervals.

Pearson's asks for a straight line, Spearman's for the same order (ties have the mean of their ranks). Where gold or predictions are all one
number neither is defined: None, not 0. Intervals: rows.py; in a sample as in the whole, ranks are made anew.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, RESAMPLES
from bertlab.evaluation.rows import Statistics, resamples_for, row_intervals

NAMES = ("pearson", "spearman")
NO_SPREAD = 1e-13  # a variance below this share of the whole set's is 0 but for rounding


def correlation_metrics(
    gold: np.ndarray, predicted: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Any]:
    """n > 0 gold and predicted numbers (n,) -> pearson, spearman, n; their intervals under the same names, with level, R and seed."""
    gold, predicted = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    assert gold.shape == predicted.shape and gold.ndim == 1 and len(gold) > 0
    statistics = correlations(gold, predicted)
    values = statistics(np.ones((len(gold), 1)))[:, 0]
    found = row_intervals(statistics, len(gold), seed=seed, resamples=resamples, level=level)
    return {
        "n": len(gold),
        **{name: None if np.isnan(value) else float(value) for name, value in zip(NAMES, values, strict=True)},
        "intervals": {
            "level": level,
            "n": len(gold),
            "R": resamples_for(len(gold), resamples),
            "seed": seed,
            **dict(zip(NAMES, found, strict=True)),
        },
    }


def correlations(gold: np.ndarray, predicted: np.ndarray) -> Statistics:
    """(n, B) how often each row occurs -> (2, B) Pearson and Spearman, NaN where one side has one value only."""
    x, y = _standardised(gold), _standardised(predicted)
    moments = np.stack([x, y, x * x, y * y, x * y])  # (5, n)
    ranks_x, ranks_y = _ranks(gold), _ranks(predicted)

    def of_weights(times: np.ndarray) -> np.ndarray:
        n = times.sum(0)  # (B,)
        x, y, xx, yy, xy = moments @ times / n
        pearson = _correlation(xy - x * y, xx - x * x, yy - y * y)
        first, second = (ranks(times) - (n + 1) / 2 for ranks in (ranks_x, ranks_y))  # (n, B); this is the mean of n ranks, ties or not
        weighted = times * first
        spread = [(weighted * second).sum(0), (weighted * first).sum(0), (times * second * second).sum(0)]
        spearman = _correlation(*(part * 12 / n**3 for part in spread))  # n ranks have a variance of about n * n / 12
        return np.stack([pearson, spearman])

    return of_weights


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1: of numbers far from 0, squares and products would lose what differs."""
    away = values - values.mean()
    return away / (away.std() or 1.0)


def _ranks(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """(n, B) how often each of the values (n,) occurs -> (n, B) the rank of each among all that occur, from 1 on."""
    distinct, group = np.unique(values, return_inverse=True)  # (n,) the number of each value
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))

    def of_weights(times: np.ndarray) -> np.ndarray:
        of_group = np.add.reduceat(times[order], starts, axis=0)  # (distinct values, B)
        ranks: np.ndarray = (np.cumsum(of_group, axis=0) - of_group + (of_group + 1) / 2)[group]
        return ranks

    return of_weights


def _correlation(together: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """together / sqrt(first * second), kept within -1 and 1 where rounding leaves it; NaN where a variance is 0 but for rounding."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where((first > NO_SPREAD) & (second > NO_SPREAD), together / np.sqrt(first * second), np.nan)
    return np.clip(values, -1.0, 1.0)
