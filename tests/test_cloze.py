"""Labels and words by cloze: transformers' fill-mask pipeline and loops that mask one thing at a time, by hand, are the oracles."""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertlab
from bertlab import cloze, inference
from bertlab.batches.cloze import frames_of_gaps, parse_template
from bertlab.cloze import LabelWords, answer, label_scores, label_words, pieces_of, whole_words, word_scores
from bertlab.errors import ConfigError, CorruptError
from bertlab.inference import LoadedModel
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens import tokenizer as tokenizers

SENTENCE = "the old river runs from a stone hill to the sea , and birds sing over its banks in spring . is this about ?"
WORDS = [word for word in SENTENCE.split() if word.isalpha()]
GIVEN = {"water": ["river", "sea"], "land": ["hill", "stone", "riverstone"], "animals": ["birdsong"]}
DRAW = random.Random(0)
TEXTS = ["", *(" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 20))) for _ in range(14))]
TEXTS_B = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 9))) for _ in TEXTS]
ONE, TWO = "{text} is this about [MASK]?", "[MASK]: {text}"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, large enough for its answers to differ well; "riverstone" and "birdsong" are several pieces."""
    tokenizer = tokenizers.train([SENTENCE] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64,
    )  # fmt: skip
    model = BertForPreTraining(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3, generator=generator)
    path = tmp_path_factory.mktemp("run") / "model"
    save_model(path, model, tokenizer, facts={}, card="# A card\n")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return bertlab.load(str(folder))


@pytest.fixture(scope="module")
def words(model: LoadedModel) -> LabelWords:
    found = label_words(model.tokenizer, GIVEN)
    assert [len(pieces) for pieces in found.pieces[:4]] == [1, 1, 1, 1] and min(map(len, found.pieces[4:])) > 1
    return found


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer


def masked_log_probabilities(theirs: tuple[Any, Any], text: str, text_b: str | None = None) -> torch.Tensor:
    """transformers' log-probabilities at every [MASK] of one text or pair: (masks, V)."""
    peer, tokenizer = theirs
    inputs = tokenizer(text, text_b, return_tensors="pt")
    with torch.inference_mode():
        logits = peer(**inputs).logits[0]
    return logits[inputs["input_ids"][0] == tokenizer.mask_token_id].log_softmax(-1)


def by_hand(theirs: tuple[Any, Any], pieces: list[int], template: str, text: str, in_turn: bool, text_b: str = "") -> float:
    """The score of one word in one text: masks written into the string, and tokens before them where they are known."""
    tokenizer = theirs[1]
    scores = []
    for place in range(len(pieces)):
        known = tokenizer.convert_ids_to_tokens(pieces[:place]) if in_turn else []
        # "##" pieces cannot be written into a string: the ids are replaced afterwards
        gap = " ".join(["[MASK]"] * len(pieces))
        first, _, second = template.replace("[MASK]", gap).format(text=text, text_b=text_b).partition("[SEP]")
        inputs = tokenizer(first, second or None, return_tensors="pt")
        masks = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
        for mask, token in zip(masks.tolist(), known, strict=False):
            inputs["input_ids"][0, mask] = tokenizer.convert_tokens_to_ids(token)
        with torch.inference_mode():
            logs = theirs[0](**inputs).logits[0, masks[place]].log_softmax(-1)
        scores.append(float(logs[pieces[place]]))
    return sum(scores) / len(scores)


# ---- words


