"""Texts too long for a model, whole: each as overlapping windows [CLS] part [SEP] whose logits are averaged.

Costs what its windows cost; no text has more than MOST_WINDOWS, so that none fills the memory alone; what lies behind is cut, and counted.
An example is a text, whatever the number of its windows: shuffling, batch sizes and losses count texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bertlab.batches.flat import WindowedBatch, flat_fields
from bertlab.batches.labelled import Examples, runs
from bertlab.batches.windows import windows_of
from bertlab.tokens.tokenizer import Tokenizer

MOST_WINDOWS = 32


@dataclass(frozen=True, kw_only=True)
class WindowedExamples(Examples):
    """n examples as W windows end to end, a text's after each other; num_windowed texts have several, num_truncated more than MOST_WINDOWS.

    window_offsets (W+1,) in `ids`; the windows of example i are [bounds[i], bounds[i+1]), bounds (n+1,).
    """

    window_offsets: np.ndarray
    bounds: np.ndarray
    num_windowed: int

    def batch(self, rows: np.ndarray) -> WindowedBatch:
        counts = np.diff(self.bounds)[rows]
        lengths = np.diff(self.window_offsets)[runs(self.bounds[:-1][rows], counts)]
        source = self.tokens_of(rows)
        return WindowedBatch(
            **flat_fields(self.ids[source], self.segments[source], lengths),
            labels=torch.from_numpy(self.labels[rows]),
            rows=torch.from_numpy(rows.astype(np.int64)),
            texts=torch.from_numpy(np.repeat(np.arange(len(rows)), counts)),
        )


def encode_windows(
    tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int] | np.ndarray | None = None, *, max_length: int
) -> WindowedExamples:
    """Encode n texts as windows of at most `max_length` tokens (at least 5) that overlap by a quarter. An empty text is [CLS] [SEP]."""
    assert max_length >= 5
    room = max_length - 2
    pieces, offsets = tokenizer.encode(texts)
    wanted = np.diff(offsets)
    stride = max(1, room * 3 // 4)
    longest = room + (MOST_WINDOWS - 1) * stride
    windows = windows_of(np.minimum(wanted, longest), room, stride)
    counts = np.bincount(windows.texts, minlength=len(texts))
    window_offsets = np.concatenate([[0], np.cumsum(windows.lengths + 2)]).astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ids = np.full(window_offsets[-1], tokenizer.sep_id, dtype=np.int32)
    ids[window_offsets[:-1]] = tokenizer.cls_id
    ids[runs(window_offsets[:-1] + 1, windows.lengths)] = pieces[runs(offsets[:-1][windows.texts] + windows.starts, windows.lengths)]
    known = np.full(len(texts), -1, dtype=np.int64) if labels is None else labels
    return WindowedExamples(
        ids=ids,
        segments=np.zeros(len(ids), dtype=np.int8),
        offsets=window_offsets[bounds],
        labels=known if isinstance(known, np.ndarray) else np.array(known, dtype=np.int64),
        num_truncated=int((wanted > longest).sum()),
        window_offsets=window_offsets,
        bounds=bounds,
        num_windowed=int((counts > 1).sum()),
    )
