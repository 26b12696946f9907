"""Intervals: scipy's to the digit where it has them, its bootstrap within the noise of resampling, and the coverage they promise.

Coverage is simulated anew in every run, by default few times: BERTLAB_SIMULATIONS=4000 makes a table worth printing (docs/comparing.md).
"""

import json
import os
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bertlab.evaluation.intervals import bca, of_metrics, of_scores, of_set_metrics, of_units, percentile, wilson
from bertlab.evaluation.metrics import classification_metrics, set_metrics
from bertlab.evaluation.resampling import (
    SET_AVERAGES,
    Metric,
    bootstrap_scores,
    f1_of_classes,
    generator,
    leave_one_out_scores,
    scores,
    units_of,
    units_of_sets,
)

SIMULATIONS = int(os.environ.get("BERTLAB_SIMULATIONS", 150))


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(level: float) -> None:
    for successes, n in [(0, 1), (1, 1), (0, 7), (7, 7), (3, 10), (50, 51), (20, 1000)]:
        theirs = stats.binomtest(successes, n).proportion_ci(level, "wilson")
        found = wilson(successes, n, level)
        assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson(0, 0) == {"low": 0.0, "high": 1.0, "method": "Wilson"}
    assert wilson(0, 5)["low"] == 0.0 and wilson(5, 5)["high"] == 1.0


def example(n: int, seed: int, prevalence: tuple[float, ...] = (0.6, 0.3, 0.1), right: float = 0.75) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    gold = draw.choice(len(prevalence), size=n, p=prevalence)
    return gold, np.where(draw.random(n) < right, gold, draw.integers(len(prevalence), size=n))


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_macro_f1_has_the_interval_that_scipys_bootstrap_gives(method: str) -> None:
    gold, predicted = example(90, seed=0)

    def macro_f1(gold: np.ndarray, predicted: np.ndarray, axis: int) -> Any:
        classes = np.arange(3)[:, None, None]
        is_gold, is_predicted = np.atleast_2d(gold) == classes, np.atleast_2d(predicted) == classes
        counts = np.stack([(is_gold & is_predicted).sum(2), is_gold.sum(2), is_predicted.sum(2)])
        values = f1_of_classes(counts).mean(0)
        return values if gold.ndim > 1 else values[0]

    theirs = stats.bootstrap(
        (gold, predicted), macro_f1, paired=True, vectorized=True, n_resamples=20_000, method=method, rng=np.random.default_rng(0)
    ).confidence_interval
    units = units_of(gold, predicted, 3)
    samples = bootstrap_scores(units, ["macro_f1"], 20_000, generator(0, 1))[0, 0]
    if method == "BCa":
        found = bca(
            samples, float(scores(units.observed(0), ["macro_f1"])[0]), leave_one_out_scores(units, ["macro_f1"])[0, 0], units.times
        )
    else:
        found = percentile(samples)
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert abs(found["low"] - percentile(samples)["low"]) > 0.004 or method == "percentile"  # the two differ here


def test_bca_of_a_lopsided_mean_is_scipys_and_lies_to_the_right_of_the_percentile_interval() -> None:
    data = np.random.default_rng(3).lognormal(size=25)
    theirs = stats.bootstrap((data,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    samples = data[np.random.default_rng(1).integers(25, size=(40_000, 25))].mean(1)
    left_out = (data.sum() - data) / 24
    found = bca(samples, float(data.mean()), left_out, np.ones(25))
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), rel=0.015)
    assert found["high"] > 1.05 * percentile(samples)["high"] and found["low"] > percentile(samples)["low"]
    # a value that stands for two of them is as good as the two
    twice = bca(samples, float(data.mean()), left_out[:20], np.array([2.0] * 5 + [1.0] * 15))
    written_out = bca(samples, float(data.mean()), np.append(left_out[:20], left_out[:5]), np.ones(25))
    assert (twice["low"], twice["high"]) == pytest.approx((written_out["low"], written_out["high"]))


def test_small_sets_and_small_classes_get_bca_and_large_ones_percentiles() -> None:
    def methods(n: int, prevalence: tuple[float, ...]) -> list[str]:
        gold, predicted = example(n, 1, prevalence)
        found = of_scores(gold, predicted, len(prevalence), ["accuracy", "macro_f1", 0, len(prevalence) - 1], resamples=200)
        return [interval["method"].split()[0] for interval in found]

    assert methods(150, (0.5, 0.5)) == ["Wilson", "BCa", "BCa", "BCa"]
    assert methods(600, (0.5, 0.5)) == ["Wilson", "percentile", "percentile", "percentile"]
    assert methods(600, (0.98, 0.02)) == ["Wilson", "BCa", "percentile", "BCa"]  # twelve of the second class or so
    # a class that is in no gold label is no small class: it is none
    gold, predicted = example(600, 1, (0.5, 0.5))
    assert of_scores(gold, predicted, 3, ["macro_f1"], resamples=200)[0]["method"] == "percentile bootstrap"


