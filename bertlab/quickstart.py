"""bertlab quickstart: the whole walk on a small real text that ships with bertlab, by the verbs that everyone uses.

    bertlab quickstart --out DIR

prepare -> pretrain -> finetune (and once more from random weights) -> evaluate -> embed, about five minutes on two cores, with
no network. Ends with one screen of numbers as they are; where the small BERT loses to TF-IDF, the screen says so.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertlab.errors import ConfigError
from bertlab.schema import Settings

# The budget is six minutes on two cores, also those without AVX-512, so: the smallest preset, 8k pieces, no dropout (about 1.6 epochs in
# all), Muon, texts cut at 32 tokens and a high learning rate for fine-tuning (docs/results.md has what was measured for these choices).
PRETRAIN_STEPS, MAX_LENGTH = 400, 32
QUERIES = 3


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    out: str = "bertlab-quickstart"
    """Folder to write everything under; a run that was cut off goes on."""
    seeds: int = 3
    """Seeds of each fine-tuning."""
    steps: int = PRETRAIN_STEPS
    """Pretraining steps; fewer are faster and worse."""
    epochs: int = 2
    """Epochs of each fine-tuning."""
    device: Literal["cpu", "cuda"] | None = None
    """Default: the GPU where there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1 or self.steps < 1 or self.epochs < 1:
            raise ConfigError("seeds, steps and epochs must be 1 or more")


def run(config: Config) -> dict[str, Any]:
    """Walk the whole path under config.out; writes and returns quickstart.json, prints the screen."""
    from bertlab import sample
    from bertlab.disk import write_json
    from bertlab.evaluation.vectors import read_vectors
    from bertlab.training.processes import choose_device
    from bertlab.verbs import embed, evaluate, finetune, prepare, pretrain

    out = Path(config.out)
    articles, train, test = (str(sample.path(name)) for name in ("articles.jsonl.xz", "topics_train.jsonl.xz", "topics_test.jsonl.xz"))
    began = time.monotonic()
    seconds: dict[str, float] = {}

    def stage(name: str, verb: Any, **settings: Any) -> Any:
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        result = verb.run(verb.Config(**settings))
        seconds[name] = round(time.monotonic() - start, 1)
        return result

    corpus, base, tuned, scratch = (str(out / name) for name in ("corpus", "pretrained", "finetuned", "from-random"))
    resumed = (out / "corpus").is_dir()
    if not resumed:
        stage("prepare", prepare, source=(articles,), out=corpus, vocab_size=8192, licence="CC-BY-SA-4.0")
    pretrained = stage(
        "pretrain",
        pretrain,
        corpus=corpus,
        out=base,
        preset="tiny",
        steps=config.steps,
        learning_rate=3e-3,  # of 400 steps the best of a few tried (docs/performance.md)
        heldout_batches=12,
        device=config.device,
    )
    shared = {"train": train, "test": test, "seeds": config.seeds, "epochs": config.epochs, "learning_rate": 2e-3, "batch_size": 32}
    on_cpu = choose_device(config.device).type == "cpu"
    shared |= {
        "device": config.device,
        "max_length": MAX_LENGTH,
        "precision": "fp32" if on_cpu else "auto",
    }  # so small, bf16 only adds casts there
    best = stage("finetune", finetune, model=f"{base}/model", out=tuned, **shared)
    random = stage(
        "finetune from random weights", finetune, model=f"{base}/model", out=scratch, from_random=True, baselines=False, **shared
    )
    model = f"{tuned}/model"
    metrics = stage("evaluate", evaluate, model=model, data=test, out=str(out / "evaluation"), device=config.device)
    stage("embed", embed, model=f"{base}/model", input=test, output=str(out / "vectors.parquet"), normalize=True, device=config.device)

    systems = {"fine-tuned": metrics, "from random weights": random["test"], **best["baselines"]}
    result = {
        "seconds": round(time.monotonic() - began, 1),
        "stage_seconds": seconds,
        "resumed": resumed,
        "heldout": _heldout(pretrained),
        "systems": [
            {"name": name, "accuracy": scores["accuracy"], "macro_f1": scores["macro"]["f1"], **scores} for name, scores in systems.items()
        ],
        "over_seeds": {"fine-tuned": best["over_seeds"], "from random weights": random["over_seeds"]},
        "neighbours": neighbours(test, read_vectors(out / "vectors.parquet")[1]),
        "model": model,
        "pretrained_model": f"{base}/model",
    }
    write_json(out / "quickstart.json", result)
    print(screen(result, out))
    return result


def _heldout(pretrained: dict[str, Any]) -> dict[str, float]:
    """The held-out numbers of a pretraining run, before and after, by the names of quickstart.json."""
    before, after = pretrained["heldout_start"], pretrained["heldout"]
    return {
        "mlm_loss_start": before["mlm_loss"],
        "mlm_loss_end": after["mlm_loss"],
        "unigram_loss": after["unigram_loss"],
        "masked_accuracy_start": before["masked_accuracy"],
        "masked_accuracy": after["masked_accuracy"],
        "nsp_accuracy": after["nsp_accuracy"],
        "nsp_majority": after["nsp_majority"],
    }


