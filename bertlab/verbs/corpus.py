"""bertlab corpus: what is in a corpus folder, and what is wrong with it: counts, repeats, truncation, vocabulary, samples, warnings.

    bertlab corpus FOLDER [--html FILE] [--json FILE] [--compare TOKENIZER]

Changes nothing in the folder. The text on the screen, the page and the JSON are of the same facts.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL, Settings

if TYPE_CHECKING:
    from bertlab.tokens.corpus import Corpus
    from bertlab.tokens.tokenizer import Tokenizer

MOST_FREQUENT = 20  # sentences shown


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    corpus: str = field(metadata=POSITIONAL)
    """A corpus folder that `bertlab prepare` wrote."""
    html: str | None = None
    """Also write a page to look at: one file, which asks for nothing else."""
    json: str | None = None
    """Also write all facts as JSON."""
    compare: str | None = None
    """Compare tokens a word with this tokenizer: a model folder, a tokenizer.json, a vocab.txt's folder, or hf:NAME."""
    lengths: tuple[int, ...] = (128, 512)
    """Lengths of pairs to plan an epoch for, in tokens."""
    samples: int = 12
    """Documents and pairs to show."""
    seed: int = 0
    """Of the samples and of the pairs: `bertlab pretrain` with the same seed trains on these first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lengths or min(self.lengths) < 8:
            raise ConfigError(f"lengths={self.lengths}: name at least one, each of 8 tokens or more")
        if not 0 <= self.samples <= 1000:
            raise ConfigError(f"samples={self.samples}: give a number from 0 to 1000")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give a number from 0 to 2,147,483,647")


def run(config: Config) -> dict[str, Any]:
    """Examine, print, write what was asked for, and return the facts.

    Raises ConfigError (no corpus, no such tokenizer), CorruptError (a file that is not as it was written), DataError (one document).
    """
    from bertlab.disk import refuse_others, write_json, write_text
    from bertlab.pages.doctor import page, screen
    from bertlab.pages.html import MARK
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.tokens.corpus import open_corpus

    for name, ending, *marks in ((config.json, ".json", '"findings"', '"sample_pairs"'), (config.html, ".html", MARK)):
        if name:
            refuse_others(Path(name), ending, *marks)
    compare = tokenizers.load(_tokenizer_of(config.compare)) if config.compare else None
    facts = examine(config, open_corpus(config.corpus), compare)
    print(screen(facts))
    if config.json:
        write_json(Path(config.json), facts)
    if config.html:
        write_text(Path(config.html), page(facts))
    return facts


def examine(config: Config, corpus: "Corpus", compare: "Tokenizer | None") -> dict[str, Any]:
    """All facts of an opened corpus, findings last: what the screen, the page and the JSON show. Reads the tokens about four times."""
    import bertlab
    from bertlab.batches import survey
    from bertlab.batches.diagnosis import findings
    from bertlab.progress import progress
    from bertlab.tokens import census, repeats

    train, heldout, tokenizer, manifest = corpus.train, corpus.heldout, corpus.tokenizer, corpus.manifest
    with progress("sentences", "million tokens", train.num_tokens / 1e6) as report:
        sentences = repeats.sentence_facts(train, heldout, tokenizer.vocab_size, top=MOST_FREQUENT, report=report)
    for sentence in sentences["repeated"]["most_frequent"]:
        sentence["share"] = sentence["count"] / train.num_sentences
        sentence["text"] = census.text_at(train, tokenizer, sentence["address"], sentence["length"])
    batches = [survey.batches_for(train, tokenizer, max_length=length, seed=config.seed) for length in config.lengths]
    pairs = []
    for of_length in batches:
        with progress(f"pairs of {of_length.max_length}", "blocks", of_length.blocks) as report:
            pairs.append(survey.pair_facts(of_length, report))
    facts: dict[str, Any] = {
        "bertlab": bertlab.__version__,
        "corpus": corpus.folder.name,
        "sha256": corpus.sha256,
        "seed": config.seed,
        "origins": [
            {
                "name": source["name"],
                "licence": source.get("licence", ""),
                "weight": source.get("weight", 1.0),
                "documents": source.get("documents"),
                "files": len(source["files"]),
                "bytes": sum(file["bytes"] for file in source["files"]),
            }
            for source in manifest["sources"]
        ],
        "sources": census.source_facts(train),
        "filters": manifest["filters"],
        "train": census.split_facts(train),
        "heldout": census.split_facts(heldout) if heldout else None,
        "words": manifest["counts"]["words"],
        "tokens_a_word": (train.num_tokens + (heldout.num_tokens if heldout else 0)) / max(1, manifest["counts"]["words"]),
        "vocabulary": census.vocabulary_facts(tokenizer, train, heldout),
        "read_back": {"split": "heldout" if heldout else "train", "compared_with": _shown(config.compare)}
        | census.word_facts(heldout or train, tokenizer, compare),
        "repeated": sentences["repeated"],
        "overlap": {"documents": census.documents_in_both(train, heldout), **sentences["shared"]} if heldout else None,
        "pairs": pairs,
        "sample_documents": survey.sample_documents(train, tokenizer, config.samples, config.seed),
        "sample_pairs": survey.sample_pairs(batches[0], tokenizer, config.samples),
    }
    return facts | {"findings": findings(facts)}


def _shown(compare: str | None) -> str | None:
    """Its name without the folders above, which are this machine's alone; a page may travel."""
    return "/".join(Path(compare).parts[-2:]) if compare and Path(compare).exists() else compare


def _tokenizer_of(compare: str) -> str:
    """A vocab.txt stands for the folder it lies in."""
    path = Path(compare)
    return str(path.parent) if path.name == "vocab.txt" and path.is_file() else compare
