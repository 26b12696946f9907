"""bertlab/embedding/judging.py: the numbers are those of the vectors one by one, whatever the blocks; files are found by id or refused."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.relevance import retrieval_of
from bertlab.disk import hash_some, write_sealed
from bertlab.embedding import judging
from bertlab.embedding.engine import Embedder, What
from bertlab.embedding.judging import VectorsOf, clustering, file_vectors, model_vectors, nearest_of_pool, refuse_misfit, similarity
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.vectors import write_vectors


@pytest.fixture
def of_model(embedder: Embedder) -> VectorsOf:
    return model_vectors(embedder, What(pooling="mean"), None, Counter())


def ids(count: int) -> list[str]:
    return [f"row {number}" for number in range(count)]


def cosines_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second)]
    return np.asarray(unit[0] @ unit[1].T)


def test_a_models_vectors_are_the_embedders_in_blocks_and_counted(
    embedder: Embedder, texts_of: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, tally, seen = [*texts_of(20), "river " * 50], Counter[str](), list[int]()
    monkeypatch.setattr(judging, "BLOCK", 8)
    found = model_vectors(embedder, What(pooling="max", layers=(1,)), 6, tally, seen.append)(ids(21), texts)
    wanted = embedder.vectors(embedder.encode(texts), What(pooling="max", layers=(1,)))[:, :6]
    assert found.tobytes() == np.ascontiguousarray(wanted).tobytes()
    assert tally == {"texts": 21, "truncated": 1} and seen == [8, 16, 21]
    with pytest.raises(ConfigError, match="dims=17"):
        model_vectors(embedder, What(pooling="max"), 17, tally)(ids(1), texts[:1])


def test_similarity_is_scipys_correlation_of_the_cosines(of_model: VectorsOf, texts_of: Callable[..., list[str]]) -> None:
    texts, texts_b = texts_of(40, seed=1), texts_of(40, seed=2)
    scores = [str(number % 6) for number in range(40)]
    metrics, _ = similarity(Labelled(ids(40), texts, texts_b, scores, "pairs.csv"), of_model, 0)
    first, second = of_model(ids(40), texts), of_model(ids(40), texts_b)
    values = cosines_of(first, second).diagonal()
    gold = np.arange(40) % 6
    assert metrics["spearman"] == pytest.approx(spearmanr(gold, values).statistic, abs=1e-6)
    assert metrics["pearson"] == pytest.approx(pearsonr(gold, values).statistic, abs=1e-6)
    assert metrics["intervals"]["spearman"]["low"] < metrics["spearman"] < metrics["intervals"]["spearman"]["high"]
    high = gold >= 4  # 4 of 0 to 5
    assert metrics["geometry"]["alignment"] == pytest.approx((2 - 2 * values[high]).mean(), abs=1e-5)
    assert metrics["geometry"]["pairs"] == high.sum() and metrics["geometry"]["texts"] == len(set(texts + texts_b))


def test_the_nearest_of_a_pool_are_those_of_every_cosine_for_any_block(
    of_model: VectorsOf, texts_of: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = Labelled(ids(60), texts_of(60, seed=3), texts_of(60, seed=4), None, "pairs.csv")
    asked = retrieval_of(pairs)
    queries, pool = (of_model(each.ids, each.texts) for each in (asked.queries, asked.pool))
    values = cosines_of(queries, pool)
    found, lie = nearest_of_pool(asked, of_model, 0)
    monkeypatch.setattr(judging, "BLOCK", 7)
    in_blocks, lie_in_blocks = nearest_of_pool(asked, of_model, 0)
    place = {id: number for number, id in enumerate(asked.pool.ids)}
    for each in (found, in_blocks):
        taken = np.take_along_axis(values, np.array([[place[id] for id in row] for row in each]), axis=1)
        np.testing.assert_allclose(taken, -np.sort(-values, axis=1)[:, :10], atol=1e-5)
    assert lie == lie_in_blocks and lie["texts"] == len(pool)
    belong = [values[query, places[0]] for query, places in enumerate(asked.relevant)]
    assert lie["alignment"] == pytest.approx(2 - 2 * np.mean(belong), abs=1e-5)


def test_vectors_of_files_are_found_by_id_and_what_is_not_theirs_is_refused(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    one, two, wide = tmp_path / "one.parquet", tmp_path / "two.parquet", tmp_path / "wide.parquet"
    write_vectors(one, ids(6)[:4], vectors[:4])
    write_vectors(two, ids(6)[4:], vectors[4:])
    write_vectors(wide, ["w"], np.ones((1, 5)))
    of = file_vectors([one, two], [])
    assert of(["row 5", "row 0", "row 5"], ["", "", ""]).tolist() == vectors[[5, 0, 5]].tolist()

    def refused(kind: type[Exception], what: str, paths: Sequence[Path], *wanted: str) -> None:
        with pytest.raises(kind, match=what):
            file_vectors(paths, [])(wanted, wanted)

    refused(DataError, "no vector has the id 'row 9'", [one, two], "row 1", "row 9")
    refused(DataError, "two vectors have the id 'row 0'", [one, one])
    write_vectors(tmp_path / "again.parquet", ["row 1"], vectors[:1])
    refused(DataError, "one.parquet and .*again.parquet together: two vectors have the id 'row 1'", [one, two, tmp_path / "again.parquet"])
    refused(DataError, "vectors of 5 numbers", [one, wide])
    refused(ConfigError, "does not exist", [tmp_path / "none.parquet"])
    made: dict[str, Any] = {"from": {"model": {"files": {"a": "1"}}}, "pooling": "mean", "layers": [2], "normalize": False}
    made |= {"dims": 4, "numbers": "float32"}
    for changed, words in (
        ({}, None),
        ({"pooling": "cls"}, "two.parquet was made with pooling cls, .*one.parquet with pooling mean: embed both alike"),
        ({"layers": [1]}, r"layers \[1\]"),
        ({"normalize": True}, "normalize True"),
        ({"numbers": "int8"}, "numbers int8"),
        ({"from": {"model": {"files": {"a": "2"}}}}, "two.parquet was made by another model than .*one.parquet: embed both with one"),
        ({"pooling": None}, "two.parquet holds vectors of tokens"),
    ):
        for path, facts in ((one, made), (two, made | changed)):
            origin = {"model": facts["from"]["model"], "input": {"path": "rows.jsonl", "id": "id"}}
            files = hash_some(tmp_path, [path.name])
            write_sealed(path.with_name(f"{path.name}.manifest.json"), facts | {"from": origin, "files": files})
        if words is None:
            assert file_vectors([one, two], [])(["row 5"], [""]).tolist() == vectors[[5]].tolist()
        else:
            refused(DataError, words, [one, two])
    for path in (one, two):
        path.with_name(f"{path.name}.manifest.json").unlink()
    write_vectors(wide, ["w"], np.full((1, 5), np.nan))
    refused(DataError, "NaN or infinity", [wide])
    one.write_bytes(b"PAR1")
    refused(CorruptError, "one.parquet", [one])


def test_groups_are_as_many_as_labels_and_another_column_is_refused(of_model: VectorsOf) -> None:
    texts = [text for number in range(10) for text in (f"river {'river ' * number}", f"spring {'birds ' * number}")]
    rows = Labelled(ids(20), texts, None, ["water", "air"] * 10, "rows.csv")
    metrics, _ = clustering(rows, of_model, 0)
    assert (metrics["n"], metrics["labels"], metrics["groups"]) == (20, 2, 2) and 0 <= metrics["v_measure"] <= 1
    assert metrics["geometry"]["pairs"] == 10
    same = Labelled(ids(24), [texts[0]] * 4 + texts, None, ["water"] * 4 + ["water", "air"] * 10, "rows.csv")  # one text five times
    lie, again = metrics["geometry"], clustering(same, of_model, 0)[0]["geometry"]
    assert (again["pairs"], again["texts"]) == (10, 20) == (lie["pairs"], lie["texts"])
    assert again["alignment"] == pytest.approx(lie["alignment"], abs=1e-6) and again["anisotropy"] == pytest.approx(lie["anisotropy"])
    with pytest.raises(DataError, match="20 labels of 20 texts are no groups"):
        clustering(Labelled(ids(20), texts, None, ids(20), "rows.csv"), of_model, 0)
    with pytest.raises(DataError, match="no second texts"):
        refuse_misfit(rows, pairs=True)
    with pytest.raises(DataError, match="rows are pairs"):
        refuse_misfit(Labelled(ids(20), texts, texts, None, "rows.csv"), pairs=False)
