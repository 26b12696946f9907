"""Vectors, and answers, on their way to the disk: parts that are whole or absent, and the one file that vectors become.

A part is an Arrow stream (rows, and in its schema what was counted over them) with the sha256 of all of that behind it. The file is written
from the parts in order, one in memory at a time, so its bytes depend on the rows alone, not on when, where or how often they were computed.
Until it is finished the vectors are on the disk twice.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.disk import MANIFEST, read_sealed, text_at, texts_at, whole_file
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.evaluation.vectors import STORED, Numbers, stored_in, vector_schema

FACTS_KEY = b"bertlab.facts"
DIGEST_BYTES = 32

Write = Callable[[pa.Table], None]

# ---- parts


def write_part(path: Path, table: pa.Table, facts: dict[str, Any]) -> None:
    """Write rows and what was counted over them, whole or not at all."""
    metadata = (table.schema.metadata or {}) | {FACTS_KEY: json.dumps(facts).encode()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as stream:
        stream.write_table(table.replace_schema_metadata(metadata))
    data = sink.getvalue()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.write(hashlib.sha256(data).digest())


def read_part(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """What `write_part` wrote. Raises CorruptError when any byte is another."""
    data = memoryview(path.read_bytes())
    if len(data) < DIGEST_BYTES or hashlib.sha256(data[:-DIGEST_BYTES]).digest() != bytes(data[-DIGEST_BYTES:]):
        path.unlink()  # so that the same command makes it again
        raise CorruptError(f"{path} is not the part that was written (its sha256 differs): give the same command again to make it again")
    table = pa.ipc.open_stream(pa.py_buffer(data[:-DIGEST_BYTES])).read_all()
    metadata = dict(table.schema.metadata)
    facts = json.loads(metadata.pop(FACTS_KEY))
    return table.replace_schema_metadata(metadata), facts


def refuse_foreign(output: Path, source: str, work: Path) -> None:
    """Raise ConfigError when there is a file at `output` that is no output of an earlier call (it has no manifest beside it, and `work` no
    part of it), or the input itself: nothing of the user's is overwritten."""
    if output.exists() and source != "-" and Path(source).exists() and output.samefile(source):
        raise ConfigError(f"{output} is the input: choose another --output")
    ours = output.with_name(f"{output.name}.{MANIFEST}").is_file() or any(work.glob("*/*.part"))
    if output.exists() and not ours:
        raise ConfigError(f"{output} is there, and was not written by bertlab: choose another --output, or remove it first")


def replaced(output: Path, what: str, origins: dict[str, Any]) -> list[str]:
    """In a line which vectors or answers (`what`) of an earlier call are replaced, where their model or their texts were others than now:
    `origins` is the new manifest's "from". To be said before the computing."""
    try:
        before = read_sealed(output.with_name(f"{output.name}.{MANIFEST}"))
    except BertlabError:  # there is none, or none that can be believed
        return []

    def made_of(origins: Any) -> tuple[Any, dict[str, Any]]:
        source = origins.get("input") if isinstance(origins, dict) else None
        named = source if isinstance(source, dict) else {}
        return texts_at(origins, "model", "files"), {key: value for key, value in named.items() if key != "path"}

    said = before.get("from")
    if made_of(said) == made_of(origins):
        return []
    rows = before.get("rows")
    count = f"{rows:,} " if isinstance(rows, int) else ""
    by, of = text_at(said, "model", "path"), text_at(said, "input", "path")
    return [f"note: {output} held {count}{what} by {by} of {of}: these replace them"]


def tidy(work: Path, all: bool = False) -> None:
    """Take away, in the folder that parts are kept in, standard input's copy and folders without a part; with `all`, the parts too."""
    for entry in work.iterdir():
        if entry.is_file() and entry.name != ".lock":
            entry.unlink()
        elif entry.is_dir() and (all or not any(entry.iterdir())):
            shutil.rmtree(entry)


# ---- the file


def beside(output: Path, numbers: Numbers) -> list[Path]:
    """The files that vectors are written to: `output`, and for .npy its ids (an id a line; what breaks
    lines or steers a terminal as spaces) and scales."""
    if output.suffix == ".parquet":
        return [output]
    scales = [output.with_suffix(".scales.npy")] if numbers == "int8" else []
    return [output, output.with_suffix(".ids.txt"), *scales]


@contextmanager
def vector_file(output: Path, rows: int, width: int, numbers: Numbers, between: Sequence[pa.Field] = ()) -> Iterator[Write]:
    """Yield a function that appends a table of vectors to `output` (.parquet or .npy); it and the files beside it appear when all is well.

    A Parquet row group is what one call appends.
    """
    with ExitStack() as open_files:
        places = [open_files.enter_context(whole_file(path)) for path in beside(output, numbers)]  # the last appears first
        if output.suffix == ".parquet":
            schema = vector_schema(width, numbers, between)
            writer = open_files.enter_context(pq.ParquetWriter(places[0], schema, use_dictionary=False))
            yield lambda table: writer.write_table(table, row_group_size=max(1, len(table)))
            return
        vectors, ids, *scales = (open_files.enter_context(place.open("wb")) for place in places)
        _begin_npy(vectors, STORED[numbers], (rows, width))
        if scales:
            _begin_npy(scales[0], np.float32, (rows,))

        def append(table: pa.Table) -> None:
            stored = stored_in(table)
            vectors.write(np.ascontiguousarray(stored.values).data)
            ids.write(
                "".join(f"{''.join(each if each.isprintable() else ' ' for each in id)}\n" for id in table["id"].to_pylist()).encode()
            )
            for stream in scales:
                assert stored.scales is not None
                stream.write(np.ascontiguousarray(stored.scales).data)

        yield append


def _begin_npy(stream: BinaryIO, type: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(type)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
