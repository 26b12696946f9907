"""bertlab verify on a whole small walk: a changed byte anywhere is found and named, and so is what was swapped or is another run's."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab import cli
from bertlab.disk import read_json
from bertlab.errors import ConfigError, CorruptError
from bertlab.training import speed
from bertlab.training.chain import follow, kind_of
from bertlab.training.links import Link
from bertlab.verbs import embed, evaluate, export, finetune, prepare, pretrain
from bertlab.verbs.verify import Config, run

WORDS = ["old", "mill", "river", "bridge", "tower", "garden", "harbour", "castle", "market", "chapel"]
SMALL: dict[str, Any] = {
    "preset": "tiny",
    "steps": 2,
    "micro_tokens": 96,
    "max_length": 32,
    "heldout_every": 2,
    "heldout_batches": 1,
    "save_every": 1,
    "device": "cpu",
    "precision": "fp32",
}


def sentences(draw: random.Random, number: int) -> list[str]:
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) + "." for _ in range(number)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus, bert and other (two runs on it), tuned, scores, vectors.npy and vectors.parquet: whole again after every test."""
    root = tmp_path_factory.mktemp("walk")
    draw = random.Random(0)
    (root / "text.txt").write_text("\n\n".join("\n".join(sentences(draw, draw.randint(2, 9))) for _ in range(60)))
    rows = [{"text": text, "label": "ab"["mill" in text]} for text in sentences(draw, 30)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "product_rate", lambda *_: 1e9)
        patch.chdir(root)  # paths as a person types them
        prepare.run(prepare.Config(source=("text.txt",), out="corpus", vocab_size=100))
        for out, seed in (("bert", 0), ("other", 1)):
            pretrain.run(pretrain.Config(corpus="corpus", out=out, seed=seed, **SMALL))
        finetune.run(
            finetune.Config(model="bert/model", train="rows.jsonl", test="rows.jsonl", out="tuned", seeds=1, epochs=1, batch_size=30,
                            baselines=False, device="cpu", precision="fp32")
        )  # fmt: skip
        evaluate.run(evaluate.Config(model="tuned/model", data="rows.jsonl", out="scores", device="cpu"))
        for name in ("vectors.npy", "vectors.parquet"):
            embed.run(embed.Config(model="bert/model", input="rows.jsonl", output=name, device="cpu"))
    torch.set_num_threads(threads)
    return root


