"""The chain of hashes over whatever bertlab has written: corpus -> tokenizer -> run -> model -> predictions, embeddings, answers.

Every folder binds its own files by a sealed manifest (bertlab/disk.py), and what was made from another remembers that one's sha256:

    corpus        manifest.json: every file
    run           inputs.json: config.yaml, the corpus or the labelled files, the weights it started from
    checkpoint    manifest.json: its files, the run
    model         manifest.json: its files, the run's inputs.json and results
    export        manifest.json: its files, the files of the model
    predictions   manifest.json: its files, the files of the model (or the vectors), the labelled file and those beside it
    embeddings    FILE.manifest.json: the vectors, the files of the model, the texts (a file, or the files of a folder)
    answers       FILE.manifest.json: what predict wrote, the files of the model, the texts

Following it reads every byte once (about 1 GB/s), and neither torch nor the network. What a link leads to is looked for where the settings
say, beside the folder that names it, and among the folders given. A run at work changes under the eyes of whoever looks.
"""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bertlab.config import read_plain
from bertlab.disk import MANIFEST, list_at, read_json, read_sealed, text_at, texts_at
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.model.facts import FACTS, WEIGHTS
from bertlab.training.links import Facts, Link, Links, Search, bound_files, from_file, from_files, is_bound, is_file, reached, tokenizer_of
from bertlab.training.runlog import CONFIG, INPUTS, made_anew, read_settings, records_in, run_sha256

VECTORS = (".npy", ".parquet")
NAMED = 3  # of what lies in a folder that is nothing itself


def follow(folders: Sequence[Path]) -> Links:
    """Every link from each of `folders` back to its beginnings, as far as they are on this disk.

    Raises ConfigError, before the first link, for what is none of ours.
    """
    folders = [folder.resolve() if folder.name in ("", "..") else folder for folder in folders]  # names say what belongs to what
    kinds = [kind_of(folder) for folder in folders]
    search = Search(folders, set())
    for folder, kind in zip(folders, kinds, strict=True):
        if search.is_new(folder):
            yield from _FOLLOW[kind](folder, search)


def kind_of(path: Path) -> str:
    """corpus, run, checkpoint, export, model, predictions, embeddings, answers: by what lies there, damaged or not.

    Raises ConfigError for none of them, and tells what lies in it."""
    if (kind := _kind_at(path)) is not None:
        return kind
    within = [entry for entry in sorted(path.iterdir()) if _is_sealed(entry)] if path.is_dir() else []
    if not within:
        kinds = "a corpus, run, checkpoint, model or export folder, predictions, a file of embed or predict"
        raise ConfigError(f"{path}: nothing there that bertlab wrote: name {kinds}")
    named = " ".join(shlex.quote(str(entry)) for entry in within[:NAMED]) + " ..." * (len(within) > NAMED)
    raise ConfigError(f"{path} is nothing that bertlab wrote, but in it is what it wrote: bertlab verify {named}")


def _is_sealed(path: Path) -> bool:
    """Whether a manifest of ours is in it, or beside it."""
    try:
        beside = path.with_name(f"{path.name}.{MANIFEST}")
        return any(each.is_file() for each in (path / MANIFEST, path / INPUTS, beside)) and _kind_at(path) is not None
    except OSError:  # a name that is too long for another beside it
        return False


def _kind_at(path: Path) -> str | None:
    if path.is_file() and path.name == "predictions.parquet":
        return "predictions"
    if path.is_file() and (beside := path.with_name(f"{path.name}.{MANIFEST}")).is_file():
        return "answers" if _says(beside, "task") else "embeddings"
    if path.is_file() and path.suffix in VECTORS:
        return "embeddings"
    names = {entry.name for entry in path.iterdir()} if path.is_dir() and os.access(path, os.R_OK | os.X_OK) else set()
    signs = {  # in this order: a run holds metrics.json too, and a checkpoint weights
        "run": {CONFIG, INPUTS, "metrics.jsonl"},
        "corpus": {"train", "tokenizer"},
        "checkpoint": {"optimizer.safetensors", "state.json"},
        "export": {"model.onnx"},
        "model": {"config.json", WEIGHTS, FACTS},
        "predictions": {"predictions.parquet", "metrics.json"},
    }
    return next((kind for kind, any_of in signs.items() if names & any_of), None)


