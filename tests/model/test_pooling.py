"""Pooling: hand-checkable vectors, sentence-transformers' own Pooling module as the oracle, and what folders record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertlab.errors import ConfigError, CorruptError
from bertlab.model.pooling import POOLINGS, Pooling, pool, recorded

STATES = torch.tensor([[1.0, 8.0], [3.0, 2.0], [5.0, -1.0], [2.0, 2.0]])
BOUNDS = torch.tensor([0, 3, 4], dtype=torch.int32)  # a sequence of three tokens, one of one
BY_HAND: dict[Pooling, list[list[float]]] = {
    "cls": [[1, 8], [2, 2]],
    "mean": [[3, 3], [2, 2]],
    "max": [[5, 8], [2, 2]],
    "weighted": [[(1 + 6 + 15) / 6, (8 + 4 - 3) / 6], [2, 2]],
    "mean_sqrt_len": [[9 / 3**0.5, 9 / 3**0.5], [2, 2]],
    "last": [[5, -1], [2, 2]],
}
THEIR_MODES = ("cls", "mean", "max", "weightedmean", "mean_sqrt_len_tokens", "lasttoken")


def test_every_pooling_is_what_its_name_says() -> None:
    assert set(BY_HAND) == set(POOLINGS)
    for pooling, expected in BY_HAND.items():
        np.testing.assert_allclose(pool(STATES, BOUNDS, pooling).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("pooling, mode", list(zip(POOLINGS, THEIR_MODES, strict=True)))
def test_every_pooling_is_that_of_sentence_transformers_on_padded_states(pooling: Pooling, mode: str) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules", reason="the oracle is not installed")
    lengths = [5, 1, 3]
    bounds = torch.tensor([0, 5, 6, 9], dtype=torch.int32)
    states = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    padded, mask = torch.full((3, 5, 4), 9.0), torch.zeros(3, 5, dtype=torch.long)
    for row, (start, length) in enumerate(zip(bounds.tolist(), lengths, strict=False)):
        padded[row, :length], mask[row, :length] = states[start : start + length], 1
    theirs = modules.Pooling(4, pooling_mode=mode)({"token_embeddings": padded, "attention_mask": mask})["sentence_embedding"]
    np.testing.assert_allclose(pool(states, bounds, pooling).numpy(), theirs.numpy(), atol=1e-6)


def write(folder: Path, **files: Any) -> Path:
    """A folder with these JSON files; a name's "__" is a slash."""
    for name, value in files.items():
        path = folder / (name.replace("__", "/") + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return folder


def modules(*names: str) -> list[dict[str, Any]]:
    return [{"idx": n, "path": f"{n}_{name}" if n else "", "type": f"sentence_transformers.models.{name}"} for n, name in enumerate(names)]


@pytest.mark.parametrize("pooling, mode", list(zip(POOLINGS, THEIR_MODES, strict=True)))
def test_both_ways_of_writing_a_pooling_are_read(pooling: Pooling, mode: str, tmp_path: Path) -> None:
    endings = {"cls": "_token", "mean": "_tokens", "max": "_tokens", "weightedmean": "_tokens"}
    flags = {name: f"pooling_mode_{name}{endings.get(name, '')}" for name in THEIR_MODES}
    new = write(tmp_path / "new", **{"1_Pooling__config": {"pooling_mode": mode}})
    old = write(tmp_path / "old", **{"1_Pooling__config": {flag: name == mode for name, flag in flags.items()}})
    assert recorded(new).pooling == recorded(old).pooling == pooling


def test_a_folder_that_records_nothing_has_no_pooling_and_the_mean_is_taken(tmp_path: Path) -> None:
    nothing = recorded(tmp_path)
    assert nothing.pooling is None and not nothing.normalize and nothing.max_length is None and nothing.prompt == ""
    assert nothing.usable_pooling("a folder") == "mean"


def test_the_modules_say_where_the_pooling_is_whether_vectors_have_length_1_and_what_comes_first(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "search: ", "document": "title: "}, "default_prompt_name": "document"}
    write(tmp_path, modules=modules("Transformer", "Pooling", "Normalize"), config_sentence_transformers=prompts)
    write(tmp_path, sentence_bert_config={"max_seq_length": 128}, **{"1_Pooling__config": {"pooling_mode": "max"}})
    found = recorded(tmp_path)
    assert (found.pooling, found.normalize, found.max_length, found.prompt) == ("max", True, 128, "title: ")


def test_the_longest_text_of_sentence_transformers_6_is_the_tokenizers(tmp_path: Path) -> None:
    lengths = {"tokenizer_config": {"model_max_length": 40}}
    assert recorded(write(tmp_path / "plain", **lengths)).max_length is None, "transformers' own folders say it of every model"
    found = write(tmp_path / "theirs", modules=modules("Transformer", "Pooling"), sentence_bert_config={}, **lengths)
    assert recorded(found).max_length == 40
    both = write(tmp_path / "both", modules=modules("Transformer"), sentence_bert_config={"max_seq_length": 128}, **lengths)
    assert recorded(both).max_length == 128
    unknown = {"prompts": {"query": "q: "}}  # no default: there is no prompt to leave out
    quiet = write(
        tmp_path / "quiet", config_sentence_transformers=unknown, **{"1_Pooling__config": {"pooling_mode": "mean", "include_prompt": False}}
    )
    assert recorded(quiet).usable_pooling("a folder") == "mean"


@pytest.mark.parametrize(
    "files, why",
    [
        ({"modules": modules("Transformer", "Pooling", "Dense"), "1_Pooling__config": {"pooling_mode": "cls"}}, "go through Dense"),
        ({"1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, "several poolings end to end"),
        ({"1_Pooling__config": {"pooling_mode": ["cls", "mean"]}}, "several poolings end to end"),
        ({"1_Pooling__config": {"pooling_mode": "attention"}}, "its pooling is 'attention'"),
        (
            {
                "1_Pooling__config": {"pooling_mode": "mean", "include_prompt": False},
                "config_sentence_transformers": {"prompts": {"query": "q: "}, "default_prompt_name": "query"},
            },
            "leaves out the prompt",
        ),
        ({"sentence_bert_config": {"do_lower_case": True}, "tokenizer_config": {"do_lower_case": False}}, "become lower-case before"),
    ],
)
def test_what_is_not_done_here_is_refused_unless_a_pooling_is_given(files: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^a folder: .*{why}.*: give --pooling") as caught:
        recorded(write(tmp_path, **files)).usable_pooling("a folder")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_json_objects_or_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match=r"modules\.json: not a JSON list"):
        recorded(write(tmp_path / "a", modules={"a": 1}))
    with pytest.raises(CorruptError, match="not a JSON object"):
        recorded(write(tmp_path / "b", **{"1_Pooling__config": [1]}))
    outside = [{"path": "../elsewhere", "type": "sentence_transformers.models.Pooling"}]
    with pytest.raises(CorruptError, match="outside the folder"):
        recorded(write(tmp_path / "c", modules=outside))
