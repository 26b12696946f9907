"""bertlab/batches/masking.py on a million tokens: which are hidden, by what, and that each sequence draws for itself.

Every seed is fixed; bounds are 5 sigma, or a tail of 1e-6.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bertlab.batches import randomness
from bertlab.batches.masking import Masking

UNK, CLS, SEP, MASK = 1, 2, 3, 4
VOCABULARY = 1000
RARE = 1e-6


def special_table() -> np.ndarray:
    """BERT's five, a hundred reserved ones after them, every 37th: special ids lie everywhere in the vocabulary."""
    special = np.zeros(VOCABULARY, dtype=bool)
    special[:105] = True
    special[::37] = True
    return special


SPECIAL = special_table()
ORDINARY = np.flatnonzero(~SPECIAL)
CONTINUES = np.zeros(VOCABULARY, dtype=bool)
CONTINUES[ORDINARY[::3]] = True
GOOGLE = Masking(MASK, SPECIAL)
BERNOULLI = Masking(MASK, SPECIAL, mode="bernoulli")
WORDS = Masking(MASK, SPECIAL, continues_word=CONTINUES)
RECIPES = [
    GOOGLE,
    replace(GOOGLE, max_predictions=7),
    replace(GOOGLE, rate=0.4),
    BERNOULLI,
    replace(BERNOULLI, rate=0.02),
    WORDS,
    replace(WORDS, max_predictions=7),
    replace(WORDS, rate=0.3),
]


def text(num_tokens: int = 1_000_000, seed: int = 0, longest: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences [CLS] A [SEP] B [SEP] of 5 tokens on; one text token in fifty is special, one in ten of the shortest all [UNK]."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, longest + 1, size=2 * num_tokens // longest)
    ids = generator.choice(ORDINARY, size=lengths.sum())
    ids[generator.random(len(ids)) < 0.02] = UNK
    ids[generator.random(len(ids)) < 0.002] = 60
    ends = np.cumsum(lengths)
    starts = ends - lengths
    for start, end in zip(starts[lengths < 10][::10], ends[lengths < 10][::10], strict=True):
        ids[start:end] = UNK
    ids[starts], ids[ends - 1], ids[starts + 1 + (lengths - 3) // 2] = CLS, SEP, SEP
    return ids, lengths, randomness.derive(randomness.key(seed, 1), np.arange(len(lengths)))


IDS, LENGTHS, KEYS = text()
SEQUENCE = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
ELIGIBLE = np.bincount(SEQUENCE[~SPECIAL[IDS]], minlength=len(LENGTHS))  # tokens of each sequence that may be chosen


def chosen_counts(positions: np.ndarray) -> np.ndarray:
    return np.bincount(SEQUENCE[positions], minlength=len(LENGTHS))


def test_the_material_is_what_the_tests_need() -> None:
    assert len(IDS) > 900_000 and (ELIGIBLE == 0).any() and (LENGTHS == 5).any() and (ELIGIBLE < LENGTHS - 3).any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_originals_are_rebuilt_from_the_masked_ids_and_the_labels(recipe: Masking) -> None:
    before = IDS.copy()
    masked, positions, labels = recipe.apply(IDS, LENGTHS, KEYS)
    assert (before == IDS).all() and (np.diff(positions) > 0).all()
    rebuilt = masked.copy()
    rebuilt[positions] = labels
    assert (rebuilt == IDS).all()
    untouched = np.ones(len(IDS), dtype=bool)
    untouched[positions] = False
    assert (masked == IDS)[untouched].all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_special_token_is_chosen_and_none_but_the_mask_is_drawn(recipe: Masking) -> None:
    masked, positions, labels = recipe.apply(IDS, LENGTHS, KEYS)
    assert not SPECIAL[labels].any()
    drawn = masked[positions]
    assert not SPECIAL[drawn[drawn != MASK]].any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_sequence_with_an_eligible_token_has_a_choice_and_no_other_has(recipe: Masking) -> None:
    _, positions, _ = recipe.apply(IDS, LENGTHS, KEYS)
    assert ((chosen_counts(positions) > 0) == (ELIGIBLE > 0)).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_of_special_tokens_alone_stays_as_it_is(recipe: Masking) -> None:
    ids = np.array([CLS, UNK, SEP, UNK, SEP] * 3)
    masked, positions, labels = recipe.apply(ids, np.array([5, 5, 5]), KEYS[:3])
    assert (masked == ids).all() and len(positions) == len(labels) == 0


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.02])  # of up to 25 tokens 2 % are none
@pytest.mark.parametrize("max_predictions", [2**31, 20, 7, 1])
def test_google_mode_chooses_exactly_the_count_of_berts_data_script(rate: float, max_predictions: int) -> None:
    _, positions, _ = replace(GOOGLE, rate=rate, max_predictions=max_predictions).apply(IDS, LENGTHS, KEYS)
    wanted = [min(max_predictions, max(1, round(length * rate))) for length in LENGTHS.tolist()]
    assert chosen_counts(positions).tolist() == np.minimum(wanted, ELIGIBLE).tolist()


