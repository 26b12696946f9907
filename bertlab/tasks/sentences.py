"""What the kinds of task that read a whole text, or a pair, from its [CLS] vector have in common: rows, encoding, logits."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.corpus.labelled import Labelled, read_labelled
from bertlab.tasks.contract import Columns
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.forward import in_order
from bertlab.training.processes import Precision


def read(path: str, columns: Columns, *, sets: bool = False) -> Labelled:
    return read_labelled(
        path, text=columns.text, text_b=columns.text_b, label=columns.label, sets=sets, separator=columns.separator if sets else None
    )


def encode(tokenizer: Tokenizer, rows: Labelled, labels: np.ndarray | None, *, max_length: int) -> Examples:
    return encode_examples(tokenizer, rows.texts, rows.texts_b, labels, max_length=max_length)


def logits_of(
    model: nn.Module,
    examples: Examples,
    width: int,
    finish: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    precision: Precision,
    what: str | None,
) -> np.ndarray:
    """finish(logits) of every example. Shape (n, width) float32."""

    def compute(batch: LabelledBatch) -> Tensor:
        return finish(model(**batch.encoder_inputs()).float())

    return in_order(model, examples, compute, width, device=device, precision=precision, what=what)


def joined(rows: Labelled) -> list[str]:
    """Texts for the baselines, which know no pairs: both texts end to end."""
    return rows.texts if rows.texts_b is None else [f"{a} {b}" for a, b in zip(rows.texts, rows.texts_b, strict=True)]
