"""Where every fine-tuning starts: the model folder opened and held against the settings, then the data, then the inputs remembered.

Nothing is trained or written before all of it has been looked at, so that a mistake costs seconds and leaves nothing behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertlab.disk import sha256_file
from bertlab.errors import ConfigError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.facts import fetch, load_config, text_read, weights_sha256
from bertlab.model.folder import load_model, refuse_misfit
from bertlab.tasks.contract import Head, Task
from bertlab.tasks.data import Data, read_task
from bertlab.tasks.recipe import refuse_unfit, refuse_unlearnable
from bertlab.tasks.settings import FineTuning, Splits
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Start:
    """What is started from: the model as it was called, its folder, what that folder says, and how a model is made of it."""

    name: str
    folder: str
    published: dict[str, Any]
    encoder: EncoderConfig
    tokenizer: Tokenizer
    from_random: bool
    dropout: float
    attention_dropout: float

    @property
    def origin(self) -> str:
        """What a model card says it started from."""
        return "random weights" if self.from_random else self.name

    @property
    def text_read(self) -> list[dict[str, str]]:
        """What text the weights were pretrained on, as far as the folder says."""
        return [] if self.from_random else text_read(self.folder)

    def model(self, task: Task, num_labels: int, seed: int) -> tuple[Head, list[str]]:
        """The encoder, or random weights of its size, with a fresh head drawn from `seed`; and the names of what the folder has not."""
        dropouts: dict[str, Any] = {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.attention_dropout}
        torch.manual_seed(seed)
        if self.from_random:
            return task.head(EncoderConfig.from_published(self.published | dropouts, f"{self.folder}/config.json"), num_labels), []
        return load_model(self.folder, task.head, new_labels=num_labels, **dropouts)

    def refuse_pairs(self, data: Data) -> None:
        """Raise ConfigError for pairs of texts where the model knows one segment."""
        if data.encoded["train"].are_pairs and self.encoder.type_vocab_size < 2:
            raise ConfigError(f"{self.folder} knows one segment, and pairs need two: start from another model")

    def inputs(self, files: Mapping[str, str]) -> dict[str, str | None]:
        """What a run depends on, for runlog.remember_inputs: the sha256 of labelled files, by what they are, and of the weights."""
        return {f"{what} file": sha256_file(Path(file)) for what, file in files.items()} | {"model": weights_sha256(self.folder)}


def open_start(config: FineTuning) -> Start:
    """The start of a run. Raises ConfigError and CorruptError for a folder that cannot be one, ConfigError for a recipe that its layers
    cannot have."""
    folder = fetch(config.model)
    published = load_config(folder)
    encoder = EncoderConfig.from_published(published, f"{folder}/config.json")
    tokenizer = tokenizers.load(folder)
    refuse_misfit(tokenizer, encoder, folder)
    refuse_unlearnable(config, encoder.num_hidden_layers)
    return Start(config.model, folder, published, encoder, tokenizer, config.from_random, config.dropout, config.attention_dropout)


def read_splits(config: Splits, start: Start) -> tuple[Data, str]:
    """The data of a run on one task, and why it is of its kind.

    Raises ConfigError for settings that the task has no use for, DataError for columns, labels and pairs that do not agree.
    """
    sizes: dict[str, Any] = {"dev_share": config.dev_share, "max_length": config.max_length, "long": config.long}
    positions = start.encoder.max_position_embeddings
    data, reason = read_task(config.task, config.files, config.columns, start.tokenizer, positions=positions, **sizes)
    refuse_unfit(config, data.task)
    start.refuse_pairs(data)
    return data, reason
