"""Texts that a program hands over: what is no list of texts is refused by its place, before it ends as an error further in.

Looks at the types alone, those of a million texts in about 0.1 s. Knows nothing of what the texts are for.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from typing import Any

from bertlab.errors import DataError

SURROGATE = re.compile("[\ud800-\udfff]")  # half a character of UTF-16, which JSON and Python can spell


def given_texts(texts: Any, which: str = "texts", *, words: bool = False) -> list[Any]:
    """The texts as a list: of a list, an array, a column of a table, or what else gives one text after another. With `words` a text may be
    a list of words. `which` says of which of the caller's arguments an error is. Raises DataError for what is neither."""
    if isinstance(texts, str | bytes):
        raise DataError("one text was given where a list of texts is wanted: write [text]")
    if not isinstance(texts, Iterable) or not _in_a_row(texts):
        raise DataError(f"{type(texts).__name__} is no list of {which}: give a list, an array, or a column of a table (table['text'])")
    found = list(texts)
    if all(issubclass(kind, str) for kind in set(map(type, found))):
        if (half := next((place for place, text in enumerate(found) if not text.isascii() and SURROGATE.search(text)), None)) is not None:
            raise DataError(f"text {half} of the {which} holds half a character (\\ud800 to \\udfff), which no text does: leave it out")
        return found
    for place, text in enumerate(found):
        if what := _what_is_wrong(text, words):
            wanted = "texts or lists of words" if words else "texts"
            raise DataError(f"text {place} of the {which} {what}: give {wanted}, and leave out rows that have none")
    return found


def _in_a_row(values: Any) -> bool:
    """Whether they are single values: no dict, no table of several columns."""
    return not isinstance(values, Mapping) and getattr(values, "ndim", 1) == 1


def _what_is_wrong(text: Any, words: bool) -> str | None:
    if isinstance(text, str):
        return None
    if not words or isinstance(text, bytes) or not isinstance(text, Collection) or not _in_a_row(text):
        return f"is {_named(text)}, no text"
    strange = next((word for word in text if not isinstance(word, str)), "")
    return None if isinstance(strange, str) else f"holds {_named(strange)}, no word"


def _named(value: Any) -> str:
    """nan, as an empty cell of a table is read, is named so; of all else the type is."""
    return "nan" if isinstance(value, Real) and value != value else type(value).__name__
