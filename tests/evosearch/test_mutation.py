"""Tests of mutation: children are valid, reproducible, and follow the mutation settings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.config import MutationConfig
from evosearch.errors import UsageError
from evosearch.evolution.mutation import mutate, with_states
from primitives import OPS, Program, analyse, ops, parse, zoo

DEFAULT_SETTINGS = MutationConfig()


def generator_of(*key: int) -> np.random.Generator:
    """Return the random generator with a key of two numbers."""
    return np.random.Generator(np.random.Philox(key=list(key)))


def descendants(
    count: int, rng: np.random.Generator, config: MutationConfig = DEFAULT_SETTINGS
) -> list[Program]:
    """Return a line of descendants of AdamW, each of which is a child of the previous program."""
    program = with_states(zoo.load("adamw_paper"), 2)
    programs = []
    for _ in range(count):
        program = mutate(program, rng, config).analysis.program
        programs.append(program)
    return programs


@given(st.integers(0, 2**32 - 1))
def test_every_child_is_valid_and_differs_from_its_parent(seed: int) -> None:
    rng = generator_of(seed, 1)
    parent = zoo.load("lion")
    for _ in range(20):
        child = mutate(parent, rng, DEFAULT_SETTINGS).analysis.program
        analyse(child)
        assert child != parent
        assert parse(str(child)) == child
        parent = child


def test_generators_with_the_same_key_give_the_same_children() -> None:
    assert descendants(50, generator_of(3, 4)) == descendants(50, generator_of(3, 4))
    assert descendants(50, generator_of(3, 4)) != descendants(50, generator_of(3, 5))


ZERO_WEIGHTS = {"insert": 0.0, "delete": 0.0, "modify": 0.0, "tune": 0.0, "wrap": 0.0}
"""Settings in which no kind of edit is ever chosen; a test sets one weight to 1."""
ONLY_TUNE = MutationConfig(**{**ZERO_WEIGHTS, "tune": 1.0})


def edit_of(mutation: str) -> str:
    """Return the kind of edit, which is the first word of a child's `mutation`."""
    return mutation.split(" ")[0]


@pytest.mark.parametrize("edit", ZERO_WEIGHTS)
def test_if_only_one_edit_has_a_weight_all_children_are_made_by_this_edit(edit: str) -> None:
    config = MutationConfig(**{**ZERO_WEIGHTS, edit: 1.0})
    parent = zoo.load("adam")
    children = [mutate(parent, generator_of(number, 0), config) for number in range(30)]
    assert {edit_of(child.mutation) for child in children} == {edit}


def test_inserting_adds_one_statement_deleting_removes_one_and_modifying_none() -> None:
    parent = zoo.load("adam")
    rng = generator_of(1, 2)
    expected_change = {"insert": 1, "delete": -1, "modify": 0}
    counts = Counter[str]()
    for _ in range(200):
        child = mutate(parent, rng, DEFAULT_SETTINGS)
        edit = edit_of(child.mutation)
        counts[edit] += 1
        change = len(child.analysis.program.statements) - len(parent.statements)
        assert change == expected_change[edit]
    assert min(counts.values()) >= 15


def test_wrapping_applies_an_op_to_the_result_or_to_an_operand_of_a_statement() -> None:
    """Wrapping inserts a live statement.

    If a result is wrapped, the new statement assigns to its own argument. If an operand is wrapped,
    the next statement uses the new variable, and is the only other statement that changes.
    """
    parent = zoo.load("lion")
    config = MutationConfig(**{**ZERO_WEIGHTS, "wrap": 1.0}, op_set="full")
    counts = Counter[str]()
    for number in range(200):
        child = mutate(parent, generator_of(number, 3), config).analysis
        statements = child.program.statements
        assert len(statements) == len(parent.statements) + 1
        first, *others = [
            index
            for index, statement in enumerate(statements)
            if statement not in parent.statements
        ]
        inserted = statements[first]
        assert first in child.live_statements
        if not others:
            counts["result"] += 1
            assert inserted.target in inserted.args
        else:
            counts["operand"] += 1
            assert others == [first + 1]
            changed = statements[first + 1]
            assert inserted.target in changed.args
            assert changed.op == parent.statements[first].op
    assert min(counts["result"], counts["operand"]) > 30


def constants_of(program: Program) -> list[float]:
    return [
        argument
        for statement in program.statements
        for argument in statement.args
        if isinstance(argument, float)
    ]


def ops_in_order(program: Program) -> list[str]:
    return [statement.op for statement in program.statements]


