"""Megabytes of text a second through all of `bertlab prepare`: plain text, and a Wikipedia dump; on one core and on every core.

    python recipes/benchmarks/prepare.py [--megabytes 60] [--rounds 2]

Plain text goes through everything (cleaning, copies and near-copies, sentences, tokens, shards) with a vocabulary of BERT's
size that was learnt before; a synthetic dump of articles too, after its mark-up. Learning a vocabulary is timed by itself, on
the sample. Each run is a process of its own, kept to one core or to all; its wall time counts from start to end, importing
included, and its memory is the largest of its processes. The text is the
sample's, with its sentences shuffled anew so that no document is a near-copy; the mark-up (infobox, references, links, tables,
headings: as dense as English Wikipedia's, two bytes of mark-up to three of text) is put around it here. Megabytes are those of
the files. Prints a table and, last, one JSON object.
"""

import argparse
import json
import lzma
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from batches import machine  # type: ignore[import-not-found]  # the file beside this one

from bertlab import sample

WORDS_A_LINK, SENTENCES_A_REFERENCE = 15, 2


def sentences() -> list[str]:
    """Every sentence of the sample, roughly: what ends in a full stop."""
    with lzma.open(sample.path("articles.jsonl.xz"), "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return [part + "." for text in texts for part in text.replace("\n", " ").split(". ")]


def documents(megabytes: float) -> Iterator[list[str]]:
    """Documents of 20 sentences drawn at random: 2.5 kB, the mean of English Wikipedia's articles."""
    known, draw, size = sentences(), random.Random(0), 0
    while size < megabytes * 1e6:
        document = draw.choices(known, k=20)
        size += sum(len(sentence.encode()) + 1 for sentence in document)
        yield document


def article(number: int, document: list[str]) -> str:
    """A document as wikitext."""
    parts = [
        f"{{{{Infobox settlement\n| name = Place {number}\n| image = Place {number}.jpg\n| population_total = {number * 37:,}\n"
        "| coordinates = {{coord|51|30|N|0|7|W}}\n| website = {{URL|example.org}}\n}}\n"
    ]
    for place, sentence in enumerate(document):
        words = sentence.split(" ")
        for link in range(WORDS_A_LINK // 2, len(words), WORDS_A_LINK):
            words[link] = f"[[{words[link]}]]" if link % 2 else f"[[{words[link]} (term)|{words[link]}]]"
        if place % 7 == 6:
            parts.append(f"\n== Section {place} ==\n[[File:Map {place}.png|thumb|right|A map of [[place]] {place}]]\n")
        parts.append(" ".join(words))
        if place % SENTENCES_A_REFERENCE:
            cite = f"{{{{cite web |url=https://example.org/{number}/{place} |title=Title of {place} |access-date=2020-01-01}}}}"
            parts.append(f'<ref name="n{place}">{cite}</ref> ')
        else:
            parts.append(" ")
    table = '\n{| class="wikitable"\n! Year !! Number\n|-\n| 1990 || 12\n|-\n| 2000 || 17\n|}\n'
    parts.append(f"{table}== References ==\n{{{{reflist}}}}\n[[Category:Places]]")
    return "".join(parts)


def write_text(path: Path, megabytes: float) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for document in documents(megabytes):
            stream.write("\n".join(document) + "\n\n")


def write_dump(path: Path, megabytes: float) -> None:
    size = 0
    with path.open("w", encoding="utf-8") as stream:
        stream.write('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n')
        for number, document in enumerate(documents(megabytes)):
            text = escape(article(number, document))
            stream.write(
                f"<page><title>Place {number}</title><ns>0</ns><id>{number + 1}</id><revision><id>1</id><model>wikitext</model>"
                f'<format>text/x-wiki</format><text xml:space="preserve">{text}</text></revision></page>\n'
            )
            size += len(text.encode())
            if size > megabytes * 1e6:
                break
        stream.write("</mediawiki>\n")


def run(source: Path, out: Path, cores: int, *options: str) -> tuple[float, int]:
    """Seconds of one `bertlab prepare` on `cores` cores, and the most memory, in bytes, that any process so far had."""
    command = [sys.executable, "-m", "bertlab", "prepare", "--source", str(source), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "RAYON_NUM_THREADS": str(cores)}
    keep = (lambda: os.sched_setaffinity(0, set(range(cores)))) if hasattr(os, "sched_setaffinity") else None
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, preexec_fn=keep)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=60, help="size of each file")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()

    all_cores = os.cpu_count() or 1
    results: dict[str, Any] = machine(torch.device("cpu")) | {"megabytes": arguments.megabytes, "cores": all_cores}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"text": folder / "text.txt", "wikipedia": folder / "wiki-pages-articles.xml"}
        write_text(files["text"], arguments.megabytes)
        write_dump(files["wikipedia"], arguments.megabytes)
        learning, _ = run(sample.path("articles.jsonl.xz"), folder / "vocabulary", 1)
        known, _ = run(sample.path("articles.jsonl.xz"), folder / "known", 1, "--tokenizer", str(folder / "vocabulary" / "tokenizer"))
        results["vocabulary_seconds_of_4.4_megabytes"] = learning - known
        options = ["--tokenizer", str(folder / "vocabulary" / "tokenizer"), "--near-duplicates", "0.8"]
        options += ["--cleaning.repeated-lines", "30", "--cleaning.min-words", "20"]
        seconds: dict[tuple[str, int], list[float]] = {}
        for turn in range(arguments.rounds):
            for kind, source in files.items():
                for cores in sorted({1, all_cores}):
                    took, peak = run(source, folder / f"{kind}-{cores}-{turn}", cores, *options)
                    seconds.setdefault((kind, cores), []).append(took)
        print(f"\n{'':10} {'cores':>6} {'MB/s':>7} {'MB/s a core':>12}   (medians of {arguments.rounds} rounds)")
        for (kind, cores), times in seconds.items():
            size = files[kind].stat().st_size / 1e6
            rate = size / statistics.median(times)
            print(f"{kind:10} {cores:6} {rate:7.2f} {rate / cores:12.2f}")
            results[f"{kind}_{cores}_megabytes_per_second"] = rate
        for kind in files:
            one, several = (results[f"{kind}_{cores}_megabytes_per_second"] for cores in (1, all_cores))
            results[f"{kind}_megabytes_per_second_a_core"] = one
            results[f"{kind}_scaling"] = several / one / all_cores
    results["peak_bytes"] = peak
    print(f"learning the vocabulary of the sample (4.4 MB), one core: {learning - known:.1f} s")
    print(f"largest process: {peak / 2**20:,.0f} MB")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
