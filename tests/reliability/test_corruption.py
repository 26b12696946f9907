"""A single flipped bit or a cut anywhere in what is on the disk, or a file gone: noticed before it is used (F5, F6).

Checkpoints, model folders, corpora and predictions; every file of each, its manifest too.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer

import bertlab
from bertlab.disk import MANIFEST, hash_some, write_json, write_sealed
from bertlab.errors import BertlabError, CorruptError
from bertlab.evaluation.alignment import read_predictions
from bertlab.evaluation.predictions import write_predictions
from bertlab.model import folder, weights
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.corpus import open_corpus, write_manifest
from bertlab.tokens.shards import ShardWriter
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training import checkpoint
from bertlab.training.checkpoint import newest_checkpoint, save_checkpoint
from bertlab.training.optimizers import build_optimizers, optimizer_tensors

Tally = Callable[[str, str, int, int], None]
Trials = Callable[[int, int], int]
TEXTS = ["the river runs past the mill", "the miller sings in the evening", "a bird sings in the old tree"]


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damages(files: list[Path], flips: int, cuts: int) -> Iterator[tuple[str, Path]]:
    """Do each damage, yield what it is and the file, and mend it: flips and cuts at random places of each file in turn, each file gone."""
    draw = random.Random(0)
    wholes = {file: file.read_bytes() for file in files}
    kinds = [("flipped", files[number % len(files)]) for number in range(flips)]
    kinds += [("cut", files[number % len(files)]) for number in range(cuts)]
    for kind, file in [*kinds, *(("gone", file) for file in files)]:
        whole = wholes[file]
        if kind == "gone":
            file.unlink()
        elif kind == "cut":
            file.write_bytes(whole[: draw.randrange(len(whole))])
        else:
            place = draw.randrange(len(whole))
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        yield kind, file
        file.write_bytes(whole)


def refused(open_it: Callable[[], Any], name: str) -> bool:
    """Whether it is refused by one line that names the file."""
    try:
        open_it()
    except BertlabError as error:
        return name in str(error) and "\n" not in str(error)
    return False


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file of which tensors were read, in order."""
    paths: list[Path] = []

    def watched(path: Path, *names: Any) -> dict[str, torch.Tensor]:
        paths.append(path)
        return weights.read_tensors(path, *names)

    for reader in (checkpoint, folder):
        monkeypatch.setattr(reader, "read_tensors", watched)
    return paths


