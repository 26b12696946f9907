"""Token shards: documents as Arrow files that anyone can open, read through views of the memory map.

A split (train, heldout) is a folder in the layout of `datasets.save_to_disk`: a row is a document (id, source, sha256 of
its normalised text) and `tokens`, its sentences, a list of lists of token ids. The buffers of that one column are the flat
token array, the sentence offsets and the document offsets; reading copies nothing. Needs pyarrow and numpy only.
Knows nothing of pairs, masks or batches.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertlab.errors import CorruptError

# 8 Mi tokens are 16 MB of uint16: a shard is held in memory once while it is written, and a few hundred make a Wikipedia.
SHARD_TOKENS = 8 * 2**20
_TYPES = [pa.list_(pa.list_(pa.uint16())), pa.list_(pa.list_(pa.int32()))]


class ShardWriter:
    """Writes the documents of one split in order; the bytes depend on the documents alone."""

    def __init__(self, folder: Path, id_dtype: np.dtype, shard_tokens: int = SHARD_TOKENS) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True)
        self._dtype = np.dtype(id_dtype)
        self._shard_tokens = shard_tokens
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                ("source", pa.string()),
                ("sha256", pa.string()),
                ("tokens", pa.list_(pa.list_(pa.from_numpy_dtype(self._dtype)))),
            ]
        )
        self._parts: list[Path] = []
        self.documents = self.sentences = self.tokens = 0
        self._start_shard()

    def add(self, id: str, source: str, sha256: str, ids: np.ndarray, sentence_lengths: np.ndarray) -> None:
        """One document: `ids` (T,) are its sentences end to end, `sentence_lengths` (S,) their token counts, each at least 1."""
        assert len(sentence_lengths) and sentence_lengths.min() > 0 and sentence_lengths.sum() == len(ids), "sentences must cover the ids"
        self._names.append((id, source, sha256))
        self._ids.append(ids.astype(self._dtype))
        self._lengths.append(sentence_lengths)
        self._pending += len(ids)
        self.documents += 1
        self.sentences += len(sentence_lengths)
        self.tokens += len(ids)
        if self._pending >= self._shard_tokens:
            self._write_shard()

    def close(self) -> None:
        """Write what is pending, give the shards their final names and write what `datasets.load_from_disk` reads."""
        if self._names or not self._parts:
            self._write_shard()
        names = [f"data-{number:05d}-of-{len(self._parts):05d}.arrow" for number in range(len(self._parts))]
        for part, name in zip(self._parts, names, strict=True):
            part.rename(self._folder / name)
        text = {"dtype": "string", "_type": "Value"}
        token_lists: dict[str, Any] = {
            "feature": {"feature": {"dtype": str(self._dtype), "_type": "Value"}, "_type": "List"},
            "_type": "List",
        }
        info = {"features": {"id": text, "source": text, "sha256": text, "tokens": token_lists}}
        state: dict[str, Any] = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "bertlab", "_format_columns": None}
        state |= {"_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None}
        (self._folder / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n")
        (self._folder / "state.json").write_text(json.dumps(state, indent=2) + "\n")

    def _start_shard(self) -> None:
        self._names: list[tuple[str, str, str]] = []
        self._ids: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._pending = 0

    def _write_shard(self) -> None:
        flat = np.concatenate(self._ids) if self._ids else np.empty(0, self._dtype)
        sentence_offsets = _offsets(np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int64))
        document_offsets = _offsets(np.array([len(lengths) for lengths in self._lengths], dtype=np.int64))
        sentences = pa.ListArray.from_arrays(pa.array(sentence_offsets), pa.array(flat))
        tokens = pa.ListArray.from_arrays(pa.array(document_offsets), sentences)
        columns = [pa.array([row[field] for row in self._names], pa.string()) for field in range(3)]
        part = self._folder / f"part-{len(self._parts):05d}"
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, self._schema) as writer:
            writer.write_batch(pa.record_batch([*columns, tokens], schema=self._schema))
        self._parts.append(part)
        self._start_shard()


@dataclass(frozen=True)
class Shard:
    """Views of one memory-mapped file.

    Sentence s is tokens[sentence_offsets[s]:sentence_offsets[s+1]], document d its sentences document_offsets[d]:document_offsets[d+1].
    """

    tokens: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray
    batch: pa.RecordBatch


class Documents:
    """All documents of a split, numbered in the order in which they were written; opening costs no reading.

    A token's address is its place in all shards end to end. Attributes: num_documents, num_sentences, num_tokens.
    Raises CorruptError when a shard is not an Arrow stream of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = [_open_shard(path) for path in sorted(folder.glob("data-*.arrow"))]
        if not self.shards:
            raise CorruptError(f"{folder}: no shard there: prepare the corpus again")
        self._first_document = _offsets(np.array([len(shard.document_offsets) - 1 for shard in self.shards]), np.int64)
        self._first_token = _offsets(np.array([len(shard.tokens) for shard in self.shards]), np.int64)
        self.num_documents = int(self._first_document[-1])
        self._first_sentence = _offsets(np.array([len(shard.sentence_offsets) - 1 for shard in self.shards]), np.int64)
        self.num_sentences = int(self._first_sentence[-1])
        self.num_tokens = int(self._first_token[-1])

    def __reduce__(self) -> tuple[type["Documents"], tuple[Path]]:
        return Documents, (self.folder,)  # a worker process maps the files itself

    def sentences(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sentence lengths of the named documents (D,), in that order, without touching a token.

        Returns lengths (S,) in tokens, bounds (D+1,): document i has lengths[bounds[i]:bounds[i+1]], and addresses (D,) of first tokens.
        """
        shard_of = np.searchsorted(self._first_document, documents, side="right") - 1
        local = documents - self._first_document[shard_of]
        counts = np.empty(len(documents), dtype=np.int64)
        addresses = np.empty(len(documents), dtype=np.int64)
        first_sentences = np.empty(len(documents), dtype=np.int64)
        rows_of = [(number, np.flatnonzero(shard_of == number)) for number in np.unique(shard_of)]
        for number, rows in rows_of:
            shard = self.shards[number]
            first = shard.document_offsets[local[rows]]
            first_sentences[rows] = first
            counts[rows] = shard.document_offsets[local[rows] + 1] - first
            addresses[rows] = self._first_token[number] + shard.sentence_offsets[first]
        bounds = _offsets(counts, np.int64)
        lengths = np.empty(bounds[-1], dtype=np.int64)
        for number, rows in rows_of:
            offsets = self.shards[number].sentence_offsets
            within = ragged_arange(counts[rows])
            source = np.repeat(first_sentences[rows], counts[rows]) + within
            lengths[np.repeat(bounds[:-1][rows], counts[rows]) + within] = offsets[source + 1] - offsets[source]
        return lengths, bounds, addresses

    def runs_of_sentences(self, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Addresses (S,) and lengths (S,) in tokens of sentences by their number in the split, in that order."""
        shard_of = np.searchsorted(self._first_sentence, sentences, side="right") - 1
        addresses, lengths = (np.empty(len(sentences), dtype=np.int64) for _ in range(2))
        for number in np.unique(shard_of):
            rows = np.flatnonzero(shard_of == number)
            offsets, local = self.shards[number].sentence_offsets, sentences[rows] - self._first_sentence[number]
            addresses[rows] = self._first_token[number] + offsets[local]
            lengths[rows] = offsets[local + 1] - offsets[local]
        return addresses, lengths

    def sentence_bounds(self) -> np.ndarray:
        """Document d has the sentences bounds[d] to bounds[d + 1] - 1 of the split. Shape (D+1,), int64."""
        parts = [first + shard.document_offsets[:-1] for first, shard in zip(self._first_sentence[:-1], self.shards, strict=True)]
        return np.concatenate([*parts, self._first_sentence[-1:]])

    def copy_tokens(self, addresses: Sequence[int], lengths: Sequence[int], out: np.ndarray, places: Sequence[int]) -> None:
        """Copy runs of tokens (none crosses a document) into out: run i goes to out[places[i]:places[i]+lengths[i]]."""
        if len(self.shards) == 1:
            tokens = self.shards[0].tokens
            for start, length, place in zip(addresses, lengths, places, strict=True):
                out[place : place + length] = tokens[start : start + length]
            return
        numbers = np.searchsorted(self._first_token, np.asarray(addresses), side="right") - 1
        starts = np.asarray(addresses) - self._first_token[numbers]
        for number, start, length, place in zip(numbers.tolist(), starts.tolist(), lengths, places, strict=True):
            out[place : place + length] = self.shards[number].tokens[start : start + length]

    def document(self, number: int) -> list[np.ndarray]:
        """The sentences of one document as arrays of ids: for looking at, not for training."""
        shard_number = int(np.searchsorted(self._first_document, number, side="right")) - 1
        shard, local = self.shards[shard_number], number - int(self._first_document[shard_number])
        bounds = shard.sentence_offsets[shard.document_offsets[local] : shard.document_offsets[local + 1] + 1]
        return [shard.tokens[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """How often each id occurs in the split. Shape (vocab_size,), int64."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for shard in self.shards:
            counts += np.bincount(shard.tokens, minlength=vocab_size)
        return counts


def ragged_arange(counts: np.ndarray) -> np.ndarray:
    """0..counts[0]-1, 0..counts[1]-1, ... end to end. Shape (counts.sum(),)."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _offsets(counts: np.ndarray, dtype: Any = np.int32) -> np.ndarray:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    assert offsets[-1] <= np.iinfo(dtype).max, "a shard holds fewer than 2**31 tokens"
    return offsets.astype(dtype)


def _open_shard(path: Path) -> Shard:
    try:
        batches = list(pa.ipc.open_stream(pa.memory_map(str(path))))
        (batch,) = batches
        column = batch.column("tokens")
        if column.type not in _TYPES or column.null_count or column.values.null_count or column.values.values.null_count:
            raise ValueError(f"its tokens are {column.type}")
        column.validate()  # that its buffers are as long as they say: what follows reads memory
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptError(f"{path}: not a token shard of ours ({' '.join(str(error).split())}): prepare the corpus again") from None
    sentences = column.values
    # A view: 2 million random reads a second, against 0.4 million through np.memmap. Not by to_numpy, which imports pandas (0.3 s).
    return Shard(
        tokens=np.from_dlpack(sentences.values),
        sentence_offsets=np.from_dlpack(sentences.offsets),
        document_offsets=np.from_dlpack(column.offsets),
        batch=batch,
    )
