"""Numbers: scipy's and scikit-learn's correlations and errors, also where rows have weights, and resampling that is resampling rows."""

import json
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from bertlab.evaluation.intervals import of_units
from bertlab.evaluation.numbers import NUMBER_METRICS, number_metrics, of_number_metrics, units_of_numbers, weighted_scores
from bertlab.evaluation.resampling import bootstrap_scores, generator, leave_one_out_scores
from bertlab.evaluation.significance import paired_bootstrap, randomisation_p

NAMES = list(NUMBER_METRICS)
pytestmark = pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")


def expected(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """By the libraries, a correlation that is not defined taken as 0."""
    varies = np.ptp(gold) > 0 and np.ptp(predicted) > 0
    return {
        "spearman": float(stats.spearmanr(gold, predicted).statistic) if varies else 0.0,
        "pearson": float(stats.pearsonr(gold, predicted).statistic) if varies else 0.0,
        "mae": mean_absolute_error(gold, predicted),
        "rmse": root_mean_squared_error(gold, predicted),
        # scikit-learn's mean of three times 0.1 is not 0.1, and it divides by what is left
        "r2": r2_score(gold, predicted) if np.ptp(gold) > 0 else float((gold == predicted).all()),
    }


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    metrics = number_metrics([1, 2, 3, 4], [2, 2, 4, 8])
    # ranks 1 2 3 4 and 1.5 1.5 3 4: covariance 4.5, variances 5 and 4.5; values: 10 against 5 and 24; errors 1 0 1 4
    assert metrics["spearman"] == pytest.approx(4.5 / (5 * 4.5) ** 0.5) and metrics["pearson"] == pytest.approx(10 / (5 * 24) ** 0.5)
    assert (metrics["mae"], metrics["rmse"], metrics["r2"]) == pytest.approx((6 / 4, (18 / 4) ** 0.5, 1 - 18 / 5))
    assert metrics["n"] == 4 and metrics["spread"]["gold"] == pytest.approx({"mean": 2.5, "sd": 1.25**0.5})


@given(st.lists(st.tuples(*[st.sampled_from([-2.0, 0.0, 0.1, 0.3, 5.0, 1e3])] * 2), min_size=2, max_size=25))
@settings(max_examples=100, deadline=None)
def test_every_number_is_the_libraries_also_with_ties_and_constants(pairs: list[tuple[float, float]]) -> None:
    gold, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    metrics = number_metrics(gold, predicted)
    for name, value in expected(gold, predicted).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9, rel=1e-9), name
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_equal_numbers_have_no_r2_even_where_their_mean_is_rounded() -> None:
    assert np.mean([0.1] * 3) != 0.1
    assert number_metrics([0.1] * 3, [-2.0] * 3)["r2"] == 0.0 and number_metrics([0.1] * 3, [0.1] * 3)["r2"] == 1.0


def test_one_example_and_numbers_far_from_zero_have_finite_scores() -> None:
    assert number_metrics([3.0], [4.0]) | {"spread": None} == {
        "n": 1, "spearman": 0.0, "pearson": 0.0, "mae": 1.0, "rmse": 1.0, "r2": 0.0, "spread": None,
    }  # fmt: skip
    draw = np.random.default_rng(0)
    gold = draw.normal(size=50)
    predicted = gold + draw.normal(size=50)
    near, far = number_metrics(gold, predicted), number_metrics(gold + 1e6, predicted * 1e-3 - 1e6)
    assert (far["pearson"], far["spearman"]) == pytest.approx((near["pearson"], near["spearman"]), abs=1e-6)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=15))
@settings(max_examples=80, deadline=None)
def test_a_weight_is_so_many_times_the_row(rows: list[tuple[int, int, int]]) -> None:
    gold, predicted, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if not weights.sum():
        return
    repeated = [np.repeat(side, weights.astype(int)) for side in (gold, predicted)]
    (found,) = weighted_scores(gold, predicted, weights[:, None], NAMES).T
    (written_out,) = weighted_scores(repeated[0], repeated[1], np.ones((len(repeated[0]), 1)), NAMES).T
    np.testing.assert_allclose(found, written_out, atol=1e-9)


def systems(n: int, seed: int, noise: tuple[float, ...] = (0.5, 0.5)) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    gold = np.round(draw.random(n), 1)
    return gold, np.stack([gold + sd * draw.normal(size=n) for sd in noise])


@pytest.mark.parametrize("clustered", [False, True])
def test_bootstrap_scores_have_the_distribution_that_resampling_rows_gives(clustered: bool) -> None:
    gold, predicted = systems(60, seed=1)
    clusters = np.arange(60) // 4 if clustered else None
    found = bootstrap_scores(units_of_numbers(gold, predicted, clusters), NAMES, 2000, generator(0, 1))
    draw = np.random.default_rng(0)
    picked = draw.integers(15, size=(400, 15, 1)) * 4 + np.arange(4) if clustered else draw.integers(60, size=(400, 60, 1))
    index = picked.reshape(400, 60)
    for system, one in enumerate(predicted):
        by_row = [expected(gold[rows], one[rows]) for rows in index]
        for ours, name in zip(found[system], NAMES, strict=True):
            theirs = np.array([each[name] for each in by_row])
            assert ours.mean() == pytest.approx(theirs.mean(), abs=5 * theirs.std() / 400**0.5), name
            assert ours.std() == pytest.approx(theirs.std(), rel=0.15), name  # 4 of its own deviations, 1 / sqrt(2 x 400)


