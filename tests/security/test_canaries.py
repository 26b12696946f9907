"""A pickle that would make a folder, in place of every file that is read and beside them: it is never obeyed (S2, S3, S6).

The same for a module that a configuration asks to import. Every manifest is sealed again after the change, as a stranger would.
"""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab import config as configuration
from bertlab.corpus.labelled import read_labelled
from bertlab.corpus.sources import How, documents
from bertlab.disk import MANIFEST, hash_files, read_json, read_sealed, write_sealed
from bertlab.errors import BertlabError
from bertlab.evaluation.alignment import read_predictions
from bertlab.inference import LoadedModel
from bertlab.model.facts import load_labels
from bertlab.model.folder import load_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.corpus import open_corpus
from bertlab.training.chain import follow
from bertlab.training.checkpoint import newest_checkpoint
from bertlab.training.optimizers import build_optimizers
from bertlab.training.replay import replay_step
from bertlab.verbs import embed

EXTRAS = (
    "pytorch_model.bin",
    "optimizer.bin",
    "optimizer.pt",
    "rng_state.pth",
    "random_states_0.pkl",
    "training_args.bin",
    "scheduler.pkl",
)


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, nest: Path) -> None:
        self.nest = nest

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.nest),)


def pickled(nest: Path) -> bytes:
    return pickle.dumps(Canary(nest), protocol=2)


def zipped(nest: Path) -> bytes:
    """As torch.save writes it."""
    file = nest.with_name("archive.zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(nest))
        archive.writestr("archive/version", "3\n")
    return file.read_bytes()


def array(nest: Path) -> bytes:
    """As numpy writes objects."""
    file = nest.with_name("array.npy")
    np.save(file, np.array([Canary(nest)], dtype=object), allow_pickle=True)
    return file.read_bytes()


Payload = Callable[[Path], bytes]
PAYLOADS: tuple[Payload, ...] = (pickled, zipped, array)


def test_the_canary_sings_where_a_pickle_is_obeyed(tmp_path: Path) -> None:
    nest = tmp_path / "nest"
    pickle.loads(pickled(nest))
    assert nest.is_dir()
    nest.rmdir()
    (tmp_path / "a.npy").write_bytes(array(nest))
    with suppress(Exception):
        np.load(tmp_path / "a.npy", allow_pickle=True)
    assert nest.is_dir()


# --- how each kind of folder is read ------------------------------------------------------------------------------------------------------


def read_model(root: Path) -> None:
    model = LoadedModel(str(root), "cpu")
    model.embed(["the river"])
    load_model(str(root), BertForPreTraining)
    with suppress(BertlabError):
        load_labels(str(root))


def read_corpus(root: Path) -> None:
    opened = open_corpus(str(root))
    opened.tokenizer.decode(opened.train.document(0)[0])


def read_checkpoint(root: Path) -> None:
    shutil.copytree(root, root.parent / "run" / "checkpoints" / "step-00000002")
    found = newest_checkpoint(root.parent / "run" / "checkpoints", warn=lambda _: None)
    assert found is None or found.step == 2
    if found:
        model, _ = load_model(str(root.parent / "model"), BertForPreTraining)
        found.restore(model, build_optimizers(model, "muon", learning_rate=1e-3))


def read_run(root: Path) -> None:
    replay_step(root, 2)


def read_scores(root: Path) -> None:
    read_predictions(root / "predictions.parquet")
    read_json(root / "metrics.json")


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "model": ("bert/model", read_model),
    "classifier": ("tuned/model", read_model),
    "corpus": ("corpus", read_corpus),
    "checkpoint": ("bert/checkpoints/step-00000002", read_checkpoint),
    "run": ("bert", read_run),
    "scores": ("scores", read_scores),
}


def copy(walk: Any, kind: str, folder: Path) -> Path:
    ignored = shutil.ignore_patterns("checkpoints", "best", "model") if kind == "run" else None
    shutil.copytree(walk.root / KINDS[kind][0], folder / "copy", ignore=ignored)
    if kind == "checkpoint":
        shutil.copytree(walk.root / "bert/model", folder / "model")
    return folder / "copy"


def seal(root: Path) -> None:
    """Bind what is there now, under a manifest that is whole."""
    if (root / MANIFEST).is_file():
        with suppress(BertlabError):
            facts = read_sealed(root / MANIFEST)
            (root / MANIFEST).unlink()
            write_sealed(root / MANIFEST, {name: value for name, value in facts.items() if name != "seal"} | {"files": hash_files(root)})


