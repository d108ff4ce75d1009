"""Tests of the ranking of programs and of the Pareto front."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.runs import run as run_module
from evosearch.runs.ranking import Candidate, pareto_front
from evosearch.runs.run import Run
from evosearch.statistics import Interval
from primitives import Program

EXAMPLE_RUN = Path(__file__).parents[2] / "runs" / "example"
VALUES = st.integers(min_value=0, max_value=4)


def test_top_parses_only_the_programs_that_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed_sources = []
    original_parse = run_module.parse

    def record_and_parse(source: str) -> Program:
        parsed_sources.append(source)
        return original_parse(source)

    monkeypatch.setattr(run_module, "parse", record_and_parse)
    run = Run(EXAMPLE_RUN)
    assert len(run.top(7)) == 7
    assert len(parsed_sources) == 7
    all_programs = run.top(None)
    assert all_programs[:7] == run.top(7)
    assert len(all_programs) > 100
    assert run.status().best in all_programs


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=30))
def test_the_pareto_front_has_the_programs_that_no_other_dominates(
    criteria: list[tuple[int, int, int]],
) -> None:
    """Criteria are fitness, number of statements and memory.

    Of programs that are equal in all three criteria, the first is in the front.
    """
    candidates = [
        Candidate(index, Interval(fitness, fitness, fitness), (), False, 1)
        for index, (fitness, _, _) in enumerate(criteria)
    ]
    statements = {index: count for index, (_, count, _) in enumerate(criteria)}
    front = pareto_front(candidates, statements, lambda index: criteria[index][2])

    def dominates(first: int, second: int) -> bool:
        fitness_1, statements_1, memory_1 = criteria[first]
        fitness_2, statements_2, memory_2 = criteria[second]
        is_at_least_as_good = (
            fitness_1 >= fitness_2 and statements_1 <= statements_2 and memory_1 <= memory_2
        )
        return is_at_least_as_good and (criteria[first] != criteria[second] or first < second)

    indices = range(len(criteria))
    not_dominated = {
        index for index in indices if not any(dominates(other, index) for other in indices)
    }
    assert {candidate.id for candidate in front} == not_dominated
