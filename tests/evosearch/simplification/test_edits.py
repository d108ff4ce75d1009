"""Tests of the edits that simplification tries, and of the roundings of constants."""

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
def test_edits_make_a_program_shorter_and_give_distinct_programs(program) -> None:
    program = simplify(program).program
    edits_of_program = edits(program)
    keys = [semantic_key(edit.program) for edit in edits_of_program]
    assert len(set(keys)) == len(keys)
    assert semantic_key(program) not in keys
    for edit in edits_of_program:
        assert size_of(edit.program) < size_of(program)
        assert simplify(edit.program).program == edit.program


def size_of(program) -> int:
    """Return the number of statements and states of a program."""
    return len(program.statements) + len(program.states)


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adamw", "lion"])
def test_every_statement_of_a_program_of_the_zoo_has_edits(name: str) -> None:
    program = simplify(zoo.load(name)).program
    edits_of_statements = edits_by_statement(program)
    assert list(edits_of_statements) == list(range(len(program.statements)))
    for index, edits_of_statement in edits_of_statements.items():
        assert edits_of_statement
        assert {edit.changes[0][0] for edit in edits_of_statement} == {index}


def test_weight_decay_and_learning_rate_can_be_removed_but_not_replaced_by_one() -> None:
    """The constants of Lion's weight decay and learning rate are 0.1 and 0.0001."""
    lion = simplify(zoo.load("lion")).program
    for edit in edits(lion):
        for index, replacement in edit.changes:
            statement = lion.statements[index]
            if 0.1 in statement.args or 0.0001 in statement.args:
                assert replacement == 0.0


def test_an_edit_of_two_statements_removes_at_least_two_statements_or_states() -> None:
    lion = simplify(zoo.load("lion")).program
    edits_of_pairs = pair_edits(lion)
    assert edits_of_pairs
    for edit in edits_of_pairs:
        assert len(edit.changes) == 2
        assert size_of(edit.program) <= size_of(lion) - 2
        assert " and " in edit.describe(lion)


def test_no_edit_gives_a_program_that_does_not_read_the_gradient() -> None:
    program = parse("def train(w, g, lr):\n  a = sign(g)\n  u = a * lr\n  return u")
    for edit in edits(program):
        statements = live(edit.program).statements
        arguments = {argument for statement in statements for argument in statement.args}
        assert "g" in arguments or edit.program.update == "g"


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
def test_roundings_have_an_increasing_number_of_digits(value: float, rounded: list[float]) -> None:
    assert list(roundings(value)) == list(dict.fromkeys(rounded))


def test_with_constants_replaces_only_the_given_constants() -> None:
    lion = zoo.load("lion")
    constants_of_lion = constants(lion)
    assert sorted(constants_of_lion.values()) == [0.0001, 0.1, 0.9, 0.99]
    first_position = next(iter(constants_of_lion))
    changed = with_constants(lion, {first_position: 0.8})
    assert str(changed) == str(lion).replace("0.9)", "0.8)", 1)
    assert all(np.isfinite(list(constants(changed).values())))
