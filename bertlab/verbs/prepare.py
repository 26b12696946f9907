"""bertlab prepare: text -> a corpus folder (train and held-out token shards, a tokenizer, a manifest of every file).

    bertlab prepare --source PATH [PATH ...] --out CORPUS

Reads the sources file by file (clean, split into sentences), decides over all documents which are kept, then makes the vocabulary and
the tokens. What was read lies in a hidden folder beside the output until all is done, so that the same command goes on after a cut-off.
Costs twice the size of the text in temporary disk, and about 400 bytes of memory a document. The same text gives the same bytes, whatever
the number of workers or the order of the sources.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.cleaning import Cleaning
from bertlab.corpus.cluster import Cluster
from bertlab.corpus.dialect import Dialect
from bertlab.errors import BertlabError, ConfigError, CorruptError, DataError
from bertlab.schema import POSITIONAL

if TYPE_CHECKING:
    from bertlab.corpus.choosing import Choice
    from bertlab.corpus.reading import Read, Recipe
    from bertlab.corpus.sources import How
    from bertlab.corpus.units import SourceFile
    from bertlab.tokens.tokenizer import Tokenizer

MAX_LENGTH = 512  # BERT's number of positions, written into the tokenizer's settings
SPOOL = ".spool.arrow"
MOST_WARNINGS = 12  # on the screen
INPUTS = "inputs_sha256"  # where the manifest says what the corpus was made from
VOCABULARY = ("kind", "vocab_size", "lowercase")
HELDOUT_RULE = "the smallest sha256('heldout' + sha256 of the normalised text)"


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    source: tuple[str, ...] = field(metadata=POSITIONAL)
    """What to read: text, JSONL, CSV, TSV or Parquet files (also .gz .bz2 .xz .zst), Wikipedia's pages-articles dumps, EPUB books, folders
    of them, a folder that `datasets` saved (FOLDER#SPLIT), hf:NAME[:CONFIG][#SPLIT], or - for standard input (-.jsonl: which is JSONL)."""
    out: str
    """The corpus folder to write: a new or an empty one. The same command again finds it finished, another is refused."""
    skip: tuple[str, ...] = ()
    """Files and folders to leave out of the sources, counted: '*.pdf' in every folder, README.md, drafts with all that is below it."""
    tokenizer: str | None = None
    """An existing tokenizer to use instead of training one: a model folder, a tokenizer.json, or hf:NAME."""
    add_pieces: int = 0
    """Words of this text to add to `tokenizer`, those that it spells in the most pieces; `pretrain --model` gives them embeddings."""
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
    """How documents are cut into sentences; "lines" takes each line of a text as one, also of a file that is one document (but a Project
    Gutenberg book's, whose lines are unwrapped)."""
    language: str = "en"
    """Language code of the text, for the splitter's abbreviations."""
    document_end: Literal["blank_line", "line", "file"] = "blank_line"
    """In text files, what ends a document: a blank line (so a file of paragraphs gives a document each), the end of each line (of tickets,
    posts, queries: the texts that predict and embed read), or the end of the file, whose lines are then joined to paragraphs."""
    text_column: str = "text"
    """In tables and JSONL, the column or key that holds the text."""
    id_column: str = "id"
    """In tables and JSONL, the column or key that names a document, where there is one."""
    invalid_utf8: Literal["replace", "drop", "stop"] = "replace"
    """What to do with bytes that are not UTF-8: replace them by U+FFFD, drop the line or document (both counted), or stop."""
    weights: tuple[float, ...] = ()
    """How often training reads each source, in their order: 2 puts every document in twice, 0.5 every other one. Default: 1 each."""
    near_duplicates: float | None = None
    """Drop documents whose runs of five words are those of an earlier one to this share (Jaccard similarity, by MinHash); 0.8 is usual.
    Exact copies are always dropped."""
    keep_out: tuple[str, ...] = ()
    """Your own test sets (CSV, TSV, JSONL, Parquet: their `text_column`, or text; or a text a line): documents with 13 words in a row of
    one of their texts are dropped, or with all of a text of 8 to 12; a shorter one drops the documents that have its words and no other."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    workers: int | None = None
    """Processes that clean text and turn it into tokens. Default: as many as there are cores to clean more than 16 MB, else this one alone;
    tokens are then made by this one, whose threads use every core."""
    cluster: Cluster = field(default_factory=Cluster)
    licence: str = ""
    """The licence of the text, recorded in the manifest for whoever trains on it; default: what the files say of themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in VOCABULARY if getattr(self, name) != defaults[name]]
        if not self.source or not all(self.source):
            raise ConfigError("source is empty: name at least one file, folder, or hf:NAME")
        if not self.out:
            raise ConfigError("out is empty: name the folder to write")
        if not all(PurePosixPath(pattern).parts for pattern in self.skip):
            raise ConfigError("skip has an empty pattern: give names of files, as README.md or '*.pdf'")
        if self.tokenizer is not None and changed:
            raise ConfigError(
                f"{', '.join(changed)} describe a vocabulary to train, but tokenizer={self.tokenizer} brings its own: leave one out"
            )
        if self.add_pieces < 0 or (self.add_pieces and self.tokenizer is None):
            raise ConfigError(f"add_pieces={self.add_pieces}: give 1 or more, and the tokenizer to add them to")
        if self.vocab_size < 100:
            raise ConfigError(f"vocab_size={self.vocab_size} is too small to spell with: try 8192 for a small corpus, or BERT's 30522")
        if not 0 <= self.heldout <= 0.5:
            raise ConfigError(f"heldout={self.heldout} is a share of the documents: give a number from 0 to 0.5")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: give 1 (this process) or more")
        if self.weights and (len(self.weights) != len(self.source) or not all(0 < weight <= 100 for weight in self.weights)):
            raise ConfigError(f"weights={self.weights}: give one number for each of the {len(self.source)} sources, above 0 and up to 100")
        if self.near_duplicates is not None and not 0.5 <= self.near_duplicates <= 1:
            raise ConfigError(f"near_duplicates={self.near_duplicates} is a similarity: give a number from 0.5 to 1; 0.8 is usual")


