"""Near-duplicates: signatures estimate what Python's sets say exactly, planted copies are found and nothing else, the first is kept.

The planted set: 400 documents of 300 words and for each of five similarities 80 copies with so many words exchanged. Found at a threshold
of 0.8, in numbers that the tests hold to: all copies at 0.95 and 0.9, 97 % and more of those at 0.85, none at 0.6 and 0.5, none unlike.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertlab.corpus import duplicates, shingles
from bertlab.corpus.duplicates import PERMUTATIONS, near_duplicates, rows_of_band, signature, signatures
from bertlab.errors import ConfigError

pytest.importorskip("rensa", reason="near-duplicates need the extra 'corpus'")

WORDS = 300


def page(seed: int, words: int = WORDS) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(50_000)}" for _ in range(words)]


def runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def jaccard(a: list[str], b: list[str]) -> float:
    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def copy_at(original: list[str], similarity: float, seed: int) -> list[str]:
    """The text with its last words exchanged, as many as bring it next to the similarity: k of m runs changed are J = (m - k) / (m + k)."""
    m = len(original) - 4
    changed = round(m * (1 - similarity) / (1 + similarity))
    copied = original[: len(original) - changed] + page(seed, changed)
    assert abs(jaccard(original, copied) - similarity) < 0.01
    return copied


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


def made_up(similar: list[tuple[int, float]], seed: int = 0) -> np.ndarray:
    """Signatures: row i agrees with the row (or none, -1) that is named in exactly that share of places."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, 0xFFFF, (len(similar), PERMUTATIONS), dtype=np.uint16)
    for place, (like, share) in enumerate(similar):
        if like >= 0:
            same = draw.permutation(PERMUTATIONS) < round(share * PERMUTATIONS)
            rows[place, same] = rows[like, same]
            rows[place, ~same] = rows[like, ~same] ^ 1
    return rows


# ---- signatures


