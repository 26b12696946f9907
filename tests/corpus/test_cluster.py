"""Reading by datatrove's tasks: the bytes of one machine, whatever is killed on the way, and one line for whatever is wrong.

Slurm is played by four small scripts on PATH: sbatch runs the script's tasks with nothing of our environment. What queues, nodes and a
shared file system do beyond that is not tested.
"""

import gzip
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertlab.corpus import cluster as clusters
from bertlab.corpus import reading, units
from bertlab.corpus.cluster import Cluster, Reading, read_on_cluster, refuse_others_job
from bertlab.corpus.keep_out import fingerprints
from bertlab.corpus.reading import Recipe, read_all, recipe_sha256
from bertlab.corpus.sources import How
from bertlab.corpus.units import SourceFile, source_files, units_of
from bertlab.errors import ConfigError, DataError
from bertlab.schema import docs
from bertlab.verbs.prepare import Config, recipe_of, run

pytest.importorskip("datatrove", reason="bertlab[cluster] is not installed")

LOCAL = Cluster(engine="local", tasks=3, workers=2)
SLURM = Cluster(engine="slurm", tasks=2, partition="long", sbatch=("account=a1", "qos=q2"))
RECIPE = Recipe(signatures=True, keep_out=fingerprints(["thirteen words that no document of ours has, one after the other, in a row"]))
PAGE = (
    "<page><title>The {0}</title><ns>0</ns><id>{0}</id>"
    "<revision><id>1</id><text>'''Mill {0}''' [[is]] here. It turns.</text></revision></page>"
)
SITE = "<siteinfo><sitename>Wikipedia</sitename><base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>"


@pytest.fixture(autouse=True)
def _small_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 500)
    monkeypatch.setenv("TEST_OF_CLUSTER", str(tmp_path))  # what all processes of a test have in common
    monkeypatch.chdir(tmp_path)


def prose(number: int, documents: int = 20) -> list[str]:
    return [f"The mill of {number} stands by river {n}. Mr. Brown runs it.\nIt was built in {1700 + n}." for n in range(documents)]


def write_sources(folder: Path) -> list[str]:
    """Three sources in seven units: six text files, rows in .jsonl.gz, a dump."""
    (folder / "texts").mkdir(parents=True)
    for number in range(5):
        (folder / "texts" / f"{number}.txt").write_text("\n\n".join(prose(number)))
    rows = "".join(json.dumps({"text": text}) + "\n" for text in prose(7))
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
    (folder / "dump.xml").write_text(f"<mediawiki>{SITE}{''.join(map(PAGE.format, range(9)))}</mediawiki>")
    return ["texts", "rows.jsonl.gz", "dump.xml"]


def files_of(sources: Sequence[str]) -> list[SourceFile]:
    return [file for number, source in enumerate(sources) for file in source_files(source, number, Path("unused"))]


