"""What is out of line with the losses before it, and what is not."""

import random

from bertlab.training.spikes import FEWEST, WINDOW, is_spike


def losses(seed: int, number: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(5.0, 0.1) for _ in range(number)]


def test_a_loss_fifty_times_the_mean_is_a_spike_and_the_usual_ones_are_not() -> None:
    recent = losses(0, 1000)
    assert is_spike(recent, 250.0)
    assert not any(is_spike(recent[: place + FEWEST], loss) for place, loss in enumerate(recent[FEWEST:]))


def test_six_deviations_are_the_line() -> None:
    recent = [4.9, 5.1] * (WINDOW // 2)  # mean 5.0, deviation 0.1
    assert is_spike(recent, 5.601)
    assert not is_spike(recent, 5.599)


def test_losses_older_than_the_window_do_not_count() -> None:
    assert is_spike([50.0] * 900 + [4.9, 5.1] * (WINDOW // 2), 6.0)


def test_before_there_are_enough_nothing_is_a_spike() -> None:
    assert not is_spike([5.0] * (FEWEST - 1), 500.0)
    assert is_spike([5.0] * FEWEST, 500.0)


def test_losses_that_hardly_vary_make_no_spike_of_a_twentieth_more() -> None:
    assert not is_spike([2.0] * WINDOW, 2.1)
    assert is_spike([2.0] * WINDOW, 2.21)


def test_a_falling_loss_is_no_spike() -> None:
    falling = [10.0 - 0.03 * step for step in range(200)]
    assert not any(is_spike(falling[:step], falling[step]) for step in range(200))
