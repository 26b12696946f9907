"""The flat batch: what every model here eats. T tokens of N sequences end to end, with no padding between them.

input_ids (T,)   token_type_ids (T,)   position_ids (T,), restarting at 0 in each sequence       int64
cu_seqlens (N+1,) int32, max_seqlen int      sequence n is [cu_seqlens[n], cu_seqlens[n+1])
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.tokens.shards import ragged_arange

IGNORED = -100  # the label of filler, in floating point NaN: it is in no loss and no count

# Filler brings these to a multiple: few shapes, little waste.
SEQUENCES_AT_ONCE, MASKS_AT_ONCE = 32, 64


@dataclass(frozen=True)
class FlatBatch:
    """Sequences only: for embedding, prediction and filling."""

    input_ids: Tensor
    token_type_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)

    @property
    def num_sequences(self) -> int:
        return len(self.cu_seqlens) - 1

    def part(self, first: int, last: int) -> "FlatBatch":
        """The sequences first to last - 1 as a batch of their own."""
        bounds = self.cu_seqlens[first : last + 1]
        start, end = int(bounds[0]), int(bounds[-1])
        return FlatBatch(
            input_ids=self.input_ids[start:end],
            token_type_ids=self.token_type_ids[start:end],
            position_ids=self.position_ids[start:end],
            cu_seqlens=bounds - bounds[0],
            max_seqlen=int(bounds.diff().max()),
        )

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`; from pinned memory the copies do not wait."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory: what torch's DataLoader calls."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {f.name: change(value) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **changed)

    def encoder_inputs(self) -> dict[str, Any]:
        """The keyword arguments of the encoder."""
        return {f.name: getattr(self, f.name) for f in fields(FlatBatch)}


@dataclass(frozen=True)
class PretrainingBatch(FlatBatch):
    """mlm_positions (M,) index the T tokens, mlm_labels (M,) are their original ids.

    nsp_labels (N,): 0 = B follows A, 1 = B is from another document.
    """

    mlm_positions: Tensor
    mlm_labels: Tensor
    nsp_labels: Tensor
    filler_tokens: int = 0
    filler_sequences: int = 0

    @property
    def num_tokens(self) -> int:
        """Real ones."""
        return len(self.input_ids) - self.filler_tokens

    @property
    def num_sequences(self) -> int:
        """Real ones."""
        return len(self.cu_seqlens) - 1 - self.filler_sequences

    def topped_up(self, tokens: int) -> "PretrainingBatch":
        """The same batch with filler to `tokens` tokens and to multiples of sequences and masked places, so that a run meets a handful
        of shapes: kernels that are made for a shape are then made once.

        Filler is sequences of its own, the empty ones before the real sequences and the others behind; its labels are IGNORED.
        """
        missing, longest = tokens - len(self.input_ids), self.max_seqlen
        assert missing >= 0 and self.filler_tokens == 0
        behind = np.diff([*range(0, missing, longest), missing])  # no sequence is longer than the real ones
        before = -(self.num_sequences + len(behind)) % SEQUENCES_AT_ONCE
        masks = -len(self.mlm_labels) % MASKS_AT_ONCE
        last = int(self.cu_seqlens[-1])
        return PretrainingBatch(
            input_ids=F.pad(self.input_ids, (0, missing)),
            token_type_ids=F.pad(self.token_type_ids, (0, missing)),
            position_ids=torch.cat([self.position_ids, torch.from_numpy(ragged_arange(behind))]),
            cu_seqlens=torch.cat([F.pad(self.cu_seqlens, (before, 0)), torch.from_numpy(last + np.cumsum(behind)).int()]),
            max_seqlen=longest,
            mlm_positions=torch.cat([self.mlm_positions, torch.arange(masks) * (last // max(1, masks))]),  # no sequence has them all
            mlm_labels=F.pad(self.mlm_labels, (0, masks), value=IGNORED),
            nsp_labels=F.pad(self.nsp_labels, (before, len(behind)), value=IGNORED),
            filler_tokens=missing,
            filler_sequences=before + len(behind),
        )


@dataclass(frozen=True)
class LabelledBatch(FlatBatch):
    """labels: class numbers (N,), of tokens (T,), first and last tokens of answers (N, 2), or in floating point numbers (N,) or (N, K).

    rows (N,): which examples these are.
    """

    labels: Tensor
    rows: Tensor
    task: str = field(default="", kw_only=True)  # whose these are, where one step has several tasks

    def encoder_inputs(self) -> dict[str, Any]:
        """The keyword arguments of the encoder, and where one step has several tasks that of which head is asked."""
        return super().encoder_inputs() | ({"task": self.task} if self.task else {})

    def as_filler(self) -> "LabelledBatch":
        """The same sequences without a label: what counts for nothing."""
        return replace(self, labels=torch.full_like(self.labels, float("nan") if self.labels.is_floating_point() else IGNORED))


@dataclass(frozen=True)
class WindowedBatch(LabelledBatch):
    """Texts as several sequences each: texts (N,) is the number of the text, of those of `labels` and `rows`, that a sequence is of."""

    texts: Tensor

    def pooled(self, logits: Tensor) -> Tensor:
        """The mean of the logits (N, K) of each text's sequences, one row a text."""
        sums = logits.new_zeros(len(self.rows), logits.shape[1]).index_add(0, self.texts, logits)
        return sums / torch.bincount(self.texts, minlength=len(self.rows))[:, None]


def flat_fields(input_ids: np.ndarray, token_type_ids: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """The five common fields from ids (T,), segments (T,) and sequence lengths (N,)."""
    cu_seqlens = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=cu_seqlens[1:])
    return {
        "input_ids": torch.from_numpy(input_ids.astype(np.int64)),
        "token_type_ids": torch.from_numpy(token_type_ids.astype(np.int64)),
        "position_ids": torch.from_numpy(ragged_arange(lengths)),
        "cu_seqlens": torch.from_numpy(cu_seqlens),
        "max_seqlen": int(lengths.max()),
    }


def fill_budget(lengths: np.ndarray, budget: int) -> np.ndarray:
    """Cut sequences, in order, into runs of at most `budget` tokens: bounds (runs+1,). A longer sequence is a run of its own."""
    ends = memoryview(np.cumsum(lengths).data)  # reads a number three times as fast as an array does
    bounds, used, most = [0], 0, budget // max(1, int(lengths.min(initial=budget)))
    while bounds[-1] < len(ends):
        first = bounds[-1]
        bounds.append(max(first + 1, bisect_right(ends, used + budget, first, min(first + most, len(ends)))))
        used = ends[bounds[-1] - 1]
    return np.array(bounds, dtype=np.int64)
