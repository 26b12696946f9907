"""bertlab/evaluation/answers.py: SQuAD's conventions by hand, thresholds by trying them all, intervals by drawing one by one.

The values of `GOLDEN` are those of squad_metrics.py in transformers 4.46, the last that installs beside nothing of ours.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.evaluation.answers import (
    ANSWER_SCORES,
    answer_intervals,
    answer_metrics,
    answer_scores,
    best_threshold,
    exact_match,
    normalised_answer,
    word_f1,
)
from bertlab.evaluation.resampling import units_of_scores
from bertlab.evaluation.significance import paired_bootstrap, randomisation_p

GOLDEN = [
    (["the river Thames"], "River  thames.", 1, 1),
    (["346 km"], "346 km long", 0, 0.8),
    (["1,000"], "1000", 1, 1),
    (["Oxford", "Oxford and London"], "in Oxford and in London", 0, 0.75),
    (["a", "the"], "", 1, 1),
    (["the"], "An", 1, 1),
    (["the", "river"], "", 0, 0),
    (["the"], "river", 0, 0),
    ([], "", 1, 1),
    ([], "river", 0, 0),
    (["river"], "", 0, 0),
    (["theatre"], "the atre", 0, 0),
    (["L'\u00e9t\u00e9"], "l\u00e9t\u00e9", 1, 1),
    (["\u201cyes\u201d"], "yes", 0, 0),
    (["a a b b"], "a b b b", 0, 0.8),
]


@pytest.mark.parametrize(("gold", "predicted", "exact", "f1"), GOLDEN)
def test_scores_are_those_of_squads_script(gold: list[str], predicted: str, exact: float, f1: float) -> None:
    assert exact_match(gold, predicted) == exact
    assert word_f1(gold, predicted) == pytest.approx(f1, abs=1e-12)


def test_answers_are_levelled_in_squads_order() -> None:
    assert normalised_answer("  The U.S.\u00a0of A, an\tOLD   friend ") == "us of old friend"
    assert normalised_answer("a-the b") == "athe b"  # punctuation goes before articles: what it joins stays


def test_means_are_told_apart_by_whether_there_is_an_answer() -> None:
    gold, predicted = [["Oxford"], ["Oxford"], [], []], ["Oxford", "in Oxford", "", "x"]
    assert answer_metrics(gold, predicted) == {
        "n": 4,
        "exact_match": 0.5,
        "f1": pytest.approx((1 + 2 / 3 + 1) / 4),
        "has_answer": {"n": 2, "exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)},
        "no_answer": {"n": 2, "exact_match": 0.5, "f1": 0.5},
    }
    assert set(answer_metrics(gold[:2], predicted[:2])) == {"n", "exact_match", "f1"}
    assert set(answer_metrics(gold[2:], predicted[2:])) == {"n", "exact_match", "f1", "no_answer"}


@given(
    st.lists(
        st.tuples(st.sampled_from([[], ["a b"], ["c d", "e"]]), st.sampled_from(["a b", "b", "d c", "e", ""]), st.integers(-3, 3)),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_the_threshold_is_the_best_of_all(questions: list[tuple[list[str], str, int]]) -> None:
    gold, best = [row[0] for row in questions], [row[1] for row in questions]
    no_answer = [row[2] for row in questions]

    def mean_f1(threshold: float | None) -> float:
        chosen = [text if threshold is None or low <= threshold else "" for text, low in zip(best, no_answer, strict=True)]
        return float(answer_scores(gold, chosen)[:, 1].mean())

    threshold, mean = best_threshold(np.array(no_answer, dtype=float), gold, best)
    assert mean == pytest.approx(mean_f1(threshold))
    assert mean == pytest.approx(max(map(mean_f1, [None, -9.0, *(value + 0.5 for value in range(-4, 4))])))
    assert threshold is None or np.isfinite(threshold)


def test_a_threshold_lies_between_two_questions_and_is_none_where_all_are_answered() -> None:
    gold: list[list[str]] = [["x"], ["x"], [], []]
    assert best_threshold(np.array([-4.0, -2.0, 1.0, 3.0]), gold, ["x", "x", "y", "y"]) == (-0.5, 1.0)
    assert best_threshold(np.array([-4.0, -2.0, 1.0, 3.0]), [[], [], [], []], ["y"] * 4) == (-5.0, 1.0)
    assert best_threshold(np.array([-4.0, -2.0]), gold[:2], ["x", "y"]) == (None, 0.5)
    assert best_threshold(np.array([-4.0, float("inf")]), [["x"], []], ["x", ""]) == (None, 1.0)


def random_answers(n: int, seed: int) -> tuple[list[list[str]], list[str]]:
    draw = np.random.default_rng(seed)
    words = np.array(["one", "two", "three", "four"])
    gold = [[" ".join(words[: draw.integers(1, 5)])] for _ in range(n)]
    return gold, [" ".join(words[: draw.integers(1, 5)]) if draw.random() < 0.5 else texts[0] for texts in gold]


def test_intervals_are_those_of_questions_drawn_one_by_one() -> None:
    gold, predicted = random_answers(400, 0)
    interval: Any = answer_intervals(gold, predicted, resamples=4000, seed=2)
    assert (interval["n"], interval["R"], interval["seed"], interval["level"]) == (400, 4000, 2, 0.95)
    scores = answer_scores(gold, predicted)
    draw = np.random.default_rng(5)
    means = scores[draw.integers(400, size=(4000, 400)), 1].mean(1)
    assert (interval["f1"]["low"], interval["f1"]["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.004)
    assert interval["exact_match"]["method"] == "Wilson" and interval["f1"]["method"] == "percentile bootstrap"


def test_questions_about_one_text_are_drawn_together() -> None:
    gold, predicted = random_answers(300, 1)
    once: Any = answer_intervals(gold, predicted, resamples=3000)
    tripled: Any = answer_intervals(gold * 3, predicted * 3, resamples=3000, clusters=np.tile(np.arange(300), 3))
    for name in ("f1", "exact_match"):
        width = [part[name]["high"] - part[name]["low"] for part in (once, tripled)]
        assert width[1] == pytest.approx(width[0], rel=0.12)
    assert tripled["exact_match"]["method"] == "percentile bootstrap"


def test_two_readers_are_compared_on_the_same_questions() -> None:
    gold, predicted = random_answers(400, 2)
    a, b = answer_scores(gold, predicted)[:, 1], answer_scores(gold, predicted[::-1])[:, 1]
    both = np.stack([answer_scores(gold, each) for each in (predicted, predicted[::-1])])
    units = units_of_scores(both)
    mean: list[Any] = [ANSWER_SCORES["f1"]]
    assert units.observed_scores(0, list(ANSWER_SCORES.values())) == pytest.approx(both[0].mean(0))
    difference = paired_bootstrap(units, mean, 1000, 0)[0]
    assert difference["difference"] == pytest.approx(a.mean() - b.mean()) and difference["interval"]["low"] > 0
    assert randomisation_p(units, mean, 500, 0)[0] < 0.01
    assert randomisation_p(units_of_scores(both[[0, 0]]), mean, 500, 0)[0] == 1
    rng = np.random.default_rng(3)
    direct = (a - b)[rng.integers(400, size=(4000, 400))].mean(1)
    assert (difference["interval"]["low"], difference["interval"]["high"]) == pytest.approx(
        tuple(np.quantile(direct, [0.025, 0.975])), abs=0.01
    )
