"""Tables for a terminal: plain aligned text, readable in a log as on a screen."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# C0 and C1 controls; the marks that turn the direction of reading; line and paragraph separators, with what lies between
_CONTROL = dict.fromkeys((*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)), "?")

OF_SETS = ("macro_mcc", "hamming_loss")  # what is told of sets of labels beside exact match and the averages

# what to do where several labels a text are learnt, and too few texts get one
MORE_LABELS = (
    "no label's probability is above 0.5 there. Train longer (--epochs) or on more rows, or have labels given at the thresholds that dev "
    "chose (predict --thresholds dev)"
)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell: the first to the left, numbers to the right."""
    cells = [[inert(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )

    return "\n".join([line(cells[0]), "  ".join("-" * width for width in widths), *map(line, cells[1:])])


def inert(text: str) -> str:
    """A text of a user's on one line, with control characters and direction marks made visible: it cannot steer the terminal."""
    return text.translate(_CONTROL)


def mfu_words(mfu: float | None) -> str:
    """How much of the machine a step uses (bertlab/training/speed.py); - where the machine's rate is not known."""
    return "-" if mfu is None else f"{mfu:.0%}"


def score_table(metrics: dict[str, Any]) -> str:
    """The scores of an evaluation, whatever its kind of task."""
    if "per_class" in metrics or "per_type" in metrics:
        return class_table(metrics)
    return number_table(metrics) if "spearman" in metrics else answer_table(metrics)


def class_table(metrics: dict[str, Any]) -> str:
    """Precision, recall and F1 of every class or type of entity and their averages (bertlab/evaluation/metrics.py, entities.py)."""
    of = "per_class" if "per_class" in metrics else "per_type"
    rows = [[name, *_scores(scores), str(scores["support"])] for name, scores in metrics[of].items()]
    rows += [[f"{kind} average", *_scores(metrics[kind]), ""] for kind in ("macro", "weighted", "micro")]
    lines = [table([of.removeprefix("per_"), "precision", "recall", "F1", "n"], rows)]
    if name := _whole_answers(metrics):
        of_sets = "".join(f", {metric_words(each)} {metrics[each]:.3f}" for each in OF_SETS if each in metrics)
        lines.append(f"{metric_words(name)} {metrics[name]:.3f} of {metrics['n']:,}{of_sets}")
    else:
        lines.append(f"entities of {metrics['n']:,} sentences; strict IOB2 micro-F1 {metrics['strict']['f1']:.3f}")
    lines += no_label_lines(metrics)
    return "\n".join([*lines, *absent_lines(metrics.get("per_class", {})), *interval_lines(metrics.get("intervals", {}))])


def no_label_lines(metrics: dict[str, Any]) -> list[str]:
    """In a line to how many texts no label was given at all, and how many have none; nothing where all have one, or each has one."""
    found, n = metrics.get("no_label"), metrics.get("n", 0)
    if not found or not any(found.values()):
        return []
    gold, given = (round(found[key] * n) for key in ("gold", "predicted"))
    silent = f"no label at all was given to {given:,} of {n:,} texts ({found['predicted']:.1%}); {gold:,} ({found['gold']:.1%}) have none"
    return [silent + (f": {MORE_LABELS}" if given > gold else "")]


def absent_lines(per_class: dict[str, Any]) -> list[str]:
    """In a line which classes have no example, and what that does to macro-F1; none where all have one, or none has."""
    absent = [name for name, scores in per_class.items() if scores["support"] == 0]
    if not absent or len(absent) == len(per_class):
        return []
    names = ", ".join(map(inert, absent[:3])) + " and others" * (len(absent) > 3)
    most = 1 - len(absent) / len(per_class)
    why = f"F1 counts as 0 of a class without one, so that macro-F1 can be {most:.3f} at most"
    return [f"note: no example of {len(absent)} of {len(per_class)} here ({names}): {why}"]


def answer_table(metrics: dict[str, Any]) -> str:
    """Exact match and F1 of answers, and of the questions with and without one apart (bertlab/evaluation/answers.py)."""
    parts = {"all": metrics, "with an answer": metrics.get("has_answer"), "without": metrics.get("no_answer")}
    rows = [[name, f"{each['exact_match']:.3f}", f"{each['f1']:.3f}", f"{each['n']:,}"] for name, each in parts.items() if each]
    return "\n".join([table(["questions", "exact match", "F1", "n"], rows), *interval_lines(metrics.get("intervals", {}))])


def number_table(metrics: dict[str, Any]) -> str:
    """Correlations and errors of predicted numbers, with their intervals (bertlab/evaluation/numbers.py)."""
    intervals = metrics.get("intervals", {})
    rows = []
    for name in ("spearman", "pearson", "mae", "rmse", "r2"):
        interval = intervals.get(name) or {"low": None}
        between = "none" if interval["low"] is None else f"{interval['low']:.3f} to {interval['high']:.3f}"
        rows.append([metric_words(name), f"{metrics[name]:.3f}", between])
    return table(["metric", "value", f"{intervals.get('level', 0.95):.0%} interval"], rows) + f"\n{metrics['n']:,} numbers"


def _whole_answers(metrics: dict[str, Any]) -> str | None:
    return next((name for name in ("accuracy", "exact_match") if name in metrics), None)


def interval_lines(intervals: dict[str, Any]) -> list[str]:
    """What the test set's size leaves open of the whole scores (bertlab/evaluation/intervals.py); a line, or none."""
    if not intervals:
        return []
    whole = _whole_answers(intervals)
    known = [(metric_words(whole), intervals[whole])] if whole else [("micro-F1", intervals["micro"]["f1"])]
    known.append(("macro-F1", intervals["macro"]["f1"]) if "macro" in intervals else ("F1", intervals["f1"]))
    known += [(metric_words(name), intervals[name]) for name in OF_SETS if name in intervals]
    shown = [f"{name} {each['low']:.3f} to {each['high']:.3f}" for name, each in known if each["low"] is not None]
    return [f"with {intervals['level']:.0%} confidence {', '.join(shown)}"] if shown else []


def likeness_line(found: dict[str, Any]) -> str:
    """A score of vectors before and after, and the difference with its interval."""
    score = found["score"]
    interval = "no interval" if found["low"] is None else f"95 % interval {found['low']:+.3f} to {found['high']:+.3f}"
    first = f", first {found['before']['recall@1']:.1%} -> {found['after']['recall@1']:.1%}" if score == "mrr" else ""
    baselines = "".join(f", {name} {of[score]:.3f}" for name, of in found.get("baselines", {}).items())  # an earlier version had none
    return (
        f"{metric_words(score)} {found['before'][score]:.3f} -> {found['after'][score]:.3f}, difference {found['difference']:+.3f} "
        f"({interval}){first}{baselines}, n = {found['after']['n']:,}"
    )


def counted(number: int, what: str) -> str:
    """1 answer, 2,000 answers."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def metric_words(metric: str) -> str:
    """macro_f1 -> macro-F1, f1:news -> F1 of news, mcc -> MCC, mrr -> MRR, exact_match -> exact match."""
    kind, colon, name = metric.partition(":")
    if colon:
        return f"F1 of {inert(name)}"
    named = {
        "mcc": "MCC",
        "macro_mcc": "macro-MCC",
        "hamming_loss": "Hamming loss",
        "mrr": "MRR",
        "mrr@10": "MRR@10",
        "ndcg@10": "nDCG@10",
        "mae": "MAE",
        "rmse": "RMSE",
        "spearman": "Spearman",
        "pearson": "Pearson",
        "exact_match": "exact match",
    }
    return named.get(kind, kind.replace("_", "-").replace("f1", "F1"))


def _scores(scores: dict[str, float]) -> list[str]:
    return [f"{scores[name]:.3f}" for name in ("precision", "recall", "f1")]


def pretraining_lines(facts: dict[str, Any], run: Path) -> list[str]:
    """What a pretraining run ends with, from its facts (bertlab.json)."""
    lines = []
    before, after = facts["heldout_start"], facts["heldout"]
    if after:
        lines.append(
            f"held out   MLM loss {before['mlm_loss']:.3f} -> {after['mlm_loss']:.3f} (unigrams {after['unigram_loss']:.3f}), "
            f"masked accuracy {after['masked_accuracy']:.1%}, NSP accuracy {after['nsp_accuracy']:.1%} "
            f"(commoner answer {after['nsp_majority']:.1%}), at step {after['step']:,}, "
            f"on {after['masked_tokens']:,.0f} masked tokens and {after['pairs']:,.0f} pairs"
        )
    return [
        *lines,
        f"trained    {facts['tokens_seen']:,} tokens in {facts['seconds']:,.0f} s",
        f"model      {run / 'model'}",
        f"report     {run / 'report.html'}",
        f"next       bertlab finetune --model {shlex.quote(f'{run}/model')} --train FILE --test FILE --out RUN2",
    ]
