"""What can be compared of each kind of predictions: the metrics by name, those taken where none is asked for, how they are drawn again, and
what is found of two trained models.

A further kind of task is a further branch here and in alignment.py; the tests of significance.py need to know none of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bertlab.corpus.schemes import Span, spans_of
from bertlab.evaluation import power
from bertlab.evaluation.alignment import NUMBERS, Aligned
from bertlab.evaluation.answers import ANSWER_SCORES, answer_scores
from bertlab.evaluation.clusters import NAMES as CLUSTER_SCORES
from bertlab.evaluation.entities import entity_averages, entity_units, types_of
from bertlab.evaluation.numbers import LOWER_IS_BETTER, NUMBER_METRICS, units_of_numbers
from bertlab.evaluation.resampling import AVERAGES, SET_AVERAGES, SET_LOSSES, Sample, units_of, units_of_scores, units_of_sets
from bertlab.evaluation.retrieval import RETRIEVAL_SCORES, retrieval_scores
from bertlab.evaluation.significance import mcnemar, paired_bootstrap, randomisation_p

USUAL = {
    "single-label": ("accuracy", "macro_f1"),
    "multi-label": ("exact_match", "macro_f1", "micro_f1"),
    "regression": ("spearman", "rmse"),
    "tokens": ("micro_f1", "macro_f1"),
    "answers": ("exact_match", "f1"),
    "similarity": ("spearman", "pearson"),
    "retrieval": ("ndcg@10", "recall@10"),
    "clustering": ("v_measure",),
}
# Metrics that say of how many examples an answer is right, which McNemar's test and Wilson's interval are made for.
PROPORTIONS: dict[str, tuple[str, ...]] = {
    "single-label": ("accuracy", "micro_f1"),
    "multi-label": ("exact_match",),
    "answers": ("exact_match",),
}


def known_metrics(aligned: Aligned) -> dict[str, Any]:
    """Every metric of the task by name, as `sample_of`'s units take it; `f1:CLASS` for each class."""
    if aligned.task == "regression":
        return {name: name for name in NUMBER_METRICS}
    if aligned.task == "similarity":
        return {name: name for name in USUAL["similarity"]}  # a cosine is in another unit than a score: no errors
    if aligned.task == "answers":
        return dict(ANSWER_SCORES)
    if aligned.task == "retrieval":
        return dict(RETRIEVAL_SCORES)
    if aligned.task == "clustering":
        return {name: name for name in CLUSTER_SCORES}
    if aligned.task == "tokens":
        return {**entity_averages(), **{f"f1:{kind}": number for number, kind in enumerate(_types(aligned))}}
    averages: Mapping[str, Any] = {name: name for name in AVERAGES} if aligned.task == "single-label" else SET_AVERAGES
    return {**averages, **{f"f1:{name}": number for number, name in enumerate(aligned.names)}}


def _spans(sentences: np.ndarray) -> list[list[Span]]:
    return [spans_of(tags) for tags in sentences]


def _types(aligned: Aligned) -> list[str]:
    """The types of the entities of gold and of all systems; one that is none where there is no entity at all."""
    return types_of(_spans(aligned.gold), *(_spans(each) for each in aligned.predicted)) or ["none"]


def lower_is_better(metric: str) -> bool:
    return metric in LOWER_IS_BETTER or metric in SET_LOSSES


def sample_of(aligned: Aligned, rows: list[int]) -> Sample:
    """The test set with the systems at `rows` of `aligned.predicted`, to be drawn again."""
    predicted = aligned.predicted[rows]
    if aligned.task == "similarity":
        predicted = _in_one_unit(predicted)
    if aligned.task in NUMBERS:
        return units_of_numbers(aligned.gold, predicted, aligned.clusters)
    if aligned.task == "multi-label":
        return units_of_sets(aligned.gold, predicted, aligned.clusters)
    if aligned.task == "answers":
        return units_of_scores(np.stack([answer_scores(list(aligned.gold), list(each)) for each in predicted]), aligned.clusters)
    if aligned.task == "retrieval":
        return units_of_scores(np.stack([retrieval_scores(list(aligned.gold), list(each)) for each in predicted]), aligned.clusters)
    assert aligned.task != "clustering", "of clusters.py: one grouping has no answers that could be drawn or swapped"
    if aligned.task == "tokens":
        return entity_units(_spans(aligned.gold), [_spans(each) for each in predicted], _types(aligned), aligned.clusters)
    return units_of(aligned.gold, predicted, len(aligned.names), aligned.clusters)


def _in_one_unit(predicted: np.ndarray) -> np.ndarray:
    """(S, n) numbers, each system's of mean 0 and deviation 1. No correlation changes by that, and a coin that swaps two systems' answers
    would else swap units: cosines of one model lie between 0.7 and 0.9, of another between -0.2 and 0.8."""
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return centred / np.where(spread > 1e-12, spread, 1)


def is_right(aligned: Aligned, row: int) -> np.ndarray:
    """(n,) whether a system's whole answer is the gold one, for metrics among PROPORTIONS."""
    if aligned.task == "answers":
        return np.asarray(answer_scores(list(aligned.gold), list(aligned.predicted[row]))[:, 0] == 1)
    same = aligned.predicted[row] == aligned.gold
    return same.all(axis=1) if same.ndim == 2 else same


def compared_models(
    aligned: Aligned, rows: list[int], metrics: Mapping[str, Any], *, resamples: int, seed: int, level: float
) -> list[dict[str, Any]]:
    """Two trained models, those at `rows`: for each metric both scores, the difference with its interval, p by the test that fits, and what
    these examples could have shown."""
    units, wanted, n = sample_of(aligned, rows), list(metrics.values()), len(aligned.gold)
    randomised = randomisation_p(units, wanted, resamples, seed)
    of_a, of_b = units.observed_scores(0, wanted), units.observed_scores(1, wanted)
    alpha, results = 1 - level, []
    for number, found in enumerate(paired_bootstrap(units, wanted, resamples, seed, level)):
        name, error, difference = list(metrics)[number], found["standard_error"], found["difference"]
        result = {"metric": name, "lower_is_better": lower_is_better(name), "a": float(of_a[number]), "b": float(of_b[number])} | found
        result |= {"p": float(randomised[number]), "test": "randomisation", "p_randomisation": float(randomised[number])}
        least, needed = power.smallest_difference_by_error(error, alpha), power.examples_needed_by_error(n, error, difference, alpha)
        if name in PROPORTIONS.get(aligned.task, ()) and aligned.clusters is None:
            test = mcnemar(is_right(aligned, rows[0]), is_right(aligned, rows[1]))
            share = (test["only_a"] + test["only_b"]) / n
            result |= {"p": test["p_exact"], "test": "McNemar exact", "mcnemar": test}
            least, needed = power.smallest_difference(n, share, alpha), power.examples_needed(share, difference, alpha)
        results.append(result | {"power": {"power": power.POWER, "smallest_difference": least, "examples_needed": needed}})
    return results


def classes_never_seen(aligned: Aligned, rows: list[int]) -> list[str]:
    """The classes in neither gold nor the predictions at `rows`: their F1 is 0/0 and counts as 0."""
    if aligned.task not in ("single-label", "multi-label"):
        return []
    if aligned.task == "multi-label":
        seen = set(np.flatnonzero(aligned.gold.any(0) | aligned.predicted[rows].any((0, 1))).tolist())
    else:
        seen = {*aligned.gold.tolist(), *aligned.predicted[rows].ravel().tolist()}
    return [name for number, name in enumerate(aligned.names) if number not in seen]
