"""A linear probe: what a logistic regression reads from vectors that stay as they are.

Each number of the vectors is brought to mean 0 and deviation 1 on train, so that the scale of a model's vectors has no part in the result;
the penalty is scikit-learn's usual one (C = 1), the same for every model, and nothing is chosen on test. Costs rows x numbers x classes x
some hundred rounds.
"""

import warnings
from collections.abc import Sequence

import numpy as np

ROUNDS = 1_000  # of the solver, at most


def linear_probe(train: np.ndarray, gold: Sequence[int], test: np.ndarray, num_classes: int) -> np.ndarray:
    """Probabilities (m, K) float32 of (m, d) test vectors, from (n, d) train vectors and their class numbers, each class at least once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=ROUNDS))
    with threadpool_limits(1), warnings.catch_warnings():  # several threads add in any order
        warnings.simplefilter("ignore")  # not at rest after ROUNDS: the answers hardly move any more
        model.fit(train.astype(np.float64), np.asarray(gold))
        probabilities = model.predict_proba(test.astype(np.float64))
    assert probabilities.shape[1] == num_classes, "every class is in train"
    return np.asarray(probabilities, dtype=np.float32)
