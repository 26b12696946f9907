"""Pages in a browser: nothing is asked for, nothing complains, nothing runs, and all of it can be read at any width, light or dark.

Needs playwright (the extra test) and a Chromium on the path; without one of them the reason is said.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertlab.pages.report import write_report
from tests.pages.test_contrast_report import made as contrasted

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAYLOADS = [
    "<script>document.title = 'ran'</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><style>*{background:url(//x.example)}</style>",
    "</title></table></main><iframe src=//x.example></iframe>",
    "<meta http-equiv=refresh content='0;url=//x.example'>",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, topics: Path, bert: Path, make_pretrained: Any, make_finetuned: Any) -> dict[str, Path]:
    """A page of each kind, and one whose every text is a payload."""
    folder = tmp_path_factory.mktemp("pages")
    other = make_pretrained(folder / "a-run-with-quite-a-long-name-that-goes-on-and-on", steps=800)
    hostile = make_finetuned(folder / "hostile", PAYLOADS, PAYLOADS, n=60)
    wide = make_finetuned(
        folder / "wide", [f"a class with a long name, number {number}" for number in range(20)], ["w" * 300], n=100, seeds=1
    )
    runs = {
        "topics": [topics],
        "bert": [bert],
        "several": [bert, other, topics, hostile],
        "hostile": [hostile],
        "wide": [wide],
        "contrast": [contrasted(folder / "contrast")],
    }
    for name, its in runs.items():
        write_report(folder / f"{name}.html", its)
    return {name: folder / f"{name}.html" for name in runs}


CUT_OFF = """
() => [...document.querySelectorAll('svg text')].filter(each => {
  const letters = each.getBoundingClientRect(), drawn = each.ownerSVGElement.getBoundingClientRect();
  return letters.width && (letters.left < drawn.left - 0.5 || letters.right > drawn.right + 0.5);
}).map(each => each.textContent)
"""

Look = Callable[..., tuple[Any, list[str]]]


@pytest.fixture
def look(browser: Any, pages: dict[str, Path]) -> Iterator[Look]:
    contexts = []

    def opened(name: str, **settings: Any) -> tuple[Any, list[str]]:
        """The page, and what happened that should not: requests beside its own, messages, dialogs, errors."""
        context = browser.new_context(**settings)
        contexts.append(context)
        page, happened = context.new_page(), []
        address = pages[name].as_uri()

        def dismiss(dialog: Any) -> None:
            happened.append(dialog.message)
            dialog.dismiss()

        page.on("request", lambda request: happened.append(request.url) if request.url != address else None)
        page.on("console", lambda message: happened.append(message.text))
        page.on("pageerror", lambda error: happened.append(str(error)))
        page.on("dialog", dismiss)
        page.goto(address)
        return page, happened

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_ask_for_nothing_complain_of_nothing_and_fit_the_screen(look: Look, pages: dict[str, Path], width: int, scheme: str) -> None:
    for name in pages:
        page, happened = look(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        assert page.evaluate(CUT_OFF) == [], f"{name}: letters of a chart beyond its edge"
        ground, ink = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light") and ink != ground
        assert happened == [], name
    assert pages["bert"].stat().st_size < 300_000


def test_pages_are_whole_with_scripts_off(look: Look, pages: dict[str, Path]) -> None:
    for name in pages:
        page, _ = look(name, java_script_enabled=False)
        assert page.locator("h1").count() == 1 and page.locator("table").count() >= 1 and page.locator("svg").count() >= 1


def test_payloads_are_text_in_a_real_browser(look: Look) -> None:
    page, happened = look("hostile")
    page.wait_for_timeout(200)
    assert happened == [] and page.title() == "Run hostile"
    assert page.locator("script, img, iframe, style >> nth=1, main style, main meta, svg[onload]").count() == 0
    text = page.locator("main").inner_text()
    assert all(payload in text for payload in PAYLOADS)


def test_everything_can_be_reached_and_named_without_a_mouse_or_eyes(look: Look) -> None:
    page, _ = look("topics", viewport={"width": 360, "height": 800})
    for drawn in page.locator("svg").all():
        assert drawn.get_attribute("role") == "img" and len(drawn.get_attribute("aria-label") or "") > 10
    for table in page.locator("table").all():
        assert table.get_attribute("aria-label")
    assert page.locator("th:not([scope])").count() == 0 and page.locator("html[lang=en]").count() == 1
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.keyboard.press("Tab")  # into the table that opened, which scrolls by the keyboard
    assert page.evaluate("document.activeElement.className") == "wide"
    names = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(each => Number(each.tagName[1]))")
    assert names[0] == 1 and all(after <= before + 1 for before, after in zip(names, names[1:], strict=False))


CONTRAST = """
() => {
  const light = colour => {
    const channels = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
    const [r, g, b] = channels.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, under) => {
    const [r, g, b, a = 1] = top.match(/[\\d.]+/g).map(Number), below = under.match(/[\\d.]+/g).map(Number);
    return `rgb(${[r, g, b].map((v, n) => v * a + below[n] * (1 - a)).join(',')})`;
  };
  const poor = [];
  for (const each of document.querySelectorAll('main *')) {
    if (![...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(each);
    const chain = [];
    for (let up = each; up; up = up.parentElement) chain.unshift(getComputedStyle(up).backgroundColor);
    let ground = 'rgb(255, 255, 255)';
    for (const colour of chain) ground = over(colour, ground);
    const [low, high] = [light(each.namespaceURI.endsWith('svg') ? style.fill : style.color), light(ground)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) poor.push(each.tagName + ' ' + each.textContent.slice(0, 20));
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_told_from_its_ground(look: Look, pages: dict[str, Path], scheme: str) -> None:
    for name in ("topics", "bert", "wide", "contrast"):
        page, _ = look(name, color_scheme=scheme)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate(CONTRAST) == [], name
