"""The door: `bertlab VERB ...` finds the verb's module, reads its Config from the command line and files, and runs it.

`bertlab --help` and `--version` import nothing but the standard library, so they answer at once. For a verb, cyclopts takes the command
line apart and draws the verb's --help; types, defaults and their messages are config.load's alone. A mistake of the user's ends in one
line on stderr and the exit code of its class (bertlab/errors.py); anything else is a bug of ours and shows its traceback.
Also sees to the world a run starts in: no telemetry, no network unless something remote is named, as many processes as were asked for.
"""

import errno
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bertlab.errors import BertlabError, ColumnError, ConfigError, LostError
from bertlab.signals import INTERRUPTED, PREEMPTED, PREEMPTION, Preempted, raise_when_asked

VERBS = {
    "quickstart": "the whole walk on a small text that ships with bertlab, in minutes",
    "prepare": "text files -> sentences -> tokenizer and token shards: a corpus folder",
    "corpus": "what is in a corpus folder, and what is wrong with it",
    "pretrain": "a corpus folder -> a BERT (masked words and next sentences)",
    "finetune": "a BERT and a labelled file -> a classifier, a tagger, an answerer, ...",
    "tune": "a fine-tuning by many settings -> a table of trials, the model of the best on dev",
    "crossval": "one labelled file, K folds -> a prediction for each row by a model that has not seen it",
    "multitask": "a BERT and several labelled files -> one encoder for all, a model each",
    "contrast": "a BERT and texts, pairs or classes -> vectors that are near where they should be",
    "evaluate": "a fine-tuned model, or the vectors of any, and a labelled file -> predictions and scores",
    "predict": "a fine-tuned model and texts without labels -> what it says of each",
    "prompt": "a BERT, a template and label words -> predictions, with no training",
    "compare": "predictions of two systems or more -> differences, intervals, p-values",
    "report": "a run, or several side by side -> one page to look at",
    "embed": "a BERT and texts -> sentence or token vectors, at any size",
    "search": "vectors and a query -> the nearest texts, or all near-duplicates",
    "contexts": "a word and texts -> its vectors in its sentences, in groups: senses",
    "fill": "likely words for every [MASK] in a text",
    "explore": "a model opened up in a browser: attention, masked words, what weighed",
    "export": "a model folder -> ONNX, checked against torch; or sentence-transformers",
    "replay": "the batch of one step of a pretraining run, made again and checked",
    "verify": "is every file as it was written, and made from what it says?",
    "bench": "how fast this machine trains, and what a run would take",
}
# The verbs whose `processes` means processes that work together.
LAUNCHED = {"pretrain", "finetune", "multitask", "tune", "crossval", "contrast", "embed", "bench"}
# What verbs read, by the option's name: a path that is mistyped is told before torch is imported, which takes seconds.
READ = ("model", "corpus", "train", "dev", "test", "data", "dev_pairs", "unlabelled", "tasks", "index", "in", "input", "contexts")

HELP = """bertlab: from your own text to your own BERT, a classifier and sentence vectors

usage: bertlab VERB [OPTIONS]        bertlab VERB --help lists a verb's options

{verbs}

options are written --name VALUE or name=VALUE, or come from YAML files: --config FILE (the command line wins)

  bertlab quickstart --out DIR
  bertlab prepare    --source PATH [PATH ...] --out CORPUS
  bertlab corpus     CORPUS [--html FILE] [--compare TOKENIZER]
  bertlab pretrain   --corpus CORPUS --out RUN [--preset mini] [--model DIR]
  bertlab finetune   --model DIR --train FILE [--dev FILE] --test FILE --out RUN
  bertlab tune       --model DIR --train FILE [--dev FILE] --test FILE --out RUN [--trials N]
  bertlab crossval   --model DIR --train FILE --out RUN [--folds 5]
  bertlab multitask  --model DIR --tasks A.yaml B.yaml [...] --out RUN
  bertlab contrast   --model DIR --corpus CORPUS --out RUN   (or --train FILE [--test FILE])
  bertlab evaluate   --model DIR --data FILE --out DIR
  bertlab predict    --model DIR --input FILE --output FILE
  bertlab prompt     --model DIR --data FILE --template "{{text}} It is about [MASK]." --words a:word b:word,word --out DIR
  bertlab compare    A B [C ...] [--metrics accuracy macro_f1] [--json FILE]
  bertlab report     RUN [RUN ...] [--out FILE] [--live SECONDS]   (or VECTORS [--label COLUMN])
  bertlab embed      --model DIR --input FILE --output FILE
  bertlab search     INDEX "a query" [--top 10]
  bertlab contexts   WORD --model DIR --in FILE [--senses K]
  bertlab fill       --model DIR --text "the [MASK] of the river"
  bertlab explore    DIR [--index VECTORS] [--out FILE --text TEXT]
  bertlab export     --model DIR --to onnx|sentence-transformers --out DIR [--quantise]
  bertlab replay     RUN --step N [--pairs 10]
  bertlab verify     DIR [DIR ...] [--strict]
  bertlab bench      [--corpus CORPUS] [--preset mini] [--price-per-hour PRICE]

  bertlab --version"""

