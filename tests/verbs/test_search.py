"""bertlab search: the nearest texts and the pairs, on the screen and as JSON, by options, files and standard input."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab import cli
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import embed, search

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
DRAW = random.Random(0)
TEXTS = [" ".join(DRAW.choices(SENTENCE.split(), k=DRAW.randint(3, 12))) for _ in range(20)] + ["the old river", "the  old River"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("search")
    tokenizer = tokenizers.train([SENTENCE] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    save_model(place / "model", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    (place / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    embed.run(embed.Config(model=str(place / "model"), input=str(place / "texts.txt"), output=str(place / "v.npy"), device="cpu"))
    return str(place / "v.npy")


def answers(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert cli.main(["search", *args, "--json", "--device", "cpu"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_text_of_the_index_is_found_first_with_its_id_row_and_words(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = answers(capsys, index, TEXTS[4], "--top", "3")
    assert found["query"] == TEXTS[4] and len(found["nearest"]) == 3
    assert {key: found["nearest"][0][key] for key in ("row", "id", "text")} == {"row": 4, "id": "texts.txt:5", "text": TEXTS[4]}
    assert found["nearest"][0]["score"] == pytest.approx(1) and found["nearest"][1]["score"] < 1 - 1e-6
    assert [each["score"] for each in found["nearest"]] == sorted((each["score"] for each in found["nearest"]), reverse=True)


def test_queries_of_a_file_of_standard_input_and_of_the_command_line_have_the_same_answers(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [TEXTS[1], "a hill", "birds in spring"]
    expected = answers(capsys, index, *asked)
    assert [each["query"] for each in expected] == asked
    (tmp_path / "queries.txt").write_text("\n\n".join(asked) + "\n")
    assert answers(capsys, index, "--input", str(tmp_path / "queries.txt")) == expected
    command = [sys.executable, "-m", "bertlab", "search", index, "--input=-", "--json", "--device", "cpu"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, input="\n".join(asked), capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": root}
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_from_python_the_answers_of_queries_are_returned_and_those_of_a_file_are_not(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queries.txt").write_text("a hill\n")
    expected = answers(capsys, index, "a hill", TEXTS[1])
    found = search.run(search.Config(index=index, query=("a hill", TEXTS[1]), device="cpu"))
    assert found == {"queries": 2, "answers": expected}
    assert search.run(search.Config(index=index, input=str(tmp_path / "queries.txt"), device="cpu")) == {"queries": 1}


def test_queries_of_a_column_and_what_was_cut_or_passed_over_is_said(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asked.csv").write_text("question,n\na hill,1\n,2\n" + "river " * 40 + ",3\n  ,4\n")
    options = ["--input", str(tmp_path / "asked.csv"), "--text", "question", "--json", "--device", "cpu"]
    assert cli.main(["search", index, *options]) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["query"].split()[-1] for line in said.out.splitlines()] == ["hill", "river"]
    assert (
        "note: 1 of 2 queries cut to 24 tokens\n" in said.err and f"note: 2 empty rows of {tmp_path / 'asked.csv'} passed over" in said.err
    )
    assert cli.main(["search", index, "a hill", "--json", "--device", "cpu"]) == 0
    assert "note" not in capsys.readouterr().err


def test_pairs_above_a_cosine_are_printed_once_each(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = answers(capsys, index, "--duplicates", "0.999999")
    assert [each["id"] for each in found["pair"]] == ["texts.txt:21", "texts.txt:22"] and found["cosine"] == pytest.approx(1)
    assert [each["text"] for each in found["pair"]] == TEXTS[-2:]
    assert len(answers(capsys, index, "--duplicates", "1e-9")) > 20


def test_ids_and_texts_of_pairs_are_read_once_for_many(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = answers(capsys, index, "--duplicates", "1e-9")
    named, rows = search._named, list[int]()

    def counted(index: Any, files: Any, some: set[int]) -> Any:
        rows.append(len(some))
        return named(index, files, some)

    monkeypatch.setattr(search, "_named", counted)
    monkeypatch.setattr("bertlab.embedding.index.BLOCK_ROWS", 3)  # so that pairs come a few at a time
    in_blocks = answers(capsys, index, "--duplicates", "1e-9")
    assert rows == [22] and sorted(map(str, in_blocks)) == sorted(map(str, expected))
    monkeypatch.setattr(search, "PAIRS_AT_ONCE", 50)
    rows.clear()
    assert answers(capsys, index, "--duplicates", "1e-9") == in_blocks and 2 <= len(rows) <= -(-len(expected) // 25)


def test_a_file_has_the_answers_of_the_screen_a_row_each(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["a hill", "=birds in; spring"]
    expected = [
        {"query": each["query"], "rank": rank, **{name: entry[name] for name in ("score", "id", "text")}}
        for each in answers(capsys, index, *asked, "--top", "3")
        for rank, entry in enumerate(each["nearest"], start=1)
    ]
    for name in ("found.csv", "found.tsv", "found.jsonl"):
        assert cli.main(["search", index, *asked, "--top", "3", "--output", str(tmp_path / name), "--device", "cpu"]) == 0
        assert capsys.readouterr().out == ""
    assert [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()] == expected
    for name, separator in (("found.csv", ","), ("found.tsv", "\t")):
        with (tmp_path / name).open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter=separator))
        assert rows == [{key: str(value) for key, value in row.items()} for row in expected]
    excel = tmp_path / "excel.csv"
    options = ["--top", "1", "--excel", "--excel-separator", ";", "--device", "cpu"]
    assert cli.main(["search", index, *asked, *options, "--output", str(excel)]) == 0
    assert excel.read_bytes().startswith(b"\xef\xbb\xbfquery;rank;score;id;text\n")
    assert '"\'=birds in; spring";1;' in excel.read_text(encoding="utf-8-sig")


def test_a_file_of_pairs_has_the_nearest_first_and_is_not_written_over(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answers(capsys, index, "--duplicates", "0.5")
    output = tmp_path / "pairs.jsonl"
    assert cli.main(["search", index, "--duplicates", "0.5", "--output", str(output)]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    cosines = [row["cosine"] for row in rows]
    assert cosines == sorted(cosines, reverse=True) != [each["cosine"] for each in found] and len(rows) == len(found) > 20
    by_ids = {tuple(entry["id"] for entry in each["pair"]): each for each in found}
    for row in rows:
        pair = by_ids[row["id"], row["other_id"]]
        assert row["cosine"] == pytest.approx(pair["cosine"], abs=1e-12)
        assert [row["text"], row["other_text"]] == [entry["text"] for entry in pair["pair"]]
    before = output.read_bytes()
    assert cli.main(["search", index, "--duplicates", "0.9", "--output", str(output)]) == 2
    assert "is there already: choose another --output" in capsys.readouterr().err and output.read_bytes() == before
    assert cli.main(["search", index, "--duplicates", "1", "--output", str(tmp_path / "few.csv")]) == 0
    assert (tmp_path / "few.csv").read_text().startswith("cosine,id,text,other_id,other_text\n")


def test_the_screen_shows_scores_ids_and_texts_that_cannot_steer_it(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", index, "the old\x1b[2J river", "--top", "2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the old?[2J river" and len(lines) == 4 and lines[1].split()[1].startswith("texts.txt:")
    assert cli.main(["search", index, "--duplicates", "0.999999"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["1.0000", "  texts.txt:21  the old river", "  texts.txt:22  the  old River"]
    assert "1 pair of 22 texts" in captured.err


def test_a_text_without_a_word_that_is_near_is_said_to_be_one(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.txt").write_text("the old river\n\n  \n")
    model, vectors = str(Path(index).parent / "model"), str(tmp_path / "v.npy")
    embed.run(embed.Config(model=model, input=str(tmp_path / "some.txt"), output=vectors, device="cpu"))
    capsys.readouterr()
    assert cli.main(["search", vectors, "river", "--device", "cpu"]) == 0
    lines = sorted(capsys.readouterr().out.splitlines()[1:4], key=lambda line: line.split()[1])
    assert [line.split(maxsplit=2)[1:] for line in lines] == [["some.txt:1", "the old river"],
        ["some.txt:2", "(without a word)"], ["some.txt:3", "(without a word)"]]  # fmt: skip


def test_texts_that_are_gone_are_said_and_ids_stay(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path(index).parent / "texts.txt"
    place.rename(tmp_path / "texts.txt")
    try:
        assert cli.main(["search", index, TEXTS[0], "--json", "--device", "cpu"]) == 0
        captured = capsys.readouterr()
        assert "texts are not shown" in captured.err and set(json.loads(captured.out)["nearest"][0]) == {"score", "row", "id"}
        (found,) = answers(capsys, index, TEXTS[0], "--texts", str(tmp_path / "texts.txt"))
        assert found["nearest"][0]["text"] == TEXTS[0]
    finally:
        (tmp_path / "texts.txt").rename(place)


def test_an_approximate_search_says_its_recall_and_of_few_texts_finds_the_same(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("usearch", reason="the graph is usearch's")
    exact = answers(capsys, index, "a stone hill", "the sea")
    assert cli.main(["search", index, "a stone hill", "the sea", "--json", "--approximate", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == exact
    assert "approximate: recall@10 1.000 against exact, of 22 vectors" in captured.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a query", "--duplicates", "0.9"], "one of these"),
        ([], "one of these"),
        (["a query", "--top", "0"], "top=0: give 1 or more"),
        (["--duplicates", "1.5"], "give a cosine above 0, at most 1"),
        (["--duplicates", "0.9", "--approximate"], "leave --approximate out"),
        (["a query", "--model", "nowhere"], "or write hf:nowhere for a model on the hub"),
        (["a query", "--model", "."], ".: no config.json there: is it a model folder?"),
        (["a query", "--texts", "nowhere.txt"], "nowhere.txt does not exist"),
        (["a query", "--output", "found.parquet"], "name it .csv, .tsv or .jsonl"),
        (["a query", "--output", "found.csv", "--json"], "name the output NAME.jsonl"),
        (["a query", " "], "a query is empty"),
        (["a query", "--excel"], "give --output NAME.csv"),
        (["a query", "--excel-separator", ";"], "excel_separator is for --excel"),
    ],
)
def test_what_cannot_be_is_one_line(index: str, args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", index, *args]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == (2 if "texts are not shown" in captured.err else 1) and captured.out == ""


def test_a_missing_usearch_is_said_with_the_extra(index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    assert cli.main(["search", index, "a", "--approximate", "--device", "cpu"]) == 2
    assert "pip install -c constraints.txt -e '.[search]'" in capsys.readouterr().err
