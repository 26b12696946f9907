"""An opened file of vectors gives back what was written, in blocks, by its ids and texts, and with no other model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.disk import hash_some, read_sealed, write_sealed
from bertlab.embedding import index as opened
from bertlab.embedding.approximate import measured_recall, open_graph, propose
from bertlab.embedding.index import blocks, embedder_of, ids_of, open_index, query_vectors, texts_of, texts_source
from bertlab.embedding.nearest import exact_nearest
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.vectors import read_vectors
from bertlab.verbs import embed

FILES = [
    ("v.npy", {}),
    ("v.npy", {"numbers": "int8"}),
    ("v.parquet", {}),
    ("v.parquet", {"numbers": "int8"}),
    ("v.parquet", {"numbers": "binary"}),
]


@pytest.fixture
def texts(tmp_path: Path, texts_of: Any) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": f"number {n}", "said": text}) + "\n" for n, text in enumerate(texts_of(40))))
    return path


def made(folder: str, texts: Path, output: Path, **settings: Any) -> Path:
    embed.run(embed.Config(model=folder, input=str(texts), output=str(output), text="said", device="cpu", part=7, **settings))
    return output


@pytest.mark.parametrize("name, settings", FILES)
@pytest.mark.parametrize("size", [3, 4096])
def test_blocks_end_to_end_are_the_vectors_and_begin_again_at_any_of_them(
    folder: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: Any, size: int
) -> None:
    monkeypatch.setattr(opened, "BLOCK_ROWS", size)
    index = open_index(made(folder, texts, tmp_path / name, **settings))
    ids, expected = read_vectors(index.path)
    parts = list(blocks(index))
    np.testing.assert_array_equal(np.concatenate([vectors for _, vectors in parts]), expected)
    assert [first for first, _ in parts] == np.cumsum([0, *(len(vectors) for _, vectors in parts)])[:-1].tolist()
    assert max(len(vectors) for _, vectors in parts) <= size
    for number, (first, _) in enumerate(parts):
        again = list(blocks(index, first))
        assert [start for start, _ in again] == [start for start, _ in parts[number:]]
        np.testing.assert_array_equal(again[0][1], parts[number][1])
    assert ids_of(index, [0, 13, 39]) == {row: ids[row] for row in (0, 13, 39)}


def test_a_query_that_is_one_of_the_texts_is_the_vector_of_its_row(folder: str, texts: Path, tmp_path: Path, texts_of: Any) -> None:
    ways: list[dict[str, Any]] = [{}, {"pooling": "max", "layer": (1, -1)}, {"dims": 8, "normalize": True}]
    for number, settings in enumerate(ways):
        index = open_index(made(folder, texts, tmp_path / f"v{number}.npy", **settings))
        vectors = query_vectors(index, embedder_of(index, device="cpu"), texts_of(40)[3:5])
        np.testing.assert_array_equal(vectors, read_vectors(index.path)[1][3:5])


def test_texts_are_known_by_their_rows_and_only_where_they_are_what_was_embedded(
    folder: str, texts: Path, tmp_path: Path, texts_of: Any
) -> None:
    written = texts_of(40)
    index = open_index(made(folder, texts, tmp_path / "v.npy"))
    files = texts_source(index)
    assert files and index.origin["text"] == "said"
    assert opened.texts_of(index, files, [39, 2], "said") == {2: written[2], 39: written[39]}
    elsewhere = tmp_path / "moved.jsonl"
    texts.rename(elsewhere)
    assert texts_source(index) is None
    assert texts_source(index, str(elsewhere)) is not None
    elsewhere.write_text(elsewhere.read_text().replace("river", "rivet", 1))
    with pytest.raises(DataError, match="is not what .* was made from"):
        texts_source(index, str(elsewhere))


def test_texts_of_a_folder_are_known_by_the_hash_of_each_file(folder: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, text in (("a.txt", "the old river\nbirds\n"), ("b.txt", "a stone hill\n")):
        (tmp_path / "in" / name).write_text(text)
    embed.run(embed.Config(model=folder, input=str(tmp_path / "in"), output=str(tmp_path / "v.npy"), device="cpu"))
    index = open_index(tmp_path / "v.npy")
    files = texts_source(index)
    assert files and texts_of(index, files, [1, 2], "text") == {1: "birds", 2: "a stone hill"}
    (tmp_path / "in" / "b.txt").write_text("a stone hall\n")
    assert texts_source(index) is None


def test_another_model_is_refused_by_name_and_one_that_moved_is_found_by_its_option(folder: str, texts: Path, tmp_path: Path) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    index = open_index(made(str(mine), texts, tmp_path / "v.npy"))
    mine.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="which is not there: give --model FOLDER"):
        embedder_of(index)
    assert embedder_of(index, str(tmp_path / "moved"), "cpu").max_length == 24
    shutil.copytree(tmp_path / "moved", tmp_path / "run" / "model")
    with pytest.raises(ConfigError, match="run: no config.json there.*did you mean the folder `model` inside it"):
        embedder_of(index, str(tmp_path / "run"), "cpu")
    pooling = tmp_path / "moved" / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("true", "false"))
    with pytest.raises(ConfigError, match=r"moved is not the model that made .*v.npy \(1_Pooling/config.json differs\)"):
        embedder_of(index, str(tmp_path / "moved"), "cpu")


def test_what_is_no_index_is_refused_and_a_changed_byte_too(folder: str, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist: give a file that bertlab embed wrote"):
        open_index(tmp_path / "v.npy")
    np.save(tmp_path / "foreign.npy", np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(ConfigError, match="no foreign.npy.manifest.json beside it"):
        open_index(tmp_path / "foreign.npy")
    made(folder, texts, tmp_path / "t.parquet", tokens=True)
    with pytest.raises(ConfigError, match="vectors of tokens"):
        open_index(tmp_path / "t.parquet")
    path = made(folder, texts, tmp_path / "v.npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="v.npy is not the file that was written"):
        open_index(path)


def test_a_manifest_that_somebody_else_sealed_is_not_believed_further_than_it_says(folder: str, texts: Path, tmp_path: Path) -> None:
    path = made(folder, texts, tmp_path / "v.npy")
    facts = read_sealed(tmp_path / "v.npy.manifest.json")
    facts.pop("seal")
    changes: list[dict[str, Any]] = [{"numbers": "float8"}, {"files": {}}, {"from": {}}]
    for change in changes:
        write_sealed(tmp_path / "v.npy.manifest.json", facts | change)
        with pytest.raises(CorruptError, match="does not say how the vectors were made"):
            open_index(path)
    path.write_bytes(b"no array")
    write_sealed(tmp_path / "v.npy.manifest.json", facts | {"files": hash_some(tmp_path, ["v.npy"])})
    with pytest.raises(CorruptError, match="not the array that embed writes"):
        list(blocks(open_index(path)))


# ---- the graph


@pytest.mark.parametrize("name, settings", [("v.npy", {}), ("v.parquet", {"numbers": "int8"}), ("v.parquet", {"numbers": "binary"})])
def test_a_graph_over_few_vectors_finds_what_the_exact_search_finds_with_its_scores(
    folder: str, texts: Path, tmp_path: Path, texts_of: Any, name: str, settings: Any
) -> None:
    pytest.importorskip("usearch", reason="the graph is usearch's")
    index = open_index(made(folder, texts, tmp_path / name, **settings))
    graph = open_graph(index)
    queries = query_vectors(index, embedder_of(index, device="cpu"), texts_of(3, seed=5))
    for (rows, scores), (exact_rows, exact_scores) in zip(
        propose(graph, queries, 5), zip(*exact_nearest(queries, blocks(index), 5), strict=True), strict=True
    ):
        # of int8 the scales differ in rounding alone
        np.testing.assert_allclose(scores, exact_scores, atol=1e-6)
        assert settings or rows.tolist() == exact_rows.tolist()
    assert graph.facts["recall"]["value"] == 1 and graph.facts["recall"]["queries"] == 40


def test_a_graph_is_kept_made_again_of_other_vectors_and_never_used_when_a_byte_differs(folder: str, texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("usearch", reason="the graph is usearch's")
    index = open_index(made(folder, texts, tmp_path / "v.npy"))
    built: list[int] = []
    open_graph(index, built.append)
    path = tmp_path / "v.npy.usearch"
    first = path.read_bytes()
    assert built == [40] and read_sealed(tmp_path / "v.npy.usearch.manifest.json")["vectors"] == index.facts["files"]
    open_graph(index, built.append)
    assert built == [40], "it was there"
    path.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    open_graph(index, built.append)
    assert built == [40, 40] and path.read_bytes() == first, "the same bytes each time"
    other = open_index(made(folder, texts, tmp_path / "v.npy", pooling="max"))
    open_graph(other, built.append)
    assert built == [40, 40, 40] and path.read_bytes() != first


def test_recall_is_the_share_of_the_ten_nearest_others_that_a_graph_proposes(
    folder: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usearch = pytest.importorskip("usearch.index", reason="the graph is usearch's")
    from bertlab.embedding.approximate import Graph

    index = open_index(made(folder, texts, tmp_path / "v.npy"))
    vectors = read_vectors(index.path)[1]
    half = usearch.Index(ndim=16, metric="cos", dtype="f32")
    half.add(np.arange(0, 40, 2), vectors[::2], threads=1)
    found = measured_recall(index, Graph(half, {}))
    scaled = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = scaled @ scaled.T
    np.fill_diagonal(similar, -2)
    tenth = np.sort(similar, axis=1)[:, -10]
    expected = np.mean([min(10, (similar[row, ::2] >= tenth[row] - 1e-9).sum()) / 10 for row in range(40)])
    assert found["value"] == pytest.approx(expected) and 0.2 < expected < 0.9
    assert found["low"] < found["value"] < found["high"] and found["at"] == 10
