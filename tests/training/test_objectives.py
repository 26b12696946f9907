"""bertlab/training/objectives.py: sums and counts, whose ratio is the mean that torch's own cross-entropy gives."""

import math
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
from bertlab.model.heads import BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.training import loop, objectives
from bertlab.training.objectives import (
    IGNORED,
    Answering,
    Classification,
    LabelSets,
    Objective,
    Pretraining,
    SquaredError,
    pretraining_scores,
    vocabulary_loss,
)

LABELS = (2, 0, IGNORED, 1, 2, IGNORED)
BF16 = 2**-8  # rounding to bf16 changes a number by at most this share of it

# logits that are in cache at a time, for 10 rows of 97: rows of one (none would fit; one fits), of 3, 3, 3 and 1, of 9 and 1, all at once
IN_CACHE = [1, 97, 300, 9 * 97, 2**20]


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


def logits_and_labels(rows: int = 10, vocabulary: int = 97, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits and labels, the first and the last id among them; every third answer is nearly certain, every third nearly excluded."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(vocabulary, (rows,), generator=generator)
    labels[0], labels[-1] = 0, vocabulary - 1
    logits = torch.randn(rows, vocabulary, generator=generator).mul_(4)
    for row, label in enumerate(labels.tolist()):
        logits[row, label] += (20, -20, 0)[row % 3]
    return logits.to(dtype), labels


def with_gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor, upstream: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss of a copy of `logits`, and what it makes of `upstream`."""
    own = logits.clone().requires_grad_() * 1  # not a leaf, as a model's logits are not
    value = loss(own, labels)
    return value.detach(), torch.autograd.grad(value, own, torch.full_like(value, upstream))[0]


def plain(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("upstream", [1.0, -0.37, 1 / 4096])
@pytest.mark.parametrize("in_cache", IN_CACHE)
def test_the_vocabulary_loss_and_its_gradient_are_those_of_cross_entropy(
    in_cache: int, upstream: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
    logits, labels = logits_and_labels()
    value, gradient = with_gradient(vocabulary_loss, logits, labels, upstream)
    assert value.shape == () and value.dtype == gradient.dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        wanted, wanted_gradient = with_gradient(plain, logits.to(dtype), labels, upstream)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        torch.testing.assert_close(gradient.to(dtype), wanted_gradient, atol=1e-6 * abs(upstream), rtol=1e-5)


def test_a_word_whose_probability_is_0_in_fp32_has_its_loss_all_the_same() -> None:
    logits, labels = torch.zeros(2, 97), torch.tensor([5, 6])
    logits[0, 4], logits[1, 4] = 300.0, -300.0
    value, gradient = with_gradient(vocabulary_loss, logits, labels)
    assert torch.softmax(logits, 1)[0, 5] == 0
    assert value.item() == pytest.approx(300 + math.log(96), rel=1e-6)
    torch.testing.assert_close(gradient, with_gradient(plain, logits, labels)[1])


def test_a_row_may_be_larger_than_the_cache() -> None:
    logits, labels = logits_and_labels(3, 2**20 + 5)
    value, gradient = with_gradient(vocabulary_loss, logits, labels)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-3)):  # fp32 loses as much in the sum of a million exponentials
        wanted, wanted_gradient = with_gradient(plain, logits.to(dtype), labels)
        assert value.item() == pytest.approx(wanted.item(), rel=tolerance)
        torch.testing.assert_close(gradient.to(dtype), wanted_gradient, atol=1e-9, rtol=tolerance)


@pytest.mark.parametrize("in_cache", IN_CACHE)
def test_of_bf16_logits_the_loss_is_fp32_and_the_gradient_rounded(in_cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
    logits, labels = logits_and_labels(dtype=torch.bfloat16)
    for upstream, roundings in ((1.0, 1), (0.5, 1), (-0.37, 2)):  # a power of two rounds nothing
        value, gradient = with_gradient(vocabulary_loss, logits, labels, upstream)
        assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
        wanted = plain(logits.float(), labels)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        exact = with_gradient(plain, logits.double(), labels, upstream)[1]
        torch.testing.assert_close(gradient.double(), exact, atol=1e-6, rtol=(1 + BF16) ** roundings - 1)


def test_no_more_rows_are_in_fp32_at_a_time_than_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    softmax, rows = torch.softmax, list[int]()

    def recorded(part: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
        rows.append(len(part))
        return softmax(part, dim=dim, dtype=dtype)

    monkeypatch.setattr(torch, "softmax", recorded)
    found = []
    for in_cache in IN_CACHE:
        monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
        vocabulary_loss(*logits_and_labels(dtype=torch.bfloat16))
        found.append(rows.copy())
        rows.clear()
    assert found == [[1] * 10, [1] * 10, [3, 3, 3, 1], [9, 1], [10]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_cache", IN_CACHE)
def test_ignored_places_are_in_no_vocabulary_loss_and_have_no_gradient(
    in_cache: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
    logits, labels = logits_and_labels(dtype=dtype)
    for ignored in ([0, 4, 5, 9], [3, 4, 5], list(range(10))):  # a whole part of three rows among them, and all
        some = labels.clone()
        some[ignored] = IGNORED
        value, gradient = with_gradient(vocabulary_loss, logits, some, 0.5)
        wanted, wanted_gradient = with_gradient(plain, logits.double(), some, 0.5)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert not gradient[ignored].any()
        torch.testing.assert_close(gradient.double(), wanted_gradient, atol=1e-6, rtol=BF16 if dtype == torch.bfloat16 else 1e-5)


def test_where_no_gradient_is_wanted_the_logits_stay() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits, labels = logits_and_labels(dtype=dtype)
        before = logits.clone()
        value = vocabulary_loss(logits, labels)
        assert not value.requires_grad and torch.equal(logits, before)
        assert value.item() == pytest.approx(plain(before.double(), labels).item(), rel=1e-6)
    matrix = torch.eye(97, requires_grad=True)
    with torch.no_grad():
        logits = before.float() @ matrix
        assert vocabulary_loss(logits, labels).item() == pytest.approx(value.item(), rel=1e-6)
    assert torch.equal(logits, before.float())


def test_where_one_is_wanted_their_memory_becomes_it_and_a_second_use_is_refused() -> None:
    matrix, labels = torch.eye(97, requires_grad=True), logits_and_labels()[1]
    logits = logits_and_labels()[0] @ matrix
    value = vocabulary_loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
    assert gradient.data_ptr() == logits.data_ptr()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    logits = logits_and_labels()[0] @ matrix
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (vocabulary_loss(logits, labels) + vocabulary_loss(logits, labels)).backward()


def test_extreme_logits_have_finite_losses_and_gradients() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.zeros(4, 97, dtype=dtype)
        logits[0, 5], logits[1, 5], logits[2, 6:], logits[3] = 1e4, 1e4, -1e4, 1e4
        labels = torch.tensor([5, 6, 96, 0])
        value, gradient = with_gradient(vocabulary_loss, logits, labels)
        wanted, wanted_gradient = with_gradient(plain, logits.double(), labels)
        assert math.isfinite(wanted) and value.item() == pytest.approx(wanted.item(), rel=1e-6)
        torch.testing.assert_close(gradient.double(), wanted_gradient, atol=1e-6, rtol=BF16 if dtype == torch.bfloat16 else 1e-5)


def test_no_masked_place_has_no_loss() -> None:
    logits = torch.zeros(0, 97, requires_grad=True)
    value = vocabulary_loss(logits * 1, torch.zeros(0, dtype=torch.int64))
    value.backward()
    assert value.item() == 0 and logits.grad is not None and logits.grad.shape == (0, 97)


@pytest.mark.parametrize("in_cache", IN_CACHE)
def test_a_matrix_tied_to_the_embeddings_has_the_same_gradients(in_cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
    torch.manual_seed(4)
    ids, labels = torch.randint(97, (2, 10))
    parameters = {"embeddings": torch.randn(97, 12), "weight": torch.randn(12, 12), "bias": torch.randn(97)}
    for parameter in parameters.values():
        parameter.requires_grad_()

    def gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        hidden = torch.tanh(parameters["embeddings"][ids] @ parameters["weight"])
        value = loss(F.linear(hidden, parameters["embeddings"], parameters["bias"]), labels)
        return torch.autograd.grad(value / 10, list(parameters.values()))

    for name, ours, theirs in zip(parameters, gradients(vocabulary_loss), gradients(plain), strict=True):
        assert theirs.abs().max() > 0.05
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=f"gradient of {name}")


@pytest.mark.parametrize("in_cache", [1, 200, 2**20])
@pytest.mark.parametrize(
    ("precision", "denominators", "tolerance"),
    [
        ("fp32", (31, 12), 2e-6),
        ("bf16", (32, 16), 1e-3),  # the same roundings: powers of two bring none
        ("bf16", (31, 12), 8 * BF16),  # one rounding more, then all of the backward pass in bf16; measured: 0.018
    ],
)
def test_pretraining_has_the_gradients_of_cross_entropy(
    precision: str,
    denominators: tuple[int, int],
    tolerance: float,
    in_cache: int,
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

    monkeypatch.setattr(objectives, "_IN_CACHE", in_cache)
    ours = gradients()
    monkeypatch.setattr(objectives, "vocabulary_loss", lambda logits, labels: plain(logits.float(), labels))
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
