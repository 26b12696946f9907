"""What a tokenizer.json may say, before it is obeyed: a stranger's rules must not cost more than the text that they are used on.

A regular expression can take exponential time, a replacement can double the text forty times over, a word without end can be looked up
piece by piece for an hour. So rules are data of bounded size, of known kinds, whose replacements never lengthen a text; regular expressions
are refused but for the few that published vocabularies come with. Costs a few milliseconds for a vocabulary of 30,000.
Knows JSON only; what it lets through can still be nonsense, which the library then says.
"""

import json
from pathlib import Path
from typing import Any

from bertlab.errors import CorruptError

LARGEST_FILE = 2**26  # bytes; a vocabulary of 500,000 pieces has half as many
LARGEST_VOCABULARY = 2**22  # entries, as in a model (bertlab/model/encoder.py)
LONGEST_WORD = 1000  # characters; WordPiece looks a word up in quadratic time, and BERT's own limit is 100
MOST_STEPS = 32  # of a sequence of normalisers or the like
LONGEST_AFFIX = 16  # characters that are put before or after each piece or text
# those that published tokenizers bring along: SentencePiece's runs of spaces; GPT-2's words, and their later relatives'
KNOWN_PATTERNS = {
    " {2,}",
    r"\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_PARTS = ("normalizer", "pre_tokenizer", "decoder")


def read_rules(path: Path) -> str:
    """A tokenizer.json as JSON that means the same to every reader. Raises CorruptError for what it may not say, naming it."""
    if path.stat().st_size > LARGEST_FILE:
        raise CorruptError(f"{path}: over {LARGEST_FILE >> 20} MB, which no tokenizer.json has")
    try:
        rules = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: not a tokenizer.json ({str(error)[:200]})") from None
    if not isinstance(rules, dict) or not isinstance(rules.get("model"), dict):
        raise CorruptError(f"{path}: not a tokenizer.json (no model in it)")
    wrong = _wrong_model(rules["model"]) or next(filter(None, (_wrong_steps(rules.get(part)) for part in _PARTS)), None)
    if wrong:
        raise CorruptError(f"{path}: {wrong}: this tokenizer is not used")
    return json.dumps(rules)


def _wrong_model(model: dict[str, Any]) -> str | None:
    if len(model.get("vocab") or ()) > LARGEST_VOCABULARY:
        return f"over {LARGEST_VOCABULARY:,} entries"
    if _number(model.get("max_input_chars_per_word")) > LONGEST_WORD:
        return f"max_input_chars_per_word is over {LONGEST_WORD:,}, and words take quadratic time"
    if model.get("dropout"):
        return "BPE with dropout, which gives a text other tokens each time"
    affixes = (model.get("continuing_subword_prefix"), model.get("end_of_word_suffix"))
    return f"an affix of over {LONGEST_AFFIX} characters" if any(len(str(affix)) > LONGEST_AFFIX for affix in affixes) else None


def _wrong_steps(part: Any) -> str | None:
    """What is wrong with a normaliser, pre-tokenizer or decoder, or with a step of a sequence of them."""
    steps = [part]
    for step in steps:
        if not isinstance(step, dict):
            continue
        for name in ("normalizers", "pretokenizers", "decoders"):
            steps.extend(step[name] if isinstance(step.get(name), list) else ())
        if len(steps) > MOST_STEPS:
            return f"over {MOST_STEPS} steps in a row"
        if wrong := _wrong_step(step):
            return wrong
    return None


def _wrong_step(step: dict[str, Any]) -> str | None:
    kind, pattern = step.get("type"), step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if expression is not None and expression not in KNOWN_PATTERNS:
        return f"the regular expression {str(expression)[:80]!r} in {kind}, which could take for ever"
    if kind == "Replace":
        replaced = pattern.get("String") if isinstance(pattern, dict) else pattern
        room = max(1, len(replaced)) if isinstance(replaced, str) else 1
        if replaced == "" or len(str(step.get("content"))) > room:
            return "a Replace that makes text longer"
    return f"{kind} of over {LONGEST_AFFIX} characters" if len(str(step.get("prepend", ""))) > LONGEST_AFFIX else None


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0
