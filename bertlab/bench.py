"""bertlab bench: how fast this machine trains, and what a pretraining run would take, before anything is started.

    bertlab bench [--preset mini]
    bertlab bench --config RUN/config.yaml --price-per-hour 2.5

Takes every option of `bertlab pretrain` and writes nothing but `--json FILE`. Without a corpus the sample that ships is
prepared in a temporary folder: speeds are then those of its text, and a run's length is not foretold.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.errors import ConfigError
from bertlab.verbs import pretrain

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.tokens.corpus import Corpus

# Micro-batch sizes to try, as multiples of micro_tokens; a smaller one within this of the best is as good, and takes less memory.
SIZES, AS_GOOD = (0.5, 1, 2, 4), 0.97


@dataclass(frozen=True, kw_only=True)
class Config(pretrain.Config):
    corpus: str = ""
    """A corpus folder that `bertlab prepare` wrote; default: the sample that ships."""
    out: str = ""
    """Not used: nothing is trained for keeps."""
    price_per_hour: float | None = None
    """Price of an hour of all machines together, in any currency: the cost of the run is shown."""
    seconds: float = 60.0
    """About how long to measure."""
    json: str | None = None
    """Write the figures to this file too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds <= 0 or (self.price_per_hour is not None and self.price_per_hour < 0):
            raise ConfigError("seconds must be above 0 and price_per_hour 0 or more")


def run(config: Config) -> dict[str, Any]:
    """Measure and print; returns the figures. Raises ConfigError for settings that `pretrain` would refuse."""
    from bertlab.disk import write_json
    from bertlab.training import processes
    from bertlab.training.speed import product_rate, utilisation

    accelerator = processes.start(config.processes, config.device)
    processes.share_of(config.micro_batches, accelerator.num_processes)
    with _corpus(config) as corpus:
        rate = product_rate(accelerator.device, config.precision) * accelerator.num_processes
        figures: dict[str, Any] = {
            "device": accelerator.device.type,
            "processes": accelerator.num_processes,
            "bf16": processes.uses_bf16(accelerator.device, config.precision),
            "batch_tokens_per_second": _batch_rate(config, corpus),
        }
        sizes = []
        for factor in SIZES:
            tokens = max(round(config.micro_tokens * factor), config.longest)
            if measured := _measure(replace(config, micro_tokens=tokens), corpus, accelerator):
                # other work on the machine may have slowed one
                rate = max(rate, product_rate(accelerator.device, config.precision) * accelerator.num_processes)
                sizes.append({"micro_tokens": tokens, **measured})
            if not measured or (factor >= 1 and measured["seconds_measured"] > config.seconds / len(SIZES)):
                break  # the next one is too large for this machine, or for our patience
        figures["product_flops_per_second"] = rate
        for size in sizes:
            size["mfu"] = utilisation(size["flops"] / size["step_seconds"], rate)
        if not sizes:
            raise ConfigError("out of memory at the smallest size tried: lower micro_tokens, or choose a smaller preset")
        best = max(size["tokens_per_second"] for size in sizes)
        figures["sizes"] = sizes
        figures["best_micro_tokens"] = next(size["micro_tokens"] for size in sizes if size["tokens_per_second"] >= AS_GOOD * best)
        chosen = min(sizes, key=lambda size: abs(size["micro_tokens"] - config.micro_tokens))
        if config.corpus:
            figures["run"] = _foretold(config, corpus, chosen)
    if accelerator.is_main_process:
        print("\n".join(_lines(config, figures, chosen)), flush=True)
        if config.json:
            write_json(Path(config.json), figures)
    accelerator.wait_for_everyone()
    return figures


@contextmanager
def _corpus(config: Config) -> Iterator["Corpus"]:
    """The corpus asked for, or the sample's."""
    import tempfile
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from bertlab import sample
    from bertlab.tokens.corpus import open_corpus
    from bertlab.verbs import prepare

    if config.corpus:
        yield open_corpus(config.corpus)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = str(Path(folder) / "corpus")
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            prepare.run(prepare.Config(source=(str(sample.path("articles.jsonl.xz")),), out=made))
        yield open_corpus(made)


