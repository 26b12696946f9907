"""bertlab embed: a row for each text, in the texts' order, in the kind of file that the output's name asks for."""

import csv
import errno
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import bertlab
from bertlab import cli
from bertlab.corpus.cluster import Cluster
from bertlab.disk import locked, read_sealed
from bertlab.embedding import job as jobs
from bertlab.embedding.engine import What
from bertlab.errors import ConfigError, DataError, LockedError
from bertlab.evaluation.vectors import Numbers, read_vectors
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.model.pooling import POOLINGS
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import embed
from bertlab.verbs.embed import Config

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()
DRAW = random.Random(0)
TEXTS = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 15))) for _ in range(30)]
IDS = [f"number {number}" for number in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = tokenizers.train([" ".join(WORDS)] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(folder, BertForPreTraining(config), tokenizer, facts={}, card="# A card\n", pooling="max")
    return str(folder)


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in zip(IDS, TEXTS, strict=True)))
    return str(path)


def run(folder: str, source: str, output: Path, **settings: Any) -> np.ndarray:
    """The vectors of the file that was written."""
    embed.run(Config(model=folder, input=source, output=str(output), device="cpu", **settings))
    return read_vectors(output)[1]


def test_a_parquet_file_has_the_ids_and_the_vectors_of_the_texts_in_their_order(folder: str, table: str, tmp_path: Path) -> None:
    vectors = run(folder, table, tmp_path / "new" / "vectors.parquet")
    model = bertlab.load(folder)
    one_by_one = np.concatenate([model.embed([text], pooling="max") for text in TEXTS])
    assert read_vectors(tmp_path / "new" / "vectors.parquet")[0] == IDS and vectors.shape == (30, 16) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, one_by_one)
    assert np.abs(one_by_one - one_by_one[::-1]).max() > 0.1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["vectors.parquet", "vectors.parquet.manifest.json"]


def test_an_npy_file_has_a_row_a_text_and_the_ids_beside_it(folder: str, table: str, tmp_path: Path) -> None:
    run(folder, table, tmp_path / "vectors.npy")
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(vectors, run(folder, table, tmp_path / "vectors.parquet"))
    assert (tmp_path / "vectors.ids.txt").read_text().splitlines() == IDS


def test_a_text_file_a_csv_a_folder_and_another_column_give_the_same_vectors(folder: str, table: str, tmp_path: Path) -> None:
    expected = run(folder, table, tmp_path / "vectors.parquet")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "texts.csv.gz").write_bytes(b"")
    with gzip.open(tmp_path / "texts.csv.gz", "wt", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["key", "said"], *([f"k{number}", text] for number, text in enumerate(TEXTS))])
    for source, columns, ids in (
        ("in/texts.txt", {}, [f"texts.txt:{number}" for number in range(1, 31)]),
        ("in", {}, [f"in/texts.txt:{number}" for number in range(1, 31)]),
        ("texts.csv.gz", {"text": "said", "id": "key"}, [f"k{number}" for number in range(30)]),
        ("texts.csv.gz", {"text": "said"}, [f"texts.csv.gz:{number}" for number in range(2, 32)]),
    ):
        np.testing.assert_array_equal(run(folder, str(tmp_path / source), tmp_path / "again.parquet", **columns), expected)
        assert read_vectors(tmp_path / "again.parquet")[0] == ids


def test_standard_input_is_read_once_and_its_copy_goes(folder: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(folder, table, tmp_path / "vectors.npy")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path(table).read_bytes())))
    np.testing.assert_array_equal(run(folder, "-.jsonl", tmp_path / "again.npy"), expected)
    assert (tmp_path / "again.ids.txt").read_text().splitlines() == IDS and not list(tmp_path.glob(".*"))


