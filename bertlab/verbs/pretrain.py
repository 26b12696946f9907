"""bertlab pretrain: a corpus folder -> a BERT, by masked language modelling and next-sentence prediction.

    bertlab pretrain --corpus CORPUS --out RUN [--preset mini] [--model DIR]

The run folder holds config.yaml, metrics.jsonl, checkpoints/, and at the end model/, the weights of the best held-out MLM
loss. The same command again goes on where a run was cut off. Several processes: --processes N, or any torchrun.
"""

import math
import shlex
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError
from bertlab.schema import Settings

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.batches.pretraining import Phases
    from bertlab.model.heads import BertForPreTraining
    from bertlab.tokens.corpus import Corpus

PAIRS_GUESSED = 3  # of held-out text, shown in the report
MANY_EPOCHS = 100  # BERT's own pretraining read its corpus about 40 times

# What may differ when a run goes on: places (their contents are bound by hash) and what no result depends on.
FREE = {
    "out",
    "corpus",
    "model",
    "processes",
    "workers",
    "recompute",
    "shard",
    "log_every",
    "save_every",
    "save_minutes",
    "keep",
    "keep_every",
    "strict",
    "track",
}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    corpus: str
    """A corpus folder that `bertlab prepare` wrote."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    preset: Literal["tiny", "mini", "small", "medium", "base", "large"] = "mini"
    """Size: tiny 2x128, mini 4x256, small 4x512, medium 8x512, base 12x768, large 24x1024 (layers x width)."""
    model: str | None = None
    """Start from this published BERT or model folder (or hf:NAME) instead of random weights; its size replaces the preset."""
    steps: int = 10_000
    """Optimizer steps."""
    micro_tokens: int = 4096
    """Most tokens in a micro-batch; lower it when memory runs out."""
    micro_batches: int = 1
    """Micro-batches a step, over all processes: a step sees about micro_tokens * micro_batches tokens."""
    max_length: int = 128
    """Most tokens in a pair."""
    long_length: int = 512
    """Most tokens in a pair during the last `long_share` of the steps."""
    long_share: float = 0.0
    """Share of the steps, at the end, with long pairs; the paper's is 0.1."""
    short_seq_prob: float = 0.1
    """Share of documents with a shorter target length, so that short inputs are known too."""
    mask_rate: float = 0.15
    """Share of tokens to predict."""
    mask_mode: Literal["google", "bernoulli"] = "google"
    """google: the exact number in each sequence; bernoulli: each token by its own coin."""
    whole_words: bool = False
    """Mask all pieces of a word together."""
    optimizer: Literal["muon", "adamw"] | None = None
    """muon: Muon for the blocks' matrices, AdamW for the rest; adamw: the paper's. Default: muon, but adamw to go on from `model`."""
    learning_rate: float | None = None
    """Peak rate of AdamW; by default chosen by width and whether the run is short (training/start.py), and low to go on from `model`."""
    muon_learning_rate: float | None = None
    """Peak rate of Muon; by default chosen likewise."""
    weight_decay: float = 0.01
    """On matrices, not on LayerNorm and biases."""
    warmup: float = 0.06
    """Share of the steps in which the rate rises to its peak."""
    decay: float = 1.0
    """Share of the steps, at the end, in which the rate falls linearly to 0; 1, all after the warm-up, is the paper's. With 0.2 it stays at
    its peak in between (warm-up-stable-decay, Hu et al. 2024)."""
    clip: float = 1.0
    """Largest gradient norm."""
    dropout: float = 0.0
    """On hidden states; the paper's is 0.1, which in 2.5 epochs taught less (docs/performance.md). In many epochs of little text it may
    teach more."""
    attention_dropout: float = 0.0
    """On attention weights; the paper's is 0.1. 0 trains the same model on every device: the fastest GPU kernel has none."""
    start_at_unigrams: bool = True
    """Start the output bias at the log frequencies of the tokens (from random weights only)."""
    seed: int = 0
    """Of weights, order, pairs, masks and dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast where the hardware multiplies it, or as said."""
    compile: bool = False
    """Compile the model by torch.compile: minutes at the start for faster steps on a GPU; nothing gained on a CPU."""
    recompute: bool = False
    """Keep less of the forward pass and compute it again on the way back: a third more work, a fraction of the memory."""
    shard: bool = False
    """Divide weights, gradients and moments over the processes (FSDP2), for models too large for one GPU."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    processes: int | None = None
    """Train in this many processes; started by bertlab itself, or refused when a launcher started another number."""
    workers: int = 0
    """Processes that make batches ahead; batches are the same whatever their number."""
    heldout_every: int | None = None
    """Steps between measurements on held-out text; default: ten in a run."""
    heldout_batches: int = 64
    """Most micro-batches of held-out text in a measurement."""
    log_every: int = 20
    """Steps between full lines in metrics.jsonl; the others hold the fingerprint of their batch alone."""
    save_every: int = 500
    """Steps between checkpoints."""
    save_minutes: float = 10.0
    """Longest time between checkpoints."""
    keep: int = 2
    """Checkpoints to keep: the newest ones."""
    keep_every: int | None = None
    """Also keep the checkpoint of every so many steps, for good."""
    strict: bool = False
    """Stop at a damaged checkpoint, instead of going on from an older one."""
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    """Also send the numbers to this tracker, which must be installed; metrics.jsonl and report.html are always written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "micro_batches", "log_every", "save_every", "keep", "heldout_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        for name in ("long_share", "short_seq_prob", "warmup", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is a share: give a number from 0 to 1")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is a probability: give a number from 0 to below 1")
        if not 0 < self.mask_rate < 1:
            raise ConfigError(f"mask_rate={self.mask_rate} is a share of the tokens: give a number between 0 and 1 (the paper's is 0.15)")
        if self.max_length < 8 or (self.long_share and self.long_length < self.max_length):
            raise ConfigError(
                f"max_length={self.max_length}, long_length={self.long_length}: pairs need 8 tokens or more, and long ones are not shorter"
            )
        if self.micro_tokens < self.longest:
            raise ConfigError(
                f"micro_tokens={self.micro_tokens} does not hold one pair of {self.longest} tokens: raise it, or lower max_length"
            )
        if self.whole_words and self.mask_mode == "bernoulli":
            raise ConfigError("whole_words needs mask_mode=google: words are chosen to fill an exact number")
        for name in ("workers", "weight_decay", "seed", "save_minutes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: give 0 or more")
        for name in ("heldout_every", "keep_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")
        if self.seed >= 2**31:
            raise ConfigError("seed must be below 2,147,483,648")
        if any(rate is not None and rate <= 0 for rate in (self.learning_rate, self.muon_learning_rate, self.clip)):
            raise ConfigError("learning_rate, muon_learning_rate and clip must be above 0")

    @property
    def longest(self) -> int:
        """Most tokens of a pair in either phase."""
        return max(self.max_length, self.long_length if self.long_share else 0)


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and another corpus than a run was started with."""
    from bertlab.model.facts import fetch, load_config
    from bertlab.tokens.corpus import open_corpus
    from bertlab.training.runlog import agree_with_config, refuse_changed

    out = Path(config.out)
    agree_with_config(config, out, FREE)
    if not (out / "model").is_dir():
        refuse_changed(out, {"corpus": open_corpus(config.corpus, verify=False).sha256})
        if config.model:
            load_config(fetch(config.model))


def run(config: Config) -> dict[str, Any]:
    """Train, measure and write RUN/model; returns its facts (bertlab.json). A finished run is left as it is.

    Raises ConfigError (settings, folders, a model that does not fit the corpus), DataError (too little text), CorruptError, LockedError.
    """
    look(config)

    from bertlab.model.facts import load_facts
    from bertlab.pages.report import report_on
    from bertlab.training import processes
    from bertlab.training.runlog import refuse_other_inputs, run_folder

    accelerator = processes.start(config.processes, config.device)
    processes.share_of(config.micro_batches, accelerator.num_processes)
    if config.shard and accelerator.num_processes == 1:
        raise ConfigError("shard=true divides a model over processes, and there is one: give --processes 2 or more")
    with run_folder(config, accelerator, FREE) as out:
        if (out / "model").is_dir():
            refuse_other_inputs(config, out, {"corpus": config.corpus, "model": config.model})
            accelerator.print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            if accelerator.is_main_process:
                report_on(out, anew=False)
            return load_facts(str(out / "model"))
        return _pretrain(config, out, accelerator)


def _pretrain(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    import torch

    from bertlab.config import to_dict
    from bertlab.model.facts import weights_sha256
    from bertlab.pages.report import report_on
    from bertlab.pages.screen import mfu_words
    from bertlab.pages.transcript import guessed_pairs
    from bertlab.progress import progress, silent
    from bertlab.signals import stop_politely
    from bertlab.tokens.corpus import open_corpus
    from bertlab.training import checkpoint, loop, tracking
    from bertlab.training.heldout import heldout_batches, likeliest, measure_heldout
    from bertlab.training.objectives import Pretraining
    from bertlab.training.optimizers import build_optimizers
    from bertlab.training.processes import agree, fill_to, first_says, uses_bf16
    from bertlab.training.runlog import INPUTS, RunLog, plain, refuse_changed, remember_inputs, run_sha256
    from bertlab.training.sharding import shard, whole_weights
    from bertlab.training.speed import peak_memory, training_flops, utilisation_of
    from bertlab.training.spikes import WINDOW, is_spike
    from bertlab.training.start import peak_rates

    main = accelerator.is_main_process
    corpus = open_corpus(config.corpus, verify=accelerator.is_local_main_process)
    torch.manual_seed(config.seed)
    model = build_model(config, corpus).to(accelerator.device)
    model.bert.encoder.recompute = config.recompute
    if config.shard:
        shard(model)
    inputs = {"corpus": corpus.sha256, "model": weights_sha256(config.model)} if main else {}  # hashed once, not by every process
    refuse_changed(out, inputs)
    of_run = run_sha256(out) if (out / INPUTS).is_file() else None
    saved = checkpoint.newest_checkpoint(out / "checkpoints", warn=print if main else lambda _: None, strict=config.strict, run=of_run)
    asked = config.learning_rate, config.muon_learning_rate
    rates = peak_rates(*asked, width=model.config.hidden_size, steps=config.steps, goes_on=config.model is not None)
    if saved:
        rates = saved.state.get("rates", rates)  # as it was begun: another version may have other defaults
    optimizers = build_optimizers(
        model,
        config.optimizer or ("adamw" if config.model else "muon"),
        learning_rate=rates["learning_rate"],
        muon_learning_rate=rates["muon_learning_rate"],
        weight_decay=config.weight_decay,
        bf16=uses_bf16(accelerator.device, config.precision),
    )
    threads = torch.get_num_threads()
    state: dict[str, Any] = {"tokens_seen": 0, "seconds": 0.0, "skipped": 0, "heldout": [], "best": None, "recent": []}
    start = 0
    if saved:
        saved.restore(model, optimizers)
        start, state = saved.step, state | saved.state
        was, now = f"{state['processes']} x {state['threads']}", f"{accelerator.num_processes} x {threads}"
        if main and was != now:
            print(f"note: {now} processes x threads, {was} before: the same batches, but other last bits of the weights")
    agree(accelerator, start, f"the step to go on from: do all machines see the same {out}?")
    state |= {"processes": accelerator.num_processes, "threads": threads, "rates": rates}
    heldout, baselines = heldout_batches(corpus, config.max_length, config.micro_tokens, config.heldout_batches)
    batches = phases(config, corpus, fill_to(accelerator.device, config.precision, config.compile, config.micro_tokens))
    if main:
        remember_inputs(config, out, inputs)
    accelerator.wait_for_everyone()
    heldout_every = config.heldout_every or max(1, config.steps // 10)
    tracker = tracking.start(config.track, out, to_dict(config), after=start) if main else None
    log = RunLog(out / "metrics.jsonl", start if saved else -1, tracker) if main else None
    saver = checkpoint.Saver(out / "checkpoints", config.keep, config.keep_every, run_sha256(out), writes=main)
    began = time.monotonic() - state["seconds"]

    def measure(step: int) -> None:
        """Measure on held-out text; keep the weights when they are the best so far."""
        measured = {"step": step, **measure_heldout(model, heldout, accelerator, config.precision), **baselines}
        if not math.isfinite(measured["mlm_loss"]):
            raise ConfigError(
                f"training diverged: at step {step} the held-out loss is not finite: lower the learning rates and choose another --out"
            )
        state["heldout"].append(measured)
        likely = likeliest(model, heldout[0], accelerator, config.precision)  # on all: where weights are divided each needs the others
        if log:
            guesses = guessed_pairs(heldout[0], likely, corpus.tokenizer, PAIRS_GUESSED)
            log.write({"step": step, "heldout": measured, "guesses": guesses})
        if state["best"] is None or measured["mlm_loss"] < state["best"]["mlm_loss"]:
            state["best"] = measured
            if main:
                checkpoint.save_checkpoint(out / "best", step, model, [], measured, keep=1, run=run_sha256(out))
            else:
                checkpoint.hand_over(model, [])

    last_save = loop_began = time.monotonic()
    trained, ended_at = 0, start

    def after_step(result: loop.StepResult) -> None:
        nonlocal last_save, trained, ended_at
        done = ended_at = result.step + 1
        last = done == config.steps
        state["tokens_seen"] += result.tokens
        state["skipped"] += result.skipped
        trained += result.tokens
        speed = trained / (time.monotonic() - loop_began)
        sizes = {"tokens": result.tokens, "token_pairs": result.token_pairs, "sequences": result.sequences}
        mfu = share_of(training_flops(model.config, masked=int(result.counts["mlm_loss"]), **sizes) / result.seconds)
        memory = peak_memory(accelerator.device)
        loss = sum(result.losses.values())
        spike = not result.skipped and is_spike(state["recent"], loss)
        if not result.skipped:
            state["recent"] = [*state["recent"], loss][-WINDOW:]
        if log and (done % config.log_every == 0 or result.skipped or spike or last):
            rates = {"tokens_per_second": result.tokens / result.seconds, "mfu": mfu, "memory_bytes": memory}
            figures = {
                name: value for name, value in vars(result).items() if name != "asked"
            }  # a run that was cut off logs what one that was not does
            so_far = {"tokens_seen": state["tokens_seen"], "elapsed_seconds": time.monotonic() - began}
            log.write({**figures, "step": done, "spike": spike, **rates, **so_far})
        elif log:
            log.write({"step": done, "batch": result.batch})  # of every step, so that `bertlab replay` can check any
        if main and (result.skipped or spike):
            what = "skipped: its loss or gradient was not finite" if result.skipped else f"loss {loss:.3f} is out of line with those before"
            print(f"step {done} {what}; bertlab replay --run {shlex.quote(str(out))} --step {done} shows its batch", flush=True)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in result.losses.items())
        waiting = result.data_seconds / result.seconds
        report(done, f"{losses}, {speed:,.0f} tokens/s, MFU {mfu_words(mfu)}, {waiting:.0%} waiting for data, {memory / 2**30:.1f} GB")
        if heldout and (done % heldout_every == 0 or last):
            measure(done)
            if main:
                report_on(out, refresh=60)
        due = time.monotonic() - last_save > 60 * config.save_minutes
        due = first_says(accelerator, due) if config.shard else due
        ending = last or result.asked or result.skipped_in_a_row == loop.MOST_SKIPPED
        if done % config.save_every == 0 or due or ending:
            last_save = time.monotonic()
            state["seconds"] = last_save - began
            saver.save(done, model, optimizers, plain(state))
        saver.wait() if ending else saver.check()

    if heldout and not state["heldout"]:
        measure(0)
    if main:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        world = f"{accelerator.num_processes} process{'es' * (accelerator.num_processes > 1)} on {accelerator.device.type}"
        print(
            f"pretraining {parameters:,} parameters for {config.steps:,} steps{f' from step {start:,}' * bool(start)}, {world}", flush=True
        )
        if not heldout:
            print("note: nothing is held out of this corpus: no loss is measured on unseen text, and the model is that of the last step")
        epochs = config.steps * config.micro_batches * config.micro_tokens / max(1, corpus.train.num_tokens)
        if epochs > MANY_EPOCHS:
            print(
                f"note: these steps read the {corpus.train.num_tokens:,} tokens of the corpus about {epochs:,.0f} times: by heart, perhaps"
            )
    share_of = utilisation_of(accelerator.device, config.precision, accelerator.num_processes)
    if config.compile:
        model.compile(dynamic=False)
    plan = loop.Plan(
        steps=config.steps,
        warmup_steps=round(config.warmup * config.steps),
        decay_steps=round(config.decay * config.steps),
        seed=config.seed,
        clip=config.clip,
        precision=config.precision,
        workers=config.workers,
    )
    mine = range(accelerator.process_index, config.micro_batches, accelerator.num_processes)
    loop_began = time.monotonic()
    with (
        stop_politely() as stop,
        progress("pretraining", "steps", config.steps, start) if main else silent() as report,
    ):
        loop.train(
            model if config.shard else accelerator.prepare(model),
            optimizers,
            Pretraining(),
            partial(batches.step, mine),
            plan,
            accelerator,
            start=start,
            after_step=after_step,
            asked=lambda: stop.asked is not None,
        )
    if log:
        log.close()
    if ended_at < config.steps:
        accelerator.wait_for_everyone()  # the first to leave ends the others, the one that saves too
        raise stop.exception(f"stopped after step {ended_at:,}: the same command goes on from its checkpoint in {out / 'checkpoints'}")
    state["seconds"] = time.monotonic() - began
    if config.shard:
        weights, model = whole_weights(model), build_model(config, corpus)
        model.load_state_dict(weights)
    facts = _finish(config, out, model, corpus, state) if main else {}
    accelerator.wait_for_everyone()
    return facts


def build_model(config: Config, corpus: "Corpus") -> "BertForPreTraining":
    """The model to train: from the preset with random weights, or from `config.model`, whose vocabulary must be the corpus's."""
    from bertlab.training.start import given_model, random_model

    dropouts: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.attention_dropout}
    if config.model is not None:
        return given_model(corpus, config.model, longest=config.longest, dropouts=dropouts)
    return random_model(corpus, config.preset, longest=config.longest, dropouts=dropouts, start_at_unigrams=config.start_at_unigrams)


