"""Model folders: written whole, opened as they are by transformers and sentence-transformers; published BERTs open here too.

    config.json  model.safetensors                 transformers' names and keys
    tokenizer.json  tokenizer_config.json
    modules.json  1_Pooling/config.json  sentence_bert_config.json     sentence-transformers' layout, old and new readers
    bertlab.json                                   what it was trained on, by hash; whether the pooler is trained; metrics
    README.md                                      the model card
    manifest.json                                  size and sha256 of all of these, and of the run that made them; written last

What is loaded from a folder of ours is first compared with its manifest, all but the model card, which is for people and theirs to edit
(about 1 GB/s: half a second for a BERT-base). A published folder has no manifest and is taken as it is. No pickle is read: a checkpoint
that has only pytorch_model.bin is refused with the way to convert it.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from bertlab.disk import MANIFEST, hash_files, refuse_full, whole_folder, write_sealed
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.encoder import Bert, EncoderConfig, parameter_shapes
from bertlab.model.facts import CARD, FACTS, WEIGHTS, load_config, weights_file
from bertlab.model.heads import (
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bertlab.model.pooling import Pooling, pooling_record
from bertlab.model.weights import FLOATING, Stored, read_header, read_tensors
from bertlab.tokens.tokenizer import Tokenizer

WithHead = BertForPreTraining | BertForSequenceClassification | BertForTokenClassification | BertForQuestionAnswering
Model = TypeVar("Model", Bert, BertForPreTraining, BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering)
MOST_CLASSES = 65_536  # as in a labelled file (bertlab/corpus/labelled.py)

HEADS = ("cls.", "classifier.", "qa_outputs.")  # how the names of a head's parameters begin

# What BERT checkpoints carry beside parameters: position_ids is a constant, decoder.* repeat the tied embedding and bias.
_REPEATED = ("bert.embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


def save_model(
    folder: Path,
    model: Bert | WithHead,
    tokenizer: Tokenizer,
    *,
    facts: dict[str, Any],
    card: str,
    labels: list[str] | None = None,
    problem_type: str | None = "single_label_classification",
    max_length: int | None = None,
    pooling: Pooling = "mean",
    normalize: bool = False,
    prompt: str = "",
    run: dict[str, str] | None = None,
) -> None:
    """Write a model folder. `facts` become bertlab.json, `card` README.md; `labels` name a classifier's classes in order, `problem_type` is
    transformers' word for its kind (of a number: "regression", one label), and `run` the sha256 of the files of the run that made it.

    `max_length` (default: every position) is where texts are truncated, `pooling` how sentence vectors are made, here and in
    sentence-transformers, `normalize` whether they have length 1, and `prompt` what every text is preceded by for them. Raises ConfigError
    if `folder` has content.
    """
    config: dict[str, Any] = {"architectures": [_architecture(model)], "model_type": "bert", "hidden_act": "gelu"} | asdict(model.config)
    config |= {"classifier_dropout": None, "tie_word_embeddings": True, "dtype": "float32"}
    if labels is not None:
        config |= {"id2label": {str(number): label for number, label in enumerate(labels)}}
        config |= {"label2id": {label: number for number, label in enumerate(labels)}}
    if labels is not None and isinstance(model, BertForSequenceClassification):
        config |= {"problem_type": problem_type}
    length = min(max_length or model.config.max_position_embeddings, model.config.max_position_embeddings)
    refuse_full(folder, sum(value.nbytes for value in model.state_dict().values()))
    with whole_folder(folder) as temporary:
        _write(temporary / "config.json", config)
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, temporary / WEIGHTS, {"format": "pt"}
        )
        tokenizer.save(temporary, length)
        _write(temporary / "modules.json", _modules(normalize))
        if prompt:
            settings = {"prompts": {"default": prompt}, "default_prompt_name": "default"}
            _write(temporary / "config_sentence_transformers.json", settings)
        _write(temporary / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
        (temporary / "1_Pooling").mkdir()
        _write(temporary / "1_Pooling" / "config.json", pooling_record(pooling, model.config.hidden_size))
        _write(temporary / FACTS, facts)
        (temporary / CARD).write_text(card, encoding="utf-8")
        write_sealed(temporary / MANIFEST, {"run": run or {}, "files": hash_files(temporary)})


def load_model(folder: str, kind: type[Model], *, new_labels: int | None = None, **settings: Any) -> tuple[Model, list[str]]:
    """Build `kind` as config.json says (`settings` override its fields) and fill it from model.safetensors.

    With `new_labels` the classifier is a fresh one of that many classes, whatever the folder holds (any number: a fresh head of answers).

    Returns the model, and the names of the parameters that the file does not have: those keep their random start (a new
    head, an untrained pooler). Raises ConfigError when an encoder parameter is absent or has another shape.
    """
    published = load_config(folder)
    assert settings.keys() <= {field.name for field in fields(EncoderConfig)}, f"not fields of the configuration: {settings}"
    config = EncoderConfig.from_published(published | settings, f"{folder}/config.json")
    classes = published.get("id2label")
    num_labels = new_labels or (len(classes) if isinstance(classes, dict) else 0) or 2
    weights = weights_file(Path(folder))
    header = read_header(weights)
    names = _published_names({name: name for name in header})  # ours -> the file's
    if new_labels is not None:
        names = {name: old for name, old in names.items() if not name.startswith(HEADS)}
    of_classes = issubclass(kind, BertForSequenceClassification | BertForTokenClassification)
    _refuse_unfit(config, num_labels if of_classes else None, {name: header[old] for name, old in names.items()}, folder)
    build: Any = kind  # a type variable of classes that are built in two ways
    model: Model = build(config, num_labels) if of_classes else build(config)
    if isinstance(model, Bert):
        names = {name.removeprefix("bert."): old for name, old in names.items() if name.startswith("bert.")}
    wanted = {name: names[name] for name in model.state_dict() if name in names}
    tensors = read_tensors(weights, wanted.values())
    return model, fill(model, {name: tensors[old] for name, old in wanted.items()}, folder)


def _refuse_unfit(config: EncoderConfig, num_labels: int | None, stored: dict[str, Stored], origin: str) -> None:
    """Hold what config.json asks for against what the file's header says, before either has any memory.

    Raises ConfigError unless the encoder's parameters are all there (a pooler may be absent), of the shapes wanted, floating-point, and
    alone; and a classifier has `num_labels` classes, where one is wanted.
    """
    shapes = {f"bert.{name}": shape for name, shape in parameter_shapes(config).items()}
    heads = {"classifier.weight": (num_labels, config.hidden_size)} if num_labels else {}
    if (num_labels or 0) > MOST_CLASSES:
        raise ConfigError(f"{origin}/config.json: {num_labels:,} classes in id2label, and at most {MOST_CLASSES:,} are read")
    for name, shape in (shapes | heads).items():
        if name in stored and stored[name].shape != shape:
            raise ConfigError(_other_shape(origin, name, stored[name].shape, shape))
    for name in stored:
        if name.startswith(("bert.", *HEADS)) and stored[name].dtype not in FLOATING:
            raise ConfigError(f"{origin}: {name} is of type {stored[name].dtype}, and weights are floating-point numbers: not a BERT")
    absent = [name for name in shapes if name not in stored and "pooler" not in name]
    if absent:
        raise ConfigError(f"{origin}/{WEIGHTS}: {len(absent)} encoder parameters are missing, the first {absent[0]}: not a whole BERT")
    beyond = [name for name in stored if name not in shapes and name.startswith(("bert.embeddings.", "bert.encoder."))]
    if beyond:
        what = f"{len(beyond)} encoder parameters that config.json has no place for, the first {min(beyond)!r:.200}"
        raise ConfigError(f"{origin}/{WEIGHTS} holds {what}: the two are not of one model")


def _other_shape(origin: str, name: str, found: Any, wanted: Any) -> str:
    return f"{origin}: {name} has shape {tuple(found)}, the model wants {tuple(wanted)}: vocabulary or configuration do not fit"


def refuse_misfit(tokenizer: Tokenizer, config: EncoderConfig, origin: str) -> None:
    """Raise ConfigError when a tokenizer can give ids that the embeddings do not have."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"{origin}: the tokenizer has {tokenizer.vocab_size} pieces, the model {config.vocab_size}: they are not of one training"
        )


