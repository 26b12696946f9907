"""A document's text into sentences.

Costs: on one core "sentencex" takes 30 to 40 MB/s and "regex" about 10; time is linear in the text, and memory that of the text plus a few
hundred kB, because a long paragraph goes through in pieces of at most 100,000 characters. "sentencex" knows the abbreviations of some 300
languages (an unknown code falls back to English); "regex" knows none. Neither knows what a heading or a list is.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

from bertlab.errors import ConfigError

Splitter = Literal["sentencex", "regex", "lines"]

PIECE_CHARACTERS = 100_000  # sentencex is quadratic on quotation marks that never close: 0.4 s for a piece of nothing else
RUN_CHARACTERS = 10_000  # where a whole piece would have no white space, it is cut here: no sentence of real text is so long

# What has no place in a sentence: control characters that are not white space, the byte order mark, lone halves of a surrogate pair.
_REMOVED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")
# White space that a splitter may take for a sentence or paragraph end of its own.
_ODD_WHITE = re.compile("[\x0b-\r\x1c-\x1f\x85\u2028\u2029]")
# The end of a sentence: its mark, closing quotes and brackets, white space, then what may begin another; a Chinese or Japanese mark alone.
# Possessive and anchored at the first mark of a run, so that it stays linear on a million dots.
_REGEX_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+\s++(?=[\"'“‘«(\[¿¡]*+[^\W_a-zß-öø-ÿа-яα-ω])|[。！？]+[”」』）]*")


def split(text: str, *, splitter: Splitter = "sentencex", language: str = "en") -> list[str]:
    """The sentences of a text whose paragraphs are separated by "\\n". See `iter_sentences`."""
    return list(iter_sentences(text, splitter=splitter, language=language))


def iter_sentences(text: str, *, splitter: Splitter = "sentencex", language: str = "en") -> Iterator[str]:
    """The sentences of a text in order: none crosses a "\\n", none is empty, white space inside is one space.

    "sentencex" and "regex" look for sentence ends; for "lines" each line is a sentence (one over 100,000 characters is still cut).
    Joined by spaces they are the text again, but for white space and control characters. Raises ConfigError for an unknown splitter.
    """
    parts = _parts_of(splitter, language)
    carried = ""
    for piece, goes_on in _pieces(text):
        found = parts(carried + _ODD_WHITE.sub(" ", _REMOVED.sub("", piece)))
        carried = ""
        # The last sentence of a piece that was cut may go on in the next: it waits, unless it is so long that it is no sentence.
        if goes_on and len(found) > 1 and len(found[-1]) <= RUN_CHARACTERS:
            carried = found.pop()
        for part in found:
            if sentence := " ".join(part.split()):
                yield sentence


def _parts_of(splitter: Splitter, language: str) -> Callable[[str], list[str]]:
    """A function that cuts a piece into parts which, joined, are the piece."""
    if splitter == "sentencex":
        import sentencex

        return lambda piece: sentencex.segment(language, piece)
    if splitter == "regex":
        return _regex_parts
    if splitter == "lines":
        return lambda piece: [piece]
    raise ConfigError(f"unknown sentence splitter '{splitter}': choose sentencex, regex or lines")


def _regex_parts(piece: str) -> list[str]:
    ends = [match.end() for match in _REGEX_END.finditer(piece)]
    return [piece[start:end] for start, end in zip([0, *ends], [*ends, len(piece)], strict=True)]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """(piece of a paragraph, whether the paragraph goes on after it): at most 100,000 characters, cut after white space where there is any.

    Positions in `text` are moved, it is never split or copied whole: one paragraph may be 100 MB.
    """
    start = 0
    while start < len(text):
        line_end = text.find("\n", start)
        line_end = len(text) if line_end < 0 else line_end
        while line_end - start > PIECE_CHARACTERS:
            window = text[start : start + PIECE_CHARACTERS]
            head_and_last_word = window.rsplit(None, 1)
            if window[-1].isspace():
                cut = len(window)
            elif len(head_and_last_word) == 2:
                cut = len(window) - len(head_and_last_word[1])
            else:
                cut = RUN_CHARACTERS
            yield window[:cut], True
            start += cut
        yield text[start:line_end], False
        start = line_end + 1
