"""Predictions files of several systems read together: the same examples in the same order, or a refusal that says what differs.

Two rows are of the same example when id, hash of the text and gold label (or labels, or number) are equal; the order of the rows does not
matter. A file that a manifest binds is first compared with it: Parquet itself does not notice a bit that has turned. Held in memory whole,
without the probabilities: a test set has up to a few million rows.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.files import kind_of
from bertlab.corpus.labelled import id_of
from bertlab.corpus.tables import asked_id, rows
from bertlab.disk import MANIFEST, SEAL, read_json, read_sealed, verify_file
from bertlab.errors import ConfigError, CorruptError, DataError

NUMBERS = ("regression", "similarity")  # cosines beside scores: a model that was fine-tuned on scores does the same in another unit
TASKS = ("single-label", "multi-label", *NUMBERS, "tokens", "answers", "retrieval", "clustering")
WITHOUT_CLASSES = (*NUMBERS, "answers", "retrieval", "clustering")
COLUMNS = ("id", "text_sha256", "gold", "predicted")

Key = tuple[str, str, int]  # id, hash of the text, how many rows before have both


@dataclass(frozen=True)
class PredictionsFile:
    """n rows by their keys, the kind of task, and the class names in the order of the file. `clusters` has what a further column says.

    gold, predicted: n labels, or lists of labels, or numbers, by the task.
    """

    origin: str
    task: str
    names: list[str]
    keys: list[Key]
    gold: list[Any]
    predicted: list[Any]
    clusters: list[str] | None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Aligned:
    """S systems on n examples: gold (n,), predicted (S, n) class numbers over `names`; clusters (n,) numbers or None.

    Sets of labels are truth values, (n, K) and (S, n, K); numbers are themselves; tags are tuples, a sentence each, and so are the texts
    that answer a question and the ids that a query finds, in arrays of objects, and labels and groups of clusterings are texts in such.
    """

    task: str
    names: list[str]
    gold: np.ndarray
    predicted: np.ndarray
    clusters: np.ndarray | None


def read_predictions(path: Path, cluster: str | None = None) -> PredictionsFile:
    """Read a predictions.parquet, of bertlab or with the same columns.

    Raises ConfigError where there is none, CorruptError where it is not the file that was written, no Parquet file, or names a class that
    it does not list, DataError for a missing column, unknown gold labels or no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give the predictions.parquet of an evaluation")
    _refuse_damaged(path)
    try:
        schema = pq.read_schema(path)
        wanted = [*COLUMNS, *([cluster] if cluster else [])]
        missing = [name for name in wanted if name not in schema.names]
        if missing:
            why = "is it the predictions.parquet of an evaluation?"
            if missing == [cluster]:
                why = "give the labelled file that has it too (--data FILE): its rows are found by their ids"
            raise DataError(f"{path}: no column '{missing[0]}': {why}")
        columns = pq.read_table(path, columns=list(dict.fromkeys(wanted))).to_pydict()
        metadata = schema.metadata or {}
        task = metadata.get(b"task", b"single-label").decode()
        names = [] if task in WITHOUT_CLASSES else json.loads(metadata.get(b"labels", b"null"))
    except (pa.ArrowException, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptError(f"{path}: not a predictions file ({' '.join(str(error).split())[:200]}): evaluate again") from None
    if task not in TASKS:
        raise CorruptError(f"{path}: predictions of an unknown kind of task, {task[:50]!r}: evaluate again, with this version")
    if not isinstance(names, list) or (not names and task not in WITHOUT_CLASSES) or len({str(name) for name in names}) != len(names):
        raise CorruptError(f"{path}: the file's metadata does not list its classes under `labels`: evaluate again")
    if not columns["id"]:
        raise DataError(f"{path}: no rows: there is nothing to compare")
    unknown = sum(label is None for label in columns["gold"])
    if unknown:
        raise DataError(f"{path}: {unknown:,} of {len(columns['id']):,} rows have no gold label: evaluate on a labelled file")
    if any(each is None for each in columns["predicted"]):
        raise CorruptError(f"{path}: a row has no prediction: evaluate again")
    strays = _labels_of(task, [*columns["gold"], *columns["predicted"]]) - set(names)
    if strays:
        raise CorruptError(f"{path}: label {min(map(str, strays))!r} is not among the classes that the file lists: evaluate again")
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for each in zip(map(str, columns["id"]), map(str, columns["text_sha256"]), strict=True):
        keys.append((*each, seen[each]))
        seen[each] += 1
    clusters = (
        [_cluster(each, f"{path}: id {id!r}", cluster) for id, each in zip(columns["id"], columns[cluster], strict=True)]
        if cluster
        else None
    )
    return PredictionsFile(str(path), task, names, keys, columns["gold"], columns["predicted"], clusters)


def clusters_by_id(data: Path, cluster: str, id: str = "id", dialect: Dialect = AS_NAMED) -> dict[str, str]:
    """What a labelled file, a table, says in the column `cluster`, by the id of its row, or FILE:LINE where it has none.

    Raises ConfigError for a file that is not there, DataError for what is no table, a row without such a value, an id of two clusters.
    """
    if not data.is_file():
        raise ConfigError(f"{data} {'is a folder' if data.is_dir() else 'does not exist'}: give the labelled file that was evaluated")
    if kind_of(data) not in ("jsonl", "csv", "tsv", "parquet"):
        raise DataError(f"{data} has no columns: give the labelled file, a table, that was evaluated")
    found: dict[str, str] = {}
    required = {cluster: "cluster"} | asked_id(id)
    for number, row in rows(data, columns=(cluster, id), required=required, invalid_utf8="stop", tally=Counter(), dialect=dialect):
        assert row is not None, "invalid text stops"
        place = f"{data}:{number}"
        key, value = id_of(row.get(id), f"{data.name}:{number}", place), _cluster(row[cluster], place, cluster)
        if found.setdefault(key, value) != value:
            raise DataError(f"{place}: the id {key!r} is of two clusters, {found[key]!r} and {value!r}: give the rows ids that differ")
    return found


def _cluster(value: Any, place: str, column: str) -> str:
    if value is None or value == "":
        raise DataError(f"{place}: nothing in the column '{column}': say of every row which document or user it is from")
    return str(value)


def in_clusters(file: PredictionsFile, clusters: Mapping[str, str], data: Path) -> PredictionsFile:
    """The file with the clusters that `clusters_by_id` found. Raises DataError for an id that it did not."""
    strange = next((key[0] for key in file.keys if key[0] not in clusters), None)
    if strange is not None:
        raise DataError(f"{data}: no row has the id {strange!r} of {file.origin}: give the labelled file that was evaluated (and --id)")
    return replace(file, clusters=[clusters[key[0]] for key in file.keys])


def _labels_of(task: str, values: list[Any]) -> set[str]:
    if task in WITHOUT_CLASSES:
        return set()
    return {label for each in values for label in each} if task in ("multi-label", "tokens") else set(values)


def _refuse_damaged(path: Path) -> None:
    """Raise CorruptError when a manifest binds the file and it is another: an evaluation's own, that of the model of a fine-tuning (of one
    task, or of several, whose names begin with the task's, as do those of what a task alone answered), or a cross-validation's."""
    path = path.absolute()
    # of several seeds, of a baseline
    depth = 1 if path.parent.name == "predictions" else 2 if path.parent.parent.name == "baselines" else 0
    run = path.parents[depth]
    name, of_model = path.relative_to(run).as_posix(), run / "model" / MANIFEST
    manifests = [(path.parent / MANIFEST, "files", path.name), (run / MANIFEST, "files", name)]
    manifests += [(of_model, "run", name), (of_model, "run", f"{run.name}/{name}")]
    manifests += [(run.parent / "model" / MANIFEST, "run", f"{run.parent.name}/{run.name}/{name}")]  # a task alone, beside its model
    for manifest, key, name in manifests:
        found = read_json(manifest) if manifest.is_file() else None
        if isinstance(found, dict) and SEAL in found:  # else it is none of ours
            entry = read_sealed(manifest).get(key, {}).get(name)
            if entry is not None:
                verify_file(path, entry if key == "run" else entry["sha256"])


def align(files: Sequence[PredictionsFile]) -> Aligned:
    """Bring all files into the row order and the class order of the first. Raises DataError where one is of other examples or classes."""
    first = files[0]
    predicted = []
    for file in files:
        _refuse_other_classes(first, file)
        row_of = {key: row for row, key in enumerate(file.keys)}
        _refuse_other_examples(first, file, row_of)
        predicted.append(_as_array(first, [file.predicted[row_of[key]] for key in first.keys]))
    clusters = np.unique(first.clusters, return_inverse=True)[1] if first.clusters else None
    task = "similarity" if any(file.task == "similarity" for file in files) else first.task
    return Aligned(task, first.names, _as_array(first, first.gold), np.array(predicted), clusters)


def _as_array(file: PredictionsFile, values: list[Any]) -> np.ndarray:
    """n values as class numbers (n,), truth values (n, K), numbers (n,) or tuples and texts (n,), by the file's task and names."""
    if file.task in ("tokens", "answers", "retrieval", "clustering"):
        objects = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            objects[row] = tuple(value) if isinstance(value, list) else value
        return objects
    if file.task in NUMBERS:
        return np.array(values, dtype=np.float64)
    number = {name: place for place, name in enumerate(file.names)}
    if file.task == "single-label":
        return np.array([number[label] for label in values])
    found = np.zeros((len(values), len(file.names)), dtype=bool)
    for row, labels in enumerate(values):
        found[row, [number[label] for label in labels]] = True
    return found


def _refuse_other_classes(a: PredictionsFile, b: PredictionsFile) -> None:
    if a.task != b.task and not {a.task, b.task} <= set(NUMBERS):
        raise DataError(f"{a.origin} is of a {a.task} task and {b.origin} of a {b.task} one: compare systems that do the same")
    odd = sorted(set(a.names) ^ set(b.names))
    if odd:
        where = a if odd[0] in a.names else b
        raise DataError(
            f"{b.origin} has other classes than {a.origin} ({len(odd)} differ; first: {odd[0]!r}, known to {where.origin} alone): "
            "compare models trained on the same classes"
        )


def _refuse_other_examples(a: PredictionsFile, b: PredictionsFile, row_of: dict[Key, int]) -> None:
    """Raise DataError with how many ids, texts and gold labels differ, and the first that does."""
    missing = [row for row, key in enumerate(a.keys) if key not in row_of]
    golds = [row for row, key in enumerate(a.keys) if key in row_of and a.gold[row] != b.gold[row_of[key]]]
    if len(a) == len(b) and not missing and not golds:
        return
    ids_a, ids_b = {key[0] for key in a.keys}, {key[0] for key in b.keys}
    texts = sum(a.keys[row][0] in ids_b for row in missing)
    other = "another text" if a.task != "retrieval" else "another text or pool"
    what = f"{len(ids_a ^ ids_b):,} ids are in one of them only, {texts:,} ids have {other}, {len(golds):,} another gold label"
    if missing:
        row = missing[0]
        first = f"id {a.keys[row][0]!r} " + (f"has {other}" if a.keys[row][0] in ids_b else "is missing")
    elif golds:
        row = golds[0]
        first = f"id {a.keys[row][0]!r} has gold {b.gold[row_of[a.keys[row]]]!r} and not {a.gold[row]!r}"
    else:
        known = set(a.keys)
        extra = next(key for key in b.keys if key not in known)
        first = f"id {extra[0]!r} is only there"
    renamed = Counter(key[1] for key in a.keys) == Counter(key[1] for key in b.keys) and not ids_a & ids_b
    hint = "the texts are the same ones: score both on the same file, or give it an id column" if renamed else "score both on the same file"
    raise DataError(f"{b.origin} is not of the same examples as {a.origin}: {what} (first: {first}): {hint}")
