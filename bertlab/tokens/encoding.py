"""From the spool to token ids, a run at a time: in this process, or in several with the same result.

Worker w of W takes runs w, w + W, w + 2W, ... and writes what it makes to its standard output as an Arrow stream; this
process reads the streams in turn. So the order, and every byte, is that of one process; a pipe that nobody reads stops
its writer, so memory stays bounded; and no object is pickled. A worker is `python -m bertlab.tokens.encoding`: it imports
neither torch nor the caller's program, and starts in a quarter of a second. Knows nothing of splits or shards.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertlab.tokens.spool import Spool, run_sentences
from bertlab.tokens.tokenizer import Tokenizer, load

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("part", pa.int32()),
        ("characters", pa.int64()),
        ("words", pa.int64()),
        ("tokens", pa.list_(pa.list_(pa.int32()))),
    ]
)


@dataclass(frozen=True)
class EncodedDocument:
    """`ids` (T,) int32, its sentences end to end; `sentence_lengths` (S,) int64, each at least 1: both empty when no sentence gave a token.

    `sentences` and `words` (split at spaces) count the text before sentences without a token were left out.
    """

    id: str
    source: str
    sha256: str
    sentences: int
    words: int
    ids: np.ndarray
    sentence_lengths: np.ndarray


def encode_run(run: pa.RecordBatch, tokenizer: Tokenizer) -> pa.RecordBatch:
    """One run of the spool as a record batch of SCHEMA: the same rows, each sentence a list of ids (an empty one where no token came)."""
    flat, rows = run_sentences(run)
    ids, offsets = tokenizer.encode(flat)
    sentences = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids))
    tokens = pa.ListArray.from_arrays(pa.array(rows, pa.int32()), sentences)
    texts = [flat[start:end] for start, end in itertools.pairwise(rows)]
    characters = pa.array([sum(map(len, text)) for text in texts], pa.int64())
    words = pa.array([sum(sentence.count(" ") + 1 for sentence in text) for text in texts], pa.int64())
    kept = [run.column(name) for name in ("id", "source", "sha256", "part")]
    return pa.record_batch([*kept, characters, words, tokens], schema=SCHEMA)


def encode_spool(spool: Path, tokenizer: Path, workers: int, passing: Callable[[int], None]) -> Iterator[EncodedDocument]:
    """Every document of the spool, in its order, by the tokenizer in a folder; the same for any number of `workers`.

    One worker is this process, whose Rust threads use every core. `passing` is told the number of characters of each run that is done.
    """
    runs = _encode_here(spool, tokenizer) if workers == 1 else _encode_in_processes(spool, tokenizer, workers)
    pending: list[EncodedDocument] = []
    for run in runs:
        passing(sum(run.column("characters").to_pylist()))
        for part, piece in _pieces(run):
            if part == 0 and pending:
                yield _joined(pending)
                pending = []
            pending.append(piece)
    if pending:
        yield _joined(pending)


def _encode_here(spool: Path, tokenizer: Path) -> Iterator[pa.RecordBatch]:
    opened, loaded = Spool(spool), load(str(tokenizer))
    for number in range(opened.runs):
        yield encode_run(opened.run(number), loaded)


def _encode_in_processes(spool: Path, tokenizer: Path, workers: int) -> Iterator[pa.RecordBatch]:
    runs = Spool(spool).runs
    workers = min(workers, runs)
    threads = max(1, (os.cpu_count() or 1) // max(1, workers))
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-m", "bertlab.tokens.encoding", str(spool), str(tokenizer)]
    processes = [
        subprocess.Popen([*command, str(worker), str(workers)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
        for worker in range(workers)
    ]
    try:
        streams: list[pa.RecordBatchReader] = []
        for number in range(runs):
            worker = number % workers
            try:
                if worker == len(streams):
                    streams.append(pa.ipc.open_stream(processes[worker].stdout))
                yield streams[worker].read_next_batch()
            except (StopIteration, pa.ArrowException, OSError) as error:
                code = processes[worker].wait()
                raise RuntimeError(f"tokenising process {worker} ended early with exit code {code}, at run {number} of {runs}") from error
    finally:
        for process in processes:
            if process.stdout:
                process.stdout.close()
            process.terminate()
            process.wait()


def _pieces(run: pa.RecordBatch) -> Iterator[tuple[int, EncodedDocument]]:
    tokens = run.column("tokens")
    rows = tokens.offsets.to_numpy()
    offsets = tokens.values.offsets.to_numpy()
    ids = tokens.values.values.to_numpy()
    lengths = np.diff(offsets).astype(np.int64)
    names = ("id", "source", "sha256", "part", "words")
    columns = zip(*(run.column(name).to_pylist() for name in names), strict=True)
    for row, (id, source, sha256, part, words) in enumerate(columns):
        first, last = rows[row], rows[row + 1]
        of_row = lengths[first:last]
        flat = ids[offsets[first] : offsets[last]]
        yield part, EncodedDocument(id, source, sha256, len(of_row), words, flat, of_row[of_row > 0])


def _joined(pieces: list[EncodedDocument]) -> EncodedDocument:
    first = pieces[0]
    if len(pieces) == 1:
        return first
    return EncodedDocument(
        first.id,
        first.source,
        first.sha256,
        sum(piece.sentences for piece in pieces),
        sum(piece.words for piece in pieces),
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([piece.sentence_lengths for piece in pieces]),
    )


def _work(spool: str, tokenizer: str, worker: int, workers: int) -> None:
    opened, loaded = Spool(Path(spool)), load(tokenizer)
    with pa.PythonFile(sys.stdout.buffer, "w") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
        for number in range(worker, opened.runs, workers):
            stream.write_batch(encode_run(opened.run(number), loaded))


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
