"""Confidence intervals of the scores of one system (those of differences: significance.py).

Proportions (accuracy, precision, recall) have Wilson's interval (1927); precision's denominator is itself a matter of chance, so its
interval is conditional on how often the class was predicted. F1, its averages, MCC and Hamming loss have the bootstrap's: the percentile
interval, or BCa (Efron 1987) where there are fewer than 200 examples or a class that matters has fewer than 30. A bootstrap in which
every sample scores the same knows nothing, and says so (low and high are None) instead of claiming an interval without width.

An interval speaks of the test set as a sample of examples like these. It does not know that training with another seed gives another model.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.evaluation.resampling import (
    AVERAGES,
    SET_AVERAGES,
    Metric,
    Sample,
    bootstrap_scores,
    generator,
    leave_one_out_scores,
    units_of,
    units_of_sets,
)

RESAMPLES = 10_000
LEVEL = 0.95
ONE_SCORE = 1  # the purpose of the random stream

Interval = dict[str, Any]  # low, high, method


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's interval of a proportion, without continuity correction. Of nothing (n = 0) it is all from 0 to 1."""
    from scipy.stats import norm

    if n == 0:
        return {"low": 0.0, "high": 1.0, "method": "Wilson"}
    z = float(norm.isf((1 - level) / 2))
    share, weight = successes / n, z * z / n
    middle, half = share + weight / 2, z * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    # At the ends the sum is exactly 0 or 1, and floating point misses it by an ulp.
    low = 0.0 if successes == 0 else (middle - half) / (1 + weight)
    high = 1.0 if successes == n else (middle + half) / (1 + weight)
    return {"low": low, "high": high, "method": "Wilson"}


def percentile(samples: np.ndarray, level: float = LEVEL) -> Interval:
    """The middle `level` of (R,) bootstrap values."""
    return _between(samples, (1 - level) / 2, (1 + level) / 2, "percentile bootstrap")


def bca(samples: np.ndarray, estimate: float, left_out: np.ndarray, times: np.ndarray, level: float = LEVEL) -> Interval:
    """Efron's BCa of (R,) bootstrap values: corrected for bias (ties count half) and for acceleration.

    left_out: (U,) values with one of each unit left out; times: (U,) how many such values there are.
    """
    from scipy.stats import norm

    below = ((samples < estimate - 1e-12).mean() + (samples <= estimate + 1e-12).mean()) / 2
    edge = 1 / (2 * len(samples))  # an estimate outside all samples: as far as so many of them can tell
    bias = norm.ppf(np.clip(below, edge, 1 - edge))
    away = np.average(left_out, weights=times) - left_out
    spread = (times * away**2).sum()
    acceleration = (times * away**3).sum() / (6 * spread**1.5) if spread > 1e-20 else 0.0
    ends = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = norm.cdf(bias + ends / (1 - acceleration * ends))
    return _between(samples, float(low), float(high), "BCa bootstrap")


def _between(samples: np.ndarray, low: float, high: float, method: str) -> Interval:
    if np.ptp(samples) < 1e-12:
        return {"low": None, "high": None, "method": "none: every bootstrap sample gives the same value"}
    ends = np.quantile(samples, [low, high])
    return {"low": float(ends[0]), "high": float(ends[1]), "method": method}


