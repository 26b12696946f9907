"""Classification and words by cloze: a template with a gap, words that stand for labels, and what a masked-word head says. No training.

word      A word of k pieces w_1 ... w_k is asked for with k masks in the gap: score = (1/k) sum_i log p(w_i), over the whole vocabulary.
          `together`: all k places are masked at once. `in-turn`: piece i is asked for when those before it are written in and it and those
          after it are masked (Kauf and Ivanova 2023, within a word). For words of one piece both are the plain masked-word probability.
label     The log of the mean, the maximum or the sum of exp(score) over its words.
prior     What a template says of the labels with no text to speak of (Zhao et al. 2021: the mean over content-free inputs), or on average
          over unlabelled texts. Calibrated, probabilities are divided by it: p(label) / prior(label), normalised.
template  Several templates: the mean of their labels' log-probabilities, normalised.

Costs one pass over the texts a template and distinct number of pieces (`in-turn`: a piece of a word); a small model's opinion may be no
better than chance, and calibration cannot tell. Knows no labels of examples.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertlab.batches.cloze import Encoded, Frames, Template, frames_of_template
from bertlab.errors import ConfigError
from bertlab.inference import LoadedModel
from bertlab.tokens.tokenizer import Tokenizer

Pieces = Literal["together", "in-turn"]
Aggregate = Literal["mean", "max", "sum"]
Calibration = Literal["none", "content-free", "texts"]
Texts = tuple[Sequence[str], Sequence[str] | None]  # n texts, and the second texts of pairs or None
CONTENT_FREE = ("N/A", "[MASK]", "")  # those of Zhao et al. 2021, section 5; as text, so that "[MASK]" is three pieces and no mask
WIDEST_BEAM = 4  # times as many candidates as words asked for


@dataclass(frozen=True)
class LabelWords:
    """W words that stand for K labels: labels (K,), words (W,), pieces of each, and owners (W,), the label's number of each."""

    labels: list[str]
    words: list[str]
    pieces: list[tuple[int, ...]]
    owners: np.ndarray

    @property
    def longest(self) -> int:
        return max(map(len, self.pieces))


@dataclass(frozen=True)
class Answers:
    """probabilities (n, K) of the labels; priors (T, K) of each template without a text; num_truncated texts lost tokens."""

    probabilities: np.ndarray
    priors: np.ndarray
    num_truncated: int


# ---- words


def label_words(tokenizer: Tokenizer, given: Mapping[str, Sequence[str]]) -> LabelWords:
    """The words of each label as pieces. Raises ConfigError for words that cannot be told apart or spelt."""
    if len(given) < 2:
        raise ConfigError(f"words for {len(given)} label{'s' * (len(given) != 1)}: give two labels or more")
    pairs = [(label, word) for label, words in given.items() for word in words]
    pieces = pieces_of(tokenizer, [word for _, word in pairs])
    owner: dict[tuple[int, ...], str] = {}
    for (label, word), each in zip(pairs, pieces, strict=True):
        if each in owner:
            where = f"twice for {label!r}" if owner[each] == label else f"for {owner[each]!r} and for {label!r}"
            raise ConfigError(f"words: {word!r} stands {where} (by its pieces): a word belongs to one label")
        owner[each] = label
    empty = [label for label, words in given.items() if not words]
    if empty:
        raise ConfigError(f"words: none for {empty[0]!r}: write {empty[0]}:word or {empty[0]}:word,word")
    numbers = {label: number for number, label in enumerate(given)}
    return LabelWords(list(given), [word for _, word in pairs], pieces, np.array([numbers[label] for label, _ in pairs]))


