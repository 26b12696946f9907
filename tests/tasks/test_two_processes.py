"""Every verb that fine-tunes, in two real processes: what they leave is what one process leaves.

Costs one fork of two processes (gloo, on the CPU), in which all verbs run one after the other. Without dropout, whose masks are a
process's own.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bertlab.disk import read_json
from bertlab.verbs import crossval, finetune, multitask, tune

VERBS: dict[str, Any] = {"finetune": finetune, "tune": tune, "crossval": crossval, "multitask": multitask}


def config_of(verb: str, given: dict[str, Any], **more: Any) -> Any:
    return VERBS[verb].Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()} | more)


@pytest.fixture(scope="module")
def settings(
    base: str, texts: Callable[..., Any], write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("files")

    def rows(count: int, seed: int) -> list[dict[str, Any]]:
        return [{"text": text, "label": "music" if "music" in topics else "other"} for text, topics in texts(count, seed)]

    train, test = write(folder / "train.jsonl", rows(81, 0)), write(folder / "test.jsonl", rows(40, 1))
    sets = write(folder / "sets.jsonl", [{"text": text, "label": sorted(topics)} for text, topics in texts(50, 2)])
    (folder / "music.yaml").write_text(f"train: {train}\ntest: {test}\n")
    (folder / "topics.yaml").write_text(f"train: {sets}\n")
    common = {"model": base, "device": "cpu", "precision": "fp32", "dropout": 0.0, "baselines": False}
    long = {"learning_rate": 1e-2, "epochs": 2}
    return {
        "finetune": {"train": train, "test": test, "seeds": 2} | long | common,
        "tune": {"train": train, "test": test, "learning_rates": [1e-2, 1e-4], "batch_sizes": [15], "epoch_counts": [1]} | common,
        "crossval": {"train": train, "folds": 2} | long | common,
        "multitask": {"tasks": [str(folder / "music.yaml"), str(folder / "topics.yaml")], "seeds": 1} | long | common,
    }


@pytest.fixture(scope="module")
def runs(
    settings: dict[str, dict[str, Any]],
    in_processes: Callable[[int, Callable[[int], Any]], list[Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """A folder with a run a verb, and what was said."""
    folder = tmp_path_factory.mktemp("two")

    def work(_: int) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            for verb, given in settings.items():
                for _ in range(2):  # finished the second time: nothing to do
                    VERBS[verb].run(config_of(verb, given, processes=2, out=str(folder / verb)))
        return said.getvalue()

    return folder, "".join(in_processes(2, work))


def close(one: Any, two: Any, where: str = "") -> None:
    """Numbers equal to 1e-4 of them, everything else equal."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for name in one:
            close(one[name], two[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for number, pair in enumerate(zip(one, two, strict=True)):
            close(*pair, f"{where}[{number}]")
    else:
        assert two == (pytest.approx(one, rel=1e-4, abs=1e-4) if isinstance(one, float) else one), where


@pytest.mark.parametrize("verb", VERBS)
def test_two_processes_leave_what_one_leaves(
    verb: str, settings: dict[str, dict[str, Any]], runs: tuple[Path, str], tmp_path: Path
) -> None:
    alone = VERBS[verb].run(config_of(verb, settings[verb], out=str(tmp_path / verb)))
    folder, _ = runs
    close(alone, read_json(folder / verb / "metrics.json"), verb)
    left = {path.relative_to(tmp_path / verb) for path in (tmp_path / verb).rglob("*") if path.is_file()}
    assert left == {path.relative_to(folder / verb) for path in (folder / verb).rglob("*") if path.is_file()}
    for path in sorted(path for path in left if path.name == "predictions.parquet"):
        one, two = (pq.read_table(root / path).to_pylist() for root in (tmp_path / verb, folder / verb))
        close(one, two, str(path))


def test_every_line_is_said_once(runs: tuple[Path, str]) -> None:
    folder, said = runs
    for line in (*(f"{folder / verb} is finished: nothing to do" for verb in VERBS), "trial 2 of 2:", "fold 2 of 2:"):
        assert said.count(line) == 1, line
