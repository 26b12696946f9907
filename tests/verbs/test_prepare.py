"""bertlab prepare: the corpus folder is the same bytes for the same text, its counts add up, and nothing is half written."""

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus.cleaning import Cleaning
from bertlab.corpus.identity import held_out, normalised_sha256
from bertlab.corpus.provenance import inputs_sha256
from bertlab.corpus.units import SourceFile
from bertlab.errors import BertlabError, ConfigError, CorruptError, DataError
from bertlab.tokens import spool
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.tokens.spool import unused
from bertlab.verbs.prepare import Config, run

TOWNS = ["Ashford", "Bramley", "Corby", "Dunster", "Epping"]
TEXTS = [
    f"The old mill of {town} stands by river number {number}. Mr. Brown runs it, and [MASK] sings there.\nIt was built in {1700 + number}."
    for number in range(12)
    for town in TOWNS
]


def write_jsonl(path: Path, texts: list[str], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, **more}) + "\n" for text in texts))
    return path


def prepare(out: Path, *source: Path | str, **settings: Any) -> tuple[dict[str, Any], Corpus]:
    """Prepare with a small vocabulary and open what was written, every file checked."""
    if "tokenizer" not in settings:
        settings = {"vocab_size": 300} | settings
    manifest = run(Config(source=tuple(map(str, source)), out=str(out), **settings))
    return manifest, open_corpus(str(out))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def texts_of(corpus: Corpus, split: str = "train") -> list[str]:
    documents = getattr(corpus, split)
    return [" | ".join(corpus.tokenizer.decode(ids) for ids in documents.document(number)) for number in range(documents.num_documents)]


def test_text_becomes_documents_sentences_and_tokens(tmp_path: Path) -> None:
    source = tmp_path / "towns.txt"
    source.write_text("Dr. Smith went to town. He slept there.\nA new paragraph.\n\nAnother document [SEP] here.\n\n\nThe last one.\n")
    manifest, corpus = prepare(tmp_path / "corpus", source, heldout=0.0)
    assert texts_of(corpus) == [
        "dr. smith went to town. | he slept there. | a new paragraph.",
        "another document [ sep ] here.",
        "the last one.",
    ]
    assert manifest["counts"]["train"] == {"documents": 3, "sentences": 5, "tokens": corpus.train.num_tokens}
    assert manifest["counts"]["words"] == 5 + 3 + 3 + 4 + 3
    assert corpus.train.shards[0].batch.column("id").to_pylist() == ["towns.txt:1", "towns.txt:4", "towns.txt:7"]
    assert corpus.train.shards[0].batch.column("sha256").to_pylist()[2] == normalised_sha256("The last one.")
    assert corpus.heldout is None
    counts = corpus.train.token_counts(corpus.tokenizer.vocab_size)
    assert counts[corpus.tokenizer.special_ids].sum() == 0


def test_files_of_every_kind_and_a_folder_of_them_give_the_same_documents(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "a.jsonl", TEXTS[:20])
    (tmp_path / "data" / "b.jsonl.xz").write_bytes(lzma.compress(write_jsonl(tmp_path / "b", TEXTS[20:40]).read_bytes()))
    (tmp_path / "data" / "c.txt").write_text("\n\n".join(TEXTS[40:]))
    (tmp_path / "data" / ".hidden.txt").write_text("Not to be read.")
    _, whole = prepare(tmp_path / "one", tmp_path / "data", heldout=0.0)
    parts = [tmp_path / "data" / name for name in ("a.jsonl", "b.jsonl.xz", "c.txt")]
    _, listed = prepare(tmp_path / "two", *parts, heldout=0.0)
    _, single = prepare(tmp_path / "three", write_jsonl(tmp_path / "all.jsonl", TEXTS), heldout=0.0)
    assert texts_of(whole) == texts_of(listed) == texts_of(single)
    assert whole.train.num_documents == len(TEXTS)


def test_text_files_cut_at_blank_lines_into_more_documents_than_files_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "my"
    write_jsonl(source / "rows.jsonl", TEXTS[:5])
    (source / "a.txt").write_text("\n\n".join(TEXTS[5:9]))
    (source / "b.txt").write_text(TEXTS[9])
    manifest, _ = prepare(tmp_path / "cut", source)
    rule = "5 of them from 2 text files: a blank line ends one (--document-end file: one a file; line: one a line)"
    assert f"documents  10 read = 10 kept + dropped: 0\n           {rule}\n" in capsys.readouterr().out
    assert [manifest["filters"][f"text_{name}"] for name in ("files", "documents", "long")] == [2, 5, 0]
    manifest, _ = prepare(tmp_path / "whole", source, document_end="file")
    assert "blank line" not in capsys.readouterr().out and manifest["filters"]["text_documents"] == 2
    (source / "a.txt").write_text(TEXTS[5])  # as many documents as files: nothing was cut
    manifest, _ = prepare(tmp_path / "uncut", source)
    assert "blank line" not in capsys.readouterr().out and manifest["filters"]["text_documents"] == 2


