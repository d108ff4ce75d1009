"""Tests of the sequential test that accepts an edit if its cost is shown to be below a limit."""

from __future__ import annotations

import numpy as np
import pytest

from evosearch.simplification.deciding import (
    ERROR_RATE,
    LIMIT,
    LOOKS,
    TASK_LIMIT_FACTOR,
    bounds,
    decide,
)

EXPERIMENTS = 1000
"""Number of simulated tests whose error rate is measured."""
MAX_SEEDS = LOOKS[-1]
"""Number of seeds at the last look."""


def decide_on(costs, *, diverges=False):
    """Return the decision on an edit with the given costs.

    Args:
        costs: Array [seeds] of one task, or [tasks, seeds].
        diverges: Whether a training with the edit diverges.
    """
    return decide(lambda seeds: (np.atleast_2d(costs)[:, :seeds], diverges))


def draw_costs(seed, mean, std):
    """Return normally distributed costs of an edit, an array [seeds]."""
    return np.random.default_rng(seed).normal(mean, std, MAX_SEEDS)


def test_at_most_5_percent_of_edits_with_a_cost_at_the_limit_are_accepted() -> None:
    """The error rate of 5% holds for all looks together."""
    decisions = [decide_on(draw_costs(seed, LIMIT, 0.05)) for seed in range(EXPERIMENTS)]
    accepted = sum(decision.accepted for decision in decisions)
    assert 0 < accepted <= EXPERIMENTS * ERROR_RATE


def test_most_edits_without_cost_are_accepted_after_different_numbers_of_seeds() -> None:
    decisions = [decide_on(draw_costs(seed, 0.0, 0.02)) for seed in range(100)]
    accepted = [decision for decision in decisions if decision.accepted]
    assert len(accepted) >= 95
    assert len({decision.seeds for decision in accepted}) > 1


@pytest.mark.parametrize("cost", [0.02, 0.1, 1.0])
def test_an_edit_with_a_cost_above_the_limit_is_rejected_at_the_first_look(cost: float) -> None:
    decision = decide_on(draw_costs(0, cost, 0.01))
    assert not decision.accepted
    assert decision.seeds == LOOKS[0]
    assert "costs more" in decision.reason


def test_an_edit_with_a_noisy_cost_is_rejected() -> None:
    decision = decide_on(draw_costs(1, 0.0, 1.0))
    assert not decision.accepted
    assert "not shown" in decision.reason


def test_an_edit_that_is_unlikely_to_be_accepted_is_rejected_before_the_last_look() -> None:
    """Most edits with a cost just below the limit are rejected early; few without cost are."""
    zero_costs = [draw_costs(seed, 0.0, 0.05) for seed in range(200)]
    decisions = [decide_on(costs + 0.9 * LIMIT) for costs in zero_costs]
    rejections = [decision for decision in decisions if not decision.accepted]
    assert sum(decision.seeds < MAX_SEEDS for decision in rejections) > 100
    accepted_without_early_rejection = sum(bounds(costs).high < LIMIT for costs in zero_costs)
    accepted = sum(decide_on(costs).accepted for costs in zero_costs)
    assert accepted >= 0.95 * accepted_without_early_rejection > 50


def test_a_gain_on_one_task_does_not_offset_a_cost_on_another() -> None:
    noise = np.random.default_rng(2).normal(0, 0.01, (2, MAX_SEEDS))
    assert not decide_on(noise + [[0.05], [-0.2]]).accepted
    assert decide_on(noise + [[0.0], [-0.2]]).accepted


def test_at_most_5_percent_of_edits_with_a_cost_at_the_limit_of_one_task_are_accepted() -> None:
    """The limit of one task is three times the limit of the mean."""
    costs_of_tasks = [[TASK_LIMIT_FACTOR * LIMIT], [-0.2]]
    accepted = 0
    for seed in range(EXPERIMENTS):
        noise = np.random.default_rng(seed).normal(0, 0.05, (2, MAX_SEEDS))
        accepted += decide_on(noise + costs_of_tasks).accepted
    assert 0 < accepted <= EXPERIMENTS * ERROR_RATE


def test_an_edit_that_diverges_is_rejected_even_if_it_lowers_the_loss() -> None:
    costs = draw_costs(0, -0.5, 1e-3)
    assert decide_on(costs).accepted
    decision = decide_on(costs, diverges=True)
    assert not decision.accepted
    assert "diverges" in decision.reason


def test_bounds_widen_with_the_number_of_looks() -> None:
    costs = np.random.default_rng(0).normal(size=32)
    one_look, four_looks = bounds(costs, 1), bounds(costs, 4)
    assert four_looks.low < one_look.low < one_look.mean < one_look.high < four_looks.high


def test_the_bounds_of_a_cost_of_zero_are_printed_without_a_minus_sign() -> None:
    cost = bounds(np.zeros(32))
    assert {f"{value:+.1f}" for value in (cost.low, cost.mean, cost.high)} == {"+0.0"}
