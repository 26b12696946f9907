"""A text as a row of words, and its runs of n words as 64-bit numbers: what near-duplicates and leaks of a test set are looked up by.

A word is a run of letters, digits and their marks, after Unicode compatibility forms and letter case are levelled; punctuation, symbols and
white space separate, characters without a shape (soft hyphen, joiners) vanish. In scripts that put no space between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) each letter is a word. No string is made of a word: numpy hashes the code points of 50,000 characters
at a time, a long text in pieces and short ones together, so that memory stays flat. The numbers are the same in every process and on every
machine (but for letters that a newer Python's Unicode tables add). They are no defence: whoever tries can make two texts with one number.

Two runs of words that differ have the same number by chance about once in 2**64: of m runs looked up among f known ones m * f / 2**64 are
false hits, which is 0.0005 for the 10**10 runs of 60 GB of text and the 10**6 of a test set.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

# What is hashed at once. Each array of it, 400 kB, stays in a core's cache, and rensa stays in its thread: from 256 texts or 65,536 runs of
# words on it starts others, one a core, which every worker would do.
PIECE_CHARACTERS = 50_000
BATCH_TEXTS = 128
NO_WORDS = np.empty(0, np.uint64)

SEPARATOR, LETTER, MARK, ALONE, VANISHES = range(5)  # kinds of characters; a mark belongs to the letter before it
CATEGORIES = {"L": LETTER, "N": LETTER, "M": MARK, "Cf": VANISHES}  # Unicode's general categories; all others separate
ASSIGNED = ((0, 0x3FFFF), (0xE0000, 0xE01EF))  # the rest is private use, or nothing yet
# (first, last) code point of the scripts that are written without spaces
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # more of them
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA48F),  # Yi
    (0xA9E0, 0xA9FF),  # more of Burmese
    (0xAA60, 0xAADF),  # more of Burmese, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0x1B000, 0x1B16F),  # more of Hiragana and Katakana
    (0x20000, 0x3FFFF),  # Han
)
VARIATION_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))  # they choose a picture of the character before them

# Two odd numbers of no pattern, the multipliers of splitmix64 (Steele, Lea and Flood 2014). Both are bases of polynomials: 3 modulo 4 loses
# one bit, not two, where two neighbours change places.
LETTER_BASE, WORD_BASE = 0x94D049BB133111EB, 0xBF58476D1CE4E5BB
_WHITE = re.compile(r"\s")


# ---- texts in pieces


def batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the texts that are hashed together, in order: up to 50,000 characters and 128 texts, or one longer text."""
    first, characters = 0, 0
    for place, text in enumerate(texts):
        if place > first and (characters + len(text) > PIECE_CHARACTERS or place - first == BATCH_TEXTS):
            yield first, place
            first, characters = place, 0
        characters += len(text)
    if len(texts) > first:
        yield first, len(texts)


def is_long(texts: Sequence[str], first: int, end: int) -> bool:
    """Whether a batch is one text that goes in pieces (`word_pieces`), not with others (`word_hashes`)."""
    return end - first == 1 and len(texts[first]) > PIECE_CHARACTERS


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of up to 50,000 characters, cut before the first white space in their second half, or hard where there is none."""
    start = 0
    while start < len(text):
        longest = min(len(text), start + PIECE_CHARACTERS)
        white = _WHITE.search(text, start + PIECE_CHARACTERS // 2, longest) if longest < len(text) else None
        end = white.start() if white else longest
        yield text[start:end]
        start = end


# ---- words


def word_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """N texts of no more than a piece together -> the numbers of their words end to end (W,) uint64, where each begins (N + 1,) int64."""
    levelled = [_levelled(text) for text in texts]
    joined = "\n".join(levelled)
    begins = np.zeros(len(texts) + 1, np.int64)  # in characters
    np.cumsum([len(text) + 1 for text in levelled], out=begins[1:])
    kinds, values, new_word = _tables()
    if joined.isascii():
        codes = np.frombuffer(joined.encode(), np.uint8)  # (C,)
        kind = kinds.take(codes)  # (C,)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
        kind = kinds.take(codes)
        gone = np.flatnonzero(kind == VANISHES)
        codes, kind = np.delete(codes, gone), np.delete(kind, gone)
        begins -= np.searchsorted(gone, begins)
    pair = kind.copy()
    pair[1:] += 4 * kind[:-1]  # with the kind of the character before
    starts = np.flatnonzero(new_word.take(pair))  # (W,)
    if not len(starts):
        return NO_WORDS, np.zeros(len(texts) + 1, np.int64)
    powers, inverse = _powers(LETTER_BASE, len(codes))
    letters = values.take(codes)  # (C,), 0 for what separates: it counts in no word
    letters *= powers
    return np.add.reduceat(letters, starts) * inverse.take(starts), np.searchsorted(starts, begins)


def word_pieces(text: str, carried: int) -> Iterator[tuple[np.ndarray, int]]:
    """A text of any length, piece by piece: the numbers of words (W,), the first few of them from before; and how many, up to `carried`."""
    words = NO_WORDS
    for piece in pieces(text):
        new, _ = word_hashes([piece])
        words = np.concatenate([words[max(0, len(words) - carried) :], new])
        yield words, len(words) - len(new)


def _levelled(text: str) -> str:
    """As bertlab.corpus.identity does; for ASCII lower case is all there is to do."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


