"""How fast this machine is, and how much of that a training step uses.

MFU, model FLOP utilisation (Chowdhery et al. 2022, appendix B): the operations that the model's own products need, for real tokens
alone, over what the machine's own large matrix product would have done in the same time. Filler, recomputation, LayerNorm,
softmax and the optimizer count as time, not as work. A product beside other work is slow, and a step by that rate would use more than all
of the machine: the rate is then measured again, and where no better one is found there is no MFU to tell.
"""

import resource
import sys
import time
from collections.abc import Callable

import torch

from bertlab.model.encoder import EncoderConfig
from bertlab.training.processes import Precision, uses_bf16

# Large enough to fill the device, small enough to take a tenth of a second.
_SIDE = {"cpu": 2048, "cuda": 8192}
MEASURED_AGAIN = 3  # times in a run, at most: a machine that stays busy is not made busier


def training_flops(config: EncoderConfig, *, tokens: float, token_pairs: float, sequences: float, masked: float) -> float:
    """Floating-point operations of one pretraining step, forward and backward, over all of its micro-batches.

    token_pairs: the sum of squared sequence lengths, which attention pays for; masked: places that meet the vocabulary. The last block's
    queries and products after attention are of masked places and [CLS] alone, and masked places are taken to lie in long sequences as
    often as tokens do. A product of (n, k) and (k, m) is 2 n k m operations, and twice that again on the way back.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    asked = (layers - 1) * tokens + masked + sequences  # over all layers, the queries
    asked_pairs = (layers - 1) * token_pairs + (token_pairs * masked / tokens if tokens else 0) + tokens  # and with the tokens they look at
    attention = 2 * layers * tokens * 2 * width**2 + 2 * asked * width**2 + 2 * asked_pairs * 2 * width
    after = 2 * asked * (width**2 + 2 * width * inner)
    heads = 2 * masked * (width**2 + width * config.vocab_size) + 2 * sequences * (width**2 + 2 * width)
    return 3 * (attention + after + heads)


def product_rate(device: torch.device, precision: Precision, rounds: int = 5) -> float:
    """Floating-point operations a second of a large square matrix product in the precision of training: the best of `rounds`."""
    side = _SIDE[device.type]
    dtype = torch.bfloat16 if uses_bf16(device, precision) else torch.float32
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 1):  # the first one warms up, and is never the best
        wait(device)
        start = time.perf_counter()
        left @ right
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def utilisation(flops_a_second: float, rate: float) -> float | None:
    """The share of the machine's product rate, MFU; None above 1, which says that the rate was measured beside other work."""
    return flops_a_second / rate if flops_a_second <= rate else None


def utilisation_of(device: torch.device, precision: Precision, processes: int) -> Callable[[float], float | None]:
    """Measures the rate of so many processes now, and returns what makes MFU of a step's operations a second by it.

    A step that is faster than the rate has it measured again, MEASURED_AGAIN times in all; the best one counts from then on.
    """
    rate, left = product_rate(device, precision) * processes, MEASURED_AGAIN

    def share(flops_a_second: float) -> float | None:
        nonlocal rate, left
        if flops_a_second > rate and left:
            left -= 1
            rate = max(rate, product_rate(device, precision) * processes)
        return utilisation(flops_a_second, rate)

    return share


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """The most memory, in bytes, that this process has held so far: tensors of the GPU, or all of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux kilobytes
