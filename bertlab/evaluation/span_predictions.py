"""Predictions files of tags and of answers: one row a sentence or a question, beside those of classes (predictions.py).

Parquet with the columns id and text_sha256 that all such files have, gold and predicted; `task` in the schema's metadata is "tokens" or
"answers". What `bertlab compare` needs is in them: entities and matches follow from gold and predicted.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertlab.evaluation.predictions import write_rows


def write_tagged_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    text_hashes: Sequence[str],
    gold: Sequence[Sequence[str]] | None,
    predicted: Sequence[Sequence[str]],
    probabilities: Sequence[np.ndarray],
    names: Sequence[str],
) -> None:
    """Write n sentences: their tags `gold` and `predicted`, and how likely the model holds each predicted tag, in lists."""
    columns = {
        "gold": pa.array(gold if gold is not None else [None] * len(ids), pa.list_(pa.string())),
        "predicted": pa.array(predicted, pa.list_(pa.string())),
        "probabilities": pa.array([each.tolist() for each in probabilities], pa.list_(pa.float32())),
    }
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task="tokens", names=names)


def write_answer_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    text_hashes: Sequence[str],
    contexts: Sequence[str],
    gold: Sequence[Sequence[str]] | None,
    predicted: Sequence[str],
    probabilities: Sequence[float],
    no_answer: Sequence[float],
) -> None:
    """Write n questions: the texts that would be right in `gold` (none: no answer is right), the text `predicted` ("": no answer), how
    likely the model holds it among its best, how far it puts no answer above the best one, and the hash of the context, for clusters."""
    columns = {
        "context_sha256": pa.array(list(contexts), pa.string()),
        "gold": pa.array(gold if gold is not None else [None] * len(ids), pa.list_(pa.string())),
        "predicted": pa.array(list(predicted), pa.string()),
        "probability": pa.array(list(probabilities), pa.float32()),
        "no_answer": pa.array(list(no_answer), pa.float32()),
    }
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task="answers", names=[])
