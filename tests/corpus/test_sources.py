"""Sources: the same documents from every kind of file, and one clear line for each kind of damage."""

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertlab.corpus.document import Document
from bertlab.corpus.sources import How, documents
from bertlab.errors import ColumnError, ConfigError, DataError

TEXTS = ["Dr. Smith [SEP] slept.", "NA", "null", "", 'a "quoted", text\nin two paragraphs', " é 😀 "]


def read(source: Path | str, tally: Counter[str] | None = None, **options: Any) -> list[Document]:
    tally = Counter() if tally is None else tally
    found = list(documents(str(source), How(**options), tally))
    tally.pop("bytes", 0)
    return found


def texts(source: Path | str, **options: Any) -> list[str]:
    return [document.text for document in read(source, **options)]


def as_table(rows: Sequence[Sequence[str]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue()


def as_jsonl(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---- text files


def test_a_blank_line_ends_a_document_and_each_line_is_a_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\nfirst line\nsecond line [MASK]\n \n\nother document\nits end")
    assert read(path) == [
        Document("a.txt:3", "a.txt", "first line\nsecond line [MASK]"),
        Document("a.txt:7", "a.txt", "other document\nits end"),
    ]


def test_jsonl_that_is_named_as_text_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "stdin").write_text("\ufeff" + as_jsonl([{"text": "row"}]))
    (tmp_path / "set.txt").write_text("{1, 2} is a set\n")
    warnings: list[str] = []
    for name in ("stdin", "set.txt"):
        read(tmp_path / name, warnings=warnings)
    assert warnings == ["stdin begins as JSONL, and is read as text: give it the ending .jsonl (standard input: -.jsonl)"]


def test_a_file_can_be_a_document_whose_blank_lines_separate_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\nfirst line\nof a paragraph\n\n\n next paragraph \r\n")
    assert read(path, document_end="file") == [Document("a.txt", "a.txt", "first line of a paragraph\nnext paragraph")]


def test_each_line_can_be_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\nfirst text. Its end.\r\n\t\n second text\n")
    assert read(path, document_end="line") == [
        Document("a.txt:2", "a.txt", "first text. Its end."),
        Document("a.txt:4", "a.txt", " second text"),
    ]


def test_a_file_without_text_is_a_document_without_text_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\n")
    assert texts(tmp_path / "a.txt", document_end="line") == []
    assert texts(tmp_path / "a.txt", document_end="file") == [""]
    assert texts(tmp_path / "a.txt", document_end="blank_line") == []


def test_a_folder_gives_each_file_its_own_ids_whatever_its_kind(tmp_path: Path) -> None:
    folder = tmp_path / "wiki"
    for name in ("b", "a"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.txt").write_text(f"text of {name}\n")
    (folder / "c.jsonl").write_text(as_jsonl([{"text": "row", "id": 7}]))
    assert read(folder) == [
        Document("wiki/a/x.txt:1", "wiki/a/x.txt", "text of a"),
        Document("wiki/b/x.txt:1", "wiki/b/x.txt", "text of b"),
        Document("7", "wiki/c.jsonl", "row"),
    ]


@pytest.mark.parametrize("policy", ["replace", "drop", "stop"])
def test_invalid_utf8_follows_the_policy_by_documents(tmp_path: Path, policy: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n\nbad \xff\xff\nsame document\nworse \xfe\nits end\n\nlast\n")
    tally: Counter[str] = Counter()
    if policy == "stop":
        with pytest.raises(DataError, match=r"a\.txt:3: not valid UTF-8"):
            read(tmp_path / "a.txt", tally, invalid_utf8=policy)
        return
    found = [document.text for document in read(tmp_path / "a.txt", tally, invalid_utf8=policy)]
    if policy == "replace":
        assert found == ["good", "bad \ufffd\ufffd\nsame document\nworse \ufffd\nits end", "last"]
        assert tally == Counter(invalid_utf8=3, text_files=1, text_documents=3)
    else:
        assert found == ["good", "last"]
        assert tally == Counter(invalid_utf8=2, dropped_invalid_utf8=1, text_files=1, text_documents=3)
        whole_tally: Counter[str] = Counter()
        assert read(tmp_path / "a.txt", whole_tally, invalid_utf8=policy, document_end="file") == []
        assert whole_tally == Counter(invalid_utf8=2, dropped_invalid_utf8=1, text_files=1, text_documents=1)
        line_tally: Counter[str] = Counter()
        assert len(read(tmp_path / "a.txt", line_tally, invalid_utf8=policy, document_end="line")) == 4
        assert line_tally == Counter(invalid_utf8=2, dropped_invalid_utf8=2, text_files=1, text_documents=6)


# ---- tables


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Write `rows` as what the name says, packed as it says."""
    kind, *packed = path.name.split(".")[1:]
    if kind == "parquet":
        stream = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream, row_group_size=2)
        data = stream.getvalue()
    elif kind == "jsonl":
        data = as_jsonl(rows).encode()
    else:
        data = as_table([list(rows[0]), *(list(row.values()) for row in rows)], "\t" if kind == "tsv" else ",").encode()
    pack: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    path.write_bytes(pack[packed[0]](data) if packed else data)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.jsonl.gz", "t.csv.bz2", "t.tsv.xz", "t.parquet.gz"])
def test_every_kind_of_table_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, [{"other": "x", "body": text, "key": f"k{number}"} for number, text in enumerate(TEXTS)])
    found = read(tmp_path / name, text_column="body", id_column="key")
    assert found == [Document(f"k{number}", name, text) for number, text in enumerate(TEXTS)]


def test_an_id_column_that_was_named_is_not_made_up_where_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,text\nk,one\n")
    (tmp_path / "b.txt").write_text("a text file has no columns")
    assert [document.id for document in read(tmp_path, id_column="key")] == ["k", f"{tmp_path.name}/b.txt:1"]
    with pytest.raises(ColumnError, match=r"a\.csv:1: no column 'kye'.*: the columns are 'key', 'text'"):
        read(tmp_path, id_column="kye")


def test_without_an_id_column_the_id_is_the_line_on_which_a_row_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\r\n"two\r\nlines",1\r\n\r\nlast,2\r\n', newline="")
    assert [(document.id, document.text) for document in read(tmp_path / "a.csv")] == [("a.csv:2", "two\nlines"), ("a.csv:5", "last")]
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n{"text": "y", "id": null}\n{"text": "z", "id": 4}\n')
    assert [document.id for document in read(tmp_path / "a.jsonl")] == ["a.jsonl:1", "a.jsonl:3", "4"]
    write_table(tmp_path / "a.parquet", [{"text": text} for text in "abcde"])
    assert [document.id for document in read(tmp_path / "a.parquet")] == [f"a.parquet:{row}" for row in range(1, 6)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5),
    st.sampled_from(["csv", "tsv"]),
)
def test_any_text_survives_a_csv_file(tmp_path: Path, cells: list[str], kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    table = as_table([["id", "text"], *([str(number), cell] for number, cell in enumerate(cells))], "\t" if kind == "tsv" else ",")
    path.write_bytes(table.encode())
    assert texts(path) == [cell.replace("\r\n", "\n") for cell in cells]


def test_a_cell_of_a_megabyte_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(as_table([["text"], ["word " * 200_000]]))
    assert texts(tmp_path / "a.csv") == ["word " * 200_000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,n\na,1\nb,1,2\n", r"a\.csv:3: 3 cells where the header has 2"),
        ("a.csv", 'text,n\n"a\n\nb",1\nc\n', r"a\.csv:5: 1 cells where the header has 2"),
        ("a.csv", "text,text\na,1\n", r"a\.csv:1: column 'text' is in the header more than once"),
        ("a.csv", "body,n\na,1\n", r"a\.csv:1: no column 'text': the columns are 'body', 'n'"),
        ("a.csv", 'text,n\na,1\n"open,2\nc,3\n', r"a\.csv:3: not valid CSV"),
        ("a.tsv", 'text\tn\n"a" b\t1\n', r"a\.tsv:2: not valid TSV"),
        ("a.csv", "", r"a\.csv: no header row"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', r"a\.jsonl:2: a line must be one JSON object, this one is a list"),
        ("a.jsonl", '{"text": "a"}\n{"body": "b", "n": 1}\n', r"a\.jsonl:2: this row has no 'text': put text in, or take the row out"),
        ("a.jsonl", '{"text": "a"}\n{"text": 2}\n', r"a\.jsonl:2: column 'text' holds an int, not text"),
        ("a.jsonl", '{"text": null}\n', r"a\.jsonl:1: column 'text' holds null, not text"),
        ("a.jsonl", '{"text": "a", "id": [1]}\n', r"a\.jsonl:1: the id is a list"),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "\n", r"a\.jsonl:1: JSON that is nested too deep"),
        ("a.jsonl", '{"text": ' + "1" * 10_000 + "}\n", r"a\.jsonl:1: JSON that is nested too deep or holds too long a number"),
        ("a.json", '[\n{"text": "a"}\n]\n', r"a\.json:1: not valid JSON"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_file_and_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_in_json_is_invalid_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud800 b", "other": "\\udfff"}\n{"text": "\\ud83d\\ude00\\u0000", "other": "\\udfff"}\n')
    tally: Counter[str] = Counter()
    assert [document.text for document in read(path, tally)] == ["a \ufffd b", "😀"]
    assert tally == Counter(invalid_utf8=1)
    tally.clear()
    assert [document.text for document in read(path, tally, invalid_utf8="drop")] == ["😀"]
    assert tally == Counter(invalid_utf8=1, dropped_invalid_utf8=1)
    with pytest.raises(DataError, match=r"a\.jsonl:1: column 'text' holds half a character .*: leave the row out"):
        read(path, invalid_utf8="stop")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_row_with_invalid_bytes_is_replaced_or_dropped_alone(tmp_path: Path, name: str) -> None:
    if name == "a.csv":
        (tmp_path / name).write_bytes(b'text\ngood\n"bad\n\xff"\nlast\n')
    elif name == "a.jsonl":
        (tmp_path / name).write_bytes(b'{"text": "good"}\n{"text": "bad\\n\xff"}\n{"text": "last"}\n')
    else:
        column = pyarrow.array([b"good", b"bad\n\xff", b"last"]).view(pyarrow.string())
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / name)
    tally: Counter[str] = Counter()
    assert [document.text for document in read(tmp_path / name, tally)] == ["good", "bad\n\ufffd", "last"]
    assert tally == Counter(invalid_utf8=1)
    tally.clear()
    assert [document.text for document in read(tmp_path / name, tally, invalid_utf8="drop")] == ["good", "last"]
    assert tally == Counter(invalid_utf8=1, dropped_invalid_utf8=1)
    with pytest.raises(DataError, match="not valid UTF-8"):
        read(tmp_path / name, invalid_utf8="stop")


def test_parquet_text_may_be_large_or_in_a_dictionary_but_must_be_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for column in (pyarrow.array(TEXTS, pyarrow.large_string()), pyarrow.array(TEXTS).dictionary_encode()):
        pyarrow.parquet.write_table(pyarrow.table({"text": column, "id": list(range(len(TEXTS)))}), path)
        assert texts(path) == TEXTS
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2]}), path)
    with pytest.raises(DataError, match=r"a\.parquet:1: column 'text' holds an int"):
        read(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), path)
    with pytest.raises(DataError, match=r"a\.parquet:2: column 'text' holds null"):
        read(path)
    with pytest.raises(DataError, match="no column 'body': the columns are 'text'"):
        read(path, text_column="body")


def test_a_damaged_parquet_file_is_one_clear_error(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", [{"text": "word " * 50} for _ in range(50)])
    whole = (tmp_path / "a.parquet").read_bytes()
    for damaged in (whole[:-20], b"", b"not parquet at all", whole[:4] + bytes(200) + whole[204:]):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.parquet: the Parquet file is damaged"):
            read(tmp_path / "a.parquet")


# ---- the `datasets` library


def saved(folder: Path, **splits: list[str]) -> Path:
    """A folder as `datasets.save_to_disk` writes it: one split under the name "only", or a dict of splits."""
    import datasets

    made = {name: datasets.Dataset.from_dict({"text": rows, "n": list(range(len(rows)))}) for name, rows in splits.items()}
    (made["only"] if "only" in made else datasets.DatasetDict(made)).save_to_disk(str(folder))
    return folder


def test_a_saved_dataset_is_read_by_split(tmp_path: Path) -> None:
    both = saved(tmp_path / "both", train=["a", "NA"], test=["b"])
    assert read(both) == [Document("both#train:1", "both#train", "a"), Document("both#train:2", "both#train", "NA")]
    assert [document.id for document in read(f"{both}#test", id_column="n")] == ["0"]
    warnings: list[str] = []
    read(f"{both}#train", warnings=warnings)
    assert warnings == []
    read(both, warnings=warnings)
    assert warnings == [f"of {both} the split 'train' is read alone: {both}#test would be sources of their own"]
    with pytest.raises(ConfigError, match=r"no split 'dev': choose one of train, test, as .*both#train"):
        read(f"{both}#dev")
    with pytest.raises(DataError, match="no column 'body': the columns are 'text', 'n'"):
        read(both, text_column="body")


def test_a_saved_dataset_without_train_or_without_splits_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no split 'train': choose one of dev, test"):
        read(saved(tmp_path / "two", dev=["a"], test=["b"]))
    only = saved(tmp_path / "one", only=["x", "y"])
    assert [document.id for document in read(only)] == ["one:1", "one:2"]
    with pytest.raises(ConfigError, match="has no splits"):
        read(f"{only}#train")
    (only / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be opened"):
        read(only)


def test_a_source_that_is_nowhere_is_told_of_both_ways(tmp_path: Path) -> None:
    for source in ("wikitext", str(tmp_path / "missing.txt"), f"{tmp_path}#train"):
        with pytest.raises(ConfigError, match="does not exist: give a file, a folder, or a dataset's name as hf:"):
            read(source)


def test_a_remote_name_is_asked_for_by_name_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        asked.append((name, config, split, streaming))
        return datasets.Dataset.from_dict({"text": ["a"], "n": [1]}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("hf:wikimedia/wikipedia:20231101.en#validation")[0].id == "hf:wikimedia/wikipedia:20231101.en#validation:1"
    assert texts("hf:wikitext") == ["a"]
    assert asked == [("wikimedia/wikipedia", "20231101.en", "validation", True), ("wikitext", None, "train", True)]
    with pytest.raises(DataError, match="hf:wikitext: no column 'body'"):
        read("hf:wikitext", text_column="body")


@pytest.mark.parametrize(
    "error", [ConnectionError("Couldn't reach it\non the Hub"), ValueError("Unknown split"), FileNotFoundError("no such name")]
)
def test_a_remote_source_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import datasets

    def load_dataset(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigError, match="hf:nobody/nothing cannot be read") as caught:
        read("hf:nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_dataset_of_the_hub_is_none_on_this_disk_and_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    with pytest.raises(ConfigError, match="hf:corpus#train: corpus is here, on this disk: leave hf: out"):
        read("hf:corpus#train")
    for source in ("hf:", "hf://x", "hf:a/b/c", "hf:https://huggingface.co/x"):
        with pytest.raises(ConfigError, match=r"is no name on the hub: write hf:NAME\[:CONFIG\]\[#SPLIT\]$"):
            read(source)


def test_reading_files_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    program = (
        "import sys, collections; import bertlab.corpus.files, bertlab.corpus.sources, bertlab.corpus.sentences, bertlab.corpus.labelled\n"
        f"list(bertlab.corpus.sources.documents({str(tmp_path / 'a.txt')!r}, bertlab.corpus.sources.How(), collections.Counter()))\n"
        "sys.exit(str({'torch', 'datasets', 'transformers', 'pyarrow', 'sentencex'} & set(sys.modules) or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_that_unpacks_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    ending = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    monkeypatch.setattr("bertlab.corpus.files.LARGEST_LINE", 1 << 20)
    monkeypatch.setattr("bertlab.corpus.sources.LARGEST_DOCUMENT", 1 << 21)
    line, text = tmp_path / f"line.txt.{ending}", tmp_path / f"text.txt.{ending}"
    line.write_bytes(pack(b"good\n\n" + b"a" * (1 << 23)))
    text.write_bytes(pack(b"words of a text\n" * (1 << 18)))
    assert max(path.stat().st_size for path in (line, text)) < 50_000
    with pytest.raises(DataError, match=rf"line\.txt\.{ending}:3: a line of over 1 MB"):
        read(line)
    for document_end in ("blank_line", "file"):
        with pytest.raises(DataError, match=rf"text\.txt\.{ending}:\d+: a document of over 2 million characters"):
            read(text, document_end=document_end)
