"""Vectors on disk come back bit by bit, and the nearest are those of highest cosine."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.evaluation.vectors import nearest, read_vectors, write_vectors


def test_vectors_come_back_bit_by_bit_with_their_ids_in_order(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    ids = [f"id {number} \u00e9\n" for number in (3, 1, 4, 1, 5, 9, 2)]
    write_vectors(tmp_path / "new" / "vectors.parquet", ids, vectors)
    read_ids, read = read_vectors(tmp_path / "new" / "vectors.parquet")
    assert read_ids == ids and read.dtype == np.float32 and read.tobytes() == vectors.tobytes()
    assert pq.read_schema(tmp_path / "new" / "vectors.parquet").field("vector").type == pa.list_(pa.float32(), 5)


def test_a_view_with_gaps_and_another_type_are_written_as_they_look(tmp_path: Path) -> None:
    wide = np.arange(24, dtype=np.float64).reshape(4, 6)
    write_vectors(tmp_path / "v.parquet", list("abcd"), wide[:, ::2])
    assert read_vectors(tmp_path / "v.parquet")[1].tolist() == wide[:, ::2].tolist()


def test_more_rows_than_a_row_group_come_back_whole(tmp_path: Path) -> None:
    vectors = np.arange(6000, dtype=np.float32).reshape(-1, 2)
    table = pa.table(
        {
            "id": pa.array([str(n) for n in range(3000)]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2),
        }
    )
    pq.write_table(table, tmp_path / "v.parquet", row_group_size=700)
    assert read_vectors(tmp_path / "v.parquet")[1].tolist() == vectors.tolist()


def test_the_nearest_are_those_of_highest_cosine_whatever_their_length() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 3.0], [10.0, 10.0], [-1.0, 0.0]], dtype=np.float32)
    rows, cosines = nearest(np.array([[2.0, 0.0], [0.0, 0.5]], dtype=np.float32), vectors, 3)
    assert rows.tolist() == [[0, 2, 1], [1, 2, 0]]  # of equals the first
    np.testing.assert_allclose(cosines, [[1, 0.5**0.5, 0], [1, 0.5**0.5, 0]], atol=1e-6)


def test_the_nearest_agree_with_every_cosine_computed_one_by_one() -> None:
    draw = np.random.default_rng(1)
    queries, vectors = draw.normal(size=(4, 6)), draw.normal(size=(30, 6)) * draw.uniform(0.1, 9, size=(30, 1))
    rows, cosines = nearest(queries, vectors, 5)
    for query, found, near in zip(queries, rows, cosines, strict=True):
        every = [float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)) for vector in vectors]
        assert found.tolist() == sorted(range(30), key=lambda row: -every[row])[:5]
        np.testing.assert_allclose(near, sorted(every, reverse=True)[:5], atol=1e-12)


def test_a_vector_of_zeros_is_near_to_nothing_and_fewer_vectors_than_asked_for_are_all_given() -> None:
    rows, cosines = nearest(np.array([[0.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), 5)
    assert rows.tolist() == [[0, 1]] and cosines.tolist() == [[0.0, 0.0]]
