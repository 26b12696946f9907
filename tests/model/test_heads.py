"""The pretraining heads and the classifier, logits and every gradient against transformers; starts and dropout by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from bertlab.batches.flat import FlatBatch, flat_fields
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers

LENGTHS = (9, 3, 12, 3, 11)
POSITIONS = torch.tensor([1, 4, 10, 13, 14, 22, 25, 30, 36])  # masked places of the 38 tokens; every sequence has one
CLASSES = ["fish", "bird", "tree", "stone"]


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    texts = ["the river runs to the sea", "an old bird sings in a tree"] * 4
    return tokenizers.train(texts, kind="wordpiece", vocab_size=64, lowercase=True)


def config_of(vocab_size: int, **changes: Any) -> EncoderConfig:
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    settings: dict[str, Any] = {"max_position_embeddings": 12, "layer_norm_eps": 1e-3, "hidden_dropout_prob": 0.0}
    return EncoderConfig(**{"vocab_size": vocab_size} | sizes | settings | changes)


def stir(model: nn.Module, seed: int = 0) -> None:
    """Random everywhere, biases and LayerNorms too, and large enough to bend every GELU, tanh and softmax."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.25, generator=generator)


def flat_batch(vocab_size: int) -> FlatBatch:
    draw = np.random.default_rng(1)
    fields: Any = flat_fields(draw.integers(1, vocab_size, sum(LENGTHS)), draw.integers(0, 2, sum(LENGTHS)), np.array(LENGTHS))
    return FlatBatch(**fields)


def padded(batch: FlatBatch) -> dict[str, Tensor]:
    """The same sequences as transformers takes them: (N, longest), padded at the right."""
    mask = torch.arange(batch.max_seqlen) < batch.cu_seqlens.diff()[:, None]
    columns = {"input_ids": torch.zeros_like(mask, dtype=torch.int64), "token_type_ids": torch.zeros_like(mask, dtype=torch.int64)}
    for name, column in columns.items():
        column[mask] = getattr(batch, name)
    return columns | {"attention_mask": mask.long()}


def assert_gradients_equal(ours: nn.Module, theirs: nn.Module, tolerance: float) -> None:
    """Each of our parameters has the gradient of the parameter of that name; theirs repeat only what they tie."""
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)}
    for name, parameter in ours.named_parameters():
        gradient, other = parameter.grad, wanted.pop(name)
        assert gradient is not None and other is not None
        assert gradient.abs().max() > 1e-4 or name.endswith("key.bias"), name  # a softmax does not see what all its scores share
        torch.testing.assert_close(gradient, other, atol=tolerance, rtol=0, msg=f"gradient of {name}")
    assert wanted.keys() <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_pretraining_logits_and_every_gradient_equal_transformers(
    dtype: torch.dtype, tolerance: float, attention: str, direction: str, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    config = config_of(tokenizer.vocab_size)
    theirs: Any
    if direction == "ours to theirs":
        ours = BertForPreTraining(config)
        stir(ours)
        save_model(tmp_path / "model", ours, tokenizer, facts={}, card="")
        theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "model", attn_implementation=attention)
    else:
        values = vars(config) | {"attn_implementation": attention}
        theirs = transformers.BertForPreTraining(transformers.BertConfig(**values))
        stir(theirs)
        theirs.save_pretrained(tmp_path / "model")
        ours, absent = load_model(str(tmp_path / "model"), BertForPreTraining)
        assert absent == []
    ours.to(dtype).train()
    theirs.to(dtype).train()

    batch = flat_batch(tokenizer.vocab_size)
    inputs = padded(batch)
    mlm_logits, nsp_logits = ours(mlm_positions=POSITIONS, **batch.encoder_inputs())
    output = theirs(**inputs)
    their_mlm_logits = output.prediction_logits[inputs["attention_mask"].bool()][POSITIONS]
    assert mlm_logits.shape == (len(POSITIONS), tokenizer.vocab_size) and nsp_logits.shape == (len(LENGTHS), 2)
    torch.testing.assert_close(mlm_logits, their_mlm_logits, atol=tolerance, rtol=0)
    torch.testing.assert_close(nsp_logits, output.seq_relationship_logits, atol=tolerance, rtol=0)

    mlm_labels = batch.input_ids[POSITIONS].flip(0)
    nsp_labels = torch.tensor([0, 1, 1, 0, 1])
    (F.cross_entropy(mlm_logits, mlm_labels) + F.cross_entropy(nsp_logits, nsp_labels)).backward()
    labels = torch.full_like(inputs["input_ids"], -100)
    flat_labels = torch.full((sum(LENGTHS),), -100)
    flat_labels[POSITIONS] = mlm_labels
    labels[inputs["attention_mask"].bool()] = flat_labels
    theirs(**inputs, labels=labels, next_sentence_label=nsp_labels).loss.backward()  # their own sum of the two means
    assert_gradients_equal(ours, theirs, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_classifier_logits_and_every_gradient_equal_transformers(
    dtype: torch.dtype, tolerance: float, attention: str, direction: str, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    config = config_of(tokenizer.vocab_size)
    theirs: Any
    if direction == "ours to theirs":
        ours = BertForSequenceClassification(config, len(CLASSES))
        stir(ours)
        save_model(tmp_path / "model", ours, tokenizer, facts={}, card="", labels=CLASSES)
        theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "model", attn_implementation=attention)
    else:
        values = vars(config) | {"attn_implementation": attention, "num_labels": len(CLASSES)}
        theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**values))
        stir(theirs)
        theirs.save_pretrained(tmp_path / "model")
        ours, absent = load_model(str(tmp_path / "model"), BertForSequenceClassification)
        assert absent == []
    ours.to(dtype).train()
    theirs.to(dtype).train()

    batch = flat_batch(tokenizer.vocab_size)
    logits = ours(**batch.encoder_inputs())
    labels = torch.tensor([3, 0, 1, 2, 1])
    output = theirs(**padded(batch), labels=labels)
    assert logits.shape == (len(LENGTHS), len(CLASSES))
    torch.testing.assert_close(logits, output.logits, atol=tolerance, rtol=0)
    F.cross_entropy(logits, labels).backward()
    output.loss.backward()
    assert_gradients_equal(ours, theirs, tolerance)


