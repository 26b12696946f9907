"""Model folders: opened whole by transformers and sentence-transformers, published ones opened here, bad ones refused in one line."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

from bertlab.batches.flat import FlatBatch
from bertlab.batches.labelled import encode_examples
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.model import folder as folders
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.facts import fetch, load_config, load_facts, load_labels, text_read
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers

TEXTS = ["The river runs to the sea.", "An old bird sings in a tree, and sings.", "Sea", "a stone by the river"]
CLASSES = ["fish", "bird", "Tree & stone"]
FACTS = {"corpus": "0" * 64, "steps": 3, "pooler_trained": True}


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return tokenizers.train(TEXTS * 4, kind="wordpiece", vocab_size=90, lowercase=True)


@pytest.fixture
def config(tokenizer: tokenizers.Tokenizer) -> EncoderConfig:
    # far from every default, so that a field that is not written, or not read, is seen
    return EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=20,
        type_vocab_size=3,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.125,
        layer_norm_eps=1e-3,
        initializer_range=0.03,
    )


def stir(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.25, generator=generator)
    model.eval()


@pytest.fixture
def pretrained(config: EncoderConfig, tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> tuple[Path, BertForPreTraining]:
    model = BertForPreTraining(config)
    stir(model)
    save_model(tmp_path / "pretrained", model, tokenizer, facts=FACTS, card="# A card\n")
    return tmp_path / "pretrained", model


@pytest.fixture
def classifier(config: EncoderConfig, tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> tuple[Path, BertForSequenceClassification]:
    model = BertForSequenceClassification(config, len(CLASSES))
    stir(model)
    save_model(tmp_path / "classifier", model, tokenizer, facts=FACTS, card="# A card\n", labels=CLASSES)
    return tmp_path / "classifier", model


def theirs_of(name: str, folder: Path) -> tuple[nn.Module, set[str]]:
    """A model of transformers by its Auto class, with nothing missing, and the keys that it did not expect."""
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"] and not info["error_msgs"]
    return model.eval(), set(info["unexpected_keys"])


def outputs(theirs: nn.Module, folder: Path) -> tuple[Any, Tensor]:
    """What transformers makes of TEXTS through its own tokenizer, and its attention mask."""
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return theirs(**inputs), inputs["attention_mask"].bool()


def flat_texts(tokenizer: tokenizers.Tokenizer) -> FlatBatch:
    return encode_examples(tokenizer, TEXTS, max_length=20).batch(np.arange(len(TEXTS)))


def near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.detach(), theirs.clone(), atol=1e-5, rtol=0)


def test_a_pretrained_folder_opens_in_every_auto_class_with_our_logits(
    pretrained: tuple[Path, BertForPreTraining], tokenizer: tokenizers.Tokenizer
) -> None:
    folder, ours = pretrained
    batch = flat_texts(tokenizer)
    every_place = torch.arange(batch.num_tokens)
    mlm_logits, nsp_logits = ours(mlm_positions=every_place, **batch.encoder_inputs())
    hidden = ours.bert(**batch.encoder_inputs())

    model, unexpected = theirs_of("AutoModelForPreTraining", folder)
    assert type(model).__name__ == "BertForPreTraining" and not unexpected
    output, mask = outputs(model, folder)
    near(mlm_logits, output.prediction_logits[mask])
    near(nsp_logits, output.seq_relationship_logits)

    model, unexpected = theirs_of("AutoModelForMaskedLM", folder)
    assert all(key.startswith(("bert.pooler.", "cls.seq_relationship.")) for key in unexpected)
    output, mask = outputs(model, folder)
    near(mlm_logits, output.logits[mask])

    model, unexpected = theirs_of("AutoModel", folder)
    assert all(key.startswith("cls.") for key in unexpected)
    output, mask = outputs(model, folder)
    near(hidden, output.last_hidden_state[mask])
    near(ours.bert.pool(hidden[batch.cu_seqlens[:-1].long()]), output.pooler_output)


def test_a_classifier_folder_opens_with_our_logits_and_class_names(
    classifier: tuple[Path, BertForSequenceClassification], tokenizer: tokenizers.Tokenizer
) -> None:
    folder, ours = classifier
    model, unexpected = theirs_of("AutoModelForSequenceClassification", folder)
    assert not unexpected
    near(ours(**flat_texts(tokenizer).encoder_inputs()), outputs(model, folder)[0].logits)
    assert model.config.id2label == dict(enumerate(CLASSES)) and model.config.label2id["Tree & stone"] == 2  # type: ignore[union-attr,index]
    _, unexpected = theirs_of("AutoModel", folder)
    assert all(key.startswith("classifier.") for key in unexpected)
    assert load_labels(str(folder)) == CLASSES


def test_the_saved_config_is_the_one_that_transformers_reads(pretrained: tuple[Path, BertForPreTraining], config: EncoderConfig) -> None:
    read = transformers.AutoConfig.from_pretrained(pretrained[0])
    assert isinstance(read, transformers.BertConfig) and read.architectures == ["BertForPreTraining"]
    assert {name: getattr(read, name) for name in vars(config)} == vars(config)
    model, _ = load_model(str(pretrained[0]), BertForPreTraining)
    assert model.config == config


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_a_folder_opens_in_sentence_transformers_with_the_pooling_asked_for(
    pooling: Any, config: EncoderConfig, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    model = BertForPreTraining(config)
    stir(model)
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="", pooling=pooling)
    written = json.loads((tmp_path / "model" / "1_Pooling" / "config.json").read_text())
    assert written["pooling_mode"] == pooling and written["word_embedding_dimension"] == 24
    # readers before pooling_mode go by these
    flags = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
    assert [name for name, value in written.items() if value is True] == [flags[pooling]]
    opened = SentenceTransformer(str(tmp_path / "model"), device="cpu", local_files_only=True)
    assert opened.max_seq_length == 20
    batch = flat_texts(tokenizer)
    parts = model.bert(**batch.encoder_inputs()).split(batch.cu_seqlens.diff().tolist())
    pool: dict[str, Callable[[Tensor], Tensor]] = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "max": lambda h: h.amax(0)}
    near(torch.stack([pool[pooling](part) for part in parts]), torch.from_numpy(opened.encode(TEXTS)))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_the_saved_tokenizer_gives_transformers_the_same_ids(kind: tokenizers.Kind, tmp_path: Path) -> None:
    tokenizer = tokenizers.train(TEXTS * 4, kind=kind, vocab_size=300, lowercase=kind != "bpe")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 20}
    model = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, **sizes))
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert theirs.model_max_length == 20 and theirs.mask_token_id == tokenizer.mask_id and theirs.pad_token_id == tokenizer.pad_id
    again = tokenizers.load(str(tmp_path / "model"))
    for opened in (tokenizer, again):
        single = encode_examples(opened, TEXTS, max_length=64)
        pairs = encode_examples(opened, TEXTS, TEXTS[::-1], max_length=128)
        for number, text in enumerate(TEXTS):
            assert theirs(text)["input_ids"] == single.ids[single.offsets[number] : single.offsets[number + 1]].tolist()
            part = slice(pairs.offsets[number], pairs.offsets[number + 1])
            pair = theirs(text, TEXTS[::-1][number])
            assert pair["input_ids"] == pairs.ids[part].tolist() and pair["token_type_ids"] == pairs.segments[part].tolist()


def test_a_folder_loads_back_bit_by_bit_and_saves_as_the_same_bytes(
    pretrained: tuple[Path, BertForPreTraining],
    classifier: tuple[Path, BertForSequenceClassification],
    tokenizer: tokenizers.Tokenizer,
    tmp_path: Path,
) -> None:
    cases: list[tuple[Path, Any, list[str] | None]] = [(*pretrained, None), (*classifier, CLASSES)]
    for folder, model, labels in cases:
        loaded, absent = load_model(str(folder), type(model))
        assert absent == [] and loaded.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
        again = tmp_path / f"{folder.name} again"
        save_model(again, loaded, tokenizer, facts=load_facts(str(folder)), card="# A card\n", labels=labels)
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
        assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_facts_and_card_are_written_as_given_and_a_used_folder_is_left_alone(
    pretrained: tuple[Path, BertForPreTraining], tokenizer: tokenizers.Tokenizer
) -> None:
    folder, model = pretrained
    assert load_facts(str(folder)) == FACTS and (folder / "README.md").read_text() == "# A card\n"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="already exists"):
        save_model(folder, model, tokenizer, facts={}, card="")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_head_of_the_size_asked_for_stands_on_the_encoder_of_either_kind_of_folder(
    pretrained: tuple[Path, BertForPreTraining], classifier: tuple[Path, BertForSequenceClassification]
) -> None:
    cases: list[tuple[Path, Any]] = [pretrained, classifier]
    for folder, model in cases:
        for new_labels in (len(CLASSES), 7):
            loaded, absent = load_model(str(folder), BertForSequenceClassification, new_labels=new_labels, hidden_dropout_prob=0.5)
            assert absent == ["classifier.bias", "classifier.weight"]
            assert loaded.classifier.out_features == new_labels
            assert loaded.config.hidden_dropout_prob == 0.5 and loaded.dropout.p == 0.5
            encoder = model.bert.state_dict()
            assert all(torch.equal(value, encoder[name]) for name, value in loaded.bert.state_dict().items())
        bare, absent = load_model(str(folder), Bert)
        assert absent == [] and all(torch.equal(value, encoder[name]) for name, value in bare.state_dict().items())


def test_a_length_asked_for_is_where_both_readers_truncate_and_never_beyond_the_positions(
    config: EncoderConfig, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    model = BertForPreTraining(config)
    for asked, written in ((8, 8), (20, 20), (500, 20), (None, 20)):
        folder = tmp_path / str(asked)
        save_model(folder, model, tokenizer, facts={}, card="", max_length=asked)
        assert transformers.AutoTokenizer.from_pretrained(folder).model_max_length == written
        assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == written
        assert load_config(str(folder))["max_position_embeddings"] == 20


def old_names(folder: Path) -> None:
    """Rewrite the weights as the first checkpoints spell them: gamma, beta, and the constant position_ids."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    new_to_old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    for new, old in new_to_old:
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(20)[None]
    assert any(name.endswith("LayerNorm.gamma") for name in tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("names", ["new names", "gamma and beta"])
@pytest.mark.parametrize(
    ("published", "absent_here"),
    [
        ("BertModel", {"cls.predictions", "cls.seq_relationship"}),
        ("BertForMaskedLM", {"bert.pooler", "cls.seq_relationship"}),
        ("BertForNextSentencePrediction", {"cls.predictions"}),
        ("BertForSequenceClassification", {"cls.predictions", "cls.seq_relationship"}),
        ("BertForPreTraining", set()),
    ],
)
def test_a_published_folder_of_any_head_loads_here(
    published: str, absent_here: set[str], names: str, config: EncoderConfig, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    theirs = getattr(transformers, published)(transformers.BertConfig(**vars(config)))
    stir(theirs)
    theirs.save_pretrained(tmp_path / "model")
    tokenizer.save(tmp_path / "model", 20)
    if names == "gamma and beta":
        old_names(tmp_path / "model")
    folder = str(tmp_path / "model")
    assert load_facts(folder) == {}
    ours, absent = load_model(folder, BertForPreTraining)
    assert {".".join(name.split(".")[:2]) for name in absent} == absent_here
    bare, absent_encoder = load_model(folder, Bert)
    assert {name.split(".")[0] for name in absent_encoder} == ({"pooler"} if "bert.pooler" in absent_here else set())

    batch = flat_texts(tokenizer)
    every_place = torch.arange(batch.num_tokens)
    mlm_logits, nsp_logits = ours.eval()(mlm_positions=every_place, **batch.encoder_inputs())
    output, mask = outputs(theirs, tmp_path / "model")
    encoder = theirs if published == "BertModel" else theirs.bert
    hidden = outputs(encoder, tmp_path / "model")[0].last_hidden_state[mask]
    near(ours.bert(**batch.encoder_inputs()), hidden)
    near(bare.eval()(**batch.encoder_inputs()), hidden)
    if "cls.predictions" not in absent_here:
        near(mlm_logits, (output.prediction_logits if published == "BertForPreTraining" else output.logits)[mask])
    if "cls.seq_relationship" not in absent_here and "bert.pooler" not in absent_here:
        near(nsp_logits, output.seq_relationship_logits if published == "BertForPreTraining" else output.logits)


def test_published_weights_in_half_precision_are_read_into_single(config: EncoderConfig, tmp_path: Path) -> None:
    theirs: Any = transformers.BertModel(transformers.BertConfig(**vars(config)))
    theirs.to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "model")
    ours, absent = load_model(str(tmp_path / "model"), Bert)
    assert absent == []
    for name, parameter in ours.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, theirs.state_dict()[name].float())


