"""The mark-up of a Wikipedia article into plain paragraphs.

Passes that are linear in the text first cut what is no running text: comments, references and the like, templates, tables, links to files
and categories. mwparserfromhell then reads the links that are left, a paragraph at a time. Handed whole articles it is ten times slower,
and it takes minutes for mark-up that never closes. Costs are in `plain_text`.

Knows no template's code: a template is dropped, except the few in wikinames.KEPT_TEMPLATES that hold running text. Dropped besides:
headings (no sentences, but they end a paragraph), captions, tables, formulas, code, list items that are no sentences, and sections such as
References.
"""

import functools
import heapq
import html
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from bertlab.corpus.wikinames import ALIASES, CONSTANTS, FILE_ENDINGS, KEPT_TEMPLATES, NAMESPACES, PROJECTS, RANGES, TAGS, TAIL_SECTIONS
from bertlab.errors import ConfigError, install

DEEPEST = 40  # levels of templates in templates; as mwparserfromhell. A deeper one is dropped whole, and counted
PIECE_CHARACTERS = 20_000  # of a paragraph; the parser takes some 200 bytes of memory for each
MEDIA, FILE, CATEGORY = -2, 6, 14  # namespaces whose links show no running text


@dataclass(frozen=True)
class Site:
    """What a dump says of its wiki: `namespaces` are (number, local name), for links. Plain values: any process can be handed one."""

    language: str = ""
    name: str = ""
    base: str = ""
    namespaces: tuple[tuple[int, str], ...] = ()

    @property
    def licence(self) -> str:
        """Wikipedia's text has been under CC BY-SA 4.0 since June 2023; the dump does not say so, and of other wikis nothing is known."""
        return "CC-BY-SA-4.0" if re.match(r"https?://[\w.-]*\bwikipedia\.org/", self.base) else ""


def plain_text(wikitext: str, site: Site | None = None, tally: Counter[str] | None = None) -> str:
    """The running text of an article, paragraphs separated by "\\n"; "" when there is none.

    About 3 MB/s on a core for wikitext as dense as English Wikipedia's, at least 0.1 MB/s on mark-up made to hurt; 10 MB of nothing but
    braces take under 1 GB of memory. tally["nested_too_deep"] counts templates, tables and links dropped for standing over 40 deep.
    Raises ConfigError when mwparserfromhell is not installed.
    """
    site, tally = site or Site(), Counter() if tally is None else tally
    text = _without_opaque(wikitext.replace("\r\n", "\n"))
    text = _VARIANT.sub(_variant, text) if "-{" in text else text
    text = _replace_pairs(text, _BRACES, _STRAY_TEMPLATE, _template, tally)
    if "{|" in text or _HTML_TABLE.search(text):
        text = _replace_pairs("\n" + text, _TABLES, _STRAY_TABLE, lambda head, content: "\n", tally)
    text = _replace_pairs(text, _BRACKETS, _STRAY_LINK, functools.partial(_unseen_link, site), tally)
    text = _TAG.sub(_tag, text)
    text = _MAGIC_WORD.sub(_magic_word, text) if "__" in text else text
    paragraphs = []
    for raw, is_item in _blocks(text):
        paragraph = _tidied(_inline(raw, site))
        if _LETTER.search(paragraph) and (not is_item or _SENTENCE_END.search(paragraph)):
            paragraphs.append(paragraph)
    return "\n".join(paragraphs)


# ---- what is read as it stands: comments, references, formulas, code

