"""bertlab tune: the grids of the papers, trials that are never run twice, a choice by dev alone."""

import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

import bertlab
from bertlab.disk import read_json
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.facts import load_facts
from bertlab.tasks.search import Settings, best_trial, prefix_of, search, settings_of, usual_values
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.training import chain
from bertlab.verbs import finetune, tune


def test_the_grid_is_the_papers_for_the_models_size() -> None:
    base = settings_of(usual_values(768), None, 0)
    assert len(base) == 18 and base[0] == Settings(5e-5, 16, 2) and base[-1] == Settings(2e-5, 32, 4)
    assert {each.epochs for each in base} == {2, 3, 4} and {each.batch_size for each in base} == {16, 32}
    mini = settings_of(usual_values(256), None, 0)
    assert len(mini) == 20 and {each.learning_rate for each in mini} == {3e-4, 1e-4, 5e-5, 3e-5} and {each.epochs for each in mini} == {4}
    tiny = settings_of(usual_values(128), None, 0)  # finetune's own rate for tiny is among those that are tried
    assert len(tiny) == 25 and {each.learning_rate for each in tiny} == {1e-3, 3e-4, 1e-4, 5e-5, 3e-5}


def test_trials_are_drawn_by_the_seed_all_different_and_fewer_are_the_beginning_of_more() -> None:
    values = usual_values(768)
    grid = settings_of(values, None, 0)
    ten = settings_of(values, 10, 3)
    assert len({*ten}) == 10 and {*ten} < {*grid} and settings_of(values, 4, 3) == ten[:4] and settings_of(values, 10, 4) != ten
    assert ten != grid[:10] and {*settings_of(values, 18, 3)} == {*grid}
    first = {settings_of(values, 1, seed)[0] for seed in range(200)}
    assert len(first) == 18  # none is out of reach
    with pytest.raises(ConfigError, match="trials=19: the grid has 18 combinations"):
        settings_of(values, 19, 0)


# ---- a search whose trials cost nothing


SETTINGS = [Settings(rate, batch, 2) for rate in (1e-3, 1e-4, 1e-5) for batch in (16, 32)]
SCORES = [0.5, 0.7, 0.6, 0.7, 0.9, 0.1]


