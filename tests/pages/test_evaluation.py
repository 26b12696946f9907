"""What is said around the scores: leaks with their rows, numbers with their intervals, and no terminal steered by a label."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.leakage import find_leaks
from bertlab.evaluation.curves import one_hot
from bertlab.evaluation.probabilities import learn_on_dev, probability_metrics
from bertlab.pages.evaluation import (
    between,
    leak_lines,
    mistake_lines,
    probability_lines,
    suspect_lines,
    weak_lines,
    write_label_errors,
    write_mistakes,
)


def labelled(name: str, texts: list[str], labels: list[str]) -> Labelled:
    return Labelled([f"{name}:{number}" for number in range(len(texts))], texts, None, labels, name)


def test_leaks_are_counted_and_the_first_named() -> None:
    long = "one two three four five six seven eight nine ten eleven"
    train = labelled("train", ["a river", long, "a stone"], ["x", "y", "x"])
    found = find_leaks(train, labelled("test", ["A RIVER", long + " twelve", "birds sing here", "a hill"], ["z", "y", "x", "x"]))
    assert leak_lines(found.as_json()) == [
        "warning: 2 of 4 test texts are in train too: 1 equal, 1 nearly (from similarity 0.7 on); "
        "the scores flatter, accuracy by up to 50.0%",
        "            test:0 is equal to train:0",
        "            test:1 is 90% like train:1",
        "warning: 1 text has different labels in different rows of train and test: one of them is wrong",
        "            train:0 'x', test:0 'z'",
    ]
    ways = find_leaks(labelled("train", ["a", "a", "b"], ["x", "X ", "x"]), labelled("test", ["b"], ["y"]))
    assert leak_lines(ways.as_json())[-3:] == [
        "warning: 2 texts have different labels in different rows of train and test: one of them is wrong "
        "(of 1 of these texts the labels differ only in case, spaces or Unicode form)",
        "            train:2 'x', test:0 'y'",
        "            train:0 'x', train:1 'X '",
    ]
    many = find_leaks(labelled("train", list("abcde"), ["x"] * 5), labelled("test", list("abcdef"), ["y"] * 6))
    assert leak_lines(many.as_json())[-2:] == [
        "            train:2 'x', test:2 'y'",
        "            and 2 more (metrics.json, leakage: the first 100)",
    ]
    seen = find_leaks(train, train).as_json()
    seen["leaks"][0] |= {"equal": False}
    first, _, second, *_ = leak_lines(seen, "dev")  # one of each kind before the others
    assert first.endswith("no score of it says anything of other texts")
    assert second.endswith("train:0 is of the same phrases as train:0")
    clean = find_leaks(train, labelled("dev", ["quite another"], ["x"])).as_json()
    assert leak_lines(clean, "dev") == ["leaks       none of 1 dev texts is in train, equal or nearly (from similarity 0.7 on)"]
    assert leak_lines(clean | {"of_train": "the whole file"})[0].startswith(
        "leaks       none of 1 test texts is in train (the whole file), equal"
    )
    few = leak_lines(seen | {"rows": 400, "equal": 1, "near": 2})[0]
    assert few.startswith("note: 3 of 400") and few.endswith("the scores flatter, accuracy by up to 0.8%")
    one_of_each = seen | {"leaks": [*([seen["leaks"][0]] * 4), seen["leaks"][1]]}
    assert "is equal to" in leak_lines(one_of_each)[1] and "the same phrases as" in leak_lines(one_of_each)[2]
    assert leak_lines(None) == ["leaks       not looked for: give --train to know whether training has seen these texts"]


def test_ids_and_labels_cannot_steer_the_terminal() -> None:
    found = find_leaks(Labelled(["a\x1b[2J"], ["x"], None, ["l\x1b"], ""), Labelled(["b\u202e"], ["x"], None, ["m"], ""))
    shown = "\n".join(leak_lines(found.as_json()))
    assert "\x1b" not in shown and "\u202e" not in shown and "a?[2J" in shown


def test_numbers_stand_with_their_intervals_before_and_after_the_temperature() -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(2, size=400)
    logits = draw.normal(size=(400, 2)) + np.eye(2)[gold]
    probabilities = 1 / (1 + np.exp(-5 * (logits - logits[:, ::-1])))
    learnt = learn_on_dev(one_hot(gold, 2), probabilities, ["no", "yes"], exclusive=True)
    found = probability_metrics(one_hot(gold, 2), probabilities, ["no", "yes"], exclusive=True, learnt=learnt, resamples=200)
    roc, pr, before, words, after = probability_lines(found)
    assert roc.startswith(f"ROC-AUC     {found['roc_auc']['macro']:.3f} (0.") and "mean of 2 classes (how often a text of" in roc
    assert pr.startswith("PR-AUC      0.") and pr.endswith("(precision, averaged over recall)")
    assert "ECE: how far" in words and "NLL: -log" in words
    assert f"ECE {found['calibration']['before']['ece']:.3f} (0." in before and "would show an ECE up to 0." in before
    assert f"at dev's temperature {learnt['temperature']:.3f} (above 1 less sure of itself, below 1 surer): ECE" in after
    assert f"ECE {found['calibration']['after']['ece']:.3f} (0." in after
    assert max(map(len, (roc, pr, before, words, after))) <= 129  # finetune puts eleven blanks before them
    assert not any("worse than without" in line for line in probability_lines(found))
    found["calibration"]["after"]["nll"] = found["calibration"]["before"]["nll"] + 0.1
    assert "worse than without" in probability_lines(found)[-1]
    metrics = found | {"macro": {"f1": 0.5}, "at_thresholds": {"macro": {"f1": 0.625}, "intervals": {"macro": {"f1": {"low": None}}}}}
    *_, thresholds, use = probability_lines(metrics)
    assert thresholds == "thresholds  chosen on dev: macro-F1 0.625, with one of 0.5 0.500" and "predict answers with 0.5" in use
    assert probability_lines({"spearman": 0.3}) == []
    assert between({"low": 0.1, "high": 0.25}) == " (0.100 to 0.250)"


def test_mistakes_have_the_beginning_of_their_text() -> None:
    sure = {"text": "some\ntext " * 40, "gold": "x", "predicted": "y\x1b", "probability": 0.987, "likely_label_error": True}
    wrong = [sure, {"text": "short", "gold": "y", "predicted": "x", "probability": 0.6, "likely_label_error": False}]
    shown, count = mistake_lines(wrong)
    _, _, first, second = shown.splitlines()
    assert "some text some text" in first and "…" in first and "0.987" in first and first.endswith("yes") and "\x1b" not in first
    assert second.startswith("short")
    assert count == "2 wrong, 1 of them to look at first (the model is sure of another label): mistakes.jsonl"
    assert len(mistake_lines(wrong, most=1)[0].splitlines()) == 3 and mistake_lines([]) == []


@pytest.mark.parametrize(("columns", "longest"), [(80, 80), (200, 60 + 44), (20, 22 + 44)])
def test_a_row_of_mistakes_is_no_wider_than_the_terminal_by_a_long_text(
    columns: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    wrong = {"text": "a text " * 40, "gold": "science", "predicted": "arts", "probability": 0.9, "likely_label_error": True}
    shown, _ = mistake_lines([wrong])
    assert {len(line) for line in shown.splitlines()} == {longest} and "  science       arts        0.900        yes" in shown


def test_the_file_of_mistakes_has_a_line_each(tmp_path: Path) -> None:
    assert write_mistakes(tmp_path, [{"text": "雨\n"}, {"text": "b"}]) == ["mistakes.jsonl"]
    lines = (tmp_path / "mistakes.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["雨\n", "b"] and "雨" in lines[0]
    assert write_mistakes(tmp_path, []) == ["mistakes.jsonl"] and (tmp_path / "mistakes.jsonl").read_text() == ""


def test_mistakes_of_every_kind_have_a_table() -> None:
    sets = {"text": "a", "gold": ["x", "y"], "predicted": [], "probability": 0.9, "likely_label_error": False}
    sets |= {"missing": ["x", "y"], "too_many": [], "about": "y"}
    shown, count = mistake_lines([sets])
    assert (
        "x; y" in shown
        and shown.splitlines()[2].split() == ["a", "x;", "y", "-", "no", "y", "0.900"]
        and "0 of them to look at first" in count
    )
    given = sets | {"predicted": ["z"], "too_many": ["z"], "about": "z"}
    assert mistake_lines([given])[0].splitlines()[2].split() == ["a", "x;", "y", "z", "z", "0.900"]
    entity = {"text": "to Rome", "gold": ["LOC Rome"], "predicted": [], "missing": ["LOC Rome"], "too_many": [], "probability": 0.7}
    assert mistake_lines([entity])[0].splitlines()[2].split() == ["to", "Rome", "LOC", "Rome", "-", "0.700"]
    number = {"text": "b", "gold": 1.5, "predicted": -2.0, "error": -3.5}
    shown, count = mistake_lines([number])
    assert shown.startswith("furthest off") and shown.splitlines()[2].split() == ["b", "1.5", "-2", "-3.500"]
    assert count == "1 differ, those furthest off first: mistakes.jsonl"
    answer = {"text": "who?", "text_b": "a context", "gold": ["he"], "predicted": "", "f1": 0.0, "probability": 0.5}
    assert mistake_lines([answer])[0].splitlines()[2].split() == ["who?", "he", "-", "0.500"]


def test_likely_label_errors_are_a_table_and_a_file(tmp_path: Path) -> None:
    one = {"id": "r", "label": "x", "likelier": "y", "probability": 0.1, "margin": -0.8, "text": "a text"}
    word = {"id": "r", "word": "Rome", "label": "B-PER", "likelier": "B-LOC", "probability": 0.1, "margin": -0.7, "text": "to Rome"}
    of_set = {"id": "r", "label": "x", "given": True, "probability": 0.1, "margin": -0.6, "text": "a set"}
    shown, count = suspect_lines([one, word, of_set], 30)
    assert [line.split() for line in shown.splitlines()[2:]] == [
        ["a", "text", "x", "y", "-0.800"], ["Rome", "B-PER", "B-LOC", "-0.700"], ["a", "set", "x", "not", "given", "-0.600"]
    ]  # fmt: skip
    assert count == "3 suspected labels in 30 examples, suspicions and no proofs: label_errors.jsonl"
    assert suspect_lines([], 30) == ["0 suspected labels in 30 examples"] and suspect_lines(None, 30) == []
    few = {"labels": ["a", "b", "c", "d", "e"], "label_errors": {"suspected": 0, "too_weak": ["a", "b\x1b", "c", "d"]}}
    (line,) = weak_lines(few)
    assert (
        line.startswith("of 4 of 5 labels (a, b") and "c and others) the model is too weak" in line and "25%" in line and "\x1b" not in line
    )
    assert weak_lines(few | {"labels": list("abcd")})[0].startswith("label errors cannot be told: the model is too weak")
    assert weak_lines({"labels": ["a"]}) == [] == weak_lines(few | {"label_errors": {"suspected": 2, "too_weak": []}})
    assert write_label_errors(tmp_path, [one]) == ["label_errors.jsonl"] and write_label_errors(tmp_path / "none", None) == []
    assert json.loads((tmp_path / "label_errors.jsonl").read_text()) == one and not (tmp_path / "none").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_conflicts_are_said_in_one_or_in_many(count: int) -> None:
    rows = labelled("train", [*"ab"[:count], *"ab"[:count]], ["x"] * count + ["y"] * count)
    line = leak_lines(find_leaks(rows, labelled("test", ["c"], ["x"])).as_json())[1]
    assert line.startswith("warning: 1 text has different" if count == 1 else "warning: 2 texts have different")
