"""The part of a context that answers a question, or none (SQuAD 1.1 and 2.0): exact match and F1 of words, chosen by F1.

A context that is too long becomes windows, and the best span of all is the answer. Where dev has questions without an answer, how far [CLS]
must be above the best span for none to be given is set on dev; where it has none, an answer is always given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.questions import Candidate, Found, QuestionExamples, encode_questions
from bertlab.batches.questions import decode_answers as decode
from bertlab.corpus.questions import Questions
from bertlab.errors import DataError
from bertlab.evaluation.answers import answer_intervals, answer_metrics, best_threshold
from bertlab.evaluation.baselines import nearest_sentence
from bertlab.evaluation.mistakes import Mistake, of_answers
from bertlab.evaluation.span_predictions import write_answer_predictions
from bertlab.model.heads import BertForQuestionAnswering
from bertlab.tasks.contract import Labels, Long, Metrics, Task, leave
from bertlab.tasks.reading import read_answers
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.forward import in_order
from bertlab.training.objectives import Answering
from bertlab.training.processes import Precision

THRESHOLD = "no_answer_threshold"


@dataclass(frozen=True)
class Gold:
    """n questions: the texts that answer each, the marked answers that are learnt, and numbers of their contexts (n,)."""

    texts: list[list[str]]
    marked: list[list[tuple[str, int]]]
    contexts: np.ndarray


@dataclass(frozen=True)
class Answer:
    """The text that answers a question, "" for none, its probability among the candidates, and where it begins in the context."""

    text: str
    probability: float
    start: int | None
    no_known_tokens: bool = False

    @property
    def given(self) -> list[str]:
        return ["an answer" if self.text else "no answer"]

    def as_row(self, every: bool = False) -> dict[str, Any]:
        return {"answer": self.text, "probability": self.probability, "start": self.start}


def ask(texts: Sequence[Any], texts_b: Sequence[Any] | None) -> Questions:
    if texts_b is None:
        raise DataError("questions need contexts: give predict(questions, contexts)")
    return Questions([str(number) for number in range(len(texts))], list(texts), list(texts_b), None, "the questions")


def gold_of(rows: Questions, labels: Labels) -> Gold:
    return Gold(rows.texts(), rows.answers or [], np.unique(rows.context_hashes(), return_inverse=True)[1])


def encode(tokenizer: Tokenizer, rows: Questions, gold: Gold | None, labels: Labels, *, max_length: int, long: Long) -> QuestionExamples:
    marked = None if gold is None else gold.marked
    stride = max(1, min(128, max_length // 3))  # the paper's 128 of 384
    return encode_questions(tokenizer, rows.questions, rows.contexts, marked, max_length=max_length, stride=stride)


def run(
    model: nn.Module, examples: Any, labels: Labels, *, device: torch.device, precision: Precision = "fp32", what: str | None = None
) -> list[Found]:
    def compute(batch: LabelledBatch) -> Tensor:
        return model(**batch.encoder_inputs()).float()

    logits = in_order(model, examples, compute, 2, device=device, precision=precision, of_tokens=True, what=what)
    return decode(examples, logits, examples.contexts)


def tune(gold: Gold, found: list[Found], labels: Labels) -> dict[str, Any]:
    threshold, _ = best_threshold(np.array([each.no_answer for each in found]), gold.texts, [each.best for each in found])
    return {THRESHOLD: threshold}


def chosen(found: list[Found], labels: Labels) -> list[tuple[str, float]]:
    return [each.choose(labels.tuned.get(THRESHOLD)) for each in found]


def texts_of(found: list[Found], labels: Labels) -> list[str]:
    return [text for text, _ in chosen(found, labels)]


def loss(gold: Gold, found: list[Found]) -> float:
    """The share of questions whose best span is not an answer."""
    return 1.0 - float(answer_metrics(gold.texts, [each.best for each in found])["exact_match"])


def constant(train_gold: Gold, gold: Gold, labels: Labels) -> Metrics:
    return answer_metrics(gold.texts, [""] * len(gold.texts))


def baselines(train: Questions, train_gold: Gold, test: Questions, labels: Labels) -> dict[str, list[Found]]:
    """The first always answers and the second never, whatever threshold the model has."""
    sentences = zip(nearest_sentence(test.questions, test.contexts), test.contexts, strict=True)
    starts = [(text, context.find(text)) for text, context in sentences]
    return {
        "the sentence of most shared words": [Found([Candidate(text, start, start + len(text), 0.0)], -np.inf) for text, start in starts],
        "no answer": [Found([], 0.0)] * len(test),
    }


def mistakes(rows: Questions, gold: Gold, found: list[Found], labels: Labels) -> list[Mistake]:
    given = chosen(found, labels)
    return of_answers(gold.texts, [text for text, _ in given], [probability for _, probability in given])


def gather(parts: Sequence[list[Found]], places: np.ndarray, known: Sequence[Labels]) -> tuple[list[Found], dict[str, Any]]:
    """Answers of several models in one order. Each model's threshold is taken off its scores of no answer: theirs all is 0 then."""
    found = []
    for part, labels in zip(parts, known, strict=True):
        threshold = labels.tuned.get(THRESHOLD)
        found += [
            replace(each, no_answer_score=-np.inf if threshold is None else each.no_answer_score - threshold) for each in part
        ]  # a model that always answers never is above it
    return [found[place] for place in np.argsort(places).tolist()], {THRESHOLD: 0.0}


def write(path: Path, rows: Questions, gold: Gold | None, found: list[Found], labels: Labels) -> None:
    given = chosen(found, labels)
    write_answer_predictions(
        path,
        ids=rows.ids,
        text_hashes=rows.text_hashes(),
        contexts=rows.context_hashes(),
        gold=None if gold is None else gold.texts,
        predicted=[text for text, _ in given],
        probabilities=[probability for _, probability in given],
        no_answer=[each.no_answer for each in found],
    )


def answers(found: list[Found], labels: Labels) -> list[Answer]:
    given = zip(found, chosen(found, labels), strict=True)
    return [Answer(text, probability, each.candidates[0].start if text else None) for each, (text, probability) in given]


ANSWERS = Task(
    name="answers",
    of="answers",
    problem_type=None,
    pipeline="question-answering",
    call='model.predict(["a question"], ["the text that may answer it"])',
    scores={"f1": ("f1",), "exact_match": ("exact_match",)},
    smooths=False,
    max_length=384,
    longs=("windows",),
    read=read_answers,
    ask=ask,
    learn=lambda train: Labels(["start", "end"]),
    gold=gold_of,
    strata=lambda gold: [0] * len(gold.texts),
    together=lambda rows: rows.context_hashes(),
    encode=encode,
    head=BertForQuestionAnswering,
    objective=lambda labels, smoothing, weights: Answering(),
    constant=constant,
    run=run,
    tune=tune,
    settle=leave,
    loss=loss,
    metrics=lambda gold, found, labels: answer_metrics(gold.texts, texts_of(found, labels)),
    intervals=lambda gold, found, labels: answer_intervals(gold.texts, texts_of(found, labels), clusters=gold.contexts),
    baselines=baselines,
    mistakes=mistakes,
    gather=gather,
    write=write,
    cluster="context_sha256",
    answers=answers,
)
