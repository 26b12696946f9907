"""Masked places against the whole vocabulary: the cross-entropy of their logits, and the way back, in one piece.

The logits of a small model are the largest thing that it computes: 78 MB of fp32 for 640 places and 30,522 words. Of each one
exponential is computed, and what the way back needs of it is kept in the dtype of the products: neither fp32 copies of bf16 logits nor
log-probabilities of all rows ever exist. How the work is cut up is told by what is slow (docs/performance.md):

    by words    fp32: as one matrix the logits are written at half the rate of products whose result stays in cache, so that the vocabulary
                is met a block of words at a time, and the best and the sum of each block are brought together at the end (Milakov and
                Gimelshein 2018, "Online normalizer calculation for softmax")
    by rows     bf16: the products are 3 to 5 times as fast and like to be large, and it is the passes over their result that cost: one
                product, of which a few rows at a time, in cache, become probabilities
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_IGNORED = -100  # torch's ignore_index, and the label of filler
# By words: a block of few places has so many logits; of many places at least so many words, or its products are not worth their calls.
_LOGITS = 2**18
_FEWEST_WORDS = 768
_IN_CACHE = 2**21  # by rows: logits at a time, 8 MB of fp32
_OF_A_GPU = 2**26  # either way: it wants few large kernels


@torch.compiler.disable  # a loop over blocks: nothing to fuse that is not in it
def vocabulary_loss(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """The sum of cross-entropies of the logits hidden @ table.T + bias, labels of -100 left out: () in fp32 (fp64 of such weights).

    hidden (M, d), table (V, d), bias (V,), labels (M,). Under autocast the products are in its dtype; bias and loss stay in fp32.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden, table = (of.to(torch.get_autocast_dtype(device)) for of in (hidden, table))
    wanted = torch.is_grad_enabled() and any(of.requires_grad for of in (hidden, table, bias))
    way = _ByRows if hidden.element_size() == 2 else _ByWords
    return way.apply(hidden, table, bias, labels, wanted)


class _ByWords(torch.autograd.Function):
    """hidden (M, d), table (V, d), bias (V,), labels (M,) -> (): a block of words of all M places at a time."""

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
            kept += [block] * wanted
        best = torch.stack(bests).amax(0)
        shares = (torch.stack(bests) - best).exp()  # (blocks, M): what a block's exponentials are worth beside the best block's
        total = (torch.stack(sums) * shares).sum(0)
        counted = labels != _IGNORED
        ctx.save_for_backward(hidden, table, labels, shares / total * counted, *kept)
        ctx.bias_dtype = bias.dtype
        return torch.where(counted, (best - own) + total.log(), 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, table, labels, scales, *kept = ctx.saved_tensors
        scales = scales * gradient
        for_hidden, for_table = torch.zeros_like(hidden), torch.empty_like(table)
        for_bias = scales.new_empty(len(table))
        for words, block, scale in zip(_blocks(hidden, table), kept, scales, strict=True):
            errors = block * scale[:, None]
            column, here = _column(labels, words)
            errors.scatter_add_(1, column, (here * -gradient)[:, None])
            torch.sum(errors, 0, out=for_bias[words])
            errors = errors.to(hidden.dtype)
            torch.mm(errors.T, hidden, out=for_table[words])
            for_hidden += errors @ table[words]
        return for_hidden, for_table, for_bias.to(ctx.bias_dtype), None, None


def _blocks(hidden: Tensor, table: Tensor) -> Iterator[slice]:
    """The vocabulary's words, a block at a time."""
    logits = _OF_A_GPU if hidden.is_cuda else _LOGITS
    words = max(_FEWEST_WORDS, logits // max(1, len(hidden)))
    return (slice(first, min(first + words, len(table))) for first in range(0, len(table), words))


def _column(labels: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Which of a block's `words` each place's answer is, (M, 1), and whether it is one of them, (M,)."""
    column = labels - words.start
    return column.clamp(0, words.stop - words.start - 1)[:, None], (column >= 0) & (column < words.stop - words.start)


class _ByRows(torch.autograd.Function):
    """The same, all V words of a few places at a time; what is kept is the gradient of the logits, (M, V)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor, wanted: bool) -> Tensor:
        logits = hidden @ table.T
        wide = bias.to(torch.promote_types(bias.dtype, torch.float32))
        total, for_bias = wide.new_zeros(()), torch.zeros_like(wide)
        rows = max(1, (_OF_A_GPU if logits.is_cuda else _IN_CACHE) // len(table))
        for part, answers in zip(logits.split(rows), labels.split(rows), strict=True):
            counted = (answers != _IGNORED)[:, None]
            answers = answers.clamp(min=0)[:, None]
            biased = part.to(wide.dtype).add_(wide)
            below_best = biased.gather(1, answers) - biased.amax(1, keepdim=True)
            errors = torch.softmax(biased, dim=1)
            # the best one's is at least 1 / V: its logarithm is exact where the answer's own may be that of 0
            total -= ((below_best + errors.amax(1, keepdim=True).log()) * counted).sum()
            if wanted:
                errors.scatter_add_(1, answers, errors.new_full(answers.shape, -1.0))
                for_bias += errors.mul_(counted).sum(0)
                part.copy_(errors)
        ctx.save_for_backward(hidden, table, logits, for_bias.to(bias.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, table, errors, for_bias = ctx.saved_tensors
        return errors @ table * gradient, errors.T @ (hidden * gradient), for_bias * gradient, None, None
