"""bertlab predict: a fine-tuned model and texts that have no labels -> what it says of each, in the order of the texts.

    bertlab predict --model DIR --input FILE --output FILE

By the output's name: .jsonl, .csv or .tsv with id, text and answer (what it says of each kind of task: docs/predicting.md), or .parquet, a
predictions file as `bertlab evaluate` leaves it; each with a last column no_known_tokens, true where the model saw nothing of the text.
FILE.manifest.json binds it to the model and the texts. What is computed is kept in a hidden folder beside the output until the file is made
of it, so that the same command goes on after a cut-off.
"""

import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect, between_excel_cells
from bertlab.errors import ConfigError

if TYPE_CHECKING:
    from bertlab.inference import LoadedModel

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
MOST_NAMES = 20  # of labels that are counted on the screen


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """The model folder of a fine-tuned model (RUN/model of a fine-tuning run), or hf:NAME of one; it knows its kind of task."""
    input: str
    """Texts, whose labels, if there are any, are not looked at: a text file (a line is a text), CSV, TSV, JSONL or Parquet, also
    compressed; or - for standard input (-.jsonl and so on say what it holds)."""
    output: str
    """File to write: NAME.jsonl, NAME.csv, NAME.tsv or NAME.parquet, or - for JSON lines on standard output; one of an earlier call is
    replaced."""
    text: str | None = None
    """Column of the text: by default that of the fine-tuning, in a file without it text; for tokens tokens (a list of words, or a text),
    for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: by default likewise, else text_b, which is used without asking; for answers question."""
    id: str = "id"
    """Column of the id, which the output has too; without one it is FILE:LINE."""
    keep: tuple[str, ...] = ()
    """Further columns of the input that the output is to have, as they are; in .csv, .tsv and .parquet as text."""
    probabilities: bool = False
    """Of classes: write the probabilities of all, not that of the answer alone; .parquet always has them."""
    excel: bool = False
    """Of .csv: as Excel opens it by a double click, with a byte order mark, with an apostrophe before a text that would be a formula there,
    and with --excel-separator between the cells."""
    excel_separator: str | None = None
    """What stands between the cells of --excel, as ; for a European Excel. Default: as in the input (--separator)."""
    thresholds: Literal["dev"] | None = None
    """dev: give a label, of several or of two classes, from the probability on that was best on dev; by default above 0.5. What a model has
    of dev stands in its bertlab.json, and evaluate says what it is worth on other texts."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it; probabilities move by a few thousandths. auto: where it does."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if twice := [name for name in self.keep if self.keep.count(name) > 1]:
            raise ConfigError(f"keep names {twice[0]!r} twice")
        if self.output != "-" and Path(self.output).suffix not in ENDINGS:
            raise ConfigError(f"output={self.output}: name it {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, or - for standard output")
        if self.excel and Path(self.output).suffix != ".csv":
            raise ConfigError(f"excel is a way to write .csv: name the output NAME.csv instead of {self.output}, or leave it out")
        if self.excel_separator is not None:
            if not self.excel:
                raise ConfigError("excel_separator is for --excel: give both, or leave it out")
            between_excel_cells(self.excel_separator, self)


def run(config: Config) -> dict[str, Any]:
    """Write the answers and say what they are; returns what the manifest says: rows, given, cut, no_known_tokens, ...

    Raises ConfigError (a folder that was not fine-tuned, names), DataError (columns, texts), CorruptError, LockedError.
    """
    from bertlab.disk import locked, refuse_unwritable, sweep
    from bertlab.embedding.parts import refuse_foreign, tidy
    from bertlab.evaluation.predictions import OURS

    if clash := next((name for name in config.keep if name in OURS or name.startswith("probabilities.")), None):
        raise ConfigError(f"keep={clash}: the answers have a column of that name themselves: rename that of the input")
    if config.input == "-" and (config.text or config.text_b or config.keep or config.id != "id"):
        raise ConfigError("standard input is read as lines of text, without columns: for a table say what it holds, as --input -.csv")
    if config.output == "-":
        with TemporaryDirectory() as folder:
            output = Path(folder) / "answers.jsonl"
            facts = _predict(config, output, Path(folder))
            with output.open(encoding="utf-8") as lines:
                shutil.copyfileobj(lines, sys.stdout)
        return facts
    output = Path(config.output)
    refuse_unwritable(output)
    work = output.parent / f".predicting-{output.name}"
    with locked(work):
        refuse_foreign(output, config.input, work)
        _refuse_edited(output)
        sweep(output.parent, output.name)
        try:
            facts = _predict(config, output, work)
        finally:
            tidy(work)
        tidy(work, all=True)
    return facts


def _refuse_edited(output: Path) -> None:
    """Raise ConfigError for answers that are not as an earlier call wrote them: corrections by hand are work that nobody can make anew."""
    from bertlab.disk import MANIFEST, read_sealed, verify_files
    from bertlab.errors import BertlabError

    manifest = output.with_name(f"{output.name}.{MANIFEST}")
    if not (output.exists() and manifest.exists()):
        return
    try:
        verify_files(output.parent, read_sealed(manifest)["files"])
    except (BertlabError, KeyError):
        raise ConfigError(
            f"{output} was changed since bertlab wrote it, by hand perhaps: choose another --output, or remove it first (corrected answers "
            f"are labels under a name without {manifest.name} beside it)"
        ) from None


def _predict(config: Config, output: Path, work: Path) -> dict[str, Any]:
    from bertlab.corpus.files import kind_of
    from bertlab.corpus.tables import values_of
    from bertlab.evaluation.predictions import OF_ENTITY
    from bertlab.model.facts import fetch, model_origin
    from bertlab.tasks.first_look import look_at
    from bertlab.tasks.reading import Columns, columns_for, form_of_model

    folder = fetch(config.model)
    reads = form_of_model(folder)
    by_entity = reads == "tokens" and output.suffix in (".csv", ".tsv")
    if by_entity and (clash := next((name for name in config.keep if name in OF_ENTITY), None)):
        raise ConfigError(f"keep={clash}: the answers have a column of that name themselves: rename that of the input")
    source, keep = _file(config.input, work), dict.fromkeys(config.keep, "keep")
    if config.separator and not config.excel and kind_of(source) not in ("csv", "tsv"):
        raise ConfigError("separator is that of a CSV input, and this is none: for the output there are --excel and --excel-separator")
    columns = columns_for(folder, str(source), Columns(config.text, config.text_b, None, None, config.id, config.dialect), needs_gold=False)
    look_at(reads, str(source), columns, needs_gold=False)
    values_of(source, keep, config.dialect, most=1)

    from bertlab import labelling  # from here on with torch
    from bertlab.disk import MANIFEST, hash_some, sha256_file, sweep, write_sealed
    from bertlab.embedding.parts import replaced
    from bertlab.inference import LoadedModel
    from bertlab.pages.screen import inert
    from bertlab.progress import progress

    model = LoadedModel(config.model, config.device, config.precision, config.thresholds)
    assert model.task is not None
    if config.probabilities and model.task.exclusive is None:
        raise ConfigError(f"probabilities are of classes, and the model is for {model.task.name}, which has none: leave it out")
    between = between_excel_cells(config.excel_separator, config) if config.excel else ","
    form = labelling.Form(output.suffix, config.probabilities, between, config.excel)
    rows = model.task.read(str(source), columns, needs_gold=False)
    kept = values_of(source, keep, config.dialect)
    origin = model_origin(config.model)
    data = {"sha256": sha256_file(source), "name": source.name, "text": columns.text, "text_b": columns.text_b, "id": columns.id}
    data |= asdict(config.dialect) | {"keep": list(config.keep)}
    origins = {"model": origin, "input": {"path": config.input, **data}}
    print("".join(f"{inert(line)}\n" for line in replaced(output, "answers", origins)), end="", flush=True)
    parts = work / labelling.job_sha256(model, origin["files"], data, form)[:32]
    parts.mkdir(exist_ok=True)
    sweep(parts)
    made = labelling.parts(rows, parts)
    there = sum(part.exists() for part in made)
    if there:
        print(f"going on: {there:,} of {len(made):,} parts were there already", file=sys.stderr)
    with progress("predicting", "texts", len(rows)) as report:
        labelling.compute(model, rows, kept, parts, form, lambda done: report(done, ""))
    manifest = output.with_name(f"{output.name}.{MANIFEST}")
    manifest.unlink(missing_ok=True)  # of an earlier call
    counted = labelling.assemble(made, output, form)
    facts: dict[str, Any] = {"from": origins, "task": model.task.name}
    facts |= {"labels": model.labels or [], "rows": len(rows), **counted, "precision": config.precision}
    thresholds = {name: each["value"] for name, each in (model.known.thresholds or {}).items()}
    facts |= {"temperature": model.known.temperature, "thresholds": thresholds, "kept": list(config.keep)}
    write_sealed(manifest, facts | {"files": hash_some(output.parent, [output.name])})
    print(_summary(facts, config.output, model, by_entity), file=sys.stderr if config.output == "-" else sys.stdout)
    return facts


def _file(source: str, work: Path) -> Path:
    """The file of the texts; standard input is first written to one in `work`. Raises ConfigError for a folder."""
    from bertlab.corpus.units import source_files

    if source == "-" or (source.startswith("-.") and not Path(source).exists()):
        file = source_files(source, 0, work)[0].file
        assert file is not None
        return file.path
    if not Path(source).is_file():
        what = "is a folder" if Path(source).is_dir() else "does not exist"
        raise ConfigError(f"{source} {what}: give a file of texts (text, CSV, TSV, JSONL, Parquet), or - for standard input")
    return Path(source)


def _summary(facts: dict[str, Any], output: str, model: "LoadedModel", by_entity: bool) -> str:
    from bertlab.evaluation.predictions import UNSEEN
    from bertlab.pages.screen import MORE_LABELS, counted, inert, table

    rows, lines = facts["rows"], []
    if given := sorted(facts["given"].items(), key=lambda each: (-each[1], each[0])):
        cells = [[name, f"{count:,}", f"{count / rows:.1%}"] for name, count in given[:MOST_NAMES]]
        lines.append(table(["given", "texts", "of all"], cells))
        if len(given) > MOST_NAMES:
            lines.append(f"and {len(given) - MOST_NAMES:,} more")
    if chosen := facts["thresholds"]:
        lowest, highest = min(chosen.values()), max(chosen.values())
        at = f"each from a probability of {lowest:.3f} to {highest:.3f} on" if len(chosen) > 1 else f"{inert(*chosen)} from {lowest:.3f} on"
        lines.append(f"labels are given at the thresholds that dev chose, {at}, before any temperature (the manifest has them)")
    if model.task is not None and model.task.exclusive is False:
        lines.append(f"{sum(facts['given'].values()) / rows:.2f} labels a text on average")
        if facts["none"]:
            lines.append(f"{facts['none']:,} of {rows:,} texts got no label at all" + (f": {MORE_LABELS}" if not chosen else ""))
    for what, count in facts["cut"].items():
        lines.append(f"{count:,} {what}: longer than {model.max_length} tokens")
    if unseen := facts[UNSEEN]:
        first = facts["first_of_these"]
        named = ", ".join(inert(id) for id in first) + " and others" * (unseen > len(first))
        nothing = f"{'has' if unseen == 1 else 'have'} no token that the vocabulary knows"
        lines.append(f"{unseen:,} of {rows:,} texts {nothing} ({named}): what is said of them is said of nothing (column {UNSEEN})")
    if model.task is not None and model.task.exclusive is not None:
        raw = "as the model gives them: nothing calibrated them, do not take 0.9 for 9 in 10"
        how = f"at the temperature that dev taught ({facts['temperature']:.3f})" if facts["temperature"] is not None else raw
        lines.append(f"probabilities are {how}")
    if facts["from"]["input"]["path"] == "-":
        lines.append(f"standard input was read as {counted(rows, 'line')} of text (of a table say what it holds, as --input -.csv)")
    form = ", a row an entity (.jsonl has a row a sentence, with the tags of its words):" if by_entity else ""
    return "\n".join([*lines, f"{counted(rows, 'answer')}{form} {'' if output == '-' else inert(output)}".rstrip()])