def _batch_rate(config: Config, corpus: "Corpus") -> float:
    """Real tokens a second of making batches, on one core."""
    batches = pretrain.phases(config, corpus).short
    batches.micro(0)  # plans the block
    start, tokens, number = time.perf_counter(), 0, 0
    while time.perf_counter() - start < 1:
        number += 1
        tokens += batches.micro(number).num_tokens
    return tokens / (time.perf_counter() - start)


def _measure(config: Config, corpus: "Corpus", accelerator: "Accelerator") -> dict[str, Any] | None:
    """The speed of training with these settings and where its time goes; None where memory does not suffice."""
    import torch

    try:
        return _steps(config, corpus, accelerator)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _steps(config: Config, corpus: "Corpus", accelerator: "Accelerator") -> dict[str, Any]:
    from functools import partial

    from bertlab.training import loop
    from bertlab.training.objectives import Pretraining
    from bertlab.training.optimizers import build_optimizers
    from bertlab.training.processes import fill_to, uses_bf16
    from bertlab.training.speed import peak_memory, training_flops

    device = accelerator.device
    model = pretrain.build_model(config, corpus).to(device)
    model.bert.encoder.recompute = config.recompute
    bf16 = uses_bf16(device, config.precision)
    name = config.optimizer or ("adamw" if config.model else "muon")
    optimizers = build_optimizers(model, name, learning_rate=1e-4, bf16=bf16)
    if config.compile:
        model.compile(dynamic=False)
    batches = pretrain.phases(config, corpus, fill_to(device, config.precision, config.compile, config.micro_tokens))
    mine = range(accelerator.process_index, config.micro_batches, accelerator.num_processes)
    budget = config.seconds / len(SIZES)
    spent: dict[str, float] = dict.fromkeys(("forward", "optimizer"), 0.0)
    parts: list[dict[str, float]] = []
    results: list[loop.StepResult] = []
    began = time.perf_counter()

    def after_step(result: loop.StepResult) -> bool:
        results.append(result)
        parts.append({"step": result.seconds, "data": result.data_seconds, **spent})
        spent.update(dict.fromkeys(spent, 0.0))
        return len(results) >= 3 and time.perf_counter() - began > budget

    prepared = accelerator.prepare(model)
    plan = loop.Plan(steps=1000, warmup_steps=0, seed=config.seed, precision=config.precision, workers=config.workers)
    objective = Pretraining()
    with _timed(objective, "losses", "forward", spent, device), _timed_steps(optimizers, spent, device):
        loop.train(prepared, optimizers, objective, partial(batches.step, mine), plan, accelerator, after_step=after_step)
    accelerator.free_memory(prepared)
    first = 1 + (len(results) > 4)  # the first steps allocate, and make kernels
    kept = results[first:]
    median = {name: statistics.median(part[name] for part in parts[first:]) for name in parts[0]}
    sizes = {name: statistics.mean(getattr(result, name) for result in kept) for name in ("tokens", "token_pairs", "sequences")}
    exchange = _exchange_seconds(model, accelerator)
    return {
        "tokens_per_second": sizes["tokens"] / median["step"],
        "tokens_per_step": sizes["tokens"],
        "step_seconds": median["step"],
        "flops": training_flops(model.config, masked=statistics.mean(result.counts["mlm_loss"] for result in kept), **sizes),
        "data_seconds": median["data"],
        "forward_seconds": median["forward"],
        "optimizer_seconds": median["optimizer"],
        "exchange_seconds": exchange,
        "backward_seconds": max(0.0, median["step"] - median["data"] - median["forward"] - median["optimizer"] - exchange),
        "memory_bytes": peak_memory(device),
        "steps_measured": len(kept),
        "seconds_measured": time.perf_counter() - began,
    }


