"""Training an encoder for vectors: from a model to the weights of its best measurement on dev, going on where it was cut off.

The loop is that of all training (bertlab/training/loop.py), a step one batch of related texts and, where masked words are kept, their
batches beside it. Measured before the first step too: where no step makes the vectors better than that, they stay as they were.
    OUT/checkpoints   weights, moments and history, at every measurement      OUT/best   the weights of the best measurement
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from bertlab.batches.flat import FlatBatch
from bertlab.batches.labelled import Examples
from bertlab.batches.masking import Masking
from bertlab.batches.sentence_groups import Groups
from bertlab.embedding.engine import Embedder, What, finished
from bertlab.embedding.likeness import Likeness, per_text, scores
from bertlab.errors import ConfigError
from bertlab.model.encoder import Bert
from bertlab.model.heads import BertForPreTraining
from bertlab.model.pooling import Pooling, Recorded
from bertlab.progress import averaged, progress, silent
from bertlab.signals import stop_politely
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training import checkpoint, loop
from bertlab.training.contrastive import Contrast, TextVectors
from bertlab.training.optimizers import build_optimizers
from bertlab.training.processes import Precision, agree
from bertlab.training.runlog import RunLog, plain, run_sha256
from bertlab.training.tracking import Tracker

# Widest model -> peak rate: SimCSE's is 3e-5 for BERT-base; for tiny docs/embeddings.md has what was measured.
LEARNING_RATES = {128: 1e-3, 512: 1e-4, 2**30: 3e-5}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How vectors are trained; the fields are those of the verb's Config, where each is told."""

    pooling: Pooling
    normalize: bool
    temperature: float
    symmetric: bool
    dims: tuple[int, ...]
    mlm_weight: float
    learning_rate: float | None
    weight_decay: float
    warmup: float
    clip: float
    micro_tokens: int
    precision: Precision
    workers: int
    seed: int


def learn(
    recipe: Recipe,
    groups: Groups,
    masking: Masking | None,
    dev: Likeness,
    model: Bert | BertForPreTraining,
    tokenizer: Tokenizer,
    accelerator: Accelerator,
    *,
    steps: int,
    measure_every: int,
    out: Path,
    tracker: Tracker | None = None,
    after_measuring: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train `model` and leave it at its best measurement on dev; returns `best` (its step and scores) and the `history`.

    masking: of the words to be predicted beside, where mlm_weight is not 0. after_measuring: called when a measurement of after a step is
    in the log. Of several processes the first measures, writes and is left at its best; the others are at the last step, and know of no
    measurement of this call.
    A signal ends it after the step's checkpoint. Raises ConfigError when too many steps in a row had no finite loss.
    """
    main, rank, ranks = accelerator.is_main_process, accelerator.process_index, accelerator.num_processes
    wrapped = TextVectors(model, recipe.pooling, recipe.micro_tokens).to(accelerator.device)
    width = wrapped.bert.config.hidden_size
    rate = recipe.learning_rate or next(rate for widest, rate in LEARNING_RATES.items() if width <= widest)
    optimizers = build_optimizers(wrapped.model, "adamw", learning_rate=rate, weight_decay=recipe.weight_decay)
    state: dict[str, Any] = {"history": [], "best": None}
    saved = checkpoint.newest_checkpoint(out / "checkpoints", warn=print if main else lambda _: None, run=run_sha256(out))
    start = 0
    if saved:
        saved.restore(wrapped.model, optimizers)
        start, state = saved.step, saved.state
        if main and (before := state.get("processes", 1)) != ranks:
            print(f"note: processes={ranks}, {before} before: the same batches, but other dropout masks and last bits of the weights")
    state["processes"] = ranks
    agree(accelerator, start, f"the step to go on from: do all machines see the same {out}?")
    log = RunLog(out / "metrics.jsonl", start if saved else -1, tracker) if main else None

    def measure(done: int) -> None:
        assert log is not None, "the first process measures"
        found = {"step": done} | scores(dev, per_text(dev, vectors_of(wrapped.bert, tokenizer, recipe, accelerator.device)))
        state["history"].append(found)
        log.write({"step": done, "dev": found})
        if state["best"] is None or found[dev.headline] > state["best"][dev.headline]:
            state["best"] = found
            checkpoint.save_checkpoint(out / "best", done, wrapped.model, [], found, keep=1, run=run_sha256(out))

    ended = start
    speed = averaged("tokens")

    def after_step(result: loop.StepResult) -> None:
        nonlocal ended
        done = ended = result.step + 1
        loss = sum(result.losses.values())
        report(done, f"loss {loss:.3f}, {speed(result.tokens)}")
        if log is None:
            return
        figures = {name: value for name, value in vars(result).items() if name != "asked"}
        log.write({**figures, "step": done, "loss": loss})
        last = done == steps
        if done % measure_every == 0 or last:
            measure(done)
            after_measuring()
        if done % measure_every == 0 or last or result.asked:
            checkpoint.save_checkpoint(out / "checkpoints", done, wrapped.model, optimizers, plain(state), run=run_sha256(out))

    if main and not state["history"]:
        measure(0)
    plan = loop.Plan(
        steps=steps,
        warmup_steps=round(recipe.warmup * steps),
        seed=recipe.seed,
        clip=recipe.clip,
        precision=recipe.precision,
        workers=recipe.workers,
    )
    objective = Contrast(
        temperature=recipe.temperature,
        symmetric=recipe.symmetric,
        dims=recipe.dims,
        mlm_weight=recipe.mlm_weight if masking else 0.0,
        rank=rank,
        ranks=ranks,
    )
    with stop_politely() as stop, progress("contrast", "steps", steps, start) if main else silent() as report:
        trained = accelerator.prepare(wrapped)
        loop.train(
            trained,
            optimizers,
            objective,
            partial(_of_step, groups, masking, recipe.micro_tokens, rank, ranks),
            plan,
            accelerator,
            start=start,
            after_step=after_step,
            asked=lambda: stop.asked is not None,
        )
    accelerator.free_memory(trained)  # it remembers every model that it prepared
    if log:
        log.close()
    if ended < steps:
        accelerator.wait_for_everyone()  # the first to leave ends the others, the one that saves too
        raise stop.exception(f"stopped after step {ended:,}: the same command goes on from its checkpoint in {out / 'checkpoints'}")
    if not main:
        return state
    best = checkpoint.newest_checkpoint(out / "best", run=run_sha256(out))
    if best is None:
        raise ConfigError(f"the best weights in {out / 'best'} are damaged: train again into another --out")
    best.restore(wrapped.model, [])
    model.cpu()
    return state


def _of_step(groups: Groups, masking: Masking | None, micro_tokens: int, rank: int, ranks: int, step: int) -> list[FlatBatch]:
    """One process's share of a step."""
    masked = groups.masked(step, masking, micro_tokens, rank, ranks) if masking else ()
    return [groups.batch(step).share(rank, ranks), *masked]


def vectors_of(bert: Bert, tokenizer: Tokenizer, recipe: Recipe, device: torch.device) -> Callable[[Examples], np.ndarray]:
    """What makes the vectors of encoded texts, in fp32 and without dropout, by the weights as they are now."""
    embedder = Embedder(bert, tokenizer, recorded=Recorded(), device=device)
    return lambda examples: finished(embedder.vectors(examples, What(pooling=recipe.pooling)), recipe.normalize)
