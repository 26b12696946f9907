"""One vector from a text's hidden states, and what a model folder records about it in sentence-transformers' files.

    cls            the state of [CLS]: good only where the model was trained to put the text's meaning there
    mean           the mean over all tokens, [CLS] and [SEP] included
    max            the maximum of each number over all tokens
    weighted       the mean with weights 1, 2, 3, ... from the first token on (Muennighoff 2022)
    mean_sqrt_len  the sum over the square root of the number of tokens
    last           the state of the last token, [SEP]

Knows nothing of texts. Shapes: T tokens of N sequences, d = hidden_size.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from bertlab.disk import read_json
from bertlab.errors import ConfigError, CorruptError
from bertlab.model.facts import Pooling

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

# sentence-transformers' names: pooling_mode's values since 5.4, and the flags before
_THEIR_NAMES: dict[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "weightedmean": "weighted",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "lasttoken": "last",
}
_THEIR_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_weightedmean_tokens": "weighted",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}


def only_places(cu_seqlens: Tensor, pooling: Pooling) -> Tensor | None:
    """Where the states (N,) stand that are the vectors themselves; None for a pooling that every state enters."""
    if pooling == "cls":
        return cu_seqlens[:-1].long()
    return cu_seqlens[1:].long() - 1 if pooling == "last" else None


def pool(hidden: Tensor, cu_seqlens: Tensor, pooling: Pooling) -> Tensor:
    """One vector a sequence from hidden states (T, d): shape (N, d). No sequence is empty."""
    places = only_places(cu_seqlens, pooling)
    if places is not None:
        return hidden[places]
    starts, ends = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    lengths = ends - starts
    if pooling in ("mean", "max"):
        return torch.segment_reduce(hidden, pooling, lengths=lengths, axis=0)
    counts = lengths[:, None].to(hidden.dtype)
    if pooling == "weighted":
        places = torch.arange(1, len(hidden) + 1, device=hidden.device) - torch.repeat_interleave(starts, lengths)
        total = torch.segment_reduce(hidden * places[:, None], "sum", lengths=lengths, axis=0)
        return total / (counts * (counts + 1) / 2)
    assert pooling == "mean_sqrt_len", pooling
    return torch.segment_reduce(hidden, "sum", lengths=lengths, axis=0) / counts.sqrt()


def pool_padded(states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """`pool` of sequences padded at their ends: states (N, L, d) and a mask (N, L) that is 1 at tokens -> (N, d)."""
    real = attention_mask[:, :, None].to(states.dtype)
    counts = real.sum(1)
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = (attention_mask.sum(1) - 1)[:, None, None]
        return states.gather(1, last.expand(-1, 1, states.shape[-1]))[:, 0]
    if pooling == "max":
        return states.masked_fill(real == 0, torch.finfo(states.dtype).min).amax(1)
    if pooling == "mean":
        return (states * real).sum(1) / counts
    if pooling == "weighted":
        weights = real * torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)[:, None]
        return (states * weights).sum(1) / weights.sum(1)
    assert pooling == "mean_sqrt_len", pooling
    return (states * real).sum(1) / counts.sqrt()


# ---- what a folder records


def pooling_record(pooling: Pooling, hidden_size: int) -> dict[str, Any]:
    """1_Pooling/config.json as both old and new readers of sentence-transformers want it."""
    mode = next(theirs for theirs, ours in _THEIR_NAMES.items() if ours == pooling)
    flags = {flag: ours == pooling for flag, ours in _THEIR_FLAGS.items()}
    return {"word_embedding_dimension": hidden_size, "pooling_mode": mode} | flags


@dataclass(frozen=True)
class Recorded:
    """How a folder says that its sentence vectors are made; pooling is None where it says nothing."""

    pooling: Pooling | None = None
    normalize: bool = False
    max_length: int | None = None
    prompt: str = ""
    beyond: str = ""  # why they cannot be made here, if so: what the folder asks for beyond this file

    def usable_pooling(self, origin: str) -> Pooling:
        """The recorded pooling, or mean. Raises ConfigError where the folder wants more than a pooling."""
        if self.beyond:
            raise ConfigError(f"{origin}: {self.beyond}: give --pooling ({', '.join(POOLINGS)}) to have the vectors without that")
        return self.pooling or "mean"


def recorded(folder: Path) -> Recorded:
    """What modules.json and the files it names say. Raises CorruptError for files that cannot be read."""
    modules = _json(folder / "modules.json", list) or []
    paths = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules if isinstance(module, dict)}
    if any(path.startswith("/") or ".." in path.split("/") for path in paths.values()):
        raise CorruptError(f"{folder / 'modules.json'} names a place outside the folder: copy the folder again")
    beyond = [name for name in paths if name not in ("Transformer", "Pooling", "Normalize")]
    transformer, tokenizer = (_json(folder / name, dict) or {} for name in ("sentence_bert_config.json", "tokenizer_config.json"))
    length = transformer.get("max_seq_length")
    if length is None and modules:  # sentence-transformers 6 leaves it to the tokenizer
        length = tokenizer.get("model_max_length")
    settings = _json(folder / "config_sentence_transformers.json", dict) or {}
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or ""
    values = _json(folder / paths.get("Pooling", "1_Pooling") / "config.json", dict) or {}
    pooling, why = _recorded_pooling(values)
    if prompt and values.get("include_prompt") is False:
        why = "its pooling leaves out the prompt (include_prompt is false), which is not done here"
    if transformer.get("do_lower_case") is True and tokenizer.get("do_lower_case") is False:
        why = "its texts become lower-case before its tokenizer, which does not do it (do_lower_case), and that is not done here"
    if beyond:
        why = f"its vectors go through {beyond[0]}, which is not done here"
    return Recorded(pooling, "Normalize" in paths, length if isinstance(length, int) and length > 0 else None, str(prompt), why)


def _recorded_pooling(values: dict[str, Any]) -> tuple[Pooling | None, str]:
    """The pooling of 1_Pooling/config.json, or None and, if there is one that is not done here, why."""
    mode = values.get("pooling_mode")
    modes = [str(each) for each in (mode if isinstance(mode, list | tuple) else [mode] if mode else [])]
    modes = modes or [flag for flag in _THEIR_FLAGS if values.get(flag) is True]
    if len(modes) > 1:
        return None, f"its vectors are several poolings end to end ({', '.join(modes)}), which is not done here"
    if not modes:
        return None, ""
    found = _THEIR_NAMES.get(modes[0]) or _THEIR_FLAGS.get(modes[0])
    return found, "" if found else f"its pooling is {modes[0]!r}, which is not done here"


def _json(path: Path, kind: type) -> Any:
    value = read_json(path) if path.is_file() else None
    if value is not None and not isinstance(value, kind):
        raise CorruptError(f"{path}: not a JSON {'list' if kind is list else 'object'}: copy the folder again")
    return value
