"""Sets of labels from file to folder: learnt, chosen, scored, written, compared, and the folder is one that transformers opens alike."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

import bertlab
from bertlab.corpus.labelled import Labelled
from bertlab.errors import ConfigError, DataError
from bertlab.evaluation.metrics import set_metrics
from bertlab.tasks.contract import Labels
from bertlab.tasks.multi_label import MULTI_LABEL, LabelSet
from bertlab.verbs import compare, evaluate, finetune

TOPICS = ["music", "plants", "sky", "water"]
Rows = list[tuple[str, set[str]]]


@pytest.fixture(scope="module")
def run(
    base: str, texts: Callable[..., Rows], write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """A finished run of two seeds, its metrics and the test file."""
    folder = tmp_path_factory.mktemp("sets")
    files: dict[str, Any] = {
        name: write(folder / f"{name}.jsonl", [{"text": text, "label": sorted(topics)} for text, topics in texts(count, seed)])
        for seed, (name, count) in enumerate({"train": 300, "test": 80}.items())
    }
    settings: dict[str, Any] = {"seeds": 2, "epochs": 10, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}
    metrics = finetune.run(finetune.Config(model=base, out=str(folder / "run"), **files, **settings))
    return folder / "run", metrics, files["test"]


def test_a_task_of_sets_is_told_by_its_lists_and_learnt_beside_its_baselines(
    run: tuple[Path, dict[str, Any], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, _ = run
    assert metrics["task"] == "multi-label" and metrics["labels"] == TOPICS
    commonest, tfidf = metrics["baselines"]["most frequent set"], metrics["baselines"]["TF-IDF + one-vs-rest logistic regression"]
    assert metrics["test"]["macro"]["f1"] > 0.8 > 0.5 > commonest["macro"]["f1"] and tfidf["macro"]["f1"] > 0.9
    best = max(metrics["seeds"], key=lambda seed: (seed["dev"]["macro"]["f1"], -seed["dev_loss"]))
    assert metrics["best_seed"] == best["seed"] and set(metrics["over_seeds"]) == {"macro_f1", "micro_f1", "exact_match"}
    assert metrics["test_intervals"]["macro"]["f1"]["low"] <= metrics["test"]["macro"]["f1"]
    page = (out / "report.html").read_text()
    assert all(shown in page for shown in ("macro-MCC", "test.macro_mcc", "test_intervals.hamming_loss.high"))


def test_the_predictions_file_has_the_sets_and_evaluating_the_folder_gives_it_again(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, test = run
    columns = pq.read_table(out / "predictions.parquet").to_pydict()
    sets = {name: np.array([[topic in labels for topic in TOPICS] for labels in columns[name]]) for name in ("gold", "predicted")}
    assert set_metrics(sets["gold"], sets["predicted"], TOPICS) == metrics["test"]
    assert (sets["predicted"] == (np.array(columns["probabilities"]) > 0.5)).all() and not sets["gold"].any(1).all()
    again = evaluate.run(evaluate.Config(model=str(out / "model"), data=test, out=str(tmp_path / "out"), device="cpu"))
    assert {name: again[name] for name in metrics["test"]} == metrics["test"] and again["task"] == "multi-label"
    other = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    np.testing.assert_allclose(other.pop("probabilities"), columns.pop("probabilities"), atol=1e-6)
    assert other == columns
    shown = capsys.readouterr().out
    assert "exact match" in shown and "macro average" in shown and "with 95% confidence" in shown


def test_transformers_opens_the_folder_as_multi_label_and_says_the_same(run: tuple[Path, dict[str, Any], str]) -> None:
    folder = str(run[0] / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.problem_type == "multi_label_classification" and list(model.config.id2label.values()) == TOPICS
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the old violin", "a comet in the river", "this place"]
    with torch.inference_mode():
        inputs = tokenize(texts, padding=True, return_tensors="pt")
        expected = model(**inputs).logits.sigmoid().numpy()
        targets = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
        theirs = float(model(**inputs, labels=targets).loss)
    found = bertlab.load(folder).predict(texts)
    np.testing.assert_allclose([list((each.uncalibrated or each.probabilities).values()) for each in found], expected, atol=1e-5)
    assert [set(each.labels) for each in found] == [{"music"}, {"sky", "water"}, set()] and isinstance(found[0], LabelSet)
    assert MULTI_LABEL.loss(targets.numpy() > 0, expected) == pytest.approx(theirs, rel=1e-5)


def test_systems_are_compared_by_their_sets(
    run: tuple[Path, dict[str, Any], str], base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, _ = run
    table = pq.read_table(out / "predictions.parquet")
    worse = [labels[:1] for labels in table["predicted"].to_pylist()]
    pq.write_table(table.set_column(3, "predicted", [worse]), tmp_path / "first-only.parquet")
    facts = compare.run(compare.Config(runs=(str(out), str(tmp_path / "first-only.parquet")), resamples=500))
    (pair,) = facts["pairs"]
    results = {result["metric"]: result for result in pair["metrics"]}
    assert facts["task"] == "multi-label" and list(results) == ["exact_match", "macro_f1", "micro_f1"]
    assert results["macro_f1"]["a"] == pytest.approx(metrics["test"]["macro"]["f1"])
    assert results["exact_match"]["test"] == "McNemar exact" and results["micro_f1"]["p"] < 0.01
    asked = compare.Config(runs=(str(tmp_path / "first-only.parquet"), str(out)), metrics=("macro_mcc", "hamming_loss"), resamples=500)
    correlation, loss = compare.run(asked)["pairs"][0]["metrics"]  # the worse system first: a lower correlation and a higher loss
    assert correlation["b"] == metrics["test"]["macro_mcc"] and loss["b"] == metrics["test"]["hamming_loss"]
    assert correlation["difference"] < 0 < loss["difference"] and (loss["lower_is_better"], correlation["lower_is_better"]) == (True, False)
    assert max(correlation["p"], loss["p"]) < 0.01
    both = compare.run(compare.Config(runs=(str(out / "predictions"), "again:" + str(out / "predictions")), resamples=200))
    assert both["pairs"][0]["claim_about"] == "methods" and abs(both["pairs"][0]["metrics"][0]["difference"]) < 1e-12
    with pytest.raises(ConfigError, match="unknown metric 'mcc'"):
        compare.run(compare.Config(runs=(str(out), f"other:{out}"), metrics=("mcc",)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "on 80 examples of 4 labels" in shown and shown.count("MCC, Matthews' correlation") == 1
    assert all(f"first-only is worse than run on this test set by {name}" in shown for name in ("macro-MCC", "Hamming loss"))


def test_labels_between_separators_are_lists_and_the_separator_must_fit_the_task(base: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"the {word} {n},{label}\n" for n in range(6) for word, label in [
        ("violin", "music"), ("comet river", "sky|water"), ("old", ""),
    ]))  # fmt: skip
    settings: dict[str, Any] = {"train": str(tmp_path / "t.csv"), "model": base, "out": str(tmp_path / "run"), "label_separator": "|"}
    settings |= {"seeds": 1, "epochs": 1, "device": "cpu", "test": str(tmp_path / "t.csv")}
    metrics = finetune.run(finetune.Config(**settings))
    assert metrics["labels"] == ["music", "sky", "water"] and metrics["test"]["labels_per_example"]["gold"] == 1.0
    scores = evaluate.run(evaluate.Config(
        model=str(tmp_path / "run/model"), data=str(tmp_path / "t.csv"), out=str(tmp_path / "out"), label_separator="|", device="cpu",
    ))  # fmt: skip
    assert scores["exact_match"] == metrics["test"]["exact_match"]
    with pytest.raises(ConfigError, match="label_separator is for several labels a text, and the task is single-label"):
        finetune.run(finetune.Config(**settings | {"task": "single-label", "out": str(tmp_path / "other")}))


def rows(sets: list[tuple[str, ...]]) -> Labelled:
    return Labelled([str(number) for number in range(len(sets))], [f"text {n}" for n in range(len(sets))], None, None, "made.jsonl", sets)


def test_a_dev_split_has_its_share_of_rare_labels_and_of_texts_without_any(base: str, write: Callable[..., str], tmp_path: Path) -> None:
    sets: list[tuple[str, ...]] = [("common",)] * 60 + [("common", "rare")] * 10 + [()] * 20
    gold = MULTI_LABEL.gold(rows(sets), Labels(["common", "rare"]))
    assert Counter(MULTI_LABEL.strata(gold)) == {0: 60, 1: 10, 2: 20}
    assert gold.sum(0).tolist() == [70, 10]


def test_labels_come_from_train_alone(base: str, write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [{"text": f"the {n}", "label": ["a"] if n % 2 else ["a", "b"]} for n in range(10)])
    test = write(tmp_path / "test.jsonl", [{"text": "old", "label": ["a"]}, {"text": "new", "label": ["b", "c"]}])
    with pytest.raises(DataError, match=r"test\.jsonl: label 'c' \(example test\.jsonl:2\) is not one that train has: 'a', 'b'"):
        finetune.run(finetune.Config(model=base, train=train, test=test, out=str(tmp_path / "run"), device="cpu"))
    empty = write(tmp_path / "empty.jsonl", [{"text": f"the {n}", "label": []} for n in range(10)])
    with pytest.raises(DataError, match="every list of labels is empty"):
        finetune.run(finetune.Config(model=base, train=empty, out=str(tmp_path / "run"), device="cpu"))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_likeliest_label_comes_first_and_a_text_may_have_none() -> None:
    labels = Labels(["a", "b", "c"])
    first, none = MULTI_LABEL.answers(np.array([[0.6, 0.9, 0.7], [0.1, 0.5, 0.2]]), labels)
    assert first.labels == first.given == ["b", "c", "a"] and none.labels == []
    assert first.as_row() == {"labels": ["b", "c", "a"], "probability": [0.9, 0.7, 0.6]}


def test_a_text_counts_under_its_rarest_label_when_dev_is_cut() -> None:
    gold = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)  # 3, 1 and 2 texts
    assert MULTI_LABEL.strata(gold) == [1, 0, 2, 2, 3]


def test_a_suspected_label_stands_with_how_far_the_model_is_on_the_other_side() -> None:
    sure = np.array([0.9, 0.1] * 30)
    gold = np.stack([sure > 0.5, sure > 0.5], 1)
    probabilities = np.stack([sure, sure], 1)
    gold[[4, 7], [0, 1]] ^= True  # one left out, one given too much
    probabilities[4, 0] = 0.95
    rows = Labelled([str(row) for row in range(60)], ["text"] * 60, None, None, "rows")
    assert MULTI_LABEL.suspects is not None
    found, weak = MULTI_LABEL.suspects(rows, gold, probabilities, Labels(["a", "b"]))
    assert weak == [] and [(each["row"], each["label"], each["given"]) for each in found] == [(4, "a", False), (7, "b", True)]
    assert [(each["probability"], each["margin"]) for each in found] == [pytest.approx((0.95, -0.9)), pytest.approx((0.1, -0.8))]


def test_the_loss_is_finite_where_a_sigmoid_has_rounded_to_certainty() -> None:
    gold = np.array([[True, False]])
    assert MULTI_LABEL.loss(gold, np.array([[1.0, 0.0]], np.float32)) < 1e-6
    assert 10 < MULTI_LABEL.loss(gold, np.array([[0.0, 1.0]], np.float32)) < 100


@pytest.mark.parametrize("long", ["tail", "windows"])
def test_what_stands_at_the_end_of_long_texts_is_seen_where_it_is_asked_for_and_evaluating_asks_alike(
    base: str, write: Callable[..., str], tmp_path: Path, long: str
) -> None:
    def row(number: int) -> dict[str, Any]:
        telling, label = [("violin", ["music"]), ("comet", ["sky"])][number % 2]
        return {"text": f"{'the old one of a great place ' * 5}{telling}", "label": label}

    train, test = (
        write(tmp_path / f"{name}.jsonl", [row(number) for number in range(count)]) for name, count in (("train", 80), ("test", 20))
    )
    settings: dict[str, Any] = {
        "train": train,
        "dev": test,
        "test": test,
        "seeds": 1,
        "learning_rate": 1e-2,
        "device": "cpu",
        "baselines": False,
    }
    blind = finetune.run(finetune.Config(model=base, out=str(tmp_path / "head"), **settings | {"epochs": 1}))
    seeing = finetune.run(finetune.Config(model=base, out=str(tmp_path / "long"), long=long, epochs=8, **settings))  # type: ignore[arg-type]
    assert blind["test"]["exact_match"] <= 0.5 and seeing["test"]["exact_match"] == 1.0
    assert blind["cut"]["test"] == {"truncated": 20} and seeing["cut"]["test"] == {"truncated" if long == "tail" else "in windows": 20}
    again = evaluate.run(evaluate.Config(model=str(tmp_path / "long/model"), data=test, out=str(tmp_path / "out"), device="cpu"))
    assert again["exact_match"] == 1.0
    pairs = write(tmp_path / "pairs.jsonl", [row(number) | {"text_b": "the"} for number in range(10)])
    with pytest.raises(ConfigError, match="long=windows: .* has pairs"):
        finetune.run(finetune.Config(model=base, train=pairs, dev=pairs, out=str(tmp_path / "pairs"), long="windows", device="cpu"))
