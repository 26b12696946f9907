"""What `bertlab corpus` found, for a person: text for a terminal, and one page that asks for nothing else.

Both show the same facts (bertlab/verbs/corpus.py) and compute none. The page has no script and no link that loads; whatever stands in
the corpus is shown as text: escaped, on one line, with control characters and direction marks made visible.
"""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from bertlab.pages.html import document, element, join, soft
from bertlab.pages.html import table as html_table
from bertlab.pages.screen import inert, table

Facts = dict[str, Any]

BAR_CHARACTERS = 30
ONE_BY_ONE = 8  # sources; of more, those of one file stand in one row, as the files have a table of their own
SOURCES_SHOWN = 20  # the largest; of files as many are in the facts (bertlab/tokens/census.py)
LEAST_SHARE, FEWEST_FILES = 0.01, 3  # of many files those of a share are named, and a few in any case
SHOWN_ON_SCREEN = 3  # pairs, documents; the page shows all

# --- words that both share ----------------------------------------------------------------------------------------------------------------

Table = tuple[str, list[str], list[list[str]], str]  # heading, columns, rows, a note


def percent(share: float) -> str:
    """A share in per cent, with a third digit where two would be all there is to see: "12.34 %", "0.014 %"."""
    return f"{100 * share:.2f} %" if share >= 0.001 or not share else f"{100 * share:.4f} %"


def tables(facts: Facts) -> list[Table]:
    """Every table of numbers, in the order of the walk: text in, splits, sources, pairs, vocabulary, repeats."""
    return [
        _splits(facts),
        _filters(facts),
        _origins(facts),
        _sources(facts),
        _pairs(facts),
        _vocabulary(facts),
        _words(facts),
        _repeated(facts),
        _overlap(facts),
    ]


def _splits(facts: Facts) -> Table:
    splits = {"train": facts["train"]} | ({"held out": facts["heldout"]} if facts["heldout"] else {})
    rows = [[name, *(f"{split[unit]:,}" for unit in ("documents", "sentences", "tokens"))] for name, split in splits.items()]
    note = (
        f"{facts['words']:,} words (what stands between white space), {facts['tokens_a_word']:.3f} tokens a word"
        + "; nothing is held out" * (not facts["heldout"])
    )
    return "Size", ["split", "documents", "sentences", "tokens"], rows, note


def _filters(facts: Facts) -> Table:
    filters = facts["filters"]
    rows = [["read", f"{filters['in']:,}"], ["kept", f"{filters['kept']:,}"]]
    rows += [[f"dropped: {reason}", f"{number:,}"] for reason, number in filters["dropped"].items()]
    changed = [*filters.get("changed", {}).items(), ("places not UTF-8", filters["invalid_utf8_places"])]
    note = "Changed: " + ", ".join(f"{number:,} {name}" for name, number in changed) + "."
    if skipped := filters.get("skipped_files"):
        note += " Files left out by --skip: " + ", ".join(f"{number:,} {pattern}" for pattern, number in skipped.items()) + "."
    return "Documents read, kept and dropped", ["", "documents"], rows, note


def _origins(facts: Facts) -> Table:
    origins = _together(facts["origins"])
    if len(origins) > SOURCES_SHOWN:
        origins = sorted(origins, key=lambda origin: -origin["bytes"])
    rest = origins[SOURCES_SHOWN:]
    files, kept = sum(origin["files"] for origin in rest), sum(origin["documents"]["kept"] for origin in rest if origin["documents"])
    note = f"and {len(rest):,} more sources of {files:,} files, {kept:,} documents kept" if rest else ""
    rows = [
        [
            origin["name"],
            origin["licence"] or "not stated",
            f"{origin['files']:,}",
            f"{origin['bytes']:,}",
            *([f"{origin['documents']['in']:,}", f"{origin['documents']['kept']:,}"] if origin["documents"] else ["", ""]),
            f"{origin['weight']:g}",
        ]
        for origin in origins[:SOURCES_SHOWN]
    ]
    return "Where it comes from", ["source", "licence", "files", "bytes", "documents", "kept", "weight"], rows, note


def _together(origins: list[Facts]) -> list[Facts]:
    """The sources, where there are many those of one file together that have a licence and a weight in common."""
    if len(origins) <= ONE_BY_ONE:
        return origins
    groups: dict[Any, list[Facts]] = {}
    for place, origin in enumerate(origins):
        alike = (origin["licence"], origin["weight"]) if origin["files"] == 1 else place
        groups.setdefault(alike, []).append(origin)
    return [group[0] if len(group) == 1 else _one_of(group) for group in groups.values()]


