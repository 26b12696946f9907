"""Which settings do best on dev: a grid of learning rates, batch sizes and epochs, or some of it drawn by a seed.

Every trial is trained by the function that trains a seed of `bertlab finetune`; dev alone is seen. trials.jsonl has a line a finished
trial, and with the line it is never run again; a trial that was cut off goes on with the seeds that are not finished. On the disk are
the weights of the best trial so far and of the one that runs.

The best of many trials is best by luck too: its score on dev flatters, the more so the more there were and the smaller dev is.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from bertlab.batches.randomness import key, permuted
from bertlab.disk import remove_folder, sweep, write_text
from bertlab.errors import ConfigError, CorruptError
from bertlab.evaluation.metrics import mean_and_deviation
from bertlab.signals import saying_what_is_kept
from bertlab.tasks.contract import Task
from bertlab.tasks.data import Data, State
from bertlab.tasks.recipe import usual_rate
from bertlab.training.runlog import plain

TRIALS = "trials.jsonl"
Values = dict[str, tuple[Any, ...]]
# Devlin et al. 2018, A.3, for base and large
PAPER: Values = {"learning_rate": (5e-5, 3e-5, 2e-5), "batch_size": (16, 32), "epochs": (2, 3, 4)}
# google-research/bert's README, for its models of width 128 to 512
SMALL: Values = {"learning_rate": (3e-4, 1e-4, 5e-5, 3e-5), "batch_size": (8, 16, 32, 64, 128), "epochs": (4,)}


@dataclass(frozen=True)
class Settings:
    """What a trial tries."""

    learning_rate: float
    batch_size: int
    epochs: int


def usual_values(hidden_size: int) -> Values:
    """The grid of the model's size, and the rate that finetune takes for it where the grid does not have it."""
    values = SMALL if hidden_size <= 512 else PAPER
    usual, rates = usual_rate(hidden_size), values["learning_rate"]
    return values | {"learning_rate": rates if usual in rates else (usual, *rates)}


def settings_of(values: Values, trials: int | None, seed: int) -> list[Settings]:
    """Every combination of the values in their order; or `trials` of them, all different, drawn by `seed`.

    Fewer are the beginning of more. Raises ConfigError for more trials than there are combinations.
    """
    grid = [Settings(*each) for each in product(values["learning_rate"], values["batch_size"], values["epochs"])]
    if trials is None:
        return grid
    if trials > len(grid):
        raise ConfigError(f"trials={trials}: the grid has {len(grid)} combinations: give fewer, or more values")
    return [grid[place] for place in permuted(np.arange(trials), len(grid), key(seed)).tolist()]


def without_test(data: Data) -> Data:
    """What trials are handed: choosing cannot see what is not there."""

    def seen(splits: dict[str, Any]) -> dict[str, Any]:
        return {split: value for split, value in splits.items() if split != "test"}

    return replace(data, splits=seen(data.splits), gold=seen(data.gold), encoded=seen(data.encoded))


def search(
    task: Task, settings: Sequence[Settings], train: Callable[[int], list[State]], out: Path, accelerator: Accelerator
) -> list[dict[str, Any]]:
    """Run the trials that `out`/trials.jsonl does not have yet, and say of each what came of it; returns all lines of that file.

    `train` takes a trial's number, from 1 on, and returns the states of its seeds. A trial that diverges is a line with `failed`, the
    reason. Every process takes part, and the first writes. Raises CorruptError for a file that is none of ours.
    """
    is_main = accelerator.is_main_process
    lines = _read(out / TRIALS, settings)
    accelerator.wait_for_everyone()  # all have read the same
    weights = out / "seeds"
    if is_main:
        sweep(weights)
        _forget_all_but_the_best(lines, weights)
    accelerator.wait_for_everyone()
    for number, chosen in list(enumerate(settings, 1))[len(lines) :]:
        try:
            with saying_what_is_kept(number - 1, len(settings), "trials"):
                found = _summary(task, train(number))
        except ConfigError as error:  # the loop's: weights that give no finite gradient any more (data was checked before)
            found = {"score": None, "failed": str(error)}
        lines.append(plain({"trial": number} | asdict(chosen) | found))
        if is_main:
            write_text(out / TRIALS, "".join(json.dumps(line) + "\n" for line in lines))
            _forget_all_but_the_best(lines, weights)
        shown = (
            "failed: " + found["failed"] if "failed" in found else f"dev {next(iter(task.scores)).replace('_', '-')} {found['score']:.3f}"
        )
        of = ", ".join(f"{name} {value:g}" for name, value in asdict(chosen).items())
        accelerator.print(f"trial {number} of {len(settings)}: {of}: {shown}", flush=True)
    accelerator.wait_for_everyone()
    return lines


def best_trial(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The trial of the highest mean score on dev, of equals the one of lower mean loss, of equals the first.

    Raises ConfigError when every one failed.
    """
    finished = [line for line in lines if line["score"] is not None]
    if not finished:
        raise ConfigError(f"all {len(lines)} trials failed, the last: {lines[-1]['failed']}")
    return max(finished, key=lambda line: (line["score"], -_or_infinite(line["dev_loss"]), -line["trial"]))


def among(lines: Sequence[dict[str, Any]], winner: dict[str, Any], low: float | None) -> dict[str, Any]:
    """How the winner stands among all: `failed` how many diverged, `mean` and `sd` of the others' scores and its own, and `reaching`, how
    many others reach into its interval, which begins at `low` (None: there is none)."""
    scores = [line["score"] for line in lines if line["score"] is not None]
    others = [line["score"] for line in lines if line["score"] is not None and line["trial"] != winner["trial"]]
    reaching = None if low is None else sum(score >= low for score in others)
    return {"failed": len(lines) - len(scores)} | mean_and_deviation(scores) | {"reaching": reaching}


def prefix_of(number: int) -> str:
    """How the checkpoints of a trial's seeds are called, before the seed."""
    return f"trial-{number:04}-"


def _summary(task: Task, states: Sequence[State]) -> dict[str, Any]:
    scores = [task.score(state["dev"]) for state in states]
    spread = mean_and_deviation(scores)
    of_seeds = [
        {"seed": state["seed"], "epoch": state["epoch"], "score": score, "dev_loss": state["dev_loss"]}
        for state, score in zip(states, scores, strict=True)
    ]
    losses = [state["dev_loss"] for state in states]
    return {"score": spread["mean"], "sd": spread["sd"], "dev_loss": float(np.mean(losses)), "seeds": of_seeds}


def _read(path: Path, settings: Sequence[Settings]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        tried = [Settings(*(line[name] for name in Settings.__dataclass_fields__)) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError):
        tried = None
    if tried is None or tried != list(settings[: len(tried)]):
        raise CorruptError(f"{path} is not the table that this search writes: choose another --out")
    return lines


def _forget_all_but_the_best(lines: Sequence[dict[str, Any]], weights: Path) -> None:
    """Take away the weights of finished trials that are not the best so far."""
    if not any(line["score"] is not None for line in lines):
        return
    best = best_trial(lines)["trial"]
    for line in lines:
        if line["trial"] != best:
            for folder in weights.glob(f"{prefix_of(line['trial'])}*"):
                remove_folder(folder)


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value
