"""Do probabilities mean what they say? Brier score, NLL, expected calibration error, and one temperature that dev chooses.

Of the answers given with 80 % confidence 80 % should be right. The expected calibration error (ECE: Guo et al. 2017) sorts answers by their
confidence into 15 bins and takes the mean distance between confidence and share of right ones, weighted by the bins' sizes. Bins are of
equal width (the usual number) or of equal mass (less at the mercy of a few answers); classwise ECE does the same with every class's
probability and takes the mean over the classes. ECE is above 0 by chance alone, the more the fewer answers there are: `by_chance` says
what a model would show here whose probabilities are exactly true, and an ECE within it is no sign of anything. Temperature scaling divides
the log-probabilities by one number, fitted on dev: it moves no answer and no rank within an example.

Several labels an example are so many answers yes or no, each with its own probability. Float32 probabilities within 6e-8 of 1 are 1;
they count as scikit-learn's log_loss counts them, cut to within 2.2e-16.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, RESAMPLES, Interval
from bertlab.evaluation.resampling import generator
from bertlab.evaluation.rows import Statistics, bootstrap_samples, intervals_of, resamples_for

BINS = 15  # Guo et al. 2017
COLDEST, HOTTEST = 0.05, 20.0  # a temperature beyond these is dev's having too little to say
SMALLEST = float(np.finfo(np.float64).eps)
CHANCE_REPEATS, FEWEST_REPEATS, CHANCE_DRAWS = 1_000, 200, 50_000_000
LARGEST_SIZE = 64.0  # of gaps, in those seen
BY_CHANCE = 7  # the purpose of the random stream


# --- probabilities ----------------------------------------------------------------------------------------------------------------------


def two_class(probabilities: np.ndarray) -> np.ndarray:
    """(n, L) probabilities of L labels, each by itself -> (n * L, 2) of no and yes, so that all below holds for them, too."""
    flat = np.asarray(probabilities, dtype=np.float64).reshape(-1)
    return np.stack([1 - flat, flat], axis=1)


def normalised(probabilities: np.ndarray) -> np.ndarray:
    """(n, K) in float64 with rows of sum 1, which float32 misses by some 1e-7."""
    exact = np.asarray(probabilities, dtype=np.float64)
    return exact / exact.sum(1, keepdims=True)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """(n, K) logarithms, of 0 as of the smallest number that counts."""
    return np.log(np.clip(normalised(probabilities), SMALLEST, 1 - SMALLEST))


def at_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature), (n, K); log-probabilities are logits."""
    from scipy.special import softmax

    scaled: np.ndarray = softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return scaled


def fit_temperature(logits: np.ndarray, gold: Sequence[int] | np.ndarray) -> float | None:
    """The temperature of the least NLL of n > 0 dev examples: logits or log-probabilities (n, K), class numbers (n,).

    None where there is none between 0.05 and 20: dev has no error (ever colder is ever better), or the logits say nothing of its labels.
    In 1 / temperature the NLL is convex, and its slope, the mean logit less the gold one's, is 0 in one place at most.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    logits, gold = np.asarray(logits, dtype=np.float64), np.asarray(gold)
    assert logits.ndim == 2 and len(logits) == len(gold) > 0
    given = np.take_along_axis(logits, gold[:, None], 1).mean()

    def slope(inverse: float) -> float:
        return float((softmax(logits * inverse, axis=1) * logits).sum(1).mean() - given)

    if slope(1 / HOTTEST) >= 0 or slope(1 / COLDEST) <= 0:
        return None
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))


# --- scores of rows ---------------------------------------------------------------------------------------------------------------------


def brier_of_rows(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n,) squared distances to the gold class; of two classes half of it, as scikit-learn's brier_score_loss has it. 0 is best."""
    distances = ((normalised(probabilities) - np.eye(probabilities.shape[1])[gold]) ** 2).sum(1)
    return distances / 2 if probabilities.shape[1] == 2 else distances


