"""EPUB books: chapters in reading order, the text that a reader sees, and nothing that an archive can do to whoever opens it."""

import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertlab.corpus import epub
from bertlab.corpus.epub import epub_documents, is_epub, paragraphs
from bertlab.errors import DataError

CONTAINER = """<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""


def package(*items: str, spine: str, metadata: str = "", before: str = "") -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>{before}<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The  Mill</dc:title><dc:title>Or not</dc:title>
<dc:creator>A. Writer</dc:creator><dc:rights>CC BY 4.0</dc:rights>{metadata}</metadata>
<manifest>{"".join(items)}</manifest><spine toc="ncx">{spine}</spine></package>"""


def item(name: str, href: str, kind: str = "application/xhtml+xml", properties: str = "") -> str:
    return f'<item id="{name}" href="{href}" media-type="{kind}" properties="{properties}"/>'


def page(body: str) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"
xmlns:epub="http://www.idpf.org/2007/ops"><head><title>no text</title><style>p > a {{ }}</style></head><body>{body}</body></html>"""


def make(path: Path, entries: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def one_chapter(path: Path, content: str | bytes, **extra: str | bytes) -> Path:
    opf = package(item("c", "c.xhtml"), spine='<itemref idref="c"/>')
    return make(path, {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf, "OEBPS/c.xhtml": content, **extra})


def read(path: Path, **options) -> list[str]:
    return [document.text for document in epub_documents(path, path.name, **options)]


# ---- chapters


def test_chapters_come_in_the_order_of_the_spine_with_title_and_licence(tmp_path: Path) -> None:
    opf = package(
        item("nav", "nav.xhtml", properties="nav"),
        item("two", "text/two%20b.xhtml#top"),
        item("one", "text/../text/one.xhtml"),
        item("notes", "notes.xhtml"),
        item("image", "image.svg", kind="image/svg+xml"),
        item("empty", "empty.xhtml"),
        spine='<itemref idref="nav"/><itemref idref="one"/><itemref idref="image"/><itemref idref="empty"/><itemref idref="two"/>'
        '<itemref idref="one"/><itemref idref="notes" linear="no"/>',
    )
    entries: dict[str, str | bytes] = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": opf,
        "OEBPS/nav.xhtml": page("<p>contents</p>"),
        "OEBPS/text/two b.xhtml": page("<h1>Two</h1><p>The end.</p>"),
        "OEBPS/text/one.xhtml": page("<h1>One</h1><p>The <i>be</i>ginning.</p>"),
        "OEBPS/empty.xhtml": page("<img src='cover.jpg'/>"),
        "OEBPS/notes.xhtml": page("<p>a note</p>"),
        "OEBPS/image.svg": "<svg/>",
    }
    found = list(epub_documents(make(tmp_path / "a.epub", entries), "books/a.epub"))
    assert [(document.id, document.text) for document in found] == [
        ("books/a.epub#2", "One\nThe beginning."),
        ("books/a.epub#5", "Two\nThe end."),
    ]
    assert {(document.source, document.title, document.licence) for document in found} == {("books/a.epub", "The Mill", "CC BY 4.0")}


def test_an_epub_2_package_with_prefixes_is_read_as_well(tmp_path: Path) -> None:
    opf = """<opf:package xmlns:opf="http://www.idpf.org/2007/opf" version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/">
