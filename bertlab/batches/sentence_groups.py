"""Texts that mean the same, as flat batches in which the others are the negatives.

A row is an anchor and a positive, and may have hard negatives: the same sentence twice (dropout then tells the two apart, Gao et al. 2021),
a pair, a triplet, two texts of one class, two sentences of one document. A batch is a function of its number; an epoch leaves out the rows
that fill no whole batch, others in each. What is equal is told by the tokens that the model sees: two texts that are cut to the same
beginning are one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bertlab.batches import randomness
from bertlab.batches.flat import IGNORED, FlatBatch, PretrainingBatch, fill_budget, flat_fields
from bertlab.batches.labelled import Examples, runs
from bertlab.batches.masking import Masking
from bertlab.tokens.shards import Documents

_ORDER, _POSITIVE, _MASKS = 0, 1, 2  # purposes of random numbers
FEWEST_TOKENS = 6  # of a sentence to be cut in halves: [CLS], [SEP] and four


@dataclass(frozen=True)
class GroupBatch(FlatBatch):
    """n anchors, their n positives in the same order, then any hard negatives: N sequences.

    texts (N,): which sequences are the same text, by an equal number. classes (n,): which rows are of one class. Both are of the whole
    batch in the share of one of several processes, too, which holds its sequences from `first` on, or one of filler.
    """

    texts: Tensor
    classes: Tensor
    first: int = 0
    is_filler: bool = False

    @property
    def num_rows(self) -> int:
        return len(self.classes)

    @property
    def num_tokens(self) -> int:
        """Real ones."""
        return 0 if self.is_filler else len(self.input_ids)

    @property
    def num_sequences(self) -> int:
        """Real ones."""
        return 0 if self.is_filler else len(self.cu_seqlens) - 1

    def share(self, rank: int, ranks: int) -> "GroupBatch":
        """What one of several processes embeds: neighbouring sequences, about as many tokens as each of the others."""
        first, last = share_of(self.cu_seqlens.diff().numpy(), rank, ranks)
        is_filler = first == last
        mine = self.part(0, 1) if is_filler else self.part(first, last)
        return replace(self, **mine.encoder_inputs(), first=first, is_filler=is_filler)

    def no_negatives(self) -> Tensor:
        """Which candidates (the N - n sequences behind the anchors) are no negatives of which anchor, its own positive
        aside: (n, N - n) bool.

        Those are texts equal to the anchor or to its positive, the positives of an equal anchor, and those of the anchor's class.
        """
        n = self.num_rows
        anchors, positives, candidates = self.texts[:n], self.texts[n : 2 * n], self.texts[n:]
        same = (anchors[:, None] == candidates) | (positives[:, None] == candidates)
        same[:, :n] |= (anchors[:, None] == anchors) | (self.classes[:, None] == self.classes)
        return same & ~torch.eye(n, len(candidates), dtype=torch.bool, device=same.device)


class Texts(Protocol):
    """Encoded texts by number."""

    def __len__(self) -> int: ...

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Texts `rows` (N,): their ids, special tokens included, end to end (T,), and lengths (N,)."""


@dataclass(frozen=True)
class InMemory:
    """Examples as `Texts`."""

    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.examples.ids[self.examples.tokens_of(rows)], self.examples.lengths[rows]


@dataclass(frozen=True)
class OfCorpus:
    """All sentences of a split of a corpus folder, read from the disk when they are wanted: at most `max_length` tokens of each."""

    documents: Documents
    cls_id: int
    sep_id: int
    max_length: int

    def __len__(self) -> int:
        return self.documents.num_sentences

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        addresses, lengths = self.documents.runs_of_sentences(rows)
        return framed(self.documents, addresses, lengths, self.cls_id, self.sep_id, self.max_length)


