"""What is minimised: losses as sums over a micro-batch divided by counts over the whole global batch.

So accumulation and processes never change the gradient: mean-of-means with unequal masked counts is off by 8 to 24 %.
An objective says what it counts, and turns a micro-batch into a loss; nothing here steps an optimizer.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertlab.batches.flat import IGNORED, FlatBatch, LabelledBatch, PretrainingBatch, WindowedBatch

Batch = TypeVar("Batch", bound=FlatBatch, contravariant=True)


class Objective(Protocol[Batch]):
    """names: of the loss parts, e.g. ("mlm_loss", "nsp_loss"); the total loss is their sum."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def counts(self, batch: Batch) -> Sequence[float]:
        """What each part's sum is divided by, summed over the global batch before any loss is made."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sums of each part over this micro-batch. Shape (len(names),)."""


class Pretraining:
    """Cross-entropy over masked places, and over pairs, each divided by its own global count (Devlin et al. 2018)."""

    names = ("mlm_loss", "nsp_loss")

    def counts(self, batch: PretrainingBatch) -> list[int]:
        return [int((batch.mlm_labels != IGNORED).sum()), batch.num_sequences]

    def losses(self, model: nn.Module, batch: PretrainingBatch) -> Tensor:
        mlm, nsp_logits = model(mlm_positions=batch.mlm_positions, mlm_labels=batch.mlm_labels, **batch.encoder_inputs())
        return torch.stack([mlm, F.cross_entropy(nsp_logits.float(), batch.nsp_labels, reduction="sum")])


def pretraining_scores(model: nn.Module, batch: PretrainingBatch) -> Tensor:
    """For measuring: MLM loss sum, hits and masked tokens, then NSP loss sum, hits and pairs. Shape (6,) float64."""
    mlm_logits, nsp_logits = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
    scores = []
    for logits, labels in ((mlm_logits.float(), batch.mlm_labels), (nsp_logits.float(), batch.nsp_labels)):
        loss = F.cross_entropy(logits, labels, reduction="sum")
        hits = (logits.argmax(-1) == labels).sum()
        scores += [loss.double(), hits.double(), torch.tensor(len(labels), dtype=torch.float64, device=loss.device)]
    return torch.stack(scores)


def logits_of(model: nn.Module, batch: LabelledBatch) -> Tensor:
    """The model's logits in fp32, of texts in several windows the mean over a text's windows."""
    logits = model(**batch.encoder_inputs()).float()
    return batch.pooled(logits) if isinstance(batch, WindowedBatch) else logits


class Classification:
    """Cross-entropy with optional label smoothing: q = (1 - e) onehot + e / K (Szegedy et al. 2016).

    Of texts or of tokens: as many logits as the model gives, as many labels as the batch has, IGNORED ones left out of sum and count.
    With `weights` (K,) a class counts so much: the loss is torch's weighted mean, sum of w l / sum of w, over the whole global batch.
    """

    names = ("loss",)

    def __init__(self, label_smoothing: float = 0.0, weights: Sequence[float] | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def counts(self, batch: LabelledBatch) -> list[float]:
        labels = batch.labels[batch.labels != IGNORED]
        return [len(labels) if self.weights is None else float(self.weights[labels].double().sum())]

    def losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        logits = logits_of(model, batch)
        weights = None if self.weights is None else self.weights.to(logits.device)
        loss = F.cross_entropy(logits, batch.labels, weights, ignore_index=IGNORED, reduction="sum", label_smoothing=self.label_smoothing)
        return loss[None]


class LabelSets:
    """Binary cross-entropy over examples and their K labels, with optional smoothing: t = (1 - e) t + e / 2. NaN is no label."""

    names = ("loss",)

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def counts(self, batch: LabelledBatch) -> list[int]:
        return [int((~batch.labels.isnan()).sum())]

    def losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        logits = logits_of(model, batch)
        counted = ~batch.labels.isnan()
        targets = torch.where(counted, batch.labels, 0.0) * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (losses * counted).sum()[None]


class SquaredError:
    """(logit - number)^2, of one logit an example. NaN is no number."""

    names = ("loss",)

    def counts(self, batch: LabelledBatch) -> list[int]:
        return [int((~batch.labels.isnan()).sum())]

    def losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        logits = logits_of(model, batch)[:, 0]
        counted = ~batch.labels.isnan()
        return ((logits - torch.where(counted, batch.labels, 0.0)).square() * counted).sum()[None]


class Answering:
    """The mean of two cross-entropies over the tokens of a sequence: where the answer begins, and where it ends (Devlin et al. 2018).

    Padding has no share in the softmax, as there is none; transformers' own loss lets it have one.
    """

    names = ("loss",)

    def counts(self, batch: LabelledBatch) -> list[int]:
        return [int((batch.labels[:, 0] != IGNORED).sum())]

    def losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        return answer_loss(model(**batch.encoder_inputs()).float(), batch)[None]


def answer_loss(logits: Tensor, batch: LabelledBatch) -> Tensor:
    """The sum over sequences of (loss of the first token + loss of the last token) / 2: logits (T, 2), batch.labels (N, 2) -> ()."""
    lengths = batch.cu_seqlens.diff().long()
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=logits.device), lengths)
    table = logits.new_full((len(lengths), 2, batch.max_seqlen), float("-inf"))  # a row a sequence, twice
    table = table.index_put((sequence[:, None], torch.arange(2, device=logits.device), batch.position_ids[:, None]), logits)
    return F.cross_entropy(table.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum") / 2
