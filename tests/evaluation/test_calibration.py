"""Calibration: numbers worked out by hand, scikit-learn's where it has them, and bootstrap samples as if the rows were written out.

Coverage is simulated in every run, by default few times: BERTLAB_SIMULATIONS=4000 makes a table worth printing (docs/evaluating.md).
"""

import json
import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from bertlab.evaluation.calibration import (
    BINS,
    at_temperature,
    bin_numbers,
    brier_of_rows,
    by_chance,
    calibration_error,
    calibration_metrics,
    fit_temperature,
    gap_interval,
    gaps_by_bin,
    log_probabilities,
    nll_of_rows,
    reliability,
    two_class,
)
from bertlab.evaluation.curves import one_hot

SIMULATIONS = int(os.environ.get("BERTLAB_SIMULATIONS", 40))


def drawn(n: int, classes: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gold, logits whose softmax is the true chance of each class, and the logits made `sharpness` times too sure."""
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(n, classes))
    gold = (softmax(logits, 1).cumsum(1) > draw.random((n, 1))).argmax(1)
    return gold, logits, sharpness * logits


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    gold = np.array([0, 1, 1, 1])
    found = calibration_metrics(one_hot(gold, 2), probabilities, resamples=50)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.16 + 0.09) / 4)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.2, 0.6, 0.7]).mean())
    # each of the four has a bin of its own: .9 right, .8 wrong, .6 right, .7 right
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)
    assert [(each["n"], each["right"]) for each in found["bins"]] == [(1, 1.0), (1, 1.0), (1, 0.0), (1, 1.0)]
    assert found["ece_classwise"] == pytest.approx(found["ece"])  # of class 0 the same four distances, of class 1 too


def test_answers_in_one_bin_make_up_for_each_other_and_in_two_they_do_not() -> None:
    confidence, right = np.array([0.71, 0.73, 0.79, 0.72]), np.array([True, True, True, False])
    assert calibration_error(confidence, right) == pytest.approx((abs(2.16 - 2) + abs(0.79 - 1)) / 4)  # .71 .72 .73 are below 11/15
    assert calibration_error(confidence, right, bins=1) == pytest.approx(abs(2.95 - 3) / 4)
    assert calibration_error(confidence, right, bins=2, equal_mass=True) == pytest.approx((abs(1.43 - 1) + abs(1.52 - 2)) / 4)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60), st.sampled_from([2, 5, 15]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_diagram_is_scikit_learns_calibration_curve(answers: list[tuple[int, bool]], bins: int, equal_mass: bool) -> None:
    confidence, right = np.array([each[0] for each in answers]) / 30, np.array([each[1] for each in answers])
    found = reliability(confidence, right, bins, equal_mass=equal_mass)
    share, mean = calibration_curve(right, confidence, n_bins=bins, strategy="quantile" if equal_mass else "uniform", pos_label=True)
    assert sum(each["n"] for each in found) == len(answers)
    np.testing.assert_allclose([each["right"] for each in found], share, atol=1e-12)
    np.testing.assert_allclose([each["confidence"] for each in found], mean, atol=1e-12)
    ece = sum(each["n"] * abs(each["confidence"] - each["right"]) for each in found) / len(answers)
    assert calibration_error(confidence, right, bins, equal_mass=equal_mass) == pytest.approx(ece)


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_brier_and_nll_are_scikit_learns(classes: int, n: int, seed: int) -> None:
    gold, logits, _ = drawn(n, classes, seed)
    probabilities = softmax(logits, 1)
    theirs = brier_score_loss(gold if classes > 2 else gold == 1, probabilities if classes > 2 else probabilities[:, 1],
                              labels=list(range(classes)) if classes > 2 else [False, True])  # fmt: skip
    assert brier_of_rows(probabilities, gold).mean() == pytest.approx(theirs)
    assert nll_of_rows(probabilities, gold).mean() == pytest.approx(log_loss(gold, probabilities, labels=range(classes)))


def test_probabilities_of_nothing_and_of_float32_are_finite_and_scikit_learns() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    gold = np.array([0, 0])
    assert nll_of_rows(sure, gold).mean() == pytest.approx(log_loss(gold, sure, labels=[0, 1]))
    single = softmax(np.random.default_rng(0).normal(size=(20, 3)), 1).astype(np.float32)
    json.dumps(calibration_metrics(one_hot(np.zeros(20, int), 3), single, resamples=20), allow_nan=False)
    json.dumps(calibration_metrics(one_hot(gold, 2), sure, resamples=20), allow_nan=False)
    json.dumps(calibration_metrics(one_hot(gold[:1], 2), sure[:1], resamples=20), allow_nan=False)


# --- temperature ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes, sharpness", [(2, 3.0), (3, 1.7), (20, 0.5)])
def test_the_temperature_is_scikit_learns_and_undoes_what_made_the_model_too_sure(classes: int, sharpness: float) -> None:
    from sklearn.calibration import _TemperatureScaling

    gold, _, logits = drawn(4000, classes, 1, sharpness)
    found = fit_temperature(logits, gold)
    assert found == pytest.approx(sharpness, rel=0.08)
    assert found == pytest.approx(1 / float(_TemperatureScaling().fit(logits - logits.mean(1, keepdims=True), gold).beta_), rel=1e-5)
    # any number added to all logits of a row, and log-probabilities in their place, change nothing
    assert fit_temperature(log_softmax(logits, 1), gold) == pytest.approx(found, rel=1e-9)
    assert fit_temperature(log_probabilities(softmax(logits, 1)), gold) == pytest.approx(found, rel=1e-6)
    before, after = nll_of_rows(softmax(logits, 1), gold).mean(), nll_of_rows(at_temperature(logits, found or 1), gold).mean()
    nearby = [nll_of_rows(at_temperature(logits, (found or 1) * factor), gold).mean() for factor in (0.98, 1.02)]
    assert after < before and after < min(nearby)
    assert (at_temperature(logits, found or 1).argmax(1) == logits.argmax(1)).all()


def test_where_dev_has_no_least_nll_there_is_no_temperature() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    assert fit_temperature(logits, np.array([0, 1, 0])) is None  # no error: the colder the better
    assert fit_temperature(logits, np.array([1, 0, 1])) is None  # all wrong: the hotter the better
    assert fit_temperature(np.zeros((3, 2)), np.array([0, 1, 1])) is None  # nothing to scale
    assert fit_temperature(logits, np.array([0, 0, 0])) is not None


def test_labels_by_themselves_are_so_many_answers_yes_or_no() -> None:
    draw = np.random.default_rng(3)
    logits = 2 * draw.normal(size=(3000, 4))
    gold = draw.random((3000, 4)) < 1 / (1 + np.exp(-logits))
    probabilities = 1 / (1 + np.exp(-2.5 * logits))
    assert two_class(probabilities).shape == (12_000, 2)
    assert fit_temperature(log_probabilities(two_class(probabilities)), gold.ravel().astype(int)) == pytest.approx(2.5, rel=0.05)
    assert brier_of_rows(two_class(probabilities), gold.ravel().astype(int)).mean() == pytest.approx(
        brier_score_loss(gold.ravel(), probabilities.ravel())
    )


def test_labels_by_themselves_have_the_numbers_of_their_yes_and_whole_examples_are_drawn() -> None:
    draw = np.random.default_rng(11)
    probabilities = draw.random((200, 4)) * [1, 0.5, 0.2, 0.05]
    gold = draw.random((200, 4)) < probabilities
    found = calibration_metrics(gold, probabilities, exclusive=False, resamples=400)
    assert found["brier"] == pytest.approx(brier_score_loss(gold.ravel(), probabilities.ravel()))
    assert found["nll"] == pytest.approx(np.mean([log_loss(gold[:, k], probabilities[:, k], labels=[False, True]) for k in range(4)]))
    assert found["ece"] == pytest.approx(calibration_error(probabilities.ravel(), gold.ravel()))
    assert found["ece_classwise"] == pytest.approx(np.mean([calibration_error(probabilities[:, k], gold[:, k]) for k in range(4)]))
    assert sum(each["n"] for each in found["bins"]) == 800 and found["intervals"]["n"] == 200
    # four labels that are copies of each other know no more than one
    one, four = (
        calibration_metrics(gold[:, :1].repeat(copies, 1), probabilities[:, :1].repeat(copies, 1), exclusive=False, resamples=400)
        for copies in (1, 4)
    )
    assert four["intervals"]["brier"] == pytest.approx(one["intervals"]["brier"]) and four["ece"] == pytest.approx(one["ece"])


# --- resampling -------------------------------------------------------------------------------------------------------------------------


def test_weighted_rows_give_the_errors_of_rows_written_out_in_the_same_bins() -> None:
    gold, _, logits = drawn(40, 3, 4, 2.0)
    exact = softmax(logits, 1)
    times = np.random.default_rng(5).integers(4, size=(40, 10)).astype(float)
    parts = {
        "ece": gaps_by_bin(bin_numbers(exact.max(1))[:, None], (exact.max(1) - (exact.argmax(1) == gold))[:, None]),
        "ece_classwise": gaps_by_bin(bin_numbers(exact) + BINS * np.arange(3), exact - one_hot(gold, 3)),
    }
    gaps = {name: np.abs(each @ times).sum(0) / times.sum(0) for name, each in parts.items()}
    for number in range(10):
        rows = np.repeat(np.arange(40), times[:, number].astype(int))
        confidence, right = exact[rows].max(1), exact[rows].argmax(1) == gold[rows]
        classwise = [calibration_error(exact[rows, k], gold[rows] == k) for k in range(3)]
        assert gaps["ece"][number] == pytest.approx(calibration_error(confidence, right))
        assert gaps["ece_classwise"][number] == pytest.approx(np.mean(classwise))
    whole = calibration_metrics(one_hot(gold, 3), exact, resamples=20)
    confidence, right = exact.max(1), exact.argmax(1) == gold
    assert whole["ece"] == pytest.approx(calibration_error(confidence, right))
    assert whole["ece_equal_mass"] == pytest.approx(calibration_error(confidence, right, equal_mass=True))
    assert whole["brier"] == pytest.approx(brier_score_loss(gold, exact)) and whole["nll"] == pytest.approx(log_loss(gold, exact))


def test_the_interval_of_gaps_has_no_percentiles_faults() -> None:
    draw = np.random.default_rng(10)
    noise = 0.01 * draw.normal(size=(15, 4000))
    pure = noise[:, 0]  # nothing but noise: 0 is not ruled out
    found = gap_interval(pure, pure[:, None] + noise)
    assert found["low"] == 0.0 < found["high"] < np.abs(pure).sum()
    percentile = np.quantile(np.abs(pure[:, None] + noise).sum(0), 0.025)
    assert percentile > 0.1 * np.abs(pure).sum()  # it does rule 0 out
    large = np.full(15, 0.05)  # far from 0 the signs are known, and the sum is an ordinary one
    found = gap_interval(large, large[:, None] + noise)
    half = 1.96 * 0.01 * 15**0.5
    assert (found["low"], found["high"]) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)
    assert gap_interval(2 * large, 2 * large[:, None] + noise)["high"] == 1.0  # there is no larger error
    assert gap_interval(large, np.tile(large[:, None], 50))["low"] is None
    assert gap_interval(np.zeros(2), noise[:2])["low"] == 0.0


def test_by_chance_is_what_a_calibrated_model_shows_and_falls_with_the_root_of_the_answers() -> None:
    shown = []
    for seed in range(40):
        gold, logits, _ = drawn(500, 3, seed)
        exact = softmax(logits, 1)
        shown.append(calibration_error(exact.max(1), exact.argmax(1) == gold))
    gold, logits, _ = drawn(500, 3, 99)
    few, many = (by_chance(np.tile(softmax(logits, 1).max(1), repeat)) for repeat in (1, 4))
    assert few["mean"] == pytest.approx(np.mean(shown), rel=0.1) and many["mean"] == pytest.approx(few["mean"] / 2, rel=0.1)
    assert np.mean(np.array(shown) > few["high"]) <= 0.15 and few["high"] > few["mean"]
    median = by_chance(np.tile(softmax(logits, 1).max(1), 4), level=0.5)["high"]
    assert median == pytest.approx(many["mean"], rel=0.03)  # of a thousand sums of 15 gaps mean and median are near each other
    assert by_chance(np.ones(50)) == {"mean": 0.0, "high": 0.0}  # who is certain and true is never wrong


def test_an_overconfident_model_is_beyond_chance_and_one_temperature_brings_it_back() -> None:
    gold, _, logits = drawn(2000, 3, 6, 3.0)
    before = calibration_metrics(one_hot(gold, logits.shape[1]), softmax(logits, 1), resamples=500)
    after = calibration_metrics(one_hot(gold, 3), at_temperature(logits, 3.0), resamples=500)
    assert before["ece"] > before["by_chance"]["high"] and 0 < before["intervals"]["ece"]["low"] < before["ece"]
    assert after["ece"] < after["by_chance"]["high"] and after["intervals"]["ece"]["low"] == 0.0
    for name in ("brier", "nll", "ece", "ece_equal_mass", "ece_classwise"):
        assert after[name] < before[name]
    assert len(before["bins"]) <= BINS and before == calibration_metrics(one_hot(gold, logits.shape[1]), softmax(logits, 1), resamples=500)


def test_many_classes_get_fewer_samples_and_it_is_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gold, logits, _ = drawn(300, 150, 7)
        assert calibration_metrics(one_hot(gold, logits.shape[1]), softmax(logits, 1))["intervals"]["R"] == 200_000_000 // (300 * 150)


# --- coverage ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, sharpness", [(100, 2.0), (500, 2.0), (2000, 1.15), (500, 1.0)])
def test_coverage_of_brier_nll_and_ece(n: int, sharpness: float) -> None:
    """Three classes, a model that is right about the order of its answers and `sharpness` times too sure."""
    gold, _, logits = drawn(200_000, 3, 8, sharpness)
    exact = softmax(logits, 1)
    whole = calibration_metrics(one_hot(gold, 3), exact, resamples=2)
    names = ["brier", "nll", "ece", "ece_equal_mass", "ece_classwise"]
    population = [whole[name] for name in names]
    covered = dict.fromkeys([*names, "ece within by_chance"], 0)
    draw = np.random.default_rng(9)
    for number in range(SIMULATIONS):
        rows = draw.integers(len(gold), size=n)
        found = calibration_metrics(one_hot(gold[rows], 3), exact[rows], seed=number, resamples=499)
        for name, true in zip(names, population, strict=True):
            covered[name] += found["intervals"][name]["low"] <= true <= found["intervals"][name]["high"]
        covered["ece within by_chance"] += found["ece"] <= found["by_chance"]["high"]
    rates = {name: count / SIMULATIONS for name, count in covered.items()}
    print(
        f"coverage of 95 % intervals, n = {n}, sharpness {sharpness}, {SIMULATIONS} simulations:",
        rates,
        "true",
        np.round(population, 4).tolist(),
    )
    for name in names:
        assert rates[name] >= 0.95 - 0.03 - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5, name
    if sharpness == 1.0:
        assert rates["ece within by_chance"] >= 0.95 - 0.03 - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5
    elif sharpness == 2.0:
        assert rates["ece within by_chance"] < 0.5
