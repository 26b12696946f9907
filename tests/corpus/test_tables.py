"""A column that is not there: told at the header's line or the row's, alike by every reader, with what the column was to be."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.labelled import read_labelled
from bertlab.corpus.related import Names, read_related
from bertlab.corpus.sources import File, How, documents
from bertlab.corpus.tables import refuse_missing, rows
from bertlab.corpus.texts import texts
from bertlab.errors import ColumnError, DataError


def of_table(path: Path, columns: list[str]) -> Path:
    """A table of two rows with these columns, in the form that the file's name says."""
    found = [dict.fromkeys(columns, f"a {number}") for number in range(2)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(found), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in found))  # blank lines are lines too
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n" + "".join(mark.join(line) + "\n" for line in (columns, *(row.values() for row in found))))
    return path


READERS: dict[str, Callable[[Path], Any]] = {
    "prepare": lambda path: list(documents(str(path), How(), Counter())),
    "embed": lambda path: list(texts([File(path, path.name)])),
    "finetune": read_labelled,
    "contrast": lambda path: read_related(path, None, Names()),
}


@pytest.mark.parametrize(("name", "place"), [("a.csv", ":2"), ("a.tsv", ":2"), ("a.jsonl", ":2"), ("a.parquet", "")])
def test_every_reader_says_alike_where_a_text_is_missing(tmp_path: Path, name: str, place: str) -> None:
    path = of_table(tmp_path / name, ["body", "label"])
    for reader in READERS.values():
        with pytest.raises(ColumnError) as caught:
            reader(path)
        assert str(caught.value) == f"{path}{place}: no column 'text': the columns are 'body', 'label'"
        assert (caught.value.column, caught.value.role) == ("text", "text")


@pytest.mark.parametrize(
    ("name", "mark", "word", "given"),
    [
        ("a.csv", ";", "semicolons", '";"'),
        ("a.csv", "\t", "tabs", "tab"),
        ("a.csv", "|", "bars", '"|"'),
        ("a.tsv", ",", "commas", ","),
        ("a.tsv", ";", "semicolons", '";"'),
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_table_that_is_separated_otherwise_is_told_so_and_not_to_name_its_one_column(
    tmp_path: Path, name: str, mark: str, word: str, given: str, quote: str
) -> None:
    columns = f"{quote}text{quote}{mark}{quote}label{quote}"
    (tmp_path / name).write_text(f"{columns}\n{quote}the mill, by the sea{quote}{mark}{quote}a{quote}\n")
    for reader in READERS.values():
        with pytest.raises(DataError) as caught:
            reader(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}:1: ") and not isinstance(caught.value, ColumnError)
        assert str(caught.value).endswith(f"separated by {word}? Say so: --separator {given}")


@pytest.mark.parametrize(("name", "place"), [("a.csv", ":2"), ("a.jsonl", ":2"), ("a.parquet", "")])
def test_a_label_or_a_second_text_is_missing_in_the_same_line_as_a_text(tmp_path: Path, name: str, place: str) -> None:
    path = of_table(tmp_path / name, ["text", "topic"])
    negatives = Names(text_b="topic", negatives=("far", "farther"))
    for role, column, read in (
        ("label", "label", lambda: read_labelled(path)),
        ("label", "kind", lambda: read_related(path, "classes", Names(label="kind"))),
        ("text_b", "other", lambda: read_labelled(path, text_b="other", needs_label=False)),
        ("text_b", "text_b", lambda: read_related(path, "pairs", Names())),
        ("negatives", "far", lambda: read_related(path, "triplets", negatives)),
    ):
        with pytest.raises(ColumnError) as caught:
            read()
        assert str(caught.value) == f"{path}{place}: no column '{column}': the columns are 'text', 'topic'"
        assert (caught.value.column, caught.value.role) == (column, role)


@pytest.mark.parametrize(
    ("asked", "meant"), [("Topic", "topic"), ("topics", "topic"), ("tpic", "topic"), ("text_b", None), ("label", None), ("id", None)]
)
def test_a_column_that_is_nearly_there_is_named(asked: str, meant: str | None) -> None:
    with pytest.raises(ColumnError) as raised:
        refuse_missing({asked: "label"}, ["text", "topic"], "a.csv:1")
    assert (f"no column '{asked}' (did you mean '{meant}'?): the columns" in str(raised.value)) == (meant is not None)
    assert ("did you mean" in str(raised.value)) == (meant is not None)


def test_a_row_of_jsonl_that_lacks_a_column_is_told_by_its_own_line(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write('{"text": "a"}\n\n{"body": "b"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:3: this row has no 'text': put text in, or take the row out") as caught:
        list(rows(tmp_path / "a.jsonl.gz", columns=("text",), required={"text": "text"}, invalid_utf8="stop", tally=Counter()))
    assert not isinstance(caught.value, ColumnError), "which would ask for another name of the column"


@pytest.mark.parametrize(
    ("header", "is_title"),
    [("Survey 2025,Unnamed: 1", True), ("Survey,", True), (",words,kind", False), ("words,kind", False)],
)
def test_a_title_above_the_header_is_guessed_where_most_columns_have_no_name(tmp_path: Path, header: str, is_title: bool) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n")
    with pytest.raises(DataError, match="no column 'text'") as caught:
        read_labelled(tmp_path / "t.csv")
    assert ("is the header further down?" in str(caught.value)) is is_title
