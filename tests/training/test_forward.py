"""bertlab/training/forward.py: results in the order of the examples, without dropout, and the model is left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples
from bertlab.errors import CorruptError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForTokenClassification
from bertlab.training import forward
from bertlab.training.forward import in_order

LENGTHS = [3, 9, 2, 7, 9, 4]


@pytest.fixture
def examples() -> Examples:
    draw = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = draw.integers(5, 40, offsets[-1]).astype(np.int32)
    return Examples(ids, np.zeros(offsets[-1], np.int8), offsets, np.full(len(LENGTHS), -1), 0)


@pytest.fixture
def model() -> BertForTokenClassification:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = EncoderConfig(vocab_size=40, max_position_embeddings=12, hidden_dropout_prob=0.5, initializer_range=0.4, **sizes)
    return BertForTokenClassification(config, 3)


def run(model: BertForTokenClassification, examples: Examples, micro_tokens: int = 10, of_tokens: bool = False, what: str | None = None):
    def compute(batch: LabelledBatch) -> Tensor:
        logits: Tensor = model(**batch.encoder_inputs())
        return logits if of_tokens else logits[batch.cu_seqlens[:-1].long()]

    return in_order(
        model, examples, compute, 3, device=torch.device("cpu"), precision="fp32", micro_tokens=micro_tokens, of_tokens=of_tokens, what=what
    )


def one_by_one(model: BertForTokenClassification, examples: Examples) -> list[np.ndarray]:
    with torch.no_grad():
        return [model.eval()(**examples.batch(np.array([row])).encoder_inputs()).numpy() for row in range(len(examples))]


@pytest.mark.parametrize("micro_tokens", [1, 10, 1000])
def test_results_stand_in_the_order_of_the_examples_for_any_batches(
    model: BertForTokenClassification, examples: Examples, micro_tokens: int
) -> None:
    wanted = one_by_one(model, examples)
    found, of_tokens = run(model, examples, micro_tokens), run(model, examples, micro_tokens, of_tokens=True)
    assert found.shape == (6, 3) and of_tokens.shape == (sum(LENGTHS), 3) and found.dtype == of_tokens.dtype == np.float32
    np.testing.assert_allclose(found, [each[0] for each in wanted], atol=1e-6)
    np.testing.assert_allclose(of_tokens, np.concatenate(wanted), atol=1e-6)


def test_there_is_no_dropout_and_training_goes_on_with_it(model: BertForTokenClassification, examples: Examples) -> None:
    """A run that measures between its epochs would learn without dropout from the first of them on."""
    wanted = [each[0] for each in one_by_one(model, examples)]
    for training in (True, False):
        model.train(training)
        np.testing.assert_allclose(run(model, examples), wanted, atol=1e-6)
        assert all(module.training == training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_one_line(model: BertForTokenClassification, examples: Examples, value: float) -> None:
    with torch.no_grad():
        model.classifier.bias[1] = value
    with pytest.raises(CorruptError, match="the model gives NaN or infinity") as caught:
        run(model, examples)
    assert "\n" not in str(caught.value)


def test_progress_counts_tokens_to_all_of_them(
    model: BertForTokenClassification, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    @contextmanager
    def watched(*about: Any) -> Iterator[Any]:
        told.append(about)
        yield lambda done, words: told.append(done)

    monkeypatch.setattr(forward, "progress", watched)
    run(model, examples)
    assert told == []
    run(model, examples, what="predicting")
    assert told == [("predicting", "tokens", sum(LENGTHS)), 9, 18, 25, 34]  # 9, 9, 7, and 4 + 3 + 2 together
