"""Counts instead of rows: scikit-learn's metrics, and the distribution that drawing the examples one by one has."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score, recall_score

from bertlab.evaluation.resampling import (
    AVERAGES,
    SET_AVERAGES,
    bootstrap_scores,
    drawn_with_replacement,
    generator,
    leave_one_out_scores,
    scores,
    swapped,
    units_of,
    units_of_sets,
)


def expected(gold: Any, predicted: Any, num_classes: int) -> dict[str, float]:
    """Every metric by scikit-learn."""
    of_labels = {"labels": range(num_classes), "zero_division": 0.0}
    found = {"accuracy": accuracy_score(gold, predicted), "micro_f1": f1_score(gold, predicted, average="micro", **of_labels)}
    found["mcc"] = matthews_corrcoef(gold, predicted)
    for kind in ("macro", "weighted"):
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            found[f"{kind}_{name}"] = score(gold, predicted, average=kind, **of_labels)
    return found


@given(
    st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 3), min_size=1, max_size=30)))
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_every_metric_of_counts_is_scikit_learns(drawn: tuple[int, list[tuple[int, int, int]]]) -> None:
    count, rows = drawn  # few examples over several classes: one class, absent classes and n = 1 are among them
    gold, first, second = (np.array(column) for column in zip(*rows, strict=True))
    units = units_of(gold, np.stack([first, second]), count)
    assert units.times.sum() == len(gold)
    for system, predicted in enumerate((first, second)):
        counts = units.observed(system)
        theirs = expected(gold, predicted, count)
        assert set(theirs) == set(AVERAGES)
        np.testing.assert_allclose(scores(counts, list(AVERAGES)), [theirs[name] for name in AVERAGES], atol=1e-12)
        of_classes = f1_score(gold, predicted, average=None, labels=range(count), zero_division=0.0)
        np.testing.assert_allclose(scores(counts, list(range(count))), of_classes, atol=1e-12)


def systems(n: int, num_classes: int, seed: int, right: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Gold (n,), the first class the most frequent, and two systems' predictions (2, n)."""
    draw = np.random.default_rng(seed)
    share = np.arange(num_classes, 0, -1)
    gold = draw.choice(num_classes, size=n, p=share / share.sum())
    return gold, np.where(draw.random((2, n)) < right, gold, draw.integers(num_classes, size=(2, n)))


