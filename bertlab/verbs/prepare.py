"""bertlab prepare: text -> a corpus folder (train and held-out token shards, a tokenizer, a manifest of every file).

    bertlab prepare --source PATH [PATH ...] --out CORPUS

One pass over the sources (clean, drop duplicates, split into sentences) into a temporary spool, then the vocabulary, then
the tokens. Costs about a second a megabyte with the default settings on two cores, the size of the text in temporary disk
beside the output, and about 300 bytes of memory a document. The same text gives the same bytes, whatever the number of workers.
"""

import shlex
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bertlab.tokens.tokenizer import Tokenizer

MAX_LENGTH = 512  # BERT's number of positions, written into the tokenizer's settings
SPOOL = ".spool.arrow"
VOCABULARY = ("kind", "vocab_size", "lowercase")
HELDOUT_RULE = "the smallest sha256('heldout' + sha256 of the normalised text)"


@dataclass(frozen=True, kw_only=True)
class Config:
    source: tuple[str, ...]
    """What to read: text, JSONL, CSV, TSV or Parquet files (also .gz .bz2 .xz .zst), folders of them,
    a folder that `datasets` saved (FOLDER#SPLIT), or hf:NAME[:CONFIG][#SPLIT]."""
    out: str
    """The corpus folder to write; it must not exist yet, or be empty."""
    tokenizer: str | None = None
    """An existing tokenizer to use instead of training one: a model folder, a tokenizer.json, or hf:NAME."""
    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    """The kind of vocabulary to train; WordPiece is BERT's."""
    vocab_size: int = 30522
    """Vocabulary entries to train, special tokens included; 30522 is BERT's. Small corpora yield fewer."""
    lowercase: bool = True
    """Train an uncased vocabulary: letter case and accents are levelled (accents by WordPiece only)."""
    heldout: float = 0.05
    """Share of documents kept out of training, to measure on: 1 in 20 costs little training text. A hash of the text chooses them, so that
    copies fall on one side and the order of the sources does not matter."""
    splitter: Literal["sentencex", "regex", "lines"] = "sentencex"
    """How documents are cut into sentences; "lines" takes each line of a text as one."""
    language: str = "en"
    """Language code of the text, for the splitter's abbreviations."""
    document_end: Literal["blank_line", "file"] = "blank_line"
    """In text files, what ends a document: a blank line, or the end of the file."""
    text_column: str = "text"
    """In tables and JSONL, the column or key that holds the text."""
    id_column: str = "id"
    """In tables and JSONL, the column or key that names a document, where there is one."""
    invalid_utf8: Literal["replace", "drop", "stop"] = "replace"
    """What to do with bytes that are not UTF-8: replace them by U+FFFD, drop the line or document (both counted), or stop."""
    workers: int = 1
    """Processes that turn text into tokens; 1 is this process, whose threads use every core."""
    licence: str = ""
    """The licence of the text, recorded in the manifest for whoever trains on it."""

    def __post_init__(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in VOCABULARY if getattr(self, name) != defaults[name]]
        if not self.source or not all(self.source):
            raise ConfigError("source is empty: name at least one file, folder, or hf:NAME")
        if not self.out:
            raise ConfigError("out is empty: name the folder to write")
        if self.tokenizer is not None and changed:
            raise ConfigError(
                f"{', '.join(changed)} describe a vocabulary to train, but tokenizer={self.tokenizer} brings its own: leave one out"
            )
        if self.vocab_size < 100:
            raise ConfigError(f"vocab_size={self.vocab_size} is too small to spell with: try 8192 for a small corpus, or BERT's 30522")
        if not 0 <= self.heldout <= 0.5:
            raise ConfigError(f"heldout={self.heldout} is a share of the documents: give a number from 0 to 0.5")
        if self.workers < 1:
            raise ConfigError(f"workers={self.workers}: give 1 (this process) or more")


def source_facts(source: str, licence: str) -> dict[str, Any]:
    """What the manifest says of one source: its name without its folder, each file's name, size and sha256, the licence.

    Raises ConfigError when it is neither on this disk nor hf:NAME, DataError when it is a folder with no file.
    """
    from bertlab.corpus.files import find_files
    from bertlab.corpus.sources import REMOTE
    from bertlab.disk import sha256_file

    name, _, split = (source, "", "") if Path(source).exists() else source.partition("#")
    path = Path(name)
    if not path.exists():
        if not source.startswith(REMOTE):
            raise ConfigError(f"{source} does not exist: give a file, a folder, or a dataset's name as {REMOTE}NAME[:CONFIG][#SPLIT]")
        return {"name": source, "files": [], "licence": licence}
    files = []
    for file in find_files([name]):
        within = file.relative_to(path).as_posix() if path.is_dir() else file.name
        files.append({"name": within, "bytes": file.stat().st_size, "sha256": sha256_file(file)})
    return {"name": path.resolve().name + (f"#{split}" if split else ""), "files": files, "licence": licence}


