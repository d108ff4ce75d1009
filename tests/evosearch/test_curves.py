"""Comparison of runs at equal cost, on stored searches without trainings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evosearch.errors import UsageError
from evosearch.runs.cost import Unit
from evosearch.runs.curves import FitnessCurve, compare_runs
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.runs.summary import Estimate
from evosearch.runs.validations import Validation
from evosearch.statistics import Interval
from tests.evosearch.stored_runs import config, make_stored_run

TUNING = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of one search, and one run of a cheaper search."""
    root = tmp_path_factory.mktemp("runs")
    make_stored_run(root / "full", programs=1200, seed=0)
    make_stored_run(root / "full-2", programs=1200, seed=1)
    make_stored_run(root / "constants-1", programs=150, seed=0, mutation=TUNING)
    return [root / "full", root / "full-2", root / "constants-1"]


def open_runs(paths: list[Path]) -> list[Run]:
    return [Run(path) for path in paths]


def test_runs_that_differ_only_in_seed_form_one_group(runs: list[Path]) -> None:
    comparison = compare_runs(open_runs(runs))
    assert [(group.name, len(group.runs)) for group in comparison.groups] == [
        ("full", 2),
        ("constants-1", 1),
    ]
    assert comparison.groups[0].settings == {}
    assert comparison.groups[1].settings == {f"mutation.{k}": v for k, v in TUNING.items()}


@pytest.mark.parametrize("unit", Unit)
def test_groups_are_compared_up_to_the_cost_of_the_cheapest_run(
    runs: list[Path], unit: Unit
) -> None:
    costs = [run.cost() for run in open_runs(runs)]
    run_costs = [cost.updates if unit is Unit.UPDATES else cost.trainings for cost in costs]
    comparison = compare_runs(open_runs(runs), unit)
    assert comparison.costs[-1] == min(run_costs) == run_costs[2]
    assert list(comparison.costs) == sorted(comparison.costs)


def test_a_group_has_the_mean_and_range_of_its_champions_at_a_cost(runs: list[Path]) -> None:
    comparison = compare_runs(open_runs(runs), Unit.TRAININGS)
    for cost in (*comparison.costs, 10**9):
        estimates = []
        for run in open_runs(runs[:2]):
            champions = [entry for entry in run.champions() if entry.cost.trainings <= cost]
            estimates.append([entry.estimate for entry in champions if entry.estimate][-1])
        values = [estimate.fitness.mean for estimate in estimates]
        mean, low, high = comparison.groups[0].fitness(cost) or (None, None, None)
        assert (mean, low, high) == (pytest.approx(sum(values) / 2), min(values), max(values))
        per_task = comparison.groups[0].per_task(cost)
        for task in ("one", "two"):
            expected = sum(estimate.per_task[task] for estimate in estimates) / 2
            assert per_task[task] == pytest.approx(expected)


def test_a_curve_shows_the_current_champion_not_the_maximum() -> None:
    estimates = [
        Estimate(fitness=Interval(mean, mean, mean), per_task={}, seeds=2)
        for mean in (0.0, 0.3, 0.2)
    ]
    curve = FitnessCurve((0, 10, 20), tuple(estimates))
    points = [curve.at(cost) for cost in (-1, 0, 9, 10, 19, 20, 99)]
    assert [point and point.fitness.mean for point in points] == [
        None,
        0.0,
        0.0,
        0.3,
        0.3,
        0.2,
        0.2,
    ]


def test_incomparable_runs_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same search with the same seed"):
        compare_runs(open_runs([runs[0], runs[0]]))
    make_run_directory(tmp_path / "empty", config(), {})
    with pytest.raises(UsageError, match="empty has no measurements"):
        compare_runs([Run(tmp_path / "empty")])
    make_run_directory(tmp_path / "other", config(tasks=["one", "three"]), {})
    with pytest.raises(UsageError, match=r"other and .* were searched on different tasks"):
        compare_runs([Run(runs[0]), Run(tmp_path / "other")])


def test_runs_that_differ_in_seed_limits_and_later_phases_form_one_group(
    tmp_path: Path,
) -> None:
    make_stored_run(tmp_path / "mine-1", programs=200, seed=1)
    after: dict[str, object] = {"simplify": True, "funnel": {"entrants": [3, 2]}}
    make_stored_run(tmp_path / "mine-2", programs=300, seed=2, **after)
    (group,) = compare_runs(open_runs([tmp_path / "mine-1", tmp_path / "mine-2"])).groups
    assert group.name == "mine"


