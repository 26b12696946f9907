"""What is mended in a text, character by character: wrong decoding, characters that nobody sees, Unicode's composed form, white space.

Each function gives the mended text and adds to `changed` under its step's name; a text with nothing to mend comes back as it is, at the
cost of looking for it. Time is linear in the text, also for a million combining marks or joiners in a row.
Costs on one core, prose with some typographic marks: each step 80 to 180 MB/s, pure ASCII far more; ftfy takes 3 MB/s of what it mends.
"""

import re
import unicodedata
from collections import Counter
from functools import cache

from bertlab.errors import ConfigError, install

LONGEST_MARKS = 30  # UAX #15, section 13: no language puts more on a letter, and normalising is quadratic in their number
PIECE_CHARACTERS = 10_000  # of a line, handed to ftfy at once

# Always removed. White space among the controls is not here: `white_space` levels it, and without that step it stays.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad"  # controls, the soft hyphen
    "\u034f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc"  # zero-width, direction, annotation, the byte order mark
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"  # halves of pairs, private use, what is no character
    "\U000e0000-\U000e007f\U000f0000-\U0010ffff]"  # tags, private use
)
_UNSEEN_BYTES = bytes([*range(9), *range(0x0E, 0x1C), 0x7F])
# Scripts that write with joiners: Arabic and Syriac to Thaana, N'Ko; India's and its neighbours'; Mongolian; the historic ones beyond.
_JOINING_SCRIPTS = (
    (0x600, 0x8FF),
    (0x900, 0xDFF),
    (0xE80, 0x109F),
    (0x1780, 0x18AF),
    (0x1900, 0x1CFF),
    (0xA800, 0xAAFF),
    (0x11000, 0x11FFF),
)
_EMOJI = "[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff]"
_ODD_WHITE = re.compile("[\t\x0b-\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_PARAGRAPH_END = re.compile("\r\n?|\u2029")
_SPACES = re.compile("  +")
_LINE_ENDS = re.compile("\n\n+")
# A lead byte of UTF-8 and a byte that follows one (0x80 to 0xbf), as Latin-1 or Windows-1252 shows them; 0xa0 may have become a space.
_FOLLOWING = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_MOJIBAKE = re.compile(f"[\xc2-\xf4]{_FOLLOWING}|[\xc2\xc3] ")
# UTF-8 has at most three bytes that follow; on a long run of them ftfy repairs one, starts again, and is quadratic.
_NO_MOJIBAKE = re.compile(_FOLLOWING + "{5}")


def without_mojibake(text: str, changed: Counter[str]) -> str:
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    try:
        import ftfy
    except ImportError:
        raise ConfigError(f"mojibake: ftfy is not installed: {install('corpus')}, or switch the step off") from None
    parts: list[str] = []
    for line in text.split("\n"):
        start = 0
        while start < len(line):
            end = len(line) if len(line) - start <= PIECE_CHARACTERS else line.rfind(" ", start + 1, start + PIECE_CHARACTERS)
            end = start + PIECE_CHARACTERS if end < 0 else end
            piece, start = line[start:end], end
            if _MOJIBAKE.search(piece) and not _NO_MOJIBAKE.search(piece):
                repaired = ftfy.fix_encoding(piece)
                if len(repaired) < len(piece) and "\n" not in repaired:
                    piece = repaired
                    changed["mojibake"] += 1
            parts.append(piece)
        parts.append("\n")
    return "".join(parts[:-1])


def without_unseen(text: str, changed: Counter[str]) -> str:
    before = len(text)
    if text.isascii():
        kept = text.encode("ascii").translate(None, _UNSEEN_BYTES)
        text = text if len(kept) == before else kept.decode("ascii")
    else:
        text = _UNSEEN.sub("", text)
        if "\u200c" in text or "\u200d" in text:
            text = _joiners()[1].sub(r"\1", _joiners()[0].sub(r"\1", text))
    if len(text) < before:
        changed["control_characters"] += before - len(text)
    return text


def composed(text: str, changed: Counter[str]) -> str:
    if text.isascii():
        return text
    cut = _with_few_marks(text, changed)
    if unicodedata.is_normalized("NFC", cut):
        return cut
    changed["nfc"] = 1
    return _with_few_marks(unicodedata.normalize("NFC", cut), changed)  # U+0344 is two marks, an accented letter may give one back


def _with_few_marks(text: str, changed: Counter[str]) -> str:
    """No more than LONGEST_MARKS combining marks in a row."""
    mark, surplus = _marks()
    if not mark.search(text[:: LONGEST_MARKS + 1]):  # every longer run has a place in this sample
        return text
    kept = surplus.sub(r"\1", text)
    if len(kept) < len(text):
        changed["combining_marks"] += len(text) - len(kept)
    return kept


@cache
def _nonstarters() -> str:
    """All characters that NFC may reorder or that are made of such ones, as the inside of a regular expression's set."""
    ends = [code for code in range(0x300, 0x20000) if unicodedata.combining(chr(code)) or code in (0xF73, 0xF75, 0xF81)]
    return _as_set(ends)


def _as_set(codes: list[int]) -> str:
    firsts = [code for code, before in zip(codes, [-1, *codes], strict=False) if code != before + 1]
    lasts = [code for code, after in zip(codes, [*codes[1:], -1], strict=True) if code + 1 != after]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(firsts, lasts, strict=True))


@cache
def _marks() -> tuple[re.Pattern[str], re.Pattern[str]]:
    marks = f"[{_nonstarters()}]"
    return re.compile(marks), re.compile(f"({marks}{{{LONGEST_MARKS}}}){marks}+")


@cache
def _joiners() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two substitutions by group 1: runs of joiners become their first; joiners that no script uses go.

    A joiner stays between two letters of scripts that write with joiners, marks aside; after a Malayalam letter (old chillu letters end a
    word by one); and U+200D between two emoji. The marks may be of any script, because NFC puts them in another order.
    """
    mark = _marks()[0]
    letters = [code for first, last in _JOINING_SCRIPTS for code in range(first, last + 1) if not mark.match(chr(code))]
    letter, malayalam = f"[{_as_set(letters)}]", f"[{_as_set([code for code in letters if 0xD00 <= code < 0xD80])}]"
    marks = f"{mark.pattern}*+"
    kept = f"{letter}{marks}[\u200c\u200d](?={marks}{letter})|{malayalam}{marks}\u200d|{_EMOJI}\u200d(?={_EMOJI})"
    return re.compile("([\u200c\u200d])[\u200c\u200d]+"), re.compile(f"({kept})|[\u200c\u200d]")


def levelled(text: str) -> str:
    if _ODD_WHITE.search(text):
        text = _ODD_WHITE.sub(" ", _PARAGRAPH_END.sub("\n", text))
    if "  " in text:
        text = _SPACES.sub(" ", text)
    if " \n" in text or "\n " in text:
        text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n" in text:
        text = _LINE_ENDS.sub("\n", text)
    return text.strip(" \n")
