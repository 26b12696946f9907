"""bertlab pretrain: it learns from real text, a run that was killed ends where it would have ended, and its model folder is what it says.

The text of most tests is made up and so small that a run takes a second; one trains on the sample that ships, under a minute.
"""

import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bertlab import sample
from bertlab.disk import locked
from bertlab.errors import BertlabError, ConfigError, LockedError
from bertlab.model.folder import load_model
from bertlab.model.heads import BertForPreTraining
from bertlab.tokens.corpus import open_corpus
from bertlab.training import checkpoint, heldout, loop, optimizers, processes, speed
from bertlab.training.heldout import heldout_batches, measure_heldout
from bertlab.verbs import prepare
from bertlab.verbs.pretrain import Config, look, phases, run

NOUNS = ["mill", "river", "bridge", "tower", "garden", "harbour", "castle", "market", "chapel", "meadow", "forest", "station"]
VERBS = ["overlooks", "crosses", "borders", "feeds", "shelters", "divides"]
SMALL: dict[str, Any] = {
    "preset": "tiny",
    "steps": 8,
    "micro_tokens": 256,
    "dropout": 0.1,  # its masks are to come again too
    "max_length": 32,
    "heldout_every": 4,
    "save_every": 3,
    "log_every": 1,
    "device": "cpu",
    "precision": "fp32",
}
TIMES = ("seconds", "data_seconds", "elapsed_seconds", "tokens_per_second", "mfu", "memory_bytes")

Pretrain = Callable[..., dict[str, Any]]
InProcesses = Callable[[int, Callable[[int], Any]], list[Any]]


def write_text(path: Path, seed: int, documents: int = 150) -> Path:
    """Made-up documents of two to nine sentences."""
    draw = random.Random(seed)
    sentences = [
        [f"The old {draw.choice(NOUNS)} {draw.choice(VERBS)} a small {draw.choice(NOUNS)}." for _ in range(draw.randrange(2, 10))]
        for _ in range(documents)
    ]
    path.write_text("\n\n".join("\n".join(document) for document in sentences))
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So that sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("small")
    source = write_text(folder / "text.txt", seed=0)
    prepare.run(prepare.Config(source=(str(source),), out=str(folder / "corpus"), vocab_size=200, heldout=0.1))
    return str(folder / "corpus")


@pytest.fixture
def pretrain(corpus: str) -> Pretrain:
    """pretrain(out, **settings): a run on the small corpus."""
    return lambda out, **settings: run(Config(**({"corpus": corpus, "out": str(out)} | SMALL | settings)))