def _says(manifest: Path, key: str) -> bool:
    try:
        return key in read_sealed(manifest)
    except CorruptError:
        return False


# ---- what leads to another folder or file


def _from_model(recorded: str, files: dict[str, str], named_by: Path, search: Search) -> Links:
    """From an output to the model that made it, of which it remembers `files` by sha256, and on."""

    def matches(folder: Path) -> bool:
        return bool(files) and all(is_bound(folder, name, sha256) for name, sha256 in files.items())

    model = yield from reached("model", recorded, matches, named_by, search)
    if model is not None and search.is_new(model):
        yield from _follow_model(model, search)


def _from_vectors(recorded: str, sha256: str, named_by: Path, search: Search) -> Links:
    """From predictions to the embeddings that were judged, and on to what made them where a manifest is beside."""
    vectors = yield from reached("vectors", recorded, lambda path: is_file(path, sha256), named_by, search)
    if vectors is not None and vectors.with_name(f"{vectors.name}.{MANIFEST}").is_file() and search.is_new(vectors):
        yield from _follow_embeddings(vectors, search)


# ---- each kind of folder


def _follow_corpus(root: Path, search: Search) -> Links:
    yield from _corpus(root)


def _corpus(root: Path) -> Facts:
    remedy = "copy the corpus again, or prepare it again"
    manifest = yield from bound_files(root, "corpus", remedy)
    if manifest is not None:
        yield from tokenizer_of(root / "tokenizer", text_at(manifest, "tokenizer", "sha256"), f"{root / MANIFEST}", remedy)
    return manifest


def _follow_run(root: Path, search: Search) -> Links:
    inputs = yield from _run(root, search)
    yield from _log(root)
    if (root / MANIFEST).is_file():  # of a run whose result is what it wrote, and no model: a cross-validation
        yield from _or_anew(bound_files(root, "predictions", "cross-validate again, into another --out", closed=False), root)
        return
    checkpoints = sorted([*root.glob("checkpoints/step-*"), *root.glob("best/step-*"), *root.glob("seeds/*/step-*")])
    for folder in checkpoints:
        yield from _checkpoint(folder, root if inputs else None)
    if not checkpoints:
        yield Link("absent", "checkpoint", f"{root}: no checkpoint yet")
    models = [folder for folder in (root / "model", *sorted(root.glob("*/model"))) if folder.is_dir()]  # of several tasks several
    for folder in models:
        search.seen.add(folder.resolve())
        manifest = yield from _or_anew(_model(folder), root)
        yield from _model_of_run(folder, manifest, root)
    if not models:
        yield Link("absent", "result", f"{root}: not finished, there is no result yet: its command goes on with it")


def _run(root: Path, search: Search) -> Facts:
    """A run's settings and inputs, and what they lead to; not what it made. Returns its inputs."""
    search.seen.add(root.resolve())
    try:
        inputs = read_sealed(root / INPUTS)
    except BertlabError as error:
        missing = f"{root / INPUTS} is missing: copy the run folder again, or train again into another --out"
        yield Link("differs", "run", missing if isinstance(error, ConfigError) else str(error))
        return None
    if not is_file(root / CONFIG, inputs.get(CONFIG)):
        yield Link("differs", "run", f"{root / CONFIG} is not the file that the run was started with: copy the run folder again")
        return None
    try:
        settings = read_settings(root)
    except CorruptError as error:
        yield Link("differs", "run", str(error))
        return None
    yield Link("ok", "run", f"{root}: its settings and the hashes of its inputs")
    if settings.get("corpus"):
        corpus = yield from reached(
            "corpus", str(settings["corpus"]), lambda folder: is_file(folder / MANIFEST, inputs.get("corpus")), root, search
        )
        if corpus is not None and search.is_new(corpus):
            yield from _corpus(corpus)
    for name in ("train", "dev", "dev_pairs", "test"):
        if settings.get(name):
            yield from from_file(f"{name} file", str(settings[name]), inputs.get(f"{name} file"), root, search)
    for path in settings.get("tasks") or ():
        yield from _task_files(Path(path), inputs, root, search)
    if settings.get("model"):
        weights = inputs.get("model")
        model = yield from reached("model", str(settings["model"]), lambda folder: is_file(folder / WEIGHTS, weights), root, search)
        if model is not None and search.is_new(model):
            yield from _follow_model(model, search)
    return inputs


