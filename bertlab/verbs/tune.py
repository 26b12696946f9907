"""bertlab tune: many settings of a fine-tuning, each scored on dev -> the model of the best one, and a table of all.

    bertlab tune --model DIR --train FILE [--dev FILE] --test FILE --out RUN [--trials 10]

By default the paper's grid for the model's size. RUN/trials.jsonl has a line a trial, RUN/model is the best trial's, chosen by dev alone:
the test file is checked at the start, no trial is handed it, and it is scored once, by the chosen model. The same command again goes on
with the trials that are not finished. In one process.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import Recipe, recipe_of, refuse_unfit, refuse_unlearnable
from bertlab.tasks.settings import Learning

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data
    from bertlab.tasks.search import Settings
    from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Config(Learning):
    dev: str | None = None
    """Labelled file to choose by; without one a share of train is cut off by a hash of the texts."""
    test: str | None = None
    """Labelled file to score the chosen model on, at the end."""
    learning_rates: tuple[float, ...] = ()
    """Rates to try; by default 5e-5, 3e-5 and 2e-5, up to width 512 3e-4, 1e-4, 5e-5 and 3e-5, and for tiny 1e-3 too."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes to try; by default 16 and 32, up to width 512 8, 16, 32, 64 and 128."""
    epoch_counts: tuple[int, ...] = ()
    """Numbers of epochs to try; by default 2, 3 and 4, up to width 512 4. Each trial keeps its best epoch."""
    learning_rate: float | None = None
    """Not in a search: give learning_rates."""
    batch_size: int = Recipe.batch_size
    """Not in a search: give batch_sizes."""
    epochs: int | None = None
    """Not in a search: give epoch_counts."""
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


def run(config: Config) -> dict[str, Any]:
    """Run all trials, score test with the best, write RUN/model, RUN/metrics.json and RUN/predictions.parquet; returns the metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    from bertlab.disk import locked, read_json
    from bertlab.training import processes
    from bertlab.training.runlog import agree_with_config

    accelerator = processes.start(None, config.device)
    if accelerator.num_processes > 1:
        raise ConfigError("tune trains in one process: start it without torchrun")
    out = Path(config.out)
    with locked(out):
        agree_with_config(config, out, free={"out", "model", "train", "dev", "test", "workers"})
        if (out / "model").is_dir():
            print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            return read_json(out / "metrics.json")
        return _tune(config, out, accelerator)


def read(config: Config, tokenizer: "Tokenizer", positions: int) -> tuple["Data", str]:
    """The data of the run, and why it is of its kind of task. Raises ConfigError and DataError as `bertlab finetune` does."""
    from bertlab.tasks.data import read_task

    files = {name: file for name in ("train", "dev", "test") if (file := getattr(config, name)) is not None}
    sizes: dict[str, Any] = {"dev_share": config.dev_share, "max_length": config.max_length, "positions": positions, "long": config.long}
    data, reason = read_task(config.task, files, config.columns, tokenizer, **sizes)
    refuse_unfit(config, data.task)
    return data, reason


def _tune(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.disk import sha256_file
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import fetch, load_config, refuse_misfit, weights_sha256
    from bertlab.pages.report import report_on
    from bertlab.pages.results import opening, save_best, start_line, write_results
    from bertlab.tasks.data import labels_of
    from bertlab.tasks.measures import LEARNT, leaks_of, learnt_on_dev
    from bertlab.tasks.search import TRIALS, best_trial, folder_of, search, settings_of, usual_values, without_test
    from bertlab.tasks.seeds import best_of, resumed, start_model, train_seed
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.training.runlog import remember_inputs

    folder = fetch(config.model)
    published = load_config(folder)
    encoder = EncoderConfig.from_published(published, f"{folder}/config.json")
    tokenizer = tokenizers.load(folder)
    refuse_misfit(tokenizer, encoder, folder)
    refuse_unlearnable(config, encoder.num_hidden_layers)
    data, reason = read(config, tokenizer, encoder.max_position_embeddings)
    if data.encoded["train"].are_pairs and encoder.type_vocab_size < 2:
        raise ConfigError(f"{folder} knows one segment, and pairs need two: start from another model")
    usual = usual_values(encoder.hidden_size)
    given = {"learning_rate": config.learning_rates, "batch_size": config.batch_sizes, "epochs": config.epoch_counts}
    settings = settings_of({name: values or usual[name] for name, values in given.items()}, config.trials, config.seed)
    files = {name: getattr(config, name) for name in ("train", "dev", "test")}
    inputs: dict[str, str | None] = {f"{name} file": sha256_file(Path(file)) for name, file in files.items() if file}
    remember_inputs(config, out, inputs | {"model": weights_sha256(folder)})
    leaks = leaks_of(data)
    opened = [start_line(config.model, published, config.from_random), *opening(data, reason, leaks)]
    print("\n".join([*opened, f"{len(settings):,} trials, seeds a trial: {config.seeds}"]), flush=True)
    task, seen = data.task, without_test(data)

    def trained(chosen: "Settings", seed: int, place: Path) -> tuple[dict[str, Any], Any]:
        model, _ = start_model(task, folder, len(data.labels.names), seed, **config.start)
        recipe = replace(recipe_of(config), **asdict(chosen))
        return resumed(place, model, partial(train_seed, recipe, seen, model, seed, accelerator), out), model

    seeds = range(config.seed, config.seed + config.seeds)
    lines = search(task, settings, seeds, lambda chosen, seed, place: trained(chosen, seed, place)[0], out)
    winner = best_trial(lines)

    def kept(seed: int) -> tuple[dict[str, Any], Any]:
        state, model = trained(settings[winner["trial"] - 1], seed, folder_of(out / "seeds", winner["trial"], seed))
        return state, model.to(accelerator.device)

    states, test_outputs = [], {}
    for seed in seeds:
        state, model = kept(seed)
        if "test" in data.splits:
            test_outputs[seed] = task.run(model, data.encoded["test"], data.labels, device=accelerator.device)
            state["test"] = task.metrics(data.gold["test"], test_outputs[seed], labels_of(data, state))
        states.append(state)
    best = best_of(task, states)
    model = kept(best["seed"])[1]
    dev_outputs = task.run(model, data.encoded["dev"], data.labels, device=accelerator.device)
    known = {"leakage": leaks, LEARNT: learnt_on_dev(task, data.gold["dev"], dev_outputs, data.labels)}
    known["dev_intervals"] = task.intervals(data.gold["dev"], dev_outputs, labels_of(data, best))
    known["search"] = {"trials": len(lines), "of": TRIALS, "chosen": winner}
    metrics = write_results(out, data, states, best, test_outputs, baselines=config.baselines, known=known)
    origin = "random weights" if config.from_random else config.model
    save_best(out, data, tokenizer, model.cpu(), metrics, started_from=origin, further={"trials": len(lines)}, files=[TRIALS])
    report_on(out)
    print(_summary(out, data, lines, metrics), flush=True)
    return metrics


def _summary(out: Path, data: "Data", lines: list[dict[str, Any]], metrics: dict[str, Any]) -> str:
    from bertlab.pages.results import failed_lines, lines_of_test
    from bertlab.pages.trials import trial_lines

    first = next(iter(data.task.scores))
    shown = trial_lines(lines, metrics["search"]["chosen"], first, metrics["dev_intervals"], data.task.scores[first], metrics["dev"]["n"])
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
