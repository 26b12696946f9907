"""bertlab export: a model folder for other runtimes, checked against bertlab's own numbers before it is written.

    bertlab export --model DIR --to onnx --out DIR

A fine-tuned folder gives what its task gives (logits, probabilities); any other, or any with --pooling, sentence vectors. --quantise adds
8-bit weights beside the whole ones and says what they lose.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.errors import ConfigError
from bertlab.model.facts import Pooling

if TYPE_CHECKING:
    from bertlab.exporting import Exported
    from bertlab.inference import LoadedModel

WHOLE, QUANTISED = "model.onnx", "model_int8.onnx"
TEXTS_OF_THE_SAMPLE = 200  # on which a loss is measured where no data is given


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    model: str
    """A model folder (RUN/model), pretrained or fine-tuned, a published BERT or sentence-transformers folder, or hf:NAME."""
    out: str | None = None
    """Folder to write; it must not exist. Wanted for all but --to transformers, for which nothing is written."""
    to: Literal["onnx", "sentence-transformers", "transformers"] = "onnx"
    """onnx: model.onnx for padded batches, with tokenizer, facts and a README that says how to run it. sentence-transformers: the encoder
    as a model folder with vectors by --pooling and --normalize (a folder of bertlab's opens there as it is). transformers: nothing is
    written, since a model folder opens there as it is; by which class is said."""
    pooling: Pooling | None = None
    """Export sentence vectors by this pooling; default: what the folder's task gives, or without a task what it records, else mean."""
    normalize: bool | None = None
    """Scale sentence vectors to length 1 inside the model; default: what the folder records, else not."""
    quantise: bool = False
    """Also write model_int8.onnx, a quarter of the size, and measure what it loses."""
    data: str | None = None
    """Texts on which that loss is measured: for a task its labelled file, else a text a line or row. Default: 200 texts of the sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is None and self.to != "transformers":
            raise ConfigError(f"--to {self.to} writes a folder: give --out DIR")
        if self.data is not None and not self.quantise:
            raise ConfigError("data is for measuring what 8-bit weights lose: give --quantise too, or leave it out")
        if self.quantise and self.to != "onnx":
            raise ConfigError(f"quantise is for --to onnx, not for --to {self.to}: leave it out")


def run(config: Config) -> dict[str, Any]:
    """Write the folder; returns its facts, {} where nothing is written.

    Raises ConfigError (folders, libraries, numbers that differ) or DataError, and has then written nothing.
    """
    from bertlab.disk import MANIFEST, hash_files, refuse_used, whole_folder, write_json, write_sealed, write_text
    from bertlab.exporting import Exported, checked, facts_of, write_onnx
    from bertlab.inference import LoadedModel
    from bertlab.model.facts import CARD, FACTS, load_config, model_origin, text_read
    from bertlab.pages.card import exported_card

    if config.to == "transformers":
        said = _opens_as_it_is(config.model)
        if config.out is not None:  # where somebody waits for a folder
            raise ConfigError(said)
        print(said)
        return {}
    assert config.out is not None
    out = Path(config.out)
    refuse_used(out)
    model = LoadedModel(config.model, "cpu")
    by_task = model.task is not None and config.to == "onnx"
    pooling = config.pooling or (None if by_task else model.recorded.usable_pooling(config.model))
    if pooling is None and config.normalize is not None:
        raise ConfigError(
            f"normalize is for sentence vectors, and {config.model} is a model for a task: give --pooling too, or leave it out"
        )
    normalize = bool(pooling and (model.recorded.normalize if config.normalize is None else config.normalize))
    if config.to == "sentence-transformers":
        assert pooling is not None
        return _as_vectors(config, model, pooling, normalize)
    exported = Exported(model, pooling, normalize)
    with whole_folder(out) as folder:
        write_onnx(exported, folder / WHOLE)
        facts = facts_of(exported) | {"text_read": text_read(model.folder), "check": checked(exported, folder / WHOLE)}
        print(_compared(facts["check"]))
        if config.quantise:
            facts["quantised"] = _quantised(config, exported, folder)
            print("\n".join(_loss_lines(facts["quantised"])))
        model.tokenizer.save(folder, model.max_length)
        write_json(folder / "config.json", load_config(model.folder))
        write_json(folder / FACTS, facts)
        write_text(folder / CARD, exported_card(facts))
        write_sealed(folder / MANIFEST, {"from": {"model": model_origin(config.model)}, "files": hash_files(folder)})
    print(f"written     {out}: {', '.join(facts['outputs'])}, {sum(path.stat().st_size for path in out.iterdir()) / 1e6:,.1f} MB")
    return facts


def _opens_as_it_is(model: str) -> str:
    """By which class of transformers' a folder opens without an export."""
    from bertlab.model.facts import fetch, load_config

    name, place = (load_config(fetch(model)).get("architectures") or ["AutoModel"])[0], model.removeprefix("hf:")
    encoder = "" if name in ("AutoModel", "BertModel") else ", or its encoder alone by AutoModel, whose report calls the head UNEXPECTED"
    return f"{model} opens in transformers as it is, nothing is to be exported: {name}.from_pretrained({place!r}){encoder}"


def _as_vectors(config: Config, model: "LoadedModel", pooling: Pooling, normalize: bool) -> dict[str, Any]:
    """Write the encoder as a model folder that records how its vectors are made."""
    import bertlab
    from bertlab.model.facts import fetch, model_origin, text_read
    from bertlab.model.folder import save_model
    from bertlab.pages.card import encoder_card

    if any("pooler" in name for name in model.absent):
        model.encoder.pooler = None  # a random one would look like one that was trained
    facts: dict[str, Any] = {"bertlab": bertlab.__version__, "kind": "encoder", "made_from": model_origin(config.model), "pooling": pooling}
    facts |= {
        "text_read": text_read(fetch(config.model)),
        "normalize": normalize,
        "prompt": model.recorded.prompt,
        "tokenizer_sha256": model.tokenizer.sha256,
    }
    assert config.out is not None
    how: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "prompt": model.recorded.prompt, "max_length": model.max_length}
    save_model(Path(config.out), model.encoder, model.tokenizer, facts=facts, card=encoder_card(facts), **how)
    print(f"written     {config.out}: {pooling} pooling{', length 1' * normalize}; SentenceTransformer({config.out!r}) opens it")
    return facts


