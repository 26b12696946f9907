"""Model cards: README.md of a model folder, written from facts, with the metadata that the Hugging Face hub reads."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import bertlab
from bertlab.pages.metadata import front_matter, results_on, text
from bertlab.pages.screen import likeness_line, metric_words

if TYPE_CHECKING:
    from bertlab.model.heads import BertForPreTraining
    from bertlab.tasks.contract import Task
    from bertlab.tokens.corpus import Corpus

_OF_VECTORS = ("sentence-transformers", "feature-extraction")  # what the hub's readers look for

_BEFORE = "Text of the pretraining"

_USE = """## Use

```python
import bertlab
model = bertlab.load("{folder}")
{call}
```

It opens as it is in transformers (`{opens}.from_pretrained`) and sentence-transformers (`SentenceTransformer`), too.
"""


def _use(folder: str, call: str, opens: str = "AutoModel") -> str:
    return _USE.format(folder=folder, call=call, opens=opens)


def pretraining_facts(
    corpus: "Corpus",
    model: "BertForPreTraining",
    state: dict[str, Any],
    *,
    steps: int,
    started_from: str | None,
    text_read: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """bertlab.json of a pretrained model; state: what the run has counted and measured; text_read: what was read before this run."""
    import torch

    sources = named_sources(corpus)
    return {
        "bertlab": bertlab.__version__,
        "kind": "pretrained",
        "corpus": {
            "sha256": corpus.sha256,
            "documents": corpus.train.num_documents,
            "tokens": corpus.train.num_tokens,
            "sources": sources,
            "licences": sorted({source["licence"] for source in sources}),
            "languages": _languages(corpus.manifest.get("settings", {})),
        },
        "tokenizer_sha256": corpus.tokenizer.sha256,
        "vocab_size": corpus.tokenizer.vocab_size,
        "lowercase": corpus.tokenizer.lowercase,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": model.config.num_hidden_layers,
        "hidden_size": model.config.hidden_size,
        "started_from": started_from,
        "text_read": list(text_read),
        "steps": steps,
        "tokens_seen": state["tokens_seen"],
        "rates": state.get("rates"),
        "skipped_steps": state["skipped"],
        "seconds": round(state["seconds"], 1),
        "pooler_trained": True,
        "heldout_start": state["heldout"][0] if state["heldout"] else None,
        "heldout": state["best"],
        "torch": torch.__version__,
    }


def named_sources(corpus: "Corpus") -> list[dict[str, str]]:
    """What a corpus was prepared from, by name and licence, as bertlab.json has it under `corpus`."""
    return [{"name": source["name"], "licence": source.get("licence", "")} for source in corpus.manifest["sources"]]


def pretrained_card(facts: dict[str, Any]) -> str:
    """The card of a pretrained model, from its bertlab.json."""
    heldout, corpus, pipeline = facts["heldout"], facts["corpus"], "fill-mask"
    names = _names([*facts["text_read"], *corpus["sources"]])
    scores = {name: heldout[name] for name in ("mlm_loss", "masked_accuracy", "nsp_accuracy")} if heldout else {}
    results = results_on(scores, pipeline=pipeline, split="heldout", data="held-out documents of its corpus", sha256=corpus["sha256"])
    measured = (
        f"Held-out text: MLM loss {heldout['mlm_loss']:.3f} nats (unigrams: {heldout['unigram_loss']:.3f}), masked accuracy "
        f"{heldout['masked_accuracy']:.1%}, next-sentence accuracy {heldout['nsp_accuracy']:.1%} "
        f"(the commoner answer: {heldout['nsp_majority']:.1%}); "
        f"n = {heldout['masked_tokens']:.0f} masked tokens, {heldout['pairs']:.0f} pairs."
        if heldout
        else "No text was held out, so nothing is known of how well it predicts."
    )
    lines = [
        *front_matter(
            pipeline,
            licences=sorted({*corpus["licences"], *(source["licence"] for source in facts["text_read"])}),
            languages=corpus["languages"],
            sources=names,
            started_from=facts["started_from"],
            results=results,
        ),
        f"# A BERT pretrained by bertlab {facts['bertlab']}",
        "",
        f"{facts['parameters']:,} parameters, {facts['layers']} layers of width {facts['hidden_size']}, {facts['vocab_size']:,} pieces"
        f" ({'uncased' if facts['lowercase'] else 'cased'}). "
        f"Trained on {corpus['documents']:,} documents ({corpus['tokens']:,} tokens) for {facts['steps']:,} steps"
        f" ({facts['tokens_seen']:,} tokens) with masked language modelling and next-sentence prediction"
        + (f", starting from {_safe(facts['started_from'])}." if facts["started_from"] else ", from random weights."),
        "",
        measured,
        "",
        "The pooler was trained by next-sentence prediction alone; a raw [CLS] is a poor sentence vector, so the pooling here is the mean.",
        "",
        *_text_read("Training text", [*facts["text_read"], *corpus["sources"]]),
        _use("RUN/model", 'model.fill("the [MASK] of the river")\nmodel.embed(["a sentence", "another"])'),
    ]
    return "\n".join(lines)


def classifier_card(facts: dict[str, Any], labels: list[str]) -> str:
    """The card of a fine-tuned model, from its bertlab.json."""
    from bertlab.tasks.choosing import TASKS

    task, dev, test = TASKS[facts.get("task", "single-label")], facts["dev"], facts.get("test")

    def scores(metrics: dict[str, Any]) -> str:
        shown = reversed(task.headlines(metrics).items())
        return f"{', '.join(f'{metric_words(name)} {value:.3f}' for name, value in shown)} (n = {metrics['n']})"

    results = []
    if test:  # dev chose, so it is in no table of results
        scored = facts["data"]["test"]
        split: dict[str, Any] = {"split": "test", "data": scored["name"], "sha256": scored["sha256"], "examples": test["n"]}
        results = results_on(task.headlines(test), pipeline=task.pipeline, **split)
    best = "the best epoch" if facts["seeds"] == 1 else f"the best of {facts['seeds']} seeds"
    searched = f", with the best of {facts['trials']:,} settings by the same" if facts.get("trials") else ""
    of = task.of.format(count=len(labels))
    of = of if len(labels) < 2 else f"{of}: {', '.join(map(_safe, labels[:50]))}{' ...' if len(labels) > 50 else ''}"
    lines = [
        *front_matter(task.pipeline, sources=_names(facts["text_read"]), started_from=facts["started_from"], results=results),
        f"# A {'classifier' if task.name == 'single-label' else f'{task.name} model'} fine-tuned by bertlab {facts['bertlab']}",
        "",
        f"{of[0].upper()}{of[1:]}. Started from {_safe(facts['started_from'])}; {facts['train_examples']:,} training examples;"
        f" {best} by dev {metric_words(next(iter(task.scores)))}{searched}.",
        "",
        f"Dev: {scores(dev)}; chosen by these, so they flatter.",
        *([f"Test: {scores(test)}."] if test else []),
        *_against(task, facts),
        "",
        *_text_read(_BEFORE, facts["text_read"]),
        _use("RUN/model", task.call, opens=task.head.__name__.replace("Bert", "AutoModel", 1)),
        *_pipeline(task, facts),
    ]
    return "\n".join(lines)


def _pipeline(task: "Task", facts: dict[str, Any]) -> list[str]:
    """How whoever has transformers alone gets the same answers of a text, or a pair, and what is different."""
    from bertlab.tasks.measures import LEARNT

    if task.pipeline != "text-classification":
        return []
    how = {"multi-label": 'top_k=None, function_to_apply="sigmoid"', "regression": 'function_to_apply="none"'}.get(task.name, "top_k=None")
    longest = f", max_length={facts['max_length']}" if facts.get("max_length") else ""
    text = '{"text": "a text", "text_pair": "its second text"}' if facts.get("pairs") else '"a text"'
    of_sets = " A label is given where its probability is above 0.5." if task.name == "multi-label" else ""
    learnt = facts.get(LEARNT)
    temperature = learnt.get("temperature") if isinstance(learnt, dict) else learnt
    warmer = f" bertlab divides logits by the temperature that dev taught, {temperature:.3f}, before." if temperature else ""
    of_longer = {"tail": "its end", "head+tail": "its beginning and its end", "windows": "all, in windows"}
    longer = f" Of a longer text bertlab reads {of_longer[facts['long']]}." if facts.get("long", "head") in of_longer else ""
    return [
        "",
        "With transformers alone, from this folder:",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'model = pipeline("text-classification", ".", truncation=True{longest}, {how})',
        f"model([{text}])",
        "```",
        "",
        *([f"{of_sets}{warmer}{longer}".strip()] if of_sets or warmer or longer else []),
    ]


def _against(task: "Task", facts: dict[str, Any]) -> list[str]:
    """What stands beside the test's scores: what needs no BERT, and texts that were learnt from."""
    lines, first = [], metric_words(next(iter(task.scores)))
    if without := facts.get("baselines"):
        lines.append(f"Without a BERT: {', '.join(f'{name} {first} {value:.3f}' for name, value in without.items())}.")
    leaks = facts.get("leakage") or {}
    if seen := leaks.get("equal", 0) + leaks.get("near", 0):
        lines.append(f"Of the {leaks['rows']:,} test texts {seen:,} are in the training text or nearly so: the test's scores flatter.")
    return lines


