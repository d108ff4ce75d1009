"""Coefficients of sums and products, with bounds on their rounding errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff of float32: the largest relative error of rounding to nearest."""
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_SMALLEST_RELATIVE_TERM = 2.0**-30
"""Terms that are smaller relative to the sum have fewer digits in the sum than a float32 has."""
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_MAX_DIGITS = 9


@dataclass(frozen=True)
class Coefficient:
    """A constant of a program, or a number computed from such constants.

    Attributes:
        value: the value in float64.
        smallest_term: the smallest magnitude among the numbers that were added to give `value`.
        largest_term: the largest magnitude among these numbers.
        exact: whether `value` is a constant of the program, unchanged.
        recurrent: whether the coefficient multiplies a state's old value. The error of the
            coefficient then compounds over the steps, most for coefficients near 1.
    """

    value: float
    smallest_term: float
    largest_term: float
    exact: bool
    recurrent: bool

    @classmethod
    def from_constant(cls, value: float, *, recurrent: bool = False) -> Coefficient:
        """Return a constant of the program as an exact coefficient."""
        return cls(value, abs(value), abs(value), True, recurrent)

    @classmethod
    def computed(cls, value: float, *, recurrent: bool = False) -> Coefficient:
        """Return a number that the program does not contain as an inexact coefficient."""
        return cls(value, abs(value), abs(value), False, recurrent)

    def times(self, other: Coefficient) -> Coefficient:
        """Return the product; exact if both factors are exact and one factor is 1 or -1."""
        has_unit_factor = abs(other.value) == 1 or abs(self.value) == 1
        return Coefficient(
            self.value * other.value,
            self.smallest_term * other.smallest_term,
            self.largest_term * other.largest_term,
            has_unit_factor and self.exact and other.exact,
            self.recurrent or other.recurrent,
        )

    def plus(self, other: Coefficient) -> Coefficient:
        """Return the sum."""
        return Coefficient(
            self.value + other.value,
            min(self.smallest_term, other.smallest_term),
            max(self.largest_term, other.largest_term),
            False,
            self.recurrent or other.recurrent,
        )

    def to_the(self, exponent: float) -> Coefficient:
        """Return a power of this coefficient, which must be positive."""
        value = 1.0 if self.value == 1 else self.value**exponent
        exact = self.exact and (self.value == 1 or exponent == 1)
        return Coefficient(value, value, value, exact, self.recurrent)

    @property
    def inverse(self) -> Coefficient:
        """1 divided by this coefficient, which must not be zero."""
        value = 1 / self.value
        exact = self.exact and abs(value) == 1
        return Coefficient(value, abs(value), abs(value), exact, self.recurrent)

    @property
    def magnitude(self) -> Coefficient:
        """The absolute value."""
        return replace(self, value=abs(self.value))

    @property
    def is_zero(self) -> bool:
        """Whether the value is zero up to the rounding of its largest term."""
        return self.value == 0 or abs(self.value) < UNIT_ROUNDOFF * self.largest_term

    @property
    def tolerance(self) -> float:
        """Largest difference from `value` that counts as rounding."""
        magnitude = abs(self.value)
        tolerance = 8 * UNIT_ROUNDOFF * self.smallest_term
        if not self.recurrent or magnitude > _LARGEST_FLOAT32:
            return tolerance
        float32_error = abs(float(np.float32(self.value)) - self.value)
        recurrent_tolerance = UNIT_ROUNDOFF * min(magnitude, 8 * abs(1 - magnitude))
        return min(tolerance, max(float32_error, recurrent_tolerance))

    def equals(self, number: float) -> bool:
        """Whether the coefficient equals `number`: exactly if it is exact, else up to rounding."""
        return abs(self.value - number) <= (0.0 if self.exact else self.tolerance)

    def is_close(self, other: Coefficient) -> bool:
        """Whether two coefficients are equal up to rounding; stricter if one is recurrent."""
        difference = abs(self.value - other.value)
        if self.recurrent or other.recurrent:
            return difference < UNIT_ROUNDOFF * min(abs(self.value), abs(other.value))
        return difference <= self.tolerance + other.tolerance

    def literal(self) -> float | None:
        """Return the float32 to write into a program, or None if no float32 is accurate enough.

        An exact coefficient is written unchanged, a computed coefficient with the fewest digits.
        """
        if self.exact:
            return self.value
        lost_smallest_term = self.smallest_term < _SMALLEST_RELATIVE_TERM * abs(self.value)
        return None if lost_smallest_term else shortest_float32(self.value, self.tolerance)


def is_normal_float32(value: float) -> bool:
    """Whether `value` is zero or in the range of normal float32, which have full precision."""
    return value == 0 or _SMALLEST_NORMAL <= abs(value) <= _LARGEST_FLOAT32


def shortest_float32(value: float, tolerance: float) -> float | None:
    """Return the float32 with the fewest decimal digits within `tolerance`, or None."""
    if not is_normal_float32(value):
        return None
    if value == 0:
        return 0.0
    for digits in range(1, _MAX_DIGITS + 1):
        candidate = float(np.float32(float(f"{value:.{digits}g}")))
        if abs(candidate - value) <= tolerance:
            return candidate
    return None
