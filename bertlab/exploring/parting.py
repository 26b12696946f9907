"""A word's vectors in its contexts, layer by layer, as points on a plane: does a layer part its senses?

Vectors are those of `bertlab contexts` (embedding/contexts.py), of each layer by itself. A plane is spanned by a layer's two principal
components, whose share of the variance says how much of the truth it shows; the cosines within and between the groups of contexts that a
person made are of all numbers. A layer costs a pass over the contexts as far as it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.embedding.contexts import occurrences, word_vectors
from bertlab.errors import DataError
from bertlab.evaluation.geometry import plane
from bertlab.inference import LoadedModel

MOST_CONTEXTS = 200


def parted(model: LoadedModel, word: str, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The word in every context of every group, by the first place where it stands there as a word, in whatever case.

    Raises DataError for no word, fewer than two contexts or too many, and a context that is without the word.
    """
    owners = np.array([number for number, group in enumerate(groups) for _ in group])
    texts, word = [text for group in groups for text in group], word.strip()
    if not word:
        raise DataError("no word: write the one whose vectors are to be seen")
    if not 2 <= len(texts) <= MOST_CONTEXTS:
        raise DataError(f"{len(texts)} contexts: give 2 to {MOST_CONTEXTS}, one a line, and a blank line between senses")
    first = {each.text: each for each in reversed(list(occurrences([word], texts)))}
    for number, text in enumerate(texts):
        if number not in first:
            raise DataError(f"context {number + 1} is without the word {word[:60]!r}: {text[:60]!r}")
    found = [first[number] for number in range(len(texts))]
    layers = range(model.encoder.config.num_hidden_layers + 1)
    by_layer = [word_vectors(model.embedder, texts, found, (layer,)).contextual.astype(np.float64) for layer in layers]
    planes = [plane(vectors) for vectors in by_layer]
    cosines = [within_and_between(vectors, owners) for vectors in by_layer]
    places = [(texts[each.text], each.start, each.end, int(owners[each.text])) for each in found]
    return {
        "contexts": [
            {"text": text, "before": text[:start], "word": text[start:end], "after": text[end:], "group": group}
            for text, start, end, group in places
        ],
        "points": [points.round(6).tolist() for points, _ in planes],
        "shown": [share for _, share in planes],
        "within": [within for within, _ in cosines],
        "between": [between for _, between in cosines],
    }


def within_and_between(vectors: np.ndarray, owners: np.ndarray) -> tuple[float | None, float | None]:
    """The mean cosine of two vectors (n, d) of one group (n,), and of two of different ones; None where there are no such two."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines, same = unit @ unit.T, owners[:, None] == owners
    pairs = np.triu(np.ones_like(same), 1)
    means = [float(cosines[chosen].mean()) if chosen.any() else None for chosen in (pairs & same, pairs & ~same)]
    return means[0], means[1]
