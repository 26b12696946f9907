"""Embedding by datatrove's tasks: the bytes of one process, whatever is killed or broken on the way."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus.cluster import Cluster
from bertlab.corpus.sources import File
from bertlab.embedding import job as jobs
from bertlab.embedding.cluster import Embedding
from bertlab.embedding.engine import What, open_embedder
from bertlab.embedding.job import Kept, Texts
from bertlab.errors import ConfigError, DataError
from bertlab.model.facts import model_origin
from bertlab.verbs import embed

pytest.importorskip("datatrove", reason="bertlab[cluster] is not installed")

WHAT, KEPT = What(pooling="mean", layers=(2,)), Kept()


@pytest.fixture
def here(tmp_path: Path, folder: str, texts_of: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with texts and a model, named from there."""
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts_of(45)))
    shutil.copytree(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def step_of(here: Path) -> Embedding:
    source = Texts(files=(File(Path("texts.jsonl"), "texts.jsonl"),), part=10)
    job = jobs.job_sha256(open_embedder("model", "cpu"), model_origin("model")["files"], WHAT, KEPT)
    (here / "parts").mkdir(exist_ok=True)
    planned = jobs.plan(source, job)
    return Embedding(planned, here / "parts", source, job, WHAT, KEPT, model="model", device="cpu", precision="fp32")


def test_tasks_share_the_parts_and_stand_where_the_command_was_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, left = step_of(here), []
    (here / "elsewhere").mkdir()
    for rank in range(3):
        os.chdir(here / "elsewhere")
        step(None, rank, 3)
        left.append(len(step.missing()))
    assert left == [3, 1, 0]  # parts 0 3, then 1 4, then 2
    assert len(repr(step)) < len(str(here)) + 60 and step.shown(step.units[4]).endswith(" of 5 texts")


def test_what_a_user_can_mend_is_noted_for_the_command(here: Path) -> None:
    from bertlab.corpus import cluster as clusters

    step = step_of(here)
    lines = (here / "texts.jsonl").read_text().splitlines(keepends=True)
    (here / "texts.jsonl").write_text("".join([*lines[:40], '{"other": 1}\n', *lines[41:]]))
    step(None, 0, 1)
    with pytest.raises(DataError, match=r"texts\.jsonl:41: this row has no 'text'"):
        clusters._fail(step.only(step.missing()))
    (here / "texts.jsonl").write_text("".join(lines))
    step.job = "of another version"
    step(None, 0, 1)
    with pytest.raises(ConfigError, match="another bertlab, torch, device or model"):
        clusters._fail(step.only(step.missing()))


def test_a_local_cluster_writes_the_bytes_of_one_process(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {"model": "model", "input": "texts.jsonl", "part": 10, "device": "cpu"}
    embed.run(embed.Config(output="one.parquet", **given))
    capfd.readouterr()
    embed.run(embed.Config(output="two.parquet", cluster=Cluster(engine="local", tasks=3, workers=2), **given))
    said = capfd.readouterr()
    assert "45 vectors of 16 numbers" in said.out and "datatrove" not in said.out + said.err
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes() and not list(here.glob(".*"))
