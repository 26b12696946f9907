"""The report of a fine-tuned model: what it scores and how sure that is, against what needs no BERT, where it errs and what flatters it.

Reads metrics.json (by scored.py, which says it in words), mistakes.jsonl and predictions.parquet of a fine-tuning run, of one task of
several, or of `bertlab evaluate` (of vectors too: how they lie), and computes no score: of the predictions it draws the
precision-recall curves. Every number of metrics.json carries its exact value and its place there (bertlab/pages/html.py, `number`).
"""

import json
import shlex
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from markupsafe import Markup

from bertlab.errors import BertlabError, DataError
from bertlab.evaluation.alignment import PredictionsFile, align, read_predictions
from bertlab.pages.charts import Series, interval_chart, line_chart, shaded_table
from bertlab.pages.evaluation import MISTAKES, as_cell, clipped, first_words, surest_wrong, weak_lines
from bertlab.pages.figures import most_frequent
from bertlab.pages.html import element, join, number, section, soft, table
from bertlab.pages.scored import Path_, Scored, verdict
from bertlab.pages.screen import OF_SETS, absent_lines, metric_words
from bertlab.pages.vectors_report import how_they_lie

MOST_CLASSES = 20  # in a confusion matrix; of more the commonest confusions stand in a list
CORRELATED = ("regression", "similarity")  # their scores may be below 0, and have no chart
# What belongs together, by what vectors are judged by.
PAIRS = {"similarity": "a pair that was scored high", "retrieval": "a query and its text"}
MOST_CONFUSIONS, MOST_MISTAKES, MOST_CURVES = 15, 15, 8


def sections(scored: Scored) -> list[Markup]:
    parts = [
        verdict(scored),
        _headlines(scored),
        _seeds(scored),
        _classes(scored),
        _confusion(scored),
        _probabilities(scored),
        _mistakes(scored),
        _vectors(scored),
    ]
    return [part for part in parts if part]


# --- tables -----------------------------------------------------------------------------------------------------------------------------


def _headlines(scored: Scored) -> Markup:
    """Every headline number with its interval, beside the baselines', and what is told of one label, or of sets, alone."""
    further = {name: (name,) for name in ("mcc", "mae", "r2", *OF_SETS) if scored.at(*scored.scores, name) is not None}
    baselines = list(scored.metrics.get("baselines", {}))
    rows = [
        [
            metric_words(name),
            scored.number(*scored.scores, *path),
            scored.between(*scored.intervals, *path),
            *(scored.number(*scored.baseline(baseline, name, path)) for baseline in baselines),
        ]
        for name, path in {**scored.headlines, **further}.items()
    ]
    for kind in ("roc_auc", "pr_auc"):
        if scored.at(*scored.probabilities, kind):
            place = (*scored.probabilities, kind, "macro")
            between = scored.between(*scored.probabilities, "intervals", kind, "macro") or scored.between("intervals", kind, "macro")
            rows.append([kind.upper().replace("_", "-"), scored.number(*place), between, *[""] * len(baselines)])
    level = scored.at(*scored.intervals, "level")
    columns = ["", scored.split, f"{level:.0%} interval" if level else "interval", *baselines]
    examples = scored.metrics.get("examples")
    notes = [f"{split}: {count:,} examples" for split, count in examples.items()] if examples else []
    if scored.at("learning_rate") is not None:
        notes.append(join("learning rate ", scored.number("learning_rate", written="g")))
    return section("Scores", table(columns, rows, "scores"), soft(join(*notes, between=", "), ".") if notes else None)


