"""Masked places against the whole vocabulary: the cross-entropy of their logits, and the way back, in one piece.

The logits of a small model are the largest thing that it computes. They are made by one product, without their bias; then a few rows at a
time, in cache, get it, become losses, and give up their memory to their gradient. So neither fp32 copies of bf16 logits nor the
log-probabilities of all rows ever exist, and bias, scale and the sum of the bias's gradient take no pass over memory of their own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_IGNORED = -100  # torch's ignore_index, and the label of filler
# Logits that a processor turns into losses at a time: 4 MB of fp32 stay in its cache.
_IN_CACHE = 2**20


@torch.compiler.disable  # a loop over parts, in place: nothing to fuse that is not in it
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
        logits = hidden @ table.T
        wide = bias.to(torch.promote_types(bias.dtype, torch.float32))
        total, errors = wide.new_zeros(()), torch.zeros_like(wide)
        rows = max(1, (2**26 if logits.is_cuda else _IN_CACHE) // logits.shape[1])  # a GPU wants few large kernels
        for part, answers in zip(logits.split(rows), labels.split(rows), strict=True):
            counted = (answers != _IGNORED)[:, None]
            answers = answers.clamp(min=0)[:, None]
            biased = part + wide
            below_best = biased.gather(1, answers) - biased.amax(1, keepdim=True)
            probabilities = torch.softmax(biased, dim=1)
            # the best one's is at least 1 / V: its logarithm is exact where the answer's own may be that of 0
            total -= ((below_best + probabilities.amax(1, keepdim=True).log()) * counted).sum()
            if wanted:
                probabilities.scatter_add_(1, answers, probabilities.new_full(answers.shape, -1.0))
                errors += probabilities.mul_(counted).sum(0)
                part.copy_(probabilities)
        ctx.save_for_backward(hidden, table, logits, errors.to(bias.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, table, errors, bias_errors = ctx.saved_tensors
        return errors @ table * gradient, errors.T @ (hidden * gradient), bias_errors * gradient, None, None
