"""docs/pictures: the numbers and tokens in them are what the code makes of the same input."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bertlab.batches.flat import flat_fields
from bertlab.batches.masking import Masking
from bertlab.training.checkpoint import save_checkpoint

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def words(name: str) -> list[str]:
    """The texts of a picture, in the order of its file."""
    return [element.text or "" for element in ElementTree.parse(PICTURES / name).iter(f"{SVG}text")]


def run_of(found: list[str], wanted: list[str]) -> bool:
    """Does `wanted` stand in `found`, one after the other?"""
    return any(found[place : place + len(wanted)] == wanted for place in range(len(found)))


def test_the_flat_batch_has_the_positions_and_bounds_of_the_code() -> None:
    lengths = np.array([7, 3, 5, 9])
    fields = flat_fields(np.zeros(24, dtype=np.int64), np.zeros(24, dtype=np.int64), lengths)
    found = words("flat-batch.svg")
    bounds = [str(bound) for bound in fields["cu_seqlens"].tolist()]
    assert run_of(found, [*map(str, fields["position_ids"].tolist()), *bounds])
    assert f"padded: 4 rows of 9 = {4 * lengths.max()} places, {4 * lengths.max() - lengths.sum()} of them padding" in found


def test_the_masked_pair_is_masked_where_and_how_the_code_masks_it() -> None:
    first = ["[CLS]", "a", "sea", "is", "a", "large", "body", "of", "salt", "water", ".", "[SEP]"]
    second = ["the", "term", "has", "two", "distinct", "meanings", ".", "[SEP]"]
    tokens = [*first, *second]
    vocabulary = ["[CLS]", "[SEP]", "[MASK]", *sorted(set(tokens) - {"[CLS]", "[SEP]"})]
    special = np.arange(len(vocabulary)) < 3
    ids = np.array([vocabulary.index(token) for token in tokens])
    masked, positions, labels = Masking(2, special).apply(ids, np.array([len(ids)]), np.array([53], dtype=np.uint64))
    stays, replaced, hidden = positions  # the vocabulary decides by which token one is replaced, and nothing else
    assert masked[stays] == ids[stays] and masked[replaced] not in (2, ids[replaced]) and masked[hidden] == 2
    seen = [vocabulary[id] for id in masked]
    seen[replaced] = "japan"
    found = words("masking.svg")
    assert all(run_of(found, run) for run in (first, second, seen[: len(first)], seen[len(first) :]))
    assert [f"predict: {vocabulary[label]}" for label in labels] == [text for text in found if text.startswith("predict: ")]


def test_segments_change_after_the_first_separator() -> None:
    found = words("pairs.svg")
    tokens = [text for text in found if re.fullmatch(r"[a-z]+|\.|\[\w+\]", text) and text not in ("token", "segment", "position")]
    ends = [place + 1 for place, token in enumerate(tokens) if token == "[SEP]"]
    sizes = [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert [str(segment % 2) * size for segment, size in enumerate(sizes)] == [text for text in found if re.fullmatch(r"0{3,}|1{3,}", text)]


def test_the_checkpoint_holds_the_files_that_are_drawn(tmp_path: Path) -> None:
    from torch import nn
    from torch.optim import SGD

    model = nn.Linear(1, 1)
    folder = save_checkpoint(tmp_path / "checkpoints", 500, model, [SGD(model.parameters())], {})
    found = words("resume.svg")
    assert f"in checkpoints/{folder.name}/" in found
    assert {path.name for path in folder.iterdir()} == {text for text in found if re.fullmatch(r"\w+\.(json|safetensors)", text)}
