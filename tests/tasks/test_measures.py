"""What is measured of every kind: what probabilities are worth, leaks of texts, mistakes with their texts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, roc_auc_score

from bertlab.corpus.dialect import AS_NAMED
from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labelled_tokens import LabelledTokens
from bertlab.corpus.questions import Questions
from bertlab.disk import sha256_file, write_json, write_text
from bertlab.errors import ConfigError, CorruptError
from bertlab.evaluation.alignment import read_predictions
from bertlab.tasks.answers import ANSWERS
from bertlab.tasks.contract import Labels, Task, calibrated_of
from bertlab.tasks.data import Data
from bertlab.tasks.measures import (
    against_baseline,
    at_thresholds,
    is_gold,
    leakage,
    learnt_on_dev,
    mistakes_of,
    of_probabilities,
    rare_classes,
    suspects_of,
    training_file,
    with_temperature,
    without_words,
)
from bertlab.tasks.multi_label import MULTI_LABEL
from bertlab.tasks.reading import Columns
from bertlab.tasks.regression import REGRESSION
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.tasks.tokens import TOKENS, Tagged
from bertlab.verbs import compare


def two_classes(seed: int, n: int = 300) -> tuple[list[int], np.ndarray]:
    draw = np.random.default_rng(seed)
    gold = draw.integers(2, size=n)
    return gold.tolist(), softmax(4 * (draw.normal(size=(n, 2)) + np.eye(2)[gold]), 1).astype(np.float32)


def label_sets(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    gold = draw.random((n, 3)) < [0.5, 0.2, 0.1]
    return gold, 1 / (1 + np.exp(-(draw.normal(size=(n, 3)) + 2 * gold - 2)))


def test_two_classes_have_areas_calibration_and_scores_at_devs_threshold() -> None:
    labels = Labels(["ham", "spam"])
    learnt = learnt_on_dev(SINGLE_LABEL, *two_classes(0), labels)
    assert learnt is not None and 2 < learnt["temperature"] < 8 and list(learnt["thresholds"]) == ["spam"]
    gold, outputs = two_classes(1)
    found = of_probabilities(SINGLE_LABEL, gold, outputs, labels, learnt)
    assert found["roc_auc"]["per_class"]["spam"] == pytest.approx(roc_auc_score(gold, outputs[:, 1]))
    assert found["calibration"]["after"]["nll"] < found["calibration"]["before"]["nll"]
    given = outputs[:, 1] >= learnt["thresholds"]["spam"]["value"]
    assert found["thresholds"] == learnt["thresholds"]
    assert found["at_thresholds"]["per_class"]["spam"]["f1"] == pytest.approx(f1_score(gold, given))
    assert found["at_thresholds"]["intervals"]["macro"]["f1"]["low"] < found["at_thresholds"]["macro"]["f1"]
    scaled = calibrated_of(outputs, with_temperature(labels, learnt), exclusive=True)
    assert scaled is not None and (scaled.argmax(1) == outputs.argmax(1)).all()
    logits = np.log(outputs.astype(np.float64)) / learnt["temperature"]
    np.testing.assert_allclose(scaled, softmax(logits, 1), atol=1e-6)
    json.dumps(found, allow_nan=False)


def test_sets_of_labels_have_a_threshold_each() -> None:
    labels = Labels(["x", "y", "z"])
    learnt = learnt_on_dev(MULTI_LABEL, *label_sets(0), labels)
    gold, outputs = label_sets(1)
    found = of_probabilities(MULTI_LABEL, gold, outputs, labels, learnt)
    assert learnt is not None and list(found["thresholds"]) == ["x", "y", "z"]
    given = outputs >= [learnt["thresholds"][name]["value"] for name in labels.names]
    assert found["at_thresholds"]["macro"]["f1"] == pytest.approx(f1_score(gold, given, average="macro"))
    json.dumps(found, allow_nan=False)


def test_without_what_dev_teaches_there_is_no_temperature_and_no_threshold() -> None:
    found = of_probabilities(SINGLE_LABEL, *two_classes(2, 60), Labels(["ham", "spam"]), None)
    assert set(found) == {"roc_auc", "pr_auc", "calibration", "intervals"} and set(found["calibration"]) == {"before"}
    labels = with_temperature(Labels(["ham", "spam"]), None)
    assert labels.temperature is None and calibrated_of(two_classes(2)[1], labels, exclusive=True) is None
    assert with_temperature(labels, {"temperature": None, "thresholds": {}}) == labels


@pytest.mark.parametrize("task, data, names", [(SINGLE_LABEL, two_classes, ["ham", "spam"]), (MULTI_LABEL, label_sets, ["x", "y", "z"])])
def test_answers_at_devs_thresholds_have_the_scores_that_were_measured_there(
    task: Task, data: Callable[[int], tuple[Any, Any]], names: list[str], tmp_path: Path
) -> None:
    learnt = learnt_on_dev(task, *data(0), Labels(names))
    gold, outputs = data(1)
    labels = at_thresholds(with_temperature(Labels(names), json.loads(json.dumps(learnt))), learnt, "model")
    there = of_probabilities(task, gold, outputs, Labels(names), learnt)["at_thresholds"]
    assert task.metrics(gold, outputs, labels)["macro"] == there["macro"] != task.metrics(gold, outputs, Labels(names))["macro"]
    answers = task.answers(outputs, labels)
    sets = np.array([[name in answer.given for name in names] for answer in answers])
    assert f1_score(is_gold(task, gold, labels), sets, average="macro") == pytest.approx(there["macro"]["f1"])
    assert task.answers(outputs, Labels(names, temperature=labels.temperature)) != answers
    assert [replace(answer, labels=[]) if task is MULTI_LABEL else answer.probabilities for answer in answers] == [
        replace(answer, labels=[]) if task is MULTI_LABEL else answer.probabilities
        for answer in task.answers(outputs, Labels(names, temperature=labels.temperature))
    ], "a threshold moves no probability"
    rows = Labelled([str(number) for number in range(len(outputs))], ["text"] * len(outputs), None, None, "")
    task.write(tmp_path / "predictions.parquet", rows, None, outputs, labels)
    written = pq.read_table(tmp_path / "predictions.parquet")["predicted"].to_pylist()
    in_order = [sorted(answer.given, key=names.index) for answer in answers]
    assert written == (in_order if task is MULTI_LABEL else [label for (label,) in in_order])


def test_thresholds_that_are_not_there_or_damaged_are_refused() -> None:
    three = Labels(["x", "y", "z"])
    for learnt in (None, {"temperature": 1.0, "thresholds": {}}):
        with pytest.raises(ConfigError, match="my-model has no thresholds: dev chooses them for several labels a text"):
            at_thresholds(three, learnt, "my-model")
    half = {"value": 0.5}
    for damaged in ({"x": half, "y": half}, {"y": half}, {"x": half, "y": half, "z": {}}, {"x": half, "y": half, "z": {"value": "high"}}):
        with pytest.raises(CorruptError, match="its thresholds are not of"):
            at_thresholds(three, {"thresholds": damaged}, "my-model")


@pytest.mark.parametrize(
    "damaged", ["hot", {"temperature": "hot"}, {"temperature": -1.0}, {"temperature": float("inf")}, {"temperature": True}]
)
def test_a_temperature_that_dev_cannot_have_taught_is_refused(damaged: Any) -> None:
    with pytest.raises(CorruptError, match="no temperature: the model's"):
        with_temperature(Labels(["ham", "spam"]), damaged)


def test_probabilities_at_devs_temperature_are_a_column_and_an_answer_of_their_own(tmp_path: Path) -> None:
    labels = with_temperature(Labels(["ham", "spam"]), {"temperature": 2.0})
    outputs = np.array([[0.2, 0.8], [0.9, 0.1]])
    at_two = np.array([[1 / 3, 2 / 3], [0.75, 0.25]])  # sqrt(0.2) to sqrt(0.8) is 1 to 2, sqrt(0.9) to sqrt(0.1) is 3 to 1
    rows = Labelled(["a", "b"], ["x", "y"], None, ["ham", "ham"], "")
    SINGLE_LABEL.write(tmp_path / "p.parquet", rows, [0, 0], outputs, labels)
    table = pq.read_table(tmp_path / "p.parquet")
    np.testing.assert_allclose(table["probabilities"].to_pylist(), outputs, atol=1e-7)
    np.testing.assert_allclose(table["calibrated"].to_pylist(), at_two, atol=1e-7)
    first = SINGLE_LABEL.answers(outputs, labels)[0]
    assert first.label == "spam" and first.probability == first.probabilities["spam"] == pytest.approx(2 / 3)
    assert first.uncalibrated["spam"] == 0.8
    (raw, _) = SINGLE_LABEL.answers(outputs, Labels(["ham", "spam"]))
    assert raw.probability == raw.probabilities["spam"] == 0.8 and raw.uncalibrated is None
    sets = MULTI_LABEL.answers(outputs, labels)
    of_each = [[1 / 3, 2 / 3], [0.75, 0.25]]  # a sigmoid is a softmax of two: the same numbers
    assert [each.labels for each in sets] == [["spam"], ["ham"]]
    np.testing.assert_allclose([list(each.probabilities.values()) for each in sets], of_each)
    assert [list(each.uncalibrated.values()) for each in sets] == outputs.tolist()
    MULTI_LABEL.write(tmp_path / "s.parquet", rows, np.eye(2, dtype=bool), outputs, labels)
    np.testing.assert_allclose(pq.read_table(tmp_path / "s.parquet")["calibrated"].to_pylist(), of_each, atol=1e-7)
    SINGLE_LABEL.write(tmp_path / "none.parquet", rows, [0, 0], outputs, Labels(["ham", "spam"]))
    assert "calibrated" not in pq.read_schema(tmp_path / "none.parquet").names
    for name in ("p.parquet", "none.parquet"):  # what compare reads is the same
        assert read_predictions(tmp_path / name).predicted == ["spam", "ham"]


def test_of_every_kind_that_has_suspects_it_is_said_which_labels_cannot_be_told() -> None:
    draw, ids = np.random.default_rng(5), [str(row) for row in range(200)]
    gold = np.repeat([0, 1], 100)
    rows, labels = Labelled(ids, ids, None, ["ham"] * 200, ""), Labels(["ham", "spam"])
    right, by_lot = softmax(4 * np.eye(2)[gold], 1), softmax(draw.normal(size=(200, 2)), 1)
    right[7] = right[7, ::-1]
    found, counted = suspects_of(SINGLE_LABEL, rows, gold.tolist(), right, labels)
    assert found is not None and [each["id"] for each in found] == ["7"]
    assert counted == {"label_errors": {"suspected": 1, "too_weak": []}}
    nothing = {"label_errors": {"suspected": 0, "too_weak": ["ham", "spam"]}}
    assert suspects_of(SINGLE_LABEL, rows, gold.tolist(), by_lot, labels) == ([], nothing)
    sets = np.stack([gold == 0, gold == 1], 1)
    half = np.stack([right[:, 0], by_lot[:, 1]], 1)
    found, counted = suspects_of(MULTI_LABEL, rows, sets, half, labels)
    assert found is not None and [each["id"] for each in found] == ["7"] and counted["label_errors"]["too_weak"] == ["spam"]
    words = LabelledTokens(ids[:100], [["a", "b"]] * 100, [["O", "B-X"]] * 100, "IOB2", 0, "")
    tags = [[0, 1]] * 100
    tagged = Tagged([], [], softmax(draw.normal(size=(200, 2)), 1))
    assert suspects_of(TOKENS, words, tags, tagged, Labels(["O", "B-X"])) == (
        [],
        {"label_errors": {"suspected": 0, "too_weak": ["O", "B-X"]}},
    )


def test_numbers_have_none_of_it() -> None:
    values = np.arange(5.0)
    labels = Labels(["number"])
    assert learnt_on_dev(REGRESSION, values, values, labels) is None and of_probabilities(REGRESSION, values, values, labels, None) == {}
    rows = Labelled(list("abcde"), list("abcde"), None, ["1"] * 5, "")
    assert suspects_of(REGRESSION, rows, values, values, labels) == (None, {})


def test_mistakes_have_their_own_texts_though_ids_are_not_unique() -> None:
    rows = Labelled(["id", "id", "id"], ["right", "sure", "unsure"], ["1", "2", "3"], ["ham"] * 3, "")
    outputs = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    found = mistakes_of(SINGLE_LABEL, rows, [0, 0, 0], outputs, Labels(["ham", "spam"]))
    assert [(each["id"], each["text"], each["text_b"], each["probability"]) for each in found] == [
        ("id", "sure", "2", 0.9),
        ("id", "unsure", "3", 0.6),
    ]


def test_leaks_are_looked_for_in_texts_with_one_label_or_several() -> None:
    train = Labelled(["t1", "t2"], ["a river", "a stone"], None, None, "", [("x", "y"), ("x",)])
    rows = Labelled(["r1", "r2"], ["A river", "A STONE"], None, None, "", [("y", "x"), ()])
    found = leakage(train, rows)
    assert found is not None and found["equal"] == 2 and [leak["same_label"] for leak in found["leaks"]] == [True, False]
    assert found["conflicts"] == [[["t2", "x"], ["r2", ""]]]
    assert leakage(None, rows) is None


def test_leaks_are_looked_for_in_sentences_of_tokens_and_in_questions_with_their_contexts() -> None:
    train = LabelledTokens(["t1"], [["John", "sleeps"]], [["B-PER", "O"]], None, 0, "")
    rows = LabelledTokens(["r1", "r2"], [["john", "SLEEPS"], ["he", "sleeps"]], [["O", "O"], ["O", "O"]], None, 0, "")
    found = leakage(train, rows)
    assert found is not None and found["equal"] == 1 and found["conflicts"] == [[["t1", "B-PER O"], ["r1", "O O"]]]
    asked = Questions(["q1"], ["Who sleeps?"], ["John sleeps."], None, "")
    others = Questions(["q2", "q3"], ["Who sleeps?", "Does he sleep?"], ["JOHN  sleeps.", "John sleeps."], None, "")
    found = leakage(asked, others)  # the same context with another question is no leak
    assert found is not None and [leak["test_id"] for leak in found["leaks"]] == ["q2"]


def test_labels_of_few_texts_are_known_and_numbers_have_none() -> None:
    sets = np.array([[True, False, True]] * 2 + [[True, False, False]])
    data = Data(MULTI_LABEL, Labels(["x", "y", "z"]), {}, {"train": sets}, {}, {}, 8, "head", Columns(None, None, None, None))
    assert list(rare_classes(data, 3).items()) == [("y", 0), ("z", 2)]
    assert rare_classes(replace(data, task=REGRESSION, labels=Labels(["number"]), gold={"train": np.zeros(2)}), 3) == {}


def test_a_pair_has_no_word_where_neither_text_has_one() -> None:
    pairs = Labelled(["a", "b", "c"], ["", " ", "x"], ["x", "\n", ""], None, "")
    assert without_words(pairs) == ["b"]
    assert without_words(LabelledTokens(["a", "b"], [["x"], [" "]], None, None, 0, "")) == ["b"]


# ---- what needs no BERT


def rows_of_words(kind: str, n: int, exceptions: int) -> Any:
    """n rows whose label follows from one word among numbers, but for one of so many `exceptions`, in which it is the other."""
    other = [number % 2 if number % exceptions else 1 - number % 2 for number in range(n)]
    ids, texts = [f"row {number}" for number in range(n)], [f"{('river', 'comet')[number % 2]} {number}" for number in range(n)]
    if kind == "tokens":
        tags = [[("O", "B-sky")[each], "O"] for each in other]
        return LabelledTokens(ids, [text.split() for text in texts], tags, None, 0, "")
    if kind == "answers":
        contexts = [f"{text} was here. Another was there." for text in texts]
        answers = [[((text, 0), ("Another", context.index("Another")))[number % exceptions == 0]]
                   for number, (text, context) in enumerate(zip(texts, contexts, strict=True))]  # fmt: skip
        return Questions(ids, [f"what was {text}?" for text in texts], contexts, answers, "")
    sets: list[tuple[str, ...]] | None = [("sky", "far") if each else ("water",) for each in other] if kind == "multi-label" else None
    labels = (
        [str(each + number / n) for number, each in enumerate(other)]
        if kind == "regression"
        else [("water", "sky")[each] for each in other]
    )
    return Labelled(ids, texts, None, None if sets else labels, "", sets)


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL, REGRESSION, TOKENS, ANSWERS], ids=lambda task: task.name)
def test_the_strongest_baselines_answers_are_kept_and_compared_as_compare_does(task: Any, tmp_path: Path) -> None:
    train, test = rows_of_words(task.name, 40, 100), rows_of_words(task.name, 36, 3)
    labels = task.learn(train)
    gold = task.gold(test, labels)
    answered = task.baselines(train, task.gold(train, labels), test, with_temperature(labels, {"temperature": 2.0}))
    (name, strongest), (_, weakest) = list(answered.items())[0], list(answered.items())[-1]
    task.write(tmp_path / "predictions.parquet", test, gold, weakest, labels)
    found, files = against_baseline(tmp_path, task, test, gold, answered, with_temperature(labels, {"temperature": 2.0}))
    facts = found["against_baseline"]
    assert files == [facts["file"]] and facts["baseline"] == name and (tmp_path / facts["file"]).is_file()
    assert "calibrated" not in pq.read_schema(tmp_path / facts["file"]).names  # dev taught the model a temperature, not the baseline
    assert facts["b"] == pytest.approx(task.score(task.metrics(gold, strongest, labels)))
    assert facts["a"] == pytest.approx(task.score(task.metrics(gold, weakest, labels)))
    runs = (f"model:{tmp_path / 'predictions.parquet'}", str((tmp_path / facts["file"]).parent))
    asked = compare.Config(runs=runs, metrics=(facts["metric"],), resamples=facts["R"], cluster=facts["cluster"])
    (result,) = compare.run(asked)["pairs"][0]["metrics"]
    del result["p_corrected"]
    assert result == {key: facts[key] for key in result}
    assert facts["metric"] == next(iter(task.scores)) and facts["R"] == (1_000 if task is REGRESSION else 10_000)


def test_no_baseline_leaves_no_comparison(tmp_path: Path) -> None:
    assert against_baseline(tmp_path, SINGLE_LABEL, rows_of_words("single-label", 4, 9), [0] * 4, {}, Labels(["a", "b"])) == ({}, [])


@pytest.mark.parametrize(("of_model", "of_baseline", "better"), [(40, 20, "model"), (20, 40, "baseline"), (33, 30, None), (36, 36, None)])
def test_which_is_better_is_said_where_interval_and_p_show_it(of_model: int, of_baseline: int, better: str | None, tmp_path: Path) -> None:
    """Each has the first so many of forty right, and answers the other class to the rest."""
    rows, gold = rows_of_words("single-label", 40, 100), [number % 2 for number in range(40)]

    def answers(right: int) -> np.ndarray:
        return np.eye(2)[[each if number < right else 1 - each for number, each in enumerate(gold)]]

    labels = Labels(["water", "sky"])
    SINGLE_LABEL.write(tmp_path / "predictions.parquet", rows, gold, answers(of_model), labels)
    found = against_baseline(tmp_path, SINGLE_LABEL, rows, gold, {"one": answers(0), "two": answers(of_baseline)}, labels)[0][
        "against_baseline"
    ]
    assert found["baseline"] == "two", "the strongest, wherever it stands"
    assert found["better"] == better and (found["b"], found["n"]) == (pytest.approx(of_baseline / 40, abs=0.01), 40)
    assert (found["interval"]["low"] is None) == (of_model == of_baseline) and (found["p"] == 1) == (of_model == of_baseline)


def test_a_run_knows_its_training_file_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    train, folder = tmp_path / "train.csv", tmp_path / "run" / "model"
    write_text(train, "text,label\n")
    write_json(folder / "bertlab.json", {"data": {"train": {"sha256": sha256_file(train)}}})
    assert training_file(str(folder)) is None  # no settings beside it
    write_text(tmp_path / "run" / "config.yaml", f"train: {train}\ntext: said\ntext_b: null\nlabel: kind\nlabel_separator: null\n")
    found = training_file(str(folder))
    assert found is not None and found[0] == str(train) and (found[1].text, found[1].label) == ("said", "kind")
    assert found[1].dialect == AS_NAMED, "which settings of an older run do not say"
    write_text(train, "text,label\nchanged,a\n")
    assert training_file(str(folder)) is None
    assert training_file(str(tmp_path / "nothing")) is None
