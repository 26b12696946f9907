"""The spool into ids: each document as the tokenizer alone would give it, whatever the runs and the number of processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.encoding import encode_spool
from bertlab.tokens.spool import SpoolWriter

SILENT = "\u200b"  # a character that BERT's normaliser removes
DOCUMENTS = [
    [f"The river number {number} runs past mill {part} of the old town." for part in range(number % 7 + 1)] for number in range(60)
]
DOCUMENTS[10] = [f"A very long document has sentence {number}." for number in range(200)]
DOCUMENTS[20] = ["Before.", SILENT, "After [SEP] it."]
DOCUMENTS[30] = [SILENT, SILENT]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [sentence for document in DOCUMENTS for sentence in document]
    tokenizers.train(texts, kind="wordpiece", vocab_size=150, lowercase=True).save(folder, max_length=512)
    return folder


@pytest.mark.parametrize(("workers", "run_characters"), [(1, 600), (2, 600), (3, 600), (1, 2**20), (100, 2**20)])
def test_every_document_is_what_the_tokenizer_makes_of_it_in_order(
    tmp_path: Path, tokenizer: Path, workers: int, run_characters: int
) -> None:
    with SpoolWriter(tmp_path / "spool", run_characters) as spool:
        for number, sentences in enumerate(DOCUMENTS):
            spool.add(f"document {number}", "made up", f"{number:064x}", sentences)
    done: list[int] = []
    found = list(encode_spool(tmp_path / "spool", tokenizer, workers, done.append))
    assert sum(done) == sum(len(sentence) for document in DOCUMENTS for sentence in document)
    loaded = tokenizers.load(str(tokenizer))
    assert [document.id for document in found] == [f"document {number}" for number in range(60)]
    for number, (document, sentences) in enumerate(zip(found, DOCUMENTS, strict=True)):
        ids, offsets = loaded.encode(sentences)
        lengths = [end - start for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True) if end > start]
        assert document.ids.tolist() == ids.tolist()
        assert document.sentence_lengths.tolist() == lengths
        assert document.sentences == len(sentences)
        assert document.words == sum(len(sentence.split(" ")) for sentence in sentences)
        assert (document.source, document.sha256) == ("made up", f"{number:064x}")
    assert found[20].sentence_lengths.shape == (2,)
    assert found[30].ids.shape == (0,)


def test_an_added_token_is_found_in_the_text_before_any_word(tmp_path: Path, tokenizer: Path) -> None:
    """As some published vocabularies have one: to the tokenizer "old town" is then no two words."""
    rules = json.loads((tokenizer / "tokenizer.json").read_text())
    added = len(rules["model"]["vocab"])
    how = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    rules["added_tokens"].append({"id": added, "content": "old town"} | how)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(rules))
    with SpoolWriter(tmp_path / "spool") as spool:
        spool.add("one", "made up", "0" * 64, DOCUMENTS[3])
    (found,) = encode_spool(tmp_path / "spool", tmp_path / "tokenizer", 1, lambda characters: None)
    ids, _ = tokenizers.load(str(tmp_path / "tokenizer")).encode(DOCUMENTS[3])
    assert found.ids.tolist() == ids.tolist() and found.ids.tolist().count(added) == len(DOCUMENTS[3])


def test_a_word_of_more_letters_than_the_rules_allow_is_unknown_though_the_vocabulary_has_it(tmp_path: Path, tokenizer: Path) -> None:
    rules = json.loads((tokenizer / "tokenizer.json").read_text())
    assert "river" in rules["model"]["vocab"]
    rules["model"]["max_input_chars_per_word"] = 4
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(rules))
    with SpoolWriter(tmp_path / "spool") as spool:
        spool.add("one", "made up", "0" * 64, ["the river runs past"])
    (found,) = encode_spool(tmp_path / "spool", tmp_path / "tokenizer", 1, lambda characters: None)
    loaded = tokenizers.load(str(tmp_path / "tokenizer"))
    assert found.ids.tolist() == loaded.encode(["the river runs past"])[0].tolist() and loaded.unk_id in found.ids


def test_an_empty_spool_gives_no_document(tmp_path: Path, tokenizer: Path) -> None:
    with SpoolWriter(tmp_path / "spool"):
        pass
    for workers in (1, 2):
        assert list(encode_spool(tmp_path / "spool", tokenizer, workers, lambda characters: None)) == []


def test_a_process_that_dies_is_an_error_and_never_a_shorter_corpus(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SpoolWriter(tmp_path / "spool", 600) as spool:
        for number, sentences in enumerate(DOCUMENTS):
            spool.add(f"document {number}", "made up", f"{number:064x}", sentences)
    dying = tmp_path / "dying"
    dying.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" | head -c 3000\nexit 9\n')
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(RuntimeError, match="exit code 9"):
        list(encode_spool(tmp_path / "spool", tokenizer, 2, lambda characters: None))


def test_a_worker_imports_neither_torch_nor_datasets() -> None:
    check = "import sys, bertlab.tokens.encoding; print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"
