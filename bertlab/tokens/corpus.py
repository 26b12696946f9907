"""The corpus folder as one thing: manifest, tokenizer, splits. Opened here, checked here.

manifest.json     schema, sizes and sha256 of every file, sources with their sha256 and licence, counts in = kept + dropped
tokenizer/        tokenizer.json, tokenizer_config.json
train/ heldout/   token shards (bertlab/tokens/shards.py); heldout is absent when nothing was held out
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.disk import MANIFEST, bound_entries, hash_files, read_object, read_sealed, sha256_file, verify_files, write_sealed
from bertlab.errors import ConfigError, CorruptError
from bertlab.tokens import tokenizer
from bertlab.tokens.shards import Documents
from bertlab.tokens.tokenizer import Tokenizer

SCHEMA = 1


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
    manifest = read_object(root / MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise ConfigError(f"{root / MANIFEST}: schema {manifest.get('schema')!r}, this version reads {SCHEMA}: prepare the corpus again")
    manifest = read_sealed(root / MANIFEST)
    entries = bound_entries(manifest, root / MANIFEST)
    for path in sorted(root.glob("*/*.arrow")):
        if path.relative_to(root).as_posix() not in entries:
            raise CorruptError(f"{path} is none of the files that were written: move it away")
    if verify:
        verify_files(root, entries)
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
    (root / MANIFEST).unlink(missing_ok=True)  # it does not bind itself
    write_sealed(root / MANIFEST, {"schema": SCHEMA, **facts, "files": hash_files(root)})
