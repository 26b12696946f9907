"""A test set as counts: examples that look alike are one cell, and resampling draws how often each cell occurs.

Every metric of classes depends on the predictions through three numbers a class: how many are right, how many have the label, how many were
given it. So a bootstrap sample is one multinomial draw over the cells (gold, prediction of A, prediction of B, ...), distributed as if the
n examples were drawn one by one with replacement, and a randomisation is one binomial draw for each cell in which two systems differ:
10,000 samples of macro-F1 on 10,000 examples of 50 classes in about a second or less (docs/comparing.md). Sets of labels are counted
alike, an example adding to each of its labels. Random streams are numpy's:
the same seed gives the same numbers as long as numpy does not change them.

Letters: n examples, K classes, U units (cells or clusters), B resamples of a block, R of all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Formula = Callable[[np.ndarray], np.ndarray]  # (3, K, ...) counts -> (...)
Metric = str | int | Formula  # one of AVERAGES, a class's number (the F1 of that class), or what makes a number of counts

SCARCE = 8  # units that occur less often are drawn one by one: a binomial draw costs about as much as eight of them
SMALL_SET, SMALL_CLASS = 200, 30  # below these the percentile interval of an F1 covers too little (docs/comparing.md)
BLOCK = 2**18  # numbers at a time: what fits into a processor's cache


# --- metrics of counts ------------------------------------------------------------------------------------------------------------------


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0/0 = 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def f1_of_classes(counts: np.ndarray) -> np.ndarray:
    """(3, K, ...) right, gold, predicted -> (K, ...)."""
    return _ratio(2 * counts[0], counts[1] + counts[2])


def precision_of_classes(counts: np.ndarray) -> np.ndarray:
    """(3, K, ...) right, gold, predicted -> (K, ...)."""
    return _ratio(counts[0], counts[2])


def recall_of_classes(counts: np.ndarray) -> np.ndarray:
    """(3, K, ...) right, gold, predicted -> (K, ...)."""
    return _ratio(counts[0], counts[1])


def _weighted(of_classes: Formula) -> Formula:
    return lambda counts: _ratio((of_classes(counts) * counts[1]).sum(0), counts[1].sum(0))


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return _ratio(counts[0].sum(0), counts[1].sum(0))


def _mcc(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation for K classes (Gorodkin 2004); 0 where gold or predictions are of one class."""
    right, gold, predicted = counts
    n = gold.sum(0)
    spread = (n**2 - (gold**2).sum(0)) * (n**2 - (predicted**2).sum(0))
    return _ratio(right.sum(0) * n - (gold * predicted).sum(0), np.sqrt(spread))


AVERAGES: dict[str, Formula] = {
    "accuracy": _accuracy,
    "macro_f1": lambda counts: f1_of_classes(counts).mean(0),
    "micro_f1": _accuracy,  # one label an example, every class counted: the two are equal
    "weighted_f1": _weighted(f1_of_classes),
    "mcc": _mcc,
    "macro_precision": lambda counts: precision_of_classes(counts).mean(0),
    "macro_recall": lambda counts: recall_of_classes(counts).mean(0),
    "weighted_precision": _weighted(precision_of_classes),
    "weighted_recall": _weighted(recall_of_classes),
}


def _of_labels(formula: Formula) -> Formula:
    """Of sets of labels: without the last row of the counts, which is of whole sets."""
    return lambda counts: formula(counts[:, :-1])


def _mcc_of_labels(counts: np.ndarray) -> np.ndarray:
    """(3, K + 1, ...) -> (K, ...): Matthews' correlation of each label with what was given; 0 where either is always or never there."""
    (right, gold, chosen), n = counts[:, :-1], counts[1, -1]
    return _ratio(right * n - gold * chosen, np.sqrt(gold * (n - gold) * chosen * (n - chosen)))


def _hamming_loss(counts: np.ndarray) -> np.ndarray:
    """The share of the n K decisions that are wrong: a label left out or given too much."""
    right, gold, chosen = counts[:, :-1]
    return _ratio((gold + chosen - 2 * right).sum(0), len(gold) * counts[1, -1])


def _micro(above: Sequence[int], below: Sequence[int]) -> Formula:
    """The sum over all classes of the rows `above` of the counts divided by that of the rows `below`."""
    return _of_labels(lambda counts: _ratio(counts[list(above)].sum((0, 1)), counts[list(below)].sum((0, 1))))


