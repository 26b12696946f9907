"""Units of work done by many tasks at once on an engine that is not ours, datatrove's: this machine's processes, a Slurm or a Ray cluster.

A unit is sources to read (`Reading`, here) or texts to embed (bertlab/embedding/cluster.py). It ends as a file that is whole or absent, in
a folder that all machines see, so tasks may run anywhere, in any order, and be killed. What follows finds every unit done and goes on as on
one machine: the same bytes. A task is one process and takes the memory of one; starting costs 2 to 4 seconds.
The engine runs in a process of its own, whose words go to a log and which ends with this one, however this one ends.
datatrove hands the task to its processes as a pickle, on Slurm by a file in that folder: whoever may write there runs code as you. Nothing
else of bertlab reads a pickle, and without an engine nothing does. No unit is cut in two: one huge file is read by one task.
"""

import copy
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from bertlab import errors
from bertlab.disk import read_json, sweep, write_json
from bertlab.errors import BertlabError, ConfigError, DataError, first_line, install
from bertlab.progress import progress, silent
from bertlab.schema import Settings

if TYPE_CHECKING:  # what reads is imported by whoever reads: the settings below are needed for --help too
    from bertlab.corpus.reading import Recipe
    from bertlab.corpus.sources import How
    from bertlab.corpus.units import SourceFile, Unit

LOGS = "cluster"  # in the folder of the units: the engine's files and ours beside them, engine.log, job.json, failed/
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_OF_SILENCE, SHOWN = 60.0, 150  # in which no unit was done, after which so many characters of the engine's last line are shown
SECONDS_TO_ANSWER = 10
SLURMSTEPD = re.compile(r"^(?:\d+: )?slurmstepd(?:-[^:]*)?: error: (.*)$", re.MULTILINE)  # srun -l numbers lines; a node may have a name
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
UNFINISHED = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"  # the states of a Slurm job that may still write


@dataclass(frozen=True, kw_only=True)
class Cluster(Settings):
    engine: Literal["local", "slurm", "ray"] | None = None
    """Who does the work: datatrove's tasks on this machine (local), on a Slurm or on a Ray cluster; all machines must see the same
    files under the same paths. Default: this process and its workers."""
    tasks: int = 16
    """Tasks that the work is dealt to, in units (of sources 16 MB or a file, of texts to embed a part)."""
    workers: int | None = None
    """Tasks at once. Default: all; with engine=local one a core."""
    memory_gb: int = 4
    """Memory to ask of Slurm or Ray for each task."""
    partition: str = ""
    """Slurm's partition."""
    time: str = "24:00:00"
    """Slurm's limit for a task; what a task had finished by then is kept, and the same command hands out the rest."""
    sbatch: tuple[str, ...] = ()
    """More options for Slurm's sbatch, as account=NAME; give this option once for each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tasks", "workers", "memory_gb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"cluster.{name}={value}: give 1 or more")
        for name in ("partition", "time", "sbatch", *(("tasks", "workers", "memory_gb") if self.engine is None else ())):
            if self.engine != "slurm" and getattr(self, name) != getattr(type(self), name):
                raise ConfigError(
                    f"cluster.{name} does nothing without --cluster.engine{' slurm' * (self.engine is not None)}: leave it out"
                )
        if self.engine == "slurm" and not self.partition:
            raise ConfigError("cluster.engine=slurm needs a partition: give --cluster.partition NAME (sinfo lists them)")
        for option in self.sbatch:
            if not all(option.partition("=")) or option.startswith("-") or "\n" in option:
                raise ConfigError(f"cluster.sbatch {option!r}: write it as NAME=VALUE, as in account=NAME")


# ---- a task


class Step(ABC):
    """What every task runs: task r of W does units r, r + W, ... A class for its short repr, which engines write into their logs.

    Attributes: units, each with a `key`; folder, where they are done; start, where the command was given; of, a hash of all units.
    """

    verb = ""  # whose work it is
    doing, done = "doing", "done"  # what is said of it

    def __init__(self, units: Sequence[Any], folder: Path) -> None:
        self.units, self.folder, self.start = tuple(units), folder, Path.cwd()
        self.of = hashlib.sha256("\n".join(unit.key for unit in self.units).encode()).hexdigest()

    @abstractmethod
    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Do the share of task `rank`. What a user can mend is noted and the next is tried; anything else is noted and ends the task."""

    @abstractmethod
    def missing(self) -> list[Any]:
        """The units that are not done."""

    @abstractmethod
    def shown(self, unit: Any) -> str:
        """A unit as a user knows it."""

    def only(self, units: Sequence[Any]) -> "Step":
        """The same for some of the units."""
        fewer = copy.copy(self)
        fewer.units = tuple(units)
        return fewer

    def note(self, unit: Any, error: Exception, rank: int) -> None:
        """Write down why a unit could not be done: the command that started the tasks says so."""
        facts = {"error": type(error).__name__, "message": " ".join(str(error).split()), "task": rank}
        write_json(self.note_of(unit), facts)

    def note_of(self, unit: Any) -> Path:
        return self.folder / LOGS / "failed" / f"{unit.key}.json"


