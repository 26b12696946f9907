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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect, between_excel_cells
from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL

if TYPE_CHECKING:
    from bertlab.embedding.approximate import Graph
    from bertlab.embedding.index import Index

QUERIES_AT_ONCE = 256  # one pass over the vectors for so many
PAIRS_AT_ONCE = 4096  # one pass over ids and texts for so many
LONGEST_SHOWN = 100  # characters of a text on the screen
ENDINGS = (".csv", ".tsv", ".jsonl")
OF_NEAREST = ("query", "rank", "score", "id", "text")  # the columns of a file
OF_PAIRS = ("cosine", "id", "text", "other_id", "other_text")

Put = Callable[[dict[str, Any]], None]  # what is done with an answer: {query, nearest} or {cosine, pair}


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    index: str = field(metadata=POSITIONAL)
    """The file of vectors: NAME.parquet or NAME.npy, as bertlab embed wrote it."""
    query: tuple[str, ...] = field(default=(), metadata=POSITIONAL)
    """A text, or several, whose nearest are wanted."""
    input: str | None = None
    """A file of queries: a text file (a line is a query), CSV, TSV, JSONL or Parquet; standard input is --input=-."""
    text: str = "text"
    """Column of the queries in a table."""
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
    output: str | None = None
    """File to write instead of the screen, NAME.csv, NAME.tsv or NAME.jsonl, that is not there yet: a row a text found (query, rank, score,
    id, text), or a pair (cosine, id, text, other_id, other_text), the nearest pairs first."""
    excel: bool = False
    """Of .csv: as Excel opens it by a double click, as by bertlab predict --excel."""
    excel_separator: str | None = None
    """What stands between the cells of --excel, as ; for a European Excel. Default: as in the texts (--separator)."""
    device: Literal["cpu", "cuda"] | None = None
    """Of the model; default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = [bool(self.query), self.input is not None, self.duplicates is not None]
        if sum(asked) != 1:
            raise ConfigError(
                'give queries, as in bertlab search INDEX "a text", or --input FILE of them, or --duplicates 0.95: one of these'
            )
        if not all(map(str.strip, self.query)):
            raise ConfigError("a query is empty: nothing is near to it")
        if self.top < 1:
            raise ConfigError(f"top={self.top}: give 1 or more")
        if self.duplicates is not None and not 0 < self.duplicates <= 1:
            raise ConfigError(f"duplicates={self.duplicates}: give a cosine above 0, at most 1, such as 0.95")
        if self.approximate and self.duplicates is not None:
            raise ConfigError("duplicates are found exactly: leave --approximate out")
        if self.output is not None and Path(self.output).suffix not in ENDINGS:
            raise ConfigError(f"output={self.output}: name it .csv, .tsv or .jsonl")
        if self.output is not None and self.json:
            raise ConfigError("json is a way to print: name the output NAME.jsonl for JSON in a file")
        if self.excel and Path(self.output or "").suffix != ".csv":
            raise ConfigError("excel is a way to write .csv: give --output NAME.csv, or leave it out")
        if self.excel_separator is not None:
            if not self.excel:
                raise ConfigError("excel_separator is for --excel: give both, or leave it out")
            between_excel_cells(self.excel_separator, self)


def run(config: Config) -> dict[str, Any]:
    """Print what was found; returns how many queries or pairs, of queries that were given themselves what --json prints of each, `answers`,
    and of an approximate search its recall.

    Raises ConfigError (names, another model), DataError (texts), CorruptError (vectors).
    """
    from bertlab.disk import refuse_unwritable
    from bertlab.embedding.index import open_index, texts_source

    if config.output is not None:
        if Path(config.output).exists():
            raise ConfigError(f"{config.output} is there already: choose another --output, or remove it first")
        refuse_unwritable(Path(config.output))
    index = open_index(Path(config.index))
    files = texts_source(index, config.texts)
    if files is None:
        print(f"texts are not shown: {index.origin['path']} is not there as it was embedded (--texts FILE)", file=sys.stderr)
    with _answers(config) as put:
        if config.duplicates is not None:
            return {"pairs": _find_pairs(config, index, files, config.duplicates, put)}
        answers: list[dict[str, Any]] = []

        def keep(answer: dict[str, Any]) -> None:
            put(answer)
            if config.query:  # those of a file may be a million
                answers.append(answer)

        return _find_nearest(config, index, files, keep) | ({"answers": answers} if config.query else {})


# ---- where answers go


@contextmanager
def _answers(config: Config) -> Iterator[Put]:
    """A function that prints an answer, or adds its rows to the file, which is there when all are."""
    if config.output is None:
        yield lambda answer: print(json.dumps(answer, ensure_ascii=False) if config.json else _screen(answer), flush=True)
        return
    from bertlab.corpus.dialect import encoding_for, table_line
    from bertlab.disk import whole_file

    output = Path(config.output)
    columns = OF_NEAREST if config.duplicates is None else OF_PAIRS
    separator = "\t" if output.suffix == ".tsv" else between_excel_cells(config.excel_separator, config) if config.excel else ","
    as_json = output.suffix == ".jsonl"
    with whole_file(output) as place, place.open("w", encoding=encoding_for(config.excel), newline="") as stream:
        if not as_json:
            stream.write(table_line(columns, separator, config.excel))

        def write(answer: dict[str, Any]) -> None:
            for row in _rows(answer):
                cells = {column: row.get(column, "") for column in columns}
                line = json.dumps(cells, ensure_ascii=False) + "\n" if as_json else table_line(cells.values(), separator, config.excel)
                stream.write(line)

        yield write
    print(f"wrote {output}", file=sys.stderr)


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer flat: a row a text found, or one of a pair."""
    if "query" in answer:
        return [{"query": answer["query"], "rank": rank, **entry} for rank, entry in enumerate(answer["nearest"], start=1)]
    first, second = answer["pair"]
    return [{"cosine": answer["cosine"]} | first | {f"other_{name}": value for name, value in second.items()}]


