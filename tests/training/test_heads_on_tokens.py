"""Entities and answers from rows to scores: a tiny encoder learns a handful by heart, windows and all, and gives them back."""

from functools import partial
from typing import Any

import numpy as np
import torch

from bertlab.batches.labelled import Examples
from bertlab.batches.questions import decode_answers, encode_questions
from bertlab.batches.tagged import decode_tags, encode_tagged
from bertlab.corpus.labelled_tokens import tag_names
from bertlab.corpus.schemes import spans_of
from bertlab.evaluation.answers import answer_metrics, best_threshold
from bertlab.evaluation.entities import entity_metrics
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForQuestionAnswering, BertForTokenClassification
from bertlab.tokens.tokenizer import Tokenizer, train
from bertlab.training.forward import in_order
from bertlab.training.objectives import Answering, Classification

SENTENCES = [
    sentence.split()
    for sentence in (
        "Anna Berg lives in Oslo and her friend Jon lives in New York .",
        "The river Thames runs from Kemble through Oxford to London where it meets the sea , and Anna Berg never saw it .",
        "Nobody knows .",
    )
]
TAGS = [
    tags.split()
    for tags in (
        "B-per I-per O O B-loc O O O B-per O O B-loc I-loc O",
        "O O B-loc O O B-loc O B-loc O B-loc O O O O O O O B-per I-per O O O O",
        "O O O",
    )
]
CONTEXT = "The Thames is 346 km long. It rises at Kemble, runs through Oxford and London, and meets the sea near Southend."
QUESTIONS = ["How long is the Thames?", "Where does it rise?", "Where does it meet the sea?", "Who was the first to swim it?"]
ANSWERS = [[(text, CONTEXT.index(text))] if text else [] for text in ("346 km", "Kemble", "near Southend", "")]


def tokenizer_of(texts: list[str]) -> Tokenizer:
    return train(texts * 3, kind="wordpiece", vocab_size=160, lowercase=True)


def learnt(model: torch.nn.Module, objective: Any, examples: Examples, steps: int) -> float:
    """The mean loss of the last step, on all examples at once."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = examples.batch(np.arange(len(examples)))
    mean = torch.zeros(1)
    for _ in range(steps):
        mean = objective.losses(model, batch) / objective.counts(batch)[0]
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
    return float(mean.detach())


def config_of(tokenizer: Tokenizer) -> EncoderConfig:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    return EncoderConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=64, hidden_dropout_prob=0.0, **sizes)


def test_entities_are_learnt_and_found_again() -> None:
    tokenizer = tokenizer_of([" ".join(words) for words in SENTENCES])
    names = tag_names(["loc", "per"])
    labels = [[names.index(tag) for tag in tags] for tags in TAGS]
    examples = encode_tagged(tokenizer, SENTENCES, labels, max_length=24)
    assert examples.num_windowed >= 1
    model = BertForTokenClassification(config_of(tokenizer), len(names))
    assert learnt(model, Classification(), examples, 80) < 0.05
    compute = partial(_probabilities, model)
    of_tokens = in_order(
        model, examples, compute, len(names), device=torch.device("cpu"), precision="fp32", micro_tokens=50, of_tokens=True
    )
    assert np.allclose(of_tokens.sum(1), 1, atol=1e-5)
    tags, likely = decode_tags(examples, of_tokens, names, [len(words) for words in SENTENCES])
    assert tags == TAGS and min(float(its.min()) for its in likely) > 0.5
    metrics = entity_metrics([spans_of(its) for its in TAGS], [spans_of(its) for its in tags])
    assert metrics["micro"]["f1"] == 1 and metrics["per_type"]["loc"]["support"] == 6


def test_answers_are_learnt_and_found_again_and_none_where_there_is_none() -> None:
    tokenizer = tokenizer_of([CONTEXT, *QUESTIONS])
    contexts = [CONTEXT] * len(QUESTIONS)
    examples = encode_questions(tokenizer, QUESTIONS, contexts, ANSWERS, max_length=28, stride=10)
    assert examples.num_windowed == 4 and examples.num_unreachable == 0
    model = BertForQuestionAnswering(config_of(tokenizer))
    assert learnt(model, Answering(), examples, 150) < 0.05
    logits = in_order(
        model,
        examples,
        lambda batch: model(**batch.encoder_inputs()),
        2,
        device=torch.device("cpu"),
        precision="fp32",
        micro_tokens=100,
        of_tokens=True,
    )
    found = decode_answers(examples, logits, contexts)
    gold = [[text for text, _ in answers] for answers in ANSWERS]
    threshold, f1 = best_threshold(np.array([each.no_answer for each in found]), gold, [each.best for each in found])
    chosen = [each.choose(threshold)[0] for each in found]
    assert f1 == 1 and chosen == ["346 km", "Kemble", "near Southend", ""]
    assert answer_metrics(gold, chosen)["exact_match"] == 1


def _probabilities(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    logits: torch.Tensor = model(**batch.encoder_inputs())
    return logits.float().softmax(-1)