def tiny_model(seed: int, vocab_size: int = 60) -> tuple[BertForPreTraining, list[Optimizer]]:
    """A model and its optimizers after a step."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForPreTraining(EncoderConfig(vocab_size=vocab_size, max_position_embeddings=16, **shape))
    optimizers = build_optimizers(model, "muon", learning_rate=1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return model, optimizers


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.train(TEXTS, kind="wordpiece", vocab_size=100, lowercase=True)


# --- F5: checkpoints and model folders --------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_never_used_and_the_one_before_it_is(
    tmp_path: Path, read: list[Path], trials: Trials, tally: Tally
) -> None:
    before, after = tiny_model(1), tiny_model(2)
    save_checkpoint(tmp_path, 1, *before, {"which": "before"})
    newest = save_checkpoint(tmp_path, 2, *after, {"which": "after"})
    expected = {**before[0].state_dict(), **optimizer_tensors(before[1])}
    model, optimizers = tiny_model(3)
    files = files_of(newest)
    assert [file.name for file in files] == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    passed = stopped = of = 0
    for _, file in damages(files, trials(60, 500), trials(12, 50)):
        warnings: list[str] = []
        read.clear()
        found = newest_checkpoint(tmp_path, warn=warnings.append)
        assert found is not None
        found.restore(model, optimizers)
        restored = {**model.state_dict(), **optimizer_tensors(optimizers)}
        stopped += refused(partial(newest_checkpoint, tmp_path, strict=True), f"{newest.name}/{file.name}")
        of += 1
        passed += (
            (found.step, found.state) == (1, {"which": "before"})
            and len(warnings) == 1
            and f"{newest.name}/{file.name}" in warnings[0]
            and {path.parent.name for path in read} == {"step-00000001"}
            and all(torch.equal(value, restored[name]) for name, value in expected.items())
        )
    tally("F5", "checkpoint: a bit flipped, a file cut or gone", passed, of)
    tally("F5", "the same with --strict: refused", stopped, of)
    assert passed == stopped == of
    found = newest_checkpoint(tmp_path, warn=pytest.fail)
    assert found is not None and found.step == 2


def test_a_damaged_model_folder_is_not_loaded(tmp_path: Path, tokenizer: Tokenizer, read: list[Path], trials: Trials, tally: Tally) -> None:
    root = tmp_path / "model"
    save_model(root, tiny_model(1, tokenizer.vocab_size)[0], tokenizer, facts={"kind": "pretrained"}, card="# A card\n")
    files = [file for file in files_of(root) if file.name != "README.md"]
    assert len(files) == 9
    passed = of = 0
    for _, file in damages(files, trials(90, 500), trials(18, 50)):
        read.clear()
        of += 1
        passed += refused(lambda: bertlab.load(str(root)), file.name) and not read
    tally("F5", "model folder: a bit flipped, a file cut or gone", passed, of)
    assert passed == of
    read.clear()
    bertlab.load(str(root))
    assert read == [root / "model.safetensors"]


# --- F6: corpora ------------------------------------------------------------------------------------------------------------------------


def write_corpus(folder: Path, tokenizer: Tokenizer) -> Path:
    """Three shards of train and one of heldout, all of different documents."""
    tokenizer.save(folder / "tokenizer", max_length=512)
    for split, documents in (("train", 9), ("heldout", 3)):
        writer = ShardWriter(folder / split, tokenizer.id_dtype, shard_tokens=20 if split == "train" else 10**6)
        for number in range(documents):
            ids, _ = tokenizer.encode([f"{TEXTS[number % 3]} {'sings ' * number}"])
            writer.add(f"{split} {number}", "made up", f"{number:064x}", ids, np.array([len(ids)]))
        writer.close()
    write_manifest(folder, {"counts": {"documents": 12}})
    return folder


@pytest.fixture
def corpus(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    folder = write_corpus(tmp_path / "corpus", tokenizer)
    assert len(list((folder / "train").glob("*.arrow"))) >= 3
    return folder


def test_a_damaged_corpus_is_not_opened(corpus: Path, trials: Trials, tally: Tally) -> None:
    files = files_of(corpus)
    passed = of = 0
    for _, file in damages(files, trials(10 * len(files), 500), trials(2 * len(files), 50)):
        of += 1
        passed += refused(lambda: open_corpus(str(corpus)), file.relative_to(corpus).as_posix())
    tally("F6", "corpus: a bit flipped, a file cut or gone", passed, of)
    assert passed == of
    open_corpus(str(corpus))


def test_shards_swapped_longer_foreign_or_too_many_are_noticed(corpus: Path, tmp_path: Path, tally: Tally) -> None:
    other = write_corpus(tmp_path / "other", tokenizers.train(["old words"] * 3, kind="bpe", vocab_size=300, lowercase=False))
    foreign = next((other / "train").glob("*.arrow"))
    shards = sorted((corpus / "train").glob("*.arrow"))

    def swap() -> str:
        first, second = shards[0].read_bytes(), shards[1].read_bytes()
        shards[0].write_bytes(second)
        shards[1].write_bytes(first)
        return shards[0].name

    def append() -> str:
        shards[1].write_bytes(shards[1].read_bytes() + b"\0" * 8)
        return shards[1].name

    def replace_one() -> str:
        shutil.copy(foreign, shards[2])
        return shards[2].name

    def add_one() -> str:  # it would be read as the last of the split
        shutil.copy(foreign, corpus / "train" / "data-00099-of-00100.arrow")
        return "data-00099-of-00100.arrow"

    def add_heldout() -> str:
        shutil.copy(shards[0], corpus / "heldout" / "data-00001-of-00002.arrow")
        return "heldout/data-00001-of-00002.arrow"

    changes: list[Callable[[], str]] = [swap, append, replace_one, add_one, add_heldout]
    passed = 0
    for change in changes:
        whole = {path: path.read_bytes() for path in files_of(corpus)}
        name = change()
        passed += refused(lambda: open_corpus(str(corpus)), name)
        for path in files_of(corpus):
            if path in whole:
                path.write_bytes(whole[path])
            else:
                path.unlink()
    tally("F6", "corpus: shards swapped, longer, of another tokenizer, one too many", passed, len(changes))
    assert passed == len(changes)
    assert not refused(lambda: open_corpus(str(corpus)), "")


def test_another_corpus_tokenizer_is_noticed(corpus: Path, tmp_path: Path) -> None:
    tokenizers.train(["old words"] * 3, kind="wordpiece", vocab_size=100, lowercase=False).save(corpus / "tokenizer", max_length=512)
    with pytest.raises(CorruptError, match="tokenizer/tokenizer"):
        open_corpus(str(corpus))


# --- predictions ------------------------------------------------------------------------------------------------------------------------


def predictions_of(folder: Path, *names: str) -> None:
    for name in names:
        columns: dict[str, Any] = {"ids": [f"row {number}" for number in range(40)], "text_hashes": ["0" * 64] * 40, "gold": [0, 1] * 20}
        write_predictions(folder / name, probabilities=np.random.default_rng(0).dirichlet([1, 1], 40), names=["yes", "no"], **columns)


def test_damaged_predictions_are_not_compared(tmp_path: Path, tokenizer: Tokenizer, trials: Trials, tally: Tally) -> None:
    evaluated, run = tmp_path / "evaluated", tmp_path / "run"
    predictions_of(evaluated, "predictions.parquet")
    write_json(evaluated / "metrics.json", {})
    write_sealed(evaluated / MANIFEST, {"from": {}, "files": hash_some(evaluated, ["metrics.json", "predictions.parquet"])})
    seeds = ["predictions.parquet", "predictions/seed-0.parquet", "predictions/seed-1.parquet"]
    predictions_of(run, *seeds)
    hashes = {name: entry["sha256"] for name, entry in hash_some(run, seeds).items()}
    save_model(run / "model", tiny_model(1, tokenizer.vocab_size)[0], tokenizer, facts={}, card="", run=hashes)
    passed = of = 0
    for file in (evaluated / "predictions.parquet", *(run / name for name in seeds)):
        assert len(read_predictions(file)) == 40
        for kind, damaged in damages([file], trials(20, 120), trials(5, 12)):
            if kind != "gone":  # which needs no hash to be noticed
                of += 1
                passed += refused(partial(read_predictions, file), damaged.name)
    manifests = [evaluated / MANIFEST, run / "model" / MANIFEST]
    for kind, damaged in damages(manifests, trials(10, 60), trials(4, 12)):
        if kind != "gone":
            of += 1
            file = (evaluated if damaged == manifests[0] else run) / "predictions.parquet"
            passed += refused(partial(read_predictions, file), MANIFEST)
    tally("F5", "predictions: a bit flipped, a file cut", passed, of)
    assert passed == of


def test_predictions_that_nothing_binds_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions_of(tmp_path, "predictions.parquet")
    monkeypatch.chdir(tmp_path)
    assert len(read_predictions(Path("predictions.parquet"))) == 40
    (tmp_path / MANIFEST).write_text('{"name": "of a web app"}')
    assert len(read_predictions(Path("predictions.parquet"))) == 40
