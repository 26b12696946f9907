"""bertlab/evaluation/probe.py is scikit-learn's logistic regression on standardised numbers, whatever unit the vectors have."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from bertlab.evaluation.probe import linear_probe


def test_the_probe_is_scikit_learns_and_knows_no_unit() -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 3, 90)
    train, test = draw.normal(size=(90, 6)) + np.eye(6)[gold], draw.normal(size=(20, 6))
    found = linear_probe(train, gold.tolist(), test, 3)
    mean, deviation = train.mean(0), train.std(0)
    peer = LogisticRegression(max_iter=1000).fit((train - mean) / deviation, gold).predict_proba((test - mean) / deviation)
    np.testing.assert_allclose(found, peer, atol=1e-4)
    assert found.dtype == np.float32 and found.shape == (20, 3)
    np.testing.assert_allclose(linear_probe(train * 1e-3 + 5, gold.tolist(), test * 1e-3 + 5, 3), found, atol=1e-4)
    assert linear_probe(np.zeros((4, 2)), [0, 1, 0, 1], np.zeros((1, 2)), 2).tolist() == [[0.5, 0.5]]  # a number that never varies
