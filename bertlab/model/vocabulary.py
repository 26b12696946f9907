"""Masked places against the whole vocabulary: the cross-entropy of their logits, and the way back, in one piece.

The logits of a small model are the largest thing that it computes, and as one matrix they are slow to write: a processor's product of
600 places with 30,522 words runs at half the rate of one whose result stays in cache (docs/performance.md). So the vocabulary is met a
block of words at a time. A block's logits get their bias and become exponentials above the block's own best logit, and these are kept;
the best of all blocks and the sum, known at the end, make the loss of them and, on the way back, probabilities (Milakov and Gimelshein
2018, "Online normalizer calculation for softmax"). So there is one exponential a logit, and under bf16 only a block is ever in fp32.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_IGNORED = -100  # torch's ignore_index, and the label of filler
# A block of few places has so many logits; of many places at least so many words, or its products are not worth their calls.
_LOGITS = 2**18
_FEWEST_WORDS = 768


@torch.compiler.disable  # a loop over blocks: nothing to fuse that is not in it
def vocabulary_loss(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """The sum of cross-entropies of the logits hidden @ table.T + bias, labels of -100 left out: () in fp32 (fp64 of such weights).

    hidden (M, d), table (V, d), bias (V,), labels (M,). Under autocast the products are in its dtype; bias and loss stay in fp32.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden, table = (of.to(torch.get_autocast_dtype(device)) for of in (hidden, table))
    wanted = torch.is_grad_enabled() and any(of.requires_grad for of in (hidden, table, bias))
    return _VocabularyLoss.apply(hidden, table, bias, labels, wanted)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor, wanted: bool) -> Tensor:
        wide = bias.to(torch.promote_types(bias.dtype, torch.float32))
        own = wide.new_zeros(len(hidden))  # each answer's logit
        bests, sums, kept = [], [], []
        for words in _blocks(hidden, table):
            block = (hidden @ table[words].T).to(wide.dtype)
            block += wide[words]
            column, here = _column(labels, words)
            own = torch.where(here, block.gather(1, column).squeeze(1), own)
            bests.append(block.amax(1))
            block.sub_(bests[-1][:, None]).exp_()
            sums.append(block.sum(1))
            if wanted:
                kept.append(block.to(hidden.dtype))
        best = torch.stack(bests).amax(0)
        shares = (torch.stack(bests) - best).exp()  # (blocks, M): what a block's exponentials are worth beside the best block's
        total = (torch.stack(sums) * shares).sum(0)
        counted = labels != _IGNORED
        # of an answer's own place the probability less 1, where nothing has been rounded
        errors = torch.where(counted, (own - best).exp() / total - 1, 0)
        ctx.save_for_backward(hidden, table, labels, shares / total * counted, errors, *kept)
        ctx.bias_dtype = bias.dtype
        return torch.where(counted, (best - own) + total.log(), 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, table, labels, scales, own_errors, *kept = ctx.saved_tensors
        scales, own_errors = scales * gradient, own_errors * gradient
        for_hidden, for_table = scales.new_zeros(hidden.shape), torch.empty_like(table)
        for_bias = scales.new_empty(len(table))
        for words, block, scale in zip(_blocks(hidden, table), kept, scales, strict=True):
            errors = block * scale[:, None]
            column, here = _column(labels, words)
            errors.scatter_(1, column, torch.where(here, own_errors, errors.gather(1, column).squeeze(1))[:, None])
            torch.sum(errors, 0, out=for_bias[words])
            errors = errors.to(hidden.dtype)
            torch.mm(errors.T, hidden, out=for_table[words])
            for_hidden += errors @ table[words]
        return for_hidden.to(hidden.dtype), for_table, for_bias.to(ctx.bias_dtype), None, None


def _blocks(hidden: Tensor, table: Tensor) -> Iterator[slice]:
    """The vocabulary's words, a block at a time."""
    logits = 2**26 if hidden.is_cuda else _LOGITS  # a GPU wants few large kernels
    words = max(_FEWEST_WORDS, logits // max(1, len(hidden)))
    return (slice(first, min(first + words, len(table))) for first in range(0, len(table), words))


def _column(labels: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Which of a block's `words` each place's answer is, (M, 1), and whether it is one of them, (M,)."""
    column = labels - words.start
    return column.clamp(0, words.stop - words.start - 1)[:, None], (column >= 0) & (column < words.stop - words.start)