def spool_documents(config: Config, path: Path) -> tuple[Counter[str], list[str]]:
    """Read every source once and write what is kept to the spool at `path`: the documents' sentences.

    Returns counts (in, kept, characters, and why documents were dropped) and the digests of the documents kept.
    """
    from bertlab.corpus.identity import normalised_sha256
    from bertlab.corpus.sentences import iter_sentences
    from bertlab.corpus.sources import documents
    from bertlab.progress import progress
    from bertlab.tokens.spool import SpoolWriter

    counts: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    digests: dict[str, None] = {}
    names: set[str] = set()
    with SpoolWriter(path) as spool, progress("reading", "MB") as report:  # MB: a million characters
        for source in config.source:
            found = documents(
                source,
                text_column=config.text_column,
                id_column=config.id_column,
                document_end=config.document_end,
                invalid_utf8=config.invalid_utf8,
                tally=tally,
            )
            for document in found:
                counts["in"] += 1
                digest = normalised_sha256(document.text)
                if digest in digests:
                    counts["duplicate"] += 1
                    continue
                name = unused(document.id, names)
                sentences = iter_sentences(document.text, splitter=config.splitter, language=config.language)
                if not spool.add(name, document.source, digest, sentences):
                    counts["empty"] += 1
                    continue
                digests[digest] = None
                names.add(name)
                report(spool.characters / 1e6, f"{spool.documents:,} documents")
    counts["kept"], counts["characters"] = spool.documents, spool.characters
    counts["invalid_utf8"] = tally["dropped_invalid_utf8"]
    counts["in"] += counts["invalid_utf8"]
    counts["invalid_utf8_places"] = tally["invalid_utf8"]
    return counts, list(digests)


def unused(name: str, names: set[str]) -> str:
    """`name`, or, where another document has it, the first of name#2, name#3, ... that none has."""
    candidate, number = name, 1
    while candidate in names:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def train_vocabulary(config: Config, spool: Path, heldout: set[str]) -> "Tokenizer":
    """A vocabulary learnt from the sentences of the spool, those of held-out documents left out."""
    from bertlab.progress import progress
    from bertlab.tokens.spool import Sentences, Spool
    from bertlab.tokens.tokenizer import train

    done = 0

    def passing(sentences: int) -> None:
        nonlocal done
        done += sentences
        report(done, "")

    with progress("vocabulary", "sentences") as report:
        texts = Sentences(Spool(spool), without=frozenset(heldout), passing=passing)
        return train(texts, kind=config.kind, vocab_size=config.vocab_size, lowercase=config.lowercase)


def write_splits(config: Config, folder: Path, tokenizer: "Tokenizer", heldout: set[str], characters: int) -> dict[str, Any]:
    """Turn the spool into train/ and heldout/ and return the counts of what they hold.

    Raises DataError when fewer than two documents are left to train on.
    """
    from bertlab.progress import progress
    from bertlab.tokens.encoding import encode_spool
    from bertlab.tokens.shards import ShardWriter

    splits = {name: ShardWriter(folder / name, tokenizer.id_dtype) for name in (["train", "heldout"] if heldout else ["train"])}
    words = unknown = silent_sentences = silent_documents = done = 0

    def passing(characters: int) -> None:
        nonlocal done
        done += characters
        report(done / 1e6, "")

    with progress("tokens", "MB", characters / 1e6) as report:
        for document in encode_spool(folder / SPOOL, folder / "tokenizer", config.workers, passing):
            silent_sentences += document.sentences - len(document.sentence_lengths)
            if not len(document.ids):
                silent_documents += 1
                continue
            words += document.words
            unknown += int((document.ids == tokenizer.unk_id).sum())
            split = splits["heldout" if document.sha256 in heldout else "train"]
            split.add(document.id, document.source, document.sha256, document.ids, document.sentence_lengths)
    if splits["train"].documents < 2:
        raise DataError(f"{_shown(config.source)}: fewer than two documents are left with tokens in them: give more text")
    for split in splits.values():
        split.close()
    counts: dict[str, Any] = {
        name: {"documents": split.documents, "sentences": split.sentences, "tokens": split.tokens} for name, split in splits.items()
    }
    return counts | {
        "words": words,
        "unknown_tokens": unknown,
        "sentences_without_tokens": silent_sentences,
        "documents_without_tokens": silent_documents,
    }


