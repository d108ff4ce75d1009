"""Ranking of programs from measurements; only the returned programs are parsed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.runs import run as module
from evosearch.runs.ranking import Candidate, pareto_front
from evosearch.runs.run import Run
from evosearch.statistics import Interval
from primitives import Program

EXAMPLE = Path(__file__).parents[2] / "runs" / "example"
LEVELS = st.integers(min_value=0, max_value=4)


def test_top_parses_only_the_programs_that_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    def parse(source: str) -> Program:
        parsed.append(source)
        return original(source)

    original = module.parse
    monkeypatch.setattr(module, "parse", parse)
    run = Run(EXAMPLE)
    assert len(run.top(7)) == len(parsed) == 7
    all_programs = run.top(None)
    assert all_programs[:7] == run.top(7)
    assert len(all_programs) > 100
    assert run.status().best in all_programs


@given(st.lists(st.tuples(LEVELS, LEVELS, LEVELS), max_size=30))
def test_the_pareto_front_has_the_programs_that_no_other_dominates(
    measures: list[tuple[int, int, int]],
) -> None:
    """Of programs that are equal in all three measures, the first is in the front."""
    programs = [
        Candidate(n, Interval(low, low, low), (), False, 1)
        for n, (low, _, _) in enumerate(measures)
    ]
    statements = {n: count for n, (_, count, _) in enumerate(measures)}
    front = pareto_front(programs, statements, lambda n: measures[n][2])

    def dominates(one: int, other: int) -> bool:
        (low, count, memory), (low_2, count_2, memory_2) = measures[one], measures[other]
        at_least = low >= low_2 and count <= count_2 and memory <= memory_2
        return at_least and (measures[one] != measures[other] or one < other)

    numbers = range(len(measures))
    expected = {n for n in numbers if not any(dominates(other, n) for other in numbers)}
    assert {program.id for program in front} == expected
