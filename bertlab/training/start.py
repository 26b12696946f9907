"""What pretraining starts from: random weights of a preset, or a published BERT or model folder; and at what rate."""

from typing import Any

import torch

from bertlab.errors import ConfigError
from bertlab.model.extension import extend_embeddings
from bertlab.model.facts import fetch, load_config
from bertlab.model.folder import load_model, refuse_misfit
from bertlab.model.heads import BertForPreTraining
from bertlab.model.presets import preset_config
from bertlab.tokens import tokenizer
from bertlab.tokens.corpus import Corpus
from bertlab.tokens.extension import extends

# Peak rates by width. AdamW's (and of what Muon leaves to it): 1e-4 is the paper's for base. Those of 128 and 256, and Muon's there, are
# the best of a few tried (docs/performance.md); of 512, and Muon's above, what follows from them when a rate falls as the width grows.
LEARNING_RATES = {128: 1e-3, 256: 1e-3, 512: 5e-4, 768: 1e-4, 1024: 1e-4}
MUON_LEARNING_RATES = {128: 2.5e-3, 256: 1.5e-3, 512: 7.5e-4, 768: 5e-4, 1024: 4e-4}
# A run of fewer steps takes twice these: with 800 tiny learns far more by it, small more, mini as much (docs/performance.md).
SHORT_RUN = 1_000


def default_learning_rate(width: int, steps: int, *, goes_on: bool) -> float:
    """AdamW's peak rate where none is given; to go on from a model it is 2e-5 at base (google-research/bert), 1e-4 below."""
    if goes_on:
        return 2e-5 if width >= 768 else 1e-4
    return _of_run(steps, LEARNING_RATES.get(width, 1e-4))


def default_muon_learning_rate(width: int, steps: int, *, goes_on: bool) -> float:
    """Muon's likewise; to go on from a model it is AdamW's, whose updates are of the same size."""
    return default_learning_rate(width, steps, goes_on=True) if goes_on else _of_run(steps, MUON_LEARNING_RATES.get(width, 4e-4))


def _of_run(steps: int, rate: float) -> float:
    return 2 * rate if steps < SHORT_RUN else rate


def peak_rates(asked: float | None, asked_of_muon: float | None, *, width: int, steps: int, goes_on: bool) -> dict[str, float]:
    """learning_rate and muon_learning_rate of a run, by what was asked for, else by default."""
    return {
        "learning_rate": asked or default_learning_rate(width, steps, goes_on=goes_on),
        "muon_learning_rate": asked_of_muon or default_muon_learning_rate(width, steps, goes_on=goes_on),
    }


def random_model(corpus: Corpus, preset: str, *, longest: int, dropouts: dict[str, Any], start_at_unigrams: bool) -> BertForPreTraining:
    """A preset with random weights, its output bias at the log frequencies of the corpus's tokens if so asked."""
    own = corpus.tokenizer
    config = preset_config(preset, vocab_size=own.vocab_size, positions=max(512, longest), pad_token_id=own.pad_id, **dropouts)
    model = BertForPreTraining(config)
    if start_at_unigrams:
        model.start_at_unigrams(torch.from_numpy(corpus.train.token_counts(own.vocab_size)))
    return model


def given_model(corpus: Corpus, place: str, *, longest: int, dropouts: dict[str, Any]) -> BertForPreTraining:
    """The model at `place` (a folder or hf:NAME), its embeddings extended where the corpus's vocabulary extends its own.

    Raises ConfigError when the vocabularies are not the same, or `longest` (tokens of a pair) is more than it has positions.
    """
    folder = fetch(place)
    load_config(folder)  # a run folder instead of its model is named as such
    own = tokenizer.load(folder)
    if own.vocabulary_sha256 != corpus.tokenizer.vocabulary_sha256 and not extends(corpus.tokenizer, own):
        raise ConfigError(f"{place} and {corpus.folder} have different vocabularies: prepare the corpus with --tokenizer {place}")
    model, _ = load_model(folder, BertForPreTraining, **dropouts)
    positions = model.config.max_position_embeddings
    if longest > positions:
        raise ConfigError(f"pairs of {longest} tokens, but {place} has {positions} positions: lower max_length or long_length")
    refuse_misfit(own, model.config, place)
    if corpus.tokenizer.vocab_size > own.vocab_size:
        extend_embeddings(model, own, corpus.tokenizer)
    return model
