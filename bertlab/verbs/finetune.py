"""bertlab finetune: a BERT and a labelled file -> a model for the task that the labels set, over several seeds.

    bertlab finetune --model DIR --train FILE [--dev FILE] --test FILE --out RUN

The kinds of task are in bertlab/tasks, and which one it is follows from the labels, or from --task. Each seed keeps its best epoch by the
task's first score on dev (macro-F1; of numbers Spearman's correlation; ties: lower dev loss); RUN/model is the best seed's by the same
measure. The test file is looked at when all choices are made. The same command again goes on with the seeds that are not finished.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import Recipe, epochs_of, recipe_of, refuse_unfit, refuse_unlearnable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tasks.data import Data
    from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    model: str
    """The model folder to start from (RUN/model of a pretraining run, a published BERT, or hf:NAME)."""
    train: str
    """Labelled file to train on: CSV, TSV, JSONL or Parquet with a text and a label column, and text_b for pairs."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    dev: str | None = None
    """Labelled file to choose by; without one a share of train is cut off by a hash of the texts."""
    test: str | None = None
    """Labelled file to score at the end; nothing is chosen by it."""
    text: str | None = None
    """Column of the text: by default text; for tokens tokens, for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: text_b is used without asking; for answers question."""
    label: str | None = None
    """Column of the label, the list of labels or the number: by default label; for tokens tags, for answers answers."""
    label_separator: str | None = None
    """What stands between several labels in one cell, as | in a|b; a JSONL file may have lists instead."""
    task: Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"] = "auto"
    """What is to be learnt. auto: by columns (tokens and tags; question, context and answers), else sets of labels where labels are lists,
    numbers where all are and not all are whole, else one label."""
    dev_share: float = 0.1
    """Share of train that becomes dev when there is no dev file."""
    from_random: bool = False
    """Start from random weights of the same size: what pretraining was worth."""
    shots: int | None = None
    """Learn from so many examples of each class, each seed from others, and choose by as many more, the same for all seeds. By default
    for as many epochs as 1,000 steps are."""
    seeds: int = 3
    """Runs with different seeds: order, head and dropout differ."""
    seed: int = 0
    """The first seed."""
    dropout: float = 0.1
    """On hidden states and before the classifier."""
    attention_dropout: float = 0.0
    """On attention weights."""
    max_length: int | None = None
    """Most tokens of an example: by default 128, for answers 384. What is longer is truncated, for tokens and answers read in windows, and
    counted."""
    long: Literal["head", "tail", "head+tail", "windows"] | None = None
    """What is kept of a longer text: by default its head; of head+tail the head is a quarter; windows: all, in overlapping windows whose
    logits are averaged. Entities and answers are always looked for in windows (entities in the head, if so asked)."""
    baselines: bool = True
    """Also score the majority class (or set, or the mean) and TF-IDF with a linear model on the test file."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    processes: int | None = None
    """Train in this many processes; started by bertlab itself, or refused when a launcher started another number."""
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    """Also send losses and dev scores to this tracker, which must be installed; report.html is always written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("seeds", "shots"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1:
            raise ConfigError(f"dev_share={self.dev_share} is a share: give a number between 0 and 1")
        if self.label_separator == "":
            raise ConfigError("label_separator is empty: give what stands between labels, such as |")
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give 0 or more, and less than 2,147,483,648")


def run(config: Config) -> dict[str, Any]:
    """Train all seeds, choose by dev, score test, write RUN/model, RUN/metrics.json and RUN/predictions.parquet; returns the metrics.

    Raises ConfigError (settings, folders), DataError (labels and tables), CorruptError, LockedError.
    """
    from contextlib import nullcontext

    from bertlab.disk import locked, read_json
    from bertlab.training import processes
    from bertlab.training.runlog import agree_with_config

    accelerator = processes.start(config.processes, config.device)
    out = Path(config.out)
    with locked(out) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            agree_with_config(config, out, free={"out", "model", "train", "dev", "test", "processes", "workers", "track"})
        accelerator.wait_for_everyone()
        if (out / "model").is_dir():
            if accelerator.is_main_process:
                print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            return read_json(out / "metrics.json")
        return _finetune(config, out, accelerator)


def read(config: Config, tokenizer: "Tokenizer", positions: int) -> tuple["Data", str]:
    """The data of the run, and why it is of its kind of task; at most `positions` tokens a sequence.

    Raises ConfigError for settings that the task has no use for, DataError for columns, labels and pairs that do not agree.
    """
    from bertlab.tasks.contract import Columns
    from bertlab.tasks.data import read_task

    columns = Columns(config.text, config.text_b, config.label, config.label_separator)
    files = {name: file for name in ("train", "dev", "test") if (file := getattr(config, name)) is not None}
    sizes: dict[str, Any] = {"dev_share": config.dev_share, "max_length": config.max_length, "positions": positions, "long": config.long}
    data, reason = read_task(config.task, files, columns, tokenizer, **sizes)
    refuse_unfit(config, data.task)
    return data, reason


def _finetune(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.config import to_dict
    from bertlab.disk import sha256_file
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import fetch, load_config, refuse_misfit, weights_sha256
    from bertlab.pages.report import report_on
    from bertlab.pages.results import opening, save_best, shots_line, start_line, training_line, write_results
    from bertlab.tasks.data import labels_of
    from bertlab.tasks.measures import LEARNT, leaks_of, learnt_on_dev
    from bertlab.tasks.seeds import best_of, resumed, start_model, train_seed
    from bertlab.tasks.shots import draw, epochs_of_shots
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.training import tracking
    from bertlab.training.runlog import remember_inputs

    folder = fetch(config.model)
    published = load_config(folder)
    encoder = EncoderConfig.from_published(published, f"{folder}/config.json")
    tokenizer = tokenizers.load(folder)
    refuse_misfit(tokenizer, encoder, folder)
    refuse_unlearnable(config, encoder.num_hidden_layers)
    data, reason = read(config, tokenizer, encoder.max_position_embeddings)
    task, seeds, recipe = data.task, range(config.seed, config.seed + config.seeds), recipe_of(config)
    few = draw(data, config.shots, seeds, tokenizer) if config.shots else None
    if few is not None and config.epochs is None:
        recipe = replace(recipe, epochs=epochs_of_shots(few.of_each_class * len(data.labels.names), config.batch_size))
    of_seed = few.of_seed if few else dict.fromkeys(seeds, data)
    data = of_seed[config.seed]
    if data.encoded["train"].are_pairs and encoder.type_vocab_size < 2:
        raise ConfigError(f"{folder} knows one segment, and pairs need two: start from another model")
    if accelerator.is_main_process:
        files = {name: getattr(config, name) for name in ("train", "dev", "test")}
        inputs: dict[str, str | None] = {f"{name} file": sha256_file(Path(file)) for name, file in files.items() if file}
        remember_inputs(config, out, inputs | {"model": weights_sha256(folder)})
        leaks = leaks_of(few.drawn if few else data)
        planned = epochs_of(recipe, len(data.splits["train"]), encoder.hidden_size)
        start_from = start_line(config.model, published, config.from_random)
        print("\n".join([start_from, *opening(data, reason, leaks), training_line(config, *planned)]), flush=True)
        if few is not None:
            print(shots_line(few.of_each_class), flush=True)
    tracker = tracking.start(config.track, out, to_dict(config)) if accelerator.is_main_process else None

    states: list[dict[str, Any]] = []
    test_outputs: dict[int, Any] = {}
    start: dict[str, Any] = {"dropout": config.dropout, "attention_dropout": config.attention_dropout, "from_random": config.from_random}
    for seed, data in of_seed.items():
        model, absent = start_model(task, folder, len(data.labels.names), seed, **start)
        if seed == config.seed and any("pooler" in name for name in absent):
            print(f"note: {folder} has no pooler (next-sentence prediction trains it): it starts at random")
        train = partial(train_seed, recipe, data, model, seed, accelerator, tracker)
        state = resumed(out / "seeds" / f"seed-{seed}", model, train, out, accelerator.is_main_process)
        if "test" in data.splits:
            test_outputs[seed] = task.run(model.to(accelerator.device), data.encoded["test"], data.labels, device=accelerator.device)
            state["test"] = task.metrics(data.gold["test"], test_outputs[seed], labels_of(data, state))
        states.append(state)
        accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return {}
    if tracker:
        tracker.finish()
    best = best_of(task, states)
    data = of_seed[best["seed"]]
    model, _ = start_model(task, folder, len(data.labels.names), 0, **start)
    resumed(out / "seeds" / f"seed-{best['seed']}", model, dict, out)
    dev_outputs = task.run(model.to(accelerator.device), data.encoded["dev"], data.labels, device=accelerator.device)
    known: dict[str, Any] = {"leakage": leaks, LEARNT: learnt_on_dev(task, data.gold["dev"], dev_outputs, data.labels)}
    if few is not None:
        known["shots"] = few.as_json()
    metrics = write_results(out, data, states, best, test_outputs, baselines=config.baselines, known=known)
    origin = "random weights" if config.from_random else config.model
    save_best(out, data, tokenizer, model.cpu(), metrics, started_from=origin)
    report_on(out)
    print(_summary(config, out, data, metrics), flush=True)
    return metrics


def _summary(config: Config, out: Path, data: "Data", metrics: dict[str, Any]) -> str:
    from bertlab.pages.results import failed_lines, headline_words, lines_of_test

    lines = [f"dev        {headline_words(data.task, metrics['dev'])} (best of {config.seeds} seeds, chosen on these)"]
    lines += [*failed_lines(data.task, metrics), *lines_of_test(data.task, metrics)]
    lines += [f"model      {out / 'model'}", f"report     {out / 'report.html'}"]
    return "\n".join([*lines, f"next       bertlab evaluate --model {out / 'model'} --data FILE --out DIR"])
