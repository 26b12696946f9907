"""What a kind of task is: how its labels are read and checked, its head, its loss, what becomes of logits, its metrics and its files.

A kind is a value of Task made once, at the end of its own file (single_label.py and those beside it); choosing.py lists them. Everything
that differs between kinds is here, and nothing else: splits, training, choosing by dev and the files of a run are the same for all.

"Outputs" are what a kind keeps of the model's answers to n examples, in their order: class probabilities (n, K), numbers (n,), ...
"Gold" is what they are held against. Both are only ever given back to the kind that made them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from bertlab.batches.labelled import Examples
from bertlab.corpus.labelled import Rows
from bertlab.evaluation.mistakes import Mistake
from bertlab.evaluation.probabilities import scaled
from bertlab.model.heads import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.tasks.reading import Columns
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.objectives import Objective
from bertlab.training.processes import Precision

Gold = Any
Outputs = Any
Metrics = dict[str, Any]
Long = Literal["head", "tail", "head+tail", "windows"]  # what is kept of a text that is too long
Head = BertForSequenceClassification | BertForTokenClassification | BertForQuestionAnswering


@dataclass(frozen=True)
class Labels:
    """What is known of the labels, from train alone: the names in the order of the logits; of numbers their mean and deviation.

    A model folder's logits are numbers as they are: centre 0, scale 1. `tuned` is what was set on dev for the model at hand, and
    `temperature` what dev taught of its probabilities (evaluation/probabilities.py; None: nothing, or there are none). `thresholds` are
    dev's, by label, where somebody asked to be answered at them (None: at 0.5, or with the likeliest class).
    """

    names: list[str]
    centre: float = 0.0
    scale: float = 1.0
    tuned: dict[str, Any] = field(default_factory=dict)
    temperature: float | None = None
    thresholds: dict[str, Any] | None = None


class Run(Protocol):
    """model, examples -> outputs, without gradients or dropout; progress is shown under the name `what`, if there is one."""

    def __call__(
        self,
        model: nn.Module,
        examples: Examples,
        labels: Labels,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        what: str | None = None,
    ) -> Outputs: ...


class Read(Protocol):
    """A file and its columns -> rows; without `needs_gold` the file need not have what they are held against, and it is not looked at."""

    def __call__(self, path: str, columns: Columns, *, needs_gold: bool = True) -> Any: ...


class OneAnswer(Protocol):
    """What is said of one example, for a person; a dataclass with a field `no_known_tokens` (measures.without_known_tokens)."""

    @property
    def given(self) -> list[str]:
        """The names that it gives, for a count: its label, its labels, the types of its entities."""

    def as_row(self, every: bool = False) -> dict[str, Any]:
        """As cells of a table; `every`: with the probabilities of all classes. They are calibrated where dev taught a temperature."""


class Encode(Protocol):
    """Rows and their gold (None: unknown) -> token ids and labels, at most `max_length` tokens a sequence; `long` says what becomes of
    longer texts."""

    def __call__(self, tokenizer: Tokenizer, rows: Any, gold: Gold | None, labels: Labels, *, max_length: int, long: Long) -> Examples: ...


def calibrated_of(outputs: np.ndarray, labels: Labels, *, exclusive: bool) -> np.ndarray | None:
    """Probabilities (n, K) at the temperature that dev taught, (n, K); None where it taught none. No answer is another by it."""
    return None if labels.temperature is None else scaled(outputs, labels.temperature, exclusive=exclusive)


def said_of(outputs: np.ndarray, labels: Labels, *, exclusive: bool) -> list[tuple[dict[str, float], dict[str, float] | None]]:
    """Of each of n examples the probabilities that are said, by the names of the classes: at the temperature that dev taught, and with them
    those that the model gave; or where it taught none the model's, and None."""
    calibrated = calibrated_of(outputs, labels, exclusive=exclusive)
    of_model = [dict(zip(labels.names, row, strict=True)) for row in outputs.tolist()]
    if calibrated is None:
        return [(its, None) for its in of_model]
    return [(dict(zip(labels.names, row, strict=True)), its) for row, its in zip(calibrated.tolist(), of_model, strict=True)]


