"""A word in its contexts: found as a word, its vectors those of its own pieces, planes and cosines by hand and by scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch

import bertlab
from bertlab.errors import DataError
from bertlab.exploring.looking import framed
from bertlab.exploring.parting import parted, within_and_between
from bertlab.inference import LoadedModel
from bertlab.model.opened import opened, word_vectors

GROUPS = [["the river runs to the sea", "birds sing over the RIVER"], ["a stone hill from the old river", "banks in spring , river birds"]]


@pytest.fixture(scope="module")
def model(every_model: dict[str, str]) -> LoadedModel:
    return bertlab.load(every_model["words"], "cpu")


def test_each_context_is_a_point_in_every_layer_and_shows_where_the_word_stands(model: LoadedModel) -> None:
    found = parted(model, " river ", GROUPS)
    assert [len(points) for points in found["points"]] == [4, 4, 4] and len(found["shown"]) == 3
    assert [each["group"] for each in found["contexts"]] == [0, 0, 1, 1]
    assert [each["word"] for each in found["contexts"]] == ["river", "RIVER", "river", "river"]
    assert found["contexts"][1]["before"] == "birds sing over the " and found["contexts"][0]["after"] == " runs to the sea"


@pytest.mark.parametrize("before, word, after", [("over its", "banks", "in spring"), ("the", "riverbanks", "in spring")])
def test_vectors_are_the_mean_states_of_the_words_own_pieces(before: str, word: str, after: str, model: LoadedModel) -> None:
    texts = [f"{before} {word} {after}", f"a {before} {word} {after}"]
    found = parted(model, word, [texts])
    pieces = len(model.tokenizer.encode([word])[0])
    assert (pieces > 1) == (word == "riverbanks"), "one word of one piece, one of several"
    vectors = []
    for text in texts:
        first = 1 + len(model.tokenizer.encode([text[: text.index(word)]])[0])
        sequence = framed(model, text)
        with torch.inference_mode():
            inside = opened(model.encoder, word_vectors(model.encoder, sequence.ids), sequence.segments)
        vectors.append([state[0, first : first + pieces].mean(0) for state in inside.states])
    for layer, (one, other) in enumerate(zip(*vectors, strict=True)):
        assert found["within"][layer] == pytest.approx(float(torch.cosine_similarity(one, other, dim=0)), abs=1e-5)
        apart = np.linalg.norm(np.diff(np.array(found["points"][layer]), axis=0))
        assert apart == pytest.approx(float((one - other).norm()), rel=1e-4)


def test_cosines_within_and_between_groups_by_hand() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    within, between = within_and_between(vectors, np.array([0, 0, 1]))
    assert within == pytest.approx(2**-0.5) and between == pytest.approx((0 + 2**-0.5) / 2)
    assert within_and_between(vectors, np.array([0, 0, 0]))[1] is None and within_and_between(vectors, np.array([0, 1, 2]))[0] is None


@pytest.mark.parametrize(
    "word, groups, said",
    [
        ("river", [["the river"], ["a rivers"]], "context 2 is without the word 'river'"),
        ("  ", GROUPS, "no word"),
        ("river", [["the river"]], "1 contexts: give 2 to 200"),
        ("river", [["river"] * 201], "201 contexts"),
        ("(", [["a ( b", "( c"], ["nothing"]], r"context 3 is without the word '\('"),
    ],
)
def test_what_cannot_be_seen_is_said_with_its_context(word: str, groups: Any, said: str, model: LoadedModel) -> None:
    with pytest.raises(DataError, match=said):
        parted(model, word, groups)
