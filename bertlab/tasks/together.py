"""Several tasks at once on one encoder, a head each (Caruana 1997; Liu et al. 2019): which task a step is of, and one seed's training.

A step is of one task. How many steps a task has of all is its share: proportional to its training examples, to their square root, or the
same for all (Stickland and Murray 2019 compare them); the order is a keyed permutation of these steps, so that nothing is left to
chance but the order. An epoch is as many steps as one pass over the examples of all tasks takes. What is kept is the epoch of the highest
mean of the tasks' scores on dev. A head that a step has no use for has no gradient in it, in one process or in many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn

from bertlab.batches import randomness
from bertlab.batches.flat import LabelledBatch
from bertlab.model.encoder import Bert
from bertlab.progress import averaged
from bertlab.signals import saying_what_is_kept
from bertlab.tasks.contract import Head, Outputs
from bertlab.tasks.data import Data, State, labels_of
from bertlab.tasks.recipe import Recipe, epochs_of, fitted, has_stalled
from bertlab.tasks.seeds import (
    TOLD_EVERY,
    Trained,
    Turn,
    agreed,
    copied,
    dev_scores,
    history_of,
    learnt_parts,
    loss_of,
    micro_batches,
    objective_of,
    optimizers_of,
    plan_of,
    resumed,
    turn_of,
    watched,
)
from bertlab.tasks.start import Start
from bertlab.training import loop
from bertlab.training.objectives import Objective
from bertlab.training.tracking import Tracker, numbers_of

Sampling = Literal["proportional", "square-root", "uniform"]
POWERS: dict[Sampling, float] = {"proportional": 1.0, "square-root": 0.5, "uniform": 0.0}


class Together(nn.Module):
    """One encoder and the heads of several models: `models` are these, all with the one encoder; their parameters are here once."""

    def __init__(self, models: Mapping[str, Head]) -> None:
        super().__init__()
        with_pooler = next((model for model in models.values() if model.bert.pooler is not None), None)
        self.bert: Bert = (with_pooler or next(iter(models.values()))).bert
        self.heads = nn.ModuleDict()
        for name, model in models.items():
            model.bert = self.bert
            self.heads[name] = nn.ModuleDict({child: module for child, module in model.named_children() if child != "bert"})
        self.__dict__["models"] = dict(models)  # not as modules: each parameter belongs to this one once

    def forward(self, task: str, **encoder_inputs: Any) -> Tensor:
        """The logits of one task's model."""
        logits: Tensor = self.model(task)(**encoder_inputs)
        return logits

    def model(self, name: str) -> Head:
        """The model of one task, on the shared encoder."""
        found: Head = self.__dict__["models"][name]
        return found

    def fill(self, name: str, model: Head) -> None:
        """Copy the encoder and one task's head into a model of its own."""
        tensors = {f"bert.{key}": value for key, value in self.bert.state_dict().items()}
        tensors |= self.heads[name].state_dict()
        model.load_state_dict({key: tensors[key] for key in model.state_dict()})


def start_together(data: Mapping[str, Data], start: Start, seed: int) -> Together:
    """One encoder and a fresh head a task."""
    return Together({name: start.model(each.task, len(each.labels.names), seed)[0] for name, each in data.items()})


class EachItsOwn:
    """The loss of the task that a batch is of."""

    names = ("loss",)

    def __init__(self, objectives: Mapping[str, Objective[Any]]) -> None:
        self.objectives = objectives

    def counts(self, batch: LabelledBatch) -> Sequence[float]:
        return self.objectives[batch.task].counts(batch)

    def losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        return self.objectives[batch.task].losses(model, batch)


def schedule(sizes: Mapping[str, int], sampling: Sampling, steps: int, seed: int) -> list[tuple[str, int]]:
    """(task, how many steps of it were before) for each step: shares by `sampling` of the tasks' sizes, each task at least one step."""
    names = list(sizes)
    weights = np.array([float(sizes[name]) ** POWERS[sampling] for name in names])
    exact = weights / weights.sum() * steps
    counts = np.maximum(1, np.floor(exact)).astype(np.int64)
    for place in np.argsort(np.floor(exact) - exact, kind="stable")[: max(0, steps - int(counts.sum()))]:
        counts[place] += 1  # the largest remainders
    of_step = np.repeat(np.arange(len(names)), counts)
    order = np.argsort(randomness.permuted(np.arange(len(of_step)), len(of_step), randomness.key(seed, 0)))
    seen = dict.fromkeys(names, 0)
    found = []
    for number in of_step[order].tolist():
        found.append((names[number], seen[names[number]]))
        seen[names[number]] += 1
    return found


def steps_of(data: Mapping[str, Data], recipe: Recipe) -> int:
    """The steps of an epoch: one pass over all tasks' examples."""
    return sum(each.encoded["train"].steps_per_epoch(recipe.batch_size) for each in data.values())


def epochs_together(recipe: Recipe, data: Mapping[str, Data], hidden_size: int) -> tuple[int, str]:
    """The epochs of a training on the examples of all tasks, and why."""
    return epochs_of(recipe, sum(len(each.splits["train"]) for each in data.values()), hidden_size)


