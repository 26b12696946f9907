"""Confident learning by hand and on labels flipped on purpose; the most confidently wrong in order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from bertlab.evaluation.label_errors import (
    LEAST,
    SUREST,
    TOO_MANY,
    at_most_wrong,
    class_thresholds,
    confident_classes,
    confident_joint,
    confidently_wrong,
    estimated_errors,
    likely_label_errors,
    undecided,
)

LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]])
# four more right answers of each class: of seven one differs, where of three one would be too many
MORE_LABELS = np.array([*LABELS, 0, 0, 0, 0, 1, 1, 1, 1])
MORE_PROBABILITIES = np.array([*PROBABILITIES, *4 * [[0.7, 0.3]], *4 * [[0.3, 0.7]]])


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    assert class_thresholds(LABELS, PROBABILITIES) == pytest.approx([0.6, 0.6])
    assert confident_classes(LABELS, PROBABILITIES).tolist() == [0, 0, 1, 1, 1, 0]
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1], [1, 2]]
    assert estimated_errors(LABELS, PROBABILITIES) == pytest.approx(2.0)
    first, second = likely_label_errors(MORE_LABELS, MORE_PROBABILITIES)
    assert (first.row, first.label, first.likelier) == (2, 0, 1) and first.self_confidence == pytest.approx(0.1)
    assert first.margin == pytest.approx(-0.8)
    assert (second.row, second.label, second.likelier) == (5, 1, 0) and second.margin == pytest.approx(-0.4)


def test_a_class_of_which_the_model_is_never_sure_has_a_threshold_of_its_own() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.7, 0.3], [0.7, 0.3], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # thresholds 5/6 and 7/30: row 2, though 0 is likelier, is confidently of class 1, and row 5 of class 0
    assert confident_classes(labels, probabilities).tolist() == [0, 0, 1, 1, 1, 0]
    assert likely_label_errors(labels, probabilities) == []  # row 2 has the label that is its likeliest; row 5: half of these labels differ
    assert undecided(labels, probabilities).tolist() == [True, True]
    more = np.array([*labels, *6 * [0], *6 * [1]]), np.array([*probabilities, *6 * [[0.8, 0.2]], *6 * [[0.2, 0.8]]])
    assert undecided(*more).tolist() == [False, False] and [each.row for each in likely_label_errors(*more)] == [5]


def test_rows_that_reach_no_threshold_count_nowhere_and_a_class_without_rows_is_never_likelier() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    labels = np.array([0, 0, 1, 1])
    assert class_thresholds(labels, probabilities).tolist() == pytest.approx([0.7, 0.45, np.inf])
    assert confident_classes(labels, probabilities).tolist() == [0, 1, 1, -1]
    assert confident_joint(labels, probabilities).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert estimated_errors(labels, probabilities) == pytest.approx(1.0)
    assert likely_label_errors(labels, probabilities) == []
    assert likely_label_errors([], np.empty((0, 3))) == []


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_joint_and_the_suspects_follow_the_definition_row_by_row(classes: int, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels, probabilities = draw.integers(classes, size=n), softmax(2 * draw.normal(size=(n, classes)), 1).round(2)
    joint = np.zeros((classes, classes), int)
    suspects: dict[int, list[tuple[float, int]]] = {}
    for row in range(n):
        reached = []
        for k in range(classes):
            own = [probabilities[other, k] for other in range(n) if labels[other] == k]
            if own and probabilities[row, k] >= sum(own) / len(own) - 1e-12:
                reached.append((probabilities[row, k], -k))
        if reached:
            confident = -max(reached)[1]
            joint[labels[row], confident] += 1
            if confident != labels[row] and probabilities[row].argmax() != labels[row] and labels[row] in probabilities.argmax(1):
                others = np.delete(probabilities[row], labels[row])
                margin = probabilities[row, labels[row]] - others.max()
                suspects.setdefault(int(probabilities[row].argmax()), []).append((margin, row))
    assert (confident_joint(labels, probabilities) == joint).all()
    kept = set()
    for answer in range(classes):
        its = sorted((row for row in range(n) if probabilities[row].argmax() == answer), key=lambda row: -probabilities[row].max())
        surest = its[: max(LEAST, math.ceil(len(its) * SUREST))]
        differing = sum(labels[row] != answer for row in surest)
        weak = bool(differing > min(TOO_MANY, (labels != answer).mean() / 2) * len(surest)) if its else answer in labels
        most = math.ceil(Fraction((differing + 1) * len(its), len(surest) + 1)) if not weak else 0
        assert (undecided(labels, probabilities)[answer], at_most_wrong(labels, probabilities)[answer]) == (weak, most)
        kept |= {row for _, row in sorted(suspects.get(answer, []))[:most]}
    found = likely_label_errors(labels, probabilities)
    assert {each.row for each in found} == kept
    assert len(found) <= estimated_errors(labels, probabilities) + 1e-9
    margins = [each.margin for each in found]
    assert margins == sorted(margins) and all(margin <= 0 for margin in margins)


def test_labels_flipped_on_purpose_are_found_and_come_first() -> None:
    features, true = make_classification(1200, 12, n_informative=8, n_classes=3, class_sep=4.0, flip_y=0, random_state=0)
    draw = np.random.default_rng(1)
    flipped = draw.random(1200) < 0.08
    labels = np.where(flipped, (true + draw.integers(1, 3, size=1200)) % 3, true)
    probabilities = cross_val_predict(LogisticRegression(max_iter=2000), features, labels, cv=4, method="predict_proba")
    found = [each.row for each in likely_label_errors(labels, probabilities)]
    hits = flipped[found]
    assert hits.sum() / flipped.sum() > 0.75 and hits.mean() > 0.9
    assert hits[: len(hits) // 2].mean() >= hits.mean()  # sorted by how likely they are
    assert estimated_errors(labels, probabilities) == pytest.approx(flipped.sum(), rel=0.35)
    by_row = {each.row: each for each in likely_label_errors(labels, probabilities)}
    assert np.mean([by_row[row].likelier == true[row] for row in found if flipped[row]]) > 0.95


def test_a_weak_model_suspects_no_label_and_a_middling_one_no_more_than_its_surest_answers_allow() -> None:
    draw = np.random.default_rng(3)
    labels, guesses = draw.integers(2, size=600), draw.random((600, 1))
    by_lot = np.hstack([guesses, 1 - guesses])
    off = confident_joint(labels, by_lot)
    assert off.sum() - np.trace(off) > 100  # which confident learning alone would suspect
    assert undecided(labels, by_lot).tolist() == [True, True] and likely_label_errors(labels, by_lot) == []
    # a class of nine in ten, always the answer: nine in ten of its surest labels are right too, and say nothing
    rare = (np.arange(600) % 10 == 0).astype(int)
    assert undecided(rare, np.tile([0.9, 0.1], (600, 1))).tolist() == [True, True]
    assert likely_label_errors(rare, np.tile([0.9, 0.1], (600, 1))) == []
    # or nearly always the same: its surest answers are right, and of the rare class, which it never gives, it knows nothing
    common = np.where(rare == 1, 0.801, np.linspace(0.78, 0.82, 600))
    nearly = np.stack([common, 1 - common], 1)
    assert undecided(rare, nearly).tolist() == [False, True] and likely_label_errors(rare, nearly) == []
    # probabilities that are exactly true, and no wrong label: all that confident learning finds are mistakes of the model
    sure = softmax(np.array([[1.0, -1.0]]) * draw.normal(size=(4000, 1)) * 1.5, 1)
    true = (draw.random(4000) < sure[:, 1]).astype(int)
    off = confident_joint(true, sure)
    assert len(likely_label_errors(true, sure)) <= at_most_wrong(true, sure).sum() < 0.2 * (off.sum() - np.trace(off))


def test_it_is_the_surest_answers_that_say_how_many_can_be_wrong() -> None:
    sure = np.linspace(0.99, 0.6, 100)
    probabilities = np.concatenate([np.stack([sure, 1 - sure], 1), np.stack([1 - sure, sure], 1)])
    labels = np.repeat([0, 1], 100)
    labels[60:100] = 1  # where the model is unsure it is wrong
    assert undecided(labels, probabilities).tolist() == [False, False]
    assert at_most_wrong(labels, probabilities).tolist() == [5, 5]  # none of the surest 20 differs: 1 of 21 of 100, rounded up


def test_clean_labels_of_a_good_model_are_hardly_suspected() -> None:
    features, true = make_classification(1200, 12, n_informative=8, n_classes=3, class_sep=4.0, flip_y=0, random_state=0)
    probabilities = cross_val_predict(LogisticRegression(max_iter=2000), features, true, cv=4, method="predict_proba")
    assert len(likely_label_errors(true, probabilities)) < 0.02 * 1200


def test_the_surest_of_the_wrong_answers_come_first_and_equally_sure_ones_in_order() -> None:
    gold = np.array([1, 1, 0, 0, 0])
    assert confidently_wrong(gold, PROBABILITIES[:5]).tolist() == [0, 2, 1, 3, 4]
    assert confidently_wrong(gold, PROBABILITIES[:5], most=2).tolist() == [0, 2]
    assert confidently_wrong(PROBABILITIES.argmax(1), PROBABILITIES).tolist() == []
