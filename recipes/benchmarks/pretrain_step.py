"""Real tokens a second of a pretraining step: bertlab against a plain loop over transformers' BertForPreTraining.

    python recipes/benchmarks/pretrain_step.py [--preset mini small] [--rounds 3] [--steps 3] [--device cpu]

Both sides train on the same sequences, in alternating rounds of one run, with the same precision, the same dropout on
hidden states (and none on attention weights), the same clipping and fused AdamW. bertlab's batches are those that
training makes, under bf16 with filler to a few shapes. The peer gets the real sequences padded to the longest, with SDPA
attention, and computes vocabulary logits everywhere, as its forward does. Both have met every shape before the clock starts.
MFU is bertlab's: the products of real tokens over the best product rate of the run, measured between the rounds. The corpus
is the sample that ships, prepared in a temporary folder with BERT's vocabulary size. On a processor that does not multiply
bf16 (it would emulate it, 300 times slower) only fp32 is measured. Prints a table and, last, one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from batches import machine  # type: ignore[import-not-found]  # the file beside this one
from torch import nn
from transformers import BertConfig
from transformers import BertForPreTraining as PeerBert

from bertlab import sample
from bertlab.batches.flat import PretrainingBatch
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForPreTraining
from bertlab.model.presets import PRESETS
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.training import loop, processes
from bertlab.training.objectives import Pretraining
from bertlab.training.optimizers import build_optimizers
from bertlab.training.speed import product_rate, training_flops
from bertlab.verbs import prepare, pretrain

# By default, so that mini and small end within six minutes on two cores, where transformers' small takes 12 s a step in fp32:
ROUNDS_AND_STEPS = {"tiny": (5, 4), "mini": (3, 3)}
FEWEST = (2, 2)  # of larger presets


def batches_of(config: pretrain.Config, corpus: Corpus, steps: int, fill_to: int = 1) -> list[PretrainingBatch]:
    """The first micro-batches of a run."""
    phases = pretrain.phases(config, corpus, fill_to)
    return [batch for step in range(steps) for batch in phases.step(range(1), step)]


def flops_of(config: EncoderConfig, batches: list[PretrainingBatch]) -> float:
    """Operations of training on these micro-batches (without filler) once."""
    return sum(
        training_flops(
            config,
            tokens=batch.num_tokens,
            token_pairs=int(batch.cu_seqlens.diff().long().square().sum()),
            sequences=batch.num_sequences,
            masked=len(batch.mlm_labels),
        )
        for batch in batches
    )


def padded(batch: PretrainingBatch) -> dict[str, torch.Tensor]:
    """The peer's view of a flat batch: (N, longest) ids, segments, attention mask, MLM labels (-100 off the mask), NSP labels."""
    starts, lengths = batch.cu_seqlens[:-1].long(), batch.cu_seqlens.diff().long()
    place = torch.repeat_interleave(torch.arange(len(lengths)), lengths), batch.position_ids
    shape = (len(lengths), int(lengths.max()))
    labels = torch.full((len(batch.input_ids),), -100)
    labels[batch.mlm_positions] = batch.mlm_labels
    assert int(starts[0]) == 0 and not batch.filler_sequences

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
    config: pretrain.Config, model: BertForPreTraining, batches: list[PretrainingBatch], precision: processes.Precision
) -> Callable[[], float]:
    """A function that trains `model` on `batches` once, by bertlab's loop, and returns the seconds it took."""
    accelerator = processes.start(None, config.device)
    model.to(accelerator.device)
    optimizers = build_optimizers(model, "adamw", learning_rate=1e-4)
    if config.compile:
        model.compile(dynamic=False)
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
    """The same by transformers, on batches without filler."""
    layers, width = PRESETS[config.preset]
    device = processes.choose_device(config.device)
    settings: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.attention_dropout}
    peer = BertConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=max(512, config.longest),
        **settings,
    )
    torch.manual_seed(0)
    model: nn.Module = PeerBert._from_config(peer, attn_implementation="sdpa").to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, eps=1e-6, fused=True)
    if config.compile:
        model.compile()  # sequences in a batch vary: the second shape makes it a kernel for all
    inputs = [padded(batch) for batch in batches]
    if device.type == "cuda":
        inputs = [{name: value.pin_memory() for name, value in each.items()} for each in inputs]
    cast = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()

    def once() -> float:
        start = time.perf_counter()
        for batch in inputs:
            with cast:
                loss = model(**{name: value.to(device, non_blocking=True) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()  # what a loop that shows its loss does, and ours does too
        return time.perf_counter() - start

    return once


def measured(
    config: pretrain.Config, corpus: Corpus, precision: processes.Precision, rounds: int, steps: int
) -> tuple[float, float, float, float]:
    """Real tokens a second of bertlab and of transformers, their ratio (medians of the rounds), and bertlab's MFU."""
    device = processes.choose_device(config.device)
    batches = batches_of(config, corpus, steps)
    model = pretrain.build_model(config, corpus)
    fill_to = processes.fill_to(device, precision, config.compile, config.micro_tokens)
    ours = our_round(config, model, batches_of(config, corpus, steps, fill_to), precision)
    theirs = their_round(config, corpus, batches, precision)
    ours(), theirs()  # the first round allocates
    rates, pairs = [], []
    for _ in range(rounds):
        rates.append(product_rate(device, precision, rounds=2))
        pairs.append((ours(), theirs()))
    rates.append(product_rate(device, precision, rounds=2))
    seconds, peer_seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    real = sum(batch.num_tokens for batch in batches)
    mfu = flops_of(model.config, batches) / seconds / max(rates)
    return real / seconds, real / peer_seconds, statistics.median(slow / fast for fast, slow in pairs), mfu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", nargs="+", default=["mini", "small"], choices=PRESETS)
    parser.add_argument("--rounds", type=int, help="default: fewer for larger presets")
    parser.add_argument("--steps", type=int, help="micro-batches a round; default: fewer for larger presets")
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    arguments = parser.parse_args()

    device = processes.choose_device(arguments.device)
    precisions: list[processes.Precision] = ["fp32", "bf16"] if processes.uses_bf16(device, "auto") else ["fp32"]
    results: dict[str, Any] = {"presets": arguments.preset, "precisions": precisions}
    with tempfile.TemporaryDirectory() as folder:
        corpus_folder = str(Path(folder) / "corpus")
        prepare.run(prepare.Config(source=(str(sample.path("articles.jsonl.xz")),), out=corpus_folder))
        corpus = open_corpus(corpus_folder)
        shared = pretrain.Config(
            corpus=corpus_folder, out=folder, micro_tokens=arguments.micro_tokens, dropout=arguments.dropout, device=arguments.device
        )
        print(f"\nreal tokens/s, medians; dropout {arguments.dropout}")
        print(f"{'preset':8} {'precision':10} {'bertlab':>9} {'transformers':>13} {'ratio':>6} {'MFU':>6}")
        most = 0
        for preset in arguments.preset:
            config = replace(shared, preset=preset)
            rounds, steps = ROUNDS_AND_STEPS.get(preset, FEWEST)
            rounds, steps = arguments.rounds or rounds, arguments.steps or steps
            most = max(most, steps)
            for precision in precisions:
                speed, peer_speed, ratio, mfu = measured(config, corpus, precision, rounds, steps)
                counted = f"   {rounds} rounds of {steps} micro-batches"
                print(f"{preset:8} {precision:10} {speed:9,.0f} {peer_speed:13,.0f} {ratio:6.2f} {mfu:6.1%}{counted}", flush=True)
                results[f"{preset}_{precision}_ratio"] = ratio
                results[f"{preset}_{precision}_mfu"] = mfu
                results[f"{preset}_{precision}_tokens_per_second"] = speed
                results[f"{preset}_{precision}_peer_tokens_per_second"] = peer_speed
                results["real_tokens_per_second"] = speed
        if "bf16" not in precisions:
            print("bf16: not measured, this processor has no instructions for it")
        batches = batches_of(shared, corpus, most)
    cells = sum(batch.num_sequences * batch.max_seqlen for batch in batches)
    results["padding"] = 1 - sum(batch.num_tokens for batch in batches) / cells
    print(f"{results['padding']:.1%} padding on the other side")
    results |= machine(device) | {"transformers": transformers.__version__}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
