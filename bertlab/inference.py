"""A model folder at work: sentence vectors, class probabilities, words for gaps. No training happens here.

Every call makes flat batches of like lengths under a token budget, and gives results in the order of its input; a vector
does not depend on what else was in the call beyond the last bits of rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertlab.batches.cloze import Frames, frames_of_gaps
from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.embedding.engine import Embedder, What, finished
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.model.encoder import Bert
from bertlab.model.folder import fetch, load_config, load_facts, load_labels, load_model, refuse_misfit
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.model.pooling import POOLINGS, Pooling, recorded
from bertlab.progress import progress, silent
from bertlab.tokens import tokenizer
from bertlab.training.processes import Precision, autocast, choose_device

MICRO_TOKENS = 8192  # of a batch without gradients: about 0.3 GB for a BERT-base
_LOGITS_AT_ONCE = 2**24  # over the vocabulary, at masked places: 64 MB in fp32


@dataclass(frozen=True)
class Prediction:
    """One text's class and its probability, and the probabilities of all classes by name."""

    label: str
    probability: float
    probabilities: dict[str, float]


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


def class_probabilities(
    model: torch.nn.Module,
    examples: Examples,
    num_labels: int,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    what: str | None = None,
) -> np.ndarray:
    """Softmax of a classifier's logits. Shape (n, num_labels), float32."""

    def probabilities(batch: LabelledBatch) -> Tensor:
        return model(**batch.encoder_inputs()).float().softmax(-1)

    return in_order(model, examples, probabilities, num_labels, device=device, precision=precision, what=what)


class LoadedModel:
    """A model folder, opened once. Attributes: model, tokenizer, labels (of a classifier, else None), device, max_length, pooling."""

    def __init__(self, folder: str, device: str | None = None, precision: Precision = "fp32") -> None:
        self.folder = fetch(folder)
        self.device = choose_device(device)
        self.precision: Precision = precision
        architecture = (load_config(self.folder).get("architectures") or [""])[0]  # first: it names a run folder given for its model
        self.tokenizer = tokenizer.load(self.folder)
        self.labels: list[str] | None = None
        self.model: Bert | BertForPreTraining | BertForSequenceClassification
        if architecture == "BertForSequenceClassification":
            self.labels = load_labels(self.folder)
            self.model, self.absent = load_model(self.folder, BertForSequenceClassification)
        elif architecture in ("BertForPreTraining", "BertForMaskedLM"):
            self.model, self.absent = load_model(self.folder, BertForPreTraining)
        else:
            self.model, self.absent = load_model(self.folder, Bert)
        self.model.to(self.device).eval()
        self.encoder = self.model if isinstance(self.model, Bert) else self.model.bert
        refuse_misfit(self.tokenizer, self.model.config, folder)
        self.recorded = recorded(Path(self.folder))
        self.pooling: Pooling = self.recorded.pooling or "mean"
        self.pairs: bool | None = load_facts(self.folder).get("pairs")
        positions = self.model.config.max_position_embeddings
        self.max_length = min(positions, self.recorded.max_length or positions)

    def embed(self, texts: Sequence[str], pooling: Pooling | None = None, normalize: bool | None = None) -> np.ndarray:
        """Sentence vectors (n, hidden_size) float32. `pooling` (bertlab/model/pooling.py) and `normalize` (to length 1) are by default what
        the folder records, else mean and not."""
        _refuse_one_text(texts)
        return self.vectors_of(self.embedder.encode(texts), pooling, normalize)

    @cached_property
    def embedder(self) -> Embedder:
        """This model's encoder made fast for vectors, once: of weights that are changed after that it sees a part."""
        return Embedder(self.encoder, self.tokenizer, recorded=self.recorded, device=self.device, precision=self.precision)

    def predict(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> list[Prediction]:
        """Classes of texts, or of pairs (texts[i], texts_b[i]). Raises ConfigError for a folder without a classifier."""
        labels = self.labels or load_labels(self.folder)  # the latter raises, and says what to do
        return [
            Prediction(labels[int(row.argmax())], float(row.max()), dict(zip(labels, row.tolist(), strict=True)))
            for row in self.probabilities_of(self.encode(texts, texts_b))
        ]

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> Examples:
        """Texts, or pairs, as token ids, truncated to `max_length`; says how many were."""
        _refuse_one_text(texts, texts_b)
        if texts_b is not None and len(texts_b) != len(texts):
            raise DataError(f"{len(texts)} texts and {len(texts_b)} second texts: give one for each")
        return encode_examples(self.tokenizer, texts, texts_b, max_length=self.max_length)

    def vectors_of(self, examples: Examples, pooling: Pooling | None = None, normalize: bool | None = None) -> np.ndarray:
        """Sentence vectors (n, hidden_size) of encoded texts."""
        if pooling not in (None, *POOLINGS):
            raise ConfigError(f"pooling={pooling!r}: give one of {', '.join(POOLINGS)}")
        what = What(pooling=pooling or self.recorded.usable_pooling(self.folder))
        vectors = self.embedder.vectors(examples, what)
        return finished(vectors, self.recorded.normalize if normalize is None else normalize)

    def probabilities_of(self, examples: Examples, what: str | None = None) -> np.ndarray:
        """Class probabilities (n, K) of encoded texts, in the order of `labels`; named by `what`, progress is shown."""
        assert self.labels is not None, "only a classifier has probabilities"
        if self.pairs is not None and self.pairs != examples.are_pairs:
            wanted = "pairs: give a second text (text_b)" if self.pairs else "single texts: give no text_b"
            raise DataError(f"{self.folder} was fine-tuned on {wanted}")
        return class_probabilities(self.model, examples, len(self.labels), device=self.device, precision=self.precision, what=what)

    def fill(self, text: str, top: int = 5, text_b: str | None = None) -> list[list[tuple[str, float]]]:
        """For each [MASK] in `text`, or in the pair, the `top` likeliest tokens with their probabilities, the other gaps left open.

        Raises ConfigError without an MLM head, DataError without a [MASK].
        """
        self.masked_word_model()  # says first what no text can mend
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
            hidden = model.bert(**batch.encoder_inputs())
            parts = []
            for part in (batch.cu_seqlens[:-1].long()[:, None] + at[batch.rows]).split(rows):
                logits = model.cls.predictions(hidden[part], model.bert.embeddings.word_embeddings.weight).float()  # (rows, G, V)
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


def _refuse_one_text(*texts: Sequence[str] | None) -> None:
    if any(isinstance(each, str) for each in texts):
        raise DataError("one text was given where a list of texts is wanted: write [text]")