<opf:metadata><dc:title>M&#252;hle</dc:title></opf:metadata><opf:manifest>
<opf:item id="x" href="c.html" media-type="application/xhtml+xml"/><opf:item id="ncx" href="t.ncx" media-type="application/x-dtbncx+xml"/>
</opf:manifest><opf:spine toc="ncx"><opf:itemref idref="x" linear="yes"/></opf:spine></opf:package>"""
    container = CONTAINER.replace("OEBPS/content.opf", "content.opf")
    path = make(
        tmp_path / "a.epub", {"META-INF/container.xml": container, "content.opf": opf.encode("utf-16"), "c.html": page("<p>Ja.</p>")}
    )
    (found,) = epub_documents(path, "a.epub")
    assert (found.id, found.text, found.title, found.licence) == ("a.epub#1", "Ja.", "Mühle", "")


def test_a_licence_may_stand_in_a_property(tmp_path: Path) -> None:
    opf = package(item("c", "c.xhtml"), spine='<itemref idref="c"/>', metadata='<meta property="dcterms:license"> CC0 </meta>')
    opf = opf.replace("<dc:rights>CC BY 4.0</dc:rights>", "")
    entries: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf, "OEBPS/c.xhtml": page("<p>a</p>")}
    assert next(epub_documents(make(tmp_path / "a.epub", entries), "a")).licence == "CC0"


def test_project_gutenbergs_licence_goes_from_the_chapters_and_from_the_files_after_them(tmp_path: Path) -> None:
    pages = [
        "<p>The Project Gutenberg eBook of The Mill</p><p>*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***</p><p>Produced by A</p>",
        "<section class='pg-boilerplate pgheader'><div>licence</div></section><h2>I</h2><p>It stood still.</p>",
        "<p>It went.</p><p>*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***</p><p>terms</p>",
        "<p>more terms</p>",
    ]
    numbers = range(len(pages))
    opf = package(*(item(f"c{n}", f"{n}.xhtml") for n in numbers), spine="".join(f'<itemref idref="c{n}"/>' for n in numbers))
    entries: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf}
    entries |= {f"OEBPS/{number}.xhtml": page(body) for number, body in enumerate(pages)}
    assert read(make(tmp_path / "a.epub", entries)) == ["I\nIt stood still.", "It went."]


def test_the_name_tells_an_epub() -> None:
    assert is_epub("a/b.EPUB") and is_epub(Path("a.epub")) and not is_epub("a.epub.gz") and not is_epub("epub")


# ---- a page


@pytest.mark.parametrize(
    "body, expected",
    [
        ("<p>One\n  two</p>three<div>four<p>five</p></div>", ["One two", "three", "four", "five"]),
        ("<p>a&nbsp;b &amp;lt; &#x201C;c&#8221; &eacute; &unknown; &#" + "9" * 5000 + ";</p>", ["a b &lt; “c” é &unknown; \ufffd"]),
        ("<p>one<br/>two<br>three</p><hr/>", ["one", "two", "three"]),
        ("<pre>a  b\n  c</pre>\nd\ne", ["a b", "c", "d e"]),
        ("<ul><li>a</li><li><p>b</p></li></ul><table><tr><td>c</td><td>d</td></tr><tr><th>e</th></tr></table>", ["a", "b", "c d", "e"]),
        ("<p>a</p><script>if (a < b) '<p>x</p>'</script><nav><li>x</li></nav><svg:svg><text>x</text></svg:svg><p>b</p>", ["a", "b"]),
        ("<p>a<script src='x'/>b<style/>c</p>", ["abc"]),
        ("<p>a<!-- <p>x</p> -->b<?php > ?>c<![CDATA[ <d> &amp; ]]>e</p>", ["ab ?>c <d> &amp; e"]),
        ("<p>a <span epub:type='pagebreak' id='p'>12</span>b<a id='p13' class='x'/>c</p><div role='doc-pagebreak'>14</div>", ["a bc"]),
        ("<p>a<span class=\"x pageNum\">[Pg 5]</span>b</p><p hidden>c</p><p class='hidden'>d</p>", ["ab", "d"]),
        ("<p>a<a epub:type='noteref' href='n.xhtml#1'>note one</a>.</p>", ["a."]),
        ("<p>a<sup><a href='#n1'>1</a></sup>, b<a href='#n2'><sup>2</sup></a>.</p>", ["a, b."]),
        ("<p>c<a href='n.xhtml#n3'>[3]</a> d<a href='#n4'>†</a>.</p>", ["c d."]),
        ("<p>x<sup>2</sup> is 1<sup>st</sup> of <a href='#c1'>part 1</a>, <a href='#c2'>2</a>.</p>", ["x2 is 1st of part 1, 2."]),
        ("<p>see <a href='http://a'>[4]</a></p>", ["see [4]"]),
        ("<p>漢<ruby>字<rp>(</rp><rt>じ</rt><rp>)</rp></ruby>。</p>", ["漢字。"]),
        ("<p>a <span class='pagenum'>5</p><p>b</p>", ["a", "b"]),
        ("<p title='a > b'>c</p><p title=it's>d</p><P CLASS=x>e</P>", ["c", "d", "e"]),
        ("<p>1 < 2 and <b>3</b> <4 <5></p>", ["1 < 2 and 3 <4 <5>"]),
        ("<p>a<!-- never closed <p>b</p>", ["a"]),
        ("<!DOCTYPE html [<!ENTITY a 'x > y'>]><p>b</p>", ["b"]),
        ("no mark-up", ["no mark-up"]),
        ("", []),
    ],
)  # fmt: skip
def test_a_page_is_the_lines_that_a_reader_sees(body: str, expected: list[str]) -> None:
    assert list(paragraphs(body)) == expected
    assert list(paragraphs(page(body))) == expected or "never closed" in body or "DOCTYPE" in body


@given(st.lists(st.sampled_from([*"ab<>/!-\"'& ", "<p>", "</p>", "<sup>", "</sup>", "<a href='#1'>", "</a>", "<!--", "<script>", "<pre>"])))
def test_no_mark_up_makes_the_scanner_fail(tokens: list[str]) -> None:
    for line in paragraphs("".join(tokens)):
        assert line == " ".join(line.split()) != ""


HOSTILE = ["<!--", "<a ", "<![", "<![CDATA[", '<p title="', "<p title='", "</a", "&", "<script>", "<sup>", "<div>"]
HOSTILE += ["<a href='#x'>", "<", "<?x ", "<a b='", "a<br>"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_hostile_mark_up(unit: str) -> None:
    start = time.perf_counter()
    list(paragraphs(unit * (500_000 // len(unit))))
    assert time.perf_counter() - start < 10  # below a second; minutes, were it quadratic


# ---- encodings


def test_utf_16_and_8_bit_pages_are_read_as_they_say(tmp_path: Path) -> None:
    for data in (
        page("<p>é 漢</p>").encode("utf-16"),
        page("<p>é 漢</p>").encode("utf-16-be"),
        b"\xef\xbb\xbf" + page("<p>é 漢</p>").encode(),
        page("<p>é &#28450;</p>").replace("utf-8", "ISO-8859-1").encode("latin-1"),
    ):
        assert read(one_chapter(tmp_path / "a.epub", data)) == ["é 漢"]
    assert read(one_chapter(tmp_path / "a.epub", page("<p>é</p>").replace("utf-8", "iso-8859-99"))) == ["é"]


def test_invalid_utf_8_is_replaced_counted_dropped_or_refused_as_everywhere(tmp_path: Path) -> None:
    path = one_chapter(tmp_path / "a.epub", page("<p>a\x00XYb\ufffd</p>").encode().replace(b"XY", b"\xff\xfe"))
    tally: Counter[str] = Counter()
    assert read(path, tally=tally) == ["a\ufffd\ufffdb\ufffd"] and tally == {"invalid_utf8": 2}
    tally.clear()
    assert read(path, tally=tally, invalid_utf8="drop") == [] and tally == {"invalid_utf8": 1, "dropped_invalid_utf8": 1}
    with pytest.raises(DataError, match="c.xhtml.*not valid UTF-8"):
        read(path, invalid_utf8="stop")


# ---- hostile and damaged archives


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("href", ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "..%2f..%2fetc/passwd", "missing.xhtml", ""])
def test_a_path_that_leads_out_of_the_archive_leads_nowhere(tmp_path: Path, href: str) -> None:
    opf = package(item("c", href), spine='<itemref idref="c"/>')
    message = refusal(make(tmp_path / "a.epub", {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf}))
    assert "not in the archive" in message
    assert "not in the archive" in refusal(
        make(tmp_path / "a.epub", {"META-INF/container.xml": CONTAINER.replace("OEBPS/content.opf", href or "x")})
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.epub"]  # nothing was unpacked


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    assert "'META-INF/container.xml', which is not in the archive" in refusal(make(path, {"a": "b"}))
    assert "names no package file" in refusal(make(path, {"META-INF/container.xml": "<container/>"}))
    assert "content.opf', which is not in the archive" in refusal(make(path, {"META-INF/container.xml": CONTAINER}))
    entries: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER}
    assert "names no chapter" in refusal(make(path, entries | {"OEBPS/content.opf": package(spine="")}))
    assert "broken XML" in refusal(make(path, entries | {"OEBPS/content.opf": "<package>"}))
    assert "broken XML" in refusal(make(path, entries | {"OEBPS/content.opf": "<?xml version='1.0' encoding='none'?><package/>"}))
    assert "'c', which its manifest does not" in refusal(make(path, entries | {"OEBPS/content.opf": package(spine='<itemref idref="c"/>')}))


def test_entities_in_the_package_are_refused_before_they_expand(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE package [<!ENTITY e0 "bomb">{levels}]>'
    outside = '<!DOCTYPE package [<!ENTITY e11 SYSTEM "file:///etc/passwd">]>'
    for before in (bomb, outside):
        opf = package(item("c", "c.xhtml"), spine='<itemref idref="c"/>', metadata="<dc:title>&e11;</dc:title>", before=before)
        assert "declares XML entities" in refusal(
            make(tmp_path / "a.epub", {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf})
        )


def test_a_book_with_copy_protection_is_refused_and_one_with_encrypted_fonts_is_read(tmp_path: Path) -> None:
    encryption = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">
<enc:EncryptedData><enc:CipherData><enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>"""
    for name, protected in {"OEBPS/c.xhtml": True, "OEBPS/font.otf": False}.items():
        path = one_chapter(tmp_path / "a.epub", page("<p>a</p>"), **{"META-INF/encryption.xml": encryption.format(name)})
        if protected:
            assert "copy protection" in refusal(path)
        else:
            assert read(path) == ["a"]
    data = bytearray(one_chapter(tmp_path / "a.epub", page("<p>a</p>")).read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 8] |= 1  # the flag of the last entry, the chapter, in the list at the end
    (tmp_path / "a.epub").write_bytes(data)
    assert "encrypted (copy protection)" in refusal(tmp_path / "a.epub")


