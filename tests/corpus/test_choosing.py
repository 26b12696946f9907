"""Choosing: the first of two copies is kept, near-copies go, weights repeat or leave out, held-out documents come once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertlab.corpus.choosing import Choice, choose
from bertlab.corpus.document import Document
from bertlab.corpus.identity import held_out, normalised_sha256
from bertlab.corpus.reading import SCHEMA, Read, Recipe, treat
from bertlab.corpus.units import Unit

STORY = "The old mill stands by the river and its wheel has turned there since the year the town was built by hand. " * 3


def unit(folder: Path, number: int, texts: list[str], *, run: int = 3) -> Read:
    path = folder / f"unit{number}-{len(list(folder.iterdir()))}"
    given = [Document(f"{number}:{place}", "x", text) for place, text in enumerate(texts)]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for first in range(0, len(given), run):
            writer.write_batch(treat(given[first : first + run], Recipe(signatures=True))[0])
    return Read(Unit(number, f"source {number}", (), str(number)), path, {}, [], [])


def chosen(
    folder: Path, *units: Read, near: float | None = None, weights: tuple[float, ...] = (1.0, 1.0, 1.0), heldout: float = 0.0
) -> Choice:
    return choose(units, near=near, weights=weights, heldout=heldout, folder=folder)


def times(choice: Choice) -> list[list[int]]:
    return [unit.tolist() for unit in choice.times]


def test_of_copies_the_first_in_order_is_kept_across_units_and_runs(tmp_path: Path) -> None:
    units = [unit(tmp_path, 0, ["A a.", "B b.", "a  A.", "", "C c."]), unit(tmp_path, 1, ["B b.", "D d.", "D d.", "c c."])]
    choice = chosen(tmp_path, *units)
    assert times(choice) == [[1, 1, 0, 0, 1], [0, 1, 0, 0]]
    assert choice.counts == Counter({"in": 9, "kept": 4, "duplicate": 4, "empty": 1})
    assert choice.per_source == {0: Counter({"in": 5, "kept": 3}), 1: Counter({"in": 4, "kept": 1})}
    assert not choice.heldout and len(list(tmp_path.iterdir())) == 2  # nothing of the comparison stays


def test_near_copies_go_only_where_they_are_asked_for(tmp_path: Path) -> None:
    other = "A quite different text about ships, harbours and the price of salt in the winter of that year. " * 3
    units = [unit(tmp_path, 0, [STORY, other]), unit(tmp_path, 1, [STORY + "The end.", "", other.upper(), "Short one."])]
    assert times(chosen(tmp_path, *units)) == [[1, 1], [1, 0, 0, 1]]
    choice = chosen(tmp_path, *units, near=0.8)
    assert times(choice) == [[1, 1], [0, 0, 0, 1]]
    assert choice.counts == Counter({"in": 6, "kept": 3, "near_duplicate": 1, "duplicate": 1, "empty": 1})


def test_no_document_is_dropped_for_one_that_was_dropped_itself(tmp_path: Path) -> None:
    choice = chosen(tmp_path, unit(tmp_path, 0, ["", " ", "Alone here.", "\u200b", "And here."]), near=0.5)
    assert times(choice) == [[0, 0, 1, 0, 1]]


def test_weights_repeat_whole_times_and_leave_out_by_a_hash_of_the_text(tmp_path: Path) -> None:
    texts = [f"Document number {number} of many." for number in range(400)]
    units = [unit(tmp_path, number, [f"{text} Of {number}." for text in texts]) for number in range(3)]
    choice = chosen(tmp_path, *units, weights=(0.25, 1.0, 2.5))
    few, one, many = (np.array(each) for each in times(choice))
    assert set(few) == {0, 1} and 60 < few.sum() < 140  # 100, within 4.6 standard deviations
    assert set(one) == {1} and set(many) == {2, 3} and 140 < (many == 3).sum() < 260
    assert choice.counts["weight"] == 400 - few.sum()
    assert choice.counts["in"] == choice.counts["kept"] + choice.counts["weight"] == 1200
    # documents, not how often they come
    assert choice.per_source == {number: Counter({"in": 400, "kept": kept}) for number, kept in enumerate((few.sum(), 400, 400))}
    reversed_units = [unit(tmp_path, number, [f"{text} Of {number}." for text in texts[::-1]]) for number in range(3)]
    again = chosen(tmp_path, *reversed_units, weights=(0.25, 1.0, 2.5))
    assert [each[::-1].tolist() for each in again.times] == times(choice)


def test_held_out_documents_come_once_and_are_those_of_the_hashes(tmp_path: Path) -> None:
    texts = [f"Document number {number}." for number in range(60)]
    choice = chosen(tmp_path, unit(tmp_path, 0, texts), weights=(3.0,), heldout=0.1)
    assert choice.heldout == held_out(list(map(normalised_sha256, texts)), 0.1) and len(choice.heldout) == 6
    for text, often in zip(texts, times(choice)[0], strict=True):
        assert often == (1 if normalised_sha256(text) in choice.heldout else 3)
    assert len(chosen(tmp_path, unit(tmp_path, 0, texts[:10]), heldout=0.2).heldout) == 2
    alone = chosen(tmp_path, unit(tmp_path, 0, texts[:10]), weights=(3.0,), heldout=0.1)  # one document makes no pair to measure on
    assert not alone.heldout and times(alone) == [[3] * 10]


@pytest.mark.parametrize("heldout", [0.0, 0.2])
def test_nothing_read_is_nothing_chosen(tmp_path: Path, heldout: float) -> None:
    choice = chosen(tmp_path, unit(tmp_path, 0, []), near=0.8, heldout=heldout)
    assert times(choice) == [[]] and choice.counts == Counter({"in": 0, "kept": 0})
