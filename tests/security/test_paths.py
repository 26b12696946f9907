"""Names in manifests and links in folders (S10): nothing is read by a name that leads out of its folder, nothing written through a link."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.disk import MANIFEST, hash_files, inside, locked, sha256_file, verify_files, whole_file, whole_folder, write_json, write_sealed
from bertlab.errors import BertlabError, CorruptError
from bertlab.tokens.corpus import open_corpus
from bertlab.training.chain import follow
from bertlab.training.checkpoint import newest_checkpoint
from bertlab.training.runlog import RunLog

OUTSIDE = [
    *("../secret", "a/../../secret", "..", ".", "", "/etc/hostname", "/", "//etc/hostname", "a//b", "a/", "./a", "a/./b", "a/.."),
    *("a\0b", "\0", "a\nb", "a\rb", "\x1b[2J", "a\x7f", "a\x85b", "\ud800", "n" * 256, "a/" + "\u00e9" * 128, 7, None, ["a"]),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_or_is_none_is_refused_in_one_line(name: Any, tmp_path: Path) -> None:
    with pytest.raises(CorruptError) as caught:
        inside(tmp_path, name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize("name", ["a", "a/b.json", ".hidden", "..a", "a..", "...", "caf\u00e9 1.arrow", "n" * 255, "\u202eevil", "\\..\\a"])
def test_any_other_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path.resolve())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "a", "/", "\0", "b\\..", "~", "..."]) | st.text(max_size=4), max_size=5).map("/".join))
def test_no_name_that_is_let_through_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "root"
    try:
        path = inside(root, name)
    except CorruptError:
        return
    assert os.path.normpath(path) == str(path) and Path(os.path.normpath(path)).is_relative_to(root) and path != root


@pytest.mark.parametrize("name", ["../secret", "a/../../secret"])
def test_no_reader_of_manifests_follows_such_a_name(name: str, tmp_path: Path) -> None:
    """The secret's true size and hash stand in the manifest: only a reader that followed the name could be content."""
    (tmp_path / "secret").write_text("precious")
    entries: dict[str, Any] = {name: {"bytes": 8, "sha256": sha256_file(tmp_path / "secret")}}
    with pytest.raises(CorruptError, match="outside the folder"):
        verify_files(tmp_path / "run", entries)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_sealed(corpus / MANIFEST, {"schema": 1, "files": entries})
    with pytest.raises(CorruptError, match="outside the folder"):
        open_corpus(str(corpus))
    step = tmp_path / "run" / "checkpoints" / "step-00000001"
    step.mkdir(parents=True)
    write_json(step / "state.json", {})
    write_sealed(step / MANIFEST, {"step": 1, "files": hash_files(step) | entries})
    said: list[str] = []
    assert newest_checkpoint(step.parent, warn=said.append) is None and "outside the folder" in said[0]
    scores = tmp_path / "scores"
    write_json(scores / "metrics.json", {})
    origins = {
        "model": {"path": str(tmp_path / "run"), "files": {name: entries[name]["sha256"]}},
        "data": {"path": "x", "sha256": "0" * 64},
    }
    write_sealed(scores / MANIFEST, {"from": origins, "files": hash_files(scores)})
    (tmp_path / "run" / "a").mkdir()
    links = [link for link in follow([scores]) if link.name == "model"]
    assert links[0].status == "differs" and "ok" not in {link.status for link in links}, (
        "the secret is outside of the model's folder, whatever its hash"
    )


@pytest.mark.parametrize("files", [None, [], {"a": None}, {"a": {"bytes": "x", "sha256": ""}}, {"a": {}}, 7, "files"])
def test_a_manifest_that_binds_nothing_sensible_is_one_line(files: Any, tmp_path: Path) -> None:
    write_sealed(tmp_path / MANIFEST, {"schema": 1, "files": files})
    with pytest.raises(BertlabError) as caught:
        open_corpus(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / MANIFEST).write_text("[1]")
    with pytest.raises(CorruptError, match="not a JSON object"):
        open_corpus(str(tmp_path))


# --- links --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "precious").write_text("keep me")
    return tmp_path / "precious"


def test_a_lock_that_is_a_link_does_not_empty_what_it_leads_to(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path / "run"):
        pass
    assert precious.read_text() == "keep me"


def test_a_log_that_is_a_link_is_not_written_through(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "absent")
    with pytest.raises(OSError, match="symbolic link"):
        RunLog(tmp_path / "metrics.jsonl", -1)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(precious)
    log = RunLog(tmp_path / "metrics.jsonl", -1)  # its old lines are read and written anew, to a file of its own
    log.write({"step": 1})
    log.close()
    assert precious.read_text() == "keep me" and not (tmp_path / "metrics.jsonl").is_symlink()


def test_a_file_that_is_a_link_is_replaced_and_what_it_leads_to_stays(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").symlink_to(precious)
    with whole_file(tmp_path / "out.json") as temporary:
        temporary.write_text("new")
    assert precious.read_text() == "keep me" and (tmp_path / "out.json").read_text() == "new"
    assert not (tmp_path / "out.json").is_symlink()


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_modes_are_those_of_the_umask_whatever_a_library_chose(umask: int, file: int, folder: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with whole_folder(tmp_path / "a") as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "open").write_text("")
            os.close(os.open(temporary / "shut", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")} == {"inner": folder, "open": file, "shut": file}