@pytest.fixture(scope="module")
def finished(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run to its end, and its facts: to be read, not changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    return out, run(Config(corpus=corpus, out=str(out), **SMALL))


def records(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock wrote."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def facts_of(out: Path) -> dict[str, Any]:
    facts = json.loads((out / "model" / "bertlab.json").read_text())
    return {name: value for name, value in facts.items() if name not in TIMES}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def bertlab_command(*arguments: str, program: tuple[str, ...] = ("-m", "bertlab")) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, one thread."""
    package = str(Path(processes.__file__).parents[2])
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
    )


def as_options(settings: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


# --- what it learns ---------------------------------------------------------------------------------------------------------------------


def test_a_tiny_bert_learns_more_from_real_text_than_how_frequent_words_are(tmp_path: Path) -> None:
    with lzma.open(sample.path("articles.jsonl.xz")) as stream:
        (tmp_path / "articles.jsonl").write_bytes(b"".join(stream.readlines()[:3000]))
    prepare.run(prepare.Config(source=(str(tmp_path / "articles.jsonl"),), out=str(tmp_path / "corpus"), vocab_size=4096))
    settings: dict[str, Any] = {"steps": 160, "micro_tokens": 1024, "max_length": 64, "dropout": 0.0, "heldout_batches": 24}
    settings |= {"learning_rate": 5e-3, "muon_learning_rate": 1e-2, "heldout_every": 160, "save_every": 160}
    run(Config(corpus=str(tmp_path / "corpus"), out=str(tmp_path / "run"), **(SMALL | settings)))
    facts = facts_of(tmp_path / "run")
    before, after = facts["heldout_start"], facts["heldout"]
    assert after["masked_tokens"] > 2000
    assert before["mlm_loss"] == pytest.approx(after["unigram_loss"], abs=0.1)  # training starts at the frequencies
    assert after["mlm_loss"] < after["unigram_loss"] - 0.12  # nats a token: 0.18 here
    assert after["masked_accuracy"] > 1.4 * before["masked_accuracy"]


# --- what it leaves ---------------------------------------------------------------------------------------------------------------------


def test_the_run_folder_holds_a_record_a_step_the_settings_the_checkpoints_and_the_model(finished: tuple[Path, dict[str, Any]]) -> None:
    out, facts = finished
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "best",
        "checkpoints",
        "config.yaml",
        "inputs.json",
        "metrics.jsonl",
        "model",
        "report.html",
    }
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000006", "step-00000008"]
    lines = records(out)
    steps, heldout = [line for line in lines if "losses" in line], [line["heldout"] for line in lines if "heldout" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert [measured["step"] for measured in heldout] == [0, 4, 8]
    assert all(set(line["losses"]) == {"mlm_loss", "nsp_loss"} and line["grad_norm"] > 0 and not line["skipped"] for line in steps)
    assert facts["steps"] == 8 and facts["skipped_steps"] == 0 and facts["started_from"] is None
    assert facts["tokens_seen"] == sum(line["tokens"] for line in steps)
    assert facts["heldout_start"] == heldout[0]
    assert facts["heldout"] == min(heldout, key=lambda measured: measured["mlm_loss"])
    assert facts == json.loads((out / "model" / "bertlab.json").read_text())


def test_the_model_folder_opens_in_transformers_and_is_as_good_as_it_says(finished: tuple[Path, dict[str, Any]], corpus: str) -> None:
    """The oracle is transformers' BertForPreTraining on every held-out pair by itself."""
    from transformers import AutoModelForPreTraining

    out, facts = finished
    model, loading = AutoModelForPreTraining.from_pretrained(out / "model", output_loading_info=True)
    assert type(model).__name__ == "BertForPreTraining"
    assert not any(loading.values()), loading
    mlm, nsp_hits, tokens, pairs = 0.0, 0, 0, 0
    batches, _ = heldout_batches(open_corpus(corpus), SMALL["max_length"], SMALL["micro_tokens"], 64)
    for batch in batches:
        labels = torch.full_like(batch.input_ids, -100)
        labels[batch.mlm_positions] = batch.mlm_labels
        bounds = batch.cu_seqlens.tolist()
        for number, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            with torch.no_grad():
                found = model(input_ids=batch.input_ids[None, start:end], token_type_ids=batch.token_type_ids[None, start:end])
            own = labels[start:end]
            mlm += float(torch.nn.functional.cross_entropy(found.prediction_logits[0], own, reduction="sum"))
            nsp_hits += int(found.seq_relationship_logits.argmax() == batch.nsp_labels[number])
            tokens, pairs = tokens + int((own != -100).sum()), pairs + 1
    assert (tokens, pairs) == (facts["heldout"]["masked_tokens"], facts["heldout"]["pairs"])
    assert mlm / tokens == pytest.approx(facts["heldout"]["mlm_loss"], abs=1e-5)
    assert nsp_hits / pairs == pytest.approx(facts["heldout"]["nsp_accuracy"])


def test_the_model_is_the_best_that_was_measured_even_if_that_is_the_start(
    tmp_path: Path, pretrain: Pretrain, corpus: str, finished: tuple[Path, dict[str, Any]]
) -> None:
    settings = {"model": str(finished[0] / "model"), "learning_rate": 3.0, "muon_learning_rate": 3.0, "warmup": 0.0}  # far too high
    facts = pretrain(tmp_path / "run", **settings)
    assert facts["heldout"]["step"] == 0
    model, _ = load_model(str(tmp_path / "run" / "model"), BertForPreTraining)
    batches, _ = heldout_batches(open_corpus(corpus), SMALL["max_length"], SMALL["micro_tokens"], 64)
    measured = measure_heldout(model, batches, processes.start(1, "cpu"), "fp32")
    assert measured["mlm_loss"] == pytest.approx(facts["heldout"]["mlm_loss"], abs=1e-6)


def test_a_tracker_is_told_of_losses_and_of_held_out_text_and_changes_nothing(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]]
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    pretrain(out, track="tensorboard")
    assert records(out) == records(finished[0]) and weights(out) == weights(finished[0])
    read = EventAccumulator(str(out / "track"))
    read.Reload()
    losses = [(line["step"], line["losses"]["mlm_loss"]) for line in records(out) if "losses" in line]
    told = [(event.step, event.value) for event in read.Scalars("losses/mlm_loss")]
    assert [step for step, _ in told] == [step for step, _ in losses]
    assert [value for _, value in told] == pytest.approx([value for _, value in losses], rel=1e-6)
    assert [event.step for event in read.Scalars("heldout/mlm_loss")] == [0, 4, 8]


def test_the_log_holds_what_was_guessed_of_held_out_text_and_the_report_shows_it(finished: tuple[Path, dict[str, Any]]) -> None:
    guesses = [line["guesses"] for line in records(finished[0]) if "heldout" in line]
    assert len(guesses) == 3 and all(len(pairs) == 3 for pairs in guesses)
    for earlier, later in pairwise(guesses):
        assert [pair["text"] for pair in earlier] == [pair["text"] for pair in later]
        assert [each[:3] for pair in earlier for each in pair["masked"]] == [each[:3] for pair in later for each in pair["masked"]]
    for *_, was, guess, share in (each for pairs in guesses for pair in pairs for each in pair["masked"]):
        assert was and guess and 0 < share <= 1
    page = (finished[0] / "report.html").read_text()
    assert "What it put in the gaps" in page and "The run is finished" in page and "http-equiv=refresh" not in page
    last = [line for line in records(finished[0]) if "losses" in line][-1]
    assert last["tokens_seen"] == finished[1]["tokens_seen"]


def test_a_run_that_diverges_stops_and_says_what_to_do(tmp_path: Path, pretrain: Pretrain) -> None:
    with pytest.raises(ConfigError, match="training diverged: at step 4 .* lower the learning rates") as caught:
        pretrain(tmp_path / "run", learning_rate=1e30, muon_learning_rate=1e30, warmup=0.0)
    assert "\n" not in str(caught.value)
    assert [line["skipped"] for line in records(tmp_path / "run") if "losses" in line] == [False, True, True, True]
    assert not (tmp_path / "run" / "model").exists()


def test_a_finished_run_says_so_and_is_left_as_it_is(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, facts = finished
    before = tree(out)
    assert pretrain(out) == facts
    assert pretrain(out, log_every=7, save_every=100, keep=1, workers=1, processes=1) == facts
    assert "is finished: nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="nothere: no such file or folder"):
        pretrain(out, corpus="nothere")
    assert {name: content for name, content in tree(out).items() if name != ".lock"} == {
        name: content for name, content in before.items() if name != ".lock"
    }


def test_a_folder_with_other_settings_or_of_somebody_else_or_in_use_is_refused(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]]
) -> None:
    refused: list[tuple[type[BertlabError], str, Path, dict[str, Any]]] = [
        (ConfigError, "steps was 8, is 9", finished[0], {"steps": 9}),
        (ConfigError, "dropout was 0.1, is 0.2; seed was 0, is 1", finished[0], {"dropout": 0.2, "seed": 1}),
        (ConfigError, "is no run of ours", tmp_path / "mine", {}),
        (LockedError, "in use by process", tmp_path / "used", {}),
    ]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    before = tree(finished[0])
    with locked(tmp_path / "used"):
        for error, message, out, settings in refused:
            with pytest.raises(error, match=message) as caught:
                pretrain(out, **settings)
            assert "\n" not in str(caught.value)
    assert {**tree(finished[0]), ".lock": b""} == {**before, ".lock": b""}
    assert {**tree(tmp_path / "mine"), ".lock": b""} == {"thesis.txt": b"precious", ".lock": b""}


