"""bertlab replay: the batch of one step of a pretraining run, made again, checked against the run's log and shown.

    bertlab replay RUN --step N [--corpus DIR] [--pairs 10] [--json FILE]

A batch is a function of its number, the corpus and the settings, so nothing of it was kept but a fingerprint of every step in
RUN/metrics.jsonl. Costs opening the corpus (each byte is read and compared, about 1 GB/s) and planning the pairs up to that step.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL, Settings


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    run: str = field(metadata=POSITIONAL)
    """The run folder of `bertlab pretrain`, finished or not."""
    step: int
    """The step to show, as metrics.jsonl and the progress line count: the first is 1."""
    corpus: str | None = None
    """Where the corpus is now, if it has moved since; its contents must be the same."""
    pairs: int = 10
    """Pairs to show on the screen."""
    json: str | None = None
    """Also write the whole batch as JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step < 1 or self.pairs < 0:
            raise ConfigError(f"step={self.step}, pairs={self.pairs}: steps are numbered from 1, and pairs are 0 or more")


def run(config: Config) -> dict[str, Any]:
    """Make the batch, print it, and return its facts.

    Raises ConfigError (no such run, step or corpus, or another corpus), CorruptError (a damaged file, or a batch that is not the one that
    the run trained on).
    """
    from bertlab.disk import refuse_others, write_json
    from bertlab.pages.transcript import step_facts, step_lines
    from bertlab.training.replay import replay_step

    if config.json:
        refuse_others(Path(config.json), ".json", '"phase"', '"logged"')
    found = replay_step(Path(config.run), config.step, config.corpus)
    facts: dict[str, Any] = {"step": found.step, "steps": found.steps, "phase": "long" if found.is_long else "short"}
    facts |= {"batch": found.made, "logged": found.logged} | step_facts(found.batches, found.tokenizer)
    print("\n".join(step_lines(facts, config.pairs)))
    if config.json:
        write_json(Path(config.json), facts)
    return facts
