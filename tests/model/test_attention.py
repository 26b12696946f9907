"""Attention against its own definition, sequence by sequence in double precision; the layout; the CUDA kernel where there is one;
the written-out products of a CPU in bf16 against the fp32 kernel."""

import inspect
import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bertlab.batches.flat import flat_fields
from bertlab.model import attention
from bertlab.model.attention import BF16_LANES, LONGEST_IN_WORDS, MOST_PADDING, Layout, ask, attend, attend_asked, layout
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForPreTraining

HEADS, SIZE = 3, 8
BF16 = 2**-8  # rounding to bf16 changes a number by at most this share of it, in root mean square by at most that / sqrt(3)
lengths_lists = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def bounds(lengths: list[int], device: str = "cpu") -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32)


def flat_layout(lengths: list[int], dtype: torch.dtype = torch.float32, heads: int = HEADS, dropout: float = 0.0) -> Layout:
    return layout(bounds(lengths), max(lengths), heads, dtype, dropout)


def by_definition(qkv: Tensor, lengths: list[int]) -> Tensor:
    """softmax(q k' / sqrt(size)) v, one sequence at a time, no kernel: (T, 3, H, D) -> (T, H * D)."""
    contexts = []
    for sequence in qkv.split(lengths):
        query, key, value = (part.transpose(0, 1) for part in sequence.unbind(1))  # (H, length, D)
        weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(qkv.shape[-1]), dim=-1)
        contexts.append((weights @ value).transpose(0, 1).flatten(1))
    return torch.cat(contexts)


def with_gradient(contexts: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.cos(torch.arange(contexts.numel(), device=contexts.device, dtype=contexts.dtype)).view_as(contexts)
    return contexts.detach(), torch.autograd.grad((contexts * weights).sum(), qkv)[0]


@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [10, 9, 8, 7, 3, 2, 1], [2, 17, 3, 16, 1, 15, 14]])
def test_attention_and_its_gradient_are_those_of_the_definition(lengths: list[int]) -> None:
    qkv = torch.randn(sum(lengths), 3, HEADS, SIZE, dtype=torch.float64, requires_grad=True)
    ours = with_gradient(attend(qkv, flat_layout(lengths, torch.float64), 0.0), qkv)
    torch.testing.assert_close(ours, with_gradient(by_definition(qkv, lengths), qkv), atol=1e-12, rtol=0)


@pytest.mark.parametrize("lengths", [[LONGEST_IN_WORDS], [LONGEST_IN_WORDS + 1, 500, 7], [17, 14, 20]])
def test_long_sequences_in_fp32_and_other_devices_have_the_kernel_and_it_says_the_same(
    lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = torch.randn(sum(lengths), 3, HEADS, SIZE, dtype=torch.float64, requires_grad=True)
    qkv = exact.detach().float().requires_grad_()
    wanted = with_gradient(by_definition(exact, lengths), exact)
    with patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as kernel:
        results = [with_gradient(attend(qkv, flat_layout(lengths), 0.0), qkv)]
        assert kernel.called == (max(lengths) > LONGEST_IN_WORDS)
        kernel.reset_mock()
        with torch.no_grad():
            alone = attend(qkv, flat_layout(lengths), 0.0)
        assert kernel.called
        torch.testing.assert_close(alone.double(), wanted[0], atol=1e-5, rtol=0)
        monkeypatch.setattr(attention, "LONGEST_IN_WORDS", 0)  # as if on another device
        results.append(with_gradient(attend(qkv, flat_layout(lengths), 0.0), qkv))
        assert kernel.called
    for ours in results:
        torch.testing.assert_close(tuple(part.double() for part in ours), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [0, 10, 9, 8, 7, 0, 3, 2, 1], [2, 17, 3, 16, 1, 15, 14], [40, 3, 37]])
def test_asked_tokens_have_their_contexts_among_all(lengths: list[int], dtype: torch.dtype, tolerance: float) -> None:
    """Of one token, of none of a sequence, of all in another order, of one token four times; and the gradients."""
    torch.manual_seed(0)
    where = flat_layout(lengths, dtype)
    qkv = torch.randn(sum(lengths), 3, HEADS, SIZE).to(dtype).requires_grad_()
    every = torch.arange(sum(lengths))
    for places in (every[:1], every.flip(0), every[::3].repeat(4), bounds(lengths)[-2:-1].long()):
        asked = ask(where, places)
        assert asked.packing is not None and len(asked.packing.contexts.places.unique()) == HEADS * len(places)
        some = attend_asked(qkv[places, 0], qkv[:, 1:], asked, 0.0)
        for ours, theirs in zip(with_gradient(some, qkv), with_gradient(attend(qkv, where, 0.0)[places], qkv), strict=True):
            assert (ours - theirs).norm() <= tolerance * theirs.norm()


