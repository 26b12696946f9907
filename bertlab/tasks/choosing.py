"""Which kind of task a labelled file, or a model folder, is of."""

from typing import Any

from bertlab.corpus.labels import has_decimal_comma, number_of
from bertlab.errors import ConfigError, DataError
from bertlab.model.facts import load_config, load_facts, load_labels
from bertlab.tasks.answers import ANSWERS
from bertlab.tasks.contract import Labels, Task
from bertlab.tasks.multi_label import MULTI_LABEL
from bertlab.tasks.reading import Columns, form_of, read_texts
from bertlab.tasks.regression import REGRESSION
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.tasks.tokens import TOKENS

TASKS = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION, TOKENS, ANSWERS)}


def choose(asked: str, train: str, columns: Columns) -> tuple[Task, str]:
    """The task that is asked for, or with "auto" the one that the labels of train look like; and the reason in a few words.

    Raises ConfigError for a separator that the task has no use for, DataError for a file that cannot be read.
    """
    task, reason = (TASKS[asked], "as asked") if asked != "auto" else _guess(train, columns)
    if columns.are_of_sets and task is not MULTI_LABEL:
        setting = "label_columns" if columns.label_columns else "label_separator"
        raise ConfigError(f"{setting} is for several labels a text, and the task is {task.name}: leave it out, or --task multi-label")
    return task, reason


def _guess(train: str, columns: Columns) -> tuple[Task, str]:
    if columns.label_separator is not None:
        return MULTI_LABEL, f"labels are separated by '{columns.label_separator}'"
    if columns.label_columns:
        return MULTI_LABEL, "a column of 0 and 1 is a label"
    form, reason = form_of(train, columns)
    if form != "texts":
        return {"tokens": TOKENS, "answers": ANSWERS}[form], reason
    rows = read_texts(train, columns, sets=True)
    if rows.label_sets is not None:
        return MULTI_LABEL, "labels are lists"
    values = [number_of(label) for label in rows.labels or ()]
    fraction = next((value for value in values if value is not None and value != int(value)), None)
    if fraction is not None and None not in values:
        return REGRESSION, f"labels are numbers, and not all whole (as {fraction:g})"
    comma = next((label for label in rows.labels or () if has_decimal_comma(label)), None)
    if comma is not None and all(
        value is not None or has_decimal_comma(label) for label, value in zip(rows.labels or (), values, strict=True)
    ):
        raise DataError(
            f"{train}: labels are numbers with a comma, as {comma}: write points instead (pandas: read_csv(FILE, decimal=',')), give "
            "--label-separator ',' if a text has several labels, or --task single-label if each is the name of a class"
        )
    return SINGLE_LABEL, "one label a row"


def of_folder(folder: str) -> tuple[Task, Labels]:
    """The task that a fine-tuned model folder, ours or a published one, is for, and its labels. Raises ConfigError when it is for none."""
    values = load_config(folder)
    head, kind = (values.get("architectures") or [""])[0], values.get("problem_type")
    if head == ANSWERS.head.__name__:
        return ANSWERS, Labels(["start", "end"], tuned=_tuned(folder))
    names = load_labels(folder)
    if head == SINGLE_LABEL.head.__name__ and kind is None:  # what transformers takes for granted
        kind = REGRESSION.problem_type if len(names) == 1 else SINGLE_LABEL.problem_type
    of_head = [task for task in TASKS.values() if task.head.__name__ == head]
    found = next((task for task in of_head if task.problem_type in (None, kind)), None)
    if found is None:
        raise ConfigError(f"{folder}: its config.json has the problem_type {kind!r}, which is none of {', '.join(TASKS)}")
    if found is REGRESSION and len(names) != 1:
        raise ConfigError(f"{folder}: a model of {len(names)} numbers a text: only one is known here")
    return found, Labels(names, tuned=_tuned(folder))


def _tuned(folder: str) -> dict[str, Any]:
    return load_facts(folder).get("tuned") or {}
