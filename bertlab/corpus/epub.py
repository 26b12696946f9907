"""EPUB books (2 and 3): one document a chapter, read from the archive without unpacking anything to disk.

Costs: on one core some 5 MB/s of mark-up; memory a few times that of the longest chapter, which is at most 64 MB. Names are looked up in
the archive's own list and nowhere else. Mark-up is read by a scanner of our own: html.parser takes time with the square of its input
where comments or tags never close (measured: 5 s for 80 kB of "<!--", Python 3.11), this one reads each character a fixed number of times.
Knows nothing of style sheets: what they hide is shown. Does not break copy protection.
"""

import errno
import html
import posixpath
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote
from xml.parsers import expat

from bertlab.corpus.books import is_licence_start, lines_without_licence
from bertlab.corpus.document import Document
from bertlab.corpus.files import OTHER_BOMS, UTF8_BOM, InvalidUtf8, decode, refused
from bertlab.errors import DataError

XML_BYTES = 4 << 20  # container, package and encryption files: a package of 10,000 files has 1 MB
CHAPTER_BYTES = 64 << 20
BOOK_BYTES = 256 << 20  # of mark-up, unpacked; the longest real books have below 20 MB
PACKED_PLAINLY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that EPUB allows; the others may unpack without bound
CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")
# What zipfile raises for a damaged archive: ValueError for names that are not in the encoding they say, RuntimeError for encryption.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError, RuntimeError)

_Element = tuple[str, dict[str, str], str]  # the local name, the attributes by local name, the text straight inside


@dataclass(frozen=True)
class _Package:
    """What the package file says: title and licence, and the archive's name of every place in the spine ("" where it is no chapter)."""

    title: str
    licence: str
    chapters: list[str]


def is_epub(path: Path | str) -> bool:
    """Whether the name ends in .epub."""
    return Path(path).suffix.lower() == ".epub"


def epub_documents(
    path: Path, name: str, *, invalid_utf8: InvalidUtf8 = "replace", tally: Counter[str] | None = None
) -> Iterator[Document]:
    """The chapters of an EPUB in reading order, each a document "<name>#<place in the spine, from 1>" with the book's title.

    A chapter (a file of the spine), not the book, is the document: what is held out is chosen by document, and a book of 100,000 words
    would go to one side whole, while next-sentence pairs come from neighbouring sentences and hardly miss the chapter before. `licence` is
    the package's rights. Left out: the table of contents, what is no (X)HTML, what the spine calls not linear (covers, pop-up notes), a
    file's second place in the spine, files without text, and Project Gutenberg's licence.
    Invalid text is treated and counted in `tally` as in bertlab.corpus.sources: "drop" drops the chapter. Raises DataError for a file that
    is damaged, copy-protected, no EPUB, or larger than a book can be (a chapter over 64 MiB, 256 MiB in all).
    """
    tally = Counter() if tally is None else tally
    with _opened(path) as archive:
        package = _package(archive, path)
        left = BOOK_BYTES
        for number, chapter in enumerate(package.chapters, start=1):
            if not chapter:
                continue
            data = _read(archive, chapter, path, min(CHAPTER_BYTES, left))
            left -= len(data)
            markup, replaced = _decoded(data)
            del data  # it may be 64 MB
            if replaced and refused(f"{path} ({chapter!r})", replaced, invalid_utf8, tally):
                tally["dropped_invalid_utf8"] += 1
                continue
            lines = list(paragraphs(markup))
            if text := "\n".join(lines_without_licence(lines)).strip():
                yield Document(f"{name}#{number}", name, text, package.title, package.licence)
            if any(is_licence_start(line) for line in lines):  # it goes on in the files that follow
                return


# ---- the archive


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Exception:
    # An OSError with a number is the disk's, not the archive's; but that a place before the file's start is invalid, the archive says.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return error
    return DataError(f"{path}: no EPUB, or a damaged one ({' '.join(str(error).split())}): copy or download it again")


