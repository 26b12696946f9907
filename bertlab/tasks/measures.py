"""What is measured of every fine-tuned model beside its kind's own metrics: leaks, mistakes, what its probabilities are worth, and what it
is worth against the strongest baseline.

A temperature and thresholds are learnt on dev, kept in the model's bertlab.json under LEARNT, and measured wherever it is scored. Kinds
whose outputs are no probabilities have their metrics alone.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.labelled import Labelled, Rows
from bertlab.corpus.labelled_tokens import LabelledTokens
from bertlab.corpus.leakage import conflicting_labels, conflicts_as_json, find_leaks
from bertlab.corpus.questions import Questions
from bertlab.disk import sha256_file
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.evaluation.alignment import NUMBERS, align, read_predictions
from bertlab.evaluation.comparable import compared_models, known_metrics
from bertlab.evaluation.curves import one_hot
from bertlab.evaluation.intervals import LEVEL, RESAMPLES, of_metrics, of_set_metrics
from bertlab.evaluation.metrics import classification_metrics, set_metrics
from bertlab.evaluation.mistakes import Mistake
from bertlab.evaluation.probabilities import given_labels, learn_on_dev, probability_metrics
from bertlab.model.facts import load_facts
from bertlab.tasks.contract import Gold, Labels, Metrics, Outputs, Task
from bertlab.tasks.data import Data
from bertlab.tasks.reading import Columns
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.runlog import read_settings

LEARNT = "learnt_on_dev"
AGAINST = "against_baseline"
_WORD = re.compile(r"[a-z0-9]+")
FEWER, MANY = 1_000, 1_000  # resamples of a difference on more than MANY examples, where these are drawn one by one


def learnt_on_dev(task: Task, gold: Gold, outputs: Outputs, labels: Labels) -> dict[str, Any] | None:
    """What dev's outputs teach (evaluation/probabilities.py); None for a kind without probabilities."""
    if task.exclusive is None:
        return None
    return learn_on_dev(is_gold(task, gold, labels), outputs, labels.names, exclusive=task.exclusive)


def of_probabilities(task: Task, gold: Gold, outputs: Outputs, labels: Labels, learnt: dict[str, Any] | None) -> Metrics:
    """roc_auc, pr_auc, calibration, thresholds, at_thresholds (the kind's metrics there), with intervals; {} without probabilities."""
    if task.exclusive is None:
        return {}
    truth, names = is_gold(task, gold, labels), labels.names
    found = probability_metrics(truth, outputs, names, exclusive=task.exclusive, learnt=learnt)
    thresholds = learnt["thresholds"] if learnt else {}
    if thresholds:
        given = given_labels(outputs, names, thresholds, exclusive=task.exclusive)
        if task.exclusive:
            there = classification_metrics(gold, given.argmax(1), names) | {"intervals": of_metrics(gold, given.argmax(1), names)}
        else:
            there = set_metrics(truth, given, names) | {"intervals": of_set_metrics(truth, given, names)}
        found |= {"thresholds": thresholds, "at_thresholds": there}
    return found


def is_gold(task: Task, gold: Gold, labels: Labels) -> np.ndarray:
    """(n, K) bool, of a kind with probabilities."""
    return one_hot(gold, len(labels.names)) if task.exclusive else np.asarray(gold, dtype=bool)


def with_temperature(labels: Labels, learnt: Any) -> Labels:
    """The labels with the temperature that dev chose, if it chose one. Raises CorruptError for what `learnt_on_dev` never leaves."""
    temperature = learnt.get("temperature") if isinstance(learnt, dict) else learnt
    if temperature is not None and not (isinstance(temperature, float) and 0 < temperature < float("inf")):
        raise CorruptError(
            f"{LEARNT}: {str(temperature)[:50]!r} is no temperature: the model's bertlab.json is damaged: copy the folder again"
        )
    return replace(labels, temperature=temperature)