def test_one_piece_words_are_scored_as_the_fill_mask_pipeline_scores_them(model: LoadedModel, folder: Path) -> None:
    pipeline = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
    choices = ["river", "sea", "hill"]
    given = {word: [word] for word in choices}
    answers = answer(model, [parse_template(ONE)], label_words(model.tokenizer, given), (TEXTS, None))
    for text, row in zip(TEXTS, answers.probabilities, strict=True):
        theirs = {each["token_str"]: each["score"] for each in pipeline(ONE.replace("{text}", text), targets=choices)}
        expected = np.array([theirs[word] for word in choices])
        np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-5)
    assert len(set(answers.probabilities.argmax(1))) > 1 and answers.num_truncated == 0


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("template", [ONE, TWO, "{text}[SEP][MASK] is {text_b}", "{text_b} [MASK] {text}"])
def test_words_of_several_pieces_have_the_mean_log_probability_of_their_pieces(
    model: LoadedModel, theirs: tuple[Any, Any], words: LabelWords, template: str, in_turn: bool
) -> None:
    pieces: cloze.Pieces = "in-turn" if in_turn else "together"
    answers = answer(model, [parse_template(template)], words, (TEXTS, TEXTS_B), pieces=pieces, aggregate="max")
    for row, text, text_b in list(zip(answers.probabilities, TEXTS, TEXTS_B, strict=True))[::3]:
        scores = np.array([by_hand(theirs, list(word), template, text, in_turn, text_b) for word in words.pieces])
        best = np.exp([scores[words.owners == label].max() for label in range(3)])
        np.testing.assert_allclose(row, best / best.sum(), atol=1e-5)


def test_the_two_ways_differ_for_words_of_several_pieces_alone(model: LoadedModel, words: LabelWords) -> None:
    frames, _ = frames_of_gaps(model.tokenizer, ["the [MASK] of the sea"], None, max_length=64)
    together, in_turn = (word_scores(model, frames, words.pieces, how)[0] for how in ("together", "in-turn"))
    several = np.array([len(word) > 1 for word in words.pieces])
    np.testing.assert_allclose(together[~several], in_turn[~several], atol=1e-6)
    assert (np.abs(together - in_turn)[several] > 1e-3).all()


def test_in_turn_is_the_chain_rule_so_that_all_words_of_two_pieces_add_up_to_one(model: LoadedModel) -> None:
    frames, _ = frames_of_gaps(model.tokenizer, ["the [MASK] of the sea"], None, max_length=64)
    every = model.model.config.vocab_size
    first = [(river, last) for river in (7, 20) for last in range(every)]
    scores = word_scores(model, frames, first, "in-turn")[0]
    alone = model.gap_log_probabilities(frames.filled([model.tokenizer.mask_id] * 2), frames.gaps[:, None])[0]
    for number, river in enumerate((7, 20)):
        total = np.exp(2 * scores[number * every : (number + 1) * every]).sum()
        assert total == pytest.approx(math.exp(alone[river]), rel=1e-4)


# ---- labels


def test_a_labels_words_are_averaged_added_or_the_best_is_taken() -> None:
    scores = np.log([[0.5, 0.1, 0.3], [0.02, 0.04, 0.9]])
    owners = np.array([0, 0, 1])
    expected: dict[cloze.Aggregate, list[list[float]]] = {
        "mean": [[0.3, 0.3], [0.03, 0.9]],
        "max": [[0.5, 0.3], [0.04, 0.9]],
        "sum": [[0.6, 0.3], [0.06, 0.9]],
    }
    for aggregate, values in expected.items():
        np.testing.assert_allclose(np.exp(label_scores(scores, owners, 2, aggregate)), np.array(values))


def test_several_templates_give_the_mean_of_their_log_probabilities(model: LoadedModel, words: LabelWords) -> None:
    alone = [answer(model, [parse_template(source)], words, (TEXTS, None)).probabilities for source in (ONE, TWO)]
    both = answer(model, [parse_template(ONE), parse_template(TWO)], words, (TEXTS, None)).probabilities
    expected = np.sqrt(alone[0] * alone[1])
    np.testing.assert_allclose(both, expected / expected.sum(1, keepdims=True), atol=1e-9)
    assert np.abs(alone[0] - alone[1]).max() > 0.05


