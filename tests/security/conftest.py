"""One whole walk for all tests of security: hostile names and texts, secrets in the environment, no network, a process that is watched."""

import fcntl
import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bertlab

WORDS = ["the", "old", "river", "runs", "from", "a", "stone", "hill", "to", "sea", "and", "birds", "sing", "over", "banks", "spring"]
# clears the screen, names the window, turns the direction of reading, starts a line, opens an element, runs a formula
EVIL = "=1+1\x1b[2J\x1b]0;owned\x07\u202egnp\u2066\n\r\u2028<img src=x onerror=alert(1)>&'\""
SECRETS = {name: f"canary-{name.lower()}-5f2e" for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD")}


@dataclass(frozen=True)
class Walk:
    """`root` holds what watched.py names, made under umask 022 with `secrets` in the environment, from texts, names, ids and labels that
    hold `evil`; `said` is all that was printed; without_network: in an empty namespace."""

    root: Path
    said: str
    code: int
    without_network: bool
    evil: str = EVIL
    secrets: tuple[str, ...] = tuple(SECRETS.values())


@functools.cache
def empty_namespace() -> list[str]:
    """The command that runs another one where no network is, or nothing where that is not permitted."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=20, check=False).returncode == 0:
                return command
        except OSError:
            break
    return []


def watched(argument: str, home: Path) -> subprocess.CompletedProcess[str]:
    """watched.py, in an environment that says nothing of networks, with secrets, and a file mode that lets others read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ACCELERATE_", "WORLD_", "RANK", "LOCAL_"))}
    environment = kept | SECRETS | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "HF_HOME": str(home / "empty")}
    script = str(Path(__file__).with_name("watched.py"))
    return subprocess.run(
        [*empty_namespace(), sys.executable, script, argument],
        env=environment, capture_output=True, text=True, timeout=280, check=False, umask=0o022,
    )  # fmt: skip


@pytest.fixture
def self_test(tmp_path: Path) -> str:
    """What watched.py prints of the breaches that it saw."""
    return watched("self-test", tmp_path).stdout


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Walk:
    """It is walked once, whichever of pytest's processes needs it first; nobody changes what it leaves."""
    base = tmp_path_factory.getbasetemp()
    common = base if worker_id == "master" else base.parent  # xdist's name of a session that has one process
    with (common / "walk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (common / "walk.json").exists():
            (common / "walk.json").write_text(json.dumps(walked(common / "walk")))
    known = json.loads((common / "walk.json").read_text())
    return Walk(**known | {"root": Path(known["root"])})


def walked(root: Path) -> dict[str, Any]:
    root.mkdir()
    draw = random.Random(0)
    texts = [". ".join(" ".join(draw.choices(WORDS, k=draw.randint(4, 12))).capitalize() for _ in range(4)) + "." for _ in range(40)]
    (root / "texts").mkdir()
    documents = [{"id": f"{EVIL}{number}", "text": f"{text} {EVIL}"} for number, text in enumerate(texts)]
    (root / "texts" / f"{EVIL}.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    rows = [document | {"label": f"{EVIL} {'ab'[number % 2]}"} for number, document in enumerate(documents)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"id": document["id"], "text": f"the [MASK] river. {document['text'][:40]} {EVIL}"} for document in documents[:6]]
    (root / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    done = watched(str(root), root)
    return {"root": str(root), "said": done.stdout + done.stderr, "code": done.returncode, "without_network": bool(empty_namespace())}


@pytest.fixture
def most_memory() -> Callable[[Callable[[], object]], int]:
    """most_memory(call): by how many bytes this process grew at most while `call` ran. Linux alone can tell."""

    def resident(line: str) -> int:
        return next(int(text.split()[1]) << 10 for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(line))

    def measured(call: Callable[[], object]) -> int:
        if not Path("/proc/self/clear_refs").exists():
            pytest.skip("only Linux says how large a process was at most")
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        call()
        return resident("VmHWM") - before

    return measured
