"""What is said around the scores: leaks with their rows, numbers with their intervals, and no terminal steered by a label."""

import numpy as np
import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.leakage import find_leaks
from bertlab.evaluation.curves import one_hot
from bertlab.evaluation.probabilities import learn_on_dev, probability_metrics
from bertlab.pages.evaluation import between, leak_lines, mistake_table, probability_lines


def labelled(name: str, texts: list[str], labels: list[str]) -> Labelled:
    return Labelled([f"{name}:{number}" for number in range(len(texts))], texts, None, labels, name)


def test_leaks_are_counted_and_the_first_named() -> None:
    long = "one two three four five six seven eight nine ten eleven"
    train = labelled("train", ["a river", long, "a stone"], ["x", "y", "x"])
    found = find_leaks(train, labelled("test", ["A RIVER", long + " twelve", "birds sing here"], ["z", "y", "x"]))
    assert leak_lines(found.as_json()) == [
        "warning: 2 of 3 test texts are in train, 1 equal and 1 nearly (from similarity 0.7 on): the scores flatter",
        "            test:0 is equal to train:0",
        "            test:1 is 90% like train:1",
        "warning: 1 text has different labels in different rows: one of them is wrong",
        "            train:0 'x', test:0 'z'",
    ]
    clean = find_leaks(train, labelled("dev", ["quite another"], ["x"])).as_json()
    assert leak_lines(clean, "dev") == ["leaks       none of 1 dev texts is in train, equal or nearly (from similarity 0.7 on)"]
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
    roc, pr, before, after = probability_lines(found)
    assert roc.startswith(f"ROC-AUC     {found['roc_auc']['macro']:.3f} (0.") and roc.endswith("mean of 2 classes")
    assert pr.startswith("PR-AUC      0.")
    assert f"ECE {found['calibration']['before']['ece']:.3f} (0." in before and "would show up to 0." in before
    assert f"at dev's temperature {learnt['temperature']:.2f}: ECE {found['calibration']['after']['ece']:.3f}" in after
    metrics = found | {"macro": {"f1": 0.5}, "at_thresholds": {"macro": {"f1": 0.625}, "intervals": {"macro": {"f1": {"low": None}}}}}
    assert probability_lines(metrics)[-1] == "thresholds  chosen on dev: macro-F1 0.625, with one of 0.5 0.500"
    assert probability_lines({"spearman": 0.3}) == []
    assert between({"low": 0.1, "high": 0.25}) == " (0.100 to 0.250)"


def test_mistakes_have_the_beginning_of_their_text() -> None:
    sure = {"id": "a", "gold": "x", "predicted": "y\x1b", "probability": 0.987, "likely_label_error": True}
    wrong = [sure, {"id": "b", "gold": "y", "predicted": "x", "probability": 0.6, "likely_label_error": False}]
    shown = mistake_table(wrong, {"a": "some\ntext " * 40, "b": "short"}).splitlines()
    assert len(shown) == 4 and "some text some text" in shown[2] and "…" in shown[2]
    assert "0.987" in shown[2] and shown[2].endswith("yes")
    assert "\x1b" not in shown[2] and shown[3].startswith("short")
    assert len(mistake_table(wrong, {"a": "", "b": ""}, most=1).splitlines()) == 3


@pytest.mark.parametrize("count", [1, 2])
def test_conflicts_are_said_in_one_or_in_many(count: int) -> None:
    rows = labelled("train", [*"ab"[:count], *"ab"[:count]], ["x"] * count + ["y"] * count)
    line = leak_lines(find_leaks(rows, labelled("test", ["c"], ["x"])).as_json())[1]
    assert line.startswith("warning: 1 text has different" if count == 1 else "warning: 2 texts have different")
