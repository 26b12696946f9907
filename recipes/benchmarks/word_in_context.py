"""Is a word meant in the sense of a definition? Accuracy of a cosine and a threshold on WiC-TSV, contextual vectors against static ones.

    python recipes/benchmarks/word_in_context.py --model FOLDER --train train.jsonl.gz --dev dev.jsonl

The files have a row a question: `word`, `index` (of the word among the text's words), `text`, `text_b` (a definition), `label` T or F
(Breit et al. 2021). The vector of the word in its sentence is compared with that of the same word in "word: definition" or with the mean of
the definition's tokens. Layers and threshold are those of the highest accuracy on train; the accuracy that counts is on dev, with Wilson's
interval. Beside it, from the table of word embeddings alone: the word, and the mean of the words around it, each against the definition's.
Prints a table and, last, one JSON object.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.embedding.contexts import Occurrence, last_layers, word_vectors
from bertlab.embedding.engine import Embedder, What, open_embedder
from bertlab.evaluation.intervals import wilson
from bertlab.evaluation.vectors import cosines
from bertlab.pages.screen import table


def questions(path: str) -> list[dict[str, Any]]:
    opener: Any = gzip.open if Path(path).suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def place_of(number: int, row: dict[str, Any]) -> Occurrence:
    """The characters of the word in its text, whose words have a space between them."""
    words = row["text"].split(" ")
    start = len(" ".join(words[: row["index"]])) + (row["index"] > 0)
    return Occurrence(number, start, start + len(words[row["index"]]))


def similarities(embedder: Embedder, rows: list[dict[str, Any]], layers: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Each kind's cosine (n,) for n questions."""
    definitions = [f"{row['word']}: {row['text_b']}" for row in rows]
    inside = word_vectors(embedder, [row["text"] for row in rows], [place_of(*each) for each in enumerate(rows)], layers)
    defined = word_vectors(embedder, definitions, [Occurrence(number, 0, len(row["word"])) for number, row in enumerate(rows)], layers)
    meaning = embedder.vectors(embedder.encode([row["text_b"] for row in rows]), What(pooling="mean", layers=layers))
    return {
        "contextual: word, word of the definition": cosines(inside.contextual, defined.contextual),
        "contextual: word, mean of the definition": cosines(inside.contextual, meaning),
        "static: word, mean of the definition": cosines(inside.word, defined.bag),
        "static: words around it, mean of the definition": cosines(inside.bag, defined.bag),
    }


def best_threshold(cosine: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """The cosine from which on T is said, and the accuracy that it has here: of equally good ones the lowest."""
    order = np.argsort(cosine, kind="stable")
    values, right = cosine[order], gold[order]
    below = np.concatenate([[0], np.cumsum(~right)])  # F below the cut
    above = right.sum() - np.concatenate([[0], np.cumsum(right)])
    possible = np.concatenate([[True], np.diff(values) > 0, [True]])
    scores = np.where(possible, below + above, -1)
    cut = int(scores.argmax())
    return float(values[cut]) if cut < len(values) else float("inf"), float(scores[cut] / len(gold))


def measured(model: str, train: str, dev: str) -> dict[str, Any]:
    embedder = open_embedder(model, "cpu")
    asked = {name: questions(path) for name, path in (("train", train), ("dev", dev))}
    gold = {name: np.array([row["label"] == "T" for row in rows]) for name, rows in asked.items()}
    best: dict[str, Any] = {}
    for layers in dict.fromkeys([last_layers(embedder), (-2, -1), (-1,)]):
        found = {name: similarities(embedder, rows, layers) for name, rows in asked.items()}
        for kind, cosine in found["train"].items():
            threshold, accuracy = best_threshold(cosine, gold["train"])
            if accuracy > best.get(kind, {"train": 0})["train"]:
                right = int(((found["dev"][kind] >= threshold) == gold["dev"]).sum())
                interval = wilson(right, len(gold["dev"]))
                numbers = {"threshold": threshold, "train": accuracy, "dev": right / len(gold["dev"])}
                best[kind] = {
                    "layers": [] if kind.startswith("static") else list(layers),
                    **numbers,
                    "low": interval["low"],
                    "high": interval["high"],
                }
    share = max(gold["dev"].mean(), 1 - gold["dev"].mean())
    return {"model": model, "train": len(gold["train"]), "dev": len(gold["dev"]), "commoner": float(share), "kinds": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("model", "train", "dev"):
        parser.add_argument(f"--{name}", required=True)
    facts = measured(**vars(parser.parse_args()))
    rows = [
        [kind, " ".join(map(str, each["layers"])), f"{each['train']:.3f}", f"{each['dev']:.3f}", f"{each['low']:.3f} to {each['high']:.3f}"]
        for kind, each in facts["kinds"].items()
    ]
    print(table(["vectors compared", "layers", "train", "dev", "95 %"], rows))
    print(f"the commoner answer of dev: {facts['commoner']:.3f}, of {facts['dev']:,}")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
