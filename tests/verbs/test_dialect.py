"""Every verb that reads tables reads one of semicolons in cp1252 as the same in commas and UTF-8, where it is told, and refuses it else."""

import importlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bertlab import cli
from bertlab.corpus.dialect import Dialect
from bertlab.disk import read_json
from bertlab.pages import figures
from bertlab.verbs import multitask

WORDS = ["the", "old", "river", "runs", "from", "a", "stone", "hill", "to", "the", "sea", "and", "birds", "sing", "über", "its", "bänks"]
TOLD = ["--separator", ";", "--encoding", "cp1252"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `plain` and `windows` with the same tables."""
    root, draw = tmp_path_factory.mktemp("tables"), random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(4, 10))) + " é"

    labelled = [[text(), draw.choice(["hills", "rivers", "seas"])] for _ in range(60)]
    pairs = [[text(), text(), str(draw.random())] for _ in range(30)]
    gaps = [["the [MASK] é"], ["a stone [MASK]"]]
    banks = [[f"{text()} stone {text()}"] for _ in range(8)]
    found = {"labelled": (["text", "label"], labelled), "pairs": (["text", "text_b", "score"], pairs)}
    found |= {
        "train": (["text", "label"], labelled[:50]),
        "gaps": (["text"], gaps),
        "banks": (["text", "label"], [[*each, "x"] for each in banks]),
    }
    for name, mark, encoding in (("plain", ",", "utf-8"), ("windows", ";", "cp1252")):
        (root / name).mkdir()
        for table, (columns, rows) in found.items():
            content = "".join(mark.join(cells) + "\n" for cells in ([*columns, "note"], *([*row, "ü"] for row in rows)))
            (root / name / f"{table}.csv").write_bytes(content.encode(encoding))
    return root


def both(command: Sequence[str], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[Path, str]]:
    """Run a command on the plain tables and on those of Windows: the folder of each one's output, OUT, and what it printed."""
    found = []
    for name, told in (("plain", []), ("windows", TOLD)):
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        given = [word.replace("TABLES", str(tables / name)).replace("OUT", str(out)) for word in command]
        if told:
            assert cli.main(given) == 3, "without being told it is refused"
            error = capsys.readouterr().err
            assert "--separator" in error or "--encoding" in error
        assert cli.main([*given, *told]) == 0
        found.append((out, capsys.readouterr().out))
    return found


def test_every_verb_that_reads_tables_has_both_options() -> None:
    reads = ["prepare", "finetune", "tune", "crossval", "contrast", "evaluate", "predict", "prompt", "embed", "search", "contexts", "fill"]
    for verb in [*reads, "export"]:
        assert issubclass(importlib.import_module(f"bertlab.verbs.{verb}").Config, Dialect), verb
    assert issubclass(multitask.TaskFile, Dialect)


def test_verbs_that_answer(every_model: dict[str, str], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = ["--device", "cpu"]
    command = ["predict", "--model", every_model["single"], "--input", "TABLES/labelled.csv", "--output", "OUT/a.jsonl", *device]
    plain, windows = ((out / "a.jsonl").read_text() for out, _ in both(command, tables, tmp_path, capsys))
    assert plain == windows and "über" in plain
    command = ["prompt", "--model", every_model["words"], "--data", "TABLES/labelled.csv", "--train", "TABLES/train.csv", *device]
    command += ["--template", "{text} the [MASK]", "--words", "hills:hill", "rivers:river", "seas:sea", "--out", "OUT/prompted"]
    plain, windows = (pq.read_table(out / "prompted" / "predictions.parquet") for out, _ in both(command, tables, tmp_path, capsys))
    assert plain.equals(windows)
    command = ["fill", "--model", every_model["words"], "--input", "TABLES/gaps.csv", "--json", *device]
    plain, windows = (said for _, said in both(command, tables, tmp_path, capsys))
    assert plain == windows and "é" in plain
    command = ["contexts", "stone", "--model", every_model["words"], "--in", "TABLES/banks.csv", "--json", *device]
    plain, windows = (said for _, said in both(command, tables, tmp_path, capsys))
    assert plain == windows and "é" in plain


def test_verbs_of_vectors(every_model: dict[str, str], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", every_model["words"], "--device", "cpu"]
    command = ["embed", *model, "--input", "TABLES/labelled.csv", "--dev-pairs", "TABLES/pairs.csv", "--output", "OUT/v.parquet"]
    plain, windows = (pq.read_table(out / "v.parquet") for out, _ in both(command, tables, tmp_path, capsys))
    assert plain.equals(windows)
    command = ["search", str(tmp_path / "windows" / "v.parquet"), "--input", "TABLES/gaps.csv", "--json", "--device", "cpu"]
    plain, windows = (said for _, said in both(command, tables, tmp_path, capsys))
    nearest = [each["nearest"][0]["text"] for each in map(json.loads, plain.splitlines())]
    assert plain == windows and all(text.endswith(" é") for text in nearest), "the texts are read as they were embedded"
    for task, table in (("similarity", "pairs"), ("retrieval", "pairs"), ("clustering", "labelled")):
        extra = ["--corpus", "TABLES/labelled.csv"] if task == "retrieval" else []
        command = ["evaluate", "--task", task, *model, "--data", f"TABLES/{table}.csv", *extra, "--out", f"OUT/{task}"]
        plain, windows = (pq.read_table(out / task / "predictions.parquet") for out, _ in both(command, tables, tmp_path, capsys))
        assert plain.equals(windows)


def test_verbs_that_train(
    every_model: dict[str, str], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda *_, **__: None)
    quick = ["--device", "cpu", "--precision", "fp32"]
    command = [
        "finetune",
        "--model",
        every_model["words"],
        "--train",
        "TABLES/train.csv",
        "--test",
        "TABLES/labelled.csv",
        "--out",
        "OUT/run",
    ]
    command += ["--seeds", "1", "--epochs", "1", "--no-baselines", *quick]
    plain, windows = (read_json(out / "run" / "metrics.json")["test"] for out, _ in both(command, tables, tmp_path, capsys))
    assert plain == windows
    # what it was trained on is found again, and read as it was then
    command = ["evaluate", "--model", "OUT/run/model", "--data", "TABLES/labelled.csv", "--out", "OUT/scores", "--device", "cpu"]
    for out, _ in both(command, tables, tmp_path, capsys):
        assert read_json(out / "scores" / "metrics.json")["leakage"]["equal"] >= 45
    command = [
        "contrast",
        "--model",
        every_model["words"],
        "--train",
        "TABLES/pairs.csv",
        "--kind",
        "pairs",
        "--dev-pairs",
        "TABLES/pairs.csv",
    ]
    command += ["--steps", "2", "--batch-size", "8", "--out", "OUT/vectors", *quick]
    plain, windows = (read_json(out / "vectors" / "metrics.json") for out, _ in both(command, tables, tmp_path, capsys))
    assert plain["best"] == windows["best"]


def test_prepare_and_a_test_set_to_be_kept_out(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", "--source", "TABLES/labelled.csv", "--keep-out", "TABLES/banks.csv", "--vocab-size", "200", "--out", "OUT/corpus"]
    plain, windows = (read_json(out / "corpus" / "manifest.json") for out, _ in both(command, tables, tmp_path, capsys))
    assert plain["counts"] == windows["counts"] and plain["tokenizer"] == windows["tokenizer"]
    assert (windows["settings"]["separator"], windows["settings"]["encoding"]) == (";", "cp1252")


def test_a_task_of_several_says_it_in_its_file(every_model: dict[str, str], tables: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"plain": "", "windows": 'separator: ";"\nencoding: cp1252\n'}
    for name, said in settings.items():
        (tmp_path / f"{name}.yaml").write_text(f"train: {tables / name / 'train.csv'}\n{said}")
    files = [str(tmp_path / f"{name}.yaml") for name in settings]
    command = [
        "multitask",
        "--model",
        every_model["words"],
        "--tasks",
        *files,
        "--out",
        str(tmp_path / "run"),
        "--seeds",
        "1",
        "--epochs",
        "1",
    ]
    assert cli.main([*command, "--no-alone", "--no-baselines", "--device", "cpu"]) == 0


def test_export_measures_its_loss_on_such_a_file(every_model: dict[str, str], tables: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    command = [
        "export",
        "--model",
        every_model["single"],
        "--quantise",
        "--data",
        "TABLES/labelled.csv",
        "--out",
        "OUT/onnx",
        "--device",
        "cpu",
    ]
    both(command[:-2], tables, tmp_path, capsys)
