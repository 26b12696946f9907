"""Sentences of words with a label on each word, as flat batches: for entities and any other labelling of tokens.

A word is encoded on its own, as the tokenizer encodes a word that white space separates, and its first piece bears the label; all other
pieces and [CLS] and [SEP] have none (IGNORED). A sentence of more pieces than a model takes is cut, or becomes overlapping windows, in
which each word counts once: where it has most context (windows.py). A word without pieces, a control character for one, or cut off
meets no label and gets no prediction; both are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch

from bertlab.batches.flat import IGNORED, LabelledBatch, flat_fields
from bertlab.batches.labelled import Examples, runs
from bertlab.batches.windows import owned, windows_of
from bertlab.tokens.tokenizer import Tokenizer

Long = Literal["cut", "window"]


@dataclass(frozen=True, kw_only=True)
class TaggedExamples(Examples):
    """Examples whose labels are of tokens, (T,). An example is a sentence, or a window of one; num_truncated counts sentences that were cut
    and num_windowed those that became several windows.

    sizes (n,): how many words each sentence has. words (T,): the number of the word, of all W words of all sentences end to end, whose
    label a token bears, or -1.
    unseen (W,): True for words that no token stands for.
    """

    sizes: np.ndarray
    words: np.ndarray
    unseen: np.ndarray
    num_windowed: int

    def batch(self, rows: np.ndarray) -> LabelledBatch:
        source = self.tokens_of(rows)
        return LabelledBatch(
            **flat_fields(self.ids[source], self.segments[source], self.lengths[rows]),
            labels=torch.from_numpy(self.labels[source]),
            rows=torch.from_numpy(rows.astype(np.int64)),
        )

    def of_words(self, of_tokens: np.ndarray) -> np.ndarray:
        """What a model gives for the T tokens, (T, K), as what it says of the W words: (W, K), zero where unseen."""
        values = np.zeros((len(self.unseen), *of_tokens.shape[1:]), dtype=of_tokens.dtype)
        values[self.words[self.words >= 0]] = of_tokens[self.words >= 0]
        return values


def decode_tags(
    examples: TaggedExamples, of_tokens: np.ndarray, names: Sequence[str], sizes: Sequence[int] | np.ndarray
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The likeliest tag of every word of sentences of `sizes` words, from the tokens' probabilities (T, K) over `names`, and how likely.

    A word that no token stands for is names[0], "O", with probability 0.
    """
    of_words = examples.of_words(of_tokens)
    best = of_words.argmax(1)  # of zeros the first
    likely = of_words.max(1, initial=0.0)
    bounds = np.cumsum([0, *sizes])
    spans = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    return [[names[tag] for tag in best[start:end].tolist()] for start, end in spans], [likely[start:end] for start, end in spans]


def encode_tagged(
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    labels: Sequence[Sequence[int]] | None = None,
    *,
    max_length: int,
    long: Long = "window",
) -> TaggedExamples:
    """Encode n sentences, each a list of words with a class number for each word, to at most `max_length` tokens (at least 5).

    Windows overlap by a quarter. A sentence without words is [CLS] [SEP].
    """
    assert max_length >= 5
    words = list(chain.from_iterable(sentences))
    pieces, word_of = _pieces(tokenizer, words)
    word_bounds = np.concatenate([[0], np.cumsum([len(sentence) for sentence in sentences])]).astype(np.int64)
    bounds = np.searchsorted(word_of, word_bounds)  # of the sentences, in pieces
    room = max_length - 2
    windows = windows_of(np.diff(bounds), room, max(1, room * 3 // 4))
    several = len(set(windows.texts[windows.starts > 0].tolist()))
    if long == "cut":
        windows = windows.first()

    inside = runs(bounds[windows.texts] + windows.starts, windows.lengths)  # of the windows' tokens in `pieces`
    is_first = np.concatenate([[True], word_of[1:] != word_of[:-1]])[: len(word_of)]
    offsets = np.concatenate([[0], np.cumsum(windows.lengths + 2)]).astype(np.int64)
    places = runs(offsets[:-1] + 1, windows.lengths)
    ids = np.full(offsets[-1], tokenizer.sep_id, dtype=np.int32)
    ids[offsets[:-1]] = tokenizer.cls_id
    ids[places] = pieces[inside]
    of_words = np.full(offsets[-1], -1, dtype=np.int64)
    of_words[places] = np.where(is_first[inside] & owned(windows), word_of[inside], -1)
    unseen = np.ones(len(words), dtype=bool)
    unseen[of_words[of_words >= 0]] = False

    known = np.full(len(words), IGNORED, dtype=np.int64)
    if labels is not None:
        known = np.fromiter(chain.from_iterable(labels), dtype=np.int64, count=len(words))
    of_tokens = np.full(offsets[-1], IGNORED, dtype=np.int64)
    of_tokens[of_words >= 0] = known[of_words[of_words >= 0]]
    return TaggedExamples(
        ids=ids,
        segments=np.zeros(offsets[-1], dtype=np.int8),
        offsets=offsets,
        labels=of_tokens,
        num_truncated=several if long == "cut" else 0,
        sizes=np.diff(word_bounds),
        words=of_words,
        unseen=unseen,
        num_windowed=0 if long == "cut" else several,
    )


def _pieces(tokenizer: Tokenizer, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of all words end to end (P,), and the number of the word that each is of (P,). Each distinct word is encoded once."""
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    ids, offsets = tokenizer.encode(list(number))
    which = np.fromiter((number[word] for word in words), dtype=np.int64, count=len(words))
    counts = np.diff(offsets)[which]
    return ids[runs(offsets[:-1][which], counts)], np.repeat(np.arange(len(words)), counts)
