"""bertlab/evaluation/entities.py: seqeval's numbers in both of its modes, by hand where they can be, and intervals that draw sentences."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from bertlab.corpus.schemes import spans_of, strict_spans_of
from bertlab.evaluation.entities import entity_intervals, entity_metrics, entity_units, types_of
from bertlab.evaluation.resampling import f1_of_classes
from bertlab.evaluation.significance import paired_bootstrap, randomisation_p

PARTS = ("precision", "recall", "f1")
TAGS = st.lists(st.sampled_from(["O", "O", "O", "B-x", "I-x", "B-y", "I-y", "B-z", "I-z"]), min_size=1, max_size=9)

# Two entities of x there, three found, one of them right; one y there, found with the wrong end; one z there, right.
GOLD = [[(0, 2, "x"), (3, 4, "y")], [(1, 2, "x")], [(0, 1, "z")]]
FOUND = [[(0, 2, "x"), (3, 5, "y")], [(2, 3, "x"), (4, 5, "x")], [(0, 1, "z")]]


def by_seqeval(gold: list[list[str]], predicted: list[list[str]], strict: bool) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode: dict[str, Any] = {"mode": "strict", "scheme": IOB2} if strict else {}
        return classification_report(gold, predicted, output_dict=True, zero_division=0, **mode)


def test_scores_by_hand() -> None:
    metrics = entity_metrics(GOLD, FOUND)
    assert metrics["n"] == 3
    assert metrics["per_type"] == {
        "x": {"precision": 1 / 3, "recall": 1 / 2, "f1": pytest.approx(0.4), "support": 2, "predicted": 3},
        "y": {"precision": 0, "recall": 0, "f1": 0, "support": 1, "predicted": 1},
        "z": {"precision": 1, "recall": 1, "f1": 1, "support": 1, "predicted": 1},
    }
    assert metrics["micro"] == {"precision": 2 / 5, "recall": 2 / 4, "f1": pytest.approx(4 / 9)}
    assert metrics["macro"] == pytest.approx({"precision": 4 / 9, "recall": 1 / 2, "f1": 1.4 / 3})
    assert metrics["weighted"] == pytest.approx({"precision": (2 / 3 + 1) / 4, "recall": 1 / 2, "f1": 1.8 / 4})


@pytest.mark.parametrize("strict", [False, True])
@given(sentences=st.lists(TAGS, min_size=1, max_size=5), other=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_scores_are_seqevals(strict: bool, sentences: list[list[str]], other: Any) -> None:
    predicted = [[tag if other.random() < 0.7 else other.choice(["O", "B-x", "I-x", "B-q", "I-y"]) for tag in tags] for tags in sentences]
    read = strict_spans_of if strict else spans_of
    gold_spans, found = [read(tags) for tags in sentences], [read(tags) for tags in predicted]
    ours = entity_metrics(gold_spans, found)
    if not types_of(gold_spans, found):  # seqeval fails on no entity at all: it takes the longest of no names
        assert ours["per_type"] == {} and all(ours[average][part] == 0 for average in ("micro", "macro", "weighted") for part in PARTS)
        return
    theirs = by_seqeval(sentences, predicted, strict)
    for name in theirs.keys() - {"micro avg", "macro avg", "weighted avg"}:
        assert ours["per_type"][name]["support"] == theirs[name]["support"]
    assert len(ours["per_type"]) == len(theirs) - 3
    for name, row in theirs.items():
        mine = ours[name.removesuffix(" avg")] if name.endswith(" avg") else ours["per_type"][name]
        for part, theirs_name in zip(PARTS, ("precision", "recall", "f1-score"), strict=True):
            assert mine[part] == pytest.approx(row[theirs_name], abs=1e-12), (name, part)


def test_the_two_modes_differ_where_an_i_begins() -> None:
    gold, predicted = [["B-x", "I-x", "O"]], [["I-x", "I-x", "O"]]
    assert entity_metrics([spans_of(gold[0])], [spans_of(predicted[0])])["micro"]["f1"] == 1
    assert entity_metrics([strict_spans_of(gold[0])], [strict_spans_of(predicted[0])])["micro"]["f1"] == 0


def random_spans(n: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Sentences with up to three entities, of which a system finds about two in three and invents some."""
    draw = np.random.default_rng(seed)
    gold, found = [], []
    for _ in range(n):
        there = [(3 * place, 3 * place + 2, "xyz"[draw.integers(3)]) for place in range(draw.integers(4))]
        gold.append(there)
        found.append([span for span in there if draw.random() < 0.7] + [(20, 21, "y")] * (draw.random() < 0.2))
    return gold, found


