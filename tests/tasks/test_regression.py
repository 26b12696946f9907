"""Numbers from file to folder: learnt in any unit, chosen by Spearman; the one logit of the folder is the number, in transformers too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

import bertlab
from bertlab.errors import ConfigError, DataError
from bertlab.evaluation.numbers import number_metrics
from bertlab.tasks.contract import Labels
from bertlab.tasks.regression import REGRESSION, Estimate
from bertlab.verbs import compare, evaluate, finetune

Rows = list[tuple[str, set[str]]]
WORTH = {"music": 1.0, "sky": 2.0, "water": -1.0, "plants": 0.5}
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 12, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def files(
    texts: Callable[..., Rows], write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[float, float], dict[str, Any]]:
    """files(unit, zero): train and test, a text's number the sum of its topics' worth in that unit, counted from that zero."""
    folder = tmp_path_factory.mktemp("numbers")

    def make(unit: float, zero: float) -> dict[str, Any]:
        return {
            name: write(
                folder / f"{name}-{unit}-{zero}.jsonl",
                [{"text": text, "label": zero + unit * sum(WORTH[topic] for topic in topics)} for text, topics in texts(count, seed)],
            )
            for seed, (name, count) in enumerate({"train": 300, "test": 80}.items())
        }

    return make


@pytest.fixture(scope="module")
def run(base: str, files: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    out = tmp_path_factory.mktemp("run") / "run"
    given = files(1.0, 0.0)
    return out, finetune.run(finetune.Config(model=base, out=str(out), **given, **QUICK | {"seeds": 2})), given["test"]


def test_a_task_of_numbers_is_told_by_their_fractions_and_learnt_beside_its_baselines(run: tuple[Path, dict[str, Any], str]) -> None:
    metrics = run[1]
    assert metrics["task"] == "regression" and metrics["labels"] == ["number"]
    mean, ridge = metrics["baselines"]["mean of train"], metrics["baselines"]["TF-IDF + ridge regression"]
    assert metrics["test"]["spearman"] > 0.9 and mean["spearman"] == 0.0 and ridge["spearman"] > 0.9
    assert metrics["test"]["rmse"] < 0.5 * mean["rmse"] and metrics["test_intervals"]["rmse"]["low"] < metrics["test"]["rmse"]
    best = max(metrics["seeds"], key=lambda seed: (seed["dev"]["spearman"], -seed["dev_loss"]))
    assert metrics["best_seed"] == best["seed"] and metrics["dev"] == best["dev"]


def test_the_unit_and_the_zero_of_the_numbers_do_not_matter(base: str, files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    given = files(1000.0, 5e5)
    metrics = finetune.run(finetune.Config(model=base, out=str(tmp_path / "run"), task="regression", **given, **QUICK))
    assert metrics["test"]["spearman"] > 0.9 and metrics["test"]["rmse"] < 0.5 * metrics["baselines"]["mean of train"]["rmse"]
    found = bertlab.load(str(tmp_path / "run/model")).predict(["the old comet", "the river"])
    assert [each.value for each in found] == pytest.approx([502_000, 499_000], abs=700)


def test_the_predictions_file_has_the_numbers_and_evaluating_the_folder_gives_them_again(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, test = run
    columns = pq.read_table(out / "predictions.parquet").to_pydict()
    assert number_metrics(columns["gold"], columns["predicted"]) == metrics["test"]
    again = evaluate.run(evaluate.Config(model=str(out / "model"), data=test, out=str(tmp_path / "out"), device="cpu"))
    other = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    np.testing.assert_allclose(other.pop("predicted"), columns.pop("predicted"), atol=1e-5)
    assert other == columns and again["spearman"] == pytest.approx(metrics["test"]["spearman"], abs=1e-3)  # ranks may change places
    shown = capsys.readouterr().out
    assert "Spearman" in shown and "RMSE" in shown and "80 numbers" in shown


def test_transformers_opens_the_folder_as_a_regression_and_says_the_same(run: tuple[Path, dict[str, Any], str]) -> None:
    folder = str(run[0] / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.problem_type == "regression" and model.config.num_labels == 1
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the old violin", "a comet in the river", "this place"]
    with torch.inference_mode():
        expected = model(**tokenize(texts, padding=True, return_tensors="pt"), labels=torch.tensor([1.0, 1.0, 0.0]))
    found = bertlab.load(folder).predict(texts)
    assert isinstance(found[0], Estimate)
    values = np.array([each.value for each in found])
    np.testing.assert_allclose(values, expected.logits[:, 0].numpy(), atol=1e-5)
    assert REGRESSION.loss(np.array([1.0, 1.0, 0.0]), values) == pytest.approx(float(expected.loss), rel=1e-4)


def test_systems_are_compared_by_their_numbers(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics, _ = run
    table = pq.read_table(out / "predictions.parquet")
    noisy = np.array(table["predicted"].to_pylist()) + np.random.default_rng(0).normal(size=80)
    pq.write_table(table.set_column(3, "predicted", [noisy]), tmp_path / "noisy.parquet")
    facts = compare.run(compare.Config(runs=(str(out), str(tmp_path / "noisy.parquet")), resamples=500))
    (pair,) = facts["pairs"]
    spearman, rmse = pair["metrics"]
    assert (spearman["metric"], rmse["metric"]) == ("spearman", "rmse") and facts["task"] == "regression"
    assert spearman["a"] == pytest.approx(metrics["test"]["spearman"]) and rmse["a"] == pytest.approx(metrics["test"]["rmse"])
    assert spearman["difference"] > 0 > rmse["difference"] and spearman["p"] < 0.01 and rmse["p"] < 0.01
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("is better than noisy") == 2 and "80 examples of numbers" in shown  # a smaller error is better


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, float("nan")], r"t\.jsonl:2: the label in column 'label' is empty"),
        ([0.5, "nan"], "label 'nan' .* is no finite number"),
        ([0.5, "high"], "label 'high' .* is no finite number"),
        ([0.5, [1.0]], "lists of labels where one is wanted|the label is a list"),
        ([0.5, 0.5], "every one of 2 rows has the number 0.5"),
        ([1e308, -1e308], "have no mean or deviation"),
    ],
)
def test_numbers_that_cannot_be_learnt_are_told_in_one_line(
    base: str, write: Callable[..., str], tmp_path: Path, labels: list[Any], message: str
) -> None:
    train = write(tmp_path / "t.jsonl", [{"text": f"the {n}", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(DataError, match=message) as caught:
        finetune.run(finetune.Config(model=base, train=train, out=str(tmp_path / "run"), task="regression", device="cpu"))
    assert "\n" not in str(caught.value)


def test_smoothing_has_no_meaning_for_numbers(base: str, files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label_smoothing=0.1: the task is regression, which knows no smoothing"):
        finetune.run(finetune.Config(model=base, out=str(tmp_path / "run"), label_smoothing=0.1, **files(1.0, 0.0)))


def test_settling_folds_centre_and_scale_into_the_head(base: str) -> None:
    from bertlab.batches.labelled import encode_examples
    from bertlab.tasks.settings import FineTuning
    from bertlab.tasks.start import open_start
    from bertlab.tokens import tokenizer as tokenizers

    model, _ = open_start(FineTuning(model=base, out="unused")).model(REGRESSION, 1, 0)
    examples = encode_examples(tokenizers.load(base), ["the old river", "a comet", ""], max_length=24)
    labels = Labels(["number"], centre=-40.0, scale=25.0)
    before = REGRESSION.run(model, examples, labels, device=torch.device("cpu"))
    REGRESSION.settle(model, labels)
    after = REGRESSION.run(model, examples, Labels(["number"]), device=torch.device("cpu"))
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert np.ptp(after) > 0.01