_RUN = """```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # what spells [SEP] in a text stays text
tokenizer.enable_truncation({max_length})
tokenizer.enable_padding()
session = onnxruntime.InferenceSession("model.onnx")

encoded = tokenizer.encode_batch({texts})
inputs = {{
    "input_ids": [each.ids for each in encoded],
    "attention_mask": [each.attention_mask for each in encoded],
    "token_type_ids": [each.type_ids for each in encoded],
}}
outputs = session.run(None, {{name: numpy.array(rows, dtype=numpy.int64) for name, rows in inputs.items()}})
```
"""


def encoder_card(facts: dict[str, Any]) -> str:
    """The card of an encoder that was taken out of a model for its vectors, from its bertlab.json."""
    how = f"the {facts['pooling']} pooling{', scaled to length 1' * facts['normalize']}"
    of_vectors: dict[str, Any] = {"library": "sentence-transformers", "tags": _OF_VECTORS, "sources": _names(facts["text_read"])}
    matter = front_matter("sentence-similarity", **of_vectors, started_from=facts["made_from"]["path"])
    lines = [*matter, f"# Text vectors by bertlab {facts['bertlab']}", ""]
    lines += [f"The encoder of {_safe(facts['made_from']['path'])} as it was; a vector is {how}.", ""]
    lines += _text_read(_BEFORE, facts["text_read"])
    return "\n".join([*lines, _use("DIR", 'model.embed(["a sentence", "another"])')])


