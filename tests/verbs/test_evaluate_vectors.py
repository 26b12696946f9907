"""bertlab evaluate --task similarity|retrieval|clustering|probe: from the command line to files that compare and verify read."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bertlab import cli
from bertlab.disk import read_json, sha256_file
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()
TOPICS = {"water": ["river", "sea", "banks"], "air": ["birds", "sing", "spring"], "earth": ["stone", "hill", "old"]}


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    threads, before = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two models of random weights whose vectors differ."""
    tokenizer = tokenizers.train([" ".join(WORDS)] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    places = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = EncoderConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=24, initializer_range=0.4,
        )  # fmt: skip
        place = tmp_path_factory.mktemp("models") / f"model-{seed}"
        save_model(place, BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
        places.append(str(place))
    return places


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def labelled(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    topics = [list(TOPICS)[number % 3] for number in range(count)]
    return [{"id": f"{seed}-{n}", "text": " ".join(draw.choices(TOPICS[topic], k=6)), "label": topic} for n, topic in enumerate(topics)]


def pairs(count: int) -> list[dict[str, Any]]:
    """A text, the same with a word changed, and how many words of five are kept."""
    draw = random.Random(count)
    rows = []
    for _ in range(count):
        words = draw.choices(WORDS, k=5)
        kept = draw.randint(0, 5)
        rows.append({"text": " ".join(words), "text_b": " ".join(words[:kept] + draw.choices(WORDS, k=5 - kept)), "label": kept})
    return rows


def evaluate(task: str, model: str, data: str, out: Path, *options: str) -> dict[str, Any]:
    assert cli.main(["evaluate", "--task", task, "--model", model, "--data", data, "--out", str(out), "--device", "cpu", *options]) == 0
    metrics: dict[str, Any] = read_json(out / "metrics.json")
    files = read_json(out / "manifest.json")["files"]
    assert {"metrics.json", "predictions.parquet"} <= set(files)
    assert all(sha256_file(out / name) == files[name]["sha256"] for name in files)
    return metrics


def compared(tmp_path: Path, *options: str) -> dict[str, Any]:
    facts = tmp_path / "facts.json"
    runs = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert cli.main(["compare", "--runs", *runs, "--resamples", "200", "--json", str(facts), *options]) == 0
    found: dict[str, Any] = read_json(facts)
    return found


def test_similarity_is_written_as_cosines_that_compare_reads(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(60))
    of_a = evaluate("similarity", models[0], data, tmp_path / "a")
    (tmp_path / "score").mkdir()  # the same by the other name of the column
    data = write(
        tmp_path / "score" / "pairs.jsonl", [{"score" if name == "label" else name: row[name] for name in row} for row in pairs(60)]
    )
    of_b = evaluate("similarity", models[1], data, tmp_path / "b", "--pooling", "cls", "--dims", "8")
    assert of_a["spearman"] > 0.3 and of_a["vectors"] == {
        "pooling": "mean", "layers": [1], "dims": 16, "max_length": 24, "texts": 120, "truncated": 0,
    }  # fmt: skip
    assert (of_b["vectors"]["pooling"], of_b["vectors"]["dims"]) == ("cls", 8)
    of_words = of_a["baselines"]["TF-IDF"]["spearman"]
    assert re.search(rf"Spearman .* {of_a['spearman']:.3f} .* {of_words:.3f}\n", capsys.readouterr().out)
    assert of_words == of_b["baselines"]["TF-IDF"]["spearman"] and of_words > 0.3  # a pair's score is how many words are kept
    facts = compared(tmp_path)
    assert facts["task"] == "similarity" and [each["metric"] for each in facts["pairs"][0]["metrics"]] == ["spearman", "pearson"]
    assert facts["pairs"][0]["metrics"][0]["difference"] == pytest.approx(of_a["spearman"] - of_b["spearman"])


def test_retrieval_finds_texts_in_a_pool_with_further_ones(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**row, "label": "yes" if row["label"] >= 4 else "no"} for row in pairs(60)]
    data, corpus = write(tmp_path / "pairs.jsonl", rows), tmp_path / "more.txt"
    corpus.write_text("\n".join(" ".join(random.Random(n).choices(WORDS, k=5)) for n in range(40)) + "\n")
    found = [
        evaluate("retrieval", model, data, tmp_path / name, "--relevant", "yes", "--corpus", str(corpus))
        for model, name in zip(models, "ab", strict=True)
    ]
    columns = pq.read_table(tmp_path / "a" / "predictions.parquet").to_pydict()
    assert len(columns["id"]) == found[0]["n"] < 60 and found[0]["pool"] > 60
    assert {id for ids in columns["predicted"] for id in ids} & {f"more.txt:{line}" for line in range(1, 41)}
    assert found[0]["ndcg@10"] == pytest.approx(np.mean(columns["ndcg@10"])) and found[0]["recall@10"] > 0.5
    said = capsys.readouterr().out
    assert f"among {found[0]['pool']:,}" in said and "TF-IDF" in said
    of_words = found[0]["baselines"]["TF-IDF"]
    assert of_words["n"] == found[0]["n"] and 0.1 < of_words["recall@1"] <= of_words["mrr@10"] <= of_words["recall@10"] <= 1
    facts = compared(tmp_path, "--metrics", "mrr@10", "recall@1")
    difference = facts["pairs"][0]["metrics"][0]["difference"]
    assert difference == pytest.approx(found[0]["mrr@10"] - found[1]["mrr@10"])
    assert cli.main(["verify", "--folder", str(tmp_path / "a")]) == 0
    assert "corpus file" in capsys.readouterr().out


def test_groups_of_a_model_and_of_its_embeddings_are_the_same(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, vectors = write(tmp_path / "rows.jsonl", labelled(45, 1)), tmp_path / "vectors.parquet"
    metrics = evaluate("clustering", models[0], data, tmp_path / "a")
    assert metrics["v_measure"] > metrics["by_chance"]["high"] and metrics["labels"] == 3
    assert metrics["baselines"]["TF-IDF"]["v_measure"] == pytest.approx(1), "the labels have no word in common"
    assert "TF-IDF" in capsys.readouterr().out
    assert cli.main(["embed", "--model", models[0], "--input", data, "--output", str(vectors)]) == 0
    command = ["evaluate", "--task", "clustering", "--vectors", str(vectors), "--data", data, "--out", str(tmp_path / "file")]
    assert cli.main(command) == 0
    of_file = read_json(tmp_path / "file" / "metrics.json")
    different = {"vectors", "model", "geometry"}
    assert {k: v for k, v in of_file.items() if k not in different} == {k: v for k, v in metrics.items() if k not in different}
    assert cli.main(["verify", "--folder", str(tmp_path / "file")]) == 0
    said = capsys.readouterr().out
    assert "vectors" in said and "model" in said.rsplit("vectors.parquet", 1)[1]  # and on, to what made them
    evaluate("clustering", models[1], data, tmp_path / "b")
    result = compared(tmp_path)["pairs"][0]["metrics"][0]
    assert (result["metric"], result["test"]) == ("v_measure", "jackknife") and 0 <= result["p"] <= 1
    assert "jackknife" in capsys.readouterr().out
    assert cli.main(["compare", "--runs", str(tmp_path / "a"), f"x:{tmp_path / 'b'},{tmp_path / 'file'}"]) == 2
    write(tmp_path / "rows.jsonl", labelled(45, 1)[::-1])
    assert cli.main(command) == 3 and "was made of another rows.jsonl" in capsys.readouterr().err


def test_vectors_are_found_by_the_ids_of_the_column_that_embed_was_given(
    models: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    rows = {seed: [{"key": row.pop("id"), **row} for row in labelled(30, seed)] for seed in (1, 2)}
    data, train = (write(tmp_path / f"{seed}.jsonl", rows[seed]) for seed in rows)
    made = [str(tmp_path / f"{number}.npy") for number in (1, 2)]
    for path, vectors in zip((data, train), made, strict=True):
        assert cli.main(["embed", "--model", models[0], "--input", path, "--id", "key", "--output", vectors]) == 0
    line = refused(3, "--task", "clustering", "--vectors", *made, "--data", data)
    assert "no vector has the id '1.jsonl:1': embed the file that is evaluated" in line
    assert (
        f"name the same column of ids here (--id; of a file without it they are FILE:LINE; the ids of {made[0]} are of the column 'key')"
        in line
    )
    for task, *more in (("clustering",), ("probe", "--train", train)):
        command = ["evaluate", "--task", task, "--vectors", *made, "--data", data, *more, "--id", "key", "--out", str(tmp_path / task)]
        assert cli.main(command) == 0
        assert pq.read_table(tmp_path / task / "predictions.parquet")["id"].to_pylist() == [f"1-{n}" for n in range(30)]
    assert "no column 'kye': the columns are 'key'" in refused(3, "--task", "clustering", "--vectors", *made, "--data", data, "--id", "kye")


def test_nothing_of_somebody_elses_is_taken_away(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write(tmp_path / "rows.jsonl", labelled(30, 1)), tmp_path / "out"

    def refused() -> str:
        capsys.readouterr()
        assert cli.main(["evaluate", "--task", "clustering", "--model", models[0], "--data", data, "--out", str(out)]) == 2
        return capsys.readouterr().err

    def held(**files: str) -> Path:
        shutil.rmtree(out, ignore_errors=True)
        for name, text in files.items():
            path = out / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return out

    def tree() -> dict[str, bytes]:
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    for files in ({"notes_txt": "mine"}, {"metrics_json": '{"mine": 1}'}, {"figures__thesis_svg": "mine"}, {"predictions_parquet": "mine"}):
        before = (held(**files), tree())[1]
        assert "has content that is no evaluation of ours" in refused()
        assert tree() == before
    held()
    evaluate("clustering", models[0], data, out)
    (out / "notes.txt").write_text("mine")
    evaluate("clustering", models[1], data, out)  # its own are replaced, and what stands beside them stays
    assert (out / "notes.txt").read_text() == "mine"
    (out / "manifest.json").unlink()  # as a call leaves it that was cut off
    (out / "notes.txt").unlink()
    evaluate("clustering", models[0], data, out)
    (out / "mistakes.jsonl").write_text("mine")
    assert "mistakes.jsonl is there, and was not written by bertlab" in refused()
    (out / "mistakes.jsonl").unlink()
    (out / "metrics.json").write_text((out / "metrics.json").read_text() + " ")
    assert "metrics.json was changed since bertlab wrote it" in refused()


def test_a_probe_leaves_what_a_classifier_leaves(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, data = labelled(60, 2), labelled(30, 3)
    options = ("--train", write(tmp_path / "train.jsonl", [*train, data[0]]))
    metrics = evaluate("probe", models[0], write(tmp_path / "test.jsonl", data), tmp_path / "a", *options)
    assert metrics["task"] == "single-label" and metrics["macro"]["f1"] > 0.9 and metrics["labels"] == ["air", "earth", "water"]
    said = capsys.readouterr().out
    assert said.startswith("warning: ") and said.index("in train") < said.index("precision") < said.index("anisotropy")
    of_words = metrics["baselines"]["TF-IDF + logistic regression"]["macro"]["f1"]
    assert of_words > metrics["baselines"]["majority class"]["macro"]["f1"]
    assert f"TF-IDF + logistic regression: macro-F1 {of_words:.3f}" in said.splitlines()
    assert metrics["leakage"]["equal"] >= 1 and 0.8 < metrics["intervals"]["accuracy"]["low"] < 1
    evaluate("probe", models[1], str(tmp_path / "test.jsonl"), tmp_path / "b", *options, "--layer", "0")
    assert compared(tmp_path)["task"] == "single-label"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["evaluate", "--out", str(tmp_path / "out"), *options]) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("bertlab: ") and captured.err.count("\n") == 1 and not (tmp_path / "out").exists()
        return captured.err

    return check


def test_what_does_not_fit_together_is_refused_in_one_line(models: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    rows, two = write(tmp_path / "rows.jsonl", labelled(9, 1)), write(tmp_path / "pairs.jsonl", pairs(9))
    unscored = write(tmp_path / "words.jsonl", [{**row, "label": "alike"} for row in pairs(9)])
    model = ("--model", models[0])
    assert "give --model DIR, or" in refused(2, "--data", rows)
    assert "give --model DIR, or" in refused(2, *model, "--vectors", "v.npy", "--task", "clustering", "--data", rows)
    assert "vectors is for --task clustering or --task probe" in refused(2, "--vectors", "v.npy", "--task", "retrieval", "--data", two)
    assert "pooling is for --task similarity or" in refused(2, *model, "--data", rows, "--pooling", "cls")
    assert "train is for a fine-tuned model (no --task) or --task probe" in refused(
        2, *model, "--task", "clustering", "--data", rows, "--train", rows
    )
    assert "give --train FILE" in refused(2, *model, "--task", "probe", "--data", rows)
    assert "corpus is for --task retrieval" in refused(2, *model, "--task", "similarity", "--data", two, "--corpus", rows)
    assert "no second texts" in refused(3, *model, "--task", "similarity", "--data", rows)
    assert "no second texts" in refused(3, *model, "--task", "retrieval", "--data", rows)
    blank = write(tmp_path / "blank.jsonl", [{"text": "a", "text_b": "b"}, {"text": "a", "text_b": " "}, {"text": "", "text_b": "b"}])
    assert "blank.jsonl:2 and 1 more: a text is empty" in refused(3, *model, "--task", "retrieval", "--data", blank)
    assert "rows are pairs" in refused(3, *model, "--task", "clustering", "--data", two)
    assert "is no finite number" in refused(3, *model, "--task", "similarity", "--data", unscored)
    both = write(tmp_path / "both.jsonl", [{**row, "score": 1} for row in pairs(9)])
    assert "columns 'score' and 'label' are both here" in refused(3, *model, "--task", "similarity", "--data", both)
    assert "no row has the label 'yes'" in refused(3, *model, "--task", "retrieval", "--relevant", "yes", "--data", two)
    assert "dims=99" in refused(2, *model, "--task", "similarity", "--data", two, "--dims", "99")
