"""bertlab prompt: a pretrained BERT, a template and words for labels -> predictions, with no training (zero-shot).

    bertlab prompt --model DIR --data FILE --template "{text} This is about [MASK]." --words sport:sport,football money:money --out DIR

Writes what `bertlab evaluate` writes, so that `bertlab compare` puts it beside a fine-tuned model. Without labels in FILE: predictions
alone. What is computed is said in bertlab/cloze.py and docs/prompting.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from bertlab.cloze import Answers, LabelWords
    from bertlab.corpus.labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """A pretrained model folder (RUN/model): it must have its masked-word head."""
    data: str
    """Texts, with or without labels: CSV, TSV, JSONL or Parquet, or a text file (a line is a text)."""
    out: str
    """Folder for predictions.parquet and metrics.json; those of an earlier call are replaced."""
    template: tuple[str, ...]
    """How a text is asked about: {text}, for pairs {text_b}, one [MASK], between two segments [SEP]; several are averaged."""
    words: tuple[str, ...] = ()
    """LABEL:WORD,WORD for each label, the words that stand for it; default: the labels' own names, with _ as a space."""
    pieces: Literal["together", "in-turn"] = "together"
    """Words of several pieces: all places masked at once, or one piece after the other (a pass a piece)."""
    aggregate: Literal["mean", "max", "sum"] = "mean"
    """Of the probabilities of a label's words."""
    calibration: Literal["none", "content-free", "texts"] = "none"
    """Divide by what the template says of "N/A", "[MASK]" and "" (Zhao et al. 2021), or on average of unlabelled texts."""
    unlabelled: str | None = None
    """File of texts for calibration=texts; default: those of --data, whose labels play no part."""
    train: str | None = None
    """Labelled file for the baselines alone (majority class, TF-IDF): the model does not see it."""
    text: str = "text"
    """Column of the text."""
    text_b: str | None = None
    """Column of the second text of a pair; a column named text_b is used without asking."""
    label: str = "label"
    """Column of the label."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it; auto: where it does."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.template:
            raise ConfigError('template is empty: give one, such as "{text} This is about [MASK]."')
        if self.unlabelled and self.calibration != "texts":
            raise ConfigError(f"unlabelled={self.unlabelled} is for calibration=texts, and this one is {self.calibration}")


def run(config: Config) -> dict[str, Any]:
    """Predict every text, write both outputs, print a table where there are labels; returns the metrics.

    Raises ConfigError (folders, template, words), DataError (columns, a label without words), CorruptError.
    """
    from bertlab.corpus.labelled import read_labelled
    from bertlab.disk import MANIFEST, hash_some, refuse_file, refuse_mixed, sha256_file, write_json, write_sealed
    from bertlab.model.facts import fetch, load_config, model_origin
    from bertlab.pages.evaluation import LEFT, forget_results

    out = Path(config.out)
    refuse_file(out)
    if (out / "config.yaml").exists():
        raise ConfigError(f"{out} is a run folder, with metrics of its own: choose another --out")
    refuse_mixed(out, LEFT)
    load_config(fetch(config.model))
    columns: dict[str, Any] = {"text": config.text, "text_b": config.text_b, "label": config.label, "dialect": config.dialect}
    rows = read_labelled(config.data, **columns, needs_label=False)
    if rows.partly_labelled:
        raise DataError(f"{rows.origin}: {rows.partly_labelled}: give every row one, or for predictions alone --label a column without any")
    given = words_of(config, rows)
    unlabelled = read_labelled(config.unlabelled, **columns, needs_label=False) if config.unlabelled else None
    if unlabelled is not None and (unlabelled.texts_b is None) != (rows.texts_b is None):
        raise DataError(f"{unlabelled.origin}: one of it and {rows.origin} has second texts: give both the same columns")
    train = read_labelled(config.train, **columns) if config.train else None

    from bertlab.batches.cloze import parse_template  # from here on with torch
    from bertlab.cloze import answer, label_words
    from bertlab.evaluation.predictions import write_predictions
    from bertlab.inference import LoadedModel

    templates = [parse_template(source) for source in config.template]
    model = LoadedModel(config.model, config.device, config.precision)
    model.masked_word_model()  # before anything is computed
    for template in templates:
        if template.has("text_b") and rows.texts_b is None:
            raise DataError(f"{rows.origin} has no second texts, which template {template.source!r} asks for: give --text-b COLUMN")
        if template.has("sep") and model.model.config.type_vocab_size < 2:
            raise ConfigError(f"template {template.source!r} has two segments, and {config.model} knows one: leave [SEP] out")
    words = label_words(model.tokenizer, given)
    gold = None if rows.labels is None else _places(rows, words.labels)
    learnt = None if train is None else _places(train, words.labels)
    answers = answer(
        model,
        templates,
        words,
        (rows.texts, rows.texts_b),
        pieces=config.pieces,
        aggregate=config.aggregate,
        calibration=config.calibration,
        unlabelled=None if unlabelled is None else (unlabelled.texts, unlabelled.texts_b),
        what="prompting",
    )
    files = {name: file for name in ("data", "unlabelled", "train") if (file := getattr(config, name))}
    hashes = {name: sha256_file(Path(file)) for name, file in files.items()}
    metrics = _scores(rows, gold, words, answers, train, learnt) | {
        "task": "single-label",
        "labels": words.labels,
        "truncated": answers.num_truncated,
        "model": {"folder": Path(config.model).name, "sha256": model_origin(config.model)["files"]["model.safetensors"]},
        "data": {"name": Path(config.data).name, "sha256": hashes["data"]},
        "prompt": _facts(config, model.tokenizer.token, words, answers),
    }
    forget_results(out)
    write_predictions(
        out / "predictions.parquet",
        ids=rows.ids,
        text_hashes=rows.text_hashes(),
        gold=gold,
        probabilities=answers.probabilities,
        names=words.labels,
    )
    write_json(out / "metrics.json", metrics)
    origins = {"model": model_origin(config.model)} | {name: {"path": file, "sha256": hashes[name]} for name, file in files.items()}
    write_sealed(out / MANIFEST, {"from": origins, "files": hash_some(out, ["metrics.json", "predictions.parquet"])})
    print(_summary(config, metrics, len(rows), model.max_length, sum(not text.strip() for text in rows.texts)))
    return metrics


def words_of(config: Config, rows: "Labelled") -> dict[str, list[str]]:
    """The words of each label, as `words` gives them, or the labels' own names. Raises ConfigError for what cannot be read."""
    from bertlab.corpus.labels import label_names

    if not config.words:
        if rows.labels is None:
            of_labels = f"{rows.origin} has no column '{config.label}' of labels, whose names would be the words"
            raise ConfigError(f"{of_labels}: give --words, or name the column with --label")
        return {name: [name.replace("_", " ")] for name in label_names(rows)}
    found: dict[str, list[str]] = {}
    for entry in config.words:
        label, colon, words = entry.rpartition(":")
        label = label.strip()
        if not colon or not label:
            raise ConfigError(f"words={entry!r}: write LABEL:WORD or LABEL:WORD,WORD")
        if ":" in label and "," in label:
            raise ConfigError(f"words={entry!r} seems to have several labels: give each its own, as --words A:WORD,WORD B:WORD")
        if label in found:
            raise ConfigError(f"words: label {label!r} is given twice: write its words in one, as {label}:WORD,WORD")
        found[label] = [word.strip() for word in words.split(",") if word.strip()]
    return found


