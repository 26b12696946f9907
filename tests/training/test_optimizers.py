"""bertlab/training/optimizers.py: who steps which parameter, with what decay and at what rate."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.training.optimizers import (
    Muon,
    build_optimizers,
    linear_schedule,
    optimizer_tensors,
    orthogonalised,
    restore_optimizers,
    set_learning_rate,
)

MakeModel = Callable[..., BertForPreTraining]
HIDDEN = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def names_of(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> list[list[tuple[str, float]]]:
    """For each optimizer, the names of its parameters with their weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        [(names[id(parameter)], group["weight_decay"]) for group in optimizer.param_groups for parameter in group["params"]]
        for optimizer in optimizers
    ]


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


# --- groups -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("classifier", [False, True])
def test_every_parameter_is_stepped_by_one_optimizer_and_only_matrices_decay(make_model: MakeModel, name: str, classifier: bool) -> None:
    pretraining = make_model()
    model: nn.Module = BertForSequenceClassification(pretraining.config, 3) if classifier else pretraining
    optimizers = build_optimizers(model, name, learning_rate=1e-3, weight_decay=0.25)  # type: ignore[arg-type]
    given = names_of(model, optimizers)
    everything = [entry for entries in given for entry in entries]
    assert sorted(parameter for parameter, _ in everything) == sorted(parameter for parameter, _ in model.named_parameters())
    for parameter, decay in everything:
        assert decay == (0.0 if parameter.endswith("bias") or "LayerNorm" in parameter else 0.25), parameter
    if name == "adamw":
        assert [type(optimizer) for optimizer in optimizers] == [torch.optim.AdamW]
        return
    assert [type(optimizer) for optimizer in optimizers] == [torch.optim.AdamW, Muon]
    by_muon = {parameter for parameter, _ in given[1]}
    blocks = [name for name, _ in model.named_parameters() if ".layer." in name]
    assert by_muon == {name for name in blocks if name.endswith(".weight") and name.removesuffix(".weight").endswith(HIDDEN)}
    assert len(by_muon) == 2 * len(HIDDEN)


def test_frozen_parameters_are_left_alone(make_model: MakeModel) -> None:
    model = make_model()
    for parameter in model.bert.encoder.parameters():
        parameter.requires_grad = False
    optimizers = build_optimizers(model, "muon", learning_rate=1e-3)
    given = {name for entries in names_of(model, optimizers) for name, _ in entries}
    assert given == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(optimizers) == 1  # nothing is left for Muon


@pytest.mark.parametrize("frozen", [False, True])
def test_with_layer_decay_each_layer_has_a_share_of_the_rate_of_the_one_above(make_model: MakeModel, frozen: bool) -> None:
    model = BertForSequenceClassification(make_model(num_hidden_layers=3).config, 3)
    if frozen:
        model.bert.embeddings.requires_grad_(False)
    (optimizer,) = build_optimizers(model, "adamw", learning_rate=0.1, weight_decay=0.25, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(parameter)]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    wanted = {"classifier.": 0.1, "pooler.": 0.1, "layer.2.": 0.05, "layer.1.": 0.025, "layer.0.": 0.0125, "embeddings.": 0.00625}
    assert rates.keys() == {name for name in names.values() if not frozen or "embeddings" not in name}
    for name, rate in rates.items():
        (expected,) = (value for part, value in wanted.items() if part in name)
        assert rate == pytest.approx(expected), name
    decays = dict(names_of(model, [optimizer])[0])
    assert all(decay == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.25) for name, decay in decays.items())
    assert set_learning_rate([optimizer], 0.5) == pytest.approx(0.05)  # the heads' is the one that is told
    assert {group["lr"] for group in optimizer.param_groups} == {value / 2 for value in wanted.values() if not frozen or value > 0.01}


def test_without_layer_decay_there_are_two_groups(make_model: MakeModel) -> None:
    (optimizer,) = build_optimizers(make_model(), "adamw", learning_rate=1e-3)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


# --- steps ------------------------------------------------------------------------------------------------------------------------------


