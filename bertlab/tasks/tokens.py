"""A tag for every word of a sentence: entities, scored as entities and not as tags, chosen by micro-F1 as the CoNLL tasks are.

Tags of any scheme are read as IOB2. What the model tags is read as seqeval's default mode reads it (an I- that goes on nothing begins an
entity); what its strict mode says stands beside it. Long sentences become windows, and each word is tagged where it has most context.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.tagged import TaggedExamples, decode_tags, encode_tagged
from bertlab.corpus.labelled_tokens import LabelledTokens, entity_types, tag_ids, tag_names
from bertlab.corpus.schemes import Span, spans_of, strict_spans_of
from bertlab.errors import DataError
from bertlab.evaluation.baselines import commonest_tags
from bertlab.evaluation.entities import entity_intervals, entity_metrics
from bertlab.evaluation.label_errors import likely_label_errors, undecided
from bertlab.evaluation.mistakes import Mistake, of_entities
from bertlab.evaluation.span_predictions import write_tagged_predictions
from bertlab.model.heads import BertForTokenClassification
from bertlab.tasks.contract import Labels, Long, Metrics, Task, leave
from bertlab.tasks.reading import read_tokens
from bertlab.tokens.tokenizer import Tokenizer
from bertlab.training.forward import in_order
from bertlab.training.objectives import Classification
from bertlab.training.processes import Precision

Gold = list[list[int]]


@dataclass(frozen=True)
class Tagged:
    """n sentences: their tags, how likely each is, and the probabilities of the W words of all of them (W, K), 0 for a word unseen."""

    tags: list[list[str]]
    likely: list[np.ndarray]
    of_words: np.ndarray


@dataclass(frozen=True)
class Entity:
    """Words [start, end) of a sentence, their type, and the probability of the least sure of their tags."""

    type: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class Entities:
    """One sentence's tags and the entities that they mark."""

    tags: list[str]
    entities: list[Entity]
    no_known_tokens: bool = False

    @property
    def given(self) -> list[str]:
        return [entity.type for entity in self.entities]

    def as_row(self, every: bool = False) -> dict[str, Any]:
        return {"entities": [asdict(entity) for entity in self.entities], "tags": self.tags}


def ask(texts: Sequence[Any], texts_b: Sequence[Any] | None) -> LabelledTokens:
    if texts_b is not None:
        raise DataError("sentences for a tagger have no second texts: leave them out")
    words = [text.split() if isinstance(text, str) else list(text) for text in texts]
    return LabelledTokens([str(number) for number in range(len(words))], words, None, None, 0, "the texts")


def encode(tokenizer: Tokenizer, rows: LabelledTokens, gold: Gold | None, labels: Labels, *, max_length: int, long: Long) -> TaggedExamples:
    return encode_tagged(tokenizer, rows.tokens, gold, max_length=max_length, long="window" if long == "windows" else "cut")


def run(
    model: nn.Module, examples: Any, labels: Labels, *, device: torch.device, precision: Precision = "fp32", what: str | None = None
) -> Tagged:
    def compute(batch: LabelledBatch) -> Tensor:
        return model(**batch.encoder_inputs()).float().softmax(-1)

    width = len(labels.names)
    of_tokens = in_order(model, examples, compute, width, device=device, precision=precision, of_tokens=True, what=what)
    tags, likely = decode_tags(examples, of_tokens, labels.names, examples.sizes)
    return Tagged(tags, likely, examples.of_words(of_tokens))


def loss(gold: Gold, tagged: Tagged) -> float:
    """Mean cross-entropy in nats of the words that the model saw; 0 where it saw none."""
    right = np.concatenate([np.array(tags, dtype=np.int64) for tags in gold])
    seen = tagged.of_words.any(1)
    probabilities = tagged.of_words[seen, right[seen]].astype(np.float64)
    return float(-np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).mean()) if seen.any() else 0.0


def gold_tags(gold: Gold, labels: Labels) -> list[list[str]]:
    return [[labels.names[place] for place in tags] for tags in gold]


def spans(sentences: Sequence[Sequence[str]]) -> list[list[Span]]:
    return [spans_of(tags) for tags in sentences]


def metrics(gold: Gold, tagged: Tagged, labels: Labels) -> Metrics:
    strict = [strict_spans_of(tags) for tags in tagged.tags]
    found = entity_metrics(spans(gold_tags(gold, labels)), spans(tagged.tags))
    return found | {"strict": entity_metrics(spans(gold_tags(gold, labels)), strict)["micro"]}


