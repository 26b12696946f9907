"""Model folders: written whole, opened as they are by transformers and sentence-transformers; published BERTs open here too.

    config.json  model.safetensors                 transformers' names and keys
    tokenizer.json  tokenizer_config.json
    modules.json  1_Pooling/config.json  sentence_bert_config.json     sentence-transformers' layout, old and new readers
    bertlab.json                                   what it was trained on, by hash; whether the pooler is trained; metrics
    README.md                                      the model card
    manifest.json                                  size and sha256 of all of these, and of the run that made them; written last

No pickle is read: a checkpoint that has only pytorch_model.bin is refused with the way to convert it.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bertlab.disk import MANIFEST, hash_files, read_json, sha256_file, whole_folder, write_sealed
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.heads import (
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bertlab.tokens.tokenizer import Tokenizer

WithHead = BertForPreTraining | BertForSequenceClassification | BertForTokenClassification | BertForQuestionAnswering
Model = TypeVar("Model", Bert, BertForPreTraining, BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering)
WEIGHTS = "model.safetensors"
# What sentence vectors and predictions depend on, in folders of ours and published ones.
COMPUTES = ("config.json", WEIGHTS, "tokenizer.json", "vocab.txt", "sentence_bert_config.json", "1_Pooling/config.json")

HEADS = ("cls.", "classifier.", "qa_outputs.")  # how the names of a head's parameters begin

# What BERT checkpoints carry beside parameters: position_ids is a constant, decoder.* repeat the tied embedding and bias.
_REPEATED = ("bert.embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


def save_model(
    folder: Path,
    model: WithHead,
    tokenizer: Tokenizer,
    *,
    facts: dict[str, Any],
    card: str,
    labels: list[str] | None = None,
    problem_type: str | None = "single_label_classification",
    max_length: int | None = None,
    pooling: str = "mean",
    run: dict[str, str] | None = None,
) -> None:
    """Write a model folder. `facts` become bertlab.json, `card` README.md; `labels` name a classifier's classes in order, `problem_type` is
    transformers' word for its kind (of a number: "regression", one label), and `run` the sha256 of the files of the run that made it.

    `max_length` (default: every position) is where texts are truncated, and `pooling` (cls, mean or max) how sentence vectors are
    made, here and in sentence-transformers. Raises ConfigError if `folder` has content.
    """
    config: dict[str, Any] = {"architectures": [type(model).__name__], "model_type": "bert", "hidden_act": "gelu"} | asdict(model.config)
    config |= {"classifier_dropout": None, "tie_word_embeddings": True, "dtype": "float32"}
    if labels is not None:
        config |= {"id2label": {str(number): label for number, label in enumerate(labels)}}
        config |= {"label2id": {label: number for number, label in enumerate(labels)}}
    if labels is not None and isinstance(model, BertForSequenceClassification):
        config |= {"problem_type": problem_type}
    length = min(max_length or model.config.max_position_embeddings, model.config.max_position_embeddings)
    with whole_folder(folder) as temporary:
        _write(temporary / "config.json", config)
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, temporary / WEIGHTS, {"format": "pt"}
        )
        tokenizer.save(temporary, length)
        _write(temporary / "modules.json", _modules())
        _write(temporary / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
        (temporary / "1_Pooling").mkdir()
        _write(temporary / "1_Pooling" / "config.json", _pooling(pooling, model.config.hidden_size))
        _write(temporary / "bertlab.json", facts)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_sealed(temporary / MANIFEST, {"run": run or {}, "files": hash_files(temporary)})


def load_config(folder: str) -> dict[str, Any]:
    """The values of a model folder's config.json. Raises ConfigError when it is none."""
    path = Path(folder)
    if not (path / "config.json").is_file():
        hint = " (did you mean the folder `model` inside it?)" if (path / "model" / "config.json").is_file() else ""
        hint = hint if path.exists() else f" (it does not exist; a name on the hub is written hf:{path.name})"
        raise ConfigError(f"{folder}: no config.json there: is it a model folder?{hint}")
    values = read_json(path / "config.json")
    if not isinstance(values, dict):
        raise CorruptError(f"{path / 'config.json'}: not a JSON object")
    return values


def load_facts(folder: str) -> dict[str, Any]:
    """bertlab.json of a folder of ours; {} for a published checkpoint."""
    path = Path(folder) / "bertlab.json"
    return read_json(path) if path.is_file() else {}


