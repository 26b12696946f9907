"""The contrastive loss against hand values and sentence-transformers, and gradient caching against the plain gradient."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.batches.flat import flat_fields
from bertlab.batches.labelled import Examples
from bertlab.batches.masking import Masking
from bertlab.batches.sentence_groups import Classes, GroupBatch, Groups, InMemory
from bertlab.model.encoder import Bert, EncoderConfig
from bertlab.model.heads import BertForPreTraining
from bertlab.training import contrastive, processes
from bertlab.training.contrastive import Contrast, TextVectors, contrast_loss
from bertlab.training.loop import Plan, StepResult, train
from tests.training.conftest import Capture


def batch_of(anchors: int, sequences: int, *, texts: Sequence[int] = (), classes: Sequence[int] = ()) -> GroupBatch:
    """A batch for losses alone: what its tokens are does not matter."""
    return GroupBatch(
        **flat_fields(np.arange(sequences), np.zeros(sequences, np.int64), np.ones(sequences, np.int64)),
        texts=torch.tensor(texts or range(sequences)),
        classes=torch.tensor(classes or range(anchors)),
    )


def examples(count: int, longest: int = 14, seed: int = 0) -> Examples:
    """Texts of random ids from 5 to 49, between 1 and 2."""
    draw = np.random.default_rng(seed)
    texts = [[1, *draw.integers(5, 50, draw.integers(1, longest - 1)), 2] for _ in range(count)]
    offsets = np.cumsum([0, *map(len, texts)])
    ids = np.concatenate(texts).astype(np.int32)
    return Examples(ids, np.zeros(len(ids), np.int8), offsets, np.full(count, -1), 0)


def config(dropout: float = 0.0) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=16,
        initializer_range=0.2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip


def model(dropout: float, micro_tokens: int, pooling: str = "mean") -> TextVectors:
    torch.manual_seed(0)
    return TextVectors(Bert(config(dropout)), pooling, micro_tokens).double().train()  # type: ignore[arg-type]


def gradients(of: TextVectors, batch: GroupBatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    Contrast(temperature=0.05).losses(of, batch).sum().backward()
    return {name: value.grad for name, value in of.named_parameters() if value.grad is not None}


# ---- the loss


def test_the_loss_of_two_pairs_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.5, 0.5]])
    loss = contrast_loss(vectors, batch_of(2, 4), 0.5)
    near, far = 1.0, math.sqrt(0.5)  # of anchor 0 to its positive and the other; anchor 1: far to its own, 0 to the other
    expected = -math.log(math.exp(2 * near) / (math.exp(2 * near) + math.exp(2 * far)))
    expected -= math.log(math.exp(2 * far) / (math.exp(2 * far) + math.exp(0)))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_a_text_with_nothing_but_its_like_has_no_loss():
    vectors = torch.randn(4, 8)
    assert float(contrast_loss(vectors, batch_of(2, 4, classes=[3, 3]), 0.05, symmetric=True)) == 0
    assert float(contrast_loss(vectors, batch_of(2, 4, texts=[0, 1, 2, 2]), 0.05, symmetric=True)) == 0
    assert float(contrast_loss(vectors, batch_of(2, 4), 0.05, symmetric=True)) > 0


def test_a_positive_does_not_choose_among_anchors_equal_to_it():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [1.0, 0.0]])
    loss = contrast_loss(vectors, batch_of(2, 4, texts=[0, 1, 2, 0]), 1.0, symmetric=True)  # the second positive is the first anchor's text
    there = -math.log(math.exp(0) / (math.exp(0.6) + math.exp(0)))  # the second anchor among both positives, the first has but its own
    back = -math.log(math.exp(0.8) / (math.exp(0.8) + math.exp(0.6)))  # the first positive among both anchors, the second has but its own
    assert float(loss) == pytest.approx((there + back) / 2, rel=1e-6)


def test_matryoshka_sums_the_losses_of_prefixes_scaled_after_the_cut():
    vectors = torch.randn(6, 8)
    whole = contrast_loss(vectors, batch_of(3, 6), 0.1, dims=(8, 4, 2))
    parts = [contrast_loss(vectors[:, :width], batch_of(3, 6), 0.1) for width in (8, 4, 2)]
    assert float(whole) == pytest.approx(float(sum(parts)), rel=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("negatives", [0, 1, 2])
def test_loss_and_gradient_are_those_of_sentence_transformers(symmetric, negatives):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="sentence-transformers is not installed")
    ways = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if symmetric else {}
    plain = losses.MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0, **ways)
    columns = [torch.randn(5, 16, dtype=torch.float64).requires_grad_() for _ in range(2 + negatives)]
    theirs = plain.compute_loss_from_embeddings(columns, torch.arange(5))
    wanted = torch.autograd.grad(theirs, columns)
    ours = contrast_loss(torch.cat(columns), batch_of(5, 5 * len(columns)), 0.05, symmetric=symmetric) / 5
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-10)
    for found, expected in zip(torch.autograd.grad(ours, columns), wanted, strict=True):
        assert torch.allclose(found, expected, atol=1e-10)


def test_matryoshka_is_that_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="sentence-transformers is not installed")
    columns = [torch.randn(4, 16, dtype=torch.float64) for _ in range(2)]
    plain = losses.MultipleNegativesRankingLoss(model=torch.nn.Identity())
    theirs = sum(
        plain.compute_loss_from_embeddings([F.normalize(each[:, :width]) for each in columns], torch.arange(4)) for width in (16, 8)
    )
    assert float(contrast_loss(torch.cat(columns), batch_of(4, 8), 0.05, dims=(16, 8))) / 4 == pytest.approx(float(theirs), abs=1e-10)


# ---- gradient caching


@pytest.mark.parametrize("micro_tokens", [1, 40, 90, 200])
def test_a_cached_gradient_is_that_of_the_whole_batch(micro_tokens):
    batch = Groups(InMemory(examples(40)), 2, 16, 0).batch(0)
    whole = gradients(model(0.0, 10**6), batch)
    cached = gradients(model(0.0, micro_tokens), batch)
    assert whole.keys() == cached.keys() and max(float(each.abs().max()) for each in whole.values()) > 1e-2
    assert max(float((whole[name] - cached[name]).abs().max()) for name in whole) < 1e-6


@pytest.mark.parametrize("micro_tokens", [40, 90])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_way_back_meets_the_same_dropout_masks(micro_tokens, pooling, monkeypatch):
    batch = Groups(InMemory(examples(16)), 1, 16, 0).batch(0)
    cached = gradients(model(0.1, micro_tokens, pooling), batch)
    monkeypatch.setattr(
        contrastive, "checkpoint", lambda compute, chunk, use_reentrant: compute(chunk)
    )  # the same chunks, their states kept
    plain = gradients(model(0.1, micro_tokens, pooling), batch)
    assert max(float((plain[name] - cached[name]).abs().max()) for name in plain) < 1e-6


def test_the_states_of_one_chunk_alone_are_there_at_once():
    """Counted by the tensors that the way back keeps."""
    batch = Groups(InMemory(examples(64)), 1, 64, 0).batch(0)

    def kept(micro_tokens: int) -> int:
        sizes: list[int] = []

        def saved(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        of = model(0.1, micro_tokens)
        with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            of(batch)
        return sum(sizes)

    assert kept(100) < kept(10**6) / 20


def test_the_same_sentence_twice_has_two_vectors_by_dropout_and_one_without():
    batch = Groups(InMemory(examples(4)), 1, 4, 0).batch(0)
    with_dropout, without = model(0.1, 10**6)(batch), model(0.0, 10**6)(batch)
    assert not torch.allclose(with_dropout[:4], with_dropout[4:], atol=1e-2)
    assert torch.allclose(without[:4], without[4:], atol=1e-10)


# ---- masked words beside it


def test_masked_words_add_their_weighted_mean():
    groups = Groups(InMemory(examples(8)), 1, 8, 0)
    special = np.zeros(50, dtype=bool)
    special[:5] = True
    torch.manual_seed(0)
    both = TextVectors(BertForPreTraining(config()), "mean", 24).eval()
    objective = Contrast(temperature=0.05, mlm_weight=0.1)
    masked = list(groups.masked(0, Masking(3, special), 24))
    batches = [groups.batch(0), *masked]
    assert objective.names == ("contrast_loss", "weighted_mlm_loss")
    counts = np.array([objective.counts(batch) for batch in batches])
    sums = torch.stack([objective.losses(both, batch) for batch in batches])
    assert counts[0].tolist() == [8, 0] and (counts[1:, 0] == 0).all() and len(masked) > 1
    assert float(sums[0, 1].detach()) == 0 and float(sums[1:, 0].abs().sum().detach()) == 0
    (whole,) = groups.masked(0, Masking(3, special), 10**6)
    states = both.bert(**whole.encoder_inputs())[whole.mlm_positions]
    logits = both.model.cls.predictions(states, both.bert.embeddings.word_embeddings.weight)  # type: ignore[operator, union-attr]
    expected = 0.1 * F.cross_entropy(logits, whole.mlm_labels)
    assert float((sums[:, 1].sum() / counts[:, 1].sum()).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_loss_of_a_step_can_be_learnt():
    groups = Groups(InMemory(examples(12)), 1, 12, 0, Classes.of_numbers(np.arange(12) % 3))
    of, objective = model(0.1, 60), Contrast(temperature=0.05, symmetric=True, dims=(32, 8))
    optimizer = torch.optim.AdamW(of.parameters(), lr=3e-3)
    seen = []
    for step in range(12):
        loss = objective.losses(of, groups.batch(step)).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(loss.detach()))
    assert np.mean(seen[-3:]) < 0.7 * np.mean(seen[:3])


# ---- several processes

SPECIAL = np.arange(50) < 5
PROCESSES: dict[str, dict[str, Any]] = {  # the texts, the batch, the loss
    "the same twice, one chunk": {"columns": 1, "micro_tokens": 10**6},
    "pairs and masked words": {"columns": 2, "mlm_weight": 0.3, "micro_tokens": 40},
    "triplets, both ways, cut vectors": {"columns": 3, "symmetric": True, "dims": (32, 8)},
    "classes": {"columns": 1, "classes": Classes.of_numbers(np.arange(24) % 5)},
    "fewer texts than processes": {"columns": 2, "batch_size": 2, "mlm_weight": 0.3},
}


def step_of(name: str, folder: Path, dropout: float = 0.0) -> dict[str, Any]:
    """What a step of the loop says of itself in this process, and in `folder` the gradients that it gave the optimizer."""
    case = {"micro_tokens": 90, "batch_size": 8, "classes": None, "mlm_weight": 0.0} | PROCESSES[name]
    accelerator = processes.start(None, "cpu", all_parts=False)
    mine = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    torch.manual_seed(0)
    encoder = BertForPreTraining(config(dropout)) if case["mlm_weight"] else Bert(config(dropout))
    model = TextVectors(encoder, "mean", case["micro_tokens"]).double()
    capture, results = Capture(model), list[StepResult]()
    groups = Groups(InMemory(examples(24)), case["columns"], case["batch_size"], 0, case["classes"])
    masked = groups.masked(0, Masking(3, SPECIAL), 40, **mine) if case["mlm_weight"] else ()
    batches = [groups.batch(0).share(**mine), *masked]
    objective = Contrast(temperature=0.05, **{each: case[each] for each in ("symmetric", "dims", "mlm_weight") if each in case}, **mine)
    plan = Plan(steps=1, warmup_steps=1, seed=5, clip=1e9, precision="fp32")
    train(accelerator.prepare(model), [capture], objective, lambda step: batches, plan, accelerator, after_step=results.append)
    safetensors.torch.save_file(capture.gradients, folder / f"{name}.safetensors")
    (result,) = results
    return {each: getattr(result, each) for each in ("losses", "counts", "grad_norm", "tokens", "sequences")}


@pytest.mark.parametrize("ranks", [2, 5])
def test_several_processes_have_the_losses_and_gradients_of_one(ranks, in_processes, tmp_path):
    def work(rank: int) -> dict[str, Any]:
        (tmp_path / str(rank)).mkdir()
        return {name: step_of(name, tmp_path / str(rank)) for name in PROCESSES}

    told = in_processes(ranks, work)
    for name in PROCESSES:
        alone = step_of(name, tmp_path)
        gradients = safetensors.torch.load_file(tmp_path / f"{name}.safetensors")
        assert alone["counts"]["contrast_loss"] in (8, 2) and alone["grad_norm"] > 1e-2
        for rank in range(ranks):
            assert told[rank][name] == {
                each: pytest.approx(value, rel=1e-6) if each in ("losses", "grad_norm") else value for each, value in alone.items()
            }
            theirs = safetensors.torch.load_file(tmp_path / str(rank) / f"{name}.safetensors")
            assert theirs.keys() == gradients.keys()
            largest = max(float((theirs[key] - gradients[key]).abs().max()) for key in gradients)
            assert largest < (1e-6 if "mlm_weight" in PROCESSES[name] else 1e-10)  # the loss of masked words is in fp32


def test_a_text_that_two_processes_embed_has_another_vector_in_each(in_processes, tmp_path, monkeypatch):
    """The first half of the texts is one's and the second the other's, in the same chunks: only other dropout masks tell them apart."""
    seen: list[Tensor] = []
    loss_of = contrastive.contrast_loss

    def noted(vectors: Tensor, *given: Any, **more: Any) -> Tensor:
        seen.append(vectors.detach())
        return loss_of(vectors, *given, **more)

    monkeypatch.setattr(contrastive, "contrast_loss", noted)

    def work(rank: int) -> list[float]:
        (tmp_path / str(rank)).mkdir()
        step_of("the same twice, one chunk", tmp_path / str(rank), dropout=0.1)
        (vectors,) = seen
        return [float((vectors[row] - vectors[row + 8]).abs().max()) for row in range(8)]

    first, second = in_processes(2, work)
    assert first == second and min(first) > 1e-2
