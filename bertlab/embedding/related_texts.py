"""The texts of a run that learns vectors: what is trained on, what is chosen by, what is measured at the end.

Of a corpus folder all sentences are trained on; of its held-out documents with two sentences or more those with an even number choose,
those with an odd one measure (at most MOST_DEV of each): the first sentence is to find the second among the second sentences of all. Of a
file without a dev file a share is cut off by a hash of the texts, rows of one first text together. What single texts are to find is their
own second half among all second halves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bertlab.batches.labelled import Examples, encode_examples
from bertlab.batches.sentence_groups import Classes, Groups, InMemory, OfCorpus, equal_texts, framed, halves
from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.corpus.labelled import cut_dev, overlap, read_scored_pairs
from bertlab.corpus.labels import numbers
from bertlab.corpus.related import Kind, Names, Related, read_related
from bertlab.embedding.likeness import Likeness, scored
from bertlab.errors import ConfigError, DataError
from bertlab.tokens.corpus import Corpus
from bertlab.tokens.shards import Documents
from bertlab.tokens.tokenizer import Tokenizer

MOST_DEV = 1000  # rows that are cut off for dev, documents of a corpus that choose or measure: scores are then known to about 0.02
FEWEST = 10  # texts that look for their like, below which nothing is measured


@dataclass(frozen=True)
class RelatedTexts:
    """groups: to train on; kind: of what; dev and test: what is measured. notes: lines about them for a person."""

    groups: Groups
    kind: Kind
    dev: Likeness
    test: Likeness | None
    notes: list[str] = field(default_factory=list)


def of_corpus(corpus: Corpus, *, positives: Literal["same", "neighbours"], max_length: int, batch_size: int, seed: int) -> RelatedTexts:
    """The sentences of a corpus folder, the positive of each itself or another of its document.

    Raises DataError where too few documents were held out.
    """
    texts = OfCorpus(corpus.train, corpus.tokenizer.cls_id, corpus.tokenizer.sep_id, max_length)
    groups = Groups(texts, 1, batch_size, seed, Classes(corpus.train.sentence_bounds()) if positives == "neighbours" else None)
    if len(groups) < 2:
        raise DataError(f"{corpus.folder}: {len(groups)} sentences: likeness is learnt from two or more")
    documents = np.arange(corpus.heldout.num_documents if corpus.heldout else 0)
    apart = 2 * max(1, -(-len(documents) // (2 * MOST_DEV)))
    dev, test = (_neighbours(corpus, corpus.heldout, documents[parity::apart], max_length) if corpus.heldout else None for parity in (0, 1))
    fewest = min(0 if each is None else len(each) for each in (dev, test))
    if dev is None or test is None or fewest < FEWEST:
        raise DataError(
            f"{corpus.folder}: {len(documents)} held-out documents, {fewest} of each half of them with two sentences or more, and {FEWEST} "
            "are needed to choose by: prepare the text with a larger --heldout and --tokenizer of the model, or train on a file (--train)"
        )
    positive = {"same": "each its own positive", "neighbours": "the positive of each another of its document"}[positives]
    return RelatedTexts(groups, "sentences", dev, test, [f"trains on the {len(groups):,} sentences of {corpus.folder}, {positive}"])


def _neighbours(corpus: Corpus, heldout: Documents, documents: np.ndarray, max_length: int) -> Likeness:
    """First sentences that look for the second ones of the same document."""
    lengths, bounds, addresses = heldout.sentences(documents)
    two = np.flatnonzero(np.diff(bounds) >= 2)
    first, second = lengths[bounds[:-1][two]], lengths[bounds[:-1][two] + 1]
    sides = []
    for starts, sizes in ((addresses[two], first), (addresses[two] + first, second)):
        ids, kept = framed(heldout, starts, sizes, corpus.tokenizer.cls_id, corpus.tokenizer.sep_id, max_length)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        sides.append(Examples(ids, np.zeros(len(ids), np.int8), offsets, np.full(len(kept), -1), int((kept - 2 < sizes).sum())))
    return _pairs("the first sentence of a held-out document finds the second", sides[0], sides[1])


def of_files(
    files: dict[str, str],
    kind: Kind | None,
    names: Names,
    tokenizer: Tokenizer,
    *,
    dev_pairs: str | None,
    dev_share: float,
    max_length: int,
    batch_size: int,
    seed: int,
) -> RelatedTexts:
    """The files train and, where there are any, dev and test. Raises ConfigError and DataError for what is wrong with them."""
    train = read_related(files["train"], kind, names)
    dev = read_related(files["dev"], train.kind, names) if "dev" in files else None
    if dev is None and dev_pairs is None:
        share = min(dev_share, MOST_DEV / len(train))
        train, dev = cut_dev(train, share, _strata(train), train.anchor_hashes())
    test = read_related(files["test"], train.kind, names) if "test" in files else None
    what = train.kind if train.labels is None else f"texts of {len(set(train.labels)):,} classes"
    notes = [f"trains on the {len(train):,} {what} of {train.origin}"]
    for name, part in (("dev", dev), ("test", test)):
        if part is not None and name in files and (seen := overlap(train, part)):
            notes.append(f"warning: {seen:,} of the {len(part):,} rows of {name} are in train: their scores flatter")
    columns = [text for column in train.columns for text in column]
    examples = encode_examples(tokenizer, columns, max_length=max_length)
    if examples.num_truncated:
        notes.append(f"{examples.num_truncated:,} of {len(examples):,} texts are cut at {max_length} tokens")
    classes = None if train.labels is None else np.unique(train.labels, return_inverse=True)[1]
    if classes is not None and not classes.any():
        raise DataError(f"{train.origin}: one label, '{train.labels[0] if train.labels else ''}', in all rows: classes are two or more")
    groups = Groups(InMemory(examples), len(train.columns), batch_size, seed, None if classes is None else Classes.of_numbers(classes))
    chosen_by = scored_pairs(dev_pairs, tokenizer, max_length, names.dialect) if dev_pairs else None
    if chosen_by is None:
        assert dev is not None
        chosen_by = likeness_of(dev, tokenizer, max_length)
    return RelatedTexts(groups, train.kind, chosen_by, None if test is None else likeness_of(test, tokenizer, max_length), notes)


def _strata(train: Related) -> Sequence[int]:
    return np.unique(train.labels, return_inverse=True)[1].tolist() if train.labels is not None else [0] * len(train)


def likeness_of(related: Related, tokenizer: Tokenizer, max_length: int) -> Likeness:
    """What is to be found in held-out rows. Raises DataError where fewer than FEWEST have something to find."""
    encoded = [encode_examples(tokenizer, column, max_length=max_length) for column in related.columns[:1]]
    if related.kind == "classes":
        found = _same_class(related, tokenizer, max_length)
    elif related.kind == "sentences":
        found = _pairs("the first half of a held-out text finds the second", *halves(encoded[0]))
    else:
        others = [text for column in related.columns[1:] for text in column]
        found = _pairs("the text of a held-out pair finds the other", encoded[0], encode_examples(tokenizer, others, max_length=max_length))
    if len(found) < FEWEST:
        more = f"give {FEWEST} or more to choose by (a larger --dev-share, --dev FILE or --dev-pairs FILE)"
        raise DataError(f"{related.origin}: {len(found)} held-out texts that have something to find: {more}")
    return found


def _same_class(related: Related, tokenizer: Tokenizer, max_length: int) -> Likeness:
    """Texts that look for others of their class; those of a class with one text are left out."""
    assert related.labels is not None
    _, classes, counts = np.unique(related.labels, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[classes] > 1)
    texts = encode_examples(tokenizer, [related.columns[0][row] for row in rows], max_length=max_length)
    return Likeness("a held-out text finds one of its class", texts, None, (classes[rows], classes[rows]))


def _pairs(what: str, first: Examples, second: Examples) -> Likeness:
    """first[i] is to find second[i], or what means the same by an equal text in between; what `second` has more are wrong ones."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(first)
    texts = equal_texts(np.concatenate([first.ids, second.ids]), np.concatenate([first.lengths, second.lengths]))
    size = int(texts.max(initial=0)) + 1
    together = coo_array((np.ones(n), (texts[:n], texts[n : 2 * n])), shape=(size, size))
    groups = connected_components(together, directed=False)[1][texts]
    return Likeness(what, first, second, (groups[:n], groups[n:]))


def scored_pairs(path: str, tokenizer: Tokenizer, max_length: int, dialect: Dialect = AS_NAMED) -> Likeness:
    """Pairs that a person scored: columns text, text_b, and score or label.

    Raises DataError for a score that is no number, both columns, or too few pairs.
    """
    pairs = read_scored_pairs(path, dialect)
    if pairs.texts_b is None:
        raise ConfigError(f"{path}: no second texts: give columns text, text_b and score")
    first, second = (encode_examples(tokenizer, texts, max_length=max_length) for texts in (pairs.texts, pairs.texts_b))
    return scored(f"cosines agree with the scores of {path}", first, second, numbers(pairs))
