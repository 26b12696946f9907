"""How well a model predicts text that it has not seen: the same pairs and masks at every measurement of a run."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from bertlab.batches.flat import PretrainingBatch
from bertlab.batches.masking import masking_for
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.evaluation.baselines import unigram_loss
from bertlab.tokens.corpus import Corpus
from bertlab.training.objectives import pretraining_scores
from bertlab.training.processes import Precision, autocast


def heldout_batches(corpus: Corpus, max_length: int, micro_tokens: int, at_most: int) -> tuple[list[PretrainingBatch], dict[str, float]]:
    """The held-out micro-batches to measure on (at 15 %), none where nothing was held out, and what knowing nothing would score on them.

    unigram_loss: of the masked tokens under the training text's frequencies; nsp_majority: share of the commoner next-sentence answer.
    """
    if corpus.heldout is None or corpus.heldout.num_documents < 2:  # pairs need two
        return [], {}
    tokenizer = corpus.tokenizer
    batches = PretrainingBatches(
        corpus.heldout,
        masking_for(tokenizer),
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        seed=0,
        max_length=max_length,
        micro_tokens=micro_tokens,
    )
    fixed = list(batches.one_epoch(at_most))
    masked = torch.cat([batch.mlm_labels for batch in fixed]).bincount(minlength=tokenizer.vocab_size).numpy()
    random_share = float(torch.cat([batch.nsp_labels for batch in fixed]).double().mean())
    return fixed, {
        "unigram_loss": unigram_loss(corpus.train.token_counts(tokenizer.vocab_size), masked),
        "nsp_majority": max(random_share, 1 - random_share),
    }


def likeliest(model: nn.Module, batch: PretrainingBatch, accelerator: Accelerator, precision: Precision) -> list[tuple[int, float]]:
    """The token that the model holds likeliest at every masked place of a batch, and its probability to four digits. Of one process."""
    training = model.training
    model.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), autocast(accelerator.device, precision):
        on_device = batch.to(accelerator.device)
        logits, _ = model(mlm_positions=on_device.mlm_positions, **on_device.encoder_inputs())
        shares, tokens = logits.float().softmax(-1).max(-1)
    model.train(training)
    return [(token, round(share, 4)) for token, share in zip(tokens.tolist(), shares.tolist(), strict=True)]


def measure_heldout(
    model: nn.Module, batches: Sequence[PretrainingBatch], accelerator: Accelerator, precision: Precision
) -> dict[str, float]:
    """MLM loss (nats a masked token) and accuracy, next-sentence loss and accuracy (a pair), without dropout; shared among the processes.

    `model` is the bare one, as it was before `accelerator.prepare`. The last bits of a mean depend on the number of processes.
    """
    ranks = accelerator.num_processes
    sums = torch.zeros(6, dtype=torch.float64, device=accelerator.device)
    training = model.training
    model.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), autocast(accelerator.device, precision):
        for place in range(accelerator.process_index, -(-len(batches) // ranks) * ranks, ranks):
            scores = pretraining_scores(model, batches[min(place, len(batches) - 1)].to(accelerator.device))
            if place < len(batches):  # beyond, what a process computes counts for nothing: the others may wait for its weights
                sums += scores
    model.train(training)
    if ranks > 1:
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
