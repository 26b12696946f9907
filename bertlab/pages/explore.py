"""The page of `bertlab explore`: one file with its own script, for a server on this machine, or as a snapshot that needs none.

Served, it holds nothing of a model or a text: all comes in answers to its questions. A snapshot holds one text and what was found of it as
JSON, which the same script draws; with scripts off it shows the words, classes and tokens as tables.
"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from bertlab.pages.html import assets, document, element, join, json_script, section, soft, table


def page(snapshot: Mapping[str, Any] | None = None) -> str:
    """The whole page. snapshot: {about, text, text_b, looked, why, near, parted}, the last three may be None."""
    script, style = assets("elements.js", "explore.js"), assets("controls.css", "explore.css")
    body = [element("h1", "A model opened up: ", element("span", id="name")), element("p", id="kind", class_="soft")]
    fixed = snapshot is not None  # there is nobody to ask
    body += [element("div", id="given", class_="text", hidden=True), _ask(fixed), _status(), _found(), _words(fixed)]
    if snapshot is not None:
        body = [*body, element("noscript", *_tables(snapshot)), json_script(dict(snapshot), "snapshot")]
    return document("bertlab explore", *body, style=style, script=script, connect=snapshot is None)


def _ask(hidden: bool) -> Markup:
    hint = "[MASK] stands for a missing word. Ctrl+Enter looks."
    return element(
        "form",
        element("label", "Text", for_="text"),
        element("textarea", id="text", rows=3, spellcheck="false", aria_describedby="text-hint"),
        soft(element("span", hint, id="text-hint")),
        element("label", "Second text of a pair (may be empty)", for_="text_b"),
        element("textarea", id="text_b", rows=2, spellcheck="false"),
        element("div", element("button", "Look", type="submit"), class_="row"),
        id="ask",
        hidden=hidden,
    )


def _status() -> Markup:
    return join(
        element("p", id="status", role="status", class_="soft"), element("p", id="error", role="alert", class_="wrong", hidden=True)
    )


def _found() -> Markup:
    """What one text comes to: filled by the script, empty until then."""
    tokens = section(
        "Tokens",
        soft("Choose a token, by a click or the arrow keys: the shades are the attention between it and the others."),
        element("p", id="cut", class_="soft"),
        element("div", id="tokens", class_="tokens", role="group", aria_label="tokens"),
        element("div", element("button", "Mask this token", id="mask", type="button", disabled=True), class_="row"),
        soft(element("span", "A masked token is asked for among the words of the vocabulary.", id="mask-hint")),
    )
    directions = [element("option", name, value=value) for value, name in (("reads", "what it reads"), ("read", "what reads it"))]
    attention = section(
        "Attention",
        element("div", _select("layer", "Layer"), _select("head", "Head"), _select("direction", "Direction", *directions), class_="row"),
        element(
            "div",
            element("div", element("h3", id="chosen"), element("div", id="weights")),
            element("div", element("h3", id="chosen-head"), element("canvas", id="matrix", role="img"), soft("Rows read columns.")),
            element(
                "div",
                element("h3", "Every layer (rows) and head (columns)"),
                element("canvas", id="heads", role="img", aria_label="all layers and heads; choose one above, or by a click"),
                soft("Shades are the square root of the attention. A click chooses a head."),
            ),
            class_="charts",
        ),
    )
    parts = [
        element("div", id="answer"),
        element("div", id="why"),
        element("div", id="gaps", class_="gaps-part"),
        element("div", id="next"),
    ]
    return element("div", tokens, *parts, attention, element("div", id="near"), id="found", hidden=True)


def _select(id: str, name: str, *options: Markup) -> Markup:
    return element("div", element("label", name, for_=id), element("select", *options, id=id))


def _words(hidden: bool) -> Markup:
    form = element(
        "form",
        element("label", "Word", for_="word"),
        element("input", id="word", type="text", spellcheck="false", autocomplete="off"),
        element("label", "Contexts: one a line, a blank line between senses", for_="contexts"),
        element("textarea", id="contexts", rows=6, spellcheck="false"),
        element("div", element("button", "See its vectors", type="submit"), class_="row"),
        id="ask-word",
        hidden=hidden,
    )
    found = element(
        "div",
        element("label", "How deep: ", element("output", id="depth-name", for_="depth"), for_="depth"),
        element("input", id="depth", type="range", min=0, max=1, step=1, value=0),
        element("div", id="map"),
        element("ol", id="list"),
        element("div", id="by-layer"),
        id="parted",
        hidden=True,
    )
    return element("div", section("A word in its contexts", form, found), id="words", hidden=hidden)


# ---- a snapshot without scripts


def _tables(snapshot: Mapping[str, Any]) -> list[Markup]:
    looked = snapshot["looked"]
    found = [soft("Attention needs scripts; what else was found:")]
    for gap in looked["gaps"]:
        rows = [[each["word"], f"{100 * each['probability']:.1f} %"] for each in gap["words"]]
        found.append(table(["word", "probability"], rows, f"words for place {gap['place']}"))
    if looked["next"]:
        found.append(element("p", f"The second text follows the first: {100 * looked['next']['follows']:.1f} %"))
    classes = (looked["answer"] or {}).get("classes")
    if classes:
        rows = [[each["label"], f"{100 * each['probability']:.1f} %"] for each in classes]
        found.append(table(["class", "probability"], rows, "classes, likeliest first"))
    rows = [[str(place), token["text"]] for place, token in enumerate(looked["tokens"])]
    return [*found, table(["place", "token"], rows, "tokens")]
