"""What a recipe asks for is what is trained: epochs, stopping, balance, layers, adapters; failed seeds are told; any folder is a start."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from accelerate import Accelerator
from sklearn.utils.class_weight import compute_class_weight

import bertlab
from bertlab.disk import read_json
from bertlab.errors import ConfigError
from bertlab.model.encoder import EncoderConfig
from bertlab.model.facts import load_config
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.pages.results import failed_lines, start_line, training_line
from bertlab.tasks.choosing import TASKS
from bertlab.tasks.data import Data
from bertlab.tasks.recipe import Recipe, epochs_of, fitted, has_stalled, rate_of, refuse_unfit, refuse_unlearnable
from bertlab.tasks.seeds import agreed, class_weights, micro_batches, objective_of, optimizers_of, train_seed
from bertlab.tasks.settings import FineTuning
from bertlab.tasks.single_label import SINGLE_LABEL
from bertlab.tasks.start import Start, open_start, read_splits
from bertlab.tasks.together import start_together, train_together
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import finetune

QUICK: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-2, "precision": "fp32"}


@pytest.fixture(scope="module")
def train(texts: Callable[..., Any], write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """One label a text, three times as often "none" as "sky"."""
    rows = [{"text": text, "label": "sky" if "sky" in topics else "none"} for text, topics in texts(200, 0)]
    few = [row for number, row in enumerate(rows) if row["label"] == "none" or number % 2]
    return write(tmp_path_factory.mktemp("rows") / "train.jsonl", few)


@pytest.fixture(scope="module")
def deep(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder of three layers."""
    tokenizer = tokenizers.load(base)
    torch.manual_seed(7)
    values = load_config(base) | {"num_hidden_layers": 3}
    folder = tmp_path_factory.mktemp("deep") / "model"
    save_model(folder, BertForPreTraining(EncoderConfig.from_published(values, "deep")), tokenizer, facts={"kind": "x"}, card="# A card\n")
    return str(folder)


def read(folder: str, train: str, **settings: Any) -> Data:
    config = finetune.Config(model=folder, train=train, out="unused", **settings)
    return read_splits(config, open_start(config))[0]


def begin(folder: str) -> Start:
    return open_start(FineTuning(model=folder, out="unused"))


