"""One CUDA card: correctness first, then speed.

    python recipes/benchmarks/gpu.py [--preset base] [--length 128 512] [--micro-tokens 8192 16384 32768 65536]

Correctness: losses and gradients of a mini model on one micro-batch without dropout: the card against the CPU, bf16 against
fp32, filler against none, compiled against eager, and the varlen attention kernel against grouped attention. Anything off by
more than its bound prints FAILED and ends the run with exit code 1 before anything is timed.

Speed: bertlab against transformers' BertForPreTraining with SDPA under bf16 autocast, as in pretrain_step.py: the same
sequences, alternating rounds of one run; bertlab's batches have filler to a fixed shape, and the peer's none. All sizes of
micro-batch run eager; those at which either side was fastest also compiled (`--compile each`: all; `none`: none, nor is it
checked). Compiling takes most of the time: where that is short, give one --length at a time. A side's best is the fastest of
its cells, compiled or not. MFU: the products of real tokens over the card's own bf16 product.

The corpus is the sample that ships, thirty articles to a document, so that pairs fill their length as those of long texts
do; `--corpus` takes a prepared one, which needs no tokenizing on the card's machine. Prints a table and, last, one JSON object.
"""

import argparse
import copy
import json
import lzma
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from batches import machine  # type: ignore[import-not-found]  # the files beside this one
from pretrain_step import batches_of, flops_of, our_round, their_round  # type: ignore[import-not-found]
from torch import Tensor

from bertlab import sample
from bertlab.batches.flat import PretrainingBatch
from bertlab.model.attention import attend, layout
from bertlab.model.heads import BertForPreTraining
from bertlab.model.presets import PRESETS
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.training import processes
from bertlab.training.objectives import Pretraining
from bertlab.training.speed import product_rate
from bertlab.verbs import prepare, pretrain

ARTICLES_A_DOCUMENT = 30  # about 2,900 tokens
# What is checked and timed on a card; on a CPU the same logic at sizes that end soon.
CHECKED = {"cuda": ("mini", 4096), "cpu": ("tiny", 512)}
LENGTHS = {"cuda": [128, 512], "cpu": [64, 128]}
MICRO_TOKENS = {"cuda": [8192, 16384, 32768, 65536], "cpu": [512, 1024]}

# Most a result may differ, relative to its norm.
FP32 = 1e-4
BF16_ATTENTION = 1e-2  # one rounding to 8 bits is 2e-3 in the mean; scores, weights and context are rounded
BF16 = 0.06  # of a whole model, by tensor: 0.028 on a CPU at mini's size
LEAST = 1e-3  # a tensor whose gradient is a smaller share of the whole (key.bias: 0 but for rounding) is compared with that share

BERTLAB, PEER = "bertlab", "transformers"
COMPILED = " compiled"


@dataclass(frozen=True)
class Check:
    """One comparison: how far apart at the worst, and how far they may be."""

    name: str
    apart: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.apart <= self.bound  # NaN does not


def checks(corpus: Corpus, preset: str, micro_tokens: int, device: torch.device, compiled: bool) -> Iterator[Check]:
    """The comparisons, in the order in which one that fails explains the next."""
    config = pretrain.Config(corpus="", out="", preset=preset, micro_tokens=micro_tokens, dropout=0.0)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = pretrain.build_model(config, corpus)
    (batch,) = batches_of(config, corpus, 1)
    filled = batch.topped_up(micro_tokens + 2 * config.max_length)  # several sequences of filler, and empty ones
    reference = results(model, batch, "fp32", torch.device("cpu"))
    single, half = results(model, batch, "fp32", device), results(model, batch, "bf16", device)
    yield Check(f"fp32: {device.type} against cpu", apart(single, reference), FP32)
    yield Check("fp32: filler against none", apart(results(model, filled, "fp32", device), single), FP32)
    for length in (128, 512):
        budget = max(length, micro_tokens)
        (longer,) = batches_of(replace(config, max_length=length, micro_tokens=budget), corpus, 1, fill_to=budget)
        yield Check(f"bf16 attention at {length}: against fp32", attention_apart(longer.cu_seqlens, device), BF16_ATTENTION)
    yield Check("bf16 against fp32", apart(half, single), BF16)
    yield Check("bf16: filler against none", apart(results(model, filled, "bf16", device), half), BF16)
    if compiled:
        model.compile(dynamic=False)
        yield Check("bf16: compiled against eager", apart(results(model, filled, "bf16", device), half), BF16)