def _seeds(scored: Scored) -> Markup | None:
    """Seeds side by side, and their course on dev."""
    seeds = scored.metrics.get("seeds")
    if not seeds:
        return None
    names = list(scored.headlines)
    rows = []
    for place, state in enumerate(seeds):
        cells = [
            number(_within(state.get(split), scored.headlines[name]), f"seeds.{place}.{split}.{'.'.join(scored.headlines[name])}")
            for split in ("dev", "test")
            if split in state
            for name in names
        ]
        chosen = " (chosen by dev)" if state.get("seed") == scored.metrics.get("best_seed") else ""
        failed = " (failed: no better than one answer for all)" if state.get("failed") else ""
        rows.append([f"{state.get('seed')}{chosen}{failed}", str(state.get("epoch", "")), *cells])
    columns = ["seed", "best epoch", *(f"{split} {metric_words(name)}" for split in ("dev", "test") if split in seeds[0] for name in names)]
    key = f"dev_{names[0]}"
    lines = [
        Series(
            f"seed {state.get('seed')}",
            [each["epoch"] for each in state["history"]],
            [each.get(key) for each in state["history"]],
            dots=True,
        )
        for state in seeds
        if state.get("history") and all(isinstance(each.get(key), int | float) for each in state["history"])
    ]
    chart = line_chart(f"{metric_words(names[0])} on dev", lines, "epoch", metric_words(names[0])) if lines else None
    return section("Seeds side by side", table(columns, rows, "seeds"), element("div", chart, class_="charts") if chart else None)


def _classes(scored: Scored) -> Markup | None:
    """Precision, recall and F1 of every class or type of entity with their intervals."""
    of = next((key for key in ("per_class", "per_type") if scored.at(*scored.scores, key)), None)
    if of is None:
        return None
    rows, dots = [], []
    for name, scores in scored.at(*scored.scores, of).items():
        place, its = (*scored.scores, of, name), (*scored.intervals, of, name)
        cells: list[object] = [name]
        for key in ("precision", "recall", "f1"):
            cells += [scored.number(*place, key), scored.between(*its, key)]
        rows.append([*cells, scored.number(*place, "support", written=",d")])
        interval = scored.at(*its, "f1") or {}
        dots.append((name, scores["f1"], interval.get("low"), interval.get("high")))
    for kind in ("macro", "weighted", "micro"):
        place = (*scored.scores, kind)
        if scored.at(*place):
            pairs = [(scored.number(*place, key), scored.between(*scored.intervals, kind, key)) for key in ("precision", "recall", "f1")]
            rows.append([f"{kind} average", *(cell for pair in pairs for cell in pair), ""])
    columns = ["class" if of == "per_class" else "type", "precision", "", "recall", "", "F1", "", "n"]
    chart = element("div", interval_chart("F1 with its interval", dots[:60]), class_="charts")
    notes = [soft(f"{line}.") for line in absent_lines(scored.at(*scored.scores, "per_class") or {})]
    return section("By class" if of == "per_class" else "By type", chart, table(columns, rows, "scores by class"), *notes)


def _confusion(scored: Scored) -> Markup | None:
    matrix, names = scored.at(*scored.scores, "confusion_matrix"), scored.metrics.get("labels", [])
    if not isinstance(matrix, list) or not matrix:
        return None
    counts = np.array(matrix)
    place = ".".join((*scored.scores, "confusion_matrix"))
    off = [(int(counts[gold, other]), gold, other) for gold, other in np.argwhere(counts > 0).tolist() if gold != other]
    worst = sorted(off, key=lambda each: (-each[0], each[1:]))[:MOST_CONFUSIONS]
    listed = [[names[gold], names[other], number(count, f"{place}.{gold}.{other}", ",d")] for count, gold, other in worst]
    confusions = table(["gold", "answered", "times"], listed, "commonest confusions") if listed else element("p", "Nothing was confused.")
    if len(names) > MOST_CLASSES:
        return section("Commonest confusions", confusions, soft(f"Of {len(names)} classes; metrics.json has the whole matrix."))
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    rows = [
        [f"{gold + 1} {name}", *(number(int(count), f"{place}.{gold}.{other}", ",d") for other, count in enumerate(counts[gold]))]
        for gold, name in enumerate(names)
    ]
    whole = shaded_table(["gold, by row", *map(str, range(1, len(names) + 1))], rows, shares.tolist(), "confusion matrix")
    note = soft(
        "Columns: the class that was answered, by the number that stands before its name. The darker, the larger the share of its row."
    )
    return section("Confusion matrix", whole, note, element("h3", "Commonest confusions"), confusions)


