"""Is the difference between two systems more than chance? From predictions on the same examples, for any metric of resampling.py.

d = M(A) - M(B). Tests are two-sided unless they say otherwise, and a p-value is the share of cases in which chance alone, with no
difference between the systems, gives a |d| at least as large. Resampling tests count with 1 added above and below, so that p is never 0,
and with >= and a tolerance, because F1 takes few values: with a strict > two systems that agree would differ significantly.

    mcnemar                     accuracy alone: McNemar 1947, exact and mid-p (Fagerland 2013)
    randomisation_p             any metric: approximate randomisation (Noreen 1989; Yeh 2000)
    paired_bootstrap            any metric: interval and p-value (Efron & Tibshirani 1993; Berg-Kirkpatrick et al. 2012)
    two_level_bootstrap         several seeds of each: a claim about methods, not about two trained models
    seed_permutation_p, welch_p the scores of the seeds alone, on this test set
    holm, benjamini_hochberg    many comparisons at once
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, Interval, percentile
from bertlab.evaluation.resampling import (
    Sample,
    bootstrap_scores,
    drawn_with_replacement,
    generator,
)

TOLERANCE = 1e-12  # of two sums of floating-point numbers that stand for the same fraction
PAIRED, RANDOMISED, OF_METHODS, OF_SEEDS = 2, 3, 4, 5  # the purposes of the random streams
MOST_SPLITS = 20_000  # up to here every way to divide the seeds is looked at, above R of them


# --- two trained models -----------------------------------------------------------------------------------------------------------------


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict[str, Any]:
    """McNemar's test of (n,) truth values: b examples that only A has right against c that only B has right.

    Exact p = min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2); mid-p = exact - P(X = min(b, c)), and 1 where b = c.
    """
    from scipy.stats import binom

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    fewer, all_of_them = min(only_a, only_b), only_a + only_b
    exact = min(1.0, 2 * float(binom.cdf(fewer, all_of_them, 0.5)))
    mid = 1.0 if only_a == only_b else exact - float(binom.pmf(fewer, all_of_them, 0.5))
    return {"only_a": only_a, "only_b": only_b, "p_exact": exact, "p_mid": mid}


def randomisation_p(units: Sample, metrics: Sequence[Any], resamples: int, seed: int) -> np.ndarray:
    """Approximate randomisation of two systems, (len(metrics),) p-values.

    Each example's (or cluster's) two answers are swapped with probability 1/2 and d is measured again:
    p = (1 + #{|d_r| >= |d|}) / (R + 1).
    """
    least = np.abs(units.observed_scores(0, metrics) - units.observed_scores(1, metrics)) - TOLERANCE
    as_large = np.zeros(len(metrics))
    for differences in units.swapped_differences(metrics, resamples, generator(seed, RANDOMISED)):
        as_large += (np.abs(differences) >= least[:, None]).sum(1)
    return (1 + as_large) / (resamples + 1)


def paired_bootstrap(units: Sample, metrics: Sequence[Any], resamples: int, seed: int, level: float = LEVEL) -> list[dict[str, Any]]:
    """For each metric the difference of two systems, its interval, its standard error and its bootstrap p-values.

    Both systems are scored on the same samples of the examples. The interval is the percentile one: of differences BCa covered no better,
    and on few examples worse (docs/comparing.md). Two-sided p = (1 + #{|d* - d| >= |d|}) / (R + 1); one-sided, for a higher
    score of A (of losses a worse one), (1 + #{d* >= 2d}) / (R + 1).
    """
    of_a, of_b = bootstrap_scores(units, metrics, resamples, generator(seed, PAIRED))
    samples = of_a - of_b
    estimates = units.observed_scores(0, metrics) - units.observed_scores(1, metrics)
    found = []
    for values, estimate in zip(samples, estimates, strict=True):
        found.append(
            {
                "difference": float(estimate),
                "interval": percentile(values, level),
                "standard_error": float(values.std(ddof=1)),
                "p_bootstrap": _as_far(values, float(estimate)),
                "p_bootstrap_one_sided": float((1 + (values >= 2 * estimate - TOLERANCE).sum()) / (resamples + 1)),
            }
        )
    return found


def _as_far(samples: np.ndarray, estimate: float) -> float:
    return float((1 + (np.abs(samples - estimate) >= abs(estimate) - TOLERANCE).sum()) / (len(samples) + 1))


# --- two methods, several seeds of each -------------------------------------------------------------------------------------------------


def two_level_bootstrap(
    units: Sample, seeds_of_a: int, metrics: Sequence[Any], resamples: int, seed: int, level: float = LEVEL
) -> list[dict[str, Any]]:
    """Mean difference of two methods: seeds are drawn for each method and examples jointly. Systems 0 to seeds_of_a - 1 are A's.

    Three corrections, without which the test is not one of 5 % (docs/comparing.md). Of S seeds S - 1 are drawn, which gives their mean
    its variance s^2 / S (drawing S gives less). What a seed does on single examples is in the spread of the seeds, in that of the examples
    and once more in that of both together (Owen 2007), and ought to be there once: the samples are drawn in until their variance is
    (seeds) + (examples) - (both - seeds - examples). p-value and interval are read from Student's t with Satterthwaite's degrees of
    freedom, because a handful of seeds knows its own spread badly. A method of one seed is taken as it is: its spread is unknown.
    """
    systems = units.systems
    groups = [np.arange(seeds_of_a), np.arange(seeds_of_a, systems)]
    observed = np.stack([units.observed_scores(system, metrics) for system in range(systems)])  # (S, M)
    draw = generator(seed, OF_METHODS)
    parts, fixed_seeds = [], []
    for times in drawn_with_replacement(units, resamples, draw):
        values = np.stack([units.drawn_scores(system, times, metrics) for system in range(systems)])  # (S, M, B)
        fixed_seeds.append(values[groups[0]].mean(0) - values[groups[1]].mean(0))
        means = []
        for group in groups:
            drawn = draw.integers(len(group), size=(max(1, len(group) - 1), times.shape[1]))
            means.append(values[group[drawn], :, np.arange(times.shape[1])].mean(0).T)
        parts.append(means[0] - means[1])
    samples, of_examples = np.concatenate(parts, axis=1), np.concatenate(fixed_seeds, axis=1).var(1, ddof=1)
    found = []
    for number in range(len(metrics)):
        of_a, of_b = (observed[group, number] for group in groups)
        result = _of_methods(samples[number], float(of_examples[number]), int(units.times.sum()), of_a, of_b, level)
        found.append(result | {"p_permutation_of_seeds": seed_permutation_p(of_a, of_b, resamples, seed)})
    return found


def _of_methods(
    samples: np.ndarray, of_examples: float, num_examples: int, scores_a: np.ndarray, scores_b: np.ndarray, level: float
) -> dict[str, Any]:
    """One metric's result from (R,) samples, the variance that the examples alone give, and the scores of the seeds."""
    estimate = float(scores_a.mean() - scores_b.mean())
    of_seeds = [(scores.var(ddof=1) / len(scores), len(scores) - 1) for scores in (scores_a, scores_b) if len(scores) > 1]
    once = of_examples + sum(variance for variance, _ in of_seeds)
    variance = max(2 * once - samples.var(ddof=1), of_examples, once - of_examples)
    freedom = np.inf
    if variance > 0:
        samples = estimate + (samples - estimate) * np.sqrt(variance / samples.var(ddof=1))
        freedom = variance**2 / sum(part**2 / df for part, df in [(of_examples, max(1, num_examples - 1)), *of_seeds])
    return {
        "difference": estimate,
        "interval": _stretched(samples, estimate, freedom, level),
        "standard_error": float(np.sqrt(variance)),
        "degrees_of_freedom": float(freedom) if np.isfinite(freedom) else None,
        "p_two_level": _by_t(samples, estimate, freedom),
        "p_welch": welch_p(scores_a, scores_b),
        "seed_scores_a": scores_a.tolist(),
        "seed_scores_b": scores_b.tolist(),
    }


def _stretched(samples: np.ndarray, estimate: float, freedom: float, level: float) -> Interval:
    """The percentile interval, each side longer by what Student's t asks above the normal distribution.

    The percentile that t itself would ask for lies beyond what a handful of seeds can show: two drawn from three have six means.
    """
    from scipy.stats import norm, t

    if np.ptp(samples) < TOLERANCE:
        return {"low": None, "high": None, "method": "none: every bootstrap sample gives the same value"}
    tail = (1 - level) / 2
    low, high = estimate + (np.quantile(samples, [tail, 1 - tail]) - estimate) * t.isf(tail, freedom) / norm.isf(tail)
    return {"low": float(low), "high": float(high), "method": "two-level bootstrap, Student's t"}


def _by_t(samples: np.ndarray, estimate: float, freedom: float) -> float:
    """Two-sided p-value, 0.05 where the 95 % interval ends at 0, and at least 1 / (R + 1) as all others of R resamples."""
    from scipy.stats import t

    interval = _stretched(samples, estimate, freedom, LEVEL)
    if interval["low"] is None:
        return _as_far(samples, estimate)
    reach = max(interval["high"] - estimate if estimate < 0 else estimate - interval["low"], TOLERANCE)
    return float(max(2 * t.sf(t.isf((1 - LEVEL) / 2, freedom) * abs(estimate) / reach, freedom), 1 / (len(samples) + 1)))


def seed_permutation_p(scores_a: np.ndarray, scores_b: np.ndarray, resamples: int, seed: int) -> float | None:
    """Permutation test of the mean score of the seeds: exact up to 20,000 ways to divide them, else R of them. None for one seed each.

    The seeds are not paired: seed 0 of one method has nothing to do with seed 0 of another. It is a claim about this test set alone.
    """
    values, size = np.concatenate([scores_a, scores_b]), len(scores_a)
    if size < 2 and len(scores_b) < 2:
        return None
    least = abs(scores_a.mean() - scores_b.mean()) - TOLERANCE

    def differences(chosen: np.ndarray) -> np.ndarray:
        sums = values[chosen].sum(1)
        return np.abs(sums / size - (values.sum() - sums) / len(scores_b))

    if comb(len(values), size) <= MOST_SPLITS:
        every = np.array(list(combinations(range(len(values)), size)))
        return float((differences(every) >= least).mean())
    draw = generator(seed, OF_SEEDS)
    chosen = draw.permuted(np.tile(np.arange(len(values)), (resamples, 1)), axis=1)[:, :size]
    return float((1 + (differences(chosen) >= least).sum()) / (resamples + 1))


def welch_p(scores_a: np.ndarray, scores_b: np.ndarray) -> float | None:
    """Welch's t-test of the seeds' scores; None where a method has one seed, 1 or 0 where no seed differs from another of its method."""
    from scipy.stats import t

    if min(len(scores_a), len(scores_b)) < 2:
        return None
    difference = abs(scores_a.mean() - scores_b.mean())
    parts = [(scores.var(ddof=1) / len(scores), len(scores) - 1) for scores in (scores_a, scores_b)]
    variance = sum(part for part, _ in parts)
    if variance < TOLERANCE**2:
        return float(difference < TOLERANCE)
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    return float(2 * t.sf(difference / np.sqrt(variance), freedom))


# --- many comparisons -------------------------------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values in the order given: below alpha, at most alpha of chance for any false claim among them all."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    return _in_place(order, np.maximum.accumulate(steps))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p-values: below alpha, at most a share alpha of the claims is expected to be false."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=float)[order] * len(order) / np.arange(1, len(order) + 1)
    return _in_place(order, np.minimum.accumulate(steps[::-1])[::-1])


def _in_place(order: np.ndarray, values: np.ndarray) -> list[float]:
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(values, 1)
    return adjusted.tolist()