def test_no_file_of_a_folder_is_pickle_and_none_is_read(
    classifier: tuple[Path, BertForSequenceClassification], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = classifier
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".md", ".safetensors"), path
            assert path.read_bytes()[:1] not in (b"\x80", b"P"), path  # a pickle's first byte, and a zip's, in which torch.save puts one
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pickle was read")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    load_model(str(folder), BertForSequenceClassification)
    tokenizers.load(str(folder))
    assert load_labels(str(folder)) == CLASSES


@pytest.fixture
def broken(pretrained: tuple[Path, BertForPreTraining], tmp_path: Path) -> Iterator[Path]:
    """A copy of a good folder, as a published one is: nothing binds its files. To be spoiled."""
    shutil.copytree(pretrained[0], tmp_path / "broken")
    unbind(tmp_path / "broken")
    yield tmp_path / "broken"


def unbind(folder: Path) -> None:
    for name in ("manifest.json", "bertlab.json"):
        (folder / name).unlink()


def refusal(folder: Path, error: type[BertlabError], kind: Any = BertForPreTraining) -> str:
    """The message with which the folder is refused: one line that names the place."""
    with pytest.raises(error) as caught:
        load_model(str(folder), kind)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


def spoil_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def test_a_folder_without_config_or_not_there_is_refused(broken: Path, tmp_path: Path) -> None:
    (broken / "config.json").unlink()
    assert "no config.json" in refusal(broken, ConfigError)
    assert "no such file or folder" in refusal(tmp_path / "nowhere", ConfigError)


