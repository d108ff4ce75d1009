"""A program as an optax transformation, traced and compiled for itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from primitives import reference
from primitives.program import Program

PyTree = Any


class RuleState(NamedTuple):
    """The program's own state and the learning rate that multiplies its update."""

    program: reference.State
    factor: jax.Array


@lru_cache(maxsize=4096)
def rule(program: Program) -> optax.GradientTransformationExtraArgs:
    """`program` as a transformation `init(params, factor=1.0)`, `update(..., lr=, t=)`.

    The updates are `-factor * update`. The same program always gives the same object, so that a
    jitted function which takes it as a static argument is compiled once per program.
    """

    def init(params: PyTree, factor: jax.Array | float = 1.0) -> RuleState:
        state = reference.initial_state(program, params)
        return RuleState(state, jnp.asarray(factor, jnp.float32))

    def update(
        grads: PyTree,
        state: RuleState,
        params: PyTree | None = None,
        *,
        lr: Any = 1.0,
        t: Any = 1.0,
        **_: Any,
    ) -> tuple[PyTree, RuleState]:
        if params is None:
            raise ValueError("the update of a program reads the weights; pass params")
        step, following = reference.step(program, state.program, params, grads, lr=lr, t=t)
        scaled = jax.tree.map(lambda x: (-state.factor * x).astype(x.dtype), step)
        return scaled, RuleState(following, state.factor)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


class OptaxState(NamedTuple):
    """The steps done so far and the program's state."""

    count: jax.Array  # type: ignore[assignment]  # optax names it so
    program: reference.State


def to_optax(
    program: Program, learning_rate: optax.ScalarOrSchedule = 1.0
) -> optax.GradientTransformationExtraArgs:
    """`program` as an optimizer for `optax.apply_updates`.

    `learning_rate` is a factor on the program's update, a number or a schedule of the steps done;
    the program's own inputs are `lr` = 1 and `t` = 1, 2, ...
    """

    def init(params: PyTree) -> OptaxState:
        return OptaxState(jnp.zeros((), jnp.int32), reference.initial_state(program, params))

    def update(
        grads: PyTree, state: OptaxState, params: PyTree | None = None, **_: Any
    ) -> tuple[PyTree, OptaxState]:
        if params is None:
            raise ValueError("the update of a program reads the weights; pass params")
        factor = learning_rate(state.count) if callable(learning_rate) else learning_rate
        t = state.count + 1
        step, following = reference.step(program, state.program, params, grads, t=t)
        scaled = jax.tree.map(lambda x: (-factor * x).astype(x.dtype), step)
        return scaled, OptaxState(t, following)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]