# ---- runs of words


def gram_hashes(words: np.ndarray, begins: np.ndarray, n: int, *, short: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Words (W,) of N texts that begin at `begins` (N + 1,) -> the numbers of their runs of n words (G,) uint64, where each text's begin.

    With `short` a text of fewer than n words, but not of none, has one run: all its words.
    """
    powers, inverse = _powers(WORD_BASE, len(words))
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(words * powers, out=sums[1:])
    ends = np.repeat(begins[1:], np.diff(begins))  # (W,) of the text that a word is in
    fits = np.arange(n, len(words) + n) <= ends
    if short:
        fits[begins[:-1][np.diff(begins) > 0]] = True
    firsts = np.flatnonzero(fits)  # (G,)
    lasts = np.minimum(firsts + n, ends.take(firsts))
    return _mixed((sums.take(lasts) - sums.take(firsts)) * inverse.take(firsts)), np.searchsorted(firsts, begins)


def run_hashes(words: np.ndarray, n: int, *, short: bool = False) -> np.ndarray:
    """`gram_hashes` of the words of one text, or of a piece of it."""
    return gram_hashes(words, np.array([0, len(words)]), n, short=short)[0]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Sums that differ in a pattern become numbers that differ in none (the last step of splitmix64)."""
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


# ---- tables


def _powers(base: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `length` powers of an odd base, and of its inverse, modulo 2**64."""
    powers, inverse = _power_table(base, max(4 * PIECE_CHARACTERS, 1 << length.bit_length()))
    return powers[:length], inverse[:length]


@cache
def _power_table(base: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    tables = []
    for each in (base, pow(base, -1, 1 << 64)):
        table = np.full(length, each, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table))
    return tables[0], tables[1]


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each code point its kind (uint8) and its value (uint64); for each pair of kinds whether a word begins at the second."""
    kinds = np.full(0x110000, SEPARATOR, np.uint8)
    for first, last in ASSIGNED:
        categories = map(unicodedata.category, map(chr, range(first, last + 1)))
        kinds[first : last + 1] = [CATEGORIES.get(name, CATEGORIES.get(name[0], SEPARATOR)) for name in categories]
    for first, last in UNSPACED:
        script = kinds[first : last + 1]
        script[script == LETTER] = ALONE
    for first, last in VARIATION_SELECTORS:
        kinds[first : last + 1] = VANISHES
    values = _mixed(np.arange(1, 0x110001, dtype=np.uint64))
    values[kinds == SEPARATOR] = 0
    new_word = np.zeros(16, bool)  # at 4 * the kind before + the kind
    for before in (SEPARATOR, LETTER, MARK, ALONE):
        new_word[4 * before + LETTER] = before in (SEPARATOR, ALONE)
        new_word[4 * before + MARK] = before == SEPARATOR
        new_word[4 * before + ALONE] = True
    return kinds, values, new_word
