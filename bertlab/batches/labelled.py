"""Texts as flat batches, with or without labels: for fine-tuning, evaluation and embedding.

A single text is [CLS] A [SEP], a pair [CLS] A [SEP] B [SEP] with segments 0 and 1. What is too long loses tokens at the
end of its longer side (or at its beginning, or in its middle), and is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from bertlab.batches import randomness
from bertlab.batches.flat import LabelledBatch, fill_budget, flat_fields
from bertlab.tokens.shards import ragged_arange
from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Examples:
    """n encoded examples end to end; num_truncated of them lost tokens.

    ids (T,), segments (T,); example i is [offsets[i], offsets[i+1]), offsets (n+1,); labels (n,) class numbers, -1 where there is none, or
    in floating point (n,) or (n, K) numbers.
    """

    ids: np.ndarray
    segments: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    num_truncated: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, special tokens included. Shape (n,)."""
        return np.diff(self.offsets)

    @property
    def are_pairs(self) -> bool:
        """Whether there are second texts: even an empty one brings a [SEP] of segment 1."""
        return bool(self.segments.any())

    def tokens_of(self, rows: np.ndarray) -> np.ndarray:
        """Where the tokens of the examples `rows` stand in `ids`, end to end."""
        return runs(self.offsets[:-1][rows], self.lengths[rows])

    def batch(self, rows: np.ndarray) -> LabelledBatch:
        """The examples `rows` (N,) as one flat batch, in that order."""
        source = self.tokens_of(rows)
        return LabelledBatch(
            **flat_fields(self.ids[source], self.segments[source], self.lengths[rows]),
            labels=torch.from_numpy(self.labels[rows]),
            rows=torch.from_numpy(rows.astype(np.int64)),
        )

    def rows_by_length(self, micro_tokens: int) -> list[np.ndarray]:
        """Every example once, like lengths together, longest first (so that a batch too large for memory fails at once): rows (N,)."""
        order = np.argsort(-self.lengths, kind="stable")
        bounds = fill_budget(self.lengths[order], micro_tokens)
        return [order[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]

    def by_length(self, micro_tokens: int) -> Iterator[LabelledBatch]:
        """The same as batches."""
        for rows in self.rows_by_length(micro_tokens):
            yield self.batch(rows)

    def shuffled(self, step: int, batch_size: int, seed: int) -> np.ndarray:
        """The rows of training step `step`, a pure function of its arguments.

        Every epoch visits each example once; its last batch may be smaller.
        """
        epoch, within = divmod(step, self.steps_per_epoch(batch_size))
        places = np.arange(within * batch_size, min(len(self), (within + 1) * batch_size))
        return randomness.permuted(places, len(self), randomness.key(seed, epoch))

    def balanced(self, step: int, batch_size: int, seed: int) -> np.ndarray:
        """The rows of training step `step` in epochs as long as those of `shuffled`, in which all classes are as frequent (to within one).

        A pure function of its arguments. Every example of a class is visited before one of them is visited again, over epochs too. The
        labels must be class numbers (n,).
        """
        order, bounds = self._by_class
        classes = len(bounds) - 1
        places = self.shuffled(step, batch_size, seed)
        epoch = step // self.steps_per_epoch(batch_size)
        of_class = places % classes
        visit = places // classes + epoch * -((of_class - len(self)) // classes)  # so many visits of the class has an epoch
        rows = np.empty(len(places), dtype=np.int64)
        for number in range(classes):
            mine, size = np.flatnonzero(of_class == number), int(bounds[number + 1] - bounds[number])
            rounds, place = np.divmod(visit[mine], size)
            for turn in np.unique(rounds).tolist():
                now = rounds == turn
                inside = randomness.permuted(place[now], size, randomness.key(seed, number, turn, 1))
                rows[mine[now]] = order[bounds[number] + inside]
        return rows

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows class by class (n,), and where the classes that there are begin, and the last ends."""
        order = np.argsort(self.labels, kind="stable")
        return order, np.append(np.unique(self.labels[order], return_index=True)[1], len(order))

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)


def encode_examples(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    *,
    max_length: int,
    keep: Literal["head", "tail", "head+tail"] = "head",
) -> Examples:
    """Encode n texts, or n pairs, to at most `max_length` tokens each (at least 5). An empty text is [CLS] [SEP].

    keep: what is kept of a side that is too long; of head and tail the head is a quarter (128 of 510 in Sun et al. 2019).

    labels: (n,) class numbers, or in floating point (n,) or (n, K).
    """
    assert max_length >= 5
    ids_a, offsets_a = tokenizer.encode(texts)
    wanted_a = np.diff(offsets_a)
    if texts_b is None:
        lengths_a = np.minimum(wanted_a, max_length - 2)
        lengths = lengths_a + 2
        num_truncated = int((lengths_a < wanted_a).sum())
    else:
        ids_b, offsets_b = tokenizer.encode(texts_b)
        wanted_b, room = np.diff(offsets_b), max_length - 3
        lengths_a, lengths_b = share_room(wanted_a, wanted_b, room)
        lengths = lengths_a + lengths_b + 3
        num_truncated = int((lengths_a + lengths_b < wanted_a + wanted_b).sum())
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    starts = offsets[:-1]
    ids = np.full(offsets[-1], tokenizer.sep_id, dtype=np.int32)
    segments = np.zeros(offsets[-1], dtype=np.int8)
    ids[starts] = tokenizer.cls_id
    ids[runs(starts + 1, lengths_a)] = ids_a[_kept(offsets_a, lengths_a, keep)]
    if texts_b is not None:
        start_b = starts + lengths_a + 2
        ids[runs(start_b, lengths_b)] = ids_b[_kept(offsets_b, lengths_b, keep)]
        segments[runs(start_b, lengths_b + 1)] = 1
    known = np.full(len(texts), -1, dtype=np.int64) if labels is None else labels
    known = known if isinstance(known, np.ndarray) else np.array(known, dtype=np.int64)
    return Examples(ids, segments, offsets, known, num_truncated)


def share_room(wanted_a: np.ndarray, wanted_b: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """What each side of n pairs keeps, (n,) and (n,): the shorter one what it has up to half of the room, the other the rest."""
    kept_a = np.minimum(wanted_a, np.maximum(room - wanted_b, (room + 1) // 2))
    return kept_a, np.minimum(wanted_b, room - kept_a)


def _kept(offsets: np.ndarray, lengths: np.ndarray, keep: str) -> np.ndarray:
    """Which tokens of texts [offsets[i], offsets[i+1]) are kept where lengths[i] of each are, end to end."""
    heads = {"head": lengths, "tail": np.zeros_like(lengths), "head+tail": -(-lengths // 4)}[keep]
    place, text = ragged_arange(lengths), np.repeat(np.arange(len(lengths)), lengths)
    left_out = np.where(place < heads[text], 0, (np.diff(offsets) - lengths)[text])
    return np.asarray(offsets[:-1][text] + place + left_out)


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of runs [start, start + length) end to end."""
    return np.repeat(starts, lengths) + ragged_arange(lengths)