def exported_card(facts: dict[str, Any]) -> str:
    """README.md of a folder for ONNX, from its bertlab.json."""
    from bertlab.tasks.choosing import TASKS

    check, quantised = facts["check"], facts.get("quantised")
    outputs = ", ".join(f"`{name}`" for name in facts["outputs"])
    pipeline = "feature-extraction" if facts["task"] is None else TASKS[facts["task"]].pipeline
    if facts["task"] is None:
        prompt = f" The model was trained with this before every text: {_safe(json.dumps(facts['prompt']))}." if facts["prompt"] else ""
        what = f"sentence vectors: the {facts['pooling']} pooling{', scaled to length 1,' * facts['normalize']} is inside.{prompt}"
        texts = json.dumps([facts["prompt"] + text for text in ("a text", "another, longer text")])
    else:
        names = f" The classes in order: {_safe(json.dumps(facts['labels'], ensure_ascii=False))}." if facts["labels"] else ""
        what = f"the answers of a model for the task {facts['task']}.{names}"
        pairs = facts["pairs"] or facts["task"] == "answers"
        texts = '[("a text", "its second text"), ("another", "text")]' if pairs else '["a text", "another, longer text"]'
    lines = [
        # no library of the hub's list loads the folder by itself
        *front_matter(pipeline, library=None, tags=["onnx"], sources=_names(facts["text_read"])),
        "# A BERT as ONNX",
        "",
        f"Exported by bertlab {facts['bertlab']}. `model.onnx` gives {outputs}: {what}",
        "Batches of any number of sequences, padded at their ends, of any length up to the model's positions. Texts of more than "
        f"{facts['max_length']} tokens are cut. From this folder:",
        "",
        _RUN.format(max_length=facts["max_length"], texts=texts),
        f"Checked against torch on {check['batches']} batches of mixed lengths: largest difference {check['largest_difference']:.1e}.",
    ]
    if quantised:
        found = json.dumps({name: value for name, value in quantised.items() if name not in ("bytes", "whole_bytes")})
        lines.append(f"`model_int8.onnx` has 8-bit weights; against the whole model it was measured: {_safe(found)}.")
    return "\n".join([*lines, "", *_text_read(_BEFORE, facts["text_read"])])