def pieces_of(tokenizer: Tokenizer, words: Sequence[str]) -> list[tuple[int, ...]]:
    """The pieces of each word. Raises ConfigError for one that has none, or has a letter that the vocabulary does not know."""
    ids, offsets = tokenizer.encode([f" {word.strip()}" for word in words])  # as within a text: some vocabularies tell the two apart
    found = [tuple(ids[start:end].tolist()) for start, end in zip(offsets[:-1], offsets[1:], strict=True)]
    for word, each in zip(words, found, strict=True):
        if not each or tokenizer.unk_id in each:
            why = "has letters that the vocabulary does not know" if each else "is empty"
            raise ConfigError(f"words: {word!r} {why}: choose another word")
    return found


def word_scores(
    model: LoadedModel, frames: Frames, words: Sequence[tuple[int, ...]], pieces: Pieces = "together", what: str | None = None
) -> np.ndarray:
    """The score of each of W words in each of n frames, as defined above: the mean log-probability of its pieces. Shape (n, W) float64."""
    scores = np.zeros((len(frames), len(words)))
    for filling, asked in _fillings(words, pieces, model.tokenizer.mask_id).items():
        owners, offsets, ids = (np.array(each, dtype=np.int64) for each in zip(*asked, strict=True))
        distinct, columns = np.unique(offsets, return_inverse=True)
        found = model.gap_log_probabilities(frames.filled(filling), frames.gaps[:, None] + distinct, (columns, ids), what)
        for word, column in zip(owners, found.T, strict=True):
            scores[:, word] += column / len(filling)
    return scores


def _fillings(words: Sequence[tuple[int, ...]], pieces: Pieces, mask: int) -> dict[tuple[int, ...], list[tuple[int, int, int]]]:
    """What is written into the gap -> what is then asked there: (word's number, place in the gap, piece)."""
    found: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for number, word in enumerate(words):
        for place, piece in enumerate(word):
            known = word[:place] if pieces == "in-turn" else ()
            found.setdefault(known + (mask,) * (len(word) - len(known)), []).append((number, place, piece))
    return found


# ---- labels


def label_scores(scores: np.ndarray, owners: np.ndarray, num_labels: int, aggregate: Aggregate) -> np.ndarray:
    """From words' scores (n, W) to labels' (n, K): the log of the mean, maximum or sum of exp(score) over a label's words."""
    columns = []
    for label in range(num_labels):
        own = scores[:, owners == label]
        if aggregate == "max":
            columns.append(own.max(1))
        else:
            columns.append(np.logaddexp.reduce(own, axis=1) - (np.log(own.shape[1]) if aggregate == "mean" else 0.0))
    return np.stack(columns, axis=1)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities (n, K) of scores (n, K)."""
    return scores - np.logaddexp.reduce(scores, axis=1)[:, None]


def prior_of(scores: np.ndarray) -> np.ndarray:
    """The mean of the labels' probabilities over n inputs, from their scores (n, K). Shape (K,)."""
    return np.exp(normalised(scores)).mean(0)


def combined(scores: Sequence[np.ndarray], priors: np.ndarray | None) -> np.ndarray:
    """Probabilities (n, K) from each template's scores (n, K), each divided by its row of `priors` (T, K) where there are any."""
    logs = [normalised(each if priors is None else each - np.log(priors[number])) for number, each in enumerate(scores)]
    return np.exp(normalised(np.mean(logs, axis=0)))


