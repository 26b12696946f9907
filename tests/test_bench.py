"""bertlab bench: its figures hang together, its options are pretrain's, and it leaves nothing behind."""

import itertools
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab import bench, cli, sample
from bertlab.errors import ConfigError
from bertlab.training import speed
from bertlab.training.processes import choose_device
from bertlab.training.speed import MEASURED_AGAIN, peak_memory, product_rate, training_flops, utilisation_of
from bertlab.verbs import prepare, pretrain

SMALL: dict[str, Any] = {"preset": "tiny", "micro_tokens": 256, "max_length": 32, "device": "cpu", "precision": "fp32", "seconds": 0.1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bench")
    sentences = [f"Sentence {number} says that mill {number % 7} stands near river {number % 5}." for number in range(900)]
    (folder / "text.txt").write_text("\n\n".join("\n".join(sentences[start : start + 6]) for start in range(0, 900, 6)))
    prepare.run(prepare.Config(source=(str(folder / "text.txt"),), out=str(folder / "corpus"), vocab_size=120))
    return str(folder / "corpus")


def test_the_figures_hang_together_and_are_written(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "product_rate", product_rate)  # measured, as for a user
    path = tmp_path / "bench.json"
    figures = bench.run(bench.Config(corpus=corpus, steps=500, price_per_hour=3.0, json=str(path), **SMALL))
    assert json.loads(path.read_text()) == figures
    assert sorted(tmp_path.iterdir()) == [path]
    for size in figures["sizes"]:
        parts = sum(size[f"{part}_seconds"] for part in ("data", "forward", "backward", "optimizer", "exchange"))
        assert parts == pytest.approx(size["step_seconds"], rel=1e-6)
        assert size["tokens_per_second"] == pytest.approx(size["tokens_per_step"] / size["step_seconds"])
        share = size["flops"] / size["step_seconds"] / figures["product_flops_per_second"]
        assert size["mfu"] == (pytest.approx(share) if share <= 1 else None) and share > 0
        assert 0 < size["tokens_per_step"] <= size["micro_tokens"] and size["memory_bytes"] > 10**8 and size["exchange_seconds"] == 0
    assert figures["best_micro_tokens"] in [size["micro_tokens"] for size in figures["sizes"]]
    run = figures["run"]
    chosen = next(size for size in figures["sizes"] if size["micro_tokens"] == 256)
    assert run["tokens"] == pytest.approx(500 * chosen["tokens_per_step"]) and run["cost"] == pytest.approx(3 * run["hours"])
    assert run["hours"] * 3600 == pytest.approx(500 * chosen["step_seconds"])
    said = capsys.readouterr().out
    assert "this run   500 steps" in said and f"cost {run['cost']:,.2f}" in said


def test_the_settings_of_a_run_can_be_benched_as_they_are(corpus: str, tmp_path: Path) -> None:
    shared = {name: value for name, value in SMALL.items() if name != "seconds"}
    pretrain.run(pretrain.Config(corpus=corpus, out=str(tmp_path / "run"), steps=2, **shared))
    assert cli.main(["bench", "--config", str(tmp_path / "run" / "config.yaml"), "--seconds", "0.1"]) == 0


def test_without_a_corpus_the_sample_is_measured_and_no_run_foretold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with lzma.open(sample.path("articles.jsonl.xz")) as whole, lzma.open(tmp_path / "few.jsonl.xz", "w") as few:
        few.writelines(itertools.islice(whole, 300))
    monkeypatch.setattr(sample, "path", {"articles.jsonl.xz": tmp_path / "few.jsonl.xz"}.__getitem__)
    monkeypatch.setattr(speed, "product_rate", lambda *_: 1e6)  # as beside other work: no step is that slow
    figures = bench.run(bench.Config(**SMALL))
    said = capsys.readouterr().out
    assert "run" not in figures and "next " in said
    assert [size["mfu"] for size in figures["sizes"]] == [None] * len(figures["sizes"])
    assert "measure again on a quiet machine" in said


def test_a_rate_that_other_work_slowed_is_measured_again_and_never_gives_more_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [10.0, 10.0, 40.0, 5.0]
    monkeypatch.setattr(speed, "product_rate", lambda *_: rates.pop(0))
    share_of = utilisation_of(torch.device("cpu"), "fp32", 2)
    assert share_of(10.0) == 0.5 and len(rates) == 3  # two processes do 20 a second
    assert share_of(30.0) is None and len(rates) == 2  # measured again, no better
    assert share_of(30.0) == 30 / 80 and share_of(8.0) == 0.1 and len(rates) == 1  # the best counts from then on
    assert share_of(81.0) is None and rates == []  # the third and last time
    assert share_of(81.0) is None and share_of(80.0) == 1.0 and MEASURED_AGAIN == 3


def test_a_size_that_does_not_fit_ends_the_sizes(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bench._steps

    def steps(config: bench.Config, *rest: Any) -> dict[str, Any]:
        if config.micro_tokens > 256:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(config, *rest)

    monkeypatch.setattr(bench, "_steps", steps)
    figures = bench.run(bench.Config(corpus=corpus, **(SMALL | {"seconds": 5.0})))
    assert [size["micro_tokens"] for size in figures["sizes"]] == [128, 256]


def test_the_smallest_size_not_fitting_is_one_line(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench, "_steps", steps)
    with pytest.raises(ConfigError, match="lower micro_tokens"):
        bench.run(bench.Config(corpus=corpus, **SMALL))


@pytest.mark.parametrize(
    ("settings", "message"), [({"seconds": 0}, "seconds"), ({"price_per_hour": -1.0}, "price"), ({"steps": 0}, "steps=0")]
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench.Config(**settings)


def test_operations_are_those_that_torch_counts() -> None:
    """torch's own counter over forward and backward; the pooler and both heads included."""
    from torch.utils.flop_counter import FlopCounterMode

    from bertlab.batches.flat import PretrainingBatch, flat_fields
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.heads import BertForPreTraining

    config = EncoderConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96)
    lengths = torch.tensor([12, 12, 12]).numpy()
    ids = torch.arange(36).numpy()
    batch = PretrainingBatch(
        **flat_fields(ids, ids * 0, lengths),
        mlm_positions=torch.tensor([1, 5, 20, 30]),
        mlm_labels=torch.tensor([1, 2, 3, 4]),
        nsp_labels=torch.tensor([0, 1, 0]),
    )
    model = BertForPreTraining(config)
    for parameter in model.bert.embeddings.parameters():  # so that the first block's input needs a gradient, as in training
        parameter.requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        mlm_logits, nsp_logits = model(mlm_positions=batch.mlm_positions, **batch.encoder_inputs())
        (mlm_logits.sum() + nsp_logits.sum()).backward()
    ours = training_flops(config, tokens=36, token_pairs=3 * 144, sequences=3, masked=4)
    attention = 3 * 2 * 2 * (3 * 144) * 2 * 32  # which torch's counter takes for 3.5 instead of 3 forwards, the scores made twice
    assert ours - attention <= counter.get_total_flops() <= ours + attention


def test_the_product_rate_and_the_memory_are_of_this_machine() -> None:
    device = choose_device("cpu")
    assert 1e8 < product_rate(device, "fp32", rounds=1) < 1e15
    assert 2**26 < peak_memory(device) < 2**42


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_names_the_setting_to_change(
    error: Exception, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Any) -> None:
        raise error

    monkeypatch.setattr(pretrain, "run", run)
    assert cli.main(["pretrain", "--corpus", corpus, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "out of memory: lower micro_tokens (4096)" in said and "recompute" in said
