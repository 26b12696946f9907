"""A run folder's memory: config.yaml, which a resumed run must agree with, and metrics.jsonl, one JSON object a line."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.config import load, read_plain, save, to_dict
from bertlab.disk import (
    MANIFEST,
    append_text,
    list_at,
    locked,
    read_json,
    read_sealed,
    refuse_file,
    refuse_unwritable,
    sha256_file,
    sweep,
    text_at,
    texts_at,
    write_sealed,
    write_text,
)
from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.model.facts import WEIGHTS, load_facts, nothing_at
from bertlab.training.tracking import Tracker, numbers_of, refuse_uninstalled

if TYPE_CHECKING:
    from accelerate import Accelerator

CONFIG, INPUTS = "config.yaml", "inputs.json"
NO_PART = {"out", "test", "processes", "workers", "device", "track", "baselines"}  # settings that have no part in what a model answers


class RunLog:
    """Appends records to `path`, and tells a tracker of their numbers. A run resumed after `done` steps (-1: nothing) first drops later
    records and a half line."""

    def __init__(self, path: Path, done: int, tracker: Tracker | None = None) -> None:
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= done))
        self._stream = append_text(path)
        self._tracker = tracker

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, which has a `step`; NaN and infinity become null, since JSON has neither."""
        self._stream.write(json.dumps(plain(record)) + "\n")
        self._stream.flush()
        if self._tracker and (numbers := numbers_of(record)):
            self._tracker.log(numbers, step=record["step"])

    def close(self) -> None:
        self._stream.close()
        if self._tracker:
            self._tracker.finish()


def plain(value: Any) -> Any:
    """A value of dictionaries, lists, numbers and text as JSON can say it: NaN and infinity become None."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")  # cut short by a crash, or none of ours


@contextmanager
def run_folder(config: Any, accelerator: "Accelerator", free: set[str]) -> Iterator[Path]:
    """config.out, held by the first process as long as this lasts and in agreement with what it was started with; the others wait for that.

    Raises LockedError where another run has it, ConfigError as `agree_with_config` does.
    """
    out = Path(config.out)
    with locked(out) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            agree_with_config(config, out, free)
            sweep(out, deep=True)  # of a run all is written by who holds it: predictions, a task's model
        accelerator.wait_for_everyone()
        yield out


def agree_with_config(config: Any, out: Path, free: set[str]) -> None:
    """Check that a run folder can be made, is empty, or was started with the settings of `config` (but for the `free` ones).

    Raises ConfigError naming what changed, or that the folder is somebody else's; and, before it is made, for a tracker that is not there.
    """
    refuse_uninstalled(getattr(config, "track", None))
    refuse_file(out)
    refuse_unwritable(out)
    if not out.is_dir():
        return
    path = out / CONFIG
    if not path.is_file():
        foreign = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
        if foreign:
            raise ConfigError(f"{out} has content that is no run of ours ({', '.join(foreign[:3])}): choose another --out")
        return
    try:
        before, now = to_dict(load(type(config), [str(path)])), to_dict(config)
    except ConfigError:
        raise ConfigError(f"{out} is the run folder of another verb or version ({path} does not fit): choose another --out") from None
    changed = [f"{name} was {before[name]!r}, is {now[name]!r}" for name in now if name not in free and before[name] != now[name]]
    if changed:
        advice = "choose another --out, or give the same settings"
        if before.get("steps") != now.get("steps"):
            advice = (
                f"a run keeps the steps that its learning rates were planned for: {advice} (when it is finished, another --out "
                f"with --model {out / 'model'} trains it further)"
            )
        raise ConfigError(f"{out} was started with other settings ({'; '.join(changed[:3])}): {advice}")


def read_settings(out: Path) -> dict[str, Any]:
    """A run's settings as they stand in its config.yaml. Raises ConfigError when there is none, CorruptError when it is none of ours."""
    path = out / CONFIG
    if not path.is_file():
        raise ConfigError(f"{out}: no {CONFIG} there: is it a run folder?")
    try:
        settings = read_plain(str(path))
    except ConfigError:
        settings = {}
    if not settings:
        raise CorruptError(f"{path} is not the settings that a run leaves: copy the run folder again")
    return settings


def settings_behind(predictions: Path) -> dict[str, Any] | None:
    """The settings of the run that gave a predictions file, as they became where the run says so (`_became`): the run that it lies in, or
    that of the model which was evaluated, where its weights are still those. None where there is no such run."""
    folder = predictions.resolve().parent
    out = folder.parent if folder.name == "predictions" else folder
    try:
        if not (out / CONFIG).is_file():
            evaluation = read_json(out / MANIFEST)
            model = Path(text_at(evaluation, "from", "model", "path") or "")
            if (texts_at(evaluation, "from", "model", "files") or {}).get(WEIGHTS) != sha256_file(model / WEIGHTS):
                return None
            out = model.parent
        return _became(read_settings(out), out) if (out / INPUTS).is_file() else None
    except (BertlabError, OSError):
        return None


def data_behind(predictions: Path) -> set[str]:
    """The sha256 of the labelled files that gave a predictions file: that of its evaluation, or all that its run read. Empty where nothing
    says it."""
    for folder in list(predictions.resolve().parents)[:4]:  # of a seed, a task of several, a baseline
        try:
            if (folder / INPUTS).is_file():
                return {str(sha256) for name, sha256 in read_sealed(folder / INPUTS).items() if name.endswith(" file")}
            if sha256 := text_at(read_sealed(folder / MANIFEST), "from", "data", "sha256"):
                return {sha256}
        except BertlabError:
            continue
    return set()


