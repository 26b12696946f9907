"""Few examples: K a class to learn from, drawn anew by every seed, and K others a class to choose by.

Dev has as many examples as train and no more: who has eight labels a class has no hundreds more to choose by, and a score that was chosen
on them is not a score of eight (Perez et al. 2021; as large a dev split as train is Gao et al. 2021's). All seeds have the same dev, so
that the best of them is chosen by the same questions. Without a dev file it is drawn from train too. Nothing else of train is learnt from.

Where a text has any number of labels, every label has K texts at least: the rarest label draws first, and a later one draws as many as the
texts drawn before it lack. A common label can have many more than K, which `of_labels` counts. Texts without any label are one kind more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertlab.corpus.identity import ranked
from bertlab.corpus.labelled import Rows
from bertlab.errors import ConfigError, DataError
from bertlab.tasks.contract import Gold
from bertlab.tasks.data import Data, data_of
from bertlab.tokens.tokenizer import Tokenizer

STEPS = 1_000  # Gao et al. 2021; an epoch of a few examples is a step or two, and twenty of those teach nothing


@dataclass(frozen=True)
class Shots:
    """The data of every seed, and all that any of them learns from as the train of `drawn`."""

    of_each_class: int
    of_seed: dict[int, Data]
    drawn: Data

    @property
    def first(self) -> Data:
        return next(iter(self.of_seed.values()))

    def as_json(self) -> dict[str, Any]:
        """Which rows were drawn, by their ids; of sets of labels also how many texts each label has, which may be more than were asked."""
        trains = {str(seed): data.splits["train"].ids for seed, data in self.of_seed.items()}
        facts = {"of_each_class": self.of_each_class, "dev": self.first.splits["dev"].ids, "train": trains}
        if self.drawn.task.exclusive:
            return facts
        of_trains = {str(seed): _of_labels(data, "train") for seed, data in self.of_seed.items()}
        return facts | {"of_labels": {"dev": _of_labels(self.first, "dev"), "train": of_trains}}


def draw(data: Data, shots: int, seeds: Sequence[int], tokenizer: Tokenizer) -> Shots:
    """`shots` examples a class of train for each seed, and as many of dev (or, without a dev file, others of train) for all.

    Which ones follows from the seed (of dev the first one) and hashes of the texts. A text is drawn once, though rows repeat it. Of sets as
    many without a label too, if train has enough of these. Raises ConfigError for a task without classes, DataError for a class with too
    few texts.
    """
    if data.task.exclusive is None:
        raise ConfigError(f"shots={shots}: the task is {data.task.name}, and shots are examples of a class: leave it out")
    train, names = data.splits["train"], data.labels.names
    pools = _by_class(train, data.gold["train"], len(names))
    from_train = "dev" not in data.files
    needed = 2 * shots if from_train else shots
    if len(pools) > len(names) and len(pools[-1]) < needed:
        del pools[-1]
    dev = train if from_train else data.splits["dev"]
    of_dev = pools if from_train else _by_class(dev, data.gold["dev"], len(names))[: len(pools)]
    short = next((number for number, pool in enumerate(pools) if len(pool) < needed), None)
    if short is not None:
        why = "half to learn from, half to choose by" if from_train else "to learn from"
        raise DataError(f"{train.origin}: class {names[short]!r} has {len(pools[short])} texts, and shots={shots} wants {needed}: {why}")
    taken = _drawn(of_dev, shots, f"dev shots {seeds[0]}")  # of a dev file too: a text that is in both is not learnt
    dev_rows = sorted(taken.values())
    left = [{text: row for text, row in pool.items() if text not in taken} for pool in pools]
    short = next((number for number in range(len(names)) if len(left[number]) < shots), None)
    if short is not None:
        raise DataError(
            f"{train.origin}: of the texts of class {names[short]!r} dev leaves {len(left[short])}, and shots={shots} wants {shots}"
        )
    of_seed, union = {}, set()
    for seed in seeds:
        rows = sorted(_drawn(left, shots, f"shots {seed}").values())
        of_seed[seed] = _with(data, {"train": train.subset(rows), "dev": dev.subset(dev_rows)}, tokenizer)
        union.update(rows)
    first = of_seed[seeds[0]]
    return Shots(shots, of_seed, replace(first, splits=first.splits | {"train": train.subset(sorted(union))}))


def epochs_of_shots(examples: int, batch_size: int) -> int:
    """As many as STEPS steps are."""
    return -(-STEPS // -(-examples // batch_size))


def _by_class(rows: Rows, gold: Gold, classes: int) -> list[dict[str, int]]:
    """Of each class the first row of each of its texts, and of sets last of those without a label. What a later row says of the same text
    does not count."""
    sets = isinstance(gold, np.ndarray)
    known: set[str] = set()
    pools: list[dict[str, int]] = [{} for _ in range(classes + sets)]
    for row, (text, its) in enumerate(zip(rows.text_hashes(), gold, strict=True)):
        if text not in known:
            known.add(text)
            for number in (np.flatnonzero(its).tolist() or [classes]) if sets else [its]:
                pools[number][text] = row
    return pools


def _drawn(pools: Sequence[dict[str, int]], shots: int, purpose: str) -> dict[str, int]:
    """Texts and their rows: of each class `shots`, or all where it has fewer. The rarest draws first, others what it leaves to draw."""
    drawn: dict[str, int] = {}
    for pool in sorted(pools, key=len):
        free = [text for text in pool if text not in drawn]
        already = len(pool) - len(free)
        drawn |= {text: pool[text] for text in ranked(free, purpose)[: max(0, shots - already)]}
    return drawn


def _of_labels(data: Data, split: str) -> dict[str, int]:
    return dict(zip(data.labels.names, np.asarray(data.gold[split]).sum(0).tolist(), strict=True))


def _with(data: Data, splits: dict[str, Rows], tokenizer: Tokenizer) -> Data:
    """The data with these splits instead of its own, and its test."""
    few = data_of(data.task, data.labels, splits, data.files, data.columns, tokenizer, max_length=data.max_length, long=data.long)
    if "test" not in data.splits:
        return few
    test = {name: getattr(data, name)["test"] for name in ("splits", "gold", "encoded")}
    return replace(few, **{name: getattr(few, name) | {"test": value} for name, value in test.items()})