def trained(
    folder: str, data: Data, seed: int = 0, **settings: Any
) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The state of a seed, and the weights before and after it."""
    model, _ = begin(folder).model(data.task, len(data.labels.names), seed)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = train_seed(Recipe(**(QUICK | settings)), data, model, seed, Accelerator(cpu=True))
    assert all(parameter.requires_grad for parameter in model.parameters()) and not model.bert.encoder.recompute
    return state, before, dict(model.state_dict())


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert list(before) == list(after)
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


# ---- how long


@pytest.mark.parametrize(
    ("asked", "examples", "width", "epochs", "because"),
    [
        (None, 9_999, 768, 20, "9,999 examples are fewer than 10,000"),
        (None, 10_000, 768, 3, "usual on 10,000"),
        (None, 10_000, 512, 4, "usual for small models"),
        (None, 40, 128, 20, "fewer"),
        (7, 40, 128, 7, "as asked"),
    ],
)
def test_little_data_has_more_epochs_unless_they_are_given(asked: int | None, examples: int, width: int, epochs: int, because: str) -> None:
    found, why = epochs_of(Recipe(epochs=asked), examples, width)
    assert found == epochs and because in why


@pytest.mark.parametrize(
    ("recipe", "width", "rate", "because"),
    [
        (Recipe(), 128, 1e-3, "usual at width 128"),
        (Recipe(), 512, 1e-4, "usual at width 512"),
        (Recipe(), 1_024, 2e-5, "usual at width 1,024"),
        (Recipe(lora_rank=4), 768, 5e-4, "usual at width 768 for adapters"),
        (Recipe(lora_rank=4), 64, 1e-3, "for adapters"),
        (Recipe(lora_rank=4, learning_rate=3e-5), 64, 3e-5, "as asked"),
    ],
)
def test_the_rate_that_is_told_is_the_one_that_is_taken(recipe: Recipe, width: int, rate: float, because: str) -> None:
    assert rate_of(recipe, width)[0] == rate and because in rate_of(recipe, width)[1]
    (optimizer,) = optimizers_of(recipe, torch.nn.Linear(2, 2), width)
    assert {group["lr"] for group in optimizer.param_groups} == {rate}
    assert training_line(recipe, 3, "as asked", width).startswith(f"epochs 3 (as asked), learning rate {rate:g} (")


def test_a_seed_has_stalled_after_so_many_epochs_without_a_better_score() -> None:
    assert not has_stalled([0.5, 0.4, 0.4, 0.4], None)
    assert [has_stalled([0.5, 0.4, 0.5, 0.4, 0.6, 0.6][:count], 2) for count in range(1, 7)] == [False, False, True, True, False, False]
    assert [has_stalled([0.5, 0.5], patience) for patience in (1, 2)] == [True, False]


def test_when_any_process_wants_to_stop_all_do() -> None:
    def of_two(other: float) -> Accelerator:
        found = SimpleNamespace(num_processes=2, device=torch.device("cpu"), reduce=lambda value, how: value + other)
        return cast(Accelerator, found)

    assert [agreed(mine, of_two(other)) for mine in (False, True) for other in (0.0, 1.0)] == [False, True, True, True]


def test_a_stopped_seed_is_the_whole_one_cut_short(base: str, train: str) -> None:
    """The same rates in the same steps: the epoch that both keep has the same bits."""
    data, seen = read(base, train), list[int]()

    def falling(gold: Any, outputs: Any, labels: Any) -> Any:
        seen.append(1)
        best = len(seen) % 100 == 2  # the second epoch of each seed
        return SINGLE_LABEL.metrics(gold, np.eye(2)[gold if best else [0] * len(gold)], labels)

    data = replace(data, task=replace(data.task, metrics=falling))
    whole, _, kept = trained(base, data, epochs=6)
    seen[:] = [1] * 100
    stopped, _, same = trained(base, data, epochs=6, early_stopping=2)
    assert [len(state["history"]) for state in (whole, stopped)] == [6, 4]
    assert whole["epoch"] == stopped["epoch"] == 2 and not changed(kept, same)
    assert (whole["epochs"], whole["stopped_early"], stopped["epochs"], stopped["stopped_early"]) == (6, False, 6, True)


# ---- balance


def test_class_weights_are_scikit_learns_and_of_train_after_the_dev_split(base: str, train: str) -> None:
    data = read(base, train, balance="weights")
    gold = data.gold["train"]
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=gold)
    objective = cast(Any, objective_of(Recipe(balance="weights"), data))
    assert objective.weights.tolist() == pytest.approx(expected.tolist()) and expected[1] > 1 > expected[0]
    assert sum(objective.weights[label] for label in gold) == pytest.approx(len(gold))
    assert cast(Any, objective_of(Recipe(), data)).weights is None
    assert class_weights([0, 0, 0, 2], 3) == pytest.approx([4 / 6, 0, 2])  # a class that train lost to dev counts for nothing


def test_balanced_batches_have_as_many_of_each_class(base: str, train: str) -> None:
    data = read(base, train, balance="sampling")
    examples = data.encoded["train"]
    for balance, rare in (("sampling", 0.5), ("none", np.mean(data.gold["train"]))):
        recipe = Recipe(balance=cast(Any, balance))
        labels = [
            label
            for step in range(examples.steps_per_epoch(16))
            for batch in micro_batches(examples, recipe, 3, 0, 1, step)
            for label in batch.labels.tolist()
        ]
        assert len(labels) == len(examples) and np.mean(labels) == pytest.approx(rare, abs=0.5 / len(labels))


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_to_balance_finds_more_of_the_rare_class(base: str, train: str, balance: str) -> None:
    """At a rate too small to learn the word, the prior is most of what is learnt: the rare class's probability rises."""
    data = read(base, train)
    shares = {}
    for each in ("none", balance):
        seen: list[float] = []

        def watch(gold: Any, outputs: Any, labels: Any, seen: list[float] = seen) -> Any:
            seen.append(float(outputs[:, 1].mean()))
            return SINGLE_LABEL.metrics(gold, outputs, labels)

        trained(base, replace(data, task=replace(data.task, metrics=watch)), balance=each, learning_rate=1e-3, epochs=3)
        shares[each] = seen[-1]
    assert shares["none"] < 0.35 and abs(shares[balance] - 0.5) < 0.1


