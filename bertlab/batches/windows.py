"""Windows over what is longer than a model takes: overlapping runs of its tokens, and which of them knows a token's surroundings best.

As in BERT's script for SQuAD: windows begin `stride` tokens after each other (transformers calls their overlap the stride), the last one
ends with the text, and a token that stands in several belongs to the one in which it has most context on its poorer side.
"""

from dataclasses import dataclass

import numpy as np

from bertlab.tokens.shards import ragged_arange


@dataclass(frozen=True)
class Windows:
    """W windows: window w is tokens [starts[w], starts[w] + lengths[w]) of text texts[w]. All (W,), in the order of texts and starts."""

    texts: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def first(self) -> "Windows":
        """The first window of each text alone: what is left when a text is cut."""
        kept = self.starts == 0
        return Windows(self.texts[kept], self.starts[kept], self.lengths[kept])


def windows_of(lengths: np.ndarray, room: np.ndarray | int, stride: np.ndarray | int) -> Windows:
    """Cover n texts of `lengths` tokens (n,) by windows of at most `room` tokens, the next `stride` (at most `room`) further on.

    Room and stride are numbers, or one for each text (n,). A text without tokens has one window without tokens.
    """
    rooms = np.full(len(lengths), room, dtype=np.int64)
    strides = np.minimum(stride, rooms)
    assert strides.min(initial=1) >= 1, "a window that does not move covers nothing"
    counts = 1 + np.maximum(0, -((rooms - lengths) // strides))  # 1 + ceil((length - room) / stride)
    texts = np.repeat(np.arange(len(lengths)), counts)
    starts = ragged_arange(counts) * strides[texts]
    return Windows(texts, starts, np.minimum(rooms[texts], lengths[texts] - starts))


def owned(windows: Windows) -> np.ndarray:
    """For every token of every window, end to end, whether of its text's windows this one knows it best, or is the first that does.

    A token's context in a window is the fewer of its neighbours at the left and at the right, and a hundredth of the window's length.
    Shape (sum of lengths,).
    """
    lengths = windows.lengths
    place, window = ragged_arange(lengths), np.repeat(np.arange(len(windows)), lengths)
    context = np.minimum(place, lengths[window] - 1 - place) + 0.01 * lengths[window]
    order = np.lexsort((window, -context, place + windows.starts[window], windows.texts[window]))
    best = np.ones(len(order), dtype=bool)
    token = np.stack([windows.texts[window], place + windows.starts[window]])[:, order]
    best[1:] = (token[:, 1:] != token[:, :-1]).any(0)
    found = np.zeros(len(order), dtype=bool)
    found[order[best]] = True
    return found
