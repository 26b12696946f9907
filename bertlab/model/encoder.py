"""BERT's encoder (Devlin et al. 2018) over flat batches, in one file that reads downward to `Bert`.

Post-norm residual blocks as in the paper; learned token, position and segment embeddings; GELU; a tanh pooler on [CLS].
Module names are those of transformers' BertModel, so that a saved file opens there and a published one opens here with
no translation (LayerNorm keeps its published spelling). Knows nothing of data, losses or files.

Shapes: T tokens of N sequences, d = hidden_size, H heads of d / H.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bertlab.errors import ConfigError
from bertlab.model.attention import Asked, Layout, ask, attend, attend_asked, layout
from bertlab.model.dropout import Dropout

# Larger numbers in a config.json are a mistake or an attack: refused before any memory is asked for.
_LIMITS = {
    "vocab_size": 2**22,
    "hidden_size": 2**15,
    "num_hidden_layers": 1024,
    "intermediate_size": 2**18,
    "max_position_embeddings": 2**20,
    "type_vocab_size": 1024,
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The architecture, by transformers' BertConfig names. Raises ConfigError for sizes that do not fit together."""

    vocab_size: int
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int if field.type is int else int | float):
                raise ConfigError(f"{field.name}={value!r} is not {'a whole number' if field.type is int else 'a number'}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps", "initializer_range"):
            if not 0 <= getattr(self, name) <= 1:  # NaN is not
                raise ConfigError(f"{name}={getattr(self, name)} is not between 0 and 1")
        for name, most in _LIMITS.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}={getattr(self, name)} is not between 1 and {most}")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}")

    @classmethod
    def from_published(cls, values: dict[str, Any], origin: str) -> "EncoderConfig":
        """Read a config.json's values. Keys that do not shape the encoder are ignored; another architecture is refused."""
        wanted: dict[str, tuple[Any, ...]] = {
            "model_type": ("bert",),
            "hidden_act": ("gelu", None),
            "position_embedding_type": ("absolute", None),
        }
        for key, allowed in wanted.items():
            if values.get(key) not in allowed:
                raise ConfigError(f"{origin}: {key} is {values.get(key)!r}: this is a BERT encoder, it needs {allowed[0]!r}")
        known = {field.name: values[field.name] for field in fields(cls) if values.get(field.name) is not None}
        if "vocab_size" not in known:
            raise ConfigError(f"{origin}: no vocab_size: is it a BERT's config.json?")
        try:
            return cls(**known)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}") from None


class Embeddings(nn.Module):
    """Token + position + segment embeddings, normalised: (T,) ids -> (T, d)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        total = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(total))


class SelfAttention(nn.Module):
    """Query, key and value projections, made in one product, and attention within each sequence: (T, d) -> (T, d), or of asked tokens
    alone (M, d): then only they have queries."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, where: Layout, asked: Asked | None = None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if asked is None or asked.packing is None:
            qkv = _side_by_side((self.query, self.key, self.value), hidden)
            context = attend(qkv.view(len(hidden), 3, self.heads, -1), where, dropout)
            return context if asked is None else context[asked.places]
        query = self.query(hidden[asked.places]).view(len(asked.places), self.heads, -1)
        key_value = _side_by_side((self.key, self.value), hidden).view(len(hidden), 2, self.heads, -1)
        return attend_asked(query, key_value, asked, dropout)


def _side_by_side(parts: tuple[nn.Module, ...], hidden: Tensor) -> Tensor:
    """Several products of the same states as one: (T, d) -> (T, len(parts) * d)."""
    linear = [part for part in parts if type(part) is nn.Linear]
    if len(linear) < len(parts):  # an adapter stands in for one of them, and its product is more than its matrix
        return torch.cat([part(hidden) for part in parts], dim=-1)
    return F.linear(hidden, torch.cat([part.weight for part in linear]), torch.cat([part.bias for part in linear]))


class ResidualOutput(nn.Module):
    """LayerNorm(residual + dropout(W x)): what closes both halves of a block."""

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(residual + self.dropout(self.dense(x)))