@contextmanager
def _timed(owner: Any, name: str, part: str, spent: dict[str, float], device: Any) -> Iterator[None]:
    """Add the seconds of owner.name(...) to spent[part], the device's work included."""
    from bertlab.training.speed import wait

    inner: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = inner(*arguments, **named)
        wait(device)
        spent[part] += time.perf_counter() - start
        return result

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, inner)


@contextmanager
def _timed_steps(optimizers: list[Any], spent: dict[str, float], device: Any) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for optimizer in optimizers:
            stack.enter_context(_timed(optimizer, "step", "optimizer", spent, device))
        yield


def _exchange_seconds(model: Any, accelerator: "Accelerator") -> float:
    """Seconds to add up one gradient over all processes, by itself: training hides part of them behind the backward pass."""
    import torch

    from bertlab.training.speed import wait

    if accelerator.num_processes == 1:
        return 0.0
    gradient = torch.zeros(sum(parameter.numel() for parameter in model.parameters()), device=accelerator.device)
    seconds = []
    for _ in range(3):
        accelerator.wait_for_everyone()
        start = time.perf_counter()
        accelerator.reduce(gradient, "sum")
        wait(accelerator.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _foretold(config: Config, corpus: "Corpus", measured: dict[str, Any]) -> dict[str, float | None]:
    """What the run of these settings would take, held-out measurements and checkpoints left out."""
    tokens, seconds = config.steps * measured["tokens_per_step"], config.steps * measured["step_seconds"]
    return {
        "steps": config.steps,
        "tokens": tokens,
        "epochs": tokens / corpus.train.num_tokens,
        "hours": seconds / 3600,
        "cost": None if config.price_per_hour is None else seconds / 3600 * config.price_per_hour,
    }


def _lines(config: Config, figures: dict[str, Any], chosen: dict[str, Any]) -> Iterator[str]:
    """The figures as a person reads them."""
    from bertlab.pages.screen import mfu_words, table

    kind = "bf16" if figures["bf16"] else "fp32"
    count = figures["processes"]
    world = f"{count} process{'es' * (count > 1)} on {figures['device']}"
    yield f"machine    {world}, {figures['product_flops_per_second'] / 1e12:.2f} {kind} TFLOP/s in its own matrix product"
    yield f"batches    {figures['batch_tokens_per_second'] / 1e6:.1f} million tokens/s on one core"
    rows = [
        [
            f"{size['micro_tokens']:,}" + " *" * (size["micro_tokens"] == figures["best_micro_tokens"]),
            f"{size['tokens_per_second']:,.0f}",
            mfu_words(size["mfu"]),
            *(f"{size[f'{part}_seconds'] / size['step_seconds']:.1%}" for part in ("data", "forward", "backward", "optimizer", "exchange")),
            f"{size['memory_bytes'] / 2**30:.1f} GB",
        ]
        for size in figures["sizes"]
    ]
    what = config.model or config.preset
    yield ""
    yield table([f"{what}: micro_tokens", "tokens/s", "MFU", "data", "forward", "backward", "optimizer", "exchange", "peak memory"], rows)
    yield "* the smallest within 3 % of the fastest; the peak is that of all sizes so far"
    if any(size["mfu"] is None for size in figures["sizes"]):
        yield "- a step was faster than the machine's own product: other work slowed that one; measure again on a quiet machine"
    yield ""
    if foretold := figures.get("run"):
        cost = "" if foretold["cost"] is None else f", cost {foretold['cost']:,.2f}"
        yield (
            f"this run   {foretold['steps']:,} steps of {chosen['tokens_per_step']:,.0f} tokens at {chosen['step_seconds']:.2f} s: "
            f"{foretold['tokens'] / 1e6:,.1f} million tokens, {foretold['epochs']:.1f} epochs, {foretold['hours']:.2f} hours{cost}"
        )
        yield "           (short pairs throughout; measuring on held-out text and saving not counted)"
    else:
        yield "next       bertlab bench --corpus CORPUS [--config FILE] [--price-per-hour PRICE] foretells a run"
