"""Units: what there is to read, in an order that depends on names and contents alone."""

import hashlib
import random
from pathlib import Path

import pytest

from bertlab.corpus import units
from bertlab.corpus.sources import File
from bertlab.corpus.units import SourceFile, refuse_not_text, source_files, took_nothing, units_of, without
from bertlab.errors import ConfigError, DataError


def made(name: str, size: int, number: int = 0, sha256: str = "") -> SourceFile:
    return SourceFile(f"source {number}", number, File(Path(name), name), size, sha256)


def test_small_files_of_one_source_share_a_unit_and_a_large_one_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 100)
    files = [made("a", 60), made("b", 60), made("c", 500), made("d", 1), made("e", 1, number=1), SourceFile("hf:x", 2)]
    found = units_of(files)
    assert [[file.name for file in unit.files] for unit in found] == [["a", "b"], ["c"], ["d"], ["e"], []]
    assert [unit.number for unit in found] == [0, 0, 0, 1, 2]
    assert len({unit.key for unit in found}) == 5


def test_the_order_in_which_files_are_given_changes_nothing() -> None:
    files = [made(f"{number:02d}", 2**22, number % 3, str(number)) for number in range(30)] + [SourceFile("hf:x", 3)]
    expected = units_of(files)
    for seed in range(5):
        assert units_of(random.Random(seed).sample(files, len(files))) == expected


def test_a_unit_is_another_when_a_file_has_another_name_or_content() -> None:
    keys = {units_of([made(name, 1, sha256=sha256), made("z", 1)])[0].key for name in ("a", "b") for sha256 in ("1", "2")}
    assert len(keys) == 4
    assert units_of([made("a", 1), made("b", 1)])[0].key == units_of([made("a", 9), made("b", 9)])[0].key


def test_no_files_are_no_units() -> None:
    assert units_of([]) == []


def test_files_have_their_size_hash_and_the_name_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.txt").write_text("one")
    (tmp_path / "in" / "b.txt").write_text("three")
    found = source_files(str(tmp_path / "in"), 4, tmp_path)
    assert [(each.file.name, each.bytes, each.number) for each in found if each.file] == [("in/b.txt", 5, 4), ("in/deep/a.txt", 3, 4)]
    assert found[1].sha256 == hashlib.sha256(b"one").hexdigest()
    with pytest.raises(ConfigError, match=r"absent does not exist.*hf:NAME"):
        source_files(str(tmp_path / "absent"), 0, tmp_path)
    assert source_files("hf:somebody/something", 1, tmp_path) == [SourceFile("hf:somebody/something", 1)]


def test_files_that_are_not_text_are_all_named_in_one_line() -> None:
    refuse_not_text([made("my/a.txt", 1), made("my/b.epub", 1), made("my/README", 1), SourceFile("hf:x.pdf", 2)])
    for names, said in (
        (["a.svg"], "1 file is not text (a.svg): convert documents to text, or leave them out by --skip '*.svg'"),
        (["a.zip", "b.tar.gz"], "2 files are not text (a.zip, b.tar.gz): unpack archives, or leave them out by --skip '*.zip' '*.tar.gz'"),
        (
            ["x/a.PDF", "x/b.docx", "x/c.tgz", "y/d.docx", "y/e.png"],
            "5 files are not text (x/a.PDF, x/b.docx, x/c.tgz and 2 more): unpack archives, convert documents to text, "
            "or leave them out by --skip '*.docx' '*.PDF' '*.tgz' '*.png'",
        ),
    ):
        with pytest.raises(DataError) as caught:
            refuse_not_text([made("ok.txt", 1), *(made(name, 1) for name in names)])
        assert str(caught.value) == said


def test_every_file_is_left_in_or_counted_by_the_first_pattern_that_takes_it_out() -> None:
    files = [made(name, 1) for name in ("my/a.txt", "my/b.pdf", "my/deep/drafts/c.pdf", "my/drafts/d.txt", "my/e.pdf.txt")]
    files.append(SourceFile("hf:some.pdf", 2))
    left, taken = without(files, ("drafts/*", "*.pdf", "*.docx"))
    assert [each.place[0] for each in left] == ["my/a.txt", "my/e.pdf.txt", "hf:some.pdf"]
    assert taken == {"drafts/*": 2, "*.pdf": 1, "*.docx": 0} and sum(taken.values()) + len(left) == len(files)
    assert without(files, ()) == (files, {})


def test_a_folder_is_left_out_with_all_below_it_and_a_source_never_by_its_own_name() -> None:
    names = ["my/a.txt", "my/drafts/b.txt", "my/drafts/old/c.txt", "my/deep/drafts/d.txt", "my/draft.txt", "my.txt"]
    files = [made(name, 1) for name in names]
    for pattern in ("drafts", "drafts/", "drafts/*", "dr*s"):
        left, taken = without(files, (pattern,))
        assert [each.place[0] for each in left] == ["my/a.txt", "my/draft.txt", "my.txt"] and taken == {pattern: 3}
    assert without(files, ("my/drafts", "deep"))[1] == {"my/drafts": 2, "deep": 1}
    assert without(files, ("my",))[1] == {"my": 0} and without(files, ("m*",))[1] == {"m*": 1}


def test_of_a_pattern_that_takes_nothing_is_said_what_to_write() -> None:
    files = [made(name, 1) for name in ("my/a.txt", "my/drafts/b.txt", "one.txt")]
    assert took_nothing(files, ("drafts", "*.txt", "b.txt")) == []  # the last is taken by another already
    said = took_nothing(files, ("data/my/drafts", "draft", "*.pdf", "ome.txt", "my", "/"))
    own = "it is a source's own folder, so leave that out of --source"
    ends = ["write drafts", "write drafts", "write a name as in my/a.txt", "write one.txt", own, "write a name as in my/a.txt"]
    assert [line.rpartition(": ")[2] for line in said] == ends
    assert said[1].startswith("skip draft took nothing out, no file or folder in a source is named so")
