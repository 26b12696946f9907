"""The survey counts the pairs of an epoch as a reader of the batches would, token by token."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tokenizers as backends
from tokenizers import decoders, models, pre_tokenizers

from bertlab.batches.masking import Masking
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.batches.survey import batches_for, pair_facts, sample_documents, sample_pairs, tokens_seen
from bertlab.tokens.shards import Documents
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer

MakeDocuments = Callable[..., Documents]
CLS, SEP, MASK, FIRST_ID = 2, 3, 4, 10


def survey(documents: Documents, max_length: int, **changed: Any) -> tuple[PretrainingBatches, dict[str, Any]]:
    special = np.arange(FIRST_ID + documents.num_tokens) < FIRST_ID
    settings: dict[str, Any] = {"seed": 0, "max_length": max_length, "micro_tokens": 1000, "block_sentences": 64} | changed
    batches = PretrainingBatches(documents, Masking(MASK, special), cls_id=CLS, sep_id=SEP, **settings)
    return batches, pair_facts(batches, lambda done, words: None)


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """A vocabulary of the ids 0 to 699: the special tokens, then w5, w6, ..."""
    names = [*SPECIAL_TOKENS, *(f"w{id}" for id in range(5, 700))]
    backend = backends.Tokenizer(models.WordPiece({name: id for id, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(cleanup=False)
    return Tokenizer(backend, "made here")


@pytest.mark.parametrize("max_length, seed", [(16, 0), (32, 1), (128, 2)])
def test_an_epoch_is_counted_as_its_batches_hold_it(make_documents: MakeDocuments, max_length: int, seed: int) -> None:
    draw = np.random.default_rng(5)
    documents = make_documents([draw.integers(1, 30, size=draw.integers(1, 9)).tolist() for _ in range(60)], FIRST_ID, shard_tokens=900)
    batches, facts = survey(documents, max_length, seed=seed)
    assert batches.blocks > 1
    seen: set[int] = set()
    pairs = random = tokens = text = 0
    for batch in batches.one_epoch():
        ids = batch.input_ids.clone()
        ids[batch.mlm_positions] = batch.mlm_labels
        pairs += batch.num_sequences
        random += int(batch.nsp_labels.sum())
        tokens += batch.num_tokens
        ordinary = ids[ids >= FIRST_ID].tolist()
        text += len(ordinary)
        seen |= set(ordinary)
    assert facts["pairs"] == pairs and facts["mean_length"] == tokens / pairs
    assert facts["text_tokens"] == text and facts["text_share"] == text / documents.num_tokens
    assert facts["left_out"] == documents.num_tokens - len(seen)
    assert facts["left_out_share"] == facts["left_out"] / documents.num_tokens
    assert facts["random_share"] == random / pairs
    assert facts["majority"] == max(random, pairs - random) / pairs
    assert 0 < facts["forced_share"] <= facts["random_share"]


def test_the_commoner_answer_may_be_that_b_follows(make_documents: MakeDocuments) -> None:
    documents = make_documents([[9] * 12 for _ in range(20)], FIRST_ID)
    facts = [survey(documents, 64, seed=seed)[1] for seed in range(12)]
    shares = [each["random_share"] for each in facts]
    assert min(shares) < 0.5 < max(shares)
    assert [each["majority"] for each in facts] == pytest.approx([max(share, 1 - share) for share in shares])


def test_documents_of_one_sentence_make_random_pairs_alone(make_documents: MakeDocuments) -> None:
    _, facts = survey(make_documents([[5]] * 40, FIRST_ID), 64)
    assert facts["pairs"] == 40
    assert facts["random_share"] == facts["forced_share"] == facts["majority"] == 1.0
    assert facts["left_out"] == 0
    assert facts["text_tokens"] == 400  # each sentence of 5, and one of another document beside it
    assert facts["mean_length"] == 13


def test_what_no_pair_can_hold_is_counted_to_the_token(make_documents: MakeDocuments) -> None:
    documents = make_documents([[12, 13, 20], [5, 5], [40]], FIRST_ID, shard_tokens=30)
    _, facts = survey(documents, 16)  # [CLS] A [SEP] B [SEP] with one token of B: 12 are left for A
    assert facts["long_sentences"] == 3
    assert facts["over_long"] == 1 + 8 + 28
    assert facts["over_long_share"] == 37 / 95
    assert facts["left_out"] >= 1 + 7 + 27  # at most all 13 places
    _, facts = survey(documents, 128)
    assert (facts["long_sentences"], facts["over_long"], facts["left_out"]) == (0, 0, 0)


def test_places_that_overlap_count_once(make_documents: MakeDocuments) -> None:
    draw = np.random.default_rng(7)
    documents = make_documents([draw.integers(1, 9, size=draw.integers(1, 9)).tolist() for _ in range(30)], FIRST_ID)
    for seed in range(20):
        batches, _ = survey(documents, 24, seed=seed)
        plan = batches.block(0).pairs
        runs = [*zip(plan.a_start, plan.a_length, strict=True), *zip(plan.b_start, plan.b_length, strict=True)]
        assert tokens_seen(plan) == len({place for start, length in runs for place in range(start, start + length)})


def test_sample_documents_differ_are_the_same_again_and_are_clipped(make_documents: MakeDocuments, words: Tokenizer) -> None:
    documents = make_documents([[3, 2]] * 20 + [[90, 80]], 5, shard_tokens=30)
    samples = sample_documents(documents, words, 12, seed=4)
    assert len({sample["id"] for sample in samples}) == 12
    assert samples == sample_documents(documents, words, 12, seed=4) != sample_documents(documents, words, 12, seed=5)
    every = {sample["id"]: sample for sample in sample_documents(documents, words, 100, seed=4)}
    assert len(every) == 21
    first = {"id": "document 7", "source": "made up", "sentences": 2, "tokens": 5, "text": "w40 w41 w42 w43 w44", "is_whole": True}
    assert every["document 7"] == first
    long = every["document 20"]
    assert (long["tokens"], len(long["text"]), long["is_whole"]) == (170, 200, False)
    assert long["text"].startswith("w105 w106")


def test_sample_pairs_are_the_first_that_a_run_trains_on(make_documents: MakeDocuments, words: Tokenizer) -> None:
    documents = make_documents([[4, 5, 6]] * 40, 5, shard_tokens=100)
    batches = batches_for(documents, words, max_length=16, seed=3)
    batches.micro_tokens = 64  # several micro-batches for twelve pairs
    shown = sample_pairs(batches, words, 12)
    assert len(shown) == 12 and {pair["micro_batch"] for pair in shown} > {0}
    row = 0
    for number in range(shown[-1]["micro_batch"] + 1):
        batch = batches.micro(number)
        hidden = dict(zip(batch.mlm_positions.tolist(), batch.mlm_labels.tolist(), strict=True))
        bounds = batch.cu_seqlens.tolist()
        for sequence, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            if row == 12:
                break
            pair = shown[row]
            assert pair["micro_batch"] == number and pair["follows"] == (batch.nsp_labels[sequence] == 0)
            assert pair["pieces"] == [words.token(id) for id in batch.input_ids[start:end].tolist()]
            assert pair["pieces"][0] == "[CLS]" and pair["pieces"][-1] == pair["pieces"][pair["second"] - 1] == "[SEP]"
            assert pair["masked"] == [[place - start, words.token(id)] for place, id in sorted(hidden.items()) if start <= place < end]
            assert pair["masked"]
            row += 1
    assert sample_pairs(batches, words, 0) == []
