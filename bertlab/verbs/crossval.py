"""bertlab crossval: one labelled file, K folds -> a prediction for every row by a model that has not seen it.

    bertlab crossval --model DIR --train FILE --out RUN [--folds 5]

Each fold is scored by a model trained on the others, whose epoch is chosen on a dev split cut from those others: no row has a part in its
own prediction. What is left says how well this recipe does on texts like these, and which labels to look at again; there is no model in
the end (bertlab finetune makes one of all rows). The same command again goes on with the folds that are not finished.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import rate_of, recipe_of, refuse_unfit
from bertlab.tasks.settings import OneTask

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.contract import Task

FREE = {"out", "model", "train", "processes", "workers"}  # may differ when a run goes on


@dataclass(frozen=True, kw_only=True)
class Config(OneTask):
    folds: int = 5
    """Into how many parts the file is divided, by the seed: each class's texts evenly, equal texts together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds < 2:
            raise ConfigError(f"folds={self.folds}: give 2 or more")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and first rows."""
    from bertlab.disk import MANIFEST
    from bertlab.tasks.first_look import look_at_run

    look_at_run(config, FREE, MANIFEST, [config.train])


def run(config: Config) -> dict[str, Any]:
    """Train and score every fold; write RUN/predictions.parquet, metrics.json, mistakes.jsonl, label_errors.jsonl and figures; returns the
    metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    look(config)

    from bertlab.disk import MANIFEST, read_json
    from bertlab.pages.report import report_on
    from bertlab.tasks.folds import forget_weights
    from bertlab.training import processes
    from bertlab.training.runlog import refuse_other_inputs, run_folder

    accelerator = processes.start(config.processes, config.device)
    with run_folder(config, accelerator, FREE) as out:
        if (out / MANIFEST).is_file():
            refuse_other_inputs(config, out, {"train file": config.train, "model": config.model})
            accelerator.print(f"{out} is finished: nothing to do")
            if accelerator.is_main_process:
                forget_weights(out)
                report_on(out, anew=False)
            return read_json(out / "metrics.json")
        return _cross_validate(config, out, accelerator)


