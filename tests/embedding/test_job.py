"""Jobs: parts of runs, the same file whatever was there before, who made it and how often it was cut off; what it is bound to."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertlab.corpus.sources import File
from bertlab.embedding import job as jobs
from bertlab.embedding.engine import Embedder, What
from bertlab.embedding.job import Kept, Planned, Texts
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.vectors import read_vectors
from bertlab.model.pooling import Recorded

WHAT, KEPT = What(pooling="mean"), Kept(normalize=True)


@pytest.fixture
def source(tmp_path: Path, texts_of: Callable[..., list[str]]) -> Texts:
    """45 texts in parts of 10: an odd last part."""
    rows = [{"id": f"row {number}", "text": text} for number, text in enumerate(texts_of(45))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Texts(files=(File(tmp_path / "rows.jsonl", "rows.jsonl"),), part=10)


def texts_in(source: Texts) -> list[str]:
    return [text for run in source.runs() for text in run.texts]


def work(
    source: Texts, folder: Path, embedder: Embedder, wanted: list[Planned] | None = None, kept: Kept = KEPT, what: What = WHAT
) -> list[int]:
    """Compute the parts that are missing, or `wanted`; returns how many texts each part had."""
    folder.mkdir(exist_ok=True)
    passed: list[int] = []
    lacking = jobs.missing(jobs.plan(source, "job"), folder) if wanted is None else wanted
    jobs.compute(source, "job", lacking, folder, embedder, what, kept, lambda rows, tokens: passed.append(rows))
    return passed


def made(source: Texts, folder: Path, output: Path, embedder: Embedder, kept: Kept = KEPT, what: What = WHAT) -> bytes:
    width = jobs.stored_width(embedder, kept)
    jobs.assemble(jobs.plan(source, "job"), folder, output, width, what, kept)
    return output.read_bytes()


def test_the_file_has_the_vectors_of_the_texts_in_their_order(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    assert work(source, tmp_path / "parts", embedder) == [10, 10, 10, 10, 5]
    made(source, tmp_path / "parts", tmp_path / "v.parquet", embedder)
    ids, vectors = read_vectors(tmp_path / "v.parquet")
    expected = embedder.vectors(embedder.encode(texts_in(source)), WHAT)
    assert ids == [f"row {number}" for number in range(45)]
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_the_memory_of_a_part_is_given_back_when_it_is_written(
    source: Texts, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a million texts take twice what twenty thousand do (docs/embeddings.md)."""
    there: list[int] = []
    monkeypatch.setattr(jobs, "give_back_freed_memory", lambda: there.append(len(list((tmp_path / "parts").iterdir()))))
    work(source, tmp_path / "parts", embedder)
    assert there == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["v.parquet", "v.npy"])
