"""What the verbs that fine-tune many times (tune, crossval) are told alike: the file, its columns, and how a model is trained.

A verb's Config is made on top of Learning, so that every option is documented, has its default and is checked in one place; what
`bertlab finetune` calls the same means the same. Knows nothing of trials or folds.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError

if TYPE_CHECKING:
    from bertlab.tasks.contract import Columns
    from bertlab.tasks.seeds import Recipe

TaskName = Literal["auto", "single-label", "multi-label", "regression", "tokens", "answers"]
FROM_ONE, SHARES_BELOW_ONE, FROM_NOUGHT = (
    ("seeds", "micro_tokens"),
    ("dropout", "attention_dropout", "label_smoothing"),
    ("workers", "weight_decay", "seed"),
)


@dataclass(frozen=True, kw_only=True)
class Learning:
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
    task: TaskName = "auto"
    """What is to be learnt; auto: what the labels look like, as in finetune."""
    dev_share: float = 0.1
    """Share of the texts to learn from that becomes dev, by a hash of the texts."""
    from_random: bool = False
    """Start from random weights of the same size."""
    seed: int = 0
    """The first seed: of order, head and dropout."""
    weight_decay: float = 0.01
    """On matrices, not on LayerNorm and biases."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    dropout: float = 0.1
    """On hidden states and before the classifier."""
    attention_dropout: float = 0.0
    """On attention weights."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes. Not for numbers and answers."""
    max_length: int | None = None
    """Most tokens of an example: by default 128, for answers 384."""
    long: Literal["head", "tail", "head+tail", "windows"] | None = None
    """What is kept of a longer text, as in finetune."""
    micro_tokens: int = 8192
    """Most tokens in a micro-batch; lower it when memory runs out."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training: bf16 autocast where the hardware multiplies it, or as said. Scores are always made in fp32."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    workers: int = 0
    """Processes that make batches ahead; batches are the same whatever their number."""

    def __post_init__(self) -> None:
        for name in FROM_ONE:
            if getattr(self, name, 1) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        for name in SHARES_BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        for name in FROM_NOUGHT:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: give 0 or more")
        if not 0 < self.dev_share < 1 or not 0 <= self.warmup <= 1:
            raise ConfigError(f"dev_share={self.dev_share} and warmup={self.warmup} are shares: give numbers between 0 and 1")
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        if self.label_separator == "":
            raise ConfigError("label_separator is empty: give what stands between labels, such as |")
        if self.clip <= 0 or self.seed >= 2**31:
            raise ConfigError(f"clip={self.clip} must be above 0 and seed={self.seed} below 2,147,483,648")

    @property
    def columns(self) -> "Columns":
        from bertlab.tasks.contract import Columns

        return Columns(self.text, self.text_b, self.label, self.label_separator)

    @property
    def start(self) -> dict[str, Any]:
        """What seeds.start_model is told beside the folder and the seed."""
        return {"dropout": self.dropout, "attention_dropout": self.attention_dropout, "from_random": self.from_random}

    def recipe(self, *, epochs: int, batch_size: int, learning_rate: float | None) -> "Recipe":
        """How a seed is trained, with what a trial or a fold is given."""
        from bertlab.tasks.seeds import Recipe

        given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        return Recipe(**{field.name: given[field.name] if field.name in given else getattr(self, field.name) for field in fields(Recipe)})
