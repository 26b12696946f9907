"""Cloze frames: sequences with one gap each, to ask a masked-word head about. From templates and texts, or from texts with [MASK] in them.

A template is literal text with {text}, for pairs also {text_b}, and one [MASK]; one [SEP] may divide it into two segments. In a template
[MASK] and [SEP] are tokens; in the texts that take its places they stay text. Literals are encoded as they stand between words, texts each
by itself, which is the encoding of the whole wherever a space or a punctuation mark lies between them. What is too long loses tokens at the
end of its longer text, never of the template, and is counted. Knows no model.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertlab.batches.labelled import Examples, share_room
from bertlab.errors import ConfigError, DataError
from bertlab.tokens.shards import ragged_arange
from bertlab.tokens.tokenizer import CLS, MASK, PAD, SEP, UNK, Tokenizer

Kind = Literal["literal", "text", "text_b", "mask", "sep"]
Encoded = tuple[np.ndarray, np.ndarray]  # ids end to end (T,) and offsets (n+1,), as Tokenizer.encode gives them
_TOKENS: dict[str, Kind] = {MASK: "mask", SEP: "sep"}
_FIELDS: dict[str | None, Kind] = {"text": "text", "text_b": "text_b"}


# ---- templates


@dataclass(frozen=True)
class Template:
    """`source` as it was written, and its parts in order: literal text, the texts' places, the gap, the beginning of a second segment."""

    source: str
    parts: tuple[tuple[Kind, str], ...]

    def has(self, kind: Kind) -> bool:
        return any(each == kind for each, _ in self.parts)


def parse_template(source: str) -> Template:
    """A template from its text; a brace that is meant is written twice. Raises ConfigError for one that cannot be asked."""

    def wrong(what: str) -> ConfigError:
        return ConfigError(f"template {source!r}: {what}")

    parts: list[tuple[Kind, str]] = []
    try:
        pieces = list(string.Formatter().parse(source))
    except ValueError:
        raise wrong("a brace is open or alone: write {text}, and {{ or }} for a brace that is meant") from None
    for literal, field, spec, conversion in pieces:
        for part in re.split(f"({re.escape(MASK)}|{re.escape(SEP)})", literal):
            kind = _TOKENS.get(part, "literal")
            before = parts.pop()[1] if kind == "literal" and parts and parts[-1][0] == "literal" else ""  # the parser ends one at a brace
            parts.append((kind, before + part))
        if field is not None:
            if field not in _FIELDS or spec or conversion:
                asked = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise wrong(f"{{{asked}}} is no place for a text: there are {{text}} and, for pairs, {{text_b}}")
            parts.append((_FIELDS[field], field))
    parts = [(kind, part) for kind, part in parts if kind != "literal" or part.strip()]
    template = Template(source, tuple(parts))
    counts = {kind: sum(each == kind for each, _ in parts) for kind in ("text", "text_b", "mask", "sep")}
    if counts["mask"] != 1:
        raise wrong(f"{counts['mask']} times {MASK}: write it once, where a label's word belongs")
    if counts["text"] != 1 or counts["text_b"] > 1:
        raise wrong("write {text} once, and for pairs {text_b} once")
    if counts["sep"] > 1 or parts[0][0] == "sep" or parts[-1][0] == "sep":
        raise wrong(f"{SEP} divides two segments, once, between them: the one at the end is set anyway")
    for token in (CLS, PAD, UNK):
        if any(kind == "literal" and token in text for kind, text in parts):
            raise wrong(f"{token} cannot be written here: {CLS} at the beginning and {SEP} at the end are set anyway")
    return template


# ---- frames


