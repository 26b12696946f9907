"""Predictions files: what is written is what is read back, by pyarrow alone, and the class predicted is the likeliest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.evaluation.predictions import write_number_predictions, write_predictions, write_set_predictions

NAMES = ["no", "yes, \u00e9\u4e2d", "\u2028 odd\n"]
IDS = ["a.csv:2", "7", "\u00fc"]
HASHES = [f"{number:064x}" for number in range(3)]
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]], dtype=np.float32)


def write(path: Path, gold: list[int] | None) -> pa.Table:
    write_predictions(path, ids=IDS, text_hashes=HASHES, gold=gold, probabilities=PROBABILITIES, names=NAMES)
    return pq.read_table(path)


def test_what_is_written_is_read_back_in_the_same_order(tmp_path: Path) -> None:
    table = write(tmp_path / "out" / "predictions.parquet", [1, 2, 0])
    assert table.column_names == ["id", "text_sha256", "gold", "predicted", "probabilities"]
    assert table["id"].to_pylist() == IDS and table["text_sha256"].to_pylist() == HASHES
    assert table["gold"].to_pylist() == [NAMES[1], NAMES[2], NAMES[0]]
    assert np.array(table["probabilities"].to_pylist(), dtype=np.float32).tolist() == PROBABILITIES.tolist()
    assert table.schema.field("probabilities").type == pa.list_(pa.float32(), 3)
    assert json.loads(table.schema.metadata[b"labels"]) == NAMES
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.parquet"]


def test_the_class_predicted_is_the_likeliest(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.parquet", [0, 0, 0])
    assert table["predicted"].to_pylist() == [NAMES[1], NAMES[0], NAMES[2]]
    likeliest = [NAMES[int(np.argmax(row))] for row in table["probabilities"].to_pylist()]
    assert table["predicted"].to_pylist() == likeliest


def test_gold_that_is_not_known_is_null(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.parquet", None)
    assert table["gold"].to_pylist() == [None] * 3 and table.schema.field("gold").type == pa.string()


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.parquet"
    write(path, [1, 2, 0])
    before = path.read_bytes()

    def fails(table: pa.Table, where: Path) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(pq, "write_table", fails)
    with pytest.raises(OSError, match="the disk is full"):
        write_predictions(path, ids=IDS, text_hashes=HASHES, gold=None, probabilities=PROBABILITIES, names=NAMES)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_sets_of_labels_are_lists_of_names_and_numbers_are_numbers(tmp_path: Path) -> None:
    gold, predicted = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool), np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]], bool)
    common: dict[str, Any] = {"ids": IDS, "text_hashes": HASHES}
    write_set_predictions(tmp_path / "s.parquet", gold=gold, predicted=predicted, probabilities=PROBABILITIES, names=NAMES, **common)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["gold"].to_pylist() == [NAMES[:2], [], NAMES[2:]] and table["predicted"].to_pylist() == [[NAMES[1]], NAMES[::2], []]
    assert json.loads(table.schema.metadata[b"labels"]) == NAMES and table.schema.metadata[b"task"] == b"multi-label"
    values = np.array([0.1, -2.5, 1e300])
    write_number_predictions(tmp_path / "n.parquet", gold=None, predicted=values, **common)
    table = pq.read_table(tmp_path / "n.parquet")
    assert table["predicted"].to_pylist() == values.tolist() and table["gold"].to_pylist() == [None] * 3
    assert table.column_names == ["id", "text_sha256", "gold", "predicted"] and table.schema.metadata[b"task"] == b"regression"
