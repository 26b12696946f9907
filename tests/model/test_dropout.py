"""Dropout: which elements fall, how the others are scaled, what a gradient sees.

The draws are counted exactly where the generator is replaced by each draw once, else within 5 sigma of fixed seeds.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bertlab.model.dropout import Dropout, dropped

# p, and how many of the 2**16 draws of an element fall: the nearest whole number, but never all of them
FALLING = [(1e-6, 0), (1e-5, 1), (0.1, 6554), (0.25, 16384), (0.5, 32768), (0.9, 58982), (0.999999, 65535)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def standardised(mask: Tensor, share: float) -> Tensor:
    """Falls (1) and others (0) as numbers of mean 0 and variance 1, if `share` of them fall. float64."""
    return ((mask == 0).double() - share) / math.sqrt(share * (1 - share))


@pytest.mark.parametrize(("p", "falling"), FALLING)
def test_just_so_many_of_the_draws_fall_and_the_scale_keeps_the_expectation(
    p: float, falling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.int64)
    monkeypatch.setattr(Tensor, "random_", lambda words, *bounds: words.copy_(every))
    mask = dropped(torch.ones(2**16), p)
    assert int((mask == 0).sum()) == falling
    assert mask[mask != 0].unique().tolist() == [torch.tensor(2**16 / (2**16 - falling)).item()]
    assert mask.double().mean().item() == pytest.approx(1, abs=2**-24)  # the scale is stored in fp32


@pytest.mark.parametrize("shape", [(), (1,), (6,), (5, 7), (2, 3, 11), (4096,), (1001, 129)])
@pytest.mark.parametrize(("p", "falling"), FALLING)
def test_the_share_of_zeros_is_p(p: float, falling: int, shape: tuple[int, ...]) -> None:
    calls = max(1, 4000 // math.prod(shape))
    masks = torch.stack([dropped(torch.ones(shape), p) for _ in range(calls)])
    assert masks.shape == (calls, *shape)
    share = falling / 2**16
    expected, sigma = masks.numel() * share, math.sqrt(masks.numel() * share * (1 - share))
    assert abs(int((masks == 0).sum()) - expected) <= 5 * sigma
    scale = torch.tensor(2**16 / (2**16 - falling)).item()
    assert set(masks.unique().tolist()) <= {0.0, scale}


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_outputs_have_the_mean_and_variance_of_torchs_dropout(p: float) -> None:
    number = 2**18
    falls = math.sqrt(p * (1 - p) / number)  # sigma of the share that falls
    # mean = (1 - share) * scale and variance = share * (1 - share) * scale**2, to second order in the share; p is rounded by 2**-17
    mean_bound = 5 * falls / (1 - p) + 2**-16
    variance_bound = (abs(1 - 2 * p) * 5 * falls + (5 * falls) ** 2) / (1 - p) ** 2 + 2**-16 / (1 - p) ** 2
    for outputs in (dropped(torch.full((number,), -1.0), p), F.dropout(torch.full((number,), -1.0), p)):
        assert outputs.double().mean().item() == pytest.approx(-1, abs=mean_bound)
        assert outputs.double().var(correction=0).item() == pytest.approx(p / (1 - p), abs=variance_bound)


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_the_four_draws_of_a_word_are_equally_likely_and_independent(p: float) -> None:
    words = 2**16
    falls = (dropped(torch.ones(words, 4), p) == 0).long()
    for lane in falls.sum(0).tolist():
        assert abs(lane - words * p) <= 5 * math.sqrt(words * p * (1 - p))
    patterns = torch.bincount((falls * torch.tensor([1, 2, 4, 8])).sum(1), minlength=16)
    ones = torch.tensor([pattern.bit_count() for pattern in range(16)])
    expected = words * p**ones * (1 - p) ** (4 - ones)
    # 15 degrees of freedom: chi-square passes 59.7 as seldom as a normal variable passes 5 sigma (2.9e-7)
    assert float(((patterns - expected) ** 2 / expected).sum()) < 59.7


@pytest.mark.parametrize(("p", "falling"), [(0.1, 6554), (0.5, 32768)])
def test_neighbours_rows_and_successive_calls_are_uncorrelated(p: float, falling: int) -> None:
    width, share = 129, falling / 2**16
    first, second = (standardised(dropped(torch.ones(1500, width), p), share).flatten() for _ in range(2))
    pairs = {f"{lag} apart": (first[lag:], first[:-lag]) for lag in (1, 2, 3, 4, 5, 8, width, 2 * width)}
    pairs |= {"the same place of the next call": (first, second), "the next place of the next call": (first[1:], second[:-1])}
    for name, (left, right) in pairs.items():
        assert abs((left * right).mean().item()) < 5 / math.sqrt(len(left)), name


@pytest.mark.parametrize("shape", [(15,), (3, 5), (2, 8)])
def test_every_place_falls_equally_often(shape: tuple[int, ...]) -> None:
    calls, share = 3000, 16384 / 2**16
    falls = torch.stack([dropped(torch.ones(shape), 0.25) == 0 for _ in range(calls)]).sum(0)
    assert ((falls - calls * share).abs() <= 5 * math.sqrt(calls * share * (1 - share))).all()


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 2)])
def test_nothing_stays_nothing(shape: tuple[int, ...]) -> None:
    for p in (0.0, 1e-6, 0.5, 1.0):
        x = torch.empty(shape, requires_grad=True)
        assert dropped(x, p).shape == shape
        assert torch.autograd.grad(dropped(x, p).sum(), x)[0].shape == shape


def test_the_gradient_meets_the_same_mask() -> None:
    for x in (torch.randn(31, 5), torch.randn(5, 31).t(), torch.randn(7, 9)[:, ::2]):
        torch.manual_seed(1)
        mask = dropped(torch.ones(x.shape), 0.3)
        assert 0 < int((mask == 0).sum()) < mask.numel()
        x.requires_grad_()
        torch.manual_seed(1)
        y = dropped(x, 0.3)
        upstream = torch.randn(x.shape)
        assert torch.equal(y, x * mask)
        assert torch.equal(torch.autograd.grad(y, x, upstream)[0], upstream * mask)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_no_precision_is_lost_to_the_input(dtype: torch.dtype) -> None:
    """Low precisions come out as the fp32 products, unrounded; their gradients are rounded once."""
    x = torch.randn(33, 3).to(dtype).requires_grad_()
    torch.manual_seed(1)
    mask = dropped(torch.ones(33, 3), 0.1)
    torch.manual_seed(1)
    y = dropped(x, 0.1)
    wide = torch.promote_types(dtype, torch.float32)
    assert y.dtype == wide
    assert torch.equal(y, x.to(wide) * mask)
    upstream = torch.randn(33, 3, dtype=wide)
    assert torch.equal(torch.autograd.grad(y, x, upstream)[0], (upstream * mask).to(dtype))


def test_the_module_drops_in_training_only() -> None:
    layer, x = Dropout(0.5), torch.randn(64)
    assert layer.training and not torch.equal(layer(x), x)
    torch.manual_seed(1)
    through_module = layer(x)
    torch.manual_seed(1)
    assert torch.equal(through_module, dropped(x, 0.5))
    assert layer.eval()(x) is x
    assert layer.p == 0.5 and "p=0.5" in repr(layer)


def test_probabilities_none_and_all() -> None:
    x = torch.tensor([1.5, -2.0, float("inf"), 0.0, 3.0])
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(torch.ones(2**20)).any()  # of sixteen bits alone, 16 would be left


def test_a_seed_repeats_the_masks_and_no_call_repeats_the_one_before() -> None:
    x = torch.ones(1000)
    first, second = dropped(x, 0.5), dropped(x, 0.5)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(dropped(x, 0.5), first) and torch.equal(dropped(x, 0.5), second)
    torch.manual_seed(1)
    assert not torch.equal(dropped(x, 0.5), first)


def test_other_devices_have_torchs_own_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "random_", lambda *_: pytest.fail("a mask of the CPU's for another device"))
    assert dropped(torch.empty(3, 4, device="meta"), 0.5).device.type == "meta"