@dataclass(frozen=True)
class Frames:
    """n sequences: place gaps[i] (n,) of example i holds a [MASK] for a word of any number of pieces; cut (n,): which lost tokens."""

    examples: Examples
    gaps: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.gaps)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Frames":
        """The frames `rows`, in that order; a row may come several times."""
        rows = np.asarray(rows, dtype=np.int64)
        examples, lengths = self.examples, self.examples.lengths[rows]
        source = _spread(examples.offsets[:-1][rows], lengths)
        taken = Examples(
            examples.ids[source], examples.segments[source], _offsets(lengths), examples.labels[rows], int(self.cut[rows].sum())
        )
        return Frames(taken, self.gaps[rows], self.cut[rows])

    def filled(self, pieces: Sequence[int] | Sequence[Sequence[int]] | np.ndarray) -> Examples:
        """The sequences with ids in place of their gaps: the same pieces (k,) in each, or pieces (n, k) of its own."""
        pieces = np.atleast_2d(np.asarray(pieces, dtype=np.int32))
        examples, length = self.examples, pieces.shape[1]
        places = examples.offsets[:-1] + self.gaps
        times = np.ones(len(examples.ids), dtype=np.int64)
        times[places] = length
        ids, segments = np.repeat(examples.ids, times), np.repeat(examples.segments, times)
        first = places + np.arange(len(self)) * (length - 1)
        ids[first[:, None] + np.arange(length)] = pieces
        return Examples(ids, segments, _offsets(examples.lengths + length - 1), examples.labels, examples.num_truncated)


def frames_of_template(
    tokenizer: Tokenizer, template: Template, text: Encoded, text_b: Encoded | None, *, max_length: int, longest_word: int = 1
) -> Frames:
    """A frame for each of n texts, or pairs, none longer than `max_length` when its gap is filled by `longest_word` pieces.

    Raises ConfigError for a template that leaves no room for a text.
    """
    assert text_b is not None or not template.has("text_b")
    number = len(text[1]) - 1
    literals = {place: _literal(tokenizer, template, place) for place, (kind, _) in enumerate(template.parts) if kind == "literal"}
    fixed = sum(map(len, literals.values())) + template.has("sep") + 2  # [CLS] and [SEP]
    room = max_length - fixed - longest_word
    if room < 1 + template.has("text_b"):
        raise ConfigError(
            f"template {template.source!r}: with {fixed} tokens of its own and a word of {longest_word} it leaves no room for a text "
            f"among the {max_length} tokens that the model takes: shorten it"
        )
    wanted = np.diff(text[1])
    wanted_b = np.diff(text_b[1]) if text_b is not None and template.has("text_b") else np.zeros_like(wanted)
    kept, kept_b = share_room(wanted, wanted_b, room)
    columns = [_constant([tokenizer.cls_id], number, 0)]
    segment, gap = 0, 0
    for place, (kind, _) in enumerate(template.parts):
        if kind == "literal":
            columns.append(_constant(literals[place], number, segment))
        elif kind == "text":
            columns.append((text[0], text[1][:-1], kept, segment))
        elif kind == "text_b":
            assert text_b is not None
            columns.append((text_b[0], text_b[1][:-1], kept_b, segment))
        elif kind == "mask":
            gap = len(columns)
            columns.append(_constant([tokenizer.mask_id], number, segment))
        else:
            columns.append(_constant([tokenizer.sep_id], number, segment))
            segment = 1
    columns.append(_constant([tokenizer.sep_id], number, segment))
    cut = (kept < wanted) | (kept_b < wanted_b)
    examples = _joined(columns, int(cut.sum()))
    before = np.sum([lengths for _, _, lengths, _ in columns[:gap]], axis=0)
    return Frames(examples, before.astype(np.int64), cut)


def _literal(tokenizer: Tokenizer, template: Template, place: int) -> np.ndarray:
    """The ids of a literal, with a word on each side where a text or the gap is."""
    before, after = template.parts[:place][-1:], template.parts[place + 1 :][:1]
    sides = [[""] if side and side[0][0] != "sep" else [] for side in (before, after)]
    text = template.parts[place][1]
    text = text if sides[0] else text.lstrip()
    text = text if sides[1] else text.rstrip()
    return tokenizer.encode_parts([*sides[0], text, *sides[1]])[len(sides[0])]


