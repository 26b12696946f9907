"""Where a word stands, and its vectors there: those of its pieces, whatever else is in the call."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertlab.embedding import contexts
from bertlab.embedding.contexts import Occurrence, last_layers, occurrences, word_vectors
from bertlab.embedding.engine import Embedder, What
from bertlab.errors import ConfigError, DataError


def test_a_word_is_found_whole_in_capitals_or_not_and_in_its_forms() -> None:
    texts = ["The bank, a BANK; banks and riverbank", "embankment", "bank's bank-bank"]
    assert [(each.text, each.start, each.end) for each in occurrences(["bank"], texts)] == [
        (0, 4, 8), (0, 12, 16), (2, 0, 4), (2, 7, 11), (2, 12, 16),
    ]  # fmt: skip
    assert [texts[0][each.start : each.end] for each in occurrences(["bank", "banks"], texts) if each.text == 0] == [
        "bank",
        "BANK",
        "banks",
    ]


def test_beside_scripts_without_spaces_a_word_begins_and_ends_anywhere() -> None:
    def found(word: str, text: str) -> list[str]:
        return [text[each.start - 1 : each.end + 1] for each in occurrences([word], [text])]

    assert found("河", "一条河流和河") == ["条河流", "和河"]
    assert found("BERT", "我的BERT模型, BERTs, xBERT的") == ["的BERT模"]
    assert found("น้ำ", "ดื่มน้ำเย็น") == ["มน้ำเ"]
    assert found("강", "강이 강") == [" 강"]  # Korean sets spaces


@given(st.text(max_size=20), st.text(min_size=1, max_size=3))
def test_no_word_is_a_pattern(text: str, word: str) -> None:
    for each in occurrences([word], [text]):
        assert text[each.start : each.end].lower() == word.lower() or text[each.start : each.end].casefold() == word.casefold()


def test_a_vector_is_transformers_mean_over_pieces_and_layers(embedder: Embedder, folder: str) -> None:
    texts = ["the old river runs", "birds sing by the rivers over a hill"]
    found = list(occurrences(["river", "rivers"], texts))
    ours = word_vectors(embedder, texts, found, (1, 2))
    model: Any = transformers.AutoModel.from_pretrained(folder).eval()
    reader: Any = transformers.AutoTokenizer.from_pretrained(folder)
    table = model.embeddings.word_embeddings.weight.detach().numpy()
    for number, (text, at) in enumerate(zip(texts, found, strict=True)):
        read = reader(text, return_tensors="pt", return_offsets_mapping=True)
        spans = read.pop("offset_mapping")[0].tolist()
        pieces = [place for place, (start, end) in enumerate(spans) if start < at.end and end > at.start]
        others = [place for place in range(1, len(spans) - 1) if place not in pieces]
        ids = read["input_ids"][0].numpy()
        assert number == 0 or len(pieces) > 1, "'rivers' has several pieces"
        with torch.no_grad():
            states = model(**read, output_hidden_states=True).hidden_states
        expected = ((states[1] + states[2]) / 2)[0, pieces].mean(dim=0).numpy()
        np.testing.assert_allclose(ours.contextual[number], expected, atol=1e-5)
        np.testing.assert_allclose(ours.word[number], table[ids[pieces]].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(ours.bag[number], table[ids[others]].mean(axis=0), atol=1e-6)


def test_a_neighbour_without_a_space_between_is_no_piece_of_the_word(embedder: Embedder) -> None:
    text = "the (sea)hill"
    found = [Occurrence(0, 5, 8)]
    states = embedder.vectors(embedder.encode([text]), What(pooling=None, layers=(2,)))
    pieces = [embedder.tokenizer.token(id) for id in embedder.encode([text]).ids.tolist()]
    np.testing.assert_array_equal(word_vectors(embedder, [text], found, (2,)).contextual[0], states[pieces.index("sea")])


def test_without_context_a_word_is_the_same_everywhere_and_with_it_is_not(embedder: Embedder) -> None:
    texts = ["the sea", "birds sing over the sea in spring"]
    found = list(occurrences(["sea"], texts))
    vectors = word_vectors(embedder, texts, found)
    np.testing.assert_array_equal(vectors.word[0], vectors.word[1])
    assert np.abs(vectors.contextual[0] - vectors.contextual[1]).max() > 0.1


def test_a_word_far_into_a_long_text_is_read_with_what_is_around_it(embedder: Embedder) -> None:
    before, after = "the old " * 40, " and a hill" * 40
    long, room = f"{before}sea{after}", embedder.max_length - 2
    ((of_long,),) = (word_vectors(embedder, [text], list(occurrences(["sea"], [text]))).contextual for text in [long])
    words = long.split()
    middle = words.index("sea")
    near = [" ".join(words[middle - left : middle - left + room]) for left in (room // 2, room // 2 - 1)]
    candidates = [word_vectors(embedder, [text], list(occurrences(["sea"], [text]))).contextual[0] for text in near]
    assert min(np.abs(of_long - each).max() for each in candidates) < 1e-6
    at_end = "the old " * 40 + "sea"
    expected = " ".join(at_end.split()[-room:])
    ours, theirs = (word_vectors(embedder, [text], list(occurrences(["sea"], [text]))).contextual for text in (at_end, expected))
    np.testing.assert_array_equal(ours, theirs)


def test_runs_of_occurrences_change_nothing(embedder: Embedder, texts_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of(40)
    found = list(occurrences(["river", "sea"], texts))
    whole = word_vectors(embedder, texts, found)
    monkeypatch.setattr(contexts, "AT_ONCE", 3)
    parts = word_vectors(embedder, texts, found)
    for name in ("contextual", "word", "bag"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_the_last_four_layers_are_taken_or_those_that_there_are(embedder: Embedder) -> None:
    assert last_layers(embedder) == (-2, -1)
    texts = ["the old sea"]
    found = list(occurrences(["sea"], texts))
    examples = embedder.encode(texts)
    states = embedder.vectors(examples, What(pooling=None, layers=(1, 2)))
    np.testing.assert_array_equal(word_vectors(embedder, texts, found).contextual[0], states[3])
    with pytest.raises(ConfigError, match="layer 7"):
        word_vectors(embedder, texts, found, (7,))


def test_a_word_of_which_nothing_is_left_is_said(embedder: Embedder) -> None:
    with pytest.raises(DataError, match="the tokenizer leaves nothing of '\u0301' in text 1"):
        word_vectors(embedder, ["a \u0301 b"], [Occurrence(0, 2, 3)])
