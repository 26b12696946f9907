"""bertlab contrast on a tiny BERT and texts about topics: it learns, dev alone chooses, the folder is what others read, nothing is lost."""

import csv
import json
import os
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import bertlab
from bertlab import cli
from bertlab.batches.labelled import Examples, encode_examples
from bertlab.corpus.related import Names, Related
from bertlab.disk import read_json
from bertlab.embedding import learning, related_texts
from bertlab.embedding.related_texts import likeness_of, of_files
from bertlab.errors import ConfigError, DataError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.facts import load_config, load_facts, text_read
from bertlab.model.folder import save_model
from bertlab.model.heads import BertForPreTraining
from bertlab.pages.screen import likeness_line
from bertlab.signals import Preempted
from bertlab.tokens import tokenizer as tokenizers
from bertlab.tokens.corpus import open_corpus
from bertlab.training import chain, processes, tracking
from bertlab.verbs import contrast, prepare
from bertlab.verbs.contrast import Config

COMMON = ["the", "old", "one", "of", "a", "great", "many", "in", "this", "place", "was"]
TOPICS = {"music": ["violin", "opera", "choir"], "sky": ["planet", "comet", "orbit"], "water": ["river", "stream", "pond"]}


def text_about(topic: str, draw: random.Random) -> str:
    words = [*draw.choices(COMMON, k=draw.randint(3, 6)), *draw.choices(TOPICS[topic], k=2)]
    draw.shuffle(words)
    return " ".join(words)


def write(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def rows_of(kind: str, count: int, seed: int) -> list[dict[str, str]]:
    draw, found = random.Random(seed), []
    for _ in range(count):
        topic, other = draw.sample(list(TOPICS), 2)
        row = {"text": text_about(topic, draw), "text_b": text_about(topic, draw), "negative": text_about(other, draw), "label": topic}
        columns = {
            "pairs": ["text", "text_b"],
            "triplets": ["text", "text_b", "negative"],
            "classes": ["text", "label"],
            "sentences": ["text"],
        }
        found.append({name: row[name] for name in columns[kind]})
    return found


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = [*COMMON, *(word for topic in TOPICS.values() for word in topic)]
    tokenizer = tokenizers.train([" ".join(words)] * 4, kind="wordpiece", vocab_size=300, lowercase=True)
    torch.manual_seed(1234)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24, initializer_range=0.15,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pretraining-run") / "model"
    facts = {"kind": "pretrained", "corpus": {"sources": [{"name": "made.txt", "licence": "CC0-1.0"}]}}
    save_model(folder, BertForPreTraining(config), tokenizer, facts=facts, card="# A card\n")
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("texts")
    kinds = ("sentences", "pairs", "triplets", "classes")
    return {f"{kind}-{name}": write(folder / f"{kind}-{name}.csv", rows_of(kind, count, seed)) for kind in kinds
            for seed, (name, count) in enumerate({"train": 120, "test": 40}.items())}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Documents of three sentences about a topic each."""
    draw, root = random.Random(3), tmp_path_factory.mktemp("corpus")
    documents = ["\n".join(text_about(topic, draw).capitalize() + "." for _ in range(3)) for topic in draw.choices(list(TOPICS), k=120)]
    (root / "texts.txt").write_text("\n\n".join(documents) + "\n")
    prepare.run(prepare.Config(source=(str(root / "texts.txt"),), out=str(root / "corpus"), tokenizer=base, heldout=0.3))
    return str(root / "corpus")


def config(base: str, out: Path, **settings: Any) -> Config:
    quick: dict[str, Any] = {"steps": 6, "batch_size": 16, "learning_rate": 5e-3, "device": "cpu", "precision": "fp32"}
    return Config(**({"model": base, "out": str(out)} | quick | settings))


def weights(folder: Path | str) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(base: str, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run on classes, in which no library found anything to warn of."""
    out = tmp_path_factory.mktemp("contrast") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = config(base, out, train=files["classes-train"], test=files["classes-test"], steps=40, dims=(16, 8))
        return out, contrast.run(settings)


def test_held_out_texts_find_their_like_more_often_than_before(finished):
    _, metrics = finished
    assert metrics["texts"] == "classes" and metrics["test"]["score"] == "mrr"
    of_words = metrics["test"]["baselines"]["TF-IDF"]
    assert of_words["n"] == metrics["test"]["after"]["n"] and 0 < of_words["mrr"] <= 1
    assert f", TF-IDF {of_words['mrr']:.3f}, n = {of_words['n']}" in likeness_line(metrics["test"])
    assert metrics["test"]["low"] > 0 and metrics["test"]["after"]["mrr"] > metrics["test"]["before"]["mrr"] + 0.05


def test_the_best_of_the_history_on_dev_is_kept(finished):
    _, metrics = finished
    assert [found["step"] for found in metrics["history"]] == [*range(0, 41, 4)]
    assert metrics["best"] == max(metrics["history"], key=lambda found: found["mrr"])
    assert metrics["dev"]["after"]["mrr"] == pytest.approx(metrics["best"]["mrr"])
    assert metrics["dev"]["before"]["mrr"] == pytest.approx(metrics["history"][0]["mrr"])


def test_the_folder_says_what_it_is(finished, base):
    out, metrics = finished
    facts = load_facts(str(out / "model"))
    assert (facts["kind"], facts["pooling"], facts["normalize"], facts["matryoshka_dims"]) == ("contrast", "mean", True, [32, 16, 8])
    assert facts["test"] == metrics["test"] and facts["started_from"] == base and not facts["pooler_trained"]
    assert facts["text_read"] == load_facts(base)["corpus"]["sources"] != []
    assert load_config(str(out / "model"))["architectures"] == ["BertModel"]
    assert "MRR" in (out / "model" / "README.md").read_text()
    with pytest.raises(ConfigError):
        bertlab.load(str(out / "model")).fill("the [MASK]")


def test_the_run_leaves_a_page_with_its_scores(finished):
    out, metrics = finished
    shown = (out / "report.html").read_text()
    for place, value in (("test.after.mrr", metrics["test"]["after"]["mrr"]), ("history.3.mrr", metrics["history"][3]["mrr"])):
        assert f'<data value="{json.dumps(value)}" data-of="{place}">{value:.3f}</data>' in shown


def test_every_link_of_the_run_holds(finished):
    out, _ = finished
    links = list(chain.follow([out]))
    assert not [link for link in links if link.status == "differs"]
    assert {"run", "train file", "test file", "model", "log"} <= {link.name for link in links if link.status == "ok"}


def test_the_same_command_again_has_nothing_to_do(finished, base, files, capsys):
    out, metrics = finished
    before = weights(out / "model")
    settings = config(base, out, train=files["classes-train"], test=files["classes-test"], steps=40, dims=(16, 8))
    assert contrast.run(settings) == metrics and weights(out / "model") == before
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="temperature was 0.05"):
        contrast.run(config(base, out, train=files["classes-train"], test=files["classes-test"], steps=40, dims=(16, 8), temperature=0.1))


