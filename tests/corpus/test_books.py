"""Plain-text books: what Project Gutenberg put around them goes, and nothing else does; hard line ends are found and joined."""

import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus import books
from bertlab.corpus.books import is_gutenberg, lines_without_licence, unwrapped, without_licence

BODY = ["CHAPTER I", "", "It was a day in May; the mill stood still.", "Nobody came.", "", "    THE END"]
HEADER = [
    "The Project Gutenberg eBook of The Mill, by A. Writer",
    "",
    "This eBook is for the use of anyone anywhere.",
    "",
    "Title: The Mill",
]
LICENCE = ["", "Updated editions will replace the previous one.", "", "START: FULL LICENSE", "Section 1. General Terms"]


def book(start: str, end: str, *, credits: list[str] | None = None) -> str:
    return "\n".join([*HEADER, "", start, "", *(credits or []), *BODY, "", end, *LICENCE])


# ---- the licence


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
        "*** START OF THIS PROJECT GUTENBERG EBOOK THE MILL ***",
        "***START OF THE PROJECT GUTENBERG EBOOK THE MILL***",
        "*** START OF THE PROJECT GUTENBERG EBOOK, THE MILL ***\r",
        "*** START OF THIS PROJECT GUTENBERG EBOOK THE MILL AND THE MANY THINGS\nTHAT HAPPENED IN IT, IN THREE\nVOLUMES ***",
        "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nWhy?\n\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*",
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.03.17.02*END*\n\n*** START OF THIS PROJECT GUTENBERG ETEXT THE MILL ***",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
        "***END OF THIS PROJECT GUTENBERG EBOOK THE MILL***",
        "End of the Project Gutenberg EBook of The Mill, by A. Writer",
        "End of Project Gutenberg's The Mill, by A. Writer",
        "End of The Project Gutenberg Etext of The Mill",
        "This is the end of the Project Gutenberg Edition of The Mill",
    ],
)
def test_what_stands_between_the_markers_of_any_age_is_the_book(start: str, end: str) -> None:
    text = book(start, end)
    assert is_gutenberg(text[:64_000])
    assert without_licence(text).strip("\n") == "\n".join(BODY)


@pytest.mark.parametrize(
    "credits",
    [
        ["Produced by A. Reader and the Online Team", "at http://www.example.org", ""],
        ["E-text prepared by A. Reader", "", "", "[Transcriber's Note: the spelling", "of the original is kept.]", ""],
        ["This etext was prepared by A. Reader", "", "Credits: A. Reader", ""],
        ["Transcriber’s Note:", "", "    A table of contents was added.", ""],
    ],
)
def test_credits_after_the_header_go_with_it(credits: list[str]) -> None:
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***", "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***"
    assert without_licence(book(start, end, credits=credits)).strip("\n") == "\n".join(BODY)


def test_a_book_that_begins_with_the_word_produced_is_kept_when_it_has_no_blank_line() -> None:
    body = ["Produced by chance, the book went on."] + ["And on."] * books.CREDIT_LINES
    text = "\n".join(["*** START OF THE PROJECT GUTENBERG EBOOK X ***", "", *body])
    assert without_licence(text) == "\n".join(body)


def test_several_books_in_one_file_each_lose_their_own_licence() -> None:
    one = book(
        "*** START OF THE PROJECT GUTENBERG EBOOK A ***", "*** END OF THE PROJECT GUTENBERG EBOOK A ***", credits=["Produced by B", ""]
    )
    lines = without_licence("\n".join([one] * 500)).split("\n")
    assert [line for line in lines if line] == [line for line in BODY if line] * 500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n  A text. \r\n\nProduced by nobody.\n",
        "The line *** START OF THE PROJECT GUTENBERG EBOOK stands in every book.\nSo does the\nend of Project Gutenberg's licence.",
        "*** START OF THE TALK ***\nGutenberg!\n*** END OF THE TALK ***",
        "End of the Project.\n" * 2000,
    ],
)
def test_other_texts_are_untouched(text: str) -> None:
    assert without_licence(text) == text
    assert not is_gutenberg(text)


@given(st.text(alphabet=st.sampled_from("aE*<\n \r.")))
def test_text_without_a_marker_is_never_changed(text: str) -> None:
    assert without_licence(text) == text


def test_a_header_counts_within_the_first_thousand_lines_only_and_a_footer_anywhere() -> None:
    lines = ["words"] * books.HEADER_LINES
    marked = [*lines, "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*", "more words"]
    assert without_licence("\n".join(marked)) == "\n".join(marked)
    assert without_licence("\n".join([*lines * 3, "*** END OF THE PROJECT GUTENBERG EBOOK X ***", "licence"])) == "\n".join(lines * 3)


def test_the_small_print_at_the_end_of_a_book_goes_too() -> None:
    text = book("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***")
    assert without_licence(text).strip("\n") == "\n".join(BODY)


def test_lines_come_while_they_are_read() -> None:
    def endless():
        yield "*** START OF THE PROJECT GUTENBERG EBOOK X ***"
        while True:
            yield "words"
            yield ""

    assert next(lines_without_licence(endless())) == "words"


# ---- hard line ends

PROSE = (
    "The mill had stood beside the river for longer than anybody in the village could remember, and its wheel, which was said to be the "
    "largest in the whole of the valley, went round by day and by night. Nobody knew who had built it! The miller, a quiet man, never "
    "spoke about the matter, and those who asked him were given a cup of tea."
)
VERSE = [
    "The wheel goes round by day and night,",
    "And who shall stop it now?",
    "Not he that had it built of white,",
    "  Nor any, high or low.",
]
TABLE = ["flour    3 lb.   0s. 6d.", "meal    12 lb.   1s. 0d."]


