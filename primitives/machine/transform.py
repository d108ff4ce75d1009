"""A program as an optax transformation, traced and compiled for itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from primitives.graph.roles import lift, roles
from primitives.graph.statements import INITIAL, Place
from primitives.machine import reference
from primitives.program import Program
from primitives.text.wording import suggestion

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

    Example:
        >>> from primitives import zoo
        >>> params, grads = jnp.ones(2), jnp.array([1.0, -1.0])
        >>> optimizer = rule(zoo.load("momentum"))
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params, lr=0.5)
        >>> updates.tolist()
        [-0.5, 0.5]
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
    program: Program, learning_rate: optax.ScalarOrSchedule = 1.0, **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """`program` as an optimizer for `optax.apply_updates`.

    Args:
        program: what to run.
        learning_rate: a factor on the program's update, which has a rate of its own; a number or a
            schedule of the steps done. The program's inputs are `lr` = 1 and `t` = 1, 2, ...
        hyperparameters: numbers, traced ones too, in place of the program's constants, by the names
            that an exported file gives them: `to_optax(lion, b1=0.95)`.

    Raises:
        TypeError: the program has no such hyperparameter; says which there are.

    Example:
        >>> from primitives import zoo
        >>> params, grads = jnp.ones(2), jnp.array([1.0, -1.0])
        >>> optimizer = optax.chain(optax.clip_by_global_norm(1e3), to_optax(zoo.load("sgd"), 0.5))
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates).tolist()
        [0.5, 1.5]
    """
    given = _Given(program, hyperparameters)

    def init(params: PyTree) -> OptaxState:
        return OptaxState(jnp.zeros((), jnp.int32), given.initial_state(params))

    def update(
        grads: PyTree, state: OptaxState, params: PyTree | None = None, **_: Any
    ) -> tuple[PyTree, OptaxState]:
        if params is None:
            raise ValueError("the update of a program reads the weights; pass params")
        factor = learning_rate(state.count) if callable(learning_rate) else learning_rate
        t = state.count + 1
        step, following = given.step(state.program, params, grads, t)
        scaled = jax.tree.map(lambda x: (-factor * x).astype(x.dtype), step)
        return scaled, OptaxState(t, following)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


class _Given:
    """A program with some of its constants given from outside, as scalar states that it keeps."""

    def __init__(self, program: Program, hyperparameters: Mapping[str, Any]):
        found = roles(program)
        known = {one.name: one for one in found.hyperparameters}
        for name in hyperparameters:
            if name not in known:
                near = suggestion(name, known) or f"; it has {', '.join(known) or 'none'}"
                raise TypeError(f"the program has no hyperparameter {name!r}{near}")
        places: dict[Place, str] = {}
        self._starts: dict[int, Any] = {}
        for name, value in hyperparameters.items():
            for place in known[name].places:
                if place[0] == INITIAL:
                    self._starts[place[1]] = value
                else:
                    places[place] = f"<{name}>"
            places |= dict.fromkeys(known[name].unit_places, "<1>")
        values = {f"<{name}>": value for name, value in hyperparameters.items()} | {"<1>": 1.0}
        self._constants = [values[name] for name in dict.fromkeys(places.values())]
        self._states = len(found.program.states)
        self._program = lift(found.program, places)

    def initial_state(self, params: PyTree) -> reference.State:
        state = list(reference.initial_state(self._program, params)[: self._states])
        for number, value in self._starts.items():
            fill = partial(jnp.full_like, fill_value=value)
            state[number] = jax.tree.map(fill, state[number])
        return tuple(state)

    def step(
        self, state: reference.State, params: PyTree, grads: PyTree, t: jax.Array
    ) -> tuple[PyTree, reference.State]:
        constants = (jnp.asarray(value, jnp.float32) for value in self._constants)
        entering = (*state, *constants)
        update, following = reference.step(self._program, entering, params, grads, t=t)
        return update, following[: self._states]
