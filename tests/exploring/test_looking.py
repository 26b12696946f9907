"""What the page is told of a text: the ids of the library's own encoding, the words of fill, the answers of predict, attention in bytes."""

import math
from base64 import b64decode
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import bertlab
from bertlab.errors import ConfigError
from bertlab.exploring import looking
from bertlab.exploring.attribution import attributed
from bertlab.exploring.looking import abilities, framed, looked_at
from bertlab.inference import LoadedModel

TEXT, SECOND = "the old river runs to the sea", "birds sing in spring"


@pytest.fixture(scope="module")
def models(every_model: dict[str, str]) -> dict[str, LoadedModel]:
    return {name: bertlab.load(folder, "cpu") for name, folder in every_model.items()}


def test_a_text_and_a_pair_are_framed_as_everywhere(models: Any) -> None:
    model = models["words"]
    for second in (None, SECOND):
        examples = model.encode([TEXT], None if second is None else [second])
        found = framed(model, TEXT, second)
        assert found.ids[0].tolist() == examples.ids.tolist() and found.segments[0].tolist() == examples.segments.tolist()
    assert framed(model, "").ids[0].tolist() == [model.tokenizer.cls_id, model.tokenizer.sep_id]


def test_what_is_too_long_is_cut_as_everywhere_and_counted(models: Any) -> None:
    model = models["words"]
    found, examples = framed(model, f"{TEXT} " * 5, SECOND), model.encode([f"{TEXT} " * 5], [SECOND])
    assert found.ids[0].tolist() == examples.ids.tolist() and len(examples.ids) == 24
    wanted = sum(len(model.tokenizer.encode([each])[0]) for each in (f"{TEXT} " * 5, SECOND))
    assert found.cut == wanted - (24 - 3) > 0


def test_no_more_tokens_are_looked_at_than_a_page_can_show(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LONGEST", 9)
    assert framed(models["words"], f"{TEXT} " * 5).ids.shape == (1, 9) and abilities(models["words"])["longest"] == 9


def test_attention_comes_in_bytes_in_the_order_of_layers_heads_rows_columns(models: Any) -> None:
    model = models["words"]
    found, sequence = looked_at(model, TEXT), framed(model, TEXT)
    length = len(found["tokens"])
    packed = np.frombuffer(b64decode(found["attention"]["weights"]), dtype=np.uint8).reshape(2, 4, length, length)
    assert (found["attention"]["layers"], found["attention"]["heads"]) == (2, 4)
    with torch.inference_mode():
        inside = looking.opened(model.encoder, looking.word_vectors(model.encoder, sequence.ids), sequence.segments)
    for layer in range(2):
        np.testing.assert_allclose(packed[layer] / 255, inside.attention[layer][0].numpy(), atol=0.5 / 255 + 1e-6)


def test_words_for_gaps_are_those_of_fill_and_what_was_there_is_told(models: Any) -> None:
    model = models["words"]
    text = TEXT.replace("old", "[MASK]")
    ((first, *_),) = model.fill(text, top=1)
    written, chosen = looked_at(model, text), looked_at(model, TEXT, masked=[2])
    for found in (written, chosen):
        (gap,) = found["gaps"]
        assert gap["place"] == 2 and (gap["words"][0]["word"], gap["words"][0]["probability"]) == (
            first[0],
            pytest.approx(first[1], abs=1e-6),
        )
    assert written["gaps"][0]["was"] is None and "was" not in written["tokens"][2]
    assert chosen["gaps"][0]["was"]["word"] == "old" == chosen["tokens"][2]["was"] and chosen["tokens"][2]["text"] == "[MASK]"
    everything = {each["word"]: each["probability"] for each in looked_at(model, text)["gaps"][0]["words"]}
    assert list(everything.values()) == sorted(everything.values(), reverse=True) and sum(everything.values()) <= 1 + 1e-6


def test_only_tokens_of_a_text_can_be_masked(models: Any) -> None:
    for place in (0, 8, -1, 99):  # [CLS], [SEP], and beyond
        with pytest.raises(ConfigError, match="is no token of the text"):
            looked_at(models["words"], TEXT, masked=[place])


def test_the_next_sentence_is_asked_for_pairs_alone(models: Any) -> None:
    model = models["words"]
    assert looked_at(model, TEXT)["next"] is None and looked_at(models["single"], TEXT, SECOND)["next"] is None
    examples = model.encode([TEXT], [SECOND])
    with torch.inference_mode():
        _, logits = model.model(torch.empty(0, dtype=torch.int64), **examples.batch(np.arange(1)).encoder_inputs())
    assert looked_at(model, TEXT, SECOND)["next"]["follows"] == pytest.approx(float(logits.softmax(-1)[0, 0]), abs=1e-6)


def test_answers_are_those_of_predict_for_every_task(models: Any) -> None:
    for name in ("single", "several"):
        (prediction,) = models[name].predict([TEXT])
        classes = looked_at(models[name], TEXT)["answer"]["classes"]
        assert {each["label"]: pytest.approx(each["probability"], abs=1e-6) for each in classes} == prediction.probabilities
        assert [each["probability"] for each in classes] == sorted((each["probability"] for each in classes), reverse=True)
        assert (models[name].known.temperature is None) == (prediction.uncalibrated is None)
    (estimate,) = models["number"].predict([TEXT])
    assert looked_at(models["number"], TEXT)["answer"]["value"] == pytest.approx(estimate.value, abs=1e-5)
    (entities,) = models["tags"].predict([TEXT])  # every word is one token here
    assert [tag["label"] for tag in looked_at(models["tags"], TEXT)["answer"]["tags"]][1:-1] == entities.tags
    (answer,) = models["answers"].predict(["birds ?"], [TEXT])
    assert looked_at(models["answers"], "birds ?", TEXT)["answer"]["text"] == answer.text


@pytest.mark.parametrize("name", ["single", "several"])
def test_probabilities_are_at_the_temperature_that_dev_taught_and_so_is_what_is_explained(
    name: str, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models[name]
    before = {each["label"]: each["probability"] for each in looked_at(model, TEXT)["answer"]["classes"]}
    monkeypatch.setattr(model, "known", replace(model.known, temperature=2.5))
    (prediction,) = model.predict([TEXT])
    after = {each["label"]: each["probability"] for each in looked_at(model, TEXT)["answer"]["classes"]}
    assert after == pytest.approx(prediction.probabilities, abs=1e-6)
    assert max(abs(after[label] - before[label]) for label in after) > 0.02, "a temperature that changes nothing shows nothing"
    for label in after:
        assert attributed(model, TEXT, label=label)["answer"] == pytest.approx(math.log(after[label]), abs=1e-4)


def test_a_model_of_pairs_says_so_instead_of_answering(models: Any) -> None:
    assert "second text" in looked_at(models["pairs"], TEXT)["answer"]["note"]
    assert "give no second" in looked_at(models["single"], TEXT, SECOND)["answer"]["note"]
    assert "classes" in looked_at(models["pairs"], TEXT, SECOND)["answer"]
    assert "second text" in looked_at(models["answers"], TEXT)["answer"]["note"]


def test_abilities_say_what_can_be_asked(models: Any) -> None:
    words, single = abilities(models["words"]), abilities(models["single"])
    assert (words["layers"], words["heads"], words["words"], words["next"], words["task"]) == (2, 4, True, True, None)
    assert (single["words"], single["next"], single["task"], single["labels"]) == (
        False,
        False,
        "single-label",
        ["hills", "rivers", "seas"],
    )
    assert "masked words" in words["can"] and "attributions" in single["can"]
