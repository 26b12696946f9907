"""A process that has imported torch and bertlab once and forks a child a command, so that a trial costs its own work and no imports.

One request a line on stdin, one answer a line on stdout, both JSON:

    {"start": ARGUMENTS, "log": FILE, "threads": N, "before": CODE}  ->  the child's process id
    {"poll": PID}                                                    ->  its exit code (-9: killed by signal 9), or null while it runs

A child runs `bertlab ARGUMENTS` as a shell would start it: default signals, a process group of its own, all output to the end of FILE,
torch on N threads; CODE is executed before, in the child alone (to break something there). At the end of stdin all children are killed.
Forking is safe because the server has one thread (and pyarrow's allocator another, which sees to forks itself). Importing takes seconds,
forking some 10 milliseconds.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

# What bertlab's functions import when they are called, and what torch imports at an optimizer's first step.
LATER = ("cyclopts", "torch._dynamo", "transformers", "sklearn.metrics", "sklearn.linear_model", "sklearn.feature_extraction.text")


def import_all() -> None:
    """Every module of bertlab and what it brings."""
    import bertlab

    for name in LATER:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(bertlab.__path__, "bertlab."):
        if not module.name.endswith(("__main__", "sample.make")):
            importlib.import_module(module.name)


def spare_what_is_measured_elsewhere() -> None:
    """Two costs that every child would have and no trial is about: this machine's rate of products (it goes into the MFU alone), and
    reading the options' descriptions."""
    from bertlab import config
    from bertlab.training import speed
    from bertlab.verbs import finetune, pretrain

    speed.product_rate = lambda *_: 1e11
    config.docs = functools.cache(config.docs)
    for verb in (finetune, pretrain):
        config.docs(verb.Config)


def run(request: dict[str, Any]) -> int:
    """In the child: the command, and its exit code."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a server in the background may have inherited that it is ignored
    for other in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(other, signal.SIG_DFL)
    with Path(request["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream.fileno(), number)
    import torch

    from bertlab import cli

    if request["threads"] != 1:
        torch.set_num_threads(request["threads"])
    exec(request["before"], {})
    return cli.main(request["start"])


def leave(request: dict[str, Any]) -> None:
    """In the child: the command, what Python does at its end, and out: taking torch apart lasts seconds, and has hung after a fork."""
    code = run(request)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer until stdin ends."""
    alive: set[int] = set()
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer: int | None
        if "start" in request:
            answer = os.fork()
            if answer == 0:
                leave(request)
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
