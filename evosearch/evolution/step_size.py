"""Step sizes of programs on synthetic gradients, and programs rescaled to another step size.

A child with another structure than its parent usually takes larger or smaller steps, and fails for
this reason alone at the parent's learning rate. For example, the sign of an update is larger than
the update, and an orthogonalized update is smaller. Updates on synthetic gradients give the step
size of a program without a training.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evosearch.evolution.constants import rounded
from primitives import Program, Statement, live
from primitives.machine.reference import Stepper, initial_state, matrix_views

_LR = "lr"
_STEPS = 4
_SHAPES = ((24, 16), (16,))
_WEIGHT_STD = 0.2
"""Standard deviation of the synthetic weights."""
_GRADIENT_SCALE = 0.01
"""Typical scale of the synthetic gradients; it varies between weights by a factor of about e."""


def with_step_size_of(child: Program, parent: Program, factor: float = 1.0) -> Program:
    """Return `child` rescaled to `factor` times the step size of `parent`.

    The last constant that multiplies the learning rate is changed, as in `lr * 0.001`. If there is
    no such constant, a statement `lr = lr * c` is inserted before the first use of the learning
    rate. Returns `child` itself if `child` does not use the learning rate, or if a step size is not
    finite.
    """
    uses = [index for index, statement in enumerate(child.statements) if _LR in statement.args]
    if not uses:
        return child
    ratio = factor * step_size(live(parent)) / step_size(live(child))
    if not (math.isfinite(ratio) and ratio > 0):
        return child
    statements = list(child.statements)
    index = learning_rate_statement(child)
    if index is not None:
        statements[index] = _scaled(statements[index], ratio)
    else:
        statements.insert(uses[0], _scaled(Statement(_LR, "multiply", (_LR, 1.0)), ratio))
    return replace(child, statements=tuple(statements))


def learning_rate_statement(program: Program) -> int | None:
    """Return the index of the last statement that multiplies the learning rate by a constant."""
    indices = [
        index
        for index, statement in enumerate(program.statements)
        if _scales_learning_rate(statement)
    ]
    return indices[-1] if indices else None


def _scales_learning_rate(statement: Statement) -> bool:
    has_constant = any(isinstance(arg, float) for arg in statement.args)
    return statement.op == "multiply" and _LR in statement.args and has_constant


def _scaled(statement: Statement, ratio: float) -> Statement:
    """Return `statement` with its constants multiplied by `ratio`."""
    args = (rounded(arg * ratio) if isinstance(arg, float) else arg for arg in statement.args)
    return statement._replace(args=tuple(args))


@lru_cache(maxsize=16384)  # parents' step sizes are read repeatedly
def step_size(program: Program) -> float:
    """Return the step size: the geometric mean of the root mean squares of the first four updates.

    The updates are computed from synthetic weights and gradients. The step size is NaN if the root
    mean square of an update is zero or not finite.
    """
    weights, gradients = _synthetic_inputs()
    state, stepper = initial_state(program, weights, np), Stepper(program, np)
    sizes = []
    with np.errstate(all="ignore"):  # an overflow gives inf, which is checked below
        for t, gradient in enumerate(gradients, start=1):
            update, state = stepper.step_views(state, weights, gradient, list(_SHAPES), t=float(t))
            squares = np.concatenate([array.ravel() ** 2 for array in update])
            sizes.append(math.sqrt(squares.sum() / squares.size))
            if not 0 < sizes[-1] < math.inf:
                return math.nan
    return float(np.exp(np.mean(np.log(sizes))))


@lru_cache(maxsize=1)
def _synthetic_inputs() -> tuple[list[NDArray[np.float64]], list[list[NDArray[np.float64]]]]:
    """Return weights, and gradients for each step: a constant direction plus noise as large.

    All arrays are matrices, as `Stepper.step_views` takes them.
    """
    rng = np.random.default_rng(0)
    weights = [_WEIGHT_STD * rng.standard_normal(shape) for shape in _SHAPES]
    scales = [_GRADIENT_SCALE * np.exp(rng.standard_normal(shape)) for shape in _SHAPES]
    directions = [rng.standard_normal(shape) for shape in _SHAPES]
    gradients = [
        [
            scale * (direction + rng.standard_normal(scale.shape))
            for scale, direction in zip(scales, directions, strict=True)
        ]
        for _ in range(_STEPS)
    ]
    return _matrices(weights), [_matrices(gradient) for gradient in gradients]


def _matrices(arrays: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return matrix_views(arrays, np.float64, np)
