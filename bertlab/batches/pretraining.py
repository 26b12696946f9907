"""Pretraining batches by number: micro-batch m is a pure function of (corpus, seed, settings, m).

Not of workers, ranks, prefetching or the past. An epoch visits every document once, in blocks of a keyed permutation of
the documents; the pairs of a block are planned from sentence lengths alone, shuffled, and cut into micro-batches of a
token budget. A table of micro-batches per block turns a number into a place; it grows as it is asked for, so that a
resumed run plans the blocks it skips (4 to 10 million sentences a second on a core) and then stands where it was.
Memory: one block's plan, whatever the size of the corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from bertlab.batches import randomness
from bertlab.batches.flat import PretrainingBatch, fill_budget, flat_fields
from bertlab.batches.masking import Masking, masking_for
from bertlab.batches.pairs import Pairs, plan_pairs
from bertlab.errors import DataError
from bertlab.tokens.corpus import Corpus
from bertlab.tokens.shards import Documents

# About 6 million tokens of English: arrays that stay near the processor, and enough pairs that a batch mixes hundreds of documents.
BLOCK_SENTENCES = 2**18

_DOCUMENT_ORDER, _PAIRS = 0, 1  # what a key of (seed, epoch) is derived for
_SHUFFLE = 2**32  # a counter that no draw of a pair's plan uses


@dataclass(frozen=True)
class Block:
    """The pairs of one block in the order in which they are trained on, and where its micro-batches start: bounds (B+1,)."""

    pairs: Pairs
    bounds: np.ndarray


class PretrainingBatches:
    """The endless sequence of micro-batches of one corpus split, by number.

    `cls_id` and `sep_id` frame the pairs; `masking` hides tokens; a micro-batch holds at most `micro_tokens` tokens of
    sequences of at most `max_length`. Raises DataError for fewer than two documents: "another document" must exist.
    """

    def __init__(
        self,
        documents: Documents,
        masking: Masking,
        *,
        cls_id: int,
        sep_id: int,
        seed: int,
        max_length: int,
        micro_tokens: int,
        short_seq_prob: float = 0.1,
        block_sentences: int = BLOCK_SENTENCES,
    ) -> None:
        if documents.num_documents < 2:
            raise DataError(
                f"the corpus has {documents.num_documents} document: next-sentence pairs need another one to draw from; prepare more text"
            )
        self.documents, self.masking = documents, masking
        self.cls_id, self.sep_id = cls_id, sep_id
        self.seed, self.max_length, self.micro_tokens, self.short_seq_prob = seed, max_length, micro_tokens, short_seq_prob
        self.blocks = max(1, min(-(-documents.num_sentences // block_sentences), documents.num_documents // 2))
        self._first = [0]  # number of the first micro-batch of each (epoch, block), in order, as far as planned
        self.block = lru_cache(maxsize=2)(self._plan_block)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "block"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.block = lru_cache(maxsize=2)(self._plan_block)  # a worker process plans for itself

    def micro(self, number: int) -> PretrainingBatch:
        """Micro-batch `number` (0, 1, ... without end)."""
        place, within = self.place(number)
        block = self.block(place)
        return self._gather(block.pairs.take(slice(block.bounds[within], block.bounds[within + 1])))

    def place(self, number: int) -> tuple[int, int]:
        """Which block (counted through all epochs) holds micro-batch `number`, and its place in it."""
        while self._first[-1] <= number:
            self._first.append(self._first[-1] + len(self.block(len(self._first) - 1).bounds) - 1)
        place = int(np.searchsorted(self._first, number, side="right")) - 1
        return place, number - self._first[place]

    def epoch(self, number: int) -> float:
        """How many epochs have passed when micro-batch `number` begins."""
        place, within = self.place(number)
        return (place + within / (len(self.block(place).bounds) - 1)) / self.blocks

    def one_epoch(self, at_most: int | None = None) -> Iterator[PretrainingBatch]:
        """The micro-batches of the first epoch, or the first `at_most` of them: for measuring held-out text."""
        number = 0
        while (at_most is None or number < at_most) and self.place(number)[0] < self.blocks:
            yield self.micro(number)
            number += 1

    def _plan_block(self, place: int) -> Block:
        epoch, block = divmod(place, self.blocks)
        count = self.documents.num_documents
        places = np.arange(block * count // self.blocks, (block + 1) * count // self.blocks)
        documents = randomness.permuted(places, count, randomness.key(self.seed, epoch, _DOCUMENT_ORDER))
        pairs = plan_pairs(
            *self.documents.sentences(documents),
            documents,
            key=randomness.key(self.seed, epoch, _PAIRS),
            max_length=self.max_length,
            short_seq_prob=self.short_seq_prob,
        )
        pairs = pairs.take(randomness.shuffled(pairs.key, _SHUFFLE))
        return Block(pairs, fill_budget(pairs.lengths, self.micro_tokens))

    def _gather(self, pairs: Pairs) -> PretrainingBatch:
        lengths = pairs.lengths
        starts = np.cumsum(lengths) - lengths
        first_sep = starts + 1 + pairs.a_length
        last_sep = starts + lengths - 1
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        ids[starts], ids[first_sep], ids[last_sep] = self.cls_id, self.sep_id, self.sep_id
        self.documents.copy_tokens(pairs.a_start.tolist(), pairs.a_length.tolist(), ids, (starts + 1).tolist())
        self.documents.copy_tokens(pairs.b_start.tolist(), pairs.b_length.tolist(), ids, (first_sep + 1).tolist())
        segments = np.zeros(len(ids), dtype=np.int64)
        segments[starts[1:]], segments[first_sep + 1] = -1, 1  # a step up after the first [SEP], down at the next sequence
        masked, positions, labels = self.masking.apply(ids, lengths, pairs.key)
        return PretrainingBatch(
            **flat_fields(masked, np.cumsum(segments), lengths),
            mlm_positions=torch.from_numpy(positions),
            mlm_labels=torch.from_numpy(labels),
            nsp_labels=torch.from_numpy(pairs.is_random.astype(np.int64)),
        )


@dataclass(frozen=True)
class Phases:
    """The batches of a whole run by step: short pairs before step `switch`, long ones from there on, `micro_batches` to a step.

    With `fill_to` above 1 filler brings each to a multiple of so many tokens, or to its budget where that is less.
    """

    short: PretrainingBatches
    long: PretrainingBatches
    switch: int
    micro_batches: int
    fill_to: int = 1

    def step(self, mine: range, step: int) -> list[PretrainingBatch]:
        """The micro-batches of step `step` whose numbers within it are in `mine`: a process's share."""
        phase, within = (self.short, step) if step < self.switch else (self.long, step - self.switch)
        batches = [phase.micro(within * self.micro_batches + number) for number in mine]
        if self.fill_to == 1:
            return batches
        return [batch.topped_up(min(phase.micro_tokens, -(-batch.num_tokens // self.fill_to) * self.fill_to)) for batch in batches]


# The settings of a run that its batches depend on, beside the corpus: the names of `bertlab pretrain`'s options.
SETTINGS: dict[str, type] = {
    "seed": int,
    "steps": int,
    "micro_tokens": int,
    "micro_batches": int,
    "max_length": int,
    "long_length": int,
    "long_share": float,
    "short_seq_prob": float,
    "mask_rate": float,
    "mask_mode": str,
    "whole_words": bool,
}


def phases_of(corpus: Corpus, settings: dict[str, Any], fill_to: int = 1) -> Phases:
    """The batches of a run on `corpus` with SETTINGS: short pairs, then long; with filler to multiples of `fill_to` tokens."""
    tokenizer = corpus.tokenizer
    masking = masking_for(tokenizer, rate=settings["mask_rate"], mode=settings["mask_mode"], whole_words=settings["whole_words"])
    shared: dict[str, Any] = {name: settings[name] for name in ("micro_tokens", "short_seq_prob")}
    shared |= {"cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}
    seed = settings["seed"]
    return Phases(
        short=PretrainingBatches(corpus.train, masking, seed=seed, max_length=settings["max_length"], **shared),
        long=PretrainingBatches(corpus.train, masking, seed=seed + 2**32, max_length=settings["long_length"], **shared),
        switch=settings["steps"] - round(settings["long_share"] * settings["steps"]),
        micro_batches=settings["micro_batches"],
        fill_to=fill_to,
    )