def test_files_of_one_text_a_line_are_told_of_and_each_line_can_be_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tickets = [f"Ticket {number}: the printer of room {number} prints nothing. Help!" for number in range(303)]
    for name, some in (("a", tickets[:202]), ("b", tickets[202:])):
        (tmp_path / f"{name}.txt").write_text("\n".join(some) + "\n")
    files = tmp_path / "a.txt", tmp_path / "b.txt"
    prepare(tmp_path / "merged", *files)
    printed = capsys.readouterr().out
    assert (
        "           2 documents of more than 100 lines: if each line is a text of its own (a ticket, a post), --document-end line\n"
        in printed
    )
    assert "a blank line ends one" not in printed  # one document a file: nothing was cut up
    assert "too few documents to hold any out" in printed
    manifest, corpus = prepare(tmp_path / "apart", *files, document_end="line", heldout=0.1)
    assert "of them from" not in capsys.readouterr().out
    assert manifest["counts"]["train"]["documents"] + manifest["counts"]["heldout"]["documents"] == 303
    assert corpus.train.shards[0].batch.column("id").to_pylist()[0] == "a.txt:1" and manifest["counts"]["heldout"]["documents"] == 30
    with pytest.raises(DataError, match=r"a blank line ends one \(--document-end line: each line is one\)"):
        prepare(tmp_path / "one", files[0])
    (tmp_path / "c.txt").write_text("one line\rby an old Mac")
    with pytest.raises(DataError, match="with --document-end line a line of text is one, in a table a row"):
        prepare(tmp_path / "mac", tmp_path / "c.txt", document_end="line")
    prepare(tmp_path / "rows", write_jsonl(tmp_path / "rows.jsonl", TEXTS), document_end="line")
    assert "--document-end line changed nothing: no text file was read but Project Gutenberg's books\n" in capsys.readouterr().out


def test_lines_are_sentences_of_a_file_that_is_a_document_where_that_is_asked(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"first line of {name}\nsecond line\n\nthird line\n")
    sources = tmp_path / "a.txt", tmp_path / "b.txt"
    _, corpus = prepare(tmp_path / "lines", *sources, document_end="file", splitter="lines", heldout=0.0)
    assert texts_of(corpus)[0] == "first line of a | second line | third line"
    _, corpus = prepare(tmp_path / "joined", *sources, document_end="file", heldout=0.0)
    assert texts_of(corpus)[0] == "first line of a second line | third line"


def test_own_test_sets_are_kept_out_by_the_same_column_and_short_texts_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tickets = [f"the printer of room {number} prints nothing" for number in range(40)]  # 7 words
    (tmp_path / "tickets.csv").write_text("body\n" + "\n".join([*tickets, "Please note: the printer of room 1 prints nothing at all."]))
    (tmp_path / "test.csv").write_text("body\n" + "\n".join(tickets[:10]))
    (tmp_path / "other.csv").write_text("text\n" + "\n".join(tickets[10:12]))
    out = ("test.csv", "other.csv")
    keep_out = tuple(str(tmp_path / name) for name in out)
    manifest, _ = prepare(tmp_path / "corpus", tmp_path / "tickets.csv", text_column="body", keep_out=keep_out)
    assert manifest["filters"]["dropped"]["kept_out"] == 12 and manifest["filters"]["kept"] == 29
    note = "note: 12 of the 12 texts to keep out have fewer than 8 words: only documents of just these words are dropped for them\n"
    assert note in capsys.readouterr().out


def test_a_corpus_in_its_own_source_is_not_made_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "my" / "towns.jsonl", TEXTS)
    for out in ("corpus", "deep/corpus"):
        first, _ = prepare(tmp_path / "my" / out, tmp_path / "my")
        assert first["counts"]["train"]["documents"] + first["counts"]["heldout"]["documents"] == len(TEXTS)
        capsys.readouterr()
        again, _ = prepare(tmp_path / "my" / out, tmp_path / "my")  # the same command finds it finished
        assert again == first and capsys.readouterr().out == f"{tmp_path / 'my' / out} is finished: nothing to do\n"
        shutil.rmtree(tmp_path / "my" / out)


