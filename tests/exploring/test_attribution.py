"""Integrated gradients: complete, exact where a model is linear, of the class that was asked for."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import bertlab
from bertlab.errors import ConfigError
from bertlab.exploring import attribution
from bertlab.exploring.attribution import attributed
from bertlab.inference import LoadedModel

TEXT, SECOND = "the old river runs to the sea", "birds sing in spring"


@pytest.fixture(scope="module")
def models(every_model: dict[str, str]) -> dict[str, LoadedModel]:
    return {name: bertlab.load(folder, "cpu") for name, folder in every_model.items()}


@pytest.mark.parametrize("name, second", [("single", None), ("pairs", SECOND), ("several", None), ("number", None)])
def test_shares_sum_to_what_the_answer_is_above_that_of_masks(name: str, second: str | None, models: Any) -> None:
    differences = []
    for label in models[name].labels if name != "number" else [None]:
        found = attributed(models[name], TEXT, second, label)
        differences.append(abs(found["answer"] - found["answer_of_masks"]))
        assert abs(sum(found["shares"]) - (found["answer"] - found["answer_of_masks"])) <= 0.01 * (1 + differences[-1])
        assert found["missed"] == pytest.approx(found["answer"] - found["answer_of_masks"] - sum(found["shares"]), abs=1e-4)
        assert len(found["shares"]) == len(found["tokens"]) and found["tokens"][0] == "[CLS]"
        assert found["shares"][0] == 0 == found["shares"][-1], "[CLS] and [SEP] are the same at both ends"
    assert max(differences) > 0.1, "a text that changes nothing shows nothing"


def test_the_answer_is_the_log_probability_of_predict_and_of_the_same_text_of_masks(models: Any) -> None:
    for name in ("single", "several"):
        (prediction,), (of_masks,) = models[name].predict([TEXT]), _of_masks(models[name])
        for label in ("hills", "seas"):
            found = attributed(models[name], TEXT, label=label)
            assert found["label"] == label and found["unit"] == "log-probability"
            assert found["answer"] == pytest.approx(torch.tensor(prediction.probabilities[label]).log().item(), abs=1e-4)
            assert found["answer_of_masks"] == pytest.approx(torch.tensor(of_masks[label]).log().item(), abs=1e-4)
    (estimate,) = models["number"].predict([TEXT])
    assert attributed(models["number"], TEXT)["answer"] == pytest.approx(estimate.value, abs=1e-5)


def _of_masks(model: LoadedModel) -> list[dict[str, float]]:
    from bertlab.exploring.looking import looked_at

    classes = looked_at(model, " ".join(["[MASK]"] * 7))["answer"]["classes"]
    return [{each["label"]: each["probability"] for each in classes}]


def test_a_second_text_is_no_part_of_a_task_of_single_ones(models: Any) -> None:
    with pytest.raises(ConfigError, match="fine-tuned on single texts: give no second"):
        attributed(models["single"], TEXT, SECOND)


def test_without_a_label_the_likeliest_is_explained(models: Any) -> None:
    (prediction,) = models["single"].predict([TEXT])
    assert attributed(models["single"], TEXT)["label"] == prediction.label


def test_the_shares_of_a_linear_model_are_its_terms(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["number"]
    weights = torch.linspace(-1, 1, model.encoder.config.hidden_size)
    monkeypatch.setattr(attribution, "_answer", lambda model, words, segments, column: (words @ weights).sum(-1))
    found = attributed(model, TEXT)
    table = model.encoder.embeddings.word_embeddings.weight.detach()
    ids = model.encode([TEXT]).ids
    wanted = [float((table[id] - table[model.tokenizer.mask_id]) @ weights) for id in ids[1:-1].tolist()]
    assert found["shares"] == pytest.approx([0, *wanted, 0], abs=1e-5) and found["points"] == 8


def test_points_are_doubled_until_the_sum_is_right_or_enough_is_enough(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["number"]
    # a step in the middle of the way: no quadrature gets it right soon
    monkeypatch.setattr(attribution, "_answer", lambda model, words, segments, column: F.sigmoid(200 * words.sum((1, 2))))
    monkeypatch.setattr(attribution, "CLOSE_ENOUGH", 1e-9)
    assert attributed(model, TEXT)["points"] == 64


def test_models_without_an_answer_to_a_whole_text_and_unknown_labels_are_refused(models: Any) -> None:
    for name in ("words", "tags", "answers"):
        with pytest.raises(ConfigError, match="gives no class or number to a whole text"):
            attributed(models[name], TEXT)
    with pytest.raises(ConfigError, match="is none of this model's 3"):
        attributed(models["single"], TEXT, label="lakes")
