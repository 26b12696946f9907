"""A corpus whose preparation was killed, or raced by another: the same bytes, or none (F24)."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bertlab.tokens.corpus import open_corpus
from tests.reliability.conftest import Server, mistakes

Tally = Callable[[str, str, int, int], None]
Trials = Callable[[int, int], int]
SENTENCE = "the old mill of a small town stands by the river and birds sing in the tree at night"
UNITS = "from bertlab.corpus import units; units.UNIT_BYTES = 1"  # each file is read in one go, and then is finished


class Preparing:
    """`bertlab prepare` of one folder of files into any other."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        draw = random.Random(0)
        (folder / "in").mkdir()
        for name in "abcdef":
            sentences = [" ".join(draw.sample(SENTENCE.split(), 9)).capitalize() + "." for _ in range(900)]
            (folder / "in" / f"{name}.txt").write_text("\n\n".join(" ".join(sentences[row : row + 3]) for row in range(0, 900, 3)))

    def start(self, out: Path, workers: int = 1) -> int:
        arguments = ["prepare", f"source={self.folder / 'in'}", f"out={out}", "vocab_size=200", f"workers={workers}"]
        self.log(out).write_bytes(b"")
        return self.server.start(arguments, self.log(out), before=UNITS)

    def log(self, out: Path) -> Path:
        return self.folder / f"{out.name}.log"

    def finish(self, out: Path) -> int:
        return self.server.wait(self.start(out))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def preparing(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Preparing:
    return Preparing(server, tmp_path_factory.mktemp("preparing"))


@pytest.fixture(scope="module")
def undisturbed(preparing: Preparing) -> tuple[dict[str, bytes], float]:
    """The corpus that nobody disturbs, and the seconds that it takes."""
    out = preparing.folder / "undisturbed"
    began = time.monotonic()
    assert preparing.finish(out) == 0, preparing.log(out).read_text()
    return tree(out), time.monotonic() - began


def test_a_preparation_killed_at_any_moment_ends_in_the_same_bytes(
    preparing: Preparing, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path, trials: Trials, tally: Tally
) -> None:
    expected, seconds = undisturbed
    draw = random.Random(1)
    wrong: list[str] = []
    killed = 0
    of = trials(5, 50)
    for number in range(of):
        out = tmp_path / f"{number}" / "corpus"
        out.parent.mkdir()
        workers = 2 if number % 5 == 4 else 1
        for _ in range(1 + (number % 3 == 2)):  # some are killed twice
            pid = preparing.start(out, workers)
            time.sleep(draw.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
            killed += preparing.server.wait(pid) == -signal.SIGKILL
            if out.exists() and tree(out) != expected:
                wrong.append(f"{number}: stands, and is another")
        code = preparing.finish(out) if not out.exists() else 0
        if code != 0 or tree(out) != expected:
            wrong.append(f"{number}: exit code {code}, {preparing.log(out).read_text()}")
        elif left := sorted(path.name for path in out.parent.iterdir() if path.name != "corpus"):
            # killed when all was done, there is nothing to start again that could clear up
            wrong += [f"{number}: left behind {left}"] if any(".tmp-" in name for name in left) else []
        shutil.rmtree(out.parent)
    tally("F24", "prepare killed: the same bytes when it is started again", of - len(wrong), of)
    assert not wrong
    assert killed > of // 2


def test_of_two_builders_of_one_folder_one_builds_and_one_is_told(
    preparing: Preparing, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path, trials: Trials, tally: Tally
) -> None:
    expected, seconds = undisturbed
    draw = random.Random(2)
    wrong: list[str] = []
    of = trials(4, 30)
    for number in range(of):
        out = tmp_path / f"corpus-{number}"
        first = preparing.start(out)
        # at once, while the other reads, and about when it ends and takes its lock away
        time.sleep((0, draw.uniform(0, seconds), draw.uniform(0.8, 1.1) * seconds)[number % 3])
        second = preparing.server.start(
            ["prepare", f"source={preparing.folder / 'in'}", f"out={out}", "vocab_size=200"], tmp_path / "second.log", before=UNITS
        )
        codes = sorted((preparing.server.wait(first), preparing.server.wait(second)))
        said = mistakes(preparing.log(out).read_text() + (tmp_path / "second.log").read_text())
        (tmp_path / "second.log").unlink()
        # the second is told that the first is at work, or finds its corpus finished
        if codes not in ([0, 5], [0, 0]) or len(said) != (codes == [0, 5]) or (said and "in use by process" not in said[0]):
            wrong.append(f"{number}: exit codes {codes}: {said}")
        elif tree(out) != expected:
            wrong.append(f"{number}: another corpus")
        else:
            open_corpus(str(out))
            if left := [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]:
                wrong.append(f"{number}: left behind {left}")
    tally("F24", "two builders of one folder: one builds, one is told", of - len(wrong), of)
    assert not wrong
