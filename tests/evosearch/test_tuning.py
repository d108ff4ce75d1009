"""Tests that tuning finds the best setting, ends, and gives all contenders equally many trials."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.measuring.tuning import (
    DECAYS,
    GRID,
    LARGEST_FACTOR,
    RESOLUTION,
    Setting,
    SettingTuner,
    Tuner,
    tune_equally,
)

LossOfRate = Callable[[float], float]
"""Function from a learning rate to a loss."""
LossOfSetting = Callable[[Setting], float]
"""Function from a learning rate and a weight decay to a loss."""
LOSSES = (-2.0, 0.0, 1.0, math.inf)


def tune_rate(loss: LossOfRate, grid: tuple[float, ...] = GRID) -> Tuner:
    """Tune the learning rate of one contender."""
    return tune_rates({"contender": loss}, grid)["contender"]


def tune_rates(losses: dict[str, LossOfRate], grid: tuple[float, ...] = GRID) -> dict[str, Tuner]:
    """Tune the learning rates of contenders, given by their losses."""
    tuners = {name: Tuner(grid) for name in losses}
    tune_equally(tuners, lambda trials: [losses[name](rate) for name, rate in trials])
    return tuners


def loss_with_minimum_at(log_rate: float) -> LossOfRate:
    """Return a loss that is lowest at the rate 2**log_rate and infinite above 8 times this rate."""

    def loss(rate: float) -> float:
        distance = math.log2(rate) - log_rate
        return math.inf if distance > 3 else distance**2

    return loss


@given(st.floats(-18, 18).filter(lambda log_rate: log_rate % 1 != 0.5))  # no ties on the grid
def test_the_best_rate_is_found_inside_and_outside_the_grid(log_rate: float) -> None:
    tuner = tune_rate(loss_with_minimum_at(log_rate))
    assert min(tuner.losses) < tuner.best < max(tuner.losses)
    assert abs(math.log2(tuner.best) - log_rate) <= 0.5


@given(st.lists(st.floats(-12, 12), min_size=2, max_size=4))
def test_every_contender_gets_the_same_number_of_trials(log_rates: list[float]) -> None:
    losses = map(loss_with_minimum_at, log_rates)
    tuners = tune_rates({f"contender {number}": loss for number, loss in enumerate(losses)})
    assert len({len(tuner.losses) for tuner in tuners.values()}) == 1


@pytest.mark.parametrize(
    "grid",
    [GRID, (1.0,), (0.1, 1.0, 10.0), (0.001, 1000.0)],
    ids=["default", "one rate", "coarse", "two rates"],
)
def test_the_rates_next_to_the_best_are_close_for_any_grid(grid: tuple[float, ...]) -> None:
    tuner = tune_rate(loss_with_minimum_at(1.3), grid)
    rates = sorted(tuner.losses)
    index = rates.index(tuner.best)
    assert 0 < index < len(rates) - 1
    assert rates[index + 1] / rates[index - 1] <= RESOLUTION**2 * 1.001
    assert abs(math.log2(tuner.best) - 1.3) <= 0.5


def test_a_contender_tries_rates_between_grid_points_while_another_needs_more_trials() -> None:
    """The best rate of `near` is 2**1.1, and the closest rate of the grid is 2."""
    tuners = tune_rates({"near": loss_with_minimum_at(1.1), "far": loss_with_minimum_at(9.0)})
    distance_of_grid = abs(math.log2(2.0) - 1.1)
    assert abs(math.log2(tuners["near"].best) - 1.1) < distance_of_grid


def test_the_best_rate_of_a_contender_that_always_diverges_is_the_smallest_rate() -> None:
    tuners = tune_rates({"diverging": lambda rate: math.inf, "other": loss_with_minimum_at(0.0)})
    diverging = tuners["diverging"]
    assert diverging.losses[diverging.best] == math.inf
    assert diverging.best == min(diverging.losses) >= 1 / LARGEST_FACTOR
    assert len(diverging.losses) == len(tuners["other"].losses)


@pytest.mark.parametrize("best_rate", [2.0**-9, 2.0**-19])
def test_a_best_rate_far_below_the_grid_is_found_if_larger_rates_diverge(
    best_rate: float,
) -> None:
    def loss(rate: float) -> float:
        return math.inf if rate > 2 * best_rate else abs(math.log(rate / best_rate))

    assert tune_rate(loss).best == best_rate


@pytest.mark.parametrize("slope", [1, -1], ids=["increasing", "decreasing"])
def test_the_best_rate_of_a_monotonic_loss_is_the_smallest_or_largest_allowed(slope: int) -> None:
    tuner = tune_rate(lambda rate: slope * math.log(rate))
    assert tuner.best == LARGEST_FACTOR**-slope


def test_a_constant_loss_needs_no_trials_beyond_the_grid() -> None:
    assert len(tune_rate(lambda rate: 1.0).losses) == len(GRID)


@given(st.dictionaries(st.sampled_from(GRID), st.sampled_from(LOSSES)))
def test_tuning_of_rates_ends_for_any_losses(losses_on_grid: dict[float, float]) -> None:
    tuners = tune_rates(
        {
            "arbitrary": lambda rate: losses_on_grid.get(rate, 0.5),
            "other": loss_with_minimum_at(3.0),
        }
    )
    assert len(tuners["arbitrary"].losses) <= 60
    assert len(tuners["arbitrary"].losses) == len(tuners["other"].losses)


def tune_settings(losses: dict[str, LossOfSetting]) -> dict[str, SettingTuner]:
    """Tune the learning rates and weight decays of contenders, given by their losses."""
    tuners = {name: SettingTuner(GRID, DECAYS) for name in losses}
    tune_equally(tuners, lambda trials: [losses[name](setting) for name, setting in trials])
    return tuners


def log_decay(decay: float) -> float:
    """Return the logarithm of a weight decay, shifted so that it is finite for 0."""
    return math.log(0.05 + decay)


def setting_loss_with_minimum_at(log_rate: float, decay: float) -> LossOfSetting:
    """Return a loss that is lowest at the rate 2**log_rate and the weight decay `decay`.

    The best rate is smaller for larger weight decays.
    """

    def loss(setting: Setting) -> float:
        rate_distance = math.log2(setting.lr) - log_rate + 0.1 * (setting.decay - decay)
        return rate_distance**2 + (log_decay(setting.decay) - log_decay(decay)) ** 2

    return loss


@given(st.floats(-5, 5), st.sampled_from([0.0, 0.12, 0.3, 0.8, 3.0, 9.0]))
def test_the_best_rate_and_the_best_decay_are_found_together(log_rate: float, decay: float) -> None:
    loss = setting_loss_with_minimum_at(log_rate, decay)
    best = tune_settings({"contender": loss})["contender"].best
    assert abs(log_decay(best.decay) - log_decay(decay)) <= math.log(3)
    assert abs(math.log2(best.lr) - log_rate + 0.1 * (best.decay - decay)) <= 0.5


def test_contenders_with_and_without_decay_get_the_same_number_of_trials() -> None:
    tuners = tune_settings(
        {
            "no decay": setting_loss_with_minimum_at(0.0, decay=0.0),
            "large decay": setting_loss_with_minimum_at(2.0, decay=9.0),
        }
    )
    assert tuners["no decay"].best.decay == 0.0
    assert tuners["large decay"].best.decay > max(DECAYS)
    assert len(tuners["no decay"].losses) == len(tuners["large decay"].losses)


def test_without_a_grid_of_decays_only_rates_are_tried() -> None:
    tuner = SettingTuner()
    loss = loss_with_minimum_at(1.1)
    tune_equally({"contender": tuner}, lambda trials: [loss(setting.lr) for _, setting in trials])
    assert {setting.decay for setting in tuner.losses} == {0.0}
    assert abs(math.log2(tuner.best.lr) - 1.1) <= 0.5


@given(st.lists(st.sampled_from(LOSSES), min_size=12, max_size=12))
def test_tuning_of_settings_ends_for_any_losses(losses: list[float]) -> None:
    def loss(setting: Setting) -> float:
        index = round(math.log2(setting.lr)) + round(10 * setting.decay)
        return losses[index % len(losses)]

    assert len(tune_settings({"contender": loss})["contender"].losses) <= 120