def _task_files(path: Path, inputs: dict[str, Any], root: Path, search: Search) -> Links:
    """The labelled files of one task of several, which its YAML file names and the run's inputs by that file's name."""
    try:
        task = read_plain(str(path))
    except ConfigError:
        yield Link("absent", "task file", f"{path} is not there, or no longer YAML: the files of the task {path.stem} are not followed")
        return
    for split in ("train", "dev", "test"):
        what = f"{path.stem} {split} file"
        if task.get(split) or what in inputs:
            yield from from_file(what, str(task.get(split)), inputs.get(what), root, search)


def _or_anew(links: Facts, run: Path | None) -> Facts:
    """The same; what is said of damage ends with how `run` made it."""
    while True:
        try:
            link = next(links)
        except StopIteration as end:
            return cast(dict[str, Any] | None, end.value)
        yield replace(link, message=link.message + made_anew(run)) if run and link.status == "differs" else link


def _log(root: Path) -> Links:
    """Every whole line of a run's log is a record; the last may be cut short while the run is not finished."""
    path = root / "metrics.jsonl"
    if not path.is_file():
        return
    records, wrong = records_in(path, finished=(root / "model").is_dir())
    if wrong is not None:
        yield Link("differs", "log", f"{path}:{wrong} is no record: the file is damaged; the weights do not depend on it")
    else:
        yield Link("ok", "log", f"{path}: {records:,} records")


def _follow_checkpoint(root: Path, search: Search) -> Links:
    run = next((folder for folder in list(root.resolve().parents)[1:3] if (folder / INPUTS).is_file()), None)
    yield from _checkpoint(root, run)
    if run is not None and search.is_new(run):
        yield from _run(run, search)


def _checkpoint(root: Path, run: Path | None) -> Links:
    """A checkpoint's files, its step, and whose it is: `run`, where that is known."""
    remedy = "remove this checkpoint; the run goes on from the one before"
    manifest = yield from bound_files(root, "checkpoint", remedy)
    if manifest is None:
        return
    if root.name.removeprefix("step-").lstrip("0") != str(manifest.get("step")).lstrip("0"):
        yield Link("differs", "checkpoint", f"{root} is the checkpoint of step {manifest.get('step')}, by its manifest: {remedy}")
    if run is None:
        yield Link("absent", "checkpoint", f"{root}: the run that it belongs to cannot be asked")
    elif manifest.get("run") != run_sha256(run):
        yield Link("differs", "checkpoint", f"{root} is not of the run {run}, by its manifest: {remedy}")


def _follow_model(root: Path, search: Search) -> Links:
    around = root.parent
    nearest = next((folder for folder in (around, around.parent) if root.name == "model" and (folder / INPUTS).is_file()), None)
    manifest = yield from _or_anew(_model(root), nearest)
    if not manifest:
        return
    facts = read_json(root / FACTS)
    path, files = text_at(facts, "made_from", "path"), texts_at(facts, "made_from", "files")
    if path is not None and files:  # an encoder that was exported: no run is around it
        yield from _from_model(path, files, root, search)
        return
    expected = text_at(manifest, "run", INPUTS)
    if nearest is not None:
        run: Path | None = nearest
    else:
        run = next((folder for folder in search.places if is_file(folder / INPUTS, expected)), None)
    if run is None:
        yield Link("absent", "run", f"{root}: the run that made it is not around it: name its folder too (--folder)")
        return
    yield from _model_of_run(root, manifest, run)
    if search.is_new(run):
        yield from _run(run, search)


def _model(root: Path) -> Facts:
    """A model folder's files and tokenizer; {} for a published one, which nothing binds."""
    if not (root / MANIFEST).exists() and not (root / FACTS).exists():
        yield Link("absent", "model", f"{root} is a published model: no manifest says what its files should be")
        return {}
    manifest = yield from bound_files(root, "model", "copy the model folder again, or make it again", closed=False)
    if manifest is not None and texts_at(manifest, "run") is None:
        yield Link("differs", "model", f"{root / MANIFEST} is no manifest of a model: make the folder again")
        return None
    if manifest is not None:
        expected = text_at(read_json(root / FACTS), "tokenizer_sha256")
        yield from tokenizer_of(root, expected, f"{root / FACTS}", "make the model folder again")
    return manifest