def phases(config: Config, corpus: "Corpus", fill_to: int = 1) -> "Phases":
    """The batches of a run: short pairs, then long; with filler to multiples of `fill_to` tokens."""
    from bertlab.batches.pretraining import SETTINGS, phases_of

    return phases_of(corpus, {name: getattr(config, name) for name in SETTINGS}, fill_to)


def _finish(config: Config, out: Path, model: "BertForPreTraining", corpus: "Corpus", state: dict[str, Any]) -> dict[str, Any]:
    """Write RUN/model from the best weights, print what came out, return its facts."""
    from bertlab.model.facts import fetch, text_read
    from bertlab.model.folder import save_model
    from bertlab.pages.card import pretrained_card, pretraining_facts
    from bertlab.pages.report import report_on
    from bertlab.pages.screen import pretraining_lines
    from bertlab.training import checkpoint
    from bertlab.training.runlog import run_files

    best = checkpoint.newest_checkpoint(out / "best")
    if best:
        best.restore(model, [])
        state["best"] = best.state
    elif state["best"]:
        state["best"] = state["heldout"][-1]  # the kept weights are damaged, as was said: these are the last step's
    if state["best"] and state["best"]["step"] == 0:
        print("warning: no step predicted held-out text better than the start, which is what is kept: lower the learning rates?")
    before: dict[str, Any] = {"started_from": config.model, "text_read": text_read(fetch(config.model)) if config.model else []}
    facts = pretraining_facts(corpus, model, state, steps=config.steps, **before)
    card, most = pretrained_card(facts), None if config.model else config.longest
    bound = run_files(out, "metrics.jsonl")
    save_model(out / "model", model.cpu(), corpus.tokenizer, facts=facts, card=card, max_length=most, run=bound)
    report_on(out)
    for line in pretraining_lines(facts, out):
        print(line, flush=True)
    return facts
