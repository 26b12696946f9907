"""From the spool to token ids, a run at a time: in this process, or in several with the same result.

Worker w of W takes runs w, w + W, w + 2W, ... and writes what it makes to its standard output as an Arrow stream; this
process reads the streams in turn. So the order, and every byte, is that of one process; a pipe that nobody reads stops
its writer, so memory stays bounded; and no object is pickled. A worker is `python -m bertlab.tokens.encoding`: it imports
neither torch nor the caller's program, and starts in half a second. Knows nothing of splits or shards.
"""

import itertools
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertlab.tokens.spool import Spool
from bertlab.tokens.tokenizer import load

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

# Normaliser, splitter, model and mark of a continued word under which the ids of a text are those of its words, end to end.
BY_WORD = ("BertNormalizer", "BertPreTokenizer", "WordPiece", "##")

# A word that is a text of its own costs the tokenizer as much as about this many within one (8 us and 2 us, one core of an AMD EPYC).
WORDS_FOR_ONE_ALONE = 4

# Words that can share a text do so by this many, so that there are texts for every core.
WORDS_PER_TEXT = 256

# Runs that threads of this process encode while it works on the one before: most of that is outside Python.
RUNS_AHEAD = 2


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


class RunEncoder:
    """Encodes runs of the spool by the tokenizer in a folder; threads may share it.

    To BERT's rules a word is all there is: a space ends it, and an ASCII punctuation mark is one. So by them each distinct word of a run
    is encoded once, and one of ASCII letters and digits that stands whole in the vocabulary is only looked up there. The ids are those
    of the texts. Any other tokenizer is given the texts, and this one too where the words would take longer.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load(str(folder))
        self._turn = Lock()
        rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        normalizer, splitter, model = (rules[part] or {} for part in ("normalizer", "pre_tokenizer", "model"))
        kinds = (*(part.get("type") for part in (normalizer, splitter, model)), model.get("continuing_subword_prefix"))
        # an added token that is not special is found in the text before any rule, whatever spaces it has
        self._by_word = kinds == BY_WORD and all(token["special"] for token in rules["added_tokens"])
        if self._by_word:
            self._lowercase = normalizer["lowercase"]
            longest, special = model["max_input_chars_per_word"], set(self._tokenizer.special_ids.tolist())
            vocabulary = {token: id for token, id in model["vocab"].items() if len(token) <= longest and id not in special}
            self._vocabulary = pa.array(list(vocabulary), pa.string())
            self._vocabulary_ids = np.array(list(vocabulary.values()), dtype=np.int32)
            self._starts_word = ~self._tokenizer.continues_word()

    def encode(self, run: pa.RecordBatch) -> pa.RecordBatch:
        """One run as a record batch of SCHEMA: the same rows, each sentence a list of ids (an empty one where no token came)."""
        texts, rows = run.column("sentences").values, run.column("sentences").offsets
        ids, offsets = self._encode_words(texts) if self._by_word else self._encode_texts(texts.to_pylist())
        sentences = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(ids))
        tokens = pa.ListArray.from_arrays(rows, sentences)
        characters, words = pc.utf8_length(texts).to_numpy(), pc.count_substring(texts, " ").to_numpy() + 1
        counts = [pa.array(np.add.reduceat(each, rows.to_numpy()[:-1], dtype=np.int64)) for each in (characters, words)]
        kept = [run.column(name) for name in ("id", "source", "sha256", "part")]
        return pa.record_batch([*kept, *counts, tokens], schema=SCHEMA)

    def _encode_texts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        with self._turn:  # one call uses every core, and as much memory as one may
            return self._tokenizer.encode(texts)

    def _encode_words(self, texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
        """What `_encode_texts` makes of the texts, from their distinct words."""
        split = pc.split_pattern(pc.replace_substring_regex(texts, "([[:punct:]])", r" \1 "), " ")
        words = split.values.dictionary_encode()
        distinct, of_words = words.dictionary, words.indices.to_numpy()
        plain = pc.ascii_is_alnum(distinct)
        alone = distinct.filter(pc.invert(plain)).to_pylist()
        if len(alone) * WORDS_FOR_ONE_ALONE > len(words):
            return self._encode_texts(texts.to_pylist())
        found = pc.index_in(pc.ascii_lower(distinct) if self._lowercase else distinct, self._vocabulary)
        spelt = pc.and_(plain, found.is_null())
        shared = distinct.filter(spelt).to_pylist()
        joined = [" ".join(shared[start : start + WORDS_PER_TEXT]) for start in range(0, len(shared), WORDS_PER_TEXT)]
        ids, bounds = self._encode_texts(joined + alone)
        # in a shared text, which is of letters and digits, a word is a token that starts one and those that continue it
        first_alone = bounds[len(joined)]
        bounds = np.concatenate([np.flatnonzero(self._starts_word[ids[:first_alone]]), bounds[len(joined) :]])
        asked = np.concatenate([np.flatnonzero(mask) for mask in (spelt, pc.invert(plain))])
        # ids of every distinct word are in `source`: those that the tokenizer gave, then the vocabulary
        source = np.concatenate([ids, self._vocabulary_ids])
        starts, lengths = found.fill_null(0).to_numpy() + len(ids), np.ones(len(distinct), dtype=np.int64)
        starts[asked], lengths[asked] = bounds[:-1], np.diff(bounds)
        lengths = lengths[of_words]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(starts[of_words] - ends[:-1], lengths) + np.arange(ends[-1])
        return source[places], ends[split.offsets.to_numpy()]


def encode_spool(spool: Path, tokenizer: Path, workers: int, passing: Callable[[int], None]) -> Iterator[EncodedDocument]:
    """Every document of the spool, in its order, by the tokenizer in a folder; the same for any number of `workers`.

    One worker is this process, whose threads use every core. `passing` is told the number of characters of each run that is done.
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
    opened, encoder = Spool(spool), RunEncoder(tokenizer)
    with ThreadPoolExecutor(RUNS_AHEAD) as beside:
        coming: deque[Future[pa.RecordBatch]] = deque()
        for number in range(opened.runs):
            coming.append(beside.submit(encoder.encode, opened.run(number)))
            if len(coming) > RUNS_AHEAD:
                yield coming.popleft().result()
        yield from (run.result() for run in coming)


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
    rows, offsets = tokens.offsets.to_numpy(), tokens.values.offsets.to_numpy()
    ids = tokens.values.values.to_numpy()
    lengths = np.diff(offsets).astype(np.int64)
    with_tokens = np.concatenate([[0], np.cumsum(lengths > 0)])
    lengths = lengths[lengths > 0]
    names = ("id", "source", "sha256", "part", "words")
    columns = zip(*(run.column(name).to_pylist() for name in names), strict=True)
    bounds = zip(*(itertools.pairwise(of_rows.tolist()) for of_rows in (rows, offsets[rows], with_tokens[rows])), strict=True)
    for (id, source, sha256, part, words), (sentences, of_ids, of_lengths) in zip(columns, bounds, strict=True):
        row = ids[slice(*of_ids)], lengths[slice(*of_lengths)]
        yield part, EncodedDocument(id, source, sha256, sentences[1] - sentences[0], words, *row)


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
    opened, encoder = Spool(Path(spool)), RunEncoder(Path(tokenizer))
    with pa.PythonFile(sys.stdout.buffer, "w") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
        for number in range(worker, opened.runs, workers):
            stream.write_batch(encoder.encode(opened.run(number)))


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
