"""bertlab/batches/questions.py against transformers' own encoding and windows, and a plain search over all spans."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.batches.questions import Candidate, Found, QuestionExamples, decode_answers, encode_questions
from bertlab.tokens.tokenizer import Tokenizer, train

LONG = (
    "In Zürich the river Limmat leaves the lake; its bridges were rebuilt in 1783 and, of stone, in 1901! Who paid for them is not known. "
    * 3
)
QUESTIONS = [
    "Which river leaves the lake?",
    "When?",
    "Who paid for the bridges of stone?",
    "Where?",
]
CONTEXTS = [LONG, LONG, LONG, "  Two towns,\n one\triver: naïve façades \U0001f600, 東京 and Zürich."]
ANSWERS = [[("Limmat", LONG.index("Limmat"))], [("in 1901", LONG.index("in 1901", 200))], [], [("東京", CONTEXTS[3].index("東京"))]]


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train([LONG, *QUESTIONS, CONTEXTS[3]] * 2, kind=request.param, vocab_size=300, lowercase=True)


def rows(examples: QuestionExamples, values: np.ndarray) -> list[Any]:
    return [values[start:end].tolist() for start, end in zip(examples.offsets[:-1], examples.offsets[1:], strict=True)]


def test_windows_are_those_of_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, 512)
    theirs: Any = AutoTokenizer.from_pretrained(str(tmp_path))
    for max_length, stride in ((64, 16), (110, 40), (384, 128)):
        for question, context in zip(QUESTIONS, CONTEXTS, strict=True):
            ours = encode_questions(tokenizer, [question], [context], max_length=max_length, stride=stride)
            room = max_length - 3 - len(theirs(question, add_special_tokens=False)["input_ids"])
            # their stride is the overlap of two windows, ours the way from one to the next
            expected = theirs(
                question,
                context,
                truncation="only_second",
                max_length=max_length,
                stride=max(0, room - stride),
                return_overflowing_tokens=True,
            )
            assert rows(ours, ours.ids) == expected["input_ids"]
            assert rows(ours, ours.segments) == expected["token_type_ids"]
            assert ours.num_windowed == (len(expected["input_ids"]) > 1)


def test_tokens_know_their_characters_of_the_context(tokenizer: Tokenizer) -> None:
    examples = encode_questions(tokenizer, QUESTIONS, CONTEXTS, max_length=64, stride=16)
    for row, spans in enumerate(rows(examples, examples.spans)):
        context = CONTEXTS[examples.question[row]]
        inside = [span for span in spans if span[0] >= 0]
        assert all(context[start:end].strip() == context[start:end] for start, end in inside)
        assert "".join(context[inside[0][0] : inside[-1][1]].split()) == "".join(_once(inside, context))
    covered = dict.fromkeys(range(4), 0)
    for row, (mine, spans) in enumerate(zip(rows(examples, examples.owned), rows(examples, examples.spans), strict=True)):
        assert not any(owns and span[0] < 0 for owns, span in zip(mine, spans, strict=True))
        covered[int(examples.question[row])] += sum(mine)
    for number, context in enumerate(CONTEXTS):
        assert covered[number] == len(tokenizer.encode([context])[0])  # every token of a context is owned once


def _once(spans: list[list[int]], context: str) -> list[str]:
    """The texts of spans in order, each character once: tokens may share one."""
    texts, done = [], 0
    for start, end in spans:
        texts.append(context[max(start, done) : end])
        done = max(done, end)
    return texts


def test_the_labels_point_at_the_answer_in_every_window_that_holds_it_whole(tokenizer: Tokenizer) -> None:
    examples = encode_questions(tokenizer, QUESTIONS, CONTEXTS, ANSWERS, max_length=48, stride=10)
    held = np.zeros(4, dtype=int)
    for row, (start, end) in enumerate(examples.labels.tolist()):
        number = int(examples.question[row])
        spans = rows(examples, examples.spans)[row]
        if (start, end) != (0, 0):
            text, at = ANSWERS[number][0]
            assert CONTEXTS[number][spans[start][0] : spans[end][1]] == text and spans[start][0] == at
            held[number] += 1
        elif ANSWERS[number]:
            text, at = ANSWERS[number][0]
            whole = tokenizer.encode_with_spans([CONTEXTS[number]])[2].tolist()
            touching = [sum(span[1] > at and span[0] < at + len(text) for span in some) for some in (spans, whole)]
            assert touching[0] < touching[1]  # a byte-level token is a part of a letter at times
    assert held[2] == 0 and (held[[0, 1, 3]] >= 1).all() and held.max() > 1
    assert examples.num_unreachable == 0 and examples.num_windowed >= 3


def test_every_word_of_a_context_is_found_in_the_windows_that_hold_it(tokenizer: Tokenizer) -> None:
    words = [(match.group(), match.start()) for match in re.finditer(r"\w+", LONG)]
    examples = encode_questions(
        tokenizer, ["Which?"] * len(words), [LONG] * len(words), [[word] for word in words], max_length=40, stride=7
    )
    held, of_rows = set(), rows(examples, examples.spans)
    for row, (start, end) in enumerate(examples.labels.tolist()):
        spans = of_rows[row] if (start, end) != (0, 0) else []
        if spans:
            number = int(examples.question[row])
            assert (LONG[spans[start][0] : spans[end][1]], spans[start][0]) == words[number] and spans[end][0] >= 0
            held.add(number)
    assert len(held) == len(words) and examples.num_unreachable == 0


def test_an_answer_longer_than_a_window_is_counted_and_learnt_as_none(tokenizer: Tokenizer) -> None:
    examples = encode_questions(tokenizer, ["What?", "What?"], [LONG, LONG], [[(LONG[:250], 0)], []], max_length=48, stride=10)
    assert examples.num_unreachable == 1 and not examples.labels.any()


def test_an_answer_between_marks_without_spaces_has_its_own_tokens_alone(tokenizer: Tokenizer) -> None:
    context = "rebuilt in (Zürich) of stone"
    examples = encode_questions(tokenizer, ["Where?"], [context], [[("Zürich", 12)]], max_length=64)
    ((start, end),) = examples.labels.tolist()
    assert examples.spans[start, 0] == 12 and examples.spans[end, 1] == 18
    assert "(" in context[examples.spans[start - 1, 0] : 12] and ")" in context[18 : examples.spans[end + 1, 1]]


def test_a_long_question_is_cut_and_counted_and_a_context_keeps_room(tokenizer: Tokenizer) -> None:
    examples = encode_questions(tokenizer, [LONG, "When?"], CONTEXTS[:2], max_length=40, stride=128, max_question=64)
    assert examples.num_truncated == 1 and examples.lengths.max() == 40
    assert rows(examples, examples.segments)[0].index(1) == 20 + 2, "of 40 the question has half at most"
    whole = encode_questions(tokenizer, [LONG], CONTEXTS[:1], max_length=384, max_question=12)
    assert rows(whole, whole.segments)[0].index(1) == 12 + 2
    empty = encode_questions(tokenizer, [""], [""], [[]], max_length=40)
    assert rows(empty, empty.ids) == [[tokenizer.cls_id, tokenizer.sep_id, tokenizer.sep_id]] and empty.labels.tolist() == [[0, 0]]


def by_search(examples: QuestionExamples, logits: np.ndarray, number: int, context: str, longest: int) -> list[tuple[str, float]]:
    """Every allowed span of a question, best first."""
    found = []
    for row in np.flatnonzero(examples.question == number):
        left, right = examples.offsets[row], examples.offsets[row + 1]
        for start in range(left, right):
            for end in range(start, min(right, start + longest)):
                if examples.owned[start] and examples.spans[end, 0] >= 0:
                    text = context[examples.spans[start, 0] : examples.spans[end, 1]]
                    if text:
                        found.append((text, float(logits[start, 0] + logits[end, 1])))
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("longest", [1, 6, 30])
def test_the_best_spans_are_those_of_a_search_over_all(tokenizer: Tokenizer, longest: int) -> None:
    examples = encode_questions(tokenizer, QUESTIONS, CONTEXTS, max_length=48, stride=10)
    logits = np.random.default_rng(longest).normal(size=(len(examples.ids), 2)).astype(np.float32)
    found = decode_answers(examples, logits, CONTEXTS, longest=longest, n_best=5)
    for number, context in enumerate(CONTEXTS):
        wanted: dict[str, float] = {}
        for text, score in by_search(examples, logits, number, context, longest):
            wanted.setdefault(text, score)
        candidates = found[number].candidates
        assert [candidate.text for candidate in candidates] == list(wanted)[:5]
        assert [candidate.score for candidate in candidates] == pytest.approx(list(wanted.values())[:5])
        assert all(context[candidate.start : candidate.end] == candidate.text for candidate in candidates)
        of_cls = [float(logits[examples.offsets[row]].sum()) for row in np.flatnonzero(examples.question == number)]
        assert found[number].no_answer_score == pytest.approx(min(of_cls))


def test_what_labels_say_is_what_comes_back(tokenizer: Tokenizer) -> None:
    """A model that is sure of the labels gives the annotated texts, and none where there is none."""
    examples = encode_questions(tokenizer, QUESTIONS, CONTEXTS, ANSWERS, max_length=48, stride=10)
    logits = np.zeros((len(examples.ids), 2), dtype=np.float32)
    for column in (0, 1):
        logits[examples.offsets[:-1] + examples.labels[:, column], column] = 10
    found = decode_answers(examples, logits, CONTEXTS)
    assert [each.choose(0.0)[0] for each in found] == [answers[0][0] if answers else "" for answers in ANSWERS]


def test_no_answer_is_chosen_above_a_threshold_alone() -> None:
    candidates = [Candidate("Limmat", 20, 26, 3.0), Candidate("lake", 30, 34, 2.0)]
    found = Found(candidates, 4.0)
    assert found.best == "Limmat" and found.no_answer == 1.0
    total = np.exp(3.0) + np.exp(2.0)
    expected: list[tuple[float | None, str, float]] = [
        (None, "Limmat", np.exp(3.0) / total),
        (1.0, "Limmat", np.exp(3.0) / (total + np.exp(4.0))),
        (0.9, "", np.exp(4.0) / (total + np.exp(4.0))),
    ]
    for threshold, text, probability in expected:
        chosen, its = found.choose(threshold)
        assert chosen == text and its == pytest.approx(probability)
    nothing = Found([], 1.0)
    assert nothing.best == "" and nothing.choose(None) == ("", 0.0) and nothing.choose(5.0) == ("", 1.0)
    assert Found([], -np.inf).choose(0.0) == ("", 1.0), "where none was ever in question"


def test_a_batch_has_the_answers_of_its_windows(tokenizer: Tokenizer) -> None:
    examples = encode_questions(tokenizer, QUESTIONS, CONTEXTS, ANSWERS, max_length=48, stride=10)
    picked = np.array([2, 0])
    batch = examples.batch(picked)
    assert batch.labels.tolist() == examples.labels[picked].tolist() and batch.num_sequences == 2
    assert batch.input_ids.tolist() == [id for row in picked for id in rows(examples, examples.ids)[row]]
