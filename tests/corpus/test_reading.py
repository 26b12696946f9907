"""Reading: the same rows for any number of processes, units whole or absent, every reason to drop counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bertlab.corpus import reading
from bertlab.corpus.cleaning import Cleaning
from bertlab.corpus.document import Document
from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.keep_out import fingerprints
from bertlab.corpus.reading import SCHEMA, Read, Recipe, crew, read_all, read_unit, recipe_sha256, treat
from bertlab.corpus.sources import How
from bertlab.corpus.units import source_files, units_of
from bertlab.corpus.wikitext import Site
from bertlab.errors import DataError

LEAK = "the quick brown fox jumps over the lazy dog while thirteen old men watch"


def documents(number: int) -> list[Document]:
    return [Document(f"d{n}", "made up", f"Sentence one of {n}. Dr. Smith wrote sentence two.\nA paragraph {n}.") for n in range(number)]


def write_files(folder: Path, count: int = 4) -> None:
    folder.mkdir()
    for number in range(count):
        texts = [document.text.replace("one of", f"{number} one of") for document in documents(6)]
        (folder / f"{number}.txt").write_text("\n\n".join(texts))


def all_read(tmp_path: Path, work: str, workers: int | None = 1, how: How | None = None, recipe: Recipe | None = None) -> list[Read]:
    return read_all(source_files(str(tmp_path / "in"), 0, tmp_path), tmp_path / work, how or How(), recipe or Recipe(), workers)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_document_becomes_a_row_with_its_sentences_and_the_hash_of_its_text() -> None:
    batch, changed = treat(documents(2), Recipe())
    assert batch.schema == SCHEMA and not changed
    assert batch.column("sentences").to_pylist()[1] == ["Sentence one of 1.", "Dr. Smith wrote sentence two.", "A paragraph 1."]
    assert batch.column("sha256").to_pylist() == [normalised_sha256(document.text) for document in documents(2)]
    assert batch.column("characters").to_pylist() == [18 + 29 + 14] * 2
    assert batch.column("reason").to_pylist() == ["", ""] and batch.column("signature").null_count == 2


def test_every_way_to_be_dropped_has_its_reason_and_leaves_no_sentence() -> None:
    texts = ["Words that are kept because there are enough of them.", " \n ", "Few words.", f"It says: {LEAK.upper()}, and more.", "\u200b"]
    recipe = Recipe(cleaning=Cleaning(min_words=4), keep_out=fingerprints([LEAK]), signatures=True)
    batch, changed = treat([Document(str(n), "x", text) for n, text in enumerate(texts)], recipe)
    assert batch.column("reason").to_pylist() == ["", "empty", "too_short", "kept_out", "empty"]
    assert [bool(sentences) for sentences in batch.column("sentences").to_pylist()] == [True, False, False, False, False]
    assert changed["control_characters"] == 1
    marks = batch.column("signature").to_pylist()
    assert len(set(marks)) == 2 and marks[1:] == [b"\xff" * 512] * 4  # of no words: like no other


def test_of_two_reasons_cleanings_is_told_before_that_of_a_test_set() -> None:
    recipe = Recipe(cleaning=Cleaning(max_words=5), keep_out=fingerprints([LEAK]))
    batch, _ = treat([Document("1", "x", LEAK), Document("2", "x", "It rained.")], recipe)
    assert batch.column("reason").to_pylist() == ["too_long", ""]


def test_wikitext_is_told_by_its_site() -> None:
    page = Document("1", "x", "'''Bold''' [[link|words]] stay.{{cite|gone}}", site=Site())
    plain = Document("2", "x", "'''Bold''' words stay.")
    assert treat([page, plain], Recipe())[0].column("sentences").to_pylist() == [["Bold words stay."], ["'''Bold''' words stay."]]


def test_any_number_of_processes_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RUN_CHARACTERS", 100)
    write_files(tmp_path / "in")
    recipe = Recipe(signatures=True, keep_out=fingerprints([LEAK]))
    for workers in (1, 2, 3):
        all_read(tmp_path, str(workers), workers, recipe=recipe)
    one, two, three = (tree(tmp_path / str(workers)) for workers in (1, 2, 3))
    assert one == two == three and len(one) == 2


def test_what_was_finished_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertlab.corpus.units.UNIT_BYTES", 1)  # each file is a unit
    write_files(tmp_path / "in")
    all_read(tmp_path, "whole")
    expected = tree(tmp_path / "whole")
    calls: Counter[str] = Counter()
    inner = reading.treat

    def failing(given: list[Document], recipe: Recipe) -> Any:
        calls["treat"] += 1
        if calls["treat"] == 3:
            raise KeyboardInterrupt
        return inner(given, recipe)

    monkeypatch.setattr(reading, "treat", failing)
    with pytest.raises(KeyboardInterrupt):
        all_read(tmp_path, "cut off")
    left = tree(tmp_path / "cut off")
    assert len(left) == 4 and left.items() <= expected.items()  # two units, each with its counts; nothing half
    (tmp_path / "cut off" / ".tmp-of-a-kill").write_text("half")
    all_read(tmp_path, "cut off")
    assert tree(tmp_path / "cut off") == expected
    assert calls["treat"] == 3 + 2


def test_nothing_stays_where_no_unit_was_finished(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("no JSON")
    with pytest.raises(DataError, match=r"a\.jsonl:1"):
        all_read(tmp_path, "work")
    assert not (tmp_path / "work").exists()


def test_counts_licences_and_warnings_come_back_with_a_unit(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"good\n\nbad \xff\xfe\n")
    (again,) = all_read(tmp_path, "work")[:1]
    (read,) = all_read(tmp_path, "work")
    assert (read.tally, read.licences, read.warnings) == (again.tally, again.licences, again.warnings)
    assert read.tally == {"bytes": 13, "invalid_utf8": 2, "text_documents": 2, "text_files": 1, "text_long": 0} and read.licences == [""]
    assert json.loads((tmp_path / "work" / f"{read.unit.key}.json").read_text())["tally"] == read.tally
    (batch,) = read.batches()
    assert batch.column("id").to_pylist() == ["in/a.txt:1", "in/a.txt:3"]


def test_progress_is_told_in_bytes_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RUN_CHARACTERS", 100)
    write_files(tmp_path / "in", 1)
    (unit,) = units_of(source_files(str(tmp_path / "in"), 0, tmp_path))
    told: list[int] = []
    (tmp_path / "work").mkdir()
    with crew(Recipe(), 1) as treated:
        read_unit(unit, tmp_path / "work", How(), treated, told.append)
    assert told and told == sorted(told) and told[-1] <= (tmp_path / "in" / "0.txt").stat().st_size


def test_another_recipe_is_another_hash() -> None:
    base = recipe_sha256(How(), Recipe())
    others = [
        (How(text_column="body"), Recipe()),
        (How(document_end="file"), Recipe()),
        (How(), Recipe(language="de")),
        (How(), Recipe(signatures=True)),
        (How(), Recipe(cleaning=Cleaning(min_words=3))),
        (How(), Recipe(keep_out=fingerprints([LEAK]))),
        (How(), Recipe(keep_out=fingerprints([LEAK[4:]]))),
    ]
    hashes = {recipe_sha256(how, recipe) for how, recipe in others}
    assert len(hashes | {base}) == len(others) + 1
    assert recipe_sha256(How(warnings=["said before"]), Recipe()) == base


def test_a_process_that_dies_is_one_line_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    with crew(Recipe(splitter="regex"), 2) as treated, pytest.raises(DataError, match="was killed.*fewer workers"):
        list(treated(iter([[Document("1", "x", "text", site=_Deadly())]])))  # type: ignore[arg-type]


class _Deadly:
    """Ends the process that unpacks it."""

    def __reduce__(self) -> Any:
        import os

        return os._exit, (9,)


def test_rows_are_an_arrow_file_that_anyone_can_open(tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1)
    (read,) = all_read(tmp_path, "work")
    with pa.OSFile(str(read.path)) as source:
        assert pa.ipc.open_file(source).read_all().num_rows == 6
