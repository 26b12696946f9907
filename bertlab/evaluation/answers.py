"""Answers found against answers there: exact match and F1 of words, as SQuAD's script counts them.

Before two answers are compared they are lowered, ASCII punctuation and the words a, an and the are taken out, and white space is levelled
(Rajpurkar et al. 2016); of several right answers the nearest counts. A question without an answer is right when nothing is answered
(Rajpurkar et al. 2018). Scores lie between 0 and 1. Questions about one text are not independent of each other: given as clusters,
texts are drawn whole.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, RESAMPLES, of_units, wilson
from bertlab.evaluation.resampling import Formula, mean_of_scores, units_of_scores

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised_answer(text: str) -> str:
    """What two answers are compared by."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(gold: Sequence[str], predicted: str) -> float:
    """1 where the answer equals one of the right ones, else 0. No right answer, or only such as normalise to nothing: "" is right."""
    return float(normalised_answer(predicted) in ({normalised_answer(text) for text in gold} - {""} or {""}))


def word_f1(gold: Sequence[str], predicted: str) -> float:
    """The best F1 of the answer's words against those of a right one; of an empty one 1 where both are empty, else 0."""
    found = normalised_answer(predicted).split()
    wanted = [words for text in gold if (words := normalised_answer(text).split())] or [[]]
    return max(_f1(words, found) for words in wanted)


def _f1(wanted: list[str], found: list[str]) -> float:
    if not wanted or not found:
        return float(wanted == found)
    shared = sum((Counter(wanted) & Counter(found)).values())
    return 2 * shared / (len(wanted) + len(found))  # of precision shared / found and recall shared / wanted


def answer_scores(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """Exact match and F1 of each of n questions, (n, 2)."""
    pairs = zip(gold, predicted, strict=True)
    return np.array([(exact_match(texts, found), word_f1(texts, found)) for texts, found in pairs], dtype=np.float64).reshape(-1, 2)


def answer_metrics(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, Any]:
    """exact_match, f1 and n over all questions, and, where there are any, the same of those with and without an answer."""
    assert len(gold) == len(predicted) > 0
    scores, answered = answer_scores(gold, predicted), np.array([bool(texts) for texts in gold])
    metrics = _means(scores)
    for name, part in (("has_answer", answered), ("no_answer", ~answered)):
        if part.any() and not answered.all():
            metrics[name] = _means(scores[part])
    return metrics


def _means(scores: np.ndarray) -> dict[str, Any]:
    return {"n": len(scores), "exact_match": float(scores[:, 0].mean()), "f1": float(scores[:, 1].mean())}


ANSWER_SCORES: dict[str, Formula] = {"exact_match": mean_of_scores(0), "f1": mean_of_scores(1)}


def answer_intervals(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """Intervals for exact match (Wilson; with clusters the bootstrap's) and F1 (the bootstrap's), with level, n, R and seed."""
    scores = answer_scores(gold, predicted)
    units = units_of_scores(scores[None], clusters)
    of_exact, of_f1 = of_units(units, list(ANSWER_SCORES.values()), seed=seed, resamples=resamples, level=level)
    if clusters is None:
        of_exact = wilson(int(scores[:, 0].sum()), len(scores), level)
    return {"level": level, "n": len(scores), "R": resamples, "seed": seed, "exact_match": of_exact, "f1": of_f1}


def best_threshold(no_answer: np.ndarray, gold: Sequence[Sequence[str]], best: Sequence[str]) -> tuple[float | None, float]:
    """(threshold, mean F1 with it): answer where `no_answer` (n,) is not above it, and with the text that is `best`.

    It lies half-way between two questions of the development set; of equals the one that answers most. None: answer always, which is
    what every set without unanswerable questions says.
    """
    scores = answer_scores(gold, best)[:, 1]
    refused = np.array([0.0 if texts else 1.0 for texts in gold])
    order = np.argsort(no_answer, kind="stable")
    values = np.asarray(no_answer, dtype=np.float64)[order]
    gains = np.concatenate([[0.0], np.cumsum((scores - refused)[order])])  # of answering the first k
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])
    k = len(values) - int(np.argmax(np.where(possible, gains, -np.inf)[::-1]))
    mean = float((refused.sum() + gains[k]) / len(values))
    if k == len(values):
        return None, mean
    return float(values[0] - 1 if k == 0 else (values[k - 1] + values[k]) / 2), mean
