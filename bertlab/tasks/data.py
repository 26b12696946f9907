"""The labelled files of a run: read, checked against train's labels, divided and encoded before anything is trained."""

from dataclasses import dataclass

import numpy as np

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Labelled, Rows, cut_dev
from bertlab.errors import DataError
from bertlab.tasks.contract import Columns, Gold, Labels, Long, Task
from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Data:
    """What a run is about: the task, what train's labels are, and by split (train, dev, test) rows as read, their gold, and encoded."""

    task: Task
    labels: Labels
    splits: dict[str, Rows]
    gold: dict[str, Gold]
    encoded: dict[str, Examples]

    @property
    def of(self) -> str:
        """What the examples are of: "3 classes"."""
        return self.task.of.format(count=len(self.labels.names))

    @property
    def are_pairs(self) -> bool | None:
        """Whether the texts are pairs; None where a task has no single texts."""
        train = self.splits["train"]
        return train.texts_b is not None if isinstance(train, Labelled) else None


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
    for split, rows in splits.items():
        if (getattr(rows, "texts_b", None) is None) != (getattr(splits["train"], "texts_b", None) is None):
            raise DataError(f"{rows.origin}: one of train and {split} has text_b and the other has not: give both the same columns")
    gold = {split: task.gold(rows, labels) for split, rows in splits.items()}
    encoded = {split: task.encode(tokenizer, rows, gold[split], labels, max_length=max_length, long=long) for split, rows in splits.items()}
    return Data(task, labels, splits, gold, encoded)


def what_was_cut(examples: Examples) -> dict[str, int]:
    """What of a split the model does not see, or sees in parts: counts by what they are of, where there are any."""
    counts = {
        "truncated": examples.num_truncated,
        "in windows": getattr(examples, "num_windowed", 0),
        "words unseen": int(getattr(examples, "unseen", np.zeros(0)).sum()),
        "answers that no window holds": getattr(examples, "num_unreachable", 0),
    }
    return {name: count for name, count in counts.items() if count}
