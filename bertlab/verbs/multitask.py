"""bertlab multitask: a BERT and several labelled tasks -> one encoder trained on all of them, a head and a model folder each.

    bertlab multitask --model DIR --tasks emotions.yaml topics.yaml --out RUN

A task is a YAML file: `train: FILE`, and where they are wanted dev, test, text, text_b, label, label_separator, label_columns,
task, max_length, long, as in `bertlab finetune`; its name is the file's. RUN/NAME holds what a fine-tuning of that task alone would, and
RUN/NAME/alone the same task trained alone by the same settings, so that what sharing was worth stands beside it.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import BertlabError, ConfigError
from bertlab.tasks.reading import Columns
from bertlab.tasks.recipe import fitted, rate_of, recipe_of
from bertlab.tasks.settings import FineTuning

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data
    from bertlab.tasks.start import Start

FREE = {"out", "model", "tasks", "processes", "workers", "track"}  # may differ when a run goes on


@dataclass(frozen=True, kw_only=True)
class TaskFile(Dialect):
    """One task, as its YAML file says."""

    train: str
    dev: str | None = None
    test: str | None = None
    text: str | None = None
    text_b: str | None = None
    label: str | None = None
    label_separator: str | None = None
    label_columns: tuple[str, ...] = ()
    task: Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"] = "auto"
    max_length: int | None = None
    long: Literal["head", "tail", "head+tail", "windows"] | None = None

    @property
    def files(self) -> dict[str, str]:
        """The labelled files by split, those that were given."""
        return {split: file for split in ("train", "dev", "test") if (file := getattr(self, split)) is not None}

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.text_b, self.label, self.label_separator, dialect=self.dialect, label_columns=self.label_columns)


@dataclass(frozen=True, kw_only=True)
class Config(FineTuning):
    tasks: tuple[str, ...]
    """Two or more YAML files, one a task, which is named by its file: train, dev, test, text, text_b, label, label_separator,
    label_columns, task, max_length, long, separator, encoding."""
    sampling: Literal["proportional", "square-root", "uniform"] = "square-root"
    """How often a step is of a task: by the number of its training examples, by its root, or all alike."""
    alone: bool = True
    """Also train each task alone, by the same settings, and report both."""
    seeds: int = 3
    """Runs with different seeds: order, heads and dropout differ."""
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    """Also send losses and dev scores of the tasks together to this tracker, which must be installed; report.html is always written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tasks) < 2:
            raise ConfigError(f"tasks={', '.join(self.tasks)}: name two YAML files or more (for one task: bertlab finetune)")
        if self.seeds < 1:
            raise ConfigError(f"seeds={self.seeds}: give 1 or more")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and first rows."""
    from bertlab.tasks.first_look import look_at_model, look_at_splits
    from bertlab.training.runlog import agree_with_config

    out = Path(config.out)
    agree_with_config(config, out, FREE)
    if not (out / "metrics.json").is_file():
        look_at_model(config)
        for name, task in task_files(config).items():
            with _naming(name):
                look_at_splits(task.task, task.files.values(), task.columns)


def run(config: Config) -> dict[str, Any]:
    """Train all seeds, write a folder for each task and RUN/metrics.json; returns the metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    look(config)

    from bertlab.disk import read_json
    from bertlab.pages.report import report_on
    from bertlab.training import processes
    from bertlab.training.runlog import refuse_other_inputs, run_folder

    accelerator = processes.start(config.processes, config.device, all_parts=False)
    with run_folder(config, accelerator, FREE) as out:
        if (out / "metrics.json").is_file():
            refuse_other_inputs(config, out, files_of(config) | {"model": config.model})
            accelerator.print(f"{out} is finished: nothing to do")
            if accelerator.is_main_process:
                report_on(out, anew=False)
            return read_json(out / "metrics.json")
        return _train(config, out, accelerator)


