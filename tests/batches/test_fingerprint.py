"""bertlab/batches/fingerprint.py: one number for what a step trains on, whoever trains on it and in whatever shapes."""

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bertlab.batches.fingerprint import LANES, fingerprint, lanes, step_fingerprint
from bertlab.batches.flat import LabelledBatch, PretrainingBatch, flat_fields
from bertlab.batches.masking import Masking
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.tokens.shards import Documents


@pytest.fixture
def micro_batches(make_documents: Callable[..., Documents]) -> list[PretrainingBatch]:
    masking = Masking(4, np.arange(4000) < 10)
    documents = make_documents([[9, 12, 7], [5, 8], [11, 6, 4, 10], [7, 7]] * 6)
    batches = PretrainingBatches(documents, masking, cls_id=2, sep_id=3, seed=1, max_length=32, micro_tokens=128)
    return [batches.micro(number) for number in range(4)]


def test_it_is_what_can_be_worked_out_by_hand() -> None:
    """One sequence of the ids 2 7 3, 9 hidden at its third place: numbers take 4 bytes, each array follows its length in 8."""
    batch = PretrainingBatch(
        **flat_fields(np.array([2, 7, 3]), np.array([0, 0, 1]), np.array([3])),
        mlm_positions=torch.tensor([2]),
        mlm_labels=torch.tensor([9]),
        nsp_labels=torch.tensor([1]),
    )

    def text(*numbers: int) -> bytes:
        return len(numbers).to_bytes(8, "little") + b"".join(number.to_bytes(4, "little") for number in numbers)

    content = text(2, 7, 3) + text(0, 0, 1) + text(0, 1, 2) + text(3) + text(1) + text(2) + text(9)
    digest = hashlib.sha256((5).to_bytes(8, "little") + content).digest()
    assert lanes(batch, 5) == [int.from_bytes(digest[4 * lane : 4 * lane + 4], "little") for lane in range(LANES)]
    assert fingerprint([2**32 + 1, 16, 0, 2**40 - 1]) == "000000010000001000000000ffffffff"


def test_it_does_not_depend_on_how_many_processes_share_a_step(micro_batches: list[PretrainingBatch]) -> None:
    whole = step_fingerprint(micro_batches)
    for ranks in (1, 2, 4):
        totals = torch.zeros(LANES, dtype=torch.float64)
        for rank in reversed(range(ranks)):
            mine = micro_batches[rank::ranks]
            rows = [lanes(batch, number * ranks + rank) for number, batch in enumerate(mine)]
            totals += torch.tensor(rows, dtype=torch.float64).sum(0)
        assert fingerprint(totals.tolist()) == whole


def test_sums_of_very_many_micro_batches_are_exact_in_float64() -> None:
    total = torch.full((LANES,), float((2**32 - 1) * (2**21 - 1)), dtype=torch.float64) + 2**32 - 1
    assert fingerprint(total.tolist()) == f"{(2**32 - 1) * 2**21 % 2**32:08x}" * LANES


def test_filler_does_not_count(micro_batches: list[PretrainingBatch]) -> None:
    topped = [batch.topped_up(128) for batch in micro_batches]
    assert any(batch.filler_tokens for batch in topped) and all(batch.filler_sequences for batch in topped)
    assert step_fingerprint(topped) == step_fingerprint(micro_batches)


def test_every_number_that_the_model_or_the_loss_sees_counts(micro_batches: list[PretrainingBatch]) -> None:
    batch = micro_batches[0]
    seen = {tuple(lanes(batch, 0)), tuple(lanes(batch, 1))}
    changes = 0
    for field in fields(PretrainingBatch):
        value = getattr(batch, field.name)
        if not isinstance(value, Tensor):
            continue
        for place in (0, len(value) // 2, len(value) - 1):
            changed = value.clone()
            changed[place] += 1
            change: dict[str, Any] = {field.name: changed}
            seen.add(tuple(lanes(replace(batch, **change), 0)))
            changes += 1
    # the bounds of sequences count by their lengths: nothing else would notice that all begin one place later
    assert len(seen) == 2 + changes == 2 + 3 * 7


def test_order_and_number_of_micro_batches_count(micro_batches: list[PretrainingBatch]) -> None:
    first, second, *rest = micro_batches
    whole = step_fingerprint(micro_batches)
    assert whole not in {step_fingerprint([second, first, *rest]), step_fingerprint([first, *rest]), step_fingerprint([first] * 4)}
    assert step_fingerprint([first, first]) != step_fingerprint([second, second])


def test_labelled_batches_have_one_too() -> None:
    common = flat_fields(np.array([2, 7, 3]), np.array([0, 0, 0]), np.array([3]))
    one, other = (LabelledBatch(**common, labels=torch.tensor([label]), rows=torch.tensor([0])) for label in (0, 1))
    assert lanes(one, 0) != lanes(other, 0)


def test_numbers_as_labels_are_told_apart_beyond_their_whole_part() -> None:
    fields: dict[str, Any] = flat_fields(np.arange(4), np.zeros(4), np.array([4]))
    batches = [LabelledBatch(**fields, labels=torch.tensor([label]), rows=torch.tensor([0])) for label in (0.25, 0.5)]
    assert lanes(batches[0], 0) != lanes(batches[1], 0)