def _places(rows: "Labelled", labels: list[str]) -> list[int]:
    """The place of each row's label among those that have words. Raises DataError for one that has none."""
    from bertlab.corpus.labels import label_ids

    strange = sorted(set(rows.labels or ()) - set(labels))
    if strange:
        of = ", ".join(f"'{label}'" for label in labels)
        named = ", ".join(f"'{label}'" for label in strange[:5]) + f" and {len(strange) - 5} others" * (len(strange) > 5)
        raise DataError(f"{rows.origin}: there are no words for the label {named}: --words has {of}: give its words, or leave its rows out")
    return label_ids(rows, labels)


def _scores(
    rows: "Labelled",
    gold: "list[int] | None",
    words: "LabelWords",
    answers: "Answers",
    train: "Labelled | None",
    learnt: "list[int] | None",
) -> dict[str, Any]:
    """Metrics, intervals and baselines of labelled data; of other data how often each label was given."""
    from bertlab.evaluation.intervals import of_metrics
    from bertlab.evaluation.metrics import classification_metrics

    predicted = answers.probabilities.argmax(1)
    if gold is None:
        counts = {label: int((predicted == number).sum()) for number, label in enumerate(words.labels)}
        return {"n": len(predicted), "predicted": counts}
    baselines = {
        name: classification_metrics(gold, labels, words.labels)
        for name, labels in _baselines(rows, gold, words, answers, train, learnt).items()
    }
    scores = classification_metrics(gold, predicted, words.labels)
    return scores | {"intervals": of_metrics(gold, predicted, words.labels), "baselines": baselines}


