"""Next-sentence pairs, planned from sentence lengths alone: which tokens are A, which are B, and whether B truly follows.

The rules are those of BERT's create_pretraining_data (Devlin et al. 2018), for documents that hold whole sentences:

1. A document draws its target length once: all the room there is, or with `short_seq_prob` a uniform number in [2, room].
2. Sentences are gathered to a chunk until it holds the target or the document ends.
3. The first 1..n-1 sentences of a chunk (drawn uniformly) are A; of a chunk of one sentence that sentence is.
4. With probability one half, and always for a chunk of one sentence, B is drawn: sentences of another document from a
   uniform start on until A and B fill the target; the chunk's unused sentences are put back and begin the next chunk.
   Otherwise B is the rest of the chunk.
5. While a pair is too long it loses a token of its longer side (B when equal), from the front or the back by a coin.

One departure: "another document" is always another (the original gives up after ten draws); a corpus of one document is
refused by the callers. All documents of a block advance together, one vectorised step a chunk.
"""

from dataclasses import dataclass

import numpy as np

from bertlab.batches.randomness import binomial_half, derive, integers, uniform

SPECIAL_PLACES = 3  # [CLS] A [SEP] B [SEP]

# Counters of the draws: a document's, and a chunk's.
_IS_SHORT, _SHORT_TARGET = 0, 1
_SPLIT, _COIN, _OTHER, _START, _FRONT_A, _FRONT_B = range(6)


@dataclass(frozen=True)
class Pairs:
    """P pairs. Token runs are addresses into the shards; every array has shape (P,)."""

    key: np.ndarray  # uint64, names the pair in (seed, epoch): masks are drawn from it
    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray  # bool
    is_forced: np.ndarray  # bool: random because its chunk held one sentence

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence, special tokens included."""
        return self.a_length + self.b_length + SPECIAL_PLACES

    def take(self, rows: np.ndarray | slice) -> "Pairs":
        return Pairs(**{name: values[rows] for name, values in vars(self).items()})


def plan_pairs(
    lengths: np.ndarray,
    bounds: np.ndarray,
    addresses: np.ndarray,
    documents: np.ndarray,
    *,
    key: np.ndarray,
    max_length: int,
    short_seq_prob: float,
) -> Pairs:
    """Plan one pass over D >= 2 documents.

    lengths (S,) in tokens; document i has sentences bounds[i]:bounds[i+1] (bounds (D+1,)), its first token lies at
    addresses[i] and documents[i] is its number in the corpus. `key` names (seed, epoch). Pairs come chunk by chunk.
    """
    assert len(documents) >= 2 and max_length >= SPECIAL_PLACES + 2
    room = max_length - SPECIAL_PLACES
    tokens_before = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=tokens_before[1:])
    first, end = bounds[:-1], bounds[1:]
    document_key = derive(key, documents)
    short_target = 2 + integers(document_key, _SHORT_TARGET, room - 1)
    target = np.where(uniform(document_key, _IS_SHORT) < short_seq_prob, short_target, room)

    chunks = []
    place = first.copy()
    active = np.flatnonzero(place < end)
    chunk_number = 0
    while len(active):
        start, stop, goal = place[active], end[active], target[active]
        chunk_key = derive(document_key[active], chunk_number)
        chunk_end = np.clip(tokens_before.searchsorted(tokens_before[start] + goal), start + 1, stop)
        count = chunk_end - start
        a_end = start + 1 + np.where(count > 1, integers(chunk_key, _SPLIT, count - 1), 0)
        is_forced = count == 1
        is_random = is_forced | (uniform(chunk_key, _COIN) < 0.5)

        other = integers(chunk_key, _OTHER, len(documents) - 1)
        other += other >= active
        other_start = first[other] + integers(chunk_key, _START, end[other] - first[other])
        wanted = np.maximum(1, goal - (tokens_before[a_end] - tokens_before[start]))
        other_end = np.clip(tokens_before.searchsorted(tokens_before[other_start] + wanted), other_start + 1, end[other])

        b_document = np.where(is_random, other, active)
        b_first = np.where(is_random, other_start, a_end)
        b_end = np.where(is_random, other_end, chunk_end)
        chunks.append((chunk_key, active, start, a_end, b_document, b_first, b_end, is_random, is_forced))
        place[active] = np.where(is_random, a_end, chunk_end)
        active = active[place[active] < stop]
        chunk_number += 1

    pair_key, a_document, a_first, a_end, b_document, b_first, b_end, is_random, is_forced = map(np.concatenate, zip(*chunks, strict=True))
    address = addresses - tokens_before[first]  # of a sentence s of document i: address[i] + tokens_before[s]
    a_length = tokens_before[a_end] - tokens_before[a_first]
    b_length = tokens_before[b_end] - tokens_before[b_first]
    a_cut, b_cut = _cuts(a_length, b_length, room)
    return Pairs(
        key=pair_key,
        a_start=address[a_document] + tokens_before[a_first] + binomial_half(a_cut, pair_key, _FRONT_A),
        a_length=a_length - a_cut,
        b_start=address[b_document] + tokens_before[b_first] + binomial_half(b_cut, pair_key, _FRONT_B),
        b_length=b_length - b_cut,
        is_random=is_random,
        is_forced=is_forced,
    )


def _cuts(a_length: np.ndarray, b_length: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens rule 5 takes from A and from B: the longer side down to the shorter, then B and A in turn."""
    excess = np.maximum(0, a_length + b_length - room)
    from_longer = np.minimum(excess, np.abs(a_length - b_length))
    in_turn = excess - from_longer
    a_cut = np.where(a_length > b_length, from_longer, 0) + in_turn // 2
    b_cut = np.where(b_length > a_length, from_longer, 0) + (in_turn + 1) // 2
    return a_cut, b_cut
