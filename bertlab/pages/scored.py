"""The scores of a fine-tuned model as metrics.json has them, each with its exact value and its place there, and what can be said of them in
words.

They are of a fine-tuning run, of one task of several, of a cross-validation, or of `bertlab evaluate`: of a model's answers or its vectors.
Computes no score. The tables and charts are in finetuning_report.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bertlab.disk import read_object
from bertlab.evaluation.comparable import lower_is_better
from bertlab.pages.evaluation import judged_by, leak_lines, of_vectors_alone, of_what
from bertlab.pages.html import element, join, number
from bertlab.pages.screen import counted, metric_words, no_label_lines
from bertlab.tasks.choosing import TASKS
from bertlab.tasks.contract import Task
from bertlab.tasks.measures import AGAINST

Facts = dict[str, Any]
Path_ = tuple[str, ...]

_SAYS = {
    "model": "the model is better on this test set.",
    "baseline": "it is better than the model on this test set.",
    None: "this test set does not show which of the two is better.",
}


@dataclass(frozen=True)
class Scored:
    """metrics.json, and the folder that has mistakes.jsonl and predictions.parquet. The scores stand at `scores` in it, their intervals at
    `intervals`, what probabilities are worth at `probabilities`."""

    name: str
    folder: Path
    metrics: Facts
    scores: Path_
    intervals: Path_
    probabilities: Path_

    @property
    def kind(self) -> str:
        """The task's name, or what vectors were judged by."""
        return str(self.metrics.get("task", "single-label"))

    @property
    def task(self) -> Task | None:
        """None where vectors were judged and nothing was answered."""
        return None if of_vectors_alone(self.metrics) else TASKS[self.kind]

    @property
    def headlines(self) -> Mapping[str, Path_]:
        """Where each of its scores stands within the scores, the first first."""
        return self.task.scores if self.task else {name: (name,) for name in judged_by(self.metrics)}

    @property
    def split(self) -> str:
        return self.scores[0] if self.scores else "out-of-fold" if "folds" in self.metrics else "test"

    def at(self, *path: str) -> Any:
        """What stands at a path of metrics.json, or None."""
        value: Any = self.metrics
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def baseline(self, name: str, metric: str, path: Path_) -> Path_:
        """Where a baseline's score stands: as the model's do, or of cross-validation as a mean over folds."""
        return ("baselines", name, metric, "mean") if "folds" in self.metrics else ("baselines", name, *path)

    def number(self, *path: str, written: str = ".3f") -> Markup:
        """The number at a path, or a dash."""
        value = self.at(*path)
        return number(value if isinstance(value, int | float) else None, ".".join(path), written)

    def between(self, *path: str) -> Markup | str:
        """low to high of the interval at a path, or nothing."""
        interval = self.at(*path)
        if not isinstance(interval, dict) or interval.get("low") is None:
            return ""
        return join(self.number(*path, "low"), " to ", self.number(*path, "high"))


def read_scored(folder: Path, name: str, metrics: Facts | None = None) -> Scored:
    """The scores of a folder with metrics.json (or of `metrics`, where they are already at hand): on test, else on dev."""
    metrics = read_object(folder / "metrics.json") if metrics is None else metrics
    if "dev" not in metrics:  # bertlab evaluate, bertlab prompt
        return Scored(name, folder, metrics, (), ("intervals",), ())
    if "test" in metrics:
        return Scored(name, folder, metrics, ("test",), ("test_intervals",), ("test_probabilities",))
    return Scored(name, folder, metrics, ("dev",), ("none",), ("none",))


# --- in words ---------------------------------------------------------------------------------------------------------------------------


def verdict(scored: Scored) -> Markup:
    """What can be said and what cannot, for who reads nothing else."""
    split = scored.split
    first, path = next(iter(scored.headlines.items()))
    n = scored.at(*scored.scores, "n")
    level = scored.at(*scored.intervals, "level")
    between = scored.between(*scored.intervals, *path)
    lines: list[object] = [
        join(
            f"{metric_words(first)} on {n:,} {split} examples: ",
            scored.number(*scored.scores, *path),
            join(f" ({level:.0%} interval ", between, ")") if between else None,
            ".",
        )
    ]
    if split == "dev":
        lines.append("There was no test file: these are the examples that epoch and seed were chosen by, so the number flatters.")
    spread = scored.at("over_seeds", first)
    if spread and spread.get("sd") is not None:
        lines.append(
            join(f"Over {len(scored.metrics['seeds'])} seeds: mean ", scored.number("over_seeds", first, "mean"), ", standard deviation ",
                 scored.number("over_seeds", first, "sd"), ".")
        )  # fmt: skip
    if "folds" in scored.metrics:
        lines.append(
            join(f"Over {len(scored.metrics['folds'])} folds: mean ", scored.number("over_folds", first, "mean"), ", standard deviation ",
                 scored.number("over_folds", first, "sd"), ".")
        )  # fmt: skip
    if of_vectors_alone(scored.metrics):
        lines.append(f"{of_what(scored.metrics)}.")
    lines += [_against(scored, name, path, first) for name in scored.metrics.get("baselines", {})]
    leaks, wrong = _leaks(scored), False
    for line in leaks:
        wrong = wrong or line.startswith("warning")
        lines.append(line)
    beaten = any(isinstance(line, str) and "is better than the model" in line for line in lines)
    lines += [f"{line[0].upper()}{line[1:]}." for line in no_label_lines(scored.at(*scored.scores) or {})]
    lines += _calibrated(scored)
    return element("div", *(element("p", line) for line in lines), class_="wrong" if wrong or beaten or split == "dev" else "wrong plain")