SET_AVERAGES: dict[str, Formula] = {
    "exact_match": lambda counts: _ratio(counts[0, -1], counts[1, -1]),
    "macro_f1": _of_labels(AVERAGES["macro_f1"]),
    "micro_f1": _micro((0, 0), (1, 2)),
    "weighted_f1": _of_labels(AVERAGES["weighted_f1"]),
    "macro_precision": _of_labels(AVERAGES["macro_precision"]),
    "macro_recall": _of_labels(AVERAGES["macro_recall"]),
    "micro_precision": _micro((0,), (2,)),
    "micro_recall": _micro((0,), (1,)),
    "weighted_precision": _of_labels(AVERAGES["weighted_precision"]),
    "weighted_recall": _of_labels(AVERAGES["weighted_recall"]),
    "macro_mcc": lambda counts: _mcc_of_labels(counts).mean(0),
    "hamming_loss": _hamming_loss,
}
SET_LOSSES = ("hamming_loss",)  # of which less is better


def scores(counts: np.ndarray, metrics: Sequence[Metric]) -> np.ndarray:
    """The metrics of (3, K, ...) counts, shape (len(metrics), ...)."""
    of_classes = f1_of_classes(counts) if any(isinstance(metric, int) for metric in metrics) else None

    def score(metric: Metric) -> np.ndarray:
        if isinstance(metric, int):
            assert of_classes is not None
            return np.asarray(of_classes[metric])
        return AVERAGES[metric](counts) if isinstance(metric, str) else metric(counts)

    return np.stack([score(metric) for metric in metrics])


# --- a test set as units ----------------------------------------------------------------------------------------------------------------


