"""bertlab embed: texts -> sentence vectors, in the order of the texts.

    bertlab embed --model DIR --input FILE --output FILE

By the output's name: .parquet (id, vector) or .npy (a row a text) with the ids beside it in .ids.txt. FILE.manifest.json binds them to the
model and the texts.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.errors import ConfigError

TEXTS_A_CALL = 4096  # enough to sort by length, few enough for progress and memory


@dataclass(frozen=True, kw_only=True)
class Config:
    model: str
    """A model folder (RUN/model), a published BERT or sentence-transformers folder, or hf:NAME."""
    input: str
    """Texts: a text file (a line is a text), or CSV, TSV, JSONL or Parquet with a text column."""
    output: str
    """File to write: NAME.parquet (id, vector) or NAME.npy (with NAME.ids.txt beside it); one of an earlier call is replaced."""
    text: str = "text"
    """Column of the text."""
    pooling: Literal["cls", "mean", "max"] | None = None
    """One vector from a text's tokens; default: what the model folder records, else mean. Raw cls is poor unless trained for it."""
    normalize: bool = False
    """Scale every vector to length 1."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it, at a cosine of about 0.9999 to fp32."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        if Path(self.output).suffix not in (".parquet", ".npy"):
            raise ConfigError(f"output={self.output}: name it .parquet or .npy")


def run(config: Config) -> Any:
    """Write the vectors; returns them, (n, hidden_size) float32. Raises ConfigError (names, folders), DataError (input), CorruptError."""
    import numpy as np

    from bertlab.corpus.labelled import read_labelled
    from bertlab.disk import MANIFEST, hash_some, sha256_file, whole_file, write_sealed, write_text
    from bertlab.evaluation.vectors import write_vectors
    from bertlab.inference import LoadedModel
    from bertlab.model.folder import model_origin
    from bertlab.pages.screen import inert
    from bertlab.progress import progress

    rows = read_labelled(config.input, text=config.text, needs_label=False)
    model = LoadedModel(config.model, config.device, config.precision)
    parts, truncated, tokens, began = [], 0, 0, time.monotonic()
    with progress("embedding", "texts", len(rows)) as report:
        for start in range(0, len(rows), TEXTS_A_CALL):
            examples = model.encode(rows.texts[start : start + TEXTS_A_CALL])
            parts.append(model.vectors_of(examples, config.pooling, config.normalize))
            truncated += examples.num_truncated
            tokens += len(examples.ids)
            report(start + len(examples), f"{tokens / (time.monotonic() - began):,.0f} tokens/s")
    vectors = np.concatenate(parts)
    output = Path(config.output)
    manifest, written = output.with_name(f"{output.name}.{MANIFEST}"), [output.name]
    manifest.unlink(missing_ok=True)  # of an earlier call
    if output.suffix == ".npy":
        with whole_file(output) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors)
        write_text(output.with_suffix(".ids.txt"), "".join(f"{inert(id)}\n" for id in rows.ids))
        written.append(output.with_suffix(".ids.txt").name)
    else:
        write_vectors(output, rows.ids, vectors)
    origins = {"model": model_origin(config.model), "input": {"path": config.input, "sha256": sha256_file(Path(config.input))}}
    how = {"pooling": config.pooling or model.pooling, "normalize": config.normalize, "max_length": model.max_length}
    write_sealed(manifest, {"from": origins, **how, "precision": config.precision, "files": hash_some(output.parent, written)})
    cut = f", {truncated:,} texts truncated to {model.max_length} tokens" if truncated else ""
    print(f"{len(rows):,} vectors of {vectors.shape[1]} numbers ({config.pooling or model.pooling} pooling{cut}): {output}")
    return vectors
