"""Sentences that stand in a corpus more than once, and held-out sentences that stand in the training text too.

A sentence is known by a 64-bit hash of its token ids. Costs: one pass over the tokens, about 25 ns each on one core, and memory for
REMEMBERED different sentences (at most 0.6 GB in all), whatever the size of the corpus. Up to that many everything is exact, but for two
sentences of one hash (1 in 1,000 corpora of 150 million sentences). Beyond it a stated share of the hashes is counted exactly and stands
for all; the most frequent sentences are still found among all, each with a count that is short by at most a stated number.
Knows only equal token ids: "It rained." and "It rained!" are two sentences, and what an uncased vocabulary levels is one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bertlab.progress import Report
from bertlab.tokens.shards import Documents

REMEMBERED = 2**22  # different sentences: about 100 million tokens of English
BLOCK_TOKENS = 2**18  # the hash's arrays stay near the processor
LONG_SENTENCE = 10  # tokens: shorter ones ("He was born in Rome.") are written twice by two people

# The multiplier of Knuth's MMIX generator: odd, and 5 modulo 8, so that its powers repeat after 2**62 places only.
_BASE = 6364136223846793005


class Tally:
    """How often each of many 64-bit numbers was added, in memory for `most` different ones. After `settle`: numbers (n,), counts (n,).

    Exact until there are more. From then on the rarest are forgotten (Misra and Gries 1982): a number that is left was added at
    least as often as counted and at most `short_by` times more, and short_by is at most all that was added / most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[np.ndarray] = []
        self.numbers, self.counts = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.short_by = 0

    def add(self, numbers: np.ndarray) -> None:
        self._waiting.append(numbers)
        if sum(map(len, self._waiting)) >= self._most:
            self.settle()

    def settle(self) -> None:
        """Count what was added since the last time."""
        fresh = np.sort(np.concatenate([np.empty(0, np.uint64), *self._waiting]))
        self._waiting = []
        numbers = np.concatenate([self.numbers, fresh])
        counts = np.concatenate([self.counts, np.ones(len(fresh), np.int64)])
        order = np.argsort(numbers, kind="stable")  # two sorted runs: merged in linear time
        numbers, counts = numbers[order], counts[order]
        starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]])[: len(numbers)])
        self.numbers = numbers[starts]
        self.counts = np.add.reduceat(counts, starts) if len(starts) else counts
        if len(starts) > self._most:
            least = int(np.partition(self.counts, -self._most - 1)[-self._most - 1])
            kept = self.counts > least
            self.numbers, self.counts = self.numbers[kept], self.counts[kept] - least
            self.short_by += least


