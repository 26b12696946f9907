"""The same text and settings give the same bytes in any process, whatever its hash seed, language, time zone, order of files (C14)."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import bertlab

WALK = """
import sys
from bertlab.cli import main
from bertlab.training import speed
speed.product_rate = lambda *_: 1e9  # it is measured by seconds of work
small = ["--preset", "tiny", "--steps", "2", "--micro-tokens", "96", "--max-length", "32", "--heldout-batches", "1", "--dropout", "0.1"]
quick = ["--device", "cpu", "--precision", "fp32"]
code = main(["prepare", "--source", sys.argv[1], "--out", "corpus", "--vocab-size", "200", "--near-duplicates", "0.8"])
sys.exit(code or main(["pretrain", "--corpus", "corpus", "--out", "run", *small, *quick]))
"""
SENTENCES = [
    "The Old river runs, past 7 mills.",
    "\u00c9t\u00e9 \u00fcber \u0130stanbul!",
    "Birds sing over its banks.",
    "Ice and wind: that is winter.",
]


def written(folder: Path, names: list[str], **environment: str) -> dict[str, str]:
    """sha256 of all that a walk writes from texts whose files were made in the order of `names`, but for what holds times and places."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for name in names:
        number = int(name, 16)
        lines = [SENTENCES[(number + turn) % 4] + f" Number {number * turn}." for turn in range(2, 6)]
        (texts / f"{name}.txt").write_text("\n".join(lines) + "\n\n" + "\n".join(reversed(lines)) + f" {name}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "TZ", "PYTHONHASHSEED"))}
    environment = kept | environment | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", WALK, "texts"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in (".arrow", ".safetensors", ".json")]
    timed = ("state.json", "bertlab.json", "inputs.json")  # seconds and places; manifest.json binds these in a run
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in timed and (path.name != "manifest.json" or "corpus" in path.parts)
    }


def test_hash_seed_language_time_zone_and_order_of_files_change_no_byte(tmp_path: Path) -> None:
    names = [f"{number:02x}" for number in range(24)]
    one = written(tmp_path / "one", names, PYTHONHASHSEED="1", LC_ALL="C", TZ="UTC")
    other = written(
        tmp_path / "other", names[::-1], PYTHONHASHSEED="4242", LC_ALL="tr_TR.UTF-8", TZ="Pacific/Kiritimati", LANG="tr_TR.UTF-8"
    )
    assert one == other
    assert "corpus/manifest.json" in one and "run/model/model.safetensors" in one and any("optimizer.safetensors" in name for name in one)
