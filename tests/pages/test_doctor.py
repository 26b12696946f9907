"""The doctor's page and screen: the numbers of the facts to the digit, and text of a stranger's that does nothing."""

import copy
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from bertlab.pages.doctor import page, percent, screen, tables

LENGTHS = {"mean": 3.25, "median": 3, "percentile_95": 9, "largest": 1234, "bins": [[1, 1, 1501], [2, 3, 20_302], [4, 7, 0], [8, 15, 403]]}
SPLIT = {
    "documents": 8123,
    "sentences": 31_473,
    "tokens": 971_196,
    "sentences_a_document": LENGTHS,
    "tokens_a_sentence": LENGTHS,
    "tokens_a_document": LENGTHS,
}
PAIRS = {
    "max_length": 128,
    "pairs": 15_780,
    "mean_length": 97.93,
    "text_tokens": 1_497_996,
    "text_share": 1.54242,
    "left_out": 29_327,
    "left_out_share": 0.030197,
    "long_sentences": 11,
    "over_long": 264,
    "over_long_share": 0.0002718,
    "random_share": 0.651711,
    "forced_share": 0.298669,
    "majority": 0.651711,
}
FACTS: dict[str, Any] = {
    "bertlab": "0.1.0",
    "corpus": "mine",
    "sha256": "ab" * 32,
    "seed": 7,
    "origins": [{"name": "a.txt", "licence": "", "weight": 0.5, "documents": {"in": 9129, "kept": 8579}, "files": 1, "bytes": 1_319_800}],
    "sources": {"sources": [{"name": "a.txt", "documents": 8101, "tokens": 971_000, "share": 0.9998}], "number": 24},
    "filters": {
        "in": 9129,
        "kept": 8579,
        "dropped": {"empty": 51, "duplicate": 499},
        "invalid_utf8_places": 17,
        "changed": {"nfc": 77},
        "skipped_files": {"*.md": 1303, "*.pdf": 0},
    },
    "train": SPLIT,
    "heldout": SPLIT | {"documents": 456},
    "words": 705_643,
    "tokens_a_word": 1.44873,
    "vocabulary": {
        "entries": 8187,
        "unused": 395,
        "covered": {"100": 0.459825, "1000": 0.710444},
        "unknown": 12,
        "unknown_share": 0.0000124,
        "heldout_unknown": 7,
        "heldout_unknown_share": 0.000137,
    },
    "read_back": {
        "split": "heldout",
        "compared_with": "bert-base-uncased",
        "words": 37_054,
        "characters": 221_895,
        "unreadable": 5,
        "own": {"vocab_size": 8192, "tokens": 51_081, "tokens_a_word": 1.37856, "unknown": 0, "unknown_share": 0.0},
        "compared": {"vocab_size": 30_522, "tokens": 45_678, "tokens_a_word": 1.23274, "unknown": 3, "unknown_share": 0.0000657},
    },
    "repeated": {
        "sentences": 31_473,
        "counted_share": 0.25,
        "different": 31_469,
        "again_share": 0.0127,
        "most_frequent": [{"text": "all rights reserved.", "count": 2345, "share": 0.0745, "address": 1, "length": 4}],
        "short_by": 13,
    },
    "overlap": {
        "documents": 0,
        "counted_share": 0.5,
        "sentences": 1616,
        "in_train": 321,
        "long_sentences": 1592,
        "long_in_train": 210,
    },
    "pairs": [PAIRS, PAIRS | {"max_length": 512, "left_out": 0, "left_out_share": 0.0}],
    "sample_documents": [{"id": "x:1", "source": "a.txt", "sentences": 4, "tokens": 155, "text": "the mill runs", "is_whole": False}],
    "sample_pairs": [
        {
            "micro_batch": 2,
            "pieces": ["[CLS]", "the", "[MASK]", "[SEP]", "it", "tree", "##s", "[SEP]"],
            "masked": [[2, "mill"], [5, "run"]],
            "second": 4,
            "follows": True,
        }
    ],
    "findings": [
        {
            "name": "size",
            "value": 971_196,
            "threshold": 1_000_000,
            "least": True,
            "is_wrong": True,
            "finding": "971,196 tokens are few",
            "advice": "add text",
            "reason": "BERT saw more",
        },
        {
            "name": "unknown tokens",
            "value": 0.000137,
            "threshold": 0.01,
            "least": False,
            "is_wrong": False,
            "finding": None,
            "advice": "no",
            "reason": "no",
        },
    ],
}
HOSTILE = '<script>alert(1)</script><img src=x onerror="a()">\' & \x1b[2J\x00\u202egnp\u2066\u2028\r\n</table></svg><style>*{}</style>'


class Parsed(HTMLParser):
    """Elements and attributes counted, text collected; checks that what was opened is closed in order."""

    VOID = ("meta", "rect")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text.append(data)


