"""An encoder at work on texts: token ids in, vectors out, in the order of the texts.

Batches are of like length, longest first, under a token budget that keeps a layer's widest states near the processor. On a CPU every batch
is one thread's, and as many run beside each other as torch would have used: no thread waits for another within a product, and, because
neither the number of threads nor the other sequences of a batch enter a sum, a vector is the same bits whatever it was computed with
(tests/embedding/test_engine.py; on a GPU within rounding). Knows nothing of files.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertlab.batches.labelled import Examples, encode_examples
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.encoder import Bert
from bertlab.model.facts import fetch, load_config
from bertlab.model.folder import load_model, refuse_misfit
from bertlab.model.frozen import FrozenBert
from bertlab.model.pooling import Pooling, Recorded, only_places, pool, recorded
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.shards import ragged_arange
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.processes import Precision, choose_device, uses_bf16

# Of a batch, the widest states of a layer: what stays in a core's share of the cache, or fills a GPU.
BATCH_BYTES = {"cpu": 6 * 2**20, "cuda": 2**28}
CHARACTERS_A_TOKEN = 100  # of a text, no more than this for each token that the model takes is looked at


@dataclass(frozen=True, kw_only=True)
class What:
    """What is wanted of a text: one vector by `pooling`, or with None the state of every token; the mean over `layers` (none: the last).
    Raises ConfigError for what is the same of every text."""

    pooling: Pooling | None
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.pooling == "cls" and set(self.layers) == {0}:
            raise ConfigError("layer 0 is the embeddings, and that of [CLS] is the same in every text: choose another pooling or layer")


@dataclass(frozen=True)
class Pending:
    """Vectors that are being computed."""

    values: np.ndarray
    parts: list[Future[None]]

    def result(self) -> np.ndarray:
        """Wait for them: (n, d) float32, or (T, d) of tokens. Raises CorruptError when the model gives NaN or infinity."""
        for part in self.parts:
            part.result()
        if not np.isfinite(self.values).all():
            raise CorruptError("the model gives NaN or infinity: its weights are broken, or its training went wrong")
        return self.values


Begin = Callable[[Examples, What], Pending]


class Embedder:
    """A model that makes vectors. Attributes: frozen, tokenizer, recorded (what its folder says of its vectors), max_length, device.

    `threads`: batches at once, on a CPU; default: torch's number.
    """

    def __init__(
        self,
        bert: Bert,
        tokenizer: Tokenizer,
        *,
        recorded: Recorded,
        device: torch.device,
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        self.tokenizer, self.recorded, self.device = tokenizer, recorded, device
        self.frozen = FrozenBert(bert, device, torch.bfloat16 if uses_bf16(device, precision) else torch.float32)
        positions = bert.config.max_position_embeddings
        self.max_length = min(positions, recorded.max_length or positions)
        self.threads = 1 if device.type == "cuda" else threads or torch.get_num_threads()
        self.batch_tokens = max(64, BATCH_BYTES[device.type] // (4 * bert.config.intermediate_size))

    def encode(self, texts: Sequence[str]) -> Examples:
        """Token ids of texts, after the folder's own prompt if it has one, truncated to `max_length` tokens; says how many were."""
        most, prompt = CHARACTERS_A_TOKEN * self.max_length, self.recorded.prompt
        return encode_examples(self.tokenizer, [(prompt + text)[:most] for text in texts], max_length=self.max_length)

    def vectors(self, examples: Examples, what: What) -> np.ndarray:
        """Vectors (n, d) float32 of encoded texts, or (T, d) of their tokens. Raises CorruptError when the model gives NaN or infinity."""
        with self.at_work() as begin:
            return begin(examples, what).result()

    @contextmanager
    def at_work(self) -> Iterator[Begin]:
        """Yield begin(examples, what), which sets threads to work and returns at once; torch's own threads rest meanwhile."""
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(self.threads) as pool:

            def begin(examples: Examples, what: What) -> Pending:
                self.frozen.layer_numbers(what.layers)  # refused here, before any thread
                rows = len(examples.ids) if what.pooling is None else len(examples)
                values = np.zeros((rows, self.frozen.config.hidden_size), dtype=np.float32)
                batches = examples.rows_by_length(self.batch_tokens) if len(examples) else []
                return Pending(values, [pool.submit(self._fill, values, examples, batch, what) for batch in batches])

            if self.device.type == "cpu":
                torch.set_num_threads(1)
            try:
                yield begin
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                torch.set_num_threads(threads)

    def _fill(self, values: np.ndarray, examples: Examples, rows: np.ndarray, what: What) -> None:
        with torch.inference_mode():
            batch = examples.batch(rows).to(self.device)
            places = None if what.pooling is None else only_places(batch.cu_seqlens, what.pooling)
            states = self.frozen.states(**batch.encoder_inputs(), layers=what.layers, places=places)
            if what.pooling is None:
                lengths = examples.lengths[rows]
                values[np.repeat(examples.offsets[:-1][rows], lengths) + ragged_arange(lengths)] = states.cpu().numpy()
            else:
                values[rows] = (pool(states, batch.cu_seqlens, what.pooling) if places is None else states).cpu().numpy()


def open_embedder(folder: str, device: str | None = None, precision: Precision = "fp32", threads: int | None = None) -> Embedder:
    """An encoder from any model folder, its tokenizer, and what it records of its vectors.

    Raises ConfigError for what is no BERT, or where tokenizer and model do not fit; CorruptError for weights that are NaN or unreadable.
    """
    place = fetch(folder)
    load_config(place)  # first: it names a run folder given for its model
    tokenizer = tokenizers.load(place)
    bert, _ = load_model(place, Bert)
    refuse_misfit(tokenizer, bert.config, folder)
    on = choose_device(device)
    return Embedder(bert, tokenizer, recorded=recorded(Path(place)), device=on, precision=precision, threads=threads)


# ---- of a vector, what is kept


def finished(vectors: np.ndarray, normalize: bool, dims: int | None = None) -> np.ndarray:
    """The first `dims` numbers of (n, d) vectors, then to length 1 where asked for. Raises ConfigError when there are fewer."""
    if dims is not None and not 1 <= dims <= vectors.shape[1]:
        raise ConfigError(f"dims={dims}: this model's vectors have 1 to {vectors.shape[1]} numbers")
    kept = np.ascontiguousarray(vectors[:, :dims])
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12) if normalize else kept
