"""The kind of task: what the labels look like, unless one is named; and what a folder was fine-tuned for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.errors import ConfigError, DataError
from bertlab.tasks.choosing import TASKS, choose, of_folder
from bertlab.tasks.reading import Columns

COLUMNS = Columns(None, None, None, None)


@pytest.mark.parametrize(
    ("labels", "task", "reason"),
    [
        (["a", "b"], "single-label", "one label a row"),
        ([1, 2, 3], "single-label", "one label a row"),  # whole numbers name classes as often as they count
        ([0.0, 1.0], "single-label", "one label a row"),
        (["0.5", "b"], "single-label", "one label a row"),
        ([0.0, 0.4, 1], "regression", "labels are numbers, and not all whole (as 0.4)"),
        (["-1.5", "2"], "regression", "(as -1.5)"),
        ([["a"], ["a", "b"]], "multi-label", "labels are lists"),
        ([[], "a"], "multi-label", "labels are lists"),
    ],
)
def test_the_labels_of_train_say_what_the_task_is(
    write: Callable[..., str], tmp_path: Path, labels: list[Any], task: str, reason: str
) -> None:
    train = write(tmp_path / "t.jsonl", [{"text": "a", "label": label} for label in labels])
    found, why = choose("auto", train, COLUMNS)
    assert found is TASKS[task] and reason in why


def test_columns_by_other_names_are_of_texts_unless_they_hold_lists(write: Callable[..., str], tmp_path: Path) -> None:
    rows = [
        {"said": "a", "to": "b", "kind": kind, "said so": ["a"], "tagged": ["O"], "replies": [{"text": "a", "start": 0}]} for kind in "xy"
    ]
    train = write(tmp_path / "t.jsonl", rows)
    for columns, task in (
        (Columns("said", None, "kind", None), "single-label"),
        (Columns("said", "to", "kind", None), "single-label"),
        (Columns("said", None, "tagged", None), "multi-label"),
        (Columns("said so", None, "tagged", None), "tokens"),
        (Columns("said", "to", "replies", None), "answers"),
    ):
        assert choose("auto", train, columns)[0] is TASKS[task]


def labels_of(rows: Any) -> Any:
    return rows.labels


def test_pairs_with_a_score_are_a_regression_and_read_as_one(write: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"text": "a", "text_b": "b", "score": score} for score in (0.5, 4)]
    train = write(tmp_path / "t.jsonl", rows)
    task, why = choose("auto", train, COLUMNS)
    assert task is TASKS["regression"] and "(as 0.5)" in why and labels_of(task.read(train, COLUMNS)) == ["0.5", "4"]
    both = write(tmp_path / "both.jsonl", [row | {"label": 1} for row in rows])
    with pytest.raises(DataError, match="columns 'score' and 'label' are both here"):
        task.read(both, COLUMNS)
    assert labels_of(TASKS["single-label"].read(both, COLUMNS)) == ["1", "1"]


def test_a_task_that_is_named_is_taken_and_a_separator_means_sets(write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [{"text": "a", "label": label} for label in (1, 2)])
    for name, task in TASKS.items():
        assert choose(name, train, COLUMNS) == (task, "as asked")
    separated = Columns("text", None, "label", "|")
    assert choose("auto", train, separated) == (TASKS["multi-label"], "labels are separated by '|'")
    with pytest.raises(ConfigError, match="label_separator is for several labels"):
        choose("regression", train, separated)


def test_columns_that_mark_labels_mean_sets(write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [{"text": "a", "x": 1, "y": 0}, {"text": "b", "x": 0, "y": 1}])
    marked = Columns(None, None, None, None, label_columns=("x", "y"))
    task, why = choose("auto", train, marked)
    assert task is TASKS["multi-label"] and why == "a column of 0 and 1 is a label" and marked.named() == {"label_columns": ["x", "y"]}
    read: Any = task.read(train, marked)
    assert read.label_sets == [("x",), ("y",)]
    with pytest.raises(ConfigError, match="label_columns is for several labels a text, and the task is single-label"):
        choose("single-label", train, marked)
    for label, separator in (("z", None), (None, "|")):
        with pytest.raises(ConfigError, match="label_columns have the labels: leave label and label_separator out"):
            Columns(None, None, label, separator, label_columns=("x",))


def test_numbers_with_commas_are_not_taken_for_classes(write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [{"text": "a", "label": label} for label in ("0,5", "1", "0,25")])
    with pytest.raises(DataError, match="labels are numbers with a comma, as 0,5: write points instead"):
        choose("auto", train, COLUMNS)
    assert choose("single-label", train, COLUMNS)[0] is TASKS["single-label"]
    mixed = write(tmp_path / "m.jsonl", [{"text": "a", "label": label} for label in ("0,5", "x")])
    assert choose("auto", mixed, COLUMNS)[0] is TASKS["single-label"]


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, "single-label"),
        ({"id2label": {"0": "LABEL_0"}}, "regression"),
        ({"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}, "multi-label"),
        ({"id2label": {"0": "a", "1": "b"}, "problem_type": "single_label_classification"}, "single-label"),
    ],
)
def test_a_folder_says_what_it_is_for_as_transformers_reads_it(tmp_path: Path, values: dict[str, Any], task: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]} | values))
    found, labels = of_folder(str(tmp_path))
    assert found is TASKS[task] and labels.names == list(values["id2label"].values()) and (labels.centre, labels.scale) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id2label": {"0": "a", "1": "b"}, "problem_type": "regression"}, "a model of 2 numbers a text"),
        ({"problem_type": "ranking"}, "the problem_type 'ranking', which is none of"),
    ],
)
def test_a_folder_for_what_is_not_known_here_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]} | values))
    with pytest.raises(ConfigError, match=message):
        of_folder(str(tmp_path))
