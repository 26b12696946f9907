"""What a test set can show: the smallest difference it is likely to find, and how many examples a difference would take (Card et al. 2020).

For accuracy by McNemar's exact test, summed over all outcomes rather than simulated; for other metrics by the normal distribution and the
standard error that the paired bootstrap measured. Both take the disagreement seen between the two systems as the true one, and a number
of examples needed holds only if the difference seen is the true one, which is what nobody knows: it plans the next test set and says
nothing of this one.
"""

import numpy as np

ALPHA, POWER = 0.05, 0.8
LARGE = 50_000  # examples from which the normal distribution will do
MOST_EXAMPLES = 10**9  # beyond this the answer is that no test set will do


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = ALPHA) -> float:
    """How likely the exact test is to find, at `alpha`, a true difference in accuracy on n examples.

    discordance: the share of examples that exactly one of the two systems has right; |difference| cannot be larger.
    """
    from scipy.stats import binom

    assert n >= 0 and 0 < discordance <= 1 and abs(difference) <= discordance + 1e-12
    middle, reach = n * discordance, 9 * np.sqrt(n * discordance * (1 - discordance)) + 10
    either = np.arange(max(0, int(middle - reach)), min(n, int(middle + reach)) + 1)  # how many are right for one only
    only_a = min(1.0, 0.5 + abs(difference) / discordance / 2)
    most = binom.ppf(alpha / 2, either, 0.5)  # the largest number of the rarer kind that is significant, or one more
    most = np.where(2 * binom.cdf(most, either, 0.5) <= alpha, most, most - 1)
    found = binom.cdf(most, either, only_a) + binom.sf(either - most - 1, either, only_a)
    return float((binom.pmf(either, n, discordance) * found).sum())


def smallest_difference(n: int, discordance: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest true difference in accuracy that n examples show with `power`; None where even the largest possible is not."""
    if discordance <= 0 or mcnemar_power(n, discordance, discordance, alpha) < power:
        return None
    low, high = 0.0, discordance
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(n, discordance, middle, alpha) >= power else (middle, high)
    return high


def examples_needed(discordance: float, difference: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """About how many examples show a true `difference` in accuracy with `power`; None for no difference, or more than a billion.

    The power of an exact test rises with n in a saw-tooth: a few examples less may do, a few more may fall just short. Large numbers come
    from the normal distribution (Connor 1987), which is then as good and does not take seconds.
    """
    from scipy.stats import norm

    if discordance <= 0 or abs(difference) < 1e-12:
        return None
    roots = norm.isf(alpha / 2) * np.sqrt(discordance) + norm.ppf(power) * np.sqrt(max(0.0, discordance - difference**2))
    about = (roots / difference) ** 2
    if about > LARGE:
        return int(np.ceil(about)) if about <= MOST_EXAMPLES else None
    high = 1
    while mcnemar_power(high, discordance, difference, alpha) < power:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if mcnemar_power(middle, discordance, difference, alpha) >= power else (middle, high)
    return high


def smallest_difference_by_error(
    standard_error: float, alpha: float = ALPHA, power: float = POWER, degrees_of_freedom: float | None = None
) -> float | None:
    """The smallest true difference of any metric that is found with `power`, from the standard error of the difference: by the normal
    distribution, or where p is by Student's t of so many degrees of freedom, by its noncentral one (the far tail is left out of both)."""
    from scipy.optimize import brentq
    from scipy.stats import nct, norm, t

    if standard_error <= 0:
        return None
    if degrees_of_freedom is None:
        return float((norm.isf(alpha / 2) + norm.ppf(power)) * standard_error)
    critical = t.isf(alpha / 2, degrees_of_freedom)
    shift = brentq(lambda shift: nct.sf(critical, degrees_of_freedom, shift) - power, 0, 10 * critical + 10)
    return float(shift * standard_error)


def examples_needed_by_error(n: int, standard_error: float, difference: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """How many examples show a true `difference` of any metric, where n gave this standard error: it falls with the root of n."""
    least = smallest_difference_by_error(standard_error, alpha, power)
    if least is None or abs(difference) < 1e-12:
        return None
    needed = n * (least / abs(difference)) ** 2
    return int(np.ceil(needed)) if needed <= MOST_EXAMPLES else None