def _one_of(group: list[Facts]) -> Facts:
    counts = [origin["documents"] for origin in group]
    return group[0] | {
        "name": f"{len(group):,} sources of one file",
        "files": len(group),
        "bytes": sum(origin["bytes"] for origin in group),
        "documents": {unit: sum(each[unit] for each in counts) for unit in ("in", "kept")} if all(counts) else None,
    }


def _sources(facts: Facts) -> Table:
    shown, number = facts["sources"]["sources"], facts["sources"]["number"]
    if number > len(shown):
        shown = [source for place, source in enumerate(shown) if place < FEWEST_FILES or source["share"] >= LEAST_SHARE]
    rows = [[source["name"], f"{source['documents']:,}", f"{source['tokens']:,}", percent(source["share"])] for source in shown]
    documents, tokens = (facts["train"][unit] - sum(source[unit] for source in shown) for unit in ("documents", "tokens"))
    share = percent(tokens / max(1, facts["train"]["tokens"]))
    note = f"and {number - len(rows):,} more files, {documents:,} documents, {share} of the tokens" if number > len(rows) else ""
    return "Training text by file", ["file", "documents", "tokens", "share"], rows, note


def _pairs(facts: Facts) -> Table:
    lengths = facts["pairs"]
    measures: list[tuple[str, str]] = [
        ("pairs", "pairs"),
        ("mean tokens of a pair", "mean_length"),
        ("tokens of text in them", "text_tokens"),
        ("... of the corpus's tokens", "text_share"),
        ("tokens in no pair (cut off)", "left_out"),
        ("... of the corpus's tokens", "left_out_share"),
        ("sentences longer than a pair holds", "long_sentences"),
        ("their tokens beyond it", "over_long"),
        ("... of the corpus's tokens", "over_long_share"),
        ("pairs whose B is random", "random_share"),
        ("... because the chunk is one sentence", "forced_share"),
        ("right by always the commoner answer", "majority"),
    ]
    rows = [[words, *(_number(pairs[name], name) for pairs in lengths)] for words, name in measures]
    ones = next((count for first, last, count in facts["train"]["sentences_a_document"]["bins"] if first == last == 1), 0)
    note = (
        f"One epoch of seed {facts['seed']}. {ones:,} documents are a single sentence and make random pairs only. "
        "A random B is text seen a second time, so an epoch holds more tokens than the corpus."
    )
    return "Pairs of one epoch", ["longest pair", *(f"{pairs['max_length']:,}" for pairs in lengths)], rows, note


def _vocabulary(facts: Facts) -> Table:
    vocabulary = facts["vocabulary"]
    unused = vocabulary["unused"] / max(1, vocabulary["entries"])
    rows = [
        ["entries, special ones left out", f"{vocabulary['entries']:,}", ""],
        ["never in the training text", f"{vocabulary['unused']:,}", percent(unused)],
        ["unknown tokens in train", f"{vocabulary['unknown']:,}", percent(vocabulary["unknown_share"])],
    ]
    if vocabulary["heldout_unknown"] is not None:
        rows.append(["unknown tokens held out", f"{vocabulary['heldout_unknown']:,}", percent(vocabulary["heldout_unknown_share"])])
    rows += [[f"tokens covered by the {int(top):,} most frequent", "", percent(share)] for top, share in vocabulary["covered"].items()]
    return "Vocabulary", ["", "number", "share"], rows, ""


def _words(facts: Facts) -> Table:
    read_back = facts["read_back"]
    split = "held-out" if read_back["split"] == "heldout" else "training"
    unreadable = f"{read_back['unreadable']:,} of its {read_back['characters']:,} characters are unreadable."
    if not read_back["compared"]:  # alone its tokens a word would only differ from those of the text
        return "Read back", [], [], f"Of {read_back['words']:,} words of {split} text decoded from its tokens: {unreadable}"
    named = [("this corpus's", read_back["own"]), (read_back["compared_with"], read_back["compared"])]
    rows = [
        [
            name,
            f"{encoded['vocab_size']:,}",
            f"{encoded['tokens']:,}",
            f"{encoded['tokens_a_word']:.3f}",
            percent(encoded["unknown_share"]),
        ]
        for name, encoded in named
    ]
    note = (
        f"Measured on {read_back['words']:,} words of {split} text decoded from its tokens, which is not the text itself (the number under "
        "Size is of that): an uncased vocabulary has levelled case and accents, the decoder spaces punctuation its own way, unknown tokens "
        f"are left out. {unreadable}"
    )
    return "Tokens a word", ["vocabulary", "entries", "tokens", "tokens a word", "unknown"], rows, note


