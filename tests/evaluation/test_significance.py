"""Tests of a difference: scipy's p-values, the cases that public code gets wrong, and under no difference as few alarms as promised.

Error rates are simulated anew in every run, by default few times:
BERTLAB_SIMULATIONS=4000 makes a table worth printing (docs/comparing.md).
"""

import os

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from bertlab.evaluation.resampling import SET_AVERAGES, Metric, Units, scores, units_of, units_of_sets
from bertlab.evaluation.significance import (
    benjamini_hochberg,
    holm,
    mcnemar,
    paired_bootstrap,
    randomisation_p,
    seed_permutation_p,
    two_level_bootstrap,
    welch_p,
)

SIMULATIONS = int(os.environ.get("BERTLAB_SIMULATIONS", 150))
CHANCE = 3.5 * (0.05 * 0.95 / SIMULATIONS) ** 0.5  # of a rate of 5 %


def discordant(n: int, only_a: int, only_b: int, both: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: gold (n,), predictions (2, n) of which `both` are right for both, the rest wrong for both."""
    gold = np.arange(n) % 2
    right = np.zeros((2, n), dtype=bool)
    right[:, :both], right[0, both : both + only_a], right[1, both + only_a : both + only_a + only_b] = True, True, True
    return gold, np.where(right, gold, 1 - gold)


def test_mcnemar_is_scipys_binomial_test_and_mid_p_takes_off_the_point() -> None:
    for only_a, only_b in [(25, 8), (8, 25), (1, 0), (3, 3), (0, 6), (40, 38), (0, 0)]:
        gold, (a, b) = discordant(200, only_a, only_b, both=100)
        found = mcnemar(a == gold, b == gold)
        either = only_a + only_b
        expected = stats.binomtest(only_a, either, 0.5).pvalue if either else 1.0
        assert (found["only_a"], found["only_b"]) == (only_a, only_b) and found["p_exact"] == pytest.approx(expected, abs=1e-12)
        mid = expected - stats.binom.pmf(only_a, either, 0.5) if only_a != only_b else 1.0
        assert found["p_mid"] == pytest.approx(mid, abs=1e-12)


def test_a_paired_difference_is_seen_that_an_unpaired_test_misses() -> None:
    gold, predicted = discordant(500, 25, 8, both=400)  # resampling the two apart gives p = 0.08 here
    found = paired_bootstrap(units_of(gold, predicted, 2), ["accuracy"], 10_000, seed=0)[0]
    assert found["difference"] == pytest.approx(17 / 500)
    assert mcnemar(predicted[0] == gold, predicted[1] == gold)["p_exact"] == pytest.approx(0.0046, abs=5e-5)
    assert 0.001 < found["p_bootstrap"] < 0.006
    assert 0.001 < randomisation_p(units_of(gold, predicted, 2), ["accuracy"], 10_000, seed=0)[0] < 0.007
    unpaired = (np.random.default_rng(0).binomial(500, [425 / 500, 408 / 500], size=(10_000, 2)) / 500) @ [1, -1]
    assert (np.abs(unpaired - 17 / 500) >= 17 / 500).mean() > 0.05


@pytest.mark.parametrize("swap", [False, True])
def test_a_clear_win_has_the_smallest_p_there_is_whichever_system_comes_first(swap: bool) -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(3, size=400)
    better = np.where(draw.random(400) < 0.9, gold, draw.integers(3, size=400))
    worse = np.where(draw.random(400) < 0.8, better, draw.integers(3, size=400))
    units = units_of(gold, np.stack([worse, better] if swap else [better, worse]), 3)
    found = paired_bootstrap(units, ["macro_f1"], 9999, seed=0)[0]
    assert abs(found["difference"]) > 0.1 and (found["difference"] < 0) == swap
    assert randomisation_p(units, ["macro_f1"], 9999, seed=0).tolist() == [1e-4] and found["p_bootstrap"] == 1e-4
    assert found["p_bootstrap_one_sided"] == (1.0 if swap else 1e-4)


ALL: list[Metric] = ["accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", 0, 2]


@pytest.mark.parametrize("n", [1, 2, 50])
def test_two_systems_that_agree_do_not_differ(n: int) -> None:
    gold = np.arange(n) % 3
    predicted = np.tile(np.arange(n) % 2, (2, 1))
    units = units_of(gold, predicted, 3)
    assert randomisation_p(units, ALL, 500, seed=0).tolist() == [1.0] * len(ALL)
    for found in paired_bootstrap(units, ALL, 500, seed=0):
        assert (found["difference"], found["p_bootstrap"], found["p_bootstrap_one_sided"]) == (0.0, 1.0, 1.0)
        assert found["interval"]["low"] is None  # not [0, 0]: the bootstrap has nothing to go by
    assert mcnemar(predicted[0] == gold, predicted[1] == gold) == {"only_a": 0, "only_b": 0, "p_exact": 1.0, "p_mid": 1.0}


def test_different_answers_that_are_equally_right_are_no_difference_in_accuracy_but_may_be_one_in_f1() -> None:
    gold = np.array([0] * 60 + [1] * 20 + [2] * 20)
    a, b = gold.copy(), gold.copy()
    a[:30], b[:30] = 1, 2  # both wrong, in different ways: b + c = 0
    b[60:80] = 1
    a[80:], b[80:] = 2, 2
    units = units_of(gold, np.stack([a, b]), 3)
    assert mcnemar(a == gold, b == gold)["p_exact"] == 1.0
    assert randomisation_p(units, ["accuracy", 1, 2], 2000, seed=0).tolist() == [1.0, 1 / 2001, 1 / 2001]
    assert paired_bootstrap(units, ["accuracy"], 2000, seed=0)[0]["p_bootstrap"] == 1.0


@pytest.mark.parametrize("gold, a, b", [([0], [0], [1]), ([0, 0, 0], [0, 0, 1], [1, 0, 0]), ([1, 1, 2], [0, 0, 0], [2, 2, 2])])
def test_tiny_and_one_class_test_sets_give_probabilities(gold: list[int], a: list[int], b: list[int]) -> None:
    units = units_of(np.array(gold), np.array([a, b]), 3)
    p_values = randomisation_p(units, ALL, 200, seed=0).tolist()
    for found in paired_bootstrap(units, ALL, 200, seed=0):
        p_values += [found["p_bootstrap"], found["p_bootstrap_one_sided"]]
        assert np.isfinite([found["difference"], found["standard_error"]]).all()
    assert all(0 < p <= 1 for p in p_values)


def macro_f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    right, of_gold, given = (np.bincount(part, minlength=3) for part in (gold[gold == predicted], gold, predicted))
    return float(np.mean(2 * right / np.maximum(of_gold + given, 1)))


def small_pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two systems that differ on eight of forty examples: few enough to look at every way of swapping."""
    draw = np.random.default_rng(7)
    gold = draw.integers(3, size=40)
    a = np.where(draw.random(40) < 0.8, gold, draw.integers(3, size=40))
    b, differ = a.copy(), draw.choice(40, size=8, replace=False)
    b[differ] = (a[differ] + draw.integers(1, 3, size=8)) % 3
    a[differ[:3]], b[differ[:3]] = b[differ[:3]], a[differ[:3]].copy()
    return gold, a, b


def test_randomisation_is_scipys_permutation_test_over_every_way_to_swap() -> None:
    gold, a, b = small_pair()
    differ = np.flatnonzero(a != b)

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        first, second = a.copy(), b.copy()
        first[differ], second[differ] = one, other
        return macro_f1(gold, first) - macro_f1(gold, second)

    assert macro_f1(gold, a) == pytest.approx(f1_score(gold, a, average="macro"))
    theirs = stats.permutation_test((a[differ], b[differ]), difference, permutation_type="samples", n_resamples=np.inf).pvalue
    ours = randomisation_p(units_of(gold, np.stack([a, b]), 3), ["macro_f1"], 50_000, seed=0)[0]
    assert 0.05 < theirs < 0.95 and ours == pytest.approx(theirs, abs=4 * (0.25 / 50_000) ** 0.5)


def test_clusters_are_swapped_and_drawn_whole() -> None:
    gold, a, b = small_pair()
    ten_times = [np.repeat(each, 10) for each in (gold, a, b)]
    one = units_of(gold, np.stack([a, b]), 3)
    whole = units_of(ten_times[0], np.stack(ten_times[1:]), 3, np.repeat(np.arange(40), 10))
    rows = units_of(ten_times[0], np.stack(ten_times[1:]), 3)
    p_one, p_whole, p_rows = (float(randomisation_p(units, ["macro_f1"], 20_000, seed=0)[0]) for units in (one, whole, rows))
    assert p_one == pytest.approx(p_whole, abs=0.02) and p_rows < p_one / 2  # ten copies know no more than one
    errors = [paired_bootstrap(units, ["macro_f1"], 20_000, seed=0)[0]["standard_error"] for units in (one, whole, rows)]
    assert errors[0] == pytest.approx(errors[1], rel=0.05) and errors[2] == pytest.approx(errors[0] / 10**0.5, rel=0.1)


# --- many comparisons, seeds ------------------------------------------------------------------------------------------------------------


def test_holm_and_benjamini_hochberg_keep_the_order_and_have_the_values_worked_out_by_hand() -> None:
    p_values = [0.04, 0.001, 0.03, 0.02]
    assert holm(p_values) == pytest.approx([0.06, 0.004, 0.06, 0.06])  # 4 x 0.001, 3 x 0.02, then no smaller than that
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert holm([0.3]) == [0.3] and holm([0.7, 0.8]) == [1.0, 1.0] and holm([]) == [] == benjamini_hochberg([])
    draw = np.random.default_rng(0)
    for size in (2, 9):
        drawn = draw.random(size).tolist()
        assert benjamini_hochberg(drawn) == pytest.approx(stats.false_discovery_control(drawn))
        assert all(bh <= corrected for bh, corrected in zip(benjamini_hochberg(drawn), holm(drawn), strict=True))


def test_the_scores_of_seeds_are_tested_as_scipy_tests_them() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(0.8, 0.02, size=5), draw.normal(0.82, 0.01, size=5)

    def means_apart(x: np.ndarray, y: np.ndarray) -> float:
        return float(x.mean() - y.mean())

    assert welch_p(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    theirs = stats.permutation_test((a, b), means_apart, n_resamples=np.inf).pvalue
    assert seed_permutation_p(a, b, 1000, seed=0) == pytest.approx(theirs, abs=1e-12)
    assert seed_permutation_p(np.arange(5.0), np.arange(5.0) + 10, 1000, seed=0) == pytest.approx(2 / 252)  # the least of 5 and 5
    many = seed_permutation_p(np.arange(12.0), np.arange(12.0) + 2, 20_000, seed=0)  # 2.7 million ways: some of them
    assert many == pytest.approx(stats.ttest_ind(np.arange(12.0), np.arange(12.0) + 2).pvalue, abs=0.03)
    assert seed_permutation_p(np.arange(12.0), np.arange(12.0) + 100, 999, seed=0) == 1 / 1000, "never 0"
    assert seed_permutation_p(np.ones(12), np.ones(12), 999, seed=0) == 1.0
    one = np.array([0.8])
    assert seed_permutation_p(one, one, 100, seed=0) is None and welch_p(one, b) is None
    same = np.array([0.8, 0.8])
    assert welch_p(same, same) == 1.0 and welch_p(same, same + 0.1) == 0.0


def methods(draw: np.random.Generator, n: int, seeds: int, spread: float, better: float = 0.0) -> Units:
    """`seeds` models of each of two methods: some examples are hard for all, a seed is better or worse as a whole."""
    gold = draw.integers(3, size=n)
    chance = np.where(draw.random(n) < 0.7, 0.9, 0.2)

    def model(shift: float) -> np.ndarray:
        right = draw.random(n) < np.clip(chance + shift + spread * draw.normal(), 0, 1)
        return np.where(right, gold, (gold + draw.integers(1, 3, size=n)) % 3)

    return units_of(gold, np.stack([model(better) for _ in range(seeds)] + [model(0.0) for _ in range(seeds)]), 3)


def test_a_claim_about_methods_takes_the_spread_of_the_seeds_into_account() -> None:
    units = methods(np.random.default_rng(0), n=2000, seeds=4, spread=0.05)
    observed = np.stack([scores(units.observed(system), ["accuracy"])[0] for system in range(8)])
    found = two_level_bootstrap(units, 4, ["accuracy"], 4000, seed=0)[0]
    assert found["difference"] == pytest.approx(observed[:4].mean() - observed[4:].mean())
    assert found["seed_scores_a"] == observed[:4].tolist() and found["seed_scores_b"] == observed[4:].tolist()
    of_seeds = (observed[:4].var(ddof=1) / 4 + observed[4:].var(ddof=1) / 4) ** 0.5
    assert of_seeds <= found["standard_error"] * (1 + 1e-9) < 1.2 * of_seeds  # 2,000 examples add little to it
    half = (found["interval"]["high"] - found["interval"]["low"]) / 2
    assert half == pytest.approx(stats.t.isf(0.025, found["degrees_of_freedom"]) * found["standard_error"], rel=0.15)
    assert found == two_level_bootstrap(units, 4, ["accuracy"], 4000, seed=0)[0]


@pytest.mark.parametrize("seeds", [2, 4])
def test_what_a_seed_does_on_single_examples_is_counted_once(seeds: int) -> None:
    """For accuracy the variance that is wanted can be worked out from the table of seeds by examples (right or wrong)."""
    draw = np.random.default_rng(seeds)
    gold = draw.integers(3, size=300)
    right = draw.random((2 * seeds, 300)) < np.clip(0.7 + 0.02 * draw.normal(size=(2 * seeds, 1)), 0, 1)
    difficulty = draw.random(300) < 0.3  # on these one method does badly: examples matter by themselves
    right[:seeds] &= ~(difficulty & (draw.random((seeds, 300)) < 0.9))
    units = units_of(gold, np.where(right, gold, (gold + 1) % 3), 3)
    found = two_level_bootstrap(units, seeds, ["accuracy"], 40_000, seed=0)[0]

    of_seeds, single, means = 0.0, 0.0, []
    for table in (right[:seeds].astype(float), right[seeds:].astype(float)):
        by_seed, by_example = table.mean(1), table.mean(0)
        rest = table - by_seed[:, None] - by_example + table.mean()
        of_seeds += by_seed.var(ddof=1) / seeds
        single += (rest**2).mean() / ((seeds - 1) * 300)  # of S - 1 seeds drawn and n examples drawn
        means.append(by_example)
    of_examples = (means[0] - means[1]).var() / 300
    variance = of_seeds + of_examples - single
    assert single > 0.05 * variance and variance > max(of_seeds, of_examples)
    assert found["standard_error"] == pytest.approx(variance**0.5, rel=0.02)
    freedom = variance**2 / (
        of_examples**2 / 299 + sum(each.var(ddof=1) ** 2 / seeds**2 for each in _by_method(right, seeds)) / (seeds - 1)
    )
    assert found["degrees_of_freedom"] == pytest.approx(freedom, rel=0.1)


def _by_method(right: np.ndarray, seeds: int) -> list[np.ndarray]:
    return [right[:seeds].mean(1), right[seeds:].mean(1)]


def test_p_and_interval_of_methods_are_read_from_students_t() -> None:
    units = methods(np.random.default_rng(15), n=2000, seeds=3, spread=0.05, better=0.08)
    found = two_level_bootstrap(units, 3, ["accuracy"], 20_000, seed=0)[0]
    ratio, freedom = abs(found["difference"]) / found["standard_error"], found["degrees_of_freedom"]
    assert 1.5 < ratio < 3 and freedom < 6
    by_t, by_normal = 2 * stats.t.sf(ratio, freedom), 2 * stats.norm.sf(ratio)
    assert abs(found["p_two_level"] - by_t) < abs(found["p_two_level"] - by_normal) / 2
    assert (found["interval"]["low"] <= 0 <= found["interval"]["high"]) == (found["p_two_level"] > 0.05)


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_of_few_seeds_reaches_beyond_their_means_as_far_as_p_says(seeds: int) -> None:
    """Two seeds drawn from three have six means: no percentile of the samples lies beyond the outermost."""
    draw, close = np.random.default_rng(16), 0
    for _ in range(20):
        units = methods(draw, n=400, seeds=seeds, spread=0.02, better=0.06)
        for found in two_level_bootstrap(units, seeds, ["accuracy", "macro_f1"], 999, seed=0):
            interval, p = found["interval"], found["p_two_level"]
            assert (interval["low"] <= 0 <= interval["high"]) == (p > 0.05)
            close += 0.01 < p < 0.2
            width = 2 * stats.t.isf(0.025, found["degrees_of_freedom"]) * found["standard_error"]
            assert interval["high"] - interval["low"] == pytest.approx(width, rel=0.35)
    assert close > 5  # not only cases that anything would get right


def test_methods_of_equal_seeds_do_not_differ_and_one_seed_against_several_is_allowed() -> None:
    gold = np.arange(60) % 3
    equal = units_of(gold, np.tile(gold, (5, 1)), 3)
    found = two_level_bootstrap(equal, 2, ["accuracy", "macro_f1"], 200, seed=0)
    assert [each["p_two_level"] for each in found] == [1.0, 1.0] and found[0]["interval"]["low"] is None
    worse = np.where(np.arange(60) < 30, gold, (gold + 1) % 3)
    against_one = two_level_bootstrap(units_of(gold, np.stack([gold, gold, worse]), 3), 2, ["accuracy"], 2000, seed=0)[0]
    assert against_one["p_two_level"] < 0.001 and against_one["p_welch"] is None and against_one["difference"] == 0.5


# --- error rates by simulation ----------------------------------------------------------------------------------------------------------


def models(
    draw: np.random.Generator, n: int, prevalence: tuple[float, ...], alike: float, better: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two models right 75 % of the time, A by `better` more where they answer on their own; `alike` is how often they do not."""
    classes = len(prevalence)
    gold = draw.choice(classes, size=n, p=prevalence)

    def answers(right: float) -> np.ndarray:
        return np.where(draw.random(n) < right, gold, (gold + draw.integers(1, classes, size=n)) % classes)

    shared = answers(0.75)
    return gold, np.stack([np.where(draw.random(n) < alike, shared, answers(0.75 + extra)) for extra in (better, 0.0)])


@pytest.mark.parametrize("n, prevalence", [(400, (0.5, 0.3, 0.2)), (400, (0.9, 0.1)), (60, (0.5, 0.3, 0.2))])
def test_equal_systems_differ_in_five_percent_of_test_sets(n: int, prevalence: tuple[float, ...]) -> None:
    draw = np.random.default_rng(3)
    metrics: list[Metric] = ["accuracy", "macro_f1", "mcc", len(prevalence) - 1]
    alarms: dict[str, float] = {}

    def count(name: str, alarm: bool) -> None:
        alarms[name] = alarms.get(name, 0.0) + alarm / SIMULATIONS

    for number in range(SIMULATIONS):
        gold, predicted = models(draw, n, prevalence, alike=0.6)
        units = units_of(gold, predicted, len(prevalence))
        test = mcnemar(predicted[0] == gold, predicted[1] == gold)
        count("McNemar exact", test["p_exact"] <= 0.05)
        count("McNemar mid-p", test["p_mid"] <= 0.05)
        for metric, p in zip(metrics, randomisation_p(units, metrics, 499, number), strict=True):
            count(f"randomisation {metric}", bool(p <= 0.05))
        for metric, found in zip(metrics, paired_bootstrap(units, metrics, 499, number), strict=True):
            count(f"bootstrap {metric}", found["p_bootstrap"] <= 0.05)
            count(f"bootstrap, one-sided {metric}", found["p_bootstrap_one_sided"] <= 0.05)
            interval = found["interval"]
            count(f"interval without 0 {metric}", interval["low"] is not None and not interval["low"] <= 1e-12 <= interval["high"] + 2e-12)
    print(f"alarms, n = {n}, prevalence {prevalence}, {SIMULATIONS} simulations:", {name: round(rate, 4) for name, rate in alarms.items()})
    for name, rate in alarms.items():
        # the bootstrap of F1 and MCC knows the spread of 60 examples, or of 40 of a class, a little too well
        excess = 0.025 if n == 60 and "bootstrap" in name or "interval" in name else 0.01 if "bootstrap" in name else 0.0
        assert rate <= 0.05 + excess + CHANCE, name
        # tests that count take few values, and may have to stop short of 5 %
        assert rate >= (0.01 if n == 60 or "accuracy" in name or "exact" in name else 0.03) - CHANCE, name


def test_equal_systems_of_sets_differ_in_five_percent_of_test_sets() -> None:
    names, draw = ["macro_f1", "macro_mcc", "hamming_loss"], np.random.default_rng(9)
    alarms: dict[str, float] = {}
    wanted = [SET_AVERAGES[name] for name in names]
    for number in range(SIMULATIONS):
        gold = draw.random((200, 3)) < (0.5, 0.3, 0.2)
        predicted = draw.random((2, 200, 3)) < np.where(gold, 0.8, 0.1)
        units = units_of_sets(gold, predicted)
        for name, p, found in zip(
            names, randomisation_p(units, wanted, 199, number), paired_bootstrap(units, wanted, 199, number), strict=True
        ):
            for test, alarm in (("randomisation", p), ("bootstrap", found["p_bootstrap"])):
                alarms[f"{test} {name}"] = alarms.get(f"{test} {name}", 0.0) + (alarm <= 0.05) / SIMULATIONS
    print(f"alarms of sets, n = 200, {SIMULATIONS} simulations:", {name: round(float(rate), 4) for name, rate in alarms.items()})
    for name, rate in alarms.items():
        assert 0.03 - CHANCE <= rate <= 0.05 + (0.01 if "bootstrap" in name else 0) + CHANCE, name


@pytest.mark.parametrize("n, seeds, spread", [(1000, 5, 0.05), (300, 5, 0.0), (400, 3, 0.02)])
def test_equal_methods_differ_in_at_most_five_percent_of_repetitions(n: int, seeds: int, spread: float) -> None:
    draw, alarms = np.random.default_rng(5), {"two-level": 0.0, "interval": 0.0, "permutation": 0.0, "Welch": 0.0}
    for number in range(SIMULATIONS):
        found = two_level_bootstrap(methods(draw, n, seeds, spread), seeds, ["macro_f1"], 299, number)[0]
        alarms["two-level"] += (found["p_two_level"] <= 0.05) / SIMULATIONS
        alarms["interval"] += (not found["interval"]["low"] <= 0 <= found["interval"]["high"]) / SIMULATIONS
        alarms["permutation"] += (found["p_permutation_of_seeds"] <= 0.05) / SIMULATIONS
        alarms["Welch"] += (found["p_welch"] <= 0.05) / SIMULATIONS
    print(
        f"alarms, n = {n}, {seeds} seeds of spread {spread}, {SIMULATIONS} simulations:",
        {name: round(rate, 4) for name, rate in alarms.items()},
    )
    assert max(alarms.values()) <= 0.05 + CHANCE
    assert alarms["two-level"] >= (0.03 if spread == 0.05 else 0) - CHANCE


def test_a_true_difference_is_found_and_as_often_by_randomisation_as_by_bootstrap() -> None:
    draw = np.random.default_rng(6)
    found = {"McNemar exact": 0.0, "randomisation": 0.0, "bootstrap": 0.0}
    for number in range(SIMULATIONS):
        gold, predicted = models(draw, 400, (0.5, 0.3, 0.2), alike=0.6, better=0.15)
        units = units_of(gold, predicted, 3)
        found["McNemar exact"] += (mcnemar(predicted[0] == gold, predicted[1] == gold)["p_exact"] <= 0.05) / SIMULATIONS
        found["randomisation"] += (randomisation_p(units, ["macro_f1"], 499, number)[0] <= 0.05) / SIMULATIONS
        found["bootstrap"] += (paired_bootstrap(units, ["macro_f1"], 499, number)[0]["p_bootstrap"] <= 0.05) / SIMULATIONS
    print(
        f"power at a difference of 0.06 in accuracy, n = 400, {SIMULATIONS} simulations:",
        {name: round(float(rate), 4) for name, rate in found.items()},
    )
    assert min(found.values()) > 0.4 and abs(found["randomisation"] - found["bootstrap"]) < 0.05


def test_a_true_difference_between_methods_is_found() -> None:
    draw, found = np.random.default_rng(8), 0.0
    for number in range(SIMULATIONS // 5):
        units = methods(draw, 1000, 5, spread=0.01, better=0.04)
        found += (two_level_bootstrap(units, 5, ["accuracy"], 299, number)[0]["p_two_level"] <= 0.05) / (SIMULATIONS // 5)
    print(f"power of the two-level bootstrap, {SIMULATIONS // 5} simulations:", round(found, 4))
    assert found > 0.7
