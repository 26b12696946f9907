"""A model folder at work: sentence vectors, answers of a fine-tuned model, words for gaps. No training happens here.

Every call makes flat batches of like lengths under a token budget, and gives results in the order of its input; a vector
does not depend on what else was in the call beyond the last bits of rounding.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bertlab.batches.cloze import Frames, frames_of_gaps
from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.corpus.given import given_texts
from bertlab.embedding.engine import Embedder, What, finished
from bertlab.errors import ConfigError, DataError
from bertlab.model.encoder import Bert
from bertlab.model.facts import fetch, load_config, load_facts, load_labels
from bertlab.model.folder import WithHead, load_model, refuse_misfit
from bertlab.model.heads import BertForPreTraining
from bertlab.model.pooling import POOLINGS, Pooling, recorded
from bertlab.tasks import choosing
from bertlab.tasks.contract import Labels, Task
from bertlab.tasks.measures import LEARNT, at_thresholds, with_temperature, without_known_tokens
from bertlab.tokens import tokenizer
from bertlab.training.forward import in_order
from bertlab.training.processes import Precision, choose_device, uses_bf16

_LOGITS_AT_ONCE = 2**24  # over the vocabulary, at masked places: 64 MB in fp32


class LoadedModel:
    """A model folder, opened once. Attributes: model, tokenizer, device, max_length, pooling; of a fine-tuned one task and labels (its
    classes in order), else None."""

    def __init__(
        self,
        folder: str | PathLike[str],
        device: str | None = None,
        precision: Precision = "fp32",
        thresholds: Literal["dev"] | None = None,
    ) -> None:
        if thresholds not in (None, "dev"):
            raise ConfigError(f"thresholds={thresholds!r}: give 'dev', or leave it out")
        self.folder = fetch(folder)
        self.device = choose_device(device)
        uses_bf16(self.device, precision)  # raises for what is no precision
        self.precision: Precision = precision
        architecture = (load_config(self.folder).get("architectures") or [""])[0]  # first: it names a run folder given for its model
        self.tokenizer = tokenizer.load(self.folder)
        self.task: Task | None = None
        self.known = Labels([])
        self.labels: list[str] | None = None
        self.model: Bert | WithHead
        if architecture in {task.head.__name__ for task in choosing.TASKS.values()}:
            self.task, known = choosing.of_folder(self.folder)
            learnt = load_facts(self.folder).get(LEARNT)
            self.known = with_temperature(known, learnt)
            if thresholds is not None:
                self.known = at_thresholds(self.known, learnt, str(folder))
            self.labels = self.known.names
            self.model, self.absent = load_model(self.folder, self.task.head)
        elif architecture in ("BertForPreTraining", "BertForMaskedLM"):
            self.model, self.absent = load_model(self.folder, BertForPreTraining)
        else:
            self.model, self.absent = load_model(self.folder, Bert)
        self.model.to(self.device).eval()
        self.encoder = self.model if isinstance(self.model, Bert) else self.model.bert
        refuse_misfit(self.tokenizer, self.model.config, str(folder))
        self.recorded = recorded(Path(self.folder))
        self.pooling: Pooling = self.recorded.pooling or "mean"
        self.pairs: bool | None = load_facts(self.folder).get("pairs")
        self.long: Any = load_facts(self.folder).get("long") or (self.task.longs[0] if self.task else "head")
        positions = self.model.config.max_position_embeddings
        self.max_length = min(positions, self.recorded.max_length or positions)

    def embed(self, texts: Sequence[str], pooling: Pooling | None = None, normalize: bool | None = None) -> np.ndarray:
        """Sentence vectors (n, hidden_size) float32. `pooling` (bertlab/model/pooling.py) and `normalize` (to length 1) are by default what
        the folder records, else mean and not."""
        return self.vectors_of(self.embedder.encode(given_texts(texts)), pooling, normalize)

    @cached_property
    def embedder(self) -> Embedder:
        """This model's encoder made fast for vectors, once: of weights that are changed after that it sees a part."""
        return Embedder(self.encoder, self.tokenizer, recorded=self.recorded, device=self.device, precision=self.precision)

    def predict(self, texts: Sequence[Any], texts_b: Sequence[str] | None = None) -> list[Any]:
        """Answers by the folder's task to texts, or to pairs (texts[i], texts_b[i]): a Prediction, a LabelSet or an Estimate each; Entities
        of sentences (texts, or lists of words); an Answer to each of (questions, contexts). The same as `bertlab predict` writes:
        probabilities at the temperature that dev taught, where it taught one, and no_known_tokens where the model saw nothing of a text.
        Labels are given at 0.5 or, of a model opened so, at dev's thresholds, by the model's own probabilities.

        Raises ConfigError for a folder that was not fine-tuned.
        """
        if self.task is None:
            load_labels(self.folder)  # raises, and says what to do
        assert self.task is not None
        rows = self.task.ask(*_given(texts, texts_b, words=self.task.name == "tokens"))
        answers: list[Any] = list(self.task.answers(self.outputs_of(self.encode_rows(rows)), self.known))
        unseen = without_known_tokens(self.tokenizer, rows)
        return [replace(answer, no_known_tokens=True) if nothing else answer for answer, nothing in zip(answers, unseen, strict=True)]

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> Examples:
        """Texts, or pairs, as token ids, truncated to `max_length`; says how many were."""
        return encode_examples(self.tokenizer, *_given(texts, texts_b), max_length=self.max_length)

    def encode_rows(self, rows: Any, gold: Any = None) -> Any:
        """Rows of the folder's kind of task as its examples, of texts that are too long what it was trained on."""
        assert self.task is not None, "only a fine-tuned model has a task"
        return self.task.encode(self.tokenizer, rows, gold, self.known, max_length=self.max_length, long=self.long)

    def vectors_of(self, examples: Examples, pooling: Pooling | None = None, normalize: bool | None = None) -> np.ndarray:
        """Sentence vectors (n, hidden_size) of encoded texts."""
        if pooling not in (None, *POOLINGS):
            raise ConfigError(f"pooling={pooling!r}: give one of {', '.join(POOLINGS)}")
        if not isinstance(normalize, bool | np.bool_ | None):
            raise ConfigError(f"normalize={normalize!r}: give True, False, or leave it out")
        what = What(pooling=pooling or self.recorded.usable_pooling(self.folder))
        vectors = self.embedder.vectors(examples, what)
        return finished(vectors, self.recorded.normalize if normalize is None else normalize)

    def outputs_of(self, examples: Examples, what: str | None = None) -> Any:
        """The outputs of the folder's task for encoded texts: class probabilities (n, K) in the order of `labels`, numbers (n,), ...

        Named by `what`, progress is shown.
        """
        assert self.task is not None, "only a fine-tuned model has outputs"
        if self.pairs is not None and self.pairs != examples.are_pairs:
            wanted = "pairs: give a second text (text_b; from Python texts_b)" if self.pairs else "single texts: give no text_b"
            raise DataError(f"{self.folder} was fine-tuned on {wanted}")
        return self.task.run(self.model, examples, self.known, device=self.device, precision=self.precision, what=what)

    def fill(self, text: str, top: int = 5, text_b: str | None = None) -> list[list[tuple[str, float]]]:
        """For each [MASK] in `text`, or in the pair, the `top` likeliest tokens with their probabilities, the other gaps left open.

        Raises ConfigError without an MLM head, DataError without a [MASK].
        """
        self.masked_word_model()  # says first what no text can mend
        number: Any = top
        if not isinstance(number, Integral) or number < 1:
            raise ConfigError(f"top={top!r}: give a whole number, 1 or more (a second text is text_b=)")
        for given in [text] if text_b is None else [text, text_b]:
            if not isinstance(given, str):
                raise DataError(f"{type(given).__name__} is no text: fill takes one text, with [MASK] where a word is wanted")
        frames, _ = frames_of_gaps(self.tokenizer, [text], None if text_b is None else [text_b], max_length=self.max_length)
        return self.likeliest(frames, top)

    def likeliest(self, frames: Frames, top: int = 5) -> list[list[tuple[str, float]]]:
        """For each frame's gap the `top` likeliest tokens with their probabilities."""
        found = []
        vocabulary = self.model.config.vocab_size
        rows = max(1, _LOGITS_AT_ONCE // vocabulary)
        for start in range(0, len(frames), rows):
            some = frames.take(range(start, min(start + rows, len(frames))))
            logs = torch.from_numpy(self.gap_log_probabilities(some.examples, some.gaps[:, None]))
            best = logs.topk(min(top, vocabulary))
            for ids, values in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True):
                found.append([(self.tokenizer.token(id), probability) for id, probability in zip(ids, values, strict=True)])
        return found

    def gap_log_probabilities(
        self, examples: Examples, places: np.ndarray, wanted: tuple[np.ndarray, np.ndarray] | None = None, what: str | None = None
    ) -> np.ndarray:
        """What the masked-word head expects at `places` (n, G) of each example, as log-probabilities over the whole vocabulary.

        wanted: (columns of `places`, vocabulary ids), each (w,) -> (n, w); without it every id of the single place -> (n, vocab_size).
        Only these places meet the vocabulary, a bounded number at a time.
        """
        model = self.masked_word_model()
        assert wanted is not None or places.shape[1] == 1
        at, rows = torch.from_numpy(places).to(self.device), max(1, _LOGITS_AT_ONCE // (model.config.vocab_size * places.shape[1]))
        columns, ids = (torch.from_numpy(each).to(self.device) for each in wanted or (np.empty(0, np.int64), np.empty(0, np.int64)))

        def log_probabilities(batch: LabelledBatch) -> Tensor:
            gaps = batch.cu_seqlens[:-1].long()[:, None] + at[batch.rows]  # (N, G)
            hidden = model.bert(places=gaps.flatten(), **batch.encoder_inputs()).view(*gaps.shape, -1)
            parts = []
            for part in hidden.split(rows):
                logits = model.cls.predictions(part, model.bert.embeddings.word_embeddings.weight).float()  # (rows, G, V)
                total = logits.logsumexp(-1)
                parts.append((logits - total[..., None])[:, 0] if wanted is None else logits[:, columns, ids] - total[:, columns])
            return torch.cat(parts)

        width = model.config.vocab_size if wanted is None else len(ids)
        return in_order(model, examples, log_probabilities, width, device=self.device, precision=self.precision, what=what)

    def masked_word_model(self) -> BertForPreTraining:
        """The model with its masked-word head. Raises ConfigError for a folder without one."""
        if not isinstance(self.model, BertForPreTraining) or any(name.startswith("cls.predictions") for name in self.absent):
            raise ConfigError(f"{self.folder}: has no masked-word head: use a pretrained folder, not a fine-tuned one")
        return self.model


def _is_pair(text: Any) -> bool:
    return isinstance(text, tuple) and len(text) == 2


def _given(texts: Any, texts_b: Any, *, words: bool = False) -> tuple[list[Any], list[str] | None]:
    """Texts and second texts as lists, one for each. Raises DataError for what is none, and for pairs in one list."""
    if texts_b is None and not words and isinstance(texts, list | tuple) and texts and all(map(_is_pair, texts)):
        raise DataError(
            "the texts are pairs: give their first texts and their second as two lists, predict(texts, texts_b), or predict(*zip(*pairs))"
        )
    first, second = given_texts(texts, words=words), None if texts_b is None else given_texts(texts_b, "second texts")
    if second is not None and len(second) != len(first):
        raise DataError(f"{len(first)} texts and {len(second)} second texts: give one for each")
    return first, second