_OPAQUE = (
    "nowiki|references|ref|gallery|math|chem|ce|syntaxhighlight|source|code|pre|timeline|score|hiero|imagemap|graph|mapframe|maplink|"
    "templatedata|templatestyles|inputbox|categorytree|indicator|includeonly|script|style"
)
_OPENING = re.compile(rf"<!--|<({_OPAQUE})(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in _OPAQUE.split("|")}
_CLOSING["ref"] = re.compile(r"</ref\s*>|(?=<ref(?:\s[^<>]*)?(?<!/)>)", re.IGNORECASE)  # none stands in another: the first lacks its slash
_CLOSING["!--"] = re.compile("-->")
_NOWIKI = str.maketrans({mark: f"&#{ord(mark)};" for mark in "[]{}|'<>=*#:;_/"})


def _without_opaque(text: str) -> str:
    """Cut elements whose content is not wikitext. An unclosed one ends with its line, a comment with the text, as in MediaWiki."""
    parts: list[str] = []
    position, unclosed = 0, set()
    while opening := _OPENING.search(text, position):
        parts.append(text[position : opening.start()])
        position = opening.end()
        name = (opening[1] or "!--").lower()
        if name != "!--" and opening[2].endswith("/"):
            continue
        closing = None if name in unclosed else _CLOSING[name].search(text, position)
        if closing is None:
            unclosed.add(name)  # looked for once: a million of them stay linear
            position = len(text) if name == "!--" else position if name == "nowiki" else _line_end(text, position)
        elif closing.end() > closing.start():
            if name == "nowiki":
                parts.append(text[position : closing.start()].translate(_NOWIKI))
            position = closing.end()
            if name == "!--" and text[: opening.start()][-1:] in ("", "\n") and text[position : position + 1] == "\n":
                position += 1  # a comment on a line of its own is no blank line
    return "".join([*parts, text[position:]])


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


# ---- what comes in pairs: templates, tables, links

# An odd closing run gives its last template the third brace ("{{{1}}}", "{{a|{b}}}"), and leaves its first bracket alone ("[[a|[b]]]").
# (A set of characters in front lets `re` skip what is between three times as fast as it tries alternatives.)
_BRACES = re.compile(r"[{}](?:(?<=\{)(?P<open>\{)|(?<=\})(?P<close>\}(?:\}(?!\}))?))")
_BRACKETS = re.compile(r"[\[\]](?:(?<=\[)(?P<open>\[)|(?<=\])(?:(?<!\]\])(?=(?:\]\])++(?!\]))|(?P<close>\])))")
_TABLES = re.compile(
    r"(?:\n[ \t:*#;]*+|<)(?:(?P<open>(?<!<)\{\||(?<=<)table\b[^<>]*>)|(?P<close>(?<!<)\|\}|(?<=<)/table\s*>))", re.IGNORECASE
)
_HTML_TABLE = re.compile("<table", re.IGNORECASE)
# What goes with an opening that never closes: a template's line, a table's rows, a link's target and options.
# No possessive groups here: in Python 3.11.2 (not in 3.11.7) one that fails in its middle keeps what it took.
_STRAY_TEMPLATE = re.compile(r"\{\{[^\n]*+(?:\n[ \t]*+\|[^\n]*+)*")
_STRAY_TABLE = re.compile(r"\n?[^\n]*+(?:\n[ \t]*+[|!][^\n]*+)*")
_STRAY_LINK = re.compile(r"\[\[(?:[^\[\]|\n]{0,200}+\|)*")

Pair = tuple[int, int, str, int]  # start, end, what replaces it, levels of pairs in it; a list of them is in order, and none in another
Replacement = Callable[[str, Callable[[], str]], str | None]


def _replace_pairs(text: str, marks: re.Pattern[str], stray: re.Pattern[str], replace: Replacement, tally: Counter[str]) -> str:
    """Replace each pair of marks, inner ones first, by replace(its first 300 characters, a function that gives all of its content).

    None leaves a pair as it stands. One pass and no recursion, whatever the nesting; content is copied at most DEEPEST times.
    """
    opened: list[int] = []
    done: list[Pair] = []
    for mark in marks.finditer(text):
        start, end, height, new = mark.start(), mark.end(), 0, ""
        if mark.lastgroup == "open":
            opened.append(start)
            continue
        if mark.lastgroup is None:  # a single bracket
            continue
        if opened:
            start = opened.pop()
            first = len(done)
            while first and done[first - 1][0] > start:
                first -= 1
            inner = done[first:]
            del done[first:]
            height = 1 + max((levels for *_, levels in inner), default=0)
            if height <= DEEPEST:
                inside = cast(re.Match[str], marks.match(text, start)).end()
                content = functools.partial(_patched, text, inside, mark.start(), inner)
                replaced = replace(text[inside : min(mark.start(), inside + 300)], content)
                new = text[start:inside] + content() + mark[0] if replaced is None else replaced
            elif height == DEEPEST + 1:
                tally["nested_too_deep"] += 1
        done.append((start, end, new, height))
    lonely = ((start, -1, "", 0) for start in opened)
    return _patched(text, 0, len(text), heapq.merge(done, lonely) if opened else done, stray)


def _patched(text: str, start: int, end: int, pairs: Iterable[Pair], stray: re.Pattern[str] | None = None) -> str:
    """text[start:end] with the pairs replaced; one without an end is an opening that never closes, cut with what `stray` matches there."""
    parts: list[str] = []
    for at, after, new, _ in pairs:
        if at >= start:  # else it went with a stray before it
            parts += (text[start:at], new)
            start = cast(re.Match[str], stray.match(text, at)).end() if stray and after < 0 else after
    return "".join([*parts, text[start:end]])


# ---- templates that hold running text


def _template(head: str, content: Callable[[], str]) -> str:
    """What a template leaves in the text: mostly nothing. {{convert|5|km|mi}} leaves "5 km", {{circa|1850}} "c. 1850"."""
    name = head.partition("|")[0].strip().replace("_", " ").casefold()
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name.startswith("formatnum:"):
        return content().partition(":")[2].partition("|")[0]
    if name in KEPT_TEMPLATES:
        places, named = _arguments(content())
        which = KEPT_TEMPLATES[name]
        placed = places[:1] if which == 1 else places[1:][-1:]
        return named.get("text") or named.get(str(abs(which))) or "".join(placed)
    if name in ("convert", "cvt"):
        places, _ = _arguments(content())
        return " ".join(places[: 4 if len(places) > 3 and places[1] in RANGES else 2])
    if name in ("circa", "c."):
        return " ".join(["c.", *_arguments(content())[0][:1]])
    return ""


def _arguments(content: str) -> tuple[list[str], dict[str, str]]:
    """A template's arguments, by place and by name; a "|" in a link does not divide them."""
    arguments = [""]
    for part in re.split(r"(\[\[[^\[\]]*+\]\]|\|)", content):
        if part == "|":
            arguments.append("")
        else:
            arguments[-1] += part
    places, named = [], {}
    for argument in arguments[1:]:
        name, equals, value = argument.partition("=")
        if equals and re.fullmatch(r"[\w -]{1,40}", name):
            named[name.strip()] = value.strip()
        else:
            places.append(argument.strip())
    return places, named


# ---- tags, magic words, variants of Chinese

_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>])[^<>]*>")
_MAGIC_WORD = re.compile(r"__([^\W\d_]+(?:_[^\W\d_]+){0,3})__")
_VARIANT = re.compile(r"-\{(?!\{)([^{}]*)\}-")