def vectors_card(facts: dict[str, Any]) -> str:
    """The card of a model trained for vectors, from its bertlab.json."""
    dims, sources = facts["matryoshka_dims"], facts["corpus"]["sources"] if "corpus" in facts else []
    results = []
    if "test" in facts:
        found, pipeline = facts["test"], "sentence-similarity"
        scores = {name: value for name, value in found["after"].items() if name != "n"}
        results = results_on(scores, pipeline=pipeline, split="test", data=found["what"], examples=found["after"]["n"])
    how: dict[str, Any] = {
        "library": "sentence-transformers",
        "tags": _OF_VECTORS,
        "sources": _names([*facts["text_read"], *sources]),
        "started_from": facts["started_from"],
        "results": results,
    }
    made = f"{facts['pooling']} of the tokens' states" if facts["pooling"] != "cls" else "the state of [CLS]"
    lines = [
        *front_matter("sentence-similarity", **how),
        f"# Text vectors by bertlab {facts['bertlab']}",
        "",
        f"Started from {_safe(facts['started_from'])}; {facts['rows']:,} {facts['texts']}, {facts['batch_size']} a step, "
        f"{facts['steps']:,} steps, temperature {facts['temperature']}; the weights of step {facts['best']['step']:,}, the best on dev.",
        f"A vector is the {made}{', of length 1' if facts['normalize'] else ''}."
        + (f" Made to be cut (Matryoshka): the first {', '.join(map(str, dims))} numbers." if dims else ""),
        "",
        *[f"{name.capitalize()}, {_safe(facts[name]['what'])}: {likeness_line(facts[name])}." for name in ("dev", "test") if name in facts],
        "",
        "Dev chose the weights, so it flatters.",
        "",
        *_text_read(_BEFORE, facts["text_read"]),
        *_text_read("Training text", sources),
        _use("RUN/model", 'model.embed(["a sentence", "another"])'),
    ]
    return "\n".join(lines)


def _names(sources: Sequence[Mapping[str, str]]) -> list[str]:
    return [source["name"] for source in sources]


def _text_read(title: str, sources: Sequence[Mapping[str, str]]) -> list[str]:
    """A section with the sources of text and their licences, which whoever passes the model on has to know; nothing where none is known."""
    lines = [f"- {_safe(source['name'])} ({_safe(source.get('licence') or 'licence not stated')})" for source in sources]
    return [f"## {title}", "", *dict.fromkeys(lines), ""] if lines else []


def _safe(name: str) -> str:
    """A text of a stranger's as one line of Markdown that holds no mark-up: no element, link, picture, emphasis, heading or list."""
    plain = re.sub(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text(name).strip())
    return re.sub(r"^(\d*)([-+#=.)])", r"\1\\\2", escape(plain, quote=False))


def _languages(settings: dict[str, Any]) -> list[str]:
    """The language that prepare was told to keep, or told of for the sentences; English is what it takes unasked, so that says nothing."""
    kept, told = settings.get("cleaning", {}).get("language"), settings.get("language", "en")
    return [kept] if kept else [told] * (told != "en")
