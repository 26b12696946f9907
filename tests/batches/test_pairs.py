"""bertlab/batches/pairs.py against the rules of create_pretraining_data, written once more over lists of sentences.

A token here is its own address, document d's begin at d * SPACING: so an address says which document it is of.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertlab.batches import randomness
from bertlab.batches.pairs import Pairs, plan_pairs

SPACING = 1000
KEY = randomness.key(11, 3)


@dataclass(frozen=True)
class Pair:
    """What the reference makes: tokens of A and B as they are trained on, and the label."""

    key: int
    a: list[int]
    b: list[int]
    is_random: bool
    is_forced: bool


def drawn_integer(key: np.ndarray, counter: int, high: int) -> int:
    return int(randomness.integers(key, counter, high)[0])


def drawn_coins(key: np.ndarray, counter: int, count: int) -> list[bool]:
    """`count` fair coins in the order in which they are thrown."""
    return [bool(int(randomness.bits(key, counter + 256 * (coin // 64))[0]) >> (63 - coin % 64) & 1) for coin in range(count)]


def joined(sentences: list[list[int]]) -> list[int]:
    return [token for sentence in sentences for token in sentence]


def reference_pairs(documents: list[list[list[int]]], numbers: list[int], *, max_length: int, short_seq_prob: float) -> list[Pair]:
    """The pairs of one pass, document by document, sentence by sentence, token by token; in that order."""
    room = max_length - 3
    made: list[Pair] = []
    for index, document in enumerate(documents):
        document_key = randomness.derive(KEY, numbers[index])
        is_short = float(randomness.uniform(document_key, 0)[0]) < short_seq_prob
        target = 2 + drawn_integer(document_key, 1, room - 1) if is_short else room
        chunk: list[list[int]] = []
        place = 0
        while place < len(document):
            chunk.append(document[place])
            place += 1
            if place < len(document) and len(joined(chunk)) < target:
                continue
            key = randomness.bits(document_key, place - len(chunk))
            a_end = 1 if len(chunk) == 1 else 1 + drawn_integer(key, 0, len(chunk) - 1)
            a = joined(chunk[:a_end])
            is_forced = len(chunk) == 1
            is_random = is_forced or int(randomness.bits(key, 0)[0]) % 2 == 1
            if is_random:
                other = drawn_integer(key, 1, len(documents) - 1)
                other += other >= index
                start = drawn_integer(key, 2, len(documents[other]))
                b: list[int] = []
                for sentence in documents[other][start:]:
                    b = b + sentence
                    if len(b) >= target - len(a):
                        break
                place -= len(chunk) - a_end
            else:
                b = joined(chunk[a_end:])
            a_fronts, b_fronts = iter(drawn_coins(key, 3, len(a))), iter(drawn_coins(key, 4, len(b)))
            while len(a) + len(b) > room:
                if len(a) > len(b):
                    a = a[1:] if next(a_fronts) else a[:-1]
                else:
                    b = b[1:] if next(b_fronts) else b[:-1]
            made.append(Pair(int(key[0]), a, b, is_random, is_forced))
            chunk = []
    return made


def planned(sentence_lengths: list[list[int]], numbers: list[int], max_length: int, short_seq_prob: float, key: np.ndarray = KEY) -> Pairs:
    """plan_pairs of documents that lie SPACING apart."""
    flat = np.array([length for document in sentence_lengths for length in document], dtype=np.int64)
    bounds = np.cumsum([0, *map(len, sentence_lengths)])
    named = np.array(numbers)
    return plan_pairs(flat, bounds, named * SPACING, named, key=key, max_length=max_length, short_seq_prob=short_seq_prob)


def runs(starts: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [list(range(start, start + length)) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]


def as_reference(pairs: Pairs) -> list[Pair]:
    sides = zip(runs(pairs.a_start, pairs.a_length), runs(pairs.b_start, pairs.b_length), strict=True)
    labels = zip(pairs.key.tolist(), pairs.is_random.tolist(), pairs.is_forced.tolist(), strict=True)
    return [Pair(key, a, b, is_random, is_forced) for (a, b), (key, is_random, is_forced) in zip(sides, labels, strict=True)]


def random_corpus(seed: int, documents: int = 400, sentences: int = 20, longest: int = 30) -> list[list[int]]:
    """Documents of 1 to `sentences` sentences of 1 to `longest` tokens."""
    generator = np.random.default_rng(seed)
    return [generator.integers(1, longest + 1, size=generator.integers(1, sentences + 1)).tolist() for _ in range(documents)]


def large_plan(max_length: int = 64, short_seq_prob: float = 0.1) -> tuple[list[list[int]], Pairs]:
    corpus = random_corpus(5, documents=3000)
    return corpus, planned(corpus, list(range(3000)), max_length, short_seq_prob)


corpora = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=9), min_size=2, max_size=6)


@given(corpora, st.integers(5, 64), st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1), st.data())
@settings(max_examples=200, deadline=None)
def test_the_plan_is_the_rules_applied_sentence_by_sentence(
    sentence_lengths: list[list[int]], max_length: int, short_seq_prob: float, data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.integers(0, 10**6), min_size=len(sentence_lengths), max_size=len(sentence_lengths), unique=True))
    documents = []
    for number, lengths in zip(numbers, sentence_lengths, strict=True):
        ends = (number * SPACING + np.cumsum(lengths)).tolist()
        documents.append([list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)])
    expected = reference_pairs(documents, numbers, max_length=max_length, short_seq_prob=short_seq_prob)
    assert as_reference(planned(sentence_lengths, numbers, max_length, short_seq_prob)) == expected


def test_label_one_means_another_document_and_label_zero_means_that_b_comes_after_a() -> None:
    for max_length in (5, 16, 64):
        _, pairs = large_plan(max_length)
        a_document, b_document = pairs.a_start // SPACING, pairs.b_start // SPACING
        assert (a_document != b_document)[pairs.is_random].all()
        follows = (a_document == b_document) & (pairs.b_start >= pairs.a_start + pairs.a_length)
        assert follows[~pairs.is_random].all()
        assert 0 < pairs.is_random.sum() < len(pairs.is_random)


def test_a_random_b_is_of_the_other_document_even_where_there_are_only_two() -> None:
    for seed in range(50):
        pairs = planned(random_corpus(seed, documents=2), [3, 8], 32, 0.1)
        assert ((pairs.a_start // SPACING != pairs.b_start // SPACING) == pairs.is_random).all()


def test_a_random_b_is_of_every_other_document_alike() -> None:
    others = []
    for epoch in range(400):
        pairs = planned([[4] * 6] * 5, list(range(5)), 19, 0.0, key=randomness.key(0, epoch)).take(slice(0, 5))
        gap = (pairs.b_start // SPACING - pairs.a_start // SPACING) % 5
        others.extend(gap[pairs.is_random].tolist())
    assert stats.chisquare(np.bincount(others, minlength=5)[1:]).pvalue > 1e-6


@given(st.integers(1, 6), st.integers(2, 8), st.lists(st.integers(1, 20), min_size=2, max_size=6), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_every_sentence_is_once_in_an_a_or_a_true_b(size: int, fit: int, sentences: list[int], short_seq_prob: float, seed: int) -> None:
    """Sentences of one size that divides the room are never cut, so that the plan shows whole sentences."""
    key = randomness.key(seed)
    pairs = planned([[size] * count for count in sentences], list(range(len(sentences))), 3 + size * fit, short_seq_prob, key)
    own = runs(pairs.a_start, pairs.a_length)
    own += [run for run, is_random in zip(runs(pairs.b_start, pairs.b_length), pairs.is_random, strict=True) if not is_random]
    assert all(len(run) % size == 0 and run[0] % SPACING % size == 0 for run in own)
    expected = [number * SPACING + token for number, count in enumerate(sentences) for token in range(count * size)]
    assert sorted(token for run in own for token in run) == expected


def test_unused_sentences_of_a_random_pair_begin_the_next_chunk() -> None:
    pairs = planned([[4] * 12] * 50, list(range(50)), 19, 0.0)
    ends = np.where(pairs.is_random, pairs.a_start + pairs.a_length, pairs.b_start + pairs.b_length)
    put_back = 0
    for document in range(50):
        own = pairs.a_start // SPACING == document
        assert pairs.a_start[own].tolist() == [document * SPACING, *ends[own][:-1].tolist()]
        assert ends[own][-1] == document * SPACING + 48
        put_back += int((pairs.is_random & ~pairs.is_forced)[own].sum())
    assert put_back > 50


def test_a_document_draws_its_target_length_once() -> None:
    """With one-token sentences a pair that did not meet the end of a document is exactly as long as its target."""
    count = 3000
    pairs = planned([[1] * 400] * count, list(range(count)), 23, 0.4)
    document = pairs.a_start // SPACING
    a_end, b_end = (pairs.a_start + pairs.a_length) % SPACING, (pairs.b_start + pairs.b_length) % SPACING
    lengths = (pairs.lengths - 3)[(a_end < 380) & (b_end < 380)]
    document = document[(a_end < 380) & (b_end < 380)]
    longest, shortest = np.zeros(count, dtype=np.int64), np.full(count, 99)
    np.maximum.at(longest, document, lengths)
    np.minimum.at(shortest, document, lengths)
    assert (longest == shortest).all()
    # 20 tokens of room: 0.4 of the targets are uniform on 2..20, which is 20 itself once in 19
    probabilities = np.full(19, 0.4 / 19)
    probabilities[-1] += 0.6
    assert stats.chisquare(np.bincount(longest, minlength=21)[2:], count * probabilities).pvalue > 1e-6


@pytest.mark.parametrize(("short_seq_prob", "targets"), [(0.0, {20}), (1.0, set(range(2, 21)))])
def test_short_seq_prob_zero_never_shortens_and_one_always_draws(short_seq_prob: float, targets: set[int]) -> None:
    pairs = planned([[1] * 100] * 500, list(range(500)), 23, short_seq_prob)
    pairs = pairs.take(pairs.a_start < 80 + pairs.a_start // SPACING * SPACING)
    whole = (pairs.b_start + pairs.b_length) % SPACING < 100
    assert set((pairs.lengths - 3)[whole].tolist()) == targets


def test_more_than_half_are_random_only_because_of_chunks_of_one_sentence() -> None:
    _, pairs = large_plan()
    tossed = pairs.is_random[~pairs.is_forced]
    assert len(tossed) > 10_000 and abs(tossed.mean() - 0.5) < 5 * np.sqrt(0.25 / len(tossed))
    assert pairs.is_forced.any() and pairs.is_random[pairs.is_forced].all()
    assert pairs.is_random.mean() > 0.5


def test_a_chunk_is_forced_exactly_when_it_holds_one_sentence() -> None:
    alone = planned([[7]] * 100, list(range(100)), 64, 0.0)
    assert alone.is_forced.all() and alone.is_random.all() and len(alone.key) == 100
    two = planned([[7, 7]] * 100, list(range(100)), 64, 0.0)
    is_first = two.a_start % SPACING == 0
    first_chunks = two.take(is_first)
    assert len(first_chunks.key) == 100 and not first_chunks.is_forced.any() and 20 < first_chunks.is_random.sum() < 80
    # what a random first chunk puts back is one sentence, at the end of its document
    assert two.is_forced[~is_first].all() and len(two.key) == 100 + first_chunks.is_random.sum()


def test_a_is_the_first_one_to_all_but_one_sentences_of_its_chunk_alike() -> None:
    pairs = planned([[1] * 100] * 5000, list(range(5000)), 3 + 8, 0.0)
    pairs = pairs.take(pairs.a_start % SPACING == 0)
    assert len(pairs.key) == 5000
    assert stats.chisquare(np.bincount(pairs.a_length, minlength=8)[1:]).pvalue > 1e-6 and pairs.a_length.max() == 7


@pytest.mark.parametrize("max_length", [5, 6, 9, 33, 64, 128])
def test_pairs_fit_and_neither_side_is_ever_empty(max_length: int) -> None:
    _, pairs = large_plan(max_length)
    assert pairs.lengths.max() == max_length
    assert pairs.a_length.min() >= 1 and pairs.b_length.min() >= 1


@pytest.mark.parametrize(
    ("a", "b", "room", "expected"),
    [
        (10, 4, 12, (8, 4)),  # the longer side loses
        (4, 10, 12, (4, 8)),
        (10, 10, 12, (6, 6)),  # equal sides lose in turn
        (10, 10, 13, (7, 6)),  # B first
        (30, 4, 9, (5, 4)),
        (4, 30, 9, (4, 5)),
        (6, 30, 9, (5, 4)),
        (5, 5, 10, (5, 5)),
        (40, 40, 2, (1, 1)),
    ],
)
def test_truncation_takes_from_the_longer_side_and_from_b_when_both_are_equal(a: int, b: int, room: int, expected: tuple[int, int]) -> None:
    """Two documents of one sentence each: every pair is forced, A is the one, B is the other."""
    pairs = planned([[a], [b]], [0, 1], room + 3, 0.0)
    assert (int(pairs.a_length[0]), int(pairs.b_length[0])) == expected


def test_tokens_are_cut_from_the_front_and_the_back_by_a_fair_coin_on_each_side_alone() -> None:
    count = 20_000
    pairs = planned([[40]] * count, list(range(count)), 23, 0.0)  # 80 tokens of which 20 stay: 30 coins a side
    fronts = pairs.a_start % SPACING, pairs.b_start % SPACING
    for front in fronts:
        assert front.min() >= 0 and front.max() <= 30
        assert abs(front.mean() - 15) < 5 * np.sqrt(7.5 / count)
        assert abs(front.var() - 7.5) < 5 * np.sqrt(7.5**2 * (2 - 2 / 30) / count)
    assert abs(np.corrcoef(*fronts)[0, 1]) < 5 / np.sqrt(count)


def test_every_pair_of_every_epoch_has_a_key_of_its_own() -> None:
    corpus = random_corpus(5)
    keys = [planned(corpus, list(range(400)), 32, 0.1, key=randomness.key(0, epoch)).key for epoch in range(3)]
    assert len(np.unique(np.concatenate(keys))) == sum(map(len, keys))


def test_another_key_gives_other_pairs_and_the_same_key_the_same() -> None:
    corpus = random_corpus(5)
    numbers = list(range(400))
    assert as_reference(planned(corpus, numbers, 32, 0.1)) == as_reference(planned(corpus, numbers, 32, 0.1))
    other = planned(corpus, numbers, 32, 0.1, key=randomness.key(11, 4))
    assert [pair.a for pair in as_reference(other)] != [pair.a for pair in as_reference(planned(corpus, numbers, 32, 0.1))]


def test_take_gives_the_named_pairs_in_the_named_order() -> None:
    _, pairs = large_plan()
    everything = as_reference(pairs)
    assert as_reference(pairs.take(np.array([5, 0, 5]))) == [everything[5], everything[0], everything[5]]
    assert as_reference(pairs.take(slice(3, 6))) == everything[3:6]
