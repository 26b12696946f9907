"""Baselines: numbers worked out by hand, a task of words that TF-IDF must solve, and texts that hold no word at all."""

import math
import random

import numpy as np
import pytest

from bertlab.evaluation.baselines import (
    class_shares,
    commonest_tags,
    majority_class,
    most_frequent_set,
    tfidf_components,
    tfidf_cosines,
    tfidf_logistic_regression,
    tfidf_nearest,
    tfidf_one_vs_rest,
    tfidf_ridge,
    unigram_loss,
)


def test_the_unigram_loss_is_the_one_worked_out_by_hand() -> None:
    # counts plus one: 4, 2, 1, 1 of 8; masked once each but the third, twice the first
    train, masked = np.array([3, 1, 0, 0]), np.array([2, 1, 0, 1])
    expected = (2 * math.log(8 / 4) + math.log(8 / 2) + math.log(8 / 1)) / 4
    assert unigram_loss(train, masked) == pytest.approx(expected, abs=1e-15)


def test_a_piece_that_training_never_saw_costs_a_finite_loss() -> None:
    assert unigram_loss(np.array([98, 0]), np.array([0, 5])) == pytest.approx(math.log(100))


def test_the_majority_class_is_the_most_frequent_one_and_the_lowest_among_equals() -> None:
    assert majority_class([2, 0, 2, 1], 3).tolist() == [2, 2, 2]
    assert majority_class([3, 1, 1, 3, 0], 2).tolist() == [1, 1]
    assert majority_class([0, 1], 0).tolist() == []