def test_options_that_mean_nothing_to_a_task_are_refused_alone_and_left_out_beside_others() -> None:
    recipe = Recipe(balance="weights", label_smoothing=0.1)
    refuse_unfit(recipe, SINGLE_LABEL)
    assert fitted(recipe, SINGLE_LABEL) == recipe
    for name in ("multi-label", "regression", "tokens", "answers"):
        with pytest.raises(ConfigError, match=f"balance=sampling: the task is {name}"):
            refuse_unfit(Recipe(balance="sampling"), TASKS[name])
        assert fitted(recipe, TASKS[name]) == Recipe(label_smoothing=0.1 if TASKS[name].smooths else 0.0)


# ---- layers


def test_frozen_layers_stay_to_the_bit_and_all_others_move(deep: str, train: str) -> None:
    _, before, after = trained(deep, read(deep, train), freeze=2)
    still = {name for name in before if ".embeddings." in name or ".layer.0." in name or ".layer.1." in name}
    assert changed(before, after) == before.keys() - still


def test_layers_that_begin_anew_are_drawn_from_the_seed(deep: str, train: str) -> None:
    data = read(deep, train)
    slow: dict[str, Any] = {"reinit_layers": 1, "learning_rate": 1e-9, "epochs": 1}
    runs = [trained(deep, data, seed, **slow) for seed in (0, 0, 1)]
    for _, before, after in runs:
        matrices = {name for name in changed(before, after) if (before[name] - after[name]).abs().max() > 1e-3 and before[name].ndim == 2}
        assert matrices == {name for name in before if (".layer.2." in name or ".pooler." in name) and before[name].ndim == 2}
    assert not changed(runs[0][2], runs[1][2])
    query = "bert.encoder.layer.2.attention.self.query.weight"
    assert (runs[0][2][query] - runs[2][2][query]).abs().max() > 1e-3


def test_with_layer_decay_low_layers_move_less(deep: str, train: str) -> None:
    _, before, after = trained(deep, read(deep, train), layer_decay=0.1, learning_rate=1e-3, weight_decay=0.0)
    moved = [
        float((after[name] - before[name]).abs().mean())
        for name in ("bert.pooler.dense.weight", *(f"bert.encoder.layer.{n}.output.dense.weight" for n in (2, 1, 0)))
    ]
    assert all(0 < low < 0.3 * high for high, low in zip(moved, moved[1:], strict=False))


def test_to_compute_again_changes_no_bit_of_the_result(deep: str, train: str) -> None:
    data = read(deep, train)
    plain, again = (trained(deep, data, recompute=recompute) for recompute in (False, True))
    assert not changed(plain[2], again[2]) and plain[0] == again[0]


