"""Devices and processes, through Accelerate: one process or many, started by torchrun or accelerate launch.

Accelerate places the model, joins the processes and averages gradients; losses, random numbers and checkpoints are ours.
"""

import ctypes
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, KwargsHandler, broadcast

from bertlab.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


def start(processes: int | None, device: str | None, *, all_parts: bool = True, patience: timedelta | None = None) -> Accelerator:
    """Join the processes that a launcher started. `device`: cpu, cuda, or None for the GPU where there is one. Where not `all_parts` of a
    model have a gradient in every step, those that have none in any process are left alone, as one process leaves them. `patience`: how
    long they wait for one that works alone; by default half an hour on CPUs and ten minutes on GPUs. One that dies is noticed at once.

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
    _end_with_the_launcher()
    further: list[KwargsHandler] = [] if all_parts else [DistributedDataParallelKwargs(find_unused_parameters=True)]
    further += [InitProcessGroupKwargs(timeout=patience)] if patience else []
    accelerator = Accelerator(cpu=chosen.type == "cpu", kwargs_handlers=further)  # left to itself it starts one process without a GPU
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


def give_back_freed_memory() -> None:
    """Let the system have the memory that was freed: between blocks of many sizes that several threads free, glibc keeps ever more of it.
    For work that lasts longer than the page faults of fetching it anew, milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _end_with_the_launcher() -> None:
    """Have the kernel ask this process to end when torchrun, its parent, dies without a word: an orphan would go on, and hold the lock."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def choose_device(device: str | None) -> torch.device:
    """cpu, cuda (or cuda:N), or with None the GPU where there is one. Raises ConfigError for another, and a GPU that torch does not see."""
    if device is not None and device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"device={device}: give cpu or cuda, or leave it out")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no GPU here: leave device out, or install torch for your card")
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def agree(accelerator: Accelerator, number: int, what: str) -> None:
    """Raise ConfigError where the processes hold different numbers; `what` says of what, and what to look at."""
    if accelerator.num_processes > 1:
        numbers = accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()
        if len(set(numbers)) > 1:
            raise ConfigError(f"the processes do not agree on {what} ({', '.join(map(str, numbers))})")


def first_says(accelerator: Accelerator, value: bool) -> bool:
    """What the first process says, for all."""
    return bool(broadcast(torch.tensor(value, device=accelerator.device), from_process=0)) if accelerator.num_processes > 1 else value


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
    """Whether `autocast` computes in bf16. Raises ConfigError for what is no precision."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision={precision}: give one of {', '.join(get_args(Precision))}")
    return precision == "bf16" or (precision == "auto" and _multiplies_bf16(device))


def fill_to(device: torch.device, precision: Precision, compiled: bool, micro_tokens: int) -> int:
    """What number of tokens filler brings micro-batches of `micro_tokens` at most to a multiple of. Compiled kernels, and a GPU's, want one
    shape; a CPU's bf16 products are made for a shape too, and a handful in multiples of 32 is faster than one (docs/performance.md)."""
    if not compiled and not uses_bf16(device, precision):
        return 1
    return micro_tokens if compiled or device.type == "cuda" else 32


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