def test_datasets_of_one_name_are_not_taken_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [inputs_sha256([], [SourceFile(name, 0)]) for name in ("hf:a/data", "hf:b/data", "hf:a/data:other", "hf:a/data#test")]
    assert len(set(asked)) == 4
    (tmp_path / "saved").mkdir()
    named = [inputs_sha256([], [SourceFile(str(tmp_path / "saved"), 0, sha256="1")])]
    monkeypatch.chdir(tmp_path / "saved")
    assert [inputs_sha256([], [SourceFile(".", 0, sha256="1")])] == named


def test_files_are_told_by_their_endings_and_those_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "my"
    write_jsonl(source / "rows.jsonl", TEXTS[:9])
    for name in ("README.md", "notes.TXT", "notes", "old.txt.gz"):
        packed = gzip.compress(b"Not meant.") if name.endswith(".gz") else f"This is {name}.".encode()
        (source / name).write_bytes(packed)
    manifest, _ = prepare(tmp_path / "all", source)
    printed = capsys.readouterr().out
    assert "files      5 read: 2 .txt, 1 .md, 1 without ending, 1 .jsonl\n" in printed and "left out" not in printed
    assert "skipped_files" not in manifest["filters"]
    for name in ("a.pdf", "b.pdf", "c.docx"):
        (source / name).write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"3 files are not text \(my/a.pdf, my/b.pdf, my/c.docx\)"):
        prepare(tmp_path / "refused", source)
    skip = ("*.pdf", "*.doc*", "README.md", "*.odt")
    (tmp_path / "papers").mkdir()
    shutil.copy(source / "a.pdf", tmp_path / "papers")
    manifest, _ = prepare(tmp_path / "some", source, tmp_path / "papers", skip=skip)
    printed = capsys.readouterr().out
    assert "files      4 read: 2 .txt, 1 without ending, 1 .jsonl\n" in printed
    assert "left out   5 files: 3 *.pdf, 1 *.doc*, 1 README.md, 0 *.odt\n" in printed
    assert printed.startswith("warning: skip *.odt took nothing out, ") and printed.count("took nothing out") == 1
    assert manifest["filters"]["skipped_files"] == {"*.pdf": 3, "*.doc*": 1, "README.md": 1, "*.odt": 0}
    assert manifest["settings"]["skip"] == list(skip)
    assert [[file["name"] for file in each["files"]] for each in manifest["sources"]] == [
        ["notes", "notes.TXT", "old.txt.gz", "rows.jsonl"],
        [],
    ]
    with pytest.raises(ConfigError, match="leaves no file"):
        prepare(tmp_path / "none", source, skip=("*",))
    for empty in ("", "."):
        with pytest.raises(ConfigError, match="empty pattern"):
            prepare(tmp_path / "none", source, skip=(empty,))


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SpoolWriter", functools.partial(spool.SpoolWriter, run_characters=1000))
    source = write_jsonl(tmp_path / "towns.jsonl", [*TEXTS, " ".join(TEXTS)])
    trees = []
    for workers in (1, 2, 3):
        prepare(tmp_path / str(workers), source, workers=workers)
        trees.append(tree(tmp_path / str(workers)))
    assert trees[0] == trees[1] == trees[2]
    assert len(trees[0]) == 9


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_the_same_text_gives_the_same_bytes_wherever_it_lies(tmp_path: Path, kind: str) -> None:
    for place in ("here", "there"):
        write_jsonl(tmp_path / place / "towns.jsonl", TEXTS)
        prepare(tmp_path / place / "corpus", tmp_path / place / "towns.jsonl", kind=kind, vocab_size=400)
    assert tree(tmp_path / "here" / "corpus") == tree(tmp_path / "there" / "corpus")
    assert str(tmp_path) not in (tmp_path / "here" / "corpus" / "manifest.json").read_text()


def test_datasets_opens_the_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    _, corpus = prepare(tmp_path / "corpus", write_jsonl(tmp_path / "towns.jsonl", TEXTS), heldout=0.1)
    for split in ("train", "heldout"):
        opened = datasets.load_from_disk(str(tmp_path / "corpus" / split))
        documents = getattr(corpus, split)
        assert opened["tokens"][:] == [[ids.tolist() for ids in documents.document(n)] for n in range(documents.num_documents)]
    assert set(opened["source"]) == {"towns.jsonl"}