def fill(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> list[str]:
    """Copy tensors into the parameters of the same name; returns the names that were not there.

    Raises ConfigError for another shape, CorruptError for NaN or infinity.
    """
    own = model.state_dict()
    for name, value in tensors.items():
        if name not in own:
            continue
        if own[name].shape != value.shape:
            raise ConfigError(_other_shape(origin, name, value.shape, own[name].shape))
        if not torch.isfinite(value.to(own[name].dtype)).all():  # a double may be too large for a single
            raise CorruptError(f"{origin}: {name} holds NaN or infinity: this model cannot be used")
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])
    return sorted(own.keys() - tensors.keys())


def _published_names(tensors: dict[str, str]) -> dict[str, str]:
    """One set of names: BertModel files have no `bert.` prefix, the oldest spell LayerNorm's parameters gamma and beta."""
    names = {name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias") for name in tensors}
    bare = not any(name.startswith("bert.") for name in tensors)
    renamed = {("bert." + new if bare and not new.startswith(HEADS) else new): tensors[old] for old, new in names.items()}
    return {name: value for name, value in renamed.items() if name not in _REPEATED}


def _architecture(model: Bert | WithHead) -> str:
    """transformers' name for the class of a model."""
    return "BertModel" if isinstance(model, Bert) else type(model).__name__


def _modules(normalize: bool) -> list[dict[str, Any]]:
    # the paths of sentence-transformers before 5.4: every reader knows them, the newest keeps them as aliases
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][: 3 if normalize else 2]
    return [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(parts)
    ]


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
