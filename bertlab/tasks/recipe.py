"""How a seed is fine-tuned: the options that verbs share, each told where it stands, and what cannot be had together.

A verb's Config extends Recipe, so that every option has one copy; what is below the verb is handed a Recipe alone. Imports nothing heavy:
a command line is read before torch is.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from bertlab.errors import ConfigError, install
from bertlab.schema import Settings

if TYPE_CHECKING:
    from bertlab.tasks.contract import Task

# Mosbach et al. 2021: below some 10,000 examples a longer training is the stabler one; of what is left Devlin et al. 2018 tried 2 to 4
# epochs, and google-research/bert trains its small models for 4.
SMALL, EPOCHS_OF_SMALL = 10_000, 20
NARROW, EPOCHS_OF_NARROW, EPOCHS = 512, 4, 3

# Widest model -> peak rate. google-research/bert's grid for small models ends at 3e-4; tiny, pretrained for minutes, measured better with
# more (docs/results.md).
LEARNING_RATES = {128: 1e-3, 512: 1e-4, 2**30: 2e-5}
LORA_RATE = 5e-4  # Hu et al. 2022, table 9: 4e-4 to 5e-4 for most tasks of GLUE


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """How a seed is trained. Raises ConfigError for a value that no training could have."""

    epochs: int | None = None
    """Passes over train (of several tasks: over all of theirs). Default: 20 below 10,000 examples, else 3, and 4 up to width 512."""
    early_stopping: int | None = None
    """Stop a seed after this many epochs without a better score on dev; the rate falls as if all epochs came. Default: never."""
    batch_size: int = 16
    """Examples a step, over all processes; of several tasks all of one."""
    learning_rate: float | None = None
    """Peak rate of AdamW; default 2e-5 for base and large (Devlin et al. 2018), 1e-4 up to width 512, 1e-3 for tiny."""
    weight_decay: float = 0.01
    """On matrices, not on LayerNorm and biases."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    layer_decay: float = 1.0
    """The rate of each layer as a share of that of the layer above it; the heads have the full rate. 0.95 is usual, 1 the same for all."""
    reinit_layers: int = 0
    """So many top layers, and the pooler, start at random as the head does: what they learnt in pretraining is of pretraining's task."""
    freeze: int = 0
    """The embeddings and so many of the lowest layers stay as they are; 0 trains all."""
    lora_rank: int | None = None
    """Learn additions of this rank to the matrices of the layers, and the head, alone (Hu et al. 2022); saved merged, as any model. Needs
    `pip install -c constraints.txt -e '.[lora]'`; the default of the rate is then 5e-4 (1e-3 for tiny)."""
    recompute: bool = False
    """Keep less of the forward pass and compute it again on the way back: a third more work, a fraction of the memory."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes; 0.1 is usual. Not for numbers or answers."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Against rare classes, of one label a text. weights: an example counts in inverse proportion to its class in train; sampling: an epoch
    visits as many examples as before, and each class as often."""
    micro_tokens: int = 8192
    """Most tokens in a micro-batch; lower it when memory runs out."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training: bf16 autocast where the hardware multiplies it, or as said. Scores are always made in fp32."""
    workers: int = 0
    """Processes that make batches ahead; batches are the same whatever their number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "early_stopping", "batch_size", "micro_tokens", "lora_rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")
        for name in ("workers", "weight_decay", "reinit_layers", "freeze"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: give 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing={self.label_smoothing}: give a number from 0 to below 1")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"layer_decay={self.layer_decay}: give a number above 0 and at most 1")
        if self.lora_rank and self.reinit_layers:
            raise ConfigError("reinit_layers and lora_rank: layers that start at random must be learnt whole: leave one of them out")
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"warmup={self.warmup} is a share: give a number between 0 and 1")
        if (self.learning_rate is not None and self.learning_rate <= 0) or self.clip <= 0:
            raise ConfigError("learning_rate and clip must be above 0")


def recipe_of(config: Recipe) -> Recipe:
    """The recipe alone of what extends it."""
    return Recipe(**{field.name: getattr(config, field.name) for field in fields(Recipe)})


def refuse_unlearnable(recipe: Recipe, layers: int) -> None:
    """Raise ConfigError where a model of so many layers cannot be trained so, or not without the library peft, which is not there."""
    for name in ("freeze", "reinit_layers"):
        if getattr(recipe, name) > layers:
            raise ConfigError(f"{name}={getattr(recipe, name)}: the model has {layers} layers: give {layers} or less")
    if recipe.freeze and recipe.freeze + recipe.reinit_layers > layers:
        raise ConfigError(f"freeze={recipe.freeze} and reinit_layers={recipe.reinit_layers} of {layers} layers: some would stay random")
    if recipe.lora_rank and importlib.util.find_spec("peft") is None:
        raise ConfigError(f"lora_rank needs the library peft: {install('lora')}, or leave lora_rank out")
    if recipe.lora_rank and recipe.freeze == layers:
        raise ConfigError(f"lora_rank={recipe.lora_rank} and freeze={recipe.freeze}: no layer is left to learn: leave one of them out")


def epochs_of(recipe: Recipe, examples: int, hidden_size: int) -> tuple[int, str]:
    """How many epochs a training on so many examples has, and why."""
    if recipe.epochs is not None:
        return recipe.epochs, "as asked"
    if examples < SMALL:
        return EPOCHS_OF_SMALL, f"{examples:,} examples are fewer than {SMALL:,}, and little data wants more passes"
    if hidden_size <= NARROW:
        return EPOCHS_OF_NARROW, f"usual for small models on {SMALL:,} examples or more"
    return EPOCHS, f"usual on {SMALL:,} examples or more"


def usual_rate(hidden_size: int) -> float:
    """The peak rate for a model of this width, all of which is learnt."""
    return next(rate for widest, rate in LEARNING_RATES.items() if hidden_size <= widest)


def rate_of(recipe: Recipe, hidden_size: int) -> tuple[float, str]:
    """The peak rate of a training, and why."""
    usual, at = usual_rate(hidden_size), f"usual at width {hidden_size:,}"
    if recipe.learning_rate is not None:
        return recipe.learning_rate, "as asked"
    return (max(usual, LORA_RATE), f"{at} for adapters") if recipe.lora_rank else (usual, at)


def has_stalled(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better score than those before them (None: never)."""
    return patience is not None and len(scores) - 1 - scores.index(max(scores)) >= patience


def fitted(recipe: Recipe, task: "Task") -> Recipe:
    """The recipe without what means nothing to the kind of task: how it is used for one of several tasks."""
    return replace(
        recipe,
        label_smoothing=recipe.label_smoothing if task.smooths else 0.0,
        balance=recipe.balance if task.exclusive else "none",
    )


def refuse_unfit(recipe: Recipe, task: "Task") -> None:
    """Raise ConfigError for an option that the kind of task has no use for."""
    if recipe.label_smoothing and not task.smooths:
        raise ConfigError(f"label_smoothing={recipe.label_smoothing}: the task is {task.name}, which knows no smoothing: leave it out")
    if recipe.balance != "none" and not task.exclusive:
        raise ConfigError(f"balance={recipe.balance}: the task is {task.name}, and classes are balanced where a text has one: leave it out")
