"""What stands on the disk wherever a save is cut off: by a kill at each of its system calls (F2), or by a disk that is full at one (F4).

The old or the new, whole, and never a mixture; what is left half-written is gone at the next start. And what a power failure could undo is
on the disk before anything depends on it (F3): read off the calls of one save.
"""

import errno
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bertlab.disk import MANIFEST, locked, read_sealed, verify_files
from bertlab.training.checkpoint import newest_checkpoint
from tests.reliability.conftest import Server
from tests.reliability.syscalls import STOP, Call, calls, needs_strace, traced

Tally = Callable[[str, str, int, int], None]
Trials = Callable[[int, int], int]
Tree = dict[str, bytes]

# What runs in the process: something to save that depends on VERSION alone, the stop, and the save.
MODEL = """
import os, sys, torch
from pathlib import Path
from bertlab.disk import write_json
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer
from bertlab.training.checkpoint import save_checkpoint
from bertlab.training.optimizers import build_optimizers
torch.manual_seed(VERSION)
shape = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
model = BertForPreTraining(EncoderConfig(vocab_size=140, **shape))
optimizers = build_optimizers(model, "muon", learning_rate=1e-2)
for parameter in model.parameters():
    parameter.grad = torch.ones_like(parameter)
for optimizer in optimizers:
    optimizer.step()
"""
LAST = """
try:
    SAVE
except OSError as error:
    print("refused", error.errno, error.filename)
    sys.stdout.flush()
    os._exit(28)
os._exit(0)
"""
SAVES = {
    "checkpoint": 'save_checkpoint(Path(ROOT), VERSION, model, optimizers, {"version": VERSION}, keep=1)',
    "model": 'save_model(Path(ROOT) / "model", model, own, facts={"version": VERSION}, card="# A card")',
    "file": 'write_json(Path(ROOT) / "file.json", {"version": VERSION, "much": list(range(2000))})',
}


@dataclass(frozen=True)
class Save:
    """One of SAVES, in processes of the server. A model folder is never replaced: before it there is nothing."""

    server: Server
    kind: str
    tokenizer: str
    folder: Path

    def start(self, root: Path, version: int, stop: str = STOP) -> int:
        own = f"own = tokenizer.load({self.tokenizer!r})\n"
        code = MODEL + own + stop + LAST.replace("SAVE", SAVES[self.kind])
        code = code.replace("VERSION", str(version)).replace("ROOT", repr(str(root)))
        self.log(root).write_bytes(b"")
        return self.server.start([], self.log(root), before=code)

    def log(self, root: Path) -> Path:
        return root.with_name(f"{root.name}.log")

    def whole(self, root: Path, version: int) -> None:
        """The save of `version` under `root`, undisturbed."""
        assert self.server.wait(self.start(root, version, stop="")) == 0, self.log(root).read_text()

    def old(self, name: str) -> Path:
        """A fresh folder with what there is before the save."""
        root = self.folder / name
        if (self.folder / "old").is_dir():
            shutil.copytree(self.folder / "old", root)
            return root
        root.mkdir()
        (root / "inputs.json").write_text("{}")
        if self.kind != "model":
            self.whole(root, 1)
        shutil.copytree(root, self.folder / "old")
        return root

    def next_start(self, root: Path) -> Tree:
        """What a run that starts again in `root` finds: everything that is there when its left-overs are gone; all of it verifies."""
        with locked(root):
            pass
        if self.kind == "checkpoint":
            found = newest_checkpoint(root, warn=lambda warning: None)
            assert found is not None
            assert found.state == {"version": found.step}
            return tree(found.folder, root)
        for manifest in root.rglob(MANIFEST):
            verify_files(manifest.parent, read_sealed(manifest)["files"])
        return tree(root, root)


