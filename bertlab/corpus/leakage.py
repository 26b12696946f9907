"""Test texts that training has seen: equal ones, nearly equal ones, and equal texts that have different labels.

Equal: the same text after Unicode forms, letter case and white space are levelled (bertlab.corpus.identity). Nearly equal: the sets of the
runs of 3 words of two texts have a Jaccard similarity, runs in both / runs in either, of at least the threshold. It is exact, not
estimated: every pair that reaches the threshold shares one of each side's rarest runs (prefix filtering: Chaudhuri, Ganti and Kaushik
2006; Bayardo, Ma and Srikant 2007), only such pairs are looked at, and of those none is left out but by the bound below. Two pairs of texts
are nearly equal when both texts of one are like both of the other, in either order.

Memory: 30 bytes a word of the test texts and of a block of training texts. Of more than 1,000 different training texts that may be like one
test text (a million copies of a form letter) 1,000 are compared. Not found: a test text inside a longer one, a paraphrase, a translation;
of a text of 8 words one with a word changed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labels import alike_names
from bertlab.corpus.shingles import NO_WORDS, batches, gram_hashes, is_long, run_hashes, word_hashes, word_pieces
from bertlab.errors import ConfigError

RUN_WORDS = 3
THRESHOLD = 0.7
MOST_CANDIDATES = 1_000  # training texts with which one test text is compared, and a few more
# What is held at once: characters of training texts, pairs that share a run, runs of the sets that are compared
BLOCK_CHARACTERS, CANDIDATES, COMPARED_RUNS = 20_000_000, 2_000_000, 4_000_000


@dataclass(frozen=True)
class Leak:
    """A test row and the training row most like it (the first of equally like ones), by their ids; `similarity` is 1 for equal texts."""

    test_id: str
    train_id: str
    similarity: float
    equal: bool
    same_label: bool | None


@dataclass(frozen=True)
class Conflict:
    """Rows with equal texts and different labels: (id, label) of each, in order."""

    rows: list[tuple[str, str]]

    @property
    def in_writing(self) -> bool:
        """Whether the labels are one that is written in several ways (labelled.alike_names), and no contradiction."""
        names = list({label for _, label in self.rows})
        return [len(ways) for ways in alike_names(names)] == [len(names)]


@dataclass(frozen=True)
class Leakage:
    """What of `rows` test rows is in train: `equal`, `near` (not equal, but nearly), the leaks in the order of the test rows."""

    rows: int
    equal: int
    near: int
    threshold: float
    leaks: list[Leak]
    conflicts: list[Conflict]

    def as_json(self, most: int = 100) -> dict[str, Any]:
        """For metrics.json: the counts, and the first `most` leaks and conflicts."""
        return {
            "rows": self.rows,
            "equal": self.equal,
            "near": self.near,
            "threshold": self.threshold,
            "leaks": [vars(leak) for leak in self.leaks[:most]],
        } | conflicts_as_json(self.conflicts, most)


def find_leaks(train: Labelled, test: Labelled, threshold: float = THRESHOLD) -> Leakage:
    """Every test row that is equal or nearly equal to a training row, and the equal texts of the two whose labels differ.

    Raises ConfigError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"the similarity of leaks is {threshold}: give a number above 0 and up to 1")
    equal = _equal_rows(train, test)
    near = _near_rows(train, test, threshold, set(equal))
    train_labels, test_labels = _labels(train), _labels(test)
    leaks = []
    for row in sorted({*equal, *near}):
        other, similarity = (equal[row], 1.0) if row in equal else near[row]
        same = None if train_labels is None or test_labels is None else train_labels[other] == test_labels[row]
        leaks.append(Leak(test.ids[row], train.ids[other], similarity, row in equal, same))
    return Leakage(len(test), len(equal), len(near), threshold, leaks, conflicting_labels(train, test))


# ---- equal texts


def _keys(rows: Labelled) -> list[str]:
    """A hash of each row that is the same for (a, b) and (b, a)."""
    if rows.texts_b is None:
        return rows.text_hashes()
    turned = replace(rows, texts=rows.texts_b, texts_b=rows.texts)
    return [min(both) for both in zip(rows.text_hashes(), turned.text_hashes(), strict=True)]


def _equal_rows(train: Labelled, test: Labelled) -> dict[int, int]:
    """Test row -> the first training row with an equal text."""
    first: dict[str, int] = {}
    for row, key in enumerate(_keys(train)):
        first.setdefault(key, row)
    return {row: first[key] for row, key in enumerate(_keys(test)) if key in first}


