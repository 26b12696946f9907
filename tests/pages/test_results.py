"""What a fine-tuning says at its end of its worth against what needs no BERT."""

from types import SimpleNamespace
from typing import Any

import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.pages.results import copies_lines, verdict_lines

FOUND: dict[str, Any] = {
    "baseline": "TF-IDF + logistic regression",
    "metric": "macro_f1",
    "a": 0.8801,
    "b": 0.9032,
    "difference": -0.0231,
    "interval": {"low": -0.0412, "high": -0.0061},
    "p": 0.0123,
    "better": "baseline",
    "n": 904,
    "R": 10_000,
    "seed": 0,
    "level": 0.95,
}


def test_two_lines_say_which_is_better_the_difference_and_how_sure_it_is() -> None:
    assert verdict_lines({"against_baseline": FOUND, "seeds": [{}], "best_seed": 0}) == [
        "verdict    worse than TF-IDF + logistic regression on these 904 examples: macro-F1 0.880 against 0.903",
        "           difference -0.023 (95 % -0.041 to -0.006), p = 0.012 (10,000 resamples)",
    ]
    assert verdict_lines({}) == []


@pytest.mark.parametrize(("better", "says"), [("model", "better than"), (None, "not shown to be better or worse than")])
def test_of_several_seeds_the_one_that_is_kept_is_named(better: str | None, says: str) -> None:
    line, _ = verdict_lines({"against_baseline": FOUND | {"better": better}, "seeds": [{}, {}, {}], "best_seed": 1})
    assert line.startswith(
        f"verdict    {says} TF-IDF + logistic regression on these 904 examples: macro-F1 0.880 (seed 1, the best of 3 on dev) "
    )


def test_the_same_answers_have_no_interval() -> None:
    same = FOUND | {"difference": 0.0, "interval": {"low": None, "high": None}, "p": 1.0, "better": None}
    line, how = verdict_lines({"against_baseline": same})
    assert "not shown to be better" in line and "difference +0.000 (no interval), p = 1 (10,000 resamples)" in how


@pytest.mark.parametrize(("copies", "says"), [(4, None), (5, "5 of 100 train texts (5%) are copies"), (60, "60 of 100 train")])
def test_many_copies_within_train_are_told(copies: int, says: str | None) -> None:
    texts = [f"text {max(0, number - copies)}" for number in range(100)]
    data: Any = SimpleNamespace(splits={"train": Labelled([*map(str, range(100))], texts, None, None, "train.csv")})
    lines = copies_lines(data)
    assert (says is None and not lines) or (says is not None and says in lines[0])
