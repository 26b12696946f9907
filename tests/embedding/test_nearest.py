"""The nearest and the near-duplicates are those of a plain search in fp64, whatever the blocks."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from bertlab.embedding.nearest import Block, exact_nearest, near_pairs


def cut(vectors: np.ndarray, size: int, start: int = 0) -> Iterator[Block]:
    for first in range(start, len(vectors), size):
        yield first, vectors[first : first + size]


def from_row(vectors: np.ndarray, size: int) -> Callable[[int], Iterator[Block]]:
    return lambda start: cut(vectors, size, start)


def drawn(count: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


def all_pairs(vectors: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    scaled = vectors.astype(np.float64)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    similar = scaled @ scaled.T
    return [(i, j) for i in range(len(vectors)) for j in range(i + 1, len(vectors)) if similar[i, j] >= threshold - 1e-9]


def test_the_nearest_of_three_vectors_are_in_the_order_of_their_angles() -> None:
    vectors = np.array([[0, 2], [1, 1], [3, 0]], dtype=np.float32)
    rows, scores = exact_nearest(np.array([[1.0, 0.0]], dtype=np.float32), cut(vectors, 2), 2)
    assert rows.tolist() == [[2, 1]]
    np.testing.assert_allclose(scores, [[1, 0.5**0.5]], atol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_rows_and_scores_are_those_of_scikit_learn_for_blocks_of_any_size(size: int) -> None:
    vectors, queries = drawn(300, 24), drawn(5, 24, seed=1)
    theirs = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute").fit(vectors.astype(np.float64))
    distances, expected = theirs.kneighbors(queries.astype(np.float64))
    rows, scores = exact_nearest(queries, cut(vectors, size), 9)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, 1 - distances, atol=1e-11)


def test_scores_are_the_same_bits_whatever_the_blocks_and_the_other_queries() -> None:
    vectors, queries = drawn(100, 33), drawn(4, 33, seed=1)
    rows, scores = exact_nearest(queries, cut(vectors, 100), 5)
    for number in range(4):
        alone = exact_nearest(queries[number : number + 1], cut(vectors, 13), 5)
        np.testing.assert_array_equal(alone[0][0], rows[number])
        np.testing.assert_array_equal(alone[1][0], scores[number])


@pytest.mark.parametrize("size", [1, 3, 40])
def test_equal_vectors_come_in_the_order_of_their_rows(size: int) -> None:
    vectors = np.repeat(drawn(2, 16), 20, axis=0)
    rows, _ = exact_nearest(vectors[:1] * 3, cut(vectors, size), 40)
    assert rows.tolist() == [list(range(40))]


def test_differences_that_fp32_does_not_see_decide_the_order() -> None:
    # with the first axis, cosines of 1 - 2e-8, 1 - 0.5e-8 and 1 - 1.1e-8: all are 1 in fp32
    vectors = np.array([[1, 2e-4, 0], [1, 1e-4, 0], [1, 0, 1.5e-4]], dtype=np.float32)
    rows, _ = exact_nearest(np.array([[1, 0, 0]], dtype=np.float32), cut(vectors, 2), 1)
    assert rows.tolist() == [[1]]


def test_fewer_vectors_than_are_wanted_are_all_found_and_a_vector_of_zeros_is_near_to_nothing() -> None:
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    rows, scores = exact_nearest(np.array([[2, 0]], dtype=np.float32), cut(vectors, 2), 10)
    assert rows.tolist() == [[1, 0, 2]] and scores.tolist() == [[1, 0, -1]]


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 1.0])] * 3), min_size=1, max_size=30),
    size=st.integers(1, 12),
    threshold=st.sampled_from([0.3, 0.7071067811865476, 0.95, 1.0]),
)
def test_every_pair_is_found_once_and_no_other(values: list[tuple[float, float, float]], size: int, threshold: float) -> None:
    vectors = np.array(values, dtype=np.float32)
    found = [tuple(pair) for rows, _ in near_pairs(from_row(vectors, size), threshold) for pair in rows.tolist()]
    assert sorted(found) == all_pairs(vectors, threshold) and len(set(found)) == len(found)


def test_a_pair_of_equal_vectors_has_a_cosine_of_1_by_any_length() -> None:
    vectors = np.concatenate([drawn(3, 48), drawn(3, 48)[1:2] * 7])
    ((rows, scores),) = near_pairs(from_row(vectors, 2), 1.0)
    assert rows.tolist() == [[1, 3]] and abs(scores[0] - 1) < 1e-9
