"""Predicted numbers against true ones: correlations and errors, as scipy and scikit-learn compute them, and resampling them.

Conventions: a correlation with what does not vary is 0/0 and counts as 0, r2 of such gold is 1 where every prediction is exact and else 0
(scikit-learn's choice). Spearman's takes equal values by their mean rank.

A resample is how often each example occurs, and every metric is a function of these weights: moments are one matrix product, ranks one
cumulative sum along the sorted values. 10,000 resamples of all five metrics cost about as many operations as 10,000 n times a few dozen.

Letters: n examples, m weighted pairs, U units (examples or clusters), B resamples of a block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertlab.evaluation.resampling import BLOCK, SMALL_SET, swapped

LOWER_IS_BETTER = ("mae", "rmse")
_FLAT = 1e-12  # of the whole's variance: what rounding leaves where nothing varies


def number_metrics(gold: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Metrics of n > 0 pairs: spearman, pearson, mae, rmse (root of the mean squared error), r2; n; and both sides' mean and sd."""
    gold, predicted = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    assert gold.shape == predicted.shape == (len(gold),) and len(gold) > 0
    values = weighted_scores(gold, predicted, np.ones((len(gold), 1)), list(NUMBER_METRICS))[:, 0]
    spread = {name: {"mean": float(side.mean()), "sd": float(side.std())} for name, side in (("gold", gold), ("predicted", predicted))}
    return {"n": len(gold)} | {name: float(value) for name, value in zip(NUMBER_METRICS, values, strict=True)} | {"spread": spread}


# --- metrics of weighted pairs ----------------------------------------------------------------------------------------------------------


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(m,) or (m, B) values under (m, B) weights -> (B,)."""
    with np.errstate(invalid="ignore"):  # a sample that holds no pair has no mean
        return (values @ weights if values.ndim == 1 else (values * weights).sum(0)) / weights.sum(0)


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's of (m,) or (m, B) values, both of about mean 0 so that nothing cancels; 0 where either does not vary."""
    mean_x, mean_y = _mean(x, weights), _mean(y, weights)
    var_x, var_y = _mean(x * x, weights) - mean_x**2, _mean(y * y, weights) - mean_y**2
    varies = (var_x > _FLAT * (x * x).max(initial=0)) & (var_y > _FLAT * (y * y).max(initial=0))
    root = np.sqrt(np.where(varies, var_x, 1) * np.where(varies, var_y, 1))
    return np.where(varies, np.clip((_mean(x * y, weights) - mean_x * mean_y) / root, -1, 1), 0.0)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(m, B): the mean rank of each value in each resample, from 0 in its middle; rows of weight 0 have one too, which nobody counts."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    of_groups = np.add.reduceat(weights[order], starts, axis=0)
    middles = np.cumsum(of_groups, axis=0) - of_groups / 2
    return np.asarray((middles - weights.sum(0) / 2)[group])


def _pearson(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _correlation(gold - gold.mean(), predicted - predicted.mean(), weights)


def _spearman(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _correlation(_ranks(gold, weights), _ranks(predicted, weights), weights)


def _mae(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _mean(np.abs(gold - predicted), weights)


def _rmse(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean((gold - predicted) ** 2, weights))


def _r2(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    centred = gold - gold.mean()
    spread, error = _mean(centred**2, weights) - _mean(centred, weights) ** 2, _mean((gold - predicted) ** 2, weights)
    varies = spread > _FLAT * (centred**2).max(initial=0)
    return np.where(varies, 1 - error / np.where(varies, spread, 1), (error == 0).astype(float))


NUMBER_METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "mae": _mae,
    "rmse": _rmse,
    "r2": _r2,
}


def weighted_scores(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
    """The metrics of (m,) pairs where pair i occurs weights[i, b] times in resample b. Shape (len(metrics), B)."""
    return np.stack([NUMBER_METRICS[metric](gold, predicted, weights) for metric in metrics])


# --- a test set that can be drawn again -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberUnits:
    """A test set of numbers as units (resampling.Sample): gold (n,), the predictions (S, n) of S systems, and each example's unit (n,)."""

    gold: np.ndarray
    predicted: np.ndarray
    unit: np.ndarray

    @property
    def times(self) -> np.ndarray:
        return np.ones(int(self.unit.max()) + 1, dtype=np.int64)

    @property
    def systems(self) -> int:
        return len(self.predicted)

    @property
    def width(self) -> int:
        return len(self.gold)

    def drawn_scores(self, system: int, times: np.ndarray, metrics: Sequence[Any]) -> np.ndarray:
        return weighted_scores(self.gold, self.predicted[system], times[self.unit], metrics)

    def observed_scores(self, system: int, metrics: Sequence[Any]) -> np.ndarray:
        return self.drawn_scores(system, self.times[:, None].astype(np.float64), metrics)[:, 0]

    def left_out_scores(self, system: int, metrics: Sequence[Any]) -> np.ndarray:
        units = len(self.times)
        width = max(1, BLOCK // len(self.gold))
        parts = []
        for start in range(0, units, width):
            columns = np.arange(start, min(units, start + width))
            parts.append(self.drawn_scores(system, 1.0 - (np.arange(units)[:, None] == columns), metrics))
        return np.concatenate(parts, axis=1)

    def swapped_differences(self, metrics: Sequence[Any], resamples: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
        if (self.predicted[0] == self.predicted[1]).all():
            yield np.zeros((len(metrics), resamples))
            return
        gold, both = np.tile(self.gold, 2), np.concatenate([self.predicted[0], self.predicted[1]])
        for heads in swapped(self.times, len(self.gold) // 3, resamples, draw):
            swap = heads[self.unit]
            of_a, of_b = np.concatenate([1 - swap, swap]), np.concatenate([swap, 1 - swap])
            yield weighted_scores(gold, both, of_a, metrics) - weighted_scores(gold, both, of_b, metrics)

    def is_small(self, metric: Any) -> bool:
        return len(self.times) < SMALL_SET


def units_of_numbers(gold: np.ndarray, predicted: np.ndarray, clusters: np.ndarray | None = None) -> NumberUnits:
    """The units of (n,) true numbers and the (S, n) predictions of S systems; (n,) cluster numbers make whole clusters units."""
    gold, predicted = np.asarray(gold, dtype=np.float64), np.atleast_2d(np.asarray(predicted, dtype=np.float64))
    assert gold.ndim == 1 and len(gold) > 0 and predicted.shape[1] == len(gold)
    unit = np.arange(len(gold)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    return NumberUnits(gold, predicted, unit)


def of_number_metrics(
    gold: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray, *, seed: int = 0, resamples: int, level: float
) -> dict[str, Any]:
    """Intervals for what `number_metrics` gives, under the same keys, with level, n, R and seed beside them."""
    from bertlab.evaluation.intervals import of_units

    units = units_of_numbers(np.asarray(gold), np.asarray(predicted))
    found = of_units(units, list(NUMBER_METRICS), seed=seed, resamples=resamples, level=level)
    return {"level": level, "n": len(units.gold), "R": resamples, "seed": seed} | dict(zip(NUMBER_METRICS, found, strict=True))
