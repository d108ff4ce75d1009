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


def moments(name, weights, grads, first=1):
    """The steps of a program on the trees of gradients in `grads`, counted from `first`."""
    program = zoo.load(name)
    state = initial_state(program, weights, np)
    for t, g in enumerate(grads, first):
        update, following = step(program, state, weights, g, t=t, xp=np)
        yield Moment(t, weights, g, state, update)
        weights = {key: np.asarray(weights[key] - update[key]) for key in weights}
        state = following


@lru_cache
def trajectory(name):
    """Steps of a program on random gradients: matrix, vector, number, stack, and zeros.

    Some weights have no gradient at first, and the bias starts at zero.
    """
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    weights["bias"] = np.zeros(SHAPES["bias"])
    grads = [{key: rng.normal(size=s) for key, s in SHAPES.items()} for _ in range(STEPS)]
    for early in grads[:3]:
        early["vector"][:2] = early["matrix"][1] = 0.0
    return list(moments(name, weights, grads))


def relative(ours, theirs):
    """The largest difference within each array, relative to the array's largest number."""

    def within(a, b):
        assert np.isfinite(b).all()
        largest = np.abs(b).max()
        return np.abs(a - b).max() / (largest or 1.0)

    return np.max([within(np.asarray(ours[key]), np.asarray(theirs[key])) for key in theirs])


def difference(name, source, steps=None):
    """The largest relative difference of a program in float64 from an oracle, over all `steps`.

    Both keep their own state from the first step on. Without `steps`, those of `trajectory`.
    """
    steps = list(steps or trajectory(name))
    their_step = ORACLES[name, source](steps[0].weights)
    return np.max([relative(m.update, their_step(m.weights, m.grads, m.t)) for m in steps])


def float32_difference(name):
    """The largest relative difference of JAX in float32, each step from the float64 state."""
    program = zoo.load(name)
    compiled = jax.jit(lambda state, w, g, t: step(program, state, w, g, t=t)[0])

    def single(tree):
        return jax.tree.map(np.float32, tree)

    return np.max(
        [
            relative(compiled(single(m.state), single(m.weights), single(m.grads), m.t), m.update)
            for m in trajectory(name)
        ]
    )


def main():
    print("| program | oracle | largest relative difference | float32 |\n| --- | --- | --- | --- |")
    for name in sys.argv[1:] or zoo.names():
        sources = [source for known, source in ORACLES if known == name]
        apart = ", ".join(f"{difference(name, source):.1e}" for source in sources)
        print(f"| {name} | {', '.join(sources)} | {apart} | {float32_difference(name):.1e} |")


if __name__ == "__main__":
    main()
