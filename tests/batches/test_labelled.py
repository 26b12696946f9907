"""bertlab/batches/labelled.py against transformers' own encoding by the saved tokenizer, and a plain loop for truncation."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.batches.labelled import Examples, encode_examples
from bertlab.tokens.tokenizer import Tokenizer, train

TEXTS = [
    "The river runs slowly through the old town.",
    "",
    "A bridge of stone was built in 1783, and rebuilt in 1901!",
    "river",
    "Two towns, one river: naïve façades, 東京 and Zürich.",
    "   ",
    "Who built the bridge? The people of the town built the bridge in 1783.",
    "Snow ☃ falls; unheard-of characters remain.",
] * 3
OTHERS = TEXTS[3:] + TEXTS[:3]


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train(TEXTS * 4, kind=request.param, vocab_size=400, lowercase=True)


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same tokenizer, opened by transformers from the folder that we save."""
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder, 512)
    return AutoTokenizer.from_pretrained(str(folder))


def rows(examples: Examples) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of each example."""
    spans = zip(examples.offsets[:-1], examples.offsets[1:], strict=True)
    return [(examples.ids[start:end].tolist(), examples.segments[start:end].tolist()) for start, end in spans]


def made_up(lengths: list[int], labels: list[int] | None = None) -> Examples:
    """Examples whose tokens are their own addresses."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    known = np.array(labels if labels is not None else [-1] * len(lengths), dtype=np.int64)
    return Examples(np.arange(offsets[-1], dtype=np.int32), np.zeros(offsets[-1], dtype=np.int8), offsets, known, 0)


def test_a_balanced_epoch_visits_all_classes_alike_and_every_example_before_any_is_visited_again() -> None:
    """Of 20, 6 and 4 examples an epoch of 30 has 10 each; the class numbers have a gap, as after a dev split that took all of one."""
    labels = [7] * 20 + [2] * 6 + [0] * 4
    examples = made_up([2] * 30, [labels[(place * 7) % 30] for place in range(30)])
    steps = examples.steps_per_epoch(8)
    epochs = [[row for step in range(steps) for row in examples.balanced(epoch * steps + step, 8, 3).tolist()] for epoch in range(4)]
    assert [len(examples.balanced(step, 8, 3)) for step in range(steps)] == [8, 8, 8, 6]
    for epoch in epochs:
        assert Counter(examples.labels[epoch].tolist()) == {7: 10, 2: 10, 0: 10}
    for number, size in ((7, 20), (2, 6), (0, 4)):
        visited = Counter(row for epoch in epochs for row in epoch if examples.labels[row] == number)
        assert len(visited) == size and set(visited.values()) <= {40 // size, -(-40 // size)}
    assert epochs[0] != epochs[1] and sorted(epochs[0]) != epochs[0]
    kinds = examples.labels[epochs[0]].tolist()
    assert kinds != sorted(kinds) and kinds != (kinds[:3] * 10)  # classes are not one after the other, nor in turn
    again = made_up([2] * 30, examples.labels.tolist())
    assert again.balanced(5, 8, 3).tolist() == examples.balanced(5, 8, 3).tolist() != examples.balanced(5, 8, 4).tolist()


@pytest.mark.parametrize("sizes", [(10, 1), (3, 3, 2), (1,), (5, 1, 1, 1)])
def test_classes_that_do_not_divide_an_epoch_differ_by_one(sizes: tuple[int, ...]) -> None:
    examples = made_up([2] * sum(sizes), [label for label, size in enumerate(sizes) for _ in range(size)])
    visits = np.zeros(len(examples), dtype=np.int64)
    for epoch in range(5):
        rows = np.concatenate([examples.balanced(epoch * examples.steps_per_epoch(3) + step, 3, 0) for step in range(-(-sum(sizes) // 3))])
        counts = np.bincount(examples.labels[rows], minlength=len(sizes))
        assert counts.sum() == sum(sizes) and counts.max() - counts.min() <= 1
        visits += np.bincount(rows, minlength=len(examples))
        for label in range(len(sizes)):  # none again before all
            assert np.ptp(visits[examples.labels == label]) <= 1


def test_single_texts_are_encoded_as_transformers_encodes_them(tokenizer: Tokenizer, theirs: Any) -> None:
    expected = theirs(TEXTS)
    ours = encode_examples(tokenizer, TEXTS, max_length=512)
    assert rows(ours) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))
    assert ours.num_truncated == 0 and len(ours) == len(TEXTS) and ours.labels.tolist() == [-1] * len(TEXTS)


def test_pairs_are_encoded_as_transformers_encodes_them(tokenizer: Tokenizer, theirs: Any) -> None:
    expected = theirs(TEXTS, OTHERS)
    ours = encode_examples(tokenizer, TEXTS, OTHERS, max_length=512)
    assert rows(ours) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))
    assert ours.num_truncated == 0


def test_single_texts_that_are_too_long_are_cut_as_transformers_cuts_them(tokenizer: Tokenizer, theirs: Any) -> None:
    for max_length in (5, 8, 13):
        expected = theirs(TEXTS, truncation=True, max_length=max_length)
        ours = encode_examples(tokenizer, TEXTS, max_length=max_length)
        assert rows(ours) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))
        wanted = [len(ids) for ids in theirs(TEXTS)["input_ids"]]
        assert ours.num_truncated == sum(length > max_length for length in wanted) > 0


