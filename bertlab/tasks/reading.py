"""How the labelled files of every kind of task are read: which columns, and what those that are there say of the kind.

Without torch, so that a wrong file is told before it is imported. There are three forms of rows: a text (or a pair) and what is said of it,
words with a tag each, questions with contexts and answers.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of
from bertlab.corpus.labelled import Labelled, label_column, read_labelled
from bertlab.corpus.labelled_tokens import LabelledTokens, read_labelled_tokens
from bertlab.corpus.questions import Questions, read_questions, squad_articles
from bertlab.corpus.tables import columns_of, refuse_missing, values_of
from bertlab.disk import list_at, text_at
from bertlab.errors import ColumnError, ConfigError
from bertlab.model.facts import load_config, load_facts, load_labels

Form = Literal["texts", "tokens", "answers"]
# where a form has what a row consists of, unless somebody says otherwise (of texts the label may be a score: label_column)
USUAL: dict[Form, dict[str, str]] = {
    "texts": {"text": "text", "text_b": "text_b", "label": "label"},
    "tokens": {"text": "tokens", "label": "tags"},
    "answers": {"text": "context", "text_b": "question", "label": "answers"},
}
OF_MODEL = "columns"  # where bertlab.json has those that a model was fine-tuned with


@dataclass(frozen=True)
class Columns:
    """Where in a labelled file the texts and labels stand (None: where the kind of task has them), what separates several labels in one
    cell, where the ids stand (without such a column an id is FILE:LINE), how the file is written, and the columns that are a label each."""

    text: str | None
    text_b: str | None
    label: str | None
    label_separator: str | None
    id: str = "id"
    dialect: Dialect = AS_NAMED
    label_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.label_columns and (self.label or self.label_separator):
            raise ConfigError("label_columns have the labels: leave label and label_separator out")
        names = [*self.label_columns, *filter(None, (self.text or "text", self.text_b))]
        if self.label_columns and (twice := next((name for name in names if names.count(name) > 1), None)):
            raise ConfigError(f"label_columns: column {twice!r} is named twice, or is that of the text")

    def named(self) -> dict[str, Any]:
        """What somebody named, by the option that names it: what a model folder remembers. How a file is written is the file's own."""
        values = {name: getattr(self, name) for name in ("text", "text_b", "label", "label_separator")}
        named = {name: value for name, value in values.items() if value is not None}
        return named | ({"label_columns": list(self.label_columns)} if self.label_columns else {})

    @property
    def are_of_sets(self) -> bool:
        """Whether somebody said how several labels of one text are written."""
        return self.label_separator is not None or bool(self.label_columns)

    def name(self, form: Form, role: str) -> str:
        """The column of a role, as it was named or where the form has it."""
        name: str = getattr(self, role) or USUAL[form][role]
        return name


def read_texts(
    path: str, columns: Columns, *, needs_gold: bool = True, sets: bool = False, scored: bool = False, most: int | None = None
) -> Labelled:
    """`sets`: a label may be a list of labels. `scored`: it is a number. `most`: so many rows are read, and no further."""
    column = label_column(path, columns.label, scored=scored, dialect=columns.dialect) if needs_gold and not columns.label_columns else None
    return read_labelled(
        path,
        text=columns.name("texts", "text"),
        text_b=columns.text_b,
        label=column,
        id=columns.id,
        needs_label=needs_gold,
        sets=sets,
        label_separator=columns.label_separator if sets else None,
        label_columns=columns.label_columns if needs_gold else (),
        dialect=columns.dialect,
        most=most,
    )


def unread_columns(path: str, columns: Columns) -> list[str]:
    """The columns of a file of texts that nothing is read from."""
    dialect = columns.dialect
    golden = columns.label_columns or (label_column(path, columns.label, dialect=dialect),)
    read = {columns.name("texts", "text"), columns.name("texts", "text_b"), columns.id, *golden}
    return [name for name in columns_of(Path(path), dialect) if name not in read]


