"""bertlab export: ONNX files with the numbers of the flat encoder, a check that can fail, what 8 bits lose, a folder that runs by its own
README, is bound, or is not there at all.

An export takes seconds: three are made, and shared.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

import bertlab
from bertlab import exporting
from bertlab.disk import MANIFEST, bound_entries, read_sealed, verify_files
from bertlab.errors import ConfigError
from bertlab.exporting import Exported, InPlaceOf, checked, lost
from bertlab.inference import LoadedModel
from bertlab.training.chain import follow
from bertlab.verbs.export import Config, run

TEXTS = ["the old river", "a", "birds sing over its banks in spring , and the river runs to the sea", "", "stone hill"]
ROWS = [("the old river", "rivers"), ("a stone hill", "hills"), ("runs to the sea", "seas"), ("birds sing", "rivers")]


@pytest.fixture(scope="module")
def models(every_model: dict[str, str]) -> dict[str, LoadedModel]:
    return {name: bertlab.load(every_model[name], "cpu") for name in ("words", "single", "tags")}


@pytest.fixture(scope="module")
def folders(every_model: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the verb writes of three models: vectors in 8 bits too, a classifier in 8 bits measured on labelled rows, a tagger."""
    root = tmp_path_factory.mktemp("exported")
    (root / "rows.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    out = {name: root / "deep" / name for name in ("words", "single", "tags")}
    run(Config(model=every_model["words"], out=str(out["words"]), pooling="weighted", normalize=True, quantise=True))
    run(Config(model=every_model["single"], out=str(out["single"]), quantise=True, data=str(root / "rows.jsonl")))
    run(Config(model=every_model["tags"], out=str(out["tags"])))
    return out


def facts_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bertlab.json").read_text())
    return found


def of(model: LoadedModel) -> Exported:
    return Exported(model) if model.task else Exported(model, "weighted", True)


# ---- the numbers


def test_sentence_vectors_are_those_of_embed_pooled_and_scaled_inside(models: Any, folders: Any) -> None:
    session, examples = InPlaceOf(folders["words"] / "model.onnx"), models["words"].encode(TEXTS)
    found = session(**examples.batch(np.arange(len(TEXTS))).encoder_inputs()).numpy()
    np.testing.assert_allclose(found, models["words"].embed(TEXTS, "weighted", True), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert session.names == ["sentence_embedding"]


@pytest.mark.parametrize("name", ["single", "tags"])
def test_a_task_runs_on_the_file_as_on_the_model(name: str, models: Any, folders: Any) -> None:
    model, session = models[name], InPlaceOf(folders[name] / "model.onnx")
    examples = model.task.encode(model.tokenizer, model.task.ask(TEXTS, None), None, model.known, max_length=24, long=model.long)
    ours, theirs = (model.task.run(each, examples, model.known, device=torch.device("cpu")) for each in (model.model, session))
    for first, second in zip(model.task.answers(ours, model.known), model.task.answers(theirs, model.known), strict=True):
        said = [[getattr(each, field, None) for field in ("label", "tags")] for each in (first, second)]
        assert said[0] == said[1]
    if name == "single":
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("name", ["words", "single", "tags"])
def test_the_check_is_made_of_all_outputs_and_said(name: str, models: Any, folders: Any) -> None:
    check = facts_in(folders[name])["check"]
    assert 0 <= check["largest_difference"] < 1e-4 == check["tolerance"] and check["sequences"] == 21
    assert checked(of(models[name]), folders[name] / "model.onnx") == check, "drawn the same again"
    assert facts_in(folders[name])["outputs"] == InPlaceOf(folders[name] / "model.onnx").names == list(of(models[name]).names)


def test_the_check_sees_other_weights(models: Any, folders: Any) -> None:
    model = bertlab.load(models["words"].folder, "cpu")
    with torch.no_grad():
        model.encoder.embeddings.LayerNorm.bias.add_(0.01)
    with pytest.raises(ConfigError, match=r"differ from torch's by up to .*nothing is written"):
        checked(of(model), folders["words"] / "model.onnx")


def test_the_check_sees_another_pooling_and_a_length_that_is_not_1(models: Any, folders: Any) -> None:
    for exported in (Exported(models["words"], "cls", True), Exported(models["words"], "weighted", False)):
        with pytest.raises(ConfigError, match="differ from torch's"):
            checked(exported, folders["words"] / "model.onnx")


# ---- 8 bits


def test_what_8_bits_lose_is_measured_and_not_nothing(models: Any, folders: Any) -> None:
    found = facts_in(folders["words"])["quantised"]
    assert found["examples"] == 200 and 0.9 < found["lowest_cosine"] < found["mean_cosine"] < 1
    whole = folders["words"] / "model.onnx"
    assert lost(of(models["words"]), whole, whole, models["words"].encode(TEXTS))["lowest_cosine"] == pytest.approx(1)


def test_with_labels_the_scores_of_both_are_told(models: Any, folders: Any) -> None:
    found, model = facts_in(folders["single"])["quantised"], models["single"]
    right = [each.label == label for each, (_, label) in zip(model.predict([text for text, _ in ROWS]), ROWS, strict=True)]
    assert found["scores"]["accuracy"][0] == pytest.approx(np.mean(right)) and found["measured_on"] == "rows.jsonl"
    assert 0 < found["mean_difference"] < 0.2 and 0 <= found["same"] <= 1 and found["examples"] == 4


# ---- the folder


def by_its_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The outputs of the README's own lines, run in the folder."""
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code) == 1
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code[0], names)
    found: list[np.ndarray] = names["outputs"]
    return found