def task_files(config: Config) -> dict[str, TaskFile]:
    """The tasks by name. Raises ConfigError for a file that is none, and for names that are no names or the same."""
    import re

    from bertlab.config import load

    found: dict[str, TaskFile] = {}
    for path in config.tasks:
        name = Path(path).stem
        if not re.fullmatch(r"[\w-]+", name) or name == "seeds":
            raise ConfigError(f"{path}: a task is named by its file, and {name!r} is no name for a folder: use letters, digits, - and _")
        if name in found:
            raise ConfigError(f"{path}: two tasks are called {name!r}: rename one file")
        found[name] = load(TaskFile, [path])
    return found


def files_of(config: Config) -> dict[str, str | None]:
    """The labelled files by what inputs.json calls them; none where a file of a task is gone."""
    tasks = task_files(config) if all(Path(path).is_file() for path in config.tasks) else {}
    return {f"{name} {split} file": getattr(task, split) for name, task in tasks.items() for split in ("train", "dev", "test")}


def _read(config: Config, start: "Start") -> dict[str, tuple["Data", str]]:
    """The data of every task, and why it is of its kind. Raises ConfigError and DataError with the task's name."""
    from bertlab.tasks.data import read_task

    found = {}
    for name, task in task_files(config).items():
        sizes: dict[str, Any] = {"dev_share": config.dev_share, "max_length": task.max_length, "long": task.long}
        positions = start.encoder.max_position_embeddings
        with _naming(name):
            found[name] = read_task(task.task, task.files, task.columns, start.tokenizer, positions=positions, **sizes)
            start.refuse_pairs(found[name][0])
    return found


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """What is wrong with a task's files is said with its name."""
    try:
        yield
    except BertlabError as error:
        raise type(error)(f"task {task}: {error}") from None


