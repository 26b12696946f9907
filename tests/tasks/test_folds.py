"""bertlab crossval: equal texts in one fold, every row answered by a model that has not seen it, planted wrong labels found."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

from bertlab.batches.questions import Candidate, Found
from bertlab.corpus.labelled import Labelled, Rows, folds_of
from bertlab.disk import MANIFEST, read_json, read_sealed
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.alignment import read_predictions
from bertlab.tasks.answers import ANSWERS, THRESHOLD
from bertlab.tasks.contract import Labels
from bertlab.tasks.folds import divide, out_of_fold, splits_of
from bertlab.tasks.regression import REGRESSION
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.tasks.tokens import TOKENS, Tagged
from bertlab.training import chain
from bertlab.verbs import compare, crossval


def labelled(texts: list[str], labels: list[str]) -> Labelled:
    return Labelled([f"row {number}" for number in range(len(texts))], texts, None, labels, "a file")


# ---- folds


def test_every_class_is_dealt_evenly_and_equal_texts_are_in_one_fold() -> None:
    texts = [f"text {number % 90}" for number in range(110)]  # the first twenty again, with their labels
    strata = [0 if number % 90 < 60 else 1 if number % 90 < 83 else 2 for number in range(110)]
    numbers = folds_of(labelled(texts, ["x"] * 110), 4, strata)
    assert numbers[:20] == numbers[90:]
    of_texts = Counter(zip(numbers[:90], strata[:90], strict=True))
    for stratum, size in ((0, 60), (1, 23), (2, 7)):
        assert {of_texts[fold, stratum] for fold in range(4)} <= {size // 4, -(-size // 4)}
    assert {*Counter(numbers[:90]).values()} == {22, 23}
    assert numbers == folds_of(labelled(texts, ["x"] * 110), 4, strata)  # by hashes of texts: the same on every machine
    again = folds_of(labelled(texts[::-1], ["x"] * 110), 4, strata[::-1])
    assert again[::-1] == numbers and folds_of(labelled(texts, ["x"] * 110), 4, strata, seed=1) != numbers


def test_more_folds_than_texts_are_refused() -> None:
    with pytest.raises(DataError, match="3 different texts cannot be divided into 4 folds: give fewer folds"):
        folds_of(labelled(["a", "b", "c", "A"], ["x"] * 4), 4, [0] * 4)


def test_a_folds_model_sees_neither_its_fold_nor_a_text_of_it() -> None:
    texts = [f"text {number % 50}" for number in range(60)]
    rows = labelled(texts, ["xy"[number % 2] for number in range(60)])
    folds = divide(SINGLE_LABEL, rows, 5, 0)
    tested: list[str] = []
    for fold in range(5):
        labels, splits = splits_of(folds, fold, 0.2)
        seen = {split: {*its.text_hashes()} for split, its in splits.items()}
        assert not seen["test"] & seen["train"] and not seen["test"] & seen["dev"] and not seen["train"] & seen["dev"]
        assert sum(len(its) for its in splits.values()) == 60 and labels.names == ["x", "y"]
        assert 5 <= len(seen["dev"]) <= 9  # a fifth of the forty texts of the other folds
        tested += splits["test"].ids
    assert sorted(tested) == sorted(rows.ids)


def test_labels_are_the_whole_files_and_the_unit_of_numbers_is_trains_alone() -> None:
    rows = labelled([f"text {number}" for number in range(40)], [str(number / 4) for number in range(40)])
    folds = divide(REGRESSION, rows, 4, 0)
    for fold in range(4):
        labels, splits = splits_of(folds, fold, 0.1)
        values = np.array([float(label) for label in labels_in(splits["train"])])
        assert labels.centre == pytest.approx(values.mean()) and labels.scale == pytest.approx(values.std())
    rare = labelled([f"text {number}" for number in range(41)], [*"xy" * 20, "z"])  # one z: its fold's model never saw it
    folds = divide(SINGLE_LABEL, rare, 4, 0)
    for fold in range(4):
        labels, splits = splits_of(folds, fold, 0.1)
        assert labels.names == ["x", "y", "z"] and ("z" in labels_in(splits["train"])) == (folds.numbers[40] != fold)


def labels_in(rows: Rows) -> list[str]:
    assert isinstance(rows, Labelled)
    return rows.labels or []


# ---- outputs in the file's order


def test_outputs_of_all_folds_come_back_in_the_order_of_the_file() -> None:
    rows = labelled([f"text {number}" for number in range(23)], ["xy"[number % 2] for number in range(23)])
    folds = divide(SINGLE_LABEL, rows, 3, 0)
    outputs = [np.stack([folds.held_out(fold), -folds.held_out(fold)], 1).astype(float) for fold in range(3)]
    gathered, labels = out_of_fold(folds, outputs, [folds.labels] * 3)
    assert gathered[:, 0].tolist() == list(range(23)) and labels == folds.labels


def test_sentences_keep_their_words_and_answers_their_models_threshold() -> None:
    places = np.array([2, 0, 1])  # one part of two sentences, one of one
    first = Tagged([["B-X", "O"], []], [np.array([0.9, 0.8]), np.array([])], np.array([[0.1, 0.9], [0.2, 0.8]]))
    second = Tagged([["O"]], [np.array([0.7])], np.array([[0.3, 0.7]]))
    tagged, tuned = TOKENS.gather([first, second], places, [Labels([])] * 2)
    assert tagged.tags == [[], ["O"], ["B-X", "O"]] and tagged.of_words.tolist() == [[0.3, 0.7], [0.1, 0.9], [0.2, 0.8]]
    assert [each.tolist() for each in tagged.likely] == [[], [0.7], [0.9, 0.8]] and tuned == {}

    found = [Found([Candidate("an answer", 0, 9, 3.0)], score) for score in (4.0, 2.0, 9.0)]
    known = [Labels(["start", "end"], tuned={THRESHOLD: 1.5}), Labels(["start", "end"], tuned={THRESHOLD: None})]
    gathered, tuned = ANSWERS.gather([found[:2], found[2:]], np.array([1, 0, 2]), known)
    pooled = replace(known[0], tuned=tuned)
    for place, (each, its) in enumerate([(found[1], known[0]), (found[0], known[0]), (found[2], known[1])]):
        assert gathered[place].choose(tuned[THRESHOLD])[0] == each.choose(its.tuned[THRESHOLD])[0] == "an answer"
    refused = Found([Candidate("an answer", 0, 9, 3.0)], 5.0)  # 2 above, more than 1.5
    gathered, tuned = ANSWERS.gather([[refused]], np.array([0]), known[:1])
    assert gathered[0].choose(pooled.tuned[THRESHOLD])[0] == "" == refused.choose(1.5)[0]


# ---- the verb


WRONG = 12


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """They cost more than all else here, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertlab.pages.figures.can_draw", lambda: False)
        yield


