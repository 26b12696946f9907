"""Predictions files: one row an example, so that any two runs can be compared later with no model at hand.

Parquet with columns id, text_sha256, gold, predicted, probabilities (one number a class); the class names, in the order of
the probabilities, stand in the schema's metadata under `labels`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.disk import whole_file


def write_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    text_hashes: Sequence[str],
    gold: Sequence[int] | None,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> None:
    """Write n rows: class numbers `gold` (n,) or None where unknown, probabilities (n, K) over `names`."""
    predicted = probabilities.argmax(1)
    flat = pa.array(probabilities.astype(np.float32).ravel())
    columns = {
        "id": pa.array(list(ids), pa.string()),
        "text_sha256": pa.array(list(text_hashes), pa.string()),
        "gold": pa.array([names[number] for number in gold] if gold is not None else [None] * len(ids), pa.string()),
        "predicted": pa.array([names[number] for number in predicted], pa.string()),
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(names)),
    }
    table = pa.table(columns).replace_schema_metadata({"labels": json.dumps(list(names), ensure_ascii=False)})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)