def _train(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.config import to_dict
    from bertlab.disk import remove_folder, write_json
    from bertlab.pages.report import report_on
    from bertlab.pages.results import result_files, save_best, start_line, training_line, write_results
    from bertlab.signals import saying_what_is_kept
    from bertlab.tasks.measures import leaks_of
    from bertlab.tasks.seeds import train_seeds
    from bertlab.tasks.start import open_start
    from bertlab.tasks.together import epochs_together, train_seeds_together
    from bertlab.training import tracking
    from bertlab.training.runlog import remember_inputs

    start = open_start(config)
    read = _read(config, start)
    data = {name: each for name, (each, _) in read.items()}
    width = start.encoder.hidden_size
    epochs, because = epochs_together(recipe_of(config), data, width)
    recipe = replace(recipe_of(config), epochs=epochs)  # for a task alone too
    leaks: dict[str, Any] = {}
    tracker = None
    if accelerator.is_main_process:
        files = {f"{name} {split}": file for name, each in data.items() for split, file in each.files.items()}
        remember_inputs(config, out, start.inputs(files))
        leaks = {name: leaks_of(each) for name, each in data.items()}
        opened = [start_line(start), *_opening(config, epochs, read, leaks), training_line(recipe, epochs, because, width)]
        print("\n".join(opened), flush=True)
        tracker = tracking.start(config.track, out, to_dict(config))

    seeds = range(config.seed, config.seed + config.seeds)
    states, trained = train_seeds_together(start, recipe, data, seeds, config.sampling, out, accelerator, tracker)
    if tracker:
        tracker.finish()
    alone = {}
    for number, (name, each) in enumerate(data.items() if config.alone else (), 1):
        of_seed = dict.fromkeys(seeds, each)
        with saying_what_is_kept(number, len(data) + 1, "trainings (of all tasks together, then of each alone)"):
            alone[name] = train_seeds(start, fitted(recipe, each.task), of_seed, out, accelerator, prefix=f"{name}-alone-")
    if not accelerator.is_main_process:
        return {}

    best = max(states, key=lambda state: state["mean_score"])
    rate, _ = rate_of(recipe, width)
    metrics: dict[str, Any] = {"sampling": config.sampling, "learning_rate": rate, "best_seed": best["seed"], "seeds": states}
    metrics["tasks"] = {}
    for name, its in trained.items():
        if (out / name / "model").is_dir():  # of a call that was cut off after it: the same is written again, and bound to the same
            remove_folder(out / name / "model")
        found = write_results(out / name, its, baselines=config.baselines, known={"leakage": leaks[name], "learning_rate": rate})
        others = {"together_with": [other for other in data if other != name], "sampling": config.sampling}
        place = out / name / "alone"  # metrics and predictions, and no model: they are bound by the one that learnt together
        by_itself = {"alone": write_results(place, alone[name], baselines=False, known={})} if name in alone else {}
        bound = [f"alone/{file}" for its_own in by_itself.values() for file in result_files(place, its_own)]
        save_best(out / name, its, start, found, out, further=others, files=bound)
        metrics["tasks"][name] = found | by_itself
    write_json(out / "metrics.json", metrics)
    report_on(out)
    print(_summary(out, data, metrics), flush=True)
    return metrics


def _opening(config: Config, epochs: int, tasks: dict[str, tuple["Data", str]], leaks: dict[str, Any]) -> list[str]:
    """What is said before training: of each task its share of the steps, and what finetune says."""
    from bertlab.pages.results import opening
    from bertlab.tasks.together import schedule, steps_of

    data = {name: each for name, (each, _) in tasks.items()}
    sizes = {name: len(each.encoded["train"]) for name, each in data.items()}
    plan = schedule(sizes, config.sampling, epochs * steps_of(data, config), config.seed)
    lines = []
    for name, (each, reason) in tasks.items():
        share = sum(which == name for which, _ in plan)
        lines += [f"--- {name}: {share:,} of {len(plan):,} steps ({config.sampling})", *opening(each, reason, leaks[name])]
    return lines


def _summary(out: Path, data: dict[str, "Data"], metrics: dict[str, Any]) -> str:
    """A line a task: together and alone, on test where there is one, as means over seeds."""
    from bertlab.evaluation.metrics import mean_and_deviation
    from bertlab.pages.results import failed_lines, verdict_lines
    from bertlab.pages.screen import metric_words, table

    rows = []
    for name, each in data.items():
        found, first = metrics["tasks"][name], next(iter(each.task.scores))
        split = "test" if "test" in each.splits else "dev"

        def shown(states: list[dict[str, Any]], task: Any = each.task, split: str = split) -> tuple[float, str]:
            spread = mean_and_deviation([task.score(state[split]) for state in states])
            assert spread["mean"] is not None
            return spread["mean"], f"{spread['mean']:.3f}" + ("" if spread["sd"] is None else f" (sd {spread['sd']:.3f})")

        together = shown(found["seeds"])
        alone = shown(found["alone"]["seeds"]) if "alone" in found else None
        difference = f"{together[0] - alone[0]:+.3f}" if alone else "-"
        rows.append([name, split, metric_words(first), together[1], alone[1] if alone else "-", difference])
    lines = [table(["task", "split", "metric", "together", "alone", "gain"], rows)]
    for name, each in data.items():
        lines += [f"{name}: {' '.join(line.split())}" for line in verdict_lines(metrics["tasks"][name])]
        lines += [f"{name}: {line}" for line in failed_lines(each.task, metrics["tasks"][name])]
        lines += [f"{name} alone: {line}" for line in failed_lines(each.task, metrics["tasks"][name].get("alone") or {"seeds": []})]
    if "alone" in metrics["tasks"][next(iter(data))]:
        lines.append("gain       of a task trained together with the others over it alone")
        tested = [name for name, each in data.items() if "test" in each.splits]
        lines += ["           is it more than chance?"] * bool(tested)
        runs = ((f"together:{out}/{name}/predictions", f"alone:{out}/{name}/alone/predictions") for name in tested)
        lines += [f"           bertlab compare --runs {shlex.join(each)}" for each in runs]
    return "\n".join([*lines, f"models     {out}/NAME/model", f"report     {out / 'report.html'}"])
