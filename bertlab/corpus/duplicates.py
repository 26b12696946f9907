"""Near-duplicates: which documents say almost the same as an earlier one. MinHash (Broder 1997) with locality-sensitive hashing (Leskovec,
Rajaraman and Ullman: Mining of Massive Datasets, chapter 3), in two halves.

`signatures`, in every worker: the set of a document's runs of 5 words becomes 256 numbers of 16 bits. The share of places in which two
documents agree estimates the Jaccard similarity J of their sets, runs in both / runs in either, with a standard error of no more than
sqrt(J (1 - J) / 256): 0.025 at 0.8. (rensa's have 32 bits; the lower 16 of them halve the file, and agree by chance once in 65,536: the
b bits of Li and König 2010.) Memory is flat however long a document is. 30 MB/s on one core, 12 MB/s for documents of 500 bytes.

`near_duplicates`, once over all: 512 bytes of signature a document, memory-mapped by the caller, and some 40 bytes a document in memory. A
million documents take 8 to 20 seconds on one core.

Knows runs of words only: a translation, a paraphrase, or a short document inside a long one is no duplicate here.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from bertlab.corpus.shingles import batches, gram_hashes, is_long, run_hashes, word_hashes, word_pieces
from bertlab.errors import ConfigError, install

SHINGLE_WORDS = 5  # as FineWeb takes them (Penedo et al. 2024)
PERMUTATIONS = 256
SEED = 42  # of the permutations: signatures of another seed, or of rensa before 0.5, cannot be compared with these
WORDLESS = 0xFFFF  # in all places of the signature of a text without words
THRESHOLD = 0.8

CANDIDATE_SHARE = 0.95  # of the pairs that are just at the threshold, how many must meet in a band
COMPARED = 16  # with how many, the first, of the documents that share a band each later one of them is compared
ROWS_AT_ONCE = 1 << 13  # 4 MB of signatures
BAND_BASE = 0x9E3779B97F4A7C15  # odd, of no pattern: 2**64 over the golden ratio


# ---- signatures


def signature(text: str) -> np.ndarray:
    """(256,) uint16 for one text. Many texts are faster together: see `signatures`."""
    return signatures([text])[0]


def signatures(texts: Sequence[str]) -> np.ndarray:
    """(N, 256) uint16, a row a text, the same alone or among others. Raises ConfigError where rensa is not installed.

    A text of fewer than 5 words has one run, all its words. A text without words is like no other.
    """
    rows = np.empty((len(texts), PERMUTATIONS), np.uint16)
    for first, end in batches(texts):
        if is_long(texts, first, end):
            rows[first] = _long_signature(texts[first]) & 0xFFFF
        else:
            words, begins = word_hashes(texts[first:end])
            rows[first:end] = _smallest(*gram_hashes(words, begins, SHINGLE_WORDS, short=True)) & 0xFFFF
    return rows


def _long_signature(text: str) -> np.ndarray:
    """(256,) uint32: the smallest of all pieces' smallest, where a piece has with it the last 4 words before it."""
    smallest = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
    has_run = False
    for words, _ in word_pieces(text, SHINGLE_WORDS - 1):
        hashes = run_hashes(words, SHINGLE_WORDS)
        smallest = np.minimum(smallest, _smallest(hashes, np.array([0, len(hashes)]))[0])
        has_run = has_run or len(hashes) > 0
    if not has_run:
        hashes = run_hashes(words, SHINGLE_WORDS, short=True)
        smallest = _smallest(hashes, np.array([0, len(hashes)]))[0]
    return smallest


