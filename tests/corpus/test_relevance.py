"""bertlab/corpus/relevance.py: equal texts are one, ids differ, and what belongs to a query is found in the pool."""

from typing import Any

import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.relevance import retrieval_of
from bertlab.errors import DataError


def pairs(rows: list[tuple[str, str, str]], **further: Any) -> Labelled:
    ids, texts, texts_b = map(list, zip(*rows, strict=True))
    return Labelled(ids, texts, texts_b, further.get("labels"), "pairs.csv")


ROWS = [("1", "who?", "Ann"), ("2", "where?", "there"), ("3", "WHO?", "Bob"), ("4", "why?", "ann "), ("5", "who?", "Ann")]


def test_equal_texts_are_one_query_and_one_text_of_the_pool() -> None:
    found = retrieval_of(pairs(ROWS))
    assert (found.queries.ids, found.queries.texts) == (["1", "2", "4"], ["who?", "where?", "why?"])
    assert (found.pool.ids, found.pool.texts) == (["1", "2", "3"], ["Ann", "there", "Bob"])
    assert found.relevant == [[0, 2], [1], [0]] and found.relevant_ids() == [["1", "3"], ["2"], ["1"]]


def test_a_corpus_comes_first_and_ids_that_are_taken_are_numbered() -> None:
    corpus = Labelled(["2", "3", "2"], ["Bob", "nobody", "somebody"], None, None, "corpus.txt")
    found = retrieval_of(pairs([*ROWS, ("2", "when?", "now"), ("2#2", "how?", "so")]), corpus)
    assert found.pool.texts == ["Bob", "nobody", "somebody", "Ann", "there", "now", "so"]
    assert found.pool.ids == ["2", "3", "2#2", "1", "2#3", "2#4", "2#2#2"]
    assert len(set(found.pool.ids)) == 7 and found.relevant[0] == [0, 3]


def test_with_a_label_only_such_pairs_belong_together_and_the_others_are_in_the_pool() -> None:
    found = retrieval_of(pairs(ROWS, labels=["yes", "no", "no", "yes", "no"]), relevant="yes")
    assert found.queries.texts == ["who?", "why?"] and found.pool.texts == ["Ann", "there", "Bob"] and found.relevant == [[0], [0]]
    with pytest.raises(DataError, match="no row has the label 'true'"):
        retrieval_of(pairs(ROWS, labels=["yes"] * 5), relevant="true")
    with pytest.raises(DataError, match="not every row has a label"):
        retrieval_of(pairs(ROWS), relevant="yes")
    with pytest.raises(DataError, match="no second texts"):
        retrieval_of(Labelled(["1"], ["who?"], None, None, "texts.csv"))


def test_the_same_query_in_another_pool_is_another_question() -> None:
    one, again, other = retrieval_of(pairs(ROWS)), retrieval_of(pairs(ROWS[::-1])), retrieval_of(pairs(ROWS[:4] + [("6", "who?", "Eve")]))
    assert set(one.query_hashes()) == set(again.query_hashes()) and not set(one.query_hashes()) & set(other.query_hashes())
