"""bertlab multitask: a BERT and several labelled tasks -> one encoder trained on all of them, a head and a model folder each.

    bertlab multitask --model DIR --tasks emotions.yaml topics.yaml --out RUN

A task is a YAML file: `train: FILE`, and where they are wanted dev, test, text, text_b, label, label_separator, task, max_length, long, as
in `bertlab finetune`; its name is the file's. RUN/NAME holds what a fine-tuning of that task alone would, and RUN/NAME/alone the same
task trained alone by the same settings, so that what sharing was worth stands beside it. In one process.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import Recipe, fitted, recipe_of, refuse_unlearnable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data
    from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """One task, as its YAML file says."""

    train: str
    dev: str | None = None
    test: str | None = None
    text: str | None = None
    text_b: str | None = None
    label: str | None = None
    label_separator: str | None = None
    task: Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"] = "auto"
    max_length: int | None = None
    long: Literal["head", "tail", "head+tail", "windows"] | None = None


@dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    model: str
    """The model folder to start from (RUN/model of a pretraining or fine-tuning run, a published BERT, or hf:NAME)."""
    tasks: tuple[str, ...]
    """Two or more YAML files, one a task, which is named by its file: train, dev, test, text, text_b, label, label_separator, task,
    max_length, long."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    sampling: Literal["proportional", "square-root", "uniform"] = "square-root"
    """How often a step is of a task: by the number of its training examples, by its root, or all alike."""
    alone: bool = True
    """Also train each task alone, by the same settings, and report both."""
    dev_share: float = 0.1
    """Share of train that becomes dev where a task has no dev file."""
    from_random: bool = False
    """Start from random weights of the same size."""
    seeds: int = 3
    """Runs with different seeds: order, heads and dropout differ."""
    seed: int = 0
    """The first seed."""
    dropout: float = 0.1
    """On hidden states and before the heads."""
    attention_dropout: float = 0.0
    """On attention weights."""
    baselines: bool = True
    """Also score each test file without a BERT."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tasks) < 2:
            raise ConfigError(f"tasks={', '.join(self.tasks)}: name two YAML files or more (for one task: bertlab finetune)")
        if self.seeds < 1:
            raise ConfigError(f"seeds={self.seeds}: give 1 or more")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1:
            raise ConfigError(f"dev_share={self.dev_share} is a share: give a number between 0 and 1")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give 0 or more, and less than 2,147,483,648")


def run(config: Config) -> dict[str, Any]:
    """Train all seeds, write a folder for each task and RUN/metrics.json; returns the metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    from bertlab.disk import locked, read_json
    from bertlab.training import processes
    from bertlab.training.runlog import agree_with_config

    accelerator = processes.start(None, config.device)
    if accelerator.num_processes > 1:
        raise ConfigError("multitask trains in one process: start it without torchrun")
    out = Path(config.out)
    with locked(out):
        agree_with_config(config, out, free={"out", "model", "tasks", "workers"})
        if (out / "metrics.json").is_file():
            print(f"{out} is finished: nothing to do")
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


def read(config: Config, tokenizer: "Tokenizer", positions: int) -> dict[str, tuple["Data", str]]:
    """The data of every task, and why it is of its kind. Raises ConfigError and DataError with the task's name."""
    from bertlab.errors import BertlabError
    from bertlab.tasks.contract import Columns
    from bertlab.tasks.data import read_task

    found = {}
    for name, task in task_files(config).items():
        files = {split: file for split in ("train", "dev", "test") if (file := getattr(task, split)) is not None}
        columns = Columns(task.text, task.text_b, task.label, task.label_separator)
        sizes: dict[str, Any] = {"dev_share": config.dev_share, "max_length": task.max_length, "positions": positions, "long": task.long}
        try:
            found[name] = read_task(task.task, files, columns, tokenizer, **sizes)
        except BertlabError as error:
            raise type(error)(f"task {name}: {error}") from None
    return found


