"""What the same minutes teach: pretraining recipes at equal wall time, by held-out loss and by a probe of their vectors.

    python recipes/benchmarks/recipes.py [--minutes 3] [--preset tiny] [--seeds 3] [--recipe paper default ...]

Each recipe is a change to `bertlab pretrain`'s settings. Its speed is measured first, by a short run alone, in rounds that
alternate with the others'; from that comes the number of steps that fit the minutes, and the long runs are of that many steps.
So a busy machine makes the long runs slower, never shorter. Judged, whatever was trained: the held-out masked-word loss at
15 % masking of the last weights, and the macro-F1 of a logistic regression on mean vectors of a labelled set (a linear probe:
no fine-tuning, so that no other recipe is judged along with it). Text and labels are the sample that ships, or --corpus and
--train/--test files. Prints a table and, last, one JSON object; with --out what is finished is kept, and not run again.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import machine  # type: ignore[import-not-found]  # the file beside this one
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import bertlab
from bertlab import sample
from bertlab.corpus.labelled import read_labelled
from bertlab.disk import read_json, write_json
from bertlab.model.presets import PRESETS
from bertlab.training import processes
from bertlab.verbs import prepare, pretrain

# Against bertlab's default (Muon and AdamW, no dropout, the output bias at log unigram frequencies, linear decay, 15 %):
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"optimizer": "adamw", "dropout": 0.1, "start_at_unigrams": False},  # at the rate that a model of this width takes
    "adamw": {"optimizer": "adamw", "dropout": 0.1},
    "adamw, no dropout": {"optimizer": "adamw"},
    "muon": {"dropout": 0.1},
    "muon, no dropout": {},
    "muon, no dropout, flat bias": {"start_at_unigrams": False},
    "muon, no dropout, stable then decay": {"decay": 0.2},
    "muon, no dropout, 20 % masked": {"mask_rate": 0.2},
    "muon, no dropout, 30 % masked": {"mask_rate": 0.3},
    "muon, no dropout, half the batch": {"micro_tokens": 2048},
    "muon, no dropout, twice the batch": {"micro_tokens": 8192},
}
TRIAL_STEPS = 30


def quietly(config: pretrain.Config) -> dict[str, Any]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return pretrain.run(config)


def seconds_a_step(config: pretrain.Config) -> float:
    """The median step of a short run, thrown away; its first steps, which allocate, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        run = replace(config, out=f"{folder}/run", steps=TRIAL_STEPS, log_every=1, heldout_every=TRIAL_STEPS, heldout_batches=1)
        quietly(run)
        lines = [json.loads(line) for line in (Path(run.out) / "metrics.jsonl").read_text().splitlines()]
        return statistics.median(line["seconds"] for line in lines if "seconds" in line and line["step"] > 5)


def probe(model: str, train: str, test: str) -> float:
    """Macro-F1 on `test` of a logistic regression on the model's mean vectors of `train`, standardised."""
    loaded = bertlab.load(model, "cpu")
    vectors, labels = [], []
    for file in (train, test):
        rows = read_labelled(file)
        assert rows.labels is not None
        vectors.append(loaded.embed(rows.texts))
        labels.append(rows.labels)
    mean, deviation = vectors[0].mean(0), vectors[0].std(0) + 1e-6
    known, unknown = ((of - mean) / deviation for of in vectors)
    classifier = LogisticRegression(max_iter=300).fit(known, labels[0])
    return float(f1_score(labels[1], classifier.predict(unknown), average="macro"))


def judged(config: pretrain.Config, train: str, test: str, out: Path) -> dict[str, float]:
    """One long run and what it taught; kept in `out`, a file. A run that was cut off lies beside it, and goes on."""
    if not out.is_file():
        run = replace(config, out=str(out.with_suffix(".run")), heldout_every=config.steps)
        facts = quietly(run)
        tokens = facts["tokens_seen"]
        # the last weights, not the best: nothing is chosen by what judges
        last = json.loads((Path(run.out) / "metrics.jsonl").read_text().splitlines()[-1])["heldout"]
        assert last["step"] == config.steps
        result = {name: last[name] for name in ("mlm_loss", "masked_accuracy", "nsp_accuracy", "unigram_loss")}
        write_json(out, result | {"probe_macro_f1": probe(f"{run.out}/model", train, test), "steps": config.steps, "tokens": tokens})
        shutil.rmtree(run.out)
    found: dict[str, float] = read_json(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--preset", default="tiny", choices=PRESETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=RECIPES, metavar="RECIPE")
    parser.add_argument("--corpus", help="a folder that `bertlab prepare` wrote; by default the sample is prepared")
    parser.add_argument("--train", default=str(sample.path("topics_train.jsonl.xz")))
    parser.add_argument("--test", default=str(sample.path("topics_test.jsonl.xz")))
    parser.add_argument("--out", help="a folder for what is finished; the same command goes on")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(arguments.out or temporary)
        corpus = arguments.corpus or str(out / "corpus")
        if not Path(corpus).exists():
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                prepare.run(prepare.Config(source=(str(sample.path("articles.jsonl.xz")),), out=corpus, vocab_size=8192))
        base = pretrain.Config(corpus=corpus, out="", preset=arguments.preset, device="cpu")
        configs = {name: replace(base, **RECIPES[name]) for name in arguments.recipe}
        speeds_file = out / f"speeds-{arguments.preset}.json"
        seconds: dict[str, float] = read_json(speeds_file) if speeds_file.is_file() else {}
        absent = [name for name in configs if name not in seconds]
        rounds = [{name: seconds_a_step(configs[name]) for name in absent} for _ in range(2)] if absent else []
        seconds |= {name: min(each[name] for each in rounds) for name in absent}
        write_json(speeds_file, seconds)
        print(f"\n{arguments.preset}, {arguments.minutes:g} minutes, {arguments.seeds} seeds: mean (standard deviation)")
        print(f"{'recipe':38} {'ms/step':>8} {'steps':>7}  {'held-out loss':>15} {'right':>7} {'probe macro-F1':>16}")
        results: dict[str, Any] = {}
        for name, config in configs.items():
            steps = max(1, int(60 * arguments.minutes / seconds[name]))
            began, found = time.monotonic(), []
            for seed in range(arguments.seeds):
                place = out / f"{arguments.preset}-{arguments.minutes:g}min-{name.replace(' ', '_').replace('%', 'percent')}-{seed}.json"
                found.append(judged(replace(config, steps=steps, seed=seed), arguments.train, arguments.test, place))
            spread = {of: (np.mean([f[of] for f in found]), np.std([f[of] for f in found], ddof=len(found) > 1)) for of in found[0]}
            loss, right, score = (spread[of] for of in ("mlm_loss", "masked_accuracy", "probe_macro_f1"))
            print(
                f"{name:38} {1000 * seconds[name]:8.1f} {steps:7,}  {loss[0]:7.3f} ({loss[1]:.3f}) {right[0]:7.1%} {score[0]:8.3f} "
                f"({score[1]:.3f})   {time.monotonic() - began:,.0f} s",
                flush=True,
            )
            results[name] = {"steps": steps, "seconds_a_step": seconds[name]} | {of: [f[of] for f in found] for of in found[0]}
    facts = machine(torch.device("cpu")) | {"preset": arguments.preset, "minutes": arguments.minutes, "bf16": False}
    facts["bf16"] = processes.uses_bf16(torch.device("cpu"), "auto")
    print(json.dumps(facts | {"recipes": results}))


if __name__ == "__main__":
    main()
