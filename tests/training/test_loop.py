"""bertlab/training/loop.py: a step is one optimizer step over the whole global batch, however it is cut, loaded or resumed.

tests/training/test_processes.py shows the same for two processes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from bertlab.batches.flat import PretrainingBatch
from bertlab.errors import ConfigError, DataError
from bertlab.model.heads import BertForPreTraining
from bertlab.training.loop import Plan, StepResult, train
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers, linear_schedule, optimizer_tensors, restore_optimizers

MakeModel = Callable[..., BertForPreTraining]
MakeBatch = Callable[..., PretrainingBatch]
OneStep = Callable[..., tuple[dict[str, Tensor], StepResult]]


def flat(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([named[name].flatten() for name in sorted(named)])


def steps_of(make_batch: MakeBatch) -> Callable[[int], list[PretrainingBatch]]:
    """Two unequal micro-batches a step, other ones each step."""

    def batches(step: int) -> list[PretrainingBatch]:
        return [make_batch(2 * step, [9, 12, 7]), make_batch(2 * step + 1, [15, 4 + step % 5])]

    return batches


def trained(
    make_model: MakeModel,
    batches: Callable[[int], Sequence[PretrainingBatch]],
    accelerator: Accelerator,
    *,
    steps: int = 6,
    seed: int = 3,
    optimizer: Any = "muon",
    dropout: float = 0.1,
    workers: int = 0,
) -> tuple[dict[str, Tensor], list[StepResult]]:
    """The weights after a short run from the start, and its steps."""
    model, results = make_model(dropout), list[StepResult]()
    optimizers = build_optimizers(model, optimizer, learning_rate=1e-2)
    plan = Plan(steps=steps, warmup_steps=2, seed=seed, precision="fp32", workers=workers)
    train(model, optimizers, Pretraining(), batches, plan, accelerator, after_step=results.append)
    return copy(model.state_dict()), results


def copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- the global batch -------------------------------------------------------------------------------------------------------------------


def test_the_gradient_is_the_same_however_the_global_batch_is_cut(
    make_model: MakeModel, uneven: list[PretrainingBatch], join: Callable[..., PretrainingBatch], one_step: OneStep
) -> None:
    model = make_model()
    whole, result = one_step(model, [join(uneven)])
    masked = [len(batch.mlm_labels) for batch in uneven]
    assert len(set(masked)) == 4 and len({batch.num_sequences for batch in uneven}) == 4
    for cut in (uneven, uneven[::-1], [join(uneven[:2]), join(uneven[2:])], [join(uneven[:3]), uneven[3]]):
        parts, of_parts = one_step(model, cut)
        assert parts.keys() == whole.keys() == dict(model.named_parameters()).keys()
        torch.testing.assert_close(flat(parts), flat(whole), rtol=0, atol=1e-6)
        assert of_parts.losses == pytest.approx(result.losses, rel=1e-6)
        assert of_parts.grad_norm == pytest.approx(result.grad_norm, rel=1e-6)
        assert (of_parts.tokens, of_parts.sequences) == (result.tokens, result.sequences)


def test_the_loss_is_a_mean_over_all_masked_tokens_and_over_all_pairs(
    make_model: MakeModel, uneven: list[PretrainingBatch], join: Callable[..., PretrainingBatch], one_step: OneStep
) -> None:
    model, whole = make_model(), join(uneven)
    found, result = one_step(model, uneven)

    def means(batch: PretrainingBatch) -> tuple[Tensor, Tensor]:
        mlm_logits, nsp_logits = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
        return F.cross_entropy(mlm_logits, batch.mlm_labels), F.cross_entropy(nsp_logits, batch.nsp_labels)

    def gradient(loss: Tensor) -> Tensor:
        grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        return flat(dict(zip(dict(model.named_parameters()), grads, strict=True)))

    mlm, nsp = means(whole)
    assert result.losses == pytest.approx({"mlm_loss": mlm.item(), "nsp_loss": nsp.item()}, rel=1e-6)
    expected = gradient(mlm + nsp)
    torch.testing.assert_close(flat(found), expected, rtol=0, atol=1e-6)
    assert result.grad_norm == pytest.approx(float(expected.norm()), rel=1e-5)
    assert (result.tokens, result.sequences) == (whole.num_tokens, whole.num_sequences)
    # The counter-check: these batches would show it if means of micro-batches were averaged instead, in either part.
    for part in range(2):
        right = gradient(means(whole)[part])
        wrong = gradient(torch.stack([means(batch)[part] for batch in uneven]).mean())
        assert float((wrong - right).norm() / right.norm()) > 0.01


def test_a_micro_batch_without_masked_tokens_adds_only_its_pairs(make_model: MakeModel, make_batch: MakeBatch, one_step: OneStep) -> None:
    full, bare = make_batch(1, [9, 12]), make_batch(2, [2, 2])  # [CLS] [SEP]: nothing to mask
    assert len(bare.mlm_labels) == 0
    model = make_model()
    alone, result = one_step(model, [full])
    both, of_both = one_step(model, [full, bare])
    assert of_both.losses["mlm_loss"] == pytest.approx(result.losses["mlm_loss"], rel=1e-6)
    assert of_both.losses["nsp_loss"] != pytest.approx(result.losses["nsp_loss"], rel=1e-6)
    bias = "cls.predictions.bias"  # no pair's loss reaches it
    torch.testing.assert_close(both[bias], alone[bias], rtol=0, atol=1e-6)
    _, of_bare = one_step(model, [bare])
    assert of_bare.losses["mlm_loss"] == 0.0 and not of_bare.skipped


def test_filler_changes_neither_losses_nor_counts_nor_gradients(
    make_model: MakeModel, uneven: list[PretrainingBatch], one_step: OneStep
) -> None:
    gradients, result = one_step(make_model(), uneven)
    filled, of_filled = one_step(make_model(), [batch.topped_up(96) for batch in uneven])
    assert of_filled.filler_tokens > 100 and result.filler_tokens == 0
    assert (of_filled.counts, of_filled.tokens, of_filled.sequences) == (result.counts, result.tokens, result.sequences)
    assert of_filled.losses == pytest.approx(result.losses, rel=1e-5) and of_filled.batch == result.batch
    for name, gradient in gradients.items():
        torch.testing.assert_close(filled[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for(
    make_model: MakeModel, uneven: list[PretrainingBatch], one_step: OneStep
) -> None:
    model = make_model()
    free, result = one_step(model, uneven)
    clipped, of_clipped = one_step(model, uneven, clip=0.5 * result.grad_norm)
    assert of_clipped.grad_norm == pytest.approx(result.grad_norm)  # the norm before clipping is what is told
    torch.testing.assert_close(flat(clipped), 0.5 * flat(free), rtol=1e-4, atol=1e-6)
    untouched, _ = one_step(model, uneven, clip=2 * result.grad_norm)
    assert same(untouched, free)


# --- the same run again -----------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    first, results = trained(make_model, steps_of(make_batch), accelerator)

    def after_other_draws(step: int) -> list[PretrainingBatch]:
        torch.manual_seed(99 + step)
        torch.rand(17)
        return steps_of(make_batch)(step)

    second, again = trained(make_model, after_other_draws, accelerator)
    assert same(first, second)
    assert [result.losses for result in results] == [result.losses for result in again]
    other, _ = trained(make_model, steps_of(make_batch), accelerator, seed=4)
    assert not same(first, other)  # the seed reaches dropout


def test_dropout_differs_between_steps_and_between_micro_batches(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    batch = make_batch(1, [20, 20])
    losses = list[float]()
    for micro_batches in ([batch], [batch, batch]):
        model = make_model(0.3)
        still = build_optimizers(model, "adamw", learning_rate=0.0)
        plan = Plan(steps=3, warmup_steps=0, seed=0, precision="fp32")
        results = list[StepResult]()
        train(model, still, Pretraining(), lambda step, its=micro_batches: its, plan, accelerator, after_step=results.append)  # type: ignore[misc]
        losses += [result.losses["mlm_loss"] for result in results]
    # With the same masks throughout all six would be equal: no weight changes, and the mean of two equal losses is either.
    assert len({round(loss, 5) for loss in losses}) == 6


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_goes_on_equals_one_that_never_stopped(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator, optimizer: Any
) -> None:
    batches, plan = steps_of(make_batch), Plan(steps=6, warmup_steps=2, seed=3, precision="fp32")
    whole, results = trained(make_model, batches, accelerator, optimizer=optimizer)
    for stop in (1, 3, 5):
        model = make_model(0.1)
        optimizers = build_optimizers(model, optimizer, learning_rate=1e-2)
        train(model, optimizers, Pretraining(), batches, plan, accelerator, after_step=lambda result, last=stop - 1: result.step == last)  # type: ignore[misc]
        weights, moments = copy(model.state_dict()), copy(optimizer_tensors(optimizers))
        assert not same(weights, whole)
        resumed = make_model(0.1)
        resumed.load_state_dict(weights)
        fresh, after = build_optimizers(resumed, optimizer, learning_rate=1e-2), list[StepResult]()
        restore_optimizers(fresh, moments)
        train(resumed, fresh, Pretraining(), batches, plan, accelerator, start=stop, after_step=after.append)
        assert same(resumed.state_dict(), whole)
        assert [(r.step, r.losses, r.learning_rate) for r in after] == [(r.step, r.losses, r.learning_rate) for r in results[stop:]]


def test_a_run_started_at_its_end_does_nothing(make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator) -> None:
    model, results = make_model(), list[StepResult]()
    before = copy(model.state_dict())
    plan = Plan(steps=4, warmup_steps=0, seed=0)
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-2)
    train(model, optimizers, Pretraining(), steps_of(make_batch), plan, accelerator, start=4, after_step=results.append)
    assert results == [] and same(model.state_dict(), before)


def test_worker_processes_change_nothing(make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator) -> None:
    none, _ = trained(make_model, steps_of(make_batch), accelerator)
    two, _ = trained(make_model, steps_of(make_batch), accelerator, workers=2)
    assert same(none, two)


def test_what_a_worker_process_finds_wrong_is_raised_in_its_own_words(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    def batches(step: int) -> list[PretrainingBatch]:
        if step == 3:
            raise DataError("no text is left")
        return steps_of(make_batch)(step)

    for workers in (0, 2):
        with pytest.raises(DataError) as caught:
            trained(make_model, batches, accelerator, workers=workers)
        assert str(caught.value) == "no text is left"


# --- a step -----------------------------------------------------------------------------------------------------------------------------


def test_steps_are_told_in_order_with_the_schedules_rate_until_after_step_says_stop(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    asked, results = list[int](), list[StepResult]()
    model = make_model()
    optimizers = build_optimizers(model, "muon", learning_rate=1e-2, muon_learning_rate=3e-3)

    def batches(step: int) -> list[PretrainingBatch]:
        asked.append(step)
        return steps_of(make_batch)(step)

    def after_step(result: StepResult) -> bool:
        results.append(result)
        factor = linear_schedule(result.step, 9, 2)
        assert [group["lr"] for optimizer in optimizers for group in optimizer.param_groups] == [
            1e-2 * factor,
            1e-2 * factor,
            3e-3 * factor,
        ]
        return result.step == 4

    plan = Plan(steps=9, warmup_steps=2, seed=0, precision="fp32")
    train(model, optimizers, Pretraining(), batches, plan, accelerator, after_step=after_step)
    assert asked == [0, 1, 2, 3, 4] == [result.step for result in results]
    assert [result.learning_rate for result in results] == pytest.approx([1e-2 * f for f in (1 / 2, 1, 1, 6 / 7, 5 / 7)])
    for result in results:
        assert result.tokens == sum(batch.num_tokens for batch in steps_of(make_batch)(result.step))
        assert result.sequences == 5 and not result.skipped
        assert 0 <= result.data_seconds <= result.seconds


class Poison(Pretraining):
    """One step's losses become NaN or infinite (the objective knows its step by counting its calls: two a step)."""

    def __init__(self, value: float, step: int) -> None:
        self.value, self.step, self.calls = value, step, 0

    def losses(self, model: nn.Module, batch: PretrainingBatch) -> Tensor:
        parts = super().losses(model, batch)
        self.calls += 1
        return parts * self.value if (self.calls - 1) // 2 == self.step and self.calls % 2 else parts


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_whose_gradient_is_not_finite_is_skipped_and_changes_nothing(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator, value: float, optimizer: Any
) -> None:
    model, seen = make_model(), list[tuple[bool, dict[str, Tensor], dict[str, Tensor]]]()
    optimizers = build_optimizers(model, optimizer, learning_rate=1e-2)

    def after_step(result: StepResult) -> None:
        seen.append((result.skipped, copy(model.state_dict()), copy(optimizer_tensors(optimizers))))
        assert all(parameter.grad is None for parameter in model.parameters())

    plan = Plan(steps=4, warmup_steps=0, seed=0, precision="fp32")
    train(model, optimizers, Poison(value, step=2), steps_of(make_batch), plan, accelerator, after_step=after_step)
    assert [skipped for skipped, _, _ in seen] == [False, False, True, False]
    _, weights, moments = seen[1]
    assert same(seen[2][1], weights) and same(seen[2][2], moments)  # weights, moments and step counts
    assert not same(seen[3][1], weights) and not same(seen[3][2], moments)
    assert all(torch.isfinite(value).all() for tensors in seen[3][1:] for value in tensors.values())