def sentence_hashes(documents: Documents, vocab_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every sentence in order, in blocks of S: hashes (S,) uint64, lengths (S,) in tokens, addresses (S,) of first tokens.

    A polynomial in an odd base modulo 2**64 whose coefficients are random numbers of the ids, the same in every corpus.
    """
    random = np.random.PCG64(0).random_raw(vocab_size)
    powers, inverse_powers = _powers(_BASE, BLOCK_TOKENS), _powers(pow(_BASE, -1, 2**64), BLOCK_TOKENS)
    first_token = 0
    for shard in documents.shards:
        offsets = shard.sentence_offsets.astype(np.int64)
        first = 0
        while first < len(offsets) - 1:
            end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + BLOCK_TOKENS, side="right")) - 1)
            tokens = shard.tokens[offsets[first] : offsets[end]]
            if len(tokens) > len(powers):  # a sentence is at most 110,000 characters where `bertlab prepare` cut it
                powers, inverse_powers = _powers(_BASE, len(tokens)), _powers(pow(_BASE, -1, 2**64), len(tokens))
            starts = offsets[first:end] - offsets[first]
            hashes = np.add.reduceat(random[tokens] * powers[: len(tokens)], starts) * inverse_powers[starts]
            yield hashes, np.diff(offsets[first : end + 1]), first_token + offsets[first:end]
            first = end
        first_token += len(shard.tokens)


def sentence_facts(
    train: Documents, heldout: Documents | None, vocab_size: int, *, top: int, report: Report, remembered: int = REMEMBERED
) -> dict[str, Any]:
    """What of the training text is repeated, and what of the held-out text stands in it, in one pass over each.

    `repeated`: sentences; counted_share, the share of different sentences that is counted and stands for all; different, and
    again_share, the share of sentences that stood before; `most_frequent`, a list of up to `top` sentences that stand more than
    once (count, address, length), most frequent first; short_by, how much a count there may be too low.
    `shared` (None without held-out text): sentences and long_sentences held out, and how many of each stand in train too (in_train,
    long_in_train); of `counted_share` of them. `report` is called with the tokens read.
    """
    share = _Share(train.num_sentences, remembered)
    among_all, among_share = Tally(remembered), Tally(2 * remembered)
    asked = _HeldOut(heldout, vocab_size, remembered) if heldout else None
    for hashes, lengths, addresses in sentence_hashes(train, vocab_size):
        among_all.add(hashes)
        if share.halvings:
            among_share.add(hashes[share.holds(hashes)])
        if asked:
            asked.seen_in_train(hashes)
        report(int(addresses[-1] + lengths[-1]) / 1e6, "")
    among_all.settle()
    among_share.settle()
    counted = among_share if share.halvings else among_all
    assert not counted.short_by, "the share is chosen so that every one of its sentences is remembered"
    again = int(counted.counts.sum()) - len(counted.numbers)
    repeated = {
        "sentences": train.num_sentences,
        "counted_share": share.size,
        "different": len(counted.numbers) << share.halvings,
        "again_share": again / max(1, int(counted.counts.sum())),
        "most_frequent": _most_frequent(train, vocab_size, among_all, top),
        "short_by": among_all.short_by,
    }
    return {"repeated": repeated, "shared": asked.facts() if asked else None}


class _Share:
    """The share of all hashes, one in 2**halvings, of which `count` sentences surely hold fewer than 2 * remembered different ones."""

    def __init__(self, count: int, remembered: int) -> None:
        self.halvings = max(0, (max(1, -(-count // remembered)) - 1).bit_length())
        self.size = 0.5**self.halvings

    def holds(self, hashes: np.ndarray) -> np.ndarray:
        """Which of the hashes are in the share. Shape (n,), bool."""
        return hashes <= np.uint64(2 ** (64 - self.halvings) - 1)


class _HeldOut:
    """The held-out sentences, and which of them were met in the training text."""

    def __init__(self, heldout: Documents, vocab_size: int, remembered: int) -> None:
        self._share = _Share(heldout.num_sentences, remembered)
        hashes, is_long = [], []
        for of_block, lengths, _ in sentence_hashes(heldout, vocab_size):
            rows = self._share.holds(of_block)
            hashes.append(of_block[rows])
            is_long.append(lengths[rows] >= LONG_SENTENCE)
        self._hashes, first, self._counts = np.unique(np.concatenate(hashes), return_index=True, return_counts=True)
        self._is_long, self._met = np.concatenate(is_long)[first], np.zeros(len(first), dtype=bool)

    def seen_in_train(self, hashes: np.ndarray) -> None:
        if not len(self._hashes):
            return
        found = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        self._met[found[self._hashes[found] == hashes]] = True

    def facts(self) -> dict[str, Any]:
        return {
            "counted_share": self._share.size,
            "sentences": int(self._counts.sum()),
            "in_train": int(self._counts[self._met].sum()),
            "long_sentences": int(self._counts[self._is_long].sum()),
            "long_in_train": int(self._counts[self._is_long & self._met].sum()),
        }


def _most_frequent(documents: Documents, vocab_size: int, tally: Tally, top: int) -> list[dict[str, int]]:
    """The `top` commonest numbers of a tally with the place of one sentence each; most frequent first, then by place."""
    best = np.argsort(-tally.counts, kind="stable")[:top]
    wanted = {int(tally.numbers[row]): int(tally.counts[row]) for row in best if tally.counts[row] + tally.short_by > 1}
    found: dict[int, dict[str, int]] = {}
    if wanted:
        numbers = np.array(sorted(wanted), dtype=np.uint64)
        for hashes, lengths, addresses in sentence_hashes(documents, vocab_size):
            for row in np.flatnonzero(np.isin(hashes, numbers)):
                number = int(hashes[row])
                found.setdefault(number, {"count": wanted[number], "address": int(addresses[row]), "length": int(lengths[row])})
            if len(found) == len(wanted):  # what is frequent is met early
                break
    return sorted(found.values(), key=lambda sentence: (-sentence["count"], sentence["address"]))


def _powers(base: int, count: int) -> np.ndarray:
    """base**0, base**1, ... modulo 2**64. Shape (count,), uint64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