def test_the_readmes_lines_give_the_numbers_of_embed_and_of_predict(models: Any, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a text", "another, longer text"]
    (vectors,) = by_its_readme(folders["words"], monkeypatch)
    np.testing.assert_allclose(vectors, models["words"].embed(texts, "weighted", True), atol=1e-5)
    _, probabilities = by_its_readme(folders["single"], monkeypatch)
    np.testing.assert_allclose(probabilities, [list(each.probabilities.values()) for each in models["single"].predict(texts)], atol=1e-5)
    assert facts_in(folders["single"])["labels"] == ["hills", "rivers", "seas"]


def test_the_text_that_the_weights_have_read_is_told_on(folders: Any) -> None:
    assert (
        facts_in(folders["single"])["text_read"] == [{"name": "acts.txt", "licence": "CC0-1.0"}]
        and not facts_in(folders["tags"])["text_read"]
    )
    assert (folders["single"] / "README.md").read_text().endswith("## Text of the pretraining\n\n- acts.txt (CC0-1.0)\n")


def test_all_files_are_bound_and_followed_to_the_model(folders: Any) -> None:
    names = {"model.onnx", "tokenizer.json", "tokenizer_config.json", "config.json", "bertlab.json", "README.md", MANIFEST}
    assert {path.name for path in folders["words"].iterdir()} == names | {"model_int8.onnx"}
    assert {path.name for path in folders["tags"].iterdir()} == names
    verify_files(folders["words"], bound_entries(read_sealed(folders["words"] / MANIFEST), folders["words"]))
    links = list(follow([folders["words"]]))
    assert [link.status for link in links if link.name == "export"] == ["ok"]
    assert {link.status for link in links if link.name == "model"} >= {"ok"}


def test_a_flipped_bit_in_an_export_is_seen(folders: Any, tmp_path: Path) -> None:
    shutil.copytree(folders["tags"], tmp_path / "onnx")
    data = bytearray((tmp_path / "onnx" / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "onnx" / "model.onnx").write_bytes(data)
    assert "differs" in {link.status for link in follow([tmp_path / "onnx"]) if link.name == "export"}


def test_a_file_holds_no_place_of_this_machine(folders: Any) -> None:
    for data in ((folders["words"] / name).read_bytes() for name in ("model.onnx", "model_int8.onnx")):
        for place in (str(Path(bertlab.__file__).parents[1]), str(Path(nn.__file__).parents[2]), "opened.py", "site-packages"):
            assert place.encode() not in data


def test_where_the_check_fails_nothing_is_written(
    every_model: dict[str, str], folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "write_onnx", lambda exported, path: shutil.copy(folders["words"] / "model.onnx", path))
    with pytest.raises(ConfigError, match="differ from torch's by up to"):
        run(Config(model=every_model["words"], out=str(tmp_path / "onnx"), pooling="cls", normalize=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pooling, normalize", [("weighted", True), ("last", False), (None, None)])
def test_the_encoder_alone_opens_in_sentence_transformers_with_the_same_vectors(
    pooling: Any, normalize: Any, every_model: dict[str, str], models: Any, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    out = str(tmp_path / "vectors")
    run(Config(model=every_model["single"], out=out, to="sentence-transformers", pooling=pooling, normalize=normalize))
    wanted = models["single"].embed(TEXTS, pooling, normalize)
    np.testing.assert_allclose(bertlab.load(out, "cpu").embed(TEXTS), wanted, atol=1e-6)
    np.testing.assert_allclose(SentenceTransformer(out, device="cpu", local_files_only=True).encode(TEXTS), wanted, atol=1e-5)
    assert {link.status for link in follow([Path(out)])} <= {"ok", "absent"}


@pytest.mark.parametrize("name", ["words", "single", "tags", "answers"])
def test_to_transformers_says_the_class_that_opens_the_folder_whole(
    name: str, every_model: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    with pytest.raises(ConfigError, match="opens in transformers as it is, nothing is to be exported") as refused:
        run(Config(model=every_model[name], out=str(tmp_path / "out"), to="transformers"))
    assert run(Config(model=every_model[name], to="transformers")) == {} and capsys.readouterr().out == f"{refused.value}\n"
    kind, folder = re.findall(r"(\w+)\.from_pretrained\('(.+?)'\), or its encoder alone by AutoModel", str(refused.value))[0]
    _, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    _, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert report["unexpected_keys"] and all(key.startswith("pooler.") for key in report["missing_keys"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="is it a model folder"):
        run(Config(model=str(tmp_path), out=str(tmp_path / "out"), to="transformers"))


def test_mistakes_are_said_before_the_work(every_model: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--to onnx writes a folder: give --out DIR"):
        Config(model="a")
    with pytest.raises(ConfigError, match="quantise is for --to onnx"):
        Config(model="a", out="b", to="sentence-transformers", quantise=True)
    with pytest.raises(ConfigError, match="data is for measuring"):
        Config(model="a", out="b", data="c")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("a")
    with pytest.raises(ConfigError, match="already exists"):
        run(Config(model=every_model["words"], out=str(tmp_path / "used")))
    with pytest.raises(ConfigError, match="give --pooling too"):
        run(Config(model=every_model["single"], out=str(tmp_path / "onnx"), normalize=True))
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(
        ConfigError, match=r"onnxscript, which is not installed: pip install -c constraints.txt -e '.\[onnx\]' in bertlab's checkout"
    ):
        run(Config(model=every_model["words"], out=str(tmp_path / "onnx")))
    assert not (tmp_path / "onnx").exists()
