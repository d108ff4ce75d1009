"""Tests of the comparison of runs at equal cost, on stored runs without trainings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evosearch.errors import UsageError
from evosearch.evolution.evolution import Evolution
from evosearch.runs.cost import Unit
from evosearch.runs.curves import FitnessCurve, compare_runs
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.runs.summary import Estimate
from evosearch.runs.validations import Validation
from evosearch.statistics import Interval
from tests.evosearch.stored_runs import config, make_stored_run

ONLY_TUNE = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}
"""Mutation settings of a search that only tunes constants."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that differ in their seeds, and a cheaper run that only tunes constants."""
    root = tmp_path_factory.mktemp("runs")
    make_stored_run(root / "full", programs=1200, seed=0)
    make_stored_run(root / "full-2", programs=1200, seed=1)
    make_stored_run(root / "constants-1", programs=150, seed=0, mutation=ONLY_TUNE)
    return [root / "full", root / "full-2", root / "constants-1"]


@pytest.fixture
def run_command(run: Any) -> Any:
    """Return the function that runs a command; in this module, `run` is a search's record."""
    return run


def open_runs(paths: list[Path]) -> list[Run]:
    return [Run(path) for path in paths]


def test_runs_that_differ_only_in_seed_form_one_group(runs: list[Path]) -> None:
    full, constants = compare_runs(open_runs(runs)).groups
    assert (full.name, len(full.runs)) == ("full", 2)
    assert (constants.name, len(constants.runs)) == ("constants-1", 1)
    assert full.settings == {}
    assert constants.settings == {f"mutation.{name}": value for name, value in ONLY_TUNE.items()}


@pytest.mark.parametrize("unit", Unit)
def test_groups_are_compared_up_to_the_cost_of_the_cheapest_run(
    runs: list[Path], unit: Unit
) -> None:
    costs = [run.cost() for run in open_runs(runs)]
    costs_in_unit = [cost.updates if unit is Unit.UPDATES else cost.trainings for cost in costs]
    comparison = compare_runs(open_runs(runs), unit)
    cost_of_constants_run = costs_in_unit[2]
    assert comparison.costs[-1] == min(costs_in_unit) == cost_of_constants_run
    assert list(comparison.costs) == sorted(comparison.costs)


def test_the_fitness_of_a_group_is_the_mean_and_range_of_its_champions_at_a_cost(
    runs: list[Path],
) -> None:
    comparison = compare_runs(open_runs(runs), Unit.TRAININGS)
    full = comparison.groups[0]
    cost_after_the_end = 10**9
    for cost in (*comparison.costs, cost_after_the_end):
        estimates = []
        for run in open_runs(runs[:2]):
            champions = [entry for entry in run.champions() if entry.cost.trainings <= cost]
            estimates.append([entry.estimate for entry in champions if entry.estimate][-1])
        means = [estimate.fitness.mean for estimate in estimates]
        spread = full.fitness(cost)
        assert spread is not None
        assert spread == (pytest.approx(sum(means) / 2), min(means), max(means))
        per_task = full.per_task(cost)
        for task in ("one", "two"):
            expected = sum(estimate.per_task[task] for estimate in estimates) / 2
            assert per_task[task] == pytest.approx(expected)


def test_a_curve_shows_the_current_champion_not_the_maximum() -> None:
    estimates = [
        Estimate(fitness=Interval(mean, mean, mean), per_task={}, seeds=2)
        for mean in (0.0, 0.3, 0.2)
    ]
    curve = FitnessCurve((0, 10, 20), tuple(estimates))
    expected_means = {-1: None, 0: 0.0, 9: 0.0, 10: 0.3, 19: 0.3, 20: 0.2, 99: 0.2}
    for cost, expected_mean in expected_means.items():
        estimate = curve.at(cost)
        assert (estimate and estimate.fitness.mean) == expected_mean


def test_runs_that_cannot_be_compared_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same search with the same seed"):
        compare_runs(open_runs([runs[0], runs[0]]))
    make_run_directory(tmp_path / "empty", config(), {})
    with pytest.raises(UsageError, match="empty has no measurements"):
        compare_runs([Run(tmp_path / "empty")])
    make_run_directory(tmp_path / "other", config(tasks=["one", "three"]), {})
    with pytest.raises(UsageError, match=r"other and .* were searched on different tasks"):
        compare_runs([Run(runs[0]), Run(tmp_path / "other")])