def read_tokens(path: str, columns: Columns, *, needs_gold: bool = True, most: int | None = None) -> LabelledTokens:
    tags = columns.name("tokens", "label") if needs_gold else None
    return read_labelled_tokens(path, tokens=columns.name("tokens", "text"), tags=tags, id=columns.id, dialect=columns.dialect, most=most)


def read_answers(path: str, columns: Columns, *, needs_gold: bool = True, most: int | None = None) -> Questions:
    answers = columns.name("answers", "label") if needs_gold else None
    question, context = columns.name("answers", "text_b"), columns.name("answers", "text")
    named: dict[str, Any] = {"question": question, "context": context, "answers": answers, "id": columns.id}
    return read_questions(path, **named, dialect=columns.dialect, most=most)


def form_of(train: str, columns: Columns) -> tuple[Form, str]:
    """The form that the columns of a file are of, and why. Raises ConfigError for a file that is not there."""
    path = Path(train)
    if not path.is_file():
        raise ConfigError(f"{train} {'is a folder' if path.is_dir() else 'does not exist'}: give a labelled file")
    kind = kind_of(path)
    there = set(columns_of(path, columns.dialect)) if kind in ("jsonl", "parquet") else set()  # no cell of the others holds a list

    def has(form: Form, role: str, kinds: tuple[type, ...]) -> bool:
        """Whether the form's columns are there, and that of `role`, where somebody named it, begins with one of these kinds of value."""
        if not {columns.name(form, each) for each in USUAL[form]} <= there:
            return False
        name = columns.name(form, role)
        if getattr(columns, role) is None:
            return True
        return any(isinstance(value, kinds) for value in values_of(path, {name: role}, columns.dialect, most=1)[name])

    if kind == "text" or has("tokens", "text", (list,)):
        return "tokens", "a word and its tag a line" if kind == "text" else "rows have tokens and tags"
    if has("answers", "label", (list, dict)) or squad_articles(path):
        return "answers", "rows have questions, contexts and answers"
    return "texts", "rows have texts"


def form_of_model(folder: str) -> Form:
    """The form of what a fine-tuned model folder, ours or a published one, reads. Raises ConfigError for one that is not fine-tuned."""
    head = (load_config(folder).get("architectures") or [""])[0]
    if head == "BertForQuestionAnswering":
        return "answers"
    load_labels(folder)
    return "tokens" if head == "BertForTokenClassification" else "texts"


def columns_for(folder: str, file: str, asked: Columns, *, needs_gold: bool = True) -> Columns:
    """Where a file has what a fine-tuned model reads: where somebody says, else under the names that the model was fine-tuned with, else
    where its form has it.

    Raises ColumnError for a table that has a column under neither name, ConfigError for a model that is not fine-tuned.
    """
    form, remembered = form_of_model(folder), load_facts(folder)
    there = columns_of(Path(file), asked.dialect) if Path(file).is_file() else []
    found: dict[str, Any] = {"label_separator": asked.label_separator or text_at(remembered, OF_MODEL, "label_separator")}
    marks = list_at(remembered, OF_MODEL, "label_columns")
    if needs_gold and asked.label is None and not asked.are_of_sets and set(marks) & set(there):
        refuse_missing(dict.fromkeys(marks, "label_columns"), there, file)
        found["label_columns"] = tuple(marks)
    of_columns = bool(asked.label_columns) or "label_columns" in found
    if of_columns:
        del found["label_separator"]
    for role, usual in USUAL[form].items():
        name = text_at(remembered, OF_MODEL, role)
        if name is None or getattr(asked, role) is not None or (role == "label" and (of_columns or not needs_gold)):
            continue
        if role == "label" and form == "texts":
            usual = label_column(file, None, dialect=asked.dialect)
        if name in there or usual not in there:
            found[role] = name
        if there and name not in there and usual not in there:
            _refuse(name, usual, role, there, file)
    return replace(asked, **found)


def _refuse(name: str, usual: str, role: str, there: list[str], file: str) -> None:
    try:
        refuse_missing({name: role}, there, file)
    except ColumnError as error:
        known = str(error) if name == usual else f"{error} (looked for '{name}', as the model was fine-tuned, and '{usual}')"
        again = ColumnError(known)
        again.column, again.role = name, role
        raise again from None
