"""A small model with weights large enough for its vectors to differ well, and texts for it."""

import random
from collections.abc import Callable, Iterator

import pytest
import torch

from bertlab.embedding.engine import Embedder, open_embedder
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()


def _texts(count: int, longest: int = 15, seed: int = 0) -> list[str]:
    """Texts of 0 to `longest` words; about one in ten is one that was there before."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        again = texts and draw.random() < 0.1
        texts.append(draw.choice(texts) if again else " ".join(draw.choices(WORDS, k=draw.randint(0, longest))))
    return texts


@pytest.fixture(scope="session")
def texts_of() -> Callable[..., list[str]]:
    return _texts


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = tokenizers.train([" ".join(WORDS)] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("model") / "model"
    save_model(place, BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    return str(place)


@pytest.fixture(scope="session")
def embedder(folder: str) -> Embedder:
    return open_embedder(folder, "cpu")
