"""bertlab report: runs -> one page to look at, with no server and no network.

    bertlab report RUN [RUN ...] [--out FILE] [--corpus FACTS.json] [--live SECONDS]
    bertlab report VECTORS [--label COLUMN] [--texts FILE]

RUN is a run folder of pretrain, finetune, tune, crossval, multitask or contrast, finished or (of pretrain and contrast) not, or a folder
of evaluate or prompt. Runs write this page of themselves when they end; several give a comparison: curves in the same charts, scores in
one table.
VECTORS is a file of embed: a map of its texts.
"""

from dataclasses import dataclass, field
from pathlib import Path

from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL, Settings


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    runs: tuple[str, ...] = field(metadata=POSITIONAL)
    """Run folders, or folders that evaluate or prompt wrote, or one file of embed's vectors."""
    out: str | None = None
    """The page. Default: report.html in the run folder; beside a folder of evaluate or prompt, and beside vectors, under their name."""
    corpus: str | None = None
    """What `bertlab corpus --json` wrote of the corpus: its warnings and numbers are shown too (of one pretraining run)."""
    live: int | None = None
    """Write the page again every so many seconds until the run is finished; a browser that shows it reads it again as often."""
    label: str = "label"
    """Of vectors: the column of their input by which the map is coloured; "label" need not be there, another has to be."""
    texts: str | None = None
    """Of vectors: the texts that were embedded; default: those that they were made from, where they are still there and the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs or not all(self.runs):
            raise ConfigError("runs is empty: name at least one run folder")
        if len(self.runs) > 1 and self.out is None:
            raise ConfigError("several runs have no folder in common: say where the page goes (--out FILE)")
        if self.live is not None and self.live < 1:
            raise ConfigError(f"live={self.live}: give 1 second or more")


def run(config: Config) -> Path:
    """Write the page and return its path.

    Raises ConfigError (a folder that is no run, or has no scores yet), CorruptError (files that no run leaves), DataError (texts that are
    not what was embedded).
    """
    import time

    from bertlab.disk import read_object, refuse_others
    from bertlab.pages.html import MARK
    from bertlab.pages.kinds import kinds_of

    folders = [Path(folder) for folder in config.runs]
    kinds = kinds_of(folders, config.texts, of_corpus=config.corpus is not None)
    if config.label != "label" and kinds != ["vectors"]:
        raise ConfigError(f"label={config.label}: the map of a file of vectors is coloured by it: leave it out")
    if config.live and not {"pretraining", "contrast"} & set(kinds):
        raise ConfigError(f"live={config.live}: {config.runs[0]} does not change any more: leave it out")
    if config.corpus and Path(config.corpus).is_dir():
        raise ConfigError(f"corpus={config.corpus} is a folder: give what `bertlab corpus {config.corpus} --json FILE` writes")
    corpus = read_object(Path(config.corpus)) if config.corpus else None
    if corpus is not None and not (isinstance(corpus.get("findings"), list) and isinstance(corpus.get("train"), dict)):
        raise ConfigError(f"corpus={config.corpus}: is not what bertlab corpus --json wrote: write it again, or leave it out")

    from bertlab.pages.report import page_of, write_report  # from here on with torch

    out = Path(config.out) if config.out else page_of(folders[0])
    refuse_others(out, ".html", MARK)
    finished = write_report(out, folders, corpus, config.live, texts=config.texts, label=config.label)
    print(f"page        {out}", flush=True)
    while not finished and config.live:
        time.sleep(config.live)
        finished = write_report(out, folders, corpus, config.live, texts=config.texts, label=config.label)
    return out
