"""bertlab quickstart on excerpts of the sample, by the real verbs: its numbers are theirs, its words fit the numbers, its files exist."""

import contextlib
import io
import json
import lzma
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import bertlab
from bertlab import quickstart, sample
from bertlab.disk import read_json
from bertlab.errors import ConfigError
from bertlab.evaluation.metrics import classification_metrics
from bertlab.evaluation.vectors import read_vectors
from bertlab.quickstart import Config, run, screen, verdicts

SYSTEMS = ["fine-tuned", "from random weights", "TF-IDF + logistic regression", "majority class"]
ROWS = {"articles.jsonl.xz": 300, "topics_train.jsonl.xz": 200, "topics_test.jsonl.xz": 60}


@pytest.fixture(scope="module")
def excerpts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sample is replaced by its first rows; of the test rows those whose topic is among the train rows."""
    folder = tmp_path_factory.mktemp("sample")
    known: set[str] = set()
    for name, count in ROWS.items():
        with lzma.open(sample.path(name), "rt", encoding="utf-8") as stream:
            rows = [json.loads(line) for line, _ in zip(stream, range(count), strict=False)]
        known |= {row["label"] for row in rows if "train" in name}
        kept = [row for row in rows if "test" not in name or row["label"] in known]
        (folder / name).write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in kept).encode(), preset=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "path", lambda name: folder / name)
        yield folder


@pytest.fixture(scope="module")
def walked(excerpts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """(its folder, what it returned, what it printed) of one quickstart."""
    out = tmp_path_factory.mktemp("quickstart") / "quick start"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = run(Config(out=str(out), steps=3, epochs=1, seeds=1, device="cpu"))
    return out, result, printed.getvalue()


def test_quickstart_json_has_the_keys_that_were_promised_and_the_numbers_of_the_verbs(walked: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = walked
    assert read_json(out / "quickstart.json") == result
    assert result["seconds"] > 0 and set(result["stage_seconds"]) == {
        "prepare", "pretrain", "finetune", "finetune from random weights", "evaluate", "embed",
    }  # fmt: skip
    facts = read_json(out / "pretrained" / "model" / "bertlab.json")
    heldout = result["heldout"]
    assert {"mlm_loss_start", "mlm_loss_end", "unigram_loss", "masked_accuracy", "nsp_accuracy"} <= set(heldout)
    assert heldout["mlm_loss_start"] == facts["heldout_start"]["mlm_loss"] and heldout["mlm_loss_end"] == facts["heldout"]["mlm_loss"]
    assert facts["heldout_start"]["step"] == 0 and facts["steps"] == 3
    assert 0 < heldout["unigram_loss"] < 12 and 0 <= heldout["masked_accuracy"] <= 1 and 0 <= heldout["nsp_accuracy"] <= 1
    assert [system["name"] for system in result["systems"]] == SYSTEMS
    for system in result["systems"]:
        assert {"name", "accuracy", "macro_f1", "per_class", "macro", "weighted"} <= set(system)
        assert system["macro_f1"] == system["macro"]["f1"] and system["n"] == result["systems"][0]["n"] > 50


def test_each_systems_scores_are_of_the_test_rows_and_of_its_own_run(walked: tuple[Path, dict[str, Any], str], excerpts: Path) -> None:
    out, result, _ = walked
    gold = [json.loads(line)["label"] for line in lzma.decompress((excerpts / "topics_test.jsonl.xz").read_bytes()).splitlines()]
    for system, predictions in zip(result["systems"], ("evaluation", "from-random"), strict=False):
        columns = pq.read_table(out / predictions / "predictions.parquet").to_pydict()
        assert columns["gold"] == gold
        names = list(system["per_class"])
        gold_numbers, predicted = ([names.index(label) for label in columns[column]] for column in ("gold", "predicted"))
        expected = classification_metrics(gold_numbers, predicted, names)
        assert {key: system[key] for key in expected} == expected
    tuned, scratch = (read_json(out / run / "metrics.json") for run in ("finetuned", "from-random"))
    assert result["systems"][0]["accuracy"] == tuned["test"]["accuracy"] and scratch["baselines"] == {}
    assert result["systems"][2]["accuracy"] == tuned["baselines"][SYSTEMS[2]]["accuracy"]
    assert read_json(out / "from-random" / "model" / "bertlab.json")["started_from"] == "random weights"


def test_the_screen_names_all_systems_and_says_below_where_the_numbers_do(walked: tuple[Path, dict[str, Any], str]) -> None:
    out, result, printed = walked
    shown = screen(result, out)
    assert printed.endswith(shown + "\n")
    header = next(line for line in shown.splitlines() if "fine-tuned" in line)
    assert [header.index(name) for name in SYSTEMS] == sorted(header.index(name) for name in SYSTEMS)
    scores = {system["name"]: system["macro_f1"] for system in result["systems"]}
    for name in SYSTEMS[1:]:
        for words, said in (("above", scores["fine-tuned"] > scores[name]), ("below", scores["fine-tuned"] < scores[name])):
            assert (f"{words} {scores[name]:.3f} ({name})" in shown) == said
    for topic in result["systems"][0]["per_class"]:
        assert any(line.startswith(topic) for line in shown.splitlines())
    assert f"{result['heldout']['unigram_loss']:.3f}" in shown and f"{result['heldout']['mlm_loss_end']:.3f}" in shown


def test_every_file_that_the_screen_names_is_there_and_opens(walked: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = walked
    lines = screen(result, out).splitlines()
    where = lines.index("4. Where everything lies")
    named = [word for line in lines[where + 1 : where + 3] for word in shlex.split(line) if "/" in word]
    assert len(named) == 6 and all(Path(word).exists() for word in named), named
    assert result["model"] in named and result["pretrained_model"] in named
    assert bertlab.load(result["model"]).predict(["a city in France"])[0].label in result["systems"][0]["per_class"]
    assert bertlab.load(result["pretrained_model"]).fill("a [MASK] in France")[0]
    ids, vectors = read_vectors(out / "vectors.parquet")
    assert len(ids) == result["systems"][0]["n"] and vectors.shape[1] == 128


def test_the_neighbours_are_other_texts_and_nearest_first(walked: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = walked
    ids, vectors = read_vectors(out / "vectors.parquet")
    assert len(result["neighbours"]) == 3
    for row, example in enumerate(result["neighbours"]):
        cosines = vectors @ vectors[row]  # they are of length 1
        cosines[row] = -2
        assert [near["cosine"] for near in example["nearest"]] == pytest.approx(sorted(cosines)[:-3:-1], abs=1e-5)
        assert example["text"] not in [near["text"] for near in example["nearest"]]


def test_the_same_command_again_trains_nothing_and_shows_the_same(
    walked: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertlab.training import loop

    def trains(*_: Any, **__: Any) -> None:
        raise AssertionError("all was finished")

    monkeypatch.setattr(loop, "train", trains)
    out, result, _ = walked
    again = run(Config(out=str(out), steps=3, epochs=1, seeds=1, device="cpu"))
    timed = ("seconds", "stage_seconds", "resumed")
    assert {key: value for key, value in again.items() if key not in timed} == {
        key: value for key, value in result.items() if key not in timed
    }


def test_verdicts_say_what_the_numbers_say() -> None:
    scores = dict(zip(SYSTEMS, (0.5, 0.4, 0.6, 0.5), strict=True))
    random, counts, majority, why, again = verdicts(scores)
    assert random == "Macro-F1 fine-tuned: 0.500, above 0.400 (from random weights)."
    assert counts == "Macro-F1 fine-tuned: 0.500, below 0.600 (TF-IDF + logistic regression)."
    assert majority == "Macro-F1 fine-tuned: 0.500, equal to 0.500 (majority class)."
    assert "more text and time" in why and "bertlab compare" in again
    better = verdicts(scores | {"fine-tuned": 0.7})
    assert len(better) == 4 and all(", above 0." in sentence for sentence in better[:3])
    worse = verdicts(scores | {"fine-tuned": 0.1})
    assert sum(", below 0." in sentence for sentence in worse) == 3


def test_a_strangers_text_cannot_steer_the_screen(walked: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = walked
    hostile = "\x1b[2J\u202eevil\nline\u2028"
    scores = [dict(system, per_class={hostile: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 1}}) for system in result["systems"]]
    examples = [{"text": hostile, "label": hostile, "nearest": [{"text": hostile, "label": hostile, "cosine": 0.5}]}]
    shown = screen(result | {"systems": scores, "neighbours": examples}, out)
    assert not set(shown) & set("\x1b\u202e\u2028") and "evil?line" in shown and shown.splitlines() == shown.split("\n")


def test_settings_that_cannot_be_used_are_refused_before_any_work() -> None:
    settings: list[dict[str, Any]] = [{"seeds": 0}, {"steps": 0}, {"epochs": -1}]
    for setting in settings:
        with pytest.raises(ConfigError, match="must be 1 or more"):
            Config(**setting)
    assert quickstart.Config().out == "bertlab-quickstart"
