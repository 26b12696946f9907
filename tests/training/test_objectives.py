"""bertlab/training/objectives.py: sums and counts, whose ratio is the mean that torch's own cross-entropy gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from bertlab.batches.flat import LabelledBatch, PretrainingBatch, flat_fields
from bertlab.model import heads, vocabulary
from bertlab.model.heads import BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.training import loop
from bertlab.training.objectives import (
    IGNORED,
    Answering,
    Classification,
    LabelSets,
    Objective,
    Pretraining,
    SquaredError,
    pretraining_scores,
)

LABELS = (2, 0, IGNORED, 1, 2, IGNORED)
BF16 = 2**-8  # rounding to bf16 changes a number by at most this share of it


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


@pytest.mark.parametrize("words", [7, 200, 2**20])
@pytest.mark.parametrize(
    ("precision", "denominators", "tolerance"),
    [
        ("fp32", (31, 12), 2e-6),
        # a rounding more, of the exponentials (and one of the quotients), then all of the backward pass in bf16; measured: 0.011 and 0.018
        ("bf16", (32, 16), 8 * BF16),
        ("bf16", (31, 12), 8 * BF16),
    ],
)
def test_pretraining_has_the_gradients_of_cross_entropy(
    precision: str,
    denominators: tuple[int, int],
    tolerance: float,
    words: int,
    model: BertForPreTraining,
    uneven: list[PretrainingBatch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of every parameter, over a global batch of uneven parts; the norm of the difference against the norm."""
    assert torch.tensor([Pretraining().counts(batch) for batch in uneven]).sum(0).tolist() == [31, 12]

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        for batch in uneven:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                losses = Pretraining().losses(model, batch)
            (losses / torch.tensor(denominators)).sum().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    def plain(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(hidden, table).float() + bias, labels, reduction="sum")

    monkeypatch.setattr(vocabulary, "_LOGITS", 1)
    monkeypatch.setattr(vocabulary, "_FEWEST_WORDS", words)
    ours = gradients()
    monkeypatch.setattr(heads, "vocabulary_loss", plain)
    theirs = gradients()
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, gradient in theirs.items():
        if not name.endswith("key.bias"):  # a softmax does not see what all its scores share: no more than roundings
            assert gradient.norm() > 1e-2, name
            assert ((ours[name] - gradient).norm() / gradient.norm()).item() <= tolerance, name


WEIGHTS = [0.5, 2.0, 0.25]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_classes_have_torchs_weighted_mean_over_the_whole_step_however_it_is_cut(
    classifier: BertForSequenceClassification, labelled: LabelledBatch, accelerator: Accelerator, smoothing: float
) -> None:
    """The mean of micro-batches' own means would be another loss; so would one divided by the number of examples."""
    objective = Classification(smoothing, WEIGHTS)
    logits = classifier.eval()(**labelled.encoder_inputs())
    expected = F.cross_entropy(logits, labelled.labels, torch.tensor(WEIGHTS), label_smoothing=smoothing)
    wanted = torch.autograd.grad(expected, classifier.classifier.weight)[0]
    assert objective.counts(labelled) == [pytest.approx(sum(WEIGHTS[label] for label in LABELS if label != IGNORED))]
    for parts in ([labelled], one_by_one(labelled), [*one_by_one(labelled), labelled.as_filler()]):
        gradient, result = step_of(classifier, objective, parts, accelerator)
        assert result.losses["loss"] == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-7)


class Keep(torch.optim.Optimizer):
    """Keeps the gradient of the classifier's matrix, and changes no weight."""

    def __init__(self, model: BertForSequenceClassification) -> None:
        super().__init__(model.parameters(), {"lr": 1.0, "peak_lr": 1.0})
        self.matrix, self.kept = model.classifier.weight, list[Tensor]()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert self.matrix.grad is not None
        self.kept.append(self.matrix.grad)


def step_of(
    model: BertForSequenceClassification, objective: Objective[LabelledBatch], parts: list[LabelledBatch], accelerator: Accelerator
) -> tuple[Tensor, loop.StepResult]:
    keep, results = Keep(model), list[loop.StepResult]()
    plan = loop.Plan(steps=1, warmup_steps=1, seed=0, clip=1e9, precision="fp32")
    loop.train(model, [keep], objective, lambda step: parts, plan, accelerator, after_step=results.append)
    return keep.kept[0], results[0]


def one_by_one(batch: LabelledBatch) -> list[LabelledBatch]:
    bounds = batch.cu_seqlens.tolist()
    return [
        LabelledBatch(
            **flat_fields(batch.input_ids[start:end].numpy(), batch.token_type_ids[start:end].numpy(), np.array([end - start])),
            labels=batch.labels[place : place + 1],
            rows=batch.rows[place : place + 1],
        )
        for place, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True))
    ]


