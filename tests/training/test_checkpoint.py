"""bertlab/training/checkpoint.py: what is restored is what was saved, bit for bit; what was damaged is never restored."""

import errno
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from bertlab import disk
from bertlab.batches.flat import PretrainingBatch
from bertlab.disk import TEMPORARY
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.heads import BertForPreTraining
from bertlab.training import checkpoint
from bertlab.training.checkpoint import Saver, newest_checkpoint, save_checkpoint
from bertlab.training.loop import Plan, train
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers, optimizer_tensors

MakeModel = Callable[..., BertForPreTraining]
Trained = tuple[BertForPreTraining, list[Optimizer]]
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
STATE = {"tokens_seen": 123, "best": None, "heldout": [{"step": 0, "mlm_loss": 0.1 + 0.2}]}


@pytest.fixture(params=["adamw", "muon"])
def trained(
    request: pytest.FixtureRequest, make_model: MakeModel, make_batch: Callable[..., PretrainingBatch], accelerator: Accelerator
) -> Trained:
    """A model and its optimizers after three steps."""
    model = make_model(0.1)
    optimizers = build_optimizers(model, request.param, learning_rate=1e-2)
    plan = Plan(steps=3, warmup_steps=0, seed=0, precision="fp32")
    train(model, optimizers, Pretraining(), lambda step: [make_batch(step, [9, 12])], plan, accelerator, after_step=lambda result: None)
    return model, optimizers


@pytest.fixture
def small(make_model: MakeModel) -> BertForPreTraining:
    """So small a model that it is saved in a moment."""
    return make_model(hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=2, vocab_size=6)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def flip_bit(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def tensors_of(model: BertForPreTraining, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    return {**model.state_dict(), **optimizer_tensors(optimizers)}


# --- there and back ---------------------------------------------------------------------------------------------------------------------


def test_weights_moments_and_state_come_back_bit_for_bit(tmp_path: Path, trained: Trained, make_model: MakeModel) -> None:
    model, optimizers = trained
    folder = save_checkpoint(tmp_path / "checkpoints", 3, model, optimizers, STATE)
    assert folder == tmp_path / "checkpoints" / "step-00000003"
    assert set(names(folder)) == set(FILES)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found.folder, found.step, found.state) == (folder, 3, STATE)
    other = make_model(0.1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(7)
    fresh = build_optimizers(other, "muon" if len(optimizers) == 2 else "adamw", learning_rate=1e-2)
    found.restore(other, fresh)
    before, after = tensors_of(model, optimizers), tensors_of(other, fresh)
    assert before.keys() == after.keys()
    # two moments and a step count for a parameter under AdamW, one momentum under Muon
    adamw = sum(len(group["params"]) for group in optimizers[0].param_groups)
    muon = sum(len(group["params"]) for optimizer in optimizers[1:] for group in optimizer.param_groups)
    assert len(before) == len(model.state_dict()) + 3 * adamw + muon and adamw + muon == len(list(model.parameters()))
    for name, value in before.items():
        assert value.dtype == after[name].dtype and torch.equal(value, after[name]), name


def test_a_checkpoint_without_optimizers_holds_weights_alone(tmp_path: Path, small: BertForPreTraining) -> None:
    save_checkpoint(tmp_path, 1, small, [], {})
    found = newest_checkpoint(tmp_path)
    assert found is not None
    found.restore(small, [])


def test_no_pickle_is_written_or_read(tmp_path: Path, trained: Trained) -> None:
    model, optimizers = trained
    seen, listening = list[str](), True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if listening and event.startswith("pickle."):
            seen.append(event)

    sys.addaudithook(hook)  # stays for the life of the process, hence `listening`
    save_checkpoint(tmp_path, 3, model, optimizers, STATE)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    found.restore(model, optimizers)
    listening = False
    assert seen == []
    for name in FILES:
        assert not (found.folder / name).read_bytes().startswith((b"\x80", b"PK"))


def test_another_models_checkpoint_is_refused(tmp_path: Path, trained: Trained, make_model: MakeModel) -> None:
    save_checkpoint(tmp_path, 3, trained[0], [], {})
    found = newest_checkpoint(tmp_path)
    assert found is not None
    for other in (make_model(num_hidden_layers=1), make_model(num_hidden_layers=3), make_model(vocab_size=51)):
        with pytest.raises(CorruptError, match=r"step-00000003: its weights are another model's") as caught:
            found.restore(other, [])
        assert "\n" not in str(caught.value)


# --- damage -----------------------------------------------------------------------------------------------------------------------------


def damaged(tmp_path: Path) -> list[str]:
    """The warnings of looking for a checkpoint where step 2's is damaged and step 1's is whole."""
    warnings = list[str]()
    found = newest_checkpoint(tmp_path, warn=warnings.append)
    assert found is not None
    assert (found.step, found.state) == (1, {"which": "first"})
    return warnings


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["cut", "emptied", "deleted", "longer"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, small: BertForPreTraining, file: str, damage: str) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"})
    path = save_checkpoint(tmp_path, 2, small, [], {"which": "second"}) / file
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-5], "emptied": b"", "longer": content + b"}"}[damage])
    (warning,) = damaged(tmp_path)
    assert "step-00000002" in warning and "\n" not in warning