# ---- the nearest


def _find_nearest(config: Config, index: "Index", files: Any, put: Put) -> dict[str, Any]:
    from bertlab.embedding.approximate import propose
    from bertlab.embedding.index import blocks, embedder_of, query_vectors
    from bertlab.embedding.nearest import exact_nearest
    from bertlab.pages.screen import counted

    tally: Counter[str] = Counter()
    queries, count = _queries(config, tally), 0
    embedder = embedder_of(index, config.model, config.device)
    graph = _graph(index) if config.approximate else None
    at_once = 1 if config.input == "-" and sys.stdin.isatty() else QUERIES_AT_ONCE
    while part := list(itertools.islice(queries, at_once)):
        vectors = query_vectors(index, embedder, part, tally)
        exact = (vectors, blocks(index), config.top)
        found = propose(graph, vectors, config.top) if graph else list(zip(*exact_nearest(*exact), strict=True))
        named = _named(index, files, {int(row) for rows, _ in found for row in rows})
        for query, (rows, scores) in zip(part, found, strict=True):
            put({"query": query, "nearest": [_entry(named, row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]})
        count += len(part)
    if tally["truncated"]:
        print(f"note: {tally['truncated']:,} of {count:,} queries cut to {embedder.max_length} tokens", file=sys.stderr)
    if tally["blank"]:
        origin = "standard input" if config.input == "-" else config.input
        print(f"note: {counted(tally['blank'], 'empty row')} of {origin} passed over: {count:,} queries", file=sys.stderr)
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


def _queries(config: Config, tally: Counter[str]) -> Iterator[str]:
    """Lines of white space alone are passed over, and counted as "blank"."""
    from bertlab.corpus.files import lines
    from bertlab.corpus.labelled import read_labelled

    found: Iterable[str] = config.query
    if config.input == "-":
        found = (line or "" for _, line in lines("/dev/stdin", "stop", Counter(), config.dialect))
    elif config.input is not None:
        found = read_labelled(config.input, text=config.text, needs_label=False, dialect=config.dialect).texts
    return _not_blank(found, tally)


def _not_blank(queries: Iterable[str], tally: Counter[str]) -> Iterator[str]:
    for query in queries:
        if query.strip():
            yield query
        else:
            tally["blank"] += 1


# ---- pairs


def _find_pairs(config: Config, index: "Index", files: Any, threshold: float, put: Put) -> int:
    """Put the pairs as they are found, PAIRS_AT_ONCE of them, or of a file, when all are found, the nearest first; and count."""
    import numpy as np

    from bertlab.embedding.index import blocks
    from bertlab.embedding.nearest import near_pairs, pairs_in_order
    from bertlab.pages.screen import counted

    count, waiting, found = 0, 0, []

    def put_some(rows: "np.ndarray", cosines: "np.ndarray") -> None:
        for start in range(0, len(rows), PAIRS_AT_ONCE):
            some = rows[start : start + PAIRS_AT_ONCE]
            named = _named(index, files, set(some.flatten().tolist()))
            for (first, second), cosine in zip(some.tolist(), cosines[start : start + PAIRS_AT_ONCE].tolist(), strict=True):
                put({"cosine": cosine, "pair": [_entry(named, first), _entry(named, second)]})

    for rows, cosines in near_pairs(lambda start: blocks(index, start), threshold):
        count, waiting = count + len(rows), waiting + len(rows)
        found.append((rows, cosines))
        if config.output is None and waiting >= PAIRS_AT_ONCE:
            put_some(*map(np.concatenate, zip(*found, strict=True)))
            waiting = 0
            found.clear()
    if found:
        rows, cosines = map(np.concatenate, zip(*found, strict=True))
        put_some(*((rows, cosines) if config.output is None else pairs_in_order(rows, cosines)))
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


def _screen(answer: dict[str, Any]) -> str:
    from bertlab.pages.screen import inert

    if "pair" in answer:
        lines = [f"  {inert(each['id'])}  {_text_of(each)}".rstrip() for each in answer["pair"]]
        return "\n".join([f"{answer['cosine']:.4f}", *lines])
    nearest = answer["nearest"]
    width = max((len(each["id"]) for each in nearest), default=0)
    lines = [f"  {each['score']:7.4f}  {inert(each['id']).ljust(width)}  {_text_of(each)}".rstrip() for each in nearest]
    return "\n".join([_shortened(answer["query"]), *lines, ""])


def _text_of(entry: dict[str, Any]) -> str:
    """An empty text has a vector too, and is near to many."""
    text = entry.get("text")
    return "" if text is None else _shortened(text) if text.strip() else "(without a word)"


def _shortened(text: str) -> str:
    from bertlab.pages.screen import inert

    return inert(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN].rstrip() + " ...")