def neighbours(file: str, vectors: Any) -> list[dict[str, Any]]:
    """For the first texts of a labelled file, the two nearest others by cosine of their vectors (n, d), with their labels."""
    from bertlab.corpus.labelled import read_labelled
    from bertlab.evaluation.vectors import nearest

    rows = read_labelled(file)
    assert rows.labels is not None
    places, cosines = nearest(vectors[:QUERIES], vectors, 3)
    found = []
    for query in range(QUERIES):
        others = [(int(row), float(cosine)) for row, cosine in zip(places[query], cosines[query], strict=True) if row != query][:2]
        near = [{"text": rows.texts[row], "label": rows.labels[row], "cosine": cosine} for row, cosine in others]
        found.append({"text": rows.texts[query], "label": rows.labels[query], "nearest": near})
    return found


def screen(result: dict[str, Any], out: Path) -> str:
    """The closing screen: what was learnt, how good the classifiers are, which sentences are near, where it all lies, what to type next."""
    from bertlab.pages.screen import inert, table

    heldout, systems = result["heldout"], result["systems"]
    lines = ["", "=" * 100, f"bertlab quickstart: {result['seconds']:.0f} s{', going on from an earlier run' * result['resumed']}", ""]
    lines.append("1. The BERT, on held-out text")
    lines.append(
        f"   masked words   loss {heldout['mlm_loss_start']:.3f} -> {heldout['mlm_loss_end']:.3f} nats"
        f" (unigram frequencies: {heldout['unigram_loss']:.3f}),"
        f" right {heldout['masked_accuracy_start']:.1%} -> {heldout['masked_accuracy']:.1%}"
    )
    lines.append(f"   next sentence  {heldout['nsp_accuracy']:.1%} right (always the commoner answer: {heldout['nsp_majority']:.1%})")
    lines += ["", f"2. Classifiers on {systems[0]['n']} test texts: precision / recall / F1"]
    rows = [
        [name, *("{precision:.2f} {recall:.2f} {f1:.2f}".format(**system["per_class"][name]) for system in systems)]
        for name in systems[0]["per_class"]
    ]
    rows += [
        [f"{kind} average", *("{precision:.2f} {recall:.2f} {f1:.2f}".format(**system[kind]) for system in systems)]
        for kind in ("macro", "weighted")
    ]
    rows.append(["accuracy", *(f"{system['accuracy']:.3f}" for system in systems)])
    lines += table(["", *(system["name"] for system in systems)], rows).splitlines()
    for name, spread in result["over_seeds"].items():
        deviation = "" if spread["macro_f1"]["sd"] is None else f", standard deviation {spread['macro_f1']['sd']:.3f}"
        lines.append(f"   {name}: macro-F1 over seeds {spread['macro_f1']['mean']:.3f}{deviation}")
    lines += [f"   {sentence}" for sentence in verdicts({system["name"]: system["macro_f1"] for system in systems})]
    lines += ["", "3. Nearest texts by the pretrained BERT's vectors (mean over tokens)"]
    for example in result["neighbours"]:
        lines.append(f"   [{inert(example['label'])}] {inert(example['text'])[:86]}")
        lines += [f"      {near['cosine']:.3f} [{inert(near['label'])}] {inert(near['text'])[:76]}" for near in example["nearest"]]
    where = shlex.quote(str(out))
    lines += [
        "",
        "4. Where everything lies",
        f"   corpus {where}/corpus   BERT {shlex.quote(result['pretrained_model'])}   classifier {shlex.quote(result['model'])}",
        f"   predictions {where}/evaluation/predictions.parquet   vectors {where}/vectors.parquet   numbers {where}/quickstart.json",
        "",
        "5. Now with your own text",
        "   bertlab prepare  --source MY_TEXTS/ --out my-corpus",
        "   bertlab pretrain --corpus my-corpus --out my-bert --preset tiny --steps 800   (minutes; --preset mini: hours)",
        "   bertlab finetune --model my-bert/model --train my-train.csv --test my-test.csv --out my-classifier",
        "   bertlab evaluate --model my-classifier/model --data more.csv --out my-scores",
        "   bertlab predict  --model my-classifier/model --input my-texts.txt --output my-answers.csv",
        "   bertlab embed    --model my-bert/model --input my-texts.txt --output my-vectors.parquet",
    ]
    return "\n".join(lines)


def verdicts(macro_f1: dict[str, float]) -> list[str]:
    """In plain words, what the macro-F1 of the systems says of the fine-tuned one. Differences on one test set, no test of significance."""
    ours = macro_f1["fine-tuned"]
    sentences = []
    for name, score in macro_f1.items():
        if name != "fine-tuned":
            word = "above" if ours > score else "below" if ours < score else "equal to"
            sentences.append(f"Macro-F1 fine-tuned: {ours:.3f}, {word} {score:.3f} ({name}).")
    if ours < macro_f1["TF-IDF + logistic regression"]:
        sentences.append(
            "Minutes of pretraining on 0.7 million words do not make a BERT that beats word counts on topics; more text and time do."
        )
    sentences.append(
        "That is one test set, and the seed that dev chose: whether a difference would come again is for bertlab compare to say."
    )
    return sentences