def test_google_mode_rounds_halves_to_even_as_python_does() -> None:
    """A rate of one quarter is exact in binary: 6, 10, 14 and 18 tokens give 1.5, 2.5, 3.5 and 4.5."""
    lengths = np.array([6, 10, 14, 18])
    ids = np.full(lengths.sum(), ORDINARY[0])
    _, positions, _ = replace(GOOGLE, rate=0.25).apply(ids, lengths, KEYS[:4])
    assert np.bincount(np.repeat(np.arange(4), lengths)[positions]).tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_bernoulli_mode_chooses_every_eligible_token_by_its_own_coin(rate: float) -> None:
    _, positions, _ = replace(BERNOULLI, rate=rate).apply(IDS, LENGTHS, KEYS)
    # the count of a sequence is binomial(n, rate), and 1 instead of 0
    n = ELIGIBLE[ELIGIBLE > 0]
    none = (1 - rate) ** n
    mean = (rate * n + none).sum()
    variance = (rate * (1 - rate) * n + none * (1 - none) - 2 * rate * n * none).sum()
    counts = chosen_counts(positions)[ELIGIBLE > 0]
    assert abs(counts.sum() - mean) < 5 * np.sqrt(variance)
    long = n >= 80  # here no sequence goes without a coin, and the spread is that of independent ones
    spread = ((counts[long] - rate * n[long]) ** 2 / (rate * (1 - rate) * n[long])).sum()
    assert abs(spread - long.sum()) < 5 * np.sqrt(2 * long.sum())


def test_bernoulli_mode_on_long_sequences_chooses_fifteen_per_cent() -> None:
    ids, lengths = np.full(1_000_000, ORDINARY[5]), np.full(2000, 500)
    _, positions, _ = BERNOULLI.apply(ids, lengths, KEYS[:2000])
    assert abs(len(positions) / 1e6 - 0.15) < 5 * np.sqrt(0.15 * 0.85 / 1e6)


@pytest.mark.parametrize("recipe", [GOOGLE, BERNOULLI, WORDS])
def test_of_the_chosen_eighty_per_cent_become_the_mask_ten_a_random_token_and_ten_stay(recipe: Masking) -> None:
    masked, positions, labels = recipe.apply(IDS, LENGTHS, KEYS)
    total, drawn = len(positions), masked[positions]
    same_by_chance = 0.1 / len(ORDINARY)
    shares = {"mask": (0.8, drawn == MASK), "stays": (0.1 + same_by_chance, drawn == labels)}
    shares["random"] = (0.1 - same_by_chance, (drawn != MASK) & (drawn != labels))
    for name, (probability, observed) in shares.items():
        assert abs(observed.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / total), name


def test_random_replacements_are_uniform_over_the_ordinary_vocabulary() -> None:
    masked, positions, labels = GOOGLE.apply(IDS, LENGTHS, KEYS)
    drawn = masked[positions]
    counts = np.bincount(drawn[(drawn != MASK) & (drawn != labels)], minlength=VOCABULARY)[ORDINARY]
    # a replacement that equals its original is not seen: a share of 1/vocabulary, alike for all
    assert counts.sum() > 10_000 and stats.chisquare(counts).pvalue > RARE


