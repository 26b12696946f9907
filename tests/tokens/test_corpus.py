"""The corpus folder: opened when it is whole, refused with the file's name when a single bit is not as it was written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bertlab.disk import sha256_file
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.corpus import open_corpus, verify_files, write_manifest
from bertlab.tokens.shards import ShardWriter

TEXTS = ["the river runs past the mill", "the miller sings in the evening", "a bird sings in the old tree"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "whole"
    tokenizer = tokenizers.train(TEXTS, kind="wordpiece", vocab_size=100, lowercase=True)
    tokenizer.save(folder / "tokenizer", max_length=512)
    for split in ("train", "heldout"):
        writer = ShardWriter(folder / split, tokenizer.id_dtype)
        for number, text in enumerate(TEXTS):
            ids, _ = tokenizer.encode([text])
            writer.add(f"{split} {number}", "made up", f"{number:064x}", ids, np.array([len(ids)]))
        writer.close()
    write_manifest(folder, {"counts": {"documents": 6}})
    return folder


FILES = ["manifest.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]
FILES += [f"{split}/{file}" for split in ("train", "heldout") for file in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json")]


def test_the_list_of_files_is_complete(corpus: Path) -> None:
    assert sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*") if path.is_file()) == sorted(FILES)
    assert sorted(json.loads((corpus / "manifest.json").read_text())["files"]) == sorted(FILES[1:])


def test_a_whole_folder_opens(corpus: Path) -> None:
    opened = open_corpus(str(corpus))
    assert opened.train.num_documents == 3
    assert opened.heldout is not None
    assert opened.heldout.num_documents == 3
    assert opened.tokenizer.decode(opened.train.document(1)[0]) == TEXTS[1]
    assert opened.manifest["counts"] == {"documents": 6}
    assert opened.sha256 == sha256_file(corpus / "manifest.json")


def test_a_corpus_without_held_out_documents_opens(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    shutil.rmtree(copy / "heldout")
    write_manifest(copy, {})
    assert open_corpus(str(copy)).heldout is None


@pytest.mark.parametrize("file", FILES[1:])
def test_a_file_flipped_in_any_byte_cut_short_lengthened_or_removed_is_named(corpus: Path, tmp_path: Path, file: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    whole = (copy / file).read_bytes()
    for place in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        (copy / file).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptError, match=file):
            open_corpus(str(copy))
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\n"):
        (copy / file).write_bytes(damaged)
        with pytest.raises(CorruptError, match=file):
            open_corpus(str(copy))
    (copy / file).unlink()
    with pytest.raises(CorruptError, match=f"{file} is missing"):
        open_corpus(str(copy))
    (copy / file).write_bytes(whole)
    open_corpus(str(copy))


def test_a_manifest_that_is_damaged_of_another_schema_or_absent_is_refused(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    manifest = copy / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match="not valid JSON"):
        open_corpus(str(copy))
    manifest.write_text(whole.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ConfigError, match="schema 99"):
        open_corpus(str(copy))
    manifest.unlink()
    with pytest.raises(ConfigError, match="bertlab prepare"):
        open_corpus(str(copy))


def test_every_refusal_is_one_line(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(BertlabError) as caught:
        verify_files(tmp_path, json.loads((corpus / "manifest.json").read_text())["files"])
    assert "\n" not in str(caught.value)
