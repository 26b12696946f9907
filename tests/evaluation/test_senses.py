"""Groups of vectors that can be checked by eye, and their agreement with labels by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import completeness_score, homogeneity_score

from bertlab.evaluation.senses import Groups, agreement, grouped, typical


def bundles(sizes: list[int], spread: float = 0.05, seed: int = 0) -> np.ndarray:
    """Vectors around one axis each."""
    draw = np.random.default_rng(seed)
    axes = np.repeat(np.eye(len(sizes), 8), sizes, axis=0)
    return (axes + spread * draw.standard_normal(axes.shape)) * draw.uniform(0.5, 2, (len(axes), 1))


@pytest.mark.parametrize("sizes", [[4, 9], [7, 5, 3], [5, 4, 3, 2]])
def test_bundles_come_apart_and_the_largest_is_the_first(sizes: list[int]) -> None:
    groups = grouped(bundles(sizes))
    order = np.argsort([-size for size in sizes], kind="stable")
    numbers = {int(bundle): number for number, bundle in enumerate(order)}
    assert groups.of.tolist() == [numbers[bundle] for bundle, size in enumerate(sizes) for _ in range(size)]
    assert groups.count == len(sizes) and groups.silhouette is not None and groups.silhouette > 0.8 and not groups.weak


def test_as_many_groups_as_are_asked_for_or_as_there_are_different_vectors() -> None:
    vectors = bundles([6, 6])
    assert grouped(vectors, 3).count == 3 and grouped(vectors, 1).count == 1 and grouped(vectors, 1).weak
    assert grouped(np.repeat(vectors[:2], 5, axis=0), 6).count == 2
    same = grouped(np.ones((5, 3)) * [[1.0], [2.0], [3.0], [1.0], [1.0]])
    assert same.of.tolist() == [0] * 5 and same.silhouette is None
    two = grouped(vectors[:2])
    assert two.of.tolist() == [0, 1] and two.silhouette == 0 and two.weak, "of two vectors nothing can be said"


def test_a_cloud_without_groups_is_called_weak() -> None:
    groups = grouped(np.random.default_rng(0).standard_normal((80, 30)))
    assert groups.weak and groups.count > 1


def test_purity_and_v_measure_of_six_by_hand() -> None:
    groups, labels = np.array([0, 0, 0, 1, 1, 1]), ["a", "a", "b", "b", "b", "b"]
    found = agreement(groups, labels)
    assert found["purity"] == pytest.approx(5 / 6) and found["one_group_purity"] == pytest.approx(4 / 6)
    h, c = homogeneity_score(labels, groups), completeness_score(labels, groups)
    assert found["v_measure"] == pytest.approx(2 * h * c / (h + c))
    assert agreement(np.array([1, 1, 0]), ["a", "a", "b"]) == {"purity": 1, "v_measure": 1, "one_group_purity": pytest.approx(2 / 3)}
    assert agreement(np.zeros(3, int), ["a", "a", "b"])["v_measure"] == 0
    assert agreement(np.array([0, 1, 2]), ["a", "a", "a"])["purity"] == 1, "of a group, not of a label"


def test_examples_are_nearest_to_the_middle_of_their_own_group() -> None:
    vectors = np.array([[1, 0], [1, 0.9], [1, 0.3], [0, 1], [-0.1, 1]])
    found = typical(vectors, Groups(np.array([0, 0, 0, 1, 1]), 0.5), 2)
    assert found[0] == [2, 0] and sorted(found[1]) == [3, 4]