def at_thresholds(labels: Labels, learnt: Any, folder: str) -> Labels:
    """The labels, to be given at the thresholds that dev chose.

    Raises ConfigError for a model without any, CorruptError for what `learnt_on_dev` never leaves.
    """
    thresholds = learnt.get("thresholds") if isinstance(learnt, dict) else None
    if not thresholds:
        raise ConfigError(
            f"{folder} has no thresholds: dev chooses them for several labels a text, and for two classes. Without --thresholds dev "
            "a label is given above 0.5, or the likeliest class"
        )
    known = labels.names if len(thresholds) > 1 else labels.names[-1:]
    if list(thresholds) != known or not all(isinstance(each.get("value"), float) for each in thresholds.values()):
        raise CorruptError(f"{LEARNT}: its thresholds are not of {', '.join(known)[:50]}: the model's bertlab.json is damaged")
    return replace(labels, thresholds=thresholds)


def mistakes_of(task: Task, rows: Rows, gold: Gold, outputs: Outputs, labels: Labels) -> list[Mistake]:
    """All wrong answers, the worst first, with their ids and texts."""
    return with_texts(rows, task.mistakes(rows, gold, outputs, labels))


def suspects_of(
    task: Task, rows: Rows, gold: Gold, outputs: Outputs, labels: Labels
) -> tuple[list[Mistake] | None, dict[str, dict[str, Any]]]:
    """Labels that are likely wrong, by outputs of models that have not seen them, with ids and texts (None for kinds without suspicion),
    and of them for metrics.json, under `label_errors`: how many, and `too_weak`, the labels that the model is too weak to tell them by."""
    if task.suspects is None:
        return None, {}
    found, weak = task.suspects(rows, gold, outputs, labels)
    return with_texts(rows, found), {"label_errors": {"suspected": len(found), "too_weak": weak}}


def with_texts(rows: Rows, found: Sequence[Mistake]) -> list[Mistake]:
    """The id and the text, or the pair, instead of the `row`: ids need not be unique."""
    texts = as_texts(rows)
    return [
        {"id": rows.ids[row]}
        | {name: value for name, value in each.items() if name != "row"}
        | {"text": texts.texts[row]}
        | ({"text_b": texts.texts_b[row]} if texts.texts_b is not None else {})
        for each in found
        for row in [each["row"]]
    ]


# ---- what needs no BERT


