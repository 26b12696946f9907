"""THE training loop: pretraining and fine-tuning both, on one process or many.

It is handed functions: batches by step number, an objective, and what to do after each step. It knows neither text nor
metrics, and keeps no state but the model's and the optimizers': a step's batch and its random numbers are functions of the
step's number, so that to resume is to start at another number.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from bertlab.batches.fingerprint import LANES, fingerprint, lanes
from bertlab.batches.flat import FlatBatch
from bertlab.errors import BertlabError, ConfigError, LostError
from bertlab.signals import held_back, ignore_all
from bertlab.training.objectives import Objective
from bertlab.training.optimizers import linear_schedule, set_learning_rate
from bertlab.training.processes import Precision, autocast
from bertlab.training.sharding import whole

MOST_SKIPPED = 50  # in a row: weights that give no finite gradient any more do not heal

MicroBatches = Callable[[int], Sequence[Any]]  # step -> this process's micro-batches of that step


@dataclass(frozen=True)
class StepResult:
    """One optimizer step over the whole global batch, all processes together.

    losses: each part's mean; counts: what each was divided by. tokens and sequences are real ones, token_pairs the sum of squared
    sequence lengths, filler_tokens what filler added; batch its fingerprint (bertlab/batches/fingerprint.py). seconds: of the step,
    data_seconds of it waiting for the batch. A step whose losses or gradient were not finite is skipped and changes nothing;
    skipped_in_a_row counts it and those right before it. asked: whether any process was asked to stop.
    """

    step: int
    losses: dict[str, float]
    counts: dict[str, float]
    learning_rate: float
    grad_norm: float
    skipped: bool
    skipped_in_a_row: int
    asked: bool
    tokens: int
    sequences: int
    token_pairs: int
    filler_tokens: int
    batch: str
    seconds: float
    data_seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of the loop is: steps in all, the schedule's warm-up and decay (None: all the rest), clipping of the gradient's norm, and
    the seed of dropout."""

    steps: int
    warmup_steps: int
    seed: int
    decay_steps: int | None = None
    clip: float = 1.0
    precision: Precision = "auto"
    workers: int = 0


def train(
    model: nn.Module,
    optimizers: list[Optimizer],
    objective: Objective[Any],
    micro_batches: MicroBatches,
    plan: Plan,
    accelerator: Accelerator,
    *,
    start: int = 0,
    after_step: Callable[[StepResult], bool | None],
    asked: Callable[[], bool] = lambda: False,
) -> None:
    """Train `model` (as `accelerator.prepare` returned it, or sharded) from step `start` to the plan's last.

    Raises ConfigError after MOST_SKIPPED skipped steps in a row (the weights are those from before them), LostError when a process that
    makes batches has died.

    `after_step` sees every step and may evaluate, save or print; it stops the run by returning True. `asked` says whether this process was
    asked to stop: when any was, all stop after the same step. The loss is the sum of the objective's parts, each divided by its count over
    all micro-batches of all processes.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    skipped_in_a_row = 0
    clock = time.perf_counter()
    # torch.manual_seed also asks devices that are not there, and writes down from where it was called: 1 ms.
    seed_dropout = torch.default_generator.manual_seed if accelerator.device.type == "cpu" else torch.manual_seed
    with _deaths_told(), closing(_load(micro_batches, start, plan, accelerator.device)) as loaded:
        for step, batches in loaded:
            data_ready = time.perf_counter()
            totals = _totals(objective, batches, accelerator)
            learning_rate = set_learning_rate(optimizers, linear_schedule(step, plan.steps, plan.warmup_steps, plan.decay_steps))
            sums = torch.zeros(len(objective.names), device=accelerator.device)
            divisors = totals[: len(objective.names)].to(accelerator.device)
            divisors = torch.where(divisors > 0, divisors, 1.0)  # where nothing is counted the sum is 0
            for number, batch in enumerate(batches):
                seed_dropout(_dropout_seed(plan.seed, step, number * accelerator.num_processes + accelerator.process_index))
                batch = batch.to(accelerator.device)
                more = number < len(batches) - 1  # gradients travel between processes once a step
                with accelerator.no_sync(model) if more else nullcontext():
                    with autocast(accelerator.device, plan.precision):
                        parts = objective.losses(model, batch)
                    # DDP takes the mean over processes, the losses want the sum
                    accelerator.backward((parts / divisors).sum() * accelerator.num_processes)
                sums += parts.detach()
            grad_norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, plan.clip, foreach=True)))
            *means, asking = _over_all((*(sums / divisors).tolist(), float(asked())), accelerator)
            skipped = not all(map(math.isfinite, (grad_norm, *means)))  # gradient and losses are of all processes: they agree
            skipped_in_a_row = skipped_in_a_row + 1 if skipped else 0
            for optimizer in optimizers:
                if not skipped:
                    optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            now = time.perf_counter()
            counts = totals[: len(objective.names)].tolist()
            tokens, sequences, token_pairs, filler_tokens = map(int, totals[len(objective.names) : -LANES].tolist())
            result = StepResult(
                step=step,
                losses=dict(zip(objective.names, means, strict=True)),
                counts=dict(zip(objective.names, counts, strict=True)),
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                skipped=skipped,
                skipped_in_a_row=skipped_in_a_row,
                asked=asking > 0,
                tokens=tokens,
                sequences=sequences,
                token_pairs=token_pairs,
                filler_tokens=filler_tokens,
                batch=fingerprint(totals[-LANES:].tolist()),
                seconds=now - clock,
                data_seconds=data_ready - clock,
            )
            stop = after_step(result)
            if skipped_in_a_row == MOST_SKIPPED:
                raise ConfigError(
                    f"{MOST_SKIPPED} steps in a row without a finite loss and gradient, the last is step {step + 1}: "
                    "lower the learning rate"
                )
            if stop or result.asked:
                break
            clock = time.perf_counter()


def _over_all(values: tuple[float, ...], accelerator: Accelerator) -> list[float]:
    """The sums of some numbers over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    summed: list[float] = accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum").tolist()
    return summed


