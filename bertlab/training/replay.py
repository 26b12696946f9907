"""A step's batch of a pretraining run, made again from what the run folder and the corpus hold.

A batch is a function of its number, the corpus and eleven settings; the run's log keeps a fingerprint of each. Costs opening the corpus
(every byte is read and compared, about 1 GB/s), planning the pairs up to that step (10 million sentences a second) and reading the log.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.batches.fingerprint import step_fingerprint
from bertlab.batches.flat import PretrainingBatch
from bertlab.batches.pretraining import SETTINGS, phases_of
from bertlab.disk import MANIFEST, read_sealed, sha256_file
from bertlab.errors import ConfigError, CorruptError
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.runlog import CONFIG, INPUTS, read_settings


@dataclass(frozen=True)
class Replay:
    """Step `step` (the first is 1) of `steps`: its micro-batches in order, without filler, whose fingerprint is `made`; the run logged
    `logged` (None: nothing)."""

    step: int
    steps: int
    is_long: bool
    batches: list[PretrainingBatch]
    made: str
    logged: str | None
    tokenizer: Tokenizer


def replay_step(run: Path, step: int, corpus: str | None = None) -> Replay:
    """Make the batch of `step` again; `corpus` is where the run's corpus is now, if it has moved.

    Raises ConfigError (no such run, step or corpus, or another corpus), CorruptError (a damaged file, or the batch is not the one that the
    run trained on).
    """
    settings = batch_settings(run)
    if step > settings["steps"]:
        raise ConfigError(f"step={step}: the run {run} has {settings['steps']} steps")
    opened = open_corpus_of(run, corpus)
    phases = phases_of(opened, settings)
    batches = phases.step(range(phases.micro_batches), step - 1)
    made, logged = step_fingerprint(batches), logged_batch(run, step)
    if logged not in (None, made):
        raise CorruptError(
            f"step {step} of {run} makes the batch {made}, but its log says {logged}: "
            "the log is damaged, or this version makes other batches: replay it with the version that trained it"
        )
    return Replay(step, settings["steps"], step > phases.switch, batches, made, logged, opened.tokenizer)


def batch_settings(run: Path) -> dict[str, Any]:
    """The settings that a run's batches depend on. Raises ConfigError for another verb's run, CorruptError for a damaged one."""
    settings = read_settings(run)
    inputs = read_sealed(run / INPUTS)
    if "corpus" not in inputs or "positives" in settings:  # of contrast, from sentences of a corpus
        raise ConfigError(f"{run} is not a pretraining run, and only those can be replayed: name the run folder of `bertlab pretrain`")
    if sha256_file(run / CONFIG) != inputs.get(CONFIG):
        raise CorruptError(f"{run / CONFIG} is not the file that the run was started with: copy the run folder again")
    wrong = [name for name, kind in SETTINGS.items() if type(settings.get(name)) is not kind]
    if wrong:
        raise ConfigError(f"{run / CONFIG} has no {wrong[0]} as this version knows it: replay it with the version that trained it")
    return {"corpus": str(settings["corpus"])} | {name: settings[name] for name in SETTINGS}


def open_corpus_of(run: Path, moved: str | None = None) -> Corpus:
    """The corpus that a run was started with, where its settings say or at `moved`. Raises ConfigError for another one or none."""
    folder = moved or str(read_settings(run)["corpus"])
    if not (Path(folder) / MANIFEST).is_file():
        raise ConfigError(f"{folder}: no corpus there, and {run} was trained on it: say where it is now (--corpus)")
    if sha256_file(Path(folder) / MANIFEST) != read_sealed(run / INPUTS)["corpus"]:
        raise ConfigError(f"{folder} is not the corpus that {run} was trained on ({MANIFEST} has another sha256): name that one (--corpus)")
    return open_corpus(folder)


def logged_batch(run: Path, step: int) -> str | None:
    """The fingerprint of a step's batch in the run's log, or None where it has none."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line) if f'"step": {step},' in line else None
            except (ValueError, RecursionError):
                continue  # cut short, or none of ours
            if isinstance(record, dict) and record.get("step") == step and isinstance(found := record.get("batch"), str):
                return found
    return None