def with_texts(value: Any, change: Any) -> Any:
    """The facts with every text that comes from outside changed: names, texts, pieces, licences."""
    if isinstance(value, dict):
        outside = ("name", "licence", "text", "id", "source", "compared_with", "corpus", "finding")
        return {
            change(key) if key in ("nfc", "empty", "*.md") else key: change(inner)
            if key in outside and isinstance(inner, str)
            else [change(piece) for piece in inner]
            if key == "pieces"
            else [[place, change(piece)] for place, piece in inner]
            if key == "masked"
            else with_texts(inner, change)
            for key, inner in value.items()
        }
    return [with_texts(inner, change) for inner in value] if isinstance(value, list) else value


def shown_on_page() -> str:
    return " ".join(" ".join(Parsed(page(FACTS)).text).split())


# every number that a person should be able to read, as it stands in the facts
NUMBERS = [
    *("8,123", "31,473", "971,196", "456", "705,643", "1.449"),  # size
    *("9,129", "8,579", "51", "499", "77 nfc", "17 places not UTF-8", "1,303 *.md, 0 *.pdf"),  # filters
    *("1,319,800", "0.5", "971,000", "99.98 %", "and 23 more files, 22 documents, 0.0202 % of the tokens"),  # sources
    *("1,501", "20,302", "403", "mean 3.2", "median 3", "up to 9", "longest 1,234", "8-15", "2-3"),  # lengths
    *("15,780", "97.9", "1,497,996", "154.24 %", "29,327", "3.02 %", "11", "264", "0.0272 %", "65.17 %", "29.87 %", "1,501 documents"),
    *("8,187", "395", "4.82 %", "12", "0.0012 %", "0.0137 %", "45.98 %", "71.04 %"),  # vocabulary
    *("37,054", "221,895", "51,081", "1.379", "30,522", "45,678", "1.233", "0.0066 %", "bert-base-uncased"),  # tokens a word
    *("2,345", "7.45 %", "1.27 %", "31,469", "25.00 %", "up to 13 too low"),  # repeats
    *("1,616", "321", "19.86 %", "1,592", "210", "13.19 %", "50.00 %"),  # held out
    *("2 checks, 1 warning", "971,196 tokens are few", "at least 1,000,000", "add text"),
]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_numbers_are_those_of_the_facts_in_both(number: str) -> None:
    lower = screen(FACTS).lower()
    for text in (shown_on_page().lower(), " ".join(lower.split())):
        assert re.search(rf"(?<![\d.,]){re.escape(number.lower())}(?![\d]|[.,]\d)", text), number


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    text = page(FACTS)
    parsed = Parsed(text)
    assert not set(parsed.elements) & {"script", "img", "link", "iframe", "a", "object", "form", "base"}
    assert not set(parsed.attributes) & {"src", "href", "onclick", "style", "srcset"}
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    assert "default-src 'none'" in text and "width=device-width" in text and "prefers-color-scheme: dark" in text
    assert parsed.elements["svg"] == 3 and parsed.elements["rect"] == 3 * len(LENGTHS["bins"])  # type: ignore[arg-type]
    assert parsed.elements["mark"] == 2 and parsed.elements["html"] == parsed.elements["title"] == 1
    assert len(text) < 20_000


def test_hostile_text_makes_no_element_no_attribute_and_no_control_character() -> None:
    plain, hostile = Parsed(page(with_texts(FACTS, lambda text: text))), Parsed(page(with_texts(FACTS, lambda text: HOSTILE)))
    assert hostile.elements == plain.elements
    assert hostile.attributes == plain.attributes
    shown = "".join(hostile.text)
    assert shown.count("<script>alert(1)</script>") > 15
    for text in (page(with_texts(FACTS, lambda text: HOSTILE)), screen(with_texts(FACTS, lambda text: HOSTILE))):
        assert not set("\x00\x1b\r\u202e\u2066\u2028") & set(text)


def test_hostile_text_stays_on_its_line_of_the_screen() -> None:
    assert len(screen(with_texts(FACTS, lambda text: HOSTILE)).splitlines()) == len(screen(FACTS).splitlines())


def test_what_is_to_predict_is_marked_and_where_b_begins() -> None:
    assert "[CLS] the [[MASK]=mill] [SEP] it [tree=run] ##s [SEP]" in screen(FACTS)
    text = page(FACTS)
    assert "<mark><bdi>[MASK]</bdi> <small>mill</small></mark>" in text
    assert text.index('<span class="second">') < text.index("<bdi>it</bdi>") < text.index("<small>run</small>")
    for shown in (text, screen(FACTS)):
        assert "B follows A" in shown and "micro-batch" not in shown


