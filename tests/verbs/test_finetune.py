"""bertlab finetune on a tiny BERT and a task of words: it learns, dev alone chooses, nothing is lost, and a mistake is one line."""

import csv
import gzip
import itertools
import json
import os
import random
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from accelerate import Accelerator

import bertlab
from bertlab import cli, progress
from bertlab.batches.labelled import encode_examples
from bertlab.config import save
from bertlab.corpus.labelled import Labelled, overlap, read_labelled
from bertlab.disk import MANIFEST, read_json, read_sealed
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.alignment import read_predictions
from bertlab.evaluation.baselines import majority_class
from bertlab.evaluation.metrics import classification_metrics
from bertlab.model.encoder import EncoderConfig
from bertlab.model.facts import load_facts, load_labels
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.pages.results import opening
from bertlab.tasks import seeds
from bertlab.tasks.contract import Labels
from bertlab.tasks.data import Data
from bertlab.tasks.measures import leaks_of
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.tasks.start import open_start, read_splits
from bertlab.tokens import tokenizer as tokenizers
from bertlab.training.chain import follow
from bertlab.training.checkpoint import newest_checkpoint
from bertlab.training.objectives import IGNORED
from bertlab.verbs import finetune
from bertlab.verbs.finetune import Config

COMMON = ["the", "old", "one", "of", "a", "great", "many", "in", "this", "place", "was"]
TOPICS = {"music": ["violin", "opera", "choir"], "sky": ["planet", "comet", "orbit"], "water": ["river", "stream", "pond"]}


def topic_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows of a text and its topic, told by one word among common ones; water is half of all."""
    draw = random.Random(seed)
    labels = [draw.choice([*TOPICS, "water"]) for _ in range(count)]
    texts = []
    for label in labels:
        words = [*draw.choices(COMMON, k=draw.randint(3, 9)), draw.choice(TOPICS[label])]
        draw.shuffle(words)
        texts.append(" ".join(words))
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny BERT with random weights, as pretraining would leave it."""
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
    folder = tmp_path_factory.mktemp("topics")
    return {
        name: write(folder / f"{name}.csv", topic_rows(count, seed))
        for seed, (name, count) in enumerate({"train": 160, "test": 60}.items())
    }