def test_a_job_cut_off_anywhere_and_shared_in_any_way_gives_the_same_bytes(
    source: Texts, embedder: Embedder, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(source, tmp_path / "whole", embedder)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = made(source, tmp_path / "whole", tmp_path / "a" / name, embedder)
    planned = jobs.plan(source, "job")

    class Cut(Exception):
        pass

    write = jobs.write_part
    written: list[Path] = []

    def cut_off(*given: Any) -> None:
        if len(written) == 2:
            raise Cut
        written.append(given[0])
        write(*given)

    monkeypatch.setattr(jobs, "write_part", cut_off)
    with pytest.raises(Cut):
        work(source, tmp_path / "cut", embedder)
    monkeypatch.undo()
    assert [jobs.part_path(tmp_path / "cut", each) for each in planned[:2]] == written
    for rank in (1, 0):  # two others share what is left, the last first
        assert work(source, tmp_path / "cut", embedder, wanted=planned[2:][rank::2]) == ([10] if rank else [10, 5])
    assert made(source, tmp_path / "cut", tmp_path / "b" / name, embedder) == whole
    assert [path.name for path in (tmp_path / "a").iterdir()] == [path.name for path in (tmp_path / "b").iterdir()]
    assert work(source, tmp_path / "cut", embedder) == []


def test_vectors_do_not_depend_on_how_many_texts_make_a_part(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    work(source, tmp_path / "tens", embedder)
    sevens = replace(source, part=7)
    work(sevens, tmp_path / "sevens", embedder)
    assert made(source, tmp_path / "tens", tmp_path / "a.npy", embedder) == made(sevens, tmp_path / "sevens", tmp_path / "b.npy", embedder)


def test_texts_are_read_to_their_end_before_any_is_embedded(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    with (tmp_path / "rows.jsonl").open("a") as stream:
        stream.write('{"id": 1}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:46: this row has no 'text'"):
        jobs.plan(source, "job")
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match="no rows"):
        jobs.plan(source, "job")


def test_parts_of_other_texts_are_not_taken_for_these(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    work(source, tmp_path / "parts", embedder)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join([*lines[:25], lines[25].replace("row 25", "row X"), *lines[26:]]))
    assert [planned.rows for planned in jobs.missing(jobs.plan(source, "job"), tmp_path / "parts")] == [10]
    assert len(jobs.missing(jobs.plan(source, "another job"), tmp_path / "parts")) == 5


def test_runs_of_equal_ids_and_texts_are_parts_of_their_own(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "one", "text": "the sea"}\n' * 20)
    assert work(source, tmp_path / "parts", embedder) == [10, 10]
    made(source, tmp_path / "parts", tmp_path / "v.npy", embedder)
    ids, vectors = read_vectors(tmp_path / "v.npy")
    assert ids == ["one"] * 20 and len(np.unique(vectors, axis=0)) == 1


def test_texts_that_change_while_they_are_read_are_refused(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    planned = jobs.plan(source, "job")
    text = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(text.replace("row 30", "row Y"))
    with pytest.raises(DataError, match="the texts changed while they were read"):
        work(source, tmp_path / "parts", embedder, wanted=planned)


def test_a_damaged_part_is_one_line_and_made_again(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    work(source, tmp_path / "parts", embedder)
    whole = made(source, tmp_path / "parts", tmp_path / "a.npy", embedder)
    part = jobs.part_path(tmp_path / "parts", jobs.plan(source, "job")[2])
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(CorruptError, match=r"is not the part that was written.*give the same command again"):
        made(source, tmp_path / "parts", tmp_path / "b.npy", embedder)
    assert not (tmp_path / "b.npy").exists() and not list(tmp_path.glob(".tmp-*"))
    assert work(source, tmp_path / "parts", embedder) == [10]
    assert made(source, tmp_path / "parts", tmp_path / "b.npy", embedder) == whole


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("name", ["v.parquet", "v.npy"])
def test_fewer_bits_and_dims_come_back_near_and_the_loss_is_that_of_the_file(
    source: Texts, embedder: Embedder, tmp_path: Path, name: str, numbers: Any
) -> None:
    kept = Kept(normalize=True, dims=8, numbers=numbers)
    work(source, tmp_path / "parts", embedder, kept=kept)
    width = jobs.stored_width(embedder, kept)
    said = jobs.assemble(jobs.plan(source, "job"), tmp_path / "parts", tmp_path / name, width, WHAT, kept)
    ids, vectors = read_vectors(tmp_path / name)
    exact = embedder.vectors(embedder.encode(texts_in(source)), WHAT)
    assert len(ids) == 45 and vectors.shape == (45, 8) and width == (1 if numbers == "binary" else 8)
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors.astype(np.float64), exact[:, :8].astype(np.float64))]
    cosines = (units[0] * units[1]).sum(axis=1)
    assert said["loss"]["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert said["loss"]["lowest_cosine"] == pytest.approx(cosines.min(), abs=1e-6)
    assert said["loss"]["pairs"] == 4 * 9 + 4 and 0 < said["loss"]["spearman"] <= 1
    assert cosines.min() > {"float32": 1 - 1e-6, "float16": 1 - 1e-5, "int8": 0.999, "binary": 0.5}[numbers]
    assert said["rows"] == 45 and said["empty"] == texts_in(source).count("")


def test_whole_float32_vectors_lose_nothing_and_nothing_is_said(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    work(source, tmp_path / "parts", embedder)
    assert jobs.assemble(jobs.plan(source, "job"), tmp_path / "parts", tmp_path / "v.npy", 16, WHAT, KEPT)["loss"] is None


def test_tokens_have_a_row_each_with_their_place_and_name(source: Texts, embedder: Embedder, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    what, kept = What(pooling=None), Kept()
    work(source, tmp_path / "parts", embedder, kept=kept, what=what)
    said = jobs.assemble(jobs.plan(source, "job"), tmp_path / "parts", tmp_path / "v.parquet", 16, what, kept)
    table = pq.read_table(tmp_path / "v.parquet")
    examples = embedder.encode(texts_in(source))
    assert table.column_names == ["id", "place", "token", "vector"] and said["rows"] == len(table) == len(examples.ids)
    first = table.slice(0, int(examples.lengths[0])).to_pydict()
    assert set(first["id"]) == {"row 0"} and first["place"] == list(range(int(examples.lengths[0])))
    assert first["token"][0] == "[CLS]" and first["token"][-1] == "[SEP]"
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.parquet")[1], embedder.vectors(examples, what))


def test_settings_that_do_not_fit_the_model_are_refused(embedder: Embedder) -> None:
    with pytest.raises(ConfigError, match="dims=17"):
        jobs.stored_width(embedder, Kept(dims=17))
    with pytest.raises(ConfigError, match="whole bytes"):
        jobs.stored_width(embedder, Kept(dims=12, numbers="binary"))


def test_a_job_is_known_by_all_that_its_vectors_depend_on(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(files: dict[str, str] | None = None, what: What = WHAT, kept: Kept = KEPT) -> str:
        return jobs.job_sha256(embedder, files or {"model.safetensors": "1"}, what, kept)

    others = [
        known({"model.safetensors": "2"}),
        known(what=What(pooling="cls")),
        known(what=What(pooling="mean", layers=(1,))),
        known(kept=Kept()),
        known(kept=Kept(normalize=True, dims=8)),
        known(kept=Kept(normalize=True, numbers="int8")),
    ]
    monkeypatch.setattr(jobs.bertlab, "__version__", "0.0.0")
    others.append(known())
    monkeypatch.undo()
    for name, value in (("max_length", 12), ("recorded", Recorded(prompt="the river ")), ("device", torch.device("meta"))):
        with monkeypatch.context() as patch:
            patch.setattr(embedder, name, value)
            others.append(known())
    monkeypatch.setattr(embedder, "threads", 7)
    assert known() not in others and len(set(others)) == len(others)


def test_the_next_item_is_made_while_this_one_is_used_and_errors_come_in_their_place() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 4):
            made.append(number)
            yield number
        raise DataError("the end is damaged")

    seen = []
    with pytest.raises(DataError, match="damaged"):
        for item in jobs._ahead(items()):
            seen.append(item)
            assert len(made) <= item + 1, "one ahead, no more"
    assert seen == [1, 2, 3]
