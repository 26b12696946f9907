"""The graph for export, in torch: on padded batches it gives the numbers of the flat model, for every kind of folder.

The files that are made of it, and ONNX Runtime's numbers, are in tests/verbs/test_export.py: an export takes seconds.
"""

from typing import Any

import numpy as np
import pytest
import torch

import bertlab
from bertlab.exporting import Exported, Padded
from bertlab.inference import LoadedModel

TEXTS = ["the old river", "a", "birds sing over its banks in spring , and the river runs to the sea", "", "stone hill"]
TASKS = {
    "single": ("logits", "probabilities"),
    "several": ("logits", "probabilities"),
    "number": ("values",),
    "tags": ("logits", "probabilities"),
    "answers": ("start_logits", "end_logits"),
}


@pytest.fixture(scope="module")
def models(every_model: dict[str, str]) -> dict[str, LoadedModel]:
    return {name: bertlab.load(every_model[name], "cpu") for name in ("words", *TASKS)}


def padded(model: LoadedModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and segments of TEXTS as pairs with each other; the padding holds ids of words."""
    examples = model.encode(TEXTS, TEXTS[::-1])
    mask = torch.arange(int(examples.lengths.max())) < torch.from_numpy(examples.lengths)[:, None]
    ids, segments = (
        torch.full(mask.shape, filler).masked_scatter(mask, torch.from_numpy(values.astype(np.int64)))
        for values, filler in ((examples.ids, 7), (examples.segments, 1))
    )
    return ids, mask.long(), segments


@pytest.mark.parametrize("name", TASKS)
def test_the_outputs_of_a_task_are_those_of_the_flat_model(name: str, models: Any) -> None:
    model, exported = models[name], Exported(models[name])
    ids, mask, segments = padded(model)
    with torch.inference_mode():
        found = Padded(exported)(ids, mask, segments)
        batch = model.encode(TEXTS, TEXTS[::-1]).batch(np.arange(len(TEXTS)))
        logits = model.model(**batch.encoder_inputs())
    assert exported.names == TASKS[name] and len(found) == len(exported.names)
    real = mask.bool() if name in ("tags", "answers") else ...
    if "probabilities" in exported.names:
        probabilities = logits.sigmoid() if name == "several" else logits.softmax(-1)
        torch.testing.assert_close(found[1][real], probabilities, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[0][real], logits, atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(torch.stack([each[real] for each in found], -1), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["words", "single"])
@pytest.mark.parametrize("normalize", [False, True])
def test_with_a_pooling_any_folder_gives_the_vectors_of_embed(name: str, normalize: bool, models: Any) -> None:
    model, exported = models[name], Exported(models[name], "mean_sqrt_len", normalize)
    ids, mask, segments = padded(model)
    with torch.inference_mode():
        (found,) = Padded(exported)(ids, mask, segments)
    wanted = model.vectors_of(model.encode(TEXTS, TEXTS[::-1]), "mean_sqrt_len", normalize)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    assert exported.names == ("sentence_embedding",) and exported.task is None
