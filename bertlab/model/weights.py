"""safetensors files, looked at before they are believed: the header alone is read, and held against the size of the file.

A file is 8 bytes that say how long the header is, the header (JSON: name -> type, shape, place), and the tensors end to end. Whatever a
header says, nothing is allocated for it beyond a few megabytes until it has been found true. Costs a millisecond for a BERT.
Knows nothing of models: which names and shapes are wanted is for the reader to say.
"""

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bertlab.errors import CorruptError

LARGEST_HEADER = 2**20  # bytes; a BERT-large's are 45,000
MOST_DIMENSIONS = 8
FLOATING = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES = FLOATING | {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Stored:
    """A tensor as a file's header has it: its type by safetensors' name (F32, BF16, I64 ...), its shape, its bytes [begin, end)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Stored]:
    """Every tensor of a file by name, none of them read.

    Raises CorruptError, with the tensor's name where it is one's, for a header that is too long, no JSON, has a name twice, a type or shape
    that is none, tensors that overlap, leave gaps, or are not of the size that type and shape make.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise _damage(path, f"{size:,} bytes with a header of {length:,}")
        text = stream.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _damage(path, f"its header: {error}") from None
    if not isinstance(header, dict):
        raise _damage(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    found = {name: _stored(path, name, entry) for name, entry in header.items()}
    end = 0
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise _damage(path, f"tensor {name!r:.200} begins at byte {tensor.begin:,}, the one before it ends at {end:,}")
        end = tensor.end
    if end != size - 8 - length:
        raise _damage(path, f"{end:,} bytes of tensors in its header, {size - 8 - length:,} in the file")
    return found


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The named tensors of a file, or all. Raises CorruptError as `read_header` does."""
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in (header if names is None else names)}
    except (SafetensorError, OSError) as error:
        raise _damage(path, str(error)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers of JSON differ in which of two equal names they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _stored(path: Path, name: str, entry: Any) -> Stored:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        raise _damage(path, f"tensor {name!r:.200} has no type, shape and place") from None
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise _damage(path, f"tensor {name!r:.200} is of type {dtype!r:.80}, which this version does not know")
    if not whole or len(shape) > MOST_DIMENSIONS or end - begin != math.prod(shape) * _BYTES[dtype]:
        raise _damage(path, f"tensor {name!r:.200} has shape {str(list(shape))[:200]} of {dtype} in bytes {begin!r:.80} to {end!r:.80}")
    return Stored(dtype, shape, begin, end)


def _damage(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path}: not a safetensors file, or damaged ({' '.join(what.split())}): copy the folder again")
