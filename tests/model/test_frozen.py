"""The frozen encoder: the numbers of the encoder in eval mode, of any layer, and no trace of the other sequences of a batch."""

import numpy as np
import pytest
import torch

from bertlab.batches.flat import FlatBatch, flat_fields
from bertlab.errors import ConfigError
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.frozen import FEWEST_ROWS, FrozenBert

LENGTHS = [2, 5, 5, 9, 3, 5]
ATOL = 1e-5  # another kernel of attention, in fp32, through three blocks of far larger weights than a model's


@pytest.fixture(scope="module")
def bert() -> Bert:
    torch.manual_seed(0)
    return Bert(EncoderConfig(vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40,
                              max_position_embeddings=16, initializer_range=0.4, hidden_dropout_prob=0.5)).eval()  # fmt: skip


def batch(lengths: list[int], seed: int = 0) -> FlatBatch:
    draw = np.random.default_rng(seed)
    ids, segments = draw.integers(0, 50, sum(lengths)), draw.integers(0, 2, sum(lengths))
    return FlatBatch(**flat_fields(ids, segments, np.array(lengths)))


def states(frozen: FrozenBert, of: FlatBatch, *layers: int) -> torch.Tensor:
    with torch.inference_mode():
        return frozen.states(of.input_ids, of.token_type_ids, of.position_ids, of.cu_seqlens, of.max_seqlen, layers)


@pytest.mark.parametrize("lengths", [LENGTHS, sorted(LENGTHS), [1], [16, 16], [1, 1, 1]])
def test_states_are_those_of_the_encoder(bert: Bert, lengths: list[int]) -> None:
    of = batch(lengths)
    with torch.inference_mode():
        expected = bert(**of.encoder_inputs())
    np.testing.assert_allclose(states(FrozenBert(bert, torch.device("cpu")), of), expected, atol=ATOL)


def test_layers_are_those_that_blocks_leave_and_several_are_their_mean(bert: Bert) -> None:
    of, seen = batch(LENGTHS), []
    hooks = [module.register_forward_hook(lambda _, __, out: seen.append(out)) for module in (bert.embeddings, *bert.encoder.layer)]
    with torch.inference_mode():
        bert(**of.encoder_inputs())
    for hook in hooks:
        hook.remove()
    frozen = FrozenBert(bert, torch.device("cpu"))
    for layer in range(4):
        np.testing.assert_allclose(states(frozen, of, layer), seen[layer], atol=ATOL)
        assert torch.equal(states(frozen, of, layer - 4), states(frozen, of, layer))
    np.testing.assert_allclose(states(frozen, of, 1, -1), (seen[1] + seen[3]) / 2, atol=ATOL)
    np.testing.assert_allclose(states(frozen, of, 0, 1, 2), (seen[0] + seen[1] + seen[2]) / 3, atol=ATOL)
    assert torch.equal(states(frozen, of, 3, -1), states(frozen, of)), "a layer named twice counts once"


@pytest.mark.parametrize("layers", [(), (0,), (2,), (0, 1), (1, 3), (0, 1, 2, 3)])
def test_states_of_some_places_are_those_among_all_to_the_bit(bert: Bert, layers: tuple[int, ...]) -> None:
    of, frozen = batch(LENGTHS), FrozenBert(bert, torch.device("cpu"))
    for places in (of.cu_seqlens[:-1].long(), torch.tensor([28, 3, 3, 0]), torch.arange(29).flip(0)):
        with torch.inference_mode():
            some = frozen.states(**of.encoder_inputs(), layers=layers, places=places)
        assert torch.equal(some, states(frozen, of, *layers)[places])


def test_a_layer_that_is_not_there_is_refused(bert: Bert) -> None:
    for layer in (4, -5):
        with pytest.raises(ConfigError, match=rf"layer {layer}: this model has 0 \(its embeddings\) to 3, or -1"):
            FrozenBert(bert, torch.device("cpu")).layer_numbers([layer])


def test_a_sequence_has_the_same_bits_alone_and_in_any_company(bert: Bert) -> None:
    frozen, draw = FrozenBert(bert, torch.device("cpu")), np.random.default_rng(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for trial in range(30):
        lengths = draw.integers(1, 17, draw.integers(1, 12)).tolist()
        of = batch(lengths, trial)
        whole, bounds = states(frozen, of), of.cu_seqlens.tolist()
        for start, end in zip(bounds[:-1], bounds[1:], strict=True):
            cut = slice(start, end)
            alone = FlatBatch(**flat_fields(of.input_ids[cut].numpy(), of.token_type_ids[cut].numpy(), np.array([end - start])))
            assert torch.equal(states(frozen, alone), whole[cut]), (lengths, start)
    torch.set_num_threads(threads)
    assert FEWEST_ROWS > 4  # the products of 1, 2 and 3 rows are those that add in another order


def test_bf16_products_are_near_and_the_residuals_stay_in_fp32(bert: Bert) -> None:
    of = batch([4, 4])
    exact = states(FrozenBert(bert, torch.device("cpu")), of)
    rounded = states(FrozenBert(bert, torch.device("cpu"), torch.bfloat16), of)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = bert(**of.encoder_inputs()).float()
    assert (rounded - exact).abs().max() < 1.5 * (autocast - exact).abs().max() + 1e-3


def test_tensors_are_the_models_own_where_nothing_is_joined_or_cast(bert: Bert) -> None:
    frozen = FrozenBert(bert, torch.device("cpu"))
    before = states(frozen, batch([4]))
    last = bert.get_parameter("encoder.layer.2.output.LayerNorm.bias")
    with torch.no_grad():
        last.add_(1)
    after = states(frozen, batch([4]))
    with torch.no_grad():
        last.sub_(1)
    np.testing.assert_allclose(after, before + 1, atol=1e-6)
