"""The whole walk in a process that is watched: `python watched.py FOLDER` (conftest.py puts the texts there); ends with "kept".

A look-up, a connection, a pickle written or a name found by one ends it with the place in the code. Every verb that handles files is there,
and a pretraining run is gone on with from a checkpoint. `python watched.py self-test` counts the breaches that the watch sees.
"""

import contextlib
import functools
import pickle
import shutil
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

TABOO = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "pickle.find_class")
seen: list[str] = []


def broken(what: str, *_: Any, **__: Any) -> NoReturn:
    # kept, because a library may swallow the exception
    seen.append(what + " from " + " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(traceback.extract_stack()[-8:-1])))
    raise RuntimeError(what)


def watch(event: str, arguments: Any) -> None:
    if event in TABOO:
        broken(event)


def self_test() -> None:
    breaches: list[Callable[[], object]] = [
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.socket().connect(("127.0.0.1", 9)),
        lambda: pickle.dumps(1),
        lambda: pickle.loads(b"cbuiltins\nlen\n."),
    ]
    for breach in breaches:
        with contextlib.suppress(RuntimeError):
            breach()
    print(len(seen))


def commands(folder: Path) -> list[list[str]]:
    def at(*names: str) -> list[str]:
        return [str(folder / name) for name in names]

    quick = ["--device", "cpu", "--precision", "fp32"]
    sizes = ["--preset", "tiny", "--micro-tokens", "96", "--max-length", "32", "--heldout-batches", "1"]
    tuning = ["--epochs", "1", "--seeds", "1", "--batch-size", "40", "--max-length", "32"]
    asking = ["--template", "{text} That is [MASK].", "--words", "water:river", "land:hill"]
    corpus, run, tuned, rows = at("corpus", "bert", "tuned", "rows.jsonl")
    pretrain = ["pretrain", "--corpus", corpus, "--out", run, "--steps", "2", "--save-every", "1", "--heldout-every", "2", *sizes, *quick]
    return [
        ["prepare", "--source", *at("texts"), "--out", corpus, "--vocab-size", "200"],
        ["corpus", "--corpus", corpus, "--html", *at("page.html"), "--json", *at("facts.json")],
        pretrain,
        pretrain,  # cut back to its first checkpoint before, see main
        ["finetune", "--model", f"{run}/model", "--train", rows, "--test", rows, "--out", tuned, *tuning, *quick],
        ["evaluate", "--model", f"{tuned}/model", "--data", rows, "--out", *at("scores"), "--device", "cpu"],
        ["compare", "--runs", *at("scores", "tuned"), "--json", *at("comparison.json")],
        ["embed", "--model", f"{run}/model", "--input", rows, "--output", *at("vectors.npy"), "--device", "cpu"],
        ["embed", "--model", f"{tuned}/model", "--input", rows, "--output", *at("vectors.parquet"), "--device", "cpu"],
        ["fill", "--model", f"{run}/model", "--input", *at("asked.jsonl"), "--device", "cpu"],
        ["prompt", "--model", f"{run}/model", "--data", *at("asked.jsonl"), "--out", *at("prompted"), *asking, "--device", "cpu"],
        ["verify", "--folder", *at("corpus", "bert", "tuned", "scores", "prompted", "vectors.npy", "vectors.parquet"), "--strict"],
        ["replay", "--run", run, "--step", "2", "--json", *at("step.json")],
    ]


def main(folder: Path) -> None:
    from bertlab.cli import main as bertlab
    from bertlab.training import speed

    speed.product_rate = lambda *_: 1e9  # it is measured by seconds of work
    for command in commands(folder):
        if command[0] == "pretrain" and (folder / "bert" / "model").is_dir():
            shutil.rmtree(folder / "bert" / "model")
            shutil.rmtree(folder / "bert" / "checkpoints" / "step-00000002")
        code = bertlab(command)
        assert code == 0 and not seen, (command, code, seen)
    print("kept")


if __name__ == "__main__":
    sys.addaudithook(watch)
    for module, name in ((pickle, "dump"), (pickle, "dumps"), (socket, "getaddrinfo"), (socket, "create_connection")):
        setattr(module, name, functools.partial(broken, f"{module.__name__}.{name}"))
    socket.socket.connect = functools.partial(broken, "socket.connect")  # type: ignore[method-assign]
    self_test() if sys.argv[1] == "self-test" else main(Path(sys.argv[1]))
