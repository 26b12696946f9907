"""bertlab/training/runlog.py: what a run writes down, and what a resumed run makes of it."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bertlab.errors import ConfigError
from bertlab.training.runlog import RunLog, agree_with_config, full_records, remember_inputs


@dataclass(frozen=True, kw_only=True)
class Settings:
    out: str = "run"
    steps: int = 10
    rate: float = 1e-3
    model: str | None = None
    workers: int = 0


def strictly(line: str) -> Any:
    """Parse JSON as other programs do: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def read(path: Path) -> list[Any]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [strictly(line) for line in text.splitlines()]


# --- records ----------------------------------------------------------------------------------------------------------------------------


def test_a_record_is_a_line_and_stands_in_the_file_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", 0)
    records = [{"step": 0, "losses": {"mlm_loss": 2.5}, "skipped": False}, {"step": 1, "note": "two\nlines, and ü"}]
    for number, record in enumerate(records, start=1):
        log.write(record)
        assert read(tmp_path / "metrics.jsonl") == records[:number]
    log.close()


def test_what_json_cannot_say_becomes_null(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", 0)
    log.write({"step": 0, "a": math.nan, "b": {"c": math.inf, "d": [{"e": -math.inf}, 0.0]}, "g": 1e308, "h": 3, "i": True})
    log.close()
    assert read(tmp_path / "metrics.jsonl") == [
        {"step": 0, "a": None, "b": {"c": None, "d": [{"e": None}, 0.0]}, "g": 1e308, "h": 3, "i": True}
    ]


def test_a_resumed_run_drops_what_it_will_do_again_and_a_half_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path, 0)
    for step in range(6):
        log.write({"step": step, "run": 1})
    log.close()
    with path.open("a") as stream:
        stream.write('{"step": 2, "losses": {"mlm')  # a half line, whatever step it was of
    log = RunLog(path, 3)
    assert [record["step"] for record in read(path)] == [0, 1, 2, 3]
    log.write({"step": 4, "run": 2})
    log.close()
    assert [(record["step"], record["run"]) for record in read(path)] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]
    RunLog(path, 0).close()
    assert read(path) == [{"step": 0, "run": 1}]
    RunLog(path, -1).close()
    assert read(path) == []


def test_lines_that_are_no_records_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n\n[1]\n{"other": 1}\nnull\n{"step": null}\n{"step": 1}\n\x00\x00\x00\n')
    RunLog(path, 5).close()
    assert read(path) == [{"step": 0}, {"step": 1}]


# --- settings ---------------------------------------------------------------------------------------------------------------------------


def test_the_settings_are_written_once_and_the_same_ones_are_taken_again(tmp_path: Path) -> None:
    settings = Settings(rate=3e-5, model="a/b: c")
    agree_with_config(settings, tmp_path, free=set())
    assert list(tmp_path.iterdir()) == []  # checking leaves nothing behind
    remember_inputs(settings, tmp_path, {"corpus": "1a"})
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(written) == ["config.yaml", "inputs.json"]
    agree_with_config(settings, tmp_path, free=set())
    remember_inputs(replace(settings, workers=4), tmp_path, {"corpus": "1a"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written


def test_other_inputs_under_the_same_names_are_refused(tmp_path: Path) -> None:
    remember_inputs(Settings(), tmp_path, {"corpus": "1a", "model": None})
    refused: list[tuple[dict[str, str | None], str]] = [
        ({"corpus": "2b", "model": None}, "started with another corpus:"),
        ({"corpus": "1a", "model": "3c"}, "started without a model:"),
        ({"corpus": "2b", "model": "3c"}, "started with another corpus and without a model:"),
    ]
    for inputs, message in refused:
        with pytest.raises(ConfigError, match=message) as caught:
            remember_inputs(Settings(), tmp_path, inputs)
        assert "\n" not in str(caught.value)


def test_other_settings_are_refused_by_name_and_the_free_ones_may_change(tmp_path: Path) -> None:
    settings = Settings(rate=3e-5)
    remember_inputs(settings, tmp_path, {})
    agree_with_config(replace(settings, workers=4), tmp_path, free={"workers"})
    refused: list[tuple[dict[str, Any], list[str]]] = [
        ({"steps": 20}, ["steps was 10, is 20"]),
        ({"rate": 1e-5, "model": "x"}, ["rate was 3e-05, is 1e-05", "model was None, is 'x'"]),
        ({"workers": 4, "out": "other"}, ["out was 'run', is 'other'"]),
    ]
    for changes, words in refused:
        with pytest.raises(ConfigError, match="was started with other settings") as caught:
            agree_with_config(replace(settings, **changes), tmp_path, free={"workers"})
        message = str(caught.value)
        assert all(word in message for word in words) and str(tmp_path) in message and "\n" not in message
        assert "workers" not in message
        assert "choose another --out, or give the same settings" in message
        assert (f"--model {tmp_path / 'model'} trains it further" in message) == ("steps" in changes)  # neither shorter nor longer


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"no run of ours \(thesis\.txt\)") as caught:
        agree_with_config(Settings(), tmp_path, free=set())
    assert "\n" not in str(caught.value)
    (tmp_path / "thesis.txt").rename(tmp_path / ".lock")  # hidden files, as our lock is, are nobody's content
    agree_with_config(Settings(), tmp_path, free=set())


def test_full_records_are_those_with_numbers_and_a_line_that_is_none_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert full_records(path) == []
    kept = [{"step": 0, "heldout": {"mlm_loss": 7.0}}, {"step": 20, "losses": {"mlm_loss": 6.5}}]
    broken = ['{"step": "x", "losses": 1}', '["losses"]', '{"losses": 1}', "[" * 100_000 + '"losses"', '{"step": 21, "losses": {"ml']
    path.write_text("\n".join([json.dumps(kept[0]), '{"step": 1, "batch": "ab"}', json.dumps(kept[1]), *broken]))
    assert full_records(path) == kept
