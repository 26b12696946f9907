"""What bertlab compare says on a terminal: scores, differences, a verdict in plain words for each, and what p does and does not say."""

import textwrap
from typing import Any

from bertlab.pages.screen import counted, inert, metric_words, table

_OF_WHAT = {
    "McNemar exact": "of such test sets, were each equally likely to be the one that is right where only one is",
    "randomisation": "of reshuffles in which a coin decides which system gave which of the two answers",
    "jackknife": "of sets of as many texts of the same kind",
    "two-level bootstrap": "of repetitions with other seeds and other examples of the same kind",
}
_CORRECTION = {"holm": "Holm", "benjamini-hochberg": "Benjamini and Hochberg"}


def screen(facts: dict[str, Any]) -> str:
    """All that is printed, from the facts of bertlab/verbs/compare.py."""
    parts = [_scores(facts), _differences(facts), "\n".join(_verdicts(facts)), "\n".join(_closing(facts))]
    return "\n\n".join(parts)


def _level(facts: dict[str, Any]) -> str:
    return f"{100 * facts['level']:g} %"


def _scores(facts: dict[str, Any]) -> str:
    names = list(facts["systems"][0]["scores"])
    rows = [[system["name"], *(_score(system["scores"][name]) for name in names)] for system in facts["systems"]]
    kinds = {name: name for name in ("similarity", "retrieval", "clustering")}
    kinds |= {"regression": "numbers", "answers": "answers", "multi-label": f"{len(facts['classes'])} labels", "tokens": "tagged words"}
    of = f"{facts['n']:,} examples of {kinds.get(facts.get('task', ''), str(len(facts['classes'])) + ' classes')}"
    if facts["clusters"]:
        of += f" in {facts['clusters']['number']:,} clusters ({inert(facts['clusters']['column'])})"
    lines = [f"{len(rows)} systems on {of}", table(["system", *map(metric_words, names)], rows)]
    for system in facts["systems"]:
        if system["classes_never_seen"]:
            never = ", ".join(map(inert, system["classes_never_seen"]))
            lines.append(
                f"note: neither gold nor {inert(system['name'])} has {never}: its F1 is 0/0, counted as 0 and part of macro averages"
            )
    return "\n".join(lines)


def _score(score: dict[str, Any]) -> str:
    interval = score["interval"]
    if score["sd"] is not None:
        return f"{score['value']:.3f} (mean; sd {score['sd']:.3f})"
    return f"{score['value']:.3f} " + ("[?]" if interval["low"] is None else f"[{interval['low']:.3f}, {interval['high']:.3f}]")


def _differences(facts: dict[str, Any]) -> str:
    """A row a pair and metric, of one pair without its names; below it by which test each p is, which would make the rows too long."""
    corrected = facts["comparisons"] > 1 and facts["correction"] != "none"
    several, pairs = len(facts["pairs"]) > 1, [f"{pair['a']} - {pair['b']}" for pair in facts["pairs"]]
    header = ["A - B", "metric", "difference", f"{_level(facts)} interval", "p", *(["corrected p"] if corrected else [])]
    rows, tests = [], []
    for name, pair in zip(pairs, facts["pairs"], strict=True):
        for result in pair["metrics"]:
            row = [name, metric_words(result["metric"]), f"{result['difference']:+.4f}", _interval(result)]
            rows.append([*row, _p(result["p"]), *([_p(result["p_corrected"])] if corrected else [])])
        by = "; ".join(f"{metric_words(result['metric'])} by {_test(result)}" for result in pair["metrics"])
        tests.append(_filled(f"p of {inert(name)}: {by}." if several else f"p: {by}."))
    if several:
        return "\n".join([table(header, rows), *tests])
    return "\n".join([f"A - B: {inert(pairs[0])}", table(header[1:], [row[1:] for row in rows]), *tests])