class Reading(Step):
    """Sources read, by the units of bertlab/corpus/units.py."""

    verb, doing, done = "prepare", "reading", "read"

    def __init__(self, units: Sequence["Unit"], folder: Path, how: "How", recipe: "Recipe") -> None:
        from bertlab.corpus.reading import recipe_sha256

        super().__init__(units, folder)
        self.how, self.recipe = how, recipe
        self.sha256 = recipe_sha256(how, recipe)

    def __repr__(self) -> str:
        return f"bertlab reads {len(self.units)} units into {self.folder}"

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        from bertlab.corpus.reading import crew, read_unit

        with crew(self.recipe, 1) as treated:
            for unit in self.units[rank::world_size]:
                try:
                    self._go_there(unit)
                    read_unit(unit, self.folder, self.how, treated, lambda bytes_read: None)
                except BertlabError as error:
                    self.note(unit, error, rank)
                except Exception as error:
                    self.note(unit, error, rank)
                    raise

    def missing(self) -> list["Unit"]:
        read = {path.stem for path in self.folder.glob("*.json")}
        return [unit for unit in self.units if unit.key not in read]

    def shown(self, unit: "Unit") -> str:
        return str(unit.files[0].path) if unit.files else unit.source

    def _go_there(self, unit: "Unit") -> None:
        """Stand where the command was given if paths start there: they, and lines that name them, are then what they are on one machine.

        Raises ConfigError on a machine whose bertlab would read otherwise.
        """
        from bertlab.corpus.reading import recipe_sha256
        from bertlab.hub import REMOTE

        if recipe_sha256(self.how, self.recipe) != self.sha256:
            raise ConfigError(f"{os.uname().nodename} has another version of bertlab: install the same on all machines")
        if not (all(file.path.is_absolute() for file in unit.files) if unit.files else unit.source.startswith(("/", REMOTE))):
            os.chdir(self.start)


# ---- the engine, in a process of its own


def _host(step: Step, tasks: int, cluster: Cluster) -> None:
    """Run the engine with all its words in engine.log. On Slurm it returns when the job is in the queue, and job.json names it."""
    os.setsid()  # a group with all that it starts, so that the group can be ended
    logs = step.folder / LOGS
    with (logs / "engine.log").open("wb") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    threading.Thread(target=_watch, daemon=True).start()
    executor = _executor(step, tasks, logs, cluster)
    executor.run()
    if cluster.engine == "slurm":
        write_json(logs / "job.json", {"job": str(executor.job_id), "of": step.of})


