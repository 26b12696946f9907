"""What evaluate and finetune say around the table of scores: leaks before any number, then areas, calibration, thresholds, mistakes."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.disk import MANIFEST, write_text
from bertlab.evaluation.label_errors import TOO_MANY
from bertlab.pages.figures import FOLDER
from bertlab.pages.screen import inert, metric_words, table

if TYPE_CHECKING:
    from bertlab.tasks.contract import Task

MISTAKES, LABEL_ERRORS = "mistakes.jsonl", "label_errors.jsonl"
# What an evaluation leaves, and a text that stands in each: nothing else is written over (bertlab/disk.py, `refuse_mixed`).
LEFT = {"metrics.json": '"sha256"', "predictions.parquet": "text_sha256", MISTAKES: '"gold"', f"{FOLDER}/*": "<svg"}
_LINE_BREAKS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}  # to some readers; JSON escapes the others itself
SHOWN = 3  # leaks and conflicts of which the rows are named; metrics.json has more
LONGEST_TEXT = 60
# What numbers are in a few words; docs/evaluating.md has more.
ECE_AND_NLL = "ECE: how far probabilities are from how often it is right; NLL: -log of the true label's probability; 0 is best"
AREAS = {
    "roc_auc": ("ROC-AUC", "how often a text of the class ranks above another; 0.5 by lot"),
    "pr_auc": ("PR-AUC", "precision, averaged over recall"),
}
FEW_LEAKS = 0.01  # of the texts: from here on a leak is a warning, below a note


def forget_results(out: Path) -> None:
    """Take away what an earlier call left in `out` beside what is written over; its manifest goes first, which would not hold any more."""
    (out / MANIFEST).unlink(missing_ok=True)
    (out / MISTAKES).unlink(missing_ok=True)
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def leak_lines(leakage: dict[str, Any] | None, split: str = "test") -> list[str]:
    """What of a split is in train (corpus/leakage.py, as JSON), and which labels of equal texts differ; None: there was no train to look
    into."""
    if leakage is None:
        return ["leaks       not looked for: give --train to know whether training has seen these texts"]
    return [*seen_lines(leakage, split), *conflict_lines(leakage, ["train", split])]


def seen_lines(leakage: dict[str, Any], split: str) -> list[str]:
    """What of a split is in train, and in which part of it (`of_train`), where that is known."""
    rows, seen = leakage["rows"], leakage["equal"] + leakage["near"]
    share = seen / max(1, rows)
    train = f"train ({leakage['of_train']})" if leakage.get("of_train") else "train"
    if not seen:
        lines = [f"leaks       none of {rows:,} {split} texts is in {train}, equal or nearly (from similarity {leakage['threshold']} on)"]
    else:
        if share > 0.5:
            so = "most of it was learnt from, so that no score of it says anything of other texts"
        else:
            so = f"the scores flatter, accuracy by up to {share:.1%}"
        lines = [
            f"{'warning' if share >= FEW_LEAKS else 'note'}: {seen:,} of {rows:,} {split} texts {'is' if seen == 1 else 'are'} in {train} "
            f"too: {leakage['equal']:,} equal, {leakage['near']:,} nearly (from similarity {leakage['threshold']} on); {so}"
        ]
        firsts = {leak["equal"]: leak for leak in reversed(leakage["leaks"])}.values()  # one of each kind, then the others
        shown = [*sorted(firsts, key=lambda leak: not leak["equal"]), *(leak for leak in leakage["leaks"] if leak not in firsts)]
        for leak in shown[:SHOWN]:
            nearly = "of the same phrases as" if leak["similarity"] == 1 else f"{leak['similarity']:.0%} like"
            lines.append(f"            {inert(leak['test_id'])} is {'equal to' if leak['equal'] else nearly} {inert(leak['train_id'])}")
        if seen > SHOWN:
            lines.append(f"            and {seen - SHOWN:,} more (metrics.json, leakage: the first 100)")
    return lines


def conflict_lines(found: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    """How many texts have different labels in different rows of these splits, and the rows, (id, label) each, of the first of them; or
    nothing. `found`: conflicting_labels, conflicting_in_writing, conflicts, as corpus/leakage.py says them for JSON."""
    count, in_writing = found["conflicting_labels"], found.get("conflicting_in_writing", 0)  # an earlier version did not count these
    if not count:
        return []
    has = "text has" if count == 1 else "texts have"
    which = " and ".join([", ".join(splits[:-1]), splits[-1]] if len(splits) > 1 else splits)
    lines = [f"warning: {count:,} {has} different labels in different rows of {which}: one of them is wrong"]
    if in_writing:
        lines[0] += f" (of {in_writing:,} of these texts the labels differ only in case, spaces or Unicode form)"
    for rows_of_text in found["conflicts"][:SHOWN]:
        lines.append("            " + ", ".join(f"{inert(row)} {inert(repr(label))}" for row, label in rows_of_text[:SHOWN]))
    if count > SHOWN:
        lines.append(f"            and {count - SHOWN:,} more (metrics.json, leakage: the first 100)")
    return lines


def probability_lines(metrics: dict[str, Any]) -> list[str]:
    """Areas, calibration and thresholds of metrics.json (evaluation/probabilities.py), each with what it is; nothing for numbers without
    probabilities."""
    if "roc_auc" not in metrics:
        return []
    lines, intervals = [], metrics["intervals"]
    for kind, (word, meaning) in AREAS.items():
        found = metrics[kind]
        if found["macro"] is not None:
            mean = f"{found['macro']:.3f}{between(intervals[kind]['macro'])}, mean of {found['classes']} classes"
            lines.append(f"{word:11} {mean} ({meaning})")
    before, after = metrics["calibration"]["before"], metrics["calibration"].get("after")
    lines.append(
        f"calibration ECE {before['ece']:.3f}{between(before['intervals']['ece'])}, NLL {before['nll']:.3f}; "
        f"a calibrated model would show an ECE up to {before['by_chance']['high']:.3f}"
    )
    lines.append(f"            ({ECE_AND_NLL})")
    if after:
        lines.append(
            f"            at dev's temperature {metrics['calibration']['temperature']:.3f} (above 1 less sure of itself, below 1 surer): "
            f"ECE {after['ece']:.3f}{between(after['intervals']['ece'])}, NLL {after['nll']:.3f}"
        )
        if after["nll"] > before["nll"]:
            lines.append("            (worse than without, by NLL: these texts are not like dev's, or dev is small)")
    if thresholds := metrics.get("at_thresholds"):
        macro, plain = thresholds["macro"]["f1"], metrics["macro"]["f1"]
        lines.append(
            f"thresholds  chosen on dev: macro-F1 {macro:.3f}{between(thresholds['intervals']['macro']['f1'])}, with one of 0.5 {plain:.3f}"
        )
        lines.append("            (predict answers with 0.5, as the scores above; with these, which bertlab.json has, by --thresholds dev)")
    return lines


def of_vectors_alone(metrics: dict[str, Any]) -> bool:
    """Whether vectors were judged and no classifier answered (bertlab/embedding/judging.py)."""
    return "vectors" in metrics and "per_class" not in metrics


def judged_by(metrics: dict[str, Any]) -> list[str]:
    """The names of the numbers that say what vectors alone are worth: those with an interval."""
    return [name for name, interval in metrics["intervals"].items() if isinstance(interval, dict)]


def vector_lines(metrics: dict[str, Any]) -> list[str]:
    """What vectors were judged to be worth (bertlab/embedding/judging.py), and how they lie; nothing for answers without vectors."""
    if "vectors" not in metrics:
        return []
    intervals, lines = metrics["intervals"], []
    if of_vectors_alone(metrics):
        baselines = metrics.get("baselines", {})
        rows = [
            [metric_words(name), f"{metrics[name]:.3f}", _range(intervals[name]), *(f"{of[name]:.3f}" for of in baselines.values())]
            for name in judged_by(metrics)
        ]
        lines = [table(["metric", "value", f"{intervals['level']:.0%} interval", *baselines], rows), of_what(metrics)]
    lie = metrics["geometry"]
    known = [name for name in ("alignment", "uniformity", "anisotropy") if lie[name] is not None]
    if known:
        header = [f"how {lie['texts']:,} texts lie, {lie['pairs']:,} pairs together", "value", f"{lie['intervals']['level']:.0%} interval"]
        lines.append(table(header, [[name, f"{lie[name]:.3f}", _range(lie["intervals"][name])] for name in known]))
    of = metrics["vectors"]
    if of.get("truncated"):
        lines.append(f"{of['truncated']:,} of {of['texts']:,} texts were longer than {of['max_length']} tokens and truncated")
    return lines


def baseline_lines(task: "Task", baselines: Mapping[str, Any]) -> list[str]:
    """The task's first score of each of what needs no BERT."""
    first = metric_words(next(iter(task.scores)))
    return [f"{name}: {first} {task.score(scores):.3f}" for name, scores in baselines.items()]


