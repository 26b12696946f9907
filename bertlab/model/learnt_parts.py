"""Which parts of an encoder are learnt: its lowest layers frozen, its top layers begun anew, or low-rank additions alone (LoRA).

Low-rank additions (Hu et al. 2022) are the library peft's, an extra; merged into the matrices that they are added to, they leave no trace
but other weights. What training costs in memory is gradients and the optimizer's two numbers a parameter; frozen parameters have neither.
"""

from typing import Any

from torch import nn

from bertlab.model.encoder import Bert, initialise

# Every matrix of a block. The paper adapts query and value alone; all of them is what later work found to come nearest to full training
# (Dettmers et al. 2023, figure 2).
ADAPTED = ["query", "key", "value", "dense"]
ALPHA_A_RANK = 2  # the additions are scaled by alpha / rank, so that another rank needs no other learning rate


def begin_anew(bert: Bert, blocks: int) -> None:
    """Give the top `blocks` blocks and the pooler a fresh start from torch's generator (Zhang et al. 2021)."""
    parts: list[nn.Module] = list(bert.encoder.layer[len(bert.encoder.layer) - blocks :]) if blocks else []
    for part in [*parts, *([bert.pooler] if blocks and bert.pooler is not None else [])]:
        for module in part.modules():
            initialise(module, bert.config.initializer_range)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()


def freeze(bert: Bert, blocks: int) -> None:
    """Let the embeddings and the lowest `blocks` blocks have no gradient; 0 freezes nothing."""
    if blocks:
        bert.embeddings.requires_grad_(False)
        bert.encoder.layer[:blocks].requires_grad_(False)


def add_adapters(bert: Bert, rank: int) -> Any:
    """Freeze embeddings and blocks, and add products of two matrices of `rank` columns to the blocks' matrices, at first zero, drawn from
    torch's generator. Returns what `merge_adapters` wants."""
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    others = r"pooler\..*" if bert.pooler is not None else None  # its matrix is called dense too, and learnt whole
    adapted = LoraModel(bert, LoraConfig(r=rank, lora_alpha=ALPHA_A_RANK * rank, target_modules=ADAPTED, exclude_modules=others), "default")
    if bert.pooler is not None:
        bert.pooler.requires_grad_(True)
    return adapted


def merge_adapters(adapted: Any) -> None:
    """Add the products to the matrices, and leave the encoder as it would be without adapters, to the names of its parameters."""
    adapted.merge_and_unload()
