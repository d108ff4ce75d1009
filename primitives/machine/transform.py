"""Programs as optax transformations, each of which is traced and compiled separately."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from primitives.graph.roles import constants_to_states, roles
from primitives.graph.statements import INITIAL, Position
from primitives.machine import reference
from primitives.program import Program
from primitives.text.wording import suggestion

PyTree = Any

_PARAMS_MISSING = "update() needs the weights, which programs may read: pass params"


class RuleState(NamedTuple):
    """The optimizer state of `rule`.

    Attributes:
        program: the states of the program.
        factor: () float32, the learning rate, which multiplies the program's update.
    """

    program: reference.State
    factor: jax.Array


@lru_cache(maxsize=4096)
def rule(program: Program) -> optax.GradientTransformationExtraArgs:
    """Return `program` as an optax transformation that takes the schedule inputs.

    Its functions are `init(params, factor=1.0)` and `update(grads, state, params, lr=1.0, t=1.0)`,
    which returns `-factor` times the program's update. The same program gives the same object, so
    that a jitted function which takes it as a static argument is compiled once per program.

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
            raise ValueError(_PARAMS_MISSING)
        updates, next_state = reference.step(program, state.program, params, grads, lr=lr, t=t)
        scaled = jax.tree.map(lambda x: (-state.factor * x).astype(x.dtype), updates)
        return scaled, RuleState(next_state, state.factor)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


class OptaxState(NamedTuple):
    """The optimizer state of `to_optax`.

    Attributes:
        count: () int32, the number of steps so far.
        program: the states of the program.
    """

    count: jax.Array  # type: ignore[assignment]  # optax names it so
    program: reference.State


def to_optax(
    program: Program, learning_rate: optax.ScalarOrSchedule = 1.0, **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """Return `program` as an optimizer for `optax.apply_updates`.

    The program's schedule inputs are `lr` = 1 and `t` = 1, 2, ...

    Args:
        program: the program.
        learning_rate: a number, or a schedule of the number of steps so far. It multiplies the
            program's update, which includes the program's own learning rate; default 1.
        hyperparameters: numbers, which may be traced, that replace constants of the program. Their
            names are those in an exported file, as in `to_optax(lion, b1=0.95)`.

    Raises:
        TypeError: the program has no hyperparameter of this name.

    Example:
        >>> from primitives import zoo
        >>> params, grads = jnp.ones(2), jnp.array([1.0, -1.0])
        >>> optimizer = optax.chain(optax.clip_by_global_norm(1e3), to_optax(zoo.load("sgd"), 0.5))
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates).tolist()
        [0.5, 1.5]
    """
    runner = _WithHyperparameters(program, hyperparameters)

    def init(params: PyTree) -> OptaxState:
        return OptaxState(jnp.zeros((), jnp.int32), runner.initial_state(params))

    def update(
        grads: PyTree, state: OptaxState, params: PyTree | None = None, **_: Any
    ) -> tuple[PyTree, OptaxState]:
        if params is None:
            raise ValueError(_PARAMS_MISSING)
        factor = learning_rate(state.count) if callable(learning_rate) else learning_rate
        t = state.count + 1
        updates, next_state = runner.step(state.program, params, grads, t)
        scaled = jax.tree.map(lambda x: (-factor * x).astype(x.dtype), updates)
        return scaled, OptaxState(t, next_state)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


class _WithHyperparameters:
    """A program in which some constants are scalar states, so that their values can be traced.

    Args:
        program: the program.
        hyperparameters: the value of each hyperparameter that replaces constants.
    """

    def __init__(self, program: Program, hyperparameters: Mapping[str, Any]):
        named = roles(program)
        by_name = {hyperparameter.name: hyperparameter for hyperparameter in named.hyperparameters}
        for name in hyperparameters:
            if name not in by_name:
                hint = suggestion(name, by_name) or f"; it has {', '.join(by_name) or 'none'}"
                raise TypeError(f"the program has no hyperparameter {name!r}{hint}")
        state_names: dict[Position, str] = {}
        self._initial_values: dict[int, Any] = {}
        for name, value in hyperparameters.items():
            for position in by_name[name].positions:
                if position[0] == INITIAL:
                    self._initial_values[position[1]] = value
                else:
                    state_names[position] = f"<{name}>"
            state_names |= dict.fromkeys(by_name[name].unit_positions, "<1>")
        values = {f"<{name}>": value for name, value in hyperparameters.items()} | {"<1>": 1.0}
        self._constants = [values[name] for name in dict.fromkeys(state_names.values())]
        self._state_count = len(named.program.states)
        self._program = constants_to_states(named.program, state_names)

    def initial_state(self, params: PyTree) -> reference.State:
        state = list(reference.initial_state(self._program, params)[: self._state_count])
        for index, value in self._initial_values.items():
            fill = partial(jnp.full_like, fill_value=value)
            state[index] = jax.tree.map(fill, state[index])
        return tuple(state)

    def step(
        self, state: reference.State, params: PyTree, grads: PyTree, t: jax.Array
    ) -> tuple[PyTree, reference.State]:
        constants = (jnp.asarray(value, jnp.float32) for value in self._constants)
        state_and_constants = (*state, *constants)
        update, next_state = reference.step(self._program, state_and_constants, params, grads, t=t)
        return update, next_state[: self._state_count]
