"""Pictures of an evaluation by scikit-learn's displays: confusion matrix, ROC and precision-recall curves, reliability diagram.

SVG files beside metrics.json, the same bytes for the same numbers. They need matplotlib (the extra report); where it is not
installed there are none. Up to 10 curves are drawn in a picture, of the classes that occur most often, and numbers stand in the confusion
matrix of up to 20 classes; metrics.json has them all.
"""

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertlab.disk import whole_file
from bertlab.evaluation.calibration import BINS
from bertlab.pages.screen import inert

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "figures"
MOST_CURVES, MOST_NUMBERED = 10, 20
LONGEST_NAME = 30


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def write_figures(
    out: Path,
    is_gold: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    exclusive: bool,
    calibrated: np.ndarray | None = None,
) -> list[str]:
    """Draw n > 0 examples of K classes, gold (n, K) bool and probabilities (n, K), into out/figures; returns the files' names below `out`.

    calibrated: the probabilities at the temperature that dev chose. With `exclusive` an example has one class, and there is a confusion
    matrix. Nothing is written without matplotlib.
    """
    shutil.rmtree(out / FOLDER, ignore_errors=True)  # of an earlier call
    if not can_draw():
        return []
    shown = [short(name) for name in names]
    drawn = []
    if exclusive:
        with picture(out / FOLDER / "confusion.svg", 4 + 0.25 * min(len(names), 60)) as axes:
            confusion_matrix(axes, is_gold.argmax(1), probabilities.argmax(1), shown)
        drawn.append("confusion.svg")
    classes = most_frequent(is_gold)
    if classes:
        for file, draw in (("roc.svg", roc_curves), ("precision_recall.svg", precision_recall_curves)):
            with picture(out / FOLDER / file, 6) as axes:
                draw(axes, is_gold, probabilities, shown, classes)
            drawn.append(file)
    with picture(out / FOLDER / "reliability.svg", 6) as axes:
        reliability_diagram(axes, is_gold, probabilities, calibrated, exclusive=exclusive)
    drawn.append("reliability.svg")
    return [f"{FOLDER}/{file}" for file in drawn]


def figures_in(out: Path) -> list[str]:
    """The names below `out` of the pictures that are there."""
    return sorted(path.relative_to(out).as_posix() for path in (out / FOLDER).glob("*.svg"))


@contextmanager
def picture(path: Path, inches: float) -> Iterator["Axes"]:
    """Yield the axes of a square picture that is written to `path` when the block ends well."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A label is text, never a formula, and a script that the font lacks is the viewer's to draw.
    with rc_context({"svg.hashsalt": "bertlab", "svg.fonttype": "none", "text.parse_math": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(inches, inches), layout="constrained")
        yield figure.subplots()
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def short(name: str) -> str:
    name = inert(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def most_frequent(is_gold: np.ndarray) -> list[int]:
    """The classes to draw: those of which there are examples and others, the most frequent first."""
    support = is_gold.sum(0)
    drawable = np.flatnonzero((support > 0) & (support < len(is_gold)))
    return drawable[np.argsort(-support[drawable], kind="stable")][:MOST_CURVES].tolist()


# --- the pictures -----------------------------------------------------------------------------------------------------------------------


def confusion_matrix(axes: "Axes", gold: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    few = len(names) <= MOST_NUMBERED
    ConfusionMatrixDisplay.from_predictions(
        gold, predicted, labels=range(len(names)), display_labels=names, include_values=few, xticks_rotation="vertical",
        values_format="d", cmap="Blues", colorbar=not few, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="predicted", ylabel="gold", title=f"{len(gold):,} examples")


def roc_curves(axes: "Axes", is_gold: np.ndarray, scores: np.ndarray, names: Sequence[str], classes: Sequence[int]) -> None:
    from sklearn.metrics import RocCurveDisplay

    for number in classes:
        RocCurveDisplay.from_predictions(
            is_gold[:, number], scores[:, number], name=names[number], ax=axes, plot_chance_level=number == classes[-1]
        )
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=_title(classes, names))


def precision_recall_curves(axes: "Axes", is_gold: np.ndarray, scores: np.ndarray, names: Sequence[str], classes: Sequence[int]) -> None:
    from sklearn.metrics import PrecisionRecallDisplay

    for number in classes:
        PrecisionRecallDisplay.from_predictions(is_gold[:, number], scores[:, number], name=names[number], ax=axes)
    axes.set(xlabel="recall", ylabel="precision", title=_title(classes, names))


def reliability_diagram(
    axes: "Axes", is_gold: np.ndarray, probabilities: np.ndarray, calibrated: np.ndarray | None, *, exclusive: bool
) -> None:
    """Confidence against the share of right answers, before and after the temperature."""
    from sklearn.calibration import CalibrationDisplay

    for name, values in (("as the model says", probabilities), ("at dev's temperature", calibrated)):
        if values is not None:
            exact = np.clip(values, 0.0, 1.0)
            confidence = exact.max(1) if exclusive else exact.ravel()
            right = exact.argmax(1) == is_gold.argmax(1) if exclusive else is_gold.ravel()
            CalibrationDisplay.from_predictions(right, confidence, n_bins=BINS, pos_label=True, name=name, ax=axes)
    axes.set(xlabel="confidence", ylabel="share right", title=f"{len(is_gold):,} examples")


def _title(classes: Sequence[int], names: Sequence[str]) -> str:
    return "each class against the rest" if len(classes) == len(names) else f"{len(classes)} of {len(names)} classes, each against the rest"
