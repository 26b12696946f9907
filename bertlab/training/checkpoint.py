"""Checkpoints: a folder a step, whole or absent, every file bound by sha256; safetensors and JSON, no pickle.

    checkpoints/step-00001000/   model.safetensors  optimizer.safetensors  state.json  manifest.json (written last)

A step's number is all that resuming needs beside weights and moments: batches and random numbers are functions of it.
"The newest" is the highest step whose files verify; an old one is deleted only after the new one has been read back and verified.
A save costs what it takes to write and hash 12 bytes a parameter; `Saver` does so beside the training.
"""

import errno
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from bertlab.disk import (
    MANIFEST,
    hash_files,
    make_folder,
    read_json,
    read_sealed,
    refuse_full,
    remove_folder,
    sweep,
    verify_files,
    whole_folder,
    write_json,
    write_sealed,
)
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.model.weights import read_tensors
from bertlab.training.optimizers import optimizer_tensors, restore_optimizers
from bertlab.training.sharding import is_sharded, like, whole_weights

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `step` optimizer steps are done; `state` is what the caller saved with it."""

    folder: Path
    step: int
    state: dict[str, Any]

    def restore(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Fill the model and the optimizers, which must be built as they were when it was saved. Raises CorruptError when they are not."""
        weights = read_tensors(self.folder / "model.safetensors")
        own = model.state_dict()
        if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
            raise CorruptError(f"{self.folder}: its weights are another model's: resume with the settings it was started with")
        model.load_state_dict({name: like(value, own[name]) for name, value in weights.items()})
        restore_optimizers(optimizers, read_tensors(self.folder / "optimizer.safetensors"))


def save_checkpoint(
    root: Path,
    step: int,
    model: nn.Module,
    optimizers: list[Optimizer],
    state: dict[str, Any],
    keep: int = 2,
    keep_every: int | None = None,
    run: str | None = None,
) -> Path:
    """Write the checkpoint of `step` finished steps under `root`; when it verifies, delete all but the `keep` newest and those of every
    `keep_every` steps. By one process only.

    `run` is the sha256 that stands for the run (runlog.run_sha256), so that it can be told whose checkpoint it is. Raises FileNotFoundError
    where the folder above `root` is gone, OSError (ENOSPC) naming the folder, and the bytes that it needs, when the disk is full, and
    CorruptError when the disk gives back other bytes than were written: the older checkpoints then stay as they are.
    """
    return write_checkpoint(root, step, whole_weights(model), optimizer_tensors(optimizers), state, keep, keep_every, run)


def hand_over(model: nn.Module, optimizers: list[Optimizer]) -> None:
    """What the other processes do while one saves: give their part of a sharded model."""
    if is_sharded(model):
        whole_weights(model)
        optimizer_tensors(optimizers)


class Saver:
    """Saves beside the training: `save` copies weights and moments and returns, a thread writes the copy as `save_checkpoint` would.

    Costs the memory of that copy (12 bytes a parameter), from the first save on. One save at a time: the next waits for the last. What a
    save raises, `save`, `check` and `wait` raise. Of several processes one `writes`; the others hand over their part of a sharded model.
    """

    def __init__(self, root: Path, keep: int = 2, keep_every: int | None = None, run: str | None = None, *, writes: bool = True) -> None:
        self._root, self._kept, self._writes = root, (keep, keep_every, run), writes
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None

    def save(self, step: int, model: nn.Module, optimizers: list[Optimizer], state: dict[str, Any]) -> None:
        """Copy and begin to write. `state` must not be changed afterwards. Raises FileNotFoundError when the run's folder is gone."""
        self.wait()
        if not self._writes:
            hand_over(model, optimizers)
            return
        if not self._root.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._root.parent))
        weights, moments = (
            {name: value.to("cpu", copy=True) for name, value in tensors.items()}
            for tensors in (whole_weights(model), optimizer_tensors(optimizers))
        )
        self._writing = self._thread.submit(write_checkpoint, self._root, step, weights, moments, state, *self._kept)

    def check(self) -> None:
        """Raise what a save that has ended has raised."""
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when all is written."""
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()


def write_checkpoint(
    root: Path,
    step: int,
    weights: dict[str, torch.Tensor],
    moments: dict[str, torch.Tensor],
    state: dict[str, Any],
    keep: int,
    keep_every: int | None,
    run: str | None,
) -> Path:
    """What `save_checkpoint` does, of named tensors."""
    make_folder(root, parents=False)  # a run's folder that somebody has removed does not come back
    folder = root / f"step-{step:08d}"
    if folder.exists():
        remove_folder(folder)  # one that did not verify, or it would have been resumed from
    refuse_full(folder, sum(value.nbytes for tensors in (weights, moments) for value in tensors.values()))
    with whole_folder(folder, parents=False) as temporary:
        for name, tensors in (("model", weights), ("optimizer", moments)):
            contiguous = {key: value.contiguous() for key, value in tensors.items()}
            safetensors.torch.save_file(contiguous, temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", state)
        write_sealed(temporary / MANIFEST, {"step": step, "run": run, "torch": torch.__version__, "files": hash_files(temporary)})
    verify_files(folder, read_sealed(folder / MANIFEST)["files"])  # before an older one goes
    folders = _folders(root)
    sound = sorted(number for number in folders if number <= step)  # a later one is damaged, or this step would not be taken again
    kept = {*sound[-keep:], *(number for number in sound if keep_every and number % keep_every == 0)}
    for number in folders.keys() - kept:
        remove_folder(folders[number])
    return folder


def newest_checkpoint(root: Path, warn: Any = print, strict: bool = False, run: str | None = None) -> Checkpoint | None:
    """The newest checkpoint under `root` that verifies, or None; each damaged one is named through `warn` and passed over.

    With `strict` the first damaged one raises CorruptError instead. With `run` (see `save_checkpoint`) another run's raises ConfigError.
    """
    sweep(root)  # a save that a crash cut short
    folders = _folders(root)
    for step in sorted(folders, reverse=True):
        folder = folders[step]
        try:
            manifest = read_sealed(folder / MANIFEST)
            verify_files(folder, manifest["files"])
            state = read_json(folder / "state.json")
            owner = manifest["run"]
        except (BertlabError, OSError, KeyError, TypeError, AttributeError) as error:  # OSError: of a disk that cannot read it
            known = isinstance(error, BertlabError | OSError)
            what = str(error) if known else f"{folder / MANIFEST} is no manifest of a checkpoint"
            if strict:
                raise CorruptError(f"{what} (--strict: leave it out to go on from an older checkpoint)") from error
            warn(f"warning: checkpoint passed over: {what}")
            continue
        if run and owner != run:
            raise ConfigError(f"{folder} is the checkpoint of another run: move it away, or give the --out of its run")
        return Checkpoint(folder, step, state)
    return None


def _folders(root: Path) -> dict[int, Path]:
    matches = [(match, path) for path in root.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return {int(match[1]): path for match, path in matches}
