"""Multi-head self-attention over flat sequences: the one place that knows kernels.

softmax(q k' / sqrt(head size)) v within each sequence and never across (Vaswani et al. 2017). Which kernel:

- CUDA in bf16 or fp16 without dropout on the attention weights: `torch.nn.attention.varlen.varlen_attn`.
- without training, in batches sorted by length (`runs`): over neighbours of one length, so that nothing is padded or copied, and what a
  sequence gets depends on its own length and on no other sequence.
- everywhere else over groups of sequences of like length, each padded to the longest of its group and the padding masked:
  scaled_dot_product_attention, but on a CPU in bf16 the two products and the softmax in plain words, which the processor's
  bf16 instructions make 3 times as fast (docs/performance.md).

A `Layout` holds what the first and the last need; it is made once a batch and used by every layer.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.model.dropout import dropped

# A group is cut where its longest sequence would pad the next one by more than this share: padding costs, so do many small products.
MOST_PADDING = 0.2
# A CPU's products in bf16 are up to a quarter faster over a multiple of this (docs/performance.md): there a group's length is one.
BF16_LANES = 16


@dataclass(frozen=True)
class Group:
    """Sequences padded to one length: rows [first, first + count * length) of the padded buffer.

    mask (count, 1, 1, length) is True at real tokens; None when every sequence is that long. members (count,): which sequences these are.
    """

    first: int
    count: int
    length: int
    mask: Tensor | None
    members: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """Where the sequences of a flat batch lie.

    With `groups` empty the varlen kernel is used; else rows (T,) sends each token to its row of the padded buffer.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    groups: tuple[Group, ...] = ()
    rows: Tensor | None = None
    padded_rows: int = 0


@dataclass(frozen=True)
class Asked:
    """The tokens whose contexts somebody reads: places (M,) into the T tokens.

    Where there are groups, each has `most` queries a sequence, and rows (M,) sends each place to its row of a padded buffer of queries.
    """

    places: Tensor
    rows: Tensor | None = None
    most: tuple[int, ...] = ()


