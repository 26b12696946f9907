"""What the kinds of task that read a whole text, or a pair, from its [CLS] vector have in common: rows, encoding, logits."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.batches.long_texts import encode_windows
from bertlab.corpus.labelled import Labelled
from bertlab.errors import ConfigError
from bertlab.tasks.contract import Long
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.forward import in_order
from bertlab.training.objectives import logits_of as of_batch
from bertlab.training.processes import Precision

LONGS: tuple[Long, ...] = ("head", "tail", "head+tail", "windows")


def ask(texts: Sequence[Any], texts_b: Sequence[Any] | None) -> Labelled:
    ids = [str(number) for number in range(len(texts))]
    return Labelled(ids, list(texts), None if texts_b is None else list(texts_b), None, "the texts")


def encode(tokenizer: Tokenizer, rows: Labelled, labels: np.ndarray | None, *, max_length: int, long: Long) -> Examples:
    """Raises ConfigError for windows over pairs."""
    if long != "windows":
        return encode_examples(tokenizer, rows.texts, rows.texts_b, labels, max_length=max_length, keep=long)
    if rows.texts_b is not None:
        raise ConfigError(f"long=windows: {rows.origin} has pairs, whose texts belong together: take head, tail or head+tail")
    return encode_windows(tokenizer, rows.texts, labels, max_length=max_length)


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
        return finish(of_batch(model, batch))

    return in_order(model, examples, compute, width, device=device, precision=precision, what=what)


def joined(rows: Labelled) -> list[str]:
    """Texts for the baselines, which know no pairs: both texts end to end."""
    return rows.texts if rows.texts_b is None else [f"{a} {b}" for a, b in zip(rows.texts, rows.texts_b, strict=True)]
