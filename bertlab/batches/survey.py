"""What pretraining makes of a corpus: the pairs of an epoch counted, and some documents and pairs to look at.

Costs: the plan of one epoch (3 to 5 million sentences a second on one core) for each length asked for, in memory for one block, whatever
the size of the corpus. Nothing is estimated: the pairs are those that `bertlab pretrain` with the same seed and lengths trains on first.
"""

from typing import Any

import numpy as np

from bertlab.batches import randomness
from bertlab.batches.masking import masking_for
from bertlab.batches.pairs import SPECIAL_PLACES, Pairs
from bertlab.batches.pretraining import PretrainingBatches
from bertlab.progress import Report
from bertlab.tokens.shards import Documents
from bertlab.tokens.tokenizer import Tokenizer

SHOWN_CHARACTERS = 200  # of a sample document
DECODED_TOKENS = 400  # surely more than SHOWN_CHARACTERS of text

_SAMPLES = 2  # what a key of the seed is derived for; 0 and 1 are the order of documents and the pairs of an epoch


def batches_for(documents: Documents, tokenizer: Tokenizer, *, max_length: int, seed: int) -> PretrainingBatches:
    """The batches of `bertlab pretrain` with its own defaults, in micro-batches of one longest pair or 4096 tokens."""
    return PretrainingBatches(
        documents,
        masking_for(tokenizer),
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        seed=seed,
        max_length=max_length,
        micro_tokens=max(max_length, 4096),
    )


def pair_facts(batches: PretrainingBatches, report: Report) -> dict[str, Any]:
    """One epoch of pairs against the text that it is made from.

    pairs, mean_length (special tokens included); text_tokens, what the pairs hold without special tokens, of which random B's are a second
    sight of text that also has its turn; left_out, tokens of the corpus that no pair of the epoch holds, and left_out_share of all;
    long_sentences, those that no pair can hold whole (beside one token of another), and over_long, their tokens beyond;
    random_share and forced_share of the pairs (forced: the chunk was one sentence), majority, the share of the commoner answer.
    `report` is called with the blocks planned.
    """
    documents = batches.documents
    pairs = random = forced = length = text = seen = 0
    for place in range(batches.blocks):
        plan = batches.block(place).pairs
        pairs += len(plan.key)
        random += int(plan.is_random.sum())
        forced += int(plan.is_forced.sum())
        length += int(plan.lengths.sum())
        seen += tokens_seen(plan)
        report(place + 1, "")
    text = length - SPECIAL_PLACES * pairs
    room = batches.max_length - SPECIAL_PLACES - 1
    beyond = [np.maximum(np.diff(shard.sentence_offsets).astype(np.int64) - room, 0) for shard in documents.shards]
    over_long = sum(int(tokens.sum()) for tokens in beyond)
    total = documents.num_tokens
    return {
        "max_length": batches.max_length,
        "pairs": pairs,
        "mean_length": length / pairs,
        "text_tokens": text,
        "text_share": text / total,
        "left_out": total - seen,
        "left_out_share": (total - seen) / total,
        "long_sentences": sum(int((tokens > 0).sum()) for tokens in beyond),
        "over_long": over_long,
        "over_long_share": over_long / total,
        "random_share": random / pairs,
        "forced_share": forced / pairs,
        "majority": max(random, pairs - random) / pairs,
    }


def tokens_seen(pairs: Pairs) -> int:
    """How many different places of the corpus the pairs hold: what overlaps counts once."""
    starts = np.concatenate([pairs.a_start, pairs.b_start])
    ends = starts + np.concatenate([pairs.a_length, pairs.b_length])
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    reached = np.maximum.accumulate(np.concatenate([starts[:1], ends[:-1]]))  # how far the runs before have come
    return int(np.maximum(0, ends - np.maximum(starts, reached)).sum())


def sample_documents(documents: Documents, tokenizer: Tokenizer, number: int, seed: int) -> list[dict[str, Any]]:
    """Up to `number` different documents, drawn by `seed`: id, source, sentences, tokens, and the first SHOWN_CHARACTERS, decoded."""
    count = documents.num_documents
    drawn = randomness.permuted(np.arange(min(number, count)), count, randomness.key(seed, _SAMPLES))
    first = np.cumsum([0, *(len(shard.document_offsets) - 1 for shard in documents.shards)])
    samples = []
    for place in drawn.tolist():
        shard = int(np.searchsorted(first, place, side="right")) - 1
        row = place - int(first[shard])
        batch = documents.shards[shard].batch
        sentences = documents.document(place)
        text = tokenizer.decode(np.concatenate(sentences[:DECODED_TOKENS])[:DECODED_TOKENS])
        samples.append(
            {
                "id": batch.column("id")[row].as_py(),
                "source": batch.column("source")[row].as_py(),
                "sentences": len(sentences),
                "tokens": sum(map(len, sentences)),
                "text": text[:SHOWN_CHARACTERS],
                "is_whole": len(text) <= SHOWN_CHARACTERS and sum(map(len, sentences)) <= DECODED_TOKENS,
            }
        )
    return samples


def sample_pairs(batches: PretrainingBatches, tokenizer: Tokenizer, number: int) -> list[dict[str, Any]]:
    """The first `number` pairs of a run, as the model sees them.

    micro_batch, its number; pieces, what stands at each place; masked, [place, what stood there] of the tokens to predict;
    second, where B begins; follows, whether B truly follows A.
    """
    shown: list[dict[str, Any]] = []
    for micro_batch in range(number):
        batch = batches.micro(micro_batch)
        bounds = batch.cu_seqlens.tolist()
        masked = dict(zip(batch.mlm_positions.tolist(), batch.mlm_labels.tolist(), strict=True))
        for sequence, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            if len(shown) == number:
                return shown
            shown.append(
                {
                    "micro_batch": micro_batch,
                    "pieces": [tokenizer.token(id) for id in batch.input_ids[start:end].tolist()],
                    "masked": [[place - start, tokenizer.token(masked[place])] for place in range(start, end) if place in masked],
                    "second": int(batch.token_type_ids[start:end].argmax()),
                    "follows": batch.nsp_labels[sequence].item() == 0,
                }
            )
    return shown
