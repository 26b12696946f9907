"""What must not be trained on: documents that share a run of words with a user's own test set (decontamination).

After GPT-3 (Brown et al. 2020, appendix C): a document that has 13 words in a row from a test text has seen it, and a test text of 8 to 12
words is looked for whole. A shorter one keeps out only a document that has its words and no other: within longer documents others write the
same few words. Letter case, punctuation and white space make no difference. Not found: a leak with a word changed in every 13, a
translation, a paraphrase.

Costs: 8 bytes in memory for each run of the test texts, and up to 32 for a table that answers most look-ups alone. On one core 20 to 30
MB/s of documents where all test texts have 13 words, 10 to 15 where they have 8, 9, 10, 11, 12 and more. What a word is, and how seldom two
runs are taken for one: bertlab.corpus.shingles.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of
from bertlab.corpus.labelled import read_labelled
from bertlab.corpus.shingles import BATCH_TEXTS, NO_WORDS, batches, gram_hashes, is_long, run_hashes, word_hashes, word_pieces
from bertlab.corpus.tables import columns_of
from bertlab.errors import ConfigError

RUN_WORDS = 13
# 1,000 sentences of 4 words from some books were in 9 % of the pages (2,000 characters) of other books, of 5 words in 0.8 %, of 6 in 0.4 %,
# of 8 in 0.03 %. 8 is also the least that Brown et al. take.
SHORTEST_WORDS = 8
TABLE_BITS = (16, 24)  # the least and the most: 64 kB, 16 MB


@dataclass(frozen=True)
class Fingerprints:
    """The runs of words of `texts` test texts, of which `too_short` have fewer words than `shortest`.

    `lengths` are those of the runs in words, `hashes` (F,) their numbers in order, uint64. `table` (2**bits,) is True at the first bits of
    each of them. `whole` (S,), in order: the numbers of the texts that are too short, each one run of all its words.
    """

    lengths: tuple[int, ...]
    hashes: np.ndarray
    table: np.ndarray
    texts: int
    too_short: int
    whole: np.ndarray
    shortest: int


# ---- the test set


def read_texts(paths: Iterable[Path | str], *, text: str = "text", text_b: str | None = None, dialect: Dialect = AS_NAMED) -> Iterator[str]:
    """The texts of labelled files (CSV, TSV, JSONL, Parquet: column `text`, of one without it "text") and text files (a line is a text); of
    a pair one text after the other.

    Raises as `read_labelled` does: ConfigError for a file that is not there, DataError (file:line) for what cannot be used.
    """
    for path in map(Path, paths):
        columns = columns_of(path, dialect) if path.is_file() and kind_of(path) != "text" else ()
        read = read_labelled(path, text=text if text in columns else "text", text_b=text_b, needs_label=False, dialect=dialect)
        for place, first in enumerate(read.texts):
            yield first
            if read.texts_b is not None:
                yield read.texts_b[place]


def fingerprints(texts: Iterable[str], n: int = RUN_WORDS, *, shortest: int = SHORTEST_WORDS) -> Fingerprints:
    """All runs of n words of the test texts; of a text of fewer words all its words as one run, which below `shortest` is one of `whole`.

    Raises ConfigError unless 1 <= shortest <= n.
    """
    if not 1 <= shortest <= n:
        raise ConfigError(f"runs of {n} words to keep out, and texts from {shortest} words on: give numbers with 1 <= shortest <= run")
    known, whole = [NO_WORDS], [NO_WORDS]
    lengths: set[int] = set()
    count = too_short = 0
    rest = iter(texts)
    while some := list(islice(rest, BATCH_TEXTS)):
        for hashes, of_short, words in _runs_to_keep_out(some, n, shortest):
            known.append(hashes)
            whole.append(of_short)
            lengths.update(np.minimum(words[words >= shortest], n).tolist())
            too_short += int(np.count_nonzero(words < shortest))
        count += len(some)
    hashes = np.unique(np.concatenate(known))
    return Fingerprints(tuple(sorted(lengths)), hashes, _table(hashes), count, too_short, np.unique(np.concatenate(whole)), shortest)


def _runs_to_keep_out(texts: Sequence[str], n: int, shortest: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For some of the texts at a time the numbers of their runs (R,) uint64, those of texts that are too short apart, and how many words
    each text has (N,)."""
    for first, end in batches(texts):
        if is_long(texts, first, end):
            runs, words = _runs_of_long(texts[first], n)
            yield *((runs, NO_WORDS) if words >= shortest else (NO_WORDS, runs)), np.array([words])
        else:
            hashes, begins = word_hashes(texts[first:end])
            words_of = np.diff(begins)  # (N,)
            runs, run_begins = gram_hashes(hashes, begins, n, short=True)
            is_known = np.repeat(words_of >= shortest, np.diff(run_begins))
            yield runs[is_known], runs[~is_known], words_of


