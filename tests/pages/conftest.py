"""Run folders as the verbs leave them, made in a moment: the numbers by the functions that the verbs call, the model's answers drawn."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.config import save
from bertlab.corpus.labelled import Labelled
from bertlab.disk import write_json
from bertlab.pages.evaluation import write_mistakes
from bertlab.tasks import measures
from bertlab.tasks.contract import Labels
from bertlab.tasks.single_label import SINGLE_LABEL as TASK
from bertlab.training.runlog import RunLog
from bertlab.verbs import finetune, pretrain


def finetuned(folder: Path, names: Sequence[str], texts: Sequence[str], *, n: int = 120, seeds: int = 2, tested: bool = True) -> Path:
    """A fine-tuning run of n test examples whose texts and classes repeat `texts` and `names`."""
    draw = np.random.default_rng(len(names))
    labels = Labels(list(names))
    gold = [row % len(names) for row in range(n)]
    rows = Labelled([f"test:{row}" for row in range(n)], [f"{texts[row % len(texts)]} {row}" for row in range(n)], None, None, "test.csv")
    train = Labelled([f"train:{row}" for row in range(n)], [f"some word{row} else" for row in range(n)], None, None, "train.csv")
    logits = draw.normal(size=(n, len(names))) + 2.0 * np.eye(len(names))[gold]
    outputs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    learnt = measures.learnt_on_dev(TASK, gold, outputs, labels)
    scores = TASK.metrics(gold, outputs, labels)
    history = [{"epoch": epoch, "dev_macro_f1": 0.1 * epoch, "dev_loss": 1 / epoch} for epoch in (1, 2, 3)]
    states: list[dict[str, Any]] = [
        {"seed": seed, "step": 9, "epoch": 3, "dev": scores, "dev_loss": 0.5, "history": history} for seed in range(seeds)
    ]
    metrics: dict[str, Any] = {"task": TASK.name, "labels": labels.names, "best_seed": 0, "dev": scores, "seeds": states}
    metrics |= {"leakage": {"dev": None, "test": measures.leakage(train, rows)}, measures.LEARNT: learnt}
    metrics["examples"] = {"train": n, "dev": n} | ({"test": n} if tested else {})
    if tested:
        for state in states:
            state["test"] = scores
        metrics |= {"test": scores, "test_intervals": TASK.intervals(gold, outputs, labels)}
        metrics["over_seeds"] = {name: {"mean": value, "sd": 0.01234} for name, value in TASK.headlines(scores).items()}
        answered = TASK.baselines(train, gold, rows, labels)
        metrics["baselines"] = {name: TASK.metrics(gold, its, labels) for name, its in answered.items()}
        metrics["test_probabilities"] = measures.of_probabilities(TASK, gold, outputs, labels, learnt)
        metrics["label_errors"] = {"suspected": 0, "too_weak": labels.names[:1]}
        write_mistakes(folder, measures.mistakes_of(TASK, rows, gold, outputs, labels))
        TASK.write(folder / "predictions.parquet", rows, gold, outputs, labels)
        metrics |= measures.against_baseline(folder, TASK, rows, gold, answered, labels)[0]
    write_json(folder / "metrics.json", metrics)
    save(finetune.Config(model=texts[0], train="train.csv", out=str(folder)), folder / "config.yaml")
    return folder


def pretrained(
    folder: Path, *, steps: int = 400, finished: bool = True, said: Sequence[str] = ("mill", "river"), log_every: int = 1
) -> Path:
    """A pretraining run: losses that fall, one skipped step and one spike, five measurements with guesses."""
    folder.mkdir(parents=True)
    save(pretrain.Config(corpus=str(folder / "corpus"), out=str(folder), steps=steps), folder / "config.yaml")
    draw = np.random.default_rng(steps)
    log = RunLog(folder / "metrics.jsonl", -1)
    measured: list[dict[str, Any]] = []
    for step in range(steps + 1):
        skipped, spike = step == steps // 4, step == steps // 2
        loss = float("nan") if skipped else 7 - 2 * step / steps + float(draw.normal()) * 0.1 + 2 * spike
        record = {"losses": {"mlm_loss": loss, "nsp_loss": 0.7 - 0.3 * step / steps}, "skipped": skipped, "spike": spike, "grad_norm": 1.5}
        record |= {"learning_rate": 1e-3 * (1 - step / steps), "tokens": 4000, "seconds": 0.5, "data_seconds": 0.01}
        record |= {"mfu": 0.5 if step > 1 else None}  # other work slowed what it is held against
        record |= {"tokens_per_second": 8000.0, "tokens_seen": 4000 * step, "elapsed_seconds": 0.6 * step, "memory_bytes": 10**9}
        if step and (step % log_every == 0 or skipped or spike):
            log.write({"step": step, "batch": "ab" * 16, **record})
        elif step:
            log.write({"step": step, "batch": "ab" * 16})
        if step % (steps // 4) == 0:
            measured.append(
                {
                    "step": step,
                    "mlm_loss": 7.1 - 2 * step / steps,
                    "masked_accuracy": 0.05 + step / steps / 4,
                    "nsp_loss": 0.69,
                    "nsp_accuracy": 0.6,
                }
                | {"masked_tokens": 900.0, "pairs": 60.0, "unigram_loss": 6.9876543210123, "nsp_majority": 0.55}
            )
            pair = {
                "text": f"[CLS] the [MASK]<{said[0]}> runs [SEP]",
                "follows": True,
                "masked": [[2, "[MASK]", said[0], said[step > 0], 0.25]],
            }
            log.write({"step": step, "heldout": measured[-1], "guesses": [pair]})
    log.close()
    if finished:
        facts: dict[str, Any] = {
            "parameters": 4_433_468,
            "layers": 2,
            "hidden_size": 128,
            "vocab_size": 30_522,
            "steps": steps,
            "tokens_seen": 4000 * steps,
        }
        facts |= {"skipped_steps": 1, "seconds": 0.6 * steps, "heldout_start": measured[0], "heldout": measured[-1]}
        write_json(folder / "model" / "bertlab.json", facts)
    manifest = {"filters": {"in": 9129, "kept": 8579, "dropped": {said[0]: 550}}, "counts": {"words": 705_643}}
    write_json(folder / "corpus" / "manifest.json", manifest | {"sources": [{"name": said[0], "licence": said[1]}]})
    return folder


@pytest.fixture(scope="session")
def make_finetuned() -> Callable[..., Path]:
    return finetuned


@pytest.fixture(scope="session")
def make_pretrained() -> Callable[..., Path]:
    return pretrained


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, 120 examples, two seeds."""
    texts = ["the old mill stands by the river and has been there for very long, as everybody in the village knows", "a short one"]
    return finetuned(tmp_path_factory.mktemp("runs") / "topics", ["rivers", "mills", "towns & <places>", "people"], texts)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("runs") / "bert", log_every=4)


@pytest.fixture(scope="session")
def metrics_of() -> Callable[[Path], dict[str, Any]]:
    def read(run: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
        return found

    return read