FILES = "A YAML file of these options; may be repeated: later files win, and the command line wins over files."  # of --config

_DISK_FULL, _ENVIRONMENT = 28, 3
# What the others have to end in when one process has died or all are asked to: a step and a save. Then they are killed.
_SHUTDOWN_SECONDS = 120
_BARE = re.compile(r"^[A-Za-z_][\w.-]*=")
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


# --- the command line -------------------------------------------------------------------------------------------------------------------


def _options(verb: str, Config: type, for_help: bool) -> tuple[Any, dict[str, str]]:
    """A cyclopts app with one option a leaf of Config, its values raw text, and its parameters' dotted names."""
    import inspect
    from typing import Annotated

    from cyclopts import App, Group, Parameter

    from bertlab.schema import docs, is_flag, is_list, leaves

    known, texts = leaves(Config), docs(Config)
    assert "config" not in known, "--config names a file: a Config cannot have a field of that name"
    parameters: list[tuple[Any, Any, Parameter]] = []
    unnamed = 0  # those that the command line may give without their names: a Config declares them first
    names: dict[str, str] = {}
    groups = {"": Group("Options", sort_key=0)}
    for leaf in known.values():
        section = leaf.name.rpartition(".")[0]
        group = groups.setdefault(section, Group(section or "Options", sort_key=len(groups)))
        must = for_help and leaf.required  # when parsing, nothing must be given: a file may have it
        default = (inspect.Parameter.empty if must else None) if leaf.required else leaf.default
        parameter = Parameter(
            name=flag(leaf.name),
            negative=flag(leaf.name, "no-") if is_flag(leaf.hint) else (),
            help=texts.get(leaf.name, ""),
            group=group,
            converter=_raw,
            consume_multiple=(1, None) if is_list(leaf.hint) else None,
            required=must,
            show_default=default not in (None, "", ()),
            json_list=False,
            json_dict=False,
        )
        unnamed += leaf.positional
        names[f"option_{len(names)}"] = leaf.name
        parameters.append((leaf.hint, default, parameter))
    names[f"option_{len(names)}"] = "config"
    parameters.append(
        (tuple[str, ...], (), Parameter(name="--config", negative=(), help=FILES, show_default=False, converter=_raw, group=groups[""]))
    )

    def verb_options(**given: Any) -> None: ...

    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    verb_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, kinds[place >= unnamed], annotation=Annotated[hint, parameter], default=default)
            for place, (name, (hint, default, parameter)) in enumerate(zip(names, parameters, strict=True))
        ]
    )
    app = App(name=f"bertlab {verb}", help=VERBS[verb], help_flags=(), version_flags=(), help_format="plaintext")
    app.default(verb_options)
    return app, names


def flag(name: str, negative: str = "") -> str:
    """How the command line spells a dotted name: `a_b.c_d` is `--a-b.c-d`, with the negative `no-` `--a-b.no-c-d`."""
    section, dot, last = name.replace("_", "-").rpartition(".")
    return f"--{section}{dot}{negative}{last}"