def test_leaving_one_out_is_leaving_its_row_out() -> None:
    gold, predicted = systems(12, seed=2)
    found = leave_one_out_scores(units_of_numbers(gold, predicted), NAMES)
    for row in range(12):
        kept = np.arange(12) != row
        for system in (0, 1):
            by_hand = expected(gold[kept], predicted[system][kept])
            assert found[system, :, row] == pytest.approx([by_hand[name] for name in NAMES], abs=1e-9)


def test_swapping_is_swapping_the_answers_of_rows() -> None:
    gold, predicted = systems(8, seed=3)
    units = units_of_numbers(gold, predicted)
    found = np.concatenate(list(units.swapped_differences(NAMES, 4000, generator(0, 2))), axis=1)
    every = []
    for coins in range(2**8):
        swap = (coins >> np.arange(8)) & 1 == 1
        of_a, of_b = (expected(gold, np.where(swap, predicted[1 - which], predicted[which])) for which in (0, 1))
        every.append([of_a[name] - of_b[name] for name in NAMES])
    for ours, theirs in zip(found, np.array(every).T, strict=True):
        distances = np.abs(ours[:, None] - theirs).min(1)
        assert distances.max() < 1e-9 and abs(ours.mean()) < 5 * theirs.std() / 4000**0.5
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)


def test_equal_systems_are_rarely_told_apart_and_unequal_ones_are() -> None:
    p_values = []
    for seed in range(60):
        gold, predicted = systems(40, seed=100 + seed)
        p_values.append(randomisation_p(units_of_numbers(gold, predicted), ["spearman", "rmse"], 199, seed))
    rates = (np.array(p_values) <= 0.05).mean(0)
    assert (rates <= 0.05 + 3.5 * (0.05 * 0.95 / 60) ** 0.5).all()
    gold, predicted = systems(150, seed=4, noise=(0.1, 0.6))
    units = units_of_numbers(gold, predicted)
    assert randomisation_p(units, ["spearman", "mae"], 499, 0).tolist() == pytest.approx([1 / 500, 1 / 500])
    for found in paired_bootstrap(units, ["spearman"], 499, 0):
        assert found["interval"]["low"] > 0.1 and found["p_bootstrap"] == pytest.approx(1 / 500)
    same = units_of_numbers(gold, predicted[[0, 0]])
    assert randomisation_p(same, ["spearman"], 199, 0).tolist() == [1.0]


def test_intervals_are_bca_on_few_rows_and_hold_the_value() -> None:
    for n, method in ((80, "BCa"), (400, "percentile")):
        gold, predicted = systems(n, seed=5)
        metrics, found = number_metrics(gold, predicted[0]), of_number_metrics(gold, predicted[0], resamples=500, level=0.95)
        assert set(found) == {"level", "n", "R", "seed", *NAMES}
        for name in NAMES:
            assert found[name]["method"].startswith(method) and found[name]["low"] < metrics[name] < found[name]["high"]
    theirs = stats.bootstrap(
        (gold, predicted[0]), lambda x, y: stats.pearsonr(x, y).statistic, paired=True, vectorized=False, n_resamples=1000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (found["pearson"]["low"], found["pearson"]["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_what_cannot_vary_has_no_interval() -> None:
    found: dict[str, Any] = of_number_metrics(np.ones(30), np.ones(30), resamples=100, level=0.95)
    json.dumps(found, allow_nan=False)
    assert found["spearman"]["low"] is None and found["mae"]["low"] is None
    (one,) = of_units(units_of_numbers(np.array([1.0]), np.array([2.0])), ["rmse"], resamples=100)
    assert one["low"] is None


@pytest.mark.parametrize("n, rho", [(60, 0.8), (400, 0.8), (400, 0.3)])
def test_coverage_of_both_correlations(n: int, rho: float) -> None:
    """Of two normal numbers, of which Spearman's is 6 / pi asin(rho / 2); BERTLAB_SIMULATIONS=4000 for docs/evaluating.md."""
    simulations = int(os.environ.get("BERTLAB_SIMULATIONS", 40))
    true = {"pearson": rho, "spearman": 6 / np.pi * np.arcsin(rho / 2)}
    covered = dict.fromkeys(true, 0)
    draw = np.random.default_rng(7)
    for number in range(simulations):
        gold = draw.normal(size=n)
        predicted = rho * gold + (1 - rho**2) ** 0.5 * draw.normal(size=n)
        found = of_units(units_of_numbers(gold, predicted), list(true), seed=number, resamples=499)
        for (name, value), interval in zip(true.items(), found, strict=True):
            covered[name] += interval["low"] <= value <= interval["high"]
    rates = {name: count / simulations for name, count in covered.items()}
    print(f"coverage of 95 % intervals, n = {n}, rho {rho}, {simulations} simulations:", rates)
    for name, rate in rates.items():
        assert rate >= 0.95 - 0.025 - 3.5 * (0.95 * 0.05 / simulations) ** 0.5, name