def _repeated(facts: Facts) -> Table:
    repeated = facts["repeated"]
    rows = [[sentence["text"], f"{sentence['count']:,}", percent(sentence["share"])] for sentence in repeated["most_frequent"]]
    note = f"{percent(repeated['again_share'])} of the sentences stood before; {repeated['different']:,} are different"
    if repeated["counted_share"] < 1:
        note += f" (estimated from {percent(repeated['counted_share'])} of the different ones, chosen by their hash)"
    if repeated["short_by"]:
        note += f"; each count may be up to {repeated['short_by']:,} too low"
    return "Most frequent sentences", ["sentence", "times", "share"], rows, note + "."


def _overlap(facts: Facts) -> Table:
    overlap = facts["overlap"]
    if not overlap:
        return "Held-out text in the training text", ["held out", "all", "also in train", "share"], [], "Nothing is held out."
    documents = facts["heldout"]["documents"]
    rows = [["documents", f"{documents:,}", f"{overlap['documents']:,}", percent(overlap["documents"] / max(1, documents))]]
    for words, all_of, both in (
        ("sentences", "sentences", "in_train"),
        ("sentences of 10 tokens or more", "long_sentences", "long_in_train"),
    ):
        rows.append([words, f"{overlap[all_of]:,}", f"{overlap[both]:,}", percent(overlap[both] / max(1, overlap[all_of]))])
    counted = overlap["counted_share"]
    note = f"Sentences: {percent(counted)} of the different ones, chosen by their hash." if counted < 1 else ""
    return "Held-out text in the training text", ["held out", "all", "also in train", "share"], rows, note


def _number(value: float, name: str) -> str:
    if name.endswith("share") or name == "majority":
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


CHARTS = (
    ("Sentences a document", "sentences_a_document"),
    ("Tokens a sentence", "tokens_a_sentence"),
    ("Tokens a document", "tokens_a_document"),
)


def _summary(lengths: Facts) -> str:
    return (
        f"mean {lengths['mean']:,.1f}, median {lengths['median']:,}, 95 of 100 up to {lengths['percentile_95']:,}, "
        f"longest {lengths['largest']:,}"
    )


