"""bertlab/cli.py: how options are written, what a mistake ends in, and the world a run starts in. The verbs here are small stand-ins."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from bertlab import __version__, cli
from bertlab.config import load, save
from bertlab.errors import ColumnError, ConfigError, CorruptError, DataError, LockedError, LostError
from bertlab.schema import POSITIONAL, docs
from bertlab.signals import Preempted

ROOT = str(Path(cli.__file__).parents[1])


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Weight decay."""
    fused: bool = False
    """One kernel for all."""


@dataclass(frozen=True, kw_only=True)
class Config:
    source: tuple[str, ...]
    """Files or folders to read."""
    out: str = "run"
    """Where the run goes."""
    preset: Literal["tiny", "mini"] = "tiny"
    """The size of the model."""
    normalize: bool = True
    """Unit length."""
    processes: int | None = None
    """How many train together."""
    title: str | None = None
    """The name of it."""
    optim: Optim = field(default_factory=Optim)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Every test starts without a launcher and leaves no setting behind."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "HF_", "MASTER_", "OMP_", "TOKENIZERS_", "WORLD_", "LOCAL_", "RANK", "PMI_", "DO_NOT")):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Config]]:
    """Install `bertlab echo`: its run() does what is asked, and the configs that it was given are returned."""

    def install(do: Callable[[Config], Any] = lambda config: None, name: str = "echo") -> list[Config]:
        seen: list[Config] = []

        def run(config: Config) -> None:
            seen.append(config)
            do(config)

        module: Any = ModuleType(f"bertlab.verbs.{name}")
        module.Config = Config
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.VERBS, name, "says what it was given")
        return seen

    return install


def refused(capsys: pytest.CaptureFixture[str], args: list[str], code: int = 2) -> str:
    assert cli.main(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bertlab: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("bertlab: ").rstrip("\n")


# --- help -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "first"), [([], "bertlab: from"), (["--help"], "bertlab: from"), (["--version"], f"bertlab {__version__}")]
)
def test_help_and_version_answer_without_importing_anything_heavy(args, first):
    program = "import sys; from bertlab.cli import main; main(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True, env={"PYTHONPATH": ROOT})
    assert done.stdout.startswith(first)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not loaded & {"torch", "transformers", "datasets", "cyclopts", "yaml", "rich", "numpy", "pyarrow", "sklearn", "inspect"}


def test_help_names_every_verb(capsys):
    assert cli.main(["-h"]) == 0
    text = capsys.readouterr().out
    for name, line in cli.VERBS.items():
        assert f"  {name:<12}{line}\n" in text


def test_python_dash_m_is_the_same_door():
    done = subprocess.run([sys.executable, "-m", "bertlab", "pretain"], capture_output=True, text=True, env={"PYTHONPATH": ROOT})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bertlab: unknown verb 'pretain': did you mean 'pretrain'?\n"


