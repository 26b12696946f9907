"""What a corpus folder holds, counted: lengths, sources, use of the vocabulary, tokens a word, documents on both sides.

Costs: a few passes over offsets and tokens, about 5 ns a token; a few MB of memory beside the memory map. Tokens a word are measured
on decoded text, which is slow (about a million tokens a second), so on a sample of COMPARED_TOKENS. Knows nothing of pairs or batches.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertlab.tokens.shards import Documents, Shard
from bertlab.tokens.tokenizer import Tokenizer

LONGEST = 2**16  # lengths from here on are counted as one: a median never lies there
COMPARED_TOKENS = 500_000  # tokens a word are then known to about 0.2 %
DOCUMENT_TOKENS = 2**13  # of a longer document no more is compared
SENTENCE_TOKENS = 60  # of a repeated sentence no more is shown
SOURCES_SHOWN = 20
TOP_PIECES = (100, 1000, 10_000)

# What no reader can have meant: the mark of undecodable bytes, control and private-use characters.
_UNREADABLE = re.compile("[\ufffd\x00-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff]")


def split_facts(documents: Documents) -> dict[str, Any]:
    """Documents, sentences and tokens of a split, and the distributions of their lengths."""
    return {
        "documents": documents.num_documents,
        "sentences": documents.num_sentences,
        "tokens": documents.num_tokens,
        "sentences_a_document": length_facts(documents.shards, lambda shard: np.diff(shard.document_offsets)),
        "tokens_a_sentence": length_facts(documents.shards, lambda shard: np.diff(shard.sentence_offsets)),
        "tokens_a_document": length_facts(documents.shards, lambda shard: np.diff(shard.sentence_offsets[shard.document_offsets])),
    }


def length_facts(shards: Sequence[Shard], lengths_of: Callable[[Shard], np.ndarray]) -> dict[str, Any]:
    """mean, median, percentile_95, largest, and bins [shortest, longest, count] of powers of two: 1, 2-3, 4-7, ...

    Median and percentile are the length that the middle (or 95th of 100) item has, at most LONGEST.
    """
    counts = np.zeros(LONGEST + 1, dtype=np.int64)
    total = largest = 0
    for shard in shards:
        lengths = lengths_of(shard)
        counts += np.bincount(np.minimum(lengths, LONGEST), minlength=len(counts))
        total += int(lengths.sum(dtype=np.int64))
        largest = max(largest, int(lengths.max(initial=0)))
    up_to = np.cumsum(counts)
    number = int(up_to[-1])
    bins = []
    for power in range(LONGEST.bit_length()):
        first, last = 2**power, 2 ** (power + 1) - 1 if 2**power < LONGEST else largest
        bins.append([first, last, int(counts[first : last + 1].sum())])
    filled = [row for row, (_, _, count) in enumerate(bins) if count]
    return {
        "mean": total / max(1, number),
        "median": int(np.searchsorted(up_to, 0.5 * number)),
        "percentile_95": int(np.searchsorted(up_to, 0.95 * number)),
        "largest": largest,
        "bins": bins[filled[0] : filled[-1] + 1] if filled else [],
    }


def source_facts(documents: Documents) -> dict[str, Any]:
    """Documents and tokens of each source as the documents name it: the SOURCES_SHOWN largest, then how many others there are.

    Returns {"sources": [{"name", "documents", "tokens", "share"}], "number"}; share is of all tokens.
    """
    of_documents: Counter[str] = Counter()
    of_tokens: Counter[str] = Counter()
    for shard in documents.shards:
        column = shard.batch.column("source").dictionary_encode()
        rows = column.indices.to_numpy()
        tokens = np.diff(shard.sentence_offsets[shard.document_offsets])
        names = column.dictionary.to_pylist()
        of_documents.update(dict(zip(names, np.bincount(rows, minlength=len(names)).tolist(), strict=True)))
        # a shard's numbers are whole and below 2**53, so floats add them exactly
        of_tokens.update(dict(zip(names, np.bincount(rows, tokens, minlength=len(names)).astype(np.int64).tolist(), strict=True)))
    largest = sorted(of_tokens, key=lambda name: (-of_tokens[name], name))[:SOURCES_SHOWN]
    total = max(1, documents.num_tokens)
    return {
        "sources": [
            {"name": name, "documents": of_documents[name], "tokens": of_tokens[name], "share": of_tokens[name] / total} for name in largest
        ],
        "number": len(of_tokens),
    }


def vocabulary_facts(tokenizer: Tokenizer, train: Documents, heldout: Documents | None) -> dict[str, Any]:
    """Use of the vocabulary in train: entries (special ones left out), unused, what the most frequent cover, unknown tokens.

    `covered` maps 100, 1000, 10000 (where there are as many entries) to their share of the tokens; unknown_share and, of the held-out
    text, heldout_unknown_share (None without one) are shares of tokens.
    """
    counts = train.token_counts(tokenizer.vocab_size)
    ordinary = counts[~tokenizer.special]
    up_to = np.cumsum(np.sort(ordinary)[::-1])
    total = max(1, train.num_tokens)
    unknown = int(counts[tokenizer.unk_id])
    heldout_unknown = int(heldout.token_counts(tokenizer.vocab_size)[tokenizer.unk_id]) if heldout else None
    return {
        "entries": len(ordinary),
        "unused": int((ordinary == 0).sum()),
        "covered": {str(top): int(up_to[top - 1]) / total for top in TOP_PIECES if top <= len(ordinary)},
        "unknown": unknown,
        "unknown_share": unknown / total,
        "heldout_unknown": heldout_unknown,
        "heldout_unknown_share": heldout_unknown / max(1, heldout.num_tokens) if heldout and heldout_unknown is not None else None,
    }


def word_facts(documents: Documents, tokenizer: Tokenizer, compare: Tokenizer | None) -> dict[str, Any]:
    """Tokens a word (between white space) on decoded text, by the corpus's own vocabulary and by another one.

    Decoding is not the text itself: an uncased vocabulary has levelled case and accents, the decoder chooses the spaces around
    punctuation, and unknown tokens are left out. So both vocabularies are given the decoded text, and `own` may differ a little from what
    the corpus holds. Of up to COMPARED_TOKENS tokens, documents evenly spaced over the split. unreadable counts U+FFFD, control and
    private-use characters in it.
    """
    texts = list(decoded(documents, tokenizer))
    words = sum(len(text.split()) for text in texts)
    return {
        "words": words,
        "characters": sum(map(len, texts)),
        "unreadable": sum(len(_UNREADABLE.findall(text)) for text in texts),
        "own": _encoded(texts, words, tokenizer),
        "compared": _encoded(texts, words, compare) if compare else None,
    }


def decoded(documents: Documents, tokenizer: Tokenizer) -> Iterator[str]:
    """The text of documents evenly spaced over a split, a sentence each, special tokens left out; see `word_facts`."""
    step = max(1, -(-documents.num_tokens // COMPARED_TOKENS))
    left = COMPARED_TOKENS
    for number in range(0, documents.num_documents, step):
        of_document = min(left, DOCUMENT_TOKENS)
        for ids in documents.document(number):
            if of_document <= 0:
                break
            ids = ids[:of_document]
            of_document -= len(ids)
            left -= len(ids)
            yield tokenizer.decode(ids[~tokenizer.special[ids]])
        if left <= 0:
            return


def text_at(documents: Documents, tokenizer: Tokenizer, address: int, length: int) -> str:
    """The beginning, decoded, of the sentence of `length` tokens at an address."""
    ids = np.empty(min(length, SENTENCE_TOKENS), dtype=np.int64)
    documents.copy_tokens([address], [len(ids)], ids, [0])
    return tokenizer.decode(ids) + " ..." * (length > len(ids))


def documents_in_both(train: Documents, heldout: Documents) -> int:
    """How many held-out documents have the sha256 (of the normalised text) of a document of train: 0, or something is wrong."""
    asked = pa.chunked_array([shard.batch.column("sha256") for shard in heldout.shards])
    met: set[str] = set()
    for shard in train.shards:
        column = shard.batch.column("sha256")
        met.update(column.filter(pc.is_in(column, value_set=asked)).to_pylist())
    return int(pc.sum(pc.is_in(asked, value_set=pa.array(sorted(met), pa.string()))).as_py() or 0)


def _encoded(texts: list[str], words: int, tokenizer: Tokenizer) -> dict[str, Any]:
    ids, _ = tokenizer.encode(texts)
    unknown = int((ids == tokenizer.unk_id).sum())
    return {
        "vocab_size": tokenizer.vocab_size,
        "tokens": len(ids),
        "tokens_a_word": len(ids) / max(1, words),
        "unknown": unknown,
        "unknown_share": unknown / max(1, len(ids)),
    }