# ---- reading


def recipe_of(config: Config) -> tuple["How", "Recipe"]:
    """How sources are read, and what is done to their documents."""
    from bertlab.corpus.keep_out import fingerprints, read_texts
    from bertlab.corpus.reading import Recipe
    from bertlab.corpus.sources import How

    how = How(
        text_column=config.text_column,
        id_column=config.id_column,
        document_end=config.document_end,
        joins_lines=config.splitter != "lines",
        invalid_utf8=config.invalid_utf8,
        dialect=config.dialect,
    )
    of_tests = read_texts(config.keep_out, text=config.text_column, dialect=config.dialect)
    recipe = Recipe(
        cleaning=config.cleaning,
        splitter=config.splitter,
        language=config.language,
        signatures=config.near_duplicates is not None,
        keep_out=fingerprints(of_tests) if config.keep_out else None,
    )
    return how, recipe


# ---- tokens


def make_vocabulary(config: Config, base: "Tokenizer | None", spool: Path, heldout: set[str]) -> "Tokenizer":
    """Learnt from the sentences of the spool, those of held-out documents left out; or `base`, with words of theirs where any are to be
    added."""
    from bertlab.progress import progress
    from bertlab.tokens.extension import extend
    from bertlab.tokens.spool import Sentences, Spool
    from bertlab.tokens.tokenizer import train

    if base is not None and not config.add_pieces:
        return base
    done = 0

    def passing(sentences: int) -> None:
        nonlocal done
        done += sentences
        report(done, "")

    with progress("vocabulary", "sentences") as report:
        texts = Sentences(Spool(spool), without=frozenset(heldout), passing=passing)
        if base is not None:
            return extend(base, texts, config.add_pieces)
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
        for document in encode_spool(folder / SPOOL, folder / "tokenizer", config.workers or 1, passing):
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


# ---- the whole


