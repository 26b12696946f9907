"""bertlab finetune: a BERT and a labelled file -> a classifier on the [CLS] vector, over several seeds.

    bertlab finetune --model DIR --train FILE [--dev FILE] --test FILE --out RUN

Each seed keeps its best epoch by dev macro-F1 (ties: lower dev loss); RUN/model is the best seed's by the same measure. The
test file is looked at when all choices are made. The same command again goes on with the seeds that are not finished.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError, DataError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.batches.labelled import Examples
    from bertlab.corpus.labelled import Labelled
    from bertlab.model.heads import BertForSequenceClassification
    from bertlab.tokens.tokenizer import Tokenizer


# Widest model -> peak rate. google-research/bert's grid for small models ends at 3e-4; tiny, pretrained for minutes, measured better with
# more (docs/results.md).
LEARNING_RATES = {128: 1e-3, 512: 1e-4, 2**30: 2e-5}


@dataclass(frozen=True, kw_only=True)
class Config:
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
    text: str = "text"
    """Column of the text."""
    text_b: str | None = None
    """Column of the second text of a pair; a column named text_b is used without asking."""
    label: str = "label"
    """Column of the label."""
    dev_share: float = 0.1
    """Share of train that becomes dev when there is no dev file."""
    from_random: bool = False
    """Start from random weights of the same size: what pretraining was worth."""
    seeds: int = 3
    """Runs with different seeds: order, head and dropout differ."""
    seed: int = 0
    """The first seed."""
    epochs: int = 4
    """Passes over train."""
    batch_size: int = 16
    """Examples a step, over all processes."""
    learning_rate: float | None = None
    """Peak rate of AdamW; default 2e-5 for base and large (Devlin et al. 2018), 1e-4 up to width 512, 1e-3 for tiny."""
    weight_decay: float = 0.01
    """On matrices, not on LayerNorm and biases."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    dropout: float = 0.1
    """On hidden states and before the classifier."""
    attention_dropout: float = 0.0
    """On attention weights."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes; 0.1 is usual."""
    max_length: int = 128
    """Most tokens of an example; longer ones are truncated and counted."""
    micro_tokens: int = 8192
    """Most tokens in a micro-batch; lower it when memory runs out."""
    baselines: bool = True
    """Also score the majority class and TF-IDF with logistic regression on the test file."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training: bf16 autocast where the hardware multiplies it, or as said. Scores are always made in fp32."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    processes: int | None = None
    """Train in this many processes; started by bertlab itself, or refused when a launcher started another number."""
    workers: int = 0
    """Processes that make batches ahead; batches are the same whatever their number."""

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "batch_size", "micro_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        for name in ("dropout", "attention_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1 or not 0 <= self.warmup <= 1:
            raise ConfigError(f"dev_share={self.dev_share} and warmup={self.warmup} are shares: give numbers between 0 and 1")
        if self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        for name in ("workers", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: give 0 or more")
        if self.seed >= 2**31:
            raise ConfigError(f"seed={self.seed}: give less than 2,147,483,648")
        if (self.learning_rate is not None and self.learning_rate <= 0) or self.clip <= 0:
            raise ConfigError("learning_rate and clip must be above 0")


@dataclass(frozen=True)
class Task:
    """The data of a run: the splits as read, the classes in order, and the splits encoded."""

    names: list[str]
    splits: dict[str, "Labelled"]
    gold: dict[str, list[int]]
    encoded: dict[str, "Examples"]


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
            agree_with_config(config, out, free={"out", "model", "train", "dev", "test", "processes", "workers"})
        accelerator.wait_for_everyone()
        if (out / "model").is_dir():
            if accelerator.is_main_process:
                print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            return read_json(out / "metrics.json")
        return _finetune(config, out, accelerator)


def read_task(config: Config, tokenizer: "Tokenizer", max_length: int) -> Task:
    """Read and check every split before anything is trained. Raises DataError for columns, labels and pairs that do not agree."""
    from bertlab.batches.labelled import encode_examples
    from bertlab.corpus.labelled import cut_dev, label_ids, label_names, overlap, read_labelled

    def read(file: str) -> "Labelled":
        return read_labelled(file, text=config.text, text_b=config.text_b, label=config.label)

    splits = {"train": read(config.train)}
    names = label_names(splits["train"])
    if config.dev is None:
        splits["train"], splits["dev"] = cut_dev(splits["train"], config.dev_share, names)
    else:
        splits["dev"] = read(config.dev)
    if config.test is not None:
        splits["test"] = read(config.test)
    for split, rows in splits.items():
        if (rows.texts_b is None) != (splits["train"].texts_b is None):
            raise DataError(f"{rows.origin}: one of train and {split} has text_b and the other has not: give both the same columns")
    gold = {split: label_ids(rows, names) for split, rows in splits.items()}
    encoded = {
        split: encode_examples(tokenizer, rows.texts, rows.texts_b, gold[split], max_length=max_length) for split, rows in splits.items()
    }
    for split in ("dev", "test"):
        if split in splits and (shared := overlap(splits["train"], splits[split])):
            print(f"warning: {shared} of {len(splits[split])} {split} texts are in train too: its scores flatter")
    return Task(names, splits, gold, encoded)


def _finetune(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.disk import sha256_file, write_json
    from bertlab.evaluation.intervals import of_metrics
    from bertlab.evaluation.metrics import classification_metrics, mean_and_deviation
    from bertlab.evaluation.predictions import write_predictions
    from bertlab.inference import class_probabilities
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import fetch, load_config, refuse_misfit, weights_sha256
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.training import checkpoint
    from bertlab.training.runlog import remember_inputs, run_sha256

    folder = fetch(config.model)
    encoder = EncoderConfig.from_published(load_config(folder), f"{folder}/config.json")
    tokenizer = tokenizers.load(folder)
    refuse_misfit(tokenizer, encoder, folder)
    task = read_task(config, tokenizer, min(config.max_length, encoder.max_position_embeddings))
    if task.splits["train"].texts_b and encoder.type_vocab_size < 2:
        raise ConfigError(f"{folder} knows one segment, and pairs need two: start from another model")
    if accelerator.is_main_process:
        files = {name: getattr(config, name) for name in ("train", "dev", "test")}
        inputs: dict[str, str | None] = {f"{name} file": sha256_file(Path(file)) for name, file in files.items() if file}
        remember_inputs(config, out, inputs | {"model": weights_sha256(folder)})
        for split, encoded in task.encoded.items():
            cut = f", {encoded.num_truncated:,} truncated" if encoded.num_truncated else ""
            print(
                f"{split:5} {len(encoded):,} examples of {len(task.names)} classes, {encoded.lengths.mean():.0f} tokens on average{cut}",
                flush=True,
            )

    results: list[dict[str, Any]] = []
    test_probabilities = {}
    for seed in range(config.seed, config.seed + config.seeds):
        model = start_model(config, folder, len(task.names), seed)
        root = out / "seeds" / f"seed-{seed}"
        finished = checkpoint.newest_checkpoint(root) if accelerator.is_main_process or root.is_dir() else None
        if finished is None:
            state = train_seed(config, task, model, seed, accelerator)
            if accelerator.is_main_process:
                checkpoint.save_checkpoint(root, state["step"], model, [], state, keep=1, run=run_sha256(out))
        else:
            finished.restore(model, [])
            state = finished.state
        if "test" in task.splits:
            model.to(accelerator.device)
            test_probabilities[seed] = class_probabilities(model, task.encoded["test"], len(task.names), device=accelerator.device)
            state["test"] = classification_metrics(task.gold["test"], test_probabilities[seed].argmax(1), task.names)
        results.append(state)
        accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return {}

    best = max(results, key=lambda result: (result["dev"]["macro"]["f1"], -result["dev_loss"]))
    metrics: dict[str, Any] = {"labels": task.names, "best_seed": best["seed"], "dev": best["dev"], "seeds": results}
    metrics["examples"] = {split: len(rows) for split, rows in task.splits.items()}
    metrics["truncated"] = {split: encoded.num_truncated for split, encoded in task.encoded.items()}
    if "test" in task.splits:
        metrics["test"] = best["test"]
        metrics["test_intervals"] = of_metrics(task.gold["test"], test_probabilities[best["seed"]].argmax(1), task.names)
        metrics["over_seeds"] = {
            "accuracy": mean_and_deviation([result["test"]["accuracy"] for result in results]),
            "macro_f1": mean_and_deviation([result["test"]["macro"]["f1"] for result in results]),
        }
        metrics["baselines"] = score_baselines(task) if config.baselines else {}
        rows = task.splits["test"]
        known: dict[str, Any] = {"ids": rows.ids, "text_hashes": rows.text_hashes(), "gold": task.gold["test"], "names": task.names}
        write_predictions(out / "predictions.parquet", probabilities=test_probabilities[best["seed"]], **known)
        for seed, probabilities in test_probabilities.items():  # what `bertlab compare` makes claims about methods from
            write_predictions(out / "predictions" / f"seed-{seed}.parquet", probabilities=probabilities, **known)
    write_json(out / "metrics.json", metrics)
    _save(config, out, task, tokenizer, start_model(config, folder, len(task.names), 0), metrics)
    print(_summary(config, out, metrics), flush=True)
    return metrics


def start_model(config: Config, folder: str, num_labels: int, seed: int) -> "BertForSequenceClassification":
    """The encoder of `folder`, or random weights of its size, with a fresh classifier drawn from `seed`."""
    import torch

    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import load_config, load_model
    from bertlab.model.heads import BertForSequenceClassification

    dropouts: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.attention_dropout}
    torch.manual_seed(seed)
    if config.from_random:
        values = load_config(folder) | dropouts
        return BertForSequenceClassification(EncoderConfig.from_published(values, f"{folder}/config.json"), num_labels)
    model, absent = load_model(folder, BertForSequenceClassification, new_labels=num_labels, **dropouts)
    if any("pooler" in name for name in absent) and seed == config.seed:
        print(f"note: {folder} has no pooler (next-sentence prediction trains it): it starts at random")
    return model


def train_seed(config: Config, task: Task, model: "BertForSequenceClassification", seed: int, accelerator: "Accelerator") -> dict[str, Any]:
    """Fine-tune `model` and leave it at its best epoch by dev; returns what is known of that epoch."""
    import torch
    from sklearn.metrics import log_loss

    from bertlab.evaluation.metrics import classification_metrics
    from bertlab.inference import class_probabilities
    from bertlab.progress import progress, silent
    from bertlab.training import loop
    from bertlab.training.objectives import Classification
    from bertlab.training.optimizers import build_optimizers

    train = task.encoded["train"]
    per_epoch = train.steps_per_epoch(config.batch_size)
    steps = config.epochs * per_epoch
    learning_rate = config.learning_rate or next(rate for widest, rate in LEARNING_RATES.items() if model.config.hidden_size <= widest)
    optimizers = build_optimizers(model.to(accelerator.device), "adamw", learning_rate=learning_rate, weight_decay=config.weight_decay)
    wrapped = accelerator.prepare(model)
    best: dict[str, Any] = {}
    best_weights: dict[str, torch.Tensor] = {}
    history: list[dict[str, Any]] = []

    def after_step(result: loop.StepResult) -> None:
        done = result.step + 1
        report(done, f"loss {result.losses['loss']:.3f}, {result.tokens / result.seconds:,.0f} tokens/s")
        if done % per_epoch:
            return
        probabilities = class_probabilities(model, task.encoded["dev"], len(task.names), device=accelerator.device)
        dev = classification_metrics(task.gold["dev"], probabilities.argmax(1), task.names)
        exact = probabilities.astype("float64")
        exact /= exact.sum(1, keepdims=True)  # in fp32 they miss 1 by some 1e-7, and scikit-learn warns
        loss = float(log_loss(task.gold["dev"], exact, labels=range(len(task.names))))
        history.append({"epoch": done // per_epoch, "dev_macro_f1": dev["macro"]["f1"], "dev_accuracy": dev["accuracy"], "dev_loss": loss})
        if not best or (dev["macro"]["f1"], -loss) > (best["dev"]["macro"]["f1"], -best["dev_loss"]):
            best.update({"seed": seed, "step": done, "epoch": done // per_epoch, "dev": dev, "dev_loss": loss})
            best_weights.update({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})

    plan = loop.Plan(
        steps=steps,
        warmup_steps=round(config.warmup * steps),
        seed=seed,
        clip=config.clip,
        precision=config.precision,
        workers=config.workers,
    )
    with progress(f"seed {seed}", "steps", steps) if accelerator.is_main_process else silent() as report:
        loop.train(
            wrapped,
            optimizers,
            Classification(config.label_smoothing),
            partial(micro_batches, train, config, seed, accelerator.process_index, accelerator.num_processes),
            plan,
            accelerator,
            after_step=after_step,
        )
    accelerator.free_memory(wrapped)  # it remembers every model that it prepared
    model.load_state_dict(best_weights)
    model.cpu()
    return best | {"history": history}


def micro_batches(train: "Examples", config: Config, seed: int, rank: int, ranks: int, step: int) -> list[Any]:
    """One process's share of a step: every `ranks`-th example of the batch, cut to the token budget.

    A share with no example is filler that counts for nothing: every process takes part in every step.
    """
    import torch

    from bertlab.batches.flat import fill_budget
    from bertlab.training.objectives import IGNORED

    rows = train.shuffled(step, config.batch_size, seed)
    mine = rows[rank::ranks]
    if not len(mine):
        filler = train.batch(rows[:1])
        return [replace(filler, labels=torch.full_like(filler.labels, IGNORED))]
    bounds = fill_budget(train.lengths[mine], config.micro_tokens)
    return [train.batch(mine[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def score_baselines(task: Task) -> dict[str, dict[str, Any]]:
    """What the test file yields without a BERT, trained on the same train split."""
    from bertlab.evaluation.baselines import majority_class, tfidf_logistic_regression
    from bertlab.evaluation.metrics import classification_metrics

    train, test = task.splits["train"], task.splits["test"]

    def joined(rows: "Labelled") -> list[str]:
        return [f"{a} {b}" for a, b in zip(rows.texts, rows.texts_b, strict=True)] if rows.texts_b else rows.texts

    predicted = {
        "TF-IDF + logistic regression": tfidf_logistic_regression(joined(train), task.gold["train"], joined(test)),
        "majority class": majority_class(task.gold["train"], len(test)),
    }
    return {name: classification_metrics(task.gold["test"], labels, task.names) for name, labels in predicted.items()}


def _save(
    config: Config, out: Path, task: Task, tokenizer: "Tokenizer", model: "BertForSequenceClassification", metrics: dict[str, Any]
) -> None:
    import bertlab
    from bertlab.disk import sha256_file
    from bertlab.model.folder import save_model
    from bertlab.pages.card import classifier_card
    from bertlab.training import checkpoint
    from bertlab.training.runlog import run_files

    chosen = checkpoint.newest_checkpoint(out / "seeds" / f"seed-{metrics['best_seed']}")
    assert chosen is not None, "the seed was saved before it was chosen"
    chosen.restore(model, [])
    files = {"train": config.train, "dev": config.dev, "test": config.test}
    facts = {
        "bertlab": bertlab.__version__,
        "kind": "classifier",
        "started_from": "random weights" if config.from_random else config.model,
        "data": {split: {"name": Path(file).name, "sha256": sha256_file(Path(file))} for split, file in files.items() if file},
        "train_examples": metrics["examples"]["train"],
        "tokenizer_sha256": tokenizer.sha256,
        "max_length": config.max_length,
        "pooler_trained": True,
        "pairs": task.splits["train"].texts_b is not None,
        "seeds": config.seeds,
        "best_seed": metrics["best_seed"],
        "dev": metrics["dev"],
        "test": metrics.get("test"),
    }
    by_seed = [f"predictions/seed-{state['seed']}.parquet" for state in metrics["seeds"]]
    predictions = ["predictions.parquet", *by_seed] if config.test else []
    save_model(
        out / "model",
        model,
        tokenizer,
        facts=facts,
        card=classifier_card(facts, task.names),
        labels=task.names,
        max_length=config.max_length,
        run=run_files(out, "metrics.json", *predictions),
    )


def _summary(config: Config, out: Path, metrics: dict[str, Any]) -> str:
    dev = metrics["dev"]
    lines = [
        f"dev        macro-F1 {dev['macro']['f1']:.3f}, accuracy {dev['accuracy']:.3f} (best of {config.seeds} seeds, chosen on these)"
    ]
    if "test" in metrics:
        spread = metrics["over_seeds"]["macro_f1"]
        lines.append(
            f"test       macro-F1 {metrics['test']['macro']['f1']:.3f}, accuracy {metrics['test']['accuracy']:.3f} (the seed chosen on dev)"
        )
        lines.append(f"           macro-F1 over seeds {spread['mean']:.3f}" + ("" if spread["sd"] is None else f" (sd {spread['sd']:.3f})"))
        lines += [f"           {name}: macro-F1 {scores['macro']['f1']:.3f}" for name, scores in metrics["baselines"].items()]
    return "\n".join([*lines, f"model      {out / 'model'}", f"next       bertlab evaluate --model {out / 'model'} --data FILE --out DIR"])
