"""bertlab evaluate: a fine-tuned model and a labelled file -> predictions.parquet and metrics.json, bound to both by manifest.json.

    bertlab evaluate --model DIR --data FILE --out DIR
    bertlab evaluate --task similarity|retrieval|clustering|probe --model DIR --data FILE --out DIR

With --task it is a model's vectors that are judged, of any model folder: scored pairs, queries and the texts that belong to them, labelled
texts put into groups, or a logistic regression on vectors of train (docs/embeddings.md).
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import BertlabError, ColumnError, ConfigError, DataError
from bertlab.model.facts import Pooling

if TYPE_CHECKING:
    from bertlab.embedding.judging import VectorsOf
    from bertlab.tasks.contract import Gold, Labels, Outputs, Task
    from bertlab.tasks.reading import Columns

PREDICTIONS = "predictions.parquet"
OF_VECTORS = ("similarity", "retrieval", "clustering", "probe")
# what is of use to some tasks only; None is the task of a fine-tuned model
ONLY_FOR: dict[str, tuple[str | None, ...]] = {
    "train": (None, "probe"),
    "label_separator": (None,),
    "label_columns": (None,),
    "corpus": ("retrieval",),
    "relevant": ("retrieval",),
    "vectors": ("clustering", "probe"),
    "pooling": OF_VECTORS,
    "layer": OF_VECTORS,
    "dims": OF_VECTORS,
}


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str | None = None
    """The model folder of a fine-tuned model (RUN/model of a fine-tuning run); it knows its kind of task. With --task any model folder."""
    data: str
    """Labelled file: CSV, TSV, JSONL or Parquet."""
    out: str
    """Folder for predictions.parquet, metrics.json, mistakes.jsonl and figures; those of an earlier call are replaced."""
    task: Literal["similarity", "retrieval", "clustering", "probe"] | None = None
    """Judge vectors: pairs with a number as label; pairs of a query and a text that belongs to it; labels to be found as groups; labels to
    be told by a logistic regression on the vectors of --train."""
    text: str | None = None
    """Column of the text: by default that of the fine-tuning, in a file without it text; for tokens tokens, for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: by default likewise, else text_b, which is used without asking; for answers question."""
    label: str | None = None
    """Column of the label, the list of labels or the number: by default likewise, else label, or score in a file without it; for tokens
    tags, for answers answers."""
    id: str = "id"
    """Column of the id in `data`, and for probe in `train`; without one it is FILE:LINE. With --vectors the one that `bertlab embed` was
    given: by the id a text has its vector."""
    train: str | None = None
    """Labelled file that the model was trained on: its texts are looked for in `data`. Default: the one its run names, if still there. For
    probe what the logistic regression learns from."""
    label_separator: str | None = None
    """What stands between several labels in one cell, as | in a|b: by default what did in the fine-tuning."""
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1 that are a label each: by default those of the fine-tuning."""
    corpus: str | None = None
    """Retrieval: further texts of the pool, a text file or a table; without it the pool is all second texts."""
    relevant: str | None = None
    """Retrieval: the label of pairs that belong together, where not all do; the second texts of other pairs are in the pool alone."""
    vectors: tuple[str, ...] = ()
    """Clustering and probe: files of `bertlab embed` with the vectors of the texts, found by id, instead of --model."""
    pooling: Pooling | None = None
    """One vector from a text's tokens; default: what the model folder records, else mean."""
    layer: tuple[int, ...] = ()
    """Layers whose states are taken, their mean where there are several: 0 is the embeddings, -1 the last (default)."""
    dims: int | None = None
    """Judge the first numbers of each vector (Matryoshka)."""
    seed: int = 0
    """Of the beginnings of k-means, and of the texts drawn to see how vectors lie."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it; probabilities move by a few thousandths. auto: where it does."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, tasks in ONLY_FOR.items():
            if getattr(self, name) not in (None, ()) and self.task not in tasks:
                those = " or ".join(f"--task {task}" if task else "a fine-tuned model (no --task)" for task in tasks)
                raise ConfigError(f"{name} is for {those}: leave it out")
        if (self.model is None) == (not self.vectors):
            raise ConfigError("give --model DIR, or for --task clustering or probe --vectors FILE: one of the two")
        if self.vectors and (self.pooling or self.layer or self.dims):
            raise ConfigError("pooling, layer and dims are for --model: the vectors of a file are what they are")
        if self.task == "probe" and self.train is None:
            raise ConfigError("a probe learns from the vectors of train: give --train FILE")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give a number from 0 to 2,147,483,647")


def run(config: Config) -> dict[str, Any]:
    """Score the file, write the outputs, print a table; returns the metrics.

    Raises ConfigError (folders), DataError (columns, a label the model does not know), CorruptError.
    """
    from bertlab.disk import MANIFEST, refuse_file, refuse_mixed
    from bertlab.pages.evaluation import LEFT
    from bertlab.training.chain import kind_of

    out = Path(config.out)
    refuse_file(out)
    if (out / "config.yaml").exists():
        raise ConfigError(f"{out} is a run folder, with metrics of its own: choose another --out")
    if (out / MANIFEST).is_file() and (kind := kind_of(out)) != "predictions":  # which a manifest of ours would take from it
        raise ConfigError(f"{out} is a folder of another kind ({kind}): choose another --out")
    refuse_mixed(out, LEFT)
    return {None: _fine_tuned, "probe": _probe}.get(config.task, _judged)(config, out)


# ---- answers


def _columns(config: Config) -> "Columns":
    from bertlab.tasks.reading import Columns

    return Columns(config.text, config.text_b, config.label, config.label_separator, config.id, config.dialect, config.label_columns)


def _fine_tuned(config: Config, out: Path) -> dict[str, Any]:
    from bertlab.model.facts import fetch, load_facts
    from bertlab.tasks.first_look import look_at
    from bertlab.tasks.reading import columns_for, form_of_model

    assert config.model is not None
    folder, asked = fetch(config.model), _columns(config)
    form = form_of_model(folder)
    with _labels_wanted():
        columns = columns_for(folder, config.data, asked)
        look_at(form, config.data, columns)
    of_train = columns_for(folder, config.train, replace(asked, id="id")) if config.train else asked  # which may have other ids
    if config.train:
        look_at(form, config.train, of_train)

    from bertlab.inference import LoadedModel  # from here on with torch
    from bertlab.tasks import measures
    from bertlab.tasks.choosing import of_folder
    from bertlab.tasks.data import what_was_cut

    task, labels = of_folder(folder)
    with _labels_wanted():
        rows = task.read(config.data, columns)
    try:
        gold = task.gold(rows, labels)
    except DataError as error:
        raise DataError(f"{error} (the model's classes are those it was trained on)") from None
    train = (config.train, of_train) if config.train else measures.training_file(folder)
    leakage = _leaks(task.read(*train) if train else None, rows)
    model = LoadedModel(folder, config.device, config.precision)
    examples = model.encode_rows(rows)
    outputs = model.outputs_of(examples, "evaluating")
    further = {"leakage": leakage, "truncated": examples.num_truncated, "cut": what_was_cut(examples)}
    learnt, cut = load_facts(folder).get(measures.LEARNT), examples.num_truncated
    said = [f"{cut:,} of {len(rows):,} texts were longer than {model.max_length} tokens and truncated"] if cut else []
    return _answers(config, out, task, rows, gold, outputs, labels, learnt, further, said)


@contextmanager
def _labels_wanted() -> Iterator[None]:
    """Say of a file without labels which verb wants none."""
    try:
        yield
    except ColumnError as error:
        if error.role in ("label", "label_columns"):
            raise DataError(f"{error}: name the right one with --label; to label texts that have none there is bertlab predict") from None
        raise


def _probe(config: Config, out: Path) -> dict[str, Any]:
    from bertlab.tasks.reading import read_texts

    assert config.train is not None
    _look_at_model(config)
    train, rows = (read_texts(path, _columns(config)) for path in (config.train, config.data))

    from bertlab.embedding.judging import of_labels, refuse_misfit  # from here on with torch
    from bertlab.evaluation.probe import linear_probe
    from bertlab.pages.evaluation import baseline_lines
    from bertlab.tasks.single_label import SINGLE_LABEL

    refuse_misfit(train, pairs=False)
    refuse_misfit(rows, pairs=False)
    labels = SINGLE_LABEL.learn(train)
    known, gold = SINGLE_LABEL.gold(train, labels), SINGLE_LABEL.gold(rows, labels)
    leakage = _leaks(train, rows)
    with _vectors(config) as (vectors_of, facts):
        of_train, of_test = vectors_of(train.ids, train.texts), vectors_of(rows.ids, rows.texts)
    outputs = linear_probe(of_train, known, of_test, len(labels.names))
    answered = SINGLE_LABEL.baselines(train, known, rows, labels)
    baselines = {name: SINGLE_LABEL.metrics(gold, its, labels) for name, its in answered.items()}
    further = {"leakage": leakage, "vectors": facts, "geometry": of_labels(rows, gold, of_test, config.seed), "baselines": baselines}
    return _answers(config, out, SINGLE_LABEL, rows, gold, outputs, labels, None, further, baseline_lines(SINGLE_LABEL, baselines))


def _leaks(train: Any, rows: Any) -> dict[str, Any] | None:
    """What of the rows is in train, said before any number."""
    from bertlab.pages.evaluation import leak_lines
    from bertlab.tasks import measures

    leakage = measures.leakage(train, rows, "the whole file")  # a run may have cut dev off it, and says of the rest
    print("\n".join(leak_lines(leakage)), flush=True)
    return leakage


def _answers(
    config: Config,
    out: Path,
    task: "Task",
    rows: Any,
    gold: "Gold",
    outputs: "Outputs",
    labels: "Labels",
    learnt: dict[str, Any] | None,
    further: dict[str, Any],
    said: list[str],
) -> dict[str, Any]:
    """What is measured, written and said of a task's answers, whoever gave them."""
    from bertlab.pages.evaluation import mistake_lines, probability_lines, vector_lines, weak_lines, write_mistakes
    from bertlab.pages.figures import write_figures
    from bertlab.pages.screen import score_table
    from bertlab.tasks import measures
    from bertlab.tasks.contract import calibrated_of

    labels = measures.with_temperature(labels, learnt)
    probabilities = measures.of_probabilities(task, gold, outputs, labels, learnt)
    mistakes = measures.mistakes_of(task, rows, gold, outputs, labels)
    metrics = task.metrics(gold, outputs, labels) | {
        "intervals": task.intervals(gold, outputs, labels) | probabilities.pop("intervals", {}),
        **probabilities,
        **further,
        **measures.suspects_of(task, rows, gold, outputs, labels)[1],
        "task": task.name,
        "labels": labels.names,
    }

    def write() -> None:
        write_mistakes(out, mistakes)
        if task.exclusive is not None:
            truth, calibrated = measures.is_gold(task, gold, labels), calibrated_of(outputs, labels, exclusive=task.exclusive)
            write_figures(out, truth, outputs, labels.names, exclusive=task.exclusive, calibrated=calibrated)
        task.write(out / PREDICTIONS, rows, gold, outputs, labels)

    lines = [
        score_table(metrics),
        *probability_lines(metrics),
        *vector_lines(metrics),
        *mistake_lines(mistakes),
        *weak_lines(metrics),
        *said,
    ]
    return _leave(config, out, metrics, write, lines)


