"""Articles from Wikipedia's XML dumps: pages-articles of any language, packed (.bz2 of one or many streams, .gz, ...) or not.

Streams: a few pages are in memory at a time, whatever the dump's size; a tag or a page that is too large for any wiki is refused.
The XML costs little beside unpacking; what the mark-up means, and its cost, are in bertlab.corpus.wikitext.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xml.parsers import expat

from bertlab.corpus.files import COMPRESSIONS, open_bytes
from bertlab.corpus.wikitext import Site
from bertlab.errors import DataError

CHUNK_BYTES = 1 << 17
LARGEST_PAGE = 1 << 24  # characters; MediaWiki itself refuses articles over 2 MiB
LARGEST_TAG = 1 << 20  # bytes of a tag, comment or the like; without a bound expat takes quadratic time
LONGEST_FIELD = 10_000  # characters of a title, an id, a namespace's name
DEEPEST = 100  # elements in elements; a dump has six

_ENDINGS = "|".join(re.escape(ending) for ending in COMPRESSIONS)
_XML_NAME = re.compile(rf"\.xml(?:-p\d+p\d+)?(?:{_ENDINGS})?$", re.IGNORECASE)  # -p1p41242: a part of a dump, by page numbers
_DUMP_NAME = re.compile(r"-pages-(?:articles|meta)", re.IGNORECASE)
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<mediawiki[\s>]", re.DOTALL)
_REDIRECT = re.compile(r"\s*#[^\s\[\]#*]+(?: [^\s\[\]]+)?[ \t]*:?[ \t]*\[\[[^\[\]\n]+\]\]")  # "#REDIRECT [[X]]", in any language
_DISAMBIGUATION = re.compile(
    r"__DISAMBIG__|\{\{\s*(?:disambig\w*|disamb|hndis|geodis|begriffsklärung|homonymie|desambiguación|desambiguação|disambigua|dp|"
    r"ujednoznacznienie|неоднозначность|багатозначність|aimai|曖昧さ回避|消歧义|消歧義|توضيح|ابهام‌زدایی|förgrening|동음이의)\s*(?:\||\}\})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Page:
    """An article as the dump has it: `wikitext` goes to wikitext.plain_text with `site`, which all pages of a dump share."""

    id: str
    title: str
    wikitext: str
    site: Site


def is_dump(path: Path) -> bool:
    """Whether a file is a dump: by its name (enwiki-latest-pages-articles.xml.bz2), or .xml, packed or not, that begins with <mediawiki.

    Raises DataError for a damaged archive that the name does not settle.
    """
    if not _XML_NAME.search(path.name):
        return False
    if _DUMP_NAME.search(path.name):
        return True
    with open_bytes(path) as stream:
        return bool(_ROOT.match(stream.read(4096)))


def pages(path: Path, tally: Counter[str], broken: list[str]) -> Iterator[Page]:
    """The articles of a dump, in its order.

    tally counts the file's "bytes" as they are read, its "pages", and those passed over: "redirect", "other_namespace", "other_model" (no
    wikitext), "disambiguation", "no_text", "too_long" (over 16 million characters). XML that breaks off or turns into none ends the
    dump there: what came before is yielded, the page in which it broke is not, tally["broken_xml"] is 1, and `broken` gets one line
    that says where, in bytes of the unpacked file.
    Raises DataError for a damaged archive (after the pages before it), for XML that is no dump or holds no page, and for a DOCTYPE.
    """
    reader = _Reader(path, tally)
    fault = ""
    with open_bytes(path, tally) as stream:
        while not reader.ended:
            chunk = cast(io.BufferedReader, stream).read1(CHUNK_BYTES)  # not read: it would lose what came just before damage
            fault = reader.feed(chunk)
            yield from reader.take()
            if fault:
                break
    if not tally["pages"] - reader.pages_before:
        raise DataError(f"{path}: no page in this dump{f' ({fault})' if fault else ''}: is it a pages-articles dump, and whole?")
    if fault:
        tally["broken_xml"] += 1
        broken.append(f"{path}: {fault}: what came before is kept")


class _Broken(Exception):
    """XML that is well formed so far and still no dump's."""


