"""bertlab embed: a row for each text, in the texts' order, in the kind of file that the output's name asks for."""

import csv
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertlab
from bertlab import cli
from bertlab.errors import ConfigError
from bertlab.evaluation.vectors import read_vectors
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
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
    return embed.run(Config(model=folder, input=source, output=str(output), device="cpu", **settings))


def test_a_parquet_file_has_the_ids_and_the_vectors_of_the_texts_in_their_order(folder: str, table: str, tmp_path: Path) -> None:
    returned = run(folder, table, tmp_path / "new" / "vectors.parquet")
    ids, vectors = read_vectors(tmp_path / "new" / "vectors.parquet")
    model = bertlab.load(folder)
    one_by_one = np.concatenate([model.embed([text], pooling="max") for text in TEXTS])
    assert ids == IDS and vectors.shape == (30, 16) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, returned)
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)
    assert np.abs(one_by_one - one_by_one[::-1]).max() > 0.1


def test_an_npy_file_has_a_row_a_text_and_the_ids_beside_it(folder: str, table: str, tmp_path: Path) -> None:
    run(folder, table, tmp_path / "vectors.npy")
    run(folder, table, tmp_path / "vectors.parquet")
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(vectors, read_vectors(tmp_path / "vectors.parquet")[1])
    assert (tmp_path / "vectors.ids.txt").read_text().splitlines() == IDS
    assert not list(tmp_path.glob(".tmp-*"))


def test_texts_taken_in_several_calls_are_the_same_rows(folder: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(folder, table, tmp_path / "whole.npy")
    monkeypatch.setattr(embed, "TEXTS_A_CALL", 7)
    parts = run(folder, table, tmp_path / "parts.npy")
    assert parts.shape == whole.shape
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_a_text_file_a_csv_and_another_column_give_the_same_vectors(folder: str, table: str, tmp_path: Path) -> None:
    expected = run(folder, table, tmp_path / "vectors.parquet")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    with (tmp_path / "texts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["text", "said"], *(["not this", text] for text in TEXTS)])
    for source, column, ids in (
        ("texts.txt", "text", [f"texts.txt:{number}" for number in range(1, 31)]),
        ("texts.csv", "said", [f"texts.csv:{number}" for number in range(2, 32)]),
    ):
        vectors = run(folder, str(tmp_path / source), tmp_path / f"{source}.parquet", text=column)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        assert read_vectors(tmp_path / f"{source}.parquet")[0] == ids


def test_an_empty_line_of_a_text_file_is_a_text_so_that_rows_and_lines_agree(folder: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the river\n\nthe sea\n")
    vectors = run(folder, str(tmp_path / "texts.txt"), tmp_path / "vectors.npy")
    np.testing.assert_allclose(vectors, bertlab.load(folder).embed(["the river", "", "the sea"]), atol=1e-6)


def test_pooling_and_length_are_as_asked_for_and_else_as_the_folder_records(
    folder: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bertlab.load(folder)
    np.testing.assert_allclose(run(folder, table, tmp_path / "a.npy"), model.embed(TEXTS, pooling="max"), atol=1e-6)
    assert "30 vectors of 16 numbers (max pooling): " in capsys.readouterr().out
    unit = run(folder, table, tmp_path / "b.npy", pooling="cls", normalize=True)
    np.testing.assert_allclose(unit, model.embed(TEXTS, pooling="cls", normalize=True), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert "cls pooling" in capsys.readouterr().out


def test_texts_that_are_too_long_are_cut_and_counted_over_all_calls(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("".join("river " * count + "\n" for count in (30, 22, 23, 400, 1)))
    monkeypatch.setattr(embed, "TEXTS_A_CALL", 2)
    run(folder, str(tmp_path / "texts.txt"), tmp_path / "vectors.npy")
    assert "3 texts truncated to 24 tokens" in capsys.readouterr().out


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
    assert "does not exist" in line(2, str(tmp_path / "nothing.txt"))
    assert "no column 'said'" in line(3, table, folder, "--text", "said").replace('"', "'")
    assert "did you mean the folder `model` inside it?" in line(2, table, str(Path(folder).parent))
    assert "pooling" in line(2, table, folder, "--pooling", "sum")