class Attention(nn.Module):
    """The first half of a block. `self` and `output` are the published names."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = ResidualOutput(config.hidden_size, config)

    def forward(self, hidden: Tensor, where: Layout, asked: Asked | None = None) -> Tensor:
        context = self.self(hidden, where, asked)
        return self.output(context, hidden if asked is None else hidden[asked.places])


class Intermediate(nn.Module):
    """The widening of the feed-forward half: (T, d) -> (T, intermediate_size)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class Block(nn.Module):
    """One transformer block: attention, then feed-forward, each with its residual and LayerNorm. (T, d) -> (T, d), or of asked tokens
    alone (M, d): of the others only keys and values are needed."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config.intermediate_size, config)

    def forward(self, hidden: Tensor, where: Layout, asked: Asked | None = None) -> Tensor:
        attended = self.attention(hidden, where, asked)
        return self.output(self.intermediate(attended), attended)


class Blocks(nn.Module):
    """All blocks in turn. `layer` is the published name.

    With `recompute` set, training keeps only what enters each block and computes the rest again on the way back: about a third more
    work for a fraction of the memory (Chen et al. 2016), and the same gradients, dropout included.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.recompute = False

    def forward(self, hidden: Tensor, where: Layout, asked: Asked | None = None) -> Tensor:
        for number, block in enumerate(self.layer, 1):
            inputs = hidden, where, asked if number == len(self.layer) else None
            hidden = checkpoint(block, *inputs, use_reentrant=False) if self.recompute and self.training else block(*inputs)
        return hidden


class Pooler(nn.Module):
    """tanh(W h) of the [CLS] vectors: (N, d) -> (N, d). Trained by next-sentence prediction or by a classifier, else random."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))


class Bert(nn.Module):
    """Embeddings, blocks and pooler: the encoder that every head here stands on. Heads on tokens leave the pooler out: it would stay
    as it is, and transformers' folders of such heads have none."""

    def __init__(self, config: EncoderConfig, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Blocks(config)
        self.pooler = Pooler(config) if pooler else None
        self.apply(lambda module: initialise(module, config.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (T, d) of a flat batch (bertlab/batches/flat.py says what each argument is).

        With `places` (M,) into the T tokens those of these alone, (M, d), and the last block, whose other outputs nobody reads, does the
        work of M tokens but for its keys and values: more than a fifth of a classifier of four layers is saved.
        """
        hidden = self.embeddings(input_ids, token_type_ids, position_ids)
        dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        where = layout(cu_seqlens, max_seqlen, self.config.num_attention_heads, dtype, dropout)
        return self.encoder(hidden, where, None if places is None else ask(where, places))

    def pool(self, first: Tensor) -> Tensor:
        """The pooled vectors (N, d) of the hidden states (N, d) of [CLS], which stands at `cu_seqlens[:-1]`."""
        assert self.pooler is not None, "a head on tokens has no pooler"
        return self.pooler(first)


def parameter_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The parameters of `Bert(config)` by name, without one: what a file must hold is known before any memory is taken for it."""
    width, wide = config.hidden_size, config.intermediate_size
    normed = {"LayerNorm.weight": (width,), "LayerNorm.bias": (width,)}
    embeddings = {"word": config.vocab_size, "position": config.max_position_embeddings, "token_type": config.type_vocab_size}
    products = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    products |= {"attention.output.dense": (width, width), "intermediate.dense": (wide, width), "output.dense": (width, wide)}
    block: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in products.items()}
    block |= {f"{name}.bias": shape[:1] for name, shape in products.items()}
    block |= {f"{half}.{name}": shape for half in ("attention.output", "output") for name, shape in normed.items()}
    return {
        **{f"embeddings.{name}_embeddings.weight": (count, width) for name, count in embeddings.items()},
        **{f"embeddings.{name}": shape for name, shape in normed.items()},
        **{f"encoder.layer.{n}.{name}": shape for n in range(config.num_hidden_layers) for name, shape in block.items()},
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }


def initialise(module: nn.Module, std: float) -> None:
    """BERT's start: matrices from N(0, std), biases 0, LayerNorm 1 and 0 (torch's own). The padding row is never read."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
