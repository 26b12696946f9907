"""Charts: nothing seen is lost by thinning, ticks are round, what is spoken and tabled is what is drawn."""

import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.pages.charts import BUCKETS, WIDTH, Series, amount, interval_chart, line_chart, shaded_table, thinned, ticks, width


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(0, 2**31))
def test_thinning_keeps_the_ends_the_peaks_and_the_dips_in_order(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = np.sort(draw.uniform(0, 1000, n)), draw.normal(size=n)
    fewer_x, fewer_y = thinned(x, y)
    assert len(fewer_x) <= 4 * BUCKETS and (np.diff(fewer_x) >= 0).all()
    assert {*zip(fewer_x.tolist(), fewer_y.tolist(), strict=True)} <= {*zip(x.tolist(), y.tolist(), strict=True)}
    if n:
        assert fewer_y.min() == y.min() and fewer_y.max() == y.max() and fewer_x[0] == x[0] and fewer_x[-1] == x[-1]


def test_one_spike_among_100_000_steps_is_drawn() -> None:
    y = np.ones(100_000)
    y[54_321] = 9.0
    chart = line_chart("Loss", [Series("training", np.arange(100_000), y)], "step", "loss")
    ((path),) = re.findall(r'<path d="(M[^"]*)" class="curve c0">', chart)
    heights = [float(point.split(",")[1]) for point in path[1:].split("L")]
    assert max(heights) - min(heights) > 150 and len(chart) < 40_000


@settings(deadline=None, max_examples=200)
@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_inside_and_round(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), 1):
        return
    found = ticks(low, high)
    assert 1 <= len(found) <= 6 and all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in found)


@pytest.mark.parametrize(
    ("ends", "expected"), [((0, 10), [0, 2, 4, 6, 8, 10]), ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ((3, 8), [3, 4, 5, 6, 7, 8])]
)
def test_ticks_by_hand(ends: tuple[float, float], expected: list[float]) -> None:
    assert ticks(*ends) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "words"), [(0.0005, "0.0005"), (0.25, "0.25"), (12, "12"), (1500, "1,500"), (20_000, "20k"), (3_500_000, "3.5M"), (0.0, "0")]
)
def test_an_amount_has_few_characters(value: float, words: str) -> None:
    assert amount(value) == words


def test_points_stand_where_their_numbers_say() -> None:
    chart = line_chart("F1", [Series("a", [0.0, 0.5, 1.0], [0.0, 1.0, 0.5], dots=True)], "recall", "precision", square=True)
    dots = [tuple(map(float, each)) for each in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)]
    assert dots == [(54.0, 210.0), (231.0, 8.0), (408.0, 109.0)]  # 54 to 408 across, 210 up to 8


def edges(chart: str) -> list[tuple[str, float, float]]:
    """Every text of a chart with its left and right edge, as wide letters on a phone make it."""
    found = []
    for x, anchor, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(end|middle)">([^<]*)</text>', chart):
        text = unescape(text)
        left = float(x) - width(text) * {"end": 1.0, "middle": 0.5}[anchor]
        found.append((text, left, left + width(text)))
    return found


def test_no_number_and_no_name_goes_beyond_the_edge_of_its_chart_on_a_phone() -> None:
    rates = line_chart("Rate", [Series("a", np.arange(991), np.linspace(-6e-4, 5.5e-4, 991))], "step", "rate")
    names = ["a class with a long name, number 1", "<img src=x onerror=alert(1)>", "W" * 10**6, "語" * 40, "b"]
    f1 = interval_chart("F1", [(name, 0.5, 0.25, 0.75) for name in names])
    shown = [*edges(rates), *edges(f1)]
    assert {"-0.0005", "1,000", "b", "1"} <= {text for text, *_ in shown} and sum(text.endswith("…") for text, *_ in shown) == 4
    assert all(left >= 0 and right <= WIDTH for _, left, right in shown), shown
    assert width("0.0005") == pytest.approx(53.1)  # measured 52.5 in DejaVu Sans


def test_what_is_not_finite_or_not_there_is_not_drawn() -> None:
    chart = line_chart("Loss", [Series("a", [1, 2, 3], [1.0, float("nan"), 3.0]), Series("b", [], [])], "step", "loss")
    assert "a: from 1 to 3" in chart and "b:" not in chart and "nan" not in chart
    assert "Nothing was logged" in line_chart("Loss", [Series("a", [1], [float("nan")])], "step", "loss")
    assert "<circle" in line_chart("Loss", [Series("a", [1], [5.0])], "step", "loss"), "one point is a dot"


class Chart(HTMLParser):
    """The attributes of the svg, and the exact numbers of the table beside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.svg: dict[str, str | None] = {}
        self.values: list[float] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "svg":
            self.svg = dict(attrs)
        if tag == "data":
            self.values.append(float(dict(attrs)["value"] or ""))


def test_a_chart_is_told_to_those_who_do_not_see_it_and_its_numbers_stand_beside_it() -> None:
    y = [7.123456789, 6.5, 6.25]
    read = Chart(line_chart("Loss", [Series("held out", [0, 1, 2], y, dots=True), Series("level", [0], [6.9], level=True)], "step", "nats"))
    assert read.svg["role"] == "img"
    assert read.svg["aria-label"] == "Loss: nats against step. held out: from 7.123 to 6.25, least 6.25, largest 7.123. level: 6.9."
    assert read.values == [*y, 6.9]


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    chart = interval_chart("F1", [("a", 0.5, 0.25, 0.75), ("b", 1.0, None, None)])
    assert chart.count("<circle") == 2
    (whisker,) = re.findall(r'<path d="M([\d.]+),12H([\d.]+)" class="curve', chart)
    assert [float(end) for end in whisker] == [214.5, 343.5]  # 150 + 258 / 4, 150 + 3 * 258 / 4


def test_shades_go_from_none_to_full() -> None:
    text = shaded_table(["gold", "1", "2"], [["a", 3, 0], ["b", 1, 1]], [[1.0, 0.0], [0.5, 0.5]], "matrix")
    assert re.findall(r'<td class="(h\d)">(\d)</td>', text) == [("h9", "3"), ("h0", "0"), ("h4", "1"), ("h4", "1")]
