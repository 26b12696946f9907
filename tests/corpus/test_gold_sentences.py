"""Sentences against gold: 142 hard paragraphs in 13 languages, composed for this project (gold_sentences.jsonl)."""

import importlib.util
from pathlib import Path

# just below what was measured with sentencex 1.0.32 (recipes/benchmarks/sentences.py): 0.933 for English, 0.923 for all
ENGLISH_FLOOR, OVERALL_FLOOR = 0.925, 0.915
BENCHMARK = Path(__file__).parents[2] / "recipes" / "benchmarks" / "sentences.py"


def test_sentencex_finds_as_many_sentence_ends_as_when_it_was_chosen() -> None:
    spec = importlib.util.spec_from_file_location("sentences_benchmark", BENCHMARK)
    assert spec and spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.boundaries(["Ab c.", "D.", "E f"]) == {4, 6}  # characters before them, white space aside

    paragraphs = benchmark.read_gold(benchmark.OWN_GOLD)
    assert len(paragraphs) == 142 and len({paragraph.language for paragraph in paragraphs}) == 13
    counts = benchmark.counted(paragraphs, benchmark.splitters()["sentencex"])
    perfect = benchmark.counted(paragraphs, lambda text, language: next(p.sentences for p in paragraphs if p.text == text))
    overall, all_right = (benchmark.scores(sum(found.values(), type(found["en"])())) for found in (counts, perfect))
    assert all_right == {"precision": 1, "recall": 1, "f1": 1}
    assert benchmark.scores(counts["en"])["f1"] >= ENGLISH_FLOOR
    assert overall["f1"] >= OVERALL_FLOOR
