"""Shingles: what a word is, that numbers tell texts apart and nothing else does, and that long texts are numbered as short ones are."""

import unicodedata
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import shingles
from bertlab.corpus.shingles import BATCH_TEXTS, batches, gram_hashes, pieces, run_hashes, word_hashes, word_pieces


def words(text: str) -> list[int]:
    return word_hashes([text])[0].tolist()


def spelled(text: str) -> list[str]:
    """The words of a text, character by character, for the scripts that the tests use."""
    found: list[str] = []
    inside = ""  # the general category of the character before, or "" where it separates
    for character in unicodedata.normalize("NFKC", text).casefold():
        category = unicodedata.category(character)
        if category == "Cf":
            continue
        alone = "\u4e00" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0eff" and category[0] in "LN"
        if category[0] not in "LNM":
            inside = ""
            continue
        if not inside or alone or (inside == "alone" and category[0] != "M"):
            found.append("")
        found[-1] += character
        inside = "alone" if alone else category
    return found


# ---- words


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Don't stop, well-known Mr. Smith!", "don t stop well known mr smith"),
        ("Don\u2019t", "DON'T"),
        ("Stra\u00dfe \ufb01n caf\u00e9", "STRASSE fin cafe\u0301"),
        ("\uff34\uff25\uff33\uff34 \u2460", "test 1"),
        ("ex\u00adam\u200bple", "example"),
        ("love \u2764\ufe0f you \U0001f44d", "love you"),
        ("a_b\x00c\nd\u3000e\ud800f", "a b c d e f"),
        ("3,141.59", "3 141 59"),
    ],
)
def test_case_width_punctuation_and_what_has_no_shape_make_no_difference(text: str, same: str) -> None:
    assert words(text) == words(same) != []


@pytest.mark.parametrize("other", ["a bc", "ab d", "c ab", "ab", "abc", "ab c c", "ab ç", ""])
def test_other_words_or_another_order_are_another_text(other: str) -> None:
    assert words(other) != words("ab c")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("?! \u2014 \u2764\ufe0f", 0),
        ("日本語の本。東京", 7),
        ("GPU用のcode", 4),  # gpu 用 の code
        ("ที่นี่", 2),  # two consonants, each with a vowel and a tone over it
        ("हिन्दी में", 2),  # vowel signs are marks of the letter before
        ("한국어 문장", 2),
        ("ру́сский язык", 2),
    ],
)
def test_words_are_counted_as_their_script_writes_them(text: str, count: int) -> None:
    assert len(words(text)) == count


@given(st.lists(st.text(st.sampled_from("abAB1 ,-'\u00e9\u0301\u00ad\u4e00\u65e5\u0e17\u0e35ß\u0130\n\ud800"), max_size=30), max_size=6))
def test_two_words_have_the_same_number_exactly_if_they_are_spelled_the_same(texts: list[str]) -> None:
    hashes, begins = word_hashes(texts)
    expected = [spelled(text) for text in texts]
    assert np.diff(begins).tolist() == [len(each) for each in expected]
    pairs = set(zip(hashes.tolist(), sum(expected, []), strict=True))
    assert len({number for number, _ in pairs}) == len({word for _, word in pairs}) == len(pairs)


def test_half_a_million_short_words_have_numbers_of_their_own() -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    text = " ".join("".join(each) for each in product(letters, repeat=4)) + " " + " ".join(map(str, range(50_000)))
    numbers = np.concatenate([word_hashes([piece])[0] for piece in pieces(text)])
    assert len(np.unique(numbers)) == len(numbers) == 26**4 + 50_000