def test_what_the_bootstrap_cannot_know_it_does_not_claim() -> None:
    gold = np.array([0, 1] * 20)
    perfect, f1, absent = of_scores(gold, gold, 3, ["accuracy", "macro_f1", 2], resamples=200)
    assert 0.9 < perfect["low"] < perfect["high"] == 1.0
    assert absent["low"] is absent["high"] is None and absent["method"].startswith("none")
    # a sample without one of the classes is all but impossible here, so that all samples score 2/3
    assert f1["low"] is None


@pytest.mark.parametrize(
    "gold, predicted", [([0], [0]), ([0], [1]), ([0, 0, 0], [0, 0, 0]), ([1, 1, 1], [0, 0, 0]), ([0, 1, 0], [1, 1, 1])]
)
def test_degenerate_test_sets_have_finite_intervals_or_none(gold: list[int], predicted: list[int]) -> None:
    found = of_metrics(gold, predicted, ["a", "b", "c"], resamples=100)
    json.dumps(found, allow_nan=False)
    value = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)
    assert 0 <= found["accuracy"]["low"] <= value <= found["accuracy"]["high"] <= 1


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict) and "method" not in value:
        return {place: leaf for key, inner in value.items() for place, leaf in leaves(inner, (*path, key)).items()}
    return {path: value}


def test_every_headline_number_of_the_metrics_lies_in_its_interval_under_the_same_name() -> None:
    gold, predicted = example(300, seed=2)
    names = ["ale", "bread", "cheese"]
    metrics = classification_metrics(gold, predicted, names)
    found = of_metrics(gold, predicted, names, seed=3, resamples=2000)
    assert (found["level"], found["n"], found["R"], found["seed"]) == (0.95, 300, 2000, 3)
    places = {place: leaf for place, leaf in leaves(found).items() if isinstance(leaf, dict)}
    assert len(places) == 2 + 3 * 3 + 3 * 3  # accuracy, MCC; three numbers a class and an average
    for place, interval in places.items():
        value: Any = metrics
        for key in place:
            value = value[key]
        assert interval["low"] < value < interval["high"], place
    assert found["per_class"]["ale"]["recall"] == wilson(int(((gold == 0) & (predicted == 0)).sum()), int((gold == 0).sum()))
    assert found["per_class"]["ale"]["precision"] == wilson(int(((gold == 0) & (predicted == 0)).sum()), int((predicted == 0).sum()))
    # what equals accuracy has its interval, not the bootstrap's
    same = [found["weighted"]["recall"], *found["micro"].values()]
    assert same == [wilson(int((gold == predicted).sum()), 300)] * 4 == [found["accuracy"]] * 4
    assert found == of_metrics(gold.tolist(), predicted.tolist(), names, seed=3, resamples=2000)
    assert found != of_metrics(gold, predicted, names, seed=4, resamples=2000)


def test_what_is_drawn_whole_has_the_wider_interval_where_clusters_are_alike() -> None:
    gold, predicted = example(60, seed=4)
    gold, predicted = np.repeat(gold, 10), np.repeat(predicted, 10)  # ten copies: 600 rows that know as much as 60
    clusters = np.repeat(np.arange(60), 10)
    alone, whole = (of_scores(gold, predicted, 3, ["macro_f1"], clusters=each)[0] for each in (None, clusters))
    assert 2.3 < (whole["high"] - whole["low"]) / (alone["high"] - alone["low"]) < 4.2  # about the root of 10
    assert of_scores(gold, predicted, 3, ["accuracy"], clusters=clusters)[0]["method"] != "Wilson"