def put_back(parts: Sequence[np.ndarray], places: np.ndarray, known: Sequence[Labels]) -> tuple[np.ndarray, dict[str, Any]]:
    """`gather` of outputs that are arrays with a row an example, and by which nothing is tuned."""
    return np.concatenate(list(parts))[np.argsort(places)], {}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of task. Functions that read or check rows raise DataError in one line for what a user gave."""

    name: str
    """What --task calls it."""
    of: str
    """What its examples are of, as in "160 examples of {count} classes"."""
    problem_type: str | None
    """What transformers calls it in config.json, where several kinds have one head."""
    pipeline: str
    """What the hub calls it."""
    call: str
    """How it is asked, for the model card."""
    scores: dict[str, tuple[str, ...]]
    """Its headline numbers: name -> path in the metrics. The first chooses the best epoch and seed, higher is better."""
    smooths: bool
    """Whether label smoothing means something."""
    exclusive: bool | None = None
    """Of outputs that are probabilities (n, K): whether an example has one of the K classes, or any number of them. None: of others."""
    max_length: int
    """Most tokens of an example where nothing else is asked for."""
    longs: tuple[Long, ...]
    """What can be done with texts that are longer, the usual first."""

    # data
    read: Read
    ask: Callable[[Sequence[Any], Sequence[Any] | None], Rows]
    """Texts and second texts from Python -> rows without labels."""
    learn: Callable[[Any], Labels]
    """Train's rows -> what is known of the labels."""
    gold: Callable[[Any, Labels], Gold]
    strata: Callable[[Gold], Sequence[int]]
    """A number for each example: a dev split cut from train has its share of each."""
    together: Callable[[Any], Sequence[str] | None] = lambda rows: None
    """Hashes of what must not be divided between train and dev; None: equal texts."""
    encode: Encode

    # model
    head: type[Any]
    """One of Head."""
    objective: Callable[[Labels, float, Sequence[float] | None], Objective[Any]]
    """Labels, label smoothing, how much each class counts (None: all alike) -> the loss. Only exclusive classes have such weights."""
    constant: Callable[[Gold, Gold, Labels], Metrics]
    """train's gold, other gold, labels -> the metrics on the latter of what answers always the same: a run that is no better has failed."""
    run: Run
    tune: Callable[[Gold, Outputs, Labels], dict[str, Any]] = lambda gold, outputs, labels: {}
    """What is set on dev for this model alone, as JSON can say it: it becomes Labels.tuned."""
    settle: Callable[[Any, Labels], None]
    """Called once on the weights to be saved: from now on its logits mean the same without `labels`' centre and scale."""

    # scores
    loss: Callable[[Gold, Outputs], float]
    """Mean loss of outputs, which decides between epochs of equal score."""
    metrics: Callable[[Gold, Outputs, Labels], Metrics]
    intervals: Callable[[Gold, Outputs, Labels], Metrics]
    """Confidence intervals under the keys of the metrics."""
    baselines: Callable[[Any, Gold, Any, Labels], dict[str, Outputs]]
    """train, its gold, test, labels -> what is answered to test without a BERT, as a model of this kind would; by words first."""

    mistakes: Callable[[Any, Gold, Outputs, Labels], list[Mistake]]
    """Rows, gold, outputs, labels -> the wrong answers, the worst first (evaluation/mistakes.py)."""
    suspects: Callable[[Any, Gold, Outputs, Labels], tuple[list[Mistake], list[str]]] | None = None
    """The same of models that have not seen the gold -> labels that are likely wrong, the likeliest first, and the names of those that the
    models are too weak to tell errors by (evaluation/label_errors.py). None: not of this kind."""
    gather: Callable[[Sequence[Outputs], np.ndarray, Sequence[Labels]], tuple[Outputs, dict[str, Any]]] = put_back
    """Outputs of several models for parts of the examples, where each of them, one part after the other, has its place (n,), and what each
    model knew of the labels -> the outputs of all in the order of the places, and the `tuned` by which they are all read."""

    # answers
    write: Callable[[Path, Any, Gold | None, Outputs, Labels], None]
    """Path, rows, gold (None: unknown), outputs, labels -> a predictions file, one row an example, for `bertlab compare`."""
    cluster: str | None = None
    """The column of that file that says which rows belong together: an interval draws such rows whole. None: each is on its own."""
    answers: Callable[[Outputs, Labels], list[Any]]
    """A OneAnswer an example, each of the kind's own class: what `bertlab.load(folder).predict` gives."""

    def score(self, metrics: Metrics) -> float:
        """The number that chooses."""
        return self.headlines(metrics)[next(iter(self.scores))]

    def headlines(self, metrics: Metrics) -> dict[str, float]:
        """The headline numbers by name."""
        found = {}
        for name, path in self.scores.items():
            value: Any = metrics
            for key in path:
                value = value[key]
            found[name] = float(value)
        return found


def leave(model: Head, labels: Labels) -> None:
    """`settle` of a task whose logits already mean what they mean."""