def test_a_sequence_has_no_more_rows_of_queries_than_its_group_asks_for() -> None:
    asked = ask(flat_layout([20, 19, 5, 18], heads=1), torch.tensor([0, 1, 25, 40, 60]))
    assert asked.packing is not None
    # two of the first sequence, one of the second and the fourth, each beside a row that nobody reads; one of the third
    assert [(group.batch, group.asking, group.length) for group in asked.packing.groups] == [(3, 2, 20), (1, 1, 5)]
    assert asked.packing.contexts.places.tolist() == [0, 1, 2, 6, 4] and asked.packing.contexts.padding.tolist() == [3, 5]
    assert asked.packing.parts.places[:5].tolist() == [0, 1, 2, 126, 4]  # the second group's begins after 3 * (2 + 20 + 20) rows


def test_in_bf16_words_a_group_is_as_long_as_the_processor_likes() -> None:
    where = flat_layout([40, 33, 17, 16, 3], torch.bfloat16)
    assert where.packing is not None
    assert [(group.batch, group.length) for group in where.packing.groups] == [(2 * HEADS, 48), (2 * HEADS, 32), (HEADS, 16)]
    assert BF16_LANES == 16


def test_scores_are_divided_by_the_root_of_the_head_size() -> None:
    # the first token: q = (2 ln 3, 0, 0, 0), keys (1, 0, 0, 0) and 0, so the scores over sqrt(4) are ln 3 and 0, the weights 3/4 and 1/4
    qkv = torch.zeros(2, 3, 1, 4)
    qkv[0, 0, 0, 0] = 2 * math.log(3)
    qkv[0, 1, 0, 0] = 1
    qkv[0, 2, 0, 0] = 8  # values (8, 0, 0, 0) and 0; the second token's query is 0, its weights 1/2 and 1/2
    torch.testing.assert_close(attend(qkv, flat_layout([2], heads=1), 0.0), torch.tensor([[6.0, 0, 0, 0], [4.0, 0, 0, 0]]))


def packing_of(lengths: list[int], heads: int = HEADS) -> attention.Packing:
    packing = flat_layout(lengths, heads=heads).packing
    assert packing is not None
    return packing


@settings(deadline=None)
@given(lengths_lists)
def test_every_row_has_one_place_and_those_of_a_head_in_a_sequence_stay_together(lengths: list[int]) -> None:
    packing = packing_of(lengths)
    for rows, of in ((packing.parts, 3 * HEADS), (packing.contexts, HEADS)):
        places = rows.places.view(-1, of)
        assert len(rows.places.unique()) == of * sum(lengths) == len(rows.taken) - len(rows.padding)
        assert not set(rows.places.tolist()) & set(rows.padding.tolist())
        flat = torch.randn(of * sum(lengths), 2)
        assert torch.equal(rows.gathered(rows.spread(flat)), flat)
        assert not rows.spread(flat)[rows.padding].any()
        for sequence in places.split(lengths):
            assert torch.equal(sequence, sequence[0] + torch.arange(len(sequence))[:, None])


@settings(deadline=None)
@given(lengths_lists)
def test_groups_pad_no_sequence_by_more_than_their_share_and_mask_just_the_padding(lengths: list[int]) -> None:
    packing = packing_of(lengths)
    ones = torch.ones(3 * HEADS * sum(lengths), 1)
    views = packing.views(packing.parts.spread(ones), packing.contexts.spread(ones[: HEADS * sum(lengths)]))
    held = 0
    for group, parts in zip(packing.groups, views, strict=True):
        assert group.asking == group.length and group.batch % HEADS == 0
        for part in parts:
            assert part.shape == (group.batch, group.length, 1)
        real = parts[1].flatten(1).bool()
        assert all(torch.equal(real, part.flatten(1).bool()) for part in parts)
        filled = real.sum(1)
        held += int(filled.sum())
        assert filled.max() == group.length and filled.min() >= (1 - MOST_PADDING) * group.length
        if group.added is None:
            assert real.all()
        else:
            assert group.added.shape == (group.batch, 1, group.length)
            assert torch.equal(group.added[:, 0], torch.zeros(real.shape).masked_fill(~real, float("-inf"))) and not real.all()
    assert held == HEADS * sum(lengths)