@pytest.mark.parametrize("similarity", [0.0, 0.3, 0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("words", [20, 300])
def test_the_share_of_equal_places_is_the_jaccard_similarity_of_the_sets(similarity: float, words: int) -> None:
    errors = []
    for seed in range(30):
        original = page(seed, words)
        changed = round((words - 4) * (1 - similarity) / (1 + similarity))
        copied = original[: words - changed] + page(seed + 1000, changed) if similarity else page(seed + 1000, words)
        found = signatures([" ".join(original), " ".join(copied)])
        errors.append(agreement(*found) - jaccard(original, copied))
    standard_error = (similarity * (1 - similarity) / PERMUTATIONS) ** 0.5
    assert abs(np.mean(errors)) <= 4 * standard_error / 30**0.5
    assert np.max(np.abs(errors)) <= 4 * standard_error


def test_repeats_case_and_punctuation_leave_a_signature_as_it_is() -> None:
    text = " ".join(page(1))
    assert signature(text).dtype == np.uint16
    assert signature(text).shape == (PERMUTATIONS,)
    assert agreement(signature(text), signature(text.upper().replace(" ", ",  "))) == 1
    assert agreement(signature("a b c d e"), signature("A b, c d e. A b c d e")) < 1  # "b c d e a" and so on are runs too
    assert agreement(signature("a a a a a"), signature("a " * 50)) == 1


def test_a_text_has_the_same_signature_alone_and_among_others() -> None:
    texts = [
        "one two",
        "",
        "Grüße aus Köln am schönen Rhein",
        " ".join(page(3)),
        "日本語の本です",
        "x " * 40_000,
        "one two three four five six",
    ]
    assert np.array_equal(signatures(texts), np.stack([signature(text) for text in texts]))


def test_short_texts_are_one_run_and_texts_without_words_are_like_no_other() -> None:
    found = signatures(["Chapter One", "chapter one!", "chapter two", "", "?!", "\u2764\ufe0f"])
    assert agreement(found[0], found[1]) == 1
    assert agreement(found[0], found[2]) < 0.05
    assert (found[3:] == 0xFFFF).all()
    assert near_duplicates(found).tolist() == [-1, 0, -1, -1, -1, -1]


def test_text_without_spaces_is_compared_by_runs_of_characters() -> None:
    draw = random.Random(5)
    text = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(400))
    changed = text[:-20] + "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(20))
    assert abs(agreement(signature(text), signature(changed)) - jaccard(list(text), list(changed))) < 0.06


@pytest.mark.parametrize("text", [" ".join(page(1)), "a b c", "a b c d", "a b c d e", ". " * 90 + "a b" + " ." * 90, " . " * 90, "a" * 90])
def test_a_long_text_in_pieces_has_the_signature_of_the_text_in_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = signature(" ".join(text.split()))
    if text == "a" * 90:  # is cut where it stands
        whole = signature("a" * 20 + " " + "a" * 20 + " " + "a" * 20 + " " + "a" * 20 + " " + "a" * 10)
    monkeypatch.setattr(shingles, "PIECE_CHARACTERS", 20)
    if len(text) > 20:
        assert list(shingles.batches([text])) == [(0, 1)]
        assert np.array_equal(signature(text), whole)
    else:
        assert np.array_equal(duplicates._long_signature(text) & 0xFFFF, whole)


def test_signatures_start_no_threads() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted where /proc is (Linux)")
    before = threads()
    signatures([*(f"number {number} of three thousand texts" for number in range(3000)), "字" * 300_000, "a " * 300_000])
    assert threads() == before


def test_another_process_with_another_hash_seed_makes_the_same_signatures() -> None:
    program = (
        "import hashlib; from bertlab.corpus.duplicates import signatures; "
        "texts = ['Grüße aus Köln', 'one two three four five six', 'word ' * 30_000, '日本語の本です']; "
        "print(hashlib.sha256(signatures(texts).astype('<u2').tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {"355f5d12cf754b1a06322f6a8cd3e9e12b0802356842a3d1c64b53646b6697d1\n"}  # and on every machine


def test_a_missing_rensa_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[corpus\]'"):
        signature("a b c")


# ---- which are dropped


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, dict[float, list[int]]]:
    """Signatures of 800 documents, 400 originals first; and by similarity the places of the copies: 400 + i copies document i."""
    originals = [page(seed) for seed in range(400)]
    shares = [0.95, 0.9, 0.85, 0.6, 0.5]
    copies = [copy_at(original, shares[place // 80], seed=10_000 + place) for place, original in enumerate(originals)]
    places = {share: list(range(400 + 80 * place, 480 + 80 * place)) for place, share in enumerate(shares)}
    return signatures([" ".join(words) for words in originals + copies]), places


def test_planted_copies_are_found_and_what_is_less_alike_is_kept(planted: tuple[np.ndarray, dict[float, list[int]]]) -> None:
    rows, places = planted
    found = near_duplicates(rows, 0.8)
    recall = {share: float(np.mean([found[place] == place - 400 for place in where])) for share, where in places.items()}
    assert recall[0.95] == recall[0.9] == 1
    assert recall[0.85] >= 0.97
    assert recall[0.6] == recall[0.5] == 0
    dropped = np.flatnonzero(found >= 0)
    assert all(found[place] == place - 400 for place in dropped)  # precision 1


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.97])
def test_what_bands_find_is_what_comparing_all_pairs_finds(planted: tuple[np.ndarray, dict[float, list[int]]], threshold: float) -> None:
    rows = planted[0][::4]
    alike = (rows[:, None, :] == rows[None, :, :]).mean(axis=2) >= threshold
    expected = [bool(alike[place, :place].any()) for place in range(len(rows))]
    found = near_duplicates(rows, threshold) >= 0
    assert not (found & ~np.array(expected)).any()
    assert (found != expected).mean() <= 0.01


def test_the_first_is_kept_whatever_the_order(planted: tuple[np.ndarray, dict[float, list[int]]]) -> None:
    rows, places = planted
    backwards = near_duplicates(rows[::-1], 0.8)
    for copy in places[0.95]:
        assert backwards[799 - copy] == -1
        assert backwards[799 - (copy - 400)] == 799 - copy
    assert near_duplicates(np.repeat(rows[:1], 5, axis=0)).tolist() == [-1, 0, 0, 0, 0]


def test_a_chain_of_copies_keeps_its_first_though_the_last_is_another_text() -> None:
    chain = made_up([(-1, 0), (0, 0.85), (1, 0.85), (2, 0.85), (-1, 0)])
    assert agreement(chain[0], chain[2]) < 0.8
    assert near_duplicates(chain, 0.8).tolist() == [-1, 0, 0, 0, -1]
    assert near_duplicates(chain[[0, 2, 1]], 0.8).tolist() == [-1, -1, 0]  # the middle comes last: the two others are both kept


def test_a_long_chain_ends_at_its_first() -> None:
    found = near_duplicates(made_up([(-1, 0), *((place, 0.9) for place in range(999))]), 0.8)
    assert found.tolist() == [-1] + [0] * 999


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.75, 0.8, 1.0])
def test_a_pair_just_at_the_threshold_is_dropped_and_just_below_is_kept(threshold: float) -> None:
    places = int(np.ceil(threshold * PERMUTATIONS))
    at = made_up([(-1, 0), (0, places / PERMUTATIONS)], seed=3)
    below = made_up([(-1, 0), (0, (places - 1) / PERMUTATIONS)], seed=3)
    assert near_duplicates(at, threshold).tolist() == [-1, 0]
    assert near_duplicates(below, threshold).tolist() == [-1, -1]