def _smallest(hashes: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Runs of N texts, and where each text's begin (N + 1,) -> (N, 256) uint32, the smallest number of each permutation."""
    try:
        from rensa import RMinHash
    except ImportError:
        raise ConfigError(f"near-duplicates need rensa, which is not installed: {install('corpus')}") from None
    found = RMinHash.digest_matrix_from_flat_token_hashes(hashes, begins.astype(np.uint64), PERMUTATIONS, SEED)
    return np.array(found.to_rows(), np.uint32)


# ---- the decision


def near_duplicates(signatures: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """For each of n documents, in the order of their signatures (n, 256): the one that is kept in its place, -1 where it is kept itself.

    (n,) int64. A document is dropped when one before it, kept or not, is estimated to be at least as similar as `threshold`; kept in its
    place is the first of the chain that begins so: of A, B like A, and C like B only A is kept, though C may be less like A.
    Only those are compared that agree in a whole band of `rows_of_band` places, and of the documents that agree in one band each only with
    the first 16: a million copies of a page, or a million pages that share a page's frame, cost 16 comparisons each and band at most.
    Raises ConfigError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"the similarity of near-duplicates is {threshold}: give a number above 0 and up to 1")
    assert signatures.ndim == 2 and signatures.shape[1] == PERMUTATIONS
    rows = rows_of_band(threshold)
    copy_of = np.full(len(signatures), -1, np.int64)
    with_words = np.zeros(len(signatures), bool)
    for place, block in _blocks(signatures, slice(None)):
        with_words[place] = (block != WORDLESS).any(axis=1)
    for band in range(PERMUTATIONS // rows):
        _decide(signatures, slice(band * rows, (band + 1) * rows), threshold, with_words, copy_of)
    return _first_of_chain(copy_of)


def rows_of_band(threshold: float) -> int:
    """r: the most places in a band with which 95 % of the pairs just at the threshold t meet in one of the 256 // r bands.

    They meet with probability 1 - (1 - t**r)**(256 // r). At 0.8 r is 9: 98.2 % of the pairs at 0.8, 99.9 % at 0.85, 5 % at 0.5.
    """
    met = [1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) for rows in range(1, PERMUTATIONS + 1)]
    return max((rows for rows, share in enumerate(met, start=1) if share >= CANDIDATE_SHARE), default=1)


def _decide(signatures: np.ndarray, columns: slice, threshold: float, with_words: np.ndarray, copy_of: np.ndarray) -> None:
    """Write into `copy_of` (n,) who is like an earlier one among the documents that have these columns alike."""
    members, starts, sizes = _buckets(_band_hashes(signatures, columns), with_words)
    first = np.repeat(starts, sizes)  # for each member the place where its bucket begins
    places = np.arange(len(members))
    for compared in range(COMPARED):
        later = places[(places > first + compared) & (copy_of[members] < 0)]
        if not len(later):
            break
        earlier = members[first[later] + compared]
        alike = _agreements(signatures, earlier, members[later]) >= threshold * PERMUTATIONS - 1e-9
        copy_of[members[later[alike]]] = earlier[alike]


def _band_hashes(signatures: np.ndarray, columns: slice) -> np.ndarray:
    """(n, rows of a band) -> (n,) uint64. Two that differ may be one by chance: every pair is verified."""
    hashes = np.zeros(len(signatures), np.uint64)
    for place, block in _blocks(signatures, columns):
        for column in block.T:
            hashes[place] = hashes[place] * np.uint64(BAND_BASE) + column
    return hashes


def _buckets(hashes: np.ndarray, with_words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents whose hash another one has, bucket after bucket and in order in each; where each bucket begins, and how many it has."""
    order = np.argsort(hashes, kind="stable")
    order = order[with_words[order]]
    hashes = hashes[order]
    like_next = hashes[1:] == hashes[:-1]
    shared = np.zeros(len(order), bool)
    shared[1:] |= like_next
    shared[:-1] |= like_next
    members, hashes = order[shared], hashes[shared]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)])
    return members, starts, np.diff(starts, append=len(members))


def _agreements(signatures: np.ndarray, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """For each of p pairs in how many of the 256 places they agree, (p,)."""
    counts = np.empty(len(later), np.int64)
    for start in range(0, len(later), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        counts[some] = np.count_nonzero(signatures[earlier[some]] == signatures[later[some]], axis=1)
    return counts


def _blocks(signatures: np.ndarray, columns: slice) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(signatures), ROWS_AT_ONCE):
        place = slice(start, start + ROWS_AT_ONCE)
        yield place, np.asarray(signatures[place, columns])


def _first_of_chain(copy_of: np.ndarray) -> np.ndarray:
    """Each chain of copies shortened to its first document, in log2(length) steps; -1 stays -1."""
    assert (copy_of < np.arange(len(copy_of))).all(), "a copy comes after what it is a copy of"
    first = np.where(copy_of < 0, np.arange(len(copy_of)), copy_of)
    while not np.array_equal(further := first[first], first):
        first = further
    return np.where(copy_of < 0, -1, first)