# --- going on ---------------------------------------------------------------------------------------------------------------------------

KILLED_WHILE_SAVING = """
import os, signal, sys, torch
torch.set_num_threads(1)
from bertlab import cli
from bertlab.training import checkpoint
true = checkpoint.write_json

def write(path, value):
    if path.name == "state.json" and path.parent.name.endswith("step-00000006"):
        os.kill(os.getpid(), signal.SIGKILL)
    true(path, value)

checkpoint.write_json = write
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_killed_while_it_saves_ends_as_if_it_had_not_been(
    tmp_path: Path, pretrain: Pretrain, corpus: str, finished: tuple[Path, dict[str, Any]]
) -> None:
    out = tmp_path / "run"
    options = ["pretrain", *as_options({"corpus": corpus, "out": out} | SMALL)]
    done = bertlab_command(*options, program=("-c", KILLED_WHILE_SAVING))
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    left = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert len(left) == 2 and left[0].startswith(".tmp-") and left[1] == "step-00000003"
    assert max(record["step"] for record in records(out)) == 6
    with (out / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 7, "los')
    pretrain(out)
    assert weights(out) == weights(finished[0])
    assert facts_of(out) == facts_of(finished[0])
    assert records(out) == records(finished[0])
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000006", "step-00000008"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_cut_off_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, pretrain: Pretrain, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings = {"optimizer": optimizer, "long_share": 0.25, "long_length": 48, "micro_batches": 2, "save_every": 2, "seed": 5}
    pretrain(tmp_path / "whole", **settings)
    true_train, true_save = loop.train, checkpoint.write_checkpoint

    def cut_in_step(step: int) -> None:
        def train(*arguments: Any, after_step: Callable[[loop.StepResult], bool | None], **named: Any) -> None:
            def and_stop(result: loop.StepResult) -> bool | None:
                if result.step == step:
                    raise Stop
                return after_step(result)

            true_train(*arguments, after_step=and_stop, **named)

        monkeypatch.setattr(loop, "train", train)

    def cut_after_saving(name: str, step: int) -> None:
        def save(root: Path, saved: int, *arguments: Any, **named: Any) -> Path:
            folder = true_save(root, saved, *arguments, **named)
            if (root.name, saved) == (name, step):
                raise Stop
            return folder

        monkeypatch.setattr(checkpoint, "write_checkpoint", save)

    def cut(when: Callable[..., None], *where: Any) -> None:
        with monkeypatch.context():
            when(*where)
            with pytest.raises(Stop):
                pretrain(tmp_path / "cut", **settings)
        monkeypatch.setattr(loop, "train", true_train)
        monkeypatch.setattr(checkpoint, "write_checkpoint", true_save)

    cut(cut_in_step, 1)  # before the first checkpoint
    cut(cut_in_step, 3)
    cut(cut_after_saving, "best", 4)  # the best is newer than the checkpoint
    cut(cut_after_saving, "checkpoints", 4)  # measured, saved and nothing more
    cut(cut_in_step, 7)  # in the long phase
    cut(cut_after_saving, "checkpoints", 8)  # all is trained, the model not written
    assert not (tmp_path / "cut" / "model").exists()
    pretrain(tmp_path / "cut", **settings)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert facts_of(tmp_path / "cut") == facts_of(tmp_path / "whole")
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_a_damaged_checkpoint_costs_its_steps_and_no_more(
    tmp_path: Path, pretrain: Pretrain, monkeypatch: pytest.MonkeyPatch, finished: tuple[Path, dict[str, Any]], capsys: Any
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("bertlab.verbs.pretrain._finish", lambda *_: {})
        pretrain(out)
    damaged = out / "checkpoints" / "step-00000008" / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    pretrain(out)
    printed = capsys.readouterr().out
    assert "passed over" in printed and str(damaged) in printed and "from step 6" in printed
    assert weights(out) == weights(finished[0])


# --- where it starts --------------------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_trained_on_from_where_it_stands(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]]
) -> None:
    first = finished[1]
    facts = pretrain(tmp_path / "run", model=str(finished[0] / "model"), preset="base", seed=9)  # its own size, not the preset's
    assert facts["started_from"] == str(finished[0] / "model") and facts["text_read"] == first["corpus"]["sources"] != []
    assert (facts["layers"], facts["hidden_size"]) == (2, 128)
    assert facts["heldout_start"]["mlm_loss"] == pytest.approx(first["heldout"]["mlm_loss"], abs=1e-6)
    assert facts["heldout"]["mlm_loss"] < first["heldout"]["mlm_loss"]


@pytest.fixture(scope="module")
def published(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as transformers saves it, of 40 positions."""
    from transformers import AutoTokenizer, BertConfig
    from transformers import BertForPreTraining as Published

    folder = tmp_path_factory.mktemp("published")
    tokenizer = AutoTokenizer.from_pretrained(f"{corpus}/tokenizer")
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
    }
    Published(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_published_bert_and_a_corpus_of_its_tokenizer_are_trained_on(tmp_path: Path, pretrain: Pretrain, published: Path) -> None:
    source = write_text(tmp_path / "other.txt", seed=1)
    other = str(tmp_path / "corpus")
    prepare.run(prepare.Config(source=(str(source),), out=other, tokenizer=str(published), heldout=0.1))
    before, absent = load_model(str(published), BertForPreTraining)
    assert absent == []
    facts = pretrain(tmp_path / "run", corpus=other, model=str(published))
    assert (facts["layers"], facts["hidden_size"]) == (1, 32)
    after, _ = load_model(str(tmp_path / "run" / "model"), BertForPreTraining)
    # with the default settings no weight of its size moves by more than eight steps of the peak rate would: it did start there
    moved = (after.bert.embeddings.word_embeddings.weight - before.bert.embeddings.word_embeddings.weight).detach().abs().max()
    assert 0 < float(moved) < 8 * 1.1e-4
    assert "unigram_loss" in facts["heldout"]


def test_a_model_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, pretrain: Pretrain, published: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    source = write_text(tmp_path / "other.txt", seed=1)
    other = str(tmp_path / "corpus")
    prepare.run(prepare.Config(source=(str(source),), out=other, vocab_size=150, heldout=0.0))
    mine = str(finished[0] / "model")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("different vocabularies: prepare the corpus with --tokenizer", {"model": mine, "corpus": other}),
        ("pairs of 41 tokens, but .* has 40 positions", {"model": str(published), "max_length": 41}),
        ("pairs of 48 tokens, but .* has 40 positions", {"model": str(published), "long_share": 0.5, "long_length": 48}),
        ("did you mean the folder `model` inside it", {"model": str(finished[0])}),
        ("no manifest.json there", {"corpus": str(tmp_path)}),
    ]
    for number, (message, settings) in enumerate(refused):
        with pytest.raises(ConfigError, match=message) as caught:
            pretrain(tmp_path / f"run {number}", **settings)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / f"run {number}").exists()  # the mended command may use the folder


