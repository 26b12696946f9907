"""bertlab/training/start.py: the model of a preset or a folder, held against the corpus, and the rate that it starts with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bertlab.errors import ConfigError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.start import default_learning_rate, default_muon_learning_rate, given_model, peak_rates, random_model

DROPOUTS = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.train(["the old river runs to the sea"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)


@pytest.fixture
def corpus(tokenizer: Tokenizer) -> Any:
    counts = np.arange(tokenizer.vocab_size)
    return SimpleNamespace(tokenizer=tokenizer, folder="a-corpus", train=SimpleNamespace(token_counts=lambda size: counts[:size]))


def test_rates_are_the_papers_for_base_and_smaller_where_a_model_is_gone_on_with() -> None:
    rates = [default_learning_rate(width, 10_000, goes_on=False) for width in (128, 256, 512, 768, 1024)]
    assert rates == [1e-3, 1e-3, 5e-4, 1e-4, 1e-4]
    rates = [default_learning_rate(width, 10, goes_on=True) for width in (128, 512, 767, 768, 1024)]
    assert rates == [1e-4, 1e-4, 1e-4, 2e-5, 2e-5]
    assert default_learning_rate(384, 10_000, goes_on=False) == 1e-4  # a width that no preset has


def test_muons_rate_falls_as_the_width_grows_and_is_adamws_where_a_model_is_gone_on_with() -> None:
    rates = [default_muon_learning_rate(width, 10_000, goes_on=False) for width in (128, 256, 512, 768, 1024, 2048)]
    assert rates == [2.5e-3, 1.5e-3, 7.5e-4, 5e-4, 4e-4, 4e-4]
    assert [default_muon_learning_rate(width, 10, goes_on=True) for width in (128, 768)] == [1e-4, 2e-5]


def test_a_short_run_from_random_weights_takes_twice_the_rates() -> None:
    for rate in (default_learning_rate, default_muon_learning_rate):
        assert [rate(128, steps, goes_on=False) / rate(128, 10_000, goes_on=False) for steps in (1, 999, 1_000)] == [2, 2, 1]


def test_rates_that_were_asked_for_are_taken_each_on_its_own() -> None:
    kind: dict[str, Any] = {"width": 256, "steps": 10_000, "goes_on": False}
    assert peak_rates(None, None, **kind) == {"learning_rate": 1e-3, "muon_learning_rate": 1.5e-3}
    assert peak_rates(7e-4, None, **kind) == {"learning_rate": 7e-4, "muon_learning_rate": 1.5e-3}
    assert peak_rates(None, 7e-4, **kind) == {"learning_rate": 1e-3, "muon_learning_rate": 7e-4}


def test_a_preset_has_the_corpuss_vocabulary_and_places_for_the_longest_pairs(corpus: Any, tokenizer: Tokenizer) -> None:
    for longest, positions in ((128, 512), (600, 600)):
        config = random_model(corpus, "tiny", longest=longest, dropouts=DROPOUTS, start_at_unigrams=False).config
        assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size) == (128, 2, 2, 512)
        assert (config.vocab_size, config.pad_token_id) == (tokenizer.vocab_size, tokenizer.pad_id)
        assert config.max_position_embeddings == positions
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.3, 0.2)


def test_only_where_it_is_asked_for_the_bias_is_the_frequency_of_each_token(corpus: Any, tokenizer: Tokenizer) -> None:
    biases = [
        random_model(corpus, "tiny", longest=64, dropouts=DROPOUTS, start_at_unigrams=asked).cls.predictions.bias for asked in (False, True)
    ]
    assert not biases[0].any()
    smoothed = torch.arange(1.0, tokenizer.vocab_size + 1)
    torch.testing.assert_close(biases[1].detach(), (smoothed / smoothed.sum()).log())


def test_a_folder_is_trained_on_as_it_is_for_pairs_as_long_as_its_places(corpus: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=24, **sizes))
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="# A card\n")
    found = given_model(corpus, str(tmp_path / "model"), longest=24, dropouts=DROPOUTS)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())
    assert (found.config.hidden_dropout_prob, found.config.attention_probs_dropout_prob) == (0.3, 0.2)
    with pytest.raises(ConfigError, match="pairs of 25 tokens, but .* has 24 positions"):
        given_model(corpus, str(tmp_path / "model"), longest=25, dropouts=DROPOUTS)
    corpus.tokenizer = tokenizers.train(["another text altogether"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)
    with pytest.raises(ConfigError, match="model and a-corpus have different vocabularies: prepare the corpus with --tokenizer"):
        given_model(corpus, str(tmp_path / "model"), longest=24, dropouts=DROPOUTS)
