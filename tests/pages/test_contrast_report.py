"""The page of a run of contrast: its numbers are those of metrics.json and metrics.jsonl, and what its settings and texts say is text."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.config import save
from bertlab.disk import write_json
from bertlab.errors import CorruptError
from bertlab.pages.report import write_report
from bertlab.training.runlog import RunLog
from bertlab.verbs import contrast
from tests.pages.test_report import Page, leaves, page
from tests.security.test_shown import PAYLOADS, Parsed, steering

DEV = (0.1234567891, 0.4321, 0.71234567, 0.6543, 0.71234567)  # the third and the fifth are equal: the first of them is chosen


def made(
    folder: Path, *, said: str = "pairs", finished: bool = True, test: bool = True, score: str = "mrr", low: float | None = 0.2
) -> Path:
    """A run folder as contrast leaves it: 40 steps, five measurements."""
    folder.mkdir(parents=True)
    save(contrast.Config(model=said, corpus="my-corpus", out=str(folder)), folder / "config.yaml")
    log, history = RunLog(folder / "metrics.jsonl", -1), []
    for step in range(41):
        if step:
            record = {"losses": {"contrast": 3 - step / 20}, "loss": 3 - step / 20, "learning_rate": 1e-3 / step, "grad_norm": 0.7}
            log.write({"step": step, "tokens": 1000 + step, "seconds": 0.25, "skipped": step == 7, "batch": "ab", **record})
        if step % 10 == 0:
            history.append({"step": step, score: DEV[step // 10], "n": 30} | ({"recall@1": 0.5 + step / 1000} if score == "mrr" else {}))
            log.write({"step": step, "dev": history[-1]})
    log.close()
    if finished:
        before, after = ({name: value for name, value in history[place].items() if name != "step"} for place in (0, 2))
        found = {"what": said, "score": score, "before": before, "after": after, "difference": after[score] - before[score]}
        found |= {"low": low, "high": None if low is None else 0.8}
        found |= {"method": "none: every bootstrap sample gives the same value" if low is None else "bootstrap"}
        metrics: dict[str, Any] = {"texts": said, "rows": 4321, "steps": 40, "best": history[2], "dev": found, "history": history}
        write_json(folder / "metrics.json", metrics | ({"test": found | {"what": f"{said} of test"}} if test else {}))
    return folder


@pytest.mark.parametrize("score", ["mrr", "spearman"])
def test_every_number_is_that_of_the_folder_to_the_digit(tmp_path: Path, score: str) -> None:
    run = made(tmp_path / "run", score=score)
    shown, known = page(tmp_path, run).numbers, leaves(json.loads((run / "metrics.json").read_text()))
    assert {place: exact for place, (exact, _) in shown.items()} == {place: known[place] for place in shown}
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [record["dev"] for record in logged if "dev" in record]
    assert [shown[f"history.{place}.{score}"][0] for place in range(5)] == [each[score] for each in measured] == list(DEV)
    sides = [f"{split}.{side}.{score}" for split in ("test", "dev") for side in ("before", "after")]
    assert {*sides, "test.low", "dev.high", "test.difference", "dev.after.n"} <= set(shown)
    assert shown["test.difference"] == (known["test.difference"], "+0.589")


def test_a_page_says_in_words_what_came_of_it_and_marks_what_was_chosen(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, made(tmp_path / "run")).text.split())
    for words in (
        "MRR on test: 0.123 before, 0.712 after, trained on 4,321 rows of pairs in 40 steps; the weights are those of step 20",
        "above 0: the vectors are better",
        "20 (chosen)",
        "1 of 40 steps were skipped",
        "Learning rate",
        "All settings of the run",
        "test: pairs of test",
    ):
        assert words in text, words
    assert text.count("(chosen)") == 1 and "flatters" not in text
    for number, (low, test) in enumerate(((-0.1, True), (None, True), (0.2, False))):
        text = page(tmp_path, made(tmp_path / f"run{number}", low=low, test=test)).text
        assert ("it is not shown that the vectors are better" in text) == (low != 0.2) and ("flatters" in text) == (not test)
        assert ("no interval: every bootstrap sample" in text) == (low is None) and "- to -" not in text


def test_the_curves_hold_the_records_of_the_log(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", [made(tmp_path / "run")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    chart = text.partition("<h3>MRR on dev</h3>")[2].partition("</figure>")[0]
    assert chart.count("<circle") == 6, "five measurements, and the chosen one again"
    assert '<bdi>chosen</bdi></th><td><bdi>20</bdi></td><td><data value="0.71234567"' in chart
    speed = text.partition("<h3>Speed</h3>")[2].partition("</figure>")[0]
    assert 'value="4004.0"' in speed and 'value="4160.0"' in speed  # 1,001 and 1,040 tokens in a quarter of a second
    assert 'value="1.0"' in text.partition("<h3>Loss</h3>")[2].partition("</figure>")[0]


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = made(tmp_path / "run", finished=False)
    assert not write_report(tmp_path / "page.html", [run], refresh=30)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "not finished: step 40" in text and "20 (chosen)" in text and "refresh content=30" in text and "history.4.mrr" in text
    (run / "metrics.jsonl").unlink()
    assert "not finished: step 0" in page(tmp_path, run).text


def test_several_runs_stand_in_one_table_and_in_the_same_charts_whose_numbers_are_theirs(tmp_path: Path, bert: Path) -> None:
    runs = [
        made(tmp_path / "first"),
        made(tmp_path / "second", test=False, said="other pairs"),
        made(tmp_path / "scored", score="spearman", low=None),
        made(tmp_path / "going-on", finished=False),
    ]
    assert not write_report(tmp_path / "page.html", [bert, *runs], refresh=30)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = Page(text).numbers
    for run, split, score in ((runs[0], "test", "mrr"), (runs[1], "dev", "mrr"), (runs[2], "test", "spearman")):
        known = leaves(json.loads((run / "metrics.json").read_text()))
        of_it = {place.removeprefix(f"{run.name}."): exact for place, (exact, _) in shown.items() if place.startswith(f"{run.name}.")}
        assert of_it == {place: known[place] for place in of_it}
        sides = {f"{split}.{side}" for side in (f"before.{score}", f"after.{score}", "difference", "after.n")}
        assert sides | {f"best.{score}", "best.step", "rows"} <= set(of_it)
    assert shown["going-on.best.mrr"][0] == DEV[2] and "going-on.rows" not in shown
    plain = " ".join(Page(text).text.split())
    assert "no interval: every bootstrap sample gives the same value" in plain and "- to -" not in plain and "+0.200 to +0.800" in plain
    assert "1 of pretraining, 4 of contrast" in text and "not finished" in text and "refresh content=30" in text
    loss, dev = (text.partition(f"<h3>{title}</h3>")[2].partition("</figure>")[0] for title in ("Loss", "MRR on dev"))
    assert [f'<li class="c{place}">{run.name}</li>' in loss for place, run in enumerate(runs)] == [True] * 4
    assert dev.count("<circle") == 15 and "scored" not in dev, "five measurements of each that is chosen by MRR"
    different = text.rpartition("<h2>Settings that differ</h2>")[2]
    assert "other pairs" in different and "my-corpus" not in different and str(tmp_path) not in different.partition("</section>")[0]


def test_a_damaged_run_ends_in_one_line(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for damage in ('{"dev": 3}', "[1]", '{"dev": {"low": "a"}, "best": {}}'):
        (run / "metrics.json").write_text(damage)
        with pytest.raises(CorruptError) as caught:
            write_report(tmp_path / "page.html", [run])
        assert "\n" not in str(caught.value) and str(run) in str(caught.value)


def test_60_hostile_strings_change_no_mark_up(tmp_path: Path) -> None:
    plain: Parsed | None = None
    for number, payload in enumerate(["x", *PAYLOADS]):
        run = made(tmp_path / str(number) / "x", said=payload)
        named = run if payload == "x" else run.rename(run.with_name(payload.translate({0: None, ord("/"): "|"})[:40]))
        write_report(tmp_path / "page.html", [named])
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        parsed = Parsed(text)
        plain = plain or parsed
        assert parsed.elements == plain.elements and parsed.other == [] and steering(text) == set(), payload
    assert Page(text).text
