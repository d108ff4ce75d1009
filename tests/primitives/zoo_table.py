"""The zoo against its oracles; `python -m tests.primitives.zoo_table` prints the differences."""

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


class Moment(NamedTuple):
    """One step of the reference interpreter in float64."""

    t: int
    weights: dict
    grads: dict
    state: tuple
    update: dict


@lru_cache
def trajectory(name):
    """Steps of a program on random gradients: matrix, vector, number, stack, and zeros.

    Some weights have no gradient at first, and the bias starts at zero.
    """
    program = zoo.load(name)
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    weights["bias"] = np.zeros(SHAPES["bias"])
    state = initial_state(program, weights, np)
    moments = []
    for t in range(1, STEPS + 1):
        grads = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
        if t <= 3:
            grads["vector"][:2] = grads["matrix"][1] = 0.0
        update, following = step(program, state, weights, grads, t=t, xp=np)
        moments.append(Moment(t, weights, grads, state, update))
        weights = {key: np.asarray(weights[key] - update[key]) for key in weights}
        state = following
    return moments


def relative(ours, theirs):
    """The largest difference within each array, relative to the array's largest number."""

    def within(a, b):
        largest = np.abs(b).max()
        return np.abs(a - b).max() / largest if largest else np.abs(a).max()

    assert all(np.isfinite(x).all() for x in theirs.values())
    return max(within(np.asarray(ours[key]), np.asarray(theirs[key])) for key in theirs)


def difference(name, source):
    """The largest relative difference of a program in float64 from an oracle, over all steps.

    Both keep their own state from the first step on.
    """
    moments = trajectory(name)
    their_step = ORACLES[name, source](moments[0].weights)
    return max(relative(m.update, their_step(m.weights, m.grads)) for m in moments)


def float32_difference(name):
    """The largest relative difference of JAX in float32, each step from the float64 state."""
    program = zoo.load(name)
    compiled = jax.jit(lambda state, w, g, t: step(program, state, w, g, t=t)[0])

    def single(tree):
        return jax.tree.map(np.float32, tree)

    return max(
        relative(compiled(single(m.state), single(m.weights), single(m.grads), m.t), m.update)
        for m in trajectory(name)
    )


def main():
    print("| program | oracle | largest relative difference | float32 |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:] or zoo.names():
        sources = [source for known, source in ORACLES if known == name]
        apart = ", ".join(f"{difference(name, source):.1e}" for source in sources)
        print(f"| {name} | {', '.join(sources)} | {apart} | {float32_difference(name):.1e} |")


if __name__ == "__main__":
    main()
