"""bertlab compare: from predictions files alone, what each test says of them, and a refusal for what cannot be compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertlab.disk import read_json, sha256_file, write_json, write_sealed
from bertlab.errors import ConfigError, DataError
from bertlab.evaluation.intervals import of_metrics
from bertlab.evaluation.predictions import write_predictions
from bertlab.verbs.compare import Config, run, systems_of

NAMES = ["ale", "bread", "cheese"]
N = 240
GOLD = np.random.default_rng(0).choice(3, size=N, p=[0.5, 0.3, 0.2])


def predictions(right: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(N) < right, GOLD, draw.integers(3, size=N))


def write(path: Path, predicted: np.ndarray, **columns: Any) -> str:
    ids, hashes = [f"row {number}" for number in range(N)], [f"{number:064x}" for number in range(N)]
    write_predictions(path, ids=ids, text_hashes=hashes, gold=GOLD.tolist(), probabilities=np.eye(3)[predicted], names=NAMES)
    if columns:
        table = pq.read_table(path)
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        pq.write_table(table, path)
    return str(path.parent if path.name == "predictions.parquet" else path)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """Two evaluations far apart and a third like the first."""
    good = predictions(0.9, 1)
    like = np.where(np.arange(N) % 40 == 0, (good + 1) % 3, good)
    written = {"good": good, "poor": predictions(0.6, 2), "like": like}
    return {name: write(tmp_path / name / "predictions.parquet", predicted) for name, predicted in written.items()}


def compared(*systems: str, **settings: Any) -> dict[str, Any]:
    return run(Config(runs=systems, **({"resamples": 500} | settings)))


def test_two_models_have_their_difference_interval_and_p_for_every_metric(runs: dict[str, str], tmp_path: Path) -> None:
    asked = ("accuracy", "macro_f1", "mcc", "f1:cheese")
    facts = compared(runs["good"], runs["poor"], metrics=asked, json=str(tmp_path / "facts.json"))
    assert read_json(tmp_path / "facts.json") == facts
    assert (facts["n"], facts["R"], facts["seed"], facts["level"], facts["comparisons"]) == (N, 500, 0, 0.95, 4)
    a, b = predictions(0.9, 1), predictions(0.6, 2)
    by_sklearn = {
        "accuracy": accuracy_score,
        "macro_f1": lambda gold, each: f1_score(gold, each, average="macro"),
        "mcc": matthews_corrcoef,
        "f1:cheese": lambda gold, each: f1_score(gold, each, average=None)[2],
    }
    (pair,) = facts["pairs"]
    assert (pair["a"], pair["b"], pair["claim_about"]) == ("good", "poor", "models") and pair["different_answers"] == int((a != b).sum())
    assert [result["metric"] for result in pair["metrics"]] == list(asked)
    for result in pair["metrics"]:
        of_a, of_b = (by_sklearn[result["metric"]](GOLD, each) for each in (a, b))
        assert (result["a"], result["b"], result["difference"]) == pytest.approx((of_a, of_b, of_a - of_b))
        assert result["interval"]["low"] < result["difference"] < result["interval"]["high"] and result["interval"]["low"] > 0
        assert result["p"] < 0.01 and result["p_corrected"] >= result["p"]
    accuracy, macro = pair["metrics"][:2]
    only_a, only_b = int(((a == GOLD) & (b != GOLD)).sum()), int(((b == GOLD) & (a != GOLD)).sum())
    assert accuracy["p"] == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue) and accuracy["test"] == "McNemar exact"
    assert macro["p"] == macro["p_randomisation"] == pytest.approx(1 / 501) and macro["test"] == "randomisation"


def test_each_systems_scores_have_the_intervals_of_an_evaluation(runs: dict[str, str]) -> None:
    facts = compared(runs["good"], runs["poor"], seed=4)
    expected = of_metrics(GOLD, predictions(0.9, 1), NAMES, seed=4, resamples=500)
    scores = facts["systems"][0]["scores"]
    assert scores["accuracy"]["interval"] == expected["accuracy"] and scores["macro_f1"]["interval"] == expected["macro"]["f1"]


def test_all_pairs_are_corrected_together_or_the_first_with_each_of_the_others(runs: dict[str, str]) -> None:
    every = compared(runs["good"], runs["poor"], runs["like"])
    assert [(pair["a"], pair["b"]) for pair in every["pairs"]] == [("good", "poor"), ("good", "like"), ("poor", "like")]
    p_values = sorted(result["p"] for pair in every["pairs"] for result in pair["metrics"])
    corrected = sorted(result["p_corrected"] for pair in every["pairs"] for result in pair["metrics"])
    assert corrected[0] == pytest.approx(6 * p_values[0]) and every["comparisons"] == 6
    first = compared(runs["good"], runs["poor"], runs["like"], against_first=True, correction="none")
    assert [(pair["a"], pair["b"]) for pair in first["pairs"]] == [("good", "poor"), ("good", "like")]
    for pair, same in zip(first["pairs"], every["pairs"], strict=False):
        for result, other in zip(pair["metrics"], same["metrics"], strict=True):
            assert result["p"] == other["p"] == result["p_corrected"]  # a third system changes nothing between two


def test_the_same_predictions_twice_are_no_difference(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    facts = compared(runs["good"], f"again:{runs['good']}")
    assert all((result["difference"], result["p"]) == (0.0, 1.0) for result in facts["pairs"][0]["metrics"])
    assert "good and again give the same answer to all 240 examples: there is no difference to test." in capsys.readouterr().out


def test_several_seeds_of_each_are_compared_as_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        write(tmp_path / "strong" / "predictions" / f"seed-{seed}.parquet", predictions(0.9, 10 + seed))
        write(tmp_path / "weak" / f"seed-{seed}.parquet", predictions(0.7, 20 + seed))
    listed = ",".join(str(tmp_path / "weak" / f"seed-{seed}.parquet") for seed in (0, 1))
    facts = compared(str(tmp_path / "strong" / "predictions"), f"weak:{listed}", metrics=("accuracy",))
    (pair,) = facts["pairs"]
    assert pair["claim_about"] == "methods" and pair["seeds"] == [3, 2]
    (result,) = pair["metrics"]
    assert result["test"] == "two-level bootstrap" and result["p"] == result["p_two_level"]
    assert result["seed_scores_a"] == pytest.approx([accuracy_score(GOLD, predictions(0.9, 10 + seed)) for seed in range(3)])
    assert facts["systems"][0]["scores"]["accuracy"]["sd"] == pytest.approx(np.std(result["seed_scores_a"], ddof=1))
    assert [file["name"] for file in facts["systems"][1]["files"]] == ["weak/seed-0.parquet", "weak/seed-1.parquet"]
    assert "A comparison over seeds is of methods" in capsys.readouterr().out


def test_clusters_make_the_interval_wider_and_leave_mcnemar_out(tmp_path: Path) -> None:
    """Blocks of ten rows in which one system or the other is wrong throughout."""
    draw = np.random.default_rng(1).integers(5, size=N // 10).repeat(10)
    a, b = np.where(draw == 0, (GOLD + 1) % 3, GOLD), np.where(draw == 1, (GOLD + 1) % 3, GOLD)
    users = [f"user {row // 10}" for row in range(N)]
    paths = [write(tmp_path / f"{name}.parquet", each, user=users) for name, each in (("a", a), ("b", b))]
    rows = compared(*paths, metrics=("accuracy",))["pairs"][0]["metrics"][0]
    facts = compared(*paths, metrics=("accuracy",), cluster="user")
    whole = facts["pairs"][0]["metrics"][0]
    assert facts["clusters"] == {"column": "user", "number": 24}
    assert whole["test"] == "randomisation" and "mcnemar" not in whole and whole["standard_error"] > 2 * rows["standard_error"]


def test_so_few_clusters_that_nothing_can_be_found_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, few in ((2, True), (4, True), (8, False)):
        teams = [f"team {row % number}" for row in range(N)]
        paths = [
            write(tmp_path / f"{name}-{number}.parquet", predictions(right, 1), team=teams) for name, right in (("a", 0.9), ("b", 0.5))
        ]
        result = compared(*paths, metrics=("accuracy",), cluster="team")["pairs"][0]["metrics"][0]
        assert (result["p"] > 0.05) == few, "as the least p of so many is above 0.05 or not"
        said = " ".join(capsys.readouterr().out.split())
        assert (f"warning: {number} clusters are too few" in said) == (f"{number} clusters can show none." in said) == few


def test_clusters_are_found_in_the_labelled_file_by_the_ids_of_the_rows(runs: dict[str, str], tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.parquet", predictions(0.8, seed), user=[f"user {row // 10}" for row in range(N)])
        for seed, name in enumerate("ab")
    ]
    wanted = compared(*paths, metrics=("accuracy",), cluster="user")
    data = tmp_path / "rows.csv"

    def rows(user: Callable[[int], str] = lambda row: f"user {row // 10}", id: str = "id") -> str:
        data.write_text(f"{id},text,user\n" + "".join(f"row {row},x,{user(row)}\n" for row in reversed(range(N))))
        return str(data)

    found = compared(*paths, metrics=("accuracy",), cluster="user", data=rows())
    assert found["pairs"] == wanted["pairs"] and found["clusters"] == wanted["clusters"]
    assert compared(*paths, metrics=("Accuracy",), cluster="user", data=rows(id="key"), id="key")["pairs"] == wanted["pairs"]
    with pytest.raises(ConfigError, match=r"data is for the column .*\(--cluster COLUMN\)"):
        Config(runs=tuple(paths), data="rows.csv")
    for words, data_of in (
        ("no row has the id 'row 0' of .*a.parquet: give the labelled file that was evaluated", lambda: rows(id="key")),
        ("nothing in the column 'user'", lambda: rows(lambda row: "" if row == 7 else "u")),
    ):
        with pytest.raises(DataError, match=words):
            compared(*paths, cluster="user", data=data_of())
    with pytest.raises(DataError, match="no column 'page'"):
        compared(*paths, cluster="page", data=rows())
    with pytest.raises(ConfigError, match="does not exist: give the labelled file"):
        compared(*paths, cluster="user", data=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r"no column 'user': give the labelled file that has it too \(--data FILE\)"):
        compared(runs["good"], runs["poor"], cluster="user")
    rows()
    data.write_text(data.read_text() + "row 3,x,somebody\n")
    with pytest.raises(DataError, match="the id 'row 3' is of two clusters, 'user 0' and 'somebody'"):
        compared(*paths, cluster="user", data=str(data))


def test_the_labelled_file_with_the_clusters_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a" / "predictions.parquet", predictions(0.8, 1))) / "predictions.parquet"
    other, data = write(tmp_path / "b.parquet", predictions(0.8, 2)), tmp_path / "rows.csv"
    data.write_text("id,user\n" + "".join(f"row {row},{row // 10}\n" for row in range(N)))
    for sha256, is_it in ((sha256_file(data), True), ("0" * 64, False)):
        write_sealed(path.parent / "manifest.json", {"from": {"data": {"path": "rows.csv", "sha256": sha256}}, "files": {}})
        if is_it:
            assert compared(str(path.parent), other, cluster="user", data=str(data))["clusters"] == {"column": "user", "number": 24}
        else:
            with pytest.raises(DataError, match=r"rows.csv is not the file that .* was made from \(its sha256 differs\)"):
                compared(str(path.parent), other, cluster="user", data=str(data))
    (path.parent / "manifest.json").unlink()
    write_sealed(path.parent / "inputs.json", {"train file": "1" * 64, "test file": sha256_file(data), "config.yaml": "2" * 64})
    assert compared(str(path.parent), other, cluster="user", data=str(data))["clusters"]["number"] == 24
    write_sealed(path.parent / "inputs.json", {"train file": "1" * 64, "test file": "3" * 64, "config.yaml": sha256_file(data)})
    with pytest.raises(DataError, match="is not the file that"):
        compared(str(path.parent), other, cluster="user", data=str(data))


def test_systems_are_named_after_their_folders_or_as_asked(runs: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "some" / "seed-1.parquet", GOLD)
    odd = write(tmp_path / "odd:name,with marks" / "predictions.parquet", GOLD)
    systems = systems_of((runs["good"], f"{runs['poor']}/predictions.parquet", file, f"mine:{file},{runs['good']}", odd))
    assert [system.name for system in systems] == ["good", "poor", "seed-1", "mine", "odd:name,with marks"]
    assert [system.rows for system in systems] == [[0], [1], [2], [3, 4], [5]]
    assert systems[3].files == [Path(file), Path(runs["good"]) / "predictions.parquet"]


def test_what_cannot_be_compared_is_refused_in_one_line(runs: dict[str, str], tmp_path: Path) -> None:
    def refused(kind: type[Exception], *systems: str, **settings: Any) -> str:
        with pytest.raises(kind) as caught:
            compared(*systems, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "name two systems or more" in refused(ConfigError, runs["good"])
    assert "two systems are called 'good'" in refused(ConfigError, runs["good"], runs["good"])
    assert "does not exist" in refused(ConfigError, runs["good"], str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    assert "holds no predictions.parquet" in refused(ConfigError, runs["good"], str(tmp_path / "empty"))
    assert "names no file" in refused(ConfigError, runs["good"], "name:")
    assert "twice" in refused(ConfigError, runs["good"], f"x:{runs['poor']},{runs['poor']}")
    assert "did you mean 'macro_f1'?" in refused(ConfigError, runs["good"], runs["poor"], metrics=("macro-f1",))
    assert "unknown metric 'f1:beer'" in refused(ConfigError, runs["good"], runs["poor"], metrics=("f1:beer",))
    for settings in ({"resamples": 99}, {"seed": -1}, {"level": 1.0}, {"metrics": ()}):
        assert next(iter(settings)) in refused(ConfigError, runs["good"], runs["poor"], **settings)
    other = tmp_path / "other" / "predictions.parquet"
    write_predictions(other, ids=["row 0"], text_hashes=["0" * 64], gold=[int(GOLD[0])], probabilities=np.eye(3)[:1], names=NAMES)
    message = refused(DataError, runs["good"], str(other))
    assert "239 ids are in one of them only" in message and "first: id 'row 1' is missing" in message


@pytest.mark.parametrize("gold, a, b", [([0], [0], [1]), ([0, 0], [0, 0], [0, 1]), ([1, 1, 1], [0, 0, 0], [2, 2, 0])])
def test_tiny_test_sets_give_finite_facts_and_a_screen(tmp_path: Path, gold: list[int], a: list[int], b: list[int]) -> None:
    paths = []
    for name, predicted in (("a", a), ("b", b)):
        ids = list(map(str, range(len(gold))))
        path = tmp_path / f"{name}.parquet"
        write_predictions(path, ids=ids, text_hashes=ids, gold=gold, probabilities=np.eye(3)[predicted], names=NAMES)
        paths.append(str(path))
    facts = compared(*paths, metrics=("accuracy", "macro_f1", "weighted_f1", "mcc", "per_class"), resamples=100)
    json.dumps(facts, allow_nan=False)
    assert facts["comparisons"] == 7


def test_the_same_call_gives_the_same_facts_and_another_seed_nearly(runs: dict[str, str]) -> None:
    first, again, other = (compared(runs["good"], runs["like"], seed=seed, resamples=5000) for seed in (0, 0, 1))
    assert first == again != other
    ours, theirs = (facts["pairs"][0]["metrics"][1] for facts in (first, other))
    assert ours["p"] == pytest.approx(theirs["p"], abs=0.03) and ours["interval"]["low"] == pytest.approx(
        theirs["interval"]["low"], abs=0.005
    )


@pytest.fixture
def python() -> Callable[[str], str]:
    def call(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
        return done.stdout

    return call


def test_settings_of_the_runs_that_differ_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bertlab.training.runlog import remember_inputs
    from bertlab.verbs import finetune

    folders = []
    for name, seed, settings in (("long", 1, {"epochs": 10}), ("short", 2, {"epochs": 5, "learning_rate": 2e-5, "baselines": False})):
        out = tmp_path / name
        (out / "model").mkdir(parents=True)
        (out / "model" / "model.safetensors").write_text(name)
        model = "my\x1bbert" if name == "long" else "other"
        remember_inputs(finetune.Config(model=model, train="t.csv", out=str(out), **settings), out, {})
        folders.append(write(out / "predictions.parquet", predictions(0.8, seed)))
        for number in range(2):
            write(out / "predictions" / f"seed-{number}.parquet", predictions(0.8, seed + number))
    differ = {"epochs": [10, 5], "learning_rate": [None, 2e-5], "model": ["my\x1bbert", "other"]}
    assert compared(*folders)["pairs"][0]["settings"] == differ
    said = " ".join(capsys.readouterr().out.split())
    assert "Settings that differ, long / short: epochs 10 / 5, learning_rate default / 2e-05, model my?bert / other." in said
    assert compared(*(f"{folder}/predictions" for folder in folders))["pairs"][0]["settings"] == differ

    # an evaluation of a run's model, as long as the weights are those that were evaluated
    scores = tmp_path / "scores"
    weights = Path(folders[1]) / "model" / "model.safetensors"
    origin = {"model": {"path": str(weights.parent), "files": {weights.name: sha256_file(weights)}}}
    evaluated = write(scores / "predictions.parquet", predictions(0.8, 3))
    write_sealed(scores / "manifest.json", {"from": origin})
    assert compared(folders[0], evaluated)["pairs"][0]["settings"] == differ
    capsys.readouterr()
    weights.write_text("trained further")
    assert compared(folders[0], evaluated)["pairs"][0]["settings"] is None
    assert compared(folders[1], f"again:{folders[1]}/predictions.parquet")["pairs"][0]["settings"] == {}
    assert "Settings" not in capsys.readouterr().out


def test_a_setting_that_nobody_gave_is_shown_as_what_the_run_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bertlab.training.runlog import remember_inputs
    from bertlab.verbs import finetune

    folders: list[str] = []
    asked: dict[str, Any] = {"epochs": 5, "learning_rate": 3e-4, "max_length": 128, "dropout": 0.2}
    for name, settings in {"usual": {}, "asked": asked}.items():
        out = tmp_path / name
        (out / "model").mkdir(parents=True)
        remember_inputs(finetune.Config(model="bert", train="t.csv", out=str(out), **settings), out, {})
        write_json(out / "metrics.json", {"learning_rate": 3e-4, "seeds": [{"epochs": 10 if name == "usual" else 5}]})
        write_json(out / "model" / "bertlab.json", {"max_length": 128, "long": "head"})
        folders.append(write(out / "predictions.parquet", predictions(0.8, len(folders))))
    assert compared(*folders)["pairs"][0]["settings"] == {"epochs": [10, 5], "dropout": [0.1, 0.2]}
    capsys.readouterr()
    (tmp_path / "usual" / "metrics.json").write_text("[]")  # which is none of ours: it says nothing
    assert compared(*folders)["pairs"][0]["settings"] == {"epochs": [None, 5], "learning_rate": [None, 3e-4], "dropout": [0.1, 0.2]}
    assert "epochs default / 5" in " ".join(capsys.readouterr().out.split())


def test_comparing_needs_neither_torch_nor_transformers(runs: dict[str, str], python: Callable[[str], str]) -> None:
    code = (
        "import sys; from bertlab.verbs.compare import Config, run; "
        f"run(Config(runs=({runs['good']!r}, {runs['poor']!r}), resamples=200)); "
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    assert python(code).splitlines()[-1] == "set()"
