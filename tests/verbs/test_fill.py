"""bertlab fill: the words that the fill-mask pipeline gives, on the screen and as JSON, from options, files and standard input."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertlab
from bertlab import cli
from bertlab.batches.cloze import frames_of_gaps
from bertlab.cloze import pieces_of, whole_words, word_scores
from bertlab.model.encoder import EncoderConfig
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import fill
from bertlab.verbs.fill import Config

SENTENCE = "the old river runs from a stone hill to the sea , and birds sing over its banks in spring ."
ONE, THREE = "the [MASK] of the river", "[MASK] runs to [MASK] [MASK]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tokenizer = tokenizers.train([SENTENCE] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "model", BertForPreTraining(config), tokenizer, facts={}, card="# A card\n")
    save_model(folder / "classifier", BertForSequenceClassification(config, 2), tokenizer, facts={}, card="# A card\n", labels=["a", "b"])
    return {"model": str(folder / "model"), "classifier": str(folder / "classifier")}


def run(folder: str, *texts: str, **settings: Any) -> list[dict[str, Any]]:
    return fill.run(Config(model=folder, text=texts, device="cpu", **settings))


def pairs(gap: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(each["word"], each["probability"]) for each in gap]


def test_words_and_probabilities_are_the_fill_mask_pipelines(folders: dict[str, str]) -> None:
    pipeline: Any = transformers.pipeline("fill-mask", model=folders["model"], device="cpu", top_k=7)
    for text, facts in zip((ONE, THREE), run(folders["model"], ONE, THREE, top=7), strict=True):
        theirs = pipeline(text)
        theirs = theirs if isinstance(theirs[0], list) else [theirs]
        assert facts["text"] == text and len(facts["gaps"]) == text.count("[MASK]") == len(theirs)
        for gap, expected in zip(facts["gaps"], theirs, strict=True):
            # the pipeline decodes a piece, which takes the marks of a continuing one away
            assert [each["word"].removeprefix("##") for each in gap] == [each["token_str"].removeprefix("##") for each in expected]
            np.testing.assert_allclose([each["probability"] for each in gap], [each["score"] for each in expected], atol=1e-5)


def test_the_screen_shows_each_gap_and_json_a_line_a_text(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    facts = run(folders["model"], ONE, THREE, top=2)
    shown = capsys.readouterr().out
    best = facts[0]["gaps"][0][0]
    assert ONE in shown and "[MASK] 3" in shown and f"{100 * best['probability']:.3g}%" in shown
    again = run(folders["model"], ONE, THREE, top=2, json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == again == facts


def test_given_words_are_compared_those_of_several_pieces_too(folders: dict[str, str]) -> None:
    words = ("sea", "birdsong", "river")
    (facts,) = run(folders["model"], "the [MASK] of [MASK]", words=words)
    model = bertlab.load(folders["model"])
    frames, _ = frames_of_gaps(model.tokenizer, ["the [MASK] of [MASK]"], None, max_length=24)
    scores = np.exp(word_scores(model, frames, pieces_of(model.tokenizer, words)))
    for gap, row in zip(facts["gaps"], scores, strict=True):
        assert dict(pairs(gap)) == pytest.approx(dict(zip(words, row, strict=True)))
        assert [probability for _, probability in pairs(gap)] == sorted(row, reverse=True)
    likeliest = dict(pairs(run(folders["model"], "the [MASK] of [MASK]", top=1000)[0]["gaps"][0]))
    assert dict(pairs(facts["gaps"][0]))["sea"] == pytest.approx(likeliest["sea"], rel=1e-4)


def test_whole_words_are_looked_for_where_asked(folders: dict[str, str]) -> None:
    (facts,) = run(folders["model"], ONE, pieces=2, top=3)
    model = bertlab.load(folders["model"])
    frames, _ = frames_of_gaps(model.tokenizer, [ONE], None, max_length=24, longest_word=2)
    assert dict(pairs(facts["gaps"][0])) == pytest.approx(dict(whole_words(model, frames, 2, 3)[0]))
    assert not any(each["word"].startswith("##") for each in facts["gaps"][0])


def test_pairs_have_two_segments(folders: dict[str, str]) -> None:
    (facts,) = run(folders["model"], ONE, text_b=("birds sing",), top=3)
    assert facts["text_b"] == "birds sing"
    peer = transformers.AutoModelForMaskedLM.from_pretrained(folders["model"]).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folders["model"])
    inputs = tokenize(ONE, "birds sing", return_tensors="pt")
    assert inputs["token_type_ids"].any()
    with torch.inference_mode():
        logits = peer(**inputs).logits[0, inputs["input_ids"][0] == tokenize.mask_token_id]
    expected = logits[0].softmax(-1).topk(3)
    assert [word for word, _ in pairs(facts["gaps"][0])] == tokenize.convert_ids_to_tokens(expected.indices.tolist())
    np.testing.assert_allclose([probability for _, probability in pairs(facts["gaps"][0])], expected.values, atol=1e-5)
    assert dict(bertlab.load(folders["model"]).fill(ONE, 3, "birds sing")[0]) == pytest.approx(dict(pairs(facts["gaps"][0])))


def test_files_and_standard_input_give_the_same(folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(folders["model"], ONE, THREE)
    (tmp_path / "texts.txt").write_text(f"{ONE}\n\n{THREE}\n")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (ONE, THREE)))
    monkeypatch.setattr(fill, "TEXTS_AT_ONCE", 1)
    for name in ("texts.txt", "texts.jsonl"):
        found = fill.run(Config(model=folders["model"], input=str(tmp_path / name), device="cpu"))
        assert [facts["text"] for facts in found] == [ONE, THREE]
        for facts, wanted in zip(found, expected, strict=True):
            for gap, same in zip(facts["gaps"], wanted["gaps"], strict=True):
                assert dict(pairs(gap)) == pytest.approx(dict(pairs(same)), abs=1e-6)
    command = [sys.executable, "-m", "bertlab", "fill", "--model", folders["model"], "--input=-", "--json", "--device", "cpu"]
    done = subprocess.run(command, input=f"{ONE}\n{THREE}\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [ONE, THREE]
    done = subprocess.run(command, input=f"{ONE}\nthe river\n", capture_output=True, text=True)
    assert done.returncode == 3 and "standard input:2: no [MASK] in the text" in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    before = dict(os.environ)

    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["fill", *options]) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("bertlab: ") and captured.err.count("\n") == 1 and captured.out == ""
        return captured.err

    yield check
    os.environ.clear()
    os.environ.update(before)


def test_what_cannot_be_filled_is_refused_in_one_line(folders: dict[str, str], tmp_path: Path, refused: Callable[..., str]) -> None:
    model = ("--model", folders["model"])
    assert "give texts, as in --text" in refused(2, *model)
    assert "one of the two" in refused(2, *model, "--text", ONE, "--input=-")
    assert "1 text and 2 text_b" in refused(2, *model, "--text", ONE, "--text-b", "a", "b")
    assert "no [MASK] in the text 'the river'" in refused(3, *model, "--text", "the river")
    assert "a [MASK] beyond the 24 tokens" in refused(3, *model, "--text", "river " * 30 + "[MASK]")
    assert "no masked-word head" in refused(2, "--model", folders["classifier"], "--text", ONE)
    assert "top=0" in refused(2, *model, "--text", ONE, "--top", "0")
    assert "of pieces 8 at most" in refused(2, *model, "--text", ONE, "--pieces", "9")
    assert "leave words out" in refused(2, *model, "--text", ONE, "--pieces", "2", "--words", "sea")
    assert "let top be 100 at most" in refused(2, *model, "--text", ONE, "--pieces", "2", "--top", "101")
    assert "letters that the vocabulary does not know" in refused(2, *model, "--text", ONE, "--words", "\u6c34")
    (tmp_path / "texts.txt").write_text("the [MASK]\nthe river\n")
    assert "texts.txt:2: no [MASK] in the text" in refused(3, *model, "--input", str(tmp_path / "texts.txt"))
