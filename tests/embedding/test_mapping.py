"""A map of vectors: its plane is scikit-learn's, its neighbours are found by hand, and what cannot be drawn ends in one line."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from bertlab.disk import read_sealed, write_sealed
from bertlab.embedding import index as opened
from bertlab.embedding.index import open_index
from bertlab.embedding.mapping import NEIGHBOURS, map_of
from bertlab.errors import ConfigError, CorruptError, DataError

Store = Callable[..., Path]
# degrees of seven directions, longer and shorter: 0 and 10 are near, 90 and 95, 200 and 204 and 215
DEGREES, LENGTHS = (0, 90, 200, 10, 204, 95, 215), (1, 5, 0.1, 2, 3, 1, 9)


def circle() -> np.ndarray:
    return np.array([[r * math.cos(math.radians(a)), r * math.sin(math.radians(a)), 0] for a, r in zip(DEGREES, LENGTHS, strict=True)])


def cloud(rows: int = 80, dims: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, size=(rows, dims)).astype(np.float32)


def said(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def test_the_nearest_are_by_angle_best_first_and_never_the_text_itself(tmp_path: Path, stored_vectors: Store) -> None:
    found = map_of(open_index(stored_vectors(tmp_path / "v.npy", circle(), said(7))))
    assert found.near.shape == (7, 6), "of seven texts each has six others"
    assert [row[0] for row in found.near.tolist()] == [3, 5, 4, 0, 2, 1, 4]
    assert found.near[0].tolist() == [3, 1, 5, 6, 4, 2]  # 10, 90, 95, 145, 156 and 160 degrees away
    away = [10, 90, 95, 145, 156, 160]
    np.testing.assert_allclose(found.cosines[0], [math.cos(math.radians(degrees)) for degrees in away], atol=1e-6)
    assert found.kept is None, "where all others are among the nearest there is nothing to keep"
    assert found.ids == [f"id {row}" for row in range(7)] and found.texts == said(7) and found.labels is None


def test_the_plane_is_that_of_scikit_learn_and_what_it_keeps_is_counted_pair_by_pair(tmp_path: Path, stored_vectors: Store) -> None:
    found = map_of(open_index(stored_vectors(tmp_path / "v.npy", cloud(), said(80))))
    directions = cloud().astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    pca = PCA(2).fit(directions)
    points = pca.transform(directions)
    np.testing.assert_allclose(found.points * np.sign((found.points * points).sum(0)), points, atol=1e-6)
    assert found.shown == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    near, plane = (NearestNeighbors(n_neighbors=NEIGHBOURS).fit(each).kneighbors(return_distance=False) for each in (directions, points))
    assert found.near.tolist() == near.tolist()
    shares = [len(set(one) & set(other)) / NEIGHBOURS for one, other in zip(near.tolist(), plane.tolist(), strict=True)]
    assert found.kept is not None and 0.1 < found.kept < 0.9 and found.kept == pytest.approx(np.mean(shares))


def test_a_sample_is_of_the_texts_labels_and_vectors_of_the_same_rows(tmp_path: Path, stored_vectors: Store) -> None:
    vectors = cloud(60)
    index = open_index(stored_vectors(tmp_path / "v.npy", vectors, said(60), [f"label {row % 4}" for row in range(60)]))
    found, again, other = map_of(index, most=20), map_of(index, most=20), map_of(index, most=20, seed=1)
    rows = [int(text.split()[1]) for text in found.texts or []]
    assert len(rows) == 20 and rows == sorted(rows) and found.ids == [f"id {row}" for row in rows]
    assert found.labels == [f"label {row % 4}" for row in rows]
    nearest = vectors[[rows[place] for place in found.near[:, 0]]]
    cosines = (vectors[rows] * nearest).sum(1) / np.linalg.norm(vectors[rows], axis=1) / np.linalg.norm(nearest, axis=1)
    np.testing.assert_allclose(found.cosines[:, 0], cosines, atol=1e-6)
    assert (found.points == again.points).all() and (found.near == again.near).all() and found.geometry == again.geometry
    assert other.ids != found.ids


def test_two_of_one_label_belong_together_and_texts_without_one_to_nobody(tmp_path: Path, stored_vectors: Store) -> None:
    draw = np.random.default_rng(3)
    labels = [("a", "b", None)[row % 3] for row in range(60)]
    vectors = np.array([{"a": [1, 0, 0], "b": [0, 1, 0], None: [0, 0, 1]}[label] for label in labels]) + draw.normal(0, 0.01, (60, 3))
    found = map_of(open_index(stored_vectors(tmp_path / "v.npy", vectors, said(60), labels)))
    assert found.labels == labels and found.geometry["pairs"] == 20 and found.geometry["alignment"] < 0.01
    mixed = map_of(open_index(stored_vectors(tmp_path / "w.npy", vectors, said(60), ["a" if row < 30 else "b" for row in range(60)])))
    assert mixed.geometry["alignment"] > 0.5
    with pytest.raises(DataError, match="no text has a label in a column 'other': name the right one with --label"):
        map_of(open_index(tmp_path / "v.npy"), label="other")


def test_several_labels_of_a_text_are_one_name_and_numbers_are_names(tmp_path: Path, stored_vectors: Store) -> None:
    labels = [["x", "y"], [], 3, {"no": "label"}]
    assert map_of(open_index(stored_vectors(tmp_path / "v.npy", cloud(4), said(4), labels))).labels == ["x; y", None, "3", None]


@pytest.mark.parametrize(
    "vectors",
    [np.ones((1, 5)), np.ones((2, 5)), np.ones((30, 5)), np.zeros((30, 5)), np.arange(1, 31).reshape(30, 1), cloud(3, 40)],
    ids=["one text", "two", "equal vectors", "no direction", "one number", "more numbers than texts"],
)
def test_vectors_that_say_little_have_a_map_all_the_same(tmp_path: Path, stored_vectors: Store, vectors: np.ndarray) -> None:
    n = len(vectors)
    found = map_of(open_index(stored_vectors(tmp_path / "v.npy", vectors, said(n))))
    assert found.points.shape == (n, 2) and np.isfinite(found.points).all() and 0 <= found.shown <= 1
    assert found.near.shape == (n, min(NEIGHBOURS, n - 1)) and np.isfinite(found.cosines).all()
    assert all(row not in near and len(set(near)) == len(near) for row, near in enumerate(found.near.tolist()))
    assert found.geometry["texts"] == len(np.unique(vectors, axis=0)), "equal ones count once"


def test_a_number_that_is_none_is_said(tmp_path: Path, stored_vectors: Store) -> None:
    for number, value in enumerate((np.nan, np.inf)):
        vectors = cloud()
        vectors[7, 3] = value
        with pytest.raises(DataError, match="a vector has NaN or infinity: embed again"):
            map_of(open_index(stored_vectors(tmp_path / f"{number}.npy", vectors, said(80))))


@pytest.mark.parametrize("rows", [10**18, 81, 0, -1, "many", None, [80], 79.5])
def test_a_manifest_with_another_number_of_rows_ends_in_one_line(tmp_path: Path, stored_vectors: Store, rows: Any) -> None:
    path = stored_vectors(tmp_path / "v.npy", cloud(), said(80))
    facts = read_sealed(tmp_path / "v.npy.manifest.json")
    facts.pop("seal")
    write_sealed(tmp_path / "v.npy.manifest.json", facts | {"rows": rows})
    with pytest.raises(CorruptError, match=r"v.npy has 80 vectors where its manifest says .*: embed again") as caught:
        open_index(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_fewer_ids_or_texts_than_vectors_are_said_and_texts_that_are_others_too(tmp_path: Path, stored_vectors: Store) -> None:
    short = stored_vectors(tmp_path / "short.npy", cloud(80), said(79))
    with pytest.raises(CorruptError, match="80 vectors, and fewer ids or texts: embed again"):
        map_of(open_index(short))
    index = open_index(stored_vectors(tmp_path / "v.npy", cloud(), said(80), ["a"] * 80))
    (tmp_path / "v.jsonl").rename(tmp_path / "moved.jsonl")
    assert (map_of(index).texts, map_of(index).labels) == (None, None)
    assert map_of(index, str(tmp_path / "moved.jsonl")).texts == said(80)
    (tmp_path / "moved.jsonl").write_text('{"text": "others"}\n')
    with pytest.raises(DataError, match="is not what .* was made from"):
        map_of(index, str(tmp_path / "moved.jsonl"))
    with pytest.raises(ConfigError, match="does not exist"):
        map_of(index, str(tmp_path / "nowhere.jsonl"))


def test_memory_is_of_the_sample_and_not_of_the_file(tmp_path: Path, stored_vectors: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "BLOCK_ROWS", 500)  # of 512 numbers: 1 MB, and the file 16 MB
    index = open_index(stored_vectors(tmp_path / "v.npy", np.tile(cloud(100, 512), (80, 1)), ["a"] * 8_000))
    map_of(index, most=20)
    tracemalloc.start()
    map_of(index, most=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
