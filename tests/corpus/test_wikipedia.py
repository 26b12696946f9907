"""Dumps: what is an article, packed files, the wiki's own names, broken and hostile XML, and flat memory."""

import bz2
import gzip
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from bertlab.corpus import files, wikipedia
from bertlab.corpus.wikipedia import Page, is_dump, pages
from bertlab.corpus.wikitext import Site, plain_text
from bertlab.errors import DataError

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>dewiki</dbname>
    <base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
    <generator>MediaWiki 1.45.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="-1" case="first-letter">Spezial</namespace>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
END = "</mediawiki>\n"
SITE = Site(
    "de",
    "Wikipedia",
    "https://de.wikipedia.org/wiki/Wikipedia:Hauptseite",
    ((0, ""), (-1, "Spezial"), (6, "Datei"), (14, "Kategorie")),
)


def page(number: int, text: str, *, title: str = "", namespace: str = "<ns>0</ns>", extra: str = "", model: str = "wikitext") -> str:
    return f"""  <page>
    <title>{escape(title or f"Title {number}")}</title>
    {namespace}
    <id>{number}</id>{extra}
    <revision>
      <id>{number + 1000}</id>
      <parentid>{number + 999}</parentid>
      <timestamp>2026-01-01T00:00:00Z</timestamp>
      <contributor>
        <username>Somebody</username>
        <id>{number + 2000}</id>
      </contributor>
      <comment>a &lt;b&gt; comment</comment>
      <origin>{number + 1000}</origin>
      <model>{model}</model>
      <format>text/x-wiki</format>
      <text bytes="{len(text.encode())}" sha1="x" xml:space="preserve">{escape(text)}</text>
      <sha1>x</sha1>
    </revision>
  </page>
"""


def dump(count: int) -> str:
    return HEAD + "".join(page(number, f"Text {number} of ''{number}''.") for number in range(1, count + 1)) + END


def read(path: Path) -> tuple[list[Page], Counter[str], list[str]]:
    tally: Counter[str] = Counter()
    broken: list[str] = []
    found = list(pages(path, tally, broken))
    assert 0 < tally.pop("bytes") <= path.stat().st_size
    return found, tally, broken


def write(folder: Path, content: str | bytes, name: str = "wiki.xml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---- what is a dump


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("enwiki-latest-pages-articles.xml.bz2", True),
        ("dewiki-20260101-pages-articles-multistream.xml.bz2", True),
        ("enwiki-20260101-pages-articles1.xml-p1p41242.bz2", True),
        ("frwiki-latest-pages-meta-current.xml", True),
        ("enwiki-latest-pages-articles-multistream-index.txt.bz2", False),
        ("enwiki-latest-pages-articles.txt", False),
        ("notes.txt", False),
    ],
)
def test_a_dump_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_dump(Path(name)) is expected  # no file is there to be opened


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (dump(1), True),
        ('\ufeff<?xml version="1.0" encoding="utf-8"?>\n<!-- a > b -->\n' + dump(1), True),
        ("<html><mediawiki></html>", False),
        ("<mediawikis/>", False),
        ("", False),
    ],
)
def test_other_xml_is_known_by_its_first_element(tmp_path: Path, content: str, expected: bool) -> None:
    assert is_dump(write(tmp_path, content, "a.xml")) is expected
    assert is_dump(write(tmp_path, gzip.compress(content.encode()), "a.XML.gz")) is expected


# ---- articles


def test_articles_come_with_id_title_text_and_site_in_order(tmp_path: Path) -> None:
    text = "A & b < c {{d|e}}\n\n«Ж» 中 <ref>f</ref>"
    found, tally, broken = read(write(tmp_path, HEAD + page(7, text, title="A & Б") + page(3, "X") + END))
    assert found == [Page("7", "A & Б", text, SITE), Page("3", "Title 3", "X", SITE)]
    assert found[0].site.licence == "CC-BY-SA-4.0"
    assert tally == {"pages": 2}
    assert broken == []


