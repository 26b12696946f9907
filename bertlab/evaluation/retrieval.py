"""Texts found for a query: how high those that belong to it come among all. Each query has its scores, and a set of queries their means.

    recall@k   the share of a query's relevant texts among the first k
    mrr@10     1 over the place of the first relevant text, 0 below the tenth
    ndcg@10    the sum of 1 / log2(1 + place) over the relevant texts among the first ten, divided by the largest that it could be

A text is relevant or it is not. What is not among the first ten counts as not found: the ids of the relevant texts and of the first ten are
all that a comparison of two systems needs. Intervals draw queries, and take the pool of texts as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertlab.evaluation.intervals import LEVEL, RESAMPLES, of_units
from bertlab.evaluation.predictions import write_rows
from bertlab.evaluation.resampling import Formula, mean_of_scores, units_of_scores

CUTS = (1, 5, 10)
DEPTH = max(CUTS)
NAMES = (*(f"recall@{cut}" for cut in CUTS), f"mrr@{DEPTH}", f"ndcg@{DEPTH}")

RETRIEVAL_SCORES: dict[str, Formula] = {name: mean_of_scores(kind) for kind, name in enumerate(NAMES)}


def retrieval_scores(relevant: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> np.ndarray:
    """The scores of each of n queries in the order of NAMES, (n, 5).

    relevant: the ids of a query's relevant texts, one or more; found: the ids of the nearest texts, the nearest first.
    """
    return np.array([_scores(set(wanted), ids) for wanted, ids in zip(relevant, found, strict=True)]).reshape(-1, len(NAMES))


def _scores(wanted: set[str], ids: Sequence[str]) -> list[float]:
    assert wanted, "a query without a relevant text has no recall"
    hits = np.array([id in wanted for id in ids[:DEPTH]], dtype=np.float64)
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    recalls = [float(hits[:cut].sum()) / len(wanted) for cut in CUTS]
    first = 1 / (1 + int(hits.argmax())) if hits.any() else 0.0
    return [*recalls, first, float(hits @ discounts[: len(hits)] / discounts[: len(wanted)].sum())]


def retrieval_metrics(relevant: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The means over n > 0 queries, n, and how many texts are relevant to a query on average."""
    scores = retrieval_scores(relevant, found)
    means = dict(zip(NAMES, scores.mean(0).tolist(), strict=True))
    return {"n": len(scores), **means, "relevant_per_query": float(np.mean([len(set(each)) for each in relevant]))}


def retrieval_intervals(
    relevant: Sequence[Sequence[str]], found: Sequence[Sequence[str]], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Any]:
    """The bootstrap's interval over queries of each mean, with level, n, R and seed."""
    units = units_of_scores(retrieval_scores(relevant, found)[None])
    intervals = of_units(units, list(RETRIEVAL_SCORES.values()), seed=seed, resamples=resamples, level=level)
    return {"level": level, "n": len(found), "R": resamples, "seed": seed} | dict(zip(NAMES, intervals, strict=True))


def write_retrieval_predictions(
    path: Path, *, ids: Sequence[str], query_hashes: Sequence[str], relevant: Sequence[Sequence[str]], found: Sequence[Sequence[str]]
) -> None:
    """Write n queries: the ids of their relevant texts as gold, those of the ten nearest as predicted, and a column a score.

    query_hashes: of a query's text and of the pool, so that queries into another pool are no comparison.
    """
    columns = {"gold": pa.array(list(relevant), pa.list_(pa.string())), "predicted": pa.array(list(found), pa.list_(pa.string()))}
    of_kinds = retrieval_scores(relevant, found).T
    columns |= {name: pa.array(values, pa.float64()) for name, values in zip(NAMES, of_kinds, strict=True)}
    write_rows(path, ids=ids, text_hashes=query_hashes, columns=columns, task="retrieval", names=[])
