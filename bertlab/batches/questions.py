"""Questions and contexts as flat batches, and answers back from what a model gives: [CLS] question [SEP] part of the context [SEP].

A context that is too long becomes windows (windows.py), `stride` tokens after each other: 128 of at most 384 in BERT's script. In training
a window that does not hold the whole answer has [CLS] as its answer, as has every window of a question without one. An answer is taken from
the window that knows its first token best, and is the best of all spans of at most `longest` tokens; BERT's script looks at the twenty
best first and last tokens of each window alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertlab.batches.labelled import Examples, runs
from bertlab.batches.windows import owned, windows_of
from bertlab.tokens.tokenizer import Tokenizer

NO_ANSWER = ""


@dataclass(frozen=True, kw_only=True)
class QuestionExamples(Examples):
    """Examples whose labels are the first and the last token of an answer within its window, (W, 2), [CLS] (0, 0) for none.

    An example is a question with a window of its context; num_truncated counts questions (not contexts) that lost tokens, num_windowed
    contexts that became several windows, num_unreachable answers that no window holds.
    contexts: of the n questions. question (W,): the number of each window's question. spans (T, 2): the characters of the context that a
    token stands for, -1 for others. owned (T,): True for tokens of the context that no other window of the question knows better.
    """

    contexts: Sequence[str]
    question: np.ndarray
    spans: np.ndarray
    owned: np.ndarray
    num_questions: int
    num_windowed: int
    num_unreachable: int


@dataclass(frozen=True)
class Candidate:
    """A span of the context, characters [start, end), and its score: the sum of two logits."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Found:
    """The best spans for a question, best first, each text once; and the score of no answer, the lowest of its windows'."""

    candidates: list[Candidate]
    no_answer_score: float

    @property
    def best(self) -> str:
        """The text of the best span, "" where there is none."""
        return self.candidates[0].text if self.candidates else NO_ANSWER

    @property
    def no_answer(self) -> float:
        """How far no answer is above the best span: what a threshold is set on (Devlin et al. 2018)."""
        return self.no_answer_score - self.candidates[0].score if self.candidates else float("inf")

    def choose(self, threshold: float | None) -> tuple[str, float]:
        """(text, probability among the candidates); "" where no answer is above the best by more than `threshold` (None: never)."""
        refuses = threshold is not None and self.no_answer > threshold
        scores = np.array([candidate.score for candidate in self.candidates] + [self.no_answer_score] * (threshold is not None))
        told = np.isfinite(scores).any()  # or no answer is all that there is
        shares = np.exp(scores - scores.max()) if told else np.ones(len(scores))
        shares /= shares.sum() or 1
        return (NO_ANSWER, float(shares[-1])) if refuses else (self.best, float(shares[0]) if self.candidates else 0.0)