def conflicting_labels(*splits: Labelled) -> list[Conflict]:
    """Equal texts with different labels, over all the splits together, in the order in which the texts first occur, but first those whose
    labels differ in more than how they are written.

    For pairs (a, b) and (b, a) are not equal here: what follows from what may turn round with them.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for rows in splits:
        labels = _labels(rows)
        if labels is not None:
            for key, id, label in zip(rows.text_hashes(), rows.ids, labels, strict=True):
                found[key].append((id, label))
    conflicts = [Conflict(rows) for rows in found.values() if len({label for _, label in rows}) > 1]
    return sorted(conflicts, key=lambda conflict: conflict.in_writing)


def conflicts_as_json(conflicts: Sequence[Conflict], most: int = 100) -> dict[str, Any]:
    """How many there are, how many of them in writing alone, and the rows of the first `most`."""
    return {
        "conflicting_labels": len(conflicts),
        "conflicting_in_writing": sum(conflict.in_writing for conflict in conflicts),
        "conflicts": [[list(row) for row in conflict.rows[:most]] for conflict in conflicts[:most]],
    }


def _labels(rows: Labelled) -> list[str] | None:
    """The label of each row; a set of labels as one."""
    return rows.labels if rows.label_sets is None else [", ".join(sorted(labels)) for labels in rows.label_sets]


# ---- nearly equal texts


def _near_rows(train: Labelled, test: Labelled, threshold: float, but: set[int]) -> dict[int, tuple[int, float]]:
    """Test row, not among `but` -> the training row most like it, and how like it is (of a pair, its less like text)."""
    if (train.texts_b is None) != (test.texts_b is None):
        return {}
    rows = [row for row in range(len(test)) if row not in but]
    asked, test_texts = _distinct(test.subset(rows))
    known, train_texts = _distinct(train)
    alike: dict[int, dict[int, float]] = defaultdict(dict)  # number of a test text -> number of a training text -> similarity
    for test_text, train_text, similarity in similar_texts(train_texts, test_texts, threshold):
        alike[test_text][train_text] = similarity
    rows_with: dict[int, list[int]] = defaultdict(list)  # number of a training text -> the rows that have it first or second
    for row, numbers in enumerate(known):
        for text in set(numbers):
            rows_with[text].append(row)
    found = {}
    for row, (a, b) in zip(rows, asked, strict=True):
        rarer = min(alike[a], alike[b], key=lambda texts: sum(len(rows_with[text]) for text in texts))
        best = (0.0, 0)  # similarity, and minus the row: the first of equally like ones
        for other in islice((row for text in rarer for row in rows_with[text]), MOST_CANDIDATES):
            c, d = known[other]
            straight = min(alike[a].get(c, 0.0), alike[b].get(d, 0.0))
            turned = min(alike[a].get(d, 0.0), alike[b].get(c, 0.0))
            best = max(best, (max(straight, turned), -other))
        if best[0]:
            found[row] = (-best[1], best[0])
    return found


def _distinct(rows: Labelled) -> tuple[list[tuple[int, int]], list[str]]:
    """The numbers of the two texts of each row (twice the same for a single text), and the distinct texts by number."""
    numbers: dict[str, int] = {}
    pairs = [
        (numbers.setdefault(a, len(numbers)), numbers.setdefault(b, len(numbers)))
        for a, b in zip(rows.texts, rows.texts if rows.texts_b is None else rows.texts_b, strict=True)
    ]
    return pairs, list(numbers)


@dataclass(frozen=True)
class _Sets:
    """The runs of words of N texts by rank, end to end, each text's in order; text n has those from begins[n] to begins[n + 1]."""

    ranks: np.ndarray
    begins: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.begins)


def similar_texts(train: Sequence[str], test: Sequence[str], threshold: float = THRESHOLD) -> Iterator[tuple[int, int, float]]:
    """(test text, training text, Jaccard similarity) of all that are as alike as `threshold` or more. Texts without words are like none."""
    hashes, begins = _runs(test)
    known, frequency = np.unique(hashes, return_counts=True)
    rank = np.empty(len(known), np.int64)  # of each run that a test text has, the rarest first
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(known))
    if not len(known):
        return
    asked = _ranked(hashes, begins, known, rank)
    texts, ranks = _prefixes(asked, threshold)
    often = np.bincount(ranks, minlength=len(known))
    compared = np.zeros(len(test), np.int64)
    for first, end in _blocks(train):
        block = _ranked(*_runs(train[first:end]), known, rank)
        for some in _slices(*_prefixes(block, threshold), often):
            still = compared[texts] < MOST_CANDIDATES
            test_texts, train_texts = _candidates(texts[still], ranks[still], *some, len(known), len(test))
            alike_in_size = _are_like(block.sizes[train_texts], asked.sizes[test_texts], threshold)
            test_texts, train_texts = test_texts[alike_in_size], train_texts[alike_in_size]
            compared += np.bincount(test_texts, minlength=len(test))
            for test_text, train_text, similarity in _verified(asked, test_texts, block, train_texts, len(known)):
                if similarity >= threshold - 1e-9:
                    yield test_text, first + train_text, similarity