def _train(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.disk import sha256_file, write_json
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import fetch, load_config, refuse_misfit, weights_sha256
    from bertlab.pages.report import report_on
    from bertlab.pages.results import start_line, training_line, write_results
    from bertlab.tasks.data import labels_of
    from bertlab.tasks.measures import LEARNT, leaks_of, learnt_on_dev
    from bertlab.tasks.seeds import resumed, start_model
    from bertlab.tasks.together import epochs_together, start_together, test_outputs, train_together
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.training.runlog import remember_inputs

    folder = fetch(config.model)
    published = load_config(folder)
    encoder = EncoderConfig.from_published(published, f"{folder}/config.json")
    tokenizer = tokenizers.load(folder)
    refuse_misfit(tokenizer, encoder, folder)
    refuse_unlearnable(config, encoder.num_hidden_layers)
    read_tasks = read(config, tokenizer, encoder.max_position_embeddings)
    data = {name: each for name, (each, _) in read_tasks.items()}
    paired = next((name for name, each in data.items() if each.encoded["train"].are_pairs), None)
    if paired and encoder.type_vocab_size < 2:
        raise ConfigError(f"{folder} knows one segment, and the pairs of {paired} need two: start from another model")
    files = [(f"{name} {split} file", Path(file)) for name, each in data.items() for split, file in each.files.items()]
    inputs: dict[str, str | None] = {what: sha256_file(file) for what, file in files}
    remember_inputs(config, out, inputs | {"model": weights_sha256(folder)})
    epochs, because = epochs_together(recipe_of(config), data, encoder.hidden_size)
    recipe = replace(recipe_of(config), epochs=epochs)  # for a task alone too
    leaks = {name: leaks_of(each) for name, each in data.items()}
    start_from = start_line(config.model, published, config.from_random)
    print("\n".join([start_from, *_opening(config, epochs, read_tasks, leaks), training_line(recipe, epochs, because)]), flush=True)

    start: dict[str, Any] = {"dropout": config.dropout, "attention_dropout": config.attention_dropout, "from_random": config.from_random}
    states: list[dict[str, Any]] = []
    by_task: dict[str, list[dict[str, Any]]] = {name: [] for name in data}
    outputs: dict[str, dict[int, Any]] = {name: {} for name in data}
    for seed in range(config.seed, config.seed + config.seeds):
        model = start_together(data, folder, seed, start)
        train = partial(train_together, recipe, data, model, seed, config.sampling, accelerator)
        state = resumed(out / "seeds" / f"seed-{seed}", model, train, out)
        states.append(state)
        for name, found in state["tasks"].items():
            by_task[name].append({"seed": seed, "step": state["step"], "epoch": state["epoch"]} | found)
        for name, its in test_outputs(model, data, accelerator.device):
            outputs[name][seed] = its
            by_task[name][-1]["test"] = data[name].task.metrics(data[name].gold["test"], its, labels_of(data[name], by_task[name][-1]))

    best = max(states, key=lambda state: state["mean_score"])
    model = start_together(data, folder, best["seed"], start)
    resumed(out / "seeds" / f"seed-{best['seed']}", model, dict, out)
    metrics: dict[str, Any] = {"sampling": config.sampling, "best_seed": best["seed"], "seeds": states, "tasks": {}}
    for name, each in data.items():
        (its_best,) = (state for state in by_task[name] if state["seed"] == best["seed"])
        of_dev = each.task.run(model.to(accelerator.device).model(name), each.encoded["dev"], each.labels, device=accelerator.device)
        known = {"leakage": leaks[name], LEARNT: learnt_on_dev(each.task, each.gold["dev"], of_dev, each.labels)}
        found = write_results(out / name, each, by_task[name], its_best, outputs[name], baselines=config.baselines, known=known)
        single, _ = start_model(each.task, folder, len(each.labels.names), best["seed"], **start)
        model.fill(name, single)
        _save(config, out, name, each, tokenizer, single, found)
        metrics["tasks"][name] = found | ({"alone": _alone(config, recipe, out, folder, name, each, accelerator)} if config.alone else {})
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


def _alone(config: Config, recipe: Recipe, out: Path, folder: str, name: str, data: "Data", accelerator: "Accelerator") -> dict[str, Any]:
    """The same task, settings and seeds without the others: RUN/NAME/alone has metrics and predictions, and no model."""
    from bertlab.pages.results import write_results
    from bertlab.tasks.data import labels_of
    from bertlab.tasks.measures import LEARNT, learnt_on_dev
    from bertlab.tasks.seeds import best_of, resumed, start_model, train_seed

    states, outputs = [], {}
    start: dict[str, Any] = {"dropout": config.dropout, "attention_dropout": config.attention_dropout, "from_random": config.from_random}
    for seed in range(config.seed, config.seed + config.seeds):
        model, _ = start_model(data.task, folder, len(data.labels.names), seed, **start)
        train = partial(train_seed, fitted(recipe, data.task), data, model, seed, accelerator)
        state = resumed(out / "seeds" / f"{name}-alone-seed-{seed}", model, train, out)
        if "test" in data.splits:
            outputs[seed] = data.task.run(model.to(accelerator.device), data.encoded["test"], data.labels, device=accelerator.device)
            state["test"] = data.task.metrics(data.gold["test"], outputs[seed], labels_of(data, state))
        states.append(state)
    best = best_of(data.task, states)
    model, _ = start_model(data.task, folder, len(data.labels.names), best["seed"], **start)
    resumed(out / "seeds" / f"{name}-alone-seed-{best['seed']}", model, dict, out)
    of_dev = data.task.run(model.to(accelerator.device), data.encoded["dev"], data.labels, device=accelerator.device)
    known = {LEARNT: learnt_on_dev(data.task, data.gold["dev"], of_dev, data.labels)}
    return write_results(out / name / "alone", data, states, best, outputs, baselines=False, known=known)


def _save(config: Config, out: Path, name: str, data: "Data", tokenizer: "Tokenizer", model: Any, metrics: dict[str, Any]) -> None:
    from bertlab.model.folder import save_model
    from bertlab.pages.card import classifier_card
    from bertlab.pages.results import facts_of, result_files
    from bertlab.training.runlog import run_files

    data.task.settle(model, data.labels)
    origin = "random weights" if config.from_random else config.model
    facts = facts_of(data, metrics, started_from=origin, tokenizer_sha256=tokenizer.sha256)
    facts |= {"together_with": [Path(path).stem for path in config.tasks if Path(path).stem != name], "sampling": config.sampling}
    save_model(
        out / name / "model",
        model,
        tokenizer,
        facts=facts,
        card=classifier_card(facts, data.labels.names),
        labels=data.labels.names,
        problem_type=data.task.problem_type,
        max_length=data.max_length,
        run=run_files(out, *(f"{name}/{file}" for file in result_files(out / name, metrics))),
    )


def _summary(out: Path, data: dict[str, "Data"], metrics: dict[str, Any]) -> str:
    """A line a task: together and alone, on test where there is one, as means over seeds."""
    from bertlab.evaluation.metrics import mean_and_deviation
    from bertlab.pages.results import failed_lines
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
    lines = [table(["task", "split", "metric", "together", "alone", "difference"], rows)]
    for name, each in data.items():
        lines += [f"{name}: {line}" for line in failed_lines(each.task, metrics["tasks"][name])]
        lines += [f"{name} alone: {line}" for line in failed_lines(each.task, metrics["tasks"][name].get("alone") or {"seeds": []})]
    name = next(iter(data))
    if "alone" in metrics["tasks"][name]:
        lines.append(
            f"is it more than chance?  bertlab compare --runs together:{out}/{name}/predictions alone:{out}/{name}/alone/predictions"
        )
    return "\n".join([*lines, f"models     {out}/NAME/model", f"report     {out / 'report.html'}"])