# --- coverage ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, prevalence, margin", [(100, (0.9, 0.1), 0.05), (500, (0.9, 0.1), 0.02), (400, (0.5, 0.3, 0.2), 0.015)])
def test_coverage_of_every_interval_of_one_score(n: int, prevalence: tuple[float, ...], margin: float) -> None:
    """Confusion matrices with known true scores; the margin is what a bootstrap of so few examples may fall short by, beside chance."""
    classes, right = len(prevalence), 0.8
    given_gold = right * np.eye(classes) + (1 - right) / classes  # P(predicted | gold)
    joint = np.array(prevalence)[:, None] * given_gold
    truth = np.stack([np.diag(joint), joint.sum(1), joint.sum(0)]) * 1e6
    names: list[Metric] = ["accuracy", "macro_f1", "mcc", classes - 1]
    true = scores(truth, names)
    covered = dict.fromkeys([*map(str, names), "precision", "recall"], 0)
    draw = np.random.default_rng(11)
    for number in range(SIMULATIONS):
        cell = draw.choice(classes * classes, size=n, p=joint.ravel() / joint.sum())
        gold, predicted = cell // classes, cell % classes
        for name, value, interval in zip(names, true, of_scores(gold, predicted, classes, names, seed=number, resamples=499), strict=True):
            covered[str(name)] += interval["low"] is None or interval["low"] <= value <= interval["high"]
        hits, support, chosen = (int(count) for count in units_of(gold, predicted, classes).observed(0)[:, -1])
        for name, interval, value in [
            ("precision", wilson(hits, chosen), truth[0, -1] / truth[2, -1]),
            ("recall", wilson(hits, support), truth[0, -1] / truth[1, -1]),
        ]:
            covered[name] += interval["low"] <= value <= interval["high"]
    rates = {name: float(count / SIMULATIONS) for name, count in covered.items()}
    print(f"coverage of 95 % intervals, n = {n}, prevalence {prevalence}, {SIMULATIONS} simulations:", rates)
    for name, rate in rates.items():
        assert rate >= 0.95 - margin - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5, name


def test_sets_of_labels_have_an_interval_for_every_score_that_holds_it() -> None:
    draw = np.random.default_rng(7)
    gold = draw.random((300, 3)) < [0.5, 0.3, 0.04]
    predicted = np.where(draw.random((300, 3)) < 0.9, gold, ~gold)
    metrics, found = set_metrics(gold, predicted, ["a", "b", "c"]), of_set_metrics(gold, predicted, ["a", "b", "c"], resamples=500)
    intervals = {path: each for path, each in leaves(found).items() if isinstance(each, dict)}
    values = leaves(
        {name: metrics[name] for name in ("exact_match", "hamming_loss", "macro_mcc", "per_class", "micro", "macro", "weighted")}
    )
    values = {path: value for path, value in values.items() if path[-1] != "support"}
    assert intervals.keys() == values.keys()
    for path, value in values.items():
        assert intervals[path]["low"] < value < intervals[path]["high"], path
    assert found["exact_match"] == wilson(round(metrics["exact_match"] * 300), 300)
    assert found["per_class"]["c"]["f1"]["method"] == found["macro"]["f1"]["method"] == "BCa bootstrap"  # a dozen of c
    assert found["per_class"]["a"]["f1"]["method"] == "percentile bootstrap"
    nothing = of_set_metrics(np.zeros((4, 2), bool), np.zeros((4, 2), bool), ["a", "b"], resamples=100)
    json.dumps(nothing, allow_nan=False)
    assert nothing["exact_match"]["high"] == 1.0 and nothing["macro"]["f1"]["low"] is None
    assert nothing["hamming_loss"]["low"] is nothing["macro_mcc"]["low"] is None  # all right, and labels that nobody has


@pytest.mark.parametrize("n", [100, 400])  # BCa of all, and BCa of the rarest label's sake or percentiles
def test_coverage_of_every_interval_of_sets(n: int) -> None:
    """Independent labels whose true counts are known; a share of 0.8 of each is right, beside a tenth of the others given wrongly."""
    share = np.array([0.5, 0.3, 0.1])
    wrong = share * 0.2 + (1 - share) * 0.1
    truth = np.array([[*(share * 0.8), np.prod(1 - wrong)], [*share, 1], [*(share * 0.8 + (1 - share) * 0.1), 1]])
    names = ["macro_f1", "micro_f1", "macro_mcc", "hamming_loss"]
    covered, draw = dict.fromkeys(names, 0), np.random.default_rng(12)
    assert SET_AVERAGES["hamming_loss"](truth) == pytest.approx(wrong.mean())
    for number in range(SIMULATIONS):
        gold = draw.random((n, 3)) < share
        predicted = draw.random((n, 3)) < np.where(gold, 0.8, 0.1)
        found = of_units(units_of_sets(gold, predicted[None]), [SET_AVERAGES[name] for name in names], seed=number, resamples=299)
        for name, interval in zip(names, found, strict=True):
            covered[name] += interval["low"] is None or interval["low"] <= SET_AVERAGES[name](truth) <= interval["high"]
    rates = {name: float(count / SIMULATIONS) for name, count in covered.items()}
    print(f"coverage of 95 % intervals of sets, n = {n}, {SIMULATIONS} simulations:", rates)
    for name, rate in rates.items():
        assert rate >= 0.95 - 0.015 - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5, name
