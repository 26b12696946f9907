"""A file of vectors as a map: a sample of its texts, where they lie on a plane, the nearest of each, and how they lie in all numbers.

At most MOST texts are taken, each as likely (seeded), so that a million of them cost one pass over the vectors and one over the input. The
plane is that of the two principal components of the vectors at length 1: the same each time, and how much it leaves out is known, of the
variance and of the neighbours. Neighbours are by cosine, of all numbers, among the texts of the sample alone.
Memory: 8 bytes a vector of the file for the draw, a block of vectors, and what the sample needs: 195 MB for 3,000 texts of 384 numbers
(tracemalloc), of which their cosines are 72.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertlab.embedding.index import Index, blocks, ids_of, labelled_texts_of, texts_source
from bertlab.embedding.nearest import exact_nearest
from bertlab.errors import CorruptError, DataError
from bertlab.evaluation.geometry import geometry, plane, random_partners, sampled
from bertlab.evaluation.vectors import unit

MOST = 3_000  # texts of a page: of about 100 characters each it has 0.9 MB, of the longest 2.5 MB
NEIGHBOURS = 10


@dataclass(frozen=True)
class Map:
    """n texts of a file of vectors, in its order.

    texts: None where the input is not there any more as it was embedded. labels: of each text or None; None where no text has one.
    points: (n, 2), and `shown`, their share of the variance. near, cosines: (n, k), the nearest others by their places here, best first.
    kept: of a text's k nearest the share that is among its k nearest on the plane; None where there is nothing to choose from.
    geometry: that of different vectors (evaluation/geometry.py), those of one label belonging together.
    """

    index: Index
    ids: list[str]
    texts: list[str] | None
    labels: list[str | None] | None
    points: np.ndarray
    shown: float
    near: np.ndarray
    cosines: np.ndarray
    kept: float | None
    geometry: dict[str, Any]
    seed: int


def map_of(index: Index, texts: str | None = None, label: str = "label", *, most: int = MOST, seed: int = 0) -> Map:
    """The map of a file of vectors. texts: where what was embedded is now, if it was moved; label: its column of labels.

    Raises ConfigError and DataError for texts that are not what was embedded, DataError for NaN, for no vectors and for a column that was
    named and labels none of the texts, CorruptError for fewer ids or texts than vectors.
    """
    rows = sampled(index.rows, seed, most)
    vectors = _vectors_of(index, rows)
    ids = ids_of(index, rows.tolist())
    files = texts_source(index, texts)
    known = labelled_texts_of(index, files, rows.tolist(), index.origin.get("text", "text"), label) if files else {}
    if len(ids) < len(rows) or (files and len(known) < len(rows)):
        raise CorruptError(f"{index.path} has {index.rows:,} vectors, and fewer ids or texts: embed again")
    labels = [known[row][1] for row in rows.tolist()] if known else []
    if labels and label != "label" and not any(labels):
        raise DataError(f"{texts or index.origin['path']}: no text has a label in a column '{label}': name the right one with --label")
    directions = unit(vectors.astype(np.float64))
    points, shown = plane(directions)
    near, cosines = _neighbours(vectors)
    return Map(
        index=index,
        ids=[ids[row] for row in rows.tolist()],
        texts=[known[row][0] for row in rows.tolist()] if known else None,
        labels=labels if any(each is not None for each in labels) else None,
        points=points,
        shown=shown,
        near=near,
        cosines=cosines,
        kept=_kept(points, near),
        geometry=_geometry(vectors, labels, seed),
        seed=seed,
    )


def _vectors_of(index: Index, rows: np.ndarray) -> np.ndarray:
    """The (n, D) float32 vectors of rows in order."""
    if not index.rows:
        raise DataError(f"{index.path} has no vectors: there is nothing to draw")
    parts = []
    for first, vectors in blocks(index):
        parts.append(vectors[rows[(rows >= first) & (rows < first + len(vectors))] - first])
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise DataError(f"{index.path}: a vector has NaN or infinity: embed again")
    return found


def _neighbours(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = min(NEIGHBOURS, len(vectors) - 1)
    found, cosines = exact_nearest(vectors, [(0, vectors)], count + 1)
    others = ~_itself(found)
    return found[others].reshape(len(vectors), count), cosines[others].reshape(len(vectors), count)


def _itself(found: np.ndarray) -> np.ndarray:
    """Where each of n texts stands among the (n, k + 1) nearest to it: the last place where k + 1 others are as near."""
    own: np.ndarray = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    return own


def _kept(points: np.ndarray, near: np.ndarray) -> float | None:
    from scipy.spatial import cKDTree

    n, count = near.shape
    if n <= count + 1:
        return None
    found = cKDTree(points).query(points, count + 1)[1]
    on_plane = found[~_itself(found)].reshape(n, count)
    return float((near[:, :, None] == on_plane[:, None, :]).any(axis=2).mean())


def _geometry(vectors: np.ndarray, labels: Sequence[str | None], seed: int) -> dict[str, Any]:
    """Of different vectors, since equal texts say nothing of how vectors lie; two of one label belong together."""
    different = np.sort(np.unique(vectors, axis=0, return_index=True)[1])
    labelled = [row for row in different.tolist() if labels and labels[row] is not None]
    if not labelled:
        return geometry(vectors[different], None, None, seed=seed)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(labels[row] for row in labelled))}
    partners = np.array(labelled)[random_partners([numbers[labels[row]] for row in labelled], seed)]
    return geometry(vectors[different], vectors[partners[:, 0]], vectors[partners[:, 1]], seed=seed)
