"""Tests of audits: fitness on fresh seeds from real trainings, reported fitness made up."""

from __future__ import annotations

import json
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

HALF_AS_FAST = parse(str(zoo.load(BASELINE)).replace("0.001\n", "0.0005\n"))


def champions(
    directory: Path, programs: Sequence[tuple[Program, float]], rate: float = 1.0, task: str = TASK
) -> Run:
    """Make a run with champions `programs`, each with a given score on its confirming seeds."""
    make_run_directory(directory, small_config(tasks=[task]), {})
    store = Store.open(directory, "search")
    store.add_tuning(task, 3010, Tuner(losses={rate: 0.0}))
    first = Record(0, zoo.load(BASELINE), "initial")
    store.add_births([Birth(0, 0, None, "initial", analyse(first.program))])
    store.add_champion(0, Champion(first))
    for n, (program, score) in enumerate(programs, 1):
        analysis = analyse(program)
        record = Record(n, analysis.program, analysis.key)
        store.add_births([Birth(n, n, 0, "modify", analysis)])
        seeds = tuple(Seed(Stream.CONFIRM, 3 * n + k) for k in range(3))
        for seed in seeds:
            measurement = Measurement(
                1.0, 2.718281828459045**score, 200, "cosine", Engine.INTERPRETER
            )
            store.add_measurements(Request(n, "confirm", record, seed), {task: measurement})
        store.add_champion(n, Champion(record, None, seeds))
    number = len(programs)
    counts = {"measurements": 3 * number, "programs": number + 1, "champions": number + 1}
    store.write(PROGRESS, [EMPTY_PROGRESS._replace(**counts)])
    store.close()
    return Run(directory)


def test_the_fitness_of_the_baseline_on_fresh_seeds_is_zero_for_any_reported_fitness(
    tmp_path: Path,
) -> None:
    """The baseline with half its learning rate has a fitness below -0.1."""
    run = champions(tmp_path / "run", [(zoo.load(BASELINE), 0.2), (HALF_AS_FAST, 0.3)])
    before = (run.directory / "run.db").read_bytes()
    progress: list[tuple[int, int]] = []
    result = audit(
        [run], seeds=4, progress=lambda text, done, total: progress.append((done, total))
    )
    baseline, slower = result.champions
    assert (baseline.id, slower.id) == (1, 2)
    assert baseline.fresh.mean == 0.0
    assert baseline.reported.mean == pytest.approx(0.2)
    assert baseline.difference == pytest.approx(0.2)
    assert slower.fresh.mean < -0.1
    assert slower.per_task[TASK] == pytest.approx(slower.fresh.mean)
    assert result.mean_difference == pytest.approx((0.2 + slower.difference) / 2)
    assert progress[-1] == (16, 16)
    assert (run.directory / "run.db").read_bytes() == before


def test_a_repeated_audit_gives_the_same_fitness_and_other_seeds_a_different_one(
    tmp_path: Path,
) -> None:
    """Each champion is measured on different seeds, so that the differences are independent."""
    programs = [(HALF_AS_FAST, 0.0)]
    first = audit([champions(tmp_path / "one", programs)], seeds=4, workers=1).champions[0]
    second = audit([champions(tmp_path / "two", programs)], seeds=4, workers=2).champions[0]
    assert first.fresh == second.fresh
    two_champions = [(zoo.load(BASELINE), 0.0), *programs]
    other = audit([champions(tmp_path / "other", two_champions)], seeds=4).champions[1]
    assert other.fresh != first.fresh


def test_a_run_without_a_confirmed_champion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no champion to audit"):
        audit([champions(tmp_path / "run", [])])


def audit_with(*differences: float) -> Audit:
    fresh = Interval(0.1, 0.05, 0.15)
    audited = [
        AuditedChampion("run", n, Interval(0.1 + d, 0.0 + d, 0.2 + d), fresh, {TASK: 0.1})
        for n, d in enumerate(differences)
    ]
    return Audit(tuple(audited), 64)


@pytest.mark.parametrize(
    ("differences", "contains_zero", "conclusion"),
    [
        ((0.02, -0.01, 0.02), True, "which contains zero: no bias is shown"),
        ((0.02, 0.01, 0.02), False, "above zero: reported fitness is too high"),
        ((-0.02, -0.01, -0.02), False, "below zero: reported fitness is too low"),
        ((0.02, 0.01), True, "no bias is shown"),  # three standard errors, but only two champions
        ((0.0, 0.0), True, "no bias is shown"),
        ((0.02,), None, "one champion cannot distinguish a bias from chance"),
    ],
)
def test_the_verdict_follows_from_the_interval(
    differences: tuple[float, ...], contains_zero: bool | None, conclusion: str
) -> None:
    result = audit_with(*differences)
    assert result.interval_contains_zero is contains_zero
    assert conclusion in describe_bias(result.mean_difference, result.bias_interval)
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["agrees"] is contains_zero
    if result.bias_interval is not None:
        assert document["mean_low"] <= document["mean_difference"] <= document["mean_high"]


def test_the_standard_error_is_that_of_the_mean_difference() -> None:
    result = audit_with(0.01, 0.02, 0.03)
    assert result.mean_difference == pytest.approx(0.02)
    assert result.standard_error == pytest.approx(0.01 / 3**0.5)
    assert result.champions[0].half_width == pytest.approx(0.1)


def test_the_command_prints_every_champion_and_the_verdict(run: Any, tmp_path: Path) -> None:
    directory = champions(tmp_path / "run", [(HALF_AS_FAST, 0.3)]).directory
    result = run("audit", directory, "--seeds", "2", "--json")
    document = json.loads(result.out)
    assert document["seeds"] == 2
    assert document["champions"][0]["reported"]["mean"] == pytest.approx(0.3)
    assert document["standard_error"] is None
    assert "one champion cannot distinguish a bias" in " ".join(
        run("audit", directory, "--seeds", "2").out.split()
    )