def tree(folder: Path | str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def alone(files: Sequence[SourceFile], recipe: Recipe = RECIPE) -> dict[str, bytes]:
    """What one machine reads."""
    read_all(files, Path("alone"), How(), recipe, 1)
    return tree("alone")


# ---- a task


def test_the_tasks_share_the_units_and_stand_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(write_sources(tmp_path))
    expected = alone(files)
    step = Reading(units_of(files), tmp_path / "units", How(), RECIPE)
    (tmp_path / "elsewhere").mkdir()
    found = []
    for rank in range(3):
        monkeypatch.chdir(tmp_path / "elsewhere")
        step(None, rank, 3)
        found.append(len(tree(tmp_path / "units")) // 2)
    assert found == [3, 5, 7]  # units 0 3 6, then 1 4, then 2 5
    assert tree(tmp_path / "units") == expected
    assert len(repr(step)) < len(str(tmp_path)) + 60


def test_absolute_paths_need_no_place_to_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    step = Reading(units_of(files_of([str(tmp_path / "texts")])), tmp_path / "units", How(), Recipe())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    step(None, 0, 1)
    assert len(tree(tmp_path / "units")) == 10


def test_a_machine_with_another_bertlab_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Reading(units_of(files_of(write_sources(tmp_path))), tmp_path / "units", How(), Recipe())
    monkeypatch.setattr(reading.bertlab, "__version__", "0.0.0")
    step(None, 0, 1)
    with pytest.raises(ConfigError, match=r"another version of bertlab: install the same on all machines \(and 6 more\)"):
        clusters._fail(step)
    assert not (tmp_path / "units").exists()


def test_what_no_user_can_mend_ends_the_task_and_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(write_sources(tmp_path))
    Path("texts/3.txt").unlink()
    step = Reading(units_of(files), tmp_path / "units", How(), Recipe())
    with pytest.raises(FileNotFoundError):
        step(None, 0, 1)
    missing = step.missing()
    with pytest.raises(DataError, match=r"^texts/3\.txt: FileNotFoundError: .*units/cluster/logs/task_00000\.log\)$"):
        clusters._fail(step.only(missing))
    with pytest.raises(DataError, match=r"was killed, perhaps for its memory"):  # told once
        clusters._fail(step.only(missing))


# ---- this machine as a cluster


def test_a_local_cluster_gives_the_bytes_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = tuple(write_sources(tmp_path))
    one, two = (Config(source=sources, out=out, vocab_size=300, near_duplicates=0.8) for out in ("one", "two"))
    run(one)
    how, recipe = recipe_of(two)
    folder = Path(".reading-two") / recipe_sha256(how, recipe)
    files = files_of(sources)
    capfd.readouterr()
    assert read_on_cluster(files, folder, how, recipe, LOCAL)
    said = capfd.readouterr()
    assert said.out == "" and all(line.startswith("reading: ") for line in said.err.splitlines())  # nothing of datatrove's
    assert tree(folder) == alone(files, recipe)
    monkeypatch.setattr(reading, "_documents", lambda *anything: pytest.fail("read again"))
    assert read_on_cluster(files, folder, how, recipe, LOCAL)
    run(two)
    assert tree("one") == tree("two")
    assert not Path(".reading-two").exists()


def test_a_damaged_file_is_one_line_and_the_others_are_read(tmp_path: Path) -> None:
    files = files_of(write_sources(tmp_path))
    whole = Path("rows.jsonl.gz").read_bytes()
    Path("rows.jsonl.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError) as single:
        alone(files)
    with pytest.raises(DataError) as caught:
        read_on_cluster(files, Path("units"), How(), RECIPE, replace(LOCAL, workers=1))
    assert str(caught.value) == str(single.value)
    assert "rows.jsonl.gz" in str(caught.value) and "\n" not in str(caught.value)
    left = Reading(units_of(files), Path("units"), How(), RECIPE)
    assert len(left.missing()) == 1
    Path("rows.jsonl.gz").write_bytes(whole)
    left.only(left.missing())(None, 0, 1)
    assert read_on_cluster(files, Path("units"), How(), RECIPE, LOCAL)
    shutil.rmtree("alone")
    assert tree("units") == alone(files)


def ours() -> list[Path]:
    """/proc/PID of all processes that this test started, and theirs; not Python's own watcher of them, which stays with this process."""
    mark, me, found = os.environ["TEST_OF_CLUSTER"].encode(), str(os.getpid()), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() and b"resource_tracker" not in (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:  # gone, or another's
            continue
    return [process for process in found if process.name != me]


def readers() -> list[int]:
    """Process ids of those that are writing a unit."""
    found = []
    for process in ours():
        try:
            if any(".tmp-" in str(entry.readlink()) for entry in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def hold(path: Path) -> bytes:
    """Put a pipe in a file's place, on which its reader waits; returns what was there."""
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return content


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc, which this system lacks")


@needs_proc
def test_a_killed_task_is_told_and_its_unit_is_read_by_the_next_call(tmp_path: Path) -> None:
    files = files_of(write_sources(tmp_path))
    expected = alone(files)
    held = hold(Path("texts/4.txt"))

    def kill() -> None:
        wait_for(readers)
        os.kill(readers()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DataError, match=r"the task that had it was killed.*the same command goes on") as caught:
        read_on_cluster(files, Path("units"), How(), RECIPE, LOCAL)
    killer.join()
    assert "\n" not in str(caught.value)
    assert "ending the others" in Path("units/cluster/engine.log").read_text()
    wait_for(lambda: not ours())
    kept = {name: (Path("units") / name).stat().st_mtime_ns for name in tree("units") if name.endswith(".json") and "/" not in name}
    assert len(kept) < 7
    Path("texts/4.txt").unlink()
    Path("texts/4.txt").write_bytes(held)
    assert read_on_cluster(files, Path("units"), How(), RECIPE, replace(LOCAL, workers=1))
    assert all((Path("units") / name).stat().st_mtime_ns == when for name, when in kept.items())
    found = {name: content for name, content in tree("units").items() if not name.startswith(".tmp-")}
    assert found == expected


@needs_proc
def test_the_engine_ends_with_the_command(tmp_path: Path) -> None:
    os.mkfifo("long.txt")
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from bertlab.corpus.cluster import Cluster, read_on_cluster\n"
        "from bertlab.corpus.reading import Recipe\n"
        "from bertlab.corpus.units import SourceFile\n"
        "from bertlab.corpus.sources import File, How\n"
        "if __name__ == '__main__':\n"
        "    files = [SourceFile('long.txt', 0, File(Path('long.txt'), 'long.txt'))]\n"
        "    read_on_cluster(files, Path('units'), How(), Recipe(), Cluster(engine='local'))\n"
    )
    package = str(Path(clusters.__file__).parents[2])
    command = subprocess.Popen([sys.executable, str(program)], env=os.environ | {"PYTHONPATH": package})
    wait_for(readers)
    command.kill()
    command.wait()
    wait_for(lambda: not ours(), 10)


# ---- Slurm


SBATCH = """#!/bin/bash
# takes the script's tasks one after the other, up to those named in the file `only`; --export and the script are the arguments
echo "$@" >> {0}/submitted; cp "${{@: -1}}" {0}/script
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' {0}/script)
for task in $(cat {0}/only 2>/dev/null || seq 0 $last); do
    (cd / && env -i PATH={0}/bin:/usr/bin:/bin SLURM_NODELIST=n1 SLURM_ARRAY_TASK_ID=$task RUN_OFFSET=0 bash {0}/script) >> {0}/output 2>&1
done
echo Submitted batch job 4711
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
exec "$@"
"""
SQUEUE = """#!/bin/bash
[[ -e {0}/queue ]] && cat {0}/queue && exit
echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1
"""
SCONTROL = "#!/bin/bash\necho n1\n"


def play_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    (folder / "bin").mkdir()
    for name, script in ({"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE, "scontrol": SCONTROL} | scripts).items():
        (folder / "bin" / name).write_text(script.format(folder) if "{0}" in script else script)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")


def test_slurm_reads_in_jobs_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_slurm(tmp_path, monkeypatch)
    files = files_of(write_sources(tmp_path))
    expected = alone(files)

    def call(tasks: int = 2) -> tuple[bool, str]:
        finished = read_on_cluster(files, Path("units"), How(), RECIPE, replace(SLURM, tasks=tasks))
        return finished, capsys.readouterr().out

    Path("only").write_text("0\n")  # as if the second task had been cut off before its first unit
    assert call() == (False, "submitted  job 4711 has 7 units to do: when it has ended, give the same command again\n")
    script = Path("script").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.MULTILINE))
    assert options["array"] == "0-1" and options["partition"] == "long" and options["account"] == "a1" and options["mem-per-cpu"] == "4G"
    assert options["cpus-per-task"] == "1" and options["time"] == "24:00:00" and options["qos"] == "q2"
    Path("queue").write_text("PENDING Resources\nPENDING Resources\nRUNNING None\n")
    assert call() == (False, "waiting    job 4711 is in the queue (PENDING Resources, RUNNING), 4 of 7 units are read: look again later\n")
    Path("queue").unlink()
    Path("only").unlink()
    log = Path("units/cluster/slurm_logs/4711_1.out")
    log.parent.mkdir(exist_ok=True)
    log.write_text("x\n1: slurmstepd-n1: error: *** STEP 4711.0 CANCELLED DUE TO TIME LIMIT ***\nsrun: error: n1: task 0: Killed\n")
    with pytest.raises(DataError, match="^job 4711 ended without 3 units. .*: a task was killed .STEP 4711.0 CANCELLED DUE TO"):
        call()
    assert log.exists()  # for whoever looks
    finished, said = call(tasks=1)
    assert not finished and said == "submitted  job 4711 has 3 units to do: when it has ended, give the same command again\n"
    assert call() == (True, "")
    assert tree("units") == expected
    assert len(Path("submitted").read_text().splitlines()) == 2  # and no third job for datatrove's statistics


def test_what_stops_slurm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "#!/bin/bash\necho 'sbatch: error: invalid partition specified: long' >&2; exit 1\n"
    play_slurm(tmp_path, monkeypatch, sbatch=refusal)
    files = files_of(write_sources(tmp_path))

    def refused(message: str, files: list[SourceFile] = files, folder: str = "units", cluster: Cluster = SLURM) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            read_on_cluster(files, Path(folder), How(), Recipe(), cluster)
        assert "\n" not in str(caught.value)

    refused("could not be started: sbatch: error: invalid partition specified: long")
    Path("bin/sbatch").write_text("#!/bin/bash\necho \"sbatch: unrecognized option '--bogus=1'\" >&2; exit 255\n")
    refused("could not be started: sbatch: unrecognized option '--bogus=1'")
    greeting = "echo 'sbatch: lua: the default account' >&2"
    Path("bin/sbatch").write_text(f"#!/bin/bash\n{greeting}; echo 'sbatch: error: Invalid job array specification' >&2; exit 1\n")
    refused("could not be started: sbatch: error: Invalid job array specification: lower --cluster.tasks")
    Path("units/cluster/job.json").write_text('{"job": "7"}')
    Path("bin/squeue").write_text("#!/bin/bash\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    refused("squeue does not say whether job 7 has ended: Unable to contact")
    Path("bin/squeue").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # a machine may have a real one
    refused("job 7 may be running, and squeue is not here")
    refused("choose another --out", folder="a b/units")
    Path("bin/sbatch").unlink()
    refused("sbatch: give the command on the cluster's login node", folder="other")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    refused("inside a job", folder="other")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"A text.")))
    refused("standard input cannot be read twice", source_files("-", 0, Path("work")), "work/units")


# ---- what is asked for


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(write_sources(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs Ray, in the version of your cluster"):
        read_on_cluster(files, Path("units"), How(), Recipe(), Cluster(engine="ray"))
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(ConfigError, match=r"datatrove: pip install -c constraints.txt -e '.\[cluster\]' in"):
        read_on_cluster(files, Path("units"), How(), Recipe(), LOCAL)
    assert not Path("units").exists()


def test_ray_is_asked_for_the_tasks_and_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=lambda: None))
    step = Reading([], tmp_path, How(), Recipe())
    executor = clusters._executor(step, 5, tmp_path / "logs", Cluster(engine="ray", workers=2, memory_gb=3))
    assert (executor.world_size, executor.workers, executor.mem_per_cpu_gb, executor.cpus_per_task) == (5, 2, 3, 1)


def test_ray_gives_the_bytes_of_one_machine(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: it comes in the version of one's cluster")
    files = files_of(write_sources(tmp_path))
    assert read_on_cluster(files, Path("units"), How(), RECIPE, Cluster(engine="ray", tasks=2, workers=1, memory_gb=1))
    assert tree("units") == alone(files)


def test_settings_that_make_no_sense_are_refused() -> None:
    assert Cluster().engine is None
    assert set(docs(Cluster)) == set(vars(Cluster()))
    for wrong in ({"tasks": 0}, {"workers": 0}, {"memory_gb": 0}, {"engine": "slurm"}, {"sbatch": ("account",)}, {"sbatch": ("--a=b",)}):
        with pytest.raises(ConfigError):
            Cluster(**wrong)
    idle: dict[str, Any]
    for idle in (
        {"tasks": 4},
        {"memory_gb": 2},
        {"partition": "long"},
        {"engine": "local", "partition": "long"},
        {"engine": "ray", "time": "1:00"},
    ):
        with pytest.raises(ConfigError, match=f"cluster.{[*idle][-1]} does nothing without --cluster.engine"):
            Cluster(**idle)


def test_a_job_that_another_call_queued_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_slurm(tmp_path, monkeypatch)
    own, other = tmp_path / "work" / "own", tmp_path / "work" / "other"
    for folder, job in ((own, "7"), (other, "8")):
        (folder / "cluster").mkdir(parents=True)
        (folder / "cluster" / "job.json").write_text(f'{{"job": "{job}"}}')
    monkeypatch.chdir(tmp_path)
    refuse_others_job(tmp_path / "work", own, SLURM)  # both have ended
    Path("queue").write_text("RUNNING None\n")
    with pytest.raises(ConfigError, match=r"job 8 of another call works for this --out \(RUNNING\): wait for it, scancel 8"):
        refuse_others_job(tmp_path / "work", own, SLURM)
    with pytest.raises(ConfigError, match="job 8 of another call"):  # the first by name: without the engine the own job is another's too
        refuse_others_job(tmp_path / "work", own, Cluster())
    (other / "cluster" / "job.json").unlink()
    refuse_others_job(tmp_path / "work", own, SLURM)
    with pytest.raises(ConfigError, match="job 7 of another call"):
        refuse_others_job(tmp_path / "work", own, Cluster())


def test_an_address_of_ray_that_does_not_answer_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(ConfigError, match="RAY_ADDRESS=nowhere is no address: write HOST:PORT"):
        clusters._need(Cluster(engine="ray"))
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=f"RAY_ADDRESS={address} does not answer .*: correct it, or unset it"):
            clusters._need(Cluster(engine="ray"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        for form in ("127.0.0.1:{}", "ray://127.0.0.1:{}"):
            monkeypatch.setenv("RAY_ADDRESS", form.format(server.getsockname()[1]))
            clusters._need(Cluster(engine="ray"))


def test_a_job_of_other_sources_is_not_this_calls_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_slurm(tmp_path, monkeypatch)
    files = files_of(write_sources(tmp_path))
    fewer = files[:2]
    Path("only").write_text("none\n")  # no task begins

    def call(files: list[SourceFile]) -> str:
        assert not read_on_cluster(files, Path("units"), How(), RECIPE, SLURM)
        return capsys.readouterr().out

    assert call(files).startswith("submitted  job 4711")
    Path("queue").write_text("RUNNING None\n")
    with pytest.raises(ConfigError, match=r"job 4711 of another call works for this --out \(RUNNING\)"):
        call(fewer)
    Path("queue").unlink()
    assert call(fewer).startswith("submitted  job 4711"), "the other's end says nothing of these"
    shutil.rmtree("units/cluster/slurm_logs", ignore_errors=True)
    with pytest.raises(DataError, match="^job 4711 ended without .* units?. .*: the task that had it never began, or was cancelled"):
        call(fewer)
