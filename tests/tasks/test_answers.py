"""Answers from file to folder: told by the columns, learnt with and without one, compared; transformers opens the folder and agrees."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

import bertlab
from bertlab.batches.questions import Candidate, Found
from bertlab.errors import ConfigError, DataError
from bertlab.evaluation.answers import answer_metrics
from bertlab.tasks.answers import ANSWERS, THRESHOLD, Answer, Gold
from bertlab.verbs import compare, evaluate, finetune

COMMON = ["the", "old", "one", "of", "a", "great", "many", "in", "this", "place", "was"]
QUICK: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32", "batch_size": 8}


def questions(count: int, seed: int, without: float = 0.0, odd: float = 0.0) -> list[dict[str, Any]]:
    """What stands in a text: a violin, a comet or a river, asked by "this place"; some texts have none, of some the first word is meant."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        answer = draw.choice(["violin", "comet", "river"]) if draw.random() >= without else ""
        words = [*draw.choices(COMMON, k=draw.randint(2, 4)), *([answer] if answer else []), *draw.choices(COMMON, k=draw.randint(2, 4))]
        context = " ".join(words)
        answers = [{"text": answer, "start": context.index(answer)}] if answer else []
        answers = [{"text": words[0], "start": 0}] if draw.random() < odd else answers
        rows.append({"question": "this place", "context": context, "answers": answers})
    return rows


@pytest.fixture(scope="module")
def run(base: str, write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("answers")
    files: dict[str, Any] = {
        name: write(folder / f"{name}.jsonl", questions(count, seed, without=0.3, odd=0.1 * (name == "test")))
        for seed, (name, count) in enumerate({"train": 200, "dev": 60, "test": 50}.items())
    }
    return folder / "run", finetune.run(finetune.Config(model=base, out=str(folder / "run"), seeds=1, **files, **QUICK)), files["test"]


def test_answers_are_learnt_with_a_threshold_for_none_set_on_dev(run: tuple[Path, dict[str, Any], str]) -> None:
    metrics = run[1]
    assert metrics["task"] == "answers" and metrics["test"]["f1"] > 0.8 and metrics["dev"]["f1"] > 0.9
    assert metrics["test"]["has_answer"]["f1"] > 0.8 and metrics["test"]["no_answer"]["f1"] > 0.6
    assert metrics["baselines"]["no answer"]["exact_match"] < 0.5 and metrics["seeds"][0]["tuned"][THRESHOLD] is not None
    assert metrics["test_intervals"]["f1"]["low"] < metrics["test"]["f1"] < metrics["test_intervals"]["f1"]["high"]


def test_the_predictions_file_has_the_answers_and_evaluating_the_folder_gives_them_again(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, test = run
    columns = pq.read_table(out / "predictions.parquet").to_pydict()
    assert answer_metrics(columns["gold"], columns["predicted"]) == metrics["test"]
    again = evaluate.run(evaluate.Config(model=str(out / "model"), data=test, out=str(tmp_path / "out"), device="cpu"))
    other = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    assert other["predicted"] == columns["predicted"] and again["f1"] == metrics["test"]["f1"]  # with the threshold that the folder keeps
    shown = capsys.readouterr().out
    assert "with an answer" in shown and "with 95% confidence exact match" in shown


def test_transformers_opens_the_folder_and_says_the_same(run: tuple[Path, dict[str, Any], str]) -> None:
    folder = str(run[0] / "model")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    context = "the old violin was in one"
    with torch.inference_mode():
        inputs = tokenize("this place", context, return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0]
        found = model(**inputs)
    inside = inputs["token_type_ids"][0].bool() & (offsets[:, 1] > 0)
    first, last = ((logits[0].masked_fill(~inside, -1e9)).argmax() for logits in (found.start_logits, found.end_logits))
    expected = context[int(offsets[first, 0]) : int(offsets[last, 1])]
    (answer,) = bertlab.load(folder).predict(["this place"], [context])
    assert isinstance(answer, Answer) and answer.text == expected == "violin" and answer.start == context.index("violin")
    (none,) = bertlab.load(folder).predict(["this place"], ["the old one of a great place"])
    assert none.text == "" and none.start is None
    with pytest.raises(DataError, match="questions need contexts"):
        bertlab.load(folder).predict(["this place"])


def test_systems_are_compared_by_their_answers(run: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    out, metrics, _ = run
    table = pq.read_table(out / "predictions.parquet")
    pq.write_table(table.set_column(table.column_names.index("predicted"), "predicted", [[""] * 50]), tmp_path / "silent.parquet")
    facts = compare.run(compare.Config(runs=(str(out), str(tmp_path / "silent.parquet")), resamples=500, cluster="context_sha256"))
    exact, f1 = facts["pairs"][0]["metrics"]
    assert (exact["metric"], f1["metric"]) == ("exact_match", "f1") and f1["a"] == pytest.approx(metrics["test"]["f1"])
    assert f1["p"] < 0.01 and "mcnemar" not in exact
    alone = compare.run(compare.Config(runs=(str(out), str(tmp_path / "silent.parquet")), resamples=500))
    assert alone["pairs"][0]["metrics"][0]["test"] == "McNemar exact"


def test_questions_about_one_text_stay_on_one_side_and_squads_own_form_is_told(base: str, tmp_path: Path) -> None:
    paragraphs = [
        {"context": f"the violin number {number}", "qas": [
            {"id": f"{number}-{which}", "question": f"this place {which}", "answers": [{"text": "violin", "answer_start": 4}]}
            for which in range(3)
        ]}
        for number in range(20)
    ]  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}, indent=1))
    from bertlab.tasks.choosing import choose
    from bertlab.tasks.data import read_data
    from bertlab.tasks.reading import Columns
    from bertlab.tokens import tokenizer as tokenizers

    columns = Columns(None, None, None, None)
    task, reason = choose("auto", str(tmp_path / "train.json"), columns)
    assert task is ANSWERS and "questions" in reason
    data = read_data(
        task, {"train": str(tmp_path / "train.json")}, columns, tokenizers.load(base), dev_share=0.2, max_length=24, long="windows"
    )
    texts = {split: {each.split("-")[0] for each in data.splits[split].ids} for split in ("train", "dev")}
    assert len(texts["dev"]) == 4 and not texts["train"] & texts["dev"] and len(data.splits["dev"]) == 12


def test_the_loss_is_the_share_of_best_spans_that_are_no_answer_whatever_the_threshold() -> None:
    found = [Found([Candidate(text, 0, len(text), 1.0)], 9.0) for text in ("the comet", "river", "violin", "sea")]
    gold = Gold([["comet"], ["sea"], ["comet"], ["comet"]], [], np.arange(4))
    assert ANSWERS.loss(gold, found) == 0.75


def test_smoothing_has_no_meaning_for_answers(base: str, write: Callable[..., str], tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", questions(10, 9))
    with pytest.raises(ConfigError, match="label_smoothing=0.1: the task is answers"):
        finetune.run(finetune.Config(model=base, train=train, out=str(tmp_path / "run"), label_smoothing=0.1))