def run(config: Config) -> dict[str, Any]:
    """Write the corpus folder whole or not at all, print what it holds, and return its manifest.

    Raises ConfigError (settings, paths), DataError (too little text, unusable sources), CorruptError (a broken tokenizer), LockedError.
    """
    from bertlab.corpus.choosing import choose
    from bertlab.corpus.cluster import read_on_cluster, refuse_others_job
    from bertlab.corpus.provenance import inputs_sha256
    from bertlab.corpus.reading import read_all, recipe_sha256
    from bertlab.corpus.units import refuse_not_text, source_files, took_nothing, without
    from bertlab.disk import locked, read_json, refuse_used
    from bertlab.pages.prepared import summary
    from bertlab.pages.screen import inert
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.tokens.corpus import MANIFEST

    out = Path(config.out)
    work = out.parent / f".reading-{out.name}"
    if _inputs_of(out, config) is None:
        refuse_used(out)
    with locked(work):
        tokenizer = tokenizers.load(config.tokenizer) if config.tokenizer else None
        how, recipe = recipe_of(config)
        found = [file for number, source in enumerate(config.source) for file in source_files(source, number, work, leave_out=out)]
        files, skipped = without(found, config.skip)
        if not files:
            raise ConfigError(f"skip={list(config.skip)} leaves no file of {_shown(config.source)}")
        for line in took_nothing(found, config.skip):
            print(inert(f"warning: {line}"), flush=True)
        refuse_not_text(files)
        reading = recipe_sha256(how, recipe)
        plain = [settings(config), config.heldout, config.weights, config.licence, reading, tokenizer and tokenizer.sha256]
        inputs = inputs_sha256(plain, files)
        if there := _inputs_of(out, config):  # asked again: another call may have come to its end before this one had the lock
            _clear(work)  # of this call, and of one that was killed when the corpus was there
            return _finished(out, is_of_these=there == inputs)
        if recipe.keep_out and (short := recipe.keep_out.too_short):
            of = f"{short:,} of the {recipe.keep_out.texts:,} texts to keep out have fewer than {recipe.keep_out.shortest} words"
            print(f"note: {of}: only documents of just these words are dropped for them", flush=True)
        units = work / reading
        refuse_others_job(work, units, config.cluster)
        if config.cluster.engine and not read_on_cluster(files, units, how, recipe, config.cluster):
            return {}  # Slurm has it: the same command, given again, goes on
        reads = read_all(files, units, how, recipe, config.workers)
        warnings = [warning for read in reads for warning in read.warnings]
        for warning in [*warnings[:MOST_WARNINGS], *[f"and {len(warnings) - MOST_WARNINGS:,} more"] * (len(warnings) > MOST_WARNINGS)]:
            print(inert(f"warning: {warning}"))
        try:
            weights = config.weights or (1.0,) * len(config.source)
            choice = choose(reads, near=config.near_duplicates, weights=weights, heldout=config.heldout, folder=units)
            refuse_too_few(config, choice)
            with _folder_to_fill(out) as folder:
                facts = write_corpus(config, folder, files, skipped, reads, choice, tokenizer, inputs)
        except BertlabError:
            _clear(work)  # what was read is of no use
            raise
        _clear(work)
    print(summary(facts, config.out, config, config.tokenizer))
    return dict(read_json(out / MANIFEST))


def _inputs_of(out: Path, config: Config) -> str | None:
    """What a corpus that lies there says that it was made from. Raises ConfigError where it was with other settings, which is known at
    once: what it was made from only when all of that was read."""
    from bertlab.disk import read_object, text_at
    from bertlab.tokens.corpus import MANIFEST

    manifest = read_object(out / MANIFEST) if (out / MANIFEST).is_file() and (out / "tokenizer").is_dir() else {}
    inputs, before = text_at(manifest, INPUTS), manifest.get("settings")
    if inputs is not None and isinstance(before, dict):
        now = json.loads(json.dumps(settings(config)))
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise ConfigError(f"{out} was prepared with other settings ({', '.join(changed)}): choose another --out, or remove it first")
    return inputs