def test_a_run_folder_is_refused_with_a_hint_at_the_model_inside(broken: Path, tmp_path: Path) -> None:
    broken.rename(tmp_path / "model")
    assert "folder `model` inside" in refusal(tmp_path, ConfigError)


def test_a_config_that_is_no_json_object_is_corrupt(broken: Path) -> None:
    for text in ('{"vocab_size": 3', "[1, 2]", ""):
        (broken / "config.json").write_text(text)
        assert "config.json" in refusal(broken, CorruptError)
        with pytest.raises(CorruptError):
            load_config(str(broken))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu': this is a BERT encoder, it needs 'gelu'"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"vocab_size": None}, "no vocab_size"),
        ({"hidden_size": 10**12}, "hidden_size=1000000000000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000"),
        ({"vocab_size": -5}, "vocab_size=-5"),
        ({"num_attention_heads": 5}, "hidden_size=24 is not a multiple of num_attention_heads=5"),
        ({"hidden_size": "24"}, "hidden_size='24' is not a whole number"),
        ({"hidden_dropout_prob": 7}, "hidden_dropout_prob=7"),
    ],
)
def test_a_config_of_another_architecture_or_of_absurd_sizes_is_refused_by_key(broken: Path, changes: dict[str, Any], words: str) -> None:
    spoil_config(broken, **changes)
    message = refusal(broken, ConfigError)
    assert words in message and "config.json" in message