def test_bands_let_95_of_100_pairs_at_the_threshold_meet_and_few_below_it() -> None:
    def met(similarity: float, rows: int) -> float:
        return 1 - (1 - similarity**rows) ** (PERMUTATIONS // rows)

    assert rows_of_band(0.8) == 9
    assert [round(met(share, 9), 3) for share in (0.5, 0.8, 0.85)] == [0.053, 0.982, 0.999]
    for threshold in np.linspace(0.05, 1, 39):
        rows = rows_of_band(float(threshold))
        assert 1 <= rows <= PERMUTATIONS
        assert met(float(threshold), rows) >= 0.95
        assert rows == PERMUTATIONS or met(float(threshold), rows + 1) < 0.95 or PERMUTATIONS // (rows + 1) != PERMUTATIONS // rows


def test_pages_that_share_a_frame_are_not_compared_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    agreements = duplicates._agreements

    def counted(rows: np.ndarray, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(later)
        return agreements(rows, earlier, later)

    monkeypatch.setattr(duplicates, "_agreements", counted)
    draw = np.random.default_rng(0)
    count = 3000
    rows = draw.integers(0, 0xFFFF, (count, PERMUTATIONS), dtype=np.uint16)
    rows[:, :128] = 7  # half of every page is the frame: in 14 of 28 bands all are alike
    assert (near_duplicates(rows, 0.8) == -1).all()
    assert compared <= 14 * duplicates.COMPARED * count
    compared = 0
    rows[:, :230] = 7  # nine tenths: copies of the first, each decided by one look
    assert near_duplicates(rows, 0.8).tolist() == [-1] + [0] * (count - 1)
    assert compared == count - 1


def test_signatures_on_the_disk_are_read_in_place(tmp_path: Path, planted: tuple[np.ndarray, dict[float, list[int]]]) -> None:
    rows = planted[0]
    rows.tofile(tmp_path / "signatures")
    mapped = np.memmap(tmp_path / "signatures", np.uint16, "r", shape=rows.shape)
    assert np.array_equal(near_duplicates(mapped), near_duplicates(rows))


def test_blocks_of_another_size_decide_the_same(
    planted: tuple[np.ndarray, dict[float, list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = near_duplicates(planted[0])
    monkeypatch.setattr(duplicates, "ROWS_AT_ONCE", 7)
    assert np.array_equal(near_duplicates(planted[0]), expected)


def test_none_and_one_document_have_no_copies() -> None:
    assert near_duplicates(signatures([])).tolist() == []
    assert near_duplicates(signatures(["a text"])).tolist() == [-1]


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="similarity"):
        near_duplicates(made_up([(-1, 0)]), threshold)