def splitmix64(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def test_the_numbers_are_polynomials_that_whole_numbers_give_too() -> None:
    spelled_out = ["the", "naïve", "日"]
    numbers = [
        sum(splitmix64(ord(letter) + 1) * pow(shingles.LETTER_BASE, place, 2**64) for place, letter in enumerate(word)) % 2**64
        for word in spelled_out
    ]
    assert words("The naïve 日!") == numbers
    run = splitmix64((numbers[1] + numbers[2] * shingles.WORD_BASE) % 2**64)
    assert run_hashes(word_hashes(["The naïve 日!"])[0], 2).tolist()[1] == run
    assert numbers[0] == 13981888938073233310  # and on every machine


# ---- runs of words


def test_each_run_of_n_words_has_one_number_wherever_it_stands() -> None:
    long, begins = word_hashes(["a b c d e", "x b c d"])
    runs, run_begins = gram_hashes(long, begins, 3)
    assert run_begins.tolist() == [0, 3, 5]  # abc bcd cde | xbc bcd: none crosses from text to text
    assert runs[1] == runs[4]
    assert len(set(runs.tolist())) == 4


def test_runs_of_the_same_words_in_another_order_or_number_differ() -> None:
    texts = ["a b c", "c b a", "b a c", "a c b", "a b", "a b c c", "a a b c", "abc", "a b d"]
    numbers = [run_hashes(word_hashes([text])[0], len(text.split())).tolist() for text in texts]
    assert all(len(each) == 1 for each in numbers)
    assert len({each[0] for each in numbers}) == len(texts)


def test_a_text_shorter_than_a_run_has_none_or_if_asked_one_of_all_its_words() -> None:
    hashes, begins = word_hashes(["a b", "", "a b c", "...", "a"])
    assert [each.tolist() for each in gram_hashes(hashes, begins, 3)][1] == [0, 0, 0, 1, 1, 1]
    runs, run_begins = gram_hashes(hashes, begins, 3, short=True)
    assert run_begins.tolist() == [0, 1, 1, 2, 2, 3]
    assert runs[0] == run_hashes(word_hashes(["a b"])[0], 2)[0]


@given(st.lists(st.text(st.sampled_from("ab ."), max_size=20), max_size=5), st.integers(1, 4))
def test_runs_are_those_of_a_loop_over_words(texts: list[str], n: int) -> None:
    runs, begins = gram_hashes(*word_hashes(texts), n, short=True)
    expected = []
    for text in texts:
        each = spelled(text)
        expected.append([tuple(each[i : i + n]) for i in range(max(len(each) - n + 1, min(1, len(each))))])
    assert np.diff(begins).tolist() == [len(each) for each in expected]
    pairs = set(zip(runs.tolist(), sum(expected, []), strict=True))
    assert len({number for number, _ in pairs}) == len({run for _, run in pairs}) == len(pairs)


# ---- pieces and batches


@given(st.text(st.sampled_from("abc ,\n日é"), max_size=80), st.integers(4, 9), st.integers(0, 5))
def test_a_long_text_in_pieces_has_the_words_of_the_text_in_one(text: str, piece: int, carried: int) -> None:
    text = " ".join(word[: piece // 2 - 1] for word in text.split(" "))  # a longer run without white space may be cut, below
    expected = words(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "PIECE_CHARACTERS", piece)
        assert "".join(pieces(text)) == text
        found: list[int] = []
        for hashes, before in word_pieces(text, carried):
            assert hashes[:before].tolist() == found[len(found) - before :]
            assert before == min(carried, len(found))
            found += hashes[before:].tolist()
    assert found == expected


def test_a_run_without_white_space_is_cut_into_pieces_of_bounded_size() -> None:
    text = "x" * 400_000 + " y"
    assert list(map(len, pieces(text))) == [50_000] * 8 + [2]
    assert sum(len(words(piece)) for piece in pieces(text)) == 9


def test_compatibility_forms_that_grow_eighteenfold_are_hashed_all_the_same() -> None:
    assert len(words("\ufdfa " * 30_000)) == 4 * 30_000


def test_texts_are_hashed_together_up_to_a_piece_and_in_order() -> None:
    sizes = [10, 60_000, 49_500, 500, 37, 49_963, 0, 0]
    assert list(batches(["x" * size for size in sizes])) == [(0, 1), (1, 2), (2, 4), (4, 8)]
    assert list(batches([""] * (BATCH_TEXTS + 1))) == [(0, BATCH_TEXTS), (BATCH_TEXTS, BATCH_TEXTS + 1)]
    assert list(batches([])) == []


def test_a_text_has_the_same_numbers_alone_and_among_others() -> None:
    texts = ["ASCII only, it's plain.", "ein Gruß", "so\u00adft", "", "日本", "plain again"]
    hashes, begins = word_hashes(texts)
    assert [hashes[begins[i] : begins[i + 1]].tolist() for i in range(len(texts))] == [words(text) for text in texts]
