"""The census of a corpus: every number against one that can be checked by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from bertlab.tokens import census
from bertlab.tokens.shards import Documents, ShardWriter
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer

WORDS = ["the", "mill", "runs", "##s", "river", "\ufffd\x01"]  # ids 5 to 10
Made = Callable[..., Documents]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Splits at white space and levels nothing: a decoded text is the words joined by spaces."""
    return small_tokenizer(WORDS)


def small_tokenizer(words: Sequence[str]) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece({word: id for id, word in enumerate([*SPECIAL_TOKENS, *words])}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(cleanup=False)
    return Tokenizer(backend, "made here")


@pytest.fixture
def make(tmp_path: Path) -> Made:
    def made(documents: Sequence[Sequence[Sequence[int]]], shard_tokens: int = 2**20, source: str = "a", sha: str = "0") -> Documents:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        writer = ShardWriter(folder, np.dtype(np.uint16), shard_tokens)
        for number, sentences in enumerate(documents):
            ids, lengths = np.concatenate(list(map(np.array, sentences))), np.array(list(map(len, sentences)))
            writer.add(f"d{number}", source[number % len(source)], f"{sha[number % len(sha)]}{number:063x}", ids, lengths)
        writer.close()
        return Documents(folder)

    return made


def test_sizes_and_lengths_are_those_of_the_documents_in_one_shard_or_many(make: Made) -> None:
    documents = [[[5] * length for length in lengths] for lengths in ([1], [2, 3], [4, 7, 8], [70_000], [1, 1, 1, 1])]
    for shard_tokens in (2**20, 3):
        facts = census.split_facts(make(documents, shard_tokens))
        assert [facts[name] for name in ("documents", "sentences", "tokens")] == [5, 11, 70_029]
        assert facts["sentences_a_document"] == {
            "mean": 11 / 5,
            "median": 2,
            "percentile_95": 4,
            "largest": 4,
            "bins": [[1, 1, 2], [2, 3, 2], [4, 7, 1]],
        }
        assert facts["tokens_a_sentence"]["bins"][:4] == [[1, 1, 5], [2, 3, 2], [4, 7, 2], [8, 15, 1]]
        assert facts["tokens_a_sentence"]["bins"][-1] == [65_536, 70_000, 1]
        assert (facts["tokens_a_sentence"]["median"], facts["tokens_a_sentence"]["largest"]) == (2, 70_000)
        assert facts["tokens_a_document"]["bins"][:3] == [[1, 1, 1], [2, 3, 0], [4, 7, 2]]
        json.dumps(facts, allow_nan=False)


def test_medians_and_percentiles_are_those_of_a_sorted_list(make: Made) -> None:
    lengths = np.random.default_rng(3).integers(1, 200, 401)
    facts = census.split_facts(make([[[5] * int(length)] for length in lengths], 500))["tokens_a_sentence"]
    assert facts["median"] == sorted(lengths)[200] and facts["percentile_95"] == sorted(lengths)[380]
    assert facts["mean"] == lengths.sum() / 401


def test_sources_are_counted_largest_first_and_the_rest_summed_up(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = make([[[5] * 4], [[5] * 10], [[5]], [[5] * 4], [[5] * 20], [[5]]], 9, source="abc")
    assert census.source_facts(documents) == {
        "sources": [
            {"name": "b", "documents": 2, "tokens": 30, "share": 0.75},
            {"name": "a", "documents": 2, "tokens": 8, "share": 0.2},
            {"name": "c", "documents": 2, "tokens": 2, "share": 0.05},
        ],
        "number": 3,
    }
    monkeypatch.setattr(census, "SOURCES_SHOWN", 1)
    assert [len(census.source_facts(documents)["sources"]), census.source_facts(documents)["number"]] == [1, 3]


def test_use_of_the_vocabulary(make: Made, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> None:
    monkeypatch.setattr(census, "TOP_PIECES", (1, 2, 100))
    train, heldout = make([[[5, 5, 5, 6], [6, 7, tokenizer.unk_id, 5]]]), make([[[5, tokenizer.unk_id]]])
    assert census.vocabulary_facts(tokenizer, train, heldout) == {
        "entries": 6,
        "unused": 3,
        "covered": {"1": 4 / 8, "2": 6 / 8},
        "unknown": 1,
        "unknown_share": 1 / 8,
        "heldout_unknown": 1,
        "heldout_unknown_share": 1 / 2,
    }
    assert census.vocabulary_facts(tokenizer, train, None)["heldout_unknown_share"] is None


def test_tokens_a_word_of_both_vocabularies_on_the_same_decoded_text(make: Made, tokenizer: Tokenizer) -> None:
    documents = make([[[5, 6, 8], [5, 9, tokenizer.unk_id]], [[10, 5]]])  # "the mills", "the river", "\ufffd\x01 the"
    other = small_tokenizer(["the", "m", "##ill", "##s", "\ufffd\x01"])
    facts = census.word_facts(documents, tokenizer, other)
    assert facts["words"] == 6
    assert (facts["characters"], facts["unreadable"]) == (9 + 9 + 6, 2)
    assert facts["own"] == {"vocab_size": 11, "tokens": 7, "tokens_a_word": 7 / 6, "unknown": 0, "unknown_share": 0.0}
    assert facts["compared"] == {"vocab_size": 10, "tokens": 8, "tokens_a_word": 8 / 6, "unknown": 1, "unknown_share": 1 / 8}
    assert census.word_facts(documents, tokenizer, None)["compared"] is None


def test_a_large_split_is_decoded_in_part_from_beginning_to_end(make: Made, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> None:
    monkeypatch.setattr(census, "COMPARED_TOKENS", 100)
    monkeypatch.setattr(census, "DOCUMENT_TOKENS", 7)
    documents = make([[[5 + (number >= 50)] * 10, [7]] for number in range(100)])
    texts = list(census.decoded(documents, tokenizer))
    assert {text.split()[0] for text in texts} == {"the", "mill"}
    assert {len(text.split()) for text in texts} == {7}
    assert sum(len(text.split()) for text in texts) <= 100
    longest = list(census.decoded(make([[[5]] * 1000]), tokenizer))
    assert len(longest) == 7


def test_a_sentence_is_read_back_and_a_long_one_clipped(make: Made, tokenizer: Tokenizer) -> None:
    documents = make([[[5, 6], [9] * 70], [[6, 7]]], shard_tokens=10)
    assert census.text_at(documents, tokenizer, 72, 2) == "mill runs"
    assert census.text_at(documents, tokenizer, 2, 70) == " ".join(["river"] * 60) + " ..."


def test_documents_on_both_sides_are_those_of_equal_sha256(make: Made) -> None:
    documents: Any = [[[5]]] * 6
    assert census.documents_in_both(make(documents, 2, sha="ab"), make(documents, 2, sha="cd")) == 0
    assert census.documents_in_both(make(documents, 2, sha="ab"), make(documents, 2, sha="cb")) == 3
