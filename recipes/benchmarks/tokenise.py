"""Megabytes of text a second from sentences to token ids on disk: `bertlab prepare` against the usual datasets.map(tokenise).

    python recipes/benchmarks/tokenise.py [--megabytes 24] [--rounds 3]

Ours is all that prepare does between its sentences and its shards: it reads the spool, tokenises, counts words and unknown
tokens, and writes shards in which sentences and documents are known; with one worker (the default: this process, whose
threads use every core) and with a process a core. The peer is a `datasets` dataset on disk, mapped in batches (of 1,000
rows, the default) by transformers' fast tokenizer from the same tokenizer.json into its Arrow cache. It is asked for ids
alone (no padding, special tokens or masks), reuses no cache and is spared the hashing of its function. It may have a row a
sentence, as the shards do, or a row a document, which is faster and loses where sentences end; it may run here with the
tokenizer's threads or without, in a process of its own, or in one a core. Each of these ways is tried once on all the text,
and the fastest meets ours in alternating rounds of the same run. Every id is compared, every time. The text is the sample
that ships, 4.4 MB, repeated; ours encodes a word once a run, which is 1 MB, so that the repeats help neither side. The
vocabulary is learnt from the same text, at BERT's size. Prints a table and, last, one JSON object.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import AutoTokenizer

from bertlab import sample
from bertlab.corpus.sentences import iter_sentences
from bertlab.corpus.sources import How, documents
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.shards import Documents
from bertlab.tokens.spool import SpoolWriter
from bertlab.verbs import prepare

# a way of working, timed: the seconds it took and all ids, end to end
Round = Callable[[], tuple[float, np.ndarray]]


def sample_documents(megabytes: float) -> tuple[list[list[str]], float]:
    """The sample's documents as sentences, repeated to at least `megabytes` of UTF-8, and how many these are."""
    found = documents(str(sample.path("articles.jsonl.xz")), How(), Counter())
    once = [list(iter_sentences(document.text, splitter="sentencex", language="en")) for document in found]
    size = sum(len(sentence.encode()) for document in once for sentence in document) / 1e6
    times = int(np.ceil(megabytes / size))
    return once * times, size * times


def our_round(folder: Path, workers: int) -> Round:
    """From the spool in `folder` to shards, as prepare does it."""
    config = prepare.Config(source=(sample.__name__,), out=str(folder), workers=workers)
    tokenizer = tokenizers.load(str(folder / "tokenizer"))

    def once() -> tuple[float, np.ndarray]:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        shutil.rmtree(folder / "train", ignore_errors=True)
        start = time.perf_counter()
        prepare.write_splits(config, folder, tokenizer, heldout=set(), characters=0)  # characters are for its progress line alone
        seconds = time.perf_counter() - start
        return seconds, np.concatenate([shard.tokens for shard in Documents(folder / "train").shards])

    return once


def their_round(folder: Path, rows: str, processes: int | None, threads: bool) -> Round:
    """The dataset in `folder`/`rows` mapped to ids: by `processes` of its own, or here where that is None."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")

    def tokenise(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)

    def once() -> tuple[float, np.ndarray]:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads else "false"
        cache = folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        texts = datasets.load_from_disk(folder / rows)
        start = time.perf_counter()
        mapped = texts.map(
            tokenise,
            batched=True,
            num_proc=processes,
            remove_columns=["text"],
            load_from_cache_file=False,
            cache_file_name=str(cache / "ids.arrow"),
            new_fingerprint="ids",
        )
        seconds = time.perf_counter() - start
        return seconds, np.concatenate([chunk.flatten().to_numpy() for chunk in mapped.data.column("input_ids").chunks])

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=24, help="text to tokenise, at least")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    cores = os.cpu_count() or 1
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, megabytes = sample_documents(arguments.megabytes)
        sentences = [sentence for document in texts for sentence in document]
        vocabulary = tokenizers.train(sentences, kind="wordpiece", vocab_size=30522, lowercase=True)
        vocabulary.save(folder / "tokenizer", max_length=prepare.MAX_LENGTH)
        with SpoolWriter(folder / prepare.SPOOL) as spool:
            for number, document in enumerate(texts):
                spool.add(str(number), "sample", f"{number:064x}", document)
        datasets.Dataset.from_dict({"text": sentences}).save_to_disk(folder / "sentences")
        datasets.Dataset.from_dict({"text": [" ".join(document) for document in texts]}).save_to_disk(folder / "documents")
        wanted = our_round(folder, 1)()[1]

        def timed(once: Round) -> float:
            seconds, ids = once()
            assert np.array_equal(ids, wanted), "the two sides differ in an id"
            return seconds

        print(f"\n{megabytes:.1f} MB of text, {len(sentences):,} sentences, {len(wanted):,} tokens, {cores} cores")
        print(f"{'':56} {'MB/s':>6}")
        ours = {"bertlab, 1 worker (the default)": our_round(folder, 1), f"bertlab, {cores} workers": our_round(folder, cores)}
        theirs = {
            f"datasets.map, a row a {rows[:-1]}, {way}": their_round(folder, rows, *how)
            for rows in ("sentences", "documents")
            for way, how in {
                f"num_proc={cores}": (cores, False),
                "num_proc=1": (1, False),
                "in this process": (None, False),
                "in this process, threads": (None, True),
            }.items()
        }
        trials = {way: timed(once) for way, once in theirs.items()}
        for way, seconds in trials.items():
            print(f"{way:56} {megabytes / seconds:6.2f}   (once)")
        best = min(trials, key=trials.__getitem__)
        rounds = [{way: timed(once) for way, once in (ours | {best: theirs[best]}).items()} for _ in range(arguments.rounds)]
    print(f"\n{'':56} {'MB/s':>6} {'ratio':>6}   (medians of {arguments.rounds} rounds, of the other side's best way)")
    ratios = {way: statistics.median(seconds[best] / seconds[way] for seconds in rounds) for way in rounds[0]}
    speeds = {way: megabytes / statistics.median(seconds[way] for seconds in rounds) for way in rounds[0]}
    for way, ratio in ratios.items():
        print(f"{way:56} {speeds[way]:6.2f} {ratio:6.2f}")
    one, several = ours
    results = {
        "ratio": ratios[one],
        "megabytes_per_second": speeds[one],
        "ratio_in_processes": ratios[several],
        "megabytes_per_second_in_processes": speeds[several],
        "peer": best,
        "peer_megabytes_per_second": speeds[best],
        "megabytes": megabytes,
        "tokens": len(wanted),
        "cores": cores,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    print(json.dumps(results | {package: version(package) for package in ("tokenizers", "datasets", "transformers", "pyarrow")}))


if __name__ == "__main__":
    main()