def obeyed(read: Callable[[Path], None], root: Path, nest: Path) -> str:
    """Read a folder and follow its chain, as far as they can be; returns what was refused. Whatever was, the canary must be silent."""
    said = ""
    try:
        read(root)
    except BertlabError as error:
        said = str(error)
        assert "\n" not in said
    with suppress(BertlabError):
        list(follow([root]))
    assert not nest.exists()
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_in_place_of_any_file_is_not_obeyed(walk: Any, kind: str, tmp_path: Path) -> None:
    nest, refused = tmp_path / "nest", 0
    whole = copy(walk, kind, tmp_path)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    read = KINDS[kind][1]
    assert obeyed(read, whole, nest) == ""
    for number, (file, payload) in enumerate((file, payload) for file in files for payload in PAYLOADS):
        root = tmp_path / str(number) / "copy"
        shutil.copytree(whole, root)
        if kind == "checkpoint":
            (root.parent / "model").symlink_to(tmp_path / "model")
        (root / file).write_bytes(payload(nest))
        seal(root)
        refused += bool(obeyed(read, root, nest))
        shutil.rmtree(root.parent)
    assert refused >= {"checkpoint": 6}.get(kind, len(PAYLOADS)), "no file is read at all"


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_beside_the_files_are_not_looked_at(walk: Any, kind: str, tmp_path: Path) -> None:
    root, nest = copy(walk, kind, tmp_path), tmp_path / "nest"
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        for name in EXTRAS:
            (folder / name).write_bytes(pickled(nest))
    seal(root)
    assert obeyed(KINDS[kind][1], root, nest) == ""


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt.gz", "a.jsonl.bz2", "a.csv.xz", "a.txt.zst"]
)
def test_a_pickle_in_place_of_a_text_or_a_table_is_not_obeyed(name: str, payload: Payload, tmp_path: Path) -> None:
    path, nest = tmp_path / name, tmp_path / "nest"
    path.write_bytes(payload(nest))
    with suppress(BertlabError):
        read_labelled(path, needs_label=False)
    with suppress(BertlabError):
        from collections import Counter

        list(documents(str(path), How(), Counter()))
    with suppress(BertlabError):
        tokenizers.load(str(path))
    with pytest.raises(BertlabError):
        configuration.load(embed.Config, [str(path)], {"model": "a", "input": "b", "output": "c.npy"})
    assert not nest.exists()


def test_a_folder_of_pickled_weights_alone_is_refused_and_nothing_falls_back_to_them(walk: Any, tmp_path: Path) -> None:
    root, nest = copy(walk, "model", tmp_path), tmp_path / "nest"
    for name in (MANIFEST, "bertlab.json"):
        (root / name).unlink()  # as a stranger's folder is: bound by nothing
    for spoilt in (b"", b"not weights", pickled(nest), zipped(nest)):
        (root / "pytorch_model.bin").write_bytes(pickled(nest))
        (root / "model.safetensors").write_bytes(spoilt)
        assert "model.safetensors" in obeyed(read_model, root, nest)
    (root / "model.safetensors").unlink()
    assert "pickle" in obeyed(read_model, root, nest)


# --- S3: what a checkpoint is -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_four_files_of_safetensors_and_json(walk: Any) -> None:
    folders = [path for path in walk.root.rglob("step-*") if path.is_dir()]
    assert len(folders) >= 3
    for folder in folders:
        files = {path.name for path in folder.iterdir()}
        assert files == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
        for name in ("state.json", "manifest.json"):
            json.loads((folder / name).read_text())


# --- S6: code that a folder names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", ["tokenizer.json", "vocab.txt"])
def test_a_module_that_a_folder_names_is_not_imported(walk: Any, tokens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, nest = copy(walk, "model", tmp_path), tmp_path / "nest"
    for name in (MANIFEST, "bertlab.json"):
        (root / name).unlink()  # as a stranger's folder is: bound by nothing
    vocabulary = tokenizers.load(str(root))
    if tokens == "vocab.txt":
        (root / "tokenizer.json").unlink()
        (root / "vocab.txt").write_text("".join(f"{vocabulary.token(id)}\n" for id in range(vocabulary.vocab_size)))
    for name in ("evil", "modeling_evil", "tokenization_evil", "configuration_evil"):
        (root / f"{name}.py").write_text(f"import os\nos.mkdir({str(nest)!r})\n")
    names = {"AutoConfig": "configuration_evil.C", "AutoModel": "modeling_evil.M", "AutoModelForMaskedLM": "modeling_evil.M"}
    names["AutoTokenizer"] = ["tokenization_evil.T", "tokenization_evil.T"]  # type: ignore[assignment]
    hooks: dict[str, Any] = {"auto_map": names, "custom_pipelines": {"x": {"impl": "evil.P"}}, "tokenizer_class": "evil.T"}
    hooks |= {"_attn_implementation_internal": "evil/kernel", "_attn_implementation": "evil/kernel", "trust_remote_code": True}
    hooks |= {"quantization_config": {"quant_method": "evil"}, "encoder": {"model_type": "evil", **hooks}, "text_config": dict(hooks)}
    for file in ("config.json", "tokenizer_config.json"):
        (root / file).write_text(json.dumps(json.loads((root / file).read_text()) | hooks))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (root / "modules.json").write_text(json.dumps(modules))
    monkeypatch.syspath_prepend(str(root))  # the worst case: the module could be found
    assert "its vectors go through Module, which is not done here" in obeyed(read_model, root, nest)


def test_no_setting_trusts_a_folder_with_code() -> None:
    import importlib

    from bertlab.cli import VERBS

    for verb in VERBS:
        module = importlib.import_module(f"bertlab.{verb}" if verb in ("quickstart", "bench") else f"bertlab.verbs.{verb}")
        assert not [name for name in configuration.leaves(module.Config) if "trust" in name or "remote" in name or "code" in name]
