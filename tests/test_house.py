"""The house stands: imports point downward, every configuration loads, every documented command parses, the README's tree is true."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bertlab.cli import VERBS, module_of, parse
from bertlab.config import load

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "bertlab").rglob("*.py"))

# lowest first; a room may import what is below it, and files of its own room
FLOORS = [
    {"errors", "signals"},
    {"disk", "hub", "progress", "schema"},
    {"config", "corpus", "sample"},
    {"evaluation", "tokens"},
    {"batches", "model"},
    {"training"},
    {"embedding", "tasks"},
    {"inference"},
    {"cloze", "exploring", "exporting", "labelling"},
    {"pages"},
    {"verbs"},
    {"quickstart", "bench", "cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TRAINING_NEEDS = {"torch", "numpy", "pyarrow", "accelerate", "transformers", "tokenizers", "safetensors", "yaml", "rich"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "bertlab").parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, also inside functions and for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "bertlab" and len(parts) > 1 and parts[1] in FLOOR:
            assert FLOOR[parts[1]] < FLOOR[room] or parts[1] == room, f"{path} imports {name} from above or beside"
            assert room != "verbs" or parts[1] != "verbs", f"{path}: a verb imports a verb"


def test_every_room_has_a_floor():
    assert {room_of(path) for path in PACKAGE} == set(FLOOR) | {"__init__"}


@pytest.mark.parametrize("room", ["batches", "model", "training"])
def test_what_trains_needs_no_corpus_library(room):
    for path in (ROOT / "bertlab" / room).glob("*.py"):
        third_party = {name.split(".")[0] for name in imports_of(path)} & {"datasets", "sentencex", "sklearn", "pandas", "cyclopts"}
        assert not third_party, f"{path} imports {third_party}"


def test_batches_know_no_model_and_the_model_knows_no_data():
    for path in (ROOT / "bertlab" / "batches").glob("*.py"):
        assert not any(name.startswith("bertlab.model") for name in imports_of(path))
    for path in (ROOT / "bertlab" / "model").glob("*.py"):
        assert not any(name.startswith(("bertlab.batches", "bertlab.corpus")) for name in imports_of(path))


def config_of(verb: str) -> type:
    found: type = module_of(verb).Config
    return found


REQUIRED: dict[str, dict[str, Any]] = {
    "prepare": {"source": ("a",), "out": "b"},
    "pretrain": {"corpus": "a", "out": "b"},
    "finetune": {"model": "a", "train": "b", "out": "c"},
    "contrast": {"model": "a", "corpus": "b", "out": "c"},
    "prompt": {"model": "a", "data": "b", "out": "c"},
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_configuration_loads_is_short_and_says_how_to_run_it(path):
    verb = path.parent.name
    load(config_of(verb), [str(path)], REQUIRED[verb])
    lines = path.read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) <= 25
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert "Command:" in header and "Hardware:" in header and "Result:" in header
    assert f"bertlab {verb} --config configs/{verb}/{path.name}" in header


def documented_commands() -> list[tuple[str, str]]:
    """(file, command) of every line that begins with `bertlab VERB` in the README, the docs, the recipes and the configurations."""
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").glob("*.sh"), *(ROOT / "configs").rglob("*.yaml")]
    pattern = re.compile(rf"^(?:# Command:)?\s*(?:\.venv/bin/)?bertlab +((?:{'|'.join(VERBS)})\b.*)$", re.MULTILINE)
    return [(str(file.relative_to(ROOT)), match[1]) for file in files for match in pattern.finditer(file.read_text())]


def test_commands_are_documented_at_all():
    assert len(documented_commands()) > 12
    assert {command.split()[0] for _, command in documented_commands()} == set(VERBS)


@pytest.mark.parametrize("file, command", documented_commands())
def test_every_documented_command_parses(file, command):
    command = re.sub(r"\[|\]|\.\.\.|\s#.*$", " ", command).replace(" N", " 2")
    verb, *arguments = shlex.split(command)
    files, given = parse(verb, config_of(verb), arguments)
    load(config_of(verb), [str(ROOT / file) for file in files], given)


def test_commands_that_are_printed_can_be_pasted_whatever_a_path_is_called():
    printed = re.compile(rf"bertlab (?:{'|'.join(VERBS)})\b[^\"]*? --[a-z-]+ \{{(?!shlex\.|record\[|done\b|model\}})")
    unquoted = [f"{path.name}: {line.strip()}" for path in PACKAGE for line in path.read_text("utf-8").splitlines() if printed.search(line)]
    assert not unquoted, "a path with a blank falls apart in a shell: shlex.quote(...)"


def test_the_trees_name_every_file():
    readme, tree = (ROOT / "README.md").read_text(), (ROOT / "docs" / "tree.md").read_text()
    for path in PACKAGE:
        if path.name != "__init__.py":
            assert path.name in readme.split(), f"{path.relative_to(ROOT)} is not in the README's tree"
            assert path.name in tree.split(), f"{path.relative_to(ROOT)} is not in docs/tree.md, which says what it does"


def test_the_readme_gives_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e . && .venv/bin/bertlab quickstart" in readme
    tests = ".venv/bin/pip install --use-pep517 -c constraints.txt -e '.[test]' && .venv/bin/python -m pytest"
    assert f"python3 -m venv .venv && {tests}" in readme


def test_files_stay_readable():
    for path in PACKAGE:
        assert len(path.read_text().splitlines()) <= 450, f"{path}: would two rooms be clearer than one?"


def test_no_file_holds_the_marks_of_an_unfinished_merge():
    """In a docstring they break nothing."""
    for path in (
        *PACKAGE,
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "recipes").rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
    ):
        assert not re.search(r"^(<{7}|>{7}) ", path.read_text(), re.MULTILINE), path


def test_every_test_that_the_docs_name_is_there():
    named = [match for page in (ROOT / "docs").glob("*.md") for match in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())]
    assert len(named) > 10
    for file, test in named:
        assert (ROOT / file).is_file() and (not test or f"def {test}(" in (ROOT / file).read_text()), f"{file}::{test}"
