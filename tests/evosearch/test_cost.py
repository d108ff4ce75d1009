"""The cost of a search: computed from its record, it equals what the search itself counts."""

from __future__ import annotations

from pathlib import Path

from evosearch.evolution.evolution import Evolution
from evosearch.runs.cost import Cost, running_cost
from evosearch.runs.rows import MeasurementRow
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from tests.evosearch.stored_runs import WEIGHTS, config, make_stored_run, measure, shorter_is_better


def row(request: int, task: str, seed: int, steps: int) -> MeasurementRow:
    values = (request, "child", 1, "key", "search", seed, task, steps, "cosine", "interpreter")
    return MeasurementRow(*values, 1.0, 1.0, 0.0, False)


def test_a_training_costs_steps_times_weights_and_the_baseline_trains_once_per_seed() -> None:
    rows = [
        row(1, "one", 0, 50),
        row(1, "two", 0, 200),
        row(2, "one", 0, 7),  # stopped early
        row(4, "one", 1, 50),
    ]
    assert running_cost(rows, WEIGHTS) == {
        1: Cost(4, 2 * (50 * 1000 + 200 * 30)),
        2: Cost(5, 2 * (50 * 1000 + 200 * 30) + 7 * 1000),
        4: Cost(7, 2 * (50 * 1000 + 200 * 30) + 7 * 1000 + 2 * 50 * 1000),
    }


def test_the_baseline_costs_a_complete_training_if_the_first_program_was_stopped() -> None:
    rows = [row(1, "one", 0, 7), row(2, "one", 0, 50)]
    assert running_cost(rows, WEIGHTS)[1] == Cost(2, 57 * 1000)


def test_the_store_and_the_search_count_the_same_trainings(tmp_path: Path) -> None:
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
    assert [entry.id for entry in champions] == [c.record.id for c in evolution.champions]
    assert len(champions) > 2
    costs = [entry.cost.trainings for entry in champions]
    assert costs[0] == 0
    assert costs == sorted(costs)
    assert costs[-1] < evolution.trainings

    repeated = Evolution(config())
    cost_by_champion: dict[int, int] = {}
    in_flight = []
    while len(repeated.champions) < len(evolution.champions):
        while len(in_flight) < repeated.config.in_flight and (request := repeated.ask(1600)):
            in_flight.append(request)
        request = in_flight.pop(0)
        repeated.tell(request, measure(request, shorter_is_better, 0.03))
        cost_by_champion.setdefault(len(repeated.champions) - 1, repeated.trainings)
    assert costs[1:] == [cost_by_champion[number] for number in range(1, len(champions))]


def test_a_champions_fitness_is_the_mean_over_its_confirming_seeds(tmp_path: Path) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1600)
    champions = Run(tmp_path / "run").champions()
    for entry, champion in zip(champions[1:], evolution.champions[1:], strict=True):
        scores = [champion.record.scores.get(seed) for seed in champion.confirming_seeds]
        confirmed = [sum(s.values()) / 2 for s in scores if s is not None]
        if len(confirmed) < 2:
            assert entry.estimate is None
        else:
            assert entry.estimate is not None
            assert abs(entry.estimate.fitness.mean - sum(confirmed) / len(confirmed)) < 1e-9
            assert entry.estimate.seeds == len(confirmed)
    last = champions[-1].estimate
    assert last is not None
    assert last.seeds == 16
    assert set(last.per_task) == {"one", "two"}
