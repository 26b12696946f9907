"""Identity: what is levelled, that long texts hash as short ones do, and that the hold-out is a rule of the set alone."""

import hashlib
import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import identity
from bertlab.corpus.identity import held_out, normalised_sha256
from bertlab.errors import ConfigError


def in_one_go(text: str) -> str:
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()).hexdigest()


def digests(count: int) -> list[str]:
    return [normalised_sha256(f"document {number}") for number in range(count)]


def test_case_width_composition_and_white_space_make_no_difference() -> None:
    same = ["Straße café ﬁn", " STRASSE\tcafe\u0301 \n\nﬁn ", "strasse Cafe\u0301\u00a0fin", "ｓtraße café fin"]
    assert {normalised_sha256(text) for text in same} == {hashlib.sha256("strasse café fin".encode()).hexdigest()}


def test_one_letter_or_one_space_more_is_another_text() -> None:
    assert len({normalised_sha256(text) for text in ("a b", "ab", "a c", "a b.", "")}) == 5


@given(st.text(alphabet=st.sampled_from("aÀ\u0301\u00a8\u1100\u1161 \n\u3000ßﬁ"), max_size=60), st.integers(1, 9))
def test_a_text_hashed_in_chunks_is_the_text_hashed_in_one_go(text: str, chunk: int) -> None:
    before = identity.CHUNK_CHARACTERS
    identity.CHUNK_CHARACTERS = chunk
    try:
        assert normalised_sha256(text) == in_one_go(text)
    finally:
        identity.CHUNK_CHARACTERS = before


def test_half_a_surrogate_pair_does_not_stop_the_hash() -> None:
    assert len(normalised_sha256("a \ud800 b")) == 64


def test_the_held_out_documents_do_not_depend_on_order_or_copies() -> None:
    all_digests = digests(200)
    shuffled = all_digests + all_digests[:50]
    random.Random(1).shuffle(shuffled)
    assert held_out(shuffled, 0.1) == held_out(all_digests, 0.1)
    assert held_out([*all_digests, *all_digests[:1] * 100], 0.1) == held_out(all_digests, 0.1)
    assert held_out(all_digests, 0.1) < held_out(all_digests, 0.2) < set(all_digests)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (100, 0.29, 29),  # 0.29 * 100 is below 29 in floating point
        (1000, 0.1, 100),
        (20, 0.01, 2),  # at least two from twenty documents on
        (19, 0.01, 0),
        (19, 0.2, 3),
        (20, 0.0, 0),
        (3, 0.9, 1),  # two always stay
        (2, 0.9, 0),
        (1, 0.9, 0),
        (0, 0.9, 0),
        (20, 0.99, 18),
    ],
)
def test_the_number_held_out_is_the_share_rounded_down_within_its_bounds(count: int, share: float, expected: int) -> None:
    assert len(held_out(digests(count), share)) == expected


def test_the_smallest_hashes_are_held_out() -> None:
    by_hash = sorted(digests(50), key=lambda digest: hashlib.sha256(("heldout" + digest).encode()).hexdigest())
    assert held_out(digests(50), 0.1) == set(by_hash[:5])


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        held_out(digests(5), share)
