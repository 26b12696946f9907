"""bertlab replay: the batch that it makes is the batch that training saw, tensor by tensor, and where it cannot be, it says so."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab import cli
from bertlab.batches.flat import PretrainingBatch
from bertlab.batches.pretraining import phases_of
from bertlab.disk import read_json, write_sealed
from bertlab.errors import ConfigError, CorruptError
from bertlab.tokens.corpus import open_corpus
from bertlab.training import loop, objectives, speed
from bertlab.training.replay import batch_settings, replay_step
from bertlab.verbs import prepare, pretrain
from bertlab.verbs.replay import Config, run

WORDS = ["old", "mill", "river", "bridge", "tower", "garden", "harbour", "castle", "market", "chapel"]
SMALL: dict[str, Any] = {
    "preset": "tiny",
    "steps": 6,
    "long_share": 0.34,  # the last two steps
    "micro_tokens": 160,
    "dropout": 0.1,  # its masks are to come again too
    "max_length": 32,
    "long_length": 64,
    "heldout_every": 6,
    "heldout_batches": 1,
    "save_every": 3,
    "log_every": 4,
    "device": "cpu",
    "precision": "fp32",
}
FIELDS = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens", "mlm_positions", "mlm_labels", "nsp_labels")

Recorded = dict[int, list[PretrainingBatch]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_corpus(folder: Path, seed: int) -> str:
    draw = random.Random(seed)
    text = "\n\n".join(
        "\n".join(" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) + "." for _ in range(draw.randint(2, 9))) for _ in range(80)
    )
    (folder / "text.txt").write_text(text)
    prepare.run(prepare.Config(source=(str(folder / "text.txt"),), out=str(folder / "corpus"), vocab_size=100))
    return str(folder / "corpus")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("small"), seed=0)


class Cut(Exception):
    pass


def train(corpus: str, out: Path, *cuts: int, **settings: Any) -> Recorded:
    """A run to its end, cut off in the steps `cuts` first; returns the micro-batches of each step as the objective saw them, last time."""
    config = pretrain.Config(**({"corpus": corpus, "out": str(out)} | SMALL | settings))
    recorded, step, true_train = Recorded(), 0, loop.train
    true_losses = objectives.Pretraining.losses

    def losses(self: Any, model: Any, batch: PretrainingBatch) -> Any:
        recorded.setdefault(step, []).append(batch)
        return true_losses(self, model, batch)

    def watched(cut: int | None) -> Callable[..., None]:
        def watch(*arguments: Any, start: int, after_step: Callable[[loop.StepResult], Any], **named: Any) -> None:
            nonlocal step

            def after(result: loop.StepResult) -> Any:
                nonlocal step
                if result.step == cut:
                    raise Cut
                stop = after_step(result)
                step = result.step + 1
                recorded.pop(step, None)
                return stop

            step = start
            recorded.pop(step, None)
            true_train(*arguments, start=start, after_step=after, **named)

        return watch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives.Pretraining, "losses", losses)
        patch.setattr(speed, "product_rate", lambda *_: 1e9)  # measuring bf16 takes minutes on a processor that has none
        for cut in cuts:
            patch.setattr(loop, "train", watched(cut))
            with pytest.raises(Cut):
                pretrain.run(config)
        patch.setattr(loop, "train", watched(None))
        pretrain.run(config)
    return recorded


Run = tuple[Path, Recorded]


@pytest.fixture(scope="module")
def one(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One micro-batch a step: to be read, not changed."""
    out = tmp_path_factory.mktemp("one") / "run"
    return out, train(corpus, out)