def run(config: Config) -> dict[str, Any]:
    """Write the corpus folder whole or not at all, print what it holds, and return its manifest.

    Raises ConfigError (settings, paths), DataError (no or too little text, sources that cannot be used), CorruptError (a broken tokenizer).
    """
    from bertlab.corpus.identity import held_out
    from bertlab.disk import read_json, whole_folder
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.tokens.corpus import MANIFEST, write_manifest

    with whole_folder(Path(config.out)) as folder:
        tokenizer = tokenizers.load(config.tokenizer) if config.tokenizer else None
        sources = [source_facts(source, config.licence) for source in config.source]
        spooled, digests = spool_documents(config, folder / SPOOL)
        refuse_too_few(config, spooled)
        heldout = held_out(digests, config.heldout)
        if len(heldout) < 2:  # a next-sentence pair needs two documents, to measure on as to train on
            heldout = set()
        if tokenizer is None:
            tokenizer = train_vocabulary(config, folder / SPOOL, heldout)
        tokenizer.save(folder / "tokenizer", max_length=MAX_LENGTH)
        counts = write_splits(config, folder, tokenizer, heldout, spooled["characters"])
        (folder / SPOOL).unlink()
        spooled["no_tokens"] = counts.pop("documents_without_tokens")
        facts = {
            "sources": sources,
            "settings": settings(config),
            "filters": filters(spooled),
            "counts": counts,
            "split": {"heldout": config.heldout, "rule": HELDOUT_RULE},
            "tokenizer": {
                "trained_here": config.tokenizer is None,
                "sha256": tokenizer.sha256,
                "vocab_size": tokenizer.vocab_size,
                "lowercase": tokenizer.lowercase,
                "id_dtype": str(tokenizer.id_dtype),
            },
        }
        write_manifest(folder, facts)
    print(summary(config, facts))
    manifest: dict[str, Any] = read_json(Path(config.out) / MANIFEST)
    return manifest


def refuse_too_few(config: Config, spooled: Counter[str]) -> None:
    """Raise DataError when the sources gave no document, or a single one."""
    if spooled["kept"] == 0:
        raise DataError(
            f"{_shown(config.source)}: no text there ({spooled['in']:,} documents, none with a sentence): is it the right file?"
        )
    if spooled["kept"] == 1:
        others = "--document-end says what ends one in a text file" if spooled["in"] == 1 else "the others are empty or copies"
        raise DataError(f"{_shown(config.source)}: a single document, but next-sentence prediction needs at least two: {others}")


def settings(config: Config) -> dict[str, Any]:
    """The settings that the bytes depend on, beside the sources: no path, no number of workers."""
    chosen = asdict(config)
    for name in ("source", "out", "tokenizer", "workers", "licence", "heldout", *(VOCABULARY if config.tokenizer else ())):
        del chosen[name]
    return chosen


def filters(spooled: Counter[str]) -> dict[str, Any]:
    """Documents in = kept + dropped, by reason; and how many characters, lines or cells were not valid UTF-8."""
    dropped = {reason: spooled[reason] for reason in ("empty", "duplicate", "invalid_utf8", "no_tokens")}
    kept = spooled["kept"] - spooled["no_tokens"]
    assert spooled["in"] == kept + sum(dropped.values()), f"documents do not add up: {spooled}"
    return {"in": spooled["in"], "kept": kept, "dropped": dropped, "invalid_utf8_places": spooled["invalid_utf8_places"]}


def summary(config: Config, facts: dict[str, Any]) -> str:
    """What a person wants to know at the end, and the next command."""
    counts, documents, vocabulary = facts["counts"], facts["filters"], facts["tokenizer"]
    train = counts["train"]
    heldout = counts.get("heldout", {"documents": 0, "sentences": 0, "tokens": 0})
    tokens = train["tokens"] + heldout["tokens"]
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in documents["dropped"].items() if number) or "0"
    lines = [
        f"corpus     {config.out}",
        f"documents  {documents['in']:,} read = {documents['kept']:,} kept + dropped: {dropped}",
        f"train      {train['documents']:,} documents, {train['sentences']:,} sentences, {train['tokens']:,} tokens",
        f"held out   {heldout['documents']:,} documents, {heldout['sentences']:,} sentences, {heldout['tokens']:,} tokens",
        f"vocabulary {vocabulary['vocab_size']:,} entries, {'uncased' if vocabulary['lowercase'] else 'cased'}",
        f"           {tokens / counts['words']:.2f} tokens a word, {100 * counts['unknown_tokens'] / tokens:.3f} % unknown",
    ]
    if documents["invalid_utf8_places"]:
        lines.append(f"not UTF-8  {documents['invalid_utf8_places']:,} places ({config.invalid_utf8})")
    if not heldout["documents"] and config.heldout:
        lines.append("           too few documents to hold any out: pretraining will have nothing to be measured on")
    return "\n".join([*lines, f"next       bertlab pretrain --corpus {shlex.quote(config.out)} --out RUN"])


def _shown(sources: tuple[str, ...]) -> str:
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
