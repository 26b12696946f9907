"""Mistakes of every kind by hand: what is wrong, in which order, and which labels are suspected."""

import json

import numpy as np
import pytest

from bertlab.evaluation.mistakes import of_answers, of_classes, of_entities, of_numbers, of_sets, suspected_in_sets

LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]])


def test_classes_say_which_labels_are_suspected() -> None:
    labels, probabilities = [*LABELS, *4 * [0], *4 * [1]], np.array([*PROBABILITIES, *4 * [[0.7, 0.3]], *4 * [[0.3, 0.7]]])
    assert of_classes(labels, probabilities, ["ham", "spam"]) == [
        {"row": 2, "gold": "ham", "predicted": "spam", "probability": 0.9, "gold_probability": 0.1, "likely_label_error": True},
        {"row": 5, "gold": "spam", "predicted": "ham", "probability": 0.7, "gold_probability": 0.3, "likely_label_error": True},
    ]
    # every one of class 1 is answered wrongly: its threshold is so low that none is suspected with confidence
    unsure = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.55, 0.45]])
    assert [each["likely_label_error"] for each in of_classes([0, 0, 1, 1], unsure, ["ham", "spam"])] == [False, False]


def test_sets_say_what_is_missing_and_too_many_and_of_what_the_system_was_surest() -> None:
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=bool)
    probabilities = np.array([[0.9, 0.2, 0.1], [0.4, 0.7, 0.6], [0.1, 0.95, 0.9], [0.3, 0.8, 0.2]])
    first, second = of_sets(gold, probabilities > 0.5, probabilities, ["x", "y", "z"])  # rows 0 and 3 are right
    assert (first["row"], first["gold"], first["predicted"]) == (2, ["z"], ["y", "z"])
    assert (first["missing"], first["too_many"], first["about"], first["probability"]) == ([], ["y"], "y", 0.95)
    assert (second["row"], second["missing"], second["too_many"], second["about"]) == (1, ["x"], ["z"], "x")
    assert second["probability"] == pytest.approx(0.6)  # that x is not there; that z is: 0.6 as well, and x comes first
    json.dumps([first, second], allow_nan=False)


def test_a_label_of_a_set_that_was_turned_round_is_suspected_and_no_other() -> None:
    draw = np.random.default_rng(0)
    true = draw.random((400, 3)) < [0.5, 0.3, 0.2]
    probabilities = np.where(true, 0.9, 0.1)
    gold = true.copy()
    turned = [(3, 0), (50, 1), (51, 2), (399, 0)]
    for row, label in turned:
        gold[row, label] ^= True
    assert [tuple(place) for place in np.argwhere(suspected_in_sets(gold, probabilities)).tolist()] == turned
    found = of_sets(gold, probabilities > 0.5, probabilities, ["x", "y", "z"])
    assert sorted(each["row"] for each in found) == [3, 50, 51, 399] and all(each["likely_label_error"] for each in found)
    assert of_sets(true, probabilities > 0.5, probabilities, ["x", "y", "z"]) == []


def test_numbers_are_in_the_order_of_their_errors_whichever_way_they_go() -> None:
    found = of_numbers(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 2.0, 1.0, 4.25]))
    assert [(each["row"], each["gold"], each["predicted"], each["error"]) for each in found] == [
        (2, 3.0, 1.0, -2.0), (0, 1.0, 1.5, 0.5), (3, 4.0, 4.25, 0.25)
    ]  # fmt: skip


def test_entities_of_another_type_or_with_other_bounds_are_missed_and_invented() -> None:
    words = [["John", "Smith", "saw", "Rome"], ["nobody", "came"], ["to", "New", "York"]]
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["O", "B-LOC", "I-LOC"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "O"], ["O", "O", "B-LOC"]]
    likely = [np.array([0.9, 0.9, 0.99, 0.6]), np.array([1.0, 1.0]), np.array([0.9, 0.8, 0.7])]
    second, first = sorted(of_entities(gold, predicted, likely, words), key=lambda each: each["row"])
    assert of_entities(gold, predicted, likely, words) == [first, second]  # surest first
    assert second["row"] == 0 and second["gold"] == ["John Smith (PER)", "Rome (LOC)"]
    assert second["missing"] == ["Rome (LOC)"] and second["too_many"] == ["Rome (ORG)"] and second["probability"] == 0.6
    assert first["missing"] == ["New York (LOC)"] and first["too_many"] == ["York (LOC)"] and first["probability"] == 0.7


def test_answers_that_match_no_right_one_exactly_are_wrong_and_say_what_they_share_with_it() -> None:
    gold = [["the old river"], [], ["a stone", "stone hill"], []]
    found = of_answers(gold, ["river", "sea", "Stone", ""], [0.4, 0.9, 0.99, 0.5])
    assert [(each["row"], each["predicted"], each["gold"]) for each in found] == [(1, "sea", []), (0, "river", ["the old river"])]
    assert found[0]["f1"] == 0.0 and found[1]["f1"] == pytest.approx(2 / 3)  # of "old river", articles not counted


def test_of_a_label_that_no_text_is_given_nothing_is_suspected() -> None:
    """A model that says of every text how rare a label is knows none of them."""
    draw = np.random.default_rng(0)
    gold = draw.random((300, 2)) < 0.1
    probabilities = np.stack([draw.normal(0.1, 0.01, 300), np.where(gold[:, 1], 0.9, 0.1)], 1)
    probabilities[np.flatnonzero(gold[:, 1])[0], 1] = 0.02
    assert not suspected_in_sets(gold, probabilities)[:, 0].any()
    assert np.argwhere(suspected_in_sets(gold, probabilities)).tolist() == [[np.flatnonzero(gold[:, 1])[0], 1]]