def test_a_run_that_finds_no_finite_gradient_any_more_is_stopped(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    class Broken(Pretraining):
        """NaN but for step 30, so that 29 and then 50 in a row are skipped."""

        calls = 0

        def losses(self, model: nn.Module, batch: PretrainingBatch) -> Tensor:
            self.calls += 1
            return super().losses(model, batch) * (1.0 if self.calls == 30 else float("nan"))

    model, results = make_model(), list[StepResult]()
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-3)
    plan, batch = Plan(steps=200, warmup_steps=0, seed=0, precision="fp32"), make_batch(1, [9, 9])
    with pytest.raises(ConfigError, match="50 steps in a row without a finite loss and gradient, the last is step 80: lower") as caught:
        train(model, optimizers, Broken(), lambda step: [batch], plan, accelerator, after_step=results.append)
    assert "\n" not in str(caught.value)
    assert [result.step for result in results if not result.skipped] == [29]


def test_a_loss_that_is_not_finite_skips_the_step_though_its_gradient_is(
    make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator
) -> None:
    class Shifted(Pretraining):
        """Infinite by a constant, of which the gradient knows nothing."""

        def losses(self, model: nn.Module, batch: PretrainingBatch) -> Tensor:
            return super().losses(model, batch) + float("inf")

    model, results = make_model(), list[StepResult]()
    before = copy(model.state_dict())
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-2)
    plan = Plan(steps=3, warmup_steps=0, seed=0, precision="fp32")
    train(model, optimizers, Shifted(), steps_of(make_batch), plan, accelerator, after_step=results.append)
    assert [(result.skipped, result.skipped_in_a_row) for result in results] == [(True, 1), (True, 2), (True, 3)]
    assert all(result.grad_norm < float("inf") for result in results)
    assert same(copy(model.state_dict()), before)


def test_a_run_that_is_asked_to_stop_ends_after_the_step(make_model: MakeModel, make_batch: MakeBatch, accelerator: Accelerator) -> None:
    model, results = make_model(), list[StepResult]()
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-2)
    plan = Plan(steps=9, warmup_steps=0, seed=0, precision="fp32")
    wishes = iter([False, False, True])
    train(
        model,
        optimizers,
        Pretraining(),
        steps_of(make_batch),
        plan,
        accelerator,
        after_step=results.append,
        asked=lambda: next(wishes),
    )
    assert [result.asked for result in results] == [False, False, True]


def test_training_lowers_the_loss_on_a_batch_seen_again_and_again(
    make_model: MakeModel, uneven: list[PretrainingBatch], accelerator: Accelerator
) -> None:
    for optimizer in ("adamw", "muon"):
        _, results = trained(make_model, lambda step: uneven, accelerator, steps=40, optimizer=optimizer, dropout=0.0)
        first, last = results[0].losses, results[-1].losses
        assert all(last[name] < 0.5 * first[name] for name in first)