@pytest.mark.parametrize("pooling, normalize", [("mean", True), ("cls", True), ("max", False)])
def test_sentence_transformers_and_transformers_open_the_folder_as_it_is(base, files, tmp_path, pooling, normalize):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from transformers import AutoModel

    contrast.run(
        config(base, tmp_path / "run", train=files["triplets-train"], steps=2, pooling=pooling, normalize=normalize, symmetric=True)
    )
    folder = str(tmp_path / "run" / "model")
    texts = [row["text"] for row in rows_of("sentences", 20, 9)]
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu").encode(texts)
    ours = bertlab.load(folder, device="cpu").embed(texts)
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-5) == normalize
    _, found = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]


def test_a_run_that_was_cut_off_ends_with_the_same_bits_its_page_goes_on_with_it_and_a_tracker_changes_nothing(
    base, files, tmp_path, monkeypatch
):
    settings = {"train": files["pairs-train"], "steps": 6, "measure_every": 2, "micro_tokens": 64, "mlm_weight": 0.1}
    whole = contrast.run(config(base, tmp_path / "whole", **settings))
    save = learning.checkpoint.save_checkpoint

    def cut_off(root: Path, step: int, *rest: Any, **more: Any) -> Path:
        made = save(root, step, *rest, **more)
        if root.name == "checkpoints" and step == 4:
            raise KeyboardInterrupt
        return made

    told: list[tuple[int, dict[str, float]]] = []
    played = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append((-1, {})))
    monkeypatch.setattr(tracking, "find_spec", lambda name: SimpleNamespace(origin=name))
    monkeypatch.setattr(tracking, "start", lambda kind, *_: played if kind == "wandb" else None)
    monkeypatch.setattr(learning.checkpoint, "save_checkpoint", cut_off)
    with pytest.raises(KeyboardInterrupt):
        contrast.run(config(base, tmp_path / "cut", track="wandb", **settings))
    monkeypatch.setattr(learning.checkpoint, "save_checkpoint", save)
    assert not (tmp_path / "cut" / "model").exists()
    page = (tmp_path / "cut" / "report.html").read_text()
    assert "not finished: step 4" in page and "refresh content=60" in page and "history.2.mrr" in page
    assert contrast.run(config(base, tmp_path / "cut", track="wandb", **settings)) == whole
    assert "not finished" not in (tmp_path / "cut" / "report.html").read_text()
    assert weights(tmp_path / "cut" / "model") == weights(tmp_path / "whole" / "model")
    logged = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [(step, values["loss"]) for step, values in told if "loss" in values] == [(r["step"], r["loss"]) for r in logged if "loss" in r]
    measured = [(record["step"], record["dev"]["mrr"]) for record in logged if "dev" in record]
    assert [(step, values["dev/mrr"]) for step, values in told if "dev/mrr" in values] == measured and len(measured) == 4
    assert told[-1] == (-1, {})
    # with masked words kept the folder has their head
    assert load_config(str(tmp_path / "cut" / "model"))["architectures"] == ["BertForPreTraining"]
    assert len(bertlab.load(str(tmp_path / "cut" / "model")).fill("the [MASK]")) == 1