def _watch() -> None:
    """End this group of processes when the one that started it is gone, or one of datatrove's was killed: its pool would wait for ever."""
    import multiprocess

    parent = parent_process()
    assert parent is not None
    seen: dict[int, Any] = {}
    while parent.is_alive():
        seen |= {child.pid: child for child in multiprocess.active_children()}
        killed = [pid for pid, child in seen.items() if child.exitcode not in (None, 0, -signal.SIGTERM)]  # SIGTERM: the pool's own end
        if killed:
            print(f"process {killed[0]} ended with {seen[killed[0]].exitcode}: ending the others", file=sys.stderr, flush=True)
            break
        time.sleep(SECONDS_BETWEEN_LOOKS / 2)
    os.killpg(0, signal.SIGKILL)


def _executor(step: Step, tasks: int, logs: Path, cluster: Cluster) -> Any:
    """datatrove's executor. Its own markers of finished tasks are not used: which units are done is what counts."""
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

    common: dict[str, Any] = {"pipeline": [step], "tasks": tasks, "logging_dir": str(logs), "skip_completed": False}
    if cluster.engine == "local":
        return LocalPipelineExecutor(**common, workers=min(tasks, cluster.workers or os.cpu_count() or 1), start_method="spawn")
    common |= {"workers": cluster.workers or -1, "mem_per_cpu_gb": cluster.memory_gb}
    if cluster.engine == "ray":
        import ray

        ray.init()  # the cluster of RAY_ADDRESS, or the one that runs here
        return RayPipelineExecutor(**common)
    executor = SlurmPipelineExecutor(
        **common,
        time=cluster.time,
        partition=cluster.partition,
        job_name=f"bertlab-{step.verb}",
        qos=None,  # datatrove's "normal" is not there everywhere
        max_array_size=tasks,  # one job, or what Slurm says against it: of several datatrove tells the last alone
        env_command=_environment(),
        sbatch_args=dict(option.split("=", 1) for option in cluster.sbatch),
    )
    executor.launch_merge_stats = _nothing  # a second job, for numbers that we have no use for
    return executor


def _environment() -> str:
    """The line that makes a task run by this Python and this bertlab, whether or not their environment was activated."""
    scripts, package = shlex.quote(sysconfig.get_path("scripts")), shlex.quote(str(Path(__file__).parents[2]))
    return f'export PATH={scripts}:"$PATH" PYTHONPATH={package}"${{PYTHONPATH:+:$PYTHONPATH}}"'


def _nothing() -> None:
    pass


# ---- the whole


def read_on_cluster(files: Sequence["SourceFile"], folder: Path, how: "How", recipe: "Recipe", cluster: Cluster) -> bool:
    """Every unit of the files read into `folder`: True and False are those of `run_on_cluster`.

    Raises what `run_on_cluster` does, and what reading on one machine raises, for the first file that is wrong.
    """
    from bertlab.corpus.units import units_of

    if cluster.engine == "slurm":
        refuse_for_slurm([each.source for each in files if each.file and each.file.name == f"stdin{each.source[1:]}"], folder)
    return run_on_cluster(Reading(units_of(files), folder.absolute(), how, recipe), cluster)


def run_on_cluster(step: Step, cluster: Cluster) -> bool:
    """True: every unit is done. False: Slurm has the job in its queue, and the same call goes on when it has ended.

    Raises ConfigError (a library or a cluster that is not there), what a unit was noted to raise, and DataError with the place of the log
    when a task was killed. What was done by then is kept: the same call does the rest.
    """
    assert cluster.engine and step.folder.is_absolute()
    total, logs = len(step.units), step.folder / LOGS
    missing = step.missing()
    job = _job_of(logs)
    if job and _of_others(logs, step):
        _refuse_live(job)
        job = None
    if job and (state := _queued(job)):
        done = f"{total - len(missing):,} of {_counted(total)} {'is' if total == 1 else 'are'} {step.done}"
        print(f"waiting    job {job} is in the queue ({state}), {done}: look again later")
        return False
    if missing and (not job or cluster.engine != "slurm") and not any((logs / "failed").glob("*")):
        _run(step.only(missing), total, cluster)
        if cluster.engine == "slurm":
            print(f"submitted  job {_job_of(logs)} has {_counted(len(missing))} to do: when it has ended, give the same command again")
            return False
        missing = step.missing()
    if missing:
        _fail(step.only(missing))
    shutil.rmtree(logs, ignore_errors=True)
    return True


