"""bertlab finetune: a BERT and a labelled file -> a model for the task that the labels set, over several seeds.

    bertlab finetune --model DIR --train FILE [--dev FILE] --test FILE --out RUN

The kinds of task are in bertlab/tasks, and which one it is follows from the labels, or from --task. Each seed keeps its best epoch by the
task's first score on dev (macro-F1; of numbers Spearman's correlation; ties: lower dev loss); RUN/model is the best seed's by the same
measure. The test file is looked at when all choices are made. The same command again goes on with the seeds that are not finished.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import epochs_of, rate_of, recipe_of
from bertlab.tasks.settings import Splits

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data

FREE = {"out", "model", "train", "dev", "test", "processes", "workers", "track"}  # may differ when a run goes on


@dataclass(frozen=True, kw_only=True)
class Config(Splits):
    seeds: int = 3
    """Runs with different seeds: order, head and dropout differ."""
    shots: int | None = None
    """Learn from so many examples of each class (of sets: of each label at least), each seed from others, and choose by as many more, the
    same for all seeds. By default for as many epochs as 1,000 steps are."""
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    """Also send losses and dev scores to this tracker, which must be installed; report.html is always written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("seeds", "shots"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and first rows."""
    from bertlab.tasks.first_look import look_at_run

    look_at_run(config, FREE, "model", config.files.values())


def run(config: Config) -> dict[str, Any]:
    """Train all seeds, choose by dev, score test, write RUN/model, RUN/metrics.json and RUN/predictions.parquet; returns the metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    look(config)

    from bertlab.disk import read_json
    from bertlab.pages.report import report_on
    from bertlab.training import processes
    from bertlab.training.runlog import refuse_other_inputs, run_folder

    accelerator = processes.start(config.processes, config.device)
    with run_folder(config, accelerator, FREE) as out:
        if (out / "model").is_dir():
            refuse_other_inputs(config, out, {f"{split} file": file for split, file in config.files.items()} | {"model": config.model})
            accelerator.print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            if accelerator.is_main_process:
                report_on(out, anew=False)
            return read_json(out / "metrics.json")
        return _finetune(config, out, accelerator)


def _finetune(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.config import to_dict
    from bertlab.pages.report import report_on
    from bertlab.pages.results import opening, save_best, shots_lines, start_line, training_line, write_results
    from bertlab.tasks.measures import leaks_of
    from bertlab.tasks.seeds import train_seeds
    from bertlab.tasks.shots import draw, epochs_of_shots
    from bertlab.tasks.start import open_start, read_splits
    from bertlab.training import tracking
    from bertlab.training.runlog import remember_inputs

    start = open_start(config)
    data, reason = read_splits(config, start)
    seeds, recipe = range(config.seed, config.seed + config.seeds), recipe_of(config)
    few = draw(data, config.shots, seeds, start.tokenizer) if config.shots else None
    if few is not None and config.epochs is None:
        recipe = replace(recipe, epochs=epochs_of_shots(len(few.first.splits["train"]), config.batch_size))
    of_seed = few.of_seed if few else dict.fromkeys(seeds, data)
    known: dict[str, Any] = {}
    tracker = None
    if accelerator.is_main_process:
        remember_inputs(config, out, start.inputs(config.files))
        known["leakage"] = leaks_of(few.drawn if few else data)
        data = of_seed[config.seed]
        width = start.encoder.hidden_size
        planned = epochs_of(recipe, len(data.splits["train"]), width)
        known["learning_rate"] = rate_of(recipe, width)[0]
        opened = opening(data, reason, known["leakage"], few=few is not None)
        print("\n".join([start_line(start), *opened, training_line(recipe, *planned, width)]), flush=True)
        if few is not None:
            known["shots"] = few.as_json()
            print("\n".join(shots_lines(few)), flush=True)
        tracker = tracking.start(config.track, out, to_dict(config))

    trained = train_seeds(start, recipe, of_seed, out, accelerator, tracker)
    if not accelerator.is_main_process:
        return {}
    if tracker:
        tracker.finish()
    metrics = write_results(out, trained, baselines=config.baselines, known=known)
    save_best(out, trained, start, metrics, out)
    report_on(out)
    print(_summary(config, out, trained.data, metrics), flush=True)
    return metrics


def _summary(config: Config, out: Path, data: "Data", metrics: dict[str, Any]) -> str:
    from bertlab.pages.results import failed_lines, headline_words, lines_of_test
    from bertlab.pages.screen import no_label_lines
    from bertlab.tasks.measures import AGAINST

    chosen = "the epoch was" if config.seeds == 1 else f"best of {config.seeds} seeds,"
    lines = [f"dev        {headline_words(data.task, metrics['dev'])} ({chosen} chosen on these)"]
    if "test" not in metrics:
        lines += [f"           {line}" for line in no_label_lines(metrics["dev"])]
        lines.append("test       none: what dev says flatters. Give --test FILE and another --out, or score the model by bertlab evaluate")
    lines += [*failed_lines(data.task, metrics), *lines_of_test(data.task, metrics)]
    lines += [f"model      {out / 'model'}", f"report     {out / 'report.html'}"]
    if metrics.get(AGAINST, {}).get("better") == "baseline":
        instead = "another start (--model), more text, rows or epochs; or use TF-IDF: docs/finetuning.md#against-counting-words"
        return "\n".join([*lines, f"next       {instead}"])
    model = shlex.quote(f"{out}/model")
    lines += [f"next       bertlab predict --model {model} --input FILE --output FILE"]
    return "\n".join([*lines, f"           bertlab evaluate --model {model} --data FILE --out DIR"])
