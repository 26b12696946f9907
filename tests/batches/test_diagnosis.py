"""Every check at its threshold: wrong just beyond it, and only it."""

import copy
from typing import Any

import pytest

from bertlab.batches.diagnosis import CHECKS, findings

LENGTHS = {"mean": 5.0, "median": 20, "percentile_95": 30, "largest": 40, "bins": [[1, 1, 300], [2, 3, 700]]}
SPLIT = {"documents": 1000, "sentences": 50_000, "tokens": 1_000_000, "sentences_a_document": LENGTHS, "tokens_a_sentence": LENGTHS}
PAIRS = {"majority": 0.75, "over_long_share": 0.1, "left_out_share": 0.2}
# as bad as a corpus may be without a warning
TAG = {"share": 0.0006, "count": 6, "text": "< / p >"}
FACTS: dict[str, Any] = {
    "train": SPLIT,
    "heldout": SPLIT | {"documents": 2},
    "overlap": {"documents": 0, "long_sentences": 100, "long_in_train": 5},
    "origins": [{"weight": 1.0}, {"weight": 0.5}],
    "pairs": [PAIRS, PAIRS | {"over_long_share": 0.3}],  # a sentence that the longest pair holds is not lost
    "repeated": {
        "most_frequent": [{"share": 0.001, "count": 5, "text": "a line"}, {"share": 0.1, "count": 4, "text": "b"}],
        "again_share": 0.2,
    },
    "vocabulary": {"entries": 1000, "unused": 300, "unknown_share": 0.01, "heldout_unknown_share": 0.01},
    "tokens_a_word": 2.5,
    "words": 100_000,
    "filters": {"invalid_utf8_places": 100},
    "read_back": {"unreadable": 1, "characters": 10_000},
    "sources": {"number": 2, "sources": [{"share": 0.95}]},
}


def changed(place: str, value: Any) -> dict[str, Any]:
    facts = copy.deepcopy(FACTS)
    *path, last = place.split(".")
    inside: Any = facts
    for key in path:
        inside = inside[int(key) if key.isdigit() else key]
    inside[int(last) if last.isdigit() else last] = value
    return facts


def wrong(facts: dict[str, Any]) -> list[str]:
    return [finding["name"] for finding in findings(facts) if finding["is_wrong"]]


def test_a_corpus_at_every_threshold_gives_no_warning() -> None:
    assert wrong(FACTS) == []
    assert len(findings(FACTS)) == len(CHECKS)
    assert all(finding["finding"] is None for finding in findings(FACTS))


@pytest.mark.parametrize(
    ("place", "value", "name", "words"),
    [
        ("overlap.documents", 1, "documents on both sides", "word for word: 1"),
        ("heldout.documents", 1, "held-out text", "held out: 1,"),
        ("heldout", None, "held-out text", "held out: 0,"),
        ("overlap.long_in_train", 6, "held-out sentences in the training text", "6.0% of"),
        ("train.tokens", 999_999, "size", "999,999 tokens"),
        ("train.sentences_a_document.bins.0.2", 301, "single-sentence documents", "30.1% of"),
        ("pairs.1.majority", 0.76, "next-sentence answers", "76.0% of"),
        ("repeated.most_frequent.0.share", 0.0012, "a repeated sentence", "0.12% of"),
        ("repeated.most_frequent", [TAG, TAG], "mark-up", 'least 0.12% of all sentences hold the mark-up of HTML, as "< / p >"'),
        ("repeated.again_share", 0.21, "repeated text", "21.0% of"),
        ("pairs", [PAIRS | {"over_long_share": 0.11}] * 2, "text beyond the longest pair", "11.0% of"),
        ("pairs.0.left_out_share", 0.21, "text left out of an epoch", "21.0% of"),
        ("train.tokens_a_sentence.median", 3, "short sentences", "3 tokens or fewer"),
        ("train.tokens_a_sentence.median", 101, "long sentences", "101 tokens or more"),
        ("vocabulary.unknown_share", 0.011, "unknown tokens", "1.10% of"),
        ("vocabulary.heldout_unknown_share", 0.011, "unknown tokens", "1.10% of"),
        ("tokens_a_word", 2.51, "tokens a word", "2.51 tokens"),
        ("vocabulary.unused", 301, "unused vocabulary", "30.1% of"),
        ("filters.invalid_utf8_places", 101, "damaged bytes", "0.10% of"),
        ("read_back.unreadable", 2, "unreadable characters", "0.020% of"),
        ("sources.sources.0.share", 0.96, "one source", "96.0% of"),
    ],
)
def test_one_fault_gives_its_own_warning_with_its_number_first(place: str, value: Any, name: str, words: str) -> None:
    facts = changed(place, value)
    assert wrong(facts) == [name]
    first = findings(facts)[0]
    assert first["name"] == name and words in first["finding"]
    assert first["advice"] and first["reason"]


def test_every_check_was_tried_and_no_two_have_one_name() -> None:
    tried = {mark.args[1][row][2] for mark in test_one_fault_gives_its_own_warning_with_its_number_first.pytestmark for row in range(21)}
    assert [check.name for check in CHECKS] == list(dict.fromkeys(check.name for check in CHECKS))
    assert tried == {check.name for check in CHECKS}


def test_the_repeated_sentence_is_named_and_a_long_one_shortened() -> None:
    for text, shown in (("< / p >", '"< / p >"'), ("word " * 40, '"' + "word " * 12 + ' ..."')):
        facts = changed("repeated.most_frequent", [{"share": 0.2063, "count": 500, "text": text}, {"share": 0.9, "count": 2, "text": "x"}])
        assert findings(facts)[0]["finding"] == f"one sentence makes 20.63% of all sentences: {shown}"


@pytest.mark.parametrize(
    ("text", "is_mark_up"),
    [
        ("< / p >", True),
        ("<br />", True),
        ('< a href = " x . html " > more', True),
        ("& nbsp ;", True),
        ("a < b and b > c", False),
        ("R & D ; sales", False),
    ],
)
def test_mark_up_is_known_by_the_names_of_tags_and_entities(text: str, is_mark_up: bool) -> None:
    lines = [{"share": 0.2, "count": 500, "text": "a line"}, {"share": 0.0011, "count": 9, "text": text}]
    assert ("mark-up" in wrong(changed("repeated.most_frequent", lines))) == is_mark_up


def test_what_does_not_apply_is_not_checked() -> None:
    names = {finding["name"] for finding in findings(changed("overlap", None))}
    assert {"documents on both sides", "held-out sentences in the training text"} & names == set()
    names = {finding["name"] for finding in findings(changed("origins.0.weight", 2.0))}  # repeated on purpose
    assert "repeated text" not in names and "a repeated sentence" in names
    assert "one source" not in {finding["name"] for finding in findings(changed("sources", {"number": 1, "sources": [{"share": 1.0}]}))}
