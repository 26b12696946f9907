"""Texts from a program: lists, arrays and columns are taken, and what is no text is refused in one line that says where it stands."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bertlab.corpus.given import given_texts
from bertlab.errors import DataError


def refused(texts: Any, which: str = "texts", **words: Any) -> str:
    with pytest.raises(DataError) as error:
        given_texts(texts, which, **words)
    said = str(error.value)
    assert "\n" not in said
    return said


def test_whatever_gives_one_text_after_another_is_taken() -> None:
    texts = ["a", "the river", ""]
    column = pd.DataFrame({"text": texts}, index=[7, 7, 9])["text"]
    for given in (texts, tuple(texts), np.array(texts), np.array(texts, dtype=object), column, column.astype("string"), iter(texts)):
        assert given_texts(given) == texts
    assert given_texts([]) == []


@pytest.mark.parametrize(
    ("strange", "named"),
    [
        (None, "NoneType"), (float("nan"), "nan"), (np.float32("nan"), "nan"), (pd.NA, "NAType"), (pd.NaT, "NaTType"), (5, "int"),
        (True, "bool"), (b"bytes", "bytes"), ({"text": "a"}, "dict"), (["a"], "list"), (np.array([[1.0]]), "ndarray"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_by_its_place(strange: Any, named: str) -> None:
    said = refused(["a", "b", "c", strange], "second texts")
    assert said == f"text 3 of the second texts is {named}, no text: give texts, and leave out rows that have none"


def test_half_a_character_is_no_text() -> None:
    assert refused(["é", "a \ud800"]) == "text 1 of the texts holds half a character (\\ud800 to \\udfff), which no text does: leave it out"
    assert given_texts(["\U0001f600 é"]) == ["\U0001f600 é"]


@pytest.mark.parametrize("texts", [{"text": "a"}, pd.DataFrame({"a": ["b"]}), np.array([["a"]]), np.array("a"), 5, None])
def test_what_is_no_list_of_texts_is_refused(texts: Any) -> None:
    assert refused(texts) == (f"{type(texts).__name__} is no list of texts: give a list, an array, or a column of a table (table['text'])")


@pytest.mark.parametrize("text", ["a text", b"bytes"])
def test_one_text_is_no_list(text: Any) -> None:
    assert refused(text) == "one text was given where a list of texts is wanted: write [text]"


def test_a_tagger_is_given_words_and_each_is_looked_at() -> None:
    sentences: list[Any] = ["the old mill", ["the", "mill"], ("a",), np.array(["one", "two"]), []]
    assert given_texts(sentences, words=True)[:3] == sentences[:3]
    assert refused([*sentences, ["the", None]], words=True).startswith(
        "text 5 of the texts holds NoneType, no word: give texts or lists of"
    )
    assert "text 1 of the texts holds nan, no word" in refused(["a", ["b", np.float32("nan")]], words=True)
    for strange in (b"bytes", {"a": 1}, 5, iter(["a"])):
        assert "text 1 of the texts is" in refused(["a", strange], words=True)
