"""Leaks: every planted one is found, whatever brute force finds is found, and normal text has none."""

import random
import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus import leakage
from bertlab.corpus.labelled import Labelled
from bertlab.corpus.leakage import conflicting_labels, find_leaks, similar_texts
from bertlab.errors import ConfigError

WORDS = [first + second for first, second in product(["ba", "co", "du", "fe", "gi", "ho", "ku", "la", "mi", "no"], repeat=2)]
WORDS = [a + b for a, b in product(WORDS, ["n", "r", "st", "l", "x"])]  # 500 words


def labelled(name: str, texts: list[str], labels: list[str] | None = None, texts_b: list[str] | None = None) -> Labelled:
    return Labelled([f"{name}:{number}" for number in range(len(texts))], texts, texts_b, labels, name)


def sentence(draw: random.Random, length: int) -> str:
    return " ".join(draw.choices(WORDS, k=length))


def jaccard(first: str, second: str) -> float:
    """Runs of 3 words, by Python's sets."""

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[place : place + 3]) for place in range(max(1, len(words) - 2))} if words else set()

    a, b = runs(first), runs(second)
    return len(a & b) / len(a | b) if a and b else 0.0


def test_equal_texts_are_found_whatever_their_case_and_spaces_and_the_first_of_them_is_named() -> None:
    train = labelled("train", ["The river runs to the sea.", "a stone", "THE RIVER runs  to the sea."], ["x", "y", "x"])
    test = labelled("test", ["birds sing", " the river runs to\tthe sea. ", "A STONE"], ["x", "x", "z"])
    found = find_leaks(train, test)
    assert (found.rows, found.equal, found.near) == (3, 2, 0)
    assert [(leak.test_id, leak.train_id, leak.similarity, leak.equal, leak.same_label) for leak in found.leaks] == [
        ("test:1", "train:0", 1.0, True, True),
        ("test:2", "train:1", 1.0, True, False),
    ]
    assert [conflict.rows for conflict in found.conflicts] == [[("train:1", "y"), ("test:2", "z")]]


def test_nearly_equal_texts_are_found_with_their_similarity() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve"  # ten runs of three
    train = labelled("train", ["quite another text of some length about other things altogether here", text])
    test = labelled(
        "test", [text + " thirteen", text.replace("six", "6th"), "One, two (three) four five six; seven eight nine ten eleven TWELVE!"]
    )
    found = find_leaks(train, test)
    # 10 of 11 runs; with a word changed in the middle 7 of 13; punctuation makes no run
    assert [(leak.test_id, leak.similarity) for leak in found.leaks] == [("test:0", pytest.approx(10 / 11)), ("test:2", 1.0)]
    assert found.near == 2 and found.equal == 0 and found.leaks[0].same_label is None
    assert [leak.test_id for leak in find_leaks(train, test, 7 / 13).leaks] == ["test:0", "test:1", "test:2"]
    assert find_leaks(train, test, 0.95).near == 1


few_words = st.lists(st.sampled_from("abcd"), max_size=9)


@given(st.lists(few_words, max_size=12), st.lists(few_words, max_size=8), st.sampled_from([0.2, 0.5, 0.7, 0.8, 1.0]))
@settings(max_examples=150, deadline=None)
def test_exactly_the_pairs_are_found_that_brute_force_finds(train: list[list[str]], test: list[list[str]], threshold: float) -> None:
    trains, tests = [" ".join(words) for words in train], [" ".join(words) for words in test]
    found = {(a, b): similarity for a, b, similarity in similar_texts(trains, tests, threshold)}
    expected = {(a, b): jaccard(tests[a], trains[b]) for a in range(len(tests)) for b in range(len(trains))}
    assert found == pytest.approx({pair: value for pair, value in expected.items() if value >= threshold - 1e-9})


def test_cut_into_small_blocks_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    trains = [sentence(draw, draw.randint(3, 30)) for _ in range(300)]
    tests = [" ".join(text.split()[:-1]) for text in draw.sample(trains, 60)] + ["word " * 20_000, "", "one"]
    trains += ["word " * 20_000 + "end", "one", ""]
    whole = sorted(similar_texts(trains, tests, 0.6))
    assert len(whole) >= 50 and (60, 300, 0.5) not in whole and (62, 301, 1.0) in whole
    for name, size in (("BLOCK_CHARACTERS", 500), ("CANDIDATES", 3), ("COMPARED_RUNS", 10)):
        monkeypatch.setattr(leakage, name, size)
    assert sorted(similar_texts(trains, tests, 0.6)) == whole


