"""bertlab/batches/tagged.py against transformers' own encoding of words, and a plain loop for windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.batches.flat import IGNORED
from bertlab.batches.tagged import TaggedExamples, decode_tags, encode_tagged
from bertlab.tokens.tokenizer import Tokenizer, train

SENTENCES = [
    ["The", "river", "Thames", "runs", "slowly", "through", "Oxford", "."],
    [],
    ["\u200b", "unheard-of", "Zürich", "\x01", "[SEP]", "東京", "☃"],
    ["river"],
    ["Who", "rebuilt", "the", "bridge", "of", "stone", "in", "1901", "?"] * 3,
]
LABELS = [[(3 * place + len(words)) % 5 for place in range(len(words))] for words in SENTENCES]


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train([" ".join(words) for words in SENTENCES] * 4, kind=request.param, vocab_size=150, lowercase=False)


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder, 512)
    return AutoTokenizer.from_pretrained(str(folder))


def rows(examples: TaggedExamples, values: np.ndarray) -> list[list[int]]:
    return [values[start:end].tolist() for start, end in zip(examples.offsets[:-1], examples.offsets[1:], strict=True)]


def test_words_are_encoded_as_transformers_encodes_them_with_the_label_on_the_first_piece(tokenizer: Tokenizer, theirs: Any) -> None:
    plain = [[word for word in words if word != "[SEP]"] for words in SENTENCES]  # theirs makes a special token of it
    labels = [
        [label for label, word in zip(its, words, strict=True) if word != "[SEP]"] for its, words in zip(LABELS, SENTENCES, strict=True)
    ]
    expected = theirs(plain, is_split_into_words=True)
    ours = encode_tagged(tokenizer, plain, labels, max_length=512)
    assert rows(ours, ours.ids) == expected["input_ids"]
    wanted, words_before = [], 0
    for row, words in enumerate(plain):
        its, before = [], None
        for word in expected.word_ids(row):
            its.append(labels[row][word] if word is not None and word != before else IGNORED)
            before = word
        wanted.append(its)
        seen = {word for word in expected.word_ids(row) if word is not None}
        assert ours.unseen[words_before : words_before + len(words)].tolist() == [place not in seen for place in range(len(words))]
        words_before += len(words)
    assert rows(ours, ours.labels) == wanted
    assert ours.num_truncated == ours.num_windowed == 0 and len(ours) == len(plain)


def test_a_word_that_spells_a_special_token_stays_text(tokenizer: Tokenizer) -> None:
    ours = encode_tagged(tokenizer, [["[SEP]", "[MASK]"]], [[1, 2]], max_length=64)
    assert not set(ours.ids[1:-1].tolist()) & (set(tokenizer.special_ids.tolist()) - {tokenizer.unk_id})
    assert [label for label in ours.labels.tolist() if label != IGNORED] == [1, 2]


def test_windows_hold_every_word_once_and_a_cut_keeps_the_first_window(tokenizer: Tokenizer) -> None:
    whole = encode_tagged(tokenizer, SENTENCES, LABELS, max_length=512)
    windowed = encode_tagged(tokenizer, SENTENCES, LABELS, max_length=12)
    cut = encode_tagged(tokenizer, SENTENCES, LABELS, max_length=12, long="cut")
    assert windowed.lengths.max() == 12 and cut.lengths.max() == 12
    assert len(cut) == len(SENTENCES) < len(windowed)
    assert windowed.num_windowed == cut.num_truncated == (whole.lengths > 12).sum() > 0
    assert windowed.num_truncated == cut.num_windowed == 0
    at = windowed.words >= 0
    assert sorted(windowed.words[at].tolist()) == np.flatnonzero(~whole.unseen).tolist()
    flat = np.concatenate([np.array(its, dtype=np.int64) for its in LABELS])
    assert (windowed.labels[at] == flat[windowed.words[at]]).all() and (windowed.labels[~at] == IGNORED).all()
    assert (windowed.unseen == whole.unseen).all() and cut.unseen.sum() > whole.unseen.sum()
    for row, ids in enumerate(rows(cut, cut.ids)):
        assert ids[:-1] == rows(whole, whole.ids)[row][: len(ids) - 1] and ids[-1] == tokenizer.sep_id


@given(
    st.lists(st.lists(st.sampled_from(["a", "river", "\x01", "Oxford", "unheard"]), max_size=25), min_size=1, max_size=4),
    st.integers(5, 20),
)
@settings(max_examples=60, deadline=None)
def test_what_a_model_says_of_tokens_comes_back_to_the_words(sentences: list[list[str]], max_length: int) -> None:
    backend = train(["a river in Oxford unheard"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)
    labels = [[place for place, _ in enumerate(words)] for words in sentences]
    examples = encode_tagged(backend, sentences, labels, max_length=max_length)
    of_tokens = np.stack([examples.labels, examples.ids], axis=1).astype(np.float32)
    of_words = examples.of_words(of_tokens)
    flat = [place for its in labels for place in its]
    assert len(of_words) == len(flat) == len(examples.unseen)
    for word, place in enumerate(flat):
        assert of_words[word].tolist() == [0, 0] if examples.unseen[word] else of_words[word, 0] == place


def test_a_batch_has_the_labels_of_its_tokens(tokenizer: Tokenizer) -> None:
    examples = encode_tagged(tokenizer, SENTENCES, LABELS, max_length=16)
    picked = np.array([3, 0, len(examples) - 1])
    batch = examples.batch(picked)
    assert batch.labels.tolist() == [label for row in picked for label in rows(examples, examples.labels)[row]]
    assert batch.input_ids.tolist() == [id for row in picked for id in rows(examples, examples.ids)[row]]
    assert batch.rows.tolist() == picked.tolist() and batch.num_sequences == 3 and len(batch.labels) == batch.num_tokens
    seen = [row for batch in examples.by_length(40) for row in batch.rows.tolist()]
    assert sorted(seen) == list(range(len(examples)))


def test_without_labels_nothing_is_counted_and_words_are_found_all_the_same(tokenizer: Tokenizer) -> None:
    examples = encode_tagged(tokenizer, SENTENCES, max_length=64)
    assert (examples.labels == IGNORED).all() and (examples.words >= 0).sum() == (~examples.unseen).sum() > 0


def test_the_likeliest_tag_of_every_word_comes_back_by_sentence(tokenizer: Tokenizer) -> None:
    names = [f"tag {number}" for number in range(5)]
    examples = encode_tagged(tokenizer, SENTENCES, LABELS, max_length=12, long="cut")
    of_tokens = np.full((len(examples.ids), 5), 0.1, dtype=np.float32)
    labelled = examples.labels != IGNORED
    of_tokens[labelled, examples.labels[labelled]] = 0.6
    of_tokens[~labelled, 4] = 0.9  # what is said of other pieces does not matter
    tags, likely = decode_tags(examples, of_tokens, names, [len(words) for words in SENTENCES])
    word = 0
    for its_tags, its_probabilities, its_labels in zip(tags, likely, LABELS, strict=True):
        unseen = examples.unseen[word : word + len(its_labels)]
        assert its_tags == [names[0] if hidden else names[label] for label, hidden in zip(its_labels, unseen, strict=True)]
        assert its_probabilities.tolist() == pytest.approx([0 if hidden else 0.6 for hidden in unseen])
        word += len(its_labels)
    assert examples.unseen.any()
