"""bertlab/model/learnt_parts.py: what is frozen, begun anew or adapted, and that nothing of it shows in the weights that are saved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bertlab.batches.flat import flat_fields
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.model.learnt_parts import add_adapters, begin_anew, freeze, merge_adapters

ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
MATRICES = {*ATTENTION, "intermediate.dense", "output.dense"}


def make(head: Callable[..., Any] = BertForSequenceClassification, dropout: float = 0.0, layers: int = 3) -> Any:
    torch.manual_seed(5)
    config = EncoderConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16,
        initializer_range=0.2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    model = head(config, 2)
    for parameter in model.parameters():  # LayerNorm and biases do not start as a fresh model's
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def inputs() -> dict[str, Any]:
    import numpy as np

    draw, lengths = np.random.default_rng(0), np.array([7, 12, 3])
    return flat_fields(draw.integers(0, 60, lengths.sum()), np.zeros(lengths.sum(), dtype=np.int8), lengths)


def states(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def gradients(model: Any, seed: int = 3) -> dict[str, Tensor | None]:
    model.train()
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    model(**inputs()).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# ---- begun anew


def test_the_top_layers_and_the_pooler_begin_anew_and_nothing_else_does() -> None:
    model = make()
    before = states(model)
    torch.manual_seed(1)
    begin_anew(model.bert, 2)
    after = states(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".layer.1." in name or ".layer.2." in name or ".pooler." in name}
    for name in changed:
        if "LayerNorm" in name:
            assert (after[name] == (1.0 if name.endswith("weight") else 0.0)).all()
        elif name.endswith("bias"):
            assert not after[name].any()
        else:
            assert float(after[name].std()) == pytest.approx(0.2, rel=0.2) and abs(float(after[name].mean())) < 0.05
    torch.manual_seed(1)
    begin_anew(model.bert, 2)
    assert all(torch.equal(value, after[name]) for name, value in states(model).items())


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_none_of_the_layers_is_none(head: Any) -> None:
    model = make(head)
    before, generator = states(model), torch.get_rng_state()
    begin_anew(model.bert, 0)
    freeze(model.bert, 0)
    assert all(torch.equal(value, before[name]) for name, value in states(model).items())
    assert torch.equal(torch.get_rng_state(), generator) and all(parameter.requires_grad for parameter in model.parameters())


# ---- frozen


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_embeddings_and_lowest_layers_have_no_gradient_and_all_others_have_the_same_as_before(blocks: int) -> None:
    model = make(dropout=0.3)
    whole = gradients(model)
    freeze(model.bert, blocks)
    found = gradients(model)
    frozen = {name for name in whole if ".embeddings." in name or any(f".layer.{number}." in name for number in range(blocks))}
    assert {name for name, gradient in found.items() if gradient is None} == frozen
    for name in whole.keys() - frozen:
        torch.testing.assert_close(found[name], whole[name], rtol=0, atol=0)


# ---- computed again


def saved_numbers(model: Any) -> int:
    """How many numbers the forward pass keeps for the way back, weights not counted."""
    weights, kept = {parameter.data_ptr() for parameter in model.parameters()}, 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if tensor.data_ptr() in weights else tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()(**inputs())
    return kept


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForQuestionAnswering])
def test_to_compute_again_gives_the_same_gradients_with_dropout_and_keeps_less(head: Any, frozen: int) -> None:
    model = make(head, dropout=0.3)
    freeze(model.bert, frozen)
    expected, kept = gradients(model), saved_numbers(model)
    model.bert.encoder.recompute = True
    found = gradients(model)
    assert saved_numbers(model) < kept / 2
    for name, gradient in expected.items():
        again = found[name]
        assert (gradient is None) == (again is None)
        if gradient is not None and again is not None:
            assert torch.equal(gradient, again), name  # the same dropout masks
    assert any(gradient is not None and gradient.any() for gradient in expected.values())


# ---- adapters


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering])
def test_adapters_start_as_nothing_and_are_all_that_is_learnt_beside_the_head(head: Any) -> None:
    model = make(head)
    before, expected = states(model), model.eval()(**inputs())
    add_adapters(model.bert, 4)
    torch.testing.assert_close(model.eval()(**inputs()), expected, rtol=0, atol=1e-5)  # its three products are made one by one
    learnt = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapted = {name.split(".lora_")[0].split(".layer.")[1] for name in learnt if ".lora_" in name}
    assert adapted == {f"{layer}.{matrix}" for layer in range(3) for matrix in MATRICES}
    beside = {name for name in before if not name.startswith("bert.") or name.startswith("bert.pooler.")}
    assert {name for name in learnt if ".lora_" not in name} == beside
    a = next(value for name, value in learnt.items() if "lora_A" in name)
    assert a.shape == (4, 16)


def test_the_product_of_every_adapted_matrix_is_more_than_its_matrix() -> None:
    """Query, key and value are one product in the encoder: an adapter of one of them must not be passed over."""
    model = make()
    add_adapters(model.bert, 2)
    found = gradients(model)
    firsts = {name for name, gradient in found.items() if "lora_B" in name and gradient is not None and gradient.any()}
    assert firsts == {name for name in found if "lora_B" in name} and len(firsts) == 3 * len(MATRICES)


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_merged_adapters_compute_the_same_and_leave_the_names_of_a_plain_model(head: Any) -> None:
    model = make(head)
    before = states(model)
    adapted = add_adapters(model.bert, 2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
    expected, additions = model.eval()(**inputs()), dict(model.named_parameters())
    layer = "bert.encoder.layer.1.attention.self.query"
    a, b = additions[f"{layer}.lora_A.default.weight"], additions[f"{layer}.lora_B.default.weight"]
    merge_adapters(adapted)
    torch.testing.assert_close(model.eval()(**inputs()), expected, rtol=1e-5, atol=1e-5)
    after = states(model)
    assert list(after) == list(before)
    torch.testing.assert_close(after[f"{layer}.weight"], before[f"{layer}.weight"] + 2 * (b @ a), rtol=0, atol=1e-6)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".layer." in name and name.endswith(tuple(f"{matrix}.weight" for matrix in MATRICES))}
    assert not hasattr(model.bert, "peft_config")
