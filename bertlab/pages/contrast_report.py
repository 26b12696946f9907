"""The report of a run of bertlab contrast: what the vectors find before and after, how dev chose among the steps, and how it went.

Reads config.yaml, metrics.jsonl and, once the run is finished, metrics.json. Computes no score, and shows a run that goes on as far as it
is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from bertlab.disk import read_object
from bertlab.pages.charts import Series, line_chart
from bertlab.pages.html import element, join, number, section, soft, table
from bertlab.pages.pretraining_report import differing, settings_table
from bertlab.pages.screen import metric_words
from bertlab.training.runlog import full_records, read_settings

Facts = dict[str, Any]


@dataclass(frozen=True)
class ContrastRun:
    """A run folder as read: its settings, its records of steps, its measurements on dev; `facts`: metrics.json once it is finished."""

    name: str
    settings: Facts
    steps: list[Facts]
    measured: list[Facts]
    facts: Facts | None

    @property
    def score(self) -> str:
        """By which the step is chosen."""
        return "spearman" if self.measured and "spearman" in self.measured[0] else "mrr"

    @property
    def best(self) -> Facts | None:
        """The measurement that was chosen; of a run that goes on the first of the highest so far."""
        known = [each for each in self.measured if each[self.score] is not None]
        if self.facts is not None:
            known = [each for each in known if each["step"] == self.facts["best"]["step"]]
        return max(known, key=lambda each: each[self.score]) if known else None


def read_contrast(folder: Path) -> ContrastRun:
    """Raises ConfigError (no run folder), CorruptError (settings or scores that are none)."""
    records = full_records(folder / "metrics.jsonl")
    metrics = folder / "metrics.json"
    return ContrastRun(
        name=folder.resolve().name,
        settings=read_settings(folder),
        steps=[record for record in records if "losses" in record],
        measured=[record["dev"] for record in records if "dev" in record],
        facts=read_object(metrics) if metrics.is_file() else None,
    )


def sections(run: ContrastRun) -> list[Markup]:
    """The whole report but for its title."""
    parts = [_verdict(run), _scores(run), _course(run), _measurements(run), settings_table(run.settings)]
    return [part for part in parts if part is not None]


def _verdict(run: ContrastRun) -> Markup:
    facts = run.facts
    if facts is None:
        done = run.steps[-1]["step"] if run.steps else 0
        return element(
            "div", element("p", f"The run is not finished: step {done:,}. What its vectors are worth is said at its end."), class_="wrong"
        )
    split = "test" if "test" in facts else "dev"
    found = facts[split]
    better = found["low"] is not None and found["low"] > 0
    score, chosen = metric_words(found["score"]), facts["best"]["step"]
    lines = [
        f"{score} on {split}: {found['before'][found['score']]:.3f} before, {found['after'][found['score']]:.3f} after, trained on "
        f"{facts['rows']:,} rows of {facts['texts']} in {facts['steps']:,} steps; "
        f"the weights are those of step {chosen:,}, the best on dev.",
        "The interval of the difference is above 0: the vectors are better than before."
        if better
        else "The interval of the difference is not above 0: it is not shown that the vectors are better than before.",
    ]
    if split == "dev":
        lines.append("No test file was given, and dev chose the weights, so the number flatters.")
    if chosen == 0:
        lines.append("No step made them better on dev than the start, which is what is kept: lower the learning rate?")
    return element("div", *(element("p", line) for line in lines), class_="wrong plain" if better and chosen else "wrong")


def _scores(run: ContrastRun) -> Markup | None:
    if run.facts is None:
        return None
    rows: list[list[object]] = []
    for split in ("test", "dev"):
        if (found := run.facts.get(split)) is None:
            continue
        for name in [key for key in found["after"] if key != "n"]:
            difference: list[object] = ["", ""]
            if name == found["score"]:
                difference = [number(found["difference"], f"{split}.difference", "+.3f"), _between(found, split)]
            sides = [number(found[side][name], f"{split}.{side}.{name}") for side in ("before", "after")]
            of_words = number(found.get("baselines", {}).get("TF-IDF", {}).get(name), f"{split}.baselines.TF-IDF.{name}")
            rows.append(
                [f"{metric_words(name)}, {split}", *sides, *difference, of_words, number(found["after"]["n"], f"{split}.after.n", ",d")]
            )
    what = [soft(f"{split}: {run.facts[split]['what']}") for split in ("test", "dev") if split in run.facts]
    columns = ["score", "before", "after", "difference", "95% interval", "TF-IDF", "n"]
    return section("Before and after", table(columns, rows, "scores before and after"), *what)


def _course(run: ContrastRun) -> Markup:
    skipped = sum(bool(record.get("skipped")) for record in run.steps)
    note = soft(
        f"{skipped:,} of {len(run.steps):,} steps were skipped: loss or gradient was not finite." if skipped else "No step was skipped."
    )
    return section("The course of the run", _curves([run]), note)


def _curves(runs: Sequence[ContrastRun]) -> Markup:
    """Of one run with what was chosen, or of several under their names; dev's scores of each kind in a chart of their own."""
    alone = len(runs) == 1

    def lines(name: str, of: Callable[[ContrastRun], np.ndarray]) -> list[Series]:
        return [Series(name if alone else run.name, _of(run.steps, "step"), of(run)) for run in runs]

    charts = [line_chart("Loss", lines("training", lambda run: _of(run.steps, "loss")), "step", "loss, nats")]
    for score in dict.fromkeys(run.score for run in runs):
        its = [run for run in runs if run.score == score]
        dev = [Series("dev" if alone else run.name, _of(run.measured, "step"), _of(run.measured, score), dots=True) for run in its]
        if alone and (best := runs[0].best):
            dev.append(Series("chosen", [best["step"]], [best[score]], dots=True))
        charts.append(line_chart(f"{metric_words(score)} on dev", dev, "step", metric_words(score)))
    rates = lines("AdamW's", lambda run: _of(run.steps, "learning_rate"))
    norms = lines("before clipping", lambda run: _of(run.steps, "grad_norm"))
    speeds = lines("real tokens a second", lambda run: _of(run.steps, "tokens") / _of(run.steps, "seconds"))
    charts.append(line_chart("Learning rate", rates, "step", "rate"))
    charts.append(line_chart("Gradient norm", norms, "step", "norm over all parameters"))
    charts.append(line_chart("Speed", speeds, "step", "tokens a second"))
    return element("div", *charts, class_="charts")


