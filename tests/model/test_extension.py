"""Extended models: new rows start from their parts, old rows and what they give stay bit by bit, transformers opens the folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers as rust
import torch
import transformers
from torch import nn

from bertlab.batches.flat import FlatBatch
from bertlab.batches.labelled import encode_examples
from bertlab.errors import ConfigError
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.extension import extend_embeddings
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.extension import extend, parts_of_new
from bertlab.tokens.tokenizer import Tokenizer

TEXTS = ["The river runs to the sea.", "An old bird sings in a tree, and sings.", "Sea", "a stone by the river"]
DOMAIN = ["hydrosphere cryosphere hydrosphere"] * 5  # the letters of TEXTS spell them
NAMES = ("BERT", "pretraining", "classifier")


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return tokenizers.train([*TEXTS * 4, "hydro sphere cry", "yhdrospec"], kind="wordpiece", vocab_size=100, lowercase=True)


@pytest.fixture(scope="module")
def new(base: Tokenizer) -> Tokenizer:
    """Two words, and one piece that continues a word."""
    rules = json.loads(extend(base, DOMAIN, 10)._text)
    rules["model"]["vocab"]["##ostone"] = len(rules["model"]["vocab"])
    extended = Tokenizer(rust.Tokenizer.from_str(json.dumps(rules)), "the test")
    assert [extended.token(id) for id in range(base.vocab_size, extended.vocab_size)] == ["hydrosphere", "cryosphere", "##ostone"]
    return extended


def build(name: str, vocab_size: int) -> Any:
    sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20}
    config = EncoderConfig(vocab_size=vocab_size, max_position_embeddings=40, **sizes)
    torch.manual_seed(0)
    model: nn.Module
    if name == "classifier":
        model = BertForSequenceClassification(config, 3)
    else:
        model = Bert(config) if name == "BERT" else BertForPreTraining(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def batch_of(tokenizer: Tokenizer, texts: list[str]) -> FlatBatch:
    return encode_examples(tokenizer, texts, max_length=40).batch(np.arange(len(texts)))


def encoder(model: Any) -> Bert:
    return model if isinstance(model, Bert) else model.bert


def test_a_new_row_is_the_mean_of_its_parts_and_its_bias_their_smallest_by_hand() -> None:
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "##bird", "##s"]
    backend = rust.Tokenizer(rust.models.WordPiece({entry: id for id, entry in enumerate(letters)}, unk_token="[UNK]"))
    backend.normalizer = rust.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = rust.pre_tokenizers.BertPreTokenizer()
    base = Tokenizer(backend, "by hand")
    new = extend(base, ["seabirds"] * 6 + ["seabird ∑"] * 5, 3)
    assert [new.token(id) for id in (8, 9, 10)] == ["seabirds", "seabird", "∑"]  # 12, 5 and 5 saved: an unknown sign goes by its letter
    model = build("pretraining", 8)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.copy_(torch.arange(8.0)[:, None] * torch.ones(12))
        model.cls.predictions.bias.copy_(10 * torch.arange(8.0))
    extend_embeddings(model, base, new)
    # sea ##bird ##s = (5 + 6 + 7) / 3, sea ##bird = (5 + 6) / 2, unknown = 1
    assert model.bert.embeddings.word_embeddings.weight[:, 3].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 6, 5.5, 1]
    assert model.cls.predictions.bias.tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 50, 50, 10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_old_rows_and_everything_else_stay_bit_by_bit(name: str, dtype: torch.dtype, base: Tokenizer, new: Tokenizer) -> None:
    model = build(name, base.vocab_size).to(dtype)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    extend_embeddings(model, base, new)
    after = model.state_dict()
    assert after.keys() == before.keys()
    wider = {key for key in before if "word_embeddings" in key or "predictions.bias" in key}
    assert len(wider) == (2 if name == "pretraining" else 1)
    for key, value in after.items():
        assert value.dtype == dtype
        assert value.shape == ((new.vocab_size, *before[key].shape[1:]) if key in wider else before[key].shape)
        assert torch.equal(value[: len(before[key])], before[key])
    for key in wider:
        for place, ids in enumerate(parts_of_new(base, new)):
            assert len(ids) > 1
            old = before[key][ids].double()
            expected = (old.amin(0) if key.endswith("bias") else old.mean(0)).to(dtype)  # rounded once
            atol = 0 if dtype == torch.bfloat16 else 1e-7
            torch.testing.assert_close(after[key][base.vocab_size + place], expected, atol=atol, rtol=0)
    assert model.config.vocab_size == encoder(model).config.vocab_size == new.vocab_size
    weight = encoder(model).embeddings.word_embeddings
    assert weight.num_embeddings == new.vocab_size and weight.weight.requires_grad
    assert any(parameter is weight.weight for parameter in model.parameters())
    frozen = build(name, base.vocab_size).requires_grad_(False)
    extend_embeddings(frozen, base, new)
    assert not any(parameter.requires_grad for parameter in frozen.parameters()), "what is not learnt stays so"


def test_a_text_without_new_entries_gives_the_same_bits(base: Tokenizer, new: Tokenizer) -> None:
    for name in NAMES:
        model = build(name, base.vocab_size)
        batch = batch_of(base, TEXTS)
        assert torch.equal(batch.input_ids, batch_of(new, TEXTS).input_ids)
        inputs: dict[str, Any] = dict(batch.encoder_inputs())
        if name == "pretraining":
            inputs["mlm_positions"] = torch.arange(batch.num_tokens)
        with torch.inference_mode():
            before, hidden = model(**inputs), encoder(model)(**batch.encoder_inputs())
            extend_embeddings(model, base, new)
            after, hidden_after = model(**inputs), encoder(model)(**batch.encoder_inputs())
        assert torch.equal(hidden, hidden_after)
        if name == "pretraining":
            assert torch.equal(before[1], after[1]) and after[0].shape[1] == new.vocab_size
            # another width may be another kernel: the product of the same rows to the last digits
            torch.testing.assert_close(after[0][:, : base.vocab_size], before[0], atol=1e-5, rtol=0)
            bias = model.cls.predictions.bias.detach()
            for place, ids in enumerate(parts_of_new(base, new)):
                expected = (before[0][:, ids] - bias[ids]).mean(1) + bias[ids].min()
                torch.testing.assert_close(after[0][:, base.vocab_size + place], expected, atol=1e-4, rtol=0)
        else:
            assert torch.equal(before, after)


def test_the_new_rows_are_trained(base: Tokenizer, new: Tokenizer) -> None:
    model = build("pretraining", base.vocab_size)
    extend_embeddings(model, base, new)
    batch = batch_of(new, ["hydrosphere sea"])
    logits, _ = model(mlm_positions=torch.arange(batch.num_tokens), **batch.encoder_inputs())
    logits.logsumexp(1).sum().backward()
    for parameter in (model.bert.embeddings.word_embeddings.weight, model.cls.predictions.bias):
        assert parameter.grad[base.vocab_size :].abs().amin() > 0


def test_rows_beyond_the_entries_of_a_padded_model_are_used_first(base: Tokenizer, new: Tokenizer) -> None:
    for spare in (1, 3, 9):
        model = build("pretraining", base.vocab_size + spare)
        before = model.bert.embeddings.word_embeddings.weight.detach().clone()
        extend_embeddings(model, base, new)
        after = model.bert.embeddings.word_embeddings.weight.detach()
        assert len(after) == model.config.vocab_size == len(model.cls.predictions.bias) == base.vocab_size + max(spare, 3)
        assert torch.equal(after[: base.vocab_size], before[: base.vocab_size])
        parts = parts_of_new(base, new)
        assert all(torch.allclose(after[base.vocab_size + place], before[ids].mean(0)) for place, ids in enumerate(parts))
        assert torch.equal(after[base.vocab_size + 3 :], before[base.vocab_size + 3 :])


def test_the_shapes_are_those_of_transformers_after_resizing(base: Tokenizer, new: Tokenizer) -> None:
    ours = build("pretraining", base.vocab_size)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**vars(ours.config)))
    theirs.resize_token_embeddings(new.vocab_size, mean_resizing=False)
    extend_embeddings(ours, base, new)
    expected = theirs.state_dict()
    for key, value in ours.state_dict().items():
        assert value.shape == expected[key].shape, key
    assert theirs.config.vocab_size == ours.config.vocab_size


def test_an_extended_folder_opens_in_transformers_and_extends_again(base: Tokenizer, new: Tokenizer, tmp_path: Path) -> None:
    save_model(tmp_path / "old", build("pretraining", base.vocab_size), base, facts={}, card="")
    model, _ = load_model(str(tmp_path / "old"), BertForPreTraining)
    extend_embeddings(model, tokenizers.load(str(tmp_path / "old")), new)
    save_model(tmp_path / "new", model, new, facts={}, card="")

    theirs, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"] and not info["error_msgs"]
    assert all(key.startswith(("bert.pooler.", "cls.seq_relationship.")) for key in info["unexpected_keys"])  # parts a masked LM has not
    _, info = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]

    texts = [*TEXTS, "Hydrosphere and cryosphere", "birdostone"]
    spelt = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    old, offsets = base.encode(TEXTS)
    for number, text in enumerate(TEXTS):
        assert spelt(text, add_special_tokens=False)["input_ids"] == old[offsets[number] : offsets[number + 1]].tolist()
    first = base.vocab_size
    and_id = int(base.encode(["and"])[0][0])
    assert spelt(texts[4], add_special_tokens=False)["input_ids"] == [first, and_id, first + 1]
    assert spelt(texts[5], add_special_tokens=False)["input_ids"] == [*base.encode(["bird"])[0].tolist(), first + 2]

    batch = batch_of(new, texts)
    with torch.inference_mode():
        inputs = spelt(texts, padding=True, return_tensors="pt")
        expected = theirs.eval()(**inputs).logits[inputs["attention_mask"].bool()]
        logits, _ = model.eval()(mlm_positions=torch.arange(batch.num_tokens), **batch.encoder_inputs())
    torch.testing.assert_close(logits, expected.clone(), atol=1e-4, rtol=0)

    further = extend(new, ["birdsea"] * 5, 1)
    extend_embeddings(model, new, further)
    assert model.config.vocab_size == new.vocab_size + 1
    again, absent = load_model(str(tmp_path / "new"), BertForPreTraining)
    assert not absent
    rows = again.bert.embeddings.word_embeddings.weight
    assert torch.equal(model.bert.embeddings.word_embeddings.weight[: new.vocab_size], rows)


def test_what_does_not_belong_together_is_refused_and_nothing_changed(base: Tokenizer, new: Tokenizer) -> None:
    model = build("pretraining", base.vocab_size)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    other = tokenizers.train(TEXTS * 4, kind="wordpiece", vocab_size=80, lowercase=True)
    with pytest.raises(ConfigError, match="not an extension"):
        extend_embeddings(model, base, other)
    with pytest.raises(ConfigError, match="not of one training"):
        extend_embeddings(model, new, new)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    extend_embeddings(model, base, base)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.config.vocab_size == base.vocab_size
