"""AdamW, and Muon for the hidden matrices; linear warm-up, then linear decay to zero, at once or after a stable stretch.

Weight decay falls on matrices only, never on LayerNorm or biases (Devlin et al. 2018). AdamW corrects its bias
(Mosbach et al. 2021: without it, fine-tuning on little data fails by seed).
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from bertlab.errors import CorruptError
from bertlab.training.sharding import like, whole

Name = Literal["adamw", "muon"]

# The quintic of Jordan 2024 (kellerjordan.github.io/posts/muon): five steps bring every singular value to about 0.7 to 1.2.
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5
# An orthogonal update of a matrix times this and the root of its longer side is about as large as AdamW's (Liu et al. 2025, Moonlight).
AS_LARGE_AS_ADAMW = 0.2


class Muon(Optimizer):
    """Momentum made orthogonal (Jordan 2024), for matrices: the nearest orthogonal matrix of Nesterov momentum, scaled to AdamW's size.

    torch.optim.Muon with adjust_lr_fn="match_rms_adamw" in all but one thing: that one iterates in bf16, which a processor without such
    instructions emulates some 300 times slower (a step of tiny took 2.5 times as long: docs/performance.md). Here a GPU does so always,
    and a CPU with `bf16`, which is for one that multiplies it (a quarter of the time there), else in fp32.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, weight_decay: float = 0.01, momentum: float = 0.95, bf16: bool = False
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.bf16 = bf16

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])
                dtype = torch.bfloat16 if update.is_cuda or self.bf16 else torch.float32
                scale = group["lr"] * AS_LARGE_AS_ADAMW * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(like(orthogonalised(whole(update), dtype), parameter), alpha=-scale)


def orthogonalised(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """U V' of a matrix U S V', roughly, by Newton-Schulz steps in `dtype`. Shape as given.

    A step is x -> p x with a polynomial p of x x'. In fp32 an oblong x is left alone: the p of all steps, which are polynomials of one
    matrix, are multiplied, and x by their product, which for sides of d and 4 d is 28 times d^3 instead of 45. bf16 has not the digits
    for that.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype, copy=True)
    x.div_(x.norm().clamp(min=1e-7))
    if dtype == torch.bfloat16 or x.shape[1] < 2 * x.shape[0]:
        for _ in range(NEWTON_SCHULZ_STEPS):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.T if is_tall else x
    gram, product = x @ x.T, torch.eye(len(x), dtype=dtype, device=x.device)
    for _ in range(NEWTON_SCHULZ_STEPS):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        gram, product = polynomial @ gram @ polynomial, polynomial @ product
    x = product @ x
    return x.T if is_tall else x


def build_optimizers(
    model: nn.Module,
    name: Name,
    *,
    learning_rate: float,
    muon_learning_rate: float | None = None,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    bf16: bool = False,
) -> list[Optimizer]:
    """The optimizers of a model, together covering every trainable parameter once.

    `adamw`: AdamW for all. `muon`: Muon (Jordan 2024, updates scaled to AdamW's size) for the matrices inside the encoder's
    blocks, by default at AdamW's rate, and AdamW for embeddings, heads, LayerNorm and biases. Each group remembers its `peak_lr`: with
    `layer_decay` AdamW's is so much smaller with each block from the top down, and smallest for the embeddings (Howard and Ruder 2018); the
    first group is the heads'.
    `bf16`: the training's products are in bf16, and so are Muon's own.
    """
    named = [(parameter_name, parameter) for parameter_name, parameter in model.named_parameters() if parameter.requires_grad]
    hidden = [parameter for parameter_name, parameter in named if name == "muon" and ".layer." in parameter_name and parameter.ndim == 2]
    chosen = {id(parameter) for parameter in hidden}
    depths = depths_of([parameter_name for parameter_name, _ in model.named_parameters()]) if layer_decay != 1 else {}
    rest = [(depths.get(parameter_name, 0), parameter) for parameter_name, parameter in named if id(parameter) not in chosen]
    groups: list[dict[str, Any]] = []
    for depth in sorted({depth for depth, _ in rest}):
        mine, rate = [parameter for its, parameter in rest if its == depth], learning_rate * layer_decay**depth
        groups.append({"params": [parameter for parameter in mine if parameter.ndim >= 2], "weight_decay": weight_decay, "lr": rate})
        groups.append({"params": [parameter for parameter in mine if parameter.ndim < 2], "weight_decay": 0.0, "lr": rate})
    optimizers: list[Optimizer] = [
        AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=betas, eps=eps, fused=True)
    ]
    if hidden:
        optimizers.append(Muon(hidden, lr=muon_learning_rate or learning_rate, weight_decay=weight_decay, bf16=bf16))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def depths_of(names: Sequence[str]) -> dict[str, int]:
    """How far below the heads each parameter is: 0 for heads and pooler, 1 for the top block, ..., one more than blocks for embeddings."""
    block = {name: int(match[1]) for name in names if (match := re.search(r"\.layer\.(\d+)\.", name))}
    blocks = max(block.values(), default=-1) + 1
    return {name: blocks - block[name] if name in block else (blocks + 1) * (".embeddings." in f".{name}") for name in names}


def linear_schedule(step: int, steps: int, warmup_steps: int, decay_steps: int | None = None) -> float:
    """The factor on the peak learning rate at step 0 <= step < steps: up linearly over the warm-up, down linearly to zero.

    The way down takes the last `decay_steps`, by default all that the warm-up leaves; in between the rate stays at its peak.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    decay_steps = min(steps - warmup_steps, steps - warmup_steps if decay_steps is None else decay_steps)
    return min(1.0, (steps - step) / max(1, decay_steps))


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> float:
    """Set every group to factor * its peak; returns the first group's rate, the one that is logged."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
    return float(optimizers[0].param_groups[0]["lr"])


def optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, torch.Tensor]:
    """All optimizer state as named tensors: "<optimizer>.<parameter>.<key>"."""
    tensors: dict[str, torch.Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for place, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state[parameter].items():
                assert isinstance(value, torch.Tensor), f"optimizer state {key} is not a tensor"
                tensors[f"{number}.{place}.{key}"] = whole(value)
    return tensors


def restore_optimizers(optimizers: list[Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """The reverse of `optimizer_tensors`, for optimizers built the same way. Raises CorruptError for tensors of others."""
    owners = {f"{n}.{place}": (one, each) for n, one in enumerate(optimizers) for place, each in enumerate(_parameters(one))}
    for name, value in tensors.items():
        owner, _, key = name.rpartition(".")
        if owner not in owners or value.shape not in (owners[owner][1].shape, torch.Size([])):
            raise CorruptError(
                f"optimizer state {name!r:.200} of shape {tuple(value.shape)} is another run's: resume with its own settings"
            )
        optimizer, parameter = owners[owner]
        own = parameter if value.shape == parameter.shape else torch.empty((), device=parameter.device)
        optimizer.state[parameter][key] = like(value, own)  # fused AdamW keeps its step count on the device too


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
