"""What a fine-tuning says at its end of its worth against what needs no BERT."""

from typing import Any

import pytest

from bertlab.pages.results import verdict_lines

FOUND: dict[str, Any] = {
    "baseline": "TF-IDF + logistic regression",
    "metric": "macro_f1",
    "a": 0.8801,
    "b": 0.9032,
    "difference": -0.0231,
    "interval": {"low": -0.0412, "high": -0.0061},
    "p": 0.0123,
    "better": "baseline",
    "R": 10_000,
    "seed": 0,
    "level": 0.95,
}


def test_a_line_says_the_difference_how_sure_it_is_and_which_is_better() -> None:
    assert verdict_lines({"against_baseline": FOUND, "seeds": [{}], "best_seed": 0}) == [
        "verdict    macro-F1 0.880 against 0.903 of TF-IDF + logistic regression: difference -0.023 (95 % -0.041 to -0.006), "
        "p = 0.0123, R = 10,000, seed 0: TF-IDF + logistic regression is better on this test set"
    ]
    assert verdict_lines({}) == []


@pytest.mark.parametrize(("better", "says"), [("model", "the model is better"), (None, "not shown to differ")])
def test_of_several_seeds_the_one_that_is_kept_is_named(better: str | None, says: str) -> None:
    (line,) = verdict_lines({"against_baseline": FOUND | {"better": better}, "seeds": [{}, {}, {}], "best_seed": 1})
    assert line.startswith("verdict    macro-F1 0.880 (seed 1, the best of 3 on dev) against 0.903 of")
    assert line.endswith(f": {says} on this test set")


def test_the_same_answers_have_no_interval() -> None:
    same = FOUND | {"difference": 0.0, "interval": {"low": None, "high": None}, "p": 1.0, "better": None}
    (line,) = verdict_lines({"against_baseline": same})
    assert "difference +0.000 (no interval), p = 1.0000" in line and line.endswith("not shown to differ on this test set")
