"""Elements escape by construction, numbers keep every digit, the policy allows one style and one script, colours can be read."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from bertlab.pages.html import STYLE, document, element, folded, join, json_script, number, safe, table

HOSTILE = '</script></style><img src=x onerror="a()"> & \'\x00\x1b[2J\u202e\u2028\n\ud800'


class Seen(HTMLParser):
    """Every start tag with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_text_is_no_element_and_no_attribute_wherever_it_stands() -> None:
    inside = join(element("p", HOSTILE, title=HOSTILE), folded(HOSTILE, HOSTILE), table([HOSTILE], [[HOSTILE]], HOSTILE))
    seen = Seen(document(HOSTILE, HOSTILE, inside))
    plain = Seen(document("x", "x", join(element("p", "x", title="x"), folded("x", "x"), table(["x"], [["x"]], "x"))))
    assert [(tag, set(attributes)) for tag, attributes in seen.tags] == [(tag, set(attributes)) for tag, attributes in plain.tags]
    assert seen.text.count('</script></style><img src=x onerror="a()"> & \'??[2J????') == 7
    document(HOSTILE, inside).encode("utf-8")


def test_markup_stays_and_its_texts_are_escaped_once() -> None:
    assert element("p", element("b", "a & b"), " <i>") == "<p><b>a &amp; b</b> &lt;i&gt;</p>"
    assert element("th", None, class_="x", aria_label="y", hidden=True, title=None) == '<th class="x" aria-label="y" hidden></th>'
    assert safe(Markup("<i>")) == "<i>" and safe(3) == "3"


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-9, 123456789.123456789, 3, 0.5996015249])
def test_a_number_is_rounded_for_the_eye_and_whole_in_its_value(value: float) -> None:
    ((tag, attributes),) = Seen(number(value, "test.macro.f1")).tags
    assert tag == "data" and attributes["data-of"] == "test.macro.f1"
    assert json.loads(attributes["value"] or "") == value
    assert number(0.59960, "x") == '<data value="0.5996" data-of="x">0.600</data>'
    assert number(None, "x") == "-"


def test_data_for_a_script_never_ends_the_element_and_comes_back_as_it_was() -> None:
    value = {"text": HOSTILE + "<!--", HOSTILE: [1, None, 0.1]}
    text = json_script(value, "facts")
    inside = text[text.index(">") + 1 : text.rindex("<")]
    assert not set("<>&\u2028\x00") & set(inside) and json.loads(inside) == value


def test_the_policy_allows_the_style_and_the_script_of_the_page_by_their_hashes_and_nothing_else() -> None:
    text = document("t", element("p", "x"), style="p { margin: 0; }", script="document.title = '<b>';", connect=True, refresh=30)
    ((_, meta),) = [tag for tag in Seen(text).tags if tag[1].get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in (meta["content"] or "").split("; "))
    style, script = re.findall(r"<style>(.*?)</style>|<script>(.*?)</script>", text, re.DOTALL)
    for name, inside in (("style-src", style[0]), ("script-src", script[1])):
        assert rules.pop(name) == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "connect-src": "'self'"}
    assert "<meta http-equiv=refresh content=30>" in text
    plain = document("t")
    assert "script-src" not in plain and "connect-src" not in plain and "refresh" not in plain and "<script" not in plain


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_and_every_line_can_be_told_from_its_ground(theme: str) -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    named = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if theme == "light" else dark))
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text in ("ink", "soft", "link", *(f"c{colour}" for colour in range(8))):
        assert contrast(named[text], named["ground"]) >= 4.5, text
    for ground in ("wrong", "mark"):
        assert contrast(named["ink"], named[ground]) >= 4.5 and (ground == "mark" or contrast(named["soft"], named[ground]) >= 4.5)
    for graphic in ("bar", "edge"):
        assert contrast(named[graphic], named["ground"]) >= 3
