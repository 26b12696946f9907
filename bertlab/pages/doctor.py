"""What `bertlab corpus` found, for a person: text for a terminal, and one page that asks for nothing else.

Both show the same facts (bertlab/verbs/corpus.py) and compute none. The page has no script and no link that loads; whatever stands in
the corpus is shown as text: escaped, on one line, with control characters and direction marks made visible.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from bertlab.pages.screen import inert, table

Facts = dict[str, Any]

BAR_CHARACTERS = 30
SHOWN_ON_SCREEN = 3  # pairs, documents; the page shows all

_STYLE = """
:root { color-scheme: light dark; --line: #d8d8d8; --soft: #6a6a6a; --bar: #4a7db5; --wrong: #fdf1dc; --edge: #c77d0a; --mark: #fbe7a1; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3c3c3c; --soft: #a0a0a0; --bar: #6ea3dc; --wrong: #33280f; --edge: #d99a3a; --mark: #5c4a10; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { text-align: right; padding: .25rem 0 .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 6.5rem; }
th { color: var(--soft); font-weight: 600; }
.wrong { background: var(--wrong); border-left: 4px solid var(--edge); padding: .5rem .8rem; margin: .6rem 0; border-radius: 0 4px 4px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0 1.5rem; }
svg { width: 100%; height: auto; display: block; max-width: 26rem; } svg text { fill: currentColor; font-size: 11px; }
svg rect { fill: var(--bar); }
.text { border-top: 1px solid var(--line); padding: .5rem 0; } .pair { font-size: .875rem; line-height: 1.9; }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 .2em; } mark small { opacity: .8; }
.second { border-bottom: 2px solid var(--bar); }
@media (max-width: 30rem) {
  table { font-size: .8rem; } th, td { padding-left: .4rem; } th:first-child, td:first-child { min-width: 4rem; }
}
"""


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
    note = f"{facts['words']:,} words, {facts['tokens_a_word']:.3f} tokens a word" + "; nothing is held out" * (not facts["heldout"])
    return "Size", ["split", "documents", "sentences", "tokens"], rows, note


def _filters(facts: Facts) -> Table:
    filters = facts["filters"]
    rows = [["read", f"{filters['in']:,}"], ["kept", f"{filters['kept']:,}"]]
    rows += [[f"dropped: {reason}", f"{number:,}"] for reason, number in filters["dropped"].items()]
    changed = [*filters.get("changed", {}).items(), ("places not UTF-8", filters["invalid_utf8_places"])]
    note = "Changed: " + ", ".join(f"{number:,} {name}" for name, number in changed) + "."
    return "Documents read, kept and dropped", ["", "documents"], rows, note


def _origins(facts: Facts) -> Table:
    rows = [
        [
            origin["name"],
            origin["licence"] or "not stated",
            f"{origin['files']:,}",
            f"{origin['bytes']:,}",
            *([f"{origin['documents']['in']:,}", f"{origin['documents']['kept']:,}"] if origin["documents"] else ["", ""]),
            f"{origin['weight']:g}",
        ]
        for origin in facts["origins"]
    ]
    return "Where it comes from", ["source", "licence", "files", "bytes", "documents", "kept", "weight"], rows, ""


def _sources(facts: Facts) -> Table:
    sources = facts["sources"]
    rows = [
        [source["name"], f"{source['documents']:,}", f"{source['tokens']:,}", percent(source["share"])] for source in sources["sources"]
    ]
    others = sources["number"] - len(rows)
    return "Training text by file", ["file", "documents", "tokens", "share"], rows, f"and {others:,} smaller ones" if others else ""


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
    named = [("this corpus's", read_back["own"])]
    if read_back["compared"]:
        named.append((read_back["compared_with"], read_back["compared"]))
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
    split = "held-out" if read_back["split"] == "heldout" else "training"
    note = (
        f"Measured on {read_back['words']:,} words of {split} text decoded from its tokens, which is not the text itself: "
        "an uncased vocabulary has levelled case and accents, the decoder spaces punctuation its own way, unknown tokens are left out. "
        f"{read_back['unreadable']:,} of its {read_back['characters']:,} characters are unreadable."
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
    """What the terminal shows: all numbers, a few samples, the warnings last, where the eye is."""
    parts = [f"corpus {inert(facts['corpus'])}  (manifest sha256 {facts['sha256'][:12]})"]
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
    wrong = [finding for finding in facts["findings"] if finding["is_wrong"]]
    lines = [
        f"{number}. {inert(finding['finding'])}\n   what to do: {inert(finding['advice'])}\n"
        f"   {_limit(finding)}, because {inert(finding['reason'])}"
        for number, finding in enumerate(wrong, start=1)
    ]
    checked = f"{len(facts['findings'])} checks, {len(wrong)} warning{'s' * (len(wrong) != 1)}"
    return "\n\n".join([*parts, _block(checked, "\n".join(lines) or "nothing to warn of")])


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
    return f"micro-batch {pair['micro_batch']}: B {'follows A' if pair['follows'] else 'is from another document'}"


def _marked(pair: Facts) -> str:
    hidden = dict(map(tuple, pair["masked"]))
    return " ".join(f"[{inert(piece)}={inert(hidden[n])}]" if n in hidden else inert(piece) for n, piece in enumerate(pair["pieces"]))


# --- the page -----------------------------------------------------------------------------------------------------------------------------


def page(facts: Facts) -> str:
    """The whole page, warnings first."""
    wrong = [finding for finding in facts["findings"] if finding["is_wrong"]]
    title = f"Corpus {_safe(facts['corpus'])}"
    body = [
        f"<h1>{title}</h1>",
        f"<p class=soft>bertlab {_safe(facts['bertlab'])}, manifest sha256 {_safe(facts['sha256'])}</p>",
        f"<h2>{len(facts['findings'])} checks, {len(wrong)} warning{'s' * (len(wrong) != 1)}</h2>",
        *[
            f"<div class=wrong><p><b>{_safe(finding['finding'])}</b></p><p>What to do: {_safe(finding['advice'])}</p>"
            f"<p class=soft>{_safe(_limit(finding))}, because {_safe(finding['reason'])}</p></div>"
            for finding in wrong
        ],
    ]
    every, charts = tables(facts), [_chart(heading, facts["train"][name]) for heading, name in CHARTS]
    body += [_html_table(*every[0]), "<h2>Lengths in the training text</h2>", f"<div class=charts>{''.join(charts)}</div>"]
    body += [_html_table(*each) for each in every[1:]]
    body += [f"<h2>{len(facts['sample_documents'])} documents drawn at random</h2>", *map(_document, facts["sample_documents"])]
    body += [
        f"<h2>{len(facts['sample_pairs'])} pairs as the model sees them</h2>",
        f"<p class=soft>The first of seed {facts['seed']}. Marked: a token to predict, as seen, then what stood there. Underlined: B.</p>",
        *map(_pair, facts["sample_pairs"]),
        _checks(facts["findings"]),
    ]
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width, initial-scale=1'>\n"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _safe(text: str) -> str:
    return escape(inert(text), quote=True)


def _html_table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    def cells(kind: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{kind}><bdi>{_safe(cell)}</bdi></{kind}>" for cell in row) + "</tr>"

    head, lines = cells("th", columns), "\n".join(cells("td", row) for row in rows)
    shown = f"<div class=wide><table>\n<thead>{head}</thead>\n<tbody>{lines}</tbody>\n</table></div>" if rows else ""
    return f"<h2>{_safe(heading)}</h2>\n{shown}" + (f"<p class=soft>{_safe(note)}</p>" if note else "")


def _chart(heading: str, lengths: Facts) -> str:
    """Horizontal bars, a bin a line: label, bar, count."""
    height, left, width = 18, 104, 140
    most = max((count for _, _, count in lengths["bins"]), default=1)
    lines = []
    for row, (first, last, count) in enumerate(lengths["bins"]):
        middle = row * height + 13
        long = width * count / most
        lines.append(
            f'<text x="{left - 6}" y="{middle}" text-anchor="end">{_bin(first, last)}</text>'
            f'<rect x="{left}" y="{row * height + 3}" width="{long:.1f}" height="{height - 6}"/>'
            f'<text x="{left + long + 5:.1f}" y="{middle}">{count:,}</text>'
        )
    box = f"0 0 {left + width + 70} {height * max(1, len(lines))}"
    drawn = f'<svg viewBox="{box}" role="img" aria-label="{_safe(heading)}">{"".join(lines)}</svg>'
    return f"<div><h3>{_safe(heading)}</h3>{drawn}<p class=soft>{_safe(_summary(lengths))}</p></div>"


def _document(sample: Facts) -> str:
    more = "" if sample["is_whole"] else " ..."
    return f"<div class=text><p class=soft><bdi>{_safe(_name(sample))}</bdi></p><p dir=auto>{_safe(sample['text'])}{more}</p></div>"


def _pair(pair: Facts) -> str:
    hidden = dict(map(tuple, pair["masked"]))
    pieces = []
    for place, piece in enumerate(pair["pieces"]):
        shown = f"<bdi>{_safe(piece)}</bdi>"
        if place in hidden:
            shown = f"<mark>{shown} <small>{_safe(hidden[place])}</small></mark>"
        elif place in (0, pair["second"] - 1, len(pair["pieces"]) - 1):
            shown = f"<b>{shown}</b>"
        pieces.append(shown)
    first, second = " ".join(pieces[: pair["second"]]), " ".join(pieces[pair["second"] :])
    return f"<div class=text><p class=soft>{_answer(pair)}</p><p class=pair>{first} <span class=second>{second}</span></p></div>"


def _checks(findings: Sequence[Facts]) -> str:
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
