"""Multi-head self-attention over flat sequences: the one place that knows kernels.

softmax(q k' / sqrt(head size)) v within each sequence and never across (Vaswani et al. 2017). Which kernel:

- CUDA in bf16 or fp16 without dropout on the attention weights: `torch.nn.attention.varlen.varlen_attn`.
- without training, in batches sorted by length (`runs`): over neighbours of one length, so that nothing is padded or copied, and what a
  sequence gets depends on its own length and on no other sequence.
- everywhere else over groups of sequences of like length, each padded to the longest of its group and the padding masked. On a CPU the
  two products, the softmax and their way back are written out, which is faster than scaled_dot_product_attention there
  (docs/performance.md); the latter serves other devices, and fp32 with no way back or of sequences longer than LONGEST_IN_WORDS.

A `Layout` holds what the first and the last need; it is made once a batch and used by every layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bertlab.model.dropout import dropout_mask

# A group is cut where its longest sequence would pad the next one by more than this share: padding costs, so do many small products.
MOST_PADDING = 0.2
# A CPU's products in bf16 are up to a quarter faster over a multiple of this (docs/performance.md): there a group's length is one.
BF16_LANES = 16
# In fp32 the weights of a longer sequence leave the cache, and the kernel, which never has them all, is faster (docs/performance.md).
LONGEST_IN_WORDS = 512


@dataclass(frozen=True)
class Group:
    """Sequences of like length, padded to `length` tokens, with `asking` queries each; `batch` is their number times the heads.

    added (batch, 1, length): what their scores get, 0 at real tokens and -inf at padding; None when every sequence is that long.
    """

    batch: int
    asking: int
    length: int
    added: Tensor | None


@dataclass(frozen=True)
class Rows:
    """Where flat rows lie in a buffer that has padding between them: flat row n at places[n]. taken: the flat row of each row of the
    buffer, and any at padding, whose rows `padding` has."""

    places: Tensor
    taken: Tensor
    padding: Tensor

    def spread(self, flat: Tensor) -> Tensor:
        """The buffer, 0 at padding."""
        return flat.index_select(0, self.taken).index_fill_(0, self.padding, 0)  # three times as fast as to copy into zeros

    def gathered(self, buffer: Tensor) -> Tensor:
        """The flat rows of a buffer."""
        return buffer.index_select(0, self.places)


@dataclass(frozen=True)
class Packing:
    """A buffer of rows of one head's size in which each group has its queries together, then its keys, then its values: sequence after
    sequence, head after head, as a batched product takes them. The contexts have another such buffer, of the queries' rows."""

    groups: tuple[Group, ...]
    parts: Rows
    contexts: Rows

    def views(self, parts: Tensor, contexts: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Of each group queries (batch, asking, D), keys and values (batch, length, D), and contexts (batch, asking, D)."""
        rows = [group.batch * each for group in self.groups for each in (group.asking, group.length, group.length)]
        of_parts, of_contexts = parts.split(rows), contexts.split(rows[::3])
        for number, group in enumerate(self.groups):
            of_group = (*of_parts[3 * number : 3 * number + 3], of_contexts[number])
            query, key, value, context = (each.view(group.batch, -1, each.shape[1]) for each in of_group)
            yield query, key, value, context


@dataclass(frozen=True)
class Layout:
    """Where the sequences of a flat batch lie. With no packing the varlen kernel is used; else `members` are each group's sequences."""

    cu_seqlens: Tensor
    max_seqlen: int
    heads: int = 0
    members: tuple[list[int], ...] = ()
    packing: Packing | None = None


@dataclass(frozen=True)
class Asked:
    """The tokens whose contexts somebody reads: places (M,) into the T tokens, and the packing of their queries with all keys and values,
    where there is one."""

    places: Tensor
    packing: Packing | None = None


def layout(cu_seqlens: Tensor, max_seqlen: int, heads: int, dtype: torch.dtype, dropout: float) -> Layout:
    """Choose the kernel by device, dtype and dropout, and lay the sequences out for it."""
    if cu_seqlens.is_cuda and dtype in (torch.bfloat16, torch.float16) and dropout == 0.0:
        return Layout(cu_seqlens, max_seqlen)
    bounds = cu_seqlens.tolist()
    lengths = [end - start for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    members = _like_lengths(lengths)
    multiple = BF16_LANES if dtype == torch.bfloat16 and not cu_seqlens.is_cuda else 1
    groups: list[Group] = []
    for of in members:
        longest = -(-lengths[of[0]] // multiple) * multiple
        added = None
        if lengths[of[-1]] < longest:
            padding = torch.arange(longest) >= torch.tensor([lengths[sequence] for sequence in of])[:, None]
            added = torch.zeros(padding.shape, dtype=dtype).masked_fill_(padding, float("-inf"))[:, None]
            added = added.repeat_interleave(heads, dim=0).to(cu_seqlens.device)
        groups.append(Group(len(of) * heads, longest, longest, added))
    where = Layout(cu_seqlens, max_seqlen, heads, tuple(members))
    return replace(where, packing=_packing(where, groups, *_of_tokens(cu_seqlens.cpu().long())))


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
    if where.packing is None:
        return Asked(places)
    cu_seqlens = where.cu_seqlens.cpu().long()
    sequences = torch.searchsorted(cu_seqlens[1:], places.cpu(), right=True)
    number = torch.bincount(sequences, minlength=len(cu_seqlens) - 1)
    order = sequences.argsort(stable=True)
    within = torch.empty_like(sequences)  # which query of its sequence each one is
    within[order] = torch.arange(len(sequences)) - (number.cumsum(0) - number)[sequences[order]]
    groups = [
        Group(group.batch, max(1, int(number[of].max())), group.length, group.added)
        for group, of in zip(where.packing.groups, where.members, strict=True)
    ]
    return Asked(places, _packing(where, groups, sequences, within, apart=True))


def _of_tokens(cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Which sequence each token is in, and at which position there: two tensors (T,)."""
    lengths = cu_seqlens.diff()
    sequences = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return sequences, torch.arange(len(sequences)) - cu_seqlens[sequences]


def _packing(where: Layout, groups: Sequence[Group], sequences: Tensor, numbers: Tensor, apart: bool = False) -> Packing:
    """Queries, each by its sequence and its number there, with the keys and values of all tokens.

    Flat rows are those of a tensor (T, 3, H, D) of queries, keys and values or, with the queries `apart`, of one (M, H, D) of queries and
    then one (T, 2, H, D) of keys and values.
    """
    cu_seqlens = where.cu_seqlens.cpu().long()
    first = torch.zeros(4, len(cu_seqlens) - 1, dtype=torch.long)  # row of each sequence's queries, keys, values; of its contexts
    asking, length = torch.zeros(2, len(cu_seqlens) - 1, dtype=torch.long)
    rows = context_rows = 0
    for group, of in zip(groups, where.members, strict=True):
        strips, queries, keys = where.heads * torch.arange(len(of)), group.batch * group.asking, group.batch * group.length
        first[0, of], first[3, of] = rows + strips * group.asking, context_rows + strips * group.asking
        first[1, of] = rows + queries + strips * group.length
        first[2, of] = first[1, of] + keys
        asking[of], length[of] = group.asking, group.length
        rows, context_rows = rows + queries + 2 * keys, context_rows + queries

    def rows_of(part: int, strip: Tensor, sequences: Tensor, numbers: Tensor) -> Tensor:  # (tokens, H)
        return (first[part, sequences] + numbers)[:, None] + torch.arange(where.heads) * strip[sequences, None]

    query, context = (rows_of(part, asking, sequences, numbers) for part in (0, 3))
    key, value = (rows_of(part, length, *_of_tokens(cu_seqlens)) for part in (1, 2))
    parts = [query, torch.stack([key, value], 1)] if apart else [torch.stack([query, key, value], 1)]
    return Packing(
        tuple(groups),
        _rows(torch.cat([part.flatten() for part in parts]), rows, where.cu_seqlens.device),
        _rows(context.flatten(), context_rows, where.cu_seqlens.device),
    )


def _rows(places: Tensor, number: int, device: torch.device) -> Rows:
    taken = torch.full((number,), -1)
    taken[places] = torch.arange(len(places))
    padding = (taken < 0).nonzero().flatten()
    return Rows(places.to(device), taken.clamp_(min=0).to(device), padding.to(device))


def attend(qkv: Tensor, where: Layout, dropout: float) -> Tensor:
    """Self-attention of flat tokens: qkv (T, 3, H, D) -> context (T, H * D). `dropout` falls on the attention weights."""
    tokens, _, heads, size = qkv.shape
    if where.packing is None:
        from torch.nn.attention.varlen import varlen_attn  # torch >= 2.11 with CUDA; absent kernels elsewhere

        query, key, value = qkv.unbind(1)
        context = varlen_attn(query, key, value, where.cu_seqlens, where.cu_seqlens, where.max_seqlen, where.max_seqlen)
        assert isinstance(context, Tensor)
        return context.reshape(tokens, heads * size)
    return _attend_packed(qkv.reshape(-1, size), where.packing, dropout).view(tokens, heads * size)


def attend_asked(query: Tensor, key_value: Tensor, asked: Asked, dropout: float) -> Tensor:
    """The contexts of asked tokens alone: query (M, H, D) of theirs, key_value (T, 2, H, D) of all -> (M, H * D)."""
    assert asked.packing is not None
    flat = torch.cat([query.flatten(0, 1), key_value.flatten(0, 2)])
    return _attend_packed(flat, asked.packing, dropout).view(len(query), -1)


def _attend_packed(flat: Tensor, packing: Packing, dropout: float) -> Tensor:
    """Flat rows of one head's queries, keys and values as the packing has them -> rows of contexts."""
    longest = packing.groups[0].length if packing.groups else 0
    written_out = flat.dtype != torch.float32 or (torch.is_grad_enabled() and longest <= LONGEST_IN_WORDS)
    if flat.device.type == "cpu" and written_out:
        in_words: Tensor = _InWords.apply(flat, packing, dropout)
        return in_words
    contexts = flat.new_empty(len(packing.contexts.taken), flat.shape[1])
    found = []
    for group, (query, key, value, _) in zip(packing.groups, packing.views(packing.parts.spread(flat), contexts), strict=True):
        added = None if group.added is None else group.added[:, None]
        context = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], attn_mask=added, dropout_p=dropout)
        found.append(context.flatten(0, 2))
    return packing.contexts.gathered(torch.cat(found))


class _InWords(torch.autograd.Function):
    """What scaled_dot_product_attention says of each group, and the way back, straight from buffer to buffer."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, packing: Packing, dropout: float) -> Tensor:
        parts = packing.parts.spread(flat)
        contexts = flat.new_empty(len(packing.contexts.taken), flat.shape[1])
        saved = []
        for group, (query, key, value, context) in zip(packing.groups, packing.views(parts, contexts), strict=True):
            weights = _weights(query, key, group.added)
            mask = dropout_mask(weights.shape, dropout) if dropout else None
            torch.bmm(_kept(weights, mask), value, out=context)
            saved += [weights, mask]
        ctx.save_for_backward(parts, *saved)
        ctx.packing = packing
        return packing.contexts.gathered(contexts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        parts, *saved = ctx.saved_tensors
        upstream, gradients = ctx.packing.contexts.spread(gradient), torch.empty_like(parts)
        scale = parts.shape[1] ** -0.5
        views = zip(ctx.packing.views(parts, upstream), ctx.packing.views(gradients, upstream), saved[::2], saved[1::2], strict=True)
        for (query, key, value, above), (for_query, for_key, for_value, _), weights, mask in views:
            torch.bmm(_kept(weights, mask).transpose(1, 2), above, out=for_value)
            for_weights = _kept(above @ value.transpose(1, 2), mask)
            for_scores = torch._softmax_backward_data(for_weights, weights, -1, weights.dtype)  # what softmax's own way back calls
            torch.baddbmm(for_query, for_scores, key, beta=0, alpha=scale, out=for_query)  # beta=0: what it held is not read
            torch.baddbmm(for_key, for_scores.transpose(1, 2), query, beta=0, alpha=scale, out=for_key)
        return ctx.packing.parts.gathered(gradients), None, None


def _weights(query: Tensor, key: Tensor, added: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(D)) of (B, n, D) and (B, length, D), with what is `added` before the softmax, within the product: two passes
    over the scores fewer."""
    given = query.new_empty(1) if added is None else added  # beta=0: not read
    beta = 0 if added is None else 1
    return torch.softmax(torch.baddbmm(given, query, key.transpose(1, 2), beta=beta, alpha=query.shape[-1] ** -0.5), dim=-1)


def _kept(weights: Tensor, mask: Tensor | None) -> Tensor:
    return weights if mask is None else (weights * mask).to(weights.dtype)


# ---- without training


@dataclass(frozen=True)
class Run:
    """Neighbours of one length: `count` sequences of `length` tokens from token `first` on."""

    first: int
    count: int
    length: int


def runs(cu_seqlens: Tensor) -> tuple[Run, ...]:
    """Neighbours of equal length, in the order that they are in: in a batch sorted by length they are few."""
    bounds = cu_seqlens.tolist()
    found: list[Run] = []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        if found and found[-1].length == end - start:
            found[-1] = Run(found[-1].first, found[-1].count + 1, found[-1].length)
        elif end > start:
            found.append(Run(start, 1, end - start))
    return tuple(found)


def attend_runs(qkv: Tensor, alike: tuple[Run, ...]) -> Tensor:
    """Self-attention of flat tokens whose sequences lie as `runs` found them: qkv (T, 3, H, D) -> context (T, H * D)."""
    _, _, heads, size = qkv.shape
    contexts = []
    for run in alike:
        block = qkv[run.first : run.first + run.count * run.length].view(run.count, run.length, 3, heads, size)
        query, key, value = block.permute(2, 0, 3, 1, 4)  # each (count, H, length, D)
        if qkv.dtype == torch.bfloat16 and not qkv.is_cuda:
            query, key, value = block.permute(2, 0, 3, 1, 4).flatten(1, 2)
            context = (_weights(query, key, None) @ value).view(run.count, heads, run.length, size)
        else:
            context = F.scaled_dot_product_attention(query, key, value)
        contexts.append(context.transpose(1, 2).flatten(2).flatten(0, 1))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)