def test_calibrated_probabilities_are_divided_by_what_is_said_of_nothing(model: LoadedModel, words: LabelWords) -> None:
    template = parse_template(ONE)
    plain = answer(model, [template], words, (TEXTS, None))
    nothing = answer(model, [template], words, (["N/A", "[MASK]", ""], None)).probabilities.mean(0)
    np.testing.assert_allclose(plain.priors, nothing[None], atol=1e-9)
    calibrated = answer(model, [template], words, (TEXTS, None), calibration="content-free")
    expected = plain.probabilities / nothing
    np.testing.assert_allclose(calibrated.probabilities, expected / expected.sum(1, keepdims=True), atol=1e-9)
    assert np.abs(calibrated.probabilities - plain.probabilities).max() > 0.1
    # what is said of nothing is, calibrated, that nothing is likelier than anything else
    flat = answer(model, [template], words, ([""], None), calibration="texts").probabilities
    np.testing.assert_allclose(flat, 1 / 3)


def test_the_prior_may_come_from_unlabelled_texts_the_same_or_others(model: LoadedModel, words: LabelWords) -> None:
    template, others = parse_template(ONE), TEXTS[3:7]
    plain = answer(model, [template], words, (TEXTS, None)).probabilities
    for given, rows in ((None, plain), ((others, None), plain[3:7])):
        found = answer(model, [template], words, (TEXTS, None), calibration="texts", unlabelled=given)
        np.testing.assert_allclose(found.priors[0], rows.mean(0), atol=1e-6)
        expected = plain / rows.mean(0)
        np.testing.assert_allclose(found.probabilities, expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_each_template_has_a_prior_of_its_own(model: LoadedModel, words: LabelWords) -> None:
    templates = [parse_template(ONE), parse_template(TWO)]
    alone = [answer(model, [each], words, (TEXTS, None), calibration="content-free") for each in templates]
    both = answer(model, templates, words, (TEXTS, None), calibration="content-free")
    np.testing.assert_allclose(both.priors, np.concatenate([each.priors for each in alone]))
    expected = np.sqrt(alone[0].probabilities * alone[1].probabilities)
    np.testing.assert_allclose(both.probabilities, expected / expected.sum(1, keepdims=True), atol=1e-9)


def test_answers_come_in_the_texts_order_whatever_the_batches(
    model: LoadedModel, words: LabelWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = [parse_template(ONE)]
    whole = answer(model, template, words, (TEXTS, None), pieces="in-turn").probabilities
    alone = np.concatenate([answer(model, template, words, ([text], None), pieces="in-turn").probabilities for text in TEXTS])
    np.testing.assert_allclose(whole, alone, atol=1e-5)
    defaults = inference.in_order.__kwdefaults__ or {}
    monkeypatch.setattr(inference.in_order, "__kwdefaults__", defaults | {"micro_tokens": 40})
    monkeypatch.setattr(inference, "_LOGITS_AT_ONCE", 3 * model.model.config.vocab_size)  # three places at a time
    np.testing.assert_allclose(answer(model, template, words, (TEXTS, None), pieces="in-turn").probabilities, alone, atol=1e-5)
    assert model.fill("the [MASK] of [MASK] sea [MASK] [MASK]")[3][0] == pytest.approx(
        bertlab.load(model.folder).fill("the [MASK] of [MASK] sea [MASK] [MASK]")[3][0]
    )


def test_texts_cut_in_any_template_are_counted_once(model: LoadedModel, words: LabelWords) -> None:
    texts = ["river " * 56, "river " * 300, "river"]
    templates = [parse_template(ONE), parse_template("{text} [MASK]")]
    assert answer(model, templates[1:], words, (texts, None)).num_truncated == 1
    assert answer(model, templates, words, (texts, None)).num_truncated == 2


def test_words_that_cannot_be_told_apart_or_spelt_are_refused(model: LoadedModel) -> None:
    for given, why in (
        ({"a": ["river"]}, "words for 1 label: give two"),
        ({"a": ["river"], "b": ["sea", "River"]}, "'River' stands for 'a' and for 'b'"),
        ({"a": ["river", "river"], "b": ["sea"]}, "'river' stands twice for 'a'"),
        ({"a": ["river"], "b": []}, "none for 'b': write b:word"),
        ({"a": ["river"], "b": [" "]}, "' ' is empty"),
        ({"a": ["river"], "b": ["\u6c34"]}, "has letters that the vocabulary does not know"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            label_words(model.tokenizer, given)
        assert "\n" not in str(caught.value)


# ---- whole words


def test_whole_words_are_those_that_trying_all_finds(model: LoadedModel) -> None:
    """A beam as wide as the vocabulary tries everything; by hand: every beginning with every continuation, scored one by one."""
    text = "the [MASK] of the sea"
    frames, _ = frames_of_gaps(model.tokenizer, [text], None, max_length=64, longest_word=2)
    continues = model.tokenizer.continues_word()
    begins = [id for id in range(model.tokenizer.vocab_size) if not continues[id] and not model.tokenizer.special[id]]
    every: list[tuple[int, ...]] = [(id,) for id in begins]
    every += [(id, int(more)) for id in begins for more in np.flatnonzero(continues)]
    spelt = {word: model.tokenizer.encode([model.tokenizer.decode(word)])[0].tolist() for word in every}
    every = [word for word in every if spelt[word] == list(word)]  # "river", and not "r ##iver"
    scores = word_scores(model, frames, every, "in-turn")[0]
    best = sorted(zip(-scores, every, strict=True))[:60]
    (found,) = whole_words(model, frames, 2, 60)
    np.testing.assert_allclose([probability for _, probability in found], np.exp([-score for score, _ in best]), rtol=1e-4)
    assert [word for word, _ in found] == [model.tokenizer.decode(word) for _, word in best]
    assert any(len(word) == 2 for _, word in best) and all("##" not in word and "[" not in word for word, _ in found)


def test_whole_words_of_other_vocabularies_have_no_sign_at_them(tmp_path: Path) -> None:
    """Byte-level BPE marks where a word begins: a comma without the mark goes on with it, and would be taken for its end."""
    torch.manual_seed(0)
    tokenizer = tokenizers.train([SENTENCE, "the, of, a, hill, sea."] * 9, kind="bpe", vocab_size=400, lowercase=True)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    save_model(tmp_path / "model", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    model = bertlab.load(str(tmp_path / "model"), "cpu")
    frames, _ = frames_of_gaps(tokenizer, ["the [MASK] of the sea"], None, max_length=64, longest_word=2)
    (found,) = whole_words(model, frames, 2, 40)
    assert len(found) > 20 and all(word.isalnum() or len(word) == 1 for word, _ in found)


def test_a_narrow_beam_gives_as_many_words_as_asked_for_and_their_true_scores(model: LoadedModel) -> None:
    frames, owners = frames_of_gaps(model.tokenizer, ["the [MASK] of [MASK]", "[MASK]"], None, max_length=64, longest_word=3)
    found = whole_words(model, frames, 3, 4)
    assert len(found) == len(owners) == 3
    for number, gap in enumerate(found):
        assert 2 <= len(gap) <= 4 and len({word for word, _ in gap}) == len(gap)
        assert [probability for _, probability in gap] == sorted((probability for _, probability in gap), reverse=True)
        again = word_scores(model, frames.take([number]), pieces_of(model.tokenizer, [word for word, _ in gap]), "in-turn")[0]
        np.testing.assert_allclose(np.exp(again), [probability for _, probability in gap], rtol=1e-4)


def test_broken_weights_give_an_error_and_no_answers(folder: Path, words: LabelWords) -> None:
    broken = bertlab.load(str(folder))
    with torch.no_grad():
        broken.encoder.embeddings.LayerNorm.bias[0] = float("nan")
    with pytest.raises(CorruptError, match="the model gives NaN or infinity"):
        answer(broken, [parse_template(ONE)], words, (TEXTS, None))
