"""Bootstrap intervals of numbers that rows make and counts do not: probabilities, ranks, correlations.

A bootstrap sample says how often each of the n rows of a test set occurs, and a statistic is a function of that: (n, B) weights ->
(S, B) values, S numbers of B samples at once. Written with weights, a correlation of ranks needs no sorting for each sample, and a mean is
a product of matrices. Percentile intervals, BCa (Efron 1987) below 200 rows. A sample in which a number is not defined (NaN) is left out.

Costs R draws a row: 10,000 samples up to 20,000 rows, then fewer, but never below 1,000; how many there were is told beside each interval.
"""

from collections.abc import Callable

import numpy as np

from bertlab.evaluation.intervals import LEVEL, RESAMPLES, Interval, bca, percentile
from bertlab.evaluation.resampling import SMALL_SET, Units, drawn_with_replacement, generator

Statistics = Callable[[np.ndarray], np.ndarray]  # (n, B) how often each row occurs -> (S, B)

FEWEST_RESAMPLES = 1_000
DRAWS = 200_000_000
ROWS = 6  # the purpose of the random stream
UNDEFINED = "none: the number is not defined on this test set"


def resamples_for(work: int, most: int = RESAMPLES) -> int:
    """R for a sample that costs as much as `work` draws."""
    return min(most, max(FEWEST_RESAMPLES, DRAWS // max(1, work)))


def bootstrap_samples(statistics: Statistics, n: int, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """(S, R): the statistics of R samples of n rows, the same samples for the same n, seed and R."""
    rows = Units(np.ones(n, np.int64), (), 1)
    drawn = drawn_with_replacement(rows, resamples, generator(seed, ROWS))
    return np.concatenate([statistics(times) for times in drawn], axis=1)


def row_intervals(statistics: Statistics, n: int, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> list[Interval]:
    """An interval for each of S statistics of n > 0 rows; R is what is given, or less where rows are many (`resamples_for`)."""
    return intervals_of(statistics, n, bootstrap_samples(statistics, n, seed=seed, resamples=resamples_for(n, resamples)), level)


def intervals_of(statistics: Statistics, n: int, samples: np.ndarray, level: float = LEVEL) -> list[Interval]:
    """The same from (S, R) samples that are there already."""
    estimates = statistics(np.ones((n, 1)))[:, 0]  # (S,)
    left_out = statistics(1.0 - np.eye(n)) if 1 < n < SMALL_SET else None  # (S, n), the jackknife
    found = []
    for number, estimate in enumerate(estimates):
        defined = samples[number][~np.isnan(samples[number])]
        if np.isnan(estimate) or not len(defined):
            found.append({"low": None, "high": None, "method": UNDEFINED})
        else:
            known = left_out[number][~np.isnan(left_out[number])] if left_out is not None else np.empty(0)
            found.append(bca(defined, float(estimate), known, np.ones(len(known)), level) if len(known) else percentile(defined, level))
    return found
