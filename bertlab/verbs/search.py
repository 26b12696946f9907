"""bertlab search: the texts nearest to a query, or the near-duplicates among all, from a file of vectors that bertlab embed wrote.

    bertlab search vectors.parquet "how do rivers form?"
    bertlab search vectors.parquet --duplicates 0.95

Exact: every vector is looked at, a block at a time. The file's manifest names the model, and another one is refused. --approximate
searches a graph beside the file instead, and says what that misses.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.config import POSITIONAL
from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError

if TYPE_CHECKING:
    from bertlab.embedding.approximate import Graph
    from bertlab.embedding.index import Index

QUERIES_AT_ONCE = 256  # one pass over the vectors for so many
PAIRS_AT_ONCE = 4096  # one pass over ids and texts for so many
LONGEST_SHOWN = 100  # characters of a text on the screen


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    index: str = field(metadata=POSITIONAL)
    """The file of vectors: NAME.parquet or NAME.npy, as bertlab embed wrote it."""
    query: tuple[str, ...] = field(default=(), metadata=POSITIONAL)
    """A text, or several, whose nearest are wanted."""
    input: str | None = None
    """A file of queries: a text file (a line is a query), CSV, TSV, JSONL or Parquet (column text); standard input is --input=-."""
    top: int = 10
    """How many of the nearest are shown."""
    duplicates: float | None = None
    """Instead of queries: all pairs whose cosine is at least this, such as 0.95, each pair once."""
    texts: str | None = None
    """The texts that were embedded, to be shown; default: those that the index was made from, where they are still there and the same."""
    model: str | None = None
    """Where the model is that made the vectors; default: where it was then."""
    approximate: bool = False
    """Search a graph (usearch) instead of all vectors; it is built beside the file when first asked for, and its recall is said."""
    json: bool = False
    """Print a JSON object a query, or a pair, instead of tables."""
    device: Literal["cpu", "cuda"] | None = None
    """Of the model; default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = [bool(self.query), self.input is not None, self.duplicates is not None]
        if sum(asked) != 1:
            raise ConfigError(
                'give queries, as in bertlab search INDEX "a text", or --input FILE of them, or --duplicates 0.95: one of these'
            )
        if self.top < 1:
            raise ConfigError(f"top={self.top}: give 1 or more")
        if self.duplicates is not None and not 0 < self.duplicates <= 1:
            raise ConfigError(f"duplicates={self.duplicates}: give a cosine above 0, at most 1, such as 0.95")
        if self.approximate and self.duplicates is not None:
            raise ConfigError("duplicates are found exactly: leave --approximate out")


def run(config: Config) -> dict[str, Any]:
    """Print what was found; returns how many queries or pairs, and of an approximate search its recall.

    Raises ConfigError (names, another model), DataError (texts), CorruptError (vectors).
    """
    from bertlab.embedding.index import open_index, texts_source

    index = open_index(Path(config.index))
    files = texts_source(index, config.texts)
    if files is None:
        print(f"texts are not shown: {index.origin['path']} is not there as it was embedded (--texts FILE)", file=sys.stderr)
    if config.duplicates is not None:
        return {"pairs": _show_pairs(config, index, files, config.duplicates)}
    return _show_nearest(config, index, files)


# ---- the nearest