def test_a_verbs_help_shows_its_fields_their_docs_types_and_defaults(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    seen = verb()
    assert cli.main(["echo", "--source", "a", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert seen == []
    for words in (
        ["bertlab echo"],
        ["says what it was given"],
        ["--source", "Files or folders to read.", "[required]"],
        ["--preset", "The size of the model.", "tiny, mini", "[default: tiny]"],
        ["--normalize", "--no-normalize", "[default: True]"],
        ["--optim.weight-decay", "FLOAT", "Weight decay.", "0.01"],
        ["--config", "A YAML file"],
    ):
        assert any(all(word in line for word in words) for line in lines), words


# --- options ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--source a", {}),
        ("source=a", {}),
        ("--source=a", {}),
        ("--source a b c --out x", {"source": ("a", "b", "c"), "out": "x"}),
        ("--source a --out x --source b", {"source": ("a", "b"), "out": "x"}),
        ("--source a b out=x", {"source": ("a", "b"), "out": "x"}),
        ("--source x=1.txt ./y=2.txt", {"source": ("x=1.txt", "./y=2.txt")}),
        ("--source a --out x=y", {"out": "x=y"}),
        ("--source a --preset mini", {"preset": "mini"}),
        ("--source a --no-normalize", {"normalize": False}),
        ("--source a --normalize", {"normalize": True}),
        ("--source a --normalize=false", {"normalize": False}),
        ("--source a normalize=no", {"normalize": False}),
        ("--source a --no-normalize out=x", {"normalize": False, "out": "x"}),
        ("--source a --optim.lr 1e-4", {"optim": Optim(lr=1e-4)}),
        ("--source a optim.lr=1e-4", {"optim": Optim(lr=1e-4)}),
        ("--source a --optim.lr -1", {"optim": Optim(lr=-1.0)}),
        ("--source a --optim.weight-decay 0", {"optim": Optim(weight_decay=0.0)}),
        ("--source a --optim.weight_decay 0", {"optim": Optim(weight_decay=0.0)}),
        ("--source a optim.weight_decay=0", {"optim": Optim(weight_decay=0.0)}),
        ("--source a --optim.fused", {"optim": Optim(fused=True)}),
        ("--source a --optim.no-fused optim.lr=2", {"optim": Optim(lr=2.0)}),
        ("--source a --title no", {"title": "no"}),
        ("--source - --title -.jsonl", {"source": ("-",), "title": "-.jsonl"}),
        ("--source a --title=", {"title": ""}),
        ("--source [a,b] --title {}", {"source": ("[a,b]",), "title": "{}"}),
    ],
)
def test_an_option_may_be_written_in_each_of_these_ways(verb, line, wanted):
    seen = verb()
    assert cli.main(["echo", *line.split()]) == 0
    assert seen == [Config(**{"source": ("a",), **wanted})]


def test_the_command_line_wins_over_files_and_later_files_over_earlier_ones(verb, tmp_path):
    seen = verb()
    (tmp_path / "a.yaml").write_text("source: [f]\nout: a\npreset: mini\noptim: {lr: 1, weight_decay: 2}\ntitle: d\n")
    (tmp_path / "b.yaml").write_text("out: b\noptim: {lr: 3}\n")
    args = ["--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml"), "optim.weight_decay=4", "--title", "none"]
    assert cli.main(["echo", *args]) == 0
    assert seen == [Config(source=("f",), out="b", preset="mini", optim=Optim(lr=3.0, weight_decay=4.0))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--source a --poset mini", "unknown option --poset: did you mean --preset?"),
        ("--source a --optim.lrr=3", "unknown option --optim.lrr: did you mean --optim.lr?"),
        ("--source a lr=3", "unknown option --lr: did you mean --optim.lr?"),
        ("--source a --weight-decay 3", "unknown option --weight-decay: did you mean --optim.weight-decay?"),
        ("--source a --zzzzzz", "unknown option --zzzzzz: bertlab echo --help lists them"),
        ("--source a -x", "unknown option -x: bertlab echo --help lists them"),
        ("--source a --source.x 3", "unknown option --source.x: did you mean --source?"),
        (
            "a --source b",
            "what is 'a'? Options are written --name VALUE or name=VALUE: echo wants --source, and bertlab echo --help lists them",
        ),
        (
            "--source a --out x y",
            "what is 'y'? Options are written --name VALUE or name=VALUE: echo wants --source, and bertlab echo --help lists them",
        ),
        ("--out x", "missing source: give it on the command line (--source VALUE) or in a --config file"),
        ("--source a --optim.lr fast", "optim.lr wants a finite number, not 'fast'"),
        ("--source a --processes 2.0", "processes wants a whole number, or to be left out, not '2.0'"),
        ("--source a --preset mimi", "preset wants one of 'tiny', 'mini', not 'mimi': did you mean 'mini'?"),
        ("--source a --config no.yaml", "no.yaml does not exist: --config wants a YAML file"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_line(verb, capsys, line, message):
    seen = verb()
    assert refused(capsys, ["echo", *line.split()]) == message
    assert seen == []


def column_error(column: str, role: str) -> ColumnError:
    error = ColumnError(f"t.csv:1: no column '{column}': the columns are 'a'")
    error.column, error.role = column, role
    return error


@pytest.mark.parametrize(
    ("column", "role", "says"),
    [
        ("a", "source", ": name the right one with --source"),  # one of several
        ("run", "out", ": name the right one with --out"),
        ("x", "title", ": name the right one with --title"),  # None: what the kind of task has
        ("weight", "out", ": rename the right one to 'weight'"),  # another file's column than the one that --out chooses
        ("x", "label", ": rename the right one to 'x'"),  # an option that the verb does not have
        ("x", "", ""),  # no choice of the user's
    ],
)
def test_a_missing_column_is_told_with_the_option_that_names_it(verb, capsys, column, role, says):
    def stop(config: Config) -> None:
        raise column_error(column, role)

    verb(stop)
    assert refused(capsys, ["echo", "--source", "a", "b"], 3) == f"t.csv:1: no column '{column}': the columns are 'a'{says}"


@pytest.mark.parametrize(
    ("verb_name", "given", "option"),
    [
        ("prepare", {"source": "a", "out": "b"}, "--text-column"),
        ("finetune", {"model": "a", "train": "b", "out": "c"}, "--text"),
        ("embed", {"model": "a", "input": "b", "output": "c.npy"}, "--text"),
        ("contrast", {"model": "a", "train": "b", "out": "c"}, "--text"),
        ("contexts", {"word": "a", "model": "b", "in": "c"}, "--text"),
        ("evaluate", {"model": "a", "data": "b", "out": "c"}, "--text"),
        ("predict", {"model": "a", "input": "b", "output": "-"}, "--text"),
        ("fill", {"model": "a", "input": "b"}, None),  # its --text is a text
    ],
)
def test_every_verb_has_the_option_that_it_names(verb_name, given, option):
    config = load(cli.module_of(verb_name).Config, [], given)
    wanted = "rename the right one to 'text'" if option is None else f"name the right one with {option}"
    assert cli._other_column(config, column_error("text", "text")) == wanted


@pytest.mark.parametrize("line", ["--source", "--source a --out", "--out a --out b", "--source a --normalize=maybe", "--source a -- b"])
def test_an_option_without_its_value_or_twice_gets_one_line(verb, capsys, line):
    seen = verb()
    assert refused(capsys, ["echo", *line.split()])
    assert seen == []


def test_a_mistake_in_a_file_names_the_line(verb, capsys, tmp_path):
    verb()
    (tmp_path / "a.yaml").write_text("source: [f]\nprset: mini\n")
    message = refused(capsys, ["echo", "--config", str(tmp_path / "a.yaml")])
    assert message == f"{tmp_path}/a.yaml:2: unknown key 'prset': did you mean 'preset'?"


# --- what goes wrong in a verb ----------------------------------------------------------------------------------------------------------


def raiser(error: BaseException) -> Callable[[Config], None]:
    def run(config: Config) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no"), 2, "no"),
        (DataError("x.csv:3: no label"), 3, "x.csv:3: no label"),
        (CorruptError("x"), 4, "x"),
        (LockedError("x"), 5, "x"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3, "/x: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"/x"), 3, "/x: Is a directory"),
        (OSError("no such model\n  at all"), 3, "no such model at all"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/a"), 28, "/full/a: the disk is full: make room, then start again"),
        (OSError(errno.ENOSPC, "No space left on device"), 28, "here: the disk is full: make room, then start again"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 28, "here: the disk is full: make room, then start again"),
        (KeyboardInterrupt(), 130, "stopped"),
        (KeyboardInterrupt("stopped after step 3"), 130, "stopped after step 3"),
        (Preempted(""), 75, "stopped"),
        (LostError("x"), 6, "x"),
        (DataError("a\x1b[31mred\x1b[0m\x07\x9b\u202e\r\nb\x00"), 3, "a red b"),
    ],
)
def test_each_kind_of_mishap_has_its_line_and_exit_code(verb, capsys, error, code, line):
    verb(raiser(error))
    assert refused(capsys, ["echo", "--source", "a", "--out", "here"], code) == line


def test_a_fine_tuning_that_is_stopped_says_what_the_same_command_does(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_run", raiser(KeyboardInterrupt()))
    assert refused(capsys, ["finetune"], 130) == "stopped: what was finished is kept, and the same command does the rest"


def test_a_bug_of_ours_shows_its_traceback(verb):
    verb(raiser(ZeroDivisionError("x")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["echo", "--source", "a"])


def test_only_rank_0_speaks_at_once(verb, capsys, monkeypatch):
    naps: list[float] = []
    monkeypatch.setattr(cli.time, "sleep", naps.append)
    verb(raiser(DataError("x")))
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert refused(capsys, ["echo", "--source", "a"], 3) == "x"
    assert len(naps) == 1


# --- the world a run starts in ----------------------------------------------------------------------------------------------------------

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@pytest.mark.parametrize(("line", "offline"), [("--source a", "1"), ("--source a hf:b", None), ("--source a --title hf:x", None)])
def test_the_network_is_asked_only_where_something_remote_is_named(verb, line, offline):
    world: dict[str, str] = {}
    verb(lambda config: world.update(os.environ))
    assert cli.main(["echo", *line.split()]) == 0
    assert [world.get(name) for name in OFFLINE] == [offline, offline]
    assert (world["HF_HUB_DISABLE_TELEMETRY"], world["DO_NOT_TRACK"], world["TOKENIZERS_PARALLELISM"]) == ("1", "1", "true")


def test_a_remote_name_in_a_file_opens_the_network_too(verb, tmp_path):
    world: dict[str, str] = {}
    verb(lambda config: world.update(os.environ))
    (tmp_path / "a.yaml").write_text("source: ['hf:x']\n")
    assert cli.main(["echo", "--config", str(tmp_path / "a.yaml")]) == 0
    assert not set(OFFLINE) & set(world)


def test_what_the_user_has_set_stays(verb, monkeypatch):
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "0", "TOKENIZERS_PARALLELISM": "false"}.items():
        monkeypatch.setenv(name, value)
    world: dict[str, str] = {}
    verb(lambda config: world.update(os.environ))
    assert cli.main(["echo", "--source", "hf:a"]) == 0
    assert (world["HF_HUB_OFFLINE"], world["HF_DATASETS_OFFLINE"], world["TOKENIZERS_PARALLELISM"]) == ("1", "0", "false")


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that torchrun is given, in its stead."""
    import torch.distributed.run

    commands: list[list[str]] = []
    monkeypatch.setattr(torch.distributed.run, "main", commands.append)
    return commands


def test_several_processes_are_started_by_torchrun(verb, launches, tmp_path):
    seen = verb(name="pretrain")
    (tmp_path / "a.yaml").write_text("processes: 3\n")
    args = ["--source", "a", "b c", "--config", str(tmp_path / "a.yaml")]
    assert cli.main(["pretrain", *args]) == 0
    signals = ["--signals-to-handle", "SIGINT,SIGTERM,SIGUSR1,SIGHUP"]
    assert launches == [["--standalone", "--nproc_per_node", "3", *signals, "-m", "bertlab", "pretrain", *args]]
    assert seen == []
    assert int(os.environ["OMP_NUM_THREADS"]) >= 1


def test_one_process_or_none_asked_for_starts_nothing(verb, launches):
    seen = verb(name="pretrain")
    assert cli.main(["pretrain", "--source", "a"]) == 0
    assert cli.main(["pretrain", "--source", "a", "--processes", "1"]) == 0
    assert (len(seen), launches) == (2, [])


def test_processes_that_cannot_share_a_step_or_would_find_no_corpus_are_not_started(launches, tmp_path, capsys, monkeypatch):
    args = ["--corpus", str(tmp_path), "--out", str(tmp_path / "run"), "--micro-batches", "4", "--processes"]
    assert cli.main(["pretrain", *args, "3"]) == 2
    assert capsys.readouterr().err == "bertlab: micro_batches=4 cannot be shared by 3 processes: 3 or 6 would do\n"
    assert launches == []
    assert cli.main(["pretrain", *args, "2"]) == 2
    assert "no manifest.json there: is it a folder that `bertlab prepare` wrote?" in capsys.readouterr().err
    assert launches == []
    monkeypatch.setattr("bertlab.verbs.pretrain.look", lambda config: None)
    assert cli.main(["pretrain", *args, "2"]) == 0
    assert len(launches) == 1


def test_processes_of_another_verb_are_its_own_business(verb, launches):
    assert verb() == []
    assert cli.main(["echo", "--source", "a", "--processes", "2"]) == 0
    assert launches == []


ACCELERATE = {"ACCELERATE_DYNAMO_BACKEND": "no", "ACCELERATE_USE_CPU": "True"}
SEVERAL = {**ACCELERATE, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("world", "asked", "words"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "2", None),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, None, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "2", None),
        ({**SEVERAL, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, None, None),
        ({**SEVERAL, "PMI_SIZE": "2"}, None, None),
        (ACCELERATE, None, None),
        (ACCELERATE, "1", None),
        (SEVERAL, "1", None),
        ({"MASTER_ADDR": "host"}, None, None),
        ({"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "2", "asked for 2 processes, the launcher started 1: start `bertlab pretrain"),
        ({"WORLD_SIZE": "4", "LOCAL_RANK": "0"}, "1", "asked for 1 process, the launcher started 4: "),
        ({"LOCAL_RANK": "0"}, "2", "asked for 2 processes, the launcher started 1: "),
        (ACCELERATE, "2", "asked for 2 processes, the launcher started 1: "),
        (SEVERAL, "2", "asked for 2 processes, the launcher started 1: "),
        (SEVERAL, None, "accelerate was asked for several processes and started 1 (with --cpu it always does): "),
        ({"WORLD_SIZE": "two"}, None, None),
        ({"WORLD_SIZE": "two"}, "2", "the environment says WORLD_SIZE=two"),
        ({}, "0", "processes wants 1 or more, not 0"),
    ],
)
def test_a_world_that_is_not_the_one_asked_for_is_refused(verb, launches, capsys, monkeypatch, world, asked, words):
    seen = verb(name="pretrain")
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    args = ["pretrain", "--source", "a", *(["--processes", asked] if asked else [])]
    if words is None and world != {"WORLD_SIZE": "two"}:
        assert cli.main(args) == 0
        assert len(seen) == 1
    else:
        assert (words or "the environment says WORLD_SIZE=two") in refused(capsys, args)
        assert seen == []
    assert launches == []


def test_accelerate_still_leaves_what_a_silent_single_process_is_known_by():
    """`accelerate launch --cpu --num_processes 2` runs its one command in this environment (nothing is started here)."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    for number, several in (("2", True), ("1", False)):
        line = ["--cpu", "--num_processes", number, "-m", "bertlab", "pretrain"]
        args, _, _ = _validate_launch_command(launch_command_parser().parse_args(line))
        command, left = prepare_simple_launcher_cmd_env(args)
        assert command == [sys.executable, "-m", "bertlab", "pretrain"]
        assert "ACCELERATE_DYNAMO_BACKEND" in left
        assert ("MASTER_ADDR" in left) == several
        assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK"} & set(left)


# --- what is read must be there ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "embed --model no --input no.txt --output v.npy --layer 99",
            "no: no such file or folder in {}: correct the path, or write hf:no for a model on the hub",
        ),
        ("embed --model . --input no.txt --output v.npy --layer 99", "no.txt: no such file or folder in {}: correct --input"),
        ("finetune --model . --train no.csv --out run --lora-rank 4", "no.csv: no such file or folder in {}: correct --train"),
        ("pretrain --corpus a/no --out run --processes 2", "a/no: no such file or folder in {}: correct --corpus"),
        ("multitask --model . --tasks . b.yaml --out run", "b.yaml: no such file or folder in {}: correct --tasks"),
        ("contexts bank --model . --in no.txt", "no.txt: no such file or folder in {}: correct --in"),
    ],
)
def test_a_path_that_is_not_there_is_told_before_torch_is_imported(line, message):
    program = "import sys; from bertlab.cli import main; code = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program, *line.split()], capture_output=True, text=True, env={"PYTHONPATH": ROOT})
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr == f"bertlab: {message.format(Path.cwd())}\n"