@pytest.fixture(scope="module")
def resumed(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two micro-batches a step, whole words, cut off before its first checkpoint and in its long phase, and gone on with."""
    out = tmp_path_factory.mktemp("resumed") / "run"
    return out, train(corpus, out, 1, 4, micro_batches=2, whole_words=True, seed=7)


def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "best", "model"))
    return tmp_path / "run"


# --- the batch is the one that was trained on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["one", "resumed"])
def test_every_step_of_both_phases_is_the_batch_that_training_saw(request: pytest.FixtureRequest, which: str) -> None:
    out, recorded = request.getfixturevalue(which)
    assert sorted(recorded) == list(range(6))
    for step, saw in recorded.items():
        found = replay_step(out, step + 1)
        assert len(saw) == len(found.batches) == (1 if which == "one" else 2)
        for mine, theirs in zip(found.batches, saw, strict=True):
            assert all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in FIELDS), step
        assert found.logged == found.made  # also of the steps whose losses the log leaves out
        assert found.is_long == (step >= 4)
        assert (max(batch.max_seqlen for batch in saw) > 32) == (step >= 4)
    assert len({replay_step(out, step + 1).made for step in recorded}) == 6


def test_the_log_has_the_hash_of_every_step_once(resumed: Run) -> None:
    lines = [json.loads(line) for line in (resumed[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "batch" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "losses" in line] == [4, 6]


def test_a_run_with_filler_logs_the_hashes_of_one_without(corpus: str, one: Run, tmp_path: Path) -> None:
    saw = train(corpus, tmp_path / "run", precision="bf16", steps=1, long_share=0.0)
    assert saw[0][0].filler_tokens or saw[0][0].filler_sequences
    found = replay_step(tmp_path / "run", 1)
    assert found.logged == found.made == replay_step(one[0], 1).logged


@pytest.mark.parametrize("fill_to", [1, 32, 10**6])
def test_filler_brings_batches_to_a_multiple_or_to_their_budget(corpus: str, one: Run, fill_to: int) -> None:
    settings = batch_settings(one[0])
    bare, filled = (phases_of(open_corpus(corpus), settings, to).step(range(2), 0) for to in (1, fill_to))
    for without, batch in zip(bare, filled, strict=True):
        tokens = len(without.input_ids)
        assert without.filler_tokens == 0 and batch.num_tokens == tokens and torch.equal(batch.input_ids[:tokens], without.input_ids)
        assert len(batch.input_ids) == min(settings["micro_tokens"], -(-tokens // fill_to) * fill_to)


def test_long_pairs_are_drawn_anew_and_not_as_the_short_ones_were(corpus: str, one: Run) -> None:
    settings = batch_settings(one[0]) | {"long_length": 32}  # as long as the short ones, so that only the draw can differ
    both = phases_of(open_corpus(corpus), settings)
    assert not torch.equal(both.long.micro(0).input_ids, both.short.micro(0).input_ids)


# --- what is shown ----------------------------------------------------------------------------------------------------------------------


def test_the_step_is_shown_as_text_and_written_as_json(resumed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, recorded = resumed
    facts = run(Config(run=str(out), step=6, pairs=1, json=str(tmp_path / "step.json")))
    shown = capsys.readouterr().out
    assert facts == read_json(tmp_path / "step.json")
    assert "step       6 of 6, long pairs" in shown and f"{facts['batch']}, as the run logged it" in shown
    assert facts["pairs"] == sum(batch.num_sequences for batch in recorded[5]) == len(facts["all_pairs"])
    assert facts["tokens"] == sum(batch.num_tokens for batch in recorded[5])
    assert facts["masked"] == sum(len(batch.mlm_labels) for batch in recorded[5])
    assert facts["follows"] == sum(int((batch.nsp_labels == 0).sum()) for batch in recorded[5])
    assert "pair 1 (micro-batch 0)" in shown and "pair 2" not in shown and "  [CLS] " in shown and "<" in shown


# --- what cannot be replayed ------------------------------------------------------------------------------------------------------------


def test_a_hash_that_differs_from_the_log_is_damage(one: Run, tmp_path: Path) -> None:
    out = copy(one[0], tmp_path)
    log = out / "metrics.jsonl"
    logged = replay_step(out, 2).made
    log.write_text(log.read_text().replace(logged, logged[::-1]))
    with pytest.raises(CorruptError, match=f"step 2 of .* makes the batch {logged}, but its log says {logged[::-1]}") as caught:
        replay_step(out, 2)
    assert "\n" not in str(caught.value)
    assert replay_step(out, 3).logged  # the others are as they were


def test_a_step_that_is_not_logged_is_made_and_said_to_be_unchecked(one: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copy(one[0], tmp_path)
    log = out / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole[: whole.index('{"step": 3,')] + '{"step": 3, "bat')  # cut short by a crash
    assert replay_step(out, 2).logged is not None
    facts = run(Config(run=str(out), step=3, pairs=0))
    assert facts["logged"] is None and facts["batch"] == replay_step(one[0], 3).made
    assert "the run has not logged: nothing to compare it with" in capsys.readouterr().out
    log.unlink()
    assert replay_step(out, 2).logged is None


def test_a_corpus_that_has_moved_is_named_and_another_one_refused(corpus: str, one: Run, tmp_path: Path) -> None:
    out = copy(one[0], tmp_path)
    shutil.copytree(corpus, tmp_path / "moved")
    assert replay_step(out, 5, str(tmp_path / "moved")).made == replay_step(one[0], 5).made
    (tmp_path / "other").mkdir()
    other = write_corpus(tmp_path / "other", seed=1)
    refused: list[tuple[str, type[Exception], str]] = [
        (other, ConfigError, "is not the corpus that .* was trained on"),
        (str(tmp_path / "nothing"), ConfigError, r"no corpus there, .*\(--corpus\)"),
    ]
    shard = next((tmp_path / "moved" / "train").glob("*.arrow"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    refused.append((str(tmp_path / "moved"), CorruptError, "arrow is not the file that was written"))
    for folder, error, message in refused:
        with pytest.raises(error, match=message) as caught:
            replay_step(out, 5, folder)
        assert "\n" not in str(caught.value)


def test_damaged_settings_are_refused_before_any_batch_is_made(one: Run, tmp_path: Path) -> None:
    out = copy(one[0], tmp_path)
    settings = out / "config.yaml"
    whole = settings.read_text()
    for damaged in (whole.replace("seed: 0", "seed: 1"), whole[:40], "", "- a list\n", "steps: &a [*a, *a"):
        settings.write_text(damaged)
        with pytest.raises(CorruptError, match="config.yaml") as caught:
            replay_step(out, 1)
        assert "\n" not in str(caught.value)


def test_a_mistake_is_one_line_with_its_exit_code(one: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for code, message, options in (
        (2, "has 6 steps", ["--run", str(one[0]), "--step", "7"]),
        (2, "numbered from 1", ["--run", str(one[0]), "--step", "0"]),
        (2, "is it a run folder?", ["--run", str(tmp_path / "empty"), "--step", "1"]),
    ):
        assert cli.main(["replay", *options]) == code
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_a_contrastive_run_on_a_corpus_is_no_pretraining_to_replay(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("corpus: somewhere\npositives: sentences\n")
    write_sealed(tmp_path / "inputs.json", {"corpus": "0" * 64})
    with pytest.raises(ConfigError, match="is not a pretraining run, and only those can be replayed"):
        batch_settings(tmp_path)
