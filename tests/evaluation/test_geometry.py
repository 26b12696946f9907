"""bertlab/evaluation/geometry.py: the papers' definitions pair by pair, and intervals that hold the true value as often as they say."""

import itertools
import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from bertlab.evaluation.geometry import SAMPLE, geometry, plane, random_partners, sampled


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_numbers_are_the_definitions_pair_by_pair() -> None:
    draw = np.random.default_rng(0)
    vectors, first, second = (draw.normal(1, 1, size=(count, 5)) * draw.uniform(0.1, 9, size=(count, 1)) for count in (40, 30, 30))
    found = geometry(vectors.astype(np.float32), first.astype(np.float32), second.astype(np.float32))
    pairs = list(itertools.combinations(unit(vectors), 2))
    assert found["anisotropy"] == pytest.approx(np.mean([x @ y for x, y in pairs]), abs=1e-6)
    assert found["uniformity"] == pytest.approx(math.log(np.mean([math.exp(-2 * ((x - y) ** 2).sum()) for x, y in pairs])), abs=1e-6)
    assert found["alignment"] == pytest.approx(
        np.mean([((x - y) ** 2).sum() for x, y in zip(unit(first), unit(second), strict=True)]), abs=1e-6
    )
    assert (found["texts"], found["pairs"]) == (40, 30)
    for name in ("alignment", "uniformity", "anisotropy"):
        assert found["intervals"][name]["low"] < found[name] < found["intervals"][name]["high"]


def test_values_by_hand() -> None:
    cross = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -4.0]])
    found = geometry(cross, cross, cross[[1, 2, 3, 0]])
    assert found["anisotropy"] == pytest.approx((4 * 0 + 2 * -1) / 6)  # of six pairs two are opposite
    assert found["uniformity"] == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert found["alignment"] == pytest.approx(2.0)
    one_way = geometry(np.tile([[1.0, 2.0]], (9, 1)), None, None)
    assert one_way["anisotropy"] == pytest.approx(1) and one_way["uniformity"] == pytest.approx(0) and one_way["alignment"] is None
    assert one_way["intervals"]["anisotropy"]["low"] is None  # such a sample knows no spread
    few = geometry(cross[:3], cross[:3], cross[:3])
    assert (
        few["anisotropy"] is None and few["alignment"] is None and few["intervals"]["uniformity"]["method"].startswith("none: fewer than")
    )


def test_a_sample_is_bounded_and_follows_from_its_seed() -> None:
    rows = sampled(5 * SAMPLE, 3)
    assert len(set(rows.tolist())) == len(rows) == SAMPLE and (np.diff(rows) > 0).all()
    assert (rows == sampled(5 * SAMPLE, 3)).all() and (rows != sampled(5 * SAMPLE, 4)).any()
    assert abs(rows.mean() - 2.5 * SAMPLE) < 0.1 * SAMPLE and sampled(7, 0).tolist() == list(range(7))


def test_partners_have_one_label_and_no_row_two_partners() -> None:
    labels = np.array([2, 0, 1, 0, 0, 2, 1, 0, 5, 0])
    pairs = random_partners(labels, 1)
    assert pairs.shape == (4, 2)  # five of 0 make two pairs, two of 1 and of 2 one each, and 5 is alone
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all() and len(set(pairs.ravel().tolist())) == 8
    assert any((random_partners(labels, seed) != pairs).any() for seed in range(2, 9))
    assert random_partners([0, 1, 2], 0).shape == (0, 2)


def test_intervals_hold_the_true_value_as_often_as_they_say_coverage() -> None:
    draw = np.random.default_rng(5)

    def texts(count: int) -> np.ndarray:
        return draw.normal(size=(count, 8)) + np.array([1.0, *[0] * 7])

    many = unit(texts(200_000))
    cosines = (many[::2] * many[1::2]).sum(1)
    true = {"anisotropy": float(cosines.mean()), "uniformity": math.log(float(np.exp(4 * cosines - 4).mean()))}
    noise = unit(many[::2] + 0.3 * draw.normal(size=(100_000, 8)))
    true["alignment"] = float(((many[::2] - noise) ** 2).sum(1).mean())
    held = dict.fromkeys(true, 0)
    for _ in range(120):
        vectors = texts(60)
        first = unit(texts(40))
        found = geometry(vectors, first, first + 0.3 * draw.normal(size=first.shape))["intervals"]
        for name, value in true.items():
            held[name] += found[name]["low"] <= value <= found[name]["high"]
    print({name: count / 120 for name, count in held.items()})
    assert all(104 <= count <= 120 for count in held.values())  # 114 are expected; below 105 of right intervals in one run of 1,000


# --- a plane


@pytest.mark.parametrize("n, d", [(9, 5), (4, 5), (200, 5)])
def test_a_plane_is_that_of_scikit_learn_but_for_the_direction_of_its_axes(n: int, d: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, d)) * [3, 2, 1, 1, 0.5]
    points, shown = plane(vectors)
    theirs = PCA(2).fit(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(theirs.transform(vectors)), atol=1e-9)
    assert shown == pytest.approx(theirs.explained_variance_ratio_.sum())
    for axis in (0, 1):  # an axis points to where its largest number is positive
        its = (vectors - vectors.mean(0)).T @ points[:, axis]
        assert its[np.abs(its).argmax()] > 0


def test_equal_vectors_are_one_point_and_two_lie_on_a_line() -> None:
    points, shown = plane(np.ones((3, 4)))
    assert not points.any() and shown == 1
    points, shown = plane(np.array([[0.0, 3.0], [4.0, 0.0]]))
    assert abs(points[0, 0] - points[1, 0]) == pytest.approx(5) and np.allclose(points[:, 1], 0) and shown == pytest.approx(1)
