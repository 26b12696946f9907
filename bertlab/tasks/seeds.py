"""The seeds of a fine-tuning: each from a fresh head to the weights of its best epoch by dev, and the best of them by dev.

What an epoch costs beside training is one run over dev without gradients and, at a new best, a copy of the weights in memory; several
seeds keep the model of the best one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from bertlab.batches.flat import LabelledBatch, fill_budget
from bertlab.batches.labelled import Examples
from bertlab.disk import make_folder
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.encoder import Bert
from bertlab.model.learnt_parts import add_adapters, begin_anew, freeze, merge_adapters
from bertlab.progress import Report, averaged, progress, silent
from bertlab.signals import saying_what_is_kept
from bertlab.tasks.contract import Head, Outputs, Task
from bertlab.tasks.data import Data, State, labels_of
from bertlab.tasks.recipe import Recipe, epochs_of, has_stalled, rate_of
from bertlab.tasks.start import Start
from bertlab.training import checkpoint, loop
from bertlab.training.objectives import Objective
from bertlab.training.optimizers import build_optimizers
from bertlab.training.runlog import run_sha256
from bertlab.training.tracking import Tracker, numbers_of

TOLD_EVERY = 20  # steps, of those who track the loss


@dataclass(frozen=True)
class Turn:
    """A training among others, for the progress shown: its name, and how many of like length come after it."""

    name: str
    later: int = 0


def turn_of(seed: int, number: int, of: int, prefix: str = "") -> Turn:
    """The turn of a seed, which is the `number`-th, from 1, of so many."""
    return Turn(f"{prefix}seed {seed}" + (f" ({number} of {of})" if of > 1 else ""), of - number)


def watched(turn: Turn, steps: int, accelerator: Accelerator) -> AbstractContextManager[Report]:
    """Progress of so many steps, and of the turns after them; of one process of several alone."""
    return progress(turn.name, "steps", steps, later=turn.later * steps) if accelerator.is_main_process else silent()


def train_seed(
    recipe: Recipe, data: Data, model: Head, seed: int, accelerator: Accelerator, tracker: Tracker | None = None, turn: Turn | None = None
) -> dict[str, Any]:
    """Fine-tune `model` and leave it at its best epoch by dev (ties: lower dev loss); returns what is known of that epoch. `tracker`
    is told of the loss every TOLD_EVERY steps, and of dev's scores; `turn` is for the progress shown."""
    task, train = data.task, data.encoded["train"]
    epochs, _ = epochs_of(recipe, len(data.splits["train"]), model.config.hidden_size)
    per_epoch = train.steps_per_epoch(recipe.batch_size)
    steps = epochs * per_epoch
    best: dict[str, Any] = {}
    best_weights: dict[str, torch.Tensor] = {}
    history: list[dict[str, Any]] = []
    scores: list[float] = []
    first = next(iter(task.scores))

    speed = averaged("tokens")

    def after_step(result: loop.StepResult) -> bool:
        done = result.step + 1
        of_dev = f", dev {first.replace('_', '-')} {scores[-1]:.3f}" if scores else ""
        report(done, f"loss {result.losses['loss']:.3f}{of_dev}, {speed(result.tokens)}")
        if tracker and (done % TOLD_EVERY == 0 or done == steps):
            tracker.log(loss_of(seed, result), step=done)
        if done % per_epoch:
            return False
        found = dev_scores(data, model, accelerator.device)
        history.append(history_of(data, found, done // per_epoch))
        if tracker:
            tracker.log(numbers_of({f"seed-{seed}": history[-1]}), step=done)
        if not best or merit(task, found) > merit(task, best):
            best.update({"seed": seed, "step": done, "epoch": done // per_epoch} | found)
            best_weights.update(copied(model))
        scores.append(task.score(found["dev"]))
        return agreed(has_stalled(scores, recipe.early_stopping), accelerator)

    batches = partial(micro_batches, train, recipe, seed, accelerator.process_index, accelerator.num_processes)
    watch = watched(turn or Turn(f"seed {seed}"), steps, accelerator)
    with learnt_parts(recipe, model.bert, seed), watch as report:
        optimizers = optimizers_of(recipe, model.to(accelerator.device), model.config.hidden_size)
        wrapped = accelerator.prepare(model)
        loop.train(
            wrapped,
            optimizers,
            objective_of(recipe, data),
            batches,
            plan_of(recipe, steps, seed),
            accelerator,
            after_step=after_step,
        )
        accelerator.free_memory(wrapped)  # it remembers every model that it prepared
        model.load_state_dict(best_weights)
    model.cpu()
    return best | {"history": history, "epochs": epochs, "stopped_early": len(history) < epochs}


@contextmanager
def learnt_parts(recipe: Recipe, bert: Bert, seed: int) -> Iterator[None]:
    """Within, what of the encoder is learnt is what the recipe says, drawn from `seed` where it is new; afterwards all of it can be, and
    its adapters are merged."""
    torch.manual_seed(seed)
    begin_anew(bert, recipe.reinit_layers)
    adapted = add_adapters(bert, recipe.lora_rank) if recipe.lora_rank else None
    freeze(bert, recipe.freeze)
    bert.encoder.recompute = recipe.recompute
    yield
    if adapted is not None:
        merge_adapters(adapted)
    bert.requires_grad_(True)
    bert.encoder.recompute = False


def agreed(stop: bool, accelerator: Accelerator) -> bool:
    """Whether any process wants to stop: they have computed the same scores, but one that stops alone leaves the others waiting."""
    if accelerator.num_processes == 1:
        return stop
    return bool(accelerator.reduce(torch.tensor([float(stop)], device=accelerator.device), "sum") > 0)


def resumed(root: Path, model: nn.Module, train: Callable[[], State], out: Path, accelerator: Accelerator) -> State:
    """One seed's state, `model` filled: from its checkpoint under `root`, or by `train`, and then saved there for the run `out`. The first
    process saves, and the others wait for it."""
    is_main = accelerator.is_main_process
    finished = checkpoint.newest_checkpoint(root) if is_main or root.is_dir() else None
    if finished is not None:
        finished.restore(model, [])
        return finished.state
    state = train()
    if is_main:
        make_folder(root.parent)
        checkpoint.save_checkpoint(root, state["step"], model, [], state, keep=1, run=run_sha256(out))
    accelerator.wait_for_everyone()
    return state


def optimizers_of(recipe: Recipe, model: nn.Module, hidden_size: int) -> list[Optimizer]:
    rate, _ = rate_of(recipe, hidden_size)
    return build_optimizers(model, "adamw", learning_rate=rate, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)


def objective_of(recipe: Recipe, data: Data) -> Objective[Any]:
    weights = class_weights(data.gold["train"], len(data.labels.names)) if recipe.balance == "weights" else None
    return data.task.objective(data.labels, recipe.label_smoothing, weights)


def class_weights(gold: Sequence[int], classes: int) -> list[float]:
    """n / (K n_k) for each class that n examples have, K in number (King and Zeng 2001), and 0 for others."""
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(gold)
    weights = np.zeros(classes)
    weights[present] = compute_class_weight("balanced", classes=present, y=np.asarray(gold))
    return weights.tolist()


def plan_of(recipe: Recipe, steps: int, seed: int) -> loop.Plan:
    return loop.Plan(
        steps=steps,
        warmup_steps=round(recipe.warmup * steps),
        seed=seed,
        clip=recipe.clip,
        precision=recipe.precision,
        workers=recipe.workers,
    )


def dev_scores(data: Data, model: nn.Module, device: torch.device) -> dict[str, Any]:
    """The metrics and loss of dev, and what is set on it: dev, dev_loss, tuned. Raises ConfigError for a model that diverged."""
    task, gold = data.task, data.gold["dev"]
    try:
        outputs = task.run(model, data.encoded["dev"], data.labels, device=device)
    except CorruptError:  # not on disk: in fewer steps than the loop skips
        raise ConfigError("after an epoch the model gives NaN or infinity on dev: lower the learning rate") from None
    tuned = task.tune(gold, outputs, data.labels)
    return {"dev": task.metrics(gold, outputs, replace(data.labels, tuned=tuned)), "dev_loss": task.loss(gold, outputs), "tuned": tuned}


def history_of(data: Data, found: dict[str, Any], epoch: int) -> dict[str, Any]:
    """A line of the history: the epoch, dev's headline scores and its loss."""
    scores = {f"dev_{name}": value for name, value in data.task.headlines(found["dev"]).items()}
    return {"epoch": epoch, **scores, "dev_loss": found["dev_loss"]}


def merit(task: Task, state: State) -> tuple[float, float]:
    """What the better of two epochs, or seeds, has more of: the score on dev, and where that is equal a lower loss on dev."""
    return task.score(state["dev"]), -state["dev_loss"]


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights in the processor's memory."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def micro_batches(train: Examples, recipe: Recipe, seed: int, rank: int, ranks: int, step: int) -> list[LabelledBatch]:
    """One process's share of a step: every `ranks`-th example of the batch, cut to the token budget.

    A share with no example is filler that counts for nothing: every process takes part in every step.
    """
    rows = (train.balanced if recipe.balance == "sampling" else train.shuffled)(step, recipe.batch_size, seed)
    mine = rows[rank::ranks]
    if not len(mine):
        return [train.batch(rows[:1]).as_filler()]
    bounds = fill_budget(train.lengths[mine], recipe.micro_tokens)
    return [train.batch(mine[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


@dataclass(frozen=True)
class Trained:
    """The seeds of one task, scored: their states in order and what each answered to the test file, by seed (nothing without one); and of
    the seed that is best on dev its state, its model on the run's device, its data, and what it answered to dev."""

    states: list[State]
    test_outputs: dict[int, Outputs]
    best: State
    model: Head
    data: Data
    dev_outputs: Outputs


def loss_of(seed: int, result: loop.StepResult) -> dict[str, float]:
    """What a tracker is told of a step."""
    return numbers_of({f"seed-{seed}": {"loss": result.losses["loss"], "learning_rate": result.learning_rate}})


def train_seeds(
    start: Start,
    recipe: Recipe,
    of_seed: Mapping[int, Data],
    out: Path,
    accelerator: Accelerator,
    tracker: Tracker | None = None,
    *,
    prefix: str = "",
) -> Trained:
    """Train a model a seed, or take it from its checkpoint in `out`/seeds, where names begin with `prefix`, and score it on the test file;
    the best is that of the most merit."""
    states: list[State] = []
    test_outputs: dict[int, Outputs] = {}
    kept: tuple[State, Head, Data] | None = None
    for number, (seed, data) in enumerate(of_seed.items(), 1):
        task = data.task
        model, absent = start.model(task, len(data.labels.names), seed)
        if not states and any("pooler" in name for name in absent):
            accelerator.print(f"note: {start.name} has no pooler (next-sentence prediction trains it): it starts at random")
        train = partial(train_seed, recipe, data, model, seed, accelerator, tracker, turn_of(seed, number, len(of_seed), prefix))
        with saying_what_is_kept(number - 1, len(of_seed), "seeds"):
            state = resumed(out / "seeds" / f"{prefix}seed-{seed}", model, train, out, accelerator)
        if "test" in data.splits:
            test_outputs[seed] = task.run(model.to(accelerator.device), data.encoded["test"], data.labels, device=accelerator.device)
            state["test"] = task.metrics(data.gold["test"], test_outputs[seed], labels_of(data, state))
        states.append(state)
        if kept is None or merit(task, state) > merit(task, kept[0]):
            kept = state, model, data
        model.cpu()
    assert kept is not None, "a run has a seed"
    best, model, data = kept
    dev_outputs = data.task.run(model.to(accelerator.device), data.encoded["dev"], data.labels, device=accelerator.device)
    return Trained(states, test_outputs, best, model, data, dev_outputs)
