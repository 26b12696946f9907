"""Token shards: what was written is what is read, by us and by `datasets`, in one shard or many."""

from pathlib import Path

import numpy as np
import pytest

from bertlab.errors import CorruptError
from bertlab.tokens.shards import Documents, ShardWriter, ragged_arange

Corpus = list[list[list[int]]]  # documents, sentences, ids


def made_up(documents: int, seed: int, largest: int = 60_000) -> Corpus:
    draw = np.random.default_rng(seed)
    return [[draw.integers(0, largest, draw.integers(1, 9)).tolist() for _ in range(draw.integers(1, 6))] for _ in range(documents)]


def write(folder: Path, corpus: Corpus, dtype: type = np.uint16, shard_tokens: int = 2**20) -> ShardWriter:
    writer = ShardWriter(folder, np.dtype(dtype), shard_tokens)
    for number, sentences in enumerate(corpus):
        ids = np.array([id for sentence in sentences for id in sentence])
        writer.add(f"document {number}", "made up", f"{number:064x}", ids, np.array([len(sentence) for sentence in sentences]))
    writer.close()
    return writer


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("shard_tokens", [1, 100, 2**20])
def test_documents_come_back_as_they_were_written(tmp_path: Path, dtype: type, shard_tokens: int) -> None:
    corpus = made_up(40, seed=1, largest=60_000 if dtype is np.uint16 else 2**31 - 1)
    writer = write(tmp_path / "train", corpus, dtype, shard_tokens)
    documents = Documents(tmp_path / "train")
    assert len(documents.shards) == {1: 40, 2**20: 1}.get(shard_tokens, len(documents.shards))
    assert len(documents.shards) > 1 or shard_tokens == 2**20
    assert [[sentence.tolist() for sentence in documents.document(number)] for number in range(40)] == corpus
    sentences = [sentence for document in corpus for sentence in document]
    assert documents.num_documents == writer.documents == 40
    assert documents.num_sentences == writer.sentences == len(sentences)
    assert documents.num_tokens == writer.tokens == sum(map(len, sentences))


@pytest.mark.parametrize("shard_tokens", [1, 100, 2**20])
def test_datasets_opens_the_same_documents(tmp_path: Path, shard_tokens: int) -> None:
    datasets = pytest.importorskip("datasets")
    corpus = made_up(40, seed=2)
    write(tmp_path / "train", corpus, shard_tokens=shard_tokens)
    opened = datasets.load_from_disk(str(tmp_path / "train"))
    assert opened["tokens"][:] == corpus
    assert opened["id"][:] == [f"document {number}" for number in range(40)]
    assert opened["source"][:] == ["made up"] * 40
    assert opened["sha256"][:] == [f"{number:064x}" for number in range(40)]


@pytest.mark.parametrize("shard_tokens", [1, 100, 2**20])
def test_lengths_and_addresses_lead_to_the_sentences_of_any_documents_in_any_order(tmp_path: Path, shard_tokens: int) -> None:
    corpus = made_up(40, seed=3)
    write(tmp_path / "train", corpus, shard_tokens=shard_tokens)
    documents = Documents(tmp_path / "train")
    flat = [id for document in corpus for sentence in document for id in sentence]
    asked = np.random.default_rng(4).permutation(40)[:25]
    lengths, bounds, addresses = documents.sentences(asked)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    for number, document in enumerate(asked):
        of_document = lengths[bounds[number] : bounds[number + 1]]
        assert of_document.tolist() == [len(sentence) for sentence in corpus[document]]
        start = addresses[number]
        assert flat[start : start + of_document.sum()] == [id for sentence in corpus[document] for id in sentence]
    totals = np.add.reduceat(lengths, bounds[:-1])
    places = np.cumsum(totals) - totals
    out = np.full(totals.sum(), -1)
    documents.copy_tokens(addresses.tolist(), totals.tolist(), out, places.tolist())
    assert out.tolist() == [id for document in asked for sentence in corpus[document] for id in sentence]


def test_asking_for_no_document_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path / "train", made_up(3, seed=5))
    lengths, bounds, addresses = Documents(tmp_path / "train").sentences(np.empty(0, dtype=np.int64))
    assert (len(lengths), bounds.tolist(), len(addresses)) == (0, [0], 0)


@pytest.mark.parametrize("shard_tokens", [1, 2**20])
def test_token_counts_are_those_of_the_text(tmp_path: Path, shard_tokens: int) -> None:
    corpus = made_up(30, seed=6, largest=50)
    write(tmp_path / "train", corpus, shard_tokens=shard_tokens)
    flat = [id for document in corpus for sentence in document for id in sentence]
    assert Documents(tmp_path / "train").token_counts(60).tolist() == [flat.count(id) for id in range(60)]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, made_up(20, seed=7), shard_tokens=50)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_reading_copies_nothing(tmp_path: Path) -> None:
    write(tmp_path / "train", made_up(20, seed=8))
    (shard,) = Documents(tmp_path / "train").shards
    for view in (shard.tokens, shard.sentence_offsets, shard.document_offsets):
        assert not view.flags.owndata
        assert not view.flags.writeable


def test_a_sentence_without_tokens_is_a_broken_promise(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "train", np.dtype(np.uint16))
    for ids, lengths in (([1, 2], [2, 0]), ([1, 2], [1]), ([], [])):
        with pytest.raises(AssertionError):
            writer.add("a", "b", "c", np.array(ids, dtype=np.int64), np.array(lengths, dtype=np.int64))


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="no shard"):
        Documents(tmp_path)
    write(tmp_path / "train", made_up(20, seed=9))
    (path,) = (tmp_path / "train").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptError, match="not a token shard of ours"):
        Documents(tmp_path / "train")


def test_ragged_arange_counts_from_nought_for_each() -> None:
    assert ragged_arange(np.array([3, 0, 2])).tolist() == [0, 1, 2, 0, 1]
    assert ragged_arange(np.array([], dtype=np.int64)).tolist() == []
