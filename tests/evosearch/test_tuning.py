"""Tuning finds optima inside the grid, gives all contenders equally many trials, and ends."""

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

Loss = Callable[[float], float]


def tune(grid: tuple[float, ...] = GRID, **losses: Loss) -> dict[str, Tuner]:
    tuners = {name: Tuner(grid) for name in losses}
    tune_equally(tuners, lambda trials: [losses[name](rate) for name, rate in trials])
    return tuners


def bowl(best: float) -> Loss:
    """Return a loss with its minimum at the rate 2^best, which diverges far above it."""

    def loss(rate: float) -> float:
        distance = math.log2(rate) - best
        return math.inf if distance > 3 else distance**2

    return loss


@given(st.floats(-18, 18).filter(lambda best: best % 1 != 0.5))  # no ties on the grid
def test_the_best_rate_is_found_wherever_it_lies(best: float) -> None:
    tuner = tune(it=bowl(best))["it"]
    assert min(tuner.losses) < tuner.best < max(tuner.losses)
    assert abs(math.log2(tuner.best) - best) <= 0.5


@given(st.lists(st.floats(-12, 12), min_size=2, max_size=4))
def test_every_contender_gets_the_same_number_of_trials(bests: list[float]) -> None:
    tuners = tune(**{f"p{number}": bowl(best) for number, best in enumerate(bests)})
    assert len({len(tuner.losses) for tuner in tuners.values()}) == 1


@pytest.mark.parametrize(
    "grid", [GRID, (1.0,), (0.1, 1.0, 10.0), (0.001, 1000.0)], ids=["own", "one", "coarse", "two"]
)
def test_any_starting_grid_ends_with_near_neighbours_around_the_best(
    grid: tuple[float, ...],
) -> None:
    tuner = tune(grid, it=bowl(1.3))["it"]
    rates = sorted(tuner.losses)
    index = rates.index(tuner.best)
    assert 0 < index < len(rates) - 1
    assert rates[index + 1] / rates[index - 1] <= RESOLUTION**2 * 1.001
    assert abs(math.log2(tuner.best) - 1.3) <= 0.5


def test_a_settled_contender_refines_while_another_is_not_settled() -> None:
    tuners = tune(near=bowl(1.1), far=bowl(9.0))
    assert abs(math.log2(tuners["near"].best) - 1.1) < abs(math.log2(2.0) - 1.1)


def test_a_contender_that_always_diverges_ends_at_the_smallest_rate() -> None:
    tuners = tune(never=lambda rate: math.inf, other=bowl(0.0))
    assert tuners["never"].losses[tuners["never"].best] == math.inf
    assert tuners["never"].best == min(tuners["never"].losses) >= 1 / LARGEST_FACTOR
    assert len(tuners["never"].losses) == len(tuners["other"].losses)


@pytest.mark.parametrize("rate", [2.0**-9, 2.0**-19])
def test_tiny_rates_are_found(rate: float) -> None:
    tuner = tune(it=lambda tried: math.inf if tried > 2 * rate else abs(math.log(tried / rate)))
    assert tuner["it"].best == rate


@pytest.mark.parametrize("slope", [1, -1], ids=["smaller", "larger"])
def test_a_loss_without_an_optimum_ends_at_the_limit(slope: int) -> None:
    tuner = tune(it=lambda rate: slope * math.log(rate))["it"]
    assert tuner.best == LARGEST_FACTOR**-slope


def test_a_constant_loss_needs_no_trials_beyond_the_grid() -> None:
    assert len(tune(flat=lambda rate: 1.0)["flat"].losses) == len(GRID)


@given(st.dictionaries(st.sampled_from(GRID), st.sampled_from([-2.0, 0.0, 1.0, math.inf])))
def test_tuning_ends_whatever_the_losses(table: dict[float, float]) -> None:
    tuners = tune(odd=lambda rate: table.get(rate, 0.5), other=bowl(3.0))
    assert len(tuners["odd"].losses) <= 60
    assert len(tuners["odd"].losses) == len(tuners["other"].losses)


def tune_settings(**losses: Callable[[Setting], float]) -> dict[str, SettingTuner]:
    tuners = {name: SettingTuner(GRID, DECAYS) for name in losses}
    tune_equally(tuners, lambda trials: [losses[name](setting) for name, setting in trials])
    return tuners


def valley(rate: float, decay: float) -> Callable[[Setting], float]:
    """Return a loss with its minimum at the rate 2^rate and the decay `decay`.

    With more decay the best rate is smaller.
    """

    def loss(setting: Setting) -> float:
        distance = math.log2(setting.lr) - rate + 0.1 * (setting.decay - decay)
        return distance**2 + math.log((0.05 + setting.decay) / (0.05 + decay)) ** 2

    return loss


@given(st.floats(-5, 5), st.sampled_from([0.0, 0.12, 0.3, 0.8, 3.0, 9.0]))
def test_rate_and_decay_are_found_together(rate: float, decay: float) -> None:
    best = tune_settings(it=valley(rate, decay))["it"].best
    assert abs(math.log((0.05 + best.decay) / (0.05 + decay))) <= math.log(3)
    assert abs(math.log2(best.lr) - rate + 0.1 * (best.decay - decay)) <= 0.5


def test_contenders_with_and_without_decay_get_the_same_number_of_trials() -> None:
    tuners = tune_settings(none=valley(0.0, 0.0), much=valley(2.0, 9.0))
    assert tuners["none"].best.decay == 0.0
    assert tuners["much"].best.decay > max(DECAYS)
    assert len(tuners["none"].losses) == len(tuners["much"].losses)


def test_without_decays_only_rates_are_tried() -> None:
    tuner = SettingTuner()
    tune_equally({"it": tuner}, lambda trials: [(math.log2(s.lr) - 1.1) ** 2 for _, s in trials])
    assert {setting.decay for setting in tuner.losses} == {0.0}
    assert abs(math.log2(tuner.best.lr) - 1.1) <= 0.5


@given(st.lists(st.sampled_from([-2.0, 0.0, 1.0, math.inf]), min_size=12, max_size=12))
def test_tuning_of_settings_ends_whatever_the_losses(table: list[float]) -> None:
    def loss(setting: Setting) -> float:
        return table[(round(math.log2(setting.lr)) + round(10 * setting.decay)) % len(table)]

    assert len(tune_settings(odd=loss)["odd"].losses) <= 120
