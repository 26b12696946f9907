"""Where a fine-tuned model looks for labels in a file."""

from pathlib import Path
from typing import Any

import pytest

from bertlab.errors import ColumnError, ConfigError
from bertlab.tasks import reading
from bertlab.tasks.reading import Columns, columns_for


def test_a_model_of_columns_of_marks_looks_for_them_unless_somebody_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text("text,x,y,topic\na,1,0,b\n")
    (tmp_path / "fewer.csv").write_text("text,x\na,1\n")
    (tmp_path / "one.csv").write_text("text,label\na,x\n")
    monkeypatch.setattr(reading, "form_of_model", lambda folder: "texts")
    nobody = Columns(None, None, None, None)

    def found(file: str, remembered: dict[str, Any], asked: Columns = nobody, **how: Any) -> Columns:
        monkeypatch.setattr(reading, "load_facts", lambda folder: {"columns": remembered})
        return columns_for("model", str(tmp_path / file), asked, **how)

    assert found("t.csv", {"label_columns": ["x", "y"]}).label_columns == ("x", "y")
    assert found("t.csv", {"label_columns": ["x", "y"]}, needs_gold=False).label_columns == ()
    assert found("one.csv", {"label_columns": ["x", "y"]}).label_columns == ()
    with pytest.raises(ColumnError, match="no column 'y'"):
        found("fewer.csv", {"label_columns": ["x", "y"]})
    asked = Columns(None, None, None, None, label_columns=("x", "y"))
    for remembered in ({"label_separator": "|"}, {"label": "nothing"}, {"label_columns": ["z"]}):
        assert found("t.csv", remembered, asked) == asked
    assert found("t.csv", {"label_columns": ["x", "y"]}, Columns(None, None, "topic", None)).label == "topic"
    for names in (("x", "x"), ("text",)):
        with pytest.raises(ConfigError, match="is named twice, or is that of the text"):
            Columns(None, None, None, None, label_columns=names)