# --- what it trains on ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_muon_iterates_in_the_precision_of_training(
    tmp_path: Path, pretrain: Pretrain, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.dtype] = []
    orthogonalised = optimizers.orthogonalised

    def in_fp32(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        asked.append(dtype)
        return orthogonalised(matrix, torch.float32)

    monkeypatch.setattr(optimizers, "orthogonalised", in_fp32)
    for module in (loop, heldout):  # where bf16 is emulated the step itself would take minutes
        monkeypatch.setattr(module, "autocast", lambda device, precision: nullcontext())
    monkeypatch.setattr(speed, "product_rate", lambda device, precision: 1e12)
    pretrain(tmp_path / "run", steps=1, precision=precision, optimizer="muon")
    assert set(asked) == {torch.bfloat16 if precision == "bf16" else torch.float32}


def test_without_held_out_text_the_last_weights_are_the_model(tmp_path: Path, pretrain: Pretrain) -> None:
    source = write_text(tmp_path / "text.txt", seed=0)
    bare = str(tmp_path / "corpus")
    prepare.run(prepare.Config(source=(str(source),), out=bare, vocab_size=200, heldout=0.0))
    facts = pretrain(tmp_path / "run", corpus=bare)
    assert facts["heldout"] is None and facts["heldout_start"] is None
    saved = safetensors.torch.load_file(tmp_path / "run" / "model" / "model.safetensors")
    last = safetensors.torch.load_file(tmp_path / "run" / "checkpoints" / "step-00000008" / "model.safetensors")
    assert saved.keys() == last.keys() and all(torch.equal(value, last[name]) for name, value in saved.items())


def test_a_run_goes_on_at_the_rates_that_it_was_begun_at_whatever_are_the_defaults_now(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    for step in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(step)
    assert next((tmp_path / "run" / "checkpoints").glob("step-*")).name < "step-00000008", "there is something left to do"
    monkeypatch.setattr("bertlab.training.start.LEARNING_RATES", {})
    monkeypatch.setattr("bertlab.training.start.MUON_LEARNING_RATES", {})
    facts = pretrain(tmp_path / "run")
    assert facts["rates"] == finished[1]["rates"] == {"learning_rate": 2e-3, "muon_learning_rate": 5e-3}
    assert weights(tmp_path / "run") == weights(finished[0]) and records(tmp_path / "run") == records(finished[0])


def test_a_run_that_was_cut_off_says_that_the_corpus_is_another_whatever_its_size(
    tmp_path: Path, pretrain: Pretrain, finished: tuple[Path, dict[str, Any]]
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    source, other = write_text(tmp_path / "other.txt", seed=1), str(tmp_path / "other")
    source.write_text(source.read_text().translate({ord(letter): None for letter in "aeioust"}))  # fewer letters: a smaller vocabulary
    prepare.run(prepare.Config(source=(str(source),), out=other, vocab_size=180, heldout=0.1))
    before = tree(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run was started with another corpus: choose another --out$"):
        look(Config(**{**SMALL, "corpus": other, "out": str(tmp_path / "run")}))  # before torch is imported
    with pytest.raises(ConfigError, match=r"run was started with another corpus: choose another --out$"):
        pretrain(tmp_path / "run", corpus=other)
    assert tree(tmp_path / "run") == before


def test_the_long_phase_has_long_pairs_and_comes_last(tmp_path: Path, pretrain: Pretrain, corpus: str) -> None:
    settings: dict[str, Any] = {"long_share": 0.25, "long_length": 64, "micro_batches": 2}
    config = Config(corpus=corpus, out="", **(SMALL | settings))
    both = phases(config, open_corpus(corpus))
    longest = [max(batch.max_seqlen for batch in both.step(range(2), step)) for step in range(8)]
    assert all(16 < length <= 32 for length in longest[:6]) and all(32 < length <= 64 for length in longest[6:])
    assert torch.equal(both.step(range(2), 6)[0].input_ids, both.long.micro(0).input_ids)  # an epoch of its own
    facts = pretrain(tmp_path / "run", **settings)
    expected = sum(batch.num_tokens for step in range(8) for batch in both.step(range(2), step))
    assert facts["tokens_seen"] == expected


def test_the_shares_of_all_processes_are_the_whole_step(corpus: str) -> None:
    config = Config(corpus=corpus, out="", **(SMALL | {"micro_batches": 4}))
    both = phases(config, open_corpus(corpus))
    whole = both.step(range(4), 3)
    shares = [both.step(range(rank, 4, 2), 3) for rank in range(2)]
    for number, batch in enumerate(whole):
        assert torch.equal(batch.input_ids, shares[number % 2][number // 2].input_ids)
    following = both.step(range(4), 4)
    assert not torch.equal(whole[-1].input_ids, following[0].input_ids)


@pytest.mark.parametrize("settings", [{"whole_words": True}, {"mask_mode": "bernoulli", "mask_rate": 0.3}, {"workers": 2}])
def test_whole_words_coins_and_workers_train_too(tmp_path: Path, pretrain: Pretrain, settings: dict[str, Any]) -> None:
    facts = pretrain(tmp_path / "run", steps=4, **settings)
    assert facts["steps"] == 4 and facts["heldout"]["mlm_loss"] < facts["heldout_start"]["mlm_loss"]


# --- the world --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_take_the_steps_of_one(tmp_path: Path, pretrain: Pretrain, in_processes: InProcesses, shard: bool) -> None:
    shared: dict[str, Any] = {"steps": 3, "micro_batches": 2, "clip": 1e6}
    in_processes(2, lambda _: pretrain(tmp_path / "two", processes=2, shard=shard, **shared))
    pretrain(tmp_path / "one", processes=1, **shared)
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["step"] for record in one] == [record["step"] for record in two]
    for ours, theirs in zip(one, two, strict=True):
        tolerance = 1e-4 if ours["step"] == 0 else 5e-3  # roundings of the first step grow in the optimizer
        if "heldout" in ours:
            assert theirs["heldout"]["mlm_loss"] == pytest.approx(ours["heldout"]["mlm_loss"], abs=tolerance)
        else:
            assert theirs["losses"] == pytest.approx(ours["losses"], abs=tolerance)
            assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=10 * tolerance)
            assert (theirs["tokens"], theirs["sequences"]) == (ours["tokens"], ours["sequences"])
            assert theirs["batch"] == ours["batch"]


def test_a_sharded_run_goes_on_from_its_checkpoint_and_so_does_one_process(
    tmp_path: Path, pretrain: Pretrain, in_processes: InProcesses, capfd: pytest.CaptureFixture[str]
) -> None:
    shared: dict[str, Any] = {"steps": 4, "micro_batches": 2, "save_every": 2, "keep": 3, "heldout_batches": 3}
    divided = {"processes": 2, "shard": True, "recompute": True} | shared
    run, again, alone = (tmp_path / name for name in ("run", "again", "alone"))
    in_processes(2, lambda _: pretrain(run, **divided))
    for copy in (again, alone):
        shutil.copytree(run, copy)
        shutil.rmtree(copy / "model")
        shutil.rmtree(copy / "checkpoints" / "step-00000004")
    in_processes(2, lambda _: pretrain(again, **divided))
    assert "for 4 steps from step 2, 2 processes on cpu" in capfd.readouterr().out
    pretrain(alone, processes=1, **shared)
    for file in ("model/model.safetensors", "checkpoints/step-00000004/optimizer.safetensors"):
        whole, resumed, one = (safetensors.torch.load_file(folder / file) for folder in (run, again, alone))
        assert whole.keys() == resumed.keys() == one.keys()
        for name, value in whole.items():
            assert torch.equal(value, resumed[name]), name
            torch.testing.assert_close(one[name], value, atol=5e-3, rtol=5e-2)


def test_one_process_has_nothing_to_divide_a_model_over(tmp_path: Path, pretrain: Pretrain) -> None:
    with pytest.raises(ConfigError, match="shard=true divides a model over processes, and there is one"):
        pretrain(tmp_path / "run", shard=True)


def test_a_number_of_processes_that_nobody_started_is_refused(tmp_path: Path, pretrain: Pretrain) -> None:
    with pytest.raises(ConfigError, match="asked for 2 processes, 1 started"):
        pretrain(tmp_path / "run", processes=2, micro_batches=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"micro_batches": 0}, "micro_batches=0"),
        ({"keep": 0}, "keep=0"),
        ({"long_share": 1.5}, "long_share=1.5 is a share"),
        ({"warmup": -0.1}, "warmup=-0.1 is a share"),
        ({"dropout": 1.0}, "dropout=1.0 is a probability"),
        ({"mask_rate": 0.0}, "mask_rate=0.0"),
        ({"mask_rate": float("nan")}, "mask_rate wants a finite number"),
        ({"max_length": 7}, "max_length=7"),
        ({"long_share": 0.1, "long_length": 16}, "long_length=16"),
        ({"micro_tokens": 31}, "micro_tokens=31 does not hold one pair of 32 tokens"),
        ({"whole_words": True, "mask_mode": "bernoulli"}, "whole_words needs mask_mode=google"),
        ({"learning_rate": 0.0}, "must be above 0"),
        ({"clip": 0.0}, "must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config(**({"corpus": "c", "out": "o"} | SMALL | settings))
    assert "\n" not in str(caught.value)
