"""What the tests of kills and signals share: a fork server, a small corpus and model, the run R that nobody disturbs, what "the same" is.

R: a BERT of 2 layers of width 32, dropout 0.1, 60 steps of about 150 tokens, some three epochs, a checkpoint every 5 steps, one thread.
"The same" as R: the sha256 of the model's weights and of the last checkpoint's weights and moments, and every record of metrics.jsonl but
for what a clock wrote (losses as they stand in JSON: Python writes the shortest digits that give the same float back).
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bertlab
from bertlab.disk import MANIFEST, read_sealed, sha256_file, verify_files

STEPS, SAVE_EVERY = 60, 5
SETTINGS: dict[str, Any] = {
    "steps": STEPS,
    "micro_tokens": 144,
    "dropout": 0.1,  # its masks are to come again too
    "max_length": 24,
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "attention_dropout": 0.1,
    "heldout_every": 20,
    "heldout_batches": 2,
    "save_every": SAVE_EVERY,
    "log_every": 1,
    "device": "cpu",
    "precision": "fp32",
}
BY_A_CLOCK = ("seconds", "data_seconds", "elapsed_seconds", "tokens_per_second", "mfu", "memory_bytes")
NOUNS = ["mill", "river", "bridge", "tower", "garden", "harbour", "castle", "market"]
DEADLINE = 240.0  # seconds that no trial takes, on a busy machine too

# Sends its own process a signal when the record of a step stands in the log.
AT_STEP = """
import os
from bertlab.training.runlog import RunLog
write = RunLog.write

def written(self, record):
    write(self, record)
    if record["step"] == {step} and "losses" in record:
        os.kill(os.getpid(), {number})

RunLog.write = written
"""


class Server:
    """The fork server, from outside: processes by their ids, which are those of their groups too."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "3000"}
        script = str(Path(__file__).with_name("forkserver.py"))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True, **pipes)
        assert self._read() == "ready"

    def start(self, arguments: list[str], log: Path, *, threads: int = 1, before: str = "", anew: bool = False) -> int:
        """Start `bertlab ARGUMENTS`; returns its process id. `anew`: the processes of a world are programs of their own, not forks."""
        return self._ask({"start": arguments, "log": str(log), "threads": threads, "before": before, "anew": anew})

    def poll(self, pid: int) -> int | None:
        """The exit code of a process, once; None while it runs."""
        return self._ask({"poll": pid})

    def wait(self, pid: int, seconds: float = DEADLINE) -> int:
        """The exit code of a process, which must end within `seconds`."""
        end = time.monotonic() + seconds
        while (code := self.poll(pid)) is None:
            if time.monotonic() > end:
                os.killpg(pid, signal.SIGKILL)
                pytest.fail(f"process {pid} did not end within {seconds} seconds")
            time.sleep(0.002)
        return code

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


class Runs:
    """Pretraining runs on one corpus from one model, as the command line makes them; each folder's words are in FOLDER.log."""

    def __init__(self, server: Server, settings: dict[str, Any]) -> None:
        self.server, self.settings = server, settings

    def start(self, out: Path, *, threads: int = 1, before: str = "", anew: bool = False, **settings: Any) -> int:
        """Start the run (or go on with it); returns its process id. `before`: Python to execute in its process first."""
        self.log(out).write_bytes(b"")  # of this process alone
        return self.server.start(["pretrain", *self.options(out, **settings)], self.log(out), threads=threads, before=before, anew=anew)

    def options(self, out: Path, **settings: Any) -> list[str]:
        return [f"{name}={value}" for name, value in (self.settings | {"out": out} | settings).items()]

    def finish(self, out: Path, **more: Any) -> int:
        """Start it and wait for its end; returns its exit code."""
        return self.server.wait(self.start(out, **more))

    def log(self, out: Path) -> Path:
        return out.with_name(f"{out.name}.log")

    def said(self, out: Path) -> str:
        """All that the last process said."""
        return self.log(out).read_text(errors="replace")


