"""How large a program's steps are, and a program with steps of another size.

A new shape of rule, tried at the learning rate of its parent, mostly fails for the size of its
steps alone: the sign of an update is larger than the update, an orthogonal matrix smaller. On noise
that looks like the gradients of a training the sizes can be compared without one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evosearch.evolution.constants import rounded
from primitives import Program, Statement, live
from primitives.machine.reference import initial_state, step

_LR = "lr"
_STEPS = 4
_SHAPES = ((24, 16), (16,))
_WEIGHTS = 0.2
"""Deviation of the weights."""
_GRADIENTS = 0.01
"""Typical deviation of a gradient; from weight to weight it varies by a factor of about e."""


def with_step_size_of(child: Program, parent: Program, factor: float = 1.0) -> Program:
    """`child` with the constant on its learning rate changed so that it steps as far as `parent`.

    Or `factor` times as far. The last one (`lr * 0.001`); where there is none, a first statement
    `lr = lr * c` is put before the learning rate's first use. `child` itself if it has no use of
    it, or if either has no finite step size.
    """
    uses = [place for place, one in enumerate(child.statements) if _LR in one.args]
    if not uses:
        return child
    ratio = factor * step_size(live(parent)) / step_size(live(child))
    if not (math.isfinite(ratio) and ratio > 0):
        return child
    body = list(child.statements)
    rate = rate_of(child)
    if rate is not None:
        body[rate] = _scaled(body[rate], ratio)
    else:
        body.insert(uses[0], _scaled(Statement(_LR, "multiply", (_LR, 1.0)), ratio))
    return replace(child, statements=tuple(body))


def rate_of(program: Program) -> int | None:
    """The place of the last statement that multiplies the learning rate by a constant."""
    rates = [place for place, one in enumerate(program.statements) if _is_rate(one)]
    return rates[-1] if rates else None


def _is_rate(statement: Statement) -> bool:
    constant = any(isinstance(arg, float) for arg in statement.args)
    return statement.op == "multiply" and _LR in statement.args and constant


def _scaled(statement: Statement, ratio: float) -> Statement:
    args = (rounded(a * ratio) if isinstance(a, float) else a for a in statement.args)
    return statement._replace(args=tuple(args))


@lru_cache(maxsize=4096)
def step_size(program: Program) -> float:
    """The root mean square of the first updates on noise, the geometric mean over them.

    NaN if one is not finite or zero.
    """
    weights, gradients = _noise()
    state = initial_state(program, weights, np)
    sizes = []
    for number, gradient in enumerate(gradients, start=1):
        update, state = step(program, state, weights, gradient, t=float(number), xp=np)
        with np.errstate(over="ignore"):  # what overflows is not finite
            sizes.append(np.sqrt(np.mean(np.concatenate([u.ravel() ** 2 for u in update]))))
        if not 0 < sizes[-1] < math.inf:
            return math.nan
    return float(np.exp(np.mean(np.log(sizes))))


@lru_cache(maxsize=1)
def _noise() -> tuple[list[NDArray[np.float64]], list[list[NDArray[np.float64]]]]:
    """Weights, and for each step gradients: a direction that stays, and as much noise again."""
    rng = np.random.default_rng(0)
    weights = [_WEIGHTS * rng.standard_normal(shape) for shape in _SHAPES]
    scales = [_GRADIENTS * np.exp(rng.standard_normal(shape)) for shape in _SHAPES]
    directions = [rng.standard_normal(shape) for shape in _SHAPES]
    steps = [
        [
            scale * (direction + rng.standard_normal(scale.shape))
            for scale, direction in zip(scales, directions, strict=True)
        ]
        for _ in range(_STEPS)
    ]
    return weights, steps
