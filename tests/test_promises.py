"""What a run never does: ask the network, or read or write pickle. The whole walk on made-up text, in a process that is watched."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import bertlab

WATCHED = """
import functools, pickle, socket, sys, traceback

TABOO = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "pickle.find_class")
seen = []

def broken(what):
    # kept, because a library may swallow the exception
    seen.append(what + " from " + " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(traceback.extract_stack()[-8:-1])))
    raise RuntimeError(what)

def watch(event, arguments):
    if event in TABOO:
        broken(event)

sys.addaudithook(watch)
for module, name in ((pickle, "dump"), (pickle, "dumps"), (socket, "getaddrinfo"), (socket, "create_connection")):
    setattr(module, name, functools.partial(lambda what, *_, **__: broken(what), f"{module.__name__}.{name}"))
socket.socket.connect = lambda *_: broken("socket.connect")

if sys.argv[1] == "self-test":
    for breach in (lambda: socket.getaddrinfo("localhost", 80), lambda: socket.socket().connect(("127.0.0.1", 9)), lambda: pickle.dumps(1),
                   lambda: pickle.loads(b"cbuiltins\\nlen\\n.")):
        try:
            breach()
        except RuntimeError:
            pass
    print(len(seen))
    sys.exit()

from bertlab.cli import main

folder = sys.argv[1]
quick = ["--device", "cpu"]
for command in (
    ["prepare", "--source", f"{folder}/texts.jsonl", "--out", f"{folder}/corpus", "--vocab-size", "200"],
    ["pretrain", "--corpus", f"{folder}/corpus", "--out", f"{folder}/bert", "--preset", "tiny", "--steps", "3",
     "--micro-tokens", "512", *quick],
    ["finetune", "--model", f"{folder}/bert/model", "--train", f"{folder}/train.jsonl", "--test", f"{folder}/train.jsonl",
     "--out", f"{folder}/tuned", "--epochs", "1", "--seeds", "1", *quick],
    ["evaluate", "--model", f"{folder}/tuned/model", "--data", f"{folder}/train.jsonl", "--out", f"{folder}/scores", *quick],
    ["embed", "--model", f"{folder}/bert/model", "--input", f"{folder}/texts.jsonl", "--output", f"{folder}/vectors.npy", *quick],
    ["embed", "--model", f"{folder}/tuned/model", "--input", f"{folder}/texts.jsonl", "--output", f"{folder}/vectors.parquet", *quick],
):
    code = main(command)
    assert code == 0 and not seen, (command, code, seen)
print("kept")
"""
SENTENCE = "the old river runs from a stone hill to the sea and birds sing over its banks in spring"
WORDS = SENTENCE.split()


def watched(argument: str, folder: Path) -> str:
    """What a watched process prints; its environment says nothing of networks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ACCELERATE_", "WORLD_", "RANK", "LOCAL_"))}
    environment = kept | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "HF_HOME": str(folder / "empty")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, argument], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_watch_sees_every_breach(tmp_path: Path) -> None:
    assert watched("self-test", tmp_path) == "4\n"


def test_the_whole_walk_asks_no_network_and_reads_and_writes_no_pickle(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [". ".join(" ".join(draw.choices(WORDS, k=draw.randint(4, 12))).capitalize() for _ in range(4)) + "." for _ in range(40)]
    rows = [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(texts)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert watched(str(tmp_path), tmp_path).endswith("kept\n")
    pickled = [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib")]
    assert not pickled and (tmp_path / "vectors.parquet").is_file()