def _tag(match: re.Match[str]) -> str:
    return TAGS.get(match[1].lower(), match[0])  # <unk> is text


def _magic_word(match: re.Match[str]) -> str:
    """__NOTOC__ and its kind go, in any script; __init__ stays."""
    return match[0] if match[1] != match[1].upper() else ""


def _variant(match: re.Match[str]) -> str:
    """-{zh-hans:a;zh-hant:b}- is shown as a or b: the first is taken. -{H|...}- and -{T|...}- only set rules."""
    flags, bar, rules = match[1].rpartition("|")
    if bar and ("H" in flags or "T" in flags):
        return ""
    first = rules.partition(";")[0]
    return first.partition(":")[2] if re.match(r"\s*zh[\w-]*\s*:", first) else rules


# ---- links


@functools.lru_cache(maxsize=8)
def _prefixes(site: Site) -> dict[str, int]:
    """Namespace numbers by name, in lower case: MediaWiki's own, local ones that dumps leave out, the site's."""
    return {**ALIASES, **NAMESPACES, **{name.casefold(): number for number, name in site.namespaces if name}}


_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,8}){0,2}|simple")


def _unseen(target: str, site: Site) -> bool:
    """Whether a link to `target` shows nothing in the text: a file, a category, the same article in another language."""
    if target.lstrip().startswith(":"):
        return False
    prefix, colon, rest = target.partition(":")
    prefix = prefix.strip()
    number = _prefixes(site).get(prefix.replace("_", " ").casefold()) if colon else 0
    if number is None:
        return bool(rest[:1].strip() and _LANGUAGE.fullmatch(prefix)) or rest.strip().lower().endswith(FILE_ENDINGS)
    return number in (MEDIA, FILE, CATEGORY)


def _unseen_link(site: Site, head: str, content: Callable[[], str]) -> str | None:
    return "" if _unseen(head.partition("|")[0], site) else None


def _link_text(target: str, label: str | None, site: Site) -> str:
    """What a link shows: its label or its target; the name of a page of another namespace or project is no running text."""
    if _unseen(target, site):
        return ""
    if label is not None:
        return label.rpartition("|")[2]  # more than one "|": options of a file link whose name nobody knows
    prefix, colon, rest = target.strip().lstrip(":").partition(":")
    known = colon and (prefix.casefold() in PROJECTS or prefix.replace("_", " ").casefold() in _prefixes(site))
    return "" if known or target.lstrip().startswith(":") else target.strip().lstrip("#")


# ---- paragraphs