def test_settings_that_leave_layers_unlearnt_are_one_line() -> None:
    refuse_unlearnable(Recipe(freeze=2, reinit_layers=1), 3)
    of_three: list[tuple[dict[str, Any], str]] = [
        ({"freeze": 4}, "freeze=4: the model has 3 layers"),
        ({"reinit_layers": 4}, "reinit_layers=4: the model has 3 layers"),
        ({"freeze": 2, "reinit_layers": 2}, "some would stay random"),
        ({"freeze": 3, "lora_rank": 2}, "no layer is left to learn"),
    ]
    for settings, line in of_three:
        with pytest.raises(ConfigError, match=line):
            refuse_unlearnable(Recipe(**settings), 3)
    of_any: list[tuple[dict[str, Any], str]] = [
        ({"lora_rank": 2, "reinit_layers": 1}, "must be learnt whole"),
        ({"layer_decay": 0.0}, "layer_decay=0.0"),
        ({"early_stopping": 0}, "early_stopping=0"),
        ({"freeze": -1}, "freeze=-1"),
        ({"warmup": 1.5}, "warmup=1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
    ]
    for settings, line in of_any:
        with pytest.raises(ConfigError, match=line):
            Recipe(**settings)


def test_without_peft_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refuse_unlearnable(Recipe(), 3)
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[lora\]'"):
        refuse_unlearnable(Recipe(lora_rank=2), 3)


# ---- adapters


def test_a_model_learnt_by_adapters_is_an_ordinary_folder(
    deep: str, train: str, write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"lora_rank": 4, "epochs": 6, "seeds": 1, "device": "cpu", "baselines": False, "freeze": 1, "test": train}
    config = finetune.Config(model=deep, train=train, out=str(tmp_path / "run"), **(QUICK | settings))
    metrics = finetune.run(config)
    assert metrics["test"]["macro"]["f1"] > 0.8 > metrics["dev_floor"] and not metrics["seeds"][0]["failed"]
    folder = str(tmp_path / "run" / "model")
    model, absent = load_model(folder, BertForSequenceClassification)
    start = load_model(deep, BertForPreTraining)[0].bert.state_dict()
    moved = changed(start, dict(model.bert.state_dict()))
    wanted = {name for name in start if name.startswith("pooler.")} | {
        name
        for name in start
        if ".layer.0." not in name and name.endswith((".query.weight", ".key.weight", ".value.weight", "dense.weight"))
    }
    assert absent == [] and moved == wanted
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    table = pq.read_table(tmp_path / "run" / "predictions.parquet")
    rows = [json.loads(line)["text"] for line in Path(train).read_text().splitlines()][:8]
    with torch.inference_mode():
        expected = theirs(**tokenize(rows, padding=True, return_tensors="pt")).logits.softmax(-1)
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()[:8]), expected.numpy(), atol=1e-5)
    as_given = [each.uncalibrated or each.probabilities for each in bertlab.load(folder).predict(rows)]
    assert [list(each.values()) for each in as_given] == pytest.approx(expected.numpy(), abs=1e-5)


def test_several_tasks_learn_by_one_encoders_adapters(
    deep: str, train: str, texts: Callable[..., Any], write: Callable[..., str], tmp_path: Path
) -> None:
    topics = write(tmp_path / "topics.jsonl", [{"text": text, "label": sorted(labels)} for text, labels in texts(120, 5)])
    data = {"one": read(deep, train), "many": read(deep, topics)}
    model = start_together(data, begin(deep), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(**QUICK | {"epochs": 4}, lora_rank=2, early_stopping=1, balance="sampling", layer_decay=0.9)
    state = train_together(recipe, data, model, 0, "uniform", Accelerator(cpu=True))
    moved = changed(before, dict(model.state_dict()))
    assert {"heads.one.classifier.weight", "bert.pooler.dense.weight", "bert.encoder.layer.0.attention.self.value.weight"} <= moved
    assert not any("embeddings" in name or "LayerNorm" in name for name in moved)
    scores = [epoch["mean_score"] for epoch in state["history"]]
    assert state["epochs"] == 4 and state["stopped_early"] == (len(scores) < 4)
    assert len(scores) == 4 or scores[-1] <= max(scores[:-1])


# ---- failures, and where it starts


def test_a_seed_that_learns_nothing_is_counted_and_told(
    base: str, write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "the old one", "label": "no" if number % 3 else "yes"} for number in range(30)]  # nothing tells the labels apart
    file = write(tmp_path / "same.jsonl", rows)
    settings: dict[str, Any] = {"dev": file, "test": file, "seeds": 2, "baselines": True, "device": "cpu"} | QUICK
    metrics = finetune.run(finetune.Config(model=base, train=file, out=str(tmp_path / "run"), **settings))
    assert [state["failed"] for state in metrics["seeds"]] == [True, True] and metrics["dev_floor"] == pytest.approx(0.4)
    assert metrics["baselines"]["majority class"]["macro"]["f1"] == metrics["dev_floor"]
    assert read_json(tmp_path / "run" / "metrics.json")["seeds"][0]["failed"] is True
    shown = capsys.readouterr().out
    assert "failed     2 of 2 seeds (0, 1): no better than one answer for all (macro-F1 0.400 on dev)" in shown
    assert failed_lines(SINGLE_LABEL, {"seeds": [{"failed": False}], "dev_floor": 0.0}) == []


