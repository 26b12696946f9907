"""What weighed on a fine-tuned model's answer, token by token: integrated gradients (Sundararajan, Taly and Yan 2017).

From the text with every token masked to the text itself, along a straight line between their word embeddings, segments and places as they
are: a token's share is the integral of its gradient along the way times the way. The shares of all tokens sum to the difference of the
answer between both ends (their completeness), which the integral misses a little: so much is said with it.

The answer is a class's log-probability in nats, at the temperature that dev taught, or a number as it is. By Gauss and Legendre's points,
doubled until the sum is right or there are MOST_POINTS: a point costs a training step of the text. It says what the answer depends on
around this line, not why.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.errors import ConfigError
from bertlab.exploring.looking import as_said, framed
from bertlab.inference import LoadedModel
from bertlab.model.heads import BertForSequenceClassification
from bertlab.model.opened import head_logits, opened, word_vectors

FEWEST_POINTS, MOST_POINTS = 8, 64
CLOSE_ENOUGH = 0.01  # of the whole difference, and as many nats or units
POINTS_AT_ONCE = 8  # bounds the memory


def attributed(model: LoadedModel, text: str, text_b: str | None = None, label: str | None = None) -> dict[str, Any]:
    """Each token's share of the answer `label` (default: the likeliest; of a number there is one).

    Raises ConfigError for a model that gives no answer to a whole text, or a label that it does not know.
    """
    if not isinstance(model.model, BertForSequenceClassification):
        raise ConfigError(f"{model.folder}: gives no class or number to a whole text: attributions are of those")
    if text_b is not None and model.pairs is False:
        raise ConfigError(f"{model.folder}: fine-tuned on single texts: give no second")
    sequence = framed(model, text, text_b)
    column = _column(model, sequence.ids, sequence.segments, label)
    frame = (sequence.ids == model.tokenizer.cls_id) | (sequence.ids == model.tokenizer.sep_id)
    with torch.no_grad():
        words = word_vectors(model.encoder, sequence.ids)
        before = word_vectors(model.encoder, sequence.ids.masked_fill(~frame, model.tokenizer.mask_id))
        at, from_ = (float(_answer(model, each, sequence.segments, column)) for each in (words, before))
    points = FEWEST_POINTS
    while True:
        shares = _integrated(model, before, words, sequence.segments, column, points)
        missed = at - from_ - float(shares.sum())
        if abs(missed) <= CLOSE_ENOUGH * (1 + abs(at - from_)) or points >= MOST_POINTS:
            break
        points *= 2
    return {
        "label": model.known.names[column] if model.labels and len(model.known.names) > 1 else None,
        "unit": "value" if model.task and model.task.name == "regression" else "log-probability",
        "tokens": [model.tokenizer.token(id) for id in sequence.ids[0].tolist()],
        "shares": shares.tolist(),
        "answer": at,
        "answer_of_masks": from_,
        "missed": missed,
        "points": points,
    }


def _integrated(model: LoadedModel, before: Tensor, words: Tensor, segments: Tensor, column: int, points: int) -> Tensor:
    """The tokens' shares (L,) by so many points of the line."""
    places, weights = np.polynomial.legendre.leggauss(points)  # on [-1, 1]
    along = torch.from_numpy((places + 1) / 2).to(words)
    total = torch.zeros_like(words[0])
    for some, each in zip(along.split(POINTS_AT_ONCE), torch.from_numpy(weights / 2).to(words).split(POINTS_AT_ONCE), strict=True):
        line = (before + some[:, None, None] * (words - before)).requires_grad_()
        answers = _answer(model, line, segments.expand(len(some), -1), column)
        (gradient,) = torch.autograd.grad(answers.sum(), line)
        total += (each[:, None, None] * gradient).sum(0)
    return (total * (words - before)[0]).sum(-1)


def _answer(model: LoadedModel, words: Tensor, segments: Tensor, column: int) -> Tensor:
    """The number that is explained, of each of N texts: (N,)."""
    assert isinstance(model.model, BertForSequenceClassification) and model.task is not None
    logits = head_logits(model.model, opened(model.encoder, words, segments).last)
    if model.task.name == "regression":
        return logits[:, 0]
    logits = as_said(model, logits)
    return (F.logsigmoid(logits) if model.task.exclusive is False else logits.log_softmax(-1))[:, column]


def _column(model: LoadedModel, ids: Tensor, segments: Tensor, label: str | None) -> int:
    names = model.known.names
    if label is not None and label not in names:
        raise ConfigError(f"label {label[:60]!r} is none of this model's {len(names)}")
    if label is not None:
        return names.index(label)
    assert isinstance(model.model, BertForSequenceClassification)
    with torch.no_grad():
        return int(head_logits(model.model, opened(model.encoder, word_vectors(model.encoder, ids), segments).last)[0].argmax())
