"""What dev teaches and what is measured with it, for one class an example and for any number of labels."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, roc_auc_score

from bertlab.evaluation.calibration import nll_of_rows
from bertlab.evaluation.curves import one_hot
from bertlab.evaluation.probabilities import given_labels, learn_on_dev, probability_metrics, scaled


def exclusive_set(classes: int, seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """A model whose logits are three times too large."""
    draw = np.random.default_rng(seed)
    logits = 1.5 * draw.normal(size=(n, classes))
    gold = (softmax(logits, 1).cumsum(1) > draw.random((n, 1))).argmax(1)
    return one_hot(gold, classes), softmax(3 * logits, 1).astype(np.float32)


def label_sets(seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    logits = 1.5 * draw.normal(size=(n, 3)) - [0, 1, 3]
    return draw.random((n, 3)) < 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-2 * logits))


def test_three_classes_have_a_temperature_and_no_threshold() -> None:
    learnt = learn_on_dev(*exclusive_set(3, 0), ["a", "b", "c"], exclusive=True)
    assert learnt["temperature"] == pytest.approx(3, rel=0.1) and learnt["thresholds"] == {} and learnt["n"] == 1500
    gold, probabilities = exclusive_set(3, 1)
    found = probability_metrics(gold, probabilities, ["a", "b", "c"], exclusive=True, learnt=learnt, resamples=300)
    before, after = found["calibration"]["before"], found["calibration"]["after"]
    assert found["calibration"]["temperature"] == learnt["temperature"]
    assert after["nll"] < before["nll"] and after["ece"] < before["ece"] / 2 and after["brier"] < before["brier"]
    assert after["nll"] == pytest.approx(nll_of_rows(scaled(probabilities, learnt["temperature"], exclusive=True), gold.argmax(1)).mean())
    assert found["roc_auc"]["per_class"]["b"] == roc_auc_score(gold[:, 1], probabilities[:, 1])
    assert found["intervals"]["roc_auc"]["macro"]["low"] < found["roc_auc"]["macro"]
    json.dumps([learnt, found], allow_nan=False)


def test_of_two_classes_the_second_has_a_threshold_and_the_first_takes_the_rest() -> None:
    gold, probabilities = exclusive_set(2, 2)
    learnt = learn_on_dev(gold, probabilities, ["ham", "spam"], exclusive=True)
    assert set(learnt["thresholds"]) == {"spam"}
    given = given_labels(probabilities, ["ham", "spam"], learnt["thresholds"], exclusive=True)
    assert (given.sum(1) == 1).all()
    assert f1_score(gold[:, 1], given[:, 1], average="macro") == pytest.approx(learnt["thresholds"]["spam"]["f1"])
    assert learnt["thresholds"]["spam"]["f1"] >= learnt["thresholds"]["spam"]["f1_at_half"]


def test_a_threshold_above_all_probabilities_gives_none_however_few_digits_they_have() -> None:
    second = np.array([0.6, *[0.9] * 9], dtype=np.float32)  # the only text of the second class is the least like it
    gold, probabilities = one_hot(np.array([1, *[0] * 9]), 2), np.stack([1 - second, second], axis=1)
    learnt = learn_on_dev(gold, probabilities, ["ham", "spam"], exclusive=True)
    assert not given_labels(probabilities, ["ham", "spam"], learnt["thresholds"], exclusive=True)[:, 1].any()


def test_every_label_has_a_threshold_and_all_one_temperature() -> None:
    names = ["x", "y", "z"]
    gold, probabilities = label_sets(3)
    learnt = learn_on_dev(gold, probabilities, names, exclusive=False)
    assert learnt["temperature"] == pytest.approx(2, rel=0.1) and list(learnt["thresholds"]) == names
    given = given_labels(probabilities, names, learnt["thresholds"], exclusive=False)
    for number, name in enumerate(names):
        assert f1_score(gold[:, number], given[:, number]) == pytest.approx(learnt["thresholds"][name]["f1"])
    test_gold, test_probabilities = label_sets(4)
    found = probability_metrics(test_gold, test_probabilities, names, exclusive=False, learnt=learnt, resamples=200)
    assert found["calibration"]["after"]["nll"] < found["calibration"]["before"]["nll"]
    logits = np.log(test_probabilities / (1 - test_probabilities))
    np.testing.assert_allclose(
        scaled(test_probabilities, learnt["temperature"], exclusive=False), 1 / (1 + np.exp(-logits / learnt["temperature"])), atol=1e-9
    )


def test_a_dev_set_with_nothing_to_learn_from_changes_nothing() -> None:
    gold = one_hot(np.array([0, 0, 1]), 2)
    learnt = learn_on_dev(gold, np.where(gold, 0.9, 0.1), ["a", "b"], exclusive=True)  # all right
    assert learnt["temperature"] is None
    one_kind = learn_on_dev(gold[:2], np.array([[0.9, 0.1], [0.4, 0.6]]), ["a", "b"], exclusive=True)
    assert one_kind["thresholds"]["b"] == {"value": 0.5, "f1": 1 / 3, "f1_at_half": 1 / 3, "chosen": False}
    found = probability_metrics(gold, np.where(gold, 0.9, 0.1), ["a", "b"], exclusive=True, learnt=learnt, resamples=100)
    assert set(found["calibration"]) == {"before"} and found["roc_auc"]["macro"] == 1.0
    assert set(probability_metrics(gold, np.where(gold, 0.9, 0.1), ["a", "b"], exclusive=True, resamples=50)["calibration"]) == {"before"}
