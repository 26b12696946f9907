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
refused by the callers. A chunk's draws are named by its first sentence, so what would follow if a chunk began there is known
for all sentences at once; which sentences do begin one is then a walk of look-ups, all documents of a block side by side.
"""

from dataclasses import dataclass

import numpy as np

from bertlab.batches.randomness import binomial_half, bits, coin_and_integer, derive, integers, uniform

SPECIAL_PLACES = 3  # [CLS] A [SEP] B [SEP]

_EVERY = 16  # tokens between the entries of a table of sentences

# Counters of the draws: a document's, and a chunk's.
_IS_SHORT, _SHORT_TARGET = 0, 1
_SPLIT_AND_COIN, _OTHER, _START, _FRONT_A, _FRONT_B = range(5)


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
    addresses[i] and documents[i] is its number in the corpus. `key` names (seed, epoch). Pairs come in the order of their documents.
    """
    assert len(documents) >= 2 and max_length >= SPECIAL_PLACES + 2
    room = max_length - SPECIAL_PLACES
    document_key = derive(key, documents)
    short_target = 2 + integers(document_key, _SHORT_TARGET, room - 1)
    target = np.where(uniform(document_key, _IS_SHORT) < short_seq_prob, short_target, room)

    # Every sentence as if it began a chunk.
    counts = np.diff(bounds)
    document = np.repeat(np.arange(len(documents)), counts)
    sentence = np.arange(len(lengths))
    chunk_key = bits(document_key[document], sentence - np.repeat(bounds[:-1], counts))
    reach = _Reach(lengths, room)
    chunk_end = np.minimum(reach.end(reach.before[:-1], target[document]), np.repeat(bounds[1:], counts))
    is_forced = chunk_end - sentence == 1
    is_random, split = coin_and_integer(chunk_key, _SPLIT_AND_COIN, chunk_end - sentence - 1)
    is_random |= is_forced
    a_end = sentence + 1 + split
    starts = _walk(np.where(is_random, a_end, chunk_end), bounds)

    # Those that do.
    document, chunk_key, a_end, is_random = document[starts], chunk_key[starts], a_end[starts], is_random[starts]
    other = integers(chunk_key, _OTHER, len(documents) - 1)
    other += other >= document
    other_start = bounds[other] + integers(chunk_key, _START, counts[other])
    wanted = np.maximum(1, target[document] - (reach.before[a_end] - reach.before[starts]))
    other_end = np.minimum(reach.end(reach.before[other_start], wanted), bounds[other + 1])
    b_document = np.where(is_random, other, document)
    b_first = np.where(is_random, other_start, a_end)
    b_end = np.where(is_random, other_end, chunk_end[starts])

    tokens_before = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=tokens_before[1:])
    address = addresses - tokens_before[bounds[:-1]]  # of a sentence s of document i: address[i] + tokens_before[s]
    a_before, b_before = tokens_before[starts], tokens_before[b_first]
    a_length, b_length = tokens_before[a_end] - a_before, tokens_before[b_end] - b_before
    a_cut, b_cut = _cuts(a_length, b_length, room)
    return Pairs(
        key=chunk_key,
        a_start=address[document] + a_before + binomial_half(a_cut, chunk_key, _FRONT_A),
        a_length=a_length - a_cut,
        b_start=address[b_document] + b_before + binomial_half(b_cut, chunk_key, _FRONT_B),
        b_length=b_length - b_cut,
        is_random=is_random,
        is_forced=is_forced[starts],
    )


class _Reach:
    """How many sentences it takes to hold a number of tokens, by a table of the sentences that every 16th token lies in.

    No target is above `room`, so longer sentences count as `room`: the table of S sentences has at most S * room / 16 entries.
    before (S + 1,): such tokens before each sentence.
    """

    def __init__(self, lengths: np.ndarray, room: int) -> None:
        capped = np.minimum(lengths, room)
        self.before = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(capped, out=self.before[1:])
        entries_before_end = (self.before[1:] + _EVERY - 1) // _EVERY
        self.sentence_of = np.bincount(entries_before_end)[:-1].cumsum()

    def end(self, before: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The end of the sentences that hold the `wanted` >= 1 tokens after the first `before`, or of all where there are fewer."""
        last = np.minimum(before + wanted, self.before[-1]) - 1
        end = self.sentence_of[last // _EVERY] + 1  # or later: this is where the sentence of a token up to 15 places before ends
        early = np.flatnonzero(self.before[end] <= last)
        while len(early):
            end[early] += 1
            early = early[self.before[end[early]] <= last[early]]
        return end


def _walk(following: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The sentences that begin a chunk, ascending: each document's first, then what follows it, to the document's end."""
    begins = np.zeros(len(following) + 1, dtype=bool)
    place = bounds[:-1][bounds[:-1] < bounds[1:]]
    end = np.zeros(len(following) + 1, dtype=bool)
    end[bounds] = True
    while len(place):
        begins[place] = True
        place = following[place]
        place = place[~end[place]]
    return np.flatnonzero(begins)


def _cuts(a_length: np.ndarray, b_length: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens rule 5 takes from A and from B: the longer side down to the shorter, then B and A in turn."""
    excess = np.maximum(0, a_length + b_length - room)
    from_longer = np.minimum(excess, np.abs(a_length - b_length))
    in_turn = excess - from_longer
    a_cut = np.where(a_length > b_length, from_longer, 0) + in_turn // 2
    b_cut = np.where(b_length > a_length, from_longer, 0) + (in_turn + 1) // 2
    return a_cut, b_cut
