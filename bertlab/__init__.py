"""bertlab: from your own text to your own BERT, and from that BERT to a classifier and sentence vectors.

model = bertlab.load("RUN/model")
model.embed(texts)                                  # (N, hidden_size) float32
model.predict(texts)                                # labels and probabilities, from a fine-tuned folder
model.fill("the [MASK] of the river")               # likely words, from a pretrained folder
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertlab.inference import LoadedModel

__version__ = "0.1.0"


def load(folder: str, device: str | None = None) -> LoadedModel:
    """Open a model folder (ours, a published BERT's, or `hf:name`) on `device` (default: the GPU where there is one)."""
    from bertlab.inference import LoadedModel  # torch takes seconds to import: only when a model is wanted

    return LoadedModel(folder, device)
