"""Devices and processes, through Accelerate: one process or many, started by torchrun or accelerate launch.

Accelerate places the model, joins the processes and averages gradients; losses, random numbers and checkpoints are ours.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from accelerate import Accelerator

from bertlab.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


def start(processes: int | None, device: str | None) -> Accelerator:
    """Join the processes that a launcher started. `device`: cpu, cuda, or None for the GPU where there is one.

    Raises ConfigError when the world is not the one asked for: some launchers start fewer processes in silence.
    """
    chosen = choose_device(device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if chosen.type == "cuda" and here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes on this machine, but {torch.cuda.device_count()} GPUs: start one process a GPU, or give device=cpu"
        )
    if chosen.type == "cpu":
        _keep_freed_memory()
    accelerator = Accelerator(cpu=chosen.type == "cpu")  # left to itself it starts one process where there is no GPU
    if processes is None:
        processes = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != processes:
        raise ConfigError(
            f"asked for {processes} processes, {accelerator.num_processes} started: use `bertlab VERB --processes {processes}` or torchrun "
            f"--nproc_per_node {processes} -m bertlab VERB (accelerate launch --cpu starts one)"
        )
    return accelerator


def _keep_freed_memory() -> None:
    """Let the next step have the memory that a step frees: glibc gives large blocks back to the system at once, and the page faults of
    fetching them anew take 5 to 10 % of a small model's step (docs/performance.md). Other C libraries have no such call."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no block in a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep the top of the heap


def choose_device(device: str | None) -> torch.device:
    """cpu, cuda, or with None the GPU where there is one. Raises ConfigError for a GPU that torch does not see."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no GPU here: leave device out, or install torch for your card")
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


class Stop:
    """Whether somebody asked for the end of a run: `asked`."""

    asked = False


@contextmanager
def stop_politely(processes: int) -> Iterator[Stop]:
    """In a run of one process, make the first SIGINT or SIGTERM a wish (`asked`), to be granted after the step; the second ends it at once.

    Several processes would grant it at different steps and wait for each other: there the signals keep their meaning.
    """
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        for each, handler in before.items():
            signal.signal(each, handler)

    before: dict[signal.Signals, Any] = {}
    if processes == 1 and threading.current_thread() is threading.main_thread():  # handlers can be set there alone
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share_of(micro_batches: int, ranks: int) -> int:
    """How many micro-batches of a step a process takes. Raises ConfigError for a split that is not even, with the sizes that would do."""
    if micro_batches % ranks:
        nearest = sorted({max(ranks, micro_batches // ranks * ranks), (micro_batches // ranks + 1) * ranks})
        raise ConfigError(f"micro_batches={micro_batches} cannot be shared by {ranks} processes: {' or '.join(map(str, nearest))} would do")
    return micro_batches // ranks


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bf16 autocast where it is asked for, or, with `auto`, where the hardware multiplies bf16 (fp16 is never used)."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if uses_bf16(device, precision) else nullcontext()


def uses_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether `autocast` computes in bf16."""
    return precision == "bf16" or (precision == "auto" and _multiplies_bf16(device))


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
