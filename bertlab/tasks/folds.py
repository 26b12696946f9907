"""K folds of one labelled file: every row is answered by a model that has not seen it, and whose epoch was not chosen by it.

A fold's model learns from the other folds less a dev split, which is cut from them by the rule of every dev split and chooses the epoch.
Equal texts are in one fold (of questions those about one context), and each fold has its share of every class. Knows nothing of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bertlab.corpus.labelled import Rows, cut_dev, folds_of
from bertlab.disk import remove_folder, sweep
from bertlab.tasks.contract import Gold, Labels, Outputs, Task


@dataclass(frozen=True)
class Folds:
    """A file's rows and gold, what is known of its labels, and which fold each row is in: numbers (n,)."""

    task: Task
    rows: Rows
    labels: Labels
    gold: Gold
    numbers: np.ndarray

    def held_out(self, fold: int) -> np.ndarray:
        """The places of the fold's rows, in order."""
        return np.flatnonzero(self.numbers == fold)


def divide(task: Task, rows: Rows, folds: int, seed: int) -> Folds:
    """Raises DataError for labels that are wrong, and for fewer different texts than folds."""
    labels = task.learn(rows)
    gold = task.gold(rows, labels)
    return Folds(task, rows, labels, gold, np.array(folds_of(rows, folds, task.strata(gold), task.together(rows), seed=seed)))


def splits_of(folds: Folds, fold: int, dev_share: float) -> tuple[Labels, dict[str, Rows]]:
    """What the fold's model knows of the labels, and train, dev and (the fold itself) test.

    Names of labels are the whole file's, so that the outputs of all folds mean the same; all else is train's alone. Raises DataError where
    train has too little to learn from.
    """
    task = folds.task
    others = folds.rows.subset(np.flatnonzero(folds.numbers != fold).tolist())
    train, dev = cut_dev(others, dev_share, task.strata(task.gold(others, folds.labels)), task.together(others))
    labels = replace(task.learn(train), names=folds.labels.names)
    return labels, {"train": train, "dev": dev, "test": folds.rows.subset(folds.held_out(fold).tolist())}


def out_of_fold(folds: Folds, outputs: Sequence[Outputs], known: Sequence[Labels]) -> tuple[Outputs, Labels]:
    """The outputs of every fold's model for its fold -> those for all rows in the file's order, and the labels that they are read by."""
    places = np.concatenate([folds.held_out(fold) for fold in range(len(outputs))])
    gathered, tuned = folds.task.gather(outputs, places, known)
    return gathered, replace(folds.labels, tuned=tuned)


def forget_weights(out: Path) -> None:
    """Take the folds' checkpoints away: when every row has its prediction nothing needs them."""
    weights = out / "seeds"
    sweep(weights)
    if weights.is_dir():
        remove_folder(weights)
