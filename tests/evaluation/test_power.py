"""What a test set can show: against simulation, against a sum worked out by hand, and never less with more examples at hand."""

import numpy as np
import pytest
from scipy import stats

from bertlab.evaluation import power


@pytest.mark.parametrize("n, discordance, difference", [(200, 0.08, 0.04), (500, 0.1, 0.04), (1000, 0.2, 0.03), (50, 1.0, 0.4)])
def test_power_is_the_share_of_simulated_test_sets_that_the_exact_test_finds(n: int, discordance: float, difference: float) -> None:
    draw = np.random.default_rng(0)
    either = draw.binomial(n, discordance, size=20_000)
    only_a = draw.binomial(either, (discordance + difference) / discordance / 2)
    p = np.minimum(1, 2 * stats.binom.cdf(np.minimum(only_a, either - only_a), either, 0.5))
    found = power.mcnemar_power(n, discordance, difference)
    assert found == pytest.approx((p <= 0.05).mean(), abs=4 * (0.25 / 20_000) ** 0.5)
    assert found == pytest.approx(power.mcnemar_power(n, discordance, -difference))


def test_power_of_a_few_examples_is_the_sum_worked_out_by_hand() -> None:
    # all six discordant and all for A: 2 / 2^6 = 0.03 is significant, five of six (p = 0.22) are not
    assert power.mcnemar_power(6, 1.0, 1.0) == pytest.approx(1.0)
    assert power.mcnemar_power(6, 1.0, 0.5) == pytest.approx(0.75**6 + 0.25**6)
    assert power.mcnemar_power(5, 1.0, 1.0) == 0.0  # 2 / 2^5 = 0.06
    assert power.mcnemar_power(6, 0.5, 0.5) == pytest.approx(0.5**6)  # all six must be discordant
    assert power.mcnemar_power(0, 0.5, 0.5) == 0.0


def test_without_a_difference_the_alarm_goes_off_in_at_most_five_percent() -> None:
    for n in (10, 100, 1000):
        for discordance in (0.05, 0.3, 1.0):
            assert power.mcnemar_power(n, discordance, 0.0) <= 0.05


def test_the_smallest_difference_has_the_power_asked_for_and_shrinks_with_the_test_set() -> None:
    for n, discordance in [(100, 0.3), (900, 0.1), (20_000, 0.05)]:
        least = power.smallest_difference(n, discordance)
        assert least is not None
        assert power.mcnemar_power(n, discordance, least) == pytest.approx(0.8, abs=1e-6)
        normal = (stats.norm.isf(0.025) + stats.norm.ppf(0.8)) * (discordance / n) ** 0.5
        assert least == pytest.approx(normal, rel=0.2)
    assert power.smallest_difference(20, 0.1) is None  # two discordant examples never are significant
    assert power.smallest_difference(100, 0.0) is None


def test_the_examples_needed_have_the_power_asked_for() -> None:
    for discordance, difference in [(0.1, 0.03), (0.3, -0.05), (0.05, 0.05)]:
        needed = power.examples_needed(discordance, difference)
        assert needed is not None and power.mcnemar_power(needed, discordance, difference) >= 0.8
        assert power.mcnemar_power(int(0.8 * needed), discordance, difference) < 0.8
    assert power.examples_needed(0.9, 1e-5) is None  # some 70 billion
    large = power.examples_needed(0.1, 0.003)
    assert large is not None and large > power.LARGE and power.mcnemar_power(large, 0.1, 0.003) == pytest.approx(0.8, abs=0.005)
    assert power.examples_needed(0.1, 0.0) is None and power.examples_needed(0.0, 0.0) is None


def test_what_students_t_can_show_is_what_a_t_test_finds_so_often() -> None:
    draw = np.random.default_rng(0)
    for freedom in (3, 10, 200):
        least = power.smallest_difference_by_error(0.01, degrees_of_freedom=freedom)
        assert least is not None
        errors = np.sqrt(draw.chisquare(freedom, size=200_000) / freedom)  # of the standard error, which is estimated too
        found = np.abs(draw.normal(least / 0.01, size=200_000) / errors) > stats.t.isf(0.025, freedom)
        assert found.mean() == pytest.approx(0.8, abs=4e-3)
    plain = power.smallest_difference_by_error(0.01)
    assert plain is not None and power.smallest_difference_by_error(0.01, degrees_of_freedom=1e5) == pytest.approx(plain, rel=1e-3)
    assert power.smallest_difference_by_error(0.0, degrees_of_freedom=3) is None


def test_by_the_standard_error_four_times_the_examples_show_half_the_difference() -> None:
    least = power.smallest_difference_by_error(0.01)
    assert least is not None and least == pytest.approx(0.02802, abs=1e-5)
    assert power.examples_needed_by_error(1000, 0.01, least) in {1000, 1001}
    assert power.examples_needed_by_error(1000, 0.01, -least / 2) in {4000, 4001}
    assert power.smallest_difference_by_error(0.0) is None and power.examples_needed_by_error(10, 0.1, 0.0) is None
    assert power.examples_needed_by_error(1000, 0.01, 1e-9) is None
    # for accuracy it agrees with the exact sum
    needed, exact = power.examples_needed_by_error(1000, (0.1 / 1000) ** 0.5, 0.03), power.examples_needed(0.1, 0.03)
    assert needed is not None and needed == pytest.approx(exact, rel=0.15)
