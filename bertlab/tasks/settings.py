"""What the verbs that fine-tune many times (tune, crossval) are told alike, beside the recipe: the file, its columns, the start, texts.

A verb's Config is made on top of Learning, so that every option is documented, has its default and is checked in one place; what
`bertlab finetune` calls the same means the same. Knows nothing of trials or folds. Imports nothing heavy, as recipe.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError
from bertlab.tasks.recipe import Recipe

if TYPE_CHECKING:
    from bertlab.tasks.contract import Columns


@dataclass(frozen=True, kw_only=True)
class Learning(Recipe):
    model: str
    """The model folder to start from (RUN/model of a pretraining run, a published BERT, or hf:NAME)."""
    train: str
    """Labelled file: CSV, TSV, JSONL or Parquet with a text and a label column, and text_b for pairs."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    text: str | None = None
    """Column of the text: by default text; for tokens tokens, for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: text_b is used without asking; for answers question."""
    label: str | None = None
    """Column of the label, the list of labels or the number: by default label; for tokens tags, for answers answers."""
    label_separator: str | None = None
    """What stands between several labels in one cell, as | in a|b."""
    task: Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"] = "auto"
    """What is to be learnt; auto: what the labels look like, as in finetune."""
    dev_share: float = 0.1
    """Share of the texts to learn from that becomes dev, by a hash of the texts."""
    from_random: bool = False
    """Start from random weights of the same size."""
    seed: int = 0
    """The first seed: of order, head and dropout."""
    dropout: float = 0.1
    """On hidden states and before the classifier."""
    attention_dropout: float = 0.0
    """On attention weights."""
    max_length: int | None = None
    """Most tokens of an example: by default 128, for answers 384."""
    long: Literal["head", "tail", "head+tail", "windows"] | None = None
    """What is kept of a longer text, as in finetune."""
    baselines: bool = True
    """Also score what needs no BERT: the majority class (or set, or the mean), and TF-IDF with a linear model."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1:
            raise ConfigError(f"dev_share={self.dev_share} is a share: give a number between 0 and 1")
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        if self.label_separator == "":
            raise ConfigError("label_separator is empty: give what stands between labels, such as |")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give 0 or more, and less than 2,147,483,648")

    @property
    def columns(self) -> "Columns":
        from bertlab.tasks.contract import Columns

        return Columns(self.text, self.text_b, self.label, self.label_separator)

    @property
    def start(self) -> dict[str, Any]:
        """What seeds.start_model is told beside the folder and the seed."""
        return {"dropout": self.dropout, "attention_dropout": self.attention_dropout, "from_random": self.from_random}
