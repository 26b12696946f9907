"""Metrics: scikit-learn's numbers to the last digit, whatever classes are missing, and an example that a reader can check by hand."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    hamming_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from bertlab.evaluation.metrics import classification_metrics, mean_and_deviation, set_metrics

NAMES = ["ale", "bread", "cheese"]
GOLD = [0, 0, 0, 0, 1, 1, 2, 2]
PREDICTED = [0, 0, 0, 1, 1, 1, 0, 0]


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    metrics = classification_metrics(GOLD, PREDICTED, NAMES)
    assert metrics["n"] == 8 and metrics["accuracy"] == 5 / 8
    assert metrics["confusion_matrix"] == [[3, 1, 0], [0, 2, 0], [2, 0, 0]]  # a row is a gold class
    per_class = metrics["per_class"]
    assert list(per_class) == NAMES
    assert per_class["ale"] == pytest.approx({"precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "support": 4})
    assert per_class["bread"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 4 / 5, "support": 2})
    assert per_class["cheese"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}  # never predicted: 0/0 counts as 0
    assert metrics["macro"] == pytest.approx({"precision": 19 / 45, "recall": 7 / 12, "f1": 22 / 45})
    assert metrics["weighted"] == pytest.approx({"precision": 3 / 10 + 1 / 6, "recall": 5 / 8, "f1": 1 / 3 + 1 / 5})
    assert metrics["micro"] == {"precision": 5 / 8, "recall": 5 / 8, "f1": 5 / 8}


def test_macro_f1_is_the_mean_of_the_f1s_and_not_the_f1_of_the_means() -> None:
    metrics = classification_metrics(GOLD, PREDICTED, NAMES)
    f1s = [scores["f1"] for scores in metrics["per_class"].values()]
    precision, recall = metrics["macro"]["precision"], metrics["macro"]["recall"]
    of_means = 2 * precision * recall / (precision + recall)
    assert metrics["macro"]["f1"] == pytest.approx(np.mean(f1s), abs=1e-15)
    assert abs(metrics["macro"]["f1"] - of_means) > 5e-4


@given(
    st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), min_size=1, max_size=40)))
)
@settings(max_examples=60, deadline=None)
def test_every_number_is_scikit_learns_to_the_last_digit(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = drawn  # few examples over several classes: some are missing from gold, from the predictions, or from both
    gold, predicted = map(list, zip(*pairs, strict=True))
    names, classes = [f"class {number}" for number in range(count)], list(range(count))
    metrics = classification_metrics(gold, predicted, names)

    # with every class given and one label an example, its micro average is called accuracy
    report = classification_report(gold, predicted, labels=classes, target_names=names, output_dict=True, zero_division=0.0)
    for name in names:
        theirs = report[name]
        assert metrics["per_class"][name] == {
            "precision": theirs["precision"],
            "recall": theirs["recall"],
            "f1": theirs["f1-score"],
            "support": theirs["support"],
        }
    for kind in ("macro", "weighted"):
        theirs = report[f"{kind} avg"]
        assert metrics[kind] == {"precision": theirs["precision"], "recall": theirs["recall"], "f1": theirs["f1-score"]}
    for kind in ("micro", "macro", "weighted"):
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert metrics[kind][name] == score(gold, predicted, labels=classes, average=kind, zero_division=0.0)
    assert metrics["accuracy"] == accuracy_score(gold, predicted) == pytest.approx(metrics["micro"]["f1"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class only
        assert metrics["mcc"] == pytest.approx(matthews_corrcoef(gold, predicted), abs=1e-12)
    assert metrics["confusion_matrix"] == confusion_matrix(gold, predicted, labels=classes).tolist()
    assert np.array(metrics["confusion_matrix"]).sum() == metrics["n"] == len(gold)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_class_that_is_nowhere_in_the_test_still_counts_in_the_macro_average() -> None:
    metrics = classification_metrics([0, 1, 0, 1], [0, 1, 0, 1], NAMES)
    assert metrics["per_class"]["cheese"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert metrics["macro"]["f1"] == pytest.approx(2 / 3) and metrics["weighted"]["f1"] == metrics["accuracy"] == 1.0


def test_arrays_and_lists_give_the_same_numbers() -> None:
    assert classification_metrics(np.array(GOLD), np.array(PREDICTED), NAMES) == classification_metrics(GOLD, PREDICTED, NAMES)


def test_mean_and_deviation_are_of_a_sample_and_one_value_has_no_deviation() -> None:
    assert mean_and_deviation([2.0, 4.0, 6.0]) == {"mean": 4.0, "sd": 2.0}
    assert mean_and_deviation([0.75]) == {"mean": 0.75, "sd": None}


def test_sets_of_labels_have_the_numbers_worked_out_by_hand() -> None:
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    metrics = set_metrics(gold, predicted, NAMES)
    assert metrics["n"] == 4 and metrics["exact_match"] == 2 / 4 and metrics["hamming_loss"] == 2 / 12
    assert metrics["per_class"]["ale"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 4 / 5, "support": 2})
    assert metrics["per_class"]["bread"] == pytest.approx({"precision": 1.0, "recall": 1 / 2, "f1": 2 / 3, "support": 2})
    assert metrics["per_class"]["cheese"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert metrics["micro"] == pytest.approx({"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4})
    assert metrics["macro"]["f1"] == pytest.approx((4 / 5 + 2 / 3) / 3)
    assert metrics["labels_per_example"] == {"gold": 4 / 4, "predicted": 4 / 4}
    assert metrics["no_label"] == {"gold": 1 / 4, "predicted": 1 / 4}
    assert set_metrics(gold, predicted & False, NAMES)["no_label"] == {"gold": 1 / 4, "predicted": 1.0}
    # ale 2 right, 1 too much, 1 rightly left out; bread 1, none, 2 and 1 left out wrongly; cheese, which nobody has, counts as 0
    assert metrics["macro_mcc"] == pytest.approx((2 * (2 * 1 - 1 * 0) / (2 * 2 * 3 * 1) ** 0.5 + 0) / 3)


@given(
    st.integers(1, 5).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, 2**k - 1)] * 2), min_size=1, max_size=30))
    )
)
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_sets_of_labels_have_scikit_learns_numbers(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = drawn  # among them no label at all, labels that nobody has, and one label, which scikit-learn takes for two classes
    gold, predicted = ((np.array(side)[:, None] >> np.arange(count)) & 1 == 1 for side in zip(*pairs, strict=True))
    metrics = set_metrics(gold, predicted, [str(number) for number in range(count)])
    if count > 1:
        for kind in ("micro", "macro", "weighted"):
            theirs = precision_recall_fscore_support(gold, predicted, average=kind, zero_division=0.0)
            assert list(metrics[kind].values()) == pytest.approx(theirs[:3], abs=1e-12)
        of_labels: Any = zip(*precision_recall_fscore_support(gold, predicted, average=None, zero_division=0.0), strict=True)
    else:
        of_labels = iter([precision_recall_fscore_support(gold[:, 0], predicted[:, 0], average="binary", zero_division=0.0)])
        metrics["per_class"]["0"]["support"] = None
    for ours, theirs in zip(metrics["per_class"].values(), of_labels, strict=True):
        assert list(ours.values()) == pytest.approx(list(theirs), abs=1e-12)
    assert metrics["exact_match"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    assert metrics["hamming_loss"] == pytest.approx(hamming_loss(gold, predicted), abs=1e-12)
    of_labels = [matthews_corrcoef(gold[:, label], predicted[:, label]) for label in range(count)]
    assert metrics["macro_mcc"] == pytest.approx(np.mean(of_labels), abs=1e-12)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