def with_targets(labelled: LabelledBatch, targets: Tensor) -> LabelledBatch:
    """The six texts with other labels; the second and the last have none."""
    filled = targets.clone()
    filled[[1, 5]] = float("nan")
    return replace(labelled, labels=filled)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_sets_is_binary_cross_entropy_over_examples_and_labels(
    classifier: BertForSequenceClassification, labelled: LabelledBatch, smoothing: float
) -> None:
    targets = torch.tensor([[1.0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]])
    batch, objective = with_targets(labelled, targets), LabelSets(smoothing)
    logits = classifier.eval()(**labelled.encoder_inputs())
    kept = torch.tensor([0, 2, 3, 4])
    smoothed = targets[kept] * (1 - smoothing) + smoothing / 2
    loss = objective.losses(classifier, batch)
    assert objective.counts(batch) == [12]  # of 4 examples, 3 labels each: transformers' BCEWithLogitsLoss is the mean over both
    torch.testing.assert_close(loss[0] / 12, torch.nn.BCEWithLogitsLoss()(logits[kept], smoothed))
    loss.backward()
    assert all(parameter.grad is None or bool(parameter.grad.isfinite().all()) for parameter in classifier.parameters())


def test_the_loss_of_numbers_is_squared_error_and_minus_100_is_a_number(model: BertForPreTraining, labelled: LabelledBatch) -> None:
    torch.manual_seed(5)
    regressor = BertForSequenceClassification(model.config, 1).eval()
    targets = torch.tensor([0.5, 7.0, float(IGNORED), 2.0, -1.0, 3.0])
    batch, objective = with_targets(labelled, targets), SquaredError()
    logits = regressor(**labelled.encoder_inputs())[:, 0]
    kept = torch.tensor([0, 2, 3, 4])
    loss = objective.losses(regressor, batch)
    assert objective.counts(batch) == [4]
    torch.testing.assert_close(loss[0] / 4, torch.nn.MSELoss()(logits[kept], targets[kept]))
    loss.backward()
    assert all(parameter.grad is None or bool(parameter.grad.isfinite().all()) for parameter in regressor.parameters())


@pytest.mark.parametrize(
    ("objective", "labels"), [(Classification(), [0, 1]), (LabelSets(), [[0.0, 1.0]] * 2), (SquaredError(), [0.5, -3.0])]
)
def test_a_batch_without_labels_counts_for_nothing(objective: Objective[LabelledBatch], labels: Any, labelled: LabelledBatch) -> None:
    filler = replace(labelled, labels=torch.tensor(labels)).as_filler()
    assert objective.counts(filler) == [0] and filler.labels.dtype == torch.tensor(labels).dtype


def test_classes_of_tokens_are_summed_over_labelled_tokens_alone(model: BertForPreTraining, labelled: LabelledBatch) -> None:
    torch.manual_seed(5)
    tagger = BertForTokenClassification(model.config, 3).eval()
    labels = torch.where(torch.arange(labelled.num_tokens) % 3 == 0, torch.arange(labelled.num_tokens) % 2, IGNORED)
    batch = replace(labelled, labels=labels)
    assert Classification().counts(batch) == [int((labels != IGNORED).sum())]
    log_p = tagger(**batch.encoder_inputs()).log_softmax(-1)
    expected = -sum(float(log_p[place, label].detach()) for place, label in enumerate(labels.tolist()) if label != IGNORED)
    assert float(Classification().losses(tagger, batch).detach()) == pytest.approx(expected, rel=1e-5)


def test_an_answer_is_looked_for_among_the_tokens_of_its_own_sequence(model: BertForPreTraining, labelled: LabelledBatch) -> None:
    torch.manual_seed(5)
    reader = BertForQuestionAnswering(model.config).eval()
    answers = [(1, 3), (IGNORED, IGNORED), (0, 0), (2, 6), (4, 4), (IGNORED, IGNORED)]
    batch = replace(labelled, labels=torch.tensor(answers))
    objective = Answering()
    assert objective.names == ("loss",) and objective.counts(batch) == [4]
    expected = 0.0
    with torch.no_grad():
        logits = reader(**batch.encoder_inputs())
        for start, end, answer in zip(batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist(), answers, strict=True):
            for column, place in enumerate(answer):
                expected -= float(logits[start:end, column].log_softmax(0)[place]) / 2 if place != IGNORED else 0
        assert objective.losses(reader, batch).tolist() == pytest.approx([expected], rel=1e-5)
        part = replace(batch, labels=torch.cat([batch.labels[:2], torch.full_like(batch.labels[2:], IGNORED)]))
        assert 0 < float(objective.losses(reader, part)) < expected
