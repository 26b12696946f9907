"""What makes two documents the same, and which of them are held out.

Two documents are the same when their texts are, after Unicode compatibility forms, letter case and white space are levelled. Who is held
out follows from the set of documents alone: not from their order, number of files or workers, nor from chance.
Finds exact duplicates only: a text with one word changed is another document.
"""

import hashlib
import heapq
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction

from bertlab.errors import ConfigError

CHUNK_CHARACTERS = 1_000_000  # a text of 100 MB split into words at once would take gigabytes
_WHITE = re.compile(r"\s")


def normalised_sha256(text: str) -> str:
    """The sha256, in hexadecimal, of the text in NFKC, case-folded, with each run of white space one space and none at the ends."""
    digest = hashlib.sha256()
    start, separator = 0, ""
    while start < len(text):
        white = _WHITE.search(text, start + CHUNK_CHARACTERS)  # cut before white space only: nothing composes across it
        end = white.start() if white else len(text)
        if words := unicodedata.normalize("NFKC", text[start:end]).casefold().split():
            digest.update((separator + " ".join(words)).encode("utf-8", "surrogatepass"))
            separator = " "
        start = end
    return digest.hexdigest()


def ranked(digests: Sequence[str], purpose: str) -> list[str]:
    """The distinct digests in an order that is random to look at, the same on every machine, and another one for every purpose."""
    return sorted(set(digests), key=_place(purpose))


def _place(purpose: str) -> Callable[[str], tuple[bytes, str]]:
    return lambda digest: (hashlib.sha256((purpose + digest).encode()).digest(), digest)


def share_of(share: float, count: int) -> int:
    """floor(share * count) with the share as it is written: 0.29 of 100 is 29, though 0.29 * 100 < 29 in floating point."""
    return math.floor(Fraction(str(share)) * count)


def held_out(digests: Sequence[str], share: float) -> set[str]:
    """The digests of the documents to hold out: floor(share * n) of the n distinct ones.

    At least 2 when n >= 20 and share > 0 (a next-sentence pair needs two documents), and at least 2 always stay for training.
    Raises ConfigError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"the held-out share is {share}: give a number from 0 up to, not including, 1")
    distinct = set(digests)
    count = share_of(share, len(distinct))
    if share > 0 and len(distinct) >= 20:
        count = max(count, 2)
    count = max(0, min(count, len(distinct) - 2))
    return set(heapq.nsmallest(count, distinct, key=_place("heldout")))  # the first so many of `ranked`, without sorting all
