"""What vectors are worth: for pairs that a person scored, for finding texts, for putting them in groups.

Vectors come from a model, a block of texts at a time, or from a file that `bertlab embed` wrote, where each is found by its id. Of a pool
of any size one block of vectors is held; the queries', and those of texts to be put in groups, whole. Nothing is trained here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.labelled import Labelled
from bertlab.corpus.labels import label_ids, label_names, numbers
from bertlab.corpus.relevance import Retrieval
from bertlab.disk import MANIFEST, read_sealed, sha256_file, verify_files
from bertlab.embedding.engine import Embedder, What, finished
from bertlab.errors import ConfigError, DataError
from bertlab.evaluation.baselines import tfidf_components, tfidf_cosines, tfidf_nearest
from bertlab.evaluation.clusters import cluster_intervals, cluster_metrics, cluster_scores, k_means, write_cluster_predictions
from bertlab.evaluation.geometry import geometry, random_partners, sampled
from bertlab.evaluation.intervals import LEVEL, RESAMPLES
from bertlab.evaluation.numbers import number_metrics, of_number_metrics
from bertlab.evaluation.predictions import write_number_predictions
from bertlab.evaluation.retrieval import DEPTH, retrieval_intervals, retrieval_metrics, write_retrieval_predictions
from bertlab.evaluation.vectors import cosines, nearest_in_blocks, read_vectors
from bertlab.model.facts import other_files

BLOCK = 4096  # texts at a time
HOW = ("pooling", "layers", "normalize", "dims", "numbers")  # what a manifest says of vectors' making, beside the model
CORRELATIONS = ("spearman", "pearson")
HIGH = 0.8  # pairs from this share of the way from the lowest to the highest score on belong together (4 of 0 to 5)

VectorsOf = Callable[[Sequence[str], Sequence[str]], np.ndarray]  # ids, texts -> (n, d)
Judged = tuple[dict[str, Any], Callable[[Path], None]]  # metrics, and what writes a predictions file


# ---- vectors


def model_vectors(
    embedder: Embedder, what: What, dims: int | None, tally: Counter[str], passing: Callable[[int], None] = lambda texts: None
) -> VectorsOf:
    """From a model: the first `dims` numbers of each. `tally` counts texts, and how many were truncated; `passing` is told after a block.

    Raises (when called) CorruptError where the model gives NaN, ConfigError for more `dims` than there are.
    """

    def of(ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), BLOCK):
            examples = embedder.encode(texts[start : start + BLOCK])
            parts.append(finished(embedder.vectors(examples, what), normalize=False, dims=dims))
            tally.update(texts=len(examples), truncated=examples.num_truncated)
            passing(tally["texts"])
        return np.concatenate(parts)

    return of


def file_vectors(paths: Sequence[Path], data: Sequence[Path]) -> VectorsOf:
    """From files of `bertlab embed`, by id. Held in memory whole.

    Raises ConfigError for a file that is not there, CorruptError for one that is not what was written, DataError for files of different
    width or made in different ways, vectors of tokens, vectors that were made of another file than that of this name in `data`, and (when
    called) an id that is not among them.
    """
    parts: list[np.ndarray] = []
    rows: dict[str, int] = {}
    starts: list[tuple[Path, int]] = []  # of each file's rows
    columns: dict[str, Path] = {}  # of the ids, where a manifest names them
    made: list[tuple[Path, dict[str, Any]]] = []  # how, where a manifest says it
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a file that bertlab embed wrote")
        if facts := _manifest_of(path, data):
            columns.setdefault(str(facts["from"]["input"].get("id")), path)
            made.append((path, facts))
            _refuse_other_making(*made[0], path, facts)
        ids, vectors = read_vectors(path)
        if parts and parts[0].shape[1] != vectors.shape[1]:
            raise DataError(f"{path} has vectors of {vectors.shape[1]} numbers, {paths[0]} of {parts[0].shape[1]}: embed both alike")
        if not np.isfinite(vectors).all():
            raise DataError(f"{path}: a vector has NaN or infinity: embed again")
        first = sum(map(len, parts))
        starts.append((path, first))
        for row, id in enumerate(ids, first):
            if id in rows:
                before = next(each for each, start in reversed(starts) if start <= rows[id])
                which = f"{path}" if before == path else f"{before} and {path} together"
                raise DataError(f"{which}: two vectors have the id {id!r}: give the texts ids that differ, and embed again")
            rows[id] = row
        parts.append(vectors)
    every = np.concatenate(parts)

    def of(ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        strange = next((id for id in ids if id not in rows), None)
        if strange is not None:
            theirs = "".join(f"; the ids of {path} are of the column {column!r}" for column, path in columns.items())
            raise DataError(
                f"{', '.join(map(str, paths))}: no vector has the id {strange!r}: embed the file that is evaluated (for a probe train "
                f"too), and name the same column of ids here (--id; of a file without it they are FILE:LINE{theirs})"
            )
        return every[[rows[id] for id in ids]]

    return of


def _manifest_of(path: Path, data: Sequence[Path]) -> dict[str, Any] | None:
    """The manifest beside vectors, if there is one: they are what was written, and of the file of that name in `data`, or it raises."""
    manifest = path.with_name(f"{path.name}.{MANIFEST}")
    if not manifest.is_file():
        return None
    facts = read_sealed(manifest)
    verify_files(path.parent, facts["files"])
    source = facts["from"]["input"]
    for file in data:
        if file.name == Path(source["path"]).name and "sha256" in source and source["sha256"] != sha256_file(file):
            raise DataError(f"{path} was made of another {file.name} (its sha256 differs): embed again")
    return facts


def _refuse_other_making(first: Path, its: dict[str, Any], path: Path, facts: dict[str, Any]) -> None:
    """Raise DataError for vectors of tokens, and for vectors that were made in another way than the `first`: no cosine between them tells
    anything."""
    if facts["pooling"] is None:
        raise DataError(f"{path} holds vectors of tokens (--tokens): embed again without, a vector a text")
    if other_files(its["from"]["model"]["files"], facts["from"]["model"]["files"]):
        raise DataError(f"{path} was made by another model than {first}: embed both with one")
    differs = next((name for name in HOW if its.get(name) != facts.get(name)), None)
    if differs is not None:
        one, other = facts.get(differs), its.get(differs)
        raise DataError(f"{path} was made with {differs} {one}, {first} with {differs} {other}: embed both alike")


# ---- what they are worth: the metrics, and what writes the predictions


def refuse_misfit(rows: Labelled, *, pairs: bool) -> None:
    """Raise DataError for single texts where pairs are wanted, for pairs that lack a text, and for pairs where a vector is of one text."""
    if pairs and rows.texts_b is None:
        raise DataError(f"{rows.origin}: no second texts: give a file with columns text and text_b, or name the column (--text-b)")
    if rows.texts_b is not None:
        if not pairs:
            raise DataError(f"{rows.origin}: rows are pairs (a column text_b): a vector is of one text, give a file without it")
        blank = [id for id, *texts in zip(rows.ids, rows.texts, rows.texts_b, strict=True) if not all(map(str.strip, texts))]
        if blank:
            others = f" and {len(blank) - 1:,} more" * (len(blank) > 1)
            raise DataError(f"{rows.origin}: {blank[0]}{others}: a text is empty: put text in, or take the row out")


def similarity(pairs: Labelled, vectors_of: VectorsOf, seed: int) -> Judged:
    """Scored pairs: how the cosines of their vectors agree with the scores. Raises DataError for a score that is no number."""
    assert pairs.texts_b is not None
    scores = np.array(numbers(pairs))
    first, second = vectors_of(pairs.ids, pairs.texts), vectors_of(pairs.ids, pairs.texts_b)
    values = cosines(first, second)
    found, intervals = number_metrics(scores, values), of_number_metrics(scores, values, seed=seed, resamples=RESAMPLES, level=LEVEL)
    high = (scores >= scores.min() + HIGH * np.ptp(scores)) & (np.ptp(scores) > 0)
    different = np.sort(np.unique(pairs.texts + pairs.texts_b, return_index=True)[1])
    lie = geometry(np.concatenate([first, second])[different], first[high], second[high], seed=seed)
    metrics = {name: found[name] for name in ("n", *CORRELATIONS, "spread")} | {"geometry": lie}
    metrics["intervals"] = {name: intervals[name] for name in ("level", "n", "R", "seed", *CORRELATIONS)}
    of_words = number_metrics(scores, tfidf_cosines(pairs.texts, pairs.texts_b))
    metrics["baselines"] = {"TF-IDF": {name: of_words[name] for name in CORRELATIONS}}
    hashes = pairs.text_hashes()
    return metrics, lambda path: write_number_predictions(
        path, ids=pairs.ids, text_hashes=hashes, gold=scores, predicted=values, task="similarity"
    )


def retrieval(asked: Retrieval, vectors_of: VectorsOf, seed: int) -> Judged:
    """Queries: how high what belongs to each comes among the nearest of the pool."""
    found, lie = nearest_of_pool(asked, vectors_of, seed)
    relevant = asked.relevant_ids()
    metrics = retrieval_metrics(relevant, found) | {"pool": len(asked.pool.ids), "geometry": lie}
    metrics["intervals"] = retrieval_intervals(relevant, found, seed=seed)
    of_words = tfidf_nearest(asked.queries.texts, asked.pool.texts, DEPTH)
    metrics["baselines"] = {"TF-IDF": retrieval_metrics(relevant, [[asked.pool.ids[place] for place in places] for places in of_words])}
    ids, hashes = asked.queries.ids, asked.query_hashes()
    return metrics, lambda path: write_retrieval_predictions(path, ids=ids, query_hashes=hashes, relevant=relevant, found=found)


def nearest_of_pool(asked: Retrieval, vectors_of: VectorsOf, seed: int) -> tuple[list[list[str]], dict[str, Any]]:
    """For each query the ids of the nearest texts of the pool, the nearest first; and the geometry, of a sample, in passing."""
    queries, pool = vectors_of(asked.queries.ids, asked.queries.texts), asked.pool
    some = sampled(len(queries), seed)
    belong = np.array([asked.relevant[query][0] for query in some])
    spread = sampled(len(pool.ids), seed)
    wanted = np.unique(np.concatenate([belong, spread]))
    kept = np.empty((len(wanted), queries.shape[1]), dtype=np.float32)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(pool.ids), BLOCK):
            block = vectors_of(pool.ids[start : start + BLOCK], pool.texts[start : start + BLOCK])
            here = (wanted >= start) & (wanted < start + len(block))
            kept[here] = block[wanted[here] - start]
            yield block

    rows, _ = nearest_in_blocks(queries, blocks(), DEPTH)
    lie = geometry(kept[np.searchsorted(wanted, spread)], queries[some], kept[np.searchsorted(wanted, belong)], seed=seed)
    return [[pool.ids[row] for row in each] for each in rows.tolist()], lie


def clustering(rows: Labelled, vectors_of: VectorsOf, seed: int) -> Judged:
    """Labelled texts: how far groups of their vectors, as many as there are labels, are the labels.

    Raises DataError where there are fewer than two texts a label: that is another column.
    """
    names = label_names(rows)
    if 2 * len(names) > len(rows):
        raise DataError(f"{rows.origin}: {len(names):,} labels of {len(rows):,} texts are no groups: is it the right column (--label)?")
    gold, vectors = label_ids(rows, names), vectors_of(rows.ids, rows.texts)
    groups = k_means(vectors, len(names), seed)
    metrics = cluster_metrics(gold, groups, seed=seed) | {"intervals": cluster_intervals(gold, groups)}
    metrics["geometry"] = of_labels(rows, gold, vectors, seed)
    metrics["baselines"] = {"TF-IDF": cluster_scores(gold, k_means(tfidf_components(rows.texts, seed), len(names), seed))}
    labels, hashes = [names[number] for number in gold], rows.text_hashes()
    return metrics, lambda path: write_cluster_predictions(path, ids=rows.ids, text_hashes=hashes, gold=labels, groups=groups)


def of_labels(rows: Labelled, gold: Sequence[int], vectors: np.ndarray, seed: int) -> dict[str, Any]:
    """The geometry of labelled texts, equal ones once: texts of one label belong together."""
    different = np.sort(np.unique(rows.text_hashes(), return_index=True)[1])
    partners = different[random_partners(np.asarray(gold)[different], seed)]
    return geometry(vectors[different], vectors[partners[:, 0]], vectors[partners[:, 1]], seed=seed)
