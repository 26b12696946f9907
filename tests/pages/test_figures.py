"""Pictures: all that belong to a kind of task, the same bytes twice, whatever the labels are called; none without matplotlib."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from bertlab.evaluation.curves import one_hot
from bertlab.pages import figures
from bertlab.pages.figures import most_frequent, short, write_figures


def example(classes: int, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(classes)
    gold = draw.integers(classes, size=n)
    return one_hot(gold, classes), softmax(draw.normal(size=(n, classes)) + 2 * np.eye(classes)[gold], 1)


def words(path: Path) -> str:
    return " ".join(ElementTree.parse(path).getroot().itertext())


@pytest.fixture(autouse=True)
def with_matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra `report`")


def test_one_label_has_four_pictures_with_its_names_and_areas_in_them(tmp_path: Path) -> None:
    gold, probabilities = example(3)
    names = ["ale", "bread", "cheese"]
    written = write_figures(tmp_path, gold, probabilities, names, exclusive=True, calibrated=probabilities)
    assert written == [f"figures/{name}.svg" for name in ("confusion", "roc", "precision_recall", "reliability")]
    assert figures.figures_in(tmp_path) == sorted(written) and figures.figures_in(tmp_path / "nothing") == []
    from sklearn.metrics import average_precision_score, roc_auc_score

    for file, area in (("roc", roc_auc_score), ("precision_recall", average_precision_score)):
        shown = words(tmp_path / f"figures/{file}.svg")
        for number, name in enumerate(names):
            assert name in shown and f"{area(gold[:, number], probabilities[:, number]):.2f}" in shown
    confusion = words(tmp_path / "figures/confusion.svg")
    counts = gold.T.astype(int) @ one_hot(probabilities.argmax(1), 3)
    assert all(str(count) in confusion.split() for count in counts.ravel()) and "80 examples" in confusion
    assert "at dev's temperature" in words(tmp_path / "figures/reliability.svg")


def test_the_same_numbers_make_the_same_bytes_and_leave_no_settings_behind(tmp_path: Path) -> None:
    import matplotlib

    before = {name: value for name, value in matplotlib.rcParams.items() if name.startswith(("svg", "text"))}
    gold, probabilities = example(2)
    for folder in ("a", "b"):
        write_figures(tmp_path / folder, gold, probabilities, ["no", "yes"], exclusive=True)
    files = sorted((tmp_path / "a" / "figures").iterdir())
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / "figures" / file.name).read_bytes()
    assert before == {name: matplotlib.rcParams[name] for name in before}


def test_several_labels_have_no_confusion_matrix(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    gold, probabilities = draw.random((60, 3)) < 0.3, draw.random((60, 3))
    written = write_figures(tmp_path, gold, probabilities, ["x", "y", "z"], exclusive=False)
    assert written == ["figures/roc.svg", "figures/precision_recall.svg", "figures/reliability.svg"]


def test_labels_are_text_whatever_is_in_them(tmp_path: Path) -> None:
    names = [r"$\frac{$", "<script>&", "雨 и\u202e\x07", "a" * 90]
    gold, probabilities = example(4)
    write_figures(tmp_path, gold, probabilities, names, exclusive=True)
    shown = words(tmp_path / "figures/roc.svg")
    assert r"$\frac{$" in shown and "<script>&" in shown and "雨 и??" in shown and "a" * 29 + "…" in shown
    assert short("a" * 30) == "a" * 30 and len(short("a" * 31)) == 30


def test_of_many_classes_the_most_frequent_are_drawn_and_classes_without_examples_are_not(tmp_path: Path) -> None:
    gold, probabilities = example(25, n=400)
    gold[:, 3] = False
    classes = most_frequent(gold)
    support = gold.sum(0)
    assert len(classes) == 10 and 3 not in classes and min(support[classes]) >= sorted(support)[-10]
    write_figures(tmp_path, gold, probabilities, [f"class {number}" for number in range(25)], exclusive=True)
    assert "10 of 25 classes" in words(tmp_path / "figures/roc.svg")


def test_one_example_of_one_class_has_what_can_be_drawn(tmp_path: Path) -> None:
    written = write_figures(tmp_path, np.array([[True, False]]), np.array([[1.0000001, 0.0]]), ["a", "b"], exclusive=True)
    assert written == ["figures/confusion.svg", "figures/reliability.svg"]


def test_without_matplotlib_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "can_draw", lambda: False)
    gold, probabilities = example(2)
    assert write_figures(tmp_path, gold, probabilities, ["no", "yes"], exclusive=True) == [] and not list(tmp_path.iterdir())