def test_what_replaces_a_token_is_independent_of_its_place_and_of_its_neighbours() -> None:
    masked, positions, _ = GOOGLE.apply(IDS, LENGTHS, KEYS)
    is_mask = masked[positions] == MASK
    for of in (np.arange(len(positions)) % 2, positions % 7, np.r_[0, is_mask[:-1]]):
        table = np.array([np.bincount(of[is_mask]), np.bincount(of[~is_mask])])
        assert stats.chi2_contingency(table).pvalue > RARE


@pytest.mark.parametrize("recipe", [GOOGLE, BERNOULLI, WORDS])
def test_every_position_is_chosen_alike(recipe: Masking) -> None:
    count, length = 20_000, 40
    ids = np.tile(np.r_[CLS, np.full(length - 3, ORDINARY[1]), SEP, SEP], count)  # ORDINARY[1] continues no word
    keys = randomness.derive(randomness.key(9), np.arange(count))
    _, positions, _ = recipe.apply(ids, np.full(count, length), keys)
    observed = np.bincount(positions % length, minlength=length)
    assert not observed[[0, -2, -1]].any()
    places, share = length - 3, len(positions) / count / (length - 3)
    # an exact count a sequence draws without replacement, whose table varies less than chance by this factor
    spread = 1.0 if recipe.mode == "bernoulli" else places / (places - 1)
    statistic = ((observed[1:-2] - count * share) ** 2).sum() / (count * share * (1 - share) * spread)
    assert stats.chi2.sf(statistic, places - 1) > RARE and stats.chi2.cdf(statistic, places - 1) > RARE


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_mask_of_a_sequence_does_not_depend_on_its_neighbours(recipe: Masking) -> None:
    ids, lengths, keys = text(30_000, seed=3)
    starts = np.cumsum(lengths) - lengths
    masked, positions, _ = recipe.apply(ids, lengths, keys)
    is_chosen = np.zeros(len(ids), dtype=bool)
    is_chosen[positions] = True

    order = np.random.default_rng(0).permutation(len(lengths))
    shuffled = np.concatenate([np.arange(starts[n], starts[n] + lengths[n]) for n in order])
    masked_shuffled, positions_shuffled, _ = recipe.apply(ids[shuffled], lengths[order], keys[order])
    assert (masked_shuffled == masked[shuffled]).all()
    assert positions_shuffled.tolist() == np.flatnonzero(is_chosen[shuffled]).tolist()
    for n in range(0, len(lengths), 20):
        own = slice(starts[n], starts[n] + lengths[n])
        alone, positions_alone, _ = recipe.apply(ids[own], lengths[n : n + 1], keys[n : n + 1])
        assert (alone == masked[own]).all() and positions_alone.tolist() == np.flatnonzero(is_chosen[own]).tolist()


@pytest.mark.parametrize("recipe", [GOOGLE, BERNOULLI, WORDS])
def test_sequences_of_one_text_with_different_keys_draw_different_masks(recipe: Masking) -> None:
    """Of 60 places 9 are chosen: two sequences share 9 * 9 / 60 = 1.35 places on average, hardly ever many."""
    count, length = 2000, 60
    ids = np.tile(np.full(length, ORDINARY[1]), count)
    _, positions, _ = recipe.apply(ids, np.full(count, length), randomness.derive(randomness.key(9), np.arange(count)))
    is_chosen = np.zeros((count, length), dtype=bool)
    is_chosen.flat[positions] = True
    assert len(np.unique(is_chosen, axis=0)) == count
    shared = (is_chosen[1:] & is_chosen[:-1]).sum(axis=1)
    assert abs(shared.mean() - 1.35) < 5 * np.sqrt(1.35 / count)