def of_units(units: Sample, metrics: Sequence[Any], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> list[Interval]:
    """The bootstrap's interval for each metric of one system: BCa where the sample is small for it, else the percentile one."""
    samples = bootstrap_scores(units, metrics, resamples, generator(seed, ONE_SCORE))[0]
    small = [units.is_small(metric) for metric in metrics]
    if not any(small):
        return [percentile(values, level) for values in samples]
    values, left_out = units.observed_scores(0, metrics), leave_one_out_scores(units, metrics)[0]
    return [
        bca(samples[number], float(values[number]), left_out[number], units.times, level)
        if is_small
        else percentile(samples[number], level)
        for number, is_small in enumerate(small)
    ]


def of_scores(
    gold: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    num_classes: int,
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    clusters: np.ndarray | None = None,
) -> list[Interval]:
    """An interval for each metric of one system on n > 0 examples: Wilson for accuracy, the bootstrap's for all others.

    With (n,) cluster numbers whole clusters are drawn, and accuracy has the bootstrap's interval too.
    """
    units = units_of(np.asarray(gold), np.asarray(predicted), num_classes, clusters)
    found = of_units(units, metrics, seed=seed, resamples=resamples, level=level)
    right = wilson(int((np.asarray(gold) == np.asarray(predicted)).sum()), len(gold), level)
    proportions = ("accuracy", "micro_f1") if clusters is None else ()
    return [right if metric in proportions else interval for metric, interval in zip(metrics, found, strict=True)]


def of_metrics(
    gold: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Intervals for what `metrics.classification_metrics` gives, under the same keys, with level, n, R and seed beside them.

    gold, predicted: (n,) class numbers over `names`.
    """
    averages = [name for name in AVERAGES if name not in ("accuracy", "micro_f1", "mcc")]
    numbers = list(range(len(names)))
    found = of_scores(gold, predicted, len(names), ["accuracy", "mcc", *averages, *numbers], seed=seed, resamples=resamples, level=level)
    accuracy, mcc, of_classes = found[0], found[1], found[2 + len(averages) :]
    of_averages = dict(zip(averages, found[2:], strict=False))
    right, support, chosen = units_of(np.asarray(gold), np.asarray(predicted), len(names)).observed(0).astype(int)
    per_class = {
        name: {
            "precision": wilson(int(right[number]), int(chosen[number]), level),
            "recall": wilson(int(right[number]), int(support[number]), level),
            "f1": of_classes[number],
        }
        for number, name in enumerate(names)
    }

    def average(kind: str) -> dict[str, Interval]:
        return {part: of_averages[f"{kind}_{part}"] for part in ("precision", "recall", "f1")}

    return {
        "level": level,
        "n": len(gold),
        "R": resamples,
        "seed": seed,
        "accuracy": accuracy,
        "mcc": mcc,
        "per_class": per_class,
        "micro": dict.fromkeys(("precision", "recall", "f1"), accuracy),
        "macro": average("macro"),
        "weighted": average("weighted") | {"recall": accuracy},  # recall weighted by support is accuracy
    }


def of_set_metrics(
    gold: np.ndarray, predicted: np.ndarray, names: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Any]:
    """Intervals for what `metrics.set_metrics` gives, under the same keys. gold, predicted: (n, K) truth values."""
    units = units_of_sets(gold, np.asarray(predicted)[None])
    averages = {name: formula for name, formula in SET_AVERAGES.items() if name != "exact_match"}
    found = of_units(units, [*averages.values(), *range(len(names))], seed=seed, resamples=resamples, level=level)
    of_averages, of_labels = dict(zip(averages, found, strict=False)), found[len(averages) :]
    right, support, chosen = units.observed(0).astype(int)
    per_class = {
        name: {
            "precision": wilson(int(right[number]), int(chosen[number]), level),
            "recall": wilson(int(right[number]), int(support[number]), level),
            "f1": of_labels[number],
        }
        for number, name in enumerate(names)
    }

    def average(kind: str) -> dict[str, Interval]:
        return {part: of_averages[f"{kind}_{part}"] for part in ("precision", "recall", "f1")}

    return {
        "level": level,
        "n": len(gold),
        "R": resamples,
        "seed": seed,
        "exact_match": wilson(int(right[-1]), len(gold), level),
        "hamming_loss": of_averages["hamming_loss"],
        "macro_mcc": of_averages["macro_mcc"],
        "per_class": per_class,
        "micro": average("micro"),
        "macro": average("macro"),
        "weighted": average("weighted"),
    }
