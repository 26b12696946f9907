"""The corpus folder as one thing: manifest, tokenizer, splits. Opened here, checked here.

manifest.json     schema, sizes and sha256 of every file, sources with their sha256 and licence, counts in = kept + dropped
tokenizer/        tokenizer.json, tokenizer_config.json
train/ heldout/   token shards (bertlab/tokens/shards.py); heldout is absent when nothing was held out
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.disk import read_json, sha256_file, write_json
from bertlab.errors import ConfigError, CorruptError
from bertlab.tokens import tokenizer
from bertlab.tokens.shards import Documents
from bertlab.tokens.tokenizer import Tokenizer

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Corpus:
    """An opened corpus folder. `sha256` is the manifest's own: it stands for every byte of the corpus."""

    folder: Path
    manifest: dict[str, Any]
    sha256: str
    tokenizer: Tokenizer
    train: Documents
    heldout: Documents | None


def open_corpus(folder: str, verify: bool = True) -> Corpus:
    """Open a corpus folder; with `verify`, first compare every file with the manifest (reads all bytes, about 1 GB/s).

    Raises ConfigError when it is no corpus folder, CorruptError naming the file that differs.
    """
    root = Path(folder)
    if not (root / MANIFEST).is_file():
        raise ConfigError(f"{root}: no {MANIFEST} there: is it a folder that `bertlab prepare` wrote?")
    manifest = read_json(root / MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise ConfigError(f"{root / MANIFEST}: schema {manifest.get('schema')!r}, this version reads {SCHEMA}: prepare the corpus again")
    if verify:
        verify_files(root, manifest["files"])
    return Corpus(
        folder=root,
        manifest=manifest,
        sha256=sha256_file(root / MANIFEST),
        tokenizer=tokenizer.load(str(root / "tokenizer")),
        train=Documents(root / "train"),
        heldout=Documents(root / "heldout") if (root / "heldout").is_dir() else None,
    )


def write_manifest(root: Path, facts: dict[str, Any]) -> None:
    """Write manifest.json last: `facts` and the size and sha256 of every file under `root`."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
    entries = {path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in files}
    write_json(root / MANIFEST, {"schema": SCHEMA, **facts, "files": entries})


def verify_files(root: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Raise CorruptError for the first file under `root` that is not, byte for byte, the one in `entries` (name -> bytes, sha256)."""
    for name, entry in entries.items():
        path = root / name
        if not path.is_file():
            raise CorruptError(f"{path} is missing: copy the folder again or make it again")
        if path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
            raise CorruptError(f"{path} is not the file that was written (size or sha256 differs): copy the folder again or make it again")
