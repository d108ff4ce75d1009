"""A program's constants as coordinates, and the search for better ones in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.evolution.constants import Place, constants, rounded, shape, with_constants
from evosearch.evolution.step_size import rate_of, step_size, with_step_size_of
from evosearch.fixed import ELITE, WIDELY_DRAWN
from primitives import Program, live

_WIDE, _WIDE_SHARE = 1.5, 2.5
"""The deviations that a search of constants begins with: averages differ by orders of magnitude."""
_LEAST = 0.03
"""The least deviation of a coordinate."""
_FARTHEST = 50.0
"""Coordinates beyond this, either way, are taken to be this."""
_NEARLY = 1e-12
"""A share is taken to be at least so far from one, and a constant from zero."""


@dataclass(frozen=True)
class _Axis:
    """A constant as a number without bounds: log of a size, log of a share's distance from one."""

    place: Place
    value: float

    @property
    def is_share(self) -> bool:
        return 0.5 <= self.value < 1

    def at(self, x: float) -> float:
        """The constant that is `x` away from the program's own, six digits."""
        x = min(max(x, -_FARTHEST), _FARTHEST)
        if self.is_share:
            found = 1 - min((1 - self.value) * math.exp(-x), 1.0)
        else:
            found = self.value * math.exp(x)
        return rounded(found)

    def of(self, constant: float) -> float:
        """The inverse of `at`."""
        if self.is_share:
            return -math.log(max(1 - constant, _NEARLY) / (1 - self.value))
        return math.log(max(constant / self.value, _NEARLY))


class Space:
    """The constants of a program as coordinates in which better ones can be looked for.

    Each constant but zero is one, from minus to plus infinity, 0 for the program's own. Instead of
    the constant on the learning rate, if there is one, it is the size of the steps, on noise: what
    a step is worth depends on how far it goes, and nearly every other constant would change that.

    Attributes:
        program: whose constants they are.
        wide: for each coordinate a deviation that covers what is worth trying.
    """

    def __init__(self, program: Program):
        self.program = program
        rate = rate_of(program)
        self._axes = [
            _Axis(place, value)
            for place, value in constants(program).items()
            if value and place[0] != rate
        ]
        self._has_rate = rate is not None and math.isfinite(step_size(live(program)))
        wide = [_WIDE_SHARE if axis.is_share else _WIDE for axis in self._axes]
        self.wide = np.array(wide + [_WIDE] * self._has_rate)

    def holds(self, program: Program) -> bool:
        """Whether `program` is like this one but for its constants."""
        return shape(program) == shape(self.program)

    def __len__(self) -> int:
        return len(self.wide)

    def at(self, x: Sequence[float] | np.ndarray) -> Program:
        """The program at the coordinates `x`."""
        values = {one.place: one.at(shift) for one, shift in zip(self._axes, x, strict=False)}
        moved = with_constants(self.program, values)
        if not self._has_rate:
            return moved
        return with_step_size_of(moved, self.program, math.exp(min(x[-1], _FARTHEST)))

    def of(self, program: Program) -> np.ndarray:
        """The coordinates of a program that is like this one but for its constants."""
        found = constants(program)
        x = [axis.of(found[axis.place]) for axis in self._axes]
        if self._has_rate:
            ratio = step_size(live(program)) / step_size(live(self.program))
            x.append(math.log(ratio) if math.isfinite(ratio) else 0.0)
        return np.array(x)

    def draw(self, best_first: Sequence[Program], rng: np.random.Generator) -> Program:
        """The program with constants that may be better than those tried so far.

        At first from wide distributions around its own; then by the cross-entropy method
        (Rubinstein 1999, Methodology and Computing in Applied Probability 1:127), each coordinate
        from a normal distribution with the mean and deviation of the best.

        Args:
            best_first: those that were tried of late, the best foremost.
            rng: draws.
        """
        noise = rng.normal(size=len(self))
        if len(best_first) < WIDELY_DRAWN:
            return self.at(self.wide * noise)
        x = np.array([self.of(one) for one in best_first[:ELITE]])
        return self.at(x.mean(axis=0) + np.maximum(x.std(axis=0), _LEAST) * noise)
