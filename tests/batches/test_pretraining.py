"""bertlab/batches/pretraining.py: a micro-batch is a function of its number alone, and holds what the plan says.

Every token of these corpora has its own id (FIRST_ID + address), so a batch is traced back to documents token by token.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from bertlab.batches.flat import PretrainingBatch, fill_budget
from bertlab.batches.masking import Masking
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.errors import DataError
from bertlab.tokens.shards import Documents

MakeDocuments = Callable[..., Documents]
CLS, SEP, MASK, FIRST_ID = 2, 3, 4, 10
SETTINGS: dict[str, Any] = {"seed": 0, "max_length": 32, "micro_tokens": 100, "block_sentences": 64}


@pytest.fixture(scope="module")
def documents(make_documents: MakeDocuments) -> Documents:
    """61 documents of 1-12 sentences of 1-15 tokens, in several shards."""
    generator = np.random.default_rng(1)
    lengths = [generator.integers(1, 16, size=generator.integers(1, 13)).tolist() for _ in range(61)]
    made = make_documents(lengths, FIRST_ID, shard_tokens=700)
    assert len(made.shards) >= 3
    return made


@pytest.fixture(scope="module")
def even_documents(make_documents: MakeDocuments) -> Documents:
    """50 documents of 1-9 sentences of 4 tokens: pairs of max_length 3 + 4 * n are never cut."""
    generator = np.random.default_rng(2)
    made = make_documents([[4] * generator.integers(1, 10) for _ in range(50)], FIRST_ID, shard_tokens=300)
    assert len(made.shards) >= 3
    return made


def batches_of(documents: Documents, **changed: Any) -> PretrainingBatches:
    special = np.arange(FIRST_ID + documents.num_tokens) < FIRST_ID
    return PretrainingBatches(documents, Masking(MASK, special), cls_id=CLS, sep_id=SEP, **(SETTINGS | changed))


def contents(batch: PretrainingBatch) -> dict[str, Any]:
    """A batch as plain lists and numbers, to be compared."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return {name: (str(value.dtype), value.tolist()) if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def epoch_numbers(batches: PretrainingBatches, epoch: int) -> list[int]:
    """The numbers of the micro-batches of one epoch."""
    numbers, number = [], 0
    while batches.place(number)[0] < (epoch + 1) * batches.blocks:
        if batches.place(number)[0] >= epoch * batches.blocks:
            numbers.append(number)
        number += 1
    return numbers