def test_weights_of_another_shape_are_refused_by_name_with_both_shapes(broken: Path, config: EncoderConfig) -> None:
    spoil_config(broken, vocab_size=config.vocab_size + 1)
    message = refusal(broken, ConfigError)
    shape = (config.vocab_size, 24)
    assert "word_embeddings.weight" in message or "cls.predictions.bias" in message
    assert str(shape) in message or str((config.vocab_size,)) in message
    assert f"({config.vocab_size + 1}," in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_corrupt_and_named(broken: Path, value: float) -> None:
    name = "bert.encoder.layer.1.output.dense.weight"
    spoil_weights(broken, lambda tensors: tensors[name].view(-1)[7:8].fill_(value))
    assert name in refusal(broken, CorruptError)


def test_weights_without_an_encoder_parameter_are_refused_by_name(broken: Path) -> None:
    name = "bert.encoder.layer.1.attention.self.query.weight"
    spoil_weights(broken, lambda tensors: tensors.pop(name))
    assert name in refusal(broken, ConfigError)
    assert name.removeprefix("bert.") in refusal(broken, ConfigError, kind=Bert)


def test_truncated_or_foreign_weights_are_corrupt(broken: Path) -> None:
    path = broken / "model.safetensors"
    whole = path.read_bytes()
    for spoilt in (whole[:-1], whole[: len(whole) // 2], whole[:100], whole[:4], b"", b"not a safetensors file"):
        path.write_bytes(spoilt)
        assert "model.safetensors" in refusal(broken, CorruptError)


def test_a_checkpoint_that_is_only_pickle_is_refused_with_the_way_out(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(broken, ConfigError)
    torch.save({}, broken / "pytorch_model.bin")
    message = refusal(broken, ConfigError)
    assert "pickle" in message and "save_pretrained" in message


def test_class_names_are_asked_only_of_a_classifier_and_must_be_numbered(
    pretrained: tuple[Path, BertForPreTraining], classifier: tuple[Path, BertForSequenceClassification]
) -> None:
    with pytest.raises(ConfigError, match="has no classifier"):
        load_labels(str(pretrained[0]))
    unbind(classifier[0])
    spoil_config(classifier[0], id2label={"0": "fish", "2": "bird"})
    with pytest.raises(CorruptError, match="id2label"):
        load_labels(str(classifier[0]))


# --- what binds a folder's files --------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_changed_file_of_ours_is_named_before_a_tensor_is_read(
    classifier: tuple[Path, BertForSequenceClassification], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classifier[0]
    load_model(str(folder), BertForSequenceClassification)
    monkeypatch.setattr(folders, "read_tensors", pytest.fail)
    for name in files_of(folder):
        if name == "README.md":
            continue
        whole = (folder / name).read_bytes()
        for changed in (whole[:-1], whole + b" ", whole[:9] + bytes([whole[9] ^ 4]) + whole[10:], b"", None):
            if changed is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(changed)
            with pytest.raises(BertlabError, match=name) as caught:
                load_model(str(folder), BertForSequenceClassification)
            assert isinstance(caught.value, CorruptError) or (changed is None and name in ("config.json", "model.safetensors"))
            (folder / name).write_bytes(whole)


def test_the_card_is_for_people_to_edit(pretrained: tuple[Path, BertForPreTraining]) -> None:
    (pretrained[0] / "README.md").write_text("# My own card\n")
    (pretrained[0] / "notes.txt").write_text("mine")
    load_model(str(pretrained[0]), BertForPreTraining)


@pytest.mark.parametrize("theirs", ['{"files": {"config.json": "no hash"}}', "[1]", '{"name": "a web app"}'])
def test_a_manifest_of_somebody_else_binds_nothing(broken: Path, theirs: str) -> None:
    (broken / "manifest.json").write_text(theirs)
    load_model(str(broken), BertForPreTraining)


def test_a_local_folder_is_fetched_from_nowhere(tmp_path: Path) -> None:
    assert fetch(str(tmp_path)) == str(tmp_path)


def test_the_text_that_weights_have_read_is_told_as_far_as_facts_say_so(tmp_path: Path) -> None:
    ours = {"name": "ours.txt", "licence": "CC0-1.0"}
    for facts, told in (
        ({"corpus": {"sources": [ours, {"name": "more"}]}, "text_read": [{"name": "first"}]}, ["first", "ours.txt", "more"]),
        ({"text_read": [ours, "text", {"licence": "MIT"}, {"name": 3}, None]}, ["ours.txt"]),  # what a stranger may have written
        ({"text_read": 3, "corpus": [1]}, []),
        ({}, []),
    ):
        (tmp_path / "bertlab.json").write_text(json.dumps(facts))
        read = text_read(str(tmp_path))
        assert [source["name"] for source in read] == told and all(set(source) == {"name", "licence"} for source in read)
        assert ours in read or "ours.txt" not in told
    assert text_read(str(tmp_path / "published")) == []
