"""Error rates of a search on simulated scores, whose true means are known.

Run by hand, in a quarter of an hour: `pytest -m slow -s tests/evosearch/test_error_rates.py`.
"""

import math
from typing import Any

import pytest

from evosearch.config import MeasurementConfig
from evosearch.evolution.evolution import Evolution
from evosearch.evolution.records import fitness, reported_scores
from evosearch.presets import load_preset
from primitives import Program, live, zoo
from tests.evosearch.stored_runs import Worth, config, evolve

DEVIATION = 0.1  # standard deviation of a program's score between seeds
PER_TASK = DEVIATION * math.sqrt(2)  # a seed's score is the mean of two tasks
BASELINE = zoo.load("adamw_paper")
POPULATION = 100


def measurement_of(preset: str) -> dict[str, Any]:
    """Return the measurement settings of a preset, its race in deviations between seeds."""
    settings = load_preset(preset)["measurement"]
    return {
        "challenge_seeds": settings["challenge_seeds"],
        "max_seeds": settings["max_seeds"],
        "race": settings["race"] / MeasurementConfig().noise_floor * DEVIATION,
    }


SETTINGS = pytest.mark.parametrize(
    "measurement",
    [{}, measurement_of("standard"), measurement_of("quick")],
    ids=["defaults", "standard", "quick"],
)


def simulate_search(
    seed: int, worth: Worth, programs: int, measurement: dict[str, Any]
) -> Evolution:
    """Simulate a search of `programs` programs with the true scores `worth`."""
    evolution = Evolution(
        config(seed=seed, population=POPULATION, tournament=2, measurement=measurement)
    )
    evolve(evolution, programs, worth, PER_TASK, run=seed)
    return evolution


def decays_weights(program: Program) -> bool:
    """Return whether a live statement reads the weights."""
    live_program = live(program)
    return any(live_program.weight in statement.args for statement in live_program.statements)


@pytest.mark.slow
@SETTINGS
def test_searches_on_pure_noise_find_a_new_champion_in_at_most_28_of_400_runs(
    measurement: dict[str, Any],
) -> None:
    """An error rate of 0.05 per run gives a mean of 20, and more than 28 with probability 0.03."""
    runs = (simulate_search(seed, lambda _: 0.0, 500, measurement) for seed in range(400))
    wrong = sum(len(run.champions) > 1 for run in runs)
    print(f"\nnull: {wrong} of 400 searches accepted a champion that is not better")
    assert wrong <= 28


@pytest.mark.slow
@SETTINGS
@pytest.mark.parametrize(("size", "min_found"), [(1.0, 100), (0.5, 5)])
def test_a_simulated_improvement_is_found_and_its_interval_covers_the_truth(
    size: float, min_found: int, measurement: dict[str, Any]
) -> None:
    """Deleting the weight decay improves the score by `size` standard deviations between seeds.

    Half a deviation is hard to detect with the twelve pairs of one test at an error rate of 0.025.
    """
    gain = size * DEVIATION

    def worth(program: Program) -> float:
        return 0.0 if decays_weights(program) else gain

    assert worth(BASELINE) == 0.0
    found = covered = 0
    for seed in range(200):
        evolution = simulate_search(seed, worth, 2000, measurement)
        record = evolution.champion.record
        floor = evolution.config.measurement.noise_floor
        _, low, high = fitness(reported_scores(record.scores), floor)
        truth = worth(record.program)
        found += truth > 0
        covered += low <= truth <= high
    print(
        f"\nimprovement of {size} deviations: found in {found} of 200 searches of 2,000 programs, "
        f"the reported interval covers the truth in {covered}"
    )
    assert covered >= 182
    assert found >= min_found
