"""Children are valid, differ from their parents, are reproducible, and follow the configuration."""

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

DEFAULT = MutationConfig()


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=list(key)))


def drift(steps: int, rng: np.random.Generator, config: MutationConfig = DEFAULT) -> list[Program]:
    program = with_states(zoo.load("adamw_paper"), 2)
    programs = []
    for _ in range(steps):
        program = mutate(program, rng, config).analysis.program
        programs.append(program)
    return programs


@given(st.integers(0, 2**32 - 1))
def test_every_child_is_valid_and_differs_from_its_parent(seed: int) -> None:
    rng = generator(seed, 1)
    parent = zoo.load("lion")
    for _ in range(20):
        child = mutate(parent, rng, DEFAULT).analysis.program
        analyse(child)
        assert child != parent
        assert parse(str(child)) == child
        parent = child


def test_the_same_generator_gives_the_same_children() -> None:
    assert drift(50, generator(3, 4)) == drift(50, generator(3, 4))
    assert drift(50, generator(3, 4)) != drift(50, generator(3, 5))


NO_EDITS = {"insert": 0.0, "delete": 0.0, "modify": 0.0, "tune": 0.0, "wrap": 0.0}
TUNE = MutationConfig(**{**NO_EDITS, "tune": 1.0})


@pytest.mark.parametrize("edit", NO_EDITS)
def test_an_edit_with_all_the_weight_is_the_only_one(edit: str) -> None:
    weights = {**NO_EDITS, edit: 1.0}
    config = MutationConfig(**weights)
    parent = zoo.load("adam")
    edits = {mutate(parent, generator(n, 0), config).mutation.split(" ")[0] for n in range(30)}
    assert edits == {edit}


def test_an_insertion_changes_the_length_by_one_and_a_change_by_none() -> None:
    parent = zoo.load("adam")
    rng = generator(1, 2)
    expected_change = {"insert": 1, "delete": -1, "modify": 0}
    edits = Counter[str]()
    for _ in range(200):
        child = mutate(parent, rng, DEFAULT)
        edit = child.mutation.split(" ")[0]
        edits[edit] += 1
        change = len(child.analysis.program.statements) - len(parent.statements)
        assert change == expected_change[edit]
    assert min(edits.values()) >= 15


def test_a_wrapped_value_takes_effect_where_it_is_used_or_everywhere_after() -> None:
    parent = zoo.load("lion")
    config = MutationConfig(**{**NO_EDITS, "wrap": 1.0}, op_set="full")
    wrapped_values = Counter[str]()
    for n in range(200):
        child = mutate(parent, generator(n, 3), config).analysis
        body = child.program.statements
        assert len(body) == len(parent.statements) + 1
        new = [index for index, statement in enumerate(body) if statement not in parent.statements]
        wrapped = body[new[0]]
        if len(new) == 1:
            assert wrapped.target in wrapped.args
            wrapped_values["result"] += 1
        else:
            assert new == [new[0], new[0] + 1]
            assert wrapped.target in body[new[1]].args
            assert body[new[1]].op == parent.statements[new[0]].op
            wrapped_values["operand"] += 1
        assert new[0] in child.live_statements
    assert min(wrapped_values.values()) > 30


def constants(program: Program) -> list[float]:
    return [a for statement in program.statements for a in statement.args if isinstance(a, float)]


def test_tuning_changes_one_constant_of_any_statement_and_nothing_else() -> None:
    """The constants are AdamW's two decays, its weight decay and its learning rate."""
    parent = zoo.load("adamw_paper")
    before = constants(parent)
    counts = Counter[int]()
    for n in range(400):
        child = mutate(parent, generator(n, 1), TUNE).analysis.program
        after = constants(child)
        changed = [index for index, value in enumerate(after) if value != before[index]]
        assert len(changed) == 1
        counts[changed[0]] += 1
        assert str(child).count("\n") == str(parent).count("\n")
        assert [s.op for s in child.statements] == [s.op for s in parent.statements]
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) >= 70  # the mean is 100, the standard deviation 8.7


