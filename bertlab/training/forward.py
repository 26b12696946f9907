"""Every example through a model once: no gradients, no dropout, results in the order of the examples.

Batches hold like lengths under a token budget; a result does not depend on what else was in the call beyond the last bits of rounding.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples
from bertlab.errors import CorruptError
from bertlab.progress import progress, silent
from bertlab.training.processes import Precision, autocast

MICRO_TOKENS = 8192  # of a batch without gradients: about 0.3 GB for a BERT-base


def in_order(
    model: torch.nn.Module,
    examples: Examples,
    compute: Callable[[LabelledBatch], Tensor],
    width: int,
    *,
    device: torch.device,
    precision: Precision,
    micro_tokens: int = MICRO_TOKENS,
    of_tokens: bool = False,
    what: str | None = None,
) -> np.ndarray:
    """compute(batch) -> (N, width) for every example, without gradients or dropout. Shape (n, width) float32, in the order of `examples`.

    With `of_tokens` compute gives (T, width), a row a token, and so does this for all tokens of all examples. Progress is shown under the
    name `what`, if there is one.

    Raises CorruptError when the model gives NaN or infinity.
    """
    results = np.zeros((len(examples.ids) if of_tokens else len(examples), width), dtype=np.float32)
    training = model.training
    model.eval()
    done = 0
    watch = progress(what, "tokens", len(examples.ids)) if what else silent()
    with watch as report, torch.inference_mode(), autocast(device, precision):
        for batch in examples.by_length(micro_tokens):
            places = examples.tokens_of(batch.rows.numpy()) if of_tokens else batch.rows.numpy()
            results[places] = compute(batch.to(device)).float().cpu().numpy()
            done += batch.num_tokens
            report(done, "")
    model.train(training)
    if not np.isfinite(results).all():
        raise CorruptError("the model gives NaN or infinity: its weights are broken, or its training went wrong")
    return results
