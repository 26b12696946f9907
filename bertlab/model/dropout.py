"""Dropout (Srivastava et al. 2014) whose mask is cheap on a CPU: sixteen random bits an element instead of a Bernoulli draw.

torch's own CPU mask costs 7 ns an element, 6 to 9 % of a small BERT's step; this one costs 1 ns (docs/performance.md).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """In training, zero each element with probability `p` and scale the others by 1 / (1 - p); else nothing.

    On the CPU `p` is rounded to a multiple of 2**-16 below 1, the scale is that of the rounded p (the expectation is kept), and bf16
    becomes fp32, which the residual that it is added to is anyway.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p) if self.training else x


def dropped(x: Tensor, p: float) -> Tensor:
    """`x` with dropout of probability `p`, drawn from torch's generator."""
    if x.device.type != "cpu" or not 0 < p < 1:
        return F.dropout(x, p)
    return x * dropout_mask(x.shape, p)


def dropout_mask(shape: torch.Size, p: float) -> Tensor:
    """fp32, 0 with probability p and 1 / (1 - p) otherwise."""
    zeros = min(round(p * 2**16), 2**16 - 1)  # how many of the 2**16 equally likely draws fall
    words = torch.empty(-(-shape.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: shape.numel()].view(shape)
    keep = torch.empty(shape)  # a comparison written as fp32 at once: through bool it takes three times as long
    return torch.ge(draws, zeros - 2**15, out=keep).mul_(2**16 / (2**16 - zeros))
