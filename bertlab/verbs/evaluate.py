"""bertlab evaluate: a fine-tuned model and a labelled file -> predictions.parquet and metrics.json, bound to both by manifest.json.

bertlab evaluate --model DIR --data FILE --out DIR
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Config:
    model: str
    """The model folder of a fine-tuned model (RUN/model of a fine-tuning run); it knows its kind of task."""
    data: str
    """Labelled file: CSV, TSV, JSONL or Parquet."""
    out: str
    """Folder for predictions.parquet, metrics.json, mistakes.jsonl and figures; those of an earlier call are replaced."""
    text: str | None = None
    """Column of the text: by default text; for tokens tokens, for answers context."""
    text_b: str | None = None
    """Column of the second text of a pair: text_b is used without asking; for answers question."""
    label: str | None = None
    """Column of the label, the list of labels or the number: by default label; for tokens tags, for answers answers."""
    train: str | None = None
    """Labelled file that the model was trained on: its texts are looked for in `data`. Default: the one its run names, if still there."""
    label_separator: str | None = None
    """What stands between several labels in one cell, as | in a|b."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it; probabilities move by a few thousandths. auto: where it does."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""


def run(config: Config) -> dict[str, Any]:
    """Score the file, write both outputs, print a table; returns the metrics.

    Raises ConfigError (folders), DataError (columns, a label the model does not know), CorruptError.
    """
    from bertlab.disk import MANIFEST, hash_some, sha256_file, write_json, write_sealed
    from bertlab.inference import LoadedModel
    from bertlab.model.folder import fetch, load_facts, model_origin
    from bertlab.pages.evaluation import leak_lines, mistake_lines, probability_lines, write_mistakes
    from bertlab.pages.figures import write_figures
    from bertlab.pages.screen import score_table
    from bertlab.tasks import measures
    from bertlab.tasks.choosing import of_folder
    from bertlab.tasks.contract import Columns, calibrated_of
    from bertlab.tasks.data import what_was_cut

    out = Path(config.out)
    if (out / "config.yaml").exists():
        raise ConfigError(f"{out} is a run folder, with metrics of its own: choose another --out")
    folder = fetch(config.model)
    task, labels = of_folder(folder)
    columns = Columns(config.text, config.text_b, config.label, config.label_separator)
    rows = task.read(config.data, columns)
    try:
        gold = task.gold(rows, labels)
    except DataError as error:
        raise DataError(f"{error} (the model's classes are those it was trained on)") from None
    train = (config.train, columns) if config.train else measures.training_file(folder)
    leakage = measures.leakage(task.read(*train) if train else None, rows)
    print("\n".join(leak_lines(leakage)), flush=True)
    model = LoadedModel(folder, config.device, config.precision)
    examples = task.encode(model.tokenizer, rows, None, labels, max_length=model.max_length, long=model.long)
    outputs = model.outputs_of(examples, "evaluating")
    learnt = load_facts(folder).get(measures.LEARNT)
    labels = measures.with_temperature(labels, learnt)
    further = measures.of_probabilities(task, gold, outputs, labels, learnt)
    mistakes = measures.mistakes_of(task, rows, gold, outputs, labels)
    metrics = task.metrics(gold, outputs, labels) | {
        "intervals": task.intervals(gold, outputs, labels) | further.pop("intervals", {}),
        **further,
        "leakage": leakage,
        "task": task.name,
        "labels": labels.names,
        "truncated": examples.num_truncated,
        "cut": what_was_cut(examples),
        "model": {"folder": Path(config.model).name, "sha256": sha256_file(Path(folder) / "model.safetensors")},
        "data": {"name": Path(config.data).name, "sha256": sha256_file(Path(config.data))},
    }
    (out / MANIFEST).unlink(missing_ok=True)  # of an earlier call
    files = ["metrics.json", "predictions.parquet", *write_mistakes(out, mistakes)]
    if task.exclusive is not None:
        truth, calibrated = measures.is_gold(task, gold, labels), calibrated_of(outputs, labels, exclusive=task.exclusive)
        files += write_figures(out, truth, outputs, labels.names, exclusive=task.exclusive, calibrated=calibrated)
    task.write(out / "predictions.parquet", rows, gold, outputs, labels)
    write_json(out / "metrics.json", metrics)
    origins = {"model": model_origin(config.model), "data": {"path": config.data, "sha256": metrics["data"]["sha256"]}}
    write_sealed(out / MANIFEST, {"from": origins, "files": hash_some(out, files)})
    print("\n".join([score_table(metrics), *probability_lines(metrics), *mistake_lines(mistakes)]))
    if examples.num_truncated:
        print(f"{examples.num_truncated:,} of {len(rows):,} texts were longer than {model.max_length} tokens and truncated")
    print(f"predictions {out / 'predictions.parquet'}\nmetrics     {out / 'metrics.json'}")
    return metrics