def test_a_bomb_is_refused_by_what_it_declares_and_by_what_it_unpacks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epub, "CHAPTER_BYTES", 100_000)
    path = one_chapter(tmp_path / "a.epub", page("<p>" + "a" * 200_000 + "</p>"))
    assert path.stat().st_size < 3_000 and "more than 100,000 bytes" in refusal(path)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # it declares 50 bytes, in both places
        place = data.rindex(mark) + offset
        data[place : place + 4] = (50).to_bytes(4, "little")
    path.write_bytes(data)
    assert "damaged" in refusal(path)  # zipfile stops after the 50 bytes and finds the checksum wrong


def test_all_chapters_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epub, "BOOK_BYTES", 100_000)
    opf = package(*(item(f"c{n}", f"{n}.xhtml") for n in range(4)), spine="".join(f'<itemref idref="c{n}"/>' for n in range(4)))
    entries: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf}
    entries |= {f"OEBPS/{number}.xhtml": page("<p>" + f"{number}" * 30_000 + "</p>") for number in range(4)}
    path = make(tmp_path / "a.epub", entries)
    assert "3.xhtml' unpacks to more than" in refusal(path)
    documents = epub_documents(path, "a")
    assert [len(next(documents).text) for _ in range(3)] == [30_000] * 3  # those before were read