def results(model: BertForPreTraining, batch: PretrainingBatch, precision: processes.Precision, device: torch.device) -> dict[str, Tensor]:
    """Both losses and every gradient of a micro-batch, made on `device`, on the CPU."""
    model = model.to(device).train()
    model.zero_grad(set_to_none=True)
    objective, batch = Pretraining(), batch.to(device)
    with processes.autocast(device, precision):
        losses = objective.losses(model, batch)
    losses = losses / torch.tensor(objective.counts(batch), device=device)
    losses.sum().backward()
    found = dict(zip(objective.names, losses.detach().cpu(), strict=True))
    return found | {name: parameter.grad.cpu() for name, parameter in model.named_parameters() if parameter.grad is not None}


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The worst tensor's distance, relative to its norm."""
    assert found.keys() == expected.keys()
    whole = torch.stack([value.norm() for name, value in expected.items() if name not in Pretraining.names]).norm()
    distances = [(found[name] - value).norm() / torch.maximum(value.norm(), LEAST * whole) for name, value in expected.items()]
    return float(torch.stack(distances).max())  # NaN if any is


def attention_apart(cu_seqlens: Tensor, device: torch.device, heads: int = 4, size: int = 64) -> float:
    """bf16 attention, on a card by the varlen kernel, against fp32 attention in groups on the same inputs: output and gradient."""
    cu_seqlens, longest = cu_seqlens.to(device), int(cu_seqlens.diff().max())
    kernel, in_groups = (layout(cu_seqlens, longest, heads, dtype, 0.0) for dtype in (torch.bfloat16, torch.float32))
    assert device.type == "cpu" or kernel.packing is None
    draw = torch.Generator().manual_seed(0)
    rounded = torch.randn(int(cu_seqlens[-1]), 3, heads, size, generator=draw).to(device, torch.bfloat16)
    towards = torch.randn(len(rounded), heads * size, generator=draw).to(device, torch.bfloat16)
    found, expected = list[Tensor](), list[Tensor]()
    for dtype, where, of in ((torch.bfloat16, kernel, found), (torch.float32, in_groups, expected)):
        qkv = rounded.to(dtype, copy=True).requires_grad_()
        context = attend(qkv, where, 0.0)
        (gradient,) = torch.autograd.grad(context, qkv, towards.to(dtype))
        of += [context.detach().float(), gradient.float()]
    distances = [(ours - right).norm() / right.norm() for ours, right in zip(found, expected, strict=True)]
    return float(torch.stack(distances).max())  # NaN if any is


@dataclass
class Cell:
    """One size of micro-batch. A round has `tokens` real tokens, `flops` operations and filled batches of `shapes` shapes; the peer's
    cells are `padding` by that share. seconds: of each side's rounds; first_seconds: of its first one, compiling included; failures: why a
    side did not run."""

    length: int
    micro_tokens: int
    tokens: int
    flops: float
    shapes: int
    padding: float
    seconds: dict[str, list[float]]
    first_seconds: dict[str, float]
    failures: dict[str, str]

    def rate(self, side: str) -> float:
        """Real tokens a second, the median of the rounds; 0 where there is none."""
        return self.tokens / statistics.median(self.seconds[side]) if self.seconds.get(side) else 0.0

    def best(self, who: str) -> float:
        return max(self.rate(who), self.rate(who + COMPILED))

    def ratio(self) -> float:
        """Of the faster variant of each side: the median over the rounds, 0 where one did not run."""
        ours, theirs = (max((who, who + COMPILED), key=self.rate) for who in (BERTLAB, PEER))
        pairs = zip(self.seconds.get(ours, []), self.seconds.get(theirs, []), strict=False)
        return statistics.median([slow / fast for fast, slow in pairs] or [0.0])