def test_who_is_held_out_follows_from_the_texts_alone(tmp_path: Path) -> None:
    _, forward = prepare(tmp_path / "forward", write_jsonl(tmp_path / "a.jsonl", TEXTS), heldout=0.1)
    source = [write_jsonl(tmp_path / "b.jsonl", TEXTS[:0:-3]), write_jsonl(tmp_path / "c.jsonl", TEXTS[::-1])]
    _, backward = prepare(tmp_path / "backward", *source, heldout=0.1)
    expected = held_out([normalised_sha256(text) for text in TEXTS], 0.1)
    for corpus in (forward, backward):
        assert corpus.heldout is not None
        assert set(corpus.heldout.shards[0].batch.column("sha256").to_pylist()) == expected
        assert not expected & set(corpus.train.shards[0].batch.column("sha256").to_pylist())
        assert not set(texts_of(corpus)) & set(texts_of(corpus, "heldout"))
        assert corpus.train.num_documents + corpus.heldout.num_documents == len(TEXTS)
    assert len(expected) == 6


def test_the_vocabulary_is_learnt_from_train_alone(tmp_path: Path) -> None:
    texts = [text + f" qz{normalised_sha256(text)[:8].translate(str.maketrans('0123456789', 'ghijklmnop'))}" * 4 for text in TEXTS]
    digests = [normalised_sha256(text) for text in texts]
    heldout = held_out(digests, 0.1)
    _, corpus = prepare(tmp_path / "corpus", write_jsonl(tmp_path / "a.jsonl", texts), heldout=0.1, vocab_size=20_000)
    vocabulary = {corpus.tokenizer.token(id) for id in range(corpus.tokenizer.vocab_size)}
    for text, digest in zip(texts, digests, strict=True):
        assert (text.split()[-1] in vocabulary) == (digest not in heldout)


def test_documents_in_are_documents_kept_and_dropped_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_jsonl(tmp_path / "first.jsonl", [*TEXTS, "", " \n ", "\u200b", "\u0301", TEXTS[3].upper(), "  ".join(TEXTS[4].split())])
    with first.open("ab") as stream:
        stream.write(b'{"text": "Not UTF-8: \xff\xfe here."}\n')
    second = write_jsonl(tmp_path / "second.jsonl", [TEXTS[0], "Only here."])
    manifest, corpus = prepare(tmp_path / "replaced", first, second)
    dropped = {"empty": 3, "duplicate": 3, "invalid_utf8": 0, "no_tokens": 1}
    changed = {"control_characters": 1, "white_space": 2}
    assert manifest["filters"] == {"in": 69, "kept": 62, "dropped": dropped, "invalid_utf8_places": 2, "changed": changed}
    printed = capsys.readouterr().out
    assert "69 read = 62 kept + dropped: 3 empty, 3 duplicate, 1 no_tokens" in printed
    assert f"bertlab pretrain --corpus {tmp_path / 'replaced'} --out RUN" in printed
    assert corpus.heldout is not None
    assert corpus.train.num_documents + corpus.heldout.num_documents == 62
    manifest, _ = prepare(tmp_path / "dropped", first, second, invalid_utf8="drop")
    assert manifest["filters"]["dropped"] == dropped | {"invalid_utf8": 1}
    assert manifest["filters"]["kept"] == 61
    with pytest.raises(DataError, match=r"first\.jsonl:67"):
        prepare(tmp_path / "stopped", first, second, invalid_utf8="stop")


def test_no_two_documents_share_a_name(tmp_path: Path) -> None:
    a = write_jsonl(tmp_path / "a" / "part.jsonl", TEXTS[:3])
    b = write_jsonl(tmp_path / "b" / "part.jsonl", TEXTS[3:6])
    c = write_jsonl(tmp_path / "c.jsonl", TEXTS[6:8], id="part.jsonl:1#2")
    _, corpus = prepare(tmp_path / "corpus", a, c, b)
    names = corpus.train.shards[0].batch.column("id").to_pylist()
    # by the files' names (c.jsonl, part.jsonl), then by their contents
    assert names[:2] == ["part.jsonl:1#2", "part.jsonl:1#2#2"]
    assert names[2:] == ["part.jsonl:1", "part.jsonl:2", "part.jsonl:3", "part.jsonl:1#3", "part.jsonl:2#2", "part.jsonl:3#2"]
    assert unused("x", set()) == "x"


def test_an_existing_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "towns.jsonl", TEXTS)
    tokenizers.train(TEXTS, kind="bpe", vocab_size=350, lowercase=False).save(tmp_path / "mine", max_length=512)
    mine = tokenizers.load(str(tmp_path / "mine"))
    manifest, corpus = prepare(tmp_path / "corpus", source, tokenizer=str(tmp_path / "mine"), heldout=0.0)
    assert corpus.tokenizer.sha256 == mine.sha256
    assert manifest["tokenizer"] == {
        "trained_here": False,
        "added_pieces": 0,
        "sha256": mine.sha256,
        "vocab_size": 350,
        "lowercase": False,
        "id_dtype": "uint16",
    }
    assert "kind" not in manifest["settings"]
    assert corpus.train.document(0)[0].tolist() == mine.encode([TEXTS[0].split(" Mr.")[0]])[0].tolist()


