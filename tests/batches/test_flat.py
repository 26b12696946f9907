"""The flat batch: its five fields, its copies on another device, and how sequences are cut into runs under a budget."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.batches.flat import IGNORED, FlatBatch, LabelledBatch, PretrainingBatch, fill_budget, flat_fields

IDS, SEGMENTS, LENGTHS = np.arange(10, 16, dtype=np.uint16), np.array([0, 0, 1, 0, 0, 1], dtype=np.int8), np.array([3, 1, 2])


def test_the_five_fields_are_those_worked_out_by_hand() -> None:
    batch = FlatBatch(**flat_fields(IDS, SEGMENTS, LENGTHS))
    assert batch.input_ids.tolist() == [10, 11, 12, 13, 14, 15]
    assert batch.token_type_ids.tolist() == [0, 0, 1, 0, 0, 1]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert batch.max_seqlen == 3 and batch.num_tokens == 6 and batch.num_sequences == 3
    for tensor in (batch.input_ids, batch.token_type_ids, batch.position_ids):
        assert tensor.dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32  # what the kernels take


def test_the_encoder_gets_the_common_fields_alone() -> None:
    common = flat_fields(IDS, SEGMENTS, LENGTHS)
    batch = LabelledBatch(**common, labels=torch.tensor([0, 1, 0]), rows=torch.tensor([7, 8, 9]))
    assert set(batch.encoder_inputs()) == {"input_ids", "token_type_ids", "position_ids", "cu_seqlens", "max_seqlen"}
    assert all(batch.encoder_inputs()[name] is common[name] for name in common)


def test_filler_of_masked_places_lies_in_many_sequences() -> None:
    lengths = np.full(40, 10)
    batch = PretrainingBatch(
        **flat_fields(np.arange(400, dtype=np.uint16), np.zeros(400, dtype=np.int8), lengths),
        mlm_positions=torch.tensor([7]),
        mlm_labels=torch.tensor([7]),
        nsp_labels=torch.zeros(40, dtype=torch.int64),
    ).topped_up(420)
    assert batch.mlm_labels.tolist() == [7] + [IGNORED] * 63
    filler = batch.mlm_positions[1:]
    assert filler.min() == 0 and filler.max() < 400  # places of real tokens
    assert torch.bincount(filler // 10).max() <= 2  # or one sequence would have as many queries as all others together


def test_a_batch_moves_with_all_its_tensors_and_leaves_the_first_as_it_was() -> None:
    batch = PretrainingBatch(
        **flat_fields(IDS, SEGMENTS, LENGTHS),
        mlm_positions=torch.tensor([1]),
        mlm_labels=torch.tensor([11]),
        nsp_labels=torch.tensor([0, 1, 0]),
    )
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, PretrainingBatch) and moved.max_seqlen == 3
    names = [field.name for field in fields(batch) if isinstance(getattr(batch, field.name), torch.Tensor)]
    assert len(names) == 7
    for name in names:
        assert getattr(moved, name).device.type == "meta" and getattr(moved, name).shape == getattr(batch, name).shape
        assert getattr(batch, name).device.type == "cpu"


def test_runs_are_as_full_as_the_budget_allows_and_a_longer_sequence_stands_alone() -> None:
    assert fill_budget(np.array([3, 3, 3, 3]), 6).tolist() == [0, 2, 4]
    assert fill_budget(np.array([3, 4, 3, 9, 1, 1]), 6).tolist() == [0, 1, 2, 3, 4, 6]
    assert fill_budget(np.array([5]), 1).tolist() == [0, 1]
    assert fill_budget(np.array([], dtype=np.int64), 6).tolist() == [0]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 90))
@settings(max_examples=100, deadline=None)
def test_runs_hold_every_sequence_once_and_no_run_could_take_the_next_one(lengths: list[int], budget: int) -> None:
    bounds = fill_budget(np.array(lengths, dtype=np.int64), budget).tolist()
    expected = [0]
    while expected[-1] < len(lengths):  # one by one, as a person would
        end = expected[-1] + 1
        while end < len(lengths) and sum(lengths[expected[-1] : end + 1]) <= budget:
            end += 1
        expected.append(end)
    assert bounds == expected


def test_a_pinned_batch_has_every_tensor_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 100)  # real pinning needs a GPU
    batch = LabelledBatch(**flat_fields(IDS, SEGMENTS, LENGTHS), labels=torch.tensor([0, 1, 0]), rows=torch.tensor([7, 8, 9]))
    pinned = batch.pin_memory()
    for field in fields(batch):
        before, after = getattr(batch, field.name), getattr(pinned, field.name)
        assert torch.equal(after, before + 100) if isinstance(before, torch.Tensor) else after == before
