"""Edits of statements and roundings of constants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from evosearch.evolution.constants import constants, with_constants
from evosearch.simplification.constants import roundings
from evosearch.simplification.edits import edits, edits_by_statement, pair_edits
from primitives import live, parse, semantic_key, simplify, zoo
from tests.strategies import programs


@settings(max_examples=25)
@given(programs(min_statements=3, max_statements=8))
def test_edits_are_shorter_and_have_distinct_keys(program) -> None:
    program = simplify(program).program
    candidates = edits(program)
    keys = [semantic_key(edit.program) for edit in candidates]
    assert len(set(keys)) == len(keys)
    assert semantic_key(program) not in keys
    for edit in candidates:
        after, before = (len(p.statements) + len(p.states) for p in (edit.program, program))
        assert after < before
        assert simplify(edit.program).program == edit.program


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adamw", "lion"])
def test_every_statement_of_a_known_optimizer_has_edits(name: str) -> None:
    """Removing weight decay and removing the sum that it enters may give the same program."""
    program = simplify(zoo.load(name)).program
    by_statement = edits_by_statement(program)
    assert list(by_statement) == list(range(len(program.statements)))
    for index, candidates in by_statement.items():
        assert candidates
        assert {edit.changes[0][0] for edit in candidates} == {index}


def test_weight_decay_and_learning_rate_are_not_replaced_by_one() -> None:
    """Both may be removed, but their strength is a matter of constants."""
    lion = simplify(zoo.load("lion")).program
    for edit in edits(lion):
        for index, replacement in edit.changes:
            statement = lion.statements[index]
            if 0.1 in statement.args or 0.0001 in statement.args:
                assert replacement == 0.0


def test_pairs_save_at_least_two_statements_or_states() -> None:
    lion = simplify(zoo.load("lion")).program
    size = len(lion.statements) + len(lion.states)
    candidates = pair_edits(lion)
    assert candidates
    for edit in candidates:
        assert len(edit.changes) == 2
        assert len(edit.program.statements) + len(edit.program.states) <= size - 2
        assert " and " in edit.describe(lion)


def test_edits_that_ignore_the_gradient_are_left_out() -> None:
    program = parse("def train(w, g, lr):\n  a = sign(g)\n  u = a * lr\n  return u")
    for edit in edits(program):
        read = {arg for statement in live(edit.program).statements for arg in statement.args}
        assert "g" in read or edit.program.update == "g"


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.9982197, [1.0, 0.998, 0.9982, 0.99822]),
        (0.46019784, [0.5, 0.46, 0.4602, 0.4602, 0.460198]),
        (0.1, []),
        (0.99, [1.0]),
        (-0.00021717617, [-0.0002, -0.00022, -0.000217, -0.0002172, -0.00021718, -0.000217176]),
    ],
)
def test_roundings_go_from_few_digits_to_many(value: float, rounded: list[float]) -> None:
    assert list(roundings(value)) == list(dict.fromkeys(rounded))


def test_constants_are_replaced_in_place() -> None:
    lion = zoo.load("lion")
    values = constants(lion)
    assert sorted(values.values()) == [0.0001, 0.1, 0.9, 0.99]
    changed = with_constants(lion, {next(iter(values)): 0.8})
    assert str(changed) == str(lion).replace("0.9)", "0.8)", 1)
    assert all(np.isfinite(list(constants(changed).values())))
