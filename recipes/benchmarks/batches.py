"""How fast batches are made on one core, and how much memory planning an epoch takes as a corpus grows.

    python recipes/benchmarks/batches.py [--corpus CORPUS] [--sentences 1000000 10000000 100000000] [--rounds 5]

The process keeps to one core and one thread, and glibc keeps freed memory as it does in training. Tokens a second are
those of the first micro-batches of a run, planning included; by default of the sample that ships, prepared in a temporary
folder with BERT's vocabulary size. Memory is that of planning every block of one epoch of synthetic documents, whose sentence lengths are
computed and not stored, each size in a process of its own: the most that was resident above what was before. Prints a table
and, last, one JSON object.
"""

import argparse
import json
import math
import os
import platform
import re
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertlab import sample
from bertlab.batches.masking import Masking, masking_for
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.tokens.shards import Documents, ragged_arange
from bertlab.training import processes
from bertlab.verbs import prepare

MAX_LENGTH, MICRO_TOKENS = 128, 4096  # pretrain's defaults
SENTENCES_A_ROUND = 2_000_000  # planned in a round at least: of a small corpus several epochs
_TABLE = 2**12  # sentence lengths to choose from, a power of two


def machine(device: torch.device) -> dict[str, Any]:
    """What a number was measured on, and when."""
    described = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", described.read_text()) if described.exists() else None
    processor = f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"
    return {
        "date": date.today().isoformat(),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


class Synthetic(Documents):
    """About `sentences` sentences in documents of 10 to 30, of 5 to 47 tokens (26 in the mean, as in the sample): made when asked for."""

    def __init__(self, sentences: int) -> None:
        self.num_documents = max(1, sentences // 420) * 21  # 10 + 11 + ... + 30 = 420
        self.num_sentences = self.num_documents * 20
        self.num_tokens = self.num_sentences * 26
        self._table = np.random.default_rng(0).integers(5, 48, _TABLE)

    def sentences(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As Documents has it: lengths (S,), bounds (D+1,), addresses (D,); a document's lengths are a function of its number."""
        counts = 10 + documents % 21
        bounds = np.zeros(len(documents) + 1, dtype=np.int64)
        np.cumsum(counts, out=bounds[1:])
        lengths = self._table[(np.repeat(documents * 37, counts) + ragged_arange(counts)) & (_TABLE - 1)]
        return lengths, bounds, documents * (30 * 47)


def one_core() -> None:
    """Keep this process to one core and one thread, and its freed memory to itself."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    processes.start(None, "cpu")


def batches_of(documents: Documents, corpus: Corpus | None) -> PretrainingBatches:
    """The micro-batches of pretraining's default settings; without a corpus they can be planned, not made."""
    return PretrainingBatches(
        documents,
        masking_for(corpus.tokenizer) if corpus else Masking(0, np.zeros(1, dtype=bool)),
        cls_id=corpus.tokenizer.cls_id if corpus else 0,
        sep_id=corpus.tokenizer.sep_id if corpus else 0,
        seed=0,
        max_length=MAX_LENGTH,
        micro_tokens=MICRO_TOKENS,
    )


def micro_rate(corpus: Corpus, micro_batches: int) -> float:
    """Tokens a second of making the first micro-batches of a run, the planning of their blocks included."""
    batches = batches_of(corpus.train, corpus)
    start = time.perf_counter()
    tokens = sum(batches.micro(number).num_tokens for number in range(micro_batches))
    return tokens / (time.perf_counter() - start)


def plan_rate(batches: PretrainingBatches, sentences: int) -> float:
    """Sentences a second of planning whole blocks of at least `sentences` sentences, taking each for the mean of all."""
    in_a_block = batches.documents.num_sentences / batches.blocks
    blocks = math.ceil(sentences / in_a_block)
    start = time.perf_counter()
    for place in range(blocks):
        batches.block(place)
    return blocks * in_a_block / (time.perf_counter() - start)


def planned(sentences: int) -> dict[str, float]:
    """Plan one epoch of synthetic documents in this process: sentences, sentences a second, most bytes above those resident before."""
    one_core()
    documents = Synthetic(sentences)
    batches = batches_of(documents, None)
    # Not getrusage's peak: that one is inherited from the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = _resident("VmRSS")
    rate = plan_rate(batches, documents.num_sentences)
    return {"sentences": documents.num_sentences, "rate": rate, "peak_bytes": _resident("VmHWM") - before}


def _resident(field: str) -> int:
    """VmRSS, resident memory, or VmHWM, its peak, in bytes (proc(5))."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="a folder that `bertlab prepare` wrote; by default the sample is prepared")
    parser.add_argument("--sentences", type=int, nargs="+", default=[10**6, 10**7, 10**8], help="sizes of synthetic corpora to plan")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--micro-batches", type=int, default=1000, help="to make in a round")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        place = arguments.corpus
        if not place:
            place = str(Path(folder) / "corpus")
            prepare.run(prepare.Config(source=(str(sample.path("articles.jsonl.xz")),), out=place))
        one_core()  # after preparing, which uses them all
        corpus = open_corpus(place)
        least = min(SENTENCES_A_ROUND, max(arguments.sentences))
        rates: dict[str, list[float]] = {"tokens": [], "plan_sentences": [], "synthetic_plan_sentences": []}
        for turn in range(arguments.rounds + 1):
            measured = (
                micro_rate(corpus, arguments.micro_batches),
                plan_rate(batches_of(corpus.train, corpus), least),
                plan_rate(batches_of(Synthetic(least), None), least),
            )
            if turn:  # the first round allocates
                for of, rate in zip(rates.values(), measured, strict=True):
                    of.append(rate)
    results: dict[str, Any] = machine(torch.device("cpu")) | {"numpy": np.__version__}
    print(f"\n{corpus.train.num_sentences:,} sentences, {corpus.train.num_tokens:,} tokens; one core, {arguments.rounds} rounds")
    print(f"{'millions a second':28} {'median':>8} {'best':>8}")
    for name, of in rates.items():
        results |= {f"{name}_per_second": statistics.median(of), f"{name}_per_second_best": max(of)}
        print(f"{name.replace('_', ' '):28} {statistics.median(of) / 1e6:8.2f} {max(of) / 1e6:8.2f}")
    if Path("/proc/self/clear_refs").exists():
        results |= {"peak_bytes": {}, "epoch_plan_sentences_per_second": {}}
        print(f"\n{'plan of an epoch':28} {'M/s':>8} {'peak':>8}")
        for sentences in arguments.sentences:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
                plan = apart.submit(planned, sentences).result()
            name = f"{sentences / 1e6:g}M"
            results["peak_bytes"][name] = plan["peak_bytes"]
            results["epoch_plan_sentences_per_second"][name] = plan["rate"]
            print(f"{plan['sentences']:18,} sentences {plan['rate'] / 1e6:8.2f} {plan['peak_bytes'] / 2**20:5.0f} MB", flush=True)
    else:
        print("\nmemory: not measured: needs Linux's /proc")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
