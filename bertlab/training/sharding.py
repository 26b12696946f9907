"""Weights, gradients and moments divided over the processes (FSDP2), for a model that is too large for each of them.

torch's fully_shard is asked directly: Accelerate's way to it knows GPUs alone. A block's weights are whole only while it computes: they
travel twice a micro-batch, gradients once. What is written and read are whole tensors, so that a checkpoint goes on in any number of
processes, divided or not. `whole` and what is built on it must be called by all processes, in the same order. What divides is imported
where something is: half a second that a run which is refused does not wait (torch's optimizers bring it along when training begins).
"""

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(model: Any) -> None:
    """Divide a model with an encoder `bert` in place, by its blocks. Before its optimizers are built: they hold what is divided."""
    from torch.distributed.fsdp import fully_shard

    for block in model.bert.encoder.layer:
        fully_shard(block)
    fully_shard(model)


def is_sharded(model: nn.Module) -> bool:
    return any(_is_divided(parameter) for parameter in model.parameters())


def _is_divided(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a DTensor, without the module of that class."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided."""
    return tensor.full_tensor() if _is_divided(tensor) else tensor


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, which every process has, on the device of `own` and divided as it is."""
    value = value.to(own.device)
    if not _is_divided(own):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model by name."""
    with torch.no_grad():
        return {name: whole(value) for name, value in model.state_dict().items()}
