"""The space of a program's constants: coordinates, and drawing of better constants."""

import numpy as np
import pytest

from evosearch.evolution.constants import constants
from evosearch.evolution.space import Space
from evosearch.evolution.step_size import step_size, with_step_size_of
from primitives import Program, live, parse, zoo

WITH_RATE = [
    name
    for name in zoo.names()
    if len(Space(zoo.load(name))) and np.isfinite(step_size(live(zoo.load(name))))
]


NOT_PROPORTIONAL = {"amos", "exponentiated_gradient"}
"""Programs whose steps are not proportional to the constant factor on the learning rate."""
PROPORTIONAL = [name for name in WITH_RATE if name not in NOT_PROPORTIONAL]


def with_rate(name: str) -> Program:
    """Return a known optimizer with a constant factor on its learning rate."""
    program = zoo.load(name)
    return with_step_size_of(program, program)


@pytest.mark.parametrize("name", PROPORTIONAL)
def test_the_coordinates_of_a_program_give_the_program(name: str) -> None:
    space = Space(with_rate(name))
    rng = np.random.default_rng(0)
    for x in rng.normal(size=(3, len(space))):
        program = space.program_at(x)
        assert program in space
        if np.isfinite(step_size(live(program))):
            restored = constants(space.program_at(space.coordinates_of(program)))
            assert restored == pytest.approx(constants(program), rel=1e-3)


@pytest.mark.parametrize("name", PROPORTIONAL)
def test_the_last_coordinate_is_the_logarithm_of_the_step_size(name: str) -> None:
    space = Space(with_rate(name))
    initial = step_size(live(with_rate(name)))
    for seed in range(2):
        x = np.random.default_rng(seed).normal(size=len(space))
        size = step_size(live(space.program_at(x)))
        assert not np.isfinite(size) or size == pytest.approx(initial * np.exp(x[-1]), rel=1e-3)


def test_the_programs_own_constants_have_coordinates_zero() -> None:
    for name in WITH_RATE:
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
    draws = np.random.default_rng(0).normal(size=(100, len(space)))
    for x in (*5 * draws, *1e5 * draws):
        values = list(constants(space.program_at(x)).values())
        assert 0 <= values[0] <= 1
        assert -np.inf < values[1] < 0


def test_drawing_finds_better_constants_that_depend_on_each_other() -> None:
    """The optimum is far away; the 300 draws have no noise in their costs."""
    space = Space(zoo.load("adamw_paper"))
    optimum = np.array([1.5, -4.0, 1.0, 0.7])

    def cost(x: np.ndarray) -> float:
        return float(np.sum((x - optimum) ** 2))

    rng = np.random.default_rng(0)
    programs = [space.program]
    for _ in range(300):
        best_first = sorted(
            programs[-100:], key=lambda program: cost(space.coordinates_of(program))
        )
        programs.append(space.draw(best_first, rng))
    assert min(cost(space.coordinates_of(program)) for program in programs[-20:]) < 0.02 * cost(
        np.zeros(4)
    )


def test_a_program_without_constants_has_an_empty_space() -> None:
    space = Space(parse("def train(w, g):\n    update = g * g\n    return update\n"))
    assert len(space) == 0