def nll_of_rows(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n,) negative log-probabilities of the gold class, in nats."""
    return -np.take_along_axis(log_probabilities(probabilities), gold[:, None], 1)[:, 0]


# --- bins -------------------------------------------------------------------------------------------------------------------------------


def bin_numbers(confidence: np.ndarray, bins: int = BINS, *, equal_mass: bool = False) -> np.ndarray:
    """The bin of each confidence, in any shape: of equal width over 0 to 1, or between equally spaced quantiles of what is there.

    A confidence on an edge belongs below it, as in scikit-learn's calibration_curve; equal ones are never divided.
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.percentile(confidence, inner * 100) if equal_mass else inner  # rounded as scikit-learn rounds: equal values meet edges
    return np.searchsorted(edges, confidence)


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS, *, equal_mass: bool = False) -> list[dict[str, float]]:
    """What a reliability diagram shows, from the lowest bin up: n, mean confidence, share right. Bins without an answer are left out."""
    numbers = bin_numbers(confidence, bins, equal_mass=equal_mass)
    counts, sums, hits = (np.bincount(numbers, weights, bins) for weights in (None, confidence, np.asarray(right, dtype=float)))
    return [
        {"n": int(count), "confidence": float(total / count), "right": float(hit / count)}
        for count, total, hit in zip(counts, sums, hits, strict=True)
        if count
    ]


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS, *, equal_mass: bool = False) -> float:
    """ECE of n > 0 answers: their confidence (n,) and whether they are right (n,)."""
    numbers = bin_numbers(confidence, bins, equal_mass=equal_mass)
    gaps = np.bincount(numbers, np.asarray(confidence, dtype=np.float64) - right, bins)
    return float(np.abs(gaps).sum() / len(numbers))


# --- all of it --------------------------------------------------------------------------------------------------------------------------


