"""Normal forms of arithmetic: sums of products of powers.

A product is a coefficient times, for each base x, a power |x|^p, with the sign of x or without it.
Division by zero gives zero, so a product is zero wherever one of its bases is, whatever its power;
hence x * x / x is x, x / sqrt(x * x) is sign(x), and x / x is 1 only where x is proved nonzero. A
sum is a set of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from primitives.algebra.context import Context
from primitives.algebra.numbers import Coefficient
from primitives.algebra.terms import Term

PRODUCT_OPS = frozenset(
    ["multiply", "divide", "negative", "reciprocal", "square", "cube", "abs", "sqrt", "cbrt"]
    + ["power", "sign"]
)
SUM_OPS = frozenset(["add", "subtract", "negative", "interp"])
_ONE = Coefficient.of(1.0)
_MINUS_ONE = Coefficient.of(-1.0)
_ROOTS = {"sqrt": 1 / 2, "square": 2.0, "cube": 3.0}


class Power(NamedTuple):
    """|x|^exponent, times sign(x) if `signed`."""

    exponent: float
    signed: bool


Key: TypeAlias = frozenset[tuple[Term, Power]]


class Inexpressible(Exception):  # noqa: N818 - not an error: a form that no op writes
    """A product with a factor that is 1 but for x = 0."""


@dataclass(frozen=True)
class Product:
    """A coefficient times powers.

    Attributes:
        coefficient: the coefficient.
        powers: the power of each base.
        rooted: bases of unknown sign under a root: not negative wherever the value is not NaN.
    """

    coefficient: Coefficient
    powers: Mapping[Term, Power] = field(default_factory=dict)
    rooted: frozenset[Term] = frozenset()

    @property
    def key(self) -> Key:
        """The powers, to compare products by."""
        return frozenset(self.powers.items())


class Reach(IntEnum):
    """What is opened below the term that is read as a sum or product."""

    PRODUCTS = 0
    """Products that only one place reads."""
    OWN = 1
    """Sums and products that only one place reads."""
    ALL = 2
    """All sums and products."""


class Expander:
    """Reads terms as sums and products, opened as far as `reach` says."""

    def __init__(self, context: Context, reach: Reach):
        self.context = context
        self.reach = reach
        self.root: Term | None = None
        self.left_shared = False  # something would be opened with Reach.ALL
        self.opened_sums = False  # something would not be with Reach.PRODUCTS

    def product(self, term: Term) -> Product:
        """`term` as a product.

        Raises:
            Inexpressible: the product has no closed form, since a base may be zero.
        """
        self.root = term
        return self._settled(self._product(term))

    def sum(self, term: Term) -> list[Product]:
        """`term` as a sum of products, in the order of the context."""
        self.root = term
        found: dict[Key, Product] = {}
        self._add(found, term, _ONE)
        kept = [one for one in found.values() if not one.coefficient.is_zero]
        rank = self.context.rank
        return sorted(kept, key=lambda one: sorted((rank(b), p) for b, p in one.powers.items()))

    def _opens(self, term: Term) -> bool:
        if term is self.root:
            return True
        self.opened_sums |= term.op in SUM_OPS
        if self.reach == Reach.ALL:
            return True
        if self.reach == Reach.PRODUCTS and term.op not in PRODUCT_OPS:
            return False
        shared = self.context.is_shared(term)
        self.left_shared |= shared
        return not shared

    def _product(self, term: Term) -> Product:
        if term.is_constant:
            return Product(Coefficient.of(term.value)) if term.value else self._base(term)
        if term.op not in PRODUCT_OPS or not self._opens(term):
            return self._base(term)
        inner = [self._product(arg) for arg in term.args]
        match term.op:
            case "multiply":
                return self._times(*inner)
            case "divide":
                return self._times(inner[0], self._inverse(inner[1]))
            case "reciprocal":
                return self._inverse(inner[0])
            case "negative":
                return self._times(inner[0], Product(_MINUS_ONE))
            case "abs":
                return self._absolute(inner[0])
            case "sign":
                return self._sign(inner[0])
            case "cbrt":
                return self._cube_root(inner[0])
            case "power":
                found = self._constant_power(inner[0], term.args[1])
            case _:
                found = self._to_the(inner[0], _ROOTS[term.op])
        return found or self._base(term)

    def _base(self, term: Term) -> Product:
        return Product(_ONE, {term: Power(1.0, not self.context.range(term).nonnegative)})

    def _times(self, x: Product, y: Product) -> Product:
        powers = dict(x.powers)
        for base, power in y.powers.items():
            before = powers.get(base, Power(0.0, False))
            exponent = before.exponent + power.exponent
            near = float(round(exponent * 6)) / 6  # halves and thirds add up to whole numbers
            exponent = near if abs(near - exponent) < 1e-6 else exponent
            powers[base] = Power(exponent, before.signed != power.signed)
        return Product(x.coefficient.times(y.coefficient), powers, x.rooted | y.rooted)

    def _inverse(self, x: Product) -> Product:
        powers = {b: Power(-p.exponent, p.signed) for b, p in x.powers.items()}
        value = 1 / x.coefficient.value
        plain = abs(value) == 1
        inverse = Coefficient(value, abs(value), abs(value), plain and x.coefficient.exact)
        return Product(inverse, powers, x.rooted)

    def _absolute(self, x: Product) -> Product:
        c = x.coefficient
        positive = Coefficient(abs(c.value), c.least, c.most, c.exact)
        return Product(positive, {b: Power(p.exponent, False) for b, p in x.powers.items()})

    def _sign(self, x: Product) -> Product:
        powers = {b: Power(0.0, p.signed and b not in x.rooted) for b, p in x.powers.items()}
        return Product(_ONE if x.coefficient.value > 0 else _MINUS_ONE, powers, x.rooted)

    def _cube_root(self, x: Product) -> Product:
        c = x.coefficient
        root = Coefficient(abs(c.value), c.least, c.most, c.exact).to_the(1 / 3)
        root = root if abs(c.value) != 1 else _ONE
        signed = root if c.value > 0 else root.times(_MINUS_ONE)
        powers = {b: Power(p.exponent / 3, p.signed) for b, p in x.powers.items()}
        return Product(signed, powers, x.rooted)

    def _constant_power(self, x: Product, exponent: Term) -> Product | None:
        if not exponent.is_constant or exponent.value == 0:
            return None
        return self._to_the(x, exponent.value)

    def _to_the(self, x: Product, exponent: float) -> Product | None:
        """x to a constant; a root of what may be negative in one base is a root of that base."""
        whole = exponent == int(exponent)
        even = whole and int(exponent) % 2 == 0
        c = x.coefficient
        unsure = [b for b, p in x.powers.items() if p.signed and b not in x.rooted]
        if not whole and (c.value < 0 or len(unsure) > 1):
            return None
        size = Coefficient(abs(c.value), c.least, c.most, c.exact)
        try:
            raised = size.to_the(exponent) if abs(c.value) != 1 else _ONE
        except OverflowError:
            return None
        if c.value < 0 and not even:
            raised = raised.times(_MINUS_ONE)
        keeps = whole and not even
        powers = {b: Power(p.exponent * exponent, p.signed and keeps) for b, p in x.powers.items()}
        return Product(raised, powers, x.rooted if whole else x.rooted.union(unsure))

    def _settled(self, x: Product) -> Product:
        """Without bases that cancelled out, where they are proved nonzero."""
        powers = {}
        for base, (exponent, signed) in x.powers.items():
            held = self.context.range(base)
            signed = signed and not held.nonnegative and base not in x.rooted
            if exponent == 0 and not signed:
                if not held.nonzero:
                    raise Inexpressible
                continue
            powers[base] = Power(exponent, signed)
        return Product(x.coefficient, powers, x.rooted.intersection(powers))

    def _add(self, found: dict[Key, Product], term: Term, scale: Coefficient) -> None:
        if term.is_constant and term.value == 0:
            return
        opens = term.op in SUM_OPS and self._opens(term)
        if not opens or not self._add_parts(found, term, scale):
            self._add_product(found, term, scale)

    def _add_parts(self, found: dict[Key, Product], term: Term, scale: Coefficient) -> bool:
        args = term.args
        match term.op:
            case "add":
                self._add(found, args[0], scale)
                self._add(found, args[1], scale)
            case "subtract":
                self._add(found, args[0], scale)
                self._add(found, args[1], scale.times(_MINUS_ONE))
            case "negative":
                self._add(found, args[0], scale.times(_MINUS_ONE))
            case _:
                if not args[2].is_constant:
                    return False
                a = args[2].value
                rest = Coefficient(1 - a, abs(1 - a), abs(1 - a), False)
                self._add(found, args[0], scale.times(rest))
                self._add(found, args[1], scale.times(Coefficient.of(a)))
        return True

    def _add_product(self, found: dict[Key, Product], term: Term, scale: Coefficient) -> None:
        try:
            product = self._settled(self._product(term))
        except Inexpressible:
            product = self._base(term)
        product = Product(product.coefficient.times(scale), product.powers, product.rooted)
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            opens = base is not term and base.op in SUM_OPS and self._opens(base)
            if opens and power.exponent == 1 and (power.signed or self._base_is(base, power)):
                self._add(found, base, product.coefficient)
                return
        known = found.get(product.key)
        if known is not None:
            total = known.coefficient.plus(product.coefficient)
            product = Product(total, product.powers, product.rooted | known.rooted)
        found[product.key] = product

    def _base_is(self, base: Term, power: Power) -> bool:
        """Whether the power is the base itself: it is not negative, so it needs no sign."""
        return not power.signed and self.context.range(base).nonnegative