def _cross_validate(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.disk import MANIFEST, hash_some, write_json, write_sealed
    from bertlab.pages.evaluation import suspect_lines, weak_lines, write_label_errors, write_mistakes
    from bertlab.pages.figures import write_figures
    from bertlab.pages.report import report_on
    from bertlab.pages.results import alike_lines, headline_words
    from bertlab.signals import saying_what_is_kept
    from bertlab.tasks import measures
    from bertlab.tasks.data import chosen_task, data_of, labels_of
    from bertlab.tasks.folds import divide, forget_weights, out_of_fold, splits_of
    from bertlab.tasks.seeds import Turn, resumed, train_seed
    from bertlab.tasks.start import open_start
    from bertlab.training.runlog import plain, remember_inputs

    start = open_start(config)
    positions = start.encoder.max_position_embeddings
    task, reason, longest, long = chosen_task(
        config.task, config.train, config.columns, max_length=config.max_length, positions=positions, long=config.long
    )
    refuse_unfit(config, task)
    rows = task.read(config.train, config.columns)
    folds = divide(task, rows, config.folds, config.seed)
    splits = [splits_of(folds, fold, config.dev_share) for fold in range(config.folds)]  # all, before any is trained
    inputs = start.inputs({"train": config.train})
    if accelerator.is_main_process:
        remember_inputs(config, out, inputs)
    of = task.of.format(count=len(folds.labels.names))
    rate, why = rate_of(recipe_of(config), start.encoder.hidden_size)
    accelerator.print(f"task  {task.name} ({reason})\ntrain {len(rows):,} examples of {of}, in {config.folds} folds")
    accelerator.print("\n".join([*alike_lines(folds.labels.names), f"learning rate {rate:g} ({why})"]), flush=True)

    states: list[dict[str, Any]] = []
    outputs, known, answers = [], [], []
    for fold, (labels, parts) in enumerate(splits):
        data = data_of(task, labels, parts, {"train": config.train}, config.columns, start.tokenizer, max_length=longest, long=long)
        start.refuse_pairs(data)
        model, _ = start.model(task, len(labels.names), config.seed + fold)
        turn = Turn(f"fold {fold + 1} of {config.folds}", config.folds - fold - 1)
        train = partial(train_seed, recipe_of(config), data, model, config.seed + fold, accelerator, turn=turn)
        with saying_what_is_kept(fold, config.folds, "folds"):
            state = resumed(out / "seeds" / f"fold-{fold}", model, train, out, accelerator)
        outputs.append(task.run(model.to(accelerator.device), data.encoded["test"], labels, device=accelerator.device))
        known.append(labels_of(data, state))
        near = measures.leakage(parts["train"], parts["test"])
        found: dict[str, Any] = {
            "fold": fold,
            "examples": {split: len(its) for split, its in parts.items()},
            "near_copies": near["near"] if near else 0,
        }
        found |= {name: state[name] for name in ("seed", "epoch", "dev", "dev_loss")}
        found["failed"] = task.score(state["dev"]) <= task.score(task.constant(data.gold["train"], data.gold["dev"], known[-1]))
        found["test"] = task.metrics(data.gold["test"], outputs[-1], known[-1])
        if config.baselines:
            answered = task.baselines(parts["train"], data.gold["train"], parts["test"], labels)
            found["baselines"] = {name: task.metrics(data.gold["test"], its, labels) for name, its in answered.items()}
            answers.append(answered)
        states.append(plain(found))
        accelerator.print(
            f"fold {fold + 1} of {config.folds}: {headline_words(task, found['test'])} on {len(parts['test']):,} examples", flush=True
        )

    if not accelerator.is_main_process:
        return {}
    pooled, labels = out_of_fold(folds, outputs, known)
    further = measures.of_probabilities(task, folds.gold, pooled, labels, None)
    mistakes = measures.mistakes_of(task, rows, folds.gold, pooled, labels)
    suspects, suspicion = measures.suspects_of(task, rows, folds.gold, pooled, labels)
    metrics = task.metrics(folds.gold, pooled, labels) | {
        "intervals": task.intervals(folds.gold, pooled, labels) | further.pop("intervals", {}),
        **further,
        **suspicion,
        "task": task.name,
        "labels": labels.names,
        "folds": states,
        "over_folds": over_folds(task, [state["test"] for state in states]),
        "baselines": {
            name: over_folds(task, [state["baselines"][name] for state in states]) for name in (states[0].get("baselines") or {})
        },
        "learning_rate": rate,
        "near_copies": sum(state["near_copies"] for state in states),
        "model": {"folder": Path(config.model).name, "sha256": inputs["model"]},
        "data": {"name": Path(config.train).name, "sha256": inputs["train file"]},
    }
    files = ["metrics.json", "predictions.parquet", *write_mistakes(out, mistakes), *write_label_errors(out, suspects)]
    if task.exclusive is not None:
        files += write_figures(
            out, measures.is_gold(task, folds.gold, labels), pooled, labels.names, exclusive=task.exclusive, calibrated=None
        )
    task.write(out / "predictions.parquet", rows, folds.gold, pooled, labels)
    untuned = [of_fold for of_fold, _ in splits]
    answered = {name: out_of_fold(folds, [its[name] for its in answers], untuned)[0] for name in (answers[0] if answers else {})}
    against, kept = measures.against_baseline(out, task, rows, folds.gold, answered, labels)
    metrics |= against
    files += kept
    write_json(out / "metrics.json", metrics)
    write_sealed(out / MANIFEST, {"files": hash_some(out, files)})  # last: now the run is finished
    forget_weights(out)
    report_on(out)
    print("\n".join([*_summary(config, task, metrics), *suspect_lines(suspects, len(rows)), *weak_lines(metrics)]))
    print(f"predictions {out / 'predictions.parquet'}\nmetrics     {out / 'metrics.json'}\nreport      {out / 'report.html'}")
    return metrics


def over_folds(task: "Task", of_folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over folds of each headline number."""
    from bertlab.evaluation.metrics import mean_and_deviation

    headlines = [task.headlines(metrics) for metrics in of_folds]
    return {name: mean_and_deviation([each[name] for each in headlines]) for name in task.scores}


def _summary(config: Config, task: "Task", metrics: dict[str, Any]) -> list[str]:
    from bertlab.pages.evaluation import probability_lines
    from bertlab.pages.results import verdict_lines
    from bertlab.pages.screen import counted, metric_words, score_table

    first = next(iter(task.scores))

    def shown(spread: dict[str, float]) -> str:
        return f"{metric_words(first)} {spread['mean']:.3f} (sd {spread['sd']:.3f})"

    lines = [score_table(metrics), *probability_lines(metrics)]
    lines.append(
        f"over {config.folds} folds: {shown(metrics['over_folds'][first])}; the folds' models share most of what they learnt from,"
    )
    lines.append("            so that the deviation says little of other texts: the interval above is of all out-of-fold answers together")
    lines += [f"            {name}: {shown(each[first])}" for name, each in metrics["baselines"].items()]
    lines += verdict_lines(metrics)
    if failed := [str(state["fold"] + 1) for state in metrics["folds"] if state["failed"]]:
        which = f"{len(failed)} of {counted(config.folds, 'fold')} ({', '.join(failed)})"
        lines.append(f"failed     {which}: on dev no better than one answer for all, and part of every number above")
    if copies := metrics["near_copies"]:
        are = f"{counted(copies, 'text')} {'is' if copies == 1 else 'are'}"
        lines.append(f"warning: {are} nearly equal to one that their model learnt from: the scores flatter")
    return lines
