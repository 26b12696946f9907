"""A document of 10 MB (100 MB in the full tier) in one line becomes tokens in bounded memory and linear time, and the same ids (F19).

Measured at `bertlab prepare` in a process of its own: memory as the system counts it, time as its processors do, so that a busy machine
does not matter. A tokenizer given such a line in one call takes 250 bytes a character.
"""

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import bertlab
from bertlab.tokens.corpus import open_corpus

Tally = Callable[[str, str, int, int], None]
Trials = Callable[[int, int], int]
MEGABYTE = 10**6
ADDRESSES = 2 * 2**30  # bytes that the process may map at all
RESIDENT = 1.5 * 2**30  # and hold in memory
LINEAR = 10  # times the seconds for 8 times the text
LINEAR_OF_SHORT = 16  # of 10 MB, where an eighth takes a second: quadratic would be 64, and beside other work 10 were seen


def long_line(characters: int) -> str:
    """Sentences of made-up words from 5,000, in one line of so many characters."""
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(5000)]
    sentences: list[str] = []
    length = 0
    while length < characters:
        sentences.append(" ".join(draw.choices(words, k=draw.randint(3, 30))).capitalize() + draw.choice(".!?"))
        length += len(sentences[-1]) + 1
    return " ".join(sentences)[:characters]


def prepare(folder: Path, line: str) -> resource.struct_rusage:
    """Prepare a corpus of the line and a second document; returns what that took."""
    folder.mkdir()
    (folder / "text.txt").write_text(line + "\n\nAnother document.\n")
    limit = f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({ADDRESSES}, {ADDRESSES}))"
    program = f"{limit}; from bertlab.cli import main; sys.exit(main())"
    arguments = ["prepare", "--source", str(folder / "text.txt"), "--out", str(folder / "corpus"), "--heldout", "0", "--vocab-size", "2000"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=log,
            stderr=log,
            # pyarrow's own pool reserves 1 GiB of addresses that it never touches
            env=os.environ | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "log").read_text()[-2000:]
    return used


def test_a_document_in_one_line_costs_bounded_memory_and_linear_time(tmp_path: Path, trials: Trials, tally: Tally) -> None:
    large = trials(10, 100) * MEGABYTE
    line = long_line(large)
    start = prepare(tmp_path / "start", line[:10_000])
    eighth = prepare(tmp_path / "eighth", line[: large // 8])
    whole = prepare(tmp_path / "whole", line)
    peak = whole.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = [used.ru_utime + used.ru_stime - start.ru_utime - start.ru_stime for used in (eighth, whole)]
    bounded, linear = peak < RESIDENT, seconds[1] <= (LINEAR if large > 10 * MEGABYTE else LINEAR_OF_SHORT) * seconds[0]
    what = f"{large // MEGABYTE} MB in one line: {peak / 2**20:,.0f} MiB, {seconds[1] / seconds[0]:.1f} times an eighth's seconds"
    tally("F19", what, bounded + linear, 2)
    assert bounded and linear


def test_the_ids_of_a_long_line_are_those_of_the_whole_line(tmp_path: Path, tally: Tally) -> None:
    line = long_line(2 * MEGABYTE)
    prepare(tmp_path / "two", line)
    corpus = open_corpus(str(tmp_path / "two" / "corpus"))
    ids = np.concatenate(corpus.train.document(0))
    whole, _ = corpus.tokenizer.encode([line])
    equal = np.array_equal(ids, whole)
    tally("F19", "2 MB in one line: the ids of one call", equal, 1)
    assert equal and len(ids) > 400_000
