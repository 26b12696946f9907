"""A model folder at work: sentence vectors, answers of a fine-tuned model, words for gaps. No training happens here.

Every call makes flat batches of like lengths under a token budget, and gives results in the order of its input; a vector
does not depend on what else was in the call beyond the last bits of rounding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.disk import read_json
from bertlab.errors import ConfigError, DataError
from bertlab.model.encoder import Bert
from bertlab.model.folder import WithHead, fetch, load_config, load_facts, load_labels, load_model, refuse_misfit
from bertlab.model.heads import BertForPreTraining
from bertlab.tasks import choosing
from bertlab.tasks.contract import Labels, Task
from bertlab.tokens import tokenizer
from bertlab.tokens.tokenizer import MASK
from bertlab.training.forward import in_order
from bertlab.training.processes import Precision, autocast, choose_device

Pooling = Literal["cls", "mean", "max"]


def pool(hidden: Tensor, cu_seqlens: Tensor, pooling: Pooling) -> Tensor:
    """One vector a sequence from hidden states (T, d): the state of [CLS], or the mean or maximum over its tokens. Shape (N, d)."""
    if pooling == "cls":
        return hidden[cu_seqlens[:-1].long()]
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
    return torch.segment_reduce(hidden, pooling, lengths=lengths, axis=0)


class LoadedModel:
    """A model folder, opened once. Attributes: model, tokenizer, device, max_length, pooling; of a fine-tuned one task and labels (its
    classes in order), else None."""

    def __init__(self, folder: str, device: str | None = None, precision: Precision = "fp32") -> None:
        self.folder = fetch(folder)
        self.device = choose_device(device)
        self.precision: Precision = precision
        architecture = (load_config(self.folder).get("architectures") or [""])[0]  # first: it names a run folder given for its model
        self.tokenizer = tokenizer.load(self.folder)
        self.task: Task | None = None
        self.known = Labels([])
        self.labels: list[str] | None = None
        self.model: Bert | WithHead
        if architecture in {task.head.__name__ for task in choosing.TASKS.values()}:
            self.task, self.known = choosing.of_folder(self.folder)
            self.labels = self.known.names
            self.model, self.absent = load_model(self.folder, self.task.head)
        elif architecture in ("BertForPreTraining", "BertForMaskedLM"):
            self.model, self.absent = load_model(self.folder, BertForPreTraining)
        else:
            self.model, self.absent = load_model(self.folder, Bert)
        self.model.to(self.device).eval()
        self.encoder = self.model if isinstance(self.model, Bert) else self.model.bert
        refuse_misfit(self.tokenizer, self.model.config, folder)
        self.pooling: Pooling = _recorded_pooling(Path(self.folder))
        self.pairs: bool | None = load_facts(self.folder).get("pairs")
        self.long: Any = load_facts(self.folder).get("long") or (self.task.longs[0] if self.task else "head")
        self.max_length = _recorded_length(Path(self.folder), self.model.config.max_position_embeddings)

    def embed(self, texts: Sequence[str], pooling: Pooling | None = None, normalize: bool = False) -> np.ndarray:
        """Sentence vectors (n, hidden_size) float32. `pooling`: cls, mean or max; by default what the folder records (mean for ours)."""
        return self.vectors_of(self.encode(texts), pooling, normalize)

    def predict(self, texts: Sequence[Any], texts_b: Sequence[str] | None = None) -> list[Any]:
        """Answers by the folder's task to texts, or to pairs (texts[i], texts_b[i]): a Prediction, a LabelSet or an Estimate each; Entities
        of sentences (texts, or lists of words); an Answer to each of (questions, contexts).

        Raises ConfigError for a folder that was not fine-tuned.
        """
        if self.task is None:
            load_labels(self.folder)  # raises, and says what to do
        assert self.task is not None
        _refuse_one_text(texts, texts_b)
        rows = self.task.ask(texts, texts_b)
        examples = self.task.encode(self.tokenizer, rows, None, self.known, max_length=self.max_length, long=self.long)
        return self.task.answers(self.outputs_of(examples), self.known)

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> Examples:
        """Texts, or pairs, as token ids, truncated to `max_length`; says how many were."""
        _refuse_one_text(texts, texts_b)
        return encode_examples(self.tokenizer, texts, texts_b, max_length=self.max_length)

    def vectors_of(self, examples: Examples, pooling: Pooling | None = None, normalize: bool = False) -> np.ndarray:
        """Sentence vectors (n, hidden_size) of encoded texts."""
        if pooling not in (None, *get_args(Pooling)):
            raise ConfigError(f"pooling={pooling!r}: give one of {', '.join(get_args(Pooling))}")

        def vectors(batch: LabelledBatch) -> Tensor:
            pooled = pool(self.encoder(**batch.encoder_inputs()).float(), batch.cu_seqlens, pooling or self.pooling)
            return torch.nn.functional.normalize(pooled) if normalize else pooled

        return in_order(self.model, examples, vectors, self.model.config.hidden_size, device=self.device, precision=self.precision)

    def outputs_of(self, examples: Examples, what: str | None = None) -> Any:
        """The outputs of the folder's task for encoded texts: class probabilities (n, K) in the order of `labels`, numbers (n,), ...

        Named by `what`, progress is shown.
        """
        assert self.task is not None, "only a fine-tuned model has outputs"
        if self.pairs is not None and self.pairs != examples.are_pairs:
            wanted = "pairs: give a second text (text_b)" if self.pairs else "single texts: give no text_b"
            raise DataError(f"{self.folder} was fine-tuned on {wanted}")
        return self.task.run(self.model, examples, self.known, device=self.device, precision=self.precision, what=what)

    def fill(self, text: str, top: int = 5) -> list[list[tuple[str, float]]]:
        """For each [MASK] in `text`, the `top` likeliest tokens with their probabilities. Raises ConfigError without an MLM head."""
        if not isinstance(self.model, BertForPreTraining) or any(name.startswith("cls.predictions") for name in self.absent):
            raise ConfigError(f"{self.folder}: has no masked-word head: use a pretrained folder, not a fine-tuned one")
        if MASK not in text:
            raise DataError(f"no {MASK} in the text: write {MASK} where a word is to be filled in")
        inner = self.tokenizer.encode_around_mask(text)
        if self.tokenizer.mask_id in inner[self.max_length - 2 :]:
            raise DataError(f"a {MASK} beyond the {self.max_length} tokens that the model takes: shorten the text before it")
        inner = inner[: self.max_length - 2]
        ids = np.array([self.tokenizer.cls_id, *inner, self.tokenizer.sep_id], dtype=np.int64)
        zeros = np.zeros(len(ids), dtype=np.int64)
        examples = Examples(ids, zeros, np.array([0, len(ids)]), np.array([-1]), 0)
        places = torch.from_numpy(np.flatnonzero(ids == self.tokenizer.mask_id)).to(self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            logits, _ = self.model(mlm_positions=places, **examples.batch(np.array([0])).to(self.device).encoder_inputs())
        likeliest = logits.float().softmax(-1).topk(min(top, self.tokenizer.vocab_size))
        return [
            [(self.tokenizer.token(id), probability) for id, probability in zip(ids, values, strict=True)]
            for ids, values in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        ]


def _refuse_one_text(texts: Any, texts_b: Any) -> None:
    if isinstance(texts, str) or isinstance(texts_b, str):
        raise DataError("one text was given where a list of texts is wanted: write [text]")
    if texts_b is not None and len(texts_b) != len(texts):
        raise DataError(f"{len(texts)} texts and {len(texts_b)} second texts: give one for each")


def _recorded_pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    values = read_json(path) if path.is_file() else {}
    for mode in ("cls", "max", "mean"):
        if values.get("pooling_mode") == mode or values.get({"cls": "pooling_mode_cls_token"}.get(mode, f"pooling_mode_{mode}_tokens")):
            return mode
    return "mean"


def _recorded_length(folder: Path, positions: int) -> int:
    path = folder / "sentence_bert_config.json"
    return min(positions, (read_json(path) if path.is_file() else {}).get("max_seq_length") or positions)
