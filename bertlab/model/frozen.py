"""BERT's encoder for reading alone: the numbers of bertlab/model/encoder.py without dropout or gradients, from weights laid out for speed.

Query, key and value are one matrix, made once; the additions are made in place; under bf16 the weights are cast once, and only the
products are in bf16: residuals and LayerNorm stay in fp32, as autocast has them. Stops after the last layer that is asked for.
The other tensors are the model's own where device and type allow, so a frozen encoder costs a quarter of the blocks' memory.
Call it inside torch.inference_mode. Shapes: T tokens of N sequences, d = hidden_size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.model.attention import Layout, attend, attend_runs, runs
from bertlab.model.encoder import Bert
from bertlab.model.facts import layer_numbers

# A product of fewer rows than this takes another kernel, which adds in another order: with it, a row's result would depend on the others.
FEWEST_ROWS = 16


@dataclass(frozen=True)
class _Affine:
    """Weight and bias of a product or of a LayerNorm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class _Block:
    qkv: _Affine
    output: _Affine
    output_norm: _Affine
    up: _Affine
    down: _Affine
    down_norm: _Affine


class FrozenBert:
    """What `Bert` computes in eval mode; changes to the model's weights after this was made are seen in part only: make it again.

    Attributes: config (EncoderConfig), device, dtype (of the products), num_layers.
    """

    def __init__(self, bert: Bert, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.config, self.device, self.dtype = bert.config, device, dtype
        self.num_layers = bert.config.num_hidden_layers
        tensors = {name: value.detach() for name, value in bert.state_dict().items()}

        def affine(*names: str, type: torch.dtype = dtype) -> _Affine:
            weight, bias = ([tensors[f"{name}.{kind}"] for name in names] for kind in ("weight", "bias"))
            whole = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (weight, bias))
            return _Affine(*(part.to(device, type) for part in whole))

        def block(place: str) -> _Block:
            return _Block(
                affine(*(f"{place}.attention.self.{part}" for part in ("query", "key", "value"))),
                affine(f"{place}.attention.output.dense"),
                affine(f"{place}.attention.output.LayerNorm", type=torch.float32),
                affine(f"{place}.intermediate.dense"),
                affine(f"{place}.output.dense"),
                affine(f"{place}.output.LayerNorm", type=torch.float32),
            )

        self._tables = [
            tensors[f"embeddings.{table}_embeddings.weight"].to(device, torch.float32) for table in ("word", "token_type", "position")
        ]
        self._norm = affine("embeddings.LayerNorm", type=torch.float32)
        self._blocks = [block(f"encoder.layer.{number}") for number in range(self.num_layers)]

    def layer_numbers(self, layers: Sequence[int]) -> list[int]:
        """See bertlab/model/facts.py; none: the last. Raises ConfigError for one that is not there."""
        return layer_numbers(layers, self.num_layers) or [self.num_layers]

    def word_rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows (T, d) fp32 of the table of word embeddings: what ids (T,) are before position, context or any layer."""
        rows: np.ndarray = self._tables[0][torch.from_numpy(ids.astype(np.int64)).to(self.device)].cpu().numpy()
        return rows

    def states(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        layers: Sequence[int] = (),
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (T, d) in fp32 of a flat batch: of the last layer, or the mean over `layers` (see `layer_numbers`); with `places`
        (M,) into the T tokens those of these alone, (M, d)."""

        def kept(states: Tensor) -> Tensor:
            return states if places is None else states[places]

        wanted = self.layer_numbers(layers)
        groups = None if self.device.type == "cuda" and self.dtype != torch.float32 else runs(cu_seqlens)
        words, segments, positions = self._tables
        hidden = F.embedding(input_ids, words).add_(F.embedding(token_type_ids, segments)).add_(F.embedding(position_ids, positions))
        hidden = self._normalised(hidden, self._norm)
        total = kept(hidden).clone() if wanted[0] == 0 else None
        for number, block in enumerate(self._blocks[: wanted[-1]], 1):
            qkv = self._product(hidden, block.qkv).view(len(hidden), 3, self.config.num_attention_heads, -1)
            context = attend(qkv, Layout(cu_seqlens, max_seqlen), 0.0) if groups is None else attend_runs(qkv, groups)
            if number == wanted[-1]:
                context, hidden = kept(context), kept(hidden)
            attended = self._normalised(self._product(context, block.output).float().add_(hidden), block.output_norm)
            widened = F.gelu(self._product(attended, block.up))
            hidden = self._normalised(self._product(widened, block.down).float().add_(attended), block.down_norm)
            if number in wanted:
                state = hidden if number == wanted[-1] else kept(hidden)
                total = state if total is None else total.add_(state)
        assert total is not None
        return total if len(wanted) == 1 else total.div_(len(wanted))

    def _product(self, x: Tensor, by: _Affine) -> Tensor:
        if len(x) < FEWEST_ROWS:
            return F.linear(F.pad(x, (0, 0, 0, FEWEST_ROWS - len(x))).to(self.dtype), by.weight, by.bias)[: len(x)]
        return F.linear(x.to(self.dtype), by.weight, by.bias)

    def _normalised(self, x: Tensor, by: _Affine) -> Tensor:
        return F.layer_norm(x, (self.config.hidden_size,), by.weight, by.bias, self.config.layer_norm_eps)
