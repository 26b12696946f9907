"""Batches of texts that mean the same: by number, with the right positives, and nothing a negative that means the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bertlab.batches.flat import IGNORED
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.batches.masking import masking_for
from bertlab.batches.randomness import key
from bertlab.batches.sentence_groups import Classes, GroupBatch, Groups, InMemory, OfCorpus, equal_texts, halves, share_of
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.shards import Documents, ShardWriter
from bertlab.tokens.tokenizer import Tokenizer

LETTERS = [chr(ord("a") + number) for number in range(26)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.train([" ".join(LETTERS)] * 4, kind="wordpiece", vocab_size=100, lowercase=True)


def encoded(tokenizer: Tokenizer, texts: list[str]) -> Examples:
    return encode_examples(tokenizer, texts, max_length=16)


def sequences(batch: GroupBatch) -> list[list[int]]:
    bounds = batch.cu_seqlens.tolist()
    return [batch.input_ids[start:end].tolist() for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def spelled(batch: GroupBatch, tokenizer: Tokenizer) -> list[str]:
    names = {int(tokenizer.encode([letter])[0][0]): letter for letter in LETTERS}
    return [" ".join(names[id] for id in ids[1:-1]) for ids in sequences(batch)]


def test_a_sentence_stands_in_a_batch_twice_framed_by_cls_and_sep(tokenizer):
    groups = Groups(InMemory(encoded(tokenizer, LETTERS)), 1, 4, 0)
    batch = groups.batch(0)
    assert batch.num_rows == 4 and batch.num_sequences == 8
    ids = sequences(batch)
    assert ids[:4] == ids[4:] and all(each[0] == tokenizer.cls_id and each[-1] == tokenizer.sep_id for each in ids)
    assert not batch.no_negatives().any()


def test_a_triplets_columns_stay_in_their_rows(tokenizer):
    texts = ["a", "b", "c", "a d", "b d", "c d", "a e", "b e", "c e"]
    batch = Groups(InMemory(encoded(tokenizer, texts)), 3, 3, 7).batch(5)
    anchors, positives, negatives = np.array(spelled(batch, tokenizer)).reshape(3, 3)
    assert sorted(anchors) == ["a", "b", "c"]
    assert [f"{each} d" for each in anchors] == list(positives) and [f"{each} e" for each in anchors] == list(negatives)


def test_an_epoch_has_every_row_at_most_once_and_the_next_another_order(tokenizer):
    groups = Groups(InMemory(encoded(tokenizer, LETTERS)), 1, 8, 3)
    assert groups.steps_per_epoch == 3
    epochs = [np.concatenate([groups.rows(epoch * 3 + step) for step in range(3)]) for epoch in range(2)]
    assert all(len(set(epoch.tolist())) == 24 for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()
    assert groups.rows(4).tolist() == groups.rows(4).tolist()
    assert Groups(InMemory(encoded(tokenizer, LETTERS)), 1, 8, 4).rows(0).tolist() != groups.rows(0).tolist()


def test_fewer_rows_than_a_batch_are_one_batch(tokenizer):
    groups = Groups(InMemory(encoded(tokenizer, LETTERS[:3])), 1, 64, 0)
    assert groups.steps_per_epoch == 1 and sorted(groups.rows(9).tolist()) == [0, 1, 2]


def test_what_means_the_same_is_no_negative(tokenizer):
    #          anchors              positives             negatives
    texts = ["a", "a", "c", "d"] + ["p", "q", "p", "a"] + ["x", "c", "y", "z"]
    batch = Groups(InMemory(encoded(tokenizer, texts)), 3, 4, 0).batch(0)
    names = spelled(batch, tokenizer)
    known = batch.no_negatives()
    assert known.shape == (4, 8)
    found = {(f"{names[row]}->{names[4 + row]}", names[4 + column]) for row in range(4) for column in range(8) if known[row, column]}
    # the rows of a share their positives; a->p and c->p share p; d's positive is the text a; the text c is a negative of another row
    assert found == {("a->p", "q"), ("a->p", "p"), ("a->p", "a"), ("a->q", "p"), ("a->q", "a"), ("c->p", "p"), ("c->p", "c")}


def test_positives_are_other_texts_of_the_class_and_those_of_the_class_no_negatives(tokenizer):
    numbers = np.array([0, 1, 0, 1, 2, 0])
    groups = Groups(InMemory(encoded(tokenizer, LETTERS[:6])), 1, 6, 0, Classes.of_numbers(numbers))
    drawn: dict[int, set[int]] = {row: set() for row in range(6)}
    for step in range(30):
        batch, rows = groups.batch(step), groups.rows(step)
        names = spelled(batch, tokenizer)
        for place, row in enumerate(rows):
            drawn[int(row)].add(LETTERS.index(names[6 + place]))
        same = numbers[rows][:, None] == numbers[rows]
        assert (batch.no_negatives().numpy() | np.eye(6, dtype=bool) == same).all()
    assert drawn == {0: {2, 5}, 1: {3}, 2: {0, 5}, 3: {1}, 4: {4}, 5: {0, 2}}


def corpus(folder: Path, shard_tokens: int) -> Documents:
    """Three documents of sentences [10], [11, 12] | [20, 21, 22] | [30], [31], [32]."""
    writer = ShardWriter(folder, np.dtype(np.uint16), shard_tokens)
    for number, document in enumerate([[[10], [11, 12]], [[20, 21, 22]], [[30], [31], [32]]]):
        ids = np.array([id for sentence in document for id in sentence])
        writer.add(str(number), "s", "0", ids, np.array([len(sentence) for sentence in document]))
    writer.close()
    return Documents(folder)


@pytest.mark.parametrize("shard_tokens", [1, 1000])
def test_sentences_of_a_corpus_are_read_by_number_from_any_shard(tmp_path, shard_tokens):
    documents = corpus(tmp_path / "split", shard_tokens)
    texts = OfCorpus(documents, 1, 2, 4)
    ids, lengths = texts.taken(np.array([2, 0, 5, 1]))
    assert len(texts) == 6
    assert ids.tolist() == [1, 20, 21, 2, 1, 10, 2, 1, 32, 2, 1, 11, 12, 2]  # cut at 4 tokens
    assert lengths.tolist() == [4, 3, 3, 4]
    assert documents.sentence_bounds().tolist() == [0, 2, 3, 6]


def test_a_neighbour_is_another_sentence_of_the_document(tmp_path):
    classes = Classes(corpus(tmp_path / "split", 1).sentence_bounds())
    rows = np.arange(6)
    assert classes.of(rows).tolist() == [0, 0, 1, 2, 2, 2]
    drawn = np.array([classes.another(rows, key(0, step)) for step in range(40)])
    assert [set(column.tolist()) for column in drawn.T] == [{1}, {0}, {2}, {4, 5}, {3, 5}, {3, 4}]


def test_masked_words_are_those_of_the_anchors_and_bounded(tokenizer):
    groups = Groups(InMemory(encoded(tokenizer, ["a b c d e f", "g h i j k l", "m n o p q r"])), 1, 3, 0)
    batches = list(groups.masked(2, masking_for(tokenizer), 16))
    assert [batch.num_tokens for batch in batches] == [16, 8]
    whole = np.concatenate([batch.input_ids.numpy() for batch in batches])
    plain = groups.batch(2).input_ids[:24].numpy()
    places = np.concatenate([batch.mlm_positions.numpy() + 16 * number for number, batch in enumerate(batches)])
    labels = np.concatenate([batch.mlm_labels.numpy() for batch in batches])
    assert len(labels) == 3 and (plain[places] == labels).all()  # max(1, round(0.15 * 8)) in each
    assert (np.delete(whole, places) == np.delete(plain, places)).all()
    assert all((batch.nsp_labels == IGNORED).all() for batch in batches)
    hidden = [[batch.mlm_positions.tolist() for batch in groups.masked(step, masking_for(tokenizer), 16)] for step in (2, 2, *range(20))]
    assert hidden[0] == hidden[1] and len({str(each) for each in hidden}) > 10, "anew in each step"


def test_equal_texts_have_equal_numbers():
    ids, lengths = np.array([1, 5, 2, 1, 5, 6, 2, 1, 5, 2], dtype=np.int32), np.array([3, 4, 3])
    assert equal_texts(ids, lengths).tolist() == [0, 1, 0]


def test_halves_are_the_two_ends_of_each_text_that_is_long_enough(tokenizer):
    first, second = halves(encoded(tokenizer, ["a b c d e", "a b c", "f g h i"]))
    expected = [encoded(tokenizer, texts) for texts in (["a b", "f g"], ["c d e", "h i"])]
    for found, wanted in zip((first, second), expected, strict=True):
        assert found.ids.tolist() == wanted.ids.tolist() and found.offsets.tolist() == wanted.offsets.tolist()


# ---- several processes


@pytest.mark.parametrize("lengths", [[3, 3, 3, 3], [90, 3, 3, 3], [3, 3, 3, 90], [5], list(range(2, 40))])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_shares_are_all_sequences_once_and_even(lengths, ranks):
    shares = [share_of(np.array(lengths), rank, ranks) for rank in range(ranks)]
    assert [row for first, last in shares for row in range(first, last)] == list(range(len(lengths)))
    loads = [sum(lengths[first:last]) for first, last in shares]
    assert max(loads) <= sum(lengths) / ranks + max(lengths)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_a_share_has_its_sequences_and_knows_of_all(tokenizer, ranks):
    groups = Groups(InMemory(encoded(tokenizer, LETTERS)), 1, 2, 0)
    whole = groups.batch(3)
    parts = [whole.share(rank, ranks) for rank in range(ranks)]
    real = [part for part in parts if not part.is_filler]
    assert [ids for part in real for ids in sequences(part)] == sequences(whole)
    assert [part.first for part in real] == np.cumsum([0, *(part.num_sequences for part in real)]).tolist()[:-1]
    assert all(torch.equal(part.texts, whole.texts) and torch.equal(part.classes, whole.classes) for part in parts)
    assert sum(part.num_tokens for part in parts) == whole.num_tokens and sum(part.num_sequences for part in parts) == 4
    assert [len(sequences(part)) for part in parts if part.is_filler] == [1] * (ranks - len(real)) and len(real) == min(4, ranks)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_what_is_hidden_of_a_text_is_the_same_whichever_process_has_it(tokenizer, ranks):
    texts = [" ".join(LETTERS[start : start + 9]) for start in range(12)]
    groups, masking = Groups(InMemory(encoded(tokenizer, texts)), 1, 5, 4), masking_for(tokenizer)

    def hidden(rank: int, ranks: int) -> list[tuple[list[int], list[int], list[int]]]:
        found = []
        for batch in groups.masked(1, masking, 30, rank, ranks):
            assert batch.num_tokens <= 30
            if batch.num_sequences:
                found.append((batch.input_ids.tolist(), batch.mlm_labels.tolist(), batch.position_ids.tolist()))
            else:
                assert batch.num_tokens == 0 and (batch.mlm_labels == IGNORED).all() and len(batch.input_ids)
        return found

    def joined(batches: list[tuple[list[int], list[int], list[int]]]) -> list[list[int]]:
        return [sum((batch[part] for batch in batches), []) for part in range(3)]

    shares = [hidden(rank, ranks) for rank in range(ranks)]
    assert joined([batch for share in shares for batch in share]) == joined(hidden(0, 1))
    assert sum(not share for share in shares) == max(0, ranks - 5)
