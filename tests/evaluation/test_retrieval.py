"""bertlab/evaluation/retrieval.py: values by hand, nDCG as scikit-learn has it, all of them as sentence-transformers has them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score

from bertlab.evaluation.alignment import align, read_predictions
from bertlab.evaluation.comparable import known_metrics, sample_of
from bertlab.evaluation.retrieval import NAMES, retrieval_intervals, retrieval_metrics, retrieval_scores, write_retrieval_predictions
from bertlab.evaluation.significance import paired_bootstrap, randomisation_p

POOL = [f"d{number}" for number in range(30)]


def drawn(queries: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Relevant ids, 1 to 14 a query, and the order in which ten of the pool were found."""
    draw = np.random.default_rng(seed)
    relevant = [list(map(str, draw.choice(POOL, size=draw.integers(1, 15), replace=False))) for _ in range(queries)]
    return relevant, [list(map(str, draw.permutation(POOL)[:10])) for _ in range(queries)]


def test_scores_can_be_checked_by_hand() -> None:
    found = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    scores = retrieval_scores([["a"], ["c"], ["b", "f"], ["z"], ["j", "z"], ["a", "b"]], [found] * 6)
    discount = 1 / np.log2(np.arange(2, 12))
    wanted: list[list[float]] = [
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1 / 3, 1 / 2],  # log2(4) = 2
        [0, 0.5, 1, 1 / 2, (discount[1] + discount[5]) / (discount[0] + discount[1])],
        [0, 0, 0, 0, 0],
        [0, 0, 0.5, 1 / 10, discount[9] / (discount[0] + discount[1])],
        [0.5, 1, 1, 1, 1],  # of two that are relevant one can be first
    ]
    np.testing.assert_allclose(scores, wanted, atol=1e-12)
    metrics = retrieval_metrics([["a"], ["c"], ["b", "f"], ["z"], ["j", "z"]], [found] * 5)
    assert metrics["n"] == 5 and metrics["recall@5"] == pytest.approx(0.5) and metrics["relevant_per_query"] == pytest.approx(1.4)
    assert retrieval_scores([["a"]], [["b", "a"]]).tolist() == [[0, 1, 1, 0.5, pytest.approx(1 / np.log2(3))]]  # a pool of two


def test_ndcg_is_scikit_learns() -> None:
    relevant, found = drawn(60, 0)
    for wanted, ids, ours in zip(relevant, found, retrieval_scores(relevant, found)[:, NAMES.index("ndcg@10")], strict=True):
        truth = np.array([[float(id in wanted) for id in POOL]])
        places = np.array([[-float(ids.index(id)) if id in ids else -99.0 - number for number, id in enumerate(POOL)]])
        assert ours == pytest.approx(ndcg_score(truth, places, k=10), abs=1e-12)


def test_all_scores_are_those_of_sentence_transformers_evaluator() -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    relevant, found = drawn(60, 1)
    names = [f"q{number}" for number in range(60)]
    peer = InformationRetrievalEvaluator(
        dict.fromkeys(names, "?"), dict.fromkeys(POOL, "!"), {name: set(ids) for name, ids in zip(names, relevant, strict=True)},
        mrr_at_k=[10], ndcg_at_k=[10], precision_recall_at_k=[1, 5, 10], accuracy_at_k=[1], map_at_k=[10],
    )  # fmt: skip
    theirs = peer.compute_metrics([[{"corpus_id": id, "score": -float(place)} for place, id in enumerate(ids)] for ids in found])
    ours = retrieval_metrics(relevant, found)
    assert [ours[f"recall@{cut}"] for cut in (1, 5, 10)] == pytest.approx([theirs["recall@k"][cut] for cut in (1, 5, 10)])
    assert [ours["mrr@10"], ours["ndcg@10"]] == pytest.approx([theirs["mrr@k"][10], theirs["ndcg@k"][10]])


def test_intervals_are_the_bootstraps_over_queries() -> None:
    relevant, found = drawn(300, 2)
    intervals, scores = retrieval_intervals(relevant, found, resamples=4000), retrieval_scores(relevant, found)
    draw = np.random.default_rng(3)
    means = np.array([scores[draw.integers(300, size=300)].mean(0) for _ in range(4000)])
    for kind, name in enumerate(NAMES):
        low, high = np.quantile(means[:, kind], [0.025, 0.975])
        assert [intervals[name]["low"], intervals[name]["high"]] == pytest.approx([low, high], abs=0.006)


def test_two_systems_are_compared_on_the_same_queries_and_pools_that_differ_are_refused(tmp_path: Path) -> None:
    from bertlab.errors import DataError

    relevant, worse = drawn(150, 4)
    better = [[*wanted[:1], *(id for id in ids if id not in wanted[:1])][:10] for wanted, ids in zip(relevant, worse, strict=True)]
    ids = [f"q{number}" for number in range(150)]
    for name, found, pool in (("a", better, "one"), ("b", worse, "one"), ("c", worse, "another")):
        hashes = [f"{id} {pool}" for id in ids]
        write_retrieval_predictions(tmp_path / f"{name}.parquet", ids=ids, query_hashes=hashes, relevant=relevant, found=found)
    a, b, c = (read_predictions(tmp_path / f"{name}.parquet") for name in "abc")
    aligned = align([a, b])
    metrics = known_metrics(aligned)
    assert tuple(metrics) == NAMES and aligned.task == "retrieval"
    units, wanted_metrics = sample_of(aligned, [0, 1]), list(metrics.values())
    expected = retrieval_scores(relevant, better).mean(0) - retrieval_scores(relevant, worse).mean(0)
    for result, difference in zip(paired_bootstrap(units, wanted_metrics, 500, 0), expected, strict=True):
        assert result["difference"] == pytest.approx(difference) and result["interval"]["low"] > 0
    assert (randomisation_p(units, wanted_metrics, 500, 0) < 0.01).all()
    columns = pq.read_table(tmp_path / "b.parquet").to_pydict()
    assert columns["ndcg@10"] == retrieval_scores(relevant, worse)[:, 4].tolist() and columns["gold"] == relevant
    with pytest.raises(DataError, match="is not of the same examples"):
        align([a, c])
