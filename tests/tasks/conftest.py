"""A tiny BERT with random weights, and rows whose labels follow from one word among common ones."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.pages.report import write_report
from bertlab.tokens import tokenizer as tokenizers

COMMON = ["the", "old", "one", "of", "a", "great", "many", "in", "this", "place", "was"]
TELLING = {"music": "violin", "sky": "comet", "water": "river", "plants": "moss"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def every_run_has_its_page() -> Iterator[None]:
    """A page that cannot be drawn ends no run, and is a line among others: here it is an error."""

    def drawn(run: Path, refresh: int | None = None, *, anew: bool = True) -> None:
        if not anew:
            assert (run / "report.html").is_file()
            return
        write_report(run / "report.html", [run], refresh=refresh)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertlab.pages.report.report_on", drawn)
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny BERT with random weights, as pretraining would leave it."""
    tokenizer = tokenizers.train([" ".join([*COMMON, *TELLING.values()])] * 4, kind="wordpiece", vocab_size=300, lowercase=True)
    torch.manual_seed(1234)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24, initializer_range=0.15,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pretraining-run") / "model"
    facts = {"kind": "pretrained", "corpus": {"sources": [{"name": "made.txt", "licence": "CC0-1.0"}]}}
    save_model(folder, BertForPreTraining(config), tokenizer, facts=facts, card="# A card\n")
    return str(folder)


@pytest.fixture(scope="session")
def texts() -> Callable[[int, int], list[tuple[str, set[str]]]]:
    """texts(count, seed): each a text with a telling word for each of the topics given beside it, any number of them."""

    def make(count: int, seed: int) -> list[tuple[str, set[str]]]:
        draw = random.Random(seed)
        rows = []
        for _ in range(count):
            topics = {topic for topic in TELLING if draw.random() < 0.4}
            words = [*draw.choices(COMMON, k=draw.randint(2, 5)), *(TELLING[topic] for topic in sorted(topics))]
            draw.shuffle(words)
            rows.append((" ".join(words), topics))
        return rows

    return make


@pytest.fixture(scope="session")
def write() -> Callable[[Path, list[dict[str, Any]]], str]:
    def to(path: Path, rows: list[dict[str, Any]]) -> str:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return to