def _raw(hint: Any, tokens: Sequence[Any]) -> tuple[str, ...]:
    return tuple(token.value for token in tokens)


def _spelled_out(args: Sequence[str], flags: set[str]) -> list[str]:
    """`a.b=c` becomes `--a.b=c`, except where it is the value of the option before it; `--a -` (standard input) becomes `--a=-`."""
    spelled: list[str] = []
    is_value = False
    for arg in args:
        if is_value and (arg == "-" or arg.startswith("-.")):
            spelled[-1] += f"={arg}"
        else:
            spelled.append(f"--{arg}" if not is_value and _BARE.match(arg) else arg)
        is_value = spelled[-1].startswith("--") and "=" not in spelled[-1] and spelled[-1].replace("_", "-") not in flags
    return spelled


def parse(verb: str, Config: type, args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The files of --config, and what the command line gives by dotted name: texts, still to be converted. Raises ConfigError."""
    from cyclopts import CycloptsError, UnknownOptionError, UnusedCliTokensError

    from bertlab.schema import is_flag, is_list, leaves, suggestion

    known = leaves(Config)
    app, names = _options(verb, Config, for_help=False)
    flags = {name for leaf in known.values() if is_flag(leaf.hint) for name in (flag(leaf.name), flag(leaf.name, "no-"))}
    try:
        _, bound, _ = app.parse_args(_spelled_out(args, flags), print_error=False, exit_on_error=False, verbose=False)
    except UnknownOptionError as error:
        option = (error.token.keyword or error.token.value).partition("=")[0]
        near = suggestion(option.lstrip("-").replace("-", "_"), [*known, "config"])
        near = re.sub(r"'(.+)'", lambda name: flag(name[1]), near)
        raise ConfigError(f"unknown option {option}{near or f': bertlab {verb} --help lists them'}") from None
    except UnusedCliTokensError as error:
        word = (error.unused_tokens or [""])[0]
        wanted = ", ".join(flag(leaf.name) for leaf in known.values() if leaf.required and not leaf.positional)
        listed = f"{verb} wants {wanted}, and " * bool(wanted) + f"bertlab {verb} --help lists them"
        raise ConfigError(f"what is {word!r}? Options are written --name VALUE or name=VALUE: {listed}") from None
    except CycloptsError as error:
        raise ConfigError(str(error)) from None
    given = {names[parameter]: value for parameter, value in bound.arguments.items()}
    files = list(given.pop("config", ()))
    return files, {name: value[0] if isinstance(value, tuple) and not is_list(known[name].hint) else value for name, value in given.items()}


# --- the world a run starts in ----------------------------------------------------------------------------------------------------------


def _quiet() -> list[str]:
    """Set the environment before anything heavy is imported: no telemetry, no network. Returns the network's names that we set."""
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "true"}
    # OpenMP's threads wait by spinning, by default so long that two jobs on two cores ran 20 times slower each (docs/results.md).
    for name, value in (quiet | {"GOMP_SPINCOUNT": "3000"}).items():
        os.environ.setdefault(name, value)
    ours = [name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    return ours


def _names_remote(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_names_remote, value.values()))
    return any(map(_names_remote, value)) if isinstance(value, list) else isinstance(value, str) and value.startswith("hf:")


def _started() -> int | None:
    """How many processes a launcher has started, or None where there was no launcher. The names are those that accelerate reads."""
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        if text := os.environ.get(name):
            if not text.isdecimal():
                raise ConfigError(f"the environment says {name}={text}, which is no number of processes: unset it")
            return int(text)
    # `accelerate launch --cpu` starts one process whatever number it was asked for, and leaves no WORLD_SIZE, only settings of its own.
    return 1 if "LOCAL_RANK" in os.environ or "ACCELERATE_DYNAMO_BACKEND" in os.environ else None