def _read(archive: zipfile.ZipFile, name: str, path: Path, limit: int) -> bytes:
    """An entry's bytes. DataError when it is not there, encrypted, oddly packed, or larger than `limit` by its header or in truth."""
    entry = archive.NameToInfo.get(name)
    if entry is None:
        raise DataError(f"{path}: it names {name!r}, which is not in the archive: copy or download the book again")
    if entry.flag_bits & 1:
        raise DataError(f"{path}: {name!r} is encrypted (copy protection): only books without it can be read")
    if entry.compress_type not in PACKED_PLAINLY:
        raise DataError(f"{path}: {name!r} is packed in a way that EPUB does not allow: pack the book again as a plain zip")
    try:
        with archive.open(entry) as stream:
            data = stream.read(limit + 1) if entry.file_size <= limit else b""
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    if entry.file_size > limit or len(data) > limit:
        raise DataError(f"{path}: {name!r} unpacks to more than {limit:,} bytes, as no real book does: leave the file out")
    return data


def _package(archive: zipfile.ZipFile, path: Path) -> _Package:
    container = _elements(archive, "META-INF/container.xml", path)
    package_name = next((unquote(attributes.get("full-path", "")) for name, attributes, _ in container if name == "rootfile"), "")
    if not package_name:
        raise DataError(f"{path}: META-INF/container.xml names no package file: it is no EPUB, or a damaged one")
    elements = _elements(archive, package_name, path)
    items = {attributes.get("id", ""): attributes for name, attributes, _ in elements if name == "item"}
    chapters: dict[str, int] = {}  # the place in the spine at which each comes first
    places = 0
    for reference in (attributes for name, attributes, _ in elements if name == "itemref"):
        places += 1
        item = items.get(reference.get("idref", ""))
        if item is None:
            raise DataError(f"{path}: its spine names {reference.get('idref')!r}, which its manifest does not: download the book again")
        is_text = item.get("media-type", "").lower() in CHAPTER_TYPES and "nav" not in item.get("properties", "").split()
        if is_text and reference.get("linear") != "no":
            chapters.setdefault(_place(item.get("href", ""), package_name), places)
    if not chapters:
        raise DataError(f"{path}: its package file {package_name!r} names no chapter: it is no EPUB, or one of pictures")
    _refuse_protected(archive, path, chapters)
    spine = [""] * places
    for chapter, place in chapters.items():
        spine[place - 1] = chapter
    texts = {name: " ".join(text.split()) for name, _, text in reversed(elements)}  # reversed: the first of a name stays
    named = {attributes.get("property", ""): " ".join(text.split()) for name, attributes, text in elements if name == "meta"}
    licence = texts.get("rights") or named.get("dcterms:rights") or named.get("dcterms:license") or ""
    return _Package(texts.get("title", ""), licence, spine)


