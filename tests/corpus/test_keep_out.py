"""Keep-out: leaked test texts are found wherever they stand and however they are set; foreign text, and short phrases, are not."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import shingles
from bertlab.corpus.keep_out import fingerprints, read_texts, touched, touches
from bertlab.errors import ConfigError, DataError


def sentence(seed: int, words: int, vocabulary: str = "w") -> list[str]:
    draw = random.Random(seed)
    return [f"{vocabulary}{draw.randrange(3_000)}" for _ in range(words)]


def document(seed: int, words: int = 400) -> list[str]:
    return sentence(seed + 1_000_000, words)


TESTS = [sentence(seed, words=8 + seed % 33) for seed in range(200)]  # 8 to 40 words
KNOWN = fingerprints(" ".join(words) for words in TESTS)


def planted(words: list[str], seed: int, place: int) -> str:
    around = document(seed)
    return " ".join(around[:place] + words + around[place:])


def in_another_setting(text: str) -> str:
    """The same words: in capitals, each in quotation marks, with dashes, tabs and line ends between them, and soft hyphens inside."""
    return "\u201c" + "\u201d \u2014\n\t\u201c".join(word[0] + "\u00ad" + word[1:] for word in text.upper().split()) + "\u201d!"


# ---- leaks


@pytest.mark.parametrize("place", [0, 200, 400])
def test_every_leak_is_found_at_the_beginning_in_the_middle_and_at_the_end(place: int) -> None:
    leaking = [planted(words, seed, place) for seed, words in enumerate(TESTS)]
    found = touched(leaking, KNOWN)
    assert (found > 0).all()  # recall 1
    assert found.tolist() == [max(1, len(words) - 12) for words in TESTS]
    assert (touched([in_another_setting(text) for text in leaking], KNOWN) == found).all()


def test_no_document_is_found_that_shares_no_run() -> None:
    assert not touched([" ".join(document(seed)) for seed in range(2_000)], KNOWN).any()  # 800,000 words of the same 3,000


def test_thirteen_words_of_a_longer_test_text_are_a_leak_and_twelve_are_none() -> None:
    words = sentence(1, 30, "long")
    known = fingerprints([" ".join(words)])
    assert known.lengths == (13,)
    assert len(known.hashes) == 18
    assert touches(planted(words[5:18], 7, 100), known) == 1
    assert touches(planted(words[5:17], 7, 100), known) == 0
    assert touches(planted([*words[:12], "changed", *words[13:24]], 7, 100), known) == 0


def test_a_test_text_of_eight_to_twelve_words_is_kept_out_whole() -> None:
    words = sentence(1, 10, "short")
    known = fingerprints([" ".join(words)])
    assert (known.lengths, len(known.hashes)) == ((10,), 1)
    assert touches(planted(words, 7, 100), known) == touches(" ".join(words), known) == 1
    assert touches(planted(words[1:], 7, 100), known) == touches(planted(words[:-1], 7, 100), known) == 0


def test_short_test_texts_keep_out_what_has_their_words_and_no_other() -> None:
    texts = ["the end of the day", "it was a good film", "yes", "", "?!", "one two three four five six seven", "a b c d e f g h"]
    known = fingerprints(texts)
    assert (known.texts, known.too_short, known.lengths) == (7, 6, (8,))
    assert touches("At the end of the day it was a good film. Yes! One two three four five six seven.", known) == 0
    some = ["It was a good film!", "a good film", "it was a good film yes", "YES", "", "?!", "one two three four five six seven", "No."]
    assert touched(some, known).tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert touched(["it was a good film"] * 2, fingerprints([])).tolist() == [0, 0]
    assert touches("At the end of the day it was a good film.", fingerprints(texts, shortest=5)) == 2


def test_a_phrase_that_test_and_corpus_share_is_no_leak() -> None:
    common = ["on", "the", "other", "hand", "it", "has", "to", "be", "said", "that", "the"]  # 11 words
    known = fingerprints([" ".join(sentence(1, 10, "x") + common + sentence(2, 10, "y"))])
    assert touches(planted(common, 3, 50), known) == 0


def test_each_place_of_a_document_counts_once_for_each_length() -> None:
    ten, thirteen = sentence(1, 10, "ten"), sentence(2, 13, "thirteen")
    known = fingerprints([" ".join(ten), " ".join(thirteen), " ".join(thirteen)])
    assert (known.lengths, known.texts, len(known.hashes)) == ((10, 13), 3, 2)
    assert touches(" ".join(ten + thirteen + ten), known) == 3
    assert touches(" ".join(ten), known) == 1  # not once more as a text shorter than 13


def test_another_length_of_run_can_be_chosen() -> None:
    words = sentence(1, 30, "long")
    assert touches(planted(words[:5], 7, 100), fingerprints([" ".join(words)], 5, shortest=5)) == 1
    assert touches(planted(words[:4], 7, 100), fingerprints([" ".join(words)], 5, shortest=5)) == 0
    for n, shortest in ((5, 8), (13, 0), (0, 0)):
        with pytest.raises(ConfigError, match="1 <= shortest <= run"):
            fingerprints([], n, shortest=shortest)


def test_text_without_spaces_is_kept_out_by_runs_of_characters() -> None:
    draw = random.Random(1)
    text = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(20))
    known = fingerprints([text])
    assert touches("前文。" + text[:10] + "、" + text[10:] + "後文。", known) == 8
    assert touches("前文。" + text[:12] + "後文。", known) == 0


# ---- against loops over sets, in pieces, in batches

letters = st.lists(st.text(st.sampled_from("ab ."), max_size=25), max_size=6)


@given(letters, letters, st.integers(1, 4), st.data())
def test_counts_are_those_of_python_sets(tests: list[str], texts: list[str], n: int, data: st.DataObject) -> None:
    def words(text: str) -> list[str]:
        return text.replace(".", " ").split()

    shortest = data.draw(st.integers(1, n))
    kept_out = [words(text) for text in tests if len(words(text)) >= shortest]
    runs = {tuple(each[i : i + n]) for each in kept_out for i in range(max(1, len(each) - n + 1))}
    known = fingerprints(tests, n, shortest=shortest)
    assert (len(known.hashes), known.texts, known.too_short) == (len(runs), len(tests), len(tests) - len(kept_out))
    assert known.lengths == tuple(sorted({len(run) for run in runs}))
    short = {tuple(words(text)) for text in tests if 0 < len(words(text)) < shortest}
    assert len(known.whole) == len(short)
    expected = [
        sum(tuple(words(text)[i : i + k]) in runs for k in known.lengths for i in range(len(words(text)) - k + 1))
        + (tuple(words(text)) in short)
        for text in texts
    ]
    assert touched(texts, known).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:  # every text in pieces
        patch.setattr(shingles, "PIECE_CHARACTERS", 1)
        patch.setattr(shingles, "pieces", lambda text: iter([part + " " for part in text.replace(".", " ").split(" ")]))
        assert touched(texts, known).tolist() == expected
        again = fingerprints(tests, n, shortest=shortest)
    assert np.array_equal(again.hashes, known.hashes) and np.array_equal(again.whole, known.whole)
    assert (again.lengths, again.texts, again.too_short) == (known.lengths, known.texts, known.too_short)


def test_a_leak_across_the_pieces_of_a_long_document_is_found() -> None:
    words = sentence(1, 40, "leak")
    known = fingerprints([" ".join(words), " ".join(words[:8])])
    before, after = " ".join(document(5, 5_000))[:24_600], " ".join(document(6, 5_000))
    inside = 0
    for more in range(0, 200, 3):
        text = before + " x" * more + " " + " ".join(words) + " " + after
        first, second = shingles.pieces(text)
        inside += words[0] in first.split()[-40:] and words[-1] in second.split()[:40]
        assert touches(text, known) == 28 + 1
    assert inside > 30


def test_no_test_texts_touch_nothing() -> None:
    known = fingerprints([])
    assert (known.lengths, known.texts, known.too_short) == ((), 0, 0)
    assert touched(["a b c", "", "x " * 60_000], known).tolist() == [0, 0, 0]
    assert touched([], KNOWN).tolist() == []


def test_the_numbers_do_not_depend_on_the_order_of_the_test_texts() -> None:
    backwards = fingerprints(" ".join(words) for words in reversed(TESTS))
    assert np.array_equal(backwards.hashes, KNOWN.hashes)
    assert (np.diff(KNOWN.hashes.view(np.int64)) != 0).all() and (KNOWN.hashes[1:] > KNOWN.hashes[:-1]).all()


def test_the_table_before_the_search_has_room_and_uses_all_of_it() -> None:
    halves = KNOWN.table.reshape(2, -1).sum(axis=1)
    assert halves.min() > 0 and 0.9 * len(KNOWN.hashes) < halves.sum() <= len(KNOWN.table) / 16


# ---- files


def test_texts_come_from_tables_and_text_files_both_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("label,text\n1,first\n0,second\n")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"text": a, "text_b": b}) + "\n" for a, b in (("a", "b"), ("c", "d"))))
    (tmp_path / "lines.txt").write_text("one line\n\nanother\n")
    paths = [tmp_path / name for name in ("test.csv", "pairs.jsonl", "lines.txt")]
    assert list(read_texts(paths)) == ["first", "second", "a", "b", "c", "d", "one line", "", "another"]
    assert list(read_texts([str(tmp_path / "test.csv")], text="label")) == ["1", "0"]


def test_a_file_that_is_not_there_or_has_no_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv"):
        list(read_texts([tmp_path / "none.csv"]))
    (tmp_path / "test.csv").write_text("sentence\nx\n")
    with pytest.raises(DataError, match=r"test\.csv"):
        list(read_texts([tmp_path / "test.csv"]))
