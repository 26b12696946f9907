"""Entities found against entities there: precision, recall and F1, an entity being right when its type and both its ends are.

The numbers are seqeval's: its default mode and its strict mode differ in how tags are read as spans (corpus/schemes.py), not in the
counting here. Conventions: types are those that occur among the gold or the predicted entities; 0/0 counts as 0; macro averages are
plain means over the types, weighted ones by the number of gold entities. Intervals draw whole sentences: entities of one sentence are
not independent of each other.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bertlab.evaluation.intervals import LEVEL, RESAMPLES, Interval, of_units
from bertlab.evaluation.resampling import Metric, Units, f1_of_classes, precision_of_classes, recall_of_classes, scores

Spans = Sequence[Iterable[tuple[int, int, str]]]  # of each sentence: first word, the word after the last, type

_OF_CLASSES = {"precision": precision_of_classes, "recall": recall_of_classes, "f1": f1_of_classes}


def types_of(*systems: Spans) -> list[str]:
    """The types that occur, sorted."""
    return sorted({kind for spans in systems for sentence in spans for _, _, kind in sentence})


def entity_units(gold: Spans, systems: Sequence[Spans], types: Sequence[str], clusters: np.ndarray | None = None) -> Units:
    """n sentences as counts of right, gold and predicted entities by type, for S systems; sentences with equal counts are one unit.

    clusters: (n,) numbers of documents, say, which are then drawn whole. Scores, intervals and tests of differences all start here.
    """
    from scipy import sparse

    place, width = {kind: number for number, kind in enumerate(types)}, 3 * len(types)
    counts = np.zeros((len(gold), len(systems), 3, len(types)), dtype=np.int32)
    for sentence, there in enumerate(gold):
        truth = set(there)
        for system, found in enumerate(systems):
            for part, spans in enumerate((truth & set(found[sentence]), truth, set(found[sentence]))):
                for _, _, kind in spans:
                    counts[sentence, system, part, place[kind]] += 1
    rows = counts.reshape(len(gold), -1)
    if clusters is None:
        rows, times = np.unique(rows, axis=0, return_counts=True)
    else:
        which = np.unique(clusters, return_inverse=True)[1]
        rows = sparse.csr_array((np.ones(len(which)), (which, np.arange(len(which)))), shape=(which.max() + 1, len(which))) @ rows
        times = np.ones(len(rows), dtype=np.int64)
    adds = [sparse.csr_array(rows[:, system * width : (system + 1) * width].T.astype(np.float64)) for system in range(len(systems))]
    return Units(times, tuple(adds), len(types))


def entity_metrics(gold: Spans, predicted: Spans) -> dict[str, Any]:
    """Metrics of n sentences: per_type {name: precision, recall, f1, support, predicted}; micro, macro and weighted averages; n."""
    assert len(gold) == len(predicted) > 0
    types = types_of(gold, predicted)
    names, metrics = _metrics(types)
    if not types:
        return {"n": len(gold)} | _laid_out(names, [0.0] * len(names))
    counts = entity_units(gold, [predicted], types).observed(0)
    laid_out = _laid_out(names, scores(counts, metrics).tolist())
    for number, kind in enumerate(types):
        laid_out["per_type"][kind] |= {"support": int(counts[1, number]), "predicted": int(counts[2, number])}
    return {"n": len(gold)} | laid_out


def entity_intervals(
    gold: Spans,
    predicted: Spans,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """Bootstrap intervals by sentence (or cluster) for what `entity_metrics` gives, under the same keys, with level, n, R and seed."""
    types = types_of(gold, predicted)
    names, metrics = _metrics(types)
    found: list[Interval] = [{"low": None, "high": None, "method": "none: no entity"}] * len(names)
    if types:
        found = of_units(entity_units(gold, [predicted], types, clusters), metrics, seed=seed, resamples=resamples, level=level)
    return {"level": level, "n": len(gold), "R": resamples, "seed": seed} | _laid_out(names, found)


def _metrics(types: Sequence[str]) -> tuple[list[tuple[str, ...]], list[Metric]]:
    """Where each number stands in the metrics, and how it is computed from counts."""
    names: list[tuple[str, ...]] = []
    metrics: list[Metric] = []
    for number, kind in enumerate(types):
        for part, of_classes in _OF_CLASSES.items():
            names.append(("per_type", kind, part))
            metrics.append(number if part == "f1" else partial(_of_class, of_classes, number))
    for name, metric in entity_averages().items():
        kind, _, part = name.partition("_")
        names.append((kind, part))
        metrics.append(metric)
    return names, metrics


def entity_averages() -> dict[str, Metric]:
    """The averages over types by name, as `entity_units` takes them: micro_f1, macro_precision, ..."""
    found: dict[str, Metric] = {}
    for part, of_classes in _OF_CLASSES.items():
        found |= {f"micro_{part}": partial(_micro, of_classes), f"macro_{part}": f"macro_{part}", f"weighted_{part}": f"weighted_{part}"}
    return found


def _of_class(of_classes: Callable[[np.ndarray], np.ndarray], number: int, counts: np.ndarray) -> np.ndarray:
    return of_classes(counts[:, number : number + 1])[0]


def _micro(of_classes: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> np.ndarray:
    return of_classes(counts.sum(1, keepdims=True))[0]


def _laid_out(names: Sequence[tuple[str, ...]], values: Sequence[Any]) -> dict[str, Any]:
    laid_out: dict[str, Any] = {"per_type": {}}
    for name, value in zip(names, values, strict=True):
        part = laid_out
        for key in name[:-1]:
            part = part.setdefault(key, {})
        part[name[-1]] = value
    return laid_out
