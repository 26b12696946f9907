"""BERT over padded sequences in plain words: the numbers of bertlab/model/encoder.py, with every state and attention weight in the open.

For looking inside, for gradients at the embeddings, and for what another runtime is given (bertlab/exporting.py): one path through the
model's own weights, with no kernel that is chosen by device. It costs the memory of all it returns, and has no dropout.

Shapes: N sequences padded at their ends to L tokens, d = hidden_size, H heads of D = d / H.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.model.encoder import Bert, Block
from bertlab.model.heads import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification

Tuned = BertForSequenceClassification | BertForTokenClassification | BertForQuestionAnswering


@dataclass(frozen=True)
class Opened:
    """states: the embeddings, then what each layer gives, (N, L, d) each; attention: the weights of each layer, (N, H, L, L), whose rows
    (what a token reads) sum to 1."""

    states: list[Tensor]
    attention: list[Tensor]

    @property
    def last(self) -> Tensor:
        return self.states[-1]


def word_vectors(bert: Bert, input_ids: Tensor) -> Tensor:
    """The word embeddings of ids, before segments and places are added: what a gradient can be taken at."""
    return bert.embeddings.word_embeddings(input_ids)


def opened(bert: Bert, words: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None = None) -> Opened:
    """All of what the encoder computes from `words` (N, L, d), segments (N, L) and, where some are padding, a mask (N, L) that is 1 at
    tokens. States at padding mean nothing."""
    tables = bert.embeddings
    places = torch.arange(words.shape[1], device=words.device)
    hidden = tables.LayerNorm(words + tables.token_type_embeddings(token_type_ids) + tables.position_embeddings(places))
    unread = None if attention_mask is None else attention_mask[:, None, None, :] == 0
    states, attention = [hidden], []
    for block in bert.encoder.layer:
        assert isinstance(block, Block)
        query, key, value = _heads(block, hidden)
        weights = attention_weights(query, key, unread)
        attended = block.attention.output((weights @ value).transpose(1, 2).flatten(2), hidden)
        hidden = block.output(block.intermediate(attended), attended)
        states.append(hidden)
        attention.append(weights)
    return Opened(states, attention)


def head_logits(model: Tuned, last: Tensor) -> Tensor:
    """What a fine-tuned model's head makes of the last states (N, L, d): (N, K) of texts, (N, L, K) of tokens."""
    if isinstance(model, BertForSequenceClassification):
        assert model.bert.pooler is not None
        return model.classifier(model.bert.pooler(last[:, 0]))
    return model.classifier(last) if isinstance(model, BertForTokenClassification) else model.qa_outputs(last)


def attention_weights(query: Tensor, key: Tensor, unread: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(D)) of (N, H, L, D) each, 0 where `unread` (N, 1, 1, L) is True: (N, H, L, L), Vaswani et al. 2017."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if unread is not None:
        scores = scores.masked_fill(unread, torch.finfo(scores.dtype).min)  # not -inf: a row of nothing else is then no NaN
    return F.softmax(scores, dim=-1)


def _heads(block: Block, hidden: Tensor) -> list[Tensor]:
    """Queries, keys and values (N, H, L, D) of states (N, L, d)."""
    layer = block.attention.self
    products = [part(hidden) for part in (layer.query, layer.key, layer.value)]
    return [product.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for product in products]