def train_together(
    recipe: Recipe,
    data: Mapping[str, Data],
    model: Together,
    seed: int,
    sampling: Sampling,
    accelerator: Accelerator,
    tracker: Tracker | None = None,
    turn: Turn | None = None,
) -> dict[str, Any]:
    """Train `model` on all tasks and leave it at its best epoch; returns seed, step, epoch, history, and by task dev, dev_loss, tuned.
    `tracker` and `turn` are as seeds.train_seed has them."""
    per_epoch = steps_of(data, recipe)
    epochs, _ = epochs_together(recipe, data, model.bert.config.hidden_size)
    steps = epochs * per_epoch
    sizes = {name: len(each.encoded["train"]) for name, each in data.items()}
    plan = schedule(sizes, sampling, steps, seed)
    steps = len(plan)
    best: dict[str, Any] = {}
    best_weights: dict[str, Tensor] = {}
    history: list[dict[str, Any]] = []

    speed = averaged("tokens")

    def after_step(result: loop.StepResult) -> bool:
        done = result.step + 1
        report(done, f"loss {result.losses['loss']:.3f}, {speed(result.tokens)}")
        if tracker and (done % TOLD_EVERY == 0 or done == steps):
            tracker.log(loss_of(seed, result), step=done)
        if done % per_epoch and done < steps:
            return False
        found = {name: dev_scores(each, model.model(name), accelerator.device) for name, each in data.items()}
        mean = float(np.mean([each.task.score(found[name]["dev"]) for name, each in data.items()]))
        epoch = -(-done // per_epoch)
        history.append({"epoch": epoch, "mean_score": mean} | {name: history_of(each, found[name], epoch) for name, each in data.items()})
        if tracker:
            tracker.log(numbers_of({f"seed-{seed}": history[-1]}), step=done)
        if not best or mean > best["mean_score"]:
            best.update({"seed": seed, "step": done, "epoch": epoch, "mean_score": mean, "tasks": found})
            best_weights.update(copied(model))
        return agreed(has_stalled([each["mean_score"] for each in history], recipe.early_stopping), accelerator)

    recipes = {name: fitted(recipe, each.task) for name, each in data.items()}
    objectives = {name: objective_of(recipes[name], each) for name, each in data.items()}
    watch = watched(turn or Turn(f"seed {seed}"), steps, accelerator)
    with learnt_parts(recipe, model.bert, seed), watch as report:
        optimizers = optimizers_of(recipe, model.to(accelerator.device), model.bert.config.hidden_size)
        wrapped = accelerator.prepare(model)
        loop.train(
            wrapped,
            optimizers,
            EachItsOwn(objectives),
            partial(_of_step, plan, data, recipes, seed, accelerator.process_index, accelerator.num_processes),
            plan_of(recipe, steps, seed),
            accelerator,
            after_step=after_step,
        )
        accelerator.free_memory(wrapped)
        model.load_state_dict(best_weights)
    model.cpu()
    return best | {"history": history, "epochs": epochs, "stopped_early": len(history) < epochs}


def _of_step(
    plan: list[tuple[str, int]], data: Mapping[str, Data], recipes: Mapping[str, Recipe], seed: int, rank: int, ranks: int, step: int
) -> list[LabelledBatch]:
    name, before = plan[step]
    return [replace(batch, task=name) for batch in micro_batches(data[name].encoded["train"], recipes[name], seed, rank, ranks, before)]


def train_seeds_together(
    start: Start,
    recipe: Recipe,
    data: Mapping[str, Data],
    seeds: Sequence[int],
    sampling: Sampling,
    out: Path,
    accelerator: Accelerator,
    tracker: Tracker | None = None,
) -> tuple[list[State], dict[str, Trained]]:
    """Train a model of all tasks a seed, or take it from its checkpoint in `out`/seeds: the states of the seeds, and each task as
    seeds.train_seeds leaves one, the best seed being that of the highest mean score on dev."""
    states: list[State] = []
    of_task: dict[str, list[State]] = {name: [] for name in data}
    outputs: dict[str, dict[int, Any]] = {name: {} for name in data}
    best: tuple[State, Together] | None = None
    for number, seed in enumerate(seeds, 1):
        model = start_together(data, start, seed)
        train = partial(train_together, recipe, data, model, seed, sampling, accelerator, tracker, turn_of(seed, number, len(seeds)))
        with saying_what_is_kept(number - 1, len(seeds), "seeds"):
            state = resumed(out / "seeds" / f"seed-{seed}", model, train, out, accelerator)
        for name, each in data.items():
            its = {"seed": seed, "step": state["step"], "epoch": state["epoch"]} | state["tasks"][name]
            if "test" in each.splits:
                outputs[name][seed] = _answers(model, name, each, "test", accelerator)
                its["test"] = each.task.metrics(each.gold["test"], outputs[name][seed], labels_of(each, its))
            of_task[name].append(its)
        states.append(state)
        if best is None or state["mean_score"] > best[0]["mean_score"]:
            best = state, model
        model.cpu()
    assert best is not None, "a run has a seed"
    found = {}
    for name, each in data.items():
        single, _ = start.model(each.task, len(each.labels.names), best[0]["seed"])
        best[1].fill(name, single)
        (its_best,) = (state for state in of_task[name] if state["seed"] == best[0]["seed"])
        dev_outputs = _answers(best[1], name, each, "dev", accelerator)
        found[name] = Trained(of_task[name], outputs[name], its_best, single, each, dev_outputs)
    return states, found


def _answers(model: Together, name: str, data: Data, split: str, accelerator: Accelerator) -> Outputs:
    return data.task.run(model.to(accelerator.device).model(name), data.encoded[split], data.labels, device=accelerator.device)
