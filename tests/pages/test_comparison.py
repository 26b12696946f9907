"""The words of bertlab compare: what was found, how often chance does as well, what the test set could show, and nothing more."""

import re
from typing import Any

import pytest

from bertlab.pages.comparison import metric_words, screen, verdict


def result(**changes: Any) -> dict[str, Any]:
    return {
        "metric": "macro_f1", "a": 0.81, "b": 0.78, "difference": 0.03, "interval": {"low": 0.012, "high": 0.048},
        "p": 0.002, "p_corrected": 0.004, "p_bootstrap": 0.003, "test": "randomisation",
        "power": {"power": 0.8, "smallest_difference": 0.025, "examples_needed": 700},
    } | changes  # fmt: skip


def facts(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    scores = {each["metric"]: {"value": each["a"], "sd": None, "interval": {"low": 0.7, "high": 0.9}} for each in results}
    return {
        "n": 900, "clusters": None, "classes": ["ale", "bread"], "R": 10_000, "seed": 7, "level": 0.95, "correction": "holm",
        "comparisons": len(results),
        "systems": [{"name": name, "scores": scores, "classes_never_seen": []} for name in ("A", "B")],
        "pairs": [
            {"a": "A", "b": "B", "seeds": [1, 1], "settings": None, "claim_about": "models", "different_answers": 50}
            | {"metrics": list(results)}
        ],
    } | changes  # fmt: skip


def words(text: str) -> str:
    return " ".join(text.split())


def said(**changes: Any) -> str:
    each = result(**changes)
    whole = facts(each)
    return verdict(whole, whole["pairs"][0], each)


def test_a_difference_that_was_found_is_said_with_its_size_and_what_chance_gives() -> None:
    assert said() == (
        "A is better than B on this test set by macro-F1: 0.810 against 0.780, a difference of +0.030 (95 % interval +0.012 to +0.048); "
        "chance alone would give a difference this large in 0.2 % of reshuffles in which a coin decides which system gave which of the "
        "two answers."
    )
    assert said(difference=-0.03).startswith("A is worse than B on this test set")


def test_no_evidence_is_not_called_equality_and_comes_with_what_would_be_needed() -> None:
    text = said(p=0.3, p_corrected=0.3, power={"power": 0.8, "smallest_difference": 0.0412, "examples_needed": 13_456})
    assert text.startswith("No evidence of a difference between A and B in macro-F1: 0.810 against 0.780")
    assert "That is not evidence that they are equal." in text and "better" not in text
    assert text.endswith(
        "With power 80 % these 900 examples show a difference of 0.041 or more; "
        "the one seen, if it is the true one, would take about 13,000 examples more."
    )
    few = said(p=0.3, p_corrected=0.3, power={"power": 0.8, "smallest_difference": None, "examples_needed": 50})
    assert few.endswith("These 900 examples are too few to show any difference between systems that disagree so rarely.")


def test_the_corrected_p_decides_and_both_are_said() -> None:
    one, other = result(p=0.03, p_corrected=0.06), result(metric="f1:ale", p=0.5, p_corrected=0.5)
    whole = facts(one, other)
    text = verdict(whole, whole["pairs"][0], one)
    assert text.startswith("Not enough evidence among 2 comparisons of a difference between A and B") and "in 3 % of" in text
    assert "Corrected for 2 comparisons (Holm) p is 0.0600. Alone this comparison would have passed." in text
    assert "Corrected" not in verdict(whole | {"correction": "none"}, whole["pairs"][0], one)
    exactly = result(p=0.05, p_corrected=0.05)
    assert verdict(facts(exactly), whole["pairs"][0], exactly).startswith("A is better")


def test_the_screen_states_r_n_seed_and_what_p_does_and_does_not_say() -> None:
    shown = screen(facts(result(), result(metric="accuracy", test="McNemar exact", mcnemar={"p_mid": 0.001, "only_a": 30, "only_b": 8})))
    assert "2 systems on 900 examples of 2 classes" in shown
    assert "\nA - B: A - B\n" in shown and max(map(len, shown.partition("p: ")[0].splitlines())) <= 80
    assert re.search(r"\nmacro-F1 +\+0\.0300 +\[\+0\.0120, \+0\.0480\] +0\.0020 +0\.0040", shown)
    assert "McNemar exact (mid-p 0.0010; only A right 30, only B 8)" in shown and "randomisation (bootstrap 0.0030)" in shown
    text = words(shown)
    assert "R = 10,000 resamples, n = 900, seed 7, two-sided, intervals of 95 %." in text
    assert "It is not the chance that the systems are equal; a lower p is stronger evidence against no difference, not a larger" in text
    assert "of two systems as they are: of trained ones another seed may give another order" in text
    assert max(map(len, shown.splitlines())) <= 140


def test_methods_are_called_methods_and_one_seed_among_them_is_pointed_out() -> None:
    each = result(
        test="two-level bootstrap", p_two_level=0.002, p_permutation_of_seeds=0.1, seed_scores_a=[0.8, 0.82], seed_scores_b=[0.78]
    )
    whole = facts(each)
    whole["pairs"][0] |= {"claim_about": "methods", "seeds": [2, 1]}
    shown = words(screen(whole))
    assert "method A is better than method B on this test set by macro-F1" in shown
    assert "of repetitions with other seeds and other examples of the same kind" in shown
    assert "two-level bootstrap (2 and 1 seed; permuted seeds alone 0.1000)" in shown
    assert "A comparison over seeds is of methods" in shown and "A system of one seed among them is taken as it is" in shown
    assert "two systems as they are" not in shown


def test_equal_answers_unknown_intervals_and_classes_never_seen_are_said() -> None:
    nothing = {"low": None, "high": None}
    whole = facts(result(p=1.0, p_corrected=1.0, difference=0.0, interval=nothing))
    whole["pairs"][0]["different_answers"] = 0
    whole["systems"][0] |= {"classes_never_seen": ["bread"]}
    whole["systems"][1]["scores"]["macro_f1"]["interval"] = nothing
    shown = words(screen(whole))
    assert "A and B give the same answer to all 900 examples: there is no difference to test." in shown and "No evidence" not in shown
    assert "neither gold nor A has bread: its F1 is 0/0, counted as 0" in shown
    assert "[?]: every bootstrap sample gives the same score" in shown


def test_a_word_that_not_everybody_knows_is_explained_where_it_stands() -> None:
    assert "Matthews' correlation" in screen(facts(result(metric="mcc")))
    assert "Matthews" not in screen(facts(result()))


def test_names_of_users_cannot_steer_the_terminal() -> None:
    whole = facts(result(metric="f1:a\x1b[2J"), clusters={"column": "u\x1bser", "number": 3})
    whole["systems"][0]["name"] = whole["pairs"][0]["a"] = "A\x1b[31m\r"
    assert "\x1b" not in screen(whole) and "\r" not in screen(whole) and "in 3 clusters (u?ser)" in screen(whole)


@pytest.mark.parametrize(
    "metric, expected",
    [("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("weighted_recall", "weighted-recall"), ("mcc", "MCC"), ("f1:a b", "F1 of a b")],
)
def test_metrics_have_their_usual_names(metric: str, expected: str) -> None:
    assert metric_words(metric) == expected


def test_a_tiny_p_is_not_said_to_be_zero() -> None:
    assert "in less than 0.01 % of" in said(p=1e-9, p_corrected=1e-9) and "1.0e-09" in screen(facts(result(p=1e-9, p_corrected=1e-9)))