def _measurements(run: ContrastRun) -> Markup | None:
    if not run.measured:
        return None
    names = [key for key in run.measured[0] if key not in ("step", "n")]
    rows = [
        [
            join(f"{each['step']:,}", " (chosen)" if each is run.best else ""),
            *(number(each[name], f"history.{place}.{name}") for name in names),
        ]
        for place, each in enumerate(run.measured)
    ]
    return section("Measurements on dev", table(["step", *map(metric_words, names)], rows, "measurements on dev"))


def comparison(runs: Sequence[ContrastRun]) -> list[Markup]:
    """Several runs in one table and in the same charts."""
    rows: list[list[object]] = []
    for run in runs:
        best, facts = run.best or {}, run.facts or {}
        split = "test" if "test" in facts else "dev"
        found = facts.get(split, {})
        score = found.get("score", run.score)
        sides = [number(found.get(side, {}).get(score), f"{run.name}.{split}.{side}.{score}") for side in ("before", "after")]
        rows.append(
            [
                run.name,
                f"{metric_words(score)}, {split}" if facts else "not finished",
                *sides,
                number(found.get("difference"), f"{run.name}.{split}.difference", "+.3f"),
                _between(found, f"{run.name}.{split}") if found else "-",
                number(found.get("after", {}).get("n"), f"{run.name}.{split}.after.n", ",d"),
                metric_words(run.score),
                number(best.get(run.score), f"{run.name}.best.{run.score}"),
                number(best.get("step"), f"{run.name}.best.step", ",d"),
                number(facts.get("rows"), f"{run.name}.rows", ",d"),
            ]
        )
    columns = [
        "run",
        "score",
        "before",
        "after",
        "difference",
        "95% interval",
        "n",
        "chosen by",
        "best on dev",
        "at step",
        "rows trained on",
    ]
    notes = [
        "Scores can be compared where the texts measured on are the same; intervals are of each run's own difference from its start.",
        "Losses can be compared where batch size, temperature and negatives are the same.",
    ]
    different = differing([(run.name, run.settings) for run in runs], [name for run in runs for name in run.settings if name != "out"])
    side = section("Runs of contrast side by side", table(columns, rows, "runs of contrast"), *map(soft, notes))
    return [side, section("Their course", _curves(runs)), *([different] if different else [])]


def _between(found: Facts, of: str) -> Markup | str:
    """The ends of a difference's interval, or why it has none."""
    if found["low"] is None:
        return f"no interval: {found['method'].removeprefix('none: ')}"
    low, high = (number(found[end], f"{of}.{end}", "+.3f") for end in ("low", "high"))
    return join(low, " to ", high)


def _of(records: list[Facts], key: str) -> np.ndarray:
    """A number of every record, NaN where it has none."""
    return np.array([record.get(key) for record in records], dtype=np.float64)
