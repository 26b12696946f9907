"""Any number of labels a text, or a pair of texts: a sigmoid and a binary cross-entropy a label, chosen by macro-F1.

A label is given where its probability is above THRESHOLD or, where somebody asked for that, at dev's for it. A text without any label is
an example like others.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labels import set_ids, set_names
from bertlab.evaluation.baselines import most_frequent_set, tfidf_one_vs_rest
from bertlab.evaluation.intervals import of_set_metrics
from bertlab.evaluation.label_errors import undecided
from bertlab.evaluation.metrics import set_metrics
from bertlab.evaluation.mistakes import Mistake, as_classes, of_sets, suspected_in_sets
from bertlab.evaluation.predictions import write_set_predictions
from bertlab.evaluation.probabilities import given_labels
from bertlab.model.heads import BertForSequenceClassification
from bertlab.tasks import sentences
from bertlab.tasks.contract import Labels, Long, Metrics, Task, calibrated_of, leave, said_of
from bertlab.tasks.reading import read_texts
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.objectives import LabelSets
from bertlab.training.processes import Precision

THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelSet:
    """One text's labels, the likeliest first, and the probabilities of all labels by name; `uncalibrated` and `no_known_tokens` as in
    single_label.Prediction."""

    labels: list[str]
    probabilities: dict[str, float] = field(repr=False)
    uncalibrated: dict[str, float] | None = field(default=None, repr=False)
    no_known_tokens: bool = False

    @property
    def given(self) -> list[str]:
        return self.labels

    def as_row(self, every: bool = False) -> dict[str, Any]:
        its = {"labels": self.labels, "probability": [self.probabilities[name] for name in self.labels]}
        return its | ({"probabilities": self.probabilities} if every else {})


def gold_of(rows: Labelled, labels: Labels) -> np.ndarray:
    """Truth values (n, K): which labels each example has."""
    found = np.zeros((len(rows), len(labels.names)), dtype=bool)
    for row, places in enumerate(set_ids(rows, labels.names)):
        found[row, places] = True
    return found


def strata(gold: np.ndarray) -> list[int]:
    """Each example's rarest label, so that dev has its share of rare ones too; K where there is none."""
    rarity = np.where(gold, gold.sum(0), len(gold) + 1)
    return np.where(gold.any(1), rarity.argmin(1), gold.shape[1]).tolist()


def encode(tokenizer: Tokenizer, rows: Labelled, gold: np.ndarray | None, labels: Labels, *, max_length: int, long: Long) -> Examples:
    return sentences.encode(tokenizer, rows, None if gold is None else gold.astype(np.float32), max_length=max_length, long=long)


def run(
    model: nn.Module, examples: Examples, labels: Labels, *, device: torch.device, precision: Precision = "fp32", what: str | None = None
) -> np.ndarray:
    """Label probabilities (n, K) float32, each on its own."""
    width = len(labels.names)
    return sentences.logits_of(model, examples, width, torch.Tensor.sigmoid, device=device, precision=precision, what=what)


def loss(gold: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean binary cross-entropy in nats, over examples and labels."""
    tiny = np.finfo(np.float32).eps  # fp32's sigmoid rounds to 0 and 1, whose logarithm would be infinite
    exact = np.clip(probabilities.astype(np.float64), tiny, 1 - tiny)
    return float(-np.log(np.where(gold, exact, 1 - exact)).mean())


def chosen(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """Truth values (n, K): the labels that are given."""
    if labels.thresholds is None:
        return probabilities > THRESHOLD
    return given_labels(probabilities, labels.names, labels.thresholds, exclusive=False)


def constant(train_gold: np.ndarray, gold: np.ndarray, labels: Labels) -> Metrics:
    return set_metrics(gold, most_frequent_set(train_gold, len(gold)), labels.names)


def baselines(train: Labelled, train_gold: np.ndarray, test: Labelled, labels: Labels) -> dict[str, np.ndarray]:
    return {
        "TF-IDF + one-vs-rest logistic regression": tfidf_one_vs_rest(sentences.joined(train), train_gold, sentences.joined(test)),
        "most frequent set": most_frequent_set(train_gold, len(test)).astype(np.float64),
    }


def suspects(rows: Labelled, gold: np.ndarray, probabilities: np.ndarray, labels: Labels) -> tuple[list[Mistake], list[str]]:
    """Labels that are likely given or left out wrongly, each on its own: with its probability, and how far it is on the other side."""
    weak = [name for place, name in enumerate(labels.names) if undecided(*as_classes(gold, probabilities, place)).all()]
    places = np.argwhere(suspected_in_sets(gold, probabilities))
    margins = [float((1 - 2 * gold[row, label]) * (1 - 2 * probabilities[row, label])) for row, label in places]
    found = [
        {
            "row": int(row),
            "label": labels.names[label],
            "given": bool(gold[row, label]),
            "probability": float(probabilities[row, label]),
            "margin": margin,
        }
        for (row, label), margin in zip(places.tolist(), margins, strict=True)
    ]
    return sorted(found, key=lambda each: each["margin"]), weak


def write(path: Path, rows: Labelled, gold: np.ndarray | None, probabilities: np.ndarray, labels: Labels) -> None:
    write_set_predictions(
        path,
        ids=rows.ids,
        text_hashes=rows.text_hashes(),
        gold=gold,
        predicted=chosen(probabilities, labels),
        probabilities=probabilities,
        calibrated=calibrated_of(probabilities, labels, exclusive=False),
        names=labels.names,
    )


def answers(probabilities: np.ndarray, labels: Labels) -> list[LabelSet]:
    found = []
    said = said_of(probabilities, labels, exclusive=False)
    for row, given, (its, before) in zip(probabilities, chosen(probabilities, labels), said, strict=True):
        places = sorted(np.flatnonzero(given).tolist(), key=lambda place: -row[place])
        found.append(LabelSet([labels.names[place] for place in places], its, before))
    return found


MULTI_LABEL = Task(
    name="multi-label",
    of="{count} labels",
    problem_type="multi_label_classification",
    pipeline="text-classification",
    call='model.predict(["a text to label"])',
    scores={"macro_f1": ("macro", "f1"), "micro_f1": ("micro", "f1"), "exact_match": ("exact_match",)},
    smooths=True,
    exclusive=False,
    max_length=128,
    longs=sentences.LONGS,
    read=partial(read_texts, sets=True),
    ask=sentences.ask,
    learn=lambda train: Labels(set_names(train)),
    gold=gold_of,
    strata=strata,
    encode=encode,
    head=BertForSequenceClassification,
    objective=lambda labels, smoothing, weights: LabelSets(smoothing),
    constant=constant,
    run=run,
    settle=leave,
    loss=loss,
    metrics=lambda gold, probabilities, labels: set_metrics(gold, chosen(probabilities, labels), labels.names),
    intervals=lambda gold, probabilities, labels: of_set_metrics(gold, chosen(probabilities, labels), labels.names),
    baselines=baselines,
    mistakes=lambda rows, gold, probabilities, labels: of_sets(gold, chosen(probabilities, labels), probabilities, labels.names),
    suspects=suspects,
    write=write,
    answers=answers,
)