class Trainer:
    """Stands for training: the score of a setting is SCORES', its weights a file; killed at the call that `stop` names."""

    def __init__(self, stop: int = -1, diverging: tuple[int, ...] = ()) -> None:
        self.calls: list[tuple[int, int]] = []
        self.stop, self.diverging = stop, diverging

    def __call__(self, settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
        number = SETTINGS.index(settings)
        if len(self.calls) == self.stop:
            raise KeyboardInterrupt
        if number in self.diverging:
            raise ConfigError("50 steps in a row without a finite loss")
        state = folder / "state.json"
        if not state.exists():  # as `resumed` does
            self.calls.append((number, seed))
            score = SCORES[number] + 0.02 * seed
            folder.mkdir(parents=True)
            dev = {"macro": {"f1": score}, "accuracy": score}
            state.write_text(json.dumps({"seed": seed, "epoch": 1, "dev": dev, "dev_loss": 1.0 + number / 100}))
        return dict(json.loads(state.read_text()))


def searched(train: Trainer, out: Path, *, seeds: tuple[int, ...] = (0, 1), settings: list[Settings] = SETTINGS) -> list[dict[str, Any]]:
    def of_trial(number: int) -> list[dict[str, Any]]:
        return [train(settings[number - 1], seed, out / "seeds" / f"{prefix_of(number)}seed-{seed}") for seed in seeds]

    return search(SINGLE_LABEL, settings, of_trial, out, Accelerator(cpu=True))


def folders(out: Path) -> list[str]:
    return sorted(folder.name for folder in (out / "seeds").iterdir())


def test_every_trial_is_run_once_and_only_the_weights_of_the_best_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Trainer()
    lines = searched(train, tmp_path)
    assert train.calls == [(number, seed) for number in range(6) for seed in (0, 1)]
    assert [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()] == lines
    assert [line["score"] for line in lines] == pytest.approx([score + 0.01 for score in SCORES])
    assert lines[0]["trial"] == 1 and {name: lines[3][name] for name in asdict(SETTINGS[3])} == asdict(SETTINGS[3])
    assert lines[0]["sd"] == pytest.approx(0.02 / 2**0.5) and lines[4]["dev_loss"] == pytest.approx(1.04)
    assert best_trial(lines)["trial"] == 5 and folders(tmp_path) == ["trial-0005-seed-0", "trial-0005-seed-1"]
    assert "trial 5 of 6: learning_rate 1e-05, batch_size 16, epochs 2: dev macro-f1 0.910" in capsys.readouterr().out
    again = Trainer()
    assert searched(again, tmp_path) == lines and again.calls == []


@pytest.mark.parametrize("stop", range(12))
def test_a_search_killed_at_any_seed_of_any_trial_ends_as_if_it_had_not_been(tmp_path: Path, stop: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    searched(Trainer(), whole)
    with pytest.raises(KeyboardInterrupt, match=f"{stop // 2} of 6 trials (is|are) finished" if stop > 1 else "none of 6 trials"):
        searched(first := Trainer(stop), cut)
    searched(second := Trainer(), cut)
    assert first.calls + second.calls == [(number, seed) for number in range(6) for seed in (0, 1)]
    assert (cut / "trials.jsonl").read_bytes() == (whole / "trials.jsonl").read_bytes() and folders(cut) == folders(whole)


def test_what_a_kill_left_half_deleted_goes(tmp_path: Path) -> None:
    searched(Trainer(), tmp_path, seeds=(0,), settings=SETTINGS[:2])
    (tmp_path / "seeds" / ".tmp-0123-trial-0001-seed-0").mkdir()
    (tmp_path / "seeds" / f"{prefix_of(1)}seed-0").mkdir()  # killed after the line of the second trial was written
    searched(Trainer(), tmp_path, seeds=(0,))
    assert folders(tmp_path) == ["trial-0005-seed-0"]


def test_the_best_trial_is_that_of_the_highest_score_then_of_the_lower_loss_then_the_first() -> None:
    def line(trial: int, score: float | None, loss: float | None) -> dict[str, Any]:
        return {"trial": trial, "score": score, "dev_loss": loss}

    assert best_trial([line(1, 0.5, 1.0), line(2, 0.6, 9.0), line(3, None, None)])["trial"] == 2
    assert best_trial([line(1, 0.6, 1.0), line(2, 0.6, 0.9), line(3, 0.6, None)])["trial"] == 2
    assert best_trial([line(1, 0.6, 1.0), line(2, 0.6, 1.0)])["trial"] == 1


def test_a_trial_that_diverges_is_a_line_with_the_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    lines = searched(Trainer(diverging=(0, 4)), tmp_path, seeds=(0,))
    assert [line["trial"] for line in lines if line["score"] is None] == [1, 5] and "without a finite" in lines[4]["failed"]
    assert best_trial(lines)["trial"] == 2
    with pytest.raises(ConfigError, match="all 6 trials failed, the last: 50 steps in a row"):
        best_trial(searched(Trainer(diverging=tuple(range(6))), tmp_path / "none", seeds=(0,)))


@pytest.mark.parametrize(
    "content", ["not json\n", "[]\n", '{"trial": 1}\n', '{"trial": 1, "learning_rate": 1, "batch_size": 16, "epochs": 2}\n']
)
def test_a_table_that_is_not_this_searchs_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trials.jsonl").write_text(content)
    with pytest.raises(CorruptError, match="not the table that this search writes"):
        searched(Trainer(), tmp_path, seeds=(0,))


# ---- the verb, trained


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """They cost more than all else here, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertlab.pages.figures.can_draw", lambda: False)
        yield


@pytest.fixture(scope="module")
def files(
    texts: Callable[[int, int], list[tuple[str, set[str]]]],
    write: Callable[[Path, list[dict[str, Any]]], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")

    def rows(count: int, seed: int) -> list[dict[str, Any]]:
        return [{"text": text, "label": "music" if "music" in topics else "other"} for text, topics in texts(count, seed)]

    return {
        name: write(folder / f"{name}.jsonl", rows(count, seed)) for seed, (name, count) in enumerate({"train": 80, "test": 40}.items())
    }


QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
SEARCHED: dict[str, Any] = {"learning_rates": (1e-2, 1e-5), "batch_sizes": (16,), "epoch_counts": (2,)} | QUICK


@pytest.fixture(scope="module")
def tuned(base: str, files: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("tuned") / "run"
    return out, tune.run(tune.Config(model=base, out=str(out), **files, **SEARCHED))


def trials(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_a_trial_is_what_finetune_makes_of_the_same_settings(
    tuned: tuple[Path, dict[str, Any]], base: str, files: dict[str, Any], tmp_path: Path
) -> None:
    out, metrics = tuned
    (trial,) = [line for line in trials(out) if line["learning_rate"] == 1e-2]
    settings: dict[str, Any] = {"seeds": 1, "epochs": 2, "batch_size": 16, "learning_rate": 1e-2} | QUICK
    alone = finetune.run(finetune.Config(model=base, out=str(tmp_path / "run"), **files, **settings))
    assert [each["dev_loss"] for each in trial["seeds"]] == [each["dev_loss"] for each in alone["seeds"]]
    assert metrics["search"]["chosen"] == trial and metrics["search"]["trials"] == 2
    assert metrics["test"] == alone["test"] and metrics["dev"] == alone["dev"] and metrics["baselines"] == alone["baselines"]
    assert metrics["learning_rate"] == alone["learning_rate"] == metrics["search"]["chosen"]["learning_rate"]
    assert (out / "model" / "model.safetensors").read_bytes() == (tmp_path / "run" / "model" / "model.safetensors").read_bytes()


def test_how_many_were_tried_and_that_the_best_flatters_is_said_and_kept(
    tuned: tuple[Path, dict[str, Any]], base: str, files: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out, metrics = tuned
    assert read_json(out / "metrics.json") == metrics and load_facts(str(out / "model"))["trials"] == 2
    assert "with the best of 2 settings by the same" in (out / "model" / "README.md").read_text()
    from bertlab.pages.trials import trial_lines

    shown = "\n".join(trial_lines(trials(out), metrics["search"], "macro_f1", metrics["dev_intervals"], ("macro", "f1"), 8))
    assert "tried      2 settings; dev macro-F1: mean" in shown and "the best of 2 on 8 examples, and so optimistic" in shown
    assert "of the 1 others reach into it" in shown
    scores = [line["score"] for line in trials(out)]
    told = {"failed": 0, "mean": pytest.approx(statistics.mean(scores)), "sd": pytest.approx(statistics.stdev(scores))}
    other = next(line["score"] for line in trials(out) if line["trial"] != metrics["search"]["chosen"]["trial"])
    told["reaching"] = int(other >= metrics["dev_intervals"]["macro"]["f1"]["low"])
    assert {name: metrics["search"][name] for name in told} == told
    assert bertlab.load(str(out / "model")).predict(["violin of the old place"])[0].label in ("music", "other")
    assert "differs" not in {link.status for link in chain.follow([out])}
    capsys.readouterr()
    assert tune.run(tune.Config(model=base, out=str(out), **files, **SEARCHED)) == metrics
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_a_rate_that_ends_in_nan_within_an_epoch_is_a_trial_that_failed(
    base: str, files: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"learning_rates": (1e30, 1e-3), "batch_sizes": (64,), "epoch_counts": (1,), "seeds": 1}
    metrics = tune.run(tune.Config(model=base, out=str(tmp_path / "run"), **files, **SEARCHED | rates))
    failed, fine = trials(tmp_path / "run")
    assert failed["score"] is None and failed["failed"] == "after an epoch the model gives NaN or infinity on dev: lower the learning rate"
    assert fine["score"] is not None and metrics["search"]["failed"] == 1 and metrics["learning_rate"] == 1e-3
    assert "of which 1 diverged" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="NaN or infinity on dev: lower the learning rate"):
        finetune.run(finetune.Config(model=base, out=str(tmp_path / "one"), learning_rate=1e30, batch_size=64, epochs=1, seeds=1, **files))


def test_the_test_file_has_no_part_in_the_search(
    tuned: tuple[Path, dict[str, Any]], base: str, files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertlab.tasks import seeds

    handed: list[set[str]] = []
    train_seed = seeds.train_seed

    def watched(recipe: Any, data: Any, *others: Any) -> dict[str, Any]:
        handed.append({*data.splits, *data.gold, *data.encoded})
        return train_seed(recipe, data, *others)

    monkeypatch.setattr(seeds, "train_seed", watched)
    swapped = Path(files["test"]).read_text().replace('"music"', '"?"').replace('"other"', '"music"').replace('"?"', '"other"')
    (tmp_path / "test.jsonl").write_text(swapped)
    tune.run(tune.Config(model=base, out=str(tmp_path / "run"), **(files | {"test": str(tmp_path / "test.jsonl")}), **SEARCHED))
    assert handed == [{"train", "dev"}] * 2
    assert (tmp_path / "run" / "trials.jsonl").read_bytes() == (tuned[0] / "trials.jsonl").read_bytes()
    weights = [folder / "model" / "model.safetensors" for folder in (tmp_path / "run", tuned[0])]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_weights_of_the_best_trial_that_were_damaged_are_trained_again(
    tuned: tuple[Path, dict[str, Any]], base: str, files: dict[str, Any], tmp_path: Path
) -> None:
    out = shutil.copytree(tuned[0], tmp_path / "run")
    expected = (out / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(out / "model")
    (weights,) = (out / "seeds").glob("*/step-*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert tune.run(tune.Config(model=base, out=str(out), **files, **SEARCHED)) == tuned[1]
    assert (out / "model" / "model.safetensors").read_bytes() == expected


def test_settings_that_cannot_be_used_are_refused(base: str, files: dict[str, Any], tmp_path: Path) -> None:
    for settings, message in (
        ({"trials": 0}, "trials=0"),
        ({"learning_rates": (1e-3, 1e-3)}, "each once"),
        ({"batch_sizes": (0,)}, "batch_sizes=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"seeds": 0}, "seeds=0"),
        ({"epochs": 3}, "give learning_rates, batch_sizes, epoch_counts"),
        ({"trials": 3} | SEARCHED, "the grid has 2 combinations"),
    ):
        with pytest.raises(ConfigError, match=message):
            tune.run(tune.Config(model=base, out=str(tmp_path / "run"), **files, **settings))
        assert not (tmp_path / "run").exists()
