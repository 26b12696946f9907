"""Every bug that tests/mutants.py sows still has its place in the source, leaves valid code behind, and names tests that there are."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["mutants"] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


mutants = loaded()


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_can_still_be_sown_and_its_tests_are_there(mutant: Any) -> None:
    path = mutants.place(mutant)
    source = path.read_text()
    changed = source.replace(mutant.old, mutant.new)
    assert changed != source
    ast.parse(changed)
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file() and f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).is_file(), test


def test_there_are_more_than_two_dozen_with_names_of_their_own() -> None:
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(names) == len(set(names)) > 24


def test_a_place_that_is_gone_or_doubled_is_said(tmp_path: Path) -> None:
    (tmp_path / "bertlab").mkdir()
    (tmp_path / "bertlab" / "a.py").write_text("x = 1\nx = 1\n")
    for old in ("x = 1", "y = 2"):
        with pytest.raises(AssertionError, match="say the bug anew"):
            mutants.place(mutants.Mutant("m", "a.py", old, "z", ()), tmp_path)
