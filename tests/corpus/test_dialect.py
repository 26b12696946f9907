"""Tables and text files that are not written as their name promises: read as a person says, refused otherwise, never guessed at."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.keep_out import read_texts
from bertlab.corpus.labelled import label_column, read_labelled
from bertlab.corpus.labelled_tokens import read_labelled_tokens
from bertlab.corpus.questions import read_questions
from bertlab.corpus.related import Names, read_related
from bertlab.corpus.sources import File, How, documents
from bertlab.corpus.texts import texts
from bertlab.errors import ConfigError, DataError

SAID = ["Die Mühle, am Fluß", 'der "alte" Hügel; weit', "", "– Ende €"]
WINDOWS = Dialect(separator=";", encoding="cp1252")

READERS: dict[str, Callable[[Path, Dialect], list[str]]] = {
    "prepare": lambda path, how: [each.text for each in documents(str(path), How(dialect=how, invalid_utf8="stop"), Counter())],
    "embed": lambda path, how: [text for _, text in texts([File(path, path.name)], dialect=how)],
    "keep out": lambda path, how: list(read_texts([path], dialect=how)),
    "finetune": lambda path, how: read_labelled(path, needs_label=False, dialect=how).texts,
    "tokens": lambda path, how: [" ".join(words) for words in read_labelled_tokens(path, tokens="text", tags=None, dialect=how).tokens],
    "contrast": lambda path, how: read_related(path, None, Names(dialect=how)).columns[0],
}


def quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_takes_separator_and_encoding(tmp_path: Path, reader: str) -> None:
    table = "".join(f"{number};{quoted(text)};x\r\n" for number, text in enumerate(SAID))
    (tmp_path / "a.csv").write_bytes(f"id;text;kind\r\n{table}".encode("cp1252"))
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    for name in ("a.csv", "a.tsv.gz"):
        assert READERS[reader](tmp_path / name, WINDOWS) == SAID
        with pytest.raises(DataError, match='--separator ";"'):
            READERS[reader](tmp_path / name, Dialect(encoding="cp1252"))
        with pytest.raises(DataError, match=r":2: not valid UTF-8: say what it is \(--encoding cp1252 .*\), or .* \(iconv\)$"):
            READERS[reader](tmp_path / name, Dialect(separator=";"))
    lines = [text for text in SAID if text]
    (tmp_path / "a.txt").write_bytes("\n\n".join(lines).encode("cp1252"))
    assert [text for text in READERS[reader](tmp_path / "a.txt", WINDOWS) if text] == lines  # a separator is of tables alone
    (tmp_path / "a.jsonl").write_bytes('{"text": "Mühle"}\n{"text": "Fluß"}\n'.encode("latin-1"))
    assert READERS[reader](tmp_path / "a.jsonl", Dialect(separator=";", encoding="latin-1")) == ["Mühle", "Fluß"]


def test_questions_and_tagged_words_take_an_encoding(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes('{"question": "Wo?", "context": "am Fluß"}\n'.encode("cp1252"))
    assert read_questions(tmp_path / "q.jsonl", answers=None, dialect=WINDOWS).contexts == ["am Fluß"]
    (tmp_path / "t.conll").write_bytes("Fluß B-x\n\nMühle O\n".encode("cp1252"))
    assert read_labelled_tokens(tmp_path / "t.conll", dialect=WINDOWS).tokens == [["Fluß"], ["Mühle"]]


def test_the_column_of_scores_is_looked_for_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("text;text_b;score\na;b;1\n")
    assert label_column(tmp_path / "p.csv", None, dialect=WINDOWS) == "score"
    assert label_column(tmp_path / "p.csv", None) == "label"


def test_bytes_that_the_encoding_does_not_have_are_counted_or_stop(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 \x81\n\n\xa4\n")  # cp1252 has no 81
    with pytest.raises(DataError, match=r"a\.txt:1: not valid cp1252: convert the file to UTF-8 \(iconv\)$"):  # not: say --encoding cp1252
        READERS["finetune"](tmp_path / "a.txt", WINDOWS)
    tally: Counter[str] = Counter()
    found = [each.text for each in documents(str(tmp_path / "a.txt"), How(dialect=WINDOWS), tally)]
    assert found == ["café \ufffd", "¤"] and tally["invalid_utf8"] == 1


def test_a_file_that_says_itself_what_it_is_is_believed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + "text\nMühle\n".encode())
    for name in ("utf-8", "UTF8", "utf_8", "utf-8-sig"):
        assert READERS["finetune"](tmp_path / "a.csv", Dialect(encoding=name)) == ["Mühle"]
    (tmp_path / "b.csv").write_bytes("text\nMühle\n".encode("cp1252"))
    for name in ("a.csv", "b.csv"):  # one option serves files of both kinds
        assert READERS["finetune"](tmp_path / name, WINDOWS) == ["Mühle"]


def test_a_file_that_is_utf8_is_not_read_as_windows_and_one_of_windows_that_looks_so_for_a_while_is(tmp_path: Path) -> None:
    lines = ["a mill", *(f"Mühle {number}" for number in range(9))]
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv:10: as far as here it is UTF-8, not cp1252, and would be read wrongly: leave --enc"):
        READERS["finetune"](tmp_path / "a.csv", WINDOWS)
    looks = [*["SOCI\xc9\xbb"] * 7, "Mühle", *["SOCI\xc9\xbb"] * 9]  # É» of cp1252 is one letter of UTF-8
    (tmp_path / "b.csv").write_text("text\n" + "\n".join(looks) + "\n", encoding="cp1252")
    assert READERS["finetune"](tmp_path / "b.csv", WINDOWS) == looks


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a mill", "Mühle", "Fluß"], r"a\.csv: it is UTF-8, not cp1252, and would be read wrongly: leave --encoding out"),
        (["Mühle", "a mill", "“a mill”"], r"a\.csv:4: as far as here it is UTF-8, not cp1252"),  # the last byte of ” is nothing in cp1252
        (["SOCI\xc9\xbb".encode("cp1252").decode(), "a mill"], None),
    ],
)
def test_a_short_file_that_is_utf8_is_not_read_as_windows_either(rows: list[str], says: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    if says is None:  # a line alone may be so by chance
        assert READERS["finetune"](tmp_path / "a.csv", WINDOWS) == ["SOCI\xc9\xbb", "a mill"]
        return
    with pytest.raises(DataError, match=says):
        READERS["finetune"](tmp_path / "a.csv", WINDOWS)
    assert READERS["finetune"](tmp_path / "a.csv", Dialect(encoding="utf-8-sig")) == rows


def test_a_tab_has_a_name_and_a_wrong_separator_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\tlabel\nmill\tx\n")
    for tab in ("tab", "\\t", "\t"):
        assert read_labelled(tmp_path / "a.csv", dialect=Dialect(separator=tab)).labels == ["x"]
    (tmp_path / "a.csv").write_text("text,label\nmill,x\n")
    with pytest.raises(DataError, match=r"one column, 'text,label': separated by commas\? Say so: --separator ,"):
        read_labelled(tmp_path / "a.csv", dialect=WINDOWS)
    (tmp_path / "a.csv").write_text("text;label\nmill; by the sea;x\n")
    with pytest.raises(DataError, match=r":2: 3 cells where the header has 2: is a cell with a ';' not quoted\?"):
        read_labelled(tmp_path / "a.csv", dialect=WINDOWS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"separator": ""}, "give one character"),
        ({"separator": ";;"}, "give one character"),
        ({"separator": '"'}, "give one character"),
        ({"separator": "\n"}, "give one character"),
        ({"encoding": "utf-16"}, "give one that has ASCII in it"),
        ({"encoding": "utf-7"}, "give one that has ASCII in it"),
        ({"encoding": "cp037"}, "give one that has ASCII in it"),
        ({"encoding": "windows"}, "give one that has ASCII in it"),
        ({"encoding": "base64"}, "give one that has ASCII in it"),
        ({"encoding": ""}, "give one that has ASCII in it"),
    ],
)
def test_what_no_file_is_written_in_is_refused_before_one_is_opened(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dialect(**settings)
    assert Dialect().dialect == AS_NAMED
