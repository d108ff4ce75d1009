"""Tests of the choice of a funnel's entrants, from stored runs without training."""

from __future__ import annotations

import pytest

from evosearch.evaluation.funnel import candidates
from evosearch.runs.run import Run
from primitives import Program, simplify
from tests.evosearch.stored_runs import make_stored_run

ONLY_TUNE = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs that only tune the constants of the same initial program."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        make_stored_run(root / f"constants-{seed}", programs=50, seed=seed, mutation=ONLY_TUNE)
    return [Run(root / f"constants-{seed}") for seed in (1, 2)]


def ops_of(run: Run, programs: dict[str, Program]) -> list[tuple[str, ...]]:
    """Return the ops of the simplified programs from one run, without those of other runs."""
    return [
        tuple(statement.op for statement in simplify(program).program.statements)
        for name, program in programs.items()
        if name.startswith(f"{run.directory}#")
    ]


def test_the_best_program_of_each_run_is_chosen(runs: list[Run]) -> None:
    """The best programs of the two runs have the same ops, but both are chosen."""
    chosen = candidates(runs, 2)
    best_names = []
    for run in runs:
        best = next(program for program in run.top(None) if program.seeds > 1)
        best_names.append(f"{run.directory}#{best.id}")
    assert list(chosen) == best_names
    assert ops_of(runs[0], chosen) == ops_of(runs[1], chosen)


def test_programs_with_different_ops_are_chosen_before_programs_that_differ_in_constants(
    runs: list[Run],
) -> None:
    all_programs = candidates(runs, 60)
    assert len(all_programs) > 10
    distinct_count = sum(len(set(ops_of(run, all_programs))) for run in runs)
    assert distinct_count < 10
    chosen = candidates(runs, distinct_count)
    for run in runs:
        chosen_ops = ops_of(run, chosen)
        assert len(chosen_ops) == len(set(chosen_ops))
        assert set(chosen_ops) == set(ops_of(run, all_programs))
    ten_chosen = candidates(runs, 10)
    assert list(ten_chosen)[:distinct_count] == list(chosen)
    assert len(ten_chosen) == 10
