"""Areas, thresholds and curves are scikit-learn's on random and degenerate data; the influence of a row is what its weight changes.

Coverage is simulated in every run, by default few times: BERTLAB_SIMULATIONS=4000 makes a table worth printing (docs/evaluating.md).
"""

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from bertlab.evaluation.curves import (
    Area,
    best_threshold,
    logit_interval,
    one_hot,
    pr_auc,
    precision_recall_points,
    ranking_metrics,
    roc_auc,
)

SIMULATIONS = int(os.environ.get("BERTLAB_SIMULATIONS", 100))
labelled_scores = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=40)  # few levels: many ties


def columns(pairs: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    gold, scores = zip(*pairs, strict=True)
    return np.array(gold), np.array(scores) / 8


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    gold, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    area = roc_auc(gold, scores)
    assert area is not None and area.value == 3 / 4  # of four pairs one is the wrong way round
    assert area.influence == pytest.approx(np.array([1 / 4, -1 / 4, -1 / 4, 1 / 4]) * 2 * 2**0.5)
    area = pr_auc(gold, scores)
    assert area is not None and area.value == pytest.approx((1 + 2 / 3) / 2)
    assert (roc_auc(np.array([True, False]), np.array([0.5, 0.5])) or Area(0, gold, 1)).value == 0.5  # a tie is half


@given(labelled_scores)
@settings(max_examples=60, deadline=None)
def test_both_areas_are_scikit_learns_and_none_where_gold_has_one_kind_only(pairs: list[tuple[bool, int]]) -> None:
    gold, scores = columns(pairs)
    if gold.all() or not gold.any():
        assert roc_auc(gold, scores) is None and pr_auc(gold, scores) is None
        return
    for area, theirs in ((roc_auc(gold, scores), roc_auc_score), (pr_auc(gold, scores), average_precision_score)):
        assert area is not None and area.value == theirs(gold, scores)
        interval = logit_interval(area)
        assert interval["low"] is None or 0 <= interval["low"] <= area.value <= interval["high"] <= 1


@pytest.mark.parametrize("area, theirs", [(roc_auc, roc_auc_score), (pr_auc, average_precision_score)])
def test_the_influence_of_a_row_is_what_a_little_more_weight_on_it_changes(
    area: Callable[..., Area | None], theirs: Callable[..., float]
) -> None:
    draw = np.random.default_rng(4)
    gold, scores = draw.random(30) < 0.3, draw.integers(12, size=30) / 12
    found = area(gold, scores)
    assert found is not None
    little = 1e-6
    for row in range(30):
        weights = np.ones(30)
        weights[row] += little
        changed = (theirs(gold, scores, sample_weight=weights) - found.value) / little * 30
        # but for the factor that puts n - 1 where n would be
        same_kind = (gold == gold[row]).sum()
        assert found.influence[row] == pytest.approx(changed * (same_kind / (same_kind - 1)) ** 0.5, abs=2e-3)


def test_the_standard_error_of_roc_auc_is_delongs() -> None:
    draw = np.random.default_rng(5)
    gold = np.arange(50) < 20
    scores = np.where(gold, draw.normal(1, 1, 50), draw.normal(0, 1, 50)).round(1)
    area = roc_auc(gold, scores)
    assert area is not None
    wins = (scores[gold][:, None] > scores[~gold]) + 0.5 * (scores[gold][:, None] == scores[~gold])
    variance = wins.mean(1).var(ddof=1) / 20 + wins.mean(0).var(ddof=1) / 30
    assert (area.influence**2).sum() / 50**2 == pytest.approx(variance)
    degrees = variance**2 / ((wins.mean(1).var(ddof=1) / 20) ** 2 / 19 + (wins.mean(0).var(ddof=1) / 30) ** 2 / 29)
    assert area.degrees == pytest.approx(degrees)
    half = t.isf(0.025, degrees) * variance**0.5
    found = logit_interval(area)
    assert (found["low"], found["high"]) == pytest.approx((area.value - half, area.value + half), abs=0.04)
    assert found["high"] - area.value < area.value - found["low"]  # there is less room above


def test_several_classes_are_one_against_the_rest_and_averaged_over_those_that_occur() -> None:
    draw = np.random.default_rng(6)
    gold = draw.integers(3, size=60)
    logits = draw.normal(size=(60, 4)) + 1.5 * np.eye(4)[gold]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = ranking_metrics(one_hot(gold, 4), scores, ["a", "b", "c", "never"])
    present = scores[:, :3]
    for kind, theirs in (("roc_auc", roc_auc_score), ("pr_auc", average_precision_score)):
        each = [theirs(gold == number, present[:, number]) for number in range(3)]
        assert found[kind]["classes"] == 3 and found[kind]["macro"] == pytest.approx(np.mean(each))
        assert found[kind]["per_class"] == pytest.approx({**dict(zip("abc", each, strict=True)), "never": None})
        interval = found["intervals"][kind]["macro"]
        assert interval["low"] < found[kind]["macro"] < interval["high"]
        assert found["intervals"][kind]["per_class"]["never"]["low"] is None
    assert found["roc_auc"]["macro"] == pytest.approx(
        roc_auc_score(gold, present / present.sum(1, keepdims=True), multi_class="ovr", average="macro"), abs=0.05
    )
    assert found["pr_auc"]["macro"] == pytest.approx(average_precision_score(one_hot(gold, 4)[:, :3], present, average="macro"))
    json.dumps(found, allow_nan=False)


@given(st.lists(st.tuples(*[st.booleans()] * 3, *[st.integers(0, 4)] * 3), min_size=1, max_size=25))
@settings(max_examples=25, deadline=None)
def test_labels_by_themselves_have_scikit_learns_macro_averages(rows: list[tuple[Any, ...]]) -> None:
    gold, scores = np.array([row[:3] for row in rows], dtype=bool), np.array([row[3:] for row in rows]) / 4
    kept = gold.any(0) & ~gold.all(0)
    found = ranking_metrics(gold, scores, ["x", "y", "z"])
    assert found["roc_auc"]["classes"] == kept.sum()
    if kept.any():
        assert found["roc_auc"]["macro"] == pytest.approx(roc_auc_score(gold[:, kept], scores[:, kept], average="macro"))
        assert found["pr_auc"]["macro"] == pytest.approx(average_precision_score(gold[:, kept], scores[:, kept], average="macro"))
    else:
        assert found["pr_auc"]["macro"] is None and found["intervals"]["roc_auc"]["macro"]["low"] is None


def test_the_macro_interval_knows_that_two_classes_share_their_rows() -> None:
    draw = np.random.default_rng(8)
    gold = draw.integers(2, size=200)
    probability = np.clip(0.5 + 0.2 * (gold - 0.5) + draw.normal(0, 0.2, 200), 0.01, 0.99)
    both = ranking_metrics(one_hot(gold, 2), np.stack([1 - probability, probability], 1), ["no", "yes"])["intervals"]["roc_auc"]
    # the two areas are one and the same number: their mean knows no more than either
    macro, yes = both["macro"], both["per_class"]["yes"]
    assert (macro["low"], macro["high"]) == pytest.approx((yes["low"], yes["high"]), abs=1e-3)


def test_what_is_perfect_or_known_from_one_example_has_no_interval() -> None:
    gold, scores = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.8, 0.9])
    for area in (roc_auc(gold, scores), pr_auc(gold, scores)):
        assert area is not None and area.value == 1.0 and logit_interval(area)["low"] is None
    one = roc_auc(np.array([True, False, False]), np.array([0.5, 0.1, 0.9]))
    assert one is not None and one.value == 0.5 and logit_interval(one)["low"] is None


