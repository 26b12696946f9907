"""bertlab/training/objectives.py: sums and counts, whose ratio is the mean that torch's own cross-entropy gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bertlab.batches.flat import LabelledBatch, PretrainingBatch, flat_fields
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.training.objectives import IGNORED, Classification, Pretraining, pretraining_scores

LABELS = (2, 0, IGNORED, 1, 2, IGNORED)


@pytest.fixture
def model(make_model: Callable[..., BertForPreTraining]) -> BertForPreTraining:
    return make_model()


@pytest.fixture
def classifier(model: BertForPreTraining) -> BertForSequenceClassification:
    torch.manual_seed(5)
    return BertForSequenceClassification(model.config, 3)


@pytest.fixture
def labelled() -> LabelledBatch:
    """Six texts, two of them filler."""
    lengths = np.array([4, 9, 3, 7, 5, 6])
    ids = np.random.default_rng(0).integers(5, 50, size=lengths.sum())
    fields: dict[str, Any] = flat_fields(ids, np.zeros(len(ids)), lengths)
    return LabelledBatch(**fields, labels=torch.tensor(LABELS), rows=torch.arange(6))


def test_pretraining_gives_sums_and_counts_of_masked_tokens_and_pairs(model: BertForPreTraining, uneven: list[PretrainingBatch]) -> None:
    objective = Pretraining()
    assert objective.names == ("mlm_loss", "nsp_loss")
    for batch in uneven:
        counts, sums = objective.counts(batch), objective.losses(model, batch)
        assert counts == [len(batch.mlm_positions), batch.num_sequences]
        mlm_logits, nsp_logits = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
        expected = torch.stack([F.cross_entropy(mlm_logits, batch.mlm_labels), F.cross_entropy(nsp_logits, batch.nsp_labels)])
        torch.testing.assert_close(sums / torch.tensor(counts), expected)


def test_the_masked_place_is_asked_for_its_own_label(model: BertForPreTraining, uneven: list[PretrainingBatch]) -> None:
    """Swapping two labels, or pointing at another place, changes the sum; the order of the masked places does not."""
    batch, objective = uneven[2], Pretraining()
    loss = float(objective.losses(model, batch)[0].detach())
    order = torch.arange(len(batch.mlm_labels)).flip(0)
    assert len(order) > 3
    turned = replace(batch, mlm_positions=batch.mlm_positions[order], mlm_labels=batch.mlm_labels[order])
    assert float(objective.losses(model, turned)[0].detach()) == pytest.approx(loss, rel=1e-5)
    for changed in (replace(batch, mlm_labels=batch.mlm_labels[order]), replace(batch, mlm_positions=batch.mlm_positions[order])):
        assert float(objective.losses(model, changed)[0].detach()) != pytest.approx(loss, rel=1e-3)


def test_scores_are_losses_hits_and_counts(model: BertForPreTraining, uneven: list[PretrainingBatch]) -> None:
    batch = uneven[0]
    with torch.no_grad():
        mlm_logits, nsp_logits = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
        # labels that are half the model's own answers, so that hits are neither none nor all
        labels = torch.where(torch.arange(len(mlm_logits)) % 2 == 0, mlm_logits.argmax(-1), batch.mlm_labels)
        batch = replace(batch, mlm_labels=labels)
        scores = pretraining_scores(model, batch)
    assert scores.dtype == torch.float64
    log_p, nsp_log_p = mlm_logits.log_softmax(-1), nsp_logits.log_softmax(-1)
    expected = [
        -sum(float(log_p[row, label]) for row, label in enumerate(labels.tolist())),
        sum(int(log_p[row].argmax()) == label for row, label in enumerate(labels.tolist())),
        len(labels),
        -sum(float(nsp_log_p[row, label]) for row, label in enumerate(batch.nsp_labels.tolist())),
        sum(int(nsp_log_p[row].argmax()) == label for row, label in enumerate(batch.nsp_labels.tolist())),
        batch.num_sequences,
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert 0 < expected[1] < len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_filler_is_in_no_loss_and_no_count(classifier: BertForSequenceClassification, labelled: LabelledBatch, smoothing: float) -> None:
    objective = Classification(smoothing)
    assert objective.names == ("loss",)
    assert objective.counts(labelled) == [4]
    loss = objective.losses(classifier.eval(), labelled)
    assert loss.shape == (1,)
    log_p = classifier(**labelled.encoder_inputs()).log_softmax(-1)
    expected = 0.0
    for row, label in enumerate(LABELS):
        if label != IGNORED:
            target = torch.full((3,), smoothing / 3)
            target[label] += 1 - smoothing
            expected -= float((target * log_p[row]).sum().detach())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_losses_are_fp32_under_bf16_autocast(
    model: BertForPreTraining, classifier: BertForSequenceClassification, uneven: list[PretrainingBatch], labelled: LabelledBatch
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = Pretraining().losses(model, uneven[0])
        assert Classification().losses(classifier, labelled).dtype == torch.float32
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, Pretraining().losses(model, uneven[0]), rtol=0.05, atol=0.05)
