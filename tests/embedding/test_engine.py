"""The engine: vectors in the order of the texts, the same bits in any company and on any number of threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertlab.embedding import engine
from bertlab.embedding.engine import Embedder, What, finished, open_embedder
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.pooling import POOLINGS, Recorded

TextsOf = Callable[..., list[str]]
MEAN = What(pooling="mean")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_vector_has_the_same_bits_alone_and_in_any_company(
    embedder: Embedder, pooling: Any, texts_of: TextsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, what = texts_of(60), What(pooling=pooling, layers=(1, -1))
    alone = np.concatenate([embedder.vectors(embedder.encode([text]), what) for text in texts])
    assert len(np.unique(alone, axis=0)) == len(set(texts)), "no two texts look the same"
    for tokens in (1, 40, 100_000):  # a batch of one text, of a few, of all
        monkeypatch.setattr(embedder, "batch_tokens", tokens)
        assert np.array_equal(embedder.vectors(embedder.encode(texts), what), alone)
    assert np.array_equal(embedder.vectors(embedder.encode(texts[::-1]), what), alone[::-1])


def test_the_number_of_threads_changes_no_bit_and_torch_has_its_own_again(folder: str, texts_of: TextsOf) -> None:
    examples_of = texts_of(80, seed=1)
    torch.set_num_threads(2)
    try:
        several = open_embedder(folder, "cpu")
        several.batch_tokens = 30
        assert several.threads == 2
        found = several.vectors(several.encode(examples_of), MEAN)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    one = open_embedder(folder, "cpu", threads=1)
    assert np.array_equal(found, one.vectors(one.encode(examples_of), MEAN))


def test_inside_a_batch_torch_has_one_thread(embedder: Embedder, texts_of: TextsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, pool = [], engine.pool

    def noted(*given: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return pool(*given)

    monkeypatch.setattr(engine, "pool", noted)
    torch.set_num_threads(2)
    try:
        embedder.vectors(embedder.encode(texts_of(20)), MEAN)
    finally:
        torch.set_num_threads(1)
    assert seen and set(seen) == {1}


def test_without_a_pooling_every_token_has_its_vector_in_its_place(embedder: Embedder, texts_of: TextsOf) -> None:
    examples = embedder.encode(texts_of(30))
    tokens = embedder.vectors(examples, What(pooling=None))
    assert tokens.shape == (len(examples.ids), 16)
    means = np.add.reduceat(tokens, examples.offsets[:-1]) / examples.lengths[:, None]
    np.testing.assert_allclose(means, embedder.vectors(examples, MEAN), atol=1e-6)
    np.testing.assert_array_equal(tokens[examples.offsets[:-1]], embedder.vectors(examples, What(pooling="cls")))


def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    assert embedder.vectors(embedder.encode([]), MEAN).shape == (0, 16)


def test_of_a_text_without_end_only_the_beginning_is_looked_at_and_it_counts_as_truncated(embedder: Embedder) -> None:
    long = embedder.encode(["river " * 500_000, "river " * 22, "river " * 23])
    assert long.lengths.tolist() == [24, 24, 24] and long.num_truncated == 2
    vectors = embedder.vectors(long, MEAN)
    assert np.array_equal(vectors[0], vectors[1])


def test_the_folders_own_prompt_comes_first(embedder: Embedder, folder: str) -> None:
    prompted = open_embedder(folder, "cpu")
    prompted.recorded = Recorded(prompt="the river ")
    assert np.array_equal(prompted.encode(["sea"]).ids, embedder.encode(["the river sea"]).ids)


def test_broken_weights_are_one_line_whatever_thread_met_them(folder: str, texts_of: TextsOf) -> None:
    broken = open_embedder(folder, "cpu")
    with torch.no_grad():
        broken.frozen._norm.bias[0] = float("nan")
    for what in (MEAN, What(pooling="max"), What(pooling=None)):
        with pytest.raises(CorruptError, match="the model gives NaN or infinity"):
            broken.vectors(broken.encode(texts_of(5)), what)


def test_a_layer_that_is_not_there_is_refused_before_any_work(embedder: Embedder) -> None:
    with pytest.raises(ConfigError, match="layer 7"):
        embedder.vectors(embedder.encode(["a"]), What(pooling="mean", layers=(7,)))


def test_of_a_vector_the_first_numbers_are_kept_and_then_it_is_scaled() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 5]], dtype=np.float32)
    assert finished(vectors, normalize=False).tolist() == vectors.tolist()
    np.testing.assert_allclose(finished(vectors, True), np.array([[3 / 13, 4 / 13, 12 / 13], [0, 0, 1]]), rtol=1e-6)
    np.testing.assert_allclose(finished(vectors, True, 2), np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)
    for dims in (0, 4):
        with pytest.raises(ConfigError, match=f"dims={dims}: this model's vectors have 1 to 3 numbers"):
            finished(vectors, False, dims)
