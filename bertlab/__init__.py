"""bertlab: from your own text to your own BERT, and from that BERT to a classifier and sentence vectors.

model = bertlab.load("RUN/model")
model.embed(texts)                                  # (N, hidden_size) float32
model.predict(texts)                                # labels and probabilities, from a fine-tuned folder
model.fill("the [MASK] of the river")               # likely words, from a pretrained folder

make_pipeline(bertlab.BertEmbedder("RUN/model"), LogisticRegression())   # a transformer of scikit-learn's
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from os import PathLike

    from bertlab.embedding.estimator import BertEmbedder as BertEmbedder
    from bertlab.inference import LoadedModel

__version__ = "0.1.0"
__all__ = ["BertEmbedder", "__version__", "load"]


def load(
    folder: str | PathLike[str],
    device: str | None = None,
    *,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    thresholds: Literal["dev"] | None = None,
) -> LoadedModel:
    """Open a model folder (ours, a published BERT's, or `hf:name`) on `device` (default: the GPU where there is one).

    precision: bf16 is faster where the hardware multiplies it, at other last digits; auto: where it does.
    thresholds="dev": `predict` gives labels, of several a text or of two classes, at the thresholds that dev chose, as
    `bertlab predict --thresholds dev`.
    """
    from bertlab.inference import LoadedModel  # torch takes seconds to import: only when a model is wanted

    return LoadedModel(folder, device, precision, thresholds)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # for a notebook's completion, before it is imported


def __getattr__(name: str) -> Any:
    """BertEmbedder (bertlab/embedding/estimator.py), imported when it is asked for: scikit-learn takes a second."""
    if name == "BertEmbedder":
        from bertlab.embedding.estimator import BertEmbedder

        return BertEmbedder
    raise AttributeError(f"module 'bertlab' has no attribute {name!r}")
