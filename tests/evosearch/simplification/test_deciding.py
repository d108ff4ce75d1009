"""The sequential test of a cost: error rates, early rejections and bounds."""

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

NUM_TESTS = 1000


def decide_costs(values, diverged_from=None):
    def costs(count):
        return np.atleast_2d(values)[
            :, :count
        ], diverged_from is not None and count >= diverged_from

    return decide(costs)


def test_a_candidate_at_the_limit_is_rarely_accepted() -> None:
    """At most 5% are accepted over all looks, for a cost exactly at the limit."""
    num_accepted = 0
    for seed in range(NUM_TESTS):
        costs = np.random.default_rng(seed).normal(LIMIT, 0.05, LOOKS[-1])
        num_accepted += decide_costs(costs).accepted
    assert 0 < num_accepted <= NUM_TESTS * ERROR_RATE


def test_a_candidate_without_cost_is_accepted_with_enough_seeds() -> None:
    decisions = [
        decide_costs(np.random.default_rng(seed).normal(0.0, 0.02, LOOKS[-1]))
        for seed in range(100)
    ]
    assert sum(decision.accepted for decision in decisions) >= 95
    assert len({decision.seeds for decision in decisions if decision.accepted}) > 1


@pytest.mark.parametrize("cost", [0.02, 0.1, 1.0])
def test_a_candidate_above_the_limit_is_rejected_early(cost: float) -> None:
    decision = decide_costs(np.random.default_rng(0).normal(cost, 0.01, LOOKS[-1]))
    assert not decision.accepted
    assert decision.seeds == LOOKS[0]
    assert "costs more" in decision.reason


def test_a_noisy_candidate_is_rejected() -> None:
    decision = decide_costs(np.random.default_rng(1).normal(0.0, 1.0, LOOKS[-1]))
    assert not decision.accepted
    assert "not shown" in decision.reason


def test_candidates_unlikely_to_be_accepted_are_rejected_early_with_little_loss() -> None:
    """Most costs just below the limit are rejected early, but hardly any costs of zero."""
    zero_costs = [np.random.default_rng(seed).normal(0.0, 0.05, LOOKS[-1]) for seed in range(200)]
    decisions = [decide_costs(costs + 0.9 * LIMIT) for costs in zero_costs]
    rejections = [decision for decision in decisions if not decision.accepted]
    assert sum(decision.seeds < LOOKS[-1] for decision in rejections) > 100
    accepted_without_early_rejection = sum(bounds(costs).high < LIMIT for costs in zero_costs)
    accepted = sum(decide_costs(costs).accepted for costs in zero_costs)
    assert accepted >= 0.95 * accepted_without_early_rejection > 50


def test_a_gain_on_one_task_does_not_offset_a_cost_on_another() -> None:
    costs = np.random.default_rng(2).normal(0, 0.01, (2, LOOKS[-1])) + [[0.05], [-0.2]]
    assert not decide_costs(costs).accepted
    assert decide_costs(costs - [[0.05], [0.0]]).accepted


def test_a_candidate_at_the_limit_for_one_task_is_rarely_accepted() -> None:
    """At most 5% are accepted over all looks, for a cost of three times the limit."""
    num_accepted = 0
    for seed in range(NUM_TESTS):
        noise = np.random.default_rng(seed).normal(0, 0.05, (2, LOOKS[-1]))
        num_accepted += decide_costs(noise + [[TASK_LIMIT_FACTOR * LIMIT], [-0.2]]).accepted
    assert 0 < num_accepted <= NUM_TESTS * ERROR_RATE


def test_one_divergence_is_a_rejection() -> None:
    gains = np.full(LOOKS[-1], -0.5) + np.random.default_rng(0).normal(0, 1e-3, LOOKS[-1])
    assert decide_costs(gains).accepted
    decision = decide_costs(gains, diverged_from=LOOKS[0])
    assert not decision.accepted
    assert "diverges" in decision.reason


def test_bounds_widen_with_the_number_of_looks() -> None:
    costs = np.random.default_rng(0).normal(size=32)
    one_look, four_looks = bounds(costs, 1), bounds(costs, 4)
    assert four_looks.low < one_look.low < one_look.mean < one_look.high < four_looks.high


def test_equal_programs_have_zero_bounds() -> None:
    zero_bounds = bounds(np.zeros(32))
    assert [f"{value:+.1f}" for value in (zero_bounds.low, zero_bounds.mean, zero_bounds.high)] == [
        "+0.0"
    ] * 3
