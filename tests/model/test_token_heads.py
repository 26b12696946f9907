"""The heads on tokens, of classes and of answers: logits, loss and every gradient against transformers, and folders both ways.

transformers lets padding take part in the softmax over an answer's places, so that its loss there depends on the batch: it is compared
sequence by sequence, without padding.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from bertlab.batches.flat import IGNORED, FlatBatch, LabelledBatch, flat_fields
from bertlab.model.encoder import EncoderConfig
from bertlab.model.facts import load_config, load_labels
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification
from bertlab.tokens import tokenizer as tokenizers
from bertlab.training.objectives import answer_loss

LENGTHS = (9, 3, 12, 3, 11)
CLASSES = ["O", "B-fish", "I-fish", "B-bird", "I-bird"]
TOKEN_LABELS = torch.tensor([IGNORED if place % 3 == 1 else (5 * place) % 7 % 5 for place in range(sum(LENGTHS))])
ANSWERS = torch.tensor([[2, 8], [0, 0], [11, 11], [IGNORED, IGNORED], [3, 4]])
SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
SETTINGS: dict[str, Any] = {"max_position_embeddings": 12, "layer_norm_eps": 1e-3, "hidden_dropout_prob": 0.0}

Kind = Any  # one of
KINDS = [BertForTokenClassification, BertForQuestionAnswering]


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return tokenizers.train(["the river runs to the sea", "an old bird sings"] * 4, kind="wordpiece", vocab_size=64, lowercase=True)


def new(kind: Kind, vocab_size: int, **changes: Any) -> Any:
    config = EncoderConfig(**{"vocab_size": vocab_size} | SIZES | SETTINGS | changes)
    return kind(config, len(CLASSES)) if kind is BertForTokenClassification else kind(config)


def stir(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.25, generator=generator)


def labelled(vocab_size: int, labels: Tensor) -> LabelledBatch:
    ids = torch.randint(1, vocab_size, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
    fields = flat_fields(ids.numpy(), (ids % 2).numpy(), torch.tensor(LENGTHS).numpy())
    return LabelledBatch(**fields, labels=labels, rows=torch.arange(len(LENGTHS)))


def one_by_one(batch: FlatBatch) -> list[dict[str, Tensor]]:
    """Each sequence as transformers takes it: a batch of one, without padding."""
    parts = (batch.input_ids.split(LENGTHS), batch.token_type_ids.split(LENGTHS))
    return [{"input_ids": ids[None], "token_type_ids": segments[None]} for ids, segments in zip(*parts, strict=True)]


def both(kind: Kind, direction: str, tokenizer: tokenizers.Tokenizer, folder: Path) -> tuple[Any, Any]:
    """The same weights in our model and in transformers', gone through a folder in either direction with nothing missing or left over."""
    published = getattr(transformers, kind.__name__)
    if direction == "ours to theirs":
        ours = new(kind, tokenizer.vocab_size)
        stir(ours)
        labels = CLASSES if kind is BertForTokenClassification else None
        save_model(folder, ours, tokenizer, facts={}, card="", labels=labels)
        theirs, told = published.from_pretrained(folder, output_loading_info=True)
        assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        return ours, theirs
    values = (
        SIZES | SETTINGS | {"num_labels": len(CLASSES) if kind is BertForTokenClassification else 2, "attention_probs_dropout_prob": 0.0}
    )
    theirs = published(transformers.BertConfig(vocab_size=tokenizer.vocab_size, **values))
    stir(theirs)
    theirs.save_pretrained(folder)
    ours, absent = load_model(str(folder), kind)
    assert absent == []
    return ours, theirs


# A softmax does not see what all its scores share: a key's bias, and over the places of an answer the last biases of all.
UNSEEN = ("key.bias",)
UNSEEN_BY_ANSWERS = (*UNSEEN, "qa_outputs.bias", "layer.1.output.LayerNorm.bias")


