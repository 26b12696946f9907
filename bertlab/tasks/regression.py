"""A number for a text, or a pair of texts: squared error, chosen by Spearman's correlation.

The model is trained on numbers of mean 0 and deviation 1 (train's), so that the usual learning rates do for any unit; the mean and the
deviation are folded into the head when it is saved, whose one logit then is the number.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labels import numbers
from bertlab.errors import DataError
from bertlab.evaluation.baselines import tfidf_ridge
from bertlab.evaluation.intervals import LEVEL, RESAMPLES
from bertlab.evaluation.mistakes import of_numbers
from bertlab.evaluation.numbers import number_metrics, of_number_metrics
from bertlab.evaluation.predictions import write_number_predictions
from bertlab.model.heads import BertForSequenceClassification
from bertlab.tasks import sentences
from bertlab.tasks.contract import Labels, Long, Metrics, Task
from bertlab.tasks.reading import read_texts
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.objectives import SquaredError
from bertlab.training.processes import Precision

NAME = "number"  # of the only logit


@dataclass(frozen=True)
class Estimate:
    """One text's number."""

    value: float
    no_known_tokens: bool = False

    @property
    def given(self) -> list[str]:
        return []

    def as_row(self, every: bool = False) -> dict[str, Any]:
        return {"value": self.value}


def learn(train: Labelled) -> Labels:
    values = np.array(numbers(train))
    if values.min() == values.max():
        raise DataError(f"{train.origin}: every one of {len(train)} rows has the number {values[0]:g}: there is nothing to learn")
    with np.errstate(over="ignore"):
        centre, scale = float(values.mean()), float(values.std())
    if not np.isfinite([centre, scale]).all() or scale == 0:
        raise DataError(f"{train.origin}: numbers from {values.min():g} to {values.max():g} have no mean or deviation: give another unit")
    return Labels([NAME], centre, scale)


def encode(tokenizer: Tokenizer, rows: Labelled, gold: np.ndarray | None, labels: Labels, *, max_length: int, long: Long) -> Examples:
    learnt = None if gold is None else ((gold - labels.centre) / labels.scale).astype(np.float32)
    return sentences.encode(tokenizer, rows, learnt, max_length=max_length, long=long)


def run(
    model: nn.Module, examples: Examples, labels: Labels, *, device: torch.device, precision: Precision = "fp32", what: str | None = None
) -> np.ndarray:
    """Numbers (n,) float64 in the unit of the labels."""
    logits = sentences.logits_of(model, examples, 1, lambda logits: logits, device=device, precision=precision, what=what)
    return logits[:, 0].astype(np.float64) * labels.scale + labels.centre


def settle(model: BertForSequenceClassification, labels: Labels) -> None:
    with torch.no_grad():
        model.classifier.weight.mul_(labels.scale)
        model.classifier.bias.mul_(labels.scale).add_(labels.centre)


def constant(train_gold: np.ndarray, gold: np.ndarray, labels: Labels) -> Metrics:
    return number_metrics(gold, np.full(len(gold), train_gold.mean()))


def baselines(train: Labelled, train_gold: np.ndarray, test: Labelled, labels: Labels) -> dict[str, np.ndarray]:
    return {
        "TF-IDF + ridge regression": tfidf_ridge(sentences.joined(train), train_gold, sentences.joined(test)),
        "mean of train": np.full(len(test), train_gold.mean()),
    }


def write(path: Path, rows: Labelled, gold: np.ndarray | None, values: np.ndarray, labels: Labels) -> None:
    write_number_predictions(path, ids=rows.ids, text_hashes=rows.text_hashes(), gold=gold, predicted=values)


def answers(values: np.ndarray, labels: Labels) -> list[Estimate]:
    return [Estimate(float(value)) for value in values]


REGRESSION = Task(
    name="regression",
    of="numbers",
    problem_type="regression",
    pipeline="text-classification",
    call='model.predict(["a text to rate"])',
    scores={"spearman": ("spearman",), "pearson": ("pearson",), "rmse": ("rmse",)},
    smooths=False,
    max_length=128,
    longs=sentences.LONGS,
    read=partial(read_texts, scored=True),
    ask=sentences.ask,
    learn=learn,
    gold=lambda rows, labels: np.array(numbers(rows)),
    strata=lambda gold: [0] * len(gold),
    encode=encode,
    head=BertForSequenceClassification,
    objective=lambda labels, smoothing, weights: SquaredError(),
    constant=constant,
    run=run,
    settle=settle,
    loss=lambda gold, values: float(((gold - values) ** 2).mean()),
    metrics=lambda gold, values, labels: number_metrics(gold, values),
    intervals=lambda gold, values, labels: of_number_metrics(gold, values, resamples=RESAMPLES, level=LEVEL),
    baselines=baselines,
    mistakes=lambda rows, gold, values, labels: of_numbers(gold, values),
    write=write,
    answers=answers,
)
