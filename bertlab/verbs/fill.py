"""bertlab fill: likely words for every [MASK] in a text, with their probabilities.

    bertlab fill --model DIR --text "the [MASK] of the river"

Or for texts of a file, or of standard input (--input=-); --words compares words of one's own, --pieces looks for whole words.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bertlab.inference import LoadedModel

Text = tuple[str, str | None]  # and the second text of a pair
TEXTS_AT_ONCE = 256  # enough to sort by length, few enough to show results as they come
MOST_WORDS, MOST_PIECES = 100, 8  # of a beam search


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """A pretrained model folder (RUN/model): it must have its masked-word head."""
    text: tuple[str, ...] = ()
    """A text with [MASK] where a word belongs, once or several times; several texts may be given."""
    text_b: tuple[str, ...] = ()
    """Second texts of pairs, one for each text; [MASK] may stand in them too."""
    input: str | None = None
    """A file of texts: a text file (a line is a text), or CSV, TSV, JSONL, Parquet (columns text, text_b); standard input is --input=-."""
    top: int = 5
    """How many words for each [MASK]."""
    words: tuple[str, ...] = ()
    """Compare these words instead of looking for the likeliest. In place of the [MASK] a word of k pieces gets k masks, and counts by the
    k-th root of the product of their probabilities, so that a longer word can be compared with a shorter one."""
    pieces: int | None = None
    """Look for whole words of at most so many pieces, by beam search; default: single pieces, parts of words among them."""
    json: bool = False
    """Print a JSON object a text instead of tables."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it; auto: where it does."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.text) == (self.input is not None):
            raise ConfigError('give texts, as in --text "the [MASK] of the river", or a file of them, --input FILE: one of the two')
        if self.text_b and len(self.text_b) != len(self.text):
            raise ConfigError(f"{len(self.text)} text and {len(self.text_b)} text_b: give one for each")
        if self.top < 1 or (self.pieces is not None and not 1 <= self.pieces <= MOST_PIECES):
            raise ConfigError(f"top={self.top} and pieces={self.pieces}: give 1 or more, and of pieces {MOST_PIECES} at most")
        if self.pieces is not None and (self.words or self.top > MOST_WORDS):
            raise ConfigError(f"pieces looks for words: leave words out, and let top be {MOST_WORDS} at most")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of the model's folder and of texts without a gap."""
    from bertlab.model.facts import fetch, load_config
    from bertlab.tokens.tokenizer import MASK

    load_config(fetch(config.model))
    for first, second in itertools.zip_longest(config.text, config.text_b):
        if MASK not in first and MASK not in (second or ""):
            raise DataError(f"no {MASK} in the text {first[:60]!r}: write {MASK} where a word is to be filled in")
    if config.input not in (None, "-"):
        next(_texts(config), None)


def run(config: Config) -> list[dict[str, Any]]:
    """Print the words of every gap; returns what --json prints: a dictionary a text.

    Raises ConfigError (folder, words), DataError (a text without [MASK]), CorruptError.
    """
    look(config)

    from bertlab.inference import LoadedModel

    model = LoadedModel(config.model, config.device, config.precision)
    model.masked_word_model()
    found = []
    for part in _parts(config):
        for facts in fill(config, model, part):
            found.append(facts)
            print(json.dumps(facts, ensure_ascii=False) if config.json else _screen(facts), flush=True)
    return found


def fill(config: Config, model: "LoadedModel", texts: list[Text]) -> list[dict[str, Any]]:
    """For each text, or pair, the words of each of its gaps, likeliest first, with probabilities."""
    import numpy as np

    from bertlab.batches.cloze import frames_of_gaps
    from bertlab.cloze import pieces_of, whole_words, word_scores

    pieces = pieces_of(model.tokenizer, config.words)
    longest = max(map(len, pieces), default=config.pieces or 1)
    seconds = [second for _, second in texts if second is not None] or None
    frames, owners = frames_of_gaps(
        model.tokenizer, [first for first, _ in texts], seconds, max_length=model.max_length, longest_word=longest
    )
    if config.words:
        scores = np.exp(word_scores(model, frames, pieces))
        gaps = [[(config.words[place], float(row[place])) for place in np.argsort(-row, kind="stable")] for row in scores]
    elif config.pieces is not None:
        gaps = whole_words(model, frames, config.pieces, config.top)
    else:
        gaps = model.likeliest(frames, config.top)
    results: list[dict[str, Any]] = [
        {"text": first} | ({} if second is None else {"text_b": second}) | {"gaps": []} for first, second in texts
    ]
    for owner, gap in zip(owners.tolist(), gaps, strict=True):
        results[owner]["gaps"].append([{"word": word, "probability": probability} for word, probability in gap])
    return results


def _parts(config: Config) -> Iterator[list[Text]]:
    """The texts with their second texts, some at a time; typed at a terminal, each as it comes."""
    texts = _texts(config)
    at_once = 1 if config.input == "-" and sys.stdin.isatty() else TEXTS_AT_ONCE
    while part := list(itertools.islice(texts, at_once)):
        yield part


def _texts(config: Config) -> Iterator[Text]:
    """Raises DataError with the place of a text without a gap; lines of white space alone are passed over."""
    from bertlab.corpus.files import lines
    from bertlab.corpus.labelled import read_labelled
    from bertlab.tokens.tokenizer import MASK

    found: Iterable[tuple[str, str, str | None]]
    if config.input is None:
        yield from itertools.zip_longest(config.text, config.text_b)
        return
    if config.input == "-":
        found = ((f"standard input:{number}", line or "", None) for number, line in lines("/dev/stdin", "stop", Counter(), config.dialect))
    else:
        rows = read_labelled(config.input, needs_label=False, dialect=config.dialect)
        found = itertools.zip_longest(rows.ids, rows.texts, rows.texts_b or ())
    for place, first, second in found:
        if not first.strip() and not (second or "").strip():
            continue
        if MASK not in first and MASK not in (second or ""):
            raise DataError(f"{place}: no {MASK} in the text: write {MASK} where a word is to be filled in")
        yield first, second


def _screen(facts: dict[str, Any]) -> str:
    from bertlab.pages.screen import inert, table

    lines = [inert(facts["text"]) + (f"  |  {inert(facts['text_b'])}" if "text_b" in facts else "")]
    for number, gap in enumerate(facts["gaps"], 1):
        name = "word" if len(facts["gaps"]) == 1 else f"[MASK] {number}"
        lines.append(table([name, "probability"], [[each["word"], f"{100 * each['probability']:.3g}%"] for each in gap]))
    return "\n".join(lines) + "\n"