@pytest.fixture(autouse=True)
def in_the_walk(walk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(walk)
    yield


def links(*folders: str | Path) -> list[Link]:
    return list(follow([Path(folder) for folder in folders]))


def damage(*folders: str | Path) -> list[str]:
    """The messages of what differs, each one line."""
    messages = [link.message for link in links(*folders) if link.status == "differs"]
    assert all("\n" not in message for message in messages)
    return messages


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """`path` with other content, or without it (None), and then as it was."""
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    yield
    path.write_bytes(before)


@contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """What lies at `one` and at `other`, exchanged, and then as it was."""

    def exchange() -> None:
        kept = one.rename(one.with_name("kept"))
        other.rename(one)
        kept.rename(other)

    exchange()
    yield
    exchange()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


# --- a walk that is whole ---------------------------------------------------------------------------------------------------------------


def test_vectors_of_a_folder_of_texts_are_followed_to_each_of_its_files() -> None:
    Path("texts").mkdir()
    for name in ("a", "b"):
        Path("texts", f"{name}.txt").write_text(f"the mill of {name}\n")
    embed.run(embed.Config(model="bert/model", input="texts", output="of-folder.npy", device="cpu"))
    assert {link.status for link in links("of-folder.npy")} == {"ok"}
    with changed(Path("texts/b.txt"), b"another text\n"):
        assert damage("of-folder.npy") == [
            "texts is not what of-folder.npy was made from (its sha256 differs): put the right one back, or name its folder too "
            "(--folder ONE OTHER)"
        ]
    for path in [*Path("texts").iterdir(), *Path().glob("of-folder*")]:
        path.unlink()
    Path("texts").rmdir()


def test_every_link_of_a_whole_walk_holds_back_to_the_corpus() -> None:
    reached = {
        "corpus": ["corpus", "tokenizer"],
        "bert": ["run", "corpus", "corpus", "tokenizer", "log", *["checkpoint"] * 3, "model", "tokenizer", "model"],
        "bert/model": ["model", "tokenizer", "model", "run", "corpus", "corpus", "tokenizer"],
        "bert/checkpoints/step-00000002": ["checkpoint", "run", "corpus", "corpus", "tokenizer"],
        "vectors.npy": ["embeddings", "input", "model", "model", "tokenizer", "model", "run", "corpus", "corpus", "tokenizer"],
    }
    for folder, names in reached.items():
        found = links(folder)
        assert [link.name for link in found] == names and {link.status for link in found} == {"ok"}, found
    for folder in ("tuned", "tuned/model", "tuned/predictions.parquet", "scores", "scores/predictions.parquet", "vectors.parquet"):
        found = links(folder)
        assert {link.status for link in found} == {"ok"}, found
        assert [link.message.split(":")[0] for link in found if link.name == "corpus"] == ["corpus", "corpus"]
    assert [link.name for link in links("scores")].count("run") == 2  # fine-tuning, and pretraining before it
    together = links("corpus", "bert", "tuned", "scores")
    assert sum(link.message.startswith("corpus: 8 files") for link in together) == 1  # read once


def test_the_verb_prints_a_line_a_link_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run(Config(folder=("scores",), json=str(tmp_path / "links.json")))
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(facts) and all(line.startswith("ok       ") for line in lines)
    assert last == f"{len(facts)} links hold"
    assert read_json(tmp_path / "links.json") == facts and set(facts[0]) == {"status", "name", "message"}


@pytest.mark.parametrize("folder", ["bert/model", "bert", "corpus"])
def test_a_folder_is_known_when_it_is_where_one_stands(folder: str, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [link.status for link in links(folder)]
    monkeypatch.chdir(walk / folder)
    found = links(".")
    assert len(found) == len(here) and found[0].status == "ok"
    assert not [link for link in found if link.status == "differs"]


# --- damage -----------------------------------------------------------------------------------------------------------------------------

BOUND: dict[str, list[str]] = {  # what is verified, and the folders or files whose every file is damaged
    "corpus": ["corpus"],
    "bert": ["bert/config.yaml", "bert/inputs.json", "bert/metrics.jsonl", "bert/best", "bert/checkpoints"],
    "bert/model": ["bert/model"],
    "bert/checkpoints/step-00000001": ["bert/checkpoints/step-00000001"],
    "tuned": ["tuned"],
    "scores": ["scores", "tuned/model", "rows.jsonl"],
    "vectors.npy": ["vectors.npy", "vectors.ids.txt", "vectors.npy.manifest.json", "bert/model/model.safetensors"],
    "vectors.parquet": ["vectors.parquet", "vectors.parquet.manifest.json"],
}


@pytest.mark.parametrize("verified", BOUND)
def test_a_flipped_byte_a_truncation_and_a_deletion_are_found_in_every_file(verified: str) -> None:
    places = [Path(place) for place in BOUND[verified]]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    files = [file for file in files if file.is_file() and file.name not in (".lock", "report.html")]  # a page is drawn, never read
    assert len(files) >= 2
    for file in files:
        whole = file.read_bytes()
        flips = [flipped(whole, place) for place in {0, len(whole) // 3, 2 * len(whole) // 3, len(whole) - 1}]
        for number, content in enumerate([*flips, whole[:-1], whole[: len(whole) // 2], b"", whole + b"\n", None]):
            if content is None and file.name in (verified, "rows.jsonl"):
                continue  # nothing is left to verify; a file of the user's that is gone has moved
            with changed(file, content):
                found = damage(verified)
            assert found and any(file.name in message for message in found), (file, number, found)
    assert damage(verified) == []


def test_every_byte_of_a_manifest_counts() -> None:
    for manifest in (Path("corpus/manifest.json"), Path("bert/inputs.json"), Path("vectors.npy.manifest.json")):
        whole = manifest.read_bytes()
        folder = manifest.parent if manifest.name != "vectors.npy.manifest.json" else Path("vectors.npy")
        for place in range(0, len(whole), max(1, len(whole) // 40)):
            with changed(manifest, flipped(whole, place)):
                assert any(manifest.name in message for message in damage(folder)), place


def test_a_file_that_nobody_wrote_is_damage_to_a_corpus_and_a_checkpoint() -> None:
    for folder, name in (("corpus", "train/data-00001-of-00002.arrow"), ("bert/checkpoints/step-00000002", "rng.pkl")):
        extra = Path(folder) / name
        extra.write_bytes(b"x")
        (message,) = damage(folder)
        extra.unlink()
        assert f"{extra} is none of the files that were written: move it away" in message


def test_all_damage_is_printed_and_the_first_is_the_error(walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = Path("corpus/train/state.json"), Path("corpus/tokenizer/tokenizer.json")
    with changed(one, b"{}"), changed(other, b"{}"):
        assert cli.main(["verify", "--folder", "bert", "corpus"]) == 4
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.startswith("differs")]
    assert len(lines) == 2 and str(one) in lines[1] and str(other) in lines[0]
    assert captured.err.startswith(f"bertlab: {other} is not the file") and captured.err.count("\n") == 1
    assert cli.main(["verify", "--folder", "bert", "corpus"]) == 0


def test_what_a_run_made_is_said_to_be_made_anew_by_its_own_command(tmp_path: Path) -> None:
    for run_folder, model, file in (("bert", "bert", "bert/model/tokenizer.json"), ("tuned", "tuned/model", "tuned/predictions.parquet")):
        with changed(Path(file), b"{}"):
            (message,) = (each for each in damage(model) if file in each and "copy the" in each)
            verb = {"bert": "pretrain", "tuned": "finetune"}[run_folder]
            assert message.endswith(f"(bertlab {verb} --config {run_folder}/config.yaml --out ANOTHER makes it anew)")
        words = message.rpartition("(bertlab ")[2].removesuffix(" makes it anew)").split()
        out = tmp_path / run_folder
        assert cli.main([str(out) if word == "ANOTHER" else word for word in words]) == 0
        for name in ("model/model.safetensors", file.partition("/")[2]):
            assert (out / name).read_bytes() == Path(run_folder, name).read_bytes()
    with changed(Path("bert/model/tokenizer.json"), b"{}"), changed(Path("bert/config.yaml"), b"# bertlab pretrain, version 0\n"):
        assert not any("anew" in message for message in damage("bert")), "settings that are not the run's make another"
    with changed(Path("scores/metrics.json"), b"{}"):
        assert not any("anew" in message for message in damage("scores")), "it does not record its command"


# --- the wrong thing, whole -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verified", "one", "other", "message"),
    [
        ("bert/model", "bert/model/model.safetensors", "other/model/model.safetensors", "bert/model/model.safetensors is not the file"),
        ("bert", "bert/model", "other/model", "bert/model is another run's model"),
        ("bert/model", "bert/model", "other/model", "bert/model is another run's model"),
        ("vectors.npy", "bert/model", "other/model", "bert/model is not what vectors.npy was made from"),
        ("vectors.parquet", "vectors.parquet", "scores/predictions.parquet", "vectors.parquet is not the file that was written"),
        ("tuned", "bert/model", "other/model", "bert/model is not what tuned was made from"),
        ("scores", "tuned/model/tokenizer.json", "tuned/model/config.json", "tuned/model is not what scores was made from"),
        ("bert", "bert/checkpoints/step-00000002", "other/checkpoints/step-00000002", "step-00000002 is not of the run bert"),
        ("bert", "bert/best", "other/best", "is not of the run bert"),
        ("bert", "bert/checkpoints/step-00000001", "bert/checkpoints/step-00000002", "is the checkpoint of step 2, by its manifest"),
        ("bert", "bert/inputs.json", "other/inputs.json", "bert/config.yaml is not the file that the run was started with"),
        ("bert", "bert/metrics.jsonl", "other/metrics.jsonl", "bert/metrics.jsonl is not the file that bert/model was made with"),
        ("tuned", "tuned/metrics.json", "scores/metrics.json", "tuned/metrics.json is not the file that tuned/model was made with"),
        ("corpus", "corpus/train", "corpus/heldout", "is not the file that was written"),
    ],
)
def test_another_valid_one_in_its_place_is_found(verified: str, one: str, other: str, message: str) -> None:
    with swapped(Path(one), Path(other)):
        found = damage(verified)
    assert any(message in text for text in found), found
    assert damage(verified) == []


def test_a_corpus_prepared_anew_in_the_place_of_the_one_trained_on_is_found(tmp_path: Path) -> None:
    prepare.run(prepare.Config(source=("text.txt",), out=str(tmp_path / "corpus"), vocab_size=100, heldout=0.3))
    with swapped(Path("corpus"), tmp_path / "corpus"):
        assert damage("corpus") == []  # whole, but another
        (message,) = damage("bert/model")
        assert "corpus is not what bert was made from" in message and "--folder" in message
        assert damage("bert/model", tmp_path / "corpus") == []  # the right one is among those named


def test_a_tokenizer_that_is_not_the_corpuss_is_found_even_under_a_manifest_of_its_own(tmp_path: Path) -> None:
    from bertlab.tokens.corpus import write_manifest

    folder = tmp_path / "forged"
    shutil.copytree("corpus", folder)
    rules = (folder / "tokenizer" / "tokenizer.json").read_text()
    (folder / "tokenizer" / "tokenizer.json").write_text(rules.replace('"mill"', '"mull"'))
    facts = {name: value for name, value in read_json(folder / "manifest.json").items() if name not in ("files", "schema", "seal")}
    write_manifest(folder, facts)
    (message,) = damage(folder)
    assert "forged/tokenizer holds another tokenizer than" in message


# --- what is not here -------------------------------------------------------------------------------------------------------------------


def test_a_link_to_what_has_moved_is_said_and_an_error_only_when_strict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    moved = Path("corpus").rename(tmp_path / "elsewhere")
    try:
        found = links("bert/model")
        assert [link.message for link in found if link.status == "absent"] == [
            "corpus is not there, so that bert is followed no further: name its new place too (--folder)"
        ]
        assert cli.main(["verify", "--folder", "bert/model"]) == 0
        assert "4 links hold, 1 lead to what is not here" in capsys.readouterr().out
        assert cli.main(["verify", "--folder", "bert/model", "--strict"]) == 4
        assert capsys.readouterr().err.startswith("bertlab: corpus is not there")
        assert {link.status for link in links("bert/model", moved)} == {"ok"}
    finally:
        moved.rename("corpus")


def test_a_walk_that_was_copied_whole_is_found_beside_itself(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(walk, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    for folder in ("bert/model", "tuned", "scores", "vectors.parquet"):
        found = links(f"copy/{folder}")
        assert {link.status for link in found} == {"ok"}, found
        assert any(link.message.startswith("copy/corpus: 8 files") for link in found)


def test_a_model_and_a_checkpoint_that_travel_alone_say_what_is_absent(tmp_path: Path) -> None:
    for kind, folder in (("model", "bert/model"), ("checkpoint", "bert/checkpoints/step-00000002")):
        copy = tmp_path / Path(folder).name
        shutil.copytree(folder, copy)
        found = links(copy)
        assert found[0].status == "ok" and found[0].name == kind and [link.status for link in found].count("absent") == 1
    found = links(tmp_path / "model", "bert")
    assert {link.status for link in found} == {"ok"}


def test_an_unfinished_run_is_whole_so_far(tmp_path: Path) -> None:
    shutil.copytree("bert", tmp_path / "bert", ignore=shutil.ignore_patterns("model", "best"))
    shutil.copytree("corpus", tmp_path / "corpus")
    log = tmp_path / "bert" / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 3, "bat')
    found = links(tmp_path / "bert")
    assert [link.message for link in found if link.status != "ok"] == [
        f"{tmp_path / 'bert'}: not finished, there is no result yet: its command goes on with it"
    ]
    log.write_bytes(b"\x00\x00\n" + log.read_bytes())
    (message,) = damage(tmp_path / "bert")
    assert "metrics.jsonl:1 is no record" in message


def test_a_published_model_is_said_to_be_bound_by_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree("bert/model", folder, ignore=shutil.ignore_patterns("bertlab.json", "manifest.json"))
    (link,) = links(folder)
    assert link.status == "absent" and "is a published model" in link.message


def test_an_encoder_that_was_exported_is_followed_to_the_model_and_its_run(tmp_path: Path) -> None:
    export.run(export.Config(model="tuned/model", to="sentence-transformers", pooling="mean", out=str(tmp_path / "vectors")))
    found = links(tmp_path / "vectors")
    assert {link.status for link in found} == {"ok"}
    assert {"model", "run", "train file", "corpus"} <= {link.name for link in found}
    with changed(Path("tuned/model/model.safetensors"), b"another"):
        assert any("tuned/model" in message for message in damage(tmp_path / "vectors"))


def test_a_folder_of_what_was_written_names_it(walk: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"is nothing that bertlab wrote, but in it is what it wrote: bertlab verify .*/bert .*/corpus .*/other \.\.\."
    ):
        links(walk)
    (tmp_path / "own notes").mkdir()
    shutil.copytree(walk / "corpus", tmp_path / "a corpus")
    with pytest.raises(ConfigError, match=rf"bertlab verify '{tmp_path}/a corpus'$"):
        links(tmp_path)


def test_what_is_none_of_ours_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for folder in (tmp_path, tmp_path / "nothing", tmp_path / "thesis.txt"):
        assert cli.main(["verify", "--folder", "corpus", str(folder)]) == 2
        captured = capsys.readouterr()
        assert "nothing there that bertlab wrote" in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    with pytest.raises(ConfigError):
        Config(folder=())
    with pytest.raises(ConfigError):
        Config(folder=("corpus", ""))


def test_names_in_a_hostile_folder_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus\x1b[2J\u202e"
    shutil.copytree("corpus", folder)
    (folder / "train" / "state\nok  all is well.json").write_text("")
    with pytest.raises(CorruptError):
        run(Config(folder=(str(folder),)))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\nok  all" not in shown


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("corpus", "corpus"), ("run", "bert"), ("run", "tuned"), ("model", "bert/model"), ("checkpoint", "bert/checkpoints/step-00000002")]
    + [("predictions", "scores"), ("predictions", "tuned/predictions.parquet"), ("embeddings", "vectors.npy")],
)
def test_each_kind_is_known_by_any_of_its_files(kind: str, folder: str, tmp_path: Path) -> None:
    path = Path(folder)
    assert kind_of(path) == kind
    if kind in ("model", "checkpoint"):
        for file in path.iterdir():
            copy = tmp_path / file.name
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns(file.name))
            assert kind_of(copy) == kind
