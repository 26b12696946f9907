"""Mark-up into plain text: golden snippets, what is kept of templates, broken mark-up, and mark-up made to hurt."""

import itertools
import pickle
import time
from collections import Counter

import mwparserfromhell
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import wikitext
from bertlab.corpus.wikitext import DEEPEST, PIECE_CHARACTERS, Site, plain_text

GERMAN = Site("de", "Wikipedia", "https://de.wikipedia.org/wiki/X", ((6, "Datei"), (14, "Kategorie"), (100, "Portal"), (-1, "Spezial")))


ARTICLE = """{{Short description|River in Northland}}
{{Infobox river
| name = Alder
| image = Alder.jpg<!-- better one wanted -->
| length = {{convert|120|km}}
| mouth = {{ubl|[[Grey Sea]]|{{coord|1|2}}}}
}}
<!-- The lead -->
The '''Alder''' ({{IPA|en|ˈɔːldə}}; {{langx|de|Erle}}) is a [[river]]
in [[Northland (region)|Northland]].<ref name="a">{{cite web|url=http://a.org
 |title=The [[Alder]]}}</ref><ref name=a />
It is {{convert|120|km|mi}} long.
[[File:Alder.jpg|thumb|right|220px|The river at [[Old Mill|the mill]] ([http://a.org photo])]]

== History ==
{{Main|History of the Alder}}
:''For the tree, see [[Alder (tree)]].''
It was called {{lang|fr|''l'Aulne''}} in 1850&nbsp;&ndash; a name of [[Old French|French]] origin.{{citation needed|date=May 2020}}

{| class="wikitable"
|+ Floods
! Year !! Height
|-
| 1850 || {| class="inner"
| nested
|}
|-
| 1900 || 3 m
|}
Three towns lie on it:
* [[Upton]]
* Lowton has a mill, built in 1790.
# It was [[burnt]] twice!

== See also ==
* [[Elm (river)|The Elm]] is another river.
=== Maps ===
Nothing to read.

== Nature ==
Trout live in it.

== References ==
{{Reflist}}
{{Navbox}}
[[Category:Rivers|Alder]]
[[de:Erle (Fluss)]]
"""