# ---- vectors


def _judged(config: Config, out: Path) -> dict[str, Any]:
    from bertlab.corpus.labelled import label_column, read_labelled
    from bertlab.corpus.relevance import retrieval_of

    _look_at_model(config)
    text, dialect = config.text or "text", config.dialect
    label = label_column(config.data, config.label, scored=config.task == "similarity", dialect=dialect)
    needs_label = config.task != "retrieval" or config.relevant is not None
    rows = read_labelled(config.data, text=text, text_b=config.text_b, label=label, id=config.id, needs_label=needs_label, dialect=dialect)
    corpus = read_labelled(config.corpus, text=text, needs_label=False, dialect=dialect) if config.corpus else None
    asked = retrieval_of(rows, corpus, config.relevant) if config.task == "retrieval" else None

    from bertlab.embedding import judging  # from here on with torch
    from bertlab.pages.evaluation import vector_lines

    judging.refuse_misfit(rows, pairs=config.task != "clustering")
    with _vectors(config) as (vectors_of, facts):
        if asked is not None:
            metrics, write = judging.retrieval(asked, vectors_of, config.seed)
        else:
            judge = judging.similarity if config.task == "similarity" else judging.clustering
            metrics, write = judge(rows, vectors_of, config.seed)
    metrics |= {"vectors": facts, "task": config.task}
    return _leave(config, out, metrics, lambda: write(out / PREDICTIONS), vector_lines(metrics))


