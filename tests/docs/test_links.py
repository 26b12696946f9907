"""README.md and docs/: every link leads to a file that is tracked and to a heading that is there, every page is found from the index, and
every picture is small, says what it shows and asks for nothing from elsewhere."""

import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import bertlab

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PICTURES = sorted((DOCS / "pictures").glob("*"))
SVG = "{http://www.w3.org/2000/svg}"


def flat(text: str) -> Iterator[Token]:
    """All tokens of a page of Markdown, those inside lines too."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def places(text: str) -> list[str]:
    """Where the links and pictures of a page of Markdown lead, in order."""
    found = [token.attrs.get("href") or token.attrs.get("src") for token in flat(text) if token.type in ("link_open", "image")]
    return [str(place) for place in found if place]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives the headings: small letters, no punctuation, hyphens for spaces; a second one alike ends in -1."""
    found: dict[str, int] = {}
    tokens = MarkdownIt("commonmark").parse(text)
    for opening, line in zip(tokens, tokens[1:], strict=False):
        if opening.type == "heading_open":
            title = "".join(child.content for child in line.children or ())
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
            if found[slug]:
                found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def dead(page: Path) -> list[str]:
    """The links of a page that lead nowhere; those to other machines are not followed."""
    found = []
    for place in places(page.read_text(encoding="utf-8")):
        address = urlsplit(place)
        if address.scheme or address.netloc:
            continue
        target = page.parent / unquote(address.path) if address.path else page
        if not target.is_file() or (address.fragment and address.fragment not in anchors(target.read_text(encoding="utf-8"))):
            found.append(place)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert not dead(page)


def test_there_are_links_with_and_without_headings() -> None:
    found = [place for page in PAGES for place in places(page.read_text(encoding="utf-8"))]
    assert len(found) > 100 and sum("#" in place for place in found) > 20


def test_what_is_linked_is_tracked() -> None:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git: nothing says what is tracked")
    tracked = {ROOT / name for name in listed.stdout.split("\0")}
    for page in PAGES:
        for place in places(page.read_text(encoding="utf-8")):
            path = urlsplit(place).path
            if path and not urlsplit(place).scheme:
                assert (page.parent / unquote(path)).resolve() in tracked, f"{page.name}: {place}"


def test_pages_of_the_site_lead_nowhere_outside_it() -> None:
    for page in PAGES[1:]:
        for place in places(page.read_text(encoding="utf-8")):
            if not urlsplit(place).scheme:
                assert (page.parent / unquote(urlsplit(place).path)).resolve().is_relative_to(DOCS), f"{page.name}: {place}"


def test_every_page_is_listed_once_in_an_index() -> None:
    for folder in (DOCS, DOCS / "verbs"):
        listed = [place for place in places((folder / "index.md").read_text(encoding="utf-8")) if "/" not in place]
        assert sorted(listed) == sorted(page.name for page in folder.glob("*.md") if page.name != "index.md")
    assert "verbs/index.md" in places((DOCS / "index.md").read_text(encoding="utf-8"))


def test_the_side_bar_of_the_site_leads_to_every_page_once() -> None:
    conf = runpy.run_path(str(DOCS / "conf.py"))
    assert conf["version"] == bertlab.__version__
    found = []
    for name in ("index", "verbs/index"):
        source = [(DOCS / f"{name}.md").read_text(encoding="utf-8")]
        conf["add_side_bar"](None, name, source)
        for tree in re.findall(r"^```\{toctree\}\n((?::.+\n)+)\n([^`]+)```$", source[0], re.MULTILINE):
            assert tree[0].startswith(":hidden:\n:caption: ")
            found += [(DOCS / name).parent / f"{page}.md" for page in tree[1].split()]
    assert sorted(found) == sorted(set(PAGES[1:]) - {DOCS / "index.md"})


def test_links_and_anchors_are_read_as_github_reads_them() -> None:
    lines = (
        "# A `b-c`: d_e!",
        "## Same",
        "[x](a.md#y) ![z](p.svg) <https://e.org>",
        "    [no](c.md)",
        "`[no](b.md)`",
        "## Same",
        "### Ünï (2)",
    )
    text = "\n\n".join(lines)
    assert places(text) == ["a.md#y", "p.svg", "https://e.org"]
    assert anchors(text) == {"a-b-c-d_e", "same", "same-1", "ünï-2"}


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Here\n")
    (tmp_path / "a.md").write_text("# A\n\n[1](b.md#here) [2](b.md#there) [3](c.md) [4](#a) [5](#b) [6](https://e.org/no.md)\n")
    assert dead(tmp_path / "a.md") == ["b.md#there", "c.md", "#b"]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert path.suffix == ".svg" and root.tag == f"{SVG}svg" and root.get("role") == "img" and root.get("viewBox")
    assert len(text.encode()) < 8192
    for name in ("title", "desc"):
        element = root.find(f"{SVG}{name}")
        assert element is not None and element.text and element.get("id") in (root.get("aria-labelledby") or "").split(), name
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|<script|<image|<foreignObject|@import|url\(|\bon\w+=|<!", text)


def test_every_picture_is_shown_with_words_for_who_cannot_see_it() -> None:
    shown = {}
    for page in PAGES:
        for token in flat(page.read_text(encoding="utf-8")):
            if token.type == "image":
                shown[(page.parent / str(token.attrs["src"])).resolve()] = token.content
    assert set(shown) == set(PICTURES) and len(PICTURES) >= 4
    assert all(len(words.split()) > 5 for words in shown.values())
