"""Which programs enter the funnel; on stored searches without training."""

from __future__ import annotations

import pytest

from evosearch.evaluation.funnel import candidates
from evosearch.runs.run import Run
from primitives import Program, simplify
from tests.evosearch.stored_runs import stored

TUNING = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two searches that tune the constants of the program that both start from."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        stored(root / f"constants-{seed}", programs=50, seed=seed, mutation=TUNING)
    return [Run(root / f"constants-{seed}") for seed in (1, 2)]


def of(run: Run, found: dict[str, Program]) -> list[tuple[str, ...]]:
    """The ops of those of `run`, simplified."""
    return [
        tuple(statement.op for statement in simplify(program).program.statements)
        for name, program in found.items()
        if name.startswith(f"{run.directory}#")
    ]


def test_every_run_has_its_best_among_the_entrants(runs: list[Run]) -> None:
    """Though both are one rule with other constants."""
    best = [next(one.id for one in run.top(None) if one.seeds > 1) for run in runs]
    found = candidates(runs, 2)
    assert list(found) == [
        f"{run.directory}#{number}" for run, number in zip(runs, best, strict=True)
    ]
    assert of(runs[0], found) == of(runs[1], found)


def test_rules_enter_before_other_constants_of_theirs(runs: list[Run]) -> None:
    """Each run's every rule once, then what is next best until the places are filled."""
    every = candidates(runs, 60)
    rules = [rule for run in runs for rule in of(run, every)]
    count = sum(len(set(of(run, every))) for run in runs)
    assert count < 10 < len(rules)
    found = candidates(runs, count)
    for run in runs:
        entered = of(run, found)
        assert len(entered) == len(set(entered))
        assert set(entered) == set(of(run, every))
    assert list(candidates(runs, 10))[:count] == list(found)
    assert len(candidates(runs, 10)) == 10