def test_of_many_sources_the_largest_are_shown_and_the_others_counted() -> None:
    def source(number: int) -> dict[str, Any]:
        documents = {"in": 3, "kept": 2} if number else None  # of one it is not known
        return {"name": f"{number}.txt", "licence": "", "weight": 1.0, "documents": documents, "files": 2, "bytes": 1000 + number}

    def names(count: int) -> tuple[list[str], str]:
        shown = next(
            each for each in tables(copy.deepcopy(FACTS) | {"origins": list(map(source, range(count)))}) if "comes from" in each[0]
        )
        return [row[0] for row in shown[2]], shown[3]

    assert names(20) == ([f"{number}.txt" for number in range(20)], "")
    assert names(2365) == (
        [f"{number}.txt" for number in range(2364, 2344, -1)],
        "and 2,345 more sources of 4,690 files, 4,688 documents kept",
    )


def test_many_sources_of_one_file_stand_in_a_row_for_each_licence() -> None:
    def source(number: int, **facts: Any) -> dict[str, Any]:
        known = {"licence": "CC0" if number % 2 else "", "weight": 1.0, "documents": {"in": 3, "kept": 2}, "files": 1, "bytes": 10}
        return {"name": f"{number}.txt"} | known | facts

    def rows(*sources: dict[str, Any]) -> list[list[str]]:
        return next(each for each in tables(copy.deepcopy(FACTS) | {"origins": list(sources)}) if "comes from" in each[0])[2]

    few = list(map(source, range(8)))
    assert [row[0] for row in rows(*few)] == [f"{number}.txt" for number in range(8)]
    found = rows(*few, source(8, weight=2.0), source(9, files=4), source(10, licence="MIT"), source(12, documents=None))
    assert found == [
        ["5 sources of one file", "not stated", "5", "50", "", "", "1"],  # of one it is not known
        ["4 sources of one file", "CC0", "4", "40", "12", "8", "1"],
        ["8.txt", "not stated", "1", "10", "3", "2", "2"],
        ["9.txt", "CC0", "4", "10", "3", "2", "1"],
        ["10.txt", "MIT", "1", "10", "3", "2", "1"],
    ]


def test_what_is_wrong_comes_first_and_is_counted_last() -> None:
    text = screen(FACTS)
    assert text.splitlines()[2:4] == ["2 CHECKS, 1 WARNING", "1. 971,196 tokens are few"] and text.endswith(
        "\n2 checks, 1 warning: at the top"
    )
    assert page(FACTS).index("tokens are few") < page(FACTS).index("Size")


def test_of_many_files_those_of_a_percent_are_named_and_at_least_three() -> None:
    def shown(shares: list[float], number: int) -> tuple[list[str], str]:
        files = [{"name": str(place), "documents": 1, "tokens": int(share * 1000), "share": share} for place, share in enumerate(shares)]
        train = SPLIT | {"documents": number, "tokens": 1000}
        facts = copy.deepcopy(FACTS) | {"train": train, "sources": {"sources": files, "number": number}}
        found = next(each for each in tables(facts) if each[0] == "Training text by file")
        return [row[0] for row in found[2]], found[3]

    assert shown([0.001] * 20, 1000) == (["0", "1", "2"], "and 997 more files, 997 documents, 99.70 % of the tokens")
    assert shown([0.3, 0.2, 0.1, 0.05, 0.01, *[0.009] * 15], 100)[0] == ["0", "1", "2", "3", "4"]
    assert shown([0.05] * 19 + [0.001], 20) == ([str(place) for place in range(20)], "")  # no more than fit: all


def test_nothing_held_out_and_nothing_wrong_is_said() -> None:
    facts = copy.deepcopy(FACTS) | {"heldout": None, "overlap": None, "sample_pairs": [], "sample_documents": []}
    facts["vocabulary"] |= {"heldout_unknown": None, "heldout_unknown_share": None}
    facts["repeated"] |= {"most_frequent": [], "counted_share": 1.0, "short_by": 0}
    facts["read_back"] |= {"compared": None, "compared_with": None}
    facts["findings"] = facts["findings"][1:]
    facts["origins"][0]["documents"] = None
    text = screen(facts)
    assert "\n\n1 CHECKS, 0 WARNINGS\nnothing to warn of\n\nSIZE\n" in text and text.endswith("\n\n1 checks, 0 warnings")
    assert "TOKENS A WORD" not in text and "1.379" not in text and "5 of its 221,895 characters are unreadable" in text
    assert "Nothing is held out." in text and "too low" not in text and "estimated" not in text
    parsed = Parsed(page(facts))
    assert "Nothing is held out." in "".join(parsed.text) and parsed.elements["mark"] == 0


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0.00 %"), (1.0, "100.00 %"), (0.12345, "12.35 %"), (0.001, "0.10 %"), (0.000137, "0.0137 %")]
)
def test_a_share_shows_the_digits_that_it_has(share: float, words: str) -> None:
    assert percent(share) == words