def test_tuning_changes_one_constant_and_nothing_else() -> None:
    """The constants are AdamW's two decays, its weight decay and its learning rate."""
    parent = zoo.load("adamw_paper")
    parent_constants = constants_of(parent)
    counts = Counter[int]()
    for number in range(400):
        child = mutate(parent, generator_of(number, 1), ONLY_TUNE).analysis.program
        (changed_index,) = [
            index
            for index, constant in enumerate(constants_of(child))
            if constant != parent_constants[index]
        ]
        counts[changed_index] += 1
        assert ops_in_order(child) == ops_in_order(parent)
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) >= 70  # the mean is 100, the standard deviation 8.7


def test_tuning_multiplies_a_constant_by_a_power_of_two_or_draws_a_new_constant() -> None:
    """The binary logarithm of the factor, and a new constant, are drawn from N(0, 1)."""
    parent = parse("def train(w, g, lr):\n    update = g * 1e-20\n    return update\n")
    children = [mutate(parent, generator_of(number, 2), ONLY_TUNE) for number in range(600)]
    constants = np.array([constants_of(child.analysis.program)[0] for child in children])
    is_scaled = np.abs(constants) < 1e-10
    assert 0.69 < is_scaled.mean() < 0.81  # `MutationConfig.rescale` is 0.75
    log_factors = np.log2(constants[is_scaled] / 1e-20)
    assert abs(log_factors.mean()) < 0.2
    assert 0.9 < log_factors.std() < 1.1
    new_constants = constants[~is_scaled]
    assert 0.8 < new_constants.std() < 1.2


def test_a_program_without_constants_cannot_be_tuned() -> None:
    parent = parse("def train(w, g, lr):\n    update = g * lr\n    return update\n")
    with pytest.raises(UsageError, match="tune needs a constant"):
        mutate(parent, generator_of(0, 0), ONLY_TUNE)


def test_programs_have_at_most_max_statements() -> None:
    config = MutationConfig(max_statements=12, delete=0.1)
    programs = descendants(300, generator_of(7, 7), config)
    assert max(len(program.statements) for program in programs) == 12


@pytest.mark.parametrize("op_set", ["paper", "full"])
def test_exactly_the_ops_of_the_op_set_are_inserted(op_set: str) -> None:
    config = MutationConfig(op_set=op_set, insert=1.0, delete=0.0, modify=0.0)
    parent = zoo.load("sgd")
    rng = generator_of(5, 5)
    inserted_ops = set()
    for _ in range(3000):
        child = mutate(parent, rng, config).analysis.program
        inserted = set(child.statements) - set(parent.statements)
        inserted_ops |= {statement.op for statement in inserted}
    assert inserted_ops == set(ops.names(op_set))
    assert inserted_ops <= set(OPS)


def test_rejected_children_are_counted_by_kind_of_edit() -> None:
    rejects = Counter[str]()
    rng = generator_of(11, 0)
    for _ in range(300):
        rejects += mutate(zoo.load("adamw_paper"), rng, DEFAULT_SETTINGS).rejects
    assert rejects["delete"] > 0
    assert rejects["insert"] > 0


def test_settings_that_allow_no_mutation_of_a_program_are_an_error() -> None:
    config = MutationConfig(insert=0.0, modify=0.0, delete=1.0)
    with pytest.raises(UsageError, match=r"no mutation.*\[mutation\]"):
        mutate(zoo.load("sgd"), generator_of(0, 0), config)


def test_with_states_adds_unused_states_to_a_program_that_has_fewer() -> None:
    sgd = zoo.load("sgd")
    sgd_with_states = with_states(sgd, 2)
    assert [state.name for state in sgd_with_states.states] == ["m", "v"]
    assert analyse(sgd_with_states).key == analyse(sgd).key
    assert with_states(sgd_with_states, 2) == sgd_with_states


@pytest.mark.parametrize("name", ["adamw_paper", "lion", "adam"])
def test_with_keep_schedule_only_constants_of_the_schedule_change(name: str) -> None:
    """The schedule begins with the first statement that uses the learning rate `lr`."""
    config = MutationConfig(keep_schedule=True, tune=1.0)
    rng = generator_of(5, 6)
    program = with_states(zoo.load(name), 2)
    uses_lr = ["lr" in statement.args for statement in program.statements]
    schedule_length = len(program.statements) - uses_lr.index(True)
    original_schedule = program.statements[-schedule_length:]
    lengths, first_statements = set(), set()
    for _ in range(300):
        program = mutate(program, rng, config).analysis.program
        schedule = program.statements[-schedule_length:]
        for statement, original in zip(schedule, original_schedule, strict=True):
            assert (statement.target, statement.op) == (original.target, original.op)
        for statement in program.statements[:-schedule_length]:
            assert "lr" not in (statement.target, *statement.args)
        lengths.add(len(program.statements))
        first_statements.add(str(schedule[0]))
    assert len(lengths) > 5
    assert len(first_statements) > 3
