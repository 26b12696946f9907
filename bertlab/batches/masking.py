"""Masked language modelling: which tokens are hidden, and by what (Devlin et al. 2018, section 3.1).

Why 80/10/10: a model that only ever predicts at [MASK] learns nothing about real words at their own place, since [MASK]
is never seen after pretraining. So of the chosen tokens 80 % become [MASK], 10 % a random token (the word in front of
you may be wrong) and 10 % stay (it may be right); the model must form an opinion everywhere.

Three promises the original does not make: special tokens ([UNK] among them) are never chosen; a replacement is never a
special token; and every sequence with an eligible token has at least one choice.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertlab.batches.randomness import bits, derive, integers, uniform
from bertlab.tokens.tokenizer import Tokenizer

Mode = Literal["google", "bernoulli"]

_CHOICE, _ACTION, _REPLACEMENT, _DRAWS = 0, 1, 2, 3


@dataclass(frozen=True)
class Masking:
    """The recipe. `google`: exactly min(max_predictions, max(1, round(rate * length))) a sequence, as BERT's data script does
    (length counts special tokens, halves round to even). `bernoulli`: every token by its own coin."""

    mask_id: int
    special: np.ndarray  # (vocab_size,) bool
    continues_word: np.ndarray | None = None  # (vocab_size,) bool: given, whole words are chosen (google mode only)
    rate: float = 0.15
    mode: Mode = "google"
    max_predictions: int = 2**31

    def __post_init__(self) -> None:
        assert 0 < self.rate < 1 and (self.continues_word is None or self.mode == "google")

    def apply(self, ids: np.ndarray, lengths: np.ndarray, pair_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask N sequences end to end: ids (T,), lengths (N,), keys (N,) -> masked ids (T,), positions (M,) ascending, labels (M,)."""
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        starts = np.cumsum(lengths) - lengths
        counter = (np.arange(len(ids)) - starts[sequence]) * _DRAWS
        keys = derive(pair_keys, 0)[sequence]
        eligible = ~self.special[ids]
        draw = bits(keys, counter + _CHOICE)
        if self.mode == "bernoulli":
            positions = self._choose_by_coin(draw, eligible, sequence, len(lengths))
        elif self.continues_word is None:
            positions = self._choose_exactly(draw, eligible, sequence, lengths)
        else:
            positions = self._choose_words(ids, draw, eligible, sequence, lengths)
        labels = ids[positions]
        masked = ids.copy()
        masked[positions] = self._replaced(labels, keys[positions], counter[positions])
        return masked, positions, labels

    def _replaced(self, labels: np.ndarray, keys: np.ndarray, counter: np.ndarray) -> np.ndarray:
        ordinary = np.flatnonzero(~self.special)
        action = uniform(keys, counter + _ACTION)
        random_ids = ordinary[integers(keys, counter + _REPLACEMENT, len(ordinary))]
        return np.where(action < 0.8, self.mask_id, np.where(action < 0.9, random_ids, labels))

    def _budget(self, lengths: np.ndarray) -> np.ndarray:
        return np.minimum(self.max_predictions, np.maximum(1, np.rint(self.rate * lengths))).astype(np.int64)

    def _choose_exactly(self, draw: np.ndarray, eligible: np.ndarray, sequence: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        order, rank = _rank_within(draw, eligible, sequence, lengths)
        return np.sort(order[(rank < self._budget(lengths)[sequence]) & eligible[order]])

    def _choose_by_coin(self, draw: np.ndarray, eligible: np.ndarray, sequence: np.ndarray, num_sequences: int) -> np.ndarray:
        chosen = (draw < np.uint64(round(self.rate * 2**64))) & eligible
        lengths = np.bincount(sequence, minlength=num_sequences)
        order, rank = _rank_within(draw, eligible, sequence, lengths)
        first = order[(rank == 0) & eligible[order]]  # the token nearest to being chosen: taken where no coin fell
        empty = np.bincount(sequence[chosen], minlength=num_sequences) == 0
        chosen[first[empty[sequence[first]]]] = True
        return np.flatnonzero(chosen)

    def _choose_words(
        self, ids: np.ndarray, draw: np.ndarray, eligible: np.ndarray, sequence: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Words in drawn order while they fit the budget (one that does not is passed over); the first where none fits."""
        assert self.continues_word is not None
        starts_word = eligible.copy()
        starts_word[1:] &= ~(self.continues_word[ids[1:]] & eligible[:-1] & (sequence[1:] == sequence[:-1]))
        word_start = np.flatnonzero(starts_word)
        word_of = np.cumsum(starts_word) - 1
        size = np.bincount(word_of[eligible], minlength=len(word_start))
        word_sequence = sequence[word_start]
        words = np.bincount(word_sequence, minlength=len(lengths))
        order, _ = _rank_within(draw[word_start], np.ones(len(word_start), dtype=bool), word_sequence, words)
        first = np.cumsum(words) - words
        budget, taken = self._budget(lengths), np.zeros(len(lengths), dtype=np.int64)
        chosen = np.zeros(len(word_start), dtype=bool)
        for turn in range(words.max(initial=0)):
            open_sequences = np.flatnonzero((turn < words) & (taken < budget))
            word = order[first[open_sequences] + turn]
            fits = taken[open_sequences] + size[word] <= budget[open_sequences]
            chosen[word] = fits
            taken[open_sequences] += size[word] * fits
        none = np.flatnonzero((taken == 0) & (words > 0))
        chosen[order[first[none]]] = True
        places = np.flatnonzero(eligible)
        return places[chosen[word_of[places]]]


def masking_for(tokenizer: Tokenizer, *, rate: float = 0.15, mode: Mode = "google", whole_words: bool = False) -> Masking:
    """The recipe for a vocabulary."""
    return Masking(tokenizer.mask_id, tokenizer.special, tokenizer.continues_word() if whole_words else None, rate, mode)


def _rank_within(draw: np.ndarray, eligible: np.ndarray, sequence: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the tokens of each sequence by their draw, ineligible ones last: order (T,) of indices, each place's rank in its sequence."""
    low = np.uint64(40)
    within = np.where(eligible, draw >> (np.uint64(64) - low), (np.uint64(1) << low) - np.uint64(1))
    order = np.argsort((sequence.astype(np.uint64) << low) | within, kind="stable")
    starts = np.cumsum(lengths) - lengths
    return order, np.arange(len(draw)) - starts[sequence]
