"""bertlab/model/vocabulary.py: the sum and the gradients of torch's own cross-entropy."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bertlab.model import vocabulary
from bertlab.model.vocabulary import vocabulary_loss

IGNORED = -100
BF16 = 2**-8  # rounding to bf16 changes a number by at most this share of it

# words that are met at a time, of 97 for 10 rows: one, 9 (and at last 7), 30 (and 7), 87 (and 10), all at once; under bf16 it is as many
# logits that become losses at a time: a row, a row, 3 rows (and 1), 8 (and 2), all 10
WORDS = [1, 9, 30, 87, 97]


def logits_and_labels(rows: int = 10, vocabulary: int = 97, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits and labels, the first and the last id among them; every third answer is nearly certain, every third nearly excluded."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(vocabulary, (rows,), generator=generator)
    labels[0], labels[-1] = 0, vocabulary - 1
    logits = torch.randn(rows, vocabulary, generator=generator).mul_(4)
    for row, label in enumerate(labels.tolist()):
        logits[row, label] += (20, -20, 0)[row % 3]
    return logits.to(dtype), labels


def in_blocks_of(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_LOGITS", 1)
    monkeypatch.setattr(vocabulary, "_FEWEST_WORDS", words)
    monkeypatch.setattr(vocabulary, "_IN_CACHE", 10 * words)


def ours(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of such logits: the product of them with the unit matrix, and no bias."""
    return vocabulary_loss(torch.eye(len(logits), dtype=logits.dtype), logits.T, torch.zeros(logits.shape[1]), labels)


