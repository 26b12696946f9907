"""The labelled files of a run: read, checked against train's labels, divided and encoded before anything is trained."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Labelled, Rows, cut_dev
from bertlab.errors import ConfigError, DataError
from bertlab.tasks.choosing import choose
from bertlab.tasks.contract import Gold, Labels, Long, Task
from bertlab.tasks.reading import Columns
from bertlab.tokens.tokenizer import Tokenizer

State = dict[str, Any]  # of one seed: seed, step, epoch, dev, dev_loss, tuned, history, and where there is a test file, test


@dataclass(frozen=True)
class Data:
    """What a run is about: the task, what train's labels are, and by split (train, dev, test) rows as read, their gold, and encoded, at
    most `max_length` tokens a sequence, longer texts by `long`. `files` are those that were read, by `columns`."""

    task: Task
    labels: Labels
    splits: dict[str, Rows]
    gold: dict[str, Gold]
    encoded: dict[str, Examples]
    files: dict[str, str]
    max_length: int
    long: Long
    columns: Columns

    @property
    def of(self) -> str:
        """What the examples are of: "3 classes"."""
        return self.task.of.format(count=len(self.labels.names))

    @property
    def are_pairs(self) -> bool | None:
        """Whether the texts are pairs; None where a task has no single texts."""
        train = self.splits["train"]
        return train.texts_b is not None if isinstance(train, Labelled) else None


def labels_of(data: Data, state: State) -> Labels:
    """What is known of the labels, with what was set on dev for one seed's model."""
    return replace(data.labels, tuned=state["tuned"])


def read_task(
    asked: str,
    files: dict[str, str],
    columns: Columns,
    tokenizer: Tokenizer,
    *,
    dev_share: float,
    max_length: int | None,
    positions: int,
    long: Long | None,
) -> tuple[Data, str]:
    """The data of the task that is asked for ("auto": that the labels look like), and why it is that one.

    At most `max_length` (None: the task's own) and never more than `positions` tokens a sequence; long None is the task's own way.
    Raises ConfigError for what the task has no use for, DataError for columns, labels and pairs that do not agree.
    """
    task, reason, longest, way = chosen_task(asked, files["train"], columns, max_length=max_length, positions=positions, long=long)
    return read_data(task, files, columns, tokenizer, dev_share=dev_share, max_length=longest, long=way), reason


def chosen_task(
    asked: str, train: str, columns: Columns, *, max_length: int | None, positions: int, long: Long | None
) -> tuple[Task, str, int, Long]:
    """The task, why it is that one, most tokens of a sequence, and what becomes of longer texts: of the arguments of `read_task`."""
    task, reason = choose(asked, train, columns)
    if long is not None and long not in task.longs:
        raise ConfigError(f"long={long}: the task is {task.name}, which takes {' or '.join(task.longs)}")
    return task, reason, min(max_length or task.max_length, positions), long or task.longs[0]


def read_data(
    task: Task, files: dict[str, str], columns: Columns, tokenizer: Tokenizer, *, dev_share: float, max_length: int, long: Long
) -> Data:
    """Read and check the files of the splits; without a dev file a share of train becomes dev.

    Raises DataError for columns, labels and pairs that do not agree.
    """
    splits = {"train": task.read(files["train"], columns)}
    labels = task.learn(splits["train"])
    if "dev" in files:
        splits["dev"] = task.read(files["dev"], columns)
    else:
        strata = task.strata(task.gold(splits["train"], labels))
        splits["train"], splits["dev"] = cut_dev(splits["train"], dev_share, strata, task.together(splits["train"]))
    if "test" in files:
        splits["test"] = task.read(files["test"], columns)
    return data_of(task, labels, splits, files, columns, tokenizer, max_length=max_length, long=long)


def data_of(
    task: Task,
    labels: Labels,
    splits: dict[str, Rows],
    files: dict[str, str],
    columns: Columns,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    long: Long,
) -> Data:
    """Rows of splits as the data of a run: held against the labels, and encoded. Raises DataError where they do not agree."""
    for split, rows in splits.items():
        if (getattr(rows, "texts_b", None) is None) != (getattr(splits["train"], "texts_b", None) is None):
            raise DataError(f"{rows.origin}: one of train and {split} has text_b and the other has not: give both the same columns")
    gold = {split: task.gold(rows, labels) for split, rows in splits.items()}
    encoded = {split: task.encode(tokenizer, rows, gold[split], labels, max_length=max_length, long=long) for split, rows in splits.items()}
    return Data(task, labels, splits, gold, encoded, files, max_length, long, columns)


def what_was_cut(examples: Examples) -> dict[str, int]:
    """What of a split the model does not see, or sees in parts: counts by what they are of, where there are any."""
    counts = {
        "truncated": examples.num_truncated,
        "in windows": getattr(examples, "num_windowed", 0),
        "words unseen": int(getattr(examples, "unseen", np.zeros(0)).sum()),
        "answers that no window holds": getattr(examples, "num_unreachable", 0),
    }
    return {name: count for name, count in counts.items() if count}