Scores = list[tuple[str, int, float]]
"""Task, seed and score of validations."""


def validated(directory: Path, champions: dict[int, tuple[int, Scores]]) -> Run:
    """Add validations to a run, given each champion's program id and scores."""
    store = Store.open(directory, "search")
    for number, (program, scores) in champions.items():
        rows = [Validation(task, seed, 1.0, 1.0, math.exp(score)) for task, seed, score in scores]
        store.add_validation(number, program, rows)
    store.close()
    return Run(directory)


def test_validation_is_the_mean_over_seeds_of_each_champion(tmp_path: Path) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    assert Run(tmp_path / "run").validations() == {}
    first, number = evolution.champions[1].record.id, len(evolution.champions) - 1
    run = validated(
        tmp_path / "run",
        {
            1: (first, [("big", 0, 0.1), ("deep", 0, 0.2), ("big", 1, 0.3), ("deep", 1, 0.4)]),
            number: (
                evolution.champion.record.id,
                [("big", 0, 0.5), ("deep", 0, 0.6), ("big", 1, 0.5), ("deep", 1, 0.6)],
            ),
        },
    )
    estimates = run.validations()
    assert list(estimates) == [1, number]
    assert estimates[1].fitness.mean == pytest.approx(0.25)
    assert estimates[1].per_task == pytest.approx({"big": 0.2, "deep": 0.3})
    assert estimates[1].seeds == 2
    assert estimates[number].fitness.mean == pytest.approx(0.55)
    group = compare_runs([run], Unit.TRAININGS).groups[0]
    costs = [champion.cost.trainings for champion in run.champions()]
    assert group.validation(costs[1] - 1) is None
    assert (group.validation(costs[1]) or (None,))[0] == pytest.approx(0.25)
    assert (group.validation(costs[-1]) or (None,))[0] == pytest.approx(0.55)


def test_compare_prints_a_row_for_each_cost_and_group(run: Any, runs: list[Path]) -> None:
    document = json.loads(run("compare", *runs, "--json").out)
    assert document["unit"] == "weight updates"
    assert [group["name"] for group in document["groups"]] == ["full", "constants-1"]
    fitness = document["groups"][0]["fitness"]
    assert len(fitness) == len(document["costs"]) == 5
    result = run("compare", *runs, "--by", "trainings")
    assert result.status == 0
    lines = result.out.splitlines()
    assert sum("full" in line for line in lines[:12]) == 5
    shown = f"{fitness[-1]['mean']:+.3f} {fitness[-1]['low']:+.3f} {fitness[-1]['high']:+.3f}"
    assert shown in " ".join(result.out.split())
    assert "constants-1 differs from full in: mutation.insert = 0.0" in result.out
    single_run = document["groups"][1]["fitness"][-1]
    assert f"constants-1 {single_run['mean']:+.3f} - -" in " ".join(result.out.split())
    assert "Only one run each of: constants-1." in " ".join(result.out.split())
    assert "validation" not in result.out


def test_compare_draws_a_line_for_each_group(run: Any, runs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.svg"
    assert run("compare", *runs, "-o", path).status == 0
    text = path.read_text()
    assert "<svg" in text
    assert "full" in text
    assert "constants-1" in text
    assert "validation tasks" not in text
    again = tmp_path / "again.svg"
    assert json.loads(run("compare", *runs, "-o", again, "--json").out)["path"] == str(again)
    assert again.read_bytes() == path.read_bytes()
    refused = run("compare", *runs, "-o", tmp_path / "curves.txt")
    assert refused.status == 2
    assert "must be one of .svg, .png, .pdf" in refused.err


def test_compare_shows_validation_in_columns_and_a_panel(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    first = evolution.champions[1].record.id
    validated(tmp_path / "run", {1: (first, [("big", 0, 0.25), ("big", 1, 0.25)])})
    result = run("compare", tmp_path / "run", "-o", tmp_path / "curves.svg")
    assert "validation" in result.out
    assert "+0.250" in result.out
    assert "validation tasks" in (tmp_path / "curves.svg").read_text()
