"""bertlab embed: texts -> vectors, in the order of the texts, at any size.

    bertlab embed --model DIR --input FILE --output FILE

By the output's name: .parquet (id, vector) or .npy (a row a text) with the ids beside it in .ids.txt. FILE.manifest.json binds them to the
model and the texts. What is computed is kept in parts in a hidden folder beside the output until the file is made of them, so that the same
command goes on after a cut-off; the file is the same bytes whatever happened on the way, and for any number of threads and processes.
"""

import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.cluster import Cluster
from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError
from bertlab.model.facts import Pooling

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from bertlab.corpus.sources import File
    from bertlab.corpus.units import SourceFile
    from bertlab.embedding.engine import Embedder, What
    from bertlab.embedding.job import Kept, Planned, Texts


SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """A model folder (RUN/model), a published BERT or sentence-transformers folder, or hf:NAME."""
    input: str
    """Texts: a text file (a line is a text), CSV, TSV, JSONL or Parquet with a text column, also compressed; a folder of these; or - for
    standard input (-.jsonl and so on say what it holds)."""
    output: str
    """File to write: NAME.parquet (id, vector) or NAME.npy (with NAME.ids.txt beside it); one of an earlier call is replaced."""
    text: str = "text"
    """Column of the text."""
    id: str = "id"
    """Column of the id; without one it is FILE:LINE."""
    pooling: Pooling | None = None
    """One vector from a text's tokens; default: what the model folder records, else mean. Raw cls is poor unless trained for it."""
    layer: tuple[int, ...] = ()
    """Layers whose states are taken, their mean where there are several: 0 is the embeddings, -1 the last (default)."""
    tokens: bool = False
    """The vectors of all tokens instead of one a text: rows id, place, token, vector."""
    normalize: bool | None = None
    """Scale every vector to length 1; default: what the model folder records, else not."""
    dims: int | None = None
    """Keep the first numbers of each vector (Matryoshka), before it is scaled."""
    numbers: Literal["float32", "float16", "int8", "binary"] = "float32"
    """How numbers are stored: 32, 16, 8 or 1 bit each; what that loses is measured on the vectors written."""
    dev_pairs: str | None = None
    """Pairs that a person scored (columns text, text_b, and score or label): says which pooling agrees best with the scores."""
    part: int = 4096
    """Texts sorted by length and kept together: what a cut-off costs at most."""
    processes: int | None = None
    """Processes that share the work, the same bytes for any number; default: as many as a launcher (torchrun) started."""
    cluster: Cluster = field(default_factory=Cluster)
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it, at a cosine of about 0.9999 to fp32."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if Path(self.output).suffix not in (".parquet", ".npy"):
            raise ConfigError(f"output={self.output}: name it .parquet or .npy")
        if self.tokens and Path(self.output).suffix == ".npy":
            raise ConfigError(f"output={self.output}: vectors of tokens have columns: name it .parquet")
        if self.tokens and self.pooling is not None:
            raise ConfigError(f"pooling={self.pooling} makes one vector of a text's tokens: leave it or --tokens out")
        if self.part < 1 or (self.dims is not None and self.dims < 1):
            raise ConfigError("part and dims are 1 or more")
        if self.numbers == "binary" and (self.dims or 8) % 8:
            raise ConfigError(f"dims={self.dims}: binary vectors are whole bytes, give a multiple of 8")
        if self.cluster.engine and (self.processes or 1) > 1:
            raise ConfigError("processes and cluster.engine are two ways to share the work: give one")


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, files and first rows."""
    from bertlab.corpus.labelled import read_scored_pairs
    from bertlab.corpus.texts import texts
    from bertlab.disk import refuse_unwritable
    from bertlab.embedding.parts import refuse_foreign
    from bertlab.model.facts import fetch, load_config

    output = Path(config.output)
    refuse_unwritable(output)
    refuse_foreign(output, config.input, work_of(output))
    load_config(fetch(config.model))
    if not _is_stdin(config.input):
        for file in _named(config.input):
            next(texts([file], text=config.text, id=config.id, dialect=config.dialect), None)
    if config.dev_pairs:
        read_scored_pairs(config.dev_pairs, config.dialect, most=1)


def work_of(output: Path) -> Path:
    """The hidden folder that parts are kept in until the file is made of them."""
    return output.parent / f".embedding-{output.name}"


def run(config: Config) -> dict[str, Any]:
    """Write the vectors; returns what their manifest says: rows, dims, tokens, truncated, loss, ... ({} where others write it).

    Raises ConfigError (names, folders), DataError (texts), CorruptError (model), LockedError.
    """
    look(config)

    from bertlab.disk import locked
    from bertlab.embedding.parts import refuse_foreign, tidy
    from bertlab.training import processes

    output = Path(config.output)
    new_folder = not output.parent.exists()
    work = work_of(output)
    accelerator = processes.start(config.processes, config.device)
    try:
        if not accelerator.is_main_process:
            accelerator.wait_for_everyone()  # until the first has the lock, and standard input in a file
            return _embed(config, output, work, _files(config.input, work, main=False), accelerator)
        with locked(work):
            refuse_foreign(output, config.input, work)
            _clean(work, output, config.numbers)
            try:
                files = _files(config.input, work, main=True)
                accelerator.wait_for_everyone()
                return _embed(config, output, work, files, accelerator)
            finally:
                tidy(work)
    finally:
        if new_folder and output.parent.is_dir() and not any(output.parent.iterdir()):
            output.parent.rmdir()


def _files(source: str, work: Path, main: bool) -> list["SourceFile"]:
    """The files of the input, hashed by the first process; standard input is first written to a file in `work`."""
    from bertlab.corpus.sources import File
    from bertlab.corpus.units import SourceFile, source_files

    named = [] if _is_stdin(source) else _named(source)
    if main:
        return source_files(source, 0, work)
    spooled = work / f"stdin{source[1:]}"
    return [SourceFile(source, 0, file) for file in named or [File(spooled, spooled.name)]]


def _is_stdin(source: str) -> bool:
    return source == "-" or source.startswith("-.")


def _named(source: str) -> "list[File]":
    """The files of an input that is not standard input. Raises ConfigError for one that has none."""
    from bertlab.corpus.sources import files_of

    files = files_of(source)
    if files is None:
        what = "is a saved dataset: give its texts as JSONL, CSV or Parquet" if Path(source).exists() else "does not exist"
        raise ConfigError(f"{source} {what}: give a file or a folder of texts (text, JSONL, CSV, TSV, Parquet), or - for standard input")
    return files


def _embed(config: Config, output: Path, work: Path, files: list["SourceFile"], accelerator: Any) -> dict[str, Any]:
    """What every process does, with its share of the computing; the first makes the file."""
    from bertlab.corpus.files import kind_of
    from bertlab.disk import MANIFEST
    from bertlab.embedding import job as jobs
    from bertlab.embedding.engine import What, open_embedder
    from bertlab.embedding.job import Kept, Texts
    from bertlab.embedding.parts import replaced, tidy
    from bertlab.model.facts import model_origin
    from bertlab.pages.screen import inert
    from bertlab.progress import progress, silent

    main, several = accelerator.is_main_process, accelerator.num_processes > 1
    embedder = open_embedder(config.model, str(accelerator.device) if several else config.device, config.precision)
    recorded = embedder.recorded
    pooling = None if config.tokens else config.pooling or recorded.usable_pooling(config.model)
    what = What(pooling=pooling, layers=tuple(embedder.frozen.layer_numbers(config.layer)))
    normalize = recorded.normalize and not config.tokens if config.normalize is None else config.normalize
    kept = Kept(normalize=normalize, dims=config.dims, numbers=config.numbers)
    width = jobs.stored_width(embedder, kept)  # refuses what this model does not have
    part = max(1, config.part // jobs.RUN_OF_TOKENS) if config.tokens else config.part
    source = Texts(files=tuple(each.file for each in files if each.file), text=config.text, id=config.id, part=part, dialect=config.dialect)
    origins = {"model": model_origin(config.model), "input": _origin(config, files)}
    job = jobs.job_sha256(embedder, origins["model"]["files"], what, kept)
    advice = _advise(config, embedder, pooling) if main else {}
    with progress("reading", "texts") if main else silent() as report:
        planned = jobs.plan(source, job, lambda rows: report(rows, ""))
    plan = jobs.plan_sha256(planned)
    folder, manifest = work / job[:32], output.with_name(f"{output.name}.{MANIFEST}")
    folder.mkdir(exist_ok=True)
    facts, lacking = _finished(manifest, plan), jobs.missing(planned, folder)
    accelerator.wait_for_everyone()  # all have seen the same
    if main and facts is None:
        print("".join(f"{inert(line)}\n" for line in replaced(output, "vectors", origins)), end="", flush=True)
    if facts is None and config.cluster.engine:
        if not _on_cluster(config, planned, folder.absolute(), source, job, what, kept):
            return {}
    elif facts is None:
        share = lacking[accelerator.process_index :: accelerator.num_processes]
        _compute(config, embedder, source, job, share, len(planned) - len(lacking), folder, what, kept, main)
        while main and jobs.missing(planned, folder):  # the others' last parts; one that dies takes this process along
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if not main:
        return {}
    if facts is None:
        manifest.unlink(missing_ok=True)  # of an earlier call
        counted = jobs.assemble(planned, folder, output, width, what, kept)
        how: dict[str, Any] = {"pooling": pooling, "layers": list(what.layers), "normalize": normalize, "numbers": config.numbers}
        how |= {"dims": config.dims or embedder.frozen.config.hidden_size, "precision": config.precision, "max_length": embedder.max_length}
        facts = _bind(manifest, output, config, {"from": origins, "plan": plan} | how | counted | advice)
    tidy(work, all=True)
    print(_summary(facts, output, lines=any(kind_of(file.path) == "text" for file in source.files)))
    return facts


def _advise(config: Config, embedder: "Embedder", pooling: Any) -> dict[str, Any]:
    """Warn of a pooling that is known to be poor, and compare poolings on pairs where there are some."""
    from bertlab.embedding.advice import compared, warning
    from bertlab.pages.screen import table

    poor = warning(pooling, embedder.recorded)
    if poor:
        print(poor, file=sys.stderr)
    if not config.dev_pairs:
        return {}
    found = compared(embedder, *_scored_pairs(config.dev_pairs, config.dialect))
    rows = [[options, f"{each.spearman:.3f}", f"{each.low:.3f} to {each.high:.3f}"] for options, each in found.items()]
    print(table(["best first, by Spearman with the scores of the pairs", "", "95 %"], rows))
    return {"dev_pairs": {options: vars(each) for options, each in found.items()}}


def _scored_pairs(path: str, dialect: Dialect) -> tuple[list[str], list[str], list[float]]:
    """Texts, second texts and scores. Raises DataError for a pair without a second text, or a score that is no number."""
    import math

    from bertlab.corpus.labelled import read_scored_pairs
    from bertlab.errors import DataError

    pairs = read_scored_pairs(path, dialect)
    assert pairs.texts_b is not None and pairs.labels is not None
    scores = []
    for id, label in zip(pairs.ids, pairs.labels, strict=True):
        try:
            scores.append(float(label))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise DataError(f"{path}: the score of {id} is {label!r}: give a number")
    return pairs.texts, pairs.texts_b, scores


def _compute(
    config: Config,
    embedder: "Embedder",
    source: "Texts",
    job: str,
    share: list["Planned"],
    before: int,
    folder: Path,
    what: "What",
    kept: "Kept",
    main: bool,
) -> None:
    from bertlab.embedding import job as jobs
    from bertlab.progress import averaged, progress, silent

    if before and main:
        print(f"going on: {before:,} parts were there already", file=sys.stderr)
    texts, speed = 0, averaged("tokens")
    watch = progress("embedding", "texts", sum(each.rows for each in share)) if main else silent()
    with watch as report:

        def passing(more_texts: int, more_tokens: int) -> None:
            nonlocal texts
            texts += more_texts
            report(texts, speed(more_tokens))

        jobs.compute(source, job, share, folder, embedder, what, kept, passing)


def _on_cluster(config: Config, planned: list["Planned"], folder: Path, source: "Texts", job: str, what: "What", kept: "Kept") -> bool:
    """Whether all is computed; False while a job is in Slurm's queue."""
    from bertlab.corpus.cluster import refuse_for_slurm, run_on_cluster
    from bertlab.embedding.cluster import Embedding

    if config.cluster.engine == "slurm":
        refuse_for_slurm([config.input] if config.input.startswith("-") else [], folder)
    step = Embedding(planned, folder, source, job, what, kept, model=config.model, device=config.device, precision=config.precision)
    return run_on_cluster(step, config.cluster)