def test_a_sequence_of_four_fifths_joins_the_group_and_a_shorter_one_does_not() -> None:
    assert [(group.batch, group.length) for group in packing_of([8, 10], 1).groups] == [(2, 10)]
    assert [(group.batch, group.length) for group in packing_of([7, 10], 1).groups] == [(1, 10), (1, 7)]
    assert [(group.batch, group.length, group.added) for group in packing_of([6, 6, 6], 1).groups] == [(3, 6, None)]


@pytest.mark.parametrize("in_words", [True, False])
def test_dropout_falls_on_the_weights_and_keeps_their_mean(in_words: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_words:
        monkeypatch.setattr(attention, "LONGEST_IN_WORDS", 0)
    # no scores, so every weight is 1/4; value j is the unit vector j, so entry (i, j) of the context is that weight: dropped, or doubled
    qkv = torch.zeros(500, 4, 3, 1, 4)
    qkv[:, :, 2, 0] = torch.eye(4)
    where = flat_layout([4] * 500, heads=1, dropout=0.5)
    torch.manual_seed(0)
    contexts = attend(qkv.flatten(0, 1), where, 0.5).view(500, 4, 4)
    assert set(contexts.unique().tolist()) == {0.0, 0.5}
    torch.testing.assert_close(contexts.mean(0), torch.full((4, 4), 0.25), atol=0.06, rtol=0)  # 5 sigma
    torch.testing.assert_close(attend(qkv[0], flat_layout([4], heads=1), 0.0), torch.full((4, 4), 0.25))


def test_with_dropout_the_gradients_are_those_of_the_mask_that_was_drawn() -> None:
    qkv = torch.randn(9, 3, 2, 3, dtype=torch.float64, requires_grad=True)

    def contexts(qkv: Tensor) -> Tensor:
        torch.manual_seed(1)
        return attend(qkv, flat_layout([4, 2, 3], torch.float64, 2, 0.3), 0.3)

    assert not torch.equal(contexts(qkv), attend(qkv, flat_layout([4, 2, 3], torch.float64, 2), 0.0))
    assert torch.autograd.gradcheck(contexts, qkv)  # by finite differences


def test_no_dtype_and_no_dropout_chooses_the_cuda_kernel_on_the_cpu() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for dropout in (0.0, 0.1):
            assert flat_layout([3, 2], dtype, dropout=dropout).packing


def test_the_varlen_kernel_is_handed_queries_keys_values_and_the_sequence_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA path with the kernel replaced by the definition, so that its wiring is checked on any machine."""
    from torch.nn.attention import varlen

    lengths = [6, 2, 9, 1]
    signature = inspect.signature(varlen.varlen_attn)

    def kernel(*args: object, **kwargs: object) -> Tensor:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        own = given.arguments
        assert torch.equal(own["cu_seq_q"], bounds(lengths)) and torch.equal(own["cu_seq_k"], bounds(lengths))
        assert own["max_q"] == own["max_k"] == 9
        assert own["scale"] is None and own["window_size"] == (-1, -1)  # 1 / sqrt(size), and no causal mask
        qkv = torch.stack([own["query"], own["key"], own["value"]], dim=1)
        return by_definition(qkv, lengths).view(-1, HEADS, SIZE)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    qkv = torch.randn(sum(lengths), 3, HEADS, SIZE, dtype=torch.float64, requires_grad=True)
    ours = with_gradient(attend(qkv, Layout(bounds(lengths), max(lengths)), 0.0), qkv)
    torch.testing.assert_close(ours, with_gradient(by_definition(qkv, lengths), qkv), atol=1e-12, rtol=0)


def padded(flat: Tensor, lengths: list[int]) -> Tensor:
    """(T, H, D) -> (N, H, longest, D), 0 at padding."""
    return torch.nn.utils.rnn.pad_sequence(list(flat.split(lengths)), batch_first=True).transpose(1, 2)


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 17, 16, 18], [128, 110]])
def test_in_bf16_words_attention_is_the_fp32_kernel_s_but_for_the_roundings(lengths: list[int], size: int) -> None:
    """On inputs that bf16 holds exactly: so each difference is a rounding of what is stored in between, or of the result."""
    torch.manual_seed(0)
    longest = max(lengths)
    real = (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None, :]
    mask = None if real.all() else real
    # scores well below 1, so that a share of a score is no more of its weight
    spread = torch.tensor([0.5, 0.5, 1, 1])[:, None, None]
    *parts, upstream = torch.randn(sum(lengths), 4, HEADS, size).mul(spread).bfloat16().unbind(1)
    low = torch.stack(parts, 1).requires_grad_()
    exact = [padded(part, lengths).float().requires_grad_() for part in parts]
    ours = attend(low, layout(bounds(lengths), longest, HEADS, torch.bfloat16, 0.0), 0.0)
    kernel = F.scaled_dot_product_attention(exact[0], exact[1], exact[2], attn_mask=mask) * real[:, :, 0, :, None]
    assert ours.dtype == torch.bfloat16

    # the worst case, number by number: the scaled query and the score err by BF16 each, of at most |q| |k| / sqrt(size); a weight by the
    # exponential of twice that, for it is divided by a sum that errs as well, and by its rounding; the context by its own; one to spare
    q, k, v = (part.detach() for part in exact)
    scores = (q @ k.transpose(2, 3) / math.sqrt(size)).masked_fill(~real, float("-inf"))
    largest = (q.abs() @ k.abs().transpose(2, 3) / math.sqrt(size) * real).amax(-1, keepdim=True)
    worst = torch.expm1(4 * BF16 * largest + 3 * BF16) * (torch.softmax(scores, -1) @ v.abs())
    assert ((padded(ours.view(-1, HEADS, size), lengths) - kernel).abs() <= worst).all()

    # the usual case, over all numbers: n roundings err together by sqrt(n / 3) of BF16. Context and gradient of the values come of four
    # (query, scores, weights, result), gradients of queries and keys of eight (the upstream's products and softmax, and the scale, as well)
    (gradient,) = torch.autograd.grad(ours, low, upstream.flatten(1))
    results = [padded(part.view(-1, HEADS, size), lengths) for part in (ours, *gradient.unbind(1))]
    wanted = [kernel, *torch.autograd.grad(kernel, exact, padded(upstream, lengths).float())]
    for result, right, roundings in zip(results, wanted, (4, 8, 8, 4), strict=True):
        assert result.dtype == torch.bfloat16
        error, whole = (part.detach().square().mean().sqrt() for part in (result - right, right))
        assert error <= math.sqrt(roundings / 3) * BF16 * whole


@pytest.mark.parametrize("lengths", [[12, 12, 12], [10, 9, 8, 10, 3, 2, 1], [40, 33, 7, 36]])
def test_in_bf16_words_a_neighbour_changes_no_bit(lengths: list[int]) -> None:
    """Other numbers, infinities or NaN in a sequence: the others' contexts and gradients stay as they were, and meet no gradient of it."""
    torch.manual_seed(0)
    where = flat_layout(lengths, torch.bfloat16)
    qkv = torch.randn(sum(lengths), 3, HEADS, SIZE).bfloat16().requires_grad_()
    upstream = torch.randn(sum(lengths), HEADS * SIZE).bfloat16()
    context = attend(qkv, where, 0.0)
    before = [context.split(lengths), torch.autograd.grad(context, qkv, upstream)[0].split(lengths)]
    for changed in range(len(lengths)):
        for number in (None, float("inf"), float("nan")):
            parts = list(qkv.detach().split(lengths))
            parts[changed] = parts[changed] * -3 + 1 if number is None else torch.full_like(parts[changed], number)
            other = torch.cat(parts).requires_grad_()
            context = attend(other, where, 0.0)
            after = [context.split(lengths), torch.autograd.grad(context, other, upstream)[0].split(lengths)]
            for old, new in zip(before, after, strict=True):
                assert all(torch.equal(old[sequence], new[sequence]) for sequence in range(len(lengths)) if sequence != changed)
            assert not torch.equal(before[0][changed], after[0][changed])
    (gradient,) = torch.autograd.grad(attend(qkv, where, 0.0).split(lengths)[1], qkv, upstream.split(lengths)[1])
    for sequence, part in enumerate(gradient.split(lengths)):
        assert part.any() == (sequence == 1)


def test_in_bf16_words_a_token_alone_is_its_own_context() -> None:
    qkv = torch.randn(5, 3, HEADS, SIZE).bfloat16()
    where = flat_layout([1, 3, 1], torch.bfloat16)
    assert torch.equal(attend(qkv, where, 0.0)[[0, 4]], qkv[[0, 4], 2].flatten(1))


@pytest.mark.parametrize(("dropout", "falling"), [(0.1, 6554), (0.25, 16384), (0.5, 32768)])
def test_in_bf16_words_dropout_falls_on_its_share_of_the_weights_and_keeps_their_mean(dropout: float, falling: int) -> None:
    # no scores, so every weight is 1/4; value j is the unit vector j, so entry (i, j) of the context is that weight: dropped, or scaled
    number, share = 2000, falling / 2**16
    qkv = torch.zeros(number, 4, 3, 1, 4)
    qkv[:, :, 2, 0] = torch.eye(4)
    low = qkv.flatten(0, 1).bfloat16().requires_grad_()
    where = flat_layout([4] * number, torch.bfloat16, 1, dropout)
    torch.manual_seed(0)
    upstream = torch.randn(number, 4, 4).bfloat16()
    contexts = attend(low, where, dropout).view(number, 4, 4)
    assert set(contexts.unique().tolist()) == {0.0, torch.tensor(0.25 / (1 - share)).bfloat16().item()}
    zeros = (contexts == 0).sum(0)
    sigma = math.sqrt(share * (1 - share))
    assert abs(int(zeros.sum()) - 16 * number * share) <= 5 * sigma * math.sqrt(16 * number)
    assert ((zeros - number * share).abs() <= 5 * sigma * math.sqrt(number)).all()
    mean = contexts.detach().double().mean().item()
    assert mean == pytest.approx(0.25, abs=0.25 * (5 * sigma / (1 - share) / math.sqrt(16 * number) + BF16))
    # what a gradient meets are the same dropped weights: of the values, (weights)' upstream
    (gradient,) = torch.autograd.grad(contexts, low, upstream)
    exact = contexts.detach().float().transpose(1, 2) @ upstream.float()
    torch.testing.assert_close(gradient.view(number, 4, 3, 4)[:, :, 2].float(), exact, atol=1e-6, rtol=BF16)


def test_a_whole_model_under_bf16_autocast_agrees_with_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradients, by the norm of the difference against the norm; measured: 0.0055, 0.0075, 0.018 and 0.043, the kernel's own
    0.0056, 0.0072, 0.019 and 0.049. Twice that is allowed, for other processors."""
    lengths, draw = np.array([128, 3, 77, 1, 128, 64, 30, 2, 115]), np.random.default_rng(0)
    fields = flat_fields(draw.integers(1, 500, lengths.sum()), draw.integers(0, 2, lengths.sum()), lengths)
    positions = torch.from_numpy(draw.choice(lengths.sum(), 60, replace=False)).sort().values
    labels = torch.from_numpy(draw.integers(0, 500, 60)), torch.from_numpy(draw.integers(0, 2, len(lengths)))
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 128}
    model = BertForPreTraining(EncoderConfig(vocab_size=500, hidden_dropout_prob=0.0, **sizes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # far from BERT's start, where attention is a mean of all tokens
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.25, generator=generator)

    def logits_and_gradients(low: bool) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            logits = model(mlm_positions=positions, **fields)
        torch.stack([F.cross_entropy(part.float(), answers) for part, answers in zip(logits, labels, strict=True)]).sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        return logits, gradients

    def apart(ours: Tensor, right: Tensor) -> float:
        return ((ours - right).norm() / right.norm()).item()

    logits, gradients = logits_and_gradients(low=False)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *_, **__: pytest.fail("in bf16 on a CPU the kernel is the slower way"))
    low_logits, low_gradients = logits_and_gradients(low=True)
    assert [part.dtype for part in low_logits] == [torch.bfloat16] * 2
    assert apart(low_logits[0], logits[0]) < 0.011
    assert apart(low_logits[1], logits[1]) < 0.015
    flat, low_flat = (torch.cat([part.flatten() for part in each.values()]) for each in (gradients, low_gradients))
    assert apart(low_flat, flat) < 0.036
    for name, gradient in gradients.items():
        # a softmax does not see what all its scores share
        assert name.endswith("key.bias") or apart(low_gradients[name], gradient) < 0.09, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn runs on CUDA only, and there is no GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [32, 64])
def test_the_varlen_kernel_equals_grouped_attention_and_the_definition(dtype: torch.dtype, size: int) -> None:
    lengths = [128, 3, 77, 1, 128, 64, 30, 2]
    exact = torch.randn(sum(lengths), 3, HEADS, size).to(dtype).double()
    half = exact.to("cuda", dtype).requires_grad_()
    cu_seqlens = bounds(lengths, "cuda")
    kernel, grouped = (layout(cu_seqlens, 128, HEADS, dtype, dropout) for dropout in (0.0, 0.1))
    assert kernel.packing is None and grouped.packing is not None  # attention dropout has no varlen kernel
    assert layout(cu_seqlens, 128, HEADS, torch.float32, 0.0).packing is not None
    definition = with_gradient(by_definition(exact.requires_grad_(), lengths), exact)
    for where in (kernel, grouped):
        ours = with_gradient(attend(half, where, 0.0), half)
        for result, wanted in zip(ours, definition, strict=True):
            torch.testing.assert_close(result.cpu().double(), wanted, atol=2e-2, rtol=2e-2)