@pytest.mark.parametrize("file", FILES[:3])
def test_every_flipped_bit_is_noticed(tmp_path: Path, small: BertForPreTraining, file: str) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"})
    path = save_checkpoint(tmp_path, 2, small, [], {"which": "second"}) / file
    size = path.stat().st_size
    for place in range(0, size, max(1, size // 40)):
        flip_bit(path, place, place % 8)
        (warning,) = damaged(tmp_path)
        assert f"step-00000002/{file} is not the file that was written" in warning
        flip_bit(path, place, place % 8)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 2


def test_a_flipped_bit_in_the_manifest_is_noticed_or_harmless(tmp_path: Path, small: BertForPreTraining) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"})
    path = save_checkpoint(tmp_path, 2, small, [], {"which": "second"}) / "manifest.json"
    noticed, places = 0, range(0, path.stat().st_size, 2)
    for place in places:
        flip_bit(path, place, place // 2 % 8)
        warnings = list[str]()
        found = newest_checkpoint(tmp_path, warn=warnings.append)
        assert found is not None and found.step + len(warnings) == 2  # white space and the torch version are nobody's loss
        noticed += len(warnings)
        flip_bit(path, place, place // 2 % 8)
    assert noticed > 0.7 * len(places)


def test_with_every_checkpoint_damaged_the_run_starts_anew(tmp_path: Path, small: BertForPreTraining) -> None:
    for step in (1, 2):
        flip_bit(save_checkpoint(tmp_path, step, small, [], {}) / "model.safetensors", 100, 0)
    warnings = list[str]()
    assert newest_checkpoint(tmp_path, warn=warnings.append) is None
    assert len(warnings) == 2
    assert newest_checkpoint(tmp_path / "absent") is None


def test_strict_stops_at_a_damaged_checkpoint(tmp_path: Path, small: BertForPreTraining) -> None:
    for step in (1, 2):
        damaged = save_checkpoint(tmp_path, step, small, [], {}) / "model.safetensors"
    flip_bit(damaged, 100, 0)
    with pytest.raises(CorruptError, match=r"step-00000002/model.safetensors is not the file that was written .*--strict"):
        newest_checkpoint(tmp_path, strict=True)
    found = newest_checkpoint(tmp_path, warn=lambda warning: None)
    assert found is not None and found.step == 1


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path, small: BertForPreTraining) -> None:
    save_checkpoint(tmp_path, 1, small, [], {}, run="a" * 64)
    assert newest_checkpoint(tmp_path, run="a" * 64) is not None
    with pytest.raises(ConfigError, match="step-00000001 is the checkpoint of another run"):
        newest_checkpoint(tmp_path, run="b" * 64)


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"}, keep=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "hash_files", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, small, [], {"which": "second"}, keep=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["step-00000001"]


def test_half_written_and_foreign_folders_are_not_checkpoints(tmp_path: Path, small: BertForPreTraining) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"})
    half = tmp_path / f"{TEMPORARY}0123-step-00000002"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    for foreign in ("step-2", "step-0000000x", "mine", "step-00000009-copy"):
        (tmp_path / foreign).mkdir()
    found = newest_checkpoint(tmp_path, warn=pytest.fail)
    assert found is not None and found.step == 1
    assert not half.exists()
    assert names(tmp_path) == ["mine", "step-00000001", "step-00000009-copy", "step-0000000x", "step-2"]


def test_a_disk_that_cannot_read_a_checkpoint_has_damaged_it(
    tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"})
    save_checkpoint(tmp_path, 2, small, [], {"which": "second"})
    sha256_file = disk.sha256_file

    def unreadable(path: Path) -> str:
        if path.parent.name == "step-00000002" and path.name == "model.safetensors":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return sha256_file(path)

    monkeypatch.setattr(disk, "sha256_file", unreadable)
    (warning,) = damaged(tmp_path)
    assert "step-00000002/model.safetensors" in warning and "Input/output error" in warning


def test_an_old_checkpoint_stays_until_the_new_one_has_been_read_back(
    tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"}, keep=1)
    rename = Path.replace

    def spoiling(path: Path, target: Path) -> Path:
        """A disk that gives back other bytes than were written."""
        if target.name == "step-00000002":
            flip_bit(path / "model.safetensors", 100, 0)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", spoiling)
    with pytest.raises(CorruptError, match="step-00000002/model.safetensors"):
        save_checkpoint(tmp_path, 2, small, [], {"which": "second"}, keep=1)
    (warning,) = damaged(tmp_path)
    assert "step-00000002" in warning


def test_a_save_that_has_no_room_says_how_much_it_needs(tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"}, keep=1)
    size = sum(value.nbytes for value in small.state_dict().values())
    free = shutil.disk_usage(tmp_path)._replace(free=size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match="MB are needed") as caught:
        save_checkpoint(tmp_path, 2, small, [], {"which": "second"}, keep=1)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "step-00000002"))
    assert names(tmp_path) == ["step-00000001"]


# --- which are kept ---------------------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_by_number_not_by_name(tmp_path: Path, small: BertForPreTraining) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000, 100_000_001):  # the last two are a digit longer
        save_checkpoint(tmp_path, step, small, [], {}, keep=2)
    assert names(tmp_path) == ["step-100000000", "step-100000001"]
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 100_000_001
    save_checkpoint(tmp_path, 100_000_002, small, [], {}, keep=1)
    assert names(tmp_path) == ["step-100000002"]


def test_a_damaged_later_checkpoint_never_pushes_out_the_one_just_saved(tmp_path: Path, small: BertForPreTraining) -> None:
    save_checkpoint(tmp_path, 10, small, [], {})
    flip_bit(save_checkpoint(tmp_path, 20, small, [], {}) / "model.safetensors", 100, 0)
    found = newest_checkpoint(tmp_path, warn=lambda warning: None)
    assert found is not None and found.step == 10
    save_checkpoint(tmp_path, 15, small, [], {}, keep=1)  # resumed from 10, now saving more often
    found = newest_checkpoint(tmp_path, warn=pytest.fail)
    assert found is not None and found.step == 15
    assert names(tmp_path) == ["step-00000015"]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path, small: BertForPreTraining) -> None:
    flip_bit(save_checkpoint(tmp_path, 5, small, [], {"which": "first"}) / "state.json", 3, 0)
    save_checkpoint(tmp_path, 5, small, [], {"which": "second"})
    found = newest_checkpoint(tmp_path, warn=pytest.fail)
    assert found is not None and found.state == {"which": "second"}


def test_those_of_every_so_many_steps_stay(tmp_path: Path, small: BertForPreTraining) -> None:
    for step in range(5, 45, 5):
        save_checkpoint(tmp_path, step, small, [], {}, keep=2, keep_every=15)
    assert names(tmp_path) == [f"step-{step:08d}" for step in (15, 30, 35, 40)]


def test_no_old_one_goes_before_the_new_one_has_been_read_back(
    tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, small, [], {"which": "first"}, keep=1)
    true_whole_folder = checkpoint.whole_folder

    @contextmanager
    def lying_disk(folder: Path, parents: bool) -> Iterator[Path]:
        with true_whole_folder(folder, parents) as temporary:
            yield temporary
        flip_bit(folder / "model.safetensors", 100, 0)

    monkeypatch.setattr(checkpoint, "whole_folder", lying_disk)
    with pytest.raises(CorruptError):
        save_checkpoint(tmp_path, 2, small, [], {"which": "second"}, keep=1)
    found = newest_checkpoint(tmp_path, warn=lambda warning: None)
    assert found is not None and found.state == {"which": "first"}


# --- beside the training ----------------------------------------------------------------------------------------------------------------


def test_what_is_saved_beside_the_training_is_what_stood_when_it_was_asked_for(tmp_path: Path, trained: Trained) -> None:
    model, optimizers = trained
    save_checkpoint(tmp_path / "now", 3, model, optimizers, STATE)
    saver = Saver(tmp_path / "beside")
    saver.save(3, model, optimizers, STATE)
    with torch.no_grad():
        for value in tensors_of(model, optimizers).values():
            value.zero_()  # the next step
    saver.wait()
    for name in FILES:
        assert (tmp_path / "beside" / "step-00000003" / name).read_bytes() == (tmp_path / "now" / "step-00000003" / name).read_bytes()


def test_saves_beside_the_training_follow_each_other(tmp_path: Path, small: BertForPreTraining) -> None:
    saver = Saver(tmp_path, keep=3)
    for step in range(1, 7):
        saver.save(step, small, [], {"step": step})
    saver.wait()
    assert names(tmp_path) == [f"step-{step:08d}" for step in (4, 5, 6)]
    saver.wait()  # nothing left to wait for


def test_what_a_save_beside_the_training_raises_is_raised_at_the_next_look(
    tmp_path: Path, small: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "hash_files", full)
    saver = Saver(tmp_path)
    for look in (saver.wait, lambda: saver.save(2, small, [], {})):
        saver.save(1, small, [], {})
        with pytest.raises(OSError, match="No space"):
            look()
    saver.save(1, small, [], {})
    with pytest.raises(OSError, match="No space"):
        for _ in range(10_000):
            saver.check()
            time.sleep(0.001)