def _run(step: Step, total: int, cluster: Cluster) -> None:
    """Let the engine work, or Slurm begin to, and show how many of all units are done. Raises ConfigError when it cannot be started."""
    _need(cluster)
    logs = step.folder / LOGS
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    sweep(step.folder)  # what killed tasks left; none is at work now
    tasks = min(cluster.tasks, len(step.units))
    host = get_context("spawn").Process(target=_host, args=(step, tasks, cluster))
    host.start()
    log, reached = logs / "engine.log", (-1, time.monotonic())
    try:
        submits = cluster.engine == "slurm"
        with silent() if submits else progress(step.doing, "units", total, total - len(step.units)) as report:
            while host.is_alive():
                host.join(SECONDS_BETWEEN_LOOKS)
                done, now = total - len(step.missing()), time.monotonic()
                reached = (done, now) if done != reached[0] else reached
                silence = f"{log}: {_reason(log)[:SHOWN]}" if now - reached[1] > SECONDS_OF_SILENCE else ""
                report(done, silence)
    finally:
        _end(host)
    if host.exitcode and not (logs / "logs").is_dir():  # no task began
        raise ConfigError(f"cluster.engine={cluster.engine} could not be started: {_reason(log)} (see {log})")


def _end(host: BaseProcess) -> None:
    if not host.is_alive():
        return
    try:
        os.killpg(host.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        host.kill()
    host.join()


def _fail(step: Step) -> NoReturn:
    """Raise what stood in the way of the first unit for which that is known. It is told once: the same command then tries again."""
    folder, first = step.folder, step.shown(step.units[0])
    notes = {unit: read_json(step.note_of(unit)) for unit in step.units if step.note_of(unit).is_file()}
    logs = folder / LOGS
    shutil.rmtree(logs / "failed", ignore_errors=True)
    job = _job_of(logs)
    (logs / "job.json").unlink(missing_ok=True)
    if not notes:
        ended = f"job {job} ended without {_counted(len(step.units))}. " if job else ""
        raise DataError(f"{ended}{first}: {_end_of_task(logs, job)} (see {logs}): the same command goes on with what is missing")
    unit, note = next(iter(notes.items()))
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    kind = getattr(errors, note["error"], None)
    if kind is None:
        log = logs / "logs" / f"task_{note['task']:05d}.log"
        raise DataError(f"{step.shown(unit)}: {note['error']}: {note['message']}{more} (see {log})")
    if all(entry.name == LOGS for entry in folder.iterdir()):  # nothing to go on with
        shutil.rmtree(folder)
    raise kind(note["message"] + more)


# ---- what an engine needs


def _need(cluster: Cluster) -> None:
    if importlib.util.find_spec("datatrove") is None:
        raise ConfigError(f"cluster.engine={cluster.engine} needs the library datatrove: {install('cluster')}")
    if cluster.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError(f"cluster.engine=ray needs Ray, in the version of your cluster: {install('cluster')}, and ray==VERSION")
    if cluster.engine == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("cluster.engine=slurm needs Slurm's sbatch: give the command on the cluster's login node")
    if cluster.engine == "ray" and (address := os.environ.get("RAY_ADDRESS", "")) not in ("", "auto", "local"):
        client = ":10001" * (address.startswith("ray://") and not address.rpartition(":")[2].isdecimal())  # Ray's own default
        host, _, port = f"{address.removeprefix('ray://')}{client}".rpartition(":")
        if not port.isdecimal():
            raise ConfigError(f"RAY_ADDRESS={address} is no address: write HOST:PORT, or unset it")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"RAY_ADDRESS={address} does not answer ({first_line(error)}): correct it, or unset it") from None