def reference_words(ids: np.ndarray, key: np.ndarray, recipe: Masking) -> list[int]:
    """Whole-word masking of one sequence, word by word: the chosen places."""
    assert recipe.continues_word is not None
    words: list[list[int]] = []
    for place, id in enumerate(ids.tolist()):
        if recipe.special[id]:
            continue
        if recipe.continues_word[id] and words and words[-1][-1] == place - 1:
            words[-1].append(place)
        else:
            words.append([place])
    own = randomness.derive(key, 0)
    drawn = sorted(words, key=lambda word: int(randomness.bits(own, 3 * word[0])[0]) >> 24)
    budget = min(recipe.max_predictions, max(1, round(recipe.rate * len(ids))))
    chosen: list[int] = []
    for word in drawn:
        if len(chosen) + len(word) <= budget:
            chosen += word
    return sorted(chosen or [place for word in drawn[:1] for place in word])


@pytest.mark.parametrize("recipe", [WORDS, replace(WORDS, max_predictions=7), replace(WORDS, rate=0.3)])
def test_whole_words_are_those_of_a_plain_loop_over_words(recipe: Masking) -> None:
    ids, lengths, keys = text(40_000, seed=8)
    starts = np.cumsum(lengths) - lengths
    bare = starts[3::3]
    ids[bare - 1], ids[bare] = ORDINARY[1], ORDINARY[0]  # a word at the end, and in the next sequence a piece that would go on with it
    _, positions, _ = recipe.apply(ids, lengths, keys)
    expected = [
        start + place
        for start, length, key in zip(starts.tolist(), lengths.tolist(), keys, strict=True)
        for place in reference_words(ids[start : start + length], key.reshape(1), recipe)
    ]
    assert positions.tolist() == expected


@pytest.mark.parametrize("recipe", [WORDS, replace(WORDS, max_predictions=7), replace(WORDS, rate=0.3)])
def test_whole_words_are_hidden_whole_and_keep_the_budget(recipe: Masking) -> None:
    _, positions, _ = recipe.apply(IDS, LENGTHS, KEYS)
    chosen = np.zeros(len(IDS), dtype=bool)
    chosen[positions] = True
    inside = CONTINUES[IDS[1:]] & ~SPECIAL[IDS[:-1]] & ~SPECIAL[IDS[1:]] & (SEQUENCE[1:] == SEQUENCE[:-1])
    assert (chosen[1:] == chosen[:-1])[inside].all()
    counts = chosen_counts(positions)
    budget = np.minimum(recipe.max_predictions, np.maximum(1, np.rint(recipe.rate * LENGTHS)))
    over = np.flatnonzero(counts > budget)  # only where no word fits: then one word alone
    starts_word = chosen.copy()
    starts_word[1:] &= ~inside
    assert (chosen_counts(np.flatnonzero(starts_word))[over] == 1).all() and len(over) < len(LENGTHS) / 20
    assert counts.sum() > 0.97 * np.minimum(budget, ELIGIBLE).sum()


def test_the_first_piece_after_a_separator_begins_a_word_of_its_own() -> None:
    """Truncation may leave B with a piece in front that continued a word: it must not join A's last word."""
    start, rest = ORDINARY[1], ORDINARY[0]
    ids = np.array([CLS, start, rest, SEP, rest, start, SEP])
    seen = set()
    for key in KEYS[:200]:
        _, positions, _ = replace(WORDS, rate=0.3).apply(ids, np.array([7]), key.reshape(1))
        seen.add(tuple(positions.tolist()))
    assert seen == {(1, 2), (4, 5)}


def test_a_word_longer_than_the_budget_is_taken_where_no_other_fits() -> None:
    start, rest = ORDINARY[1], ORDINARY[0]
    _, positions, _ = WORDS.apply(np.array([CLS, start, rest, rest, SEP]), np.array([5]), KEYS[:1])
    assert positions.tolist() == [1, 2, 3]


def test_no_sequence_at_all_is_no_choice_at_all() -> None:
    nothing = np.empty(0, dtype=np.int64)
    for recipe in RECIPES:
        assert all(len(part) == 0 for part in recipe.apply(nothing, nothing, KEYS[:0]))


def test_whole_words_by_coins_are_refused() -> None:
    with pytest.raises(AssertionError):
        Masking(MASK, SPECIAL, continues_word=CONTINUES, mode="bernoulli")
