"""Files: which are found, how they are opened, and what becomes of bytes that are no text."""

import bz2
import gzip
import lzma
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from bertlab.corpus.files import COMPRESSIONS, InvalidUtf8, find_files, kind_of, lines, open_bytes
from bertlab.errors import ConfigError, DataError

CONTENT = b"".join(b"line %d \xc3\xa9\n" % number for number in range(20_000)) + random.Random(0).randbytes(100_000).replace(b"\n", b"")


def pack(ending: str, data: bytes) -> bytes:
    if ending == ".zst":
        return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    return packers[ending](data)


def read_text(path: Path, policy: InvalidUtf8 = "replace") -> tuple[list[tuple[int, str | None]], Counter[str]]:
    tally: Counter[str] = Counter()
    found = list(lines(path, policy, tally))
    assert tally.pop("bytes", 0) == path.stat().st_size
    return found, tally


# ---- which files


def test_folders_are_walked_in_sorted_order_without_hidden_names(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt", "a.txt", ".hidden/x.txt", "b/.secret", "c/d/e.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path / "c"), str(tmp_path), str(tmp_path / "b" / ".secret")])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "c/d/e.jsonl", "a.txt", "b/1.txt", "b/2.txt", "c/d/e.jsonl", "b/.secret",
    ]  # fmt: skip


def test_a_link_to_a_folder_above_does_not_go_round_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert find_files([str(tmp_path / "a")]).count(tmp_path / "a" / "x.txt") == 1


def test_a_missing_path_a_dead_link_and_an_empty_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        find_files([str(tmp_path / "nowhere")])
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(DataError, match="no file found"):
        find_files([str(tmp_path)])
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="link to nothing"):
        find_files([str(tmp_path)])


def test_the_kind_is_told_by_the_name_without_its_compression() -> None:
    names = [
        "a.txt",
        "a.text",
        "a",
        "a.wiki",
        "A.TXT.GZ",
        "a.jsonl.zst",
        "a.json",
        "a.csv.xz",
        "a.TSV",
        "a.parquet",
        "a.parquet.bz2",
        "a.gz",
    ]
    kinds = ["text", "text", "text", "text", "text", "jsonl", "jsonl", "csv", "tsv", "parquet", "parquet", "text"]
    assert [kind_of(name) for name in names] == kinds


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.pdf", "a.pdf.gz", "a.SVG", "a.html", "a.jpg"])
def test_archives_documents_and_pictures_are_not_taken_for_text(name: str) -> None:
    mend = "unpack it" if name in ("a.tar.gz", "a.zip") else "convert it to text"
    with pytest.raises(DataError, match=f"is not text: {mend}"):
        kind_of(name)


# ---- bytes


@pytest.mark.parametrize("ending", ["", *COMPRESSIONS])
def test_every_compression_gives_its_content_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(pack(ending, CONTENT) if ending else CONTENT)
    with open_bytes(path) as stream:
        assert stream.readline() == b"line 0 \xc3\xa9\n"
        assert stream.read() == CONTENT[len(b"line 0 \xc3\xa9\n") :]


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_archives_joined_end_to_end_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(ending, b"one\n") + pack(ending, CONTENT))
    with open_bytes(path) as stream:
        assert stream.read() == b"one\n" + CONTENT


@pytest.mark.parametrize("missing", [1, 3, 9, 1000, 60_000])
@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_a_truncated_archive_is_an_error_and_never_a_shorter_text(tmp_path: Path, ending: str, missing: int) -> None:
    path = tmp_path / f"cut.txt{ending}"
    packed = pack(ending, CONTENT)
    path.write_bytes(packed[:-missing])
    with pytest.raises(DataError, match=f"cut.txt{ending}: the archive is truncated or damaged"), open_bytes(path) as stream:
        while stream.read(1000):
            pass


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_a_second_stream_that_is_damaged_is_an_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    second = bytearray(pack(ending, CONTENT))
    second[1] ^= 0xFF  # its magic number: the standard library's BZ2File and LZMAFile would end here in silence
    path.write_bytes(pack(ending, b"one\n") + bytes(second))
    with pytest.raises(DataError, match="truncated or damaged"):
        read_text(path)


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_an_empty_file_and_plain_text_are_no_archives(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    for content in (b"", b"this is plain text, not an archive, whatever its name says\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            read_text(path)


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_an_archive_of_nothing_is_an_empty_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(ending, b""))
    assert read_text(path) == ([], Counter())


# ---- lines


def test_only_newline_and_carriage_return_newline_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\rstill two\u2028and\x0bthis\x85\n\nfour\r".encode())
    assert read_text(path)[0] == [(1, "one"), (2, "two\rstill two\u2028and\x0bthis\x85"), (3, ""), (4, "four\r")]


def test_nul_and_the_first_byte_order_mark_are_removed_and_special_tokens_are_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\0b [SEP] [MASK]\n\xef\xbb\xbfc")
    assert read_text(path)[0] == [(1, "ab [SEP] [MASK]"), (2, "\ufeffc")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named_not_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("hello\n".encode(encoding))
    with pytest.raises(DataError, match="a.txt:1: UTF-16"):
        read_text(path)


def test_invalid_utf8_is_replaced_dropped_or_stops_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nbad \xff and \xc3( and real \xef\xbf\xbd\ngood again\n\xe2\x82\n")
    assert read_text(path, "replace") == (
        [(1, "good"), (2, "bad \ufffd and \ufffd( and real \ufffd"), (3, "good again"), (4, "\ufffd")],
        Counter(invalid_utf8=3),
    )
    assert read_text(path, "drop") == ([(1, "good"), (2, None), (3, "good again"), (4, None)], Counter(invalid_utf8=2))
    with pytest.raises(DataError, match=r"a\.txt:2: not valid UTF-8"):
        read_text(path, "stop")


def test_a_character_spelt_in_the_file_as_replaced_is_not_invalid(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a \ufffd b\n", encoding="utf-8")
    assert read_text(path, "stop") == ([(1, "a \ufffd b")], Counter())
