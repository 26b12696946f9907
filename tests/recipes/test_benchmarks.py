"""recipes/benchmarks: both sides do the same work, what is wrong is not timed, and the scripts run. No speed is tested."""

import argparse
import importlib
import itertools
import json
import lzma
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import BertConfig
from transformers import BertForPreTraining as PeerBert

from bertlab import sample
from bertlab.model import attention
from bertlab.model.encoder import EncoderConfig
from bertlab.tokens.corpus import Corpus, open_corpus
from bertlab.training.objectives import Pretraining
from bertlab.training.speed import training_flops
from bertlab.verbs import prepare, pretrain

BENCHMARKS = Path(__file__).parents[2] / "recipes" / "benchmarks"
SCRIPTS = ("batches", "pretrain_step", "gpu", "finetune")
IMPORTED = (*SCRIPTS, "embed", "recipes", "prepare", "report")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, by name: Python finds those beside a script, not beside a test."""
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in IMPORTED}
    sys.path.remove(str(BENCHMARKS))
    for name in IMPORTED:
        del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A corpus of 150 documents of 20 sentences."""
    made = tmp_path_factory.mktemp("benchmarks")
    sentences = [f"Sentence {number} says that mill {number % 7} stands near river {number % 5}." for number in range(3000)]
    (made / "text.txt").write_text("\n\n".join("\n".join(sentences[start : start + 20]) for start in range(0, 3000, 20)))
    prepare.run(prepare.Config(source=(str(made / "text.txt"),), out=str(made / "corpus"), vocab_size=120))
    return str(made / "corpus")


@pytest.fixture(scope="module")
def corpus(folder: str) -> Corpus:
    return open_corpus(folder)


def config_of(**settings: Any) -> pretrain.Config:
    return pretrain.Config(**{"corpus": "", "out": "", "preset": "tiny", "micro_tokens": 600, "device": "cpu", "dropout": 0.0, **settings})


