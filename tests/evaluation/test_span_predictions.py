"""Predictions files of tags and of answers: what is written is what pyarrow reads back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.evaluation.span_predictions import write_answer_predictions, write_tagged_predictions

IDS, HASHES = ["a", "\u00fc"], ["0" * 64, "1" * 64]


@pytest.mark.parametrize("gold", [[["B-x", "O"], []], None])
def test_sentences_are_read_back_tag_by_tag(tmp_path: Path, gold: list[list[str]] | None) -> None:
    likely = [np.array([0.5, 0.75], dtype=np.float32), np.array([], dtype=np.float32)]
    predicted = [["B-x", "I-x"], []]
    path = tmp_path / "predictions.parquet"
    write_tagged_predictions(
        path, ids=IDS, text_hashes=HASHES, gold=gold, predicted=predicted, probabilities=likely, names=["O", "B-x", "I-x"]
    )
    table = pq.read_table(path)
    expected: dict[str, Any] = {
        "id": IDS,
        "text_sha256": HASHES,
        "gold": gold or [None, None],
        "predicted": predicted,
        "probabilities": [[0.5, 0.75], []],
    }
    assert table.to_pydict() == expected
    assert table.schema.field("gold").type == pa.list_(pa.string())
    assert table.schema.metadata[b"task"] == b"tokens" and json.loads(table.schema.metadata[b"labels"]) == ["O", "B-x", "I-x"]


@pytest.mark.parametrize("gold", [[["Oslo", "in Oslo"], []], None])
def test_questions_are_read_back_with_every_right_answer(tmp_path: Path, gold: list[list[str]] | None) -> None:
    path = tmp_path / "predictions.parquet"
    write_answer_predictions(
        path,
        ids=IDS,
        text_hashes=HASHES,
        contexts=HASHES[::-1],
        gold=gold,
        predicted=["Oslo", ""],
        probabilities=[0.25, 1.0],
        no_answer=[-3.5, 2.0],
    )
    table = pq.read_table(path)
    expected: dict[str, Any] = {
        "id": IDS,
        "text_sha256": HASHES,
        "context_sha256": HASHES[::-1],
        "gold": gold or [None, None],
        "predicted": ["Oslo", ""],
        "probability": [0.25, 1.0],
        "no_answer": [-3.5, 2.0],
    }
    assert table.to_pydict() == expected
    assert table.schema.metadata == {b"task": b"answers", b"labels": b"[]"}