def precision_of(device: torch.device) -> processes.Precision:
    """What is timed: bf16, but fp32 on a processor that would have to emulate it."""
    return "bf16" if processes.uses_bf16(device, "auto") else "fp32"


def timed(config: pretrain.Config, corpus: Corpus, rounds: int, steps: int, compiled: bool, rates: list[float]) -> Cell:
    """Time both sides, eager and if `compiled` that way too, in alternating rounds; the card's product rates go to `rates`."""
    torch.compiler.reset()  # else the shapes of earlier cells use up the number of kernels that torch makes
    device = processes.choose_device(config.device)
    precision = precision_of(device)
    batches = batches_of(config, corpus, steps)
    filled = [batch.topped_up(config.micro_tokens) for batch in batches]
    model = pretrain.build_model(config, corpus)
    cells = sum(batch.num_sequences * batch.max_seqlen for batch in batches)
    tokens = sum(batch.num_tokens for batch in batches)
    shapes = len({(len(batch.cu_seqlens), len(batch.mlm_labels), batch.max_seqlen) for batch in filled})
    cell = Cell(config.max_length, config.micro_tokens, tokens, flops_of(model.config, batches), shapes, 1 - tokens / cells, {}, {}, {})
    makers: dict[str, Callable[[], Callable[[], float]]] = {
        BERTLAB: lambda: our_round(config, copy.deepcopy(model), filled, precision),
        PEER: lambda: their_round(config, corpus, batches, precision),
    }
    if compiled:
        with_compile = replace(config, compile=True)
        makers[BERTLAB + COMPILED] = lambda: our_round(with_compile, copy.deepcopy(model), filled, precision)
        makers[PEER + COMPILED] = lambda: their_round(with_compile, corpus, batches, precision)
    running: dict[str, Callable[[], float]] = {}
    for side, make in makers.items():
        try:
            running[side] = make()
            cell.first_seconds[side] = running[side]()  # allocates, compiles, meets every shape
            cell.seconds[side] = []
        except torch.OutOfMemoryError:
            cell.failures[side] = "out of memory"
        except Exception as error:
            if not side.endswith(COMPILED):
                raise
            # a compiler that gives up costs its own cell alone
            cell.failures[side] = f"{type(error).__name__}: {str(error).strip()[:200]}"
        if side in cell.failures:
            running.pop(side, None)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    for _ in range(rounds):
        rates.append(product_rate(device, precision, rounds=2))
        for side, once in running.items():
            cell.seconds[side].append(once())
    return cell


