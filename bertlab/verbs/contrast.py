"""bertlab contrast: a BERT and texts -> an encoder whose vectors are near where the texts mean the same.

    bertlab contrast --model DIR --corpus CORPUS --out RUN
    bertlab contrast --model DIR --train FILE [--dev FILE] [--test FILE] --out RUN

From a corpus or a file of texts alone (the same sentence twice through dropout), from pairs, triplets with hard negatives, or texts with
classes, as the columns of the file say. RUN/model has the weights of the best measurement on dev; what it is worth is measured on test, if
there is one, before and after. The same command again goes on where it was cut off.
"""

import shlex
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.corpus.related import Kind, Names
from bertlab.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertlab.embedding.learning import Recipe
    from bertlab.embedding.related_texts import RelatedTexts
    from bertlab.model.encoder import EncoderConfig
    from bertlab.tokens.tokenizer import Tokenizer

FREE = {"out", "model", "corpus", "train", "dev", "test", "dev_pairs", "processes", "workers", "track"}  # may differ when a run goes on


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """The model folder to start from (RUN/model of a pretraining run, a published BERT, or hf:NAME): never random weights."""
    out: str
    """The run folder; the same command with the same folder goes on where it stopped."""
    corpus: str | None = None
    """A corpus folder that `bertlab prepare` wrote with the model's vocabulary: its sentences are trained on, its held-out documents
    choose and measure."""
    train: str | None = None
    """Or a file: text, CSV, TSV, JSONL or Parquet."""
    kind: Literal["auto", "sentences", "pairs", "triplets", "classes"] = "auto"
    """What train's rows are: single texts; text and text_b that mean the same; these and a negative that does not; text and
    label. auto: by columns."""
    positives: Literal["same", "neighbours"] = "same"
    """What a sentence of a corpus is to be near: itself under another dropout (SimCSE), or another sentence of its document."""
    dev: str | None = None
    """File of the same kind to choose by; without one a share of train is cut off by a hash of the texts."""
    dev_pairs: str | None = None
    """Or pairs that a person scored (columns text, text_b, and score or label), to choose by Spearman's correlation."""
    test: str | None = None
    """File of the same kind to measure on at the end, before and after; nothing is chosen by it."""
    text: str = "text"
    """Column of the text."""
    text_b: str = "text_b"
    """Column of the text that means the same."""
    negatives: tuple[str, ...] = ("negative",)
    """Columns of texts that do not, of triplets."""
    label: str = "label"
    """Column of the class."""
    dev_share: float = 0.1
    """Share of train that becomes dev, of at most 1,000 rows."""
    pooling: Literal["mean", "cls", "max"] = "mean"
    """How a text's vector is made of its tokens' (SimCSE: cls)."""
    normalize: bool = True
    """Vectors of length 1, as sentence-transformers will make them too. Cosines are the same without."""
    temperature: float = 0.05
    """Cosines are divided by this (SimCSE; BGE takes 0.02)."""
    symmetric: bool = False
    """The positive chooses its anchor, too."""
    dims: tuple[int, ...] = ()
    """Matryoshka: lengths at which cut vectors are to be good, too, as in 128 64 32; the whole length is always one of them."""
    mlm_weight: float = 0.0
    """Keep masked words beside it with this weight (SimCSE: 0.1); the model folder then has their head."""
    batch_size: int = 64
    """Anchors a step, and the others of them the negatives (SimCSE: 64 from sentences, 512 from pairs). Memory does not limit it."""
    epochs: int = 1
    """Passes over train (SimCSE: 1 over a million sentences, 3 over pairs)."""
    steps: int | None = None
    """Steps in all, instead of epochs."""
    learning_rate: float | None = None
    """Peak rate of AdamW; default 3e-5 for base and large (SimCSE), 1e-4 up to width 512, 1e-3 for tiny."""
    weight_decay: float = 0.01
    """On matrices, not on LayerNorm and biases."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    dropout: float = 0.1
    """On hidden states: what tells the same sentence from itself."""
    attention_dropout: float = 0.0
    """On attention weights (SimCSE: 0.1)."""
    max_length: int = 64
    """Most tokens of a text in training (SimCSE: 32); the model keeps its own length."""
    micro_tokens: int = 8192
    """Most tokens that are in the encoder at once; lower it when memory runs out. A batch of several such chunks costs a forward
    pass more."""
    measure_every: int | None = None
    """Steps between measurements on dev; default: ten in a run."""
    seed: int = 0
    """Of order, dropout and masks."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training: bf16 autocast where the hardware multiplies it, or as said. Measurements are always in fp32."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""
    processes: int | None = None
    """Share every batch in this many processes; started by bertlab itself, or refused when a launcher started another number. The
    negatives are those of the whole batch."""
    workers: int = 0
    """Processes that make batches ahead; batches are the same whatever their number."""
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    """Also send the numbers to this tracker, which must be installed; metrics.jsonl and report.html are always written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.corpus is None) == (self.train is None):
            raise ConfigError("give --corpus or --train, one of the two")
        if self.corpus and (self.dev or self.test or self.dev_pairs or self.kind not in ("auto", "sentences")):
            raise ConfigError(
                "a corpus brings its own sentences, and its held-out documents to choose by: dev, test and kind are for --train"
            )
        if self.positives == "neighbours" and not self.corpus:
            raise ConfigError("positives=neighbours: a file has no documents: give --corpus")
        if self.dev and self.dev_pairs:
            raise ConfigError("dev and dev_pairs are two ways to choose: give one")
        for name in ("epochs", "micro_tokens", "steps", "measure_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name}={value}: give 1 or more")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size={self.batch_size}: give 2 or more, the others of a batch are the negatives")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to below 1")
        if not 0 < self.dev_share < 1 or not 0 <= self.warmup <= 1:
            raise ConfigError(f"dev_share={self.dev_share} and warmup={self.warmup} are shares: give numbers between 0 and 1")
        if self.max_length < 8:
            raise ConfigError(f"max_length={self.max_length}: give 8 tokens or more")
        for name in ("workers", "weight_decay", "seed", "mlm_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: give 0 or more")
        if self.seed >= 2**31:
            raise ConfigError(f"seed={self.seed}: give less than 2,147,483,648")
        if (self.learning_rate is not None and self.learning_rate <= 0) or self.clip <= 0 or self.temperature <= 0:
            raise ConfigError("learning_rate, clip and temperature must be above 0")
        if not self.negatives:
            raise ConfigError("negatives is empty: name the columns, or leave it out")

    @property
    def asked_kind(self) -> Kind | None:
        """None: as the columns of train say."""
        return None if self.kind == "auto" else self.kind

    @property
    def names(self) -> Names:
        return Names(self.text, self.text_b, self.negatives, self.label, dialect=self.dialect)


def look(config: Config) -> None:
    """Raise, before torch is imported, what `run` would of folders, settings and first rows."""
    from bertlab.corpus.labelled import read_scored_pairs
    from bertlab.corpus.related import read_related
    from bertlab.model.facts import fetch, load_config
    from bertlab.tokens.corpus import open_corpus
    from bertlab.training.runlog import agree_with_config

    out = Path(config.out)
    agree_with_config(config, out, FREE)
    if (out / "model").is_dir():
        return
    width = load_config(fetch(config.model)).get("hidden_size")
    if isinstance(width, int):
        _refuse_dims(config, width)
    if config.corpus:
        open_corpus(config.corpus, verify=False)
        return
    assert config.train is not None
    kind = read_related(config.train, config.asked_kind, config.names, most=2).kind
    for file in (config.dev, config.test):
        if file is not None:
            read_related(file, kind, config.names, most=2)
    if config.dev_pairs:
        read_scored_pairs(config.dev_pairs, config.dialect, most=1)


def _refuse_dims(config: Config, width: int) -> None:
    if wrong := [dim for dim in config.dims if not 1 <= dim <= width]:
        raise ConfigError(f"dims={wrong[0]}: this model's vectors have 1 to {width} numbers")


def run(config: Config) -> dict[str, Any]:
    """Train, choose by dev, measure, write RUN/model and RUN/metrics.json; returns the metrics ({} where another process writes them).

    Raises ConfigError (settings, folders), DataError (texts and tables), CorruptError, LockedError.
    """
    look(config)

    from bertlab.disk import read_json
    from bertlab.pages.report import report_on
    from bertlab.training import processes
    from bertlab.training.runlog import refuse_other_inputs, run_folder

    # pooler and next-sentence head have no gradient; while the first process measures on dev the others wait
    accelerator = processes.start(config.processes, config.device, all_parts=False, patience=timedelta(days=7))
    with run_folder(config, accelerator, FREE) as out:
        if (out / "model").is_dir():
            refuse_other_inputs(config, out, files_of(config) | {"corpus": config.corpus, "model": config.model})
            accelerator.print(f"{out} is finished: nothing to do (its model is {out / 'model'})")
            if accelerator.is_main_process:
                report_on(out, anew=False)
            return read_json(out / "metrics.json")
        return _contrast(config, out, accelerator)


def read(
    config: Config, tokenizer: "Tokenizer", encoder: "EncoderConfig"
) -> tuple["RelatedTexts", dict[str, str | None], list[dict[str, str]] | None]:
    """The texts of the run, the sha256 of what they were read from, and the sources of a corpus."""
    from bertlab.disk import sha256_file
    from bertlab.embedding.related_texts import of_corpus, of_files
    from bertlab.pages.card import named_sources
    from bertlab.tokens.corpus import open_corpus

    length = min(config.max_length, encoder.max_position_embeddings)
    sizes: dict[str, int] = {"max_length": length, "batch_size": config.batch_size, "seed": config.seed}
    if config.corpus:
        corpus = open_corpus(config.corpus)
        if corpus.tokenizer.vocabulary_sha256 != tokenizer.vocabulary_sha256:
            raise ConfigError(
                f"{config.model} and {config.corpus} have different vocabularies: prepare the corpus with --tokenizer {config.model}"
            )
        return of_corpus(corpus, positives=config.positives, **sizes), {"corpus": corpus.sha256}, named_sources(corpus)
    files = {name: file for name in ("train", "dev", "test") if (file := getattr(config, name)) is not None}
    texts = of_files(files, config.asked_kind, config.names, tokenizer, dev_pairs=config.dev_pairs, dev_share=config.dev_share, **sizes)
    return texts, {name: sha256_file(Path(file)) for name, file in files_of(config).items() if file is not None}, None


def files_of(config: Config) -> dict[str, str | None]:
    """The files of texts by what inputs.json calls them."""
    return {f"{name} file": getattr(config, name) for name in ("train", "dev", "test", "dev_pairs")}


def recipe_of(config: Config, width: int) -> "Recipe":
    from bertlab.embedding.learning import Recipe

    _refuse_dims(config, width)
    dims = tuple(sorted({*config.dims, width}, reverse=True)) if config.dims else ()
    given = {field.name: getattr(config, field.name) for field in fields(Recipe) if field.name != "dims"}
    return Recipe(**given, dims=dims)


def _contrast(config: Config, out: Path, accelerator: "Accelerator") -> dict[str, Any]:
    from bertlab.batches.masking import masking_for
    from bertlab.config import to_dict
    from bertlab.disk import write_json
    from bertlab.embedding.learning import learn, vectors_of
    from bertlab.embedding.likeness import improvement, per_text, per_text_of_words, scores
    from bertlab.model.encoder import Bert
    from bertlab.model.facts import fetch, load_config, weights_sha256
    from bertlab.model.folder import load_model, refuse_misfit
    from bertlab.model.heads import BertForPreTraining
    from bertlab.pages.report import report_on
    from bertlab.tokens import tokenizer as tokenizers
    from bertlab.training import tracking
    from bertlab.training.runlog import remember_inputs

    folder = fetch(config.model)
    load_config(folder)  # first: it names a run folder given for its model
    tokenizer = tokenizers.load(folder)
    dropouts: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.attention_dropout}
    model: Bert | BertForPreTraining
    if config.mlm_weight:
        model, absent = load_model(folder, BertForPreTraining, **dropouts)
        if any(name.startswith("cls.predictions") for name in absent):
            raise ConfigError(f"{folder} has no masked-word head: leave mlm_weight out, or start from a pretrained BERT")
    else:
        model, _ = load_model(folder, Bert, **dropouts)
    encoder = model.config
    refuse_misfit(tokenizer, encoder, folder)
    recipe = recipe_of(config, encoder.hidden_size)
    texts, read_from, sources = read(config, tokenizer, encoder)
    main, steps = accelerator.is_main_process, config.steps or config.epochs * texts.groups.steps_per_epoch
    if main:
        remember_inputs(config, out, read_from | {"model": weights_sha256(folder)})
        print("\n".join([*texts.notes, f"chooses by {texts.dev.headline}: {texts.dev.what} (n = {len(texts.dev):,})"]), flush=True)
    accelerator.wait_for_everyone()

    def measured(bert: Bert) -> dict[str, Any]:
        vectors = vectors_of(bert, tokenizer, recipe, accelerator.device)
        return {name: per_text(task, vectors) for name, task in (("dev", texts.dev), ("test", texts.test)) if task is not None}

    tracker = tracking.start(config.track, out, to_dict(config)) if main else None
    at_start = measured(load_model(folder, Bert)[0]) if main else {}
    state = learn(
        recipe, texts.groups, masking_for(tokenizer) if config.mlm_weight else None, texts.dev, model, tokenizer, accelerator,
        steps=steps, measure_every=config.measure_every or max(1, steps // 10), out=out, tracker=tracker,
        after_measuring=partial(report_on, out, refresh=60),
    )  # fmt: skip
    if not main:
        return {}
    at_end = measured(model if isinstance(model, Bert) else model.bert)
    tasks = {"dev": texts.dev, "test": texts.test}
    metrics: dict[str, Any] = {"texts": texts.kind, "rows": len(texts.groups), "steps": steps, "best": state["best"]}
    for name, task in tasks.items():
        if task:
            metrics[name] = {"what": task.what} | improvement(task, at_start[name], at_end[name])
            metrics[name]["baselines"] = {"TF-IDF": scores(task, per_text_of_words(task))}
    write_json(out / "metrics.json", metrics | {"history": state["history"]})
    _save(config, recipe, out, tokenizer, model, metrics, sources)
    report_on(out)
    print(_summary(out, metrics), flush=True)
    return metrics | {"history": state["history"]}


def _save(
    config: Config,
    recipe: "Recipe",
    out: Path,
    tokenizer: "Tokenizer",
    model: Any,
    metrics: dict[str, Any],
    sources: list[dict[str, str]] | None,
) -> None:
    import torch

    import bertlab
    from bertlab.model.facts import fetch, text_read
    from bertlab.model.folder import save_model
    from bertlab.model.pooling import recorded
    from bertlab.pages.card import vectors_card
    from bertlab.training.runlog import run_files

    facts = {
        "bertlab": bertlab.__version__,
        "kind": "contrast",
        "started_from": config.model,
        "text_read": text_read(fetch(config.model)),
        **({} if sources is None else {"corpus": {"sources": sources}}),
        "tokenizer_sha256": tokenizer.sha256,
        "pooler_trained": False,
        "pooling": config.pooling,
        "normalize": config.normalize,
        "matryoshka_dims": list(recipe.dims),
        "temperature": config.temperature,
        "positives": config.positives if config.corpus else None,
        "batch_size": config.batch_size,
        "torch": torch.__version__,
    } | metrics
    save_model(
        out / "model",
        model,
        tokenizer,
        facts=facts,
        card=vectors_card(facts),
        max_length=recorded(Path(fetch(config.model))).max_length,
        pooling=config.pooling,
        normalize=config.normalize,
        run=run_files(out, "metrics.jsonl", "metrics.json"),
    )


def _summary(out: Path, metrics: dict[str, Any]) -> str:
    from bertlab.pages.screen import likeness_line

    lines = [f"{name:<11}{likeness_line(metrics[name])}" for name in ("dev", "test") if name in metrics]
    lines[0] += " (chosen on these: it flatters)"
    if metrics["best"]["step"] == 0:
        lines.append("warning: no step made the vectors better on dev than the start, which is what is kept: lower the learning rate?")
    return "\n".join(
        [
            *lines,
            f"model      {out / 'model'}",
            f"next       bertlab embed --model {shlex.quote(f'{out}/model')} --input FILE --output FILE.parquet",
        ]
    )
