"""Tests that the cost computed from a run's record equals the cost that the search counts."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from evosearch.evolution.evolution import Evolution
from evosearch.runs.cost import Cost, running_cost
from evosearch.runs.rows import MeasurementRow
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from tests.evosearch.stored_runs import (
    NOISE_STD,
    WEIGHTS,
    config,
    make_stored_run,
    measure,
    short_with_signs_is_better,
)


def measurement_row(request: int, task: str, seed: int, steps: int) -> MeasurementRow:
    values = (request, "child", 1, "key", "search", seed, task, steps, "cosine", "interpreter")
    return MeasurementRow(*values, 1.0, 1.0, 0.0, False)


def test_a_training_costs_steps_times_weights_and_the_baseline_trains_once_per_seed() -> None:
    """Task `one` has 1,000 weights and task `two` has 30."""
    rows = [
        measurement_row(request=1, task="one", seed=0, steps=50),
        measurement_row(request=1, task="two", seed=0, steps=200),
        measurement_row(request=2, task="one", seed=0, steps=7),  # stopped early
        measurement_row(request=4, task="one", seed=1, steps=50),
    ]
    program_and_baseline = 2
    updates_1 = program_and_baseline * (50 * 1000 + 200 * 30)
    updates_2 = 7 * 1000  # the baseline has been trained on seed 0
    updates_4 = program_and_baseline * 50 * 1000
    assert running_cost(rows, WEIGHTS) == {
        1: Cost(4, updates_1),
        2: Cost(5, updates_1 + updates_2),
        4: Cost(7, updates_1 + updates_2 + updates_4),
    }


def test_the_baseline_costs_a_complete_training_if_the_first_program_was_stopped() -> None:
    rows = [
        measurement_row(request=1, task="one", seed=0, steps=7),
        measurement_row(request=2, task="one", seed=0, steps=50),
    ]
    assert running_cost(rows, WEIGHTS)[1] == Cost(2, (7 + 50) * 1000)


def test_the_record_and_the_search_count_the_same_trainings(tmp_path: Path) -> None:
    """Each training has 100 steps, and half of the trainings are on each of the two tasks."""
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    run = Run(tmp_path / "run")
    assert run.cost().trainings == evolution.trainings
    assert run.cost().updates == evolution.trainings // 2 * 100 * sum(WEIGHTS.values())
    store = Store.open(tmp_path / "run")
    assert store.trainings(evolution.next_request) == evolution.trainings
    assert store.trainings(0) == 0


def test_champions_have_the_cost_at_the_end_of_their_tests(tmp_path: Path) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1600)
    champions = Run(tmp_path / "run").champions()
    champion_ids = [champion.record.id for champion in evolution.champions]
    assert [entry.id for entry in champions] == champion_ids
    assert len(champions) > 2
    costs = [entry.cost.trainings for entry in champions]
    assert costs[0] == 0
    assert costs == sorted(costs)
    assert costs[-1] < evolution.trainings

    repeated = Evolution(config())
    cost_by_champion: dict[int, int] = {}
    open_requests = []
    while len(repeated.champions) < len(evolution.champions):
        while len(open_requests) < repeated.config.in_flight and (request := repeated.ask(1600)):
            open_requests.append(request)
        request = open_requests.pop(0)
        repeated.tell(request, measure(request, short_with_signs_is_better, NOISE_STD))
        last_champion = len(repeated.champions) - 1
        cost_by_champion.setdefault(last_champion, repeated.trainings)
    assert costs[1:] == [cost_by_champion[number] for number in range(1, len(champions))]


def test_a_champions_fitness_is_the_mean_over_its_confirming_seeds(tmp_path: Path) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1600)
    champions = Run(tmp_path / "run").champions()
    for entry, champion in zip(champions[1:], evolution.champions[1:], strict=True):
        scores_by_task = [champion.record.scores.get(seed) for seed in champion.confirming_seeds]
        mean_scores = [
            statistics.fmean(scores.values()) for scores in scores_by_task if scores is not None
        ]
        if len(mean_scores) < 2:
            assert entry.estimate is None
        else:
            assert entry.estimate is not None
            assert entry.estimate.fitness.mean == pytest.approx(statistics.fmean(mean_scores))
            assert entry.estimate.seeds == len(mean_scores)
    last_estimate = champions[-1].estimate
    assert last_estimate is not None
    assert last_estimate.seeds == 16
    assert set(last_estimate.per_task) == {"one", "two"}