def joined_sample(folder: Path) -> str:
    """The sample's articles as long documents: a prepared corpus in `folder`."""
    with lzma.open(sample.path("articles.jsonl.xz"), "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    documents = ("\n".join(texts[first : first + ARTICLES_A_DOCUMENT]) for first in range(0, len(texts), ARTICLES_A_DOCUMENT))
    source = folder / "articles.txt"
    source.write_text("\n\n".join(documents), encoding="utf-8")
    prepare.run(prepare.Config(source=(str(source),), out=str(folder / "corpus")))
    return str(folder / "corpus")


def row(cell: Cell, best_product: float) -> str:
    """A cell as a line of the table."""

    def shown(side: str) -> str:
        return f"{cell.rate(side):,.0f}" if cell.seconds.get(side) else cell.failures.get(side, "-")[:13]

    sides = "".join(f" {shown(side):>13}" for side in (BERTLAB, BERTLAB + COMPILED, PEER, PEER + COMPILED))
    mfu = cell.best(BERTLAB) / cell.tokens * cell.flops / best_product
    return f"{cell.length:6} {cell.micro_tokens:7,}{sides} {cell.ratio():7.2f} {mfu:6.1%} {cell.padding:8.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="a folder that `bertlab prepare` wrote; by default the sample is prepared")
    parser.add_argument("--preset", default="base", choices=PRESETS)
    parser.add_argument("--length", type=int, nargs="+", help="most tokens in a pair; default: 128 512")
    parser.add_argument("--micro-tokens", type=int, nargs="+", help="default: 8192 16384 32768 65536")
    parser.add_argument("--compile", default="best", choices=["best", "each", "none"], help="at which sizes also compiled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="micro-batches a round")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"], help="cpu: the same logic, for trying it out")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    lengths, sizes = arguments.length or LENGTHS[device.type], arguments.micro_tokens or MICRO_TOKENS[device.type]
    if min(sizes) < max(lengths):
        parser.error("--micro-tokens: a micro-batch holds at least one pair of --length")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: torch sees no CUDA device here")
        return
    facts: dict[str, Any] = machine(device) | {"cuda": torch.version.cuda, "transformers": transformers.__version__}
    facts |= {"preset": arguments.preset, "dropout": arguments.dropout}
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(arguments.corpus or joined_sample(Path(folder)))
        print(f"\n{'correct':40} {'apart':>9} {'bound':>9}")
        failed, facts["checks"] = False, {}
        for check in checks(corpus, *CHECKED[device.type], device, arguments.compile != "none"):
            print(f"{check.name:40} {check.apart:9.1e} {check.bound:9.1e}  {'ok' if check.holds else 'FAILED'}", flush=True)
            failed |= not check.holds
            facts["checks"][check.name] = check.apart
        if failed:
            print("FAILED: nothing is timed")
            sys.exit(1)
        cells = list[Cell]()
        rates = [product_rate(device, precision_of(device))]
        counted = f"{arguments.rounds} rounds of {arguments.steps} micro-batches"
        print(f"\n{arguments.preset}, {precision_of(device)}, dropout {arguments.dropout}: real tokens/s, medians of {counted}")
        print(f"{'':14} {BERTLAB:>13} {'compiled':>13} {PEER:>13} {'compiled':>13}   best/")
        print(f"{'length':>6} {'tokens':>7} {'':13} {'':13} {'':13} {'':13} {'best':>7} {'MFU':>6} {'padding':>8}")

        def measure(length: int, size: int, compiled: bool) -> Cell:
            config = pretrain.Config(
                corpus="",
                out="",
                preset=arguments.preset,
                max_length=length,
                micro_tokens=size,
                dropout=arguments.dropout,
                device=arguments.device,
            )
            cells.append(timed(config, corpus, arguments.rounds, arguments.steps, compiled, rates))
            print(row(cells[-1], max(rates)), flush=True)
            return cells[-1]

        best_of: dict[int, Cell] = {}
        for length in lengths:
            of_length = [measure(length, size, arguments.compile == "each") for size in sizes]
            if arguments.compile == "best":
                fastest = {max(of_length, key=lambda cell: cell.rate(who)).micro_tokens for who in (BERTLAB, PEER)}
                of_length += [measure(length, size, True) for size in sorted(fastest)]
            ours, theirs = (max(of_length, key=lambda cell: cell.best(who)) for who in (BERTLAB, PEER))
            name = f"{arguments.preset}_{length}"
            facts[f"{name}_tokens_per_second"], facts[f"{name}_micro_tokens"] = ours.best(BERTLAB), ours.micro_tokens
            facts[f"{name}_peer_tokens_per_second"], facts[f"{name}_peer_micro_tokens"] = theirs.best(PEER), theirs.micro_tokens
            facts[f"{name}_ratio"] = ours.best(BERTLAB) / theirs.best(PEER) if theirs.best(PEER) else None
            best_of[length] = ours
            mfu = ours.best(BERTLAB) / ours.tokens * ours.flops / max(rates)
            of_best = f"{facts[f'{name}_ratio']:.2f} x" if facts[f"{name}_ratio"] else "out of memory on the other side"
            print(f"{length:6}    best against best: {of_best}, MFU {mfu:.1%}", flush=True)
    facts["product_flops_per_second"] = max(rates)  # of all rounds, those after a length was printed too
    for length, ours in best_of.items():
        facts[f"{arguments.preset}_{length}_mfu"] = ours.best(BERTLAB) / ours.tokens * ours.flops / max(rates)
    facts["cells"] = [vars(cell) for cell in cells]
    print(f"\n{facts['date']}, {facts['machine']}, torch {facts['torch']}, CUDA {facts['cuda']}, transformers {facts['transformers']}")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