def _runs_of_long(text: str, n: int) -> tuple[np.ndarray, int]:
    """The numbers of the runs of one text of any length (R,) uint64, and how many words it has."""
    found = [NO_WORDS]
    total = 0
    for words, carried in word_pieces(text, n - 1):
        found.append(run_hashes(words, n))
        total += len(words) - carried
    if total < n:
        found.append(run_hashes(words, n, short=True))
    return np.concatenate(found), total


def _table(hashes: np.ndarray) -> np.ndarray:
    """(2**bits,) bool, at most one place in 16 True as long as there are no more than a million hashes."""
    least, most = TABLE_BITS
    table = np.zeros(1 << min(most, max(least, (16 * len(hashes)).bit_length())), bool)
    table[_first_bits(hashes, table)] = True
    return table


def _first_bits(hashes: np.ndarray, table: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(65 - len(table).bit_length())).view(np.int64)


# ---- the corpus


def touches(text: str, known: Fingerprints) -> int:
    """How many runs of words of the text are those of a test text. Many texts are faster together: see `touched`."""
    return int(touched([text], known)[0])


def touched(texts: Sequence[str], known: Fingerprints) -> np.ndarray:
    """For each of N texts how many of its runs of words are those of a test text, (N,) int64; 0 for a text that may stay. A text that is
    too short for a run counts 1 where a test text has the same words."""
    counts = np.zeros(len(texts), np.int64)
    for first, end in batches(texts):
        if is_long(texts, first, end):
            counts[first] = _touches_of_long(texts[first], known)
            continue
        words, begins = word_hashes(texts[first:end])
        for length in known.lengths:
            hashes, run_begins = gram_hashes(words, begins, length)
            hits = np.searchsorted(_found(hashes, known), run_begins)
            counts[first:end] += np.diff(hits)
        if len(known.whole) and (np.diff(begins) < known.shortest).any():  # a longer text has no run of so few words
            hashes, run_begins = gram_hashes(words, begins, known.shortest, short=True)
            same = np.diff(np.searchsorted(np.flatnonzero(np.isin(hashes, known.whole)), run_begins))
            counts[first:end] += same
    return counts


def _touches_of_long(text: str, known: Fingerprints) -> int:
    count, first = 0, NO_WORDS
    longest = max(known.lengths, default=1)
    for words, carried in word_pieces(text, longest - 1):
        if len(first) < known.shortest:
            first = np.concatenate([first, words[carried:]])
        for length in known.lengths:  # a shorter run that ends among the carried words was counted with the piece before
            count += len(_found(run_hashes(words[max(0, carried - length + 1) :], length), known))
    if len(first) < known.shortest:
        count += int(np.isin(run_hashes(first, known.shortest, short=True), known.whole).sum())
    return count


def _found(hashes: np.ndarray, known: Fingerprints) -> np.ndarray:
    """The places in `hashes` of those that are known. The table says no to most of them, and the binary search is for the rest."""
    maybe = np.flatnonzero(known.table.take(_first_bits(hashes, known.table)))
    if not len(maybe):
        return maybe
    wanted = hashes[maybe]
    at = np.minimum(np.searchsorted(known.hashes, wanted), len(known.hashes) - 1)
    return maybe[known.hashes[at] == wanted]
