"""The candidates of the funnel, from stored searches without training."""

from __future__ import annotations

import pytest

from evosearch.evaluation.funnel import candidates
from evosearch.runs.run import Run
from primitives import Program, simplify
from tests.evosearch.stored_runs import make_stored_run

TUNING = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two searches that only tune the constants of the same initial program."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        make_stored_run(root / f"constants-{seed}", programs=50, seed=seed, mutation=TUNING)
    return [Run(root / f"constants-{seed}") for seed in (1, 2)]


def ops_of(run: Run, programs: dict[str, Program]) -> list[tuple[str, ...]]:
    """Return the ops of the simplified programs that are from `run`."""
    return [
        tuple(statement.op for statement in simplify(program).program.statements)
        for name, program in programs.items()
        if name.startswith(f"{run.directory}#")
    ]


def test_the_best_program_of_each_run_is_a_candidate(runs: list[Run]) -> None:
    """The best programs of the two runs differ only in constants."""
    best = [next(p.id for p in run.top(None) if p.seeds > 1) for run in runs]
    chosen = candidates(runs, 2)
    assert list(chosen) == [
        f"{run.directory}#{number}" for run, number in zip(runs, best, strict=True)
    ]
    assert ops_of(runs[0], chosen) == ops_of(runs[1], chosen)


def test_distinct_rules_are_chosen_before_variants_in_constants(runs: list[Run]) -> None:
    """Programs that differ only in constants are one rule; extra programs fill remaining places."""
    all_programs = candidates(runs, 60)
    rules = [rule for run in runs for rule in ops_of(run, all_programs)]
    count = sum(len(set(ops_of(run, all_programs))) for run in runs)
    assert count < 10 < len(rules)
    chosen = candidates(runs, count)
    for run in runs:
        chosen_ops = ops_of(run, chosen)
        assert len(chosen_ops) == len(set(chosen_ops))
        assert set(chosen_ops) == set(ops_of(run, all_programs))
    assert list(candidates(runs, 10))[:count] == list(chosen)
    assert len(candidates(runs, 10)) == 10
