"""Random programs are exported exactly, or are rejected for a known reason."""

from collections import Counter

import pytest
from hypothesis import given, settings

from primitives.export import ExportError, check, export
from tests.strategies import programs

REASONS = (
    "not exported: the program itself diverges",
    "not exported: the program amplifies rounding errors",
)
"""Beginnings of the error messages that are allowed; any other error is a bug in the export."""


def outcomes(target, count):
    """Count how many of `count` random programs pass the check or are rejected, by reason."""
    counts = Counter()

    @settings(max_examples=count, database=None)
    @given(programs(min_statements=4, max_statements=12))
    def export_and_check(program):
        try:
            result = check(export(program, target, "found"), steps=20)
        except ExportError as error:
            message = str(error)
        else:
            assert result.largest_difference <= 1e-9
            message = "passed"
        outcome = next((o for o in ("passed", *REASONS) if message.startswith(o)), None)
        assert outcome, f"{message}\n{program}"
        counts[outcome] += 1

    export_and_check()
    return counts


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_random_program_is_exported_exactly_or_rejected_for_a_known_reason(target, count):
    counts = outcomes(target, count)
    assert counts["passed"] >= count * 0.7, counts
    print(f"{target}: {dict(counts)}")  # shown by `pytest -s`
