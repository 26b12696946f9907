"""What a system got wrong, the worst first, of every kind of task: from gold, predictions and probabilities alone.

Each mistake is a dictionary for a line of JSON with `row` (its place among the examples), `gold` and `predicted`. Where outputs have
probabilities the order is by how sure the system was of what is wrong, so that wrong labels come early; numbers are ordered by their error.
Answers that are right are left out; numbers hardly ever are exactly right, and so all are there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.corpus.schemes import Span, spans_of
from bertlab.evaluation.answers import answer_scores
from bertlab.evaluation.calibration import two_class
from bertlab.evaluation.label_errors import confidently_wrong, likely_label_errors

Mistake = dict[str, Any]


def of_classes(gold: Sequence[int] | np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> list[Mistake]:
    """Of one class an example: probabilities (n, K) over `names`, of a model that has not seen these labels."""
    gold = np.asarray(gold)
    suspected = {suspect.row for suspect in likely_label_errors(gold, probabilities)}
    return [
        {
            "row": row,
            "gold": names[gold[row]],
            "predicted": names[int(probabilities[row].argmax())],
            "probability": float(probabilities[row].max()),
            "gold_probability": float(probabilities[row, gold[row]]),
            "likely_label_error": row in suspected,
        }
        for row in confidently_wrong(gold, probabilities).tolist()
    ]


def of_sets(gold: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> list[Mistake]:
    """Of sets of labels, truth values and probabilities (n, K): the labels that are missing and those that are too many.

    `probability` is that of the surest wrong decision, `about` its label; `likely_label_error` when the label of a wrong decision is
    suspected (confident learning, each label on its own).
    """
    wrong = gold != predicted
    sure = np.where(wrong, np.where(predicted, probabilities, 1.0 - probabilities), -1.0)
    suspected = suspected_in_sets(gold, probabilities) & wrong
    rows = np.flatnonzero(wrong.any(1))
    rows = rows[np.argsort(-sure[rows].max(1, initial=-1.0), kind="stable")]

    def named(places: np.ndarray) -> list[str]:
        return [names[place] for place in np.flatnonzero(places).tolist()]

    return [
        {
            "row": row,
            "gold": named(gold[row]),
            "predicted": named(predicted[row]),
            "missing": named(gold[row] & ~predicted[row]),
            "too_many": named(predicted[row] & ~gold[row]),
            "about": names[int(sure[row].argmax())],
            "probability": float(sure[row].max()),
            "likely_label_error": bool(suspected[row].any()),
        }
        for row in rows.tolist()
    ]


def suspected_in_sets(gold: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n, K) bool: which labels are likely given wrongly, or wrongly left out; each label is two classes on its own.

    Of one that the model gives to no text nothing is suspected: it says how rare the label is, and nothing of any text.
    """
    found = np.zeros(gold.shape, dtype=bool)
    for label in np.flatnonzero((probabilities > 0.5).any(0)).tolist():
        for suspect in likely_label_errors(*as_classes(gold, probabilities, label)):
            found[suspect.row, label] = True
    return found


def as_classes(gold: np.ndarray, probabilities: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth values and probabilities (n, K) -> of one label 0 or 1 (n,), and the probabilities of both (n, 2)."""
    return gold[:, label].astype(int), two_class(probabilities[:, label])


def of_numbers(gold: np.ndarray, predicted: np.ndarray) -> list[Mistake]:
    """Of numbers (n,): all that differ, the largest error first."""
    errors = np.asarray(predicted, dtype=np.float64) - np.asarray(gold, dtype=np.float64)
    rows = np.argsort(-np.abs(errors), kind="stable")
    return [
        {"row": row, "gold": float(gold[row]), "predicted": float(predicted[row]), "error": float(errors[row])}
        for row in rows.tolist()
        if errors[row] != 0
    ]


def of_entities(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], likely: Sequence[np.ndarray], words: Sequence[Sequence[str]]
) -> list[Mistake]:
    """Of tags: sentences with entities that were missed or found where there is none (another type or other bounds are both).

    likely: of each sentence how likely each predicted tag is held. `probability` is that of the surest wrong entity: how sure the least
    sure tag over its words is.
    """
    found = []
    for row, (right, given, sure, sentence) in enumerate(zip(gold, predicted, likely, words, strict=True)):
        there, told = spans_of(right), spans_of(given)
        missed, invented = [span for span in there if span not in told], [span for span in told if span not in there]
        if missed or invented:
            found.append(
                {
                    "row": row,
                    "gold": [_entity(span, sentence) for span in there],
                    "predicted": [_entity(span, sentence) for span in told],
                    "missing": [_entity(span, sentence) for span in missed],
                    "too_many": [_entity(span, sentence) for span in invented],
                    "probability": max(float(np.min(sure[start:end])) for start, end, _ in [*missed, *invented]),
                }
            )
    return sorted(found, key=lambda each: -each["probability"])


def _entity(span: Span, words: Sequence[str]) -> str:
    start, end, kind = span
    return f"{' '.join(words[start:end])} ({kind})"


def of_answers(gold: Sequence[Sequence[str]], predicted: Sequence[str], probabilities: Sequence[float]) -> list[Mistake]:
    """Of answers: those that match none of the right ones exactly; `f1` is that of the words, with the nearest of them. "" is no answer."""
    scores = answer_scores(gold, predicted)
    rows = [row for row in range(len(predicted)) if scores[row, 0] < 1]
    rows.sort(key=lambda row: -probabilities[row])
    return [
        {
            "row": row,
            "gold": list(gold[row]),
            "predicted": predicted[row],
            "f1": float(scores[row, 1]),
            "probability": float(probabilities[row]),
        }
        for row in rows
    ]