def _filled(line: str) -> str:
    return textwrap.fill(line, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _test(result: dict[str, Any]) -> str:
    if "mcnemar" in result:
        test = result["mcnemar"]
        return f"McNemar exact (mid-p {_p(test['p_mid'])}; only A right {test['only_a']:,}, only B {test['only_b']:,})"
    if "p_two_level" in result:
        seeds = f"{len(result['seed_scores_a'])} and {counted(len(result['seed_scores_b']), 'seed')}"
        permuted = result["p_permutation_of_seeds"]
        return f"two-level bootstrap ({seeds}; permuted seeds alone {_p(permuted)})"
    if "p_bootstrap" not in result:
        return "jackknife, Student's t"
    return f"randomisation (bootstrap {_p(result['p_bootstrap'])})"


def _interval(result: dict[str, Any]) -> str:
    interval = result["interval"]
    return "none" if interval["low"] is None else f"[{interval['low']:+.4f}, {interval['high']:+.4f}]"


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


# --- verdicts ---------------------------------------------------------------------------------------------------------------------------


def _verdicts(facts: dict[str, Any]) -> list[str]:
    lines = []
    for pair in facts["pairs"]:
        a, b = inert(pair["a"]), inert(pair["b"])
        if pair.get("different_answers") == 0:
            lines.append(f"{a} and {b} give the same answer to all {facts['n']:,} examples: there is no difference to test.")
        else:
            lines += [verdict(facts, pair, result) for result in pair["metrics"]]
        if pair["settings"]:
            differ = ", ".join(f"{name} {_setting(one)} / {_setting(other)}" for name, (one, other) in pair["settings"].items())
            lines.append(f"Settings that differ, {a} / {b}: {differ}.")
    return [_filled(line) for line in lines]


def _setting(value: Any) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else inert(str(value))


def verdict(facts: dict[str, Any], pair: dict[str, Any], result: dict[str, Any]) -> str:
    """One result in words: what was found on this test set, and how often chance alone gives as much. No claim about the future."""
    methods = pair["claim_about"] == "methods"
    a, b = (("method " if methods else "") + inert(pair[side]) for side in "ab")
    metric, p = metric_words(result["metric"]), result["p_corrected"]
    interval = result["interval"]
    between = "no interval: every bootstrap sample gives the same" if interval["low"] is None else (
        f"{_level(facts)} interval {interval['low']:+.3f} to {interval['high']:+.3f}"
    )  # fmt: skip
    numbers = f"{result['a']:.3f} against {result['b']:.3f}, a difference of {result['difference']:+.3f} ({between})"
    chance = f"chance alone would give a difference this large in {_percent(result['p'])} {_OF_WHAT[result['test']]}"
    many = ""
    if facts["comparisons"] > 1 and facts["correction"] != "none":
        many = f" Corrected for {facts['comparisons']} comparisons ({_CORRECTION[facts['correction']]}) p is {_p(p)}."
    alpha = 1 - facts["level"]
    if p <= alpha + 1e-12:
        better = "better" if (result["difference"] > 0) != result.get("lower_is_better", False) else "worse"
        return f"{a} is {better} than {b} on this test set by {metric}: {numbers}; {chance}.{many}"
    passed_alone = result["p"] <= alpha + 1e-12
    opening = f"Not enough evidence among {facts['comparisons']} comparisons" if passed_alone else "No evidence"
    alone = " Alone this comparison would have passed." if passed_alone else ""
    return (
        f"{opening} of a difference between {a} and {b} in {metric}: {numbers}; {chance}.{many}{alone} "
        f"That is not evidence that they are equal.{_could_show(facts, result)}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 1e-4 else "less than 0.01 %"


def _could_show(facts: dict[str, Any], result: dict[str, Any]) -> str:
    """The smallest difference that this test set is likely to show, and how many more examples the one seen would take."""
    least, needed = result["power"]["smallest_difference"], result["power"]["examples_needed"]
    if _too_few(facts):
        return f" {counted(facts['clusters']['number'], 'cluster')} can show none."
    if least is None:
        if result["a"] == result["b"] == 0 and result["metric"].endswith(("f1", "accuracy", "match")):
            return " Both have none of it right, which more examples would hardly change: train longer, or look at dev's scores."
        return f" These {facts['n']:,} examples are too few to show any difference between systems that disagree so rarely."
    of = "examples and these seeds" if "p_two_level" in result else "examples"
    text = f" With power {100 * result['power']['power']:.0f} % these {facts['n']:,} {of} show a difference of {least:.3f} or more"
    if needed and needed > facts["n"]:
        text += f"; the one seen, if it is the true one, would take about {_about(needed - facts['n'])} examples more"
    return text + "."


def _about(number: int) -> str:
    """Two significant digits: it is an estimate."""
    return f"{float(f'{number:.2g}'):,.0f}"


# --- what it means ----------------------------------------------------------------------------------------------------------------------


def _too_few(facts: dict[str, Any]) -> bool:
    """Whether no difference could be found: of k clusters that are swapped whole, 2 of 2^k ways are as extreme as the most extreme."""
    return bool(facts["clusters"]) and 2.0 ** (1 - facts["clusters"]["number"]) > 1 - facts["level"]


def _closing(facts: dict[str, Any]) -> list[str]:
    kinds = {pair["claim_about"] for pair in facts["pairs"]}
    lines = [
        f"R = {facts['R']:,} resamples, n = {facts['n']:,}, seed {facts['seed']}, two-sided, intervals of {_level(facts)}.",
        "p says how often chance alone gives a difference at least this large where there is none. It is not the chance that the",
        "systems are equal; a lower p is stronger evidence against no difference, not a larger difference; a high p is no evidence",
        "that they are equal.",
    ]
    if any(result["metric"] in ("mcc", "macro_mcc") for pair in facts["pairs"] for result in pair["metrics"]):
        lines.append("MCC, Matthews' correlation of answers and labels, is 1 where all are right and 0 by lot or for one answer to all.")
    if "models" in kinds:
        lines.append(
            "A comparison of one file each is of two systems as they are: of trained ones another seed may give another order "
            "(compare several)."
        )
    if "methods" in kinds:
        lines.append("A comparison over seeds is of methods, as trained on this training set with these settings, on examples like these.")
        if any(1 in pair["seeds"] for pair in facts["pairs"] if pair["claim_about"] == "methods"):
            lines.append(
                "A system of one seed among them is taken as it is: how much another seed would change it is not in interval and p."
            )
    if _too_few(facts):
        number = facts["clusters"]["number"]
        lines.append(
            f"warning: {counted(number, 'cluster')} are too few: where chance swaps each of them whole, no p can be below "
            f"{2.0 ** (1 - number):.3g}, and intervals of so few are too narrow. Leave --cluster out, or take a finer column."
        )
    if any(score["interval"] and score["interval"]["low"] is None for system in facts["systems"] for score in system["scores"].values()):
        lines.append("[?]: every bootstrap sample gives the same score, which says nothing of how sure it is.")
    return lines
