"""How well and how fast the sentence splitters find sentence ends: every one of bertlab's, and pysbd and nltk's punkt where installed.

    python recipes/benchmarks/sentences.py [--gold FILE ...] [--megabytes 20]

Gold is JSONL, a paragraph a line, {"language": "en", "sentences": [...]}, or CoNLL-U (its "# text" lines, joined to paragraphs at
"# newpar" and "# newdoc"; its language is the name's beginning, as in en_ewt-ud-test.conllu). Without --gold it is the 142 paragraphs in 13
languages written for this project, tests/corpus/gold_sentences.jsonl, which are hard on purpose: their figures are not those of
running text, where most ends are plain. A splitter is given each paragraph and its language. What counts is the boundaries inside a
paragraph, as the number of characters before them, white space aside: precision, recall and F1 over all of them. The end of a
paragraph, which nobody can miss, does not count. Speed is the median of 3 rounds over English prose, the sample that ships, repeated, a
document as one paragraph (a splitter below 1 MB/s gets less of it). Prints a table and, last, one JSON object.
"""

import argparse
import json
import platform
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from bertlab import sample
from bertlab.corpus.files import decoded_lines
from bertlab.corpus.sentences import Splitter, iter_sentences

OWN_GOLD = Path(__file__).parents[2] / "tests" / "corpus" / "gold_sentences.jsonl"
UNSPACED = ("zh", "ja")  # languages that put no space between sentences
PUNKT = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "pt": "portuguese", "ru": "russian"}
PUNKT |= {"tr": "turkish", "pl": "polish", "nl": "dutch", "cs": "czech", "sv": "swedish"}
SLOW_SHARE = 0.02  # of the megabytes, for splitters below 1 MB/s

Split = Callable[[str, str], list[str]]  # (text, language) -> sentences


@dataclass(frozen=True)
class Paragraph:
    """A paragraph whose sentences are known."""

    language: str
    sentences: list[str]

    @property
    def text(self) -> str:
        return ("" if self.language in UNSPACED else " ").join(self.sentences)


# ---- gold


def read_gold(path: Path) -> list[Paragraph]:
    """The paragraphs of a JSONL or CoNLL-U file."""
    if path.suffix == ".conllu":
        return _conllu_paragraphs(path)
    rows = [json.loads(line) for _, line, _ in decoded_lines(path) if line.strip()]
    return [Paragraph(row["language"], row["sentences"]) for row in rows]


def _conllu_paragraphs(path: Path) -> list[Paragraph]:
    language = path.name[:2]
    found: list[Paragraph] = []
    for _, line, _ in decoded_lines(path):
        if line.startswith(("# newpar", "# newdoc")) or not found:
            found.append(Paragraph(language, []))
        if line.startswith("# text = "):
            found[-1].sentences.append(line.removeprefix("# text = "))
    return [paragraph for paragraph in found if paragraph.sentences]


# ---- scores


def boundaries(sentences: list[str]) -> set[int]:
    """Where one sentence ends and another begins, as the number of characters before it that are not white space."""
    ends, characters = set(), 0
    for sentence in sentences:
        ends.add(characters)
        characters += len("".join(sentence.split()))
    return ends - {0, characters}


def counted(paragraphs: list[Paragraph], split: Split) -> dict[str, Counter[str]]:
    """Boundaries that are right, found and gold, by language."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for paragraph in paragraphs:
        gold, found = boundaries(paragraph.sentences), boundaries(split(paragraph.text, paragraph.language))
        counts[paragraph.language].update(right=len(gold & found), found=len(found), gold=len(gold), paragraphs=1)
    return counts


def scores(counts: Counter[str]) -> dict[str, float]:
    """Precision, recall and F1; 1 where there was nothing to find and nothing was found."""
    precision = counts["right"] / counts["found"] if counts["found"] else float(not counts["gold"])
    recall = counts["right"] / counts["gold"] if counts["gold"] else 1.0
    both = counts["found"] + counts["gold"]
    return {"precision": precision, "recall": recall, "f1": 2 * counts["right"] / both if both else 1.0}


# ---- splitters


def splitters() -> dict[str, Split]:
    """Every splitter by name: bertlab's own, and those of the peers that are installed."""
    found: dict[str, Split] = {name: _own(name) for name in get_args(Splitter)}
    return found | _pysbd() | _punkt()


