"""How well a model predicts text it has not seen: always the same pairs and masks, at 15 %, whatever it is trained with."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from bertlab.batches.flat import PretrainingBatch
from bertlab.training.objectives import pretraining_scores
from bertlab.training.processes import Precision, autocast


def measure_heldout(
    model: nn.Module, batches: Sequence[PretrainingBatch], accelerator: Accelerator, precision: Precision
) -> dict[str, float]:
    """MLM loss (nats a masked token) and accuracy, next-sentence loss and accuracy (a pair), without dropout; shared among the processes.

    `model` is the bare one, as it was before `accelerator.prepare`. The last bits of a mean depend on the number of processes.
    """
    sums = torch.zeros(6, dtype=torch.float64, device=accelerator.device)
    training = model.training
    model.eval()
    with torch.no_grad(), autocast(accelerator.device, precision):
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            sums += pretraining_scores(model, batch.to(accelerator.device))
    model.train(training)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums, "sum")
    mlm_loss, mlm_hits, tokens, nsp_loss, nsp_hits, pairs = sums.tolist()
    return {
        "mlm_loss": mlm_loss / tokens,
        "masked_accuracy": mlm_hits / tokens,
        "nsp_loss": nsp_loss / pairs,
        "nsp_accuracy": nsp_hits / pairs,
        "masked_tokens": tokens,
        "pairs": pairs,
    }
