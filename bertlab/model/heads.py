"""What stands on the encoder: the two pretraining heads, the classifier on [CLS], and the heads on every token.

Module names are those of transformers' BertForPreTraining, BertForSequenceClassification, BertForTokenClassification and
BertForQuestionAnswering. Every model here takes the
encoder's inputs by name and returns logits; losses are made where the loop's counts are known (bertlab/training/objectives.py), but the
sum over the vocabulary, whose logits are too many to be handed on (bertlab/model/vocabulary.py).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertlab.model.dropout import Dropout
from bertlab.model.encoder import Bert, EncoderConfig, initialise
from bertlab.model.vocabulary import vocabulary_loss


class Transform(nn.Module):
    """LayerNorm(GELU(W h)): what a hidden state passes before it meets the vocabulary. (M, d) -> (M, d)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(hidden)))


class Predictions(nn.Module):
    """Vocabulary logits, the matrix shared with the token embeddings: (M, d) -> (M, vocab_size); of labels (M,) the sum of their
    cross-entropies instead: ()."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        states = self.transform(hidden)
        if labels is None:
            return F.linear(states, word_embeddings, self.bias)
        return vocabulary_loss(states, word_embeddings, self.bias, labels)


class PretrainingHeads(nn.Module):
    """`predictions` for masked tokens, `seq_relationship` for next sentences."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.predictions = Predictions(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BertForPreTraining(nn.Module):
    """Masked-token and next-sentence logits. Only masked places meet the vocabulary: the largest part of a small model's step saved."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.cls = PretrainingHeads(config)
        self.cls.apply(lambda module: initialise(module, config.initializer_range))

    def forward(
        self, mlm_positions: Tensor, cu_seqlens: Tensor, mlm_labels: Tensor | None = None, **encoder_inputs: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """mlm_positions (M,) into the T tokens -> logits (M, vocab_size) and next-sentence logits (N, 2), 1 = random.

        With mlm_labels (M,), -100 where one counts for nothing, the sum of the logits' cross-entropies () stands in their place.
        """
        places = torch.cat([mlm_positions, cu_seqlens[:-1].long()])
        hidden = self.bert(cu_seqlens=cu_seqlens, places=places, **encoder_inputs)
        masked, first = hidden[: len(mlm_positions)], hidden[len(mlm_positions) :]
        mlm = self.cls.predictions(masked, self.bert.embeddings.word_embeddings.weight, mlm_labels)
        return mlm, self.cls.seq_relationship(self.bert.pool(first))

    @torch.no_grad()
    def start_at_unigrams(self, token_counts: Tensor) -> None:
        """Set the output bias to the log of add-one token frequencies (vocab_size,), so that training starts at the unigram loss."""
        smoothed = token_counts.double() + 1
        self.cls.predictions.bias.copy_((smoothed / smoothed.sum()).log())


class BertForSequenceClassification(nn.Module):
    """Class logits (N, num_labels) from the pooled [CLS] vector."""

    def __init__(self, config: EncoderConfig, num_labels: int) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialise(self.classifier, config.initializer_range)

    def forward(self, cu_seqlens: Tensor, **encoder_inputs: Tensor | int) -> Tensor:
        first = self.bert(cu_seqlens=cu_seqlens, places=cu_seqlens[:-1].long(), **encoder_inputs)
        return self.classifier(self.dropout(self.bert.pool(first)))


class BertForTokenClassification(nn.Module):
    """Class logits (T, num_labels) from the hidden state of each token."""

    def __init__(self, config: EncoderConfig, num_labels: int) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config, pooler=False)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialise(self.classifier, config.initializer_range)

    def forward(self, **encoder_inputs: Tensor | int) -> Tensor:
        return self.classifier(self.dropout(self.bert(**encoder_inputs)))


class BertForQuestionAnswering(nn.Module):
    """For each token the logits (T, 2) of an answer that begins, and of one that ends with it."""

    def __init__(self, config: EncoderConfig, num_labels: int = 2) -> None:
        assert num_labels == 2, "an answer begins and ends"
        super().__init__()
        self.config = config
        self.bert = Bert(config, pooler=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        initialise(self.qa_outputs, config.initializer_range)

    def forward(self, **encoder_inputs: Tensor | int) -> Tensor:
        return self.qa_outputs(self.bert(**encoder_inputs))