def test_nothing_is_missed_on_the_hub_nor_in_a_run_that_goes_on(tmp_path):
    cli._refuse_absent({"model": "hf:no/model", "train": None, "corpus": "", "data": str(tmp_path), "input": "-.jsonl"})
    cli._refuse_absent({"train": "no.csv", "out": str(tmp_path)})
    with pytest.raises(ConfigError, match="no.csv: no such file or folder in .*: correct --train"):
        cli._refuse_absent({"train": "no.csv", "out": str(tmp_path / "run")})


# --- words without a name ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Positional:
    index: str = field(metadata=POSITIONAL)
    """A file."""
    query: tuple[str, ...] = field(default=(), metadata=POSITIONAL)
    """Texts."""
    in_: str | None = None
    """Where."""
    top: int = 10
    """How many."""


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (["v.npy"], {"index": "v.npy"}),
        (["v.npy", "two words", "more"], {"index": "v.npy", "query": ("two words", "more")}),
        (["--top", "3", "v.npy", "a"], {"index": "v.npy", "query": ("a",), "top": "3"}),
        (["v.npy", "a", "--in", "x", "top=3"], {"index": "v.npy", "query": ("a",), "in": "x", "top": "3"}),
        (["--index", "v.npy", "--query", "a=b", "c"], {"index": "v.npy", "query": ("a=b", "c")}),
        (["v.npy", "--", "-a"], {"index": "v.npy", "query": ("-a",)}),
    ],
)
def test_what_may_stand_without_its_name_is_taken_in_order_or_by_its_name(line, wanted):
    files, given = cli.parse("search", Positional, line)
    assert files == [] and given == wanted
    config = load(Positional, [], given)
    assert (config.index, config.query, config.in_) == ("v.npy", wanted.get("query", ()), wanted.get("in"))


