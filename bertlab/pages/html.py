"""What every page of bertlab is made of: elements, one stylesheet, and a policy by which a page is one file that asks for nothing else.

Text is escaped by construction: whatever is no Markup becomes inert text (one line, control characters and direction marks made visible),
so that nothing of a stranger's can be an element, an attribute or a line of a script. Numbers carry their exact value: see `number`.
Style and script are allowed by their hashes, so there is no style attribute on any page.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from bertlab.pages.screen import inert

# Contrast of every text is 4.5 or more on its ground, of every line of a chart 3 or more, light and dark (tests/pages/test_html.py).
STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1b1b; --line: #d8d8d8; --soft: #616161; --bar: #3f73ad; --wrong: #fdf1dc;
  --edge: #b26b00; --mark: #fbe7a1; --link: #0b57a4; --heat: 63 115 173;
  --c0: #1f6cb0; --c1: #b5480a; --c2: #147a52; --c3: #86399c; --c4: #80670a; --c5: #59656e; --c6: #b0216a; --c7: #0a7888; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --ink: #e8e8e6; --line: #3c3f43; --soft: #a6a6a6; --bar: #6ea3dc; --wrong: #33280f; --edge: #d99a3a;
    --mark: #5c4a10; --link: #8cbcf2; --heat: 110 163 220;
    --c0: #6fb1f5; --c1: #ff9e64; --c2: #5fd3a2; --c3: #d39bf0; --c4: #e0c04a; --c5: #b3bec8; --c6: #ff8ab8; --c7: #4fcfdf; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere;
  background: var(--ground); color: var(--ink); }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); font-size: .875rem; } a { color: var(--link); }
code { font: .9em ui-monospace, monospace; }
.wide { overflow-x: auto; } .wide + .wide { margin-top: 1rem; }
table { border-collapse: collapse; min-width: min(100%, 26rem); font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { text-align: right; padding: .25rem 0 .25rem 1.2rem; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 6.5rem; }
thead th { color: var(--soft); font-weight: 600; } tbody th { font-weight: normal; }
.wrong { background: var(--wrong); border-left: 4px solid var(--edge); padding: .5rem .8rem; margin: .6rem 0; border-radius: 0 4px 4px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0 2rem; }
.charts > * { min-width: 0; }
svg { width: 100%; height: auto; display: block; max-width: 30rem; } svg text { fill: currentColor; font-size: 11px; }
svg rect { fill: var(--bar); }
.text { border-top: 1px solid var(--line); padding: .5rem 0; } .pair { font-size: .875rem; line-height: 1.9; }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 .2em; } mark small { color: inherit; }
.second { border-bottom: 2px solid var(--bar); }
figure { margin: 0 0 1.2rem; } figure h3 { margin-bottom: 0; } figure svg text { font-size: 13px; }
.curve { fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linejoin: round; } circle { fill: currentColor; }
.grid { stroke: var(--line); stroke-width: 1; fill: none; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); stroke-dasharray: 7 3; } .c2 { color: var(--c2); stroke-dasharray: 2 3; }
.c3 { color: var(--c3); stroke-dasharray: 9 3 2 3; } .c4 { color: var(--c4); } .c5 { color: var(--c5); stroke-dasharray: 7 3; }
.c6 { color: var(--c6); stroke-dasharray: 2 3; } .c7 { color: var(--c7); stroke-dasharray: 9 3 2 3; } circle { stroke-dasharray: none; }
.legend { list-style: none; margin: .3rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-size: .875rem; }
.legend li::before { content: ""; display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: .25em;
  border-top: 3px solid currentColor; }
.legend .c1::before, .legend .c5::before { border-top-style: dashed; }
.legend .c2::before, .legend .c6::before { border-top-style: dotted; }
.legend .c3::before, .legend .c7::before { border-top-style: double; }
.shaded td { text-align: center; padding: .25rem .4rem; } .shaded th { padding: .25rem .4rem; text-align: center; }
.shaded tbody th, .shaded th:first-child { text-align: left; }
.prose th:first-child { min-width: 14rem; }
.h1 { background: rgb(var(--heat) / .06); } .h2 { background: rgb(var(--heat) / .12); } .h3 { background: rgb(var(--heat) / .18); }
.h4 { background: rgb(var(--heat) / .24); } .h5 { background: rgb(var(--heat) / .3); } .h6 { background: rgb(var(--heat) / .36); }
.h7 { background: rgb(var(--heat) / .42); } .h8 { background: rgb(var(--heat) / .48); } .h9 { background: rgb(var(--heat) / .55); }
.plain { background: none; border-left-color: var(--c2); }
summary { cursor: pointer; color: var(--link); font-size: .875rem; }
@media (max-width: 30rem) {
  table { font-size: .8rem; } figure svg text { font-size: 15px; }
  th, td { padding-left: .6rem; } th:first-child, td:first-child { min-width: 6rem; }
}
"""