def topics(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts of a topic's own words among common ones, three topics, the first of them half of all."""
    words = [["river", "bank", "stream"], ["violin", "opera", "choir"], ["planet", "comet", "orbit"]]
    draw = random.Random(seed)
    labels = [draw.choice([0, 0, 1, 2]) for _ in range(count)]
    return [" ".join(draw.choices(["the", "old", "of", "and"], k=6) + draw.choices(words[label], k=2)) for label in labels], labels


@pytest.mark.parametrize("count", [60, 200])  # with 100 texts or more a word must be in two of them
def test_tf_idf_solves_a_task_of_words_that_the_majority_class_does_not(count: int) -> None:
    texts, labels = topics(count, seed=0)
    others, gold = topics(100, seed=1)
    probabilities = tfidf_logistic_regression(texts, labels, others, 4)
    assert (probabilities.argmax(1) == np.array(gold)).mean() == 1.0
    assert probabilities.sum(1) == pytest.approx(1) and not probabilities[:, 3].any()  # a class of dev or test that train never has
    assert (majority_class(labels, len(others)) == np.array(gold)).mean() < 0.6


def test_tf_idf_gives_the_same_predictions_when_asked_again_and_sees_only_what_it_is_given() -> None:
    texts, labels = topics(80, seed=2)
    others, _ = topics(30, seed=3)
    first = tfidf_logistic_regression(texts, labels, others, 3)
    assert first.tolist() == tfidf_logistic_regression(texts, labels, others, 3).tolist()
    np.testing.assert_allclose(first[:10], tfidf_logistic_regression(texts, labels, others[:10], 3), atol=1e-12)


@pytest.mark.parametrize(
    "texts",
    [["a", "b", "!", "", "a"], [f"word{number} other{number}" for number in range(101)]],
    ids=["no word of two letters", "no word in two texts"],
)
def test_texts_without_a_word_to_count_leave_tf_idf_with_the_majority_class(texts: list[str]) -> None:
    labels = [0, 1, 1, 0, 1] + [1] * (len(texts) - 5)
    found = tfidf_logistic_regression(texts, labels, ["a", "what is this"], 3)
    assert found[0].tolist() == found[1].tolist() == [2 / len(texts), 1 - 2 / len(texts), 0]


def test_the_shares_of_classes_choose_the_majority_class() -> None:
    for labels in ([2, 0, 2, 1], [3, 1, 1, 3, 0]):
        shares = class_shares(labels, 2, 5)
        assert shares.shape == (2, 5) and shares[0].tolist() == [labels.count(number) / len(labels) for number in range(5)]
        assert shares.argmax(1).tolist() == majority_class(labels, 2).tolist()


def test_the_most_frequent_set_is_of_whole_sets_and_may_be_empty() -> None:
    sets = np.array([[1, 1], [1, 0], [1, 1], [0, 0]], dtype=bool)
    assert most_frequent_set(sets, 2).tolist() == [[True, True]] * 2  # not what each label alone would say, were there more [1, 0]
    assert most_frequent_set(np.zeros((3, 2), bool), 1).tolist() == [[False, False]]


def test_one_vs_rest_and_ridge_solve_tasks_of_words() -> None:
    texts, labels = topics(200, seed=4)
    others, gold = topics(60, seed=5)
    both, sets = [f"{a} {b}" for a, b in zip(texts, texts[1:], strict=False)], np.zeros((199, 5), bool)
    sets[np.arange(199), labels[:-1]] = sets[np.arange(199), labels[1:]] = sets[:, 4] = True  # on no text 3, on every text 4
    predicted = tfidf_one_vs_rest(both, sets, others) > 0.5
    right = np.zeros((60, 5), bool)
    right[np.arange(60), gold] = right[:, 4] = True
    assert (predicted == right).mean() > 0.95 and not predicted[:, 3].any() and predicted[:, 4].all()
    assert tfidf_one_vs_rest(["!", "!"], sets[:2], ["?"]).tolist() == [sets[:2].mean(0).tolist()]
    values = 1000.0 + 10 * np.array(labels)
    found = tfidf_ridge(texts, values, others)
    assert np.corrcoef(found, gold)[0, 1] > 0.95 and abs(found.mean() - (1000 + 10 * np.mean(gold))) < 2
    assert tfidf_ridge(["!", "?"], np.array([1.0, 2.0]), ["x y"]).tolist() == [1.5]


def test_a_word_has_the_tag_that_it_has_most_often_in_train() -> None:
    words = [["Oslo", "is", "Oslo"], ["Oslo", "May"], ["May"]]
    tags = [["B-loc", "O", "B-loc"], ["B-org", "B-per"], ["B-date"]]
    found, shares = commonest_tags(words, tags, [["May", "is", "unseen"], [], ["Oslo"]])
    assert found == [["B-date", "O", "O"], [], ["B-loc"]]
    assert [each.tolist() for each in shares] == [[0.5, 1.0, 0.0], [], [2 / 3]]


POOL = ["a card was lost", "the card of a friend", "money came late", "rivers run to the sea", "---"]


def test_tfidf_cosines_and_nearest_are_those_of_the_vectors_written_out() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    queries = ["my card was lost", "late money", "nothing here"]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(POOL)
    near = (words.transform(queries) @ words.transform(POOL).T).toarray()
    found = tfidf_nearest(queries, POOL, 2)
    assert [places[0] for places in found[:2]] == near[:2].argmax(1).tolist() == [0, 2] and found[2] == []
    assert [sorted(places) for places in tfidf_nearest(queries, POOL, 99)] == [[0, 1], [2], []], "only texts with a word of the query"
    assert tfidf_nearest(queries, ["-", "!"], 2) == [[], [], []]
    first, second = [*queries, "-"], [*POOL[:2], "nothing", "-"]
    each = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit([*first, *second])
    expected = (each.transform(first).toarray() * each.transform(second).toarray()).sum(1)
    np.testing.assert_allclose(tfidf_cosines(first, second), expected, atol=1e-12)
    assert expected[0] > 0.3 and expected[3] == 0 and tfidf_cosines(["-"], ["a b"]).tolist() == [0]


def test_tfidf_components_are_the_singular_vectors_of_the_tf_idf_written_out() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, labels = topics(120, seed=4)
    found = tfidf_components([*texts, "-"])
    assert found.shape == (121, 81) and not found[-1].any(), "81 words and pairs are in two texts"
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2).fit_transform([*texts, "-"]).toarray()
    left, lengths, _ = np.linalg.svd(words, full_matrices=False)
    np.testing.assert_allclose(np.abs(found[:, :2]), np.abs(left[:, :2] * lengths[:2]), atol=1e-6)
    assert found.tolist() == tfidf_components([*texts, "-"]).tolist()
    assert tfidf_components(texts[:3]).shape == (3, 3) and not tfidf_components(["-", "!"]).any()
