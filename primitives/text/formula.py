r"""Formulas: expressions built with Python's operators and printed as LaTeX or plain text.

An op defines its notation by a function of its operands' formulas, such as
`lambda x, y, a: (1 - a) * x + a * y`. The operators also simplify: they move signs out of products
and numbers to the front, compute sums and products of short numbers (1 - 0.9 becomes 0.1), and
merge nested fractions. These simplifications hold under the language's division, where x / 0 is 0.
Brackets are printed only where they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import IntEnum
from functools import cached_property

import numpy as np

_EXACT = Context(prec=200)
"""Decimal arithmetic with enough digits for any sum or product of two float32 numbers."""


class Level(IntEnum):
    """How tightly a formula binds. A formula of a lower level than its context needs brackets."""

    LINE = 0
    SUM = 1
    PRODUCT = 2
    POWER = 3
    ATOM = 4


class Formula:
    """An expression. Python's operators combine formulas with formulas and numbers.

    Attributes:
        level: how tightly the formula binds in LaTeX.
        operands: direct subexpressions.
    """

    @property
    def level(self) -> Level:  # noqa: D102
        return Level.ATOM

    @property
    def operands(self) -> tuple[Formula, ...]:  # noqa: D102
        return ()

    @cached_property
    def rank(self) -> int:
        """Position in a product: numbers, then values smaller than an array, then arrays."""
        return 3 if any(operand.rank >= 3 for operand in self.operands) else 2

    def latex(self) -> str:
        """Return the LaTeX, for math mode."""
        raise NotImplementedError

    def plain(self) -> str:
        """Return plain text for a terminal: ASCII, except for letters in names."""
        raise NotImplementedError

    @property
    def plain_level(self) -> Level:
        """How tightly the formula binds in plain text, which has no fraction bars or root signs."""
        return self.level

    @cached_property
    def size(self) -> int:
        """Number of symbols and numbers."""
        return sum(operand.size for operand in self.operands) or 1

    @cached_property
    def operations(self) -> int:
        """Number of operations."""
        return bool(self.operands) + sum(operand.operations for operand in self.operands)

    @cached_property
    def height(self) -> int:
        """Nesting depth of fractions; brackets around a formula of height 0 keep their size."""
        return max((operand.height for operand in self.operands), default=0)

    def __add__(self, other: Formula | float) -> Formula:
        other = formula(other)
        folded = _fold_numbers(self, other, "add")
        return folded or Sum((*_terms(self), *_terms(other)))

    def __radd__(self, other: float) -> Formula:
        return formula(other) + self

    def __sub__(self, other: Formula | float) -> Formula:
        return self + -formula(other)

    def __rsub__(self, other: float) -> Formula:
        return formula(other) - self

    def __neg__(self) -> Formula:
        return Negative(self)

    def __mul__(self, other: Formula | float) -> Formula:
        other = formula(other)
        if isinstance(self, Negative):
            return -(self.formula * other)
        if isinstance(other, Negative):
            return -(self * other.formula)
        if self == other and not isinstance(self, Number):
            return self**2
        return _product(*_factors(self), *_factors(other))

    def __rmul__(self, other: float) -> Formula:
        return formula(other) * self

    def __truediv__(self, other: Formula | float) -> Formula:
        other = formula(other)
        if isinstance(self, Negative):
            return -(self.formula / other)
        if isinstance(other, Negative):
            return -(self / other.formula)
        if other == ONE:
            return self
        if isinstance(other, Quotient):
            return self * other.denominator / other.numerator
        *before, last = _factors(self)
        if isinstance(last, Quotient):
            return _product(*before, Quotient(last.numerator, last.denominator * other))
        return Quotient(self, other)

    def __rtruediv__(self, other: float) -> Formula:
        return formula(other) / self

    def __pow__(self, other: Formula | float) -> Formula:
        return Power(self, formula(other))

    def __rpow__(self, other: float) -> Formula:
        return formula(other) ** self


def formula(value: Formula | float) -> Formula:
    """Convert a number to a formula, as the shortest decimal with the same float32."""
    if isinstance(value, Formula):
        return value
    with np.errstate(over="ignore"):
        shortest = Decimal(str(np.float32(value)))
    return _number(shortest)


def _number(value: Decimal) -> Formula:
    return Negative(Number(-value)) if value < 0 else Number(abs(value))


@dataclass(frozen=True)
class Number(Formula):
    """A nonnegative number. A negative number is a `Negative` of its magnitude."""

    value: Decimal
    rank = 0

    @property
    def level(self) -> Level:
        """How tightly the number binds: 10^{-8} as a power, 3 x 10^{-8} as a product."""
        digits, power = self._scientific
        if power is None:
            return Level.ATOM
        return Level.POWER if digits == "1" else Level.PRODUCT

    @property
    def plain_level(self) -> Level:
        """How tightly the number binds in plain text."""
        return Level.ATOM

    @property
    def _scientific(self) -> tuple[str, int | None]:
        """The digits and the power of ten; the power is None in fixed-point notation."""
        value = self.value.normalize(_EXACT)
        power = value.adjusted()
        if not value or -4 <= power < 6:
            return f"{value:f}", None
        return f"{value.scaleb(-power, _EXACT):f}", power

    def latex(self) -> str:  # noqa: D102
        digits, power = self._scientific
        if power is None:
            return digits
        return f"10^{{{power}}}" if digits == "1" else rf"{digits} \cdot 10^{{{power}}}"

    def plain(self) -> str:  # noqa: D102
        digits, power = self._scientific
        return digits if power is None else f"{digits}e{power}"


ZERO, ONE = Number(Decimal(0)), Number(Decimal(1))


def _value(term: Formula) -> Decimal | None:
    match term:
        case Number(value):
            return value
        case Negative(Number(value)):
            return -value
    return None


def _fold_numbers(a: Formula, b: Formula, operation: str) -> Formula | None:
    """Return the sum or product of two numbers if the result has few digits, otherwise None.

    The result has few digits if it has at most six, or at most as many as the longer number.
    `operation` is `add` or `multiply`.
    """
    x, y = _value(a), _value(b)
    if x is None or y is None:
        return None
    result = getattr(_EXACT, operation)(x, y).normalize(_EXACT)
    limit = max(6, *(len(number.normalize(_EXACT).as_tuple().digits) for number in (x, y)))
    return _number(result) if len(result.as_tuple().digits) <= limit else None


@dataclass(frozen=True)
class Negative(Formula):
    """The negation of a formula."""

    formula: Formula
    level = Level.SUM

    @property
    def operands(self) -> tuple[Formula, ...]:
        """The negated formula."""
        return (self.formula,)

    @cached_property
    def operations(self) -> int:
        """Number of operations; the sign of a number does not count."""
        return self.formula.operations + (not isinstance(self.formula, Number))

    def __neg__(self) -> Formula:
        return self.formula

    def latex(self) -> str:  # noqa: D102
        return "-" + bracketed(self.formula, Level.PRODUCT)

    def plain(self) -> str:  # noqa: D102
        return "-" + plain_bracketed(self.formula, Level.PRODUCT)


@dataclass(frozen=True)
class Sum(Formula):
    """A sum. Terms that are `Negative` are printed as subtractions."""

    terms: tuple[Formula, ...]
    level = Level.SUM

    @property
    def operands(self) -> tuple[Formula, ...]:
        """The terms."""
        return self.terms

    @cached_property
    def operations(self) -> int:
        """Number of operations; a subtraction counts as one operation."""
        inner = [t.formula if isinstance(t, Negative) else t for t in self.operands]
        return len(inner) - 1 + sum(term.operations for term in inner)

    def _joined(self, texts: list[str]) -> str:
        first, *others = texts
        return first + "".join(f" - {t[1:]}" if t[0] == "-" else f" + {t}" for t in others)

    def latex(self) -> str:  # noqa: D102
        return self._joined([bracketed(term, Level.SUM) for term in self.operands])

    def plain(self) -> str:  # noqa: D102
        return self._joined([plain_bracketed(term, Level.SUM) for term in self.operands])


def _terms(term: Formula) -> tuple[Formula, ...]:
    return term.terms if isinstance(term, Sum) else (term,)


@dataclass(frozen=True)
class Product(Formula):
    """A product. No factor is `Negative`, and numbers come first."""

    factors: tuple[Formula, ...]
    level = Level.PRODUCT

    @property
    def operands(self) -> tuple[Formula, ...]:
        """The factors."""
        return self.factors

    @cached_property
    def operations(self) -> int:
        """Number of operations, with one multiplication between adjacent factors."""
        return len(self.operands) - 1 + sum(factor.operations for factor in self.operands)

    def latex(self) -> str:  # noqa: D102
        first, *others = [bracketed(factor, Level.PRODUCT) for factor in self.operands]
        return first + "".join(rf" \cdot {t}" if t[0].isdigit() else f" {t}" for t in others)

    def plain(self) -> str:  # noqa: D102
        return " * ".join(plain_bracketed(factor, Level.PRODUCT) for factor in self.operands)


def _factors(factor: Formula) -> tuple[Formula, ...]:
    return factor.factors if isinstance(factor, Product) else (factor,)


def _product(*factors: Formula) -> Formula:
    numbers: list[Formula] = []
    for factor in factors:
        if isinstance(factor, Number):
            folded = _fold_numbers(numbers[-1], factor, "multiply") if numbers else None
            numbers[-1 if folded else len(numbers) :] = [folded or factor]
    others = [factor for factor in factors if not isinstance(factor, Number)]
    if others and numbers == [ONE]:
        numbers = []
    ordered = (*numbers, *sorted(others, key=lambda factor: factor.rank))
    return ordered[0] if len(ordered) == 1 else Product(ordered)


@dataclass(frozen=True)
class Quotient(Formula):
    """A fraction."""

    numerator: Formula
    denominator: Formula
    level = Level.PRODUCT

    @property
    def operands(self) -> tuple[Formula, ...]:
        """Numerator and denominator."""
        return self.numerator, self.denominator

    @cached_property
    def rank(self) -> int:
        """Position in a product; fractions of arrays come last."""
        return 4 if super().rank == 3 else 2

    @cached_property
    def height(self) -> int:
        """Nesting depth of fractions."""
        return 1 + max(operand.height for operand in self.operands)

    def latex(self) -> str:  # noqa: D102
        return rf"\frac{{{self.numerator.latex()}}}{{{self.denominator.latex()}}}"

    def plain(self) -> str:  # noqa: D102
        numerator = plain_bracketed(self.numerator, Level.PRODUCT)
        return f"{numerator} / {plain_bracketed(self.denominator, Level.POWER)}"


@dataclass(frozen=True)
class Power(Formula):
    """A base raised to an exponent."""

    base: Formula
    exponent: Formula
    level = Level.POWER

    @property
    def operands(self) -> tuple[Formula, ...]:
        """Base and exponent."""
        return self.base, self.exponent

    @cached_property
    def size(self) -> int:
        """Number of symbols and numbers; a numeric exponent does not count."""
        return self.base.size + (0 if isinstance(self.exponent, Number) else self.exponent.size)

    def latex(self) -> str:  # noqa: D102
        exponent = self.exponent.latex()
        base = bracketed(self.base, Level.ATOM)
        return f"{base}^{exponent}" if len(exponent) == 1 else f"{base}^{{{exponent}}}"

    def plain(self) -> str:  # noqa: D102
        base = plain_bracketed(self.base, Level.ATOM)
        return f"{base}^{plain_bracketed(self.exponent, Level.ATOM)}"


def bracketed(inner: Formula, level: Level) -> str:
    """Return the LaTeX of `inner`, in brackets if it binds less tightly than `level`."""
    if inner.level >= level:
        return inner.latex()
    return rf"\left({inner.latex()}\right)" if inner.height else f"({inner.latex()})"


def plain_bracketed(inner: Formula, level: Level) -> str:
    """Return the plain text of `inner`, in brackets if it binds less tightly than `level`."""
    return inner.plain() if inner.plain_level >= level else f"({inner.plain()})"
