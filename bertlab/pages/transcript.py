"""A batch as a person reads it: each pair decoded, and at each masked place what stands there and what was hidden.

    [CLS] the old [MASK]<mill> crosses a small river . [SEP] ...      what stands there<what was there before>

Facts first (for JSON), then lines for a terminal, where nothing of a corpus can steer it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bertlab.batches.flat import IGNORED, PretrainingBatch
from bertlab.pages.screen import inert
from bertlab.tokens.tokenizer import Tokenizer


def step_facts(batches: Sequence[PretrainingBatch], tokenizer: Tokenizer) -> dict[str, Any]:
    """A step's micro-batches, their filler left out: their counts, and every pair (see `_pair`)."""
    pairs = [pair for number, batch in enumerate(batches) for pair in _pairs(batch, number, tokenizer)]
    lengths = [len(pair["pieces"]) for pair in pairs]
    return {
        "micro_batches": len(batches),
        "pairs": len(pairs),
        "tokens": sum(lengths),
        "masked": sum(len(pair["masked"]) for pair in pairs),
        "follows": sum(pair["follows"] for pair in pairs),
        "shortest": min(lengths),
        "longest": max(lengths),
        "all_pairs": pairs,
    }


def _pairs(batch: PretrainingBatch, micro_batch: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    bounds, answers = batch.cu_seqlens.tolist(), batch.nsp_labels.tolist()
    masked = zip(batch.mlm_positions.tolist(), batch.mlm_labels.tolist(), strict=True)
    labels = {place: label for place, label in masked if label != IGNORED}
    sequences = zip(pairwise(bounds), answers, strict=True)
    return [
        _pair(batch, start, end, labels, answer, tokenizer) | {"micro_batch": micro_batch}
        for (start, end), answer in sequences
        if answer != IGNORED
    ]


def _pair(batch: PretrainingBatch, start: int, end: int, labels: dict[int, int], answer: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """pieces, what stands at each place; masked, [place, what stands there, what was there] of those to predict; second, where B begins;
    follows, whether B truly follows A; text, the pair decoded."""
    ids = batch.input_ids[start:end].tolist()
    hidden = {place: labels[start + place] for place in range(end - start) if start + place in labels}
    return {
        "pieces": [tokenizer.token(id) for id in ids],
        "masked": [[place, tokenizer.token(ids[place]), tokenizer.token(id)] for place, id in hidden.items()],
        "second": int(batch.token_type_ids[start:end].argmax()),
        "follows": answer == 0,
        "text": _decoded(ids, hidden, tokenizer),
    }


def guessed_pairs(
    batch: PretrainingBatch, guesses: Sequence[tuple[int, float]], tokenizer: Tokenizer, at_most: int
) -> list[dict[str, Any]]:
    """The first `at_most` pairs, for a log: text, follows, masked: [place, what stands there, what was there, the guess, its probability].

    guesses: token and probability for each of the batch's masked places.
    """
    said = dict(zip(batch.mlm_positions.tolist(), guesses, strict=True))
    starts = batch.cu_seqlens.tolist()
    shown = []
    for start, pair in zip(starts, _pairs(batch, 0, tokenizer)[:at_most], strict=False):
        masked = [[place, *texts, tokenizer.token(said[start + place][0]), said[start + place][1]] for place, *texts in pair["masked"]]
        shown.append({"text": pair["text"], "follows": pair["follows"], "masked": masked})
    return shown


def _decoded(ids: list[int], hidden: dict[int, int], tokenizer: Tokenizer) -> str:
    """Runs of ordinary tokens as text; the special ones and the masked places stand between them as pieces."""
    parts: list[str] = []
    run: list[int] = []
    for place, id in enumerate(ids):
        if place not in hidden and not tokenizer.special[id]:
            run.append(id)
            continue
        parts += [tokenizer.decode(run).strip()] if run else []
        run = []
        parts.append(tokenizer.token(id) + (f"<{tokenizer.token(hidden[place])}>" if place in hidden else ""))
    return " ".join([*parts, *([tokenizer.decode(run).strip()] if run else [])])


def step_lines(facts: dict[str, Any], at_most: int) -> list[str]:
    """Step, fingerprint and the counts of `step_facts`, and its first `at_most` pairs."""
    pairs, known = facts["all_pairs"], facts["logged"] is not None
    lengths = f"{facts['shortest']} to {facts['longest']}"
    lines = [
        f"step       {facts['step']:,} of {facts['steps']:,}, {facts['phase']} pairs",
        f"hash       {facts['batch']}, "
        + ("as the run logged it" if known else "which the run has not logged: nothing to compare it with"),
        f"batch      {facts['micro_batches']:,} micro-batches, {facts['pairs']:,} pairs of {lengths} tokens, {facts['tokens']:,} in all",
        f"masked     {facts['masked']:,} tokens ({facts['masked'] / facts['tokens']:.1%})",
        f"next       B follows A in {facts['follows']:,} pairs, and is from another document in {facts['pairs'] - facts['follows']:,}",
    ]
    for number, pair in enumerate(pairs[:at_most], 1):
        answer = "B follows A" if pair["follows"] else "B is from another document"
        lines += [
            "",
            f"pair {number} (micro-batch {pair['micro_batch']}): {len(pair['pieces'])} tokens, {answer}",
            f"  {inert(pair['text'])}",
        ]
    left = len(pairs) - at_most
    return [*lines, "", f"{left:,} more pairs: --pairs {len(pairs)} shows all, --json FILE writes them"] if left > 0 else lines
