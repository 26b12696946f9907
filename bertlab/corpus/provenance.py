"""What a manifest says of where a corpus came from: its sources and their files, what became of every document, and one hash of it all.

Names without the folders above them, which are this machine's alone. Knows what was read and chosen, not how tokens are made.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertlab.corpus.choosing import Choice
from bertlab.corpus.files import find_files
from bertlab.corpus.reading import Read
from bertlab.corpus.units import SourceFile
from bertlab.disk import sha256_file


def name_of(source: str) -> str:
    """What a source is called wherever it lies: "texts", "saved#train"; of what is not on this disk all that was given."""
    base, _, split = (source, "", "") if Path(source).exists() else source.partition("#")
    return Path(base).resolve().name + (f"#{split}" if split else "") if Path(base).exists() else source


def inputs_sha256(plain: Sequence[Any], files: Sequence[SourceFile]) -> str:
    """Of everything that a corpus follows from: `plain`, what was set, as JSON has it, and the name and content of each file. Of what is
    not on this disk the name alone: nobody is asked whether it changed."""
    named = [[each.number, each.file.name if each.file else name_of(each.source), each.sha256] for each in files]
    return hashlib.sha256(json.dumps([*plain, named], sort_keys=True).encode()).hexdigest()


def source_facts(
    sources: Sequence[str], weights: Sequence[float], licence: str, files: Sequence[SourceFile], reads: Sequence[Read], choice: Choice
) -> list[dict[str, Any]]:
    """Of each source: its name without its folder, each file's name, size and sha256, weight, licence, documents in and kept. `licence`
    stands for what the files say of theirs."""
    facts = []
    for number, source in enumerate(sources):
        path = Path(source if Path(source).exists() else source.partition("#")[0])
        licences = sorted({each for read in reads if read.unit.number == number for each in read.licences if each})
        mine = [each for each in files if each.number == number]
        facts.append(
            {
                "name": name_of(source),
                "files": _file_facts(path, mine),
                "licence": licence or ", ".join(licences),
                "weight": weights[number] if weights else 1.0,
                "documents": {name: choice.per_source.get(number, Counter())[name] for name in ("in", "kept")},
            }
        )
    return facts


def _file_facts(path: Path, files: Sequence[SourceFile]) -> list[dict[str, Any]]:
    if path.is_dir() and any(each.file is None for each in files):  # a saved dataset
        found = [(file, file.stat().st_size, sha256_file(file)) for file in find_files([str(path)])]
    else:
        found = [(each.file.path, each.bytes, each.sha256) for each in files if each.file]
    within = path.is_dir()
    return [
        {"name": file.relative_to(path).as_posix() if within else file.name, "bytes": size, "sha256": sha256}
        for file, size, sha256 in found
    ]


def filters(asked: Mapping[str, bool], reads: Sequence[Read], choice: Choice, no_tokens: int) -> dict[str, Any]:
    """Documents in = kept + dropped, by reason; what cleaning changed; how much was not valid UTF-8; what a dump held beside articles;
    how many documents came of text files. asked: reasons for which only some corpora drop anything, and whether this one may."""
    tally: Counter[str] = Counter()
    for read in reads:
        tally.update(read.tally)
    dropped = {reason: choice.counts[reason] for reason in ("empty", "duplicate")}
    dropped |= {"invalid_utf8": tally.pop("dropped_invalid_utf8", 0), "no_tokens": no_tokens}
    dropped |= {reason: choice.counts[reason] for reason, switched_on in asked.items() if switched_on}
    dropped |= {reason: number for reason, number in sorted(choice.counts.items()) if reason not in ("in", "kept", *dropped)}
    documents, kept = choice.counts["in"] + dropped["invalid_utf8"], choice.counts["kept"] - no_tokens
    assert documents == kept + sum(dropped.values()), f"documents do not add up: {choice.counts}"
    places = tally.pop("invalid_utf8", 0)
    text = {name: tally.pop(name, 0) for name in ("text_files", "text_documents", "text_long")}
    del tally["bytes"]
    facts: dict[str, Any] = {"in": documents, "kept": kept, "dropped": dropped, "invalid_utf8_places": places}
    facts |= text if text["text_files"] else {}
    return facts | {"changed": {name: number for name, number in sorted(tally.items()) if number}}
