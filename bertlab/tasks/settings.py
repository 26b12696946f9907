"""What the verbs that fine-tune are told alike, beside the recipe: the model to start from, and of one task its files and columns.

A verb's Config is made on top of one of these, so that every option is documented, has its default and is checked in one place, and means
the same in every verb. Knows nothing of trials, folds or several tasks. Imports nothing heavy, as recipe.py.
"""

from dataclasses import dataclass
from typing import Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError
from bertlab.tasks.reading import Columns
from bertlab.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FineTuning(Recipe):
    """Any fine-tuning: what it starts from and where it is kept."""

    model: str
    """The model folder to start from (RUN/model of a pretraining or fine-tuning run, a published BERT, or hf:NAME)."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    dev_share: float = 0.1
    """Share of train that becomes dev where there is no dev file, by a hash of the texts."""
    from_random: bool = False
    """Start from random weights of the same size: what pretraining was worth."""
    seed: int = 0
    """The first seed: of order, head and dropout."""
    dropout: float = 0.1
    """On hidden states and before the head."""
    attention_dropout: float = 0.0
    """On attention weights."""
    baselines: bool = True
    """Also score what needs no BERT: the majority class (or set, or the mean), and TF-IDF with a linear model, whose answers are kept and
    compared with the model's."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    processes: int | None = None
    """Train in this many processes; started by bertlab itself, or refused when a launcher started another number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1:
            raise ConfigError(f"dev_share={self.dev_share} is a share: give a number between 0 and 1")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give 0 or more, and less than 2,147,483,648")


@dataclass(frozen=True, kw_only=True)
class OneTask(FineTuning, Dialect):
    """A fine-tuning on one labelled file."""

    train: str
    """Labelled file to train on: CSV, TSV, JSONL or Parquet with a text and a label column, and text_b for pairs."""
    text: str | None = None
    """Column of the text: by default text; for tokens tokens, for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: text_b is used without asking; for answers question."""
    label: str | None = None
    """Column of the label, the list of labels or the number: by default label, or score in a file without it; for tokens tags, for
    answers answers."""
    label_separator: str | None = None
    """What stands between several labels in one cell, as | in a|b; a JSONL file may have lists instead."""
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1 that are a label each, instead of a column of labels: for several labels a text."""
    task: Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"] = "auto"
    """What is to be learnt. auto: by columns (tokens and tags; question, context and answers), else sets of labels where labels are lists,
    numbers where all are and not all are whole, else one label."""
    max_length: int | None = None
    """Most tokens of an example: by default 128, for answers 384. What is longer is truncated, for tokens and answers read in windows, and
    counted."""
    long: Literal["head", "tail", "head+tail", "windows"] | None = None
    """What is kept of a longer text: by default its head; of head+tail the head is a quarter; windows: all, in overlapping windows whose
    logits are averaged. Entities and answers are always looked for in windows (entities in the head, if so asked)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        if self.label_separator == "":
            raise ConfigError("label_separator is empty: give what stands between labels, such as |")

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.text_b, self.label, self.label_separator, dialect=self.dialect, label_columns=self.label_columns)


@dataclass(frozen=True, kw_only=True)
class Splits(OneTask):
    """A fine-tuning that chooses by a dev split, and scores a test file in the end."""

    dev: str | None = None
    """Labelled file to choose by; without one a share of train is cut off by a hash of the texts."""
    test: str | None = None
    """Labelled file to score at the end; nothing is chosen by it."""

    @property
    def files(self) -> dict[str, str]:
        """The labelled files by split, those that were given."""
        return {split: file for split in ("train", "dev", "test") if (file := getattr(self, split)) is not None}