def _look_at_model(config: Config) -> None:
    from bertlab.model.facts import fetch, load_config

    if config.model is not None:
        load_config(fetch(config.model))


@contextmanager
def _vectors(config: Config) -> Iterator[tuple["VectorsOf", dict[str, Any]]]:
    """Where vectors come from, and what is said of them, complete when the block ends."""
    from bertlab.embedding.engine import What, open_embedder
    from bertlab.embedding.judging import file_vectors, model_vectors
    from bertlab.progress import progress

    if config.vectors:
        data = [Path(path) for path in (config.data, config.train) if path]
        yield file_vectors([Path(path) for path in config.vectors], data), {"files": [Path(path).name for path in config.vectors]}
        return
    assert config.model is not None
    embedder = open_embedder(config.model, config.device, config.precision)
    pooling = config.pooling or embedder.recorded.usable_pooling(config.model)
    what = What(pooling=pooling, layers=tuple(embedder.frozen.layer_numbers(config.layer)))
    tally: Counter[str] = Counter()
    facts: dict[str, Any] = {"pooling": pooling, "layers": list(what.layers), "dims": config.dims or embedder.frozen.config.hidden_size}
    with progress("embedding", "texts") as report:
        yield model_vectors(embedder, what, config.dims, tally, lambda texts: report(texts, "")), facts
    facts |= {"max_length": embedder.max_length, "texts": tally["texts"], "truncated": tally["truncated"]}


