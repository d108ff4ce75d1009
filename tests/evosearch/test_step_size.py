"""Step sizes on noise, and programs rescaled to another step size."""

import math

import numpy as np
import pytest

from evosearch.config import MutationConfig
from evosearch.evolution.mutation import mutate
from evosearch.evolution.step_size import step_size, with_step_size_of
from primitives import analyse, live, parse, zoo

HALVED = parse("def train(w, g, lr):\n    lr = lr * 0.5\n    update = g * lr\n    return update\n")


def test_step_sizes_of_known_programs() -> None:
    assert step_size(zoo.load("sign_sgd")) == pytest.approx(1e-4, rel=1e-6)
    assert step_size(HALVED) == pytest.approx(0.5 * step_size(zoo.load("sgd")))
    assert 0.005 < step_size(zoo.load("sgd")) < 0.1  # of the size of the gradients


@pytest.mark.parametrize("name", ["lion", "adamw_paper", "sign_sgd", "lamb", "adafactor"])
def test_a_program_is_rescaled_to_the_step_size_of_another(name: str) -> None:
    child = with_step_size_of(HALVED, zoo.load(name))
    assert step_size(child) == pytest.approx(step_size(zoo.load(name)), rel=1e-4)
    assert [s.op for s in child.statements] == [s.op for s in HALVED.statements]


def test_a_program_without_a_constant_on_its_rate_is_given_one() -> None:
    child = with_step_size_of(zoo.load("sgd"), zoo.load("lion"))
    assert step_size(child) == pytest.approx(step_size(zoo.load("lion")), rel=1e-4)
    assert str(child.statements[0]).startswith("lr = lr * 0.0")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("update", ["sqrt(g) * lr", "0.0 * lr", "exp(500.0) * lr", "g * 0.5"])
def test_a_program_without_a_rate_or_a_finite_step_size_is_unchanged(update: str) -> None:
    program = parse(f"def train(w, g, lr):\n    update = {update}\n    return update\n")
    assert with_step_size_of(program, zoo.load("lion")) == program
    assert math.isnan(step_size(program)) == ("lr" in update)


def test_mutation_keeps_the_step_size_when_the_structure_changes() -> None:
    """A child that differs in constants only keeps them as they were drawn."""
    parent = zoo.load("adamw_paper")
    config = MutationConfig(wrap=1.0, op_set="full", keep_schedule=True, keep_step_size=1.0)
    before = step_size(parent)
    rescaled = constants = 0
    for n in range(300):
        rng = np.random.Generator(np.random.Philox(key=[n, 8]))
        child = mutate(parent, rng, config)
        if child.mutation.endswith("; steps kept"):
            size = step_size(live(child.analysis.program))
            assert size == pytest.approx(before, rel=1e-3)
            rescaled += 1
        elif child.mutation.startswith("modify"):
            ops = [statement.op for statement in child.analysis.program.statements]
            constants += ops == [statement.op for statement in parent.statements]
    assert rescaled > 50
    assert constants > 5


def test_rescaled_constants_stay_within_float32() -> None:
    """Very small steps are enlarged only as far as float32 allows."""
    tiny = parse(
        "def train(w, g, lr):\n    lr = lr * 1e30\n    x = g * 1e-38\n    x = x * 1e-37\n"
        "    update = x * lr\n    return update\n"
    )
    child = with_step_size_of(tiny, HALVED)
    assert max(abs(a) for s in child.statements for a in s.args if isinstance(a, float)) <= 1e38
    assert analyse(child).key
