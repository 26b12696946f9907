"""The saved model runs under mteb, on a task of one's own, and both say the same of it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.verbs import evaluate

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="mteb is not installed: pip install -e '.[mteb]'")


def pairs(texts: list[str]) -> list[dict[str, Any]]:
    """Each text and the same without its last words, and how many words of six stayed."""
    kept = [number % 7 for number in range(len(texts))]
    shorter = [" ".join([*text.split()[:keep], "spring"]) for text, keep in zip(texts, kept, strict=True)]
    return [{"text": a, "text_b": b, "label": keep} for a, b, keep in zip(texts, shorter, kept, strict=True)]


def test_mteb_says_of_the_saved_model_what_evaluate_says(folder: str, texts_of: Any, tmp_path: Path) -> None:
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata
    from sentence_transformers import SentenceTransformer

    rows = pairs([f"{text} the old river runs to the sea" for text in texts_of(60, 4)])

    class OurPairs(AbsTaskSTS):
        metadata = TaskMetadata(
            name="OurPairs", description="pairs of this test", type="STS", main_score="cosine_spearman", eval_langs=["eng-Latn"],
            dataset={"path": "made/here", "revision": "1"},
        )  # fmt: skip
        min_score, max_score = 0, 6

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
            columns = {"sentence1": "text", "sentence2": "text_b", "score": "label"}
            named = {name: [row[column] for row in rows] for name, column in columns.items()}
            self.dataset = DatasetDict({"test": Dataset.from_dict(named)})
            self.data_loaded = True

    model = SentenceTransformer(folder, device="cpu")
    result = mteb.evaluate(model, OurPairs(), cache=None, co2_tracker=False, show_progress_bar=False)
    theirs: Any = result.task_results[0].scores["test"][0]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ours = evaluate.run(evaluate.Config(task="similarity", model=folder, data=str(data), out=str(tmp_path / "out"), device="cpu"))
    assert ours["spearman"] == pytest.approx(theirs["cosine_spearman"], abs=1e-3) and 0.1 < ours["spearman"] < 1
    assert ours["pearson"] == pytest.approx(theirs["cosine_pearson"], abs=1e-5)
