"""What scores are worth at every threshold: areas under the ROC and the precision-recall curve, and the threshold that dev chooses.

For one label an example every class stands against the rest (its probability is the score), for several labels an example every label by
itself. ROC-AUC is the chance that an example of the class scores above one that is not (a tie is half); PR-AUC is average precision, the
precision at each threshold weighted by the recall that it adds, not the trapezes. A class of which gold has no example, or no other, has
neither (None), and the macro average is over the classes that have: `classes` says how many. A guess has ROC-AUC 0.5 and as PR-AUC the
share of the class.

Intervals need no resampling. What each row adds to an area (its influence) gives the standard error: for ROC-AUC that is DeLong's (DeLong,
DeLong and Clarke-Pearson 1988). A macro average sums the influences of a row over the classes, so that what classes share is counted. The
interval is laid on the logit scale, where it cannot leave 0 and 1, and is Student's, with Satterthwaite's degrees of freedom: ten examples
of a class are few, however many there are of others. They cost a sort a class. Measured coverage: docs/evaluating.md.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, Interval

HALF = 0.5  # the threshold of those who choose none
NO_ERROR = {"low": None, "high": None, "method": "none: nothing is out of order, or too few examples to know"}


# --- areas ------------------------------------------------------------------------------------------------------------------------------


def one_hot(gold: Sequence[int] | np.ndarray, num_classes: int) -> np.ndarray:
    """(n,) class numbers -> (n, K) bool."""
    return np.asarray(gold)[:, None] == np.arange(num_classes)


def ranking_metrics(is_gold: np.ndarray, scores: np.ndarray, names: Sequence[str], *, level: float = LEVEL) -> dict[str, Any]:
    """n > 0 examples and K classes: which are gold (n, K) bool, and the score of each (n, K).

    Returns roc_auc and pr_auc, each with macro, classes (how many have one) and per_class; their intervals under the same names.
    """
    assert is_gold.shape == scores.shape == (len(is_gold), len(names)) and len(is_gold) > 0
    values: dict[str, Any] = {}
    intervals: dict[str, Any] = {"level": level, "n": len(is_gold)}
    for kind, area in (("roc_auc", roc_auc), ("pr_auc", pr_auc)):
        areas = [area(gold, score) for gold, score in zip(is_gold.T, scores.T, strict=True)]
        known = [each for each in areas if each is not None]
        mean = _mean(known) if known else None
        by_name = dict(zip(names, areas, strict=True))
        values[kind] = {
            "macro": mean and mean.value,
            "classes": len(known),
            "per_class": {name: each and each.value for name, each in by_name.items()},
        }
        intervals[kind] = {
            "macro": logit_interval(mean, level),
            "per_class": {name: logit_interval(each, level) for name, each in by_name.items()},
        }
    return values | {"intervals": intervals}


@dataclass(frozen=True)
class Area:
    """An area under a curve, and what each of the n rows adds to it, (n,): their sum of squares over n * n is its variance.

    `degrees` of freedom has this variance. One example of a kind says nothing of how others would be: NaN.
    """

    value: float
    influence: np.ndarray
    degrees: float


def _mean(areas: Sequence[Area]) -> Area:
    """The mean of the areas under several curves of the same rows. What is not known of one class is left out of the error."""
    known = [area for area in areas if not np.isnan(area.influence).any()]
    value = float(np.mean([area.value for area in areas]))
    if not known:
        return Area(value, np.full(len(areas[0].influence), np.nan), np.nan)
    variances = np.array([(area.influence**2).sum() for area in known])
    influence = np.sum([area.influence for area in known], axis=0) / len(areas)
    return Area(value, influence, _satterthwaite(variances, np.array([area.degrees for area in known])))


def _satterthwaite(variances: np.ndarray, degrees: np.ndarray) -> float:
    below = (variances**2 / degrees).sum()
    return float(variances.sum() ** 2 / below) if below > 0 else np.inf


def _area(value: float, influence: np.ndarray, is_gold: np.ndarray) -> Area:
    """Enlarged so that a sum of squares over n * n has the examples of each kind less one below it."""
    sizes = np.array([(~is_gold).sum(), is_gold.sum()])
    if sizes.min() == 1:
        return Area(value, np.full(len(influence), np.nan), np.nan)
    influence = influence * np.sqrt(sizes / (sizes - 1))[is_gold.astype(int)]
    return Area(value, influence, _satterthwaite(np.bincount(is_gold, influence**2, 2), sizes - 1))


def roc_auc(is_gold: np.ndarray, scores: np.ndarray) -> Area | None:
    """scikit-learn's roc_auc_score of n examples, (n,) bool and (n,) scores; None where all are of the class, or none is."""
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    is_gold = np.asarray(is_gold, dtype=bool)
    n, inside = len(is_gold), int(is_gold.sum())
    outside = n - inside
    if not inside or not outside:
        return None
    value = float(roc_auc_score(is_gold, scores))
    among_all = rankdata(scores)
    # of each example of the class the share of the others below it, of each other one the share of the class above it; ties are half
    below = (among_all[is_gold] - rankdata(scores[is_gold])) / outside
    above = 1 - (among_all[~is_gold] - rankdata(scores[~is_gold])) / inside
    influence = np.empty(n)
    influence[is_gold] = (below - value) * n / inside
    influence[~is_gold] = (above - value) * n / outside
    return _area(value, influence, is_gold)