def test_runs_that_differ_only_in_seed_and_in_changeable_settings_form_one_group(
    tmp_path: Path,
) -> None:
    make_stored_run(tmp_path / "mine-1", programs=200, seed=1)
    settings: dict[str, object] = {"simplify": True, "funnel": {"entrants": [3, 2]}}
    make_stored_run(tmp_path / "mine-2", programs=300, seed=2, **settings)
    (group,) = compare_runs(open_runs([tmp_path / "mine-1", tmp_path / "mine-2"])).groups
    assert group.name == "mine"


def add_validation(
    directory: Path, evolution: Evolution, number: int, scores: dict[str, list[float]]
) -> None:
    """Store the validation of a champion, given by its number.

    Args:
        directory: The run's directory.
        evolution: The run's search.
        number: Index of the champion among the champions of the search.
        scores: For each validation task, the score on each seed.
    """
    store = Store.open(directory, "search")
    validations = [
        Validation(task, seed, 1.0, 1.0, math.exp(score))
        for task, scores_of_task in scores.items()
        for seed, score in enumerate(scores_of_task)
    ]
    store.add_validation(number, evolution.champions[number].record.id, validations)
    store.close()


def test_a_champions_validation_is_the_mean_over_tasks_and_seeds(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    evolution = make_stored_run(directory, programs=1200)
    assert Run(directory).validations() == {}
    last = len(evolution.champions) - 1
    add_validation(directory, evolution, 1, {"big": [0.1, 0.3], "deep": [0.2, 0.4]})
    add_validation(directory, evolution, last, {"big": [0.5, 0.5], "deep": [0.6, 0.6]})
    run = Run(directory)
    estimates = run.validations()
    assert list(estimates) == [1, last]
    assert estimates[1].fitness.mean == pytest.approx(0.25)
    assert estimates[1].per_task == pytest.approx({"big": 0.2, "deep": 0.3})
    assert estimates[1].seeds == 2
    assert estimates[last].fitness.mean == pytest.approx(0.55)

    (group,) = compare_runs([run], Unit.TRAININGS).groups
    costs = [champion.cost.trainings for champion in run.champions()]
    assert group.validation(costs[1] - 1) is None
    for number, mean in ((1, 0.25), (last, 0.55)):
        spread = group.validation(costs[number])
        assert spread is not None
        assert spread.mean == pytest.approx(mean)


def test_compare_prints_a_row_for_each_cost_and_group(run_command: Any, runs: list[Path]) -> None:
    document = json.loads(run_command("compare", *runs, "--json").out)
    assert document["unit"] == "weight updates"
    assert [group["name"] for group in document["groups"]] == ["full", "constants-1"]
    fitness = document["groups"][0]["fitness"]
    assert len(fitness) == len(document["costs"]) == 5
    result = run_command("compare", *runs, "--by", "trainings")
    assert result.status == 0
    first_table = result.out.splitlines()[:12]
    rows_of_full = [line for line in first_table if "full" in line]
    assert len(rows_of_full) == 5
    text = " ".join(result.out.split())
    last = fitness[-1]
    assert f"{last['mean']:+.3f} {last['low']:+.3f} {last['high']:+.3f}" in text
    assert "constants-1 differs from full in: mutation.insert = 0.0" in result.out
    last_of_single_run = document["groups"][1]["fitness"][-1]
    assert f"constants-1 {last_of_single_run['mean']:+.3f} - -" in text
    assert "Only one run each of: constants-1." in text
    assert "validation" not in result.out


def test_compare_draws_a_line_for_each_group_and_drawing_again_gives_the_same_bytes(
    run_command: Any, runs: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.svg"
    assert run_command("compare", *runs, "-o", path).status == 0
    text = path.read_text()
    assert "<svg" in text
    assert "full" in text
    assert "constants-1" in text
    assert "validation tasks" not in text
    second_path = tmp_path / "second.svg"
    document = json.loads(run_command("compare", *runs, "-o", second_path, "--json").out)
    assert document["path"] == str(second_path)
    assert second_path.read_bytes() == path.read_bytes()


def test_compare_refuses_to_draw_into_a_text_file(
    run_command: Any, runs: list[Path], tmp_path: Path
) -> None:
    result = run_command("compare", *runs, "-o", tmp_path / "curves.txt")
    assert result.status == 2
    assert "must be one of .svg, .png, .pdf" in result.err


def test_compare_prints_and_draws_validation(run_command: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    add_validation(tmp_path / "run", evolution, 1, {"big": [0.25, 0.25]})
    result = run_command("compare", tmp_path / "run", "-o", tmp_path / "curves.svg")
    assert "validation" in result.out
    assert "+0.250" in result.out
    assert "validation tasks" in (tmp_path / "curves.svg").read_text()