def test_a_batch_without_masked_places_has_no_token_logits_and_all_sentence_logits() -> None:
    model = BertForPreTraining(config_of(50))
    mlm_logits, nsp_logits = model(mlm_positions=torch.empty(0, dtype=torch.int64), **flat_batch(50).encoder_inputs())
    assert mlm_logits.shape == (0, 50) and nsp_logits.shape == (len(LENGTHS), 2)


def test_with_a_zero_transform_training_starts_at_the_unigram_cross_entropy() -> None:
    model = BertForPreTraining(config_of(4))
    nn.init.zeros_(model.cls.predictions.transform.dense.weight)
    model.start_at_unigrams(torch.tensor([5, 3, 0, 0]))  # add one: 6, 4, 1 and 1 of 12
    batch = flat_batch(4)
    logits, _ = model(mlm_positions=torch.tensor([1, 2, 20]), **batch.encoder_inputs())
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[1 / 2, 1 / 3, 1 / 12, 1 / 12]]).expand(3, 4))
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 3]))
    assert float(loss.detach()) == pytest.approx((math.log(2) + math.log(3) + math.log(12)) / 3, abs=1e-6)


def test_a_new_model_starts_near_the_unigram_cross_entropy() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([2 ** (number % 8) for number in range(64)])
    model = BertForPreTraining(config_of(64))
    model.start_at_unigrams(counts)
    share = (counts + 1.0) / (counts + 1.0).sum()
    logits, _ = model(mlm_positions=POSITIONS, **flat_batch(64).encoder_inputs())
    losses = -(logits.log_softmax(1) @ share)  # cross-entropy, were labels drawn by frequency
    entropy = float(-(share * share.log()).sum())
    assert entropy < math.log(64) - 0.2  # the uniform start would be seen
    assert abs(float(losses.detach().mean()) - entropy) < 0.05


def test_heads_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    classifier = BertForSequenceClassification(config_of(50, initializer_range=0.05), 40)
    heads = BertForPreTraining(config_of(50, initializer_range=0.05)).cls
    for name, parameter in [*heads.named_parameters(), *classifier.classifier.named_parameters()]:
        if "LayerNorm" in name or name.endswith("bias"):
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all()
        else:
            assert abs(float(parameter.detach().std()) - 0.05) < 5 * 0.05 / (2 * parameter.numel()) ** 0.5, name


def test_the_classifier_drops_pooled_vectors_in_training_only() -> None:
    model = BertForSequenceClassification(config_of(50, hidden_dropout_prob=1.0), 4)
    without = BertForSequenceClassification(config_of(50), 4)
    stir(model)
    stir(without)
    inputs = flat_batch(50).encoder_inputs()
    assert torch.equal(model.eval()(**inputs), without(**inputs))
    torch.testing.assert_close(model.train()(**inputs), model.classifier.bias.expand(len(LENGTHS), 4))