@pytest.fixture(scope="module")
def file(
    texts: Callable[[int, int], list[tuple[str, set[str]]]],
    write: Callable[[Path, list[dict[str, Any]]], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, set[str]]:
    """Rows whose label follows from a word, and the ids of WRONG of them whose label is turned round."""
    rows = [
        {"id": f"row {number}", "text": text, "label": "music" if "music" in topics else "other"}
        for number, (text, topics) in enumerate(texts(150, 0))
    ]
    wrong = {row["id"] for row in rows[5::12][:WRONG]}
    for row in rows:
        if row["id"] in wrong:
            row["label"] = "other" if row["label"] == "music" else "music"
    return write(tmp_path_factory.mktemp("data") / "train.jsonl", rows), wrong


QUICK: dict[str, Any] = {"folds": 3, "epochs": 10, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def crossed(base: str, file: tuple[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A whole run; and what it said."""
    import contextlib
    import io

    out, said = tmp_path_factory.mktemp("crossed") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        metrics = crossval.run(crossval.Config(model=base, train=file[0], out=str(out), **QUICK))
    return out, metrics, said.getvalue()


def test_folds_that_learnt_nothing_are_told(
    base: str, file: tuple[str, set[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = QUICK | {"learning_rate": 1e-12, "epochs": 1, "folds": 2, "baselines": False}
    metrics = crossval.run(crossval.Config(model=base, train=file[0], out=str(tmp_path / "run"), **slow))
    failed = [fold["fold"] + 1 for fold in metrics["folds"] if fold["failed"]]
    assert failed, "a model that cannot move from its random head is no better than one answer for all"
    assert f"failed     {len(failed)} of 2 folds ({', '.join(map(str, failed))}): on dev no better than one" in capsys.readouterr().out


def test_every_row_has_a_prediction_and_the_scores_are_those_of_all_of_them(crossed: tuple[Path, dict[str, Any], str]) -> None:
    out, metrics, said = crossed
    columns = pq.read_table(out / "predictions.parquet").to_pydict()
    assert columns["id"] == [f"row {number}" for number in range(150)]
    assert metrics == read_json(out / "metrics.json") and metrics["n"] == 150
    assert metrics["macro"]["f1"] == pytest.approx(f1_score(columns["gold"], columns["predicted"], average="macro"))
    assert metrics["intervals"]["macro"]["f1"]["low"] < metrics["macro"]["f1"] < metrics["intervals"]["macro"]["f1"]["high"]
    of_folds = [fold["test"]["macro"]["f1"] for fold in metrics["folds"]]
    assert metrics["over_folds"]["macro_f1"] == {"mean": pytest.approx(np.mean(of_folds)), "sd": pytest.approx(np.std(of_folds, ddof=1))}
    assert sum(fold["examples"]["test"] for fold in metrics["folds"]) == 150 and all(fold["dev"]["n"] for fold in metrics["folds"])
    assert [fold["failed"] for fold in metrics["folds"]] == [False] * 3 and "failed" not in said
    assert set(metrics["baselines"]) == {"TF-IDF + logistic regression", "majority class"}
    against = metrics["against_baseline"]
    assert (against["a"], against["n"]) == (pytest.approx(metrics["macro"]["f1"]), 150)
    of_baseline = pq.read_table(out / against["file"]).to_pydict()
    assert of_baseline["id"] == columns["id"] and of_baseline["gold"] == columns["gold"]
    assert against["b"] == pytest.approx(f1_score(of_baseline["gold"], of_baseline["predicted"], average="macro"))
    assert against["file"] in read_sealed(out / MANIFEST)["files"]
    verdict = next(line for line in said.splitlines() if line.startswith("verdict"))
    assert verdict.endswith(f"on these {len(columns['id'])} examples: macro-F1 {against['a']:.3f} against {against['b']:.3f}")
    assert f"learning rate {metrics['learning_rate']:g} (as asked)" in said
    assert "over 3 folds: macro-F1" in said and "out-of-fold answers together" in said and not (out / "seeds").exists()
    assert not (out / "model").exists()


def test_verify_knows_a_cross_validation_and_the_damage_to_one(crossed: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    links = [(link.name, link.status) for link in chain.follow([crossed[0]])]
    assert {("run", "ok"), ("train file", "ok"), ("predictions", "ok")} <= {*links}
    assert "checkpoint" not in dict(links) and "differs" not in dict(links).values()
    copy = shutil.copytree(crossed[0], tmp_path / "copy")
    errors = copy / "label_errors.jsonl"
    errors.write_bytes(errors.read_bytes()[:-2])
    assert "label_errors.jsonl" in next(link.message for link in chain.follow([copy]) if link.status == "differs")
    damaged = bytearray((copy / "predictions.parquet").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / "predictions.parquet").write_bytes(damaged)
    with pytest.raises(CorruptError, match="not the file that was written"):
        read_predictions(copy / "predictions.parquet")


def test_most_planted_wrong_labels_are_found_and_most_of_what_is_found_was_planted(
    crossed: tuple[Path, dict[str, Any], str], file: tuple[str, set[str]]
) -> None:
    out, _, said = crossed
    found = [json.loads(line) for line in (out / "label_errors.jsonl").read_text().splitlines()]
    hits = {each["id"] for each in found} & file[1]
    assert len(hits) >= 0.75 * WRONG and len(hits) >= 0.6 * len(found)
    assert [each["margin"] for each in found] == sorted(each["margin"] for each in found)
    assert all(each["label"] != each["likelier"] and each["text"] for each in found)
    assert json.loads((out / "metrics.json").read_text())["label_errors"] == {"suspected": len(found), "too_weak": []}
    assert f"{len(found)} suspected labels in 150 examples, suspicions and no proofs" in said
    wrong = [json.loads(line) for line in (out / "mistakes.jsonl").read_text().splitlines()]
    assert {each["id"] for each in found} <= {each["id"] for each in wrong if each["likely_label_error"]}


def test_compare_reads_what_two_cross_validations_left(
    crossed: tuple[Path, dict[str, Any], str], base: str, file: tuple[str, set[str]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    crossval.run(
        crossval.Config(model=base, train=file[0], out=str(other), **QUICK | {"epochs": 1, "learning_rate": 1e-5, "baselines": False})
    )
    found = compare.run(compare.Config(runs=(str(crossed[0]), str(other)), resamples=500))
    assert found["n"] == 150
    assert found["pairs"][0]["settings"] == {"epochs": [QUICK["epochs"], 1], "learning_rate": [QUICK["learning_rate"], 1e-5]}


def test_a_run_that_was_cut_off_goes_on_with_the_folds_that_are_not_finished(
    crossed: tuple[Path, dict[str, Any], str],
    base: str,
    file: tuple[str, set[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bertlab.tasks import seeds

    trained: list[int] = []
    train_seed = seeds.train_seed

    def stopping(recipe: Any, data: Any, model: Any, seed: int, accelerator: Any, **more: Any) -> dict[str, Any]:
        if seed == stop_at:
            raise KeyboardInterrupt
        trained.append(seed)
        return train_seed(recipe, data, model, seed, accelerator, **more)

    monkeypatch.setattr(seeds, "train_seed", stopping)
    config = crossval.Config(model=base, train=file[0], out=str(tmp_path / "run"), **QUICK)
    stop_at = 2
    with pytest.raises(KeyboardInterrupt, match="2 of 3 folds are finished and kept"):
        crossval.run(config)
    assert trained == [0, 1] and not (tmp_path / "run" / "metrics.json").exists()
    stop_at = -1
    metrics = crossval.run(config)
    assert trained == [0, 1, 2] and metrics == crossed[1]
    for name in ("predictions.parquet", "label_errors.jsonl", "mistakes.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (crossed[0] / name).read_bytes()
    (tmp_path / "run" / "seeds" / "fold-0").mkdir(parents=True)  # killed when it took the weights away
    capsys.readouterr()
    assert crossval.run(config) == metrics and trained == [0, 1, 2] and not (tmp_path / "run" / "seeds").exists()
    assert "is finished: nothing to do" in capsys.readouterr().out


def rows_of_kind(kind: str, made: list[tuple[str, set[str]]]) -> list[dict[str, Any]]:
    """Texts as examples of a kind of task, all of which follow from their words."""
    if kind == "multi-label":
        return [{"text": text, "label": sorted(topics)} for text, topics in made]
    if kind == "regression":
        return [{"text": text, "label": len(topics) + 0.5} for text, topics in made]
    if kind == "tokens":
        sky = {"comet": "B-SKY", "river": "B-WATER"}
        return [{"tokens": text.split(), "tags": [sky.get(word, "O") for word in text.split()]} for text, _ in made]
    return [
        {
            "question": "one of the sky",
            "context": text,
            "answers": [{"text": "comet", "start": text.index("comet")}] if "sky" in topics else [],
        }
        for text, topics in made
    ]


@pytest.mark.parametrize("kind", ["multi-label", "regression", "tokens", "answers"])
def test_every_kind_is_cross_validated_and_compared(
    base: str,
    texts: Callable[[int, int], list[tuple[str, set[str]]]],
    write: Callable[[Path, list[dict[str, Any]]], str],
    tmp_path: Path,
    kind: str,
) -> None:
    train = write(tmp_path / "train.jsonl", rows_of_kind(kind, texts(60, 4)))
    settings: dict[str, Any] = {"train": train, "folds": 2, "epochs": 2, "device": "cpu", "precision": "fp32", "dev_share": 0.2}
    metrics = crossval.run(crossval.Config(model=base, out=str(tmp_path / "run"), learning_rate=1e-2, **settings))
    assert metrics["task"] == kind and metrics["n"] == 60 and sum(fold["examples"]["test"] for fold in metrics["folds"]) == 60
    columns = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    assert columns["id"] == [f"train.jsonl:{number}" for number in range(1, 61)]
    mistakes = [json.loads(line) for line in (tmp_path / "run" / "mistakes.jsonl").read_text().splitlines()]
    wrong = [row for row in range(60) if columns["gold"][row] != columns["predicted"][row]]
    if kind in ("multi-label", "regression"):
        assert len(mistakes) == len(wrong) > 0
    assert all(each["text"] and "row" not in each for each in mistakes)
    assert (tmp_path / "run" / "label_errors.jsonl").exists() == (kind in ("multi-label", "tokens"))
    file = tmp_path / "run" / "predictions.parquet"
    assert compare.run(compare.Config(runs=(f"one:{file}", f"other:{file}"), resamples=100))["n"] == 60


def test_labels_written_in_two_ways_are_told_before_any_training(
    base: str,
    write: Callable[[Path, list[dict[str, Any]]], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bertlab.tasks import seeds

    def stopped(*_: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(seeds, "train_seed", stopped)
    train = write(
        tmp_path / "train.jsonl", [{"text": f"the {number}", "label": ("Ale", "ale", "beer")[number % 3]} for number in range(60)]
    )
    with pytest.raises(KeyboardInterrupt):
        crossval.run(crossval.Config(model=base, train=train, out=str(tmp_path / "run"), **QUICK))
    assert "warning: 1 label is written in ways that differ only in case, spaces or Unicode form (Ale / ale)" in capsys.readouterr().out


def test_settings_and_files_that_cannot_be_used_are_refused_before_any_training(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    few = write(tmp_path / "few.jsonl", [{"text": f"the {number}", "label": "ab"[number % 2]} for number in range(4)])
    for settings, error, message in (
        ({"folds": 1}, ConfigError, "folds=1: give 2 or more"),
        ({"folds": 5}, DataError, "4 different texts cannot be divided into 5 folds"),
        ({"long": "windows", "task": "answers"}, DataError, "few.jsonl"),
        ({"label_smoothing": 0.1, "task": "regression"}, ConfigError, "knows no smoothing"),
    ):
        with pytest.raises(error, match=message):
            crossval.run(crossval.Config(model=base, train=few, out=str(tmp_path / "run"), **settings))
        assert not (tmp_path / "run").exists()