def framed(
    documents: Documents, addresses: np.ndarray, lengths: np.ndarray, cls_id: int, sep_id: int, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs of tokens of a corpus as [CLS] run [SEP], cut at `max_length`: ids end to end (T,), lengths (N,)."""
    kept = np.minimum(lengths, max_length - 2)
    ends = np.cumsum(kept + 2)
    starts = ends - kept - 2
    ids = np.full(int(ends[-1]) if len(ends) else 0, sep_id, dtype=np.int32)
    ids[starts] = cls_id
    documents.copy_tokens(addresses.tolist(), kept.tolist(), ids, (starts + 1).tolist())
    return ids, kept + 2


@dataclass(frozen=True)
class Classes:
    """n rows in K classes: class k has the rows order[starts[k] : starts[k + 1]], or with order None these numbers themselves. place (n,):
    where each row stands in `order`."""

    starts: np.ndarray
    order: np.ndarray | None = None
    place: np.ndarray | None = None

    @classmethod
    def of_numbers(cls, classes: np.ndarray) -> "Classes":
        """From the class number of each row (n,)."""
        order = np.argsort(classes, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return cls(np.concatenate([[0], np.cumsum(np.bincount(classes))]), order, place)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The class numbers of rows (N,)."""
        places = rows if self.place is None else self.place[rows]
        return np.searchsorted(self.starts, places, side="right") - 1

    def another(self, rows: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Another row of the class of each of `rows`, drawn by `key`; the same row where it is alone. Shape (N,)."""
        of_row = self.of(rows)
        first, sizes = self.starts[of_row], np.diff(self.starts)[of_row]
        places = rows if self.place is None else self.place[rows]
        away = 1 + randomness.integers(key, np.arange(len(rows)), np.maximum(sizes - 1, 1))
        found = first + (places - first + away) % sizes
        return np.asarray(found if self.order is None else self.order[found])


@dataclass(frozen=True)
class Groups:
    """n rows of `columns` texts each (1: a text is its own positive, or another of its class; 2: a pair; more: hard negatives).

    Text r of column c is number c * n + r of `texts`. classes: for one column alone. seed: of order and draws.
    """

    texts: Texts
    columns: int
    batch_size: int
    seed: int
    classes: Classes | None = None

    def __len__(self) -> int:
        return len(self.texts) // self.columns

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self) // self.batch_size)

    def rows(self, step: int) -> np.ndarray:
        """The rows of training step `step`."""
        epoch, within = divmod(step, self.steps_per_epoch)
        places = np.arange(within * self.batch_size, min(len(self), (within + 1) * self.batch_size))
        return randomness.permuted(places, len(self), randomness.key(self.seed, _ORDER, epoch))

    def batch(self, step: int) -> GroupBatch:
        """The batch of training step `step`."""
        rows = self.rows(step)
        positives = self.classes.another(rows, randomness.key(self.seed, _POSITIVE, step)) if self.classes else rows
        members = [rows, positives] if self.columns == 1 else [rows + column * len(self) for column in range(self.columns)]
        ids, lengths = self.texts.taken(np.concatenate(members))
        classes = self.classes.of(rows) if self.classes else np.arange(len(rows))
        return GroupBatch(
            **flat_fields(ids, np.zeros_like(ids), lengths),
            texts=torch.from_numpy(equal_texts(ids, lengths)),
            classes=torch.from_numpy(classes.astype(np.int64)),
        )

    def masked(self, step: int, masking: Masking, micro_tokens: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainingBatch]:
        """The anchors of a step with some tokens hidden, in batches of at most `micro_tokens` tokens; no pairs to judge.

        Of several processes each has its share of the anchors, or one as filler. What is hidden of an anchor depends on its place in the
        step alone.
        """
        rows = self.rows(step)
        keys = randomness.derive(randomness.key(self.seed, _MASKS, step), np.arange(len(rows)))
        ids, lengths = self.texts.taken(rows)
        start, end = share_of(lengths, rank, ranks)
        is_filler = start == end
        bounds = np.array([0, 1]) if is_filler else start + fill_budget(lengths[start:end], micro_tokens)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            hidden, positions, labels = masking.apply(ids[ends[first] : ends[last]], lengths[first:last], keys[first:last])
            yield PretrainingBatch(
                **flat_fields(hidden, np.zeros_like(hidden), lengths[first:last]),
                mlm_positions=torch.from_numpy(positions),
                mlm_labels=torch.from_numpy(np.full_like(labels, IGNORED, np.int64) if is_filler else labels.astype(np.int64)),
                nsp_labels=torch.full((int(last - first),), IGNORED),
                filler_tokens=len(hidden) if is_filler else 0,
                filler_sequences=int(is_filler),
            )


def share_of(lengths: np.ndarray, rank: int, ranks: int) -> tuple[int, int]:
    """Which of neighbouring sequences are one process's, [first, last): those whose middle lies in its share of all tokens, maybe none."""
    ends = np.cumsum(lengths)
    middles = ends - lengths / 2
    first, last = np.searchsorted(middles, np.array([rank, rank + 1]) / ranks * ends[-1])
    return int(first), int(last)


def equal_texts(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A number for each of N texts, ids end to end (T,): equal where the texts are. Shape (N,)."""
    known: dict[bytes, int] = {}
    ends = np.cumsum(lengths)
    texts = (ids[end - length : end].tobytes() for end, length in zip(ends.tolist(), lengths.tolist(), strict=True))
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def halves(examples: Examples) -> tuple[Examples, Examples]:
    """The first and the second half of each single text of FEWEST_TOKENS or more, each in its own [CLS] and [SEP]."""
    rows = np.flatnonzero(examples.lengths >= FEWEST_TOKENS)
    inner = examples.lengths[rows] - 2
    starts = examples.offsets[:-1][rows] + 1
    return _cut(examples, starts, inner // 2), _cut(examples, starts + inner // 2, inner - inner // 2)


def _cut(examples: Examples, starts: np.ndarray, lengths: np.ndarray) -> Examples:
    """The runs of tokens [start, start + length) as single texts of their own."""
    offsets = np.concatenate([[0], np.cumsum(lengths + 2)])
    first = examples.offsets[0]
    ids = np.full(offsets[-1], examples.ids[examples.offsets[1] - 1], dtype=examples.ids.dtype)
    ids[offsets[:-1]] = examples.ids[first]
    ids[runs(offsets[:-1] + 1, lengths)] = examples.ids[runs(starts, lengths)]
    return Examples(ids, np.zeros_like(ids, dtype=np.int8), offsets, np.full(len(lengths), -1), 0)