def _blocks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of texts of no more than BLOCK_CHARACTERS together, or one longer text."""
    first, characters = 0, 0
    for place, text in enumerate(texts):
        if place > first and characters + len(text) > BLOCK_CHARACTERS:
            yield first, place
            first, characters = place, 0
        characters += len(text)
    if first < len(texts):
        yield first, len(texts)


def _runs(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct runs of 3 words of N texts (of a shorter text all its words) end to end, and where each text's begin (N + 1,)."""
    parts, sizes = [NO_WORDS], [np.zeros(1, np.int64)]
    for first, end in batches(texts):
        if is_long(texts, first, end):
            runs = _runs_of_long(texts[first])
            begins = np.array([0, len(runs)])
        else:
            runs, begins = gram_hashes(*word_hashes(texts[first:end]), RUN_WORDS, short=True)
        text = np.repeat(np.arange(end - first), np.diff(begins))
        order = np.lexsort((runs, text))
        runs, text = runs[order], text[order]
        new = np.ones(len(runs), bool)
        new[1:] = (runs[1:] != runs[:-1]) | (text[1:] != text[:-1])
        parts.append(runs[new])
        sizes.append(np.bincount(text[new], minlength=end - first))
    return np.concatenate(parts), np.cumsum(np.concatenate(sizes))


def _runs_of_long(text: str) -> np.ndarray:
    found = [NO_WORDS]
    for words, _ in word_pieces(text, RUN_WORDS - 1):
        found.append(run_hashes(words, RUN_WORDS))
    if not any(map(len, found)):
        found.append(run_hashes(words, RUN_WORDS, short=True))
    return np.concatenate(found)


def _ranked(hashes: np.ndarray, begins: np.ndarray, known: np.ndarray, rank: np.ndarray) -> _Sets:
    """Runs by their rank, -1 for those that no test text has: they come first, as the rarest of all."""
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    ranks = np.where(known[place] == hashes, rank[place], -1)
    text = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    return _Sets(ranks[np.lexsort((ranks, text))], begins)


def _prefixes(sets: _Sets, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(text, rank) of the rarest n - ceil(t n) + 1 of each text's n runs: two texts as alike as t share one of these of both."""
    lengths = sets.sizes - np.ceil(threshold * sets.sizes - 1e-9).astype(np.int64) + 1
    text = np.repeat(np.arange(len(sets.sizes)), sets.sizes)
    place = np.arange(len(sets.ranks)) - sets.begins[text]
    chosen = (place < lengths[text]) & (sets.ranks >= 0)
    return text[chosen], sets.ranks[chosen]


def _slices(texts: np.ndarray, ranks: np.ndarray, often: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(texts, ranks) in parts that meet about CANDIDATES test texts, where rank r meets often[r], no text divided."""
    met = np.cumsum(often[ranks])
    start = 0
    while start < len(texts):
        last = int(np.searchsorted(met, (met[start - 1] if start else 0) + CANDIDATES))
        end = int(np.searchsorted(texts, texts[min(last, len(texts) - 1)], side="right"))
        yield texts[start:end], ranks[start:end]
        start = end


def _candidates(
    test_texts: np.ndarray, test_ranks: np.ndarray, train_texts: np.ndarray, train_ranks: np.ndarray, num_known: int, num_test: int
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct (test text, training text) that have a rank of their prefixes in common."""
    order = np.argsort(test_ranks, kind="stable")
    starts = np.searchsorted(test_ranks[order], np.arange(num_known + 1))
    counts = starts[train_ranks + 1] - starts[train_ranks]  # test texts of each run of a training text
    before = np.cumsum(counts) - counts
    place = np.arange(counts.sum()) + np.repeat(starts[train_ranks] - before, counts)
    pairs = np.unique(np.repeat(train_texts, counts) * num_test + test_texts[order][place])
    return pairs % num_test, pairs // num_test


def _are_like(first: np.ndarray, second: np.ndarray, threshold: float) -> np.ndarray:
    """Whether sets of such sizes can be as alike as the threshold at all."""
    return np.minimum(first, second) >= threshold * np.maximum(first, second) - 1e-9


def _verified(asked: _Sets, test_texts: np.ndarray, block: _Sets, train_texts: np.ndarray, num_known: int) -> Iterator[Any]:
    """(test text, training text, Jaccard similarity) of each of p pairs."""
    from scipy import sparse

    def rows(sets: _Sets) -> Any:
        seen = sets.ranks >= 0
        begins = np.concatenate([[0], np.cumsum(seen)])[sets.begins]
        return sparse.csr_array((np.ones(seen.sum(), np.int32), sets.ranks[seen], begins), shape=(len(sets.sizes), num_known))

    tests, trains = rows(asked), rows(block)
    ends = np.cumsum(asked.sizes[test_texts] + block.sizes[train_texts])
    start = 0
    while start < len(ends):
        base = ends[start - 1] if start else 0
        some = slice(start, max(start + 1, int(np.searchsorted(ends, base + COMPARED_RUNS))))
        a, b = test_texts[some], train_texts[some]
        shared = np.asarray(tests[a].multiply(trains[b]).sum(axis=1)).ravel()
        either = asked.sizes[a] + block.sizes[b] - shared
        yield from zip(a.tolist(), b.tolist(), (shared / either).tolist(), strict=True)
        start = some.stop
