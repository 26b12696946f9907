"""A model folder for other runtimes: ONNX, checked against torch by ONNX Runtime, and with 8-bit weights at a loss that is measured.

The graph is for padded batches: input_ids, attention_mask and token_type_ids, (N, L) int64 each, any number of sequences of any length up
to the model's positions, padded at their ends. What comes out depends on the folder:

    no task         sentence_embedding (N, d), pooled, and of length 1 where that is asked for
    a label, labels logits and probabilities (N, K)
    tags            logits and probabilities (N, L, K)
    a number        values (N,)
    answers         start_logits and end_logits (N, L)

Made by torch's own exporter from bertlab/model/opened.py. It knows no texts: tokenising, windows over long texts and the reading of
answers stay with the caller (`InPlaceOf` lets bertlab's own code do them on a graph). Costs seconds, and three times the model's memory.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bertlab
from bertlab.batches.labelled import Examples
from bertlab.errors import ConfigError, install
from bertlab.evaluation.vectors import Packed, measured_loss, stated_loss
from bertlab.inference import LoadedModel
from bertlab.model.encoder import Bert
from bertlab.model.facts import load_facts
from bertlab.model.heads import BertForPreTraining
from bertlab.model.opened import head_logits, opened, word_vectors
from bertlab.model.pooling import Pooling, pool_padded
from bertlab.tasks.contract import Task
from bertlab.training.forward import in_order

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 20  # torch's own default, with GELU as one operator; onnxruntime reads it from 1.17 on
TOLERANCE = 1e-4  # of a number: absolute, plus relative to it
CHECKED = ((1, 1.0), (1, 0.0), (3, 1.0), (8, 0.5), (8, 1.0))  # batches: sequences, and the longest as a share of the positions


@dataclass(frozen=True)
class Exported:
    """What is exported of a model: sentence vectors by `pooling`, of length 1 where asked for, or with None what its task gives."""

    model: LoadedModel
    pooling: Pooling | None = None
    normalize: bool = False

    @property
    def task(self) -> Task | None:
        return self.model.task if self.pooling is None else None

    @property
    def names(self) -> tuple[str, ...]:
        """What the outputs are called."""
        if self.task is None:
            return ("sentence_embedding",)
        of_task: dict[str, tuple[str, ...]] = {"regression": ("values",), "answers": ("start_logits", "end_logits")}
        return of_task.get(self.task.name, ("logits", "probabilities"))

    def finished(self, logits: Tensor) -> tuple[Tensor, ...]:
        """The outputs of logits (..., K)."""
        assert self.task is not None
        if self.task.name in ("regression", "answers"):
            return logits.unbind(-1)
        return logits, logits.sigmoid() if self.task.exclusive is False else logits.softmax(-1)


def facts_of(exported: Exported) -> dict[str, Any]:
    """What a user of the file must know, as JSON."""
    model = exported.model
    onnx, onnxruntime = _libraries()
    facts: dict[str, Any] = {
        "bertlab": bertlab.__version__,
        "kind": "onnx",
        "task": exported.task.name if exported.task else None,
        "inputs": list(INPUTS),
        "outputs": list(exported.names),
        "max_length": model.max_length,
        "tokenizer_sha256": model.tokenizer.sha256,
        "opset": OPSET,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    if exported.task is None:
        return facts | {"pooling": exported.pooling, "normalize": exported.normalize, "prompt": model.recorded.prompt}
    learnt = {name: value for name in ("learnt_on_dev", "tuned") if (value := load_facts(model.folder).get(name))}
    return facts | {"labels": model.labels, "pairs": model.pairs} | learnt


class Padded(nn.Module):
    """The graph to export: padded inputs -> the outputs that `Exported.names` names."""

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported
        self.model = exported.model.model  # so that torch finds its weights

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        encoder, model = self.exported.model.encoder, self.model
        hidden = opened(encoder, word_vectors(encoder, input_ids), token_type_ids, attention_mask).last
        if self.exported.pooling is not None:
            vectors = pool_padded(hidden, attention_mask, self.exported.pooling)
            return (F.normalize(vectors, dim=-1) if self.exported.normalize else vectors,)
        assert not isinstance(model, Bert | BertForPreTraining), "a model for a task"
        return self.exported.finished(head_logits(model, hidden))


# ---- making the file


def write_onnx(exported: Exported, path: Path) -> None:
    """Write the graph with its weights. Raises ConfigError where the libraries for it are absent, or a model is too large for one file."""
    onnx, _ = _libraries()
    positions = exported.model.model.config.max_position_embeddings
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=positions)
    ones = torch.ones(2, min(3, positions), dtype=torch.int64)
    examples = ones, ones.clone(), torch.zeros_like(ones)  # three tensors: one that is given twice becomes one input
    with _quietly():
        program = torch.onnx.export(
            Padded(exported).eval(), examples,
            dynamo=True, opset_version=OPSET, input_names=list(INPUTS), output_names=list(exported.names),
            dynamic_shapes={name: {0: batch, 1: length} for name in INPUTS}, verbose=False,
        )  # fmt: skip
    assert program is not None
    graph = program.model_proto
    if graph.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        raise ConfigError(f"{exported.model.folder}: more than 2 GB of weights, which one ONNX file cannot hold")
    _forget_places(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _forget_places(graph: Any) -> None:
    """Take out where in whose files each node came from: the exporter writes lines of code with their paths."""
    del graph.metadata_props[:]
    for part in (graph.graph, *graph.functions):
        del part.metadata_props[:]
        part.doc_string = ""
        for each in (*part.node, *part.value_info, *getattr(part, "input", ()), *getattr(part, "output", ())):
            if not isinstance(each, str):
                del each.metadata_props[:]
                each.doc_string = ""


def write_quantised(whole: Path, path: Path) -> None:
    """The same graph with 8-bit weights, and products in 8 bits whose scale is found as they come (onnxruntime's dynamic quantisation).

    A scale a column, and weights of 7 bits: a processor with AVX2 alone adds pairs of products in 16 bits, which 8-bit weights overflow.
    Of all-MiniLM-L6-v2 this loses a seventh of what one scale and 8 bits lose (docs/exporting.md).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly():
        quantize_dynamic(str(whole), str(path), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ConfigError(f"ONNX needs {error.name}, which is not installed: {install('onnx')}") from None
    return onnx, onnxruntime


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporters say of themselves: their failures are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---- using it


class InPlaceOf(nn.Module):
    """An ONNX file where bertlab's code wants the model: flat batches in, flat logits out, or sentence vectors (N, d) where there is no
    task. So tasks run on it as they are."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        _, onnxruntime = _libraries()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs = self.session.get_outputs()
        self.names = [output.name for output in outputs]
        self.of_tokens = outputs[0].shape[1:2] == ["length"]

    def forward(self, **encoder_inputs: Any) -> Tensor:
        found = self.outputs(**encoder_inputs)
        if self.names[0] == "start_logits":
            return torch.stack(found, -1)
        return found[0][:, None] if self.names[0] == "values" else found[0]

    def outputs(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> list[Tensor]:
        """All outputs of a flat batch, what is of tokens (T, ...) without padding."""
        lengths = cu_seqlens.diff()
        real = torch.arange(max_seqlen) < lengths[:, None]

        def padded(values: Tensor) -> np.ndarray:
            return torch.zeros(real.shape, dtype=torch.int64).masked_scatter(real, values).numpy()

        rows = (padded(input_ids), real.long().numpy(), padded(token_type_ids))
        found = [torch.from_numpy(each) for each in self.session.run(None, dict(zip(INPUTS, rows, strict=True)))]
        return [each[real] for each in found] if self.of_tokens else found


# ---- is it the same?


def checked(exported: Exported, path: Path, seed: int = 0) -> dict[str, Any]:
    """Hold the file against torch on batches of drawn sequences of mixed lengths, pairs among them: how many, and the largest difference.

    Raises ConfigError where a number differs by more than TOLERANCE.
    """
    session = InPlaceOf(path)
    draw = np.random.default_rng(seed)
    largest, within, sequences = 0.0, True, 0
    for count, share in CHECKED:
        examples = _drawn(exported.model, draw, count, max(2, round(share * exported.model.max_length)))
        inputs: dict[str, Any] = examples.batch(np.arange(count)).encoder_inputs()
        with torch.inference_mode():
            pairs = zip(_by_torch(exported, examples), session.outputs(**inputs), strict=True)
            for ours, theirs in pairs:
                largest = max(largest, float((ours - theirs).abs().max()))
                within = within and torch.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE)  # False for NaN too
        sequences += count
    if not within:
        raise ConfigError(
            f"the ONNX model's numbers differ from torch's by up to {largest:.1e}, over {TOLERANCE:.0e}: nothing is written; "
            "try the versions of onnx, onnxruntime and torch in constraints.txt"
        )
    return {"batches": len(CHECKED), "sequences": sequences, "largest_difference": largest, "tolerance": TOLERANCE}


def _by_torch(exported: Exported, examples: Examples) -> tuple[Tensor, ...]:
    """What bertlab's own, flat path gives."""
    if exported.task is None:
        return (torch.from_numpy(exported.model.vectors_of(examples, exported.pooling, exported.normalize)),)
    return exported.finished(exported.model.model(**examples.batch(np.arange(len(examples))).encoder_inputs()))


def _drawn(model: LoadedModel, draw: np.random.Generator, count: int, longest: int) -> Examples:
    """Sequences of 2 to `longest` tokens, one of them that long; every second one a pair."""
    lengths = np.minimum(draw.integers(2, longest + 1, count), longest)
    lengths[0] = longest
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokenizer = model.tokenizer
    ids = draw.choice(np.flatnonzero(~tokenizer.special), offsets[-1]).astype(np.int32)
    segments = np.zeros(len(ids), dtype=np.int8)
    ids[offsets[:-1]], ids[offsets[1:] - 1] = tokenizer.cls_id, tokenizer.sep_id
    for row in range(1, count, 2):
        middle = offsets[row] + lengths[row] // 2
        ids[middle] = tokenizer.sep_id
        segments[middle + 1 : offsets[row + 1]] = 1
    return Examples(ids, segments, offsets, np.full(count, -1, dtype=np.int64), 0)


# ---- what 8 bits lose


def lost(exported: Exported, whole: Path, quantised: Path, examples: Examples, gold: Any = None) -> dict[str, Any]:
    """What the quantised file loses against the whole one on encoded texts.

    Of vectors their cosines (evaluation/vectors.py); of answers the share that is the same; of probabilities and numbers the mean
    difference; and with `gold` the headline scores of both files.
    """
    task, known = exported.task, exported.model.known
    found: dict[str, Any] = {"examples": len(examples)}
    sessions = InPlaceOf(whole), InPlaceOf(quantised)
    if task is None:
        exact, less = (_vectors(session, examples, exported.model.model.config.hidden_size) for session in sessions)
        return found | stated_loss([measured_loss(Packed(less), "float32", exact)])
    outputs = [task.run(session, examples, known, device=torch.device("cpu")) for session in sessions]
    if isinstance(outputs[0], np.ndarray):
        found |= {"mean_difference": float(np.abs(outputs[0] - outputs[1]).mean())}
    if task.name != "regression":
        said = [[_without_numbers(answer) for answer in task.answers(each, known)] for each in outputs]
        found |= {"same": float(np.mean([first == second for first, second in zip(*said, strict=True)]))}
    if gold is not None:
        scores = [task.headlines(task.metrics(gold, each, known)) for each in outputs]
        found |= {"scores": {name: [scores[0][name], scores[1][name]] for name in scores[0]}}
    return found


def _vectors(session: InPlaceOf, examples: Examples, width: int) -> np.ndarray:
    return in_order(session, examples, lambda batch: session(**batch.encoder_inputs()), width, device=torch.device("cpu"), precision="fp32")


def _without_numbers(answer: Any) -> Any:
    """What an answer says, of whatever task: its label, labels, tags or text."""
    return next(getattr(answer, name) for name in ("label", "labels", "tags", "text") if hasattr(answer, name))
