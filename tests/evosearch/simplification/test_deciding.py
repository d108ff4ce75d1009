"""Seeds are added until it is decided, and noise never argues for dropping anything."""

from __future__ import annotations

import numpy as np
import pytest

from evosearch.simplification.deciding import ERROR_RATE, LIMIT, LOOKS, WORST, bounds, decide

DRAWS = 1000


def decided(values, diverged_from=None):
    def costs(count):
        return np.atleast_2d(values)[
            :, :count
        ], diverged_from is not None and count >= diverged_from

    return decide(costs)


def test_a_candidate_that_costs_the_limit_is_seldom_taken() -> None:
    """At most 5% of the time over all looks, at the very limit."""
    taken = 0
    for seed in range(DRAWS):
        costs = np.random.default_rng(seed).normal(LIMIT, 0.05, LOOKS[-1])
        taken += decided(costs).taken
    assert 0 < taken <= DRAWS * ERROR_RATE


def test_what_costs_nothing_is_taken_once_there_are_enough_seeds() -> None:
    looks = [
        decided(np.random.default_rng(seed).normal(0.0, 0.02, LOOKS[-1])) for seed in range(100)
    ]
    assert sum(one.taken for one in looks) >= 95
    assert len({one.seeds for one in looks if one.taken}) > 1


@pytest.mark.parametrize("cost", [0.02, 0.1, 1.0])
def test_what_costs_more_is_given_up_early(cost: float) -> None:
    decision = decided(np.random.default_rng(0).normal(cost, 0.01, LOOKS[-1]))
    assert not decision.taken
    assert decision.seeds == LOOKS[0]
    assert "costs more" in decision.why


def test_noise_never_argues_for_dropping() -> None:
    decision = decided(np.random.default_rng(1).normal(0.0, 1.0, LOOKS[-1]))
    assert not decision.taken
    assert "not shown" in decision.why


def test_what_the_last_look_will_hardly_decide_is_given_up_before_and_little_is_lost() -> None:
    """Costs just below the limit are mostly given up before, costs of zero hardly ever."""
    drawn = [np.random.default_rng(seed).normal(0.0, 0.05, LOOKS[-1]) for seed in range(200)]
    close = [decided(costs + 0.9 * LIMIT) for costs in drawn]
    assert sum(one.seeds < LOOKS[-1] for one in close if not one.taken) > 100
    patient = sum(bounds(costs).high < LIMIT for costs in drawn)
    assert sum(decided(costs).taken for costs in drawn) >= 0.95 * patient > 50


def test_a_cost_on_one_task_is_not_made_up_for_by_another() -> None:
    costs = np.random.default_rng(2).normal(0, 0.01, (2, LOOKS[-1])) + [[0.05], [-0.2]]
    assert not decided(costs).taken
    assert decided(costs - [[0.05], [0.0]]).taken


def test_the_most_that_one_task_may_cost_is_seldom_exceeded() -> None:
    """At most 5% of the time over all looks, at three times the limit."""
    taken = 0
    for seed in range(DRAWS):
        noise = np.random.default_rng(seed).normal(0, 0.05, (2, LOOKS[-1]))
        taken += decided(noise + [[WORST * LIMIT], [-0.2]]).taken
    assert 0 < taken <= DRAWS * ERROR_RATE


def test_one_divergence_is_a_refusal() -> None:
    gains = np.full(LOOKS[-1], -0.5) + np.random.default_rng(0).normal(0, 1e-3, LOOKS[-1])
    assert decided(gains).taken
    decision = decided(gains, diverged_from=LOOKS[0])
    assert not decision.taken
    assert "diverges" in decision.why


def test_bounds_widen_with_the_number_of_looks() -> None:
    costs = np.random.default_rng(0).normal(size=32)
    once, often = bounds(costs, 1), bounds(costs, 4)
    assert often.low < once.low < once.mean < once.high < often.high


def test_equal_programs_cost_nothing_for_sure() -> None:
    held = bounds(np.zeros(32))
    assert [f"{value:+.1f}" for value in (held.low, held.mean, held.high)] == ["+0.0"] * 3
