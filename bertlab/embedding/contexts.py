"""The vectors of one word in its sentences: where it stands, what the model makes of it there, and what it is without any context.

A vector is the mean over the word's pieces of the mean over some layers: by default the last four, of which the sum is the usual choice for
telling senses apart (Devlin et al. 2018, section 5.3; Loureiro et al. 2021). Beside it stand two that no attention has touched: the word's
own row of the embedding table, the same in every sentence, and the mean of those rows over the sentence's other pieces, its bag of words.
Memory: the states of 256 sentences, and three vectors an occurrence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bertlab.batches.labelled import Examples
from bertlab.corpus.shingles import UNSPACED
from bertlab.embedding.engine import Embedder, What
from bertlab.errors import DataError

LAST_LAYERS = 4
AT_ONCE = 256  # occurrences whose states are in memory
_UNSPACED = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)  # of a class in a regular expression


@dataclass(frozen=True)
class Occurrence:
    """A word in a text: characters [start, end) of text number `text`."""

    text: int
    start: int
    end: int


@dataclass(frozen=True)
class WordVectors:
    """Of n occurrences: `contextual` (n, d), `word` (n, d) and `bag` (n, d), float32. A sentence of nothing else has a bag of zeros."""

    contextual: np.ndarray
    word: np.ndarray
    bag: np.ndarray


def occurrences(words: Sequence[str], texts: Iterable[str]) -> Iterator[Occurrence]:
    """Every place where one of `words` stands as a whole word, in capitals or not, in the order of the texts. Beside a letter of a script
    that sets no spaces, as Chinese and Thai, a word may begin and end anywhere."""
    letter = rf"[^\W{_UNSPACED}]"
    unspaced = re.compile(f"[{_UNSPACED}]")
    anywhere = [
        ("" if unspaced.match(word[0]) else f"(?<!{letter})") + re.escape(word) + ("" if unspaced.match(word[-1]) else f"(?!{letter})")
        for word in sorted(words, key=len, reverse=True)
    ]
    pattern = re.compile("|".join(anywhere), re.IGNORECASE)
    for number, text in enumerate(texts):
        for match in pattern.finditer(text):
            yield Occurrence(number, *match.span())


def word_vectors(embedder: Embedder, texts: Sequence[str], found: Sequence[Occurrence], layers: Sequence[int] = ()) -> WordVectors:
    """The vectors of words in their texts. Of a text that is too long, the part around the word is read.

    Raises ConfigError for a layer that is not there, DataError for a word of which the tokenizer leaves nothing.
    """
    assert found, "nothing to look at"
    what = What(pooling=None, layers=tuple(layers) or last_layers(embedder))
    embedder.frozen.layer_numbers(what.layers)
    parts = []
    remaining = iter(found)
    with embedder.at_work() as begin:
        while some := list(islice(remaining, AT_ONCE)):
            examples, pieces = _around(embedder, texts, some)
            states, rows = begin(examples, what).result(), embedder.frozen.word_rows(examples.ids)
            others = ~pieces
            others[np.concatenate([examples.offsets[:-1], examples.offsets[1:] - 1])] = False  # [CLS] and [SEP]
            parts.append((_means(states, pieces, examples), _means(rows, pieces, examples), _means(rows, others, examples)))
    return WordVectors(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def last_layers(embedder: Embedder) -> tuple[int, ...]:
    """The last four layers, or as many as there are."""
    return tuple(range(-min(LAST_LAYERS, embedder.frozen.num_layers), 0))


def _around(embedder: Embedder, texts: Sequence[str], found: Sequence[Occurrence]) -> tuple[Examples, np.ndarray]:
    """[CLS] text [SEP] for each occurrence, and which of all tokens are pieces of its word: (T,) truth values."""
    tokenizer, room = embedder.tokenizer, embedder.max_length - 2
    ids, offsets, spans = tokenizer.encode_with_spans([texts[each.text] for each in found])
    kept, marks = [], []
    for number, each in enumerate(found):
        first, end = int(offsets[number]), int(offsets[number + 1])
        inside = (spans[first:end, 0] < each.end) & (spans[first:end, 1] > each.start)
        places = np.flatnonzero(inside)
        if not len(places):
            word = texts[each.text][each.start : each.end]
            raise DataError(f"the tokenizer leaves nothing of {word!r} in text {each.text + 1}: {texts[each.text]!r:.80}")
        middle = (int(places[0]) + int(places[-1]) + 1) // 2
        begin = max(0, min(middle - room // 2, end - first - room))
        window = slice(begin, begin + room)
        kept.append(np.concatenate([[tokenizer.cls_id], ids[first:end][window], [tokenizer.sep_id]]).astype(np.int32))
        marks.append(np.concatenate([[False], inside[window], [False]]))
    starts = np.cumsum([0, *map(len, kept)]).astype(np.int64)
    ids = np.concatenate(kept)
    examples = Examples(ids, np.zeros(len(ids), np.int8), starts, np.full(len(kept), -1, np.int64), 0)
    return examples, np.concatenate(marks)


def _means(vectors: np.ndarray, taken: np.ndarray, examples: Examples) -> np.ndarray:
    """The mean over the taken tokens (T,) of each example: (n, d)."""
    sums = np.add.reduceat(np.where(taken[:, None], vectors, 0), examples.offsets[:-1], axis=0)
    counts = np.add.reduceat(taken.astype(np.int64), examples.offsets[:-1])
    means: np.ndarray = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return means