@pytest.mark.parametrize("max_length", [5, 6, 11, 16, 23])
def test_a_pair_that_is_too_long_loses_tokens_at_the_end_of_its_longer_side(tokenizer: Tokenizer, max_length: int) -> None:
    ids_a, offsets_a = tokenizer.encode(TEXTS)
    ids_b, offsets_b = tokenizer.encode(OTHERS)
    expected, truncated = [], 0
    for n in range(len(TEXTS)):
        a, b = ids_a[offsets_a[n] : offsets_a[n + 1]].tolist(), ids_b[offsets_b[n] : offsets_b[n + 1]].tolist()
        truncated += len(a) + len(b) + 3 > max_length
        while len(a) + len(b) + 3 > max_length:
            (a if len(a) > len(b) else b).pop()
        ids = [tokenizer.cls_id, *a, tokenizer.sep_id, *b, tokenizer.sep_id]
        expected.append((ids, [0] * (len(a) + 2) + [1] * (len(b) + 1)))
    ours = encode_examples(tokenizer, TEXTS, OTHERS, max_length=max_length)
    assert rows(ours) == expected and ours.num_truncated == truncated > 0
    assert ours.lengths.max() == max_length


def test_an_empty_text_is_cls_and_sep_and_an_empty_pair_has_a_second_sep(tokenizer: Tokenizer) -> None:
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert rows(encode_examples(tokenizer, [""], max_length=5)) == [([cls, sep], [0, 0])]
    assert rows(encode_examples(tokenizer, [""], [""], max_length=5)) == [([cls, sep, sep], [0, 0, 1])]
    (ids, segments) = rows(encode_examples(tokenizer, [""], ["river"], max_length=64))[0]
    assert ids[:2] == [cls, sep] and segments == [0, 0] + [1] * (len(ids) - 2) and len(ids) > 3


def test_no_texts_are_no_examples(tokenizer: Tokenizer) -> None:
    for nothing in (encode_examples(tokenizer, [], max_length=16), encode_examples(tokenizer, [], [], labels=[], max_length=16)):
        assert len(nothing) == 0 and nothing.num_truncated == 0 and list(nothing.by_length(100)) == []


def test_text_that_spells_a_special_token_does_not_become_one(tokenizer: Tokenizer) -> None:
    single = encode_examples(tokenizer, ["the [SEP] river [CLS] [MASK]"], max_length=64).ids
    pair = encode_examples(tokenizer, ["[SEP]"], ["[SEP] [PAD]"], max_length=64).ids
    assert (single == tokenizer.sep_id).sum() == (single == tokenizer.cls_id).sum() == 1 and tokenizer.mask_id not in single
    assert (pair == tokenizer.sep_id).sum() == 2 and tokenizer.pad_id not in pair


def test_labels_and_rows_travel_with_their_examples(tokenizer: Tokenizer) -> None:
    labels = [n * 7 % 5 for n in range(len(TEXTS))]
    examples = encode_examples(tokenizer, TEXTS, OTHERS, labels=labels, max_length=30)
    chosen = np.array([5, 0, 19, 5])
    batch = examples.batch(chosen)
    assert batch.rows.tolist() == chosen.tolist() and batch.labels.tolist() == [labels[row] for row in chosen]
    assert batch.labels.dtype == batch.rows.dtype == torch.int64
    everything = rows(examples)
    for n, row in enumerate(chosen):
        own = slice(int(batch.cu_seqlens[n]), int(batch.cu_seqlens[n + 1]))
        assert (batch.input_ids[own].tolist(), batch.token_type_ids[own].tolist()) == everything[row]
        assert batch.position_ids[own].tolist() == list(range(len(everything[row][0])))
    assert batch.num_sequences == 4 and batch.max_seqlen == max(len(everything[row][0]) for row in chosen)


example_lengths = st.lists(st.integers(2, 60), max_size=60)


@given(example_lengths, st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_by_length_visits_every_row_once_longest_first_within_the_budget(lengths: list[int], micro_tokens: int) -> None:
    examples = made_up(lengths)
    visited: list[int] = []
    for batch in examples.by_length(micro_tokens):
        assert batch.num_tokens <= micro_tokens or batch.num_sequences == 1
        for n, row in enumerate(batch.rows.tolist()):
            own = batch.input_ids[batch.cu_seqlens[n] : batch.cu_seqlens[n + 1]].tolist()
            assert own == list(range(examples.offsets[row], examples.offsets[row + 1]))
        visited += batch.rows.tolist()
    assert sorted(visited) == list(range(len(lengths)))
    assert [lengths[row] for row in visited] == sorted(lengths, reverse=True)


@given(st.integers(1, 80), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_shuffled_is_a_permutation_of_the_rows_in_every_epoch(count: int, batch_size: int, seed: int) -> None:
    examples = made_up([2] * count)
    steps = examples.steps_per_epoch(batch_size)
    assert steps == len(range(0, count, batch_size))
    for epoch in range(3):
        parts = [examples.shuffled(epoch * steps + step, batch_size, seed) for step in range(steps)]
        assert all(len(part) == batch_size for part in parts[:-1]) and 0 < len(parts[-1]) <= batch_size
        assert sorted(np.concatenate(parts).tolist()) == list(range(count))


def test_shuffled_differs_between_epochs_and_seeds_and_is_the_same_when_asked_again() -> None:
    examples = made_up([2] * 40)
    orders = {tuple(examples.shuffled(epoch, 40, seed).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100
    assert examples.shuffled(7, 8, 3).tolist() == made_up([2] * 40).shuffled(7, 8, 3).tolist()