def test_what_answers_always_the_same_scores_as_it_should() -> None:
    """Of numbers, entities and answers nothing; of labels what the commonest brings; of questions those without an answer."""
    from bertlab.tasks.answers import ANSWERS, Gold
    from bertlab.tasks.contract import Labels
    from bertlab.tasks.multi_label import MULTI_LABEL
    from bertlab.tasks.regression import REGRESSION
    from bertlab.tasks.tokens import TOKENS

    assert SINGLE_LABEL.score(SINGLE_LABEL.constant([1, 1, 0], [1, 0], Labels(["a", "b"]))) == pytest.approx((2 / 3) / 2)
    sets = np.array([[True, False]] * 2 + [[True, True]])
    assert MULTI_LABEL.score(MULTI_LABEL.constant(sets, sets, Labels(["a", "b"]))) == pytest.approx(0.5)
    assert REGRESSION.score(REGRESSION.constant(np.array([1.0, 2.0]), np.array([1.0, 3.0, 2.0]), Labels(["number"]))) == 0
    assert TOKENS.score(TOKENS.constant([[0]], [[0, 1, 2], [0]], Labels(["O", "B-x", "I-x"]))) == 0
    gold = Gold([["a town"], [""], ["a hill"], ["the sea"]], [], np.arange(4))
    assert ANSWERS.score(ANSWERS.constant(gold, gold, Labels(["start", "end"]))) == pytest.approx(0.25)


@pytest.mark.parametrize("before", sorted(TASKS))
def test_the_folder_of_any_kind_of_task_is_a_start_for_every_other(before: str, base: str, tmp_path: Path) -> None:
    """The encoder is taken, the head is not, though it may have the same name and the same shape."""
    source, _ = begin(base).model(TASKS[before], 2, 9)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.01)  # as fine-tuning would: no longer the pretrained encoder
    folder = tmp_path / "model"
    save_model(folder, source, tokenizers.load(base), facts={"kind": "classifier", "task": before}, card="# A card\n", labels=["x", "y"])
    line = start_line(begin(str(folder)))
    assert "fine-tuned before" in line and type(source).__name__ in line and "the head is a fresh one" in line
    assert start_line(begin(base)) == f"start {base}" and "random" in start_line(replace(begin(base), from_random=True))
    for kind, task in TASKS.items():
        model, absent = begin(str(folder)).model(task, 2, 3)
        pretrained, _ = begin(base).model(task, 2, 3)
        encoder, own = model.bert.state_dict(), source.bert.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in encoder.items() if name in own), kind
        heads = {name: value for name, value in model.state_dict().items() if not name.startswith("bert.")}
        assert heads and heads.keys() <= set(absent)
        assert all(torch.equal(value, pretrained.state_dict()[name]) for name, value in heads.items()), "drawn from the seed alone"
