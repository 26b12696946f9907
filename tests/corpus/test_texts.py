"""Texts streamed from files: an id and a text for every line or row, in runs that are known by their content."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus import texts as module
from bertlab.corpus.sources import File, files_of
from bertlab.corpus.texts import Run, runs, texts
from bertlab.errors import DataError


def read(path: Path, **columns: Any) -> list[tuple[str, str]]:
    return list(texts(files_of(str(path)) or [], **columns))


def test_a_line_of_a_text_file_is_a_text_an_empty_one_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\ntw\0o\n")
    assert read(tmp_path / "a.txt") == [("a.txt:1", "one"), ("a.txt:2", ""), ("a.txt:3", "two")]


def test_rows_of_tables_have_their_own_ids_or_file_and_line(tmp_path: Path) -> None:
    rows = [{"id": "x", "text": "one"}, {"id": 7, "text": "two"}, {"id": None, "text": "three"}, {"text": ""}]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert read(tmp_path / "a.jsonl.gz") == [("x", "one"), ("7", "two"), ("a.jsonl.gz:3", "three"), ("a.jsonl.gz:4", "")]
    (tmp_path / "b.csv").write_text('key,said,text\nk,"one, two",no\n')
    assert read(tmp_path / "b.csv", text="said", id="key") == [("k", "one, two")]


def test_an_id_column_that_was_named_is_not_made_up_where_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("key,text\nk,one\n")
    with pytest.raises(DataError, match=r"b\.csv:1: no column 'kye'.*: the columns are 'key', 'text'"):
        read(tmp_path / "b.csv", id="kye")
    (tmp_path / "c.jsonl").write_text('{"key": "k", "text": "one"}\n{"text": "two"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:2: this row has no 'key'"):
        read(tmp_path / "c.jsonl", id="key")


def test_files_of_a_folder_come_in_the_order_of_their_names_and_are_named_from_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "z.txt").write_text("last")
    (tmp_path / "in" / "deep" / "a.tsv").write_text("text\nfirst\n")
    (tmp_path / "in" / ".hidden.txt").write_text("no")
    assert read(tmp_path / "in") == [("in/deep/a.tsv:2", "first"), ("in/z.txt:1", "last")]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"one\n\xff\n", r"a\.txt:2: not valid UTF-8"),
        ("a.jsonl", b'{"text": "one"}\n{"text": 2}\n', r"a\.jsonl:2: column 'text' holds an int, not text"),
        ("a.jsonl", b'{"text": "one"}\n{"other": "x"}\n', r"a\.jsonl:2: this row has no 'text'"),
        ("a.jsonl", b'{"text": "one", "id": [1]}\n', r"a\.jsonl:1: the id is a list"),
        ("a.xml", b"<mediawiki xmlns='x'>\n", r"a\.xml: a Wikipedia dump is mark-up"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_its_place(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(texts([File(tmp_path / name, name)]))
    assert "\n" not in str(caught.value)


def test_runs_hold_so_many_texts_or_characters_and_all_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(str(number), "x" * number) for number in range(10)]
    found = list(runs(pairs, 4))
    assert [len(run.texts) for run in found] == [4, 4, 2] and [run.number for run in found] == [0, 1, 2]
    assert [pair for run in found for pair in zip(run.ids, run.texts, strict=True)] == pairs
    monkeypatch.setattr(module, "RUN_CHARACTERS", 10)
    assert [run.ids for run in runs(pairs, 4)] == [["0", "1", "2", "3"], ["4", "5", "6"], ["7", "8"], ["9"]]
    assert list(runs([], 4)) == []


def test_a_run_is_known_by_its_ids_and_texts_and_where_one_ends() -> None:
    def only(*pairs: tuple[str, str]) -> Run:
        (run,) = runs(pairs, 10)
        return run

    known = only(("a", "b"), ("c", "d")).sha256
    assert known == only(("a", "b"), ("c", "d")).sha256
    for other in ([("a", "b"), ("c", "e")], [("a", "b"), ("x", "d")], [("c", "d"), ("a", "b")], [("a", "b")], [("ab", ""), ("c", "d")]):
        assert only(*other).sha256 != known
