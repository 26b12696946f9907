"""Predictions files are brought into one order by id, text and gold, and what is not of the same examples is refused with numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.errors import BertlabError, ConfigError, CorruptError, DataError
from bertlab.evaluation.alignment import align, read_predictions
from bertlab.evaluation.predictions import write_number_predictions, write_predictions, write_set_predictions

NAMES = ["no", "yes", "perhaps"]
IDS, HASHES, GOLD = ["a", "b", "c", "d"], ["1" * 64, "2" * 64, "3" * 64, "4" * 64], [0, 1, 2, 1]


def write(
    path: Path,
    predicted: list[int],
    order: tuple[int, ...] = (0, 1, 2, 3),
    names: list[str] = NAMES,
    ids: list[str] = IDS,
    hashes: list[str] = HASHES,
    gold: list[int] | None = GOLD,
) -> Path:
    """A predictions file as `bertlab evaluate` writes it, its rows in another order; class numbers are over NAMES."""
    places = [names.index(NAMES[number]) for number in predicted]
    write_predictions(
        path,
        ids=[ids[row] for row in order],
        text_hashes=[hashes[row] for row in order],
        gold=None if gold is None else [names.index(NAMES[gold[row]]) for row in order],
        probabilities=np.eye(len(names))[[places[row] for row in order]],
        names=names,
    )
    return path


def test_rows_and_classes_in_another_order_are_brought_into_that_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", [0, 1, 2, 0])
    other = write(tmp_path / "b.parquet", [1, 2, 0, 1], order=(2, 0, 3, 1), names=["yes", "perhaps", "no"])
    aligned = align([read_predictions(first), read_predictions(other)])
    assert aligned.names == NAMES and aligned.gold.tolist() == GOLD and aligned.clusters is None
    assert aligned.predicted.tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]]


def test_an_example_that_is_there_twice_is_matched_twice(tmp_path: Path) -> None:
    ids, hashes = ["a", "a", "a", "d"], ["1" * 64, "1" * 64, "3" * 64, "4" * 64]
    first = write(tmp_path / "a.parquet", [0, 1, 2, 0], ids=ids, hashes=hashes, gold=[0, 0, 2, 1])
    other = write(tmp_path / "b.parquet", [0, 1, 2, 0], order=(3, 2, 0, 1), ids=ids, hashes=hashes, gold=[0, 0, 2, 1])
    assert align([read_predictions(first), read_predictions(other)]).predicted.tolist() == [[0, 1, 2, 0], [0, 1, 2, 0]]
    fewer = write(tmp_path / "c.parquet", [0, 1, 2, 0], order=(0, 2, 3), ids=ids, hashes=hashes, gold=[0, 0, 2, 1])
    with pytest.raises(DataError, match="not of the same examples"):
        align([read_predictions(first), read_predictions(fewer)])
    with pytest.raises(DataError, match="not of the same examples"):
        align([read_predictions(fewer), read_predictions(first)])


def refusal(*files: Path) -> str:
    with pytest.raises(BertlabError) as caught:
        align([read_predictions(file) for file in files])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_others_examples_are_refused_with_how_many_differ_and_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", [0, 0, 0, 0])
    other_ids = write(tmp_path / "ids.parquet", [0, 0, 0, 0], ids=["a", "b", "x", "y"])
    assert "4 ids are in one of them only, 0 ids have another text, 0 another gold label (first: id 'c' is missing)" in refusal(
        first, other_ids
    )
    other_text = write(tmp_path / "text.parquet", [0, 0, 0, 0], hashes=[*HASHES[:2], "9" * 64, HASHES[3]])
    assert "0 ids are in one of them only, 1 ids have another text" in refusal(first, other_text)
    assert "(first: id 'c' has another text)" in refusal(first, other_text)
    for file in (first, other_text):  # of a query the hash is of the pool, too
        table = pq.read_table(file)
        lists = [[[label] for label in table[name].to_pylist()] for name in ("gold", "predicted")]
        for name, values in zip(("gold", "predicted"), lists, strict=True):
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        pq.write_table(table.replace_schema_metadata({"task": "retrieval"}), file.with_name(f"r-{file.name}"))
    assert "(first: id 'c' has another text or pool)" in refusal(*(file.with_name(f"r-{file.name}") for file in (first, other_text)))
    other_gold = write(tmp_path / "gold.parquet", [0, 0, 0, 0], gold=[0, 0, 0, 1])
    message = refusal(first, other_gold)
    assert "2 another gold label (first: id 'b' has gold 'no' and not 'yes')" in message
    assert message.startswith(f"{other_gold} is not of the same examples as {first}")
    more = write(tmp_path / "more.parquet", [0] * 5, (0, 1, 2, 3, 4), ids=[*IDS, "e"], hashes=[*HASHES, "5" * 64], gold=[*GOLD, 0])
    assert "1 ids are in one of them only" in refusal(first, more) and "(first: id 'e' is only there)" in refusal(first, more)
    renamed = write(tmp_path / "renamed.parquet", [0, 0, 0, 0], ids=["x:1", "x:2", "x:3", "x:4"])
    assert "8 ids" in refusal(first, renamed) and "the texts are the same ones" in refusal(first, renamed)
    assert "the texts are the same ones" not in refusal(first, other_ids)


def test_models_of_other_classes_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", [0, 0, 0, 0])
    other = write(tmp_path / "b.parquet", [0, 0, 0, 0], names=[*NAMES, "never"])
    for files in ((first, other), (other, first)):
        assert "has other classes than" in refusal(*files) and f"first: 'never', known to {other} alone" in refusal(*files)


def test_clusters_are_numbered_by_the_column_of_the_first_file(tmp_path: Path) -> None:
    first, other = write(tmp_path / "a.parquet", [0, 0, 0, 0]), write(tmp_path / "b.parquet", [1, 0, 0, 0], order=(3, 2, 1, 0))
    for path, users in ((first, ["u", "t", "u", "t"]), (other, ["t", "u", "t", "u"])):
        pq.write_table(pq.read_table(path).append_column("user", pa.array(users)), path)
    files = [read_predictions(path, "user") for path in (first, other)]
    assert align(files).clusters is not None and align(files).clusters.tolist() == [1, 0, 1, 0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no column 'document'"):
        read_predictions(first, "document")


def test_what_is_no_predictions_file_is_refused_in_one_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", [0, 1, 2, 0])
    (tmp_path / "text.parquet").write_text("not Parquet\n")
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-100])
    table = pq.read_table(good)
    pq.write_table(table.drop_columns(["gold"]), tmp_path / "column.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "labels.parquet")
    pq.write_table(table.replace_schema_metadata({"labels": json.dumps(["no", "yes"])}), tmp_path / "stray.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    write(tmp_path / "unknown.parquet", [0, 1, 2, 0], gold=None)

    def refused(name: str, kind: type[BertlabError]) -> str:
        with pytest.raises(kind) as caught:
            read_predictions(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)
        return str(caught.value)

    assert "does not exist" in refused("nothing.parquet", ConfigError) and "is a folder" in refused("", ConfigError)
    assert "not a predictions file" in refused("text.parquet", CorruptError)
    assert "not a predictions file" in refused("cut.parquet", CorruptError)
    assert "no column 'gold'" in refused("column.parquet", DataError)
    assert "does not list its classes" in refused("labels.parquet", CorruptError)
    assert "label 'perhaps' is not among the classes" in refused("stray.parquet", CorruptError)
    assert "no rows" in refused("empty.parquet", DataError)
    assert "4 of 4 rows have no gold label" in refused("unknown.parquet", DataError)


def test_sets_and_numbers_are_aligned_and_kinds_are_not_mixed(tmp_path: Path) -> None:
    gold, predicted = np.eye(4, 3, dtype=bool), np.eye(4, 3, 1, dtype=bool)
    for name, order, names in (("a", [0, 1, 2, 3], [0, 1, 2]), ("b", [3, 1, 0, 2], [2, 0, 1])):
        common: dict[str, Any] = {"ids": [IDS[row] for row in order], "text_hashes": [HASHES[row] for row in order]}
        columns = {"gold": gold[order][:, names], "predicted": predicted[order][:, names], "probabilities": np.ones((4, 3))}
        write_set_predictions(tmp_path / f"sets-{name}.parquet", names=[NAMES[number] for number in names], **common, **columns)  # type: ignore[arg-type]
        numbers = np.arange(4.0)
        values = numbers[order]
        write_number_predictions(tmp_path / f"numbers-{name}.parquet", gold=values, predicted=values / 2, **common)
    sets = align([read_predictions(tmp_path / f"sets-{name}.parquet") for name in "ab"])
    assert sets.task == "multi-label" and sets.names == NAMES and (sets.gold == gold).all() and (sets.predicted == predicted).all()
    numbers_of_both = align([read_predictions(tmp_path / f"numbers-{name}.parquet") for name in "ab"])
    assert numbers_of_both.gold.tolist() == [0, 1, 2, 3] and numbers_of_both.predicted.tolist() == [[0, 0.5, 1, 1.5]] * 2
    single = write(tmp_path / "single.parquet", [0, 1, 2, 0])
    assert "is of a single-label task and" in refusal(single, tmp_path / "sets-a.parquet")
    table = pq.read_table(tmp_path / "sets-a.parquet")
    pq.write_table(table.replace_schema_metadata({"labels": json.dumps(["no", "yes"]), "task": "multi-label"}), tmp_path / "stray.parquet")
    with pytest.raises(CorruptError, match="label 'perhaps' is not among the classes"):
        read_predictions(tmp_path / "stray.parquet")
    pq.write_table(table.replace_schema_metadata({"labels": json.dumps(NAMES), "task": "ranking"}), tmp_path / "unknown.parquet")
    with pytest.raises(CorruptError, match="an unknown kind of task, 'ranking'"):
        read_predictions(tmp_path / "unknown.parquet")
