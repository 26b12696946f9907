"""recipes/benchmarks/word_in_context.py: the word is found, no threshold is better than the best, known answers are told apart."""

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

SCRIPT = Path(__file__).parents[2] / "recipes" / "benchmarks" / "word_in_context.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("word_in_context", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = loaded()


@pytest.mark.parametrize(("index", "word"), [(0, "the"), (1, "bank"), (3, "shut")])
def test_a_word_is_found_by_its_index(index: int, word: str) -> None:
    at = script.place_of(7, {"text": "the bank is shut", "index": index})
    assert at.text == 7 and "the bank is shut"[at.start : at.end] == word


@given(st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.5]), st.booleans()), min_size=1, max_size=12))
def test_no_threshold_is_better_than_the_best(questions: list[tuple[float, bool]]) -> None:
    cosine, gold = np.array([each for each, _ in questions]), np.array([each for _, each in questions])
    threshold, accuracy = script.best_threshold(cosine, gold)
    assert accuracy == pytest.approx(((cosine >= threshold) == gold).mean())
    assert accuracy == pytest.approx(max(((cosine >= cut) == gold).mean() for cut in [*cosine, np.inf]))


def test_two_words_whose_answers_differ_are_told_apart(tmp_path: Path) -> None:
    rows = [
        {"word": word, "index": 1, "text": f"the {word} {after}", "text_b": meaning, "label": "TF"[number % 2]}
        for number, (word, after, meaning) in enumerate([("bank", "of the river", "an edge of land"), ("sea", "is old", "salt water")] * 6)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "dev.jsonl").write_text(lines)
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as stream:
        stream.write(lines)
    tokenizer = tokenizers.train([lines], kind="wordpiece", vocab_size=120, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.4,
    )  # fmt: skip
    save_model(tmp_path / "model", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    found = script.measured(str(tmp_path / "model"), str(tmp_path / "train.jsonl.gz"), str(tmp_path / "dev.jsonl"))
    assert found["commoner"] == 0.5 and found["dev"] == 12 and len(found["kinds"]) == 4
    contextual = found["kinds"]["contextual: word, mean of the definition"]
    assert contextual["train"] == contextual["dev"] == 1 and contextual["low"] < 1 == contextual["high"]