def plain(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


def with_gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor, upstream: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss of a copy of `logits`, and what it makes of `upstream`."""
    own = logits.clone().requires_grad_()
    value = loss(own, labels)
    return value.detach(), torch.autograd.grad(value, own, torch.full_like(value, upstream))[0]


@pytest.mark.parametrize("upstream", [1.0, -0.37, 1 / 4096])
@pytest.mark.parametrize("words", WORDS)
def test_the_vocabulary_loss_and_its_gradient_are_those_of_cross_entropy(
    words: int, upstream: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks_of(words, monkeypatch)
    logits, labels = logits_and_labels()
    value, gradient = with_gradient(ours, logits, labels, upstream)
    assert value.shape == () and value.dtype == gradient.dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        wanted, wanted_gradient = with_gradient(plain, logits.to(dtype), labels, upstream)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        torch.testing.assert_close(gradient.to(dtype), wanted_gradient, atol=1e-6 * abs(upstream), rtol=1e-5)


def test_a_word_whose_probability_is_0_in_fp32_has_its_loss_all_the_same() -> None:
    logits, labels = torch.zeros(2, 97), torch.tensor([5, 6])
    logits[0, 4], logits[1, 4] = 300.0, -300.0
    value, gradient = with_gradient(ours, logits, labels)
    assert torch.softmax(logits, 1)[0, 5] == 0
    assert value.item() == pytest.approx(300 + math.log(96), rel=1e-6)
    torch.testing.assert_close(gradient, with_gradient(plain, logits, labels)[1])


def test_a_row_may_be_larger_than_the_cache() -> None:
    logits, labels = logits_and_labels(3, 2**20 + 5)
    value, gradient = with_gradient(ours, logits, labels)
    for dtype, tolerance in (
        (torch.float32, 1e-3),
        (torch.float64, 1e-5),
    ):  # torch's own fp32 loses as much in a sum of a million exponentials
        wanted, wanted_gradient = with_gradient(plain, logits.to(dtype), labels)
        assert value.item() == pytest.approx(wanted.item(), rel=tolerance)
        torch.testing.assert_close(gradient.to(dtype), wanted_gradient, atol=1e-9, rtol=tolerance)


@pytest.mark.parametrize("words", WORDS)
def test_of_bf16_logits_the_loss_is_fp32_and_the_gradient_rounded_once(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(words, monkeypatch)
    logits, labels = logits_and_labels(dtype=torch.bfloat16)
    for upstream in (1.0, -0.37):
        value, gradient = with_gradient(ours, logits, labels, upstream)
        assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
        wanted = plain(logits.float(), labels)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        exact = with_gradient(plain, logits.double(), labels, upstream)[1]
        # itself, also at the answer's place, from which the 1 goes off before; the upstream gradient; their product
        roundings = 1 if upstream == 1 else 3
        torch.testing.assert_close(gradient.double(), exact, atol=1e-6, rtol=(1 + BF16) ** roundings - 1)


class Largest(TorchDispatchMode):
    """The most elements of a matrix in fp32 that anything makes."""

    found = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operator(*args, **(kwargs or {}))
        for of in made if isinstance(made, tuple | list) else [made]:
            if isinstance(of, Tensor) and of.dtype == torch.float32 and of.dim() == 2:
                self.found = max(self.found, of.numel())
        return made


@pytest.mark.parametrize("words", WORDS)
def test_no_more_logits_are_in_fp32_at_a_time_than_stay_in_cache(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(words, monkeypatch)
    logits, labels = logits_and_labels(dtype=torch.bfloat16)
    own = logits.requires_grad_()
    with Largest() as largest:
        ours(own, labels).backward()
    assert largest.found == max(1, 10 * words // 97) * 97


def test_of_many_places_a_block_is_never_of_few_words() -> None:
    sizes = [
        [words.stop - words.start for words in vocabulary._blocks(torch.empty(places, 1), torch.empty(1600, 1))] for places in (1, 10**5)
    ]
    assert sizes == [[1600], [768, 768, 64]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("words", WORDS)
def test_ignored_places_are_in_no_vocabulary_loss_and_have_no_gradient(
    words: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks_of(words, monkeypatch)
    logits, labels = logits_and_labels(dtype=dtype)
    for ignored in ([0, 4, 5, 9], [3, 4, 5], list(range(10))):  # a whole part of three rows among them, and all
        some = labels.clone()
        some[ignored] = IGNORED
        value, gradient = with_gradient(ours, logits, some, 0.5)
        wanted, wanted_gradient = with_gradient(plain, logits.double(), some, 0.5)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert not gradient[ignored].any()
        torch.testing.assert_close(gradient.double(), wanted_gradient, atol=1e-6, rtol=2 * BF16 if dtype == torch.bfloat16 else 1e-5)


def test_extreme_logits_have_finite_losses_and_gradients() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.zeros(4, 97, dtype=dtype)
        logits[0, 5], logits[1, 5], logits[2, 6:], logits[3] = 1e4, 1e4, -1e4, 1e4
        labels = torch.tensor([5, 6, 96, 0])
        value, gradient = with_gradient(ours, logits, labels)
        wanted, wanted_gradient = with_gradient(plain, logits.double(), labels)
        assert math.isfinite(wanted) and value.item() == pytest.approx(wanted.item(), rel=1e-6)
        torch.testing.assert_close(gradient.double(), wanted_gradient, atol=1e-6, rtol=2 * BF16 if dtype == torch.bfloat16 else 1e-5)


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(4)
    found = {"embeddings": torch.randn(97, 12), "weight": torch.randn(12, 12), "bias": torch.randn(97)}
    return {name: parameter.to(dtype).requires_grad_() for name, parameter in found.items()}


def of_ids(ids: Tensor, embeddings: Tensor, weight: Tensor) -> Tensor:
    return torch.tanh(embeddings[ids] @ weight)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("words", WORDS)
def test_a_matrix_tied_to_the_embeddings_has_the_same_gradients_and_so_has_the_bias(
    words: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks_of(words, monkeypatch)
    own = parameters(dtype)
    ids, labels = torch.randint(97, (2, 10))
    labels[[2, 7]] = IGNORED
    hidden = of_ids(ids, own["embeddings"], own["weight"])
    value = vocabulary_loss(hidden, own["embeddings"], own["bias"], labels)
    wanted = plain(F.linear(hidden, own["embeddings"], own["bias"]), labels)
    assert value.dtype == dtype and value.item() == pytest.approx(wanted.item(), rel=tolerance)
    gradients, exact = (torch.autograd.grad(of / 10, list(own.values()), retain_graph=True) for of in (value, wanted))
    for name, gradient, theirs in zip(own, gradients, exact, strict=True):
        assert theirs.abs().max() > 0.05
        torch.testing.assert_close(gradient, theirs, atol=tolerance, rtol=10 * tolerance, msg=f"gradient of {name}")


def test_under_autocast_the_products_are_in_bf16_and_the_bias_is_not() -> None:
    own = parameters()
    ids, labels = torch.randint(97, (2, 10))
    with torch.no_grad():
        own["bias"] += 1000 + torch.arange(97) / 64  # in bf16 these would be a few numbers
    hidden = of_ids(ids, own["embeddings"], own["weight"]).detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = vocabulary_loss(hidden, own["embeddings"], own["bias"], labels)
    low = [of.detach().bfloat16() for of in (hidden, own["embeddings"])]
    logits = (low[0] @ low[1].T).float() + own["bias"]
    assert value.dtype == torch.float32 and value.item() == pytest.approx(plain(logits, labels).item(), rel=1e-6)
    gradients = torch.autograd.grad(value, (hidden, own["embeddings"], own["bias"]))
    errors = logits.double().softmax(1) - F.one_hot(labels, 97)
    exact = errors @ low[1].double(), errors.T @ low[0].double(), errors.sum(0)
    for gradient, theirs, tolerance in zip(gradients, exact, (4 * BF16, 4 * BF16, BF16), strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - theirs).norm() <= tolerance * theirs.norm()


def test_nothing_that_was_given_changes_and_the_way_back_can_be_taken_again() -> None:
    own = parameters()
    ids, labels = torch.randint(97, (2, 10))
    hidden = of_ids(ids, own["embeddings"], own["weight"]).detach().requires_grad_()
    given = hidden, own["embeddings"], own["bias"]
    before = [of.detach().clone() for of in given]
    value = vocabulary_loss(*given, labels)
    first, second = (torch.autograd.grad(value, given, retain_graph=True) for _ in range(2))
    for of, copy, once, again in zip(given, before, first, second, strict=True):
        assert torch.equal(of, copy) and torch.equal(once, again)


def test_where_no_gradient_is_wanted_the_loss_is_the_same() -> None:
    own = parameters()
    ids, labels = torch.randint(97, (2, 10))
    hidden = of_ids(ids, own["embeddings"], own["weight"])
    value = vocabulary_loss(hidden, own["embeddings"], own["bias"], labels)
    with torch.no_grad():
        without = vocabulary_loss(hidden, own["embeddings"], own["bias"], labels)
    constant = vocabulary_loss(*(of.detach() for of in (hidden, own["embeddings"], own["bias"])), labels)
    assert value.requires_grad and not without.requires_grad and not constant.requires_grad
    assert value.item() == without.item() == constant.item()


def test_no_masked_place_has_no_loss() -> None:
    own = parameters()
    hidden = torch.zeros(0, 12, requires_grad=True)
    value = vocabulary_loss(hidden, own["embeddings"], own["bias"], torch.zeros(0, dtype=torch.int64))
    value.backward()
    assert value.item() == 0 and hidden.grad is not None and hidden.grad.shape == (0, 12)
    assert own["bias"].grad is not None and not own["bias"].grad.any()