def tree(folder: Path, root: Path) -> Tree:
    """Every file under `folder` by its name from `root`, but for the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def left_overs(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".tmp-*")]


@pytest.fixture(params=SAVES)
def save(request: pytest.FixtureRequest, server: Server, inputs: dict[str, str], tmp_path: Path) -> Save:
    needs_strace()
    return Save(server, request.param, f"{inputs['corpus']}/tokenizer", tmp_path)


# --- F2, F4: cut off at each call -------------------------------------------------------------------------------------------------------


def expected(save: Save) -> tuple[Tree, Tree, list[Call]]:
    """What stands before the save, what after it, and the calls between."""
    root = save.old("undisturbed")
    before = save.next_start(root)
    found = calls(save.server, partial(save.start, root, 2), save.folder / "calls")
    after = save.next_start(root)
    assert before != after and len(after) in (2, 4, 11)
    return before, after, found


def test_a_save_killed_at_any_call_leaves_the_old_or_the_new(save: Save, tally: Tally) -> None:
    before, after, found = expected(save)
    points = [(call.name, call.number) for call in found]
    assert len(points) > {"checkpoint": 50, "model": 40, "file": 5}[save.kind]
    wrong: list[str] = []
    old = 0
    for name, number in points:
        root = save.old(f"{name}-{number}")
        code = traced(save.server, partial(save.start, root, 2), "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
        stands = save.next_start(root)
        old += stands == before
        if code != -signal.SIGKILL:
            wrong.append(f"{name} {number}: ended with {code}")
        elif stands not in (before, after):
            wrong.append(f"{name} {number}: neither the old nor the new, but {sorted(stands)}")
        elif left_overs(root):
            wrong.append(f"{name} {number}: left behind {left_overs(root)}")
        else:
            if stands != after:
                save.whole(root, 2)
            if save.next_start(root) != after:
                wrong.append(f"{name} {number}: saving again gives something else")
        shutil.rmtree(root)
    tally("F2", f"{save.kind}: killed at each call of a save", len(points) - len(wrong), len(points))
    assert not wrong
    assert 0 < old < len(points)


def test_a_disk_that_is_full_at_any_call_leaves_the_old_and_nothing_half(save: Save, tally: Tally) -> None:
    before, after, found = expected(save)
    points = [(call.name, call.number) for call in found if call.name in ("write", "pwrite64", "fsync", "mkdir")]
    wrong: list[str] = []
    for name, number in points:
        root = save.old(f"{name}-{number}")
        full = f"inject={name}:error=ENOSPC:when={number}"
        code = traced(save.server, partial(save.start, root, 2), "-e", f"trace={name}", "-e", full)
        said, left, stands = save.log(root).read_text(), left_overs(root), save.next_start(root)
        published = (name, number) == [point for point in points if point[0] == "fsync"][-1]  # only the folder above is not flushed
        if code != 28 or f"refused {errno.ENOSPC} {root}/" not in said or ".tmp-" in said:
            wrong.append(f"{name} {number}: ended with {code}: {said}")
        elif left or stands != (after if published else before):
            wrong.append(f"{name} {number}: left {left}, {sorted(stands)}")
        else:
            if stands != after:
                save.whole(root, 2)
            if save.next_start(root) != after:
                wrong.append(f"{name} {number}: saving again gives something else")
        shutil.rmtree(root)
    tally("F4", f"{save.kind}: no room at each write of a save", len(points) - len(wrong), len(points))
    assert not wrong


# --- F3: what a power failure could undo ------------------------------------------------------------------------------------------------


def undurable(found: list[Call], published: Path) -> list[str]:
    """What was not yet on the disk when `published` got its name, and what was deleted before that name was on the disk."""
    changed: dict[Path, int] = {}  # path -> when it, or a folder's list of names, was last changed
    flushed: dict[Path, int] = {}
    problems: list[str] = []
    renamed: int | None = None
    for now, call in enumerate(found):
        path = call.paths[-1]
        if call.name in ("fsync", "fdatasync"):
            flushed[path] = now
        elif call.name in ("write", "pwrite64", "ftruncate"):
            changed[path] = now
        elif call.name.startswith("rename"):
            source = call.paths[0]
            changed[source.parent] = changed[path.parent] = now
            for times in (changed, flushed):
                for old in [old for old in times if old.is_relative_to(source)]:
                    times[path / old.relative_to(source)] = times.pop(old)
            if path == published:
                renamed = now
                written = {each: when for each, when in changed.items() if each.is_relative_to(published)}
                assert written
                problems += [f"{each} is not flushed" for each, when in written.items() if flushed.get(each, -1) < when]
            elif renamed is not None and flushed.get(published.parent, -1) < renamed:
                problems.append(f"{source} goes before {published} is sure")
        elif call.name.startswith("mkdir") or "O_CREAT" in call.arguments:
            changed[path] = changed[path.parent] = now
        elif call.name.startswith(("unlink", "rmdir")):
            changed.pop(path, None)
            changed[path.parent] = now
            if renamed is not None and flushed.get(published.parent, -1) < renamed:
                problems.append(f"{path} goes before {published} is sure")
    assert renamed is not None
    if flushed.get(published.parent, -1) < renamed:
        problems.append(f"the name of {published} is not flushed")
    return problems


PUBLISHED = {"checkpoint": "step-00000002", "model": "model", "file": "file.json"}
NEEDED = {
    "checkpoint": {"model.safetensors", "optimizer.safetensors"},
    "model": {"model.safetensors", "config.json", "tokenizer.json", "1_Pooling"},
    "file": {"file.json"},
}


def test_everything_is_flushed_before_its_name_and_the_name_before_an_old_one_goes(save: Save, tally: Tally) -> None:
    root = save.old("root")
    found = calls(save.server, partial(save.start, root, 2), save.folder / "calls")
    problems = undurable(found, root / PUBLISHED[save.kind])
    tally("F3", f"{save.kind}: files flushed, then the folder, renamed, then the folder above", not problems, 1)
    assert not problems
    if save.kind == "checkpoint":
        assert any(call.paths[-1].name.endswith("step-00000001") and call.name in ("rmdir", "unlinkat") for call in found)
    # the judge sees it when a flush is missing, but for what is flushed twice: a JSON file by itself, then with its folder
    flushes = [number for number, call in enumerate(found) if call.name == "fsync"]
    seen = [number for number in flushes if undurable(found[:number] + found[number + 1 :], root / PUBLISHED[save.kind])]
    assert {found[number].paths[-1].name.rpartition("-")[2] for number in seen} >= NEEDED[save.kind] | {root.name}


def test_a_corpus_is_flushed_before_its_name(server: Server, inputs: dict[str, str], tmp_path: Path, tally: Tally) -> None:
    needs_strace()
    source = tmp_path / "towns.txt"
    source.write_text("\n\n".join(f"The mill of town {number} stands by the river. Birds sing." for number in range(40)))
    arguments = [
        "prepare",
        "--source",
        str(source),
        "--out",
        str(tmp_path / "new" / "corpus"),
        "--tokenizer",
        f"{inputs['corpus']}/tokenizer",
    ]
    found = calls(server, lambda: server.start(arguments, tmp_path / "log", before=STOP), tmp_path / "calls")
    problems = undurable(found, tmp_path / "new" / "corpus")
    tally("F3", "corpus: files flushed, then the folder, renamed, then the folder above", not problems, 1)
    assert not problems
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["corpus"]
