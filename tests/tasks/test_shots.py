"""bertlab finetune --shots: so many examples a class, all different, drawn by each seed, and no more to choose by than to learn from."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertlab.corpus.labelled import Labelled
from bertlab.disk import read_json
from bertlab.errors import ConfigError, DataError
from bertlab.pages.results import shots_lines
from bertlab.tasks.data import Data, read_task
from bertlab.tasks.reading import Columns
from bertlab.tasks.shots import draw, epochs_of_shots
from bertlab.tokens import tokenizer as tokenizers
from bertlab.verbs import finetune


@pytest.fixture(scope="module")
def files(
    texts: Callable[[int, int], list[tuple[str, set[str]]]],
    write: Callable[[Path, list[dict[str, Any]]], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")

    def rows(count: int, seed: int) -> list[dict[str, Any]]:
        return [{"text": text, "label": "music" if "music" in topics else "other"} for text, topics in texts(count, seed)]

    train = rows(120, 0)
    return {
        "train": write(folder / "train.jsonl", [*train, *train[:60]]),  # half of them twice
        "dev": write(folder / "dev.jsonl", rows(80, 1)),
        "test": write(folder / "test.jsonl", rows(40, 2)),
    }


def read(base: str, files: dict[str, str], **settings: Any) -> Data:
    usual: dict[str, Any] = {"dev_share": 0.1, "max_length": None, "positions": 24, "long": None}
    return read_task("auto", files, Columns(None, None, None, None), tokenizers.load(base), **usual | settings)[0]


def hashes(data: Data, split: str) -> set[str]:
    return {*data.splits[split].text_hashes()}


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "dev", "test")])
def test_every_seed_learns_from_other_examples_and_all_choose_by_the_same(
    base: str, files: dict[str, str], splits: tuple[str, ...]
) -> None:
    data = read(base, {split: files[split] for split in splits})
    few = draw(data, 6, range(3, 7), tokenizers.load(base))
    assert list(few.of_seed) == [3, 4, 5, 6]
    for seed in few.of_seed.values():
        for split in ("train", "dev"):  # of each class six, all different texts: dev is no larger than train
            assert Counter(seed.gold[split]) == {0: 6, 1: 6} and len(hashes(seed, split)) == 12 == len(seed.encoded[split])
            assert seed.encoded[split].labels.tolist() == seed.gold[split]
        assert not hashes(seed, "train") & hashes(seed, "dev")
        assert hashes(seed, "dev") == hashes(few.of_seed[3], "dev")
        assert seed.splits["test"] is data.splits["test"] and seed.encoded["test"] is data.encoded["test"]
    assert len({tuple(seed.splits["train"].ids) for seed in few.of_seed.values()}) == 4
    assert hashes(few.drawn, "train") == set().union(*(hashes(seed, "train") for seed in few.of_seed.values()))
    of_dev = hashes(data, "dev") if "dev" in splits else hashes(data, "train")
    assert hashes(few.of_seed[3], "dev") <= of_dev
    facts = few.as_json()
    assert facts["of_each_class"] == 6 and facts["train"]["5"] == few.of_seed[5].splits["train"].ids and len(facts["dev"]) == 12
    again = draw(data, 6, [5], tokenizers.load(base))
    assert again.of_seed[5].splits["train"].ids != [] and set(facts) == set(again.as_json())


def test_the_same_seed_draws_the_same_rows_whatever_other_seeds_there_are(base: str, files: dict[str, str]) -> None:
    data = read(base, files)
    several, fewer = (draw(data, 4, range(2, last), tokenizers.load(base)) for last in (7, 4))
    assert several.of_seed[3].splits["train"].ids == fewer.of_seed[3].splits["train"].ids


def test_a_class_with_too_few_texts_and_a_task_without_classes_are_refused(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    rows = [{"text": f"the {number % 7} {'ab'[number % 2]}", "label": "ab"[number % 2]} for number in range(40)]  # seven texts a class
    train, dev = write(tmp_path / "train.jsonl", rows), write(tmp_path / "dev.jsonl", rows[:14])
    with pytest.raises(DataError, match="train.jsonl: class 'a' has 6 texts, and shots=4 wants 8: half to learn from, half to choose by"):
        draw(read(base, {"train": train}), 4, [0], tokenizers.load(base))
    with pytest.raises(DataError, match="class 'a' has 7 texts, and shots=8 wants 8: to learn from"):
        draw(read(base, {"train": train, "dev": dev}), 8, [0], tokenizers.load(base))
    numbers = write(tmp_path / "numbers.jsonl", [{"text": f"the {number}", "label": number / 3} for number in range(40)])
    with pytest.raises(ConfigError, match="shots=4: the task is regression, and shots are examples of a class"):
        draw(read(base, {"train": numbers}), 4, [0], tokenizers.load(base))


def test_a_dev_file_that_repeats_train_leaves_too_little_and_that_is_said(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    rows = [{"text": f"the {number} {'ab'[number % 2]}", "label": "ab"[number % 2]} for number in range(8)]
    train = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match="of the texts of class 'a' dev leaves 1, and shots=3 wants 3"):
        draw(read(base, {"train": train, "dev": train}), 3, [0], tokenizers.load(base))


def test_a_text_under_two_classes_is_drawn_under_its_first_alone(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    rows = [{"text": f"the {number}", "label": label} for number in range(4) for label in ("a", "b")]
    rows += [{"text": f"old {number}", "label": "b"} for number in range(4)]
    few = draw(read(base, {"train": write(tmp_path / "train.jsonl", rows)}, dev_share=0.01), 1, range(6), tokenizers.load(base))
    for seed in few.of_seed.values():
        assert len(hashes(seed, "train") | hashes(seed, "dev")) == 4
        for split in ("train", "dev"):
            assert [text.split()[0] for text in few_texts(seed, split)] == ["the", "old"]


def few_texts(data: Data, split: str) -> list[str]:
    """The texts of a split by class."""
    rows = data.splits[split]
    assert isinstance(rows, Labelled)
    return [text for _, text in sorted(zip(data.gold[split], rows.texts, strict=True))]


def of_sets(**counts: int) -> list[dict[str, Any]]:
    """So many texts of each set of labels, which are told by letters; `none` is none."""
    sets = [("" if letters == "none" else letters, number) for letters, count in counts.items() for number in range(count)]
    return [{"text": f"the {letters or 'old'} {number}", "label": list(letters)} for letters, number in sets]


def test_of_sets_the_rarest_label_draws_first_and_others_what_is_lacking(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    train = write(tmp_path / "train.jsonl", of_sets(ac=2, bc=3, c=7, none=4))
    dev = write(tmp_path / "dev.jsonl", of_sets(b=9, none=1))  # none of a and c: what is not there is not drawn
    few = draw(read(base, {"train": train, "dev": dev}), 2, range(4), tokenizers.load(base))
    for seed in few.of_seed.values():  # both texts of a have c, two of b's three are drawn and have it too: c has four and draws none
        train_sets = sorted("".join(labels) for labels in sets_in(seed, "train"))
        assert train_sets == ["", "", "ac", "ac", "bc", "bc"] and sorted(sets_in(seed, "dev")) == [(), ("b",), ("b",)]
    assert len({tuple(seed.splits["train"].ids) for seed in few.of_seed.values()}) > 1
    facts = few.as_json()["of_labels"]
    assert facts["train"]["3"] == {"a": 2, "b": 2, "c": 4} and facts["dev"] == {"a": 0, "b": 2, "c": 0}
    shown = "\n".join(shots_lines(few))
    assert "shots  2 of each label" in shown and "that makes 6 texts a seed" in shown and shown.endswith("come more often: c up to 4")


def test_of_sets_train_and_dev_are_of_different_texts_and_what_dev_leaves_too_little_of_is_said(
    base: str, write: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    rows = of_sets(a=5, ab=4, b=5, none=3)
    train = write(tmp_path / "train.jsonl", [*rows, *({**row, "label": ["c"]} for row in rows), *of_sets(c=5)])  # a text's first row counts
    few = draw(read(base, {"train": train}, dev_share=0.01), 2, range(3), tokenizers.load(base))
    for seed in few.of_seed.values():
        assert len(hashes(seed, "train")) == len(sets_in(seed, "train")) and not hashes(seed, "train") & hashes(seed, "dev")
        for split in ("train", "dev"):  # three without a label are too few for two on either side
            assert all(sum(label in labels for labels in sets_in(seed, split)) >= 2 for label in "abc") and () not in sets_in(seed, split)
    with pytest.raises(DataError, match="class 'c' has 4 texts, and shots=3 wants 6: half to learn from"):
        draw(read(base, {"train": train}, dev_share=0.01), 3, [0], tokenizers.load(base))
    tight = write(tmp_path / "tight.jsonl", of_sets(ac=1, bc=1, a=1, b=1))
    with pytest.raises(DataError, match="of the texts of class 'c' dev leaves 0, and shots=1 wants 1"):
        for first in range(64):  # dev takes both texts with c where it draws them for a and for b
            draw(read(base, {"train": tight, "dev": tight}), 1, [first], tokenizers.load(base))


def sets_in(data: Data, split: str) -> list[tuple[str, ...]]:
    rows = data.splits[split]
    assert isinstance(rows, Labelled) and rows.label_sets is not None
    return rows.label_sets


def test_epochs_are_a_thousand_steps() -> None:
    assert epochs_of_shots(16, 16) == 1000 and epochs_of_shots(17, 16) == 500 and epochs_of_shots(48, 16) == 334


def test_finetune_learns_from_the_shots_alone_and_says_which(
    base: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}
    monkeypatch.setattr("bertlab.pages.figures.can_draw", lambda: False)
    out = tmp_path / "run"
    metrics = finetune.run(finetune.Config(model=base, out=str(out), shots=8, train=files["train"], test=files["test"], **quick))
    shown = capsys.readouterr().out
    assert "shots  8 of each class to learn from, drawn by each seed, and 8 others" in shown and "train 16 examples of 2 classes" in shown
    assert metrics["examples"] == {"train": 16, "dev": 16, "test": 40} and read_json(out / "metrics.json") == metrics
    few = draw(read(base, {"train": files["train"], "test": files["test"]}), 8, [0, 1], tokenizers.load(base))
    assert metrics["shots"] == few.as_json() and list(metrics["shots"]["train"]) == ["0", "1"]
    assert [seed["dev"]["n"] for seed in metrics["seeds"]] == [16, 16] and metrics["over_seeds"]["macro_f1"]["sd"] is not None
    assert set(metrics["baselines"]) == {"TF-IDF + logistic regression", "majority class"}  # of the same sixteen examples
    with pytest.raises(ConfigError, match="shots=0: give 1 or more"):
        finetune.Config(model=base, out=str(out), train=files["train"], shots=0)