def test_words_of_the_text_are_added_to_an_existing_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers.train(["abc klm", "rstuvw xyz defghij nopq ."], kind="wordpiece", vocab_size=100, lowercase=True).save(
        tmp_path / "base", 512
    )
    base = tokenizers.load(str(tmp_path / "base"))
    source = write_jsonl(tmp_path / "towns.jsonl", TEXTS)
    manifest, corpus = prepare(tmp_path / "corpus", source, tokenizer=str(tmp_path / "base"), add_pieces=7)
    assert f"bertlab pretrain --corpus {tmp_path / 'corpus'} --out RUN" in capsys.readouterr().out  # of a tokenizer alone
    (tmp_path / "base" / "config.json").write_text("{}")
    prepare(tmp_path / "again", source, tokenizer=str(tmp_path / "base"), add_pieces=7)
    base_named = f"bertlab pretrain --corpus {tmp_path / 'again'} --model {tmp_path / 'base'} --out RUN"
    assert base_named in capsys.readouterr().out  # whose embeddings the new pieces begin with
    assert manifest["tokenizer"]["added_pieces"] == 7 and corpus.tokenizer.vocab_size == base.vocab_size + 7
    assert [corpus.tokenizer.token(id) for id in range(base.vocab_size)] == [base.token(id) for id in range(base.vocab_size)]
    assert "river" in {corpus.tokenizer.token(id) for id in range(base.vocab_size, base.vocab_size + 7)}


