"""Poolings that are known to be poor are named, and pairs that a person scored say which is better."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from bertlab.embedding.advice import CANDIDATES, compared, rank_agreement, warning
from bertlab.embedding.engine import Embedder, What
from bertlab.errors import DataError
from bertlab.evaluation.vectors import cosines
from bertlab.model.pooling import POOLINGS, Recorded


def test_cls_is_warned_of_unless_the_folder_says_that_it_was_trained_for_it() -> None:
    for recorded in (Recorded(), Recorded("mean")):
        line = warning("cls", recorded)
        assert line is not None and "16.5" in line and "--pooling mean is better" in line and "\n" not in line
    assert warning("cls", Recorded("cls")) is None


def test_vectors_that_nobody_trained_are_said_to_be_such() -> None:
    for pooling in POOLINGS:
        line = warning(pooling, Recorded())
        assert (
            line is not None and line.startswith("warning: [CLS]" if pooling == "cls" else "note: nobody has trained") and "\n" not in line
        )
        assert warning(pooling, Recorded(pooling)) is None
        assert (
            pooling == "cls" or warning(pooling, Recorded("cls")) is None
        )  # another choice than its maker's, who trained them all the same
    assert warning("mean", Recorded(beyond="a dense layer")) is None
    assert warning(None, Recorded()) is None  # of tokens


def test_the_pooling_that_made_the_scores_comes_first(embedder: Embedder, texts_of: Callable[..., list[str]]) -> None:
    texts, texts_b = texts_of(40, seed=3), texts_of(40, seed=4)
    for options in ("--pooling max", "--pooling mean --layer 1 -1"):
        first, second = (embedder.vectors(embedder.encode(each), CANDIDATES[options]) for each in (texts, texts_b))
        found = compared(embedder, texts, texts_b, cosines(first, second).tolist())
        assert next(iter(found)) == options and found[options].spearman == pytest.approx(1)
        values = [each.spearman for each in found.values()]
        assert values == sorted(values, reverse=True) and values[1] < 0.999
    assert "--pooling mean --layer -4 -3 -2 -1" not in found, "this model has two layers"


def test_the_agreement_is_scipys_and_its_interval_holds_the_truth_19_times_in_20() -> None:
    draw = np.random.default_rng(0)
    truth, inside = 6 / np.pi * np.arcsin(0.6 / 2), 0  # Spearman of a normal pair with correlation 0.6
    for _ in range(400):
        x = draw.normal(size=60)
        y = 0.6 * x + 0.8 * draw.normal(size=60)
        found = rank_agreement(x, y.tolist())
        assert found.spearman == pytest.approx(spearmanr(x, y).statistic) and found.pairs == 60
        inside += found.low <= truth <= found.high
    assert 0.92 < inside / 400 < 0.98
    z = np.arctanh([found.low, found.spearman, found.high])
    assert np.diff(z) == pytest.approx(1.96 * np.sqrt((1 + found.spearman**2 / 2) / 57))  # Bonett and Wright 2000, by hand
    assert rank_agreement(np.ones(12), list(range(12))).spearman == 0


def test_too_few_pairs_say_nothing(embedder: Embedder) -> None:
    for scores in ([1.0] * 20, [1.0, 2.0]):
        with pytest.raises(DataError, match="say nothing about a pooling"):
            compared(embedder, ["a"] * len(scores), ["b"] * len(scores), scores)


def test_candidates_are_what_their_options_ask_for() -> None:
    assert CANDIDATES["--pooling mean --layer -4 -3 -2 -1"] == What(pooling="mean", layers=(-4, -3, -2, -1))