# ---- the manifest


def _finished(manifest: Path, plan: str) -> dict[str, Any] | None:
    """The manifest of an output that was made by the same plan and is still what was written."""
    from bertlab.disk import read_sealed, verify_files
    from bertlab.errors import BertlabError

    try:
        facts = read_sealed(manifest)
        verify_files(manifest.parent, facts["files"])
    except (BertlabError, KeyError):
        return None
    return facts if facts.get("plan") == plan else None


def _origin(config: Config, files: list["SourceFile"]) -> dict[str, Any]:
    """Which texts: where they were, and their sha256."""
    origin: dict[str, Any] = {"path": config.input, "text": config.text, "id": config.id, **asdict(config.dialect)}
    if Path(config.input).is_dir():
        return origin | {"files": {each.file.path.relative_to(config.input).as_posix(): each.sha256 for each in files if each.file}}
    return origin | {"sha256": files[0].sha256}


def _bind(manifest: Path, output: Path, config: Config, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest: where the vectors come from, how they were made, the sha256 of their files."""
    from bertlab.disk import hash_some, write_sealed
    from bertlab.embedding.parts import beside

    facts |= {"files": hash_some(output.parent, [path.name for path in beside(output, config.numbers)])}
    write_sealed(manifest, facts)
    return facts


def _summary(facts: dict[str, Any], output: Path, *, lines: bool) -> str:
    """`lines`: texts are lines of text files, or some are."""
    from bertlab.pages.screen import counted

    cut = f", {counted(facts['truncated'], 'text')} truncated to {facts['max_length']} tokens" if facts["truncated"] else ""
    blank = "; blank lines have vectors too, so that rows and lines agree" if lines else ""
    empty = f", {counted(facts['empty'], 'text')} without a word{blank}" if facts["empty"] else ""
    kind = "tokens" if facts["pooling"] is None else f"{facts['pooling']} pooling"
    said = [f"{counted(facts['rows'], 'vector')} of {facts['dims']} numbers ({kind}{cut}{empty}): {output}"]
    if loss := facts["loss"]:
        line = f"{facts['numbers']}: cosine with the exact numbers {loss['mean_cosine']:.5f} (lowest {loss['lowest_cosine']:.5f})"
        if loss["spearman"] is not None:
            line += f", rank correlation of the similarities of {loss['pairs']:,} neighbours {loss['spearman']:.4f}"
        said.append(line)
    return "\n".join(said)


def _clean(work: Path, output: Path, numbers: Any) -> None:
    """Take away what a killed process had begun to write."""
    from bertlab.disk import MANIFEST, TEMPORARY
    from bertlab.embedding.parts import beside

    ours = {path.name for path in (*beside(output, numbers), output.with_name(f"{output.name}.{MANIFEST}"))}
    for place in (*work.glob(f"*/{TEMPORARY}*"), *output.parent.glob(f"{TEMPORARY}*")):
        if place.parent != output.parent or place.name.removeprefix(TEMPORARY).partition("-")[2] in ours:  # .tmp-<32 digits>-NAME
            place.unlink()