def test_the_manifest_names_every_source_with_its_hash_and_licence(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.txt").write_text("\n\n".join(TEXTS))
    write_jsonl(tmp_path / "data" / "b.jsonl", ["One more."])
    manifest, _ = prepare(tmp_path / "corpus", tmp_path / "data", licence="CC BY-SA 4.0")
    (source,) = manifest["sources"]
    assert (source["name"], source["licence"]) == ("data", "CC BY-SA 4.0")
    for entry in source["files"]:
        stored = subprocess.run(["sha256sum", tmp_path / "data" / entry["name"]], capture_output=True, text=True, check=True).stdout
        assert stored.split()[0] == entry["sha256"]
        assert (tmp_path / "data" / entry["name"]).stat().st_size == entry["bytes"]
    assert [entry["name"] for entry in source["files"]] == ["b.jsonl", "deep/a.txt"]


def test_a_saved_dataset_is_a_source(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    splits = {"train": datasets.Dataset.from_dict({"text": TEXTS}), "test": datasets.Dataset.from_dict({"text": TEXTS[:4]})}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    manifest, corpus = prepare(tmp_path / "whole", tmp_path / "saved", heldout=0.0)
    assert corpus.train.num_documents == len(TEXTS)
    assert {entry["name"] for entry in manifest["sources"][0]["files"]} >= {"dataset_dict.json", "train/state.json"}
    manifest, corpus = prepare(tmp_path / "part", f"{tmp_path / 'saved'}#test", heldout=0.0)
    assert corpus.train.num_documents == 4
    assert manifest["sources"][0]["name"] == "saved#test"


def test_too_little_text_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    cases = {
        "empty.txt": ("", "no text there"),
        "blank.txt": ("\n \n\n", "no text there"),
        "one.txt": ("A single document.\nOf two lines.", "a single document"),
        "copies.txt": ("The same.\n\nthe  SAME.\n\n\u0007\n", "a single document"),
        "silent.txt": ("\u0301\n\n\u0301 \u0301\n\nText.", "fewer than two documents"),
    }
    for name, (text, message) in cases.items():
        source = tmp_path / name
        source.write_text(text)
        with pytest.raises(DataError, match=message) as caught:
            prepare(tmp_path / "corpus", source)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cases)


def test_what_cannot_be_read_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "towns.jsonl", TEXTS)
    cut = tmp_path / "cut.jsonl.xz"
    cut.write_bytes(lzma.compress(source.read_bytes())[:-20])
    (tmp_path / "tokenizer.json").write_text("{}")
    refusals: list[tuple[type[BertlabError], str, tuple[Path | str, ...], dict[str, Any]]] = [
        (ConfigError, "does not exist.*hf:NAME", (source, tmp_path / "absent"), {}),
        (ConfigError, "no tokenizer there", (source,), {"tokenizer": str(tmp_path / "absent")}),
        (CorruptError, "not a tokenizer", (source,), {"tokenizer": str(tmp_path / "tokenizer.json")}),
        (DataError, r"cut\.jsonl\.xz.*truncated", (source, cut), {}),
        (DataError, r"towns\.jsonl:1: no column 'body'", (source,), {"text_column": "body"}),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for error, message, sources, settings in refusals:
        with pytest.raises(error, match=message) as caught:
            prepare(tmp_path / "corpus", *sources, **settings)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_was_read_of_a_corpus_that_is_there_does_not_stay(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "towns.jsonl", TEXTS)
    prepare(tmp_path / "corpus", source)
    work = tmp_path / ".reading-corpus"
    (work / "units").mkdir(parents=True)  # as a kill leaves it between the corpus and its end
    (work / "units" / "0.read").write_bytes(b"much")
    prepare(tmp_path / "corpus", source)
    assert not work.exists()


def test_the_same_command_finds_the_corpus_finished_and_another_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_jsonl(tmp_path / "towns.jsonl", TEXTS)
    first, _ = prepare(tmp_path / "corpus", source, licence="CC0-1.0")
    before = tree(tmp_path / "corpus")
    capsys.readouterr()
    again, _ = prepare(tmp_path / "corpus", source, licence="CC0-1.0", workers=2)  # what changes no byte may differ
    assert capsys.readouterr().out == f"{tmp_path / 'corpus'} is finished: nothing to do\n"
    assert again == first and sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "towns.jsonl"]
    others: list[dict[str, Any]] = [
        {"licence": "", "keep_out": ()},
        {"licence": "CC0-1.0", "heldout": 0.1},
        {"licence": "CC0-1.0", "vocab_size": 301},
        {"licence": "CC0-1.0", "weights": (2.0,)},
        {"licence": "CC0-1.0", "keep_out": (str(source),)},
        {"licence": "CC0-1.0", "tokenizer": str(tmp_path / "corpus" / "tokenizer")},
        {"licence": "CC0-1.0", "cleaning": Cleaning(min_words=2)},
    ]
    for other in others:
        with pytest.raises(ConfigError, match=r"other (text, settings or version|settings \(.*\)): choose another --out"):
            prepare(tmp_path / "corpus", source, **other)
    with pytest.raises(ConfigError, match=r"corpus was prepared with other settings \(vocab_size\)"):  # before anything is read
        prepare(tmp_path / "corpus", tmp_path / "absent", vocab_size=301)
    (damaged,) = (tmp_path / "corpus").glob("train/*.arrow")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    with pytest.raises(CorruptError, match=r"\(this command does once .*corpus is removed\)"):
        prepare(tmp_path / "corpus", source, licence="CC0-1.0")
    damaged.write_bytes(whole)
    write_jsonl(source, TEXTS[1:])
    with pytest.raises(ConfigError, match="of other text"):
        prepare(tmp_path / "corpus", source, licence="CC0-1.0")
    assert tree(tmp_path / "corpus") == before
    manifest = json.loads(before["manifest.json"])
    del manifest["inputs_sha256"]  # as earlier versions wrote it
    (tmp_path / "corpus" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="already exists"):
        prepare(tmp_path / "corpus", source)


def test_an_output_that_holds_something_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        prepare(tmp_path / "corpus", tmp_path / "absent")
    assert tree(tmp_path / "corpus") == {"mine.txt": b"precious"}
    (tmp_path / "corpus" / "mine.txt").unlink()
    prepare(tmp_path / "corpus", write_jsonl(tmp_path / "towns.jsonl", TEXTS))  # an empty folder is no obstacle


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": ()}, "source is empty"),
        ({"source": ("",)}, "source is empty"),
        ({"out": ""}, "out is empty"),
        ({"heldout": -0.1}, "heldout"),
        ({"heldout": 0.6}, "heldout"),
        ({"heldout": float("nan")}, "heldout"),
        ({"workers": 0}, "workers"),
        ({"weights": (1.0, 2.0)}, "one number for each of the 1 sources"),
        ({"weights": (0.0,)}, "above 0"),
        ({"near_duplicates": 0.1}, "from 0.5 to 1"),
        ({"add_pieces": 5}, "the tokenizer to add them to"),
        ({"vocab_size": 10}, "vocab_size"),
        ({"tokenizer": "x", "kind": "bpe"}, "kind describe a vocabulary"),
        ({"tokenizer": "x", "vocab_size": 8192, "lowercase": False}, "vocab_size, lowercase describe"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**{"source": ("a",), "out": "b"} | settings)


def test_few_documents_are_all_trained_on_and_the_screen_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, corpus = prepare(tmp_path / "corpus", write_jsonl(tmp_path / "towns.jsonl", TEXTS[:4]), heldout=0.3)  # one would be held out
    assert corpus.heldout is None
    assert corpus.train.num_documents == 4
    assert "too few documents to hold any out" in capsys.readouterr().out


