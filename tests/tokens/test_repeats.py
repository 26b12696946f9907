"""Repeated sentences: counted as a plain Counter counts them, or within the error that is stated."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.tokens import repeats
from bertlab.tokens.repeats import Tally, sentence_facts, sentence_hashes
from bertlab.tokens.shards import Documents, ShardWriter

Made = Callable[..., Documents]
VOCABULARY = 50


@pytest.fixture
def make(tmp_path: Path) -> Made:
    """make(documents, shard_tokens=...): a split of documents, each a list of sentences, each a list of ids."""

    def made(documents: Sequence[Sequence[Sequence[int]]], shard_tokens: int = 2**20) -> Documents:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        writer = ShardWriter(folder, np.dtype(np.uint16), shard_tokens)
        for number, sentences in enumerate(documents):
            ids, lengths = np.concatenate(list(map(np.array, sentences))), np.array(list(map(len, sentences)))
            writer.add(str(number), "made up", "0" * 64, ids, lengths)
        writer.close()
        return Documents(folder)

    return made


def facts_of(train: Documents, heldout: Documents | None = None, **more: Any) -> dict[str, Any]:
    return sentence_facts(train, heldout, VOCABULARY, top=5, report=lambda done, words: None, **more)


def random_documents(number: int, words: int) -> list[list[list[int]]]:
    """Short sentences over few words, so that many are equal."""
    draw = np.random.default_rng(number)
    return [[draw.integers(0, words, draw.integers(1, 4)).tolist() for _ in range(draw.integers(1, 9))] for _ in range(number)]


def test_equal_sentences_have_equal_hashes_and_others_do_not(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [[1], [1, 1], [1, 2], [2, 1], [1, 2, 3], [3, 2, 1], [2, 1, 3], [0], [0, 0], [1, 0], [0, 1], [5] * 100, [5] * 101]
    monkeypatch.setattr(repeats, "BLOCK_TOKENS", 16)  # the longest sentences are more than a block
    blocks = sentence_hashes(make([sentences, sentences[::-1]], shard_tokens=50), VOCABULARY)
    hashes, lengths, addresses = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    assert lengths.tolist() == list(map(len, sentences)) + list(map(len, sentences[::-1]))
    assert addresses.tolist() == [0, *np.cumsum(lengths)[:-1].tolist()]
    assert hashes[:13].tolist() == hashes[:12:-1].tolist()
    assert len(set(hashes.tolist())) == len(sentences)


@pytest.mark.parametrize("block, shard", [(7, 2**20), (2**18, 2**20), (64, 100)])
def test_counts_are_those_of_a_counter_whatever_the_blocks_and_shards(
    make: Made, monkeypatch: pytest.MonkeyPatch, block: int, shard: int
) -> None:
    monkeypatch.setattr(repeats, "BLOCK_TOKENS", block)
    documents = random_documents(60, words=5)
    train = make(documents, shard_tokens=shard)
    counter = Counter(tuple(sentence) for document in documents for sentence in document)
    repeated = facts_of(train)["repeated"]
    total = sum(counter.values())
    assert repeated["sentences"] == total
    assert (repeated["different"], repeated["counted_share"], repeated["short_by"]) == (len(counter), 1.0, 0)
    assert repeated["again_share"] == (total - len(counter)) / total
    assert [sentence["count"] for sentence in repeated["most_frequent"]] == [count for _, count in counter.most_common(5)]
    for sentence in repeated["most_frequent"]:
        ids = np.empty(sentence["length"], dtype=np.int64)
        train.copy_tokens([sentence["address"]], [len(ids)], ids, [0])
        assert counter[tuple(ids.tolist())] == sentence["count"]


def test_what_stands_once_is_not_called_frequent(make: Made) -> None:
    assert facts_of(make([[[1], [2]], [[3, 4]]]))["repeated"]["most_frequent"] == []


def test_held_out_sentences_that_stand_in_train_are_counted_by_length(make: Made) -> None:
    long, other = list(range(10)), list(range(1, 11))
    train = make([[long, [1]], [[2], [2]]])
    heldout = make([[long, long, other], [[1], [3], [2]]])
    assert facts_of(train, heldout)["shared"] == {
        "counted_share": 1.0,
        "sentences": 6,
        "in_train": 4,  # long twice, [1], [2]
        "long_sentences": 3,
        "long_in_train": 2,
    }
    assert facts_of(train)["shared"] is None


def test_a_tally_with_room_is_exact() -> None:
    numbers = np.random.default_rng(0).integers(0, 90, 1000).astype(np.uint64)
    tally = Tally(100)
    for part in np.array_split(numbers, 13):
        tally.add(part)
    tally.settle()
    assert dict(zip(tally.numbers.tolist(), tally.counts.tolist(), strict=True)) == Counter(numbers.tolist())
    assert tally.short_by == 0


def test_a_tally_without_room_keeps_what_is_frequent_and_states_its_error() -> None:
    draw = np.random.default_rng(1)
    numbers = np.concatenate([draw.integers(0, 2**60, 5000), np.full(400, 7), np.full(300, 8)]).astype(np.uint64)
    draw.shuffle(numbers)
    truth, tally = Counter(numbers.tolist()), Tally(50)
    for part in np.array_split(numbers, 100):
        tally.add(part)
        assert len(tally.numbers) <= 50
    tally.settle()
    counted = dict(zip(tally.numbers.tolist(), tally.counts.tolist(), strict=True))
    assert 0 < tally.short_by <= len(numbers) / 50
    assert set(counted) >= {7, 8}
    for number, count in counted.items():
        assert count <= truth[number] <= count + tally.short_by


def test_a_corpus_of_more_sentences_than_are_remembered_is_estimated_from_a_share(make: Made) -> None:
    draw = np.random.default_rng(2)
    rare = [[draw.integers(0, VOCABULARY, 8).tolist()] * 2 for _ in range(4000)]  # each sentence twice
    documents = [*rare, *[[[9, 9, 9]] * 10 for _ in range(300)]]
    train = make(documents, shard_tokens=9000)
    repeated = facts_of(train, make(documents[:3000]), remembered=1000)["repeated"]
    assert repeated["counted_share"] == 1 / 16  # 11,000 sentences, 1,000 remembered
    assert repeated["sentences"] == 11_000
    assert abs(repeated["different"] - 4001) < 5 * np.sqrt(4001 * 15)
    first = repeated["most_frequent"][0]
    assert first["length"] == 3
    assert first["count"] <= 3000 <= first["count"] + repeated["short_by"]
    assert repeated["short_by"] <= 11
    shared = facts_of(train, make(documents[:3000]), remembered=1000)["shared"]
    assert shared["counted_share"] == 1 / 8
    assert shared["in_train"] == shared["sentences"] > 0
