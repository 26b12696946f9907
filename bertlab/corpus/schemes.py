"""Tags of entities, and the ways to write them: every scheme is read as spans and written as one, IOB2.

    IOB2 (BIO)   B- begins every entity, I- goes on
    IOB1         I- everywhere; B- only where an entity follows another of its type
    IO           I- everywhere, or the bare type: neighbours of one type cannot be told apart and are one entity
    BIOES        E- ends an entity of several words, S- is one of a single word (BILOU and BMES write L, U and M)

Which of them a file uses follows from its tags. Tags that fit none are still read as the public scorers read them: whatever is no "O"
belongs to an entity, and an I- or E- that goes on nothing begins one; in how many places that was so is counted. Knows nothing of models.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from bertlab.errors import DataError

Scheme = Literal["IOB2", "IOB1", "IO", "BIOES"]
Span = tuple[int, int, str]  # first word, the word after the last, type

OUTSIDE = "O"
NAMELESS = "_"  # the type of a bare "B" or "I", as seqeval names it
_SAME = {"L": "E", "U": "S", "W": "S", "M": "I"}  # BILOU, BMEWO and BMES by the letters of BIOES


def parts_of(tag: str) -> tuple[str, str]:
    """(letter, type) of a tag: "B-loc" is ("B", "loc"), a bare "B" ("B", "_"), "O" ("O", "")."""
    letter, dash, kind = tag.partition("-")
    return (OUTSIDE, "") if tag == OUTSIDE else (letter, kind if dash and kind else NAMELESS)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence in any scheme but the bare types: B and S begin one; so does what follows O, E, S or another type."""
    spans: list[Span] = []
    before, start, kind_before = OUTSIDE, 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, kind = parts_of(tag)
        goes_on = letter in ("I", "E") and before in ("B", "I") and kind == kind_before
        if before != OUTSIDE and not goes_on:
            spans.append((start, place, kind_before))
        if not goes_on:
            start = place
        before, kind_before = letter, kind
    return spans


def strict_spans_of(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence of IOB2 tags taken at their word: an I- that goes on nothing is no entity, nor part of one."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        letter, kind = parts_of(tag)
        if letter == "B":
            end = place + 1
            while end < len(tags) and parts_of(tags[end]) == ("I", kind):
                end += 1
            spans.append((place, end, kind))
    return spans


def iob2(spans: Iterable[Span], length: int) -> list[str]:
    """The IOB2 tags of a sentence of `length` words in which no two of the spans overlap."""
    tags = [OUTSIDE] * length
    for start, end, kind in spans:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def normalised(sentences: Sequence[Sequence[str]], place: str) -> tuple[list[list[str]], Scheme, int]:
    """(the same entities in IOB2, the scheme that the tags are of, in how many places they do not fit it).

    Raises DataError for tags with and without a letter in one file, and for a letter of no scheme.
    """
    distinct = {tag for tags in sentences for tag in tags}
    sentences, letters = _lettered(sentences, distinct, place)
    scheme, misfits = _scheme_of(sentences, letters)
    return [iob2(spans_of(tags), len(tags)) for tags in sentences], scheme, misfits


def _lettered(sentences: Sequence[Sequence[str]], distinct: set[str], place: str) -> tuple[Sequence[Sequence[str]], set[str]]:
    """The sentences in the letters B, I, O, E, S, and the letters that occur. Tags of bare types become I-."""
    letters = set("BIES") | set(_SAME)
    tags = distinct - {OUTSIDE}
    dashed = {tag for tag in tags if len(tag) > 2 and tag[1] == "-" and tag[0] in letters}
    written: dict[str, str] = {OUTSIDE: OUTSIDE}
    if dashed == tags or tags <= letters:
        for tag in tags:
            letter, kind = parts_of(tag)
            written[tag] = f"{_SAME.get(letter, letter)}-{kind}"
    elif not dashed:
        if "" in {tag.strip() for tag in tags}:
            raise DataError(f"{place}: an empty tag: give every word a tag, 'O' where there is no entity")
        written |= {tag: f"I-{tag}" for tag in tags}
    else:
        odd = min(tags - dashed)
        raise DataError(f"{place}: tag '{odd}' is of no scheme that '{min(dashed)}' is of: write O, B-TYPE, I-TYPE (or E- and S- too)")
    found = {parts_of(tag)[0] for tag in written.values()}
    return [[written[tag] for tag in tags] for tags in sentences], found


def _scheme_of(sentences: Sequence[Sequence[str]], letters: set[str]) -> tuple[Scheme, int]:
    if letters & {"E", "S"}:
        return "BIOES", sum(_misfits_of_bioes(tags) for tags in sentences)
    if "B" not in letters:
        return "IO", 0
    begun_by_i = needless_b = 0
    for tags in sentences:
        before = (OUTSIDE, "")
        for letter, kind in map(parts_of, tags):
            follows_same = before[0] != OUTSIDE and before[1] == kind
            begun_by_i += letter == "I" and not follows_same
            needless_b += letter == "B" and not follows_same
            before = (letter, kind)
    return ("IOB1", 0) if begun_by_i and not needless_b else ("IOB2", begun_by_i)


def _misfits_of_bioes(tags: Sequence[str]) -> int:
    """Where BIOES is not kept: an I or E that goes on nothing, a B or I after which nothing goes on."""
    misfits, before = 0, (OUTSIDE, "")
    for letter, kind in [*map(parts_of, tags), (OUTSIDE, "")]:
        is_open = before[0] in ("B", "I")
        goes_on = letter in ("I", "E") and is_open and kind == before[1]
        misfits += (is_open and not goes_on) + (letter in ("I", "E") and not goes_on)
        before = (letter, kind)
    return misfits
