"""bertlab tune: many settings of a fine-tuning, each scored on dev -> the model of the best one, and a table of all.

    bertlab tune --model DIR --train FILE [--dev FILE] --test FILE --out RUN [--trials 10]

By default the paper's grid for the model's size. RUN/trials.jsonl has a line a trial, RUN/model is the best trial's, chosen by dev alone:
the test file is checked at the start, no trial is handed it, and it is scored once, by the chosen model. The same command again goes on
with the trials that are not finished.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.errors import ConfigError
from bertlab.schema import NO_OPTION
from bertlab.tasks.recipe import Recipe, recipe_of
from bertlab.tasks.settings import Splits

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data
    from bertlab.tasks.seeds import Trained

FREE = {"out", "model", "train", "dev", "test", "processes", "workers"}  # may differ when a run goes on


@dataclass(frozen=True, kw_only=True)
class Config(Splits):
    learning_rates: tuple[float, ...] = ()
    """Rates to try; by default 5e-5, 3e-5 and 2e-5, up to width 512 3e-4, 1e-4, 5e-5 and 3e-5, and for tiny 1e-3 too."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes to try; by default 16 and 32, up to width 512 8, 16, 32, 64 and 128."""
    epoch_counts: tuple[int, ...] = ()
    """Numbers of epochs to try; by default 2, 3 and 4, up to width 512 4. Each trial keeps its best epoch."""
    # one of each is a recipe's, and of a search each has several:
    learning_rate: float | None = field(default=None, metadata=NO_OPTION)
    batch_size: int = field(default=Recipe.batch_size, metadata=NO_OPTION)
    epochs: int | None = field(default=None, metadata=NO_OPTION)
    trials: int | None = None
    """How many combinations to try, drawn by the seed; by default all."""
    seeds: int = 1
    """Seeds a trial; its score is their mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("trials", "seeds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")
        if self.learning_rate is not None or self.batch_size != Recipe.batch_size or self.epochs is not None:
            raise ConfigError("tune tries several of learning_rate, batch_size and epochs: give learning_rates, batch_sizes, epoch_counts")
        for name in ("learning_rates", "batch_sizes", "epoch_counts"):
            values = getattr(self, name)
            if any(value <= 0 for value in values) or len(set(values)) != len(values):
                raise ConfigError(f"{name}={', '.join(map(str, values))}: give numbers above 0, each once")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and first rows."""
    from bertlab.tasks.first_look import look_at_run

    look_at_run(config, FREE, "model", config.files.values())


def run(config: Config) -> dict[str, Any]:
    """Run all trials, score test with the best, write RUN/model, RUN/metrics.json and RUN/predictions.parquet; returns the metrics.

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
        return _tune(config, out, accelerator)


def _tune(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.pages.report import report_on
    from bertlab.pages.results import opening, save_best, start_line, write_results
    from bertlab.pages.screen import counted
    from bertlab.tasks.data import labels_of
    from bertlab.tasks.measures import leaks_of
    from bertlab.tasks.search import TRIALS, among, best_trial, prefix_of, search, settings_of, usual_values, without_test
    from bertlab.tasks.seeds import train_seeds
    from bertlab.tasks.start import open_start, read_splits
    from bertlab.training.runlog import remember_inputs

    start = open_start(config)
    data, reason = read_splits(config, start)
    usual = usual_values(start.encoder.hidden_size)
    given = {"learning_rate": config.learning_rates, "batch_size": config.batch_sizes, "epochs": config.epoch_counts}
    settings = settings_of({name: values or usual[name] for name, values in given.items()}, config.trials, config.seed)
    known: dict[str, Any] = {}
    if accelerator.is_main_process:
        remember_inputs(config, out, start.inputs(config.files))
        known["leakage"] = leaks_of(data)
        opened = [start_line(start), *opening(data, reason, known["leakage"])]
        print("\n".join([*opened, f"{counted(len(settings), 'trial')}, seeds a trial: {config.seeds}"]), flush=True)
    seeds = range(config.seed, config.seed + config.seeds)

    def trained(data: "Data", number: int) -> "Trained":
        recipe = replace(recipe_of(config), **asdict(settings[number - 1]))
        return train_seeds(start, recipe, dict.fromkeys(seeds, data), out, accelerator, prefix=prefix_of(number))

    seen = without_test(data)
    lines = search(data.task, settings, lambda number: trained(seen, number).states, out, accelerator)
    winner = best_trial(lines)
    best = trained(data, winner["trial"])  # from its checkpoints; now the test file is scored
    if not accelerator.is_main_process:
        return {}
    known["dev_intervals"] = data.task.intervals(data.gold["dev"], best.dev_outputs, labels_of(data, best.best))
    known["learning_rate"] = winner["learning_rate"]
    low: Any = known["dev_intervals"]
    for name in (*next(iter(data.task.scores.values())), "low"):
        low = low[name]
    known["search"] = {"trials": len(lines), "of": TRIALS, "chosen": winner} | among(lines, winner, low)
    metrics = write_results(out, best, baselines=config.baselines, known=known)
    save_best(out, best, start, metrics, out, further={"trials": len(lines)}, files=[TRIALS])
    report_on(out)
    print(_summary(out, data, lines, metrics), flush=True)
    return metrics


def _summary(out: Path, data: "Data", lines: list[dict[str, Any]], metrics: dict[str, Any]) -> str:
    from bertlab.pages.results import failed_lines, lines_of_test
    from bertlab.pages.trials import trial_lines

    first = next(iter(data.task.scores))
    shown = trial_lines(lines, metrics["search"], first, metrics["dev_intervals"], data.task.scores[first], metrics["dev"]["n"])
    shown += failed_lines(data.task, metrics)
    return "\n".join(
        [
            *shown,
            *lines_of_test(data.task, metrics),
            f"model      {out / 'model'}",
            f"report     {out / 'report.html'}",
            f"table      {out / 'trials.jsonl'}",
        ]
    )
