"""Real tokens a second of fine-tuning a classifier on a CPU: bertlab's loop against transformers' Trainer.

    python recipes/benchmarks/finetune.py [--preset mini] [--lengths short mixed long-tailed] [--rounds 3] [--data FILE ...]

Both sides train the same model from the same weights on the same examples, with the same precision (fp32), batch size, steps, dropout on
hidden states (and none on attention weights), clipping, fused AdamW and linear schedule, in alternating rounds of one process; neither
evaluates, saves or logs. The Trainer runs twice a round: with its own collator, DataCollatorWithPadding, which pads a batch to its
longest, and with every example padded to the longest allowed, as transformers' run_classification does unless told otherwise. Each side
shuffles in its own way, so rates count the real tokens that it trained on. Tokenising is not timed. Texts are made here, words by Zipf's
law, lengths by name: short (8 to 20 words, like questions to a bank), mixed (5 to 120, evenly), long-tailed (lognormal, median 25); or
they are those of --data. On a machine with other work --clock processor counts one thread's processor seconds. Prints a table and, last,
one JSON object, whose "ratio" is the smallest over the lengths, against the Trainer's own collator.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from batches import machine  # type: ignore[import-not-found]  # the file beside this one
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bertlab.batches.labelled import Examples, encode_examples
from bertlab.corpus.labelled import read_labelled
from bertlab.corpus.labels import label_ids, label_names
from bertlab.model import heads
from bertlab.model.presets import PRESETS, preset_config
from bertlab.tasks.recipe import recipe_of
from bertlab.tasks.seeds import micro_batches
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training import loop, processes
from bertlab.training.objectives import Classification
from bertlab.training.optimizers import build_optimizers
from bertlab.verbs import finetune

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
NUM_LABELS, NUM_WORDS = 10, 5000
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-4, 0.01, 0.1
PEERS = ("dynamic", "to max")


# ---- data


def made_texts(lengths: str, count: int, seed: int = 0) -> list[str]:
    """`count` texts of made-up words by Zipf's law, with as many words each as the named distribution gives."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(NUM_WORDS)]
    weights = [1 / (rank + 1) for rank in range(NUM_WORDS)]
    numbers = {
        "short": lambda: draw.randint(8, 20),
        "mixed": lambda: draw.randint(5, 120),
        "long-tailed": lambda: max(3, round(draw.lognormvariate(3.2, 0.8))),
    }[lengths]
    return [" ".join(draw.choices(words, weights, k=numbers())) for _ in range(count)]


def examples_of(texts: Sequence[str], labels: Sequence[int], max_length: int) -> tuple[Tokenizer, Examples]:
    """A vocabulary of the texts, and the texts in it."""
    tokenizer = tokenizers.train(list(texts), kind="wordpiece", vocab_size=8192, lowercase=True)
    return tokenizer, encode_examples(tokenizer, texts, labels=labels, max_length=max_length)


def as_rows(examples: Examples) -> list[dict[str, Any]]:
    """The same examples as the Trainer takes them."""
    bounds = zip(examples.offsets[:-1].tolist(), examples.offsets[1:].tolist(), examples.labels.tolist(), strict=True)
    return [
        {"input_ids": examples.ids[a:b].tolist(), "token_type_ids": examples.segments[a:b].tolist(), "attention_mask": [1] * (b - a)}
        | {"labels": label}
        for a, b, label in bounds
    ]


# ---- the sides


