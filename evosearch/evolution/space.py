"""The constants of a program as coordinates, and drawing of better constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.evolution.constants import (
    Position,
    constants,
    have_equal_structure,
    rounded,
    with_constants,
)
from evosearch.evolution.step_size import learning_rate_statement, step_size, with_step_size_of
from evosearch.fixed import ELITE, WIDELY_DRAWN
from primitives import Program, live

_INITIAL_STD, _INITIAL_DECAY_STD = 1.5, 2.5
"""Initial standard deviations of coordinates of plain constants and of decays.

Useful decays of moving averages differ by orders of magnitude in 1 - decay.
"""
_MIN_STD = 0.03
"""Minimum standard deviation of a coordinate."""
_MAX_COORDINATE = 50.0
"""Maximum absolute value of a coordinate; larger values are clipped."""
_EPSILON = 1e-12
"""Minimum distance of a decay from one, and of a constant's ratio from zero."""


@dataclass(frozen=True)
class _Axis:
    """The coordinate axis of one constant.

    For a constant c with the value c0 in the original program, the coordinate is
    `-log((1 - c) / (1 - c0))` if c0 is a decay, that is 0.5 <= c0 < 1, else `log(c / c0)`.

    Attributes:
        position: position of the constant.
        value: c0, the value in the original program.
    """

    position: Position
    value: float

    @property
    def is_decay(self) -> bool:
        return 0.5 <= self.value < 1

    def constant_at(self, x: float) -> float:
        """Return the constant at coordinate `x`, rounded to six digits."""
        x = min(max(x, -_MAX_COORDINATE), _MAX_COORDINATE)
        if self.is_decay:
            constant = 1 - min((1 - self.value) * math.exp(-x), 1.0)
        else:
            constant = self.value * math.exp(x)
        return rounded(constant)

    def coordinate_of(self, constant: float) -> float:
        """Return the coordinate of a constant; the inverse of `constant_at`."""
        if self.is_decay:
            return -math.log(max(1 - constant, _EPSILON) / (1 - self.value))
        return math.log(max(constant / self.value, _EPSILON))


class Space:
    """The constants of a program as unbounded coordinates, with 0 at the program's own constants.

    Each nonzero constant is a coordinate (see `_Axis`), except the constant that multiplies the
    learning rate. If there is such a constant, the last coordinate is the logarithm of the step
    size on synthetic gradients. So other constants can change without changing the step size.

    Attributes:
        program: the program at coordinates 0.
        initial_std: initial standard deviation of each coordinate.
    """

    def __init__(self, program: Program):
        self.program = program
        learning_rate_index = learning_rate_statement(program)
        self._axes = [
            _Axis(position, value)
            for position, value in constants(program).items()
            if value and position[0] != learning_rate_index
        ]
        self._has_step_size = learning_rate_index is not None and math.isfinite(
            step_size(live(program))
        )
        initial_std = [_INITIAL_DECAY_STD if axis.is_decay else _INITIAL_STD for axis in self._axes]
        self.initial_std = np.array(initial_std + [_INITIAL_STD] * self._has_step_size)

    def __contains__(self, program: Program) -> bool:
        """Return whether `program` differs from the space's program at most in constants."""
        return have_equal_structure(program, self.program)

    def __len__(self) -> int:
        return len(self.initial_std)

    def program_at(self, x: Sequence[float] | np.ndarray) -> Program:
        """Return the program at the coordinates `x`, `[len(self)]`."""
        values = {
            axis.position: axis.constant_at(value)
            for axis, value in zip(self._axes, x, strict=False)
        }
        program = with_constants(self.program, values)
        if not self._has_step_size:
            return program
        return with_step_size_of(program, self.program, math.exp(min(x[-1], _MAX_COORDINATE)))

    def coordinates_of(self, program: Program) -> np.ndarray:
        """Return the coordinates of a program in this space, `[len(self)]`."""
        values = constants(program)
        x = [axis.coordinate_of(values[axis.position]) for axis in self._axes]
        if self._has_step_size:
            ratio = step_size(live(program)) / step_size(live(self.program))
            x.append(math.log(ratio) if math.isfinite(ratio) else 0.0)
        return np.array(x)

    def draw(self, best_first: Sequence[Program], rng: np.random.Generator) -> Program:
        """Draw a program with other constants by the cross-entropy method.

        The first `WIDELY_DRAWN` programs are drawn from wide normal distributions around the
        program's own constants. Later programs are drawn from a normal distribution with the mean
        and standard deviation of the `ELITE` best programs.

        Args:
            best_first: programs of this space that were measured recently, the best first.
            rng: random generator.

        References:
            Rubinstein 1999, The Cross-Entropy Method for Combinatorial and Continuous Optimization,
            Methodology and Computing in Applied Probability 1:127.
        """
        noise = rng.normal(size=len(self))
        if len(best_first) < WIDELY_DRAWN:
            return self.program_at(self.initial_std * noise)
        x = np.array([self.coordinates_of(program) for program in best_first[:ELITE]])
        return self.program_at(x.mean(axis=0) + np.maximum(x.std(axis=0), _MIN_STD) * noise)
