"""One page of a run, or of several side by side: which kind each folder is of, its sections, one file that asks for nothing else.

    RUN of bertlab pretrain, finetune, multitask, contrast; a folder of bertlab evaluate or prompt; a file of bertlab embed -> HTML

A folder is believed no further than it can be read: what a run does not leave ends in one line.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

import bertlab
from bertlab.disk import write_text
from bertlab.embedding.index import open_index
from bertlab.embedding.mapping import Map, map_of
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.pages import contrast_report, finetuning_report, pretraining_report, vectors_report
from bertlab.pages.contrast_report import ContrastRun, read_contrast
from bertlab.pages.html import document, element, soft
from bertlab.pages.kinds import Kind, kinds_of
from bertlab.pages.pretraining_report import PretrainingRun, read_run
from bertlab.pages.scored import Scored, read_scored
from bertlab.training.runlog import CONFIG, read_settings

REPORT = "report.html"

Run = PretrainingRun | ContrastRun | list[Scored] | Map


def write_report(
    out: Path,
    runs: Sequence[Path],
    corpus: dict[str, Any] | None = None,
    refresh: int | None = None,
    *,
    texts: str | None = None,
    label: str = "label",
) -> bool:
    """Write the page of `runs` to `out`; whether all of them are finished. corpus: what `bertlab corpus --json` wrote. refresh: seconds
    after which a browser reads the page again, while a run is not finished. texts, label: of vectors, see `map_of`.

    Raises ConfigError (no run folder, or folders that cannot stand side by side), CorruptError (files that no run leaves), DataError (texts
    that are not what was embedded).
    """
    read = []
    for folder, kind in zip(runs, kinds_of(runs, texts, of_corpus=corpus is not None), strict=True):
        try:
            read.append(_read(folder, kind, texts, label))
        except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
            raise _not_ours(folder, error) from error
    finished = all(not isinstance(run, PretrainingRun | ContrastRun) or run.facts is not None for run in read)
    try:
        page = _page(runs, read, corpus, None if finished else refresh)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise _not_ours(runs[0], error) from error
    write_text(out, page)
    return finished


def report_on(run: Path, refresh: int | None = None, *, anew: bool = True) -> None:
    """What a run writes of itself, while it goes on and at its end: a page that cannot be drawn is said and ends no training. Not `anew`:
    only where there is none, since a run was cut off between its result and its page."""
    if not anew and (run / REPORT).is_file():
        return
    if refresh and (asked := _refresh_of(run / REPORT)):
        refresh = min(refresh, asked)  # of somebody who watches by --live
    try:
        write_report(run / REPORT, [run], refresh=refresh)
    except BertlabError as error:
        print(f"note: no report: {error}", flush=True)


def _refresh_of(page: Path) -> int | None:
    """After how many seconds a browser reads a page again, if it does."""
    found = re.search(rb"<meta http-equiv=refresh content=(\d{1,6})>", page.read_bytes()[:4096]) if page.is_file() else None
    return int(found[1]) if found else None


def page_of(folder: Path) -> Path:
    """Where the page of one folder goes: into a run folder; beside a folder whose manifest binds every file in it, and beside vectors."""
    if folder.is_file():
        return folder.with_name(f"{folder.name}.html")
    return folder / REPORT if (folder / CONFIG).is_file() else folder.parent / f"{folder.resolve().name}.html"


def _not_ours(folder: Path, error: Exception) -> BertlabError:
    if isinstance(error, BertlabError):
        return error
    return CorruptError(f"{folder}: its files are not what a run of this version leaves ({error!r}): copy the run folder again")


def _read(folder: Path, kind: Kind, texts: str | None, label: str) -> Run:
    """A run of pretraining or of contrast; the scores of a fine-tuning run (one), of several tasks (each), of an evaluation (one); a map of
    vectors."""
    if kind == "vectors":
        return map_of(open_index(folder), texts, label)
    if kind == "contrast":
        return read_contrast(folder)
    if kind == "pretraining":
        return read_run(folder)
    scored = read_scored(folder, folder.resolve().name)
    if kind == "evaluation" and scored.at(*scored.scores, *next(iter(scored.headlines.values()))) is None:
        raise ConfigError(f"{folder}: no scores to show: its data had no labels (what was answered is in predictions.parquet)")
    if kind == "fine-tuned" and not {"labels", "tasks"} & set(scored.metrics):
        raise ConfigError(f"{folder}: no page is drawn of this kind of run yet: its numbers are in metrics.json")
    if kind == "fine-tuned" and "tasks" in scored.metrics:
        return [read_scored(folder / task, task, metrics) for task, metrics in scored.metrics["tasks"].items()]
    return [scored]


def _page(folders: Sequence[Path], runs: Sequence[Run], corpus: dict[str, Any] | None, refresh: int | None) -> str:
    if isinstance(runs[0], Map):
        title, body = f"Vectors {folders[0].name}", vectors_report.sections(runs[0])
        head = [element("h1", title), soft(f"bertlab {bertlab.__version__}")]
        return document(title, *head, *body, style=vectors_report.style(), script=vectors_report.script())
    pretraining = [run for run in runs if isinstance(run, PretrainingRun)]
    contrasted = [run for run in runs if isinstance(run, ContrastRun)]
    scored = [each for run in runs if isinstance(run, list) for each in run]
    if len(runs) == 1:
        (folder,) = folders
        title = f"Run {folder.resolve().name}"
        if contrasted:
            body = contrast_report.sections(contrasted[0])
        else:
            body = pretraining_report.sections(pretraining[0], corpus) if pretraining else _of_tasks(scored, folder)
    else:
        title = f"{len(runs)} runs"
        body = pretraining_report.comparison(pretraining) if pretraining else []
        body += contrast_report.comparison(contrasted) if contrasted else []
        body += finetuning_report.comparison(scored) if scored else []
    counts = {"of pretraining": len(pretraining), "of contrast": len(contrasted), "with scores": len(scored)}
    kinds = [f"{count} {kind}" for kind, count in counts.items() if count]
    about = f"bertlab {bertlab.__version__}" + ("" if len(runs) == 1 else f": {', '.join(kinds)}")
    if refresh:
        about += f". The run goes on: this page is read again every {refresh} seconds."
    return document(title, element("h1", title), soft(about), *body, refresh=refresh)


def _of_tasks(scored: Sequence[Scored], folder: Path) -> list[Markup]:
    """The sections of each task, under its name where there are several."""
    body: list[Markup] = []
    for each in scored:
        if isinstance(data := each.metrics.get("data"), dict):  # of an evaluation
            files = each.metrics.get("vectors", {}).get("files")
            of = f"vectors {', '.join(files)}" if files else f"model {each.metrics['model']['folder']}"
            body.append(soft(f"{of}, data {data['name']}"))
        parts = finetuning_report.sections(each)
        if len(scored) > 1:
            parts = [element("article", element("h2", f"Task {each.name}"), *parts, aria_label=f"task {each.name}")]
        body += parts
    if (folder / CONFIG).is_file():
        body.append(pretraining_report.settings_table(read_settings(folder)))
    return body
