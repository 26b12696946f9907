"""Templates and gaps as sequences: what transformers' tokenizer makes of the text written out is the oracle; the template is never cut."""

import random
from typing import Any

import numpy as np
import pytest
import transformers

from bertlab.batches.cloze import Frames, frames_of_gaps, frames_of_template, parse_template
from bertlab.errors import ConfigError, DataError
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.tokenizer import Tokenizer

SENTENCE = "the old river runs from a stone hill to the sea , and birds sing over its banks in spring . is this about ?"
TEXTS = ["The old river", "", "birds sing over its banks in spring", "sea"]
TEXTS_B = ["a hill", "the sea and a stone", "", "over the river"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.train([SENTENCE] * 4, kind="wordpiece", vocab_size=300, lowercase=True)


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder, 64)
    return transformers.AutoTokenizer.from_pretrained(folder)


def framed(tokenizer: Tokenizer, template: str, texts: list[str], texts_b: list[str] | None = None, **room: int) -> Frames:
    second = None if texts_b is None else tokenizer.encode(texts_b)
    return frames_of_template(tokenizer, parse_template(template), tokenizer.encode(texts), second, **{"max_length": 64, **room})


def rows(frames: Frames) -> list[list[int]]:
    examples = frames.examples
    return [examples.ids[start:end].tolist() for start, end in zip(examples.offsets[:-1], examples.offsets[1:], strict=True)]


def segments(frames: Frames) -> list[list[int]]:
    examples = frames.examples
    return [examples.segments[start:end].tolist() for start, end in zip(examples.offsets[:-1], examples.offsets[1:], strict=True)]


# ---- templates