def test_planted_leaks_are_all_found_and_nothing_else() -> None:
    draw = random.Random(1)
    train = [sentence(draw, draw.randint(15, 60)) for _ in range(3000)]
    test = [sentence(draw, draw.randint(15, 60)) for _ in range(600)]
    planted = {}
    for row in range(0, 600, 3):
        other = draw.randrange(3000)
        words = train[other].split()
        change = row % 4
        if change == 1:
            words[draw.choice([0, -1])] = "changed"
        elif change == 2:
            words = [*words, "one", "more"]
        elif change == 3:
            words = words[1:]
        test[row] = " ".join(words).upper()
        planted[f"test:{row}"] = f"train:{other}"
    found = find_leaks(labelled("train", train), labelled("test", test))
    assert {leak.test_id: leak.train_id for leak in found.leaks} == planted
    assert found.equal == 50 and found.near == 150


def test_pairs_must_be_alike_in_both_texts_in_either_order() -> None:
    draw = random.Random(2)
    a, b, c = (sentence(draw, 30) for _ in range(3))
    train = labelled("train", [a, c], ["x", "y"], [b, b])
    test = labelled("test", [a, b, a + " more", b + " more", a, b], ["x", "y", "x", "x", "x", "x"], [b, a, b, a, c, b])
    found = find_leaks(train, test)
    assert [(leak.test_id, leak.train_id, leak.equal) for leak in found.leaks] == [
        ("test:0", "train:0", True),
        ("test:1", "train:0", True),  # (b, a)
        ("test:2", "train:0", False),
        ("test:3", "train:0", False),
    ]
    # one text in common is no leak: a question with another answer, the same answer twice
    assert found.near == 2 and found.conflicts == []
    assert find_leaks(labelled("train", [a]), test).leaks == []  # pairs are not single texts


def test_labels_that_differ_in_writing_alone_are_counted_and_come_after_contradictions() -> None:
    rows = labelled("t", ["a", "a", "b", "b", "c", "c", "c"], ["Ham", "ham ", "ham", "spam", "ham", "HAM", "spam"])
    found = conflicting_labels(rows)
    assert [conflict.rows[0] for conflict in found] == [("t:2", "ham"), ("t:4", "ham"), ("t:0", "Ham")]
    assert [conflict.in_writing for conflict in found] == [False, False, True]
    assert find_leaks(rows, labelled("test", ["d"], ["ham"])).as_json()["conflicting_in_writing"] == 1


def test_conflicts_are_found_within_a_file_and_between_files() -> None:
    train = labelled("train", ["a b", "c", "A  B", "d"], ["x", "x", "y", "x"])
    test = labelled("test", ["d", "c", "e"], ["y", "x", "x"])
    assert [conflict.rows for conflict in conflicting_labels(train)] == [[("train:0", "x"), ("train:2", "y")]]
    assert [conflict.rows for conflict in conflicting_labels(train, test)] == [
        [("train:0", "x"), ("train:2", "y")],
        [("train:3", "x"), ("test:0", "y")],
    ]
    assert conflicting_labels(labelled("bare", ["a", "a"])) == []
    facts = find_leaks(train, test).as_json(most=1)
    assert facts["conflicting_labels"] == 2 and len(facts["conflicts"]) == 1 and len(facts["leaks"]) == 1
    assert facts["leaks"][0] == {"test_id": "test:0", "train_id": "train:3", "similarity": 1.0, "equal": True, "same_label": False}


def test_a_form_letter_in_many_copies_is_compared_a_thousand_times_and_not_a_million(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MOST_CANDIDATES", 20)
    monkeypatch.setattr(leakage, "CANDIDATES", 200)
    compared = 0
    verified = leakage._verified

    def counted(asked, test_texts, *rest):
        nonlocal compared
        compared += len(test_texts)
        return verified(asked, test_texts, *rest)

    monkeypatch.setattr(leakage, "_verified", counted)
    letter = "we are pleased to tell you that your parcel has come and waits for you at the office with number"
    train = labelled("train", [f"{letter} {number}" for number in range(1500)])
    test = labelled("test", [f"{letter} {number}" for number in range(2000, 2030)])
    found = find_leaks(train, test)
    assert found.near == 30  # found all the same
    assert compared <= 30 * 20 + 1000  # of 45,000


@pytest.mark.parametrize("threshold", [0, -1, 1.01])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="give a number above 0 and up to 1"):
        find_leaks(labelled("train", ["a"]), labelled("test", ["a"]), threshold)


def test_a_large_set_takes_seconds() -> None:
    draw = random.Random(3)
    train = [sentence(draw, 12) for _ in range(20_000)]
    test = [sentence(draw, 12) for _ in range(2_000)]
    start = time.process_time()
    assert find_leaks(labelled("train", train), labelled("test", test)).leaks == []
    assert time.process_time() - start < 20  # about 1 s when nothing else runs
