"""F23: a job of embedding killed again and again ends with the bytes of one that nobody disturbed, every id once and in its order.

SIGKILL falls when a drawn number of parts has appeared, and a moment later: while reading, computing, writing a part, or making the file.
The same command then goes on; a job that was finished in between is begun anew until all kills have fallen. The texts hold copies of each
other, empty ones and ones that are cut; the last part is smaller than the others. In two processes the first of them is killed,
and torchrun ends the other.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertlab.disk import sha256_file
from bertlab.evaluation.vectors import read_vectors

SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()
PARTS = 40
SECONDS = 300.0  # that no trial takes, on a busy machine too


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch

    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import save_model
    from bertlab.model.heads import BertForPreTraining
    from bertlab.tokens import tokenizer as tokenizers

    tokenizer = tokenizers.train([" ".join(WORDS)] * 4, kind="wordpiece", vocab_size=120, lowercase=True)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    folder = tmp_path_factory.mktemp("killed") / "model"
    bert = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=16, **shape))
    save_model(folder, bert, tokenizer, facts={}, card="# A card\n")
    return str(folder)


class Job:
    """One output, by the command line, through the fork server."""

    def __init__(self, server: Any, options: dict[str, Any], output: Path) -> None:
        self.server, self.output = server, output
        self.arguments = ["embed", *(f"{name}={value}" for name, value in (options | {"output": output}).items())]
        self.work, self.log = output.parent / f".embedding-{output.name}", output.with_name("log")

    def start(self) -> int:
        return self.server.start(self.arguments, self.log)

    def finish(self) -> dict[str, str]:
        """Run it to its end: the sha256 of every file that it leaves but the manifest, which holds the others', and the fork server's."""
        assert self.server.wait(self.start(), SECONDS) == 0, self.log.read_text()
        found = {path for path in self.output.parent.iterdir() if not path.name.endswith("manifest.json")}
        left = found - {*self.log.parent.glob(f"{self.log.name}*")}
        assert not any(path.name.startswith(".") for path in left), left
        return {path.name: sha256_file(path) for path in sorted(left)}

    def parts(self) -> int:
        return sum(1 for _ in self.work.glob("*/*.part"))

    def killed(self, draw: random.Random, kill: Callable[[int], None]) -> bool:
        """Start it and kill it after 0 to 3 more parts and a moment; False when it had ended by then, as it should."""
        pid, wanted, end = self.start(), self.parts() + draw.randint(0, 3), time.monotonic() + SECONDS
        while self.parts() < wanted:
            code = self.server.poll(pid)
            if code is not None:
                assert code == 0, self.log.read_text()
                return False
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.002)
        time.sleep(draw.choice((0, draw.uniform(0, 0.3))))
        kill(pid)
        code = self.server.wait(pid, SECONDS)
        return code != 0


@pytest.fixture
def job_of(server: Any, model: str, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    def make(name: str, rows: int, **options: Any) -> Job:
        source = tmp_path / "texts.jsonl"
        if not source.exists():
            source.write_text("".join(json.dumps({"id": f"id {n}", "text": text}) + "\n" for n, text in enumerate(texts(rows))))
        (tmp_path / name).mkdir()
        given = {"model": model, "input": source, "part": -(-rows // PARTS), "device": "cpu", "numbers": "int8"}
        return Job(server, given | options, tmp_path / name / "vectors.npy")

    yield make


def texts(count: int) -> list[str]:
    draw, found = random.Random(0), [""]
    while len(found) < count:
        found.append(draw.choice(found) if draw.random() < 0.2 else " ".join(draw.choices(WORDS, k=draw.randint(0, 25))))
    return found


def kill_again_and_again(job: Job, expected: dict[str, str], count: int, kill: Callable[[int], None]) -> int:
    """`count` kills; returns after how many of them the bytes were those expected (of the job that they fell into)."""
    draw, fallen, passed, before = random.Random(1), 0, 0, 0
    while fallen < count:
        if job.killed(draw, kill):
            fallen += 1
            continue
        passed += (fallen - before) * (job.finish() == expected)  # finished: the same command computes nothing, and all is there
        before = fallen
        for path in job.output.parent.glob("vectors*"):
            path.unlink()
    return passed + (fallen - before) * (job.finish() == expected)


def the_first_process(job: Job) -> Callable[[int], None]:
    """Kill by the lock, which the first process holds; before there is one, the launcher."""

    def kill(launcher: int) -> None:
        lock = job.work / ".lock"
        text = lock.read_text() if lock.exists() else ""
        with contextlib.suppress(ProcessLookupError):  # it came to its end meanwhile
            os.kill(int(text) if text.isdecimal() else launcher, signal.SIGKILL)

    return kill


def test_a_job_killed_again_and_again_ends_with_the_bytes_of_one_that_was_not(
    job_of: Callable[..., Job], trials: Callable[[int, int], int], tally: Callable[[str, str, int, int], None]
) -> None:
    rows, kills = trials(2003, 50_003), trials(10, 100)
    reference = job_of("reference", rows)
    expected = reference.finish()
    ids, vectors = read_vectors(reference.output)
    assert ids == [f"id {number}" for number in range(rows)] and vectors.shape == (rows, 32)
    assert set(expected) == {"vectors.npy", "vectors.ids.txt", "vectors.scales.npy"}
    job = job_of("killed", rows)
    passed = kill_again_and_again(job, expected, kills, lambda pid: os.killpg(pid, signal.SIGKILL))
    tally("F23", f"embedding {rows:,} texts killed", passed, kills)
    assert passed == kills and read_vectors(job.output)[0] == ids


def test_two_processes_of_which_one_is_killed_end_with_the_bytes_of_one_process(
    job_of: Callable[..., Job], trials: Callable[[int, int], int], tally: Callable[[str, str, int, int], None]
) -> None:
    rows, kills = trials(2003, 50_003), trials(2, 20)
    expected = job_of("reference", rows).finish()
    job = job_of("killed", rows, processes=2)
    passed = kill_again_and_again(job, expected, kills, the_first_process(job))
    tally("F23", f"embedding {rows:,} texts in two processes, one killed", passed, kills)
    assert passed == kills
