"""Row bootstrap: scipy's intervals within the noise of resampling, undefined samples left out, fewer samples where rows are many."""

import numpy as np
import pytest
from scipy import stats

from bertlab.evaluation.rows import DRAWS, bootstrap_samples, resamples_for, row_intervals


def mean_of(values: np.ndarray):
    return lambda times: (values @ times / times.sum(0))[None]


@pytest.mark.parametrize("n, method", [(40, "BCa"), (300, "percentile")])
def test_the_interval_of_a_mean_is_scipys_by_the_method_for_its_size(n: int, method: str) -> None:
    values = np.random.default_rng(5).lognormal(size=n)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(0)).confidence_interval
    (found,) = row_intervals(mean_of(values), n, resamples=20_000)
    assert found["method"].startswith(method)
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_all_statistics_are_of_the_same_samples_and_a_seed_repeats_them() -> None:
    values = np.arange(30.0)

    def both(times: np.ndarray) -> np.ndarray:
        return np.stack([values @ times, 2 * (values @ times)])

    samples = bootstrap_samples(both, 30, seed=3, resamples=50)
    assert samples.shape == (2, 50) and (samples[1] == 2 * samples[0]).all() and len(set(samples[0])) > 20
    assert (samples == bootstrap_samples(both, 30, seed=3, resamples=50)).all()
    assert (samples != bootstrap_samples(both, 30, seed=4, resamples=50)).any()


def test_every_sample_has_as_many_rows_as_the_set() -> None:
    samples = bootstrap_samples(lambda times: np.stack([times.sum(0), times.min(0), times.max(0)]), 25, resamples=200)
    assert (samples[0] == 25).all() and (samples[1] == 0).mean() > 0.9 and 2 <= samples[2].mean() <= 5


def test_samples_without_a_value_are_left_out_and_a_number_without_one_has_no_interval() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0] * 60)

    def statistics(times: np.ndarray) -> np.ndarray:
        mean = values @ times / times.sum(0)
        return np.stack([np.where(times[0] == 0, np.nan, mean), np.full(times.shape[1], np.nan)])

    some, none = row_intervals(statistics, len(values), resamples=500)
    assert 2.2 < some["low"] < 2.5 < some["high"] < 2.8
    assert none == {"low": None, "high": None, "method": "none: the number is not defined on this test set"}
    (small,) = row_intervals(lambda times: statistics(times)[:1], len(values[:20]) * 12, resamples=200)
    assert small["low"] is not None


def test_one_row_has_no_interval_and_many_rows_get_fewer_samples() -> None:
    (one,) = row_intervals(mean_of(np.array([2.0])), 1, resamples=100)
    assert one["low"] is None
    assert resamples_for(100) == 10_000 and resamples_for(DRAWS // 2_000) == 2_000 and resamples_for(10**9) == 1_000
    assert resamples_for(10**9, most=200) == 200 and resamples_for(0, most=300) == 300
