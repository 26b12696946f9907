"""The spool: documents go in and come out whole and in order, in runs of bounded size."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bertlab.tokens.spool import Sentences, Spool, SpoolWriter, run_sentences

DOCUMENTS = {
    "short": ["One sentence.", "Another one."],
    "long": [f"Sentence number {number} of a long document." for number in range(50)],
    "wide": ["x" * 500],
    "last": ["Größe, 中文, 😀."],
}


def write(path: Path, run_characters: int) -> SpoolWriter:
    with SpoolWriter(path, run_characters) as spool:
        for name, sentences in DOCUMENTS.items():
            assert spool.add(name, "made up", name * 2, iter(sentences)) == len(sentences)
            assert spool.add("empty", "made up", "", iter(())) == 0
    return spool


def read(path: Path) -> dict[str, list[str]]:
    """The documents joined from their parts, after checking that parts follow one another."""
    documents: dict[str, list[str]] = {}
    expected = 0
    spool = Spool(path)
    for number in range(spool.runs):
        run = spool.run(number)
        flat, offsets = run_sentences(run)
        for row, (name, sha256, part) in enumerate(zip(*(run.column(key).to_pylist() for key in ("id", "sha256", "part")), strict=True)):
            expected = 0 if name not in documents else expected + 1
            assert part == expected
            assert sha256 == name * 2
            documents.setdefault(name, []).extend(flat[offsets[row] : offsets[row + 1]])
    return documents


@pytest.mark.parametrize("run_characters", [1, 40, 300, 2**20])
def test_documents_come_out_as_they_went_in_whatever_the_size_of_a_run(tmp_path: Path, run_characters: int) -> None:
    spool = write(tmp_path / "spool", run_characters)
    assert read(tmp_path / "spool") == DOCUMENTS
    assert list(read(tmp_path / "spool")) == list(DOCUMENTS)
    texts = [sentence for sentences in DOCUMENTS.values() for sentence in sentences]
    assert (spool.documents, spool.sentences, spool.characters) == (4, len(texts), sum(map(len, texts)))


def test_a_run_is_never_larger_than_its_bound_and_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "spool", 300)
    spool = Spool(tmp_path / "spool")
    assert spool.runs > 5
    for number in range(spool.runs):
        flat, _ = run_sentences(spool.run(number))
        assert sum(map(len, flat[:-1])) < 300


def test_a_long_document_is_never_held_whole(tmp_path: Path) -> None:
    written = 0

    def sentences() -> Iterator[str]:
        nonlocal written
        for number in range(100):
            yield "a sentence of thirty characters"
            if number == 99:
                written = (tmp_path / "spool").stat().st_size

    with SpoolWriter(tmp_path / "spool", 100) as spool:
        spool.add("long", "made up", "", sentences())
    assert written > 90 * 30


def test_sentences_can_be_read_twice_without_the_documents_left_out(tmp_path: Path) -> None:
    write(tmp_path / "spool", 300)
    seen: list[int] = []
    texts = Sentences(Spool(tmp_path / "spool"), without=frozenset({"longlong"}), passing=seen.append)
    expected = DOCUMENTS["short"] + DOCUMENTS["wide"] + DOCUMENTS["last"]
    assert list(texts) == expected
    assert list(texts) == expected
    assert sum(seen) == 2 * sum(map(len, DOCUMENTS.values()))


def test_nothing_written_is_no_run(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "spool"):
        pass
    assert Spool(tmp_path / "spool").runs == 0
