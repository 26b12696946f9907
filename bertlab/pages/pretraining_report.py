"""The report of a pretraining run: what was learnt, how it went, where the time went, what was guessed, and from which text.

Reads what the run folder holds (and the corpus's manifest, where it still is), computes no score, and shows a run that is not finished as
far as it is. Curves are of the steps that were logged in full, one in log_every.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from bertlab.batches.pretraining import SETTINGS
from bertlab.disk import MANIFEST, read_json
from bertlab.errors import BertlabError
from bertlab.model.facts import load_facts
from bertlab.pages import doctor
from bertlab.pages.charts import Series, line_chart
from bertlab.pages.html import element, folded, join, number, section, soft, table
from bertlab.training.runlog import full_records, read_settings

Facts = dict[str, Any]

MOST_EVENTS = 50  # skipped steps and spikes in the table
PAIRS_SHOWN = 3  # of those that were guessed at, each at several steps


@dataclass(frozen=True)
class PretrainingRun:
    """A run folder as read: its settings, its records of steps and of measurements on held-out text, bertlab.json once it is finished, the
    corpus's manifest where it is there."""

    folder: Path
    settings: Facts
    steps: list[Facts]
    heldout: list[Facts]
    facts: Facts | None
    manifest: Facts | None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def best(self) -> Facts | None:
        """The measurement of the least held-out loss."""
        measured = [record["heldout"] for record in self.heldout]
        return min(measured, key=lambda each: each["mlm_loss"]) if measured else None

    def of_steps(self, *keys: str) -> np.ndarray:
        """A number of every logged step, NaN where it has none."""
        return np.array([_at(record, keys) for record in self.steps], dtype=np.float64)

    def axis(self, kind: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Where the steps and the measurements stand by `kind`, step, tokens or hours, and what that axis is called."""
        steps, measured = self.of_steps("step"), np.array([record["step"] for record in self.heldout], dtype=np.float64)
        if kind == "step":
            return steps, measured, "step"
        along = self.of_steps("tokens_seen") if kind == "tokens" else self.of_steps("elapsed_seconds") / 3600
        known = np.isfinite(along)
        if not known.any():  # the log of an earlier version
            return np.full_like(steps, np.nan), np.full_like(measured, np.nan), kind
        return along, np.interp(measured, np.r_[0, steps[known]], np.r_[0, along[known]]), kind


def read_run(folder: Path) -> PretrainingRun:
    """Raises ConfigError (no run folder), CorruptError (settings or facts that are none)."""
    settings = read_settings(folder)
    records = full_records(folder / "metrics.jsonl")
    corpus = Path(str(settings["corpus"])) / MANIFEST
    try:
        manifest = read_json(corpus) if corpus.is_file() else None
    except BertlabError:
        manifest = None
    return PretrainingRun(
        folder=folder,
        settings=settings,
        steps=[record for record in records if "losses" in record],
        heldout=[record for record in records if "heldout" in record],
        facts=load_facts(str(folder / "model")) if (folder / "model").is_dir() else None,
        manifest=manifest,
    )


def sections(run: PretrainingRun, corpus: Facts | None) -> list[Markup]:
    """The whole report but for its title; corpus: the facts that `bertlab corpus --json` wrote."""
    parts = [_verdict(run), _numbers(run), curves([run]), _course(run), _time(run), _events(run), _guesses(run), _text(run)]
    if corpus:
        parts.append(element("section", element("h2", "What bertlab corpus found"), *doctor.sections(corpus), aria_label="corpus"))
    return [part for part in parts if part] + [settings_table(run.settings)]


# --- words and numbers ------------------------------------------------------------------------------------------------------------------


def _verdict(run: PretrainingRun) -> Markup:
    done, steps = int(run.steps[-1]["step"]) if run.steps else 0, run.settings.get("steps")
    state = "finished" if run.facts is not None else f"not finished: step {done:,} of {steps:,}"
    first, best = (run.heldout[0]["heldout"] if run.heldout else None), run.best
    if not first or not best:
        return element("div", element("p", f"The run is {state}."), element("p", NO_HELDOUT), class_="wrong")
    better = best["mlm_loss"] < best["unigram_loss"]
    words = [
        f"The run is {state}. Masked words of held-out text: loss {first['mlm_loss']:.3f} at the start, "
        f"{best['mlm_loss']:.3f} at its best, step {best['step']:,}; {best['masked_accuracy']:.1%} of them are guessed right.",
        "That is "
        + ("better than" if better else "no better than")
        + f" knowing nothing but how frequent each token is ({best['unigram_loss']:.3f})"
        + ("." if better else ": the model has not learnt to read its context yet. More steps, or a smaller model, before anything else."),
        f"Next sentences: {best['nsp_accuracy']:.1%} right, always giving the commoner answer {best['nsp_majority']:.1%}.",
    ]
    return element("div", *(element("p", line) for line in words), class_="wrong plain" if better else "wrong")


NO_HELDOUT = "No text was held out, so nothing is known of how well it predicts."


def _numbers(run: PretrainingRun) -> Markup | None:
    """bertlab.json's numbers, or the best measurement so far."""
    best, start = run.best, run.heldout[0]["heldout"] if run.heldout else None
    rows: list[list[object]] = []
    if best and start:
        for words, key in (
            ("held-out MLM loss", "mlm_loss"),
            ("masked accuracy", "masked_accuracy"),
            ("next-sentence loss", "nsp_loss"),
            ("next-sentence accuracy", "nsp_accuracy"),
        ):
            rows.append([words, number(start[key], f"heldout_start.{key}"), number(best[key], f"heldout.{key}"), _known_nothing(best, key)])
    table_of_scores = table(["", "at the start", "best", "knowing nothing"], rows, "held-out scores") if rows else None
    facts = run.facts or {}
    shown = [
        [words, number(facts[key], key, ",.0f")]
        for words, key in (
            ("parameters", "parameters"),
            ("layers", "layers"),
            ("width", "hidden_size"),
            ("vocabulary", "vocab_size"),
            ("steps", "steps"),
            ("tokens seen", "tokens_seen"),
            ("steps skipped", "skipped_steps"),
            ("seconds", "seconds"),
        )
        if key in facts
    ]
    more = table(["", "number"], shown, "size and effort") if shown else None
    return section("Numbers", table_of_scores, more) if rows or shown else None


def _known_nothing(best: Facts, key: str) -> Markup | str:
    named = {"mlm_loss": "unigram_loss", "nsp_accuracy": "nsp_majority"}
    return number(best[named[key]], f"heldout.{named[key]}") if key in named else ""


def settings_table(settings: Facts) -> Markup:
    rows = [[name, element("code", "" if value is None else value)] for name, value in settings.items()]
    return folded("All settings of the run", table(["setting", "value"], rows, "settings"))


def differing(runs: Sequence[tuple[str, Facts]], names: Sequence[str]) -> Markup | None:
    """Of runs, each its name and its settings, those of the settings `names` that are not the same in all; None where all are."""
    differ = [name for name in dict.fromkeys(names) if len({str(settings.get(name)) for _, settings in runs}) > 1]
    rows = [[name, *(str(settings.get(name)) for _, settings in runs)] for name in differ]
    return section("Settings that differ", table(["setting", *(name for name, _ in runs)], rows, "settings")) if differ else None


# --- curves -----------------------------------------------------------------------------------------------------------------------------


def curves(runs: Sequence[PretrainingRun]) -> Markup:
    """Loss and accuracy of one run, or the held-out ones of several, against tokens and against hours (steps, where neither was logged)."""
    kinds = ["tokens", "hours"] if any(np.isfinite(run.axis("tokens")[0]).any() for run in runs) else ["step"]
    charts = []
    for title, key, level, word in (
        ("Masked words", "mlm_loss", "unigram_loss", "loss, nats a masked token"),
        ("Next sentences", "nsp_loss", None, "loss, nats a pair"),
        ("Masked words guessed right", "masked_accuracy", None, "share, held-out text"),
        ("Next sentences told right", "nsp_accuracy", "nsp_majority", "share, held-out text"),
    ):
        for kind in kinds if key.endswith("loss") else kinds[:1]:
            charts.append(line_chart(title, _lines(runs, kind, key, level), runs[0].axis(kind)[2], word))
    note = (
        "Thin line: the training batches, as they were trained on. Dots: the same held-out text at every measurement, without dropout."
        if len(runs) == 1
        else ""
    )
    return section("Curves", soft(note) if note else None, element("div", *charts, class_="charts"))


def _lines(runs: Sequence[PretrainingRun], kind: str, key: str, level: str | None) -> list[Series]:
    if len(runs) > 1:
        return [Series(run.name, run.axis(kind)[1], [record["heldout"][key] for record in run.heldout], dots=True) for run in runs]
    (run,) = runs
    at_steps, at_heldout, _ = run.axis(kind)
    lines = [Series("training", at_steps, run.of_steps("losses", key))] if key.endswith("loss") else []
    lines.append(Series("held out", at_heldout, [record["heldout"][key] for record in run.heldout], dots=True))
    if level and run.heldout:
        name = {"unigram_loss": "token frequencies alone", "nsp_majority": "always the commoner answer"}[level]
        lines.append(Series(name, [0.0], [run.heldout[-1]["heldout"][level]], level=True))
    return lines


def _course(run: PretrainingRun) -> Markup | None:
    if not run.steps:
        return None
    steps = run.of_steps("step")
    charts = [
        line_chart("Learning rate", [Series("AdamW's", steps, run.of_steps("learning_rate"))], "step", "rate"),
        line_chart("Gradient norm", [Series("before clipping", steps, run.of_steps("grad_norm"))], "step", "norm over all parameters"),
        line_chart("Speed", [Series("real tokens a second", steps, run.of_steps("tokens_per_second"))], "step", "tokens a second"),
        line_chart("Use of the machine", [Series("MFU", steps, run.of_steps("mfu"))], "step", "share of what its own matrix product does"),
    ]
    return section("The course of the run", element("div", *charts, class_="charts"))


# --- time, trouble, text ----------------------------------------------------------------------------------------------------------------


def _time(run: PretrainingRun) -> Markup | None:
    seconds, waiting, elapsed = run.of_steps("seconds"), run.of_steps("data_seconds"), run.of_steps("elapsed_seconds")
    if not np.isfinite(seconds).any() or not np.isfinite(waiting).any() or not np.isfinite(elapsed[-1]):
        return None
    last = run.steps[-1]
    in_steps, in_data = float(np.nanmean(seconds)) * last["step"], float(np.nanmean(waiting)) * last["step"]
    parts = {
        "computing steps": in_steps - in_data,
        "waiting for batches": in_data,
        "measuring on held-out text, saving, logging": max(0.0, last["elapsed_seconds"] - in_steps),
    }
    total = sum(parts.values())
    rows = [[name, f"{part:,.1f}", f"{part / total:.1%}" if total else "-"] for name, part in parts.items()]
    note = f"Estimated from the {len(seconds):,} steps that were logged in full, up to step {last['step']:,}."
    return section("Where the time went", table(["", "seconds", "share"], rows, "where the time went"), soft(note))


def _events(run: PretrainingRun) -> Markup | None:
    events = [record for record in run.steps if record.get("skipped") or record.get("spike")]
    if not events:
        return section("Skipped steps and spikes", element("p", "None.")) if run.steps else None
    rows = [
        [
            f"{record['step']:,}",
            "skipped" if record.get("skipped") else "spike",
            *("not finite" if (loss := _at(record, ("losses", key))) is None else f"{loss:.3f}" for key in ("mlm_loss", "nsp_loss")),
            element("code", f"bertlab replay --run {shlex.quote(str(run.folder))} --step {record['step']}"),
        ]
        for record in events[:MOST_EVENTS]
    ]
    more = f" The first {MOST_EVENTS} of {len(events):,}." if len(events) > MOST_EVENTS else ""
    note = soft(f"A skipped step (loss or gradient not finite) changes nothing; a spike is far above the steps before it.{more}")
    return section(
        "Skipped steps and spikes", table(["step", "what", "MLM loss", "NSP loss", "its batch"], rows, "skipped steps, spikes"), note
    )


def _guesses(run: PretrainingRun) -> Markup | None:
    """The same held-out pairs at every measurement: what was masked, and what the model put there."""
    known = [record for record in run.heldout if record.get("guesses")]
    if not known:
        return None
    chosen = [known[row] for row in np.unique(np.linspace(0, len(known) - 1, 4).round().astype(int))]
    texts = []
    for place, pair in enumerate(chosen[0]["guesses"][:PAIRS_SHOWN]):
        rows = []
        for row, (where, seen, was, *_) in enumerate(pair["masked"]):
            at_steps = [record["guesses"][place]["masked"][row] for record in chosen]
            said = [join(element("bdi", guess), f" {share:.0%}") for *_, guess, share in at_steps]
            rows.append(
                [
                    str(where),
                    seen,
                    was,
                    *(element("b", each) if guess[3] == was else each for each, guess in zip(said, at_steps, strict=True)),
                ]
            )
        columns = ["place", "seen", "hidden", *(f"step {record['step']:,}" for record in chosen)]
        text = element("p", element("bdi", pair["text"]), dir="auto")
        texts.append(element("div", text, table(columns, rows, f"guesses, pair {place + 1}"), class_="text"))
    note = soft("[MASK]<word>: what stands there and what was hidden. At each step the likeliest token with its probability; bold: right.")
    return section("What it put in the gaps", note, *texts)


def _text(run: PretrainingRun) -> Markup | None:
    manifest = run.manifest
    if not manifest:
        return None
    filters, counts = manifest.get("filters", {}), manifest.get("counts", {})
    rows = [["documents read", f"{filters.get('in', 0):,}"], ["documents kept", f"{filters.get('kept', 0):,}"]]
    rows += [[f"dropped: {reason}", f"{dropped:,}"] for reason, dropped in filters.get("dropped", {}).items()]
    rows += [[name, f"{value:,}"] for name, value in counts.items() if isinstance(value, int)]
    sources = [[source["name"], source.get("licence") or "not stated"] for source in manifest.get("sources", ())]
    corpus = element("code", f"bertlab corpus --corpus {shlex.quote(str(run.settings['corpus']))} --json FILE")
    report = element("code", f"bertlab report --runs {shlex.quote(str(run.folder))} --corpus FILE")
    return section(
        "The text",
        table(["", "number"], rows, "documents"),
        table(["source", "licence"], sources, "sources"),
        soft("More, with warnings: ", corpus, ", then ", report, "."),
    )


def comparison(runs: Sequence[PretrainingRun]) -> list[Markup]:
    """Several runs in one table and in the same charts."""
    names = ["preset", "steps", *SETTINGS]
    rows: list[list[object]] = []
    for run in runs:
        best = run.best or {}
        scores = [number(best.get(key), f"{run.name}.heldout.{key}") for key in ("mlm_loss", "masked_accuracy", "nsp_loss", "nsp_accuracy")]
        effort = [number((run.facts or {}).get(key), f"{run.name}.{key}", ",.0f") for key in ("parameters", "tokens_seen", "seconds")]
        rows.append([run.name, *scores, *effort])
    columns = ["run", "MLM loss", "masked accuracy", "NSP loss", "NSP accuracy", "parameters", "tokens", "seconds"]
    note = soft("Best held-out measurement of each. Losses can be compared where corpus, vocabulary and held-out text are the same.")
    different = differing([(run.name, run.settings) for run in runs], names)
    return [each for each in (section("Runs side by side", table(columns, rows, "runs"), note), curves(runs), different) if each]


def _at(record: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record
