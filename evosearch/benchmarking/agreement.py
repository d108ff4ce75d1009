"""Comparison of batches on this device with the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from primitives import Program, encode, initial_state, interpreter, step
from primitives.machine.instructions import OpNames

_FLOAT32 = SimpleNamespace(**vars(np))  # with `np` itself, `step` computes in float64
_SHAPES = {"matrix": (24, 16), "vector": (40,), "scalar": (), "stacked": (2, 6, 4)}
_STEPS = 3
_TOLERANCE = 1e-3
"""Tolerance of an update, relative to the root mean square of the reference's update."""


def agreement(programs: Sequence[Program], ops: OpNames) -> dict[str, Any]:
    """Compare three steps of a batch with the reference under NumPy, program by program.

    The results of some programs depend on rounding, for example those with a sign or a quotient of
    a difference of nearly equal numbers. So a fraction slightly below 1 is not an error.

    Returns:
        `programs`, the number of programs; `agreeing`, the fraction of programs whose updates
        differ from the reference's by at most 1e-3 of the root mean square of the reference's
        update, in each of three steps, where the reference is finite; `differing`, the indices of
        the first ten other programs.
    """
    rng = np.random.default_rng(0)
    weights = _random_arrays(rng)
    gradients = [_random_arrays(rng) for _ in range(_STEPS)]
    machine = interpreter(ops)
    codes = [encode(program, ops) for program in programs]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *codes)

    @jax.jit
    def init(codes: Any) -> Any:
        return jax.vmap(lambda code: machine.init(weights, code, -1.0))(codes)

    @jax.jit
    def advance(states: Any, gradient: Any, lr: float, t: float) -> Any:
        return jax.vmap(lambda state: machine.update(gradient, state, weights, lr=lr, t=t))(states)

    states, updates = init(stacked), []
    for number, gradient in enumerate(gradients, 1):
        update, states = advance(states, gradient, 1 / number, float(number))
        updates.append(jax.device_get(update))
    differing = [
        lane
        for lane, program in enumerate(programs)
        if not _agrees(program, weights, gradients, [_lane(update, lane) for update in updates])
    ]
    return {
        "programs": len(programs),
        "agreeing": 1 - len(differing) / len(programs),
        "differing": differing[:10],
    }


def _random_arrays(rng: np.random.Generator) -> dict[str, Any]:
    return {name: np.asarray(rng.normal(size=s), np.float32) for name, s in _SHAPES.items()}


def _lane(update: Any, lane: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[lane], update)


def _agrees(
    program: Program, weights: Any, gradients: Sequence[Any], updates: Sequence[Any]
) -> bool:
    state = initial_state(program, weights, _FLOAT32)
    with np.errstate(all="ignore"):
        for number, (gradient, update) in enumerate(zip(gradients, updates, strict=True), 1):
            expected, state = step(
                program, state, weights, gradient, lr=1 / number, t=float(number), xp=_FLOAT32
            )
            actual, reference = _flat(update), _flat(expected)
            finite = np.isfinite(reference)
            size = np.sqrt(np.mean(np.square(reference[finite]))) if finite.any() else 0.0
            if not np.all(np.abs(actual - reference)[finite] <= _TOLERANCE * size + 1e-6):
                return False
    return True


def _flat(tree: Any) -> Any:
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])
