"""Entities from file to folder: told by the columns, learnt, scored as entities, compared; transformers opens the folder and agrees."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

import bertlab
from bertlab.corpus.labelled_tokens import LabelledTokens
from bertlab.corpus.schemes import spans_of
from bertlab.errors import DataError
from bertlab.evaluation.entities import entity_metrics
from bertlab.tasks.contract import Labels
from bertlab.tasks.tokens import TOKENS, Entities, Entity, Tagged
from bertlab.verbs import compare, evaluate, finetune

COMMON = ["the", "old", "one", "of", "a", "great", "many", "in", "this", "place", "was"]
QUICK: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}


def sentences(count: int, seed: int) -> list[dict[str, Any]]:
    """Each with entities of a word or two: "violin" is a thing, "comet river" a place, and "river" alone is nothing."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(draw.randint(1, 3)):
            common = draw.choices(COMMON, k=draw.randint(1, 3))
            more, its = draw.choice([(["violin"], ["B-thing"]), (["comet", "river"], ["B-place", "I-place"]), (["river"], ["O"])])
            words += [*common, *more]
            tags += ["O"] * len(common) + its
        rows.append({"tokens": words, "tags": tags})
    return rows


@pytest.fixture(scope="module")
def run(base: str, write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("entities")
    files: dict[str, Any] = {
        name: write(folder / f"{name}.jsonl", sentences(count, seed))
        for seed, (name, count) in enumerate({"train": 160, "test": 50}.items())
    }
    return folder / "run", finetune.run(finetune.Config(model=base, out=str(folder / "run"), seeds=2, **files, **QUICK)), files["test"]


def test_entities_are_learnt_and_scored_beside_a_baseline(run: tuple[Path, dict[str, Any], str]) -> None:
    metrics = run[1]
    assert metrics["task"] == "tokens" and metrics["labels"] == ["O", "B-place", "I-place", "B-thing", "I-thing"]
    baseline = metrics["baselines"]["each word's commonest tag"]  # calls a river alone the end of a place, or a place's end nothing
    assert metrics["test"]["micro"]["f1"] > 0.9 > baseline["micro"]["f1"] > 0.3
    best = max(metrics["seeds"], key=lambda seed: (seed["dev"]["micro"]["f1"], -seed["dev_loss"]))
    assert metrics["best_seed"] == best["seed"] and metrics["test"]["strict"]["f1"] <= metrics["test"]["micro"]["f1"] + 0.1
    assert metrics["test_intervals"]["micro"]["f1"]["low"] <= metrics["test"]["micro"]["f1"]


def test_the_predictions_file_has_the_tags_and_evaluating_the_folder_gives_them_again(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, test = run
    columns = pq.read_table(out / "predictions.parquet").to_pydict()
    gold, predicted = ([spans_of(tags) for tags in columns[name]] for name in ("gold", "predicted"))
    assert entity_metrics(gold, predicted) == {name: value for name, value in metrics["test"].items() if name != "strict"}
    again = evaluate.run(evaluate.Config(model=str(out / "model"), data=test, out=str(tmp_path / "out"), device="cpu"))
    other = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    for ours, theirs in zip(other.pop("probabilities"), columns.pop("probabilities"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert other == columns and again["micro"] == metrics["test"]["micro"]
    shown = capsys.readouterr().out
    assert "entities of 50 sentences; strict IOB2 micro-F1" in shown and "place" in shown


def test_transformers_opens_the_folder_and_says_the_same(run: tuple[Path, dict[str, Any], str]) -> None:
    folder = str(run[0] / "model")
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    words = ["the", "comet", "river", "of", "a", "violin"]
    with torch.inference_mode():
        inputs = tokenize(words, is_split_into_words=True, return_tensors="pt")
        logits = model(**inputs).logits[0].softmax(-1)
    first = [inputs.word_ids().index(number) for number in range(len(words))]
    expected = [model.config.id2label[int(logits[place].argmax())] for place in first]
    (found,) = bertlab.load(folder).predict([words])
    assert isinstance(found, Entities) and found.tags == expected == ["O", "B-place", "I-place", "O", "O", "B-thing"]
    sure = min(float(logits[place].max()) for place in first[1:3])
    assert found.entities[0] == Entity("place", 1, 3, pytest.approx(sure, abs=1e-5))  # type: ignore[arg-type]
    assert bertlab.load(folder).predict([" ".join(words)]) == [found]
    with pytest.raises(DataError, match="have no second texts"):
        bertlab.load(folder).predict([words], ["violin"])


def test_systems_are_compared_by_their_entities(run: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    out, metrics, _ = run
    table = pq.read_table(out / "predictions.parquet")
    blind = [["O" if tag.endswith("thing") else tag for tag in tags] for tags in table["predicted"].to_pylist()]
    pq.write_table(table.set_column(3, "predicted", [blind]), tmp_path / "blind.parquet")
    facts = compare.run(compare.Config(
        runs=(str(out), str(tmp_path / "blind.parquet")), metrics=("micro_f1", "f1:thing", "f1:place"), resamples=500,
    ))  # fmt: skip
    micro, thing, place = facts["pairs"][0]["metrics"]
    assert facts["task"] == "tokens" and micro["a"] == pytest.approx(metrics["test"]["micro"]["f1"])
    assert thing["b"] == 0.0 and thing["p"] < 0.01 and micro["p"] < 0.01 and place["difference"] == 0.0 and place["p"] == 1.0


def test_a_column_file_is_read_and_long_sentences_are_windows(base: str, write: Callable[..., str], tmp_path: Path, capsys: Any) -> None:
    lines = ["\n".join(f"{word} {tag}" for word, tag in zip(row["tokens"], row["tags"], strict=True)) for row in sentences(20, 5)]
    (tmp_path / "train.conll").write_text("\n\n".join(lines) + "\n")
    long = write(tmp_path / "test.jsonl", [{"tokens": ["the"] * 60 + ["violin"], "tags": ["O"] * 60 + ["B-thing"]}])
    metrics = finetune.run(finetune.Config(
        model=base, train=str(tmp_path / "train.conll"), test=long, out=str(tmp_path / "run"), seeds=1, **QUICK | {"epochs": 1},
    ))  # fmt: skip
    assert metrics["cut"]["test"] == {"in windows": 1} and len(pq.read_table(tmp_path / "run/predictions.parquet")["predicted"][0]) == 61
    shown = capsys.readouterr().out
    assert "task  tokens (a word and its tag a line)" in shown and "test  1 examples of 5 tags" in shown and "1 in windows" in shown


def test_types_come_from_train_alone(base: str, write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", sentences(20, 6))
    test = write(tmp_path / "test.jsonl", [{"tokens": ["river"], "tags": ["B-water"]}])
    with pytest.raises(DataError, match="entities of type 'water', which train does not have: 'place', 'thing'"):
        finetune.run(finetune.Config(model=base, train=train, test=test, out=str(tmp_path / "run"), device="cpu"))


def test_a_suspected_tag_stands_with_its_own_word_where_others_were_not_seen() -> None:
    words = [["unseen", "mill"], ["the", "river"]] * 20
    of_words = np.array([[0, 0], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]] * 20, np.float32)
    of_words[59] = 0.95, 0.05  # "river" of sentence 29 is nothing, says the model; fifteen words before it were not seen
    gold = [[0, 0], [0, 1]] * 20
    tagged = Tagged([["O", "O"]] * 40, [np.zeros(2)] * 40, of_words)
    rows = LabelledTokens([str(row) for row in range(40)], words, None, None, 0, "rows")
    assert TOKENS.suspects is not None
    (found,), weak = TOKENS.suspects(rows, gold, tagged, Labels(["O", "B-x"]))
    assert weak == [] and (found["row"], found["word"], found["position"]) == (29, "river", 1)
    assert (found["label"], found["likelier"]) == ("B-x", "O")
    assert (found["probability"], found["margin"]) == pytest.approx((0.05, -0.9))


def test_the_loss_is_of_the_words_that_the_model_saw() -> None:
    of_words = np.array([[0.5, 0.5], [0.0, 0.0], [0.25, 0.75]], np.float32)  # nothing is known of the second
    tagged = Tagged([["O", "O"], ["B-x"]], [np.zeros(2), np.zeros(1)], of_words)
    assert TOKENS.loss([[0, 1], [1]], tagged) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert TOKENS.loss([[0, 1], [1]], replace(tagged, of_words=0 * of_words)) == 0.0
