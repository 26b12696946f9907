"""The page of a file of vectors: a map to zoom, move and search, the nearest of some texts as tables, and how the vectors lie.

The map is drawn into the page as it stands; its script (vectors_map.js) moves the same marks about, and without it they stay.
Texts are cut so that a page of 3,000 stays under 5 MB, whatever they are written in.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from bertlab.embedding.mapping import Map
from bertlab.pages.html import assets, element, folded, join, json_script, number, section, soft, table

WIDE, HIGH, EDGE = 720, 480, 14  # of the drawing, in its own units
COLOURS, OTHERS = (0, 1, 2, 3, 4, 6, 7), 5  # of labels, the most frequent first, and of all that are left
# What is drawn at a point: circle, square, triangle, diamond, so that labels are told apart without colours too.
SHAPES = ("m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", "m-2.7-2.7h5.4v5.4h-5.4z", "m0-3.8l3.5 6h-7z", "m0-4l4 4l-4 4l-4-4z")
EXAMPLES, NEAREST = 8, 5  # texts whose nearest stand in a table
LONGEST = (200, 100, 50, 25)  # characters of a text, an id or a label: fewer where these would make the page too large
LARGEST = 3_500_000  # bytes of all of them in the page: at the shortest they have 2.7 MB, were every character an emoji


def script() -> str:
    return assets("elements.js", "vectors_map.js")


def style() -> str:
    return assets("controls.css", "vectors_map.css")


def sections(found: Map) -> list[Markup]:
    """The whole page but for its title."""
    names, groups = _groups(found.labels)
    points = _places(found.points)
    parts = [
        _opening(found),
        _map(found, names, groups, points),
        _lie(found),
        _examples(found),
        _made(found),
        json_script(_data(found, groups, points), "vectors"),
    ]
    return [part for part in parts if part is not None]


# --- in words -----------------------------------------------------------------------------------------------------------------------------


def _opening(found: Map) -> Markup:
    facts, n = found.index.facts, len(found.ids)
    lines: list[object] = [
        join(
            f"{found.index.rows:,} vectors of {facts['dims']:,} numbers, made of {found.index.origin['path']} by the model in ",
            element("code", facts["from"]["model"]["path"]),
            "." if n == found.index.rows else f". This page shows {n:,} of them, drawn at random (seed {found.seed}), and knows no others.",
        )
    ]
    if found.texts is None:
        lines.append(
            f"The texts are not shown: {found.index.origin['path']} is not there as it was embedded. If it has moved, say where it is "
            "(--texts FILE)."
        )
    return element("div", *(element("p", line) for line in lines), class_="wrong plain" if found.texts is not None else "wrong")


def _what_the_map_says(found: Map) -> Markup:
    k = found.near.shape[1]
    kept: list[object] = []
    if found.kept is not None:
        kept = [
            f" Of the {k} nearest of a text, ",
            number(found.kept, "map.kept", ".0%"),
            f" are among its {k} nearest on the map; by chance it would be {k / (len(found.ids) - 1):.1%}.",
        ]
    return soft(
        "The two principal components of the vectors at length 1. They hold ",
        number(found.shown, "map.shown", ".0%"),
        " of the variance, so a distance on the map is not the distance of two vectors: cosines, of all numbers, tell which are near.",
        *kept,
    )


# --- the map ------------------------------------------------------------------------------------------------------------------------------


def _groups(labels: Sequence[str | None] | None) -> tuple[list[str | None], list[int]]:
    """The names of the groups in the order of their marks (None: all that have no colour of their own), and the group of each text."""
    if labels is None:
        return [None], []
    counts = Counter(label for label in labels if label is not None)
    often = sorted(counts, key=lambda name: (-counts[name], name))[: len(COLOURS)]
    place = {name: group for group, name in enumerate(often)}
    groups = [len(often) if label is None else place.get(label, len(often)) for label in labels]
    return [*often, None][: max(groups) + 1], groups


def _places(points: np.ndarray) -> list[list[float]]:
    """(n, 2) points in the drawing, one scale for both axes."""
    low, high = points.min(0), points.max(0)
    room = np.array([WIDE - 2 * EDGE, HIGH - 2 * EDGE])
    scale = float((room / np.maximum(high - low, 1e-9)).min()) if (high > low).any() else 0.0
    at = np.array([WIDE, HIGH]) / 2 + (points - (low + high) / 2) * scale * [1, -1]
    placed: list[list[float]] = at.round(2).tolist()
    return placed


def _map(found: Map, names: Sequence[str | None], groups: Sequence[int], points: Sequence[Sequence[float]]) -> Markup:
    of = groups or [0] * len(points)
    marks = []
    for group, _ in enumerate(names):
        drawn = "".join(f"M{x:g} {y:g}{_shape(group)}" for (x, y), its in zip(points, of, strict=True) if its == group)
        marks.append(element("path", d=drawn, class_=f"mark c{_colour(names, group)}", data_group=group))
    spoken = f"A map of {len(points):,} texts. The search below, and the tables, say in words what is near to what."
    svg = element("svg", *marks, viewBox=f"0 0 {WIDE} {HIGH}", role="img", aria_label=spoken)
    buttons = [
        element("button", sign, type="button", id=id, aria_label=words)
        for id, sign, words in (("closer", "+", "larger"), ("further", "−", "smaller"), ("whole", "All", "the whole map"))
    ]
    hint = "A click on a mark chooses its text. Larger and smaller: the buttons, + and -, or Ctrl and the wheel; then drag, or arrow keys."
    chosen = element("div", _finder(), element("div", element("p", "None is chosen yet."), id="chosen"), class_="charts", **_scripted())
    return section(
        "The map",
        _what_the_map_says(found),
        element("div", *buttons, *_chooser(names), class_="row", **_scripted()),
        element(
            "div",
            svg,
            id="map",
            role="group",
            aria_label="the map: arrow keys move it, plus and minus make it larger and smaller, 0 shows all",
        ),
        element("p", hint, id="map-hint", class_="soft", **_scripted()),
        _legend(names, of) if groups else None,
        element("p", "With scripts on the map can be zoomed, moved and searched.", class_="soft", data_script="without"),
        chosen,
    )


def _scripted() -> dict[str, object]:
    """Of what is of use with the script alone."""
    return {"hidden": True, "data_script": "with"}


def _finder() -> Markup:
    return element(
        "div",
        element("label", "Find a text", for_="search"),
        element("input", id="search", type="search", autocomplete="off", spellcheck="false"),
        element("p", id="count", role="status", class_="soft"),
        element("ol", id="found"),
    )


def _chooser(names: Sequence[str | None]) -> list[Markup]:
    if len(names) < 2:
        return [element("select", id="only", hidden=True, aria_label="which label")]
    options = [element("option", _named(name), value=group) for group, name in enumerate(names)]
    return [
        element("label", "Label", for_="only"),
        element("select", element("option", "all", value=""), *options, id="only"),
    ]


def _legend(names: Sequence[str | None], groups: Sequence[int]) -> Markup:
    counts = Counter(groups)
    items = []
    for group, name in enumerate(names):
        mark = element("path", d=f"M0 0{_shape(group)}", class_="mark")
        key = element("svg", mark, viewBox="-5 -5 10 10", aria_hidden="true")
        items.append(element("li", key, element("bdi", _named(name)), f" ({counts[group]:,})", class_=f"c{_colour(names, group)}"))
    return element("ul", *items, class_="legend key")


def _named(name: str | None) -> str:
    return "others, or none" if name is None else name[: LONGEST[1]]


def _shape(group: int) -> str:
    return SHAPES[group % len(SHAPES)]


def _colour(names: Sequence[str | None], group: int) -> int:
    return OTHERS if names[group] is None and len(names) > 1 else COLOURS[group]


def _data(found: Map, groups: Sequence[int], points: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What the script needs."""
    written: dict[str, Any] = {}
    for longest in LONGEST:
        written = {"ids": _cut(found.ids, longest), "texts": _cut(found.texts, longest), "labels": _cut(found.labels, longest)}
        if len(json_script(written, "vectors")) <= LARGEST:  # as it is written: a < takes six
            break
    numbers = {
        "points": points,
        "groups": groups or [0] * len(points),
        "near": found.near.tolist(),
        "cosines": found.cosines.round(4).tolist(),
    }
    return {"size": [WIDE, HIGH], "shapes": SHAPES} | numbers | written


