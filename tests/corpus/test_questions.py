"""bertlab/corpus/questions.py: flat rows and SQuAD's own form give the same, and what cannot be used is one clear line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.questions import Questions, read_questions
from bertlab.errors import ConfigError, DataError

RIVER = "The Thames is 346 km long. It runs through Oxford and London."
ROWS: list[dict[str, Any]] = [
    {"id": "q1", "question": "How long is it?", "context": RIVER, "answers": [{"text": "346 km", "start": 14}]},
    {
        "id": "q2",
        "question": "Where?",
        "context": RIVER,
        "answers": [{"text": "Oxford", "start": 43}, {"text": "Oxford and London", "start": 43}],
    },
    {"id": "q3", "question": "Who owns it?", "context": RIVER, "answers": []},
    {"id": "q4", "question": "Über was?", "context": "Ümlaute \U0001f600 und Zürich.", "answers": [{"text": "Zürich", "start": 14}]},
]
ANSWERS = [[("346 km", 14)], [("Oxford", 43), ("Oxford and London", 43)], [], [("Zürich", 14)]]


def squad(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as SQuAD has them: questions below the context that they share."""
    paragraphs: dict[str, list[Any]] = {}
    for row in rows:
        answers = [{"text": each["text"], "answer_start": each["start"]} for each in row["answers"]]
        paragraphs.setdefault(row["context"], []).append(
            {"id": row["id"], "question": row["question"], "answers": answers, "is_impossible": not answers, "plausible_answers": [{}]}
        )
    articles = [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]} for context, qas in paragraphs.items()]
    return {"version": "v2.0", "data": articles}


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_questions(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_form_of_the_same_questions_is_read_alike(tmp_path: Path) -> None:
    as_datasets = [
        {**row, "answers": {"text": [a["text"] for a in row["answers"]], "answer_start": [a["start"] for a in row["answers"]]}}
        for row in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(as_datasets), tmp_path / "b.parquet")
    (tmp_path / "one-line.json").write_text(json.dumps(squad(ROWS)))
    with gzip.open(tmp_path / "indented.json.gz", "wt") as stream:
        json.dump(squad(ROWS), stream, indent=2)
    forms = [written(tmp_path / "a.jsonl", ROWS), written(tmp_path / "rows.json", ROWS), written(tmp_path / "b.jsonl", as_datasets)]
    forms += [tmp_path / name for name in ("a.parquet", "b.parquet", "one-line.json", "indented.json.gz")]
    for path in forms:
        read = read_questions(path)
        assert read.ids == ["q1", "q2", "q3", "q4"] and read.questions == [row["question"] for row in ROWS]
        assert read.contexts == [row["context"] for row in ROWS] and read.answers == ANSWERS, path
        assert read.texts() == [["346 km"], ["Oxford", "Oxford and London"], [], ["Zürich"]]
        assert read.subset([3, 0]).answers == [ANSWERS[3], ANSWERS[0]] and len(read.subset([3, 0])) == 2


def test_without_a_start_the_text_must_stand_there_once(tmp_path: Path) -> None:
    rows = [{"question": "?", "context": "a river, a bridge", "answers": [{"text": text}]} for text in ("bridge", "a ")]
    assert read_questions(written(tmp_path / "t.jsonl", rows[:1])).answers == [[("bridge", 11)]]
    assert ":2: the answer 'a ' stands in the context 2 times: give its start" in refusal(written(tmp_path / "t.jsonl", rows))


def test_without_answers_questions_are_read_alone(tmp_path: Path) -> None:
    bare = [{"question": row["question"], "context": row["context"]} for row in ROWS]
    path = written(tmp_path / "t.jsonl", bare)
    assert "no column 'answers'" in refusal(path)
    read = read_questions(path, answers=None)
    assert read.answers is None and read.ids == [f"t.jsonl:{number}" for number in range(1, 5)]
    with pytest.raises(DataError, match="no answers"):
        read.texts()
    assert read_questions(written(path, [*ROWS, bare[0] | {"answers": 1}]), answers=None).answers is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"answers": [{"text": "346 km", "start": 13}]},
            ":1: the answer '346 km' does not stand at character 13 of the context, ' 346 k' does",
        ),
        ({"answers": [{"text": "346 km", "start": -3}]}, "does not stand at character -3"),
        ({"answers": [{"text": "London", "start": -7}]}, "does not stand at character -7"),  # though a slice from the end is it
        ({"answers": [{"text": "346 km", "start": "14"}]}, "the start of an answer is a str"),
        ({"answers": [{"text": "346 km", "start": True}]}, "the start of an answer is a bool"),
        ({"answers": [{"text": " ", "start": 3}]}, "an answer without text"),
        ({"answers": ["346 km"]}, "an answer without text"),
        ({"answers": "346 km"}, "answers are a str"),
        ({"answers": None}, "column 'answers' is null"),
        ({"answers": {"text": ["346 km"], "answer_start": []}}, "without two equal lists"),
        ({"answers": {"text": "346 km"}}, "without two equal lists"),
        ({"answers": [{"text": "\ud800", "start": 0}]}, "column 'answers' holds half a character"),
        ({"context": None}, "column 'context' holds null"),
        ({"question": 3}, "column 'question' holds an int"),
    ],
)
def test_a_bad_row_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in refusal(written(tmp_path / "t.jsonl", [ROWS[0] | changes]))


def test_a_bad_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "t.jsonl").write_text("\n")
    assert "no rows" in refusal(tmp_path / "t.jsonl")
    (tmp_path / "t.csv").write_text("question,context,answers\na,b,c\n")
    assert "answers need JSONL, Parquet or SQuAD JSON" in refusal(tmp_path / "t.csv")
    for data in ([3], [{"title": "t"}], [{"paragraphs": [{"context": "c"}]}]):
        (tmp_path / "t.json").write_text(json.dumps({"data": data}))
        assert "not SQuAD's form" in refusal(tmp_path / "t.json")
    for row, says in (
        ({"question": "?"}, "without 'answers'"),
        (3, "a question must be a JSON object"),
        ({"answers": []}, "no column 'question'"),
    ):
        (tmp_path / "t.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [row]}]}]}))
        assert f"{tmp_path / 't.json'}:1: " in refusal(tmp_path / "t.json") and says in refusal(tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"data": [' + "[" * 100_000)
    assert "JSON" in refusal(tmp_path / "t.json")


def test_hashes_are_of_question_and_context_and_of_the_context_alone() -> None:
    read = Questions(["a", "b", "c"], ["Who?", "who?", "Where?"], ["A text.", "a  text.", "A text."], None, "here")
    first, second, third = read.text_hashes()
    assert first == second != third and len(set(read.context_hashes())) == 1
