"""The site of these pages: Sphinx, MyST for Markdown, furo for looks.

    pip install -c constraints.txt -e '.[docs]' && sphinx-build -W docs SITE

Makes the side bar of the links of index.md, in their order, so that one list serves readers of the files and of the site. Needs nothing of
bertlab but its version, which it reads and does not import; what it builds asks for nothing from elsewhere.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that the tests read this file without Sphinx
    from sphinx.application import Sphinx

HERE = Path(__file__).parent

project = "bertlab"
author = "bertlab's authors"
package = (HERE.parent / "bertlab" / "__init__.py").read_text(encoding="utf-8")
version = release = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)[0]

extensions = ["myst_parser"]
myst_heading_anchors = 3  # the anchors that code hosts give: links work in both places
exclude_patterns = ["conf.py"]
smartquotes = False  # "--name" in prose stays what one types
highlight_language = "text"  # indented commands and what they print; no language is guessed

html_theme = "furo"
html_title = f"bertlab {version}"
html_show_copyright = html_show_sphinx = False
html_copy_source = html_show_sourcelink = False


def setup(app: "Sphinx") -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_side_bar)


def add_side_bar(app: "Sphinx", name: str, source: list[str]) -> None:
    """Give index.md and verbs/index.md, as they are read, the hidden tables of contents that a side bar is made of."""
    if name in ("index", "verbs/index"):
        source[0] += "".join(toctree(title, pages) for title, pages in linked_pages(source[0]))


def linked_pages(text: str) -> list[tuple[str, list[str]]]:
    """(heading, pages linked beneath it) of a page of Markdown, where there are any."""
    heads = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)[1:]
    found = [(title, re.findall(r"\]\(([\w/-]+)\.md\)", body)) for title, body in zip(heads[::2], heads[1::2], strict=True)]
    return [(title, pages) for title, pages in found if pages]


def toctree(title: str, pages: list[str]) -> str:
    """A hidden table of contents in MyST's spelling."""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])
