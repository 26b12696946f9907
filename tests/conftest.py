"""For all tests: one thread a process, several processes of one world, and the table of what was tried how often.

pytest runs two processes, and torch's threads would wait for each other on two cores. Tests of faults draw many trials: `--tier full`
draws more of them, and `--reliability-table FILE` writes what came of it as Markdown:

    python -m pytest tests/reliability --tier full --reliability-table docs/reliability-table.md
"""

import datetime
import gc
import importlib.metadata
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
gc.disable()  # until all is imported: see pytest_collection_finish


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reliability")
    group.addoption("--tier", choices=("pr", "full"), default="pr", help="how many trials: pr, minutes; full, hours")
    group.addoption("--reliability-table", metavar="FILE", help="write the table of trials as Markdown")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long files first: one that begins last has a core to itself in the end, while the other is idle. The full tier takes its time:
    pytest-timeout's limit is for the other one."""
    dear = ("reliability", "recipes", "verbs", "security", "tasks", "training", "tests")  # the last: those beside this file
    late = ("test_promises.py", "test_shown.py")  # they need the walk that test_canaries.py begins with, and would wait for it
    items.sort(key=lambda item: (item.path.parent.name not in dear, item.path.name in late))
    if config.getoption("--tier") == "full":
        for item in items:
            item.add_marker(pytest.mark.timeout(4 * 3600))


def pytest_collection_finish() -> None:
    """Collecting garbage looks at every object that there is, again and again: never at the million that imports leave for good, nor in
    the processes that are forked from here."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def measured_elsewhere() -> Iterator[None]:
    """A second of every run: this machine's rate of products, which goes into the MFU alone. tests/test_bench.py measures it."""
    from bertlab.training import speed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "product_rate", lambda *_, **__: 1e12)
        yield


@pytest.fixture(scope="session")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """in_processes(ranks, work): what work(rank) returns, as JSON has it, in `ranks` processes of one world (gloo, on the CPU).

    They are forked, so that they cost no imports; this process has one thread of torch's.
    """
    import torch

    from tests.reliability.forkserver import import_later

    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        pytest.skip("a process that uses a GPU, or an operating system without it, cannot fork")
    import_later()
    gc.freeze()

    def run(ranks: int, work: Callable[[int], Any]) -> list[Any]:
        folder, children = tmp_path_factory.mktemp("world"), []
        answers, store = [folder / f"{rank}.json" for rank in range(ranks)], folder / "store"
        for rank in range(ranks):
            if not (child := os.fork()):
                _join(rank, ranks, store, work, answers[rank])
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert codes == [0] * ranks, "a process failed: see above"
        store.unlink()
        return [json.loads(answer.read_text()) for answer in answers]

    return run


def _join(rank: int, ranks: int, store: Path, work: Callable[[int], Any], answer: Path) -> None:
    """In the child: join the world, work, leave without taking torch apart."""
    import torch
    from accelerate.state import AcceleratorState

    code = 1
    try:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not come along; "true", the command line's, waits for them for ever
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ.update({name: str(number) for name, number in numbers.items()})
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
        answer.write_text(json.dumps(work(rank)))
        torch.distributed.barrier()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """trials(pr, full): how many to draw in the tier that was asked for."""
    return lambda pr, full: full if request.config.getoption("--tier") == "full" else pr


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, str, int, int], None]:
    """tally(id, what, passed, of): a row of the table, of the seconds since the test began or had its last row. It asserts nothing."""
    began = time.monotonic()

    def record(id: str, what: str, passed: int, of: int) -> None:
        nonlocal began
        began, seconds = time.monotonic(), time.monotonic() - began
        request.node.user_properties.append(("tally", {"id": id, "what": what, "trials": of, "passed": passed, "seconds": seconds}))

    return record


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """All rows of the run, those of one id and description as one, on the screen and in the file that was asked for."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    reports = [report for reports in terminalreporter.stats.values() for report in reports if getattr(report, "when", "") == "call"]
    for name, found in (pair for report in reports for pair in report.user_properties):
        if name == "tally":
            row = rows.setdefault((found["id"], found["what"]), {"trials": 0, "passed": 0, "seconds": 0.0})
            for number in row:
                row[number] += found[number]
    if not rows:
        return
    order = sorted(rows, key=lambda key: (key[0][:1], int("".join(filter(str.isdigit, key[0])) or 0), key))
    cells = [("id", "what", "trials", "passed", "seconds")]
    for key in order:
        cells.append((*key, f"{rows[key]['trials']:,}", f"{rows[key]['passed']:,}", f"{rows[key]['seconds']:.0f}"))
    terminalreporter.section("trials")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for id, what, *numbers in cells:
        right = "  ".join(number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True))
        terminalreporter.write_line(f"{id.ljust(widths[0])}  {what.ljust(widths[1])}  {right}")
    if file := config.getoption("--reliability-table"):
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "| --- | --- | ---: | ---: | ---: |")
        Path(file).write_text(_origin(config.getoption("--tier")) + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _origin(tier: str) -> str:
    """When, where and with what: what a table of measurements is worth nothing without."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux has it; elsewhere the kind of processor must do
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "accelerate", "safetensors"))
    return (
        f"{datetime.date.today()}, tier {tier}; {models[0] if models else platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()}; Python {platform.python_version()}, {versions}."
    )