@pytest.mark.parametrize("positives", ["same", "neighbours"])
def test_a_corpus_brings_its_sentences_and_its_held_out_documents(base, corpus, tmp_path, positives):
    steps = {"same": 3, "neighbours": 30}[positives]
    metrics = contrast.run(config(base, tmp_path / "run", corpus=corpus, positives=positives, steps=steps))
    assert metrics["texts"] == "sentences" and metrics["rows"] == 84 * 3
    assert metrics["dev"]["after"]["n"] == metrics["test"]["after"]["n"] == 18
    assert load_facts(str(tmp_path / "run" / "model"))["positives"] == positives
    assert [source["name"] for source in text_read(str(tmp_path / "run" / "model"))] == [
        "made.txt",
        "texts.txt",
    ]  # who starts from it tells
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "## Text of the pretraining\n\n- made.txt (CC0-1.0)\n" in card and "## Training text\n\n- texts.txt (" in card
    if positives == "neighbours":
        assert metrics["test"]["after"]["mrr"] > metrics["test"]["before"]["mrr"]
    assert {"corpus"} <= {link.name for link in chain.follow([tmp_path / "run"]) if link.status == "ok"}


def test_of_a_large_corpus_some_documents_choose_and_others_measure(corpus, monkeypatch):
    monkeypatch.setattr(related_texts, "MOST_DEV", 12)
    monkeypatch.setattr(related_texts, "FEWEST", 5)
    texts = related_texts.of_corpus(open_corpus(corpus), positives="same", max_length=24, batch_size=8, seed=0)
    assert texts.test is not None and len(texts.dev) == len(texts.test) == 9
    assert not {tuple(ids) for ids in split(texts.dev.first)} & {tuple(ids) for ids in split(texts.test.first)}


def test_a_corpus_with_too_little_held_out_says_how_much_there_is_and_what_helps(corpus, monkeypatch):
    monkeypatch.setattr(related_texts, "FEWEST", 500)
    with pytest.raises(DataError, match=r"\d+ held-out documents, \d+ of each half .*500 are needed .*--heldout"):
        related_texts.of_corpus(open_corpus(corpus), positives="same", max_length=24, batch_size=8, seed=0)


def test_classes_are_told_with_their_texts_and_a_small_dev_share_with_what_helps(tmp_path):
    tokenizer = tokenizers.train(["the river of stone"] * 4, kind="wordpiece", vocab_size=100, lowercase=True)
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"river {number},{'ab'[number % 2]}\n" for number in range(60)))
    how: dict[str, Any] = {"dev_pairs": None, "max_length": 16, "batch_size": 8, "seed": 0}
    files = {"train": str(tmp_path / "rows.csv")}
    texts = related_texts.of_files(files, None, Names(), tokenizer, dev_share=0.5, **how)
    assert texts.notes[0] == f"trains on the 30 texts of 2 classes of {tmp_path / 'rows.csv'}"
    with pytest.raises(DataError, match=r"held-out texts that .*: give 10 or more .*--dev-share, --dev FILE or --dev-pairs"):
        related_texts.of_files(files, None, Names(), tokenizer, dev_share=0.1, **how)


