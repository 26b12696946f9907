"""BERT in the open: states and attention are transformers', and the last states those of the flat encoder."""

import numpy as np
import pytest
import torch
import transformers

from bertlab.batches.flat import flat_fields
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.heads import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.model.opened import attention_weights, head_logits, opened, word_vectors
from bertlab.model.pooling import POOLINGS, pool, pool_padded

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
LENGTHS = [7, 2, 5]


def config() -> EncoderConfig:
    return EncoderConfig(vocab_size=60, max_position_embeddings=16, initializer_range=0.3, **SIZES)


@pytest.fixture(scope="module")
def bert() -> Bert:
    torch.manual_seed(0)
    return Bert(config()).eval()


@pytest.fixture(scope="module")
def padded() -> dict[str, torch.Tensor]:
    """Three sequences padded to the longest; what stands in the padding is as good as anything."""
    draw = torch.Generator().manual_seed(1)
    shape = (len(LENGTHS), max(LENGTHS))
    mask = (torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]).long()
    segments = torch.randint(0, 2, shape, generator=draw)
    return {"input_ids": torch.randint(0, 60, shape, generator=draw), "token_type_ids": segments, "attention_mask": mask}


@pytest.fixture(scope="module")
def flat(padded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    real = padded["attention_mask"].bool()
    return flat_fields(padded["input_ids"][real].numpy(), padded["token_type_ids"][real].numpy(), np.array(LENGTHS))


def through(bert: Bert, padded: dict[str, torch.Tensor]):
    return opened(bert, word_vectors(bert, padded["input_ids"]), padded["token_type_ids"], padded["attention_mask"])


def test_every_state_and_every_attention_weight_is_that_of_transformers(bert: Bert, padded: dict[str, torch.Tensor]) -> None:
    theirs = transformers.BertModel(
        transformers.BertConfig(vocab_size=60, max_position_embeddings=16, attn_implementation="eager", **SIZES)  # type: ignore[call-arg, arg-type]
    ).eval()
    theirs.load_state_dict(bert.state_dict(), strict=False)
    with torch.inference_mode():
        wanted = theirs(**padded, output_attentions=True, output_hidden_states=True)
        found = through(bert, padded)
    real = padded["attention_mask"].bool()
    assert len(found.states) == len(wanted.hidden_states) == 4 and len(found.attention) == len(wanted.attentions) == 3
    for ours, other in zip(found.states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(ours[real], other[real], atol=1e-5, rtol=1e-5)
    for ours, other in zip(found.attention, wanted.attentions, strict=True):
        for row, length in enumerate(LENGTHS):  # rows of padding mean nothing
            torch.testing.assert_close(ours[row, :, :length], other[row, :, :length], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(ours[row, :, :length].sum(-1), torch.ones(4, length))
            assert not ours[row, :, :length, length:].any(), "padding is not read"


def test_the_last_states_are_those_of_the_flat_encoder(bert: Bert, padded: dict[str, torch.Tensor], flat: dict) -> None:
    with torch.inference_mode():
        found = through(bert, padded).last[padded["attention_mask"].bool()]
        torch.testing.assert_close(found, bert(**flat), atol=1e-5, rtol=1e-5)


def test_weights_by_hand_the_scale_is_the_root_of_the_heads_size() -> None:
    query = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])  # one token's query, of a head of size 4
    key = torch.tensor([[[[np.log(3.0), 0, 0, 0], [0.0, 0, 0, 0], [9.0, 0, 0, 0]]]], dtype=torch.float32)
    unread = torch.tensor([False, False, True])[None, None, None]
    torch.testing.assert_close(attention_weights(query, key, unread), torch.tensor([[[[0.75, 0.25, 0.0]]]]))


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering])
def test_a_heads_logits_are_those_of_the_whole_model(kind: type, padded: dict[str, torch.Tensor], flat: dict) -> None:
    torch.manual_seed(2)
    model = (kind(config()) if kind is BertForQuestionAnswering else kind(config(), 3)).eval()
    with torch.inference_mode():
        found, wanted = head_logits(model, through(model.bert, padded).last), model(**flat)
    found = found if found.ndim == 2 else found[padded["attention_mask"].bool()]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_padded_pooling_is_the_flat_one_whatever_stands_in_the_padding(pooling, padded: dict[str, torch.Tensor], flat: dict) -> None:
    mask = padded["attention_mask"]
    states = torch.randn(*mask.shape, 4, generator=torch.Generator().manual_seed(3))
    for filler in (0.0, 9.0, -9.0):
        filled = torch.where(mask[:, :, None].bool(), states, filler)
        torch.testing.assert_close(pool_padded(filled, mask, pooling), pool(states[mask.bool()], flat["cu_seqlens"], pooling))