_HATNOTE = re.compile(r":+\s*''(?!')[^\n]*''(?!')\.?")


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """(a paragraph with its links, whether it is a list item). Lines of prose that follow one another are one paragraph, as on the page."""
    prose: list[str] = []
    tail = 0  # the level of a section that is passed over, with its subsections
    for line in itertools.chain(text.split("\n"), [""]):
        line = line.strip()
        is_heading = len(line) > 2 and line[0] == line[-1] == "="
        if line and not is_heading and line[0] not in "*#:;|" and not line.startswith("----"):
            if not tail:
                prose.append(line)
            continue
        if prose:
            yield " ".join(prose), False
            prose = []
        if is_heading:
            level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
            if not tail or level <= tail:
                tail = level if _heading_words(line[level:-level]) in TAIL_SECTIONS else 0
        elif line and line[0] in "*#:;" and not tail and not _HATNOTE.fullmatch(line):
            yield line.lstrip("*#:; "), True


def _heading_words(heading: str) -> str:
    return re.sub(r"\[\[[^\[\]|]*\||['\[\]=:]", "", heading).strip().casefold() if len(heading) < 200 else ""


# ---- a paragraph

_QUOTES = re.compile("'{2,}")
_STRAY_URL = re.compile(r"\[(?:[a-z]{3,6}:)?//[^\s\[\]]*", re.IGNORECASE)


def _inline(raw: str, site: Site) -> str:
    """A paragraph without bold and italics, links and URLs; entities are left as they are."""
    raw = raw if "''" not in raw else _QUOTES.sub(lambda match: "'" * {4: 1}.get(len(match[0]), max(0, len(match[0]) - 5)), raw)
    if "[" not in raw and "//" not in raw:
        return raw
    if raw.count("[") != raw.count("]"):  # brackets that never close cost the parser quadratic time
        raw = _STRAY_URL.sub("", raw)
    raw = raw.replace("<", "&lt;")
    return "".join(_shown(_parse()(piece, skip_style_tags=True), site) for piece in _pieces(raw))


def _pieces(raw: str) -> Iterator[str]:
    """A paragraph in pieces that the parser's memory is safe with, cut behind a link that stands in no other; seldom more than one."""
    start = 0
    while len(raw) - start > PIECE_CHARACTERS:
        end = start + PIECE_CHARACTERS
        cut = raw.rfind("]", start, end)
        for _ in range(DEEPEST):
            if cut < 0 or raw.count("[", start, cut) == raw.count("]", start, cut + 1):
                break
            cut = raw.rfind("]", start, cut)
        end = (cut if cut >= 0 else raw.rfind(" ", start, end)) + 1 or end
        yield raw[start:end]
        start = end
    yield raw[start:]


@functools.cache
def _parse() -> Callable[..., Any]:
    try:
        import mwparserfromhell
    except ModuleNotFoundError:
        raise ConfigError(f"Wikipedia's mark-up needs mwparserfromhell: {install('corpus')}") from None
    return mwparserfromhell.parse


def _shown(code: Any, site: Site) -> str:
    """What a reader sees of parsed mark-up; the parser itself bounds how deep it goes."""
    parts = []
    for node in code.nodes:
        kind = type(node).__name__
        if kind == "Wikilink":
            label = None if node.text is None else _shown(node.text, site)
            parts.append(_link_text(_shown(node.title, site), label, site))
        elif kind == "ExternalLink":
            parts.append(_shown(node.title, site) if node.title is not None else "")
        else:
            parts.append(str(node))
    return "".join(parts)


_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# What stood between brackets or commas was a template or a reference. A run is tried at its first character only, so that it stays linear.
_BRACKET_HEAD = re.compile(r"([(（])[ ;,、，；]++")
_BRACKET_TAIL = re.compile(r"[ ;,、，；](?<![ ;,、，；]{2})[ ;,、，；]*+(?=[)）])")
_EMPTY = re.compile(r"[(\[（](?:(?<!\S[(\[])|(?<=（))[ ;,:/、，；–—-]*+[)\]）]")
_COMMAS = re.compile(",{2,}")
_SPACE_DOT = re.compile(r" [.;](?= |$)")
_LETTER = re.compile(r"[^\W_]")
_SENTENCE_END = re.compile(r"[.!?…。！？．।॥؟۔።։][\"'”’»)\]」』）]{0,3}$")


def _tidied(text: str) -> str:
    """Entities decoded, no empty brackets, no stray commas, single spaces."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = " ".join(text.split())
    if "(" in text or "（" in text or "[" in text:
        text = _EMPTY.sub("", _BRACKET_TAIL.sub("", _BRACKET_HEAD.sub(r"\1", text)))
    text = _COMMAS.sub(",", text.replace(" ,", ",")).replace(",.", ".")
    return " ".join(_SPACE_DOT.sub(lambda match: match[0][1], text).split())
