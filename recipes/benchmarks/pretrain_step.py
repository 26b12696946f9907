"""Real tokens a second of a pretraining step: bertlab against a plain loop over transformers' BertForPreTraining.

    python recipes/benchmarks/pretrain_step.py [--preset mini] [--rounds 5] [--steps 4] [--device cpu]

Both sides train on the same micro-batches, in alternating rounds of one run, with the same precision, the same dropout on
hidden states (and none on attention weights), the same clipping and fused AdamW. The peer gets the batch padded to its
longest sequence, with SDPA attention, and computes vocabulary logits everywhere, as its forward does. The corpus is the
sample that ships, prepared in a temporary folder with BERT's vocabulary size. Prints a table and, last, one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig
from transformers import BertForPreTraining as PeerBert

from bertlab import sample
from bertlab.batches.flat import PretrainingBatch
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.training import loop, processes
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers
from bertlab.verbs import prepare, pretrain


def padded(batch: PretrainingBatch) -> dict[str, torch.Tensor]:
    """The peer's view of a flat batch: (N, longest) ids, segments, attention mask, MLM labels (-100 off the mask), NSP labels."""
    starts, lengths = batch.cu_seqlens[:-1].long(), batch.cu_seqlens.diff().long()
    place = torch.repeat_interleave(torch.arange(len(lengths)), lengths), batch.position_ids
    shape = (len(lengths), int(lengths.max()))
    labels = torch.full((len(batch.input_ids),), -100)
    labels[batch.mlm_positions] = batch.mlm_labels
    assert int(starts[0]) == 0

    def spread(values: torch.Tensor, filler: int) -> torch.Tensor:
        return torch.full(shape, filler).index_put(place, values)

    return {
        "input_ids": spread(batch.input_ids, 0),
        "token_type_ids": spread(batch.token_type_ids, 0),
        "attention_mask": spread(torch.ones_like(batch.input_ids), 0),
        "labels": spread(labels, -100),
        "next_sentence_label": batch.nsp_labels,
    }


def our_round(
    config: pretrain.Config, corpus: Corpus, batches: list[PretrainingBatch], precision: processes.Precision
) -> Callable[[], float]:
    """A function that trains on `batches` once, by bertlab's loop, and returns the seconds it took."""
    torch.manual_seed(0)
    accelerator = processes.start(None, config.device)
    model = pretrain.build_model(config, corpus).to(accelerator.device)
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-4)
    plan = loop.Plan(steps=len(batches), warmup_steps=0, seed=0, precision=precision)

    def once() -> float:
        seconds = []
        take = [[batch] for batch in batches].__getitem__
        loop.train(model, optimizers, Pretraining(), take, plan, accelerator, after_step=lambda result: seconds.append(result.seconds))
        return sum(seconds)

    return once


def their_round(
    config: pretrain.Config, corpus: Corpus, batches: list[PretrainingBatch], precision: processes.Precision
) -> Callable[[], float]:
    """The same by transformers."""
    layers, width = pretrain.PRESETS[config.preset]
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.attention_dropout}
    peer = BertConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        **settings,
    )
    model: nn.Module = PeerBert._from_config(peer, attn_implementation="sdpa").to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, eps=1e-6, fused=True)
    inputs = [padded(batch) for batch in batches]
    cast = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()

    def once() -> float:
        start = time.perf_counter()
        for batch in inputs:
            with cast:
                loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()  # what a loop that shows its loss does, and ours does too
        return time.perf_counter() - start

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mini", choices=pretrain.PRESETS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="micro-batches a round")
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    arguments = parser.parse_args()

    results: dict[str, Any] = {"preset": arguments.preset, "threads": torch.get_num_threads(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        corpus_folder = str(Path(folder) / "corpus")
        prepare.run(prepare.Config(source=(str(sample.path("articles.jsonl.xz")),), out=corpus_folder))
        corpus = open_corpus(corpus_folder)
        config = pretrain.Config(
            corpus=corpus_folder,
            out=folder,
            preset=arguments.preset,
            micro_tokens=arguments.micro_tokens,
            dropout=arguments.dropout,
            device=arguments.device,
        )
        batches = [pretrain.phases(config, corpus).short.micro(number) for number in range(arguments.steps)]
        real = sum(batch.num_tokens for batch in batches)
        cells = sum(batch.num_sequences * batch.max_seqlen for batch in batches)
        results["padding"] = 1 - real / cells
        padding = f"{results['padding']:.1%} padding on the other side"
        print(f"\n{arguments.preset}: {real:,} real tokens a round, {padding}, dropout {arguments.dropout}")
        print(f"{'precision':10} {'bertlab':>12} {'transformers':>14} {'ratio':>7}   (real tokens/s, medians of {arguments.rounds} rounds)")
        for precision in ("fp32", "bf16"):
            ours, theirs = (make(config, corpus, batches, precision) for make in (our_round, their_round))
            ours(), theirs()  # the first round allocates
            pairs = [(ours(), theirs()) for _ in range(arguments.rounds)]
            ratio = statistics.median(slow / fast for fast, slow in pairs)
            speed, peer_speed = (real / statistics.median(seconds) for seconds in zip(*pairs, strict=True))
            print(f"{precision:10} {speed:12,.0f} {peer_speed:14,.0f} {ratio:7.2f}")
            results[f"{arguments.preset}_{precision}_ratio"] = ratio
            results[f"{arguments.preset}_{precision}_tokens_per_second"] = speed
            results[f"{arguments.preset}_{precision}_peer_tokens_per_second"] = peer_speed
    print(json.dumps(results))


if __name__ == "__main__":
    main()