def test_sentences_with_equal_counts_are_one_unit_and_nothing_is_lost() -> None:
    gold, found = random_spans(500, 0)
    units = entity_units(gold, [found, gold], ["x", "y", "z"])
    assert units.times.sum() == 500 and len(units.times) < 150
    right, support, predicted = units.observed(0)
    assert support.sum() == sum(map(len, gold)) and predicted.sum() == sum(map(len, found))
    assert right.sum() == sum(len(set(a) & set(b)) for a, b in zip(gold, found, strict=True))
    assert (units.observed(1) == support).all()


def test_intervals_are_those_of_sentences_drawn_one_by_one() -> None:
    gold, found = random_spans(400, 1)
    interval = entity_intervals(gold, found, resamples=4000, seed=3)
    assert (interval["level"], interval["n"], interval["R"], interval["seed"]) == (0.95, 400, 4000, 3)
    counts = np.zeros((400, 3, 3))
    for row, (there, its) in enumerate(zip(gold, found, strict=True)):
        for part, spans in enumerate((set(there) & set(its), there, its)):
            for _, _, kind in spans:
                counts[row, part, "xyz".index(kind)] += 1
    draw = np.random.default_rng(0)
    drawn = np.stack([counts[draw.integers(400, size=400)].sum(0) for _ in range(4000)], axis=2)
    totals = drawn.sum(1)
    checks = {
        ("micro", "f1"): 2 * totals[0] / (totals[1] + totals[2]),
        ("macro", "f1"): f1_of_classes(drawn).mean(0),
        ("per_type", "y", "precision"): drawn[0, 1] / drawn[2, 1],
        ("per_type", "x", "recall"): drawn[0, 0] / drawn[1, 0],
    }
    for path, samples in checks.items():
        ours: Any = interval
        for key in path:
            ours = ours[key]
        assert ours["method"] == "percentile bootstrap"
        assert (ours["low"], ours["high"]) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])), abs=0.006), path


def test_clusters_are_drawn_whole() -> None:
    gold, found = random_spans(300, 2)
    copies = [*gold, *gold, *gold], [*found, *found, *found]
    of_sentences = entity_intervals(*copies, resamples=2000)["micro"]["f1"]
    of_documents = entity_intervals(*copies, resamples=2000, clusters=np.tile(np.arange(300), 3))["micro"]["f1"]
    once = entity_intervals(gold, found, resamples=2000)["micro"]["f1"]
    width = {name: part["high"] - part["low"] for name, part in (("s", of_sentences), ("d", of_documents), ("o", once))}
    assert width["d"] == pytest.approx(width["o"], rel=0.1) and width["s"] < 0.7 * width["o"]


def test_without_entities_there_is_no_interval_and_no_crash() -> None:
    interval = entity_intervals([[], []], [[], []])
    assert interval["per_type"] == {} and interval["micro"]["f1"]["low"] is None
    one_sided = entity_intervals([[], []], [[(0, 1, "x")], []], resamples=50)
    assert one_sided["micro"]["f1"] == {"low": None, "high": None, "method": "none: every bootstrap sample gives the same value"}


def test_two_taggers_are_compared_on_the_same_sentences() -> None:
    gold, found = random_spans(400, 4)
    worse = [spans[:1] for spans in found]
    units = entity_units(gold, [found, worse], types_of(gold, found))
    f1: list[Any] = ["macro_f1"]
    assert randomisation_p(units, f1, 500, 0)[0] < 0.01 and paired_bootstrap(units, f1, 500, 0)[0]["interval"]["low"] > 0
    same = entity_units(gold, [found, found], types_of(gold, found))
    assert randomisation_p(same, f1, 500, 0)[0] == 1