def encode_questions(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Sequence[tuple[str, int]]] | None = None,
    *,
    max_length: int = 384,
    stride: int = 128,
    max_question: int = 64,
) -> QuestionExamples:
    """Encode n questions to at most `max_question` tokens each, and with windows of their contexts to at most `max_length` (at least 8).

    Of several answers (text, first character) the first is learnt. A context is encoded once, however many questions it has.
    """
    assert max_length >= 8
    max_question = min(max_question, max_length // 2)  # a context keeps at least as much room
    asked, asked_offsets = tokenizer.encode(questions)
    asked_lengths = np.minimum(np.diff(asked_offsets), max_question)
    number = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
    which = np.fromiter((number[context] for context in contexts), dtype=np.int64, count=len(contexts))
    pieces, bounds, characters = tokenizer.encode_with_spans(list(number))
    windows = windows_of(np.diff(bounds)[which], max_length - 3 - asked_lengths, stride)
    of_question = windows.texts

    lengths = asked_lengths[of_question] + windows.lengths + 3
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first = asked_lengths[of_question] + 2  # of the context in its window
    ids = np.full(offsets[-1], tokenizer.sep_id, dtype=np.int32)
    segments = np.zeros(offsets[-1], dtype=np.int8)
    spans = np.full((offsets[-1], 2), -1, dtype=np.int64)
    is_best = np.zeros(offsets[-1], dtype=bool)
    ids[offsets[:-1]] = tokenizer.cls_id
    ids[runs(offsets[:-1] + 1, asked_lengths[of_question])] = asked[runs(asked_offsets[:-1][of_question], asked_lengths[of_question])]
    places, source = runs(offsets[:-1] + first, windows.lengths), runs(bounds[which[of_question]] + windows.starts, windows.lengths)
    ids[places], spans[places], is_best[places] = pieces[source], characters[source], owned(windows)
    segments[runs(offsets[:-1] + first, windows.lengths + 1)] = 1

    labels = np.full((len(windows), 2), -1, dtype=np.int64)
    unreachable = 0
    if answers is not None:
        ends = np.array([_tokens_of(its, characters[bounds[c] : bounds[c + 1]]) for its, c in zip(answers, which, strict=True)])
        inside = ends[of_question].reshape(-1, 2) - windows.starts[:, None]
        held = (ends[of_question].reshape(-1, 2)[:, 0] >= 0) & (inside[:, 0] >= 0) & (inside[:, 1] < windows.lengths)
        labels = np.where(held[:, None], inside + first[:, None], 0)
        answered = np.array([bool(its) for its in answers])
        unreachable = int((answered & (np.bincount(of_question[held], minlength=len(questions)) == 0)).sum())
    return QuestionExamples(
        ids=ids,
        segments=segments,
        offsets=offsets,
        labels=labels,
        num_truncated=int((np.diff(asked_offsets) > max_question).sum()),
        contexts=contexts,
        question=of_question,
        spans=spans,
        owned=is_best,
        num_questions=len(questions),
        num_windowed=len(set(of_question[windows.starts > 0].tolist())),
        num_unreachable=unreachable,
    )


def _tokens_of(answers: Sequence[tuple[str, int]], characters: np.ndarray) -> tuple[int, int]:
    """The first and the last token of the first answer among the tokens of its context (T, 2); (-1, -1) where there is none."""
    if not answers:
        return -1, -1
    text, start = answers[0]
    touched = np.flatnonzero((characters[:, 1] > start) & (characters[:, 0] < start + len(text)))
    return (int(touched[0]), int(touched[-1])) if len(touched) else (-1, -1)


def decode_answers(
    examples: QuestionExamples, logits: np.ndarray, contexts: Sequence[str], *, longest: int = 30, n_best: int = 20
) -> list[Found]:
    """What answers each question, from the logits of first and last tokens (T, 2) and the contexts of the n questions."""
    in_context = examples.spans[:, 0] >= 0
    window_bounds = np.searchsorted(examples.question, np.arange(examples.num_questions + 1))
    refused = logits[examples.offsets[:-1]].sum(1)  # of [CLS], (W,)
    steps = np.arange(longest)
    found = []
    for number, context in enumerate(contexts):
        low, high = window_bounds[number], window_bounds[number + 1]
        left, right = examples.offsets[low], examples.offsets[high]
        starts = left + np.flatnonzero(examples.owned[left:right])
        ends = np.minimum(starts[:, None] + steps, right - 1)
        # a window's context is followed by [SEP]: what lies behind one is of another window
        allowed = np.logical_and.accumulate(in_context[ends], axis=1)
        scores = np.where(allowed, logits[starts, 0][:, None] + logits[ends, 1], -np.inf)
        found.append(Found(_best(scores, starts, examples.spans, context, n_best), float(refused[low:high].min())))
    return found


def _best(scores: np.ndarray, starts: np.ndarray, spans: np.ndarray, context: str, n_best: int) -> list[Candidate]:
    """The `n_best` spans of highest score (S, longest), equal texts once, of equals the earlier and shorter."""
    flat = scores.ravel()
    many = min(len(flat), 8 * n_best)  # texts that occur again are left out
    if many == 0:
        return []
    floor = np.partition(flat, len(flat) - many)[len(flat) - many]
    order = np.flatnonzero((flat >= floor) & (flat > -np.inf))
    order = order[np.argsort(-flat[order], kind="stable")]
    candidates: dict[str, Candidate] = {}
    for place in order.tolist():
        token, length = divmod(place, scores.shape[1])
        start, end = int(spans[starts[token], 0]), int(spans[starts[token] + length, 1])
        text = context[start:end]
        if text and text not in candidates:
            candidates[text] = Candidate(text, start, end, float(flat[place]))
            if len(candidates) == n_best:
                break
    return list(candidates.values())
