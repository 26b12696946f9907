"""Sentences: abbreviations, paragraphs, long documents in pieces, and characters that have no place in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import sentences
from bertlab.corpus.sentences import Splitter, iter_sentences, split
from bertlab.errors import ConfigError

SPLITTERS: list[Splitter] = ["sentencex", "regex", "lines"]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith went to Washington.", "He slept."],
        ["It cost 3.5 million dollars, e.g. too much.", "Nobody paid."],
        ["Mr. and Mrs. Jones live at No. 5.", "They are happy!", "Are they?"],
        ["The U.S. Army came at 5 p.m. and left."],
        ['"Why?" he asked.', "She did not know."],
        ["One sentence without an end"],
    ],
)
def test_sentences_end_where_a_reader_ends_them(expected: list[str]) -> None:
    assert split(" ".join(expected)) == expected


def test_another_language_has_its_own_abbreviations() -> None:
    assert split("Das gilt z. B. hier. Dort nicht.", language="de") == ["Das gilt z. B. hier.", "Dort nicht."]


def test_the_regex_splitter_needs_an_end_white_space_and_a_beginning() -> None:
    text = "It is 3.5 m long. “Why?” he asked... and left.  Nobody knew! 5 did. 今日は。元気。"
    assert split(text, splitter="regex") == [
        "It is 3.5 m long.",
        "“Why?” he asked... and left.",
        "Nobody knew!",
        "5 did.",
        "今日は。",
        "元気。",
    ]


def test_the_lines_splitter_takes_each_line_as_a_sentence() -> None:
    assert split("One. Two.\n\n  Three  four \n", splitter="lines") == ["One. Two.", "Three four"]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_no_sentence_crosses_a_paragraph_and_empty_ones_are_dropped(splitter: Splitter) -> None:
    assert split("\n\na heading\n \nSome text\nmore text\n", splitter=splitter) == ["a heading", "Some text", "more text"]
    assert split("", splitter=splitter) == split(" \n\t\n", splitter=splitter) == []


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_control_characters_go_and_white_space_becomes_one_space(splitter: Splitter) -> None:
    text = "\ufeffa\x00b\x07c\x7f\x9fd\ue000\ud800 \t e\r\x0b\x85f\u2028g\u00a0\u3000h"
    assert split(text, splitter=splitter) == ["abcd\ue000 e f g h"]


def test_text_that_spells_special_tokens_is_left_as_it_is() -> None:
    assert split("He wrote [SEP] and [MASK]. Then [CLS].") == ["He wrote [SEP] and [MASK].", "Then [CLS]."]


def test_an_unknown_splitter_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose sentencex, regex or lines"):
        split("a", splitter="nltk")  # type: ignore[arg-type]


# ---- long documents


@pytest.mark.parametrize("splitter", ["sentencex", "regex"])
def test_a_document_of_two_megabytes_in_one_line_is_split_as_its_parts_are(splitter: Splitter) -> None:
    block = ["Dr. Smith went to Washington, D.C. by train.", "He slept.", "It cost 3.5 dollars, which is a lot!", 'Was it "worth" it?']
    copies = 2_000_000 // len(" ".join(block))
    expected = split(" ".join(block), splitter=splitter) * copies
    assert split(" ".join(block * copies), splitter=splitter) == expected  # no cut at 100,000 characters shows
    assert expected[:4] == block or splitter == "regex"


def test_a_long_text_with_no_sentence_end_loses_nothing() -> None:
    text = " ".join(f"word{number}" for number in range(60_000))
    found = split(text)
    assert " ".join(found) == text
    assert max(map(len, found)) <= sentences.PIECE_CHARACTERS


def test_a_run_without_white_space_is_cut_hard() -> None:
    found = split("x" * 250_000 + " and then. " + "y" * 30_000)
    assert "".join(found).replace(" ", "") == "x" * 250_000 + "andthen." + "y" * 30_000
    assert found[0] == "x" * sentences.RUN_CHARACTERS


@given(st.text(alphabet=st.sampled_from("ab.?! \n\t\"'"), max_size=200), st.sampled_from(SPLITTERS), st.integers(2, 30))
def test_joined_sentences_are_the_text_whatever_the_pieces(text: str, splitter: Splitter, piece: int) -> None:
    before = sentences.PIECE_CHARACTERS, sentences.RUN_CHARACTERS
    sentences.PIECE_CHARACTERS, sentences.RUN_CHARACTERS = piece, max(1, piece // 2)
    try:
        found = split(text, splitter=splitter)
    finally:
        sentences.PIECE_CHARACTERS, sentences.RUN_CHARACTERS = before
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence == " ".join(sentence.split()) != "" for sentence in found)


def test_sentences_come_while_the_text_is_read() -> None:
    assert next(iter_sentences("First one. " + "More of it. " * 200_000)) == "First one."


@pytest.mark.parametrize("unit", [".", '"', "( ", "a. ", "! ", "? “", "\u2028", "。"])
@pytest.mark.parametrize("splitter", ["sentencex", "regex"])
def test_text_of_nothing_but_marks_loses_none_of_them(unit: str, splitter: Splitter) -> None:
    found = split(unit * 30_000, splitter=splitter)  # a moment; were it quadratic in this, the suite would stand still here
    assert "".join(found).replace(" ", "") == "".join((unit * 30_000).split())
