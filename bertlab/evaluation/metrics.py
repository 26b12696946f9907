"""Precision, recall and F1, as scikit-learn computes them, laid out for JSON.

Conventions: the label set is the training set's, whether or not a class occurs in the test; 0/0 counts as 0; macro-F1 is
the mean of the classes' F1 (not the F1 of mean precision and recall: Opitz and Burst 2019); for one label an example,
micro-averaged precision, recall and F1 all equal accuracy. Where an example has a set of labels, exact match (scikit-learn's accuracy)
wants the whole set right.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification_metrics(gold: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Metrics of n examples over K classes, both given as class numbers (n,).

    Returns accuracy; mcc (Matthews' correlation, 0 where gold or predictions are of one class); per_class {name: precision, recall, f1,
    support}; micro, macro and weighted averages; the confusion matrix (K rows of gold, K columns of predicted); n.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    from bertlab.evaluation.resampling import scores as scores_of_counts
    from bertlab.evaluation.resampling import units_of

    assert len(gold) == len(predicted) > 0
    classes = np.arange(len(names))

    def scores(average: str | None) -> Any:
        return precision_recall_fscore_support(gold, predicted, labels=classes, average=average, zero_division=0.0)

    def average(kind: str) -> dict[str, float]:
        precision, recall, f1, _ = scores(kind)
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}

    rows = zip(names, *scores(None), strict=True)
    return {
        "n": len(gold),
        "accuracy": float(accuracy_score(gold, predicted)),
        "mcc": float(scores_of_counts(units_of(np.asarray(gold), np.asarray(predicted), len(names)).observed(0), ["mcc"])[0]),
        "per_class": {name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)} for name, p, r, f, s in rows},
        "micro": average("micro"),
        "macro": average("macro"),
        "weighted": average("weighted"),
        "confusion_matrix": confusion_matrix(gold, predicted, labels=classes).tolist(),
    }


def set_metrics(gold: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Metrics of n examples that each have any number of K labels, gold and predicted as truth values (n, K).

    Returns exact_match; hamming_loss (the share of the n K decisions that are wrong); macro_mcc (the mean of the labels' Matthews'
    correlations, 0 for one that gold or predictions always or never have); per_class {name: precision, recall, f1, support}; micro, macro
    and weighted averages; labels_per_example of both; no_label, the share of examples without any, of both; n.
    """
    from bertlab.evaluation.resampling import SET_AVERAGES, f1_of_classes, units_of_sets

    gold, predicted = np.asarray(gold, dtype=bool), np.asarray(predicted, dtype=bool)
    assert gold.shape == predicted.shape == (len(gold), len(names)) and len(gold) > 0
    counts = units_of_sets(gold, predicted[None]).observed(0)
    averages = {name: float(formula(counts)) for name, formula in SET_AVERAGES.items()}
    right, support, chosen = counts[:, :-1]
    precision, recall = (np.divide(right, below, out=np.zeros(len(names)), where=below > 0) for below in (chosen, support))
    rows = zip(names, precision, recall, f1_of_classes(counts), support, strict=False)  # the last F1 is of whole sets
    return {
        "n": len(gold),
        "exact_match": averages["exact_match"],
        "hamming_loss": averages["hamming_loss"],
        "macro_mcc": averages["macro_mcc"],
        "per_class": {name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)} for name, p, r, f, s in rows},
        **{kind: {part: averages[f"{kind}_{part}"] for part in ("precision", "recall", "f1")} for kind in ("micro", "macro", "weighted")},
        "labels_per_example": {"gold": float(gold.sum(1).mean()), "predicted": float(predicted.sum(1).mean())},
        "no_label": {"gold": float((~gold.any(1)).mean()), "predicted": float((~predicted.any(1)).mean())},
    }


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation (n - 1) over seeds; the deviation of one value is None: it is not known."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}
