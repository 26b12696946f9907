"""bertlab/corpus/schemes.py: the same spans from every way of writing them, and seqeval's spans from any tags at all."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Tokens

from bertlab.corpus.schemes import Span, iob2, normalised, spans_of, strict_spans_of
from bertlab.errors import DataError

#        0         1        2    3        4        5    6
BIO = ["B-per", "I-per", "O", "B-loc", "B-loc", "O", "B-per"]
SPANS = [(0, 2, "per"), (3, 4, "loc"), (4, 5, "loc"), (6, 7, "per")]

ANY_TAGS = st.lists(st.sampled_from(["O", "O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("x", "y-z"))]), max_size=12)
IOB2_TAGS = st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), max_size=12)


@st.composite
def spans_and_length(draw: Any) -> tuple[list[Span], int]:
    """Entities of a sentence, neighbours of one type among them."""
    spans, place = [], 0
    for gap, width, kind in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("xy")), max_size=5)):
        spans.append((place + gap, place + gap + width, kind))
        place += gap + width
    return spans, place + draw(st.integers(0, 2))


def iob1(spans: list[Span], length: int) -> list[str]:
    tags = ["O"] * length
    for start, end, kind in spans:
        follows_same = start and tags[start - 1].endswith("-" + kind)
        tags[start:end] = [f"{'B' if follows_same else 'I'}-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def bioes(spans: list[Span], length: int, letters: str = "BIES") -> list[str]:
    begin, inside, last, single = list(letters)
    tags = ["O"] * length
    for start, end, kind in spans:
        inner = [f"{begin}-{kind}", *[f"{inside}-{kind}"] * (end - start - 2), f"{last}-{kind}"]
        tags[start:end] = inner if end - start > 1 else [f"{single}-{kind}"]
    return tags


def test_spans_and_tags_by_hand() -> None:
    assert spans_of(BIO) == strict_spans_of(BIO) == SPANS
    assert iob2(SPANS, 7) == BIO
    assert spans_of([]) == [] and spans_of(["O", "O"]) == []
    assert spans_of(["I-x", "I-x", "I-y", "O"]) == [(0, 2, "x"), (2, 3, "y")]
    assert strict_spans_of(["I-x", "B-x", "I-y", "I-x"]) == [(1, 2, "x")]


@given(ANY_TAGS)
@settings(max_examples=400, deadline=None)
def test_any_tags_have_the_spans_of_seqevals_default_mode(tags: list[str]) -> None:
    assert spans_of(tags) == [(start, last + 1, kind) for kind, start, last in get_entities(list(tags))]


@given(IOB2_TAGS)
@settings(max_examples=300, deadline=None)
def test_iob2_tags_have_the_spans_of_seqevals_strict_mode(tags: list[str]) -> None:
    assert strict_spans_of(tags) == [(found.start, found.end, found.tag) for found in Tokens(list(tags), IOB2).entities]


@given(st.lists(spans_and_length(), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_every_scheme_comes_out_as_the_same_iob2(sentences: list[tuple[list[Span], int]]) -> None:
    wanted = [iob2(*sentence) for sentence in sentences]
    letters = ("BIES", "BILU", "BMES")
    for write in (iob2, iob1, *(lambda spans, length, each=each: bioes(spans, length, each) for each in letters)):
        tags, _, misfits = normalised([write(*sentence) for sentence in sentences], "here")
        assert tags == wanted and misfits == 0


@pytest.mark.parametrize(
    ("tags", "scheme", "expected"),
    [
        (["B-x", "I-x", "O", "B-x"], "IOB2", ["B-x", "I-x", "O", "B-x"]),
        (["I-x", "I-x", "B-x", "O"], "IOB1", ["B-x", "I-x", "B-x", "O"]),
        (["I-x", "I-x", "I-y", "O"], "IO", ["B-x", "I-x", "B-y", "O"]),
        (["x", "x", "y", "O"], "IO", ["B-x", "I-x", "B-y", "O"]),
        (["B-x", "E-x", "S-x", "O"], "BIOES", ["B-x", "I-x", "B-x", "O"]),
        (["B-x", "L-x", "U-x", "O"], "BIOES", ["B-x", "I-x", "B-x", "O"]),
        (["B", "I", "O", "B"], "IOB2", ["B-_", "I-_", "O", "B-_"]),
        (["O", "O", "O", "O"], "IO", ["O", "O", "O", "O"]),
    ],
)
def test_the_scheme_follows_from_the_tags(tags: list[str], scheme: str, expected: list[str]) -> None:
    assert normalised([tags], "here") == ([expected], scheme, 0)


@pytest.mark.parametrize(
    ("tags", "scheme", "misfits"),
    [
        (["I-x", "O", "B-x", "I-x", "I-y"], "IOB2", 2),  # the first and the last tag go on nothing
        (["B-x", "O", "E-x", "S-x", "I-x"], "BIOES", 4),  # not ended; not begun; not begun, and not ended
        (["B-x", "I-x", "E-x", "S-x", "O"], "BIOES", 0),
    ],
)
def test_what_fits_no_scheme_is_counted_and_read_as_seqeval_reads_it(tags: list[str], scheme: str, misfits: int) -> None:
    (read,), found, count = normalised([tags], "here")
    assert (found, count) == (scheme, misfits) and spans_of(read) == spans_of(tags) and read == iob2(spans_of(tags), len(tags))


@pytest.mark.parametrize("tags", [["B-x", "per"], ["B-x", "X-x"], ["B-x", "I-"], ["per", ""], ["I-x", " "]])
def test_tags_of_no_scheme_are_one_clear_line(tags: list[str]) -> None:
    with pytest.raises(DataError, match=r"^here: .*tag") as caught:
        normalised([tags], "here")
    assert "\n" not in str(caught.value)
