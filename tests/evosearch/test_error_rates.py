"""Tests of a search's error rates on simulated scores, whose true means are known.

The tests take a quarter of an hour: `pytest -m slow -s tests/evosearch/test_error_rates.py`.
"""

import math
from typing import Any

import pytest

from evosearch.config import MeasurementConfig
from evosearch.evolution.evolution import Evolution
from evosearch.evolution.records import fitness, reported_scores
from evosearch.presets import load_preset
from primitives import Program, live, zoo
from tests.evosearch.stored_runs import TrueScore, config, evolve

SEED_STD = 0.1
"""Standard deviation of a program's score over seeds. A score is the mean of two tasks."""
TASK_STD = SEED_STD * math.sqrt(2)
"""Standard deviation of a program's score on one task over seeds."""
BASELINE = zoo.load("adamw_paper")
POPULATION = 100


def measurement_of(preset: str) -> dict[str, Any]:
    """Return the measurement settings of a preset, with its race scaled to the simulated noise."""
    settings = load_preset(preset)["measurement"]
    race_in_noise_floors = settings["race"] / MeasurementConfig().noise_floor
    return {
        "challenge_seeds": settings["challenge_seeds"],
        "max_seeds": settings["max_seeds"],
        "race": race_in_noise_floors * SEED_STD,
    }


FOR_ALL_SETTINGS = pytest.mark.parametrize(
    "measurement",
    [{}, measurement_of("standard"), measurement_of("quick")],
    ids=["defaults", "standard", "quick"],
)


def simulate_search(
    seed: int, true_score: TrueScore, programs: int, measurement: dict[str, Any]
) -> Evolution:
    """Simulate a search of `programs` programs; a score is `true_score` plus noise."""
    evolution = Evolution(
        config(seed=seed, population=POPULATION, tournament=2, measurement=measurement)
    )
    evolve(evolution, programs, true_score, TASK_STD, noise_seed=seed)
    return evolution


def decays_weights(program: Program) -> bool:
    """Return whether a live statement reads the weights."""
    live_program = live(program)
    return any(live_program.weight in statement.args for statement in live_program.statements)


@pytest.mark.slow
@FOR_ALL_SETTINGS
def test_searches_on_pure_noise_accept_a_new_champion_in_at_most_28_of_400_searches(
    measurement: dict[str, Any],
) -> None:
    """At the error rate of 0.05, 20 errors are expected; more than 28 have probability 0.03."""
    searches = (simulate_search(seed, lambda _: 0.0, 500, measurement) for seed in range(400))
    errors = sum(len(evolution.champions) > 1 for evolution in searches)
    print(f"\npure noise: {errors} of 400 searches accepted a champion that is not better")
    assert errors <= 28


@pytest.mark.slow
@FOR_ALL_SETTINGS
@pytest.mark.parametrize(("effect_size", "min_found"), [(1.0, 100), (0.5, 5)])
def test_a_simulated_improvement_is_found_and_its_interval_covers_the_true_score(
    effect_size: float, min_found: int, measurement: dict[str, Any]
) -> None:
    """Programs without weight decay have a score that is higher by `effect_size` x `SEED_STD`.

    An effect size of 0.5 is hard to detect: a test has twelve pairs and an error rate of 0.025.
    """
    gain = effect_size * SEED_STD

    def true_score(program: Program) -> float:
        return 0.0 if decays_weights(program) else gain

    assert true_score(BASELINE) == 0.0
    found = covered = 0
    for seed in range(200):
        evolution = simulate_search(seed, true_score, 2000, measurement)
        record = evolution.champion.record
        noise_floor = evolution.config.measurement.noise_floor
        _, low, high = fitness(reported_scores(record.scores), noise_floor)
        score_of_champion = true_score(record.program)
        found += score_of_champion > 0
        covered += low <= score_of_champion <= high
    print(
        f"\neffect size {effect_size}: found in {found} of 200 searches of 2,000 programs; "
        f"the reported interval covers the true score in {covered}"
    )
    assert covered >= 182
    assert found >= min_found