def load_labels(folder: str) -> list[str]:
    """The class names of a fine-tuned folder, in order. Raises ConfigError when it has no classifier."""
    values = load_config(folder)
    if not {"BertForSequenceClassification", "BertForTokenClassification"} & set(values.get("architectures") or ()):
        raise ConfigError(f"{folder}: has no classifier: fine-tune it first (bertlab finetune --model {folder} ...)")
    names = values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers leaves unwritten
    try:
        return [names[str(number)] for number in range(len(names))]
    except (KeyError, TypeError):
        raise CorruptError(f"{folder}/config.json: id2label is not numbered 0 to {len(names) - 1}") from None


def load_model(folder: str, kind: type[Model], *, new_labels: int | None = None, **settings: Any) -> tuple[Model, list[str]]:
    """Build `kind` as config.json says (`settings` override its fields) and fill it from model.safetensors.

    With `new_labels` the classifier is a fresh one of that many classes, whatever the folder holds (any number: a fresh head of answers).

    Returns the model, and the names of the parameters that the file does not have: those keep their random start (a new
    head, an untrained pooler). Raises ConfigError when an encoder parameter is absent or has another shape.
    """
    published = load_config(folder)
    assert settings.keys() <= {field.name for field in fields(EncoderConfig)}, f"not fields of the configuration: {settings}"
    config = EncoderConfig.from_published(published | settings, f"{folder}/config.json")
    num_labels = new_labels or len(published.get("id2label") or ()) or 2
    build: Any = kind  # a type variable of classes that are built in two ways
    of_classes = issubclass(kind, BertForSequenceClassification | BertForTokenClassification)
    model: Model = build(config, num_labels) if of_classes else build(config)
    tensors = _published_names(_read_weights(Path(folder)))
    if new_labels is not None:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(HEADS)}
    if isinstance(model, Bert):
        tensors = {name.removeprefix("bert."): value for name, value in tensors.items() if name.startswith("bert.")}
    absent = fill(model, tensors, folder)
    essential = [name for name in absent if "pooler" not in name and not name.startswith(HEADS)]
    if essential:
        raise ConfigError(
            f"{folder}/{WEIGHTS}: {len(essential)} encoder parameters are missing, the first {essential[0]}: not a whole BERT"
        )
    return model, absent


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
            raise ConfigError(
                f"{origin}: {name} has shape {tuple(value.shape)}, the model wants {tuple(own[name].shape)}: "
                "vocabulary or configuration do not fit"
            )
        if not torch.isfinite(value).all():
            raise CorruptError(f"{origin}: {name} holds NaN or infinity: this model cannot be used")
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])
    return sorted(own.keys() - tensors.keys())


def weights_sha256(source: str | None) -> str | None:
    """The sha256 of a model folder's weights: what a run that starts from them remembers."""
    return None if source is None else sha256_file(Path(fetch(source)) / WEIGHTS)


def model_origin(source: str) -> dict[str, Any]:
    """The place of a model as it was given, and the sha256 of every file that what it computes depends on: what an output remembers."""
    folder = Path(fetch(source))
    return {"path": source, "files": {name: sha256_file(folder / name) for name in COMPUTES if (folder / name).is_file()}}


def fetch(source: str) -> str:
    """A local folder as it is; `hf:name` downloaded from the hub (weights in safetensors and JSON only) and its folder returned."""
    if not source.startswith("hf:"):
        return source
    from huggingface_hub import snapshot_download

    return snapshot_download(source.removeprefix("hf:"), allow_patterns=["*.json", "*.safetensors", "vocab.txt"])


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (
            " (pytorch_model.bin is pickle, which can run code: convert it with transformers' save_pretrained)"
            if list(folder.glob("*.bin"))
            else ""
        )
        raise ConfigError(f"{folder}: no {WEIGHTS} there{pickled}")
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path}: not a safetensors file ({error}): copy the folder again") from None


def _published_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One set of names: BertModel files have no `bert.` prefix, the oldest spell LayerNorm's parameters gamma and beta."""
    names = {name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias") for name in tensors}
    bare = not any(name.startswith("bert.") for name in tensors)
    renamed = {("bert." + new if bare and not new.startswith(HEADS) else new): tensors[old] for old, new in names.items()}
    return {name: value for name, value in renamed.items() if name not in _REPEATED}


def _modules() -> list[dict[str, Any]]:
    # the paths of sentence-transformers before 5.4: every reader knows them, the newest keeps them as aliases
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    return [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(parts)
    ]


def _pooling(mode: str, hidden_size: int) -> dict[str, Any]:
    flags = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
    return {"word_embedding_dimension": hidden_size, "pooling_mode": mode} | {flag: name == mode for name, flag in flags.items()}


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
