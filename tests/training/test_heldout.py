"""bertlab/training/heldout.py: the measure is what one computes by hand, whatever the cut (in two processes: test_processes.py)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from bertlab.batches.flat import PretrainingBatch
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens.shards import Documents, ShardWriter
from bertlab.tokens.tokenizer import train
from bertlab.training.heldout import heldout_batches, likeliest, measure_heldout

MakeModel = Callable[..., BertForPreTraining]


def split(folder: Path, documents: Sequence[Sequence[int]], ids: Sequence[int]) -> Documents:
    """Documents of sentences of so many tokens, which are `ids` over and over."""
    writer = ShardWriter(folder, np.dtype(np.uint16))
    for number, lengths in enumerate(documents):
        writer.add(str(number), "made up", f"{number:064x}", np.resize(ids, sum(lengths)), np.array(lengths))
    writer.close()
    return Documents(folder)


def test_what_is_held_out_is_the_same_each_time_and_what_knowing_nothing_scores_is_worked_out_by_hand(tmp_path: Path) -> None:
    tokenizer = train(["the old river runs to the sea"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)
    one, other = (int(tokenizer.encode([word])[0][0]) for word in ("river", "sea"))
    heldout = split(tmp_path / "heldout", [[9] * 12] * 40, [one])
    corpus: Any = SimpleNamespace(
        heldout=heldout, train=split(tmp_path / "train", [[8, 8]] * 2, [one, one, one, other]), tokenizer=tokenizer
    )
    batches, facts = heldout_batches(corpus, 32, 128, 5)
    assert len(batches) == 5 and sum(batch.num_tokens for batch in batches) > 4 * 96
    again, _ = heldout_batches(corpus, 32, 128, 5)
    for left, right in zip(batches, again, strict=True):
        assert torch.equal(left.input_ids, right.input_ids) and torch.equal(left.mlm_positions, right.mlm_positions)
    assert all((batch.mlm_labels == one).all() for batch in batches)  # of 32 tokens in train 24 are this one, and each counts once more
    assert facts["unigram_loss"] == pytest.approx(-math.log(25 / (32 + tokenizer.vocab_size)))
    shares = []
    for most in range(1, 20):
        batches, facts = heldout_batches(corpus, 32, 128, most)
        shares.append(float(torch.cat([batch.nsp_labels for batch in batches]).double().mean()))
        assert facts["nsp_majority"] == pytest.approx(max(shares[-1], 1 - shares[-1]))
    assert min(shares) < 0.5 < max(shares)


def test_one_document_or_none_held_out_leaves_nothing_to_measure_on(tmp_path: Path) -> None:
    for heldout in (None, split(tmp_path / "heldout", [[9] * 12], [7])):
        corpus: Any = SimpleNamespace(heldout=heldout)
        assert heldout_batches(corpus, 32, 128, 5) == ([], {})


def test_it_equals_the_computation_by_hand(make_model: MakeModel, uneven: list[PretrainingBatch], accelerator: Accelerator) -> None:
    model = make_model().eval()
    parts: dict[str, list[np.ndarray]] = {"mlm": [], "mlm_labels": [], "nsp": [], "nsp_labels": []}
    for batch in uneven:
        with torch.no_grad():
            mlm, nsp = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
        for name, value in zip(parts, (mlm, batch.mlm_labels, nsp, batch.nsp_labels), strict=True):
            parts[name].append(value.numpy())
    logits = {name: np.concatenate(values) for name, values in parts.items()}

    def loss(name: str) -> float:
        scores = logits[name].astype(np.float64)
        chosen = scores[np.arange(len(scores)), logits[f"{name}_labels"]]
        return float((np.log(np.exp(scores).sum(1)) - chosen).mean())

    assert measure_heldout(model, uneven, accelerator, "fp32") == pytest.approx(
        {
            "mlm_loss": loss("mlm"),
            "masked_accuracy": (logits["mlm"].argmax(1) == logits["mlm_labels"]).mean(),
            "nsp_loss": loss("nsp"),
            "nsp_accuracy": (logits["nsp"].argmax(1) == logits["nsp_labels"]).mean(),
            "masked_tokens": sum(len(batch.mlm_labels) for batch in uneven),
            "pairs": 12,
        },
        rel=1e-6,
    )


def test_the_cut_into_batches_does_not_matter(
    make_model: MakeModel, uneven: list[PretrainingBatch], join: Callable[..., PretrainingBatch], accelerator: Accelerator
) -> None:
    model = make_model()
    whole = measure_heldout(model, [join(uneven)], accelerator, "fp32")
    for cut in (uneven, uneven[::-1], [join(uneven[:3]), uneven[3]]):
        assert measure_heldout(model, cut, accelerator, "fp32") == pytest.approx(whole, rel=1e-6)


def test_there_is_no_dropout_and_the_model_is_left_as_it_was(
    make_model: MakeModel, uneven: list[PretrainingBatch], accelerator: Accelerator
) -> None:
    expected = measure_heldout(make_model(), uneven, accelerator, "fp32")
    model = make_model(dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        assert measure_heldout(model, uneven, accelerator, "fp32") == expected
        assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_is_the_same_again_and_in_bf16_nearly(make_model: MakeModel, uneven: list[PretrainingBatch], accelerator: Accelerator) -> None:
    model = make_model()
    full = measure_heldout(model, uneven, accelerator, "fp32")
    torch.manual_seed(123)
    assert measure_heldout(model, uneven, accelerator, "fp32") == full
    low = measure_heldout(model, uneven, accelerator, "bf16")
    assert low["mlm_loss"] == pytest.approx(full["mlm_loss"], rel=0.02)
    assert low["mlm_loss"] != full["mlm_loss"]


def test_the_likeliest_token_at_each_masked_place_is_that_of_the_logits(
    make_model: MakeModel, uneven: list[PretrainingBatch], accelerator: Accelerator
) -> None:
    model = make_model(dropout=0.5).train()
    with torch.no_grad():
        logits, _ = model.eval()(mlm_positions=uneven[0].mlm_positions, **uneven[0].encoder_inputs())
    shares = logits.double().softmax(-1)
    model.train()
    found = likeliest(model, uneven[0], accelerator, "fp32")
    assert [token for token, _ in found] == logits.argmax(-1).tolist() and model.training
    assert [share for _, share in found] == pytest.approx(shares.max(-1).values.tolist(), abs=1e-4)
