"""A process that has imported torch and bertlab once and forks a child a command, so that a trial costs its own work and no imports.

One request a line on stdin, one answer a line on stdout, both JSON:

    {"start": ARGUMENTS, "log": FILE, "threads": N, "before": CODE, "anew": BOOL}  ->  the child's process id
    {"poll": PID}                       ->  its exit code (-9: killed by signal 9), or null while it runs

A child runs `bertlab ARGUMENTS` as a shell would start it: default signals, a process group of its own, all output to the end of FILE,
torch on N threads; CODE is executed before, in the child alone (to break something there). At the end of stdin all children are killed.
Forking is safe because the server has one thread (and pyarrow's allocator another, which sees to forks itself). Importing takes seconds,
forking some 10 milliseconds. The processes of a world, which torchrun starts in a child, are forked by it too, each with the environment,
the session and the files that torchrun gives it, and its id in FILE.rank-RANK; with "anew" they are programs of their own.
"""

import atexit
import contextlib
import functools
import importlib
import json
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from multiprocessing.popen_fork import Popen
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# What bertlab's functions import when they are called, and what torch imports at an optimizer's first step.
LATER = ("cyclopts", "torch._dynamo", "transformers", "scipy.stats", "sklearn.metrics", "sklearn.linear_model", "sklearn.calibration",
         "sklearn.feature_extraction.text", "matplotlib.figure", "matplotlib.backends.backend_svg")  # fmt: skip


def import_later() -> None:
    """What is imported late, now: before a fork it is done once."""
    for name in LATER:
        if find_spec(name.partition(".")[0]):  # matplotlib may be absent
            importlib.import_module(name)


def import_all() -> None:
    """Every module of bertlab and what it brings."""
    import bertlab

    import_later()
    for module in pkgutil.walk_packages(bertlab.__path__, "bertlab."):
        if not module.name.endswith(("__main__", "sample.make")):
            importlib.import_module(module.name)


def spare_what_is_measured_elsewhere() -> None:
    """Three costs that every child would have and no trial is about: this machine's rate of products (it goes into the MFU alone), reading
    the options' descriptions, and drawing a run's page at every measurement: it is written then, and drawn at the run's end."""
    from bertlab import schema
    from bertlab.disk import write_text
    from bertlab.pages import report
    from bertlab.training import speed
    from bertlab.verbs import finetune, pretrain

    drawn = report.write_report

    def drawn_at_the_end(out: Path, runs: Sequence[Path], corpus: Any = None, refresh: int | None = None, **more: Any) -> bool:
        if refresh is None:
            return drawn(out, runs, corpus, **more)
        write_text(out, "not finished")
        return False

    report.write_report = drawn_at_the_end
    speed.product_rate = lambda *_: 1e11
    schema.docs = functools.cache(schema.docs)
    for verb in (finetune, pretrain):
        schema.docs(verb.Config)


def default_signals() -> None:
    """As a shell leaves them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a server in the background may have inherited that it is ignored
    for other in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(other, signal.SIG_DFL)


def fork_ranks(log: str) -> None:
    """In the child: have torchrun fork the processes of a world instead of starting `python -u -m bertlab ARGUMENTS`. What CODE broke is
    broken in them too."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    def forked(_: Any, command: Sequence[str], environment: Mapping[str, str]) -> Popen:
        def become(parent_sentinel: int) -> int:
            os.setsid()
            os.environ.clear()
            os.environ.update(environment)
            default_signals()
            logging.disable(logging.NOTSET)  # the launcher's own silence
            return finish(command[command.index("bertlab") + 1 :])

        rank = Popen(SimpleNamespace(_bootstrap=become))  # type: ignore[arg-type]  # all that it asks of a process
        Path(f"{log}.rank-{environment['RANK']}").write_text(str(rank.pid))
        return rank

    SubprocessHandler._popen = forked  # type: ignore[assignment, method-assign]


def run(request: dict[str, Any]) -> int:
    """In the child: the command, and its exit code."""
    os.setpgid(0, 0)
    default_signals()
    with Path(request["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream.fileno(), number)
    import torch

    if request["threads"] != 1:
        torch.set_num_threads(request["threads"])
    if not request["anew"]:
        fork_ranks(request["log"])
    exec(request["before"], {})
    return finish(request["start"])


def finish(arguments: Sequence[str]) -> int:
    """The command, and what Python does at its end."""
    from bertlab import cli

    code = cli.main(arguments)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve() -> None:
    """Answer until stdin ends."""
    alive: set[int] = set()
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer: int | None
        if "start" in request:
            answer = os.fork()
            if answer == 0:
                os._exit(run(request))  # taking torch apart lasts seconds, and has hung after a fork
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpgid(answer, answer)  # by whoever is first, so that the group exists when we answer
            alive.add(answer)
        else:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            alive -= {ended}
        print(json.dumps(answer), flush=True)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # taking torch apart lasts seconds


if __name__ == "__main__":
    import_all()
    spare_what_is_measured_elsewhere()
    tasks = Path("/proc/self/task")
    others = {path.read_text().strip() for path in tasks.glob("*/comm") if path.parent.name != str(os.getpid())}
    assert others <= {"jemalloc_bg_thd"}, f"forking beside {others} is not safe"
    print(json.dumps("ready"), flush=True)
    serve()
