"""bertlab/corpus/labelled_tokens.py: rows and column files, splits by hash, one clear line for what cannot be used."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.labelled_tokens import LabelledTokens, entity_types, read_labelled_tokens, tag_ids, tag_names
from bertlab.errors import ConfigError, DataError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "tokens": ["Anna", "Berg", "lives", "in", "Oslo"], "tags": ["B-per", "I-per", "O", "O", "B-loc"]},
    {"id": 7, "tokens": ["Rain", "."], "tags": ["O", "O"]},
    {"tokens": ["Oslo"], "tags": ["B-loc"]},
]
COLUMNS = """-DOCSTART- -X- -X- O

Anna NNP I-NP B-per
Berg NNP I-NP I-per
lives VBZ O O
in IN O O
Oslo NNP I-NP B-loc

# a comment
Rain NN O O
. . O O


# 12 NN O
# CD O O
Oslo NNP I-NP B-loc
"""


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_labelled_tokens(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_of_jsonl_and_parquet_are_read_in_order(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**row, "id": str(row.get("id", ""))} for row in ROWS]), tmp_path / "t.parquet")
    for path in (written(tmp_path / "t.jsonl", ROWS), tmp_path / "t.parquet"):
        read = read_labelled_tokens(path)
        assert read.tokens == [row["tokens"] for row in ROWS] and read.tags == [row["tags"] for row in ROWS]
        assert read.ids == ["a", "7", f"{path.name}:3"] and read.scheme == "IOB2" and read.misfits == 0 and len(read) == 3
        assert read.subset([2, 0]).tokens == [["Oslo"], ROWS[0]["tokens"]] and read.subset([2, 0]).tags == [["B-loc"], ROWS[0]["tags"]]


@pytest.mark.parametrize("divider", [" ", "\t", "  "])
def test_a_column_file_has_the_word_first_and_the_tag_last(tmp_path: Path, divider: str) -> None:
    lines = [line if line.startswith("# a ") else line.replace(" ", divider) for line in COLUMNS.splitlines()]
    with gzip.open(tmp_path / "t.conll.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
    read = read_labelled_tokens(tmp_path / "t.conll.gz")
    # "# 12 NN O" has as many columns as the words have: it is one
    assert read.tokens == [*[row["tokens"] for row in ROWS[:2]], ["#", "#", "Oslo"]]
    assert read.tags == [*[row["tags"] for row in ROWS[:2]], ["O", "O", "B-loc"]]
    assert read.ids == ["t.conll.gz:3", "t.conll.gz:10", "t.conll.gz:14"]


def test_a_no_break_space_is_a_word_and_not_white_space_between_columns(tmp_path: Path) -> None:
    (tmp_path / "t.conll").write_text("a\u00a0b B-x\n\u00a0 O\n", encoding="utf-8")
    assert read_labelled_tokens(tmp_path / "t.conll").tokens == [["a\u00a0b", "\u00a0"]]


def test_tags_come_out_as_iob2_whatever_they_went_in_as(tmp_path: Path) -> None:
    read = read_labelled_tokens(written(tmp_path / "t.jsonl", [{"tokens": ["a", "b", "c"], "tags": ["I-x", "I-x", "I-y"]}]))
    assert read.tags == [["B-x", "I-x", "B-y"]] and read.scheme == "IO"


def test_without_tags_words_are_read_alone(tmp_path: Path) -> None:
    bare = [{"tokens": row["tokens"]} for row in ROWS]
    assert "no column 'tags'" in refusal(written(tmp_path / "t.jsonl", bare))
    for rows in (bare, [*ROWS[:2], bare[2]], [{"tokens": row["tokens"], "tags": 1} for row in ROWS]):
        read = read_labelled_tokens(written(tmp_path / "t.jsonl", rows), tags=None)
        assert read.tags is None and read.tokens == [row["tokens"] for row in ROWS]
        with pytest.raises(DataError, match="no tags"):
            tag_ids(read, ["O"])
    (tmp_path / "words.conll").write_text("one\ntwo\n\nthree\n", encoding="utf-8")
    assert read_labelled_tokens(tmp_path / "words.conll", tags=None).tokens == [["one", "two"], ["three"]]
    assert "one column" in refusal(tmp_path / "words.conll")


def test_without_tags_the_words_of_a_sentence_may_be_one_text(tmp_path: Path) -> None:
    expected = [["Ada", "lived", "there."], [], ["Ada"]]
    (tmp_path / "t.csv").write_text("id,said\n7,Ada  lived there.\n8,\n9,Ada\n", encoding="utf-8")
    read = read_labelled_tokens(tmp_path / "t.csv", tokens="said", tags=None)
    assert (read.ids, read.tokens) == (["7", "8", "9"], expected)
    (tmp_path / "t.txt").write_text("Ada lived there.\n\nAda\n", encoding="utf-8")
    read = read_labelled_tokens(tmp_path / "t.txt", tags=None)
    assert (read.ids, read.tokens) == (["t.txt:1", "t.txt:2", "t.txt:3"], expected)
    assert "holds a str, not a list of words" in refusal(written(tmp_path / "t.jsonl", [{"tokens": "Ada lived", "tags": ["O", "O"]}]))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, ":1: 2 tokens and 1 tags"),
        ({"tokens": "a b", "tags": ["O"]}, ":1: column 'tokens' holds a str"),
        ({"tokens": None, "tags": ["O"]}, ":1: column 'tokens' holds null"),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, ":1: column 'tokens' has null"),
        ({"tokens": ["a"], "tags": [3]}, ":1: column 'tags' has an int"),
        ({"words": ["a"], "tags": ["O"]}, ":1: no column 'tokens': the columns are 'words', 'tags'"),
        ({"tokens": ["a"], "tags": ["O"], "id": ["x"]}, ":1: the id is a list"),
        ({"tokens": ["a\ud800"], "tags": ["O"]}, ":1: column 'tokens' holds half a character"),
        ({"tokens": ["a", "b"], "tags": ["B-x", "per"]}, "tag 'per' is of no scheme"),
    ],
)
def test_a_bad_row_is_one_clear_line(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    assert says in refusal(written(tmp_path / "t.jsonl", [row]))


def test_a_bad_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_labelled_tokens(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="is a folder"):
        read_labelled_tokens(tmp_path)
    for name in ("t.jsonl", "t.conll"):
        (tmp_path / name).write_text("\n\n")
        assert "no rows" in refusal(tmp_path / name)
    (tmp_path / "t.csv").write_text("tokens,tags\na b,O O\n")
    assert "holds no list of words" in refusal(tmp_path / "t.csv")
    (tmp_path / "t.conll").write_text("a O\nb X O\n")
    assert ":2: 3 columns where the first line has 2" in refusal(tmp_path / "t.conll")


def test_types_are_those_of_train_and_others_are_refused(tmp_path: Path) -> None:
    train = read_labelled_tokens(written(tmp_path / "train.jsonl", ROWS))
    names = tag_names(entity_types(train))
    assert names == ["O", "B-loc", "I-loc", "B-per", "I-per"]  # I-loc though no place here has two words
    assert tag_ids(train, names) == [[3, 4, 0, 0, 1], [0, 0], [1]]
    test = read_labelled_tokens(written(tmp_path / "test.jsonl", [{"tokens": ["x", "y"], "tags": ["B-org", "I-loc"]}]))
    with pytest.raises(DataError, match="type 'org', which train does not have: 'loc', 'per'"):
        tag_ids(test, names)
    with pytest.raises(DataError, match="every tag is 'O'"):
        entity_types(read_labelled_tokens(written(tmp_path / "none.jsonl", ROWS[1:2])))


def test_equal_sentences_have_equal_hashes_whatever_their_tags() -> None:
    read = LabelledTokens(["a", "b", "c"], [["New", "York"], ["new", "york"], ["New", "Yorks"]], None, None, 0, "here")
    first, second, third = read.text_hashes()
    assert first == second != third