def test_adamw_steps_as_the_formula_says(make_model: MakeModel) -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with bias correction, in float64 by hand."""
    model = make_model()
    rate, decay, first, second, eps = 1e-2, 0.1, 0.9, 0.999, 1e-6
    optimizers = build_optimizers(model, "adamw", learning_rate=rate, weight_decay=decay)
    expected = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    mean = {name: torch.zeros_like(value) for name, value in expected.items()}
    square = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step, factor in enumerate((0.5, 1.0, 0.25), start=1):
        fill_gradients(model, step)
        set_learning_rate(optimizers, factor)
        optimizers[0].step()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.double()
            mean[name] = first * mean[name] + (1 - first) * gradient
            square[name] = second * square[name] + (1 - second) * gradient**2
            if parameter.ndim == 2:
                expected[name] = expected[name] * (1 - rate * factor * decay)
            update = (mean[name] / (1 - first**step)) / ((square[name] / (1 - second**step)).sqrt() + eps)
            expected[name] = expected[name] - rate * factor * update
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=0, atol=1e-6)


def test_muon_moves_hidden_matrices_along_their_orthogonalised_momentum_by_adamws_size(make_model: MakeModel) -> None:
    """The oracle is the singular value decomposition: the first update is rate * 0.2 * sqrt(longer side) * U V', nearly."""
    model = make_model()
    rate = 1e-2
    optimizers = build_optimizers(model, "muon", learning_rate=5.0, muon_learning_rate=rate, weight_decay=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    fill_gradients(model, 0)
    for optimizer in optimizers[1:]:
        optimizer.step()
    by_muon = {name for name, _ in names_of(model, optimizers)[1]}
    for name, parameter in model.named_parameters():
        moved = before[name] - parameter.detach()
        if name not in by_muon:
            assert not moved.any()
            continue
        assert parameter.grad is not None
        left, _, right = torch.linalg.svd(parameter.grad, full_matrices=False)
        size = rate * 0.2 * math.sqrt(max(parameter.shape))
        cosine = torch.nn.functional.cosine_similarity(moved.flatten(), (left @ right).flatten(), dim=0)
        assert float(cosine) > 0.95
        assert float(torch.linalg.norm(moved)) == pytest.approx(size * math.sqrt(min(parameter.shape)), rel=0.25)


# --- the schedule -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "warmup", "table"),
    [
        (10, 4, [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (5, 0, [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        (4, 1, [1, 1, 2 / 3, 1 / 3]),
        (4, 4, [1 / 4, 2 / 4, 3 / 4, 1]),
        (1, 0, [1]),
        (1, 1, [1]),
    ],
)
def test_the_rate_rises_over_the_warm_up_and_falls_towards_zero(steps: int, warmup: int, table: list[float]) -> None:
    assert [linear_schedule(step, steps, warmup) for step in range(steps)] == pytest.approx(table)


def test_the_rate_is_never_above_its_peak_nor_zero_and_has_one_top() -> None:
    for steps in (1, 2, 7, 100):
        for warmup in range(steps + 1):
            rates = [linear_schedule(step, steps, warmup) for step in range(steps)]
            assert all(0 < rate <= 1 for rate in rates)
            assert max(rates) == 1
            top = rates.index(1)
            assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_every_group_keeps_its_own_peak_and_the_first_is_told(make_model: MakeModel) -> None:
    optimizers = build_optimizers(make_model(), "muon", learning_rate=1e-3, muon_learning_rate=2e-2)
    for factor in (0.5, 0.25, 1.0):  # of the peak, not of the rate before
        assert set_learning_rate(optimizers, factor) == pytest.approx(1e-3 * factor)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-3 * factor, 1e-3 * factor, 2e-2 * factor])


# --- state ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_restored_optimizers_step_as_the_ones_they_were_taken_from(make_model: MakeModel, name: str) -> None:
    model, other = make_model(), make_model()
    optimizers = build_optimizers(model, name, learning_rate=1e-2)  # type: ignore[arg-type]
    assert optimizer_tensors(optimizers) == {}
    for step in range(2):
        fill_gradients(model, step)
        for optimizer in optimizers:
            optimizer.step()
    other.load_state_dict(model.state_dict())
    tensors = {key: value.clone() for key, value in optimizer_tensors(optimizers).items()}
    fresh = build_optimizers(other, name, learning_rate=1e-2)  # type: ignore[arg-type]
    restore_optimizers(fresh, tensors)
    for step in range(2, 4):
        for each, its in ((model, optimizers), (other, fresh)):
            fill_gradients(each, step)
            for optimizer in its:
                optimizer.step()
    for (parameter_name, left), right in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), parameter_name


@pytest.mark.parametrize("bf16", [False, True])  # of 160 numbers at most: emulated where the processor has no such instructions
@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_muon_is_torchs_but_for_the_roundings_of_bf16(shape: tuple[int, int], bf16: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.randn(shape)) for _ in range(2))
    theirs.data.copy_(ours.data)
    start = ours.detach().clone()
    mine = Muon([ours], lr=0.02, weight_decay=0.1, bf16=bf16)
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(shape)
        for parameter, optimizer in ((ours, mine), (theirs, torchs)):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.05
    assert (ours - theirs).norm() < 0.01 * moved  # bf16 keeps 8 bits
    assert torch.equal(ours, theirs) == bf16, "in bf16 theirs bit by bit, in fp32 not"
    torch.testing.assert_close(mine.state[ours]["momentum_buffer"], torchs.state[theirs]["momentum_buffer"])
    singular = torch.linalg.svdvals(orthogonalised(torch.randn(shape), torch.float32))
    assert singular.min() > 0.6 and singular.max() < 1.3


@pytest.mark.parametrize("shape", [(24, 24), (24, 47), (24, 48), (24, 96), (96, 24)])
@pytest.mark.parametrize("rank", [24, 2])
def test_an_oblong_matrix_is_made_orthogonal_by_the_same_steps(shape: tuple[int, int], rank: int) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape[0], rank) @ torch.randn(rank, shape[1]) + 1e-3 * torch.randn(shape)
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x  # as Jordan wrote it
    ours = orthogonalised(matrix, torch.float32)
    assert ours.shape == shape and ours.dtype == torch.float32
    assert (ours - x).norm() < 3e-4 * x.norm()  # bf16 is 0.01 to 0.4 off


def test_a_parameter_without_a_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(3, 4))
    Muon([parameter], lr=1.0).step()
    assert (parameter == 1).all()


def test_the_rate_may_stay_at_its_peak_before_it_falls() -> None:
    rates = [linear_schedule(step, 10, 2, 4) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [linear_schedule(step, 10, 2, 10) for step in range(10)] == [linear_schedule(step, 10, 2) for step in range(10)]
