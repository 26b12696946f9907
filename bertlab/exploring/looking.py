"""What a model makes of one text, or pair: tokens, the attention of every layer and head, words for gaps, next sentence, its task's answer.

Computed on bertlab/model/opened.py, a text at a time (docs/exploring.md has how long that takes). Attention comes in steps of 1/255.
Everything is given as JSON has it; nothing is drawn here.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertlab.batches.labelled import share_room
from bertlab.errors import ConfigError, CorruptError
from bertlab.inference import LoadedModel
from bertlab.model.encoder import Bert
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.model.opened import Opened, head_logits, opened, word_vectors

LONGEST = 256  # tokens of a text that is looked at: a BERT-base's attention to them is 9 MB
WORDS = 8  # likely ones for a gap


@dataclass(frozen=True)
class Framed:
    """A text, or pair, as the model reads it: ids and segments (1, L), the ids before some were masked, and how many tokens were cut."""

    ids: Tensor
    segments: Tensor
    unmasked: Tensor
    cut: int


def framed(model: LoadedModel, text: str, text_b: str | None = None, masked: Sequence[int] = ()) -> Framed:
    """[CLS] text [SEP] text_b [SEP], in which "[MASK]" means a gap, and the tokens at the places `masked` are gaps too.

    Raises ConfigError for a place that is no token of a text.
    """
    tokenizer, most = model.tokenizer, min(model.max_length, LONGEST)
    sides = [tokenizer.encode_around_mask(each) for each in (text, text_b) if each is not None]
    wanted = np.array([[len(side)] for side in sides] + [[0]] * (2 - len(sides)))
    kept = np.concatenate(share_room(wanted[0], wanted[1], most - 1 - len(sides)))
    parts = [np.array([tokenizer.cls_id])]
    for side, length in zip(sides, kept, strict=False):
        parts += [side[:length], np.array([tokenizer.sep_id])]
    ids = torch.from_numpy(np.concatenate(parts).astype(np.int64))
    segments = (torch.arange(len(ids)) >= kept[0] + 2).long()
    after = ids.clone()
    for place in masked:
        if not 0 <= place < len(ids) or int(ids[place]) in (tokenizer.cls_id, tokenizer.sep_id):
            raise ConfigError(f"place {place} is no token of the text, which has {len(ids)}: only those can be masked")
        after[place] = tokenizer.mask_id
    return Framed(after[None], segments[None], ids[None], int(wanted.sum() - kept.sum()))


def looked_at(model: LoadedModel, text: str, text_b: str | None = None, masked: Sequence[int] = ()) -> dict[str, Any]:
    """Everything at once, as the page wants it. Raises ConfigError for a place that cannot be masked, CorruptError for NaN."""
    sequence = framed(model, text, text_b, masked)
    with torch.inference_mode():
        inside = opened(model.encoder, word_vectors(model.encoder, sequence.ids), sequence.segments)
        if not torch.isfinite(inside.last).all():
            raise CorruptError("the model gives NaN or infinity: its weights are broken, or its training went wrong")
        return {
            "tokens": _tokens(model, sequence),
            "cut": sequence.cut,
            "attention": packed_attention(inside),
            "gaps": _gaps(model, sequence, inside),
            "next": _next_sentence(model, inside) if text_b is not None else None,
            "answer": _answer(model, inside, text, text_b),
        }


def abilities(model: LoadedModel) -> dict[str, Any]:
    """What can be asked of this model."""
    can = {"masked words": _has_words(model), "next sentence": _has_next(model), "attributions": _is_sentence_head(model)}
    of_task = [] if model.task is None else [f"a model for the task {model.task.name}"]
    return {
        "can": ", ".join([*of_task, *(name for name, there in can.items() if there)]) or "attention and vectors alone",
        "layers": model.encoder.config.num_hidden_layers,
        "heads": model.encoder.config.num_attention_heads,
        "words": _has_words(model),
        "next": _has_next(model),
        "task": model.task.name if model.task else None,
        "labels": model.labels,
        "pairs": model.pairs,
        "longest": min(model.max_length, LONGEST),
    }


def packed_attention(inside: Opened) -> dict[str, Any]:
    """The weights of all layers and heads as one string: layers x heads x L x L bytes, each round(255 w), in base 64."""
    weights = torch.cat(inside.attention)  # (layers, H, L, L)
    whole = (weights * 255).round_().to(torch.uint8).cpu().numpy()
    return {"layers": len(weights), "heads": weights.shape[1], "weights": b64encode(whole.tobytes()).decode()}


def _tokens(model: LoadedModel, sequence: Framed) -> list[dict[str, Any]]:
    special = {model.tokenizer.cls_id, model.tokenizer.sep_id}
    found = []
    for id, segment, before in zip(*(each[0].tolist() for each in (sequence.ids, sequence.segments, sequence.unmasked)), strict=True):
        token = {"text": model.tokenizer.token(id), "segment": segment, "frame": id in special}
        found.append(token | ({"was": model.tokenizer.token(before)} if before != id else {}))
    return found


def _gaps(model: LoadedModel, sequence: Framed, inside: Opened) -> list[dict[str, Any]]:
    """Likely words for every [MASK], and how likely the word is that was there."""
    if not _has_words(model):
        return []
    pretrained = model.masked_word_model()
    places = (sequence.ids[0] == model.tokenizer.mask_id).nonzero()[:, 0].tolist()
    found = []
    for place in places:  # one at a time: a page has few, and (1, V) is small
        logits = pretrained.cls.predictions(inside.last[0, place], pretrained.bert.embeddings.word_embeddings.weight)
        probabilities = logits.float().softmax(-1)
        best = probabilities.topk(min(WORDS, len(probabilities)))
        words = [_word(model, id, value) for id, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        was = int(sequence.unmasked[0, place])
        known = was != model.tokenizer.mask_id
        found.append({"place": place, "words": words, "was": _word(model, was, float(probabilities[was])) if known else None})
    return found


def _word(model: LoadedModel, id: int, probability: float) -> dict[str, Any]:
    return {"word": model.tokenizer.token(id), "probability": probability}


def _has_words(model: LoadedModel) -> bool:
    return isinstance(model.model, BertForPreTraining) and not any(name.startswith("cls.predictions") for name in model.absent)


def _has_next(model: LoadedModel) -> bool:
    """Whether the next-sentence head and the pooler under it were trained."""
    needed = ("cls.seq_relationship", "bert.pooler")
    return isinstance(model.model, BertForPreTraining) and not any(name.startswith(needed) for name in model.absent)


def _is_sentence_head(model: LoadedModel) -> bool:
    return isinstance(model.model, BertForSequenceClassification)


def _next_sentence(model: LoadedModel, inside: Opened) -> dict[str, float] | None:
    """How likely the second text follows the first; None without the head."""
    if not _has_next(model):
        return None
    assert isinstance(model.model, BertForPreTraining) and model.encoder.pooler is not None
    logits = model.model.cls.seq_relationship(model.encoder.pooler(inside.last[:, 0]))[0]
    return {"follows": float(logits.float().softmax(-1)[0])}


def _answer(model: LoadedModel, inside: Opened, text: str, text_b: str | None) -> dict[str, Any] | None:
    """What the folder's task says of the text: classes with probabilities, a number, a tag a token, or the part that answers."""
    if model.task is None:
        return None
    answer: dict[str, Any] = {"task": model.task.name}
    wants_pair = model.task.name == "answers" or model.pairs is True
    if wants_pair != (text_b is not None) and (wants_pair or model.pairs is False):
        return answer | {"note": "fine-tuned on pairs: give a second text" if wants_pair else "fine-tuned on single texts: give no second"}
    assert not isinstance(model.model, Bert | BertForPreTraining)
    logits = head_logits(model.model, inside.last)[0].float()
    if model.task.name == "regression":
        return answer | {"value": float(logits[0])}
    if model.task.name == "answers":
        (found,) = model.predict([text], [text_b or ""])
        return answer | {"text": found.text, "probability": found.probability}
    names = model.known.names
    logits = as_said(model, logits)
    probabilities = logits.sigmoid() if model.task.exclusive is False else logits.softmax(-1)
    if model.task.name == "tokens":
        best = probabilities.max(-1)
        return answer | {"tags": [_named(names, *each) for each in zip(best.indices.tolist(), best.values.tolist(), strict=True)]}
    order = probabilities.argsort(descending=True, stable=True).tolist()
    return answer | {"classes": [_named(names, place, float(probabilities[place])) for place in order]}


def as_said(model: LoadedModel, logits: Tensor) -> Tensor:
    """Logits at the temperature that dev taught, where it taught one: their probabilities are those of `bertlab predict`."""
    return logits if model.known.temperature is None else logits / model.known.temperature


def _named(names: Sequence[str], place: int, probability: float) -> dict[str, Any]:
    return {"label": names[place], "probability": probability}
