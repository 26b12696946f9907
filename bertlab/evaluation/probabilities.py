"""What probabilities tell beyond the answers: areas under curves, calibration before and after a temperature, answers at chosen thresholds.

Temperature and thresholds are learnt on dev (`learn_on_dev`), go with the model as plain numbers, and are measured on test
(`probability_metrics`). With `exclusive` an example has one of K classes (softmax); without it any number of K labels (sigmoids). Each
label has a threshold of its own, the best by its F1, and of two exclusive classes the second, the best by the F1 of both; of three and
more the likeliest class is the answer, and no threshold is asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlab.evaluation.calibration import at_temperature, calibration_metrics, fit_temperature, log_probabilities, two_class
from bertlab.evaluation.curves import best_threshold, ranking_metrics
from bertlab.evaluation.intervals import LEVEL, RESAMPLES


def learn_on_dev(is_gold: np.ndarray, probabilities: np.ndarray, names: Sequence[str], *, exclusive: bool) -> dict[str, Any]:
    """Which of K classes n > 0 dev examples have (n, K) bool, and their probabilities (n, K) -> what the model keeps, ready for JSON.

    n; temperature (None where dev has nothing to fit it by: calibration.py); thresholds {name: value, f1 and f1_at_half on dev, chosen}.
    """
    assert is_gold.shape == probabilities.shape == (len(is_gold), len(names)) and len(is_gold) > 0
    if exclusive:
        temperature = fit_temperature(log_probabilities(probabilities), is_gold.argmax(1))
        labels = [1] if len(names) == 2 else []
    else:
        temperature = fit_temperature(log_probabilities(two_class(probabilities)), is_gold.ravel().astype(int))
        labels = list(range(len(names)))
    chosen = {names[label]: best_threshold(is_gold[:, label], probabilities[:, label], exclusive=exclusive) for label in labels}
    return {"n": len(is_gold), "temperature": temperature, "thresholds": {name: vars(each) for name, each in chosen.items()}}


def scaled(probabilities: np.ndarray, temperature: float, *, exclusive: bool) -> np.ndarray:
    """(n, K) probabilities at another temperature."""
    if exclusive:
        return at_temperature(log_probabilities(probabilities), temperature)
    return at_temperature(log_probabilities(two_class(probabilities)), temperature)[:, 1].reshape(probabilities.shape)


def given_labels(probabilities: np.ndarray, names: Sequence[str], thresholds: dict[str, dict[str, Any]], *, exclusive: bool) -> np.ndarray:
    """(n, K) bool: the labels at their thresholds; of two exclusive classes the second where it reaches its own, else the first."""
    if exclusive:
        second = probabilities[:, 1] >= np.float64(thresholds[names[1]]["value"])  # not rounded to what the probabilities have
        return np.stack([~second, second], axis=1)
    return np.asarray(probabilities >= np.array([thresholds[name]["value"] for name in names]))


def probability_metrics(
    is_gold: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    exclusive: bool,
    learnt: dict[str, Any] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Any]:
    """n > 0 examples as above -> roc_auc, pr_auc (curves.py) and calibration, with their intervals under `intervals`.

    calibration has `before`, and with a temperature in `learnt` (of `learn_on_dev`) `temperature` and `after`: calibration.py, intervals
    inside.
    """

    def calibration(values: np.ndarray) -> dict[str, Any]:
        return calibration_metrics(is_gold, values, exclusive=exclusive, seed=seed, resamples=resamples, level=level)

    found: dict[str, Any] = {"before": calibration(probabilities)}
    if learnt and learnt["temperature"] is not None:
        temperature = learnt["temperature"]
        found |= {"temperature": temperature, "after": calibration(scaled(probabilities, temperature, exclusive=exclusive))}
    return ranking_metrics(is_gold, probabilities, names, level=level) | {"calibration": found}