def split(examples: Examples) -> list[list[int]]:
    bounds = examples.offsets.tolist()
    return [examples.ids[start:end].tolist() for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def test_where_no_step_is_better_the_start_is_kept(base, files, tmp_path, capsys, monkeypatch):
    falling = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(learning, "scores", lambda task, values: {"mrr": next(falling), "n": len(values)})
    metrics = contrast.run(config(base, tmp_path / "run", train=files["sentences-train"], steps=2))
    assert [found["mrr"] for found in metrics["history"]] == [0.9, 0.8, 0.7]
    assert metrics["best"]["step"] == 0 and metrics["dev"]["difference"] == 0
    assert "warning: no step made the vectors better" in capsys.readouterr().out
    old, new = (bertlab.load(folder).embed(["the old river"], normalize=True) for folder in (base, str(tmp_path / "run" / "model")))
    assert np.abs(old - new).max() < 1e-6


def test_scored_pairs_choose_by_spearman(base, files, tmp_path):
    draw = random.Random(5)
    rows = [
        {"text": text_about(a, draw), "text_b": text_about(b, draw), "score": str(float(a == b))}
        for a in TOPICS
        for b in TOPICS
        for _ in range(3)
    ]
    scored = write(tmp_path / "scored.csv", rows)
    metrics = contrast.run(config(base, tmp_path / "run", train=files["classes-train"], dev_pairs=scored, steps=20))
    assert metrics["dev"]["score"] == "spearman" and metrics["best"] == max(metrics["history"], key=lambda found: found["spearman"])
    assert metrics["dev"]["after"]["spearman"] > metrics["dev"]["before"]["spearman"]


def test_hard_negatives_are_among_what_is_searched_and_equal_texts_are_right(base):
    tokenizer = tokenizers.load(base)
    columns = [["river"] * 2 + ["opera"] * 8, ["pond", "stream", *["choir"] * 8], ["comet"] * 10]
    task = likeness_of(Related("triplets", columns, None, [""] * 10, "here"), tokenizer, 16)
    assert task.second is not None and len(task.second) == 20 and task.groups is not None
    first, second = task.groups
    assert first[0] == first[1] == second[0] == second[1] != second[2] and second[10] not in first
    assert task.first.ids.tolist() == encode_examples(tokenizer, columns[0], max_length=16).ids.tolist()


def test_dev_is_cut_off_and_rows_that_are_in_train_too_are_told(base, files):
    tokenizer = tokenizers.load(base)
    sizes: dict[str, Any] = {"max_length": 24, "batch_size": 8, "seed": 0, "dev_share": 0.25, "dev_pairs": None}
    texts = of_files({"train": files["pairs-train"], "test": files["pairs-train"]}, None, Names(), tokenizer, **sizes)
    assert len(texts.groups) + len(texts.dev) == 120 and len(texts.dev) == 30
    assert any("rows of test are in train" in note for note in texts.notes)
    with pytest.raises(DataError, match="give 10 or more"):
        of_files({"train": files["pairs-train"]}, None, Names(), tokenizer, **sizes | {"dev_share": 0.01})


# ---- several processes


def losses(out: Path) -> list[float]:
    """Of every step, which must be there once."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, len(steps) + 1))
    return [record["loss"] for record in steps]


def largest_difference(one: Path, other: Path) -> float:
    """Of any weight after the last step."""
    ours, theirs = (safetensors.torch.load_file(max((out / "checkpoints").iterdir()) / "model.safetensors") for out in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_several_processes_end_where_one_does(base, files, corpus, tmp_path, in_processes, capfd):
    """Without dropout, whose masks differ."""
    same: dict[str, Any] = {"dropout": 0.0, "batch_size": 10, "steps": 4, "measure_every": 2, "micro_tokens": 40, "learning_rate": 1e-3}
    kinds: dict[str, dict[str, Any]] = {
        "corpus": {"corpus": corpus, "positives": "neighbours", "mlm_weight": 0.1},
        "pairs": {"train": files["pairs-train"], "test": files["pairs-test"], "mlm_weight": 0.1, "dims": (16, 8), "workers": 1},
        "triplets": {"train": files["triplets-train"], "symmetric": True},
        "classes": {"train": files["classes-train"], "dims": (8,)},
    }

    def work(rank: int) -> list[dict[str, Any]]:
        return [contrast.run(config(base, tmp_path / f"{name} by two", **same, **kinds[name], processes=2)) for name in kinds]

    capfd.readouterr()
    first, second = in_processes(2, work)
    assert second == [{}] * len(kinds)  # the first writes, and speaks
    assert capfd.readouterr().out.count("chooses by") == len(kinds)
    for name, metrics in zip(kinds, first, strict=True):
        one, two = tmp_path / name, tmp_path / f"{name} by two"
        alone = contrast.run(config(base, one, **same, **kinds[name]))
        assert losses(two) == pytest.approx(losses(one), rel=1e-5) and len(losses(one)) == 4
        assert metrics["best"]["mrr"] == pytest.approx(alone["best"]["mrr"], abs=1e-3)
        assert largest_difference(one, two) < 1e-5
        assert not [link for link in chain.follow([two]) if link.status == "differs"]


def test_one_of_two_processes_that_is_asked_to_end_ends_both_and_another_number_goes_on(base, files, tmp_path, in_processes, capsys):
    same: dict[str, Any] = {"train": files["pairs-train"], "dropout": 0.0, "learning_rate": 1e-3}

    def work(rank: int) -> str:
        def asks(done: float, more: str) -> None:
            if done == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        learning.silent = lambda: nullcontext(asks)  # type: ignore[assignment, return-value]  # what the second process shows of its progress
        with pytest.raises(Preempted) as stopped:
            contrast.run(config(base, tmp_path / "run", **same))
        return str(stopped.value)

    first, second = in_processes(2, work)
    assert first == second and "stopped after step 3: the same command goes on" in first
    assert max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == "step-00000003"
    contrast.run(config(base, tmp_path / "whole", **same))
    capsys.readouterr()
    contrast.run(config(base, tmp_path / "run", **same, processes=1))
    assert "note: processes=1, 2 before: the same batches, but other dropout masks" in capsys.readouterr().out
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    assert largest_difference(tmp_path / "run", tmp_path / "whole") < 1e-5


def test_the_others_wait_for_days_while_the_first_measures(base, files, tmp_path, monkeypatch):
    def start(number: int | None, device: str | None, *, all_parts: bool, patience: timedelta) -> None:
        raise Preempted(f"{number} {all_parts} {patience.days}")

    monkeypatch.setattr(processes, "start", start)
    with pytest.raises(Preempted, match="2 False 7"):
        contrast.run(config(base, tmp_path / "run", train=files["pairs-train"], processes=2))


def test_the_processes_that_are_asked_for_are_started(base, files, tmp_path, monkeypatch):
    started: list[tuple[int, list[str]]] = []

    def start(number: int, command: list[str]) -> int:
        started.append((number, command))
        return 0

    monkeypatch.setattr(cli, "_torchrun", start)
    args = ["--model", base, "--train", files["pairs-train"], "--out", str(tmp_path / "run"), "--processes", "2"]
    assert cli.main(["contrast", *args]) == 0
    assert started == [(2, ["-m", "bertlab", "contrast", *args])] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "one of the two"),
        ({"train": "a", "corpus": "b"}, "one of the two"),
        ({"corpus": "a", "dev": "b"}, "held-out documents"),
        ({"train": "a", "positives": "neighbours"}, "no documents"),
        ({"train": "a", "dev": "b", "dev_pairs": "c"}, "two ways"),
        ({"train": "a", "batch_size": 1}, "the others of a batch"),
        ({"train": "a", "temperature": 0.0}, "above 0"),
        ({"train": "a", "dropout": 1.0}, "below 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(model="m", out="o", **settings)


def test_a_mistake_is_one_line(base, files, corpus, tmp_path, capsys):
    common = ["contrast", "--model", base, "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert cli.main([*common, "--train", files["pairs-train"], "--dims", "64"]) == 2
    assert "dims=64: this model's vectors have 1 to 32 numbers" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()
    other = tmp_path / "other"
    tokenizer = tokenizers.train(["quite another vocabulary of words"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)
    model = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                             intermediate_size=16, max_position_embeddings=24))  # fmt: skip
    save_model(other, model, tokenizer, facts={}, card="")
    assert cli.main(["contrast", "--model", str(other), "--corpus", corpus, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "have different vocabularies" in capsys.readouterr().err
    assert read_json(Path(corpus) / "manifest.json")["counts"]["heldout"]["documents"] == 36
