"""Coefficients that remember how far rounding lets them move."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

ROUNDING = 2.0**-24
"""Half a unit in the last place of a float32, relative to it."""
_NORMAL = float(np.finfo(np.float32).tiny)
_LOST = 2.0**-30
"""What is smaller, relative to a sum, float64 does not hold to a float32's digits."""
_LARGEST = float(np.finfo(np.float32).max)
_DIGITS = 9


@dataclass(frozen=True)
class Coefficient:
    """A number that arithmetic on constants gave.

    Attributes:
        value: its value in float64.
        least: the smallest of the numbers that were added to it, in size.
        most: the largest of them.
        exact: it stands in the program as it is.
        carried: it multiplies what a state carries from step to step, where errors grow with the
            steps, the more so the nearer it is to 1.
    """

    value: float
    least: float
    most: float
    exact: bool
    carried: bool

    @classmethod
    def of(cls, value: float, *, carried: bool = False) -> Coefficient:
        """A constant of the program."""
        return cls(value, abs(value), abs(value), True, carried)

    @classmethod
    def computed(cls, value: float, *, carried: bool = False) -> Coefficient:
        """A number that does not stand in the program."""
        return cls(value, abs(value), abs(value), False, carried)

    def times(self, other: Coefficient) -> Coefficient:
        """The product; exact if one factor is 1 or -1 and the other exact."""
        plain = abs(other.value) == 1 or abs(self.value) == 1
        return Coefficient(
            self.value * other.value,
            self.least * other.least,
            self.most * other.most,
            plain and self.exact and other.exact,
            self.carried or other.carried,
        )

    def plus(self, other: Coefficient) -> Coefficient:
        """The sum."""
        least, most = min(self.least, other.least), max(self.most, other.most)
        return Coefficient(
            self.value + other.value, least, most, False, self.carried or other.carried
        )

    def to_the(self, power: float) -> Coefficient:
        """The power of a positive coefficient."""
        value = 1.0 if self.value == 1 else self.value**power
        exact = self.exact and (self.value == 1 or power == 1)
        return Coefficient(value, value, value, exact, self.carried)

    @property
    def inverse(self) -> Coefficient:
        """1 over the coefficient, which is not zero."""
        value = 1 / self.value
        exact = self.exact and abs(value) == 1
        return Coefficient(value, abs(value), abs(value), exact, self.carried)

    @property
    def size(self) -> Coefficient:
        """Its absolute value."""
        return replace(self, value=abs(self.value))

    @property
    def is_zero(self) -> bool:
        """Zero, or what rounding leaves of it."""
        return self.value == 0 or abs(self.value) < ROUNDING * self.most

    @property
    def slack(self) -> float:
        """How far another number may be from it and be it up to rounding."""
        size = abs(self.value)
        slack = 8 * ROUNDING * self.least
        if not self.carried or size > _LARGEST:
            return slack
        nearest = abs(float(np.float32(self.value)) - self.value)
        return min(slack, max(nearest, ROUNDING * min(size, 8 * abs(1 - size))))

    def is_near(self, number: float) -> bool:
        """Whether it is `number` up to rounding."""
        return abs(self.value - number) <= (0.0 if self.exact else self.slack)

    def agrees(self, other: Coefficient) -> bool:
        """Whether two numbers, each up to rounding, are one; carried ones up to less than that."""
        gap = abs(self.value - other.value)
        if self.carried or other.carried:
            return gap < ROUNDING * min(abs(self.value), abs(other.value))
        return gap <= self.slack + other.slack

    def written(self) -> float | None:
        """The number to write: of fewest digits if it is computed; None if float32 has none."""
        if self.exact:
            return self.value
        is_lost = self.least < _LOST * abs(self.value)
        return None if is_lost else neat(self.value, self.slack)


def fits_float32(value: float) -> bool:
    """Whether the float32 next to `value` has all its digits: it is zero or a normal number."""
    return value == 0 or _NORMAL <= abs(value) <= _LARGEST


def neat(value: float, slack: float) -> float | None:
    """The float32 of the decimal of fewest digits within `slack` of `value`, or None."""
    if not fits_float32(value):
        return None
    if value == 0:
        return 0.0
    for digits in range(1, _DIGITS + 1):
        candidate = float(np.float32(float(f"{value:.{digits}g}")))
        if abs(candidate - value) <= slack:
            return candidate
    return None
