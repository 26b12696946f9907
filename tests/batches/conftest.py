"""Small corpora of token shards, made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bertlab.tokens.shards import Documents, ShardWriter


@pytest.fixture(scope="session")
def make_documents(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Documents]:
    """make_documents(sentence_lengths, first_id=10, shard_tokens=...): documents given by the token counts of their sentences.

    Every token of the corpus has its own id, first_id + address, so that whatever a batch holds can be traced to its place.
    """

    def make(sentence_lengths: Sequence[Sequence[int]], first_id: int = 10, shard_tokens: int = 2**20) -> Documents:
        folder: Path = tmp_path_factory.mktemp("shards") / "train"
        writer = ShardWriter(folder, np.dtype(np.int32), shard_tokens)
        for number, lengths in enumerate(sentence_lengths):
            ids = first_id + writer.tokens + np.arange(sum(lengths))
            writer.add(f"document {number}", "made up", f"{number:064x}", ids, np.array(lengths, dtype=np.int64))
        writer.close()
        return Documents(folder)

    return make
