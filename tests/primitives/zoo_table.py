"""Comparison of the zoo with independent implementations (oracles).

`python -m tests.primitives.zoo_table` prints the differences.
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
    **{(name, "paper"): start for name, start in in_numpy.ORACLES.items()},
}
"""The independent implementations, by program and source."""


class ReferenceStep(NamedTuple):
    """One step of the reference interpreter in float64."""

    t: int
    weights: dict
    grads: dict
    state: tuple
    update: dict


def reference_steps(name, weights, grads, first=1):
    """Yield the steps of a zoo program on a sequence of gradients; the first has t = `first`."""
    program = zoo.load(name)
    state = initial_state(program, weights, np)
    for t, g in enumerate(grads, first):
        update, next_state = step(program, state, weights, g, t=t, xp=np)
        yield ReferenceStep(t, weights, g, state, update)
        weights = {key: np.asarray(weights[key] - update[key]) for key in weights}
        state = next_state


@lru_cache
def trajectory(name):
    """Run a zoo program on random gradients and return its steps.

    The model has a matrix, a vector, a scalar, a stack of matrices and a bias of zeros. Some
    weights have zero gradients in the first three steps.
    """
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    weights["bias"] = np.zeros(SHAPES["bias"])
    grads = [{key: rng.normal(size=s) for key, s in SHAPES.items()} for _ in range(STEPS)]
    for early in grads[:3]:
        early["vector"][:2] = early["matrix"][1] = 0.0
    return list(reference_steps(name, weights, grads))


def relative_difference(actual, expected):
    """Return the largest difference in any array, relative to the array's largest number."""

    def within(a, b):
        assert np.isfinite(b).all()
        largest = np.abs(b).max()
        return np.abs(a - b).max() / (largest or 1.0)

    return np.max([within(np.asarray(actual[key]), np.asarray(expected[key])) for key in expected])


def difference(name, source, steps=None):
    """Return the largest relative difference of a program in float64 from an oracle.

    The program and the oracle each update their own state from the first step on. `steps` defaults
    to `trajectory(name)`.
    """
    steps = list(steps or trajectory(name))
    oracle_step = ORACLES[name, source](steps[0].weights)
    return np.max(
        [relative_difference(m.update, oracle_step(m.weights, m.grads, m.t)) for m in steps]
    )


def float32_difference(name):
    """Return the largest relative difference of one step in float32 from the step in float64."""
    program = zoo.load(name)
    compiled = jax.jit(lambda state, w, g, t: step(program, state, w, g, t=t)[0])

    def to_float32(tree):
        return jax.tree.map(np.float32, tree)

    return np.max(
        [
            relative_difference(
                compiled(to_float32(m.state), to_float32(m.weights), to_float32(m.grads), m.t),
                m.update,
            )
            for m in trajectory(name)
        ]
    )


def main():
    print("| program | oracle | largest relative difference | float32 |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:] or zoo.names():
        sources = [source for program, source in ORACLES if program == name]
        differences = ", ".join(f"{difference(name, source):.1e}" for source in sources)
        print(f"| {name} | {', '.join(sources)} | {differences} | {float32_difference(name):.1e} |")


if __name__ == "__main__":
    main()