def test_tuning_multiplies_by_a_power_of_two_or_draws_a_new_constant() -> None:
    """The binary logarithm of the factor is from N(0, 1), and so is a new constant."""
    parent = parse("def train(w, g, lr):\n    update = g * 1e-20\n    return update\n")
    values = np.array(
        [constants(mutate(parent, generator(n, 2), TUNE).analysis.program)[0] for n in range(600)]
    )
    scaled = values[np.abs(values) < 1e-10]
    assert 0.69 < len(scaled) / len(values) < 0.81  # `rescale` is 0.75
    assert abs(np.log2(scaled / 1e-20).mean()) < 0.2
    assert 0.9 < np.log2(scaled / 1e-20).std() < 1.1
    assert 0.8 < values[np.abs(values) > 1e-10].std() < 1.2


def test_a_program_without_constants_cannot_be_tuned() -> None:
    parent = parse("def train(w, g, lr):\n    update = g * lr\n    return update\n")
    with pytest.raises(UsageError, match="tune needs a constant"):
        mutate(parent, generator(0, 0), TUNE)


def test_programs_never_grow_beyond_the_limit() -> None:
    config = MutationConfig(max_statements=12, delete=0.1)
    assert max(len(program.statements) for program in drift(300, generator(7, 7), config)) == 12


@pytest.mark.parametrize("op_set", ["paper", "full"])
def test_all_ops_of_the_op_set_and_no_others_are_inserted(op_set: str) -> None:
    config = MutationConfig(op_set=op_set, insert=1.0, delete=0.0, modify=0.0)
    parent = zoo.load("sgd")
    inserted = set()
    rng = generator(5, 5)
    for _ in range(3000):
        before = set(parent.statements)
        child = mutate(parent, rng, config).analysis.program
        inserted |= {s.op for s in child.statements if s not in before}
    assert inserted == set(ops.names(op_set))
    assert inserted <= set(OPS)


def test_rejected_drafts_are_counted_by_kind_of_edit() -> None:
    rejects = Counter[str]()
    rng = generator(11, 0)
    for _ in range(300):
        rejects += mutate(zoo.load("adamw_paper"), rng, DEFAULT).rejects
    assert rejects["delete"] > 0
    assert rejects["insert"] > 0


def test_a_configuration_that_allows_no_mutation_is_explained() -> None:
    config = MutationConfig(insert=0.0, modify=0.0, delete=1.0)
    with pytest.raises(UsageError, match=r"no mutation.*\[mutation\]"):
        mutate(zoo.load("sgd"), generator(0, 0), config)


def test_sgd_is_given_unused_states() -> None:
    padded = with_states(zoo.load("sgd"), 2)
    assert [state.name for state in padded.states] == ["m", "v"]
    assert analyse(padded).key == analyse(zoo.load("sgd")).key
    assert with_states(padded, 2) == padded


@pytest.mark.parametrize("name", ["adamw_paper", "lion", "adam"])
def test_keep_schedule_allows_only_constants_of_the_schedule_to_change(name: str) -> None:
    config = MutationConfig(keep_schedule=True, tune=1.0)
    rng = generator(5, 6)
    program = with_states(zoo.load(name), 2)
    uses = [index for index, statement in enumerate(program.statements) if "lr" in statement.args]
    schedule_length = len(program.statements) - uses[0]
    original = zoo.load(name).statements[-schedule_length:]
    lengths, first_statements = set(), set()
    for _ in range(300):
        program = mutate(program, rng, config).analysis.program
        before = program.statements[:-schedule_length]
        schedule = program.statements[-schedule_length:]
        assert [(s.target, s.op) for s in schedule] == [(s.target, s.op) for s in original]
        assert not any("lr" in (s.target, *s.args) for s in before)
        lengths.add(len(program.statements))
        first_statements.add(str(schedule[0]))
    assert len(lengths) > 5
    assert len(first_statements) > 3