def _quantised(config: Config, exported: "Exported", folder: Path) -> dict[str, Any]:
    from bertlab.exporting import lost, write_quantised

    write_quantised(folder / WHOLE, folder / QUANTISED)
    examples, gold = _texts(config, exported)
    sizes = {"bytes": (folder / QUANTISED).stat().st_size, "whole_bytes": (folder / WHOLE).stat().st_size}
    origin = Path(config.data).name if config.data else "the sample that ships"
    return sizes | {"measured_on": origin} | lost(exported, folder / WHOLE, folder / QUANTISED, examples, gold)


def _texts(config: Config, exported: "Exported") -> tuple[Any, Any]:
    """Encoded texts to measure a loss on, and for a task with labelled data their gold."""
    from bertlab import sample
    from bertlab.corpus.labelled import read_labelled
    from bertlab.tasks.reading import Columns

    model, task = exported.model, exported.task
    path = config.data or str(sample.path("topics_test.jsonl.xz"))
    if task is None:
        texts = read_labelled(path, needs_label=False, dialect=config.dialect if config.data else AS_NAMED).texts
        return model.embedder.encode(texts if config.data else texts[:TEXTS_OF_THE_SAMPLE]), None
    if config.data:
        rows = task.read(path, Columns(None, None, None, None, dialect=config.dialect))
        gold = task.gold(rows, model.known)
    else:
        texts = read_labelled(path, needs_label=False).texts[: TEXTS_OF_THE_SAMPLE + 1]
        rows, gold = task.ask(texts[:-1], texts[1:] if model.pairs or task.name == "answers" else None), None
    return model.encode_rows(rows, gold), gold


def _compared(check: dict[str, Any]) -> str:
    return (
        f"checked     against torch, {check['batches']} batches of mixed lengths, {check['sequences']} sequences: largest difference "
        f"{check['largest_difference']:.1e} (at most {check['tolerance']:.0e} is let pass)"
    )


def _loss_lines(found: dict[str, Any]) -> list[str]:
    """What the 8-bit weights lose, in words."""
    size = f"{found['bytes'] / 1e6:,.1f} MB instead of {found['whole_bytes'] / 1e6:,.1f}"
    lines = [f"8 bits      {size}; measured on {found['examples']:,} texts of {found['measured_on']}:"]
    if "mean_cosine" in found:
        line = f"            cosine with the exact vectors {found['mean_cosine']:.5f} (lowest {found['lowest_cosine']:.5f})"
        ranks = "" if found["spearman"] is None else f", rank correlation of the similarities of neighbours {found['spearman']:.4f}"
        return [*lines, line + ranks]
    if "same" in found:
        lines.append(f"            {found['same']:.1%} of the answers are the same")
    if "mean_difference" in found:
        lines.append(f"            mean difference of a number {found['mean_difference']:.5f}")
    scores = found.get("scores", {})
    return lines + [f"            {name} {exact:.4f} -> {less:.4f}" for name, (exact, less) in scores.items()]