def start_models(preset: str, vocab_size: int, num_labels: int, max_length: int, dropout: float) -> tuple[Any, Any]:
    """bertlab's classifier and transformers', with the same weights."""
    config = preset_config(
        preset,
        vocab_size=vocab_size,
        positions=max(512, max_length),
        pad_token_id=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    ours = heads.BertForSequenceClassification(config, num_labels)
    shape: dict[str, Any] = asdict(config)
    peer = BertForSequenceClassification._from_config(BertConfig(num_labels=num_labels, **shape), attn_implementation="sdpa")
    unknown = peer.load_state_dict(ours.state_dict(), strict=False)
    assert not unknown.unexpected_keys and set(unknown.missing_keys) <= {"bert.embeddings.position_ids"}, unknown
    return ours, peer


def our_round(
    model: Any, examples: Examples, steps: int, batch_size: int, clock: Clock = time.perf_counter
) -> Callable[[int], tuple[int, float]]:
    """A function that fine-tunes for `steps` steps by bertlab's loop with a seed, and returns real tokens and seconds."""
    accelerator = processes.start(None, "cpu")
    config = finetune.Config(model="", train="", out="", batch_size=batch_size)
    recipe = recipe_of(config)

    def once(seed: int) -> tuple[int, float]:
        optimizers = build_optimizers(model, "adamw", learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        plan = loop.Plan(steps=steps, warmup_steps=round(WARMUP * steps), seed=seed, precision="fp32")
        tokens: list[int] = []
        take = partial(micro_batches, examples, recipe, seed, 0, 1)
        start = clock()
        loop.train(model, optimizers, Classification(), take, plan, accelerator, after_step=lambda result: tokens.append(result.tokens))
        return sum(tokens), clock() - start

    return once


class _Stopwatch(TrainerCallback):
    """From the Trainer's first step to its last, without what it sets up before."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.start = self.clock()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = self.clock() - self.start


def their_round(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    steps: int,
    batch_size: int,
    to_max: int | None,
    folder: str,
    clock: Clock = time.perf_counter,
) -> Callable[[int], tuple[int, float]]:
    """The same by the Trainer, each batch padded to its longest or to `to_max`."""
    padded = DataCollatorWithPadding(tokenizer, padding="max_length" if to_max else True, max_length=to_max)
    tokens: list[int] = []

    def counted(batch: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(row["input_ids"]) for row in batch))
        return padded(batch)

    def once(seed: int) -> tuple[int, float]:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            max_steps=steps,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=round(WARMUP * steps),
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            seed=seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        stopwatch = _Stopwatch(clock)
        trainer = Trainer(model=model, args=settings, train_dataset=rows, data_collator=counted, callbacks=[stopwatch])  # type: ignore[arg-type]
        trainer.remove_callback(PrinterCallback)
        tokens.clear()
        trainer.train()
        return sum(tokens[:steps]), stopwatch.seconds  # it fetches a batch ahead

    return once


# ---- the whole


def measured(arguments: argparse.Namespace, texts: Sequence[str], labels: Sequence[int]) -> dict[str, Any]:
    """Rates of all sides (medians of the rounds), ratios of bertlab's to each of the Trainer's, and what is padding there."""
    tokenizer, examples = examples_of(texts, labels, arguments.max_length)
    ours, peer = start_models(arguments.preset, tokenizer.vocab_size, len(set(labels)), arguments.max_length, arguments.dropout)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder), arguments.max_length)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        rows = as_rows(examples)
        clock, work = CLOCKS[arguments.clock], (arguments.steps, arguments.batch_size)
        sides = {"bertlab": our_round(ours, examples, *work, clock)}
        for name, to_max in zip(PEERS, (None, arguments.max_length), strict=True):
            sides[name] = their_round(peer, theirs, rows, *work, to_max, folder, clock)
        for once in sides.values():
            once(0)  # the first round allocates
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for seed in range(1, arguments.rounds + 1):
            for name, once in sides.items():
                tokens, seconds = once(seed)
                rates[name].append(tokens / seconds)
    found: dict[str, Any] = {f"{name} tokens_per_second": statistics.median(each) for name, each in rates.items()}
    for name in PEERS:
        found[f"ratio, {name}"] = statistics.median(a / b for a, b in zip(rates["bertlab"], rates[name], strict=True))
    return found | {"tokens on average": float(examples.lengths.mean()), "padding, dynamic": padding(examples, arguments.batch_size)}


def padding(examples: Examples, batch_size: int, batches: int = 200) -> float:
    """The share of padding where batches of a shuffle are padded to their longest."""
    cells = tokens = 0
    for step in range(batches):
        lengths = examples.lengths[examples.shuffled(step, batch_size, 0)]
        cells, tokens = cells + len(lengths) * int(lengths.max()), tokens + int(lengths.sum())
    return 1 - tokens / cells


def data_of(arguments: argparse.Namespace) -> dict[str, tuple[Sequence[str], Sequence[int]]]:
    """Texts and labels by the name of their distribution, or of their file."""
    if arguments.data:
        found: dict[str, tuple[Sequence[str], Sequence[int]]] = {}
        for file in arguments.data:
            labelled = read_labelled(file)
            found[Path(file).parent.name + "/" + Path(file).name] = (labelled.texts, label_ids(labelled, label_names(labelled)))
        return found
    labels = np.random.default_rng(0).permutation(np.arange(arguments.examples) % NUM_LABELS).tolist()
    return {name: (made_texts(name, arguments.examples), labels) for name in arguments.lengths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mini", choices=PRESETS)
    parser.add_argument("--lengths", nargs="+", default=["short", "mixed", "long-tailed"], choices=["short", "mixed", "long-tailed"])
    parser.add_argument("--data", nargs="+", default=[], help="labelled files of single texts, instead of texts made here")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="processor: one thread's seconds, which other work does not change")
    parser.add_argument("--dropout", type=float, default=0.1)
    arguments = parser.parse_args()

    if arguments.clock == "processor":
        torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    many = f"{arguments.rounds} rounds of {arguments.steps} steps of {arguments.batch_size}"
    print(f"real tokens/s, medians of {many}; {arguments.preset}, fp32, dropout {arguments.dropout}")
    print(f"{'lengths':24} {'tokens':>6} {'padding':>7} {'bertlab':>9} {'Trainer':>9} {'ratio':>6} {'to max':>9} {'ratio':>6}", flush=True)
    results: dict[str, Any] = {}
    for name, (texts, labels) in data_of(arguments).items():
        one = results[name] = measured(arguments, texts, labels)
        ours, dynamic, to_max = (one[f"{side} tokens_per_second"] for side in ("bertlab", *PEERS))
        shown = f"{name:24} {one['tokens on average']:6.0f} {one['padding, dynamic']:7.1%} {ours:9,.0f} {dynamic:9,.0f}"
        print(f"{shown} {one['ratio, dynamic']:6.2f} {to_max:9,.0f} {one['ratio, to max']:6.2f}", flush=True)
    worst = min(one["ratio, dynamic"] for one in results.values())
    settings = {name: getattr(arguments, name) for name in ("preset", "steps", "rounds", "batch_size", "max_length", "dropout", "clock")}
    versions = machine(torch.device("cpu")) | {"transformers": transformers.__version__}
    print(json.dumps({"ratio": worst, "lengths": results} | settings | versions))


if __name__ == "__main__":
    main()