def answer(
    model: LoadedModel,
    templates: Sequence[Template],
    words: LabelWords,
    texts: Texts,
    *,
    pieces: Pieces = "together",
    aggregate: Aggregate = "mean",
    calibration: Calibration = "none",
    unlabelled: Texts | None = None,
    what: str | None = None,
) -> Answers:
    """Labels of n texts, or pairs, by cloze. `unlabelled` texts are what calibration "texts" takes its prior from: by default these.

    priors are those of calibration, and without one those of content-free inputs, which then change nothing.
    Raises ConfigError for a template without room for a text.
    """
    paired = texts[1] is not None
    read = _encoded(model.tokenizer, texts)
    others = unlabelled if calibration == "texts" else (CONTENT_FREE, CONTENT_FREE if paired else None)
    reference = None if others is None else _encoded(model.tokenizer, others)

    def scores_of(template: Template, sides: list[Encoded], shown: str | None) -> tuple[np.ndarray, np.ndarray]:
        second = sides[1] if template.has("text_b") else None
        room = {"max_length": model.max_length, "longest_word": words.longest}
        frames = frames_of_template(model.tokenizer, template, sides[0], second, **room)
        scores = word_scores(model, frames, words.pieces, pieces, shown)
        return label_scores(scores, words.owners, len(words.labels), aggregate), frames.cut

    scores, priors, cut = [], [], np.zeros(len(texts[0]), dtype=bool)
    for template in templates:
        own, own_cut = scores_of(template, read, what)
        cut |= own_cut
        scores.append(own)
        priors.append(prior_of(own if reference is None else scores_of(template, reference, None)[0]))
    known = np.stack(priors)
    return Answers(combined(scores, None if calibration == "none" else known), known, int(cut.sum()))


def _encoded(tokenizer: Tokenizer, texts: Texts) -> list[Encoded]:
    return [tokenizer.encode(side) for side in texts if side is not None]


# ---- whole words


def whole_words(model: LoadedModel, frames: Frames, most_pieces: int, top: int) -> list[list[tuple[str, float]]]:
    """For each frame the `top` likeliest whole words of at most `most_pieces` pieces, with exp of their `in-turn` score.

    A beam search, so that a word whose first piece is unlikely may be missed. A word begins with a piece that does not continue another,
    goes on with pieces that do, and is spelt as the tokenizer spells it: other splits of a word the model has never seen.
    """
    continues = model.tokenizer.continues_word()
    begins = ~continues & ~model.tokenizer.special
    found: list[list[tuple[str, float]]] = []
    for number in range(len(frames)):
        best: dict[tuple[int, ...], float] = {}
        for length in range(1, most_pieces + 1):
            best |= _beam(model, frames.take([number]), length, begins, continues, top)
        order = sorted(best, key=lambda word: (-best[word], word))
        written = [model.tokenizer.decode(word).strip() for word in order]
        ids, offsets = model.tokenizer.encode([f" {text}" for text in written])
        spelt = [tuple(ids[start:end].tolist()) for start, end in zip(offsets[:-1], offsets[1:], strict=True)]
        same = [(text, best[word]) for text, word, own in zip(written, order, spelt, strict=True) if own == word and _is_word(text)]
        found.append([(text, float(np.exp(score))) for text, score in same[:top]])
    return found


def _is_word(text: str) -> bool:
    """Whether it is no word with a sign or a control character at it: only WordPiece's pieces tell that one begins anew."""
    return len(text) == 1 or text != "" and not any(unicodedata.category(each)[0] in "PSC" for each in text)


def _beam(
    model: LoadedModel, frame: Frames, length: int, begins: np.ndarray, continues: np.ndarray, top: int
) -> dict[tuple[int, ...], float]:
    """Words of exactly `length` pieces and their scores: at each place the WIDEST_BEAM * top best beginnings are kept."""
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for place in range(length):
        fillings = [known + (model.tokenizer.mask_id,) * (length - place) for known in beams]
        asked = frame.take(np.zeros(len(beams), dtype=np.int64))
        logs = model.gap_log_probabilities(asked.filled(fillings), asked.gaps[:, None] + place)
        logs = logs[:, : len(begins)].astype(np.float64) / length
        logs[:, ~(continues if place else begins)] = -np.inf
        totals = (np.array(list(beams.values()))[:, None] + logs).ravel()
        order = np.argsort(-totals, kind="stable")[: WIDEST_BEAM * top]
        known = list(beams)
        beams = {
            (*known[row // logs.shape[1]], int(row % logs.shape[1])): float(totals[row]) for row in order.tolist() if totals[row] > -np.inf
        }
        if not beams:
            break
    return beams