def _became(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """The settings with what the run chose itself where it was told nothing, as its metrics and its model's facts have it; of a search
    also what its best trial had."""
    metrics = read_json(out / "metrics.json") if (out / "metrics.json").is_file() else None
    facts, seed = load_facts(str(out / "model")), next(iter(list_at(metrics, "seeds")), None)
    chosen = [(metrics, "learning_rate"), (seed, "epochs"), (facts, "max_length"), (facts, "long")]
    found = {name: said[name] for said, name in chosen if isinstance(said, dict) and isinstance(said.get(name), int | float | str)}
    of_search = metrics["search"].get("chosen", {}) if metrics and isinstance(metrics.get("search"), dict) else {}
    searched = {name: of_search[name] for name in ("learning_rate", "batch_size", "epochs") if name in of_search}
    return searched | {name: found.get(name) if value is None else value for name, value in settings.items()}


def differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]] | None:
    """What two runs of one verb were told that may change their results, where it differs: both values by name. None for other verbs."""
    if a.keys() != b.keys():
        return None
    return {name: [a[name], b[name]] for name in a if a[name] != b[name] and name not in NO_PART}


def made_anew(out: Path) -> str:
    """The command that makes again what a run made, in brackets; "" where its settings are not those that it was started with."""
    try:
        inputs, first = read_sealed(out / INPUTS), (out / CONFIG).read_text(encoding="utf-8").partition("\n")[0]
    except (BertlabError, OSError, UnicodeDecodeError):
        return ""
    verb = re.match(r"# bertlab (\w+), ", first)
    if verb is None or sha256_file(out / CONFIG) != inputs.get(CONFIG):
        return ""
    return f" (bertlab {verb[1]} --config {shlex.quote(str(out / CONFIG))} --out ANOTHER makes it anew)"


def run_sha256(out: Path) -> str:
    """What stands for a run: the sha256 of its inputs.json, which binds its settings and its inputs."""
    return sha256_file(out / INPUTS)


def run_files(out: Path, *results: str) -> dict[str, str]:
    """sha256 of what a finished run leaves beside its model (inputs.json and `results`), by name: its model folder remembers them."""
    return {name: sha256_file(out / name) for name in (INPUTS, *results) if (out / name).is_file()}


def remember_inputs(config: Any, out: Path, inputs: dict[str, str | None]) -> None:
    """Write config.yaml and inputs.json (name -> sha256, config.yaml's too) when every input has been checked: a mistake leaves no
    settings behind.

    Raises ConfigError in a folder that was started from other inputs: half a run on each would be neither.
    """
    if (out / INPUTS).is_file():
        refuse_changed(out, inputs)
        return
    save(config, out / CONFIG)
    write_sealed(out / INPUTS, inputs | {CONFIG: sha256_file(out / CONFIG)})


def refuse_other_inputs(config: Any, out: Path, named: Mapping[str, str | None]) -> None:
    """Of a finished run that is asked for again: raise ConfigError where what is named now is not what it was made from, or is not there.
    That what it read is gone since, or stands elsewhere, is no mistake.

    named: a labelled file, the "corpus" or the "model", by what inputs.json calls it; None is passed over.
    """
    holds = {"corpus": MANIFEST, "model": WEIGHTS}  # the file of a folder that stands for it
    read, now = (_texts(to_dict(each)) for each in (load(type(config), [str(out / CONFIG)]), config))
    found = {}
    for what, place in named.items():
        if place is None or place.startswith("hf:"):
            continue
        if (file := Path(place) / holds.get(what, "")).is_file():
            found[what] = sha256_file(file)
        elif place in now - read:
            raise ConfigError(f"{nothing_at(place)}, and {out} is finished: correct {what}, or leave it as it was")
    refuse_changed(out, found, test=named.get("test file"))


def refuse_changed(out: Path, inputs: Mapping[str, str | None], *, test: str | None = None) -> None:
    """Raise ConfigError where a run was started from other inputs than these, or without them; not where it was never started. `test`: the
    file by which the model of a finished run can be scored, where that is all it was started without."""
    before = read_json(out / INPUTS) if (out / INPUTS).is_file() else inputs
    if changed := [name for name, sha256 in inputs.items() if before.get(name) != sha256]:
        how = " and ".join(f"{'with another' if before.get(name) else 'without a'} {name}" for name in changed)
        advice, model = "choose another --out", str(out / "model")
        if test and how == "without a test file" and load_facts(model).get("kind") == "classifier":
            advice += f", or score its model by bertlab evaluate --model {shlex.quote(model)} --data {shlex.quote(test)} --out DIR"
        raise ConfigError(f"{out} was started {how}: {advice}")


def _texts(value: Any) -> set[str]:
    """All texts in a value of dictionaries, lists and others."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return {value} if isinstance(value, str) else set().union(*map(_texts, inner))


def full_records(path: Path) -> list[dict[str, Any]]:
    """The records of a log that say more than which batch a step had, in order; none where there is no log. A line that is no record, as
    the last of a run that goes on may be, is left out."""
    found: list[dict[str, Any]] = []
    if not path.is_file():
        return found
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not any(name in line for name in ('"losses"', '"heldout"', '"dev"')):
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                found.append(record)
    return found


def records_in(path: Path, *, finished: bool) -> tuple[int, int | None]:
    """How many whole lines a log has, and the number of the first that is no record, None where all are: the last line may be cut short
    while the run is not `finished`."""
    lines = path.read_bytes().split(b"\n")
    cut = bool(lines[-1]) and finished
    return len(lines) - 1, next((number for number, line in enumerate(lines[:-1], 1) if not _is_record(line)), len(lines) if cut else None)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
