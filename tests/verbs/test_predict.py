"""bertlab predict: what Model.predict says of each text, in their order, in the kind of file that the output's name asks for."""

import codecs
import csv
import io
import json
import random
import sys
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import bertlab
from bertlab import cli, inference, labelling
from bertlab.disk import locked, read_sealed
from bertlab.errors import ConfigError, CorruptError, DataError, LockedError
from bertlab.evaluation.predictions import OURS
from bertlab.model.facts import load_facts
from bertlab.pages import figures
from bertlab.training.chain import follow
from bertlab.verbs import evaluate, predict
from bertlab.verbs.predict import Config

WORDS = ["the", "old", "river", "runs", "from", "a", "stone", "hill", "to", "the", "sea", "and", "birds", "sing", "over", "its", "banks"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """More than a slice of the tests has, of other lengths, one without a word and one longer than the model reads."""
    draw = random.Random(0)
    return ["", *(" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(20)), " ".join(WORDS * 3)]


@pytest.fixture(autouse=True)
def slices_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "SLICE", 8)


def table(path: Path, texts: list[str], **columns: Any) -> str:
    rows = [{"id": f"row {number}", "text": text} for number, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row | columns) + "\n" for row in rows))
    return str(path)


def answered(folder: str, source: str, output: Path, **settings: Any) -> list[dict[str, Any]]:
    predict.run(Config(model=folder, input=source, output=str(output), device="cpu", **settings))
    assert not list(output.parent.glob(".tmp-*")) and not list(output.parent.glob(".predicting-*/*/*"))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def near(value: Any) -> Any:
    """What was written, against the numbers of a whole batch: the last bits may differ."""
    if isinstance(value, dict):
        return {name: near(each) for name, each in value.items()}
    if isinstance(value, list):
        return [near(each) for each in value]
    return pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value


