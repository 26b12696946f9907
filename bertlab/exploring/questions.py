"""What the page of `bertlab explore` may ask, by name, each from JSON to JSON: the shapes of what comes are checked here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertlab.embedding.index import blocks, embedder_of, ids_of, open_index, query_vectors, texts_of, texts_source
from bertlab.embedding.nearest import exact_nearest
from bertlab.errors import DataError
from bertlab.exploring.attribution import attributed
from bertlab.exploring.looking import abilities, looked_at
from bertlab.exploring.parting import parted
from bertlab.inference import LoadedModel

NEAREST = 8

Near = Callable[[str], list[dict[str, Any]]]


def questions(model: LoadedModel, name: str, near: Near | None = None) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """about, look, attribute, contexts and, with an index, near. They raise DataError for what has another shape, and what those raise that
    they call."""
    known = {"name": name, "index": near is not None, **abilities(model)}

    def look(asked: Mapping[str, Any]) -> dict[str, Any]:
        return looked_at(model, _text(asked, "text"), _text_or_none(asked, "text_b"), _numbers(asked, "masked"))

    def attribute(asked: Mapping[str, Any]) -> dict[str, Any]:
        return attributed(model, _text(asked, "text"), _text_or_none(asked, "text_b"), _text_or_none(asked, "label"))

    def contexts(asked: Mapping[str, Any]) -> dict[str, Any]:
        groups = asked.get("groups")
        if not isinstance(groups, list) or not all(map(_is_texts, groups)):
            raise DataError("groups: a list of lists of texts is wanted")
        return parted(model, _text(asked, "word"), groups)

    found: dict[str, Callable[[dict[str, Any]], Any]] = {
        "about": lambda asked: known, "look": look, "attribute": attribute, "contexts": contexts,
    }  # fmt: skip
    return found | ({"near": lambda asked: near(_text(asked, "text"))} if near else {})


def nearest_texts(index: str, folder: str) -> Near:
    """What answers `near` from a file of embed's vectors.

    Raises ConfigError for one that another model made, CorruptError for a damaged one.
    """
    opened = open_index(Path(index))
    embedder = embedder_of(opened, folder, "cpu")
    files = texts_source(opened)

    def near(text: str) -> list[dict[str, Any]]:
        rows, cosines = exact_nearest(query_vectors(opened, embedder, [text]), blocks(opened), NEAREST)
        wanted = rows[0].tolist()
        ids = ids_of(opened, wanted)
        texts = texts_of(opened, files, wanted, opened.origin.get("text", "text")) if files else {}
        found = zip(wanted, cosines[0].tolist(), strict=True)
        return [{"id": ids[row], "text": texts.get(row), "cosine": cosine} for row, cosine in found]

    return near


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise DataError(f"{name}: a text is wanted")
    return value.encode("utf-8", "replace").decode("utf-8")  # half a character of UTF-16, which JSON can spell, is none


def _text_or_none(asked: Mapping[str, Any], name: str) -> str | None:
    return None if asked.get(name) is None else _text(asked, name)


def _numbers(asked: Mapping[str, Any], name: str) -> list[int]:
    value = asked.get(name, [])
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise DataError(f"{name}: a list of whole numbers is wanted")
    return value