def layout(cu_seqlens: Tensor, max_seqlen: int, dtype: torch.dtype, dropout: float) -> Layout:
    """Choose the kernel by device, dtype and dropout, and lay the sequences out for it."""
    if cu_seqlens.is_cuda and dtype in (torch.bfloat16, torch.float16) and dropout == 0.0:
        return Layout(cu_seqlens, max_seqlen)
    bounds = cu_seqlens.tolist()
    lengths = [end - start for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    groups: list[Group] = []
    row_of_sequence = [0] * len(lengths)
    padded_rows = 0
    multiple = BF16_LANES if dtype == torch.bfloat16 and not cu_seqlens.is_cuda else 1
    for members in _like_lengths(lengths):
        longest = -(-lengths[members[0]] // multiple) * multiple
        for place, sequence in enumerate(members):
            row_of_sequence[sequence] = padded_rows + place * longest
        mask = None
        if lengths[members[-1]] < longest:
            real = torch.tensor([lengths[sequence] for sequence in members])
            mask = (torch.arange(longest) < real[:, None])[:, None, None, :].to(cu_seqlens.device)
        groups.append(Group(padded_rows, len(members), longest, mask, torch.tensor(members, device=cu_seqlens.device)))
        padded_rows += len(members) * longest
    shift = torch.tensor(row_of_sequence) - torch.tensor(bounds[:-1])
    rows = torch.arange(bounds[-1]) + torch.repeat_interleave(shift, torch.tensor(lengths))
    return Layout(cu_seqlens, max_seqlen, tuple(groups), rows.to(cu_seqlens.device), padded_rows)


def _like_lengths(lengths: list[int]) -> list[list[int]]:
    """Sequence numbers, longest first, in groups that waste at most MOST_PADDING of any member's longest."""
    groups: list[list[int]] = []
    for sequence in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if not lengths[sequence]:
            break
        if groups and lengths[sequence] >= (1 - MOST_PADDING) * lengths[groups[-1][0]]:
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
    return groups


def ask(where: Layout, places: Tensor) -> Asked:
    """Lay out the queries of `places`, in any order and also twice."""
    if not where.groups:
        return Asked(places)
    sequences = torch.searchsorted(where.cu_seqlens[1:].long(), places, right=True)
    number = torch.bincount(sequences, minlength=len(where.cu_seqlens) - 1)
    order = sequences.argsort(stable=True)
    rows = torch.empty_like(places)
    rows[order] = torch.arange(len(places), device=places.device) - (number.cumsum(0) - number)[sequences[order]]  # within a sequence
    first, begin, most = torch.zeros_like(number), 0, []
    for group in where.groups:
        assert group.members is not None
        most.append(max(1, int(number[group.members].max())))
        first[group.members] = begin + most[-1] * torch.arange(group.count, device=places.device)
        begin += most[-1] * group.count
    return Asked(places, rows + first[sequences], tuple(most))


def attend(qkv: Tensor, where: Layout, dropout: float) -> Tensor:
    """Self-attention of flat tokens: qkv (T, 3, H, D) -> context (T, H * D). `dropout` falls on the attention weights."""
    tokens, _, heads, size = qkv.shape
    if not where.groups:
        from torch.nn.attention.varlen import varlen_attn  # torch >= 2.11 with CUDA; absent kernels elsewhere

        query, key, value = qkv.unbind(1)
        context = varlen_attn(query, key, value, where.cu_seqlens, where.cu_seqlens, where.max_seqlen, where.max_seqlen)
        assert isinstance(context, Tensor)
        return context.reshape(tokens, heads * size)
    assert where.rows is not None
    padded = _padded(qkv, where.rows, where.padded_rows)
    contexts = []
    # split, not slices: on the way back a slice is the whole buffer again, zero but for its rows
    blocks = padded.split([group.count * group.length for group in where.groups])
    for group, block in zip(where.groups, blocks, strict=True):
        query, key, value = block.view(group.count, group.length, 3, heads, size).permute(2, 0, 3, 1, 4)  # each (count, H, length, D)
        contexts.append(_attend_group(query, key, value, group.mask, dropout))
    return torch.cat(contexts).index_select(0, where.rows)


def attend_asked(query: Tensor, key_value: Tensor, where: Layout, asked: Asked, dropout: float) -> Tensor:
    """The contexts of asked tokens alone: query (M, H, D) of theirs, key_value (T, 2, H, D) of all -> (M, H * D)."""
    assert where.rows is not None and asked.rows is not None
    heads, size = query.shape[1:]
    number = [group.count * most for group, most in zip(where.groups, asked.most, strict=True)]
    queries = _padded(query, asked.rows, sum(number)).split(number)
    blocks = _padded(key_value, where.rows, where.padded_rows).split([group.count * group.length for group in where.groups])
    contexts = []
    for group, most, of_group, block in zip(where.groups, asked.most, queries, blocks, strict=True):
        key, value = block.view(group.count, group.length, 2, heads, size).permute(2, 0, 3, 1, 4)
        asking = of_group.view(group.count, most, heads, size).transpose(1, 2)  # (count, H, most, D)
        contexts.append(_attend_group(asking, key, value, group.mask, dropout))
    return torch.cat(contexts).index_select(0, asked.rows)


def _padded(flat: Tensor, rows: Tensor, number: int) -> Tensor:
    """What each token has, in the row of a buffer of so many that is its own: (T, ...) -> (number, the rest in one)."""
    flat = flat.flatten(1)
    return flat.new_zeros(number, flat.shape[1]).index_copy_(0, rows, flat)


def _attend_group(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Attention of sequences side by side: query (count, H, n, D), key and value (count, H, length, D) -> (count * n, H * D)."""
    if query.dtype == torch.bfloat16 and not query.is_cuda:
        context = _attend_in_words(query, key, value, mask, dropout)
    else:
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return context.transpose(1, 2).flatten(2).flatten(0, 1)


def _attend_in_words(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """What scaled_dot_product_attention says of the same: (count, H, n, D). The mask is added within the product, which has its output in
    hand: two passes over the scores fewer, and two on the way back."""
    count, heads, asking, size = query.shape
    query, key, value = (of.reshape(count * heads, -1, size) for of in (query, key, value))
    if mask is None:
        added, beta = query.new_empty(1), 0  # not read
    else:
        added, beta = query.new_zeros(count, 1, mask.shape[-1]).masked_fill_(~mask[:, 0], float("-inf")).repeat_interleave(heads, dim=0), 1
    weights = torch.softmax(torch.baddbmm(added, query, key.transpose(1, 2), beta=beta, alpha=size**-0.5), dim=-1)
    return ((dropped(weights, dropout) if dropout else weights) @ value).view(count, heads, asking, size)


# ---- without training


def runs(cu_seqlens: Tensor) -> tuple[Group, ...]:
    """Neighbours of equal length as groups, in the order that they are in: in a batch sorted by length they are few."""
    bounds = cu_seqlens.tolist()
    groups: list[Group] = []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        if groups and groups[-1].length == end - start:
            groups[-1] = replace(groups[-1], count=groups[-1].count + 1)
        elif end > start:
            groups.append(Group(start, 1, end - start, None))
    return tuple(groups)


def attend_runs(qkv: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Self-attention of flat tokens whose sequences lie as `runs` found them: qkv (T, 3, H, D) -> context (T, H * D)."""
    _, _, heads, size = qkv.shape
    contexts = []
    for group in groups:
        block = qkv[group.first : group.first + group.count * group.length].view(group.count, group.length, 3, heads, size)
        query, key, value = block.permute(2, 0, 3, 1, 4)  # each (count, H, length, D)
        contexts.append(_attend_group(query, key, value, None, 0.0))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)
