"""Several tasks on one encoder: steps shared as said, a step of one task leaves the other heads alone, each model stands by itself."""

import importlib.util
import re
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

import bertlab
from bertlab.disk import MANIFEST, read_json, read_sealed
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.evaluation.alignment import read_predictions
from bertlab.model.folder import load_model
from bertlab.model.heads import BertForPreTraining
from bertlab.pages.report import write_report
from bertlab.tasks.choosing import TASKS
from bertlab.tasks.settings import FineTuning
from bertlab.tasks.start import Start, open_start
from bertlab.tasks.together import EachItsOwn, Together, schedule
from bertlab.training.chain import follow
from bertlab.verbs import compare, evaluate, finetune, multitask

Rows = list[tuple[str, set[str]]]
TRACK: Any = "tensorboard" if importlib.util.find_spec("tensorboard") else None
QUICK: dict[str, Any] = {"seeds": 2, "epochs": 8, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}


@pytest.mark.parametrize(("sampling", "shares"), [("proportional", [81, 9, 1]), ("square-root", [63, 21, 7]), ("uniform", [31, 30, 30])])
def test_steps_are_shared_as_said_and_each_tasks_visits_are_in_order(sampling: Any, shares: list[int]) -> None:
    sizes = {"large": 8100, "middle": 900, "small": 100}
    plan = schedule(sizes, sampling, 91, seed=3)
    assert Counter(name for name, _ in plan) == dict(zip(sizes, shares, strict=True))
    for name in sizes:
        assert [visit for which, visit in plan if which == name] == list(range(shares[list(sizes).index(name)]))
    assert plan == schedule(sizes, sampling, 91, seed=3) != schedule(sizes, sampling, 91, seed=4)
    names = [name for name, _ in plan]
    assert names != sorted(names, key=list(sizes).index)  # mixed, not one after the other
    assert {name for name, _ in schedule({"large": 10**6, "small": 1}, "proportional", 20, 0)} == {"large", "small"}


def begin(folder: str) -> Start:
    return open_start(FineTuning(model=folder, out="unused", dropout=0.0))


def together(base: str) -> Together:
    kinds = {"a": ("single-label", 3), "b": ("tokens", 3), "c": ("answers", 2)}
    return Together({name: begin(base).model(TASKS[kind], count, 0)[0] for name, (kind, count) in kinds.items()})


def test_the_encoder_is_one_and_its_parameters_are_counted_once(base: str) -> None:
    model = together(base)
    assert model.model("a").bert is model.model("b").bert is model.model("c").bert is model.bert and model.bert.pooler is not None
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == len(list(model.bert.named_parameters())) + 6
    published = load_model(base, BertForPreTraining)[0].bert.state_dict()
    assert all(torch.equal(value, published[name]) for name, value in model.bert.state_dict().items())
    single, _ = begin(base).model(TASKS["tokens"], 3, 9)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.add_(1.0)
    model.fill("b", single)
    assert torch.equal(single.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)
    assert all(torch.equal(value, model.model("b").state_dict()[name]) for name, value in single.state_dict().items())


def test_a_step_of_one_task_gives_the_other_heads_no_gradient(base: str) -> None:
    from dataclasses import replace

    import numpy as np

    from bertlab.batches.labelled import encode_examples
    from bertlab.tasks.contract import Labels
    from bertlab.tokens import tokenizer as tokenizers

    model = together(base)
    batch = replace(
        encode_examples(tokenizers.load(base), ["the old", "a comet"], labels=[0, 2], max_length=24).batch(np.arange(2)), task="a"
    )
    objective = EachItsOwn({"a": TASKS["single-label"].objective(Labels(["x", "y", "z"]), 0.0, None)})
    assert objective.counts(batch) == [2]
    objective.losses(model, batch).sum().backward()
    assert all(parameter.grad is not None for parameter in model.heads["a"].parameters())
    assert all(parameter.grad is None for name in "bc" for parameter in model.heads[name].parameters())


