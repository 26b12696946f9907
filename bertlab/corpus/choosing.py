"""Which documents of all that were read are kept, and how often: copies and near-copies dropped, sources weighted.

Works on what reading left of each document (hash, reason, signature), in the order of the units: the first of two copies is the one
kept. Costs about 300 bytes of memory a document, 512 bytes of disk more where near-copies are looked for. Touches no sentence.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertlab.corpus.duplicates import PERMUTATIONS, near_duplicates
from bertlab.corpus.identity import held_out
from bertlab.corpus.reading import Read


@dataclass(frozen=True)
class Choice:
    """times[u][d] is how often document d of unit u goes into the corpus: 0 to 255.

    counts: documents in, kept, and dropped by reason; per_source: in and kept of each source by its number; heldout: the sha256 of
    those held out.
    """

    times: list[np.ndarray]
    counts: Counter[str]
    per_source: dict[int, Counter[str]]
    heldout: set[str]


def choose(units: Sequence[Read], *, near: float | None, weights: Sequence[float], heldout: float, folder: Path) -> Choice:
    """Decide for every document; `near` is the Jaccard similarity from which a later document is a copy (None: exact copies only).

    A source of weight 2 gives each of its documents twice to training, of weight 0.5 every other one: which ones, a hash of the text says.
    Held-out documents come once. `folder` takes the signatures while they are compared.
    """
    reasons: list[str] = []
    digests: list[np.ndarray] = []
    sizes: list[int] = []
    with tempfile.NamedTemporaryFile(dir=folder) as signatures:
        for unit in units:
            before = len(reasons)
            for batch in unit.batches("sha256", "reason", "signature"):
                reasons += batch.column("reason").to_pylist()
                packed = bytes.fromhex("".join(batch.column("sha256").to_pylist()))
                digests.append(np.frombuffer(packed, dtype=np.uint8).reshape(-1, 32))
                if near is not None:
                    signatures.write(b"".join(batch.column("signature").to_pylist()))
            sizes.append(len(reasons) - before)
        signatures.flush()
        _mark_copies(reasons, digests)
        if near is not None:
            _mark_near_copies(reasons, Path(signatures.name), near)
    kept = [digest for digest, reason in zip(_texts(digests), reasons, strict=True) if not reason]
    out = held_out(kept, heldout)
    if len(out) < 2:  # a next-sentence pair needs two documents, to measure on as to train on
        out = set()
    source = np.repeat([unit.unit.number for unit in units], sizes)
    times = _times(reasons, _texts(digests), out, np.asarray(weights, dtype=np.float64)[source])
    counts = Counter(reason for reason in reasons if reason)
    counts["in"], counts["kept"] = len(reasons), int(np.count_nonzero(times))
    per_source = {}
    for number in set(source.tolist()):
        mine = source == number
        per_source[number] = Counter({"in": int(mine.sum()), "kept": int(np.count_nonzero(times[mine]))})
    return Choice(np.split(times, np.cumsum(sizes)[:-1]) if sizes else [], counts, per_source, out)


def _texts(digests: Sequence[np.ndarray]) -> Iterator[str]:
    return (row.tobytes().hex() for rows in digests for row in rows)


def _mark_copies(reasons: list[str], digests: Sequence[np.ndarray]) -> None:
    """Of the documents kept so far, each that has the text of an earlier one is a "duplicate"."""
    kept = np.flatnonzero([not reason for reason in reasons])
    if not len(kept):
        return
    # 128 bits of the 256 tell 2**40 documents apart but for one chance in 2**49
    high, low = np.concatenate([rows[:, :16] for rows in digests]).view(np.uint64)[kept].T
    order = np.lexsort((low, high))  # stable: equal ones stay in the order of the documents
    high, low = high[order], low[order]
    is_copy = np.zeros(len(kept), dtype=bool)
    is_copy[order[1:]] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    for place in kept[is_copy].tolist():
        reasons[place] = "duplicate"


def _mark_near_copies(reasons: list[str], signatures: Path, near: float) -> None:
    """A document dropped for another reason has no words in its signature, or those of the copy that is kept: none is dropped for it."""
    if not reasons:
        return
    rows = np.memmap(signatures, dtype=np.uint16, mode="r", shape=(len(reasons), PERMUTATIONS))
    for place in np.flatnonzero(near_duplicates(rows, near) >= 0).tolist():
        reasons[place] = reasons[place] or "near_duplicate"


def _times(reasons: list[str], digests: Iterable[str], heldout: set[str], weights: np.ndarray) -> np.ndarray:
    """How often each document comes; sets the reason of one that its source's weight leaves out."""
    times = np.zeros(len(reasons), dtype=np.uint8)
    for place, (digest, weight) in enumerate(zip(digests, weights.tolist(), strict=True)):
        if reasons[place]:
            continue
        if digest in heldout or weight == 1:
            times[place] = 1
            continue
        whole, part = divmod(weight, 1)
        chosen = int.from_bytes(hashlib.sha256(("weight" + digest).encode()).digest()[:6]) < part * 2**48
        times[place] = int(whole) + chosen
        if not times[place]:
            reasons[place] = "weight"
    return times
