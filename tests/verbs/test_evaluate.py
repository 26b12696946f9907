"""bertlab evaluate: metrics.json is scikit-learn's word on predictions.parquet, and both are what the model says of each row."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, matthews_corrcoef, roc_auc_score

from bertlab import cli
from bertlab.corpus.labelled import read_labelled
from bertlab.disk import read_json, sha256_file, write_sealed
from bertlab.errors import ConfigError, DataError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import evaluate, finetune, predict
from bertlab.verbs.evaluate import Config

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()
CLASSES = ["fish", "bird", "tree", "moss"]  # in no order, and moss is in no test row


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A classifier of random weights, large enough for its answers to differ, and a pretrained folder."""
    tokenizer = tokenizers.train([" ".join(WORDS)] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "model", BertForSequenceClassification(config, 4), tokenizer, facts={}, card="# A card\n", labels=CLASSES)
    save_model(folder / "pretrained", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    return {"run": str(folder), "classifier": str(folder / "model"), "pretrained": str(folder / "pretrained")}


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of_topics(count: int, pairs: bool = False) -> list[dict[str, str]]:
    draw = random.Random(count)
    rows = []
    for number in range(count):
        row = {"id": f"row {number}", "text": " ".join(draw.choices(WORDS, k=draw.randint(1, 15))), "label": draw.choice(CLASSES[:3])}
        rows.append(row | ({"text_b": " ".join(draw.choices(WORDS, k=3))} if pairs else {}))
    return rows


def run(model: str, data: str, out: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The metrics, and the columns of predictions.parquet."""
    metrics = evaluate.run(Config(model=model, data=data, out=str(out), device="cpu", precision="fp32", **settings))
    return metrics, pq.read_table(out / "predictions.parquet").to_pydict()


def test_the_metrics_are_scikit_learns_on_the_predictions_file(folders: dict[str, str], tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", rows_of_topics(80))
    metrics, columns = run(folders["classifier"], data, tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json") == metrics
    gold, predicted = columns["gold"], columns["predicted"]
    report = classification_report(gold, predicted, labels=CLASSES, output_dict=True, zero_division=0.0)
    for name in CLASSES:
        ours = metrics["per_class"][name]
        assert [ours["precision"], ours["recall"], ours["f1"], ours["support"]] == list(report[name].values())
    for kind in ("macro", "weighted"):
        assert list(metrics[kind].values()) == list(report[f"{kind} avg"].values())[:3]
    assert metrics["accuracy"] == accuracy_score(gold, predicted) and metrics["n"] == 80
    assert metrics["confusion_matrix"] == confusion_matrix(gold, predicted, labels=CLASSES).tolist()
    assert len(set(predicted)) > 1 and metrics["labels"] == CLASSES
    assert metrics["model"]["sha256"] == sha256_file(Path(folders["classifier"]) / "model.safetensors")
    assert metrics["data"] == {"name": "data.jsonl", "sha256": sha256_file(Path(data))}


@pytest.mark.parametrize("pairs", [False, True])
def test_each_row_has_what_transformers_says_of_it(folders: dict[str, str], tmp_path: Path, pairs: bool) -> None:
    rows = rows_of_topics(30, pairs)
    _, columns = run(folders["classifier"], write(tmp_path / "data.jsonl", rows), tmp_path / "out")
    assert columns["id"] == [row["id"] for row in rows] and columns["gold"] == [row["label"] for row in rows]
    assert columns["text_sha256"] == read_labelled(tmp_path / "data.jsonl").text_hashes()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folders["classifier"]).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folders["classifier"])
    texts_b = [row["text_b"] for row in rows] if pairs else None
    with torch.inference_mode():
        logits = model(
            **tokenize([row["text"] for row in rows], texts_b, padding=True, truncation=True, max_length=24, return_tensors="pt")
        ).logits
    np.testing.assert_allclose(columns["probabilities"], logits.softmax(-1).numpy(), atol=1e-5)
    assert columns["predicted"] == [model.config.id2label[number] for number in logits.argmax(-1).tolist()]


def test_a_fine_tuned_model_says_the_same_as_at_the_end_of_its_training(folders: dict[str, str], tmp_path: Path) -> None:
    train, test = write(tmp_path / "train.jsonl", rows_of_topics(40)), write(tmp_path / "test.jsonl", rows_of_topics(20))
    settings: dict[str, Any] = {"seeds": 1, "epochs": 1, "baselines": False, "device": "cpu", "precision": "fp32"}
    tuned = finetune.run(finetune.Config(model=folders["pretrained"], train=train, test=test, out=str(tmp_path / "run"), **settings))
    metrics, columns = run(str(tmp_path / "run" / "model"), test, tmp_path / "out")
    at_the_end = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    np.testing.assert_allclose(columns.pop("probabilities"), at_the_end.pop("probabilities"), atol=1e-6)
    assert columns == at_the_end
    assert tuned["test"] == {name: metrics[name] for name in tuned["test"]}

    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*") if path.is_file()}
    with pytest.raises(ConfigError, match="is a run folder, with metrics of its own: choose another --out"):
        run(str(tmp_path / "run" / "model"), test, tmp_path / "run")
    with pytest.raises(DataError, match="was fine-tuned on single texts: give no text_b"):
        run(str(tmp_path / "run" / "model"), write(tmp_path / "pairs.jsonl", rows_of_topics(5, pairs=True)), tmp_path / "pairs")
    assert before == {path: path.read_bytes() for path in before} and not (tmp_path / "pairs").exists()


def test_columns_may_have_other_names_and_the_scores_are_shown(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_topics(12)
    plain, _ = run(folders["classifier"], write(tmp_path / "plain.jsonl", rows), tmp_path / "plain")
    renamed = [{"said": row["text"], "kind": row["label"], "text": "not this"} for row in rows]
    assert "replace" not in (shown := capsys.readouterr().out) and "earlier scores" not in shown
    (tmp_path / "plain.html").write_text("a page of the first scores")
    other, _ = run(folders["classifier"], write(tmp_path / "other.jsonl", renamed), tmp_path / "plain", text="said", label="kind")
    assert all(plain[name] == other[name] for name in plain if name != "data")
    shown = capsys.readouterr().out
    page, out = tmp_path / "plain.html", tmp_path / "plain"
    assert f"note: {page} is a page of earlier scores: bertlab report {out} makes it anew" in shown
    assert f"accuracy {plain['accuracy']:.3f} of 12" in shown and str(tmp_path / "plain" / "metrics.json") in shown
    assert (
        f"note: {tmp_path / 'plain'} held the scores of {folders['classifier']} on {tmp_path / 'plain.jsonl'}: these replace them" in shown
    )


def test_columns_of_the_fine_tuning_need_no_second_naming(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_topics(24)
    named = [{"id": row["id"], "said": row["text"], "kinds": row["label"] + "|all", "text": "not this", "label": "odd"} for row in rows]
    train, model = write(tmp_path / "train.jsonl", named), str(tmp_path / "run" / "model")
    settings: dict[str, Any] = {"seeds": 1, "epochs": 1, "baselines": False, "device": "cpu", "precision": "fp32"}
    columns: dict[str, Any] = {"text": "said", "label": "kinds", "label_separator": "|"}
    finetune.run(finetune.Config(model=folders["pretrained"], train=train, out=str(tmp_path / "run"), **settings, **columns))
    assert read_json(tmp_path / "run" / "model" / "bertlab.json")["columns"] == columns
    asked, answers = run(model, train, tmp_path / "asked", **columns)
    assert run(model, train, tmp_path / "unasked", train=train)[1] == answers
    usual = write(tmp_path / "usual.jsonl", [{"id": row["id"], "text": row["said"], "label": row["kinds"]} for row in named])
    assert run(model, usual, tmp_path / "usual")[1] == answers  # which has the names of the task
    both = write(tmp_path / "both.jsonl", [row | {"text": row["said"], "said": "not this"} for row in named])
    assert run(model, both, tmp_path / "both", text="text")[1] == answers  # what is asked for wins
    odd = write(tmp_path / "odd.jsonl", [{"body": row["said"], "kinds": row["kinds"]} for row in named])
    for table, says in ((odd, "'said', as the model was fine-tuned, and 'text'"), (usual, "no column 'body'")):
        with pytest.raises(DataError, match=says):
            run(model, table, tmp_path / "odd", **({"text": "body"} if table == usual else {}))
    assert cli.main(["evaluate", "--model", model, "--data", odd, "--out", str(tmp_path / "odd")]) == 3
    assert capsys.readouterr().err.endswith("as the model was fine-tuned, and 'text'): name the right one with --text\n")

    output = tmp_path / "answers.jsonl"
    for source in (train, usual):
        predict.run(predict.Config(model=model, input=source, output=str(output), device="cpu"))
        assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == [row["text"] for row in rows]


def test_texts_that_are_too_long_are_cut_and_counted(folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "river " * count, "label": "fish"} for count in (5, 22, 23, 400)]
    metrics, _ = run(folders["classifier"], write(tmp_path / "data.jsonl", rows), tmp_path / "out")
    assert metrics["truncated"] == 2 and "2 of 4 texts were longer than 24 tokens and truncated" in capsys.readouterr().out


def test_leaks_are_told_before_any_number_and_the_files_are_those_of_the_manifest(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_topics(60)
    data, train = write(tmp_path / "data.jsonl", rows), write(tmp_path / "train.jsonl", rows[:20])
    metrics, columns = run(folders["classifier"], data, tmp_path / "out", train=train)
    shown = capsys.readouterr().out
    assert shown.startswith("warning: ") and " of 60 test texts are in train (the whole file) too: " in shown.splitlines()[0]
    assert metrics["leakage"]["equal"] >= 20 and shown.index("in train") < shown.index("precision") < shown.index("ROC-AUC")
    gold, probabilities = np.array(columns["gold"]), np.array(columns["probabilities"])
    areas = metrics["roc_auc"]["per_class"]
    assert areas["fish"] == pytest.approx(roc_auc_score(gold == "fish", probabilities[:, 0])) and areas["moss"] is None
    assert metrics["mcc"] == pytest.approx(matthews_corrcoef(gold, columns["predicted"]))
    assert metrics["intervals"]["roc_auc"]["macro"]["low"] < metrics["roc_auc"]["macro"] < metrics["intervals"]["roc_auc"]["macro"]["high"]
    assert "after" not in metrics["calibration"]  # this model was never shown a dev set
    wrong = [json.loads(line) for line in (tmp_path / "out" / "mistakes.jsonl").read_text().splitlines()]
    assert len(wrong) == sum(a != b for a, b in zip(columns["gold"], columns["predicted"], strict=True)) > 0
    assert wrong[0]["probability"] == max(each["probability"] for each in wrong) and wrong[0]["text"][:20] in shown
    files = read_json(tmp_path / "out" / "manifest.json")["files"]
    assert {"metrics.json", "predictions.parquet", "mistakes.jsonl", "figures/confusion.svg"} <= set(files)
    assert all(sha256_file(tmp_path / "out" / name) == files[name]["sha256"] for name in files)
    run(folders["classifier"], data, tmp_path / "unknown")
    assert capsys.readouterr().out.startswith("leaks       not looked for: give --train")


def test_scores_of_another_model_or_of_other_data_are_not_replaced_in_silence(tmp_path: Path) -> None:
    data, files = {"path": "one.jsonl", "sha256": "aa"}, {"model.safetensors": "bb"}
    before = {"data": data, "model": {"path": "tuned/model", "files": files}}
    write_sealed(tmp_path / "manifest.json", {"from": before, "files": {}})
    says = [f"note: {tmp_path} held the scores of tuned/model on one.jsonl: these replace them"]
    assert evaluate._replaced(tmp_path, before) == []
    moved = {"data": data | {"path": "moved.jsonl"}, "model": {"path": "moved", "files": files}}
    assert evaluate._replaced(tmp_path, moved) == []
    assert evaluate._replaced(tmp_path, before | {"data": data | {"sha256": "cc"}}) == says
    assert evaluate._replaced(tmp_path, before | {"model": {"path": "tuned/model", "files": {"model.safetensors": "cc"}}}) == says
    assert evaluate._replaced(tmp_path, {"data": data, "vectors": [{"path": "v.npy", "sha256": "bb"}]}) == says
    (tmp_path / "manifest.json").write_text("{}")  # of a damaged one nothing is said
    assert evaluate._replaced(tmp_path, before) == evaluate._replaced(tmp_path / "nothing", before) == []


def test_ids_are_those_of_the_column_that_is_named_and_those_of_train_may_be_others(folders: dict[str, str], tmp_path: Path) -> None:
    rows = rows_of_topics(8)
    data = write(tmp_path / "data.jsonl", [{**row, "key": f"key {number}"} for number, row in enumerate(rows)])
    _, columns = run(folders["classifier"], data, tmp_path / "out", id="key", train=write(tmp_path / "train.jsonl", rows_of_topics(9)))
    assert columns["id"] == [f"key {number}" for number in range(8)]


def test_a_folder_that_is_no_evaluation_keeps_its_manifest(folders: dict[str, str], tmp_path: Path) -> None:
    data, kept = write(tmp_path / "data.jsonl", rows_of_topics(4)), Path(folders["pretrained"]) / "manifest.json"
    before = kept.read_bytes()
    with pytest.raises(ConfigError, match=r"pretrained is a folder of another kind \(model\): choose another --out"):
        run(folders["classifier"], data, kept.parent)
    with pytest.raises(ConfigError, match=r"data.jsonl is a file, and --out is a folder"):
        run(folders["classifier"], data, Path(data))
    assert kept.read_bytes() == before


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    before = dict(os.environ)

    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["evaluate", *options]) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("bertlab: ") and captured.err.count("\n") == 1 and captured.out == ""
        return captured.err

    yield check
    os.environ.clear()
    os.environ.update(before)


def test_what_cannot_be_scored_is_refused_in_one_line_and_leaves_nothing(
    folders: dict[str, str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    good = write(tmp_path / "good.jsonl", rows_of_topics(4))
    unseen = write(tmp_path / "unseen.jsonl", [*rows_of_topics(2), {"text": "a stone", "label": "stone"}])
    bare = write(tmp_path / "bare.jsonl", [{"text": "a stone"}])
    out = tmp_path / "out"

    def line(code: int, model: str, data: str) -> str:
        message = refused(code, "--model", model, "--data", data, "--out", str(out))
        assert not out.exists()
        return message

    message = line(3, folders["classifier"], unseen)
    assert "unseen.jsonl: label 'stone' (example unseen.jsonl:3)" in message and "the model's classes" in message
    assert "has no classifier: fine-tune it first" in line(2, folders["pretrained"], good)
    assert "nothing: no such file or folder: correct the path" in line(2, str(tmp_path / "nothing"), good)
    assert "did you mean the folder `model` inside it?" in line(2, folders["run"], good)
    assert "no column 'label'" in line(3, folders["classifier"], bare).replace('"', "'")
    assert "no such file or folder: correct --data" in line(2, folders["classifier"], str(tmp_path / "nothing.csv"))
