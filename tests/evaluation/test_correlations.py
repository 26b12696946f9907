"""Pearson's and Spearman's correlation are scipy's, ties and all; their bootstrap is of samples with ranks made anew.

Coverage is simulated in every run, by default few times: BERTLAB_SIMULATIONS=4000 makes a table worth printing (docs/evaluating.md).
"""

import json
import os
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertlab.evaluation.correlations import correlation_metrics, correlations

SIMULATIONS = int(os.environ.get("BERTLAB_SIMULATIONS", 40))


def scipys(gold: np.ndarray, predicted: np.ndarray) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [float(stats.pearsonr(gold, predicted).statistic), float(stats.spearmanr(gold, predicted).statistic)]


def test_a_small_example_has_the_numbers_worked_out_by_hand() -> None:
    gold, predicted = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 10])
    found = correlation_metrics(gold, predicted, resamples=100)
    # deviations -1.5 -.5 .5 1.5 and -3 -1 -2 6: products 4.5 + .5 - 1 + 9 = 13, squares 5 and 50; ranks 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert found["pearson"] == pytest.approx(13 / 250**0.5) and found["spearman"] == pytest.approx(0.8)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30),
    st.sampled_from([1.0, 1e-4, 1e5]),
    st.sampled_from([0.0, 1e6]),
)
@settings(max_examples=80, deadline=None)
def test_random_and_degenerate_numbers_have_scipys_correlations(pairs: list[tuple[int, int]], scale: float, shift: float) -> None:
    gold, predicted = (np.array(each, dtype=float) * scale + shift for each in zip(*pairs, strict=True))
    if scale == 1e-4 and shift:
        return  # what differs is beyond the sixteenth digit of the squares, for scipy as for us
    found = correlation_metrics(gold, predicted, resamples=20)
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        assert found["pearson"] is found["spearman"] is None
        assert found["intervals"]["pearson"]["low"] is None
    else:
        assert [found["pearson"], found["spearman"]] == pytest.approx(scipys(gold, predicted), abs=1e-9)
    json.dumps(found, allow_nan=False)


def test_a_weighted_row_counts_as_so_many_rows() -> None:
    draw = np.random.default_rng(1)
    gold, predicted = draw.integers(6, size=25).astype(float), draw.normal(size=25).round(1)
    times = draw.integers(4, size=(25, 40)).astype(float)
    found = correlations(gold, predicted)(times)
    for number in range(40):
        rows = np.repeat(np.arange(25), times[:, number].astype(int))
        assert found[:, number] == pytest.approx(scipys(gold[rows], predicted[rows]), abs=1e-10)
    alone = np.zeros((25, 1))
    alone[3] = 25
    assert np.isnan(correlations(gold, predicted)(alone)).all()


@pytest.mark.parametrize("n, method", [(60, "BCa"), (400, "percentile")])
def test_the_intervals_are_scipys_bootstraps(n: int, method: str) -> None:
    draw = np.random.default_rng(2)
    gold = draw.normal(size=n)
    predicted = gold + draw.normal(size=n)
    found = correlation_metrics(gold, predicted, resamples=10000)["intervals"]
    assert found["spearman"]["method"].startswith(method) and found["R"] == 10000
    for name, values in {"pearson": lambda x: x, "spearman": lambda x: stats.rankdata(x, axis=-1)}.items():

        def statistic(x: np.ndarray, y: np.ndarray, axis: int, values: Any = values) -> Any:
            return stats.pearsonr(values(x), values(y), axis=axis).statistic

        theirs = stats.bootstrap(
            (gold, predicted), statistic, paired=True, vectorized=True, n_resamples=10000, method=method, rng=np.random.default_rng(0)
        ).confidence_interval
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize("n, rho", [(60, 0.8), (400, 0.8), (400, 0.3)])
def test_coverage_of_both_correlations(n: int, rho: float) -> None:
    """Of two normal numbers, of which Spearman's is 6 / pi asin(rho / 2)."""
    true = {"pearson": rho, "spearman": 6 / np.pi * np.arcsin(rho / 2)}
    covered = dict.fromkeys(true, 0)
    draw = np.random.default_rng(7)
    for number in range(SIMULATIONS):
        gold = draw.normal(size=n)
        predicted = rho * gold + (1 - rho**2) ** 0.5 * draw.normal(size=n)
        found = correlation_metrics(gold, predicted, seed=number, resamples=499)["intervals"]
        for name, value in true.items():
            covered[name] += found[name]["low"] <= value <= found[name]["high"]
    rates = {name: count / SIMULATIONS for name, count in covered.items()}
    print(f"coverage of 95 % intervals, n = {n}, rho {rho}, {SIMULATIONS} simulations:", rates)
    for name, rate in rates.items():
        assert rate >= 0.95 - 0.025 - 3.5 * (0.95 * 0.05 / SIMULATIONS) ** 0.5, name
