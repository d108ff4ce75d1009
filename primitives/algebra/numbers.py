"""Coefficients that remember how far rounding lets them move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_ROUNDINGS = 2.0**-21
"""Eight half units in the last place of a float32."""
_NORMAL = float(np.finfo(np.float32).tiny)
_DIGITS = 9


@dataclass(frozen=True)
class Coefficient:
    """A number that arithmetic on constants gave.

    Attributes:
        value: its value in float64.
        least: the smallest of the numbers that were added to it, in size.
        most: the largest of them.
        exact: it stands in the program as it is.
    """

    value: float
    least: float
    most: float
    exact: bool

    @classmethod
    def of(cls, value: float) -> Coefficient:
        """A constant of the program."""
        return cls(value, abs(value), abs(value), True)

    def times(self, other: Coefficient) -> Coefficient:
        """The product; exact if one factor is 1 or -1 and the other exact."""
        plain = abs(other.value) == 1 or abs(self.value) == 1
        return Coefficient(
            self.value * other.value,
            self.least * other.least,
            self.most * other.most,
            plain and self.exact and other.exact,
        )

    def plus(self, other: Coefficient) -> Coefficient:
        """The sum."""
        least, most = min(self.least, other.least), max(self.most, other.most)
        return Coefficient(self.value + other.value, least, most, False)

    def to_the(self, power: float) -> Coefficient:
        """The power of a positive coefficient."""
        value = self.value**power
        return Coefficient(value, abs(value), abs(value), power == 1 and self.exact)

    @property
    def is_zero(self) -> bool:
        """Zero, or what rounding leaves of it."""
        return abs(self.value) <= _ROUNDINGS / 4 * self.most

    @property
    def slack(self) -> float:
        """How far another number may be from it and be it up to rounding."""
        return _ROUNDINGS * self.least

    def is_near(self, number: float) -> bool:
        """Whether it is `number` up to rounding."""
        return abs(self.value - number) <= (0.0 if self.exact else self.slack)

    def written(self) -> float | None:
        """The number to write: of fewest digits if it is computed; None if float32 has none."""
        return self.value if self.exact else neat(self.value, self.slack)


def neat(value: float, slack: float) -> float | None:
    """The float32 of the decimal of fewest digits within `slack` of `value`, or None."""
    if not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        return None
    if abs(value) < _NORMAL:
        return 0.0 if value == 0 else None
    for digits in range(1, _DIGITS + 1):
        candidate = float(np.float32(float(f"{value:.{digits}g}")))
        if abs(candidate - value) <= slack:
            return candidate
    return None
