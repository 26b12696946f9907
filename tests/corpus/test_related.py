"""Files of texts that belong together: kinds by their columns, and a mistake is one line with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus.labelled import cut_dev
from bertlab.corpus.related import Names, read_related
from bertlab.errors import ConfigError, DataError


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_text_file_has_sentences_and_blank_lines_are_none(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n  \nthree\n")
    read = read_related(path, None, Names())
    assert (read.kind, read.columns, read.ids) == ("sentences", [["one", "two", "three"]], ["a.txt:1", "a.txt:3", "a.txt:5"])


@pytest.mark.parametrize(
    "row, kind, columns",
    [
        ({"text": "a"}, "sentences", [["a", "a"]]),
        ({"text": "a", "text_b": "b"}, "pairs", [["a", "a"], ["b", "b"]]),
        ({"text": "a", "text_b": "b", "negative": "c"}, "triplets", [["a", "a"], ["b", "b"], ["c", "c"]]),
        ({"text": "a", "label": 3}, "classes", [["a", "a"]]),
    ],
)
def test_the_kind_follows_from_the_columns(tmp_path, row, kind, columns):
    read = read_related(written(tmp_path / "a.jsonl", row, row), None, Names())
    assert (read.kind, read.columns, read.labels) == (kind, columns, ["3", "3"] if kind == "classes" else None)


def test_columns_have_the_names_that_are_given_and_there_may_be_several_negatives(tmp_path):
    row = {"q": "a", "d": "b", "n1": "c", "n2": "e", "text": "no"}
    read = read_related(written(tmp_path / "a.jsonl", row, row), None, Names("q", "d", ("n1", "n2")))
    assert [column[0] for column in read.columns] == ["a", "b", "c", "e"]


def test_pairs_with_labels_are_refused_until_they_are_said_to_mean_the_same(tmp_path):
    path = written(tmp_path / "a.jsonl", *[{"text": "a", "text_b": "b", "label": label} for label in (0, 1)])
    scored = tmp_path / "scored.csv"
    scored.write_text("text,text_b,score\na,b,0.5\nc,d,4\n")
    with pytest.raises(DataError, match=r"scored.csv:2: pairs with a column 'score'.*--kind pairs .scored pairs to choose by"):
        read_related(scored, None, Names())
    assert read_related(scored, "pairs", Names()).kind == "pairs"
    with pytest.raises(DataError, match=r"a.jsonl:1: pairs with a column 'label'.*--kind pairs"):
        read_related(path, None, Names())
    assert len(read_related(path, "pairs", Names())) == 2


@pytest.mark.parametrize(
    "kind, rows, message",
    [
        ("triplets", [{"text": "a", "text_b": "b"}], "a.jsonl:1: no column 'negative'"),
        ("classes", [{"text": "a", "label": "x"}, {"text": "b", "label": " "}], "a.jsonl:2: no label"),
        ("pairs", [{"text": "a", "text_b": 3}], "a.jsonl:1: column 'text_b' holds an int"),
        (None, [{"text": "a"}], "1 texts"),
    ],
)
def test_a_mistake_is_told_by_its_place(tmp_path, kind, rows, message):
    with pytest.raises(DataError, match=message):
        read_related(written(tmp_path / "a.jsonl", *rows), kind, Names())


def test_a_file_that_is_not_there_and_pairs_in_a_text_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_related(tmp_path / "no.csv", None, Names())
    (tmp_path / "a.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="a text file has sentences alone"):
        read_related(tmp_path / "a.txt", "pairs", Names())


def test_two_rows_are_the_same_where_both_texts_are(tmp_path):
    rows = [("a b", "c"), ("A  b", "C"), ("a b", "d"), ("a", "b c")]
    read = read_related(written(tmp_path / "a.jsonl", *[{"text": a, "text_b": b} for a, b in rows]), None, Names())
    hashes = read.text_hashes()
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
    assert read.anchor_hashes()[0] == read.anchor_hashes()[2] != read.anchor_hashes()[3]


def test_dev_takes_the_rows_of_an_anchor_together(tmp_path):
    rows = [{"text": f"anchor {number // 3}", "text_b": f"other {number}"} for number in range(60)]
    read = read_related(written(tmp_path / "a.jsonl", *rows), None, Names())
    train, dev = cut_dev(read, 0.2, [0] * len(read), read.anchor_hashes())
    assert len(dev) == 12 and not set(train.columns[0]) & set(dev.columns[0])
    assert sorted(train.columns[1] + dev.columns[1]) == sorted(read.columns[1])