def _launch(verb: str, args: Sequence[str], asked: int | None, micro_batches: int, look: Callable[[], None]) -> int | None:
    """Start `asked` processes by torchrun, after a first `look`, and return their exit code; None in a world that has them already.

    Raises ConfigError in any other world, and for `micro_batches` (0: the verb has none) that so many processes cannot share.
    """
    started = _started()
    instead = f"start `bertlab {verb} --processes N` by itself, or `torchrun --nproc_per_node N -m bertlab {verb}`"
    if asked is None:
        # Asked for several, `accelerate launch --cpu` also leaves the address at which they would have met.
        if started == 1 and "ACCELERATE_DYNAMO_BACKEND" in os.environ and "MASTER_ADDR" in os.environ and "LOCAL_RANK" not in os.environ:
            raise ConfigError(f"accelerate was asked for several processes and started 1 (with --cpu it always does): {instead}")
        return None
    if asked < 1:
        raise ConfigError(f"processes wants 1 or more, not {asked}")
    if started is not None and started != asked:
        raise ConfigError(f"asked for {_processes(asked)}, the launcher started {started}: {instead}")
    if started is None and asked > 1:
        if micro_batches % asked:
            from bertlab.training.processes import share_of

            share_of(micro_batches, asked)  # what each of them would say
        look()
        return _torchrun(asked, ["-m", "bertlab", verb, *args])
    return None


def _processes(number: int) -> str:
    return f"{number} process" + "es" * (number != 1)


def _torchrun(number: int, command: list[str]) -> int:
    """Run a command in `number` processes; the exit code is that of the first to fail, which has said why. Signals are passed on."""
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # Without this torchrun gives every process one thread, and says so in six lines.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has only the latter
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // number)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_SECONDS))
    signals = ",".join(number.name for number in (signal.SIGINT, *PREEMPTION))
    logging.disable(logging.CRITICAL)  # its own report of a failure is thirty lines beside our one
    try:
        torchrun(["--standalone", "--nproc_per_node", str(number), "--signals-to-handle", signals, *command])
    except SignalException as error:
        return INTERRUPTED if error.sigval == signal.SIGINT else PREEMPTED
    except ChildFailedError as error:
        code = int(error.get_first_failure()[1].exitcode)
        return code if code > 0 else 128 - code  # ended by a signal
    finally:
        logging.disable(logging.NOTSET)
    return 0


# --- the whole --------------------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (sys.argv without its first word by default) and return the exit code."""
    code = _guarded(list(sys.argv[1:] if argv is None else argv))
    if argv is None:  # all is done and written: being asked to end, while the interpreter takes itself apart, changes nothing of that
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _has_joined_others() or (argv is None and "bertlab.pages.serving" in sys.modules):
        # All is written and every process has said so. The threads that connect them, and those that computed for a page, can abort an
        # interpreter that takes itself apart ("terminate called without an active exception", rare): leave without that.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _has_joined_others() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()


def _guarded(args: list[str]) -> int:
    try:
        with raise_when_asked():
            return _run(args)
    except BertlabError as error:
        return _say(str(error), error.exit_code)
    except BrokenPipeError:  # whoever read the output has seen enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say(f"{where}the disk is full: make room, then start again", _DISK_FULL)
        return _say(where + (error.strerror or str(error) or type(error).__name__), _ENVIRONMENT)
    except KeyboardInterrupt as error:
        code = PREEMPTED if isinstance(error, Preempted) else INTERRUPTED
        keeps = args[:1] in (["finetune"], ["multitask"], ["tune"], ["crossval"], ["predict"], ["embed"])
        goes_on = ": what was finished is kept, and the same command does the rest" * keeps
        return _say(str(error) or f"stopped{goes_on}", code) if os.environ.get("RANK", "0") == "0" else code


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<12}{line}" for verb, line in VERBS.items())))
        return 0
    if args[0] in ("--version", "-V"):
        from bertlab import __version__

        print(f"bertlab {__version__}")
        return 0
    verb, rest = args[0], args[1:]
    if verb not in VERBS:
        from bertlab.schema import suggestion

        raise ConfigError(f"unknown verb {verb!r}{suggestion(verb, VERBS) or ': bertlab --help lists them'}")
    offline = _quiet()
    module = module_of(verb)
    if "-h" in rest or "--help" in rest:
        _options(verb, module.Config, for_help=True)[0].help_print([])
        return 0
    from bertlab.config import load, to_dict

    files, given = parse(verb, module.Config, rest)
    config = load(module.Config, files, given)
    _refuse_absent(to_dict(config))
    if _names_remote(to_dict(config)):
        for name in offline:
            del os.environ[name]
    if verb in LAUNCHED:
        look = partial(_carry_out, getattr(module, "look", lambda config: None), config)
        if (code := _launch(verb, rest, config.processes, getattr(config, "micro_batches", 0), look)) is not None:
            return code
    _carry_out(module.run, config)
    return 0


