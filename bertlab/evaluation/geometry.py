"""How vectors lie, whatever they are used for: near to what belongs together, spread over the sphere, or all in one direction.

    alignment    mean of |x - y|^2 over pairs that belong together; 0 is nearest
    uniformity   log of the mean of exp(-2 |x - y|^2) over random pairs; lower is more spread out
    anisotropy   mean cosine of random pairs; near 1 all texts point one way

All of vectors of length 1 (Wang & Isola 2020; Ethayarajh 2019 for the last). Random pairs are all pairs of a seeded sample of texts, equal
texts once; the mean over them is a U-statistic, whose standard error comes from what each text adds to it (the jackknife), so no pair is
taken for independent of another that shares a text. Alignment's interval is the bootstrap's over pairs. Memory: a sample's cosines, 32 MB.
And on a plane, for the eye: that of the two principal components.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, Interval
from bertlab.evaluation.resampling import generator
from bertlab.evaluation.rows import row_intervals
from bertlab.evaluation.vectors import unit

SAMPLE = 2_000  # texts, or pairs that belong together
SAMPLED = 8  # the purpose of the random stream
FEWEST = 4
TOO_FEW = {"low": None, "high": None, "method": f"none: fewer than {FEWEST} texts or pairs"}


def sampled(count: int, seed: int, most: int = SAMPLE) -> np.ndarray:
    """At most `most` of `count` rows, each equally likely, in order."""
    return np.sort(generator(seed, SAMPLED).permutation(count)[:most])


def random_partners(labels: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """(p, 2) rows of random pairs of equal labels, no row in two of them; a label of an odd number of rows leaves one over."""
    labels = np.asarray(labels)
    order = generator(seed, SAMPLED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by label, random within
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    firsts = np.concatenate([np.arange(start, start + size - 1, 2) for start, size in zip(starts, sizes, strict=True)])
    firsts = firsts.astype(np.int64)
    return np.stack([order[firsts], order[firsts + 1]], axis=1)


def plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """(n, d) vectors on the plane of their two principal components, (n, 2), and its share of their variance.

    A component may point either way: it points to where its largest number is positive.
    """
    centred = vectors - vectors.mean(0)
    if len(centred) > centred.shape[1]:  # the same axes by a product of d x d numbers, many times as fast
        axes = np.linalg.eigh(centred.T @ centred).eigenvectors.T[::-1][:2]
    else:
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1))
    points = np.zeros((len(vectors), 2))
    points[:, : len(axes)] = centred @ axes.T
    total = float((centred**2).sum())
    return points, min(1.0, float((points**2).sum()) / total) if total > 1e-12 else 1.0


def geometry(
    vectors: np.ndarray, first: np.ndarray | None, second: np.ndarray | None, *, seed: int = 0, level: float = LEVEL
) -> dict[str, Any]:
    """Alignment of p pairs (first and second (p, d); None: nothing belongs together), uniformity and anisotropy of (n, d) different texts.

    Returns each number (None where there are too few texts) with `intervals`, and how many texts and pairs were looked at.
    """
    facts: dict[str, Any] = {"alignment": None, "uniformity": None, "anisotropy": None, "pairs": 0, "seed": seed}
    intervals: dict[str, Any] = {"level": level, "alignment": dict(TOO_FEW), "uniformity": dict(TOO_FEW), "anisotropy": dict(TOO_FEW)}
    if first is not None and second is not None and len(first) >= FEWEST:
        rows = sampled(len(first), seed)
        distances = ((unit(first[rows].astype(np.float64)) - unit(second[rows].astype(np.float64))) ** 2).sum(1)
        facts |= {"alignment": float(distances.mean()), "pairs": len(rows)}
        intervals["alignment"] = row_intervals(
            lambda weights: (distances @ weights)[None] / weights.sum(0), len(rows), seed=seed, level=level
        )[0]
    kept = unit(vectors[sampled(len(vectors), seed)].astype(np.float64))
    if len(kept) >= FEWEST:
        cosines = kept @ kept.T
        mean, error = _mean_over_pairs(cosines)
        facts["anisotropy"], intervals["anisotropy"] = mean, _student(mean, error, len(kept), level)
        # of unit vectors |x - y|^2 = 2 - 2 cos
        mean, error = _mean_over_pairs(np.exp(4 * cosines - 4))
        facts["uniformity"], intervals["uniformity"] = math.log(mean), _student(math.log(mean), error / mean, len(kept), level)
    return facts | {"texts": len(kept), "intervals": intervals}


def _mean_over_pairs(values: np.ndarray) -> tuple[float, float]:
    """The mean of a symmetric (n, n) kernel over pairs of different rows, and its standard error by leaving out each row in turn."""
    n = len(values)
    of_rows = values.sum(1) - values.diagonal()
    total = of_rows.sum()
    left_out = (total - 2 * of_rows) / ((n - 1) * (n - 2))
    return float(total / (n * (n - 1))), math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))


def _student(value: float, error: float, n: int, level: float) -> Interval:
    from scipy.stats import t

    if not error > 1e-12:
        return {"low": None, "high": None, "method": "none: leaving out any text changes nothing"}
    half = float(t.isf((1 - level) / 2, n - 1)) * error
    return {"low": value - half, "high": value + half, "method": "jackknife over texts, Student's t"}
