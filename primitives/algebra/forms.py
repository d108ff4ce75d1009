"""Nodes read as sums of products of powers."""

from __future__ import annotations

import math
from collections.abc import Iterable

from primitives.algebra.context import Context
from primitives.algebra.numbers import ROUNDING, Coefficient
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS, Key, Power, Product, Reach, Sum
from primitives.graph.nodes import Node

_ONE = Coefficient.of(1.0)
_CARRIED = Coefficient.of(1.0, carried=True)
_MINUS_ONE = Coefficient.of(-1.0)
_FLATTEST, _STEEPEST = 1e-12, 1e6
"""Powers with other exponents are left as they stand."""


class Inexpressible(Exception):  # noqa: N818 - not an error: a form that no op writes
    """A product with a factor that is 1 but for x = 0, or a number that float64 cannot hold."""


class Expander:
    """Reads nodes as sums and products, opened as far as `reach` says."""

    def __init__(self, context: Context, reach: Reach):
        self.context = context
        self.reach = reach
        self.root: Node | None = None
        self.left_shared = False  # something would be opened with Reach.ALL
        self.opened_sums = False  # something would not be with Reach.PRODUCTS

    def product(self, node: Node) -> Product:
        """`node` as a product.

        Raises:
            Inexpressible: the product has no closed form, since a base may be zero.
        """
        self.root = node
        return self._settled(self._product(node))

    def sum(self, node: Node) -> list[Product]:
        """`node` as a sum of products, in the order of the context."""
        self.root = node
        kept = [one for one in self._sum(node).values() if not one.coefficient.is_zero]
        if len(kept) <= 1:
            return kept
        rank = self.context.rank
        return sorted(kept, key=lambda one: sorted((rank(b), p) for b, p in one.powers.items()))

    def _opens(self, node: Node) -> bool:
        if node is self.root:
            return True
        self.opened_sums |= node.op in SUM_OPS
        if self.reach == Reach.ALL:
            return True
        if self.reach == Reach.PRODUCTS and node.op not in PRODUCT_OPS:
            return False
        shared = self.context.is_shared(node)
        self.left_shared |= shared
        return not shared

    def _product(self, node: Node) -> Product:
        """`node` as a product, with bases that cancel out."""
        if node.is_constant:
            return Product(Coefficient.of(node.value)) if node.value else self._base(node)
        if node.op not in PRODUCT_OPS or not self._opens(node):
            return self._base(node)
        if not self._keeps(node):
            return self._read_powers(node)
        known = self.context.products.get((self.reach, node))
        if known is None:
            known = self.context.products[self.reach, node] = self._read_powers(node)
        return known

    def _read_powers(self, node: Node) -> Product:
        inner = [self._product(arg) for arg in node.args]
        match node.op:
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
                found = self._constant_power(inner[0], node.args[1])
            case _:
                exponent = node.row.exponent
                found = None if exponent is None else self._to_the(inner[0], exponent)
        return found or self._base(node)

    def _base(self, node: Node) -> Product:
        carried = not self.context.graph.following.keys().isdisjoint(node.leaves)
        return Product(
            _CARRIED if carried else _ONE,
            {node: Power(1.0, not self.context.range(node).nonnegative)},
        )

    def _times(self, x: Product, y: Product) -> Product:
        powers = dict(x.powers)
        for base, power in y.powers.items():
            before = powers.get(base, Power(0.0, False))
            exponent = before.exponent + power.exponent
            exponent = _tidied(exponent, max(abs(before.exponent), abs(power.exponent)))
            powers[base] = Power(exponent, before.signed != power.signed)
        return Product(_held(x.coefficient.times(y.coefficient)), powers, x.rooted | y.rooted)

    def _inverse(self, x: Product) -> Product:
        powers = {b: Power(-p.exponent, p.signed) for b, p in x.powers.items()}
        return Product(_held(x.coefficient.inverse), powers, x.rooted)

    def _absolute(self, x: Product) -> Product:
        powers = {b: Power(p.exponent, False) for b, p in x.powers.items()}
        return Product(x.coefficient.size, powers)

    def _sign(self, x: Product) -> Product:
        powers = {b: Power(0.0, p.signed and b not in x.rooted) for b, p in x.powers.items()}
        return Product(_ONE if x.coefficient.value > 0 else _MINUS_ONE, powers, x.rooted)

    def _cube_root(self, x: Product) -> Product:
        c = x.coefficient
        root = c.size.to_the(1 / 3)
        signed = root if c.value > 0 else root.times(_MINUS_ONE)
        powers = {b: Power(p.exponent / 3, p.signed) for b, p in x.powers.items()}
        return Product(signed, powers, x.rooted)

    def _constant_power(self, x: Product, exponent: Node) -> Product | None:
        if not exponent.is_constant or exponent.value == 0:
            return None
        return self._to_the(x, exponent.value)

    def _to_the(self, x: Product, exponent: float) -> Product | None:
        """x to a constant; a root of what may be negative in one base is a root of that base.

        If no other base can be zero, that is: sqrt(0 * -1) is 0, and sqrt(0) * sqrt(-1) is NaN.
        """
        sizes = [abs(p.exponent * exponent) for p in x.powers.values() if p.exponent]
        if not all(_FLATTEST < size < _STEEPEST for size in sizes):
            return None
        whole = exponent == int(exponent)
        even = whole and int(exponent) % 2 == 0
        c = x.coefficient
        unsure = [b for b, p in x.powers.items() if p.signed and b not in x.rooted]
        if not whole and (c.value < 0 or len(unsure) > 1):
            return None
        if not whole and unsure and not self._nonzero(x.powers.keys() - unsure):
            return None
        try:
            raised = _held(c.size.to_the(exponent))
        except OverflowError:
            return None
        if c.value < 0 and not even:
            raised = raised.times(_MINUS_ONE)
        keeps = whole and not even
        powers = {b: Power(p.exponent * exponent, p.signed and keeps) for b, p in x.powers.items()}
        return Product(raised, powers, x.rooted if whole else x.rooted.union(unsure))

    def _nonzero(self, bases: Iterable[Node]) -> bool:
        return all(self.context.range(base).nonzero for base in bases)

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

    def _sum(self, node: Node) -> Sum:
        """`node` as a sum, with what cancels out."""
        if not self._keeps(node):
            return self._read_sum(node)
        known = self.context.sums.get((self.reach, node))
        if known is None:
            known = self.context.sums[self.reach, node] = self._read_sum(node)
        return known

    def _keeps(self, node: Node) -> bool:
        """Whether `node` reads the same wherever it is met, and no flag is asked for."""
        if self.reach == Reach.ALL:
            return True
        return self.context.is_long and not (node is self.root and self.context.is_shared(node))

    def _read_sum(self, node: Node) -> Sum:
        if node.is_constant and node.value == 0:
            return {}
        opens = node.op in SUM_OPS and self._opens(node)
        parts = self._parts(node) if opens else None
        if parts is None:
            return self._read_product(node)
        found: dict[Key, Product] = {}
        for part, scale in parts:
            for key, product in self._sum(part).items():
                added = _scaled(product, scale)
                known = found.get(key)
                if known is not None:
                    total = known.coefficient.plus(added.coefficient)
                    added = Product(total, added.powers, added.rooted | known.rooted)
                found[key] = added
        return found

    def _parts(self, node: Node) -> list[tuple[Node, Coefficient]] | None:
        """What a sum adds up, each times a number; None where that is no number."""
        args = node.args
        match node.op:
            case "add":
                return [(args[0], _ONE), (args[1], _ONE)]
            case "subtract":
                return [(args[0], _ONE), (args[1], _MINUS_ONE)]
            case "negative":
                return [(args[0], _MINUS_ONE)]
        if not args[2].is_constant:
            return None
        a = args[2].value
        return [(args[0], Coefficient.computed(1 - a)), (args[1], Coefficient.of(a))]

    def _read_product(self, node: Node) -> Sum:
        """`node` as a product, or as the sum that a number is times."""
        try:
            product = self._settled(self._product(node))
        except Inexpressible:
            product = self._base(node)
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            opens = base is not node and base.op in SUM_OPS and self._opens(base)
            if opens and power.exponent == 1 and (power.signed or self._base_is(base, power)):
                scale = product.coefficient
                return {key: _scaled(one, scale) for key, one in self._sum(base).items()}
        return {product.key: product}

    def _base_is(self, base: Node, power: Power) -> bool:
        """Whether the power is the base itself: it is not negative, so it needs no sign."""
        return not power.signed and self.context.range(base).nonnegative


def _held(c: Coefficient) -> Coefficient:
    if c.value == 0 or not math.isfinite(c.value):
        raise Inexpressible
    return c


def _tidied(exponent: float, largest: float) -> float:
    """A sum of exponents up to `largest`, whole where halves and thirds add up to that."""
    near = round(exponent * 6) / 6
    return near if abs(near - exponent) <= ROUNDING * largest else exponent


def _scaled(product: Product, by: Coefficient) -> Product:
    if by is _ONE:
        return product
    return Product(product.coefficient.times(by), product.powers, product.rooted)
