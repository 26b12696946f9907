"""What a page says of scores in words: against baselines, of dev alone, of leaks. Every number's place is looked at in test_report.py."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.disk import write_json
from bertlab.evaluation.numbers import number_metrics, of_number_metrics
from bertlab.pages.finetuning_report import sections
from bertlab.pages.scored import read_scored, verdict

Make = Callable[..., Path]


def said(folder: Path, metrics: dict[str, Any] | None = None) -> tuple[str, bool]:
    """The verdict without its elements, a line a paragraph, and whether it is shown as a warning."""
    written = str(verdict(read_scored(folder, "run", metrics)))
    return html.unescape(re.sub(r"<[^>]*>", "", written.replace("</p>", "\n"))), "wrong plain" not in written


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (0.01, "outside the model's interval: the model is better on this test set"),
        (0.99, "outside the model's interval: it is better than the model on this test set"),
        (None, "within the model's interval: this test set does not show which of the two is better"),
    ],
)
def test_a_verdict_holds_a_baseline_against_the_models_interval(topics: Path, metrics_of: Any, baseline: float | None, words: str) -> None:
    metrics = metrics_of(topics)
    metrics["baselines"] = {"other": metrics["test"] | {"macro": {"f1": metrics["test"]["macro"]["f1"] if baseline is None else baseline}}}
    text, warns = said(topics, metrics)
    assert words in text and warns == (baseline == 0.99)


@pytest.mark.parametrize(
    ("better", "words"),
    [
        ("model", "the model is better on this test set."),
        ("baseline", "it is better than the model on this test set."),
        (None, "this test set does not show which of the two is better."),
    ],
)
def test_a_baseline_whose_answers_are_kept_is_compared_answer_by_answer(
    topics: Path, metrics_of: Any, better: str | None, words: str
) -> None:
    metrics = metrics_of(topics)
    found = metrics["against_baseline"] = metrics["against_baseline"] | {"better": better}
    text, warns = said(topics, metrics)
    sentence = next(line for line in text.splitlines() if "TF-IDF + logistic regression: " in line)
    low, high = (found["interval"][end] for end in ("low", "high"))
    assert (
        f"{found['b']:.3f} against the model's {found['a']:.3f}, a difference of {found['difference']:+.3f} "
        f"(interval {low:.3f} to {high:.3f}), p = {found['p']:.4f} (10,000 resamples): {words}"
    ) in sentence
    assert warns == (better == "baseline")


def test_scores_on_dev_alone_are_said_to_flatter(tmp_path: Path, make_finetuned: Make) -> None:
    text, warns = said(make_finetuned(tmp_path / "run", ["a", "b"], ["text"], n=40, seeds=1, tested=False))
    assert "on 40 dev examples" in text and "so the number flatters" in text and warns


def test_a_leak_is_said_in_sentences_and_warns(topics: Path, metrics_of: Any) -> None:
    metrics = metrics_of(topics)
    assert not said(topics, metrics)[1]
    leak = {"test_id": "test:1", "train_id": "train:7", "equal": True, "similarity": 1.0}
    metrics["leakage"]["test"] |= {"equal": 2, "leaks": [leak]}
    text, warns = said(topics, metrics)
    assert "warning: 2 of 120 test texts are in train too" in text and warns
    metrics["leakage"]["test"] |= {"equal": 1}
    text, warns = said(topics, metrics)
    assert "note: 1 of 120 test texts is in train too: 1 equal" in text and "test:1 is equal to train:7" in text and not warns


def test_probabilities_that_tell_no_texts_apart_are_not_praised(topics: Path, metrics_of: Any) -> None:
    metrics = metrics_of(topics)
    metrics["test_probabilities"]["calibration"]["before"] |= {"ece": 0.003, "by_chance": {"mean": 0.002, "high": 0.004}}
    assert "Its probabilities can be taken at their word" in said(topics, metrics)[0]
    metrics["test"]["no_label"] = {"gold": 0.0, "predicted": 1.0}
    text, _ = said(topics, metrics)
    assert "at their word" not in text and "hardly of which texts (ROC-AUC" in text and "No label at all was given to 120 of 120" in text
    del metrics["test"]["no_label"]
    metrics["test_probabilities"]["intervals"]["roc_auc"]["macro"] = {"low": 0.45, "high": 0.6}
    assert "at their word" not in said(topics, metrics)[0]


def test_scores_stand_where_each_kind_of_folder_has_them(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    of_run, of_evaluate = read_scored(topics, "run"), metrics_of(topics)["test"] | {"intervals": metrics_of(topics)["test_intervals"]}
    write_json(tmp_path / "metrics.json", of_evaluate)
    of_folder = read_scored(tmp_path, "scores")
    assert (of_run.split, of_folder.split) == ("test", "test")
    assert of_run.at(*of_run.scores, "accuracy") == of_folder.at(*of_folder.scores, "accuracy") == of_evaluate["accuracy"]
    between = of_run.between(*of_run.intervals, "accuracy")
    assert re.sub(r"<[^>]*>", "", str(between)) == re.sub(r"<[^>]*>", "", str(of_folder.between(*of_folder.intervals, "accuracy")))
    assert of_run.at("no", "such", "place") is None and of_run.between("none") == ""


def test_a_regressions_page_has_all_five_numbers(tmp_path: Path) -> None:
    gold, said = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 1.0, 3.5, 4.5, 5.5]
    metrics = number_metrics(gold, said) | {"intervals": of_number_metrics(gold, said, resamples=99, level=0.95), "task": "regression"}
    page = "".join(sections(read_scored(tmp_path, "rated", metrics)))
    for name in ("spearman", "pearson", "rmse", "mae", "r2"):
        assert f'data-of="{name}"' in page
