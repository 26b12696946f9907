"""What is wrong with a corpus, in plain words: the numbers of a survey against thresholds that each say their reason.

Facts in (the dict that `bertlab corpus` gathers), findings out. Knows only numbers: a corpus that passes may still be the wrong text.
A threshold is where trouble is worth a person's look, not where training fails. The two
clean corpora of the reasons are what this survey gave for 9,129 Wikipedia leads (1 million tokens), and for 91 books, 2,674 sections of
textbooks and 93 articles together (16 million).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]

MILLION = 1_000_000
LONGEST_SHOWN = 60  # characters of a sentence
FEW_TIMES = 5  # a sentence that stands fewer times is no boilerplate, however small the corpus
# A tag or an entity as tokens read back spell it, as < / p > or & nbsp ; (by their names: "a < b and b > c" is none)
_TAG = (
    r"< ?/? ?(?:p|br|hr|div|span|a|b|i|em|strong|ul|ol|li|table|tr|td|th|h[1-6]|img|script|style|html|head|body)(?: [^<>]*=[^<>]*)? ?/? ?>"
)
MARK_UP = re.compile(rf"{_TAG}|& ?(?:nbsp|amp|lt|gt|quot|# ?[0-9]+) ?;", re.IGNORECASE)


@dataclass(frozen=True)
class Check:
    """`measure` gives the number, or None where it does not apply; it is wrong beyond `threshold` (below it where `least` is set).

    `finding` says the number in words ({value} is the number; {which} what `which` says it is of), `advice` what to do, `reason` why the
    threshold lies there.
    """

    name: str
    measure: Callable[[Facts], float | None]
    threshold: float
    finding: str
    advice: str
    reason: str
    least: bool = False
    which: Callable[[Facts], str] = lambda facts: ""


CHECKS = (
    Check(
        "documents on both sides",
        lambda facts: facts["overlap"]["documents"] if facts["overlap"] else None,
        0,
        "held-out documents that stand in the training text, word for word: {value:,.0f}",
        "prepare the corpus again; `bertlab prepare` never does this, so the folder was put together by hand",
        "a model measured on what it was trained on is not measured",
    ),
    Check(
        "held-out text",
        lambda facts: facts["heldout"]["documents"] if facts["heldout"] else 0,
        2,
        "documents held out: {value:,.0f}, so there is nothing to measure a model on",
        "give 20 documents or more (of files of a text a line, --document-end line makes one of each), and --heldout 0.05",
        "a next-sentence pair needs two documents",
        least=True,
    ),
    Check(
        "held-out sentences in the training text",
        lambda facts: _share(facts["overlap"]["long_in_train"], facts["overlap"]["long_sentences"]) if facts["overlap"] else None,
        0.05,
        "{value:.1%} of the held-out sentences of 10 tokens or more stand in the training text too: the held-out loss will flatter",
        "look for near-duplicate documents and boilerplate, remove them and prepare again",
        "a sentence of 10 tokens is rarely written twice by chance: two clean corpora have 0 % and 4 %",
    ),
    Check(
        "size",
        lambda facts: facts["train"]["tokens"],
        MILLION,
        "{value:,.0f} tokens to train on: enough to try the path, not for a model worth keeping",
        "add text, or go on from a published model: bertlab pretrain --model",
        "BERT saw 3.3 billion words; models are hardly compared below 10 million (BabyLM, Warstadt et al. 2023)",
        least=True,
    ),
    Check(
        "single-sentence documents",
        lambda facts: _share(_ones(facts["train"]["sentences_a_document"]), facts["train"]["documents"]),
        0.30,
        "{value:.1%} of the documents are one sentence: they cannot make true next-sentence pairs",
        "of short texts (tickets, posts, rows of a table) nothing: masked words are learnt all the same; of longer ones check what ends a "
        "document in text files (--document-end), --splitter and --language",
        "each such document forces a random pair, so that `random` is right too often to teach much; two clean corpora have 6 % and 0 %",
    ),
    Check(
        "next-sentence answers",
        lambda facts: max(pairs["majority"] for pairs in facts["pairs"]),
        0.75,
        "always giving the commoner next-sentence answer is right for {value:.1%} of the pairs",
        "longer documents; and longer pairs (--max-length) where sentences are long: a stretch of one sentence forces a random B",
        "the task is meant to be even and is half solved without reading at 75 %; two clean corpora have 65 % and 53 %",
    ),
    Check(
        "a repeated sentence",
        lambda facts: _commonest(facts)["share"] if _commonest(facts) else 0,
        0.001,
        'one sentence makes {value:.2%} of all sentences: "{which}"',
        "boilerplate is best removed before preparing",
        "a line that is always there is learnt by heart; two clean corpora have 0.01 % and, a textbook's heading, 0.15 %",
        which=lambda facts: _shortened(_commonest(facts)["text"]),
    ),
    Check(
        "mark-up",
        lambda facts: sum(line["share"] for line in _marked_up(facts)),
        0.001,
        'at least {value:.2%} of all sentences hold the mark-up of HTML, as "{which}"',
        "prepare the text without its tags: take it out of the HTML first (BeautifulSoup's get_text, or html.parser of Python)",
        "tags are learnt as if they were words; counted is only what stands among the most frequent sentences, so there is more of it",
        which=lambda facts: _shortened(_marked_up(facts)[0]["text"]),
    ),
    Check(
        "repeated text",
        lambda facts: None if any(origin["weight"] > 1 for origin in facts["origins"]) else facts["repeated"]["again_share"],
        0.20,
        "{value:.1%} of the sentences stood before in the training text",
        "remove near-duplicate documents and repeated lines, then prepare again",
        "repeated text costs steps and is learnt by heart (Lee et al. 2022); two clean corpora have 0.01 % and 6 %",
    ),
    Check(
        "text beyond the longest pair",
        lambda facts: min((pairs["over_long_share"] for pairs in facts["pairs"]), default=0),
        0.10,
        "{value:.1%} of the text lies in sentences beyond what the longest pair holds, and is cut off at every visit",
        "check --splitter and --language: the ends of sentences were not found; or train with a longer --max-length",
        "so long a sentence is a mistake of the splitter or the source; two clean corpora have 0 % and 0.1 % at 512, 0.03 % and 2 % at 128",
    ),
    Check(
        "text left out of an epoch",
        lambda facts: max(pairs["left_out_share"] for pairs in facts["pairs"]),
        0.20,
        "{value:.1%} of the text is cut from the pairs of an epoch",
        "train with a longer --max-length, or split into shorter sentences",
        "a pair is filled until it overflows, then cut, which at 128 costs two clean corpora 3 % and 10 % of their text",
    ),
    Check(
        "short sentences",
        lambda facts: facts["train"]["tokens_a_sentence"]["median"],
        4,
        "half of the sentences have {value:.0f} tokens or fewer",
        "headings, lists or a table? Remove them, or check --splitter",
        "three tokens are a word or two and a full stop",
        least=True,
    ),
    Check(
        "long sentences",
        lambda facts: facts["train"]["tokens_a_sentence"]["median"],
        100,
        "half of the sentences have {value:.0f} tokens or more",
        "the splitter found no ends: another --language, or text without punctuation (then --splitter lines, if its lines are sentences)",
        "prose has 20 to 30 tokens a sentence",
    ),
    Check(
        "unknown tokens",
        lambda facts: max(facts["vocabulary"]["unknown_share"], facts["vocabulary"]["heldout_unknown_share"] or 0),
        0.01,
        "{value:.2%} of the tokens are unknown ([UNK])",
        "train a vocabulary on this text instead of taking another's (leave --tokenizer out), or take --kind bpe, which knows every byte",
        "a vocabulary trained on the text leaves next to none unknown (two clean corpora: 0.001 % and less); what is [UNK] is never learnt",
    ),
    Check(
        "tokens a word",
        lambda facts: facts["tokens_a_word"],
        2.5,
        "{value:.2f} tokens a word: words are spelt rather than known",
        "a larger --vocab-size, or a vocabulary trained on this text (in scripts without spaces the number says little)",
        "two clean corpora have 1.45 (8,192 pieces) and 1.26 (30,522); at 2.5 a pair of 128 tokens holds 50 words",
    ),
    Check(
        "unused vocabulary",
        lambda facts: facts["vocabulary"]["unused"] / max(1, facts["vocabulary"]["entries"]),
        0.30,
        "{value:.1%} of the vocabulary never occurs in the training text",
        "a vocabulary trained on this text, or a smaller --vocab-size: each unused entry is a row of weights that is never trained",
        "a vocabulary trained on the text leaves 4 to 5 % of two clean corpora's unused; another's leaves more",
    ),
    Check(
        "damaged bytes",
        lambda facts: _share(facts["filters"]["invalid_utf8_places"], facts["words"]),
        0.001,
        "{value:.2%} of the words, about, held bytes that are not UTF-8",
        "prepare again with the --encoding that the files have (cp1252 for Windows); convert those that have another (iconv)",
        "one word in 1,000 is no accident but another encoding",
    ),
    Check(
        "unreadable characters",
        lambda facts: _share(facts["read_back"]["unreadable"], facts["read_back"]["characters"]),
        0.0001,
        "{value:.3%} of the characters are U+FFFD, control or private-use characters",
        "find which source they come from and repair it: they are what is left of a failed conversion",
        "edited text has none",
    ),
    Check(
        "one source",
        lambda facts: facts["sources"]["sources"][0]["share"] if facts["sources"]["number"] > 1 else None,
        0.95,
        "one source gives {value:.1%} of the text: the others hardly count",
        "more of the other sources, or less of this one, if the mixture was meant",
        "at 95 % a model meets the other sources in one sentence of twenty",
    ),
)


def findings(facts: Facts) -> list[dict[str, Any]]:
    """Every check that applies, with its number: name, value, threshold, least, is_wrong, finding (None where
    nothing is wrong), advice, reason. Wrong ones first."""
    found = []
    for check in CHECKS:
        value = check.measure(facts)
        if value is None:
            continue
        is_wrong = value < check.threshold if check.least else value > check.threshold
        found.append(
            {
                "name": check.name,
                "value": value,
                "threshold": check.threshold,
                "least": check.least,
                "is_wrong": is_wrong,
                "finding": check.finding.format(value=value, which=check.which(facts)) if is_wrong else None,
                "advice": check.advice,
                "reason": check.reason,
            }
        )
    return sorted(found, key=lambda finding: not finding["is_wrong"])


def _often(facts: Facts) -> list[Facts]:
    return [line for line in facts["repeated"]["most_frequent"] if line["count"] >= FEW_TIMES]


def _commonest(facts: Facts) -> Facts:
    """The sentence that stands most often, of those that stand often at all; {} without one."""
    return max(_often(facts), key=lambda line: line["share"], default={})


def _marked_up(facts: Facts) -> list[Facts]:
    return [line for line in _often(facts) if MARK_UP.search(line["text"])]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _ones(lengths: Facts) -> int:
    """How many items of a distribution (bertlab/tokens/census.py) have length 1."""
    return next((count for first, last, count in lengths["bins"] if first == last == 1), 0)