@pytest.fixture(scope="module")
def tasks(texts: Callable[..., Rows], write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """YAML files of two tasks on the same kind of text: sets of topics, and how many there are as a number."""
    folder = tmp_path_factory.mktemp("tasks")
    labels: dict[str, Callable[[set[str]], Any]] = {"topics": sorted, "amount": lambda topics: len(topics) + 0.5}
    files = []
    for name, label_of in labels.items():
        paths = {
            split: write(
                folder / f"{name}-{split}.jsonl", [{"text": text, "label": label_of(topics)} for text, topics in texts(count, seed)]
            )
            for seed, (split, count) in enumerate({"train": 300 if name == "topics" else 150, "test": 40}.items())
        }
        (folder / f"{name}.yaml").write_text("".join(f"{split}: {path}\n" for split, path in paths.items()))
        files.append(str(folder / f"{name}.yaml"))
    return files


@pytest.fixture(scope="module")
def run(base: str, tasks: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run") / "run"
    with (out.parent / "shown.txt").open("w") as shown, redirect_stdout(shown):
        metrics = multitask.run(multitask.Config(model=base, tasks=tuple(tasks), out=str(out), track=TRACK, **QUICK))
    return out, metrics


def test_a_tracker_is_told_of_the_scores_of_every_task_and_of_their_mean(run: tuple[Path, dict[str, Any]]) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, metrics = run
    read = EventAccumulator(str(out / "track"))
    read.Reload()
    for seed in metrics["seeds"]:
        name = f"seed-{seed['seed']}"
        for score in ("mean_score", "topics/dev_macro_f1", "amount/dev_spearman"):
            place, *inner = score.split("/")
            expected = [epoch[place][inner[0]] if inner else epoch[place] for epoch in seed["history"]]
            assert [event.value for event in read.Scalars(f"{name}/{score}")] == pytest.approx(expected, abs=1e-6)
        assert read.Scalars(f"{name}/loss") and read.Scalars(f"{name}/learning_rate")
    assert len(metrics["seeds"]) == 2 and len(expected) == 8


def test_each_task_is_held_against_what_needs_no_bert(run: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = run
    for name, kept in (("topics", "tf-idf-one-vs-rest-logistic-regression"), ("amount", "tf-idf-ridge-regression")):
        found = metrics["tasks"][name]["against_baseline"]
        assert found["file"] == f"baselines/{kept}/predictions.parquet"
        assert f"{name}/{found['file']}" in read_sealed(out / name / "model" / MANIFEST)["run"]
    assert "against_baseline" not in metrics["tasks"]["topics"]["alone"]
    assert metrics["learning_rate"] == metrics["tasks"]["amount"]["learning_rate"] == QUICK["learning_rate"]


def test_damaged_predictions_of_one_task_of_several_are_not_compared(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    copy = tmp_path / "topics"
    shutil.copytree(run[0] / "topics", copy)
    alone = (copy / "alone" / "predictions.parquet", copy / "alone" / "predictions" / "seed-1.parquet")
    for file in (copy / "predictions" / "seed-0.parquet", next(copy.glob("baselines/*/predictions.parquet")), *alone):
        assert read_predictions(file).task == "multi-label"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(CorruptError, match=file.name):
            read_predictions(file)


def test_what_one_task_alone_came_to_is_followed_to_the_run_and_drawn(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run[0], out)
    whole = [link.status for link in follow([out / "topics" / "alone"])]
    assert whole == [link.status for link in follow([out])] and "differs" not in whole
    for folder in (out / "topics", out / "topics" / "alone"):
        write_report(tmp_path / "page.html", [folder])
        assert "Scores" in (tmp_path / "page.html").read_text()
    (out / "topics" / "alone" / "predictions.parquet").write_bytes(b"another")
    assert "differs" in [link.status for link in follow([out])]


def test_both_tasks_are_learnt_together_and_reported_beside_each_alone(run: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = run
    topics, amount = metrics["tasks"]["topics"], metrics["tasks"]["amount"]
    assert (
        topics["task"] == "multi-label"
        and topics["test"]["macro"]["f1"] > 0.8 > 0.5 > topics["baselines"]["most frequent set"]["macro"]["f1"]
    )
    assert amount["task"] == "regression" and amount["test"]["spearman"] > 0.6
    assert topics["alone"]["test"]["macro"]["f1"] > 0.5 and set(amount["alone"]["over_seeds"]) == {"spearman", "pearson", "rmse"}
    best = max(metrics["seeds"], key=lambda seed: seed["mean_score"])
    scores = [best["tasks"]["topics"]["dev"]["macro"]["f1"], best["tasks"]["amount"]["dev"]["spearman"]]
    assert metrics["best_seed"] == best["seed"] and best["mean_score"] == pytest.approx(sum(scores) / 2)
    for seed in metrics["seeds"]:
        kept = max(seed["history"], key=lambda epoch: epoch["mean_score"])
        assert seed["mean_score"] == kept["mean_score"] and seed["epoch"] == kept["epoch"] and len(seed["history"]) == 8
    assert read_json(out / "metrics.json") == metrics and read_json(out / "topics" / "metrics.json")["test"] == topics["test"]


def test_each_tasks_folder_stands_by_itself_and_is_compared_with_the_task_alone(
    run: tuple[Path, dict[str, Any]], tasks: list[str], tmp_path: Path
) -> None:
    out, metrics = run
    shown = (out.parent / "shown.txt").read_text()
    assert len(re.findall(r"\bgain\b", shown)) == 2 and shown.count("topics: difference ") == 1, "a word has one meaning"
    for name, metric in (("topics", "exact_match"), ("amount", "pearson")):
        test = str(Path(tasks[0]).parent / f"{name}-test.jsonl")
        again = evaluate.run(evaluate.Config(model=str(out / name / "model"), data=test, out=str(tmp_path / name), device="cpu"))
        assert again[metric] == pytest.approx(metrics["tasks"][name]["test"][metric], abs=1e-5)
        runs = (f"together:{out}/{name}/predictions", f"alone:{out}/{name}/alone/predictions")
        assert f"  bertlab compare --runs {' '.join(runs)}\n" in shown
        facts = compare.run(compare.Config(runs=runs, resamples=200))
        assert facts["pairs"][0]["claim_about"] == "methods" and facts["pairs"][0]["seeds"] == [2, 2]
    encoders = [load_model(str(out / name / "model"), BertForPreTraining)[0].bert.state_dict() for name in ("topics", "amount")]
    assert all(torch.equal(value, encoders[1][name]) for name, value in encoders[0].items())
    assert bertlab.load(str(out / "topics" / "model")).predict(["the old violin"])[0].labels == ["music"]


def test_a_run_that_was_cut_off_goes_on_with_whole_seeds(
    base: str, tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bertlab.tasks import together as module

    trained: list[int] = []
    train, stop_at = module.train_together, 1

    def counted(recipe: Any, data: Any, model: Any, seed: int, *rest: Any) -> Any:
        if seed == stop_at:
            raise KeyboardInterrupt
        trained.append(seed)
        return train(recipe, data, model, seed, *rest)

    monkeypatch.setattr(module, "train_together", counted)
    config = multitask.Config(
        model=base, tasks=tuple(tasks), out=str(tmp_path / "run"), alone=False, baselines=False, **QUICK | {"epochs": 1}
    )
    with pytest.raises(KeyboardInterrupt, match="1 of 2 seeds is finished"):
        multitask.run(config)
    stop_at = -1
    metrics = multitask.run(config)
    assert trained == [0, 1] and "alone" not in metrics["tasks"]["topics"]
    assert multitask.run(config) == metrics and trained == [0, 1] and "is finished: nothing to do" in capsys.readouterr().out


def test_mistakes_name_the_task(base: str, tasks: list[str], tmp_path: Path) -> None:
    def refused(*files: str) -> str:
        with pytest.raises((ConfigError, DataError)) as caught:
            multitask.run(multitask.Config(model=base, tasks=files, out=str(tmp_path / "run"), device="cpu"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "name two YAML files or more" in refused(tasks[0])
    assert "two tasks are called 'topics'" in refused(tasks[0], tasks[0])
    (tmp_path / "odd name.yaml").write_text("train: x\n")
    assert "is no name for a folder" in refused(tasks[0], str(tmp_path / "odd name.yaml"))
    (tmp_path / "typo.yaml").write_text("trains: x\n")
    assert "trains" in refused(tasks[0], str(tmp_path / "typo.yaml"))
    (tmp_path / "gone.yaml").write_text("train: nothing.jsonl\n")
    assert "task gone: nothing.jsonl does not exist" in refused(tasks[0], str(tmp_path / "gone.yaml"))


def test_a_fine_tuned_encoder_is_the_start_of_another_kind_of_task(
    run: tuple[Path, dict[str, Any]], write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"tokens": ["the", "violin", "was", "old"], "tags": ["O", "B-thing", "O", "O"]} for _ in range(12)]
    train = write(
        tmp_path / "tags.jsonl", [row | {"tokens": [*row["tokens"], str(n)], "tags": [*row["tags"], "O"]} for n, row in enumerate(rows)]
    )
    first = str(run[0] / "topics" / "model")
    finetune.run(finetune.Config(model=first, train=train, out=str(tmp_path / "tags"), **QUICK | {"seeds": 1, "epochs": 1}))
    start, _ = begin(first).model(TASKS["tokens"], 3, 0)
    encoder = load_model(first, BertForPreTraining)[0].bert.state_dict()
    assert all(torch.equal(value, encoder[name]) for name, value in start.bert.state_dict().items())
    back, absent = begin(str(tmp_path / "tags" / "model")).model(TASKS["single-label"], 2, 0)  # whose folder has no pooler
    assert {name for name in absent if "pooler" in name} == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    } and back.bert.pooler is not None


def test_the_chain_of_hashes_is_followed_from_each_tasks_folder_and_from_the_run(
    run: tuple[Path, dict[str, Any]], tasks: list[str]
) -> None:
    from bertlab.training.chain import follow

    out = run[0]
    for folder in (out, out / "topics" / "model", out / "amount"):
        links = list(follow([folder]))
        assert not [link.message for link in links if link.status == "differs"]
        assert any(link.name == "model" and "made by" in link.message for link in links)
    links = list(follow([out]))
    wanted = [("ok", f"{name} {split} file") for name in ("topics", "amount") for split in ("train", "test")]
    assert [(link.status, link.name) for link in links if link.name.endswith(" file")] == wanted
    test, file = Path(tasks[1]).with_name("amount-test.jsonl"), Path(tasks[0])
    before = test.read_bytes(), file.read_bytes()
    test.write_bytes(before[0] + b"\n")
    file.unlink()
    try:
        named = {link.name: link for link in follow([out])}
        assert named["amount test file"].status == "differs" and "amount-test.jsonl is not what" in named["amount test file"].message
        assert named["task file"].status == "absent" and "the files of the task topics are not followed" in named["task file"].message
    finally:
        test.write_bytes(before[0])
        file.write_bytes(before[1])
    (out / "amount" / "metrics.json").write_text("{}")
    assert any("amount" in link.message for link in follow([out]) if link.status == "differs")
