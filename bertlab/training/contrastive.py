"""Contrastive learning of text vectors: an anchor's vector is to be nearer to its positive's than to those of all other texts of its batch.

The loss of an anchor is the cross-entropy of choosing its positive by cosine / temperature among all candidates of the batch (InfoNCE, van
den Oord et al. 2018; SimCSE, Gao et al. 2021), symmetric the mean of that and of the positive's choice among the anchors. What is known to
mean the same is no candidate. With Matryoshka dimensions (Kusupati et al. 2022) it is summed over prefixes of the vectors, each scaled to
length 1 after the cut.

More negatives need larger batches, and these more memory than there is: so a batch goes through the encoder in chunks of which no
intermediate state is kept. The way back computes each chunk again, with the same dropout masks, when its vectors' gradients are known
(gradient caching, Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). The gradient is that of the
whole batch; it costs one forward pass more, and a batch that is one chunk costs nothing. The whole batch is one micro-batch of the loop.

Several processes embed a share of the batch each and tell each other the vectors, so that the negatives are those of the whole batch
whatever the number of processes. The loss is so small beside the encoder that each computes all of it, and takes home the gradient of its
own vectors.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bertlab.batches.flat import IGNORED, FlatBatch, PretrainingBatch, fill_budget
from bertlab.batches.sentence_groups import GroupBatch
from bertlab.model.encoder import Bert
from bertlab.model.heads import BertForPreTraining
from bertlab.model.pooling import Pooling, only_places, pool


class TextVectors(nn.Module):
    """An encoder whose output is one vector a text. `model` is the encoder alone, or with the pretraining heads for masked words.

    Both are asked for by a call: of several processes the gradients meet for what went through `forward` alone.
    """

    def __init__(self, model: Bert | BertForPreTraining, pooling: Pooling, micro_tokens: int) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.micro_tokens = micro_tokens

    @property
    def bert(self) -> Bert:
        return self.model if isinstance(self.model, Bert) else self.model.bert

    def forward(self, batch: FlatBatch) -> Tensor:
        """Vectors (N, d) in fp32 (fp64 of such weights), computed in chunks of at most `micro_tokens` tokens; or of a batch with masked
        words the sum of their cross-entropies: ()."""
        if isinstance(batch, PretrainingBatch):
            return self._masked_words(batch)
        chunks = list(self._chunks(batch))
        if len(chunks) == 1:
            return self._vectors(chunks[0])
        return torch.cat([checkpoint(self._vectors, chunk, use_reentrant=False) for chunk in chunks])

    def _masked_words(self, batch: PretrainingBatch) -> Tensor:
        assert isinstance(self.model, BertForPreTraining), "masked words need their head"
        masked = self.bert(places=batch.mlm_positions, **batch.encoder_inputs())
        loss: Tensor = self.model.cls.predictions(masked, self.bert.embeddings.word_embeddings.weight, batch.mlm_labels)
        return loss

    def _chunks(self, batch: FlatBatch) -> Iterator[FlatBatch]:
        bounds = fill_budget(batch.cu_seqlens.diff().cpu().numpy(), self.micro_tokens).tolist()
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            yield batch.part(first, last)

    def _vectors(self, chunk: FlatBatch) -> Tensor:
        places = only_places(chunk.cu_seqlens, self.pooling)
        hidden = self.bert(places=places, **chunk.encoder_inputs())
        hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        return pool(hidden, chunk.cu_seqlens, self.pooling) if places is None else hidden


class Contrast:
    """The objective: the loss of anchors divided by their number, and with `mlm_weight` that times the masked words' loss beside it.

    dims: lengths of the prefixes that are to be good vectors too; none: the whole vector alone. Of several processes (this is `rank` of
    `ranks`) each says an equal share of the one loss that all have computed.
    """

    def __init__(
        self,
        *,
        temperature: float,
        symmetric: bool = False,
        dims: Sequence[int] = (),
        mlm_weight: float = 0.0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.temperature, self.symmetric, self.dims, self.mlm_weight = temperature, symmetric, tuple(dims), mlm_weight
        self.rank, self.ranks = rank, ranks
        self.names = ("contrast_loss", "weighted_mlm_loss") if mlm_weight else ("contrast_loss",)

    def counts(self, batch: FlatBatch) -> list[int]:
        rows = len(range(self.rank, batch.num_rows, self.ranks)) if isinstance(batch, GroupBatch) else 0
        masked = int((batch.mlm_labels != IGNORED).sum()) if isinstance(batch, PretrainingBatch) else 0
        return [rows, masked][: len(self.names)]

    def losses(self, model: nn.Module, batch: FlatBatch) -> Tensor:
        if isinstance(batch, PretrainingBatch):
            masked = self.mlm_weight * model(batch)
            return torch.stack([torch.zeros_like(masked), masked])
        assert isinstance(batch, GroupBatch)
        vectors = model(batch)
        if self.ranks > 1:
            vectors = _OfAll.apply(vectors[: batch.num_sequences], batch.first, len(batch.texts))
        loss = contrast_loss(vectors, batch, self.temperature, symmetric=self.symmetric, dims=self.dims) / self.ranks
        return torch.stack([loss, torch.zeros_like(loss)][: len(self.names)])


class _OfAll(torch.autograd.Function):
    """The vectors of a whole batch (size, d) from those of this process (m, d), which are the batch's from `first` on.

    Every process has the whole loss divided by their number, so the gradient of its own vectors, all that it needs, is there, times that
    number.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, first: int, size: int) -> Tensor:
        ctx.own = slice(first, first + len(own))
        vectors = own.new_zeros(size, own.shape[1])
        vectors[ctx.own] = own
        distributed.all_reduce(vectors)  # each row is one process's and 0 in all others: no rounding
        return vectors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.own] * distributed.get_world_size(), None, None


def contrast_loss(vectors: Tensor, batch: GroupBatch, temperature: float, *, symmetric: bool = False, dims: Sequence[int] = ()) -> Tensor:
    """The sum of the losses of n anchors, of vectors (N, d) in the order of the batch: ()."""
    left_out = batch.no_negatives()
    total = vectors.new_zeros(())
    with torch.autocast(vectors.device.type, enabled=False):  # a cosine of 8 bits divided by 0.05 is off by 0.1
        for width in dims or (vectors.shape[1],):
            total = total + _loss_of_prefix(F.normalize(vectors[:, :width], dim=1), left_out, temperature, symmetric)
    return total


def _loss_of_prefix(unit: Tensor, left_out: Tensor, temperature: float, symmetric: bool) -> Tensor:
    """Of vectors of length 1 (N, width); left_out (n, N - n)."""
    n = len(left_out)
    own = torch.arange(n, device=unit.device)
    anchors, candidates = unit[:n], unit[n:]
    logits = (anchors @ candidates.T / temperature).masked_fill(left_out, float("-inf"))
    loss = F.cross_entropy(logits, own, reduction="sum")
    if not symmetric:
        return loss
    back = (candidates[:n] @ anchors.T / temperature).masked_fill(left_out[:, :n].T, float("-inf"))
    return (loss + F.cross_entropy(back, own, reduction="sum")) / 2
