"""Queries, the texts that belong to them, and the pool that they are looked for in: from pairs, and further texts.

Equal texts (bertlab/corpus/identity.py) are one query, or one text of the pool, whose id is that of its first row; where another text has
that id already, "#2", "#3" and so on are put behind it. Held in memory whole. Knows nothing of vectors.
"""

import hashlib
from dataclasses import dataclass

from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import Labelled
from bertlab.errors import DataError


@dataclass(frozen=True)
class Texts:
    """Different texts in the order of their first rows, with different ids and the normalised sha256 of each."""

    ids: list[str]
    texts: list[str]
    hashes: list[str]


@dataclass(frozen=True)
class Retrieval:
    """Queries, the pool, and for each query the places in the pool of the texts that belong to it: one or more, ascending."""

    queries: Texts
    pool: Texts
    relevant: list[list[int]]

    def query_hashes(self) -> list[str]:
        """A query and the whole pool as one sha256 each: the same query in another pool is another question."""
        pool = hashlib.sha256(" ".join(sorted(self.pool.hashes)).encode()).hexdigest()
        return [hashlib.sha256(f"{each} {pool}".encode()).hexdigest() for each in self.queries.hashes]

    def relevant_ids(self) -> list[list[str]]:
        return [[self.pool.ids[place] for place in places] for places in self.relevant]


def retrieval_of(pairs: Labelled, corpus: Labelled | None = None, relevant: str | None = None) -> Retrieval:
    """Pairs (text: a query, text_b: a text that belongs to it) and further texts of the pool.

    With `relevant` a pair says by this label that its texts belong together; the second texts of other pairs are in the pool alone, and
    queries that are in no such pair are left out. Raises DataError for rows that are no pairs, and where no pair belongs together.
    """
    if pairs.texts_b is None:
        raise DataError(f"{pairs.origin}: no second texts: give a file with columns text (a query) and text_b (what belongs to it)")
    if relevant is not None and pairs.labels is None:
        raise DataError(f"{pairs.origin}: not every row has a label, and relevant={relevant} asks for it")
    pool, place_of = _different([] if corpus is None else list(zip(corpus.ids, corpus.texts, strict=True)))
    pool, place_of = _different(list(zip(pairs.ids, pairs.texts_b, strict=True)), pool, place_of)
    labels = pairs.labels if relevant is not None and pairs.labels is not None else [relevant] * len(pairs)
    belong = [row for row, label in enumerate(labels) if label == relevant]
    if not belong:
        raise DataError(f"{pairs.origin}: no row has the label '{relevant}' that says what belongs together (relevant)")
    queries, number_of = _different([(pairs.ids[row], pairs.texts[row]) for row in belong])
    found: list[set[int]] = [set() for _ in queries.ids]
    for row in belong:
        found[number_of[normalised_sha256(pairs.texts[row])]].add(place_of[normalised_sha256(pairs.texts_b[row])])
    return Retrieval(queries, pool, [sorted(each) for each in found])


def _different(
    rows: list[tuple[str, str]], before: Texts | None = None, known: dict[str, int] | None = None
) -> tuple[Texts, dict[str, int]]:
    """(id, text) rows as different texts after those `before`, and the place of each by its hash."""
    found = before or Texts([], [], [])
    places = known or {}
    taken = set(found.ids)
    again: dict[str, int] = {}
    for id, text in rows:
        sha256 = normalised_sha256(text)
        if sha256 in places:
            continue
        places[sha256] = len(found.ids)
        unused = id
        while unused in taken:
            again[id] = again.get(id, 1) + 1
            unused = f"{id}#{again[id]}"
        taken.add(unused)
        found.ids.append(unused)
        found.texts.append(text)
        found.hashes.append(sha256)
    return found, places
