"""Edits are shorter, differ, and never turn a hyperparameter into a mechanism's end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from evosearch.evolution.constants import constants, with_constants
from evosearch.simplification.constants import roundings
from evosearch.simplification.edits import edits, edits_by_statement, pairs
from primitives import live, parse, semantic_key, simplify, zoo
from tests.strategies import programs


@settings(max_examples=25)
@given(programs(min_statements=3, max_statements=8))
def test_edits_are_shorter_and_differ(program) -> None:
    program = simplify(program).program
    found = edits(program)
    keys = [semantic_key(one.program) for one in found]
    assert len(set(keys)) == len(keys)
    assert semantic_key(program) not in keys
    for edit in found:
        sizes = [len(one.statements) + len(one.states) for one in (edit.program, program)]
        assert sizes[0] < sizes[1]
        assert simplify(edit.program).program == edit.program


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adamw", "lion"])
def test_every_statement_of_a_known_optimizer_can_be_dropped_in_some_way(name: str) -> None:
    """Though without the decay, and without the sum that it goes into, is the same program."""
    program = simplify(zoo.load(name)).program
    found = edits_by_statement(program)
    assert list(found) == list(range(len(program.statements)))
    for index, candidates in found.items():
        assert candidates
        assert {edit.changes[0][0] for edit in candidates} == {index}


def test_weight_decay_and_learning_rate_do_not_become_one() -> None:
    """They may go altogether; how strong they are is a matter of constants."""
    lion = simplify(zoo.load("lion")).program
    for edit in edits(lion):
        for index, instead in edit.changes:
            statement = lion.statements[index]
            if 0.1 in statement.args or 0.0001 in statement.args:
                assert instead == 0.0


def test_pairs_save_more_than_one_edit() -> None:
    lion = simplify(zoo.load("lion")).program
    size = len(lion.statements) + len(lion.states)
    found = pairs(lion)
    assert found
    for edit in found:
        assert len(edit.changes) == 2
        assert len(edit.program.statements) + len(edit.program.states) <= size - 2
        assert " and " in edit.described(lion)


def test_what_no_longer_reads_the_gradient_is_no_candidate() -> None:
    program = parse("def train(w, g, lr):\n  a = sign(g)\n  u = a * lr\n  return u")
    for edit in edits(program):
        read = {arg for one in live(edit.program).statements for arg in one.args}
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
def test_constants_are_rounded_from_few_digits_up(value: float, rounded: list[float]) -> None:
    assert list(roundings(value)) == list(dict.fromkeys(rounded))


def test_constants_are_replaced_where_they_stand() -> None:
    lion = zoo.load("lion")
    places = constants(lion)
    assert sorted(places.values()) == [0.0001, 0.1, 0.9, 0.99]
    changed = with_constants(lion, {next(iter(places)): 0.8})
    assert str(changed) == str(lion).replace("0.9)", "0.8)", 1)
    assert all(np.isfinite(list(constants(changed).values())))