def against_baseline(
    folder: Path, task: Task, rows: Rows, gold: Gold, answered: dict[str, Outputs], labels: Labels
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Write what the strongest of the baselines `answered` (of equals the first) beside `folder`/predictions.parquet, in a folder of its
    own, and compare the two on the task's first score, as `bertlab compare` does.

    Returns for metrics.json, under AGAINST, what compare finds with `better`, "model" or "baseline": the one that is better where both the
    interval and p say that there is a difference, else None; and the names of the files. Nothing where nothing was answered.
    """
    if not answered:
        return {}, []
    name, outputs = max(answered.items(), key=lambda each: task.score(task.metrics(gold, each[1], labels)))
    file = f"baselines/{'-'.join(_WORD.findall(name.lower()))}/predictions.parquet"
    task.write(folder / file, rows, gold, outputs, replace(labels, temperature=None))
    aligned = align([read_predictions(path, task.cluster) for path in (folder / "predictions.parquet", folder / file)])
    metric, n = next(iter(task.scores)), len(aligned.gold)
    # Examples of one class each are drawn as counts, which costs a second or two whatever their number; numbers are ranked in every sample.
    resamples = FEWER if task.name in NUMBERS or (n > MANY and not task.exclusive) else RESAMPLES
    metrics = {metric: known_metrics(aligned)[metric]}
    (found,) = compared_models(aligned, [0, 1], metrics, resamples=resamples, seed=0, level=LEVEL)
    interval, better = found["interval"], None
    if interval["low"] is not None and not interval["low"] <= 0 <= interval["high"] and found["p"] <= 1 - LEVEL:
        better = "model" if found["difference"] > 0 else "baseline"
    how = {"n": n, "R": resamples, "seed": 0, "level": LEVEL, "cluster": task.cluster}
    return {AGAINST: {"baseline": name, "file": file, "better": better} | found | how}, [file]


# ---- what the data is like


def leakage(train: Rows | None, rows: Rows, of_train: str | None = None) -> dict[str, Any] | None:
    """What of the rows is in train, for metrics.json, with which part of train it is (`of_train`); None where there is no train."""
    return None if train is None else find_leaks(as_texts(train), as_texts(rows)).as_json() | {"of_train": of_train}


def leaks_of(data: Data) -> dict[str, Any]:
    """`leakage` of dev and of test, as far as there are any, in what is learnt from."""
    of_train = None if "dev" in data.files else "what was left of it when dev was cut off"
    return {split: leakage(data.splits["train"], data.splits[split], of_train) for split in ("dev", "test") if split in data.splits}


def conflicts_of(data: Data) -> dict[str, Any]:
    """Equal texts with different labels, over all splits together, as corpus/leakage.py says them for JSON."""
    return conflicts_as_json(conflicting_labels(*map(as_texts, data.splits.values())))


def rare_classes(data: Data, fewer: int) -> dict[str, int]:
    """The classes or labels with fewer than `fewer` examples in train, the rarest first, and how many they have; {} for kinds without."""
    if data.task.exclusive is None:
        return {}
    gold, names = data.gold["train"], data.labels.names
    counts = np.bincount(gold, minlength=len(names)) if data.task.exclusive else np.asarray(gold).sum(0)
    return {names[place]: int(counts[place]) for place in np.argsort(counts, kind="stable") if counts[place] < fewer}


def without_words(rows: Rows) -> list[str]:
    """The ids of rows whose text, or both texts, are empty or white space alone."""
    texts = as_texts(rows)
    words = texts.texts if texts.texts_b is None else [a + b for a, b in zip(texts.texts, texts.texts_b, strict=True)]
    return [id for id, text in zip(texts.ids, words, strict=True) if not text.strip()]


def without_known_tokens(tokenizer: Tokenizer, rows: Rows) -> np.ndarray:
    """Whether the text, or both texts, have no token but [UNK] (an empty one has none): of such a row the model sees nothing. (n,) bool."""
    texts = as_texts(rows)
    known = np.zeros(len(rows), dtype=bool)
    for side in (texts.texts, texts.texts_b):
        if side is not None:
            ids, offsets = tokenizer.encode(side)
            known[np.repeat(np.arange(len(rows)), np.diff(offsets))[ids != tokenizer.unk_id]] = True
    return ~known


def as_texts(rows: Rows) -> Labelled:
    """The rows of any kind as texts: of tokens with their tags as the label, a question and its context as a pair without one."""
    if isinstance(rows, LabelledTokens):
        labels = None if rows.tags is None else [" ".join(tags) for tags in rows.tags]
        return Labelled(rows.ids, [" ".join(words) for words in rows.tokens], None, labels, rows.origin)
    if isinstance(rows, Questions):
        return Labelled(rows.ids, rows.questions, rows.contexts, None, rows.origin)
    assert isinstance(rows, Labelled), "every kind of rows has texts"
    return rows


def training_file(folder: str) -> tuple[str, Columns] | None:
    """The file that the model of a run folder was trained on and its columns, if it is still where it was and as it was."""
    try:
        sha256 = load_facts(folder)["data"]["train"]["sha256"]
        settings = read_settings(Path(folder).parent)
        path = str(settings["train"])
        dialect = Dialect(separator=settings.get("separator"), encoding=settings.get("encoding", AS_NAMED.encoding))
        named = {name: settings[name] for name in ("text", "text_b", "label", "label_separator")}
        columns = Columns(**named, dialect=dialect, label_columns=tuple(settings.get("label_columns") or ()))
    except (BertlabError, KeyError, TypeError):
        return None
    return (path, columns) if Path(path).is_file() and sha256_file(Path(path)) == sha256 else None