def test_every_text_has_its_class_and_probability_in_order(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    expected = bertlab.load(every_model["single"], "cpu").predict(texts)
    found = answered(every_model["single"], table(tmp_path / "t.jsonl", texts, label=["no", "label"]), tmp_path / "a.jsonl")
    assert found == [
        {"id": f"row {number}", "text": text, "label": said.label, "probability": near(said.probability), "no_known_tokens": not text}
        for number, (text, said) in enumerate(zip(texts, expected, strict=True))
    ]
    assert [said.no_known_tokens for said in expected] == [not text for text in texts]
    assert len({each["label"] for each in found}) > 1, "the order can be seen"
    every = answered(every_model["single"], str(tmp_path / "t.jsonl"), tmp_path / "b.jsonl", probabilities=True)
    assert [each["probabilities"] for each in every] == [near(said.probabilities) for said in expected]


def test_probabilities_are_calibrated_where_dev_taught_a_temperature_and_in_python_the_same(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inference, "with_temperature", lambda labels, learnt: replace(labels, temperature=3.0))
    folder = every_model["single"]
    found = answered(folder, table(tmp_path / "t.jsonl", texts), tmp_path / "a.jsonl", probabilities=True)
    for each, said in zip(found, bertlab.load(folder, "cpu").predict(texts), strict=True):
        assert said.uncalibrated is not None and said.probability < said.uncalibrated[said.label] - 0.01
        assert (each["probability"], each["probabilities"]) == (near(said.probability), near(said.probabilities))
    assert "at the temperature that dev taught (3.000)" in capsys.readouterr().out


def test_answers_are_no_labels_to_score_the_model_by_until_somebody_copies_them(
    every_model: dict[str, str], texts: list[str], tmp_path: Path
) -> None:
    source, output = table(tmp_path / "t.jsonl", texts[1:]), tmp_path / "answers.csv"
    predict.run(Config(model=every_model["single"], input=source, output=str(output), device="cpu"))
    scored = evaluate.Config(model=every_model["single"], data=str(output), out=str(tmp_path / "scores"), device="cpu")
    with pytest.raises(
        DataError, match=r"answers\.csv: bertlab predict wrote it \(answers\.csv\.manifest\.json\), its labels are a model's"
    ):
        evaluate.run(scored)
    predict.run(Config(model=every_model["single"], input=str(output), output=str(tmp_path / "again.csv"), device="cpu"))
    copy = tmp_path / "pseudo-labels.csv"
    copy.write_bytes(output.read_bytes())
    assert evaluate.run(replace(scored, data=str(copy)))["accuracy"] == 1


def test_a_column_of_labels_that_was_kept_beside_the_answers_is_a_persons(
    every_model: dict[str, str], texts: list[str], tmp_path: Path
) -> None:
    labels = bertlab.load(every_model["single"], "cpu").labels
    assert labels is not None
    rows = [{"text": text, "human": labels[number % len(labels)]} for number, text in enumerate(texts[1:])]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = Config(model=every_model["single"], input=str(tmp_path / "t.jsonl"), output=str(tmp_path / "a.csv"), keep=("human",))
    predict.run(asked)
    scored = evaluate.Config(
        model=every_model["single"], data=str(tmp_path / "a.csv"), label="human", out=str(tmp_path / "s"), device="cpu"
    )
    assert evaluate.run(scored)["n"] == len(rows)
    with pytest.raises(DataError, match="bertlab predict wrote it"):
        evaluate.run(replace(scored, label="label", out=str(tmp_path / "other")))


def test_texts_that_get_no_label_at_all_are_counted(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs_of = inference.LoadedModel.outputs_of
    source = table(tmp_path / "t.jsonl", texts)
    answered(every_model["several"], source, tmp_path / "a.jsonl")
    for name in ("single", "number"):
        answered(every_model[name], source, tmp_path / f"{name}.jsonl")
    assert "no label at all" not in capsys.readouterr().out
    monkeypatch.setattr(inference.LoadedModel, "outputs_of", lambda *given: np.minimum(outputs_of(*given), 0.5))
    found = answered(every_model["several"], source, tmp_path / "c.jsonl")
    assert not any(each["labels"] for each in found)
    assert f"{len(texts)} of {len(texts)} texts got no label at all: no label's probability is above 0.5" in capsys.readouterr().out


def test_labels_are_given_at_the_thresholds_that_dev_chose_where_that_is_asked_for(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = table(tmp_path / "t.jsonl", texts), every_model["several"]
    low = {"hills": {"value": 1.1}, "rivers": {"value": 0.001}, "seas": {"value": 0.002}}
    learnt = {"learnt_on_dev": {"n": 9, "temperature": None, "thresholds": low}}
    monkeypatch.setattr(inference, "load_facts", lambda place: load_facts(place) | (learnt if place == folder else {}))
    model = bertlab.load(folder, "cpu", thresholds="dev")
    assert [answer.given for answer in model.predict(texts)] != [answer.given for answer in bertlab.load(folder, "cpu").predict(texts)]
    capsys.readouterr()
    found = answered(folder, source, tmp_path / "a.jsonl", thresholds="dev")
    assert all(sorted(each["labels"]) == ["rivers", "seas"] for each in found)
    said = capsys.readouterr().out
    assert "at the thresholds that dev chose, each from a probability of 0.001 to 1.100 on" in said and "\n2.00 labels a text" in said
    assert read_sealed(tmp_path / "a.jsonl.manifest.json")["thresholds"] == {name: each["value"] for name, each in low.items()}
    form = labelling.Form(".jsonl")
    jobs = {labelling.job_sha256(each, {}, {}, form) for each in (model, bertlab.load(folder, "cpu"))}
    assert len(jobs) == 2, "no half-done answers at other thresholds are gone on with"
    with pytest.raises(ConfigError, match="has no thresholds"):
        answered(every_model["single"], source, tmp_path / "b.jsonl", thresholds="dev")


def test_answers_that_a_person_corrected_are_not_written_over(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    source, output = table(tmp_path / "t.jsonl", texts), tmp_path / "a.jsonl"
    first = answered(every_model["single"], source, output)
    assert answered(every_model["single"], source, output) == first, "the same call may be repeated"
    output.write_text(output.read_text().replace("seas", "hills", 1))
    corrected = output.read_bytes()
    with pytest.raises(ConfigError, match=r"a\.jsonl was changed since bertlab wrote it, by hand perhaps: choose another --output"):
        answered(every_model["single"], source, output)
    assert output.read_bytes() == corrected and not list(tmp_path.glob(".predicting-*"))
    output.with_name("a.jsonl.manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="was changed since"):
        answered(every_model["single"], source, output)


def test_a_file_for_excel_has_its_mark_and_its_cells_and_computes_nothing(every_model: dict[str, str], tmp_path: Path) -> None:
    said = ["Größe; ein Fluss", "=HYPERLINK(1)", "-", "plain"] * 3  # more than a slice
    (tmp_path / "t.csv").write_text("".join(f'{number};"{text}"\n' for number, text in [("id", "text"), *enumerate(said)]), "cp1252")
    shared: dict[str, Any] = {"model": every_model["single"], "input": str(tmp_path / "t.csv"), "separator": ";", "encoding": "cp1252"}
    predict.run(Config(**shared, output=str(tmp_path / "a.csv"), excel=True, device="cpu"))
    written = (tmp_path / "a.csv").read_bytes()
    assert written.count(codecs.BOM_UTF8) == 1 and written.startswith(codecs.BOM_UTF8 + b"id;text;label;probability;no_known_tokens\n")
    rows = list(csv.DictReader(io.StringIO(written.decode("utf-8-sig")), delimiter=";"))
    assert [row["text"] for row in rows] == ["Größe; ein Fluss", "'=HYPERLINK(1)", "'-", "plain"] * 3
    predict.run(Config(**shared, output=str(tmp_path / "b.csv"), device="cpu"))
    plain = list(csv.DictReader((tmp_path / "b.csv").open(encoding="utf-8")))
    assert [row["text"] for row in plain] == said and [row["label"] for row in plain] == [row["label"] for row in rows]
    with pytest.raises(ConfigError, match=r"excel is a way to write \.csv: name the output NAME\.csv instead of a\.jsonl"):
        Config(**shared, output="a.jsonl", excel=True)
    with pytest.raises(ConfigError, match="excel_separator is for --excel"):
        Config(**shared, output="a.csv", excel_separator=";")
    with pytest.raises(ConfigError, match="give one character"):
        Config(**shared, output="a.csv", excel=True, excel_separator="; ")


def test_the_cells_of_a_file_for_excel_may_stand_apart_otherwise_than_those_of_the_input(
    every_model: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,the river; the sea\n")
    shared: dict[str, Any] = {"model": every_model["single"], "input": str(tmp_path / "t.csv"), "excel": True, "device": "cpu"}
    predict.run(Config(**shared, output=str(tmp_path / "a.csv"), excel_separator=";"))
    header, row = (tmp_path / "a.csv").read_text("utf-8-sig").splitlines()
    assert header == "id;text;label;probability;no_known_tokens" and row.startswith('1;"the river; the sea";')


def test_columns_that_are_to_be_kept_stand_beside_the_answers_of_their_rows(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa

    further = [
        {"order": number, "of": f"shop {number % 3}", "more": [number, None] if number % 2 else None} for number in range(len(texts))
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text} | each) + "\n" for text, each in zip(texts, further, strict=True)))
    days = [date(2026, 1, 1) + timedelta(number) for number in range(len(texts))]
    pq.write_table(pa.table({"text": texts, "day": days, "part": [number / 2 for number in range(len(texts))]}), tmp_path / "t.parquet")
    keep: dict[str, Any] = {"keep": ("of", "order", "more")}
    model = every_model["single"]
    found = answered(model, str(tmp_path / "t.jsonl"), tmp_path / "a.jsonl", **keep)
    assert [{name: row[name] for name in ("order", "of", "more")} for row in found] == further
    assert list(found[0]) == ["id", "text", "of", "order", "more", "label", "probability", "no_known_tokens"]
    assert [{name: row[name] for name in row if name not in further[0]} for row in found] == answered(
        model, str(tmp_path / "t.jsonl"), tmp_path / "without.jsonl"
    )
    assert [row["day"] for row in answered(model, str(tmp_path / "t.parquet"), tmp_path / "d.jsonl", keep=("day",))] == [*map(str, days)]
    for ending in ("csv", "tsv", "parquet"):
        predict.run(Config(model=model, input=str(tmp_path / "t.jsonl"), output=str(tmp_path / f"a.{ending}"), device="cpu", **keep))
        rows = (
            pq.read_table(tmp_path / "a.parquet").to_pylist()
            if ending == "parquet"
            else list(csv.DictReader((tmp_path / f"a.{ending}").open(), delimiter="\t" if ending == "tsv" else ","))
        )
        assert [row["order"] for row in rows] == [str(each["order"]) for each in further]
        assert [row["more"] or None for row in rows] == [None if each["more"] is None else json.dumps(each["more"]) for each in further]
        assert list(rows[0])[-1] == "no_known_tokens"
    predict.run(Config(model=model, input=str(tmp_path / "t.parquet"), output=str(tmp_path / "d.csv"), device="cpu", keep=("day", "part")))
    assert [row["day"] for row in csv.DictReader((tmp_path / "d.csv").open())] == [*map(str, days)]

    capsys.readouterr()
    asked = ["predict", "--model", model, "--output", str(tmp_path / "new.csv"), "--input"]
    for line, code, says in [
        (
            [str(tmp_path / "t.jsonl"), "--keep", "shop"],
            3,
            "no column 'shop': the columns are 'text', 'order', 'of', 'more': name the right",
        ),
        ([str(tmp_path / "t.jsonl"), "--keep", "label"], 2, "keep=label: the answers have a column of that name themselves: rename that"),
        ([str(tmp_path / "t.jsonl"), "--keep", "of", "of"], 2, "keep names 'of' twice"),
        (["-", "--keep", "of"], 2, "standard input is read as lines of text, without columns"),
    ]:
        assert cli.main([*asked, *line]) == code and says in capsys.readouterr().err
    assert not (tmp_path / "new.csv").exists()


@pytest.mark.parametrize("name", ["single", "pairs", "several", "number", "tags", "answers"])
def test_no_column_that_may_be_kept_has_the_name_of_one_of_ours(every_model: dict[str, str], tmp_path: Path, name: str) -> None:
    row = {"text": "the river", "text_b": "a hill", "tokens": ["the", "river"], "question": "what", "context": "the river"}
    if name != "pairs":
        del row["text_b"]
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    (said,) = answered(
        every_model[name], str(tmp_path / "t.jsonl"), tmp_path / "a.jsonl", probabilities=name in ("single", "pairs", "several")
    )
    predict.run(Config(model=every_model[name], input=str(tmp_path / "t.jsonl"), output=str(tmp_path / "a.parquet"), device="cpu"))
    assert {*said, *pq.read_schema(tmp_path / "a.parquet").names} <= {*OURS}


def test_answers_of_other_texts_are_said_to_be_replaced(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other, output = table(tmp_path / "t.jsonl", texts), table(tmp_path / "other.jsonl", texts[:3]), tmp_path / "a.jsonl"
    for _ in range(2):
        answered(every_model["single"], source, output)
    assert "note: " not in capsys.readouterr().out
    answered(every_model["single"], other, output)
    said = f"note: {output} held 22 answers by {every_model['single']} of {source}: these replace them\n"
    assert capsys.readouterr().out.startswith(said)


def test_every_kind_of_task_answers_in_kind(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    source = table(tmp_path / "t.jsonl", texts)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_b\n" + "".join(f"{a},{b}\n" for a, b in zip(texts, texts[::-1], strict=True)))

    def said(name: str, *asked: Any) -> Any:
        return bertlab.load(every_model[name], "cpu").predict(*asked)

    for each, expected in zip(answered(every_model["several"], source, tmp_path / "s.jsonl"), said("several", texts), strict=True):
        assert each["labels"] == expected.labels
        assert each["probability"] == near([expected.probabilities[label] for label in expected.labels])
    for each, expected in zip(answered(every_model["number"], source, tmp_path / "n.jsonl"), said("number", texts), strict=True):
        assert each["value"] == near(expected.value)
    for each, expected in zip(
        answered(every_model["pairs"], str(pairs), tmp_path / "p.jsonl"), said("pairs", texts, texts[::-1]), strict=True
    ):
        assert each["label"] == expected.label
    assert [each["text_b"] for each in [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]] == texts[::-1]
    tagged = answered(every_model["tags"], source, tmp_path / "t2.jsonl", text="text")
    for each, expected, text in zip(tagged, said("tags", texts), texts, strict=True):
        assert each["tags"] == expected.tags
        assert [{name: entity[name] for name in ("type", "start", "end")} for entity in each["entities"]] == [
            {name: value for name, value in asdict(entity).items() if name != "probability"} for entity in expected.entities
        ]
        assert each["no_known_tokens"] is expected.no_known_tokens is (not text)
        assert all(entity["text"] == " ".join(text.split()[entity["start"] : entity["end"]]) for entity in each["entities"])
    assert any(each["entities"] for each in tagged)
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps({"question": "the sea", "context": text}) + "\n" for text in texts[1:]))
    asked = answered(every_model["answers"], str(questions), tmp_path / "q2.jsonl")
    cells = tmp_path / "q.tsv"
    with cells.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows([("question", "context"), *(("the sea", text) for text in texts[1:])])
    of_cells = answered(every_model["answers"], str(cells), tmp_path / "q3.jsonl")
    assert [each["answer"] for each in of_cells] == [each["answer"] for each in asked]
    for each, expected in zip(asked, said("answers", ["the sea"] * len(texts[1:]), texts[1:]), strict=True):
        assert (each["text"], each["answer"], each["start"]) == ("the sea", expected.text, expected.start)
        assert each["text_b"][each["start"] :].startswith(each["answer"])


def test_csv_has_a_column_a_class_and_several_labels_in_a_cell(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    source = table(tmp_path / "t.jsonl", ['a "quoted", text\nof two lines', *texts])
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        for model, columns in (("single", ["label", "probability"]), ("several", ["labels", "probability"])):
            rows = answered(every_model[model], source, tmp_path / "a.jsonl", probabilities=True)
            config = Config(model=every_model[model], input=source, output=str(tmp_path / name), probabilities=True, device="cpu")
            predict.run(config)
            read = list(csv.DictReader(io.StringIO((tmp_path / name).read_bytes().decode()), delimiter=delimiter))
            classes = [f"probabilities.{label}" for label in ("hills", "rivers", "seas")]
            assert list(read[0]) == ["id", "text", *columns, *classes, "no_known_tokens"] and len(read) == len(rows)
            for cells, row in zip(read, rows, strict=True):
                assert (cells["id"], cells["text"]) == (row["id"], row["text"])
                assert cells[columns[0]] == (row["label"] if model == "single" else "|".join(row["labels"]))
                assert [float(cells[name]) for name in classes] == list(row["probabilities"].values())


def test_rows_say_of_which_texts_the_model_saw_nothing(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    said = [*texts[1:9], " \n", "\u6cb3\u5ddd", "the \u6cb3\u5ddd", "\u6cb3", "the sea"]  # a slice without any first
    nothing = [*[False] * 8, True, True, False, True, False]
    source = table(tmp_path / "t.jsonl", said)
    for name in ("a.jsonl", "a.csv", "a.tsv", "a.parquet"):
        facts = predict.run(Config(model=every_model["single"], input=source, output=str(tmp_path / name), device="cpu"))
        assert (facts["no_known_tokens"], facts["first_of_these"]) == (3, ["row 8", "row 9", "row 11"])
    assert [json.loads(line)["no_known_tokens"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == nothing
    assert pq.read_table(tmp_path / "a.parquet")["no_known_tokens"].to_pylist() == nothing
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        read = csv.DictReader(io.StringIO((tmp_path / name).read_text()), delimiter=delimiter)
        assert [row["no_known_tokens"] for row in read] == [str(each).lower() for each in nothing]
    tagged = answered(every_model["tags"], source, tmp_path / "tags.jsonl", text="text")
    assert [each["no_known_tokens"] for each in tagged] == nothing
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"text": a, "text_b": b}) + "\n" for a, b in (("", "the sea"), ("the sea", "\u6cb3"), ("\u6cb3", "")))
    )
    assert [each["no_known_tokens"] for each in answered(every_model["pairs"], str(pairs), tmp_path / "p.jsonl")] == [False, False, True]
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps({"question": "the sea", "context": text}) + "\n" for text in said * 3))
    assert not any(each["no_known_tokens"] for each in answered(every_model["answers"], str(questions), tmp_path / "q2.jsonl"))


def test_a_parquet_file_is_that_of_evaluate_without_gold(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "write_figures", lambda *_, **__: None)
    source = table(tmp_path / "t.jsonl", texts, label="seas")
    predict.run(Config(model=every_model["single"], input=source, output=str(tmp_path / "a.parquet"), device="cpu"))
    evaluate.run(evaluate.Config(model=every_model["single"], data=source, out=str(tmp_path / "scores"), device="cpu"))
    ours, theirs = pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "scores" / "predictions.parquet")
    assert ours.schema.names[-1] == "no_known_tokens"
    assert ours.drop_columns("no_known_tokens").schema.equals(theirs.schema, check_metadata=True)
    for name in ("id", "text_sha256", "predicted"):
        assert ours[name].to_pylist() == theirs[name].to_pylist()
    assert ours["gold"].null_count == len(texts)
    assert ours["probabilities"].to_pylist() == [near(row) for row in theirs["probabilities"].to_pylist()]


def test_the_same_command_goes_on_where_it_was_cut_off_and_the_file_is_the_same(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "t.jsonl", texts)
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        config = Config(model=every_model["single"], input=source, output=str(tmp_path / name), device="cpu")
        predict.run(config)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        before = labelling._answered
        seen: list[int] = []

        def cut_off(*arguments: Any, before: Any = before, seen: list[int] = seen) -> Any:
            seen.append(len(arguments[1]))
            if len(seen) == 2:
                raise KeyboardInterrupt
            return before(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(labelling, "_answered", cut_off)
            with pytest.raises(KeyboardInterrupt):
                predict.run(config)
            assert not (tmp_path / name).exists() and seen == [8, 8]
            capsys.readouterr()
            predict.run(config)
            assert "going on: 1 of 3 parts" in capsys.readouterr().err
            assert seen == [8, 8, 8, len(texts) - 16], "what was done is not done again"
        assert (tmp_path / name).read_bytes() == whole


def test_parts_are_of_one_job_alone_and_damage_is_seen(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, parts = table(tmp_path / "t.jsonl", texts), tmp_path / ".predicting-a.jsonl"
    config = Config(model=every_model["single"], input=source, output=str(tmp_path / "a.jsonl"), device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict.run(config)
    part = next(parts.glob("*/000001.part"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptError, match="same command again"):
        predict.run(config)
    assert sorted(path.name for path in parts.glob("*/*.part")) == ["000000.part", "000002.part"]
    table(tmp_path / "t.jsonl", texts[::-1])
    backwards = answered(every_model["single"], source, tmp_path / "a.jsonl")
    assert [each["label"] for each in backwards] == [said.label for said in bertlab.load(every_model["single"], "cpu").predict(texts[::-1])]
    with locked(parts), pytest.raises(LockedError):
        predict.run(config)


def test_the_manifest_leads_from_the_answers_to_texts_and_model(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    source = table(tmp_path / "t.jsonl", texts)
    for name in ("a.csv", "a.parquet"):
        predict.run(Config(model=every_model["single"], input=source, output=str(tmp_path / name), device="cpu"))
        facts = read_sealed(tmp_path / f"{name}.manifest.json")
        assert (facts["rows"], facts["no_known_tokens"], facts["cut"]) == (len(texts), 1, {"truncated": 1})
        assert sum(facts["given"].values()) == len(texts)
        found = list(follow([tmp_path / name]))
        assert [(link.status, link.name) for link in found[:3]] == [("ok", "answers"), ("ok", "input"), ("ok", "model")]
        with (tmp_path / name).open("ab") as stream:
            stream.write(b" ")
        assert next(follow([tmp_path / name])).status == "differs"


def test_ids_come_from_the_column_that_is_named(every_model: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ticket,text\nT-7,the sea\nT-9,a hill\n")
    for settings, ids in (({"id": "ticket"}, ["T-7", "T-9"]), ({}, ["t.csv:2", "t.csv:3"])):
        found = answered(every_model["single"], str(tmp_path / "t.csv"), tmp_path / f"{len(settings)}.jsonl", **settings)
        assert [each["id"] for each in found] == ids


def test_a_file_that_nobody_asked_to_replace_stays(every_model: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the sea\n")
    mine = tmp_path / "notes.csv"
    mine.write_text("mine\n")
    config = Config(model=every_model["single"], input=str(tmp_path / "t.txt"), output=str(mine), device="cpu")
    with pytest.raises(ConfigError, match="was not written by bertlab"):
        predict.run(config)
    assert mine.read_text() == "mine\n"
    mine.unlink()
    for _ in range(2):  # what it has written itself it may
        assert predict.run(config)["rows"] == 1
    with pytest.raises(ConfigError, match="is the input"):
        predict.run(Config(model=every_model["single"], input=str(mine), output=str(mine), device="cpu"))


def test_standard_input_and_output(
    every_model: dict[str, str], texts: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = bertlab.load(every_model["single"], "cpu").predict(texts)
    for name, lines in (("-", texts), ("-.jsonl", [json.dumps({"text": text}) for text in texts])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in lines).encode())))
        assert cli.main(["predict", "--model", every_model["single"], "--input", name, "--output", "-", "--device", "cpu"]) == 0
        out, err = capsys.readouterr()
        assert [json.loads(line)["label"] for line in out.splitlines()] == [said.label for said in expected]
        first = "t.jsonl:1" if name == "t.jsonl" else f"stdin{name[1:]}:1"
        assert f"1 of 22 texts has no token that the vocabulary knows ({first})" in err and "nothing calibrated them" in err
        assert ("was read as 22 lines of text" in err) == (name == "-")


def test_tags_have_a_row_an_entity_in_csv_and_a_sentence_without_any_has_one(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "t.jsonl", texts, order=7)
    expected = []
    for each in answered(every_model["tags"], source, tmp_path / "a.jsonl", text="text", keep=("order",)):
        same = {"id": each["id"], "text": each["text"], "order": "7"}, {"no_known_tokens": str(each["no_known_tokens"]).lower()}
        for entity in each["entities"] or [dict.fromkeys(("type", "text", "start", "end", "probability"), "")]:
            cells = {"type": entity["type"], "entity": entity["text"], "start": str(entity["start"]), "end": str(entity["end"])}
            expected.append(same[0] | cells | {"probability": str(entity["probability"])} | same[1])
    assert len(expected) > len(texts) and any(row["type"] for row in expected) and not all(row["type"] for row in expected)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        facts = predict.run(
            Config(model=every_model["tags"], input=source, output=str(tmp_path / name), text="text", keep=("order",), device="cpu")
        )
        assert facts["rows"] == len(texts) and "22 answers, a row an entity" in capsys.readouterr().out
        assert list(csv.DictReader(io.StringIO((tmp_path / name).read_text()), delimiter=delimiter)) == expected


def test_what_cannot_be_answered_is_refused_in_one_line_and_leaves_nothing(
    every_model: dict[str, str], texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "t.jsonl", texts)
    (tmp_path / ".lines.txt").write_text("a line\n")
    for model, given, output, settings, words in (
        ("words", source, "a.jsonl", [], "has no classifier: fine-tune it first"),
        ("single", source, "a.xlsx", [], "name it .jsonl, .csv, .tsv or .parquet"),
        ("single", source, "a.jsonl", ["--text", "said"], "no column 'said': the columns are 'id', 'text': "),
        ("single", str(tmp_path), "a.jsonl", [], "is a folder: give a file of texts"),
        ("pairs", source, "a.jsonl", [], "fine-tuned on pairs: give a second text"),
        ("tags", source, "a.csv", ["--text", "text", "--keep", "type"], "keep=type: the answers have a column of that name"),
        ("tags", source, "a.jsonl", [], "no column 'tokens'"),
        ("answers", source, "a.jsonl", [], "no column 'question'"),
        ("answers", str(tmp_path / ".lines.txt"), "a.jsonl", [], "a line of text is no question: give a table with columns 'question'"),
        *(
            (name, source, "a.jsonl", ["--probabilities", "--text", "text"], f"probabilities are of classes, and the model is for {task}")
            for name, task in (("number", "regression"), ("tags", "tokens"))
        ),
        ("single", source, "t.jsonl", [], "is the input: choose another --output"),
        ("single", source, "a.jsonl", ["--id", "ticket"], "no column 'ticket'"),
        ("single", "-", "a.jsonl", ["--text", "said"], "for a table say what it holds"),
    ):
        command = ["predict", "--model", every_model[model], "--input", given, "--output", str(tmp_path / output), "--device", "cpu"]
        assert cli.main([*command, *settings]) == (3 if ("column" in words or "pairs" in words) and "keep" not in words else 2), words
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
        assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == [Path(source)]


def test_evaluate_says_where_to_go_with_texts_that_have_no_labels(every_model: dict[str, str], texts: list[str], tmp_path: Path) -> None:
    config = evaluate.Config(model=every_model["single"], data=table(tmp_path / "t.jsonl", texts), out=str(tmp_path / "s"), device="cpu")
    with pytest.raises(DataError, match="no column 'label'.*bertlab predict"):
        evaluate.run(config)
