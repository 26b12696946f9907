"""bertlab contexts: the vectors of one word in its sentences, put into groups: do its senses come apart?

    bertlab contexts bank banks --model DIR --in texts.jsonl

Several words are forms of one. Where the file has labels, the groups are held against them; beside the contextual vectors stand those
without context: the word's own embedding, and the mean of its neighbours' embeddings.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError, DataError
from bertlab.schema import POSITIONAL

if TYPE_CHECKING:
    from bertlab.corpus.labelled import Labelled
    from bertlab.embedding.contexts import Occurrence, WordVectors
    from bertlab.evaluation.senses import Groups

AROUND = 45  # characters shown on both sides of the word
KINDS = {"contextual": "in its context", "word": "static: the word alone", "bag": "static: the words around it"}


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    word: tuple[str, ...] = field(metadata=POSITIONAL)
    """The word; several are forms of one (bank banks). Found as a whole word, in capitals or not."""
    model: str
    """A model folder (RUN/model), a published BERT or sentence-transformers folder, or hf:NAME."""
    in_: str
    """Texts: a text file (a line is a text), CSV, TSV, JSONL or Parquet, compressed or not."""
    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the sense, where every row has one."""
    layer: tuple[int, ...] = ()
    """Layers whose states are taken, their mean where there are several: 0 is the embeddings, -1 the last; default: the last four."""
    senses: int | None = None
    """How many groups; default: from 2 to 8, by the silhouette."""
    most: int = 2000
    """Occurrences that are looked at, the first of the file: grouping compares each with each."""
    examples: int = 3
    """Sentences shown of each group, those nearest to its middle."""
    output: str | None = None
    """Also write NAME.json (all facts) or NAME.parquet (a row an occurrence: text, place, label, group, vector)."""
    json: bool = False
    """Print a JSON object instead of tables."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.word or not all(word.strip() for word in self.word):
            raise ConfigError("give a word, as in bertlab contexts bank --in FILE")
        if (self.senses is not None and self.senses < 1) or self.examples < 0 or not 2 <= self.most <= 20_000:
            raise ConfigError(
                f"senses={self.senses}, examples={self.examples}, most={self.most}: give 1, 0 and 2 or more, and most 20,000 at most"
            )
        if self.output and Path(self.output).suffix not in (".json", ".parquet"):
            raise ConfigError(f"output={self.output}: name it .json or .parquet")


def run(config: Config) -> dict[str, Any]:
    """Print the groups, write what was asked for, and return the facts.

    Raises ConfigError (folder, file, layers), DataError (texts; fewer than two occurrences), CorruptError.
    """
    from itertools import islice

    from bertlab.corpus.labelled import read_labelled
    from bertlab.disk import refuse_others, write_json
    from bertlab.embedding.contexts import last_layers, occurrences, word_vectors
    from bertlab.embedding.engine import open_embedder
    from bertlab.evaluation.senses import grouped

    if config.output:
        marks = {".json": ('"occurrences"', '"layers"'), ".parquet": ("bertlab.numbers", "group")}[Path(config.output).suffix]
        refuse_others(Path(config.output), Path(config.output).suffix, *marks)
    rows = read_labelled(config.in_, text=config.text, label=config.label, needs_label=False, dialect=config.dialect)
    if rows.partly_labelled:
        print(f"note: {rows.partly_labelled}, so that groups are not held against labels", file=sys.stderr)
    found = list(islice(occurrences(config.word, rows.texts), config.most + 1))
    if len(found) < 2:
        raise DataError(f"{config.in_}: {' or '.join(config.word)} stands there {len(found)} times: 2 or more can be compared")
    if config.senses and config.senses > len(found):
        raise DataError(f"{config.in_}: {len(found)} occurrences are no {config.senses} groups: give fewer --senses, or more texts")
    embedder = open_embedder(config.model, config.device)
    vectors = word_vectors(embedder, rows.texts, found[: config.most], config.layer)
    groups = {kind: grouped(getattr(vectors, kind), config.senses) for kind in KINDS}
    facts: dict[str, Any] = {
        "word": list(config.word),
        "occurrences": len(vectors.word),
        "more": len(found) > config.most,
        "layers": embedder.frozen.layer_numbers(config.layer or last_layers(embedder)),
    }
    facts |= _facts(config, rows, found, vectors, groups)
    print(json.dumps(facts, ensure_ascii=False) if config.json else _screen(config, facts))
    if config.output and config.output.endswith(".json"):
        write_json(Path(config.output), facts)
    elif config.output:
        _write_parquet(Path(config.output), rows, found, vectors, groups["contextual"])
    return facts


def _facts(
    config: Config, rows: "Labelled", found: list["Occurrence"], vectors: "WordVectors", groups: dict[str, "Groups"]
) -> dict[str, Any]:
    """What was found of each kind of vectors, and of the contextual ones the groups with examples."""
    from collections import Counter

    from bertlab.evaluation.senses import agreement, typical

    places = found[: len(vectors.word)]
    labels = None if rows.labels is None else [rows.labels[each.text] for each in places]
    kinds = {}
    for kind, of in groups.items():
        kinds[kind] = {"groups": of.count, "silhouette": of.silhouette, "weak": of.weak}
        kinds[kind] |= {} if labels is None else agreement(of.of, labels)
    ours, shown = groups["contextual"], []
    for number, near in enumerate(typical(vectors.contextual, ours, config.examples)):
        members = [place for place, group in enumerate(ours.of) if group == number]
        group: dict[str, Any] = {"occurrences": len(members)}
        if labels is not None:
            group["labels"] = dict(Counter(labels[place] for place in members).most_common())
        group["examples"] = [_example(rows, places[row]) for row in near]
        shown.append(group)
    return {"kinds": kinds, "groups": shown}


def _example(rows: "Labelled", at: "Occurrence") -> dict[str, Any]:
    label = {} if rows.labels is None else {"label": rows.labels[at.text]}
    return {"id": rows.ids[at.text], "text": rows.texts[at.text], "start": at.start, "end": at.end, **label}


def _screen(config: Config, facts: dict[str, Any]) -> str:
    from bertlab.pages.screen import counted, inert, table

    more, layers = f" (the first {config.most:,})" if facts["more"] else "", " ".join(map(str, facts["layers"]))
    lines = [f"{inert(' '.join(facts['word']))}: {counted(facts['occurrences'], 'occurrence')}{more}, layers {layers}"]
    with_labels = "purity" in facts["kinds"]["contextual"]
    if with_labels:
        lines.append(f"the groups are held against the labels in column '{inert(config.label)}', taken for senses (--label names another)")
    lines.append("")
    cells = []
    for kind, of in facts["kinds"].items():
        silhouette = "-" if of["silhouette"] is None else f"{of['silhouette']:.3f}" + " weak" * of["weak"]
        scores = [f"{of['purity']:.3f}", f"{of['v_measure']:.3f}"] if with_labels else []
        cells.append([KINDS[kind], str(of["groups"]), silhouette, *scores])
    lines.append(table(["vectors", "groups", "silhouette", *(["purity", "V-measure"] if with_labels else [])], cells))
    if with_labels:
        lines.append(f"all in one group: purity {facts['kinds']['contextual']['one_group_purity']:.3f}, V-measure 0")
    for number, group in enumerate(facts["groups"], 1):
        labels = ", ".join(f"{inert(label)} {count}" for label, count in group.get("labels", {}).items())
        lines += ["", f"group {number}: {group['occurrences']:,}" + (f" ({labels})" if labels else "")]
        lines += [f"  {_around(each)}" for each in group["examples"]]
    return "\n".join(lines)


def _around(example: dict[str, Any]) -> str:
    """The word in its sentence, between stars, as much of both sides as fits."""
    from bertlab.pages.screen import inert

    text, start, end = example["text"], example["start"], example["end"]
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    return inert(f"{'... ' * (start > AROUND)}{before}*{text[start:end]}*{after}{' ...' * (len(text) > end + AROUND)}")


def _write_parquet(path: Path, rows: "Labelled", found: list["Occurrence"], vectors: "WordVectors", groups: "Groups") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bertlab.disk import whole_file
    from bertlab.evaluation.vectors import packed, vector_table

    places = found[: len(vectors.word)]
    columns: dict[pa.Field, Any] = {
        pa.field("text", pa.string()): [rows.texts[each.text] for each in places],
        pa.field("start", pa.int32()): [each.start for each in places],
        pa.field("end", pa.int32()): [each.end for each in places],
        pa.field("label", pa.string()): [None if rows.labels is None else rows.labels[each.text] for each in places],
        pa.field("group", pa.int32()): groups.of,
    }
    ids = [rows.ids[each.text] for each in places]
    with whole_file(path) as temporary:
        pq.write_table(vector_table(ids, packed(vectors.contextual, "float32"), "float32", columns), temporary)
