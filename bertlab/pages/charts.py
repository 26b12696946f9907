"""Charts as inline SVG: lines, dots with intervals, tables in shades. No script, no library, colours of the page's stylesheet.

Every chart is a figure with a heading, a sentence for those who hear it, a legend that does not rest on colour alone, and its numbers in a
table that opens. A long series is thinned to what can be seen: of each of BUCKETS stretches of the horizontal axis its least and its
largest value, at their own places, so that no peak and no dip is lost. 100,000 points cost some milliseconds and 10 kB.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from bertlab.pages.html import element, folded, soft, table

BUCKETS = 300  # of a chart that is about 350 pixels wide
COLOURS = 8  # c0 to c7 of the stylesheet
SHOWN = 10  # numbers of a series in its table
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 250, 54, 12, 8, 40
LONGEST_NAME = 215  # of WIDTH, beside a line of intervals
EM = 15  # the letters of a chart on a phone, the largest there are (bertlab/pages/html.py)


@dataclass(frozen=True)
class Series:
    """Points (x, y) in order of x, both (n,); what is not finite is left out. level: one y, drawn as a line across; dots: each point is
    marked, and all are drawn."""

    name: str
    x: Any
    y: Any
    dots: bool = False
    level: bool = False

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.asarray(self.x, dtype=np.float64), np.asarray(self.y, dtype=np.float64)
        known = np.isfinite(x) & np.isfinite(y)
        return x[known], y[known]


def thinned(x: np.ndarray, y: np.ndarray, buckets: int = BUCKETS) -> tuple[np.ndarray, np.ndarray]:
    """Of points in order of x at most four a bucket of equal width: the first, the least, the largest, the last."""
    if len(x) <= 2 * buckets:
        return x, y
    edges = np.searchsorted(x, np.linspace(x[0], x[-1], buckets + 1))
    edges[-1] = len(x)
    kept: set[int] = set()
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        if end > start:
            part = y[start:end]
            kept |= {int(start), int(start + part.argmin()), int(start + part.argmax()), int(end - 1)}
    rows = np.array(sorted(kept))
    return x[rows], y[rows]


def line_chart(
    title: str, series: Sequence[Series], x_label: str, y_label: str, *, bounds: tuple[float, float] | None = None, square: bool = False
) -> Markup:
    """A figure of several series over one pair of axes, or a line that says there is nothing to draw. bounds: of the vertical axis, else
    all there is; square: both axes from 0 to 1, with the diagonal."""
    drawn = [(number % COLOURS, each, *each.points()) for number, each in enumerate(series)]
    drawn = [each for each in drawn if len(each[2])]
    if not [each for each in drawn if not each[1].level]:
        return element("figure", element("h3", title), soft("Nothing was logged of it."))
    xs = np.concatenate([x for _, each, x, _ in drawn if not each.level])
    ys = np.concatenate([y for *_, y in drawn])
    x_ends = (0.0, 1.0) if square else _widened(float(xs.min()), float(xs.max()))
    y_ends = (0.0, 1.0) if square else bounds or _widened(float(ys.min()), float(ys.max()))
    left = max([LEFT, *(math.ceil(width(_tick(tick))) + 8 for tick in ticks(*y_ends))])
    x_at, y_at = _scale(x_ends, left, WIDTH - RIGHT), _scale(y_ends, HEIGHT - BOTTOM, TOP)
    marks = [*_axes(x_ends, y_ends, x_at, y_at, x_label, left)]
    if square:
        marks.append(element("path", d=_path(x_at(np.array([0.0, 1.0])), y_at(np.array([0.0, 1.0]))), class_="grid"))
    for colour, each, x, y in drawn:
        if each.level:
            marks.append(element("path", d=_path(x_at(np.array(x_ends)), y_at(np.repeat(y[:1], 2))), class_=f"curve c{colour}"))
            continue
        shown = (x, y) if each.dots else thinned(x, y)
        marks.append(element("path", d=_path(x_at(shown[0]), y_at(shown[1])), class_=f"curve c{colour}"))
        if each.dots or len(x) == 1:
            marks += [
                element("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=2.6, class_=f"c{colour}") for a, b in zip(x_at(x), y_at(y), strict=True)
            ]
    spoken = f"{title}: {y_label} against {x_label}. " + " ".join(_spoken(each.name, y) for _, each, _, y in drawn)
    svg = element("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=spoken)
    legend = element("ul", *(element("li", each.name, class_=f"c{colour}") for colour, each, *_ in drawn), class_="legend")
    rows = [[each.name, amount(a), digits(b)] for _, each, x, y in drawn for a, b in _some(x, y, each.level)]
    numbers = folded("Numbers", table(["series", x_label, y_label], rows, f"{title}: numbers"))
    return element("figure", element("h3", title), soft(y_label), svg, legend, numbers)


def interval_chart(title: str, rows: Sequence[tuple[str, float, float | None, float | None]]) -> Markup:
    """Names, values and intervals between 0 and 1, a line each: a dot and whiskers. Its numbers stand in a table of the page's own."""
    names = [_short(name) for name, *_ in rows]
    height, left = 18, max([150, *(math.ceil(width(name)) + 10 for name in names)])
    at = _scale((0.0, 1.0), left, WIDTH - RIGHT)
    bottom = height * len(rows) + 4
    marks = [element("path", d=f"M{float(at(np.array(t))):.1f},2V{bottom}", class_="grid") for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    marks += [
        element("text", f"{t:g}", x=f"{float(at(np.array(t))):.1f}", y=bottom + 14, text_anchor="middle")
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for number, (name, (_, value, low, high)) in enumerate(zip(names, rows, strict=True)):
        middle = number * height + 12
        marks.append(element("text", name, x=left - 8, y=middle + 4, text_anchor="end"))
        if low is not None and high is not None:
            marks.append(element("path", d=f"M{float(at(np.array(low))):.1f},{middle}H{float(at(np.array(high))):.1f}", class_="curve c0"))
        marks.append(element("circle", cx=f"{float(at(np.array(value))):.1f}", cy=middle, r=3.4, class_="c0"))
    svg = element("svg", *marks, viewBox=f"0 0 {WIDTH} {bottom + 20}", role="img", aria_label=f"{title}; the table below has the numbers")
    return element("figure", element("h3", title), svg)


def shaded_table(columns: Sequence[object], rows: Sequence[Sequence[object]], shades: Sequence[Sequence[float]], label: str) -> Markup:
    """A table whose cells, but for the first of each row, lie on a ground between none (0) and full (1)."""
    head = element("tr", *(element("th", element("bdi", cell), scope="col") for cell in columns))
    lines = []
    for row, its in zip(rows, shades, strict=True):
        cells = [element("td", cell, class_=f"h{round(9 * shade)}") for cell, shade in zip(row[1:], its, strict=True)]
        lines.append(element("tr", element("th", element("bdi", row[0]), scope="row"), *cells))
    inside = element("table", element("thead", head), element("tbody", *lines), aria_label=label, class_="shaded")
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=label)


# --- numbers on axes ----------------------------------------------------------------------------------------------------------------------


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most `most`: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    size = 10.0 ** math.floor(math.log10(span / most))
    step = next(size * times for times in (1, 2, 5, 10, 20) if span / (size * times) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def amount(value: float) -> str:
    """A number in few characters: 0.0005, 0.25, 12, 1,500, 20k, 3.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (size if size > 1e3 else 1e4):
            return f"{value / size:.4g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def width(text: str) -> float:
    """How wide a chart's letters may be, in its units: a wide typeface's, as DejaVu Sans, on a phone."""
    return EM * sum(_ems(letter) for letter in text)


def _ems(letter: str) -> float:
    if letter in ".,:;'|!ijl ":
        return 0.34
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" or letter in "mwMW@%…—" else 0.78 if letter.isupper() else 0.64


def digits(value: float) -> Markup:
    """A number of a curve, rounded for the eye and whole in its value."""
    return element("data", f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}", value=repr(float(value)))


def _widened(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis: a little beyond what is drawn, and apart even where all is one value."""
    margin = 0.04 * (high - low) or max(abs(high) * 0.1, 1e-6)
    return (0.0 if 0 <= low <= margin else low - margin), high + margin


def _scale(ends: tuple[float, float], start: float, end: float) -> Any:
    def at(values: np.ndarray) -> np.ndarray:
        return start + (np.clip(values, *ends) - ends[0]) / (ends[1] - ends[0]) * (end - start)

    return at


def _tick(value: float) -> str:
    return amount(round(value, 12))


def _axes(x_ends: tuple[float, float], y_ends: tuple[float, float], x_at: Any, y_at: Any, x_label: str, left: int) -> list[Markup]:
    marks = []
    for tick in ticks(*y_ends):
        y = float(y_at(np.array(tick)))
        marks.append(element("path", d=f"M{left},{y:.1f}H{WIDTH - RIGHT}", class_="grid"))
        marks.append(element("text", _tick(tick), x=left - 6, y=f"{y + 4:.1f}", text_anchor="end"))
    for tick in ticks(*x_ends):
        x = float(x_at(np.array(tick)))
        marks.append(element("path", d=f"M{x:.1f},{HEIGHT - BOTTOM}v4", class_="grid"))
        middle = min(x, WIDTH - width(_tick(tick)) / 2)  # a long one at the right end stands beside its tick
        marks.append(element("text", _tick(tick), x=f"{middle:.1f}", y=HEIGHT - BOTTOM + 17, text_anchor="middle"))
    return [*marks, element("text", x_label, x=(left + WIDTH - RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle")]


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))


def _spoken(name: str, y: np.ndarray) -> str:
    if len(y) == 1:
        return f"{name}: {y[0]:.4g}."
    return f"{name}: from {y[0]:.4g} to {y[-1]:.4g}, least {y.min():.4g}, largest {y.max():.4g}."


def _some(x: np.ndarray, y: np.ndarray, level: bool) -> list[tuple[float, float]]:
    """SHOWN points at most, evenly chosen, the first and the last among them."""
    rows = np.unique(np.linspace(0, len(x) - 1, SHOWN).round().astype(int))[: 1 if level else None]
    return list(zip(x[rows].tolist(), y[rows].tolist(), strict=True))


def _short(name: str) -> str:
    name = name[:LONGEST_NAME]  # a hostile one may be endless
    if width(name) <= LONGEST_NAME:
        return name
    while width(name) > LONGEST_NAME - EM:
        name = name[:-1]
    return name + "…"
