"""Questions with the text that answers them: rows {id, question, context, answers: [{text, start}]}, or SQuAD's own nested JSON.

Held in memory whole. An answer is a part of its context and `start` its first character, counted from 0; a question without answers is one
that its context does not answer (SQuAD 2). What an annotator marked is checked against the context and never moved. Knows nothing of
tokens.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import COMPRESSIONS, LARGEST_LINE, kind_of, open_bytes
from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import BETWEEN_TEXTS, id_of, refuse_answers
from bertlab.corpus.tables import asked_id, kind_name, refuse_missing, rows, text_of, without_surrogates
from bertlab.errors import ConfigError, DataError

Answers = list[tuple[str, int]]  # (text, its first character), none: the context does not answer the question
Row = tuple[str, str, str, Answers | None]  # id, question, context, answers


@dataclass(frozen=True)
class Questions:
    """N questions in the order of their file: `ids`, `questions`, `contexts`, and where there are any `answers`, each a list of N.

    `origin` is the file that they came from, for messages.
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[Answers] | None
    origin: str

    def __len__(self) -> int:
        return len(self.questions)

    def subset(self, indices: Sequence[int]) -> "Questions":
        """The questions at `indices`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in indices],
            questions=[self.questions[i] for i in indices],
            contexts=[self.contexts[i] for i in indices],
            answers=None if self.answers is None else [self.answers[i] for i in indices],
        )

    def text_hashes(self) -> list[str]:
        """What makes two examples the same: the normalised sha256 of question and context. The answers have no part in it."""
        return [normalised_sha256(a + BETWEEN_TEXTS + b) for a, b in zip(self.questions, self.contexts, strict=True)]

    def context_hashes(self) -> list[str]:
        """The normalised sha256 of each question's context: a split and a bootstrap keep questions about one text together."""
        known = {context: normalised_sha256(context) for context in set(self.contexts)}
        return [known[context] for context in self.contexts]

    def texts(self) -> list[list[str]]:
        """The texts that answer each question. Raises DataError where the file has none."""
        if self.answers is None:
            raise DataError(f"{self.origin}: no answers: give a file with answers to every question")
        return [[text for text, _ in answers] for answers in self.answers]


def read_questions(
    path: Path | str,
    *,
    question: str = "question",
    context: str = "context",
    answers: str | None = "answers",
    id: str = "id",
    dialect: Dialect = AS_NAMED,
    most: int | None = None,
) -> Questions:
    """Read JSONL or Parquet rows, or a .json file in SQuAD's own form (compressed or not).

    Answers are a list of {text, start} (or answer_start), or as `datasets` has them {text: [...], answer_start: [...]}. Without a start the
    text must stand in the context once. Without an id an id is "<file name>:<row number>". With answers=None they are not
    looked at, and CSV and TSV are read too. `most`: so many rows are read, and no further.
    Raises ConfigError for a file that is not there, DataError (file:row) for what is missing or an answer that the context does not hold.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a JSONL, Parquet or SQuAD JSON file")
    if answers is None and kind_of(path) == "text":
        raise DataError(f"{path}: a line of text is no question: give a table with columns '{question}' and '{context}', or SQuAD JSON")
    if answers is not None:
        refuse_answers(path)
    if answers is not None and kind_of(path) not in ("jsonl", "parquet"):
        raise DataError(f"{path}: answers need JSONL, Parquet or SQuAD JSON: rows with '{question}', '{context}' and '{answers}'")
    nested = squad_articles(path)
    read = _nested(nested, path, answers is not None) if nested else _flat(path, question, context, answers, id, dialect)
    columns: list[list[Any]] = [list(column) for column in zip(*islice(read, most), strict=True)]
    if not columns:
        raise DataError(f"{path}: no rows: the file holds no question")
    ids, questions, contexts, found = columns
    return Questions(ids, questions, contexts, None if None in found else found, str(path))


def _flat(path: Path, question: str, context: str, answers: str | None, id: str, dialect: Dialect) -> Iterator[Row]:
    required = {question: "text_b", context: "text"} | ({} if answers is None else {answers: "label"}) | asked_id(id)
    for number, row in rows(path, columns=(*required, id), required=required, invalid_utf8="stop", tally=Counter(), dialect=dialect):
        assert row is not None, "invalid text stops"
        place = f"{path}:{number}"
        asked, text = text_of(row, question, place), text_of(row, context, place)
        if answers is not None and row[answers] is None:
            raise DataError(f"{place}: column '{answers}' is null: give a list, an empty one where the context has no answer")
        found = None if answers is None else _answers(row[answers], text, place)
        yield id_of(row.get(id), f"{path.name}:{number}", place), asked, text, found


def squad_articles(path: Path) -> list[Any] | None:
    """The articles of a file in SQuAD's form, None for any other."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    if name.suffix.lower() != ".json":
        return None
    with open_bytes(path) as stream:
        data = stream.read(LARGEST_LINE + 1)
    try:
        whole = json.loads(data.removeprefix(b"\xef\xbb\xbf")) if len(data) <= LARGEST_LINE else None
    except (ValueError, RecursionError):  # rows of JSON, or none: the reader of rows says what is wrong
        return None
    articles = whole.get("data") if isinstance(whole, dict) else None
    return articles if isinstance(articles, list) else None