@pytest.mark.parametrize(
    ("passed_over", "reason"),
    [
        (page(2, "X", extra='<redirect title="Y" />'), "redirect"),
        (page(2, "#REDIRECT [[Y]]"), "redirect"),
        (page(2, " #weiterleitung:[[Y#z]] {{x}}"), "redirect"),
        (page(2, "#перенаправление [[Y]]\n"), "redirect"),
        (page(2, "#पुनर्प्रेषित [[Y]]"), "redirect"),
        (page(2, "#重定向[[Y]]"), "redirect"),
        (page(2, "X", namespace="<ns>14</ns>"), "other_namespace"),
        (page(2, "X", namespace="<ns>?</ns>"), "other_namespace"),
        (page(2, "X", namespace="", title="Datei:X.jpg"), "other_namespace"),
        (page(2, "{}", model="json"), "other_model"),
        (page(2, " \n"), "no_text"),
        (page(2, "'''X''' may refer to:\n{{Disambiguation|geo}}"), "disambiguation"),
        (page(2, "X\n{{Begriffsklärung}}"), "disambiguation"),
    ],
)
def test_what_is_no_article_is_counted_by_its_reason(tmp_path: Path, passed_over: str, reason: str) -> None:
    found, tally, _ = read(write(tmp_path, HEAD + page(1, "A") + passed_over + page(3, "B") + END))
    assert [one.id for one in found] == ["1", "3"]
    assert tally == {"pages": 3, reason: 1}


def test_an_article_that_looks_a_little_like_something_else_stays(tmp_path: Path) -> None:
    texts = ["# [[a]]\n# [[b]]", "#a\n[[b]]", "A [[redirect]].", "{{Disambiguation needed|x}} A."]
    made = "".join(page(number, text) for number, text in enumerate(texts)) + page(9, "B", namespace="", title="Star: C")
    assert [one.wikitext for one in read(write(tmp_path, HEAD + made + END))[0]] == [*texts, "B"]


def test_of_several_revisions_the_last_counts(tmp_path: Path) -> None:
    old = "<revision><id>5</id><model>json</model><text>old</text></revision>"
    assert [one.wikitext for one in read(write(tmp_path, HEAD + page(1, "new", extra=old) + END))[0]] == ["new"]


def test_a_dump_without_names_is_read_and_its_licence_is_not_guessed(tmp_path: Path) -> None:
    found, _, _ = read(write(tmp_path, "<mediawiki>" + page(1, "A") + "</mediawiki>"))
    assert found == [Page("1", "Title 1", "A", Site(namespaces=()))]
    assert found[0].site.licence == ""


def test_the_wikis_own_names_reach_the_text(tmp_path: Path) -> None:
    head = HEAD.replace("Datei", "Zahtjev").replace("Kategorie", "Vrsta")
    (one,), _, _ = read(write(tmp_path, head + page(1, "[[Zahtjev:x|mini|y]] A [[Vrsta:B]].") + END))
    assert plain_text(one.wikitext, one.site) == "A."


# ---- packed


def test_one_stream_many_streams_and_other_packings_are_the_same(tmp_path: Path) -> None:
    made = [page(number, f"Text {number}. " * 50) for number in range(40)]
    streams = [HEAD, *("".join(made[first : first + 7]) for first in range(0, 40, 7)), END]
    plain = read(write(tmp_path, "".join(streams)))
    assert len(plain[0]) == 40
    assert read(write(tmp_path, b"".join(bz2.compress(stream.encode()) for stream in streams), "a.xml.bz2")) == plain
    assert read(write(tmp_path, bz2.compress("".join(streams).encode()), "b.xml.bz2")) == plain
    assert read(write(tmp_path, gzip.compress("".join(streams).encode()), "c.xml.gz")) == plain


def test_chunks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, HEAD + page(1, "«Ж» & 中\n") + page(2, "#REDIRECT [[x]]") + END)
    whole = read(path)
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(wikipedia, "CHUNK_BYTES", size)
        assert read(path) == whole


def test_a_damaged_archive_raises_after_the_pages_before_it(tmp_path: Path) -> None:
    streams = [bz2.compress((HEAD + page(1, "A")).encode()), bz2.compress((page(2, "B") + END).encode())]
    path = write(tmp_path, streams[0] + streams[1][:-20], "a.xml.bz2")
    reader = pages(path, Counter(), [])
    assert next(reader).wikitext == "A"
    with pytest.raises(DataError, match=r"a\.xml\.bz2: the archive is truncated or damaged"):
        list(reader)


# ---- broken


def _broken_at(content: bytes, kept: Sequence[str], byte: int, why: str, folder: Path) -> None:
    for name, data in (("a.xml", content), ("a.xml.bz2", bz2.compress(content))):
        path = write(folder, data, name)
        found, tally, broken = read(path)
        assert [one.wikitext for one in found] == list(kept)
        assert broken == [f"{path}: broken XML at byte {byte} ({why}): what came before is kept"]
        assert tally == {"pages": len(kept), "broken_xml": 1}