def test_cells_hold_all_examples_and_clusters_add_up_to_the_same_counts() -> None:
    gold, predicted = systems(200, 3, seed=0)
    cells = units_of(gold, predicted, 3)
    clusters = units_of(gold, predicted, 3, np.arange(200) // 7)
    assert len(cells.times) <= 27 and len(clusters.times) == 29 and set(clusters.times.tolist()) == {1}
    for system in (0, 1):
        right = predicted[system] == gold
        by_hand = [np.bincount(gold[right], minlength=3), np.bincount(gold, minlength=3), np.bincount(predicted[system], minlength=3)]
        assert cells.observed(system).tolist() == clusters.observed(system).tolist() == np.stack(by_hand).tolist()


@pytest.mark.parametrize("num_classes", [2, 12])  # mostly cells of many, and mostly cells of a few, which are drawn one by one
def test_each_unit_is_drawn_as_often_as_by_drawing_examples_one_by_one(num_classes: int) -> None:
    gold, predicted = systems(150, num_classes, seed=1)
    units = units_of(gold, predicted, num_classes)
    drawn = np.concatenate(list(drawn_with_replacement(units, 20_000, generator(0, 1))), axis=1)
    assert drawn.shape == (len(units.times), 20_000) and (drawn.sum(0) == 150).all()
    share = units.times / 150
    covariance = 150 * (np.diag(share) - np.outer(share, share))  # of a multinomial
    np.testing.assert_allclose(drawn.mean(1), units.times, atol=5 * np.sqrt(covariance.max() / 20_000))
    np.testing.assert_allclose(np.cov(drawn), covariance, atol=5 * covariance.max() * np.sqrt(2 / 20_000))


def macro_f1_of_rows(gold: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(R, n) -> (R,), example by example."""
    of_classes = []
    for label in range(num_classes):
        right, either = ((gold == label) & (predicted == label)).sum(1), (gold == label).sum(1) + (predicted == label).sum(1)
        of_classes.append(2 * right / np.maximum(either, 1))
    return np.mean(of_classes, axis=0)


@pytest.mark.parametrize("clustered", [False, True])
def test_macro_f1_has_the_distribution_that_resampling_rows_gives(clustered: bool) -> None:
    gold, predicted = systems(120, 4, seed=2)
    clusters = np.arange(120) // 5 if clustered else None
    found = bootstrap_scores(units_of(gold, predicted, 4, clusters), ["macro_f1"], 10_000, generator(0, 1))[:, 0]
    draw = np.random.default_rng(0)
    picked = draw.integers(24, size=(3000, 24, 1)) * 5 + np.arange(5) if clustered else draw.integers(120, size=(3000, 120, 1))
    index = picked.reshape(3000, 120)
    by_row = np.stack([macro_f1_of_rows(gold[index], one[index], 4) for one in predicted])
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    for ours, theirs in zip([*found, found[0] - found[1]], [*by_row, by_row[0] - by_row[1]], strict=True):
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=6 * theirs.std() / 3000**0.5)


def test_coins_swap_half_of_each_unit_and_never_more_than_it_has() -> None:
    times = np.array([1, 2, 7, 8, 9, 40])  # up to 8 by bits, above by binomial draws
    heads = np.concatenate(list(swapped(times, 3, 20_000, generator(0, 2))), axis=1)
    assert (heads >= 0).all() and (heads.max(1) <= times).all() and heads[:4].max(1).tolist() == [1, 2, 7, 8]
    np.testing.assert_allclose(heads.mean(1), times / 2, atol=5 * np.sqrt(10 / 20_000))
    np.testing.assert_allclose(np.cov(heads), np.diag(times / 4), atol=5 * 10 * np.sqrt(2 / 20_000))


def test_coins_of_units_that_are_all_large_or_all_small_have_the_same_shape() -> None:
    for times in ([40, 50], [1, 3], [9]):
        assert next(swapped(np.array(times), 3, 100, generator(0, 2))).shape == (len(times), 100)


def test_leaving_one_out_is_scoring_without_that_example() -> None:
    gold, predicted = systems(25, 3, seed=3)
    units = units_of(gold, predicted, 3, np.arange(25))  # each example a unit of its own
    left_out = leave_one_out_scores(units, ["macro_f1", 0])
    for row in range(25):
        rest = np.arange(25) != row
        for system in (0, 1):
            f1 = f1_score(gold[rest], predicted[system][rest], average=None, labels=range(3), zero_division=0.0)
            np.testing.assert_allclose(left_out[system, :, row], [f1.mean(), f1[0]], atol=1e-12)


def test_the_same_seed_gives_the_same_samples_and_another_gives_others() -> None:
    units = units_of(*systems(300, 3, seed=4), 3)
    first, again, other = (bootstrap_scores(units, ["mcc"], 200, generator(seed, 1)) for seed in (5, 5, 6))
    assert first.tolist() == again.tolist() != other.tolist()
    assert len(np.unique(generator(5, 1).random(3).tolist() + generator(5, 2).random(3).tolist())) == 6


def sets(n: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gold (n, K) and two systems' predictions (2, n, K), each label of which is right nine times in ten."""
    draw = np.random.default_rng(seed)
    gold = draw.random((n, labels)) < np.linspace(0.5, 0.1, labels)
    return gold, np.where(draw.random((2, n, labels)) < 0.9, gold, ~gold)


def test_sets_of_labels_are_counted_by_label_and_whole_in_cells_as_in_clusters() -> None:
    gold, predicted = sets(150, 3, seed=4)
    cells, clusters = units_of_sets(gold, predicted), units_of_sets(gold, predicted, np.arange(150) // 4)
    assert cells.times.sum() == 150 and len(cells.times) < 120 and len(clusters.times) == 38
    for system in (0, 1):
        by_hand = np.stack([(gold & predicted[system]).sum(0), gold.sum(0), predicted[system].sum(0)])
        whole = [(gold == predicted[system]).all(1).sum(), 150, 150]
        for units in (cells, clusters):
            assert units.observed(system).tolist() == np.column_stack([by_hand, whole]).tolist()


@pytest.mark.parametrize("clustered", [False, True])
def test_scores_of_sets_have_the_distribution_that_resampling_rows_gives(clustered: bool) -> None:
    gold, predicted = sets(100, 3, seed=5)
    clusters = np.arange(100) // 5 if clustered else None
    names = ["exact_match", "macro_f1", "micro_f1", "hamming_loss", "macro_mcc"]
    found = bootstrap_scores(units_of_sets(gold, predicted, clusters), [SET_AVERAGES[name] for name in names], 6000, generator(0, 1))
    draw = np.random.default_rng(0)
    picked = draw.integers(20, size=(1500, 20, 1)) * 5 + np.arange(5) if clustered else draw.integers(100, size=(1500, 100, 1))
    for system in (0, 1):
        right, given, chosen = ((each[picked.reshape(1500, 100)]).sum(1) for each in (gold & predicted[system], gold, predicted[system]))
        macro = np.mean(2 * right / np.maximum(given + chosen, 1), axis=1)
        exact = (gold == predicted[system]).all(1)[picked.reshape(1500, 100)].mean(1)
        wrong = (gold != predicted[system])[picked.reshape(1500, 100)].mean((1, 2))
        mcc = (100 * right - given * chosen) / np.sqrt(given * (100 - given) * chosen * (100 - chosen))
        by_row = [exact, macro, 2 * right.sum(1) / (given + chosen).sum(1), wrong, mcc.mean(1)]
        for ours, theirs in zip(found[system], by_row, strict=True):
            quantiles = [0.025, 0.5, 0.975]  # at the ends known to 2.7 deviations / sqrt(R), and exact matches are hundredths
            np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.011)
            assert ours.mean() == pytest.approx(theirs.mean(), abs=5 * theirs.std() / 1500**0.5)
            assert ours.std() == pytest.approx(theirs.std(), rel=0.1)


def test_swapping_sets_swaps_whole_answers() -> None:
    gold, predicted = sets(9, 2, seed=6)
    units = units_of_sets(gold, predicted)
    metrics: list[Any] = [SET_AVERAGES["macro_f1"], SET_AVERAGES["exact_match"], 0]
    found = np.concatenate(list(units.swapped_differences(metrics, 3000, generator(0, 2))), axis=1)
    every = []
    for coins in range(2**9):
        swap = ((coins >> np.arange(9)) & 1 == 1)[:, None]
        swapped_units = units_of_sets(gold, np.stack([np.where(swap, predicted[1 - which], predicted[which]) for which in (0, 1)]))
        every.append(swapped_units.observed_scores(0, metrics) - swapped_units.observed_scores(1, metrics))
    for ours, theirs in zip(found, np.array(every).T, strict=True):
        assert np.abs(ours[:, None] - theirs).min(1).max() < 1e-12
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)