def test_a_template_is_its_literals_places_and_tokens_in_order() -> None:
    assert parse_template("Is {text} [MASK]?").parts == (("literal", "Is "), ("text", "text"), ("mask", "[MASK]"), ("literal", "?"))
    pair = parse_template("{text_b}[SEP] [MASK] {{so}} {text}")
    assert [kind for kind, _ in pair.parts if kind != "literal"] == ["text_b", "sep", "mask", "text"]
    assert "".join(part for kind, part in pair.parts if kind == "literal") == " {so} "  # a doubled brace is one that is meant
    assert pair.has("text_b") and pair.has("sep") and not parse_template("{text} [MASK]").has("text_b")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_literals_have_the_pieces_of_the_text_written_out_and_no_lone_space(kind: Any) -> None:
    tokenizer = tokenizers.train(["the river. a hill? so, the sea: a river"] * 9, kind=kind, vocab_size=300, lowercase=True)
    for source, first, second in (
        ("{text}? [SEP] [MASK], a hill", "river?", "river, a hill"),
        ("so, {text} [MASK].", "so, river river.", None),
        ("[MASK]: {text}", "river: river", None),
    ):
        frames = frames_of_template(tokenizer, parse_template(source), tokenizer.encode(["river"]), None, max_length=64)
        (river,) = tokenizer.encode(["river"])[:1]
        made = frames.filled(river).ids.tolist()
        written = [tokenizer.cls_id, *tokenizer.encode([first])[0].tolist(), tokenizer.sep_id]
        written += [*tokenizer.encode([second])[0].tolist(), tokenizer.sep_id] if second else []
        assert made == written


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{text} is about this", r"0 times \[MASK\]"),
        ("[MASK] {text} [MASK]", r"2 times \[MASK\]"),
        ("[MASK] is here", r"write \{text\} once"),
        ("{text} {text} [MASK]", r"write \{text\} once"),
        ("{text} {text_b} {text_b} [MASK]", r"\{text_b\} once"),
        ("{text_b} [MASK]", r"write \{text\} once"),
        ("{txt} [MASK]", r"\{txt\} is no place for a text"),
        ("{} [MASK]", r"\{\} is no place"),
        ("{text:>9} [MASK]", r"\{text:>9\} is no place"),
        ("{text!r} [MASK]", r"\{text!r\} is no place"),
        ("{text.x} [MASK]", r"\{text.x\} is no place"),
        ("{text [MASK]", "a brace is open or alone"),
        ("text} [MASK]", "a brace is open or alone"),
        ("[SEP] {text} [MASK]", "divides two segments"),
        ("{text} [MASK] [SEP]", "divides two segments"),
        ("{text} [SEP] [MASK] [SEP] so", "divides two segments"),
        ("[CLS] {text} [MASK]", r"\[CLS\] cannot be written here"),
        ("{text} [PAD] [MASK]", r"\[PAD\] cannot be written here"),
        ("", r"0 times \[MASK\]"),
    ],
)
def test_a_template_that_cannot_be_asked_is_refused_in_one_line(source: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_template(source)
    assert "\n" not in str(caught.value) and repr(source) in str(caught.value)


# ---- frames


@pytest.mark.parametrize("template", ["{text} is about [MASK].", "[MASK]: {text}", "is this [MASK]? {text}", "{text}, [MASK]"])
def test_frames_are_what_transformers_tokenizes_of_the_text_written_out(tokenizer: Tokenizer, theirs: Any, template: str) -> None:
    frames = framed(tokenizer, template, TEXTS)
    assert rows(frames) == theirs([template.format(text=text) for text in TEXTS])["input_ids"]
    assert not frames.examples.segments.any() and not frames.cut.any()
    for row, gap in zip(rows(frames), frames.gaps, strict=True):
        assert [place for place, id in enumerate(row) if id == tokenizer.mask_id] == [gap]


@pytest.mark.parametrize("template", ["{text}?[SEP][MASK], {text_b}", "{text_b} [MASK] [SEP] so {text}", "{text} [SEP] is this [MASK]"])
def test_a_sep_in_the_template_begins_the_second_segment(tokenizer: Tokenizer, theirs: Any, template: str) -> None:
    frames = framed(tokenizer, template, TEXTS, TEXTS_B)
    written = [template.format(text=a, text_b=b).split("[SEP]") for a, b in zip(TEXTS, TEXTS_B, strict=True)]
    expected = theirs([first for first, _ in written], [second for _, second in written])
    assert rows(frames) == expected["input_ids"] and segments(frames) == expected["token_type_ids"]


def test_special_tokens_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    frames = framed(tokenizer, "{text} is [MASK]", ["the [MASK] river [SEP] [CLS] [PAD]"])
    (row,) = rows(frames)
    assert row.count(tokenizer.mask_id) == 1 and row[frames.gaps[0]] == tokenizer.mask_id
    assert row.count(tokenizer.sep_id) == row.count(tokenizer.cls_id) == 1 and row[-1] == tokenizer.sep_id


def test_the_text_is_cut_and_counted_and_never_the_template(tokenizer: Tokenizer) -> None:
    texts = [" ".join(["river"] * count) for count in (0, 3, 4, 5, 500)]
    # [CLS] . . . . is about [MASK] . [SEP] are 10 tokens with four of the text
    frames = framed(tokenizer, "{text} is about [MASK].", texts, max_length=10)
    (river,) = set(tokenizer.encode(["river"])[0].tolist())
    assert [row.count(river) for row in rows(frames)] == [0, 3, 4, 4, 4]
    assert frames.cut.tolist() == [False, False, False, True, True] and frames.examples.num_truncated == 2
    bare = rows(framed(tokenizer, "{text} is about [MASK].", [""]))[0]
    assert all([id for id in row if id != river] == bare for row in rows(frames))
    longer = framed(tokenizer, "{text} is about [MASK].", texts, max_length=10, longest_word=3)
    assert [row.count(river) for row in rows(longer)] == [0, 2, 2, 2, 2]
    assert longer.filled([river] * 3).lengths.max() == 10


def test_of_a_pair_the_longer_text_is_cut_first(tokenizer: Tokenizer) -> None:
    river, sea = (int(tokenizer.encode([word])[0][0]) for word in ("river", "sea"))
    pairs = [(2, 2), (1, 9), (9, 1), (9, 9)]
    texts, texts_b = [" ".join(["river"] * a) for a, _ in pairs], [" ".join(["sea"] * b) for _, b in pairs]
    frames = framed(tokenizer, "{text} [MASK] [SEP] {text_b}", texts, texts_b, max_length=11)  # room for 7
    assert [(row.count(river), row.count(sea)) for row in rows(frames)] == [(2, 2), (1, 6), (6, 1), (4, 3)]
    assert frames.cut.tolist() == [False, True, True, True]


def test_a_template_without_room_for_a_text_is_refused(tokenizer: Tokenizer) -> None:
    assert len(framed(tokenizer, "{text} is [MASK]", ["river"], max_length=5)) == 1
    for length, word in ((4, 1), (5, 2)):
        with pytest.raises(ConfigError, match="it leaves no room for a text among the"):
            framed(tokenizer, "{text} is [MASK]", ["river"], max_length=length, longest_word=word)


def test_a_filled_gap_holds_the_pieces_and_changes_nothing_else(tokenizer: Tokenizer) -> None:
    frames = framed(tokenizer, "{text} [SEP] is [MASK] so", TEXTS)
    draw = random.Random(0)
    for length in (1, 2, 4):
        own = [[draw.randint(5, 30) for _ in range(length)] for _ in TEXTS]
        for pieces in (own, own[0]):
            filled = frames.filled(pieces)
            for number, (row, kinds, gap) in enumerate(zip(rows(frames), segments(frames), frames.gaps, strict=True)):
                wanted = own[number] if pieces is own else own[0]
                start, end = filled.offsets[number], filled.offsets[number + 1]
                assert filled.ids[start:end].tolist() == row[:gap] + wanted + row[gap + 1 :]
                assert filled.segments[start:end].tolist() == kinds[:gap] + [1] * length + kinds[gap + 1 :]


def test_taking_rows_takes_all_of_them(tokenizer: Tokenizer) -> None:
    frames = framed(tokenizer, "{text} is [MASK]", TEXTS, max_length=8)
    chosen = [2, 0, 2, 3]
    taken = frames.take(chosen)
    assert rows(taken) == [rows(frames)[row] for row in chosen] and taken.gaps.tolist() == frames.gaps[chosen].tolist()
    assert taken.cut.tolist() == frames.cut[chosen].tolist() and taken.examples.num_truncated == 2 == 2 * int(frames.cut.sum())


# ---- gaps that somebody wrote


def test_every_mask_of_a_text_is_a_frame_and_the_others_stay(tokenizer: Tokenizer, theirs: Any) -> None:
    texts = ["the [MASK] of the river", "[MASK] [MASK] sea [MASK]"]
    frames, owners = frames_of_gaps(tokenizer, texts, None, max_length=64)
    expected = theirs(texts)["input_ids"]
    assert owners.tolist() == [0, 1, 1, 1] and rows(frames) == [expected[owner] for owner in owners]
    assert frames.gaps.tolist() == [2, 1, 2, 4]


def test_gaps_may_stand_in_both_texts_of_a_pair(tokenizer: Tokenizer, theirs: Any) -> None:
    texts, texts_b = ["the [MASK]", "the sea"], ["a hill", "is [MASK] old"]
    frames, owners = frames_of_gaps(tokenizer, texts, texts_b, max_length=64)
    expected = theirs(texts, texts_b)
    assert owners.tolist() == [0, 1]
    assert rows(frames) == expected["input_ids"] and segments(frames) == expected["token_type_ids"]
    assert [row[gap] for row, gap in zip(rows(frames), frames.gaps, strict=True)] == [tokenizer.mask_id] * 2


def test_a_text_without_a_gap_or_with_one_cut_off_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"no \[MASK\] in the text 'the river'"):
        frames_of_gaps(tokenizer, ["a [MASK]", "the river"], None, max_length=64)
    late = "river " * 6 + "[MASK]"
    assert len(frames_of_gaps(tokenizer, [late], None, max_length=9)[0]) == 1
    for length, word in ((8, 1), (9, 2)):
        with pytest.raises(DataError, match=r"a \[MASK\] beyond the . tokens"):
            frames_of_gaps(tokenizer, [late], None, max_length=length, longest_word=word)
    frames, _ = frames_of_gaps(tokenizer, ["[MASK]" + " river" * 20], None, max_length=9)
    assert frames.examples.lengths.tolist() == [9] and frames.cut.tolist() == [True] and np.all(frames.gaps == 1)
