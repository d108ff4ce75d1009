"""A program's response to simple streams of gradients, such as a step, a spike or noise.

The program updates a single weight, which is held at a fixed value, with the learning-rate
schedule at its peak. There is no loss, so updates do not feed back into the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primitives import Program, initial_state, step

Series = NDArray[np.float64]

WEIGHT = 0.1
"""The fixed value of the weight. It is not 0, so that weight decay is visible in the updates."""
STEPS = 100
"""Number of steps of each stream."""
_WARM_UP_STEPS = 60
_MAX_GRADIENT = 3.0
_FLAT_GRADIENT = 1e-3
_NOISE_STREAMS = 4


@dataclass(frozen=True)
class Behaviour:
    """Updates of a program on streams of gradients.

    Attributes:
        gradients: gradients, evenly spaced from -3 to 3, at which one step is evaluated.
        updates: the update for each of `gradients`, in the state reached after 60 steps of
            gradients from a standard normal distribution.
        first_updates: the update for each of `gradients` on the first step.
        responses: for each stream (`step`, `spike`, `noise`, `flat`) its gradients and the
            updates, both of shape `(STEPS,)`.
        step_sizes: for each standard deviation of the gradient (0.01, 1 and 100) the root mean
            square of the update at each step, of shape `(STEPS,)`, over four streams of normally
            distributed gradients.
    """

    gradients: Series
    updates: Series
    first_updates: Series
    responses: Mapping[str, tuple[Series, Series]]
    step_sizes: Mapping[float, Series]


def behaviour(program: Program) -> Behaviour:
    """Evaluate `program` on all streams. The result is deterministic.

    Args:
        program: the program to evaluate.

    Returns:
        The updates of the program on each stream.

    Raises:
        ProgramError: the program is not valid.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(STEPS, _NOISE_STREAMS))
    gradients = np.linspace(-_MAX_GRADIENT, _MAX_GRADIENT, 121)
    warm_state = _state_after(program, noise[:_WARM_UP_STEPS, 0])
    first_state = _state_after(program, np.empty(0))
    return Behaviour(
        gradients,
        np.array([_update(program, warm_state, g, _WARM_UP_STEPS + 1) for g in gradients]),
        np.array([_update(program, first_state, g, 1) for g in gradients]),
        {
            name: (stream, _updates(program, stream))
            for name, stream in _streams(noise[:, 0]).items()
        },
        {
            deviation: np.sqrt(
                np.mean([_updates(program, deviation * stream) ** 2 for stream in noise.T], axis=0)
            )
            for deviation in (0.01, 1.0, 100.0)
        },
    )


def _streams(noise: Series) -> dict[str, Series]:
    """Return the streams by name, each of shape `(STEPS,)`."""
    time = np.arange(STEPS)
    third = STEPS // 3
    flat = np.where((time >= third) & (time < 2 * third), _FLAT_GRADIENT, 1.0)
    return {
        "step": (time >= third // 2).astype(float),
        "spike": (time == third // 2).astype(float),
        "noise": 1.0 + noise,
        "flat": flat * (1.0 + 0.1 * noise),
    }


_State = tuple[object, ...]


def _state_after(program: Program, stream: Series) -> _State:
    state: _State = initial_state(program, np.zeros(1), np)
    for t, gradient in enumerate(stream, 1):
        _, state = _step(program, state, gradient, t)
    return state


def _updates(program: Program, stream: Series) -> Series:
    """Return the update at each step of a stream."""
    state: _State = initial_state(program, np.zeros(1), np)
    updates = []
    for t, gradient in enumerate(stream, 1):
        update, state = _step(program, state, gradient, t)
        updates.append(update)
    return np.array(updates)


def _update(program: Program, state: _State, gradient: float, t: int) -> float:
    return _step(program, state, gradient, t)[0]


def _step(program: Program, state: _State, gradient: float, t: int) -> tuple[float, _State]:
    weights, grads = np.full(1, WEIGHT), np.full(1, gradient)
    update, next_state = step(program, state, weights, grads, lr=1.0, t=t, xp=np)
    return float(update[0]), next_state
