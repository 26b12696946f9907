"""Model cards: metadata that the hub's own reader takes, whatever the licence and the names hold, and the facts as they are."""

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from bertlab.pages.card import classifier_card, pretrained_card, vectors_card

PRETRAINED: dict[str, Any] = {
    "bertlab": "0.1.0",
    "parameters": 1_234_567,
    "layers": 2,
    "hidden_size": 128,
    "vocab_size": 8192,
    "lowercase": True,
    "steps": 600,
    "tokens_seen": 2_400_000,
    "started_from": None,
    "corpus": {
        "documents": 9129,
        "tokens": 800_000,
        "sources": [{"name": "articles.jsonl.xz", "licence": "CC-BY-SA-4.0"}],
        "licences": ["CC-BY-SA-4.0"],
    },
    "heldout": {
        "mlm_loss": 5.4321,
        "unigram_loss": 6.5,
        "masked_accuracy": 0.1234,
        "nsp_accuracy": 0.625,
        "nsp_majority": 0.51,
        "masked_tokens": 700.0,
        "pairs": 40.0,
    },
}
SCORES = {"accuracy": 0.8, "macro": {"f1": 0.75}, "n": 60}
CLASSIFIER: dict[str, Any] = {
    "bertlab": "0.1.0",
    "started_from": "RUN/model",
    "train_examples": 1234,
    "seeds": 3,
    "dev": SCORES,
    "test": {"accuracy": 0.7, "macro": {"f1": 0.6543}, "n": 200},
}

FOUND = {"score": "mrr", "difference": 0.0604, "low": 0.037, "high": 0.084, "what": "the first <b> finds the second"}
VECTORS: dict[str, Any] = {
    "bertlab": "0.1.0",
    "started_from": "RUN/model",
    "texts": "pairs",
    "rows": 12_345,
    "batch_size": 64,
    "steps": 100,
    "temperature": 0.05,
    "pooling": "mean",
    "normalize": True,
    "matryoshka_dims": [128, 64],
    "best": {"step": 80},
    "test": FOUND | {"before": {"mrr": 0.1129, "recall@1": 0.042, "n": 427}, "after": {"mrr": 0.1733, "recall@1": 0.0801, "n": 427}},
}


def metadata(card: str) -> dict[str, Any]:
    """The front matter, read by YAML and by huggingface_hub, which must agree."""
    begin, front, rest = card.split("---\n", 2)
    assert begin == "" and rest.startswith("\n#")
    read = yaml.safe_load(front)
    theirs = ModelCard(card)
    assert theirs.data.to_dict() == read
    assert theirs.text.lstrip("\n") == rest.lstrip("\n")
    return read


def pretrained(**changes: Any) -> str:
    return pretrained_card(PRETRAINED | changes)


def test_a_pretrained_card_says_what_the_hub_needs_and_what_was_measured() -> None:
    card = pretrained()
    read = metadata(card)
    assert read == {"library_name": "transformers", "pipeline_tag": "fill-mask", "license": "cc-by-sa-4.0", "tags": ["bert", "bertlab"]}
    for fact in (
        "1,234,567 parameters",
        "9,129 documents",
        "600 steps",
        "5.432 nats",
        "6.500",
        "12.3%",
        "62.5%",
        "uncased",
        "random weights",
    ):
        assert fact in card
    assert "- articles.jsonl.xz (CC-BY-SA-4.0)" in card


def test_a_classifier_card_says_what_the_hub_needs_and_what_was_measured() -> None:
    card = classifier_card(CLASSIFIER, ["no", "yes"])
    assert metadata(card) == {"library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["bert", "bertlab"]}
    for fact in (
        "2 classes: no, yes.",
        "1,234 training examples",
        "macro-F1 0.750 (n = 60)",
        "macro-F1 0.654 (n = 200)",
        "best of 3 seeds",
    ):
        assert fact in card
    without = classifier_card(CLASSIFIER | {"test": None}, ["no", "yes"])
    assert "Test:" not in without and "Dev:" in without


def test_what_is_not_known_is_said_not_made_up() -> None:
    corpus = PRETRAINED["corpus"] | {"licences": [""], "sources": [{"name": "mine.txt", "licence": ""}]}
    card = pretrained(heldout=None, corpus=corpus, started_from="another/model", lowercase=False)
    assert "license" not in metadata(card)
    assert "licence not stated" in card and "No text was held out" in card and "starting from another/model" in card and "(cased)" in card


def test_two_licences_are_not_one() -> None:
    corpus = PRETRAINED["corpus"] | {"licences": ["CC0-1.0", "CC-BY-4.0"]}
    assert "license" not in metadata(pretrained(corpus=corpus))


@pytest.mark.parametrize(
    "licence", ["no", "1.0", "see: the README", "mine # all of it", "[a]", "'", '"', "a\nb: c", "---", "*x", "\u00e9", "%"]
)
def test_a_licence_of_any_spelling_stays_one_text(licence: str) -> None:
    corpus = PRETRAINED["corpus"] | {"licences": [licence]}
    assert metadata(pretrained(corpus=corpus))["license"] == licence.lower()


def test_many_classes_are_not_all_named() -> None:
    card = classifier_card(CLASSIFIER, [f"class {number}" for number in range(80)])
    assert "80 classes: class 0," in card and "class 49 ..." in card and "class 50" not in card


def test_a_card_of_vectors_says_how_they_are_made_and_what_training_was_worth():
    card = vectors_card(VECTORS | {"dev": VECTORS["test"]})
    assert metadata(card)["pipeline_tag"] == "sentence-similarity"
    assert "12,345 pairs, 64 a step, 100 steps, temperature 0.05; the weights of step 80" in card
    assert "mean of the tokens' states, of length 1. Made to be cut (Matryoshka): the first 128, 64 numbers." in card
    line = "MRR 0.113 -> 0.173, difference +0.060 (95 % interval +0.037 to +0.084), first 4.2% -> 8.0%, n = 427"
    assert f"Test, the first &lt;b&gt; finds the second: {line}." in card
    assert "length 1" not in vectors_card(VECTORS | {"normalize": False}) and "Matryoshka" not in vectors_card(
        VECTORS | {"matryoshka_dims": []}
    )
