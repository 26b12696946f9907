"""Tables for a terminal: columns that line up, and text of a stranger's that cannot steer it."""

import re
import unicodedata

import numpy as np
import pytest

from bertlab.evaluation.intervals import of_set_metrics
from bertlab.evaluation.metrics import classification_metrics, set_metrics
from bertlab.pages.screen import MORE_LABELS, absent_lines, class_table, counted, inert, no_label_lines, table

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",  # clears the screen, names the window
    "two\nlines\r\x0b\x0cand more",
    "a\u202egnp.exe\u2066\u2069\u200f\u061c",  # turns the direction of reading
    "next\x85line \u2028 and \u2029 paragraph",
    "c1 \x9b31m del \x7f tab\t nul\x00",
]


def steers(character: str) -> bool:
    """Whether a character is a control, a line or paragraph separator, or a mark of direction."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S"),
        *(("AL",) if character == "\u061c" else ()),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_becomes_one_line_that_steers_nothing(text: str) -> None:
    shown = inert(text)
    assert len(shown) == len(text) and "?" in shown
    assert not any(steers(character) for character in shown) and "\u200f" not in shown
    assert len(shown.splitlines()) == 1


def test_no_character_that_steers_a_terminal_passes() -> None:
    for number in [*range(0x3000), *range(0xFE00, 0xFF00)]:
        assert not steers(inert(chr(number))), hex(number)


def test_ordinary_text_of_any_script_is_left_as_it_is() -> None:
    for text in (
        "plain",
        "caf\u00e9 \u4e2d\u6587 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \U0001f600",
        "",
    ):
        assert inert(text) == text


def test_a_table_is_as_wide_as_its_widest_cells_words_left_and_numbers_right() -> None:
    assert table(["name", "n"], [["a", "1"], ["longer", "1000"]]).split("\n") == [
        "name       n",
        "------  ----",
        "a          1",
        "longer  1000",
    ]
    assert table(["name", "n"], []) == "name  n\n----  -"


def test_hostile_class_names_keep_the_table_in_its_lines() -> None:
    names = ["\x1b[31mred", "one\ntwo", "\u202eevil\u2028"]
    shown = class_table(classification_metrics([0, 1, 2, 2], [0, 1, 2, 1], names))
    lines = shown.splitlines()
    assert lines == shown.split("\n") and len(lines) == 2 + 3 + 3 + 1
    assert len({len(line) for line in lines[:-1]}) == 1
    assert not any(steers(character) for line in lines for character in line)


def test_a_class_without_an_example_is_told_with_the_most_that_macro_f1_can_be() -> None:
    metrics = classification_metrics([0, 1, 1, 0], [0, 1, 1, 0], ["a", "b", "c", "d"])
    assert metrics["macro"]["f1"] == 0.5
    note = next(line for line in class_table(metrics).splitlines() if line.startswith("note"))
    assert "no example of 2 of 4 here (c, d)" in note and "macro-F1 can be 0.500 at most" in note
    assert absent_lines({name: {"support": 0} for name in "ab"}) == []


def test_texts_that_got_no_label_are_counted_and_what_to_do_is_said() -> None:
    line = "no label at all was given to 3 of 4 texts (75.0%); 1 (25.0%) have none"
    assert no_label_lines({"n": 4, "no_label": {"gold": 0.25, "predicted": 0.75}}) == [f"{line}: {MORE_LABELS}"]
    assert no_label_lines({"n": 4, "no_label": {"gold": 0.25, "predicted": 0.25}})[0].endswith("have none")
    assert no_label_lines({"n": 4}) == [] == no_label_lines({"n": 4, "no_label": {"gold": 0.0, "predicted": 0.0}})


def test_the_class_table_shows_the_numbers_of_the_metrics() -> None:
    metrics = classification_metrics([0, 0, 0, 1], [0, 0, 1, 1], ["no", "yes"])
    lines = class_table(metrics).splitlines()
    assert lines[0].split() == ["class", "precision", "recall", "F1", "n"]
    assert lines[2].split() == ["no", "1.000", "0.667", "0.800", "3"]
    assert lines[3].split() == ["yes", "0.500", "1.000", "0.667", "1"]
    assert [line.split()[0] for line in lines[4:7]] == ["macro", "weighted", "micro"]
    assert lines[4].split()[2:] == ["0.750", "0.833", "0.733"]
    assert lines[7] == "accuracy 0.750 of 4"


def test_sets_of_labels_have_their_correlation_and_their_loss_with_intervals() -> None:
    gold, predicted = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool), np.array([[1, 0], [1, 1], [0, 0], [1, 1]], bool)
    metrics = set_metrics(gold, predicted, ["no", "yes"]) | {"intervals": of_set_metrics(gold, predicted, ["no", "yes"], resamples=500)}
    *_, whole, none, between = class_table(metrics).splitlines()
    assert none == "no label at all was given to 1 of 4 texts (25.0%); 1 (25.0%) have none"
    silent = set_metrics(gold, gold & False, ["no", "yes"])
    assert "given to 4 of 4 texts (100.0%); 1 (25.0%) have none: no label's probability is above 0.5 there. Train longer" in class_table(
        silent
    )
    assert "no label at all" not in class_table(set_metrics(gold | True, gold | True, ["no", "yes"]))
    assert whole == f"exact match 0.750 of 4, macro-MCC {(1 / 3**0.5 + 1) / 2:.3f}, Hamming loss 0.125"
    assert re.fullmatch(
        r"with 95% confidence exact match .*, macro-F1 .*, macro-MCC [\d.]+ to [\d.]+, Hamming loss [\d.]+ to [\d.]+", between
    )


def test_one_is_no_plural() -> None:
    assert [counted(number, "text") for number in (0, 1, 2, 1000)] == ["0 texts", "1 text", "2 texts", "1,000 texts"]