def filled(line: str) -> str:
    """The line made 70 characters long, so that its end is forced, by words before it."""
    return ("so " * 30)[: 69 - len(line) - (69 - len(line)) % 3].ljust(69 - len(line), "a") + " " + line


@pytest.mark.parametrize("width", [60, 65, 70, 76, 90])
def test_prose_is_joined_and_verse_and_tables_stay_lines(width: int) -> None:
    blocks = [textwrap.fill(PROSE, width), "\n".join(VERSE), textwrap.fill(PROSE, width), "\n".join(TABLE), "CHAPTER II\nThe Miller"]
    expected = [PROSE, *VERSE, PROSE, *TABLE, "CHAPTER II", "The Miller"]
    text = "\n\n".join(blocks)
    assert unwrapped(text) == unwrapped(text.replace("\n", " \r\n")) == "\n".join(line.strip() for line in expected)


def test_long_lines_of_verse_stay_lines_since_each_begins_with_a_capital() -> None:
    verse = [filled("of the river"), filled("and of the sea"), filled("of the hills"), "And of me"]
    verse = [line.capitalize() for line in verse[:3] + verse[3:] + verse[:1]]
    assert unwrapped("\n".join(verse)) == "\n".join(verse)
    assert unwrapped("\n".join(line.lower() for line in verse)) == " ".join(verse).lower()


def test_a_quotation_set_in_is_prose_and_an_indented_line_begins_a_paragraph() -> None:
    quotation = textwrap.fill(PROSE, 70, initial_indent="     ", subsequent_indent="     ")
    indented = "\n".join(textwrap.fill(PROSE, 70, initial_indent="   ") for _ in range(3))
    assert unwrapped(f"{quotation}\n\n{indented}") == "\n".join([PROSE] * 4)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(VERSE * 5),
        "\n".join([PROSE, "A second one.", PROSE * 2]),  # a line a paragraph
        "\n".join(["水車は川のそばに立っていた。村の誰もが知っていた。"] * 9),
        "one line",
        "",
    ],
)
def test_text_that_is_not_hard_wrapped_keeps_its_lines(text: str) -> None:
    assert unwrapped(text) == "\n".join(line.strip() for line in text.split("\n"))


@pytest.mark.parametrize(
    "end, begin, elsewhere, joined",
    [
        ("every-", "where", "They were everywhere.", "everywhere"),  # seen without a hyphen
        ("to-", "day", "It is to-day. The day comes to us.", "to-day"),  # seen with one
        ("hap-", "pened", "", "happened"),  # seen in neither form, and no half is a word
        ("con-", "tent", "The tent is here.", "content"),
        ("way-", "ward", "The way is long.", "wayward"),
        ("well-", "known", "The well is known to all.", "well-known"),  # in neither form, and both halves are words
        ("Anglo-", "Saxon", "", "Anglo-Saxon"),
        ("mother-in-", "law", "A mother-in-law.", "mother-in-law"),
        ("1914-", "18", "", "1914-18"),
        ("said--", "and", "", "said--and"),
        ("said", "--and", "", "said--and"),
        ("said --", "and", "", "said -- and"),
        ("said—", "and", "", "said—and"),
        ("ever\u00ad", "more", "", "evermore"),
        ("one", "more", "", "one more"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line(end: str, begin: str, elsewhere: str, joined: str) -> None:
    text = f"{filled(end)}\n{begin}\n\n{elsewhere}"
    assert len(filled(end)) == 70
    assert unwrapped(text).split("\n")[0].endswith(f" {joined}")


@pytest.mark.parametrize("other, expected", [("It is everywhere.", "wayside"), ("It is every-where.", "way-side")])
def test_a_word_never_seen_is_treated_as_most_of_those_that_were(other: str, expected: str) -> None:
    text = f"{filled('every-')}\nwhere\n\n{filled('way-')}\nside\n\n{other} A way. A side."
    assert unwrapped(text).split("\n")[1].endswith(expected)


def test_what_is_seen_of_a_word_counts_for_more_than_what_is_usual() -> None:
    broken = [("every-", "where"), ("some-", "thing"), ("to-", "day")]
    text = "\n\n".join(f"{filled(left)}\n{right}" for left, right in broken) + "\n\nEverywhere is something to-day."
    assert [line.split()[-1] for line in unwrapped(text).split("\n")[:3]] == ["everywhere", "something", "to-day"]


@given(st.text(alphabet=st.sampled_from("aB-—\u00ad \n.")))
def test_joining_loses_and_adds_nothing_but_white_space_and_hyphens(text: str) -> None:
    def bare(value: str) -> str:
        return "".join(value.split()).replace("-", "").replace("\u00ad", "")

    narrowest, books.NARROWEST = books.NARROWEST, 1
    try:
        assert bare(unwrapped(text)) == bare(text)
    finally:
        books.NARROWEST = narrowest


@pytest.mark.parametrize(
    "text", ["a-\n" * 300_000, "-" * 2_000_000, " " * 2_000_000, ("a" * 69 + "-\n") * 20_000, "*" * 2_000_000, "Produced by\n" * 200_000]
)
def test_time_is_linear_in_hostile_text(text: str) -> None:
    start = time.perf_counter()
    unwrapped(text)
    without_licence("*** START OF THE PROJECT GUTENBERG EBOOK X ***\n" + text)
    assert time.perf_counter() - start < 10  # below 1 s alone on a slow core; minutes, were it quadratic
