"""Which pooling is known to be poor for a model, and which is better: from published figures, or measured on pairs that a person scored.

Published, Spearman on the STS-B test set, BERT-base without training for it: [CLS] 16.5, mean of the tokens 46.4; GloVe's mean of words
58.0 (documentation of sentence-transformers, NLI models). The mean over the first and the last layer is the usual choice for such a model
(Su et al. 2021; Gao et al. 2021). Any of them is far below a model that was trained for similarity.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertlab.embedding.engine import Embedder, What
from bertlab.errors import DataError
from bertlab.evaluation.vectors import cosines
from bertlab.model.pooling import Pooling, Recorded

# what is compared on scored pairs, by the options that ask for it
CANDIDATES = {
    "--pooling cls": What(pooling="cls"),
    "--pooling mean": What(pooling="mean"),
    "--pooling max": What(pooling="max"),
    "--pooling mean --layer 1 -1": What(pooling="mean", layers=(1, -1)),
    "--pooling mean --layer -4 -3 -2 -1": What(pooling="mean", layers=(-4, -3, -2, -1)),
}


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of cosines with scores of `pairs` pairs, and its 95 % interval."""

    spearman: float
    low: float
    high: float
    pairs: int


def warning(pooling: Pooling | None, recorded: Recorded) -> str | None:
    """A line about vectors that are known to be poor, or that nobody has trained to be near where texts are alike; None for others, and for
    those of tokens, which have no `pooling`."""
    if pooling is None or recorded.pooling == pooling:
        return None
    if pooling == "cls":
        return (
            "warning: [CLS] of a model that was not trained for it is a poor sentence vector (Spearman on STS-B, BERT-base: 16.5, the mean "
            "of the tokens 46.4): --pooling mean is better; --dev-pairs FILE measures it on pairs of yours"
        )
    if recorded.pooling is None and not recorded.beyond:
        return (
            "note: nobody has trained this model's sentence vectors (its folder records no pooling), so how near they are says little of "
            "meaning: bertlab contrast trains them; --dev-pairs FILE measures them on pairs of yours"
        )
    return None


def compared(embedder: Embedder, texts: Sequence[str], texts_b: Sequence[str], scores: Sequence[float]) -> dict[str, Agreement]:
    """How well the cosines of each candidate's vectors agree with the scores of pairs, best first.

    Raises DataError for fewer than 10 pairs, or scores that are all equal.
    """
    if len(scores) < 10 or len(set(scores)) < 2:
        raise DataError(f"{len(scores)} pairs with {len(set(scores))} different scores say nothing about a pooling: give 10 or more")
    first, second = embedder.encode(texts), embedder.encode(texts_b)
    most = embedder.frozen.num_layers
    found = {}
    for options, what in CANDIDATES.items():
        if all(abs(layer) <= most for layer in what.layers):
            similarity = cosines(embedder.vectors(first, what), embedder.vectors(second, what))
            found[options] = rank_agreement(similarity, scores)
    return dict(sorted(found.items(), key=lambda item: -item[1].spearman))


def rank_agreement(similarity: np.ndarray, scores: Sequence[float]) -> Agreement:
    """Spearman with an interval by Fisher's z, whose variance is (1 + r^2 / 2) / (n - 3) for ranks (Bonett & Wright 2000).

    Equal similarities agree with nothing: 0.
    """
    from scipy.stats import spearmanr

    count = len(scores)
    r = float(spearmanr(similarity, scores).statistic) if np.ptp(similarity) else 0.0
    z, half = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r))), 1.96 * math.sqrt((1 + r * r / 2) / (count - 3))
    return Agreement(r, math.tanh(z - half), math.tanh(z + half), count)