def _own(name: Splitter) -> Split:
    return lambda text, language: list(iter_sentences(text, splitter=name, language=language))


def _pysbd() -> dict[str, Split]:
    try:
        import pysbd
    except ImportError:
        return {}
    known = pysbd.languages.LANGUAGE_CODES
    made = {language: pysbd.Segmenter(language=language, clean=False) for language in known}
    return {"pysbd": lambda text, language: [str(sentence) for sentence in made.get(language, made["en"]).segment(text)]}


def _punkt() -> dict[str, Split]:
    """nltk's punkt; its trained data are a download of their own, and without them it is left out."""
    try:
        from nltk.tokenize import sent_tokenize

        sent_tokenize("A. B.")
    except (ImportError, LookupError):
        return {}
    return {"nltk": lambda text, language: list(sent_tokenize(text, language=PUNKT.get(language, "english")))}


def megabytes_per_second(split: Split, megabytes: float, rounds: int = 3) -> float:
    """The median speed on English prose, a document at a time; a slow splitter has less to do."""
    lines = decoded_lines(str(sample.path("articles.jsonl.xz")))
    texts = [json.loads(line)["text"].replace("\n", " ") for _, line, _ in lines]
    size = sum(len(text.encode()) for text in texts) / 1e6

    def seconds(wanted: float) -> float:
        """For as many whole documents as make `wanted` megabytes; the time is scaled to exactly these."""
        done, start = 0.0, time.perf_counter()
        while done < wanted:
            for text in texts:
                split(text, "en")
                done += len(text.encode()) / 1e6
                if done >= wanted:
                    break
        return (time.perf_counter() - start) * wanted / done

    trial = min(size, megabytes * SLOW_SHARE)
    wanted = megabytes if seconds(trial) < trial else trial
    return wanted / statistics.median(seconds(wanted) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gold", type=Path, nargs="+", default=[OWN_GOLD], help="JSONL or CoNLL-U files")
    parser.add_argument("--megabytes", type=float, default=20, help="text to time, 0 for none")
    arguments = parser.parse_args()

    paragraphs = [paragraph for path in arguments.gold for paragraph in read_gold(path)]
    languages = list(dict.fromkeys(paragraph.language for paragraph in paragraphs))
    ends = sum(len(boundaries(paragraph.sentences)) for paragraph in paragraphs)
    print(f"{len(paragraphs):,} paragraphs, {ends:,} sentence ends inside them, F1 in % by language")
    print(f"{'':10} {'MB/s':>7} {'P':>5} {'R':>5} {'F1':>5}  " + " ".join(f"{language:>5}" for language in languages))
    results: dict[str, dict[str, Any]] = {}
    for name, split in splitters().items():
        counts = counted(paragraphs, split)
        overall = scores(sum(counts.values(), Counter()))
        by_language = {language: scores(counts[language])["f1"] for language in languages}
        speed = megabytes_per_second(split, arguments.megabytes) if arguments.megabytes else 0.0
        shares = " ".join(f"{100 * overall[share]:5.1f}" for share in ("precision", "recall", "f1"))
        print(f"{name:10} {speed:7.2f} {shares}  " + " ".join(f"{100 * by_language[language]:5.1f}" for language in languages))
        results[name] = {**overall, "f1_by_language": by_language, "megabytes_per_second": speed or None}
    machine = {"machine": f"{platform.system()} {platform.machine()}", "python": platform.python_version()}
    print(json.dumps({"splitters": results, "paragraphs": len(paragraphs), "ends": ends} | machine | _versions()))


def _versions() -> dict[str, str]:
    found = {}
    for package in ("sentencex", "pysbd", "nltk"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
