"""One label a text, or a pair of texts: softmax over the classes of train, cross-entropy, chosen by macro-F1."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labels import label_ids, label_names
from bertlab.evaluation.baselines import class_shares, majority_class, tfidf_logistic_regression
from bertlab.evaluation.intervals import of_metrics
from bertlab.evaluation.label_errors import likely_label_errors, undecided
from bertlab.evaluation.metrics import classification_metrics
from bertlab.evaluation.mistakes import Mistake, of_classes
from bertlab.evaluation.predictions import write_predictions
from bertlab.evaluation.probabilities import given_labels
from bertlab.model.heads import BertForSequenceClassification
from bertlab.tasks import sentences
from bertlab.tasks.contract import Labels, Long, Metrics, Task, calibrated_of, leave, said_of
from bertlab.tasks.reading import read_texts
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.objectives import Classification
from bertlab.training.processes import Precision


@dataclass(frozen=True)
class Prediction:
    """One text's class and its probability, and the probabilities of all classes by name, at the temperature that dev taught, where it
    taught one, as `bertlab predict` writes them; `uncalibrated` then has them as the model gives them (None: dev taught none).
    `no_known_tokens`: the model saw nothing of the text."""

    label: str
    probability: float
    probabilities: dict[str, float] = field(repr=False)
    uncalibrated: dict[str, float] | None = field(default=None, repr=False)
    no_known_tokens: bool = False

    @property
    def given(self) -> list[str]:
        return [self.label]

    def as_row(self, every: bool = False) -> dict[str, Any]:
        return {"label": self.label, "probability": self.probability} | ({"probabilities": self.probabilities} if every else {})


def encode(tokenizer: Tokenizer, rows: Labelled, gold: Sequence[int] | None, labels: Labels, *, max_length: int, long: Long) -> Examples:
    return sentences.encode(tokenizer, rows, None if gold is None else np.array(gold, dtype=np.int64), max_length=max_length, long=long)


def run(
    model: nn.Module, examples: Examples, labels: Labels, *, device: torch.device, precision: Precision = "fp32", what: str | None = None
) -> np.ndarray:
    """Class probabilities (n, K) float32."""
    width = len(labels.names)
    return sentences.logits_of(model, examples, width, lambda logits: logits.softmax(-1), device=device, precision=precision, what=what)


def chosen(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """(n,) the class that is given."""
    if labels.thresholds is None:
        return np.asarray(probabilities.argmax(1))
    return given_labels(probabilities, labels.names, labels.thresholds, exclusive=True).argmax(1)


def loss(gold: Sequence[int], probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    from sklearn.metrics import log_loss

    exact = probabilities.astype("float64")
    exact /= exact.sum(1, keepdims=True)  # in fp32 they miss 1 by some 1e-7, and scikit-learn warns
    return float(log_loss(gold, exact, labels=range(exact.shape[1])))


def constant(train_gold: Sequence[int], gold: Sequence[int], labels: Labels) -> Metrics:
    return classification_metrics(gold, majority_class(train_gold, len(gold)), labels.names)


def baselines(train: Labelled, train_gold: Sequence[int], test: Labelled, labels: Labels) -> dict[str, np.ndarray]:
    classes = len(labels.names)
    return {
        "TF-IDF + logistic regression": tfidf_logistic_regression(sentences.joined(train), train_gold, sentences.joined(test), classes),
        "majority class": class_shares(train_gold, len(test), classes),
    }


def suspects(rows: Labelled, gold: Sequence[int], probabilities: np.ndarray, labels: Labels) -> tuple[list[Mistake], list[str]]:
    """Labels that are likely wrong, by confident learning: with the likelier class, the label's probability and its distance to it."""
    found: list[Mistake] = [
        {
            "row": suspect.row,
            "label": labels.names[suspect.label],
            "likelier": labels.names[suspect.likelier],
            "probability": suspect.self_confidence,
            "margin": suspect.margin,
        }
        for suspect in likely_label_errors(gold, probabilities)
    ]
    return found, [labels.names[place] for place in np.flatnonzero(undecided(gold, probabilities))]


def write(path: Path, rows: Labelled, gold: Sequence[int] | None, probabilities: np.ndarray, labels: Labels) -> None:
    write_predictions(
        path,
        ids=rows.ids,
        text_hashes=rows.text_hashes(),
        gold=gold,
        predicted=chosen(probabilities, labels),
        probabilities=probabilities,
        calibrated=calibrated_of(probabilities, labels, exclusive=True),
        names=labels.names,
    )


def answers(probabilities: np.ndarray, labels: Labels) -> list[Prediction]:
    given = [labels.names[place] for place in chosen(probabilities, labels)]
    said = said_of(probabilities, labels, exclusive=True)
    return [Prediction(label, its[label], its, before) for label, (its, before) in zip(given, said, strict=True)]


SINGLE_LABEL = Task(
    name="single-label",
    of="{count} classes",
    problem_type="single_label_classification",
    pipeline="text-classification",
    call='model.predict(["a text to classify"])',
    scores={"macro_f1": ("macro", "f1"), "accuracy": ("accuracy",)},
    smooths=True,
    exclusive=True,
    max_length=128,
    longs=sentences.LONGS,
    read=read_texts,
    ask=sentences.ask,
    learn=lambda train: Labels(label_names(train)),
    gold=lambda rows, labels: label_ids(rows, labels.names),
    strata=lambda gold: gold,
    encode=encode,
    head=BertForSequenceClassification,
    objective=lambda labels, smoothing, weights: Classification(smoothing, weights),
    constant=constant,
    run=run,
    settle=leave,
    loss=loss,
    metrics=lambda gold, probabilities, labels: classification_metrics(gold, chosen(probabilities, labels), labels.names),
    intervals=lambda gold, probabilities, labels: of_metrics(gold, chosen(probabilities, labels), labels.names),
    baselines=baselines,
    mistakes=lambda rows, gold, probabilities, labels: of_classes(gold, probabilities, labels.names),
    suspects=suspects,
    write=write,
    answers=answers,
)
