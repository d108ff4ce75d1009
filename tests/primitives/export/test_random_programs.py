"""Tests that random programs are exported exactly, or are rejected for a known reason."""

from collections import Counter

import pytest
from hypothesis import given, settings

from primitives.export import ExportError, check, export
from tests.strategies import programs

REASONS = (
    "not exported: the program itself diverges",
    "not exported: the program amplifies rounding errors",
)
"""Beginnings of the allowed error messages; any other error is a bug in the export."""


def count_outcomes(target, program_count):
    """Return how many random programs are exported exactly, and how many rejected by reason."""
    counts = Counter()

    @settings(max_examples=program_count, database=None)
    @given(programs(min_statements=4, max_statements=12))
    def export_and_check(program):
        try:
            result = check(export(program, target, "found"), steps=20)
        except ExportError as error:
            message = str(error)
        else:
            assert result.largest_difference <= 1e-9
            message = "passed"
        outcomes = [outcome for outcome in ("passed", *REASONS) if message.startswith(outcome)]
        assert outcomes, f"{message}\n{program}"
        counts[outcomes[0]] += 1

    export_and_check()
    return counts


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("program_count", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_random_program_is_exported_exactly_or_rejected_for_a_known_reason(target, program_count):
    counts = count_outcomes(target, program_count)
    assert counts["passed"] >= program_count * 0.7, counts
    print(f"{target}: {dict(counts)}")  # shown by `pytest -s`
