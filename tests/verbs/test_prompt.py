"""bertlab prompt: the files of an evaluation from a template and words alone, and a line for what cannot be asked."""

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
from sklearn.metrics import accuracy_score, f1_score

import bertlab
from bertlab import cli
from bertlab.batches.cloze import parse_template
from bertlab.cloze import answer, label_words
from bertlab.corpus.labelled import read_labelled
from bertlab.disk import read_json, read_sealed, sha256_file
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import compare, evaluate, prompt, verify

SENTENCE = "the old river runs from a stone hill to the sea , and birds sing over its banks in spring . is this about ?"
WORDS = [word for word in SENTENCE.split() if word.isalpha()]
TEMPLATE = "{text} is this about [MASK]?"
LABEL_WORDS = ("water:river,sea", "land:hill,stone", "air:birdsong")
LABELS = ["water", "land", "air"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A pretrained folder of random weights, large enough for its answers to differ, and a classifier of the same labels."""
    tokenizer = tokenizers.train([SENTENCE] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, type_vocab_size=2, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "pretrained", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    save_model(folder / "model", BertForSequenceClassification(config, 3), tokenizer, facts={}, card="# A card\n", labels=sorted(LABELS))
    return {"pretrained": str(folder / "pretrained"), "classifier": str(folder / "model")}


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def some_rows(count: int, pairs: bool = False) -> list[dict[str, str]]:
    draw = random.Random(count)
    rows = []
    for number in range(count):
        row = {"id": f"row {number}", "text": " ".join(draw.choices(WORDS, k=draw.randint(1, 12))), "label": draw.choice(LABELS)}
        rows.append(row | ({"text_b": " ".join(draw.choices(WORDS, k=3))} if pairs else {}))
    return rows


def run(model: str, data: str, out: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The metrics, and the columns of predictions.parquet."""
    given: dict[str, Any] = {"template": (TEMPLATE,), "words": LABEL_WORDS, "device": "cpu"} | settings
    metrics = prompt.run(prompt.Config(model=model, data=data, out=str(out), **given))
    return metrics, pq.read_table(out / "predictions.parquet").to_pydict()


def test_the_files_are_those_of_an_evaluation(folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data.jsonl", some_rows(60))
    metrics, columns = run(folders["pretrained"], data, tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json") == metrics
    rows = read_labelled(data)
    assert (columns["id"], columns["text_sha256"], columns["gold"]) == (rows.ids, rows.text_hashes(), rows.labels)
    model = bertlab.load(folders["pretrained"])
    words = label_words(model.tokenizer, {"water": ["river", "sea"], "land": ["hill", "stone"], "air": ["birdsong"]})
    expected = answer(model, [parse_template(TEMPLATE)], words, (rows.texts, None)).probabilities
    np.testing.assert_allclose(columns["probabilities"], expected, atol=1e-6)
    assert columns["predicted"] == [LABELS[number] for number in expected.argmax(1)] and len(set(columns["predicted"])) > 1
    assert metrics["accuracy"] == accuracy_score(columns["gold"], columns["predicted"])
    assert metrics["macro"]["f1"] == f1_score(columns["gold"], columns["predicted"], labels=LABELS, average="macro", zero_division=0.0)
    evaluated = evaluate.run(evaluate.Config(model=folders["classifier"], data=data, out=str(tmp_path / "evaluated"), device="cpu"))
    of_a_trained_model = {"calibration", "cut", "roc_auc", "pr_auc", "leakage", "label_errors"}
    assert (
        evaluated.keys() - of_a_trained_model <= metrics.keys()
        and metrics["labels"] == LABELS
        and metrics["intervals"]["accuracy"]["method"] == "Wilson"
    )
    shown = capsys.readouterr().out
    assert f"accuracy {metrics['accuracy']:.3f} of 60" in shown
    assert "1 template, 3 labels, pieces together, words by mean, calibration none" in shown


def test_a_folder_of_scores_may_become_that_of_a_prompt_and_back(folders: dict[str, str], tmp_path: Path) -> None:
    data, out = write(tmp_path / "data.jsonl", some_rows(40)), tmp_path / "out"
    for _ in range(2):
        evaluate.run(evaluate.Config(model=folders["classifier"], data=data, out=str(out), device="cpu"))
        assert (out / "mistakes.jsonl").exists()
        run(folders["pretrained"], data, out)
        assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "metrics.json", "predictions.parquet"]


def test_it_is_compared_with_a_classifier_and_verified_like_one(folders: dict[str, str], tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", some_rows(60))
    run(folders["pretrained"], data, tmp_path / "prompted")
    evaluate.run(evaluate.Config(model=folders["classifier"], data=data, out=str(tmp_path / "evaluated"), device="cpu"))
    facts = compare.run(compare.Config(runs=(str(tmp_path / "prompted"), str(tmp_path / "evaluated")), resamples=200))
    assert facts["n"] == 60
    manifest = read_sealed(tmp_path / "prompted" / "manifest.json")
    assert manifest["from"]["data"]["sha256"] == sha256_file(Path(data))
    verify.run(verify.Config(folder=(str(tmp_path / "prompted"),)))


def test_what_was_asked_stands_in_the_metrics(folders: dict[str, str], tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", some_rows(10))
    templates = (TEMPLATE, "[MASK]: {text}")
    metrics, _ = run(
        folders["pretrained"], data, tmp_path / "out", template=templates, calibration="content-free", pieces="in-turn", aggregate="max"
    )
    asked = metrics["prompt"]
    assert asked["templates"] == list(templates) and asked["words"]["water"] == {"river": ["river"], "sea": ["sea"]}
    assert "".join(asked["words"]["air"]["birdsong"]).replace("##", "") == "birdsong" and len(asked["words"]["air"]["birdsong"]) > 1
    assert (asked["pieces"], asked["aggregate"], asked["calibration"]) == ("in-turn", "max", "content-free")
    assert len(asked["priors"]) == 2 and all(sum(prior.values()) == pytest.approx(1) for prior in asked["priors"])


def test_calibration_changes_answers_and_unlabelled_texts_may_be_others(folders: dict[str, str], tmp_path: Path) -> None:
    data, others = write(tmp_path / "data.jsonl", some_rows(40)), write(tmp_path / "others.jsonl", [{"text": "the old river"}])
    found = {
        name: run(folders["pretrained"], data, tmp_path / name, **settings)
        for name, settings in {
            "none": {},
            "content-free": {"calibration": "content-free"},
            "texts": {"calibration": "texts"},
            "others": {"calibration": "texts", "unlabelled": others},
        }.items()
    }
    probabilities = {name: np.array(columns["probabilities"]) for name, (_, columns) in found.items()}
    assert min(np.abs(probabilities[a] - probabilities[b]).max() for a in found for b in found if a < b) > 0.01
    plain = probabilities["none"]
    expected = plain / plain.mean(0)
    np.testing.assert_allclose(probabilities["texts"], expected / expected.sum(1, keepdims=True), atol=1e-5)
    assert [metrics["prompt"]["prior_of"] for metrics, _ in found.values()] == ["content-free", "content-free", "texts", "texts"]


def test_without_words_the_labels_names_are_the_words(folders: dict[str, str], tmp_path: Path) -> None:
    rows = [{"text": "the old sea", "label": label} for label in ("sea", "old_hill", "river", "sea")]
    metrics, columns = run(folders["pretrained"], write(tmp_path / "data.jsonl", rows), tmp_path / "out", words=())
    assert metrics["labels"] == ["old_hill", "river", "sea"] and metrics["prompt"]["words"]["old_hill"] == {"old hill": ["old", "hill"]}
    assert columns["gold"] == [row["label"] for row in rows]


def test_texts_without_labels_give_predictions_alone(folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("the old river\n\n")
    metrics, columns = run(folders["pretrained"], str(tmp_path / "texts.txt"), tmp_path / "out")
    assert columns["gold"] == [None, None] and set(columns["predicted"]) <= set(LABELS)
    assert "accuracy" not in metrics and sum(metrics["predicted"].values()) == metrics["n"] == 2
    printed = capsys.readouterr().out
    assert "no labels in column 'label'" in printed and "note: 1 text without a word, answered as all others\n" in printed


def test_pairs_are_asked_about_in_two_segments(folders: dict[str, str], tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", some_rows(20, pairs=True))
    both = run(folders["pretrained"], data, tmp_path / "a", template=("{text}? [SEP] [MASK], {text_b}",))[1]
    one = run(folders["pretrained"], data, tmp_path / "b", template=("{text}? [MASK], {text_b}",))[1]
    first = run(folders["pretrained"], data, tmp_path / "c", template=("{text}? [MASK]",))[1]
    assert both["text_sha256"] == one["text_sha256"] == first["text_sha256"] == read_labelled(data).text_hashes()
    assert min(np.abs(np.array(a["probabilities"]) - b["probabilities"]).max() for a, b in ((both, one), (one, first))) > 0.01


def test_long_texts_are_cut_and_counted(folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 32 tokens, less [CLS] is this about ? [SEP] and the pieces of "birdsong"
    room = 32 - 6 - len(bertlab.load(folders["pretrained"]).tokenizer.encode(["birdsong"])[0])
    rows = [{"text": "river " * count, "label": "land"} for count in (5, room, room + 1, 400)]
    metrics, _ = run(folders["pretrained"], write(tmp_path / "data.jsonl", rows), tmp_path / "out")
    assert metrics["truncated"] == 2 and "2 of 4 texts were cut to fit 32 tokens" in capsys.readouterr().out


def test_baselines_stand_beside_the_scores(folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "the old river", "label": "water"}] * 3 + [{"text": "a stone", "label": "land"}]
    data = write(tmp_path / "data.jsonl", rows)
    bare, _ = run(folders["pretrained"], data, tmp_path / "a")
    assert bare["baselines"]["majority class (of these labels)"]["accuracy"] == 0.75 and len(bare["baselines"]) == 2
    train = write(tmp_path / "train.jsonl", [{"text": "the stone", "label": "land"}] * 3 + [{"text": "a river", "label": "water"}])
    trained, columns = run(folders["pretrained"], data, tmp_path / "b", train=train)
    assert trained["baselines"]["majority class (of train)"]["accuracy"] == 0.25
    assert trained["baselines"]["TF-IDF + logistic regression on 4 labelled texts"]["accuracy"] == 1.0
    assert columns["probabilities"] == pq.read_table(tmp_path / "a" / "predictions.parquet").to_pydict()["probabilities"]
    preference = next(name for name in bare["baselines"] if "preference" in name)
    alone = bertlab.load(folders["pretrained"])
    words = label_words(alone.tokenizer, {"water": ["river", "sea"], "land": ["hill", "stone"], "air": ["birdsong"]})
    prior = answer(alone, [parse_template(TEMPLATE)], words, (["N/A", "[MASK]", ""], None)).probabilities.mean(0)
    assert preference == f"always {LABELS[int(prior.argmax())]!r}, the templates' preference"
    assert "not shown to be better than always the majority class" in capsys.readouterr().out


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    before = dict(os.environ)

    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["prompt", *options]) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("bertlab: ") and captured.err.count("\n") == 1 and captured.out == ""
        return captured.err

    yield check
    os.environ.clear()
    os.environ.update(before)


def test_what_cannot_be_asked_is_refused_in_one_line_and_leaves_nothing(
    folders: dict[str, str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    good, out = write(tmp_path / "good.jsonl", some_rows(6)), tmp_path / "out"
    (tmp_path / "bare.txt").write_text("the old river\n")

    def line(code: int, *options: str, model: str = folders["pretrained"], data: str = good, template: str = TEMPLATE) -> str:
        message = refused(code, "--model", model, "--data", data, "--out", str(out), "--template", template, *options)
        assert not out.exists()
        return message

    words = ("--words", *LABEL_WORDS)
    assert "0 times [MASK]" in line(2, *words, template="{text} is it")
    assert "{txt} is no place for a text" in line(2, *words, template="{txt} [MASK]")
    assert "no second texts" in line(3, *words, template="{text} [MASK] {text_b}")
    assert "has no masked-word head" in line(2, *words, model=folders["classifier"])
    assert "write LABEL:WORD" in line(2, "--words", "water")
    assert "write LABEL:WORD" in line(2, "--words", ":river")
    assert "'water' is given twice" in line(2, "--words", "water:river", "water:sea")
    assert "none for 'water'" in line(2, "--words", "water:", "land:hill")
    assert "stands for 'water' and for 'land'" in line(2, "--words", "water:river", "land:river")
    assert "words for 1 label" in line(2, "--words", "water:river")
    assert "there are no words for the label" in line(3, "--words", *LABEL_WORDS[:2]) and "--words has 'water', 'land'" in line(
        3, "--words", *LABEL_WORDS[:2]
    )
    assert "seems to have several labels" in line(2, "--words", "water:river,land:hill")
    (tmp_path / "partly.csv").write_text("text,label\na,water\nb,\nc,land\n")
    assert "partly.csv: 1 of 3 rows have no label (the first: partly.csv:3): give every row one" in line(
        3, *words, data=str(tmp_path / "partly.csv")
    )
    (tmp_path / "train.csv").write_text("text,label\na,water\nb,fire\n")
    of_train = line(3, *words, "--train", str(tmp_path / "train.csv"))
    assert "train.csv: there are no words for the label 'fire'" in of_train
    assert "has no column 'label' of labels" in line(2, data=str(tmp_path / "bare.txt"))
    assert "is for calibration=texts" in line(2, *words, "--unlabelled", good)
    assert "no such file or folder: correct --data" in line(2, *words, data=str(tmp_path / "nothing.csv"))
    assert "leaves no room for a text" in line(2, *words, template="{text} [MASK]" + " river" * 40)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    options = ("--model", folders["pretrained"], "--data", good, "--template", TEMPLATE, *words, "--out", str(tmp_path / "run"))
    assert "is a run folder" in refused(2, *options)


def test_a_model_of_one_segment_is_not_asked_in_two(folders: dict[str, str], tmp_path: Path, refused: Callable[..., str]) -> None:
    tokenizer = bertlab.load(folders["pretrained"]).tokenizer
    config = EncoderConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, type_vocab_size=1)
    save_model(tmp_path / "one" / "model", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    data = write(tmp_path / "data.jsonl", some_rows(3))
    options = ("--model", str(tmp_path / "one" / "model"), "--data", data, "--out", str(tmp_path / "out"), "--words", *LABEL_WORDS)
    assert "has two segments" in refused(2, *options, "--template", "{text} [SEP] [MASK]")