def ran(script: str, *arguments: str) -> str:
    """What a script says that changes what its process may use; others are run here, where torch is imported already."""
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_says_what_it_takes(
    modules: dict[str, ModuleType], script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        modules[script].main()
    assert ended.value.code == 0 and "--rounds" in capsys.readouterr().out


def test_the_peers_batch_holds_the_same_work(modules: dict[str, ModuleType], corpus: Corpus) -> None:
    config = config_of()
    ours = pretrain.build_model(config, corpus)
    peer = PeerBert(
        BertConfig(
            vocab_size=corpus.tokenizer.vocab_size,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    peer.load_state_dict({**peer.state_dict(), **ours.state_dict()})
    step = modules["pretrain_step"]
    plain, filled = (step.batches_of(config, corpus, 2, fill_to) for fill_to in (1, 600))
    for bare, batch in zip(plain, filled, strict=True):
        assert len(batch.input_ids) == 600 > bare.num_tokens == batch.num_tokens
        objective = Pretraining()
        mean = (objective.losses(ours, batch) / torch.tensor(objective.counts(batch))).sum()
        torch.testing.assert_close(peer(**step.padded(bare)).loss, mean, atol=1e-5, rtol=1e-5)
        assert not step.padded(bare)["attention_mask"].all()
    with pytest.raises(AssertionError):
        step.padded(filled[0])  # filler is no work for the peer


def test_operations_are_those_of_the_real_tokens(modules: dict[str, ModuleType], corpus: Corpus) -> None:
    step, shape = modules["pretrain_step"], EncoderConfig(vocab_size=120)
    batches = step.batches_of(config_of(), corpus, 2)
    expected = 0.0
    for batch in batches:
        lengths = np.diff(batch.cu_seqlens.numpy().astype(np.int64))
        sizes = {"tokens": int(lengths.sum()), "token_pairs": int((lengths**2).sum()), "sequences": len(lengths)}
        expected += training_flops(shape, masked=int((batch.mlm_labels >= 0).sum()), **sizes)
    assert step.flops_of(shape, batches) == expected


def test_synthetic_sentences_depend_on_their_document_alone(modules: dict[str, ModuleType]) -> None:
    documents = modules["batches"].Synthetic(10_000)
    everything = np.arange(documents.num_documents)
    lengths, bounds, addresses = documents.sentences(everything)
    assert bounds[-1] == len(lengths) == documents.num_sentences and 9_000 < documents.num_sentences <= 10_000
    assert 5 <= lengths.min() < lengths.max() <= 47 and abs(lengths.sum() / documents.num_tokens - 1) < 0.02
    totals = np.add.reduceat(lengths, bounds[:-1])
    assert (addresses[:-1] + totals[:-1] <= addresses[1:]).all()
    some = np.array([77, 3, 400])
    few, few_bounds, few_addresses = documents.sentences(some)
    for place, number in enumerate(some):
        assert (few[few_bounds[place] : few_bounds[place + 1]] == lengths[bounds[number] : bounds[number + 1]]).all()
        assert few_addresses[place] == addresses[number]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux's /proc")
def test_a_plan_takes_every_block_and_its_memory_is_counted(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    batches = modules["batches"]
    monkeypatch.setattr(batches, "one_core", lambda: None)  # of the process that runs the tests
    taken: list[np.ndarray] = []
    inner = batches.Synthetic.sentences

    def counted(self: Any, documents: np.ndarray) -> Any:
        taken.append(documents)
        return inner(self, documents)

    monkeypatch.setattr(batches.Synthetic, "sentences", counted)
    kept: list[mmap.mmap] = []
    plan = batches.PretrainingBatches._plan_block

    def hungry(self: Any, place: int) -> Any:
        kept.append(mmap.mmap(-1, 20_000_000))  # 20 MB a block that stay, and that no earlier test can have freed
        kept[-1].write(b"1" * 20_000_000)
        return plan(self, place)

    monkeypatch.setattr(batches.PretrainingBatches, "_plan_block", hungry)
    planned = batches.planned(1_000_000)
    assert sorted(np.concatenate(taken)) == list(range(planned["sentences"] // 20)) and len(taken) == 4
    assert 80_000_000 < planned["peak_bytes"] < 500_000_000 and planned["rate"] > 0


def test_a_wrong_gradient_is_seen_and_a_vanishing_one_is_not(modules: dict[str, ModuleType], corpus: Corpus) -> None:
    gpu, config = modules["gpu"], config_of()
    model, (batch,) = pretrain.build_model(config, corpus), modules["pretrain_step"].batches_of(config, corpus, 1)
    cpu = torch.device("cpu")
    right = gpu.results(model, batch, "fp32", cpu)
    assert {"mlm_loss", "nsp_loss"} < right.keys() and len(right) == 2 + len(list(model.parameters()))
    assert gpu.apart(right, right) == 0
    for name, change, least in (
        ("mlm_loss", 1.01, 0.009),
        ("bert.encoder.layer.1.attention.self.value.bias", 0.5, 0.1),
        ("bert.pooler.dense.weight", float("nan"), None),
    ):
        found = gpu.apart(right | {name: right[name] * change}, right)
        assert found > least if least else not gpu.Check("", found, gpu.BF16).holds
    name = "bert.encoder.layer.0.attention.self.key.bias"  # 0 but for rounding
    assert gpu.apart(right | {name: torch.zeros_like(right[name])}, right) < gpu.FP32


def test_checks_fail_when_filler_or_a_kernel_is_broken(
    modules: dict[str, ModuleType], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, cpu = modules["gpu"], torch.device("cpu")

    def failed() -> set[str]:
        return {check.name for check in gpu.checks(corpus, "tiny", 300, cpu, False) if not check.holds}

    assert failed() == set()
    topped_up = gpu.PretrainingBatch.topped_up
    with monkeypatch.context() as patched:
        patched.setattr(
            gpu.PretrainingBatch,
            "topped_up",
            lambda self, tokens: replace(filled := topped_up(self, tokens), mlm_labels=filled.mlm_labels.clamp(min=0)),
        )
        assert failed() == {"fp32: filler against none", "bf16: filler against none"}
    with monkeypatch.context() as patched:
        inner = attention._weights
        patched.setattr(
            attention, "_weights", lambda query, key, added: inner(1.1 * query if query.dtype == torch.bfloat16 else query, key, added)
        )
        assert {"bf16 attention at 128: against fp32", "bf16 attention at 512: against fp32"} <= failed()


def test_a_failed_check_ends_the_run_before_anything_is_timed(
    modules: dict[str, ModuleType], folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = modules["gpu"]
    monkeypatch.setattr(gpu, "checks", lambda *_: iter([gpu.Check("sound", 1e-6, 1e-4), gpu.Check("broken", float("nan"), 1e-4)]))
    for name in ("timed", "product_rate"):
        monkeypatch.setattr(gpu, name, lambda *_: pytest.fail("timed what is wrong"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--corpus", folder])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    said = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1 and said[-1].startswith("FAILED")
    assert [line.split()[-1] for line in said if line.startswith(("sound", "broken"))] == ["ok", "FAILED"]


def test_a_side_that_does_not_fit_or_compile_is_shown_and_the_others_are_timed(
    modules: dict[str, ModuleType], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = modules["gpu"]

    def refuses(error: Exception) -> Any:
        def once() -> float:
            raise error

        return once

    seconds = iter([9.0, 2.0, 4.0])  # the first round is not counted
    monkeypatch.setattr(
        gpu,
        "our_round",
        lambda config, *_: refuses(RuntimeError("no compiler here\nand more")) if config.compile else lambda: next(seconds),
    )
    monkeypatch.setattr(gpu, "their_round", lambda config, *_: (lambda: 6.0) if config.compile else refuses(torch.OutOfMemoryError("")))
    rates: list[float] = []
    cell = gpu.timed(config_of(), corpus, 2, 1, True, rates)
    assert cell.seconds == {"bertlab": [2.0, 4.0], "transformers compiled": [6.0, 6.0]} and len(rates) == 2
    assert cell.failures["transformers"] == "out of memory" and cell.failures["bertlab compiled"].startswith(
        "RuntimeError: no compiler here"
    )
    assert cell.best("bertlab") == cell.tokens / 3 and cell.best("transformers") == cell.tokens / 6 and cell.ratio() == (3.0 + 1.5) / 2
    line = gpu.row(cell, max(rates))
    assert "out of memory" in line and "RuntimeError" in line and "2.25" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_card_one_line_says_so(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    modules["gpu"].main()
    assert capsys.readouterr().out == "not measured: torch sees no CUDA device here\n"


def test_the_batches_script_runs(folder: str) -> None:
    said = ran("batches", "--corpus", folder, "--rounds", "1", "--micro-batches", "3", "--sentences", "60000")
    figures = json.loads(said.splitlines()[-1])
    for name in ("tokens", "plan_sentences", "synthetic_plan_sentences"):
        assert figures[f"{name}_per_second_best"] >= figures[f"{name}_per_second"] > 0
    assert figures["threads"] == 1 and figures["date"] and figures["machine"] and figures["torch"] == torch.__version__
    if sys.platform == "linux":
        assert figures["peak_bytes"].keys() == {"0.06M"} and figures["peak_bytes"]["0.06M"] > 0


def test_the_gpu_script_runs_its_logic_on_a_cpu(
    modules: dict[str, ModuleType], folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--length", "32", "64", "--micro-tokens", "128", "--rounds", "1", "--steps", "2", "--compile", "none"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--preset", "tiny", "--corpus", folder, *small])
    modules["gpu"].main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(figures["checks"]) == 6 and [(cell["length"], cell["micro_tokens"]) for cell in figures["cells"]] == [(32, 128), (64, 128)]
    for cell in figures["cells"]:
        name = f"tiny_{cell['length']}"
        assert figures[f"{name}_tokens_per_second"] == cell["tokens"] / cell["seconds"]["bertlab"][0]
        assert figures[f"{name}_ratio"] == pytest.approx(cell["seconds"]["transformers"][0] / cell["seconds"]["bertlab"][0])
        flops_a_second = figures[f"{name}_tokens_per_second"] / cell["tokens"] * cell["flops"]
        assert figures[f"{name}_mfu"] == pytest.approx(flops_a_second / figures["product_flops_per_second"])


def test_the_preparing_script_runs(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with lzma.open(sample.path("articles.jsonl.xz")) as whole, lzma.open(tmp_path / "few.jsonl.xz", "w") as few:
        few.writelines(itertools.islice(whole, 300))
    monkeypatch.setattr(sample, "path", lambda _: tmp_path / "few.jsonl.xz")
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--megabytes", "0.1", "--rounds", "1"])
    modules["prepare"].main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for kind in ("text", "wikipedia"):
        assert figures[f"{kind}_megabytes_per_second_a_core"] > 0 and figures[f"{kind}_scaling"] > 0
    assert figures["peak_bytes"] > 50_000_000 and "vocabulary_seconds_of_4.4_megabytes" in figures  # a difference of two times


def cut_off(*_: object) -> float:
    raise KeyboardInterrupt


def test_the_recipes_script_judges_and_goes_on(
    modules: dict[str, ModuleType], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"words of {'bread' if number % 2 else 'iron'} number {number}", "label": str(number % 2)} for number in range(40)]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--minutes", "0.001", "--seeds", "1", "--recipe", "muon", "--corpus", folder, "--out", str(tmp_path / "out")]
    options += ["--train", str(tmp_path / "train.jsonl"), "--test", str(tmp_path / "test.jsonl")]
    monkeypatch.setattr(modules["recipes"], "TRIAL_STEPS", 7)
    monkeypatch.setattr(sys, "argv", ["recipes.py", *options])

    def figures_of_muon() -> dict[str, Any]:
        modules["recipes"].main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["recipes"]["muon"]
        return found

    with pytest.MonkeyPatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(modules["recipes"], "probe", cut_off)
        figures_of_muon()
    assert [path.name for path in (tmp_path / "out").glob("*.run")] == ["tiny-0.001min-muon-0.run"]
    figures = figures_of_muon()
    assert not list((tmp_path / "out").glob("*.run")), "what was trained was gone on with, and is not kept"
    assert figures["steps"][0] >= 1 and figures["mlm_loss"][0] > 0 and 0 <= figures["probe_macro_f1"][0] <= 1
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    assert figures_of_muon() == figures and {path: path.stat().st_mtime_ns for path in kept if "min-" in path.name}.items() <= kept.items()


def test_the_reports_script_draws_a_run_of_as_many_steps_as_asked_for(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", "--steps", "200", "--log-every", "5", "--rounds", "1"])
    modules["report"].main()
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"200 steps, one in 5 logged in full \(0\.0 MB\): \d+\.\d\d s, page \d+ kB", line)


# ---- fine-tuning against the Trainer


def test_both_sides_of_fine_tuning_start_from_the_same_weights_and_train_on_the_same_tokens(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = modules["finetune"]
    texts = bench.made_texts("long-tailed", 40)
    tokenizer, examples = bench.examples_of(texts, [number % 3 for number in range(40)], 48)
    ours, peer = bench.start_models("tiny", tokenizer.vocab_size, 3, 48, 0.0)
    batch = examples.batch(np.arange(8))
    rows = bench.as_rows(examples)
    tokenizer.save(tmp_path, 48)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    padded = transformers.DataCollatorWithPadding(theirs)(rows[:8])
    with torch.inference_mode():
        logits = ours.eval()(**batch.encoder_inputs())
        torch.testing.assert_close(peer.eval()(**padded).logits, logits, atol=1e-5, rtol=1e-5)
    # an epoch of either side holds every token once
    steps, total = examples.steps_per_epoch(8), len(examples.ids)
    before = [parameter.detach().clone() for parameter in peer.parameters()]
    assert bench.our_round(ours, examples, steps, 8)(1)[0] == total
    for to_max in (None, 48):
        tokens, seconds = bench.their_round(peer, theirs, rows, steps, 8, to_max, str(tmp_path / "trainer"))(1)
        assert tokens == total and seconds > 0
    assert any((now != was).any() for now, was in zip(peer.parameters(), before, strict=True))


def test_texts_are_as_long_as_their_name_says(modules: dict[str, ModuleType]) -> None:
    lengths = {
        name: [len(text.split()) for text in modules["finetune"].made_texts(name, 400)] for name in ("short", "mixed", "long-tailed")
    }
    assert min(lengths["short"]) == 8 and max(lengths["short"]) == 20
    assert min(lengths["mixed"]) < 10 and max(lengths["mixed"]) > 115
    assert 20 <= np.median(lengths["long-tailed"]) <= 29 and np.mean(lengths["long-tailed"]) > 1.2 * np.median(lengths["long-tailed"])
    assert modules["finetune"].made_texts("mixed", 5) == modules["finetune"].made_texts("mixed", 5)


def test_fine_tuning_is_measured_by_lengths_and_ends_with_json(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--preset tiny --steps 2 --rounds 1 --batch-size 4 --max-length 24 --examples 40 --lengths short mixed --clock processor"
    monkeypatch.setattr(sys, "argv", ["finetune.py", *small.split()])
    modules["finetune"].main()
    table, _, last = capsys.readouterr().out.rstrip().rpartition("\n")
    found = json.loads(last)
    assert list(found["lengths"]) == ["short", "mixed"] and "Trainer" in table and found["clock"] == "processor"
    assert found["ratio"] == min(one["ratio, dynamic"] for one in found["lengths"].values()) > 0
    assert all(one["tokens on average"] > 8 and one["ratio, to max"] > 0 for one in found["lengths"].values())


def test_texts_to_fine_tune_on_may_come_from_files(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"text {number}", "label": "ab"[number % 2]}) + "\n" for number in range(4)))
    ((texts, labels),) = modules["finetune"].data_of(argparse.Namespace(data=[str(data)])).values()
    assert texts == [f"text {number}" for number in range(4)] and labels == [0, 1, 0, 1]


def test_the_embedding_script_gives_both_sides_the_same_vectors(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sentence_transformers", reason="the peer is not installed")
    from bertlab.model.folder import save_model
    from bertlab.model.heads import BertForPreTraining
    from bertlab.tokens import tokenizer as tokenizers

    tokenizer = tokenizers.train(["The quick brown fox jumps over the lazy dog."] * 9, kind="wordpiece", vocab_size=60, lowercase=True)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=32, **shape))
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="# A card\n")
    monkeypatch.setattr(sys, "argv", ["embed.py", "--model", str(tmp_path / "model"), "--texts", "40", "--rounds", "2"])
    modules["embed"].main()
    said = capsys.readouterr().out
    figures = json.loads(said.splitlines()[-1])
    assert figures["fp32_max_error"] < 1e-5 and figures["fp32_ratio"] > 0 and figures["rounds"] == 2
    bf16 = figures["bf16_ratio"], figures["bf16_min_cosine"]
    assert (bf16 == (None, None) and "not measured here" in said) or min(bf16) > 0