def of_what(metrics: dict[str, Any]) -> str:
    """How many texts vectors were judged by, and by lot."""
    if metrics["task"] == "retrieval":
        return f"{metrics['n']:,} queries, {metrics['relevant_per_query']:.2f} texts belong to each on average, among {metrics['pool']:,}"
    if metrics["task"] == "clustering":
        lot = metrics["by_chance"]
        by_lot = f"{lot['mean']:.3f} (up to {lot['high']:.3f})"
        return f"{metrics['n']:,} texts of {metrics['labels']:,} labels; put into groups by lot their v-measure would be {by_lot}"
    return f"{metrics['n']:,} pairs"


def _range(interval: dict[str, Any]) -> str:
    return "?" if interval["low"] is None else f"{interval['low']:.3f} to {interval['high']:.3f}"


def between(interval: dict[str, Any]) -> str:
    """(low to high), or nothing."""
    return "" if interval["low"] is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"


def write_mistakes(out: Path, mistakes: Sequence[dict[str, Any]]) -> list[str]:
    """Write mistakes.jsonl, one wrong answer a line, the worst first; returns its name."""
    write_text(out / MISTAKES, as_lines(mistakes))
    return [MISTAKES]


def write_label_errors(out: Path, suspects: Sequence[dict[str, Any]] | None) -> list[str]:
    """Write label_errors.jsonl, one suspected label a line; returns its name, or nothing for None: not a kind with such suspicions."""
    if suspects is None:
        return []
    write_text(out / LABEL_ERRORS, as_lines(suspects))
    return [LABEL_ERRORS]


