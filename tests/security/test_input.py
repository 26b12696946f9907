"""Texts, tables and settings made to fill memory or time (S8, S9, S15): each ends in one line, soon and in little memory.

What tests/corpus shows already is not repeated: lines and documents without end (test_sources), truncated archives and office files
(test_files), EPUB bombs and paths (test_epub), hostile mark-up (test_wikitext, test_wikipedia), configurations (tests/test_config).
"""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.config import read_plain
from bertlab.corpus import files
from bertlab.corpus.labelled import Labelled, read_labelled
from bertlab.corpus.labels import label_names
from bertlab.corpus.sources import How, documents
from bertlab.corpus.tables import rows
from bertlab.errors import BertlabError, ConfigError, DataError

MOST = 50 << 20
Memory = Callable[[Callable[[], object]], int]


def read(path: Path) -> list[tuple[int, dict[str, Any] | None]]:
    return list(rows(path, columns=("text",), required={"text": "text"}, invalid_utf8="replace", tally=Counter()))


def refused(call: Callable[[], object], memory: Memory, words: str, seconds: float = 20.0) -> None:
    def once() -> None:
        with pytest.raises(BertlabError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message and words in message and len(message) < 1000, message[:1000]

    began = time.process_time()
    assert memory(once) < MOST
    assert time.process_time() - began < seconds


# --- S9: archives -------------------------------------------------------------------------------------------------------------------------


def packed(pack: str, data: bytes) -> bytes:
    if pack == "zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return bytes(sink.getvalue())
    return gzip.compress(data) if pack == "gz" else bz2.compress(data) if pack == "bz2" else lzma.compress(data)


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zst"])
def test_an_archive_that_unpacks_to_hundreds_of_times_its_size_is_stopped(
    pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_memory: Memory
) -> None:
    monkeypatch.setattr(files, "FREE_BYTES", 1 << 21)  # 64 MB in earnest, as in the next test
    path = tmp_path / f"bomb.txt.{pack}"
    path.write_bytes(packed(pack, b"a line of words that comes again\n" * 31_775) * 8)  # eight streams of a megabyte
    assert path.stat().st_size < 40_000
    words = f"bomb.txt.{pack}: it unpacks to over 200 times its size"
    refused(lambda: sum(1 for _ in files.lines(path, "replace", Counter())), most_memory, words)


def test_the_bomb_of_194_kilobytes_that_becomes_200_megabytes_is_stopped_in_earnest(tmp_path: Path, most_memory: Memory) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"text\n") + gzip.compress(b"a" * (1 << 20)) * 200)
    assert path.stat().st_size < 220_000
    given = 0

    def swallow() -> None:
        nonlocal given
        with files.open_bytes(path) as stream:
            while chunk := stream.read(1 << 20):
                given += len(chunk)

    refused(swallow, most_memory, "bomb.csv.gz: it unpacks to over 200 times its size, 64 MB so far")
    assert given <= 66 << 20
    refused(lambda: read(path), most_memory, "bomb.csv.gz: it unpacks to over 200 times its size")


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zst"])
def test_text_that_packs_well_is_read_to_its_end(pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE_BYTES", 1 << 12)  # what is free, or the rule would not be asked
    lines = [f"line {number} of a log: all is well, all is well, all is well, all is well" for number in range(5_000)]
    path = tmp_path / f"log.txt.{pack}"
    path.write_bytes(packed(pack, "\n".join(lines).encode()))
    assert [line for _, line in files.lines(path, "stop", Counter())] == lines


def test_a_parquet_file_of_one_value_a_million_times_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_memory: Memory
) -> None:
    monkeypatch.setattr(files, "FREE_BYTES", 1 << 22)
    value = "a text of a hundred letters" * 4
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 2**17, pa.int32()), [value])})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd", row_group_size=2**17)
    assert (tmp_path / "bomb.parquet").stat().st_size < 20_000
    table = rows(tmp_path / "bomb.parquet", columns=("text",), required={"text": "text"}, invalid_utf8="stop", tally=Counter())
    refused(lambda: sum(1 for _ in table), most_memory, "bomb.parquet: it unpacks to over 200 times its size", seconds=60)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 6 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip", "a.7z", "a.rar", "a.txt", "a.txt.gz", "a.jsonl", "a.csv.gz", "a.parquet", "a.epub"]
)
def test_no_member_of_an_archive_is_ever_made_a_file(name: str, tmp_path: Path) -> None:
    """Tar and zip archives with every trick of names and links, under their own name and under others."""
    packed, outside = io.BytesIO(), tmp_path / "deep"
    (outside / "in").mkdir(parents=True)
    tricks = ["../../evil", str(tmp_path / "evil"), "..\\evil", "a/../../evil", "evil\n"]
    if name.endswith((".zip", ".epub")):
        with zipfile.ZipFile(packed, "w") as archive:
            for trick in tricks:
                archive.writestr(trick, "evil\n\n")
    else:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for trick in tricks:
                tar.addfile(member(trick), io.BytesIO(b"evil\n\n"))
            tar.addfile(member("evil", tarfile.SYMTYPE, "/etc"))
            tar.addfile(member("evil/passwd"), io.BytesIO(b"evil\n\n"))
            tar.addfile(member("hard", tarfile.LNKTYPE, "../../evil"))
            tar.addfile(member("device", tarfile.CHRTYPE))
            tar.addfile(member("fifo", tarfile.FIFOTYPE))
    path = outside / "in" / name
    path.write_bytes(gzip.compress(packed.getvalue()) if name.endswith((".gz", ".tgz")) else packed.getvalue())
    before = sorted(os.walk(tmp_path))
    for call in (lambda: list(documents(str(path), How(), Counter())), lambda: read_labelled(path, needs_label=False)):
        try:
            call()
        except BertlabError as error:
            assert "\n" not in str(error).replace(str(path), "")
        else:
            assert name in ("a.txt", "a.txt.gz"), "headers of an archive were read as if they were rows"
    assert sorted(os.walk(tmp_path)) == before