def refuse_for_slurm(from_stdin: Sequence[str], folder: Path) -> None:
    """Raise ConfigError for what two commands, one that queues the job and one that goes on, cannot have."""
    if from_stdin:
        raise ConfigError("standard input cannot be read twice, and cluster.engine=slurm takes two commands: write the text to a file")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ConfigError("cluster.engine=slurm cannot be given inside a job of an array: give the command on the cluster's login node")
    if shlex.quote(str(folder.absolute())) != str(folder.absolute()):
        raise ConfigError(f"{folder.absolute()}: Slurm's scripts want a path of letters, digits and _-./ alone: choose another --out")


def refuse_others_job(work: Path, units: Path, cluster: Cluster) -> None:
    """Raise ConfigError where a job that another call has queued may write below `work`: this one would take its folder from it."""
    if shutil.which("squeue") is None:  # then nobody here can say whether one still runs
        return
    for file in sorted(work.glob(f"*/{LOGS}/job.json")):
        own = cluster.engine == "slurm" and file.parent.parent == units
        job = None if own else _job_of(file.parent)
        if job:
            _refuse_live(job)


def _refuse_live(job: str) -> None:
    if state := _queued(job):
        raise ConfigError(f"job {job} of another call works for this --out ({state}): wait for it, scancel {job}, or choose another --out")


def _of_others(logs: Path, step: Step) -> bool:
    """Whether the job there was queued for other units: of other sources."""
    return read_json(logs / "job.json").get("of", step.of) != step.of


def _counted(units: int) -> str:
    return f"{units:,} unit{'s' * (units != 1)}"


def _job_of(logs: Path) -> str | None:
    file = logs / "job.json"
    return str(read_json(file)["job"]) if file.is_file() else None


def _queued(job: str) -> str:
    """In which states Slurm still has the job, and why, as "PENDING Resources"; "" when it has ended. Raises ConfigError when Slurm cannot
    be asked."""
    asking = ["squeue", "--noheader", f"--jobs={job}", f"--states={UNFINISHED}", "--format=%T %r"]
    try:
        asked = subprocess.run(asking, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(f"job {job} may be running, and squeue is not here: give the command on the cluster's login node") from None
    if asked.returncode and "Invalid job id" not in asked.stderr:  # what it says of a job that ended some minutes ago
        raise ConfigError(f"squeue does not say whether job {job} has ended: {' '.join(asked.stderr.split())}")
    states = dict.fromkeys(" ".join(line.split()).removesuffix(" None") for line in asked.stdout.splitlines() if line.strip())
    return "" if asked.returncode else ", ".join(states)


def _end_of_task(logs: Path, job: str | None) -> str:
    """Why a task did not do its units and left no note, as far as Slurm says: the last that slurmstepd wrote of one that it killed."""
    logged = sorted((logs / "slurm_logs").glob("*.out"))
    if job and not logged:
        return "the task that had it never began, or was cancelled"
    for file in logged:
        if said := SLURMSTEPD.findall(file.read_text(errors="replace")):
            return f"a task was killed ({' '.join(said[-1].strip('* ').split())})"
    return "the task that had it was killed, perhaps for its memory or its time"


def _reason(log: Path) -> str:
    """Of an engine that failed: what sbatch said, or the last line."""
    said = COLOURS.sub("", log.read_text(errors="replace")) if log.is_file() else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    of_sbatch = [line for line in lines if line.startswith("sbatch: ")]
    refusal = next((line for line in of_sbatch if line.startswith(("sbatch: error", "sbatch: fatal"))), None)  # sites greet as well
    said = refusal or [*(of_sbatch or lines), "it said nothing"][max(0, len(of_sbatch or lines) - 1)]
    return f"{said}: lower --cluster.tasks" if "job array" in said else said