def _bin(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def _limit(finding: Facts) -> str:
    return f"{'at least' if finding['least'] else 'at most'} {_amount(finding['threshold'])}"


def _amount(value: float) -> str:
    """A number of any size with up to 6 digits that count: 0.001, 0.06353, 1,000,000."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


# --- the terminal -------------------------------------------------------------------------------------------------------------------------


def screen(facts: Facts) -> str:
    """What the terminal shows: what is wrong, all numbers, a few samples; the last line, where the eye is, says how much is wrong."""
    wrong = [finding for finding in facts["findings"] if finding["is_wrong"]]
    lines = [
        f"{number}. {inert(finding['finding'])}\n   what to do: {inert(finding['advice'])}\n"
        f"   {_limit(finding)}, because {inert(finding['reason'])}"
        for number, finding in enumerate(wrong, start=1)
    ]
    checked = f"{len(facts['findings'])} checks, {len(wrong)} warning{'s' * (len(wrong) != 1)}"
    parts = [
        f"corpus {inert(facts['corpus'])}  (manifest sha256 {facts['sha256'][:12]})",
        _block(checked, "\n".join(lines) or "nothing to warn of"),
    ]
    for heading, columns, rows, note in tables(facts):
        shown = [[_clipped(row[0], 60), *row[1:]] for row in rows]
        parts.append(_block(heading, "\n".join(filter(None, [table(columns, shown) if rows else "", inert(note)]))))
    for heading, name in CHARTS:
        parts.append(_block(f"{heading}, train", _bars(facts["train"][name]) + "\n" + _summary(facts["train"][name])))
    documents = [f"{_clipped(_name(sample), 70)}\n    {_clipped(sample['text'], 130)}" for sample in facts["sample_documents"]]
    if documents:
        parts.append(_block("Documents drawn at random", "\n".join(documents[:SHOWN_ON_SCREEN])))
    pairs = [f"{_answer(pair)}\n    {_marked(pair)}" for pair in facts["sample_pairs"]]
    if pairs:
        parts.append(_block("Pairs as the model sees them, [seen=to predict]", "\n".join(pairs[:SHOWN_ON_SCREEN])))
    return "\n\n".join([*parts, checked + (": at the top" if wrong else "")])


def _block(heading: str, body: str) -> str:
    return f"{heading.upper()}\n{body}"


def _bars(lengths: Facts) -> str:
    most = max((count for _, _, count in lengths["bins"]), default=1)
    labels = [_bin(first, last) for first, last, _ in lengths["bins"]]
    width = max(map(len, labels), default=0)
    return "\n".join(
        f"{label.rjust(width)}  {'#' * round(BAR_CHARACTERS * count / most):<{BAR_CHARACTERS}}  {count:,}"
        for label, (_, _, count) in zip(labels, lengths["bins"], strict=True)
    )


def _clipped(text: str, characters: int) -> str:
    text = inert(text)
    return text if len(text) <= characters else text[: characters - 3] + "..."


def _name(sample: Facts) -> str:
    return f"{sample['id']} ({sample['source']}; {sample['sentences']:,} sentences, {sample['tokens']:,} tokens)"


def _answer(pair: Facts) -> str:
    return f"B {'follows A' if pair['follows'] else 'is from another document'}"


def _marked(pair: Facts) -> str:
    hidden = dict(map(tuple, pair["masked"]))
    return " ".join(f"[{inert(piece)}={inert(hidden[n])}]" if n in hidden else inert(piece) for n, piece in enumerate(pair["pieces"]))


# --- the page -----------------------------------------------------------------------------------------------------------------------------


def page(facts: Facts) -> str:
    """The whole page, warnings first."""
    title = f"Corpus {facts['corpus']}"
    return document(
        title,
        element("h1", title),
        soft(f"bertlab {facts['bertlab']}, manifest sha256 {facts['sha256']}"),
        *sections(facts),
        element("h2", f"{len(facts['sample_documents'])} documents drawn at random"),
        *map(_document, facts["sample_documents"]),
        element("h2", f"{len(facts['sample_pairs'])} pairs as the model sees them"),
        soft(f"The first of seed {facts['seed']}. Marked: a token to predict, as seen, then what stood there. Underlined: B."),
        *map(_pair, facts["sample_pairs"]),
        _checks(facts["findings"]),
    )


def sections(facts: Facts) -> list[Markup]:
    """What is wrong, and every table and chart."""
    wrong = [finding for finding in facts["findings"] if finding["is_wrong"]]
    every, charts = tables(facts), [_chart(heading, facts["train"][name]) for heading, name in CHARTS]
    return [
        element("h2", f"{len(facts['findings'])} checks, {len(wrong)} warning{'s' * (len(wrong) != 1)}"),
        *[
            element(
                "div",
                element("p", element("b", finding["finding"])),
                element("p", f"What to do: {finding['advice']}"),
                soft(f"{_limit(finding)}, because {finding['reason']}"),
                class_="wrong",
            )
            for finding in wrong
        ],
        _html_table(*every[0]),
        element("h2", "Lengths in the training text"),
        element("div", *charts, class_="charts"),
        *[_html_table(*each) for each in every[1:]],
    ]


def _html_table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> Markup:
    return join(element("h2", heading), html_table(columns, rows, heading) if rows else None, soft(note) if note else None, between="\n")


def _chart(heading: str, lengths: Facts) -> Markup:
    """Horizontal bars, a bin a line: label, bar, count."""
    height, left, width = 18, 104, 140
    most = max((count for _, _, count in lengths["bins"]), default=1)
    lines = []
    for row, (first, last, count) in enumerate(lengths["bins"]):
        middle = row * height + 13
        long = width * count / most
        lines += [
            element("text", _bin(first, last), x=left - 6, y=middle, text_anchor="end"),
            element("rect", x=left, y=row * height + 3, width=f"{long:.1f}", height=height - 6),
            element("text", f"{count:,}", x=f"{left + long + 5:.1f}", y=middle),
        ]
    box = f"0 0 {left + width + 70} {height * max(1, len(lengths['bins']))}"
    drawn = element("svg", *lines, viewBox=box, role="img", aria_label=f"{heading}: {_summary(lengths)}")
    return element("div", element("h3", heading), drawn, soft(_summary(lengths)))


def _document(sample: Facts) -> Markup:
    text = join(sample["text"], "" if sample["is_whole"] else " ...")
    return element("div", soft(element("bdi", _name(sample))), element("p", text, dir="auto"), class_="text")


def _pair(pair: Facts) -> Markup:
    hidden = dict(map(tuple, pair["masked"]))
    pieces = []
    for place, piece in enumerate(pair["pieces"]):
        shown = element("bdi", piece)
        if place in hidden:
            shown = element("mark", shown, " ", element("small", hidden[place]))
        elif place in (0, pair["second"] - 1, len(pair["pieces"]) - 1):
            shown = element("b", shown)
        pieces.append(shown)
    first, second = join(*pieces[: pair["second"]], between=" "), join(*pieces[pair["second"] :], between=" ")
    text = element("p", first, " ", element("span", second, class_="second"), class_="pair")
    return element("div", soft(_answer(pair)), text, class_="text")


def _checks(findings: Sequence[Facts]) -> Markup:
    rows = [
        [
            finding["name"],
            _amount(finding["value"]),
            _limit(finding),
            "warning" if finding["is_wrong"] else "passed",
        ]
        for finding in findings
    ]
    return _html_table("Every check", ["check", "number", "wanted", ""], rows, "Shares are written as numbers from 0 to 1.")
