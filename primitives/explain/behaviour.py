"""How a program behaves on scalar streams: what its update does when the gradient does something.

A single weight of fixed value sees a stream of gradients; the schedule stays at its peak. So what
is seen is the rule itself, not a training: no loss, no feedback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primitives import Program, initial_state, step

Series = NDArray[np.float64]

WEIGHT = 0.1
"""The weight that all streams are at; weight decay shows as a shift of the update by it."""
STEPS = 100
_WARM_UP = 60
_REACH = 3.0
_FLAT = 1e-3
_LANES = 4


@dataclass(frozen=True)
class Behaviour:
    """What a program did.

    Attributes:
        gradients: gradients of one further step.
        updates: the update on each of them, after noise of unit deviation.
        fresh: the same on the first step.
        responses: by stream (`step`, `spike`, `noise`, `flat`): gradient and update at each step.
        step_sizes: by scale of the gradient, the root mean square of the update at each step of a
            noise stream of that deviation, over streams.
    """

    gradients: Series
    updates: Series
    fresh: Series
    responses: Mapping[str, tuple[Series, Series]]
    step_sizes: Mapping[float, Series]


def behaviour(program: Program) -> Behaviour:
    """How `program` behaves; the same whenever it is asked.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(STEPS, _LANES))
    gradients = np.linspace(-_REACH, _REACH, 121)
    warm = _after(program, noise[:_WARM_UP, 0])
    fresh = _after(program, np.empty(0))
    return Behaviour(
        gradients,
        np.array([_once(program, warm, g, _WARM_UP + 1) for g in gradients]),
        np.array([_once(program, fresh, g, 1) for g in gradients]),
        {name: (stream, _run(program, stream)) for name, stream in _streams(noise[:, 0]).items()},
        {
            scale: np.sqrt(np.mean([_run(program, scale * lane) ** 2 for lane in noise.T], axis=0))
            for scale in (0.01, 1.0, 100.0)
        },
    )


def _streams(noise: Series) -> dict[str, Series]:
    """A step, a spike, noise, and a flat region in the middle of noise."""
    time = np.arange(STEPS)
    third = STEPS // 3
    flat = np.where((time >= third) & (time < 2 * third), _FLAT, 1.0)
    return {
        "step": (time >= third // 2).astype(float),
        "spike": (time == third // 2).astype(float),
        "noise": 1.0 + noise,
        "flat": flat * (1.0 + 0.1 * noise),
    }


_State = tuple[object, ...]


def _after(program: Program, stream: Series) -> _State:
    """The state after a stream."""
    state: _State = initial_state(program, np.zeros(1), np)
    for number, gradient in enumerate(stream, 1):
        _, state = _step(program, state, gradient, number)
    return state


def _run(program: Program, stream: Series) -> Series:
    """The update at each step of a stream."""
    state: _State = initial_state(program, np.zeros(1), np)
    updates = []
    for number, gradient in enumerate(stream, 1):
        update, state = _step(program, state, gradient, number)
        updates.append(update)
    return np.array(updates)


def _once(program: Program, state: _State, gradient: float, number: int) -> float:
    return _step(program, state, gradient, number)[0]


def _step(program: Program, state: _State, gradient: float, number: int) -> tuple[float, _State]:
    weights, grads = np.full(1, WEIGHT), np.full(1, gradient)
    update, following = step(program, state, weights, grads, lr=1.0, t=number, xp=np)
    return float(update[0]), following