def test_a_document_of_one_long_line_is_never_in_memory_as_tokens(tmp_path: Path) -> None:
    """4 MB in one line tokenised in one call take 200 MB; in runs the process grows by a few copies of the text."""
    program = (
        "import resource, sys; from bertlab.verbs.prepare import Config, run;"
        "run(Config(source=(sys.argv[1],), out=sys.argv[2], vocab_size=300, splitter='regex'));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    line = " ".join(TEXTS).replace("\n", " ") + " "
    peaks = {}
    for name, megabytes in (("small.txt", 0.1), ("large.txt", 4), ("large.jsonl", 4)):
        text = line * int(megabytes * 1e6 / len(line))
        source = tmp_path / name
        source.write_text(json.dumps({"text": text}) + '\n{"text": "Another."}\n' if name.endswith("jsonl") else text + "\n\nAnother.\n")
        command = [sys.executable, "-c", program, str(source), str(tmp_path / f"corpus-{name}")]
        package = str(Path(run.__code__.co_filename).parents[2])
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": package})
        peaks[name] = int(found.stdout.splitlines()[-1])
        shutil.rmtree(tmp_path / f"corpus-{name}")
    for name in ("large.txt", "large.jsonl"):
        assert peaks[name] - peaks["small.txt"] < 100, f"peak memory in MB: {peaks}"


def test_the_order_of_the_sources_changes_no_byte(tmp_path: Path) -> None:
    sources = [write_jsonl(tmp_path / f"{name}.jsonl", TEXTS[place::3] + TEXTS[:5]) for place, name in enumerate("cab")]
    for name, order in (("one", sources), ("two", sources[::-1]), ("three", [sources[1], sources[2], sources[0]])):
        prepare(tmp_path / name, *order)
    one, two, three = (tree(tmp_path / name) for name in ("one", "two", "three"))
    for other in (two, three):  # but that the manifest lists the sources as they were given
        assert {name for name in one if one[name] != other[name]} <= {"manifest.json"}
    manifests = [json.loads(each["manifest.json"]) for each in (one, two, three)]
    assert all(sorted(each["sources"], key=str) == sorted(manifests[0]["sources"], key=str) for each in manifests)
    assert all(each["counts"] == manifests[0]["counts"] and each["filters"] == manifests[0]["filters"] for each in manifests)


def test_a_killed_preparation_goes_on_with_the_files_that_are_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [f"{text} In {name}." for text in TEXTS])
    program = (
        "import os, sys; from bertlab.corpus import reading, units; from bertlab.verbs.prepare import Config, run;"
        "units.UNIT_BYTES = 1; limit, treat, seen = int(sys.argv[3]), reading.treat, []\n"
        "def counted(documents, recipe):\n"
        "    seen.append(documents[0].source)\n"
        "    if len(seen) > limit: os.kill(os.getpid(), 9)\n"
        "    return treat(documents, recipe)\n"
        "reading.treat = counted\n"
        "run(Config(source=(sys.argv[1],), out=sys.argv[2], vocab_size=300))\n"
        "print('read', *seen)"
    )

    def runs(out: str, limit: int) -> subprocess.CompletedProcess[str]:
        package = str(Path(run.__code__.co_filename).parents[2])
        command = [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / out), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": package})

    assert runs("killed", 2).returncode == -9
    assert not (tmp_path / "killed").exists() and (tmp_path / ".reading-killed").is_dir()
    done = runs("killed", 9)
    assert done.stdout.splitlines()[-1] == "read in/c.jsonl"  # a and b had been finished
    assert runs("whole", 9).stdout.splitlines()[-1] == "read in/a.jsonl in/b.jsonl in/c.jsonl"
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_settings_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [*TEXTS, "Few."])
    monkeypatch.setattr("bertlab.verbs.prepare.write_corpus", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        prepare(tmp_path / "corpus", source)
    assert len(list((tmp_path / ".reading-corpus").iterdir())) == 2  # the lock, and what was read
    monkeypatch.undo()
    manifest, _ = prepare(tmp_path / "corpus", source, **{"cleaning": Cleaning(min_words=3)})
    assert manifest["filters"]["dropped"]["too_short"] == 1 and manifest["settings"]["cleaning"]["min_words"] == 3
    assert not (tmp_path / ".reading-corpus").exists()


def test_weights_copies_and_test_sets_are_counted(tmp_path: Path) -> None:
    story = "The wheel of the mill has turned beside the bridge since the winter in which the town was built by hand. " * 4
    wiki = write_jsonl(tmp_path / "wiki.jsonl", TEXTS)
    books = write_jsonl(tmp_path / "books.jsonl", [story, story + "The end.", "She said that " + TEXTS[7].lower(), "Another book."])
    secret = tmp_path / "secret.csv"
    secret.write_text(f'text,label\n"{TEXTS[7].split(chr(10))[0]}",1\nToo short,0\n')
    settings: dict[str, Any] = {"near_duplicates": 0.9, "keep_out": (str(secret),), "weights": (1.0, 2.0), "heldout": 0.1}
    manifest, corpus = prepare(tmp_path / "corpus", wiki, books, **settings)
    dropped = manifest["filters"]["dropped"]
    assert (dropped["near_duplicate"], dropped["kept_out"], dropped["weight"]) == (1, 6, 0)  # the towns of one number share 13 words
    assert manifest["filters"]["in"] == 64 and manifest["filters"]["kept"] == 57
    first, second = manifest["sources"]
    assert (first["weight"], first["documents"]) == (1.0, {"in": 60, "kept": 55})
    assert (second["weight"], second["documents"]) == (2.0, {"in": 4, "kept": 2})
    assert corpus.heldout is not None
    names = corpus.train.shards[0].batch.column("id").to_pylist()
    books_held_out = [name for name in corpus.heldout.shards[0].batch.column("id").to_pylist() if name.startswith("books")]
    assert sum(name.startswith("books") for name in names) == 2 * (2 - len(books_held_out))
    assert len(set(names)) == len(names)
    assert str(tmp_path) not in (tmp_path / "corpus" / "manifest.json").read_text()


def test_standard_input_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, text in (("-", "\n\n".join(TEXTS)), ("-.jsonl", write_jsonl(tmp_path / "a.jsonl", TEXTS).read_text())):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        manifest, corpus = prepare(tmp_path / f"corpus{source}", source, heldout=0.0)
        assert manifest["sources"][0]["files"][0]["name"] == f"stdin{source[1:]}"
        (tmp_path / f"stdin{source[1:]}").write_text(text)
        _, from_file = prepare(tmp_path / f"file{source}", tmp_path / f"stdin{source[1:]}", heldout=0.0)
        assert texts_of(corpus) == texts_of(from_file) and corpus.train.num_documents == len(TEXTS)


def test_a_dump_a_gutenberg_book_and_an_epub_are_sources(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pages = "".join(
        f"<page><title>{town}</title><ns>0</ns><id>{number}</id><revision><model>wikitext</model><text>'''{town}''' is a [[town]]."
        f"{{{{cite|x}}}} It has a mill.\n\n== History ==\nIt was built in {1700 + number}.</text></revision></page>"
        for number, town in enumerate(TOWNS, start=1)
    )
    base = "<siteinfo><sitename>Wikipedia</sitename><base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>"
    dump = f'<mediawiki xml:lang="en">{base}{pages}</mediawiki>'
    (tmp_path / "in" / "enwiki-pages-articles.xml.bz2").write_bytes(bz2.compress(dump.encode()))
    start, end = (f"*** {word} OF THE PROJECT GUTENBERG EBOOK A BOOK ***" for word in ("START", "END"))
    (tmp_path / "in" / "book.txt").write_text(
        f"The Project Gutenberg eBook\n\n{start}\n\nOne of a book.\n\nTwo of a book.\n\n{end}\nLicence.\n"
    )
    manifest, corpus = prepare(tmp_path / "corpus", tmp_path / "in", heldout=0.0)
    texts = texts_of(corpus)
    assert texts[0] == "one of a book. | two of a book."
    assert texts[1] == "ashford is a town. | it has a mill. | it was built in 1701."
    assert manifest["sources"][0]["licence"] == "CC-BY-SA-4.0" and manifest["filters"]["in"] == 6
    assert manifest["filters"]["changed"]["wikipedia_pages"] == 5


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-8", "not UTF-8  1 places (replace); files of Windows? --encoding cp1252 reads them (--invalid-utf8 stop names the first)"),
        ("cp1252", "not cp1252 1 places (replace); some"),
    ],
)
def test_bytes_of_another_encoding_are_told_with_what_to_do(
    encoding: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = b"The mill stands by the river and the river runs to the sea.\n"
    (tmp_path / "a.txt").write_bytes(b"\n".join([sentence * 9, b"It is \x81 old.\n" + sentence * 9]))  # 81 is nothing, in either
    run(Config(source=(str(tmp_path / "a.txt"),), out=str(tmp_path / "corpus"), vocab_size=100, encoding=encoding, heldout=0))
    assert says in capsys.readouterr().out