def _refuse_absent(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a file or folder that is to be read and is not there."""
    if (out := settings.get("out")) and Path(out).is_dir():
        return  # a run that goes on, or is finished: the verb knows what it still needs
    for name in READ:
        given = settings.get(name)
        for path in given if isinstance(given, list) else [given]:
            if path and not path.startswith(("hf:", "-")) and not Path(path).exists():  # - is standard input
                from bertlab.model.facts import no_model, nothing_at

                raise ConfigError(no_model(path) if name == "model" else f"{nothing_at(path)}: correct {flag(name)}")


def module_of(verb: str) -> ModuleType:
    """The module of a verb, imported now: its Config and run."""
    return importlib.import_module(f"bertlab.{verb}" if verb in ("quickstart", "bench") else f"bertlab.verbs.{verb}")


def _carry_out(act: Callable[[Any], Any], config: Any) -> None:
    """Do what a verb does, or its first look. Say which option chooses a column that is not there, what to change where memory ran out,
    and where the disk is full name the output folder if nobody has."""
    try:
        act(config)
    except ColumnError as error:
        if not error.role:
            raise
        raise ColumnError(f"{error}: {_other_column(config, error)}") from error
    except Exception as error:
        if _has_lost_others(error):
            raise LostError("another process of this run has died: the same command goes on from the last checkpoint") from error
        if _out_of_memory(error):
            change = f"lower micro_tokens ({config.micro_tokens})" if hasattr(config, "micro_tokens") else "use shorter texts"
            keep = ", and raise micro_batches to keep the step as large" if hasattr(config, "micro_batches") else ""
            less = "; recompute=true also helps" if hasattr(config, "recompute") else ""
            raise ConfigError(f"out of memory: {change}{keep}{less}") from error
        # safetensors and others pass the system's words on in exceptions of their own.
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
        if not full or getattr(error, "filename", None):
            raise
        place = getattr(config, "out", None) or getattr(config, "output", None) or os.curdir
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place) from error


def _other_column(config: Any, error: ColumnError) -> str:
    """What to do about a missing column: name another by the option that its role has, or rename it where the verb has none."""
    for name in (error.role, f"{error.role}_column"):
        asked = getattr(config, name, ())
        if asked is None or asked == error.column or (isinstance(asked, tuple) and error.column in asked):
            return f"name the right one with {flag(name)}"
    return f"rename the right one to '{error.column}'"


def _has_lost_others(error: Exception) -> bool:
    """Several processes that wait for each other see the death of one as a closed connection; gloo's comes in a plain RuntimeError."""
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "remote process exited",
        "NCCL communicator was aborted",
        "[enforce fail",
    )
    return _has_joined_others() and isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _out_of_memory(error: Exception) -> bool:
    """torch has a class for the GPU's memory; of the CPU's it only speaks."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def _say(message: str, code: int) -> int:
    """One line on stderr, whatever the message holds: a file's name may carry line breaks and terminal commands."""
    rank = os.environ.get("RANK")
    if rank not in (None, "0"):
        # Rank 0 has most likely said the same: torchrun then ends this process during the wait. Where it has not, the line must be seen.
        time.sleep(2)
    print("bertlab: " + " ".join(_CONTROL.sub(" ", message).split()), file=sys.stderr)
    if rank == "0" and code == LostError.exit_code:
        # torchrun looks ten times a second and returns the code of the first process that it sees ended: let it see the one that died.
        time.sleep(1)
    return code
