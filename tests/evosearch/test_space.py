"""Tests of the space of a program's constants: coordinates, and drawing of better constants."""

import numpy as np
import pytest

from evosearch.evolution.constants import constants
from evosearch.evolution.space import Space
from evosearch.evolution.step_size import step_size, with_step_size_of
from primitives import Program, live, parse, zoo

PROGRAMS = [
    name
    for name in zoo.names()
    if len(Space(zoo.load(name))) and np.isfinite(step_size(live(zoo.load(name))))
]
"""Programs of the zoo that have constants and a finite step size."""
NOT_PROPORTIONAL = {"amos", "exponentiated_gradient"}
"""Programs whose step size is not proportional to the constant factor on the learning rate."""
PROPORTIONAL = [name for name in PROGRAMS if name not in NOT_PROPORTIONAL]


def with_learning_rate_factor(name: str) -> Program:
    """Return a program of the zoo, with a constant factor on its learning rate."""
    program = zoo.load(name)
    return with_step_size_of(program, program)


@pytest.mark.parametrize("name", PROPORTIONAL)
def test_the_program_at_the_coordinates_of_a_program_has_the_same_constants(name: str) -> None:
    space = Space(with_learning_rate_factor(name))
    rng = np.random.default_rng(0)
    for coordinates in rng.normal(size=(3, len(space))):
        program = space.program_at(coordinates)
        assert program in space
        if np.isfinite(step_size(live(program))):
            restored = constants(space.program_at(space.coordinates_of(program)))
            assert restored == pytest.approx(constants(program), rel=1e-3)


@pytest.mark.parametrize("name", PROPORTIONAL)
def test_the_last_coordinate_is_the_logarithm_of_the_step_size(name: str) -> None:
    space = Space(with_learning_rate_factor(name))
    original_size = step_size(live(with_learning_rate_factor(name)))
    for seed in range(2):
        coordinates = np.random.default_rng(seed).normal(size=len(space))
        size = step_size(live(space.program_at(coordinates)))
        if np.isfinite(size):
            assert size == pytest.approx(original_size * np.exp(coordinates[-1]), rel=1e-3)


def test_the_coordinates_of_the_programs_own_constants_are_zero() -> None:
    for name in PROGRAMS:
        program = zoo.load(name)
        space = Space(program)
        at_zero = constants(space.program_at(np.zeros(len(space))))
        assert at_zero == pytest.approx(constants(program), rel=1e-5)


def test_decays_stay_between_0_and_1_and_other_constants_keep_their_sign() -> None:
    program = parse(
        "def train(w, g, m, lr):\n    m = interp(g, m, 0.9)\n    step = m * -0.5\n"
        "    update = step * lr\n    return update, m\n"
    )
    space = Space(program)
    normal = np.random.default_rng(0).normal(size=(100, len(space)))
    for coordinates in (*5 * normal, *1e5 * normal):
        decay, factor = constants(space.program_at(coordinates)).values()
        assert 0 <= decay <= 1
        assert -np.inf < factor < 0


def test_after_300_draws_the_squared_distance_to_the_optimum_is_below_2_percent() -> None:
    """The cost of a program is its squared distance from an optimum, without noise."""
    space = Space(zoo.load("adamw_paper"))
    optimum = np.array([1.5, -4.0, 1.0, 0.7])

    def cost(program: Program) -> float:
        return float(np.sum((space.coordinates_of(program) - optimum) ** 2))

    rng = np.random.default_rng(0)
    programs = [space.program]
    for _ in range(300):
        best_first = sorted(programs[-100:], key=cost)
        programs.append(space.draw(best_first, rng))
    cost_of_origin = float(np.sum(optimum**2))
    assert min(map(cost, programs[-20:])) < 0.02 * cost_of_origin


def test_a_program_without_constants_has_an_empty_space() -> None:
    space = Space(parse("def train(w, g):\n    update = g * g\n    return update\n"))
    assert len(space) == 0
