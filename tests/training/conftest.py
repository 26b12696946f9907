"""What the tests of training share: a very small BERT, made-up batches, one process on the CPU, one thread (sums have one order)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from bertlab.batches import randomness
from bertlab.batches.flat import PretrainingBatch, flat_fields
from bertlab.batches.masking import Masking
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForPreTraining
from bertlab.training import processes
from bertlab.training.loop import Plan, StepResult, train
from bertlab.training.objectives import Pretraining

VOCAB_SIZE, CLS, SEP, MASK, FIRST_ID = 50, 2, 3, 4, 5


class Capture(Optimizer):
    """Keeps the gradients it is given, and changes no weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {"lr": 1.0, "peak_lr": 1.0})
        self.named = dict(model.named_parameters())
        self.gradients: dict[str, Tensor] = {}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        self.gradients = {name: parameter.grad.clone() for name, parameter in self.named.items() if parameter.grad is not None}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return processes.start(1, "cpu")


@pytest.fixture
def make_model() -> Callable[..., BertForPreTraining]:
    """make_model(dropout=0.0, **sizes): the same weights each time, larger than BERT's start so that no gradient is small."""

    def make(dropout: float = 0.0, **sizes: Any) -> BertForPreTraining:
        torch.manual_seed(11)
        shape: dict[str, Any] = {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
        shape |= {"max_position_embeddings": 32, "initializer_range": 0.2, "hidden_dropout_prob": dropout}
        return BertForPreTraining(EncoderConfig(**(shape | {"attention_probs_dropout_prob": dropout} | sizes)))

    return make


@pytest.fixture
def make_batch() -> Callable[..., PretrainingBatch]:
    """make_batch(seed, lengths, rate=0.3): pairs of random tokens, each masked by its own coin, so that counts differ."""

    def make(seed: int, lengths: Sequence[int], rate: float = 0.3) -> PretrainingBatch:
        generator = np.random.default_rng(seed)
        sizes = np.array(lengths, dtype=np.int64)
        ids = generator.integers(FIRST_ID, VOCAB_SIZE, size=sizes.sum())
        ids[np.cumsum(sizes) - sizes], ids[np.cumsum(sizes) - 1] = CLS, SEP
        segments = np.concatenate([np.arange(size) >= size // 2 for size in sizes])
        masking = Masking(MASK, np.arange(VOCAB_SIZE) < FIRST_ID, rate=rate, mode="bernoulli")
        masked, positions, labels = masking.apply(ids, sizes, randomness.derive(randomness.key(seed), np.arange(len(sizes))))
        return PretrainingBatch(
            **flat_fields(masked, segments, sizes),
            mlm_positions=torch.from_numpy(positions),
            mlm_labels=torch.from_numpy(labels),
            nsp_labels=torch.from_numpy(generator.integers(0, 2, size=len(sizes))),
        )

    return make


@pytest.fixture
def join() -> Callable[..., PretrainingBatch]:
    """join(batches): their sequences, in order, as one flat batch."""

    def joined(batches: Sequence[PretrainingBatch]) -> PretrainingBatch:
        starts = np.cumsum([0] + [batch.num_tokens for batch in batches[:-1]])
        return PretrainingBatch(
            input_ids=torch.cat([batch.input_ids for batch in batches]),
            token_type_ids=torch.cat([batch.token_type_ids for batch in batches]),
            position_ids=torch.cat([batch.position_ids for batch in batches]),
            cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int32), torch.cat([b.cu_seqlens.diff() for b in batches]).cumsum(0).int()]),
            max_seqlen=max(batch.max_seqlen for batch in batches),
            mlm_positions=torch.cat([batch.mlm_positions + int(start) for batch, start in zip(batches, starts, strict=True)]),
            mlm_labels=torch.cat([batch.mlm_labels for batch in batches]),
            nsp_labels=torch.cat([batch.nsp_labels for batch in batches]),
        )

    return joined


@pytest.fixture
def uneven(make_batch: Callable[..., PretrainingBatch]) -> list[PretrainingBatch]:
    """Four micro-batches of very different numbers of sequences, tokens and masked tokens: one step's global batch."""
    return [
        make_batch(1, [9, 14, 7], 0.5),
        make_batch(2, [20], 0.1),
        make_batch(3, [5, 6, 5, 8, 12, 9], 0.4),
        make_batch(4, [16, 3], 0.05),
    ]


@pytest.fixture
def one_step(accelerator: Accelerator) -> Callable[..., tuple[dict[str, Tensor], StepResult]]:
    """one_step(model, batches, clip=1e9, seed=0): what a step of the loop hands its optimizer, unclipped, and what it says of the step."""

    def take(
        model: nn.Module, batches: Sequence[PretrainingBatch], clip: float = 1e9, seed: int = 0
    ) -> tuple[dict[str, Tensor], StepResult]:
        capture, results = Capture(model), list[StepResult]()
        plan = Plan(steps=1, warmup_steps=1, seed=seed, clip=clip, precision="fp32")
        train(model, [capture], Pretraining(), lambda step: batches, plan, accelerator, after_step=results.append)
        assert len(results) == 1
        return capture.gradients, results[0]

    return take
