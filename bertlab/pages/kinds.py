"""Which kind of page a folder or file gets, and why another gets none: told before torch is imported, which takes seconds."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from bertlab.embedding.index import described
from bertlab.errors import ConfigError
from bertlab.training.runlog import CONFIG, read_settings

Kind = Literal["vectors", "contrast", "pretraining", "fine-tuned", "evaluation"]


def is_contrast(settings: dict[str, Any]) -> bool:
    return "positives" in settings


def kind_of_run(folder: Path) -> Kind:
    """Which page a run folder, a folder of evaluate or a file of vectors gets. Raises ConfigError for another, or one with no scores."""
    if folder.name == "predictions.parquet" and folder.is_file():
        named = shlex.quote(str(folder.parent))
        raise ConfigError(f"{folder} holds answers: there is a page of the folder that they lie in: bertlab report {named}")
    if folder.is_file() and folder.suffix == ".html":
        raise ConfigError(f"{folder} is a page: name what it shows, a run folder, a folder of evaluate or prompt, or a file of embed")
    if folder.is_file():
        described(folder)
        return "vectors"
    scored = (folder / "metrics.json").is_file()
    if (folder / CONFIG).is_file():
        settings = read_settings(folder)
        if is_contrast(settings):
            return "contrast"
        if "corpus" in settings:
            return "pretraining"
        if not scored:
            raise ConfigError(f"{folder}: this run is not finished, and has no scores yet: its command goes on with it")
        return "fine-tuned"
    if scored:
        return "evaluation"
    raise ConfigError(
        f"{folder}: no run there: name a run folder (of pretrain, finetune, tune, crossval, multitask or contrast), a folder of evaluate "
        "or prompt, or a file of embed"
    )


def kinds_of(runs: Sequence[Path], texts: str | None = None, *, of_corpus: bool = False) -> list[Kind]:
    """The kind of each. Raises ConfigError for runs that cannot stand on one page, for `texts` beside a run, and for facts `of_corpus`
    beside anything but one pretraining."""
    if len(runs) > 1 and (file := next((run for run in runs if run.is_file()), None)):
        raise ConfigError(f"{file}: vectors have a page of their own: give no other run beside them")
    if texts is not None and not runs[0].is_file():
        raise ConfigError(f"texts={texts}: a run is shown without, they belong to a file of vectors")
    kinds = [kind_of_run(folder) for folder in runs]
    if of_corpus and kinds != ["pretraining"]:
        raise ConfigError("corpus: what bertlab corpus found is shown on the page of one pretraining run: leave it out here")
    return kinds
