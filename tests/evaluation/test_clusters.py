"""bertlab/evaluation/clusters.py: scikit-learn's measures, the jackknife by leaving out, intervals and tests that are what they say."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import homogeneity_completeness_v_measure

from bertlab.evaluation.clusters import (
    NAMES,
    cluster_differences,
    cluster_intervals,
    cluster_metrics,
    cluster_scores,
    k_means,
)


def peer(gold: Any, groups: Any) -> list[float]:
    homogeneity, completeness, v_measure = homogeneity_completeness_v_measure(gold, groups)
    return [v_measure, homogeneity, completeness]


def drawn(n: int, labels: int, groups: int, seed: int, agree: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, labels, n)
    return gold, np.where(draw.random(n) < agree, gold % groups, draw.integers(0, groups, n))


@pytest.mark.parametrize("seed", range(20))
def test_measures_are_scikit_learns(seed: int) -> None:
    gold, groups = drawn(1 + seed * 2, 1 + seed % 5, 1 + seed % 4, seed)
    assert list(cluster_scores(gold, groups).values()) == pytest.approx(peer(gold, groups), abs=1e-9)


def test_extremes_by_hand() -> None:
    assert list(cluster_scores(list("aabb"), [1, 1, 7, 7]).values()) == pytest.approx([1, 1, 1])
    assert list(cluster_scores(list("aabb"), [0, 1, 0, 1]).values()) == pytest.approx([0, 0, 0], abs=1e-12)
    assert list(cluster_scores(list("aabb"), [0, 0, 0, 0]).values()) == pytest.approx([0, 0, 1])
    assert list(cluster_scores(list("aabb"), [0, 1, 2, 3]).values()) == pytest.approx([2 / 3, 1, 1 / 2])


def left_out(gold: np.ndarray, groups: np.ndarray, keep: list[np.ndarray]) -> np.ndarray:
    return np.array([peer(gold[each], groups[each]) for each in keep])


@pytest.mark.parametrize("clusters", [None, np.arange(40) // 4])
def test_the_interval_is_the_jackknifes_by_leaving_out(clusters: np.ndarray | None) -> None:
    from scipy.stats import t

    gold, groups = drawn(40, 3, 4, 1)
    parts = np.arange(40) if clusters is None else clusters
    values = left_out(gold, groups, [parts != part for part in range(parts.max() + 1)])
    n = len(values)
    errors = np.sqrt((n - 1) / n * ((values - values.mean(0)) ** 2).sum(0))
    found = cluster_intervals(gold, groups, clusters=clusters)
    for name, value, error in zip(NAMES, peer(gold, groups), errors, strict=True):
        half = t.isf(0.025, n - 1) * error
        assert [found[name]["low"], found[name]["high"]] == pytest.approx([max(0, value - half), min(1, value + half)])
    perfect = cluster_intervals(gold, gold)
    assert perfect["v_measure"]["low"] is None and perfect["v_measure"]["method"].startswith("none: leaving out")


@pytest.mark.parametrize("clusters", [None, np.arange(40) // 4])
def test_a_difference_is_the_jackknifes_by_leaving_out(clusters: np.ndarray | None) -> None:
    gold, a = drawn(40, 3, 4, 1)
    _, b = drawn(40, 3, 2, 2)
    parts = np.arange(40) if clusters is None else clusters
    keep = [parts != part for part in range(parts.max() + 1)]
    values = left_out(gold, a, keep) - left_out(gold, b, keep)
    errors = np.sqrt((len(keep) - 1) / len(keep) * ((values - values.mean(0)) ** 2).sum(0))
    found = cluster_differences(gold, a, b, clusters=clusters)
    assert [found[name]["standard_error"] for name in NAMES] == pytest.approx(errors.tolist())
    assert [found[name]["difference"] for name in NAMES] == pytest.approx(
        [x - y for x, y in zip(peer(gold, a), peer(gold, b), strict=True)]
    )
    same = cluster_differences(gold, a, 9 - a, clusters=clusters)  # a group's number is only a name
    assert same["v_measure"]["p"] == 1 and same["v_measure"]["difference"] == pytest.approx(0, abs=1e-12)


def test_intervals_hold_and_tests_err_as_often_as_they_say_coverage() -> None:
    draw = np.random.default_rng(0)
    labels, n, times = 8, 160, 250
    chance = 0.4 * draw.dirichlet(np.full(labels, 0.2), labels) + 0.6 * np.eye(labels)
    values, intervals, found = [], [], 0
    for _ in range(times):
        gold = draw.integers(0, labels, n)
        a, b = ((chance[gold].cumsum(1) > draw.random((n, 1))).argmax(1) for _ in range(2))
        values.append(cluster_scores(gold, a)["v_measure"])
        intervals.append(cluster_intervals(gold, a)["v_measure"])
        found += cluster_differences(gold, a, b)["v_measure"]["p"] <= 0.05
    held = sum(each["low"] <= np.mean(values) <= each["high"] for each in intervals)
    print(held / times, found / times)
    assert 225 <= held <= 249 and found <= 24  # 237.5 and 12.5 are expected


def test_chance_is_what_a_lot_gives_and_grows_with_the_groups() -> None:
    gold, groups = drawn(200, 20, 20, 3, agree=0.0)
    metrics = cluster_metrics(gold, groups)
    assert metrics["by_chance"]["mean"] < metrics["by_chance"]["high"] < 0.7
    assert abs(metrics["v_measure"] - metrics["by_chance"]["mean"]) < 0.06  # these groups are a lot
    few = cluster_metrics(gold % 2, groups % 2)
    assert few["by_chance"]["mean"] < 0.02 < 0.3 < metrics["by_chance"]["mean"] and (metrics["labels"], metrics["groups"]) == (20, 20)


def test_k_means_finds_directions_and_is_the_same_again() -> None:
    draw = np.random.default_rng(1)
    centres = np.eye(5)[:3] * 4
    gold = np.repeat([0, 1, 2], 40)
    vectors = (centres[gold] + draw.normal(size=(120, 5)) * 0.3) * draw.uniform(0.01, 100, size=(120, 1))
    groups = k_means(vectors, 3, 0)
    assert cluster_scores(gold, groups)["v_measure"] == pytest.approx(1)
    assert (k_means(vectors, 3, 0) == groups).all()
    assert len(set(k_means(np.ones((6, 2)), 3, 0).tolist())) == 1  # nothing to tell apart, and no warning