class _Reader:
    """The state of expat's callbacks: where in the dump we are, the page that is being read, the pages that are ready."""

    def __init__(self, path: Path, tally: Counter[str]) -> None:
        self.ended = False
        self.pages_before = tally["pages"]
        self._path, self._tally = path, tally
        self._fed = 0  # bytes
        self._above: list[str] = []  # names of the open elements
        self._site, self._namespaces = Site(), {0: ""}
        self._attributes: dict[str, str] = {}
        self._page: dict[str, str] = {}
        self._ready: list[Page] = []
        self._collected: list[str] = []
        self._room = 0  # characters that may still be collected
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.buffer_size = 1 << 16
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def feed(self, chunk: bytes) -> str:
        """Read on; b"" is the end. Returns what is broken and where, or ""."""
        self._fed += len(chunk)
        self.ended = not chunk
        try:
            self._parser.Parse(chunk, self.ended)
            if self._fed - self._parser.CurrentByteIndex > LARGEST_TAG + CHUNK_BYTES:
                raise _Broken(f"a tag or comment of over {LARGEST_TAG} bytes")
        except expat.ExpatError as error:
            return f"broken XML at byte {max(0, self._parser.ErrorByteIndex)} ({expat.ErrorString(error.code)})"
        except _Broken as error:
            return f"broken XML at byte {self._parser.CurrentByteIndex} ({error})"
        return ""

    def take(self) -> list[Page]:
        ready, self._ready = self._ready, []
        return ready

    # -- what expat calls

    def _doctype(self, *_: Any) -> None:
        raise DataError(f"{self._path}: the XML has a DOCTYPE, which can declare entities without end and no dump has: refused")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._above.append(name)
        depth = len(self._above)
        if depth == 1:
            if name != "mediawiki":
                raise DataError(f"{self._path}: the XML begins with <{name[:50]}>, not <mediawiki>: it is no Wikipedia dump")
            self._site = Site(language=attributes.get("xml:lang", ""))
        elif depth > DEEPEST:
            raise _Broken(f"elements nested over {DEEPEST} deep")
        elif name == "redirect" and depth == 3:
            self._page["redirect"] = "yes"
        elif _field(self._above):
            self._attributes = attributes
            self._collected = []
            self._room = LARGEST_PAGE if name == "text" else LONGEST_FIELD
            self._parser.CharacterDataHandler = self._text

    def _text(self, data: str) -> None:
        if len(data) <= self._room:
            self._collected.append(data)
            self._room -= len(data)
        else:
            self._room = -1
            self._collected = []

    def _end(self, name: str) -> None:
        if _field(self._above):
            self._parser.CharacterDataHandler = None  # what no field holds is not even handed over
            if self._room < 0:
                self._page["too_long"] = "yes"
            self._keep(name, "".join(self._collected))
            self._collected = []
        self._above.pop()
        if not self._above or len(self._above) > 1:
            return
        if name == "siteinfo":
            self._site = Site(self._site.language, self._site.name, self._site.base, tuple(self._namespaces.items()))
        elif name == "page":
            self._tally["pages"] += 1
            if reason := self._reason():
                self._tally[reason] += 1
            else:
                page = self._page
                self._ready.append(Page(page.get("id", ""), page.get("title", ""), page["text"], self._site))
            self._page = {}

    def _keep(self, name: str, value: str) -> None:
        if name == "namespace":
            self._namespaces[_number(self._attributes.get("key", ""))] = value
        elif name == "sitename":
            self._site = Site(self._site.language, value, self._site.base)
        elif name == "base":
            self._site = Site(self._site.language, self._site.name, value)
        else:
            self._page[name] = value  # of several revisions, the last

    def _reason(self) -> str:
        """Why the page that has ended is passed over; "" when it is an article."""
        page = self._page
        text = page.get("text", "")
        if self._namespace() != 0:
            return "other_namespace"
        if "redirect" in page or _REDIRECT.match(text):
            return "redirect"
        if page.get("model", "wikitext") != "wikitext":
            return "other_model"
        if "too_long" in page:
            return "too_long"
        if not text.strip():
            return "no_text"
        return "disambiguation" if _DISAMBIGUATION.search(text) else ""

    def _namespace(self) -> int:
        """The page's namespace; dumps of before 2012 have it in the title only."""
        if "ns" in self._page:
            return _number(self._page["ns"])
        prefix, colon, _ = self._page.get("title", "").partition(":")
        return next((number for number, name in self._namespaces.items() if colon and name and name == prefix), 0)


_FIELDS = {
    ("page", "title"): 3,
    ("page", "ns"): 3,
    ("page", "id"): 3,
    ("revision", "text"): 4,
    ("revision", "model"): 4,
    ("siteinfo", "sitename"): 3,
    ("siteinfo", "base"): 3,
    ("namespaces", "namespace"): 4,
}  # (parent, element): depth


def _field(above: list[str]) -> bool:
    """Whether the innermost open element is one whose text is kept."""
    return len(above) > 2 and _FIELDS.get((above[-2], above[-1])) == len(above)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?\d{1,9}", text.strip()) else -1
