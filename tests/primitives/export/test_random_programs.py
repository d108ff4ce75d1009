"""Random programs are exported and are what they were, or are refused for a known reason."""

from collections import Counter

import pytest
from hypothesis import given, settings

from primitives.export import ExportError, check, export
from tests.strategies import programs

REASONS = (
    "not exported, since the program diverges by itself",
    "not exported, since rounding decides what the program computes",
)
"""How the message of a refusal may begin; anything else is a defect of the export."""


def outcomes(target, count):
    """How many of `count` random programs pass the check, and how many are refused, by reason."""
    found = Counter()

    @settings(max_examples=count, database=None)
    @given(programs(min_statements=4, max_statements=12))
    def tried(program):
        try:
            report = check(export(program, target, "found"), steps=20)
        except ExportError as error:
            outcome = str(error)
        else:
            assert report.largest_difference <= 1e-9
            outcome = "passed"
        reason = next((known for known in ("passed", *REASONS) if outcome.startswith(known)), None)
        assert reason, f"{outcome}\n{program}"
        found[reason] += 1

    tried()
    return found


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_random_program_is_exported_exactly_or_refused_for_a_known_reason(target, count):
    found = outcomes(target, count)
    assert found["passed"] >= count * 0.7, found
    print(f"{target}: {dict(found)}")  # shown by `pytest -s`
