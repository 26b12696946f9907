"""Vectors on disk come back bit by bit, and the nearest are those of highest cosine."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.vectors import (
    Packed,
    cosines,
    measured_loss,
    nearest,
    nearest_in_blocks,
    packed,
    read_vectors,
    stated_loss,
    unpacked,
    write_vectors,
)


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


# ---- fewer bits


def test_eight_bits_are_the_vectors_numbers_over_its_largest() -> None:
    vectors = np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [254.0, 1.0, -3.0]], dtype=np.float32)
    stored = packed(vectors, "int8")
    assert stored.values.tolist() == [[64, -127, 32], [0, 0, 0], [127, 0, -2]]  # 63.5 and 31.75 of 127; 0.5 and -1.5 to the even one
    assert stored.scales is not None and stored.scales.tolist() == pytest.approx([1 / 127, 0, 2])
    assert np.abs(unpacked(stored, "int8") - vectors).max() <= 1 and unpacked(stored, "int8")[1].tolist() == [0, 0, 0]


def test_one_bit_is_whether_a_number_is_above_0_first_in_the_highest() -> None:
    vectors = np.array([[1, -1, 0, 2, -3, 4, 0.1, -0.1], [-1] * 8], dtype=np.float32)
    stored = packed(vectors, "binary")
    assert stored.values.tolist() == [[0b10010110], [0]] and stored.values.dtype == np.uint8
    assert unpacked(stored, "binary").tolist() == [[1, -1, -1, 1, -1, 1, 1, -1], [-1] * 8]
    with pytest.raises(ConfigError, match="whole bytes: 7 numbers are not"):
        packed(vectors[:, :7], "binary")


def test_sixteen_bits_refuse_what_they_cannot_hold() -> None:
    assert packed(np.array([[1.0, 1 / 3]], dtype=np.float32), "float16").values.tolist() == [[1.0, float(np.float16(1 / 3))]]
    with pytest.raises(ConfigError, match="too large for float16"):
        packed(np.array([[70000.0]], dtype=np.float32), "float16")


def test_a_loss_is_that_of_all_parts_together() -> None:
    exact = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    parts = [measured_loss(packed(part, "int8"), "int8", part) for part in (exact[:30], exact[30:])]
    found = stated_loss(parts)
    every = cosines(unpacked(packed(exact, "int8"), "int8"), exact)
    assert found["mean_cosine"] == pytest.approx(every.mean()) and found["lowest_cosine"] == pytest.approx(every.min())
    assert found["pairs"] == 29 + 19 and 0.99 < found["spearman"] <= 1
    worse = stated_loss([measured_loss(packed(part, "binary"), "binary", part) for part in (exact[:30], exact[30:])])
    assert worse["mean_cosine"] < found["mean_cosine"] and worse["spearman"] < found["spearman"]


def test_fewer_numbers_lose_nothing_of_themselves_but_ranks_of_similarities() -> None:
    exact = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    found = stated_loss([measured_loss(packed(exact[:, :4], "float32"), "float32", exact)])
    assert found["mean_cosine"] == pytest.approx(1) and 0 < found["spearman"] < 0.9
    assert stated_loss([measured_loss(packed(exact[:2], "float32"), "float32", exact[:2])])["spearman"] is None


def test_what_holds_no_vectors_is_refused_in_one_line(tmp_path: Path) -> None:
    def parquet(**columns: Any) -> pa.Table:
        return pa.table(columns)

    pq.write_table(parquet(text=["a"]), tmp_path / "other.parquet")
    pq.write_table(parquet(id=["a", "b"], vector=[[1.0], [1.0, 2.0]]), tmp_path / "ragged.parquet")
    pq.write_table(parquet(id=["a"], vector=["[1.0, 2.0]"]), tmp_path / "printed.parquet")
    (tmp_path / "vectors.csv").write_text("id,vector\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    np.save(tmp_path / "short.npy", np.zeros((3, 2), np.float32))
    (tmp_path / "short.ids.txt").write_text("a\nb\n")
    np.save(tmp_path / "alone.npy", np.zeros((3, 2)))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    (tmp_path / "flat.ids.txt").write_text("a\nb\nc\n")
    (tmp_path / "junk.npy").write_bytes(b"no array")
    np.save(tmp_path / "latin.npy", np.zeros((1, 3)))
    for name in ("junk", "latin"):
        (tmp_path / f"{name}.ids.txt").write_bytes("Größe\n".encode("latin-1"))
    pq.write_table(parquet(id=["a"], vector=[[1, 2]]), tmp_path / "integers.parquet")
    strange = parquet(id=["a"], vector=[[1.0]]).replace_schema_metadata({"bertlab.numbers": "zzz"})
    pq.write_table(strange, tmp_path / "other_numbers.parquet")
    for name, kind, words in (
        ("other.parquet", DataError, "no columns id and vector: its columns are text"),
        ("ragged.parquet", DataError, "column vector is list<.*: give lists of numbers with a point, as many in each row"),
        ("printed.parquet", DataError, "column vector is string"),
        ("vectors.csv", DataError, "no Parquet file"),
        ("damaged.parquet", CorruptError, "a damaged Parquet file"),
        ("short.npy", DataError, "3 vectors, and 2 ids in short.ids.txt"),
        ("alone.npy", DataError, "no alone.ids.txt beside it: write the ids of its rows there"),
        ("flat.npy", DataError, r"an array of float64 and shape \(3,\)"),
        ("junk.npy", DataError, "no array of numbers, or junk.ids.txt beside it is not UTF-8"),
        ("latin.npy", DataError, "no array of numbers, or latin.ids.txt beside it is not UTF-8"),
        ("integers.parquet", DataError, "column vector is list<"),
        ("other_numbers.parquet", DataError, "its columns id and vector are not such as bertlab embed writes .zzz"),
    ):
        with pytest.raises(kind, match=f"{name}: {words}") as caught:
            read_vectors(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_vectors_that_another_program_wrote_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4))
    np.save(tmp_path / "v.npy", values)
    for end in ("", "\n"):
        (tmp_path / "v.ids.txt").write_text("7\n8\n9" + end)
        ids, vectors = read_vectors(tmp_path / "v.npy")
        assert ids == ["7", "8", "9"] and vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, values, rtol=1e-6)
    for kind in (pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float64(), 4)):
        pq.write_table(pa.table({"id": [7, 8, 9], "vector": pa.array(values.tolist(), kind), "scale": [2.0] * 3}), tmp_path / "v.parquet")
        ids, vectors = read_vectors(tmp_path / "v.parquet")
        assert ids == ["7", "8", "9"] and vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, values, rtol=1e-6)


def test_stored_vectors_are_known_without_scales() -> None:
    assert unpacked(Packed(np.array([[1, 2]], np.float16)), "float16").dtype == np.float32


def test_blocks_of_any_size_have_the_same_nearest_and_of_equals_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    kinds = np.eye(6)[:4] * 3  # cosines are 0 or 1, exactly: many equals
    queries, vectors = kinds[draw.integers(0, 4, 20)], kinds[draw.integers(0, 4, 97)]
    of_all = queries @ vectors.T / 9
    for count in (1, 10, 90, 97, 200):
        wanted = np.argsort(-of_all, axis=1, kind="stable")[:, :count]
        for size, at_once in ((1, 8), (10, 64), (97, 300), (500, 10**6)):
            monkeypatch.setattr("bertlab.evaluation.vectors.COSINES_AT_ONCE", at_once)
            rows, cosines = nearest_in_blocks(queries, (vectors[start : start + size] for start in range(0, 97, size)), count)
            assert rows.tolist() == wanted.tolist()
            np.testing.assert_allclose(cosines, np.take_along_axis(of_all, wanted, axis=1), atol=1e-12)
    assert nearest_in_blocks(queries[:0], [vectors], 3)[0].shape == (0, 0)
    assert nearest_in_blocks(queries, [], 3)[0].shape == (20, 0)
