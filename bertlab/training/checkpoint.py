"""Checkpoints: a folder a step, whole or absent, every file bound by sha256; safetensors and JSON, no pickle.

    checkpoints/step-00001000/   model.safetensors  optimizer.safetensors  state.json  manifest.json (written last)

A step's number is all that resuming needs beside weights and moments: batches and random numbers are functions of it.
"The newest" is the highest step whose files verify; an old one is deleted only after the new one stands.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from bertlab.disk import MANIFEST, TEMPORARY, hash_files, read_json, read_sealed, verify_files, whole_folder, write_json, write_sealed
from bertlab.errors import BertlabError, CorruptError
from bertlab.training.optimizers import optimizer_tensors, restore_optimizers

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `step` optimizer steps are done; `state` is what the caller saved with it."""

    folder: Path
    step: int
    state: dict[str, Any]

    def restore(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Fill the model and the optimizers, which must be built as they were when it was saved. Raises CorruptError when they are not."""
        weights = safetensors.torch.load_file(self.folder / "model.safetensors")
        own = model.state_dict()
        if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
            raise CorruptError(f"{self.folder}: its weights are another model's: resume with the settings it was started with")
        model.load_state_dict(weights)
        restore_optimizers(optimizers, safetensors.torch.load_file(self.folder / "optimizer.safetensors"))


def save_checkpoint(
    root: Path,
    step: int,
    model: nn.Module,
    optimizers: list[Optimizer],
    state: dict[str, Any],
    keep: int = 2,
    run: str | None = None,
) -> Path:
    """Write the checkpoint of `step` finished steps under `root`, then delete all but the `keep` newest. By one process only.

    `run` is the sha256 that stands for the run (runlog.run_sha256), so that it can be told whose checkpoint it is.
    """
    folder = root / f"step-{step:08d}"
    if folder.exists():
        shutil.rmtree(folder)  # one that did not verify, or it would have been resumed from
    with whole_folder(folder) as temporary:
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, temporary / "model.safetensors"
        )
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in optimizer_tensors(optimizers).items()}, temporary / "optimizer.safetensors"
        )
        write_json(temporary / "state.json", state)
        write_sealed(temporary / MANIFEST, {"step": step, "run": run, "torch": torch.__version__, "files": hash_files(temporary)})
    folders = _folders(root)
    kept = sorted(number for number in folders if number <= step)[-keep:]  # a later one is damaged, or this step would not be taken again
    for number in folders.keys() - set(kept):
        shutil.rmtree(folders[number])
    return folder


def newest_checkpoint(root: Path, warn: Any = print) -> Checkpoint | None:
    """The newest checkpoint under `root` that verifies, or None; each damaged one is named through `warn` and passed over."""
    for leftover in root.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # a save that a crash cut short
    folders = _folders(root)
    for step in sorted(folders, reverse=True):
        folder = folders[step]
        try:
            verify_files(folder, read_sealed(folder / MANIFEST)["files"])
            return Checkpoint(folder, step, read_json(folder / "state.json"))
        except (BertlabError, KeyError, TypeError, AttributeError) as error:
            warn(f"warning: checkpoint passed over: {error}")
    return None


def _folders(root: Path) -> dict[int, Path]:
    matches = [(match, path) for path in root.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return {int(match[1]): path for match, path in matches}
