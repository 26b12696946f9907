"""bertlab/training/processes.py, and the loop in two real processes: the same gradients, losses and counts as in one.

Costs one start of two processes (gloo, on the CPU): what needs a second process is asked of it in one go.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor

from bertlab.batches.flat import PretrainingBatch
from bertlab.errors import ConfigError
from bertlab.model.heads import BertForPreTraining
from bertlab.training import processes
from bertlab.training.heldout import measure_heldout
from bertlab.training.loop import Plan, StepResult, train
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers
from bertlab.training.processes import autocast, share_of, start

# What each of the two processes does: three steps without a change of weights (dropout 0; dropout; a poisoned micro-batch that is
# the second process's alone), four steps of Muon and AdamW, a measurement, and a question to which the answer is no.
PROGRAM = """
import json, os, sys
from datetime import timedelta
from pathlib import Path
import safetensors.torch, torch
from bertlab.batches.flat import PretrainingBatch
from bertlab.errors import ConfigError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForPreTraining
from bertlab.training import processes
from bertlab.training.heldout import measure_heldout
from bertlab.training.loop import Plan, train
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers

folder = Path(sys.argv[1])
accelerator = processes.start(2, "cpu", patience=timedelta(hours=7))
waits = torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout
rank, world = accelerator.process_index, accelerator.num_processes
assert (world, torch.distributed.get_world_size(), torch.distributed.get_rank()) == (2, 2, rank)
try:
    processes.start(3, "cpu")
except ConfigError as error:
    refusal = str(error)
told = json.loads((folder / "told.json").read_text())
tensors = safetensors.torch.load_file(folder / "batches.safetensors")
batches = []
for number, longest in enumerate(told["longest"]):
    own = {name.split(".")[1]: value for name, value in tensors.items() if name.startswith(f"{number}.")}
    batches.append(PretrainingBatch(max_seqlen=longest, **own))
share = processes.share_of(len(batches), world)
mine = [batches[rank + world * place] for place in range(share)]


def build(dropout):
    settings = told["config"] | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = BertForPreTraining(EncoderConfig(**settings))
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    return model


class Capture(torch.optim.Optimizer):
    def __init__(self, model):
        super().__init__(model.parameters(), {"lr": 1.0, "peak_lr": 1.0})
        self.named, self.gradients = dict(model.named_parameters()), {}

    def step(self):
        self.gradients = {name: parameter.grad.clone() for name, parameter in self.named.items()}


class Poison(Pretraining):
    def losses(self, model, batch):
        return super().losses(model, batch) * (float("nan") if rank == 1 else 1.0)


def go(name, model, optimizers, objective, steps):
    found = []
    plan = Plan(steps=steps, warmup_steps=1, seed=7, clip=told["clip"], precision="fp32")
    train(accelerator.prepare(model), optimizers, objective, lambda step: mine, plan, accelerator, after_step=found.append)
    results[name] = [vars(result) | {"grad_norm": None if result.skipped else result.grad_norm} for result in found]


results = {}
for name, dropout, objective in (("plain", 0.0, Pretraining()), ("dropout", 0.2, Pretraining()), ("poisoned", 0.0, Poison())):
    model = build(dropout)
    capture = Capture(model)
    go(name, model, [capture], objective, 1)
    safetensors.torch.save_file(capture.gradients, folder / f"{name}-{rank}.safetensors")
