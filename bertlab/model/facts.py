"""What a model folder says of itself: its configuration, its classes, what it was made from, the hashes of its files.

Read without torch, whose import takes seconds: a folder that is none is refused before. What is said is compared with the folder's manifest
first, where it has one; the weights are looked at when they are read (bertlab/model/folder.py).
"""

import shlex
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from bertlab.disk import MANIFEST, SEAL, bound_entries, list_at, read_json, read_object, read_sealed, sha256_file, text_at, verify_files
from bertlab.errors import ConfigError, CorruptError
from bertlab.hub import REMOTE, downloaded, meant

Pooling = Literal["cls", "mean", "max", "weighted", "mean_sqrt_len", "last"]  # what each is: bertlab/model/pooling.py
WEIGHTS, FACTS, CARD = "model.safetensors", "bertlab.json", "README.md"
# What sentence vectors and predictions depend on, in folders of ours and published ones.
NOT_REMEMBERED_BEFORE = ("tokenizer_config.json", "config_sentence_transformers.json")  # a length, a prompt: by outputs until 2026-11-26
COMPUTES = (
    *("config.json", WEIGHTS, "tokenizer.json", "vocab.txt", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"),
    *NOT_REMEMBERED_BEFORE,
)


def layer_numbers(layers: Iterable[int], last: int) -> list[int]:
    """Layers as numbers from 0 (the embeddings) to `last`; -1 is the last. Raises ConfigError for one that is not there."""
    layers = list(layers)
    for layer in layers:
        if not -last - 1 <= layer <= last:
            raise ConfigError(f"layer {layer}: this model has 0 (its embeddings) to {last}, or -1 for the last")
    return sorted({layer % (last + 1) for layer in layers})


def load_config(folder: str) -> dict[str, Any]:
    """The values of a model folder's config.json. Raises ConfigError when it is none, CorruptError when a file of ours is another (the
    weights are looked at when they are read)."""
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ConfigError(no_model(folder))
    verify_files(path, {name: entry for name, entry in _bound(path).items() if name not in (WEIGHTS, CARD)})
    return read_object(path / "config.json")


def no_model(folder: str) -> str:
    """What a path without config.json is instead of a model folder, and what to do."""
    path, none = Path(folder), f"{folder}: no config.json there: is it a model folder?"
    if (path / "model" / "config.json").is_file():
        return f"{none} (did you mean the folder `model` inside it?)"
    for run in (path, path.parent) if path.name == "model" else (path,):
        if (run / "config.yaml").is_file() and not (run / "metrics.json").is_file():
            return f"{run} is a run that is not finished: the command that began it goes on with it, and a model is there at its end"
    if (path / "train").is_dir() and (path / "tokenizer").is_dir():
        first = f"bertlab pretrain --corpus {shlex.quote(folder)} --out RUN"
        return f"{folder} is a corpus, no model: pretrain first ({first}), then give RUN/model"
    if path.exists():
        return none
    name = "" if path.is_absolute() or path.parent.is_dir() and "/" in folder else meant(folder)
    or_remote = f", or write {name} for a model on the hub" if name else ""
    return f"{nothing_at(folder)}: correct the path{or_remote}"


def nothing_at(path: str) -> str:
    """That a path leads nowhere, and from where it was followed."""
    return f"{path}: no such file or folder" + ("" if Path(path).is_absolute() else f" in {Path.cwd()}")


def load_facts(folder: str) -> dict[str, Any]:
    """bertlab.json of a folder of ours; {} for a published checkpoint."""
    path = Path(folder) / FACTS
    return read_object(path) if path.is_file() else {}


def text_read(folder: str) -> list[dict[str, str]]:
    """The sources of text that the weights of a folder of ours were trained on, by name and licence ("" where not stated), the earliest
    first; [] where nothing is known of it."""
    facts = load_facts(folder)
    sources = [*list_at(facts, "text_read"), *list_at(facts, "corpus", "sources")]
    return [{"name": name, "licence": text_at(source, "licence") or ""} for source in sources if (name := text_at(source, "name"))]


def load_labels(folder: str) -> list[str]:
    """The class names of a fine-tuned folder, in order. Raises ConfigError when it has no classifier."""
    values = load_config(folder)
    if not {"BertForSequenceClassification", "BertForTokenClassification"} & set(values.get("architectures") or ()):
        raise ConfigError(f"{folder}: has no classifier: fine-tune it first (bertlab finetune --model {shlex.quote(folder)} ...)")
    names = values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers leaves unwritten
    try:
        return [names[str(number)] for number in range(len(names))]
    except (KeyError, TypeError):
        raise CorruptError(f"{folder}/config.json: id2label is not numbered 0 to {len(names) - 1}") from None


def weights_file(folder: Path) -> Path:
    """The weights in a model folder. Raises ConfigError where there are none, or only pickled ones, CorruptError where they are others than
    were written."""
    path = folder / WEIGHTS
    if not path.is_file():
        hint = ""
        if list(folder.glob("*.bin")):
            hint = " (pytorch_model.bin is pickle, which can run code: convert it with transformers' save_pretrained)"
        if (folder / f"{WEIGHTS}.index.json").is_file():
            hint = " (its weights are in several files: save it in one, with transformers' save_pretrained(max_shard_size='100GB'))"
        raise ConfigError(f"{folder}: no {WEIGHTS} there{hint}")
    verify_files(folder, {name: entry for name, entry in _bound(folder).items() if name == WEIGHTS})
    return path


def weights_sha256(source: str | None) -> str | None:
    """The sha256 of a model folder's weights: what a run that starts from them remembers."""
    return None if source is None else sha256_file(Path(fetch(source)) / WEIGHTS)


def model_origin(source: str) -> dict[str, Any]:
    """The place of a model as it was given, and the sha256 of every file that what it computes depends on: what an output remembers."""
    folder = Path(fetch(source))
    return {"path": source, "files": {name: sha256_file(folder / name) for name in COMPUTES if (folder / name).is_file()}}


def other_files(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """The files in which two models differ, by what `model_origin` found of them."""
    known = (a.keys() | b.keys()) - {name for name in NOT_REMEMBERED_BEFORE if name not in a or name not in b}
    return sorted(name for name in known if a.get(name) != b.get(name))


def fetch(source: str | PathLike[str]) -> str:
    """A local folder as it is; `hf:name` downloaded from the hub (weights in safetensors and JSON only) and its folder returned. Raises
    ConfigError for what names no folder."""
    source = fspath(source) if isinstance(source, str | PathLike) else source
    if not isinstance(source, str):
        raise ConfigError(f"{type(source).__name__} names no model folder: give its path, or hf:NAME")
    return downloaded(source, ("*.json", "*.safetensors", "vocab.txt")) if source.startswith(REMOTE) else source


def _bound(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of the files of a folder of ours, by name; {} for a published one. Raises CorruptError where it is damaged."""
    path = folder / MANIFEST
    if not (folder / FACTS).is_file():
        found = read_json(path) if path.is_file() else None
        if not isinstance(found, dict) or SEAL not in found:  # none, or somebody else's
            return {}
    elif not path.is_file():
        raise CorruptError(f"{path} is missing: copy the folder again or make it again")
    return bound_entries(read_sealed(path), path)
