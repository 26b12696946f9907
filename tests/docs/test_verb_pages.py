"""recipes/docs/verb_pages.py: every verb has a page, the pages are what the script writes, and they say what --help says."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from bertlab import errors
from bertlab.cli import VERBS, _options, module_of
from bertlab.schema import docs, leaves

ROOT = Path(__file__).parents[2]
SCRIPT = "recipes/docs/verb_pages.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("verb_pages", ROOT / SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(script: Any) -> dict[str, str]:
    made: dict[str, str] = script.pages()
    return made


def test_every_verb_has_a_page_and_no_page_is_stale(pages: dict[str, str]) -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "verbs").glob("*.md")}
    assert set(there) == {f"{verb}.md" for verb in VERBS} | {"index.md"}, f"run python {SCRIPT}"
    stale = [name for name in there if there[name] != pages[name]]
    assert not stale, f"{', '.join(stale)}: run python {SCRIPT}"


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_lists_what_help_lists(verb: str, pages: dict[str, str]) -> None:
    app, _ = _options(verb, module_of(verb).Config, for_help=True)
    helped = [tuple(argument.names) for argument in app.assemble_argument_collection()]
    items = [re.match(r"- ((?:`[^`]+`(?:, )?)+)", line) for line in pages[f"{verb}.md"].splitlines()]
    listed = [tuple(re.findall(r"`([^`]+)`", item[1])) for item in items if item]
    assert sorted(listed) == sorted(helped) and len(listed) > 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_reads_as_the_docstrings_do(verb: str, pages: dict[str, str]) -> None:
    """Rendered, no word of a docstring is lost to mark-up, and no list, heading or quotation comes of where a line was broken."""
    tokens = MarkdownIt().parse(pages[f"{verb}.md"])
    leaves_of = [child for token in tokens for child in token.children or [token]]
    read = " ".join("".join(" " if token.type == "softbreak" else token.content for token in leaves_of).split())
    for name, text in docs(module_of(verb).Config).items():
        plain = re.sub(r"docs/([\w-]+)\.md", r"\1", text.replace("`", ""))
        assert plain in read, f"{verb} --{name}"
    kinds = {token.type.removesuffix("_open") for token in tokens if token.type.endswith("_open")}
    assert kinds <= {"heading", "paragraph", "bullet_list", "list_item"}
    assert sum(token.type == "list_item_open" for token in tokens) == len(leaves(module_of(verb).Config)) + 1


def test_every_option_is_documented() -> None:
    for verb in VERBS:
        Config = module_of(verb).Config
        assert set(leaves(Config)) <= set(docs(Config)), verb


def test_lines_are_short_and_name_no_place_of_a_machine(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        assert not re.search(r"/(?:home|root|tmp|work)/", text), name
        prose = [line for line in text.splitlines() if not line.startswith(("|", "    "))]
        assert max(map(len, prose)) <= 120, name


def test_the_index_has_the_exit_code_of_every_error(pages: dict[str, str]) -> None:
    rows = {kind: code for code, kind, _ in re.findall(r"^\| ([\d, ]+) \| (\S+) \| (.+) \|$", pages["index.md"], re.MULTILINE)}
    kinds = errors.BertlabError.__subclasses__()
    assert {kind.__name__: str(kind.exit_code) for kind in kinds}.items() <= rows.items() and {"(OSError)", "(signals)"} < set(rows)


def test_sections_are_those_in_which_the_verb_is_typed(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text(
        "# A page\n\n`bertlab embed` in a line.\n\n## Some: way!\n\n    bertlab embed --x\n\n## Later\n\n    bertlab embed\n"
    )
    (tmp_path / "b.md").write_text("# B page\n\n    bertlab  embed\n")
    (tmp_path / "c.md").write_text("# C page\n\n    bertlab embedding\n    bertlab search\n")
    monkeypatch.setattr(script, "DOCS", tmp_path)
    assert script.sections_about("embed") == [("A page: Some: way!", "a.md#some-way"), ("B page", "b.md")]


@dataclass(frozen=True)
class Example:
    """A Config with docstrings that Markdown would misread."""

    place: str
    """Where *.txt files lie <here>; see docs/corpus.md, and `a   b*`."""
    rates: tuple[float, ...] = (0.5, 1e-06)
    """Two."""
    loud: bool | None = None
    """Sound."""
    name: str = ""
    """None."""


def test_options_say_what_they_want_and_what_they_are_by_default(script: Any) -> None:
    assert next(iter(list(script.options(Example))[1:])).splitlines() == [
        "- `--place` (text; must be given): Where \\*.txt files lie \\<here>; see [corpus](../corpus.md), and `a b*`.",
        "- `--rates` (a list of finite numbers; default `0.5` `1e-06`): Two.",
        "- `--loud`, `--no-loud` (true or false; default `null`): Sound.",
        "- `--name` (text; default empty): None.",
        "- `--config` (a list of text): A YAML file of these options; may be repeated: later files win, and the command line wins",
        "  over files.",
    ]


def test_no_broken_line_becomes_a_list_or_a_heading(script: Any) -> None:
    for marker, escaped in (("-", "\\-"), ("+", "\\+"), ("#", "\\#"), ("12.", "12\\."), ("3)", "3\\)")):
        text = script.prose(f"{'x' * 119} {marker} y")
        assert text == f"{'x' * 119}\n{escaped} y"
    assert script.prose("x" * 100 + " `a piece of code that is not broken`").count("`") == 2
    assert "`a piece of code that is not broken`" in script.prose("x" * 100 + " `a piece of code that is not broken`")