@dataclass(frozen=True)
class Seen:
    """One sequence of a batch, unmasked: addresses of the tokens of A and B, and its label."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    label: int


def read(batch: PretrainingBatch) -> list[Seen]:
    """Unmask a batch and take it apart; checks the frame of every sequence on the way."""
    ids = batch.input_ids.clone()
    ids[batch.mlm_positions] = batch.mlm_labels
    seen = []
    for n, (start, end) in enumerate(pairwise(batch.cu_seqlens.tolist())):
        own, segments = ids[start:end].tolist(), batch.token_type_ids[start:end].tolist()
        first_sep = own.index(SEP)
        assert own[0] == CLS and own[-1] == SEP and [place for place, id in enumerate(own) if id < FIRST_ID] == [0, first_sep, len(own) - 1]
        assert segments == [0] * (first_sep + 1) + [1] * (len(own) - first_sep - 1)
        assert batch.position_ids[start:end].tolist() == list(range(len(own)))
        a, b = own[1:first_sep], own[first_sep + 1 : -1]
        seen.append(Seen(tuple(id - FIRST_ID for id in a), tuple(id - FIRST_ID for id in b), int(batch.nsp_labels[n])))
    return seen


def document_of(documents: Documents, addresses: tuple[int, ...]) -> int:
    """The one document that holds all these tokens."""
    sizes = [sum(map(len, documents.document(number))) for number in range(documents.num_documents)]
    found = set(np.searchsorted(np.cumsum(sizes), addresses, side="right").tolist())
    assert len(found) == 1
    return found.pop()


class ByNumber(Dataset[PretrainingBatch]):
    def __init__(self, batches: PretrainingBatches, numbers: list[int]) -> None:
        self.batches, self.numbers = batches, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> PretrainingBatch:
        return self.batches.micro(self.numbers[index])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than cores: that is the point
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_batches_are_the_same_for_any_number_of_loader_workers(documents: Documents, workers: int) -> None:
    numbers = list(range(20, 60))
    context = "fork" if workers else None
    loader = DataLoader(ByNumber(batches_of(documents), numbers), batch_size=None, num_workers=workers, multiprocessing_context=context)
    fresh = batches_of(documents)
    assert [contents(batch) for batch in loader] == [contents(fresh.micro(number)) for number in numbers]


def test_a_micro_batch_is_the_same_from_any_number_onward_and_in_any_order(documents: Documents) -> None:
    in_order = batches_of(documents)
    expected = [contents(in_order.micro(number)) for number in range(120)]
    assert in_order.place(119)[0] >= 2 * in_order.blocks, "the test must reach the third epoch"
    for first in (1, 37, 80, 119):
        assert contents(batches_of(documents).micro(first)) == expected[first]
    anywhere = batches_of(documents)
    for number in [*np.random.default_rng(0).permutation(120).tolist(), 0, 119, 0, 60]:
        assert contents(anywhere.micro(number)) == expected[number]


def test_batches_do_not_depend_on_how_the_corpus_lies_in_shards(make_documents: MakeDocuments) -> None:
    lengths = [[3, 5, 2], [7], [4, 4], [9, 1, 1, 6]] * 5
    one, many = make_documents(lengths, FIRST_ID), make_documents(lengths, FIRST_ID, shard_tokens=1)
    assert len(one.shards) == 1 and len(many.shards) == 20
    for number in range(20):
        assert contents(batches_of(one).micro(number)) == contents(batches_of(many).micro(number))


def test_every_sequence_is_framed_and_its_tokens_are_runs_of_documents(documents: Documents) -> None:
    batches = batches_of(documents)
    labels = []
    for number in epoch_numbers(batches, 0):
        for seen in read(batches.micro(number)):
            for side in (seen.a, seen.b):
                assert side == tuple(range(side[0], side[0] + len(side)))
            same_document = document_of(documents, seen.a) == document_of(documents, seen.b)
            assert same_document == (seen.label == 0)
            assert seen.label == 1 or seen.b[0] > seen.a[-1]
            labels.append(seen.label)
    assert set(labels) == {0, 1}


def test_a_true_b_begins_where_its_a_ends(even_documents: Documents) -> None:
    batches = batches_of(even_documents, max_length=3 + 4 * 6)
    seen = [pair for number in epoch_numbers(batches, 0) for pair in read(batches.micro(number))]
    followed = [pair for pair in seen if pair.label == 0]
    assert followed and all(pair.b[0] == pair.a[-1] + 1 for pair in followed)


def test_the_fields_have_the_shapes_and_types_of_a_flat_batch(documents: Documents) -> None:
    batches = batches_of(documents)
    for number in range(50):
        batch = batches.micro(number)
        tokens, sequences, masked = batch.num_tokens, batch.num_sequences, len(batch.mlm_positions)
        for values, size in [
            (batch.input_ids, tokens),
            (batch.token_type_ids, tokens),
            (batch.position_ids, tokens),
            (batch.mlm_positions, masked),
            (batch.mlm_labels, masked),
            (batch.nsp_labels, sequences),
        ]:
            assert values.dtype == torch.int64 and values.shape == (size,)
        assert batch.cu_seqlens.dtype == torch.int32 and batch.cu_seqlens[0] == 0 and batch.cu_seqlens[-1] == tokens
        assert batch.max_seqlen == int(batch.cu_seqlens.diff().max()) <= 32
        assert (batch.mlm_labels >= FIRST_ID).all()
        per_sequence = torch.bincount(torch.searchsorted(batch.cu_seqlens, batch.mlm_positions, right=True) - 1, minlength=sequences)
        expected = [min(size - 3, max(1, round(0.15 * size))) for size in batch.cu_seqlens.diff().tolist()]
        assert per_sequence.tolist() == expected


@pytest.mark.parametrize("block_sentences", [1, 20, 64, 10**6])
def test_every_epoch_holds_every_sentence_once_as_a_or_true_b(even_documents: Documents, block_sentences: int) -> None:
    batches = batches_of(even_documents, max_length=3 + 4 * 5, block_sentences=block_sentences)
    assert batches.blocks == min(25, -(-even_documents.num_sentences // block_sentences))  # two documents at least in each
    for epoch in range(3):
        seen = [pair for number in epoch_numbers(batches, epoch) for pair in read(batches.micro(number))]
        own = [token for pair in seen for token in (pair.a + pair.b if pair.label == 0 else pair.a)]
        assert sorted(own) == list(range(even_documents.num_tokens))


def test_every_document_begins_some_a_in_every_epoch(documents: Documents) -> None:
    batches = batches_of(documents)
    for epoch in range(3):
        starts = {document_of(documents, pair.a) for number in epoch_numbers(batches, epoch) for pair in read(batches.micro(number))}
        assert starts == set(range(documents.num_documents))


def test_a_random_b_is_of_a_document_of_the_same_block(even_documents: Documents) -> None:
    """What keeps memory to one block: the blocks of an epoch share no document."""
    batches = batches_of(even_documents, max_length=3 + 4 * 5)
    blocks: dict[int, set[int]] = {}
    for number in epoch_numbers(batches, 0):
        for pair in read(batches.micro(number)):
            of_block = blocks.setdefault(batches.place(number)[0], set())
            of_block |= {document_of(even_documents, pair.a), document_of(even_documents, pair.b)}
    assert len(blocks) == batches.blocks > 2
    assert sum(map(len, blocks.values())) == even_documents.num_documents == len(set.union(*blocks.values()))


def test_epochs_and_seeds_differ_in_their_pairs(documents: Documents) -> None:
    plans = []
    for seed, epoch in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        batches = batches_of(documents, seed=seed)
        plans.append([pair for number in epoch_numbers(batches, epoch) for pair in read(batches.micro(number))])
    for first, second in combinations(plans, 2):
        for label in (0, 1):
            in_first, in_second = ({pair for pair in plan if pair.label == label} for plan in (first, second))
            assert len(in_first & in_second) < len(in_first) / 3


def test_epochs_and_seeds_differ_in_the_documents_of_their_blocks(documents: Documents) -> None:
    """And a block is no stretch of the corpus: its documents come from everywhere."""
    first_blocks = []
    for seed, epoch in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        batches = batches_of(documents, seed=seed)
        numbers = [number for number in epoch_numbers(batches, epoch) if batches.place(number)[0] == epoch * batches.blocks]
        first_blocks.append({document_of(documents, pair.a) for number in numbers for pair in read(batches.micro(number))})
    for first, second in combinations(first_blocks, 2):
        assert len(first) > 5 and len(first & second) < len(first) / 2
    assert all(max(block) - min(block) > documents.num_documents / 2 for block in first_blocks)


def test_a_pair_that_comes_again_in_another_epoch_has_another_mask(make_documents: MakeDocuments) -> None:
    """Two documents of one sentence have the same two pairs in every epoch."""
    batches = batches_of(make_documents([[14], [14]], FIRST_ID), max_length=31)
    hidden: dict[int, set[tuple[int, ...]]] = {0: set(), 14: set()}
    for number in range(30):
        batch = batches.micro(number)
        ends = batch.cu_seqlens.tolist()
        for pair, start, end in zip(read(batch), ends[:-1], ends[1:], strict=True):
            own = (batch.mlm_positions >= start) & (batch.mlm_positions < end)
            hidden[pair.a[0]].add(tuple((batch.mlm_positions[own] - start).tolist()))
    assert all(len(masks) == 30 for masks in hidden.values())


def test_the_pairs_of_a_block_are_shuffled(even_documents: Documents) -> None:
    """Neither document by document nor first chunks first: the beginnings of documents lie all over the block."""
    batches = batches_of(even_documents, max_length=3 + 4 * 3, block_sentences=10**6)
    order = [pair.a[0] for number in epoch_numbers(batches, 0) for pair in read(batches.micro(number))]
    documents = [document_of(even_documents, (address,)) for address in order]
    assert sum(first == second for first, second in pairwise(documents)) < len(order) / 10
    begins = np.array(
        [address == 0 or document_of(even_documents, (address - 1,)) != number for address, number in zip(order, documents, strict=True)]
    )
    assert begins.sum() == even_documents.num_documents
    half = begins[: len(order) // 2].sum()
    assert 0.3 * begins.sum() < half < 0.7 * begins.sum()


@pytest.mark.parametrize("micro_tokens", [32, 100, 333])
def test_a_micro_batch_keeps_its_budget_and_could_not_hold_the_next_sequence(documents: Documents, micro_tokens: int) -> None:
    batches = batches_of(documents, micro_tokens=micro_tokens)
    made = [(batches.place(number)[0], batches.micro(number)) for number in epoch_numbers(batches, 0)]
    assert all(batch.num_tokens <= micro_tokens and batch.num_sequences > 0 for _, batch in made)
    for (block, batch), (next_block, following) in pairwise(made):
        assert block != next_block or batch.num_tokens + int(following.cu_seqlens[1]) > micro_tokens


def test_fill_budget_cuts_in_order_and_leaves_a_longer_sequence_alone() -> None:
    assert fill_budget(np.array([5, 5, 5, 1]), 10).tolist() == [0, 2, 4]
    assert fill_budget(np.array([50, 1, 9, 50, 3]), 10).tolist() == [0, 1, 3, 4, 5]
    assert fill_budget(np.array([3]), 10).tolist() == [0, 1]
    assert fill_budget(np.array([], dtype=np.int64), 10).tolist() == [0]


def test_one_epoch_stops_after_the_first_epoch_or_before(documents: Documents) -> None:
    batches = batches_of(documents)
    expected = [contents(batches.micro(number)) for number in epoch_numbers(batches, 0)]
    assert [contents(batch) for batch in batches_of(documents).one_epoch()] == expected
    assert [contents(batch) for batch in batches_of(documents).one_epoch(at_most=5)] == expected[:5]
    assert [contents(batch) for batch in batches_of(documents).one_epoch(at_most=10**6)] == expected
    assert list(batches.one_epoch(at_most=0)) == []


def test_the_passed_epochs_rise_from_zero_by_one_each_epoch(documents: Documents) -> None:
    batches = batches_of(documents)
    passed = [batches.epoch(number) for number in range(120)]
    assert passed[0] == 0 and all(first < second for first, second in pairwise(passed))
    for epoch in (1, 2):
        assert passed[epoch_numbers(batches, epoch)[0]] == epoch


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_documents_are_refused(make_documents: MakeDocuments, count: int) -> None:
    with pytest.raises(DataError, match=f"has {count} document.*prepare more text"):
        batches_of(make_documents([[4, 4, 4]] * count))


def test_two_documents_are_enough(make_documents: MakeDocuments) -> None:
    documents = make_documents([[4, 4, 4], [5]], FIRST_ID)
    batches = batches_of(documents, block_sentences=1)
    assert batches.blocks == 1
    for number in range(20):
        for pair in read(batches.micro(number)):
            assert (document_of(documents, pair.a) != document_of(documents, pair.b)) == (pair.label == 1)