def frames_of_gaps(
    tokenizer: Tokenizer, texts: Sequence[str], texts_b: Sequence[str] | None, *, max_length: int, longest_word: int = 1
) -> tuple[Frames, np.ndarray]:
    """A frame for every [MASK] that somebody wrote into n texts, or pairs, in order, and the number of its text: (g,).

    The other gaps of a text stay masks. Raises DataError for a text without a gap, or with one that is cut off with the end of the text.
    """
    sides = [texts] if texts_b is None else [texts, texts_b]
    encoded = [[tokenizer.encode_around_mask(text) for text in side] for side in sides]
    wanted = [np.array([len(ids) for ids in side], dtype=np.int64) for side in encoded]
    room = max_length - 1 - len(sides) - (longest_word - 1)
    if room < len(sides):
        raise ConfigError(f"a word of {longest_word} pieces leaves no room among the {max_length} tokens that the model takes")
    kept = share_room(wanted[0], wanted[1] if texts_b is not None else np.zeros_like(wanted[0]), room)[: len(sides)]
    for number, text in enumerate(texts):
        if not any((side[number] == tokenizer.mask_id).any() for side in encoded):
            raise DataError(f"no {MASK} in the text {text[:60]!r}: write {MASK} where a word is to be filled in")
        if any((side[number][length[number] :] == tokenizer.mask_id).any() for side, length in zip(encoded, kept, strict=True)):
            raise DataError(f"a {MASK} beyond the {max_length} tokens that the model takes, in {text[:60]!r}: shorten the text before it")
    columns = [_constant([tokenizer.cls_id], len(texts), 0)]
    for segment, (side, lengths) in enumerate(zip(encoded, kept, strict=True)):
        ids = np.concatenate(side) if side else np.empty(0, dtype=np.int32)
        columns += [(ids, _offsets(wanted[segment])[:-1], lengths, segment), _constant([tokenizer.sep_id], len(texts), segment)]
    cut = np.any([short < long for short, long in zip(kept, wanted, strict=True)], axis=0)
    examples = _joined(columns, int(cut.sum()))
    places = np.flatnonzero(examples.ids == tokenizer.mask_id)
    owners = np.searchsorted(examples.offsets, places, side="right") - 1
    alike = Frames(examples, np.zeros(len(texts), dtype=np.int64), cut).take(owners)
    return Frames(alike.examples, places - examples.offsets[owners], alike.cut), owners


# ---- assembling


_Column = tuple[np.ndarray, np.ndarray, np.ndarray, int]  # ids, where each example's part of them begins (n,), its length (n,), its segment


def _constant(ids: Sequence[int] | np.ndarray, number: int, segment: int) -> _Column:
    """The same ids in each of `number` examples."""
    return np.asarray(ids, dtype=np.int32), np.zeros(number, dtype=np.int64), np.full(number, len(ids), dtype=np.int64), segment


def _joined(columns: Sequence[_Column], num_truncated: int) -> Examples:
    """Examples that are the columns side by side."""
    lengths = np.stack([lengths for _, _, lengths, _ in columns])  # (columns, n)
    offsets = _offsets(lengths.sum(0))
    begins = offsets[:-1] + np.cumsum(lengths, axis=0) - lengths
    ids, segments = np.zeros(offsets[-1], dtype=np.int32), np.zeros(offsets[-1], dtype=np.int8)
    for (values, starts, length, segment), begin in zip(columns, begins, strict=True):
        where = _spread(begin, length)
        ids[where] = values[_spread(starts, length)]
        segments[where] = segment
    return Examples(ids, segments, offsets, np.full(len(offsets) - 1, -1, dtype=np.int64), num_truncated)


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def _spread(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of runs [start, start + length) end to end."""
    return np.repeat(starts, lengths) + ragged_arange(lengths)
