"""How the labelled files of every kind of task are read: which columns, and what those that are there say of the kind.

Without torch, so that a wrong file is told before it is imported. There are three forms of rows: a text (or a pair) and what is said of it,
words with a tag each, questions with contexts and answers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of
from bertlab.corpus.labelled import Labelled, label_column, read_labelled
from bertlab.corpus.labelled_tokens import LabelledTokens, read_labelled_tokens
from bertlab.corpus.questions import Questions, read_questions, squad_articles
from bertlab.corpus.tables import first_columns
from bertlab.errors import ConfigError
from bertlab.model.facts import load_config, load_labels

Form = Literal["texts", "tokens", "answers"]


@dataclass(frozen=True)
class Columns:
    """Where in a labelled file the texts and labels stand (None: where the kind of task has them), what separates several labels in one
    cell, where the ids stand (without such a column an id is FILE:LINE), and how the file is written."""

    text: str | None
    text_b: str | None
    label: str | None
    label_separator: str | None
    id: str = "id"
    dialect: Dialect = AS_NAMED


def read_texts(
    path: str, columns: Columns, *, needs_gold: bool = True, sets: bool = False, scored: bool = False, most: int | None = None
) -> Labelled:
    """`sets`: a label may be a list of labels. `scored`: it is a number. `most`: so many rows are read, and no further."""
    return read_labelled(
        path,
        text=columns.text or "text",
        text_b=columns.text_b,
        label=label_column(path, columns.label, scored=scored, dialect=columns.dialect) if needs_gold else None,
        id=columns.id,
        sets=sets,
        label_separator=columns.label_separator if sets else None,
        dialect=columns.dialect,
        most=most,
    )


def read_tokens(path: str, columns: Columns, *, needs_gold: bool = True, most: int | None = None) -> LabelledTokens:
    tags = (columns.label or "tags") if needs_gold else None
    return read_labelled_tokens(path, tokens=columns.text or "tokens", tags=tags, id=columns.id, dialect=columns.dialect, most=most)


def read_answers(path: str, columns: Columns, *, needs_gold: bool = True, most: int | None = None) -> Questions:
    answers = (columns.label or "answers") if needs_gold else None
    question, context = columns.text_b or "question", columns.text or "context"
    named: dict[str, Any] = {"question": question, "context": context, "answers": answers, "id": columns.id}
    return read_questions(path, **named, dialect=columns.dialect, most=most)


def form_of(train: str, columns: Columns) -> tuple[Form, str]:
    """The form that the columns of a file are of, and why. Raises ConfigError for a file that is not there."""
    path = Path(train)
    if not path.is_file():
        raise ConfigError(f"{train} {'is a folder' if path.is_dir() else 'does not exist'}: give a labelled file")
    kind, there = kind_of(path), first_columns(path)
    if kind == "text" or {columns.text or "tokens", columns.label or "tags"} <= there:
        return "tokens", "a word and its tag a line" if kind == "text" else "rows have tokens and tags"
    if there >= {columns.text_b or "question", columns.text or "context", columns.label or "answers"} or squad_articles(path):
        return "answers", "rows have questions, contexts and answers"
    return "texts", "rows have texts"


def form_of_model(folder: str) -> Form:
    """The form of what a fine-tuned model folder, ours or a published one, reads. Raises ConfigError for one that is not fine-tuned."""
    head = (load_config(folder).get("architectures") or [""])[0]
    if head == "BertForQuestionAnswering":
        return "answers"
    load_labels(folder)
    return "tokens" if head == "BertForTokenClassification" else "texts"
