"""Differences between the zoo and independent implementations of its optimizers (oracles).

`python -m tests.primitives.zoo_table` prints a table of the differences.
"""

import sys
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from primitives import initial_state, step, zoo
from tests.primitives.oracles import in_numpy, in_optax, in_torch

SHAPES = {"matrix": (6, 5), "vector": (7,), "scalar": (), "stacked": (2, 6, 4), "bias": (3,)}
STEPS = 100

ORACLES = {
    **{(name, "optax"): in_optax.oracle(name) for name in in_optax.OPTIMIZERS},
    **{(name, "torch"): in_torch.oracle(name) for name in in_torch.OPTIMIZERS},
    **{(name, "paper"): oracle for name, oracle in in_numpy.ORACLES.items()},
}
"""The independent implementations, by name of the program and source."""


class ReferenceStep(NamedTuple):
    """One step of the reference interpreter in float64."""

    t: int
    weights: dict
    gradients: dict
    state: tuple
    update: dict


def reference_steps(name, weights, gradients, first_step=1):
    """Yield the steps of a zoo program on a sequence of gradients, numbered from `first_step`."""
    program = zoo.load(name)
    state = initial_state(program, weights, np)
    for t, gradient in enumerate(gradients, first_step):
        update, next_state = step(program, state, weights, gradient, t=t, xp=np)
        yield ReferenceStep(t, weights, gradient, state, update)
        weights = {key: np.asarray(weights[key] - update[key]) for key in weights}
        state = next_state


@lru_cache
def trajectory(name):
    """Return the steps of a zoo program on random gradients.

    The model has a matrix, a vector, a scalar, a stack of matrices and a bias of zeros. Some
    weights have zero gradients in the first three steps.
    """
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    weights["bias"] = np.zeros(SHAPES["bias"])
    gradients = [
        {key: rng.normal(size=shape) for key, shape in SHAPES.items()} for _ in range(STEPS)
    ]
    for gradient in gradients[:3]:
        gradient["vector"][:2] = gradient["matrix"][1] = 0.0
    return list(reference_steps(name, weights, gradients))


def relative_difference(actual, expected):
    """Return the largest difference in any array, relative to the array's largest number."""
    differences = []
    for key in expected:
        assert np.isfinite(expected[key]).all()
        largest = np.abs(expected[key]).max()
        difference = np.abs(np.asarray(actual[key]) - np.asarray(expected[key])).max()
        differences.append(difference / (largest or 1.0))
    return np.max(differences)


def difference(name, source, steps=None):
    """Return the largest relative difference between the updates of a program and of an oracle.

    Both compute in float64. They get the same weights and gradients in each step, and each keeps
    its own state.

    Args:
        name: the name of the zoo program.
        source: the source of the oracle.
        steps: the program's steps; `trajectory(name)` by default.
    """
    steps = list(steps or trajectory(name))
    oracle_step = ORACLES[name, source](steps[0].weights)
    differences = []
    for reference in steps:
        oracle_update = oracle_step(reference.weights, reference.gradients, reference.t)
        differences.append(relative_difference(reference.update, oracle_update))
    return np.max(differences)


def float32_difference(name):
    """Return the largest relative difference of one step in float32 from the step in float64."""
    program = zoo.load(name)
    compiled_update = jax.jit(lambda state, w, g, t: step(program, state, w, g, t=t)[0])
    differences = []
    for reference in trajectory(name):
        state, weights, gradients = jax.tree.map(
            np.float32, (reference.state, reference.weights, reference.gradients)
        )
        update = compiled_update(state, weights, gradients, reference.t)
        differences.append(relative_difference(update, reference.update))
    return np.max(differences)


def main():
    print("| program | oracle | largest relative difference | float32 |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:] or zoo.names():
        sources = [source for program, source in ORACLES if program == name]
        differences = ", ".join(f"{difference(name, source):.1e}" for source in sources)
        print(f"| {name} | {', '.join(sources)} | {differences} | {float32_difference(name):.1e} |")


if __name__ == "__main__":
    main()