# ---- what is left


def _replaced(out: Path, origins: dict[str, Any]) -> list[str]:
    """In a line whose scores of an earlier call are replaced, where they are of another model, of other vectors or of other data."""
    from bertlab.disk import MANIFEST, list_at, read_sealed, text_at, texts_at
    from bertlab.pages.screen import inert

    try:
        before = read_sealed(out / MANIFEST).get("from")
    except BertlabError:  # there is none, or none that can be believed
        return []
    vectors, now = list_at(before, "vectors"), list_at(origins, "vectors")
    same_vectors = [text_at(each, "sha256") for each in vectors] == [text_at(each, "sha256") for each in now]
    same_model = texts_at(before, "model", "files") == texts_at(origins, "model", "files")
    if same_model and same_vectors and text_at(before, "data", "sha256") == text_at(origins, "data", "sha256"):
        return []
    names = [text_at(before, "model", "path"), *(text_at(each, "path") for each in vectors)]
    of, on = ", ".join(name for name in names if name), text_at(before, "data", "path")
    return [inert(f"note: {out} held the scores of {of} on {on}: these replace them")]


def _leave(config: Config, out: Path, metrics: dict[str, Any], write: Callable[[], None], lines: list[str]) -> dict[str, Any]:
    """Have the predictions written (and mistakes and figures), then metrics.json and the manifest; print the lines and the places.

    Returns the metrics with what they were made from.
    """
    from bertlab.disk import MANIFEST, hash_some, sha256_file, write_json, write_sealed
    from bertlab.model.facts import fetch, model_origin
    from bertlab.pages.evaluation import MISTAKES, forget_results
    from bertlab.pages.figures import figures_in
    from bertlab.pages.report import page_of

    origins: dict[str, Any] = {
        name: {"path": path, "sha256": sha256_file(Path(path))}
        for name, path in (("data", config.data), ("corpus", config.corpus), ("train", config.train if config.task else None))
        if path is not None
    }
    metrics["data"] = {"name": Path(config.data).name, "sha256": origins["data"]["sha256"]}
    if config.model is not None:
        weights = Path(fetch(config.model)) / "model.safetensors"
        metrics["model"] = {"folder": Path(config.model).name, "sha256": sha256_file(weights)}
        origins["model"] = model_origin(config.model)
    if config.vectors:
        origins["vectors"] = [{"path": path, "sha256": sha256_file(Path(path))} for path in config.vectors]
    print("".join(f"{line}\n" for line in _replaced(out, origins)), end="")
    forget_results(out)
    write()
    write_json(out / "metrics.json", metrics)
    files = ["metrics.json", PREDICTIONS, *([MISTAKES] if (out / MISTAKES).exists() else []), *figures_in(out)]
    write_sealed(out / MANIFEST, {"from": origins, "files": hash_some(out, files)})
    print("\n".join(lines))
    print(f"predictions {out / PREDICTIONS}\nmetrics     {out / 'metrics.json'}")
    if (page := page_of(out)).exists():
        print(f"note: {page} is a page of earlier scores: bertlab report {shlex.quote(str(out))} makes it anew")
    return metrics
