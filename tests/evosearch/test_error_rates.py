"""How often a search errs, where the truth is known: nothing is trained, scores are drawn.

Run by hand, a quarter of an hour: `pytest -m slow -s tests/evosearch/test_error_rates.py`.
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

DEVIATION = 0.1  # of a program's score between seeds
PER_TASK = DEVIATION * math.sqrt(2)  # a seed's score is the mean of two tasks
BASELINE = zoo.load("adamw_paper")
POPULATION = 100


def as_in(preset: str) -> dict[str, Any]:
    """The measurement of a preset, its race in deviations between seeds."""
    chosen = load_preset(preset)["measurement"]
    return {
        "challenge_seeds": chosen["challenge_seeds"],
        "max_seeds": chosen["max_seeds"],
        "race": chosen["race"] / MeasurementConfig().noise_floor * DEVIATION,
    }


SETTINGS = pytest.mark.parametrize(
    "measurement",
    [{}, as_in("standard"), as_in("quick")],
    ids=["defaults", "standard", "quick"],
)


def searched(seed: int, worth: Worth, programs: int, measurement: dict[str, Any]) -> Evolution:
    """A search of so many programs whose true scores are `worth`."""
    evolution = Evolution(
        config(seed=seed, population=POPULATION, tournament=2, measurement=measurement)
    )
    evolve(evolution, programs, worth, PER_TASK, run=seed)
    return evolution


def decays_weights(program: Program) -> bool:
    """Whether the live program reads the weights at all."""
    alive = live(program)
    return any(alive.weight in statement.args for statement in alive.statements)


@pytest.mark.slow
@SETTINGS
def test_a_search_on_pure_noise_takes_a_new_champion_in_at_most_28_of_400_runs(
    measurement: dict[str, Any],
) -> None:
    """An error rate of 0.05 a run gives 20 on average and more than 28 in 3 of 100."""
    runs = (searched(seed, lambda _: 0.0, 500, measurement) for seed in range(400))
    wrong = sum(len(run.champions) > 1 for run in runs)
    print(f"\nnull: {wrong} of 400 searches declared a champion that is no better")
    assert wrong <= 28


@pytest.mark.slow
@SETTINGS
@pytest.mark.parametrize(("size", "least"), [(1.0, 100), (0.5, 5)])
def test_a_planted_improvement_is_found_and_its_interval_covers_the_truth(
    size: float, least: int, measurement: dict[str, Any]
) -> None:
    """To drop the weight decay is worth `size` deviations between seeds: one deletion away.

    Half a deviation is little for the twelve pairs of one test at an error rate of 0.025.
    """
    gain = size * DEVIATION

    def worth(program: Program) -> float:
        return 0.0 if decays_weights(program) else gain

    assert worth(BASELINE) == 0.0
    found = covered = 0
    for seed in range(200):
        evolution = searched(seed, worth, 2000, measurement)
        record = evolution.champion.record
        floor = evolution.config.measurement.noise_floor
        _, low, high = fitness(reported_scores(record.scores), floor)
        truth = worth(record.program)
        found += truth > 0
        covered += low <= truth <= high
    print(
        f"\nplanted, {size} deviations: found in {found} of 200 searches of 2,000 programs, "
        f"the reported interval covers the truth in {covered}"
    )
    assert covered >= 182
    assert found >= least