def _against(scored: Scored, name: str, path: Path_, metric: str) -> str:
    """A baseline against the model: by the paired difference where its answers are kept, else against the model's interval, in which its
    own chance is not."""
    if scored.at(AGAINST, "baseline") == name:
        between, says = scored.between(AGAINST, "interval"), _SAYS[scored.at(AGAINST, "better")]
        return join(
            f"{name}: ", scored.number(AGAINST, "b"), " against the model's ", scored.number(AGAINST, "a"), ", a difference of ",
            scored.number(AGAINST, "difference", written="+.3f"), join(" (interval ", between, ")") if between else None, ", p = ",
            scored.number(AGAINST, "p", written=".4f"), " (", scored.number(AGAINST, "R", written=",d"), f" resamples): {says}",
        )  # fmt: skip
    other = scored.at(*scored.baseline(name, metric, path))
    interval = scored.at(*scored.intervals, *path) or {}
    low, high = interval.get("low"), interval.get("high")
    lower = lower_is_better(metric)
    told = f"{name}: {other:.3f}, "
    if low is None or high is None:
        return told + "and there is no interval to hold it against."
    if low <= other <= high:
        return f"{told}within the model's interval: {_SAYS[None]}"
    if (other < low) != lower:
        return f"{told}outside the model's interval: {_SAYS['model']}"
    return f"{told}outside the model's interval: {_SAYS['baseline']}"


def _leaks(scored: Scored) -> list[str]:
    """What leak_lines says, as sentences, of the split that is scored."""
    if copies := scored.metrics.get("near_copies"):
        are = f"{counted(copies, 'text')} {'is' if copies == 1 else 'are'}"
        return [f"warning: {are} nearly equal to one that their model learnt from: the scores flatter"]
    if "folds" in scored.metrics or "prompt" in scored.metrics or of_vectors_alone(scored.metrics):  # nothing was learnt from a train
        return []
    leakage = scored.metrics.get("leakage")
    if "dev" in scored.metrics:
        if not isinstance(leakage, dict) or scored.split not in leakage:
            return []
        leakage = leakage[scored.split]
    return [" ".join(line.split()).replace("leaks ", "Leaks: ", 1) for line in leak_lines(leakage, scored.split)]


def _calibrated(scored: Scored) -> list[Markup]:
    before = scored.at(*scored.probabilities, "calibration", "before")
    if not before:
        return []
    place = (*scored.probabilities, "calibration", "before")
    trust = before["ece"] <= before["by_chance"]["high"]
    misses = join("they miss by ", scored.number(*place, "ece"), " on average (ECE), where a calibrated model would show up to ",
                  scored.number(*place, "by_chance", "high"))  # fmt: skip
    if trust and not _tells_apart(scored):
        area = scored.number(*scored.probabilities, "roc_auc", "macro")
        return [join("Its probabilities say how often each label occurs, and hardly of which texts (ROC-AUC ", area, "): ", misses,
                     ", as those of whoever answers to every text alike.")]  # fmt: skip
    return [join("Its probabilities ", "can" if trust else "cannot", " be taken at their word: ", misses, ".")]


def _tells_apart(scored: Scored) -> bool:
    """Whether the probabilities rank texts better than by lot, and some text is answered: the share of each class, said of every text, is
    calibrated too (Murphy 1973: reliability without resolution)."""
    interval = scored.at(*scored.probabilities, "intervals", "roc_auc", "macro") or scored.at("intervals", "roc_auc", "macro") or {}
    area, low = scored.at(*scored.probabilities, "roc_auc", "macro"), interval.get("low")
    nobody_answered = scored.at(*scored.scores, "no_label", "predicted") == 1
    return not nobody_answered and area is not None and (area if low is None else low) > 0.5
