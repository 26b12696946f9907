"""bertlab verify: is everything as it was written, and made from what it says? Corpus, tokenizer, run, model, predictions, embeddings.

    bertlab verify DIR [DIR ...] [--strict] [--json FILE]

A line a link of the chain of hashes (bertlab/training/chain.py): ok, differs, or absent where what it leads to is not on this disk. Damage
to what a run made is said with the command that makes it anew. Reads every byte once, changes nothing.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bertlab.errors import ConfigError, CorruptError
from bertlab.schema import POSITIONAL, Settings


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    folder: tuple[str, ...] = field(metadata=POSITIONAL)
    """What to verify: corpus, run, checkpoint or model folders, folders of predictions, files of embeddings. What one of them was made from
    is looked for among the others too."""
    strict: bool = False
    """End with an error also where a link is absent."""
    json: str | None = None
    """Also write every link as JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folder or not all(self.folder):
            raise ConfigError("folder is empty: name at least one folder or file to verify")


def run(config: Config) -> list[dict[str, str]]:
    """Print and return every link. Raises ConfigError for a folder that is none of ours, and CorruptError, when all lines are printed, for
    the first link that differs (with `strict`: or is absent)."""
    from bertlab.disk import refuse_others, write_json
    from bertlab.pages.screen import inert
    from bertlab.training.chain import follow

    if config.json:
        refuse_others(Path(config.json), ".json", '"status"', '"message"')
    links = []
    for link in follow([Path(folder) for folder in config.folder]):
        print(inert(f"{link.status:<8} {link.name:<11} {link.message}"), flush=True)
        links.append(link)
    facts: list[dict[str, Any]] = [asdict(link) for link in links]
    if config.json:
        write_json(Path(config.json), facts)
    for status in ("differs", "absent") if config.strict else ("differs",):
        for link in links:
            if link.status == status:
                raise CorruptError(link.message)
    counts = {status: sum(link.status == status for link in links) for status in ("ok", "absent")}
    print(f"{counts['ok']} links hold" + (f", {counts['absent']} lead to what is not here" if counts["absent"] else ""))
    return facts
