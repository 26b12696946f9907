"""What a fine-tuning leaves of one task: metrics.json, the predictions of every seed, and the facts of its model folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import bertlab
from bertlab.disk import sha256_file, write_json
from bertlab.evaluation.metrics import mean_and_deviation
from bertlab.tasks.contract import Labels
from bertlab.tasks.data import Data, what_was_cut

State = dict[str, Any]  # of one seed: seed, dev, dev_loss, tuned, and where there is a test file, test


def labels_of(data: Data, state: State) -> Labels:
    """What is known of the labels, with what was set on dev for one seed's model."""
    return replace(data.labels, tuned=state["tuned"])


def write_results(
    folder: Path, data: Data, states: list[State], best: State, test_outputs: dict[int, Any], baselines: bool
) -> dict[str, Any]:
    """Write metrics.json, predictions.parquet of the best seed and predictions/seed-*.parquet of all; returns the metrics.

    test_outputs: by seed, none where there is no test file.
    """
    task = data.task
    metrics: dict[str, Any] = {"task": task.name, "labels": data.labels.names}
    metrics |= {"best_seed": best["seed"], "dev": best["dev"], "seeds": states}
    metrics["examples"] = {split: len(rows) for split, rows in data.splits.items()}
    metrics["cut"] = {split: what_was_cut(encoded) for split, encoded in data.encoded.items()}
    metrics["truncated"] = {split: encoded.num_truncated for split, encoded in data.encoded.items()}
    if test_outputs:
        train, test, gold = data.splits["train"], data.splits["test"], data.gold["test"]
        metrics["test"] = best["test"]
        metrics["test_intervals"] = task.intervals(gold, test_outputs[best["seed"]], labels_of(data, best))
        of_seeds = [task.headlines(state["test"]) for state in states]
        metrics["over_seeds"] = {name: mean_and_deviation([each[name] for each in of_seeds]) for name in task.scores}
        metrics["baselines"] = task.baselines(train, data.gold["train"], test, gold, data.labels) if baselines else {}
        task.write(folder / "predictions.parquet", test, gold, test_outputs[best["seed"]], labels_of(data, best))
        for state in states:  # what `bertlab compare` makes claims about methods from
            path = folder / "predictions" / f"seed-{state['seed']}.parquet"
            task.write(path, test, gold, test_outputs[state["seed"]], labels_of(data, state))
    write_json(folder / "metrics.json", metrics)
    return metrics


def result_files(metrics: dict[str, Any]) -> list[str]:
    """The files of `write_results` by name: what a model folder binds."""
    by_seed = [f"predictions/seed-{state['seed']}.parquet" for state in metrics["seeds"]]
    return ["metrics.json", *(["predictions.parquet", *by_seed] if "test" in metrics else [])]


def facts_of(data: Data, metrics: dict[str, Any], *, started_from: str, tokenizer_sha256: str) -> dict[str, Any]:
    """bertlab.json of the best seed's model."""
    (best,) = (state for state in metrics["seeds"] if state["seed"] == metrics["best_seed"])
    return {
        "bertlab": bertlab.__version__,
        "kind": "classifier",
        "task": data.task.name,
        "started_from": started_from,
        "data": {split: {"name": Path(file).name, "sha256": sha256_file(Path(file))} for split, file in data.files.items()},
        "train_examples": metrics["examples"]["train"],
        "tokenizer_sha256": tokenizer_sha256,
        "max_length": data.max_length,
        "long": data.long,
        "tuned": best["tuned"],
        "pooler_trained": True,
        "pairs": data.are_pairs,
        "seeds": len(metrics["seeds"]),
        "best_seed": metrics["best_seed"],
        "dev": metrics["dev"],
        "test": metrics.get("test"),
    }