# --- probabilities ----------------------------------------------------------------------------------------------------------------------


def _probabilities(scored: Scored) -> Markup | None:
    charts = [_reliability(scored), _precision_recall(scored)]
    known = [chart for chart in charts if chart]
    return section("What its probabilities are worth", element("div", *known, class_="charts")) if known else None


def _reliability(scored: Scored) -> Markup | None:
    calibration = scored.at(*scored.probabilities, "calibration")
    if not calibration:
        return None
    lines = [
        Series(
            name, [each["confidence"] for each in calibration[key]["bins"]], [each["right"] for each in calibration[key]["bins"]], dots=True
        )
        for key, name in (("before", "as the model says"), ("after", "at dev's temperature"))
        if calibration.get(key)
    ]
    return line_chart("Reliability diagram", lines, "confidence", "share right", square=True)


def _precision_recall(scored: Scored) -> Markup | None:
    """Curves of the most frequent classes, of the predictions file; nothing where there is none or it has no probabilities of classes."""
    from sklearn.metrics import precision_recall_curve

    found = _gold_and_probabilities(scored)
    if found is None:
        return None
    is_gold, probabilities = found
    names = scored.metrics["labels"]
    lines = []
    for which in most_frequent(is_gold)[:MOST_CURVES]:
        precision, recall, _ = precision_recall_curve(is_gold[:, which], probabilities[:, which])
        lines.append(Series(names[which], recall[::-1], precision[::-1]))
    note = "" if len(lines) == len(names) else f" ({len(lines)} of {len(names)} classes)"
    return line_chart("Precision and recall" + note, lines, "recall", "precision", square=True) if lines else None


def _gold_and_probabilities(scored: Scored) -> tuple[np.ndarray, np.ndarray] | None:
    """(n, K) bool and (n, K) of a predictions file of one label or of several a text."""
    import pyarrow.parquet as pq

    path, names = scored.folder / "predictions.parquet", scored.metrics.get("labels", [])
    if scored.task is None or scored.task.exclusive is None or scored.split == "dev" or not path.is_file():
        return None
    rows = pq.read_table(path, columns=["gold", "probabilities"])
    gold = rows["gold"].to_pylist()
    if not gold or None in gold:
        return None
    numbers = {name: number for number, name in enumerate(names)}
    is_gold = np.zeros((len(gold), len(names)), dtype=bool)
    for row, labels in enumerate(gold):
        for label in [labels] if isinstance(labels, str) else labels:
            is_gold[row, numbers[label]] = True
    return is_gold, np.array(rows["probabilities"].to_pylist(), dtype=np.float64).reshape(len(gold), len(names))


# --- mistakes ---------------------------------------------------------------------------------------------------------------------------


def _mistakes(scored: Scored) -> Markup | None:
    """The surest wrong answers (numbers: those furthest off) with the beginning of their text, and how many labels are suspected."""
    path = scored.folder / MISTAKES
    if scored.split == "dev" or not path.is_file():
        return None
    with path.open(encoding="utf-8") as lines:
        first = [json.loads(line) for line in islice(lines, MOST_MISTAKES)]
        rest = ['"likely_label_error": true' in line for line in lines]
    if not first:
        return section("Most confidently wrong", element("p", "No answer is wrong."))
    by = "error" if "error" in first[0] else "probability"
    suspected, of_sets = "likely_label_error" in first[0], "about" in first[0]
    rows = [
        [
            element("bdi", clipped(each["text"]) + (f" / {clipped(each['text_b'])}" if "text_b" in each else "")),
            element("bdi", as_cell(each["gold"])),
            element("bdi", as_cell(each["predicted"])),
            *([element("bdi", surest_wrong(each))] if of_sets else []),
            number(each[by], f"mistakes.{place}.{by}"),
            *(["yes" if each["likely_label_error"] else ""] if suspected else []),
        ]
        for place, each in enumerate(first)
    ]
    columns = ["text", "gold", "answered", *(["surest wrong"] if of_sets else []), by, *(["label suspected"] if suspected else [])]
    shown = table(columns, rows, "mistakes", prose=True)
    if not suspected:
        return section("Furthest off" if by == "error" else "Most confidently wrong", shown)
    count = sum(rest) + sum(bool(each["likely_label_error"]) for each in first)
    note = soft(f"{len(first) + len(rest):,} wrong, {first_words(count)}: read them in {MISTAKES}.")
    return section("Most confidently wrong", shown, note, *(soft(f"{line}.") for line in weak_lines(scored.metrics)))


