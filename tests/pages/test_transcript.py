"""bertlab/pages/transcript.py: a batch written out can be checked place by place, and nothing in it can steer a terminal."""

import numpy as np
import tokenizers as backends
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers

from bertlab.batches.flat import PretrainingBatch, flat_fields
from bertlab.pages.transcript import guessed_pairs, step_facts, step_lines
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer

WORDS = ["mill", "##s", "run", "old", "\x1b[2J", "\u202esdrawkcab"]
PAD, UNK, CLS, SEP, MASK, MILL, S, RUN, OLD, ESCAPE, TURNED = range(11)


def tokenizer() -> Tokenizer:
    backend = backends.Tokenizer(models.WordPiece({word: id for id, word in enumerate([*SPECIAL_TOKENS, *WORDS])}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return Tokenizer(backend, "made here")


def batch(*pairs: tuple[list[int], int, int], masked: dict[int, int]) -> PretrainingBatch:
    """Pairs (ids, where B begins, answer) end to end; masked, place -> what was there."""
    lengths = np.array([len(ids) for ids, _, _ in pairs])
    segments = np.concatenate([np.arange(len(ids)) >= second for ids, second, _ in pairs])
    return PretrainingBatch(
        **flat_fields(np.concatenate([ids for ids, _, _ in pairs]), segments, lengths),
        mlm_positions=torch.tensor(sorted(masked)),
        mlm_labels=torch.tensor([masked[place] for place in sorted(masked)]),
        nsp_labels=torch.tensor([answer for _, _, answer in pairs]),
    )


FIRST = batch(
    ([CLS, OLD, MASK, S, SEP, MILL, S, SEP], 5, 0),
    ([CLS, RUN, SEP, OLD, RUN, SEP], 3, 1),
    masked={2: MILL, 5: MILL, 9: OLD},
)
HOSTILE = batch(([CLS, ESCAPE, SEP, TURNED, SEP], 3, 1), masked={3: ESCAPE})


def facts() -> dict[str, object]:
    return {"step": 3, "steps": 10, "phase": "short", "batch": "ab" * 16, "logged": None} | step_facts([FIRST, HOSTILE], tokenizer())


def test_pairs_are_decoded_with_what_stands_and_what_was_hidden_at_masked_places() -> None:
    first, second, third = step_facts([FIRST, HOSTILE], tokenizer())["all_pairs"]
    assert first["text"] == "[CLS] old [MASK]<mill> ##s [SEP] mill<mill> ##s [SEP]"
    assert first["pieces"] == ["[CLS]", "old", "[MASK]", "##s", "[SEP]", "mill", "##s", "[SEP]"]
    assert first["masked"] == [[2, "[MASK]", "mill"], [5, "mill", "mill"]]
    assert (first["second"], first["follows"], first["micro_batch"]) == (5, True, 0)
    assert second["text"] == "[CLS] run<old> [SEP] old run [SEP]"
    assert (second["masked"], second["second"], second["follows"]) == ([[1, "run", "old"]], 3, False)
    assert third["micro_batch"] == 1


def test_counts_are_of_all_micro_batches_and_filler_is_no_pair() -> None:
    expected = {"micro_batches": 2, "pairs": 3, "tokens": 19, "masked": 4, "follows": 1, "shortest": 5, "longest": 8}
    found = facts()
    assert {name: found[name] for name in expected} == expected
    topped = step_facts([FIRST.topped_up(40), HOSTILE.topped_up(40)], tokenizer())
    assert topped == step_facts([FIRST, HOSTILE], tokenizer())


def test_the_lines_show_as_many_pairs_as_asked_for_and_say_how_many_are_left() -> None:
    shown = "\n".join(step_lines(facts(), 2))
    assert "step       3 of 10, short pairs" in shown and "which the run has not logged" in shown
    assert "pair 1 (micro-batch 0): 8 tokens, B follows A\n  [CLS] old" in shown
    assert "pair 2 (micro-batch 0): 6 tokens, B is from another document" in shown and "pair 3" not in shown
    assert "1 more pairs: --pairs 3 shows all" in shown
    assert "4 tokens (21.1%)" in shown and "B follows A in 1 pairs, and is from another document in 2" in shown
    assert "as the run logged it" in "\n".join(step_lines(facts() | {"logged": "ab" * 16}, 0))


def test_control_characters_of_a_corpus_are_inert() -> None:
    lines = step_lines(facts(), 10)
    assert "\\x1b" not in repr(lines) and "\u202e" not in "".join(lines)
    assert all("\n" not in line for line in lines) and "?[2J" in lines[-1]


def test_guesses_stand_beside_what_was_hidden_at_their_places() -> None:
    pairs = guessed_pairs(FIRST, [(MILL, 0.75), (OLD, 0.5), (RUN, 0.25)], tokenizer(), at_most=5)
    assert [pair["follows"] for pair in pairs] == [True, False]
    assert pairs[0]["masked"] == [[2, "[MASK]", "mill", "mill", 0.75], [5, "mill", "mill", "old", 0.5]]
    assert pairs[1] == {"text": "[CLS] run<old> [SEP] old run [SEP]", "follows": False, "masked": [[1, "run", "old", "run", 0.25]]}
    assert guessed_pairs(FIRST, [(MILL, 0.75), (OLD, 0.5), (RUN, 0.25)], tokenizer(), at_most=1) == pairs[:1]
