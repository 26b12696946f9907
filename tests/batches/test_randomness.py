"""bertlab/batches/randomness.py against SplitMix64 in plain integers, exact distributions and pinned values.

Every seed here is fixed, so a test passes always or never; the bounds (5 sigma, or a tail of 1e-6) say how unlikely a
good generator is to be outside.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertlab.batches.randomness import binomial_half, bits, coin_and_integer, derive, integers, key, permuted, shuffled, uniform

RARE = 1e-6
N = 200_000
WORD = 2**64 - 1


def splitmix(state: int) -> int:
    """The output function of SplitMix64 on Python integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
    return state ^ (state >> 31)


def keys_of(count: int, seed: int = 0) -> np.ndarray:
    return derive(key(seed), np.arange(count))


def by_counter(count: int) -> np.ndarray:
    return bits(key(1), np.arange(count))


def by_key(count: int) -> np.ndarray:
    return bits(keys_of(count), 0)


def by_seed(count: int) -> np.ndarray:
    """Neighbouring seeds, as users choose them."""
    return np.concatenate([key(seed) for seed in range(count // 10)])


STREAMS = [by_counter, by_key, by_seed]


def set_bits(words: np.ndarray) -> np.ndarray:
    """How often each of the 64 bits is set. Shape (64,)."""
    return np.array([int(((words >> np.uint64(bit)) & np.uint64(1)).sum()) for bit in range(64)])


def test_the_bits_of_a_key_are_the_outputs_of_splitmix64_with_that_seed() -> None:
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert bits(np.array([1234567], dtype=np.uint64), np.arange(5)).tolist() == expected  # the published test vector


@given(st.integers(0, WORD), st.integers(0, 2**63 - 1))
@settings(max_examples=200, deadline=None)
def test_bits_equal_splitmix64_in_plain_integers(start: int, counter: int) -> None:
    assert int(bits(np.array([start], dtype=np.uint64), counter)[0]) == splitmix((start + (counter + 1) * 0x9E3779B97F4A7C15) & WORD)


def test_known_answers_stay_what_they_are() -> None:
    """A change here changes every batch of every run that is resumed or replayed."""
    assert key(0).tolist() == [258863698125685209] and key(7, 3, 1).tolist() == [9304235218511811593]
    assert derive(key(7), 3).tolist() == [1598333988273482645]
    assert permuted(np.arange(10), 10, key(5)).tolist() == [0, 9, 7, 2, 1, 5, 6, 3, 8, 4]
    assert integers(key(3), np.arange(8), 100).tolist() == [37, 44, 99, 43, 64, 94, 5, 23]
    assert binomial_half(np.array([1, 10, 64, 100, 1000]), keys_of(5), 4).tolist() == [1, 6, 33, 53, 475]
    assert shuffled(keys_of(6), 9).tolist() == [0, 2, 5, 1, 4, 3]


@pytest.mark.parametrize("stream", STREAMS)
def test_every_bit_is_set_half_of_the_time(stream: Callable[[int], np.ndarray]) -> None:
    words = stream(N)
    assert np.abs(set_bits(words) - len(words) / 2).max() < 5 * np.sqrt(len(words) / 4)


@pytest.mark.parametrize("stream", STREAMS)
def test_every_bit_is_independent_of_the_same_bit_of_the_next_draw(stream: Callable[[int], np.ndarray]) -> None:
    words = stream(N)
    differ = words[1:] ^ words[:-1]
    assert np.abs(set_bits(differ) - len(differ) / 2).max() < 5 * np.sqrt(len(differ) / 4)


def test_one_changed_bit_of_a_key_or_a_counter_changes_every_bit_half_of_the_time() -> None:
    keys, n = keys_of(20_000), 20_000
    for bit in range(0, 63, 7):
        flip = np.uint64(1) << np.uint64(bit)
        drawn = bits(keys, 5)
        for differ in (drawn ^ bits(keys ^ flip, 5), drawn ^ bits(keys, 5 ^ (1 << bit)), derive(keys, 5) ^ derive(keys ^ flip, 5)):
            assert np.abs(set_bits(differ) - n / 2).max() < 5 * np.sqrt(n / 4)


@pytest.mark.parametrize("stream", STREAMS)
def test_draws_are_uniform_and_pairs_of_neighbours_are_uniform_on_the_square(stream: Callable[[int], np.ndarray]) -> None:
    words = stream(N)
    for shift in (56, 0):  # the highest and the lowest eight bits
        cell = (words >> np.uint64(shift)) & np.uint64(255)
        assert stats.chisquare(np.bincount(cell.astype(np.int64), minlength=256)).pvalue > RARE
    cell = (words >> np.uint64(60)).astype(np.int64)
    assert stats.chisquare(np.bincount(cell[1:] * 16 + cell[:-1], minlength=256)).pvalue > RARE


def test_the_draws_of_a_key_are_independent_of_the_draws_of_the_keys_derived_from_it() -> None:
    keys = keys_of(N)
    for part, counter in itertools.product((0, 1, 4), (0, 1, 4)):
        differ = bits(keys, counter) ^ bits(derive(keys, part), counter)
        assert np.abs(set_bits(differ) - N / 2).max() < 5 * np.sqrt(N / 4), (part, counter)


def test_keys_of_different_seeds_and_parts_are_all_different() -> None:
    keys = [key(seed, *parts) for seed in range(30) for parts in [(), *itertools.product(range(8)), *itertools.product(range(8), range(8))]]
    assert len(np.unique(np.concatenate(keys))) == 30 * (1 + 8 + 64)
    assert len(np.unique(bits(keys_of(1000)[:, None], np.arange(1000)))) == 1_000_000


def test_a_negative_seed_and_a_very_large_one_are_seeds_too() -> None:
    assert key(-1).tolist() == key(2**64 - 1).tolist() != key(1).tolist()


def test_uniform_is_in_the_unit_interval_with_the_moments_of_the_uniform_distribution() -> None:
    values = uniform(key(2), np.arange(N))
    assert values.dtype == np.float64 and values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / N)
    assert abs(values.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / N)
    assert stats.kstest(values, "uniform").pvalue > RARE


@pytest.mark.parametrize("high", [1, 2, 3, 7, 100, 997])
def test_integers_are_uniform_below_their_bound(high: int) -> None:
    counts = np.bincount(integers(keys_of(N), 3, high), minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts).pvalue > RARE


def test_integers_take_a_bound_for_each_draw() -> None:
    high = np.arange(1, 5001)
    drawn = integers(key(4), np.arange(5000), high)
    assert drawn.dtype == np.int64 and (drawn >= 0).all() and (drawn < high).all()
    assert drawn[100:].tolist() == [int(integers(key(4), n, n + 1)[0]) for n in range(100, 5000)]


def test_a_coin_and_an_integer_of_one_draw_are_fair_and_independent() -> None:
    coins, numbers = coin_and_integer(keys_of(N), 5, np.full(N, 8))
    assert coins.dtype == bool and numbers.dtype == np.int64
    assert stats.chisquare(np.bincount(numbers * 2 + coins, minlength=16)).pvalue > RARE  # all sixteen outcomes alike
    assert numbers.tolist() == integers(keys_of(N), 5, 8).tolist()
    assert coin_and_integer(keys_of(3), 5, np.zeros(3))[1].tolist() == [0, 0, 0]


def test_every_place_is_as_likely_for_every_key() -> None:
    orders = np.array([shuffled(keys_of(5, seed), 7) for seed in range(20_000)])
    assert (np.sort(orders) == np.arange(5)).all()
    number = orders @ np.array([625, 125, 25, 5, 1])
    _, counts = np.unique(number, return_counts=True)
    assert len(counts) == 120 and stats.chisquare(counts).pvalue > RARE  # all permutations alike


def test_the_shuffle_sorts_by_the_upper_half_of_the_draws() -> None:
    keys = keys_of(100_000)
    assert shuffled(keys, 3).tolist() == np.argsort(bits(keys, 3) >> np.uint64(32), kind="stable").tolist()


@given(st.lists(st.integers(0, 400), max_size=20), st.integers(0, 100), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_binomial_half_counts_the_heads_of_coins_thrown_one_by_one(trials: list[int], counter: int, seed: int) -> None:
    keys = keys_of(len(trials), seed)
    expected = []
    for thrown, own in zip(trials, keys, strict=True):
        words = [int(bits(own.reshape(1), counter + 256 * word)[0]) for word in range(7)]
        expected.append(sum(words[coin // 64] >> (63 - coin % 64) & 1 for coin in range(thrown)))
    assert binomial_half(np.array(trials, dtype=np.int64), keys, counter).tolist() == expected


@pytest.mark.parametrize("trials", [0, 1, 2, 5, 63, 64, 65, 128, 1000])
def test_binomial_half_has_the_exact_mean_variance_and_distribution(trials: int) -> None:
    n = 20_000
    heads = binomial_half(np.full(n, trials), keys_of(n), 1)
    assert heads.min() >= 0 and heads.max() <= trials
    mean, variance = trials / 2, trials / 4
    assert abs(heads.mean() - mean) <= 5 * np.sqrt(variance / n)
    if trials:
        fourth_moment = variance**2 * (3 - 2 / trials)
        assert abs(((heads - mean) ** 2).mean() - variance) <= 5 * np.sqrt((fourth_moment - variance**2) / n)
    if 0 < trials <= 5:
        assert stats.chisquare(np.bincount(heads, minlength=trials + 1), n * stats.binom.pmf(range(trials + 1), trials, 0.5)).pvalue > RARE


def test_binomial_half_of_two_counters_is_independent() -> None:
    keys, trials = keys_of(N), np.full(N, 30)
    first, second = binomial_half(trials, keys, 4), binomial_half(trials, keys, 5)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize("size", [*range(1, 70), 100, 255, 256, 257, 1000, 4095, 4096, 4097, 100_000])
def test_permuted_sends_every_place_to_a_place_of_its_own(size: int) -> None:
    assert sorted(permuted(np.arange(size), size, key(size)).tolist()) == list(range(size))


@given(st.integers(1, 2**40), st.integers(0, 10**6), st.data())
@settings(max_examples=100, deadline=None)
def test_permuted_places_do_not_depend_on_which_others_are_asked_for(size: int, seed: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=30, unique=True)))
    together = permuted(places, size, key(seed))
    assert together.min() >= 0 and together.max() < size and len(np.unique(together)) == len(places)
    assert together.tolist() == [int(permuted(places[n : n + 1], size, key(seed))[0]) for n in range(len(places))]


def test_permuted_with_another_key_is_another_permutation() -> None:
    orders = {tuple(permuted(np.arange(50), 50, key(0, epoch)).tolist()) for epoch in range(200)}
    assert len(orders) == 200 and tuple(range(50)) not in orders


@pytest.mark.parametrize("size", [2, 3, 4, 7, 16])
def test_permuted_sends_a_place_everywhere_alike_over_keys(size: int) -> None:
    everywhere = np.array([permuted(np.arange(size), size, key(seed)) for seed in range(1200)])  # (1200, size)
    for place in range(size):
        assert stats.chisquare(np.bincount(everywhere[:, place], minlength=size)).pvalue > RARE
    if size > 4:  # and two neighbours are sent independently of each other, but for never to one place
        gap = (everywhere[:, 1] - everywhere[:, 0]) % size
        assert stats.chisquare(np.bincount(gap, minlength=size)[1:]).pvalue > RARE
