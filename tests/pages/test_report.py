"""The report: every number is metrics.json's to the digit, texts of strangers are text, a run that goes on is shown as far as it is."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.disk import write_json
from bertlab.embedding import judging
from bertlab.errors import ConfigError, CorruptError
from bertlab.pages.html import document
from bertlab.pages.report import page_of, report_on, write_report

Make = Callable[..., Path]


class Page(HTMLParser):
    """Exact numbers by their place in metrics.json, elements with their attributes' names counted, text; what was opened is closed."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.numbers: dict[str, tuple[Any, str]] = {}
        self.elements: Counter[tuple[str, ...]] = Counter()
        self.ids: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self._of: tuple[str, Any] | None = None
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements[tag, *sorted(given)] += 1
        if tag not in self.VOID:
            self._open.append(tag)
        if "data-of" in given:
            self._of = given["data-of"] or "", json.loads(given["value"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data
        if self._of:
            self.numbers[self._of[0]], self._of = (self._of[1], data), None


def page(tmp_path: Path, *runs: Path, **more: Any) -> Page:
    write_report(tmp_path / "page.html", runs, **more)
    return Page((tmp_path / "page.html").read_text(encoding="utf-8"))


def leaves(value: Any, *path: str) -> dict[str, Any]:
    """Every number of metrics.json by its dotted place."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: leaf for key, inner in pairs for place, leaf in leaves(inner, *path, str(key)).items()}
    return {".".join(path): value} if isinstance(value, int | float) else {}


# --- numbers ------------------------------------------------------------------------------------------------------------------------------


def test_every_number_of_a_fine_tuning_is_that_of_metrics_json_to_the_digit(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    metrics = metrics_of(topics)
    shown, known = page(tmp_path, topics).numbers, leaves(metrics)
    from_file = {place: value for place, value in shown.items() if not place.startswith("mistakes.")}
    assert len(from_file) > 100
    for place, (exact, written) in from_file.items():
        assert exact == known[place] and type(exact) is type(known[place]), place
        otherwise = {"against_baseline.difference": f"{exact:+.3f}", "against_baseline.p": f"{exact:.4f}", "learning_rate": "2e-05"}
        assert written == otherwise.get(place, f"{exact:,d}" if isinstance(exact, int) else f"{exact:.3f}"), place
    first = [json.loads(line) for line in (topics / "mistakes.jsonl").read_text().splitlines()]
    assert [shown[f"mistakes.{row}.probability"][0] for row in range(5)] == [each["probability"] for each in first[:5]]


def test_nothing_that_a_reader_asks_of_a_fine_tuning_is_left_out(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    metrics, shown = metrics_of(topics), page(tmp_path, topics)
    wanted = [
        "learning_rate",
        "test.macro.f1",
        "test.accuracy",
        "test.mcc",
        "test_intervals.mcc.low",
        "test_intervals.mcc.high",
        "test_intervals.macro.f1.low",
        "over_seeds.macro_f1.sd",
        "seeds.1.dev.macro.f1",
    ]
    wanted += [f"test.per_class.{name}.{key}" for name in metrics["labels"] for key in ("precision", "recall", "f1", "support")]
    wanted += [f"test_intervals.per_class.{name}.f1.{end}" for name in metrics["labels"] for end in ("low", "high")]
    wanted += [f"test.confusion_matrix.{gold}.{other}" for gold in range(4) for other in range(4)]
    wanted += [f"baselines.{name}.{key}" for name in metrics["baselines"] for key in ("macro.f1", "accuracy", "mcc")]
    wanted += [f"against_baseline.{key}" for key in ("a", "b", "difference", "interval.low", "interval.high", "p", "R")]
    wanted += ["test_probabilities.roc_auc.macro", "test_probabilities.calibration.before.ece"]
    assert not set(wanted) - set(shown.numbers)
    wrong = [json.loads(line)["likely_label_error"] for line in (topics / "mistakes.jsonl").read_text().splitlines()]
    for words in (
        f"{len(wrong)} wrong, {sum(wrong)} of them to look at first (the model is sure of another label): read them in mistakes.jsonl.",
        "Reliability diagram",
        "Precision and recall",
        "Most confidently wrong",
        "of 1 of 4 labels",  # too weak to tell label errors
        "(chosen by dev)",
        "Leaks: none of 120 test texts",
    ):
        assert words in shown.text, words


def test_every_number_of_a_pretraining_is_that_of_its_facts(tmp_path: Path, bert: Path) -> None:
    facts, shown = json.loads((bert / "model" / "bertlab.json").read_text()), page(tmp_path, bert)
    known = leaves(facts)
    assert {place: exact for place, (exact, _) in shown.numbers.items()} == {place: known[place] for place in shown.numbers}
    assert {"heldout.mlm_loss", "heldout.unigram_loss", "heldout_start.nsp_accuracy", "parameters", "tokens_seen"} <= set(shown.numbers)
    assert shown.numbers["tokens_seen"] == (1_600_000, "1,600,000")


def test_a_pretraining_shows_its_curves_time_trouble_and_guesses(tmp_path: Path, bert: Path) -> None:
    shown = page(tmp_path, bert)
    text = " ".join(shown.text.split())
    for words in (
        "loss 7.100 at the start, 5.100 at its best, step 400",
        "better than knowing nothing but how frequent each token is (6.988)",
        f"bertlab replay --run {bert} --step 100",  # skipped
        f"bertlab replay --run {bert} --step 200",  # a spike
        "not finite",
        "computing steps196.081.7%",  # 400 steps of 0.5 s less 0.01 s of waiting, of 240 s
        "waiting for batches4.01.7%",
        "measuring on held-out text, saving, logging40.016.7%",
        "step 0step 100step 300step 400",
        "mill 25%river 25%",
        "documents read9,129",
    ):
        assert words in text, words
    assert sum(count for (tag, *_), count in shown.elements.items() if tag == "figure") == 10
    assert text.count("tokens") > text.count("hours") >= 2


def test_the_curve_against_tokens_ends_where_the_last_step_does(tmp_path: Path, bert: Path) -> None:
    write_report(tmp_path / "page.html", [bert])
    text = (tmp_path / "page.html").read_text()
    rows = re.findall(r'<bdi>training</bdi></th><td><bdi>([^<]*)</bdi></td><td><data value="([^"]*)"', text)
    last = json.loads((bert / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["step"] == 400 and ("1.6M", repr(last["losses"]["mlm_loss"])) in rows


def test_the_matrix_is_shaded_by_the_share_of_its_row(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    write_report(tmp_path / "page.html", [topics])
    shades = re.findall(
        r'<td class="h(\d)"><data value="(\d+)" data-of="test.confusion_matrix.(\d).(\d)">', (tmp_path / "page.html").read_text()
    )
    matrix = metrics_of(topics)["test"]["confusion_matrix"]
    assert len(shades) == 16 and len({sum(column) for column in zip(*matrix, strict=True)}) > 1
    for shade, count, gold, other in shades:
        assert int(count) == matrix[int(gold)][int(other)] and int(shade) == round(9 * int(count) / sum(matrix[int(gold)]))


# --- words --------------------------------------------------------------------------------------------------------------------------------


def test_a_page_of_dev_alone_has_no_mistakes_and_a_leak_stands_above_the_scores(
    tmp_path: Path, topics: Path, metrics_of: Any, make_finetuned: Make
) -> None:
    shown = page(tmp_path, make_finetuned(tmp_path / "dev", ["a", "b"], ["text"], n=40, seeds=1, tested=False))
    assert "so the number flatters" in shown.text and "dev.macro.f1" in shown.numbers and "Most confidently" not in shown.text
    metrics = metrics_of(topics)
    metrics["leakage"]["test"] |= {"equal": 2}
    shutil.copytree(topics, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    shown = page(tmp_path, tmp_path / "run")
    assert "warning: 2 of 120 test texts are in train too: 2 equal" in shown.text[: shown.text.index("Scores")]


def test_a_cross_validation_is_of_its_folds(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    metrics = metrics_of(topics)
    over = {name: {"mean": 0.4567891, "sd": 0.0123456} for name in ("macro_f1", "accuracy")}
    pooled = metrics["test"] | {"intervals": metrics["test_intervals"], "task": "single-label", "labels": metrics["labels"]}
    pooled |= {"folds": [{"fold": 0}, {"fold": 1}], "over_folds": over, "baselines": {"other": over}, "near_copies": 3}
    shutil.copytree(topics, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(pooled))
    shown = page(tmp_path, tmp_path / "run")
    assert "macro-F1 on 120 out-of-fold examples" in shown.text and "Over 2 folds: mean 0.457, standard deviation 0.012" in shown.text
    assert shown.numbers["baselines.other.macro_f1.mean"] == (0.4567891, "0.457") and "warning: 3 texts are nearly equal" in shown.text


def test_a_kind_of_run_that_has_no_page_is_said(tmp_path: Path, topics: Path) -> None:
    shutil.copytree(topics, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text('{"texts": "pairs", "best": {"step": 3}}')
    with pytest.raises(ConfigError, match="no page is drawn of this kind of run yet"):
        write_report(tmp_path / "page.html", [tmp_path / "run"])


def test_many_classes_have_a_list_of_confusions_and_no_matrix(tmp_path: Path, make_finetuned: Make) -> None:
    run = make_finetuned(tmp_path / "run", [f"class {number}" for number in range(30)], ["text"], n=300, seeds=1)
    shown = page(tmp_path, run)
    assert "Of 30 classes" in shown.text and sum(".confusion_matrix." in place for place in shown.numbers) == 15
    assert "(8 of 30 classes)" in shown.text and (tmp_path / "page.html").stat().st_size < 300_000


@pytest.mark.parametrize("task", ["similarity", "clustering"])
def test_what_vectors_are_worth_is_shown_beside_tf_idf_with_how_they_lie(tmp_path: Path, task: str) -> None:
    vectors = {"a river": [3, 1], "a sea": [1, 3], "a stone": [3, 0], "a hill": [0, 3]}
    texts = list(vectors) * 3
    rows = Labelled([f"r{n}" for n in range(12)], texts, None, ["wet", "wet", "dry", "dry", "wet", "dry"] * 2, "rows.csv")
    if task == "similarity":
        rows = replace(rows, texts_b=texts[1:] + texts[:1], labels=[f"{n % 5}" for n in range(12)])
    judge = {"similarity": judging.similarity, "clustering": judging.clustering}[task]
    metrics, _ = judge(rows, lambda ids, texts: np.array([vectors[text] for text in texts], np.float32), 0)
    facts = {"task": task, "vectors": {"pooling": "mean"}, "model": {"folder": "bert"}, "data": {"name": "rows.csv"}}
    metrics = json.loads(json.dumps(metrics | facts))
    for name in ("one", "two"):
        write_json(tmp_path / name / "metrics.json", metrics)
    shown, known = page(tmp_path, tmp_path / "one"), leaves(metrics)
    assert {place: exact for place, (exact, _) in shown.numbers.items()}.items() <= known.items()
    first = {"similarity": "spearman", "clustering": "v_measure"}[task]
    assert {first, f"intervals.{first}.low", f"baselines.TF-IDF.{first}", "geometry.anisotropy"} <= set(shown.numbers)
    text = " ".join(shown.text.split())
    assert "model bert, data rows.csv" in text and f"TF-IDF: {known[f'baselines.TF-IDF.{first}']:.3f}" in text and 'pooling "mean"' in text
    assert ("Leaks" in text, "by lot" in text) == (False, task == "clustering")
    write_json(tmp_path / "damaged" / "metrics.json", metrics | {"intervals": {}})
    with pytest.raises(CorruptError, match="damaged: its files are not what a run of this version leaves"):
        write_report(tmp_path / "other.html", [tmp_path / "damaged"])
    del facts["model"]
    write_json(tmp_path / "file" / "metrics.json", {**metrics, **facts, "vectors": {"files": ["a.npy", "b.npy"]}, "model": None})
    assert "vectors a.npy, b.npy, data rows.csv" in page(tmp_path, tmp_path / "file").text
    both = page(tmp_path, tmp_path / "one", tmp_path / "two")
    assert f"Side by side: {task}" in both.text and f"one.{first}" not in both.numbers


def test_a_prompts_page_speaks_of_no_train_and_without_labels_there_is_none(tmp_path: Path, topics: Path, metrics_of: Any) -> None:
    metrics = metrics_of(topics)
    write_json(
        tmp_path / "asked" / "metrics.json",
        metrics["test"] | {"intervals": metrics["test_intervals"], "labels": metrics["labels"], "prompt": {}},
    )
    text = page(tmp_path, tmp_path / "asked").text
    assert "macro-F1 on" in text and "--train" not in text
    write_json(tmp_path / "unlabelled" / "metrics.json", {"n": 3, "predicted": {"a": 3}, "labels": ["a"], "prompt": {}})
    with pytest.raises(ConfigError, match="no scores to show: its data had no labels"):
        write_report(tmp_path / "other.html", [tmp_path / "unlabelled"])
    assert not (tmp_path / "other.html").exists()


# --- several, unfinished, hostile ---------------------------------------------------------------------------------------------------------


def test_several_runs_stand_side_by_side(tmp_path: Path, bert: Path, topics: Path, make_pretrained: Make, make_finetuned: Make) -> None:
    other, tuned = make_pretrained(tmp_path / "other", steps=800), make_finetuned(tmp_path / "tuned", ["a", "b"], ["text"], n=40)
    shown = page(tmp_path, bert, other, topics, tuned)
    text = " ".join(shown.text.split())
    assert "4 runs" in text and "2 of pretraining, 2 with scores" in text and "Settings that differ" in text and "steps400800" in text
    assert "bert.heldout.mlm_loss" in shown.numbers and "other.seconds" in shown.numbers
    assert "bertlab compare" not in text, "they are of different examples"
    again, small = tmp_path / "again", make_finetuned(tmp_path / "small", ["a", "b"], ["text"], n=20)
    shutil.copytree(topics, again)
    text = " ".join(page(tmp_path, topics, small, tuned, again).text.split())
    assert f"can be tested: bertlab compare --runs {topics} {again}" in text and text.count("bertlab compare") == 1
    for seed in (0, 1):
        (again / "predictions").mkdir(exist_ok=True)
        shutil.copy(again / "predictions.parquet", again / "predictions" / f"seed-{seed}.parquet")
    assert f"bertlab compare --runs {topics} {again / 'predictions'}" in " ".join(page(tmp_path, topics, again).text.split())
    (again / "predictions.parquet").write_bytes(b"PAR1")
    assert "bertlab compare" not in page(tmp_path, topics, again).text


def test_a_run_that_goes_on_is_shown_as_far_as_it_is_and_read_again(tmp_path: Path, make_pretrained: Make) -> None:
    run = make_pretrained(tmp_path / "run", finished=False)
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 401, "losses": {"mlm_')  # as a run that writes this moment
    assert not write_report(tmp_path / "page.html", [run], refresh=30)
    text = (tmp_path / "page.html").read_text()
    assert "not finished: step 400 of 400" in text and "<meta http-equiv=refresh content=30>" in text
    (run / "model").mkdir()
    (run / "model" / "bertlab.json").write_text("{}")
    assert write_report(tmp_path / "page.html", [run], refresh=30)
    assert "http-equiv=refresh" not in (tmp_path / "page.html").read_text()


def test_a_run_that_writes_its_page_keeps_the_seconds_of_who_watches_it(tmp_path: Path, make_pretrained: Make) -> None:
    run = make_pretrained(tmp_path / "run", finished=False)
    for watched, kept in ((None, 60), (1, 1), (600, 60)):
        (run / "report.html").unlink(missing_ok=True)
        if watched:
            write_report(run / "report.html", [run], refresh=watched)
        report_on(run, refresh=60)
        assert f"<meta http-equiv=refresh content={kept}>" in (run / "report.html").read_text()


def test_a_log_of_an_earlier_version_and_an_empty_one_are_drawn_against_steps(tmp_path: Path, make_pretrained: Make) -> None:
    run = make_pretrained(tmp_path / "run", finished=False)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [
        {name: value for name, value in record.items() if name not in ("tokens_seen", "elapsed_seconds", "guesses")} for record in records
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    shown = page(tmp_path, run)
    assert "Masked words" in shown.text and "hours" not in shown.text and "Where the time went" not in shown.text
    (run / "metrics.jsonl").write_text("")
    assert "No text was held out" in page(tmp_path, run).text


HOSTILE = '</script></style></table><img src=x onerror="a()"> & \' <svg/onload=1> \x00\x1b[2J\u202e\u2028'


def test_no_text_of_a_run_is_an_element_or_an_attribute(tmp_path: Path, make_finetuned: Make, make_pretrained: Make) -> None:
    pages = []
    for number, text in enumerate(("x", HOSTILE)):
        named = tmp_path / ("run" if text == "x" else text.translate({0: None, ord("/"): "|"}))
        tuned = make_finetuned(named / "tuned", [text + "1", text + "2"], [text], n=40)
        made = make_pretrained(named / "bert", said=(text, text))
        pages.append([page(tmp_path / str(number), tuned), page(tmp_path / str(number), made), page(tmp_path / str(number), tuned, made)])
    for plain, hostile in zip(*pages, strict=True):
        assert hostile.elements == plain.elements
        assert not {tag for tag, *_ in hostile.elements} & {"script", "img", "iframe", "a", "form", "link", "object"}
        assert not {name for _, *names in hostile.elements for name in names} & {"style", "src", "href", "onerror", "onload"}
        assert not set("\x00\x1b\u202e\u2028") & set(hostile.text)
    assert pages[1][0].text.count("<img src=x onerror=") > 20 and pages[1][1].text.count("<img src=x onerror=") > 5


def test_what_is_no_run_or_damaged_ends_in_one_line(tmp_path: Path, topics: Path, make_pretrained: Make) -> None:
    (tmp_path / "empty").mkdir()
    begun = make_pretrained(tmp_path / "begun")
    (begun / "config.yaml").write_text("model: a\ntrain: b\n")
    for folder, words in ((tmp_path / "empty", "no run there"), (begun, "not finished, and has no scores yet")):
        with pytest.raises(ConfigError, match=words):
            write_report(tmp_path / "page.html", [folder])
    with pytest.raises(ConfigError, match="corpus: what bertlab corpus found is shown on the page of one pretraining run"):
        write_report(tmp_path / "page.html", [topics], {})
    for number, damage in enumerate(('{"labels": [], "test": 3}', '{"labels": ["a"], "test": {"n": 3}, "dev": []}', "[1]")):
        shutil.copytree(topics, tmp_path / str(number))
        (tmp_path / str(number) / "metrics.json").write_text(damage)
        with pytest.raises(CorruptError) as caught:
            write_report(tmp_path / "page.html", [tmp_path / str(number)])
        assert "\n" not in str(caught.value) and str(tmp_path / str(number)) in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_run_whose_page_cannot_be_drawn_says_so_and_goes_on(tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(bert, tmp_path / "run")
    report_on(tmp_path / "run")
    assert Page((tmp_path / "run" / "report.html").read_text()).text and capsys.readouterr().out == ""
    (tmp_path / "run" / "model" / "bertlab.json").write_text('{"steps": "many"}')
    report_on(tmp_path / "run")
    assert "note: no report: " in capsys.readouterr().out


def test_a_page_goes_into_a_run_and_beside_a_folder_whose_files_are_bound(tmp_path: Path, bert: Path) -> None:
    (tmp_path / "scores").mkdir()
    assert page_of(bert) == bert / "report.html" and page_of(tmp_path / "scores") == tmp_path / "scores.html"


def test_a_page_is_the_same_bytes_for_the_same_run(tmp_path: Path, bert: Path, topics: Path) -> None:
    for run in (bert, topics):
        assert write_report(tmp_path / "one.html", [run]) and write_report(tmp_path / "two.html", [run])
        assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert document("a") != document("b")
