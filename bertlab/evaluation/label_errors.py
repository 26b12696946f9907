"""Which labels are likely wrong, and which answers are most confidently wrong: from labels and probabilities alone.

Confident learning (Northcutt, Jiang and Chuang 2021). The probabilities must be of models that have not seen the label: of a test set, or
out of fold; of a model's own training rows they only repeat the labels. The threshold of a class is the mean probability of it among the
rows labelled so; a row counts as confidently of a class when its probability reaches that class's threshold (the likeliest of them, if
several). Counted by label and confident class this is the confident joint, and a row off its diagonal is suspected. A threshold for each
class allows for a model that is surer of some classes than of others.

Thresholds are means, so that of a weak model too about half of the rows reach one: its own mistakes would all be suspected. Labels that
are wrong whatever the text says are as frequent among a model's surest answers as among all; the share of labels that differ from the
surest tenth of the answers of a class is therefore about the most that can be wrong, and no more are suspected, the likeliest first.
Where that share is large the model cannot tell (`undecided`), and none is suspected by those answers. Nor is a label that the model never
gives: of such a class it knows nothing, and would suspect its rows whatever they say.

Costs a few passes over the (n, K) probabilities. A suspicion is not a proof: where the model is weak it is the model that is wrong, and
errors that follow a rule (all of a class mislabelled) are learnt, not found. Who corrects a test set by this must score every system anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUREST = 0.1  # of the answers of a class; at least LEAST of them, as of fewer a share says nothing
LEAST = 20
TOO_MANY = 0.25  # of the ten public test sets of Northcutt, Athalye and Mueller (2021) the worst has 10 % of wrong labels


@dataclass(frozen=True)
class Suspect:
    """A row whose label is likely wrong: class numbers, the probability of its label, and how much that is above the other's."""

    row: int
    label: int
    likelier: int
    self_confidence: float
    margin: float


def class_thresholds(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) mean probability of each class among the rows labelled so; infinite for a class without rows, which nothing reaches."""
    labels = np.asarray(labels)
    classes = probabilities.shape[1]
    own = np.take_along_axis(np.asarray(probabilities, dtype=np.float64), labels[:, None], 1)[:, 0]
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, np.bincount(labels, own, classes) / np.maximum(counts, 1), np.inf)


def confident_classes(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) the likeliest class among those whose threshold the row reaches, -1 where it reaches none."""
    exact = np.asarray(probabilities, dtype=np.float64)
    reached = exact >= class_thresholds(labels, exact) - 1e-12  # a mean of equal numbers may miss them by an ulp
    return np.where(reached.any(1), np.where(reached, exact, -1.0).argmax(1), -1)


def confident_joint(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K, K) how many rows have the label (row) and are confidently of the class (column). Rows that are of none are not counted."""
    labels, classes = np.asarray(labels), probabilities.shape[1]
    confident = confident_classes(labels, probabilities)
    kept = confident >= 0
    return np.bincount(labels[kept] * classes + confident[kept], minlength=classes * classes).reshape(classes, classes)


def estimated_errors(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> float:
    """About how many of the n labels are wrong: the confident joint, each row stretched to all rows with that label, off its diagonal."""
    joint = confident_joint(labels, probabilities).astype(np.float64)
    counts = np.bincount(np.asarray(labels), minlength=len(joint))
    counted = joint.sum(1)
    stretched = joint * np.divide(counts, counted, out=np.zeros(len(joint)), where=counted > 0)[:, None]
    return float(stretched.sum() - np.trace(stretched))


def undecided(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) bool: the classes that the model is too weak to tell label errors by.

    More than TOO_MANY of the labels differ from its surest answers of the class, or more than half of those that would differ from rows
    drawn by lot; or it never answers with a class that rows are labelled with.
    """
    labels = np.asarray(labels)
    answered, surest, differing = _surest_answers(labels, probabilities)
    labelled = np.bincount(labels, minlength=len(answered))
    by_lot = 1 - labelled / max(len(labels), 1)
    return np.where(answered > 0, differing > np.minimum(TOO_MANY, by_lot / 2) * surest, labelled > 0)


def at_most_wrong(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) how many of the rows answered with a class can be label errors, by the share among the surest; 0 for one that is undecided.

    The share of the surest has one more that differs than is seen: of few rows none may differ by luck.
    """
    answered, surest, differing = _surest_answers(np.asarray(labels), probabilities)
    most = -(-(differing + 1) * answered // (surest + 1))  # rounded up, exactly
    return np.where(undecided(labels, probabilities), 0, most)


def _surest_answers(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) each: the rows of which a class is the likeliest; how many are the surest of them; of how many of these the label differs."""
    answers, classes = probabilities.argmax(1), probabilities.shape[1]
    answered = np.bincount(answers, minlength=classes)
    surest = np.minimum(answered, np.maximum(LEAST, np.ceil(SUREST * answered).astype(int)))
    order = np.lexsort((-probabilities.max(1), answers))  # by class, the surest first
    place = np.arange(len(labels)) - np.repeat(np.cumsum(answered) - answered, answered)
    counted = order[place < surest[answers[order]]]
    return answered, surest, np.bincount(answers[counted], labels[counted] != answers[counted], classes).astype(int)


def likely_label_errors(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """The rows off the diagonal of the confident joint, of each answer no more than can be wrong: by margin, then by row.

    labels: (n,) class numbers; probabilities: (n, K), of models that did not see the labels. The margin is the label's probability less the
    largest other one, from -1 to 1. A row whose label is its likeliest class is never among them.
    """
    labels = np.asarray(labels)
    exact = np.asarray(probabilities, dtype=np.float64)
    assert exact.ndim == 2 and len(labels) == len(exact)
    if not len(labels):
        return []
    own, margins = _margins(labels, exact)
    confident = confident_classes(labels, exact)
    is_given = np.isin(np.arange(exact.shape[1]), exact.argmax(1))
    rows = np.flatnonzero((confident >= 0) & (confident != labels) & (exact.argmax(1) != labels) & is_given[labels])
    rows = rows[np.lexsort((rows, margins[rows]))]
    answers, most = exact[rows].argmax(1), at_most_wrong(labels, exact)
    kept = [rows[answers == answer][: most[answer]] for answer in np.unique(answers)]
    rows = rows[np.isin(rows, np.concatenate(kept))] if kept else rows
    return [Suspect(int(row), int(labels[row]), int(confident[row]), float(own[row]), float(margins[row])) for row in rows]


def confidently_wrong(gold: Sequence[int] | np.ndarray, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
    """The rows whose likeliest class is not the gold one, the surest first (equally sure ones in order), no more than `most`."""
    exact = np.asarray(probabilities, dtype=np.float64)
    wrong = np.flatnonzero(exact.argmax(1) != np.asarray(gold))
    return wrong[np.argsort(-exact[wrong].max(1), kind="stable")][:most] if len(wrong) else wrong


def _margins(labels: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the label's probability, (n,) how far it is above the largest other one."""
    own = np.take_along_axis(exact, labels[:, None], 1)[:, 0]
    others = exact.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    return own, own - others.max(1)