def constant(train_gold: Gold, gold: Gold, labels: Labels) -> Metrics:
    """Of no entity at all."""
    return entity_metrics(spans(gold_tags(gold, labels)), [[] for _ in gold])


def baselines(train: LabelledTokens, train_gold: Gold, test: LabelledTokens, labels: Labels) -> dict[str, Tagged]:
    tags, shares = commonest_tags(train.tokens, gold_tags(train_gold, labels), test.tokens)
    of_words = np.zeros((sum(map(len, tags)), len(labels.names)), dtype=np.float32)  # of tags that are not given nothing is said
    return {"each word's commonest tag": Tagged(tags, shares, of_words)}


def suspects(rows: LabelledTokens, gold: Gold, tagged: Tagged, labels: Labels) -> tuple[list[Mistake], list[str]]:
    """Tags that are likely wrong, word by word: those of words that the model saw."""
    sentence = np.repeat(np.arange(len(gold)), [len(tags) for tags in gold])
    word = np.concatenate([np.arange(len(tags)) for tags in gold])
    right = np.concatenate([np.array(tags, dtype=np.int64) for tags in gold])
    seen = np.flatnonzero(tagged.of_words.any(1))
    found: list[Mistake] = [
        {
            "row": int(sentence[seen[suspect.row]]),
            "word": rows.tokens[sentence[seen[suspect.row]]][word[seen[suspect.row]]],
            "position": int(word[seen[suspect.row]]),
            "label": labels.names[suspect.label],
            "likelier": labels.names[suspect.likelier],
            "probability": suspect.self_confidence,
            "margin": suspect.margin,
        }
        for suspect in likely_label_errors(right[seen], tagged.of_words[seen])
    ]
    return found, [labels.names[place] for place in np.flatnonzero(undecided(right[seen], tagged.of_words[seen]))]


def gather(parts: Sequence[Tagged], places: np.ndarray, known: Sequence[Labels]) -> tuple[Tagged, dict[str, Any]]:
    """Sentences of several taggers in one order; the words of each keep together."""
    tags = [its for part in parts for its in part.tags]
    likely = [its for part in parts for its in part.likely]
    of_words = np.split(np.concatenate([part.of_words for part in parts]), np.cumsum([len(its) for its in tags])[:-1])
    order = np.argsort(places).tolist()
    in_order = np.concatenate([of_words[place] for place in order])
    return Tagged([tags[place] for place in order], [likely[place] for place in order], in_order), {}


def write(path: Path, rows: LabelledTokens, gold: Gold | None, tagged: Tagged, labels: Labels) -> None:
    write_tagged_predictions(
        path,
        ids=rows.ids,
        text_hashes=rows.text_hashes(),
        gold=None if gold is None else gold_tags(gold, labels),
        predicted=tagged.tags,
        probabilities=tagged.likely,
        names=labels.names,
    )


def answers(tagged: Tagged, labels: Labels) -> list[Entities]:
    found = []
    for tags, likely in zip(tagged.tags, tagged.likely, strict=True):
        entities = [Entity(kind, start, end, float(likely[start:end].min())) for start, end, kind in spans_of(tags)]
        found.append(Entities(tags, entities))
    return found


TOKENS = Task(
    name="tokens",
    of="{count} tags",
    problem_type=None,
    pipeline="token-classification",
    call='model.predict(["words of a sentence", ["or", "its", "words"]])',
    scores={"micro_f1": ("micro", "f1"), "macro_f1": ("macro", "f1")},
    smooths=True,
    max_length=128,
    longs=("windows", "head"),
    read=read_tokens,
    ask=ask,
    learn=lambda train: Labels(tag_names(entity_types(train))),
    gold=lambda rows, labels: tag_ids(rows, labels.names),
    strata=lambda gold: [0] * len(gold),
    encode=encode,
    head=BertForTokenClassification,
    objective=lambda labels, smoothing, weights: Classification(smoothing, weights),
    constant=constant,
    run=run,
    settle=leave,
    loss=loss,
    metrics=metrics,
    intervals=lambda gold, tagged, labels: entity_intervals(spans(gold_tags(gold, labels)), spans(tagged.tags)),
    baselines=baselines,
    mistakes=lambda rows, gold, tagged, labels: of_entities(gold_tags(gold, labels), tagged.tags, tagged.likely, rows.tokens),
    suspects=suspects,
    gather=gather,
    write=write,
    answers=answers,
)