def test_an_article_becomes_its_paragraphs() -> None:
    assert plain_text(ARTICLE).split("\n") == [
        "The Alder is a river in Northland. It is 120 km long.",
        "It was called l'Aulne in 1850 – a name of French origin.",
        "Three towns lie on it:",
        "Lowton has a mill, built in 1790.",
        "It was burnt twice!",
        "Trout live in it.",
    ]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        # templates
        ("A {{b|{{c}}|{{{1|{{d}}}}}}} e.", "A e."),
        ("{{lang|fr|mot}}, {{nowrap|5 km {{x}}}}, {{abbr|UN|United Nations}}.", "mot, 5 km, UN."),
        ("{{lang|fr|[[mot|mots]]}} and {{Transl|ar|DIN|[[salām]]}} and {{small|1=a=b}}.", "mots and salām and a=b."),
        (
            "{{convert|5|km}} or {{cvt|5|to|7|km|mi}}, {{circa|1850}}, {{formatnum:1234}}{{snd}}so.",
            "5 km or 5 to 7 km, c. 1850, 1234 – so.",
        ),
        ("He said: {{quote|text=To be.|author=Me}}", "He said: To be."),
        ("A {{unknown|with text}} b (see {{x}}) c.", "A b (see) c."),
        # references, comments, what is opaque
        ("A<ref>B {{c}} [[d]]</ref><ref name=x/><REF NAME='y'>z</Ref >.<references />", "A."),
        ("A.<ref name=x/> B.<references /> C.", "A. B. C."),
        ("A<ref name=x>lost its slash<ref>B</ref>C.", "Alost its slashC."),
        ("A<ref>b<ref name=c/>d</ref>e.", "Ae."),
        ("A <!-- b {{ -->c.\n<!-- a line -->\nD.", "A c. D."),
        ("<nowiki>[[a]] {{b}} ''c'' <ref></nowiki> &amp;lt; d", "[[a]] {{b}} ''c'' <ref> &lt; d"),
        ("Let <math>\\frac{{a}}{b}</math> be <code>x[0]</code> so.", "Let be so."),
        ('Run.<syntaxhighlight lang="python">a = {{}}\n== b ==</syntaxhighlight>\nStop.', "Run. Stop."),
        ("A.\n<gallery>\nFile:a.jpg|A sentence.\n</gallery>\nB.", "A.\nB."),
        # tables
        ("A.\n:{| class=x\n| b {{c}}\n{|\n| d\n|}\n|}\nE.", "A.\nE."),
        ("A.\n<table><tr><td>b<table><tr><td>c</table>d</table>\nE.", "A.\nE."),
        # links
        ("[[a]], [[b|c]]s, [[d#e|f]], [[#g|h]], [[i|''j'']], [[Alien: k]].", "a, cs, f, h, j, Alien: k."),
        ("[[File:a.jpg|thumb|right|B [[c|d [[e]]]] [1]]] f [[IMAGE:g.png]] [[Datei:x.gif]] h.", "f h."),
        ("[[Category:A]][[Category:A|x]][[Media:y.ogg|y]][[:Category:B]][[:Category:C|c]] [[Special:X]] [[Help:D|d]].", "c d."),
        ("[[fr:Mot]] [[zh-min-nan:x]] [[:fr:Mot|mot]] [[wikt:a|word]] [[wikt:b]] z.", "mot word z."),
        ("[http://a.org the [[b]] site], [//c.org], http://d.org/e?f=g, [1], [sic].", "the b site, [1], [sic]."),
        ("Fail [https://a.org b c.", "Fail b c."),
        # styles, tags, entities, magic words
        ("'''a''' ''b'' '''''c''''' ''''d'''' e's ''f", "a b c 'd' e's f"),
        ("H<sub>2</sub>O<br />x <span style='a'>y</span><p>z <unk> 1 < 2 > 0", "H2O x y\nz <unk> 1 < 2 > 0"),
        ("&lt;b&gt; &#65;&#x42;&nbsp;&eacute; AT&T &unknown; &copy x", "<b> AB é AT&T &unknown; &copy x"),
        ("__TOC__ __НЕ_РАЗДЕЛЯТЬ__ __目次__ def __init__ x", "def __init__ x"),
        # blocks
        ("a\nb\n\nc\n== d ==\ne\n----\nf", "a b\nc\ne\nf"),
        ("* One.\n** “Two!”\n# three\n; four\n: Five?\n:''Six.''\n* [[seven]], eight", "One.\n“Two!”\nFive?"),
        ("== Notes ==\nA.\n=== b ===\nC.\n== Life ==\nD.", "D."),
        ("==== ''See also'' ====\nA.\n=== Life ===\nD.", "D."),
        ("== [[X|Einzelnachweise]] ==\nA.", ""),
        # holes
        ("X ({{a}}; {{b}}) y ({{c}}, born 1900; {{d}}) z, {{e}}, w {{f}}.", "X y (born 1900) z, w."),
        ("東京（{{x}}）は （）首都。 main() (e) [...] f(x)", "東京は 首都。 main() (e) [...] f(x)"),
        # scripts
        ("'''Москва''' — [[столица]] [[Россия|России]].[[Файл:М.jpg|мини|Вид.]]\n[[Категория:Города]]", "Москва — столица России."),
        ("'''القاهرة''' هي [[عاصمة]] [[مصر|جمهورية مصر]].\n[[ملف:x.jpg|تصغير|نص]]\n[[تصنيف:مدن]]", "القاهرة هي عاصمة جمهورية مصر."),
        ("'''दिल्ली''' [[भारत|भारत]] की राजधानी है।\n* यह बड़ा है।\n[[श्रेणी:नगर]]", "दिल्ली भारत की राजधानी है।\nयह बड़ा है।"),
        (
            "'''北京'''是[[中国]]的首都。\n* 它很大。\n-{zh-hans:计算机;zh-hant:電腦}--{T|x}-\n== 参考文献 ==\n无。",
            "北京是中国的首都。\n它很大。\n计算机",
        ),
        ("", ""),
        (" \n\n{{x}}\n----\n()", ""),
    ],
)
def test_golden(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


def test_a_disambiguation_page_leaves_its_first_line() -> None:
    page = "'''Alder''' may refer to:\n* [[Alder (river)]], a river\n* [[Alder (tree)]], a tree\n{{disambig}}"
    assert plain_text(page) == "Alder may refer to:"


def test_a_site_gives_its_own_names_and_a_file_is_known_by_its_ending_anywhere() -> None:
    greenlandic = Site("kl", "Wikipedia", "", ((6, "Fiila"), (14, "Sumut atassuseq")))
    markup = "[[Fiila:A|thumb|b]] [[fiila:c]] [[Sumut_atassuseq:D]] [[Zzzz:e.JPG|f]] g."
    assert plain_text(markup, greenlandic) == "g."
    assert plain_text(markup) == "b fiila:c Sumut_atassuseq:D g."
    assert plain_text("[[Portal:A]] [[Portal:A|b]] [[Datei:C|d]] e.", GERMAN) == "b e."


def test_a_site_is_plain_and_knows_the_licence_of_wikipedia_only() -> None:
    assert pickle.loads(pickle.dumps(GERMAN)) == GERMAN
    assert GERMAN.licence == "CC-BY-SA-4.0"
    assert Site(base="https://wiki.example.org/wiki/Main").licence == Site(base="https://notwikipedia.org/").licence == Site().licence == ""


# ---- broken mark-up


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("{{Infobox\n| a = b\n| c = d\nText.\n\nMore.", "Text.\nMore."),
        ("A.\n\n{| class=x\n! a\n|-\n| b\nText.\n\nMore.", "A.\nText.\nMore."),
        ("A [[b|c d.\n\nE.", "A c d.\nE."),
        ("[[File:a.jpg|thumb|right|C.\n\nE.", "C.\nE."),
        ("A }} b ]] c.\n|}\nD.", "A b c.\nD."),
        ("A <ref>b\nC.\n\nD <nowiki>e.", "A C.\nD e."),
        ("A <!-- the rest is lost", "A"),
        ("== A\nB ==", "== A B =="),
    ],
)
def test_what_never_closes_takes_its_line_at_most_except_a_comment(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


def test_nesting_over_the_bound_is_dropped_counted_and_takes_nothing_beside_it_along() -> None:
    tally: Counter[str] = Counter()
    assert plain_text("A " + "{{lang|a|" * DEEPEST + "b" + "}}" * DEEPEST + " c.", tally=tally) == "A b c."
    assert not tally
    assert plain_text("A " + "{{lang|a|" * 10_000 + "b" + "}}" * 10_000 + " c.", tally=tally) == "A c."
    assert tally == {"nested_too_deep": 1}
    assert plain_text("{{" * 10_000 + "\nA {{" * 2 + "\nB.") == "A A B."


UNITS = [
    "{{",
    "}}",
    "{{a|",
    "{{lang|a|",
    "[[",
    "]]",
    "[[a|",
    "[[File:a|",
    "[http://a ",
    "//a ",
    "'''''a''b'''c ",
    "<b a='",
    "<ref>",
    "<!--",
]
UNITS += [
    "<table>\n",
    "\n{|",
    "\n|}",
    "&#91;",
    "[",
    "[[a|''b<i>[http://x ",
    "(",
    ";",
    "( ;",
    " ,",
    "-{",
    "__A",
    "\n==",
    "\n:''",
    "\n* a.",
    "{{a}}",
]


@pytest.mark.parametrize("unit", UNITS)
def test_mark_up_made_to_hurt_takes_linear_time(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    start = time.process_time()
    plain_text(text)
    assert time.process_time() - start < 3  # some 0.1 to 0.4 s; what is quadratic takes minutes


def test_the_end_of_what_never_closes_is_looked_for_once() -> None:
    start = time.process_time()
    assert plain_text("a <math>b\n" * 100_000) == ("a " * 100_000).strip()
    assert time.process_time() - start < 5  # some 0.3 s; to look each time takes a minute


@pytest.mark.parametrize(("opening", "closing"), [("{{", "}}"), ("[[a|", "]]"), ("\n{|\n", "\n|}"), ("[http://a ", "]"), ("{{{", "}}}")])
def test_ten_thousand_levels_take_linear_time(opening: str, closing: str) -> None:
    start = time.process_time()
    plain_text(opening * 10_000 + "x" + closing * 10_000)
    assert time.process_time() - start < 3


def test_an_article_of_ten_megabytes_goes_through() -> None:
    text = "It is a [[stream]] {{x|y}} in the '''north'''. \n" * 10_000 + ("It is a river {{x}} in the north. " * 1000 + "\n\n") * 290
    assert len(text) > 10_000_000
    found = plain_text(text).split("\n")
    assert len(found) == 290
    assert found[0][:60] == "It is a stream in the north. It is a stream in the north. It"
    assert found[-1] == "It is a river in the north. " * 999 + "It is a river in the north."


def test_a_long_paragraph_is_parsed_in_pieces_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_text("http://a.org/b " * PIECE_CHARACTERS + "[[c]]") == "c"
    for size in range(60, 120):
        monkeypatch.setattr(wikitext, "PIECE_CHARACTERS", size)
        assert plain_text("The [[Alder (river)|Alder]] is [http://a.org long]; " * 9) == ("The Alder is long; " * 9).strip()


# ---- the parser as an oracle: what our own passes cut is what it would have cut

_WORDS = st.text("abcé中д", min_size=1, max_size=4)
_LEAF = st.one_of(
    _WORDS,
    st.builds("[[{}]]".format, _WORDS),
    st.builds("[[{}|{}]]".format, _WORDS, _WORDS),
    st.builds("[http://x.org {}]".format, _WORDS),
    st.builds("'''{}'''".format, _WORDS),
    st.builds("<!--{}-->".format, _WORDS),
    st.builds("<ref>{}</ref>".format, _WORDS),
    st.just("&eacute;"),
)


def _nested(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.builds("{} {}".format, inside, inside)
    return st.one_of(two, st.builds("{{{{q{}|{}}}}}".format, _WORDS, inside), st.builds("[[File:{}|thumb|{}]]".format, _WORDS, inside))


@given(st.recursive(_LEAF, _nested, max_leaves=12))
def test_well_formed_mark_up_reads_as_the_parser_reads_it(markup: str) -> None:
    code = mwparserfromhell.parse(markup)
    nodes = itertools.chain(code.filter_templates(recursive=False), code.filter_comments(recursive=False))
    files = [link for link in code.filter_wikilinks(recursive=False) if str(link.title).startswith("File:")]
    for node in [*nodes, *files, *(tag for tag in code.filter_tags(recursive=False) if tag.tag == "ref")]:
        code.remove(node)
    assert plain_text(markup) == " ".join(code.strip_code().split())


@given(st.text(st.sampled_from(list("{}[]|<>!-'=*:#;&/ab \n.,(")), max_size=60))
def test_any_mark_up_gives_tidy_text(markup: str) -> None:
    text = plain_text(markup)
    assert text == "\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n"))
    assert "\n\n" not in text
