"""Predictions of similarity and of clustering are compared by what they can be compared by, and by nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.errors import DataError
from bertlab.evaluation.alignment import Aligned, align, read_predictions
from bertlab.evaluation.clusters import write_cluster_predictions
from bertlab.evaluation.comparable import known_metrics, sample_of
from bertlab.evaluation.predictions import write_number_predictions
from bertlab.evaluation.significance import paired_bootstrap, randomisation_p


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, and what two systems say of them, the first with less noise."""
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 6, 120).astype(float)
    return gold, gold / 5 + 0.25 * draw.normal(size=120), gold / 5 + 0.5 * draw.normal(size=120)


def aligned(tmp_path: Path, gold: np.ndarray, systems: dict[str, tuple[np.ndarray, str]]) -> Aligned:
    ids = [str(number) for number in range(len(gold))]
    for name, (values, task) in systems.items():
        write_number_predictions(tmp_path / f"{name}.parquet", ids=ids, text_hashes=ids, gold=gold, predicted=values, task=task)
    return align([read_predictions(tmp_path / f"{name}.parquet") for name in systems])


def test_a_test_of_cosines_does_not_depend_on_their_unit(tmp_path: Path, scored: Any) -> None:
    gold, a, b = scored
    found = []
    for scaled in (b, 0.05 * b + 0.9):
        both = aligned(tmp_path, gold, {"a": (a, "similarity"), "b": (scaled, "similarity")})
        metrics = list(known_metrics(both).values())
        units = sample_of(both, [0, 1])
        found.append((randomisation_p(units, metrics, 2000, 0), [each["difference"] for each in paired_bootstrap(units, metrics, 200, 0)]))
    assert list(known_metrics(both)) == ["spearman", "pearson"]  # a cosine is no score: there is no error to speak of
    np.testing.assert_allclose(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1])
    assert found[0][1][1] == pytest.approx(np.corrcoef(gold, a)[0, 1] - np.corrcoef(gold, b)[0, 1]) and (found[0][0] < 0.01).all()


def test_a_fine_tuned_regression_is_compared_with_cosines_by_correlations(tmp_path: Path, scored: Any) -> None:
    gold, a, b = scored
    for first, second in (("regression", "similarity"), ("similarity", "regression")):
        both = aligned(tmp_path, gold, {"a": (a * 5, first), "b": (b, second)})
        assert both.task == "similarity" and list(known_metrics(both)) == ["spearman", "pearson"]
    assert aligned(tmp_path, gold, {"a": (a, "regression"), "b": (b, "regression")}).task == "regression"
    flat = aligned(tmp_path, gold, {"a": (a, "similarity"), "b": (np.full(120, 0.7), "similarity")})
    assert sample_of(flat, [1]).observed_scores(0, ["spearman", "pearson"]).tolist() == [0, 0]


def test_groupings_are_read_as_labels_and_groups_and_are_no_classes(tmp_path: Path, scored: Any) -> None:
    ids = [str(number) for number in range(6)]
    write_cluster_predictions(tmp_path / "a.parquet", ids=ids, text_hashes=ids, gold=list("aabbcc"), groups=[1, 1, 0, 0, 2, 2])
    read = align([read_predictions(tmp_path / "a.parquet")])
    assert read.task == "clustering" and read.gold.tolist() == list("aabbcc") and read.predicted.tolist() == [list("110022")]
    assert set(known_metrics(read)) == {"v_measure", "homogeneity", "completeness"}
    write_number_predictions(
        tmp_path / "b.parquet", ids=ids, text_hashes=ids, gold=np.arange(6.0), predicted=np.arange(6.0), task="similarity"
    )
    with pytest.raises(DataError, match="is of a clustering task and .* of a similarity one"):
        align([read_predictions(tmp_path / "a.parquet"), read_predictions(tmp_path / "b.parquet")])