class Sample(Protocol):
    """A test set that can be drawn again: U units, each `times` as many (U,), and S systems that are scored on the same draws.

    `width` is how many numbers a draw costs. B resamples of a block are (U, B): how often each unit occurs.
    """

    @property
    def times(self) -> np.ndarray: ...

    @property
    def systems(self) -> int: ...

    @property
    def width(self) -> int: ...

    def observed_scores(self, system: int, metrics: Sequence[Any]) -> np.ndarray:
        """(len(metrics),) of the test set as it is."""

    def drawn_scores(self, system: int, times: np.ndarray, metrics: Sequence[Any]) -> np.ndarray:
        """(len(metrics), B) when the units occur (U, B) times."""

    def left_out_scores(self, system: int, metrics: Sequence[Any]) -> np.ndarray:
        """(len(metrics), U) with one of a unit left out."""

    def swapped_differences(self, metrics: Sequence[Any], resamples: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Blocks of (len(metrics), B): the first system's scores less the second's where a coin swaps their answers to each example."""

    def is_small(self, metric: Any) -> bool:
        """Whether there are too few examples for the percentile interval of a metric."""


@dataclass(frozen=True)
class Units:
    """What is drawn: U cells of equal examples, each `times` as many (U,), or U clusters, each once.

    `adds[s]` is a sparse (3K, U) matrix: what one of a unit adds to the right, gold and predicted counts of system s.
    """

    times: np.ndarray
    adds: tuple[Any, ...]
    num_classes: int

    @property
    def systems(self) -> int:
        return len(self.adds)

    @property
    def width(self) -> int:
        return max(len(self.times), 3 * self.num_classes)

    def counts(self, system: int, times: np.ndarray) -> np.ndarray:
        """(3, K, B) counts of a system when the units occur (U, B) times."""
        return np.asarray(self.adds[system] @ times).reshape(3, self.num_classes, -1)

    def observed(self, system: int) -> np.ndarray:
        """(3, K) counts of a system on the test set as it is."""
        return self.counts(system, self.times[:, None].astype(np.float64))[:, :, 0]

    def observed_scores(self, system: int, metrics: Sequence[Metric]) -> np.ndarray:
        return scores(self.observed(system), metrics)

    def drawn_scores(self, system: int, times: np.ndarray, metrics: Sequence[Metric]) -> np.ndarray:
        return scores(self.counts(system, times), metrics)

    def left_out_scores(self, system: int, metrics: Sequence[Metric]) -> np.ndarray:
        width = max(1, 16 * BLOCK // (3 * self.num_classes))
        whole, columns = self.observed(system), self.adds[system].tocsc()
        parts = [
            scores(whole[:, :, None] - columns[:, start : start + width].toarray().reshape(3, self.num_classes, -1), metrics)
            for start in range(0, len(self.times), width)
        ]
        return np.concatenate(parts, axis=1)

    def swapped_differences(self, metrics: Sequence[Metric], resamples: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
        a, b = self.observed(0), self.observed(1)
        moves = (self.adds[1] - self.adds[0]).tocsc()
        moves.eliminate_zeros()
        differs = np.diff(moves.indptr) > 0
        moves, times = moves[:, differs].tocsr(), self.times[differs]
        if not len(times):
            yield np.zeros((len(metrics), resamples))
            return
        for heads in swapped(times, self.num_classes, resamples, draw):
            moved = np.asarray(moves @ heads).reshape(3, self.num_classes, -1)
            yield scores(a[:, :, None] + moved, metrics) - scores(b[:, :, None] - moved, metrics)

    def is_small(self, metric: Metric) -> bool:
        """Few examples, or few of a class that the metric turns on."""
        support = self.observed(0)[1]
        turns_on = support[metric] if isinstance(metric, int) else min(support[support > 0], default=0)
        return bool(self.times.sum() < SMALL_SET or turns_on < SMALL_CLASS)


def units_of(gold: np.ndarray, predicted: np.ndarray, num_classes: int, clusters: np.ndarray | None = None) -> Units:
    """The units of (n,) gold class numbers and the (S, n) predictions of S systems; (n,) cluster numbers make whole clusters units."""
    from scipy import sparse

    gold, predicted = np.asarray(gold, dtype=np.int64), np.atleast_2d(np.asarray(predicted, dtype=np.int64))
    assert gold.ndim == 1 and len(gold) > 0 and predicted.shape[1] == len(gold)
    for numbers in (gold, predicted):
        assert numbers.min() >= 0 and numbers.max() < num_classes, "class numbers are below num_classes"
    if clusters is None:
        unit = gold
        for row in predicted:
            unit = np.unique(unit * num_classes + row, return_inverse=True)[1]
        _, rows, times = np.unique(unit, return_index=True, return_counts=True)  # one example stands for all of its cell
        gold, predicted, unit = gold[rows], predicted[:, rows], np.arange(len(rows))
    else:
        unit = np.unique(np.asarray(clusters), return_inverse=True)[1]
        times = np.ones(unit.max() + 1, dtype=np.int64)

    def adds(labels: np.ndarray) -> Any:
        right = labels == gold
        places = np.concatenate([gold[right], num_classes + gold, 2 * num_classes + labels])
        columns = np.concatenate([unit[right], unit, unit])
        return sparse.csr_array((np.ones(len(places)), (places, columns)), shape=(3 * num_classes, len(times)))

    return Units(times, tuple(adds(row) for row in predicted), num_classes)


def units_of_sets(gold: np.ndarray, predicted: np.ndarray, clusters: np.ndarray | None = None) -> Units:
    """The units of (n, K) truth values, which labels an example has, and the (S, n, K) of S systems.

    One "class" more than there are labels counts whole sets: each example has it, and it is right where the sets are equal.
    """
    from scipy import sparse

    gold, predicted = np.asarray(gold, dtype=bool), np.asarray(predicted, dtype=bool)
    assert gold.ndim == 2 and len(gold) > 0 and predicted.shape[1:] == gold.shape
    n, systems, whole = len(gold), len(predicted), np.ones((len(gold), 1), dtype=bool)
    if clusters is None:
        packed = np.packbits(np.concatenate([gold, *predicted], axis=1), axis=1)
        _, rows, times = np.unique(packed, axis=0, return_index=True, return_counts=True)
        gold, predicted, whole, unit = gold[rows], predicted[:, rows], whole[rows], np.arange(len(rows))
    else:
        unit = np.unique(np.asarray(clusters), return_inverse=True)[1]
        times = np.ones(unit.max() + 1, dtype=np.int64)
    assert times.sum() == n or clusters is not None

    def adds(labels: np.ndarray) -> Any:
        exact = (labels == gold).all(axis=1, keepdims=True)
        counted = np.concatenate([labels & gold, exact, gold, whole, labels, whole], axis=1)  # (n, 3 (K + 1))
        examples, places = np.nonzero(counted)
        return sparse.csr_array((np.ones(len(places)), (places, unit[examples])), shape=(counted.shape[1], len(times)))

    return Units(times, tuple(adds(predicted[system]) for system in range(systems)), gold.shape[1] + 1)


def units_of_scores(scores: np.ndarray, clusters: np.ndarray | None = None) -> Units:
    """The units of n examples of which each has its own scores between 0 and 1, (S, n, K) of S systems and K kinds; (n,) cluster numbers
    make whole clusters units.

    Their means are `mean_of_scores`: a score counts as so much of a right answer. Examples of equal scores are one unit.
    """
    from scipy import sparse

    systems, n, kinds = scores.shape
    rows = scores.transpose(1, 0, 2).reshape(n, systems * kinds)
    if clusters is None:
        rows, times = np.unique(rows, axis=0, return_counts=True)
        sizes = np.ones(len(rows))
    else:
        which = np.unique(clusters, return_inverse=True)[1]
        rows = np.stack([np.bincount(which, weights=its) for its in rows.T], axis=1)
        sizes, times = np.bincount(which).astype(np.float64), np.ones(len(rows), dtype=np.int64)
    given = np.tile(sizes, (2 * kinds, 1))
    of_systems = (rows[:, system * kinds : (system + 1) * kinds].T for system in range(systems))
    return Units(times, tuple(sparse.csr_array(np.concatenate([its, given])) for its in of_systems), kinds)


def mean_of_scores(kind: int) -> Formula:
    """The mean over the examples of one of `units_of_scores`' kinds."""
    return lambda counts: np.asarray(counts[0, kind] / np.maximum(counts[1, kind], 1))


# --- random draws -----------------------------------------------------------------------------------------------------------------------


def generator(seed: int, purpose: int) -> np.random.Generator:
    """A stream of its own for each purpose. SFC64 is numpy's quickest generator."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, purpose])))


def _blocks(width: int, resamples: int) -> Iterator[int]:
    size = max(16, BLOCK // width)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def drawn_with_replacement(units: Sample, resamples: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks of (U, B): how often each unit occurs when as many as there are are drawn with replacement."""
    total = int(units.times.sum())
    scarce = np.flatnonzero(units.times < SCARCE)
    common = np.flatnonzero(units.times >= SCARCE)
    copies = np.repeat(np.arange(len(scarce)), units.times[scarce])  # the scarce units' examples, each by its unit
    shares = np.append(units.times[common], len(copies)) / total
    for size in _blocks(units.width, resamples):
        drawn = draw.multinomial(total, shares, size=size)
        times = np.zeros((len(units.times), size))
        times[common] = drawn[:, :-1].T
        if len(copies):
            first = np.repeat(np.arange(size) * len(scarce), drawn[:, -1])
            places = first + copies[draw.integers(len(copies), size=len(first))]
            times[scarce] = np.bincount(places, minlength=size * len(scarce)).reshape(size, -1).T
        yield times


def swapped(times: np.ndarray, num_classes: int, resamples: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks of (U, B): how many of each unit's `times` examples a fair coin swaps."""
    few = times <= 8  # as many coins as one byte has bits
    masks = (2 ** times[few] - 1).astype(np.uint8)[:, None]
    for size in _blocks(max(len(times), 3 * num_classes), resamples):
        heads = np.zeros((len(times), size))
        coins = np.frombuffer(draw.bytes(len(masks) * size), dtype=np.uint8).reshape(len(masks), size)
        heads[few] = np.bitwise_count(coins & masks)
        heads[~few] = draw.binomial(times[~few][:, None], 0.5, size=(int((~few).sum()), size))
        yield heads


def bootstrap_scores(units: Sample, metrics: Sequence[Any], resamples: int, draw: np.random.Generator) -> np.ndarray:
    """(S, len(metrics), R): every system's metrics on R bootstrap samples, the same samples for all systems."""
    blocks = [
        np.stack([units.drawn_scores(system, times, metrics) for system in range(units.systems)])
        for times in drawn_with_replacement(units, resamples, draw)
    ]
    return np.concatenate(blocks, axis=2)


def leave_one_out_scores(units: Sample, metrics: Sequence[Any]) -> np.ndarray:
    """(S, len(metrics), U): the metrics with one of a unit left out, which `times` of the jackknife's values share."""
    return np.stack([units.left_out_scores(system, metrics) for system in range(units.systems)])