def _show_nearest(config: Config, index: "Index", files: Any) -> dict[str, Any]:
    from bertlab.embedding.approximate import propose
    from bertlab.embedding.index import blocks, embedder_of, query_vectors
    from bertlab.embedding.nearest import exact_nearest

    queries, count = _queries(config), 0
    embedder = embedder_of(index, config.model, config.device)
    graph = _graph(index) if config.approximate else None
    at_once = 1 if config.input == "-" and sys.stdin.isatty() else QUERIES_AT_ONCE
    while part := list(itertools.islice(queries, at_once)):
        vectors = query_vectors(index, embedder, part)
        exact = (vectors, blocks(index), config.top)
        found = propose(graph, vectors, config.top) if graph else list(zip(*exact_nearest(*exact), strict=True))
        named = _named(index, files, {int(row) for rows, _ in found for row in rows})
        for query, (rows, scores) in zip(part, found, strict=True):
            nearest = [_entry(named, row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
            print(
                json.dumps({"query": query, "nearest": nearest}, ensure_ascii=False) if config.json else _screen(query, nearest), flush=True
            )
        count += len(part)
    return {"queries": count} | ({"recall": graph.facts["recall"]} if graph else {})


def _graph(index: "Index") -> "Graph":
    from bertlab.embedding.approximate import open_graph
    from bertlab.progress import progress

    with progress("building the graph", "vectors", index.rows) as report:
        graph = open_graph(index, lambda rows: report(rows, ""))
    recall = graph.facts["recall"]
    between = "" if recall["low"] is None else f", {recall['low']:.3f} to {recall['high']:.3f} with 95% confidence"
    print(
        f"approximate: recall@{recall['at']} {recall['value']:.3f} against exact, of {recall['queries']} vectors{between}", file=sys.stderr
    )
    return graph


def _queries(config: Config) -> Iterator[str]:
    """Lines of white space alone are passed over."""
    from bertlab.corpus.files import lines
    from bertlab.corpus.labelled import read_labelled

    found: Iterable[str] = config.query
    if config.input == "-":
        found = (line or "" for _, line in lines("/dev/stdin", "stop", Counter(), config.dialect))
    elif config.input is not None:
        found = read_labelled(config.input, needs_label=False, dialect=config.dialect).texts
    return (query for query in found if query.strip())


# ---- pairs


def _show_pairs(config: Config, index: "Index", files: Any, threshold: float) -> int:
    """Print every pair as it is found, and count."""
    from bertlab.embedding.index import blocks
    from bertlab.embedding.nearest import near_pairs

    waiting: list[tuple[int, int, float]] = []
    count = 0

    from bertlab.pages.screen import counted

    def flush() -> None:
        named = _named(index, files, {row for first, second, _ in waiting for row in (first, second)})
        for first, second, cosine in waiting:
            pair = [_entry(named, row) for row in (first, second)]
            print(
                json.dumps({"cosine": cosine, "pair": pair}, ensure_ascii=False) if config.json else _pair_screen(pair, cosine), flush=True
            )
        waiting.clear()

    for rows, cosines in near_pairs(lambda start: blocks(index, start), threshold):
        for (first, second), cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
            waiting.append((first, second, cosine))
            count += 1
            if len(waiting) == PAIRS_AT_ONCE:
                flush()
    flush()
    print(
        f"{counted(count, 'pair')} of {counted(index.rows, 'text')} {'has' if count == 1 else 'have'} a cosine of at least {threshold}",
        file=sys.stderr,
    )
    return count


# ---- rows by their names


def _named(index: "Index", files: Any, rows: set[int]) -> tuple[dict[int, str], dict[int, str]]:
    from bertlab.embedding.index import ids_of, texts_of

    found = sorted(rows)
    return ids_of(index, found), texts_of(index, files, found, index.origin.get("text", "text")) if files else {}


def _entry(named: tuple[dict[int, str], dict[int, str]], row: int, score: float | None = None) -> dict[str, Any]:
    ids, texts = named
    entry: dict[str, Any] = {} if score is None else {"score": score}
    return entry | {"row": row, "id": ids[row]} | ({"text": texts[row]} if row in texts else {})


def _screen(query: str, nearest: list[dict[str, Any]]) -> str:
    from bertlab.pages.screen import inert

    width = max((len(each["id"]) for each in nearest), default=0)
    lines = [f"  {each['score']:7.4f}  {inert(each['id']).ljust(width)}  {_shortened(each.get('text', ''))}".rstrip() for each in nearest]
    return "\n".join([_shortened(query), *lines, ""])


def _pair_screen(pair: list[dict[str, Any]], cosine: float) -> str:
    from bertlab.pages.screen import inert

    lines = [f"  {inert(each['id'])}  {_shortened(each.get('text', ''))}".rstrip() for each in pair]
    return "\n".join([f"{cosine:.4f}", *lines])


def _shortened(text: str) -> str:
    from bertlab.pages.screen import inert

    return inert(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN].rstrip() + " ...")
