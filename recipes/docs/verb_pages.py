"""docs/verbs/: a page a verb and one that lists them, made of what the code says of itself.

    python recipes/docs/verb_pages.py          writes all pages again and takes away those of verbs that are gone

A page is the docstring of the verb's module, the docstring, type and default of every field of its Config, and links to the sections of the
prose pages in which the verb is typed. tests/docs/test_verb_pages.py fails where a page is not what this script would write. Knows no verb:
a new one needs its module alone.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertlab import errors
from bertlab.cli import FILES, VERBS, flag, module_of
from bertlab.schema import Leaf, docs, is_flag, leaves, wanted

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 120
_CODE = re.compile(r"`[^`]*`")
_BLOCK = re.compile(r"(?:[-+>#]|\d+[.)])(?=\s|$)")  # what would begin a list, a quotation or a heading at the start of a line
_SPACE = "\x00"  # stands for a space inside code while a paragraph is wrapped


# --- text of docstrings as Markdown


def prose(text: str, first: str = "", rest: str = "") -> str:
    """One paragraph, wrapped; what Markdown would take for mark-up is escaped outside of `code`, and pages that it names become links."""
    text = "".join(
        part.replace(" ", _SPACE) if _CODE.fullmatch(part) else re.sub(r"([\\*<])", r"\\\1", part)
        for part in re.split(f"({_CODE.pattern})", " ".join(text.split()))
    )
    text = re.sub(r"docs/([\w-]+)\.md", r"[\1](../\1.md)", text)
    lines = textwrap.wrap(first + text, WIDTH, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
    return "\n".join([lines[0], *map(_no_block, lines[1:])]).replace(_SPACE, " ")


def _no_block(line: str) -> str:
    found = _BLOCK.match(line.lstrip())
    if not found:
        return line
    last = len(line) - len(line.lstrip()) + found.end() - 1
    return f"{line[:last]}\\{line[last:]}"


def paragraphs(docstring: str) -> Iterator[str]:
    """The paragraphs of a docstring: prose wrapped anew, indented commands as they stand."""
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(docstring).strip("\n")):
        yield paragraph.rstrip() if paragraph.startswith("    ") else prose(paragraph)


# --- a verb


def page(verb: str) -> str:
    """docs/verbs/VERB.md."""
    module = module_of(verb)
    assert module.__doc__ is not None and module.__doc__.startswith(f"bertlab {verb}: "), f"{module.__name__}: say first what the verb is"
    head, _, body = module.__doc__.partition("\n\n")
    head = head.removeprefix(f"bertlab {verb}: ")
    lines = [f"# bertlab {verb}", prose(head[0].upper() + head[1:]), *paragraphs(body)]
    read_on = [f"[{title}](../{place})" for title, place in sections_about(verb)]
    if read_on:
        lines.append(prose(f"More of it: {'; '.join(read_on)}."))
    return "\n\n".join([*lines, *options(module.Config), "How options are written, and exit codes: [all verbs](index.md)."]) + "\n"


def options(Config: type) -> Iterator[str]:
    """A heading a section of the Config, and under it a list of its options."""
    known, texts = leaves(Config), docs(Config)
    sections = dict.fromkeys(["", *(leaf.name.rpartition(".")[0] for leaf in known.values())])
    for section in sections:
        yield f"## Options: {section}" if section else "## Options"
        here = [option(leaf, texts[leaf.name]) for leaf in known.values() if leaf.name.rpartition(".")[0] == section]
        yield "\n".join(here if section else [*here, prose(f"- `--config` (a list of text): {FILES}", rest="  ")])


def option(leaf: Leaf, text: str) -> str:
    """One option on a list: how it is spelled, what it wants, what it is where nobody says, what it means."""
    names = [flag(leaf.name), flag(leaf.name, "no-")] if is_flag(leaf.hint) else [flag(leaf.name)]
    facts = [wanted(leaf.hint).replace("'", "`"), "must be given" if leaf.required else f"default {shown(leaf.default)}"]
    facts += ["may stand without its name"] * leaf.positional
    return prose(f"- {', '.join(f'`{name}`' for name in names)} ({'; '.join(facts)}): {text}", rest="  ")


def shown(default: Any) -> str:
    """A default as one would type it."""
    if default in ((), ""):
        return "empty"
    values = default if isinstance(default, tuple) else (default,)
    return " ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in values)


def sections_about(verb: str) -> list[tuple[str, str]]:
    """(title, place) of the section of each prose page in which the verb is typed first."""
    found = []
    for path in sorted(DOCS.glob("*.md")):
        titles = [""]
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(("# ", "## ")):
                titles = [*titles[:1], line.lstrip("# ")] if line.startswith("## ") else [line.lstrip("# ")]
            elif re.match(rf"(?:    |\.venv/bin/)*bertlab +{verb}\b", line):
                title = ": ".join(titles)
                found.append((title, path.name + (f"#{anchor(titles[1])}" if len(titles) > 1 else "")))
                break
    return found


def anchor(heading: str) -> str:
    """The name that code hosts, and MyST, give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# --- the whole


def index() -> str:
    """docs/verbs/index.md: all verbs, what holds for each of them, and the exit codes of bertlab/errors.py."""
    assert errors.__doc__ is not None
    codes = [[cell.strip() for cell in line.strip("|").split("|")] for line in errors.__doc__.splitlines() if line.startswith("|")][2:]
    parts = [
        "# The verbs",
        prose("Made from the code, as is `bertlab VERB --help`, by `python recipes/docs/verb_pages.py`."),
        table(("verb", "what it does"), [(f"[`{verb}`]({verb}.md)", line) for verb, line in VERBS.items()]),
        "## How options are written",
        prose(
            "`--name VALUE` or `name=VALUE`; of a section `--section.name VALUE`. A list takes several values: `--source a.txt b.txt`. "
            "What is true or false stands alone: `--baselines`, `--no-baselines`. `null` takes back what a file has set."
        ),
        prose(
            f"`--config FILE`: {FILES[0].lower()}{FILES[1:]} Its keys are the names of the options with `_` for `-`; a key that is not "
            "known is refused. In Python a verb is a function: `from bertlab.verbs import embed; embed.run(embed.Config(...))`."
        ),
        "## Exit codes",
        prose("0 where all went well; else one line on standard error says what, where and what to do. A traceback is a bug of ours."),
        table(("exit code", "what it was", "means"), [(code, kind, means) for kind, code, means in codes]),
    ]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"index.md": index()} | {f"{verb}.md": page(verb) for verb in VERBS}


def main() -> None:
    folder = DOCS / "verbs"
    folder.mkdir(exist_ok=True)
    made = pages()
    for path in folder.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