def element(name: str, *inner: object, **attributes: object) -> Markup:
    """<name attribute=value>inner</name>: texts are escaped, Markup and None (nothing) are not. `class_` stands for class, `aria_label` for
    aria-label; an attribute of None is left out, one of True has no value."""
    # Markup.format would escape anew what is escaped: a page took 3.7 times as long.
    return Markup(f"<{name}{_attributes(attributes)}>{join(*inner)}</{name}>")


def join(*inner: object, between: str = "") -> Markup:
    """Markup and texts one after another, the texts escaped."""
    return Markup(between.join(safe(each) for each in inner if each is not None))


def safe(text: object) -> Markup:
    """A text as text; what is Markup already as it is."""
    if isinstance(text, Markup):
        return text
    return escape(inert(str(text)).encode("utf-8", "replace").decode("utf-8"))  # half a character of UTF-16 is none


def number(value: float | None, of: str, written: str = ".3f") -> Markup:
    """A number for a person, rounded as `written` says, and for a program to the last digit in the element's value; data-of says where in
    metrics.json it stands. None is a dash."""
    return safe("-") if value is None else element("data", format(value, written), value=json.dumps(value), data_of=of)


def table(columns: Sequence[object], rows: Sequence[Sequence[object]], label: object, *, prose: bool = False) -> Markup:
    """A table that scrolls sideways by itself where it is wide, the first cell of a row its heading (prose: a text, which gets some width);
    `label`: what a screen reader says."""
    head = element("tr", *(element("th", _cell(cell), scope="col") for cell in columns))
    lines = [
        element("tr", element("th", _cell(row[0]), scope="row"), *(element("td", _cell(cell)) for cell in row[1:]))
        for row in rows
    ]  # fmt: skip
    inside = element("table", element("thead", head), element("tbody", *lines), aria_label=label, class_="prose" if prose else None)
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=label)


def _cell(cell: object) -> Markup:
    """A text of either direction keeps to itself; numbers and elements have none."""
    return cell if isinstance(cell, Markup) else element("bdi", cell)


def section(heading: str, *inner: object) -> Markup:
    return element("section", element("h2", heading), *inner, aria_label=heading)


def soft(*inner: object) -> Markup:
    """A note in small grey letters."""
    return element("p", *inner, class_="soft")


def folded(summary: str, *inner: object) -> Markup:
    """What opens at a click or by the keyboard, without a script."""
    return element("details", element("summary", summary), *inner)


def json_script(value: Any, id: str) -> Markup:
    """Data for a page's script as an element that does not run. JSON's own escapes keep < > & and the line breaks of scripts out of it."""
    text = json.dumps(value, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(f"<script type=application/json{_attributes({'id': id})}>{text}</script>")


def assets(*names: str) -> str:
    """Scripts or styles of this package, one after another."""
    return "".join(files(__package__).joinpath(name).read_text(encoding="utf-8") for name in names)


# By which a file is known to be a page of ours.
MARK = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src "


def document(
    title: str, *body: object, style: str = "", script: str | None = None, connect: bool = False, refresh: int | None = None
) -> str:
    """The whole page. style: more of it, after STYLE. script: ours, a constant of the package, run at the end of the body; connect: it may
    ask the server that the page came from. refresh: seconds after which the page is read again."""
    assert "</" not in style and "</script" not in (script or "").lower(), "both are constants of ours"
    policy = ["default-src 'none'", f"style-src {_hash(STYLE + style)}", "base-uri 'none'", "form-action 'none'"]
    policy += [f"script-src {_hash(script)}"] if script else []
    policy += ["connect-src 'self'"] if connect else []
    head = [
        Markup("<meta charset=utf-8>"),
        Markup("<meta name=viewport content='width=device-width, initial-scale=1'>"),
        Markup('<meta http-equiv=Content-Security-Policy content="{}">').format(Markup("; ".join(policy))),
        Markup("<meta http-equiv=refresh content={}>").format(int(refresh)) if refresh else None,
        element("title", title),
        Markup("<style>{}</style>").format(Markup(STYLE + style)),
    ]
    main = element("main", join(*body, between="\n"))
    end = Markup("<script>{}</script>").format(Markup(script)) if script else None
    whole = element("html", element("head", join(*head, between="\n")), Markup("\n"), element("body", main, end), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _attributes(attributes: dict[str, object]) -> str:
    """Each with a space before it, the values escaped; the names are ours."""
    parts = []
    for name, value in attributes.items():
        known = name.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(f" {known}")
        elif value is not None and value is not False:
            parts.append(f' {known}="{safe(value)}"')
    return "".join(parts)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