@pytest.mark.parametrize(
    ("verb_name", "line", "wanted"),
    [
        ("corpus", "c --samples 3", {"corpus": "c", "samples": "3"}),
        ("compare", "a b --level 0.9", {"runs": ("a", "b"), "level": "0.9"}),
        ("report", "a b --out c", {"runs": ("a", "b"), "out": "c"}),
        ("replay", "a --step 3", {"run": "a", "step": "3"}),
        ("verify", "--strict a b", {"folder": ("a", "b"), "strict": True}),
        ("prepare", "a b --out c", {"source": ("a", "b"), "out": "c"}),
        ("prepare", "--out c a", {"source": ("a",), "out": "c"}),
        ("search", "a b", {"index": "a", "query": ("b",)}),
        ("explore", "a", {"model": "a"}),
    ],
)
def test_the_folder_that_a_verb_is_about_needs_no_name(verb_name, line, wanted):
    """Of the verbs that read nothing but what another has written, and of the first; one that is named stays as it was."""
    module = cli.module_of(verb_name)
    assert cli.parse(verb_name, module.Config, line.split())[1] == wanted


def test_without_the_first_word_it_is_missing_and_an_unknown_name_stays_one():
    with pytest.raises(ConfigError, match="missing index"):
        load(Positional, [], cli.parse("search", Positional, ["--top", "3"])[1])
    with pytest.raises(ConfigError, match="unknown option --topp: did you mean --top"):
        cli.parse("search", Positional, ["v.npy", "topp=3"])


def test_a_field_that_python_keeps_for_itself_has_its_name_in_files_too(tmp_path):
    (tmp_path / "c.yaml").write_text("index: v\nin: place\n")
    config = load(Positional, [str(tmp_path / "c.yaml")])
    assert config.in_ == "place" and docs(Positional)["in"] == "Where."
    save(config, tmp_path / "again.yaml")
    assert load(Positional, [str(tmp_path / "again.yaml")]) == config