# --- vectors ----------------------------------------------------------------------------------------------------------------------------


def _vectors(scored: Scored) -> Markup | None:
    """How the vectors lie that were judged, and which they are; nothing of a fine-tuned model."""
    if "vectors" not in scored.metrics:
        return None
    facts = ", ".join(f"{name} {json.dumps(value)}" for name, value in scored.metrics["vectors"].items())
    return how_they_lie(scored.metrics["geometry"], PAIRS.get(scored.kind, "two texts of one label"), soft(f"All at length 1. {facts}."))


# --- several ----------------------------------------------------------------------------------------------------------------------------


def comparison(runs: Sequence[Scored]) -> list[Markup]:
    """Headline scores of several of one kind of task, side by side, and how to test the differences."""
    parts = []
    for kind in dict.fromkeys(run.kind for run in runs):
        its = [run for run in runs if run.kind == kind]
        scores = its[0].headlines
        rows = [
            [
                run.name,
                run.split,
                *(cell for path in scores.values() for cell in (run.number(*run.scores, *path), run.between(*run.intervals, *path))),
            ]
            for run in its
        ]
        columns = ["run", "on", *(cell for name in scores for cell in (metric_words(name), "interval"))]
        first, path = next(iter(scores.items()))
        dots = [(run.name, value, *_ends(run, path)) for run in its if isinstance(value := run.at(*run.scores, *path), int | float)]
        chart = element("div", interval_chart(metric_words(first), dots), class_="charts") if kind not in CORRELATED else None
        parts.append(section(f"Side by side: {kind}", chart, table(columns, rows, "scores")))
        for group in _of_the_same_examples(its):
            tests = element("code", f"bertlab compare --runs {shlex.join(map(_system, group))}")
            parts.append(soft("Overlapping intervals are no test. On the same examples the differences can be tested: ", tests))
    return parts


def _system(run: Scored) -> str:
    """How `bertlab compare` names it: all seeds where there are several, since another seed may give another order."""
    place = run.folder / "predictions" if len(list(run.folder.glob("predictions/*.parquet"))) > 1 else run.folder
    return str(place) if run.name == run.folder.resolve().name else f"{run.name}:{place}"


def _of_the_same_examples(runs: Sequence[Scored]) -> list[list[Scored]]:
    """Those whose predictions `bertlab compare` would hold against each other, in groups of two or more."""
    groups: list[tuple[PredictionsFile, list[Scored]]] = []
    for run in runs:
        try:
            file = read_predictions(run.folder / "predictions.parquet")
        except BertlabError:  # there are none, or none to be compared
            continue
        for first, group in groups:
            try:
                align([first, file])
            except DataError:
                continue
            group.append(run)
            break
        else:
            groups.append((file, [run]))
    return [group for _, group in groups if len(group) > 1]


def _ends(run: Scored, path: Path_) -> tuple[float | None, float | None]:
    interval = run.at(*run.intervals, *path) or {}
    return interval.get("low"), interval.get("high")


def _within(value: Any, path: Path_) -> float | None:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None
