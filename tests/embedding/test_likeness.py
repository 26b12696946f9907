"""Finding what means the same: ranks by hand, and intervals of a difference that know when there is none."""

import numpy as np
import pytest

from bertlab.batches.labelled import Examples
from bertlab.embedding.likeness import Likeness, improvement, per_text, per_text_of_words, reciprocal_ranks, scored, scores
from bertlab.errors import DataError
from bertlab.evaluation.numbers import number_metrics

EXAMPLES = Examples(np.arange(40, dtype=np.int32), np.zeros(40, np.int8), np.arange(41), np.full(40, -1), 0)
NUMBERS = np.arange(40)


def test_ranks_by_hand():
    first = np.array([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [1.0, 0.0]])
    second = np.array([[2.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
    # to 0: rank 2 (1 is nearer); to 2: rank 1; to 0: its 0.74 is before the 0.71 of both others, rank 1; of a group that is not there: 0
    found = reciprocal_ranks(first, second, np.array([0, 2, 0, 9]), np.array([0, 1, 2]), itself=True)
    assert found.tolist() == [1 / 2, 1.0, 1.0, 0.0]


def test_the_nearest_of_several_right_ones_counts_and_a_text_is_not_its_own_like():
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    groups = np.array([0, 1, 0, 1])
    # 0 finds 2 behind 1 and 3; 1 finds 3 behind 0; and so the other way round
    assert reciprocal_ranks(vectors, vectors, groups, groups, itself=False).tolist() == [1 / 3, 1 / 2, 1 / 3, 1 / 2]
    assert reciprocal_ranks(vectors, vectors, groups, groups, itself=True).tolist() == [1, 1, 1, 1]


def test_vectors_that_are_all_equal_find_nothing():
    same = np.ones((40, 3))
    assert reciprocal_ranks(same, same, NUMBERS, NUMBERS, itself=True).tolist() == [1 / 40] * 40


def test_blocks_change_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(40, 8)), draw.normal(size=(40, 8))
    whole = reciprocal_ranks(first, second, NUMBERS, NUMBERS, itself=False)
    monkeypatch.setattr("bertlab.evaluation.vectors.COSINES_AT_ONCE", 130)
    assert reciprocal_ranks(first, second, NUMBERS, NUMBERS, itself=False).tolist() == whole.tolist()


def test_scores_and_the_interval_of_a_difference():
    task = Likeness("", EXAMPLES, EXAMPLES, (NUMBERS, NUMBERS))
    draw = np.random.default_rng(0)
    exact = draw.normal(size=(40, 8))
    good = per_text(task, lambda examples: exact)
    poor_vectors = {True: exact, False: draw.normal(size=(40, 8))}
    sides = iter([True, False])
    poor = per_text(task, lambda examples: poor_vectors[next(sides)])
    assert scores(task, good) == {"mrr": 1.0, "recall@1": 1.0, "n": 40}
    assert scores(task, np.array([1, 1 / 2, 1, 0, 1 / 4])) == {"mrr": pytest.approx(0.55), "recall@1": 0.4, "n": 5}
    found = improvement(task, poor, good)
    assert found["difference"] == pytest.approx(1 - poor.mean()) and 0 < found["low"] < found["difference"] < found["high"]
    assert (found["before"], found["after"]) == (scores(task, poor), scores(task, good))
    assert improvement(task, good, poor)["high"] < 0
    shuffled = poor[draw.permutation(40)]  # other texts, the same mean
    none = improvement(task, poor, shuffled)
    assert none["difference"] == pytest.approx(0) and none["low"] < 0 < none["high"]


def test_both_models_are_resampled_on_the_same_texts():
    draw = np.random.default_rng(0)
    before = draw.uniform(size=40)
    found = improvement(Likeness("", EXAMPLES, EXAMPLES, (NUMBERS, NUMBERS)), before, before + 0.1 + draw.normal(size=40) * 0.01)
    assert found["low"] < 0.1 < found["high"] < found["low"] + 0.02  # of two drawings apart it would be 0.25 wide


def test_scored_pairs_are_spearmans_correlation():
    gold = np.linspace(0, 1, 40)
    task = scored("pairs", EXAMPLES, EXAMPLES, gold.tolist())
    draw = np.random.default_rng(0)
    better, worse = gold + draw.normal(size=40) * 0.1, gold + draw.normal(size=40)
    assert task.headline == "spearman"
    assert scores(task, worse)["spearman"] == pytest.approx(number_metrics(gold, worse)["spearman"])
    found = improvement(task, worse, better)
    assert found["low"] > 0 and found["after"]["spearman"] > found["before"]["spearman"]


def test_too_few_scored_pairs_are_refused():
    with pytest.raises(DataError, match="order nothing"):
        scored("pairs", EXAMPLES, EXAMPLES, [1.0] * 40)
    with pytest.raises(DataError, match="give 10 pairs"):
        scored("pairs", EXAMPLES, EXAMPLES, [1.0, 2.0])


def examples_of(*texts: list[int]) -> Examples:
    """Tokens between a [CLS] (1) and a [SEP] (2)."""
    ids = np.concatenate([[1, *text, 2] for text in texts]).astype(np.int32)
    return Examples(ids, np.zeros(len(ids), np.int8), np.cumsum([0, *(len(text) + 2 for text in texts)]), np.full(len(texts), -1), 0)


@pytest.mark.parametrize("at_once", [1, 2**22])
def test_words_find_what_has_them_and_the_frames_of_texts_are_none(monkeypatch, at_once):
    monkeypatch.setattr("bertlab.embedding.likeness.COSINES_AT_ONCE", at_once)
    first, second = examples_of([5, 6], [7], [8], []), examples_of([5, 6, 9], [5, 7], [9, 9], [6])
    # 0 and 1 share words with their like alone or most; 2 and 3 with nobody, so that all are as near
    task = Likeness("", first, second, (np.arange(4), np.arange(4)))
    assert per_text_of_words(task).tolist() == [1, 1, 1 / 4, 1 / 4]
    within = Likeness("", examples_of([5, 6], [7], [5, 6, 7], [8]), None, (np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1])))
    assert per_text_of_words(within).tolist() == [1, 1 / 3, 1, 1 / 3]
    none = examples_of([], [])
    assert per_text_of_words(Likeness("", none, none, (np.arange(2), np.arange(2)))).tolist() == [0, 0]


def test_words_of_scored_pairs_are_sklearns_cosines():
    from sklearn.feature_extraction.text import TfidfVectorizer

    first, second = examples_of([5, 6], [7], [8]), examples_of([5], [7, 7, 6], [9])
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\d").fit(["5 6", "7", "8", "5", "7 7 6", "9"])
    expected = (words.transform(["5 6", "7", "8"]).toarray() * words.transform(["5", "7 7 6", "9"]).toarray()).sum(1)
    np.testing.assert_allclose(per_text_of_words(Likeness("", first, second, gold=np.arange(3.0))), expected, atol=1e-12)
    assert expected[0] > expected[2] == 0