def config(base: str, files: dict[str, str], out: Path, **settings: Any) -> Config:
    quick: dict[str, Any] = {"seeds": 1, "epochs": 2, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32", "baselines": False}
    return Config(**({"model": base, "out": str(out)} | files | quick | settings))


def read(settings: Config) -> Data:
    return read_splits(settings, open_start(settings))[0]


def rows_of(data: Data, split: str) -> Labelled:
    rows = data.splits[split]
    assert isinstance(rows, Labelled)
    return rows


def start(settings: Config, num_labels: int, seed: int) -> BertForSequenceClassification:
    model, _ = open_start(settings).model(SINGLE_LABEL, num_labels, seed)
    assert isinstance(model, BertForSequenceClassification)
    return model


def weights(folder: Path | str) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(base: str, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One whole run of two seeds, in which no library found anything to warn of."""
    out = tmp_path_factory.mktemp("run") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        metrics = finetune.run(config(base, files, out, seeds=2, epochs=8, baselines=True))
    return out, metrics


# ---- what a run learns and leaves


def test_a_task_of_words_is_learnt_well_above_the_majority(finished: tuple[Path, dict[str, Any]], files: dict[str, str]) -> None:
    metrics = finished[1]
    majority = metrics["baselines"]["majority class"]["accuracy"]
    labels = [*map(sorted(TOPICS).index, read_labelled(files["test"]).labels or [])]
    assert majority == np.mean(majority_class([2], 60) == np.array(labels)) < 0.65
    assert metrics["test"]["accuracy"] > majority + 0.25 and metrics["dev"]["accuracy"] > 0.9
    assert metrics["baselines"]["TF-IDF + logistic regression"]["accuracy"] > 0.9
    assert metrics["labels"] == sorted(TOPICS) and metrics["learning_rate"] == 1e-2


def test_the_run_folder_holds_metrics_predictions_and_the_model_and_they_agree(
    finished: tuple[Path, dict[str, Any]], files: dict[str, str], base: str
) -> None:
    out, metrics = finished
    assert read_json(out / "metrics.json") == metrics
    test = read_labelled(files["test"])
    table = pq.read_table(out / "predictions.parquet")
    assert table["id"].to_pylist() == test.ids and table["gold"].to_pylist() == test.labels
    assert table["text_sha256"].to_pylist() == test.text_hashes()
    names = metrics["labels"]
    gold, predicted = ([names.index(label) for label in table[column].to_pylist()] for column in ("gold", "predicted"))
    assert classification_metrics(gold, predicted, names) == metrics["test"]

    model = bertlab.load(str(out / "model"))
    assert model.labels == load_labels(str(out / "model")) == names
    probabilities = model.outputs_of(model.encode(test.texts))
    np.testing.assert_allclose(probabilities, np.array(table["probabilities"].to_pylist()), atol=1e-6)
    facts = load_facts(str(out / "model"))
    assert facts["kind"] == "classifier" and facts["started_from"] == base and facts["best_seed"] == metrics["best_seed"]
    assert facts["text_read"] == load_facts(base)["corpus"]["sources"] != []
    assert set(facts["data"]) == {"train", "test"} and facts["train_examples"] == metrics["examples"]["train"]
    assert "# A classifier" in (out / "model" / "README.md").read_text()
    assert (out / "config.yaml").is_file()


def test_the_baselines_answers_are_of_the_run_and_damage_to_them_is_found(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, metrics = finished
    found = metrics["against_baseline"]
    assert found["file"] == "baselines/tf-idf-logistic-regression/predictions.parquet" and found["a"] == metrics["test"]["macro"]["f1"]
    assert found["b"] == metrics["baselines"]["TF-IDF + logistic regression"]["macro"]["f1"]
    assert found["file"] in read_sealed(out / "model" / MANIFEST)["run"]
    kept = (out / found["file"]).parent
    assert list(follow([kept])) == list(follow([out])) and not [link for link in follow([kept]) if link.status == "differs"]
    copy = shutil.copytree(out, tmp_path / "run")
    damaged = bytearray((copy / found["file"]).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / found["file"]).write_bytes(damaged)
    assert [link.message for link in follow([copy]) if link.status == "differs"] == [
        f"{copy / found['file']} is not the file that {copy / 'model'} was made with: copy the run folder again "
        f"(bertlab finetune --config {copy / 'config.yaml'} --out ANOTHER makes it anew)"
    ]
    with pytest.raises(CorruptError, match="not the file that was written"):
        read_predictions(copy / found["file"])


def test_the_best_epoch_of_each_seed_and_the_best_seed_are_those_of_highest_dev_macro_f1(finished: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = finished
    for seed in metrics["seeds"]:
        best = max(seed["history"], key=lambda epoch: (epoch["dev_macro_f1"], -epoch["dev_loss"]))
        assert [epoch["epoch"] for epoch in seed["history"]] == list(range(1, 9))
        assert (
            seed["epoch"] == best["epoch"] and seed["dev"]["macro"]["f1"] == best["dev_macro_f1"] and seed["dev_loss"] == best["dev_loss"]
        )
    chosen = max(metrics["seeds"], key=lambda seed: (seed["dev"]["macro"]["f1"], -seed["dev_loss"]))
    assert metrics["best_seed"] == chosen["seed"] and metrics["dev"] == chosen["dev"] and metrics["test"] == chosen["test"]
    (kept,) = (out / "seeds" / f"seed-{chosen['seed']}").glob("step-*")
    saved, model = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (kept, out / "model"))
    assert saved.keys() == model.keys() and all(torch.equal(saved[name], model[name]) for name in saved)
    f1s = [seed["test"]["macro"]["f1"] for seed in metrics["seeds"]]
    assert metrics["over_seeds"]["macro_f1"]["mean"] == pytest.approx(np.mean(f1s))


def test_the_weights_kept_are_those_of_the_best_epoch_and_not_of_the_last(base: str, files: dict[str, str], tmp_path: Path) -> None:
    settings = config(base, files, tmp_path, epochs=3)
    task = read(settings)
    model = start(settings, 3, 0)
    right = task.gold["dev"]
    seen: list[dict[str, Any]] = []

    def metrics_that_fall(gold: Any, probabilities: Any, labels: Labels) -> dict[str, Any]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return classification_metrics(right, right if len(seen) == 1 else [0] * len(right), labels.names)

    falling = replace(task, task=replace(task.task, metrics=metrics_that_fall))
    state = seeds.train_seed(finetune.recipe_of(settings), falling, model, 0, Accelerator(cpu=True))
    assert len(seen) == 3 and state["epoch"] == 1 and state["dev"]["accuracy"] == 1.0
    assert all(torch.equal(value, seen[0][name]) for name, value in model.state_dict().items())
    assert not all(torch.equal(value, seen[2][name]) for name, value in model.state_dict().items())


def test_the_test_file_never_has_a_part_in_a_choice(base: str, files: dict[str, str], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"seeds": 2, "epochs": 3}
    none = finetune.run(config(base, {"train": files["train"]}, tmp_path / "none", **settings))
    assert "test" not in none and not (tmp_path / "none" / "predictions.parquet").exists()
    draw = random.Random(0)
    texts = [" ".join(draw.choice(words) for words in draw.sample(list(TOPICS.values()), 2)) for _ in range(60)]  # of two topics each
    answers: dict[int, list[str]] = {}
    for seed in (0, 1):
        model = start(config(base, files, tmp_path), 3, seed)
        saved = newest_checkpoint(tmp_path / "none" / "seeds" / f"seed-{seed}")
        assert saved is not None
        saved.restore(model, [])
        examples = encode_examples(tokenizers.load(base), texts, max_length=24)
        found = SINGLE_LABEL.run(model, examples, Labels(none["labels"]), device=torch.device("cpu")).argmax(1)
        answers[seed] = [none["labels"][number] for number in found]
    assert answers[0] != answers[1]

    for favourite in (0, 1):  # a test file on which this seed is right and the other is not
        test = write(
            tmp_path / f"{favourite}.csv", [{"text": text, "label": label} for text, label in zip(texts, answers[favourite], strict=True)]
        )
        out = tmp_path / f"favours-{favourite}"
        metrics = finetune.run(config(base, {"train": files["train"], "test": test}, out, **settings))
        assert [seed["test"]["accuracy"] == 1.0 for seed in metrics["seeds"]] == [favourite == 0, favourite == 1]
        assert metrics["best_seed"] == none["best_seed"] and metrics["dev"] == none["dev"]
        assert weights(out / "model") == weights(tmp_path / "none" / "model")
        assert [{key: value for key, value in seed.items() if key != "test"} for seed in metrics["seeds"]] == none["seeds"]


# ---- the data


def test_the_dev_split_is_cut_from_train_and_shares_no_text_with_it(base: str, files: dict[str, str], tmp_path: Path) -> None:
    doubled = write(tmp_path / "train.csv", topic_rows(100, seed=5) * 2)
    task = read(config(base, {"train": doubled}, tmp_path, dev_share=0.2))
    train, dev = rows_of(task, "train"), rows_of(task, "dev")
    assert len(train) + len(dev) == 200 and 20 <= len(dev) <= 60 and overlap(train, dev) == overlap(dev, train) == 0
    assert Counter(train.texts + dev.texts) == Counter(read_labelled(doubled).texts)
    given = read(config(base, files | {"dev": files["test"]}, tmp_path))
    assert len(given.splits["train"]) == 160 and given.splits["dev"] == given.splits["test"] == read_labelled(files["test"])


def test_the_classes_are_those_of_train_in_their_order_whatever_order_the_test_has(base: str, tmp_path: Path) -> None:
    train = write(
        tmp_path / "train.csv", [{"text": f"the old {n} {label}", "label": label} for n in range(6) for label in ("10", "9", "2")]
    )
    test = write(tmp_path / "test.csv", [{"text": "one", "label": "10"}, {"text": "two", "label": "9"}])
    task = read(config(base, {"train": train, "test": test}, tmp_path))
    assert task.labels.names == ["2", "9", "10"] and task.gold["test"] == [2, 1] == task.encoded["test"].labels.tolist()
    assert [task.labels.names[number] for number in task.gold["train"]] == rows_of(task, "train").labels


def test_texts_of_test_that_are_in_train_are_told(base: str, files: dict[str, str], tmp_path: Path) -> None:
    data = read(config(base, files | {"dev": files["test"], "test": files["train"]}, tmp_path))
    warnings = [line for line in opening(data, "as asked", leaks_of(data)) if line.startswith("warning")]
    assert warnings[-1].startswith("warning: 160 of 160 test texts are in train too: 160 equal, 0 nearly")
    cut = read(config(base, files | {"test": files["train"]}, tmp_path))
    kept, texts = len(cut.splits["train"]), "test texts are in train (what was left of it when dev was cut off) too"
    (line,) = [line for line in opening(cut, "as asked", leaks_of(cut)) if texts in line]
    assert kept < 160 and line.startswith(f"warning: {leaks_of(cut)['test']['equal'] + leaks_of(cut)['test']['near']} of 160 {texts}")


def test_what_is_wrong_with_labels_is_told_once_and_of_all_splits(base: str, tmp_path: Path) -> None:
    rows = [{"text": f"the old {number}", "label": "ab"[number % 2]} for number in range(12)]
    files = {
        "train": write(tmp_path / "train.csv", [*rows, {"text": "one", "label": "a"}]),
        "dev": write(tmp_path / "dev.csv", [{"text": "one", "label": "b"}, {"text": "of a", "label": "a"}]),
        "test": write(tmp_path / "test.csv", [{"text": "one", "label": "b"}, {"text": "of a", "label": "b"}]),
    }
    data = read(config(base, files, tmp_path))
    lines = opening(data, "as asked", leaks_of(data))
    assert not any(line.startswith("test  none") for line in lines)
    without = opening(read(config(base, {name: files[name] for name in ("train", "dev")}, tmp_path / "without")), "as asked", {})
    assert "test  none: what dev says will flatter, for epoch and seed are chosen by it" in without
    assert [line for line in lines if "different labels" in line] == [
        "warning: 2 texts have different labels in different rows of train, dev and test: one of them is wrong"
    ]
    assert lines[-2:] == [
        "            train.csv:14 'a', dev.csv:2 'b', test.csv:2 'b'", "            dev.csv:3 'a', test.csv:3 'b'"
    ]  # fmt: skip


def opening_of(base: str, folder: Path, counts: dict[str, int], **more: Any) -> list[str]:
    """What is said before training on so many rows of each label."""
    rows = [{"text": f"the {label} {number}", "label": label} for label, count in counts.items() for number in range(count)]
    file = write(folder / "train.csv", rows)
    return opening(read(config(base, {"train": file, "dev": file}, folder)), "as asked", {}, **more)


def test_classes_of_few_examples_are_told_the_rarest_first_and_at_most_five_of_them(base: str, tmp_path: Path) -> None:
    counts = {"plenty": 5, "four": 4, "one": 1, "two": 2}
    many = counts | {f"more {number}": 3 for number in range(4)}

    def told(counts: dict[str, int], **more: Any) -> list[str]:
        return [line for line in opening_of(base, tmp_path, counts, **more) if "examples:" in line]

    assert told(counts) == ["warning: 3 classes have fewer than 5 training examples: one 1, two 2, four 4"]
    assert told(many) == ["warning: 7 classes have fewer than 5 training examples: one 1, two 2, more 0 3, more 1 3, more 2 3 and 2 others"]
    assert told({"plenty": 5, "four": 4}) == ["warning: 1 class has fewer than 5 training examples: four 4"]
    assert told({"plenty": 5, "as many": 5}) == told(counts, few=True) == []


def test_labels_that_are_others_joined_are_told_with_the_mark(base: str, tmp_path: Path) -> None:
    def told(*labels: str) -> list[str]:
        return [line for line in opening_of(base, tmp_path, dict.fromkeys(labels, 5)) if "--label-separator" in line]

    for mark in "|;,":
        joined = [f"sea{mark}sky", f"sky {mark} moss", f"sea{mark}moss"]
        assert told(*joined) == [
            f"note: 3 labels, as 'sea{mark}moss', are names of other labels with '{mark}' between: if a text may have several, give "
            f"--label-separator '{mark}', and each is learnt as one"
        ]
    assert told("sea|sky", "sky", "sea", "moss") == [], "one may be so by chance"
    assert told("Society, politics and law", "Arts, letters", "Earth, moon", "People") == []
    joined = ["sea, sky", "sky, moss", "sea, moss"]
    for mark, is_told in ((";", True), (",", False)):  # another mark than was given parts them
        file = write(tmp_path / "several.csv", [{"text": f"the {label}", "label": label} for label in joined])
        given = config(base, {"train": file, "dev": file}, tmp_path, label_separator=mark)
        assert any("give --label-separator ','" in line for line in opening(read(given), "as asked", {})) == is_told


def test_labels_that_differ_only_in_case_or_spaces_are_told(base: str, tmp_path: Path) -> None:
    def told(*labels: str) -> list[str]:
        return [line for line in opening_of(base, tmp_path, dict.fromkeys(labels, 5)) if "written" in line]

    only = "that differ only in case, spaces or Unicode form"
    own = "and each way is learnt as a label of its own: write them alike"
    assert told("CANCEL", "cancel", "other one", "Other  one", "OTHER ONE", "music") == [
        f"warning: 2 labels are written in ways {only} (CANCEL / cancel, OTHER ONE / Other  one / other one), {own}"
    ]
    assert told("ﬁn", "fin", "b") == [f"warning: 1 label is written in ways {only} (fin / ﬁn), {own}"]
    many = [name for number in range(6) for name in (f"a{number}", f"A{number}")]
    assert told(*many)[0].startswith("warning: 6 labels are") and "A4 / a4 and others)" in told(*many)[0]
    assert told("cancel", "cancels", "can cel") == []


def test_texts_without_a_word_are_counted_and_named(base: str, tmp_path: Path) -> None:
    rows = [{"text": f"the old {number}", "label": "ab"[number % 2]} for number in range(12)]
    empty = [{"text": text, "label": "a"} for text in ("", "  \t", "\u3000", " ")]
    train, dev = write(tmp_path / "train.csv", [*rows, *empty]), write(tmp_path / "dev.csv", [*rows, empty[0]])
    data = read(config(base, {"train": train, "dev": dev}, tmp_path))
    assert [line for line in opening(data, "as asked", {}) if "no word" in line] == [
        "warning: 4 of 16 train texts have no word (train.csv:14, train.csv:15, train.csv:16 and others): take them out, or put text in",
        "warning: 1 of 13 dev texts has no word (dev.csv:14): take them out, or put text in",
    ]


def pair_rows(count: int, seed: int) -> list[dict[str, str]]:
    """ "left": the word that tells is in the first text, "right": in the second. Without segments the two look much alike."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(["left", "right"])
        telling, other = " ".join([draw.choice(COMMON), "violin"]), " ".join(draw.choices(COMMON, k=2))
        rows.append({"text": telling if label == "left" else other, "text_b": other if label == "left" else telling, "label": label})
    return rows


def test_pairs_have_segments_and_are_learnt(base: str, tmp_path: Path) -> None:
    train, test = write(tmp_path / "train.tsv", pair_rows(240, 0)), write(tmp_path / "test.tsv", pair_rows(60, 1))
    settings = config(base, {"train": train, "test": test}, tmp_path / "run", epochs=8, baselines=True)
    task = read(settings)
    rows = rows_of(task, "test")
    assert rows.texts_b is not None
    expected = encode_examples(tokenizers.load(base), rows.texts, rows.texts_b, max_length=24)
    assert task.encoded["test"].segments.tolist() == expected.segments.tolist() and 1 in expected.segments
    metrics = finetune.run(settings)
    assert metrics["test"]["accuracy"] > 0.9 and set(metrics["baselines"]) == {"TF-IDF + logistic regression", "majority class"}
    model = bertlab.load(str(tmp_path / "run" / "model"))
    assert [prediction.label for prediction in model.predict(["old violin", "the old"], ["the old", "old violin"])] == ["left", "right"]
    with pytest.raises(DataError, match="was fine-tuned on pairs: give a second text"):
        model.predict(["old violin"])


def test_columns_may_have_other_names(base: str, tmp_path: Path) -> None:
    rows = [
        {"first": row["text"], "second": row["text_b"], "class": row["label"], "text": "not this", "label": "x"} for row in pair_rows(40, 2)
    ]
    named: dict[str, Any] = {"text": "first", "text_b": "second", "label": "class"}
    plain = write(tmp_path / "plain.csv", pair_rows(40, 2))
    renamed = write(tmp_path / "renamed.csv", rows)
    other = read(config(base, {"train": renamed}, tmp_path, **named))
    same = read(config(base, {"train": plain}, tmp_path))
    assert other.labels.names == same.labels.names == ["left", "right"] and other.gold == same.gold
    assert other.encoded["train"].ids.tolist() == same.encoded["train"].ids.tolist()


# ---- the start and the steps


def test_the_start_is_the_folders_encoder_with_a_head_drawn_from_the_seed(base: str, files: dict[str, str], tmp_path: Path) -> None:
    settings = config(base, files, tmp_path, dropout=0.25)
    published = load_model(base, BertForPreTraining)[0].bert.state_dict()
    first, again, other = (start(settings, 3, seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, published[name]) for name, value in first.bert.state_dict().items())
    assert torch.equal(first.classifier.weight, again.classifier.weight) and not torch.equal(
        first.classifier.weight, other.classifier.weight
    )
    assert first.config.hidden_dropout_prob == first.dropout.p == 0.25
    scratch, another = (start(config(base, files, tmp_path, from_random=True), 3, seed) for seed in (0, 1))
    assert scratch.bert.state_dict().keys() == published.keys()
    for name, value in scratch.bert.state_dict().items():
        assert value.shape == published[name].shape
        if value.ndim == 2:
            assert not torch.equal(value, published[name]) and not torch.equal(value, another.bert.state_dict()[name])


def test_a_run_from_random_weights_says_so(base: str, files: dict[str, str], tmp_path: Path) -> None:
    finetune.run(config(base, files, tmp_path / "run", from_random=True, epochs=1))
    facts = load_facts(str(tmp_path / "run" / "model"))
    assert facts["started_from"] == "random weights" and facts["text_read"] == []


def test_label_smoothing_makes_the_classifier_less_sure(base: str, files: dict[str, str], tmp_path: Path) -> None:
    sure = []
    for smoothing in (0.0, 0.6):
        out = tmp_path / str(smoothing)
        finetune.run(config(base, files, out, label_smoothing=smoothing, epochs=8))
        sure.append(np.array(pq.read_table(out / "predictions.parquet")["probabilities"].to_pylist()).max(1).mean())
    assert sure[0] > 0.85 and sure[1] < 0.75  # of a smoothed target the true class has 0.4 + 0.6 / 3


def test_a_classifier_of_other_classes_can_be_the_start(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    old = str(finished[0] / "model")
    train = write(tmp_path / "pairs.csv", pair_rows(60, 3))
    settings = config(old, {"train": train}, tmp_path / "run", epochs=1)
    first = start(settings, 2, 0)
    encoder = load_model(old, BertForSequenceClassification)[0].bert.state_dict()
    assert all(torch.equal(value, encoder[name]) for name, value in first.bert.state_dict().items())
    finetune.run(settings)
    assert load_labels(str(tmp_path / "run" / "model")) == ["left", "right"]
    assert bertlab.load(str(tmp_path / "run" / "model")).predict(["violin"], ["old"])[0].probabilities.keys() == {"left", "right"}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_the_processes_share_every_batch_and_one_without_a_row_takes_filler(
    base: str, files: dict[str, str], tmp_path: Path, ranks: int
) -> None:
    settings = config(base, files, tmp_path, batch_size=4, micro_tokens=25)
    train = read(settings).encoded["train"]
    few = type(train)(train.ids[: train.offsets[10]], train.segments[: train.offsets[10]], train.offsets[:11], train.labels[:10], 0)
    visited, fillers = [], 0
    for step in range(6):  # two epochs of 4, 4 and 2 rows
        rows = few.shuffled(step, 4, 7).tolist()
        shared: list[int] = []
        for rank in range(ranks):
            batches = seeds.micro_batches(few, finetune.recipe_of(settings), 7, rank, ranks, step)
            assert batches, "every process takes part in every step"
            for batch in batches:
                assert batch.num_tokens <= 25 or batch.num_sequences == 1
                if rank < len(rows):
                    assert batch.labels.tolist() == few.labels[batch.rows.numpy()].tolist()
                    shared += batch.rows.tolist()
                else:
                    assert batch.num_sequences == 1 and batch.labels.tolist() == [IGNORED]
                    fillers += 1
        assert sorted(shared) == sorted(rows)
        visited += shared
    assert Counter(visited) == dict.fromkeys(range(10), 2) and fillers == 2 * sum(max(0, ranks - size) for size in (4, 4, 2))


# ---- going on


def test_a_run_says_that_it_had_no_test_and_which_classes_the_test_has_none_of(
    base: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(files["test"]).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    one = write(tmp_path / "one.csv", [row for row in rows if row["label"] == rows[0]["label"]])
    quick: dict[str, Any] = {"seeds": 1, "epochs": 1}
    finetune.run(replace(config(base, files | {"test": one}, tmp_path / "one", **quick)))
    shown = capsys.readouterr().out
    assert "           note: no example of " in shown and "macro-F1 can be " in shown and "test       none" not in shown
    finetune.run(replace(config(base, {"train": files["train"]}, tmp_path / "none", **quick)))
    assert "test       none: what dev says flatters. Give --test FILE and another --out" in capsys.readouterr().out
    how = rf"--out, or score its model by bertlab evaluate --model \S+none/model --data {re.escape(one)} --out DIR$"
    with pytest.raises(ConfigError, match=rf"none was started without a test file: choose another {how}"):
        finetune.run(replace(config(base, {"train": files["train"], "test": one}, tmp_path / "none", **quick)))
    with pytest.raises(ConfigError, match=r"none was started with another train file and without a test file: choose another --out$"):
        finetune.run(replace(config(base, {"train": files["test"], "test": one}, tmp_path / "none", **quick)))


def test_a_tracker_is_told_of_every_epochs_scores_on_dev_and_a_run_of_one_seed_says_that_it_is_one(
    base: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = finetune.run(config(base, files, tmp_path / "run", seeds=1, epochs=2, track="tensorboard"))
    shown = capsys.readouterr().out
    assert "(the epoch was chosen on these)" in shown and "(of one seed: how far others differ is not known)" in shown
    assert "seeds" not in shown and "the best epoch by dev macro-F1" in (tmp_path / "run" / "model" / "README.md").read_text()
    read = EventAccumulator(str(tmp_path / "run" / "track"))
    read.Reload()
    told = [event.value for event in read.Scalars("seed-0/dev_macro_f1")]
    assert told == pytest.approx([epoch["dev_macro_f1"] for epoch in metrics["seeds"][0]["history"]], abs=1e-6) and len(told) == 2
    assert read.Scalars("seed-0/loss") and (tmp_path / "run" / "report.html").is_file()


def test_tokens_a_second_are_over_the_same_time_as_steps(
    base: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    clock = itertools.count()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))  # a second a step

    @contextmanager
    def watched(*_: Any) -> Iterator[Any]:
        yield lambda done, more: told.append(done * float(re.findall(r"([\d,.]+) tokens/s", more)[0].replace(",", "")))

    monkeypatch.setattr(seeds, "watched", watched)
    finetune.run(config(base, files, tmp_path / "run", seeds=1, epochs=1))
    assert len(told) > 2 and all(more > 1.2 * less for less, more in zip(told[:3], told[1:3], strict=False)), "all tokens so far"


def test_a_run_that_was_cut_off_goes_on_with_the_seeds_that_are_not_finished(
    base: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[int] = []
    turns: list[seeds.Turn] = []
    train_seed = seeds.train_seed

    def counted(recipe: Any, data: Any, model: Any, seed: int, accelerator: Any, *more: Any) -> dict[str, Any]:
        if stop_at == seed:
            raise KeyboardInterrupt
        trained.append(seed)
        turns.append(more[-1])
        return train_seed(recipe, data, model, seed, accelerator, *more)

    monkeypatch.setattr(seeds, "train_seed", counted)
    whole, cut = config(base, files, tmp_path / "whole", seeds=2), config(base, files, tmp_path / "cut", seeds=2)
    stop_at = -1
    expected = finetune.run(whole)
    assert turns == [seeds.Turn("seed 0 (1 of 2)", later=1), seeds.Turn("seed 1 (2 of 2)")]
    trained.clear()
    stop_at = 0
    with pytest.raises(
        KeyboardInterrupt, match="^stopped: none of 2 seeds is finished, so nothing is kept, and the same command begins anew$"
    ):
        finetune.run(cut)
    stop_at = 1
    with pytest.raises(KeyboardInterrupt, match="^stopped: 1 of 2 seeds is finished and kept, and the same command goes on with the next$"):
        finetune.run(cut)
    assert trained == [0] and not (tmp_path / "cut" / "model").exists()
    stop_at = -1
    assert finetune.run(cut) == expected and trained == [0, 1]
    assert weights(tmp_path / "cut" / "model") == weights(tmp_path / "whole" / "model")
    assert (tmp_path / "cut" / "predictions.parquet").read_bytes() == (tmp_path / "whole" / "predictions.parquet").read_bytes()
    capsys.readouterr()
    assert finetune.run(cut) == expected and trained == [0, 1]
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_a_run_goes_on_with_the_settings_that_it_was_started_with_and_no_others(
    finished: tuple[Path, dict[str, Any]], base: str, files: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="was started with other settings .*epochs was 8, is 5"):
        finetune.run(config(base, files, finished[0], seeds=2, epochs=5, baselines=True))


def test_a_finished_run_is_none_of_other_files_but_of_the_same_elsewhere_or_gone(
    finished: tuple[Path, dict[str, Any]], base: str, files: dict[str, str], tmp_path: Path
) -> None:
    def again(out: Path, **named: Any) -> dict[str, Any]:
        return finetune.run(replace(config(base, files, out, seeds=2, epochs=8, baselines=True), **named))

    out, metrics = finished
    more = tmp_path / "more.jsonl"
    more.write_text(2 * Path(files["train"]).read_text())
    with pytest.raises(ConfigError, match=r"was started with another train file: choose another --out$"):
        again(out, train=str(more))
    for name in ("test", "model"):
        with pytest.raises(ConfigError, match=r"nothere: no such file or folder.*, and .* is finished: correct"):
            again(out, **{name: str(tmp_path / "nothere")})
    moved = str(shutil.copy(files["train"], tmp_path / "moved.jsonl"))
    assert again(out, train=moved) == metrics
    copy = shutil.copytree(out, tmp_path / "copy")
    save(replace(config(base, files, copy, seeds=2, epochs=8, baselines=True), train="gone.jsonl"), copy / "config.yaml")
    assert again(copy, train="gone.jsonl") == metrics


# ---- mistakes


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """refused(code, option, ...): `bertlab finetune` ends with that exit code and one line, which is returned."""
    before = dict(os.environ)

    def check(code: int, *options: str) -> str:
        capsys.readouterr()
        assert cli.main(["finetune", "--device", "cpu", *options]) == code
        line = capsys.readouterr().err
        assert line.startswith("bertlab: ") and line.count("\n") == 1 and "Traceback" not in line
        return line

    yield check
    os.environ.clear()
    os.environ.update(before)


ROWS = [{"text": f"the old {n}", "label": "ab"[n % 2]} for n in range(8)]


def test_data_that_cannot_be_used_is_one_line_that_says_where(base: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    train = write(tmp_path / "train.csv", ROWS)

    def line(name: str, content: str | bytes, split: str = "train") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        shown = {"--train": train, f"--{split}": str(path)}
        text = refused(3, "--model", base, "--out", str(tmp_path / f"run {name}"), *(part for pair in shown.items() for part in pair))
        assert name in text and not (tmp_path / f"run {name}" / "model").exists()
        return text

    assert "no column 'label'" in line("column.csv", "text,topic\nthe old,a\nthe new,b\n").replace('"', "'")
    assert "label 'c'" in line("unseen.csv", "text,label\nthe old,a\nthe new,c\n", "test") and "unseen.csv:3" in line(
        "unseen.csv", "text,label\nthe old,a\nthe new,c\n", "test"
    )
    assert "one label, 'a' in 2 rows" in line("one.csv", "text,label\nthe old,a\nthe new,a\n")
    assert "mixed.csv:3" in line("mixed.csv", "text,label\nthe old,a\nthe new,b,c,d\n")
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in topic_rows(400, 0)).encode())
    assert "cut.jsonl.gz" in line("cut.jsonl.gz", whole[: len(whole) // 2])
    assert "text_b" in line("pairs.csv", "text,text_b,label\nthe old,new,a\nthe new,old,b\n", "test")
    assert "no rows" in line("empty.csv", "text,label\n")


def test_settings_that_cannot_be_used_are_one_line(base: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    train = write(tmp_path / "train.csv", ROWS)
    run = str(Path(base).parent)

    def line(*options: str, model: str = base, file: str = train, out: str = "") -> str:
        out = out or str(tmp_path / f"run {len(list(tmp_path.iterdir()))}")
        return refused(2, "--model", model, "--train", file, "--out", out, *options)

    assert "nothing: no such file or folder: correct the path" in line(model=str(tmp_path / "nothing"))
    assert "did you mean the folder `model` inside it?" in line(model=run)
    assert "no such file or folder: correct --train" in line(file=str(tmp_path / "nothing.csv"))
    assert "seeds=0" in line("--seeds", "0")
    assert "max_length=3" in line("--max-length", "3")
    assert "learning_rate" in line("--learning-rate", "-1")
    assert "dev_share=1.5" in line("--dev-share", "1.5")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    assert "thesis.txt is a file, and --out is a folder" in line(out=str(tmp_path / "used" / "thesis.txt"))
    assert "thesis.txt" in line(out=str(tmp_path / "used")) and (tmp_path / "used" / "thesis.txt").read_text() == "mine"


def test_a_mistake_leaves_a_run_folder_that_the_mended_command_can_use(base: str, tmp_path: Path) -> None:
    train, unseen = write(tmp_path / "train.csv", ROWS), write(tmp_path / "test.csv", [{"text": "old", "label": "c"}])
    with pytest.raises(DataError, match="label 'c'"):
        finetune.run(config(base, {"train": train, "test": unseen}, tmp_path / "run"))
    finetune.run(config(base, {"train": train, "test": train}, tmp_path / "run", epochs=1))
    assert (tmp_path / "run" / "model").is_dir()


def test_texts_longer_than_the_models_positions_are_cut_and_counted(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "the old " * (20 if n < 3 else 1) + str(n), "label": "ab"[n % 2]} for n in range(12)]
    train, test = write(tmp_path / "train.csv", rows), write(tmp_path / "test.csv", rows[:5])
    metrics = finetune.run(config(base, {"train": train, "dev": test, "test": test}, tmp_path / "run", epochs=1, max_length=512))
    assert metrics["truncated"] == {"train": 3, "dev": 3, "test": 3}
    shown = capsys.readouterr().out
    assert "train 12 examples of 2 classes" in shown and "3 truncated" in shown
    assert bertlab.load(str(tmp_path / "run" / "model")).max_length == 24


def test_splits_must_agree_on_their_columns(base: str, tmp_path: Path) -> None:
    single, pairs = write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.csv", [row | {"text_b": "x"} for row in ROWS])
    for train, dev in ((single, pairs), (pairs, single)):
        with pytest.raises(DataError, match="one of train and dev has text_b and the other has not"):
            read(config(base, {"train": train, "dev": dev}, tmp_path))


def test_the_cards_recipe_for_transformers_alone_gives_the_models_probabilities(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = finished[0] / "model"
    texts = ["a text", "the river runs over a hill " * 90]  # more than it has positions
    answers: list[Any] = bertlab.load(str(model), "cpu").predict(texts)
    (code,) = re.findall(r"```python\n(from transformers.*?)```", (model / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(model)
    known: dict[str, Any] = {}
    exec(code.replace('model(["a text"])', f"found = model({texts!r})"), known)
    for ours, theirs in zip(answers, known["found"], strict=True):
        probabilities = ours.uncalibrated or ours.probabilities
        assert {each["label"]: each["score"] for each in theirs} == pytest.approx(probabilities, abs=1e-5)
