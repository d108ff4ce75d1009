"""Whether batches on this device compute what the reference interpreter defines."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from primitives import Program, encode, initial_state, interpreter, step
from primitives.machine.instructions import OpNames

_FLOAT32 = SimpleNamespace(**vars(np))  # not `np` itself, with which `step` takes float64
_SHAPES = {"matrix": (24, 16), "vector": (40,), "scalar": (), "stacked": (2, 6, 4)}
_STEPS = 3
_TOLERANCE = 1e-3
"""Of an update, relative to the root mean square of the reference's."""


def agreement(programs: Sequence[Program], ops: OpNames) -> dict[str, Any]:
    """Compares some steps of a batch with the reference under NumPy, program by program.

    Rounding decides what some programs compute, for example where a sign or a quotient is of a
    difference of nearly equal numbers. So a share slightly below 1 is no error.

    Returns:
        `programs`, how many; `agreeing`, the share of them whose updates are within 1e-3 of the
        reference's root mean square, in each of three steps and wherever the reference is finite;
        `differing`, the numbers of the first ten that are not.
    """
    rng = np.random.default_rng(0)
    weights = _drawn(rng)
    gradients = [_drawn(rng) for _ in range(_STEPS)]
    machine = interpreter(ops)
    codes = [encode(program, ops) for program in programs]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *codes)

    @jax.jit
    def begun(codes: Any) -> Any:
        return jax.vmap(lambda code: machine.init(weights, code, -1.0))(codes)

    @jax.jit
    def advanced(states: Any, gradient: Any, lr: float, t: float) -> Any:
        return jax.vmap(lambda state: machine.update(gradient, state, weights, lr=lr, t=t))(states)

    states, updates = begun(stacked), []
    for number, gradient in enumerate(gradients, 1):
        update, states = advanced(states, gradient, 1 / number, float(number))
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


def _drawn(rng: np.random.Generator) -> dict[str, Any]:
    return {name: np.asarray(rng.normal(size=s), np.float32) for name, s in _SHAPES.items()}


def _lane(update: Any, lane: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[lane], update)


def _agrees(program: Program, weights: Any, gradients: Sequence[Any], ours: Sequence[Any]) -> bool:
    state = initial_state(program, weights, _FLOAT32)
    with np.errstate(all="ignore"):
        for number, (gradient, update) in enumerate(zip(gradients, ours, strict=True), 1):
            wanted, state = step(
                program, state, weights, gradient, lr=1 / number, t=float(number), xp=_FLOAT32
            )
            a, b = _flat(update), _flat(wanted)
            finite = np.isfinite(b)
            size = np.sqrt(np.mean(np.square(b[finite]))) if finite.any() else 0.0
            if not np.all(np.abs(a - b)[finite] <= _TOLERANCE * size + 1e-6):
                return False
    return True


def _flat(tree: Any) -> Any:
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])
