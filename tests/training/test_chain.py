"""bertlab/training/chain.py on folders that somebody sealed by hand: whatever they say, the answer is a line. Real ones: tests/verbs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertlab.disk import hash_files, sha256_file, write_json, write_sealed
from bertlab.training.chain import follow
from bertlab.training.links import Link


def damage(folder: Path) -> list[str]:
    found: list[Link] = list(follow([folder]))
    messages = [link.message for link in found if link.status == "differs"]
    assert messages and all("\n" not in message for message in messages)
    return messages


def model(folder: Path, **manifest: Any) -> Path:
    """The outside of a model folder, sealed, with `manifest` in place of what bertlab would write."""
    folder.mkdir()
    write_json(folder / "config.json", {})
    write_json(folder / "bertlab.json", {})
    write_sealed(folder / "manifest.json", {"run": {}, "files": hash_files(folder)} | manifest)
    return folder


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_manifest_that_names_files_outside_its_folder_is_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("precious")
    entry = {"bytes": 8, "sha256": sha256_file(tmp_path / "secret")}
    (message,) = damage(model(tmp_path / "model", files={name: entry}))
    assert "is outside the folder" in message


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": None},
        {"files": []},
        {"files": {"config.json": None}},
        {"files": {"config.json": {"bytes": "many", "sha256": ""}}},
        {"files": {"config.json": {"bytes": 3}}},
        {"run": None},
        {"run": {"inputs.json": 7}},
        {"run": ["inputs.json"]},
    ],
)
def test_a_manifest_of_another_make_is_said_to_be_one(tmp_path: Path, manifest: dict[str, Any]) -> None:
    (message,) = damage(model(tmp_path / "model", **manifest))
    assert "manifest.json is no manifest of" in message


@pytest.mark.parametrize("origins", [None, {}, {"model": "x", "data": "y"}, {"model": {"path": 1, "files": {}}, "data": {"path": 2}}])
def test_predictions_that_do_not_say_what_they_were_made_from_are_said_to(tmp_path: Path, origins: Any) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    write_sealed(tmp_path / "manifest.json", {"from": origins, "files": hash_files(tmp_path)})
    (message,) = damage(tmp_path)
    assert "does not say what it was made from: evaluate again" in message


@pytest.mark.parametrize("settings", ["", "a list", "- 1\n", "a: &x 1\nb: *y\n", "\x00", "model: [1\n"])
def test_settings_of_a_run_that_are_none_are_said_to_be(tmp_path: Path, settings: str) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    write_sealed(tmp_path / "inputs.json", {"config.yaml": sha256_file(tmp_path / "config.yaml")})
    (message,) = damage(tmp_path)
    assert "config.yaml" in message


def test_a_run_whose_settings_name_nothing_is_followed_no_further(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("corpus: [1, 2]\nmodel: 7\n")
    write_sealed(tmp_path / "inputs.json", {"config.yaml": sha256_file(tmp_path / "config.yaml")})
    absent = [link.message for link in follow([tmp_path]) if link.status == "absent"]
    assert any("[1, 2] is not there" in message for message in absent) and any("7 is not there" in message for message in absent)


def test_following_needs_no_torch() -> None:
    code = "import sys, bertlab.training.chain, bertlab.verbs.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
