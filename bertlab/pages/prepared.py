"""What `bertlab prepare` says at its end: a corpus's manifest in a screen's few lines, and the next command. Knows the manifest alone."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from bertlab.corpus.dialect import Dialect
from bertlab.corpus.files import ending_of
from bertlab.corpus.sources import MANY_LINES
from bertlab.pages.screen import counted, inert

MOST_ENDINGS = 12  # of files, in one line


def summary(facts: dict[str, Any], out: str, read_as: Dialect, base: str | None = None) -> str:
    """What a person wants to know of a new corpus. facts: its manifest; out: the folder as it was named; read_as: how its text was read;
    base: the tokenizer that it was given."""
    counts, documents, vocabulary = facts["counts"], facts["filters"], facts["tokenizer"]
    train = counts["train"]
    heldout = counts.get("heldout", {"documents": 0, "sentences": 0, "tokens": 0})
    tokens = train["tokens"] + heldout["tokens"]
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in documents["dropped"].items() if number) or "0"
    lines = [
        f"corpus     {out}",
        *_file_lines(facts),
        f"documents  {documents['in']:,} read = {documents['kept']:,} kept + dropped: {dropped}",
        *_text_lines(facts),
        f"train      {counted(train['documents'], 'document')}, {counted(train['sentences'], 'sentence')}, {train['tokens']:,} tokens",
        f"held out   {counted(heldout['documents'], 'document')}, {heldout['sentences']:,} sentences, {heldout['tokens']:,} tokens",
        f"vocabulary {vocabulary['vocab_size']:,} entries, {'uncased' if vocabulary['lowercase'] else 'cased'}",
        f"           {tokens / counts['words']:.2f} tokens a word, {100 * counts['unknown_tokens'] / tokens:.3f} % unknown",
    ]
    if documents["changed"]:
        lines.append("changed    " + ", ".join(f"{number:,} {name}" for name, number in documents["changed"].items()))
    if places := documents["invalid_utf8_places"]:
        lines.append(f"{f'not {read_as.name}':10} {places:,} places ({facts['settings']['invalid_utf8']}); {read_as.otherwise}")
    if not heldout["documents"] and facts["split"]["heldout"]:
        lines.append("           too few documents to hold any out: pretraining will have nothing to be measured on")
    is_model = base is not None and (base.startswith("hf:") or (Path(base) / "config.json").is_file())  # or its tokenizer.json alone
    model = f" --model {shlex.quote(str(base))}" if is_model and vocabulary["added_pieces"] else ""  # new pieces begin with its embeddings
    return "\n".join([*lines, f"next       bertlab pretrain --corpus {shlex.quote(out)}{model} --out RUN"])


def _file_lines(facts: dict[str, Any]) -> list[str]:
    """What was read by its endings, so that a file that nobody meant is seen, where there is more than one file; what was left out."""
    endings = Counter(ending_of(file["name"]) or "without ending" for source in facts["sources"] for file in source["files"])
    lines = []
    if endings.total() > 1:
        named = ", ".join(f"{number:,} {inert(ending)}" for ending, number in endings.most_common(MOST_ENDINGS))
        more = f" and {len(endings) - MOST_ENDINGS:,} more endings" if len(endings) > MOST_ENDINGS else ""
        lines.append(f"files      {endings.total():,} read: {named}{more}")
    if skipped := facts["filters"].get("skipped_files"):
        lines.append(
            f"left out   {counted(sum(skipped.values()), 'file')}: "
            + ", ".join(f"{number:,} {inert(each)}" for each, number in skipped.items())
        )
    return lines


def _text_lines(facts: dict[str, Any]) -> list[str]:
    """What became of text files, where it may be what nobody meant: more documents than files, ones of very many lines, or an option
    that only text files know, without any."""
    found, ends = facts["filters"], facts["settings"]["document_end"]
    files, documents, long = (found.get(f"text_{name}", 0) for name in ("files", "documents", "long"))
    if ends != "blank_line":
        return [] if files else [f"           --document-end {ends} changed nothing: no text file was read but Project Gutenberg's books"]
    lines = []
    if documents > files:
        instead = "(--document-end file: one a file; line: one a line)"
        lines.append(f"           {documents:,} of them from {counted(files, 'text file')}: a blank line ends one {instead}")
    if long:
        of = f"{counted(long, 'document')} of more than {MANY_LINES} lines"
        lines.append(f"           {of}: if each line is a text of its own (a ticket, a post), --document-end line")
    return lines