def test_what_another_input_or_model_had_left_is_said_to_be_replaced(
    folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, other = tmp_path / "vectors.parquet", tmp_path / "other.jsonl"
    other.write_text('{"text": "the river"}\n')
    run(folder, table, output)
    run(folder, table, output)
    run(folder, table, output, pooling="cls")
    assert "replace" not in capsys.readouterr().out, "there was none before, or it is of the same texts"
    assert len(run(folder, str(other), output)) == 1
    assert f"note: {output} held 30 vectors by {folder} of {table}: these replace them\n" in capsys.readouterr().out
    (tmp_path / "copy").mkdir()
    shutil.copytree(folder, tmp_path / "copy" / "model")
    run(str(tmp_path / "copy" / "model"), str(other), output)
    assert "replace" not in capsys.readouterr().out, "the same bytes are the same model"
    (tmp_path / "vectors.parquet.manifest.json").write_text("{}")
    run(folder, table, output)
    assert "replace" not in capsys.readouterr().out, "nobody knows what it held"


def test_other_ids_of_the_same_texts_are_said_to_replace_and_those_of_no_column_are_not_made_up(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, output = tmp_path / "t.csv", tmp_path / "vectors.parquet"
    table.write_text("id,key,text\na,b,the river\n")
    run(folder, str(table), output)
    run(folder, str(table), output, id="key")
    assert f"note: {output} held 1 vectors by {folder} of {table}: these replace them\n" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"t\.csv:1: no column 'kye'"):
        run(folder, str(table), output, id="kye")
    assert pq.read_table(output)["id"].to_pylist() == ["b"]


def test_an_empty_line_of_a_text_file_is_a_text_so_that_rows_and_lines_agree(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("the river\n\nthe sea\n")
    vectors = run(folder, str(tmp_path / "texts.txt"), tmp_path / "vectors.npy")
    np.testing.assert_array_equal(vectors, bertlab.load(folder).embed(["the river", "", "the sea"]))
    assert "1 text without a word; blank lines have vectors too, so that rows and lines agree" in capsys.readouterr().out
    (tmp_path / "texts.jsonl").write_text('{"text": "the river"}\n{"text": ""}\n')
    run(folder, str(tmp_path / "texts.jsonl"), tmp_path / "of-rows.npy")
    assert "1 text without a word)" in capsys.readouterr().out


def test_pooling_layers_and_length_are_as_asked_for_and_else_as_the_folder_records(
    folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bertlab.load(folder)
    np.testing.assert_array_equal(run(folder, table, tmp_path / "a.npy"), model.embed(TEXTS, pooling="max"))
    said = capsys.readouterr()
    assert "30 vectors of 16 numbers (max pooling): " in said.out and "warning" not in said.err
    unit = run(folder, table, tmp_path / "b.npy", pooling="cls", normalize=True)
    np.testing.assert_array_equal(unit, model.embed(TEXTS, pooling="cls", normalize=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    said = capsys.readouterr()
    assert "cls pooling" in said.out and said.err.count("warning: [CLS] of a model that was not trained for it") == 1
    words = run(folder, table, tmp_path / "c.npy", pooling="mean", layer=(0,))
    assert np.abs(words - model.embed(TEXTS, pooling="mean")).max() > 0.1


def test_what_sentence_transformers_files_record_is_the_default(folder: str, table: str, tmp_path: Path) -> None:
    published = tmp_path / "published"
    shutil.copytree(folder, published)
    for name in ("manifest.json", "bertlab.json"):
        (published / name).unlink()  # as a folder of somebody else's is: bound by nothing
    modules = json.loads((published / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})
    (published / "modules.json").write_text(json.dumps(modules))
    expected = bertlab.load(folder).embed(TEXTS, pooling="max", normalize=True)
    np.testing.assert_array_equal(run(str(published), table, tmp_path / "a.npy"), expected)
    raw = run(str(published), table, tmp_path / "b.npy", normalize=False)
    np.testing.assert_array_equal(raw, bertlab.load(folder).embed(TEXTS, pooling="max"))
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (published / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="go through Dense"):
        run(str(published), table, tmp_path / "c.npy")


def test_fewer_numbers_of_fewer_bits_are_written_and_the_loss_said(
    folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, table, tmp_path / "v.npy", numbers="binary", dims=8, normalize=True)
    assert np.load(tmp_path / "v.npy").shape == (30, 1) and np.load(tmp_path / "v.npy").dtype == np.uint8
    said = capsys.readouterr().out
    loss = read_sealed(tmp_path / "v.npy.manifest.json")["loss"]
    assert "30 vectors of 8 numbers" in said
    assert f"binary: cosine with the exact numbers {loss['mean_cosine']:.5f} (lowest {loss['lowest_cosine']:.5f})" in said
    run(folder, table, tmp_path / "w.npy", numbers="int8")
    assert (tmp_path / "w.scales.npy").is_file() and "int8: cosine" in capsys.readouterr().out


def test_tokens_are_rows_of_their_own(folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = run(folder, table, tmp_path / "v.parquet", tokens=True)
    lengths = bertlab.load(folder).encode(TEXTS).lengths
    assert len(vectors) == lengths.sum() and f"{lengths.sum()} vectors of 16 numbers (tokens): " in capsys.readouterr().out


def test_the_better_pooling_is_named_from_scored_pairs(folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = bertlab.load(folder)
    first, second = (model.embed(texts, pooling="mean", normalize=True) for texts in (TEXTS, TEXTS[::-1]))
    scores = (first * second).sum(axis=1)
    rows = zip(TEXTS, TEXTS[::-1], scores.tolist(), strict=True)
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps(dict(zip(("text", "text_b", "score"), row, strict=True))) + "\n" for row in rows)
    )
    run(folder, table, tmp_path / "v.npy", dev_pairs=str(tmp_path / "pairs.jsonl"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("best first") and lines[2].split("  ")[0] == "--pooling mean" and " 1.000 " in f"{lines[2]} "
    assert read_sealed(tmp_path / "v.npy.manifest.json")["dev_pairs"]["--pooling mean"]["pairs"] == 30
    (tmp_path / "pairs.jsonl").write_text('{"text": "a", "text_b": "b", "score": "near"}\n')
    with pytest.raises(DataError, match="the score of pairs.jsonl:1 is 'near': give a number"):
        run(folder, table, tmp_path / "w.npy", dev_pairs=str(tmp_path / "pairs.jsonl"))


def test_texts_that_are_too_long_are_cut_and_counted_over_all_parts(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("".join("river " * count + "\n" for count in (30, 22, 23, 20_000, 1)))  # one has 120 kB
    run(folder, str(tmp_path / "texts.txt"), tmp_path / "vectors.npy", part=2)
    assert "3 texts truncated to 24 tokens" in capsys.readouterr().out


# ---- what is cut off goes on


def test_the_same_command_again_computes_nothing_that_is_there(
    folder: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole" / "v.parquet"
    run(folder, table, whole, part=7)
    cut, left = parts_until(monkeypatch, 3), tmp_path / "cut" / "v.parquet"
    with pytest.raises(OSError, match="No space left"):
        run(folder, table, left, part=7)
    assert not left.exists() and len(cut) == 3
    run(folder, table, left, part=7)
    assert left.read_bytes() == whole.read_bytes() and len(cut) == 5
    assert "going on: 3 parts were there already" in capsys.readouterr().err
    run(folder, table, left, part=7)  # finished: nothing is computed
    assert len(cut) == 5 and left.read_bytes() == whole.read_bytes()
    left.write_bytes(b"damaged")
    run(folder, table, left, part=7)
    assert len(cut) == 10 and left.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in left.parent.iterdir()) == ["v.parquet", "v.parquet.manifest.json"]


def parts_until(monkeypatch: pytest.MonkeyPatch, full: int) -> list[Path]:
    """The parts that are written, until the disk is full once."""
    written: list[Path] = []
    write = jobs.write_part

    def until_full(path: Path, *given: Any) -> None:
        if len(written) == full and until_full.__dict__.setdefault("tries", 0) == 0:
            until_full.__dict__["tries"] = 1
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, *given)
        written.append(path)

    monkeypatch.setattr(jobs, "write_part", until_full)
    return written


def test_another_model_does_not_go_on_with_the_parts_of_the_first(
    folder: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = parts_until(monkeypatch, 3)
    with pytest.raises(OSError, match="No space left"):
        run(folder, table, tmp_path / "v.npy", part=7)
    vectors = run(folder, table, tmp_path / "v.npy", part=7, pooling="mean")
    assert len(cut) == 8
    np.testing.assert_array_equal(vectors, bertlab.load(folder).embed(TEXTS, pooling="mean"))


def test_what_a_killed_process_had_begun_goes_and_what_others_write_stays(folder: str, table: str, tmp_path: Path) -> None:
    digits = "0" * 32
    for name in (f".tmp-{digits}-v.ids.txt", f".tmp-{digits}-v.npy.manifest.json", f".tmp-{digits}-v.parquet", f".tmp-{digits}-other.npy"):
        (tmp_path / name).write_text("half")
    run(folder, table, tmp_path / "v.npy")
    assert sorted(path.name for path in tmp_path.glob(".*")) == [f".tmp-{digits}-other.npy", f".tmp-{digits}-v.parquet"]


def test_two_commands_do_not_write_one_output(folder: str, table: str, tmp_path: Path) -> None:
    with locked(tmp_path / ".embedding-v.npy"), pytest.raises(LockedError):
        run(folder, table, tmp_path / "v.npy")


def test_two_processes_write_the_bytes_of_one(folder: str, table: str, tmp_path: Path) -> None:
    run(folder, table, tmp_path / "one.npy", part=7)
    command = [sys.executable, "-m", "bertlab", "embed", "--model", folder, "--input", table, "--output", str(tmp_path / "two.npy")]
    environment = {**os.environ, "PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    options = ["--part", "7", "--device", "cpu", "--processes", "2"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("30 vectors of 16 numbers") == 1
    assert (tmp_path / "two.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
    assert (tmp_path / "two.ids.txt").read_bytes() == (tmp_path / "one.ids.txt").read_bytes() and not list(tmp_path.glob(".*"))


# ---- what cannot be


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    before = dict(os.environ)

    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["embed", *options]) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("bertlab: ") and captured.err.count("\n") == 1 and captured.out == ""
        return captured.err

    yield check
    os.environ.clear()
    os.environ.update(before)


def test_the_one_state_that_all_texts_share_is_no_vector() -> None:
    with pytest.raises(ConfigError, match=r"layer 0 is the embeddings, and that of \[CLS\] is the same in every text"):
        What(pooling="cls", layers=(0,))
    assert What(pooling="cls", layers=(0, -1)) != What(pooling="mean", layers=(0,))


def test_an_output_of_another_kind_is_refused_before_anything_is_read(refused: Callable[..., str]) -> None:
    for name in ("vectors.csv", "vectors", "vectors.pkl", "parquet"):
        message = refused(2, "--model", "no such folder", "--input", "no such file", "--output", name)
        assert f"output={name}: name it .parquet or .npy" in message
        with pytest.raises(ConfigError):
            Config(model="", input="", output=name)


def test_what_cannot_be_embedded_is_refused_in_one_line_and_leaves_nothing(
    folder: str, table: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    def line(code: int, source: str, model: str = folder, *options: str) -> str:
        before = sorted(tmp_path.iterdir())
        message = refused(code, "--model", model, "--input", source, "--output", str(tmp_path / "out" / "vectors.npy"), *options)
        assert sorted(tmp_path.iterdir()) == before
        return message

    (tmp_path / "empty.txt").write_text("")
    assert "no rows" in line(3, str(tmp_path / "empty.txt"))
    assert "no such file or folder: correct --input" in line(2, str(tmp_path / "nothing.txt"))
    assert "no column 'said'" in line(3, table, folder, "--text", "said").replace('"', "'")
    assert "did you mean the folder `model` inside it?" in line(2, table, str(Path(folder).parent))
    assert "pooling" in line(2, table, folder, "--pooling", "sum")
    assert "layer 9" in line(2, table, folder, "--layer", "1", "9")
    assert "dims=17" in line(2, table, folder, "--dims", "17")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    assert "bad.jsonl:2: column 'text' holds null, not text" in line(3, str(tmp_path / "bad.jsonl"))


def test_weights_that_are_no_numbers_are_one_line(folder: str, table: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    import safetensors.torch

    shutil.copytree(folder, tmp_path / "broken")
    for name in ("manifest.json", "bertlab.json"):
        (tmp_path / "broken" / name).unlink()  # as a folder of somebody else's is: bound by nothing
    tensors = safetensors.torch.load_file(tmp_path / "broken" / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.bias"][3] = float("nan")
    safetensors.torch.save_file(tensors, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    options = ("--model", str(tmp_path / "broken"), "--input", table, "--output", str(tmp_path / "v.npy"))
    assert "holds NaN or infinity" in refused(4, *options)


def test_settings_that_contradict_each_other_are_refused() -> None:
    given: dict[str, Any] = {"model": "m", "input": "i", "output": "o.parquet"}
    wrong: list[dict[str, Any]] = [
        {"tokens": True, "output": "o.npy"}, {"tokens": True, "pooling": "mean"}, {"part": 0}, {"dims": 0},
        {"numbers": "binary", "dims": 12}, {"processes": 2, "cluster": Cluster(engine="local")},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(ConfigError):
            Config(**given | settings)


def test_the_choices_are_those_of_the_rooms_below() -> None:
    hints = get_type_hints(Config)
    assert hints["pooling"].__args__[0].__args__ == POOLINGS
    assert hints["numbers"] == Numbers