def test_a_truncated_dump_keeps_what_came_before_and_says_where_it_ends(tmp_path: Path) -> None:
    whole = (HEAD + page(1, "A") + page(2, "B")).encode()
    cut = whole[: whole.index(b"<comment>", len(HEAD) + 600)]
    _broken_at(cut, ["A"], len(cut), "no element found", tmp_path)
    _broken_at(whole, ["A", "B"], len(whole), "no element found", tmp_path)  # only </mediawiki> is missing


def test_garbage_in_a_dump_ends_it_there(tmp_path: Path) -> None:
    before = (HEAD + page(1, "Ä") + page(2, "B")).encode()
    after = (page(3, "C") + END).encode()
    _broken_at(before + b"<page><\xff\xfe" + after, ["Ä", "B"], len(before) + 7, "not well-formed (invalid token)", tmp_path)
    _broken_at(before + b"</pages>" + after, ["Ä", "B"], len(before) + 2, "mismatched tag", tmp_path)
    _broken_at(before + b"&unknown;" + after, ["Ä", "B"], len(before), "undefined entity", tmp_path)
    whole = before + END.encode()
    _broken_at(whole + b"<x/>", ["Ä", "B"], len(whole), "junk after document element", tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (HEAD + END, r"no page in this dump: is it a pages-articles dump, and whole\?"),
        (HEAD, r"no page in this dump \(broken XML at byte \d+ \(no element found\)\)"),
        ("", r"no page in this dump \(broken XML at byte 0"),
        ("<html><page/></html>", "begins with <html>, not <mediawiki>"),
        ("plain text", "no page in this dump"),
    ],
)
def test_a_dump_without_a_page_is_an_error(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read(write(tmp_path, content))


def test_two_dumps_with_one_tally_are_told_apart(tmp_path: Path) -> None:
    tally: Counter[str] = Counter()
    assert len(list(pages(write(tmp_path, dump(3)), tally, []))) == 3
    with pytest.raises(DataError, match="no page"):
        list(pages(write(tmp_path, HEAD + END), tally, []))
    assert tally == {"pages": 3, "bytes": len(dump(3).encode()) + len((HEAD + END).encode())}


# ---- hostile

LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    "doctype", [LAUGHS, '<!DOCTYPE x [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>', '<!DOCTYPE x SYSTEM "http://a.org/x.dtd">']
)
def test_entities_are_refused_before_any_is_read(tmp_path: Path, doctype: str) -> None:
    with pytest.raises(DataError, match="DOCTYPE"):
        read(write(tmp_path, doctype + HEAD + page(1, "X").replace("X", "&a11;") + END))


def test_a_page_of_100_megabytes_is_passed_over_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_TIMES", 10_000)  # for speed it is packed, like a bomb
    before, after = page(2, "X").split(">X<")
    million = gzip.compress(b"a b\n" * 250_000)
    parts = [gzip.compress((HEAD + page(1, "A") + before + ">").encode()), *[million] * 100]
    path = write(tmp_path, b"".join([*parts, gzip.compress(("<" + after + page(3, "B") + END).encode())]), "a.xml.gz")
    tracemalloc.start()
    found, tally, _ = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one.id for one in found] == ["1", "3"]
    assert tally == {"pages": 3, "too_long": 1}
    assert peak < 64_000_000  # what is kept of a page before it is found too long, in pieces


def test_a_page_of_ten_megabytes_is_kept(tmp_path: Path) -> None:
    found, _, _ = read(write(tmp_path, HEAD + page(1, "ab c\n" * 2_000_000) + END))
    assert len(found[0].wikitext) == 10_000_000


@pytest.mark.parametrize(
    ("start", "unit", "why"),
    [
        ('<text x="', "a" * 1000, "a tag or comment of over"),
        ("<!--", "a" * 1000, "a tag or comment of over"),
        ("", "<a>", "elements nested over 100 deep"),
        ("<title>", "a" * 1000, "no element found"),
    ],
)
def test_tags_without_end_are_bounded(tmp_path: Path, start: str, unit: str, why: str) -> None:
    content = HEAD + page(1, "A") + "<page>" + start + unit * (4_000_000 // len(unit))
    found, _, broken = read(write(tmp_path, content))
    assert [one.wikitext for one in found] == ["A"]
    assert why in broken[0]


def test_memory_is_flat_over_many_pages(tmp_path: Path) -> None:
    path = write(tmp_path, dump(20_000))
    reader = pages(path, Counter(), [])
    list(islice(reader, 1000))
    tracemalloc.start()
    for _ in reader:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 10_000_000
    assert peak < 3_000_000