def _place(href: str, package_name: str) -> str:
    """The name in the archive of what the package file calls `href`. One that points outside is the name of no entry, or harmless."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(package_name), unquote(href.partition("#")[0])))


def _refuse_protected(archive: zipfile.ZipFile, path: Path, needed: Iterable[str]) -> None:
    """Raise DataError when a chapter is encrypted. Encrypted fonts, which many free books have, do not matter."""
    if "META-INF/encryption.xml" not in archive.NameToInfo:
        return
    elements = _elements(archive, "META-INF/encryption.xml", path)
    encrypted = {posixpath.normpath(unquote(attributes.get("URI", ""))) for name, attributes, _ in elements if name == "CipherReference"}
    if not encrypted.isdisjoint(needed):
        raise DataError(f"{path}: the book is encrypted (copy protection): only books without it can be read")


def _elements(archive: zipfile.ZipFile, name: str, path: Path) -> list[_Element]:
    """The elements of an XML file in the order in which they end. Raises DataError for XML that is broken or declares entities."""
    found: list[_Element] = []
    open_elements: list[tuple[str, dict[str, str], list[str]]] = []

    def refuse(*_: Any) -> None:
        raise DataError(f"{path}: {name!r} declares XML entities, which no book needs and which may expand without bound: leave it out")

    def start(tag: str, attributes: dict[str, str]) -> None:
        open_elements.append((_local(tag), {_local(key): value for key, value in attributes.items()}, []))

    def end(_: str) -> None:
        tag, attributes, text = open_elements.pop()
        found.append((tag, attributes, "".join(text)))

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: open_elements[-1][2].append(text)
    try:
        parser.Parse(_read(archive, name, path, XML_BYTES), True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:  # the last two: an encoding that is none
        raise DataError(f"{path}: {name!r} is broken XML ({error}): copy or download the book again") from None
    return found


def _local(name: str) -> str:
    return name.rpartition(":")[2]


# ---- the mark-up of a chapter

_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody",
    "tfoot", "thead", "title", "tr", "ul",
})  # fmt: skip
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"})
_RAW = {name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style")}  # their content is no mark-up
_LEFT_OUT = frozenset({"audio", "head", "iframe", "math", "nav", "object", "rp", "rt", "script", "style", "svg", "template", "video"})
_LEFT_OUT_INLINE = frozenset({"a", "b", "i", "rp", "rt", "small", "span", "sup"})  # one of these that never closes ends with its block
_LEFT_OUT_TYPES = frozenset({"pagebreak", "noteref", "doc-pagebreak", "doc-noteref"})
_LEFT_OUT_CLASSES = frozenset({"pagenum", "pageno", "pg-boilerplate"})  # Project Gutenberg's names
_LEFT_OUT_HINT = re.compile("hidden|pagebreak|noteref|pagenum|pageno|pg-boilerplate", re.IGNORECASE)

# A tag ends before the next "<" or not at all, and nothing is tried twice: linear on whatever comes. The second form has a stray quote.
_TAG = re.compile(r"""<(/?)([A-Za-z][^\s/<>"']*+)((?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+)>|<(/?)([A-Za-z][^\s/<>"']*+)([^<>]*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s=/"'<>]++)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'<>]++))?+""")
_ENCODING = re.compile(rb"""(?:encoding|charset)\s{0,9}=\s{0,9}["']?(iso-8859-\d+|windows-125\d)\b""", re.IGNORECASE)
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[a-zA-Z]|[*†‡§¶#↩↑^]{1,4})[\])]?")
_SURE_NOTE_MARK = re.compile(r"\[(?:note |fn\.? ?)?\w{1,4}\]|\[?[*†‡§¶↩↑^]{1,4}\]?", re.IGNORECASE)
_NO_CHARACTER = re.compile(r"&#[0-9]{8,};?")  # html.unescape fails on one of thousands of digits
_LONGEST_MARK = 10  # characters

_Tag = tuple[str, Literal["open", "close", "empty"], str]  # local name in small letters, kind, attributes as they are written
_Token = str | _Tag  # a text with its entities decoded, or a tag


def paragraphs(markup: str) -> Iterator[str]:
    """The text of the block elements of an (X)HTML page, each a line; a line break (<br>) and a row of a table are lines too.

    Left out: head, scripts, styles, navigation, pictures, formulas, page numbers, marks of footnotes (a short number or sign in square
    brackets or raised, that links within the book), ruby readings, what is hidden. Mark-up may be broken: what is no tag is text.
    """
    parts: list[str] = []  # the paragraph so far, no part empty
    opened: list[tuple[str, int, int, bool]] = []  # open <a> and <sup>: name, parts and characters before it, whether it links to a note
    characters = preformatted = 0
    last = {"a": -1, "sup": -1}  # the number of parts before the last link within the book, before the last raised text
    for token in _shown(_tokens(markup)):
        if isinstance(token, str):
            parts.append(token)
            characters += len(token)
            continue
        name, kind, attributes = token
        if name in _BLOCKS:
            yield from _lines("".join(parts), preformatted > 0)
            parts, opened, characters, last = [], [], 0, {"a": -1, "sup": -1}
            if name == "pre":
                preformatted = max(0, preformatted + (kind == "open") - (kind == "close"))
        elif name in ("td", "th"):
            parts.append(" ")
            characters += 1
        elif name in last and kind == "open":
            links = name == "a" and "#" in _attributes(attributes).get("href", "")
            opened.append((name, len(parts), characters, links))
            if links or name == "sup":
                last[name] = len(parts)
        elif name in last and kind == "close" and opened and opened[-1][0] == name:
            _, start, before, links = opened.pop()
            if characters - before <= _LONGEST_MARK:
                mark = "".join(parts[start:]).strip()
                raised = name == "sup" or last["sup"] >= start or any(other[0] == "sup" for other in opened[-1:])
                linked = links or last["a"] >= start or any(other[3] for other in opened[-1:])
                if linked and (_SURE_NOTE_MARK.fullmatch(mark) or (raised and _NOTE_MARK.fullmatch(mark))):
                    del parts[start:]
                    characters = before
    yield from _lines("".join(parts), preformatted > 0)


def _lines(text: str, preformatted: bool) -> Iterator[str]:
    for line in text.split("\n") if preformatted else [text]:
        if words := line.split():
            yield " ".join(words)


def _shown(tokens: Iterable[_Token]) -> Iterator[_Token]:
    """The tokens outside the elements that are left out."""
    skipped, depth = "", 0
    for token in tokens:
        if isinstance(token, str):
            if not skipped:
                yield token
            continue
        name, kind, attributes = token
        if skipped:
            depth += (name == skipped) * ((kind == "open") - (kind == "close"))
            if depth == 0 or name == "body" or (skipped in _LEFT_OUT_INLINE and name in _BLOCKS):
                skipped = ""
                yield token
        elif kind == "open" and name not in _VOID and _is_left_out(name, attributes):
            skipped, depth = name, 1
            yield name, "empty", ""  # a block still parts what is before it from what is after
        else:
            yield token


def _is_left_out(name: str, written: str) -> bool:
    if name in _LEFT_OUT:
        return True
    if name in ("html", "body") or not _LEFT_OUT_HINT.search(written):
        return False
    attributes = _attributes(written)
    types = f"{attributes.get('type', '')} {attributes.get('role', '')}".lower().split()
    classes = attributes.get("class", "").lower().split()
    return "hidden" in attributes or not _LEFT_OUT_TYPES.isdisjoint(types) or not _LEFT_OUT_CLASSES.isdisjoint(classes)


def _attributes(written: str) -> dict[str, str]:
    return {_local(name).lower(): value.strip("\"'") for name, value in _ATTRIBUTE.findall(written)}


def _tokens(markup: str) -> Iterator[_Token]:
    """Texts and tags in order. Comments and declarations go; one that never closes takes the rest with it, as in a browser."""
    position = 0
    while (start := markup.find("<", position)) >= 0:
        if start > position:
            yield _unescaped(markup[position:start])
        if markup.startswith("<!--", start):
            position = _after(markup, "-->", start + 4)
        elif markup.startswith("<![CDATA[", start):
            position = _after(markup, "]]>", start)
            yield markup[start + 9 : position].removesuffix("]]>")
        elif markup.startswith(("<!", "<?"), start):
            position = _after(markup, ">", start)
            if "[" in markup[start:position]:  # a document type with declarations of its own
                position = _after(markup, "]>", start)
        elif match := _TAG.match(markup, start):
            position = match.end()
            slash, name, attributes = match.group(1, 2, 3) if match[2] else match.group(4, 5, 6)
            name = _local(name).lower()
            kind: Literal["open", "close", "empty"] = "close" if slash else "empty" if attributes.endswith("/") else "open"
            yield name, kind, attributes
            if name in _RAW and kind == "open":
                end = _RAW[name].search(markup, position)
                position = end.start() if end else len(markup)
        else:
            yield "<"
            position = start + 1
    if position < len(markup):
        yield _unescaped(markup[position:])


def _after(markup: str, end: str, start: int) -> int:
    found = markup.find(end, start)
    return len(markup) if found < 0 else found + len(end)


def _unescaped(text: str) -> str:
    return html.unescape(_NO_CHARACTER.sub("\ufffd", text)) if "&" in text else text


def _decoded(data: bytes) -> tuple[str, int]:
    """A page as text without NUL, and how many characters had to be replaced. UTF-8 unless it says UTF-16 or an 8-bit encoding."""
    if data.startswith(OTHER_BOMS) or data[:2] in (b"<\0", b"\0<"):
        encoding = "utf-16" if data.startswith(OTHER_BOMS) else "utf-16-le" if data[0] else "utf-16-be"
    elif found := _ENCODING.search(data[:1024]):
        encoding = found[1].decode().lower()
    else:
        return decode(data.removeprefix(UTF8_BOM))
    try:
        text = data.decode(encoding, errors="replace")
    except LookupError:  # iso-8859-12 and the like
        return decode(data)
    return text.replace("\0", ""), text.count("\ufffd")