def _baselines(
    rows: "Labelled", gold: list[int], words: "LabelWords", answers: "Answers", train: "Labelled | None", learnt: "list[int] | None"
) -> "dict[str, np.ndarray]":
    """What labels come out without the model's reading of a text; TF-IDF where there is a file to train it on."""
    import numpy as np

    from bertlab.evaluation.baselines import majority_class, tfidf_logistic_regression

    preferred = int(np.log(answers.priors).mean(0).argmax())
    found = {f"always {words.labels[preferred]!r}, the templates' preference": np.full(len(rows), preferred)}
    if train is None or learnt is None:
        return {"majority class (of these labels)": majority_class(gold, len(rows))} | found
    texts = [
        each.texts if each.texts_b is None else [f"{a} {b}" for a, b in zip(each.texts, each.texts_b, strict=True)]
        for each in (train, rows)
    ]
    found = {"majority class (of train)": majority_class(learnt, len(rows))} | found
    probabilities = tfidf_logistic_regression(texts[0], learnt, texts[1], len(words.labels))
    return found | {f"TF-IDF + logistic regression on {len(train):,} labelled texts": probabilities.argmax(1)}


def _facts(config: Config, token: Any, words: "LabelWords", answers: "Answers") -> dict[str, Any]:
    """What was asked and how, for metrics.json."""
    spelt: dict[str, dict[str, list[str]]] = {label: {} for label in words.labels}
    for word, pieces, owner in zip(words.words, words.pieces, words.owners.tolist(), strict=True):
        spelt[words.labels[owner]][word] = [token(piece) for piece in pieces]
    priors = [dict(zip(words.labels, row.tolist(), strict=True)) for row in answers.priors]
    return {
        "templates": list(config.template),
        "words": spelt,
        "pieces": config.pieces,
        "aggregate": config.aggregate,
        "calibration": config.calibration,
        "prior_of": "texts" if config.calibration == "texts" else "content-free",
        "priors": priors,
    }


def _summary(config: Config, metrics: dict[str, Any], number: int, longest: int, blank: int) -> str:
    from bertlab.pages.screen import class_table, counted, inert, table

    labels, lines = metrics["labels"], []
    if "accuracy" in metrics:
        lines.append(class_table(metrics))
        for name, scores in metrics["baselines"].items():
            lines.append(f"{inert(name)}: accuracy {scores['accuracy']:.3f}, macro-F1 {scores['macro']['f1']:.3f}")
        majority = next(iter(metrics["baselines"].values()))["accuracy"]
        low = metrics["intervals"]["accuracy"]["low"]
        if low is not None and low <= majority:
            lines.append(f"not shown to be better than always the majority class (accuracy {majority:.3f})")
    else:
        lines.append(table(["label", "predicted"], [[label, f"{count:,}"] for label, count in metrics["predicted"].items()]))
        lines.append(f"no labels in column '{inert(config.label)}' of {inert(config.data)}: predictions alone")
    asked = f"{counted(len(config.template), 'template')}, {len(labels)} labels"
    lines.append(f"{asked}, pieces {config.pieces}, words by {config.aggregate}, calibration {config.calibration}")
    if blank:
        lines.append(f"note: {counted(blank, 'text')} without a word, answered as all others")
    if cut := metrics["truncated"]:
        lines.append(
            f"{cut:,} of {number:,} texts {'was' if cut == 1 else 'were'} cut to fit {longest} tokens with the template, which was not cut"
        )
    out = Path(config.out)
    return "\n".join([*lines, f"predictions {out / 'predictions.parquet'}", f"metrics     {out / 'metrics.json'}"])