def calibration_metrics(
    is_gold: np.ndarray,
    probabilities: np.ndarray,
    *,
    exclusive: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Brier, NLL and the three calibration errors of n > 0 examples: gold classes (n, K) bool, probabilities (n, K).

    With `exclusive` an example has one class, and the answer whose confidence counts is the likeliest class; without it every label is an
    answer of its own, yes with its probability, and Brier and NLL are means over the labels. Examples are drawn whole.
    Returns brier, nll, ece, ece_equal_mass, ece_classwise; bins (the reliability diagram of the answers); by_chance: mean and high
    (the `level` quantile) of the ECE of a model whose confidences are true; the intervals of all five, with level, R and seed.
    """
    n = len(is_gold)
    assert is_gold.shape == probabilities.shape and n > 0
    if exclusive:
        exact, gold = normalised(probabilities), is_gold.argmax(1)
        confidence, right = exact.max(1, keepdims=True), (exact.argmax(1) == gold)[:, None]
        of_rows = np.stack([brier_of_rows(exact, gold), nll_of_rows(exact, gold)])  # (2, n)
    else:
        exact = confidence = np.asarray(probabilities, dtype=np.float64)
        right, pairs, yes = is_gold, two_class(exact), is_gold.ravel().astype(int)
        of_rows = np.stack([of(pairs, yes).reshape(n, -1).mean(1) for of in (brier_of_rows, nll_of_rows)])
    gaps = {
        "ece": gaps_by_bin(bin_numbers(confidence), confidence - right),
        "ece_equal_mass": gaps_by_bin(bin_numbers(confidence, equal_mass=True), confidence - right),
        "ece_classwise": gaps_by_bin(bin_numbers(exact) + BINS * np.arange(exact.shape[1]), exact - is_gold),
    }
    parts = [of_rows, *gaps.values()]
    draws = resamples_for(exact.size, resamples)
    values = _means(parts)(np.ones((n, 1)))[:, 0]
    samples = bootstrap_samples(_means(parts), n, seed=seed, resamples=draws)
    intervals = dict(zip(("brier", "nll"), intervals_of(_means([of_rows]), n, samples[:2], level), strict=True))
    errors, start = {}, 2
    for name, each in gaps.items():
        bins = slice(start, start + each.shape[0])
        errors[name] = float(np.abs(values[bins]).sum())
        intervals[name] = gap_interval(values[bins], samples[bins], level)
        start = bins.stop
    return {
        "brier": float(values[0]),
        "nll": float(values[1]),
        **errors,
        "by_chance": by_chance(confidence.ravel(), seed=seed, level=level),
        "bins": reliability(confidence.ravel(), right.ravel()),
        "intervals": {"level": level, "n": n, "R": draws, "seed": seed, **intervals},
    }


def gaps_by_bin(numbers: np.ndarray, distances: np.ndarray) -> Any:
    """Bin numbers and distances of confidence and truth (n, A) of n examples with A answers each -> sparse (bins, n).

    The mean of a row is the gap between confidence and share of right answers in a bin, times the bin's share of all answers.
    """
    from scipy import sparse

    n, answers = numbers.shape
    used, place = np.unique(numbers, return_inverse=True)
    rows = np.repeat(np.arange(n), answers)
    return sparse.csr_array((distances.ravel() / answers, (place.ravel(), rows)), shape=(len(used), n))


def _means(parts: Sequence[Any]) -> Statistics:
    """(n, B) how often each row occurs -> the mean of each row of the (S, n) parts, one part below the other, (S, B)."""
    return lambda times: np.concatenate([np.asarray(part @ times) for part in parts]) / times.sum(0)


def gap_interval(gaps: np.ndarray, samples: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval of sum |gap| from the gaps (M,) of M bins and their (M, R) bootstrap samples.

    Noise adds to a sum of absolute values and never takes away, and it does so once in the gaps and again in their samples: of a calibrated
    model no percentile of the samples comes near 0. So the question is turned round: for which sizes s would gaps s times as large, with
    the noise of the samples, show a sum as large as this one, neither among the largest nor the smallest? That is from 0 on where no gap at
    all might show it, and the sum itself may be above the interval.
    """
    noise = samples - gaps[:, None]
    seen = float(np.abs(gaps).sum())
    if np.ptp(noise, axis=1).max() < 1e-12:
        return {"low": None, "high": None, "method": "none: every bootstrap sample gives the same value"}

    def size_that_shows(share: float) -> float:
        """The size of which `share` of the samples show less than is seen."""

        def shown(size: float) -> float:
            return float(np.quantile(np.abs(size * gaps[:, None] + noise).sum(0), share))

        low, high = 0.0, 1.0
        if seen < 1e-12 or shown(low) >= seen:
            return 0.0
        while shown(high) < seen and high < LARGEST_SIZE:
            low, high = high, 2 * high
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if shown(middle) >= seen else (middle, high)
        return high

    low, high = size_that_shows((1 + level) / 2) * seen, size_that_shows((1 - level) / 2) * seen
    return {"low": min(low, 1.0), "high": min(high, 1.0), "method": "bootstrap of the gaps, inverted"}


def by_chance(confidence: np.ndarray, *, seed: int = 0, level: float = LEVEL) -> dict[str, float]:
    """The ECE (equal width) of answers that are right exactly as often as their confidence (n,) says: mean, and the `level` quantile.

    Consistency resampling (Bröcker and Smith 2007), 1,000 times, of very many answers 200 times.
    """
    numbers, n = bin_numbers(confidence), len(confidence)
    draw = generator(seed, BY_CHANCE)
    found = np.empty(min(CHANCE_REPEATS, max(FEWEST_REPEATS, CHANCE_DRAWS // n)))
    for number in range(len(found)):
        found[number] = np.abs(np.bincount(numbers, confidence - (draw.random(n) < confidence), BINS)).sum() / n
    return {"mean": float(found.mean()), "high": float(np.quantile(found, level))}
