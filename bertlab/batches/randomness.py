"""Counter-based random numbers: a draw is a function of its key and its counter, never of what was drawn before.

So any batch can be made again by its number, by any worker, in any order. The generator is SplitMix64 read at random
places (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): the output function applied to
key + counter * GOLDEN. Arrays in, arrays out, about 10 ns a draw. All keys and bits are uint64.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_UPPER = np.uint64(0xFFFFFFFF00000000)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, in place: every input bit changes every output bit with probability one half."""
    x ^= x >> _SHIFTS[0]
    x *= _MULTIPLY_1
    x ^= x >> _SHIFTS[1]
    x *= _MULTIPLY_2
    x ^= x >> _SHIFTS[2]
    return x


def bits(keys: np.ndarray, counter: np.ndarray | int) -> np.ndarray:
    """64 random bits for each (key, counter), broadcast."""
    words = np.atleast_1d(np.asarray(counter)).astype(np.uint64)  # a copy, changed in place
    words += np.uint64(1)
    words *= _GOLDEN
    return _mix(keys + words)


def derive(keys: np.ndarray, part: np.ndarray | int) -> np.ndarray:
    """A new key for each (key, part): derive(derive(key(seed), epoch), document) names one document's draws in one epoch."""
    return _mix(bits(keys, part) ^ _GOLDEN)


def key(seed: int, *parts: int) -> np.ndarray:
    """The key of a seed and any further numbers. Shape (1,)."""
    result = np.array([seed % 2**64], dtype=np.uint64)
    for part in parts:
        result = derive(result, part)
    return derive(result, 0)


def uniform(keys: np.ndarray, counter: np.ndarray | int) -> np.ndarray:
    """Float64 in [0, 1) on a grid of 2**-53."""
    return _as_uniform(bits(keys, counter))


def _as_uniform(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint64(11)) * 2.0**-53


def integers(keys: np.ndarray, counter: np.ndarray | int, high: np.ndarray | int) -> np.ndarray:
    """Int64 in [0, high); the bias is below high * 2**-53."""
    return (uniform(keys, counter) * high).astype(np.int64)


def coin_and_integer(keys: np.ndarray, counter: int, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fair coin (bool) and, independent of it, an int64 in [0, high), of one draw: its lowest bit and its upper 53."""
    words = bits(keys, counter)
    return (words & np.uint64(1)).astype(bool), (_as_uniform(words) * high).astype(np.int64)


def shuffled(keys: np.ndarray, counter: int) -> np.ndarray:
    """The order in which the upper 32 bits of a random draw of each key put them; ties stay as they are. Shape (n,), int64."""
    assert len(keys) <= 2**32
    ranked = bits(keys, counter) & _UPPER
    ranked |= np.arange(len(keys), dtype=np.uint64)  # below each draw whose it is: numpy sorts faster than it finds an order
    ranked.sort()
    return (ranked & ~_UPPER).astype(np.int64)


def binomial_half(trials: np.ndarray, keys: np.ndarray, counter: int) -> np.ndarray:
    """How many of `trials` fair coins fall heads, exactly: random bits are counted. Shapes (n,), (n,) -> (n,) int64.

    Coins 64 w to 64 w + 63 are the highest bits of draw counter + 256 w, so counters below 256 do not meet.
    """
    left = trials.astype(np.uint64)
    heads = _heads(left, bits(keys, counter))
    rows, word = np.flatnonzero(left > 64), 1
    while len(rows):
        more = left[rows] - np.uint64(64 * word)
        heads[rows] += _heads(more, bits(keys[rows], counter + 256 * word))
        rows, word = rows[more > 64], word + 1
    return heads


def _heads(coins: np.ndarray, words: np.ndarray) -> np.ndarray:
    """How many of the `coins` highest bits (64 at most) of each word are set."""
    words >>= np.uint64(64) - np.minimum(coins, np.uint64(64))  # numpy's shift by 64 leaves nothing, as it should for no coin
    return np.bitwise_count(words).astype(np.int64)


def permuted(places: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where a keyed permutation of range(size) sends `places`; memory for `places` alone, however large `size` is.

    A balanced Feistel network on the next even number of bits, walked until it falls below `size` (Black and Rogaway 2002).
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    turns = [derive(key, turn) for turn in range(6)]
    result = places.astype(np.uint64)
    outside = np.arange(len(places))
    while len(outside):
        x = result[outside]
        left, right = x >> half, x & low
        for turn in turns:
            left, right = right, left ^ (bits(turn, right) & low)
        result[outside] = (left << half) | right
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)