def pr_auc(is_gold: np.ndarray, scores: np.ndarray) -> Area | None:
    """scikit-learn's average_precision_score of n examples, (n,) bool and (n,) scores; None where none or all are of the class."""
    from sklearn.metrics import average_precision_score

    is_gold = np.asarray(is_gold, dtype=bool)
    n, inside = len(is_gold), int(is_gold.sum())
    if not 0 < inside < n:
        return None
    value = float(average_precision_score(is_gold, scores))
    distinct, level = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)  # from the highest score down
    found = np.bincount(level, is_gold, len(distinct))  # of the class at each level
    taken = np.cumsum(np.bincount(level, minlength=len(distinct)))  # examples at it or above
    precision = np.cumsum(found) / taken
    # An example moves the precision at its own level and at all below it: by (gold - precision) / taken for each of the class found there.
    share = found / taken
    from_here = np.cumsum(share[::-1])[::-1]
    lost = np.cumsum((share * precision)[::-1])[::-1]
    moved = is_gold * (precision[level] + from_here[level]) - lost[level]
    return _area(value, n / inside * (moved - is_gold * value), is_gold)


def logit_interval(area: Area | None, level: float = LEVEL) -> Interval:
    """Student's interval of log(a / (1 - a)); none for an area of exactly 0 or 1, or of rows that know no spread."""
    from scipy.special import expit, logit
    from scipy.stats import t

    if area is None or not 0 < area.value < 1:
        return dict(NO_ERROR)
    error = math.sqrt((area.influence**2).sum()) / len(area.influence)
    if not error > 1e-12:  # NaN too
        return dict(NO_ERROR)
    half = float(t.isf((1 - level) / 2, area.degrees)) * error / (area.value * (1 - area.value))
    middle = float(logit(area.value))
    return {"low": float(expit(middle - half)), "high": float(expit(middle + half)), "method": "influence of each row, logit scale"}


# --- thresholds -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """A score from which on a label is given; F1 on dev with it and with 0.5 (of two exclusive classes their mean, macro-F1).

    `chosen` is False where dev has nothing to choose by.
    """

    value: float
    f1: float
    f1_at_half: float
    chosen: bool


def best_threshold(is_gold: np.ndarray, scores: np.ndarray, *, exclusive: bool) -> Threshold:
    """The threshold of the highest F1 on n > 0 dev examples, (n,) bool and (n,) scores: score >= threshold gives the label.

    With `exclusive` what is not given the label is given the other of two classes, and macro-F1 is highest: F1 of one of them is best on a
    balanced dev set by giving it nearly always. The threshold lies halfway between two scores. Of equally good ones the nearest to 0.5 is
    taken. Where dev has no example of the label, or no other, it stays 0.5: such a dev set would give the label always or never. F1 of no
    gold and no given label is 0.
    """
    is_gold, scores = np.asarray(is_gold, dtype=bool), np.asarray(scores, dtype=np.float64)
    assert is_gold.shape == scores.shape and len(is_gold) > 0
    n, gold, above = len(is_gold), is_gold.sum(), scores >= HALF
    at_half = float(_f1((is_gold & above).sum(), above.sum(), gold, n, exclusive))
    if is_gold.all() or not is_gold.any():
        return Threshold(HALF, at_half, at_half, False)
    distinct, level = np.unique(scores, return_inverse=True)
    right = np.append(np.cumsum(np.bincount(level, is_gold)[::-1])[::-1], 0)  # with a threshold just below each distinct score, and
    given = np.append(np.cumsum(np.bincount(level)[::-1])[::-1], 0)  # with one above all
    f1 = _f1(right, given, gold, n, exclusive)
    halfway = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    halfway[1:-1] = distinct[:-1] + (distinct[1:] - distinct[:-1]) / 2
    halfway[1:-1] = np.where(halfway[1:-1] > distinct[:-1], halfway[1:-1], distinct[1:])  # between two neighbours there may be no number
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    if at_half >= f1.max() - 1e-12:
        return Threshold(HALF, at_half, at_half, True)
    place = best[np.argmin(np.abs(halfway[best] - HALF))]
    return Threshold(float(halfway[place]), float(f1[place]), at_half, True)


def _f1(right: np.ndarray, given: np.ndarray, gold: int, n: int, exclusive: bool) -> np.ndarray:
    """F1 of a label that `given` of n examples get, `right` of them rightly, and `gold` have; its mean with that of the other class."""
    of_label = 2 * right / np.maximum(given + gold, 1)
    if not exclusive:
        return of_label
    return (of_label + 2 * (n - gold - (given - right)) / np.maximum(2 * n - given - gold, 1)) / 2


# --- points to draw ---------------------------------------------------------------------------------------------------------------------


def precision_recall_points(is_gold: np.ndarray, scores: np.ndarray, most: int = 200) -> dict[str, list[float]]:
    """scikit-learn's precision_recall_curve, thinned to about `most` points: precision, recall and threshold, lists of one length.

    From the lowest threshold up, without the point (recall 0, precision 1) to which no threshold belongs.
    """
    from sklearn.metrics import precision_recall_curve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no example of the class: recall is 1 everywhere, as it says
        precision, recall, threshold = precision_recall_curve(is_gold, scores)
    keep = np.unique(np.linspace(0, len(threshold) - 1, min(most, len(threshold))).round().astype(int))
    return {"precision": precision[keep].tolist(), "recall": recall[keep].tolist(), "threshold": threshold[keep].tolist()}