def _finished(out: Path, *, is_of_these: bool) -> dict[str, Any]:
    """The manifest of a corpus that was found. Raises ConfigError where it is of other sources, CorruptError where it is damaged."""
    from bertlab.disk import bound_entries, read_sealed, verify_files
    from bertlab.tokens.corpus import MANIFEST

    if not is_of_these:
        raise ConfigError(f"{out} is a corpus of other text, settings or version: choose another --out, or remove it first")
    try:
        manifest = read_sealed(out / MANIFEST)
        verify_files(out, bound_entries(manifest, out / MANIFEST))
    except CorruptError as error:
        raise CorruptError(f"{error} (this command does once {out} is removed)") from None
    print(f"{out} is finished: nothing to do")
    return manifest


@contextmanager
def _folder_to_fill(out: Path) -> Iterator[Path]:
    """`whole_folder`, after taking away what a killed run of the same output left half-filled (the lock says that it is no other's)."""
    from bertlab.disk import sweep, whole_folder

    sweep(out.parent, out.name)
    with whole_folder(out) as folder:
        yield folder


def _clear(work: Path) -> None:
    for entry in work.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()


def write_corpus(
    config: Config,
    folder: Path,
    files: Sequence["SourceFile"],
    skipped: dict[str, int],
    reads: Sequence["Read"],
    choice: "Choice",
    base: "Tokenizer | None",
    inputs: str,
) -> dict[str, Any]:
    """Fill `folder` from what was read and chosen; returns the manifest's facts. skipped: how many files each pattern left out. inputs:
    `inputs_sha256`."""
    from bertlab.corpus.provenance import filters, source_facts
    from bertlab.tokens.corpus import write_manifest
    from bertlab.tokens.spool import spool_chosen

    characters = spool_chosen(reads, choice.times, folder / SPOOL)
    tokenizer = make_vocabulary(config, base, folder / SPOOL, choice.heldout)
    tokenizer.save(folder / "tokenizer", max_length=MAX_LENGTH)
    counts = write_splits(config, folder, tokenizer, choice.heldout, characters)
    (folder / SPOOL).unlink()
    asked = {"near_duplicate": config.near_duplicates is not None, "kept_out": bool(config.keep_out), "weight": bool(config.weights)}
    facts = {
        "sources": source_facts(config.source, config.weights, config.licence, files, reads, choice),
        "settings": settings(config),
        "filters": filters(asked, reads, choice, counts.pop("documents_without_tokens")) | ({"skipped_files": skipped} if skipped else {}),
        "counts": counts,
        "split": {"heldout": config.heldout, "rule": HELDOUT_RULE},
        "tokenizer": {
            "trained_here": base is None,
            "added_pieces": 0 if base is None else tokenizer.vocab_size - base.vocab_size,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "lowercase": tokenizer.lowercase,
            "id_dtype": str(tokenizer.id_dtype),
        },
        INPUTS: inputs,
    }
    write_manifest(folder, facts)
    return facts


def refuse_too_few(config: Config, choice: "Choice") -> None:
    """Raise DataError when the sources gave no document, or a single one."""
    read = choice.counts["in"]
    if choice.counts["kept"] == 0:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in choice.counts.items() if reason not in ("in", "kept"))
        dropped = f", dropped: {reasons}" if reasons else ""
        raise DataError(f"{_shown(config.source)}: no text there ({read:,} documents{dropped}): is it the right file?")
    if choice.counts["kept"] == 1:
        ends = "in a text file a blank line ends one (--document-end line: each line is one), in a table a row"
        if config.document_end != "blank_line":
            ends = f"with --document-end {config.document_end} a {config.document_end} of text is one, in a table a row"
        ends += ", and a Project Gutenberg book is one"
        others = ends if read == 1 else "the others are empty, copies or filtered out"
        raise DataError(f"{_shown(config.source)}: a single document, but next-sentence prediction needs at least two: {others}")


def settings(config: Config) -> dict[str, Any]:
    """The settings that the bytes depend on, beside the sources: no path, no number of workers."""
    chosen = asdict(config)
    left_out = ("source", "out", "tokenizer", "workers", "cluster", "licence", "heldout", "weights", "keep_out")
    for name in (*left_out, *(VOCABULARY if config.tokenizer else ())):
        del chosen[name]
    return chosen


def _shown(sources: tuple[str, ...]) -> str:
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
