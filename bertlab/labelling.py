"""A file of texts answered by a fine-tuned model, in the order of its rows: a slice of rows after another, and one file of all.

A slice that is done is a part (bertlab/embedding/parts.py) in the job's folder, so that what was cut off goes on. It holds a piece of
the file to be: lines of JSON or CSV, or rows of a predictions file (bertlab/evaluation/predictions.py). An answer depends on no other text
beyond the last bits of rounding, and a row is in the same slice whenever it is asked: the file is the same bytes, whatever happened on the
way. Memory: the texts of the file and the answers of one slice.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import bertlab
from bertlab.corpus.dialect import encoding_for, table_line
from bertlab.corpus.labelled import Rows
from bertlab.corpus.labelled_tokens import LabelledTokens
from bertlab.disk import whole_file
from bertlab.embedding.parts import Write, read_part, write_part
from bertlab.evaluation.predictions import OF_ENTITY, UNSEEN
from bertlab.inference import LoadedModel
from bertlab.tasks.contract import Outputs
from bertlab.tasks.data import what_was_cut
from bertlab.tasks.measures import as_texts, without_known_tokens

SLICE = 4096  # rows: what a cut-off costs at most
WITHIN_CELL = "|"  # between several labels in one cell of CSV or TSV
Kept = dict[str, list[Any]]  # further columns of the input, a value a row
LAYOUT = 3  # of a slice's piece: it goes up when rows have other columns, so that one of before is not gone on with


@dataclass(frozen=True)
class Form:
    """How answers are written: by the ending of the file; `every`: with the probabilities of all classes (.parquet always has them).
    `separator` stands between cells of .csv. `excel`: it begins with a byte order mark, by which Excel knows UTF-8, and no text of it is
    a formula there.
    """

    ending: str
    every: bool = False
    separator: str = ","
    excel: bool = False


def job_sha256(model: LoadedModel, files: dict[str, str], data: dict[str, Any], form: Form) -> str:
    """Of everything that the file depends on: `files` are the sha256 of the model's, `data` says which texts, and their columns."""
    facts: dict[str, Any] = {"model": files, "data": data, "form": asdict(form), "precision": model.precision, "device": model.device.type}
    facts |= {"thresholds": model.known.thresholds, "layout": LAYOUT, "bertlab": bertlab.__version__, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def parts(rows: Rows, folder: Path) -> list[Path]:
    """Where the slices of the rows are kept, in order."""
    return [folder / f"{start // SLICE:06}.part" for start in range(0, len(rows), SLICE)]


def compute(model: LoadedModel, rows: Rows, kept: Kept, folder: Path, form: Form, passing: Callable[[int], None]) -> None:
    """Make the parts that are not there; `passing` is told how many rows are done. `kept` goes along with the answers, row by row.

    Raises DataError for texts where pairs are wanted.
    """
    assert all(len(values) == len(rows) for values in kept.values())
    for part, start in zip(parts(rows, folder), range(0, len(rows), SLICE), strict=True):
        end = min(start + SLICE, len(rows))
        if not part.exists():
            its = {name: values[start:end] for name, values in kept.items()}
            write_part(part, *_answered(model, rows.subset(range(start, end)), its, folder, form))
        passing(end)


def assemble(made: Sequence[Path], output: Path, form: Form) -> dict[str, Any]:
    """Make `output` of all parts; counts over them: what was `cut` of the texts, how many rows have UNSEEN and which come first, how
    many are `given` each name, and how many `none`.

    Raises CorruptError for a part that is not what was written.
    """
    found: dict[str, Counter[str]] = {"cut": Counter(), "given": Counter()}
    unseen: list[str] = []
    none = 0
    with whole_file(output) as temporary, _opened(temporary, form) as append:
        for part in made:
            table, facts = read_part(part)
            append(table)
            unseen += facts["unseen"]
            none += facts["none"]
            for name, counts in found.items():
                counts.update(facts[name])
    return {UNSEEN: len(unseen), "first_of_these": unseen[:3], "none": none} | {name: dict(counts) for name, counts in found.items()}


# ---- a slice


def _answered(model: LoadedModel, rows: Rows, kept: Kept, folder: Path, form: Form) -> tuple[pa.Table, dict[str, Any]]:
    """A slice's piece of the file, and what is counted over it."""
    assert model.task is not None, "only a fine-tuned model has answers"
    examples = model.encode_rows(rows)
    outputs = model.outputs_of(examples)
    answers = model.task.answers(outputs, model.known)
    texts, unseen = as_texts(rows), without_known_tokens(model.tokenizer, rows).tolist()
    facts = {
        "cut": what_was_cut(examples),
        "unseen": [id for id, nothing in zip(texts.ids, unseen, strict=True) if nothing],
        "given": Counter(name for answer in answers for name in set(answer.given)),
        "none": sum(not answer.given for answer in answers),
    }
    if form.ending == ".parquet":
        table = _predictions(model, rows, outputs, folder / f"slice{form.ending}")
        for name, values in kept.items():
            table = table.append_column(name, pa.array(map(_as_text, values), pa.string()))
        return table.append_column(UNSEEN, pa.array(unseen, pa.bool_())), facts
    said = [[answer.as_row(form.every)] for answer in answers]
    if isinstance(rows, LabelledTokens):
        said = [_of_sentence(sentence, its, form) for sentence, (its,) in zip(rows.tokens, said, strict=True)]
    seconds = [{}] * len(texts) if texts.texts_b is None else [{"text_b": text} for text in texts.texts_b]
    others: list[dict[str, Any]] = [dict(zip(kept, values, strict=True)) for values in zip(*kept.values(), strict=True)]
    if form.ending != ".jsonl":
        others = [{name: _as_text(value) for name, value in each.items()} for each in others]
    known = zip(texts.ids, texts.texts, seconds, others or [{}] * len(texts), said, unseen, strict=True)
    table = [
        {"id": id, "text": text} | second | other | _short(its) | {UNSEEN: nothing}
        for id, text, second, other, all_its, nothing in known
        for its in all_its
    ]
    return pa.table({"lines": pa.array(_lines(table, form), pa.large_string())}), facts


def _predictions(model: LoadedModel, rows: Rows, outputs: Outputs, path: Path) -> pa.Table:
    assert model.task is not None
    model.task.write(path, rows, None, outputs, model.known)
    table = pq.read_table(path)
    path.unlink()
    return table


def _of_sentence(words: Sequence[str], its: dict[str, Any], form: Form) -> list[dict[str, Any]]:
    """A sentence's answer with the text of each entity; in CSV and TSV, whose cells hold no lists, a row an entity, or one without any."""
    texts = [" ".join(words[each["start"] : each["end"]]) for each in its["entities"]]
    if form.ending == ".jsonl":
        return [its | {"entities": [each | {"text": text} for each, text in zip(its["entities"], texts, strict=True)]}]
    cells = [each | {"entity": text} for each, text in zip(its["entities"], texts, strict=True)]
    return [{name: each[name] for name in OF_ENTITY} for each in cells or [dict.fromkeys(OF_ENTITY)]]


def _as_text(value: Any) -> str | None:
    """A cell of the input as one text: what is none as JSON, a date as it is written; None for none."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, bool | int | float | list | dict) else str(value)


def _short(value: Any) -> Any:
    """The same with numbers of seven digits, as many as fp32 tells apart."""
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _lines(rows: Sequence[dict[str, Any]], form: Form) -> list[str]:
    """A line a row; of CSV and TSV the names of the columns first."""
    if form.ending == ".jsonl":
        return [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows]  # str: of dates in kept columns
    flat = [dict(_cells(row)) for row in rows]
    separator = "\t" if form.ending == ".tsv" else form.separator
    return [table_line(cells, separator, form.excel) for cells in (flat[0], *(each.values() for each in flat))]


def _cells(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A row flat: `probabilities` becomes a column a class, as probabilities.sport, several labels one cell, a truth value as in JSON."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", each) for key, each in value.items())
        else:
            cell = WITHIN_CELL.join(str(each) for each in value) if isinstance(value, list) else value
            yield name, str(cell).lower() if isinstance(cell, bool) else cell


# ---- the file


@contextmanager
def _opened(path: Path, form: Form) -> Iterator[Write]:
    """Yield a function that appends a slice's piece to `path`."""
    if form.ending == ".parquet":
        writers: list[pq.ParquetWriter] = []

        def append_rows(table: pa.Table) -> None:
            if not writers:
                writers.append(pq.ParquetWriter(path, table.schema))
            writers[0].write_table(table)

        try:
            yield append_rows
        finally:
            for writer in writers:
                writer.close()
        return
    with path.open("w", encoding=encoding_for(form.excel), newline="") as stream:

        def append_lines(table: pa.Table) -> None:
            names = 1 if form.ending != ".jsonl" and stream.tell() else 0  # of the columns, which the file has once
            stream.writelines(table["lines"].to_pylist()[names:])

        yield append_lines