def _model_of_run(root: Path, manifest: dict[str, Any] | None, run: Path) -> Links:
    """Whether a model folder is what a run made, and the run's results are those that it was made with."""
    if not manifest:
        return
    damage = 0
    for name, sha256 in manifest["run"].items():
        if not is_bound(run, name, sha256):
            damage += 1
            what = f"{root} is another run's model, or {run / name} is damaged" if name == INPUTS else f"{run / name} is not the file"
            with_it = "" if name == INPUTS else f" that {root} was made with"
            anew = "" if name == INPUTS else made_anew(run)
            yield Link("differs", "model", f"{what}{with_it}: copy the run folder again{anew}")
    if not manifest["run"]:
        yield Link("absent", "model", f"{root} does not say which run made it")
    elif not damage:
        yield Link("ok", "model", f"{root}: made by {run}, whose {', '.join(manifest['run'])} it names")


def _follow_output(root: Path, search: Search, what: str, manifest: Path | None, data: str, remedy: str) -> Links:
    facts = yield from bound_files(root, what, remedy, manifest=manifest, closed=False)
    named_by = manifest.with_name(manifest.name.removesuffix(f".{MANIFEST}")) if manifest else root
    if facts is None:
        return
    path, sha256 = (text_at(facts, "from", data, name) for name in ("path", "sha256"))
    model, files = text_at(facts, "from", "model", "path"), texts_at(facts, "from", "model", "files")
    of_folder = texts_at(facts, "from", data, "files")
    vectors = [each for each in list_at(facts, "from", "vectors") if text_at(each, "path") and text_at(each, "sha256")]
    if path is None or (sha256 is None and not of_folder) or ((model is None or files is None) and not vectors):
        yield Link("differs", what, f"{manifest or root / MANIFEST} does not say what it was made from: {remedy}")
        return
    yield from from_files(data, path, of_folder, named_by, search) if of_folder else from_file(data, path, sha256, named_by, search)
    for further in ("corpus", "train"):
        if (also := text_at(facts, "from", further, "path")) is not None:
            yield from from_file(f"{further} file", also, text_at(facts, "from", further, "sha256"), named_by, search)
    for each in vectors:
        yield from _from_vectors(each["path"], each["sha256"], named_by, search)
    if model is not None and files is not None:
        yield from _from_model(model, files, named_by, search)


def _follow_predictions(root: Path, search: Search) -> Links:
    folder = root.parent if root.is_file() else root
    folder = folder.parents[1] if folder.parent.name == "baselines" else folder  # what needs no BERT answered, beside the run's own
    folder = folder.parent if folder.name == "alone" and not (folder / MANIFEST).is_file() else folder  # of one task of several
    for around in (folder, folder.parent):  # a fine-tuning run's own, or one task's of it, which its model binds
        if (around / INPUTS).is_file():
            yield from _follow_run(around, search)
            return
    yield from _follow_output(folder, search, "predictions", None, "data", "evaluate again")


def _follow_embeddings(path: Path, search: Search) -> Links:
    manifest = path.with_name(f"{path.name}.{MANIFEST}")
    yield from _follow_output(path.parent, search, "embeddings", manifest, "input", "embed again")


def _follow_answers(path: Path, search: Search) -> Links:
    manifest = path.with_name(f"{path.name}.{MANIFEST}")
    yield from _follow_output(path.parent, search, "answers", manifest, "input", "predict again")


def _follow_export(root: Path, search: Search) -> Links:
    remedy = "export again"
    facts = yield from bound_files(root, "export", remedy, closed=False)
    model, files = text_at(facts, "from", "model", "path"), texts_at(facts, "from", "model", "files")
    if facts is not None and (model is None or files is None):
        yield Link("differs", "export", f"{root / MANIFEST} does not say what it was made from: {remedy}")
    if model is not None and files is not None:
        yield from _from_model(model, files, root, search)


_FOLLOW: dict[str, Callable[[Path, Search], Links]] = {
    "corpus": _follow_corpus,
    "run": _follow_run,
    "checkpoint": _follow_checkpoint,
    "export": _follow_export,
    "model": _follow_model,
    "predictions": _follow_predictions,
    "embeddings": _follow_embeddings,
    "answers": _follow_answers,
}