def test_a_class_of_one_example_takes_no_interval_away_from_the_average() -> None:
    draw = np.random.default_rng(10)
    gold = np.append(draw.integers(2, size=40), 2)
    scores = draw.random((41, 3)) + 0.5 * np.eye(3)[gold]
    intervals = ranking_metrics(one_hot(gold, 3), scores, ["a", "b", "once"])["intervals"]["pr_auc"]
    assert intervals["per_class"]["once"]["low"] is None and intervals["macro"]["low"] is not None
    alone = ranking_metrics(one_hot(np.array([0, 1]), 2), scores[:2, :2], ["a", "b"])
    assert alone["roc_auc"]["classes"] == 2 and alone["intervals"]["roc_auc"]["macro"]["low"] is None


# --- thresholds -------------------------------------------------------------------------------------------------------------------------


def f1_of(gold: np.ndarray, given: np.ndarray, exclusive: bool) -> float:
    """scikit-learn's, of the label, or of two classes macro-F1."""
    return float(
        f1_score(gold, given, average="macro" if exclusive else "binary", **({"labels": [0, 1]} if exclusive else {}), zero_division=0.0)
    )


@given(labelled_scores, st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(pairs: list[tuple[bool, int]], exclusive: bool) -> None:
    gold, scores = columns(pairs)
    found = best_threshold(gold, scores, exclusive=exclusive)
    assert found.f1 == pytest.approx(f1_of(gold, scores >= found.value, exclusive))
    assert found.f1_at_half == pytest.approx(f1_of(gold, scores >= 0.5, exclusive))
    if gold.all() or not gold.any():
        assert (found.value, found.chosen) == (0.5, False)
        return
    distinct = np.unique(scores)
    halfway = [distinct[0], *(distinct[:-1] + distinct[1:]) / 2]
    f1s = [f1_of(gold, scores >= threshold, exclusive) for threshold in (*halfway, *(distinct + 1 / 100), 0.5)]
    assert found.f1 == pytest.approx(max(f1s))
    ties = [abs(threshold - 0.5) for threshold, f1 in zip(halfway, f1s, strict=False) if f1 > found.f1 - 1e-12]
    assert abs(found.value - 0.5) <= min(ties, default=np.inf)  # none where the label to no example is best


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_threshold_lies_between_two_scores_and_stays_at_a_half_where_that_is_as_good(exclusive: bool) -> None:
    gold, scores = np.array([False, False, True, True]), np.array([0.05, 0.1, 0.2, 0.7])
    assert best_threshold(gold, scores, exclusive=exclusive).value == pytest.approx(0.15)
    assert best_threshold(gold, np.array([0.1, 0.4, 0.55, 0.9]), exclusive=exclusive).value == 0.5
    neighbours = np.array([0.3, np.nextafter(0.3, 1)])
    found = best_threshold(np.array([False, True]), neighbours, exclusive=exclusive)
    assert found.f1 == 1.0 and ((neighbours >= found.value) == [False, True]).all()
    single = best_threshold(np.array([True, False]), np.array([0.2, 0.2]), exclusive=exclusive)  # one score for all: all or none
    f1, value = (1 / 3, 0.5) if exclusive else (2 / 3, 0.2)  # of two classes either way is as good, and 0.5 stays
    assert single.f1 == pytest.approx(f1) and (single.value, single.chosen) == (value, True)


def test_of_two_exclusive_classes_neither_is_favoured() -> None:
    gold = np.array([True, False, True, False, True, False])
    scores = np.array([0.6, 0.3, 0.7, 0.8, 0.2, 0.1])
    of_label, of_both = (best_threshold(gold, scores, exclusive=exclusive) for exclusive in (False, True))
    assert [of_label.value, of_label.f1] == pytest.approx([0.15, 3 / 4])  # five of six are given the label
    assert of_both.value == 0.5 and of_both.f1 == pytest.approx(2 / 3)
    other = best_threshold(~gold, 1 - scores, exclusive=True)  # whichever of the two is called the second
    assert other.value == 0.5 and other.f1 == pytest.approx(2 / 3)
    upside_down = best_threshold(np.array([True, *[False] * 9]), np.array([0.6, *[0.9] * 9]), exclusive=True)
    assert upside_down.value > 0.9 and upside_down.f1 == pytest.approx(9 / 19)  # the label to none is the best that can be done


def test_the_drawn_points_are_scikit_learns_curve_thinned() -> None:
    draw = np.random.default_rng(9)
    gold, scores = draw.random(1000) < 0.3, draw.random(1000)
    precision, recall, threshold = precision_recall_curve(gold, scores)
    whole = precision_recall_points(gold, scores, most=5000)
    assert whole == {"precision": precision[:-1].tolist(), "recall": recall[:-1].tolist(), "threshold": threshold.tolist()}
    thin = precision_recall_points(gold, scores, most=50)
    assert len(thin["recall"]) == 50 and thin["recall"][0] == 1.0 and thin["recall"][-1] == recall[-2]
    assert set(thin["threshold"]) <= set(threshold)
    assert precision_recall_points(np.zeros(3, bool), np.array([0.1, 0.2, 0.2]))["precision"] == [0.0, 0.0]


# --- coverage ---------------------------------------------------------------------------------------------------------------------------

GRID = np.linspace(-8, 10, 200_001)


def true_areas(shift: float, share: float) -> dict[str, float]:
    """Of scores N(shift, 1) for a class of this share and N(0, 1) for the rest."""
    recall, alarm = norm.sf(GRID - shift), norm.sf(GRID)
    precision = share * recall / (share * recall + (1 - share) * alarm)
    middle = (precision[1:] + precision[:-1]) / 2
    return {"roc_auc": float(norm.cdf(shift / 2**0.5)), "pr_auc": float((middle * -np.diff(recall)).sum())}


@pytest.mark.parametrize(
    "n, share, shift, margin", [(100, 0.1, 1.5, 0.06), (500, 0.1, 1.5, 0.02), (400, 0.5, 1.0, 0.015), (2000, 0.05, 2.5, 0.02)]
)
def test_coverage_of_both_areas(n: int, share: float, shift: float, margin: float) -> None:
    true = true_areas(shift, share)
    covered = dict.fromkeys(true, 0)
    draw = np.random.default_rng(12)
    for _ in range(SIMULATIONS):
        gold = draw.random(n) < share
        scores = draw.normal(size=n) + shift * gold
        for kind, area in (("roc_auc", roc_auc(gold, scores)), ("pr_auc", pr_auc(gold, scores))):
            found = logit_interval(area)
            covered[kind] += found["low"] is None or found["low"] <= true[kind] <= found["high"]
    rates = {kind: count / SIMULATIONS for kind, count in covered.items()}
    print(f"coverage of 95 % intervals, n = {n}, share {share}, shift {shift}, {SIMULATIONS} simulations:", rates)
    for kind, rate in rates.items():
        assert rate >= 0.95 - margin - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5, kind
