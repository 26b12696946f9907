"""How long one waits for `bertlab explore`: a text of 128 tokens, from the browser's request to the last byte of the answer.

    python recipes/benchmarks/explore.py [--model FOLDER ...] [--preset base] [--rounds 20]

Each model answers over HTTP on this machine, as for the page: states, attention of all layers and heads, and where there is a head for
masked words a place of the text. Without --model it is one of random weights of the preset's size. Wall-clock milliseconds, the median of
the rounds and the worst; run it on a machine that has nothing else to do. Prints a line a model and, last, one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import torch
from batches import machine  # type: ignore[import-not-found]  # the file beside this one

from bertlab import sample
from bertlab.corpus.labelled import read_labelled
from bertlab.exploring.questions import questions
from bertlab.inference import LoadedModel
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.model.presets import PRESETS, preset_config
from bertlab.pages.serving import TOKEN_HEADER
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs.explore import serve

TOKENS = 128


def random_model(preset: str, folder: Path) -> str:
    """A pretraining model of the preset's size that has learnt nothing: time does not depend on weights."""
    tokenizer = tokenizers.train(
        read_labelled(str(sample.path("topics_test.jsonl.xz"))).texts, kind="wordpiece", vocab_size=4096, lowercase=True
    )
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = preset_config(preset, vocab_size=30522, positions=512, pad_token_id=0, **dropout)
    save_model(folder, BertForPreTraining(config), tokenizer, facts={"kind": "pretrained"}, card="# Random weights\n")
    return str(folder)


def milliseconds(folder: str, rounds: int) -> tuple[list[float], int]:
    """Wall-clock time of each look at the text, and the bytes of an answer."""
    model = LoadedModel(folder, "cpu")
    text = " ".join(["the"] * (TOKENS - 2))  # a piece of its own in any English vocabulary
    with serve(questions(model, Path(folder).name), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(name: str, asked: dict[str, Any]) -> bytes:
            headers = {"Content-Type": "application/json", TOKEN_HEADER: server.token}
            request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{name}", json.dumps(asked).encode(), headers)
            with urllib.request.urlopen(request) as reply:
                body: bytes = reply.read()
            return body

        about = json.loads(ask("about", {}))
        asked = {"text": text} | ({"masked": [3]} if about["words"] else {})
        found = json.loads(ask("look", asked))
        assert len(found["tokens"]) == TOKENS, len(found["tokens"])
        times, size = [], 0
        for _ in range(rounds):
            began = time.perf_counter()
            size = len(ask("look", asked))
            times.append(1000 * (time.perf_counter() - began))
        server.shutdown()
    return times, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=[])
    parser.add_argument("--preset", default="base", choices=PRESETS)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        models = asked.model or [random_model(asked.preset, Path(temporary) / asked.preset)]
        for folder in models:
            times, size = milliseconds(folder, asked.rounds)
            name = "/".join(Path(folder).parts[-2:])
            results[name] = {"milliseconds": statistics.median(times), "worst": max(times), "bytes": size}
            print(
                f"{name}: {statistics.median(times):.0f} ms in the middle of {asked.rounds}, {max(times):.0f} at worst, "
                f"{size / 1e6:.1f} MB",
                flush=True,
            )
    print(json.dumps(machine(torch.device("cpu")) | {"tokens": TOKENS, "models": results}))


if __name__ == "__main__":
    main()