# --- S15: tables and JSON -----------------------------------------------------------------------------------------------------------------


def test_a_table_of_ten_thousand_columns_is_refused_and_one_of_a_thousand_read(tmp_path: Path, most_memory: Memory) -> None:
    def table(columns: int) -> Path:
        path = tmp_path / f"{columns}.csv"
        names = ["text", *(f"c{number}" for number in range(columns - 1))]
        path.write_text(",".join(names) + "\n" + (",".join(["x"] * columns) + "\n") * 3)
        return path

    refused(lambda: read(table(10_000)), most_memory, "10000.csv:1: 10,000 columns")
    assert [row["text"] for _, row in read(table(1000)) if row] == ["x"] * 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", "n": ' + "9" * (20 << 20) + "}", "a.jsonl:1: JSON that is nested too deep or holds too long a number"),
        ('{"text": ' + "[" * 10**6, "a.jsonl:1: "),
        ('{"a":' * 10**5, "a.jsonl:1: "),
        ('{"text": ' + "[" * 10**5 + "]" * 10**5 + "}", "a.jsonl:1: JSON that is nested too deep"),
        ('{"text": 1e' + "9" * 10**6 + "}", "a.jsonl:1: column 'text' holds a float, not text"),
    ],
)
def test_json_made_to_hurt_is_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    began = time.process_time()
    with pytest.raises(DataError) as caught:
        read_labelled(tmp_path / "a.jsonl", needs_label=False)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert time.process_time() - began < 20


def test_a_line_of_a_gigabyte_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_memory: Memory) -> None:
    monkeypatch.setattr(files, "LARGEST_LINE", 1 << 20)  # 256 MB in earnest
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"text": "a", "n": 1')
        stream.truncate(1 << 30)  # zeros to a gigabyte, which cost no disk
    refused(lambda: read(path), most_memory, "a.jsonl:1: a line of over 1 MB")


def test_a_million_labels_are_no_classes(most_memory: Memory) -> None:
    texts = ["x"] * 70_000
    labelled = Labelled(texts, texts, None, [str(number) for number in range(70_000)], "rows.csv")
    refused(lambda: label_names(labelled), most_memory, "rows.csv: 70,000 different labels in 70,000 rows")
    some = Labelled(texts, texts, None, [str(number % 60_000) for number in range(70_000)], "rows.csv")
    assert len(label_names(some)) == 60_000


# --- S8: the settings that a stranger's run folder brings ---------------------------------------------------------------------------------

ALIASES = (
    "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)) + "corpus: *a8\n"
)


@pytest.mark.parametrize(
    "text",
    [
        ALIASES,  # 256 bytes of it are 58 MB as JSON
        "a: !!python/object/apply:os.mkdir [nest]\n",
        "a: !!python/name:os.system\n",
        "!!python/object:os.X {}\n",
        "a: !!binary aGk=\n",
        "a: &x 1\n",
        "steps: 1\nsteps: 2\n",
        "a:\n  b: 1\n  b: 2\n",
        "? [a, b]\n: 1\n",
        "a: {[b]: 1}\n",
        "a: 2024-99-99\n",
        "[" * 5000,
        "a: " * 5000,
        "#" * 1_000_001,
        "- 1\n",
        "\x00",
        "a: 1\n--- \nb: 2\n",
    ],
)
def test_settings_that_are_more_than_plain_data_are_refused(
    text: str, tmp_path: Path, most_memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    refused(lambda: read_plain(str(path)), most_memory, "config.yaml")
    assert not (tmp_path / "nest").exists()


def test_plain_settings_have_yamls_own_types(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 12\nrate: 1.0e-4\nname: 'no'\nwords: no\nnothing: null\nparts: {a: [1, b]}\n")
    assert read_plain(str(path)) == {"steps": 12, "rate": 1e-4, "name": "no", "words": False, "nothing": None, "parts": {"a": [1, "b"]}}
    path.write_text("# nothing\n")
    assert read_plain(str(path)) == {}
    with pytest.raises(ConfigError, match="does not exist"):
        read_plain(str(tmp_path / "absent.yaml"))
    assert json
