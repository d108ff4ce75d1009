"""Tests of `evosearch audit`, which compares reported fitness with fitness on fresh seeds.

The tests invent the reported fitness and measure the fitness on fresh seeds by real trainings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evosearch.errors import UsageError
from evosearch.evaluation.audit import Audit, AuditedChampion, audit
from evosearch.evolution.evolution import Birth, Request
from evosearch.evolution.records import Champion, Record
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.scorer import BASELINE
from evosearch.measuring.tuning import Tuner
from evosearch.runs.directory import make_run_directory
from evosearch.runs.rows import EMPTY_PROGRESS, PROGRESS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.seeds import Seed, Stream
from evosearch.statistics import Interval
from evosearch.verdicts import describe_bias
from primitives import Program, analyse, parse, zoo
from tests.evosearch.test_search import TASK, small_config

HALF_LEARNING_RATE = parse(str(zoo.load(BASELINE)).replace("0.001\n", "0.0005\n"))
"""The baseline with half its learning rate."""
CONFIRM_SEEDS = 3
"""Number of confirming seeds of each champion."""


def make_run_with_champions(
    directory: Path, champions: Sequence[tuple[Program, float]], task: str = TASK
) -> Run:
    """Make a run whose initial program is the baseline.

    Args:
        directory: Path of the new run.
        champions: Later champions and their scores on every confirming seed.
        task: The run's only task.
    """
    make_run_directory(directory, small_config(tasks=[task]), {})
    store = Store.open(directory, "search")
    store.add_tuning(task, 3010, Tuner(losses={1.0: 0.0}))
    initial = Record(0, zoo.load(BASELINE), "initial")
    store.add_births([Birth(0, 0, None, "initial", analyse(initial.program))])
    store.add_champion(0, Champion(initial))
    for number, (program, score) in enumerate(champions, 1):
        analysis = analyse(program)
        record = Record(number, analysis.program, analysis.key)
        store.add_births([Birth(number, number, 0, "modify", analysis)])
        first_seed = CONFIRM_SEEDS * number
        seed_numbers = range(first_seed, first_seed + CONFIRM_SEEDS)
        seeds = tuple(Seed(Stream.CONFIRM, seed_number) for seed_number in seed_numbers)
        for seed in seeds:
            measurement = Measurement(1.0, math.exp(score), 200, "cosine", Engine.INTERPRETER)
            request = Request(number, "confirm", record, seed)
            store.add_measurements([(request, {task: measurement})])
        store.add_champion(number, Champion(record, None, seeds))
    counts = {
        "measurements": CONFIRM_SEEDS * len(champions),
        "programs": 1 + len(champions),
        "champions": 1 + len(champions),
    }
    store.write(PROGRESS, [EMPTY_PROGRESS._replace(**counts)])
    store.close()
    return Run(directory)


def test_the_fitness_of_the_baseline_on_fresh_seeds_is_zero_for_any_reported_fitness(
    tmp_path: Path,
) -> None:
    """The baseline with half its learning rate has a fitness below -0.1 on fresh seeds."""
    run = make_run_with_champions(
        tmp_path / "run", [(zoo.load(BASELINE), 0.2), (HALF_LEARNING_RATE, 0.3)]
    )
    database_before = (run.directory / "run.db").read_bytes()
    progress: list[tuple[int, int]] = []
    result = audit(
        [run], seeds=4, progress=lambda text, done, total: progress.append((done, total))
    )
    baseline, half_learning_rate = result.champions
    assert (baseline.id, half_learning_rate.id) == (1, 2)
    assert baseline.fresh.mean == 0.0
    assert baseline.reported.mean == pytest.approx(0.2)
    assert baseline.difference == pytest.approx(0.2)
    assert half_learning_rate.fresh.mean < -0.1
    assert half_learning_rate.per_task[TASK] == pytest.approx(half_learning_rate.fresh.mean)
    assert result.mean_difference == pytest.approx((0.2 + half_learning_rate.difference) / 2)
    # On four seeds, two champions and the baseline for each are trained.
    trainings = 4 * 2 * 2
    assert progress[-1] == (trainings, trainings)
    assert (run.directory / "run.db").read_bytes() == database_before


def test_a_repeated_audit_gives_the_same_fitness(tmp_path: Path) -> None:
    champions = [(HALF_LEARNING_RATE, 0.0)]
    first_run = make_run_with_champions(tmp_path / "first", champions)
    second_run = make_run_with_champions(tmp_path / "second", champions)
    (first,) = audit([first_run], seeds=4, workers=1).champions
    (second,) = audit([second_run], seeds=4, workers=2).champions
    assert first.fresh == second.fresh


def test_each_champion_is_audited_on_different_seeds(tmp_path: Path) -> None:
    """The differences of champions are then independent."""
    run = make_run_with_champions(
        tmp_path / "run", [(HALF_LEARNING_RATE, 0.0), (HALF_LEARNING_RATE, 0.0)]
    )
    first, second = audit([run], seeds=4).champions
    assert first.fresh != second.fresh


def test_a_run_without_a_confirmed_champion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no champion to audit"):
        audit([make_run_with_champions(tmp_path / "run", [])])


def audit_with_differences(*differences: float) -> Audit:
    """Return an audit with given differences of reported fitness and fitness on fresh seeds."""
    fresh = Interval(0.1, 0.05, 0.15)
    champions = [
        AuditedChampion(
            "run",
            number,
            reported=Interval(0.1 + difference, 0.0 + difference, 0.2 + difference),
            fresh=fresh,
            per_task={TASK: 0.1},
        )
        for number, difference in enumerate(differences)
    ]
    return Audit(tuple(champions), 64)


@pytest.mark.parametrize(
    ("differences", "contains_zero", "conclusion"),
    [
        ((0.02, -0.01, 0.02), True, "which contains zero: no bias is shown"),
        ((0.02, 0.01, 0.02), False, "above zero: reported fitness is too high"),
        ((-0.02, -0.01, -0.02), False, "below zero: reported fitness is too low"),
        # The mean is three standard errors above zero, but of two champions only.
        ((0.02, 0.01), True, "no bias is shown"),
        ((0.0, 0.0), True, "no bias is shown"),
        ((0.02,), None, "one champion cannot distinguish a bias from chance"),
    ],
)
def test_a_bias_is_shown_if_the_interval_of_the_mean_difference_excludes_zero(
    differences: tuple[float, ...], contains_zero: bool | None, conclusion: str
) -> None:
    result = audit_with_differences(*differences)
    assert result.interval_contains_zero is contains_zero
    assert conclusion in describe_bias(result.mean_difference, result.bias_interval)
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["agrees"] is contains_zero
    if result.bias_interval is not None:
        assert document["mean_low"] <= document["mean_difference"] <= document["mean_high"]


def test_the_standard_error_of_the_mean_difference_is_computed_over_champions() -> None:
    result = audit_with_differences(0.01, 0.02, 0.03)
    assert result.mean_difference == pytest.approx(0.02)
    standard_deviation, champions = 0.01, 3
    assert result.standard_error == pytest.approx(standard_deviation / math.sqrt(champions))
    assert result.champions[0].half_width == pytest.approx(0.1)


def test_the_command_prints_every_champion_and_the_verdict(run: Any, tmp_path: Path) -> None:
    directory = make_run_with_champions(tmp_path / "run", [(HALF_LEARNING_RATE, 0.3)]).directory
    document = json.loads(run("audit", directory, "--seeds", "2", "--json").out)
    assert document["seeds"] == 2
    assert document["champions"][0]["reported"]["mean"] == pytest.approx(0.3)
    assert document["standard_error"] is None
    text = " ".join(run("audit", directory, "--seeds", "2").out.split())
    assert "one champion cannot distinguish a bias" in text
