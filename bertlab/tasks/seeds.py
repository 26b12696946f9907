"""One seed of a fine-tuning: from a model folder and a fresh head to the weights of its best epoch by dev.

What an epoch costs beside training is one run over dev without gradients and, at a new best, a copy of the weights in memory.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from bertlab.batches.flat import LabelledBatch, fill_budget
from bertlab.batches.labelled import Examples
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import load_config, load_model
from bertlab.progress import progress, silent
from bertlab.tasks.contract import Head, Task
from bertlab.tasks.data import Data
from bertlab.training import loop
from bertlab.training.optimizers import build_optimizers
from bertlab.training.processes import Precision

# Widest model -> peak rate. google-research/bert's grid for small models ends at 3e-4; tiny, pretrained for minutes, measured better with
# more (docs/results.md).
LEARNING_RATES = {128: 1e-3, 512: 1e-4, 2**30: 2e-5}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a seed is trained; the fields are those of the verb's Config, where each is told."""

    epochs: int
    batch_size: int
    learning_rate: float | None
    weight_decay: float
    warmup: float
    clip: float
    label_smoothing: float
    micro_tokens: int
    precision: Precision
    workers: int


def start_model(
    task: Task, folder: str, num_labels: int, seed: int, *, from_random: bool, dropout: float, attention_dropout: float
) -> tuple[Head, list[str]]:
    """The encoder of `folder`, or random weights of its size, with a fresh head drawn from `seed`; and the names of what was not there."""
    dropouts: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": attention_dropout}
    torch.manual_seed(seed)
    if from_random:
        values = load_config(folder) | dropouts
        return task.head(EncoderConfig.from_published(values, f"{folder}/config.json"), num_labels), []
    return load_model(folder, task.head, new_labels=num_labels, **dropouts)


def train_seed(recipe: Recipe, data: Data, model: Head, seed: int, accelerator: Accelerator) -> dict[str, Any]:
    """Fine-tune `model` and leave it at its best epoch by dev (ties: lower dev loss); returns what is known of that epoch."""
    task, train = data.task, data.encoded["train"]
    per_epoch = train.steps_per_epoch(recipe.batch_size)
    steps = recipe.epochs * per_epoch
    rate = recipe.learning_rate or next(rate for widest, rate in LEARNING_RATES.items() if model.config.hidden_size <= widest)
    optimizers = build_optimizers(model.to(accelerator.device), "adamw", learning_rate=rate, weight_decay=recipe.weight_decay)
    wrapped = accelerator.prepare(model)
    best: dict[str, Any] = {}
    best_weights: dict[str, torch.Tensor] = {}
    history: list[dict[str, Any]] = []

    def after_step(result: loop.StepResult) -> None:
        done = result.step + 1
        report(done, f"loss {result.losses['loss']:.3f}, {result.tokens / result.seconds:,.0f} tokens/s")
        if done % per_epoch:
            return
        gold, outputs = data.gold["dev"], task.run(model, data.encoded["dev"], data.labels, device=accelerator.device)
        tuned = task.tune(gold, outputs, data.labels)
        dev, dev_loss = task.metrics(gold, outputs, replace(data.labels, tuned=tuned)), task.loss(gold, outputs)
        scores = {f"dev_{name}": value for name, value in task.headlines(dev).items()}
        history.append({"epoch": done // per_epoch, **scores, "dev_loss": dev_loss})
        if not best or (task.score(dev), -dev_loss) > (task.score(best["dev"]), -best["dev_loss"]):
            best.update({"seed": seed, "step": done, "epoch": done // per_epoch, "dev": dev, "dev_loss": dev_loss, "tuned": tuned})
            best_weights.update({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})

    plan = loop.Plan(
        steps=steps,
        warmup_steps=round(recipe.warmup * steps),
        seed=seed,
        clip=recipe.clip,
        precision=recipe.precision,
        workers=recipe.workers,
    )
    batches = partial(micro_batches, train, recipe, seed, accelerator.process_index, accelerator.num_processes)
    with progress(f"seed {seed}", "steps", steps) if accelerator.is_main_process else silent() as report:
        loop.train(
            wrapped,
            optimizers,
            task.objective(data.labels, recipe.label_smoothing),
            batches,
            plan,
            accelerator,
            after_step=after_step,
        )
    accelerator.free_memory(wrapped)  # it remembers every model that it prepared
    model.load_state_dict(best_weights)
    model.cpu()
    return best | {"history": history}


def micro_batches(train: Examples, recipe: Recipe, seed: int, rank: int, ranks: int, step: int) -> list[LabelledBatch]:
    """One process's share of a step: every `ranks`-th example of the batch, cut to the token budget.

    A share with no example is filler that counts for nothing: every process takes part in every step.
    """
    rows = train.shuffled(step, recipe.batch_size, seed)
    mine = rows[rank::ranks]
    if not len(mine):
        return [train.batch(rows[:1]).as_filler()]
    bounds = fill_budget(train.lengths[mine], recipe.micro_tokens)
    return [train.batch(mine[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def best_of(task: Task, states: list[dict[str, Any]]) -> dict[str, Any]:
    """The seed of the highest dev score, of equals the one of lower dev loss."""
    return max(states, key=lambda state: (task.score(state["dev"]), -state["dev_loss"]))