model = build(0.0)
go("four steps", model, build_optimizers(model, "muon", learning_rate=1e-3), Pretraining(), 4)
safetensors.torch.save_file(model.state_dict(), folder / f"weights-{rank}.safetensors")
heldout = measure_heldout(build(0.0), batches[:3], accelerator, "fp32")
told = {"results": results, "heldout": heldout, "refusal": refusal, "waits": waits.total_seconds()}
(folder / f"{rank}.json").write_text(json.dumps(told))
accelerator.wait_for_everyone()
os._exit(0)  # as the command line does: torch's threads may end a process of several as it leaves
"""

CLIP = 1e9


def largest_difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture
def two_processes(
    tmp_path: Path, uneven: list[PretrainingBatch], make_model: Callable[..., BertForPreTraining]
) -> Callable[[], tuple[Path, list[dict[str, Any]]]]:
    """Run PROGRAM on the uneven batches in two processes; its folder and what each of them told."""

    def run() -> tuple[Path, list[dict[str, Any]]]:
        model = make_model()
        (tmp_path / "program.py").write_text(PROGRAM)
        told = {"config": asdict(model.config), "longest": [batch.max_seqlen for batch in uneven], "clip": CLIP}
        (tmp_path / "told.json").write_text(json.dumps(told))
        safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
        tensors = {f"{number}.{f.name}": getattr(batch, f.name) for number, batch in enumerate(uneven) for f in fields(batch)}
        safetensors.torch.save_file(
            {name: value for name, value in tensors.items() if isinstance(value, Tensor)}, tmp_path / "batches.safetensors"
        )
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        path = str(Path(processes.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, *launcher, str(tmp_path / "program.py"), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return tmp_path, [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run


def test_two_processes_train_as_one(
    two_processes: Callable[[], tuple[Path, list[dict[str, Any]]]],
    uneven: list[PretrainingBatch],
    make_model: Callable[..., BertForPreTraining],
    one_step: Callable[..., tuple[dict[str, Tensor], StepResult]],
    accelerator: Accelerator,
) -> None:
    masked = [len(batch.mlm_labels) for batch in uneven]
    assert masked[0] + masked[2] > 1.5 * (masked[1] + masked[3])  # the first process's share against the second's
    folder, told = two_processes()

    for name, dropout in (("plain", 0.0), ("dropout", 0.2)):
        gradients, here = one_step(make_model(dropout), uneven, clip=CLIP, seed=7)
        for rank in range(2):
            theirs = safetensors.torch.load_file(folder / f"{name}-{rank}.safetensors")
            assert largest_difference(theirs, gradients) < (1e-6 if dropout == 0 else 1e-5)
            (result,) = told[rank]["results"][name]
            assert result["losses"] == pytest.approx(here.losses, rel=1e-6)
            assert result["grad_norm"] == pytest.approx(here.grad_norm, rel=1e-5)
            assert (result["tokens"], result["sequences"]) == (here.tokens, here.sequences)

    model, results = make_model(), list[StepResult]()
    optimizers = build_optimizers(model, "muon", learning_rate=1e-3)
    plan = Plan(steps=4, warmup_steps=1, seed=7, clip=CLIP, precision="fp32")
    train(model, optimizers, Pretraining(), lambda step: uneven, plan, accelerator, after_step=results.append)
    ours = dict(model.state_dict())
    first, second = (safetensors.torch.load_file(folder / f"weights-{rank}.safetensors") for rank in range(2))
    assert largest_difference(first, second) == 0.0  # the two never drift apart
    assert largest_difference(first, safetensors.torch.load_file(folder / "weights.safetensors")) > 1e-3
    for step, theirs in enumerate(told[0]["results"]["four steps"]):
        assert theirs["losses"] == pytest.approx(results[step].losses, rel=1e-3)
    assert first.keys() == ours.keys()

    heldout = measure_heldout(make_model(), uneven[:3], accelerator, "fp32")
    for rank in range(2):
        assert told[rank]["heldout"] == pytest.approx(heldout, rel=1e-6)
        # one process's NaN is everyone's: both skip the step
        assert [result["skipped"] for result in told[rank]["results"]["poisoned"]] == [True]
        assert safetensors.torch.load_file(folder / f"poisoned-{rank}.safetensors") == {}
        assert "asked for 3 processes, 2 started" in told[rank]["refusal"]
        assert told[rank]["waits"] == 7 * 60 * 60  # seconds


def test_a_world_that_is_not_the_one_asked_for_is_refused() -> None:
    assert start(1, "cpu").num_processes == 1
    assert start(None, "cpu").num_processes == 1
    with pytest.raises(ConfigError, match="asked for 2 processes, 1 started.*--processes 2") as caught:
        start(2, "cpu")
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda, but torch sees no GPU"):
        start(None, "cuda")


def test_freed_memory_is_kept_on_the_cpu_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[tuple[int, int]]()
    glibc = SimpleNamespace(mallopt=lambda option, value: kept.append((option, value)))
    monkeypatch.setattr(processes, "Accelerator", lambda **settings: SimpleNamespace(num_processes=1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for platform, library, device, wanted in (
        ("linux", glibc, "cpu", [(-4, 0), (-1, 2**31 - 1)]),  # M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h
        ("linux", glibc, "cuda", []),
        ("linux", object(), "cpu", []),  # musl has no mallopt
        ("darwin", glibc, "cpu", []),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        start(1, device)
        assert kept == wanted, (platform, device)
        kept.clear()


@pytest.mark.parametrize(
    ("micro_batches", "ranks", "would_do"),
    [(3, 2, "2 or 4"), (1, 2, "2"), (1, 8, "8"), (5, 8, "8"), (9, 8, "8 or 16"), (10, 4, "8 or 12"), (7, 3, "6 or 9")],
)
def test_micro_batches_that_cannot_be_shared_evenly_are_refused_with_numbers_that_can(
    micro_batches: int, ranks: int, would_do: str
) -> None:
    with pytest.raises(ConfigError, match=rf"micro_batches={micro_batches} .* {ranks} processes: {would_do} would do$"):
        share_of(micro_batches, ranks)


def test_micro_batches_are_shared_evenly() -> None:
    assert [share_of(8, ranks) for ranks in (1, 2, 4, 8)] == [8, 4, 2, 1]


def test_bf16_is_used_where_it_is_asked_for_and_by_auto_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.eye(4)

    def dtype_of_a_product(precision: processes.Precision) -> torch.dtype:
        with autocast(torch.device("cpu"), precision):
            return (matrix @ matrix).dtype

    for multiplies, automatic in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(processes, "_multiplies_bf16", lambda device, answer=multiplies: answer)
        assert dtype_of_a_product("auto") == automatic
        assert dtype_of_a_product("bf16") == torch.bfloat16
        assert dtype_of_a_product("fp32") == torch.float32


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="a C library without malloc_trim")
def test_what_was_freed_between_other_blocks_goes_back_to_the_system() -> None:
    def megabytes() -> float:
        """Memory of this process that is no file's (proc(5))."""
        return next(int(line.split()[1]) / 1000 for line in Path("/proc/self/smaps_rollup").open() if line.startswith("Anonymous:"))

    blocks = [bytearray(60_000) for _ in range(1600)]
    for block in blocks:
        block[::1000] = b"x" * 60  # touched, so that it is there
    full = megabytes()
    blocks = blocks[::16]  # the last of them near the top of the heap
    processes.give_back_freed_memory()
    assert full - megabytes() > 70  # of 96
    assert all(block[1000] == ord("x") for block in blocks)


@pytest.mark.parametrize(
    ("device", "precision", "compiled", "expected"),
    [
        ("cpu", "fp32", False, 1),
        ("cpu", "bf16", False, 32),
        ("cpu", "fp32", True, 4000),
        ("cpu", "bf16", True, 4000),
        ("cuda", "bf16", False, 4000),
        ("cuda", "fp32", False, 1),
    ],
)
def test_compiled_kernels_and_a_gpu_get_one_shape_and_a_cpus_bf16_products_a_few(
    device: str, precision: processes.Precision, compiled: bool, expected: int
) -> None:
    assert processes.fill_to(torch.device(device), precision, compiled, 4000) == expected