def _totals(objective: Objective[Any], batches: Sequence[FlatBatch], accelerator: Accelerator) -> torch.Tensor:
    """The objective's counts, StepResult's four sizes and the lanes of its fingerprint over the whole global batch, by one all-reduce.

    Shape (parts + 4 + LANES,) float64.
    """
    ranks, rank = accelerator.num_processes, accelerator.process_index
    rows = [[*objective.counts(batch), *_sizes(batch), *lanes(batch, number * ranks + rank)] for number, batch in enumerate(batches)]
    totals = torch.tensor(rows, dtype=torch.float64).sum(0)
    return accelerator.reduce(totals.to(accelerator.device), "sum").cpu() if accelerator.num_processes > 1 else totals


def _sizes(batch: FlatBatch) -> tuple[int, int, int, int]:
    """Real tokens and sequences, the sum of squared sequence lengths (filler's too), and tokens of filler."""
    token_pairs = int(batch.cu_seqlens.diff().long().square().sum())
    return batch.num_tokens, batch.num_sequences, token_pairs, len(batch.input_ids) - batch.num_tokens


class _Steps(Dataset[Sequence[FlatBatch] | BertlabError]):
    """Steps by number, for torch's DataLoader."""

    def __init__(self, micro_batches: MicroBatches) -> None:
        self.micro_batches = micro_batches

    def __getitem__(self, step: int) -> Sequence[FlatBatch] | BertlabError:
        try:
            return self.micro_batches(step)
        except BertlabError as error:
            return error  # raised in a worker, it would come with the worker's traceback for a message


def _load(
    micro_batches: MicroBatches, start: int, plan: Plan, device: torch.device
) -> Generator[tuple[int, Sequence[FlatBatch]], None, None]:
    """(step, its micro-batches), made ahead by worker processes when there are any: the same whatever their number."""
    steps = range(start, plan.steps)
    loader = DataLoader(
        _Steps(micro_batches),
        batch_size=None,
        sampler=steps,
        num_workers=plan.workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_signals,
    )
    with held_back():
        ready: Any = iter(loader)
    try:
        for step in steps:
            try:
                batches = next(ready)
            except (ConnectionError, EOFError) as error:  # it died with a batch half handed over
                ended = wait([worker.sentinel for worker in ready._workers], timeout=5)
                dead = [worker for worker in ready._workers if worker.sentinel in ended]
                for worker in dead:
                    worker.join()  # its pipes close a moment before its exit code is known
                raise _lost(", ".join(f"process {worker.pid}, exit code {worker.exitcode}" for worker in dead)) from error
            if isinstance(batches, BertlabError):
                raise batches
            yield step, batches
    finally:
        # They ignore the signal by which Python ends what is left when it exits, and it would wait for them for ever; torch tells them so
        # itself when nothing refers to `ready` any more, but the traceback of an exception does.
        if plan.workers:
            ready._shutdown_workers()


@contextmanager
def _deaths_told() -> Iterator[None]:
    """torch hears of a dead worker by a signal, and raises wherever the main thread is at that moment: in an optimizer too."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):  # torch has no class for it
            raise
        raise _lost(str(error).strip(" .")) from error  # with the number of the process and of the signal


def _lost(who: str) -> LostError:
    return LostError(f"a process that makes batches died ({who}): the same command goes on from the last checkpoint")


def _ignore_signals(worker: int) -> None:
    ignore_all()


def _as_it_is(batches: Any) -> Any:
    return batches


def _dropout_seed(seed: int, step: int, micro: int) -> int:
    """torch's generator is set anew for each micro-batch of each process, so that there is no generator state to save."""
    return ((seed * 1_000_003 + step) * 65_537 + micro) % 2**63