def assert_gradients_equal(ours: nn.Module, theirs: nn.Module, tolerance: float) -> None:
    unseen = UNSEEN_BY_ANSWERS if isinstance(ours, BertForQuestionAnswering) else UNSEEN
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient, other = parameter.grad, wanted.pop(name)
        assert gradient is not None and other is not None
        assert gradient.abs().max() > 1e-4 or name.endswith(unseen), name
        torch.testing.assert_close(gradient, other, atol=tolerance, rtol=0, msg=f"gradient of {name}")
    assert not wanted


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_token_classes_loss_and_every_gradient_equal_transformers(
    dtype: torch.dtype, tolerance: float, direction: str, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    ours, theirs = both(BertForTokenClassification, direction, tokenizer, tmp_path / "model")
    ours.to(dtype).train()
    theirs.to(dtype).train()
    batch = labelled(tokenizer.vocab_size, TOKEN_LABELS)
    logits = ours(**batch.encoder_inputs())
    assert logits.shape == (sum(LENGTHS), len(CLASSES))
    longest = max(LENGTHS)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    padded = {name: torch.zeros(mask.shape, dtype=torch.int64) for name in ("input_ids", "token_type_ids")}
    for name, column in padded.items():
        column[mask] = getattr(batch, name)
    labels = torch.full(mask.shape, IGNORED)
    labels[mask] = TOKEN_LABELS
    output = theirs(**padded, attention_mask=mask.long(), labels=labels)
    torch.testing.assert_close(logits, output.logits[mask], atol=tolerance, rtol=0)
    loss = F.cross_entropy(logits, batch.labels, reduction="sum") / (batch.labels != IGNORED).sum()
    torch.testing.assert_close(loss, output.loss, atol=tolerance, rtol=0)
    loss.backward()
    output.loss.backward()
    assert_gradients_equal(ours, theirs, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_answers_loss_and_every_gradient_equal_transformers(
    dtype: torch.dtype, tolerance: float, direction: str, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    ours, theirs = both(BertForQuestionAnswering, direction, tokenizer, tmp_path / "model")
    ours.to(dtype).train()
    theirs.to(dtype).train()
    batch = labelled(tokenizer.vocab_size, ANSWERS)
    logits = ours(**batch.encoder_inputs())
    assert logits.shape == (sum(LENGTHS), 2)
    losses, counted = [], 0
    for inputs, mine, (start, end) in zip(one_by_one(batch), logits.split(LENGTHS), ANSWERS.tolist(), strict=True):
        wanted = {"start_positions": torch.tensor([start]), "end_positions": torch.tensor([end])} if start != IGNORED else {}
        output = theirs(**inputs, **wanted)
        torch.testing.assert_close(mine, torch.stack([output.start_logits[0], output.end_logits[0]], 1), atol=tolerance, rtol=0)
        if wanted:
            losses.append(output.loss)
            counted += 1
    loss, expected = answer_loss(logits, batch) / counted, torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected, atol=tolerance, rtol=0)
    loss.backward()
    expected.backward()
    assert_gradients_equal(ours, theirs, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_opens_in_transformers_auto_class(kind: Kind, tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    classes = kind is BertForTokenClassification
    save_model(tmp_path / "model", new(kind, tokenizer.vocab_size), tokenizer, facts={}, card="", labels=CLASSES if classes else None)
    auto = transformers.AutoModelForTokenClassification if classes else transformers.AutoModelForQuestionAnswering
    theirs: Any = auto.from_pretrained(tmp_path / "model")
    assert type(theirs).__name__ == kind.__name__ == load_config(str(tmp_path / "model"))["architectures"][0]
    if classes:
        assert list(theirs.config.id2label.values()) == load_labels(str(tmp_path / "model")) == CLASSES
        assert theirs.config.problem_type is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [BertForPreTraining, BertForSequenceClassification])
def test_a_head_on_tokens_starts_fresh_on_any_encoder(kind: Kind, start: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    config = EncoderConfig(vocab_size=tokenizer.vocab_size, **SIZES, **SETTINGS)
    source: Any = start(config) if start is BertForPreTraining else start(config, 7)
    stir(source)
    save_model(
        tmp_path / "model", source, tokenizer, facts={}, card="", labels=list("abcdefg") if start is not BertForPreTraining else None
    )
    model: Any
    model, absent = load_model(str(tmp_path / "model"), kind, new_labels=3)
    assert all(name.startswith(("classifier.", "qa_outputs.")) for name in absent) and len(absent) == 2
    assert torch.equal(model.bert.encoder.layer[1].output.dense.weight, source.bert.encoder.layer[1].output.dense.weight)
    head = model.classifier if kind is BertForTokenClassification else model.qa_outputs
    assert head.weight.shape[0] == (3 if kind is BertForTokenClassification else 2)


def test_a_trained_head_of_answers_is_kept_or_left_as_asked(tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    model = new(BertForQuestionAnswering, tokenizer.vocab_size)
    stir(model)
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="")
    kept, absent = load_model(str(tmp_path / "model"), BertForQuestionAnswering)
    assert absent == [] and torch.equal(kept.qa_outputs.weight, model.qa_outputs.weight)
    fresh, absent = load_model(str(tmp_path / "model"), BertForQuestionAnswering, new_labels=1)
    assert absent == ["qa_outputs.bias", "qa_outputs.weight"] and not torch.equal(fresh.qa_outputs.weight, model.qa_outputs.weight)


def test_the_token_classifier_drops_hidden_states_in_training_only() -> None:
    model = new(BertForTokenClassification, 50, hidden_dropout_prob=1.0)
    stir(model)
    inputs = labelled(50, TOKEN_LABELS).encoder_inputs()
    assert torch.equal(model.train()(**inputs), model.classifier.bias.expand(sum(LENGTHS), len(CLASSES)))
    without = new(BertForTokenClassification, 50)
    stir(without)
    assert torch.equal(model.eval()(**inputs), without(**inputs))