def test_packing_that_epub_does_not_allow_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.epub", {"META-INF/container.xml": CONTAINER}, zipfile.ZIP_LZMA)
    assert "does not allow" in refusal(path)


def test_a_file_that_is_no_archive_or_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    for data in (b"", b"no archive", b"PK\x05\x06"):
        path.write_bytes(data)
        assert "no EPUB, or a damaged one" in refusal(path)
    book = bytearray(one_chapter(tmp_path / "b.epub", page("<p>The mill stood still.</p>")).read_bytes())
    book[-4] += 1  # the directory's place, 65,536 too far: every entry then lies before the file
    path.write_bytes(book)
    assert "no EPUB, or a damaged one" in refusal(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.epub")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_damage_anywhere_gives_text_or_one_line_never_another_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(one_chapter(tmp_path / "a.epub", page("<p>The mill stood still.</p>" * 20)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / "b.epub").write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    try:
        read(tmp_path / "b.epub")
    except DataError as error:
        assert "\n" not in str(error)


def test_a_chapter_of_fifty_megabytes_and_deep_nesting_are_read(tmp_path: Path) -> None:
    sentence = "The mill stood still beside the river, and nobody came. "
    (text,) = read(one_chapter(tmp_path / "a.epub", page("<p>" + sentence * (50_000_000 // len(sentence)) + "</p>")))
    assert len(text) > 49_000_000 and text.endswith("nobody came.")
    deep = one_chapter(tmp_path / "b.epub", page("<div><i>" * 100_000 + "deep" + "</i></div>" * 100_000))
    assert read(deep) == ["deep"]