def mistakes(text: str) -> list[str]:
    """The lines in which bertlab says why it ended."""
    return [line for line in text.splitlines() if line.startswith("bertlab: ")]


def records(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock wrote; a half line at the end, as a kill leaves it, is passed over."""
    path = out / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [{name: value for name, value in json.loads(line).items() if name not in BY_A_CLOCK} for line in lines]


def last_step(out: Path) -> int:
    """The last step that is in the log."""
    return max((record["step"] for record in records(out)), default=0)


def until_step(runs: Runs, out: Path, pid: int, step: int) -> None:
    """Wait for a step's record."""
    while last_step(out) < step:
        assert runs.server.poll(pid) is None, runs.said(out)
        time.sleep(0.005)


def saved_steps(out: Path) -> list[int]:
    """The steps of all checkpoints; each must be whole, byte for byte."""
    folders = sorted((out / "checkpoints").glob("step-*"))
    for folder in folders:
        verify_files(folder, read_sealed(folder / MANIFEST)["files"])
    return [int(folder.name.removeprefix("step-")) for folder in folders]


def resumed_at(said: str) -> int:
    """The step at which a run said that it starts."""
    assert (start := re.search(r"for [\d,]+ steps(?: from step ([\d,]+))?, ", said)), said
    return int((start[1] or "0").replace(",", ""))


def trace(out: Path, steps: int = STEPS) -> dict[str, Any]:
    """What two runs that are the same have in common."""
    last = out / "checkpoints" / f"step-{steps:08d}"
    files = [out / "model" / "model.safetensors", last / "model.safetensors", last / "optimizer.safetensors"]
    return {path.relative_to(out).as_posix(): sha256_file(path) for path in files} | {"records": records(out)}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    served = Server()
    yield served
    assert served.process.stdin
    served.process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        served.process.wait(10)
    served.process.kill()


@pytest.fixture(scope="session")
def inputs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The places of a corpus of some 2,500 tokens and of a model with random weights, as options of pretrain."""
    folder = tmp_path_factory.mktemp("inputs")
    draw = random.Random(0)
    texts = [
        "\n".join(f"The old {draw.choice(NOUNS)} {number} stands by a small {draw.choice(NOUNS)}." for _ in range(draw.randrange(2, 7)))
        for number in range(50)
    ]
    (folder / "text.txt").write_text("\n\n".join(texts))
    prepared = ["prepare", f"source={folder / 'text.txt'}", f"out={folder / 'corpus'}", "vocab_size=130", "heldout=0.1", "workers=1"]
    assert server.wait(server.start(prepared, folder / "log")) == 0, (folder / "log").read_text()
    _save_model(folder / "model", folder / "corpus" / "tokenizer")
    return {"corpus": str(folder / "corpus"), "model": str(folder / "model")}


def _save_model(folder: Path, tokenizer: Path) -> None:
    """Random weights of 2 layers of width 32 with a corpus's tokenizer, as pretraining would leave them."""
    import torch

    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import save_model
    from bertlab.model.heads import BertForPreTraining
    from bertlab.tokens import tokenizer as tokenizers

    torch.manual_seed(0)
    own = tokenizers.load(str(tokenizer))
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForPreTraining(EncoderConfig(vocab_size=own.vocab_size, max_position_embeddings=32, **shape))
    save_model(folder, model, own, facts={"kind": "pretrained"}, card="# A card\n")


@pytest.fixture(scope="session")
def runs(server: Server, inputs: dict[str, str]) -> Runs:
    return Runs(server, SETTINGS | inputs)


@pytest.fixture(scope="session")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What R leaves, and the seconds that it takes."""
    out = tmp_path_factory.mktemp("reference") / "run"
    began = time.monotonic()
    code = runs.finish(out)
    seconds = time.monotonic() - began
    assert code == 0, runs.said(out)
    assert [record["step"] for record in records(out) if "losses" in record] == list(range(1, STEPS + 1))
    assert len({record["losses"]["mlm_loss"] for record in records(out) if "losses" in record}) == STEPS
    return trace(out), seconds
