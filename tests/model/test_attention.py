"""Attention against its own definition, sequence by sequence in double precision; the layout; the CUDA kernel where there is one."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bertlab.model.attention import MOST_PADDING, Layout, attend, layout

HEADS, SIZE = 3, 8
lengths_lists = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def bounds(lengths: list[int], device: str = "cpu") -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32)


def flat_layout(lengths: list[int], dropout: float = 0.0) -> Layout:
    return layout(bounds(lengths), max(lengths), torch.float32, dropout)


def by_definition(qkv: Tensor, lengths: list[int]) -> Tensor:
    """softmax(q k' / sqrt(size)) v, one sequence at a time, no kernel: (T, 3, H, D) -> (T, H * D)."""
    contexts = []
    for sequence in qkv.split(lengths):
        query, key, value = (part.transpose(0, 1) for part in sequence.unbind(1))  # (H, length, D)
        weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(qkv.shape[-1]), dim=-1)
        contexts.append((weights @ value).transpose(0, 1).flatten(1))
    return torch.cat(contexts)


def with_gradient(attention: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.cos(torch.arange(attention.numel(), device=attention.device, dtype=attention.dtype)).view_as(attention)
    return attention.detach(), torch.autograd.grad((attention * weights).sum(), qkv)[0]


@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [10, 9, 8, 7, 3, 2, 1], [2, 17, 3, 16, 1, 15, 14]])
def test_attention_and_its_gradient_are_those_of_the_definition(lengths: list[int]) -> None:
    qkv = torch.randn(sum(lengths), 3, HEADS, SIZE, dtype=torch.float64, requires_grad=True)
    ours = with_gradient(attend(qkv, flat_layout(lengths), 0.0), qkv)
    torch.testing.assert_close(ours, with_gradient(by_definition(qkv, lengths), qkv), atol=1e-12, rtol=0)


def test_scores_are_divided_by_the_root_of_the_head_size() -> None:
    # the first token: q = (2 ln 3, 0, 0, 0), keys (1, 0, 0, 0) and 0, so the scores over sqrt(4) are ln 3 and 0, the weights 3/4 and 1/4
    qkv = torch.zeros(2, 3, 1, 4)
    qkv[0, 0, 0, 0] = 2 * math.log(3)
    qkv[0, 1, 0, 0] = 1
    qkv[0, 2, 0, 0] = 8  # values (8, 0, 0, 0) and 0; the second token's query is 0, its weights 1/2 and 1/2
    torch.testing.assert_close(attend(qkv, flat_layout([2]), 0.0), torch.tensor([[6.0, 0, 0, 0], [4.0, 0, 0, 0]]))


@settings(deadline=None)
@given(lengths_lists)
def test_every_token_has_one_row_and_sequences_stay_together(lengths: list[int]) -> None:
    where = flat_layout(lengths)
    assert where.rows is not None
    rows = where.rows.tolist()
    assert len(rows) == sum(lengths) == len(set(rows))
    assert all(0 <= row < where.padded_rows for row in rows)
    slots = [group.first + place * group.length for group in where.groups for place in range(group.count)]
    starts = bounds(lengths).tolist()[:-1]
    assert sorted(rows[start] for start in starts) == slots
    for start, length in zip(starts, lengths, strict=True):
        assert rows[start : start + length] == list(range(rows[start], rows[start] + length))


@settings(deadline=None)
@given(lengths_lists)
def test_groups_pad_no_sequence_by_more_than_their_share_and_mask_just_the_padding(lengths: list[int]) -> None:
    where = flat_layout(lengths)
    assert where.rows is not None
    real = torch.zeros(where.padded_rows, dtype=torch.bool)
    real[where.rows] = True
    end = 0
    for group in where.groups:
        assert group.first == end
        end += group.count * group.length
        block = real[group.first : end].view(group.count, group.length)
        filled = block.sum(1)
        assert filled.max() == group.length and filled.min() >= (1 - MOST_PADDING) * group.length
        if group.mask is None:
            assert block.all()
        else:
            assert group.mask.shape == (group.count, 1, 1, group.length)
            assert torch.equal(group.mask[:, 0, 0], block) and not block.all()
    assert end == where.padded_rows


def test_a_sequence_of_four_fifths_joins_the_group_and_a_shorter_one_does_not() -> None:
    assert [(group.count, group.length) for group in flat_layout([8, 10]).groups] == [(2, 10)]
    assert [(group.count, group.length) for group in flat_layout([7, 10]).groups] == [(1, 10), (1, 7)]
    assert [(group.count, group.length, group.mask) for group in flat_layout([6, 6, 6]).groups] == [(3, 6, None)]


def test_dropout_falls_on_the_weights_and_keeps_their_mean() -> None:
    # no scores, so every weight is 1/4; value j is the unit vector j, so entry (i, j) of the context is that weight: dropped, or doubled
    qkv = torch.zeros(500, 4, 3, 1, 4)
    qkv[:, :, 2, 0] = torch.eye(4)
    where = flat_layout([4] * 500, dropout=0.5)
    torch.manual_seed(0)
    contexts = attend(qkv.flatten(0, 1), where, 0.5).view(500, 4, 4)
    assert set(contexts.unique().tolist()) == {0.0, 0.5}
    torch.testing.assert_close(contexts.mean(0), torch.full((4, 4), 0.25), atol=0.06, rtol=0)  # 5 sigma
    torch.testing.assert_close(attend(qkv[0], flat_layout([4]), 0.0), torch.full((4, 4), 0.25))


def test_no_dtype_and_no_dropout_chooses_the_cuda_kernel_on_the_cpu() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for dropout in (0.0, 0.1):
            assert layout(bounds([3, 2]), 3, dtype, dropout).groups


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn runs on CUDA only, and there is no GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [32, 64])
def test_the_varlen_kernel_equals_grouped_attention_and_the_definition(dtype: torch.dtype, size: int) -> None:
    lengths = [128, 3, 77, 1, 128, 64, 30, 2]
    exact = torch.randn(sum(lengths), 3, HEADS, size).to(dtype).double()
    half = exact.to("cuda", dtype).requires_grad_()
    cu_seqlens = bounds(lengths, "cuda")
    kernel, grouped = layout(cu_seqlens, 128, dtype, 0.0), layout(cu_seqlens, 128, dtype, 0.1)
    assert not kernel.groups and grouped.groups  # attention dropout has no varlen kernel
    assert layout(cu_seqlens, 128, torch.float32, 0.0).groups
    definition = with_gradient(by_definition(exact.requires_grad_(), lengths), exact)
    for where in (kernel, grouped):
        ours = with_gradient(attend(half, where, 0.0), half)
        for result, wanted in zip(ours, definition, strict=True):
            torch.testing.assert_close(result.cpu().double(), wanted, atol=2e-2, rtol=2e-2)