def as_lines(values: Sequence[dict[str, Any]]) -> str:
    """JSONL in which every line is a line to every reader."""
    return "".join(json.dumps(each, ensure_ascii=False).translate(_LINE_BREAKS) + "\n" for each in values)


def mistake_lines(mistakes: Sequence[dict[str, Any]], most: int = 5) -> list[str]:
    """A table of the first `most` mistakes (tasks/measures.py), each with the beginning of its text, and how many there are; or nothing."""
    if not mistakes:
        return []
    by = "error" if "error" in mistakes[0] else "probability"
    suspected = "likely_label_error" in mistakes[0]
    of_sets = ["surest wrong"] * ("about" in mistakes[0])
    heading = ["furthest off" if by == "error" else "most confidently wrong", "gold", "predicted", *of_sets, by, *["suspected"] * suspected]
    cells = [
        [as_cell(each["gold"]), as_cell(each["predicted"]), *([surest_wrong(each)] if of_sets else []), f"{each[by]:.3f}"]
        + (["yes" if each["likely_label_error"] else ""] if suspected else [])
        for each in mistakes[:most]
    ]
    # the texts have what the others leave of the terminal: a row that is broken is no row
    others = sum(2 + max(map(len, column)) for column in zip(heading[1:], *cells, strict=True))
    room = max(len(heading[0]), shutil.get_terminal_size((120, 24)).columns - others)
    rows = [[clipped(each["text"], min(room, LONGEST_TEXT)), *its] for each, its in zip(mistakes, cells, strict=False)]
    count = f"{len(mistakes):,} {'differ, those furthest off first' if by == 'error' else 'wrong'}"
    if suspected:
        count += f", {first_words(sum(each['likely_label_error'] for each in mistakes))}"
    return [table(heading, rows), f"{count}: {MISTAKES}"]


def surest_wrong(mistake: dict[str, Any]) -> str:
    """Of a set of labels the wrong decision whose probability is told: "no joy" where joy is gold and not given, else the label given."""
    return clipped(("no " if mistake["about"] in mistake["missing"] else "") + mistake["about"])


def first_words(count: int) -> str:
    """What is said of the wrong answers whose label is suspected. Of a model that is often wrong most of them are its own mistakes."""
    return f"{count:,} of them to look at first (the model is sure of another label)"


def suspect_lines(suspects: Sequence[dict[str, Any]] | None, of: int, most: int = 10) -> list[str]:
    """A table of the first `most` labels that are suspected, and how many there are in `of` examples; nothing for None."""
    if suspects is None:
        return []
    count = f"{len(suspects):,} suspected labels in {of:,} examples"
    if not suspects:
        return [count]
    rows = [
        [clipped(each.get("word", each["text"])), clipped(each["label"]), _likelier(each), f"{each['margin']:.3f}"]
        for each in suspects[:most]
    ]
    return [table(["suspected label", "label", "likelier", "margin"], rows), f"{count}, suspicions and no proofs: {LABEL_ERRORS}"]


def weak_lines(metrics: dict[str, Any]) -> list[str]:
    """In a line of which labels of metrics.json the model is too weak to tell errors, if of any."""
    weak, of = metrics.get("label_errors", {}).get("too_weak"), len(metrics.get("labels", ()))
    if not weak:
        return []
    why = f"its surest answers differ from more than {TOO_MANY:.0%} of the labels, or from nearly as many as by lot"
    if len(weak) == of:
        return [f"label errors cannot be told: the model is too weak or the labels too poor ({why})"]
    names = ", ".join(clipped(name) for name in weak[:SHOWN]) + (" and others" if len(weak) > SHOWN else "")
    return [f"of {len(weak)} of {of} labels ({names}) the model is too weak to tell what belongs to them: {why}"]


def _likelier(suspect: dict[str, Any]) -> str:
    if "likelier" in suspect:
        return clipped(suspect["likelier"])
    return "not given" if suspect["given"] else "given"


def as_cell(value: str | float | list[str]) -> str:
    """A label, the labels of a set or an answer as a cell."""
    if isinstance(value, list):
        return clipped("; ".join(value) or "-")
    return clipped(value or "-") if isinstance(value, str) else f"{value:g}"


def clipped(text: str, longest: int = LONGEST_TEXT) -> str:
    text = inert(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"
