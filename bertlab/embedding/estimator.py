"""A model folder as a transformer of scikit-learn's: texts in, sentence vectors out, in anyone's pipeline, grid search and pickle.

    make_pipeline(BertEmbedder("RUN/model"), LogisticRegression())

There is nothing to fit. The model is opened when vectors are first wanted, once a process for all copies that a grid search makes of the
estimator, which itself holds its settings and nothing else: a pickle of it has no weights, and needs the folder where it is opened again.
Every call computes its vectors anew; in a grid over what comes after it, Pipeline's `memory` keeps them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from bertlab.corpus.given import given_texts
from bertlab.errors import ConfigError
from bertlab.model.facts import Pooling, fetch, layer_numbers, load_config
from bertlab.schema import Settings

if TYPE_CHECKING:  # torch takes seconds to import: only when vectors are wanted
    from bertlab.embedding.engine import Embedder

OPENED = 2  # models that stay open: one, and another that a grid compares it with


@dataclass(frozen=True, kw_only=True)
class _How(Settings):
    """The estimator's settings, of their types, whatever a grid gives."""

    pooling: Pooling | None = None
    layers: tuple[int, ...] = ()
    normalize: bool | None = None
    dims: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    device: str | None = None


class BertEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The vectors that `bertlab embed` and `bertlab.load(model).embed` make.

    model: a model folder, or hf:NAME. pooling, layers, normalize, dims, precision, device: as in `bertlab embed`; default: what the folder
    records.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        pooling: str | None = None,
        layers: Sequence[int] = (),
        normalize: bool | None = None,
        dims: int | None = None,
        precision: str = "fp32",
        device: str | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.layers = layers
        self.normalize = normalize
        self.dims = dims
        self.precision = precision
        self.device = device

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Learn nothing: look at the texts and the folder, so that what cannot be used stops here. Raises ConfigError, DataError."""
        given_texts(X)
        assert self._n_features_out > 0
        layer_numbers(self._how().layers, int(load_config(fetch(self.model))["num_hidden_layers"]))
        return self

    def fit_transform(self, X: Iterable[str], y: Any = None, **fit_params: Any) -> Any:
        """`fit` and `transform`, also of texts that come only once, as those of a generator."""
        return super().fit_transform(given_texts(X) if isinstance(X, Iterator) else X, y, **fit_params)

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """(n, D) float32 vectors of n texts. Raises ConfigError (settings, folder), DataError (no texts), CorruptError (weights)."""
        from bertlab.embedding.engine import What, finished

        texts, how = given_texts(X), self._how()
        embedder = _open(self.model, how.device, how.precision)
        recorded = embedder.recorded
        what = What(pooling=how.pooling or recorded.usable_pooling(str(self.model)), layers=how.layers)
        vectors = embedder.vectors(embedder.encode(texts), what)
        return finished(vectors, recorded.normalize if how.normalize is None else how.normalize, how.dims)

    def _how(self) -> _How:
        """Raises ConfigError for a setting that is none."""
        return _How(**{field.name: getattr(self, field.name) for field in fields(_How)})

    @property
    def _n_features_out(self) -> int:
        """What get_feature_names_out counts by, without opening the model."""
        width, dims = int(load_config(fetch(self.model))["hidden_size"]), self._how().dims
        if dims is not None and not 1 <= dims <= width:
            raise ConfigError(f"dims={dims}: this model's vectors have 1 to {width} numbers")
        return width if dims is None else dims

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _open(model: str | PathLike[str], device: str | None, precision: str) -> "Embedder":
    from bertlab.model.facts import COMPUTES

    place = fetch(model)
    folder = Path(place).resolve()  # a relative path is another after os.chdir
    changed = tuple((folder / name).stat().st_mtime_ns if (folder / name).is_file() else 0 for name in COMPUTES)
    return _opened(str(folder) if folder.is_dir() else place, device, precision, changed)


@lru_cache(OPENED)
def _opened(model: str, device: str | None, precision: Any, changed: tuple[int, ...]) -> "Embedder":
    """`changed`: when its files were last written, so that a folder that was made again is opened again."""
    from bertlab.embedding.engine import open_embedder

    return open_embedder(model, device, precision)
