"""Which programs enter the funnel; on stored searches without training."""

from __future__ import annotations

import pytest

from evosearch.findings.funnel import candidates
from evosearch.searching.run import Run
from primitives import Program, simplify
from tests.evosearch.laboratory import stored

TUNING = {"insert": 0, "delete": 0, "modify": 0, "tune": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two searches that tune the constants of the program that both start from."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        stored(root / f"constants-{seed}", programs=120, seed=seed, mutation=TUNING)
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
    best = [next(one["id"] for one in run.top(None) if one["seeds"] > 1) for run in runs]
    found = candidates(runs, 2)
    assert list(found) == [
        f"{run.directory}#{number}" for run, number in zip(runs, best, strict=True)
    ]
    assert of(runs[0], found) == of(runs[1], found)


def test_a_run_enters_each_rule_once_whatever_its_constants(runs: list[Run]) -> None:
    found = candidates(runs, 10)
    assert len(found) < 10
    for run in runs:
        rules = of(run, found)
        assert len(rules) == len(set(rules))