def _nested(articles: list[Any], path: Path, with_answers: bool) -> Iterator[Row]:
    number = 0
    for article in articles:
        for paragraph in _list_in(article, "paragraphs", str(path)):
            for row in _list_in(paragraph, "qas", str(path)):
                number += 1
                place = f"{path}:{number}"
                if not isinstance(row, dict):
                    raise DataError(f"{place}: a question must be a JSON object, this one is {kind_name(row)}")
                whole = {**row, "context": paragraph.get("context")}
                refuse_missing({"question": ""}, row, place)
                without_surrogates(whole, ("question", "context", "answers", "id"), place, "stop", Counter())
                asked, text = text_of(whole, "question", place), text_of(whole, "context", place)
                if with_answers and whole.get("answers") is None:
                    raise DataError(f"{place}: a question without 'answers': give a list, an empty one where the context has no answer")
                found = _answers(whole["answers"], text, place) if with_answers else None
                yield id_of(whole.get("id"), f"{path.name}:{number}", place), asked, text, found


def _list_in(value: Any, key: str, place: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{place}: not SQuAD's form: 'data' is a list of articles with 'paragraphs', each a list with 'context' and 'qas'")
    return found


def _answers(value: Any, context: str, place: str) -> Answers:
    if isinstance(value, dict):  # as `datasets` has them
        texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
        if not isinstance(texts, list) or not isinstance(starts, list | None) or (starts is not None and len(starts) != len(texts)):
            raise DataError(f"{place}: answers are an object without two equal lists 'text' and 'answer_start'")
        value = [{"text": text, "start": start} for text, start in zip(texts, starts or [None] * len(texts), strict=True)]
    if not isinstance(value, list):
        raise DataError(f"{place}: answers are {kind_name(value)}: give a list of {{text, start}}, an empty one where there is no answer")
    return [_answer(each, context, place) for each in value]


def _answer(value: Any, context: str, place: str) -> tuple[str, int]:
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: an answer without text: give {{text, start}}, or an empty list where the context has no answer")
    start = value.get("start", value.get("answer_start"))
    if start is None:
        times = context.count(text)
        if times != 1:
            raise DataError(f"{place}: the answer {_short(text)} stands in the context {times} times: give its start")
        return text, context.index(text)
    if not isinstance(start, int) or isinstance(start, bool):
        raise DataError(f"{place}: the start of an answer is {kind_name(start)}: give the number of its first character, from 0")
    if start < 0 or context[start : start + len(text)] != text:
        there = context[start : start + len(text)] if start >= 0 else ""
        raise DataError(f"{place}: the answer {_short(text)} does not stand at character {start} of the context, {_short(there)} does")
    return text, start


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
