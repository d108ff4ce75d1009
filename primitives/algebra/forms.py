"""Expansion of nodes into sums of products of powers."""

from __future__ import annotations

import math
from collections.abc import Iterable

from primitives.algebra.context import Context
from primitives.algebra.numbers import UNIT_ROUNDOFF, Coefficient
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS, Expansion, Key, Power, Product, Sum
from primitives.graph.nodes import Node

_ONE = Coefficient.from_constant(1.0)
_RECURRENT_ONE = Coefficient.from_constant(1.0, recurrent=True)
_MINUS_ONE = Coefficient.from_constant(-1.0)
_MIN_EXPONENT, _MAX_EXPONENT = 1e-12, 1e6
"""Powers are expanded only if the magnitudes of their exponents are between these numbers."""


class NoProductForm(Exception):  # noqa: N818 - not an error: the rewrite is not tried
    """A factor x / x whose x may be zero, or a coefficient that float64 cannot hold."""


class Expander:
    """Expands nodes into sums and products.

    Attributes:
        context: the graph of the nodes.
        expansion: which nodes are expanded.
        root: the node passed to `sum` or `product`, which is always expanded.
        skipped_shared: whether `Expansion.ALL` would expand more nodes.
        expanded_sums: whether `Expansion.PRODUCTS` would expand fewer nodes.
    """

    def __init__(self, context: Context, expansion: Expansion):
        self.context = context
        self.expansion = expansion
        self.root: Node | None = None
        self.skipped_shared = False
        self.expanded_sums = False

    def product(self, node: Node) -> Product:
        """Return `node` as a product.

        Raises:
            NoProductForm: a base that cancels out may be zero, or a coefficient overflows.
        """
        self.root = node
        return self._without_unit_powers(self._product(node))

    def sum(self, node: Node) -> list[Product]:
        """Return `node` as a sum of products, sorted by the context's order of nodes."""
        self.root = node
        terms = [term for term in self._sum(node).values() if not term.coefficient.is_zero]
        if len(terms) <= 1:
            return terms
        rank = self.context.rank
        return sorted(terms, key=lambda term: sorted((rank(b), p) for b, p in term.powers.items()))

    def _expands(self, node: Node) -> bool:
        if node is self.root:
            return True
        self.expanded_sums |= node.op in SUM_OPS
        if self.expansion == Expansion.ALL:
            return True
        if self.expansion == Expansion.PRODUCTS and node.op not in PRODUCT_OPS:
            return False
        shared = self.context.is_shared(node)
        self.skipped_shared |= shared
        return not shared

    def _product(self, node: Node) -> Product:
        """Return `node` as a product, in which bases that cancel out have exponent 0."""
        if node.is_constant:
            return (
                Product(Coefficient.from_constant(node.value)) if node.value else self._base(node)
            )
        if node.op not in PRODUCT_OPS or not self._expands(node):
            return self._base(node)
        if not self._may_cache(node):
            return self._expand_product(node)
        cached = self.context.products.get((self.expansion, node))
        if cached is None:
            cached = self.context.products[self.expansion, node] = self._expand_product(node)
        return cached

    def _expand_product(self, node: Node) -> Product:
        args = [self._product(arg) for arg in node.args]
        match node.op:
            case "multiply":
                return self._multiply(*args)
            case "divide":
                return self._multiply(args[0], self._inverse(args[1]))
            case "reciprocal":
                return self._inverse(args[0])
            case "negative":
                return self._multiply(args[0], Product(_MINUS_ONE))
            case "abs":
                return self._abs(args[0])
            case "sign":
                return self._sign(args[0])
            case "cbrt":
                return self._cube_root(args[0])
            case "power":
                product = self._constant_power(args[0], node.args[1])
            case _:
                exponent = node.op_entry.exponent
                product = None if exponent is None else self._to_the(args[0], exponent)
        return product or self._base(node)

    def _base(self, node: Node) -> Product:
        recurrent = not self.context.graph.next_values.keys().isdisjoint(node.leaves)
        return Product(
            _RECURRENT_ONE if recurrent else _ONE,
            {node: Power(1.0, not self.context.range(node).nonnegative)},
        )

    def _multiply(self, x: Product, y: Product) -> Product:
        powers = dict(x.powers)
        for base, power in y.powers.items():
            other = powers.get(base, Power(0.0, False))
            exponent = other.exponent + power.exponent
            exponent = _rounded_exponent(exponent, max(abs(other.exponent), abs(power.exponent)))
            powers[base] = Power(exponent, other.signed != power.signed)
        return Product(
            _finite_nonzero(x.coefficient.times(y.coefficient)), powers, x.under_root | y.under_root
        )

    def _inverse(self, x: Product) -> Product:
        powers = {b: Power(-p.exponent, p.signed) for b, p in x.powers.items()}
        return Product(_finite_nonzero(x.coefficient.inverse), powers, x.under_root)

    def _abs(self, x: Product) -> Product:
        powers = {b: Power(p.exponent, False) for b, p in x.powers.items()}
        return Product(x.coefficient.magnitude, powers)

    def _sign(self, x: Product) -> Product:
        powers = {b: Power(0.0, p.signed and b not in x.under_root) for b, p in x.powers.items()}
        return Product(_ONE if x.coefficient.value > 0 else _MINUS_ONE, powers, x.under_root)

    def _cube_root(self, x: Product) -> Product:
        c = x.coefficient
        root = c.magnitude.to_the(1 / 3)
        signed = root if c.value > 0 else root.times(_MINUS_ONE)
        powers = {b: Power(p.exponent / 3, p.signed) for b, p in x.powers.items()}
        return Product(signed, powers, x.under_root)

    def _constant_power(self, x: Product, exponent: Node) -> Product | None:
        if not exponent.is_constant or exponent.value == 0:
            return None
        return self._to_the(x, exponent.value)

    def _to_the(self, x: Product, exponent: float) -> Product | None:
        """Return x to a constant exponent, or None if the power of x is not the product of powers.

        A root of a product with one base of unknown sign is the product of roots only if no other
        base can be zero: sqrt(0 * -1) is 0, but sqrt(0) * sqrt(-1) is NaN.
        """
        magnitudes = [abs(p.exponent * exponent) for p in x.powers.values() if p.exponent]
        if not all(_MIN_EXPONENT < magnitude < _MAX_EXPONENT for magnitude in magnitudes):
            return None
        is_integer = exponent == int(exponent)
        is_even = is_integer and int(exponent) % 2 == 0
        c = x.coefficient
        of_any_sign = [b for b, p in x.powers.items() if p.signed and b not in x.under_root]
        if not is_integer and (c.value < 0 or len(of_any_sign) > 1):
            return None
        if not is_integer and of_any_sign and not self._nonzero(x.powers.keys() - of_any_sign):
            return None
        try:
            raised = _finite_nonzero(c.magnitude.to_the(exponent))
        except OverflowError:
            return None
        if c.value < 0 and not is_even:
            raised = raised.times(_MINUS_ONE)
        is_odd = is_integer and not is_even
        powers = {b: Power(p.exponent * exponent, p.signed and is_odd) for b, p in x.powers.items()}
        under_root = x.under_root if is_integer else x.under_root.union(of_any_sign)
        return Product(raised, powers, under_root)

    def _nonzero(self, bases: Iterable[Node]) -> bool:
        return all(self.context.range(base).nonzero for base in bases)

    def _without_unit_powers(self, x: Product) -> Product:
        """Return x without the bases that cancelled out, which must be proved nonzero."""
        powers = {}
        for base, (exponent, signed) in x.powers.items():
            interval = self.context.range(base)
            signed = signed and not interval.nonnegative and base not in x.under_root
            if exponent == 0 and not signed:
                if not interval.nonzero:
                    raise NoProductForm
                continue
            powers[base] = Power(exponent, signed)
        return Product(x.coefficient, powers, x.under_root.intersection(powers))

    def _sum(self, node: Node) -> Sum:
        """Return `node` as a sum, in which products that cancel out have coefficient 0."""
        if not self._may_cache(node):
            return self._expand_sum(node)
        cached = self.context.sums.get((self.expansion, node))
        if cached is None:
            cached = self.context.sums[self.expansion, node] = self._expand_sum(node)
        return cached

    def _may_cache(self, node: Node) -> bool:
        """Whether the expansion of `node` is independent of the root and needs no flags."""
        if self.expansion == Expansion.ALL:
            return True
        return self.context.is_large and not (node is self.root and self.context.is_shared(node))

    def _expand_sum(self, node: Node) -> Sum:
        if node.is_constant and node.value == 0:
            return {}
        expands = node.op in SUM_OPS and self._expands(node)
        terms = self._terms(node) if expands else None
        if terms is None:
            return self._as_sum(node)
        products: dict[Key, Product] = {}
        for term, scale in terms:
            for key, product in self._sum(term).items():
                added = _scaled(product, scale)
                previous = products.get(key)
                if previous is not None:
                    total = previous.coefficient.plus(added.coefficient)
                    added = Product(total, added.powers, added.under_root | previous.under_root)
                products[key] = added
        return products

    def _terms(self, node: Node) -> list[tuple[Node, Coefficient]] | None:
        """Return the terms of a sum with coefficients; None if a coefficient is not constant."""
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
        return [(args[0], Coefficient.computed(1 - a)), (args[1], Coefficient.from_constant(a))]

    def _as_sum(self, node: Node) -> Sum:
        """Return `node` as the terms of a constant times a sum, else as one product."""
        try:
            product = self._without_unit_powers(self._product(node))
        except NoProductForm:
            product = self._base(node)
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            expands = base is not node and base.op in SUM_OPS and self._expands(base)
            if expands and power.exponent == 1 and (power.signed or self._base_is(base, power)):
                scale = product.coefficient
                return {key: _scaled(form, scale) for key, form in self._sum(base).items()}
        return {product.key: product}

    def _base_is(self, base: Node, power: Power) -> bool:
        """Whether |base| equals the base, because the base is not negative."""
        return not power.signed and self.context.range(base).nonnegative


def _finite_nonzero(c: Coefficient) -> Coefficient:
    if c.value == 0 or not math.isfinite(c.value):
        raise NoProductForm
    return c


def _rounded_exponent(exponent: float, largest: float) -> float:
    """Return the multiple of 1/6 that equals `exponent` up to rounding, else `exponent`.

    Sums of halves and thirds are then exact. `largest` is the largest magnitude in the sum.
    """
    nearest = round(exponent * 6) / 6
    return nearest if abs(nearest - exponent) <= UNIT_ROUNDOFF * largest else exponent


def _scaled(product: Product, by: Coefficient) -> Product:
    if by is _ONE:
        return product
    return Product(product.coefficient.times(by), product.powers, product.under_root)
