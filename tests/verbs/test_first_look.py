"""What a user did wrong is told before torch is imported, which takes seconds: here importing it is the mistake that nobody may make."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.disk import MANIFEST, hash_some, sha256_file, write_sealed

ROOT = Path(__file__).parents[2]

# Run every line of argv[1] as the command line would; what it printed, and its exit code, as JSON.
PROGRAM = """
import contextlib, io, json, sys
from bertlab.cli import main
answers = []
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            code = main(line)
    except ImportError as error:
        code = str(error)
    answers.append((code, said.getvalue()))
print(json.dumps(answers))
"""
NO_MODEL = "model folder? (did you mean the folder `model` inside it?)"
IS_FILE = "good.csv is a file, and --out is a folder: choose another --out"
FOREIGN = "foreign has content that is no run of ours (letter.txt): choose another --out"
OTHER = "is the run folder of another verb or version"
ANSWERS = "bertlab predict wrote it (said.csv.manifest.json), its labels are a model's answers: give labels that a person gave"

CASES: list[tuple[str, int, str]] = [
    *(
        (f"{verb} {wrong}", code, said)
        for verb in ("finetune", "tune", "crossval")
        for wrong, code, said in [
            ("--train good.csv --out new --model run", 2, NO_MODEL),
            ("--model words --out new --train odd.csv", 3, "the columns are 'text', 'topic': name the right one with --label"),
            ("--model words --train good.csv --out new --text body", 3, "the columns are 'text', 'label': name the right one with --text"),
            ("--model words --out new --train odd.csv --label no", 3, "no column 'no'"),
            ("--model words --out new --task tokens --train one.jsonl", 3, "no column 'tokens'"),
            ("--model words --out new --task answers --train one.jsonl", 3, "no column 'question'"),
            ("--model words --out new --train folder", 2, "folder is a folder"),
            ("--model words --out empty --train nothing.csv", 2, "nothing.csv does not exist"),
            ("--model words --train good.csv --out new --freeze 3", 2, "freeze=3: the model has 2 layers"),
            ("--model words --train good.csv --out good.csv", 2, IS_FILE),
            ("--model words --train good.csv --out good.csv/new", 2, "good.csv/new cannot be made: "),
            ("--model words --train good.csv --out foreign", 2, FOREIGN),
            ("--model words --train good.csv --out run", 2, OTHER),
            ("--model words --train good.csv --out new --epochs 0", 2, "epochs=0: give 1 or more"),
            ("--model words --train said.csv --out new", 3, ANSWERS),
            ("--model words --train tagged.jsonl --out new", 3, "bertlab predict wrote it (tagged.jsonl.manifest.json)"),
        ]
        if not (verb == "tune" and "--epochs" in wrong)  # a search has no such setting
    ),
    ("finetune --model words --train good.csv --test odd.csv --out new", 3, "odd.csv:1: no column 'label'"),
    ("tune --model words --train good.csv --dev odd.csv --out new", 3, "odd.csv:1: no column 'label'"),
    ("finetune --model words --train good.csv --test said.csv --out new", 3, ANSWERS),
    ("tune --model words --train good.csv --dev said.csv --out new", 3, ANSWERS),
    ("multitask --model words --tasks a.yaml said.yaml --out new", 3, ANSWERS),
    ("finetune --model words --train odd.csv --out new --processes 2", 3, "name the right one with --label"),
    ("fill --model run --text [MASK]", 2, NO_MODEL),
    ("fill --model words --text river", 3, "no [MASK] in the text 'river': write [MASK] where a word is to be filled in"),
    ("fill --model words --input texts.txt", 3, "texts.txt:1: no [MASK] in the text"),
    ("multitask --model run --tasks a.yaml b.yaml --out new", 2, NO_MODEL),
    ("multitask --model words --tasks a.yaml b.yaml --out new", 3, "task b: odd.csv:1: no column 'label'"),
    ("multitask --model words --tasks a.yaml b.yaml --out foreign", 2, FOREIGN),
    ("multitask --model words --tasks a.yaml odd.csv --out new", 2, "odd.csv"),
    ("pretrain --corpus folder --out new", 2, "no manifest.json there: is it a folder that `bertlab prepare` wrote?"),
    ("pretrain --corpus corpus --model run --out new", 2, NO_MODEL),
    ("pretrain --corpus corpus --out foreign", 2, FOREIGN),
    ("pretrain --corpus corpus --out good.csv", 2, IS_FILE),
    ("pretrain --corpus corpus --out new --mask-rate 2", 2, "mask_rate=2.0 is a share"),
    ("contrast --model run --train good.csv --out new", 2, NO_MODEL),
    ("contrast --model words --train good.csv --text body --out new", 3, "no column 'body'"),
    ("contrast --model words --train good.csv --kind triplets --out new", 3, "no column 'text_b'"),
    ("contrast --model words --train good.csv --test odd.csv --out new", 3, "odd.csv:1: no column 'label'"),
    ("contrast --model words --train good.csv --dev-pairs good.csv --out new", 3, "no column 'text_b'"),
    ("contrast --model words --corpus folder --out new", 2, "no manifest.json there"),
    ("contrast --model words --train good.csv --dims 999 --out new", 2, "dims=999: this model's vectors have 1 to 16 numbers"),
    ("contrast --model words --train good.csv --out foreign", 2, FOREIGN),
    ("embed --model run --input good.csv --output new.parquet", 2, NO_MODEL),
    ("embed --model words --input good.csv --text body --output new.parquet", 3, "no column 'body'"),
    ("embed --model words --input mixed --output new.parquet", 3, "no column 'text'"),
    ("embed --model words --input good.csv --output theirs.parquet", 2, "was not written by bertlab"),
    ("embed --model words --input theirs.parquet --output theirs.parquet", 2, "theirs.parquet is the input"),
    ("embed --model words --input good.csv --output good.csv/new.parquet", 2, "cannot be made"),
    ("embed --model words --input good.csv --dev-pairs good.csv --output new.parquet", 3, "no column 'text_b'"),
    ("predict --model words --input good.csv --output new.csv", 2, "has no classifier: fine-tune it first"),
    ("predict --model run --input good.csv --output new.csv", 2, NO_MODEL),
    ("predict --model single --input good.csv --text body --output new.csv", 3, "no column 'body'"),
    ("predict --model single --input good.csv --id key --output new.csv", 3, "no column 'key'"),
    ("predict --model answers --input one.jsonl --output new.jsonl", 3, "no column 'question'"),
    ("predict --model single --input good.csv --output theirs.csv", 2, "was not written by bertlab"),
    ("evaluate --model words --data good.csv --out new", 2, "has no classifier: fine-tune it first"),
    ("evaluate --model single --data odd.csv --out new", 3, "no column 'label'"),
    ("evaluate --model single --data good.csv --train odd.csv --out new", 3, "odd.csv:1: no column 'label'"),
    ("evaluate --model single --data said.csv --out new", 3, ANSWERS),
    ("evaluate --model single --data good.csv --train said.csv --out new", 3, ANSWERS),
    ("evaluate --model tags --data tagged.jsonl --text text --out new", 3, "bertlab predict wrote it"),
    ("evaluate --task clustering --model words --data said.csv --out new", 3, ANSWERS),
    ("evaluate --model single --data good.csv --out run", 2, "run is a run folder, with metrics of its own"),
    ("evaluate --model single --data good.csv --out good.csv", 2, IS_FILE),
    ("evaluate --task clustering --model run --data good.csv --out new", 2, NO_MODEL),
    ("evaluate --task clustering --model words --data odd.csv --out new", 3, "no column 'label'"),
    ("evaluate --task probe --model words --data good.csv --train odd.csv --out new", 3, "no column 'label'"),
    ("evaluate --task retrieval --model words --data good.csv --text-b other --out new", 3, "no column 'other'"),
    ("prompt --model run --data good.csv --template [MASK]{text} --out new", 2, NO_MODEL),
    ("prompt --model words --data good.csv --text body --template [MASK]{text} --out new", 3, "no column 'body'"),
    ("prompt --model words --data odd.csv --template [MASK]{text} --out new", 2, "has no column 'label' of labels"),
    ("prompt --model words --data good.csv --train odd.csv --template [MASK]{text} --out new", 3, "odd.csv:1: no column 'label'"),
    ("prompt --model words --data good.csv --template [MASK]{text} --out run", 2, "run is a run folder"),
    ("search nothing.parquet river", 2, "nothing.parquet: no such file or folder"),
    ("search folder river", 2, "folder is a folder: give a file that bertlab embed wrote"),
    ("search good.csv river", 2, "no good.csv.manifest.json beside it"),
    ("search said.csv river", 2, "said.csv holds answers of bertlab predict, no vectors"),
    ("search vectors.npy --input mixed/2.csv", 3, "no column 'text'"),
    ("search vectors.npy river --model words", 2, "words is not the model that made vectors.npy"),
    ("report nothing", 2, "nothing: no run there"),
    ("report folder", 2, "folder: no run there"),
    ("report corpus", 2, "corpus: no run there"),
    ("report good.csv", 2, "no good.csv.manifest.json beside it"),
    ("report said.csv", 2, "said.csv holds answers of bertlab predict, no vectors"),
    ("report run", 2, "run: this run is not finished"),
    ("report run --texts good.csv", 2, "texts=good.csv: a run is shown without"),
    ("report run good.csv --out page.html", 2, "good.csv: vectors have a page of their own"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, every_model: dict[str, str]) -> Path:
    """A folder of models, of a corpus, of files that are right and wrong, and of the stub of torch."""
    from bertlab.verbs import prepare

    root = tmp_path_factory.mktemp("first-look")
    for name, model in every_model.items():
        (root / name).symlink_to(model)
    (root / "good.csv").write_text("text,label\na river,rivers\na hill,hills\n")
    (root / "odd.csv").write_text("text,topic\na river,rivers\na hill,hills\n")
    (root / "one.jsonl").write_text('{"text": "a river", "label": "rivers"}\n')
    (root / "said.csv").write_text("text,label,probability\na river,rivers,0.9\na hill,hills,0.8\n")
    (root / "tagged.jsonl").write_text('{"text": "a river", "tokens": ["a", "river"], "tags": ["O", "B-x"]}\n')
    for name in ("said.csv", "tagged.jsonl"):
        write_sealed(root / f"{name}.{MANIFEST}", {"task": "of a kind", "given": {}})  # as predict does, which needs torch
    for name, file in (("a", "good.csv"), ("b", "odd.csv"), ("said", "said.csv")):
        (root / f"{name}.yaml").write_text(f"train: {file}\n")
    for name in ("empty", "folder", "foreign", "mixed", "run", "stub/torch"):
        (root / name).mkdir(parents=True)
    (root / "foreign" / "letter.txt").write_text("dear")
    (root / "mixed" / "1.txt").write_text("a river\n")
    (root / "mixed" / "2.csv").write_text("topic\nrivers\n")
    for name in ("theirs.parquet", "theirs.csv"):
        (root / name).write_text("theirs")
    np.save(root / "vectors.npy", np.zeros((1, 4), np.float32))
    origin = {
        "model": {"path": "gone", "files": {"config.json": "0" * 64}},
        "input": {"path": "good.csv", "sha256": sha256_file(root / "good.csv")},
    }
    settings = {"numbers": "float32", "pooling": "mean", "dims": None, "layers": [-1], "normalize": False, "rows": 1}
    write_sealed(root / f"vectors.npy.{MANIFEST}", {"from": origin, **settings, "files": hash_some(root, ["vectors.npy"])})
    (root / "run" / "config.yaml").write_text("source: [a]\nout: run\n")  # of prepare, as it were
    (root / "run" / "model").symlink_to(every_model["words"])
    (root / "stub" / "torch" / "__init__.py").write_text('raise ImportError("torch was imported")\n')
    (root / "texts.txt").write_text("".join(f"The river {n} runs to the sea.\nBirds sing over its banks.\n\n" for n in range(40)))
    prepare.run(prepare.Config(source=(str(root / "texts.txt"),), out=str(root / "corpus"), vocab_size=120))
    return root


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, Any]:
    """What each line said, and its exit code; all lines in one process, whose folder is as it was afterwards."""
    before = sorted(place.rglob("*"))
    lines = json.dumps([line.split() for line, *_ in CASES])
    environment = os.environ | {"PYTHONPATH": f"{place / 'stub'}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, lines], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(place.rglob("*")) == before
    return dict(zip((line for line, *_ in CASES), json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("line", "code", "message"), CASES)
def test_a_mistake_is_told_in_one_line_before_torch_is_imported(line, code, message, answers):
    found, said = answers[line]
    assert found == code, said
    assert said.startswith("bertlab: ") and said.count("\n") == 1
    assert message in said


def test_what_divides_a_model_is_imported_where_one_is_divided():
    code = "import sys, bertlab.training.loop, bertlab.training.checkpoint; sys.exit('torch.distributed.fsdp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
