"""What bertlab tune says of its trials: a table, the best first, and how little dev may tell between them."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertlab.pages.screen import metric_words, table

SHOWN = 10


def trial_lines(
    lines: Sequence[dict[str, Any]],
    search: Mapping[str, Any],
    metric: str,
    intervals: Mapping[str, Any],
    path: Sequence[str],
    examples: int,
) -> list[str]:
    """lines: of trials.jsonl, and `search` what metrics.json says of them. intervals: of the chosen model's scores on its `examples` of
    dev, `path` that of the `metric` in them."""
    winner = search["chosen"]
    finished = sorted((line for line in lines if line["score"] is not None), key=lambda line: (-line["score"], line["trial"]))
    finished.remove(winner)
    rows = [
        [
            f"{line['trial']}",
            f"{line['learning_rate']:g}",
            f"{line['batch_size']}",
            f"{line['epochs']}",
            f"{line['score']:.3f}" + ("" if line["sd"] is None else f" (sd {line['sd']:.3f})"),
        ]
        for line in [winner, *finished][:SHOWN]
    ]
    tried = f"tried      {len(lines):,} settings" + (f", of which {search['failed']:,} diverged" if search["failed"] else "")
    tried += f"; dev {metric_words(metric)}: mean {search['mean']:.3f}" + ("" if search["sd"] is None else f", sd {search['sd']:.3f}")
    words = [table(["trial", "rate", "batch", "epochs", f"dev {metric_words(metric)}"], rows), tried]
    words.append(
        f"dev        {metric_words(metric)} {winner['score']:.3f}: the best of {len(lines):,} on {examples:,} examples, and so optimistic:"
        " only the test score was not chosen by"
    )
    interval: Any = intervals
    for name in path:
        interval = interval[name]
    if interval["low"] is not None:
        words.append(
            f"           {intervals['level']:.0%} interval {interval['low']:.3f} to {interval['high']:.3f}, the choice not counted;"
            f" {search['reaching']:,} of the {len(finished):,} others reach into it"
        )
    return words
