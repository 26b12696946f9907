"""What is wrong with a model folder or with the first row of a labelled file, told before torch is imported, which takes seconds.

All of it is found again where the folder is opened and the files are read whole: this only tells it at once.
"""

from collections.abc import Iterable
from pathlib import Path

from bertlab.model.facts import fetch, load_config
from bertlab.tasks.reading import Columns, Form, form_of, read_answers, read_texts, read_tokens
from bertlab.tasks.recipe import refuse_unlearnable
from bertlab.tasks.settings import FineTuning, OneTask
from bertlab.training.runlog import agree_with_config


def look_at_run(config: OneTask, free: set[str], finished: str, files: Iterable[str]) -> None:
    """Raise what a run on one set of files would of its folder, settings, model and first rows. `finished`: what its folder has when it
    is: then model and files may be gone."""
    agree_with_config(config, Path(config.out), free)
    if not (Path(config.out) / finished).exists():
        look_at_model(config)
        look_at_splits(config.task, files, config.columns)


def look_at_model(config: FineTuning) -> None:
    """Raise ConfigError or CorruptError for a model folder that is none, or has too few layers for the recipe."""
    layers = load_config(fetch(config.model)).get("num_hidden_layers")
    if isinstance(layers, int):
        refuse_unlearnable(config, layers)


def look_at(form: Form, file: str, columns: Columns, *, needs_gold: bool = True, scored: bool = False) -> None:
    """Read the first row of a file. Raises what reading all of it would for a file that is not there, or not of the form's columns."""
    if form == "tokens":
        read_tokens(file, columns, needs_gold=needs_gold, most=1)
    elif form == "answers":
        read_answers(file, columns, needs_gold=needs_gold, most=1)
    else:
        read_texts(file, columns, needs_gold=needs_gold, sets=not scored, scored=scored, most=1)


def look_at_splits(asked: str, files: Iterable[str], columns: Columns) -> None:
    """`look_at` for the files of a run, train first; of which form they are is as asked, or what train looks like."""
    files = list(files)
    forms: dict[str, Form] = {"tokens": "tokens", "answers": "answers"}
    guessed = asked == "auto" and not columns.are_of_sets
    form = form_of(files[0], columns)[0] if guessed else forms.get(asked, "texts")
    for file in files:
        look_at(form, file, columns, scored=asked == "regression")