def _cut(texts: Sequence[str | None] | None, longest: int) -> list[str | None] | None:
    return None if texts is None else [text if text is None or len(text) <= longest else f"{text[: longest - 1]}…" for text in texts]


# --- tables -------------------------------------------------------------------------------------------------------------------------------


def _lie(found: Map) -> Markup:
    without = "" if found.labels else " No label is known, so nothing is known to belong together (--label COLUMN)."
    return how_they_lie(found.geometry, "two texts of one label", soft(f"All at length 1.{without}"))


def how_they_lie(lie: dict[str, Any], together: str, note: Markup) -> Markup:
    """Alignment of what belongs `together`, uniformity and anisotropy (bertlab/evaluation/geometry.py), each with its interval."""
    said = {
        "alignment": f"mean squared distance of {together}, {lie['pairs']:,} pairs; 0 is nearest",
        "uniformity": "log of the mean of exp(-2 x squared distance) over random pairs; lower is more spread out",
        "anisotropy": "mean cosine of random pairs; near 1 all texts point one way",
    }
    rows: list[list[object]] = []
    for name, words in said.items():
        interval = lie["intervals"][name]
        between = "-"
        if interval["low"] is not None:
            ends = [number(interval[end], f"geometry.intervals.{name}.{end}") for end in ("low", "high")]
            between = join(ends[0], " to ", ends[1])
        rows.append([join(element("b", name), f": {words}"), number(lie[name], f"geometry.{name}"), between])
    columns = [f"of {lie['texts']:,} texts with different vectors", "value", f"{lie['intervals']['level']:.0%} interval"]
    return section("How the vectors lie", table(columns, rows, "how the vectors lie", prose=True), note)


