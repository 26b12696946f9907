"""README.md and docs/: every block of Python runs as it stands, in a folder with the models that it names, and what docs/predicting.md says
that an answer has is what it has."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import bertlab

ROOT = Path(__file__).parents[2]
CODE = {  # of a page all blocks, each on the lines where it stands: a later one goes on with the names of an earlier
    page.stem: re.sub(
        r"(?s)(?:\A|^```$).*?(?:^```python$|\Z)",
        lambda between: "\n" * between[0].count("\n"),
        page.read_text(encoding="utf-8"),
        flags=re.M,
    )
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
CODE = {page: code for page, code in CODE.items() if code.strip()}
FOLDERS = {"my-bert": "words", "my-classifier": "single", "my-pairs": "pairs", "my-tagger": "tags"}
TEXTS, LABELS = ["the old river", "a stone hill", "the old hill", "birds sing"] * 2, ["rivers", "hills", "hills", "birds"] * 2


@pytest.mark.parametrize("page", CODE)
def test_the_python_of_a_page_runs(page: str, every_model: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in FOLDERS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").symlink_to(every_model[model])
    monkeypatch.chdir(tmp_path)
    named: dict[str, Any] = {"texts": TEXTS, "labels": LABELS, "train_texts": TEXTS, "train_labels": LABELS}
    exec(compile(CODE[page], f"{page}.md", "exec"), named)


def test_blocks_of_python_are_found_on_their_lines() -> None:
    assert {"README", "running", "predicting", "embeddings", "exporting", "finetuning"} <= set(CODE)
    lines = (ROOT / "docs" / "predicting.md").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(CODE["predicting"].splitlines()):
        assert line in ("", lines[number])
    assert CODE["predicting"].count("bertlab.load") == 3


@pytest.mark.parametrize(
    ("row", "model"),
    [("one label", "single"), ("several labels", "several"), ("a number", "number"), ("tags", "tags"), ("answers to questions", "answers")],
)
def test_an_answer_has_what_the_page_says(row: str, model: str, every_model: dict[str, str]) -> None:
    page = (ROOT / "docs" / "predicting.md").read_text(encoding="utf-8").partition("| an answer has")[2]
    (said,) = re.findall(rf"^\| {row} \| (.+) \|$", page, re.MULTILINE)
    second = ["the hill is by the old river"] if model == "answers" else None
    (answer,) = bertlab.load(every_model[model], "cpu").predict(["the old river runs"], second)
    for field in dataclasses.fields(answer):
        assert field.name == "no_known_tokens" or f"`{field.name}`" in said
