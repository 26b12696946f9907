"""Predictions files: one row an example, so that any two runs can be compared later with no model at hand.

Parquet with columns id, text_sha256, gold, predicted and, where there are any, probabilities (one number a class, as the model gives them)
and calibrated (the same at the temperature that dev taught, where it taught one). The schema's metadata
say the kind of task under `task`, and under `labels` the class names in the order of the probabilities. gold and predicted are text for
one label, lists of text for sets of labels, and numbers for regression.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.disk import whole_file

UNSEEN = "no_known_tokens"  # the last column of rows of answers: whether the model saw nothing of the text
# what rows of answers have, of any kind of task and in any file: no column of the input stands beside them under such a name
OURS = (
    *("id", "text", "text_b", "text_sha256", "gold", "predicted", "probability", "probabilities", "calibrated", UNSEEN),
    *("label", "labels", "value", "entities", "tags", "answer", "no_answer", "start", "context_sha256"),
)
OF_ENTITY = ("type", "entity", "start", "end", "probability")  # what a row of CSV has of tags: an entity is one


def write_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    text_hashes: Sequence[str],
    gold: Sequence[int] | None,
    predicted: np.ndarray | None = None,
    probabilities: np.ndarray,
    calibrated: np.ndarray | None = None,
    names: Sequence[str],
) -> None:
    """Write n rows: class numbers `gold` (n,) or None where unknown, `predicted` (n,) or None for the likeliest, probabilities and
    calibrated ones (n, K) over `names`."""
    predicted = probabilities.argmax(1) if predicted is None else predicted
    columns = {
        "gold": pa.array([names[number] for number in gold] if gold is not None else [None] * len(ids), pa.string()),
        "predicted": pa.array([names[number] for number in predicted], pa.string()),
        **_both(probabilities, calibrated),
    }
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task="single-label", names=names)


def write_set_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    text_hashes: Sequence[str],
    gold: np.ndarray | None,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    calibrated: np.ndarray | None = None,
    names: Sequence[str],
) -> None:
    """Write n rows of sets of labels: truth values `gold` (or None) and `predicted`, probabilities as above, all (n, K) over `names`."""

    def named(sets: np.ndarray) -> list[list[str]]:
        return [[names[number] for number in np.flatnonzero(each).tolist()] for each in sets]

    columns = {
        "gold": pa.array([None] * len(ids) if gold is None else named(gold), pa.list_(pa.string())),
        "predicted": pa.array(named(predicted), pa.list_(pa.string())),
        **_both(probabilities, calibrated),
    }
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task="multi-label", names=names)


def write_number_predictions(
    path: Path, *, ids: Sequence[str], text_hashes: Sequence[str], gold: np.ndarray | None, predicted: np.ndarray, task: str = "regression"
) -> None:
    """Write n rows of numbers: `gold` (n,), or None where unknown, and `predicted` (n,); of cosines beside scores `task` is similarity."""
    columns = {"gold": pa.array([None] * len(ids) if gold is None else gold, pa.float64()), "predicted": pa.array(predicted, pa.float64())}
    write_rows(path, ids=ids, text_hashes=text_hashes, columns=columns, task=task, names=[])


def _both(probabilities: np.ndarray, calibrated: np.ndarray | None) -> dict[str, pa.Array]:
    of_model = {"probabilities": _probabilities(probabilities)}
    return of_model if calibrated is None else of_model | {"calibrated": _probabilities(calibrated)}


def _probabilities(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])


def write_rows(
    path: Path, *, ids: Sequence[str], text_hashes: Sequence[str], columns: dict[str, Any], task: str, names: Sequence[str]
) -> None:
    """Write n rows with further `columns`, among them gold and predicted, whole or not at all."""
    known = {"id": pa.array(list(ids), pa.string()), "text_sha256": pa.array(list(text_hashes), pa.string())}
    table = pa.table(known | columns)
    table = table.replace_schema_metadata({"task": task, "labels": json.dumps(list(names), ensure_ascii=False)})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)
