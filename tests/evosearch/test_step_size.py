"""Tests of a program's step size on random gradients, and of rescaling to another step size."""

import math

import numpy as np
import pytest

from evosearch.config import MutationConfig
from evosearch.evolution.constants import constants
from evosearch.evolution.mutation import mutate
from evosearch.evolution.step_size import step_size, with_step_size_of
from primitives import Program, analyse, live, parse, zoo

HALF_SGD = parse(
    "def train(w, g, lr):\n    lr = lr * 0.5\n    update = g * lr\n    return update\n"
)
"""Gradient descent with half the learning rate."""


def ops_in_order(program: Program) -> list[str]:
    return [statement.op for statement in program.statements]


def test_the_step_size_is_the_size_of_the_update() -> None:
    assert step_size(zoo.load("sign_sgd")) == pytest.approx(1e-4, rel=1e-6)
    assert step_size(HALF_SGD) == pytest.approx(0.5 * step_size(zoo.load("sgd")))
    assert 0.005 < step_size(zoo.load("sgd")) < 0.1  # the size of the gradients


@pytest.mark.parametrize("name", ["lion", "adamw_paper", "sign_sgd", "lamb", "adafactor"])
def test_a_program_is_rescaled_to_the_step_size_of_another(name: str) -> None:
    rescaled = with_step_size_of(HALF_SGD, zoo.load(name))
    assert step_size(rescaled) == pytest.approx(step_size(zoo.load(name)), rel=1e-4)
    assert ops_in_order(rescaled) == ops_in_order(HALF_SGD)


def test_rescaling_multiplies_the_learning_rate_if_the_program_has_no_factor_on_it() -> None:
    rescaled = with_step_size_of(zoo.load("sgd"), zoo.load("lion"))
    assert step_size(rescaled) == pytest.approx(step_size(zoo.load("lion")), rel=1e-4)
    assert str(rescaled.statements[0]).startswith("lr = lr * 0.0")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("update", ["sqrt(g) * lr", "0.0 * lr", "exp(500.0) * lr", "g * 0.5"])
def test_rescaling_does_not_change_a_program_without_learning_rate_or_finite_step_size(
    update: str,
) -> None:
    program = parse(f"def train(w, g, lr):\n    update = {update}\n    return update\n")
    assert with_step_size_of(program, zoo.load("lion")) == program
    assert math.isnan(step_size(program)) == ("lr" in update)


def test_with_keep_step_size_a_child_with_another_structure_has_the_parents_step_size() -> None:
    """A child that differs from the parent only in constants is not rescaled."""
    parent = zoo.load("adamw_paper")
    config = MutationConfig(wrap=1.0, op_set="full", keep_schedule=True, keep_step_size=1.0)
    rescaled = differing_in_constants = 0
    for number in range(300):
        rng = np.random.Generator(np.random.Philox(key=[number, 8]))
        child = mutate(parent, rng, config)
        program = child.analysis.program
        if child.mutation.endswith("; steps kept"):
            assert step_size(live(program)) == pytest.approx(step_size(parent), rel=1e-3)
            rescaled += 1
        elif child.mutation.startswith("modify"):
            differing_in_constants += ops_in_order(program) == ops_in_order(parent)
    assert rescaled > 50
    assert differing_in_constants > 5


def test_constants_of_a_rescaled_program_are_in_the_range_of_float32() -> None:
    """A very small step size is increased only as far as the range of float32 allows."""
    program = parse(
        "def train(w, g, lr):\n    lr = lr * 1e30\n    x = g * 1e-38\n    x = x * 1e-37\n"
        "    update = x * lr\n    return update\n"
    )
    rescaled = with_step_size_of(program, HALF_SGD)
    assert max(map(abs, constants(rescaled).values())) <= 1e38
    assert analyse(rescaled).key