def _examples(found: Map) -> Markup | None:
    if not found.near.shape[1]:
        return None
    shown = _cut(found.texts, LONGEST[0])
    parts = []
    for n in np.unique(np.linspace(0, len(found.ids) - 1, EXAMPLES).round().astype(int)).tolist():
        rows = [
            [_text(found, shown, other), number(float(cosine), f"near.{n}.{place}"), *_about(found, other)]
            for place, (other, cosine) in enumerate(zip(found.near[n, :NEAREST].tolist(), found.cosines[n], strict=False))
        ]
        columns = ["nearest", "cosine", *(["label"] if found.labels else []), *(["id"] if shown else [])]
        text = element("p", element("bdi", _text(found, shown, n)), *(join(" (", each, ")") for each in _about(found, n)), dir="auto")
        parts.append(element("div", text, table(columns, rows, f"nearest to text {n + 1}", prose=True), class_="text"))
    note = soft(f"{len(parts)} texts, evenly chosen from the page's, and the {NEAREST} nearest to each among them.")
    return section("Nearest texts", note, *parts)


def _text(found: Map, shown: Sequence[str | None] | None, n: int) -> str:
    return (shown[n] if shown else None) or found.ids[n][: LONGEST[0]]


def _about(found: Map, n: int) -> list[Markup]:
    """Label and id, so far as they are known and not said already."""
    its = [(found.labels[n] or "-")[: LONGEST[2]]] if found.labels else []
    return [element("bdi", each) for each in [*its, *([found.ids[n][: LONGEST[2]]] if found.texts else [])]]


def _made(found: Map) -> Markup:
    facts = found.index.facts
    known = ("rows", "dims", "pooling", "layers", "normalize", "numbers", "precision", "max_length", "tokens", "truncated", "empty", "loss")
    rows = [[name, element("code", json.dumps(facts[name]))] for name in known if name in facts]
    rows += [[f"input {name}", element("code", json.dumps(value))] for name, value in found.index.origin.items() if name != "files"]
    rows += [[f"model: {name}", element("code", str(sha256))] for name, sha256 in facts["from"]["model"]["files"].items()]
    return folded("How they were made, with sha256", table(["what", "value"], rows, "how the vectors were made"))
