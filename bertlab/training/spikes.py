"""Losses out of line with those before them: a batch that one should look at, or a run about to diverge.

The rule is that of OLMo-core's step-skipping optimizer (Allen Institute for AI, 2024): more than six standard deviations above the
mean of the last 128 steps. bertlab only tells: what to do with such a step is not for a rule to say.
"""

import statistics
from collections.abc import Sequence

WINDOW, DEVIATIONS = 128, 6.0
FEWEST = 32  # before that many, mean and deviation say little
# A loss learnt by heart hardly varies; what is within a tenth of its mean is no spike.
LEAST_RISE = 0.1


def is_spike(recent: Sequence[float], loss: float) -> bool:
    """Whether `loss` is out of line with the `recent` ones, the last WINDOW at most."""
    recent = recent[-WINDOW:]
    if len(recent) < FEWEST:
        return False
    mean = statistics.fmean(recent)
    return loss > mean + max(DEVIATIONS * statistics.pstdev(recent), LEAST_RISE * abs(mean))