@pytest.fixture(scope="session")
def every_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models with large random weights: pretrained (words), and one for each task; `pairs` is a classifier of pairs."""
    import torch

    from bertlab.model import heads
    from bertlab.model.encoder import EncoderConfig
    from bertlab.model.folder import save_model
    from bertlab.tokens import tokenizer as tokenizers

    sentence = "the old river runs from a stone hill to the sea , and birds sing over its banks in spring ."
    tokenizer = tokenizers.train([sentence] * 4, kind="wordpiece", vocab_size=200, lowercase=True)
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.4,
    )  # fmt: skip
    labels = ["hills", "rivers", "seas"]
    classifier = heads.BertForSequenceClassification(config, 3)
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "words": (heads.BertForPreTraining(config), {}),
        "single": (classifier, {"labels": labels, "facts": {"pairs": False, "text_read": [{"name": "acts.txt", "licence": "CC0-1.0"}]}}),
        "pairs": (classifier, {"labels": labels, "facts": {"pairs": True}}),
        "several": (classifier, {"labels": labels, "problem_type": "multi_label_classification"}),
        "number": (heads.BertForSequenceClassification(config, 1), {"labels": ["LABEL_0"], "problem_type": "regression"}),
        "tags": (heads.BertForTokenClassification(config, 3), {"labels": ["O", "B-x", "I-x"]}),
        "answers": (heads.BertForQuestionAnswering(config), {}),
    }
    root = tmp_path_factory.mktemp("models")
    for name, (model, settings) in models.items():
        save_model(root / name, model, tokenizer, card="# A card\n", **{"facts": {}, **settings})
    return {name: str(root / name) for name in models}


def _stored(path: Path, vectors: Any, texts: Sequence[str], labels: Sequence[Any] | None = None, ids: Sequence[str] | None = None) -> Path:
    """A file of vectors as embed leaves it, its manifest and its texts beside it, without a model."""
    import numpy as np

    from bertlab.disk import hash_some, sha256_file, write_sealed

    np.save(path, np.asarray(vectors, dtype=np.float32))
    names = list(ids or (f"id {row}" for row in range(len(texts))))
    path.with_suffix(".ids.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    said = path.with_suffix(".jsonl")
    rows = [{"id": name, "text": text} for name, text in zip(names, texts, strict=True)]
    rows = [row if labels is None else row | {"label": label} for row, label in zip(rows, labels or rows, strict=True)]
    said.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    origin = {"path": str(said), "text": "text", "sha256": sha256_file(said)}
    facts: dict[str, Any] = {"from": {"model": {"path": "a-model", "files": {"model.safetensors": "00"}}, "input": origin}}
    facts |= {"rows": len(vectors), "dims": len(vectors[0]), "pooling": "mean", "layers": [-1], "normalize": False, "numbers": "float32"}
    facts |= {"precision": "fp32", "files": hash_some(path.parent, [path.name, path.with_suffix(".ids.txt").name])}
    write_sealed(path.with_name(f"{path.name}.manifest.json"), facts)
    return path


@pytest.fixture(scope="session")
def stored_vectors() -> Callable[..., Path]:
    return _stored
