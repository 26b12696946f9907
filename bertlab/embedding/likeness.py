"""How well vectors find what means the same, on texts that were held out; and how much better than other vectors, with an interval.

Pairs and classes: each text looks for its like among the others by cosine; the score is the mean reciprocal rank of the first right one,
and beside it the share that is found first (recall@1). A wrong one that is as near counts as nearer, so vectors that are all equal score
nothing. Scored pairs: Spearman's correlation of cosines with the scores. Differences are resampled over the texts that look, both models on
the same ones; what they look among stays as it is. Costs q x c cosines, a block at a time. Beside them stand the scores of TF-IDF, which
vectors must beat to be worth their training.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bertlab.batches.labelled import Examples
from bertlab.errors import DataError
from bertlab.evaluation.numbers import weighted_scores
from bertlab.evaluation.rows import row_intervals
from bertlab.evaluation.vectors import COSINES_AT_ONCE, cosines, every_cosine, unit

Vectors = Callable[[Examples], np.ndarray]  # encoded texts -> (n, d)


@dataclass(frozen=True)
class Likeness:
    """What is looked for, and where: texts `first` (n) in `second` (m), or in `first` itself, each text but itself.

    groups: numbers (n,) and (m,); right is what has an equal one. gold (n,): scores of the pairs first[i], second[i] instead.
    what: in words, for a person.
    """

    what: str
    first: Examples
    second: Examples | None
    groups: tuple[np.ndarray, np.ndarray] | None = None
    gold: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def headline(self) -> str:
        """The score by which is chosen."""
        return "spearman" if self.gold is not None else "mrr"


def scored(what: str, first: Examples, second: Examples, gold: Sequence[float]) -> Likeness:
    """Raises DataError for fewer than 10 pairs or scores that are all equal."""
    if len(gold) < 10 or len(set(gold)) < 2:
        raise DataError(f"{what}: {len(gold)} scored pairs with {len(set(gold))} different scores order nothing: give 10 pairs or more")
    return Likeness(what, first, second, gold=np.asarray(gold, dtype=np.float64))


def per_text(task: Likeness, vectors: Vectors) -> np.ndarray:
    """What each text contributes: its reciprocal rank, or the cosine of its pair. Shape (n,)."""
    first = vectors(task.first)
    second = first if task.second is None else vectors(task.second)
    if task.gold is not None:
        return cosines(first, second)
    assert task.groups is not None
    return reciprocal_ranks(first, second, *task.groups, itself=task.second is not None)


def reciprocal_ranks(first: np.ndarray, second: np.ndarray, groups: np.ndarray, others: np.ndarray, *, itself: bool) -> np.ndarray:
    """1 / the rank of the nearest of `second` (m, d) in the group of each of `first` (n, d); 0 where there is none. Shape (n,).

    Without `itself` text i is no candidate of its own.
    """
    return _ranks(every_cosine(unit(first), unit(second)), len(first), groups, others, itself=itself)


def _ranks(every: Iterable[tuple[slice, np.ndarray]], count: int, groups: np.ndarray, others: np.ndarray, *, itself: bool) -> np.ndarray:
    """`reciprocal_ranks` of `count` texts from their cosines, (r, m) of some of them at a time."""
    found = np.zeros(count)
    for rows, near in every:
        if not itself:
            np.fill_diagonal(near[:, rows], -np.inf)
        right = (groups[rows, None] == others) & np.isfinite(near)
        best = np.where(right, near, -np.inf).max(axis=1)
        nearer = (~right & (near >= best[:, None] - 1e-7)).sum(axis=1)  # of rounding: equal is nearer
        found[rows] = np.where(right.any(axis=1), 1 / (1 + nearer), 0.0)
    return found


def per_text_of_words(task: Likeness) -> np.ndarray:
    """`per_text` of cosines of TF-IDF over the texts' tokens, without [CLS] and [SEP]: sublinear, fitted on all texts of the task."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def tokens(examples: Examples) -> list[list[int]]:
        return [examples.ids[start + 1 : end - 1].tolist() for start, end in pairwise(examples.offsets.tolist())]

    both = [tokens(task.first), tokens(task.first if task.second is None else task.second)]
    words = TfidfVectorizer(analyzer=list, sublinear_tf=True)
    try:
        words.fit(both[0] if task.second is None else both[0] + both[1])
    except ValueError:  # no text has a token
        return np.zeros(len(task))
    first, second = map(words.transform, both)
    if task.gold is not None:
        return np.asarray(first.multiply(second).sum(1)).ravel()
    assert task.groups is not None
    block = max(1, COSINES_AT_ONCE // max(1, second.shape[0]))
    parts = (slice(start, start + block) for start in range(0, len(task), block))
    every = ((rows, (first[rows] @ second.T).toarray()) for rows in parts)
    return _ranks(every, len(task), *task.groups, itself=task.second is not None)


def scores(task: Likeness, values: np.ndarray) -> dict[str, Any]:
    """The scores of `per_text`'s values: spearman, or mrr and recall@1, and n."""
    if task.gold is not None:
        return {"spearman": float(weighted_scores(task.gold, values, np.ones((len(values), 1)), ["spearman"])[0, 0]), "n": len(values)}
    return {"mrr": float(values.mean()), "recall@1": float((values == 1).mean()), "n": len(values)}


def improvement(task: Likeness, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """The headline score of `after` less that of `before`, with its 95 % interval by a paired bootstrap over the texts."""

    def differences(weights: np.ndarray) -> np.ndarray:
        if task.gold is None:
            return ((after - before) @ weights / weights.sum(0))[None]
        new, old = (weighted_scores(task.gold, values, weights, ["spearman"]) for values in (after, before))
        return np.asarray(new - old)

    difference = float(differences(np.ones((len(before), 1)))[0, 0])
    (interval,) = row_intervals(differences, len(before))
    return {"score": task.headline, "before": scores(task, before), "after": scores(task, after), "difference": difference} | interval
